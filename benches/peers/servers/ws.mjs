// The tasks on ws, plaintext or TLS.
import http from "node:http";
import https from "node:https";
import { WebSocketServer } from "ws";
import { metrics, options, pem, run, sit } from "./task.mjs";

const { host, port, tickMs, tls } = options();
const answer = (_, response) => response.end(metrics());
const web = tls ? https.createServer(pem(tls), answer) : http.createServer(answer);
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
