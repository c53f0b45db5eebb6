import assert from "node:assert/strict";
import { test } from "node:test";
import { World } from "./model.js";

// MODEL_SEEDS=2000 tries more of them, SEED=17 one.
const SEEDS = Number(process.env.MODEL_SEEDS ?? 100);
const only = process.env.SEED && Number(process.env.SEED);

/** A minute of tries, one more that has begun, and time to be late. */
const SETTLED = 60_000 + 10_000 + 5_000;
/** After which everything that was lost is back, or given up: the longest wait for a new channel, and its time-outs. */
const CALM = 60_000 + 10_000 + 8_000 + 75_000;

const ADA = { name: "Ada" };
const GRACE = { name: "Grace", data: { skin: "\ud83d" } };

async function live(seed) {
  const world = new World(seed);
  const { below, pick, fails } = world;
  const token = (ms) => `ada until ${world.time + ms}`;
  const bearers = [
    () => token(3_600_000),
    () => token(5_000),
    () => () => token(5_000),
    () => async () => token(5_000),
    () => () => (fails(30) ? Promise.reject(new Error("401")) : token(5_000)),
    () => () => (fails(30) ? new Promise(() => {}) : token(5_000)),
    () => undefined,
  ];
  const open = () => world.page.connects.filter(({ room }) => room && room.status !== "closed");
  const join = () => world.page.connect(pick([ADA, ADA, ADA, GRACE]), pick(bearers)());
  const actions = [
    join,
    join,
    () => join().abort(),
    () => (join().abort(), join()),
    () => {
      const { abort } = join();
      join();
      world.in(below(3_000), abort, world.page);
    },
    () => world.page.connect(ADA, pick(bearers)(), true),
    () => world.page.connects.length && pick(world.page.connects).abort(),
    () => open().length && pick(open()).room.leave(),
    () => world.reload(),
    () => (world.reload(), join()),
    () => (world.reload(), join().abort(), join()),
    () => world.page.wake(),
    () => world.page.wake(),
    () => open().forEach(({ room }) => room.retryNow()),
    () => world.page.freeze(below(90_000)),
    () => world.page.stopClock(below(10_000)),
    () => (world.page.skew += below(100_000)),
    () => world.server.restart(below(15_000)),
    () => [...world.server.connections].forEach((socket) => fails(70) && socket.end(1006)),
    () => world.page.peers.forEach((peer) => peer.end()),
    () => ((world.isCut = true), world.in(below(80_000), () => (world.isCut = false))),
    () => world.server.sessions.size && kick(pick([...world.server.sessions.values()])),
    ...Array(8).fill(() => open().forEach((made) => world.page.command(made))),
    ...Array(4).fill(() => world.server.sessions.forEach((session) => world.server.say(session))),
  ];
  const kick = (session) => {
    for (const made of open()) if (idOf(made) === session.id && made.room.status === "open") made.isKicked = true;
    world.server.kick(session);
  };
  const judgeTimes = () => {
    for (const { room, error, startedAt, frozenBefore } of world.page.connects) {
      if (room && (room.retryAt !== null) !== (room.status === "dropped")) world.fault(`${room.status} until ${room.retryAt}`);
      const awake = world.time - startedAt - (world.page.frozenFor - frozenBefore);
      if (!room && !error && awake > SETTLED) world.fault("a connect that does not settle");
    }
  };

  for (let turns = 10 + below(50); turns > 0; turns--) {
    pick(actions)();
    await world.pass(below(pick([10, 300, 5_000])));
    judgeTimes();
  }

  // The net and the server are sound from here on; the browser's WebRTC is not yet.
  await world.pass(100_000);
  Object.assign(world, { trouble: 0, isCut: false });
  world.page.isBroken.webrtc = pick([false, "hangs", "rejects", "late", "throws"]);
  const first = world.page.connect(ADA, () => token(5_000));
  if (below(2)) {
    world.page.connect(ADA, () => token(5_000));
    if (below(2)) first.abort();
    else world.in(below(4_000), first.abort);
  }
  const made = world.page.connects.at(-1);
  await world.pass(SETTLED);
  judgeTimes();
  if (!made.room) world.fault(`a sound server lets nobody in: ${made.error?.code}`);
  world.page.isBroken.webrtc = false;

  // One thing happens to a client that is in. It must come back, whatever its token was at first.
  const happens = pick(["nothing", "restart", "cut", "sleep", "channel", "deaf", "kick"]);
  if (happens === "restart") world.server.restart(5_000);
  if (happens === "cut") [...world.server.connections].forEach((socket) => socket.end(1006));
  if (happens === "sleep") {
    world.isCut = true;
    [...world.server.connections].forEach((socket) => socket.end(1006));
    await world.pass(below(50_000));
    world.page.freeze(300_000);
    world.in(300_000 + below(30_000), () => (world.isCut = false));
    await world.pass(330_000);
  }
  if (happens === "channel") world.page.peers.forEach((peer) => peer.end());
  if (happens === "deaf") {
    world.server.isDeaf = true;
    world.page.peers.forEach((peer) => peer.end());
    await world.pass(below(8_000));
    world.page.wake();
    await world.pass(2_000);
    world.server.isDeaf = false;
  }
  if (happens === "kick" && made.room) kick(world.server.sessions.get(idOf(made)));
  await world.pass(CALM);
  if (happens === "kick") {
    if (made.closing?.reason !== "kicked") world.fault(`put out, and told ${made.closing?.reason}`);
  } else if (made.closing) world.fault(`${happens}: the room closed, ${made.closing.reason}`);

  // Every room that is open has its session, and the server has no other.
  const rooms = open();
  for (const { room } of rooms) {
    if (room.status !== "open") world.fault(`a room that stays ${room.status}`);
    if (room.stats.transport !== "webrtc") world.fault("no channel is offered any more");
  }
  const ids = rooms.map(idOf);
  const there = [...world.server.sessions.keys()];
  if (`${ids.toSorted()}` !== `${there.toSorted()}`) world.fault(`sessions ${there} for rooms of ${ids}`);
  for (const made of rooms) judgeCommands(world, made);

  // A page that is loaded anew goes on with one of them.
  if (rooms.length > 0) {
    const kept = Object.values(world.kept).map((text) => JSON.parse(text).socketId);
    const keeper = rooms.find((made) => kept.includes(idOf(made)));
    if (keeper) {
      world.reload();
      const again = world.page.connect(keeper.identity, () => token(5_000));
      await world.pass(20_000);
      if (!again.room || idOf(again) !== idOf(keeper)) world.fault("a reload is a new player");
      if (world.server.sessions.size !== 1) world.fault(`${world.server.sessions.size} sessions after a reload`);
    } else world.fault(`no room's session is kept, but ${kept}`);
  }

  for (const { room } of open()) room.leave();
  await world.pass(10_000);
  if (world.server.sessions.size > 0) world.fault("a session that nobody has");

  // Who cancels, or leaves at once, is gone at once.
  world.page.isBroken.webrtc = pick([false, "hangs", "rejects", "late", "throws"]);
  const { abort } = world.page.connect(ADA, () => token(5_000), below(2));
  await world.pass(below(pick([300, 5_000])));
  abort();
  await world.pass(1_000);
  if (world.server.sessions.size > 0) world.fault("a session that was cancelled");
  return world.faults;
}

const idOf = ({ room }) => room.players.get(room.me).socketId;

/** What a room sent since it was last let in anew has come, each once and in order. */
function judgeCommands(world, made) {
  const { commands } = world.server.sessions.get(idOf(made)) ?? { commands: [] };
  const mine = commands.filter(([id, epoch]) => id === made.id && epoch === made.epoch);
  const numbers = mine.map(([, , number]) => number);
  const sent = made.sent.flatMap((epoch, number) => (epoch === made.epoch ? [number] : []));
  if (`${numbers}` !== `${sent}`) world.fault(`commands ${numbers} of ${sent}`);
}

test("a client of any page, net and server", async () => {
  const rejections = [];
  const note = (reason) => rejections.push(reason);
  process.on("unhandledRejection", note);
  try {
    for (let seed = only ?? 1; seed <= (only ?? SEEDS); seed++) {
      const faults = await live(seed).catch((error) => [error.stack]);
      assert.deepEqual([...faults, ...rejections], [], `SEED=${seed} node --test test/model.test.js`);
    }
  } finally {
    process.off("unhandledRejection", note);
  }
});
