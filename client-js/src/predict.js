/** Inputs that a client repeats until they are acknowledged: those sent without a connection and replaced are lost. */
const INPUT_WINDOW = 8;
/** Inputs kept to be applied again. */
const PENDING_LIMIT = 256;
/** Ticks that a late frame makes up for; after a longer pause the game continues with one. */
const CATCH_UP_TICKS = 8;
/** A critically damped spring has 5 % of its way left when its frequency times the time is this. */
const SPRING = 4.74;

const isNewer = (number, than) => ((number - than) | 0) > 0;
const isTree = (value) => typeof value === "object" && value !== null && !ArrayBuffer.isView(value);
const turned = (angle) => angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));

/** A deep copy, in the objects of `into` as far as they fit. */
function copy(value, into) {
  if (!isTree(value)) return ArrayBuffer.isView(value) ? value.slice() : value;
  const isList = Array.isArray(value);
  const isFit = isTree(into) && Array.isArray(into) === isList;
  const target = isFit ? into : isList ? [] : Object.create(Object.getPrototypeOf(value));
  if (isList) target.length = value.length;
  else for (const key in target) if (!(key in value)) delete target[key];
  for (const key in value) target[key] = copy(value[key], target[key]);
  return target;
}

/** Lets the offsets (`[offset, speed]` by path) shrink for `elapsed`, and adds them to the numbers of `drawn`. */
function relax(offsets, frequency, elapsed, drawn) {
  const decay = Math.exp(-frequency * elapsed);
  for (const key in offsets) {
    const inner = offsets[key];
    if (!Array.isArray(inner)) relax(inner, frequency, elapsed, drawn?.[key]);
    else {
      const pull = inner[1] + frequency * inner[0];
      inner[0] = (inner[0] + pull * elapsed) * decay;
      inner[1] = (inner[1] - frequency * pull * elapsed) * decay;
      if (typeof drawn?.[key] === "number") drawn[key] += inner[0];
    }
  }
}

/** How the numbers of a field are blended, by name: all of them where there are no `fields`, else those and no others. */
function compile(fields) {
  if (!fields) return (_, inherited = "lerp") => inherited;
  const modes = new Map(Object.entries(fields).map(([name, rule]) => [name, rule.angle ? "angle" : (rule.mode ?? rule)]));
  return (name, inherited = "raw") => modes.get(name) ?? inherited;
}

export function predict(room, options) {
  const { from, step, fields, smooth = 100, teleported } = options ?? {};
  if (typeof from !== "function") throw new TypeError("predict needs `from`, a function that gives the own entity of a state");
  if (typeof step !== "function") throw new TypeError("predict needs `step`, the function that applies an input to the entity");

  /** `{number, input, isOffline}` of the inputs that no state reflects yet. */
  let pending = [];
  const modeOf = compile(fields);
  let truth;
  let newest = 0;
  let events = [];
  let offsets = {};
  let relaxedAt = 0;
  let sentAt = NaN;
  let held;
  /** Reused from frame to frame. */
  let ahead;
  const drawn = {};
  const info = { number: 0, isReplay: false };

  const now = () => room.serverTick() * room.tickMs;
  const isOffline = () => /dropped|resuming/.test(room.status) && room.stats.transport === "websocket";

  /** A step may change the value in place or give the next one. */
  const run = (value, input, number, isReplay) => {
    if (value == null) return value;
    info.number = number;
    info.isReplay = isReplay;
    return step(value, input, room.tickMs / 1000, info) ?? value;
  };

  const letRelax = (target) => {
    const at = now();
    relax(offsets, SPRING / smooth, Math.max(0, at - relaxedAt), target);
    relaxedAt = at;
  };
  /** Takes the difference of two predictions into the offsets. Gives the largest. */
  const compare = (before, after, node, inherited) => {
    let largest = 0;
    for (const key in node) if (!(key in after)) delete node[key];
    for (const key in after) {
      const was = before[key];
      const is = after[key];
      const mode = modeOf(key, inherited);
      if (typeof was === "number" && typeof is === "number") {
        const error = mode === "angle" ? turned(was - is) : was - is;
        const size = Math.abs(error);
        if (!(size > 0 && size < Infinity)) continue;
        largest = Math.max(largest, size);
        if (mode === "raw") continue;
        if (!Array.isArray(node[key])) node[key] = [0, 0];
        node[key][0] += error;
      } else if (isTree(was) && isTree(is)) {
        if (!isTree(node[key]) || Array.isArray(node[key])) node[key] = {};
        largest = Math.max(largest, compare(was, is, node[key], mode));
      } else delete node[key];
    }
    return largest;
  };
  /** Moves the numbers of `drawn` a part of the way to `next`. */
  const approach = (drawn, next, part, inherited) => {
    for (const key in drawn) {
      const is = drawn[key];
      const will = next[key];
      const mode = modeOf(key, inherited);
      if (typeof is === "number" && typeof will === "number") {
        if (mode !== "raw") drawn[key] += part * (mode === "angle" ? turned(will - is) : will - is);
      } else if (isTree(is) && isTree(will)) approach(is, will, part, mode);
    }
  };
  /** Predicts anew: the truth, and on top of it what it does not reflect yet. */
  const rebuild = () => {
    const before = own.value;
    let value = copy(truth);
    for (const { number, input } of pending) value = run(value, input, number, true);
    own.value = value;
    letRelax();
    if (before == null || value == null || teleported?.(before, value)) {
      offsets = {};
      return 0;
    }
    const error = compare({ value: before }, { value }, offsets);
    if (!(smooth > 0)) offsets = {};
    return error;
  };

  const end = (event, how) => {
    if (!events.includes(event)) return;
    events = events.filter((other) => other !== event);
    event[how]?.();
  };
  const judge = (state, details) => {
    for (const event of events) {
      if (isNewer(event.number, details.consumed)) continue;
      event.consumedAt ??= details.tick;
      if (event.confirm?.(state, details)) end(event, "settled");
      else if (details.tick - event.consumedAt >= event.within) end(event, "undo");
    }
  };
  const undoAll = () => {
    for (const event of events) end(event, "undo");
  };

  const own = {
    value: undefined,

    stats: {
      corrections: 0,
      lastError: 0,
      maxError: 0,
      get pending() {
        return pending.length;
      },
    },

    send(sent) {
      const number = room.send(sent);
      if (number === 0) return 0;
      const input = copy(sent);
      const entry = { number, input, isOffline: isOffline() };
      const offline = entry.isOffline ? pending.filter((other) => other.isOffline) : [];
      if (offline.length >= INPUT_WINDOW) {
        pending.splice(pending.indexOf(offline[0]), 1);
        rebuild();
      } else if (pending.length >= PENDING_LIMIT) pending.shift();
      pending.push(entry);
      newest = number;
      own.value = run(own.value, input, number, false);
      return number;
    },

    advance(input) {
      const at = room.serverTick();
      const passed = Math.floor(at) - sentAt;
      if (passed === 0) {
        if (typeof input !== "function") held = copy(input, held);
        return 0;
      }
      sentAt = Math.floor(at);
      const due = passed > 0 && passed <= CATCH_UP_TICKS ? passed : 1;
      for (let n = 0; n < due; n++) {
        const sampled = typeof input === "function" ? input() : input;
        own.send(sampled);
        held = copy(sampled, held);
      }
      return due;
    },

    shown() {
      const { value } = own;
      drawn.value = copy(value, drawn.value);
      const part = Math.min(1, room.serverTick() - sentAt);
      if (part > 0 && value != null) {
        const next = { value: run((ahead = copy(value, ahead)), held, 0, true) };
        if (!teleported?.(value, next.value)) approach(drawn, next, part);
      }
      letRelax(drawn);
      return drawn.value;
    },

    optimistic({ number = newest, within = 0, apply, confirm, settled, undo }) {
      const event = { number, within, confirm, settled, undo };
      events.push(event);
      apply?.();
      return { settle: () => end(event, "settled"), undo: () => end(event, "undo") };
    },

    stop() {
      for (const off of offs) off();
      undoAll();
    },
  };

  const offs = [
    room.on("state", (state, details) => {
      truth = from(state, details);
      pending = pending.filter(({ number }) => isNewer(number, details.consumed));
      const error = rebuild();
      const { stats } = own;
      stats.lastError = error;
      stats.maxError = Math.max(stats.maxError, error);
      if (error > 0) stats.corrections++;
      judge(state, details);
    }),
    room.on("rejoin", () => {
      pending = [];
      truth = own.value = held = undefined;
      sentAt = NaN;
      newest = 0;
      offsets = {};
      undoAll();
    }),
    room.on("close", undoAll),
  ];
  // The dev page graphs it.
  globalThis[Symbol.for("rtcade.dev")]?.("predict", own);
  return own;
}
