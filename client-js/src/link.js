const LOSS_WINDOW = 256;
const ROUND_TRIPS = 16;
const RATE_WINDOW = 1_000;

/** Measures the link from the frames that arrive. Times in milliseconds. */
export function createLink(now, tickMs) {
  const counters = { received: 0, duplicate: 0, late: 0, bad: 0, dropped: 0 };
  const seen = new Uint8Array(LOSS_WINDOW);
  let first;
  let newest;
  let rtt = null;
  let jitter = 0;
  let roundTrips = [];
  let leastDelay = 0;
  let arrivals = [];
  let last;

  const link = {
    counters,
    /** Our clock at the latest ping that was answered. */
    answered: undefined,

    /** Takes the sequence number of an unreliable frame. Gives it unwrapped, or `undefined` if it came before. */
    receive(seq) {
      first ??= newest = seq;
      const unwrapped = newest + (((seq - newest) << 16) >> 16);
      for (let n = Math.max(newest, unwrapped - LOSS_WINDOW) + 1; n <= unwrapped; n++) seen[n % LOSS_WINDOW] = 0;
      newest = Math.max(newest, unwrapped);
      const slot = unwrapped & (LOSS_WINDOW - 1);
      // What is older than the window cannot be told from a duplicate any more.
      if (unwrapped <= newest - LOSS_WINDOW || seen[slot]) {
        counters.duplicate++;
        return undefined;
      }
      first = Math.min(first, unwrapped);
      seen[slot] = 1;
      counters.received++;
      return unwrapped;
    },

    /** Takes the arrival of a tick's frame: jitter as in RFC 3550 §6.4.1, with the tick as the sender's clock. */
    arrive(tick) {
      const at = now();
      if (last) {
        const ticks = (tick - last.tick) | 0;
        if (ticks <= 0) return;
        jitter += (Math.abs(at - last.at - ticks * tickMs) - jitter) / 16;
      }
      last = { tick, at };
      arrivals = [...arrivals.filter((arrival) => arrival > at - RATE_WINDOW), at];
    },

    /** Takes a pong: our clock when we pinged. */
    pong(clock) {
      const at = now();
      link.answered = clock;
      const sample = Math.max(0, at - clock);
      rtt = rtt === null ? sample : rtt + (sample - rtt) / 8;
      roundTrips = [...roundTrips.slice(1 - ROUND_TRIPS), sample];
      leastDelay = Math.min(...roundTrips) / 2;
    },

    /** Round trips over another transport say nothing about the new one. */
    restart() {
      rtt = null;
      roundTrips = [];
    },

    /**
     * How long a frame takes at least: half of the quickest round trip, whose halves differ least. Another transport has
     * that of the one before until it is measured, so that the room's clock does not go astray.
     */
    leastDelay: () => leastDelay,

    stats: () => ({
      rtt,
      jitter,
      loss: first === undefined ? 0 : 1 - seen.reduce((sum, one) => sum + one) / Math.min(LOSS_WINDOW, newest - first + 1),
      tickRate: arrivals.filter((arrival) => arrival > now() - RATE_WINDOW).length,
      ...counters,
    }),
  };
  return link;
}
