export * from "./dist/seek.js";
