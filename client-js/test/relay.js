// A relay room in virtual time: the client as it is, over a net whose losses and delays come from a seed.

import { connect } from "../src/testing.js";
import { ACK, INPUT, PING, PONG, TICK, TICKS } from "../src/frame.js";
import { down, downParts, microtasks, REPLY, up } from "./fakes.js";
import { randomBytes } from "./vectors.js";

const HEARTBEAT = 1_200;
const HISTORY = 310;
const WINDOW = 3;
const PART_BYTES = 1_094;
const FRAME = 1_000 / 60;

export class Relay {
  time = 0;
  players = new Map();
  #events = [];
  #count = 0;
  #tick = 0;
  #number = 0;
  #tokens = 0;
  #batch = [];
  #history = [];

  constructor(seed, { tickMs = 33 } = {}) {
    this.tickMs = tickMs;
    this.random = randomBytes(seed * 2_654_435_761 + 1);
    for (let i = 0; i < 20; i++) this.random.below(2);
    const tick = () => {
      this.#run();
      this.in(tickMs, tick);
    };
    const beat = () => {
      for (const player of this.players.values()) player.push(down(ACK, { reliable: true }, [0]));
      this.in(HEARTBEAT, beat);
    };
    this.in(0, tick);
    this.in(0, beat);
  }

  below = (limit) => this.random.below(limit);

  in(ms, action) {
    const event = { due: this.time + Math.max(0, ms), id: ++this.#count, action };
    this.#events.push(event);
    return event;
  }
  cancel = (event) => (this.#events = this.#events.filter((other) => other !== event));

  async pass(ms) {
    const end = this.time + ms;
    for (;;) {
      let next;
      for (const event of this.#events)
        if (event.due <= end && (!next || event.due < next.due || (event.due === next.due && event.id < next.id))) next = event;
      if (!next) break;
      this.cancel(next);
      this.time = Math.max(this.time, next.due);
      next.action();
      await microtasks();
    }
    this.time = end;
  }

  /** A page in the room. `path` is `{oneWay, jitter, loss, reliableLag}`, `loss` as a share and the rest in ms; it may be changed. */
  async join(path, { storage = null, ...options } = {}) {
    const page = new Page(this, path, storage, options);
    const isThere = () => page.room !== undefined;
    for (let n = 0; n < 100 && !isThere(); n++) await this.pass(20);
    await this.pass(2 * path.oneWay + 100);
    return page;
  }

  admit(page, { a: action, d: { resume } }) {
    const kept = [...this.players.values()].find((player) => player.token === resume);
    if (resume && !kept) return page.fromServer(JSON.stringify({ a: `${action}R`, s: false, e: "no_such_session", m: "" }), true);
    const player = kept ?? { number: ++this.#number, consumed: 0, sequence: 0, reliable: 1, token: `token ${++this.#tokens}` };
    Object.assign(player, { page, push: (data) => page.fromServer(data, true) });
    this.players.set(player.number, player);
    page.player = player;
    const sessions = [...this.players.values()].map(sessionOf);
    const reply = { ...REPLY, ...sessionOf(player), roomSize: sessions.length, sessions, tick: this.#tick + 1, tickMs: this.tickMs };
    Object.assign(reply, { inputSeq: player.consumed + 1, resume: player.token, last: 0, reliableSeq: player.reliable });
    player.push(JSON.stringify({ a: `${action}R`, s: true, d: reply }));
    if (!kept) this.#tell("eventJoin", sessionOf(player), player);
  }

  leave(page) {
    const { player } = page;
    this.players.delete(player.number);
    this.#batch = this.#batch.filter(([number]) => number !== player.number);
    this.#tell("eventLeave", { player: player.number, reason: "left" });
  }

  /** The server is another one, which knows nobody. */
  restart() {
    const pages = [...this.players.values()].map(({ page }) => page);
    this.players.clear();
    this.#number = this.#tick = 0;
    this.#batch = [];
    this.#history = [];
    for (const page of pages) this.in(page.path.oneWay, () => page.socket.onclose?.({ code: 1006, reason: "" }));
  }

  #tell(a, d, but) {
    for (const player of this.players.values()) if (player !== but) player.push(JSON.stringify({ a, d }));
  }

  take(page, data) {
    const { player } = page;
    if (!player || player.page !== page || !this.players.has(player.number)) return;
    for (const { kind, body } of up([data])) {
      if (kind === PING) page.fromServer(down(PONG, { seq: player.sequence++, ack: player.consumed }, [body[0], this.time, this.#tick]));
      if (kind === INPUT) {
        const [newest, inputs] = body;
        for (let age = inputs.length - 1; age >= 0; age--) {
          const number = newest - age;
          if (number <= player.consumed) continue;
          player.consumed = number;
          this.#batch.push([player.number, number, inputs[age]]);
        }
      }
      if (kind === TICKS) {
        const [first, last] = body;
        const oldest = this.#history[0].tick;
        const start = Math.max(first, oldest);
        const lists = this.#history.filter(({ tick }) => tick >= start && tick <= last).map(({ inputs }) => inputs);
        player.push(down(TICKS, { seq: player.reliable++, tick: this.#tick, reliable: true }, [start, ...lists]));
      }
    }
  }

  #run() {
    const inputs = this.#batch;
    this.#batch = [];
    this.#history.push({ tick: ++this.#tick, inputs });
    if (this.#history.length > HISTORY) this.#history.shift();
    const window = this.#history.slice(-WINDOW).reverse().map(({ inputs }) => inputs);
    while (window.length > 1 && JSON.stringify(window).length > PART_BYTES) window.pop();
    for (const player of this.players.values()) {
      const frames = framesOf(player, [this.#tick, ...window]);
      player.sequence += frames.length;
      for (const frame of frames) player.page.fromServer(frame);
    }
  }
}

const sessionOf = ({ number }) => ({ player: number, socketId: String(number), userId: null, name: `Player ${number}` });

function framesOf({ sequence: seq, consumed: ack }, value) {
  const whole = down(TICK, { seq, ack }, value);
  return whole.length <= PART_BYTES ? [whole] : downParts(TICK, { seq, ack }, value, PART_BYTES);
}

export class Page {
  isCut = false;
  isGone = false;
  #kept = [];
  #reliable = { up: 0, down: 0 };

  constructor(relay, path, storage, options) {
    Object.assign(this, { relay, path });
    const page = this;
    const environment = {
      now: () => relay.time,
      random: () => 0.5,
      page: new EventTarget(),
      storage,
      setTimeout: (action, ms) => this.#timer(action, ms),
      setInterval: (action, ms) => this.#timer(action, ms, true),
      clearTimeout: this.#clear,
      clearInterval: this.#clear,
      WebSocket: function () {
        return page.#createSocket();
      },
      RTCPeerConnection: function () {
        return page.#createPeer();
      },
    };
    connect("ws://play.example/r/lobby", { name: "Ada", ...options }, environment).then(
      (room) => (this.room = room),
      (error) => (this.error = error),
    );
  }

  #timer(action, ms, repeats) {
    const timer = {};
    const arm = () => {
      timer.event = this.relay.in(ms, () => {
        if (this.isGone) return;
        if (repeats) arm();
        action();
      });
    };
    arm();
    return timer;
  }
  #clear = (timer) => timer && this.relay.cancel(timer.event);

  #createSocket() {
    this.socket = { readyState: 0, bufferedAmount: 0, close: () => {} };
    const { socket } = this;
    socket.send = (data) => this.#toServer(data, socket);
    this.relay.in(this.path.oneWay, () => this.socket.onopen?.({}));
    return this.socket;
  }

  #createPeer() {
    const peer = { iceConnectionState: "new", connectionState: "new", close: () => {} };
    peer.createDataChannel = () => {
      const channel = { readyState: "connecting", bufferedAmount: 0, send: (data) => this.#toServer(data, channel) };
      return (this.channel = peer.channel = channel);
    };
    peer.createOffer = async () => ({ type: "offer", sdp: "offer" });
    peer.setLocalDescription = async (description) => void (peer.localDescription = description);
    peer.setRemoteDescription = async () =>
      void this.relay.in(2 * this.path.oneWay, () => {
        Object.assign(peer, { iceConnectionState: "connected", connectionState: "connected" });
        peer.oniceconnectionstatechange?.();
        peer.onconnectionstatechange?.();
        peer.channel.readyState = "open";
        peer.channel.onopen?.();
      });
    return peer;
  }

  /** In order, what is reliable; the rest late or never. */
  #carry(way, isReliable, action) {
    const { oneWay, jitter = 0, loss = 0, reliableLag = 0 } = this.path;
    const delay = oneWay + (jitter && this.relay.below(jitter * 10) / 10) + (isReliable ? reliableLag : 0);
    if (!isReliable && (this.isCut || this.relay.below(10_000) < loss * 10_000)) return;
    if (isReliable && this.isCut) return this.#kept.push([way, action]);
    const at = isReliable ? (this.#reliable[way] = Math.max(this.#reliable[way], this.relay.time + delay)) : this.relay.time + delay;
    this.relay.in(at - this.relay.time, () => this.isGone || action());
  }
  #toServer(data, carrier) {
    this.#carry("up", carrier === this.socket, () => {
      // What a former connection carries belongs to a session that is over.
      if (carrier !== this.socket && carrier !== this.channel) return;
      if (typeof data !== "string") return this.relay.take(this, data);
      const message = JSON.parse(data);
      if (message.a === "join" || message.a === "reconnect") this.relay.admit(this, message);
    });
  }
  fromServer(data, isReliable = false) {
    const target = isReliable || this.channel?.readyState !== "open" ? this.socket : this.channel;
    const isOverSocket = target === this.socket;
    this.#carry("down", isOverSocket, () => target.onmessage?.({ data: typeof data === "string" ? data : data.slice().buffer }));
  }

  cut() {
    this.isCut = true;
  }
  mend() {
    this.isCut = false;
    for (const [way, action] of this.#kept.splice(0)) this.#carry(way, true, action);
  }

  /** Calls `frame` at the rate of a screen, until the page is hidden or gone. */
  show(frame) {
    this.hide();
    const next = () => {
      this.frame = this.relay.in(FRAME, next);
      if (!this.isGone) frame();
    };
    this.frame = this.relay.in(this.relay.below(16), next);
  }
  hide() {
    if (this.frame) this.relay.cancel(this.frame);
  }

  leave() {
    this.unload();
    this.relay.in(50, () => this.relay.leave(this));
  }
  /** The page is gone, and its session is not. */
  unload() {
    this.isGone = true;
    this.hide();
  }
}
