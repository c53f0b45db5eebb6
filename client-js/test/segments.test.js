import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { createCutter, playSegments } from "../src/segments.js";
import { randomBytes } from "./vectors.js";

// WebM by hand: elements of an ID, a length in as many bytes as wanted, and a body. Without a length it is open.
const lengthOf = (length, width = 1) =>
  length === null ? [0x01, ...Array(7).fill(0xff)] : Array.from({ length: width }, (_, n) => (n ? 0 : 0x80 >> (width - 1)) | ((length / 256 ** (width - 1 - n)) & 0xff));
const element = (id, body, width) => [...id, ...lengthOf(body.length, width), ...body];
const open = (id) => [...id, ...lengthOf(null)];
const EBML = [0x1a, 0x45, 0xdf, 0xa3];
const SEGMENT = [0x18, 0x53, 0x80, 0x67];
const INFO = [0x15, 0x49, 0xa9, 0x66];
const TRACKS = [0x16, 0x54, 0xae, 0x6b];
const CLUSTER = [0x1f, 0x43, 0xb6, 0x75];
const CUES = [0x1c, 0x53, 0xbb, 0x6b];
const track = (number, type) => element([0xae], [...element([0xd7], [number]), ...element([0x83], [type])]);
const block = (number, isKey, width = 2, at = 0) => element([0xa3], [0x80 | number, at >> 8, at & 0xff, isKey ? 0x80 : 0, 0x1a, 0x45, 0x1f, 0x43], width);
const group = (number, at) => element([0xa0], [...element([0x9b], [5]), ...element([0xa1], [0x80 | number, at >> 8, at & 0xff, 0, 9])]);

const head = [...element(EBML, [1, 2, 3], 8), ...open(SEGMENT), ...element(INFO, [4]), ...element(TRACKS, [...track(1, 2), ...track(2, 1)])];
/** The video's first block is a keyframe, or not; sound is always one. */
const blocks = (isKey, at = 0) => [...block(1, true, 2, at), ...block(2, isKey, 2, at), ...block(2, false, 4, at + 40), ...group(1, at + 50)];
const content = (ms, isKey) => [...element([0xe7], [ms >> 8, ms & 0xff]), ...blocks(isKey)];
const cluster = (ms, isKey) => [...open(CLUSTER), ...content(ms, isKey)];
const time = (ms) => element([0xe7], [0, 0, 0, 0, 0, 0, ms >> 8, ms & 0xff]);
const complete = (ms, ...blocks) => Buffer.from(element(CLUSTER, [...time(ms), ...blocks.flat()], 8));

function cut(parts) {
  const inits = [];
  const segments = [];
  const push = createCutter((init) => inits.push(Buffer.from(init)), (segment) => segments.push(Buffer.from(segment)));
  for (const part of parts) push(Uint8Array.from(part));
  return { inits, segments };
}

describe("a recording", () => {
  const stream = [
    ...head,
    ...cluster(0, true),
    ...cluster(300, false),
    ...element(CLUSTER, content(1_000, true), 4),
    ...element(CUES, [7, 7]),
    ...cluster(2_000, true),
    ...cluster(3_000, true),
  ];
  const expected = {
    inits: [Buffer.from(head)],
    segments: [complete(0, blocks(true), blocks(false, 300)), complete(1_000, blocks(true)), complete(2_000, blocks(true))],
  };

  test("is cut into clusters that begin with a keyframe, in whichever pieces it comes", () => {
    assert.deepEqual(cut([stream]), expected);
    assert.deepEqual(cut(stream.map((byte) => [byte])), expected);
    const random = randomBytes(1);
    for (let round = 0; round < 50; round++) {
      const parts = [];
      for (let at = 0; at < stream.length; at += parts.at(-1).length) parts.push(stream.slice(at, at + 1 + random.below(40)));
      assert.deepEqual(cut(parts), expected);
    }
  });

  test("begins with its first keyframe", () => {
    const { segments } = cut([head, cluster(0, false), cluster(100, true), cluster(200, true), cluster(300, true)]);
    assert.deepEqual(segments, [complete(100, blocks(true)), complete(200, blocks(true))]);
  });

  test("without keyframes is left out once it is too long", () => {
    const large = () => [...cluster(100, false), ...element([0xa3], Array(300_000).fill(1), 4)];
    for (const without of [Array.from({ length: 5 }, large), [cluster(15_000, false), cluster(30_000, false)]]) {
      const parts = [head, cluster(0, true), ...without, cluster(40_000, true), cluster(41_000, true)];
      assert.deepEqual(cut(parts).segments, [complete(40_000, blocks(true))]);
    }
  });
});

/** The ranges of a buffer of which segment `n` lasts from second `n` to the next. */
const rangesOf = (numbers) => {
  const ranges = [];
  for (const n of [...numbers].sort((a, b) => a - b)) {
    if (ranges.at(-1)?.[1] === n) ranges.at(-1)[1]++;
    else ranges.push([n, n + 1]);
  }
  return { length: ranges.length, start: (n) => ranges[n][0], end: (n) => ranges[n][1] };
};

describe("a player of segments", () => {
  const BAD = 99;
  let held, video, media, swarm, player, errors;

  beforeEach(() => {
    mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
    held = new Set();
    errors = [];
    globalThis.MediaSource = class {
      readyState = "closed";
      constructor() {
        media = this;
      }
      addSourceBuffer(type) {
        this.type = type;
        this.appended = [];
        this.removed = [];
        return (this.buffer = {
          get buffered() {
            return rangesOf(held);
          },
          appendBuffer: (bytes) => {
            const [n] = new Uint8Array(bytes);
            this.appended.push(n);
            if (n === BAD) this.readyState = "ended";
            else if (this.appended.length > 1) held.add(n);
            queueMicrotask(() => (n === BAD ? this.onsourceended() : this.buffer.onupdateend()));
          },
          remove: (from, to) => {
            this.removed.push(to);
            held.forEach((n) => n >= from && n + 1 <= to && held.delete(n));
          },
        });
      }
    };
    mock.method(URL, "createObjectURL", () => "blob:1");
    mock.method(URL, "revokeObjectURL", () => {});
    video = {
      currentTime: 0,
      paused: true,
      get buffered() {
        return rangesOf(held);
      },
      play: async () => void (video.paused = false),
      pause: () => (video.paused = true),
      removeAttribute: () => delete video.src,
      load() {},
    };
    const pending = new Map();
    swarm = {
      asked: [],
      fetch: (shared, { signal }) =>
        new Promise((resolve, reject) => {
          swarm.asked.push(shared);
          pending.set(Number(shared.sha256), (bytes) => resolve(new Blob([bytes])));
          signal.addEventListener("abort", () => reject(signal.reason));
        }),
      deliver: (n) => pending.get(n)(Uint8Array.of(n)),
    };
    player = playSegments(swarm, video, { type: "video/webm", init: Uint8Array.of(200), source: 7, onError: (error) => errors.push(error) });
    media.readyState = "open";
    media.onsourceopen();
  });
  afterEach(() => {
    player.close();
    mock.timers.reset();
    mock.restoreAll();
    delete globalThis.MediaSource;
  });

  const settle = async () => {
    for (let n = 0; n < 5; n++) await new Promise((resolve) => setImmediate(resolve));
  };
  const add = (n) => player.add({ sha256: `${n}`, bytes: 1 });
  const load = async (...numbers) => {
    for (const n of numbers) {
      add(n);
      swarm.deliver(n);
    }
    await settle();
  };
  /** Plays for so many seconds, as far as there is something to play. */
  const pass = async (seconds) => {
    for (let tenths = Math.round(seconds * 10); tenths > 0; tenths--) {
      const { buffered } = video;
      for (let n = 0; n < buffered.length; n++) {
        const isIn = buffered.start(n) <= video.currentTime && video.currentTime < buffered.end(n);
        if (isIn && !video.paused) video.currentTime = Math.min(video.currentTime + 0.1, buffered.end(n));
      }
      mock.timers.tick(100);
      await settle();
    }
  };

  test("begins 3 s behind the newest, and asks players for what it gets", async () => {
    await load(50, 51);
    await pass(0.5);
    assert.equal(video.paused, true);
    await load(52);
    assert.equal(video.paused, false);
    await pass(1);
    assert.ok(video.currentTime > 50.5, `${video.currentTime}`);
    assert.deepEqual(swarm.asked[0], { sha256: "50", bytes: 1, source: 7 });
    assert.deepEqual([media.type, media.appended], ["video/webm", [200, 50, 51, 52]]);
  });

  test("takes segments in any order, and goes past one that does not come", async () => {
    await load(12, 10);
    const missing = add(13);
    await load(11, 14, 15);
    await pass(2.7);
    assert.ok(video.currentTime < 13);
    await pass(1);
    assert.ok(video.currentTime > 14, `${video.currentTime}`);
    assert.equal(video.paused, false);
    await pass(6);
    assert.equal(await missing, false);
  });

  test("that has run out waits for 3 s", async () => {
    await load(0, 1, 2);
    await pass(4);
    assert.equal(video.paused, true);
    await load(3, 4);
    await pass(0.5);
    assert.equal(video.paused, true);
    await load(5);
    assert.equal(video.paused, false);
  });

  test("that is far behind goes on near the newest, and forgets what was played", async () => {
    await load(...Array.from({ length: 60 }, (_, n) => n));
    await pass(0.5);
    assert.ok(video.currentTime >= 52, `${video.currentTime}`);
    assert.ok(media.removed[0] > 30 && video.buffered.start(0) > 30);
  });

  test("ends with what the browser can't play", async () => {
    await load(BAD);
    assert.equal(errors.length, 1);
    assert.match(errors[0].message, /can't play/);
    assert.equal(video.src, undefined);
  });

  test("cancels what it loads when it is closed", async () => {
    const added = add(1);
    player.close();
    assert.equal(await added, false);
    assert.deepEqual(errors, []);
    await load(2);
    assert.deepEqual(media.appended, [200]);
  });
});
