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

// src/rollback.js
var rollback_exports = {};
__export(rollback_exports, {
  rollback: () => rollback
});
module.exports = __toCommonJS(rollback_exports);
var HORIZON = 64;
var PART_BYTES = 256;
var PARTS = 256;
var MARKS = 8;
var SLEW = 0.05;
var MARGIN_LEAST = 0.75;
var MARGIN_MOST = 4;
var MARGIN_GROWTH = 0.5;
var MARGIN_DECAY = 2e-3;
var UNATTENDED = 3;
var CAPTURES = UNATTENDED + 1;
var ASK_AGAIN = 2e3;
var SILENCE = 15e3;
var STATE_AWAITED = 5e3;
var RTT_ASSUMED = 100;
var isMarker = (value) => typeof (value == null ? void 0 : value["#"]) === "string";
var isPlain = (value) => [Object.prototype, Array.prototype, null].includes(Object.getPrototypeOf(value));
var toText = (value) => JSON.stringify(value, (key, value2) => {
  if (typeof value2 === "number" && (Object.is(value2, -0) || !Number.isFinite(value2)))
    return { "#": value2 === 0 ? "-0" : String(value2) };
  const isStrange = value2 === void 0 || typeof value2 === "function" || isMarker(value2);
  if (isStrange || value2 && typeof value2 === "object" && !isPlain(value2))
    throw new TypeError(`rollback: "${key}" can't be JSON: use plain objects and arrays, or pass options.save and load`);
  return value2;
});
var fromText = (text) => JSON.parse(text, (_, value) => isMarker(value) ? Number(value["#"]) : value);
var hashText = (text) => {
  let hash = 2166136261;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619);
  return hash >>> 0;
};
function rollback(room, options) {
  const { init, step, save = (world2) => world2, load = (saved) => saved } = options;
  const { predict = (_, last) => last, inputDelay = 2, maxPrediction = 8, hashEvery = 30 } = options;
  const { hash = (world2) => hashText(toText(save(world2))) } = options;
  const { clone = options.save ? (world2) => load(fromText(toText(save(world2)))) : structuredClone } = options;
  for (const name of ["init", "step"])
    if (typeof options[name] !== "function") throw new TypeError(`rollback: pass a function as options.${name}`);
  const listeners = {};
  const stats = { lead: 0, delay: inputDelay, rollbacks: 0, deepest: 0, late: 0, stalls: 0, bad: 0 };
  let input;
  let newest;
  let queue;
  let confirmed;
  let world;
  let before;
  let inputs;
  let early;
  let own;
  let captured;
  let predicted = [];
  let isSynced;
  let isFirst;
  let asks;
  let askedAt;
  let heard;
  let asked;
  let transfers;
  let outbox;
  let gone;
  let told;
  let marks;
  let claims;
  let alarms;
  let shared;
  let then;
  let elapsed;
  let lead;
  let margin = 1;
  let present = 0;
  let isStalled = false;
  const ticksOf = (ms) => ms / room.tickMs;
  const attempt = (action, detail) => {
    var _a;
    try {
      action(detail);
    } catch (error) {
      ((_a = globalThis.reportError) != null ? _a : console.error)(error);
    }
  };
  const emit = (type, detail) => {
    var _a;
    for (const listener of (_a = listeners[type]) != null ? _a : []) attempt(listener, detail);
  };
  const tip = () => confirmed + predicted.length;
  const isLowest = () => Math.min(...room.players.keys()) === room.me;
  const seek = () => {
    isSynced = false;
    queue = [];
    predicted = [];
    own = /* @__PURE__ */ new Map();
    heard = /* @__PURE__ */ new Map();
    asked = /* @__PURE__ */ new Map();
    transfers = /* @__PURE__ */ new Map();
    outbox = [];
    marks = /* @__PURE__ */ new Map();
    claims = /* @__PURE__ */ new Map();
    alarms = /* @__PURE__ */ new Map();
    told = /* @__PURE__ */ new Map();
    askedAt = captured = lead = shared = void 0;
    asks = 0;
  };
  const begin = () => {
    seek();
    gone = /* @__PURE__ */ new Set();
    isFirst = isLowest();
    newest = world = before = confirmed = void 0;
  };
  const enter = (tick, state, players, waiting) => {
    inputs = new Map(players);
    early = new Map(waiting.map(([tick2, sent]) => [tick2, new Map(sent)]));
    world = before = state;
    confirmed = tick;
    queue = queue.filter(([queued]) => queued > tick);
    isFirst = false;
    isSynced = true;
    emit("sync", { tick });
  };
  const founds = () => {
    if (room.players.size === 1 || isFirst) return true;
    const since = newest - ticksOf(SILENCE);
    const isQuiet = (from) => [...from].every(([player, tick]) => tick < since || !room.players.has(player));
    const before2 = [...asked].filter(([player]) => player < room.me);
    return queue[0][0] <= since && isQuiet(heard) && isQuiet(before2);
  };
  const look = () => {
    if (askedAt === void 0 || newest - askedAt > ticksOf(ASK_AGAIN)) {
      if (room.send({ ask: asks++ }) !== 1) isFirst = false;
      askedAt = newest;
    }
    if (founds()) enter(newest, world != null ? world : init(), [], []);
    else if (queue.length > 2 * ticksOf(SILENCE)) queue.shift();
  };
  const post = (value) => {
    if (outbox.length > 0) return;
    const text = toText(value).replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt().toString(16).padStart(4, 0)}`);
    const count = Math.ceil(text.length / PART_BYTES);
    if (count > PARTS) throw new RangeError(`rollback: a saved world has ${text.length} bytes, more than 64 KiB`);
    for (let n = 0; n < count; n++) outbox.push({ part: [n, count, text.slice(n * PART_BYTES, (n + 1) * PART_BYTES)] });
  };
  const offer = ([asker, number]) => {
    const donors = [...inputs.keys()].filter((player) => player !== asker && room.players.has(player));
    if (asker === room.me || donors.length > 0 && donors[number % donors.length] !== room.me) return;
    const waiting = [...early].map(([tick, sent]) => [tick, [...sent]]);
    post({ tick: confirmed, world: save(world), players: [...inputs], early: waiting });
  };
  const collect = (player, [index, count, text]) => {
    if (index === 0) transfers.set(player, []);
    const parts = transfers.get(player);
    if ((parts == null ? void 0 : parts.length) !== index || !(count <= PARTS)) return transfers.delete(player);
    parts.push(text);
    askedAt = newest;
    if (parts.length < count) return;
    transfers.delete(player);
    const { tick, world: world2, players, early: early2 } = fromText(parts.join(""));
    if (!players) {
      const alarm = alarms.get(player);
      if ((alarm == null ? void 0 : alarm.tick) === tick) report(player, alarm, load(world2));
    } else if (!isSynced && queue.some(([queued]) => queued === tick)) enter(tick, load(world2), players, early2);
  };
  const report = (player, alarm, theirs) => {
    if (alarm.isReported) return;
    alarm.isReported = true;
    const { tick, mark: mark2, hash: hash2 } = alarm;
    emit("desync", { tick, player, mine: mark2.world, theirs, hashes: { mine: mark2.hash, theirs: hash2 } });
  };
  const compare = (player, tick, hash2) => {
    const mark2 = marks.get(tick);
    if (!mark2 || mark2.hash === hash2 || alarms.has(player)) return;
    alarms.set(player, { tick, mark: mark2, hash: hash2, since: newest });
    if (shared === tick) return;
    shared = tick;
    post({ tick, world: save(mark2.world) });
  };
  const mark = () => {
    var _a;
    const own2 = hash(world);
    marks.set(confirmed, { hash: own2, world });
    marks.delete(confirmed - MARKS * hashEvery);
    room.send({ hash: [confirmed, own2] });
    for (const [player, theirs] of (_a = claims.get(confirmed)) != null ? _a : []) compare(player, confirmed, theirs);
    for (const tick of claims.keys()) if (tick <= confirmed) claims.delete(tick);
  };
  const claim = (player, [tick, hash2]) => {
    var _a;
    if (player === room.me) return;
    if (tick <= confirmed) compare(player, tick, hash2);
    else if (tick <= newest) claims.set(tick, ((_a = claims.get(tick)) != null ? _a : /* @__PURE__ */ new Map()).set(player, hash2));
  };
  const isInput = (message) => {
    if (!Array.isArray(message) || !Number.isInteger(message[0]) || message.length !== 2) return false;
    try {
      toText(message[1]);
      return true;
    } catch {
      return false;
    }
  };
  const hear = (player, message) => {
    if (player === room.me) {
      if (isInput(message) && message[0] < newest) {
        stats.late++;
        margin = Math.min(MARGIN_MOST, margin + MARGIN_GROWTH);
      }
    } else if ((message == null ? void 0 : message.ask) !== void 0) {
      asked.set(player, newest);
      alarms.delete(player);
    } else if (isInput(message) || (message == null ? void 0 : message.hash)) heard.set(player, newest);
    if (message == null ? void 0 : message.part) collect(player, message.part);
    if ((message == null ? void 0 : message.hash) && isSynced) claim(player, message.hash);
  };
  const onTick = ({ tick, inputs: messages }) => {
    if (newest !== void 0 && tick !== newest + 1) seek();
    newest = tick;
    margin = Math.max(MARGIN_LEAST, margin - MARGIN_DECAY);
    queue.push([tick, messages]);
    for (const { player, input: input2 } of messages) {
      try {
        hear(player, input2);
      } catch {
        stats.bad++;
      }
    }
    for (const [player, alarm] of alarms)
      if (tick - alarm.since > ticksOf(STATE_AWAITED)) report(player, alarm, null);
    if (!isSynced) look();
    else if (outbox.length > 0) room.send(outbox.shift());
    if (!(room.serverTick() - then <= UNATTENDED)) session.update();
  };
  const gather = (last, sent) => {
    const players = /* @__PURE__ */ new Set([...last.keys(), ...sent.keys()]);
    const input2 = (player) => sent.has(player) ? sent.get(player) : predict(player, last.get(player));
    return new Map([...players].sort((a, b) => a - b).map((player) => [player, input2(player)]));
  };
  const textOf = (inputs2) => toText([...inputs2]);
  const confirm = () => {
    var _a, _b;
    const [tick, messages] = queue[0];
    const last = new Map(inputs);
    const sent = new Map(early.get(tick));
    early.delete(tick);
    const questions = [];
    for (const { player, input: message } of messages) {
      if (isInput(message)) {
        const [due, value] = message;
        if (due <= tick || due > tick + HORIZON) sent.set(player, value);
        else early.set(due, ((_a = early.get(due)) != null ? _a : /* @__PURE__ */ new Map()).set(player, value));
      } else if ((message == null ? void 0 : message.left) !== void 0) {
        for (const known of [last, sent, ...early.values()]) known.delete(message.left);
      } else if ((message == null ? void 0 : message.ask) !== void 0) questions.push([player, message.ask]);
    }
    const actual = gather(last, sent);
    let next;
    if (((_b = predicted[0]) == null ? void 0 : _b.text) === textOf(actual)) next = predicted.shift().world;
    else {
      if (predicted.length > 0) {
        stats.rollbacks++;
        stats.deepest = Math.max(stats.deepest, predicted.length);
      }
      predicted = [];
      next = step(clone(world), actual, tick);
    }
    queue.shift();
    before = world;
    world = next;
    inputs = actual;
    confirmed = tick;
    own.delete(tick);
    if (tick % hashEvery === 0) mark();
    for (const question of questions) attempt(offer, question);
  };
  const predictNext = () => {
    var _a;
    const last = (_a = predicted.at(-1)) != null ? _a : { world, inputs };
    const tick = tip() + 1;
    const sent = new Map(early.get(tick));
    if (own.has(tick)) sent.set(room.me, own.get(tick));
    const gathered = gather(last.inputs, sent);
    predicted.push({ world: step(clone(last.world), gathered, tick), inputs: gathered, text: textOf(gathered) });
  };
  const keepTime = () => {
    const now = room.serverTick();
    const { rtt, jitter } = room.stats;
    const way = ticksOf((rtt != null ? rtt : RTT_ASSUMED) / 2);
    const needed = Math.max(0, way + ticksOf(jitter) + margin - inputDelay);
    const wanted = Math.min(needed, maxPrediction - 2 - way);
    elapsed = Math.max(0, now - then) || 0;
    const slew = SLEW * elapsed;
    lead = lead === void 0 ? wanted : lead + Math.max(-slew, Math.min(slew, wanted - lead));
    then = now;
    present = now + lead;
    stats.lead = lead;
    stats.delay = inputDelay + Math.max(0, Math.ceil(needed - wanted));
  };
  const capture = (tick) => {
    for (let due = Math.max(captured + 1, tick - CAPTURES + 1) || tick; due <= tick; due++) {
      if (input !== void 0) {
        room.send([due + stats.delay, input]);
        own.set(due + stats.delay, input);
      }
      captured = due;
    }
  };
  const tellDepartures = () => {
    for (const player of inputs.keys()) {
      if (room.players.has(player) || !(gone.has(player) || player < room.me)) continue;
      if (newest - told.get(player) < ticksOf(ASK_AGAIN)) continue;
      told.set(player, newest);
      room.send({ left: player });
    }
  };
  const setStalled = (isNow) => {
    if (isStalled === isNow) return;
    isStalled = isNow;
    if (isNow) stats.stalls++;
    emit(isNow ? "stall" : "recover", { tick: tip(), confirmed });
  };
  const session = {
    get world() {
      var _a, _b;
      return (_b = (_a = predicted.at(-1)) == null ? void 0 : _a.world) != null ? _b : world;
    },
    get previous() {
      return predicted.length > 1 ? predicted.at(-2).world : predicted.length === 1 ? world : before;
    },
    get tick() {
      return world === void 0 ? void 0 : tip();
    },
    get fraction() {
      return Math.max(0, Math.min(1, present - tip() || 0));
    },
    get confirmed() {
      return confirmed;
    },
    get confirmedWorld() {
      return world;
    },
    get status() {
      return !isSynced ? "syncing" : isStalled ? "stalled" : "running";
    },
    stats,
    on(type, listener) {
      var _a;
      ((_a = listeners[type]) != null ? _a : listeners[type] = /* @__PURE__ */ new Set()).add(listener);
      return () => void listeners[type].delete(listener);
    },
    input(value) {
      input = JSON.parse(JSON.stringify(value));
    },
    update() {
      if (!isSynced || room.status === "closed") return session.world;
      keepTime();
      const due = Math.floor(present);
      const limit = Math.min(due, newest + maxPrediction);
      capture(limit);
      tellDepartures();
      const reached = tip();
      const most = Math.min(due, reached + Math.floor(1 + elapsed) + (due - reached >> 3));
      let steps = 2 * maxPrediction + 4;
      while (queue.length > 0 && confirmed < most && steps-- > 0) confirm();
      while (queue.length === 0 && tip() < Math.min(limit, most) && steps-- > 0) predictNext();
      setStalled(limit < due && tip() === reached);
      return session.world;
    },
    resync() {
      if (!isLowest()) seek();
    },
    close() {
      for (const off of subscriptions) off();
      isSynced = false;
    }
  };
  const subscriptions = [
    room.on("tick", onTick),
    room.on("leave", ({ player }) => gone.add(player)),
    room.on("rejoin", begin)
  ];
  begin();
  return session;
}
//# sourceMappingURL=rollback.cjs.map
