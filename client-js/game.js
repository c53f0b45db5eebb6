export * from "./dist/game.js";
