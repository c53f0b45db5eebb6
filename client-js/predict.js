export * from "./dist/predict.js";
