// The commands of the quick start, in a copy of the repository, up to two windows that show each other's squares.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launchBrowser, openPage, serverProgram, startServer, until } from "./harness.mjs";

const BUILD_MS = 900_000;

const root = fileURLToPath(new URL("../..", import.meta.url));
const target = dirname(dirname(serverProgram()));
const directory = join(target, "quick-start");
const clone = join(directory, "rtcade");
const game = join(directory, "catch");

const page = readFileSync(join(root, "docs/src/quick-start.md"), "utf8");
const [, create, run, check] = page.match(/^```sh\n(cargo new.*?)^```.*?^```sh\n(cd .*?)^```.*?^```sh\n(cargo test)\n/ms);
const shell = (script, cwd) => execFileSync("bash", ["-euc", script], { cwd, stdio: ["ignore", "inherit", "inherit"] });

let browser, server;

before(() => {
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(clone, { recursive: true });
  const copy = 'set -o pipefail; tar -C "$0" --exclude=target --exclude=node_modules --exclude=.git -c . | tar -x';
  execFileSync("bash", ["-c", copy, root], { cwd: clone });
  // Dependencies that have been built for the other tests aren't built again: the same versions, by the same profile.
  mkdirSync(join(directory, ".cargo"));
  const [profile] = readFileSync(join(root, "Cargo.toml"), "utf8").match(/^\[profile\.dev\]\n.*?(?=^#)/ms);
  const [packages] = readFileSync(join(root, "Cargo.toml"), "utf8").match(/^\[profile\.dev\.package\."\*"\]\n.*?(?=^#)/ms);
  const unoptimised = '[profile.dev.package.rtcade]\nopt-level = 0\n';
  writeFileSync(join(directory, ".cargo/config.toml"), `build.target-dir = "${target}"\n${profile}${packages}${unoptimised}`);
});

after(async () => {
  await browser?.close();
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

test("lead to two windows that show each other's squares, and to a test that passes", { timeout: BUILD_MS }, async () => {
  shell(create, clone);
  copyFileSync(join(root, "Cargo.lock"), join(game, "Cargo.lock"));
  const [, command] = run.match(/^cd \.\.\/catch\ncargo (.*)\n$/);
  assert.equal(command, "run -- --public public");
  server = await startServer(command.split(" "), { program: "cargo", cwd: game, startMs: BUILD_MS });
  browser = await launchBrowser();
  const ann = await openPage(browser, server.url);
  const ben = await openPage(browser, ann.page.url());
  const squares = ({ page }) => page.evaluate(() => [...document.querySelectorAll("b")].map(({ style }) => style.background));
  for (const window of [ann, ben])
    await until("both squares", () => squares(window), (shown) => shown.includes("springgreen") && shown.includes("tomato"));
  assert.deepEqual([...ann.errors, ...ben.errors], []);
  shell(check, game);
});
