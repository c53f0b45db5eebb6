// A hash of 60,000 results of rtcade/math, over all their bits: a room and a browser must compute the same.

export const EXPECTED = 2223349762;

export default function hash(math) {
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 4294967296 - 0.5) * 200;
  };
  const number = new Float64Array(1);
  const words = new Uint32Array(number.buffer);
  let sum = 0x811c9dc5;
  const add = (value) => {
    number[0] = Number.isNaN(value) ? 7 : value;
    for (const word of words) sum = Math.imul(sum ^ word, 16777619) >>> 0;
  };
  for (let at = 0; at < 6_000; at += 1) {
    const [x, y] = [next(), next()];
    add(math.sin(x));
    add(math.cos(x));
    add(math.tan(y));
    add(math.atan(x));
    add(math.atan2(x, y));
    add(math.hypot(x, y));
    add(math.exp(x));
    add(math.log(y));
    add(math.pow(x, Math.floor(y / 20)));
    add(math.pow(Math.abs(x), y / 30));
  }
  return sum;
}
