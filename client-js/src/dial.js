import { channelError, closure, signalingError } from "./error.js";
import { OFFER_PATIENCE, REDIRECTS, RELIABLE_UP_BYTES, REDIRECT_RETRY, TICK_MS_MAX } from "./limits.js";
import { prepareOffer } from "./peer.js";

const LEAVE = `{"a":"leave"}`;

/** JSON with U+FFFD for each half of a surrogate pair, which a server can't read. */
export const toJson = (value) =>
  JSON.stringify(value).replace(/\\(\\|ud[89a-f]..)/g, (escape, escaped) => (escaped === "\\" ? escape : "\ufffd"));
export const fits = (text) => new TextEncoder().encode(text).length <= RELIABLE_UP_BYTES;

const parse = (text) => {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
};
/** Browsers differ in how they refuse it, and in the servers for which they allow it. */
const isMixed = ({ url }) => /^ws:/.test(url) && globalThis.location?.protocol === "https:";
const isU32 = (n) => n >>> 0 === n;
const isText = (value) => typeof value === "string";
export const isSession = (session) =>
  isU32(session?.player) && [session.name, session.userId, session.socketId].every((x) => x == null || isText(x));
const isReply = (d, isNew) =>
  [d?.player, d?.tick, d?.inputSeq].every(isU32) &&
  (isNew || [d.last, d.reliableSeq].every(isU32)) &&
  [d.socketId, d.resume].every(isText) &&
  d.tickMs > 0 &&
  d.tickMs <= TICK_MS_MAX &&
  Array.isArray(d.sessions) &&
  d.sessions.every(isSession);

/**
 * Opens a websocket and asks for a place in the room: for that of `ticket()` (`{socketId, resume, last}`) where there is
 * one, and where that is not known any more, or there is none, for a new one with the data `join` and the token of
 * `bearer`. A new one, and an old one if `offering`, comes with an offer; an old one if `isFirst` with the token too.
 * Where the room is at another server, the same request goes there; `pass` is what a server that names `url` has given.
 *
 * @param done called with `{socket, reply, isNew, peer, obstacle}`, while the websocket has not brought anything else
 * @param failed called, never before this returns, with `{error, closing, wait}`: `closing` says what has ended and
 *   whether to try again, `wait` when (in ms), where the server says so
 * @returns what breaks it off, and leaves the place if its argument is true; gives whether one was asked for
 */
export function dial(env, { url, pass, join, bearer, ticket, isFirst, offering, timeout }, done, failed) {
  let offer;
  let token;
  let prepared = {};
  let isOpen = false;
  let isIdentifying = false;
  let asked;
  let isSettled = false;
  let request;
  let redirects = pass ? 1 : 0;
  const prepare = () => (offer ??= prepareOffer(env, OFFER_PATIENCE));

  const detach = () => {
    socket.onopen = socket.onmessage = socket.onerror = socket.onclose = null;
  };
  const settle = () => {
    isSettled = true;
    env.clearTimeout(timer);
    detach();
  };
  const breakOff = (isOver) => {
    settle();
    if (isOver && asked) socket.send(LEAVE);
    socket.close(isOver ? 1000 : undefined);
    offer?.cancel();
    return Boolean(asked);
  };
  const fail = (code, sentence, { wait, retry = wait !== undefined, closeCode = 4100, isOver } = {}) => {
    if (isSettled) return;
    if (isMixed(socket) && /^(unreachable|blocked)$/.test(code)) code = "mixed_content";
    // Of a server that has gone, the one that named it may know another.
    if (redirects && retry) wait ??= REDIRECT_RETRY;
    breakOff(isOver);
    const error = signalingError(code, sentence);
    failed({ error, closing: { code: closeCode, reason: error.code, message: error.message, retry }, wait });
  };
  const later = { retry: true, closeCode: 1006 };
  const expire = () =>
    fail(isIdentifying ? "bearer" : "timeout", "", { ...later, isOver: asked === "join" });
  const identify = () =>
    (token ??= (async () => (typeof bearer === "function" ? bearer() : bearer))().catch(() => fail("bearer", "", later)));

  const ask = async (action, details, isBearing) => {
    request = [action, details, isBearing];
    const at = socket;
    prepared = (await offer?.result) ?? prepared;
    isIdentifying = isBearing;
    const shown = isBearing ? await identify() : undefined;
    isIdentifying = false;
    if (isSettled || at !== socket) return;
    const bearer = isText(shown) ? shown : undefined;
    const common = { version: 0, sparseHeartbeats: true, ticket: pass };
    const write = (sdp) => toJson({ a: action, d: { ...common, ...details, bearer, sdp } });
    let text = write(prepared.sdp);
    if (prepared.sdp && !fits(text)) {
      // It can follow by itself.
      offer.cancel();
      prepared = {};
      text = write();
    }
    if (!fits(text)) return fail("too_large");
    asked = action;
    pass = undefined;
    socket.send(text);
  };

  let socket;
  let timer;
  const block = () => fail("blocked");
  // Where a Content-Security-Policy blocks it, Chromium says no more, and Firefox throws.
  const blocked = () => {
    env.clearTimeout(timer);
    timer = env.setTimeout(block, 0);
  };
  const open = (address) => {
    isOpen = false;
    asked = undefined;
    try {
      socket = new env.WebSocket(address);
    } catch {
      socket = { url: address, close() {} };
      return blocked();
    }
    socket.binaryType = "arraybuffer";
    socket.onerror = blocked;
    socket.onclose = ({ code: closeCode, reason: text }) => {
      const { reason, message, retry } = closure(closeCode, text);
      fail(reason, reason === "unreachable" && !isOpen ? "" : message, { retry, closeCode });
    };
    socket.onopen = () => {
      isOpen = true;
      const known = ticket();
      return ask(...(request ?? (known ? ["reconnect", known, isFirst] : ["join", join, true])));
    };
    socket.onmessage = receive;
  };
  const receive = ({ data }) => {
    const { a: action, s: success, d: reply, e: code, m: sentence, ...rest } = parse(data);
    const isNew = asked !== "reconnect";
    if (action === "eventRedirect" && isText(reply?.url) && asked) {
      if (redirects++ >= REDIRECTS) return fail("redirects");
      detach();
      socket.close();
      pass = reply.ticket;
      return open(reply.url);
    }
    // A websocket is refused before anything is asked, and a request that the server could not take apart without its name.
    if ((action !== `${asked ?? "join"}R` && action !== "R") || (success && !asked)) return;
    if (!success) {
      if (!isNew && (code === "no_such_session" || code === "unauthorized")) {
        const [, { socketId, resume }] = request;
        asked = undefined;
        prepare();
        // Another server may have known the player.
        return ask("join", { ...join, former: { socketId, resume } }, true);
      }
      const wait = rest.retryAfter ?? reply?.retryAfter;
      return fail(code, sentence, { wait: wait >= 0 ? wait : undefined });
    }
    if (!isReply(reply, isNew)) return fail("version_mismatch", "", { isOver: isNew });
    settle();
    const { peer, obstacle } = prepared;
    const { e = "bad_sdp", m } = reply.sdpError ?? {};
    done({ socket, reply, isNew, peer, obstacle: obstacle ?? (peer && !reply.sdp ? channelError("ice", e, m) : undefined) });
  };
  timer = env.setTimeout(expire, timeout);
  if (offering) prepare();
  if (isFirst) identify();
  open(url);
  return breakOff;
}
