import { connect, RtcadeError } from "./index.js";
import { PACE_JITTER, SIGNALING_TIMEOUT } from "./limits.js";

/** As in index.js. */
const REPLACED = Symbol.for("rtcade.environment");

const SENTENCES = {
  aborted: "Seeking was cancelled.",
  bad_address: "This is not the address of a server. Use a full one, such as https://example.com/.",
  bearer: "This page could not get a token. Sign in and try again.",
  internal: "The server refused the request.",
  timeout: "The server did not answer in time. Check the address and your connection, then try again.",
  unreachable: "The connection to the server failed or was lost. Check the address and your connection, then try again.",
  unsupported: "This browser has no websockets. Use another browser.",
};
const text = (value, otherwise) => (typeof value === "string" && value ? value : otherwise);

/** Beside the rooms, whichever page of the server it is. */
function apiAddress(url) {
  const here = globalThis.location?.href;
  const address = new URL(url ?? here, here);
  address.pathname = address.pathname.replace(/(\/r)?\/[^/]*$/, "/api");
  address.protocol = address.protocol.replace("http", "ws");
  address.hash = "";
  return address.href;
}

/** Waits for another player and joins the room for both. See seek.d.ts. */
export const seek = (context, given) =>
  new Promise((resolve, reject) => {
    const { url, ...options } = given ?? {};
    const { bearer, signal } = options;
    const env = {
      WebSocket: globalThis.WebSocket,
      setTimeout: (f, ms) => setTimeout(f, ms),
      clearTimeout: (id) => clearTimeout(id),
      random: Math.random,
      ...options[REPLACED],
    };
    let address;
    let socket;
    let timer;
    let isOver = false;
    const drop = () => {
      env.clearTimeout(timer);
      if (!socket) return;
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    };
    const end = () => {
      isOver = true;
      signal?.removeEventListener("abort", abort);
      drop();
    };
    const refuse = (code, message) => {
      end();
      reject(new RtcadeError("signaling", code, text(message, SENTENCES[code] ?? SENTENCES.internal)));
    };
    const abort = () => refuse("aborted");

    const handle = ({ data }) => {
      const { a: action, s: success, d: details, e: code, m: message, retryAfter } = JSON.parse(data) ?? {};
      // A websocket that is refused before anything is asked gets a refusal of `join`.
      if (action !== "seekR" && (action !== "joinR" || success)) return;
      if (success) {
        end();
        resolve(connect(address, { ...options, room: details.roomId }));
      } else if (retryAfter >= 0) {
        drop();
        timer = env.setTimeout(attempt, retryAfter + env.random() * PACE_JITTER);
      } else refuse(text(code, "internal"), message);
    };
    const attempt = async () => {
      let token;
      try {
        token = await (typeof bearer === "function" ? bearer() : bearer);
      } catch {
        return isOver || refuse("bearer");
      }
      if (isOver) return;
      try {
        socket = new env.WebSocket(address);
      } catch {
        return refuse("unreachable");
      }
      timer = env.setTimeout(() => refuse("timeout"), SIGNALING_TIMEOUT);
      socket.onclose = ({ reason }) => refuse("unreachable", reason);
      socket.onopen = () => {
        env.clearTimeout(timer);
        socket.send(JSON.stringify({ a: "seek", d: { version: 0, context, bearer: token } }));
      };
      socket.onmessage = (message) => {
        try {
          handle(message);
        } catch {
          refuse("internal");
        }
      };
    };
    if (signal?.aborted) return abort();
    if (!env.WebSocket) return refuse("unsupported");
    try {
      address = apiAddress(url);
    } catch {
      return refuse("bad_address");
    }
    signal?.addEventListener("abort", abort);
    attempt();
  });
