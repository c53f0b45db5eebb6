import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connection, launchBrowser, openPage, playing, startServer, until, within } from "./harness.mjs";

const STOP_MS = 10_000;
const SNIPPET = new URL("../../docs/src/snippets/Caddyfile", import.meta.url);

const program = process.env.CADDY;
if (program && !existsSync(program)) throw new Error(`CADDY names ${program}, which is not there`);

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

describe("behind Caddy, by the configuration of the book", { skip: !program && "name its program in CADDY" }, () => {
  let directory, server, caddy, browser, url;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "rtcade-caddy-"));
    const port = await freePort();
    url = `https://localhost:${port}/`;
    server = await startServer(["--trusted-proxy", "127.0.0.1", "--public-addr", "127.0.0.1"]);
    const snippet = await readFile(SNIPPET, "utf8");
    const site = snippet
      .replace("game.example.com {", `localhost:${port} {\n    tls internal\n    bind 127.0.0.1`)
      .replace("127.0.0.1:8080", new URL(server.url).host);
    assert.notEqual(site, snippet);
    const options = "admin off\n    auto_https disable_redirects\n    skip_install_trust";
    await writeFile(join(directory, "Caddyfile"), `{\n    ${options}\n}\n${site}`);
    const env = { ...process.env, HOME: directory, XDG_DATA_HOME: directory, XDG_CONFIG_HOME: directory };
    const args = ["run", "--config", join(directory, "Caddyfile"), "--adapter", "caddyfile"];
    caddy = spawn(program, args, { env, cwd: directory, stdio: ["ignore", "ignore", "pipe"] });
    caddy.said = "";
    caddy.stderr.on("data", (chunk) => (caddy.said += chunk));
    await until("Caddy", () => caddy.said.includes("serving initial configuration"), Boolean, STOP_MS);
    browser = await launchBrowser();
  });

  after(async () => {
    await browser?.close();
    if (caddy?.exitCode === null) {
      const exited = once(caddy, "exit");
      caddy.kill("SIGTERM");
      await within(STOP_MS, exited, "Caddy to exit");
    }
    await server?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  test("two windows play in one room over wss and the data channel", async () => {
    const windows = [];
    for (let opened = 0; opened < 2; opened++) {
      windows.push(await openPage(browser, `${url}r/lobby`, { ignoreHTTPSErrors: true }));
    }
    for (const { page } of windows) await playing(page, "webrtc");
    const [ann, ben] = windows.map(({ page }) => page);
    assert.equal(await ann.evaluate(() => location.protocol), "https:");
    const { me } = await connection(ann);
    const seen = () => ben.evaluate((me) => rtcade.world().players.some(({ id }) => id === me), me);
    await until("the other player", seen);
    for (const { errors } of windows) assert.deepEqual(errors, []);
  });

  test("the server sees the addresses and the scheme that Caddy has passed on", async () => {
    const { page } = await openPage(browser, `${url}doctor`, { ignoreHTTPSErrors: true });
    await until("the result", () => page.evaluate(() => document.body.dataset.done), Boolean, 40_000);
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "You can play");
  });
});
