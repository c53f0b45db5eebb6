/**
 * Tests of a game in JavaScript, as `rtcade test` runs them: in the engine of the server's rooms, over simulated networks
 * under virtual time. No page can import this module.
 */

/**
 * Adds a test. It is run with each seed, twice, and what the players have received is compared.
 *
 * @param body must not be async. Where it throws, the test fails.
 */
export function test(name: string, body: (run: { readonly seed: number }) => void): void;

/** Throws unless `value` is truthy. */
export function assert(value: unknown, message?: string): asserts value;
export namespace assert {
  /** Throws unless both are the same, as `Object.is` has it. */
  function equal(actual: unknown, expected: unknown, message?: string): void;
  /** Throws unless both are the same, or objects with the same content. */
  function deepEqual(actual: unknown, expected: unknown, message?: string): void;
  /** Throws unless two numbers are at most `within` apart. */
  function near(actual: number, expected: number, within: number, message?: string): void;
  /** Throws unless `body` throws an error whose text contains `part`. */
  function throws(body: () => void, part?: string, message?: string): void;
}

/** A network, the same in both directions. */
export interface Network {
  /** The share of packets that are lost, from 0 to 1; 0 by default. */
  loss?: number;
  /** Milliseconds that each packet takes; 25 by default. */
  delay?: number;
  /** Milliseconds by which packets are delayed at random on top of that; 0 by default. */
  jitter?: number;
}

export interface SimulateOptions extends Network {
  /** By default that of the run. */
  seed?: number;
  /** Players who join at once, and are there when `simulate` returns; 0 by default. */
  players?: number;
  /** The name of the room; "test" by default. */
  room?: string;
  /** The `data` of their joins. */
  data?: unknown;
  /** Players that a room takes, up to 1024; 16 by default. */
  maxPlayers?: number;
}

/** A player, with what a page would have. */
export interface Player {
  /** The player's number in the game; undefined before the join. */
  readonly id: number | undefined;
  /** What `join` has returned. */
  readonly welcome: any;
  /** Whether the data channel is open. */
  readonly isOpen: boolean;
  /** Why the join was refused or the player was removed: a sentence. */
  readonly over: string | undefined;
  /** The newest state. */
  readonly state: any;
  /** All states that have arrived, the oldest first. */
  readonly states: readonly { tick: number; state: any }[];
  /** All events that have arrived, the oldest first. */
  readonly events: readonly { tick: number; event: any }[];
  /** The number of the newest input that the newest state reflects. */
  readonly consumed: number | undefined;
  /** Sends an input. Returns its number. */
  send(input: unknown): number;
  command(command: unknown): void;
  leave(): void;
  /** Breaks the websocket, as a lost network does. The player reconnects without help. */
  disconnect(): void;
  setNetwork(network: Network): void;
}

/** A server with the game, and its players. */
export interface Simulation {
  /** Seconds since the start. */
  readonly now: number;
  /** What the game of the room saves at this moment: a copy. */
  readonly game: any;
  /** All who have joined so far. */
  readonly players: Player[];
  /** A player who joins, which takes some time. */
  join(name?: string, data?: unknown): Player;
  /** Advances the time. Throws if the game fails meanwhile. */
  run(seconds: number): void;
  /** Advances the time, and calls `each` at once and then every `ms` milliseconds. */
  every(ms: number, seconds: number, each: (sim: Simulation) => void): void;
  /** Advances the time until `condition` is true. Throws after `seconds`, by default 10. */
  until(condition: (sim: Simulation) => boolean, seconds?: number): void;
}

/** @param game the module that this file tests: `import * as game from "./game.js"` */
export function simulate(game: object, options?: SimulateOptions): Simulation;
