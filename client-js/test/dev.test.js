import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createMessages } from "../src/dev/messages.js";
import { createMeter } from "../src/dev/meter.js";
import { createDatagrams, createStream, datagramDelays, draw, PRESETS, RANGES, REORDER_MS, settingsFrom } from "../src/dev/network.js";
import { toScenario } from "../src/dev/scenario.js";
import { shapedPeerConnection, shapedWebSocket } from "../src/dev/transport.js";
import { INPUT, PING, PONG, STATE, unreliableFrame } from "../src/frame.js";
import { encode } from "../src/msgpack.js";
import { dial, microtasks, REPLY } from "./fakes.js";

const COUNT = 4_000;
const settings = (up, down = up, seed = 1) => settingsFrom({ seed, up, down });

/** Time that passes only in `advance`, in which the timers of one time run in the order in which they were set. */
class Clock {
  time = 0;
  #timers = [];
  now = () => this.time;
  setTimeout = (action, ms) => {
    const due = this.time + ms;
    const after = this.#timers.findIndex((timer) => timer.due > due);
    this.#timers.splice(after < 0 ? this.#timers.length : after, 0, { action, due });
  };
  advance(ms) {
    const end = this.time + ms;
    while (this.#timers[0]?.due <= end) {
      const { action, due } = this.#timers.shift();
      this.time = due;
      action();
    }
    this.time = end;
  }
}

/** When each of so many, one a millisecond, arrives: `[number, at]` in the order of arrival. */
function arrivalsOf(start) {
  const clock = new Clock();
  const arrived = [];
  const send = start(clock, (number) => arrived.push([number, clock.time]));
  for (let number = 0; number < COUNT; number++) {
    send(number);
    clock.advance(1);
  }
  clock.advance(1_000_000);
  return arrived;
}
const arrivals = (settings, way = "down") =>
  arrivalsOf((clock, deliver) => createDatagrams(clock, settings, way, deliver));
const streamed = (settings, bytes = 100) =>
  arrivalsOf((clock, deliver) => {
    const push = createStream(clock, settings, "down");
    return (number) => push(() => deliver(number), bytes);
  });
const near = (value, expected, tolerance) => assert.ok(Math.abs(value - expected) <= tolerance, `${value}, not ${expected}`);
const isSorted = (numbers) => numbers.every((number, n) => n === 0 || numbers[n - 1] <= number);

describe("the network of the dev page, in virtual time", () => {
  test("does nothing where nothing is set", () => {
    const arrived = arrivals(settings({}));
    assert.deepEqual(arrived, Array.from({ length: COUNT }, (_, n) => [n, n]));
  });

  test("loses, copies, delays and reorders as it is set", () => {
    const lossy = arrivals(settings({ loss: 20 }));
    near(1 - lossy.length / COUNT, 0.2, 0.02);
    assert.ok(isSorted(lossy.map(([number]) => number)) && lossy.every(([number, at]) => number === at));
    const doubled = arrivals(settings({ duplication: 10 }));
    near(doubled.length / COUNT, 1.1, 0.015);
    assert.equal(new Set(doubled.map(([number]) => number)).size, COUNT);
    const late = arrivals(settings({ latency: 75 }));
    assert.ok(late.length === COUNT && late.every(([number, at]) => at === number + 75));
    const jittery = (arrivals(settings({ latency: 50, jitter: 40 }))).map(([number, at]) => at - number);
    assert.ok(Math.min(...jittery) >= 50 && Math.max(...jittery) < 90);
    near(jittery.reduce((sum, delay) => sum + delay) / COUNT, 70, 1);
    const reordered = arrivals(settings({ latency: 50, reordering: 5 }));
    const overtaken = reordered.filter(([number, at]) => at === number + 50 + REORDER_MS);
    near(overtaken.length / COUNT, 0.05, 0.012);
    assert.equal(reordered.length - overtaken.length, reordered.filter(([number, at]) => at === number + 50).length);
  });

  test("treats each direction by its own settings and its own luck", () => {
    const uneven = settings({ loss: 50 }, { latency: 20 });
    near((arrivals(uneven, "up")).length / COUNT, 0.5, 0.03);
    assert.ok((arrivals(uneven, "down")).every(([number, at]) => at === number + 20));
    const even = settings({ loss: 50 });
    assert.notDeepEqual(arrivals(even, "up"), arrivals(even, "down"));
  });

  test("gives the same fates by the same seed", () => {
    const path = { latency: 30, jitter: 50, loss: 10, duplication: 5, reordering: 5 };
    const once = arrivals(settings(path));
    assert.deepEqual(arrivals(settings(path)), once);
    assert.notDeepEqual(arrivals(settings(path, path, 2)), once);
    // What is lost stays lost when another slider moves.
    const lost = (path) => Array.from({ length: COUNT }, (_, n) => datagramDelays(settings(path), "up", n).length === 0);
    assert.deepEqual(lost({ loss: 10 }), lost(path));
  });

  test("draws evenly, and each number by itself", () => {
    const tenths = Array(10).fill(0);
    for (let n = 0; n < 10_000; n++) tenths[Math.floor(draw(1, 0, 0, n, 0) * 10)]++;
    for (const count of tenths) near(count, 1_000, 120);
    let both = 0;
    for (let n = 0; n < 10_000; n++) both += draw(1, 0, 0, n, 0) < 0.1 && draw(1, 0, 0, n + 1, 0) < 0.1;
    near(both, 100, 40);
  });

  test("follows a slider that moves", () => {
    const clock = new Clock();
    const live = settings({});
    const arrived = [];
    const send = createDatagrams(clock, live, "down", (what) => arrived.push([what, clock.time]));
    send("first");
    live.down.latency = 100;
    send("second");
    live.isUdpSilent = true;
    send("third");
    clock.advance(1_000);
    assert.deepEqual(arrived, [["first", 0], ["second", 100]]);
  });
});

describe("the stream of a websocket on that network", () => {
  test("is never lossy, doubled or reordered, whatever is set", () => {
    for (const preset of [...Object.values(PRESETS), settings({ latency: 500, jitter: 200, loss: 50, duplication: 50, reordering: 50 })]) {
      for (const seed of [1, 2]) {
        const arrived = streamed({ ...settingsFrom(preset), seed });
        assert.deepEqual(arrived.map(([number]) => number), Array.from({ length: COUNT }, (_, n) => n));
        assert.ok(isSorted(arrived.map(([, at]) => at)));
      }
    }
  });

  test("shows loss as the time of a retransmission, which holds up what is behind it", () => {
    const arrived = streamed(settings({ latency: 50, loss: 1 }));
    const delays = arrived.map(([number, at]) => at - number);
    assert.ok(delays.every((delay) => delay >= 50) && delays.some((delay) => delay === 50));
    // A round trip of 100 ms and 200 ms more.
    const first = delays.findIndex((delay) => delay > 50);
    assert.equal(delays[first], 350);
    assert.equal(delays[first + 1], 349);
    const quick = streamed(settings({ latency: 50, duplication: 50, reordering: 50 }));
    assert.ok(quick.every(([number, at]) => at === number + 50));
  });

  test("loses more of what has more segments", () => {
    const heldUp = (bytes) => {
      let count = 0;
      for (let seed = 0; seed < 400; seed++) {
        const clock = new Clock();
        createStream(clock, settings({ loss: 5 }, undefined, seed), "up")(() => (count += clock.time > 0), bytes);
        clock.advance(60_000);
      }
      return count / 400;
    };
    near(heldUp(100), 0.05, 0.03);
    near(heldUp(14_600), 1 - 0.95 ** 10, 0.07);
  });
});

class Socket {
  sent = [];
  bufferedAmount = 0;
  send = (data) => this.sent.push(data);
  close = (...how) => (this.closedWith = how);
}

function connect(settings) {
  const clock = new Clock();
  const sockets = new Set();
  const noted = [];
  const real = new Socket();
  const note = (...what) => noted.push(what);
  const Shaped = shapedWebSocket(function () { return real; }, clock, settings, sockets, note);
  const socket = new Shaped("ws://h/r/a");
  const log = [];
  for (const type of ["open", "message", "close"]) socket[`on${type}`] = (event) => log.push([clock.time, type, event?.data ?? event?.code]);
  return { clock, sockets, noted, socket, real, log };
}

describe("a websocket over it", () => {
  test("opens, speaks and closes in order, each a way later", () => {
    const { clock, sockets, noted, socket, real, log } = connect(settings({ latency: 50 }));
    real.onopen();
    clock.advance(1_000);
    real.onmessage({ data: "a" });
    real.onclose({ code: 4003 });
    socket.send("b");
    clock.advance(49);
    assert.deepEqual(real.sent, []);
    clock.advance(1);
    assert.deepEqual(real.sent, ["b"]);
    assert.deepEqual(log, [[250, "open", undefined], [1_050, "message", "a"], [1_050, "close", 4003]]);
    assert.deepEqual(noted, [["up", "b"], ["down", "a"]]);
    assert.equal(sockets.size, 0);
  });

  test("says what it was given before it closes, and hears nothing after", () => {
    const { clock, socket, real, log } = connect(settings({ latency: 50, jitter: 30 }));
    real.onmessage({ data: "too late" });
    socket.send("leave");
    socket.close(1000);
    clock.advance(1_000);
    assert.deepEqual([real.sent, real.closedWith, log], [["leave"], [1000], []]);
  });

  test("can be dropped as a network drops it", () => {
    const { clock, sockets, real, log } = connect(settings({ latency: 50 }));
    real.onmessage({ data: "on its way" });
    for (const socket of [...sockets]) socket.drop();
    real.onclose({ code: 1005 });
    clock.advance(1_000);
    assert.deepEqual([log, real.closedWith, sockets.size], [[[0, "close", 1006]], [], 0]);
  });
});

describe("a data channel over it", () => {
  test("is the page's own but for its datagrams", () => {
    const clock = new Clock();
    const live = settings({ latency: 10 });
    const noted = [];
    const channel = { readyState: "connecting", bufferedAmount: 3, sent: [], send: (data) => channel.sent.push(data) };
    let asked;
    class Peer {
      createDataChannel(...how) {
        asked = how;
        return channel;
      }
    }
    const pc = new (shapedPeerConnection(Peer, clock, live, (...what) => noted.push(what)))({ iceServers: [] });
    assert.ok(pc instanceof Peer);
    const shaped = pc.createDataChannel("rtcade", { id: 0 });
    shaped.binaryType = "arraybuffer";
    assert.deepEqual([asked, channel.binaryType, shaped.bufferedAmount], [["rtcade", { id: 0 }], "arraybuffer", 3]);
    const log = [];
    for (const type of ["open", "message", "close"]) shaped[`on${type}`] = (event) => log.push([clock.time, type, event?.data]);
    channel.readyState = "open";
    channel.onopen({});
    shaped.send("up");
    channel.onmessage({ data: "down" });
    clock.advance(10);
    live.isUdpSilent = true;
    shaped.send("lost up");
    channel.onmessage({ data: "lost down" });
    clock.advance(10);
    live.isUdpSilent = false;
    shaped.send("closed");
    channel.send = () => assert.fail("InvalidStateError");
    channel.onclose({});
    clock.advance(10);
    assert.deepEqual(channel.sent, ["up"]);
    assert.deepEqual(log, [[0, "open", undefined], [10, "message", "down"], [20, "close", undefined]]);
    assert.deepEqual(noted, [
      ["up", "up", false],
      ["down", "down"],
      ["up", "lost up", true],
      ["down", "lost down", true],
      ["up", "closed", false],
    ]);
  });
});

describe("its messages", () => {
  const join = () => {
    let time = 0;
    const messages = createMessages(() => time);
    messages.note("up", "websocket", JSON.stringify({ a: "join", d: { name: "Ada", bearer: "a token" } }));
    messages.note("down", "websocket", JSON.stringify({ a: "joinR", s: true, d: REPLY }));
    const down = (kind, seq, body, lane = "data channel", isLost) =>
      messages.note("down", lane, unreliableFrame(kind, seq, 0, body).buffer, isLost);
    return { messages, down, advance: (ms) => (time += ms) };
  };
  const last = ({ kept }) => kept.at(-1);

  test("are decoded in both directions, with their sizes", () => {
    const { messages, down } = join();
    down(STATE, 0, encode([101, { discs: [[3, 4.5]] }], 1_000));
    assert.deepEqual(
      { ...last(messages), number: 0 },
      {
        number: 0, at: 0, way: "down", lane: "data channel", kind: "state", isReliable: false, coding: undefined,
        wireBytes: 22, decodedBytes: 17, value: [101, { discs: [[3, 4.5]] }], label: "tick 101", fate: undefined,
      },
    );
    messages.note("up", "data channel", unreliableFrame(INPUT, 0, 0, encode([9, [[1, 2]]], 1_000)));
    assert.deepEqual([last(messages).kind, last(messages).label, last(messages).value], ["input", "#9", [9, [[1, 2]]]]);
    assert.ok(messages.counters.up > 0 && messages.counters.down > messages.counters.up);
  });

  test("show no secret", () => {
    const { messages } = join();
    const shown = JSON.stringify(messages.kept);
    assert.ok(shown.includes("Ada") && !shown.includes("a token") && !shown.includes(REPLY.resume), shown);
  });

  test("name what was lost, doubled, late or can't be read, and go on", () => {
    const { messages, down } = join();
    down(STATE, 0, encode([105, "new"], 100));
    const fates = [
      () => down(STATE, 0, encode([105, "new"], 100)),
      () => down(STATE, 1, encode([104, "old"], 100)),
      () => down(STATE, 2, [0xc1, 1, 0, 0, 0, 0]),
      () => down(STATE, 3, [0x91]),
      () => down(STATE, 4, encode([107, ""], 100), undefined, true),
      () => messages.note("down", "data channel", new ArrayBuffer(0)),
      () => messages.note("down", "data channel", new Uint8Array([0xff, 1, 2]).buffer),
      () => down(STATE, 5, encode([108, ""], 100)),
    ].map((act) => (act(), last(messages).fate));
    assert.deepEqual(fates, ["duplicate", "late", "bad: delta", "bad: truncated", "lost", "bad: truncated", "bad: version", undefined]);
  });

  test("never throw, whatever comes", () => {
    const { messages, down } = join();
    let state = 1;
    const byte = () => (state = Math.imul(state, 1_103_515_245) + 12_345) >>> 24;
    for (let n = 0; n < 20_000; n++) {
      const bytes = Uint8Array.from({ length: byte() % 40 }, byte);
      if (bytes.length && n % 2) bytes[0] = byte() % 12 | (byte() % 4 === 0 ? 0x30 : 0);
      messages.note(n % 3 ? "down" : "up", n % 5 ? "data channel" : "websocket", bytes.buffer, n % 7 === 0);
    }
    for (const text of ["", "{", "null", "7", '{"a":7}', '{"a":"joinR","s":true}', '{"a":"joinR","s":true,"d":null}', '{"d":7}']) {
      messages.note("down", "websocket", text);
      messages.note("up", "websocket", text);
    }
    assert.ok(messages.kept.length <= 300);
  });

  test("measure the link as the client does", () => {
    const { messages, down, advance } = join();
    const meter = createMeter({ predict: { stats: { corrections: 2, lastError: 0.5, pending: 1 } }, interpolate: { delay: 80 } });
    messages.note("up", "data channel", unreliableFrame(PING, 0, 0, encode([0], 10)));
    advance(120);
    down(PONG, 0, encode([0, 5, 100], 100));
    for (const [seq, tick] of [[1, 101], [2, 102], [5, 105]]) {
      advance(33);
      down(STATE, seq, encode([tick, 0], 100));
    }
    meter.take(messages);
    const { rtt, loss, gap, delay, error, corrections, down: bytes } = meter.samples[0];
    assert.deepEqual([rtt, loss, gap, delay, error, corrections], [120, 100 / 3, 33, 80, 0.5, 0]);
    assert.equal(bytes, 0);
    advance(250);
    meter.take(messages);
    assert.equal(meter.samples[1].gap, 250);
  });
});

describe("its settings", () => {
  test("are within their ranges whatever was stored", () => {
    for (const stored of [null, undefined, 7, "x", {}, { seed: -1, up: { loss: 1e9 }, down: { loss: "x", latency: NaN } }]) {
      const { seed, isUdpSilent, up, down } = settingsFrom(stored);
      assert.ok(Number.isInteger(seed) && seed >= 0 && isUdpSilent === false);
      for (const path of [up, down]) {
        for (const [key, { max }] of Object.entries(RANGES)) assert.ok(path[key] >= 0 && path[key] <= max, key);
      }
    }
  });

  test("become a scenario with what is set alone", () => {
    assert.equal(
      toScenario({ ...settings({ latency: 75, loss: 5 }, { latency: 100, loss: 0.5, jitter: 20, duplication: 1, reordering: 3 }, 9), isUdpSilent: true }),
      `# Play it with: rtcade sim --scenario FILE --seed 9
- name: dev-page
  rtt_ms: 150
  up:
    - loss_permille: 50
    - no_udp
  down:
    - loss_permille: 5
    - duplicate_permille: 10
    - reorder: { permille: 30, ms: 60 }
    - jitter_ms: 20
    - latency_ms: 25
    - no_udp
`,
    );
    assert.equal(toScenario(settings({})), "# Play it with: rtcade sim --scenario FILE --seed 1\n- name: dev-page\n  rtt_ms: 0\n");
  });
});

describe("a client whose page asks for it", () => {
  const warnings = [];
  const { warn } = console;
  before(() => (console.warn = (text) => warnings.push(text)));
  after(() => {
    console.warn = warn;
    delete globalThis.location;
  });
  /** What `dial` has made by the time that an import has failed. */
  const dialFrom = async (address, options) => {
    globalThis.location = new URL(address);
    warnings.length = 0;
    const dialled = await dial(options);
    for (let n = 0; n < 100 && dialled.sockets.length === 0; n++) await microtasks();
    return dialled;
  };

  test("says why where it can't be loaded, and goes on", async () => {
    for (const address of ["http://play.example/?dev", "http://play.example:5173/a?b&dev=1", "http://other.example/?dev"]) {
      const { sockets } = await dialFrom(address);
      assert.equal(sockets.length, 1, address);
      const script = "http://play.example/rtcade/dev.js";
      assert.deepEqual(warnings, [`?dev can't load ${script}. Use the page's host, at localhost or with --dev.`]);
    }
  });

  test("does not ask for it otherwise", async () => {
    for (const query of ["", "?developer", "?dev-tools=1", "?a=dev", "?mydev", "#?dev"]) {
      const { sockets } = await dialFrom(`http://play.example/${query}`);
      assert.deepEqual([sockets.length, warnings], [1, []], query);
    }
  });

  test("can be cancelled meanwhile", async () => {
    const cancel = new AbortController();
    const dialling = dialFrom("http://play.example/?dev", { signal: cancel.signal });
    cancel.abort();
    const { sockets, outcome } = await dialling;
    assert.deepEqual([sockets.length, (await outcome).error.code], [0, "aborted"]);
  });
});
