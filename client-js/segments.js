export * from "./dist/segments.js";
