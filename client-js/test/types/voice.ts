import type { Room, RtcadeError } from "rtcade";
import { joinVideo, type Video } from "rtcade/video";
import { joinVoice, type Voice, type VoiceOptions } from "rtcade/voice";

declare const room: Room<{ state: number }>;
declare const maybe: boolean | undefined;
const options: VoiceOptions = { microphone: maybe, muted: maybe, speakers: 8 };
const voice: Voice = await joinVoice(room, options);
await joinVoice(room);
await joinVoice(room, { microphone: "device" });
await joinVoice(room, { microphone: new MediaStreamTrack() });
const canSee: boolean = room.media === "video";
const off: () => void = voice.on("speaking", ({ player, isSpeaking, level }) => console.log(player + level, isSpeaking));
voice.on("error", (error: RtcadeError) => console.log(error.stage === "media", error.code === "microphone"));
voice.muted = !voice.talking;
const volume: number = voice.volume(room.me, 0.5) + voice.volume(room.me);
const [{ deviceId, label } = { deviceId: "", label: "" }] = await voice.devices();
await voice.setMicrophone(deviceId);
voice.leave();

const video: Video = await joinVideo(room, { camera: false, videos: 2, speakers: 1 });
video.on("video", ({ player, stream }) => {
  const element = document.createElement("video");
  element.srcObject = stream;
  console.log(player);
});
video.on("allowed", ({ audio, video }) => console.log(audio && video));
await video.setCamera((await video.cameras())[0]?.deviceId ?? true);
console.log(video.picture?.enabled, video.muted, video.volume(1));
console.log(canSee, off, volume, label);

// @ts-expect-error no such event
voice.on("spoke", () => {});
// @ts-expect-error a number is no microphone
await joinVoice(room, { microphone: 1 });
