/*! rtcade: MIT OR Apache-2.0 */

// src/predict.js
var INPUT_WINDOW = 8;
var PENDING_LIMIT = 256;
var CATCH_UP_TICKS = 8;
var SPRING = 4.74;
var isNewer = (number, than) => (number - than | 0) > 0;
var isTree = (value) => typeof value === "object" && value !== null && !ArrayBuffer.isView(value);
var turned = (angle) => angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));
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
function relax(offsets, frequency, elapsed, drawn) {
  const decay = Math.exp(-frequency * elapsed);
  for (const key in offsets) {
    const inner = offsets[key];
    if (!Array.isArray(inner)) relax(inner, frequency, elapsed, drawn == null ? void 0 : drawn[key]);
    else {
      const pull = inner[1] + frequency * inner[0];
      inner[0] = (inner[0] + pull * elapsed) * decay;
      inner[1] = (inner[1] - frequency * pull * elapsed) * decay;
      if (typeof (drawn == null ? void 0 : drawn[key]) === "number") drawn[key] += inner[0];
    }
  }
}
function compile(fields) {
  if (!fields) return (_, inherited = "lerp") => inherited;
  const modes = new Map(Object.entries(fields).map(([name, rule]) => {
    var _a;
    return [name, rule.angle ? "angle" : (_a = rule.mode) != null ? _a : rule];
  }));
  return (name, inherited = "raw") => {
    var _a;
    return (_a = modes.get(name)) != null ? _a : inherited;
  };
}
function predict(room, options) {
  var _a;
  const { from, step, fields, smooth = 100, teleported } = options != null ? options : {};
  if (typeof from !== "function") throw new TypeError("predict needs `from`, a function that gives the own entity of a state");
  if (typeof step !== "function") throw new TypeError("predict needs `step`, the function that applies an input to the entity");
  let pending = [];
  const modeOf = compile(fields);
  let truth;
  let newest = 0;
  let events = [];
  let offsets = {};
  let relaxedAt = 0;
  let sentAt = NaN;
  let held;
  let ahead;
  const drawn = {};
  const info = { number: 0, isReplay: false };
  const now = () => room.serverTick() * room.tickMs;
  const isOffline = () => /dropped|resuming/.test(room.status) && room.stats.transport === "websocket";
  const run = (value, input, number, isReplay) => {
    var _a2;
    if (value == null) return value;
    info.number = number;
    info.isReplay = isReplay;
    return (_a2 = step(value, input, room.tickMs / 1e3, info)) != null ? _a2 : value;
  };
  const letRelax = (target) => {
    const at = now();
    relax(offsets, SPRING / smooth, Math.max(0, at - relaxedAt), target);
    relaxedAt = at;
  };
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
  const approach = (drawn2, next, part, inherited) => {
    for (const key in drawn2) {
      const is = drawn2[key];
      const will = next[key];
      const mode = modeOf(key, inherited);
      if (typeof is === "number" && typeof will === "number") {
        if (mode !== "raw") drawn2[key] += part * (mode === "angle" ? turned(will - is) : will - is);
      } else if (isTree(is) && isTree(will)) approach(is, will, part, mode);
    }
  };
  const rebuild = () => {
    const before = own.value;
    let value = copy(truth);
    for (const { number, input } of pending) value = run(value, input, number, true);
    own.value = value;
    letRelax();
    if (before == null || value == null || (teleported == null ? void 0 : teleported(before, value))) {
      offsets = {};
      return 0;
    }
    const error = compare({ value: before }, { value }, offsets);
    if (!(smooth > 0)) offsets = {};
    return error;
  };
  const end = (event, how) => {
    var _a2;
    if (!events.includes(event)) return;
    events = events.filter((other) => other !== event);
    (_a2 = event[how]) == null ? void 0 : _a2.call(event);
  };
  const judge = (state, details) => {
    var _a2, _b;
    for (const event of events) {
      if (isNewer(event.number, details.consumed)) continue;
      (_a2 = event.consumedAt) != null ? _a2 : event.consumedAt = details.tick;
      if ((_b = event.confirm) == null ? void 0 : _b.call(event, state, details)) end(event, "settled");
      else if (details.tick - event.consumedAt >= event.within) end(event, "undo");
    }
  };
  const undoAll = () => {
    for (const event of events) end(event, "undo");
  };
  const own = {
    value: void 0,
    stats: {
      corrections: 0,
      lastError: 0,
      maxError: 0,
      get pending() {
        return pending.length;
      }
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
        const next = { value: run(ahead = copy(value, ahead), held, 0, true) };
        if (!(teleported == null ? void 0 : teleported(value, next.value))) approach(drawn, next, part);
      }
      letRelax(drawn);
      return drawn.value;
    },
    optimistic({ number = newest, within = 0, apply, confirm, settled, undo }) {
      const event = { number, within, confirm, settled, undo };
      events.push(event);
      apply == null ? void 0 : apply();
      return { settle: () => end(event, "settled"), undo: () => end(event, "undo") };
    },
    stop() {
      for (const off of offs) off();
      undoAll();
    }
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
      truth = own.value = held = void 0;
      sentAt = NaN;
      newest = 0;
      offsets = {};
      undoAll();
    }),
    room.on("close", undoAll)
  ];
  (_a = globalThis[/* @__PURE__ */ Symbol.for("rtcade.dev")]) == null ? void 0 : _a.call(globalThis, "predict", own);
  return own;
}
export {
  predict
};
//# sourceMappingURL=predict.js.map
