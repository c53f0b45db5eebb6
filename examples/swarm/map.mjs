// Writes a map of 5000 × 4000 heights, one byte each: `node map.mjs [FILE]`.

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const WIDTH = 5_000;
const HEIGHT = 4_000;
const WAVES = 14;

const heights = new Float32Array(WIDTH * HEIGHT);
for (let n = 0; n < WAVES; n++) {
  const angle = 2.4 * n;
  const turns = (2 * Math.PI * 1.6 ** n) / 2_400;
  const x = Float32Array.from({ length: WIDTH }, (_, at) => Math.cos(angle) * turns * at + n * n);
  const [sine, cosine] = [x.map(Math.sin), x.map(Math.cos)];
  for (let y = 0; y < HEIGHT; y++) {
    // sin(a + b) = sin a cos b + cos a sin b
    const phase = Math.sin(angle) * turns * y;
    const [a, b] = [0.7 ** n * Math.cos(phase), 0.7 ** n * Math.sin(phase)];
    for (let column = 0, at = y * WIDTH; column < WIDTH; column++, at++) heights[at] += a * sine[column] + b * cosine[column];
  }
}
const bytes = Uint8ClampedArray.from(heights, (height) => 128 + 70 * height);
writeFileSync(process.argv[2] ?? fileURLToPath(new URL("map.bin", import.meta.url)), bytes);
