import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import puppeteer from "puppeteer-core";
import { launchBrowser, openPage, overlaps, SCREENS, screenshot, startServer, until } from "./harness.mjs";
import { startRelay } from "./lossy-relay.mjs";

const EXAMPLE = fileURLToPath(new URL("../../examples/duel", import.meta.url));
/** How far a player who holds a key must get, in units of the ring. */
const MOVED = 10;
const COMPARED = 150;
const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
const FIREFOX_START_MS = 60_000;

let browser;

before(async () => {
  browser = await launchBrowser();
});

after(() => browser?.close());

const startDuel = (args = []) => startServer(["--game", "relay", "--public", EXAMPLE, ...args]);

async function openDuel(url, options) {
  const opened = await openPage(browser, url, options);
  await record(opened.page);
  return opened;
}

/** Waits until the page plays, and keeps its confirmed worlds by tick from then on. */
async function record(page) {
  await until("a page that plays", () => page.evaluate(() => globalThis.duel?.session.status), (status) => status === "running");
  await page.evaluate(() => {
    globalThis.worlds = {};
    globalThis.desyncs = [];
    const { session } = duel;
    session.on("desync", (detail) => desyncs.push(detail));
    const record = () => {
      requestAnimationFrame(record);
      worlds[session.confirmed] = JSON.stringify(session.confirmedWorld);
    };
    record();
  });
}

const puckOf = (page, player) =>
  page.evaluate((player) => duel.session.world.pucks.find((puck) => puck.player === player), player);
const me = (page) => page.evaluate(() => duel.room.me);

/** Each holds a key until the other has seen them go that way. */
async function seenMoving(mover, watcher) {
  const player = await me(mover);
  await until("a fight", () => watcher.evaluate(() => duel.session.world.phase), (phase) => phase === "fight");
  const { x } = await puckOf(watcher, player);
  const key = x > 0 ? "ArrowLeft" : "KeyD";
  await mover.keyboard.down(key);
  await until(`player ${player} to move`, () => puckOf(watcher, player), (puck) => (puck.x - x) * Math.sign(-x) > MOVED);
  await mover.keyboard.up(key);
}

async function agree(pages) {
  const all = async () => Promise.all(pages.map((page) => page.evaluate(() => worlds)));
  const common = ([one, two]) => Object.keys(one).filter((tick) => tick in two);
  const worlds = await until("ticks that both confirmed", all, (worlds) => common(worlds).length >= COMPARED);
  for (const tick of common(worlds)) assert.equal(worlds[0][tick], worlds[1][tick], `tick ${tick}`);
  for (const page of pages) assert.deepEqual(await page.evaluate(() => desyncs), []);
}

describe("two pages in one duel", () => {
  let server, ann, ben;

  before(async () => {
    server = await startDuel();
    ann = await openDuel(server.url, SCREENS.desktop);
  });

  after(() => server?.stop());

  test("the first plays against the sparring partner until there is a second", async () => {
    const { page } = ann;
    const seats = () => page.evaluate(() => duel.session.world.pucks.map(({ player }) => player));
    await until("a seat", seats, ([first]) => first === 1);
    assert.deepEqual(await seats(), [1, 0]);
    assert.match(await page.locator("#two .name").innerText(), /Sparring partner/);
    ben = await openDuel(page.url(), SCREENS.upright);
    await until("both seats", seats, (seats) => seats.join() === "1,2");
  });

  test("each sees the other move, and both compute the same worlds", async () => {
    await seenMoving(ann.page, ben.page);
    await seenMoving(ben.page, ann.page);
    await agree([ann.page, ben.page]);
  });

  test("a finger steers, and a tap dashes", async () => {
    const { page } = ben;
    const player = await me(page);
    await until("a fight", () => page.evaluate(() => duel.session.world.phase), (phase) => phase === "fight");
    const session = await page.context().newCDPSession(page);
    const touch = (type, ...touchPoints) => session.send("Input.dispatchTouchEvent", { type, touchPoints });
    await touch("touchStart", { x: 200, y: 500 });
    for (let y = 500; y > 430; y -= 10) await touch("touchMove", { x: 200, y });
    await until("the puck to turn", () => puckOf(page, player), ({ faceY }) => faceY < -0.9);
    await screenshot(page, "duel-steering");
    await touch("touchEnd");
    await until("a dash", async () => {
      await touch("touchStart", { x: 200, y: 500 });
      await touch("touchEnd");
      return puckOf(page, player);
    }, ({ recharge }) => recharge > 0);
  });

  test("both look right and report no error", async () => {
    for (const [name, { page, errors }] of Object.entries({ ann, ben })) {
      await screenshot(page, `duel-${name}`);
      assert.deepEqual(errors, []);
      assert.deepEqual(await overlaps(page, ["one", "two", "copy"]), []);
    }
  });

  test("a reloaded page continues the duel", async () => {
    await ann.page.reload();
    await until("the duel", () => ann.page.evaluate(() => globalThis.duel?.session.status), (status) => status === "running");
    assert.equal(await me(ann.page), 1);
    const seats = () => ann.page.evaluate(() => duel.session.world.pucks.map(({ player }) => player));
    assert.deepEqual(await seats(), [1, 2]);
  });

  test("where one leaves, the sparring partner takes the place", async () => {
    await ben.page.context().close();
    const seats = () => ann.page.evaluate(() => duel.session.world.pucks.map(({ player }) => player));
    await until("the sparring partner", seats, (seats) => seats.join() === "1,0");
  });
});

test("the rules use nothing that browsers compute differently", async () => {
  const rules = await readFile(join(EXAMPLE, "game.js"), "utf8");
  const code = rules.replaceAll(/\/\/.*|\/\*[^]*?\*\//g, "");
  const used = new Set(code.match(/Math\.\w+|Date|performance|\*\*/g));
  assert.deepEqual([...used].sort(), ["Math.max", "Math.sqrt"]);
});

const noFirefox = !existsSync(FIREFOX) && `${FIREFOX} is missing: install Firefox, or name it in FIREFOX`;
test("Chromium and Firefox compute the same worlds", { skip: noFirefox }, async () => {
  const server = await startDuel();
  const options = { browser: "firefox", executablePath: FIREFOX, headless: true, timeout: FIREFOX_START_MS };
  const firefox = await puppeteer.launch(options);
  try {
    const ann = await openDuel(server.url);
    const ben = await firefox.newPage();
    await ben.goto(ann.page.url());
    await record(ben);
    for (let round = 0; round < 2; round++) {
      await seenMoving(ann.page, ben);
      await seenMoving(ben, ann.page);
    }
    await agree([ann.page, ben]);
    assert.deepEqual(ann.errors, []);
    await ann.page.context().close();
  } finally {
    await firefox.close();
    await server.stop();
  }
});

test("over 150 ms and 5 % loss each way both compute the same worlds", async (t) => {
  const relay = await startRelay({ oneWayMs: 75, seed: "duel" });
  const server = await startDuel(["--public-addr", `127.0.0.1:${relay.port}`]);
  try {
    relay.target = Number(new URL(server.url).port);
    const ann = await openDuel(server.url, SCREENS.desktop);
    const ben = await openDuel(ann.page.url(), SCREENS.desktop);
    const overChannel = ({ page }) => page.evaluate(() => duel.room.stats.transport);
    for (const opened of [ann, ben]) await until("WebRTC", () => overChannel(opened), (transport) => transport === "webrtc");
    relay.loss = 0.05;
    // A page whose round trip seems long for a while sends its inputs early, and then nothing of them is taken back.
    let stats;
    for (let round = 0; round < 12 && !(round > 2 && stats.every(({ rollbacks }) => rollbacks > 0)); round++) {
      await seenMoving(ann.page, ben.page);
      await seenMoving(ben.page, ann.page);
      stats = await Promise.all([ann, ben].map(({ page }) => page.evaluate(() => ({ ...duel.session.stats, ...duel.room.stats }))));
    }
    await agree([ann.page, ben.page]);
    await screenshot(ann.page, "duel-far");
    for (const { rollbacks, deepest, rtt, loss, lead, late } of stats)
      t.diagnostic(`rtt ${Math.round(rtt)} ms, loss ${loss}, lead ${lead.toFixed(2)}, ${rollbacks} rollbacks, ${deepest} ticks at most, ${late} late`);
    assert.ok(stats.some(({ rollbacks }) => rollbacks > 0), "the way is longer than the input delay");
    for (const { page, errors } of [ann, ben]) {
      assert.deepEqual(errors, []);
      await page.context().close();
    }
  } finally {
    await server.stop();
    await relay.close();
  }
});
