// The servers that are compared, and the processes of a comparison: all end with this one.
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";

export const here = import.meta.dirname;
const binaries = path.join(process.env.CARGO_TARGET_DIR ?? path.join(here, "target"), "release");
export const binary = (name) => path.join(binaries, name);
const script = (name) => path.join(here, "servers", name);

export const SERVERS = {
  rtcade: { protocol: "rtcade", command: [binary("rtcade_server")] },
  geckos: { protocol: "geckos", command: [process.execPath, script("geckos.mjs")] },
  str0m: { protocol: "offer", command: [binary("str0m_server")] },
  ws: { protocol: "websocket", command: [process.execPath, script("ws.mjs")] },
  bun: { protocol: "websocket", command: [path.join(here, "node_modules/.bin/bun"), script("bun.mjs")] },
};

let port = 21_000 + (process.pid % 1000) * 16;
const children = new Set();
process.once("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

export function start(command, options = {}) {
  const child = spawn(command[0], command.slice(1), { stdio: ["ignore", "pipe", "pipe"], ...options });
  children.add(child);
  child.once("exit", () => children.delete(child));
  child.once("error", () => children.delete(child));
  child.tail = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data) => (child.tail = (child.tail + data).slice(-2000)));
  }
  return child;
}

/** Waits for the first thing a child says. */
export async function ready(child) {
  const said = new Promise((resolve) => [child.stdout, child.stderr].forEach((out) => out.once("data", resolve)));
  const failed = Promise.race([once(child, "exit"), once(child, "error")]).then(() => {
    throw new Error(`${child.spawnfile} ended: ${child.tail}`);
  });
  const late = new Promise((_, reject) => setTimeout(reject, 15_000, new Error(`${child.spawnfile} is silent`)).unref());
  await Promise.race([said, failed, late]);
  failed.catch(() => {});
}

export async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGTERM");
  const hard = setTimeout(() => child.kill("SIGKILL"), 3_000);
  await exit;
  clearTimeout(hard);
}

/** One server, for as long as `use` needs it. */
export async function withServer(name, prefix, host, tickMs, use) {
  const { protocol, command } = SERVERS[name];
  const address = `${host}:${++port}`;
  const server = start([...prefix, ...command, "--listen", address, "--tick-ms", String(tickMs)]);
  try {
    await ready(server);
    return await use({ protocol, server: address, pid: server.pid, "tick-ms": tickMs });
  } finally {
    await stop(server);
  }
}
