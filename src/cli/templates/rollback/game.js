// @ts-check
// The server's side of a game that the pages compute: it sends the inputs of all players to everybody, tick by tick. Each
// page computes the same game from them, and shows it at once: rtcade/rollback takes back what it has guessed wrong.
/** @import { Context } from "rtcade/game" */

const PLAYERS = 8;

/** @param {unknown} game @param {Context} ctx */
export function join(game, ctx) {
  if (ctx.players.length > PLAYERS) ctx.refuse("This room is full: open another one.");
}

/** @param {unknown} game @param {Context} ctx */
export function tick(game, ctx) {
  ctx.fanOutInputs();
}
