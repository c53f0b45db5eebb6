export * from "./dist/math.js";
