import assert from "node:assert/strict";
import { test } from "node:test";
import * as limits from "../src/limits.js";
import { vectors } from "./vectors.js";

const { both, client } = vectors("limits");

for (const [name, value] of Object.entries(both)) {
  test(`${name} is that of the server`, () => assert.equal(limits[name], value));
}

test("every limit is either shared with the server or a client's own", () => {
  assert.deepEqual(Object.keys(limits).sort(), [...Object.keys(both), ...client].sort());
});
