import { inflateSync } from "fflate";
import { decode, fail } from "./msgpack.js";
import {
  AT_TICK_WRAPPING,
  FRAME_PARTS,
  MSGPACK_DEPTH,
  PART_BODY_BYTES,
  RELIABLE_DOWN_BYTES,
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
const u16 = (n) => [n & 0xff, (n >>> 8) & 0xff];
const u32 = (n) => [...u16(n), ...u16(n >>> 16)];

/** An unreliable frame; `seq` and `ack` are taken modulo 2^16. */
export const unreliableFrame = (kind, seq, ack, body) => Uint8Array.from([kind, ...u16(seq), ...u16(ack), ...body]);

/** A reliable frame. */
export const reliableFrame = (kind, seq, tick, body) => Uint8Array.from([kind, ...u32(seq), ...u32(tick), ...body]);

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
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const frame = { kind, deflated, part: null, body };
  if (reliable) return { ...frame, seq: view.getUint32(1, true), tick: view.getUint32(5, true) };

  if (parted) {
    const index = bytes[1] >> 4;
    const count = (bytes[1] & 0x0f) + 1;
    if (count < 2 || count > FRAME_PARTS || index >= count) fail("part");
    frame.part = { index, count };
  }
  return { ...frame, seq: view.getUint16(headerBytes - 4, true), ack: view.getUint16(headerBytes - 2, true) };
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
    parts[index] = [...frame.body];
    const present = parts.filter(Boolean);
    return present.length === count ? { ...frame, body: Uint8Array.from(present.flat()) } : undefined;
  };
}

const inflateBuffers = {};

const inflate = (body, limit) => {
  // One byte more than the limit, because fflate stops without a word where its output is full.
  const out = (inflateBuffers[limit] ??= new Uint8Array(limit + 1));
  // And of no input at all it makes a full output.
  if (body.length === 0) fail("inflate");
  let inflated;
  try {
    inflated = inflateSync(body, { out });
  } catch {
    fail("inflate");
  }
  if (inflated.length > limit) fail("too_large");
  return inflated;
};

/**
 * The value in the body of a whole frame.
 * @throws {WireError} `inflate`, `too_large`, or what `decode` throws.
 */
export function decodeBody({ kind, deflated, body }) {
  const bytes = deflated ? inflate(body, bodyLimit(kind)) : body;
  const wrapping = kind === TICK || kind === TICKS ? TICKS_WRAPPING : AT_TICK_WRAPPING;
  // All inputs of a tick together have more elements than one value may have, but none without a byte.
  return decode(bytes, MSGPACK_DEPTH + wrapping, bytes.length);
}
