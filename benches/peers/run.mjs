// Runs every server on the one task, one after the other, and writes what was measured to results.json.
// `run.sh` prepares what it needs.
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { SERVERS, binary, here, ready, start, stop, withServer } from "./processes.mjs";

const flag = (name) => process.argv.find((argument) => argument.startsWith(`--${name}=`))?.split("=")[1];
const quick = process.argv.includes("--quick");
const only = flag("only")?.split(",") ?? Object.keys(SERVERS);
const output = flag("output") ?? path.join(here, quick ? "quick.json" : "results.json");
const plan = quick
  ? { clients: [50, 200], window: 4, fastest: [200, 100], lossWindow: 10, outageWindow: 5, minutes: 8 }
  : { clients: [50, 200, 500, 1000], window: 8, fastest: [2000, 100], lossWindow: 30, outageWindow: 8, minutes: 24 };
const LINK_CLIENTS = 50;
const LOSS = { permille: 50, delays_ms: [50, 125], seed: 7 };
const OUTAGE = { outage_ms: 2000, delay_ms: 25, seed: 7 };
const ADDRESS = { server: "10.77.0.1", clients: "10.77.0.2", cutOff: "10.77.0.3" };

const end = Date.now() + plan.minutes * 60_000;
/** What the load generator says, if it says so in time. */
async function load(prefix, scenario, flags, seconds) {
  const text = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const child = start([...prefix, binary("load"), scenario, ...text]);
  let json = "";
  child.stdout.on("data", (data) => (json += data));
  const hard = setTimeout(() => child.kill("SIGKILL"), seconds * 1000);
  const [code] = await once(child, "close");
  clearTimeout(hard);
  if (code !== 0) throw new Error(child.tail.trim() || "the load generator ran out of time");
  return JSON.parse(json);
}

/** Two network namespaces and the link between them. */
async function withLink({ delay_ms, seed }, use) {
  const holders = [0, 1].map(() => start(["unshare", "--net", "sh", "-c", "echo ready; exec sleep 600"]));
  const control = path.join(os.tmpdir(), `peers-link-${process.pid}`);
  let link;
  try {
    await Promise.all(holders.map(ready));
    const [server, clients] = holders.map(({ pid }) => pid);
    const inside = (pid) => ["nsenter", "--target", String(pid), "--net", "--"];
    const ip = (pid, ...words) => execFileSync("nsenter", [...inside(pid).slice(1), "ip", ...words]);
    for (const pid of [server, clients]) ip(pid, "link", "set", "lo", "up");
    link = start([
      binary("link"),
      ...["--server-pid", server, "--server-address", ADDRESS.server],
      ...["--client-pid", clients, "--client-address", ADDRESS.clients],
      ...["--delay-ms", delay_ms, "--seed", seed, "--control", control],
    ].map(String));
    await ready(link);
    ip(clients, "address", "add", `${ADDRESS.cutOff}/24`, "dev", "link");
    return await use({ server: inside(server), clients: inside(clients), control });
  } finally {
    for (const child of [link, ...holders]) if (child) await stop(child);
    rmSync(control, { force: true });
  }
}

const results = { ...about(), steady: [], outage: [], loss: [] };

/** Notes what `measure` brings, or why it brought nothing. */
async function note(list, key, measure) {
  const label = Object.values(key).join(" ");
  if (Date.now() > end) {
    list.push({ ...key, left_out: "there was no time left" });
    return;
  }
  try {
    list.push({ ...key, ...(await measure()) });
    console.error(`${label}: done`);
  } catch (error) {
    list.push({ ...key, left_out: error.message });
    console.error(`${label}: ${error.message}`);
  }
  save();
}

function save() {
  // Numbers are rounded to what they are worth, so that a new run changes few characters.
  const round = (_, value) => (typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value);
  const compact = JSON.stringify(results, round, 1).replace(/\[\s+([-\d.e]+),\s+([-\d.e]+)\s+\]/g, "[$1,$2]");
  writeFileSync(output, compact + "\n");
}

function about() {
  const say = (command, ...words) => execFileSync(command, words, { cwd: here }).toString().trim();
  const packages = JSON.parse(readFileSync(path.join(here, "package-lock.json"))).packages;
  const crates = readFileSync(path.join(here, "Cargo.lock"), "utf8");
  const crate = (name) => crates.match(new RegExp(`name = "${name}"\nversion = "([^"]+)"`))[1];
  const npm = (name) => packages[`node_modules/${name}`].version;
  return {
    date: new Date().toISOString().slice(0, 10),
    quick,
    machine: {
      cpu: os.cpus()[0].model,
      cores: os.cpus().length,
      memory_gib: Math.round(os.totalmem() / 2 ** 30),
      kernel: os.release(),
      tcp: readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "utf8").trim(),
    },
    versions: {
      rtcade: `${crate("rtcade")} (${say("git", "rev-parse", "--short", "HEAD")})`,
      geckos: `geckos.io ${npm("@geckos.io/server")}, node-datachannel ${npm("node-datachannel")}`,
      str0m: `str0m ${crate("str0m")}, sctp-proto ${crate("sctp-proto")}`,
      ws: `ws ${npm("ws")}`,
      bun: `Bun ${npm("bun")}`,
      node: process.version,
      rust: say("rustc", "--version"),
    },
    task: { room_players: 10, input_bytes: 40, message_bytes: 200, link_clients: LINK_CLIENTS, loss: LOSS, outage: OUTAGE },
  };
}

async function steady(server, clients, tickMs) {
  await note(results.steady, { server, clients, tick_ms: tickMs }, () =>
    withServer(server, [], "127.0.0.1", tickMs, (flags) =>
      load([], "steady", { ...flags, clients, window: plan.window }, clients / 50 + plan.window + 40)));
}

async function throughLink(list, key, link, scenario, flags, seconds) {
  await note(list, key, () =>
    withLink(link, ({ server, clients, control }) =>
      withServer(key.server, server, ADDRESS.server, 33, (common) =>
        load(clients, scenario, { ...common, clients: LINK_CLIENTS, local: ADDRESS.clients, link: control, ...flags }, seconds)
          .then(shorten))));
}

/** The picture shows ten seconds. */
function shorten({ example, ...result }) {
  return example ? { ...result, example: example.filter(([came]) => came < 10_000) } : result;
}

// The few minutes that matter most come first.
for (const delay_ms of LOSS.delays_ms) {
  for (const server of only) {
    const { permille, seed } = LOSS;
    const flags = { permille, window: plan.lossWindow };
    await throughLink(results.loss, { server, delay_ms }, { delay_ms, seed }, "loss", flags, plan.lossWindow + 60);
  }
}
for (const server of only) {
  const flags = { "cut-off": ADDRESS.cutOff, "outage-ms": OUTAGE.outage_ms, window: plan.outageWindow };
  await throughLink(results.outage, { server }, OUTAGE, "outage", flags, plan.outageWindow + 60);
}
for (const clients of plan.clients) for (const server of only) await steady(server, clients, 33);
if (only.includes("rtcade")) await steady("rtcade", ...plan.fastest);
save();
