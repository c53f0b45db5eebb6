// The task on geckos.io, with its defaults: unordered, no retransmits, all peers on one UDP port.
import geckos from "@geckos.io/server";
import http from "node:http";
import { metrics, options, run, sit } from "./task.mjs";

const { host, port, tickMs } = options();
const server = http.createServer((_, response) => response.end(metrics()));
const io = geckos({ bindAddress: host, portRange: { min: port, max: port } });
io.addServer(server);
io.onConnection((channel) => {
  const { input, leave } = sit(channel);
  channel.onRaw(input);
  channel.onDisconnect(leave);
});
server.listen(port, host, () => console.log("ready"));

run(tickMs, (room) => {
  const message = room.message();
  for (const channel of room.players) channel?.raw.emit(message);
});
