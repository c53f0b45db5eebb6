// The rules of four in a row. The server judges each move by them; the page uses them to show which moves there are.

export const COLUMNS = 7;
export const ROWS = 6;
/** What `winner` is when the board is full. */
export const DRAW = -1;

/** A match between two seats, 0 and 1. Plain data: it is sent to the pages as it is. */
export const match = (first) => ({
  /** By cell, from the top left: the seat that holds it, or null. */
  cells: Array(COLUMNS * ROWS).fill(null),
  turn: first,
  winner: null,
  /** The cells of the four, and the one of the last move. */
  four: [],
  last: null,
});

/** The cell where a piece comes to rest in a column; undefined if it is full. */
export function landing({ cells }, column) {
  for (let row = ROWS - 1; row >= 0; row -= 1) {
    if (cells[row * COLUMNS + column] === null) return row * COLUMNS + column;
  }
  return undefined;
}

/** Why a seat can't play a column, as a sentence; undefined if it can. `column` may be anything. */
export function refusal(match, seat, column) {
  if (match.winner !== null) return "The match is over.";
  if (match.turn !== seat) return "It is not your turn.";
  if (!Number.isInteger(column) || column < 0 || column >= COLUMNS) return "There is no such column.";
  if (landing(match, column) === undefined) return "This column is full.";
  return undefined;
}

/** Plays a column that is not refused. */
export function play(match, seat, column) {
  const cell = landing(match, column);
  match.cells[cell] = seat;
  match.last = cell;
  match.turn = 1 - seat;
  match.four = fourAt(match.cells, cell);
  if (match.four.length > 0) match.winner = seat;
  else if (!match.cells.includes(null)) match.winner = DRAW;
}

/** The four or more in a row through a cell; empty if there are fewer. */
function fourAt(cells, cell) {
  const [row, column] = [Math.floor(cell / COLUMNS), cell % COLUMNS];
  for (const [down, right] of [[0, 1], [1, 0], [1, 1], [1, -1]]) {
    const line = [cell];
    for (const sign of [-1, 1]) {
      for (let n = sign; ; n += sign) {
        const [r, c] = [row + n * down, column + n * right];
        if (r < 0 || r >= ROWS || c < 0 || c >= COLUMNS || cells[r * COLUMNS + c] !== cells[cell]) break;
        line.push(r * COLUMNS + c);
      }
    }
    if (line.length >= 4) return line;
  }
  return [];
}
