/*! rtcade: MIT OR Apache-2.0 */

// src/address.js
function addressOf(path, url, scheme) {
  var _a;
  const here = (_a = globalThis.location) == null ? void 0 : _a.href;
  const address = new URL(url != null ? url : here, here);
  address.pathname = address.pathname.replace(/(\/r)?\/[^/]*$/, path);
  address.protocol = address.protocol.replace(/http|ws/, scheme);
  address.hash = "";
  return address.href;
}

// src/rooms.js
import { connect, RtcadeError } from "./index.js";
var LISTED_TRIES = 4;
var NEW_TRIES = 3;
var LETTERS = "BCDFGHJKMPQRTVXZ";
var CODE_LETTERS = 5;
var failure = (code, message) => new RtcadeError("signaling", code, message);
var roomCode = (typed) => typed === void 0 ? Array.from(crypto.getRandomValues(new Uint8Array(CODE_LETTERS)), (byte) => LETTERS[byte % LETTERS.length]).join("") : typed.toUpperCase().replace(/[^A-Z]/g, "");
async function list(address, signal) {
  try {
    const response = await fetch(address, { signal, cache: "no-store" });
    const rooms = response.ok && await response.json();
    if (Array.isArray(rooms)) return rooms;
  } catch {
  }
  if (signal == null ? void 0 : signal.aborted) throw failure("aborted", "Connecting was cancelled.");
  throw failure("unreachable", "The list of rooms could not be read. Check the address and your connection, then try again.");
}
function* candidates(rooms, { kind, title }) {
  const isWanted = ({ name, title: its, players, maxPlayers, locked }) => (kind === void 0 || name.slice(0, name.lastIndexOf("-")) === kind) && (title === void 0 || its === title) && !locked && players < maxPlayers;
  const wanted = rooms.filter(isWanted).sort((one, other) => other.players - one.players);
  yield* wanted.slice(0, LISTED_TRIES).map(({ name }) => name);
  const taken = new Set(rooms.map(({ name }) => name));
  const named = (end) => `${kind != null ? kind : "room"}-${end}`;
  for (let number = 1, tried = 0; tried < NEW_TRIES; number++) {
    if (taken.has(named(number))) continue;
    yield named(number);
    tried++;
  }
  yield named(roomCode());
}
async function joinOrCreate(url, given) {
  const { filter, ...options } = given != null ? given : {};
  const at = (path, scheme) => {
    try {
      return addressOf(path, url, scheme);
    } catch {
      throw failure("bad_address", "This is not the address of a server. Use a full one, such as https://example.com/.");
    }
  };
  const rooms = await list(at("/rooms", "http"), options.signal);
  let refusal;
  for (const name of candidates(rooms, filter != null ? filter : {})) {
    try {
      return await connect(at(`/r/${name}`, "ws"), options);
    } catch (error) {
      if (error.code !== "room_full" && error.code !== "room_locked") throw error;
      refusal = error;
    }
  }
  throw refusal;
}
export {
  joinOrCreate,
  roomCode
};
//# sourceMappingURL=rooms.js.map
