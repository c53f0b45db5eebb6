import type { RoomOf, RtcadeError } from "./index.cjs";

export interface VoiceOptions {
  /**
   * What the others hear: the default microphone by default, the one with a `deviceId` of `devices()`, or a track of the
   * page, which is cloned. With `false` the player only listens, and the browser asks for nothing.
   */
  microphone?: boolean | string | MediaStreamTrack | undefined;
  /** Whether the microphone is muted at first, as for push to talk; `false` by default. */
  muted?: boolean | undefined;
  /** How many can be heard at the same time, at most 15; 4 by default. The server forwards the loudest. */
  speakers?: number | undefined;
}

export interface VoiceEvents {
  /**
   * A player speaks, this one included: 10 times a second while `isSpeaking`, and once with `false` after it. `level` is
   * from 0 to 1, before the volume.
   */
  speaking: (speaking: { readonly player: number; readonly isSpeaking: boolean; readonly level: number }) => void;
  /** What the player may publish, as the game decides: when the connection opens, and on each change. */
  allowed: (allowed: { readonly audio: boolean; readonly video: boolean }) => void;
  /** Voice has ended because of an error. A connection that is lost is opened again, and is none. */
  error: (error: RtcadeError) => void;
}

export interface Voice {
  /** Whether the microphone is muted. */
  muted: boolean;
  /** The opposite, for push to talk: `true` while the key is held. `false` without a microphone. */
  talking: boolean;
  /** Sets how loud a player is heard, from 0 to 2, and returns it; without `volume` it only returns it. 1 by default. */
  volume(player: number, volume?: number): number;
  /** The microphones. Their labels are empty until the player has allowed one. */
  devices(): Promise<{ readonly deviceId: string; readonly label: string }[]>;
  /** Changes the microphone; `false` gives it back. @throws {RtcadeError} as `joinVoice`; the former one stays. */
  setMicrophone(microphone: boolean | string | MediaStreamTrack): Promise<void>;
  /** Calls `listener` for each event of the type. Returns a function that removes it. */
  on<Type extends keyof VoiceEvents>(type: Type, listener: VoiceEvents[Type]): () => void;
  /** Closes the connection and gives the microphone back. The room goes on. */
  leave(): void;
}

/**
 * Joins the voices of a room. The connection is one of its own, over UDP, and is opened again where it was lost and
 * where the room has reconnected. It ends with the room.
 *
 * Browsers keep a page silent that nobody has clicked or typed in, unless it uses the microphone: it is heard from the
 * first click.
 *
 * @throws {RtcadeError} with the stage `media` and the code `microphone` if there is none or it is not allowed,
 * `insecure` without https, `unsupported`, `unreachable` if UDP is blocked, `bad_sdp` if the server runs without
 * `--media`, or `timeout`.
 */
export function joinVoice(
  room: RoomOf<any, any, any, any, any>,
  options?: VoiceOptions | null,
): Promise<Voice>;
