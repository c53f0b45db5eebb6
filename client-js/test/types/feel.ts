import { connect } from "rtcade";
import { interpolate } from "rtcade/interpolate";
import { predict, type Prediction } from "rtcade/predict";

type Tank = { x: number; y: number; angle: number; name: string; vx: number };
type Input = { turn: number; gas: number };
type State = { tanks: { [player: string]: Tank }; crates: [number, number][]; map: Map<number, Tank> };
type Types = { input: Input; state: State };

const room = await connect<Types>("/r/lobby");
const fields = { x: "lerp", y: "lerp", angle: "angle" } as const;

const own: Prediction<Input, State, Tank> = predict(room, {
  from: ({ tanks }) => tanks[room.me],
  step: (tank, { turn, gas }, dt, { number, isReplay }) => {
    tank.angle += turn * dt;
    tank.x += gas * dt;
    if (!isReplay) own.optimistic({ number, apply: () => {}, confirm: ({ crates }, { tick }) => crates.length > tick, undo: () => {} });
  },
  fields,
  smooth: 80,
  teleported: (before, after) => Math.hypot(after.x - before.x, after.y - before.y) > 100,
});
const number: number = own.send({ turn: 1, gas: 0 });
const sent: number = own.advance(() => ({ turn: 1, gas: 0 })) + own.advance({ turn: 0, gas: 1 });
const x: number | undefined = own.shown()?.x ?? own.value?.x;
console.log(number, sent, x, own.stats.maxError);

const pair = predict(room, {
  from: ({ tanks, crates }) => ({ tank: tanks[room.me], crates }),
  step: (world, { gas }) => ({ ...world, crates: world.crates.map(([x, y]): [number, number] => [x + gas, y]) }),
});
const crate: number | undefined = pair.shown()?.crates[0]?.[0];
pair.stop();

const others = interpolate(room, { from: ({ tanks }) => tanks, fields });
for (const [id, tank] of others.at()) console.log(id, tank.name.length + others.tick + others.delay, crate);
const inMap = interpolate(room, { from: ({ map }) => map, fields: { ...fields, x: { mode: "extrapolate", velocity: "vx" } } });
const byNumber: Tank | undefined = inMap.at().get(7);
const inList = interpolate(room, { from: ({ crates }) => crates, key: ([x]) => `crate ${x}`, fields: { 0: "lerp", 1: { mode: "damped" } } });
const asPair: [number, number] | undefined = inList.at().get("crate 1");
const reckoned = interpolate(room, { from: ({ map }) => map, fields: { x: "reckon" }, step: (tank, dt) => void (tank.x += tank.vx * dt) });
console.log(byNumber, asPair, reckoned.tick);
inMap.stop();

// @ts-expect-error a game without its rule
predict(room, { from: ({ tanks }) => tanks[room.me] });
// @ts-expect-error an input of another shape
own.send({ turn: 1 });
// @ts-expect-error no such mode
predict(room, { from: ({ tanks }) => tanks[room.me], step: () => {}, fields: { x: "lerb" } });
// @ts-expect-error no field is named
interpolate(room, { from: ({ tanks }) => tanks });
// @ts-expect-error no such field
interpolate(room, { from: ({ map }) => map, fields: { z: "lerp" } });
// @ts-expect-error no such mode
interpolate(room, { from: ({ map }) => map, fields: { x: "angel" } });
// @ts-expect-error no such field
interpolate(room, { from: ({ map }) => map, fields: { x: { mode: "extrapolate", velocity: "vz" } } });
