/** Samples per second, and how long they are kept. */
const RATE = 4;
export const SAMPLE_MS = 1_000 / RATE;
export const SAMPLES_KEPT = 60 * RATE;

/** What is drawn: each graph with its series, their units, and what a page must use to have them. */
export const GRAPHS = [
  { key: "rtt", title: "Round trip", unit: "ms", series: ["rtt"] },
  { key: "jitter", title: "Jitter", unit: "ms", series: ["jitter"] },
  { key: "loss", title: "Loss", unit: "%", series: ["loss"] },
  { key: "bytes", title: "Bytes/s", unit: "bytes", series: ["down", "up"] },
  { key: "gap", title: "Tick gap", unit: "ms", series: ["gap"] },
  { key: "delay", title: "Interpolation delay", unit: "ms", series: ["delay"], needs: "rtcade/interpolate" },
  { key: "error", title: "Prediction error", unit: "", series: ["error"], needs: "rtcade/predict" },
  { key: "corrections", title: "Corrections", unit: "/s", series: ["corrections"], needs: "rtcade/predict" },
];

const finite = (value) => (Number.isFinite(value) ? value : null);

/**
 * Samples of all graphs, the oldest first.
 *
 * @param instances the newest of `predict` and `interpolate` that the page uses, by kind
 */
export function createMeter(instances) {
  const samples = [];

  /** What a counter has gained in the last second. */
  const rateOf = (history, value) => {
    history.push(value);
    if (history.length > RATE + 1) history.shift();
    // A new session counts from 0 again.
    return Math.max(0, ((value - history[0]) * RATE) / Math.max(1, history.length - 1));
  };
  const rates = { up: [], down: [], corrections: [] };

  return {
    samples,

    take(messages) {
      const { session, counters } = messages;
      const stats = session?.link.stats();
      const predict = instances.predict?.stats;
      const corrections = finite(predict?.corrections);
      samples.push({
        rtt: finite(stats?.rtt),
        jitter: finite(stats?.jitter),
        loss: stats ? stats.loss * 100 : null,
        up: rateOf(rates.up, counters.up),
        down: rateOf(rates.down, counters.down),
        gap: messages.takeTickGap(),
        delay: finite(instances.interpolate?.delay),
        error: finite(predict?.lastError),
        corrections: corrections === null ? null : rateOf(rates.corrections, corrections),
      });
      if (samples.length > SAMPLES_KEPT) samples.shift();
    },
  };
}
