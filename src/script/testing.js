// The module rtcade/test: a game's tests in the engine of its rooms, over simulated networks under virtual time.

const host = globalThis[Symbol.for("rtcade.test")];
delete globalThis[Symbol.for("rtcade.test")];

/** Adds a test. `body` gets `{ seed }`, which is another one in each run of the test. */
export function test(name, body) {
  if (typeof name !== "string" || typeof body !== "function") throw new TypeError("test takes a name and a function");
  host.add(name, body);
}

const shown = (value) => {
  if (typeof value === "string") return JSON.stringify(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
};

const equal = (one, other) => {
  if (Object.is(one, other)) return true;
  if (!one || !other || typeof one !== "object" || typeof other !== "object") return false;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => key in other && equal(one[key], other[key]));
};

/** Throws unless `value` is true or truthy. */
export function assert(value, message = "the assertion is not true") {
  if (!value) throw new Error(message);
}
const prefix = (message) => (message === undefined ? "" : `${message}: `);
assert.equal = (actual, expected, message) => {
  if (!Object.is(actual, expected)) throw new Error(`${prefix(message)}${shown(actual)} is not ${shown(expected)}`);
};
assert.deepEqual = (actual, expected, message) => {
  if (!equal(actual, expected)) throw new Error(`${prefix(message)}${shown(actual)} is not ${shown(expected)}`);
};
assert.near = (actual, expected, within, message) => {
  if (!(Math.abs(actual - expected) <= within)) {
    throw new Error(`${prefix(message)}${shown(actual)} is not within ${within} of ${shown(expected)}`);
  }
};
assert.throws = (body, part = "", message) => {
  try {
    body();
  } catch (error) {
    if (String(error).includes(part)) return;
    throw new Error(`${prefix(message)}it has thrown ${String(error)}, not ${shown(part)}`);
  }
  throw new Error(`${prefix(message)}nothing was thrown`);
};

/** A player of a simulation, with what a page would have. */
class Player {
  #sim;
  #client;

  constructor(sim, client) {
    this.#sim = sim;
    this.#client = client;
  }

  /** The player's number in the game; undefined before the join. */
  get id() {
    return host.player(this.#sim, this.#client);
  }
  get welcome() {
    return host.welcome(this.#sim, this.#client);
  }
  /** Whether the data channel is open. */
  get isOpen() {
    return host.isOpen(this.#sim, this.#client);
  }
  /** Why the join was refused, or why the player has left: a sentence. */
  get over() {
    return host.over(this.#sim, this.#client);
  }
  /** The newest state. */
  get state() {
    return host.state(this.#sim, this.#client);
  }
  /** All states that have arrived: `{ tick, state }`. */
  get states() {
    return host.states(this.#sim, this.#client).map(([tick, state]) => ({ tick, state }));
  }
  /** All events that have arrived: `{ tick, event }`. */
  get events() {
    return host.events(this.#sim, this.#client).map(([tick, event]) => ({ tick, event }));
  }
  /** The number of the newest input that the newest state reflects. */
  get consumed() {
    return host.consumed(this.#sim, this.#client);
  }
  /** Sends an input. Returns its number. */
  send(input) {
    return host.send(this.#sim, this.#client, input);
  }
  command(command) {
    host.command(this.#sim, this.#client, command);
  }
  leave() {
    host.leave(this.#sim, this.#client);
  }
  /** Breaks the websocket, as a lost network does. The player reconnects by itself. */
  disconnect() {
    host.disconnect(this.#sim, this.#client);
  }
  setNetwork(network) {
    host.network(this.#sim, this.#client, ...parts(network));
  }
}

// Loss in permille, delay and jitter in milliseconds, each way.
const parts = ({ loss = 0, delay = 25, jitter = 0 }) => {
  const isTime = (value) => Number.isFinite(value) && value >= 0 && value <= 60_000;
  if (!(loss >= 0 && loss <= 1)) throw new RangeError("loss is a share, from 0 to 1");
  if (!isTime(delay) || !isTime(jitter)) throw new RangeError("delay and jitter are milliseconds, from 0 to 60000");
  return [Math.round(loss * 1000), delay, jitter];
};

const JOINING_S = 20;

class Simulation {
  #sim;
  #room;
  /** All that have joined so far. */
  players = [];

  constructor(sim, room) {
    this.#sim = sim;
    this.#room = room;
  }

  /** Virtual seconds since the start. */
  get now() {
    return host.now(this.#sim) / 1000;
  }
  /** What the game saves at this moment; a copy. */
  get game() {
    return host.game(this.#sim, this.#room);
  }
  /** A player that joins. It takes some time. */
  join(name = `player ${this.players.length + 1}`, data = null) {
    const player = new Player(this.#sim, host.join(this.#sim, this.#room, String(name), JSON.stringify(data) ?? "null"));
    this.players.push(player);
    return player;
  }
  /** Advances the time. */
  run(seconds) {
    if (!(seconds >= 0)) throw new RangeError("run takes seconds");
    host.run(this.#sim, seconds * 1000);
  }
  /** Advances the time, and calls `each` at once and then every `ms` milliseconds. */
  every(ms, seconds, each) {
    if (!(ms >= 1)) throw new RangeError("every takes milliseconds, from 1");
    for (let left = seconds * 1000; left > 0; left -= ms) {
      each(this);
      host.run(this.#sim, Math.min(ms, left));
    }
  }
  /** Advances the time until `condition` is true, at most by `seconds`. */
  until(condition, seconds = 10) {
    for (let left = seconds * 100; left > 0; left -= 1) {
      if (condition(this)) return;
      host.run(this.#sim, 10);
    }
    throw new Error(`after ${seconds} virtual seconds it is still not so`);
  }
}

/**
 * A server with the game beside this file, and players who have joined. Options: `seed`, `players` (0), `loss` (0 to 1),
 * `delay` (25) and `jitter` (0) in milliseconds each way, `room` ("test"), `data` of the joins, `maxPlayers` (16).
 */
export function simulate(game, options = {}) {
  if (!host.isGame(game)) throw new TypeError(`simulate takes the game that this file tests: import * as game from "./${host.entry}"`);
  const { seed = host.seed(), players = 0, room = "test", data = null, maxPlayers = 16 } = options;
  if (!Number.isSafeInteger(seed) || seed < 0) throw new RangeError("seed is a whole number from 0");
  const sim = new Simulation(host.create(seed, maxPlayers, ...parts(options)), room);
  for (let number = 1; number <= players; number += 1) sim.join(`player ${number}`, data);
  sim.until(() => sim.players.every((player) => player.isOpen || player.over !== undefined), JOINING_S);
  return sim;
}
