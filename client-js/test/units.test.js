import assert from "node:assert/strict";
import { test } from "node:test";
import { closure } from "../src/error.js";
import { createTickClock } from "../src/clock.js";
import { createInputWindow } from "../src/inputs.js";
import { createLink } from "../src/link.js";
import { decode, encode } from "../src/msgpack.js";
import { createTickOrder } from "../src/ticks.js";

const bodyOf = (window) => decode(Uint8Array.from(window.body()));
const filled = (first, count) => {
  const window = createInputWindow(first);
  for (let i = 0; i < count; i++) window.push(encode(first + i, 16), i / 2);
  return window;
};

test("inputs keep the newest eight", () => {
  assert.deepEqual(bodyOf(filled(1, 10)), [10, [10, 9, 8, 7, 6, 5, 4, 3], 72, ...Array(7).fill(8)]);
});

test("an acknowledgement takes off what it covers and no more", () => {
  const window = filled(1, 5);
  assert.equal(window.acknowledge(0), 5, "nothing consumed yet");
  assert.equal(window.acknowledge(3), 2);
  assert.deepEqual(bodyOf(window), [5, [5, 4], 32, 8]);
  assert.equal(window.acknowledge(2), 2, "an older one, arriving late");
  assert.equal(window.acknowledge(6), 2, "one that was never sent");
  assert.equal(window.acknowledge(5), 0);
});

test("stamps are sixteenths of ticks modulo 2^16, each after the first as its distance to the newer", () => {
  const stamps = (...seen) => {
    const window = createInputWindow(1);
    for (const tick of seen) window.push([0], tick);
    return bodyOf(window).slice(2);
  };
  assert.deepEqual(stamps(30.03), [480]);
  assert.deepEqual(stamps(4_095.9, 4_096.1), [2, 4]);
  assert.deepEqual(stamps(7, 6.5, 6.5), [104, 0, -8]);
  assert.deepEqual(stamps(2 ** 32 + 1, 2 ** 32 + 2_049), [0x8010, -0x8000]);
  assert.deepEqual(stamps(-1), [0xfff0]);
  for (const size of [130, 131, 132]) {
    const window = createInputWindow(2 ** 31);
    for (let i = 0; i < 8; i++) window.push(Array(size).fill(0), i % 2 ? 4_095 : 2_047);
    const body = Uint8Array.from(window.body());
    assert.ok(body.length <= 1094 && body[0] === 0x92 + Math.min(8, Math.floor((1094 - 7) / (size + 3))), `${size}`);
  }
});

test("acknowledgements and numbers wrap", () => {
  const across16 = filled(65534, 4);
  assert.equal(across16.acknowledge(0), 1);
  const across32 = filled(2 ** 32 - 2, 4);
  assert.equal(bodyOf(across32)[0], 1);
  assert.equal(across32.acknowledge(0xffff), 2);
});

test("a number modulo 2^16 is that of an input sent before", () => {
  assert.equal(filled(1, 5).unwrap(0), 0, "none yet");
  assert.equal(filled(1, 5).unwrap(5), 5);
  assert.equal(filled(65_534, 5).unwrap(65_535), 65_535);
  assert.equal(filled(65_534, 5).unwrap(1), 65_537);
  assert.equal(filled(2 ** 32 - 2, 4).unwrap(0xffff), 2 ** 32 - 1);
});

test("an input frame fits a part", () => {
  const window = createInputWindow(2 ** 31);
  for (let i = 0; i < 8; i++) window.push(encode("x".repeat(500 + i), 512), 0);
  const body = window.body();
  assert.ok(body.length <= 1094);
  const [newest, inputs] = decode(Uint8Array.from(body));
  assert.equal(newest, 2 ** 31 + 7);
  assert.deepEqual(
    inputs.map((input) => input.length),
    [507, 506],
  );
});

function tickOrder(first) {
  const seen = { delivered: [], asked: [], lost: [] };
  const order = createTickOrder(
    first,
    (tick, inputs) => seen.delivered.push([tick, inputs]),
    (...range) => seen.asked.push(range),
    (...range) => seen.lost.push(range),
  );
  return { ...order, ...seen, ticks: () => seen.delivered.map(([tick]) => tick) };
}

test("windows fill gaps, and every tick comes once", () => {
  const order = tickOrder(10);
  order.window(10, ["a", "before", "before"]);
  order.window(13, ["d", "c", "b"]);
  order.window(12, ["c", "b", "a"]);
  order.window(13, ["d", "c", "b"]);
  assert.deepEqual(order.delivered, [[10, "a"], [11, "b"], [12, "c"], [13, "d"]]);
  assert.deepEqual(order.asked, []);
});

test("ticks that no window reaches are asked for, once, and later ones wait", () => {
  const order = tickOrder(10);
  order.window(10, [[]]);
  order.window(16, [[], [], []]);
  order.window(17, [[], [], []]);
  assert.deepEqual(order.asked, [[11, 13]]);
  assert.deepEqual(order.ticks(), [10]);
  order.answer(11, [[], [], []]);
  assert.deepEqual(order.ticks(), [10, 11, 12, 13, 14, 15, 16, 17]);
  assert.deepEqual(order.lost, []);
});

test("a partial answer is asked on", () => {
  const order = tickOrder(1);
  order.window(8, [[]]);
  order.answer(1, [[], []]);
  assert.deepEqual(order.asked, [[1, 7], [3, 7]]);
  order.answer(3, [[], [], [], [], []]);
  assert.deepEqual(order.ticks(), [1, 2, 3, 4, 5, 6, 7, 8]);
});

test("what the server no longer has is lost, and ticks go on", () => {
  const older = tickOrder(1);
  older.window(8, [[]]);
  older.answer(5, [[], [], []]);
  assert.deepEqual(older.lost, [[1, 4]]);
  assert.deepEqual(older.ticks(), [5, 6, 7, 8]);

  const none = tickOrder(1);
  none.window(8, [[]]);
  none.answer(1, []);
  assert.deepEqual(none.lost, [[1, 7]]);
  assert.deepEqual(none.ticks(), [8]);
});

test("an answer that windows have overtaken loses nothing", () => {
  const order = tickOrder(1);
  order.window(4, [[]]);
  order.window(3, [[], [], []]);
  assert.deepEqual(order.ticks(), [1, 2, 3, 4]);
  order.window(9, [[]]);
  order.answer(1, [[], [], []]);
  assert.deepEqual(order.lost, []);
  assert.deepEqual(order.asked, [[1, 3], [5, 8]]);
});

test("an answer that can't be read loses what was asked for", () => {
  const order = tickOrder(1);
  order.window(8, [[]]);
  order.fail();
  assert.deepEqual(order.lost, [[1, 7]]);
  assert.deepEqual(order.ticks(), [8]);
  order.window(11, [[]]);
  assert.deepEqual(order.asked, [[1, 7], [9, 10]]);
});

test("one request asks for 310 ticks at most", () => {
  const order = tickOrder(1);
  order.window(1000, [[]]);
  assert.deepEqual(order.asked, [[1, 310]]);
});

test("without an answer, waiting ends", () => {
  const order = tickOrder(1);
  for (let tick = 5; tick < 5 + 311; tick++) order.window(tick, [[]]);
  assert.deepEqual(order.lost, [[1, 4]]);
  assert.equal(order.delivered.length, 311);
});

test("ticks wrap at 2^32", () => {
  const order = tickOrder(2 ** 32 - 1);
  order.window(1, ["c", "b", "a"]);
  assert.deepEqual(order.delivered, [[2 ** 32 - 1, "a"], [0, "b"], [1, "c"]]);
});

test("loss is the share of gaps in the last 256 frames, across the wrap", () => {
  const link = createLink(() => 0, 33);
  for (let seq = 65000; seq < 65000 + 1000; seq++) if (seq % 4) link.receive(seq & 0xffff);
  assert.equal(link.stats().loss, 0.25);
  for (let seq = 66000; seq < 66256; seq++) link.receive(seq & 0xffff);
  assert.equal(link.stats().loss, 0);
});

test("reordered frames are no loss, and repeated ones are told", () => {
  const link = createLink(() => 0, 33);
  assert.deepEqual(
    [5, 7, 6, 7, 4, 5].map((seq) => link.receive(seq)),
    [5, 7, 6, undefined, 4, undefined],
  );
  const { loss, received, duplicate } = link.stats();
  assert.deepEqual({ loss, received, duplicate }, { loss: 0, received: 4, duplicate: 2 });
});

test("jitter follows arrival against the tick grid, whatever is lost", () => {
  let time = 0;
  const link = createLink(() => time, 33);
  for (const tick of [1, 2, 5, 6]) {
    time = tick * 33;
    link.arrive(tick);
  }
  assert.equal(link.stats().jitter, 0);
  time += 33 + 16;
  link.arrive(7);
  assert.equal(link.stats().jitter, 1);
});

test("the tick rate counts a tick once and forgets after a second", () => {
  let time = 0;
  const link = createLink(() => time, 33);
  for (let tick = 1; tick <= 60; tick++) {
    time = tick * 33;
    link.arrive(tick);
    link.arrive(tick);
  }
  assert.equal(link.stats().tickRate, 31);
  time += 1000;
  assert.equal(link.stats().tickRate, 0);
});

test("the least delay is half of the quickest round trip", () => {
  let time = 1000;
  const link = createLink(() => time, 33);
  link.pong(980);
  assert.deepEqual([link.stats().rtt, link.leastDelay()], [20, 10]);
  time = 2000;
  link.pong(1500);
  assert.deepEqual([link.stats().rtt, link.leastDelay()], [80, 10]);
  link.restart();
  assert.deepEqual([link.stats().rtt, link.leastDelay()], [null, 10], "until the new transport is measured");
  link.pong(1900);
  assert.deepEqual([link.stats().rtt, link.leastDelay()], [100, 50]);
});

/** A clock that hears each tick `delay` of it later, over a path that takes 40 ms, which was joined in tick 0. */
function runTickClock(delay, seconds, look) {
  let time = 40;
  const clock = createTickClock(() => time, 20, 0, () => 40);
  const arrivals = [];
  for (let tick = 1; tick <= seconds * 50; tick++) arrivals.push([tick * 20 + delay(tick), tick]);
  arrivals.sort(([a], [b]) => a - b);
  for (; time < seconds * 1_000; time += 4) {
    while (arrivals[0]?.[0] <= time) clock.arrive(arrivals.shift()[1]);
    look(clock.tick(), time);
  }
}

test("the server's tick runs with the server, whatever delays single frames", () => {
  const errors = [];
  const jittery = (tick) => 40 + ((tick * 7_919) % 100);
  runTickClock(jittery, 10, (tick, time) => time > 3_000 && errors.push(tick - time / 20));
  assert.ok(Math.max(...errors.map(Math.abs)) < 0.3, `${Math.min(...errors)} to ${Math.max(...errors)} ticks off`);
});

test("the server's tick neither jumps nor runs backwards where the path becomes longer", () => {
  let before;
  const steps = [];
  const longer = (tick) => (tick < 250 ? 40 : 240);
  runTickClock(longer, 30, (tick) => {
    if (before !== undefined) steps.push((tick - before) / (4 / 20));
    before = tick;
  });
  assert.ok(Math.min(...steps) > 0.949 && Math.max(...steps) < 1.051, `${Math.min(...steps)} to ${Math.max(...steps)}`);
  assert.ok(Math.abs(before - (30_000 - 4 - 200) / 20) < 0.3, `ends at ${before}`);
});

test("after sleep the server's tick is set", () => {
  let time = 0;
  const clock = createTickClock(() => time, 20, 0, () => 0);
  clock.arrive(0);
  clock.tick();
  time = 60_000;
  // The server has stood still for half of it.
  clock.arrive(1_500);
  assert.equal(clock.tick(), 1_500);
});

for (const [code, text, reason, retry] of [
  [1000, "", "left", false],
  [4002, "timeout", "timeout", true],
  [4003, "kicked", "kicked", false],
  [4006, "", "replaced", false],
  [4008, "shutdown", "shutdown", true],
  [4100, "rate_limited", "rate_limited", true],
  [4100, "room_full", "room_full", false],
  [1006, "", "unreachable", true],
  [4999, "", "unreachable", true],
]) {
  test(`close code ${code} means ${reason}`, () => {
    const closing = closure(code, text);
    assert.equal(closing.reason, reason);
    assert.equal(closing.retry, retry);
    assert.match(closing.message, /^[A-Z].*\.$/);
  });
}

test("a sentence of the server's own goes before ours", () => {
  assert.equal(closure(4003, "Too slow for this round.").message, "Too slow for this round.");
});
