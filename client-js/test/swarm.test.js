import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { openSwarm } from "../src/swarm.js";
import { randomBytes } from "./vectors.js";

const SEED = 1;
const PIECE = 16 * 1024;
const FILE = 40 * PIECE - 5;
const URL = "https://game.example/map.bin";
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

let time = 0;
const turns = async (count) => {
  for (let n = 0; n < count; n++) await new Promise((resolve) => setImmediate(resolve));
};
const pass = async (ms) => {
  for (; ms > 0; ms -= 10) {
    time += 10;
    mock.timers.tick(10);
    await turns(3);
  }
};
/** Lets time pass until the promise settles, and gives what it has taken. */
async function within(ms, promise) {
  let settled;
  promise.then((value) => (settled = { value }), (error) => (settled = { error }));
  const begun = time;
  while (!settled && time - begun < ms) await pass(10);
  assert.ok(settled, `nothing within ${ms} ms`);
  if (settled.error) throw settled.error;
  return settled.value;
}
const bytesOf = async (blob) => Buffer.from(await blob.arrayBuffer());

function randomFile(seed, length = FILE) {
  const random = randomBytes(seed);
  return Buffer.from(Array.from({ length }, () => random.below(256)));
}

/** A server that has one file. */
function createServer(file, { pieceBytes = PIECE, delay = 20 } = {}) {
  const server = {
    file,
    delay,
    isDown: false,
    manifest(bytes) {
      const pieces = [];
      for (let at = 0; at < bytes.length; at += pieceBytes) pieces.push(sha256(bytes.subarray(at, at + pieceBytes)));
      return { sha256: sha256(bytes), bytes: bytes.length, pieceBytes, pieces };
    },
    manifests: 0,
    requests: [],
    running: 0,
    most: 0,
    get sent() {
      return server.requests.length;
    },
    /** How many times the manifest is not ready. */
    pending: 0,
  };
  const answer = (url, range) => {
    if (url === `${URL}?pieces`) {
      server.manifests++;
      if (server.pending-- > 0) return new Response(null, { status: 202 });
      return new Response(JSON.stringify(server.manifest(server.file)));
    }
    if (!url.startsWith(URL)) return new Response("", { status: 404 });
    server.requests.push(range);
    if (!range) return new Response(server.file);
    const [, from, to] = range.match(/^bytes=(\d+)-(\d+)$/).map(Number);
    const part = server.file.subarray(from, to + 1);
    return part.length ? new Response(part, { status: 206 }) : new Response("", { status: 416 });
  };
  globalThis.fetch = (url, { headers, signal } = {}) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      server.most = Math.max(server.most, ++server.running);
      signal?.addEventListener("abort", () => {
        clearTimeout(timer);
        server.running--;
        reject(signal.reason);
      });
      const timer = setTimeout(() => {
        server.running--;
        if (server.isDown) reject(new TypeError("Failed to fetch"));
        else resolve(answer(`${url}`, headers?.Range));
      }, server.delay);
    });
  return server;
}

class Channel {
  readyState = "connecting";
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  #way = 0;

  constructor(label, way) {
    this.label = label;
    this.way = way;
  }

  send(data) {
    if (this.readyState !== "open") throw new Error("InvalidStateError");
    const length = data.length;
    this.bufferedAmount += length;
    this.way.most = Math.max(this.way.most ?? 0, this.bufferedAmount);
    this.#way = Math.max(this.#way, time) + (length / this.way.rate) * 1000;
    const copy = typeof data === "string" ? data : data.slice().buffer;
    if (this.way.isDead) return;
    setTimeout(() => {
      this.bufferedAmount -= length;
      if (this.way.isDead) return;
      this.other.onmessage?.({ data: this.way.alter?.(copy) ?? copy });
      if (this.bufferedAmount <= this.bufferedAmountLowThreshold) this.onbufferedamountlow?.();
    }, this.#way - time + 5);
  }

  close() {
    if (this.readyState === "closed") return;
    this.readyState = "closed";
    setTimeout(() => {
      this.other.readyState = "closed";
      this.other.onclose?.();
    }, 5);
  }
}

/** Pages of one room with connections between all of them. */
function createRoom() {
  const pages = [];
  const room = {
    /** `way.rate` is in bytes per second, `way.isDead` swallows everything, `way.alter` changes what is sent. */
    join(options, { way = {}, status = "direct" } = {}) {
      const page = { player: pages.length + 1, way: { rate: 1e8, ...way }, all: [], listeners: {}, opened: 0, received: [] };
      const peers = {
        get all() {
          return page.all;
        },
        on(type, listener) {
          page.listeners[type] = listener;
          return () => delete page.listeners[type];
        },
      };
      const connect = (mine, theirs) => {
        const peer = {
          player: theirs.player,
          status,
          createDataChannel(label) {
            mine.opened++;
            const channel = new Channel(label, mine.way);
            const other = new Channel(label, theirs.way);
            Object.assign(channel, { other });
            Object.assign(other, { other: channel });
            setTimeout(() => {
              if (channel.readyState === "closed") return;
              other.readyState = channel.readyState = "open";
              theirs.received.push(other);
              theirs.listeners.datachannel?.(other, theirs.all.find(({ player }) => player === mine.player));
              if (!other.onmessage) other.close();
              other.onopen?.();
              channel.onopen?.();
            }, 5);
            return channel;
          },
        };
        mine.all.push(peer);
      };
      for (const other of pages) {
        connect(page, other);
        connect(other, page);
      }
      pages.push(page);
      page.swarm = options === null ? undefined : openSwarm(peers, options);
      page.fetch = (options) => page.swarm.fetch(URL, options);
      return page;
    },
    /** Without a word to the channels, as where a connection is closed at this end. */
    leave(page) {
      for (const other of pages) other.all = other.all.filter(({ player }) => player !== page.player);
      page.way.isDead = true;
      page.swarm?.close();
    },
  };
  return room;
}

let server;
let room;
let file;
beforeEach(() => {
  time = 0;
  const random = randomBytes(SEED);
  mock.method(Math, "random", () => random.below(1e9) / 1e9);
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  mock.method(performance, "now", () => time);
  mock.method(crypto.subtle, "digest", async (_, bytes) => {
    const { buffer, byteOffset, length } = createHash("sha256").update(new Uint8Array(bytes)).digest();
    return buffer.slice(byteOffset, byteOffset + length);
  });
  file = randomFile(7);
  server = createServer(file);
  room = createRoom();
});
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
  delete globalThis.navigator;
});

const seeded = async (options, way) => {
  const page = room.join(options, { way });
  assert.deepEqual(await bytesOf(await within(5_000, page.fetch())), file);
  server.requests = [];
  return page;
};
/** A page that speaks the protocol by hand, and lets the others believe that it has all. */
function actor(onRequest, { tell = (count) => "1".repeat(count), way } = {}) {
  const page = room.join(null, { way });
  page.requests = [];
  page.listeners.datachannel = (channel) => {
    channel.onmessage = ({ data }) => {
      if (channel.readyState !== "open") return;
      page.requests.push(Number(data));
      onRequest?.(channel, Number(data));
    };
    channel.send(tell(Number(channel.label.split(" ")[2])));
  };
  return page;
}
const chunk = (index, length, data) => {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(index);
  head.writeUInt32BE(length, 4);
  return new Uint8Array(Buffer.concat([head, data]));
};
const pieceOf = (index) => file.subarray(index * PIECE, (index + 1) * PIECE);
/** Opens a channel to a page by hand. */
async function ask(from, to, { key = `${sha256(file)} 40`, rank = 1 } = {}) {
  const channel = from.all.find(({ player }) => player === to.player).createDataChannel(`swarm ${key} ${rank}`);
  channel.got = [];
  channel.onmessage = ({ data }) => channel.got.push(typeof data === "string" ? data : Buffer.from(data));
  await pass(50);
  return channel;
}

describe("a page alone", () => {
  test("loads all from the server, each piece once and few at a time", async () => {
    const { fetch, swarm } = room.join();
    const reports = [];
    const blob = await within(5_000, fetch({ onProgress: (progress) => reports.push(progress) }));
    assert.deepEqual(await bytesOf(blob), file);
    assert.equal(new Set(server.requests).size, 40);
    assert.equal(server.sent, 40);
    assert.ok(server.most <= 4, `${server.most}`);
    assert.deepEqual(swarm.stats(), { fromServer: FILE, fromPeers: 0, toPeers: 0, bad: 0 });
    assert.deepEqual(reports[0], { bytes: 0, total: FILE, fromServer: 0, fromPeers: 0 });
    assert.deepEqual(reports.at(-1), { bytes: FILE, total: FILE, fromServer: FILE, fromPeers: 0 });
    assert.ok(reports.every(({ bytes }, n) => n === 0 || bytes >= reports[n - 1].bytes));
  });

  test("loads nothing twice, in one call after the other or in two at once", async () => {
    const { fetch } = room.join();
    const [one, two] = await within(5_000, Promise.all([fetch(), fetch()]));
    const three = await within(1_000, fetch());
    for (const blob of [one, two, three]) assert.equal(blob.size, FILE);
    assert.equal(server.sent, 40);
    server.file = randomFile(8);
    const cancel = new AbortController();
    const first = fetch();
    const cancelled = fetch({ signal: cancel.signal });
    await pass(60);
    cancel.abort(new Error("enough"));
    await assert.rejects(within(10, cancelled), /enough/);
    await within(5_000, Promise.all([first, fetch()]));
    assert.equal(server.sent, 80, "the third waits for the first");
  });

  test("waits until the server has hashed the file", async () => {
    server.pending = 3;
    assert.equal((await within(5_000, room.join().fetch())).size, FILE);
    assert.equal(server.manifests, 4);
  });

  test("takes an empty file", async () => {
    server.file = Buffer.alloc(0);
    assert.equal((await within(1_000, room.join().fetch())).size, 0);
  });

  test("loads the whole file where the server names no pieces or absurd ones", async () => {
    const good = server.manifest;
    for (const spoil of [
      () => undefined,
      () => [],
      (manifest) => ({ ...manifest, sha256: "x" }),
      (manifest) => ({ ...manifest, pieces: manifest.pieces.slice(1) }),
      (manifest) => ({ ...manifest, pieceBytes: 0 }),
      (manifest) => ({ ...manifest, pieceBytes: 2 ** 30, pieces: manifest.pieces.slice(0, 1) }),
      (manifest) => ({ ...manifest, bytes: 5_000 * PIECE, pieces: Array(5_000).fill(manifest.pieces[0]) }),
      (manifest) => ({ ...manifest, pieces: manifest.pieces.map(() => 7) }),
      (manifest) => ({ ...manifest, pieces: "pieces" }),
    ]) {
      server.requests = [];
      server.manifest = (bytes) => spoil(good(bytes));
      const { fetch, swarm } = room.join();
      assert.deepEqual(await bytesOf(await within(1_000, fetch())), file);
      assert.deepEqual(server.requests, [undefined]);
      assert.equal(swarm.stats().fromServer, FILE);
    }
  });

  test("tries again where the server fails for a moment, and gives up where it stays away", async () => {
    const { fetch } = room.join();
    const blob = fetch();
    await pass(100);
    server.isDown = true;
    await pass(1_000);
    server.isDown = false;
    assert.equal((await within(20_000, blob)).size, FILE);
    server.file = randomFile(8);
    const other = fetch();
    await pass(60);
    server.isDown = true;
    await assert.rejects(within(60_000, other), { stage: "swarm", code: "unreachable" });
    await assert.rejects(within(5_000, fetch()), { code: "unreachable" });
    await assert.rejects(within(5_000, room.join().swarm.fetch("https://game.example/none")), { code: "unreachable" });
  });

  test("is told that the file has changed meanwhile", async () => {
    const { fetch } = room.join();
    const blob = fetch();
    await pass(60);
    server.file = randomFile(9, 3 * PIECE);
    await assert.rejects(within(60_000, blob), { code: "changed", message: /has changed on the server/ });
    assert.deepEqual(await bytesOf(await within(5_000, fetch())), server.file);
  });

  test("stops at once when it is cancelled, and continues with what it has", async () => {
    const { fetch, swarm } = room.join();
    const cancel = new AbortController();
    const blob = fetch({ signal: cancel.signal });
    const second = new AbortController();
    const waiting = fetch({ signal: second.signal });
    await pass(130);
    second.abort(new Error("second"));
    await assert.rejects(within(10, waiting), /second/);
    const loaded = server.sent;
    assert.ok(loaded > 4 && loaded < 40, `${loaded}`);
    cancel.abort(new Error("enough"));
    await assert.rejects(within(10, blob), /enough/);
    await pass(1_000);
    assert.equal(server.sent, loaded);
    assert.equal((await within(5_000, fetch())).size, FILE);
    assert.ok(server.sent <= 44, "at most the four under way again");
    const late = fetch({ signal: AbortSignal.abort(new Error("never")) });
    await assert.rejects(within(100, late), /never/);
    const last = swarm.fetch({ sha256: sha256("x") });
    await pass(10);
    swarm.close();
    await assert.rejects(within(10, last), { code: "aborted" });
    await assert.rejects(within(100, fetch()), { code: "aborted" });
  });

  test("without crypto.subtle loads from the server only, and shares nothing", async () => {
    mock.getter(globalThis.crypto, "subtle", () => undefined);
    const { fetch, swarm } = room.join();
    assert.deepEqual(await bytesOf(await within(1_000, fetch())), file);
    assert.deepEqual(server.requests, [undefined]);
    await assert.rejects(swarm.share("x"), { code: "insecure", message: /over https and at localhost/ });
    await assert.rejects(swarm.fetch({ sha256: sha256("x") }), { code: "insecure" });
    assert.equal((await within(1_000, swarm.fetch({ sha256: sha256(file), url: URL }))).size, FILE);
  });

  test("refuses what is neither an address nor a hash", async () => {
    const { swarm } = room.join();
    for (const source of [undefined, "", { sha256: "abc" }, { sha256: sha256("x"), bytes: -1 }, { sha256: sha256("x"), bytes: 2 ** 40 }]) {
      await assert.rejects(swarm.fetch(source), { code: "bad_value" });
    }
    for (const bytes of ["", new Uint8Array(4 * 1024 * 1024 + 1)]) await assert.rejects(swarm.share(bytes), { code: "bad_value" });
  });
});

describe("several pages", () => {
  test("load everything from the one that has it", async () => {
    const one = await seeded();
    const two = room.join();
    assert.deepEqual(await bytesOf(await within(5_000, two.fetch())), file);
    assert.equal(server.sent, 0);
    assert.deepEqual(two.swarm.stats(), { fromServer: 0, fromPeers: FILE, toPeers: 0, bad: 0 });
    assert.equal(one.swarm.stats().toPeers, FILE);
    await pass(1_000);
    assert.ok(one.received.every(({ readyState }) => readyState === "closed"), "channels are closed behind it");
  });

  test("that load at once let the server send each piece about once, and each other the rest", async () => {
    const pages = Array.from({ length: 5 }, () => room.join());
    const blobs = await within(20_000, Promise.all(pages.map(({ fetch }) => fetch())));
    for (const blob of blobs) assert.deepEqual(await bytesOf(blob), file);
    assert.ok(server.sent < 60, `${server.sent} of 40 pieces`);
    assert.ok(pages.every(({ swarm }) => swarm.stats().toPeers > 0));
  });

  test("count those that upload nothing as none who could", async () => {
    server.delay = 300;
    const pages = [room.join(), ...Array.from({ length: 4 }, () => room.join({ uplink: 0 }))];
    const begun = time;
    await within(20_000, Promise.all(pages.map(({ fetch }) => fetch())));
    assert.ok(time - begun < 5_000);
    assert.deepEqual(pages.map(({ swarm }) => swarm.stats().toPeers > 0), [true, false, false, false, false]);
  });

  test("spread the load over all who have the file, the rarest pieces first", async () => {
    const pages = [await seeded()];
    for (let n = 0; n < 3; n++) pages.push(await seeded());
    const last = room.join();
    await within(10_000, last.fetch());
    const given = pages.map(({ swarm }) => swarm.stats().toPeers);
    assert.ok(given.filter((bytes) => bytes > 0).length >= 3, `${given}`);

    // One has two pieces that nobody else has.
    const few = "0".repeat(38) + "11";
    room = createRoom();
    const asked = [];
    const note = (channel, index) => asked.push(index);
    for (let n = 0; n < 3; n++) actor(note, { tell: () => "1".repeat(38) + "00" });
    const rare = actor(note, { tell: () => few });
    room.join().fetch();
    await pass(200);
    assert.deepEqual(rare.requests.sort(), [38, 39]);
  });

  test("ask few of many, and not all the same", async () => {
    const many = Array.from({ length: 40 }, () => actor());
    const asked = () => many.map(({ received }) => received.length > 0);
    room.join().fetch();
    await pass(200);
    const first = asked();
    assert.equal(first.filter(Boolean).length, 16);
    room.join().fetch();
    await pass(200);
    assert.ok(asked().filter(Boolean).length > 16);
  });

  test("get pieces on from one that is not complete", async () => {
    const one = room.join();
    server.delay = 400;
    const first = one.fetch();
    await pass(1_500);
    const two = room.join();
    const second = two.fetch();
    await within(60_000, Promise.all([first, second]));
    assert.ok(two.swarm.stats().fromPeers > FILE / 4, `${two.swarm.stats().fromPeers}`);
    assert.ok(server.sent < 50, `${server.sent} of 40 pieces`);
    assert.ok(one.swarm.stats().fromPeers > 0, "and the other way");
  });

  test("keep within the uplink over all players", async () => {
    const uplink = 100_000;
    const one = await seeded({ uplink });
    const begun = time;
    const others = Array.from({ length: 4 }, () => room.join({ uplink: 0 }));
    const all = Promise.all(others.map(({ fetch }) => fetch()));
    for (let n = 0; n < 20; n++) {
      await pass(100);
      assert.ok(one.swarm.stats().toPeers <= uplink * (0.25 + (time - begun) / 1000) + PIECE, `${one.swarm.stats().toPeers}`);
    }
    await within(30_000, all);
    assert.ok(one.swarm.stats().toPeers > uplink, "it is used");
    // Each gets 500 kB/s in any case.
    assert.ok(time - begun < 5_000, `${time - begun} ms`);
  });

  test("load as fast as they ask for", async () => {
    await seeded({ uplink: 100_000 });
    const begun = time;
    const [fast, patient] = [room.join({ minRate: 1e7 }), room.join({ minRate: 0 })];
    const blob = patient.fetch();
    assert.equal((await within(2_000, fast.fetch())).size, FILE);
    assert.ok(fast.swarm.stats().fromServer > FILE / 2);
    assert.ok(time - begun < 1_500);
    assert.equal((await within(10_000, blob)).size, FILE);
    assert.ok(patient.swarm.stats().fromServer <= 3 * PIECE, `${patient.swarm.stats().fromServer}`);
  });

  test("give a channel no more than it carries", async () => {
    const one = await seeded({ uplink: 1e9 }, { rate: 50_000 });
    await within(60_000, room.join().fetch());
    assert.ok(one.way.most > 0 && one.way.most <= 96 * 1024, `${one.way.most}`);
  });

  test("upload nothing over a metered connection, and stop when it becomes one", async () => {
    const connection = { saveData: false, type: "wifi" };
    Object.defineProperty(globalThis, "navigator", { value: { connection }, configurable: true, writable: true });
    const one = await seeded();
    for (const metered of [{ saveData: true }, { saveData: false, type: "cellular" }]) {
      Object.assign(connection, metered);
      assert.equal((await within(20_000, room.join().fetch())).size, FILE);
      assert.equal(one.swarm.stats().toPeers, 0);
    }
    assert.equal(server.sent, 80);
    Object.assign(connection, { saveData: false, type: "wifi" });
    const slow = room.join();
    one.way.rate = 20_000;
    const blob = slow.fetch();
    await pass(300);
    const given = one.swarm.stats().toPeers;
    assert.ok(given > 0);
    connection.saveData = true;
    await within(20_000, blob);
    assert.ok(one.swarm.stats().toPeers <= given + PIECE);
  });

  test("wait a moment for connections before they trouble the server", async () => {
    await seeded();
    const two = room.join(undefined, { status: "connecting" });
    const blob = two.fetch();
    await pass(1_500);
    const early = server.sent;
    assert.ok(early * PIECE <= 1_500 * 500 + PIECE, `${early}`);
    for (const peer of two.all) peer.status = "direct";
    await within(5_000, blob);
    assert.ok(two.swarm.stats().fromPeers > 0);
    const three = room.join(undefined, { status: "connecting" });
    assert.equal((await within(8_000, three.fetch())).size, FILE, "but not for long");
  });

  test("do without one that has no swarm", async () => {
    room.join(null);
    const two = room.join();
    const begun = time;
    assert.equal((await within(5_000, two.fetch())).size, FILE);
    assert.ok(time - begun < 4_000);
    assert.equal(two.opened, 1, "is asked once in a while");
  });

  test("go on where one leaves in the middle", async () => {
    const one = await seeded({ uplink: 200_000 });
    const two = room.join();
    const blob = two.fetch();
    await pass(400);
    assert.ok(two.swarm.stats().fromPeers > 0);
    room.leave(one);
    assert.deepEqual(await bytesOf(await within(20_000, blob)), file);
    assert.ok(server.sent > 0);
    assert.equal(two.swarm.stats().bad, 0);
  });

  test("end with the peers and the swarm", async () => {
    const one = await seeded();
    const channel = await ask(room.join(null), one);
    assert.equal(channel.readyState, "open");
    one.swarm.close();
    await pass(50);
    assert.equal(channel.readyState, "closed");
    assert.deepEqual(Object.keys(one.listeners), []);
  });
});

describe("a player who", () => {
  test("is silent is asked no more, and the pieces elsewhere", async () => {
    const silent = actor();
    const two = room.join();
    const begun = time;
    assert.deepEqual(await bytesOf(await within(20_000, two.fetch())), file);
    assert.ok(time - begun < 5_000, "500 kB/s in any case");
    assert.equal(silent.requests.length, 2);
    assert.equal(two.swarm.stats().bad, 0);
    const named = two.swarm.fetch({ sha256: sha256("x") });
    named.catch(() => {});
    await pass(20_000);
    assert.equal(silent.requests.length, 3, "not for 20 s");
    await pass(10_000);
    assert.equal(silent.requests.length, 4);
    two.swarm.close();
  });

  test("refuses is left alone for a while", async () => {
    const busy = actor((channel, index) => channel.send(chunk(index, 0, Buffer.alloc(0))));
    const two = room.join();
    const named = two.swarm.fetch({ sha256: sha256("x") });
    named.catch(() => {});
    await pass(10_000);
    assert.ok(busy.requests.length >= 5 && busy.requests.length <= 20, `${busy.requests.length}`);
    assert.equal(two.swarm.stats().bad, 0);
    two.swarm.close();
  });

  test("sends wrong bytes is dropped and never asked again", async () => {
    const bad = actor((channel, index) => channel.send(chunk(index, pieceOf(index).length, Buffer.alloc(pieceOf(index).length))));
    const good = await (async () => {
      const page = room.join();
      await within(10_000, page.fetch());
      return page;
    })();
    assert.equal(good.swarm.stats().bad, 1);
    assert.ok(bad.requests.length <= 2);
    server.file = file = randomFile(10);
    const before = bad.requests.length;
    assert.deepEqual(await bytesOf(await within(10_000, good.fetch())), file);
    await pass(30_000);
    assert.equal(bad.requests.length, before);
    const channel = await ask(bad, good, { key: `${sha256(file)} 40` });
    assert.deepEqual([channel.readyState, channel.got.length], ["closed", 0], "nor answered");
  });

  for (const [what, act, tell] of [
    ["a chunk that nobody asked for", (channel, index) => channel.send(chunk((index + 7) % 40, PIECE, Buffer.alloc(9)))],
    ["a piece of another length", (channel, index) => channel.send(chunk(index, 2 ** 31, Buffer.alloc(9)))],
    ["more than the piece", (channel, index) => channel.send(chunk(index, pieceOf(index).length, Buffer.alloc(PIECE + 1)))],
    ["another length in its second chunk", (channel, index) => {
      channel.send(chunk(index, pieceOf(index).length, Buffer.alloc(1)));
      channel.send(chunk(index, 5, Buffer.alloc(1)));
    }],
    ["too short a message", (channel) => channel.send(new Uint8Array(3))],
    ["an unreadable list", undefined, (count) => "x".repeat(count)],
    ["a list of another length", undefined, (count) => "1".repeat(count + 1)],
  ]) {
    test(`sends ${what} is dropped`, async () => {
      const bad = actor(act, { tell });
      const two = room.join();
      assert.deepEqual(await bytesOf(await within(10_000, two.fetch())), file);
      await pass(1_000);
      assert.equal(two.swarm.stats().bad, 1);
      assert.ok(bad.received.every(({ readyState }) => readyState === "closed"));
    });
  }

  for (const [what, messages] of [
    ["a piece that does not exist", ["40"]],
    ["no number", ["x"]],
    ["bytes", [new Uint8Array([1, 2, 3, 4])]],
    ["too much at once", Array.from({ length: 5 }, (_, index) => `${index}`)],
  ]) {
    test(`asks for ${what} is dropped`, async () => {
      const one = await seeded();
      const stranger = room.join(null);
      const channel = await ask(stranger, one);
      assert.deepEqual(channel.got, ["1".repeat(40)]);
      for (const message of messages) channel.send(message);
      await pass(20);
      assert.equal(one.swarm.stats().bad, 1);
      assert.equal(channel.readyState, "closed");
      assert.equal((await ask(stranger, one)).readyState, "closed");
      assert.equal((await within(5_000, room.join().fetch())).size, FILE);
      assert.equal(server.sent, 0, "others are served");
    });
  }

  test("asks for what the page does not have is refused", async () => {
    const one = await seeded();
    const other = room.join(null);
    const channel = await ask(other, one, { key: `${sha256("other")} 3` });
    channel.send("2");
    await pass(20);
    assert.deepEqual(channel.got, ["000", Buffer.from([0, 0, 0, 2, 0, 0, 0, 0])]);
    assert.equal(one.swarm.stats().bad, 0);
  });

  test("asks for more than the uplink carries is refused for now", async () => {
    const one = await seeded({ uplink: 2 * PIECE });
    const others = [room.join(null), room.join(null)];
    const channels = [await ask(others[0], one), await ask(others[1], one)];
    for (const index of ["0", "1", "2", "3"]) channels[0].send(index);
    await pass(20);
    channels[1].send("5");
    await pass(100);
    assert.deepEqual(channels[1].got.at(-1), Buffer.from([0, 0, 0, 5, 0, 0, 0, 0]));
    await pass(3_000);
    channels[1].send("5");
    await pass(3_000);
    assert.deepEqual(Buffer.concat(channels[1].got.slice(2).map((data) => data.subarray(8))), pieceOf(5));
  });

  test("opens channels without end gets few", async () => {
    const one = await seeded();
    const stranger = room.join(null);
    const channels = [];
    for (let n = 0; n < 20; n++) channels.push(await ask(stranger, one, { key: `${sha256(`${n}`)} 3` }));
    assert.equal(channels.filter(({ readyState }) => readyState === "open").length, 8);
    for (const label of ["", "swarm", "swarm x 1 1", `swarm ${sha256("x")} 9999 1`]) {
      const channel = stranger.all[0].createDataChannel(label);
      await pass(20);
      assert.equal(channel.readyState, "closed", label);
    }
    // For one content a player has one, the newest.
    const first = await ask(stranger, one, { key: `${sha256("0")} 3`, rank: 2 });
    assert.equal(first.readyState, "open");
    assert.equal(channels[0].readyState, "closed");
  });
});

describe("shared bytes", () => {
  test("go from page to page without a server", async () => {
    const one = room.join();
    const bytes = randomFile(3, 100_000);
    const hash = await one.swarm.share(bytes);
    assert.equal(hash, sha256(bytes));
    bytes.fill(0);
    const shared = randomFile(3, 100_000);
    const two = room.join();
    assert.deepEqual(await bytesOf(await within(2_000, two.swarm.fetch({ sha256: hash, bytes: 100_000 }))), shared);
    room.leave(one);
    const three = room.join();
    assert.deepEqual(await bytesOf(await within(8_000, three.swarm.fetch({ sha256: hash }))), shared);
    assert.equal(three.swarm.stats().fromPeers, 100_000);
    assert.equal(server.sent + server.manifests, 0);
  });

  test("are waited for until somebody has them", async () => {
    const [one, two] = [room.join(), room.join()];
    const blob = two.swarm.fetch({ sha256: sha256("segment"), bytes: 7 });
    await pass(5_000);
    await one.swarm.share("segment");
    assert.equal(await (await within(1_000, blob)).text(), "segment");
  });

  test("come from the server where no player has them, or they are late", async () => {
    server.file = file = randomFile(4, 5_000);
    const source = { sha256: sha256(file), url: `${URL}?segment=7` };
    const one = room.join();
    assert.equal((await within(5_000, one.swarm.fetch(source))).size, 5_000);
    assert.equal(server.sent, 1);
    room.leave(one);
    actor();
    assert.equal((await within(2_000, room.join().swarm.fetch(source))).size, 5_000);
    server.file = Buffer.from("other");
    await assert.rejects(within(60_000, room.join().swarm.fetch({ ...source, sha256: sha256("x") })), { code: "unreachable" });
  });

  test("are forgotten when newer ones need the room", async () => {
    const one = room.join();
    const hashes = [];
    for (let n = 0; n < 300; n++) hashes.push(await one.swarm.share(`segment ${n}`));
    const other = room.join(null);
    const has = async (hash) => {
      const channel = await ask(other, one, { key: `${hash} 1` });
      channel.close();
      await pass(20);
      return channel.got[0];
    };
    assert.deepEqual([await has(hashes[0]), await has(hashes[43]), await has(hashes[44]), await has(hashes[299])], ["0", "0", "1", "1"]);
  });
});

describe("shared bytes with a source", () => {
  const BYTES = 100_000;
  /** The players who load, and a page whose player is the source. */
  const share = async (count, { way, options } = {}) => {
    const source = room.join(options, { way });
    const bytes = randomFile(8, BYTES);
    const shared = { sha256: await source.swarm.share(bytes), bytes: BYTES, source: source.player };
    const loads = Array.from({ length: count }, () => room.join({ minRate: 0 }));
    return { source, shared, bytes, load: () => Promise.all(loads.map(({ swarm }) => swarm.fetch(shared))), loads };
  };

  test("are loaded from the source about once", async () => {
    const { source, bytes, load, loads } = await share(8);
    for (const blob of await within(3_000, load())) assert.deepEqual(await bytesOf(blob), bytes);
    assert.ok(source.swarm.stats().toPeers <= 2 * BYTES, `${source.swarm.stats().toPeers}`);
    assert.ok(loads.every(({ swarm }) => swarm.stats().fromPeers === BYTES), "nobody loads anything twice");
  });

  test("reach fifty players of whom each knows a few and twelve the source", async () => {
    const { source, loads } = await share(50, { way: { rate: 1.25e6 } });
    const random = randomBytes(SEED);
    const known = new Map([source, ...loads].map((page) => [page, new Set()]));
    const tie = (one, other) => {
      known.get(one).add(other.player);
      known.get(other).add(one.player);
    };
    loads.forEach((page, n) => {
      const others = loads.slice(0, n);
      for (let count = 0; count < 4 && others.length; count++) tie(page, others.splice(random.below(others.length), 1)[0]);
      if (n < 12) tie(page, source);
    });
    for (const [page, players] of known) page.all = page.all.filter(({ player }) => players.has(player));
    const running = [];
    for (let second = 0; second < 5; second++) {
      const shared = { sha256: await source.swarm.share(randomFile(second, BYTES)), bytes: BYTES, source: source.player };
      running.push(...loads.map(({ swarm }) => swarm.fetch(shared)));
      await pass(1_000);
    }
    await within(5_000, Promise.all(running));
    const sent = source.swarm.stats().toPeers / (5 * BYTES);
    assert.ok(sent < 8, `each segment left the source ${sent} times`);
  });

  test("come from the source where the others deliver nothing, or nobody else is there", async () => {
    const silent = Array.from({ length: 3 }, () => actor());
    const { source, load } = await share(1);
    const begun = time;
    await within(3_000, load());
    assert.ok(time - begun >= 1_500, "the others are asked first");
    assert.equal(source.swarm.stats().toPeers, BYTES);
    assert.deepEqual(silent.map(({ requests }) => requests.length).sort(), [0, 0, 1]);

    room = createRoom();
    const alone = await share(1);
    await within(1_000, alone.load());
  });

  test("are loaded over another channel where the first message of one is lost", async () => {
    let opened = 0;
    const first = actor((channel, index) => channel.send(chunk(index, 4, Buffer.from("live"))));
    const { datachannel } = first.listeners;
    first.listeners.datachannel = (channel) => {
      if (++opened > 1) return datachannel(channel);
      channel.onmessage = () => {};
    };
    const loading = room.join().swarm.fetch({ sha256: sha256("live"), bytes: 4, source: first.player });
    assert.equal((await within(2_500, loading)).size, 4);
    assert.equal(opened, 2);
  });

  test("that are others than the source has named cost it the connection", async () => {
    const alter = (data) => {
      if (typeof data !== "string") new Uint8Array(data)[50] ^= 1;
      return data;
    };
    const { load, loads } = await share(2, { way: { alter } });
    const all = load();
    all.catch(() => {});
    await pass(8_000);
    assert.ok(loads.some(({ swarm }) => swarm.stats().bad === 1));
    loads.forEach(({ swarm }) => swarm.close());
    await assert.rejects(within(1_000, all), { code: "aborted" });
  });
});
