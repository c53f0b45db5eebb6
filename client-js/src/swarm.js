import { RtcadeError } from "./index.js";

/** Bytes of a piece, and pieces of a file. */
const PIECE_BYTES = 4 * 1024 * 1024;
const PIECES = 4_096;
/** What is kept to be shared: contents, and their bytes. */
const KEPT = 256;
const KEPT_BYTES = 512 * 1024 * 1024;
/** Bytes per second. */
const UPLINK = 1_000_000;
const MIN_RATE = 500_000;
/** Uploads that are accepted at once, as what the uplink carries in so many seconds. */
const QUEUE_SECONDS = 2;
/** A piece of unknown length counts as so many bytes. */
const TYPICAL_BYTES = 256 * 1024;
const CHUNK_BYTES = 16 * 1024;
/** Of a chunk: the number of its piece and the length of the piece; nothing follows where the request is refused. */
const HEADER_BYTES = 8;
/** Bytes that may wait in a channel. */
const BACKLOG = 64 * 1024;
/** Channels of other players, and of each of them. */
const UPLOADS = 64;
const UPLOADS_PER_PLAYER = 8;
/** Pieces that a player may ask for at once, and that this page asks for: of a player, and of the server. */
const QUEUE = 4;
const REQUESTS = 2;
const SERVER_REQUESTS = 4;
/** Players of whom a download asks pieces at once. */
const LINKS = 16;
const SERVER_TRIES = 5;
const MANIFEST_TRIES = 30;
// Times in ms.
const BEAT = 250;
const PUMP = 50;
/**
 * How long the server is spared: until players may have delivered something, or got it of the source, and while they are
 * being connected.
 */
const GRACE = 500;
const SOURCE_GRACE = 1_500;
const HOPE = 3_000;
/** Until a piece is asked elsewhere. */
const PATIENCE = 4_000;
/** Until another channel replaces one that tells nothing: the first message after a reused stream ID may be lost. */
const MUTE = 1_500;
/** Until a player is asked again: who was busy, whose channel has ended, and who was late. */
const PAUSE = 1_000;
const RETRY = 5_000;
const RETRY_LATE = 20_000;
const SERVER_TIMEOUT = 30_000;
const SERVER_PAUSE = 500;
const MANIFEST_PAUSE = 50;
const MANIFEST_PAUSE_CAP = 1_000;

const HASH = /^[0-9a-f]{64}$/;
/** What a player loads: the hash and number of pieces of a content, and a random number, 0 of those who upload nothing. */
const LABEL = /^swarm ([0-9a-f]{64} (\d{1,4})) (\d{1,9})$/;
const RANKS = 1e9;

const SENTENCES = {
  aborted: "The swarm was closed.",
  bad_value: "A swarm takes the URL of a file, the SHA-256 of shared bytes in hexadecimal digits, or 1 byte to 4 MiB to share.",
  changed: "The file has changed on the server while it was loaded. Load it again.",
  insecure: "Browsers check hashes for pages over https and at localhost only. Use an https address.",
  unreachable: "The file could not be loaded from the server. Check the address and your connection, then try again.",
};
const failure = (code) => new RtcadeError("swarm", code, SENTENCES[code]);

const now = () => performance.now();
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const isMetered = () => {
  const { saveData, type } = globalThis.navigator?.connection ?? {};
  return saveData || type === "cellular";
};

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const isManifest = ({ sha256, bytes, pieceBytes, pieces }) =>
  HASH.test(sha256) &&
  pieceBytes > 0 &&
  pieceBytes <= PIECE_BYTES &&
  pieces.length <= PIECES &&
  pieces.length === Math.ceil(bytes / pieceBytes) &&
  pieces.every((hash) => HASH.test(hash));

/** What the server tells of the pieces of a file; nothing if it doesn't. */
async function manifestOf(url, signal) {
  const address = `${url}`.replace(/[?#].*$|$/, "?pieces");
  for (let tries = 0; tries < MANIFEST_TRIES; tries++) {
    const response = await fetch(address, { signal });
    if (response.status !== 202) {
      const manifest = await response.json().catch(() => {});
      return response.ok && manifest?.pieces?.every && isManifest(manifest) && { ...manifest, url };
    }
    await sleep(Math.min(MANIFEST_PAUSE * 2 ** tries, MANIFEST_PAUSE_CAP));
  }
}

const sizeOf = (parts) => parts.reduce((sum, part) => sum + (part?.size ?? 0), 0);

const hasEnded = ({ channel }) => /clos/.test(channel.readyState);

function frame(index, length, chunk = []) {
  const bytes = new Uint8Array(HEADER_BYTES + chunk.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, index);
  view.setUint32(4, length);
  bytes.set(chunk, HEADER_BYTES);
  return bytes;
}

/** Loads files from the players who have them, and from the server. See swarm.d.ts. */
export function openSwarm(peers, { uplink = UPLINK, minRate = MIN_RATE } = {}) {
  const totals = { fromServer: 0, fromPeers: 0, toPeers: 0, bad: 0 };
  /** By hash and number of pieces; each with its `parts`. */
  const contents = new Map();
  const uploads = new Set();
  const downloads = new Set();
  /** Players who have sent what nobody sends who keeps to the protocol. */
  const banned = new Set();
  let isClosed = false;

  /** From when on a peer may be asked again. */
  const retries = new WeakMap();

  const ban = (player) => {
    if (banned.has(player)) return;
    totals.bad++;
    banned.add(player);
    for (const upload of uploads) if (upload.player === player) end(upload);
    for (const download of downloads) download.leave(player);
  };

  /** Forgets the oldest contents beyond the limits. */
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

  // ---- Uploads. A channel carries the pieces of one content to the player who has opened it.

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
  const tell = ({ channel, key, count }) =>
    post(channel, Array.from({ length: count }, (_, index) => (contents.get(key)?.parts[index] ? 1 : 0)).join(""));
  const announce = (content) => {
    content.timer ??= setTimeout(() => {
      content.timer = undefined;
      prune();
      const isTold = [...uploads].filter(({ key }) => key === content.key).map(tell);
      if (isTold.includes(false)) announce(content);
    }, content.parts.every(Boolean) ? 0 : BEAT);
  };
  const pump = () => {
    clearTimeout(pumping);
    prune();
    const time = now();
    tokens = Math.min(Math.max(uplink / 4, CHUNK_BYTES), tokens + ((time - filled) * uplink) / 1000);
    filled = time;
    for (let isMoving = true; isMoving; ) {
      isMoving = false;
      for (const { channel, queue } of uploads) {
        const [job] = queue;
        if (!job?.bytes || tokens < CHUNK_BYTES || channel.bufferedAmount > BACKLOG) continue;
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
    const [, key, count, rank] = LABEL.exec(channel.label) ?? [];
    prune();
    for (const upload of uploads) if (upload.player === player && upload.key === key) end(upload);
    const others = [...uploads].filter((upload) => upload.player === player);
    const isFull = uploads.size >= UPLOADS || others.length >= UPLOADS_PER_PLAYER;
    if (!key || count > PIECES || isFull || banned.has(player) || !isSharing()) return;
    const queue = [];
    const upload = { channel, player, key, count: Number(count), rank: Number(rank), queue };
    uploads.add(upload);
    channel.bufferedAmountLowThreshold = BACKLOG / 2;
    channel.onbufferedamountlow = pump;
    channel.onopen = () => tell(upload);
    channel.onmessage = ({ data }) => {
      if (!uploads.has(upload)) return;
      const isRequest = /^\d{1,4}$/.test(data) && Number(data) < count;
      if (!isRequest || queue.length >= QUEUE || channel.bufferedAmount > 2 * BACKLOG) return ban(player);
      const index = Number(data);
      const part = contents.get(key)?.parts[index];
      let room = uplink * QUEUE_SECONDS;
      for (const { queue } of uploads) for (const { size, sent } of queue) room -= size - sent;
      if (!part || (part.size > room && room < uplink * QUEUE_SECONDS)) return channel.send(frame(index, 0));
      const job = { index, size: part.size, sent: 0 };
      queue.push(job);
      part.arrayBuffer().then((buffer) => {
        job.bytes = new Uint8Array(buffer);
        pump();
      });
    };
  });

  // ---- Downloads.

  /** After `before`, another download of the same, whose pieces it finds. */
  const download = (content, { sha256: of, pieces, bytes, pieceBytes, url, source }, { signal, onProgress }, isNamed, before) =>
    new Promise((resolve, reject) => {
      const { key, parts } = content;
      const rank = isSharing() ? Math.ceil(Math.random() * (RANKS - 1)) : 0;
      let begun;
      let beating;
      /** By peer. */
      const links = new Map();
      /** Requests by piece. */
      const atServer = new Map();
      const checking = new Set();
      const progress = { fromServer: 0, fromPeers: 0 };
      let failures = 0;
      let serverFrom = 0;
      /** From when on the server makes up for what the players don't deliver. */
      let due;

      const lengthOf = (index) => bytes && Math.min(pieceBytes, bytes - index * pieceBytes);
      const credit = (length) => (due = Math.min(Math.max(due, now() - GRACE) + (1000 * length) / minRate, now() + 2 * GRACE));
      const isSource = ({ player }) => player === source;
      /** Other than the source. */
      const holders = (index) => {
        let sum = 0;
        for (const [peer, { have }] of links) if (!isSource(peer)) sum += Number(have[index] ?? 0);
        return sum;
      };
      /** The piece that the fewest have, at random among equals. */
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
        signal?.removeEventListener("abort", abort);
        downloads.delete(self);
        for (const peer of links.keys()) unlink(peer);
        for (const request of atServer.values()) request.abort();
        settle(value);
      };
      const abort = () => finish(reject, signal.reason);
      const report = () => {
        const detail = { bytes: sizeOf(parts), total: bytes, ...progress };
        // What it throws is reported as uncaught.
        if (onProgress) queueMicrotask(() => onProgress(detail));
      };
      /** Whether the hash is right. */
      const store = async (index, data, source) => {
        checking.add(index);
        const hash = await sha256(data);
        checking.delete(index);
        if (hash !== pieces[index]) return false;
        if (parts[index] || !downloads.has(self)) return true;
        keep(content, index, data);
        progress[source] += data.length;
        report();
        look();
        return true;
      };

      // ---- Of players.

      const isLate = ({ requests }) => [...requests.values()].some(({ since }) => now() - since > PATIENCE);
      const isMute = ({ have, since }) => !have && now() - since > MUTE;
      const unlink = (peer) => {
        const link = links.get(peer);
        retries.set(peer, now() + (isLate(link) ? RETRY_LATE : hasEnded(link) ? RETRY : 0));
        links.delete(peer);
        link.channel.close();
      };
      const link = (peer) => {
        const channel = peer.createDataChannel(`swarm ${key} ${rank}`);
        const requests = new Map();
        const link = { channel, requests, have: "", since: now(), pausedUntil: 0 };
        links.set(peer, link);
        channel.binaryType = "arraybuffer";
        channel.onmessage = ({ data }) => {
          if (links.get(peer) !== link) return;
          if (data.length === pieces.length && /^[01]+$/.test(data)) {
            link.have = data;
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
            link.pausedUntil = now() + PAUSE * (0.5 + Math.random());
            return;
          }
          const isFitting = length <= PIECE_BYTES && length === (lengthOf(index) ?? length);
          if (isFitting) request.data ??= new Uint8Array(length);
          if (request.data?.length !== length || request.received + chunk.length > length) return ban(peer.player);
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

      // ---- Of the server.

      const fail = async () => {
        if (now() < serverFrom) return;
        serverFrom = now() + SERVER_PAUSE * 2 ** failures++;
        const current = !isNamed && (await manifestOf(url).catch(() => {}));
        if (!downloads.has(self)) return;
        if (current && current.sha256 !== of) finish(reject, failure("changed"));
        else if (failures >= SERVER_TRIES) finish(reject, failure("unreachable"));
      };
      const ask = async (index) => {
        const request = new AbortController();
        atServer.set(index, request);
        credit(lengthOf(index) ?? TYPICAL_BYTES);
        const timer = setTimeout(() => request.abort(), SERVER_TIMEOUT);
        const from = index * pieceBytes;
        const headers = pieces.length > 1 ? { Range: `bytes=${from}-${from + lengthOf(index) - 1}` } : {};
        try {
          const response = await fetch(url, { headers, cache: "no-store", signal: request.signal });
          if (response.status !== (pieces.length > 1 ? 206 : 200)) throw response;
          const data = new Uint8Array(await response.arrayBuffer());
          totals.fromServer += data.length;
          if (!(await store(index, data, "fromServer"))) throw response;
          failures = 0;
        } catch {
          if (downloads.has(self)) fail();
        }
        clearTimeout(timer);
        atServer.delete(index);
        look();
      };

      const look = () => {
        if (!downloads.has(self)) return;
        const time = now();
        if (parts.every(Boolean)) return finish(resolve, new Blob(parts));
        const asked = new Set([...checking, ...atServer.keys()]);
        for (const [peer, link] of links) {
          if (isLate(link) || isMute(link) || hasEnded(link)) unlink(peer);
          else for (const index of link.requests.keys()) asked.add(index);
        }
        for (const peer of [...peers.all].sort(() => Math.random() - 0.5)) {
          const isFree = peer.status === "direct" && !banned.has(peer.player) && !links.has(peer);
          if (isFree && links.size < LINKS && time >= (retries.get(peer) ?? 0)) link(peer);
        }
        const request = ({ channel, requests, have, pausedUntil }, ...attempts) => {
          while (requests.size < REQUESTS && time >= pausedUntil && channel.readyState === "open") {
            let index;
            for (const isEligible of attempts) index ??= choose((index) => have[index] > 0 && !requests.has(index) && isEligible(index));
            if (index === undefined) break;
            asked.add(index);
            requests.set(index, { index, since: time, received: 0 });
            channel.send(`${index}`);
          }
        };
        const isNew = (index) => !asked.has(index);
        const isDue = time >= due;
        for (const [peer, link] of links) if (!isSource(peer)) request(link, isNew);
        // Those who load the same share the pieces that nobody has, so that the server or the source sends each only once.
        const ranks = [...uploads].filter((upload) => upload.key === key).map((upload) => upload.rank);
        const turns = [...new Set([...ranks, rank])].filter(Boolean).sort((a, b) => a - b);
        // Others learn of what a source has shared at about the same time.
        const isEarly = source === undefined ? peers.all.some(({ status }) => status === "connecting") : time - begun < BEAT;
        const isHoping = time - begun < HOPE && (isEarly || [...links.values()].some(({ have }) => !have));
        const isOurs = (index) => !isHoping && !holders(index) && (!rank || turns[index % turns.length] === rank);
        for (const [peer, link] of links)
          if (isSource(peer)) request(link, (index) => isNew(index) && (isDue || isOurs(index)), () => isDue);
        while (url && atServer.size < SERVER_REQUESTS && time >= serverFrom) {
          let index = choose((index) => isOurs(index) && isNew(index));
          if (isDue) index ??= choose(isNew) ?? choose((index) => !atServer.has(index));
          if (index === undefined) break;
          asked.add(index);
          ask(index);
        }
      };

      const self = {
        leave: (player) => [...links.keys()].filter((peer) => peer.player === player).forEach((peer) => unlink(peer)),
        close: () => finish(reject, failure("aborted")),
      };
      if (isClosed) return reject(failure("aborted"));
      if (signal?.aborted) return reject(signal.reason);
      downloads.add(self);
      signal?.addEventListener("abort", abort);
      Promise.resolve(before).then(() => {
        if (!downloads.has(self)) return;
        begun = now();
        due = begun + (source === undefined ? GRACE : SOURCE_GRACE);
        beating = setInterval(look, BEAT);
        report();
        look();
      });
    });

  /** Without a manifest, or where no hash can be checked. */
  const loadWhole = async (url, { signal, onProgress }) => {
    const response = await fetch(url, { signal });
    if (!response.ok) throw failure("unreachable");
    const blob = await response.blob();
    totals.fromServer += blob.size;
    onProgress?.({ bytes: blob.size, total: blob.size, fromServer: blob.size, fromPeers: 0 });
    return blob;
  };

  return {
    async fetch(source, options = {}) {
      const isNamed = source?.sha256 !== undefined;
      const { sha256, bytes, url } = isNamed ? source : { url: source };
      if (isNamed ? !HASH.test(sha256) || !(bytes === undefined || (bytes > 0 && bytes <= PIECE_BYTES)) : !url) throw failure("bad_value");
      if (!globalThis.crypto?.subtle) {
        if (!url) throw failure("insecure");
        return loadWhole(url, options);
      }
      const manifest = isNamed
        ? { ...source, pieceBytes: bytes, pieces: [sha256] }
        : await manifestOf(url, options.signal).catch((error) => {
            throw options.signal?.aborted ? error : failure("unreachable");
          });
      if (!manifest) return loadWhole(url, options);
      const count = manifest.pieces.length;
      const content = contentOf(`${manifest.sha256} ${count}`, count);
      const loading = download(content, manifest, options, isNamed, content.loading);
      content.loading = Promise.allSettled([content.loading, loading]).then(() => {});
      return loading;
    },

    async share(data) {
      if (!globalThis.crypto?.subtle) throw failure("insecure");
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
      for (const download of downloads) download.close();
    },
  };
}
