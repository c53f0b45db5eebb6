import type { RoomOf, StateInfo } from "./index.js";

/**
 * How a field moves between states.
 *
 * | mode | what is drawn |
 * |---|---|
 * | `lerp` | the straight line between the two states around the tick that is shown: late by `delay`, and true |
 * | `angle` | the same for an angle in radians, the short way around |
 * | `extrapolate` | the present, continued from the newest two states, or from `velocity` |
 * | `damped` | the newest state, which the value approaches |
 * | `reckon` | the present, computed with `step` from the newest state |
 * | `raw` | the newest state |
 */
export type Mode = "lerp" | "angle" | "extrapolate" | "damped" | "reckon" | "raw";

export interface FieldRule<Name extends PropertyKey = string> {
  readonly mode?: Exclude<Mode, "angle">;
  /** The value is an angle in radians. */
  readonly angle?: boolean;
  /** The field that has the velocity, in units per second, for `extrapolate`. */
  readonly velocity?: Name;
}

type NameOf<Entity> = Entity extends readonly unknown[] ? number : Extract<keyof Entity, string>;

export type Fields<Entity> = { readonly [Name in NameOf<Entity>]?: Mode | FieldRule<NameOf<Entity>> };

/** The entities of a state by key, in an array by index. Those that are null or undefined are absent. */
export type Entities = ReadonlyMap<any, unknown> | readonly unknown[] | { readonly [key: string]: unknown };

type KeyOf<Given> = Given extends ReadonlyMap<infer Key, any> ? Key : Given extends readonly unknown[] ? number : string;
type EntityOf<Given> = NonNullable<
  Given extends ReadonlyMap<any, infer Entity> ? Entity : Given extends readonly (infer Entity)[] ? Entity : Given[keyof Given]
>;

export interface InterpolateOptions<State, Given extends Entities, Key, Entity = EntityOf<Given>> {
  /** Gives the entities of a state: flat objects or arrays, whose moving fields are numbers. */
  from: (state: State, info: StateInfo) => Given;
  /** The key of an entity of an array; its index by default. */
  key?: ((entity: Entity, index: number) => Key) | undefined;
  /** A mode for each field that moves. The other fields are those of the tick that is shown. */
  fields: Fields<Entity>;
  /** The rule by which entities move by themselves, for `reckon`: may change `entity`, a copy, or return another; `dt` in s. */
  step?: ((entity: Entity, dt: number) => Entity | void) | undefined;
  /** Whether the change from one state to the next is a jump, such as a respawn, which is not drawn as motion. */
  teleported?: ((before: Entity, after: Entity) => boolean) | undefined;
  /**
   * How long the error of `extrapolate`, `damped` and `reckon` takes until 95 % of it are gone after a state, in ms; 100 by
   * default.
   */
  smooth?: number | undefined;
}

export interface Interpolation<Key, Entity> {
  /**
   * The entities to draw now, by key. Call it in each frame. The map is used again by the next call, the entities until the
   * next state. An entity appears and disappears with the tick that is shown; with the newest state if no field is late
   * (`lerp`, `angle`).
   */
  at(): ReadonlyMap<Key, Entity>;
  /**
   * The tick that the last call of `at` has shown, with its fraction; `NaN` before the first state. It never runs
   * backwards except after a `rejoin`, and at most a quarter faster or slower than the room's time. If states are missing
   * it stops at the newest, and makes up for it afterwards; for more than half a second, at once. If no field is late, it
   * is the room's time.
   */
  readonly tick: number;
  /**
   * How late that was behind the room's time, in ms: as much as 98 % of the newest 128 states needed. It grows with
   * the first states that are late, and shrinks within seconds.
   */
  readonly delay: number;
  /** Stops following the room. */
  stop(): void;
}

/**
 * Draws entities that the server moves between its states. Sets `room.renderTick`, unless it is set, so that inputs carry
 * the tick that the player saw.
 * @throws {TypeError} without `from` or `fields`, for an unknown mode, and for `reckon` without `step`.
 */
export function interpolate<State, Given extends Entities, Key = KeyOf<Given>>(
  room: RoomOf<any, any, State, any, any>,
  options: InterpolateOptions<NoInfer<State>, Given, Key>,
): Interpolation<Key, EntityOf<Given>>;
