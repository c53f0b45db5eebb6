import { INPUT_WINDOW, PART_BODY_BYTES } from "./limits.js";
import { encode } from "./msgpack.js";

/** Encoded inputs that the server has not acknowledged, numbered by one each from `next`. */
export function createInputWindow(next) {
  const inputs = [];
  const newest = () => (next - 1) >>> 0;

  return {
    /** Gives how many inputs there are. */
    push(input) {
      next = (next + 1) >>> 0;
      inputs.push(input);
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
      const chosen = [];
      let bytes = number.length + 2;
      for (let i = inputs.length - 1; i >= 0; i--) {
        bytes += inputs[i].length;
        if (bytes > PART_BODY_BYTES) break;
        chosen.push(inputs[i]);
      }
      // A spread of `flat()` takes several times as long.
      const body = [0x92, ...number, 0x90 + chosen.length];
      for (const input of chosen) for (const byte of input) body.push(byte);
      return body;
    },
  };
}
