// What a game and a page may import as `rtcade/game`.

const between = (one, next, part) => {
  if (typeof one === "number" && typeof next === "number") return one + (next - one) * part;
  if (Array.isArray(one) && Array.isArray(next)) {
    return one.map((value, at) => (at < next.length ? between(value, next[at], part) : value));
  }
  if (one && next && typeof one === "object" && typeof next === "object") {
    const both = {};
    for (const key of Object.keys(one)) both[key] = key in next ? between(one[key], next[key], part) : one[key];
    return both;
  }
  return one;
};

/** The newest past of a value, tick by tick: where everybody was when a player aimed. */
export class History {
  #ticks;
  #past = [];

  constructor(ticks, past = []) {
    this.#ticks = Math.max(1, ticks);
    this.#past = past;
  }

  record(tick, value) {
    while (this.#past.length > 0 && this.#past.at(-1)[0] >= tick) this.#past.pop();
    if (this.#past.length === this.#ticks) this.#past.shift();
    this.#past.push([tick, value]);
  }

  at(tick) {
    const past = this.#past;
    if (past.length === 0) return undefined;
    let after = past.findIndex(([at]) => at > tick);
    if (after < 0) after = past.length;
    const [earlier, before] = past[Math.max(0, after - 1)];
    const next = past[after];
    if (!next || next[0] <= earlier) return before;
    return between(before, next[1], Math.min(1, Math.max(0, (tick - earlier) / (next[0] - earlier))));
  }

  /** What `new History(ticks, past)` takes. */
  save() {
    return this.#past;
  }
}
