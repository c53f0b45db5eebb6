import type { RoomOf } from "./index.cjs";
import type { Voice, VoiceEvents, VoiceOptions } from "./voice.cjs";

export interface VideoOptions extends VoiceOptions {
  /**
   * What the others see: the default camera by default, the one with a `deviceId` of `cameras()`, or a track of the page,
   * such as one of `getDisplayMedia`, which is cloned. With `false` the player only watches, and the browser asks for no
   * camera.
   */
  camera?: boolean | string | MediaStreamTrack | undefined;
  /** How many can be seen at the same time, at most 9 with 4 speakers; 4 by default. */
  videos?: number | undefined;
}

export interface VideoEvents extends VoiceEvents {
  /**
   * A player can be seen, in `stream`, or no longer, with `null`. The stream has no sound: that is played already. A new listener
   * is called at once with those who can be seen.
   */
  video: (video: { readonly player: number; readonly stream: MediaStream | null }) => void;
}

export interface Video extends Omit<Voice, "on"> {
  /** What the player publishes; `null` without a camera. */
  readonly picture: MediaStreamTrack | null;
  /** The cameras. Their labels are empty until the player has allowed one. */
  cameras(): Promise<{ readonly deviceId: string; readonly label: string }[]>;
  /** Changes the camera; `false` gives it back. @throws {RtcadeError} as `joinVideo`; the former one stays. */
  setCamera(camera: boolean | string | MediaStreamTrack): Promise<void>;
  /** Calls `listener` for each event of the type. Returns a function that removes it. */
  on<Type extends keyof VideoEvents>(type: Type, listener: VideoEvents[Type]): () => void;
}

/**
 * Joins the voices and videos of a room, as `joinVoice` of `rtcade/voice` joins the voices. A video is sent in up to three
 * sizes, of which each player gets the one that their link takes.
 *
 * @throws {RtcadeError} as `joinVoice`, with the code `camera` if there is none or it is not allowed, and `bad_sdp` if the
 * server runs without `--media=video`.
 */
export function joinVideo(
  room: RoomOf<any, any, any, any, any>,
  options?: VideoOptions | null,
): Promise<Video>;
