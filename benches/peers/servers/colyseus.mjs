// The tasks on Colyseus with its default transport, ws, and a fixed tick. Opaque bytes are broadcast as a message; the
// game is its synchronized state, with the narrowest types that hold the values.
import { Room, Server } from "@colyseus/core";
import { schema, t } from "@colyseus/schema";
import { WebSocketTransport } from "@colyseus/ws-transport";
import { Opaque, metrics, options } from "./task.mjs";
import { ROOM_PLAYERS, World } from "./world.mjs";

const { host, port, tickMs, task } = options();
const ticksPerSecond = 1000 / tickMs;

class TaskRoom extends Room {
  maxClients = ROOM_PLAYERS;
  seats = new Array(ROOM_PLAYERS).fill(null);

  onJoin(client) {
    this.seats[this.seats.indexOf(null)] = client.sessionId;
  }

  onLeave(client) {
    this.seats[this.seat(client)] = null;
  }

  seat(client) {
    return this.seats.indexOf(client.sessionId);
  }
}

class OpaqueRoom extends TaskRoom {
  onCreate() {
    const task = new Opaque();
    this.onMessageBytes("input", (client, bytes) => task.input(this.seat(client), bytes));
    this.setFixedTimestep(() => this.broadcastBytes("state", task.message()), ticksPerSecond);
    // There is no state. Before there is a timestep, this would start a timer that takes time from its clock.
    this.patchRate = null;
  }
}

const Walker = schema(
  { x: t.uint16(), y: t.uint16(), heading: t.uint16(), health: t.uint8(), score: t.uint16() },
  "Walker",
);
const State = schema({ players: t.array(Walker) }, "State");

class WalkRoom extends TaskRoom {
  patchRate = tickMs;
  state = new State();

  onCreate() {
    const world = new World();
    for (const walker of world.walkers) this.state.players.push(Object.assign(new Walker(), walker));
    this.onMessage("input", (client, { heading, moving }) => world.steer(this.seat(client), heading, moving));
    this.setFixedTimestep(() => {
      world.step();
      world.walkers.forEach((walker, index) => Object.assign(this.state.players[index], walker));
    }, ticksPerSecond);
  }
}

const server = new Server({
  transport: new WebSocketTransport(),
  greet: false,
  gracefullyShutdown: false,
  express: (app) => app.get("/metrics", (_, response) => response.send(metrics())),
});
server.define("task", task === "opaque" ? OpaqueRoom : WalkRoom);
await server.listen(port, host);
console.log("ready");
