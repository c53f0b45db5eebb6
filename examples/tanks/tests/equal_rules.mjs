// Drives each tank of the JSON on stdin as rules.rs has driven it, and fails at the first bit that differs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { step } from "../page/rules.js";

const { arena, dt, drives } = JSON.parse(readFileSync(0, "utf8"));
drives.forEach(({ body, steps }, tank) => {
  steps.forEach(([input, expected, hasFired], tick) => {
    const before = { ...body };
    const fires = step(arena, body, input, dt);
    const fields = Object.keys({ ...body, ...expected });
    // -0 is not 0 either.
    if (fires === hasFired && fields.every((field) => Object.is(body[field], expected[field]))) return;
    const inRust = { ...expected, fires: hasFired };
    const inPage = { ...body, fires };
    assert.fail(`tank ${tank}, tick ${tick}: ${JSON.stringify({ before, input, inRust, inPage }, null, 2)}`);
  });
});
