export * from "./dist/peers.js";
