import { channelError, closure, RtcadeError } from "./error.js";
import { createDelivery } from "./delivery.js";
import { dial, isSession, toJson } from "./dial.js";
import { PONG } from "./frame.js";
import { createLanes } from "./lanes.js";
import {
  BACKOFF_CAP,
  BACKOFF_FIRST,
  COMEBACK_END,
  COMEBACK_TIMEOUT,
  HEARTBEAT_INTERVAL,
  INPUT_BYTES,
  MSGPACK_DEPTH,
  MSGPACK_ITEMS,
  OFFER_CAP,
  OFFER_FIRST,
  PACE_JITTER,
  PING_INTERVAL,
  RELIABLE_HEADER_BYTES,
  RELIABLE_UP_BYTES,
  RESUME_TIMEOUT,
  SIGNALING_TIMEOUT,
  SOCKET_BACKLOG,
  SOCKET_SILENCE,
  SOCKET_STALE,
  SPARSE_SILENCE,
} from "./limits.js";
import { encode, fail } from "./msgpack.js";
import { prepareOffer } from "./peer.js";

const LOST = closure(1006);
/** What a page that was asleep, or away from the net, hears when it is back. */
const WAKING = ["pageshow", "visibilitychange", "online"];

/** The msgpack of what the game wants to send, or an `RtcadeError` that tells its author what is wrong with it. */
function encodeOwn(what, value, limit) {
  try {
    return encode(value, limit);
  } catch ({ code, path, trouble }) {
    const [publicCode, sentence] = {
      too_large: ["too_large", `is too large: encode at most ${limit} bytes`],
      items: ["too_large", `is too large: use at most ${MSGPACK_ITEMS} elements in all arrays and objects`],
      depth: ["bad_value", `is nested too deep: use at most ${MSGPACK_DEPTH} levels of arrays and objects`],
      bad_value: [
        "bad_value",
        `can't be encoded: ${path || "it"} ${trouble}. ` +
          "Use null, booleans, numbers, strings, Uint8Arrays, arrays and plain objects",
      ],
    }[code];
    throw new RtcadeError("game", publicCode, `${what} ${sentence}.`);
  }
}

/**
 * A player's place in a room, from the first reply to the end, through as many websockets, channels and sessions as that
 * takes.
 *
 * @param target `{url, join, bearer}` as for `dial`, and `roomName`
 * @param tickets where the session is kept for the page after this one
 * @param first what `dial` has given
 * @param options those of `connect`
 */
export function createRoom(env, { roomName, ...target }, tickets, first, { signal, reconnectTimeout }) {
  const { now, random, page, setTimeout, clearTimeout } = env;
  const players = new Map();
  const comebackTimeout = reconnectTimeout >= 0 ? reconnectTimeout : COMEBACK_TIMEOUT;
  let listeners = {};
  /** Events for whoever listens once the code that awaits `connect` has run. */
  let held = [];
  let lanes;
  let ticket;

  let socket = null;
  let heardAt;
  let watchedAt = now();
  let attachedAt;

  let peer = null;
  let measured;
  let isObstacleTold = false;
  /** What ended the channel, until the websocket shows that this did not end the session too. */
  let untold = null;
  let untoldSince;
  let offer = null;
  let offerTimer;
  let offers = 0;
  /** In a row; a channel that was open for long ends it. */
  let failedOffers = 0;
  let openedAt = Infinity;

  /** Since the websocket was lost. */
  let lostAt = null;
  let endsAt;
  let attempts = 0;
  let attemptedAt;
  let isPaced = false;
  let retryTimer;
  let breakOff;

  const room = {
    name: roomName,
    players,
    status: "connecting",
    /** When a lost connection is tried again, by `now()`. */
    retryAt: null,
    renderTick: null,

    get stats() {
      return { ...lanes.link.stats(), tick: lanes.tick, transport: transport() };
    },

    on: (type, listener) => listen(type, { listener }),

    once: (type, listener) => listen(type, { listener, isOnce: true }),

    off(type, listener) {
      for (const entry of listeners[type] ?? []) {
        if (entry.listener === listener) listeners[type].delete(entry);
      }
    },

    send(input) {
      const encoded = encodeOwn("An input", input, INPUT_BYTES);
      return isClosed() ? 0 : lanes.send(encoded, room.renderTick?.());
    },

    serverTick: () => lanes.serverTick(),

    command(command) {
      const encoded = encodeOwn("A command", command, RELIABLE_UP_BYTES - RELIABLE_HEADER_BYTES);
      if (!isClosed()) lanes.command(encoded);
    },

    /** For modules, with the event `signal`: signaling that is not the game's. */
    signal: (message) => socket?.send(toJson(message)),

    retryNow() {
      if (!socket && !breakOff && !isClosed()) resume();
    },

    leave() {
      if (isClosed()) return;
      room.signal({ a: "leave" });
      close(closure(1000), 1000);
    },
  };

  const isClosed = () => room.status === "closed";
  /** An entry is of one call of `on`, so that one function registered twice is unsubscribed once. */
  const listen = (type, entry) => {
    const ofType = (listeners[type] ??= new Set());
    ofType.add(entry);
    return () => {
      ofType.delete(entry);
    };
  };
  const emit = (...event) => {
    if (held) held.push(event);
    else dispatch(...event);
  };
  const dispatch = (type, ...details) => {
    // A copy: who unsubscribes and subscribes in a listener is not called again for the same event.
    for (const entry of [...(listeners[type] ?? [])]) {
      if (entry.isOnce) listeners[type].delete(entry);
      try {
        entry.listener(...details);
      } catch (error) {
        (globalThis.reportError ?? console.error)(error);
      }
    }
    if (type === "close") listeners = {};
  };
  const setStatus = (status) => {
    if (room.status === status || isClosed()) return;
    room.status = status;
    emit("status", status);
  };
  const close = (closing, closeCode) => {
    detach(closeCode);
    lanes.stop();
    delivery.reset();
    clearTimeout(retryTimer);
    clearTimeout(offerTimer);
    env.clearInterval(watcher);
    for (const type of WAKING) page?.removeEventListener?.(type, wake);
    signal?.removeEventListener("abort", room.leave);
    breakOff?.(closeCode === 1000);
    offer?.cancel();
    room.retryAt = null;
    peer?.close();
    tickets.release(true);
    setStatus("closed");
    emit("close", closing);
  };

  // ---- What frames go over.

  /** One that is open is passed by where it is silent, or in doubt and the websocket was heard since. */
  const carries = () => !socket || (peer.isAlive() && (delivery.doubtedAt === null || heardAt < delivery.doubtedAt));
  const transport = () => (peer?.isOpen() && carries() ? "webrtc" : "websocket");
  const transmitOverWebsocket = (frame) => {
    if (!socket || socket.bufferedAmount > SOCKET_BACKLOG) return false;
    socket.send(frame);
    return true;
  };
  const transmit = (frame) => (transport() === "webrtc" ? peer.send(frame) : transmitOverWebsocket(frame));
  /** Each way that may not deliver is asked; the server takes a ping over the websocket for the word that the channel is silent. */
  const ping = () => {
    if (transport() !== measured) {
      measured = transport();
      lanes.link.restart();
    }
    lanes.ping();
    if (peer?.isOpen() && measured === "websocket") lanes.ping(peer.send);
    if (delivery.doubtedAt !== null && measured === "webrtc") lanes.ping(transmitOverWebsocket);
  };
  const delivery = createDelivery(env, ping);
  const onInputs = (areSent) => {
    if (!areSent) delivery.acknowledged();
    else if (transport() === "webrtc") delivery.sent(room.tickMs);
  };
  const handle = (data, overWebsocket) => {
    try {
      if (typeof data === "string") handleSignal(JSON.parse(data));
      else {
        const kind = lanes.handle(new Uint8Array(data), overWebsocket);
        if (!overWebsocket) delivery.heard(kind);
        else if (kind === PONG && lanes.link.answered >= untoldSince) tellObstacle();
      }
    } catch {
      // What a listener throws does not come here: it was a message that can't be read.
      lanes.link.counters.bad++;
    }
  };

  // ---- The channel.

  const usePeer = (next, sdp) => {
    if (peer !== next) peer?.close();
    peer = next;
    clearTimeout(offerTimer);
    delivery.reset();
    const opened = () => {
      openedAt = now();
      isObstacleTold = false;
      untold = null;
      if (room.status === "connecting") setStatus("open");
      ping();
    };
    const failed = (...what) => losePeer(channelError(...what));
    peer.accept(sdp, opened, ({ data }) => handle(data, false), failed);
  };
  const setOfferTimer = (action, ms) => {
    clearTimeout(offerTimer);
    offerTimer = setTimeout(action, ms);
  };
  const losePeer = (error) => {
    if (isClosed()) return;
    peer?.close();
    peer = null;
    clearTimeout(offerTimer);
    const isSupported = error.code !== "unsupported";
    delivery.reset();
    if (now() - openedAt >= OFFER_FIRST) failedOffers = 0;
    openedAt = Infinity;
    // The first time at once: what was forged or damaged on the way may have spoiled it.
    const wait = failedOffers === 0 ? 0 : Math.min(OFFER_CAP, OFFER_FIRST * 2 ** (failedOffers - 1));
    failedOffers++;
    if (isSupported) setOfferTimer(offerAgain, wait);
    // What ended the channel may have ended the session, and the websocket is about to say so.
    const isDoubtful = untold !== null || error.code === "unreachable";
    if (!untold) untoldSince = now();
    untold ??= error;
    if (isDoubtful) ping();
    else tellObstacle();
    if (room.status === "connecting") setStatus("open");
  };
  const tellObstacle = () => {
    if (untold && !isObstacleTold) {
      isObstacleTold = true;
      emit("error", untold);
    }
    untold = null;
  };
  /** Without a websocket there is nobody to offer to: its return brings an offer along. */
  const offerAgain = async () => {
    if (!socket || peer || offer) return;
    clearTimeout(offerTimer);
    offer = prepareOffer(env, SIGNALING_TIMEOUT);
    const { peer: offered, sdp, obstacle } = await offer.result;
    offer = null;
    if (peer || !socket) return offered?.close();
    if (obstacle) return losePeer(obstacle);
    peer = offered;
    room.signal({ a: "exchangeSdp", i: ++offers, d: { to: "server", sdp } });
    setOfferTimer(() => losePeer(channelError("ice", "timeout")), SIGNALING_TIMEOUT);
  };
  const handleAnswer = ({ i: number, s: success, d: answer, e: code, m: sentence }) => {
    if (number !== offers || !peer) return;
    if (success) usePeer(peer, answer.sdp);
    else losePeer(channelError("ice", code, sentence));
  };

  // ---- Who is here.

  const note = ({ player, name = "", userId = null, socketId = null }) =>
    players.set(player, { player, name, userId, socketId });
  const joined = (session) => {
    if (!isSession(session)) fail("shape");
    const { player } = session;
    const former = players.get(player);
    note(session);
    const known = players.get(player);
    if (!former) emit("join", known);
    else if (former.name !== known.name) emit("rename", known, former.name);
    return player;
  };
  const left = (player, reason) => {
    const known = players.get(player);
    if (players.delete(player)) emit("leave", known, reason);
  };
  const reconcile = (sessions) => {
    if (!sessions.every(isSession)) fail("shape");
    const present = new Set(sessions.map(joined));
    for (const player of players.keys()) if (!present.has(player)) left(player, "left");
  };
  const handleSignal = (message) => {
    const { a: action, d: details } = message;
    emit(action, message);
    if (action === "eventJoin" || action === "eventRename") joined(details);
    if (action === "eventLeave") left(details.player, details.reason);
    if (action === "eventChannelClosed") peer?.fail?.("channel", details.e, details.m);
    if (action === "eventRoomUsers") reconcile(details.sessions);
    if (action === "exchangeSdpR") handleAnswer(message);
    if (action === "eventRedirect") follow(details);
  };

  // ---- Websockets, one after the other.

  const attach = (next, reply) => {
    socket = next;
    socket.onmessage = ({ data }) => {
      heardAt = now();
      handle(data, true);
    };
    socket.onclose = ({ code, reason }) => {
      const closing = closure(code, reason);
      if (closing.retry) drop(closing);
      else close(closing);
    };
    heardAt = attachedAt = now();
    ticket = { socketId: reply.socketId, resume: reply.resume };
    tickets.write(ticket);
  };
  /** Without a code the server takes it for broken, and keeps the session. */
  const detach = (closeCode) => {
    if (!socket) return;
    const old = socket;
    socket = null;
    old.onmessage = old.onclose = null;
    old.close(closeCode);
  };
  /** Everything from the beginning: what was there before means nothing to the server any more. */
  const begin = ({ player, socketId, welcome, tickMs, media, iceServers, ...reply }) => {
    lanes?.stop();
    peer?.close();
    peer = untold = null;
    Object.assign(room, { me: player, welcome, tickMs, media, iceServers });
    players.clear();
    [{ player, name: target.join.name, socketId }, ...reply.sessions].forEach(note);
    const lane = (frame) => socket?.send(frame);
    lanes = createLanes(env, { tickMs, ...reply }, emit, transmit, lane, onInputs);
  };

  const drop = (closing) => {
    detach();
    lanes.drop();
    // One that was lost at once was no return.
    if (lostAt === null || now() - attachedAt > BACKOFF_CAP) lose();
    else endsAt = lostAt + comebackTimeout;
    retry(closing);
  };
  const lose = () => {
    lostAt = now();
    attempts = 0;
    endsAt = lostAt + comebackTimeout;
  };
  const retry = (closing, wait) => {
    noticeFreeze();
    isPaced = wait !== undefined;
    const cap = isPaced ? PACE_JITTER : Math.min(BACKOFF_CAP, BACKOFF_FIRST * 2 ** attempts++);
    // Full jitter: many who were cut off together do not come back together.
    const delay = (wait ?? 0) + random() * cap;
    if (isPaced) endsAt = Math.min(lostAt + Math.max(COMEBACK_END, comebackTimeout), now() + delay + comebackTimeout);
    if (now() + delay > endsAt) return close(closing);
    retryTimer = setTimeout(() => resume(), delay);
    room.retryAt = now() + delay;
    setStatus("dropped");
  };
  const enter = ({ socket, reply, isNew, peer: offered, obstacle }, isFirst) => {
    breakOff = undefined;
    attach(socket, reply);
    if (isFirst || isNew) begin(reply);
    else {
      lanes.resume(reply);
      reconcile(reply.sessions);
      tellObstacle();
    }
    if (isNew && !isFirst) emit("rejoin", reply.welcome);
    if (isClosed()) return offered?.close();
    if (obstacle) {
      offered?.close();
      // At first nobody can be listening before the caller of connect() has the room.
      setOfferTimer(() => losePeer(obstacle), 0);
    } else if (offered) usePeer(offered, reply.sdp);
    else if (!peer) offerAgain();
    ping();
    if (!isFirst) setStatus("open");
  };
  /** The room is at another server now, and the place in it too. */
  const follow = ({ url, ticket: pass }) => {
    detach();
    lanes.drop();
    peer?.close();
    peer = untold = null;
    clearTimeout(offerTimer);
    lose();
    resume({ url, pass });
  };
  const resume = (there) => {
    clearTimeout(retryTimer);
    room.retryAt = null;
    attemptedAt = now();
    const refused = ({ closing, wait }) => {
      breakOff = undefined;
      if (closing.retry) retry(closing, wait);
      else close(closing);
    };
    breakOff = dial(
      env,
      {
        ...target,
        ...there,
        ticket: () => ({ ...ticket, last: lanes.received }),
        offering: !peer?.isAlive(),
        timeout: RESUME_TIMEOUT,
      },
      enter,
      refused,
    );
    setStatus("resuming");
  };

  /** Timers that come late are those of a page that was frozen: it could not try, and has yet to read what came meanwhile. */
  const noticeFreeze = () => {
    const at = now();
    const isFrozen = at - watchedAt > 2 * PING_INTERVAL;
    watchedAt = at;
    if (!isFrozen) return;
    heardAt = Math.max(heardAt, at - SOCKET_SILENCE + HEARTBEAT_INTERVAL);
    if (!socket) lose();
  };
  const watch = () => {
    noticeFreeze();
    // A channel that was heard since replaces a heartbeat.
    const silence = peer?.isAlive(SOCKET_SILENCE - HEARTBEAT_INTERVAL) ? SPARSE_SILENCE : SOCKET_SILENCE;
    if (socket && now() - heardAt > silence) drop(LOST);
    if (!isClosed()) ping();
  };
  const wake = () => {
    const at = now();
    if (socket && at - heardAt > SOCKET_STALE && !peer?.isAlive()) drop(LOST);
    if (!socket && !isClosed() && !(isPaced && !breakOff)) {
      lose();
      if (!breakOff || at - attemptedAt > SOCKET_STALE) {
        breakOff?.();
        resume();
      }
    }
    offerAgain();
  };

  for (const type of WAKING) page?.addEventListener?.(type, wake);
  signal?.addEventListener("abort", room.leave);
  const watcher = env.setInterval(watch, PING_INTERVAL);
  enter(first, true);
  setTimeout(() => {
    const events = held;
    held = null;
    for (const event of events) dispatch(...event);
  }, 0);
  return room;
}
