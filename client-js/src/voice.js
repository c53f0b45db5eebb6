import { joinMedia } from "./media.js";

export const joinVoice = (room, options) => joinMedia(room, { ...options, camera: false, videos: 0 });
