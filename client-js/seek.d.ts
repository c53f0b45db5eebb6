import type { Options, Room, Types } from "./index.js";

export interface SeekOptions extends Omit<Options, "room"> {
  /** An address of the server, such as its root or a room; the page's own by default. */
  url?: string | URL | null | undefined;
}

/**
 * Waits until another player seeks with the same `context`, and joins a room for both as `connect` does, with the same
 * options. The room has a name that nobody can guess, and `/rooms` does not list it. Of several players who wait, those with
 * the longest common prefix of their IP addresses are paired. The other player may leave before or after joining: look at
 * `room.players`.
 *
 * @param context what both must agree on, such as the game's mode: 1 to 64 letters, digits, hyphens or underscores
 * @throws {RtcadeError} The promise rejects only with `RtcadeError`: `aborted` if `signal` was aborted, `unreachable` or
 * `timeout` if the server can't be reached, or the connection was lost while waiting and did not come back within a minute,
 * `rate_limited` if too many wait, or another reason why the server refuses or `connect` rejects.
 */
export function seek<T extends Types = {}>(
  context: string,
  options?: SeekOptions | null | undefined,
): Promise<Room<T>>;
