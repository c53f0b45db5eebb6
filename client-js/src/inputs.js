import { INPUT_WINDOW, PART_BODY_BYTES } from "./limits.js";
import { encode } from "./msgpack.js";

/** Bytes of a stamp, at most. */
export const STAMP_BYTES = 3;

/** The stamp of a tick, as on the wire: in sixteenths, modulo 2^16. */
const stamp = (tick) => Math.round(tick * 16) & 0xffff;

/** Encoded inputs that the server has not acknowledged, numbered by one each from `next`. */
export function createInputWindow(next) {
  const inputs = [];
  const newest = () => (next - 1) >>> 0;

  return {
    /** Takes an input and the tick that the player saw. Gives how many inputs there are. */
    push(encoded, seen) {
      next = (next + 1) >>> 0;
      inputs.push({ encoded, seen: stamp(seen) });
      if (inputs.length > INPUT_WINDOW) inputs.shift();
      return inputs.length;
    },

    /** The number of the newest input. */
    newest,

    /** The number that was taken modulo 2^16, of an input that the server has consumed. */
    unwrap: (ack) => (newest() - ((newest() - ack) & 0xffff)) >>> 0,

    /** Takes the number of the newest input consumed, modulo 2^16. Gives how many inputs are left. */
    acknowledge(ack) {
      const consumed = ((ack - (next - inputs.length)) & 0xffff) + 1;
      if (consumed <= inputs.length) inputs.splice(0, consumed);
      return inputs.length;
    },

    /** The body of an input frame: the newest input, and of those before it as many as fit one part. */
    body() {
      const number = encode(newest(), 5);
      const body = [0x92, ...number, 0x90];
      const stamps = [];
      let newer;
      let count = 0;
      for (let i = inputs.length - 1; i >= 0; i--) {
        const { encoded, seen } = inputs[i];
        const behind = encode(count ? ((newer - seen) << 16) >> 16 : seen, STAMP_BYTES);
        if (body.length + encoded.length + stamps.length + behind.length > PART_BODY_BYTES) break;
        // A spread takes several times as long.
        for (const byte of encoded) body.push(byte);
        stamps.push(...behind);
        newer = seen;
        count++;
      }
      body[0] += count;
      body[1 + number.length] += count;
      body.push(...stamps);
      return body;
    },
  };
}
