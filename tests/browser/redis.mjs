// Redis for the nodes of a cluster.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { until } from "./harness.mjs";

const REDIS = fileURLToPath(new URL("../../scripts/redis", import.meta.url));
/** The exit status of the script if there is no Redis. */
const MISSING = 69;
export const NO_REDIS = "Redis is not there: run scripts/test, or name its redis-server in REDIS_SERVER";

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

/** The next answer (RESP 2) of a connection whose lines these are. */
async function readAnswer(lines) {
  const { value: line = "-the connection has ended" } = await lines.next();
  const rest = line.slice(1);
  if (line[0] === "-") throw new Error(rest);
  if (line[0] === "$") return rest === "-1" ? null : (await lines.next()).value;
  if (line[0] !== "*") return rest;
  const list = [];
  for (let left = Number(rest); left > 0; left--) list.push(await readAnswer(lines));
  return list;
}

/**
 * Starts Redis with these options; `undefined` where there is none. Its data are in memory: `kill()` loses them, and
 * `start()` starts it again at the same port. `ask(...words)` carries out a command whose words have no white space.
 */
export async function startRedis(options = []) {
  const port = await freePort();
  const directory = await mkdtemp(join(tmpdir(), "rtcade-redis-"));
  let child;
  async function start() {
    child = spawn(REDIS, [port, directory, ...options], { stdio: "ignore" });
    await until("Redis", async () => child.exitCode !== null || answers(port));
  }
  async function kill() {
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }
  async function stop() {
    if (child.exitCode === null && child.signalCode === null) await kill();
    await rm(directory, { recursive: true });
  }
  async function ask(...words) {
    const socket = connect(port, "127.0.0.1");
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
    socket.write(`${words.join(" ")}\r\n`);
    try {
      return await readAnswer(lines);
    } finally {
      socket.destroy();
    }
  }
  await start();
  if (child.exitCode === null) return { url: `redis://127.0.0.1:${port}`, port, start, kill, ask, stop };
  assert.equal(child.exitCode, MISSING);
  assert.ok(!process.env.REDIS_SERVER, "the environment names a Redis that is not there");
  await stop();
  return undefined;
}
