/** How many ticks an input may come before its own. */
const HORIZON = 64;
const PART_BYTES = 256;
const PARTS = 256;
/** States kept to show what differs when another player's hash does. */
const MARKS = 8;
/** The share of a tick per tick by which the lead over the server changes. */
const SLEW = 0.05;
/** In ticks, of inputs before they are due; it grows where they come late, and shrinks in each tick. */
const MARGIN_LEAST = 0.75;
const MARGIN_MOST = 4;
const MARGIN_GROWTH = 0.5;
const MARGIN_DECAY = 0.002;
/** Ticks that may pass without a call of `update`, as in a hidden page. */
const UNATTENDED = 3;
/** Inputs that one call of `update` sends at most. */
const CAPTURES = UNATTENDED + 1;
/** Times in milliseconds. */
const ASK_AGAIN = 2_000;
/** Longer than the server keeps a lost player, and the ticks that this player needs to come back. */
const SILENCE = 15_000;
const STATE_AWAITED = 5_000;
const RTT_ASSUMED = 100;

/** What stands for a number that JSON has not. */
const isMarker = (value) => typeof value?.["#"] === "string";
const isPlain = (value) => [Object.prototype, Array.prototype, null].includes(Object.getPrototypeOf(value));

/** JSON that keeps every number. @throws {TypeError} for what it would change. */
const toText = (value) =>
  JSON.stringify(value, (key, value) => {
    if (typeof value === "number" && (Object.is(value, -0) || !Number.isFinite(value)))
      return { "#": value === 0 ? "-0" : String(value) };
    const isStrange = value === undefined || typeof value === "function" || isMarker(value);
    if (isStrange || (value && typeof value === "object" && !isPlain(value)))
      throw new TypeError(`rollback: "${key}" can't be JSON: use plain objects and arrays, or pass options.save and load`);
    return value;
  });

const fromText = (text) => JSON.parse(text, (_, value) => (isMarker(value) ? Number(value["#"]) : value));

/** FNV-1a of the UTF-16 units. */
const hashText = (text) => {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash >>> 0;
};

/** Runs a game in the pages of all players of a room whose server fans out their inputs. See rollback.d.ts. */
export function rollback(room, options) {
  const { init, step, save = (world) => world, load = (saved) => saved } = options;
  const { predict = (_, last) => last, inputDelay = 2, maxPrediction = 8, hashEvery = 30 } = options;
  const { hash = (world) => hashText(toText(save(world))) } = options;
  const { clone = options.save ? (world) => load(fromText(toText(save(world)))) : structuredClone } = options;
  for (const name of ["init", "step"])
    if (typeof options[name] !== "function") throw new TypeError(`rollback: pass a function as options.${name}`);

  const listeners = {};
  const stats = { lead: 0, delay: inputDelay, rollbacks: 0, deepest: 0, late: 0, stalls: 0, bad: 0 };
  let input;

  /** The newest tick received, and those received that are not confirmed yet. */
  let newest;
  let queue;
  /** The newest tick that was simulated with final inputs, its world, the one before, and its inputs by player. */
  let confirmed;
  let world;
  let before;
  let inputs;
  /** By tick and player, what has come before its time. */
  let early;
  /** By tick, what this player has sent. */
  let own;
  let captured;
  /** The ticks after `confirmed`: `{world, inputs, text}`. */
  let predicted = [];

  let isSynced;
  /** Whether nobody can have the world yet. */
  let isFirst;
  let asks;
  let askedAt;
  /** By player, the tick of their latest message, and of their latest question for the world. */
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
    try {
      action(detail);
    } catch (error) {
      (globalThis.reportError ?? console.error)(error);
    }
  };
  const emit = (type, detail) => {
    for (const listener of listeners[type] ?? []) attempt(listener, detail);
  };
  const tip = () => confirmed + predicted.length;
  const isLowest = () => Math.min(...room.players.keys()) === room.me;

  // ---- The world's way into a page.

  /** What a page without the world begins with, or one that has lost it. */
  const seek = () => {
    isSynced = false;
    queue = [];
    predicted = [];
    own = new Map();
    heard = new Map();
    asked = new Map();
    transfers = new Map();
    outbox = [];
    marks = new Map();
    claims = new Map();
    alarms = new Map();
    told = new Map();
    askedAt = captured = lead = shared = undefined;
    asks = 0;
  };
  const begin = () => {
    seek();
    gone = new Set();
    isFirst = isLowest();
    newest = world = before = confirmed = undefined;
  };
  const enter = (tick, state, players, waiting) => {
    inputs = new Map(players);
    early = new Map(waiting.map(([tick, sent]) => [tick, new Map(sent)]));
    world = before = state;
    confirmed = tick;
    queue = queue.filter(([queued]) => queued > tick);
    isFirst = false;
    isSynced = true;
    emit("sync", { tick });
  };
  /** Whether nobody else has the world, and nobody else is to begin with one. */
  const founds = () => {
    if (room.players.size === 1 || isFirst) return true;
    const since = newest - ticksOf(SILENCE);
    const isQuiet = (from) => [...from].every(([player, tick]) => tick < since || !room.players.has(player));
    const before = [...asked].filter(([player]) => player < room.me);
    return queue[0][0] <= since && isQuiet(heard) && isQuiet(before);
  };
  const look = () => {
    if (askedAt === undefined || newest - askedAt > ticksOf(ASK_AGAIN)) {
      // A page that was loaded anew goes on numbering.
      if (room.send({ ask: asks++ }) !== 1) isFirst = false;
      askedAt = newest;
    }
    if (founds()) enter(newest, world ?? init(), [], []);
    else if (queue.length > 2 * ticksOf(SILENCE)) queue.shift();
  };
  const post = (value) => {
    // One at a time, however often it is asked for.
    if (outbox.length > 0) return;
    // A byte for each character, and none cut in half.
    const text = toText(value).replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt().toString(16).padStart(4, 0)}`);
    const count = Math.ceil(text.length / PART_BYTES);
    if (count > PARTS) throw new RangeError(`rollback: a saved world has ${text.length} bytes, more than 64 KiB`);
    for (let n = 0; n < count; n++) outbox.push({ part: [n, count, text.slice(n * PART_BYTES, (n + 1) * PART_BYTES)] });
  };
  const offer = ([asker, number]) => {
    const donors = [...inputs.keys()].filter((player) => player !== asker && room.players.has(player));
    if (asker === room.me || (donors.length > 0 && donors[number % donors.length] !== room.me)) return;
    const waiting = [...early].map(([tick, sent]) => [tick, [...sent]]);
    post({ tick: confirmed, world: save(world), players: [...inputs], early: waiting });
  };
  /** Takes a part of what another player has saved; what is whole is a world to begin with, or one that differs. */
  const collect = (player, [index, count, text]) => {
    if (index === 0) transfers.set(player, []);
    const parts = transfers.get(player);
    if (parts?.length !== index || !(count <= PARTS)) return transfers.delete(player);
    parts.push(text);
    askedAt = newest;
    if (parts.length < count) return;
    transfers.delete(player);
    const { tick, world, players, early } = fromText(parts.join(""));
    if (!players) {
      const alarm = alarms.get(player);
      if (alarm?.tick === tick) report(player, alarm, load(world));
    } else if (!isSynced && queue.some(([queued]) => queued === tick)) enter(tick, load(world), players, early);
  };

  // ---- Whether all have the same world.

  const report = (player, alarm, theirs) => {
    if (alarm.isReported) return;
    alarm.isReported = true;
    const { tick, mark, hash } = alarm;
    emit("desync", { tick, player, mine: mark.world, theirs, hashes: { mine: mark.hash, theirs: hash } });
  };
  const compare = (player, tick, hash) => {
    const mark = marks.get(tick);
    if (!mark || mark.hash === hash || alarms.has(player)) return;
    alarms.set(player, { tick, mark, hash, since: newest });
    if (shared === tick) return;
    shared = tick;
    post({ tick, world: save(mark.world) });
  };
  const mark = () => {
    const own = hash(world);
    marks.set(confirmed, { hash: own, world });
    marks.delete(confirmed - MARKS * hashEvery);
    room.send({ hash: [confirmed, own] });
    for (const [player, theirs] of claims.get(confirmed) ?? []) compare(player, confirmed, theirs);
    for (const tick of claims.keys()) if (tick <= confirmed) claims.delete(tick);
  };
  const claim = (player, [tick, hash]) => {
    if (player === room.me) return;
    if (tick <= confirmed) compare(player, tick, hash);
    else if (tick <= newest) claims.set(tick, (claims.get(tick) ?? new Map()).set(player, hash));
  };

  // ---- The ticks of the server.

  /** Whether it is an input, for which tick: other pages may send anything. */
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
    } else if (message?.ask !== undefined) {
      asked.set(player, newest);
      alarms.delete(player);
    }
    else if (isInput(message) || message?.hash) heard.set(player, newest);
    if (message?.part) collect(player, message.part);
    if (message?.hash && isSynced) claim(player, message.hash);
  };
  const onTick = ({ tick, inputs: messages }) => {
    if (newest !== undefined && tick !== newest + 1) seek();
    newest = tick;
    margin = Math.max(MARGIN_LEAST, margin - MARGIN_DECAY);
    queue.push([tick, messages]);
    for (const { player, input } of messages) {
      try {
        hear(player, input);
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

  // ---- The simulation.

  /** What was sent for a tick, and for the other players what `predict` makes of their inputs of the tick before. */
  const gather = (last, sent) => {
    const players = new Set([...last.keys(), ...sent.keys()]);
    const input = (player) => (sent.has(player) ? sent.get(player) : predict(player, last.get(player)));
    return new Map([...players].sort((a, b) => a - b).map((player) => [player, input(player)]));
  };
  const textOf = (inputs) => toText([...inputs]);
  const confirm = () => {
    const [tick, messages] = queue[0];
    const last = new Map(inputs);
    const sent = new Map(early.get(tick));
    early.delete(tick);
    const questions = [];
    for (const { player, input: message } of messages) {
      if (isInput(message)) {
        const [due, value] = message;
        if (due <= tick || due > tick + HORIZON) sent.set(player, value);
        else early.set(due, (early.get(due) ?? new Map()).set(player, value));
      } else if (message?.left !== undefined) {
        for (const known of [last, sent, ...early.values()]) known.delete(message.left);
      } else if (message?.ask !== undefined) questions.push([player, message.ask]);
    }
    const actual = gather(last, sent);
    let next;
    if (predicted[0]?.text === textOf(actual)) next = predicted.shift().world;
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
    const last = predicted.at(-1) ?? { world, inputs };
    const tick = tip() + 1;
    const sent = new Map(early.get(tick));
    if (own.has(tick)) sent.set(room.me, own.get(tick));
    const gathered = gather(last.inputs, sent);
    predicted.push({ world: step(clone(last.world), gathered, tick), inputs: gathered, text: textOf(gathered) });
  };

  // ---- The present.

  /** Advances it: ahead of the server by as much as lets inputs arrive before their tick. */
  const keepTime = () => {
    const now = room.serverTick();
    const { rtt, jitter } = room.stats;
    const way = ticksOf((rtt ?? RTT_ASSUMED) / 2);
    const needed = Math.max(0, way + ticksOf(jitter) + margin - inputDelay);
    const wanted = Math.min(needed, maxPrediction - 2 - way);
    elapsed = Math.max(0, now - then) || 0;
    const slew = SLEW * elapsed;
    lead = lead === undefined ? wanted : lead + Math.max(-slew, Math.min(slew, wanted - lead));
    then = now;
    present = now + lead;
    stats.lead = lead;
    // Where the lead may not be what it needs to be, inputs are shown later rather than taken back.
    stats.delay = inputDelay + Math.max(0, Math.ceil(needed - wanted));
  };
  /** The input as it is now, for the ticks up to `tick`. */
  const capture = (tick) => {
    for (let due = Math.max(captured + 1, tick - CAPTURES + 1) || tick; due <= tick; due++) {
      if (input !== undefined) {
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
      return predicted.at(-1)?.world ?? world;
    },
    get previous() {
      return predicted.length > 1 ? predicted.at(-2).world : predicted.length === 1 ? world : before;
    },
    get tick() {
      return world === undefined ? undefined : tip();
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
      (listeners[type] ??= new Set()).add(listener);
      return () => void listeners[type].delete(listener);
    },

    input(value) {
      // As others will have it.
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
      // What was missed is shown quicker, the more it is.
      const most = Math.min(due, reached + Math.floor(1 + elapsed) + ((due - reached) >> 3));
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
    },
  };

  const subscriptions = [
    room.on("tick", onTick),
    room.on("leave", ({ player }) => gone.add(player)),
    room.on("rejoin", begin),
  ];
  begin();
  return session;
}
