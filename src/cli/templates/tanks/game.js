// @ts-check
// The server's side of the game: one such game per room. It runs in ticks, without a clock or promises, so that a recording
// of a room can be replayed exactly.
/** @import { Context, LeaveReason, Message, Room, Tick } from "rtcade/game" */
import { History } from "rtcade/game";
import { ARMOR, HEIGHT, keepInside, RADIUS, shot, step, WIDTH } from "./public/step.js";

const PLAYERS = 16;
const RESPAWN_MS = 2_000;
/** Inputs that a player may be behind with, as after a gap in the network. */
const SAVED_INPUTS = 16;

const START_X = [0.08, 0.4, 0.6, 0.92];
const START_Y = [0.12, 0.82];
const STARTS = START_X.flatMap((x) => START_Y.map((y) => ({ x: x * WIDTH, y: y * HEIGHT })));

/** @typedef {ReturnType<typeof create>} Game */

/** @param {Room} room */
export function create({ tickMs }) {
  // A shot is judged by what the shooter saw, up to a second ago.
  const history = new History(Math.ceil(1_000 / tickMs) + 1);
  return { tickMs, tanks: {}, history };
}

/** @param {Game} game @param {Context} ctx @param {number} player */
export function join(game, ctx, player) {
  if (Object.keys(game.tanks).length === PLAYERS) ctx.refuse("This room is full: open another one.");
  game.tanks[player] = { ...start(game, ctx), kills: 0, backAt: 0, inputs: SAVED_INPUTS };
}

/** @param {Game} game @param {Context} ctx @param {number} player */
export function leave(game, ctx, player) {
  delete game.tanks[player];
}

/** @param {Game} game @param {Context} ctx @param {Tick} tick @param {Message[]} batch */
export function tick(game, ctx, { number, missed }, batch) {
  for (const tank of Object.values(game.tanks)) {
    // One input per tick: who sends more is no faster than the others.
    tank.inputs = Math.min(SAVED_INPUTS, tank.inputs + 1 + missed);
    if (tank.armor === 0 && number >= tank.backAt) Object.assign(tank, start(game, ctx));
  }
  for (const { player, input, seen } of batch) {
    const tank = game.tanks[player];
    if (input === undefined || !tank?.armor || tank.inputs === 0) continue;
    tank.inputs -= 1;
    if (step(tank, read(input), game.tickMs / 1_000)) shoot(game, ctx, player, seen);
  }
  pushApart(Object.values(game.tanks).filter(({ armor }) => armor > 0));
  const places = Object.entries(game.tanks).map(([player, { x, y }]) => [player, { x, y }]);
  game.history.record(number, Object.fromEntries(places));
  ctx.state(Object.fromEntries(Object.entries(game.tanks).map(([player, tank]) => [player, shown(tank)])));
}

/** What the pages get of a tank. */
const shown = ({ inputs, backAt, ...tank }) => tank;

/** The input of a page, in which anything can arrive: this server must not fail because of what a player sends. */
function read(input) {
  const { x, y, aim, fire } = Object(input);
  return { x: within(x, 1), y: within(y, 1), aim: within(aim, Math.PI), fire: fire === true };
}

const within = (value, limit) => (Number.isFinite(value) ? Math.max(-limit, Math.min(limit, value)) : 0);

/** A tank at the start that is farthest from the others. */
function start(game, ctx) {
  const others = Object.values(game.tanks).filter(({ armor }) => armor > 0);
  const away = (place) => Math.min(...others.map((other) => distance(place, other)), WIDTH) + ctx.random();
  const [{ x, y }] = STARTS.map((place) => ({ ...place, away: away(place) })).sort((a, b) => b.away - a.away);
  const hull = y < HEIGHT / 2 ? Math.PI / 2 : -Math.PI / 2;
  return { x, y, hull, turret: hull, speed: 0, reload: 0, armor: ARMOR };
}

/** Fires at the others where the shooter saw them: `seen` is the tick that the page showed. */
function shoot(game, ctx, by, seen) {
  const isTarget = (player) => Number(player) !== by && game.tanks[player]?.armor > 0;
  const places = Object.entries(game.history.at(seen) ?? {}).filter(([player]) => isTarget(player));
  const fired = shot(game.tanks[by], places);
  ctx.event("all", { shot: { by, ...fired } });
  if (fired.hit === null) return;
  const tank = game.tanks[fired.hit];
  tank.armor -= 1;
  if (tank.armor > 0) return;
  tank.backAt = ctx.tick + Math.ceil(RESPAWN_MS / game.tickMs);
  game.tanks[by].kills += 1;
  ctx.event("all", { destroyed: { by, player: fired.hit } }, { reliable: true });
}

/** Tanks that touch push each other: the one thing of the own tank that a page can't predict. */
function pushApart(tanks) {
  for (const [at, one] of tanks.entries()) {
    for (const other of tanks.slice(at + 1)) {
      const far = distance(one, other);
      if (far === 0 || far >= 2 * RADIUS) continue;
      const push = RADIUS / far - 0.5;
      const [dx, dy] = [(other.x - one.x) * push, (other.y - one.y) * push];
      one.x -= dx;
      one.y -= dy;
      other.x += dx;
      other.y += dy;
      keepInside(one);
      keepInside(other);
    }
  }
}

function distance(a, b) {
  const [dx, dy] = [a.x - b.x, a.y - b.y];
  return Math.sqrt(dx * dx + dy * dy);
}

// What is saved of a room, so that it goes on with changed code and after a restart: plain data. The past of a second is
// not worth it.
/** @param {Game} game */
export const save = ({ tanks }) => tanks;
/** @param {Game["tanks"]} tanks @param {Room} room @returns {Game} */
export const load = (tanks, room) => ({ ...create(room), tanks });
