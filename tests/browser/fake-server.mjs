#!/usr/bin/env node
// Stands in for the server where the harness itself is tested. The first argument says how it behaves.

import { createServer } from "node:http";

const PAGE = `<!doctype html><link rel="icon" href="data:,"><p id="notice">in words</p><script>
  console.log("not an error");
  console.error("on the console");
  setTimeout(() => { throw new Error("thrown"); });
  new RTCPeerConnection().createDataChannel("game", { ordered: false, maxRetransmits: 0 });
</script>`;

const behaviour = process.argv[2];
if (behaviour === "dies") {
  console.error("this port is taken");
  process.exit(2);
}
const server = createServer((_, response) => response.setHeader("content-type", "text/html").end(PAGE));
server.listen(0, "127.0.0.1", () => {
  console.error("not the URL: http://127.0.0.1:1/");
  if (behaviour !== "silent") console.log(`Open http://127.0.0.1:${server.address().port}/ to play.`);
});
process.on("SIGTERM", () => {
  if (behaviour !== "stubborn") process.exit(7);
});
