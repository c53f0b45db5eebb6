// The tasks on Bun's websocket server, which is uWebSockets; plaintext or TLS.
import { metrics, options, pem, run, sit } from "./task.mjs";

const { host, port, tickMs, tls } = options();
const server = Bun.serve({
  hostname: host,
  port,
  tls: tls && pem(tls),
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
