import { TICKS_PER_REQUEST } from "./limits.js";
import { fail } from "./msgpack.js";

/**
 * Brings the inputs of all players into the order of ticks: each tick once, none left out where it can be had.
 *
 * @param next the first tick to deliver
 * @param deliver called with `(tick, inputs)`
 * @param ask called with `(first, last)` to get missed ticks over the reliable lane
 * @param lose called with `(first, last)` of ticks that cannot be had any more
 */
export function createTickOrder(next, deliver, ask, lose) {
  const held = new Map();
  let askedLast = null;

  const hold = (tick, inputs) => {
    if (((tick - next) | 0) >= 0) held.set(tick, inputs);
  };
  /** How many ticks are missing before the oldest that is held. */
  const gap = () => {
    let least = Infinity;
    for (const tick of held.keys()) least = Math.min(least, (tick - next) >>> 0);
    return least;
  };
  const skip = () => {
    if (held.size === 0) return;
    const first = next;
    next = (first + gap()) >>> 0;
    lose(first, (next - 1) >>> 0);
  };
  const advance = () => {
    while (held.has(next)) {
      const tick = next;
      const inputs = held.get(tick);
      held.delete(tick);
      next = (tick + 1) >>> 0;
      deliver(tick, inputs);
    }
    if (held.size > TICKS_PER_REQUEST) {
      askedLast = null;
      skip();
      advance();
    } else if (held.size > 0 && askedLast === null) {
      askedLast = (next + Math.min(gap(), TICKS_PER_REQUEST) - 1) >>> 0;
      ask(next, askedLast);
    }
  };

  return {
    /** The inputs of `tick` and, after them, of the ticks before it. */
    window(tick, lists) {
      lists.forEach((inputs, age) => hold((tick - age) >>> 0, inputs));
      advance();
    },

    /** The answer to a request: the inputs of `first` and, after them, of the ticks after it. */
    answer(first, lists) {
      if (first >>> 0 !== first || lists.length > TICKS_PER_REQUEST) fail("shape");
      lists.forEach((inputs, offset) => hold((first + offset) >>> 0, inputs));
      // What was asked for and is not in the answer, the server has no more.
      const missing = askedLast !== null && ((askedLast - next) | 0) >= 0 && !held.has(next);
      askedLast = null;
      if (missing) skip();
      advance();
    },

    /** An answer that can't be read: asked again, it would be the same. What was asked for is lost. */
    fail() {
      askedLast = null;
      skip();
      advance();
    },
  };
}
