import { addressOf } from "./address.js";
import { connect, RtcadeError } from "./index.js";
import {
  BACKOFF_CAP,
  BACKOFF_FIRST,
  COMEBACK_TIMEOUT,
  PACE_JITTER,
  REDIRECT_RETRY,
  REDIRECTS,
  SIGNALING_TIMEOUT,
  SOCKET_SILENCE,
} from "./limits.js";

/** As in index.js. */
const REPLACED = Symbol.for("rtcade.environment");

const SENTENCES = {
  aborted: "Seeking was cancelled.",
  bad_address: "This is not the address of a server. Use a full one, such as https://example.com/.",
  bearer: "This page could not get a token. Sign in and try again.",
  internal: "The server refused the request.",
  redirects: "The servers send this page to and fro. Try again.",
  timeout: "The server did not answer in time. Check the address and your connection, then try again.",
  unreachable: "The connection to the server failed or was lost. Check the address and your connection, then try again.",
  unsupported: "This browser has no websockets. Use another browser.",
};
const text = (value, otherwise) => (typeof value === "string" && value ? value : otherwise);

/** Waits for another player and joins the room for both. See seek.d.ts. */
export const seek = (context, given) =>
  new Promise((resolve, reject) => {
    const { url, ...options } = given ?? {};
    const { bearer, signal } = options;
    const env = {
      WebSocket: globalThis.WebSocket,
      setTimeout: (f, ms) => setTimeout(f, ms),
      clearTimeout: (id) => clearTimeout(id),
      now: () => performance.now(),
      random: Math.random,
      ...options[REPLACED],
    };
    let address;
    let socket;
    let timer;
    let isOver = false;
    /** Until when a lost connection is tried again, once there was one, and how often it was. */
    let endsAt;
    let attempts = 0;
    /** When the websocket opened, and how many servers have sent the request on since the first. */
    let openedAt;
    let redirects = 0;
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

    const noteWait = () => {
      // What was lost or sent on at once was no wait.
      if (!(env.now() - openedAt > BACKOFF_CAP)) return;
      endsAt = env.now() + COMEBACK_TIMEOUT;
      attempts = redirects = 0;
    };
    const comeBack = (code, reason) => {
      noteWait();
      // Of a server that has gone, the one that named it may know another.
      const first = redirects ? REDIRECT_RETRY : BACKOFF_FIRST;
      const delay = env.random() * Math.min(BACKOFF_CAP, first * 2 ** attempts++);
      if (!(env.now() + delay < endsAt)) return refuse(code, reason);
      drop();
      timer = env.setTimeout(attempt, delay);
    };

    const expect = (ms) => {
      env.clearTimeout(timer);
      timer = env.setTimeout(() => comeBack("timeout"), ms);
    };
    // The first sign comes once the server knows where to wait.
    const listen = () => expect(SIGNALING_TIMEOUT + SOCKET_SILENCE);

    const handle = ({ data }) => {
      listen();
      const { a: action, s: success, d: details, e: code, m: message, retryAfter } = JSON.parse(data) ?? {};
      if (action === "eventRedirect" && details?.url) {
        noteWait();
        if (redirects++ >= REDIRECTS) return refuse("redirects");
        drop();
        return open(details.url, details.ticket);
      }
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
    const attempt = () => {
      redirects = 0;
      return open(address);
    };
    const open = async (url, ticket) => {
      let token;
      try {
        token = await (typeof bearer === "function" ? bearer() : bearer);
      } catch {
        return isOver || refuse("bearer");
      }
      if (isOver) return;
      openedAt = undefined;
      try {
        socket = new env.WebSocket(url);
      } catch {
        return comeBack("unreachable");
      }
      expect(SIGNALING_TIMEOUT);
      socket.onclose = ({ reason }) => comeBack("unreachable", reason);
      socket.onopen = () => {
        listen();
        openedAt = env.now();
        endsAt ??= openedAt + COMEBACK_TIMEOUT;
        socket.send(JSON.stringify({ a: "seek", d: { version: 0, context, bearer: token, ticket } }));
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
      address = addressOf("/api", url, "ws");
    } catch {
      return refuse("bad_address");
    }
    signal?.addEventListener("abort", abort);
    attempt();
  });
