// The tasks on geckos.io, with its defaults: unordered, no retransmits, all peers on one UDP port.
import geckos from "@geckos.io/server";
import http from "node:http";
import { Opaque, Walk, metrics, options, packed, run, sit } from "./task.mjs";

/** An event may have 550 characters, which the state as JSON exceeds. */
class WalkRaw extends Walk {
  message() {
    return packed(super.message());
  }
}

const { host, port, tickMs, task } = options();
const opaque = task === "opaque";
const server = http.createServer((_, response) => response.end(metrics()));
const io = geckos({ bindAddress: host, portRange: { min: port, max: port } });
io.addServer(server);
io.onConnection((channel) => {
  const { input, leave } = sit(channel, opaque ? Opaque : WalkRaw);
  if (opaque) channel.onRaw(input);
  else channel.on("input", input);
  channel.onDisconnect(leave);
});
server.listen(port, host, () => console.log("ready"));

run(tickMs, (room) => {
  const message = room.message();
  for (const channel of room.players) channel?.raw.emit(message);
});
