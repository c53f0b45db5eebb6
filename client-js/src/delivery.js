import { PONG, STATE, TICK } from "./frame.js";
import { CHANNEL_SILENCE } from "./limits.js";

/** A stream has stopped after this, or after the time of so many arrivals: losses and back-off leave shorter gaps. */
const STOPPED = 250;
const MISSED = 10;
/** Fewer arrivals say little about their interval. */
const ARRIVALS = 8;
/** A timer that comes so late is that of a page that was frozen: it has yet to read what came meanwhile. */
const FROZEN = 250;

/**
 * Watches whether an open data channel delivers, either way. It is in doubt where a steady stream of states stops, long
 * before it counts as silent, and where inputs stay unacknowledged; until the answer to a ping has come over it, which
 * shows that both ways deliver.
 *
 * @param onDoubt called where doubt begins
 */
export function createDelivery({ now, setTimeout, clearTimeout }, onDoubt) {
  let newest;
  let arrivals;
  let interval;
  let timer;
  let due;
  let unacknowledgedSince;
  let sentAt;

  const reset = () => {
    clearTimeout(timer);
    timer = newest = unacknowledgedSince = undefined;
    arrivals = 0;
    delivery.doubtedAt = null;
  };
  const doubt = () => {
    if (delivery.doubtedAt !== null) return;
    reset();
    delivery.doubtedAt = now();
    onDoubt();
  };
  const patience = () => Math.max(STOPPED, MISSED * interval);
  const look = (wait) => {
    due = now() + wait;
    timer = setTimeout(() => {
      timer = undefined;
      const left = newest + patience() - now();
      if (left > 0) look(left);
      else if (now() - due > FROZEN) look(patience());
      else doubt();
    }, wait);
  };
  const arrive = () => {
    const at = now();
    if (newest !== undefined) {
      const since = Math.min(at - newest, CHANNEL_SILENCE);
      interval = arrivals++ ? interval + (since - interval) / 8 : since;
    }
    newest = at;
    if (timer === undefined && arrivals >= ARRIVALS && patience() < CHANNEL_SILENCE) look(patience());
  };

  const delivery = {
    doubtedAt: null,
    reset,

    /** A frame of that kind has come over the channel. */
    heard(kind) {
      if (kind === PONG) delivery.doubtedAt = null;
      if (kind === STATE || kind === TICK) arrive();
    },

    /** Inputs went over the channel; a game takes them with its next tick. */
    sent(tickMs) {
      const at = now();
      if (at - sentAt > CHANNEL_SILENCE / 2) unacknowledgedSince = undefined;
      sentAt = at;
      unacknowledgedSince ??= at;
      if (at - unacknowledgedSince > CHANNEL_SILENCE + tickMs) doubt();
    },

    acknowledged() {
      unacknowledgedSince = undefined;
    },
  };
  reset();
  return delivery;
}
