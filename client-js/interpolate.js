export * from "./dist/interpolate.js";
