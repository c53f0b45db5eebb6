// Players of the load tester in the rooms of two nodes, of which one goes.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { serverProgram, startServer, until } from "./harness.mjs";
import { NO_REDIS, startRedis } from "./redis.mjs";
import { startTcpRelay } from "./tcp-relay.mjs";

const PLAYERS = 200;
const ROOMS = 20;
const DRAIN_S = 2;
/** 95 % of the players of a node that was killed are in a room again after this time. */
const BACK_MS = 8_000;
/** The same of a node that drains: its rooms have moved. */
const MOVED_MS = 1_000;
/** Longer than all of a test takes: it ends the load itself. */
const PLAY_S = 60;
/** Arrivals are slower than a server admits players of one address. */
const SCRIPT = `
config:
  phases: [{ duration: 5, arrivalCount: ${PLAYERS} }]
scenarios:
  - flow:
      - join: { room: "room-{{ $randomNumber(1, ${ROOMS}) }}" }
      - expect: state
      - loop: [{ send: [1, 2, false] }]
        duration: ${PLAY_S}
        pacing: fixed
        every: 250ms
`;

const metric = async (node, name) => {
  const text = await (await fetch(`${node.url}metrics`)).text();
  return Number(text.match(new RegExp(`^rtcade_${name} (\\d+)`, "m"))[1]);
};
const playersOf = async (...nodes) =>
  (await Promise.all(nodes.map((node) => metric(node, "players")))).reduce((sum, players) => sum + players);

describe("200 players in the rooms of two nodes", () => {
  let redis;
  let directory;

  before(async () => {
    redis = await startRedis();
    directory = await mkdtemp(join(tmpdir(), "rtcade-failover-"));
  });

  after(async () => {
    await redis?.stop();
    await rm(directory, { recursive: true });
  });

  /** Lets them play until all are in the rooms of the other node, after `end` has ended one. */
  async function play(t, cluster, { end, backMs, keepsSessions }) {
    const options = ["--redis", redis.url, "--cluster", cluster, "--drain", `${DRAIN_S}`];
    const nodes = await Promise.all(["stays", "goes"].map((name) => startServer([...options, "--node", name])));
    const [stays, goes] = nodes;
    const balancer = await startTcpRelay();
    balancer.target = nodes.map(({ url }) => Number(new URL(url).port));
    const [script, file] = ["yml", "json"].map((type) => join(directory, `${cluster}.${type}`));
    await writeFile(script, SCRIPT);
    const args = ["bench", "run", script, "-t", `http://127.0.0.1:${balancer.port}`, "-q", "-o", file];
    const load = spawn(serverProgram(), args, { stdio: "inherit" });
    const ended = once(load, "exit");
    t.after(async () => {
      load.kill("SIGKILL");
      await Promise.all([...nodes.map((node) => node.kill()), balancer.close()]);
    });

    await until("all players", () => playersOf(...nodes), (players) => players === PLAYERS);
    const rooms = await Promise.all(nodes.map((node) => metric(node, "rooms")));
    assert.ok(rooms.every(Boolean), `rooms at each node: ${rooms}`);
    assert.equal(rooms[0] + rooms[1], ROOMS);
    const lost = await playersOf(goes);
    await end(goes);
    await until("all players at the other node", () => playersOf(stays), (players) => players === PLAYERS, PLAY_S * 1_000);
    load.kill("SIGINT");
    await ended;

    const { counters, summaries } = JSON.parse(await readFile(file, "utf8")).aggregate;
    const { count, min, median, p95, p99, max } = summaries["rtc.reconnect"];
    const rejoined = counters["rtc.rejoined"] ?? 0;
    t.diagnostic(
      `${lost} of ${PLAYERS} players lost their node, and ${rejoined} joined anew; ` +
        `ms until they were in a room again: min ${min}, median ${median}, p95 ${p95}, p99 ${p99}, max ${max}`,
    );
    assert.equal(counters["vusers.failed"] ?? 0, 0, JSON.stringify(counters));
    assert.equal(count, counters["rtc.dropped"], "whoever has lost the connection is back");
    assert.equal(count, lost, "those of the node, and all of them");
    if (keepsSessions) assert.equal(rejoined, 0, "each is where it was in the game");
    assert.equal(counters["rtc.identities_lost"] ?? 0, 0, "each has the socketId that it had");
    assert.ok(p95 <= backMs, `95 % took up to ${p95} ms`);
  }

  test("are all in rooms again after one is killed", async (t) => {
    if (!redis) return t.skip(NO_REDIS);
    await play(t, "killed", { end: (node) => node.kill(), backMs: BACK_MS });
  });

  test("are all in rooms again after one is asked to stop", async (t) => {
    if (!redis) return t.skip(NO_REDIS);
    await play(t, "stopped", { end: async (node) => node.signal("SIGTERM"), backMs: MOVED_MS, keepsSessions: true });
  });
});
