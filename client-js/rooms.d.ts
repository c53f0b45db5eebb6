import type { Options, Room, Types } from "./index.js";

/** What a room must be. All of it that is given. */
export interface RoomFilter {
  /** The name of the room up to its last hyphen: `duel` is the kind of `duel-1`. A new room gets it; by default it is `room`. */
  kind?: string | undefined;
  /** The title that the game has given the room. */
  title?: string | undefined;
}

export interface JoinOrCreateOptions extends Omit<Options, "room"> {
  filter?: RoomFilter | undefined;
}

/**
 * Joins the fullest room of `/rooms` that is neither full nor locked and that the filter admits. If there is none, joins
 * the first of `KIND-1`, `KIND-2` and so on that is not listed, which is created if nobody is there. A room that is full or
 * locked when the player comes is passed by: at most four that are listed, then three numbers, then a random name.
 *
 * All who ask at the same moment choose the same room, also one that is not listed yet. A game that wants to be found by
 * the players in it lists its rooms (`ctx.listed(true)`); one that takes nobody any more locks them (`ctx.lock(true)`).
 * To return to its room, a page that is reloaded calls `connect` with the room's name.
 *
 * @param url an address of the server, such as its root or a room; the page's own by default
 * @throws {RtcadeError} The promise rejects only with `RtcadeError`: `room_full` or `room_locked` if all are, `unreachable` if
 * the list can't be read, or for the reasons of `connect`.
 */
export function joinOrCreate<T extends Types = {}>(
  url?: string | URL | null | undefined,
  options?: JoinOrCreateOptions | null | undefined,
): Promise<Room<T>>;

/**
 * Without an argument, a random name for a room that people read to each other: five letters, such as `KXQZB`, of 1,048,576
 * possible ones. It is no secret: who tries enough of them finds a room. With what somebody has typed, the code that was
 * meant: its letters, in capitals.
 */
export function roomCode(typed?: string | undefined): string;
