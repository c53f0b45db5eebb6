// The server as `npx` runs it: packed for npm, and installed from tarballs without a registry.

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launchBrowser, openPage, serverProgram, startServer, until, within } from "./harness.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const platform = `${process.platform}-${process.arch}`;

describe("the packages for npm", { timeout: 120_000 }, () => {
  let directory, project;

  const npx = (...args) => spawnSync("npx", ["--no-install", "rtcade", ...args], { cwd: project, encoding: "utf8" });

  before(async () => {
    directory = await realpath(await mkdtemp(join(tmpdir(), "rtcade-npx-")));
    project = join(directory, "project");
    await mkdir(project);
    await writeFile(join(project, "package.json"), '{ "private": true }');
    const pack = [here("../../packaging/npm/pack.mjs"), directory, `${platform}=${serverProgram()}`];
    const tarballs = String(execFileSync(process.execPath, pack)).trim().split("\n");
    assert.equal(tarballs.length, 2, tarballs.join());
    execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", "--silent", ...tarballs], { cwd: project });
  });
  after(() => rm(directory, { recursive: true, force: true }));

  test("pass arguments to the server, and its exit status back", () => {
    const version = npx("--version");
    assert.deepEqual([version.stdout, version.status], ["rtcade 0.1.0\n", 0], version.stderr);
    const keys = npx("token", "--new-keys");
    assert.ok(JSON.parse(keys.stdout).keys, keys.stderr);
    const refused = npx("doctor", "--listen", "nowhere");
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /invalid value 'nowhere'/);
  });

  test("run a server whose pages play, and that is gone after SIGTERM", async () => {
    const server = await startServer(["--no-install", "rtcade", "--game", "relay"], { program: "npx", cwd: project });
    const browser = await launchBrowser();
    try {
      const { page, errors } = await openPage(browser, `${server.url}r/npx`);
      const play = `import("/rtcade.js").then(async ({ connect }) => (globalThis.played = await connect()))`;
      await page.evaluate(`${play}.then(() => undefined)`);
      await until("a data channel", () => page.evaluate(() => played.stats.transport), (it) => it === "webrtc");
      assert.deepEqual(errors, []);
    } finally {
      await browser.close();
      await server.stop();
    }
    assert.match(server.output, /stopped/);
    await assert.rejects(fetch(server.url));
  });

  test("end a server by SIGTERM, with its exit status", async () => {
    const server = await startServer([], { program: join(project, "node_modules/.bin/rtcade") });
    assert.equal((await fetch(server.url)).status, 200);
    assert.equal(await server.stop(), 0);
    assert.match(server.output, /stopped/);
    await assert.rejects(fetch(server.url));
  });

  test("pass on no Ctrl+C, as the terminal sends it to the server too", async () => {
    const counting = join(directory, "counting");
    await cp(join(project, "node_modules"), join(counting, "node_modules"), { recursive: true });
    const counter = `#!${process.execPath}
      let interrupts = 0;
      process.on("SIGINT", () => interrupts++ || setTimeout(() => process.exit(interrupts), 1_000));
      setInterval(() => {}, 1_000);
      console.log("counting");`;
    await writeFile(join(counting, `node_modules/@rtcade/server-${platform}/bin/rtcade`), counter);
    const command = "exec node_modules/rtcade/bin/rtcade.js";
    const terminal = spawn("script", ["--quiet", "--return", "--flush", "--command", command, "/dev/null"], {
      cwd: counting,
    });
    try {
      const closed = once(terminal, "close");
      await within(10_000, once(terminal.stdout, "data"), "the process that counts");
      terminal.stdin.write("\x03");
      const [interrupts] = await within(10_000, closed, "its end");
      assert.equal(interrupts, 1);
    } finally {
      terminal.kill("SIGKILL");
    }
  });

  test("name what is missing, where no server is installed for the platform", async () => {
    const broken = join(directory, "broken");
    await cp(join(project, "node_modules/rtcade"), join(broken, "node_modules/rtcade"), { recursive: true });
    const launcher = join(broken, "node_modules/rtcade/bin/rtcade.js");
    const run = (...before) => spawnSync(process.execPath, [...before, launcher, "--version"], { encoding: "utf8" });
    const omitted = run();
    assert.equal(omitted.status, 1);
    assert.match(omitted.stderr, new RegExp(`^rtcade: @rtcade/server-${platform}, .* --omit=optional\n$`));
    const windows = `data:text/javascript,Object.defineProperty(process, "platform", { value: "win32" })`;
    const elsewhere = run("--import", windows);
    assert.equal(elsewhere.status, 1);
    assert.match(elsewhere.stderr, new RegExp(`^rtcade: there is no server for win32-${process.arch}, .* WSL\n$`));
    const clone = spawnSync(process.execPath, [here("../../client-js/bin/rtcade.js")], { encoding: "utf8" });
    assert.equal(clone.status, 1);
    assert.match(clone.stderr, /^rtcade: this copy of the package has no server: .*\n$/);
  });
});
