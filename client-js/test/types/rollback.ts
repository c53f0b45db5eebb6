import { connect } from "rtcade";
import { rollback, type Desync } from "rtcade/rollback";

interface World {
  x: Record<number, number>;
}
type Keys = { left: boolean };

const room = await connect("/r/lobby");
const session = rollback<World, Keys>(room, {
  init: () => ({ x: {} }),
  step(world, inputs, tick) {
    for (const [player, { left }] of inputs) world.x[player] = (world.x[player] ?? 0) - Number(left) * tick;
    return world;
  },
  predict: (player: number, last: Keys) => last,
  hash: (world) => Object.keys(world.x).length,
  inputDelay: undefined,
});
session.input({ left: true });
const world: World | undefined = session.update();
const off: () => void = session.on("desync", ({ mine, theirs, hashes }: Desync<World>) => {
  console.log(mine.x, theirs?.x, hashes.mine);
});
off();
session.on("stall", ({ tick, confirmed }) => console.log(tick - confirmed, world));

// @ts-expect-error a game without a step
rollback<World, Keys>(room, { init: () => ({ x: {} }) });
// @ts-expect-error not an input of this game
session.input({ right: true });
// @ts-expect-error no such event
session.on("desynced", () => {});
