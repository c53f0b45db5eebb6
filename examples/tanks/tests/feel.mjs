// What docs/src/feel.md states of the page, and whether a run has kept to it: in a browser and in virtual time.

import assert from "node:assert/strict";

const SPEED = 210;
/** How near two tanks touch. */
const TOUCH = 2 * 26 + 1;
const MOTION_P95 = 0.5;
/** Per tick, beyond the speed of a bot, whose inputs are never late. */
const JUMP = 8;
/** Per tick, beyond what the server has moved a tank. */
const EXTRA = 0.5;
const FIRST_BOT = 1_000_000;
/** Per input that no state reflected when it was predicted. */
const TOUCHED = 14;
/** Beyond the speed of the own tank, and where other keys are held than in the frame before. */
const OWN = 1;
const OWN_KEYS = 2;
/** The share of a correction that is drawn in a millisecond, at most, and when it is drawn as a whole, in ms. */
const CORRECTED = 1.75 / 100;
const IS_CORRECTED = 200;
/** Ticks after a touch or a respawn until all inputs that were sent before it are settled. */
export const SETTLED = 45;
/** Ticks that are enough to compare the own tank in. */
export const COMPARED = 150;

/**
 * Keeps, of a page that plays, what it predicts by input, what its states reflect, and what its frames show. This and
 * `chase` run in the page: they know its globals only.
 */
export function record() {
  const { room, own, others } = tanks;
  globalThis.taken = { predicted: {}, pending: {}, consumed: {}, frames: [], own: [], links: [] };
  const { send, shown, advance } = own;
  /** The way of all corrections so far. A respawn is none. */
  let corrected = 0;
  let place = null;
  const keepPlace = () => (place = own.value ? [own.value.x, own.value.y] : null);
  keepPlace();
  own.send = (input) => {
    const number = send(input);
    if (own.value) taken.predicted[number] = { ...own.value };
    keepPlace();
    taken.pending[number] = own.stats.pending;
    return number;
  };
  let keys = "";
  let isOtherKeys = false;
  own.advance = (input) => {
    const { drive, turn } = input;
    isOtherKeys = keys !== `${drive} ${turn}`;
    keys = `${drive} ${turn}`;
    return advance(input);
  };
  own.shown = () => {
    const value = shown();
    const { corrections } = own.stats;
    const tick = room.serverTick();
    taken.own.push(value && { x: value.x, y: value.y, hull: value.hull, tick, corrections, corrected, isOtherKeys });
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
    const way = place && own.value ? Math.hypot(own.value.x - place[0], own.value.y - place[1]) : 0;
    if (way <= 60) corrected += way;
    keepPlace();
    taken.links.push([room.stats.transport, room.stats.rtt, others.delay]);
  });
}

/** How to drive at the nearest tank that is shown. */
export function chase() {
  const { value } = tanks.own;
  const away = ({ x, y }) => Math.hypot(x - value.x, y - value.y);
  const [nearest] = value ? [...tanks.others.at().values()].sort((a, b) => away(a) - away(b)) : [];
  if (!nearest) return null;
  const wanted = (Math.atan2(nearest.y - value.y, nearest.x - value.x) / (2 * Math.PI)) * 512;
  const off = ((((wanted - value.hull) % 512) + 768) % 512) - 256;
  return { turn: Number(off > 8) - Number(off < -8), drive: Number(Math.abs(off) < 100) };
}

export const percentile = (values, share) => values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share)];
const largest = (values) => values.reduce((most, value) => Math.max(most, value), 0);
const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const placeOf = (tank) => tank && tank.armor > 0 && [tank.body.x, tank.body.y];
const ticksOf = (truth) => Object.keys(truth).map(Number).sort((a, b) => a - b);

/** The errors of the own tank: where only its inputs moved it, and after touches, there also by input in flight. */
export function compareOwn(truth, taken, me) {
  let touchedAt = -Infinity;
  const own = { errors: [], touched: [], perInput: [] };
  for (const tick of ticksOf(truth)) {
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
  return own;
}

/**
 * The errors of the others at the tick that is shown, and what the way of a frame has, per tick, beyond the speed of a
 * bot and beyond what the server has moved a tank: inputs that come late move it several times in a tick.
 */
function compareOthers(truth, taken, tickMs) {
  // A pause that is longer than loss makes is counted apart.
  const received = (tick) => tick in taken.consumed;
  const isWhole = (tick) => [0, -1, -2].some((back) => received(tick + back)) && [1, 2].some((ahead) => received(tick + ahead));
  const others = { motion: [], beyondSpeed: [], beyondTruth: [], paused: 0 };
  const even = (SPEED * tickMs) / 1_000;
  /** In the ticks around a time that is drawn from states of at most three ticks. */
  const movedIn = (id, from, to) => {
    const places = [];
    for (let tick = Math.floor(from) - 2; tick <= Math.floor(to) + 3; tick++) places.push(placeOf(truth[tick]?.[id]));
    return largest(places.slice(1).map((place, n) => (place && places[n] ? distance(place, places[n]) : 0)));
  };
  let former;
  for (const frame of taken.frames) {
    const tick = Math.floor(frame.tick);
    for (const [id, place] of Object.entries(frame.now)) {
      const [from, to] = [truth[tick]?.[id], truth[tick + 1]?.[id]].map(placeOf);
      if (!from || !to || distance(from, to) > 60) continue;
      const part = frame.tick - tick;
      if (!isWhole(tick)) {
        others.paused++;
        continue;
      }
      others.motion.push(distance(place, [from[0] + (to[0] - from[0]) * part, from[1] + (to[1] - from[1]) * part]));
      const before = former?.now[id];
      if (!before) continue;
      const ticks = frame.tick - former.tick;
      const beyond = (most) => (distance(before, place) - ticks * most) / Math.max(1, ticks);
      if (Number(id) >= FIRST_BOT) others.beyondSpeed.push(beyond(even));
      others.beyondTruth.push(beyond(Math.max(even, movedIn(id, former.tick, frame.tick))));
    }
    former = frame;
  }
  return others;
}

/**
 * What each frame has moved the own tank beyond its speed, and how much it may by the corrections that are being drawn.
 * Frames around a respawn are left out.
 */
function compareWays(taken, tickMs) {
  let oldest = 0;
  return taken.own.flatMap((now, n) => {
    const before = taken.own[n - 1];
    const way = now && before ? distance([now.x, now.y], [before.x, before.y]) : Infinity;
    if (way > 60) return [];
    while (!taken.own[oldest] || (now.tick - taken.own[oldest].tick) * tickMs > IS_CORRECTED) oldest++;
    const ms = (now.tick - before.tick) * tickMs;
    const correction = now.corrected - taken.own[oldest].corrected;
    const most = now.isOtherKeys ? OWN_KEYS : OWN;
    return [{ beyond: way - (ms * SPEED) / 1_000, most: most + correction * Math.min(1, ms * CORRECTED) }];
  });
}

/**
 * Gives the figures of a run.
 *
 * @param truth the tanks of each state of the server, by tick
 * @param taken what `record` has kept
 */
export function measure({ truth, taken, me, tickMs }) {
  const own = compareOwn(truth, taken, me);
  const { motion, beyondSpeed, beyondTruth, paused } = compareOthers(truth, taken, tickMs);
  const ways = compareWays(taken, tickMs);
  return {
    ownTicks: own.errors.length,
    ownError: largest(own.errors),
    touchedTicks: own.touched.length,
    touchedError: largest(own.touched),
    touchedPerInput: largest(own.perInput),
    otherPlaces: motion.length,
    otherP50: percentile(motion, 0.5),
    otherP95: percentile(motion, 0.95),
    otherP99: percentile(motion, 0.99),
    otherLargest: largest(motion),
    otherPaused: paused,
    otherBeyond: largest(beyondTruth),
    botBeyond: largest(beyondSpeed),
    ownBeyond: largest(ways.map(({ beyond }) => beyond)),
    ownBeyondAllowed: largest(ways.map(({ beyond, most }) => beyond - most)),
  };
}

export function assertFeel(figures) {
  const text = JSON.stringify(figures, null, 2);
  const expect = (isKept, what) => assert.ok(isKept, `${what}: ${text}`);
  expect(figures.ownTicks >= COMPARED, "enough ticks to compare");
  expect(figures.ownError === 0, "where only own inputs move it, the prediction is the truth, bit for bit");
  expect(figures.touchedPerInput <= TOUCHED, `after a touch the error is ≤ ${TOUCHED} for each input in flight`);
  expect(figures.otherPlaces > 500 && figures.otherP95 <= MOTION_P95, `the p95 error of others is ≤ ${MOTION_P95}`);
  expect(figures.otherBeyond <= EXTRA, `no frame moves others by more than ${EXTRA} per tick beyond what the server has`);
  expect(figures.botBeyond <= JUMP, `no frame moves a bot by more than ${JUMP} per tick beyond its speed`);
  expect(figures.ownBeyondAllowed === 0, "no frame moves the own tank beyond its speed and its corrections");
}
