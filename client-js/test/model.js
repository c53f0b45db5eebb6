// A page, a net and a server whose every turn comes from a seed: what they do to a client, `model.test.js` judges.

import { RtcadeError } from "../src/index.js";
import { ACK, COMMAND, PING, PONG, RELIABLE_EVENT } from "../src/frame.js";
import { connect } from "../src/testing.js";
import { down, microtasks, tab, up } from "./fakes.js";
import { randomBytes } from "./vectors.js";

const GRACE = 10_000;
const RELOAD_GRACE = 1_500;
const HEARTBEAT = 1_200;
const TICK = 33;
const STAGES = ["signaling", "ice", "dtls", "channel", "game"];
const CLOSE_CODES = [1000, 1001, 1006, 1008, 1009, 1011, 3000, 4001, 4002, 4003, 4004, 4005, 4006, 4007, 4008, 4100, 4999];

const hex = (n) => n.toString(16).padStart(32, "0");

/** Time, and all that is to happen. What belongs to a page waits while it is frozen, and does not come once it is gone. */
export class World {
  time = 0;
  trouble = 1;
  connects = 0;
  faults = [];
  #events = [];
  #count = 0;

  constructor(seed) {
    this.random = randomBytes(seed * 2_654_435_761 + 1);
    // The first few of similar seeds are similar.
    for (let i = 0; i < 20; i++) this.random.below(2);
    this.server = new Server(this);
    /** What the tab's storage holds. */
    this.kept = {};
    this.page = new Page(this);
  }

  below = (limit) => this.random.below(limit);
  /** Whether what goes wrong in `percent` of the cases does now. */
  fails = (percent) => this.trouble > 0 && this.below(100) < percent;
  pick = (from) => from[this.below(from.length)];
  fault = (what) => this.faults.push(`${what}, at ${Math.round(this.time)} ms`);

  in(ms, action, page) {
    const event = { due: this.time + Math.max(0, ms), id: ++this.#count, action, page };
    this.#events.push(event);
    return event;
  }
  cancel = (event) => (this.#events = this.#events.filter((other) => other !== event));
  isPending = (event) => this.#events.includes(event);
  forget = (page) => (this.#events = this.#events.filter((event) => event.page !== page));

  async pass(ms) {
    const end = this.time + ms;
    for (;;) {
      let next;
      for (const event of this.#events) {
        if (event.due > end || event.page?.isFrozen) continue;
        if (!next || event.due < next.due || (event.due === next.due && event.id < next.id)) next = event;
      }
      if (!next) break;
      this.cancel(next);
      this.time = Math.max(this.time, next.due);
      next.action();
      await microtasks();
    }
    this.time = end;
  }

  /** The page begins anew, in the same tab. */
  reload() {
    this.page.unload();
    this.page = new Page(this);
  }
}

/** An `EventTarget` that knows how many listen. */
class Target extends EventTarget {
  listeners = 0;
  addEventListener(...args) {
    this.listeners++;
    super.addEventListener(...args);
  }
  removeEventListener(...args) {
    this.listeners--;
    super.removeEventListener(...args);
  }
}

export class Page {
  timers = new Set();
  sockets = [];
  peers = [];
  signals = [];
  /** One for each `connect`: `{identity, startedAt, abort, room, error, events, commands}`. */
  connects = [];
  target = new Target();
  skew = 0;
  isFrozen = false;
  frozenFor = 0;
  isBroken = { webrtc: false };

  constructor(world) {
    this.world = world;
    this.storage = tab(world.kept);
  }

  now = () => (this.stoppedAt ??= this.stands ? this.world.time + this.skew : undefined) ?? this.world.time + this.skew;

  stopClock(ms) {
    this.stands = true;
    this.world.in(ms, () => {
      // It goes on from where it stood, or has caught up.
      if (this.world.below(2) && this.stoppedAt !== undefined) this.skew = this.stoppedAt - this.world.time;
      this.stands = false;
      this.stoppedAt = undefined;
    });
  }

  freeze(ms) {
    this.isFrozen = true;
    this.frozenFor += ms;
    this.world.in(ms, () => {
      this.isFrozen = false;
      if (this.world.page === this && this.world.below(2)) this.wake();
    });
  }

  wake = () => this.target.dispatchEvent(new Event(this.world.pick(["pageshow", "visibilitychange", "online"])));

  connect(identity, bearer, isBrief) {
    const { world } = this;
    const signal = new Target();
    signal.aborted = false;
    this.signals.push(signal);
    const made = { id: ++world.connects, identity, startedAt: world.time, frozenBefore: this.frozenFor, events: [], sent: [], epoch: 0 };
    made.abort = () => {
      signal.aborted = true;
      signal.dispatchEvent(new Event("abort"));
    };
    this.connects.push(made);
    const page = this;
    connect("ws://play.example/r/lobby", { ...identity, bearer, signal }, {
      page: this.target,
      storage: this.storage,
      now: this.now,
      random: () => world.below(1_000) / 1_000,
      setTimeout: (action, ms) => this.#timer(action, ms),
      setInterval: (action, ms) => this.#timer(action, ms, true),
      clearTimeout: this.#clear,
      clearInterval: this.#clear,
      WebSocket: function (url) {
        return new Socket(page, url);
      },
      RTCPeerConnection: function () {
        if (page.isBroken.webrtc === "throws") throw new Error("NotSupportedError");
        return new PeerConnection(page);
      },
    }).then(
      (room) => {
        this.#watch(made, room);
        if (isBrief) room.leave();
      },
      (error) => {
        made.error = error;
        this.#judge(error);
        this.#judgeRemains();
      },
    );
    return made;
  }

  /** Nothing outlives the last of its connections. */
  #judgeRemains() {
    if (!this.connects.every(({ error, closing }) => error || closing)) return;
    const left = Object.entries(this.remains).filter(([, count]) => count !== 0);
    if (left.length > 0) this.world.fault(`left behind: ${left}`);
  }

  #judge(error) {
    const isTold = error instanceof RtcadeError && error.message.trim() && !/undefined|\[object/.test(error.message);
    if (!isTold || typeof error.code !== "string" || !STAGES.includes(error.stage))
      this.world.fault(`an error that tells nothing: ${error} ${error?.stage} ${error?.code}`);
  }

  #watch(made, room) {
    made.room = room;
    for (const type of ["state", "tick", "event", "join", "leave", "status", "rejoin", "close", "error"])
      room.on(type, (...details) => {
        if (made.closing) this.world.fault(`${type} after close`);
        if (type === "rejoin") Object.assign(made, { epoch: made.epoch + 1, isKicked: false });
        if (type === "error") this.#judge(details[0]);
        if (type === "error" && made.isKicked && details[0].stage === "channel") this.world.fault(`an error before the reason of the end: ${details[0].stage} ${details[0].code}`);
        if (type === "close") {
          made.closing = details[0];
          queueMicrotask(() => this.#judgeRemains());
        }
        if (type === "close" && !(details[0].reason && details[0].message.trim())) this.world.fault("an end without a reason");
        if (type === "event" && details[0] !== (made.heard = (made.heard ?? details[0] - 1) + 1))
          this.world.fault(`event ${details[0]} instead of ${made.heard}`);
        if (type === "rejoin") made.heard = undefined;
      });
  }

  command(made) {
    if (made.room.status === "closed") return;
    try {
      made.room.command([made.id, made.epoch, made.sent.length]);
      made.sent.push(made.epoch);
    } catch (error) {
      this.#judge(error);
    }
  }

  #timer(action, ms, repeats) {
    const timer = {};
    const arm = () => {
      timer.event = this.world.in(
        ms,
        () => {
          if (repeats) arm();
          else this.timers.delete(timer);
          action();
        },
        this,
      );
    };
    this.timers.add(timer);
    arm();
    return timer;
  }
  #clear = (timer) => {
    if (!this.timers.delete(timer)) return;
    this.world.cancel(timer.event);
  };

  unload() {
    this.world.forget(this);
    for (const socket of this.sockets) socket.unload();
    for (const peer of this.peers) peer.end();
  }

  /** What is left of it, where all its rooms are closed. */
  get remains() {
    const { length: sockets } = this.sockets.filter(({ readyState }) => readyState < 2);
    const { length: peers } = this.peers.filter(({ isClosed }) => !isClosed);
    const listeners = this.signals.reduce((sum, { listeners }) => sum + listeners, 0);
    return { timers: this.timers.size, onPage: this.target.listeners, onSignals: listeners, sockets, peers };
  }
}

/** One websocket, both its ends: what is sent arrives in order. */
class Socket {
  readyState = 0;
  bufferedAmount = 0;

  constructor(page, url) {
    const { world } = page;
    Object.assign(this, { page, url, world, latency: 1 + world.below(world.fails(20) ? 2_000 : 60) });
    if (world.fails(2)) throw new Error("SecurityError");
    page.sockets.push(this);
    const isRefused = !world.server.isUp || world.isCut || world.fails(10);
    if (world.fails(7)) return;
    world.in(this.latency, () => (isRefused ? this.end(1006) : this.#open()));
  }

  #open() {
    if (this.readyState !== 0) return;
    const { world } = this;
    this.readyState = 1;
    this.opened = world.time;
    world.server.connections.add(this);
    this.isHostile = world.fails(8);
    this.isSilent = world.fails(4);
    world.in(0, () => this.readyState === 1 && this.onopen?.({}), this.page);
    if (world.fails(15)) world.in(world.below(3_000), () => this.end(world.pick(CLOSE_CODES), world.pick(["", " ", "kicked", "No."])));
  }

  send(data) {
    if (this.readyState === 0) throw new Error("InvalidStateError");
    if (this.readyState === 1 && !(this.isSilent && this.world.trouble)) this.world.in(this.latency, () => this.world.server.take(this, data));
  }

  close(code) {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code < 5000)) throw new Error("InvalidAccessError");
    if (this.readyState > 1) return;
    const wasOpen = this.readyState === 1;
    this.readyState = 2;
    if (wasOpen) this.world.in(this.latency, () => this.world.server.lose(this, code ?? 1005));
    this.world.in(2 * this.latency, () => this.onclose?.({ code: code ?? 1005, reason: "" }), this.page);
  }

  /** From the server. */
  push(data) {
    this.world.in(this.latency, () => this.readyState === 1 && this.onmessage?.({ data: data.slice?.().buffer ?? data }), this.page);
    if (this.world.fails(1)) this.world.in(0, () => this.end(1006));
  }

  /** The net, or the server, ends it. */
  end(code, reason = "") {
    this.world.server.lose(this, code);
    this.world.in(
      this.latency,
      () => {
        if (this.readyState > 1) return;
        this.readyState = 3;
        this.onclose?.({ code, reason });
      },
      this.page,
    );
  }

  unload() {
    this.readyState = 3;
    this.world.in(this.latency, () => this.world.server.lose(this, 1001));
  }
}

class PeerConnection {
  iceConnectionState = "new";
  connectionState = "new";
  isClosed = false;

  constructor(page) {
    Object.assign(this, { page, world: page.world });
    page.peers.push(this);
  }

  /** Each step of the browser may fail, come late, or never. */
  #step(result) {
    const { world, page } = this;
    const fate = page.isBroken.webrtc || (world.fails(25) ? world.pick(["hangs", "rejects", "late"]) : "");
    return new Promise((resolve, reject) => {
      if (fate === "hangs") return;
      if (fate === "rejects") return reject(new Error("OperationError"));
      world.in(fate === "late" ? world.below(15_000) : world.below(20), () => resolve(result), page);
    });
  }

  createDataChannel() {
    const { world } = this;
    if (world.fails(2)) throw new Error("OperationError");
    const send = (data) => {
      if (this.channel.readyState !== "open") throw new Error("InvalidStateError");
      if (!this.isLost) world.in(5 + world.below(20), () => world.server.takeFrame(this.session, up([data])[0], (frame) => this.push(frame)));
    };
    return (this.channel = { readyState: "connecting", bufferedAmount: 0, send });
  }

  createOffer = () => this.#step({ type: "offer", sdp: `offer ${this.page.peers.indexOf(this)}` });
  setLocalDescription = (description) => this.#step().then(() => (this.localDescription = description));

  async setRemoteDescription({ sdp }) {
    const { world } = this;
    if (typeof sdp !== "string" || !sdp.startsWith("answer ")) throw new Error("InvalidAccessError");
    this.session = world.server.sessions.get(sdp.slice("answer ".length));
    const become = (ms, states) => world.in(ms, () => this.become(states), this.page);
    if (world.fails(15)) return;
    if (world.fails(10)) return void become(50, { iceConnectionState: "failed", connectionState: "failed" });
    become(20, { iceConnectionState: "connected" });
    if (world.fails(10)) return;
    become(40, { connectionState: "connected" });
    if (world.fails(10)) return;
    world.in(60, () => this.open(), this.page);
  }

  become(states) {
    if (this.isClosed) return;
    Object.assign(this, states);
    this.oniceconnectionstatechange?.();
    this.onconnectionstatechange?.();
  }

  open() {
    if (this.isClosed) return;
    this.session?.peers.add(this);
    this.channel.readyState = "open";
    this.channel.onopen?.();
    if (this.world.fails(20)) this.world.in(this.world.below(20_000), () => this.end());
    if (this.world.fails(10)) this.world.in(this.world.below(20_000), () => this.lose());
  }

  push(frame) {
    if (this.isLost || this.isClosed) return;
    this.world.in(5 + this.world.below(20), () => this.isClosed || this.channel.onmessage?.({ data: frame.slice().buffer }), this.page);
  }

  /** Nothing passes any more, which ICE notices after 30 s (RFC 7675). */
  lose() {
    this.isLost = true;
    this.world.in(30_000, () => this.become({ iceConnectionState: "failed", connectionState: "failed" }), this.page);
  }

  end() {
    this.world.in(
      0,
      () => {
        if (this.isClosed || this.channel?.readyState !== "open") return;
        this.channel.readyState = "closed";
        this.channel.onclose?.();
      },
      this.page,
    );
  }

  close() {
    this.isClosed = true;
    this.session?.peers.delete(this);
    if (this.channel) this.channel.readyState = "closed";
  }
}

/** As much of the server as a client can tell: sessions, their tokens, their ends, and what is reliable. */
class Server {
  isUp = true;
  connections = new Set();
  /** By `socketId`. */
  sessions = new Map();
  #names = 0;

  constructor(world) {
    this.world = world;
    this.hasKeys = world.below(2) === 0;
    const beat = () => {
      for (const session of this.sessions.values()) this.#heartbeat(session);
      world.in(HEARTBEAT, beat);
    };
    world.in(0, beat);
  }

  restart(ms) {
    this.isUp = false;
    this.sessions.clear();
    for (const socket of [...this.connections]) socket.end(this.world.pick([1006, 1006, 1001, 4008]));
    for (const peer of this.world.page.peers) peer.lose();
    this.world.in(ms, () => (this.isUp = true));
  }

  #heartbeat({ socket, had }) {
    socket?.push(down(ACK, { reliable: true }, [had]));
  }

  take(socket, data) {
    if (!this.connections.has(socket)) return;
    const { session } = socket;
    if (session?.socket === socket) session.previous = undefined;
    if (typeof data !== "string") return session && this.takeFrame(session, up([data])[0], (frame) => socket.push(frame));
    const { a: action, d: details, i } = JSON.parse(data);
    const { world } = this;
    if (action === "leave") {
      if (session) this.end(session);
      socket.isLeft = true;
      return socket.end(1000);
    }
    const reply = (fields) => {
      if (socket.isHostile && world.fails(50)) return socket.push(world.pick(this.#nonsense(action, fields)));
      return socket.push(JSON.stringify({ a: `${action}R`, i, ...fields }));
    };
    const refuse = (e, more) => reply({ s: false, e, m: "No.", ...more });
    if (action === "exchangeSdp") {
      if (world.fails(30) || this.isDeaf) return;
      return session && !world.fails(10) ? reply({ s: true, d: { sdp: `answer ${session.id}` } }) : refuse("bad_sdp");
    }
    if (world.fails(5)) return refuse("rate_limited", { retryAfter: world.pick([0, 500, 3_000, 1e12]) });
    if (world.fails(2)) return refuse(world.pick(["room_full", "refused", "internal", "draining"]));
    if (action === "join") {
      const [subject, expiry] = (details.bearer ?? "").split(" until ");
      if (this.hasKeys && !(expiry > world.time)) return refuse(expiry ? "expired" : "unauthorized");
      return void world.in(world.below(TICK), () => {
        if (!this.connections.has(socket) || socket.isLeft) return;
        const id = hex(++this.#names);
        const session = { id, subject, player: this.#names, had: 0, commands: [], next: 1, kept: [], peers: new Set() };
        this.sessions.set(id, session);
        this.#attach(session, socket, details, reply);
      });
    }
    const known = this.sessions.get(details.socketId);
    if (!known) return refuse("no_such_session");
    if (details.resume !== known.token && details.resume !== known.previous) return refuse("unauthorized");
    if (this.hasKeys && details.bearer && details.bearer.split(" until ")[0] !== known.subject) return refuse("no_such_session");
    if (known.socket && known.socket.opened > socket.opened) return socket.end(4006, "replaced");
    const old = known.socket;
    if (old && old !== socket) {
      old.session = undefined;
      old.end(4006, "replaced");
    }
    this.#attach(known, socket, details, reply, details.last ?? known.next - 1);
  }

  #attach(session, socket, { sdp, resume }, reply, last) {
    session.socket = socket;
    socket.session = session;
    session.awayUntil = undefined;
    session.previous = resume;
    session.token = `token ${++this.#names}`;
    const { id, player, had } = session;
    const d = { socketId: id, player, roomSize: 1, sessions: [{ player, socketId: id, userId: null, name: "Ada" }] };
    Object.assign(d, { tick: 1, tickMs: TICK, inputSeq: 1, resume: session.token, welcome: null });
    if (last !== undefined) Object.assign(d, { last: had, reliableSeq: last + 1 });
    if (sdp && !this.world.fails(10)) d.sdp = `answer ${id}`;
    reply({ s: true, d });
    for (const { seq, frame } of session.kept) if (last !== undefined && seq > last) socket.push(frame);
  }

  takeFrame(session, { kind, seq, body }, answer) {
    if (!session || !this.sessions.has(session.id)) return;
    if (kind === PING) answer(down(PONG, { seq: (session.unreliable = ((session.unreliable ?? 0) + 1) & 0xffff) }, [body[0], this.world.time, 1]));
    if (kind === ACK) session.kept = session.kept.filter((message) => message.seq > body[0]);
    if (kind !== COMMAND || seq <= session.had) return;
    if (seq !== session.had + 1) this.world.fault(`command ${seq} after ${session.had}`);
    session.had = seq;
    session.commands.push(body);
  }

  say(session) {
    const seq = session.next++;
    const frame = down(RELIABLE_EVENT, { seq, tick: 1, reliable: true }, [1, seq]);
    session.kept.push({ seq, frame });
    session.socket?.push(frame);
  }

  kick(session) {
    for (const peer of session.peers) peer.end();
    const { socket } = session;
    this.end(session);
    socket?.end(4003, "kicked");
  }

  end(session) {
    this.sessions.delete(session.id);
  }

  /** A connection is gone. */
  lose(socket, code) {
    if (!this.connections.delete(socket)) return;
    const { session } = socket;
    if (session?.socket !== socket || !this.sessions.has(session.id)) return;
    session.socket = undefined;
    if (code === 1000) return this.end(session);
    const until = (session.awayUntil = this.world.time + (code === 1001 ? RELOAD_GRACE : GRACE));
    this.world.in(until - this.world.time, () => session.awayUntil === until && !session.socket && this.end(session));
  }

  #nonsense = (action, { d = {} }) => {
    const say = (d) => JSON.stringify({ a: `${action}R`, s: true, d });
    return [
      "{",
      "null",
      "7",
      say(null),
      say({ ...d, sessions: [null] }),
      say({ ...d, player: "1" }),
      say({ ...d, tickMs: 0 }),
      say({ ...d, resume: null }),
      say({ ...d, sdp: 7 }),
      say({ ...d, sdp: undefined, sdpError: { e: {}, m: [] } }),
      JSON.stringify({ a: "R", s: false, e: {}, m: 7, retryAfter: "soon" }),
      JSON.stringify({ a: `${action}R`, s: false, e: "rate_limited", retryAfter: 0 }),
      "x".repeat(100_000),
    ];
  };
}
