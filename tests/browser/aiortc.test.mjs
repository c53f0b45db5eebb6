// The Python example, with aiortc (https://github.com/aiortc/aiortc), plays as its README says.

import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { startServer } from "./harness.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const EXAMPLE = here("../../examples/python");
const ENVIRONMENT = here("../../target/python");
const SECONDS = 5;

/** Installs the packages of the example, unless they are installed. Gives why it can't. */
async function install() {
  const requirements = readFileSync(`${EXAMPLE}/requirements.txt`, "utf8");
  const installed = `${ENVIRONMENT}/installed.txt`;
  if (existsSync(installed) && readFileSync(installed, "utf8") === requirements) return false;
  try {
    execFileSync("python3", ["-c", "import ensurepip, sys, venv; assert sys.version_info >= (3, 11)"], { stdio: "ignore" });
  } catch {
    return "Python 3.11 with venv is missing: install the packages python3 and python3-venv";
  }
  await mkdir(here("../../target"), { recursive: true });
  execFileSync("python3", ["-m", "venv", "--clear", ENVIRONMENT], { stdio: "inherit" });
  const pip = `${ENVIRONMENT}/bin/pip`;
  execFileSync(pip, ["install", "--quiet", "--requirement", `${EXAMPLE}/requirements.txt`], { stdio: "inherit" });
  writeFileSync(installed, requirements);
  return false;
}

const skip = await install();

describe("aiortc", { skip }, () => {
  let server;

  before(async () => {
    server = await startServer(["--game", "arena"]);
  });

  after(() => server?.stop());

  const play = (name) => {
    const args = [`${EXAMPLE}/player.py`, `${server.url}r/python`, "--name", name, "--seconds", String(SECONDS)];
    return promisify(execFile)(`${ENVIRONMENT}/bin/python`, args, { timeout: 60_000 });
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
