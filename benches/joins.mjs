// What joins and connected players cost a server of its own, on Linux: CPU time and system calls per join, memory per
// player, and how late the ticks of other rooms are in a storm of joins.
//
//     node benches/joins.mjs [--players 1000] [--rtcade target/release/rtcade]
//
// System calls are counted if `strace` is installed. The server runs on the first core and its load on the second, if
// `taskset` is installed; another load on the machine falsifies the figures.

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const { values: flags } = parseArgs({
  options: {
    players: { type: "string", default: "1000" },
    rtcade: { type: "string", default: path.join(import.meta.dirname, "../target/release/rtcade") },
  },
});
const players = Number(flags.players);
/** The server admits no more. */
const JOINS_PER_SECOND = 100;
const SETTLE_SECONDS = 3;
const IDLE_SECONDS = 10;
const joinSeconds = Math.ceil(players / JOINS_PER_SECOND);

const directory = mkdtempSync(path.join(tmpdir(), "rtcade-joins-"));
const has = (program) => spawnSync("which", [program]).status === 0;
const pinned = (core, command) => (has("taskset") ? ["taskset", "-c", String(core), ...command] : command);
const start = ([program, ...rest], options) => spawn(program, rest, { stdio: "ignore", ...options });
const ended = (process) => new Promise((resolve) => process.once("exit", resolve));

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

async function serve(...options) {
  const listen = `127.0.0.1:${await freePort()}`;
  const command = [flags.rtcade, "--game", "arena", "--listen", listen, ...options];
  const server = start(pinned(0, command));
  const url = `http://${listen}`;
  for (let attempt = 0; attempt < 100; attempt++) {
    if (await fetch(url).catch(() => null)) return { server, url, pid: server.pid };
    await sleep(50);
  }
  throw new Error(`${command.join(" ")} doesn't answer`);
}

function scenario(name, content) {
  const file = path.join(directory, `${name}.yml`);
  // JSON is YAML.
  writeFileSync(file, JSON.stringify(content));
  return file;
}

function bench(name, url, content) {
  const report = path.join(directory, `${name}.json`);
  const command = [flags.rtcade, "bench", "run", scenario(name, content), "-t", url, "-q", "-o", report, "--threads", "1"];
  return { running: start(pinned(1, command)), report: () => JSON.parse(readFileSync(report)).aggregate };
}

const statusKib = (pid, key) =>
  Number(readFileSync(`/proc/${pid}/status`, "utf8").match(new RegExp(`${key}:\\s+(\\d+)`))[1]);
/** In ms, from the scheduler's nanoseconds. */
const cpuMs = (pid) => Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]) / 1e6;

/** Players who join at an even rate and then only stay. */
const staying = (seconds) => ({
  config: {
    target: "http://localhost",
    phases: [{ duration: joinSeconds, arrivalCount: players }],
    timeout: "30s",
  },
  scenarios: [{ flow: [{ join: { room: "stay-{{ $randomNumber(1, 100) }}" } }, { think: `${seconds}s` }, "leave"] }],
});

/** How much something grew while all joined, less what the players who were there by then cost. */
const perJoin = (joining, idling) => (joining - (idling / IDLE_SECONDS) * (joinSeconds / 2 + SETTLE_SECONDS)) / players;

async function joins() {
  // Rooms tick rarely, so that what the players cost who are there already is small.
  const { server, url, pid } = await serve("--tick-ms", "200");
  const before = { rss: statusKib(pid, "VmRSS"), cpu: cpuMs(pid) };
  const { running } = bench("joins", url, staying(joinSeconds + SETTLE_SECONDS + IDLE_SECONDS + 5));
  await sleep((joinSeconds + SETTLE_SECONDS) * 1000);
  const joined = { rss: statusKib(pid, "VmRSS"), cpu: cpuMs(pid) };
  await sleep(IDLE_SECONDS * 1000);
  const idle = cpuMs(pid);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const [, present] = metrics.match(/^rtcade_transports\{kind="webrtc"\} (\d+)/m);
  running.kill();
  server.kill();
  await ended(server);
  return {
    players: Number(present),
    cpu_ms_per_join: perJoin(joined.cpu - before.cpu, idle - joined.cpu),
    rss_kib_per_player: (joined.rss - before.rss) / players,
  };
}

/** Counted apart, because counting slows the server down. */
async function systemCalls() {
  if (!has("strace")) return null;
  const { server, url, pid } = await serve("--tick-ms", "200");
  const { running } = bench("calls", url, staying(joinSeconds + SETTLE_SECONDS + IDLE_SECONDS + 8));
  const count = async (seconds) => {
    const table = path.join(directory, "calls");
    const tracer = start(["strace", "-f", "-c", "-p", String(pid), "-o", table]);
    await sleep(seconds * 1000);
    tracer.kill("SIGINT");
    await ended(tracer);
    const rows = readFileSync(table, "utf8").matchAll(/^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/gm);
    return Object.fromEntries([...rows].map(([, calls, name]) => [name, Number(calls)]));
  };
  const joining = await count(joinSeconds + SETTLE_SECONDS);
  const idling = await count(IDLE_SECONDS);
  running.kill();
  server.kill();
  await ended(server);
  const names = Object.keys(joining).filter((name) => name !== "total");
  const each = names.map((name) => [name, perJoin(joining[name], idling[name] ?? 0)]);
  const listed = each.filter(([, calls]) => calls >= 0.05).sort(([, a], [, b]) => b - a);
  return {
    calls_per_join: each.reduce((sum, [, calls]) => sum + calls, 0),
    by_name: Object.fromEntries(listed.map(([name, calls]) => [name, Number(calls.toFixed(2))])),
  };
}

/** The gap between two ticks as players of other rooms see it, in ms, without and with a storm of joins. */
async function storm() {
  const PLAYING_SECONDS = 20;
  const playing = {
    config: { target: "http://localhost", phases: [{ duration: 2, arrivalCount: 100 }] },
    scenarios: [
      {
        flow: [
          { join: { room: "play-{{ $randomNumber(1, 25) }}" } },
          {
            loop: [{ send: ["{{ $randomNumber(-100, 100) }}", 0, false] }],
            duration: `${PLAYING_SECONDS}s`,
            pacing: "fixed",
            every: "33ms",
          },
          "leave",
        ],
      },
    ],
  };
  const crowd = staying(2);
  crowd.config.phases = [{ duration: 1, arrivalCount: players }];
  const gaps = {};
  for (const name of ["without", "with"]) {
    const { server, url } = await serve();
    const { running, report } = bench(`playing-${name}`, url, playing);
    await sleep(5_000);
    const stormers = name === "with" ? bench("storm", url, crowd) : null;
    await ended(running);
    const { p99, max } = report().summaries["rtc.tick_gap"];
    gaps[name] = { p99, max };
    stormers?.running.kill();
    server.kill();
    await ended(server);
  }
  return { tick_gap_ms: gaps };
}

try {
  const revision = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  console.log(JSON.stringify({ revision, ...(await joins()), ...(await systemCalls()), ...(await storm()) }, null, 2));
} finally {
  rmSync(directory, { recursive: true });
}
