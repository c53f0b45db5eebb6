// The task on ws, plaintext.
import { WebSocketServer } from "ws";
import { options, run, sit } from "./task.mjs";

const { host, port, tickMs } = options();
const server = new WebSocketServer({ host, port, perMessageDeflate: false }, () => console.log("ready"));
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
