import { getU16 } from "./frame.js";
import { STATE_BODY_BYTES, STATE_HISTORY } from "./limits.js";
import { fail } from "./msgpack.js";

/** The first byte of a delta, which begins no msgpack, and the second: the codec and its version. */
const DELTA = 0xc1;
const BYTE_WISE = 1;
const HEADER_BYTES = 6;

/** The ticks before the newest that an acknowledgement covers. */
const BEFORE = 6;

/** CRC32c (RFC 3720 §12.1), by byte. */
const crcs = new Uint32Array(256).map((_, crc) => {
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 && 0x82f63b78);
  return crc;
});

/** The states received, as baselines of the deltas to come, of a player who joined in `newest`. */
export function createStates(newest) {
  const held = new Map();
  const out = new Uint8Array(STATE_BODY_BYTES);
  let before = 0;
  let restored;
  newest--;

  return {
    /**
     * The whole body, valid until the next: that of a delta, or `body` itself.
     * @throws {WireError} `delta` where it can't be read or the baseline is not held.
     */
    restore(body) {
      restored = body;
      if (body[0] !== DELTA) return body;
      const baseline = held.get(getU16(body, 2));
      if (!baseline || body[1] !== BYTE_WISE || body.length < HEADER_BYTES) fail("delta");
      let at = HEADER_BYTES;
      let from = 0;
      let to = 0;
      let crc = -1;
      const put = (byte) => {
        out[to++] = byte;
        crc = (crc >>> 8) ^ crcs[(crc ^ byte) & 0xff];
      };
      const number = () => {
        for (let n = 0, shift = 0; shift < 21; shift += 7) {
          const byte = body[at++];
          n |= (byte & 0x7f) << shift;
          if (byte < 0x80) return n;
        }
        fail("delta");
      };
      while (at < body.length) {
        const operation = body[at++];
        let copy = operation >> 4;
        let insert = (operation >> 1) & 7;
        if (copy === 15) copy += number();
        if (insert === 7) insert += number();
        const skip = operation & 1 ? number() : 0;
        const isInside = copy === 0 || (from >= 0 && from + copy <= baseline.length);
        if (!isInside || at + insert > body.length || to + copy + insert > out.length) fail("delta");
        const next = from + copy + insert + ((skip >> 1) ^ -(skip & 1));
        while (copy-- > 0) put(baseline[from++]);
        while (insert-- > 0) put(body[at++]);
        from = next;
      }
      if ((~crc & 0xffff) !== getU16(body, 4)) fail("delta");
      return (restored = out.subarray(0, to));
    },

    /** Keeps what was restored last: the state of `tick`, newer than those before. */
    keep(tick) {
      const ahead = tick - newest;
      before = held.size === 0 || ahead > BEFORE ? 0 : (((before << 1) | 1) << (ahead - 1)) & ((1 << BEFORE) - 1);
      newest = tick;
      held.delete(tick & 0xffff);
      held.set(tick & 0xffff, restored.slice());
      if (held.size > STATE_HISTORY) held.delete(held.keys().next().value);
    },

    /** What a frame to the server acknowledges: the newest tick, and in six bits which of those before it. */
    acknowledgement: () => (newest & 0x3ff) | (before << 10),
  };
}
