// The task on ws, plaintext.
import http from "node:http";
import { WebSocketServer } from "ws";
import { metrics, options, run, sit } from "./task.mjs";

const { host, port, tickMs } = options();
const web = http.createServer((_, response) => response.end(metrics()));
const server = new WebSocketServer({ server: web, perMessageDeflate: false });
web.listen(port, host, () => console.log("ready"));
server.on("connection", (socket) => {
  const { input, leave } = sit(socket);
  socket.on("message", input);
  socket.on("close", leave);
  socket.on("error", () => {});
});

run(tickMs, (room) => {
  const message = room.message();
  for (const socket of room.players) socket?.send(message);
});
