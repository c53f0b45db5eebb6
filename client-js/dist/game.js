/*! rtcade: MIT OR Apache-2.0 */
var __typeError = (msg) => {
  throw TypeError(msg);
};
var __accessCheck = (obj, member, msg) => member.has(obj) || __typeError("Cannot " + msg);
var __privateGet = (obj, member, getter) => (__accessCheck(obj, member, "read from private field"), getter ? getter.call(obj) : member.get(obj));
var __privateAdd = (obj, member, value) => member.has(obj) ? __typeError("Cannot add the same private member more than once") : member instanceof WeakSet ? member.add(obj) : member.set(obj, value);
var __privateSet = (obj, member, value, setter) => (__accessCheck(obj, member, "write to private field"), setter ? setter.call(obj, value) : member.set(obj, value), value);

// src/game.js
var between = (one, next, part) => {
  if (typeof one === "number" && typeof next === "number") return one + (next - one) * part;
  if (Array.isArray(one) && Array.isArray(next)) {
    return one.map((value, at) => at < next.length ? between(value, next[at], part) : value);
  }
  if (one && next && typeof one === "object" && typeof next === "object") {
    const both = {};
    for (const key of Object.keys(one)) both[key] = key in next ? between(one[key], next[key], part) : one[key];
    return both;
  }
  return one;
};
var _ticks, _past;
var History = class {
  constructor(ticks, past = []) {
    __privateAdd(this, _ticks);
    __privateAdd(this, _past, []);
    __privateSet(this, _ticks, Math.max(1, ticks));
    __privateSet(this, _past, past);
  }
  record(tick, value) {
    while (__privateGet(this, _past).length > 0 && __privateGet(this, _past).at(-1)[0] >= tick) __privateGet(this, _past).pop();
    if (__privateGet(this, _past).length === __privateGet(this, _ticks)) __privateGet(this, _past).shift();
    __privateGet(this, _past).push([tick, value]);
  }
  at(tick) {
    const past = __privateGet(this, _past);
    if (past.length === 0) return void 0;
    let after = past.findIndex(([at]) => at > tick);
    if (after < 0) after = past.length;
    const [earlier, before] = past[Math.max(0, after - 1)];
    const next = past[after];
    if (!next || next[0] <= earlier) return before;
    return between(before, next[1], Math.min(1, Math.max(0, (tick - earlier) / (next[0] - earlier))));
  }
  /** What `new History(ticks, past)` takes. */
  save() {
    return __privateGet(this, _past);
  }
};
_ticks = new WeakMap();
_past = new WeakMap();
export {
  History
};
//# sourceMappingURL=game.js.map
