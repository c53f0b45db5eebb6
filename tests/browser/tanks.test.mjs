import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { assertFeel, chase, compareOwn, COMPARED, measure, percentile, record, SETTLED } from "../../examples/tanks/tests/feel.mjs";
import { launchBrowser, openPage, overlaps, SCREENS, screenshot, serverProgram, startServer, until } from "./harness.mjs";
import { startRelay } from "./lossy-relay.mjs";

const PAGES = fileURLToPath(new URL("../../examples/tanks/page", import.meta.url));
const program = join(dirname(serverProgram()), "examples", "tanks");
const startTanks = (args = []) => startServer(["--public", PAGES, ...args], { program });

const TICK_MS = 33;
/** A run is measured anew where the machine stalled: the page between two frames, or the server between two states. */
const FRAME_GAP_MS = 250;
const STATE_GAP = 8;
const RUNS = 3;

let browser;

before(async () => {
  browser = await launchBrowser();
});

after(() => browser?.close());

async function openTanks(url, options) {
  const opened = await openPage(browser, url.href, options);
  await until("a page that plays", () => opened.page.evaluate(() => Boolean(globalThis.tanks?.own.value)));
  return opened;
}

describe("two pages in one arena", () => {
  let server, ann, ben;

  before(async () => {
    server = await startTanks();
    ann = await openTanks(new URL("/r/both", server.url), SCREENS.desktop);
    ben = await openTanks(new URL("/r/both", server.url), SCREENS.upright);
  });

  after(() => server?.stop());

  const places = (page) => page.evaluate(() => Object.fromEntries([...tanks.others.at()].map(([id, { x, y }]) => [id, { x, y }])));

  test("each sees the bots, and the other drive", async () => {
    const me = await ann.page.evaluate(() => tanks.room.me);
    const seen = await until("all tanks", () => places(ben.page), (places) => Object.keys(places).length >= 4 && me in places);
    await ann.page.keyboard.down("KeyW");
    await ann.page.keyboard.down("KeyD");
    const isMoved = ({ [me]: now }) => now && Math.hypot(now.x - seen[me].x, now.y - seen[me].y) > 10;
    await until("Ann to drive", () => places(ben.page), isMoved);
    await ann.page.keyboard.up("KeyW");
    await ann.page.keyboard.up("KeyD");
  });

  test("the mouse aims and fires", async () => {
    await ann.page.mouse.move(900, 200);
    await ann.page.mouse.down();
    await until("a shot", () => ann.page.evaluate(() => tanks.own.value?.reload), (reload) => reload > 0);
    await screenshot(ann.page, "tanks-shot");
    await ann.page.mouse.up();
  });

  test("thumbs drive, aim and fire", async () => {
    const session = await ben.page.context().newCDPSession(ben.page);
    const touch = (type, ...touchPoints) => session.send("Input.dispatchTouchEvent", { type, touchPoints });
    await touch("touchStart", { x: 100, y: 500, id: 0 });
    await touch("touchMove", { x: 100, y: 440, id: 0 });
    const driven = () => ben.page.evaluate(() => tanks.own.value?.speed);
    await until("speed", driven, (speed) => speed > 50);
    await touch("touchStart", { x: 100, y: 440, id: 0 }, { x: 330, y: 300, id: 1 });
    await until("a shot", () => ben.page.evaluate(() => tanks.own.value?.reload), (reload) => reload > 0);
    await screenshot(ben.page, "tanks-thumbs");
    await touch("touchEnd");
  });

  test("what one says, the other reads", async () => {
    await ann.page.keyboard.press("Enter");
    await ann.page.locator("#text").fill("hello there");
    await ann.page.keyboard.press("Enter");
    await until("the message", () => ben.page.locator("#log").innerText(), (text) => text.includes("hello there"));
  });

  test("both look right and report no error", async () => {
    for (const [name, { page, errors }] of Object.entries({ ann, ben })) {
      await screenshot(page, `tanks-${name}`);
      assert.deepEqual(errors, []);
      assert.deepEqual(await overlaps(page, ["title", "scores", "talk", "help"]), []);
      await page.context().close();
    }
  });
});

/** Joins over the websocket, beside the relay, and keeps every state: the truth. */
async function recordTruth(url) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(new URL("/rtcade.js", url).href);
  await page.evaluate(async (url) => {
    const { connect } = await import("/rtcade.js");
    const environment = { RTCPeerConnection: null };
    const room = await connect(url, { name: "Truth", [Symbol.for("rtcade.environment")]: environment });
    globalThis.truth = {};
    room.on("state", ({ tanks }, { tick }) => (truth[tick] = tanks));
  }, url.href);
  return page;
}

const recordPage = async (page) => {
  await page.evaluate(record);
  await page.evaluate(() => {
    taken.shownAt = [];
    const { shown } = tanks.own;
    tanks.own.shown = () => {
      taken.shownAt.push(performance.now());
      return shown();
    };
  });
};

/** Presses a key in the page, and gives what the frame before has shown and the next one. */
const pressed = (page, code) =>
  page.evaluate(
    (code) =>
      new Promise((resolve) => {
        requestAnimationFrame(() => {
          const before = taken.own.at(-1);
          const { length } = taken.own;
          dispatchEvent(new KeyboardEvent("keydown", { code }));
          const look = () => {
            if (taken.own.length === length) return requestAnimationFrame(look);
            dispatchEvent(new KeyboardEvent("keyup", { code }));
            resolve([before, taken.own[length]]);
          };
          requestAnimationFrame(look);
        });
      }),
    code,
  );

/** Drives at the nearest tank that is shown. */
const ram = async (page) => {
  await page.evaluate(`globalThis.chase = ${chase}`);
  await page.evaluate(() => {
    const press = (code, isDown) => dispatchEvent(new KeyboardEvent(isDown ? "keydown" : "keyup", { code }));
    globalThis.ramming = setInterval(() => {
      const held = chase();
      if (!held) return;
      press("KeyD", held.turn > 0);
      press("KeyA", held.turn < 0);
      press("KeyW", held.drive > 0);
    }, 30);
  });
};

test("at 150 ms and 5 % loss both ways the page is as good as stated", async (t) => {
  for (let run = 0; run < RUNS; run++) {
    const stall = await play(t);
    if (!stall) return;
    t.diagnostic(`not measured: ${stall}`);
  }
  t.skip("this machine stalls too often");
});

const largestGap = (values) => Math.max(0, ...values.slice(1).map((value, n) => value - values[n]));

/** Asserts what is stated, or gives how the machine stalled, so that there is nothing to assert. */
async function play(t) {
  const relay = await startRelay({ oneWayMs: 75, seed: "tanks" });
  const server = await startTanks(["--public-addr", `127.0.0.1:${relay.port}`]);
  try {
    relay.target = Number(new URL(server.url).port);
    const url = new URL("/r/far", server.url);
    const recorder = await recordTruth(url);
    const { page, errors } = await openTanks(url, SCREENS.desktop);
    await until("WebRTC", () => page.evaluate(() => tanks.room.stats.transport), (transport) => transport === "webrtc");
    relay.loss = 0.05;
    await recordPage(page);
    const me = await page.evaluate(() => tanks.room.me);

    // Until so many ticks can be compared that lie long enough after a touch or a respawn.
    const compare = async () => {
      const truth = await recorder.evaluate(() => truth);
      const taken = await page.evaluate(() => globalThis.taken);
      const own = compareOwn(truth, taken, me);
      return { truth, taken, own };
    };
    let compared;
    for (let round = 0; round < 12; round++) {
      for (const turn of ["KeyD", "KeyA"]) {
        await page.keyboard.down("KeyW");
        await page.keyboard.down(turn);
        await page.waitForTimeout(500);
        await page.keyboard.up(turn);
        await page.waitForTimeout(700);
      }
      compared = await compare();
      if (round >= 5 && compared.own.errors.length >= COMPARED) break;
    }
    await page.keyboard.up("KeyW");
    await screenshot(page, "tanks-far");
    await ram(page);
    for (let waited = 0; waited < 12 && compared.own.touched.length < SETTLED; waited++) {
      await page.waitForTimeout(1_000);
      compared = await compare();
    }
    await page.evaluate(() => {
      clearInterval(ramming);
      for (const code of ["KeyW", "KeyA", "KeyD"]) dispatchEvent(new KeyboardEvent("keyup", { code }));
    });
    const { truth, taken } = compared;
    const far = taken.links.filter(([transport]) => transport === "webrtc");
    const median = (column) => Math.round(percentile(far.map((link) => link[column]), 0.5));
    const share = Math.round((100 * far.length) / taken.links.length);
    t.diagnostic(`${share} % of the states over WebRTC: median round trip ${median(1)} ms, others ${median(2)} ms late`);
    const frameGap = Math.round(largestGap(taken.shownAt));
    const stateGap = largestGap(Object.keys(truth).map(Number).sort((a, b) => a - b));
    const dropped = server.output.split("\n").filter((line) => /sends more than/.test(line));
    t.diagnostic(`at most ${frameGap} ms between two frames and ${stateGap} ticks between two states`);
    if (share < 90) return `${share} % of the states came over WebRTC`;
    if (frameGap > FRAME_GAP_MS) return `the page stood still for ${frameGap} ms`;
    if (stateGap > STATE_GAP) return `the server or its states stood still for ${stateGap} ticks`;
    if (dropped.length > 0) return dropped[0];

    const figures = measure({ truth, taken, me, tickMs: TICK_MS });
    for (const [what, figure] of Object.entries(figures)) t.diagnostic(`${what}: ${figure}`);
    assertFeel(figures);

    // In the first frame after the key, whatever the network. A tank that is destroyed answers to nothing.
    for (let tries = 0; ; tries++) {
      await until("a tank", () => page.evaluate(() => Boolean(tanks.own.value)));
      const [before, after] = await pressed(page, "KeyD");
      if ((!before || !after || before.corrections !== after.corrections) && tries < 9) continue;
      t.diagnostic(`the frame after the key turns the tank by ${(after.hull - before.hull).toFixed(3)} headings`);
      assert.ok(after.hull > before.hull);
      break;
    }
    assert.deepEqual(errors, []);
    await page.context().close();
    await recorder.context().close();
    return null;
  } finally {
    await server.stop();
    await relay.close();
  }
}
