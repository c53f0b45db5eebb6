export * from "./dist/voice.js";
