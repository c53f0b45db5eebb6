const MODES = ["lerp", "extrapolate", "damped", "reckon", "raw"];
/** Of the newest states, by how much the room's time was ahead of the state before when each arrived. */
const SAMPLES = 128;
/** The share of them for which the delay suffices. */
const COVERED = 0.98;
/** A longer wait is a pause, not jitter. In ms. */
const PAUSE = 1_000;
/** What the shown time is late on top of the delay is made up for, unless it is more. In ms. */
const CATCH_UP = 500;
/** States that arrive within this part of a tick arrive together. */
const BURST = 0.25;
/** How much slower or faster than the room's time the shown time runs at most, to change the delay. */
const SLEW = 0.25;
/** In which the delay comes near what is needed, in ms. */
const ADAPTED = 1_000;
/** States kept for a page that is not drawn. */
const STATES = 64;
/** How far ahead of the newest state motion is continued, in ms. */
const AHEAD = 500;
/** An exponential has 5 % left after so many of its time constants. */
const SETTLED = 3;

const turned = (angle) => angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));
const clamp = (value, limit) => Math.max(-limit, Math.min(limit, value));
const copy = (entity) => (Array.isArray(entity) ? entity.slice() : { ...entity });
const difference = (rule, from, to) => (rule.angle ? turned(to - from) : to - from);

function compile(fields) {
  if (typeof fields !== "object" || fields === null) throw new TypeError("interpolate needs `fields`, a mode for each field that moves");
  return Object.entries(fields).map(([name, given]) => {
    const { mode = "lerp", ...rule } = typeof given === "string" ? { mode: given } : given;
    if (mode === "angle") return { name, mode: "lerp", angle: true };
    if (!MODES.includes(mode)) throw new TypeError(`\`${name}\` has the unknown mode \`${mode}\`: use angle, ${MODES.join(", ")}`);
    return { ...rule, name, mode };
  });
}

export function interpolate(room, options) {
  const { from, key = (_, index) => index, fields, step, teleported, smooth = 100 } = options ?? {};
  if (typeof from !== "function") throw new TypeError("interpolate needs `from`, a function that gives the entities of a state");
  const rules = compile(fields);
  const late = rules.filter(({ mode }) => mode === "lerp");
  const raw = rules.filter(({ mode }) => mode === "raw");
  /** Where the newest state puts them now, and an offset that fades since it arrived. */
  const eased = rules.filter((rule) => !late.includes(rule) && !raw.includes(rule));
  const isReckoned = rules.some(({ mode }) => mode === "reckon");
  if (isReckoned && typeof step !== "function") throw new TypeError("the mode `reckon` needs `step`, the function that moves an entity");
  /** Entities without a field that is shown late come and go with the newest state. */
  const isLive = rules.length > 0 && late.length === 0;

  let states;
  let newest;
  let samples;
  let target;
  let delay;
  let arrivedAt;
  let clock;
  let shownTick;
  /** What is drawn, and how it came about, by key. */
  const drawn = new Map();
  const tracks = new Map();
  const reset = () => {
    states = [];
    samples = [];
    newest = delay = undefined;
    arrivedAt = clock = shownTick = NaN;
    drawn.clear();
    tracks.clear();
  };
  reset();

  const keyed = (entities) => {
    if (entities instanceof Map) return entities;
    const map = new Map();
    if (Array.isArray(entities)) entities.forEach((entity, index) => entity != null && map.set(key(entity, index), entity));
    else for (const name in entities) if (entities[name] != null) map.set(name, entities[name]);
    return map;
  };
  const take = (state, info) => {
    const { tick } = info;
    const at = room.serverTick();
    const waited = Math.max(0, at - (newest ? newest.tick : tick - 1));
    // A burst is one wait, for the first of it.
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
    delay ??= target;
  };

  // What a frame has in common for all of its entities.
  let now;
  let decay;
  let base;
  let next;
  let part;

  const reckon = (track, entity, tick) => {
    let moved = Object.assign((track.scratch ??= copy(entity)), entity);
    let left = Math.min(now - tick, AHEAD / room.tickMs);
    for (; left > 0; left--) moved = step(moved, (Math.min(1, left) * room.tickMs) / 1000) ?? moved;
    track.reckoned = moved;
  };
  /** Where a field of the track's newest entity is now. */
  const forecast = (rule, { live, tick, former, formerTick, reckoned }) => {
    const { name, mode, velocity } = rule;
    if (mode === "reckon") return reckoned[name];
    if (mode !== "extrapolate") return live[name];
    const ahead = Math.min(now - tick, AHEAD / room.tickMs);
    if (velocity !== undefined) return live[name] + (live[velocity] * ahead * room.tickMs) / 1000;
    return former ? live[name] + (difference(rule, former[name], live[name]) / (tick - formerTick)) * ahead : live[name];
  };
  /** Takes the entity of the newest state; what is drawn does not jump by it. */
  const renew = (track, live) => {
    const { live: former, tick: formerTick } = track;
    const isContinued = former !== undefined && !teleported?.(former, live);
    const before = isContinued && eased.map((rule) => forecast(rule, track));
    Object.assign(track, { live, tick: newest.tick, former: isContinued ? former : undefined, formerTick });
    if (isReckoned) reckon(track, live, newest.tick);
    track.offsets = eased.map((rule, n) => (before ? track.offsets[n] + difference(rule, forecast(rule, track), before[n]) : 0));
  };
  const draw = (entity, id) => {
    let track = tracks.get(id);
    if (!track) tracks.set(id, (track = { isHeld: true }));
    if (track.entity !== entity) {
      track.entity = entity;
      drawn.set(id, copy(entity));
    }
    const to = next?.entities.get(id);
    if (track.to !== to) {
      track.to = to;
      track.isHeld = to === undefined || Boolean(teleported?.(entity, to));
    }
    if (isReckoned && track.live) reckon(track, track.live, track.tick);
    const live = newest.entities.get(id) ?? track.live ?? entity;
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
      decay = smooth > 0 ? Math.exp((-SETTLED * ms) / smooth) : 0;
      delay += clamp((target - delay) * Math.min(1, ms / ADAPTED), (SLEW * ms) / room.tickMs);
      // Where the states stop, so does the time that is shown; it goes on from there.
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
    },
  };

  const renderTick = () => others.tick;
  room.renderTick ??= renderTick;
  const offs = [room.on("state", take), room.on("rejoin", reset)];
  // The dev page graphs it.
  globalThis[Symbol.for("rtcade.dev")]?.("interpolate", others);
  return others;
}
