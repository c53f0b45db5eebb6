import { dial, fits, toJson } from "./dial.js";
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

/** Under this key of the options `rtcade/testing` replaces parts of the browser. */
const REPLACED = Symbol.for("rtcade.environment");

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
  ...options[REPLACED],
});

/** @throws where it is none */
function roomUrl(url) {
  const here = globalThis.location?.href;
  const resolved = new URL(url ?? here, here);
  resolved.protocol = resolved.protocol.replace("http", "ws");
  resolved.hash = "";
  if (!/^wss?:$/.test(resolved.protocol)) throw new TypeError(resolved.protocol);
  return resolved;
}

export const connect = (url, options) =>
  new Promise((resolve, reject) => {
    options ??= {};
    let env = environment(options);
    const { room: roomId, name, bearer, appVersion, data, signal } = options;
    const refuse = (code) => reject(signalingError(code));
    if (signal?.aborted) return refuse("aborted");
    if (!env.WebSocket) return refuse("unsupported");
    let address;
    let identity;
    try {
      identity = toJson({ roomId, appVersion, name, data });
    } catch {
      return refuse("bad_value");
    }
    if (!fits(identity)) return refuse("too_large");
    try {
      address = roomUrl(url);
    } catch {
      return refuse("bad_address");
    }

    const target = {
      url: address.href,
      // As it is now: the page may go on using its own.
      join: JSON.parse(identity),
      bearer,
      roomName: roomId ?? address.pathname.split("/").pop(),
    };
    const tickets = createTicketKeeper(env.storage, `rtcade ${target.url} ${roomId ?? ""}`, identity);
    let breakOff;
    let retryTimer;
    let isLate = false;
    const endsAt = env.now() + COMEBACK_TIMEOUT;
    // Ends what a clock that stands still would not.
    const endTimer = env.setTimeout(() => (isLate = true), COMEBACK_TIMEOUT);
    const settle = () => {
      env.clearTimeout(endTimer);
      env.clearTimeout(retryTimer);
      signal?.removeEventListener("abort", abort);
    };
    const abort = () => {
      settle();
      tickets.release(breakOff?.(true));
      refuse("aborted");
    };
    const joined = (first) => {
      settle();
      resolve(createRoom(env, target, tickets, first, options));
    };
    const failed = ({ error, closing, wait }) => {
      breakOff = undefined;
      const delay = wait + env.random() * PACE_JITTER;
      if (!isLate && env.now() + delay < endsAt) {
        retryTimer = env.setTimeout(attempt, delay);
        return;
      }
      settle();
      tickets.release(!closing.retry);
      reject(error);
    };
    const attempt = () => {
      const how = { ...target, ticket: tickets.read, isFirst: true, offering: true, timeout: SIGNALING_TIMEOUT };
      breakOff = dial(env, how, joined, failed);
    };
    signal?.addEventListener("abort", abort);
    if (!/[?&]dev(=|&|$)/.test(globalThis.location?.search)) return attempt();
    const script = new URL("../rtcade/dev.js", address.href.replace("ws", "http"));
    // Code comes from the page's own host alone: any other address fails.
    import(/* webpackIgnore: true */ /* @vite-ignore */ script.hostname === location.hostname && script)
      .then(({ shape }) => (env = shape(env)))
      .catch(() => console.warn(`?dev can't load ${script}. Use the page's host, at localhost or with --dev.`))
      .then(() => signal?.aborted || attempt());
  });
