import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { connection, launchBrowser, openPage, playing, screenshot, startServer, until } from "./harness.mjs";

const REDIS = fileURLToPath(new URL("../../scripts/redis", import.meta.url));
/** The exit status of the script if there is no Redis. */
const MISSING = 69;
/** A room's lease lasts 5 s, then its players have to come back. */
const FAILOVER_MS = 30_000;

let browser;
let redis;

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
const answers = (port) =>
  new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    const end = (is) => () => (socket.destroy(), resolve(is));
    socket.on("connect", end(true)).on("error", end(false));
  });

/** `undefined` where there is no Redis. */
async function startRedis() {
  const port = await freePort();
  const directory = await mkdtemp(join(tmpdir(), "rtcade-redis-"));
  const child = spawn(REDIS, [port, directory], { stdio: "ignore" });
  await until("Redis", async () => child.exitCode !== null || answers(port));
  const stop = async () => {
    child.kill("SIGKILL");
    await rm(directory, { recursive: true });
  };
  if (child.exitCode === null) return { url: `redis://127.0.0.1:${port}`, stop };
  assert.equal(child.exitCode, MISSING);
  assert.ok(!process.env.REDIS_SERVER, "the environment names a Redis that is not there");
  await stop();
  return undefined;
}

before(async () => {
  redis = await startRedis();
  if (redis) browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await redis?.stop();
});

const startNode = (name) => startServer(["--redis", redis.url, "--node", name, "--cluster", "browser"]);

/** A room of the node: it is asked for there first. */
async function openAt(node, room) {
  const opened = await openPage(browser, `${node.url}r/${room}`);
  await playing(opened.page, "webrtc");
  return opened;
}
const roomsOf = async (node) => Number((await (await fetch(`${node.url}metrics`)).text()).match(/^rtcade_rooms (\d+)/m)[1]);

describe("a page of one node, and a room of another", () => {
  test("are brought together, and the page survives that node", async (t) => {
    if (!redis) return t.skip("Redis is not there: run scripts/test, or name its redis-server in REDIS_SERVER");
    const [home, there] = await Promise.all([startNode("home"), startNode("there")]);
    try {
      const owner = await openAt(there, "shared");
      const { page } = await openAt(home, "shared");
      assert.deepEqual([await roomsOf(home), await roomsOf(there)], [0, 1]);
      await until("each other", () => page.evaluate(() => globalThis.rtcade.room.players.size), (players) => players === 2);
      const former = await page.evaluate(() => [...globalThis.rtcade.room.players.values()].map(({ socketId }) => socketId));
      await screenshot(page, "cluster-redirected");

      await there.kill();
      await until("the room at the node that is left", () => roomsOf(home), Boolean, FAILOVER_MS);
      await until("a game that goes on", () => connection(page), ({ status }) => status === "open", FAILOVER_MS);
      await playing(page, "webrtc");
      const me = await page.evaluate(() => globalThis.rtcade.room.players.get(globalThis.rtcade.room.me).socketId);
      assert.ok(former.includes(me), "it is the player that it was");
      await screenshot(page, "cluster-survived");
      await owner.page.close();
    } finally {
      await Promise.all([home.kill(), there.kill()]);
    }
  });
});
