// A TCP relay between a browser and the server, which can cut or silence what goes through it.

import { once } from "node:events";
import { connect, createServer } from "node:net";

const HOST = "127.0.0.1";

/** Relays what comes to its `port` to `relay.target`. While `isSilent`, nothing that is open brings anything. */
export async function startTcpRelay() {
  const open = new Set();
  const relay = { port: undefined, target: undefined, isSilent: false, cut, close };
  const server = createServer((front) => {
    const back = connect(relay.target, HOST);
    const pair = [front, back];
    open.add(pair);
    const end = () => {
      open.delete(pair);
      for (const socket of pair) socket.destroy();
    };
    for (const [from, to] of [pair, [back, front]]) {
      from.on("data", (bytes) => relay.isSilent || to.write(bytes));
      from.on("error", end);
      from.on("close", end);
    }
  });
  server.listen(0, HOST);
  await once(server, "listening");
  relay.port = server.address().port;

  /** Ends every connection without a word. */
  function cut() {
    for (const pair of open) for (const socket of pair) socket.resetAndDestroy();
  }

  async function close() {
    const closed = once(server, "close");
    server.close();
    cut();
    await closed;
  }
  return relay;
}
