// Mathematics with the same results on every machine: only the operations that IEEE 754 defines exactly.
// The functions of `Math` differ in their last bits between engines, and between processors.

const { abs, floor, sqrt } = Math;

export const PI = Math.PI;
const HALF_PI = PI / 2;
// π/2 in three parts. The first two have few enough bits that their multiples are exact up to 2²⁰.
const HALF_PI_PARTS = [1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21];
const LN2 = Math.LN2;

// The value of a polynomial, from the highest coefficient to the lowest.
const polynomial = (x, coefficients) => coefficients.reduce((sum, coefficient) => sum * x + coefficient, 0);

// 1/first!, with alternating signs, in steps of two: from the highest power to the lowest.
const alternating = (first, last) => {
  const coefficients = [];
  let factorial = 1;
  for (let n = 1; n <= last; n += 1) {
    factorial *= n;
    if (n >= first && (n - first) % 2 === 0) coefficients.unshift((((n - first) / 2) % 2 ? -1 : 1) / factorial);
  }
  if (first === 0) coefficients.push(1);
  return coefficients;
};
const SIN = alternating(1, 17);
const COS = [...alternating(2, 18).map((coefficient) => -coefficient), 1];
const EXP = Array.from({ length: 15 }, (_, at) => {
  let factorial = 1;
  for (let n = 2; n <= 14 - at; n += 1) factorial *= n;
  return 1 / factorial;
});

const sinNear0 = (x) => x * polynomial(x * x, SIN);
const cosNear0 = (x) => polynomial(x * x, COS);

// The quadrant of an angle, and what is left of the angle within ±π/4.
const reduce = (x) => {
  const turns = floor(x / HALF_PI + 0.5);
  const [first, second, third] = HALF_PI_PARTS;
  return [turns - 4 * floor(turns / 4), x - turns * first - turns * second - turns * third];
};

/** The sine of an angle in radians. Angles beyond a million lose digits. */
export const sin = (x) => {
  const [quadrant, rest] = reduce(x);
  if (rest !== rest) return NaN;
  const value = quadrant % 2 === 0 ? sinNear0(rest) : cosNear0(rest);
  return quadrant < 2 ? value : -value;
};

/** The cosine of an angle in radians. Angles beyond a million lose digits. */
export const cos = (x) => {
  const [quadrant, rest] = reduce(x);
  if (rest !== rest) return NaN;
  const value = quadrant % 2 === 0 ? cosNear0(rest) : sinNear0(rest);
  return quadrant === 0 || quadrant === 3 ? value : -value;
};

/** The tangent of an angle in radians. */
export const tan = (x) => sin(x) / cos(x);

// x - x³/3 + x⁵/5 …, divided by x, as a polynomial of x².
const ATAN = Array.from({ length: 12 }, (_, at) => ((11 - at) % 2 ? -1 : 1) / (2 * (11 - at) + 1));

/** The angle whose tangent is `x`, from -π/2 to π/2. */
export const atan = (x) => {
  if (abs(x) > 1) return (x < 0 ? -HALF_PI : HALF_PI) - atan(1 / x);
  const half = x / (1 + sqrt(1 + x * x));
  const quarter = half / (1 + sqrt(1 + half * half));
  return 4 * quarter * polynomial(quarter * quarter, ATAN);
};

/** The angle of the point (x, y), from -π to π. */
export const atan2 = (y, x) => {
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

/** The length of a vector. */
export const hypot = (...of) => {
  let sum = 0;
  for (const x of of) sum += x * x;
  return sqrt(sum);
};

const scale = (x, exponent) => {
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

/** e to the power of `x`. */
export const exp = (x) => {
  if (x !== x) return NaN;
  if (x > 709.782712893384) return Infinity;
  if (x < -745.1332191019412) return 0;
  const exponent = floor(x / LN2 + 0.5);
  // ln 2 in two parts, so that the rest has its digits.
  const rest = x - exponent * 0.6931471803691238 - exponent * 1.9082149292705877e-10;
  const value = polynomial(rest, EXP);
  // In two steps, because 2¹⁰²⁴ and 2⁻¹⁰⁷⁴ are out of range.
  const half = floor(exponent / 2);
  return scale(scale(value, half), exponent - half);
};

// 2 (s + s³/3 + s⁵/5 …), divided by 2 s, as a polynomial of s².
const LOG = Array.from({ length: 13 }, (_, at) => 1 / (2 * (12 - at) + 1));

/** The natural logarithm. */
export const log = (x) => {
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
  return exponent * 0.6931471803691238 + (2 * s * polynomial(s * s, LOG) + exponent * 1.9082149292705877e-10);
};

/** `base` to the power of `exponent`. Whole exponents up to 2³² are multiplied; others have about 13 digits. */
export const pow = (base, exponent) => {
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
