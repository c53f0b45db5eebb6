export * from "./dist/swarm.js";
