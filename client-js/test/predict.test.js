import assert from "node:assert/strict";
import { test } from "node:test";
import { predict } from "../src/predict.js";
import { grant, microtasks, refuse, REPLY } from "./fakes.js";
import { display, match } from "./match.js";

// SEED=17 tries one, PREDICT_SEEDS=200 more of them.
const only = process.env.SEED && Number(process.env.SEED);
const SEEDS = only ? [only] : Array.from({ length: Number(process.env.PREDICT_SEEDS ?? 3) }, (_, n) => n + 1);
const of = (seed) => `SEED=${seed} node --test test/predict.test.js`;

/** Until the first states are there. */
const SETTLED = 2_000;
/** After which all that was sent is taken, and known to be. */
const CALM = 1_000;

/** A tank that turns, drives, rolls on and stays in its field: every step rounds, so that one left out or doubled shows. */
function drive(tank, { turn, gas }, dt) {
  tank.angle += turn * 2.7 * dt;
  tank.speed = (tank.speed + gas * 90 * dt) * 0.97;
  tank.x = Math.max(0, Math.min(1_000, tank.x + Math.cos(tank.angle) * tank.speed * dt));
  tank.y = Math.max(0, Math.min(1_000, tank.y + Math.sin(tank.angle) * tank.speed * dt));
}
const TOP_SPEED = (90 * 0.033) / 0.03;
const newTank = () => ({ x: 500, y: 500, angle: 0, speed: 0 });

/** A game of one tank, that keeps what is true after each input. `before` is called at the beginning of each tick. */
function tanks(tickMs = 33) {
  const game = { tank: newTank(), after: new Map(), before: () => {} };
  game.tick = (number, inputs) => {
    game.before(number);
    for (const { number, input } of inputs) {
      if (game.tank) drive(game.tank, input, tickMs / 1_000);
      game.after.set(number, { ...game.tank });
    }
  };
  game.state = () => ({ players: { 3: game.tank && { ...game.tank } } });
  return game;
}
const own = (room, options) => predict(room, { from: ({ players }) => players[room.me], step: drive, ...options });

/** The hands of a player, which change their mind every twentieth of the times that they are asked. */
function driver({ random }) {
  let input = { turn: 0, gas: 1 };
  return () => {
    if (random.below(20) === 0) input = { turn: random.below(3) - 1, gas: random.below(3) - 1 };
    return input;
  };
}
const exact = { corrections: 0, lastError: 0, maxError: 0, pending: 0 };

for (const [what, net, hz] of [
  ["at 150 ms and 5 % loss both ways", { oneWay: 75, jitter: 30, loss: 0.05 }, 144],
  ["with ticks of 16 ms", { tickMs: 16, oneWay: 75, jitter: 10, loss: 0.05 }, 60],
  ["with ticks of 100 ms", { tickMs: 100, oneWay: 150, jitter: 50, loss: 0.05 }, 144],
  ["over the websocket", { oneWay: 75, jitter: 60, overWebsocket: true }, 60],
]) {
  test(`what only the own inputs move is predicted bit for bit, ${what}`, async () => {
    for (const seed of SEEDS) {
      const game = tanks(net.tickMs);
      const played = await match({ seed, ...net }, game);
      const predicted = new Map();
      const step = (tank, input, dt, { number, isReplay }) => {
        drive(tank, input, dt);
        if (!isReplay) predicted.set(number, { ...tank });
      };
      const tanked = own(played.room, { step });
      const steer = driver(played);
      await played.clock.advance(SETTLED);
      await display(played, hz, 20_000, () => tanked.advance(steer()));
      await played.clock.advance(CALM);
      const { taken } = played.server;
      assert.ok(taken.length > 19_000 / played.room.tickMs, `${taken.length} inputs taken, ${of(seed)}`);
      for (const number of taken) assert.deepEqual(predicted.get(number), game.after.get(number), `input ${number}, ${of(seed)}`);
      assert.deepEqual(tanked.stats, exact, of(seed));
      assert.deepEqual(tanked.value, game.tank, of(seed));
    }
  });
}

test("an input that never arrives is taken back, and only that one", async () => {
  for (const seed of SEEDS) {
    const game = tanks(16);
    const played = await match({ seed, tickMs: 16, oneWay: 75, loss: 0.8 }, game);
    const tanked = own(played.room);
    const steer = driver(played);
    await played.clock.advance(SETTLED);
    const numbers = [];
    await display(played, 60, 10_000, () => numbers.push(tanked.send(steer())));
    played.net.loss = 0;
    await played.clock.advance(CALM);
    const lost = numbers.length - played.server.taken.length;
    assert.ok(lost > 0, `${lost} lost, ${of(seed)}`);
    assert.ok(tanked.stats.corrections > 0, of(seed));
    assert.deepEqual(tanked.value, game.tank, of(seed));
    assert.equal(tanked.stats.pending, 0, of(seed));
  }
});

test("more inputs at once than the client keeps", async () => {
  const game = tanks();
  const played = await match({}, game);
  const tanked = own(played.room);
  await played.clock.advance(SETTLED);
  for (let n = 0; n < 60; n++) tanked.send({ turn: 1, gas: 1 });
  await played.clock.advance(CALM);
  assert.ok(played.server.taken.length < 60);
  assert.deepEqual(tanked.value, game.tank);
});

test("without a connection only the inputs that will be sent are predicted", async () => {
  const game = tanks();
  const played = await match({ overWebsocket: true, oneWay: 30 }, game);
  const { room, clock } = played;
  const tanked = own(room);
  await clock.advance(SETTLED);
  await display(played, 60, 1_000, () => tanked.advance({ turn: 1, gas: 1 }));
  await clock.advance(CALM);
  played.socket.onclose({ code: 1006, reason: "" });
  assert.equal(room.status, "dropped");
  for (let n = 0; n < 50; n++) tanked.send({ turn: 0, gas: 1 });
  assert.equal(tanked.stats.pending, 8);
  const before = { ...tanked.value };
  await clock.advance(250);
  played.socket.onopen?.();
  await microtasks();
  played.attach();
  grant(played, { ...REPLY, resume: "token 2", last: 0, reliableSeq: 1, sdp: undefined });
  assert.equal(room.status, "open");
  await clock.advance(CALM);
  assert.deepEqual([tanked.value, game.tank], [before, before]);
  assert.deepEqual(tanked.stats, exact);
});

test("a push is corrected without a jump", async (t) => {
  const PUSH = 40;
  const HZ = 60;
  const SMOOTH = 100;
  for (const seed of SEEDS) {
    const game = tanks();
    const played = await match({ seed, oneWay: 75, jitter: 30, loss: 0.05 }, game);
    const tanked = own(played.room, { smooth: SMOOTH });
    const steer = driver(played);
    game.before = (number) => {
      if (number % 60 === 0) game.tank.x += game.tank.x > 500 ? -PUSH : PUSH;
    };
    await played.clock.advance(SETTLED);
    // What a critically damped spring does in a frame at most, and the tank itself, which may turn within its tick.
    const frame = 1_000 / HZ;
    const bound = PUSH * (4.74 / SMOOTH / Math.E) * frame + 1.5 * TOP_SPEED * (frame / 1_000);
    let last;
    let largest = 0;
    await display(played, HZ, 20_000, () => {
      tanked.advance(steer());
      const { x, y } = tanked.shown();
      if (last) largest = Math.max(largest, Math.hypot(x - last.x, y - last.y));
      last = { x, y };
    });
    assert.ok(tanked.stats.corrections >= 8, `${tanked.stats.corrections} corrections, ${of(seed)}`);
    assert.ok(Math.abs(tanked.stats.maxError - PUSH) < 1, `${tanked.stats.maxError}, ${of(seed)}`);
    assert.ok(largest < bound && largest > PUSH / 10, `a jump of ${largest}, ${bound} at most, ${of(seed)}`);
    t.diagnostic(`${tanked.stats.corrections} corrections of up to ${tanked.stats.maxError.toFixed(1)}, longest way of a frame ${largest.toFixed(1)}`);
    game.before = () => {};
    await display(played, HZ, 2_000, () => {});
    assert.deepEqual(tanked.value, game.tank, of(seed));
    const { x, y } = tanked.shown();
    assert.ok(Math.hypot(x - tanked.value.x, y - tanked.value.y) < TOP_SPEED * 0.033, "nothing is left but the part of a tick");
  }
});

test("the frame after a key shows it, and motion is even where frames and ticks differ", async () => {
  for (const tickMs of [16, 33, 100]) {
    const glide = (body, { speed }, dt) => ({ x: body.x + speed * dt });
    const body = { x: 0 };
    const game = { tick: (_, inputs) => inputs.forEach(({ input }) => (body.x += (input.speed * tickMs) / 1_000)), state: () => ({ ...body }) };
    const played = await match({ tickMs, jitter: 20 }, game);
    const moved = predict(played.room, { from: (state) => state, step: glide });
    await played.clock.advance(SETTLED);
    let speed = 0;
    const places = [];
    const frame = () => {
      moved.advance({ speed });
      places.push(moved.shown().x);
    };
    await display(played, 144, 500, frame);
    assert.equal(places.at(-1), 0);
    speed = 100;
    places.length = 0;
    await display(played, 144, 2_000, frame);
    assert.ok(places[1] > places[0] && places[0] > 0, `${places.slice(0, 3)}`);
    const steps = places.slice(2).map((x, n) => x - places[n + 1]);
    // The clock of the room may run up to 5 % faster or slower.
    const even = speed / 144;
    assert.ok(Math.min(...steps) > even * 0.94 && Math.max(...steps) < even * 1.06, `${Math.min(...steps)} to ${Math.max(...steps)}, of ${even}`);
  }
});

test("what is drawn is no part of the truth", async () => {
  const game = tanks();
  const played = await match({}, game);
  const tanked = own(played.room);
  await played.clock.advance(SETTLED);
  tanked.advance({ turn: 1, gas: 1 });
  await played.clock.advance(20);
  const before = { ...tanked.value };
  const shown = tanked.shown();
  assert.notEqual(shown.x, before.x);
  shown.x = NaN;
  assert.deepEqual(tanked.value, before);
  assert.equal(tanked.shown(), shown, "the object is used again");
  assert.ok(Number.isFinite(shown.x));
});

test("an input that the page goes on changing is kept as it was sent", async () => {
  const game = tanks();
  const played = await match({}, game);
  const tanked = own(played.room);
  await played.clock.advance(SETTLED);
  const input = { turn: 1, gas: 1 };
  await display(played, 60, 2_000, () => {
    input.turn = -input.turn;
    tanked.advance(input);
  });
  await played.clock.advance(CALM);
  assert.deepEqual(tanked.value, game.tank);
  assert.deepEqual(tanked.stats, exact);
});

test("an entity that dies and comes back", async () => {
  for (const seed of SEEDS) {
    const game = tanks();
    const played = await match({ seed, jitter: 30, loss: 0.05 }, game);
    const tanked = own(played.room);
    const steer = driver(played);
    game.before = (number) => {
      if (number % 60 === 0) game.tank = null;
      if (number % 60 === 20) game.tank = newTank();
    };
    await played.clock.advance(SETTLED);
    let absences = 0;
    await display(played, 60, 10_000, () => {
      tanked.advance(steer());
      const shown = tanked.shown();
      if (tanked.value == null) absences++;
      assert.equal(shown == null, tanked.value == null);
    });
    assert.ok(absences > 50, of(seed));
    game.before = () => {};
    await played.clock.advance(CALM);
    assert.deepEqual(tanked.value, game.tank, of(seed));
  }
});

test("a page that was hidden for a minute sends one input for it", async () => {
  const game = tanks();
  const played = await match({ jitter: 10 }, game);
  const tanked = own(played.room);
  await played.clock.advance(SETTLED);
  await display(played, 60, 1_000, () => tanked.advance({ turn: 0, gas: 1 }));
  await played.clock.advance(60_000);
  assert.equal(tanked.advance({ turn: 0, gas: 1 }), 1);
  await display(played, 60, 1_000, () => tanked.advance({ turn: 1, gas: 1 }));
  await played.clock.advance(CALM);
  assert.deepEqual(tanked.value, game.tank);
  assert.deepEqual(tanked.stats, exact);
});

test("a late frame makes up for its ticks, and asks for each input of them", async () => {
  const played = await match({}, tanks());
  const tanked = own(played.room);
  await played.clock.advance(SETTLED);
  tanked.advance({ turn: 0, gas: 0 });
  const before = Math.floor(played.room.serverTick());
  await played.clock.advance(33 * 5);
  const passed = Math.floor(played.room.serverTick()) - before;
  let asked = 0;
  assert.equal(tanked.advance(() => ({ turn: 0, gas: asked++ })), passed);
  assert.ok(asked === passed && asked >= 4, `${asked}`);
});

test("after a rejoin it begins anew", async () => {
  const game = tanks();
  const played = await match({ overWebsocket: true, oneWay: 20 }, game);
  const { room, clock } = played;
  const tanked = own(room);
  const ended = [];
  await clock.advance(SETTLED);
  await display(played, 60, 1_000, () => tanked.advance({ turn: 1, gas: 1 }));
  tanked.optimistic({ confirm: () => false, within: 1_000, undo: () => ended.push("undone") });
  played.socket.onclose({ code: 1006, reason: "" });
  await clock.advance(250);
  played.socket.onopen?.();
  await microtasks();
  refuse(played, "no_such_session");
  await microtasks();
  grant(played, { ...REPLY, player: 9, tick: 7, inputSeq: 1, sdp: undefined }, "join");
  assert.equal(room.me, 9);
  assert.deepEqual([tanked.value, tanked.stats.pending, ended], [undefined, 0, ["undone"]]);
  assert.equal(tanked.advance({ turn: 0, gas: 0 }), 1);
  assert.equal(tanked.shown(), undefined);
});

test("entities that the own one pushes are predicted with it, bit for bit", async () => {
  const push = (world, { gas }, dt) => {
    world.own.x += gas * 60 * dt;
    for (const crate of world.crates) {
      const overlap = world.own.x + 10 - crate.x;
      if (overlap > 0 && overlap < 20) crate.x += overlap * 0.7;
    }
  };
  for (const seed of SEEDS) {
    const world = { own: { x: 0 }, crates: [{ x: 30 }, { x: 80 }, { x: 300 }] };
    const game = { tick: (_, inputs) => inputs.forEach(({ input }) => push(world, input, 0.033)), state: () => world };
    const played = await match({ seed, jitter: 30, loss: 0.05 }, game);
    const pushed = predict(played.room, { from: (state) => state, step: push });
    await played.clock.advance(SETTLED);
    await display(played, 144, 10_000, () => pushed.advance({ gas: 1 }));
    await played.clock.advance(CALM);
    assert.ok(world.crates[1].x > 200, of(seed));
    assert.deepEqual(pushed.value, world, of(seed));
    assert.deepEqual(pushed.stats, exact, of(seed));
  }
});

test("fields are blended, turned the short way, or taken over", async () => {
  const body = { pose: [0, 3], hp: 8, name: "a" };
  const game = { tick: () => {}, state: () => body };
  const played = await match({}, game);
  const seen = predict(played.room, { from: (state) => state, step: (value) => value, fields: { pose: "lerp", 1: "angle" }, smooth: 200 });
  await played.clock.advance(SETTLED);
  Object.assign(body, { pose: [10, -3], hp: 4, name: "b" });
  await played.clock.advance(150);
  assert.equal(seen.stats.maxError, 10);
  const { pose, hp, name } = seen.shown();
  assert.ok(pose[0] > 0 && pose[0] < 9, `${pose}`);
  assert.ok(pose[1] < -3 && pose[1] > -3.29, `${pose}: by the short way`);
  assert.deepEqual([hp, name], [4, "b"]);
  await played.clock.advance(2_000);
  assert.deepEqual(seen.shown(), { pose: [10, -3], hp: 4, name: "b" });
});

test("a correction is drawn within its time, whatever the display", async () => {
  for (const hz of [30, 60, 144]) {
    const body = { x: 0 };
    const played = await match({ oneWay: 20 }, { tick: () => {}, state: () => ({ ...body }) });
    const seen = predict(played.room, { from: (state) => state, step: () => {}, smooth: 300 });
    await played.clock.advance(SETTLED);
    body.x = 100;
    const shown = [];
    let since;
    await display(played, hz, 1_000, () => {
      const { x } = seen.shown();
      if (seen.value.x === 100) shown.push({ x, after: played.clock.time - (since ??= played.clock.time) });
    });
    const left = 100 - shown.findLast(({ after }) => after <= 300).x;
    assert.ok(left > 1 && left < 10, `${left} left after 300 ms at ${hz} Hz`);
    assert.ok(shown[0].x < 20, `${shown[0].x} in the first frame at ${hz} Hz: it begins from rest`);
    assert.ok(shown.at(-1).x > 99.9 && shown.every(({ x }) => x <= 100));
  }
});

test("what a step adds is blended by the same fields", async () => {
  const turned = (angle) => angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));
  const go = (body, _, dt) => {
    body.x = (body.x + 100 * dt) % 50;
    body.angle = turned(body.angle + 6 * dt);
    body.ammo -= 1;
  };
  const body = { x: 0, angle: 0, ammo: 1_000 };
  const game = { tick: (_, inputs) => inputs.forEach(() => go(body, {}, 0.033)), state: () => ({ ...body }) };
  const played = await match({ jitter: 20 }, game);
  const fields = { x: "lerp", angle: "angle" };
  const teleported = (before, after) => Math.abs(after.x - before.x) > 25;
  const seen = predict(played.room, { from: (state) => state, step: go, fields, teleported });
  await played.clock.advance(SETTLED);
  let last;
  await display(played, 144, 3_000, () => {
    seen.advance({});
    const { x, angle, ammo } = seen.shown();
    assert.equal(ammo, seen.value.ammo, "it is not blended");
    assert.ok(x >= seen.value.x && x - seen.value.x < 3.4, `${x} at ${seen.value.x}`);
    if (last !== undefined) assert.ok(turned(angle - last) > -1e-9 && turned(angle - last) < 0.25, `${angle} after ${last}`);
    last = angle;
  });
});

test("inputs that nothing acknowledges are kept to a limit", async () => {
  const played = await match({}, tanks());
  const tanked = own(played.room);
  await played.clock.advance(SETTLED);
  played.net.isCut = true;
  for (let n = 0; n < 1_000; n++) tanked.send({ turn: 1, gas: 1 });
  assert.equal(tanked.stats.pending, 256);
});

test("a teleport is not blended, where the game tells it", async () => {
  const body = { x: 0, lives: 3 };
  const played = await match({}, { tick: () => {}, state: () => ({ ...body }) });
  const teleported = (before, after) => before.lives !== after.lives;
  const seen = predict(played.room, { from: (state) => state, step: () => {}, teleported, smooth: 1_000 });
  await played.clock.advance(SETTLED);
  const shown = [];
  body.x = 50;
  await display(played, 60, 200, () => shown.push(seen.shown().x));
  assert.ok(shown.at(-1) > 0 && shown.at(-1) < 50);
  Object.assign(body, { x: 500, lives: 2 });
  shown.length = 0;
  await display(played, 60, 200, () => shown.push(seen.shown().x));
  assert.ok(shown.every((x) => x < 50 || x === 500), `${shown}`);
  assert.equal(shown.at(-1), 500);
});

test("a value may be a number, and a step may give a new one", async () => {
  let sum = 0;
  const game = { tick: (_, inputs) => inputs.forEach(({ input }) => (sum = sum * 0.9 + input)), state: () => sum };
  const played = await match({ jitter: 30, loss: 0.05 }, game);
  const summed = predict(played.room, { from: (state) => state, step: (value, input) => value * 0.9 + input });
  await played.clock.advance(SETTLED);
  await display(played, 60, 2_000, () => summed.advance(played.chance));
  await played.clock.advance(CALM);
  assert.equal(summed.value, sum);
  assert.deepEqual(summed.stats, exact);
});

test("an optimistic event is settled by the state that confirms it, and taken back by the one that does not", async () => {
  for (const seed of SEEDS) {
    // The server takes every third shot for a miss.
    const hits = [];
    const state = () => ({ x: 0, hits });
    const game = { tick: (_, inputs) => inputs.forEach(({ number, input }) => input.fire && number % 3 && hits.push(number)), state };
    const played = await match({ seed, oneWay: 75, jitter: 30, loss: 0.05 }, game);
    const log = [];
    const shots = predict(played.room, {
      from: ({ x }) => ({ x }),
      step: (_, { fire }, __, { number, isReplay }) => {
        if (!fire || isReplay) return;
        shots.optimistic({
          apply: () => log.push([number, "applied"]),
          confirm: ({ hits }) => hits.includes(number),
          settled: () => log.push([number, "settled"]),
          undo: () => log.push([number, "undone"]),
        });
      },
    });
    await played.clock.advance(SETTLED);
    let frames = 0;
    await display(played, 60, 5_000, () => shots.advance({ fire: frames++ % 10 === 0 }));
    await played.clock.advance(CALM);
    const of3 = (how) => log.filter(([, what]) => what === how).map(([number]) => number);
    const applied = of3("applied");
    assert.ok(applied.length > 5, of(seed));
    assert.equal(new Set(applied).size, applied.length, "once each, however often it is applied again");
    assert.deepEqual(of3("settled"), hits, of(seed));
    assert.deepEqual(of3("undone"), applied.filter((number) => number % 3 === 0), of(seed));
  }
});

test("an optimistic event waits as long as it was told, and can be settled by hand", async () => {
  const played = await match({ oneWay: 20 }, { tick: () => {}, state: () => ({ x: 0 }) });
  const shots = predict(played.room, { from: (state) => state, step: () => {} });
  await played.clock.advance(SETTLED);
  const log = [];
  const watch = (name, more) => shots.optimistic({ ...more, settled: () => log.push(`${name} settled`), undo: () => log.push(`${name} undone`) });
  shots.send({});
  const byHand = watch("by hand", { within: 30 });
  watch("late", { within: 30 });
  watch("of an input to come", { number: 2 });
  await played.clock.advance(500);
  byHand.settle();
  byHand.undo();
  assert.deepEqual(log, ["by hand settled"]);
  await played.clock.advance(1_000);
  assert.deepEqual(log, ["by hand settled", "late undone"]);
  shots.send({});
  await played.clock.advance(500);
  assert.deepEqual(log.splice(0), ["by hand settled", "late undone", "of an input to come undone"]);
  shots.send({});
  watch("of a room that is left");
  played.room.leave();
  assert.deepEqual(log, ["of a room that is left undone"]);
  assert.equal(shots.send({}), 0);
  assert.equal(shots.stats.pending, 1);
});

test("what is sent but can't be is neither kept nor applied", async () => {
  const played = await match({}, tanks());
  const tanked = own(played.room);
  await played.clock.advance(SETTLED);
  assert.throws(() => tanked.send({ turn: () => {}, gas: 1 }), { code: "bad_value" });
  assert.deepEqual([tanked.stats.pending, tanked.value], [0, newTank()]);
});

test("it stops", async () => {
  const played = await match({}, tanks());
  const tanked = own(played.room);
  await played.clock.advance(SETTLED);
  const { value } = tanked;
  tanked.stop();
  await played.clock.advance(CALM);
  assert.equal(tanked.value, value);
});

test("a rule that is missing is an error in words", () => {
  const room = { on: () => () => {} };
  const from = () => {};
  assert.throws(() => predict(room, { from }), { name: "TypeError", message: /needs `step`/ });
  assert.throws(() => predict(room, { step: from }), { name: "TypeError", message: /needs `from`/ });
  assert.throws(() => predict(room), { name: "TypeError" });
});
