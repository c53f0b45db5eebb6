export * from "./dist/rollback.js";
