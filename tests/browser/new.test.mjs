// What somebody does who has only the binary: `rtcade new`, `rtcade dev`, two windows, an edit.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { launchBrowser, openPage, overlaps, SCREENS, screenshot, serverProgram, startServer, until } from "./harness.mjs";
import { startRelay } from "./lossy-relay.mjs";

const TSC = fileURLToPath(new URL("../../client-js/node_modules/.bin/tsc", import.meta.url));
const TEMPLATES = ["tanks", "board", "rollback"];
/** Ticks that are compared over a bad network. */
const COMPARED = 200;
/** A run is measured anew where the machine stalled: the page between two frames, or the server between two states. */
const FRAME_GAP_MS = 250;
const STATE_GAP = 8;
const RUNS = 3;

const run = promisify(execFile);
let browser, directory;

before(async () => {
  browser = await launchBrowser();
  directory = await mkdtemp(join(tmpdir(), "rtcade-new-"));
});

after(async () => {
  await browser?.close();
  await rm(directory, { recursive: true, force: true });
});

const make = (...args) => run(serverProgram(), ["new", ...args], { cwd: directory });

/** Makes a game and serves it while it is written. */
async function start(name, { template = "tanks", args = [] } = {}) {
  await make(name, "--template", template);
  return startServer(["dev", ...args], { cwd: join(directory, name) });
}

/** Replaces text in a file of a game, which must have it once. Returns when that was. */
async function edit(name, file, before, after) {
  const path = join(directory, name, file);
  const text = await readFile(path, "utf8");
  assert.equal(text.split(before).length, 2, `${file} has ${before}`);
  await writeFile(path, text.replace(before, after));
  return performance.now();
}

async function open(url, options = SCREENS.desktop) {
  const opened = await openPage(browser, url, options);
  await until("a page that plays", () => playing(opened.page), ({ status }) => status === "open");
  return opened;
}

/** Between two pages there is none to ask. */
const playing = (page) =>
  page
    .evaluate(() => ({ status: globalThis.game?.room.status, me: globalThis.game?.room.me, tick: globalThis.game?.room.stats.tick }))
    .catch(() => ({}));
const tankOf = (page, player) =>
  page.evaluate((player) => globalThis.game?.others.at().get(String(player)), player).catch(() => undefined);
const ownTank = (page) => page.evaluate(() => globalThis.game?.own.value && { ...game.own.value }).catch(() => undefined);
const problems = (page) =>
  page.evaluate(() => document.querySelector("#rtcade-problems")?.textContent ?? "").catch(() => "");

/** The tank drives by a key until the other page has shown that. */
async function seenDriving(driver, watcher, key = "KeyD") {
  const { me } = await playing(driver);
  const from = await until("the other's tank", () => tankOf(watcher, me));
  await driver.keyboard.down(key);
  const isMoved = (tank) => tank && Math.hypot(tank.x - from.x, tank.y - from.y) > 15;
  await until(`player ${me} to drive`, () => tankOf(watcher, me), isMoved);
  await driver.keyboard.up(key);
}

test("the command says what comes next, and leaves a directory with files alone", async () => {
  const { stdout } = await make("first");
  for (const line of ["cd first", "rtcade dev", "http://localhost:8080/"]) assert.ok(stdout.includes(line), stdout);
  const files = await readdir(join(directory, "first"), { recursive: true });
  for (const file of ["game.js", "public/index.html", "public/step.js", "README.md", "Dockerfile", ".gitignore"]) {
    assert.ok(files.includes(file), files.join());
  }
  for (const name of ["first", "..", "a b"]) {
    await assert.rejects(make(name), ({ code, stderr }) => code === 2 && /^rtcade: .*\n$/.test(stderr), name);
  }
});

test("an editor knows what the server gives a game", async () => {
  for (const template of TEMPLATES) {
    const name = `typed-${template}`;
    await make(name, "--template", template);
    const check = () => run(process.execPath, [TSC, "--project", join(directory, name, "jsconfig.json")]);
    await check();
    await edit(name, "game.js", "export function tick(game, ctx", "/** @param {Context} ctx */\nexport const drain = (_, ctx) => ctx.fanOut();\nexport function tick(game, ctx");
    await assert.rejects(check(), ({ stdout }) => /Property 'fanOut' does not exist on type 'Context/.test(stdout), template);
  }
});

describe("tanks, while they are written", () => {
  let server, ann, ben;

  before(async () => {
    server = await start("tanks");
    ann = await open(server.url);
    await screenshot(ann.page, "new-tanks-alone");
    ben = await open(ann.page.url(), SCREENS.upright);
  });

  after(() => server?.stop());

  const pages = () => [ann.page, ben.page];

  test("each sees the other drive", async () => {
    await seenDriving(ann.page, ben.page);
    const touch = await ben.page.context().newCDPSession(ben.page);
    const dispatch = (type, ...touchPoints) => touch.send("Input.dispatchTouchEvent", { type, touchPoints });
    const { me } = await playing(ben.page);
    const from = await until("Ben's tank", () => tankOf(ann.page, me));
    await dispatch("touchStart", { x: 90, y: 640, id: 0 });
    await dispatch("touchMove", { x: from.x > 600 ? 50 : 130, y: 640, id: 0 });
    await until("a thumb to drive", () => tankOf(ann.page, me), (tank) => tank && Math.hypot(tank.x - from.x, tank.y - from.y) > 15);
    await dispatch("touchStart", { x: 90, y: 640, id: 0 }, { x: 300, y: 420, id: 1 });
    await until("a thumb to fire", () => ownTank(ben.page), (tank) => tank?.reload > 0);
    await screenshot(ben.page, "new-tanks-thumbs");
    await dispatch("touchEnd");
    await ann.page.mouse.move(600, 300);
    await ann.page.mouse.down();
    await until("a shot", () => ownTank(ann.page), (tank) => tank?.reload > 0);
    await screenshot(ann.page, "new-tanks");
    await ann.page.mouse.up();
  });

  test("no input harms the room", async () => {
    const { me } = await playing(ben.page);
    await ann.page.evaluate(() => {
      const bad = [null, 1, "text", [], {}, { x: NaN, y: Infinity, aim: "up", fire: 1 }, { x: -1e308, y: 1e308, aim: 1e308, fire: true }, [[[]]]];
      for (const value of bad) game.room.send(value);
      for (const value of bad) game.room.command(value);
    });
    const consumed = await ann.page.evaluate(() => game.room.send({ __proto__: null, x: { y: 1 }, constructor: 2 }));
    await ann.page.evaluate((number) => new Promise((resolve) => game.room.on("state", (_, info) => info.consumed >= number && resolve())), consumed);
    assert.deepEqual(await problems(ann.page), "");
    const tank = await tankOf(ben.page, (await playing(ann.page)).me);
    for (const field of ["x", "y", "hull", "turret", "speed"]) assert.ok(Number.isFinite(tank[field]), JSON.stringify(tank));
    assert.equal((await playing(ben.page)).me, me);
  });

  for (const [file, before, after] of [
    ["public/step.js", "export const SPEED = 230;", "export const SPEED = 460;"],
    ["game.js", "const RESPAWN_MS = 2_000;", "const RESPAWN_MS = 1_000;"],
  ]) {
    test(`both go on with a change of ${file}, as the same players in the same room`, async (t) => {
      const former = await Promise.all(pages().map(playing));
      const places = await Promise.all(pages().map(ownTank));
      await Promise.all(pages().map((page) => page.evaluate(() => (globalThis.isFormer = true))));
      const said = server.output.length;
      const at = await edit("tanks", file, before, after);
      const isOfPages = file.startsWith("public/");
      if (isOfPages) {
        const isNew = (page) => page.evaluate(() => !globalThis.isFormer && globalThis.game?.room.status === "open" && Boolean(game.own.value)).catch(() => false);
        await until("both pages to be loaded anew", async () => (await Promise.all(pages().map(isNew))).every(Boolean));
      } else {
        await until("the room to go on", async () => server.output.slice(said).includes("goes on with the changed game"));
      }
      t.diagnostic(`${isOfPages ? "both pages" : "the room"} went on ${Math.round(performance.now() - at)} ms after ${file} was written`);
      const now = await Promise.all(pages().map(playing));
      now.forEach(({ me, tick }, n) => {
        assert.equal(me, former[n].me);
        assert.ok(tick > former[n].tick, `tick ${tick} after ${former[n].tick}`);
      });
      // Nobody has driven since.
      const since = await Promise.all(pages().map(ownTank));
      since.forEach((tank, n) => assert.ok(Math.hypot(tank.x - places[n].x, tank.y - places[n].y) < 60, JSON.stringify([tank, places[n]])));
      await seenDriving(ann.page, ben.page, "KeyA");
      await seenDriving(ben.page, ann.page, "KeyA");
    });
  }

  test("the server computes with the changed number, and the pages too", async () => {
    await ann.page.keyboard.down("KeyD");
    await until("twice the speed", () => ownTank(ann.page), (tank) => tank?.speed === 460);
    await ann.page.keyboard.up("KeyD");
  });

  test("an error is shown on both pages, and the game plays on", async () => {
    const former = await Promise.all(pages().map(playing));
    await edit("tanks", "public/step.js", "export const SPEED = 460;", "export const SPEED = ;");
    for (const page of pages()) {
      await until("the error on the page", () => problems(page), (text) => /public\/step\.js:\d+/.test(text));
    }
    await screenshot(ann.page, "new-tanks-error");
    for (const [n, page] of pages().entries()) {
      await until("the page to play on", () => playing(page), ({ tick }) => tick > former[n].tick);
    }
    await seenDriving(ben.page, ann.page);
    await edit("tanks", "public/step.js", "export const SPEED = ;", "export const SPEED = 230;");
    for (const page of pages()) {
      await until("no error", () => problems(page), (text) => text === "");
      await until("the page to play", () => playing(page), ({ status }) => status === "open");
    }
    const now = await Promise.all(pages().map(playing));
    assert.deepEqual(now.map(({ me }) => me), former.map(({ me }) => me));
    await seenDriving(ann.page, ben.page);
  });

  test("the pages look right and report no error of their own", async () => {
    assert.deepEqual(await overlaps(ann.page, ["invite"]), []);
    for (const { errors } of [ann, ben]) assert.deepEqual(errors, []);
  });
});

test("a game that fails says so on its page, which comes back when it is mended", async () => {
  await make("broken", "--template", "board");
  await edit("broken", "game.js", "export function tick(game, ctx, tick, batch) {", "export function tick(game, ctx, tick, batch {");
  const server = await startServer(["dev"], { cwd: join(directory, "broken") });
  try {
    const { page } = await openPage(browser, server.url);
    // A file that is just being written may have another error for a moment.
    await until("the error on the page", () => problems(page), (text) => /SyntaxError[^]*game\.js:\d+/.test(text));
    await edit("broken", "game.js", "tick, batch {", "tick, batch) {");
    const isOpen = ({ status }) => status === "open";
    await until("the page to play", () => playing(page), isOpen);

    await edit("broken", "game.js", "  ctx.state(game);", "  ctx.state(gam);");
    await until("the error on the page", () => problems(page), (text) => /gam is not defined[^]*game\.js:\d+/.test(text));
    await screenshot(page, "new-board-failed");
    await edit("broken", "game.js", "  ctx.state(gam);", "  ctx.state(game);");
    await until("no error", () => problems(page), (text) => text === "");
    await until("the page to play", () => playing(page), isOpen);
  } finally {
    await server.stop();
  }
});

test("over 150 ms and 5 % loss the own tank is predicted exactly", async (t) => {
  for (let run = 0; run < RUNS; run += 1) {
    const stall = await playFar(t, `far-${run}`);
    if (!stall) return;
    t.diagnostic(`not measured: ${stall}`);
  }
  t.skip("this machine stalls too often");
});

/** Asserts that nothing was corrected, or gives how the machine stalled, so that inputs were lost. */
async function playFar(t, name) {
  const relay = await startRelay({ oneWayMs: 75, seed: name });
  const server = await start(name, { args: ["--public-addr", `127.0.0.1:${relay.port}`] });
  try {
    relay.target = Number(new URL(server.url).port);
    const { page, errors } = await open(server.url);
    await until("WebRTC", () => page.evaluate(() => game.room.stats.transport), (transport) => transport === "webrtc");
    relay.loss = 0.05;
    await page.evaluate(() => {
      globalThis.taken = { frameGap: 0, stateGap: 0, before: game.own.stats.corrections, from: game.room.stats.tick };
      let frame = performance.now();
      let tick = game.room.stats.tick;
      const { shown } = game.own;
      game.own.shown = () => {
        const now = performance.now();
        taken.frameGap = Math.max(taken.frameGap, now - frame);
        frame = now;
        return shown();
      };
      game.room.on("state", (_, info) => {
        taken.stateGap = Math.max(taken.stateGap, info.tick - tick);
        tick = info.tick;
      });
    });
    const drive = async () => {
      for (const key of ["KeyA", "KeyW", "KeyD", "KeyS"]) {
        await page.keyboard.down(key);
        await page.waitForTimeout(500);
        await page.keyboard.up(key);
      }
      return page.evaluate(() => {
        const { stats } = game.room;
        return { ...taken, rtt: stats.rtt, loss: stats.loss, ticks: stats.tick - taken.from, corrections: game.own.stats.corrections - taken.before };
      });
    };
    const { ticks, rtt, loss, corrections, frameGap, stateGap } = await until("enough ticks", drive, ({ ticks }) => ticks > COMPARED, 60_000);
    if (frameGap > FRAME_GAP_MS) return `a frame after ${Math.round(frameGap)} ms`;
    if (stateGap > STATE_GAP) return `a state after ${stateGap} ticks`;
    t.diagnostic(`${ticks} ticks at ${Math.round(rtt)} ms and ${(100 * loss).toFixed(1)} % loss: ${corrections} corrections`);
    assert.equal(corrections, 0);
    assert.deepEqual(errors, []);
    await page.context().close();
    return undefined;
  } finally {
    await server.stop();
    await relay.close();
  }
}

test("board: two play, a third watches, and what is against the rules is refused", async () => {
  const server = await start("board", { template: "board" });
  try {
    const ann = await open(server.url);
    await screenshot(ann.page, "new-board-alone");
    const ben = await open(ann.page.url(), SCREENS.upright);
    const cleo = await open(ann.page.url(), SCREENS.aslant);
    const call = (page) => page.locator("#call").innerText();
    const state = (page) => page.evaluate(() => game.state());
    const seats = await until("both to sit", () => state(ann.page), ({ seats }) => !seats.includes(null));
    assert.deepEqual(seats.seats, [1, 2]);
    const bySeat = [ann.page, ben.page];
    await until("the spectator to know", () => call(cleo.page), (text) => text.startsWith("You watch"));
    const { match } = await state(ann.page);
    const [first, second] = [bySeat[match.turn], bySeat[1 - match.turn]];

    // What no page sends: it is refused, and the room goes on.
    for (const command of [{ column: 7 }, { column: -1 }, { column: "3" }, { column: 0.5 }, { column: null }, null, 3, [], "x", { __proto__: null, column: {} }]) {
      await first.evaluate((command) => game.room.command(command), command);
    }
    await until("the refusal", () => call(first), (text) => text === "There is no such column.");
    await second.evaluate(() => game.room.command({ column: 0 }));
    await until("the refusal", () => call(second), (text) => text === "It is not your turn.");
    await cleo.page.evaluate(() => game.room.command({ column: 0 }));
    await until("the refusal", () => call(cleo.page), (text) => text.startsWith("You watch this match"));

    let pieces = 0;
    for (const [page, column] of [[first, 3], [second, 3], [first, 4], [second, 4], [first, 5], [second, 5], [first, 6]]) {
      await page.locator(".column").nth(column).click();
      pieces += 1;
      for (const other of [ann.page, ben.page, cleo.page]) {
        await until("the move", () => other.locator(".piece").count(), (count) => count === pieces);
      }
    }
    await until("the end", () => call(first), (text) => text === "You win!");
    await until("the end", () => call(cleo.page), (text) => text.endsWith(" wins"));
    assert.equal(await ann.page.locator(".four").count(), 4);
    await ann.page.waitForTimeout(400);
    for (const [name, { page }] of Object.entries({ ann, ben, cleo })) {
      await screenshot(page, `new-board-${name}`);
      assert.deepEqual(await overlaps(page, ["call", "board", "again"]), [], name);
    }

    for (const page of bySeat) await page.locator("#again").click();
    const again = await until("another match", () => state(ann.page), ({ match }) => match.winner === null);
    assert.equal(again.match.turn, 1 - match.turn, "the other one begins");
    assert.equal(again.wins.reduce((sum, wins) => sum + wins), 1);

    await ben.page.evaluate(() => game.room.leave());
    const next = await until("the spectator to sit down", () => state(ann.page), ({ seats }) => seats.includes(3));
    assert.deepEqual(next.seats, [1, 3]);
    for (const { errors } of [ann, cleo]) assert.deepEqual(errors, []);
  } finally {
    await server.stop();
  }
});

test("rollback: two pages compute the same game", async () => {
  const server = await start("rollback", { template: "rollback" });
  try {
    const ann = await open(server.url);
    const worlds = (page) => page.evaluate(() => game.session.world);
    await until("a robot", () => worlds(ann.page), (world) => world?.players[0] === 1);
    await screenshot(ann.page, "new-rollback-alone");
    const ben = await open(ann.page.url(), SCREENS.upright);
    for (const { page } of [ann, ben]) await until("both to play", () => worlds(page), (world) => world?.players.join() === "1,2");
    for (const { page } of [ann, ben]) {
      await page.evaluate(() => {
        globalThis.confirmed = {};
        const keep = () => {
          requestAnimationFrame(keep);
          confirmed[game.session.confirmed] = JSON.stringify(game.session.confirmedWorld);
        };
        keep();
      });
    }
    // Each sees what the other strikes.
    const strike = async () => {
      for (const y of [560, 400]) {
        await ann.page.mouse.move(640, y);
        await ann.page.waitForTimeout(400);
      }
      return worlds(ben.page);
    };
    await until("a strike", strike, (world) => world.hits > 0);
    await screenshot(ann.page, "new-rollback-ann");
    await screenshot(ben.page, "new-rollback-ben");
    const all = () => Promise.all([ann, ben].map(({ page }) => page.evaluate(() => confirmed)));
    const [one, two] = await until("ticks that both have", all, ([one, two]) => Object.keys(one).filter((tick) => tick in two).length > 100);
    for (const tick of Object.keys(one).filter((tick) => tick in two)) assert.equal(one[tick], two[tick], `tick ${tick}`);

    // Inputs that no page of this game sends.
    for (const input of [null, "x", [1], [NaN, 1], [1e308, -1e308], { x: 1 }]) {
      const { tick } = await ann.page.evaluate((input) => (game.session.input(input), game.session.update(), { tick: game.session.tick }), input);
      await until("the tick", () => ben.page.evaluate(() => game.session.confirmed), (confirmed) => confirmed > tick);
    }
    const { mallets, puck } = await worlds(ben.page);
    for (const { x, y } of [...mallets, puck]) assert.ok(Number.isFinite(x) && Number.isFinite(y), JSON.stringify([mallets, puck]));
    for (const { errors } of [ann, ben]) assert.deepEqual(errors, []);
  } finally {
    await server.stop();
  }
});
