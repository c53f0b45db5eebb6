// The tasks, for the servers that run JavaScript. Opaque: rooms of ten, one message per player and tick that carries the
// newest input of everybody in the room, stamped with the time at which it was made. Walk: the state of a small game.
import { decode, encode } from "@msgpack/msgpack";
import { readFileSync } from "node:fs";
import { ROOM_PLAYERS, World } from "./world.mjs";

const MESSAGE_BYTES = 200;
const STAMP_BYTES = 8;
const PLAYER_BYTES = 19;

/** Bytes that don't compress. */
export class Opaque {
  #state = Buffer.alloc(MESSAGE_BYTES);

  /** Takes the input of a player, bytes or a text: its last bytes stand for where they are. */
  input(seat, data) {
    const input = Buffer.from(data);
    this.#state.set(input.subarray(input.length - PLAYER_BYTES), STAMP_BYTES + seat * PLAYER_BYTES);
  }

  message() {
    const us = (performance.timeOrigin + performance.now()) * 1000;
    this.#state.writeBigUInt64LE(BigInt(Math.round(us)));
    return Buffer.from(this.#state);
  }
}

/** A game whose messages are objects, for servers that encode them themselves. */
export class Walk {
  #world = new World();

  input(seat, { heading, moving }) {
    this.#world.steer(seat, heading, moving);
  }

  message() {
    this.#world.step();
    return { players: this.#world.walkers };
  }
}

class WalkJson extends Walk {
  input(seat, text) {
    super.input(seat, JSON.parse(typeof text === "string" ? text : Buffer.from(text)));
  }

  message() {
    return JSON.stringify(super.message());
  }
}

/** MessagePack arrays without names, as rtcade sends them. */
export function packed({ players }) {
  return encode(players.map(({ x, y, heading, health, score }) => [x, y, heading, health, score]));
}

class WalkMsgpack extends Walk {
  input(seat, bytes) {
    const [heading, moving] = decode(bytes);
    super.input(seat, { heading, moving });
  }

  message() {
    return packed(super.message());
  }
}

/** `--listen ADDRESS:PORT --tick-ms MS [--task NAME] [--tls-key FILE --tls-certificate FILE]` */
export function options() {
  const value = (name) => process.argv[process.argv.indexOf(name, 2) + 1];
  const given = (name) => (process.argv.includes(name) ? value(name) : undefined);
  const [host, port] = value("--listen").split(":");
  const tls = given("--tls-key") && { key: given("--tls-key"), certificate: given("--tls-certificate") };
  return { host, port: Number(port), tickMs: Number(value("--tick-ms")), task: given("--task") ?? "opaque", tls };
}

/** Key and certificate as texts, by the names that Node and Bun have for them. */
export function pem({ key, certificate }) {
  return { key: readFileSync(key, "utf8"), cert: readFileSync(certificate, "utf8") };
}

const TASKS = { opaque: Opaque, walk: WalkJson, "walk-msgpack": WalkMsgpack };
const rooms = [];

/** A seat for a player, in the order of their coming. */
export function sit(player, Task = TASKS[options().task]) {
  let room = rooms.find((room) => room.players.includes(null));
  if (!room) {
    room = { name: `room-${rooms.length}`, players: new Array(ROOM_PLAYERS).fill(null), task: new Task() };
    room.message = () => room.task.message();
    rooms.push(room);
  }
  const seat = room.players.indexOf(null);
  room.players[seat] = player;
  return { room, seat, input: (data) => room.task.input(seat, data), leave: () => void (room.players[seat] = null) };
}

/** Calls `send(room)` for every room at every tick, on an absolute grid. */
export function run(tickMs, send) {
  let next = performance.now() + tickMs;
  const tick = () => {
    // Timers run up to a millisecond early.
    if (performance.now() >= next) for (const room of rooms) send(room);
    const now = performance.now();
    while (next <= now) next += tickMs;
    setTimeout(tick, next - now);
  };
  setTimeout(tick, tickMs);
}

/** The server's own CPU time, as Prometheus reads it. */
export function metrics() {
  const { user, system } = process.cpuUsage();
  return `# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total ${(user + system) / 1e6}\n`;
}
