import { RtcadeError } from "./error.js";
import {
  ACK,
  COMMAND,
  createAssembler,
  decodeBody,
  decodeFrame,
  EVENT,
  INPUT,
  PING,
  PONG,
  reliableFrame,
  RELIABLE_EVENT,
  TICK,
  TICKS,
  unreliableFrame,
} from "./frame.js";
import { createTickClock } from "./clock.js";
import { createInputWindow, STAMP_BYTES } from "./inputs.js";
import {
  INPUT_INTERVAL,
  INPUT_REPEAT,
  INPUT_WINDOW,
  PART_BODY_BYTES,
  RELIABLE_UP_BYTES,
  REPEATED_PER_TICK,
  STATES_UNREPORTED,
  UNACKNOWLEDGED_BYTES,
} from "./limits.js";
import { createLink } from "./link.js";
import { encode, fail } from "./msgpack.js";
import { createStates } from "./states.js";
import { createTickOrder } from "./ticks.js";

/** An array of one 64-bit number. */
const PING_BYTES = 10;
/** Two arrays, and a number of 32 bits. */
const INPUTS_HEAD_BYTES = 7;
/** Windows of inputs that leave before their time: no more wait in the server, beside those of its next tick. */
const WINDOWS_AHEAD = 3;

const isNewer = (tick, than) => ((tick - than) | 0) > 0;
const namedInputs = (lists) =>
  lists.map((list) => list.map(([player, number, input]) => ({ player, number, input })));

/**
 * Both lanes of a session, whatever carries them: numbers what goes out, repeats it until it is acknowledged, and takes
 * each thing that comes in once.
 *
 * @param reply what `join`, or `reconnect` of a page that was loaded anew, has given
 * @param emit called with the events of the game
 * @param transmit takes an unreliable frame; false where it can't leave now
 * @param transmitReliable takes a reliable frame
 * @param onInputs called with true where inputs were sent, with false where some were acknowledged
 */
export function createLanes({ now, setTimeout, clearTimeout }, reply, emit, transmit, transmitReliable, onInputs = () => {}) {
  const { tickMs, last: hadCommand = 0, reliableSeq = 1 } = reply;
  const link = createLink(now, tickMs);
  const clock = createTickClock(now, tickMs, reply.tick, link.leastDelay);
  const assemble = createAssembler();
  const inputs = createInputWindow(reply.inputSeq);
  const states = createStates(reply.tick);
  /** States received since a frame was sent. */
  let unreported = 0;
  let sequence = 0;
  let newestTick = reply.tick;
  let stateTick = null;
  let flushTimer;
  let flushedAt = -Infinity;
  let waiting = 0;
  /** Inputs that no frame has carried, their bytes, and the frames that left early so that more have room. */
  let unsent = 0;
  let unsentBytes = 0;
  let ahead = 0;

  /** Reliable frames that the server has not acknowledged, and how many of them this websocket has taken. */
  let kept = [];
  let sent = 0;
  let keptBytes = 0;
  let reliableSequence = hadCommand + 1;
  let received = reliableSeq - 1;
  let acknowledged = received;
  let repeatTimer;

  const sendUnreliable = (kind, body, send = transmit) => {
    unreported = 0;
    if (send(unreliableFrame(kind, sequence, states.acknowledgement(), body))) sequence++;
    else link.counters.dropped++;
  };
  const flushIn = (wait) => {
    clearTimeout(flushTimer);
    flushTimer = setTimeout(flushInTime, wait);
  };
  const flush = () => {
    flushedAt = now();
    unsent = unsentBytes = 0;
    sendUnreliable(INPUT, inputs.body());
    onInputs(true);
    flushIn(INPUT_REPEAT);
  };
  const flushInTime = () => {
    ahead = 0;
    flush();
  };

  const sendKept = () => {
    repeatTimer = undefined;
    for (let n = 0; n < REPEATED_PER_TICK && sent < kept.length; n++) transmitReliable(kept[sent++].frame);
    if (sent < kept.length) repeatTimer = setTimeout(sendKept, tickMs);
  };
  const sendReliable = (kind, body) => {
    const frame = reliableFrame(kind, reliableSequence, newestTick, body);
    kept.push({ seq: reliableSequence++, frame });
    keptBytes += frame.length;
    if (repeatTimer === undefined && sent !== null) sendKept();
  };
  const forget = (newest) => {
    while (kept.length > 0 && kept[0].seq <= newest) {
      keptBytes -= kept.shift().frame.length;
      if (sent > 0) sent--;
    }
  };
  const acknowledge = () => {
    acknowledged = received;
    transmitReliable(reliableFrame(ACK, 0, newestTick, encode([received], PING_BYTES)));
  };

  const ticks = createTickOrder(
    reply.tick,
    (tick, inputs) => emit("tick", { tick, inputs }),
    (first, last) => sendReliable(TICKS, encode([first, last], RELIABLE_UP_BYTES)),
    (first, last) =>
      emit("error", new RtcadeError("game", "ticks_lost", `Ticks ${first} to ${last} are lost. The game continues.`)),
  );
  const sawTick = (tick) => {
    if (tick >>> 0 !== tick) fail("shape");
    clock.arrive(tick);
    if (isNewer(tick, newestTick)) newestTick = tick;
  };
  const handleBody = ({ kind, ack }, [first, ...rest]) => {
    if (kind === PING) return sendUnreliable(PONG, encode([first], PING_BYTES));
    if (kind === PONG) {
      sawTick(rest[1]);
      if (!Number.isFinite(first + rest[0])) fail("shape");
      return link.pong(first);
    }
    if (kind === TICKS) return ticks.answer(first, namedInputs(rest));
    if (kind === ACK) {
      forget(first);
      if (received !== acknowledged) acknowledge();
      return;
    }

    sawTick(first);
    if (kind === EVENT) emit("event", rest[0], first, "unreliable");
    else if (kind === RELIABLE_EVENT) emit("event", rest[0], first, "reliable");
    else {
      link.arrive(first);
      if (kind === TICK) ticks.window(first, namedInputs(rest));
      else if (stateTick !== null && !isNewer(first, stateTick)) link.counters.late++;
      else {
        stateTick = first;
        states.keep(first);
        emit("state", rest[0], { tick: first, consumed: inputs.unwrap(ack) });
        if (++unreported >= STATES_UNREPORTED) sendUnreliable(INPUT, inputs.body());
      }
    }
  };

  return {
    link,
    sendUnreliable,
    ping: (send) => sendUnreliable(PING, encode([now()], PING_BYTES), send),

    /** Takes a frame: its kind, where it is whole and new. @throws {WireError} where it can't be read. */
    handle(bytes, overWebsocket) {
      const frame = decodeFrame(bytes, overWebsocket);
      let whole = frame;
      if ("ack" in frame) {
        const unwrapped = link.receive(frame.seq);
        if (unwrapped === undefined) return;
        const left = inputs.acknowledge(frame.ack);
        if (left < waiting) onInputs(false);
        waiting = left;
        if (left === 0) clearTimeout(flushTimer);
        whole = assemble(frame, unwrapped);
      } else {
        sawTick(frame.tick);
        // The server repeats what it has not seen acknowledged.
        if (frame.kind !== ACK && frame.seq <= received) return;
        if (frame.kind !== ACK) received = frame.seq;
      }
      if (!whole) return;
      try {
        handleBody(whole, decodeBody(whole, states));
      } catch (error) {
        if (frame.kind === TICKS) ticks.fail();
        throw error;
      }
      return frame.kind;
    },

    /** Gives the number of the input. `seen` is the tick that the player saw, or what is no tick. */
    send(encoded, seen) {
      const bytes = encoded.length + STAMP_BYTES;
      const isFull = unsent === INPUT_WINDOW || unsentBytes + bytes > PART_BODY_BYTES - INPUTS_HEAD_BYTES;
      if (isFull && ahead < WINDOWS_AHEAD) {
        ahead++;
        flush();
      }
      waiting = inputs.push(encoded, Number.isFinite(seen) ? seen : (stateTick ?? newestTick));
      unsent++;
      unsentBytes += bytes;
      const wait = flushedAt + INPUT_INTERVAL - now();
      if (wait <= 0) flushInTime();
      // Not each time: where the clock stands still, the wait would begin anew with each input.
      else if (unsent === 1) flushIn(Math.min(wait, INPUT_INTERVAL));
      return inputs.newest();
    },

    command(encoded) {
      if (keptBytes + encoded.length > UNACKNOWLEDGED_BYTES)
        throw new RtcadeError("game", "backlog", "64 KiB of commands are not acknowledged yet. Send fewer.");
      sendReliable(COMMAND, encoded);
    },

    /** The websocket is gone: what is reliable waits for the next. */
    drop() {
      clearTimeout(repeatTimer);
      repeatTimer = undefined;
      sent = null;
    },

    /** A new websocket carries the session on; the server has had everything up to `newest`. */
    resume({ tick, last: newest }) {
      if (isNewer(tick, newestTick)) newestTick = tick;
      forget(newest);
      sent = 0;
      acknowledge();
      sendKept();
    },

    stop() {
      clearTimeout(flushTimer);
      clearTimeout(repeatTimer);
    },

    serverTick: clock.tick,

    get received() {
      return received;
    },

    get tick() {
      return newestTick;
    },
  };
}
