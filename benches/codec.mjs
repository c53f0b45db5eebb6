// How long the codec takes for what a game reads and writes most, as a multiple of the time of @msgpack/msgpack in the
// same process: the median of runs that take turns.
import { createRequire } from "node:module";
import { decode, encode } from "../client-js/src/msgpack.js";

const reference = createRequire(new URL("../client-js/package.json", import.meta.url))("@msgpack/msgpack");

const RUNS = 41;
const RUN_MS = 20;

const players = Array.from({ length: 50 }, (_, player) => ({
  player,
  name: `Player ${player}`,
  x: player * 31.7,
  y: player * 17.3,
  direction: player / 8,
  health: 100 - player,
  score: player * 1000,
  isAlive: player % 3 > 0,
}));
const maps = reference.encode({ tick: 123_456, players });
const arrays = reference.encode(players.map(({ player, x, y, health, score }) => [player, x | 0, y | 0, health, score]));
const input = { x: 1, y: -1, aim: 0.3, fire: true };
const flatInput = [1, -1, 200, 3];

const cases = {
  "decode 50 players as maps": [() => decode(maps, 16, maps.length), () => reference.decode(maps)],
  "decode 50 players as arrays": [() => decode(arrays, 16, arrays.length), () => reference.decode(arrays)],
  "encode an input, a map": [() => encode(input, 512), () => reference.encode(input)],
  "encode an input, an array": [() => encode(flatInput, 512), () => reference.encode(flatInput)],
};

// The process's own time, which other programs on the machine don't take part in.
const cpuMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

function perCall(action) {
  const start = cpuMs();
  let calls = 0;
  do for (let n = 0; n < 50; n++, calls++) action();
  while (cpuMs() - start < RUN_MS);
  return (cpuMs() - start) / calls;
}

for (const [name, [ours, theirs]] of Object.entries(cases)) {
  const ratios = Array.from({ length: RUNS }, () => perCall(ours) / perCall(theirs)).sort((a, b) => a - b);
  console.log(`${name}: ${ratios[RUNS >> 1].toFixed(2)} of the time of @msgpack/msgpack`);
}
