// Catch the dot: each square follows its player's pointer. Reaching the dot scores, and the dot jumps.
export const create = () => ({ dot: [0, 0], squares: {} });
export function join(game, ctx, player) {
  game.squares[player] = [500, 500, 0]; // its place, and its player's score
}
export function leave(game, ctx, player) {
  delete game.squares[player];
}
export function tick(game, ctx, { number, missed }, batch) {
  for (const { player, input } of batch) {
    const square = game.squares[player];
    const [x, y] = Array.isArray(input) ? input : []; // a page can send anything
    if (!square || !Number.isFinite(x) || !Number.isFinite(y)) continue;
    square[0] += Math.max(-20, Math.min(20, x - square[0])); // the page has the same rule
    square[1] += Math.max(-20, Math.min(20, y - square[1]));
    if (Math.abs(square[0] - game.dot[0]) < 40 && Math.abs(square[1] - game.dot[1]) < 40) {
      square[2] += 1;
      game.dot = [ctx.randomInt(0, 999), ctx.randomInt(0, 999)];
    }
  }
  ctx.state([game.dot, game.squares]);
}
