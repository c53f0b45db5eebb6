import { addressOf } from "./address.js";
import { connect, RtcadeError } from "./index.js";

/** Rooms that may have filled up since they were listed, and new ones that others may have filled. */
const LISTED_TRIES = 4;
const NEW_TRIES = 3;
/** Neither vowels, so that no words arise, nor what looks or sounds like another: 16, so that each is as likely. */
const LETTERS = "BCDFGHJKMPQRTVXZ";
const CODE_LETTERS = 5;

const failure = (code, message) => new RtcadeError("signaling", code, message);

/** See rooms.d.ts. */
export const roomCode = (typed) =>
  typed === undefined
    ? Array.from(crypto.getRandomValues(new Uint8Array(CODE_LETTERS)), (byte) => LETTERS[byte % LETTERS.length]).join("")
    : typed.toUpperCase().replace(/[^A-Z]/g, "");

async function list(address, signal) {
  try {
    const response = await fetch(address, { signal, cache: "no-store" });
    const rooms = response.ok && (await response.json());
    if (Array.isArray(rooms)) return rooms;
  } catch {}
  if (signal?.aborted) throw failure("aborted", "Connecting was cancelled.");
  throw failure("unreachable", "The list of rooms could not be read. Check the address and your connection, then try again.");
}

/** In the order in which they are tried. The same for all who have the same list, so that they meet. */
function* candidates(rooms, { kind, title }) {
  const isWanted = ({ name, title: its, players, maxPlayers, locked }) =>
    (kind === undefined || name.slice(0, name.lastIndexOf("-")) === kind) &&
    (title === undefined || its === title) &&
    !locked &&
    players < maxPlayers;
  const wanted = rooms.filter(isWanted).sort((one, other) => other.players - one.players);
  yield* wanted.slice(0, LISTED_TRIES).map(({ name }) => name);
  const taken = new Set(rooms.map(({ name }) => name));
  const named = (end) => `${kind ?? "room"}-${end}`;
  for (let number = 1, tried = 0; tried < NEW_TRIES; number++) {
    if (taken.has(named(number))) continue;
    yield named(number);
    tried++;
  }
  yield named(roomCode());
}

/** Joins a listed room, or a new one. See rooms.d.ts. */
export async function joinOrCreate(url, given) {
  const { filter, ...options } = given ?? {};
  const at = (path, scheme) => {
    try {
      return addressOf(path, url, scheme);
    } catch {
      throw failure("bad_address", "This is not the address of a server. Use a full one, such as https://example.com/.");
    }
  };
  const rooms = await list(at("/rooms", "http"), options.signal);
  let refusal;
  for (const name of candidates(rooms, filter ?? {})) {
    try {
      return await connect(at(`/r/${name}`, "ws"), options);
    } catch (error) {
      if (error.code !== "room_full" && error.code !== "room_locked") throw error;
      refusal = error;
    }
  }
  throw refusal;
}
