import type { Room, RtcadeError } from "rtcade";
import { joinVoice, type Voice, type VoiceOptions } from "rtcade/voice";

declare const room: Room<{ state: number }>;
declare const maybe: boolean | undefined;
const options: VoiceOptions = { microphone: maybe, muted: maybe, speakers: 8 };
const voice: Voice = await joinVoice(room, options);
await joinVoice(room);
await joinVoice(room, { microphone: "device" });
await joinVoice(room, { microphone: new MediaStreamTrack() });
const canTalk: boolean | undefined = room.media;
const off: () => void = voice.on("speaking", ({ player, isSpeaking, level }) => console.log(player + level, isSpeaking));
voice.on("error", (error: RtcadeError) => console.log(error.stage === "voice", error.code === "microphone"));
voice.muted = !voice.talking;
const volume: number = voice.volume(room.me, 0.5) + voice.volume(room.me);
const [{ deviceId, label } = { deviceId: "", label: "" }] = await voice.devices();
await voice.setMicrophone(deviceId);
voice.leave();
console.log(canTalk, off, volume, label);

// @ts-expect-error no such event
voice.on("spoke", () => {});
// @ts-expect-error a number is no microphone
await joinVoice(room, { microphone: 1 });
