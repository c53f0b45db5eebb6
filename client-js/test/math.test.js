import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as math from "../src/math.js";
import hash, { EXPECTED } from "../../tests/vectors/math.js";

/** The largest relative error of a function against that of `Math`, over arguments from `low` to `high`. */
function worst(name, low, high, other = () => undefined) {
  let error = 0;
  for (let at = 0; at < 20_000; at += 1) {
    const x = low + ((high - low) * at) / 20_000;
    const [actual, expected] = [math[name](x, other(at)), Math[name](x, other(at))];
    error = Math.max(error, Math.abs(actual - expected) / Math.max(Math.abs(expected), 1));
  }
  return error;
}

describe("rtcade/math", () => {
  test("is as exact as Math, to a few units of the last place", () => {
    const ULP = 2 ** -52;
    assert.ok(worst("sin", -1000, 1000) < 2 * ULP);
    assert.ok(worst("cos", -1000, 1000) < 2 * ULP);
    assert.ok(worst("tan", -1.5, 1.5) < 8 * ULP);
    assert.ok(worst("atan", -50, 50) < 4 * ULP);
    assert.ok(worst("exp", -20, 20) < 8 * ULP);
    assert.ok(worst("log", 1e-9, 1e9) < 4 * ULP);
    assert.ok(worst("atan2", -9, 9, (at) => Math.cos(at) * 9) < 4 * ULP);
    assert.ok(worst("hypot", -9, 9, (at) => at / 1000) < 4 * ULP);
    assert.ok(worst("pow", 0.1, 20, (at) => (at % 100) / 10 - 5) < 64 * ULP);
  });

  test("has the exceptional values of Math", () => {
    const values = [0, -0, 1, -1, 0.5, Infinity, -Infinity, NaN, 5e-324, 1.7976931348623157e308];
    for (const x of values) {
      for (const name of ["sin", "cos", "atan", "exp", "log"]) {
        const isHuge = Math.abs(x) > 1e6 && Number.isFinite(x) && (name === "sin" || name === "cos");
        if (!isHuge) assert.ok(Math.abs(math[name](x) - Math[name](x)) < 1e-15 || Object.is(math[name](x), Math[name](x)) , `${name}(${x})`);
      }
      for (const y of values) {
        assert.ok(Object.is(math.atan2(y, x), Math.atan2(y, x)) || Math.abs(math.atan2(y, x) - Math.atan2(y, x)) < 1e-15);
      }
    }
    assert.deepEqual([math.pow(2, 10), math.pow(2, -2), math.pow(-3, 3), math.pow(0, 0)], [1024, 0.25, -27, 1]);
  });

  test("computes what the server's rooms compute", () => assert.equal(hash(math), EXPECTED));
});
