/** Where a failure happened: while connecting, in that order, or in the game. */
export type Stage = "signaling" | "ice" | "dtls" | "channel" | "game";

/**
 * `signaling` until the server has let the player in, `connecting` while the data channel opens and the game is already
 * played over the websocket, `open` once the transport is settled, `dropped` while the websocket is lost and the client
 * waits to try again, `resuming` while it tries, `closed` at the end. A room is never `signaling`: `connect` gives it when
 * that is over.
 */
export type Status = "connecting" | "open" | "dropped" | "resuming" | "closed";

/** What the server answers, and what the client finds out by itself. */
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
  | "version_mismatch"
  | "draining"
  | "internal"
  /** A stage of connecting took too long: signaling 10 s (5 s to come back), ICE 8 s, DTLS 4 s, the channel 5 s. */
  | "timeout"
  /** The server, or a path to it, could not be reached or was lost. */
  | "unreachable"
  /** The browser has no websockets or no WebRTC. */
  | "unsupported"
  /** The browser did not prepare a data channel; it is tried again. */
  | "offer"
  /** `options.signal` was aborted. */
  | "aborted"
  /** The address is not that of a room. */
  | "bad_address"
  /** The browser blocked the websocket, as where the page's Content-Security-Policy does not name the server. */
  | "blocked"
  /** The page was loaded over https, and the address is that of a server over http. */
  | "mixed_content"
  /** `options.bearer` rejected, threw, or gave nothing in time. */
  | "bearer"
  /** The server, or a proxy before it, closed the websocket with 1008. */
  | "policy"
  /** An input, a command, or what is sent to join holds what cannot be sent. */
  | "bad_value"
  /** 64 KiB of commands are on their way that the server has not acknowledged. */
  | "backlog"
  /** Missed ticks were too old for the server to send again; `tick` goes on after them. */
  | "ticks_lost";

/** Why a player is gone. */
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

/** A failure that a player can be told of: `message` says what happened and what to do. */
export class RtcadeError extends Error {
  readonly stage: Stage;
  /** One of `ErrorCode`, a `LeaveReason` where the server closed the connection, or a newer server's. */
  readonly code: ErrorCode | LeaveReason | (string & {});
}

export interface Player {
  /** Counts up from 1 in each room and is never used again there. */
  readonly player: number;
  readonly name: string;
  /** Who the player is, where the server knows. */
  readonly userId: string | null;
  /** The session. */
  readonly socketId: string | null;
}

/** The inputs of all players that the server took in one tick. */
export interface Tick<Input> {
  readonly tick: number;
  readonly inputs: readonly { readonly player: number; readonly number: number; readonly input: Input }[];
}

export interface Closing {
  /** The close code of the last websocket, 4100 where the server refused. */
  readonly code: number;
  /** Why; `unreachable` where the connection broke and did not come back. */
  readonly reason: LeaveReason | ErrorCode | (string & {});
  /** A sentence for the player. */
  readonly message: string;
  /** Whether to join again may help. */
  readonly retry: boolean;
}

export interface Stats {
  /** Round trip over the present transport, smoothed, in ms. `null` until the first is measured. */
  readonly rtt: number | null;
  /** Smoothed variation of arrival against the tick grid, in ms. */
  readonly jitter: number;
  /** Share of the last 256 unreliable frames from the server that did not arrive, 0 to 1. */
  readonly loss: number;
  /** The newest tick heard of. */
  readonly tick: number;
  /** Ticks whose state or inputs arrived within the last second. */
  readonly tickRate: number;
  /** What to add to `performance.now()` to have the server's clock, in ms. `null` until it is measured. */
  readonly clockOffset: number | null;
  /**
   * What unreliable frames go over: the data channel while it is open and has brought something within 1.5 s. One that
   * failed is tried again after 10, 20 and 40 s, then every minute, and when the page wakes.
   */
  readonly transport: "webrtc" | "websocket";
  /** Unreliable frames that arrived. */
  readonly received: number;
  /** Frames that arrived again, or too late to tell. */
  readonly duplicate: number;
  /** States dropped because a newer one had arrived. */
  readonly late: number;
  /** Messages that could not be read. */
  readonly bad: number;
  /** Frames not sent because the transport was backed up, or there was none. */
  readonly dropped: number;
}

export interface RoomEvents<Input, State, Event, Welcome> {
  /** A state newer than every one before it. */
  state: (state: State, tick: number) => void;
  /** The inputs of a tick: every tick once and in order. */
  tick: (tick: Tick<Input>) => void;
  event: (event: Event, tick: number, lane: "reliable" | "unreliable") => void;
  join: (player: Player) => void;
  leave: (player: Player, reason: LeaveReason) => void;
  status: (status: Status) => void;
  /**
   * The server did not know the session any more (it was started again, or the player was away for too long) and has let
   * the player in anew, with the same name and data: `me`, `welcome`, `players`, the ticks and the state are those of a
   * new game, of which `join` tells nothing. Inputs and commands that were on their way are gone.
   */
  rejoin: (welcome: Welcome) => void;
  /** The last event: the session is over. Where the connection was lost, a minute of tries to come back is over too. */
  close: (closing: Closing) => void;
  /**
   * Something failed and the session goes on; after a failed stage of connecting it does so over the websocket. What ends
   * the session is told by `close` alone.
   */
  error: (error: RtcadeError) => void;
}

export interface Room<Input = unknown, Command = unknown, State = unknown, Event = unknown, Welcome = unknown> {
  /** The name of the room. */
  readonly name: string;
  /** The player's own number. */
  readonly me: number;
  /** What the game gave at the join, such as the map. */
  readonly welcome: Welcome;
  /** The length of a tick in ms. */
  readonly tickMs: number;
  /** Everybody in the room by number, the player included. */
  readonly players: ReadonlyMap<number, Player>;
  readonly status: Status;
  /** While `dropped`: when the client tries to come back next, by `performance.now()`. Else `null`. */
  readonly retryAt: number | null;
  /** The link as it is now. */
  readonly stats: Stats;
  /** Calls `listener` at each event of the type. Returns its unsubscribe. What a listener throws is reported. */
  on<Type extends keyof RoomEvents<Input, State, Event, Welcome>>(
    type: Type,
    listener: RoomEvents<Input, State, Event, Welcome>[Type],
  ): () => void;
  /**
   * Sends an input over the unreliable lane: repeated until the server has it, it reaches the game once and in order.
   * Past 8 inputs that the server has not acknowledged the oldest is given up. Nothing happens in a closed room.
   * @throws {RtcadeError} `too_large` past 512 bytes encoded, `bad_value` for what cannot be sent: other types, or
   * more than 16 arrays and objects inside each other.
   */
  send(input: Input): void;
  /**
   * Sends a command over the reliable lane: it is kept until the server has it, and reaches the game once and in order,
   * after a lost connection too. Nothing happens in a closed room.
   * @throws {RtcadeError} `too_large` past 16 KiB encoded or 4,096 elements, `bad_value` for what cannot be sent: other
   * types, or more than 16 arrays and objects inside each other, `backlog` past 64 KiB that the server has not
   * acknowledged.
   */
  command(command: Command): void;
  /** While `dropped`: tries to come back at once instead of at `retryAt`. */
  retryNow(): void;
  /** Says goodbye and closes. A page that is closed is gone for the others too, after the 1.5 s that a reload may take. */
  leave(): void;
}

export interface Options {
  /** The player's name, at most 32 characters. One that is drawn by lot is kept for the tab, or each load is a new player. */
  name?: string | undefined;
  /**
   * Data for the game, as JSON; with the rest of the request at most 16 KiB. What differs at each load of the page, such
   * as a time, makes each load a new player.
   */
  data?: unknown;
  /**
   * A token that says who the player is, or a function that gets one: it is called at each join, also at one that the
   * client makes by itself after the server was started again, and when a page that was loaded anew takes its session up.
   * It has as long as connecting.
   */
  bearer?: string | (() => string | null | undefined | Promise<string | null | undefined>) | undefined;
  /** The version of the game's page, for the game. */
  appVersion?: string | undefined;
  /** The room, where the address is the server's `/api`. */
  room?: string | undefined;
  /**
   * Cancels connecting at any stage: `connect` rejects with `aborted`, and what the server has given is left. After
   * `connect` has resolved it leaves the room, as `room.leave()` does. So it ends what a component began that is gone;
   * for a time-out of connecting alone, clear the time-out when `connect` resolves.
   */
  signal?: AbortSignal | undefined;
  /** In place of the browser's own. `null` for `RTCPeerConnection` plays over the websocket alone. */
  WebSocket?: unknown;
  RTCPeerConnection?: unknown;
  setTimeout?: ((callback: () => void, ms: number) => unknown) | undefined;
  clearTimeout?: ((timer: any) => void) | undefined;
  setInterval?: ((callback: () => void, ms: number) => unknown) | undefined;
  clearInterval?: ((timer: any) => void) | undefined;
  /** A clock in ms that never goes back. */
  now?: (() => number) | undefined;
  /** From 0 to 1: spreads clients that come back together. */
  random?: (() => number) | undefined;
  /** What tells of `online`, `pageshow` and `visibilitychange`; the window. */
  page?: EventTarget | null | undefined;
  /** Where the session is kept for a page that is loaded anew; `sessionStorage`. `null`, and each load is a new player. */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem"> | null | undefined;
}

/**
 * Joins the room at `url`: an http(s) or ws(s) address, or a path such as `/r/lobby`; the page's own by default.
 * Resolves when the server has let the player in. Register listeners right then: later ones miss what came before.
 * A page that was loaded anew, in the same tab and with the same `name`, `data` and `appVersion`, goes on as the player
 * that it was; with others it joins anew, and the former player is gone after the 1.5 s that a reload may take. Where the
 * server asks to wait, it waits, for a minute at most.
 * @throws {RtcadeError} Rejects where it was cancelled, where what is to be sent can't be, and where the server refuses or
 * can't be reached. It rejects with nothing else.
 */
export function connect<Input = unknown, Command = unknown, State = unknown, Event = unknown, Welcome = unknown>(
  url?: string | URL | null | undefined,
  options?: Options | null | undefined,
): Promise<Room<Input, Command, State, Event, Welcome>>;
