// Runs every server on the tasks, and writes what was measured to results.json. `run.sh` prepares what it needs.
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { SERVERS, binary, cores, here, nodes, pinned, ready, start, stop, withServer } from "./processes.mjs";

const flag = (name) => process.argv.find((argument) => argument.startsWith(`--${name}=`))?.split("=")[1];
const quick = process.argv.includes("--quick");
const only = flag("only")?.split(",") ?? Object.keys(SERVERS);
const parts = flag("parts")?.split(",") ?? ["loss", "outage", "wire", "steady"];
const output = flag("output") ?? path.join(here, quick ? "quick.json" : "results.json");

/** These are measured in every round; the others once, in the first. */
const EVERY_ROUND = ["rtcade", "bun", "uws", "bun-tls"];
/** On a bad link all websockets are the same TCP: two stand for them. */
const ON_BAD_LINK = ["rtcade", "geckos", "str0m", "ws", "bun"];
const plan = quick
  ? {
      minutes: 12,
      rounds: 1,
      steady: { window: 3, all: [[50, 33]], most: [[50, 33], [200, 33]], alone: [] },
      loss: { window: 8, delays_ms: [125] },
      outage: { window: 5 },
      wire: { window: 3, opaque: ["rtcade", "bun", "bun-tls"], walk: ["rtcade", "colyseus", "bun"] },
    }
  : {
      minutes: 45,
      rounds: 3,
      steady: {
        window: 6,
        all: [[50, 33], [200, 33], [500, 33], [1000, 33]],
        most: [[50, 33], [200, 33], [500, 33], [1000, 33], [200, 100]],
        alone: [[2000, 33]],
      },
      loss: { window: 20, delays_ms: [50, 125] },
      outage: { window: 8 },
      wire: {
        window: 6,
        opaque: ["rtcade", "geckos", "str0m", "bun", "bun-tls", "socketio", "colyseus"],
        walk: ["rtcade", "geckos", "bun", "socketio", "colyseus"],
      },
    };
const JOINS_PER_SECOND = 100;
const LINK_CLIENTS = 50;
const LOSS = { permille: 50, delays_ms: plan.loss.delays_ms, seed: 7 };
const OUTAGE = { outage_ms: 2000, delay_ms: 25, seed: 7 };
const WIRE = { permilles: [0, 50], delay_ms: 25, seed: 7 };
const ADDRESS = { server: "10.77.0.1", clients: "10.77.0.2", cutOff: "10.77.0.3" };

const end = Date.now() + plan.minutes * 60_000;
/** What the load generator says, if it says so in time. */
async function load(prefix, scenario, flags, seconds) {
  const words = ([name, value]) => (value === true ? [`--${name}`] : [`--${name}`, String(value)]);
  const text = Object.entries(flags).flatMap(words);
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

const results = { ...about(), steady: [], outage: [], loss: [], wire: [] };

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
  const uws = "@trufflesuite/uws-js-unofficial";
  return {
    date: new Date().toISOString().slice(0, 16).replace("T", " ") + " UTC",
    quick,
    machine: {
      cpu: os.cpus()[0].model,
      cores: os.cpus().length,
      memory_gib: Math.round(os.totalmem() / 2 ** 30),
      kernel: os.release(),
      pinned: cores,
      load_average_before: os.loadavg()[0],
      tcp: readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "utf8").trim(),
    },
    versions: {
      rtcade: `${crate("rtcade")} (${say("git", "rev-parse", "--short", "HEAD")})`,
      bun: `Bun ${npm("bun")}`,
      uws: `uWebSockets.js ${npm(uws).split("-")[0]} on Node ${say(nodes["node-20"], "--version")}`,
      ws: `ws ${npm("ws")}, bufferutil ${npm("bufferutil")}`,
      socketio: `socket.io ${npm("socket.io")}`,
      colyseus: `Colyseus ${npm("@colyseus/core")}, schema ${npm("@colyseus/schema")}`,
      geckos: `geckos.io ${npm("@geckos.io/server")}, node-datachannel ${npm("node-datachannel")}`,
      str0m: `str0m ${crate("str0m")}, sctp-proto ${crate("sctp-proto")}`,
      node: `Node ${say(nodes["node-26"], "--version")}`,
      rust: say("rustc", "--version"),
      clients: `rustls ${crate("rustls")}, tungstenite ${crate("tungstenite")}`,
    },
    task: {
      room_players: 10,
      input_bytes: 40,
      message_bytes: 200,
      joins_per_second: JOINS_PER_SECOND,
      rounds: plan.rounds,
      window_s: plan.steady.window,
      link_clients: LINK_CLIENTS,
      loss: LOSS,
      outage: OUTAGE,
      wire: WIRE,
    },
  };
}

async function steady(server, round, [clients, tickMs]) {
  const { window } = plan.steady;
  await note(results.steady, { server, clients, tick_ms: tickMs, round }, () =>
    withServer(server, { prefix: pinned(cores.server), tickMs }, (common) => {
      const flags = { ...common, clients, window, "joins-per-second": JOINS_PER_SECOND };
      return load(pinned(cores.clients), "steady", flags, clients / JOINS_PER_SECOND + window + 40);
    }));
}

async function throughLink(list, key, link, scenario, flags, seconds) {
  await note(list, key, () =>
    withLink(link, ({ server, clients, control }) =>
      withServer(key.server, { prefix: server, host: ADDRESS.server, tickMs: 33, task: key.task }, (common) =>
        load(clients, scenario, { ...common, clients: LINK_CLIENTS, local: ADDRESS.clients, link: control, ...flags }, seconds)
          .then(shorten))));
}

/** The picture shows ten seconds. */
function shorten({ example, ...result }) {
  return example ? { ...result, example: example.filter(([came]) => came < 10_000) } : result;
}

const measures = {
  async loss() {
    for (const delay_ms of LOSS.delays_ms) {
      for (const server of ON_BAD_LINK.filter((name) => only.includes(name))) {
        const { permille, seed } = LOSS;
        const { window } = plan.loss;
        const flags = { permille, window };
        await throughLink(results.loss, { server, delay_ms }, { delay_ms, seed }, "loss", flags, window + 60);
      }
    }
  },
  async outage() {
    for (const server of ON_BAD_LINK.filter((name) => only.includes(name))) {
      const { window } = plan.outage;
      const flags = { "cut-off": ADDRESS.cutOff, "outage-ms": OUTAGE.outage_ms, window };
      await throughLink(results.outage, { server }, OUTAGE, "outage", flags, window + 60);
    }
  },
  async wire() {
    const { window, opaque, walk } = plan.wire;
    const rows = opaque.map((server) => ({ server, task: "opaque" }));
    for (const server of walk) rows.push({ server, task: "walk" });
    if (walk.includes("bun")) rows.push({ server: "bun", task: "walk-msgpack" });
    for (const permille of WIRE.permilles) {
      for (const row of rows.filter(({ server }) => only.includes(server))) {
        await throughLink(results.wire, { ...row, permille }, WIRE, "wire", { permille, window }, window + 60);
      }
    }
  },
  async steady() {
    for (let round = 1; round <= plan.rounds; round++) {
      for (const size of plan.steady.most) {
        // Another one is first in every round.
        for (const server of [...only.slice(round - 1), ...only.slice(0, round - 1)]) {
          const others = round === 1 && plan.steady.all.some((other) => String(other) === String(size));
          if (EVERY_ROUND.includes(server) || others) await steady(server, round, size);
        }
      }
      if (only.includes("rtcade")) for (const size of plan.steady.alone) await steady("rtcade", round, size);
    }
  },
};
for (const part of parts) await measures[part]();
save();
