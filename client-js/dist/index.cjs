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

// src/index.js
var index_exports = {};
__export(index_exports, {
  RtcadeError: () => RtcadeError,
  connect: () => connect
});
module.exports = __toCommonJS(index_exports);

// src/error.js
var RtcadeError = class extends Error {
  constructor(stage, code, message) {
    super(message);
    this.name = "RtcadeError";
    this.stage = stage;
    this.code = code;
  }
};
var SIGNALING = {
  aborted: "Connecting was cancelled.",
  bad_address: "This is not the address of a room. Use a full one, such as https://example.com/r/lobby.",
  bad_value: "The player's data can't be sent as JSON. Use plain values, without cycles.",
  bearer: "This page could not get a token. Sign in and try again.",
  blocked: "The browser blocked the connection. Add the server to connect-src of the page's Content-Security-Policy.",
  mixed_content: "A page over https can't reach a server over http. Use an https address.",
  redirects: "The servers send this page to and fro. Try again.",
  policy: "The server does not allow this connection. Ask its operator.",
  timeout: "The server did not answer in time. Check the address and your connection, then try again.",
  too_large: "The request to join has more than 16 KiB. Send less data.",
  unreachable: "The server could not be reached. Check the address and your connection, then try again.",
  unsupported: "This browser has no websockets. Use another browser.",
  version_mismatch: "The server's answer can't be read. Reload the page."
};
var text = (value, otherwise) => typeof value === "string" && value.trim() ? value : otherwise;
var signalingError = (code, message) => {
  var _a;
  return new RtcadeError(
    code === "refused" ? "game" : "signaling",
    text(code, "internal"),
    text(message, (_a = SIGNALING[code]) != null ? _a : `The server refused: ${text(code, "internal")}.`)
  );
};
var OBSTACLE = {
  offer: "The browser could not prepare a data channel.",
  unsupported: "This browser allows no WebRTC.",
  ice: "UDP to the server is blocked.",
  dtls: "Encryption over UDP to the server failed.",
  channel: "The data channel to the server failed.",
  bad_sdp: "The browser can't use the server's answer."
};
var channelError = (stage, code, message) => {
  var _a;
  return new RtcadeError(
    stage,
    text(code, "internal"),
    `${text(message, (_a = OBSTACLE[code]) != null ? _a : OBSTACLE[stage])} The game continues over the websocket, which may be slower.`
  );
};
var GOODBYES = [
  ["left", "You left the room."],
  ["closed", "The server closed the connection.", true],
  ["timeout", "The connection to the server timed out.", true],
  ["kicked", "You were removed from the room."],
  ["flood", "This page sent too much. Reload the page."],
  ["bad_frame", "This page sent a message that the server can't read. Reload the page."],
  ["replaced", "You are playing in another window."],
  ["room_closed", "The room was closed.", true],
  ["shutdown", "The server is shutting down.", true]
];
var LOST = ["unreachable", "The connection to the server was lost.", true];
var REFUSED = 4100;
var POLICIES = { 1008: "policy", 1009: "too_large" };
function closure(code, said) {
  var _a;
  const refusal = code === REFUSED ? text(said, "internal") : POLICIES[code];
  const [reason, sentence, retry = false] = refusal ? [refusal, signalingError(refusal).message, refusal === "rate_limited"] : (_a = GOODBYES[code === 1e3 ? 0 : code - 4e3]) != null ? _a : LOST;
  return {
    code,
    reason,
    message: (text(said) && said !== reason ? said : sentence) + (retry ? " Try to join again." : ""),
    retry
  };
}

// src/limits.js
var PART_BODY_BYTES = 1094;
var FRAME_PARTS = 4;
var UNRELIABLE_BODY_BYTES = FRAME_PARTS * PART_BODY_BYTES;
var STATE_BODY_BYTES = 16 * 1024 + 8;
var STATE_HISTORY = 32;
var STATES_UNREPORTED = 6;
var RELIABLE_DOWN_BYTES = 1024 * 1024;
var RELIABLE_UP_BYTES = 16 * 1024;
var RELIABLE_HEADER_BYTES = 9;
var INPUT_WINDOW = 8;
var INPUT_BYTES = 512;
var INPUT_INTERVAL = 8;
var INPUT_REPEAT = 50;
var PING_INTERVAL = 1e3;
var HEARTBEAT_INTERVAL = 1200;
var HEARTBEATS_SKIPPED = 2;
var UNACKNOWLEDGED_BYTES = 64 * 1024;
var REPEATED_PER_TICK = 4;
var TICKS_PER_REQUEST = 310;
var TICK_MS_MAX = 6e4;
var MSGPACK_DEPTH = 16;
var TICKS_WRAPPING = 3;
var AT_TICK_WRAPPING = 1;
var MSGPACK_ITEMS = 4096;
var CHANNEL_BACKLOG = 32 * 1024;
var SOCKET_BACKLOG = 64 * 1024;
var SIGNALING_TIMEOUT = 1e4;
var OFFER_PATIENCE = 2e3;
var REDIRECTS = 4;
var REDIRECT_RETRY = 1e3;
var STAGE_TIMEOUT = { ice: 8e3, dtls: 4e3, channel: 5e3 };
var SOCKET_SILENCE = 5e3;
var SPARSE_SILENCE = SOCKET_SILENCE + HEARTBEATS_SKIPPED * HEARTBEAT_INTERVAL;
var SOCKET_STALE = 2e3;
var CHANNEL_SILENCE = 1500;
var BACKOFF_FIRST = 250;
var BACKOFF_CAP = 5e3;
var PACE_JITTER = 500;
var COMEBACK_TIMEOUT = 6e4;
var COMEBACK_END = 3e5;
var RESUME_TIMEOUT = 5e3;
var OFFER_FIRST = 1e4;
var OFFER_CAP = 6e4;

// src/peer.js
function createPeer({ RTCPeerConnection, setTimeout: setTimeout2, clearTimeout: clearTimeout2, now }) {
  const pc = new RTCPeerConnection({ iceServers: [] });
  let channel;
  try {
    channel = pc.createDataChannel("rtcade", { negotiated: true, id: 0, ordered: false, maxRetransmits: 0 });
  } catch (error) {
    pc.close();
    throw error;
  }
  channel.binaryType = "arraybuffer";
  let stage = null;
  let timer;
  let heardAt;
  const isOpen = () => stage === "open" && channel.readyState === "open";
  const close = () => {
    clearTimeout2(timer);
    stage = null;
    channel.onopen = channel.onmessage = channel.onclose = null;
    pc.oniceconnectionstatechange = pc.onconnectionstatechange = null;
    pc.close();
  };
  return {
    isOpen,
    /** Whether it is open and has brought something within `ms`. */
    isAlive: (ms = CHANNEL_SILENCE) => isOpen() && now() - heardAt < ms,
    close,
    /** The offer. Candidates are not awaited: the server learns the address from the first packet. */
    async offer() {
      await pc.setLocalDescription(await pc.createOffer());
      return pc.localDescription.sdp;
    },
    /**
     * Takes the server's answer and opens the channel, each stage within its time. `onFail` gets `(stage, code)`, and
     * whatever sentence the server had, by way of `fail`.
     */
    accept(sdp, onOpen, onMessage, onFail) {
      const fail2 = (failed, code, sentence) => {
        if (stage === null) return;
        close();
        onFail(failed, code, sentence);
      };
      this.fail = fail2;
      const enter2 = (entered) => {
        stage = entered;
        clearTimeout2(timer);
        if (STAGE_TIMEOUT[stage]) timer = setTimeout2(() => fail2(entered, "timeout"), STAGE_TIMEOUT[stage]);
      };
      pc.oniceconnectionstatechange = pc.onconnectionstatechange = () => {
        const { iceConnectionState: ice, connectionState: all } = pc;
        if (ice === "failed") fail2("ice", "unreachable");
        else if (all === "failed") fail2("dtls", "unreachable");
        else {
          if (stage === "ice" && (ice === "connected" || ice === "completed")) enter2("dtls");
          if (stage === "dtls" && all === "connected") enter2("channel");
        }
      };
      channel.onopen = () => {
        enter2("open");
        heardAt = now();
        onOpen();
      };
      channel.onmessage = (message) => {
        heardAt = now();
        onMessage(message);
      };
      channel.onclose = () => fail2("channel", "unreachable");
      enter2("ice");
      (async () => pc.setRemoteDescription({ type: "answer", sdp }))().catch(() => fail2("ice", "bad_sdp"));
    },
    /** False where the channel backs up: what can't leave now would arrive late. */
    send(bytes2) {
      if (channel.bufferedAmount > CHANNEL_BACKLOG) return false;
      try {
        channel.send(bytes2);
        return true;
      } catch {
        return false;
      }
    }
  };
}
function prepareOffer(env, patience) {
  let peer;
  let timer;
  const cancel = () => {
    env.clearTimeout(timer);
    peer == null ? void 0 : peer.close();
  };
  const result = new Promise((resolve) => {
    const giveUp = (code) => {
      cancel();
      resolve({ obstacle: channelError("ice", code) });
    };
    try {
      peer = createPeer(env);
    } catch {
      return giveUp(env.RTCPeerConnection ? "offer" : "unsupported");
    }
    timer = env.setTimeout(() => giveUp("offer"), patience);
    peer.offer().then(
      (sdp) => {
        env.clearTimeout(timer);
        resolve({ peer, sdp });
      },
      () => giveUp("offer")
    );
  });
  return { result, cancel };
}

// src/dial.js
var LEAVE = `{"a":"leave"}`;
var toJson = (value) => JSON.stringify(value).replace(/\\(\\|ud[89a-f]..)/g, (escape, escaped) => escaped === "\\" ? escape : "\uFFFD");
var fits = (text2) => new TextEncoder().encode(text2).length <= RELIABLE_UP_BYTES;
var parse = (text2) => {
  var _a;
  try {
    return (_a = JSON.parse(text2)) != null ? _a : {};
  } catch {
    return {};
  }
};
var isMixed = ({ url }) => {
  var _a;
  return /^ws:/.test(url) && ((_a = globalThis.location) == null ? void 0 : _a.protocol) === "https:";
};
var isU32 = (n) => n >>> 0 === n;
var isText = (value) => typeof value === "string";
var isSession = (session) => isU32(session == null ? void 0 : session.player) && [session.name, session.userId, session.socketId].every((x) => x == null || isText(x));
var isReply = (d, isNew) => [d == null ? void 0 : d.player, d == null ? void 0 : d.tick, d == null ? void 0 : d.inputSeq].every(isU32) && (isNew || [d.last, d.reliableSeq].every(isU32)) && [d.socketId, d.resume].every(isText) && d.tickMs > 0 && d.tickMs <= TICK_MS_MAX && Array.isArray(d.sessions) && d.sessions.every(isSession);
function dial(env, { url, pass, join, bearer, ticket, isFirst, offering, timeout }, done, failed) {
  let offer;
  let token;
  let prepared = {};
  let isOpen = false;
  let isIdentifying = false;
  let asked;
  let isSettled = false;
  let request;
  let redirects = pass ? 1 : 0;
  const prepare = () => offer != null ? offer : offer = prepareOffer(env, OFFER_PATIENCE);
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
    socket.close(isOver ? 1e3 : void 0);
    offer == null ? void 0 : offer.cancel();
    return Boolean(asked);
  };
  const fail2 = (code, sentence, { wait, retry = wait !== void 0, closeCode = 4100, isOver } = {}) => {
    if (isSettled) return;
    if (isMixed(socket) && /^(unreachable|blocked)$/.test(code)) code = "mixed_content";
    if (redirects && retry) wait != null ? wait : wait = REDIRECT_RETRY;
    breakOff(isOver);
    const error = signalingError(code, sentence);
    failed({ error, closing: { code: closeCode, reason: error.code, message: error.message, retry }, wait });
  };
  const later = { retry: true, closeCode: 1006 };
  const expire = () => fail2(isIdentifying ? "bearer" : "timeout", "", { ...later, isOver: asked === "join" });
  const identify = () => token != null ? token : token = (async () => typeof bearer === "function" ? bearer() : bearer)().catch(() => fail2("bearer", "", later));
  const ask = async (action, details, isBearing) => {
    var _a;
    request = [action, details, isBearing];
    const at2 = socket;
    prepared = (_a = await (offer == null ? void 0 : offer.result)) != null ? _a : prepared;
    isIdentifying = isBearing;
    const shown = isBearing ? await identify() : void 0;
    isIdentifying = false;
    if (isSettled || at2 !== socket) return;
    const bearer2 = isText(shown) ? shown : void 0;
    const common = { version: 0, sparseHeartbeats: true, ticket: pass };
    const write = (sdp) => toJson({ a: action, d: { ...common, ...details, bearer: bearer2, sdp } });
    let text2 = write(prepared.sdp);
    if (prepared.sdp && !fits(text2)) {
      offer.cancel();
      prepared = {};
      text2 = write();
    }
    if (!fits(text2)) return fail2("too_large");
    asked = action;
    pass = void 0;
    socket.send(text2);
  };
  let socket;
  let timer;
  const block = () => fail2("blocked");
  const blocked = () => {
    env.clearTimeout(timer);
    timer = env.setTimeout(block, 0);
  };
  const open = (address) => {
    isOpen = false;
    asked = void 0;
    try {
      socket = new env.WebSocket(address);
    } catch {
      socket = { url: address, close() {
      } };
      return blocked();
    }
    socket.binaryType = "arraybuffer";
    socket.onerror = blocked;
    socket.onclose = ({ code: closeCode, reason: text2 }) => {
      const { reason, message, retry } = closure(closeCode, text2);
      fail2(reason, reason === "unreachable" && !isOpen ? "" : message, { retry, closeCode });
    };
    socket.onopen = () => {
      isOpen = true;
      const known2 = ticket();
      return ask(...request != null ? request : known2 ? ["reconnect", known2, isFirst] : ["join", join, true]);
    };
    socket.onmessage = receive;
  };
  const receive = ({ data }) => {
    var _a, _b;
    const { a: action, s: success, d: reply, e: code, m: sentence, ...rest } = parse(data);
    const isNew = asked !== "reconnect";
    if (action === "eventRedirect" && isText(reply == null ? void 0 : reply.url) && asked) {
      if (redirects++ >= REDIRECTS) return fail2("redirects");
      detach();
      socket.close();
      pass = reply.ticket;
      return open(reply.url);
    }
    if (action !== `${asked != null ? asked : "join"}R` && action !== "R" || success && !asked) return;
    if (!success) {
      if (!isNew && (code === "no_such_session" || code === "unauthorized")) {
        const [, { socketId, resume }] = request;
        asked = void 0;
        prepare();
        return ask("join", { ...join, former: { socketId, resume } }, true);
      }
      const wait = (_a = rest.retryAfter) != null ? _a : reply == null ? void 0 : reply.retryAfter;
      return fail2(code, sentence, { wait: wait >= 0 ? wait : void 0 });
    }
    if (!isReply(reply, isNew)) return fail2("version_mismatch", "", { isOver: isNew });
    settle();
    const { peer, obstacle } = prepared;
    const { e = "bad_sdp", m } = (_b = reply.sdpError) != null ? _b : {};
    done({ socket, reply, isNew, peer, obstacle: obstacle != null ? obstacle : peer && !reply.sdp ? channelError("ice", e, m) : void 0 });
  };
  timer = env.setTimeout(expire, timeout);
  if (offering) prepare();
  if (isFirst) identify();
  open(url);
  return breakOff;
}

// src/msgpack.js
var WireError = class extends Error {
  constructor(code, trouble) {
    super(code);
    this.code = code;
    this.trouble = trouble;
  }
};
var fail = (code, trouble) => {
  throw new WireError(code, trouble);
};
var JS_INTEGER_MAX = 2 ** 53;
var toUtf8 = new TextEncoder();
var fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
var SHORT = 32;
var scratch = new DataView(new ArrayBuffer(8));
var putInteger = (out, n, width) => {
  for (let bits = 8 * width - 8; bits >= 0; bits -= 8) out.bytes.push(n >> bits & 255);
};
var putFloat = (out, x) => {
  const single = Object.is(Math.fround(x), x);
  out.bytes.push(single ? 202 : 203);
  if (single) scratch.setFloat32(0, x);
  else scratch.setFloat64(0, x);
  for (let at2 = 0; at2 < (single ? 4 : 8); at2++) out.bytes.push(scratch.getUint8(at2));
};
var putNumber = (out, n) => {
  if (!Number.isInteger(n) || Math.abs(n) > JS_INTEGER_MAX) return putFloat(out, n);
  if (n >= -32 && n < 128) return out.bytes.push(n & 255);
  const size = n < 0 ? -2 * (n + 1) : n;
  const power = size < 256 ? 0 : size < 65536 ? 1 : size < 2 ** 32 ? 2 : 3;
  out.bytes.push((n < 0 ? 208 : 204) + power);
  if (power === 3) putInteger(out, Math.floor(n / 2 ** 32), 4);
  putInteger(out, n, Math.min(4, 1 << power));
};
var putLength = (out, n, fixed, fixedBelow, marker, leastPower = 0) => {
  if (n < fixedBelow) return out.bytes.push(fixed + n);
  const power = Math.max(leastPower, n < 256 ? 0 : n < 65536 ? 1 : 2);
  out.bytes.push(marker + power);
  putInteger(out, n, 1 << power);
};
var putBytes = (out, bytes2) => {
  if (bytes2.length > out.limit) fail("too_large");
  for (let at2 = 0; at2 < bytes2.length; at2++) out.bytes.push(bytes2[at2]);
};
var putString = (out, text2) => {
  const { length } = text2;
  if (length > out.limit) fail("too_large");
  let at2 = 0;
  if (length <= SHORT) while (at2 < length && text2.charCodeAt(at2) < 128) at2++;
  if (at2 < length) {
    const utf8 = toUtf8.encode(text2);
    putLength(out, utf8.length, 160, 32, 217);
    putBytes(out, utf8);
  } else {
    putLength(out, length, 160, 32, 217);
    for (at2 = 0; at2 < length; at2++) out.bytes.push(text2.charCodeAt(at2));
  }
};
var enter = (out, elements, depth) => {
  if (depth === 0) fail("depth");
  out.itemsLeft -= elements;
  if (out.itemsLeft < 0) fail("items");
};
var located = (error, step) => {
  var _a;
  const known2 = error instanceof WireError ? error : new WireError("bad_value", "throws");
  known2.path = step + ((_a = known2.path) != null ? _a : "");
  return known2;
};
var putObject = (out, object, depth) => {
  const keysAndValues = [];
  let key;
  const keys = Object.keys(object);
  try {
    for (key of keys) {
      const value = object[key];
      if (value !== void 0) keysAndValues.push(key, value);
    }
    const { length } = keysAndValues;
    enter(out, length, depth);
    putLength(out, length / 2, 128, 16, 221, 1);
    for (let n = 0; n < length; n += 2) {
      key = keysAndValues[n];
      putString(out, key);
      put(out, keysAndValues[n + 1], depth - 1);
    }
  } catch (error) {
    throw located(error, `.${key}`);
  }
};
var putArray = (out, array2, depth) => {
  const { length } = array2;
  enter(out, length, depth);
  putLength(out, length, 144, 16, 219, 1);
  let n = 0;
  try {
    for (; n < length; n++) put(out, array2[n], depth - 1);
  } catch (error) {
    throw located(error, `[${n}]`);
  }
};
var put = (out, value, depth) => {
  if (typeof value === "number") putNumber(out, value);
  else if (typeof value === "string") putString(out, value);
  else if (typeof value === "boolean") out.bytes.push(value ? 195 : 194);
  else if (value === void 0 || value === null) out.bytes.push(192);
  else if (Array.isArray(value)) putArray(out, value, depth);
  else if (value instanceof Uint8Array) {
    putLength(out, value.length, 0, 0, 196);
    putBytes(out, value);
  } else {
    const type = Object.prototype.toString.call(value).slice(8, -1);
    if (type !== "Object") fail("bad_value", `is of type ${type}`);
    putObject(out, value, depth);
  }
  if (out.bytes.length > out.limit) fail("too_large");
};
function encode(value, limit, depth = MSGPACK_DEPTH, maxItems = MSGPACK_ITEMS) {
  const out = { bytes: [], limit, itemsLeft: maxItems };
  try {
    put(out, value, depth);
  } catch (error) {
    throw located(error, "");
  }
  return out.bytes;
}
var bytes;
var view;
var at;
var itemsLeft;
var known = Array(256).fill("");
var take = (length) => {
  if (length > bytes.length - at) fail("truncated");
  at += length;
  return at - length;
};
var unsigned = (width) => {
  let from = take(width);
  let n = 0;
  while (from < at) n = n * 256 + bytes[from++];
  return n;
};
var signed = (width) => {
  const shift = 32 - 8 * width;
  return unsigned(width) << shift >> shift;
};
var long = (high) => {
  const low = unsigned(4);
  const top = JS_INTEGER_MAX / 2 ** 32;
  if (high < -top || high > top || high === top && low > 0) fail("integer");
  return high * 2 ** 32 + low;
};
var string = (length) => {
  const from = take(length);
  let hash = length;
  let isPlain = length <= SHORT;
  for (let n = from; isPlain && n < at; n++) {
    hash = hash * 31 + bytes[n] & 255;
    isPlain = bytes[n] < 128;
  }
  if (!isPlain) {
    try {
      return fromUtf8.decode(bytes.subarray(from, at));
    } catch {
      fail("utf8");
    }
  }
  let text2 = known[hash];
  let isSame = text2.length === length;
  for (let n = 0; isSame && n < length; n++) isSame = text2.charCodeAt(n) === bytes[from + n];
  if (!isSame) {
    text2 = "";
    for (let n = from; n < at; n++) text2 += String.fromCharCode(bytes[n]);
    known[hash] = text2;
  }
  return text2;
};
var claim = (elements, depth) => {
  if (depth === 0) fail("depth");
  itemsLeft -= elements;
  if (itemsLeft < 0) fail("items");
  if (elements > bytes.length - at) fail("truncated");
};
var array = (length, depth) => {
  claim(length, depth);
  const items = new Array(length);
  for (let n = 0; n < length; n++) items[n] = read(depth - 1);
  return items;
};
var beginsKey = (marker) => marker < 128 || marker >> 5 === 5 || marker >= 204 && marker < 220 || marker >= 224;
var map = (length, depth) => {
  claim(2 * length, depth);
  const object = {};
  while (length-- > 0) {
    const marker = bytes[take(1)];
    if (!beginsKey(marker)) fail("type");
    const key = readAfter(marker, 0);
    const value = read(depth - 1);
    if (key in object) {
      Object.defineProperty(object, key, { value, configurable: true, enumerable: true, writable: true });
    } else object[key] = value;
  }
  return object;
};
var readAfter = (marker, depth) => {
  if (marker < 128) return marker;
  if (marker < 144) return map(marker & 15, depth);
  if (marker < 160) return array(marker & 15, depth);
  if (marker < 192) return string(marker & 31);
  if (marker === 192) return null;
  if (marker === 193) fail("type");
  if (marker < 196) return marker === 195;
  if (marker < 199) return bytes.slice(take(unsigned(1 << marker - 196)), at);
  if (marker < 202) fail("type");
  if (marker === 202) return view.getFloat32(take(4));
  if (marker === 203) return view.getFloat64(take(8));
  if (marker < 207) return unsigned(1 << marker - 204);
  if (marker === 207) return long(unsigned(4));
  if (marker < 211) return signed(1 << marker - 208);
  if (marker === 211) return long(signed(4));
  if (marker < 217) fail("type");
  if (marker < 220) return string(unsigned(1 << marker - 217));
  if (marker < 222) return array(unsigned(2 << marker - 220), depth);
  if (marker < 224) return map(unsigned(2 << marker - 222), depth);
  return marker - 256;
};
var read = (depth) => {
  const marker = bytes[take(1)];
  return marker < 128 ? marker : readAfter(marker, depth);
};
function decode(from, maxDepth = MSGPACK_DEPTH, maxItems = MSGPACK_ITEMS) {
  bytes = from;
  view = new DataView(from.buffer, from.byteOffset, from.length);
  at = 0;
  itemsLeft = maxItems;
  const value = read(maxDepth);
  if (at < bytes.length) fail("trailing");
  return value;
}

// src/inflate.js
var ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
function prefixCode(lengths) {
  const byLength = [[]];
  lengths.forEach((length, symbol) => {
    var _a;
    return length && ((_a = byLength[length]) != null ? _a : byLength[length] = []).push(symbol);
  });
  const width = byLength.length - 1;
  const entries = new Uint16Array(1 << width);
  let code = 0;
  byLength.forEach((symbols, length) => {
    for (const symbol of symbols) {
      for (let at2 = code; at2 < entries.length; at2 += 1 << length) entries[at2] = symbol << 4 | length;
      let carry = 1 << length - 1;
      for (; code & carry; carry >>= 1) code ^= carry;
      code |= carry;
    }
  });
  return { width, entries };
}
var FIXED = [
  prefixCode(new Uint8Array(288).map((_, symbol) => symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8)),
  prefixCode(new Uint8Array(30).fill(5))
];
function inflate(body, out) {
  let at2 = 0;
  let size = 0;
  let isLast;
  const take2 = (bits) => {
    at2 += bits;
    if (at2 > 8 * body.length) fail("inflate");
  };
  const peek = (bits) => {
    const byte = at2 >> 3;
    const three = body[byte] | body[byte + 1] << 8 | body[byte + 2] << 16;
    return three >> (at2 & 7) & (1 << bits) - 1;
  };
  const number = (bits) => {
    const value = peek(bits);
    take2(bits);
    return value;
  };
  const symbol = ({ width, entries }) => {
    const entry = entries[peek(width)];
    if (entry === 0) fail("inflate");
    take2(entry & 15);
    return entry >> 4;
  };
  const scaled = (n, power) => {
    const extra = (n >> power) - 1;
    return extra > 0 ? ((1 << power | n & (1 << power) - 1) << extra) + number(extra) : n;
  };
  const claim2 = (bytes2) => {
    if (size + bytes2 > out.length) fail("too_large");
  };
  const stored = () => {
    at2 = at2 + 7 & ~7;
    let length = number(16);
    take2(16);
    claim2(length);
    while (length--) out[size++] = number(8);
  };
  const codes = () => {
    const literals = number(5) + 257;
    const lengths = new Uint8Array(literals + number(5) + 1);
    const ofLengths = new Uint8Array(ORDER.length);
    for (let n = 0, count = number(4) + 4; n < count; n++) ofLengths[ORDER[n]] = number(3);
    const code = prefixCode(ofLengths);
    for (let n = 0; n < lengths.length; ) {
      const length = symbol(code);
      if (length < 16) lengths[n++] = length;
      else {
        const end = n + (length < 18 ? 3 + number(length - 14) : 11 + number(7));
        lengths.fill(length < 17 ? lengths[n - 1] : 0, n, end);
        n = end;
      }
    }
    return [prefixCode(lengths.subarray(0, literals)), prefixCode(lengths.subarray(literals))];
  };
  const compressed = ([literals, distances]) => {
    for (; ; ) {
      const literal = symbol(literals);
      if (literal === 256) return;
      if (literal < 256) {
        claim2(1);
        out[size++] = literal;
        continue;
      }
      let length = literal === 285 ? 258 : 3 + scaled(literal - 257, 2);
      let from = size - 1 - scaled(symbol(distances), 1);
      if (literal > 285 || from < 0) fail("inflate");
      claim2(length);
      while (length--) out[size++] = out[from++];
    }
  };
  do {
    isLast = number(1);
    const type = number(2);
    if (type === 0) stored();
    else if (type === 3) fail("inflate");
    else compressed(type === 1 ? FIXED : codes());
  } while (!isLast);
  return out.subarray(0, size);
}

// src/frame.js
var INPUT = 1;
var PING = 2;
var PONG = 3;
var STATE = 4;
var TICK = 5;
var EVENT = 6;
var COMMAND = 7;
var TICKS = 8;
var RELIABLE_EVENT = 9;
var ACK = 10;
var DEFLATED = 32;
var PARTED = 16;
var isReliable = (kind) => kind >= COMMAND;
var bodyLimit = (kind) => isReliable(kind) ? RELIABLE_DOWN_BYTES : UNRELIABLE_BODY_BYTES;
var getU16 = (bytes2, at2) => bytes2[at2] | bytes2[at2 + 1] << 8;
var getU32 = (bytes2, at2) => getU16(bytes2, at2) + getU16(bytes2, at2 + 2) * 65536;
var frame = (kind, first, second, width, body) => {
  const bytes2 = new Uint8Array(1 + 2 * width + body.length);
  bytes2[0] = kind;
  for (let n = 0; n < width; n++) {
    bytes2[1 + n] = first >>> 8 * n;
    bytes2[1 + width + n] = second >>> 8 * n;
  }
  bytes2.set(body, 1 + 2 * width);
  return bytes2;
};
var unreliableFrame = (kind, seq, ack, body) => frame(kind, seq, ack, 2, body);
var reliableFrame = (kind, seq, tick, body) => frame(kind, seq, tick, 4, body);
function decodeFrame(bytes2, overWebsocket) {
  if (bytes2.length === 0) fail("truncated");
  const kind = bytes2[0] & 15;
  const deflated = (bytes2[0] & DEFLATED) !== 0;
  const parted = (bytes2[0] & PARTED) !== 0;
  const reliable = isReliable(kind);
  if (bytes2[0] >> 6 !== 0) fail("version");
  if (kind < PING || kind === COMMAND || kind > ACK) fail("kind");
  if (reliable && !overWebsocket) fail("lane");
  if (reliable && parted) fail("part");
  const headerBytes = reliable ? 9 : parted ? 6 : 5;
  if (bytes2.length < headerBytes) fail("truncated");
  const body = bytes2.subarray(headerBytes);
  if (body.length > (parted ? PART_BODY_BYTES : bodyLimit(kind))) fail("too_large");
  if (reliable) return { kind, deflated, part: null, seq: getU32(bytes2, 1), tick: getU32(bytes2, 5), body };
  let part = null;
  if (parted) {
    const index = bytes2[1] >> 4;
    const count = (bytes2[1] & 15) + 1;
    if (count < 2 || count > FRAME_PARTS || index >= count) fail("part");
    part = { index, count };
  }
  return { kind, deflated, part, seq: getU16(bytes2, headerBytes - 4), ack: getU16(bytes2, headerBytes - 2), body };
}
function createAssembler() {
  let newest = -1;
  let parts = [];
  return (frame2, seq) => {
    if (!frame2.part) return frame2;
    const { index, count } = frame2.part;
    const first = seq - index;
    if (first < newest) return void 0;
    if (first > newest) {
      newest = first;
      parts = [];
    }
    parts[index] = frame2.body;
    const present = parts.filter(Boolean);
    if (present.length !== count) return void 0;
    const body = new Uint8Array(present.reduce((bytes2, { length }) => bytes2 + length, 0));
    let at2 = 0;
    for (const part of present) {
      body.set(part, at2);
      at2 += part.length;
    }
    return { ...frame2, body };
  };
}
var buffers = {};
function decodeBody({ kind, deflated, body }, states) {
  var _a;
  const isState = kind === STATE;
  const limit = isState ? STATE_BODY_BYTES : bodyLimit(kind);
  let bytes2 = deflated ? inflate(body, (_a = buffers[limit]) != null ? _a : buffers[limit] = new Uint8Array(limit)) : body;
  if (isState && states) bytes2 = states.restore(bytes2);
  const wrapping = kind === TICK || kind === TICKS ? TICKS_WRAPPING : AT_TICK_WRAPPING;
  return decode(bytes2, MSGPACK_DEPTH + wrapping, bytes2.length);
}

// src/delivery.js
var STOPPED = 250;
var MISSED = 10;
var ARRIVALS = 8;
var FROZEN = 250;
function createDelivery({ now, setTimeout: setTimeout2, clearTimeout: clearTimeout2 }, onDoubt) {
  let newest;
  let arrivals;
  let interval;
  let timer;
  let due;
  let unacknowledgedSince;
  let sentAt;
  const reset = () => {
    clearTimeout2(timer);
    timer = newest = unacknowledgedSince = void 0;
    arrivals = 0;
    delivery.doubtedAt = null;
  };
  const doubt = () => {
    if (delivery.doubtedAt !== null) return;
    reset();
    delivery.doubtedAt = now();
    onDoubt();
  };
  const patience = () => Math.max(STOPPED, MISSED * interval);
  const look = (wait) => {
    due = now() + wait;
    timer = setTimeout2(() => {
      timer = void 0;
      const left = newest + patience() - now();
      if (left > 0) look(left);
      else if (now() - due > FROZEN) look(patience());
      else doubt();
    }, wait);
  };
  const arrive = () => {
    const at2 = now();
    if (newest !== void 0) {
      const since = Math.min(at2 - newest, CHANNEL_SILENCE);
      interval = arrivals++ ? interval + (since - interval) / 8 : since;
    }
    newest = at2;
    if (timer === void 0 && arrivals >= ARRIVALS && patience() < CHANNEL_SILENCE) look(patience());
  };
  const delivery = {
    doubtedAt: null,
    reset,
    /** A frame of that kind has come over the channel. */
    heard(kind) {
      if (kind === PONG) delivery.doubtedAt = null;
      if (kind === STATE || kind === TICK) arrive();
    },
    /** Inputs went over the channel; a game takes them with its next tick. */
    sent(tickMs) {
      const at2 = now();
      if (at2 - sentAt > CHANNEL_SILENCE / 2) unacknowledgedSince = void 0;
      sentAt = at2;
      unacknowledgedSince != null ? unacknowledgedSince : unacknowledgedSince = at2;
      if (at2 - unacknowledgedSince > CHANNEL_SILENCE + tickMs) doubt();
    },
    acknowledged() {
      unacknowledgedSince = void 0;
    }
  };
  reset();
  return delivery;
}

// src/clock.js
var SLEW = 0.05;
var OFF_LIMIT = 1e3;
var PERIOD = 4e3;
function createTickClock(now, tickMs, tick, delay) {
  let starts = [now() - tick * tickMs, Infinity];
  let periodEnds = now() + PERIOD;
  let shown;
  let shownAt;
  return {
    /** Takes the arrival of anything that the room sent in this tick or later. */
    arrive(tick2) {
      const at2 = now();
      if (at2 >= periodEnds) {
        starts = [Infinity, at2 < periodEnds + PERIOD ? starts[0] : Infinity];
        periodEnds = at2 + PERIOD;
      }
      starts[0] = Math.min(starts[0], at2 - tick2 * tickMs);
    },
    /** The tick that the server has reached, with its fraction. */
    tick() {
      const at2 = now();
      const target = at2 - Math.min(...starts) + delay();
      const elapsed = at2 - shownAt;
      const off = target - shown - elapsed;
      if (!(Math.abs(off) <= OFF_LIMIT)) shown = target;
      else shown += elapsed + Math.max(-SLEW * elapsed, Math.min(SLEW * elapsed, off));
      shownAt = at2;
      return shown / tickMs;
    }
  };
}

// src/inputs.js
var STAMP_BYTES = 3;
var stamp = (tick) => Math.round(tick * 16) & 65535;
function createInputWindow(next) {
  const inputs = [];
  const newest = () => next - 1 >>> 0;
  return {
    /** Takes an input and the tick that the player saw. Gives how many inputs there are. */
    push(encoded, seen) {
      next = next + 1 >>> 0;
      inputs.push({ encoded, seen: stamp(seen) });
      if (inputs.length > INPUT_WINDOW) inputs.shift();
      return inputs.length;
    },
    /** The number of the newest input. */
    newest,
    /** The number that was taken modulo 2^16, of an input that the server has consumed. */
    unwrap: (ack) => newest() - (newest() - ack & 65535) >>> 0,
    /** Takes the number of the newest input consumed, modulo 2^16. Gives how many inputs are left. */
    acknowledge(ack) {
      const consumed = (ack - (next - inputs.length) & 65535) + 1;
      if (consumed <= inputs.length) inputs.splice(0, consumed);
      return inputs.length;
    },
    /** The body of an input frame: the newest input, and of those before it as many as fit one part. */
    body() {
      const number = encode(newest(), 5);
      const body = [146, ...number, 144];
      const stamps = [];
      let newer;
      let count = 0;
      for (let i = inputs.length - 1; i >= 0; i--) {
        const { encoded, seen } = inputs[i];
        const behind = encode(count ? newer - seen << 16 >> 16 : seen, STAMP_BYTES);
        if (body.length + encoded.length + stamps.length + behind.length > PART_BODY_BYTES) break;
        for (const byte of encoded) body.push(byte);
        stamps.push(...behind);
        newer = seen;
        count++;
      }
      body[0] += count;
      body[1 + number.length] += count;
      body.push(...stamps);
      return body;
    }
  };
}

// src/link.js
var LOSS_WINDOW = 256;
var ROUND_TRIPS = 16;
var RATE_WINDOW = 1e3;
function createLink(now, tickMs) {
  const counters = { received: 0, duplicate: 0, late: 0, bad: 0, dropped: 0 };
  const seen = new Uint8Array(LOSS_WINDOW);
  let first;
  let newest;
  let rtt = null;
  let jitter = 0;
  let roundTrips = [];
  let leastDelay = 0;
  let arrivals = [];
  let last;
  const link = {
    counters,
    /** Our clock at the latest ping that was answered. */
    answered: void 0,
    /** Takes the sequence number of an unreliable frame. Gives it unwrapped, or `undefined` if it came before. */
    receive(seq) {
      first != null ? first : first = newest = seq;
      const unwrapped = newest + (seq - newest << 16 >> 16);
      for (let n = Math.max(newest, unwrapped - LOSS_WINDOW) + 1; n <= unwrapped; n++) seen[n % LOSS_WINDOW] = 0;
      newest = Math.max(newest, unwrapped);
      const slot = unwrapped & LOSS_WINDOW - 1;
      if (unwrapped <= newest - LOSS_WINDOW || seen[slot]) {
        counters.duplicate++;
        return void 0;
      }
      first = Math.min(first, unwrapped);
      seen[slot] = 1;
      counters.received++;
      return unwrapped;
    },
    /** Takes the arrival of a tick's frame: jitter as in RFC 3550 §6.4.1, with the tick as the sender's clock. */
    arrive(tick) {
      const at2 = now();
      if (last) {
        const ticks = tick - last.tick | 0;
        if (ticks <= 0) return;
        jitter += (Math.abs(at2 - last.at - ticks * tickMs) - jitter) / 16;
      }
      last = { tick, at: at2 };
      arrivals = [...arrivals.filter((arrival) => arrival > at2 - RATE_WINDOW), at2];
    },
    /** Takes a pong: our clock when we pinged. */
    pong(clock) {
      const at2 = now();
      link.answered = clock;
      const sample = Math.max(0, at2 - clock);
      rtt = rtt === null ? sample : rtt + (sample - rtt) / 8;
      roundTrips = [...roundTrips.slice(1 - ROUND_TRIPS), sample];
      leastDelay = Math.min(...roundTrips) / 2;
    },
    /** Round trips over another transport say nothing about the new one. */
    restart() {
      rtt = null;
      roundTrips = [];
    },
    /**
     * How long a frame takes at least: half of the quickest round trip, whose halves differ least. Another transport has
     * that of the one before until it is measured, so that the room's clock does not go astray.
     */
    leastDelay: () => leastDelay,
    stats: () => ({
      rtt,
      jitter,
      loss: first === void 0 ? 0 : 1 - seen.reduce((sum, one) => sum + one) / Math.min(LOSS_WINDOW, newest - first + 1),
      tickRate: arrivals.filter((arrival) => arrival > now() - RATE_WINDOW).length,
      ...counters
    })
  };
  return link;
}

// src/states.js
var DELTA = 193;
var BYTE_WISE = 1;
var HEADER_BYTES = 6;
var BEFORE = 6;
var crcs = new Uint32Array(256).map((_, crc) => {
  for (let bit = 0; bit < 8; bit++) crc = crc >>> 1 ^ (crc & 1 && 2197175160);
  return crc;
});
function createStates(newest) {
  const held = /* @__PURE__ */ new Map();
  const out = new Uint8Array(STATE_BODY_BYTES);
  let before = 0;
  let restored;
  newest--;
  return {
    /**
     * The whole body, valid until the next: that of a delta, or `body` itself.
     * @throws {WireError} `delta` where it can't be read or the baseline is not held.
     */
    restore(body) {
      restored = body;
      if (body[0] !== DELTA) return body;
      const baseline = held.get(getU16(body, 2));
      if (!baseline || body[1] !== BYTE_WISE || body.length < HEADER_BYTES) fail("delta");
      let at2 = HEADER_BYTES;
      let from = 0;
      let to = 0;
      let crc = -1;
      const put2 = (byte) => {
        out[to++] = byte;
        crc = crc >>> 8 ^ crcs[(crc ^ byte) & 255];
      };
      const number = () => {
        for (let n = 0, shift = 0; shift < 21; shift += 7) {
          const byte = body[at2++];
          n |= (byte & 127) << shift;
          if (byte < 128) return n;
        }
        fail("delta");
      };
      while (at2 < body.length) {
        const operation = body[at2++];
        let copy = operation >> 4;
        let insert = operation >> 1 & 7;
        if (copy === 15) copy += number();
        if (insert === 7) insert += number();
        const skip = operation & 1 ? number() : 0;
        const isInside = copy === 0 || from >= 0 && from + copy <= baseline.length;
        if (!isInside || at2 + insert > body.length || to + copy + insert > out.length) fail("delta");
        const next = from + copy + insert + (skip >> 1 ^ -(skip & 1));
        while (copy-- > 0) put2(baseline[from++]);
        while (insert-- > 0) put2(body[at2++]);
        from = next;
      }
      if ((~crc & 65535) !== getU16(body, 4)) fail("delta");
      return restored = out.subarray(0, to);
    },
    /** Keeps what was restored last: the state of `tick`, newer than those before. */
    keep(tick) {
      const ahead = tick - newest;
      before = held.size === 0 || ahead > BEFORE ? 0 : (before << 1 | 1) << ahead - 1 & (1 << BEFORE) - 1;
      newest = tick;
      held.delete(tick & 65535);
      held.set(tick & 65535, restored.slice());
      if (held.size > STATE_HISTORY) held.delete(held.keys().next().value);
    },
    /** What a frame to the server acknowledges: the newest tick, and in six bits which of those before it. */
    acknowledgement: () => newest & 1023 | before << 10
  };
}

// src/ticks.js
function createTickOrder(next, deliver, ask, lose) {
  const held = /* @__PURE__ */ new Map();
  let askedLast = null;
  const hold = (tick, inputs) => {
    if ((tick - next | 0) >= 0) held.set(tick, inputs);
  };
  const gap = () => {
    let least = Infinity;
    for (const tick of held.keys()) least = Math.min(least, tick - next >>> 0);
    return least;
  };
  const skip = () => {
    if (held.size === 0) return;
    const first = next;
    next = first + gap() >>> 0;
    lose(first, next - 1 >>> 0);
  };
  const advance = () => {
    while (held.has(next)) {
      const tick = next;
      const inputs = held.get(tick);
      held.delete(tick);
      next = tick + 1 >>> 0;
      deliver(tick, inputs);
    }
    if (held.size > TICKS_PER_REQUEST) {
      askedLast = null;
      skip();
      advance();
    } else if (held.size > 0 && askedLast === null) {
      askedLast = next + Math.min(gap(), TICKS_PER_REQUEST) - 1 >>> 0;
      ask(next, askedLast);
    }
  };
  return {
    /** The inputs of `tick` and, after them, of the ticks before it. */
    window(tick, lists) {
      lists.forEach((inputs, age) => hold(tick - age >>> 0, inputs));
      advance();
    },
    /** The answer to a request: the inputs of `first` and, after them, of the ticks after it. */
    answer(first, lists) {
      if (first >>> 0 !== first || lists.length > TICKS_PER_REQUEST) fail("shape");
      lists.forEach((inputs, offset) => hold(first + offset >>> 0, inputs));
      const missing = askedLast !== null && (askedLast - next | 0) >= 0 && !held.has(next);
      askedLast = null;
      if (missing) skip();
      advance();
    },
    /** An answer that can't be read: asked again, it would be the same. What was asked for is lost. */
    fail() {
      askedLast = null;
      skip();
      advance();
    }
  };
}

// src/lanes.js
var PING_BYTES = 10;
var INPUTS_HEAD_BYTES = 7;
var WINDOWS_AHEAD = 3;
var isNewer = (tick, than) => (tick - than | 0) > 0;
var namedInputs = (lists) => lists.map((list) => list.map(([player, number, input]) => ({ player, number, input })));
function createLanes({ now, setTimeout: setTimeout2, clearTimeout: clearTimeout2 }, reply, emit, transmit, transmitReliable, onInputs = () => {
}) {
  const { tickMs, last: hadCommand = 0, reliableSeq = 1 } = reply;
  const link = createLink(now, tickMs);
  const clock = createTickClock(now, tickMs, reply.tick, link.leastDelay);
  const assemble = createAssembler();
  const inputs = createInputWindow(reply.inputSeq);
  const states = createStates(reply.tick);
  let unreported = 0;
  let sequence = 0;
  let newestTick = reply.tick;
  let stateTick = null;
  let flushTimer;
  let flushedAt = -Infinity;
  let waiting = 0;
  let unsent = 0;
  let unsentBytes = 0;
  let ahead = 0;
  let kept = [];
  let sent = 0;
  let keptBytes = 0;
  let reliableSequence = hadCommand + 1;
  let received = reliableSeq - 1;
  let acknowledged = received;
  let repeatTimer;
  const sendUnreliable = (kind, body, send = transmit) => {
    unreported = 0;
    if (send(unreliableFrame(kind, sequence, states.acknowledgement(), body))) sequence++;
    else link.counters.dropped++;
  };
  const flushIn = (wait) => {
    clearTimeout2(flushTimer);
    flushTimer = setTimeout2(flushInTime, wait);
  };
  const flush = () => {
    flushedAt = now();
    unsent = unsentBytes = 0;
    sendUnreliable(INPUT, inputs.body());
    onInputs(true);
    flushIn(INPUT_REPEAT);
  };
  const flushInTime = () => {
    ahead = 0;
    flush();
  };
  const sendKept = () => {
    repeatTimer = void 0;
    for (let n = 0; n < REPEATED_PER_TICK && sent < kept.length; n++) transmitReliable(kept[sent++].frame);
    if (sent < kept.length) repeatTimer = setTimeout2(sendKept, tickMs);
  };
  const sendReliable = (kind, body) => {
    const frame2 = reliableFrame(kind, reliableSequence, newestTick, body);
    kept.push({ seq: reliableSequence++, frame: frame2 });
    keptBytes += frame2.length;
    if (repeatTimer === void 0 && sent !== null) sendKept();
  };
  const forget = (newest) => {
    while (kept.length > 0 && kept[0].seq <= newest) {
      keptBytes -= kept.shift().frame.length;
      if (sent > 0) sent--;
    }
  };
  const acknowledge = () => {
    acknowledged = received;
    transmitReliable(reliableFrame(ACK, 0, newestTick, encode([received], PING_BYTES)));
  };
  const ticks = createTickOrder(
    reply.tick,
    (tick, inputs2) => emit("tick", { tick, inputs: inputs2 }),
    (first, last) => sendReliable(TICKS, encode([first, last], RELIABLE_UP_BYTES)),
    (first, last) => emit("error", new RtcadeError("game", "ticks_lost", `Ticks ${first} to ${last} are lost. The game continues.`))
  );
  const sawTick = (tick) => {
    if (tick >>> 0 !== tick) fail("shape");
    clock.arrive(tick);
    if (isNewer(tick, newestTick)) newestTick = tick;
  };
  const handleBody = ({ kind, ack }, [first, ...rest]) => {
    if (kind === PING) return sendUnreliable(PONG, encode([first], PING_BYTES));
    if (kind === PONG) {
      sawTick(rest[1]);
      if (!Number.isFinite(first + rest[0])) fail("shape");
      return link.pong(first);
    }
    if (kind === TICKS) return ticks.answer(first, namedInputs(rest));
    if (kind === ACK) {
      forget(first);
      if (received !== acknowledged) acknowledge();
      return;
    }
    sawTick(first);
    if (kind === EVENT) emit("event", rest[0], first, "unreliable");
    else if (kind === RELIABLE_EVENT) emit("event", rest[0], first, "reliable");
    else {
      link.arrive(first);
      if (kind === TICK) ticks.window(first, namedInputs(rest));
      else if (stateTick !== null && !isNewer(first, stateTick)) link.counters.late++;
      else {
        stateTick = first;
        states.keep(first);
        emit("state", rest[0], { tick: first, consumed: inputs.unwrap(ack) });
        if (++unreported >= STATES_UNREPORTED) sendUnreliable(INPUT, inputs.body());
      }
    }
  };
  return {
    link,
    sendUnreliable,
    ping: (send) => sendUnreliable(PING, encode([now()], PING_BYTES), send),
    /** Takes a frame: its kind, where it is whole and new. @throws {WireError} where it can't be read. */
    handle(bytes2, overWebsocket) {
      const frame2 = decodeFrame(bytes2, overWebsocket);
      let whole = frame2;
      if ("ack" in frame2) {
        const unwrapped = link.receive(frame2.seq);
        if (unwrapped === void 0) return;
        const left = inputs.acknowledge(frame2.ack);
        if (left < waiting) onInputs(false);
        waiting = left;
        if (left === 0) clearTimeout2(flushTimer);
        whole = assemble(frame2, unwrapped);
      } else {
        sawTick(frame2.tick);
        if (frame2.kind !== ACK && frame2.seq <= received) return;
        if (frame2.kind !== ACK) received = frame2.seq;
      }
      if (!whole) return;
      try {
        handleBody(whole, decodeBody(whole, states));
      } catch (error) {
        if (frame2.kind === TICKS) ticks.fail();
        throw error;
      }
      return frame2.kind;
    },
    /** Gives the number of the input. `seen` is the tick that the player saw, or what is no tick. */
    send(encoded, seen) {
      const bytes2 = encoded.length + STAMP_BYTES;
      const isFull = unsent === INPUT_WINDOW || unsentBytes + bytes2 > PART_BODY_BYTES - INPUTS_HEAD_BYTES;
      if (isFull && ahead < WINDOWS_AHEAD) {
        ahead++;
        flush();
      }
      waiting = inputs.push(encoded, Number.isFinite(seen) ? seen : stateTick != null ? stateTick : newestTick);
      unsent++;
      unsentBytes += bytes2;
      const wait = flushedAt + INPUT_INTERVAL - now();
      if (wait <= 0) flushInTime();
      else if (unsent === 1) flushIn(Math.min(wait, INPUT_INTERVAL));
      return inputs.newest();
    },
    command(encoded) {
      if (keptBytes + encoded.length > UNACKNOWLEDGED_BYTES)
        throw new RtcadeError("game", "backlog", "64 KiB of commands are not acknowledged yet. Send fewer.");
      sendReliable(COMMAND, encoded);
    },
    /** The websocket is gone: what is reliable waits for the next. */
    drop() {
      clearTimeout2(repeatTimer);
      repeatTimer = void 0;
      sent = null;
    },
    /** A new websocket carries the session on; the server has had everything up to `newest`. */
    resume({ tick, last: newest }) {
      if (isNewer(tick, newestTick)) newestTick = tick;
      forget(newest);
      sent = 0;
      acknowledge();
      sendKept();
    },
    stop() {
      clearTimeout2(flushTimer);
      clearTimeout2(repeatTimer);
    },
    serverTick: clock.tick,
    get received() {
      return received;
    },
    get tick() {
      return newestTick;
    }
  };
}

// src/room.js
var LOST2 = closure(1006);
var WAKING = ["pageshow", "visibilitychange", "online"];
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
        `can't be encoded: ${path || "it"} ${trouble}. Use null, booleans, numbers, strings, Uint8Arrays, arrays and plain objects`
      ]
    }[code];
    throw new RtcadeError("game", publicCode, `${what} ${sentence}.`);
  }
}
function createRoom(env, { roomName, ...target }, tickets, first, { signal, reconnectTimeout }) {
  var _a;
  const { now, random, page, setTimeout: setTimeout2, clearTimeout: clearTimeout2 } = env;
  const players = /* @__PURE__ */ new Map();
  const comebackTimeout = reconnectTimeout >= 0 ? reconnectTimeout : COMEBACK_TIMEOUT;
  let listeners = {};
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
  let untold = null;
  let untoldSince;
  let offer = null;
  let offerTimer;
  let offers = 0;
  let failedOffers = 0;
  let openedAt = Infinity;
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
      var _a2;
      for (const entry of (_a2 = listeners[type]) != null ? _a2 : []) {
        if (entry.listener === listener) listeners[type].delete(entry);
      }
    },
    send(input) {
      var _a2;
      const encoded = encodeOwn("An input", input, INPUT_BYTES);
      return isClosed() ? 0 : lanes.send(encoded, (_a2 = room.renderTick) == null ? void 0 : _a2.call(room));
    },
    serverTick: () => lanes.serverTick(),
    command(command) {
      const encoded = encodeOwn("A command", command, RELIABLE_UP_BYTES - RELIABLE_HEADER_BYTES);
      if (!isClosed()) lanes.command(encoded);
    },
    /** For modules, with the event `signal`: signaling that is not the game's. */
    signal: (message) => socket == null ? void 0 : socket.send(toJson(message)),
    retryNow() {
      if (!socket && !breakOff && !isClosed()) resume();
    },
    leave() {
      if (isClosed()) return;
      room.signal({ a: "leave" });
      close(closure(1e3), 1e3);
    }
  };
  const isClosed = () => room.status === "closed";
  const listen = (type, entry) => {
    var _a2;
    const ofType = (_a2 = listeners[type]) != null ? _a2 : listeners[type] = /* @__PURE__ */ new Set();
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
    var _a2, _b;
    for (const entry of [...(_a2 = listeners[type]) != null ? _a2 : []]) {
      if (entry.isOnce) listeners[type].delete(entry);
      try {
        entry.listener(...details);
      } catch (error) {
        ((_b = globalThis.reportError) != null ? _b : console.error)(error);
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
    var _a2;
    detach(closeCode);
    lanes.stop();
    delivery.reset();
    clearTimeout2(retryTimer);
    clearTimeout2(offerTimer);
    env.clearInterval(watcher);
    for (const type of WAKING) (_a2 = page == null ? void 0 : page.removeEventListener) == null ? void 0 : _a2.call(page, type, wake);
    signal == null ? void 0 : signal.removeEventListener("abort", room.leave);
    breakOff == null ? void 0 : breakOff(closeCode === 1e3);
    offer == null ? void 0 : offer.cancel();
    room.retryAt = null;
    peer == null ? void 0 : peer.close();
    tickets.release(true);
    setStatus("closed");
    emit("close", closing);
  };
  const carries = () => !socket || peer.isAlive() && (delivery.doubtedAt === null || heardAt < delivery.doubtedAt);
  const transport = () => (peer == null ? void 0 : peer.isOpen()) && carries() ? "webrtc" : "websocket";
  const transmitOverWebsocket = (frame2) => {
    if (!socket || socket.bufferedAmount > SOCKET_BACKLOG) return false;
    socket.send(frame2);
    return true;
  };
  const transmit = (frame2) => transport() === "webrtc" ? peer.send(frame2) : transmitOverWebsocket(frame2);
  const ping = () => {
    if (transport() !== measured) {
      measured = transport();
      lanes.link.restart();
    }
    lanes.ping();
    if ((peer == null ? void 0 : peer.isOpen()) && measured === "websocket") lanes.ping(peer.send);
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
      lanes.link.counters.bad++;
    }
  };
  const usePeer = (next, sdp) => {
    if (peer !== next) peer == null ? void 0 : peer.close();
    peer = next;
    clearTimeout2(offerTimer);
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
    clearTimeout2(offerTimer);
    offerTimer = setTimeout2(action, ms);
  };
  const losePeer = (error) => {
    if (isClosed()) return;
    peer == null ? void 0 : peer.close();
    peer = null;
    clearTimeout2(offerTimer);
    const isSupported = error.code !== "unsupported";
    delivery.reset();
    if (now() - openedAt >= OFFER_FIRST) failedOffers = 0;
    openedAt = Infinity;
    const wait = failedOffers === 0 ? 0 : Math.min(OFFER_CAP, OFFER_FIRST * 2 ** (failedOffers - 1));
    failedOffers++;
    if (isSupported) setOfferTimer(offerAgain, wait);
    const isDoubtful = untold !== null || error.code === "unreachable";
    if (!untold) untoldSince = now();
    untold != null ? untold : untold = error;
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
  const offerAgain = async () => {
    if (!socket || peer || offer) return;
    clearTimeout2(offerTimer);
    offer = prepareOffer(env, SIGNALING_TIMEOUT);
    const { peer: offered, sdp, obstacle } = await offer.result;
    offer = null;
    if (peer || !socket) return offered == null ? void 0 : offered.close();
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
  const note = ({ player, name = "", userId = null, socketId = null }) => players.set(player, { player, name, userId, socketId });
  const joined = (session) => {
    if (!isSession(session)) fail("shape");
    const { player } = session;
    const former = players.get(player);
    note(session);
    const known2 = players.get(player);
    if (!former) emit("join", known2);
    else if (former.name !== known2.name) emit("rename", known2, former.name);
    return player;
  };
  const left = (player, reason) => {
    const known2 = players.get(player);
    if (players.delete(player)) emit("leave", known2, reason);
  };
  const reconcile = (sessions) => {
    if (!sessions.every(isSession)) fail("shape");
    const present = new Set(sessions.map(joined));
    for (const player of players.keys()) if (!present.has(player)) left(player, "left");
  };
  const handleSignal = (message) => {
    var _a2;
    const { a: action, d: details } = message;
    emit(action, message);
    if (action === "eventJoin" || action === "eventRename") joined(details);
    if (action === "eventLeave") left(details.player, details.reason);
    if (action === "eventChannelClosed") (_a2 = peer == null ? void 0 : peer.fail) == null ? void 0 : _a2.call(peer, "channel", details.e, details.m);
    if (action === "eventRoomUsers") reconcile(details.sessions);
    if (action === "exchangeSdpR") handleAnswer(message);
    if (action === "eventRedirect") follow(details);
  };
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
  const detach = (closeCode) => {
    if (!socket) return;
    const old = socket;
    socket = null;
    old.onmessage = old.onclose = null;
    old.close(closeCode);
  };
  const begin = ({ player, socketId, welcome, tickMs, media, iceServers, ...reply }) => {
    lanes == null ? void 0 : lanes.stop();
    peer == null ? void 0 : peer.close();
    peer = untold = null;
    Object.assign(room, { me: player, welcome, tickMs, media, iceServers });
    players.clear();
    [{ player, name: target.join.name, socketId }, ...reply.sessions].forEach(note);
    const lane = (frame2) => socket == null ? void 0 : socket.send(frame2);
    lanes = createLanes(env, { tickMs, ...reply }, emit, transmit, lane, onInputs);
  };
  const drop = (closing) => {
    detach();
    lanes.drop();
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
    isPaced = wait !== void 0;
    const cap = isPaced ? PACE_JITTER : Math.min(BACKOFF_CAP, BACKOFF_FIRST * 2 ** attempts++);
    const delay = (wait != null ? wait : 0) + random() * cap;
    if (isPaced) endsAt = Math.min(lostAt + Math.max(COMEBACK_END, comebackTimeout), now() + delay + comebackTimeout);
    if (now() + delay > endsAt) return close(closing);
    retryTimer = setTimeout2(() => resume(), delay);
    room.retryAt = now() + delay;
    setStatus("dropped");
  };
  const enter2 = ({ socket: socket2, reply, isNew, peer: offered, obstacle }, isFirst) => {
    breakOff = void 0;
    attach(socket2, reply);
    if (isFirst || isNew) begin(reply);
    else {
      lanes.resume(reply);
      reconcile(reply.sessions);
      tellObstacle();
    }
    if (isNew && !isFirst) emit("rejoin", reply.welcome);
    if (isClosed()) return offered == null ? void 0 : offered.close();
    if (obstacle) {
      offered == null ? void 0 : offered.close();
      setOfferTimer(() => losePeer(obstacle), 0);
    } else if (offered) usePeer(offered, reply.sdp);
    else if (!peer) offerAgain();
    ping();
    if (!isFirst) setStatus("open");
  };
  const follow = ({ url, ticket: pass }) => {
    detach();
    lanes.drop();
    peer == null ? void 0 : peer.close();
    peer = untold = null;
    clearTimeout2(offerTimer);
    lose();
    resume({ url, pass });
  };
  const resume = (there) => {
    clearTimeout2(retryTimer);
    room.retryAt = null;
    attemptedAt = now();
    const refused = ({ closing, wait }) => {
      breakOff = void 0;
      if (closing.retry) retry(closing, wait);
      else close(closing);
    };
    breakOff = dial(
      env,
      {
        ...target,
        ...there,
        ticket: () => ({ ...ticket, last: lanes.received }),
        offering: !(peer == null ? void 0 : peer.isAlive()),
        timeout: RESUME_TIMEOUT
      },
      enter2,
      refused
    );
    setStatus("resuming");
  };
  const noticeFreeze = () => {
    const at2 = now();
    const isFrozen = at2 - watchedAt > 2 * PING_INTERVAL;
    watchedAt = at2;
    if (!isFrozen) return;
    heardAt = Math.max(heardAt, at2 - SOCKET_SILENCE + HEARTBEAT_INTERVAL);
    if (!socket) lose();
  };
  const watch = () => {
    noticeFreeze();
    const silence = (peer == null ? void 0 : peer.isAlive(SOCKET_SILENCE - HEARTBEAT_INTERVAL)) ? SPARSE_SILENCE : SOCKET_SILENCE;
    if (socket && now() - heardAt > silence) drop(LOST2);
    if (!isClosed()) ping();
  };
  const wake = () => {
    const at2 = now();
    if (socket && at2 - heardAt > SOCKET_STALE && !(peer == null ? void 0 : peer.isAlive())) drop(LOST2);
    if (!socket && !isClosed() && !(isPaced && !breakOff)) {
      lose();
      if (!breakOff || at2 - attemptedAt > SOCKET_STALE) {
        breakOff == null ? void 0 : breakOff();
        resume();
      }
    }
    offerAgain();
  };
  for (const type of WAKING) (_a = page == null ? void 0 : page.addEventListener) == null ? void 0 : _a.call(page, type, wake);
  signal == null ? void 0 : signal.addEventListener("abort", room.leave);
  const watcher = env.setInterval(watch, PING_INTERVAL);
  enter2(first, true);
  setTimeout2(() => {
    const events = held;
    held = null;
    for (const event of events) dispatch(...event);
  }, 0);
  return room;
}

// src/ticket.js
var claims = /* @__PURE__ */ new WeakMap();
function createTicketKeeper(storage, key, identity) {
  var _a, _b;
  const byKey = storage && ((_a = claims.get(storage)) != null ? _a : claims.set(storage, /* @__PURE__ */ new Map()).get(storage));
  const keeper = { kept: void 0 };
  const claimants = (_b = byKey == null ? void 0 : byKey.get(key)) != null ? _b : [];
  byKey == null ? void 0 : byKey.set(key, claimants);
  const attempt = (action) => {
    try {
      return storage && action();
    } catch {
      return void 0;
    }
  };
  const store = ({ kept } = {}) => {
    if (kept) attempt(() => storage.setItem(key, JSON.stringify(kept)));
  };
  return {
    /** What the page before kept, which no other connection of this page can have from now on. */
    read() {
      var _a2, _b2;
      const { socketId, resume, joined } = (_a2 = attempt(() => JSON.parse(storage.getItem(key)))) != null ? _a2 : {};
      const isOurs = typeof resume === "string" && joined === identity;
      if (!isOurs || ((_b2 = claimants[0]) != null ? _b2 : keeper) !== keeper) return void 0;
      claimants[0] = keeper;
      return { socketId, resume, last: null };
    },
    write({ socketId, resume }) {
      keeper.kept = { socketId, resume, joined: identity };
      if (!claimants.includes(keeper)) claimants.push(keeper);
      store(claimants[0]);
    },
    /** Lets another connection keep its session, and forgets this one unless the page may come back to it. */
    release(isOver) {
      const place = claimants.indexOf(keeper);
      if (place >= 0) claimants.splice(place, 1);
      if (place !== 0) return;
      if (isOver) attempt(() => storage.removeItem(key));
      store(claimants[0]);
    }
  };
}

// src/index.js
var tabStorage = () => {
  try {
    return globalThis.frameElement ? void 0 : globalThis.sessionStorage;
  } catch {
    return void 0;
  }
};
var REPLACED = /* @__PURE__ */ Symbol.for("rtcade.environment");
var environment = (options) => ({
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
  ...options[REPLACED]
});
function roomUrl(url) {
  var _a;
  const here = (_a = globalThis.location) == null ? void 0 : _a.href;
  const resolved = new URL(url != null ? url : here, here);
  resolved.protocol = resolved.protocol.replace("http", "ws");
  resolved.hash = "";
  if (!/^wss?:$/.test(resolved.protocol)) throw new TypeError(resolved.protocol);
  return resolved;
}
var connect = (url, options) => new Promise((resolve, reject) => {
  var _a;
  options != null ? options : options = {};
  let env = environment(options);
  const { room: roomId, name, bearer, appVersion, data, signal } = options;
  const refuse = (code) => reject(signalingError(code));
  if (signal == null ? void 0 : signal.aborted) return refuse("aborted");
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
    roomName: roomId != null ? roomId : address.pathname.split("/").pop()
  };
  const tickets = createTicketKeeper(env.storage, `rtcade ${target.url} ${roomId != null ? roomId : ""}`, identity);
  let breakOff;
  let retryTimer;
  let isLate = false;
  const endsAt = env.now() + COMEBACK_TIMEOUT;
  const endTimer = env.setTimeout(() => isLate = true, COMEBACK_TIMEOUT);
  const settle = () => {
    env.clearTimeout(endTimer);
    env.clearTimeout(retryTimer);
    signal == null ? void 0 : signal.removeEventListener("abort", abort);
  };
  const abort = () => {
    settle();
    tickets.release(breakOff == null ? void 0 : breakOff(true));
    refuse("aborted");
  };
  const joined = (first) => {
    settle();
    resolve(createRoom(env, target, tickets, first, options));
  };
  const failed = ({ error, closing, wait }) => {
    breakOff = void 0;
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
  signal == null ? void 0 : signal.addEventListener("abort", abort);
  if (!/[?&]dev(=|&|$)/.test((_a = globalThis.location) == null ? void 0 : _a.search)) return attempt();
  const script = new URL("../rtcade/dev.js", address.href.replace("ws", "http"));
  import(
    /* webpackIgnore: true */
    /* @vite-ignore */
    script.hostname === location.hostname && script
  ).then(({ shape }) => env = shape(env)).catch(() => console.warn(`?dev can't load ${script}. Use the page's host, at localhost or with --dev.`)).then(() => (signal == null ? void 0 : signal.aborted) || attempt());
});
//# sourceMappingURL=index.cjs.map
