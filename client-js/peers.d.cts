import type { Player, RoomOf } from "./index.cjs";

/**
 * How messages get to the other player: not yet (`connecting`), over a connection between both browsers (`direct`), through
 * the server (`relayed`), or not any more (`closed`).
 */
export type PeerStatus = "connecting" | "direct" | "relayed" | "closed";

export interface PeersOptions {
  /**
   * The STUN and TURN servers that find a way between two networks; by default those that the server names, which is itself.
   * With none of them a connection needs a network that both players share, or public addresses.
   */
  iceServers?: readonly { urls: string | string[]; username?: string; credential?: string }[] | undefined;
  /**
   * Whether to answer a player of the room who opens a connection; everybody by default. It is called again whenever a
   * refused player tries again.
   */
  accept?: ((player: Player) => boolean) | undefined;
}

/** A message of another player. Check what it contains: the server has not seen it, or not looked at it. */
export interface PeerMessage {
  readonly value: any;
  readonly reliable: boolean;
}

/** A track of the other player, as in `RTCTrackEvent`. */
export interface PeerTrack {
  readonly track: MediaStreamTrack;
  readonly streams: readonly MediaStream[];
}

export interface PeerEvents {
  message: (message: PeerMessage, peer: Peer) => void;
  /** The status has changed. Media needs `direct`. */
  state: (status: PeerStatus, peer: Peer) => void;
  /** The other player sends a track; after a reload of either page it is another one. */
  track: (track: PeerTrack, peer: Peer) => void;
  /**
   * The other player's `createDataChannel` has opened a channel. A listener takes it by setting its `onmessage` before it
   * returns; one that nobody takes is closed.
   */
  datachannel: (channel: RTCDataChannel, peer: Peer) => void;
}

export interface PeersEvents extends PeerEvents {
  /** There is a new peer, opened by this page or the other player's. */
  peer: (peer: Peer) => void;
}

/** Undefined while there is no direct connection. */
export interface PeerStats {
  /** The newest round trip of the connection, in ms. */
  readonly rtt: number | undefined;
  /** The type of this end's address: its own (`host`), as seen from outside (`srflx`, `prflx`), or on a TURN server (`relay`). */
  readonly local: string | undefined;
  /** The same of the other end. */
  readonly remote: string | undefined;
}

/** The connection to one other player of the room. It ends when one of both leaves the room. */
export interface Peer {
  /** The number of the player. */
  readonly player: number;
  readonly status: PeerStatus;
  /** Calls `listener` for each event of the type. Returns a function that removes it. */
  on<Type extends keyof PeerEvents>(type: Type, listener: PeerEvents[Type]): () => void;
  /**
   * Sends a message that may be lost, and may pass others. Returns whether it has left: not while `connecting`, nor if a
   * direct connection has a backlog of 32 KiB. Through the server it leaves only if nothing else waits.
   * @throws {RtcadeError} `bad_value` for what JSON can't express; `too_large` above 16,384 characters of JSON.
   */
  send(value: unknown): boolean;
  /**
   * Sends a message that arrives once and in order, whatever way there is. It waits while there is none, and is lost only
   * with the other player's page. Returns false, and sends nothing, if 32,768 characters are not acknowledged yet or the
   * peer is closed.
   * @throws {RtcadeError} as `send`.
   */
  sendReliable(value: unknown): boolean;
  /**
   * Sends a track as soon as there is a direct connection. Returns a function that ends it.
   * @throws {DOMException} if the track is sent already.
   */
  addTrack(track: MediaStreamTrack, ...streams: MediaStream[]): () => void;
  /**
   * Opens a data channel of its own, ordered and reliable, for bytes. It ends with the direct connection, also where that is
   * replaced because one of both pages was loaded again. Undefined if the peer is closed or the browser has no WebRTC.
   */
  createDataChannel(label: string): RTCDataChannel | undefined;
  /** Measures the direct connection. */
  stats(): Promise<PeerStats>;
  /** Closes both ends. `peers.peer` opens a new one. */
  close(): void;
}

/** The connections of this page to the other players of its room. */
export interface Peers {
  /** All that are not closed. */
  readonly all: readonly Peer[];
  /** Messages and signals that were ignored: of strangers, or unreadable. */
  readonly bad: number;
  /** As `peer.on`, for all peers. */
  on<Type extends keyof PeersEvents>(type: Type, listener: PeersEvents[Type]): () => void;
  /**
   * The connection to a player, which is opened if there is none; the same object until it is closed.
   * @throws {RtcadeError} `no_such_player` unless it is another player of the room.
   * @throws {DOMException} if the browser does not take `iceServers`.
   */
  peer(player: number | Player): Peer;
  /** Connects to everybody in the room, and to those who join later. Returns the same object. */
  mesh(): Peers;
  /** `send` to all peers. */
  send(value: unknown): void;
  /** `sendReliable` to all peers; those that can't take it do without. */
  sendReliable(value: unknown): void;
  /** Closes all peers at both ends, and answers nobody any more. Also happens when the room closes. */
  close(): void;
}

/**
 * Connects players of a room with each other. From then on the page accepts the connections that others open. Connected
 * players learn each other's IP addresses.
 * @throws {RtcadeError} `bad_value` if it is not a room that `connect` has given, if it is closed, or if it has open peers.
 */
export function openPeers(room: RoomOf<any, any, any, any, any>, options?: PeersOptions): Peers;
