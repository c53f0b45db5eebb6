export * from "./dist/rooms.js";
