// A client of the real core, a net that delays, loses and holds frames, and a server with fixed ticks: all in virtual
// time, and from one seed.

import { ACK, INPUT, PING, PONG, STATE } from "../src/frame.js";
import { down, join, REPLY, up } from "./fakes.js";
import { randomBytes } from "./vectors.js";

export const START = 100;

/**
 * A match of one client.
 *
 * @param net `{seed, tickMs, oneWay, jitter, loss, overWebsocket}`: ms, and the share of frames that are lost
 * @param game `{tick(number, inputs), state(number)}`: what the server does in a tick with `[{number, input}]`, and sends
 */
export async function match({ seed = 1, tickMs = 33, oneWay = 75, jitter = 0, loss = 0, overWebsocket = false }, game) {
  const session = await join({}, { tickMs, tick: START, sdp: overWebsocket ? undefined : REPLY.sdp });
  const { clock, room } = session;
  const random = randomBytes(seed * 2_654_435_761 + 1);
  for (let i = 0; i < 20; i++) random.below(2);
  const chance = () => random.below(1_000_000) / 1_000_000;

  const net = { loss, oneWay, jitter, heldUntil: 0, isCut: false };
  let lastDue = 0;
  /** Over the channel each frame by itself, over the websocket in order and none lost. */
  const carry = (overWebsocket, deliver) => {
    let due = clock.time + net.oneWay + chance() * net.jitter;
    if (overWebsocket) lastDue = due = Math.max(lastDue, due, net.heldUntil);
    else if (chance() < net.loss) return;
    clock.setTimeout(() => net.isCut || deliver(), due - clock.time);
  };

  const { channel } = session.pc;
  let sequence = 0;
  // What names START arrives as the match begins, so it was sent before.
  const startedAt = clock.time - oneWay;
  const server = { number: START + Math.floor(oneWay / tickMs), consumed: 0, newest: 0, waiting: [], taken: [] };
  const send = (kind, body, way = overWebsocket) => {
    const frame = down(kind, { seq: sequence++ & 0xffff, ack: server.consumed & 0xffff }, body);
    carry(way, () => (way ? session.socket : channel).deliver(frame));
  };
  const take = ({ kind, body }, way) => {
    if (kind === PING) send(PONG, [body[0], clock.time, server.number], way);
    if (kind !== INPUT) return;
    const [newest, inputs] = body;
    inputs.toReversed().forEach((input, n) => {
      const number = newest - inputs.length + 1 + n;
      if (number > server.newest) server.waiting.push({ number, input });
    });
    server.newest = Math.max(server.newest, newest);
  };
  const transmit = (bytes, way) => {
    const [frame] = up([bytes]);
    carry(way, () => take(frame, way));
  };
  /** Also to a websocket that came after another. */
  const attach = () => {
    const { sent } = session.socket;
    session.socket.send = (data) => void (typeof data === "string" ? sent.push(data) : transmit(data, true));
  };
  attach();
  if (!overWebsocket) {
    session.pc.open();
    channel.send = (data) => transmit(data, false);
  }
  /** The tick that the server is in, with its fraction. */
  server.now = () => START + (clock.time - startedAt) / tickMs;
  const tick = () => {
    clock.setTimeout(tick, startedAt + (++server.number + 1 - START) * tickMs - clock.time);
    const inputs = server.waiting;
    server.waiting = [];
    game.tick(server.number, inputs);
    for (const { number } of inputs) server.taken.push(number);
    server.consumed = inputs.at(-1)?.number ?? server.consumed;
    send(STATE, [server.number, game.state(server.number)]);
  };
  clock.startHeartbeat(() => {
    const frame = down(ACK, { reliable: true, tick: server.number }, [0]);
    carry(true, () => session.socket.deliver(frame));
  });
  clock.setTimeout(tick, startedAt + (server.number + 1 - START) * tickMs - clock.time);
  return Object.assign(session, { net, server, random, chance, attach });
}

/** Calls `frame` as a display does, `hz` times a second for `ms`. */
export async function display({ clock }, hz, ms, frame) {
  const timer = clock.setInterval(frame, 1_000 / hz);
  await clock.advance(ms);
  clock.clearInterval(timer);
}

export const percentile = (values, share) => values.toSorted((a, b) => a - b)[Math.floor(values.length * share)];
