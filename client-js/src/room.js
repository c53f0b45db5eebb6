import { channelError, closure, RtcadeError } from "./error.js";
import {
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
  STATE,
  TICK,
  TICKS,
  unreliableFrame,
} from "./frame.js";
import { createInputWindow } from "./inputs.js";
import {
  INPUT_BYTES,
  INPUT_INTERVAL,
  INPUT_REPEAT,
  MSGPACK_DEPTH,
  PING_INTERVAL,
  RELIABLE_UP_BYTES,
  SOCKET_BACKLOG,
} from "./limits.js";
import { createLink } from "./link.js";
import { encode, fail, WireError } from "./msgpack.js";
import { createTickOrder } from "./ticks.js";

const RELIABLE_HEADER_BYTES = 9;
/** An array of one 64-bit number. */
const PING_BYTES = 10;
/** An input stands inside two arrays of its frame. */
const INPUT_DEPTH = MSGPACK_DEPTH - 2;

const isNewer = (tick, than) => ((tick - than) | 0) > 0;
const namedInputs = (lists) =>
  lists.map((list) => list.map(([player, number, input]) => ({ player, number, input })));

/** The msgpack of what the game wants to send, or an `RtcadeError` that tells its author what is wrong with it. */
function encodeOwn(what, value, limit, depth) {
  try {
    return encode(value, limit, depth);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw error.code === "too_large"
      ? new RtcadeError("game", "too_large", `${what} has at most ${limit} bytes encoded.`)
      : new RtcadeError(
          "game",
          "bad_value",
          `${what} is made of null, booleans, numbers (integers to 2^53), strings, Uint8Arrays, arrays and plain objects.`,
        );
  }
}

/**
 * The session of a player in a room, from the reply to `join` until the websocket closes.
 *
 * @param socket the websocket that has joined
 * @param me name and peer of the player; `obstacle` is the error for which there is no peer to use
 */
export function createRoom(env, socket, reply, { roomName, playerName, peer, obstacle }) {
  const { now, setTimeout, clearTimeout } = env;
  const { player: me, socketId, welcome, tickMs } = reply;
  const players = new Map();
  let listeners = {};
  const link = createLink(now, tickMs);
  const assemble = createAssembler();
  const inputs = createInputWindow(reply.inputSeq);
  let sequence = 0;
  let reliableSequence = 1;
  let newestTick = reply.tick;
  let stateTick = null;
  let flushTimer;
  let flushedAt = -Infinity;

  const room = {
    name: roomName,
    me,
    welcome,
    tickMs,
    players,
    status: "connecting",

    get stats() {
      return { ...link.stats(), tick: newestTick, transport: peer?.isOpen() ? "webrtc" : "websocket" };
    },

    on(type, listener) {
      const ofType = (listeners[type] ??= new Set());
      // An entry of its own, so that one function registered twice is unsubscribed once.
      const entry = { listener };
      ofType.add(entry);
      return () => {
        ofType.delete(entry);
      };
    },

    send(input) {
      const encoded = encodeOwn("An input", input, INPUT_BYTES, INPUT_DEPTH);
      if (isClosed()) return;
      inputs.push(encoded);
      const wait = flushedAt + INPUT_INTERVAL - now();
      if (wait > 0) flushIn(wait);
      else flush();
    },

    command(command) {
      const encoded = encodeOwn("A command", command, RELIABLE_UP_BYTES - RELIABLE_HEADER_BYTES);
      if (!isClosed()) sendReliable(COMMAND, encoded);
    },

    leave() {
      if (isClosed()) return;
      socket.send('{"a":"leave"}');
      socket.close(1000);
      close(1000);
    },
  };

  const isClosed = () => room.status === "closed";
  const emit = (type, ...details) => {
    // A copy: who unsubscribes and subscribes in a listener is not called again for the same event.
    for (const { listener } of [...(listeners[type] ?? [])]) {
      try {
        listener(...details);
      } catch (error) {
        (globalThis.reportError ?? console.error)(error);
      }
    }
  };
  const setStatus = (status) => {
    if (room.status === status) return;
    room.status = status;
    emit("status", status);
  };
  const leaveWithPage = ({ persisted }) => persisted || room.leave();
  const close = (code, text) => {
    clearTimeout(flushTimer);
    env.clearInterval(pinger);
    globalThis.removeEventListener?.("pagehide", leaveWithPage);
    socket.onmessage = socket.onclose = null;
    peer?.close();
    setStatus("closed");
    emit("close", closure(code, text));
    listeners = {};
  };
  const playOverWebsocket = (error) => {
    if (isClosed()) return;
    link.restart();
    emit("error", error);
    if (!isClosed()) setStatus("open");
  };

  const sendUnreliable = (kind, body) => {
    const frame = unreliableFrame(kind, sequence, newestTick, body);
    let sent = false;
    if (peer?.isOpen()) sent = peer.send(frame);
    else if (socket.bufferedAmount <= SOCKET_BACKLOG) {
      socket.send(frame);
      sent = true;
    }
    if (sent) sequence++;
    else link.counters.dropped++;
  };
  const sendReliable = (kind, body) => socket.send(reliableFrame(kind, reliableSequence++, newestTick, body));
  const flushIn = (wait) => {
    clearTimeout(flushTimer);
    flushTimer = setTimeout(flush, wait);
  };
  const flush = () => {
    flushedAt = now();
    sendUnreliable(INPUT, inputs.body());
    flushIn(INPUT_REPEAT);
  };
  const ping = () => sendUnreliable(PING, encode([now()], PING_BYTES));

  const ticks = createTickOrder(
    reply.tick,
    (tick, inputs) => emit("tick", { tick, inputs }),
    (first, last) => sendReliable(TICKS, encode([first, last], RELIABLE_UP_BYTES)),
    (first, last) =>
      emit("error", new RtcadeError("game", "ticks_lost", `The server no longer has ticks ${first} to ${last}.`)),
  );
  const sawTick = (tick) => {
    if (tick >>> 0 !== tick) fail("shape");
    if (isNewer(tick, newestTick)) newestTick = tick;
  };
  const handleBody = (kind, [first, ...rest]) => {
    if (kind === PING) return sendUnreliable(PONG, encode([first], PING_BYTES));
    if (kind === PONG) {
      sawTick(rest[1]);
      if (!Number.isFinite(first + rest[0])) fail("shape");
      return link.pong(first, rest[0]);
    }
    if (kind === TICKS) return ticks.answer(first, namedInputs(rest));

    sawTick(first);
    if (kind === EVENT) emit("event", rest[0], first, "unreliable");
    else if (kind === RELIABLE_EVENT) emit("event", rest[0], first, "reliable");
    else {
      link.arrive(first);
      if (kind === TICK) ticks.window(first, namedInputs(rest));
      else if (stateTick !== null && !isNewer(first, stateTick)) link.counters.late++;
      else {
        stateTick = first;
        emit("state", rest[0], first);
      }
    }
  };
  const handleFrame = (frame) => {
    let whole = frame;
    if ("ack" in frame) {
      const unwrapped = link.receive(frame.seq);
      if (unwrapped === undefined) return;
      if (inputs.acknowledge(frame.ack) === 0) clearTimeout(flushTimer);
      whole = assemble(frame, unwrapped);
    } else sawTick(frame.tick);
    if (whole) handleBody(frame.kind, decodeBody(whole));
  };

  const joined = ({ player, name = "", userId = null, socketId = null }) => {
    const known = players.has(player);
    players.set(player, { player, name, userId, socketId });
    if (!known) emit("join", players.get(player));
    return player;
  };
  const left = (player, reason) => {
    const known = players.get(player);
    if (players.delete(player)) emit("leave", known, reason);
  };
  const handleSignal = ({ a: action, d: details }) => {
    if (action === "eventJoin") joined(details);
    if (action === "eventLeave") left(details.player, details.reason);
    if (action === "eventChannelClosed") peer?.fail?.("channel", details.e, details.m);
    if (action === "eventRoomUsers") {
      const present = details.sessions.map(joined);
      for (const player of players.keys()) if (!present.includes(player)) left(player, "left");
    }
  };

  const handle = (data, overWebsocket) => {
    try {
      if (typeof data === "string") handleSignal(JSON.parse(data));
      else handleFrame(decodeFrame(new Uint8Array(data), overWebsocket));
    } catch {
      // What a listener throws does not come here: it was a message that can't be read.
      link.counters.bad++;
    }
  };

  [{ player: me, name: playerName, socketId }, ...reply.sessions].forEach(joined);
  socket.onmessage = ({ data }) => handle(data, true);
  socket.onclose = ({ code, reason }) => close(code, reason);
  globalThis.addEventListener?.("pagehide", leaveWithPage);
  const pinger = env.setInterval(ping, PING_INTERVAL);
  ping();
  if (obstacle) {
    peer?.close();
    // Nobody can be listening before the caller of connect() has the room.
    setTimeout(() => playOverWebsocket(obstacle), 0);
  } else {
    const opened = () => {
      setStatus("open");
      link.restart();
      ping();
    };
    const failed = (...what) => playOverWebsocket(channelError(...what));
    peer.accept(reply.sdp, opened, ({ data }) => handle(data, false), failed);
  }
  return room;
}
