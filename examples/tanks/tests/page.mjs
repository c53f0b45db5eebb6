// The page without its picture, in virtual time: each line of stdin is a frame of the display with what has arrived
// since the one before, and is answered with the inputs that the page sends. After the last it gives its figures.

import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { createTickClock } from "../../../client-js/src/clock.js";
import { interpolate } from "../../../client-js/src/interpolate.js";
import { createLink } from "../../../client-js/src/link.js";
import { decode } from "../../../client-js/src/msgpack.js";
import { predict } from "../../../client-js/src/predict.js";
import { otherTanks, ownTank } from "../page/netcode.js";
import { assertFeel, chase, measure, percentile, record } from "./feel.mjs";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const read = async () => {
  const { value, done } = await lines.next();
  return done ? null : JSON.parse(value);
};
const write = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const { at, me, welcome, tick_ms: tickMs, tick } = await read();

/** Its clock. */
let time = at;
const now = () => time;
const link = createLink(now, tickMs);
const clock = createTickClock(now, tickMs, tick, link.leastDelay);
let sent = [];
let number = 0;
const listeners = { state: [], rejoin: [], close: [] };

const room = {
  me,
  welcome,
  tickMs,
  status: "open",
  renderTick: null,
  get stats() {
    return { ...link.stats(), transport: "webrtc" };
  },
  serverTick: clock.tick,
  on(type, listener) {
    listeners[type].push(listener);
  },
  send(input) {
    sent.push({ number: ++number, seen: room.renderTick?.() ?? null, input });
    return number;
  },
};

let shots = 0;
let undone = 0;
const own = predict(
  room,
  ownTank(room, (_, number) => {
    own.optimistic({
      number,
      apply: () => shots++,
      confirm: ({ tanks }) => tanks[me]?.shot === number,
      undo: () => undone++,
    });
  }),
);
const others = interpolate(room, otherTanks(room));
globalThis.tanks = { room, own, others };
record();

const truth = {};
const arrive = {
  state({ tick, consumed, body }) {
    clock.arrive(tick);
    link.arrive(tick);
    const state = decode(Buffer.from(body, "base64"));
    for (const listener of listeners.state) listener(state, { tick, consumed });
  },
  event: ({ tick }) => clock.arrive(tick),
  pong: ({ rtt }) => link.pong(now() - rtt),
};

let turned = 0;
let answers = 0;
for (let frame; (frame = await read()); ) {
  for (const { at, kind, ...what } of frame.arrived) {
    time = at;
    arrive[kind](what);
  }
  for (const { tick, body } of frame.truth) truth[tick] = decode(Buffer.from(body, "base64")).tanks;
  time = frame.at;
  const input = frame.is_chasing ? { ...frame.input, ...chase() } : frame.input;
  const before = taken.own.at(-1);
  own.advance(input);
  const shown = own.shown();
  others.at();
  // A tank that is destroyed answers to nothing, and a respawn turns it.
  const isCalm = before && shown && before.corrections === own.stats.corrections;
  if (isCalm && input.turn !== 0 && input.turn !== turned) {
    const way = shown.hull - before.hull;
    assert.ok(way * input.turn > 0, `the frame after a key turns the tank by ${way} headings`);
    answers++;
  }
  turned = input.turn;
  write(sent);
  sent = [];
}

const isAlive = (tick) => truth[tick]?.[me].armor > 0;
const destroyed = Object.keys(truth).filter((tick) => isAlive(tick - 1) && !isAlive(tick)).length;
const median = (column) => percentile(taken.links.slice(100).map((link) => link[column]), 0.5);
const figures = {
  ...measure({ truth, taken, me, tickMs }),
  ...{ answers, shots, undone, destroyed, rtt: median(1), delay: median(2) },
};
write(figures);
assertFeel(figures);
assert.ok(answers > 0, "keys were pressed");
assert.ok(shots > undone && undone <= destroyed, "the shots that were shown were fired, but for one that a hit prevents");
