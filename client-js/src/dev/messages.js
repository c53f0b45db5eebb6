import {
  ACK,
  COMMAND,
  createAssembler,
  decodeFrame,
  EVENT,
  INPUT,
  PING,
  PONG,
  RELIABLE_EVENT,
  STATE,
  TICK,
  TICKS,
} from "../frame.js";
import { inflate } from "../inflate.js";
import { MSGPACK_DEPTH, RELIABLE_DOWN_BYTES, STATE_BODY_BYTES, TICKS_WRAPPING } from "../limits.js";
import { createLink } from "../link.js";
import { decode } from "../msgpack.js";
import { createStates } from "../states.js";

const KINDS = {
  [INPUT]: "input",
  [PING]: "ping",
  [PONG]: "pong",
  [STATE]: "state",
  [TICK]: "tick",
  [EVENT]: "event",
  [COMMAND]: "command",
  [TICKS]: "ticks",
  [RELIABLE_EVENT]: "event",
  [ACK]: "ack",
};
const MESSAGES_KEPT = 300;
/** Of what the kept ones hold, decoded. */
const BYTES_KEPT = 4 * 1024 * 1024;
const UNRELIABLE_HEADER_BYTES = 5;
const RELIABLE_HEADER_BYTES = 9;
const DEPTH = MSGPACK_DEPTH + TICKS_WRAPPING;
/** What lets others play as this player is not shown. */
const SECRETS = ["bearer", "resume"];

const isNewer = (tick, than) => ((tick - than) | 0) > 0;
const isReliable = (kind) => kind >= COMMAND;
const getNumber = (bytes, at, width) => {
  let number = 0;
  for (let n = width - 1; n >= 0; n--) number = number * 256 + (bytes[at + n] ?? 0);
  return number;
};

/** What a frame says without its body. */
function header(bytes) {
  const kind = bytes[0] & 0x0f;
  const width = isReliable(kind) ? 4 : 2;
  return { kind: KINDS[kind] ?? `kind ${kind}`, isReliable: isReliable(kind), seq: getNumber(bytes, bytes[0] & 0x10 ? 2 : 1, width) };
}

/** By size: what is inflated is read before the next. */
const buffers = {};

/** The body of a frame that the page sends: it has neither parts nor codings. */
const upBody = (bytes) => bytes.subarray(isReliable(bytes[0] & 0x0f) ? RELIABLE_HEADER_BYTES : UNRELIABLE_HEADER_BYTES);

/** What names a message among others of its kind, such as its tick. */
function label(kind, seq, value) {
  if (["state", "tick", "event"].includes(kind)) return `tick ${value[0]}`;
  if (kind === "input") return `#${value[0]}`;
  if (kind === "ack") return `to ${value[0]}`;
  return kind === "command" ? `#${seq}` : "";
}

const withoutSecrets = (signal) => {
  const { d } = signal ?? {};
  if (typeof d !== "object" || d === null) return signal;
  const hidden = SECRETS.filter((key) => typeof d[key] === "string").map((key) => [key, "(hidden)"]);
  return { ...signal, d: { ...d, ...Object.fromEntries(hidden) } };
};

/**
 * Follows one connection of a page: what goes over it, decoded, and the measurements of its link, each as the page
 * itself takes them.
 */
export function createMessages(now) {
  const kept = [];
  let keptBytes = 0;
  let number = 0;
  const counters = { up: 0, down: 0, lostUp: 0, lostDown: 0 };
  let session = null;

  const keep = (message) => {
    kept.push({ number: ++number, at: now(), ...message });
    keptBytes += message.decodedBytes ?? 0;
    while (kept.length > MESSAGES_KEPT || (keptBytes > BYTES_KEPT && kept.length > 1)) {
      keptBytes -= kept.shift().decodedBytes ?? 0;
    }
  };
  const begin = (reply) => {
    const { tick, tickMs, player } = reply ?? {};
    // The page itself refuses it.
    if (!Number.isInteger(tick) || !(tickMs > 0)) return;
    session = {
      player,
      link: createLink(now, tickMs),
      states: createStates(tick),
      assemble: createAssembler(),
      stateTick: null,
      partBytes: {},
      newestTick: tick,
      arrivedAt: null,
      longestGap: 0,
    };
  };
  const arrived = (tick) => {
    const at = now();
    session.link.arrive(tick);
    if (!isNewer(tick, session.newestTick)) return;
    if (session.arrivedAt !== null) session.longestGap = Math.max(session.longestGap, at - session.arrivedAt);
    session.arrivedAt = at;
    session.newestTick = tick;
  };

  const signal = (way, text) => {
    let value;
    try {
      value = JSON.parse(text);
    } catch {
      value = text;
    }
    const kind = typeof value?.a === "string" ? value.a : "signal";
    if (way === "down" && value?.s === true && (kind === "joinR" || (kind === "reconnectR" && !session))) begin(value.d);
    const bytes = new TextEncoder().encode(text).length;
    counters[way] += bytes;
    keep({ way, lane: "websocket", kind, label: "", wireBytes: bytes, decodedBytes: bytes, value: withoutSecrets(value) });
  };

  const sent = (bytes, lane, isLost) => {
    const { kind, seq, isReliable } = header(bytes);
    const body = upBody(bytes);
    const message = { way: "up", lane, kind, isReliable, wireBytes: bytes.length, decodedBytes: body.length };
    if (isLost) message.fate = "lost";
    try {
      message.value = decode(body, DEPTH, body.length);
      message.label = label(kind, seq, message.value);
    } catch (error) {
      message.fate = `bad: ${error.code ?? error}`;
    }
    keep(message);
  };

  /** The whole body, and how it came. */
  const open = (frame) => {
    const isState = frame.kind === STATE;
    const limit = isState ? STATE_BODY_BYTES : RELIABLE_DOWN_BYTES;
    const plain = frame.deflated ? inflate(frame.body, (buffers[limit] ??= new Uint8Array(limit))) : frame.body;
    const body = isState ? session.states.restore(plain) : plain;
    return { body, coding: frame.deflated ? "deflate" : body === plain ? undefined : "delta" };
  };
  const received = (bytes, lane) => {
    const { kind, isReliable, seq } = header(bytes);
    const message = { way: "down", lane, kind, isReliable, wireBytes: bytes.length };
    const settle = (fate) => keep({ ...message, label: message.label ?? `seq ${seq}`, fate });
    try {
      const frame = decodeFrame(bytes, lane === "websocket");
      let whole = frame;
      if (!isReliable) {
        const unwrapped = session.link.receive(frame.seq);
        if (unwrapped === undefined) return settle("duplicate");
        whole = session.assemble(frame, unwrapped);
        if (frame.part) {
          const first = unwrapped - frame.part.index;
          session.partBytes[first] = (session.partBytes[first] ?? 0) + bytes.length;
          if (!whole) return;
          message.wireBytes = session.partBytes[first];
          message.parts = frame.part.count;
          session.partBytes = {};
        }
        if (!whole) return;
      }
      const { body, coding } = open(whole);
      Object.assign(message, { coding, decodedBytes: body.length });
      const value = decode(body, DEPTH, body.length);
      Object.assign(message, { value, label: label(kind, seq, value) });
      if (whole.kind === PONG) session.link.pong(value[0]);
      if (whole.kind === STATE || whole.kind === TICK) arrived(value[0]);
      if (whole.kind === STATE) {
        if (session.stateTick !== null && !isNewer(value[0], session.stateTick)) return settle("late");
        session.stateTick = value[0];
        session.states.keep(value[0]);
      }
      settle();
    } catch (error) {
      settle(`bad: ${error.code ?? error}`);
    }
  };

  return {
    kept,
    counters,

    get session() {
      return session;
    },

    /** Takes what was sent or received, or what was lost on its way. */
    note(way, lane, data, isLost = false) {
      if (typeof data === "string") return signal(way, data);
      const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
      if (isLost) counters[way === "up" ? "lostUp" : "lostDown"]++;
      if (way === "up" || !isLost) counters[way] += bytes.length;
      if (way === "up") return sent(bytes, lane, isLost);
      if (!isLost) return session && received(bytes, lane);
      const { seq, ...what } = header(bytes);
      keep({ way, lane, ...what, wireBytes: bytes.length, label: `seq ${seq}`, fate: "lost" });
    },

    /** The longest time between two ticks since the last call; a gap that lasts counts. */
    takeTickGap() {
      if (!session || session.arrivedAt === null) return null;
      const gap = Math.max(session.longestGap, now() - session.arrivedAt);
      session.longestGap = 0;
      return gap;
    },
  };
}
