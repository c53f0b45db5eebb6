// The task on Bun's websocket server, which is uWebSockets; plaintext.
import { metrics, options, run, sit } from "./task.mjs";

const { host, port, tickMs } = options();
const server = Bun.serve({
  hostname: host,
  port,
  fetch: (request, server) => (server.upgrade(request, { data: {} }) ? undefined : new Response(metrics())),
  websocket: {
    perMessageDeflate: false,
    open(socket) {
      socket.data.seat = sit(socket);
      socket.subscribe(socket.data.seat.room.name);
    },
    message: (socket, input) => socket.data.seat.input(input),
    close: (socket) => socket.data.seat.leave(),
  },
});
console.log("ready");

run(tickMs, (room) => server.publish(room.name, room.message()));
