// Run with `rtcade test`: the rules by themselves, in the engine of the server.
import { assert, simulate, test } from "rtcade/test";
import * as game from "./game.js";
import { init, step } from "./public/step.js";

const input = (random) => (random() < 0.1 ? "anything" : [random() * 200 - 100, random() * 200 - 100]);

test("the same inputs make the same world", () => {
  const play = () => {
    let seed = 7;
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    let world = init();
    for (let tick = 0; tick < 2_000; tick += 1) {
      const next = structuredCopy(world);
      world = step(next, new Map([[1, input(random)], [2, input(random)]])) ?? next;
    }
    return world;
  };
  assert.deepEqual(play(), play());
});

test("a puck stays on the field", () => {
  let world = init();
  for (let tick = 0; tick < 5_000; tick += 1) {
    const next = structuredCopy(world);
    world = step(next, new Map([[1, input(Math.random)], [2, input(Math.random)]])) ?? next;
    const { x, y } = world.puck;
    assert(Math.abs(x) <= 50 && Math.abs(y) <= 100, `tick ${tick}: the puck is at ${x}, ${y}`);
  }
});

test("a ninth player is refused", () => {
  const sim = simulate(game, { players: 9 });
  assert.deepEqual(sim.players.filter(({ over }) => over).map(({ over }) => over), ["This room is full: open another one."]);
});

/** A world is plain data. */
const structuredCopy = (world) => JSON.parse(JSON.stringify(world));
