// Run with `rtcade test`: in the engine of the server, over simulated networks.
import { assert, simulate, test } from "rtcade/test";
import * as game from "./game.js";

/** Plays the columns in turn. */
function play(sim, columns) {
  for (const [at, column] of columns.entries()) {
    const seat = sim.players[0].state.match.turn;
    const player = sim.players.find(({ id }) => id === sim.players[0].state.seats[seat]);
    player.command({ column });
    sim.until(() => sim.players.every(({ state }) => state.match.turn !== seat || state.match.winner !== null), 5);
    assert(at + 1 === columns.length || sim.players[0].state.match.winner === null, "the match is over too early");
  }
}

test("four in a row win, and both see it", () => {
  const sim = simulate(game, { players: 2, loss: 0.1, delay: 80 });
  const { turn } = sim.players[0].state.match;
  play(sim, [0, 1, 0, 1, 0, 1, 0]);
  // A lost segment of the reliable lane is sent again.
  sim.run(3);
  for (const player of sim.players) {
    assert.equal(player.state.match.winner, turn);
    assert.equal(player.events.filter(({ event }) => event.over).length, 1);
  }
  for (const player of sim.players) player.command({ again: true });
  sim.run(3);
  assert.deepEqual([sim.players[0].state.match.winner, sim.players[0].state.match.turn], [null, 1 - turn]);
});

test("a move out of turn is refused, and its player alone is told", () => {
  const sim = simulate(game, { players: 3 });
  const { seats, match } = sim.players[0].state;
  const waits = sim.players.find(({ id }) => id === seats[1 - match.turn]);
  for (const command of [{ column: 3 }, null, "x", { column: "3" }, { column: 1e9 }, { again: true }]) waits.command(command);
  sim.run(1);
  assert.deepEqual(waits.state.match, match);
  assert.equal(waits.events.length, 6);
  assert.equal(sim.players[2].events.length, 0);
});

test("who watches sits down when a player leaves", () => {
  const sim = simulate(game, { players: 3 });
  sim.players[0].leave();
  sim.run(1);
  assert.deepEqual([...sim.players[2].state.seats].sort(), [2, 3]);
});
