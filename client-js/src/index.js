import { dial } from "./dial.js";
import { RtcadeError, signalingError } from "./error.js";
import { COMEBACK_TIMEOUT, PACE_JITTER, SIGNALING_TIMEOUT } from "./limits.js";
import { createRoom } from "./room.js";
import { createTicketKeeper } from "./ticket.js";

export { RtcadeError };

/** The page's alone: a frame of its origin shares it. Where it is forbidden, to look at it throws. */
const tabStorage = () => {
  try {
    return globalThis.frameElement ? undefined : globalThis.sessionStorage;
  } catch {
    return undefined;
  }
};

/** The browser's own, where the options do not replace it. Its timers refuse any other `this`. */
const environment = (options) => ({
  WebSocket: globalThis.WebSocket,
  RTCPeerConnection: globalThis.RTCPeerConnection,
  setTimeout: (f, ms) => setTimeout(f, ms),
  clearTimeout: (id) => clearTimeout(id),
  setInterval: (f, ms) => setInterval(f, ms),
  clearInterval: (id) => clearInterval(id),
  now: () => performance.now(),
  random: Math.random,
  page: globalThis,
  storage: tabStorage(),
  ...options,
});

function roomUrl(url) {
  const here = globalThis.location?.href;
  const resolved = new URL(url ?? here, here);
  resolved.protocol = resolved.protocol.replace("http", "ws");
  resolved.hash = "";
  return resolved;
}

export function connect(url, options = {}) {
  return new Promise((resolve, reject) => {
    // What can't be sent is an error now, not a server that does not answer.
    JSON.stringify(options.data);
    const env = environment(options);
    const { room: roomId, name, bearer, appVersion, data } = options;
    if (!env.WebSocket) return reject(signalingError("unsupported"));
    let tickets;
    try {
      const address = roomUrl(url);
      const target = {
        url: address.href,
        join: { roomId, bearer, appVersion, name, data },
        roomName: roomId ?? address.pathname.split("/").pop(),
      };
      tickets = createTicketKeeper(env.storage, `rtcade ${target.url} ${roomId ?? ""}`);
      const endsAt = env.now() + COMEBACK_TIMEOUT;
      const joined = (first) => resolve(createRoom(env, target, tickets, first));
      const failed = ({ error, closing, wait }) => {
        const delay = wait + env.random() * PACE_JITTER;
        if (env.now() + delay < endsAt) return env.setTimeout(attempt, delay);
        tickets.release(!closing.retry);
        reject(error);
      };
      const attempt = () =>
        dial(env, { ...target, ticket: tickets.read(), offering: true, timeout: SIGNALING_TIMEOUT }, joined, failed);
      attempt();
    } catch {
      tickets?.release();
      reject(signalingError("unreachable", "This is not the address of a room."));
    }
  });
}
