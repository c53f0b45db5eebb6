// A TCP relay between clients and the server, which can cut or silence what goes through it.

import { once } from "node:events";
import { connect, createServer } from "node:net";

const HOST = "127.0.0.1";

/**
 * Relays what comes to its `port` to `relay.target`: a port, or a list of those of several servers, which get one
 * connection after the other; where one refuses, the next gets it. While `isSilent`, nothing that is open brings anything.
 */
export async function startTcpRelay() {
  const open = new Set();
  const relay = { port: undefined, target: undefined, isSilent: false, cut, close };
  let turn = 0;
  const server = createServer((front) => {
    const targets = [relay.target].flat();
    let tries = targets.length;
    const pair = [front];
    open.add(pair);
    const end = () => {
      open.delete(pair);
      for (const socket of pair) socket.destroy();
    };
    const join = (from, to) => from.on("data", (bytes) => relay.isSilent || to.write(bytes));
    const dial = () => {
      const back = connect(targets[turn++ % targets.length], HOST);
      pair[1] = back;
      const next = () => (--tries > 0 && open.has(pair) ? dial() : end());
      back.on("error", next);
      back.on("connect", () => {
        back.off("error", next).on("error", end).on("close", end);
        join(back, front);
        join(front, back);
      });
    };
    front.on("error", end).on("close", end);
    dial();
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
