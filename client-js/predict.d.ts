import type { RoomOf, StateInfo } from "./index.js";

/** Which step of the game is computed. */
export interface StepInfo {
  /** The number of the input; 0 if the step is computed for drawing only. */
  readonly number: number;
  /**
   * False once for each input, when it is sent. True if the step is computed again on top of a state, and for drawing:
   * play no sounds and start no effects then.
   */
  readonly isReplay: boolean;
}

/**
 * How the numbers of a field are blended: `lerp` in a straight line, `angle` (radians) the short way around. `raw`
 * values are taken over at once. The other modes are those of `rtcade/interpolate`, and are blended as `lerp` here, so
 * that one object can serve both.
 */
export type Blending =
  | "lerp"
  | "angle"
  | "raw"
  | "extrapolate"
  | "damped"
  | "reckon"
  | { readonly mode?: string; readonly angle?: boolean; readonly velocity?: string };

export interface PredictOptions<Input, State, Value> {
  /**
   * Gives what is predicted: the own entity as a state has it, or several entities that interact, as an object or an
   * array of them. `undefined` or `null` while there is none. Plain data: what a state consists of.
   */
  from: (state: State, info: StateInfo) => Value | null | undefined;
  /**
   * The rule of the game: what one input does, as the server computes it in a tick. It may change `value`, which is a
   * copy, and return nothing, or return the next value. It must depend on nothing but its arguments.
   *
   * @param dt the length of a tick in seconds
   */
  step: (value: Value, input: Input, dt: number, info: StepInfo) => Value | void;
  /**
   * The fields, at any depth, whose numbers are blended in `shown()`. Without an entry a field is treated as the one that
   * contains it. Without `fields`, all numbers are blended.
   */
  fields?: Readonly<Record<string | number, Blending>> | undefined;
  /**
   * How long a correction takes until 95 % of it are drawn, in ms; 100 by default, 0 for at once. In a millisecond at
   * most 1.75 / `smooth` of it are drawn.
   */
  smooth?: number | undefined;
  /** Whether the change from one value to another is a jump, such as a respawn, which is not blended. */
  teleported?: ((before: Value, after: Value) => boolean) | undefined;
}

export interface OptimisticEvent<State> {
  /** The input on which the event depends; the newest one by default, within `step` the one that is computed. */
  number?: number | undefined;
  /** For how many ticks after the first state that reflects the input `confirm` is asked; 0 by default: that state alone. */
  within?: number | undefined;
  /** Shows the event. Called at once. */
  apply?: (() => void) | undefined;
  /** Whether the state shows that the event has happened. Asked only of states that reflect the input. */
  confirm?: ((state: State, info: StateInfo) => boolean) | undefined;
  /** The event has happened. */
  settled?: (() => void) | undefined;
  /** The event has not happened: takes back what `apply` has shown. Also called if the session ends before that is known. */
  undo?: (() => void) | undefined;
}

export interface Prediction<Input, State, Value> {
  /**
   * The predicted truth: the newest state, with the inputs applied that it doesn't reflect. For the logic of the game; don't
   * change it. `undefined` or `null` before the first state, and while the entity is absent.
   */
  readonly value: Value | null | undefined;
  readonly stats: {
    /** States that have shown another value than the predicted one. */
    readonly corrections: number;
    /** The largest difference of a number at the newest state; 0 if the prediction was exact. */
    readonly lastError: number;
    /** The largest so far. */
    readonly maxError: number;
    /** Inputs that no state reflects yet. */
    readonly pending: number;
  };
  /**
   * Sends an input as `room.send` does, applies it, and returns its number; 0 in a closed room.
   * @throws {RtcadeError} what `room.send` throws; the input is not applied then.
   */
  send(input: Input): number;
  /**
   * Sends the input once for each tick that has passed since the last call; none or several. Call it in each frame. After
   * more than 8 ticks, as after a hidden page, it sends one. Returns how many it has sent. `shown()` continues the motion
   * from the last tick with the input. A function is called once for each input that is sent: for a key that counts once.
   */
  advance(input: Input | (() => Input)): number;
  /**
   * The value to draw now: `value`, what the input of `advance` adds in the part of a tick that has passed since, and what
   * is not yet drawn of a correction. The object is used again by the next call.
   */
  shown(): Value | null | undefined;
  /** Shows an event before the server confirms it, and takes it back if the server doesn't. */
  optimistic(event: OptimisticEvent<State>): {
    /** Settles the event, for one that is confirmed by other means than a state. */
    settle(): void;
    /** Takes the event back. */
    undo(): void;
  };
  /** Stops following the room, and takes back the events that are not settled. */
  stop(): void;
}

/**
 * Predicts what the own inputs do: `value` has them at once, and each state corrects it. A prediction is exact, bit for
 * bit, where nothing but the own inputs moves the value, `step` computes what the server does, and no input is lost.
 * @throws {TypeError} without `from` or `step`.
 */
export function predict<Input, State, Value>(
  room: RoomOf<Input, any, State, any, any>,
  options: PredictOptions<NoInfer<Input>, NoInfer<State>, Value>,
): Prediction<Input, State, Value>;
