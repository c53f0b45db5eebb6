// The task of task.yml by `rtcade bench`, against every server that it speaks to, one after the other: bench.json, and
// a table of it. `run.sh --bench` prepares what it needs; with --only=rtcade,ws the others stay as they were.
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { binary, here, start, withServer } from "./processes.mjs";

const SCENARIOS = { rtcade: "rtcade", ws: "ws", bun: "ws", geckos: "geckos" };
const CLIENTS = [50, 200, 500];
const TICK_MS = 33;
const ROOM_PLAYERS = 10;
/** They join at 50 a second, and all play from the settling on until somebody has played for as long as task.yml says. */
const phases = (clients) => {
  const join = Math.ceil(clients / 50);
  return [{ name: "join", duration: join, arrivalCount: clients }, { name: "play", pause: 50 }];
};
const SETTLE_MS = 5_000;
const PLAY_MS = 30_000;
const SEED = 7;

const directory = mkdtempSync(path.join(os.tmpdir(), "rtcade-peers-"));
process.once("exit", () => rmSync(directory, { recursive: true, force: true }));

async function play(scenario, clients, url) {
  const rooms = path.join(directory, "rooms.csv");
  writeFileSync(rooms, Array.from({ length: clients }, (_, n) => `room-${Math.floor(n / ROOM_PLAYERS)}\n`).join(""));
  const output = path.join(directory, "report.json");
  const config = { phases: phases(clients) };
  const arguments_ = ["bench", "run", path.join(here, "task.yml"), "-t", url, "--scenario-name", scenario];
  arguments_.push("-p", rooms, "--overrides", JSON.stringify({ config }), "-o", output, "-q", "--seed", SEED);
  const child = start([binary("rtcade"), ...arguments_.map(String)]);
  const [code] = await once(child, "close");
  if (![0, 1, 4].includes(code)) throw new Error(child.tail.trim() || `status ${code}`);
  return JSON.parse(readFileSync(output, "utf8"));
}

/** Of the time in which all play. */
function figures(report, clients) {
  const from = report.beganAt + phases(clients)[0].duration * 1000 + SETTLE_MS;
  const played = report.intermediate.filter(({ period }) => from <= period && period + report.intervalMs <= from + PLAY_MS);
  const count = ({ counters }) => (counters["rtc.received"] ?? 0) + (counters["websocket.messages_received"] ?? 0);
  // rtcade's clients receive pings too, which are no messages of the task.
  const messages = (interval) => interval.summaries["rtc.age"]?.count ?? count(interval);
  const received = played.reduce((all, interval) => all + messages(interval), 0);
  const spent = played.reduce((all, interval) => all + interval.rates["server.cpu_us_per_message"] * count(interval), 0);
  const seconds = (played.length * report.intervalMs) / 1000;
  return {
    joined: report.aggregate.counters["vusers.created"] - (report.aggregate.counters["vusers.failed"] ?? 0),
    us_per_message: spent / received,
    delivered: received / ((clients * seconds * 1000) / TICK_MS),
    server_cpu: spent / 1e6 / seconds,
    lateness_p99_ms: report.generator.latenessP99,
    unfit: report.generator.overload,
  };
}

const output = path.join(here, "bench.json");
const only = process.argv.find((argument) => argument.startsWith("--only="))?.slice("--only=".length).split(",");
const before = only ? JSON.parse(readFileSync(output, "utf8")) : [];
const results = [];
for (const clients of CLIENTS) {
  for (const [server, scenario] of Object.entries(SCENARIOS)) {
    const kept = before.find((result) => result.server === server && result.clients === clients);
    if (only && !only.includes(server) && kept) {
      results.push(kept);
      continue;
    }
    const result = await withServer(server, { tickMs: TICK_MS }, ({ server: address }) =>
      play(scenario, clients, `${scenario === "ws" ? "ws" : "http"}://${address}`)
        .then((report) => ({ ...figures(report, clients), machine: report.machine })));
    results.push({ server, clients, ...result });
    console.error(`${server} ${clients}: ${result.us_per_message.toFixed(1)} µs`);
    writeFileSync(output, `${JSON.stringify(results, null, 1)}\n`);
  }
}

console.log("| server | clients | CPU µs per message | delivered | server CPU | lateness p99, ms |");
console.log("|---|---|---|---|---|---|");
const percent = (share) => `${(share * 100).toFixed(0)} %`;
for (const result of results) {
  const { server, clients, us_per_message, delivered, server_cpu, lateness_p99_ms, unfit } = result;
  const mark = unfit ? " (unfit)" : "";
  const cells = [server, clients, us_per_message.toFixed(1), percent(delivered), percent(server_cpu)];
  console.log(`| ${[...cells, lateness_p99_ms.toFixed(1) + mark].join(" | ")} |`);
}
