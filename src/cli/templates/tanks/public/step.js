// The rules that the server and every page compute. Both import this very file: a page moves its own tank at once, and
// the state that comes later from the server is the same, bit for bit. Browsers differ in the last digits of Math.cos
// and the like; the functions of rtcade/math have the same results everywhere.
import { atan2, cos, sin } from "rtcade/math";

export const WIDTH = 1200;
export const HEIGHT = 800;
export const RADIUS = 24;
export const ARMOR = 3;
/** Units per second. */
export const SPEED = 230;
/** Units per second and second. */
const ACCELERATION = 900;
/** Radians per second. */
const TURN = 5;
/** Seconds between two shots. */
export const RELOAD = 0.45;

export const WALLS = [
  { left: 240, top: 170, right: 300, bottom: 360 },
  { left: 240, top: 170, right: 430, bottom: 230 },
  { left: 900, top: 440, right: 960, bottom: 630 },
  { left: 770, top: 570, right: 960, bottom: 630 },
  { left: 560, top: 340, right: 640, bottom: 460 },
  { left: 770, top: 150, right: 830, bottom: 290 },
  { left: 370, top: 510, right: 430, bottom: 650 },
];

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
/** The same angle between -π and π. */
const turned = (angle) => angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));

/**
 * Applies one input: `x` and `y` are the direction to drive to, `aim` is that of the turret. Returns whether it fires.
 * It may depend on nothing else, because a page applies an input several times.
 */
export function step(tank, { x, y, aim, fire }, dt) {
  const length = Math.sqrt(x * x + y * y);
  const off = length > 0 ? turned(atan2(y, x) - tank.hull) : 0;
  tank.hull = turned(tank.hull + clamp(off, -TURN * dt, TURN * dt));
  const wanted = SPEED * Math.min(1, length) * Math.max(0, cos(off));
  tank.speed += clamp(wanted - tank.speed, -ACCELERATION * dt, ACCELERATION * dt);
  tank.x += cos(tank.hull) * tank.speed * dt;
  tank.y += sin(tank.hull) * tank.speed * dt;
  keepInside(tank);
  tank.turret = aim;
  tank.reload = Math.max(0, tank.reload - dt);
  const fires = fire && tank.reload === 0;
  if (fires) tank.reload = RELOAD;
  return fires;
}

/** Pushes a tank out of the walls. */
export function keepInside(tank) {
  for (const { left, top, right, bottom } of WALLS) {
    const dx = tank.x - clamp(tank.x, left, right);
    const dy = tank.y - clamp(tank.y, top, bottom);
    const distance = Math.sqrt(dx * dx + dy * dy);
    if (distance === 0 || distance >= RADIUS) continue;
    tank.x += dx * (RADIUS / distance - 1);
    tank.y += dy * (RADIUS / distance - 1);
  }
  tank.x = clamp(tank.x, RADIUS, WIDTH - RADIUS);
  tank.y = clamp(tank.y, RADIUS, HEIGHT - RADIUS);
}

/**
 * Where a shot ends, and whom it hits. `others` has pairs of a player and their place. The server judges with it, the
 * page draws its own shot with it at once.
 */
export function shot({ x, y, turret }, others) {
  const [dx, dy] = [cos(turret), sin(turret)];
  let far = Math.min(leaves(x, dx, 0, WIDTH), leaves(y, dy, 0, HEIGHT));
  let hit = null;
  for (const { left, top, right, bottom } of WALLS) {
    const near = Math.max(enters(x, dx, left, right), enters(y, dy, top, bottom));
    if (near > 0 && near < Math.min(far, leaves(x, dx, left, right), leaves(y, dy, top, bottom))) far = near;
  }
  for (const [player, place] of others) {
    const along = (place.x - x) * dx + (place.y - y) * dy;
    const aside = (place.x - x) * dy - (place.y - y) * dx;
    const near = along - Math.sqrt(Math.max(0, RADIUS * RADIUS - aside * aside));
    if (along > 0 && Math.abs(aside) < RADIUS && near < far) [far, hit] = [near, Number(player)];
  }
  return { from: [x, y], to: [x + dx * far, y + dy * far], hit };
}

/** How far a ray goes along one axis until it is between two sides, and until it is no more. */
const enters = (at, d, low, high) => (d === 0 ? (at > low && at < high ? -Infinity : Infinity) : ((d > 0 ? low : high) - at) / d);
const leaves = (at, d, low, high) => (d === 0 ? Infinity : ((d > 0 ? high : low) - at) / d);
