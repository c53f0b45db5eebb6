// The rules of the duel. Every page of the room computes them from the same inputs, so they must give the same result
// in every browser: they use only + - * / and Math.sqrt, which are exact, and read neither a clock nor Math.random.

export const RING = 100;
export const PUCK = 9;
export const WINS = 5;
/** Ticks between two dashes. */
export const RECHARGE = 36;
/** The player number of the sparring partner, who plays while nobody else does. */
export const PARTNER = 0;

const READY = 54;
const FALL = 40;
const OVER = 130;

const ACCELERATION = 0.3;
const GLIDE = 0.945;
const DASH_SPEED = 6.5;
const DASH_TICKS = 7;
const DASH_WEIGHT = 2.4;
const BOUNCE = 1.15;

/** In ticks and units per tick: the ring begins to shrink, so that no round lasts. */
const SHRINKS_AFTER = 240;
const SHRINKS_BY = 0.07;
const RING_LEAST = 45;

const puck = (player, side) => ({
  player, x: side * 45, y: 0, vx: 0, vy: 0, faceX: -side, faceY: 0, dash: 0, recharge: 0, isHeld: false,
});

/** `phase` is `ready`, `fight`, `fall` (somebody is out) or `over`; it has `left` ticks to go, except for `fight`. */
const round = (players, wins) => ({
  phase: "ready", left: READY, age: 0, ring: RING, wins, winner: null,
  pucks: [puck(players[0], -1), puck(players[1], 1)],
  hit: { count: 0, x: 0, y: 0, power: 0 },
});

export const init = () => round([PARTNER, PARTNER], [0, 0]);

/** Other pages may send anything. */
function read(input) {
  const [x, y, dash] = Array.isArray(input) ? input : [];
  if (!Number.isFinite(x) || !Number.isFinite(y)) return { x: 0, y: 0, dash: false };
  const length = Math.sqrt(x * x + y * y);
  const scale = length > 100 ? 1 / length : 1 / 100;
  return { x: x * scale, y: y * scale, dash: dash === true };
}

/** The sparring partner chases, keeps away from the edge, and dashes now and then. */
function spar(own, other, world, tick) {
  const fromCenter = Math.sqrt(own.x * own.x + own.y * own.y);
  const isAtEdge = fromCenter > world.ring * 0.72;
  const x = isAtEdge ? -own.x : other.x - own.x;
  const y = isAtEdge ? -own.y : other.y - own.y;
  const length = Math.sqrt(x * x + y * y) || 1;
  const isNear = length < 55;
  return { x: (x / length) * 0.75, y: (y / length) * 0.75, dash: isNear && !isAtEdge && tick % 45 === 0 };
}

function steer(puck, { x, y, dash }) {
  const length = Math.sqrt(x * x + y * y);
  if (length > 0.1) {
    puck.faceX = x / length;
    puck.faceY = y / length;
  }
  puck.vx += x * ACCELERATION;
  puck.vy += y * ACCELERATION;
  if (dash && !puck.isHeld && puck.recharge === 0) {
    puck.vx += puck.faceX * DASH_SPEED;
    puck.vy += puck.faceY * DASH_SPEED;
    puck.dash = DASH_TICKS;
    puck.recharge = RECHARGE;
  }
  puck.isHeld = dash;
}

function move(puck) {
  puck.x += puck.vx;
  puck.y += puck.vy;
  puck.vx *= GLIDE;
  puck.vy *= GLIDE;
  if (puck.dash > 0) puck.dash--;
  if (puck.recharge > 0) puck.recharge--;
}

/** Who dashes weighs more. */
function collide(world) {
  const [a, b] = world.pucks;
  const dx = b.x - a.x, dy = b.y - a.y;
  const distance = Math.sqrt(dx * dx + dy * dy);
  if (distance >= 2 * PUCK || distance === 0) return;
  const nx = dx / distance, ny = dy / distance;
  const weightA = a.dash > 0 ? DASH_WEIGHT : 1, weightB = b.dash > 0 ? DASH_WEIGHT : 1;
  const shareA = weightB / (weightA + weightB), shareB = weightA / (weightA + weightB);
  const overlap = 2 * PUCK - distance;
  a.x -= nx * overlap * shareA;
  a.y -= ny * overlap * shareA;
  b.x += nx * overlap * shareB;
  b.y += ny * overlap * shareB;
  const speed = (a.vx - b.vx) * nx + (a.vy - b.vy) * ny;
  if (speed <= 0) return;
  const impulse = speed * (1 + BOUNCE);
  a.vx -= nx * impulse * shareA;
  a.vy -= ny * impulse * shareA;
  b.vx += nx * impulse * shareB;
  b.vy += ny * impulse * shareB;
  world.hit = { count: world.hit.count + 1, x: a.x + nx * PUCK, y: a.y + ny * PUCK, power: speed };
}

const beyond = ({ x, y }, ring) => Math.sqrt(x * x + y * y) - ring;

function judge(world) {
  const [a, b] = world.pucks.map((puck) => beyond(puck, world.ring));
  if (a <= 0 && b <= 0) return;
  world.winner = a > b ? 1 : 0;
  world.wins[world.winner]++;
  const isOver = world.wins[world.winner] >= WINS;
  world.phase = isOver ? "over" : "fall";
  world.left = isOver ? OVER : FALL;
}

/** The two players who have been here longest play; others watch until a place is free. */
const seats = (inputs) => {
  const [first = PARTNER, second = PARTNER] = inputs.keys();
  return [first, second];
};

export function step(world, inputs, tick) {
  const players = seats(inputs);
  if (world.pucks.some(({ player }, seat) => player !== players[seat])) return round(players, [0, 0]);

  if (world.phase !== "fight" && --world.left === 0) {
    if (world.phase === "over") return round(players, [0, 0]);
    if (world.phase === "fall") return round(players, world.wins);
    world.phase = "fight";
  }
  if (world.phase === "ready") return world;

  world.age++;
  if (world.age > SHRINKS_AFTER && world.phase === "fight") world.ring = Math.max(RING_LEAST, world.ring - SHRINKS_BY);
  world.pucks.forEach((puck, seat) => {
    const isOut = world.winner !== null && world.winner !== seat;
    if (isOut) return;
    const other = world.pucks[1 - seat];
    steer(puck, puck.player === PARTNER ? spar(puck, other, world, tick) : read(inputs.get(puck.player)));
  });
  world.pucks.forEach(move);
  if (world.winner === null) {
    collide(world);
    judge(world);
  } else {
    // The winner stays in the ring.
    const winner = world.pucks[world.winner];
    const out = beyond(winner, world.ring - PUCK);
    if (out > 0) {
      const scale = (world.ring - PUCK) / (world.ring - PUCK + out);
      winner.x *= scale;
      winner.y *= scale;
    }
  }
  return world;
}
