import { channelError, closure, RtcadeError, signalingError } from "./error.js";
import { SIGNALING_TIMEOUT } from "./limits.js";
import { createPeer } from "./peer.js";
import { createRoom } from "./room.js";

export { RtcadeError };

/** The browser's own, where the options do not replace it. Its timers refuse any other `this`. */
const environment = (options) => ({
  WebSocket: globalThis.WebSocket,
  RTCPeerConnection: globalThis.RTCPeerConnection,
  setTimeout: (f, ms) => setTimeout(f, ms),
  clearTimeout: (id) => clearTimeout(id),
  setInterval: (f, ms) => setInterval(f, ms),
  clearInterval: (id) => clearInterval(id),
  now: () => performance.now(),
  ...options,
});

function roomUrl(url) {
  const here = globalThis.location?.href;
  const resolved = new URL(url ?? here, here);
  resolved.protocol = resolved.protocol.replace("http", "ws");
  resolved.hash = "";
  return resolved;
}

/** Makes the offer, or says why there is none. Never rejects. */
async function prepareOffer(env) {
  let peer;
  try {
    peer = createPeer(env);
    return { peer, sdp: await peer.offer() };
  } catch {
    return { peer, obstacle: channelError("ice", "unsupported") };
  }
}

const parse = (text) => {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
};
const isReply = (d) =>
  [d?.player, d?.tick, d?.inputSeq].every(Number.isInteger) && d.tickMs > 0 && Array.isArray(d.sessions);

export function connect(url, options = {}) {
  return new Promise((resolve, reject) => {
    // What can't be sent is an error now, not a server that does not answer.
    JSON.stringify(options.data);
    const env = environment(options);
    const { room: roomId, name: playerName, bearer, appVersion, data } = options;
    if (!env.WebSocket) return reject(signalingError("unsupported"));
    let target;
    let socket;
    try {
      target = roomUrl(url);
      socket = new env.WebSocket(target.href);
    } catch {
      return reject(signalingError("unreachable", "This is not the address of a room."));
    }
    socket.binaryType = "arraybuffer";
    const prepared = prepareOffer(env);

    const settle = () => {
      env.clearTimeout(timer);
      socket.onopen = socket.onmessage = socket.onclose = null;
    };
    const giveUp = (code, message) => {
      settle();
      socket.close();
      prepared.then(({ peer }) => peer?.close());
      reject(signalingError(code, message));
    };
    const timer = env.setTimeout(() => giveUp("timeout"), SIGNALING_TIMEOUT);

    socket.onclose = ({ code, reason: text }) => {
      const { reason, message } = closure(code, text);
      giveUp(reason, reason === "unreachable" ? "" : message);
    };
    socket.onopen = async () => {
      const { peer, sdp, obstacle } = await prepared;
      socket.onmessage = ({ data }) => {
        const { a: action, s: success, d: reply, e: code = "internal", m: sentence } = parse(data);
        if (action !== "joinR") return;
        if (!success) return giveUp(code, sentence);
        if (!isReply(reply)) return giveUp("version_mismatch");
        settle();
        const { e = "bad_sdp", m } = reply.sdpError ?? {};
        resolve(
          createRoom(env, socket, reply, {
            roomName: roomId ?? target.pathname.split("/").pop(),
            playerName,
            peer,
            obstacle: obstacle ?? (reply.sdp ? undefined : channelError("ice", e, m)),
          }),
        );
      };
      const join = { version: 0, roomId, bearer, appVersion, name: playerName, data, sdp };
      socket.send(JSON.stringify({ a: "join", d: join }));
    };
  });
}
