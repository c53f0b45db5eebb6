// The rules of the game: air hockey. Every page computes them from the same inputs, and must get the same result: they use
// + - * / and Math.sqrt, which are exact everywhere, and neither a clock nor Math.random. What else of Math is needed is in
// rtcade/math.

/** Half of the field. The middle is (0, 0); seat 0 plays at the bottom, seat 1 at the top. */
export const WIDTH = 50;
export const HEIGHT = 80;
export const GOAL = 19;
export const MALLET = 8;
export const PUCK = 5;
export const WINS = 5;
/** Who plays while a seat is free. */
export const ROBOT = 0;

/** Per tick. */
const MALLET_SPEED = 6;
const PUCK_SPEED = 5;
const GLIDE = 0.994;
/** In ticks. */
const PAUSE = 30;
const OVER = 110;

/** A world is plain data: it is copied in each tick, and sent to players who join. */
const serve = (players, score, side, wait) => ({
  players, score, wait, winner: null,
  mallets: [{ x: 0, y: HEIGHT - 20 }, { x: 0, y: 20 - HEIGHT }],
  puck: { x: 0, y: side * 20, vx: 0, vy: 0 },
  /** Counts what can be heard or seen for a moment. */
  hits: 0,
});

export const init = () => serve([ROBOT, ROBOT], [0, 0], 1, PAUSE);

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

export function step(world, inputs) {
  // The two who have been here longest play, the others watch.
  const [first = ROBOT, second = ROBOT] = inputs.keys();
  const players = [first, second];
  if (players.join() !== world.players.join()) return serve(players, [0, 0], 1, PAUSE);
  if (world.wait > 0) {
    world.wait -= 1;
    if (world.winner !== null && world.wait === 0) return serve(players, [0, 0], 1, PAUSE);
  }
  const before = world.mallets.map(({ x, y }) => ({ x, y }));
  world.mallets.forEach((mallet, seat) => {
    const player = players[seat];
    move(mallet, seat, player === ROBOT ? robot(world, seat) : read(inputs.get(player)));
  });
  if (world.wait > 0) return world;
  glide(world);
  world.mallets.forEach((mallet, seat) => strike(world, mallet, before[seat]));
  return judge(world);
}

/** Where a player points. Any page can send anything. */
function read(input) {
  const [x, y] = Array.isArray(input) ? input : [];
  return Number.isFinite(x) && Number.isFinite(y) ? { x, y } : { x: 0, y: 0 };
}

/** It keeps between the puck and its goal, and strikes what is near. */
function robot({ puck }, seat) {
  const side = seat === 0 ? 1 : -1;
  const isNear = puck.y * side > 8 && puck.y * side < HEIGHT - 22;
  return { x: puck.x * 0.8, y: isNear ? puck.y : side * (HEIGHT - 16) };
}

/** Toward a place in the own half. */
function move(mallet, seat, to) {
  const x = clamp(to.x, MALLET - WIDTH, WIDTH - MALLET);
  const y = seat === 0 ? clamp(to.y, MALLET, HEIGHT - MALLET) : clamp(to.y, MALLET - HEIGHT, -MALLET);
  const [dx, dy] = [x - mallet.x, y - mallet.y];
  const length = Math.sqrt(dx * dx + dy * dy);
  const part = length > MALLET_SPEED ? MALLET_SPEED / length : 1;
  mallet.x += dx * part;
  mallet.y += dy * part;
}

function glide(world) {
  const { puck } = world;
  puck.x += puck.vx;
  puck.y += puck.vy;
  puck.vx *= GLIDE;
  puck.vy *= GLIDE;
  const [right, bottom] = [WIDTH - PUCK, HEIGHT - PUCK];
  if (Math.abs(puck.x) > right) {
    puck.x = clamp(puck.x, -right, right);
    puck.vx = -puck.vx;
    world.hits += 1;
  }
  if (Math.abs(puck.y) > bottom && Math.abs(puck.x) > GOAL) {
    puck.y = clamp(puck.y, -bottom, bottom);
    puck.vy = -puck.vy;
    world.hits += 1;
  }
}

function strike(world, mallet, before) {
  const { puck } = world;
  const [dx, dy] = [puck.x - mallet.x, puck.y - mallet.y];
  const distance = Math.sqrt(dx * dx + dy * dy);
  if (distance === 0 || distance >= MALLET + PUCK) return;
  const [nx, ny] = [dx / distance, dy / distance];
  puck.x = clamp(mallet.x + nx * (MALLET + PUCK), PUCK - WIDTH, WIDTH - PUCK);
  puck.y = mallet.y + ny * (MALLET + PUCK);
  const speed = (puck.vx - (mallet.x - before.x)) * nx + (puck.vy - (mallet.y - before.y)) * ny;
  if (speed >= 0) return;
  puck.vx -= 1.8 * speed * nx;
  puck.vy -= 1.8 * speed * ny;
  const length = Math.sqrt(puck.vx * puck.vx + puck.vy * puck.vy);
  if (length > PUCK_SPEED) {
    puck.vx *= PUCK_SPEED / length;
    puck.vy *= PUCK_SPEED / length;
  }
  world.hits += 1;
}

function judge(world) {
  const { puck, players, score } = world;
  if (Math.abs(puck.y) <= HEIGHT) return world;
  const scorer = puck.y > 0 ? 1 : 0;
  score[scorer] += 1;
  if (score[scorer] < WINS) return serve(players, score, scorer === 1 ? 1 : -1, PAUSE);
  return { ...world, winner: scorer, wait: OVER };
}
