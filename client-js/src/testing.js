import { connect as connectIn } from "./index.js";

export const connect = (url, options, environment) =>
  connectIn(url, { ...options, [Symbol.for("rtcade.environment")]: environment });
