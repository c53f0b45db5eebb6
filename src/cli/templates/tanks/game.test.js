// Run with `rtcade test`: in the engine of the server, over simulated networks. `--seeds 100` runs each test with a
// hundred networks, each of which loses other packets.
import { assert, simulate, test } from "rtcade/test";
import * as game from "./game.js";
import { ARMOR, HEIGHT, SPEED, WIDTH } from "./public/step.js";

const STILL = { x: 0, y: 0, aim: 0, fire: false };

test("a tank is where its inputs have driven it, whatever the network loses", () => {
  const sim = simulate(game, { players: 2, loss: 0.05, delay: 75 });
  const [driver, watcher] = sim.players;
  const before = driver.state[driver.id];
  sim.every(33, 1, () => driver.send({ ...STILL, y: before.y < HEIGHT / 2 ? 1 : -1 }));
  sim.run(1);
  const after = watcher.state[driver.id];
  const driven = Math.abs(after.y - before.y);
  assert(driven > SPEED / 2 && driven < SPEED * 1.1, `it has driven ${driven} units`);
  assert.deepEqual(driver.state[driver.id], after);
});

test("more inputs than ticks make nobody faster", () => {
  const sim = simulate(game, { players: 1 });
  const [driver] = sim.players;
  const before = driver.state[driver.id];
  const y = before.y < HEIGHT / 2 ? 1 : -1;
  sim.every(33, 1, () => {
    for (let times = 0; times < 4; times += 1) driver.send({ ...STILL, y });
  });
  sim.run(1);
  const driven = Math.abs(driver.state[driver.id].y - before.y);
  assert(driven < SPEED * 2, `it has driven ${driven} units in a second`);
});

test("a tank that is hit often enough is destroyed, and comes back", () => {
  const sim = simulate(game, { players: 2, delay: 40 });
  const [shooter, target] = sim.players;
  sim.every(33, 30, () => {
    const [from, to] = [shooter.state[shooter.id], shooter.state[target.id]];
    const aim = Math.atan2(to.y - from.y, to.x - from.x);
    const isStuck = sim.now % 4 < 1;
    shooter.send({ x: isStuck ? Math.sign(WIDTH / 2 - from.x) : Math.cos(aim), y: isStuck ? 0 : Math.sin(aim), aim, fire: true });
    target.send(STILL);
  });
  const destroyed = target.events.filter(({ event }) => event.destroyed);
  assert(destroyed.length > 0, "30 seconds have destroyed nobody");
  assert.equal(shooter.state[shooter.id].kills, destroyed.length);
  sim.run(3);
  assert.equal(target.state[target.id].armor, ARMOR);
});

test("nothing that a player sends stops the game", () => {
  const sim = simulate(game, { players: 2 });
  const [hostile, other] = sim.players;
  const inputs = [null, 1, "x", [], { x: "1", y: NaN }, { x: 1e300, y: -Infinity, aim: {}, fire: 1 }, { __proto__: null }];
  sim.every(33, 2, () => {
    hostile.send(inputs[Math.floor(sim.now * 30) % inputs.length]);
    hostile.command(inputs[Math.floor(sim.now * 30) % inputs.length]);
  });
  sim.run(1);
  const tank = other.state[hostile.id];
  assert([tank.x, tank.y, tank.hull, tank.turret].every(Number.isFinite), JSON.stringify(tank));
});
