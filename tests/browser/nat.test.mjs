// Which pairs of players behind NAT `rtcade/peers` connects directly. Each Chromium is in a network namespace of its own
// behind nat.py, and the server in a third, which stands for the internet.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromiumProgram, launchBrowser, openPage, serverProgram, startServer, until } from "./harness.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const MODULE = here("../../client-js/dist/rtcade/peers.js");
const NAT = here("nat.py");
const PORT = 8080;
const SERVER = "203.0.113.10";
const PUBLIC = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((host) => `203.0.113.${host}`);
/** Players behind different NATs may have the same address. */
const INSIDE = "192.168.1.2";
/** Ten seconds until messages are relayed, and some more. */
const CONNECT_MS = 30_000;
const PAGE = `<!doctype html><meta charset="utf-8"><title>NAT</title>
<script type="module">
  import { connect } from "/rtcade.js";
  import { openPeers } from "/built/peers.js";
  const app = { messages: [], states: [] };
  app.room = await connect(location.pathname);
  app.peers = openPeers(app.room);
  app.peers.on("state", (state) => app.states.push(state));
  app.peers.on("message", ({ value }) => app.messages.push(value));
  globalThis.app = app;
</script>`;

// By RFC 5128, section 3.3, with the names of RFC 3489: an endpoint can't be predicted where the mapping depends on the
// remote port, which matters only where the other NAT compares the port.
const KINDS = ["full cone", "address restricted", "port restricted", "symmetric"];
const RELAYED = ["port restricted and symmetric", "symmetric and symmetric"];

const ip = (...args) => execFileSync("ip", args, { stdio: ["ignore", "ignore", "pipe"] });
const namespace = (name) => `rtcade-nat-${process.pid}-${name}`;
const namespaces = [];
function addNamespace(name) {
  ip("netns", "add", namespace(name));
  namespaces.push(namespace(name));
}

/** Why there can't be such networks here. */
function obstacle() {
  try {
    execFileSync("python3", ["-c", "import sys; assert sys.version_info >= (3, 9)"], { stdio: "ignore" });
  } catch {
    return "Python 3.9 or newer is missing: install the package python3";
  }
  try {
    addNamespace("probe");
    ip("-n", namespace("probe"), "tuntap", "add", "probe", "mode", "tun");
    return false;
  } catch (error) {
    const cause = String(error.stderr ?? error.message).trim();
    return `A network namespace with a TUN device takes root, the program ip and /dev/net/tun: ${cause}`;
  } finally {
    removeNamespaces();
  }
}
const removeNamespaces = () => namespaces.splice(0).forEach((name) => ip("netns", "delete", name));

describe("players behind NAT", { skip: obstacle() }, () => {
  let directory;
  let server;
  const players = [];

  /** A program that runs another in a namespace. */
  async function within(name, program) {
    const path = join(directory, `${name}.sh`);
    await writeFile(path, `#!/bin/sh\nexec ip netns exec ${namespace(name)} '${program}' "$@"\n`);
    await chmod(path, 0o755);
    return path;
  }

  /** A browser in a namespace, and what makes the NAT between that and the internet one of a kind. */
  async function addPlayer(insideIp) {
    const publicIp = PUBLIC[players.length];
    const name = `player${players.length}`;
    const player = {};
    players.push(player);
    addNamespace(name);
    const internet = `/run/netns/${namespace("internet")}`;
    const args = [NAT, internet, publicIp, insideIp, SERVER, String(PORT)];
    player.nat = spawn("ip", ["netns", "exec", namespace(name), "python3", ...args], { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: player.nat.stdout });
    player.become = async (kind) => {
      player.nat.stdin.write(`${kind}\n`);
      const line = once(lines, "line", { signal: AbortSignal.timeout(CONNECT_MS) });
      assert.deepEqual(await line, [kind]);
    };
    await player.become(KINDS[0]);
    player.browser = await launchBrowser([], { program: await within(name, chromiumProgram()) });
    return player;
  }

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "rtcade-nat-"));
    await mkdir(join(directory, "built"));
    await copyFile(MODULE, join(directory, "built", "peers.js"));
    await writeFile(join(directory, "index.html"), PAGE);
    addNamespace("internet");
    ip("-n", namespace("internet"), "link", "set", "lo", "up");
    for (const address of [SERVER, ...PUBLIC]) ip("-n", namespace("internet"), "address", "add", `${address}/32`, "dev", "lo");
    const program = await within("internet", serverProgram());
    server = await startServer(["--public", directory], { program, host: SERVER, port: PORT });
  });

  after(async () => {
    for (const { browser, nat } of players) {
      await browser?.close();
      nat?.stdin.end();
      if (nat && nat.exitCode === null) await once(nat, "exit");
    }
    await server?.stop();
    removeNamespaces();
    await rm(directory, { recursive: true, force: true });
  });

  let rooms = 0;
  /** Connects both in a new room, and gives for each how: the states of the connection, and the types of the addresses. */
  async function connected(pair) {
    const url = `http://127.0.0.1:${PORT}/r/nat-${++rooms}`;
    const opened = await Promise.all(pair.map(({ browser }) => openPage(browser, url)));
    const pages = opened.map(({ page }) => page);
    const atOnce = (act, arg) => Promise.all(pages.map((page) => page.evaluate(act, arg)));
    await until(
      "both in the room",
      () => atOnce(() => globalThis.app?.room.players.size === 2 && app.room.stats.transport === "webrtc"),
      (are) => are.every(Boolean),
    );
    await atOnce(() => void app.peers.mesh());
    await until(
      "a way",
      () => atOnce(() => app.peers.all[0]?.status),
      (states) => states.every((state) => state && state !== "connecting"),
      CONNECT_MS,
    );
    await atOnce(() => app.peers.sendReliable(`from ${app.room.me}`));
    await until("the messages", () => atOnce(() => app.messages.length), (counts) => counts.join() === "1,1");
    const found = await atOnce(async () => {
      const { local, remote } = await app.peers.all[0].stats();
      return { states: app.states, types: [local, remote] };
    });
    assert.deepEqual(opened.map(({ errors }) => errors), [[], []]);
    await Promise.all(pages.map((page) => page.context().close()));
    return found;
  }

  test("without NAT one is connected directly to another without, and to one behind a symmetric NAT", async (t) => {
    const [open, other, symmetric] = [await addPlayer(PUBLIC[0]), await addPlayer(PUBLIC[1]), await addPlayer(INSIDE)];
    await symmetric.become("symmetric");
    for (const pair of [[open, other], [open, symmetric]]) {
      const found = await connected(pair);
      t.diagnostic(JSON.stringify(found));
      for (const { states } of found) assert.deepEqual(states, ["direct"]);
    }
    for (const { browser } of [open, other, symmetric]) await browser.close();
  });

  test("all pairs but those of a symmetric NAT with one that compares ports are connected directly", async (t) => {
    const pairs = KINDS.flatMap((kind, first) => KINDS.slice(first).map((other) => ({ kind, other, name: `${kind} and ${other}` })));
    const wrong = [];
    const check = async (players, { kind, other, name }) => {
      await Promise.all([players[0].become(kind), players[1].become(other)]);
      const found = await connected(players);
      const text = `${name}: ${JSON.stringify(found)}`;
      t.diagnostic(text);
      const isRelayed = RELAYED.includes(name);
      const isRight = ({ states, types }) =>
        states.join() === (isRelayed ? "relayed" : "direct") &&
        // Neither reaches the other's own address, and a symmetric NAT shows each peer another than the STUN server.
        types.every((type) => isRelayed || /^(srflx|prflx)$/.test(type)) &&
        (isRelayed || other !== "symmetric" || types.includes("prflx"));
      if (!found.every(isRight)) wrong.push(text);
    };
    // Relayed ones wait 10 s for a direct way: meanwhile the others are connected.
    const isRelayed = ({ name }) => RELAYED.includes(name);
    const groups = [pairs.filter((pair) => !isRelayed(pair)), ...pairs.filter(isRelayed).map((pair) => [pair])];
    assert.deepEqual(groups.map(({ length }) => length), [8, 1, 1]);
    const running = [];
    for (const group of groups) {
      const players = [await addPlayer(INSIDE), await addPlayer(INSIDE)];
      const run = async () => {
        for (const pair of group) await check(players, pair);
      };
      running.push(run());
    }
    await Promise.all(running);
    assert.deepEqual(wrong, []);
  });
});
