// Redis for the nodes of a cluster.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
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

/** `undefined` where there is no Redis. */
export async function startRedis() {
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
