// A UDP relay that delays and loses datagrams: between a browser and the server, in user space.

import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";

const HOST = "127.0.0.1";
/** The length of a slow client's queue. */
const QUEUE_MS = 300;

/**
 * Relays what comes to its `port` to `relay.target`, and what comes back, each `oneWayMs` later. Of a direction's
 * datagrams it loses the share `relay.loss`: which, says the seed. A client whose port is in `relay.rates` gets so many
 * bytes per second through a queue of `QUEUE_MS`.
 */
export async function startRelay({ oneWayMs, seed }) {
  const front = await bound();
  const backs = new Map();
  const relay = { port: front.address().port, target: undefined, loss: 0, rates: new Map(), close };
  /** By port: when the queue will be empty. */
  const emptyAt = new Map();
  /** The time that a datagram waits in the queue of a client; `undefined` if that is full. */
  const queued = (port, bytes) => {
    const rate = relay.rates.get(port);
    if (!rate) return 0;
    const now = performance.now();
    const wait = Math.max(0, (emptyAt.get(port) ?? 0) - now);
    if (wait > QUEUE_MS) return undefined;
    emptyAt.set(port, now + wait + (bytes / rate) * 1000);
    return wait;
  };

  const direction = (name) => {
    let number = 0;
    return (send, wait = 0) => {
      const draw = createHash("sha256").update(`${seed} ${name} ${number++}`).digest().readUInt32BE() / 2 ** 32;
      if (draw >= relay.loss) setTimeout(send, oneWayMs + wait);
    };
  };
  const up = direction("up");
  const down = direction("down");

  let closed = false;
  const unlessClosed = (send) => () => closed || send();
  front.on("message", async (bytes, { address, port }) => {
    const client = `${address}:${port}`;
    if (!backs.has(client)) {
      backs.set(client, bound());
      const back = await backs.get(client);
      back.on("message", (bytes) => {
        const wait = queued(port, bytes.length);
        if (wait !== undefined) down(unlessClosed(() => front.send(bytes, port, address)), wait);
      });
    }
    const back = await backs.get(client);
    up(unlessClosed(() => back.send(bytes, relay.target, HOST)));
  });

  async function close() {
    closed = true;
    for (const socket of [front, ...(await Promise.all(backs.values()))]) socket.close();
  }
  return relay;
}

async function bound() {
  const socket = createSocket("udp4");
  socket.bind(0, HOST);
  await once(socket, "listening");
  return socket;
}
