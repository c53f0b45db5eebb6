// The task of task.yml by `rtcade bench`, against every server that it speaks to, one after the other: bench.json, and
// a table of it. `run.sh --bench` prepares what it needs.
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { binary, here, start, withServer } from "./processes.mjs";

const SCENARIOS = { rtcade: "rtcade", ws: "ws", bun: "ws", geckos: "geckos" };
const CLIENTS = [50, 200, 500];
const TICK_MS = 33;
const ROOM_PLAYERS = 10;
/** A second for each 50 who join, in whole intervals of a report, and four such intervals in which all play. */
const phases = (clients) => {
  const join = Math.ceil(clients / 50 / 10) * 10;
  return [{ name: "join", duration: join, arrivalCount: clients }, { name: "play", pause: 45 }];
};
const PLAYED = { from: 1, to: 4 };
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
  const begin = phases(clients)[0].duration / 10;
  const played = report.intermediate.slice(begin + PLAYED.from - 1, begin + PLAYED.to);
  const sum = (name) => played.reduce((all, { counters }) => all + (counters[name] ?? 0), 0);
  const received = sum("rtc.received") + sum("websocket.messages_received");
  const cpu = played.map(({ rates }) => rates["server.cpu_us_per_message"]);
  const counts = played.map(({ counters }) => (counters["rtc.received"] ?? 0) + (counters["websocket.messages_received"] ?? 0));
  const spent = cpu.reduce((all, us, n) => all + us * counts[n], 0);
  const seconds = played.length * 10;
  return {
    joined: report.aggregate.counters["vusers.created"] - (report.aggregate.counters["vusers.failed"] ?? 0),
    us_per_message: spent / received,
    delivered: received / ((clients * seconds * 1000) / TICK_MS),
    server_cpu: spent / 1e6 / seconds,
    generator_cpu: report.generator.cpu,
    lateness_p99_ms: report.generator.latenessP99,
    unfit: report.generator.overload,
  };
}

const results = [];
for (const clients of CLIENTS) {
  for (const [server, scenario] of Object.entries(SCENARIOS)) {
    const result = await withServer(server, [], "127.0.0.1", TICK_MS, ({ server: address }) =>
      play(scenario, clients, `${scenario === "ws" ? "ws" : "http"}://${address}`)
        .then((report) => ({ ...figures(report, clients), machine: report.machine })));
    results.push({ server, clients, ...result });
    console.error(`${server} ${clients}: ${result.us_per_message.toFixed(1)} µs`);
    writeFileSync(path.join(here, "bench.json"), `${JSON.stringify(results, null, 1)}\n`);
  }
}

console.log("| server | clients | CPU µs per message | delivered | server CPU | generator CPU | lateness p99, ms |");
console.log("|---|---|---|---|---|---|---|");
const percent = (share) => `${(share * 100).toFixed(0)} %`;
for (const result of results) {
  const { server, clients, us_per_message, delivered, server_cpu, generator_cpu, lateness_p99_ms, unfit } = result;
  const mark = unfit ? " (unfit)" : "";
  const cells = [server, clients, us_per_message.toFixed(1), percent(delivered), percent(server_cpu)];
  console.log(`| ${[...cells, percent(generator_cpu), lateness_p99_ms.toFixed(1) + mark].join(" | ")} |`);
}
