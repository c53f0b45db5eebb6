/*! rtcade: MIT OR Apache-2.0 */

// src/testing.js
import { connect as connectIn } from "./index.js";
var connect = (url, options, environment) => connectIn(url, { ...options, [/* @__PURE__ */ Symbol.for("rtcade.environment")]: environment });
export {
  connect
};
//# sourceMappingURL=testing.js.map
