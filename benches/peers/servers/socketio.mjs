// The tasks on socket.io with its defaults, except that there is no long polling: rooms, binary events or JSON.
import http from "node:http";
import { Server } from "socket.io";
import { Opaque, Walk, metrics, options, run, sit } from "./task.mjs";

const { host, port, tickMs, task } = options();
const web = http.createServer((_, response) => response.end(metrics()));
const io = new Server(web, { transports: ["websocket"], serveClient: false });
io.on("connection", (socket) => {
  const { room, input, leave } = sit(socket, task === "opaque" ? Opaque : Walk);
  socket.join(room.name);
  socket.on("input", input);
  socket.on("disconnect", leave);
});
web.listen(port, host, () => console.log("ready"));

run(tickMs, (room) => io.to(room.name).emit("state", room.message()));
