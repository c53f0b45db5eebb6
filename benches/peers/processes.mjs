// The servers that are compared, and the processes of a comparison: all end with this one.
import { execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";

export const here = import.meta.dirname;
const binaries = path.join(process.env.CARGO_TARGET_DIR ?? path.join(here, "target"), "release");
export const binary = (name) => path.join(binaries, name);
/** The Node of a package, so that all machines have the same; else the one that runs this. */
export const nodes = Object.fromEntries(
  ["node-20", "node-26"].map((name) => {
    const packaged = path.join(here, "node_modules", name, "bin/node");
    return [name, existsSync(packaged) ? packaged : process.execPath];
  }),
);
const node = (name, version = "node-26") => [nodes[version], path.join(here, "servers", name)];
const bun = (name) => [path.join(here, "node_modules/.bin/bun"), path.join(here, "servers", name)];

export const SERVERS = {
  rtcade: { protocol: "rtcade", command: [binary("rtcade_server")], walk: [binary("rtcade_walk_server")] },
  bun: { protocol: "websocket", command: bun("bun.mjs") },
  // Its binaries are not made for newer versions.
  uws: { protocol: "websocket", command: node("uws.mjs", "node-20") },
  "bun-tls": { protocol: "websocket", command: bun("bun.mjs"), tls: true },
  "uws-tls": { protocol: "websocket", command: node("uws.mjs", "node-20"), tls: true },
  ws: { protocol: "websocket", command: node("ws.mjs") },
  "ws-tls": { protocol: "websocket", command: node("ws.mjs"), tls: true },
  socketio: { protocol: "socket-io", command: node("socketio.mjs") },
  colyseus: { protocol: "colyseus", command: node("colyseus.mjs") },
  geckos: { protocol: "geckos", command: node("geckos.mjs") },
  str0m: { protocol: "offer", command: [binary("str0m_server")] },
};

/** One core for the server, with all its threads, and another for the clients; empty where there is only one. */
export const cores = twoCores();

function twoCores() {
  try {
    execFileSync("taskset", ["--version"], { stdio: "ignore" });
    const list = readFileSync("/proc/self/status", "utf8").match(/^Cpus_allowed_list:\s*(\S+)/m)[1];
    const allowed = list.split(",").flatMap((range) => {
      const [first, last = first] = range.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, index) => first + index);
    });
    return allowed.length < 2 ? {} : { server: allowed[0], clients: allowed[1] };
  } catch {
    return {};
  }
}

/** What stands before a command so that it keeps to a core. */
export const pinned = (core) => (core === undefined ? [] : ["taskset", "--cpu-list", String(core)]);

let certificate;
/** Key and certificate of the servers with TLS: ECDSA P-256, made once. */
function tlsFlags() {
  if (!certificate) {
    const directory = mkdtempSync(path.join(os.tmpdir(), "peers-tls-"));
    process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
    const made = { key: path.join(directory, "key.pem"), certificate: path.join(directory, "certificate.pem") };
    const request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=peers";
    const files = ["-keyout", made.key, "-out", made.certificate];
    execFileSync("openssl", [...request.split(" "), ...files], { stdio: "ignore" });
    certificate = made;
  }
  return ["--tls-key", certificate.key, "--tls-certificate", certificate.certificate];
}

let port = 20_000 + (process.pid % 500) * 16;
/** A port below those that the kernel gives to clients, free for TCP and UDP. */
async function freePort() {
  for (;;) {
    port = port < 32_000 ? port + 1 : 20_000;
    const [tcp, udp] = [createServer(), createSocket("udp4")];
    tcp.listen(port, "127.0.0.1");
    udp.bind(port, "127.0.0.1");
    const listening = await Promise.allSettled([once(tcp, "listening"), once(udp, "listening")]);
    if (listening[0].status === "fulfilled") await new Promise((done) => tcp.close(done));
    if (listening[1].status === "fulfilled") udp.close();
    if (listening.every(({ status }) => status === "fulfilled")) return port;
  }
}

const children = new Set();
process.once("exit", () => children.forEach((child) => child.kill("SIGKILL")));
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

export function start(command, options = {}) {
  const env = { ...process.env, NODE_ENV: "production" };
  const child = spawn(command[0], command.slice(1), { stdio: ["ignore", "pipe", "pipe"], env, ...options });
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

/**
 * One server, for as long as `use` needs it. `prefix` stands before its command.
 */
export async function withServer(name, { prefix = [], host = "127.0.0.1", tickMs, task = "opaque" }, use) {
  const { protocol, command, walk, tls } = SERVERS[name];
  const address = `${host}:${await freePort()}`;
  // rtcade's server is a program of its own for each task.
  // str0m's knows one task only.
  const scripted = protocol === "offer" ? command : [...command, "--task", task];
  const words = walk ? (task === "opaque" ? command : walk) : scripted;
  const flags = ["--listen", address, "--tick-ms", String(tickMs), ...(tls ? tlsFlags() : [])];
  const server = start([...prefix, ...words, ...flags]);
  try {
    await ready(server);
    const common = { protocol, task, server: address, pid: server.pid, "tick-ms": tickMs };
    return await use(tls ? { ...common, tls: true } : common);
  } finally {
    await stop(server);
  }
}
