import { channelError, closure, signalingError } from "./error.js";
import { prepareOffer } from "./peer.js";

const parse = (text) => {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
};
const isReply = (d) =>
  [d?.player, d?.tick, d?.inputSeq].every(Number.isInteger) && d.tickMs > 0 && Array.isArray(d.sessions);

/**
 * Opens a websocket and asks for a place in the room: for that of `ticket` (`{socketId, resume, last}`) where there is
 * one, and where that is not known any more, or there is none, for a new one with the data `join`. A new one, and an old
 * one if `offering`, comes with an offer.
 *
 * @param done called with `{socket, reply, isNew, peer, obstacle}`, while the websocket has not brought anything else
 * @param failed called with `{error, closing, wait}`: `closing` says what has ended and whether to try again, `wait` when
 *   (in ms), where the server says so
 * @returns what breaks it off
 * @throws where `url` is none
 */
export function dial(env, { url, join, ticket, offering, timeout }, done, failed) {
  const socket = new env.WebSocket(url);
  socket.binaryType = "arraybuffer";
  let offer;
  let prepared = {};
  let isSettled = false;
  const prepare = () => (offer ??= prepareOffer(env));
  if (offering || !ticket) prepare();

  const settle = () => {
    isSettled = true;
    env.clearTimeout(timer);
    socket.onopen = socket.onmessage = socket.onclose = null;
  };
  const breakOff = (closeCode) => {
    settle();
    socket.close(closeCode);
    offer?.then(({ peer }) => peer?.close());
  };
  const fail = (code, sentence, { wait, retry = wait !== undefined, closeCode = 4100 } = {}) => {
    breakOff();
    const error = signalingError(code, sentence);
    failed({ error, closing: { code: closeCode, reason: code, message: error.message, retry }, wait });
  };
  const timer = env.setTimeout(() => fail("timeout", "", { retry: true, closeCode: 1006 }), timeout);
  const ask = async (action, details) => {
    prepared = (await offer) ?? prepared;
    if (!isSettled) socket.send(JSON.stringify({ a: action, d: { version: 0, ...details, sdp: prepared.sdp } }));
  };

  socket.onclose = ({ code: closeCode, reason: text }) => {
    const { reason, message, retry } = closure(closeCode, text);
    fail(reason, reason === "unreachable" ? "" : message, { retry, closeCode });
  };
  socket.onopen = () => (ticket ? ask("reconnect", ticket) : ask("join", join));
  socket.onmessage = ({ data }) => {
    const { a: action, s: success, d: reply, e: code = "internal", m: sentence, ...rest } = parse(data);
    const isNew = action === "joinR";
    if (!isNew && action !== "reconnectR") return;
    if (!success) {
      if (!isNew && (code === "no_such_session" || code === "unauthorized")) {
        prepare();
        return ask("join", join);
      }
      const asked = rest.retryAfter ?? reply?.retryAfter;
      return fail(code, sentence, { wait: asked >= 0 ? asked : undefined });
    }
    if (!isReply(reply)) return fail("version_mismatch");
    settle();
    const { peer, obstacle } = prepared;
    const { e = "bad_sdp", m } = reply.sdpError ?? {};
    done({ socket, reply, isNew, peer, obstacle: obstacle ?? (peer && !reply.sdp ? channelError("ice", e, m) : undefined) });
  };
  return breakOff;
}
