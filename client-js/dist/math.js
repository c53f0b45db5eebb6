/*! rtcade: MIT OR Apache-2.0 */

// src/math.js
var { abs, floor, sqrt } = Math;
var PI = Math.PI;
var HALF_PI = PI / 2;
var HALF_PI_PARTS = [1.5707963267341256, 6077100506303966e-26, 20222662487959506e-37];
var LN2 = Math.LN2;
var LN2_FIRST = 0.6931471803691238;
var LN2_REST = 19082149292705877e-26;
var INVERSE_FACTORIALS = [1, 1];
for (let n = 2, factorial = 1; n <= 18; n += 1) {
  factorial *= n;
  INVERSE_FACTORIALS.push(1 / factorial);
}
var [, , f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15, f16, f17, f18] = INVERSE_FACTORIALS;
var sinNear0 = (x) => {
  const q = x * x;
  const rest = ((((((f17 * q - f15) * q + f13) * q - f11) * q + f9) * q - f7) * q + f5) * q - f3;
  return x + x * q * rest;
};
var cosNear0 = (x) => {
  const q = x * x;
  const rest = (((((((f16 - f18 * q) * q - f14) * q + f12) * q - f10) * q + f8) * q - f6) * q + f4) * q - f2;
  return 1 + q * rest;
};
var reduce = (x) => {
  const turns = floor(x / HALF_PI + 0.5);
  const [first, second, third] = HALF_PI_PARTS;
  return [turns - 4 * floor(turns / 4), x - turns * first - turns * second - turns * third];
};
var sin = (x) => {
  const [quadrant, rest] = reduce(x);
  if (rest !== rest) return NaN;
  const value = quadrant % 2 === 0 ? sinNear0(rest) : cosNear0(rest);
  return quadrant < 2 ? value : -value;
};
var cos = (x) => {
  const [quadrant, rest] = reduce(x);
  if (rest !== rest) return NaN;
  const value = quadrant % 2 === 0 ? cosNear0(rest) : sinNear0(rest);
  return quadrant === 0 || quadrant === 3 ? value : -value;
};
var tan = (x) => sin(x) / cos(x);
var atan = (x) => {
  if (abs(x) > 1) return (x < 0 ? -HALF_PI : HALF_PI) - atan(1 / x);
  const half = x / (1 + sqrt(1 + x * x));
  const quarter = half / (1 + sqrt(1 + half * half));
  const q = quarter * quarter;
  const rest = (((((((((1 / 21 - q / 23) * q - 1 / 19) * q + 1 / 17) * q - 1 / 15) * q + 1 / 13) * q - 1 / 11) * q + 1 / 9) * q - 1 / 7) * q + 1 / 5) * q - 1 / 3;
  return 4 * (quarter + quarter * q * rest);
};
var atan2 = (y, x) => {
  if (x !== x || y !== y) return NaN;
  const isBehind = x < 0 || Object.is(x, -0);
  const isBelow = y < 0 || Object.is(y, -0);
  let angle;
  if (abs(x) === abs(y) && x !== 0) angle = PI / 4;
  else if (abs(y) > abs(x)) angle = HALF_PI - atan(abs(x) / abs(y));
  else angle = y === 0 ? 0 : atan(abs(y) / abs(x));
  if (isBehind) angle = PI - angle;
  return isBelow ? -angle : angle;
};
var hypot = (...of) => {
  let sum = 0;
  for (const x of of) sum += x * x;
  return sqrt(sum);
};
var bits = new DataView(new ArrayBuffer(8));
var powerOf2 = (exponent) => {
  bits.setUint32(0, exponent + 1023 << 20);
  bits.setUint32(4, 0);
  return bits.getFloat64(0);
};
var exp = (x) => {
  if (x !== x) return NaN;
  if (x > 709.782712893384) return Infinity;
  if (x < -745.1332191019412) return 0;
  const exponent = floor(x / LN2 + 0.5);
  const r = x - exponent * LN2_FIRST - exponent * LN2_REST;
  const low = ((((f7 * r + f6) * r + f5) * r + f4) * r + f3) * r + f2;
  const high = (((((f14 * r + f13) * r + f12) * r + f11) * r + f10) * r + f9) * r + f8;
  const square = r * r;
  const value = 1 + (r + square * (low + square * square * square * high));
  const half = floor(exponent / 2);
  return value * powerOf2(half) * powerOf2(exponent - half);
};
var log = (x) => {
  if (!(x >= 0)) return NaN;
  if (x === 0) return -Infinity;
  if (x === Infinity) return Infinity;
  const isTiny = x < 22250738585072014e-324;
  bits.setFloat64(0, isTiny ? x * 18014398509481984 : x);
  const head = bits.getUint32(0);
  let exponent = (head >>> 20) - 1023 - (isTiny ? 54 : 0);
  bits.setUint32(0, head & 1048575 | 1023 << 20);
  let part = bits.getFloat64(0);
  if (part > 1.4142135623730951) {
    part /= 2;
    exponent += 1;
  }
  const s = (part - 1) / (part + 1);
  const q = s * s;
  const rest = (((((((((q / 21 + 1 / 19) * q + 1 / 17) * q + 1 / 15) * q + 1 / 13) * q + 1 / 11) * q + 1 / 9) * q + 1 / 7) * q + 1 / 5) * q + 1 / 3) * q;
  return exponent * LN2_FIRST + (2 * s + (2 * s * rest + exponent * LN2_REST));
};
var pow = (base, exponent) => {
  if (floor(exponent) === exponent && abs(exponent) <= 4294967296) {
    let value = 1;
    let factor = base;
    for (let left = abs(exponent); left > 0; left = floor(left / 2)) {
      if (left % 2 === 1) value *= factor;
      factor *= factor;
    }
    return exponent < 0 ? 1 / value : value;
  }
  return exp(exponent * log(base));
};
export {
  PI,
  atan,
  atan2,
  cos,
  exp,
  hypot,
  log,
  pow,
  sin,
  tan
};
//# sourceMappingURL=math.js.map
