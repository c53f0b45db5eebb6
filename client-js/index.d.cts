/**
 * Where a failure occurred: in a stage of connecting (`signaling` to `channel`, in this order), in the game, with media, or
 * in a swarm.
 */
export type Stage = "signaling" | "ice" | "dtls" | "channel" | "game" | "media" | "swarm";

/**
 * `connecting` while the data channel opens and the game already runs over the websocket; `open` once the transport is
 * chosen; `dropped` while the websocket is lost and the client waits for its next attempt; `resuming` during an
 * attempt; `closed` at the end.
 */
export type Status = "connecting" | "open" | "dropped" | "resuming" | "closed";

/** The codes of the server, then those of the client. */
export type ErrorCode =
  | "bad_request"
  | "unknown_action"
  | "bad_room"
  | "room_full"
  | "room_locked"
  | "refused"
  | "unauthorized"
  | "expired"
  | "origin"
  | "rate_limited"
  | "too_large"
  | "bad_sdp"
  | "channel_must_be_unreliable"
  | "no_such_player"
  | "no_such_session"
  | "resume_required"
  | "unavailable"
  | "redirects"
  | "version_mismatch"
  | "draining"
  | "internal"
  /** A stage of connecting took too long: signaling 10 s (5 s to resume), ICE 8 s, DTLS 4 s, the channel 5 s. */
  | "timeout"
  /** The server could not be reached, or the path to it was lost. */
  | "unreachable"
  /** The browser has no websockets or no WebRTC. */
  | "unsupported"
  /** The browser did not prepare a data channel; the client tries again. */
  | "offer"
  /** `options.signal` was aborted. */
  | "aborted"
  /** `url` is not the address of a room. */
  | "bad_address"
  /** The browser blocked the websocket, for example because the page's Content-Security-Policy doesn't name the server. */
  | "blocked"
  /** The page was loaded over https, and `url` names a server over http. */
  | "mixed_content"
  /** `options.bearer` rejected, threw, or returned nothing in time. */
  | "bearer"
  /** The server, or a proxy in front of it, closed the websocket with code 1008. */
  | "policy"
  /** An input, a command or an option of the join contains a value that can't be sent. */
  | "bad_value"
  /** 64 KiB of commands are not acknowledged yet. */
  | "backlog"
  /** Voice: there is no microphone, or it is not allowed. */
  | "microphone"
  /** Voice and swarms: the page was not loaded over https. */
  | "insecure"
  /** Swarms: the file has changed on the server while it was loaded. */
  | "changed"
  /** Missed ticks are too old for the server to send again; `tick` continues after them. */
  | "ticks_lost";

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
  | "shutdown";

/** A failure. `message` is a sentence for the player: what happened and what to do. */
export class RtcadeError extends Error {
  readonly stage: Stage;
  /** An `ErrorCode`, a `LeaveReason` if the server closed the connection, or a code of a newer server. */
  readonly code: ErrorCode | LeaveReason | (string & {});
}

export interface Player {
  /** The player's number. Numbers count up from 1 in each room and are not reused. */
  readonly player: number;
  readonly name: string;
  /** The `sub` of the player's token, if the server requires tokens. */
  readonly userId: string | null;
  /** The ID of the session. */
  readonly socketId: string | null;
}

/** The types of a game's messages. Those that are left out are `unknown`. */
export interface Types {
  input?: unknown;
  command?: unknown;
  state?: unknown;
  event?: unknown;
  welcome?: unknown;
}

type TypeOf<T extends Types, Name extends keyof Types> = Name extends keyof T ? T[Name] : unknown;

/** The inputs of all players in one tick. */
export interface Tick<Input> {
  readonly tick: number;
  readonly inputs: readonly { readonly player: number; readonly number: number; readonly input: Input }[];
}

export interface Closing {
  /** The close code of the last websocket; 4100 if the server has refused. */
  readonly code: number;
  /** Why the session has ended; `unreachable` if the connection was lost and could not be restored. */
  readonly reason: LeaveReason | ErrorCode | (string & {});
  /** A sentence for the player. */
  readonly message: string;
  /** Whether it may help to join again. */
  readonly retry: boolean;
}

export interface Stats {
  /** Smoothed round trip over the current transport, in ms; `null` until the first measurement. */
  readonly rtt: number | null;
  /** Smoothed variation of the arrival of ticks, in ms. */
  readonly jitter: number;
  /** Share of the last 256 unreliable frames from the server that were lost, 0 to 1. */
  readonly loss: number;
  /** The newest tick received. */
  readonly tick: number;
  /** Ticks whose state or inputs have arrived in the last second. */
  readonly tickRate: number;
  /**
   * The transport of unreliable frames: the data channel while it is open and has delivered something within 1.5 s,
   * otherwise the websocket. The client opens a failed data channel again after 10, 20 and 40 s, then every minute, and
   * when the page wakes.
   */
  readonly transport: "webrtc" | "websocket";
  /** Unreliable frames received. */
  readonly received: number;
  /** Frames received twice, or too late to distinguish them from duplicates. */
  readonly duplicate: number;
  /** States dropped because a newer one had arrived. */
  readonly late: number;
  /** Messages that could not be read. */
  readonly bad: number;
  /** Frames not sent because the transport was congested or lost. */
  readonly dropped: number;
}

export interface StateInfo {
  /** The tick after which the game has sent the state. */
  readonly tick: number;
  /**
   * The number, as `send` returned it, of this player's newest input that the game had taken by then. Predict from a
   * state by applying the inputs after it.
   */
  readonly consumed: number;
}

export interface RoomEvents<Input = unknown, State = unknown, Event = unknown, Welcome = unknown> {
  /** A state newer than all before it has arrived. */
  state: (state: State, info: StateInfo) => void;
  /** The inputs of a tick: every tick once and in order. */
  tick: (tick: Tick<Input>) => void;
  event: (event: Event, tick: number, lane: "reliable" | "unreliable") => void;
  join: (player: Player) => void;
  leave: (player: Player, reason: LeaveReason) => void;
  /** The game has given a player another name, who may be this one. `former` is the name before it. */
  rename: (player: Player, former: string) => void;
  status: (status: Status) => void;
  /**
   * The session was lost (the server was restarted, or the connection was lost for too long), and the player has joined
   * anew with the same name and data. `me`, `welcome`, `players`, the ticks and the state are those of a new game;
   * there are no `join` events for its players. Inputs and commands that were not acknowledged are lost.
   */
  rejoin: (welcome: Welcome) => void;
  /** The server stops after `d.deadline` milliseconds. Until then the room goes on, and the server opens no others. */
  eventDrain: (message: { a: "eventDrain"; d: { deadline: number } }) => void;
  /** A message from the operator of the server to the player. */
  eventNotice: (message: { a: "eventNotice"; d: { text: string } }) => void;
  /**
   * The last event: the session has ended. A lost connection ends it only after a minute of attempts to
   * reconnect, or after `reconnectTimeout`.
   */
  close: (closing: Closing) => void;
  /**
   * Something has failed and the session continues; after a failed stage of connecting, over the websocket. The end of
   * the session is reported by `close` only.
   */
  error: (error: RtcadeError) => void;
}

/** A session in a room. `T` gives the types of the game: `Room<{ input: Input; state: State }>`. */
export type Room<T extends Types = {}> = RoomOf<
  TypeOf<T, "input">,
  TypeOf<T, "command">,
  TypeOf<T, "state">,
  TypeOf<T, "event">,
  TypeOf<T, "welcome">
>;

declare const heard: unique symbol;

/** `Room`, with each type by itself: so a room can stand for one that names fewer of them. */
export interface RoomOf<Input, Command, State, Event, Welcome> {
  /** For the compiler only: a room of other states or events is another type. */
  readonly [heard]?: { state: State; event: Event };
  /** The name of the room. */
  readonly name: string;
  /** The player's own number. */
  readonly me: number;
  /** The welcome of the game, such as the map. */
  readonly welcome: Welcome;
  /** The length of a tick in ms. */
  readonly tickMs: number;
  /**
   * What the server forwards: voices (`joinVoice` of `rtcade/voice` can be called), or also videos (`joinVideo` of
   * `rtcade/video`). Nothing if it is absent.
   */
  readonly media?: "audio" | "video";
  /** All players of the room by number, including this one. */
  readonly players: ReadonlyMap<number, Player>;
  readonly status: Status;
  /** While `dropped`, the time of the next attempt by `performance.now()`; otherwise `null`. */
  readonly retryAt: number | null;
  /** The current measurements of the connection. */
  readonly stats: Stats;
  /**
   * Calls `listener` for each event of the type. Returns a function that removes it. An error that a listener throws is
   * reported as uncaught.
   */
  on<Type extends keyof RoomEvents>(type: Type, listener: RoomEvents<Input, State, Event, Welcome>[Type]): () => void;
  /** As `on`, for the next event only. */
  once<Type extends keyof RoomEvents>(type: Type, listener: RoomEvents<Input, State, Event, Welcome>[Type]): () => void;
  /** Removes a listener, as often as `on` and `once` have added it. */
  off<Type extends keyof RoomEvents>(type: Type, listener: RoomEvents<Input, State, Event, Welcome>[Type]): void;
  /**
   * The tick that the server has reached now, with its fraction. It is estimated from the ticks that arrive and from
   * round trips, and it never runs backwards: an error is corrected by running up to 5 % faster or slower. Only an error
   * of more than a second, as after sleep, is corrected at once. While the connection is lost it continues.
   */
  serverTick(): number;
  /**
   * Gives the tick, with its fraction, that the page shows of the others: the newest less the delay of its
   * interpolation. Each input carries it to the game, which can compensate for lag with it. `null` by default: then, and
   * where the result is not finite, it is the tick of the newest state. The server takes a tick of the last second.
   */
  renderTick: (() => number) | null;
  /**
   * Sends an input over the unreliable lane and returns its number. Numbers count up by one, in a new session from 1. The
   * input is repeated until the server has acknowledged it, and reaches the game once and in order. The client keeps 8
   * unacknowledged inputs; the next one replaces the oldest. In a closed room nothing is sent, and the number is 0. The
   * game gets the input with the tick of `renderTick`, or else of the newest state. Send once per server tick (`tickMs`)
   * or 60 times a second: by default a game takes no more. Further inputs wait in the server, and are dropped when too
   * many wait.
   * @throws {RtcadeError} `too_large` above 512 bytes encoded; `bad_value` for types that can't be sent, whose path is
   * in the message, and for nesting deeper than 16.
   */
  send(input: Input): number;
  /**
   * Sends a command over the reliable lane. It is kept until the server has acknowledged it, and reaches the game once
   * and in order, also across a lost connection. Does nothing in a closed room.
   * @throws {RtcadeError} `too_large` above 16 KiB encoded or 4,096 elements; `bad_value` for types that can't be sent,
   * and for nesting deeper than 16; `backlog` if 64 KiB of commands are not acknowledged yet.
   */
  command(command: Command): void;
  /** While `dropped`, makes the next attempt to reconnect at once instead of at `retryAt`. */
  retryNow(): void;
  /**
   * Leaves the room and closes the connection. When a page is closed without it, the player leaves after 1.5 s, the
   * time that a reload may take.
   */
  leave(): void;
}

export interface Options {
  /**
   * The player's name, at most 32 characters. Keep a random name in `sessionStorage`: otherwise each reload is a new
   * player.
   */
  name?: string | undefined;
  /**
   * Data for the game, as JSON; with the rest of the request at most 16 KiB. If it differs at each load of the page, as
   * a time does, each reload is a new player.
   */
  data?: unknown;
  /**
   * A token that identifies the player, or a function that returns one. The function is called for each join, including
   * joins after a restart of the server, and when a reloaded page resumes its session. It has 10 s.
   */
  bearer?: string | (() => string | null | undefined | Promise<string | null | undefined>) | undefined;
  /** The version of the page, for the game. A reloaded page with another version joins anew. */
  appVersion?: string | undefined;
  /** The name of the room, if `url` is the server's `/api`. */
  room?: string | undefined;
  /**
   * Cancels connecting at any stage: `connect` rejects with `aborted`, and a session that was already created is left.
   * After `connect` has resolved, it leaves the room as `room.leave()` does. For a time-out of connecting alone, clear
   * the timer when `connect` resolves.
   */
  signal?: AbortSignal | undefined;
  /**
   * How long a lost connection is tried again before the room closes, in ms: a minute by default, `Infinity` for ever,
   * 0 for not at all. A wait that the server asks for doesn't count, in five minutes at most, or in this time if it
   * is longer.
   */
  reconnectTimeout?: number | undefined;
}

/**
 * Joins the room at `url`: an http(s) or ws(s) address, or a path such as `/r/lobby`; the page's own by default.
 * Resolves when the server has admitted the player. Register listeners right then, before anything else is
 * awaited: what arrives until the page's next task is kept for them, and no more. A
 * page that is reloaded in the same tab, with the same `name`, `data` and `appVersion`, continues as the same player.
 * With others it joins anew, and the former player leaves after 1.5 s, the time that a reload may take. If the server
 * asks the client to wait, it waits and tries again, for a minute at most.
 *
 * `T` gives the types of the game: `connect<{ input: Input; state: State }>("/r/lobby")`.
 * @throws {RtcadeError} The promise rejects only with `RtcadeError`: if `signal` was aborted, an option can't be sent,
 * or the server refuses or can't be reached.
 */
export function connect<T extends Types = {}>(
  url?: string | URL | null | undefined,
  options?: Options | null | undefined,
): Promise<Room<T>>;
