/** How much faster or slower than the room's time the clock runs to correct itself. */
const SLEW = 0.05;
/** A clock that is off by more, as after sleep, is set. */
const OFF_LIMIT = 1_000;
/** Of the least delay; the one of the period before counts too. */
const PERIOD = 4_000;

/**
 * The room's time, from the ticks of the frames that arrive: those that were delayed least tell it. Times in
 * milliseconds.
 *
 * @param delay gives how long a frame takes at least
 */
export function createTickClock(now, tickMs, tick, delay) {
  /** When tick 0 would have arrived, of this period and of the one before. */
  let starts = [now() - tick * tickMs, Infinity];
  let periodEnds = now() + PERIOD;
  let shown;
  let shownAt;

  return {
    /** Takes the arrival of anything that the room sent in this tick or later. */
    arrive(tick) {
      const at = now();
      if (at >= periodEnds) {
        starts = [Infinity, at < periodEnds + PERIOD ? starts[0] : Infinity];
        periodEnds = at + PERIOD;
      }
      starts[0] = Math.min(starts[0], at - tick * tickMs);
    },

    /** The tick that the server has reached, with its fraction. */
    tick() {
      const at = now();
      const target = at - Math.min(...starts) + delay();
      const elapsed = at - shownAt;
      const off = target - shown - elapsed;
      // Also the first time.
      if (!(Math.abs(off) <= OFF_LIMIT)) shown = target;
      else shown += elapsed + Math.max(-SLEW * elapsed, Math.min(SLEW * elapsed, off));
      shownAt = at;
      return shown / tickMs;
    },
  };
}
