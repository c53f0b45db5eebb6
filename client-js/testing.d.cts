import type { Options, Room, Types } from "./index.cjs";

/** What the client uses of its browser. */
export interface Environment {
  /** A constructor of websockets, with the browser's interface. */
  WebSocket?: unknown;
  /** A constructor of peer connections, with the browser's interface. With `null` the client uses the websocket only. */
  RTCPeerConnection?: unknown;
  setTimeout?: (callback: () => void, ms: number) => unknown;
  clearTimeout?: (timer: any) => void;
  setInterval?: (callback: () => void, ms: number) => unknown;
  clearInterval?: (timer: any) => void;
  /** A monotonic clock in ms. */
  now?: () => number;
  /** Random numbers from 0 to 1, for the waits before reconnecting. */
  random?: () => number;
  /** The target of `online`, `pageshow` and `visibilitychange` events; the window by default. */
  page?: EventTarget | null;
  /** Where the session is kept for a reload; `sessionStorage` by default. With `null`, each reload is a new player. */
  storage?: Pick<Storage, "getItem" | "setItem" | "removeItem"> | null;
}

/**
 * As `connect` of `rtcade`, with parts of the environment replaced: for tests in virtual time, and for platforms other
 * than browsers.
 */
export function connect<T extends Types = {}>(
  url: string | URL | null | undefined,
  options: Options | null | undefined,
  environment: Environment,
): Promise<Room<T>>;
