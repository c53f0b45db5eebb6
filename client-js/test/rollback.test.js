import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { rollback } from "../src/rollback.js";
import { Relay } from "./relay.js";
import { tab } from "./fakes.js";
import { randomBytes } from "./vectors.js";

const SEEDS = Number(process.env.SEEDS ?? 6);
const INPUT_DELAY = 2;
/** 150 ms there and back, and 5 % lost each way. */
const FAR = { oneWay: 75, jitter: 4, loss: 0.05 };
const NEAR = { oneWay: 10, jitter: 2, loss: 0 };

/** Whatever differs once, differs for good. */
const game = {
  init: () => ({ ticks: 0, mix: 1, players: {} }),
  step(world, inputs, tick) {
    world.ticks++;
    const players = {};
    for (const [player, input] of inputs) {
      const { x = 0 } = world.players[player] ?? {};
      players[player] = { x: x + Number(input ?? 0), input };
      world.mix = (Math.imul(world.mix ^ (players[player].x + 31 * player + tick), 0x01000193) >>> 0) % 0xffffffff;
    }
    world.players = players;
    return world;
  },
};

/** Plays in a page: `session`, and what was seen: worlds by confirmed tick, presented ticks, and events. */
function play(page, { onFrame = () => {}, ...options } = {}) {
  const seen = { page, confirmed: new Map(), presented: [], events: [], worlds: new Map(), steps: 0, mostSteps: 0 };
  const session = rollback(page.room, {
    ...game,
    inputDelay: INPUT_DELAY,
    hashEvery: 1,
    hash(world) {
      const text = JSON.stringify(world);
      seen.confirmed.set(session.confirmed, text);
      return text.length * 0x1000000 + world.mix % 0x1000000;
    },
    ...options,
    step(world, inputs, tick) {
      seen.steps = page.relay.time === seen.steppedAt ? seen.steps + 1 : 1;
      seen.steppedAt = page.relay.time;
      seen.mostSteps = Math.max(seen.mostSteps, seen.steps);
      return (options.step ?? game.step)(world, inputs, tick);
    },
  });
  for (const type of ["sync", "desync", "stall", "recover"]) session.on(type, (detail) => seen.events.push([type, detail]));
  const frame = () => {
    onFrame(session);
    session.update();
    seen.worlds.set(session.confirmed, session.confirmedWorld);
    if (session.tick !== undefined) seen.presented.push({ at: page.relay.time, tick: session.tick, world: session.world });
  };
  page.show(frame);
  return Object.assign(seen, { session, frame, of: (type) => seen.events.filter(([other]) => other === type).map(([, detail]) => detail) });
}

/** A player who changes their mind every few ticks. */
function restless(seed) {
  const random = randomBytes(seed);
  let until = 0;
  return (session) => {
    if (session.tick < until) return;
    until = (session.tick ?? 0) + 1 + random.below(9);
    session.input(random.below(5));
  };
}

function agree(players, least) {
  const common = [...players[0].confirmed.keys()].filter((tick) => players.every(({ confirmed }) => confirmed.has(tick)));
  assert.ok(common.length >= least, `${common.length} ticks were confirmed by all, of ${least}`);
  for (const tick of common)
    for (const { confirmed } of players) assert.equal(confirmed.get(tick), players[0].confirmed.get(tick), `tick ${tick}`);
  for (const { of } of players) assert.deepEqual(of("desync"), []);
}

/** As many pages as paths, each with the world. */
async function gather(relay, paths, options = () => ({})) {
  const players = [];
  for (const [index, path] of paths.entries()) {
    const page = await relay.join(path);
    players.push(play(page, { onFrame: restless(index + 7), ...options(index) }));
    await relay.pass(1_500);
  }
  return players;
}

for (let seed = 1; seed <= SEEDS; seed++) {
  test(`all worlds are equal at each confirmed tick, seed ${seed}`, async () => {
    const relay = new Relay(seed);
    const players = await gather(relay, [NEAR, FAR, { oneWay: 40, jitter: 30, loss: 0.1 }]);
    await relay.pass(20_000);
    agree(players, 500);
    for (const { session } of players) assert.equal(session.world.players[3] !== undefined, true, "all play");
    assert.ok(players.some(({ session }) => session.stats.rollbacks > 0));
    for (const { session } of players) assert.ok(session.stats.deepest <= 8, `${session.stats.deepest} ticks rolled back`);
  });

  test(`the own input is shown after ${INPUT_DELAY} ticks, seed ${seed}`, async () => {
    const relay = new Relay(seed);
    const pressed = [];
    const random = randomBytes(seed);
    let until = 0;
    const press = (session) => {
      if (session.tick === undefined || session.tick < until) return;
      until = session.tick + 4 + random.below(9);
      pressed.push(session.tick);
      session.input(1_000 + session.tick);
    };
    const [, own] = await gather(relay, [NEAR, FAR], (index) => (index === 1 ? { onFrame: press } : {}));
    await relay.pass(20_000);
    const shown = new Map();
    for (const { tick, world } of own.presented) {
      const { input } = world.players[own.session.world && own.page.room.me] ?? {};
      if (!shown.has(input)) shown.set(input, tick);
    }
    const settled = pressed.slice(3, -2);
    assert.ok(settled.length > 40, `${settled.length} presses`);
    // `update` begins the tick after the one that was shown at the press.
    for (const tick of settled) assert.equal(shown.get(1_000 + tick), tick + 1 + INPUT_DELAY);
  });

  test(`the present keeps the room's time, seed ${seed}`, async () => {
    const relay = new Relay(seed);
    const [, far] = await gather(relay, [NEAR, FAR]);
    await relay.pass(2_000);
    const first = far.presented.length;
    await relay.pass(20_000);
    const presented = far.presented.slice(first);
    for (const [index, { tick }] of presented.slice(1).entries())
      assert.ok([0, 1].includes(tick - presented[index].tick), `from ${presented[index].tick} to ${tick}`);
    const { at, tick } = presented.at(-1);
    const ticks = tick - presented[0].tick;
    assert.ok(Math.abs(ticks - (at - presented[0].at) / relay.tickMs) < 3, `${ticks} ticks`);
    assert.ok(far.of("stall").length < 3, `${far.of("stall").length} stalls`);
    assert.ok(far.session.stats.late < 20, `${far.session.stats.late} own inputs were late`);
  });
}

test("a page that computes otherwise is reported with both states", async () => {
  const relay = new Relay(1);
  let wrongAt = Infinity;
  const options = (index) => ({
    hashEvery: 10,
    hash: undefined,
    step(world, inputs, tick) {
      const next = game.step(world, inputs, tick);
      if (index === 1 && tick === wrongAt) next.mix++;
      return next;
    },
  });
  const players = await gather(relay, [NEAR, FAR], options);
  wrongAt = players[0].session.confirmed + 50;
  await relay.pass(6_000);
  const [[mine], [theirs]] = players.map(({ of }) => of("desync"));
  assert.equal(mine.tick, Math.ceil(wrongAt / 10) * 10);
  assert.equal(mine.tick, theirs.tick);
  assert.deepEqual([mine.player, theirs.player], [2, 1]);
  assert.notDeepEqual(mine.mine, mine.theirs);
  assert.deepEqual(mine.mine, theirs.theirs);
  assert.deepEqual(mine.theirs, theirs.mine);
  assert.equal(mine.mine.ticks, mine.theirs.ticks);
  assert.notEqual(mine.hashes.mine, mine.hashes.theirs);
  for (const { of } of players) assert.equal(of("desync").length, 1, "once");

  // The player with the lowest number is the one to follow.
  for (const { session } of players) session.resync();
  assert.deepEqual(players.map(({ session }) => session.status), ["running", "syncing"]);
  await relay.pass(4_000);
  assert.equal(players[1].session.status, "running");
  const [mines, theirss] = players.map(({ worlds }) => worlds);
  const common = [...mines.keys()].filter((tick) => theirss.has(tick)).slice(-30);
  assert.equal(common.length, 30);
  for (const tick of common) assert.deepEqual(mines.get(tick), theirss.get(tick));
  for (const { of } of players) assert.equal(of("desync").length, 1, "no more");
});

test("a page that is cut off stalls at the limit of prediction, and catches up in bounded steps", async () => {
  const relay = new Relay(2);
  const players = await gather(relay, [NEAR, FAR]);
  await relay.pass(3_000);
  const [, far] = players;
  far.page.cut();
  await relay.pass(8_000);
  const { session } = far;
  assert.equal(session.status, "stalled");
  assert.equal(session.tick, session.confirmed + 8);
  assert.equal(far.of("stall").length, 1);
  assert.deepEqual(far.of("stall")[0], { tick: session.tick, confirmed: session.confirmed });
  far.mostSteps = 0;
  far.page.mend();
  await relay.pass(8_000);
  assert.equal(session.status, "running");
  assert.equal(far.of("recover").length, far.of("stall").length);
  assert.ok(far.mostSteps <= 20, `${far.mostSteps} steps at once`);
  assert.deepEqual(far.of("sync").length, 1, "no tick was lost");
  assert.ok(session.tick - players[0].session.tick < 6);
  agree(players, 150);
});

test("predicted inputs that come true cost no rollback", async () => {
  const relay = new Relay(3);
  const players = await gather(relay, [FAR, FAR], () => ({ onFrame: (session) => session.input(1) }));
  await relay.pass(2_000);
  const before = players.map(({ session }) => session.stats.rollbacks);
  await relay.pass(10_000);
  assert.deepEqual(players.map(({ session }) => session.stats.rollbacks), before);
});

test("over a quick path the input delay covers the way of all inputs", async () => {
  const relay = new Relay(4);
  const players = await gather(relay, [NEAR, NEAR]);
  await relay.pass(2_000);
  const before = players.map(({ session }) => session.stats.rollbacks);
  await relay.pass(10_000);
  assert.deepEqual(players.map(({ session }) => session.stats.rollbacks), before);
});

test("who loses much sends earlier", async () => {
  const relay = new Relay(5);
  const lossy = { oneWay: 30, jitter: 2, loss: 0.25 };
  const [, { session }] = await gather(relay, [NEAR, lossy]);
  await relay.pass(10_000);
  const { late } = session.stats;
  await relay.pass(20_000);
  const share = (session.stats.late - late) / (20_000 / relay.tickMs);
  assert.ok(share < 0.03, `${share} of the inputs were late`);
});

test("on a path too long for the limit of prediction inputs are shown later instead of taken back", async () => {
  const relay = new Relay(6);
  const players = await gather(relay, [NEAR, { oneWay: 200, jitter: 4, loss: 0.02 }]);
  const [, { session, of }] = players;
  await relay.pass(10_000);
  const { late } = session.stats;
  const stalls = of("stall").length;
  await relay.pass(20_000);
  assert.ok(session.stats.delay > INPUT_DELAY);
  assert.ok(session.stats.late - late < 40, `${session.stats.late - late} of 600 inputs were late`);
  assert.ok(of("stall").length - stalls < 5, `${of("stall").length - stalls} stalls`);
  agree(players, 500);
});

describe("who comes and goes", () => {
  test("a large world comes to a page that joins in the middle, and to it alone", async () => {
    const relay = new Relay(5);
    const init = () => ({ ...game.init(), map: Array.from({ length: 1_500 }, (_, n) => n * 7), zero: -0, odd: NaN, far: -Infinity, name: "Zoë 🦊\n" });
    const players = await gather(relay, [NEAR, FAR], () => ({ init }));
    await relay.pass(4_000);
    const page = await relay.join(FAR);
    players.push(play(page, { onFrame: restless(99), init: () => ({}) }));
    await relay.pass(8_000);
    const { world } = players[2].session;
    assert.ok(Object.is(world.zero, -0) && Number.isNaN(world.odd) && world.far === -Infinity);
    assert.equal(world.name, "Zoë 🦊\n");
    agree(players, 60);
    for (const { of } of players) assert.equal(of("sync").length, 1);
  });

  test("where the player who sends the world leaves, another does", async () => {
    const relay = new Relay(6);
    const init = () => ({ ...game.init(), map: Array.from({ length: 1_500 }, (_, n) => n * 7) });
    const players = await gather(relay, [NEAR, NEAR, FAR], () => ({ init }));
    await relay.pass(2_000);
    const late = play(await relay.join(NEAR), { onFrame: restless(99) });
    await relay.pass(300);
    assert.equal(late.session.status, "syncing");
    players[0].page.leave();
    await relay.pass(8_000);
    assert.equal(late.session.status, "running");
    agree([...players.slice(1), late], 60);
  });

  test("two who join at once have one world", async () => {
    for (let seed = 1; seed <= SEEDS; seed++) {
      const relay = new Relay(seed);
      const pages = await Promise.all([relay.join(FAR), relay.join(FAR)]);
      const players = pages.map((page, index) => play(page, { onFrame: restless(index) }));
      await relay.pass(8_000);
      agree(players, 100);
    }
  });

  test("who leaves is out of the inputs at the same tick everywhere", async () => {
    const relay = new Relay(7);
    const players = await gather(relay, [NEAR, FAR, FAR]);
    await relay.pass(2_000);
    players[1].page.leave();
    await relay.pass(4_000);
    const rest = [players[0], players[2]];
    for (const { session } of rest) assert.deepEqual(Object.keys(session.world.players), ["1", "3"]);
    agree(rest, 150);
  });

  test("nobody is taken for gone whose join is told later than their inputs", async () => {
    const relay = new Relay(7);
    const players = await gather(relay, [{ ...NEAR }, NEAR]);
    players[0].page.path.reliableLag = 1_500;
    const messages = [];
    players[0].page.room.on("tick", ({ inputs }) => messages.push(...inputs.map(({ input }) => input)));
    players.push(play(await relay.join(NEAR), { onFrame: restless(5) }));
    await relay.pass(4_000);
    assert.ok(messages.some((message) => message.part), "the world was sent");
    assert.ok(messages.every((message) => message.left === undefined));
    agree(players, 60);
  });

  test("a reloaded page gets its own game back from the others", async () => {
    const relay = new Relay(8);
    const kept = {};
    const first = play(await relay.join(NEAR, { storage: tab(kept) }), { onFrame: restless(1) });
    await relay.pass(500);
    const second = play(await relay.join(FAR), { onFrame: restless(2) });
    await relay.pass(4_000);
    first.page.unload();
    let begun = 0;
    const init = () => (begun++, game.init());
    const again = play(await relay.join(NEAR, { storage: tab(kept) }), { onFrame: restless(3), init });
    assert.equal(again.page.room.me, first.page.room.me);
    await relay.pass(6_000);
    assert.equal(begun, 0, "the other has the world");
    agree([second, again], 100);
    assert.deepEqual(Object.keys(again.session.world.players), ["1", "2"]);
  });

  test("a hidden page plays on, and shows the present when it is back", async () => {
    const relay = new Relay(9);
    const players = await gather(relay, [NEAR, FAR]);
    await relay.pass(2_000);
    const [, hidden] = players;
    hidden.page.hide();
    await relay.pass(20_000);
    assert.ok(players[0].session.tick - hidden.session.tick < 12, "it was not left behind");
    hidden.page.show(hidden.frame);
    await relay.pass(1_000);
    assert.ok(players[0].session.tick - hidden.session.tick < 6);
    agree(players, 500);
  });

  test("a page that has lost ticks for good takes the world of another", async () => {
    const relay = new Relay(10);
    const players = await gather(relay, [NEAR, FAR]);
    await relay.pass(2_000);
    const [, lost] = players;
    const errors = [];
    lost.page.room.on("error", ({ code }) => errors.push(code));
    lost.page.cut();
    await relay.pass(14_000);
    lost.page.mend();
    await relay.pass(8_000);
    assert.ok(errors.includes("ticks_lost"), `${errors}`);
    assert.equal(lost.session.status, "running");
    assert.equal(lost.of("sync").length, 2);
    agree(players, 150);
  });

  test("after a restart of the server all begin one game anew", async () => {
    const relay = new Relay(14);
    const players = await gather(relay, [NEAR, FAR]);
    await relay.pass(3_000);
    const { ticks } = players[0].session.world;
    for (const { confirmed } of players) confirmed.clear();
    relay.restart();
    await relay.pass(20_000);
    for (const { session, of } of players) {
      assert.equal(session.status, "running");
      assert.equal(of("sync").length, 2);
      assert.ok(ticks < 400 && session.world.ticks === session.tick - players[0].of("sync")[1].tick);
    }
    agree(players, 200);
  });

  test("a player who sends no inputs watches", async () => {
    const relay = new Relay(11);
    const players = await gather(relay, [NEAR, FAR], (index) => (index === 1 ? { onFrame: () => {} } : {}));
    await relay.pass(3_000);
    for (const { session } of players) assert.deepEqual(Object.keys(session.world.players), ["1"]);
    agree(players, 60);
  });
});

for (let seed = 1; seed <= SEEDS; seed++) {
  test(`through joins, leaves, outages and hidden pages all have one world, seed ${seed}`, async () => {
    const relay = new Relay(seed);
    const { below } = relay;
    const players = [];
    for (let turn = 0; turn < 25; turn++) {
      const turns = ["join", "leave", "cut", "hide", "wait"];
      const turnOf = players.length < 2 ? "join" : turns[below(turns.length)];
      const one = players[below(players.length || 1)];
      if (turnOf === "join" && players.length < 5) {
        const page = await relay.join({ oneWay: 5 + below(80), jitter: 1 + below(20), loss: below(8) / 100 });
        players.push(play(page, { onFrame: restless(turn + 1) }));
      }
      if (turnOf === "leave" && players.length > 2) players.splice(players.indexOf(one), 1)[0].page.leave();
      if (turnOf === "cut") {
        one.page.cut();
        relay.in(below(6_000), () => one.page.mend());
      }
      if (turnOf === "hide") {
        one.page.hide();
        relay.in(below(6_000), () => one.page.show(one.frame));
      }
      await relay.pass(below(2_000));
    }
    await relay.pass(25_000);
    for (const { session } of players) assert.equal(session.status, "running");
    agree(players, 300);
    const present = players.map(({ session }) => Object.keys(session.confirmedWorld.players).join());
    assert.equal(new Set(present).size, 1, `${present}`);
    assert.equal(present[0], players.map(({ page }) => page.room.me).join());
  });
}

test("what other pages send that is no message of a session costs nobody else anything", async () => {
  const relay = new Relay(12);
  const players = await gather(relay, [NEAR, FAR]);
  const { room } = await relay.join(NEAR);
  const future = players[0].session.confirmed + 1e6;
  for (const nonsense of [
    null, 7, "x", [], [1], [1, 2, 3], ["a", 1], [1.5, 1], [NaN, 1], [1, new Uint8Array(3)], [1, { "#": "x" }], [future, 1],
    { ask: null }, { ask: "x" }, { ask: -1 }, { left: {} }, { left: 9 }, { hash: 1 }, { hash: [] }, { hash: [1e9, 1] }, { hash: [null, {}] },
    { part: null }, { part: 1 }, { part: [0, 1e9, "{}"] }, { part: [0, 1, {}] }, { part: [0, 1, "{"] }, { part: [0, 1, "null"] },
    { part: [0, 1, JSON.stringify({ tick: 1, world: null, players: 1, early: 2 })] }, { part: [1, 2, "x"] },
  ]) {
    room.send(nonsense);
    await relay.pass(40);
  }
  await relay.pass(3_000);
  for (const { session } of players) assert.equal(session.status, "running");
  agree(players, 60);
});

test("who asks for the world again and again gets it once at a time", async () => {
  const relay = new Relay(13);
  const init = () => ({ ...game.init(), map: Array.from({ length: 1_500 }, (_, n) => n * 7) });
  const [player] = await gather(relay, [NEAR], () => ({ init }));
  const { room } = await relay.join(NEAR);
  let parts = 0;
  room.on("tick", ({ inputs }) => (parts += inputs.filter(({ input }) => input.part).length));
  for (let n = 0; n < 40; n++) {
    room.send({ ask: n });
    await relay.pass(40);
  }
  await relay.pass(3_000);
  assert.ok(parts > 20, `${parts} parts`);
  parts = 0;
  await relay.pass(2_000);
  assert.equal(parts, 0);
  assert.equal(player.session.status, "running");
});

test("what can't be shared is said at once", () => {
  const room = { players: new Map([[1, {}]]), me: 1, tickMs: 33, on: () => () => {}, send: () => 1 };
  assert.throws(() => rollback(room, { init: game.init }), /TypeError: rollback: pass a function as options.step/);
  assert.throws(() => rollback(room, { step: game.step }), /options.init/);
});
