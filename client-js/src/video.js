import { joinMedia } from "./media.js";

export const joinVideo = (room, options) => joinMedia(room, { camera: true, videos: 4, ...options });
