export * from "./dist/video.js";
