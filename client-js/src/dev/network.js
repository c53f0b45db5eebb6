/**
 * A network between a page and its server, in user space: what the sliders of the dev page set. Times in milliseconds,
 * shares in percent, `up` to the server and `down` from it.
 */

export const WAYS = ["up", "down"];

/** How much longer a reordered datagram takes, so that those behind it overtake it. */
export const REORDER_MS = 60;
/** Payload of a full TCP segment on a path with an MTU of 1,500 bytes. */
const SEGMENT_BYTES = 1_460;
/** A lost segment is sent again after a round trip and this time, then after twice as long, and so on. */
const RETRANSMIT_MS = 200;
const RETRANSMITS_MAX = 6;
/** The handshakes of TCP (RFC 9293 §3.5) and of the websocket (RFC 6455 §1.3). */
const OPENING_ROUND_TRIPS = 2;

const QUIET = { latency: 0, jitter: 0, loss: 0, duplication: 0, reordering: 0 };
const both = (path) => ({ up: { ...QUIET, ...path }, down: { ...QUIET, ...path } });

export const PRESETS = {
  Off: both({}),
  "Good Wi-Fi": both({ latency: 5, jitter: 6, loss: 0.1 }),
  "4G": both({ latency: 30, jitter: 25, loss: 0.5 }),
  "Bad hotel": both({ latency: 60, jitter: 80, loss: 4, duplication: 0.5, reordering: 3 }),
  "150 ms + 5 %": both({ latency: 75, loss: 5 }),
};

/** What the sliders reach, and their steps. */
export const RANGES = {
  latency: { max: 500, step: 5, unit: "ms" },
  jitter: { max: 200, step: 1, unit: "ms" },
  loss: { max: 50, step: 0.5, unit: "%" },
  duplication: { max: 50, step: 0.5, unit: "%" },
  reordering: { max: 50, step: 0.5, unit: "%" },
};

const SEED_MAX = 2 ** 32 - 1;

/** Settings with everything in its range, whatever `from` is. */
export function settingsFrom(from) {
  const number = (value, max) => Math.min(max, Math.max(0, Number(value) || 0));
  const path = (way) => Object.fromEntries(Object.keys(RANGES).map((key) => [key, number(from?.[way]?.[key], RANGES[key].max)]));
  return { seed: Math.floor(number(from?.seed ?? 1, SEED_MAX)), isUdpSilent: false, up: path("up"), down: path("down") };
}

/** Of the random numbers of one packet, which. */
const LOSS = 0, DUPLICATION = 1, REORDERING = 2, JITTER = 3, COPY = 8;
const DATAGRAM = 0, SEGMENT = 1;

/** A number from 0 to 1, by the integers alone. */
export function draw(...integers) {
  let hash = 0x2545f491;
  for (const integer of integers) {
    hash = Math.imul(hash ^ integer, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca77);
    hash ^= hash >>> 13;
  }
  return (hash >>> 0) / 2 ** 32;
}

/** The delays of datagram `number` and of its copy, if there is one; none where it is lost. */
export function datagramDelays(settings, way, number) {
  const { latency, jitter, loss, duplication, reordering } = settings[way];
  const luck = (what) => draw(settings.seed, WAYS.indexOf(way), DATAGRAM, number, what);
  if (settings.isUdpSilent || luck(LOSS) < loss / 100) return [];
  const copies = luck(DUPLICATION) < duplication / 100 ? [0, COPY] : [0];
  const late = (copy) => (luck(REORDERING + copy) < reordering / 100 ? REORDER_MS : 0);
  return copies.map((copy) => latency + luck(JITTER + copy) * jitter + late(copy));
}

const roundTrip = ({ up, down }) => up.latency + down.latency;

/**
 * How long message `number` of a TCP stream takes, where nothing before it is late: the slowest of its segments counts,
 * each sent again until it is not lost. TCP delivers each byte once and in order, so loss shows as delay, and duplication
 * and reordering do not show.
 */
export function streamDelay(settings, way, number, bytes) {
  const { latency, jitter, loss } = settings[way];
  const luck = (...what) => draw(settings.seed, WAYS.indexOf(way), SEGMENT, number, ...what);
  let slowest = 0;
  for (let segment = 0; segment === 0 || segment * SEGMENT_BYTES < bytes; segment++) {
    let wait = 0;
    for (let attempt = 0; attempt < RETRANSMITS_MAX && luck(LOSS, segment, attempt) < loss / 100; attempt++) {
      wait += roundTrip(settings) + RETRANSMIT_MS * 2 ** attempt;
    }
    slowest = Math.max(slowest, wait);
  }
  return latency + luck(JITTER) * jitter + slowest;
}

/** One way of a data channel: gives what takes a datagram and returns how many times it will be delivered. */
export function createDatagrams({ setTimeout }, settings, way, deliver) {
  let number = 0;
  return (datagram) => {
    const delays = datagramDelays(settings, way, number++);
    for (const delay of delays) {
      if (delay > 0) setTimeout(() => deliver(datagram), delay);
      else deliver(datagram);
    }
    return delays.length;
  };
}

/** One way of a TCP stream: gives what takes an action and the bytes that it stands for. */
export function createStream({ now, setTimeout }, settings, way) {
  const waiting = [];
  let number = 0;
  let freeAt = -Infinity;

  return (action, bytes = 0, isOpening = false) => {
    const opening = isOpening ? OPENING_ROUND_TRIPS * roundTrip(settings) : 0;
    const at = now();
    freeAt = Math.max(freeAt, at + streamDelay(settings, way, number++, bytes) + opening);
    if (freeAt <= at && waiting.length === 0) return action();
    waiting.push(action);
    // Timers are rounded, so the order is that of the queue.
    setTimeout(() => waiting.shift()(), freeAt - at);
  };
}
