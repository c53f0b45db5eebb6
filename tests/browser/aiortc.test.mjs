// The Python example, with aiortc (https://github.com/aiortc/aiortc), plays as its README says.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { startServer } from "./harness.mjs";
import { EXAMPLE, PYTHON, install } from "./python.mjs";

const SECONDS = 5;

const skip = await install();

describe("aiortc", { skip }, () => {
  let server;

  before(async () => {
    server = await startServer(["--game", "arena"]);
  });

  after(() => server?.stop());

  const play = (name) => {
    const args = [`${EXAMPLE}/player.py`, `${server.url}r/python`, "--name", name, "--seconds", String(SECONDS)];
    return promisify(execFile)(PYTHON, args, { timeout: 60_000 });
  };

  test("two players see each other, move, and get states over the data channel", async () => {
    const outputs = await Promise.all([play("Ann"), play("Ben")]);
    for (const { stdout, stderr } of outputs) {
      assert.equal(stderr, "");
      const lines = [...stdout.matchAll(/^tick (\d+): player \d at (\d+), (\d+); states received: (\d+) over .*, (\d+) over /gm)];
      const [first, last] = [lines[0], lines.at(-1)].map((line) => line?.slice(1).map(Number));
      assert.ok(last[0] > first[0], stdout);
      assert.notDeepEqual(last.slice(1, 3), first.slice(1, 3), "it moves");
      // Each state that is lost would make the next ones undecodable if the acknowledgements were wrong.
      const [, , , overChannel, overWebsocket] = last;
      assert.ok(overChannel > 10 * overWebsocket && overChannel > 60, stdout);
      assert.ok(last[0] - first[0] <= overChannel + overWebsocket + 5, `states are missing: ${stdout}`);
    }
    const output = outputs.map(({ stdout }) => stdout).join("");
    assert.match(output, /^eventJoin \d (Ann|Ben)$/m);
  });
});
