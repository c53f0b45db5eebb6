import type { Peers } from "./peers.js";

export interface SwarmOptions {
  /**
   * What this page uploads at most, in bytes per second, to all players together; 1,000,000 by default, and nothing with 0.
   * Nothing is uploaded while the browser reports a cellular connection or its data saver.
   */
  uplink?: number | undefined;
  /**
   * What a download gets at least, in bytes per second, as far as the server can: it delivers what the players don't. 500,000
   * by default. A higher rate loads faster, and more from the server. With 0 it delivers only what no player has, and
   * pieces for which nobody else has sent anything for a second.
   */
  minRate?: number | undefined;
}

/** Bytes that `share` of another page has named. */
export interface SharedBytes {
  /** What `share` has returned. */
  readonly sha256: string;
  /** Their number, if the page knows it. */
  readonly bytes?: number | undefined;
  /** Where a copy can be loaded for which the players are too slow. */
  readonly url?: string | URL | undefined;
  /**
   * The number of the player who has shared it, to spare that player: of those who load the same at the same time, few ask
   * for it there, and the others load from these. Everybody asks there for what nobody has delivered within 1.5 s.
   */
  readonly source?: number | undefined;
}

export interface SwarmProgress {
  /** Bytes that are loaded and checked, with those of earlier calls. */
  readonly bytes: number;
  /** Bytes in all; undefined if `SharedBytes` does not tell. */
  readonly total: number | undefined;
  /** Of `bytes`, those that the server has delivered in this call. */
  readonly fromServer: number;
  /** The same of other players. */
  readonly fromPeers: number;
}

export interface SwarmFetchOptions {
  /** Cancels the download: the promise rejects with the signal's reason. What was loaded is kept for the next call. */
  signal?: AbortSignal | undefined;
  /** Called at the start, and after each piece. */
  onProgress?: ((progress: SwarmProgress) => void) | undefined;
}

/** Counted since `openSwarm`. Sizes in bytes, without headers. */
export interface SwarmStats {
  readonly fromServer: number;
  readonly fromPeers: number;
  readonly toPeers: number;
  /** Players who were dropped because they sent wrong bytes or broke the protocol. They are not asked or answered again. */
  readonly bad: number;
}

export interface Swarm {
  /**
   * Loads a file of the server, in pieces from players who have it and from the server, and checks each piece by its
   * SHA-256. Players are preferred as long as they deliver `minRate` together; the server delivers the rest. Other players
   * can have the pieces while the page is open. A server that names no pieces of the file, and a page without https, load
   * all of it from the server, without checking.
   *
   * Instead of a URL it takes what another page has shared. Without `url` only players are asked, until `signal` aborts.
   * @throws {RtcadeError} with the stage `swarm` and the code `changed` if the file has changed on the server meanwhile,
   * `unreachable` if the server could not be reached or does not deliver it, `insecure` for shared bytes without https,
   * `bad_value`, or `aborted` after `close`.
   */
  fetch(source: string | URL | SharedBytes, options?: SwarmFetchOptions): Promise<Blob>;
  /**
   * Lets other players have 1 byte to 4 MiB that no server needs to have, and returns their SHA-256 in hexadecimal digits:
   * send it to the others, who pass it to `fetch`.
   * @throws {RtcadeError} `bad_value` for no bytes or too many, `insecure` without https.
   */
  share(bytes: BlobPart): Promise<string>;
  stats(): SwarmStats;
  /** Ends all uploads and downloads. The peers stay. */
  close(): void;
}

/**
 * Loads files together with the other players of a room, over the direct connections of `peers`, which `peers.mesh()` or
 * `peers.peer` opens. One swarm for each `openPeers`.
 *
 * A page keeps what it has loaded or shared in memory, up to 256 contents and 512 MiB; the oldest are forgotten.
 */
export function openSwarm(peers: Peers, options?: SwarmOptions): Swarm;
