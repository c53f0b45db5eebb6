// @ts-check
// The server's side of the game: one such game per room. The first two players sit down, the others watch.
/** @import { Context, Message, Tick } from "rtcade/game" */
import { match, play, refusal } from "./public/step.js";

/** Nobody waits for a tenth of a second here. */
export const tickMs = 100;

/** @typedef {ReturnType<typeof create>} Game */

// The game is plain data, so it needs no `save` and `load`: the room goes on in it when this file changes.
export const create = () => ({
  /** By seat: the player, or null. */
  seats: [null, null],
  /** By seat: the matches won, whether another one is wanted, and whether the connection is lost. */
  wins: [0, 0],
  wantsAgain: [false, false],
  isAway: [false, false],
  first: 0,
  match: match(0),
});

/** @param {Game} game @param {Context} ctx @param {number} player */
export function join(game, ctx, player) {
  const free = game.seats.indexOf(null);
  if (free >= 0) sit(game, free, player);
}

/** @param {Game} game @param {Context} ctx @param {number} player */
export function leave(game, ctx, player) {
  const seat = game.seats.indexOf(player);
  if (seat < 0) return;
  // Of those who watch, the one who has been here longest is next.
  const next = ctx.players.find(({ id }) => !game.seats.includes(id));
  sit(game, seat, next?.id ?? null);
}

/** @param {Game} game @param {Context} ctx @param {number} player */
export const drop = (game, ctx, player) => setAway(game, player, true);
/** @param {Game} game @param {Context} ctx @param {number} player */
export const resume = (game, ctx, player) => setAway(game, player, false);

/** @param {Game} game @param {Context} ctx @param {Tick} tick @param {Message[]} batch */
export function tick(game, ctx, tick, batch) {
  for (const { player, command } of batch) {
    const why = obey(game, ctx, player, command);
    // An event goes to its player once and in order; the state below is only the newest.
    if (why) ctx.event(player, { refused: why }, { reliable: true });
  }
  ctx.state(game);
}

/** Does what a player wants, or returns a sentence why not. Any page can send anything. */
function obey(game, ctx, player, command) {
  const { column, again } = Object(command);
  const seat = game.seats.indexOf(player);
  if (seat < 0) return "You watch this match: sit down when a seat is free.";
  if (again === true) {
    if (game.match.winner === null) return "The match is not over.";
    game.wantsAgain[seat] = true;
    if (game.wantsAgain.every(Boolean)) begin(game);
    return undefined;
  }
  if (game.seats.includes(null)) return "Wait for the other player.";
  const why = refusal(game.match, seat, column);
  if (why) return why;
  play(game.match, seat, column);
  const { winner } = game.match;
  if (winner === seat) game.wins[seat] += 1;
  if (winner !== null) ctx.event("all", { over: { winner } }, { reliable: true });
  return undefined;
}

function sit(game, seat, player) {
  game.seats[seat] = player;
  game.isAway[seat] = false;
  game.wins = [0, 0];
  begin(game);
}

/** The one who was second begins the next match. */
function begin(game) {
  game.first = 1 - game.first;
  game.match = match(game.first);
  game.wantsAgain = [false, false];
}

function setAway(game, player, isAway) {
  const seat = game.seats.indexOf(player);
  if (seat >= 0) game.isAway[seat] = isAway;
}
