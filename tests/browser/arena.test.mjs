import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connection, controls, launchBrowser, openPage, overlaps, playing, SCREENS, screenshot, startServer, until } from "./harness.mjs";

const WATCH_MS = 4_000;
/** How far a player who holds a key must get, in the arena's units. */
const MOVED = 10;
const PANELS = ["field", "clock", "scores", "intro", "naming", "invite", "connection", "dash"];

describe("two pages in one arena", () => {
  let server, browser, ann, ben;

  before(async () => {
    server = await startServer();
    browser = await launchBrowser();
    ann = await openPage(browser, server.url);
    ben = await openPage(browser, ann.page.url());
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test("the root leads to a fresh room each time", async () => {
    assert.match(new URL(ann.page.url()).pathname, /^\/r\/[A-Za-z0-9_-]{1,64}$/);
    const again = await fetch(server.url);
    assert.equal(again.status, 200);
    assert.notEqual(again.url, ann.page.url());
  });

  test("both play over a data channel that is unordered and never retransmits", async () => {
    for (const { page } of [ann, ben]) {
      await playing(page, "webrtc");
      const open = await page.evaluate(() =>
        channels
          .filter(({ channel }) => channel.readyState === "open")
          .map(({ channel: { ordered, maxRetransmits } }) => ({ ordered, maxRetransmits })),
      );
      assert.deepEqual(open, [{ ordered: false, maxRetransmits: 0 }]);
    }
  });

  test("each is seen by the other to move", async () => {
    await seenMoving(ann.page, ben.page, "ArrowRight", "ArrowLeft");
    await seenMoving(ben.page, ann.page, "KeyD", "KeyA");
  });

  test("states come 30 times a second over the channel, and are the same in both pages", async () => {
    await ann.page.keyboard.down("ArrowDown");
    await ben.page.keyboard.down("KeyW");
    // A machine that stalls for a moment makes the server skip ticks, as it should: it gets three tries at the rate.
    const perSecond = ({ states }) => ((states.length - 1) * 1_000) / (states.at(-1).at - states[0].at);
    const isSteady = (watched) => perSecond(watched) >= 28 && perSecond(watched) <= 31;
    let anns, bens;
    for (let tries = 0; tries < 3; tries++) {
      [anns, bens] = await Promise.all([watch(ann.page), watch(ben.page)]);
      if (isSteady(anns) && isSteady(bens)) break;
    }
    await ann.page.keyboard.up("ArrowDown");
    await ben.page.keyboard.up("KeyW");

    for (const watched of [anns, bens]) {
      const { states, received } = watched;
      assert.ok(isSteady(watched), `${perSecond(watched)} states per second`);
      assert.ok(received >= states.length, `${received} messages on the channel, ${states.length} states`);
      for (const [i, state] of states.slice(1).entries()) assert.ok(state.tick > states[i].tick, "ticks only rise");
    }
    const bensPlayers = new Map(bens.states.map(({ tick, players }) => [tick, players]));
    const common = anns.states.filter(({ tick }) => bensPlayers.has(tick));
    assert.ok(common.length > 60, `${common.length} ticks were seen by both`);
    for (const { tick, players } of common) assert.deepEqual(players, bensPlayers.get(tick), `tick ${tick}`);
    assert.notDeepEqual(common[0].players, common.at(-1).players);
  });

  test("both look right and report no error", async () => {
    await screenshot(ann.page, "arena-ann");
    await screenshot(ben.page, "arena-ben");
    assert.deepEqual(ann.errors, []);
    assert.deepEqual(ben.errors, []);
    assert.equal((await connection(ann.page)).notice, "");
    assert.equal((await connection(ben.page)).notice, "");
  });
});

describe("the arena's page", () => {
  let server, browser;

  before(async () => {
    server = await startServer();
    browser = await launchBrowser();
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  const openArena = async (screen) => {
    const { page } = await openPage(browser, `${server.url}r/page`, SCREENS[screen]);
    await until("a state", () => connection(page), ({ tick }) => tick > 0);
    return page;
  };

  for (const screen of Object.keys(SCREENS)) {
    test(`no panel covers the field or another panel, ${screen}`, async () => {
      const page = await openArena(screen);
      await page.locator("#intro").waitFor();
      assert.deepEqual(await overlaps(page, PANELS), [], "at the start");
      await page.keyboard.press("ArrowUp", { delay: 200 });
      await page.locator("#intro").waitFor({ state: "hidden" });
      assert.deepEqual(await overlaps(page, PANELS), [], "later");
      const fontSize = (inputs) => inputs.map((input) => parseFloat(getComputedStyle(input).fontSize));
      const sizes = await page.locator("input:visible").evaluateAll(fontSize);
      if (SCREENS[screen].isMobile) for (const size of sizes) assert.ok(size >= 16, "or iOS zooms in");
      const field = await page.locator("#field").boundingBox();
      const { width, height } = page.viewportSize();
      assert.ok(field.width * field.height > 0.5 * width * height, "most of the window is the field's");
      await page.context().close();
    });
  }

  test("the hint goes when a finger has steered", async () => {
    const page = await openArena("upright");
    const hint = page.locator("#hint");
    assert.match(await hint.innerText(), /Drag anywhere to steer/);
    const session = await page.context().newCDPSession(page);
    const touch = (type, ...touchPoints) => session.send("Input.dispatchTouchEvent", { type, touchPoints });
    await touch("touchStart", { x: 200, y: 500 });
    for (let y = 500; y > 440; y -= 10) await touch("touchMove", { x: 200, y });
    await hint.waitFor({ state: "hidden" });
    await touch("touchEnd");
    await page.context().close();
  });

  test("assistive technology finds headings, controls by name, and who leads", async () => {
    const page = await openArena("desktop");
    const snapshot = await page.locator("body").ariaSnapshot();
    assert.match(snapshot, /heading "Arena" \[level=1\]/);
    assert.match(snapshot, /main:\n\s+- application/);
    assert.match(snapshot, /heading "Scores" \[level=2\]/);
    assert.match(snapshot, /listitem: .* you \d/);
    assert.match(snapshot, /status: .*You are number \d of \d with \d+ points\. /);
    assert.match(snapshot, /status: Connected by/);
    const found = await controls(page);
    for (const [role, name] of found) assert.notEqual(name, "", role);
    assert.match(found.find(([role]) => role === "application")[1], /arrow keys or WASD/);
    await page.context().close();
  });

  test("the field shows a ring while the keyboard is on it", async () => {
    const page = await openArena("desktop");
    const outline = () => page.locator("#field").evaluate((field) => getComputedStyle(field).outlineStyle);
    assert.equal(await outline(), "none");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.id), "arena");
    assert.equal(await outline(), "solid");
    await page.context().close();
  });

  test("a name is cut between characters, and shown as the server has it", async () => {
    const page = await openArena("desktop");
    const field = page.getByLabel("Your name");
    const characters = (text) => Array.from(new Intl.Segmenter().segment(text)).length;
    for (const name of ["👩‍🚀".repeat(40), "e\u0301".repeat(40), `half ${"😀"[0]}`, "  Ada  "]) {
      await field.fill(name);
      const kept = await field.inputValue();
      assert.ok(characters(kept) <= 32, kept);
      assert.ok(kept.isWellFormed(), JSON.stringify(kept));
      assert.ok(name.startsWith(kept) || kept === "half \ufffd", JSON.stringify(kept));
      await page.getByRole("button", { name: "Rename" }).click();
      const isShown = () => page.evaluate(() => {
        const own = globalThis.rtcade.room.status === "open" && rtcade.room.players.get(rtcade.room.me).name;
        return own && document.querySelector("#name").value === own;
      });
      await until(`the name ${name}`, isShown);
    }
    await page.context().close();
  });
});

/** The mover holds a key for either way, each until the watcher has seen them go that way. */
async function seenMoving(mover, watcher, right, left) {
  const { me } = await connection(mover);
  const x = () => watcher.evaluate((me) => rtcade.world().players.find(({ id }) => id === me)?.x, me);
  await until(`player ${me} in the other page`, x, (x) => x !== undefined);
  // Away from the left wall, lest there be no way to go.
  await mover.keyboard.press(right, { delay: 500 });
  for (const [key, way] of [[left, -1], [right, 1]]) {
    const from = await x();
    await mover.keyboard.down(key);
    await until(`player ${me} to go from ${from} with ${key}`, x, (x) => (x - from) * way > MOVED);
    await mover.keyboard.up(key);
  }
}

/** The states that a page gets within a while, as `{ tick, at, players }`, and the messages its channel received. */
function watch(page) {
  return page.evaluate(async (watchMs) => {
    const received = () => channels.reduce((sum, record) => sum + record.received, 0);
    const states = [];
    const before = received();
    const unsubscribe = rtcade.room.on("state", () => {
      const { tick, players } = rtcade.world();
      const positions = players.map(({ id, x, y }) => ({ id, x, y })).sort((a, b) => a.id - b.id);
      states.push({ tick, at: performance.now(), players: positions });
    });
    await new Promise((resolve) => setTimeout(resolve, watchMs));
    unsubscribe();
    return { states, received: received() - before };
  }, WATCH_MS);
}
