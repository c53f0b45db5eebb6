import type { Room } from "./index.js";

/** The inputs of a tick by player, in the order of their numbers. */
export type Inputs<Input> = ReadonlyMap<number, Input>;

export interface RollbackOptions<World, Input> {
  /** Makes the world that the game begins with. It is called by one page of the room; the others get its world. */
  init: () => World;
  /**
   * Computes the world of `tick` from the one before. It gets a copy, which it may change, and returns the next world. It
   * must be deterministic: the same world, inputs and tick must give the same result in all browsers. A player is in
   * `inputs` from their first input until they have left.
   */
  step: (world: World, inputs: Inputs<Input>, tick: number) => World;
  /** Copies a world before `step`; `structuredClone` by default. If `step` changes nothing, pass `(world) => world`. */
  clone?: ((world: World) => World) | undefined;
  /**
   * Turns a world into JSON, if it isn't JSON itself. `NaN`, infinities and `-0` are kept. Encoded, it may have at most
   * 64 KiB.
   */
  save?: ((world: World) => unknown) | undefined;
  /** The inverse of `save`. */
  load?: ((saved: any) => World) | undefined;
  /** Sums up a world, so that different ones are noticed; by default 32 bits (FNV-1a) of the saved world's JSON. */
  hash?: ((world: World) => number | string) | undefined;
  /** How many ticks after `input` it takes effect: 2 by default. At a higher value others see fewer corrections. */
  inputDelay?: number | undefined;
  /**
   * The input of a player for a tick of which nothing has come, from the one of the tick before; by default it stays the
   * same. It must be deterministic, because a tick that is confirmed without an input gets this one too.
   */
  predict?: ((player: number, last: Input) => Input) | undefined;
  /** How many ticks may be shown before their inputs are known: 8 by default. Beyond, the game stalls. */
  maxPrediction?: number | undefined;
  /** After how many ticks the players compare hashes: 30 by default. */
  hashEvery?: number | undefined;
}

/** Another player has computed another world. */
export interface Desync<World> {
  /** The tick of both worlds. The first difference is at most `hashEvery` ticks older. */
  readonly tick: number;
  readonly player: number;
  readonly mine: World;
  /** `null` if it did not arrive within 5 s. */
  readonly theirs: World | null;
  readonly hashes: { readonly mine: number | string; readonly theirs: number | string };
}

export interface RollbackEvents<World> {
  /** The page has the world of `tick`: at the beginning, after `rejoin`, after lost ticks, and after `resync`. */
  sync: (detail: { readonly tick: number }) => void;
  /** Reported once for each player, until one of the two has taken a new world. */
  desync: (detail: Desync<World>) => void;
  /** The limit of prediction is reached: `world` stays at `tick` until newer inputs arrive. */
  stall: (detail: { readonly tick: number; readonly confirmed: number }) => void;
  /** The game goes on after a stall. */
  recover: (detail: { readonly tick: number; readonly confirmed: number }) => void;
}

export interface RollbackStats {
  /** How many ticks the game is shown ahead of the server, so that inputs arrive in time. */
  readonly lead: number;
  /** How many ticks after `input` it takes effect: more than `inputDelay` on a path too long for `maxPrediction`. */
  readonly delay: number;
  /** How often a wrong prediction was corrected, and how many ticks were computed anew at most. */
  readonly rollbacks: number;
  readonly deepest: number;
  /** Inputs of this player that came after their tick, and took effect later than shown. */
  readonly late: number;
  readonly stalls: number;
  /** Messages of other players that could not be read. */
  readonly bad: number;
}

export interface Session<World, Input> {
  /** The world as it is now, with predicted inputs; `undefined` until `sync`. Don't change it. */
  readonly world: World | undefined;
  /** The world one tick before, and how much of a tick has passed since `world`, 0 to 1: to draw between the two. */
  readonly previous: World | undefined;
  readonly fraction: number;
  /** The tick of `world`. */
  readonly tick: number | undefined;
  /** The newest tick whose inputs are final, and its world: all players have the same. */
  readonly confirmed: number | undefined;
  readonly confirmedWorld: World | undefined;
  /** `syncing` until the page has the world. */
  readonly status: "syncing" | "running" | "stalled";
  readonly stats: RollbackStats;
  /** Calls `listener` for each event of the type. Returns a function that removes it. */
  on<Type extends keyof RollbackEvents<World>>(type: Type, listener: RollbackEvents<World>[Type]): () => void;
  /**
   * Sets this player's input from now on, such as the keys that are held, as JSON. It is sent in each tick. A page that
   * never calls it watches. Encoded, an input may have about 500 bytes; those of all players of a tick, 4 KiB.
   */
  input(input: Input): void;
  /**
   * Advances the game to the present, and returns `world`. Call it once per frame. While a page is hidden and has no
   * frames, the session does so itself.
   * @throws what `step`, `predict` or `hash` throws; an `RtcadeError` if the input can't be sent; a `TypeError` if the
   * world can't be JSON.
   */
  update(): World | undefined;
  /** Takes the world of another player, as after a desync. At the player with the lowest number it does nothing. */
  resync(): void;
  /** Ends the session; the room stays. */
  close(): void;
}

/**
 * Runs a game in the pages of all players, in a room whose server fans out the inputs, such as `rtcade --game relay`. Own
 * inputs are shown after `inputDelay` ticks; inputs of others are predicted, and the world is corrected when they prove
 * wrong. Call it right after `connect`, once for a room, and send nothing else with `room.send`.
 * @throws {TypeError} without `init` or `step`.
 */
export function rollback<World, Input = any>(
  room: Room<any>,
  options: RollbackOptions<World, Input>,
): Session<World, Input>;
