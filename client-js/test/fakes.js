import { deflateRawSync } from "node:zlib";
import { ACK, INPUT, PING, PONG, reliableFrame, unreliableFrame } from "../src/frame.js";
import { HEARTBEAT_INTERVAL } from "../src/limits.js";
import { decode, encode } from "../src/msgpack.js";
import { connect } from "../src/testing.js";

export const microtasks = () => new Promise((resolve) => setImmediate(resolve));

/** Time that passes only in `advance`, with the timers to go with it. */
class Clock {
  time = 0;
  #timers = new Map();
  #id = 0;

  now = () => this.time;
  setTimeout = (callback, ms) => this.#add(callback, ms);
  setInterval = (callback, ms) => this.#add(callback, ms, ms);
  clearTimeout = (id) => this.#timers.delete(id);
  clearInterval = this.clearTimeout;

  #add(callback, ms, every) {
    this.#timers.set(++this.#id, { callback, due: this.time + ms, every });
    return this.#id;
  }

  get pending() {
    return this.#timers.size;
  }

  /** Calls `beat` every 1.2 s from now on, as long as there is one. It is no timer of the client's. */
  startHeartbeat(beat) {
    this.beat = beat;
    this.nextBeat = this.time + HEARTBEAT_INTERVAL;
  }

  async advance(ms) {
    const end = this.time + ms;
    for (; this.beat && this.nextBeat <= end; this.nextBeat += HEARTBEAT_INTERVAL) {
      await this.#pass(this.nextBeat);
      this.beat();
      await microtasks();
    }
    await this.#pass(end);
  }

  async #pass(end) {
    for (;;) {
      const [next] = [...this.#timers].filter(([, { due }]) => due <= end).sort(([, a], [, b]) => a.due - b.due);
      if (!next) break;
      const [id, timer] = next;
      // Late where a test has let time pass without them, as timers of a frozen page are.
      this.time = Math.max(this.time, timer.due);
      if (timer.every) timer.due = this.time + timer.every;
      else this.#timers.delete(id);
      timer.callback();
      await microtasks();
    }
    this.time = end;
    await microtasks();
  }
}

class FakeSocket {
  bufferedAmount = 0;
  sent = [];
  closedWith = null;

  constructor(url) {
    this.url = url;
  }

  send(data) {
    this.sent.push(data);
  }

  close(code) {
    this.closedWith ??= code ?? "no code";
  }

  get signals() {
    return this.sent.filter((data) => typeof data === "string").map((text) => JSON.parse(text));
  }

  deliver(data) {
    this.onmessage?.({ data: data instanceof Uint8Array ? data.slice().buffer : data });
  }
}

class FakeChannel {
  readyState = "connecting";
  bufferedAmount = 0;
  sent = [];

  send(data) {
    if (this.readyState !== "open") throw new Error("InvalidStateError");
    this.sent.push(data);
  }

  deliver(bytes) {
    this.onmessage?.({ data: bytes.slice().buffer });
  }
}

class FakePeerConnection {
  iceConnectionState = "new";
  connectionState = "new";
  localDescription = null;
  remoteDescription = null;
  closed = false;

  constructor(configuration) {
    this.configuration = configuration;
  }

  createDataChannel(label, options) {
    this.channel = Object.assign(new FakeChannel(), { label, options });
    return this.channel;
  }

  async createOffer() {
    return { type: "offer", sdp: "the offer" };
  }

  async setLocalDescription(description) {
    this.localDescription = description;
  }

  async setRemoteDescription(description) {
    this.remoteDescription = description;
    await microtasks();
    if (description.sdp === "nonsense") throw new Error("InvalidAccessError");
  }

  close() {
    this.closed = true;
    if (this.channel) this.channel.readyState = "closed";
  }

  become(states) {
    Object.assign(this, states);
    this.oniceconnectionstatechange?.();
    this.onconnectionstatechange?.();
  }

  open() {
    this.become({ iceConnectionState: "connected" });
    this.become({ connectionState: "connected" });
    this.channel.readyState = "open";
    this.channel.onopen?.();
  }
}

export const REPLY = {
  socketId: "00112233445566778899aabbccddeeff",
  player: 3,
  roomSize: 2,
  sessions: [
    { player: 1, socketId: "aa", userId: "u1", name: "Grace" },
    { player: 3, socketId: "bb", userId: null, name: "Ada" },
  ],
  tick: 100,
  tickMs: 33,
  inputSeq: 1,
  resume: "token",
  welcome: { map: "castle" },
  sdp: "the answer",
};

/** A tab's storage that remembers. */
export const tab = (kept = {}) => ({
  kept,
  getItem: (key) => kept[key] ?? null,
  setItem: (key, value) => (kept[key] = value),
  removeItem: (key) => delete kept[key],
});

/** The server's reply on the newest websocket. */
export const grant = ({ socket }, reply, action = "reconnect") =>
  socket.deliver(JSON.stringify({ a: `${action}R`, s: true, d: reply }));
export const refuse = ({ socket }, e, more = {}, action = "reconnect") =>
  socket.deliver(JSON.stringify({ a: `${action}R`, s: false, e, m: "No.", ...more }));

/**
 * A client up to the point where its socket exists. `breaking` is called with each peer connection; what else is no
 * option of `connect` replaces a part of the environment. `outcome` settles with the room or the error.
 */
export async function dial({ breaking, ...given } = {}, url = "http://play.example/r/lobby") {
  const clock = new Clock();
  const dialled = { clock, sockets: [], pcs: [], page: new EventTarget() };
  const { now, setTimeout, clearTimeout, setInterval, clearInterval } = clock;
  const environment = {
    WebSocket: function (address) {
      dialled.socket = new FakeSocket(address);
      dialled.sockets.push(dialled.socket);
      return dialled.socket;
    },
    RTCPeerConnection: function (configuration) {
      dialled.pc = new FakePeerConnection(configuration);
      dialled.pcs.push(dialled.pc);
      breaking?.(dialled.pc);
      return dialled.pc;
    },
    now,
    setTimeout,
    clearTimeout,
    setInterval,
    clearInterval,
    random: () => 1,
    page: dialled.page,
    storage: null,
  };
  const options = { name: "Ada" };
  for (const [key, value] of Object.entries(given)) (key in environment ? environment : options)[key] = value;
  const promise = connect(url, options, environment);
  dialled.outcome = promise.then(
    (room) => ({ room }),
    (error) => ({ error }),
  );
  await microtasks();
  return dialled;
}

/** The same up to the request to join. */
export async function dialOpen(options, url) {
  const dialled = await dial(options, url);
  dialled.socket.onopen?.();
  await microtasks();
  return dialled;
}

/** A session in a room whose server's heart beats, with everything that it emits collected in `log`. */
export async function join(options, reply = {}) {
  const session = await dialOpen(options);
  session.socket.deliver(JSON.stringify({ a: "joinR", s: true, d: { ...REPLY, ...reply } }));
  const { room, error } = await session.outcome;
  if (error) throw error;
  const log = [];
  for (const type of ["state", "tick", "event", "join", "leave", "rename", "status", "rejoin", "close", "error"]) {
    room.on(type, (...details) => log.push([type, ...details]));
  }
  await session.clock.advance(0);
  const of = (type) => log.filter(([logged]) => logged === type).map(([, ...details]) => details);
  session.clock.startHeartbeat(() => session.socket.deliver(heartbeat(0)));
  return Object.assign(session, { room, log, of });
}

/** The same with the data channel open and what was sent until then forgotten. */
export async function joinOpen(options, reply) {
  const session = await join(options, reply);
  session.pc.open();
  session.socket.sent = [];
  session.pc.channel.sent = [];
  session.log.length = 0;
  return session;
}

/** What the server sends to show that it is there, and that it has had the commands up to `newest`. */
export const heartbeat = (newest) => down(ACK, { reliable: true }, [newest]);

let pongs = 0;
/** The answer to the latest ping over the websocket, which shows that the session goes on. */
export const pong = ({ socket, clock }) => socket.deliver(down(PONG, { seq: pongs++ }, [clock.time, 0, 101]));

const ROOMY = 2 * 1024 * 1024;
const DEEP = 64;

/** A frame of the server with `value` for body. */
export function down(kind, { seq = 0, ack = 0, tick = 0, deflated = false, reliable = false }, value) {
  const plain = encode(value, ROOMY, DEEP, ROOMY);
  const body = deflated ? deflateRawSync(Uint8Array.from(plain)) : plain;
  const frame = reliable ? reliableFrame(kind, seq, tick, body) : unreliableFrame(kind, seq, ack, body);
  if (deflated) frame[0] |= 0x20;
  return frame;
}

/** The same in parts of at most `partBytes` of body. */
export function downParts(kind, { seq, ack = 0 }, value, partBytes) {
  const body = encode(value, ROOMY, DEEP, ROOMY);
  const count = Math.ceil(body.length / partBytes);
  return Array.from({ length: count }, (_, index) => {
    const piece = body.slice(index * partBytes, (index + 1) * partBytes);
    const [first, ...rest] = unreliableFrame(kind, seq + index, ack, piece);
    return Uint8Array.from([first | 0x10, (index << 4) | (count - 1), ...rest]);
  });
}

/** What a client sent, taken apart as a server would, without the pings where `kind` is not theirs. */
export function up(sent) {
  return sent
    .filter((data) => data instanceof Uint8Array)
    .map((bytes) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      const kind = bytes[0];
      if (kind === INPUT) {
        const [newest, inputs, ...stamps] = decode(bytes.subarray(5), DEEP);
        const [seq, ack] = [view.getUint16(1, true), view.getUint16(3, true)];
        return { kind, seq, ack, body: [newest, inputs], stamps };
      }
      return kind >= 7
        ? { kind, seq: view.getUint32(1, true), tick: view.getUint32(5, true), body: decode(bytes.subarray(9), DEEP) }
        : { kind, seq: view.getUint16(1, true), ack: view.getUint16(3, true), body: decode(bytes.subarray(5), DEEP) };
    });
}

export const withoutPings = (frames) => frames.filter(({ kind }) => kind !== PING);
