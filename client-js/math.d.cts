/**
 * Mathematics with the same results on every machine and in every engine, to the last bit: for rules that a server and a
 * browser both compute, and for lockstep and rollback games. `Math` promises that only for the four operations, `abs`,
 * `floor`, `ceil`, `round`, `trunc`, `min`, `max`, `sign`, `fround` and `sqrt`.
 *
 * The results differ from the exact ones by at most a few units of the last place, except where it says otherwise.
 */

/** The ratio of a circle's circumference to its diameter. */
export const PI: number;
/** The sine of an angle in radians. Angles beyond a million lose digits. */
export function sin(x: number): number;
/** The cosine of an angle in radians. Angles beyond a million lose digits. */
export function cos(x: number): number;
/** The tangent of an angle in radians. */
export function tan(x: number): number;
/** The angle whose tangent is `x`, from -π/2 to π/2. */
export function atan(x: number): number;
/** The angle of the point (x, y), from -π to π. */
export function atan2(y: number, x: number): number;
/** The length of a vector. Its squares must not exceed the range of numbers. */
export function hypot(...of: number[]): number;
/** e to the power of `x`. */
export function exp(x: number): number;
/** The natural logarithm. */
export function log(x: number): number;
/** `base` to the power of `exponent`. Whole exponents up to 2³² are multiplied; others have about 13 digits. */
export function pow(base: number, exponent: number): number;
