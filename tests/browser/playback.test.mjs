import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { controls, launchBrowser, openPage, playing, screenshot, startServer, until } from "./harness.mjs";

/** Ticks that are recorded: some four seconds. */
const TICKS = 120;
/** States that a spectator is watched for. */
const WATCHED = 30;

describe("a recorded arena, played to spectators", () => {
  let browser, directory, recording, server, viewer, game;
  /** By tick, where whom was; and the names of the players. */
  let seen, names;

  before(async () => {
    browser = await launchBrowser();
    directory = await mkdtemp(join(tmpdir(), "rtcade-playback-"));
    const recordings = join(directory, "recordings");
    const live = await startServer(["--record", recordings]);
    const { page: ann } = await openPage(browser, live.url);
    await ann.evaluate(rememberStates);
    const { page: ben } = await openPage(browser, ann.url());
    for (const page of [ann, ben]) await playing(page, "webrtc");
    await ann.keyboard.down("ArrowRight");
    await ben.keyboard.down("KeyS");
    await until("some seconds of play", () => ann.evaluate(() => rtcade.world().tick), (tick) => tick > TICKS);
    seen = new Map(await ann.evaluate(() => seen));
    names = await ann.evaluate(() => [...rtcade.room.players.values()].map(({ name }) => name));
    assert.equal(names.length, 2);
    assert.equal(await live.stop(), 0);
    const [file] = await readdir(recordings);
    recording = join(recordings, file);

    server = await startServer(["replay", recording, "--serve"]);
    viewer = await openPage(browser, server.url);
    game = await gameOf(viewer.page);
    // On a slow machine it may be over by now.
    await viewer.page.getByRole("button", { name: "0.25 times" }).click();
    await viewer.page.keyboard.press("Home");
    await told("a slow beginning", ({ speed, tick, end }) => speed === 25 && tick < TICKS / 2 && end === null);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  test("whoever opens it sees the old session move", async () => {
    const states = await watch(game);
    const remembered = new Set(Array.from(seen.values(), (players) => JSON.stringify(players)));
    const recognized = new Set(states.map((players) => JSON.stringify(players)).filter((state) => remembered.has(state)));
    assert.ok(recognized.size > states.length / 2, `${recognized.size} of ${states.length} are states of then`);
    const scores = () => game.evaluate(() => document.querySelector("#scores").innerText);
    await until("the names of the players", scores, (text) => names.every((name) => text.includes(name)));
    assert.ok((await game.evaluate(() => rtcade.room.me)) > 1_000_000, "a spectator is none of them");
  });

  test("it pauses, and goes where the slider is put", async () => {
    await viewer.page.getByRole("button", { name: "Pause" }).click();
    await told("a pause", ({ paused }) => paused);
    // A machine that stalls skips ticks.
    const ticks = [...seen.keys()];
    for (const tick of [ticks.at(-20), ticks[20], ticks[21]]) {
      await viewer.page.locator("#seek").fill(String(tick));
      await told(`tick ${tick}`, (status) => status.tick === tick && status.seeking === null);
      const states = await watch(game);
      for (const players of states) assert.deepEqual(players, seen.get(tick), `where all were in tick ${tick}`);
      assert.equal(await viewer.page.locator("#tick").innerText(), `tick ${tick}`);
    }
  });

  test("who opens the same address watches along", async () => {
    const { tick } = await statusOf(viewer.page);
    const other = await openPage(browser, viewer.page.url());
    await until("the same tick", () => statusOf(other.page), (status) => status?.tick === tick && status.paused);
    await playing(await gameOf(other.page), "webrtc");
    await other.page.keyboard.press(".");
    await told("one tick more", (status) => status.tick === tick + 1);
    assert.deepEqual(other.errors, []);
    await other.page.close();
  });

  test("it plays faster to the end, and again from there", async () => {
    await viewer.page.getByRole("button", { name: "10 times" }).click();
    await viewer.page.getByRole("button", { name: "Play" }).click();
    const { tick, last } = await told("the end", ({ end }) => end === "The room closed at this point.");
    assert.equal(tick, last);
    await viewer.page.getByRole("button", { name: "0.25 times" }).click();
    await told("a quarter of the speed", ({ speed }) => speed === 25);
    await game.locator("canvas").click();
    await viewer.page.keyboard.press("Space");
    await told("another start", ({ tick, paused, end }) => !paused && end === null && tick < last);
  });

  test("it looks right and reports no error", async () => {
    const { page, errors } = viewer;
    await page.keyboard.press("Space");
    await page.locator("#seek").fill("100");
    await told("tick 100", ({ tick, seeking }) => tick === 100 && seeking === null);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      await screenshot(page, `playback-${colorScheme}`);
    }
    await page.setViewportSize({ width: 390, height: 720 });
    await screenshot(page, "playback-narrow");
    assert.deepEqual(errors, []);
  });

  test("it says when the server is lost, and tries again when asked", async (t) => {
    let lost = await startServer(["replay", recording, "--serve"]);
    t.after(() => lost.kill());
    const { page } = await openPage(browser, lost.url);
    await until("the playback", () => statusOf(page));
    for (const [role, name] of await controls(page)) assert.notEqual(name, "", role);
    const port = Number(new URL(lost.url).port);
    await lost.kill();
    const again = page.getByRole("button", { name: "Try now" });
    await again.waitFor();
    assert.match(await page.locator("#note").innerText(), /Connection lost/);
    lost = await startServer(["replay", recording, "--serve"], { port });
    const isOpen = () => page.evaluate(() => rtcade.room.status === "open");
    await until("an open room", async () => (await isOpen()) || (await again.click({ timeout: 500 }).catch(() => {}), isOpen()));
    await again.waitFor({ state: "hidden" });
    await until("a word on the recording", () => page.locator("#note").innerText(), (note) => !note.includes("lost"));
    await page.context().close();
  });

  test("a page of the user's plays it as well", async () => {
    const publicDirectory = join(directory, "public");
    await mkdir(publicDirectory);
    await writeFile(join(publicDirectory, "index.html"), PAGE);
    const own = await startServer(["replay", recording, "--serve", "--public", publicDirectory]);
    const { page, errors } = await openPage(browser, own.url);
    const text = () => page.frames()[1]?.evaluate(() => document.body.innerText);
    await until("the players by name", text, (text) => names.every((name) => text?.includes(name)));
    assert.deepEqual(errors, []);
    await page.close();
    assert.equal(await own.stop(), 0);
  });

  function told(what, accept) {
    return until(what, () => statusOf(viewer.page), (status) => status && accept(status));
  }
});

const PAGE = `<!doctype html><meta charset="utf-8"><body><script type="module">
  import { connect } from "/rtcade.js";
  const room = await connect();
  room.on("state", () => (document.body.textContent = [...room.players.values()].map(({ name }) => name).join()));
</script>`;

const statusOf = (page) => page.evaluate(() => globalThis.rtcade?.status());

/** The frame with the game's page, once that is in. */
async function gameOf(page) {
  const frame = () => page.frames().find((frame) => frame.url().includes("/r/"));
  await until("the game's page", async () => frame()?.evaluate(() => globalThis.rtcade?.world().tick > 0));
  return frame();
}

/** Runs in a page: keeps where whom was in each tick, as `globalThis.seen`. */
async function rememberStates() {
  while (!globalThis.rtcade) await new Promise((resolve) => setTimeout(resolve, 10));
  globalThis.seen = [];
  rtcade.room.on("state", () => {
    const { tick, players } = rtcade.world();
    globalThis.seen.push([tick, players]);
  });
}

/** Where whom is in each of the next states. */
function watch(frame) {
  return frame.evaluate(
    (count) =>
      new Promise((resolve) => {
        const states = [];
        const unsubscribe = rtcade.room.on("state", () => {
          states.push(rtcade.world().players);
          if (states.length < count) return;
          unsubscribe();
          // The first may have been under way before.
          resolve(states.slice(5));
        });
      }),
    WATCHED,
  );
}
