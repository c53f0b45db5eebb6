// What the nodes of a cluster do when something between them fails: the rows of the table in docs/src/cluster.md.
// Each node reaches Redis through a relay of its own. Players are those of client-js, over the websocket.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { connect } from "../../client-js/src/index.js";
import { startServer, until, within } from "./harness.mjs";
import { NO_REDIS, startRedis } from "./redis.mjs";
import { startTcpRelay } from "./tcp-relay.mjs";

/** How long a lease lasts. */
const LEASE_MS = 5_000;
/** Shorter and longer than a lease lasts. */
const SHORT_MS = 3_000;
const LONG_MS = 8_000;
/** Longer than a node takes to answer about a room, whatever fails. */
const ANSWER_MS = 15_000;
/** Until all is well again. */
const RECOVERY_MS = 30_000;
const PAUSE_MS = 50;
const KILLS = 6;
// A listener for each node.
process.setMaxListeners(64);
/** The close code of a player whose room is at another node. */
const MOVED = 4307;

let addresses = 0;
/** Each connection seems to come from an address of its own, as joins of one are limited. */
const anybody = () => ({ "x-forwarded-for": `10.0.${addresses >> 8}.${addresses++ & 255}` });

const metrics = async (node) => (await fetch(`${node.url}metrics`)).text();
const metric = async (node, name) => {
  const line = (await metrics(node)).split("\n").find((line) => line.startsWith(`rtcade_${name} `));
  return Number(line.split(" ").at(-1));
};
const failures = (node, outcome) => metric(node, `cluster_requests_total{kind="${outcome}"}`);
const isCutOff = async (node) => (await metric(node, "cluster_connected")) === 0;

/** A node that reaches `redis` through `node.relay`. */
async function startNode(t, redis, cluster, name, more = []) {
  const relay = await startTcpRelay();
  relay.target = redis.port;
  const options = ["--redis", `redis://127.0.0.1:${relay.port}`, "--node", name, "--cluster", cluster];
  const node = await startServer([...options, "--trusted-proxy", "127.0.0.1", ...more]);
  t.after(async () => {
    await node.kill();
    await relay.close();
  });
  return Object.assign(node, { name, relay });
}
const startNodes = (t, redis, cluster, names, more) =>
  Promise.all(names.map((name) => startNode(t, redis, cluster, name, more)));

/** A load balancer in front of nodes. */
async function startBalancer(t, ...nodes) {
  const balancer = await startTcpRelay();
  balancer.target = nodes.map(({ url }) => Number(new URL(url).port));
  balancer.url = `http://127.0.0.1:${balancer.port}/`;
  t.after(balancer.close);
  return balancer;
}

/** What a node says to somebody who asks to join: `joinR`, or `eventRedirect`. Whoever has joined leaves at once. */
async function ask(node, room) {
  const socket = new WebSocket(`${node.url.replace("http", "ws")}r/${room}`, { headers: anybody() });
  try {
    await within(ANSWER_MS, once(socket, "open"), "a websocket");
    const answer = new Promise((resolve, reject) => {
      socket.on("close", (code) => reject(new Error(`closed with ${code}`)));
      socket.on("message", (data, isBinary) => {
        const message = isBinary ? {} : JSON.parse(data);
        if (message.a === "joinR" || message.a === "eventRedirect") resolve(message);
      });
    });
    socket.send(JSON.stringify({ a: "join", d: { version: 0, name: "Eve" } }));
    const message = await within(ANSWER_MS, answer, `an answer about ${room}`);
    if (message.s) socket.send('{"a":"leave"}');
    return message;
  } finally {
    socket.on("error", () => {});
    socket.close();
  }
}
const hasJoined = ({ a, s }) => a === "joinR" && s;
const leadsTo = (node) => ({ a, d }) => a === "eventRedirect" && d.url.startsWith(node.url.replace("http", "ws"));

/** A player of client-js, who notes where they are and what happened to them. */
async function play(t, { url }, room) {
  const player = { statuses: [], ticks: [], closed: undefined };
  class Socket extends WebSocket {
    constructor(to) {
      super(to, { headers: player.headers });
      player.at = to;
    }
  }
  player.headers = anybody();
  const environment = { WebSocket: Socket, RTCPeerConnection: undefined };
  player.room = await connect(`${url}r/${room}`, { name: "Ada", [Symbol.for("rtcade.environment")]: environment });
  player.socketId = () => player.room.players.get(player.room.me).socketId;
  player.room.on("status", (status) => player.statuses.push(status));
  player.room.on("state", (_, { tick }) => player.ticks.push(tick));
  t.after(() => player.room.leave());
  return player;
}

/** Waits until the players have new states. */
async function goOn(...players) {
  const counts = players.map(({ ticks }) => ticks.length);
  const haveNew = async () => players.every(({ ticks }, index) => ticks.length > counts[index] + 10);
  await until("states of a room that goes on", haveNew);
}

/** They have noticed nothing. */
async function assertUndisturbed(...players) {
  await goOn(...players);
  for (const { statuses, ticks } of players) {
    assert.deepEqual(statuses.filter((status) => status !== "open"), []);
    assert.ok(ticks.every((tick, index) => index === 0 || tick > ticks[index - 1]), "no state goes back");
  }
}

const leaseOf = (redis, cluster, room) => redis.ask("HMGET", `{${cluster}}:room:${room}`, "owner", "epoch");
const nodeOf = ([owner]) => owner?.replace(/#.*/, "");

/** Asks a node for a room again and again until `accept` takes the answer. Resolves to the time since `from`. */
async function askUntil(node, room, accept, from) {
  await until(`${room} at ${node.name}`, () => ask(node, room), accept, RECOVERY_MS);
  return performance.now() - from;
}
const since = (from) => `${Math.round(performance.now() - from)} ms`;
const rounded = (times) => times.map(Math.round).sort((a, b) => a - b).join(", ");

async function assertRefused(node, room) {
  const refusal = await ask(node, room);
  assert.deepEqual([refusal.a, refusal.s, refusal.e], ["joinR", false, "unavailable"], JSON.stringify(refusal));
  assert.equal(refusal.m, "The servers can't agree about the room at the moment. Try again in some seconds.");
  assert.ok(refusal.retryAfter > 0, JSON.stringify(refusal));
}

const isAt = ({ at }, { url }) => new URL(at).host === new URL(url).host;

/** A player who does not come back: what the node sends, and the code with which it closes the connection. */
async function watch(t, node, room) {
  const socket = new WebSocket(`${node.url.replace("http", "ws")}r/${room}`, { headers: anybody() });
  t.after(() => socket.terminate());
  const watcher = { frames: 0, closed: once(socket, "close").then(([code]) => code) };
  await within(ANSWER_MS, once(socket, "open"), "a websocket");
  socket.send(JSON.stringify({ a: "join", d: { version: 0, name: "Eve" } }));
  socket.on("message", (_, isBinary) => (watcher.frames += isBinary));
  await until("frames", async () => watcher.frames);
  return watcher;
}

let shared;
before(async () => (shared = await startRedis()));
after(() => shared?.stop());

describe("without Redis", { concurrency: true }, () => {
  test("rooms go on, own rooms can be joined, and new ones once it is back", async (t) => {
    const redis = await startRedis();
    if (!redis) return t.skip(NO_REDIS);
    t.after(redis.stop);
    const [one, two] = await startNodes(t, redis, "killed", ["one", "two"]);
    const players = [await play(t, one, "first"), await play(t, two, "second")];
    assert.ok(leadsTo(two)(await ask(one, "second")));
    await redis.kill();
    const killed = performance.now();
    await until("both nodes to notice", async () => (await isCutOff(one)) && (await isCutOff(two)));
    t.diagnostic(`Redis killed: noticed within ${since(killed)}`);
    const assertOwnRooms = async () => {
      for (const [node, room] of [[one, "first"], [two, "second"]]) assert.ok(hasJoined(await ask(node, room)), room);
    };
    await assertOwnRooms();
    for (const node of [one, two]) {
      await assertRefused(node, "new");
      assert.ok((await failures(node, "unreachable")) > 0);
      assert.match(node.output, /the nodes of the cluster can't agree, because of Redis at .*: see whether it runs/);
    }
    await sleep(Math.max(0, killed + LEASE_MS + 1_000 - performance.now()));
    await assertOwnRooms();
    players.push(await play(t, one, "second"));
    assert.ok(isAt(players[2], two), "a room of which the node knew before is found");
    await assertRefused(two, "first");
    await assertUndisturbed(...players);
    await redis.start();
    const started = performance.now();
    const newRoom = await askUntil(one, "new", hasJoined, started);
    t.diagnostic(`Redis started again, without its data: new rooms after ${rounded([newRoom])} ms`);
    assert.ok(leadsTo(one)(await ask(two, "first")), "a room is where it was");
    assert.ok(leadsTo(two)(await ask(one, "second")));
    await assertUndisturbed(...players);
  });

  test("that has lost its data, rooms keep their owners and their epochs", async (t) => {
    if (!shared) return t.skip(NO_REDIS);
    const redis = await startRedis();
    t.after(redis.stop);
    const [owner, other] = await startNodes(t, redis, "wiped", ["owner", "other"]);
    const player = await play(t, owner, "kept");
    const lease = await leaseOf(redis, "wiped", "kept");
    assert.equal(nodeOf(lease), "owner");
    await redis.ask("FLUSHALL");
    const wiped = performance.now();
    const elapsed = () => performance.now() - wiped;
    const news = askUntil(other, "new", hasJoined, wiped);
    let found;
    const readLease = async () => (found = await leaseOf(redis, "wiped", "kept"));
    const claimed = until("the lease", readLease, nodeOf).then(elapsed);
    const answers = await Promise.all(Array.from({ length: 20 }, async (_, index) => {
      await sleep(index * PAUSE_MS);
      return ask(other, "kept");
    }));
    assert.equal(answers.filter(hasJoined).length, 0, "two nodes have the room");
    const times = [await claimed, await news];
    assert.deepEqual(found, lease);
    assert.deepEqual(await leaseOf(redis, "wiped", "kept"), lease);
    assert.ok(leadsTo(owner)(await ask(other, "kept")));
    await assertUndisturbed(player);
    const [lost, made] = times.map(Math.round);
    t.diagnostic(`Redis wiped: its lease was claimed again after ${lost} ms, and a new room made after ${made} ms`);
  });
});

describe("a Redis that can't be used", { concurrency: true }, () => {
  test("is named in the log and counted, and the node runs", async (t) => {
    const locked = await startRedis(["--requirepass", "a-secret"]);
    if (!locked) return t.skip(NO_REDIS);
    t.after(locked.stop);
    const nonsense = createServer((socket) => {
      socket.on("error", () => {}).on("data", () => socket.write("HTTP/1.1 400 Bad Request\r\n\r\n"));
    });
    nonsense.listen(0, "127.0.0.1");
    await once(nonsense, "listening");
    t.after(() => nonsense.close());
    for (const [redis, outcome, sentence] of [
      [locked, "denied", /it needs a password: write it into the URL/],
      [nonsense.address(), "unreadable", /see whether the URL leads to Redis/],
    ]) {
      const node = await startNode(t, redis, "unusable", outcome);
      await assertRefused(node, "new");
      assert.ok((await failures(node, outcome)) > 0, outcome);
      assert.match(node.output, sentence);
      assert.equal((await fetch(`${node.url}healthz`)).status, 200);
    }
  });

  test("as it takes no writes, costs no player the game", async (t) => {
    const redis = await startRedis();
    if (!redis) return t.skip(NO_REDIS);
    t.after(redis.stop);
    const node = await startNode(t, redis, "read-only", "node");
    const player = await play(t, node, "first");
    for (const [outcome, begin, end, sentence] of [
      ["unready", "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", /it is a replica that can't be written to/],
      ["refused", "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", /NOREPLICAS/],
    ]) {
      await redis.ask(begin);
      await until("failures", () => failures(node, outcome));
      await assertRefused(node, `new-${outcome}`);
      assert.ok(hasJoined(await ask(node, "first")));
      assert.match(node.output, sentence);
      await redis.ask(end);
      const newRoom = await askUntil(node, `new-${outcome}`, hasJoined, performance.now());
      t.diagnostic(`Redis takes writes again (it was ${outcome}): new rooms after ${rounded([newRoom])} ms`);
    }
    // A value of another program costs its room alone.
    await redis.ask("SET", "{read-only}:room:spoilt", "something");
    const answers = ["spoilt", "other-1", "other-2"].map((room) => ask(node, room));
    await assertRefused(node, "spoilt");
    assert.deepEqual((await Promise.all(answers)).map(hasJoined), [false, true, true]);
    assert.ok((await failures(node, "unreadable")) > 0);
    await assertUndisturbed(player);
  });
});

describe("a node", { concurrency: true }, () => {
  test("that is killed is followed by another within its lease", async (t) => {
    if (!shared) return t.skip(NO_REDIS);
    const names = Array.from({ length: KILLS }, (_, index) => `killed-${index}`);
    const [heir, ...nodes] = await startNodes(t, shared, "dead", ["heir", ...names]);
    const seats = await Promise.all(nodes.map(async (node) => {
      const player = await play(t, await startBalancer(t, node, heir), node.name);
      return { node, player, id: player.socketId(), tick: player.room.stats.tick };
    }));
    const takeovers = await Promise.all(seats.map(async ({ node, player, id }, index) => {
      assert.ok(leadsTo(node)(await ask(heir, node.name)));
      // At other moments of the leases' renewals.
      await sleep((index * LEASE_MS) / 4 / KILLS);
      await node.kill();
      const killed = performance.now();
      const takeover = await askUntil(heir, node.name, hasJoined, killed);
      await until("a player who is back", async () => player.room.status === "open", Boolean, RECOVERY_MS);
      const back = performance.now() - killed;
      assert.equal(player.socketId(), id, "it is the player that it was");
      return { takeover, back };
    }));
    await goOn(...seats.map(({ player }) => player));
    assert.equal(await metric(heir, "rooms"), KILLS);
    const late = takeovers.filter(({ takeover }) => takeover > 2 * LEASE_MS);
    assert.deepEqual(late, []);
    t.diagnostic(`node killed: its room at another after ${rounded(takeovers.map(({ takeover }) => takeover))} ms`);
    t.diagnostic(`node killed: its player back after ${rounded(takeovers.map(({ back }) => back))} ms`);
  });

  test("that stands still serves nothing when it wakes, and its players go to the new owner", async (t) => {
    if (!shared) return t.skip(NO_REDIS);
    const [sleeper, heir] = await startNodes(t, shared, "paused", ["sleeper", "heir"]);
    const away = await play(t, await startBalancer(t, sleeper, heir), "paused");
    const stuck = await watch(t, sleeper, "paused");
    const id = away.socketId();
    sleeper.signal("SIGSTOP");
    const stopped = performance.now();
    const takeover = await askUntil(heir, "paused", hasJoined, stopped);
    await sleep(Math.max(0, stopped + LONG_MS - performance.now()));
    stuck.frames = 0;
    // Some are there before it wakes, others come while it does.
    const early = Array.from({ length: 10 }, () => ask(sleeper, "paused"));
    await sleep(PAUSE_MS);
    sleeper.signal("SIGCONT");
    const woken = performance.now();
    const answers = await Promise.all([...early, ...Array.from({ length: 10 }, () => ask(sleeper, "paused"))]);
    assert.deepEqual(answers.filter((answer) => !leadsTo(heir)(answer)), [], "a stale room is served");
    assert.equal(await within(RECOVERY_MS, stuck.closed, "the end of a player's connection"), MOVED);
    const sentAway = performance.now() - woken;
    const { frames } = stuck;
    await until("the player who is back", async () => away.room.status === "open", Boolean, RECOVERY_MS);
    await goOn(away);
    assert.equal(away.socketId(), id, "it is the player that it was");
    assert.deepEqual([await metric(sleeper, "rooms"), await metric(heir, "rooms")], [0, 1]);
    t.diagnostic(
      `node paused for ${LONG_MS} ms: its room at another after ${rounded([takeover])} ms; after it woke, players ` +
        `were sent away within ${rounded([sentAway])} ms, and had got ${frames} frames by then`,
    );
  });

  test("that does not reach Redis for less than its lease keeps its rooms", async (t) => {
    if (!shared) return t.skip(NO_REDIS);
    const [owner, other] = await startNodes(t, shared, "short", ["owner", "other"]);
    const player = await play(t, owner, "kept");
    const lease = await leaseOf(shared, "short", "kept");
    owner.relay.isSilent = true;
    const cut = performance.now();
    const answers = [];
    while (performance.now() < cut + SHORT_MS) {
      answers.push(await ask(other, "kept"));
      assert.ok(hasJoined(await ask(owner, "kept")), "its own room can be joined");
      await sleep(PAUSE_MS);
    }
    assert.deepEqual(answers.filter((answer) => !leadsTo(owner)(answer)), []);
    owner.relay.isSilent = false;
    const healed = performance.now();
    await until("the node to reach Redis", () => isCutOff(owner), (is) => !is);
    t.diagnostic(`node without Redis for ${SHORT_MS} ms: it is back after ${since(healed)}`);
    assert.deepEqual(await leaseOf(shared, "short", "kept"), lease);
    await assertUndisturbed(player);
  });

  test("that does not reach Redis for longer loses its rooms, and its players go to the new owner", async (t) => {
    if (!shared) return t.skip(NO_REDIS);
    const [former, heir] = await startNodes(t, shared, "long", ["former", "heir"]);
    const player = await play(t, former, "split");
    const [, epoch] = await leaseOf(shared, "long", "split");
    const id = player.socketId();
    former.relay.isSilent = true;
    const cut = performance.now();
    const takeover = await askUntil(heir, "split", hasJoined, cut);
    const newer = await play(t, heir, "split");
    while (performance.now() < cut + LONG_MS) {
      assert.ok(hasJoined(await ask(former, "split")), "the players of the former owner go on, and it can be joined");
      await sleep(PAUSE_MS);
    }
    await assertUndisturbed(player);
    former.relay.isSilent = false;
    const healed = performance.now();
    const alone = await askUntil(former, "split", leadsTo(heir), cut);
    const hasMoved = async () => isAt(player, heir) && player.room.status === "open";
    await until("the player at the new owner", hasMoved, Boolean, RECOVERY_MS);
    const back = performance.now() - healed;
    await goOn(player, newer);
    assert.equal(player.socketId(), id, "it is the player that it was");
    const meet = async () => [player, newer].every(({ room }) => room.players.size === 2);
    await until("each other", meet);
    assert.deepEqual([await metric(former, "rooms"), await metric(heir, "rooms")], [0, 1]);
    assert.equal(await metric(former, "cluster_rooms_lost_total"), 1);
    const [owner, newest] = await leaseOf(shared, "long", "split");
    assert.match(owner, /^heir#/);
    assert.ok(Number(newest) > Number(epoch), `${newest} follows ${epoch}`);
    t.diagnostic(
      `node without Redis for ${LONG_MS} ms: taken over after ${rounded([takeover])} ms, two owners for ` +
        `${rounded([alone - takeover])} ms, until ${rounded([alone - (healed - cut)])} ms after the end; its player ` +
        `was back after ${rounded([back])} ms`,
    );
  });

  test("whose name another has got ends with an error, and its players go there", async (t) => {
    if (!shared) return t.skip(NO_REDIS);
    const older = await startNode(t, shared, "twins", "twin");
    const balancer = await startBalancer(t, older);
    const player = await play(t, balancer, "twins");
    const id = player.socketId();
    const newer = await startNode(t, shared, "twins", "twin");
    const started = performance.now();
    balancer.target = Number(new URL(newer.url).port);
    const [status] = await within(RECOVERY_MS, older.exited, "the end of the older one");
    const ended = performance.now() - started;
    assert.equal(status, 1);
    assert.match(older.output, /another process has taken the name of this node: give each node of the cluster a name/);
    const hasMoved = async () => player.room.status === "open" && (await metric(newer, "players")) === 1;
    await until("the player at the newer one", hasMoved);
    await goOn(player);
    assert.equal(player.socketId(), id, "it is the player that it was");
    assert.equal(await metric(newer, "rooms"), 1);
    t.diagnostic(`a name used twice: the older node has ended ${rounded([ended])} ms after the newer one was started`);
  });
});
