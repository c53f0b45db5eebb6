import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createCutter } from "../src/segments.js";
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
const time = (seconds) => element([0xe7], [seconds]);
const block = (number, isKey, width = 2) => element([0xa3], [0x80 | number, 0, 0, isKey ? 0x80 : 0, 0x1a, 0x45, 0x1f, 0x43], width);

const head = [...element(EBML, [1, 2, 3], 8), ...open(SEGMENT), ...element(INFO, [4]), ...element(TRACKS, [...track(1, 2), ...track(2, 1)])];
/** The video's first block is a keyframe, or not; sound is always one. */
const content = (seconds, isKey) => [...time(seconds), ...block(1, true), ...block(2, isKey), ...block(2, false, 4)];
const cluster = (seconds, isKey) => [...open(CLUSTER), ...content(seconds, isKey)];
const complete = (...contents) => Buffer.from(contents.flatMap((content) => element(CLUSTER, content, 8)));

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
    ...cluster(1, false),
    ...element(CLUSTER, content(2, true), 4),
    ...element(CUES, [7, 7]),
    ...cluster(3, true),
    ...cluster(4, true),
  ];
  const expected = {
    inits: [Buffer.from(head)],
    segments: [complete(content(0, true), content(1, false)), complete(content(2, true)), complete(content(3, true))],
  };

  test("is cut before the clusters that begin with a keyframe, in whichever pieces it comes", () => {
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
    const { segments } = cut([head, cluster(0, false), cluster(1, true), cluster(2, true), cluster(3, true)]);
    assert.deepEqual(segments, [complete(content(1, true)), complete(content(2, true))]);
  });

  test("without keyframes is left out once it is too long", () => {
    const long = () => [...cluster(0, false), ...element([0xa3], Array(300_000).fill(1), 4)];
    const parts = [head, cluster(0, true), ...Array.from({ length: 5 }, long), cluster(5, true), cluster(6, true)];
    assert.deepEqual(cut(parts).segments, [complete(content(5, true))]);
  });
});
