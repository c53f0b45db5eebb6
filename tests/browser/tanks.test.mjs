import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launchBrowser, openPage, overlaps, SCREENS, screenshot, serverProgram, startServer, until } from "./harness.mjs";
import { startRelay } from "./lossy-relay.mjs";

const PAGES = fileURLToPath(new URL("../../examples/tanks/page", import.meta.url));
const program = join(dirname(serverProgram()), "examples", "tanks");
const startTanks = (args = []) => startServer(["--public", PAGES, ...args], { program });

/** Units per second, ms per tick, and how near two tanks touch. */
const SPEED = 210;
const TICK_MS = 33;
const TOUCH = 2 * 26 + 1;
/** What is stated in docs/src/feel.md. */
const MOTION_P95 = 0.5;
const JUMP = 8;
/** Per input that no state reflected when it was predicted. */
const TOUCHED = 14;
/** A run is measured anew where the machine stalled: the page between two frames, or the server between two states. */
const FRAME_GAP_MS = 250;
const STATE_GAP = 8;
const RUNS = 3;
/** The share of a correction that is drawn in a millisecond, at most. */
const CORRECTED = 1.75 / 100;
/** Ticks after a touch or a respawn until all inputs that were sent before it are settled. */
const SETTLED = 45;
const COMPARED = 150;

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

/** Keeps, of a page that plays, what it predicts by input, what its states reflect, and what its frames show. */
const recordPage = (page) =>
  page.evaluate(() => {
    const { room, own, others } = tanks;
    globalThis.taken = { predicted: {}, pending: {}, consumed: {}, frames: [], own: [], at: [], links: [] };
    const { send, shown, advance } = own;
    own.send = (input) => {
      const number = send(input);
      if (own.value) taken.predicted[number] = { ...own.value };
      taken.pending[number] = own.stats.pending;
      return number;
    };
    own.advance = (input) => {
      globalThis.advanced?.();
      return advance(input);
    };
    own.shown = () => {
      const value = shown();
      taken.at.push(performance.now());
      taken.own.push(value && { x: value.x, y: value.y, hull: value.hull, tick: room.serverTick(), corrections: own.stats.corrections });
      return value;
    };
    const { at } = others;
    others.at = () => {
      const bodies = at();
      const now = Object.fromEntries([...bodies].map(([id, { x, y }]) => [id, [x, y]]));
      if (others.tick !== taken.frames.at(-1)?.tick) taken.frames.push({ tick: others.tick, now });
      return bodies;
    };
    room.on("state", (_, { tick, consumed }) => {
      taken.consumed[tick] = consumed;
      taken.links.push([room.stats.transport, room.stats.rtt, others.delay]);
    });
  });

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
const ram = (page) =>
  page.evaluate(() => {
    const press = (code, isDown) => dispatchEvent(new KeyboardEvent(isDown ? "keydown" : "keyup", { code }));
    globalThis.ramming = setInterval(() => {
      const { value } = tanks.own;
      if (!value) return;
      const away = ({ x, y }) => Math.hypot(x - value.x, y - value.y);
      const [nearest] = [...tanks.others.at().values()].sort((a, b) => away(a) - away(b));
      if (!nearest) return;
      const wanted = (Math.atan2(nearest.y - value.y, nearest.x - value.x) / (2 * Math.PI)) * 512;
      const off = ((((wanted - value.hull) % 512) + 768) % 512) - 256;
      press("KeyD", off > 8);
      press("KeyA", off < -8);
      press("KeyW", Math.abs(off) < 100);
    }, 30);
  });

const percentile = (values, share) => values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share)];
const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const placeOf = (tank) => tank && tank.armor > 0 && [tank.body.x, tank.body.y];

test("at 150 ms and 5 % loss both ways the page is as good as stated", async (t) => {
  for (let run = 0; run < RUNS; run++) {
    const stall = await measure(t);
    if (!stall) return;
    t.diagnostic(`not measured: ${stall}`);
  }
  t.skip("this machine stalls too often");
});

const largestGap = (values) => Math.max(0, ...values.slice(1).map((value, n) => value - values[n]));

/** Asserts what is stated, or gives how the machine stalled, so that there is nothing to assert. */
async function measure(t) {
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
      let touchedAt = -Infinity;
      const own = { errors: [], touched: [], perInput: [] };
      for (const tick of Object.keys(truth).map(Number).sort((a, b) => a - b)) {
        const { [me]: mine, ...rest } = truth[tick];
        const place = placeOf(mine);
        const isTouched = !place || Object.values(rest).some((tank) => placeOf(tank) && distance(placeOf(tank), place) < TOUCH);
        if (isTouched) touchedAt = tick;
        const predicted = taken.predicted[taken.consumed[tick]];
        if (!place || !predicted) continue;
        const error = Math.max(...Object.keys(predicted).map((field) => Math.abs(predicted[field] - mine.body[field])));
        if (tick - touchedAt > SETTLED) own.errors.push(error);
        else if (truth[tick - SETTLED]?.[me]?.armor > 0) {
          own.touched.push(distance([predicted.x, predicted.y], place));
          own.perInput.push(own.touched.at(-1) / taken.pending[taken.consumed[tick]]);
        }
      }
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
    const { truth, taken, own } = compared;
    const far = taken.links.filter(([transport]) => transport === "webrtc");
    const median = (column) => Math.round(percentile(far.map((link) => link[column]), 0.5));
    const share = Math.round((100 * far.length) / taken.links.length);
    t.diagnostic(`${share} % of the states over WebRTC: median round trip ${median(1)} ms, others ${median(2)} ms late`);
    const frameGap = Math.round(largestGap(taken.at));
    const stateGap = largestGap(Object.keys(truth).map(Number).sort((a, b) => a - b));
    const dropped = server.output.split("\n").filter((line) => /sends more than/.test(line));
    t.diagnostic(`at most ${frameGap} ms between two frames and ${stateGap} ticks between two states`);
    if (share < 90) return `${share} % of the states came over WebRTC`;
    if (frameGap > FRAME_GAP_MS) return `the page stood still for ${frameGap} ms`;
    if (stateGap > STATE_GAP) return `the server or its states stood still for ${stateGap} ticks`;
    if (dropped.length > 0) return dropped[0];

    t.diagnostic(`own tank: ${own.errors.length} ticks moved by own inputs, largest error ${Math.max(...own.errors)}`);
    assert.ok(own.errors.length >= COMPARED, "enough to compare");
    assert.equal(Math.max(...own.errors), 0, "where only own inputs move it, the prediction is the truth, bit for bit");
    const touched = Math.max(0, ...own.touched);
    t.diagnostic(`own tank: ${own.touched.length} ticks within ${SETTLED} of a touch, largest error ${touched.toFixed(2)}`);
    const perInput = Math.max(0, ...own.perInput);
    t.diagnostic(`own tank: that is ${perInput.toFixed(2)} per input in flight`);
    assert.ok(perInput <= TOUCHED);

    // A stalled machine makes pauses that this network does not: they are counted apart.
    const received = (tick) => tick in taken.consumed;
    const isWhole = (tick) => [0, -1, -2].some((back) => received(tick + back)) && [1, 2].some((ahead) => received(tick + ahead));
    let paused = 0;
    const motion = [];
    const jumps = [];
    let former;
    for (const frame of taken.frames) {
      const tick = Math.floor(frame.tick);
      for (const [id, place] of Object.entries(frame.now)) {
        const [from, to] = [truth[tick]?.[id], truth[tick + 1]?.[id]].map(placeOf);
        if (!from || !to || distance(from, to) > 60) continue;
        const part = frame.tick - tick;
        if (!isWhole(tick)) {
          paused++;
          continue;
        }
        motion.push(distance(place, [from[0] + (to[0] - from[0]) * part, from[1] + (to[1] - from[1]) * part]));
        const before = former?.now[id];
        const ticks = frame.tick - former?.tick;
        if (before) jumps.push((distance(before, place) - (ticks * SPEED * TICK_MS) / 1_000) / Math.max(1, ticks));
      }
      former = frame;
    }
    t.diagnostic(
      `other tanks: ${motion.length} places in ${taken.frames.length} frames, error p50 ${percentile(motion, 0.5).toFixed(4)}, ` +
        `p95 ${percentile(motion, 0.95).toFixed(4)}, p99 ${percentile(motion, 0.99).toFixed(4)}, largest ${Math.max(...motion).toFixed(2)}`,
    );
    t.diagnostic(`other tanks: ${paused} places within a pause of more than three states are left out`);
    assert.ok(motion.length > 500 && percentile(motion, 0.95) <= MOTION_P95);
    const jump = Math.max(...jumps);
    t.diagnostic(`other tanks: longest way of a frame beyond what their speed allows ${jump.toFixed(3)}`);
    assert.ok(jump <= JUMP);

    // Of the own tank the pictures around a respawn are left out.
    const maxError = await page.evaluate(() => tanks.own.stats.maxError);
    const ways = taken.own.flatMap((now, n) => {
      const before = taken.own[n - 1];
      const way = now && before ? distance([now.x, now.y], [before.x, before.y]) : Infinity;
      if (way > 60) return [];
      const ms = (now.tick - before.tick) * TICK_MS;
      return [{ beyond: way - (ms * SPEED) / 1_000, most: 1 + maxError * Math.min(1, ms * CORRECTED) }];
    });
    t.diagnostic(`own tank: longest way of a frame beyond what its speed allows ${Math.max(...ways.map(({ beyond }) => beyond)).toFixed(3)}`);
    for (const { beyond, most } of ways) assert.ok(beyond <= most, `${beyond} of at most ${most}`);

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
