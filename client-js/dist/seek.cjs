/*! rtcade: MIT OR Apache-2.0 */
var __defProp = Object.defineProperty;
var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
var __getOwnPropNames = Object.getOwnPropertyNames;
var __hasOwnProp = Object.prototype.hasOwnProperty;
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};
var __copyProps = (to, from, except, desc) => {
  if (from && typeof from === "object" || typeof from === "function") {
    for (let key of __getOwnPropNames(from))
      if (!__hasOwnProp.call(to, key) && key !== except)
        __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
  }
  return to;
};
var __toCommonJS = (mod) => __copyProps(__defProp({}, "__esModule", { value: true }), mod);

// src/seek.js
var seek_exports = {};
__export(seek_exports, {
  seek: () => seek
});
module.exports = __toCommonJS(seek_exports);

// src/address.js
function addressOf(path, url, scheme) {
  var _a;
  const here = (_a = globalThis.location) == null ? void 0 : _a.href;
  const address = new URL(url != null ? url : here, here);
  address.pathname = address.pathname.replace(/(\/r)?\/[^/]*$/, path);
  address.protocol = address.protocol.replace(/http|ws/, scheme);
  address.hash = "";
  return address.href;
}

// src/seek.js
var import_index = require("./index.cjs");

// src/limits.js
var PART_BODY_BYTES = 1094;
var FRAME_PARTS = 4;
var UNRELIABLE_BODY_BYTES = FRAME_PARTS * PART_BODY_BYTES;
var STATE_BODY_BYTES = 16 * 1024 + 8;
var RELIABLE_DOWN_BYTES = 1024 * 1024;
var RELIABLE_UP_BYTES = 16 * 1024;
var HEARTBEAT_INTERVAL = 1200;
var HEARTBEATS_SKIPPED = 2;
var UNACKNOWLEDGED_BYTES = 64 * 1024;
var CHANNEL_BACKLOG = 32 * 1024;
var SOCKET_BACKLOG = 64 * 1024;
var SIGNALING_TIMEOUT = 1e4;
var REDIRECTS = 4;
var REDIRECT_RETRY = 1e3;
var SOCKET_SILENCE = 5e3;
var SPARSE_SILENCE = SOCKET_SILENCE + HEARTBEATS_SKIPPED * HEARTBEAT_INTERVAL;
var BACKOFF_FIRST = 250;
var BACKOFF_CAP = 5e3;
var PACE_JITTER = 500;
var COMEBACK_TIMEOUT = 6e4;

// src/seek.js
var REPLACED = /* @__PURE__ */ Symbol.for("rtcade.environment");
var SENTENCES = {
  aborted: "Seeking was cancelled.",
  bad_address: "This is not the address of a server. Use a full one, such as https://example.com/.",
  bearer: "This page could not get a token. Sign in and try again.",
  internal: "The server refused the request.",
  redirects: "The servers send this page to and fro. Try again.",
  timeout: "The server did not answer in time. Check the address and your connection, then try again.",
  unreachable: "The connection to the server failed or was lost. Check the address and your connection, then try again.",
  unsupported: "This browser has no websockets. Use another browser."
};
var text = (value, otherwise) => typeof value === "string" && value ? value : otherwise;
var seek = (context, given) => new Promise((resolve, reject) => {
  const { url, ...options } = given != null ? given : {};
  const { bearer, signal } = options;
  const env = {
    WebSocket: globalThis.WebSocket,
    setTimeout: (f, ms) => setTimeout(f, ms),
    clearTimeout: (id) => clearTimeout(id),
    now: () => performance.now(),
    random: Math.random,
    ...options[REPLACED]
  };
  let address;
  let socket;
  let timer;
  let isOver = false;
  let endsAt;
  let attempts = 0;
  let openedAt;
  let redirects = 0;
  const drop = () => {
    env.clearTimeout(timer);
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1e3);
  };
  const end = () => {
    isOver = true;
    signal == null ? void 0 : signal.removeEventListener("abort", abort);
    drop();
  };
  const refuse = (code, message) => {
    var _a;
    end();
    reject(new import_index.RtcadeError("signaling", code, text(message, (_a = SENTENCES[code]) != null ? _a : SENTENCES.internal)));
  };
  const abort = () => refuse("aborted");
  const noteWait = () => {
    if (!(env.now() - openedAt > BACKOFF_CAP)) return;
    endsAt = env.now() + COMEBACK_TIMEOUT;
    attempts = redirects = 0;
  };
  const comeBack = (code, reason) => {
    noteWait();
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
  const listen = () => expect(SIGNALING_TIMEOUT + SOCKET_SILENCE);
  const handle = ({ data }) => {
    var _a;
    listen();
    const { a: action, s: success, d: details, e: code, m: message, retryAfter } = (_a = JSON.parse(data)) != null ? _a : {};
    if (action === "eventRedirect" && (details == null ? void 0 : details.url)) {
      noteWait();
      if (redirects++ >= REDIRECTS) return refuse("redirects");
      drop();
      return open(details.url, details.ticket);
    }
    if (action !== "seekR" && (action !== "joinR" || success)) return;
    if (success) {
      end();
      resolve((0, import_index.connect)(address, { ...options, room: details.roomId }));
    } else if (retryAfter >= 0) {
      drop();
      timer = env.setTimeout(attempt, retryAfter + env.random() * PACE_JITTER);
    } else refuse(text(code, "internal"), message);
  };
  const attempt = () => {
    redirects = 0;
    return open(address);
  };
  const open = async (url2, ticket) => {
    let token;
    try {
      token = await (typeof bearer === "function" ? bearer() : bearer);
    } catch {
      return isOver || refuse("bearer");
    }
    if (isOver) return;
    openedAt = void 0;
    try {
      socket = new env.WebSocket(url2);
    } catch {
      return comeBack("unreachable");
    }
    expect(SIGNALING_TIMEOUT);
    socket.onclose = ({ reason }) => comeBack("unreachable", reason);
    socket.onopen = () => {
      listen();
      openedAt = env.now();
      endsAt != null ? endsAt : endsAt = openedAt + COMEBACK_TIMEOUT;
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
  if (signal == null ? void 0 : signal.aborted) return abort();
  if (!env.WebSocket) return refuse("unsupported");
  try {
    address = addressOf("/api", url, "ws");
  } catch {
    return refuse("bad_address");
  }
  signal == null ? void 0 : signal.addEventListener("abort", abort);
  attempt();
});
//# sourceMappingURL=seek.cjs.map
