// The arena of src/games/arena.rs with the same rules, draws and messages: the two of them play the same game, tick by
// tick. Lengths on the wire are in units, speeds in units per second; places are kept in thousandths of a unit.

const MAX_PLAYERS = 64;
const MIN_ACTORS = 4;

const WIDTH = 16_000;
const HEIGHT = 10_000;
const RADIUS = 260;
const GEM_RADIUS = 130;
const POSITION_SCALE = 1_000;

const TOP_SPEED = 3_400;
const DASH_SPEED = 6_000;
const MAX_SPEED = 8_000;
const DRAG_PERCENT = 300;
const WALL_BOUNCE_PERCENT = 60;
const BUMP_KICK = 2_400;
const VELOCITY_STEP = 64;
const MAX_STEP_MS = 100;

const DASH_MS = 300;
const COOLDOWN_MS = 1_200;
const SHIELD_MS = 1_200;
const SILENCE_MS = 1_000;
const ROUND_MS = 90_000;
const PAUSE_MS = 6_000;

const GEM_VALUE = 1;
const STAR_VALUE = 5;
const STOLEN_VALUE = 3;
const GEMS_PER_ACTOR = 3;
const MAX_GEMS = 48;
const MAX_SCORE = 65_535;
const MAX_WINS = 255;

const BOT_NAMES = ["Nova", "Pixel", "Comet", "Turbo"];
const BOT_THRUST_PERCENT = 72;
const BOT_REACH = 2_400;
const BOT_DASH_ODDS = 24;

// The distances at which two discs touch, and a disc touches a gem.
const TOUCH = 2 * RADIUS * POSITION_SCALE;
const COLLECT = (RADIUS + GEM_RADIUS) * POSITION_SCALE;
const BOT_SIGHT = BOT_REACH * POSITION_SCALE;

const RULES = {
  width: WIDTH,
  height: HEIGHT,
  radius: RADIUS,
  gemRadius: GEM_RADIUS,
  topSpeed: TOP_SPEED,
  dashSpeed: DASH_SPEED,
  maxSpeed: MAX_SPEED,
  dragPercent: DRAG_PERCENT,
  wallBouncePercent: WALL_BOUNCE_PERCENT,
  velocityStep: VELOCITY_STEP,
  cooldownMs: COOLDOWN_MS,
  roundSeconds: ROUND_MS / 1_000,
  pauseSeconds: PAUSE_MS / 1_000,
  botNames: BOT_NAMES,
};

export function create(room) {
  const stepMs = Math.min(Math.max(Math.floor(room.tickMs + 0.5), 1), MAX_STEP_MS);
  return { stepMs, isPaused: false, leftMs: ROUND_MS, actors: [], gems: [] };
}

export function join(game, ctx, player) {
  if (ctx.players.length > MAX_PLAYERS) {
    ctx.refuse(`This arena takes ${MAX_PLAYERS} players. Try another room.`);
  }
  game.actors.push(newActor(ctx, player));
  return RULES;
}

export function leave(game, ctx, player) {
  game.actors = game.actors.filter(({ id }) => id !== player);
}

export function tick(game, ctx, { number, missed }, batch) {
  if (ctx.players.length === 0) return;
  fillWithBots(game, ctx);
  keepGems(game, ctx);
  advanceRound(game, ctx, missed);
  takeInputs(game, batch);
  steerBots(game, ctx);
  for (const actor of game.actors) advance(actor, game.stepMs);
  const effects = [];
  collide(game, number, effects);
  collect(game, ctx, number, effects);

  if (effects.length > 0) ctx.event("all", { effects });
  ctx.state(stateOf(game));
}

function newActor(ctx, id) {
  return {
    id,
    position: scattered(ctx, RADIUS),
    velocity: { x: 0, y: 0 },
    steer: { x: 0, y: 0 },
    wantsDash: false,
    silentMs: 0,
    dashMs: 0,
    cooldownMs: 0,
    shieldMs: SHIELD_MS,
    score: 0,
    scoredAt: 0,
    wins: 0,
  };
}

function fillWithBots(game, ctx) {
  const { actors } = game;
  while (actors.length < MIN_ACTORS) {
    let id = -1;
    while (actors.some((actor) => actor.id === id)) id -= 1;
    actors.push(newActor(ctx, id));
  }
  while (actors.length > MIN_ACTORS) {
    const bot = actors.findLastIndex(({ id }) => id < 0);
    if (bot < 0) break;
    actors.splice(bot, 1);
  }
}

function keepGems(game, ctx) {
  const wanted = Math.min(game.actors.length * GEMS_PER_ACTOR, MAX_GEMS);
  if (game.gems.length > wanted) game.gems.length = wanted;
  while (game.gems.length < wanted) game.gems.push(scattered(ctx, GEM_RADIUS));
}

function advanceRound(game, ctx, missed) {
  game.leftMs -= game.stepMs * (missed + 1);
  if (game.leftMs > 0) return;
  const winner = game.isPaused ? undefined : leaderOf(game);
  if (game.isPaused) {
    startRound(game, ctx);
  } else if (winner) {
    winner.wins = Math.min(winner.wins + 1, MAX_WINS);
    game.isPaused = true;
    game.leftMs = PAUSE_MS;
    const won = { actor: winner.id, name: nameOf(ctx, winner.id), score: winner.score };
    ctx.event("all", { won }, { reliable: true });
  } else {
    game.leftMs = ROUND_MS;
  }
}

function startRound(game, ctx) {
  game.isPaused = false;
  game.leftMs = ROUND_MS;
  game.gems = [];
  keepGems(game, ctx);
  for (const actor of game.actors) actor.score = 0;
}

// Among equal scores the earliest has the crown.
function leaderOf(game) {
  let leader;
  for (const actor of game.actors) {
    if (actor.score === 0) continue;
    const isAhead =
      !leader ||
      actor.score > leader.score ||
      (actor.score === leader.score && actor.scoredAt <= leader.scoredAt);
    if (isAhead) leader = actor;
  }
  return leader;
}

function takeInputs(game, batch) {
  const actors = new Map(game.actors.map((actor) => [actor.id, actor]));
  for (const { player, input } of batch) {
    const actor = actors.get(player);
    if (!actor || !isSteer(input)) continue;
    const [right, down, dash] = input;
    actor.steer = limited({ x: percent(right), y: percent(down) }, 100);
    actor.wantsDash ||= dash;
    actor.silentMs = 0;
  }
}

function isSteer(input) {
  if (!Array.isArray(input) || input.length !== 3) return false;
  return typeof input[0] === "number" && typeof input[1] === "number" && typeof input[2] === "boolean";
}

function percent(thrust) {
  return Math.fround(Math.min(Math.max(thrust, -100), 100)) | 0;
}

// Bots head for the nearest gem, allowing for their drift, and sometimes dash at a disc with points.
function steerBots(game, ctx) {
  for (const bot of game.actors) {
    if (bot.id > 0) continue;
    const { position, velocity } = bot;
    const gem = nearest(game.gems, position);
    let dashAt;
    for (const other of game.actors) {
      if (other === bot || other.score === 0) continue;
      const way = minus(other.position, position);
      if (lengthSquared(way) > BOT_SIGHT * BOT_SIGHT) continue;
      // One draw of 53 bits, as in the arena in Rust.
      if (ctx.random() < 1 / BOT_DASH_ODDS) dashAt = way;
      break;
    }
    const ahead = { x: position.x + velocity.x * 300, y: position.y + velocity.y * 300 };
    const goal = dashAt ?? (gem ? minus(gem, ahead) : { x: 0, y: 0 });
    bot.steer = withLength(goal, BOT_THRUST_PERCENT);
    bot.wantsDash = dashAt !== undefined;
    bot.silentMs = 0;
  }
}

function nearest(places, { x, y }) {
  let found;
  let least = Infinity;
  for (const place of places) {
    const right = place.x - x;
    const down = place.y - y;
    const squared = right * right + down * down;
    if (squared < least) {
      least = squared;
      found = place;
    }
  }
  return found;
}

function advance(actor, stepMs) {
  actor.dashMs = Math.max(actor.dashMs - stepMs, 0);
  actor.cooldownMs = Math.max(actor.cooldownMs - stepMs, 0);
  actor.shieldMs = Math.max(actor.shieldMs - stepMs, 0);
  // A player whose inputs stop drifts to a halt instead of into a wall.
  actor.silentMs = Math.min(actor.silentMs + stepMs, SILENCE_MS);
  if (actor.silentMs === SILENCE_MS) actor.steer = { x: 0, y: 0 };
  const { position, steer } = actor;
  if (actor.wantsDash && actor.cooldownMs === 0) {
    const heading = steer.x === 0 && steer.y === 0 ? actor.velocity : steer;
    const dash = withLength(heading, DASH_SPEED);
    actor.velocity = { x: actor.velocity.x + dash.x, y: actor.velocity.y + dash.y };
    actor.dashMs = DASH_MS;
    actor.cooldownMs = COOLDOWN_MS;
  }
  actor.wantsDash = false;
  const dragPerStep = DRAG_PERCENT * stepMs;
  const { x, y } = actor.velocity;
  const velocity = {
    x: x + ((((((steer.x * TOP_SPEED) / 100) | 0) * dragPerStep - x * dragPerStep) / 100_000) | 0),
    y: y + ((((((steer.y * TOP_SPEED) / 100) | 0) * dragPerStep - y * dragPerStep) / 100_000) | 0),
  };
  actor.velocity = limited(velocity, MAX_SPEED);
  position.x += actor.velocity.x * stepMs;
  position.y += actor.velocity.y * stepMs;
  bounce(actor);
}

function collide(game, number, effects) {
  const { actors, isPaused } = game;
  const touch = TOUCH;
  for (let second = 1; second < actors.length; second += 1) {
    const b = actors[second];
    for (let first = 0; first < second; first += 1) {
      const a = actors[first];
      const right = b.position.x - a.position.x;
      if (right > touch || right < -touch) continue;
      const down = b.position.y - a.position.y;
      if (right * right + down * down > touch * touch) continue;
      const normal = pushApart(a, b, { x: right, y: down });
      const isDashing = a.dashMs > 0;
      if (isPaused || isDashing === b.dashMs > 0) continue;
      const [by, whom, away] = isDashing ? [a, b, 1] : [b, a, -1];
      if (whom.shieldMs > 0) continue;
      const stolen = Math.min(whom.score, STOLEN_VALUE);
      whom.score -= stolen;
      whom.shieldMs = SHIELD_MS;
      whom.velocity = limited(pushed(whom.velocity, normal, away * BUMP_KICK), MAX_SPEED);
      earn(by, stolen, number);
      effects.push({ bumped: [by.id, whom.id, stolen, placeOf(whom.position)] });
    }
  }
}

// Separates two overlapping discs and lets them bounce. Returns the direction from `a` to `b` with length 1000.
function pushApart(a, b, apart) {
  const normal = apart.x === 0 && apart.y === 0 ? { x: 1_000, y: 0 } : withLength(apart, 1_000);
  const overlap = ((TOUCH - Math.floor(Math.sqrt(lengthSquared(apart)))) / 2) | 0;
  a.position = pushed(a.position, normal, -overlap);
  b.position = pushed(b.position, normal, overlap);
  const approach = minus(a.velocity, b.velocity);
  const closing = ((approach.x * normal.x + approach.y * normal.y) / 1_000) | 0;
  if (closing > 0) {
    a.velocity = pushed(a.velocity, normal, -closing);
    b.velocity = pushed(b.velocity, normal, closing);
  }
  for (const actor of [a, b]) {
    actor.velocity = limited(actor.velocity, MAX_SPEED);
    bounce(actor);
  }
  return normal;
}

function bounce({ position, velocity }) {
  const x = Math.min(Math.max(position.x, RADIUS * POSITION_SCALE), (WIDTH - RADIUS) * POSITION_SCALE);
  const y = Math.min(Math.max(position.y, RADIUS * POSITION_SCALE), (HEIGHT - RADIUS) * POSITION_SCALE);
  if (x !== position.x) {
    position.x = x;
    velocity.x = ((-velocity.x * WALL_BOUNCE_PERCENT) / 100) | 0;
  }
  if (y !== position.y) {
    position.y = y;
    velocity.y = ((-velocity.y * WALL_BOUNCE_PERCENT) / 100) | 0;
  }
}

function collect(game, ctx, number, effects) {
  if (game.isPaused) return;
  const { actors, gems } = game;
  // Most discs are far from most gems, which the first comparison tells.
  const xs = actors.map(({ position }) => position.x);
  const ys = actors.map(({ position }) => position.y);
  for (let at = 0; at < gems.length; at += 1) {
    const { x, y } = gems[at];
    const left = x - COLLECT;
    const right = x + COLLECT;
    let least = COLLECT * COLLECT + 1;
    let actor;
    for (let other = 0; other < xs.length; other += 1) {
      if (xs[other] < left || xs[other] > right) continue;
      const across = xs[other] - x;
      const down = ys[other] - y;
      const squared = across * across + down * down;
      if (squared < least) {
        least = squared;
        actor = actors[other];
      }
    }
    if (!actor) continue;
    const value = at === 0 ? STAR_VALUE : GEM_VALUE;
    earn(actor, value, number);
    effects.push({ collected: [actor.id, value, placeOf(gems[at])] });
    gems[at] = scattered(ctx, GEM_RADIUS);
  }
}

function earn(actor, points, number) {
  if (points === 0) return;
  actor.score = Math.min(actor.score + points, MAX_SCORE);
  actor.scoredAt = number;
}

function stateOf(game) {
  const seconds = Math.min(((game.leftMs + 999) / 1_000) | 0, 255);
  const leader = leaderOf(game)?.id ?? null;
  return [!game.isPaused, seconds, leader, game.actors.map(discOf), game.gems.map(placeOf)];
}

function discOf({ id, position, velocity, score, wins, dashMs, shieldMs, cooldownMs }) {
  const flags = (dashMs > 0 ? 1 : 0) | (shieldMs > 0 ? 2 : 0) | (cooldownMs === 0 ? 4 : 0);
  return [id, placeOf(position), velocitySteps(velocity.x), velocitySteps(velocity.y), score, wins, flags];
}

function placeOf({ x, y }) {
  return [(x / POSITION_SCALE) | 0, (y / POSITION_SCALE) | 0];
}

function velocitySteps(velocity) {
  return Math.min(Math.max((velocity / VELOCITY_STEP) | 0, -128), 127);
}

function scattered(ctx, margin) {
  const x = ctx.randomInt(margin, WIDTH - margin) * POSITION_SCALE;
  const y = ctx.randomInt(margin, HEIGHT - margin) * POSITION_SCALE;
  return { x, y };
}

function minus(one, other) {
  return { x: one.x - other.x, y: one.y - other.y };
}

function lengthSquared({ x, y }) {
  return x * x + y * y;
}

// The same direction with another length, rounded down; zero stays zero.
function withLength({ x, y }, length) {
  const own = Math.max(Math.ceil(Math.sqrt(x * x + y * y)), 1);
  return { x: ((x * length) / own) | 0, y: ((y * length) / own) | 0 };
}

function limited(vector, length) {
  return lengthSquared(vector) <= length * length ? vector : withLength(vector, length);
}

// Adds `amount` along `normal`, which has length 1000.
function pushed({ x, y }, normal, amount) {
  return { x: x + (((normal.x * amount) / 1_000) | 0), y: y + (((normal.y * amount) / 1_000) | 0) };
}

function nameOf(ctx, actor) {
  return actor < 0 ? BOT_NAMES[(-actor - 1) % BOT_NAMES.length] : (ctx.player(actor)?.name ?? "");
}
