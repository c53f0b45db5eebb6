import type { Swarm } from "./swarm.cjs";

/** A recording: the MIME type, and the bytes that stand before its first segment. */
export interface Recording {
  readonly type: string;
  readonly init: Uint8Array;
}

export interface SegmentRecorder {
  onInit(recording: Recording): void;
  /** A segment of about 1 s. It begins with a keyframe, and can be played without the ones before it. */
  onSegment(bytes: Uint8Array & BlobPart): void;
  /** A track of the stream has ended, or was added or removed. */
  onEnd?(): void;
}

/**
 * Records a stream with a video track as WebM (VP8, and Opus if it has sound) of about 130,000 bytes per second, until the
 * returned function is called.
 * @throws {DOMException} if the browser can't record the stream.
 */
export function recordSegments(stream: MediaStream, recorder: SegmentRecorder): () => void;
export namespace recordSegments {
  /** Whether the browser records WebM with a keyframe each second. Firefox does not. */
  function isSupported(): boolean;
}

export interface SegmentPlayerOptions extends Recording {
  /** As in `SharedBytes`. */
  readonly source?: number | undefined;
  /** The browser can't play the recording; the player is closed. */
  onError?: ((error: Error) => void) | undefined;
}

export interface SegmentPlayer {
  /**
   * Loads a segment from the players who have it, and plays it. Resolves to false, and leaves it out, if nobody has delivered
   * it within 6 s. Segments may be added in any order.
   */
  add(segment: { readonly sha256: string; readonly bytes: number }): Promise<boolean>;
  close(): void;
}

/**
 * Plays the segments of a recording in a video element, 3 s behind the newest one and at most 8 s: it goes past what is
 * missing, and waits while there is nothing. A video that has run out starts again when there are 3 s to play.
 */
export function playSegments(swarm: Swarm, video: HTMLVideoElement, options: SegmentPlayerOptions): SegmentPlayer;
export namespace playSegments {
  /** Whether the browser plays such recordings. */
  function isSupported(): boolean;
}
