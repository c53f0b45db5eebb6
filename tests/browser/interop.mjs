// What every WebRTC stack has to show: its data channel opens, and loses nothing where the network loses nothing.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { inflateRawSync } from "node:zlib";
import { WebSocket } from "ws";
import { decode } from "../../client-js/src/msgpack.js";
import { until } from "./harness.mjs";
import { join } from "./raw/player.js";

/** A directory whose page can `join` without the client of this repository. */
export const RAW_PAGES = fileURLToPath(new URL("raw", import.meta.url));

/** The channels that may be offered: both ends know the id beforehand, or it opens in-band (RFC 8832). */
export const CHANNELS = {
  negotiated: { negotiated: true, id: 0, ordered: false, maxRetransmits: 0 },
  "in-band": { ordered: false, maxRetransmits: 0 },
};

export const STATE = 4;
const TICK = 5;
const EVENT = 6;
const DEFLATED = 0x20;
const PARTED = 0x10;

const PLAY_MS = 3_000;
/** Within this the server knows of a goodbye: well below the 15 s after which silence alone tells it. */
const GOODBYE_MS = 5_000;
/** Within this the server knows that a peer has gone silent. */
export const SILENCE_MS = 30_000;

/** Joins in Node: over the websocket alone, unless `channelOptions` say what channel `stack` is to offer. */
export const joinHere = (url, room, channelOptions, stack) => join(url, room, channelOptions, { WebSocket, ...stack });

/** Joins in a page of `RAW_PAGES`, where the player is `globalThis.player`. */
export async function joinInPage(page, room, channelOptions) {
  await page.evaluate(
    async ([room, channelOptions]) => {
      globalThis.player = await join(location.href, room, channelOptions);
    },
    [room, channelOptions],
  );
  return {
    play: (ms) => page.evaluate((ms) => player.play(ms), ms),
    record: () => page.evaluate(() => player.record()),
  };
}

/** Waits until the channel is open and has brought so many frames. */
export async function playsOverChannel(player, frames = 1) {
  await until("a channel that is open", async () => (await player.record()).channel, (state) => state === "open");
  const received = async () => over("channel", await player.record()).length;
  await until(`${frames} frames on the channel`, received, (count) => count >= frames);
}

/** In a relay room, a few seconds without a frame or an input that is lost, doubled or out of order. */
export async function losesNothing(player) {
  await playsOverChannel(player);
  await player.play(PLAY_MS);
  const { firstInput, sent } = await player.record();
  const inputs = Array.from({ length: sent }, (_, i) => firstInput + i);
  const comeBack = async () => ownInputs(await player.record());
  const seen = await until("the last input to come back", comeBack, (numbers) => numbers.at(-1) === inputs.at(-1));
  assert.deepEqual(seen, inputs);
  receivedAll(await player.record(), TICK);
}

/** Every frame since the channel opened came over it, in order, with many of `kind` among them. */
export function receivedAll(record, kind) {
  const frames = over("channel", record);
  const seqs = frames.map(({ seq }) => seq);
  assert.deepEqual(seqs, seqs.map((_, i) => seqs[0] + i));
  assert.ok(over("websocket", record).every(({ seq }) => seq < seqs[0]), "nothing more came over the websocket");
  const count = frames.filter((frame) => frame.kind === kind).length;
  assert.ok(count >= 60, `${count} frames of kind ${kind}`);
}

/** The server tells why the channel closed, and play goes on over the websocket. */
export async function fallsBack(player, code, noticeMs = GOODBYE_MS) {
  const closed = async () => (await player.record()).events.find(({ a }) => a === "eventChannelClosed");
  const { d } = await until("a word on the closed channel", closed, Boolean, noticeMs);
  assert.equal(d.e, code);
  assert.notEqual(d.m, "");
  const count = async () => over("websocket", await player.record()).filter(({ kind }) => kind === TICK).length;
  const before = await count();
  await until("ticks over the websocket", count, (now) => now >= before + 30);
}

/** The unreliable frames that came `via` the channel or the websocket: too few for `seq` to wrap. */
export function over(via, { frames }) {
  const taken = frames.filter((frame) => frame.via === via).map(({ at, bytes: [first, ...rest] }) => {
    const [low, high, , , ...body] = first & PARTED ? rest.slice(1) : rest;
    return { at, kind: first & 0x0f, deflated: (first & DEFLATED) !== 0, seq: low + 256 * high, body };
  });
  return taken.filter(({ kind }) => kind <= EVENT);
}

/** The ticks among `frames`, with the inputs of each and of those before it. */
export function ticks(frames) {
  return frames.filter(({ kind }) => kind === TICK).map(({ at, deflated, body }) => {
    const bytes = Uint8Array.from(body);
    const [tick, ...window] = decode(deflated ? new Uint8Array(inflateRawSync(bytes)) : bytes);
    return { at, tick, window };
  });
}

/** The numbers of a player's own inputs, as the ticks have them that came over the channel. */
function ownInputs(record) {
  const byTick = new Map();
  for (const { tick, window } of ticks(over("channel", record))) {
    for (const [age, inputs] of window.entries()) byTick.set(tick - age, inputs);
  }
  const inputs = [...byTick].sort(([a], [b]) => a - b).flatMap(([, inputs]) => inputs);
  return inputs.filter(([player]) => player === record.me).map(([, number]) => number);
}
