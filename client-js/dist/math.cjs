/*! rtcade: MIT OR Apache-2.0 */
var __defProp = Object.defineProperty;
var __getOwnPropDesc = Object.getOwnPropertyDescriptor;
var __getOwnPropNames = Object.getOwnPropertyNames;
var __hasOwnProp = Object.prototype.hasOwnProperty;
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};
var __copyProps = (to, from, except, desc) => {
  if (from && typeof from === "object" || typeof from === "function") {
    for (let key of __getOwnPropNames(from))
      if (!__hasOwnProp.call(to, key) && key !== except)
        __defProp(to, key, { get: () => from[key], enumerable: !(desc = __getOwnPropDesc(from, key)) || desc.enumerable });
  }
  return to;
};
var __toCommonJS = (mod) => __copyProps(__defProp({}, "__esModule", { value: true }), mod);

// src/math.js
var math_exports = {};
__export(math_exports, {
  PI: () => PI,
  atan: () => atan,
  atan2: () => atan2,
  cos: () => cos,
  exp: () => exp,
  hypot: () => hypot,
  log: () => log,
  pow: () => pow,
  sin: () => sin,
  tan: () => tan
});
module.exports = __toCommonJS(math_exports);
var { abs, floor, sqrt } = Math;
var PI = Math.PI;
var HALF_PI = PI / 2;
var HALF_PI_PARTS = [1.5707963267341256, 6077100506303966e-26, 20222662487959506e-37];
var LN2 = Math.LN2;
var polynomial = (x, coefficients) => coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);
var alternating = (first, last) => {
  const coefficients = [];
  let factorial = 1;
  for (let n = 1; n <= last; n += 1) {
    factorial *= n;
    if (n >= first && (n - first) % 2 === 0) coefficients.unshift(((n - first) / 2 % 2 ? -1 : 1) / factorial);
  }
  if (first === 0) coefficients.push(1);
  return coefficients;
};
var SIN = alternating(1, 17);
var COS = [...alternating(2, 18).map((coefficient) => -coefficient), 1];
var EXP = Array.from({ length: 15 }, (_, at) => {
  let factorial = 1;
  for (let n = 2; n <= 14 - at; n += 1) factorial *= n;
  return 1 / factorial;
});
var sinNear0 = (x) => x * polynomial(x * x, SIN);
var cosNear0 = (x) => polynomial(x * x, COS);
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
var ATAN = Array.from({ length: 12 }, (_, at) => ((11 - at) % 2 ? -1 : 1) / (2 * (11 - at) + 1));
var atan = (x) => {
  if (abs(x) > 1) return (x < 0 ? -HALF_PI : HALF_PI) - atan(1 / x);
  const half = x / (1 + sqrt(1 + x * x));
  const quarter = half / (1 + sqrt(1 + half * half));
  return 4 * quarter * polynomial(quarter * quarter, ATAN);
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
var scale = (x, exponent) => {
  let value = x;
  let left = abs(exponent);
  let factor = exponent < 0 ? 0.5 : 2;
  while (left > 0) {
    if (left % 2 === 1) value *= factor;
    factor *= factor;
    left = floor(left / 2);
  }
  return value;
};
var exp = (x) => {
  if (x !== x) return NaN;
  if (x > 709.782712893384) return Infinity;
  if (x < -745.1332191019412) return 0;
  const exponent = floor(x / LN2 + 0.5);
  const rest = x - exponent * 0.6931471803691238 - exponent * 19082149292705877e-26;
  const value = polynomial(rest, EXP);
  const half = floor(exponent / 2);
  return scale(scale(value, half), exponent - half);
};
var LOG = Array.from({ length: 13 }, (_, at) => 1 / (2 * (12 - at) + 1));
var log = (x) => {
  if (!(x >= 0)) return NaN;
  if (x === 0) return -Infinity;
  if (x === Infinity) return Infinity;
  let exponent = 0;
  let part = x;
  for (let step = 512; step >= 1; step /= 2) {
    if (part >= scale(1, step)) {
      part = scale(part, -step);
      exponent += step;
    } else if (part < scale(1, -step) * 2 && part < 1) {
      part = scale(part, step);
      exponent -= step;
    }
  }
  while (part >= 1.4142135623730951) {
    part /= 2;
    exponent += 1;
  }
  while (part < 0.7071067811865476) {
    part *= 2;
    exponent -= 1;
  }
  const s = (part - 1) / (part + 1);
  return exponent * 0.6931471803691238 + (2 * s * polynomial(s * s, LOG) + exponent * 19082149292705877e-26);
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
//# sourceMappingURL=math.cjs.map
