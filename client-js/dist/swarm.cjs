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

// src/swarm.js
var swarm_exports = {};
__export(swarm_exports, {
  openSwarm: () => openSwarm
});
module.exports = __toCommonJS(swarm_exports);
var import_index = require("./index.cjs");
var PIECE_BYTES = 4 * 1024 * 1024;
var PIECES = 4096;
var KEPT = 256;
var KEPT_BYTES = 512 * 1024 * 1024;
var UPLINK = 1e6;
var MIN_RATE = 5e5;
var QUEUE_SECONDS = 2;
var TYPICAL_BYTES = 256 * 1024;
var CHUNK_BYTES = 16 * 1024;
var HEADER_BYTES = 8;
var BACKLOG = 64 * 1024;
var UPLOADS = 64;
var UPLOADS_PER_PLAYER = 8;
var QUEUE = 4;
var REQUESTS = 2;
var SERVER_REQUESTS = 4;
var LINKS = 16;
var SERVER_TRIES = 5;
var MANIFEST_TRIES = 30;
var BEAT = 250;
var PUMP = 50;
var GRACE = 500;
var SOURCE_GRACE = 1500;
var HOPE = 3e3;
var PATIENCE = 4e3;
var MUTE = 1500;
var PAUSE = 1e3;
var RETRY = 5e3;
var RETRY_LATE = 2e4;
var SERVER_TIMEOUT = 3e4;
var SERVER_PAUSE = 500;
var MANIFEST_PAUSE = 50;
var MANIFEST_PAUSE_CAP = 1e3;
var HASH = /^[0-9a-f]{64}$/;
var LABEL = /^swarm ([0-9a-f]{64} (\d{1,4})) (\d{1,9})$/;
var RANKS = 1e9;
var SENTENCES = {
  aborted: "The swarm was closed.",
  bad_value: "A swarm takes the URL of a file, the SHA-256 of shared bytes in hexadecimal digits, or 1 byte to 4 MiB to share.",
  changed: "The file has changed on the server while it was loaded. Load it again.",
  insecure: "Browsers check hashes for pages over https and at localhost only. Use an https address.",
  unreachable: "The file could not be loaded from the server. Check the address and your connection, then try again."
};
var failure = (code) => new import_index.RtcadeError("swarm", code, SENTENCES[code]);
var now = () => performance.now();
var sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
var isMetered = () => {
  var _a, _b;
  const { saveData, type } = (_b = (_a = globalThis.navigator) == null ? void 0 : _a.connection) != null ? _b : {};
  return saveData || type === "cellular";
};
async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
var isManifest = ({ sha256: sha2562, bytes, pieceBytes, pieces }) => HASH.test(sha2562) && pieceBytes > 0 && pieceBytes <= PIECE_BYTES && pieces.length <= PIECES && pieces.length === Math.ceil(bytes / pieceBytes) && pieces.every((hash) => HASH.test(hash));
async function manifestOf(url, signal) {
  var _a;
  const address = `${url}`.replace(/[?#].*$|$/, "?pieces");
  for (let tries = 0; tries < MANIFEST_TRIES; tries++) {
    const response = await fetch(address, { signal });
    if (response.status !== 202) {
      const manifest = await response.json().catch(() => {
      });
      return response.ok && ((_a = manifest == null ? void 0 : manifest.pieces) == null ? void 0 : _a.every) && isManifest(manifest) && { ...manifest, url };
    }
    await sleep(Math.min(MANIFEST_PAUSE * 2 ** tries, MANIFEST_PAUSE_CAP));
  }
}
var sizeOf = (parts) => parts.reduce((sum, part) => {
  var _a;
  return sum + ((_a = part == null ? void 0 : part.size) != null ? _a : 0);
}, 0);
var hasEnded = ({ channel }) => /clos/.test(channel.readyState);
function frame(index, length, chunk = []) {
  const bytes = new Uint8Array(HEADER_BYTES + chunk.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, index);
  view.setUint32(4, length);
  bytes.set(chunk, HEADER_BYTES);
  return bytes;
}
function openSwarm(peers, { uplink = UPLINK, minRate = MIN_RATE } = {}) {
  const totals = { fromServer: 0, fromPeers: 0, toPeers: 0, bad: 0 };
  const contents = /* @__PURE__ */ new Map();
  const uploads = /* @__PURE__ */ new Set();
  const downloads = /* @__PURE__ */ new Set();
  const banned = /* @__PURE__ */ new Set();
  let isClosed = false;
  const retries = /* @__PURE__ */ new WeakMap();
  const ban = (player) => {
    if (banned.has(player)) return;
    totals.bad++;
    banned.add(player);
    for (const upload of uploads) if (upload.player === player) end(upload);
    for (const download2 of downloads) download2.leave(player);
  };
  const limit = () => {
    let places = KEPT;
    let left = KEPT_BYTES;
    for (const [key, { parts }] of [...contents].reverse()) {
      left -= sizeOf(parts);
      if (--places < 0 || left < 0) contents.delete(key);
    }
  };
  const contentOf = (key, count) => {
    if (!contents.has(key)) contents.set(key, { key, parts: Array.from({ length: count }) });
    limit();
    return contents.get(key);
  };
  const keep = (content, index, bytes) => {
    content.parts[index] = new Blob([bytes]);
    limit();
    announce(content);
  };
  let tokens = 0;
  let filled = now();
  let pumping;
  const end = (upload) => {
    uploads.delete(upload);
    upload.channel.close();
  };
  const isSharing = () => uplink > 0 && !isMetered();
  const prune = () => {
    for (const upload of uploads) if (!isSharing() || hasEnded(upload)) end(upload);
  };
  const post = (channel, data) => channel.readyState === "open" && channel.bufferedAmount <= BACKLOG && !channel.send(data);
  const tell = ({ channel, key, count }) => post(channel, Array.from({ length: count }, (_, index) => {
    var _a;
    return ((_a = contents.get(key)) == null ? void 0 : _a.parts[index]) ? 1 : 0;
  }).join(""));
  const announce = (content) => {
    var _a;
    (_a = content.timer) != null ? _a : content.timer = setTimeout(() => {
      content.timer = void 0;
      prune();
      const isTold = [...uploads].filter(({ key }) => key === content.key).map(tell);
      if (isTold.includes(false)) announce(content);
    }, content.parts.every(Boolean) ? 0 : BEAT);
  };
  const pump = () => {
    clearTimeout(pumping);
    prune();
    const time = now();
    tokens = Math.min(Math.max(uplink / 4, CHUNK_BYTES), tokens + (time - filled) * uplink / 1e3);
    filled = time;
    for (let isMoving = true; isMoving; ) {
      isMoving = false;
      for (const { channel, queue } of uploads) {
        const [job] = queue;
        if (!(job == null ? void 0 : job.bytes) || tokens < CHUNK_BYTES || channel.bufferedAmount > BACKLOG) continue;
        const chunk = job.bytes.subarray(job.sent, job.sent + CHUNK_BYTES);
        channel.send(frame(job.index, job.size, chunk));
        tokens -= chunk.length;
        totals.toPeers += chunk.length;
        job.sent += chunk.length;
        if (job.sent === job.size) queue.shift();
        isMoving = true;
      }
    }
    if ([...uploads].some(({ queue }) => queue.length)) pumping = setTimeout(pump, PUMP);
  };
  const unsubscribe = peers.on("datachannel", (channel, { player }) => {
    var _a;
    const [, key, count, rank] = (_a = LABEL.exec(channel.label)) != null ? _a : [];
    prune();
    for (const upload2 of uploads) if (upload2.player === player && upload2.key === key) end(upload2);
    const others = [...uploads].filter((upload2) => upload2.player === player);
    const isFull = uploads.size >= UPLOADS || others.length >= UPLOADS_PER_PLAYER;
    if (!key || count > PIECES || isFull || banned.has(player) || !isSharing()) return;
    const queue = [];
    const upload = { channel, player, key, count: Number(count), rank: Number(rank), queue };
    uploads.add(upload);
    channel.bufferedAmountLowThreshold = BACKLOG / 2;
    channel.onbufferedamountlow = pump;
    channel.onopen = () => tell(upload);
    channel.onmessage = ({ data }) => {
      var _a2;
      if (!uploads.has(upload)) return;
      const isRequest = /^\d{1,4}$/.test(data) && Number(data) < count;
      if (!isRequest || queue.length >= QUEUE || channel.bufferedAmount > 2 * BACKLOG) return ban(player);
      const index = Number(data);
      const part = (_a2 = contents.get(key)) == null ? void 0 : _a2.parts[index];
      let room = uplink * QUEUE_SECONDS;
      for (const { queue: queue2 } of uploads) for (const { size, sent } of queue2) room -= size - sent;
      if (!part || part.size > room && room < uplink * QUEUE_SECONDS) return channel.send(frame(index, 0));
      const job = { index, size: part.size, sent: 0 };
      queue.push(job);
      part.arrayBuffer().then((buffer) => {
        job.bytes = new Uint8Array(buffer);
        pump();
      });
    };
  });
  const download = (content, { sha256: of, pieces, bytes, pieceBytes, url, source }, { signal, onProgress }, isNamed, before) => new Promise((resolve, reject) => {
    const { key, parts } = content;
    const rank = isSharing() ? Math.ceil(Math.random() * (RANKS - 1)) : 0;
    let begun;
    let beating;
    const links = /* @__PURE__ */ new Map();
    const atServer = /* @__PURE__ */ new Map();
    const checking = /* @__PURE__ */ new Set();
    const progress = { fromServer: 0, fromPeers: 0 };
    let failures = 0;
    let serverFrom = 0;
    let due;
    const lengthOf = (index) => bytes && Math.min(pieceBytes, bytes - index * pieceBytes);
    const credit = (length) => due = Math.min(Math.max(due, now() - GRACE) + 1e3 * length / minRate, now() + 2 * GRACE);
    const isSource = ({ player }) => player === source;
    const holders = (index) => {
      var _a;
      let sum = 0;
      for (const [peer, { have }] of links) if (!isSource(peer)) sum += Number((_a = have[index]) != null ? _a : 0);
      return sum;
    };
    const choose = (isEligible) => {
      let chosen;
      let least = Infinity;
      for (const index of pieces.keys()) {
        if (parts[index] || !isEligible(index)) continue;
        const rarity = holders(index) + Math.random();
        if (rarity < least) [chosen, least] = [index, rarity];
      }
      return chosen;
    };
    const finish = (settle, value) => {
      clearInterval(beating);
      signal == null ? void 0 : signal.removeEventListener("abort", abort);
      downloads.delete(self);
      for (const peer of links.keys()) unlink(peer);
      for (const request of atServer.values()) request.abort();
      settle(value);
    };
    const abort = () => finish(reject, signal.reason);
    const report = () => {
      const detail = { bytes: sizeOf(parts), total: bytes, ...progress };
      if (onProgress) queueMicrotask(() => onProgress(detail));
    };
    const store = async (index, data, source2) => {
      checking.add(index);
      const hash = await sha256(data);
      checking.delete(index);
      if (hash !== pieces[index]) return false;
      if (parts[index] || !downloads.has(self)) return true;
      keep(content, index, data);
      progress[source2] += data.length;
      report();
      look();
      return true;
    };
    const isLate = ({ requests }) => [...requests.values()].some(({ since }) => now() - since > PATIENCE);
    const isMute = ({ have, since }) => !have && now() - since > MUTE;
    const unlink = (peer) => {
      const link2 = links.get(peer);
      retries.set(peer, now() + (isLate(link2) ? RETRY_LATE : hasEnded(link2) ? RETRY : 0));
      links.delete(peer);
      link2.channel.close();
    };
    const link = (peer) => {
      const channel = peer.createDataChannel(`swarm ${key} ${rank}`);
      const requests = /* @__PURE__ */ new Map();
      const link2 = { channel, requests, have: "", since: now(), pausedUntil: 0 };
      links.set(peer, link2);
      channel.binaryType = "arraybuffer";
      channel.onmessage = ({ data }) => {
        var _a, _b, _c;
        if (links.get(peer) !== link2) return;
        if (data.length === pieces.length && /^[01]+$/.test(data)) {
          link2.have = data;
          return look();
        }
        const view = data.byteLength >= HEADER_BYTES && new DataView(data);
        const request = view && requests.get(view.getUint32(0));
        if (!request) return ban(peer.player);
        const { index } = request;
        const length = view.getUint32(4);
        const chunk = new Uint8Array(data, HEADER_BYTES);
        if (!chunk.length) {
          requests.delete(index);
          link2.pausedUntil = now() + PAUSE * (0.5 + Math.random());
          return;
        }
        const isFitting = length <= PIECE_BYTES && length === ((_a = lengthOf(index)) != null ? _a : length);
        if (isFitting) (_b = request.data) != null ? _b : request.data = new Uint8Array(length);
        if (((_c = request.data) == null ? void 0 : _c.length) !== length || request.received + chunk.length > length) return ban(peer.player);
        request.data.set(chunk, request.received);
        request.received += chunk.length;
        totals.fromPeers += chunk.length;
        credit(chunk.length);
        if (request.received < length) return;
        requests.delete(index);
        store(index, request.data, "fromPeers").then((isRight) => isRight || ban(peer.player));
        look();
      };
    };
    const fail = async () => {
      if (now() < serverFrom) return;
      serverFrom = now() + SERVER_PAUSE * 2 ** failures++;
      const current = !isNamed && await manifestOf(url).catch(() => {
      });
      if (!downloads.has(self)) return;
      if (current && current.sha256 !== of) finish(reject, failure("changed"));
      else if (failures >= SERVER_TRIES) finish(reject, failure("unreachable"));
    };
    const ask = async (index) => {
      var _a;
      const request = new AbortController();
      atServer.set(index, request);
      credit((_a = lengthOf(index)) != null ? _a : TYPICAL_BYTES);
      const timer = setTimeout(() => request.abort(), SERVER_TIMEOUT);
      const from = index * pieceBytes;
      const headers = pieces.length > 1 ? { Range: `bytes=${from}-${from + lengthOf(index) - 1}` } : {};
      try {
        const response = await fetch(url, { headers, cache: "no-store", signal: request.signal });
        if (response.status !== (pieces.length > 1 ? 206 : 200)) throw response;
        const data = new Uint8Array(await response.arrayBuffer());
        totals.fromServer += data.length;
        if (!await store(index, data, "fromServer")) throw response;
        failures = 0;
      } catch {
        if (downloads.has(self)) fail();
      }
      clearTimeout(timer);
      atServer.delete(index);
      look();
    };
    const look = () => {
      var _a, _b;
      if (!downloads.has(self)) return;
      const time = now();
      if (parts.every(Boolean)) return finish(resolve, new Blob(parts));
      const asked = /* @__PURE__ */ new Set([...checking, ...atServer.keys()]);
      for (const [peer, link2] of links) {
        if (isLate(link2) || isMute(link2) || hasEnded(link2)) unlink(peer);
        else for (const index of link2.requests.keys()) asked.add(index);
      }
      for (const peer of [...peers.all].sort(() => Math.random() - 0.5)) {
        const isFree = peer.status === "direct" && !banned.has(peer.player) && !links.has(peer);
        if (isFree && links.size < LINKS && time >= ((_a = retries.get(peer)) != null ? _a : 0)) link(peer);
      }
      const request = ({ channel, requests, have, pausedUntil }, ...attempts) => {
        while (requests.size < REQUESTS && time >= pausedUntil && channel.readyState === "open") {
          let index;
          for (const isEligible of attempts) index != null ? index : index = choose((index2) => have[index2] > 0 && !requests.has(index2) && isEligible(index2));
          if (index === void 0) break;
          asked.add(index);
          requests.set(index, { index, since: time, received: 0 });
          channel.send(`${index}`);
        }
      };
      const isNew = (index) => !asked.has(index);
      const isDue = time >= due;
      for (const [peer, link2] of links) if (!isSource(peer)) request(link2, isNew);
      const ranks = [...uploads].filter((upload) => upload.key === key).map((upload) => upload.rank);
      const turns = [.../* @__PURE__ */ new Set([...ranks, rank])].filter(Boolean).sort((a, b) => a - b);
      const isEarly = source === void 0 ? peers.all.some(({ status }) => status === "connecting") : time - begun < BEAT;
      const isHoping = time - begun < HOPE && (isEarly || [...links.values()].some(({ have }) => !have));
      const isOurs = (index) => !isHoping && !holders(index) && (!rank || turns[index % turns.length] === rank);
      for (const [peer, link2] of links)
        if (isSource(peer)) request(link2, (index) => isNew(index) && (isDue || isOurs(index)), () => isDue);
      while (url && atServer.size < SERVER_REQUESTS && time >= serverFrom) {
        let index = choose((index2) => isOurs(index2) && isNew(index2));
        if (isDue) index != null ? index : index = (_b = choose(isNew)) != null ? _b : choose((index2) => !atServer.has(index2));
        if (index === void 0) break;
        asked.add(index);
        ask(index);
      }
    };
    const self = {
      leave: (player) => [...links.keys()].filter((peer) => peer.player === player).forEach((peer) => unlink(peer)),
      close: () => finish(reject, failure("aborted"))
    };
    if (isClosed) return reject(failure("aborted"));
    if (signal == null ? void 0 : signal.aborted) return reject(signal.reason);
    downloads.add(self);
    signal == null ? void 0 : signal.addEventListener("abort", abort);
    Promise.resolve(before).then(() => {
      if (!downloads.has(self)) return;
      begun = now();
      due = begun + (source === void 0 ? GRACE : SOURCE_GRACE);
      beating = setInterval(look, BEAT);
      report();
      look();
    });
  });
  const loadWhole = async (url, { signal, onProgress }) => {
    const response = await fetch(url, { signal });
    if (!response.ok) throw failure("unreachable");
    const blob = await response.blob();
    totals.fromServer += blob.size;
    onProgress == null ? void 0 : onProgress({ bytes: blob.size, total: blob.size, fromServer: blob.size, fromPeers: 0 });
    return blob;
  };
  return {
    async fetch(source, options = {}) {
      var _a;
      const isNamed = (source == null ? void 0 : source.sha256) !== void 0;
      const { sha256: sha2562, bytes, url } = isNamed ? source : { url: source };
      if (isNamed ? !HASH.test(sha2562) || !(bytes === void 0 || bytes > 0 && bytes <= PIECE_BYTES) : !url) throw failure("bad_value");
      if (!((_a = globalThis.crypto) == null ? void 0 : _a.subtle)) {
        if (!url) throw failure("insecure");
        return loadWhole(url, options);
      }
      const manifest = isNamed ? { ...source, pieceBytes: bytes, pieces: [sha2562] } : await manifestOf(url, options.signal).catch((error) => {
        var _a2;
        throw ((_a2 = options.signal) == null ? void 0 : _a2.aborted) ? error : failure("unreachable");
      });
      if (!manifest) return loadWhole(url, options);
      const count = manifest.pieces.length;
      const content = contentOf(`${manifest.sha256} ${count}`, count);
      const loading = download(content, manifest, options, isNamed, content.loading);
      content.loading = Promise.allSettled([content.loading, loading]).then(() => {
      });
      return loading;
    },
    async share(data) {
      var _a;
      if (!((_a = globalThis.crypto) == null ? void 0 : _a.subtle)) throw failure("insecure");
      const bytes = new Uint8Array(await new Blob([data]).arrayBuffer());
      if (!bytes.length || bytes.length > PIECE_BYTES) throw failure("bad_value");
      const hash = await sha256(bytes);
      keep(contentOf(`${hash} 1`, 1), 0, bytes);
      return hash;
    },
    stats: () => ({ ...totals }),
    close() {
      unsubscribe();
      clearTimeout(pumping);
      for (const upload of uploads) end(upload);
      isClosed = true;
      for (const download2 of downloads) download2.close();
    }
  };
}
//# sourceMappingURL=swarm.cjs.map
