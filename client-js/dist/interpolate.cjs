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

// src/interpolate.js
var interpolate_exports = {};
__export(interpolate_exports, {
  interpolate: () => interpolate
});
module.exports = __toCommonJS(interpolate_exports);
var MODES = ["lerp", "extrapolate", "damped", "reckon", "raw"];
var SAMPLES = 128;
var COVERED = 0.98;
var PAUSE = 1e3;
var CATCH_UP = 500;
var BURST = 0.25;
var SLEW = 0.25;
var ADAPTED = 1e3;
var STATES = 64;
var AHEAD = 500;
var SETTLED = 3;
var turned = (angle) => angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));
var clamp = (value, limit) => Math.max(-limit, Math.min(limit, value));
var copy = (entity) => Array.isArray(entity) ? entity.slice() : { ...entity };
var difference = (rule, from, to) => rule.angle ? turned(to - from) : to - from;
function compile(fields) {
  if (typeof fields !== "object" || fields === null) throw new TypeError("interpolate needs `fields`, a mode for each field that moves");
  return Object.entries(fields).map(([name, given]) => {
    const { mode = "lerp", ...rule } = typeof given === "string" ? { mode: given } : given;
    if (mode === "angle") return { name, mode: "lerp", angle: true };
    if (!MODES.includes(mode)) throw new TypeError(`\`${name}\` has the unknown mode \`${mode}\`: use angle, ${MODES.join(", ")}`);
    return { ...rule, name, mode };
  });
}
function interpolate(room, options) {
  var _a, _b;
  const { from, key = (_, index) => index, fields, step, teleported, smooth = 100 } = options != null ? options : {};
  if (typeof from !== "function") throw new TypeError("interpolate needs `from`, a function that gives the entities of a state");
  const rules = compile(fields);
  const late = rules.filter(({ mode }) => mode === "lerp");
  const raw = rules.filter(({ mode }) => mode === "raw");
  const eased = rules.filter((rule) => !late.includes(rule) && !raw.includes(rule));
  const isReckoned = rules.some(({ mode }) => mode === "reckon");
  if (isReckoned && typeof step !== "function") throw new TypeError("the mode `reckon` needs `step`, the function that moves an entity");
  const isLive = rules.length > 0 && late.length === 0;
  let states;
  let newest;
  let samples;
  let target;
  let delay;
  let arrivedAt;
  let clock;
  let shownTick;
  const drawn = /* @__PURE__ */ new Map();
  const tracks = /* @__PURE__ */ new Map();
  const reset = () => {
    states = [];
    samples = [];
    newest = delay = void 0;
    arrivedAt = clock = shownTick = NaN;
    drawn.clear();
    tracks.clear();
  };
  reset();
  const keyed = (entities) => {
    if (entities instanceof Map) return entities;
    const map = /* @__PURE__ */ new Map();
    if (Array.isArray(entities)) entities.forEach((entity, index) => entity != null && map.set(key(entity, index), entity));
    else for (const name in entities) if (entities[name] != null) map.set(name, entities[name]);
    return map;
  };
  const take = (state, info) => {
    const { tick } = info;
    const at = room.serverTick();
    const waited = Math.max(0, at - (newest ? newest.tick : tick - 1));
    const isBurst = at - arrivedAt < BURST;
    arrivedAt = at;
    newest = { tick, entities: keyed(from(state, info)) };
    states.push(newest);
    if (states.length > STATES) states.shift();
    if ((isBurst || waited * room.tickMs > PAUSE) && samples.length > 0) return;
    samples.push(Math.min(waited, PAUSE / room.tickMs));
    if (samples.length > SAMPLES) samples.shift();
    const sorted = Float64Array.from(samples).sort();
    target = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * COVERED))];
    delay != null ? delay : delay = target;
  };
  let now;
  let decay;
  let base;
  let next;
  let part;
  const reckon = (track, entity, tick) => {
    var _a2, _b2;
    let moved = Object.assign((_a2 = track.scratch) != null ? _a2 : track.scratch = copy(entity), entity);
    let left = Math.min(now - tick, AHEAD / room.tickMs);
    for (; left > 0; left--) moved = (_b2 = step(moved, Math.min(1, left) * room.tickMs / 1e3)) != null ? _b2 : moved;
    track.reckoned = moved;
  };
  const forecast = (rule, { live, tick, former, formerTick, reckoned }) => {
    const { name, mode, velocity } = rule;
    if (mode === "reckon") return reckoned[name];
    if (mode !== "extrapolate") return live[name];
    const ahead = Math.min(now - tick, AHEAD / room.tickMs);
    if (velocity !== void 0) return live[name] + live[velocity] * ahead * room.tickMs / 1e3;
    return former ? live[name] + difference(rule, former[name], live[name]) / (tick - formerTick) * ahead : live[name];
  };
  const renew = (track, live) => {
    const { live: former, tick: formerTick } = track;
    const isContinued = former !== void 0 && !(teleported == null ? void 0 : teleported(former, live));
    const before = isContinued && eased.map((rule) => forecast(rule, track));
    Object.assign(track, { live, tick: newest.tick, former: isContinued ? former : void 0, formerTick });
    if (isReckoned) reckon(track, live, newest.tick);
    track.offsets = eased.map((rule, n) => before ? track.offsets[n] + difference(rule, forecast(rule, track), before[n]) : 0);
  };
  const draw = (entity, id) => {
    var _a2, _b2;
    let track = tracks.get(id);
    if (!track) tracks.set(id, track = { isHeld: true });
    if (track.entity !== entity) {
      track.entity = entity;
      drawn.set(id, copy(entity));
    }
    const to = next == null ? void 0 : next.entities.get(id);
    if (track.to !== to) {
      track.to = to;
      track.isHeld = to === void 0 || Boolean(teleported == null ? void 0 : teleported(entity, to));
    }
    if (isReckoned && track.live) reckon(track, track.live, track.tick);
    const live = (_b2 = (_a2 = newest.entities.get(id)) != null ? _a2 : track.live) != null ? _b2 : entity;
    if (live !== track.live) renew(track, live);
    const shown = drawn.get(id);
    for (const rule of late) {
      const { name } = rule;
      shown[name] = track.isHeld ? entity[name] : entity[name] + difference(rule, entity[name], to[name]) * part;
    }
    for (const { name } of raw) shown[name] = live[name];
    for (let n = 0; n < eased.length; n++) {
      track.offsets[n] *= decay;
      shown[eased[n].name] = forecast(eased[n], track) + track.offsets[n];
    }
  };
  const others = {
    get tick() {
      return isLive ? clock : shownTick;
    },
    get delay() {
      return (clock - others.tick) * room.tickMs;
    },
    at() {
      if (!newest) return drawn;
      now = room.serverTick();
      const ms = (now - clock) * room.tickMs || 0;
      clock = now;
      decay = smooth > 0 ? Math.exp(-SETTLED * ms / smooth) : 0;
      delay += clamp((target - delay) * Math.min(1, ms / ADAPTED), SLEW * ms / room.tickMs);
      delay = Math.max(delay, now - newest.tick);
      if ((delay - target) * room.tickMs > CATCH_UP) delay = Math.max(target, now - newest.tick);
      shownTick = now - delay;
      while (states.length > 1 && states[1].tick <= shownTick) states.shift();
      [base, next] = states;
      if (isLive) base = newest;
      else if (base.tick > shownTick) return drawn;
      part = next ? (shownTick - base.tick) / (next.tick - base.tick) : 0;
      for (const id of drawn.keys()) {
        if (base.entities.has(id)) continue;
        drawn.delete(id);
        tracks.delete(id);
      }
      base.entities.forEach(draw);
      return drawn;
    },
    stop() {
      for (const off of offs) off();
      if (room.renderTick === renderTick) room.renderTick = null;
    }
  };
  const renderTick = () => others.tick;
  (_a = room.renderTick) != null ? _a : room.renderTick = renderTick;
  const offs = [room.on("state", take), room.on("rejoin", reset)];
  (_b = globalThis[/* @__PURE__ */ Symbol.for("rtcade.dev")]) == null ? void 0 : _b.call(globalThis, "interpolate", others);
  return others;
}
//# sourceMappingURL=interpolate.cjs.map
