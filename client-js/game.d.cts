/**
 * Games in JavaScript: what the module that `rtcade --game game.js` runs exports, and what its callbacks get. At run time
 * this module has `History` alone.
 *
 * ```js
 * /** @import { Context, Message, Tick } from "rtcade/game" *\/
 * ```
 */

/** The parameters of a room, frozen. */
export interface Room {
  /** The room's name, as in its URL. */
  readonly name: string;
  /** The seed of its random numbers, an integer below 2⁵³. */
  readonly seed: number;
  /** The length of a tick in ms. */
  readonly tickMs: number;
  /** The `data` of the room: what the page of its first player passed to `connect`, or what created the room. */
  readonly data: any;
}

/** The quality of a player's connection. All 0 until it is measured. */
export interface Link {
  /** The smoothed round trip, in ms. */
  readonly rttMs: number;
  /** Its smoothed variation, in ms. */
  readonly jitterMs: number;
  /** The share of datagrams to the player that were lost lately, 0 to 1; 0 over the websocket. */
  readonly lossDown: number;
  /** The share of datagrams from the player that were lost lately, 0 to 1. */
  readonly lossUp: number;
}

export interface Player {
  /** The player's number. Numbers count up from 1 in each room and are not reused. */
  readonly id: number;
  /** The display name: printable, 1 to 32 characters, not unique. */
  readonly name: string;
  /** `false` between `drop` and `resume`. */
  readonly connected: boolean;
  readonly link: Link;
}

/** Who gets an event: everybody, one player by number, or everybody but one. */
export type Target = "all" | number | { readonly except: number };

/** What a callback may do. It takes effect when the callback has returned, in this order. */
export interface Context<State = any, Event = any> {
  /** The number of the tick. */
  readonly tick: number;
  /** The length of a tick in ms. */
  readonly tickMs: number;
  /** All players of the room, by number. */
  readonly players: readonly Player[];
  /** A player by number; `undefined` if there is none. */
  player(id: number): Player | undefined;
  /** The quality of a player's connection; all 0 for one who is not in the room. */
  link(id: number): Link;
  /** The number of a player's newest input that the game has got, those of this tick included; 0 before the first. */
  consumed(player: number): number;
  /** A number from 0 to below 1, of the room's seed. `Math.random` is the same generator. */
  random(): number;
  /**
   * A whole number from `low` to `high`, both included, of the same generator.
   * @throws {RangeError} They are no integers of 32 bits, or `low` exceeds `high`.
   */
  randomInt(low: number, high: number): number;
  /**
   * Sends all players the state of this tick, unreliably: only the newest counts, and what has changed is sent. At most
   * 16 KiB as msgpack, of which 4 KiB are sent.
   * @throws {TypeError} The value is too large or no plain data; the sentence names the place in it.
   */
  state(value: State): void;
  /** Sends one player a state of their own, as `state` does. */
  stateTo(player: number, value: State): void;
  /** Sends each player the state that the function returns for their number. It is called at once. */
  stateForEach(state: (player: number) => State): void;
  /**
   * Sends an event: unreliably, of at most 4 KiB as msgpack, or with `reliable` once and in order, of nearly 1 MiB.
   * @throws {TypeError} The value is too large or no plain data.
   */
  event(target: Target, value: Event, options?: { readonly reliable?: boolean }): void;
  /** Removes a player after this tick, who reads the sentence. */
  kick(player: number, sentence?: string): void;
  /** Closes the room after this tick. Its players read the sentence; the next one who joins begins a new room. */
  close(sentence?: string): void;
  /** Gives a player another display name, of which 32 printable characters are kept, and tells all pages. */
  rename(player: number, name: string): void;
  /** Whether new players are refused. */
  setLocked(locked: boolean): void;
  /** Whether the server lists the room at `/rooms`. */
  setListed(listed: boolean): void;
  /** The title in that list, of which 64 characters are kept; `null` for none. */
  setTitle(title: string | null): void;
  /**
   * Sends all players the inputs of this tick, for games that the pages compute themselves. Call it in each tick: pages
   * get every tick once and in order.
   */
  fanOutInputs(): void;
  /** In `join`: refuses the player, who reads the sentence. It ends the callback by an exception. */
  refuse(sentence: string): never;
  /** Writes a line into the server's log, of at most 1,000 characters. `console.log` does the same. */
  log(...values: unknown[]): void;
  /** Returns an empty history of so many ticks. */
  history<Value>(ticks: number): History<Value>;
}

/** An input of a player: what the page passed to `room.send`. Any page can send anything: check it. */
export interface InputMessage<Input = any> {
  readonly player: number;
  readonly input: Input;
  /** The number that `room.send` returned: they count up by one. Inputs come in this order, and at most once. */
  readonly number: number;
  /** The tick, with its fraction, that the page showed of the others, within the last second. */
  readonly seen: number;
  readonly command?: undefined;
}

/** A command of a player: what the page passed to `room.command`. Any page can send anything: check it. */
export interface CommandMessage<Command = any> {
  readonly player: number;
  readonly command: Command;
  readonly input?: undefined;
  readonly number?: undefined;
  readonly seen?: undefined;
}

/** What a player has sent. Where `input` is `undefined`, it is a command. */
export type Message<Input = any, Command = any> = InputMessage<Input> | CommandMessage<Command>;

export interface Tick {
  /** The number of the tick: they count up from 1. */
  readonly number: number;
  /** The ticks before it that were left out because the server was late; 0 as a rule. */
  readonly missed: number;
}

/** What a player joins with. */
export interface Join {
  /** The display name: printable, 1 to 32 characters, not unique. */
  readonly name: string;
  /** The `data` that the page passed to `connect`; `null` without any. Check it. */
  readonly data: any;
  /** What the server's hook has attached to the player; `null` by default. */
  readonly attached: any;
  /** Who the player is, by their token; `null` if the server requires none. */
  readonly identity: {
    /** The `sub` of the token. */
    readonly subject: string;
    /** Its other claims. */
    readonly claims: any;
  } | null;
}

/** Why a player has left. */
export type LeaveReason =
  | "left"
  | "closed"
  | "timeout"
  | "kicked"
  | "flood"
  | "bad_frame"
  | "replaced"
  | "room_closed"
  | "shutdown"
  | "moved";

/**
 * What a game exports: `tick`, and whichever of the others it needs. `World` is what `create` returns: the whole game of
 * one room. If it is plain data (objects, arrays, strings, numbers, booleans, null, `Uint8Array`), the room goes on in it
 * with changed code and after a restart; otherwise export `save` and `load`.
 */
export interface Game<World = any, State = any, Event = any> {
  /** The length of a tick in ms, 5 to 1,000; 33 by default. `--tick-ms` overrides it. */
  readonly tickMs?: number;
  /** Makes the game of a new room. */
  create?(room: Room): World;
  /** Admits a player. What it returns is the page's `room.welcome`, sent as JSON of at most 1 MiB. */
  join?(game: World, ctx: Context<State, Event>, player: number, join: Join): unknown;
  /** A player has left, and is no longer in `ctx.players`. */
  leave?(game: World, ctx: Context<State, Event>, player: number, reason: LeaveReason): void;
  /** A player's connection is lost. `resume` follows, or `leave` after 10 s, or what `--grace` sets. */
  drop?(game: World, ctx: Context<State, Event>, player: number): void;
  /** A player is back. A page that was `reloaded` knows its welcome alone: send it what events had told it. */
  resume?(game: World, ctx: Context<State, Event>, player: number, resumed: { readonly reloaded: boolean }): void;
  /** One tick of the game. `batch` has what players have sent since the last one, in order of arrival. */
  tick(game: World, ctx: Context<State, Event>, tick: Tick, batch: readonly Message[]): void;
  /** A message from the program that the server is part of, of at most 64 KiB. */
  external?(game: World, ctx: Context<State, Event>, bytes: Uint8Array): void;
  /** The server stops after so many milliseconds; the room goes on until then. */
  drain?(game: World, ctx: Context<State, Event>, ms: number): void;
  /** Returns the game as plain data, of at most 1 MiB as msgpack. By default the game itself. */
  save?(game: World): unknown;
  /** Makes the game again from what `save` of this code or of an earlier one has returned. */
  load?(saved: any, room: Room): World;
  /** A callback has thrown. `true` goes on with the room; otherwise it is closed. `callback` is its name. */
  onError?(game: World, ctx: Context<State, Event>, error: Error, callback: string): boolean | void;
}

/**
 * The newest past of a value, tick by tick: where everybody was when a player aimed. Numbers are interpolated between two
 * ticks, also those in arrays and objects; the rest is that of the earlier tick.
 */
export class History<Value = any> {
  /**
   * @param ticks how many are kept: a second of them for `seen` of an input
   * @param past what `save` has returned
   */
  constructor(ticks: number, past?: [tick: number, value: Value][]);
  /** Adds the value of a tick. It must not be changed afterwards. */
  record(tick: number, value: Value): void;
  /** The value of a tick with its fraction, or the nearest one that is kept; `undefined` if there is none. */
  at(tick: number): Value | undefined;
  /** What the constructor takes: plain data, for `save` of a game. */
  save(): [tick: number, value: Value][];
}
