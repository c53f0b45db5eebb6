// What a page does: it shows the newest state, and sends what its player wants as commands. The server decides.
import { connect } from "rtcade";
import { COLUMNS, DRAW, match, refusal, ROWS } from "./step.js";

const element = (selector) => document.querySelector(selector);
const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
const call = element("#call");

const NAMES = ["Ash", "Briar", "Cedar", "Fern", "Hazel", "Iris", "Juniper", "Laurel", "Moss", "Rowan", "Sage", "Willow"];
// A reloaded page is the same player if it has the same name.
const name = (sessionStorage["name"] ??= NAMES[Math.floor(Math.random() * NAMES.length)]);
const room = await connect(undefined, { name }).catch((error) => {
  call.textContent = error.message;
  throw error;
});

let game = { seats: [null, null], wins: [0, 0], wantsAgain: [false, false], isAway: [false, false], match: match(0) };
let refused = "";
room.on("state", (state) => {
  if (JSON.stringify(state.match) !== JSON.stringify(game.match)) refused = "";
  game = state;
  show();
});
room.on("event", (event) => {
  if (event.refused) refused = event.refused;
  show();
});
for (const type of ["join", "leave", "rename", "status"]) room.on(type, show);
room.on("close", ({ message }) => setText(call, message));

// ---- The board: a button for each column, so that it works with a keyboard and a screen reader too.

const columns = Array.from({ length: COLUMNS }, (_, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "column";
  for (let row = 0; row < ROWS; row += 1) {
    const cell = document.createElement("div");
    cell.className = "cell";
    cell.style.setProperty("--row", String(row));
    button.append(cell);
  }
  button.addEventListener("click", () => room.command({ column }));
  return button;
});
element("#board").append(...columns);
element("#again").addEventListener("click", () => room.command({ again: true }));
element("#copy").addEventListener("click", async ({ target }) => {
  const isCopied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  target.textContent = isCopied ? "Copied" : "Copy the address of this page";
});

const COLORS = ["one", "two"];
function show() {
  const mine = game.seats.indexOf(room.me);
  columns.forEach((button, column) => {
    const held = [];
    [...button.children].forEach((cell, row) => {
      const at = row * COLUMNS + column;
      const seat = game.match.cells[at];
      if (seat !== null) held.unshift(seat === mine ? "yours" : COLORS[seat]);
      cell.classList.toggle("four", game.match.four.includes(at));
      // A piece that is there stays as it is, so that it falls once.
      if (seat === null) cell.replaceChildren();
      else if (cell.childElementCount === 0) cell.append(Object.assign(document.createElement("div"), { className: `piece ${COLORS[seat]}` }));
    });
    const isFree = !game.seats.includes(null) && refusal(game.match, mine, column) === undefined;
    button.setAttribute("aria-disabled", String(!isFree));
    button.setAttribute("aria-label", `Column ${column + 1}: ${held.join(", ") || "empty"}`);
  });
  COLORS.forEach((color, seat) => {
    const box = element(`.seat.${color}`);
    setText(box.querySelector("span"), nameOf(seat));
    setText(box.querySelector("b"), String(game.wins[seat]));
    box.classList.toggle("turn", game.match.winner === null && game.match.turn === seat && !game.seats.includes(null));
  });
  element("#again").hidden = mine < 0 || game.match.winner === null || game.wantsAgain[mine];
  element("#copy").hidden = !game.seats.includes(null);
  if (room.status !== "closed") setText(call, sentence(mine));
}

function nameOf(seat) {
  const player = game.seats[seat];
  if (player === null) return "free";
  const name = player === room.me ? "You" : (room.players.get(player)?.name ?? "");
  return `${name}${game.isAway[seat] ? " (away)" : ""}`;
}

function sentence(mine) {
  const { winner, turn } = game.match;
  if (room.status === "dropped" || room.status === "resuming") return "Reconnecting…";
  if (refused) return refused;
  if (game.seats.includes(null)) return "Waiting for another player";
  if (winner === DRAW) return "A draw";
  if (winner !== null && game.wantsAgain[mine]) return "Waiting for the other player";
  if (winner !== null) return winner === mine ? "You win!" : `${nameOf(winner)} wins`;
  if (mine < 0) return `You watch: ${nameOf(turn)} plays`;
  return turn === mine ? "Your turn" : `${nameOf(turn)} plays`;
}

show();
// For the console and for tests.
Object.assign(globalThis, { game: { room, state: () => game } });
