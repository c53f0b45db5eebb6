import { inflate } from "./inflate.js";
import { decode, fail } from "./msgpack.js";
import {
  AT_TICK_WRAPPING,
  FRAME_PARTS,
  MSGPACK_DEPTH,
  PART_BODY_BYTES,
  RELIABLE_DOWN_BYTES,
  STATE_BODY_BYTES,
  TICKS_WRAPPING,
  UNRELIABLE_BODY_BYTES,
} from "./limits.js";

export const INPUT = 1;
export const PING = 2;
export const PONG = 3;
export const STATE = 4;
export const TICK = 5;
export const EVENT = 6;
export const COMMAND = 7;
export const TICKS = 8;
export const RELIABLE_EVENT = 9;
export const ACK = 10;

const DEFLATED = 0x20;
const PARTED = 0x10;

const isReliable = (kind) => kind >= COMMAND;
const bodyLimit = (kind) => (isReliable(kind) ? RELIABLE_DOWN_BYTES : UNRELIABLE_BODY_BYTES);
export const getU16 = (bytes, at) => bytes[at] | (bytes[at + 1] << 8);
const getU32 = (bytes, at) => getU16(bytes, at) + getU16(bytes, at + 2) * 0x10000;

/** The frame with `width` bytes for each of two numbers, taken modulo what these hold. */
const frame = (kind, first, second, width, body) => {
  const bytes = new Uint8Array(1 + 2 * width + body.length);
  bytes[0] = kind;
  for (let n = 0; n < width; n++) {
    bytes[1 + n] = first >>> (8 * n);
    bytes[1 + width + n] = second >>> (8 * n);
  }
  bytes.set(body, 1 + 2 * width);
  return bytes;
};

/** An unreliable frame; `seq` and `ack` are taken modulo 2^16. */
export const unreliableFrame = (kind, seq, ack, body) => frame(kind, seq, ack, 2, body);

/** A reliable frame. */
export const reliableFrame = (kind, seq, tick, body) => frame(kind, seq, tick, 4, body);

/**
 * Takes a frame from the server apart: `{kind, deflated, part: null | {index, count}, seq, ack | tick, body}`, where
 * `body` is a view into `bytes`.
 * @throws {WireError} `truncated`, `version`, `kind`, `lane`, `part` or `too_large`.
 */
export function decodeFrame(bytes, overWebsocket) {
  if (bytes.length === 0) fail("truncated");
  const kind = bytes[0] & 0x0f;
  const deflated = (bytes[0] & DEFLATED) !== 0;
  const parted = (bytes[0] & PARTED) !== 0;
  const reliable = isReliable(kind);
  if (bytes[0] >> 6 !== 0) fail("version");
  if (kind < PING || kind === COMMAND || kind > ACK) fail("kind");
  if (reliable && !overWebsocket) fail("lane");
  if (reliable && parted) fail("part");

  const headerBytes = reliable ? 9 : parted ? 6 : 5;
  if (bytes.length < headerBytes) fail("truncated");
  const body = bytes.subarray(headerBytes);
  if (body.length > (parted ? PART_BODY_BYTES : bodyLimit(kind))) fail("too_large");
  if (reliable) return { kind, deflated, part: null, seq: getU32(bytes, 1), tick: getU32(bytes, 5), body };

  let part = null;
  if (parted) {
    const index = bytes[1] >> 4;
    const count = (bytes[1] & 0x0f) + 1;
    if (count < 2 || count > FRAME_PARTS || index >= count) fail("part");
    part = { index, count };
  }
  return { kind, deflated, part, seq: getU16(bytes, headerBytes - 4), ack: getU16(bytes, headerBytes - 2), body };
}

/**
 * Puts parted frames together again: gives a function of a frame and its sequence number, not wrapped, that returns the
 * whole frame once there is one. Keeps one unfinished frame, the newest.
 */
export function createAssembler() {
  let newest = -1;
  let parts = [];

  return (frame, seq) => {
    if (!frame.part) return frame;
    const { index, count } = frame.part;
    const first = seq - index;
    if (first < newest) return undefined;
    if (first > newest) {
      newest = first;
      parts = [];
    }
    // Parts that don't belong together are caught when the body is read.
    parts[index] = frame.body;
    const present = parts.filter(Boolean);
    if (present.length !== count) return undefined;
    const body = new Uint8Array(present.reduce((bytes, { length }) => bytes + length, 0));
    let at = 0;
    for (const part of present) {
      body.set(part, at);
      at += part.length;
    }
    return { ...frame, body };
  };
}

/** By size: what is inflated is read before the next. */
const buffers = {};

/**
 * The value in the body of a whole frame; `states` are those that deltas may be against.
 * @throws {WireError} `inflate`, `too_large`, or what `restore` or `decode` throws.
 */
export function decodeBody({ kind, deflated, body }, states) {
  const isState = kind === STATE;
  const limit = isState ? STATE_BODY_BYTES : bodyLimit(kind);
  let bytes = deflated ? inflate(body, (buffers[limit] ??= new Uint8Array(limit))) : body;
  if (isState && states) bytes = states.restore(bytes);
  const wrapping = kind === TICK || kind === TICKS ? TICKS_WRAPPING : AT_TICK_WRAPPING;
  // All inputs of a tick together have more elements than one value may have, but none without a byte.
  return decode(bytes, MSGPACK_DEPTH + wrapping, bytes.length);
}
