// @ts-check
// What moves a tank: `Arena::step` of rules.rs, bit for bit.

/** @typedef {import("./types.js").Arena} Arena */
/** @typedef {import("./types.js").Body} Body */
/** @typedef {import("./types.js").Input} Input */
/** @typedef {[x: number, y: number]} Point */

export const HEADINGS = 512;

/** @type {(value: number, low: number, high: number) => number} */
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
/** @type {(heading: number) => number} */
const wrapped = (heading) => ((heading % HEADINGS) + HEADINGS) % HEADINGS;

/** @type {(arena: Arena, heading: number) => Point} */
export const direction = (arena, heading) => /** @type {Point} */ (arena.directions[wrapped(Math.round(heading))]);

/** The heading to a point that is so far away. */
/** @type {(dx: number, dy: number) => number} */
export const headingOf = (dx, dy) => wrapped(Math.round((Math.atan2(dy, dx) / (2 * Math.PI)) * HEADINGS));

/** How far to turn from a heading to another, the short way around. */
/** @type {(from: number, to: number) => number} */
export const turnTo = (from, to) => {
  const turned = wrapped(to - wrapped(from));
  return turned < HEADINGS / 2 ? turned : turned - HEADINGS;
};

/**
 * Applies one input. Returns whether the tank has fired.
 * @param {Arena} arena @param {Body} tank @param {Input} input @param {number} dt
 */
export function step(arena, tank, input, dt) {
  // Headings are of 32 bits, as in Rust.
  tank.hull = (tank.hull + Math.sign(input.turn) * arena.turn) | 0;
  tank.turret = (tank.turret + turnTo(tank.turret, input.aim)) | 0;
  const wanted = input.drive < 0 ? (-1 * arena.speed) / 2 : Math.sign(input.drive) * arena.speed;
  const most = arena.acceleration * dt;
  tank.speed += clamp(wanted - tank.speed, -most, most);
  const [dx, dy] = direction(arena, tank.hull);
  tank.x += dx * tank.speed * dt;
  tank.y += dy * tank.speed * dt;
  keepOutOfWalls(arena, tank);
  tank.reload = Math.max(0, tank.reload - 1);
  const fires = input.fire && tank.reload === 0;
  if (fires) tank.reload = arena.reload;
  return fires;
}

/** @param {Arena} arena @param {Body} tank */
function keepOutOfWalls({ walls, radius, width, height }, tank) {
  for (const { left, top, right, bottom } of walls) {
    const dx = tank.x - clamp(tank.x, left, right);
    const dy = tank.y - clamp(tank.y, top, bottom);
    const square = dx * dx + dy * dy;
    if (square > 0 && square < radius * radius) {
      const push = radius / Math.sqrt(square) - 1;
      tank.x += dx * push;
      tank.y += dy * push;
    }
  }
  tank.x = clamp(tank.x, radius, width - radius);
  tank.y = clamp(tank.y, radius, height - radius);
}

/**
 * How far a shot seems to go, by what the page shows: for the picture only, the server judges it.
 * @param {Arena} arena @param {Point} from @param {Point} along @param {Iterable<Body>} others
 */
export function reach({ walls, width, height, radius }, [x, y], [dx, dy], others) {
  /** @type {(at: number, d: number, size: number) => number} */
  const edge = (at, d, size) => (d > 0 ? (size - at) / d : d < 0 ? -at / d : Infinity);
  let far = Math.min(edge(x, dx, width), edge(y, dy, height));
  for (const { left, top, right, bottom } of walls) {
    const near = Math.max(Math.min((left - x) / dx, (right - x) / dx), Math.min((top - y) / dy, (bottom - y) / dy));
    const end = Math.min(Math.max((left - x) / dx, (right - x) / dx), Math.max((top - y) / dy, (bottom - y) / dy));
    if (near > 0 && near <= end) far = Math.min(far, near);
  }
  for (const other of others) {
    const aside = (other.x - x) * dy - (other.y - y) * dx;
    const distance = (other.x - x) * dx + (other.y - y) * dy - Math.sqrt(radius * radius - aside * aside);
    if (distance > 0) far = Math.min(far, distance);
  }
  return far;
}
