// The one task, for the servers that run JavaScript: rooms of ten, one message per player and tick that carries the
// newest input of everybody in the room, stamped with the time at which it was made.

const ROOM_PLAYERS = 10;
const MESSAGE_BYTES = 200;
const STAMP_BYTES = 8;
const PLAYER_BYTES = 19;

class Room {
  players = new Array(ROOM_PLAYERS).fill(null);
  #state = Buffer.alloc(MESSAGE_BYTES);

  constructor(name) {
    this.name = name;
  }

  /** Takes the input of a player, bytes or a text: its last bytes stand for where they are. */
  set(seat, data) {
    const input = Buffer.from(data);
    this.#state.set(input.subarray(input.length - PLAYER_BYTES), STAMP_BYTES + seat * PLAYER_BYTES);
  }

  /** The message of this tick. */
  message() {
    const us = (performance.timeOrigin + performance.now()) * 1000;
    this.#state.writeBigUInt64LE(BigInt(Math.round(us)));
    return Buffer.from(this.#state);
  }
}

const rooms = [];

/** A seat for a player, in the order of their coming. */
export function sit(player) {
  let room = rooms.find((room) => room.players.includes(null));
  if (!room) rooms.push((room = new Room(`room-${rooms.length}`)));
  const seat = room.players.indexOf(null);
  room.players[seat] = player;
  return { room, seat, input: (bytes) => room.set(seat, bytes), leave: () => void (room.players[seat] = null) };
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

/** `--listen ADDRESS:PORT --tick-ms MS` */
export function options() {
  const value = (name) => process.argv[process.argv.indexOf(name) + 1];
  const [host, port] = value("--listen").split(":");
  return { host, port: Number(port), tickMs: Number(value("--tick-ms")) };
}
