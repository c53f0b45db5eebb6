// Chromium plays for `SOAK_MINUTES` over a network that loses a fifth of all datagrams, both ways: nothing else is lost,
// and nothing comes late. `scripts/soak` runs it; which datagrams are lost, says `SOAK_SEED`.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";
import { launchBrowser, openPage, startServer } from "./harness.mjs";
import { CHANNELS, RAW_PAGES, joinHere, joinInPage, over, playsOverChannel, ticks } from "./interop.mjs";
import { startRelay } from "./lossy-relay.mjs";

const MINUTES = Number(process.env.SOAK_MINUTES ?? 10);
const SEED = process.env.SOAK_SEED ?? "1";
const LOSS = 0.2;
const ONE_WAY_MS = 50;
const TICK_MS = 33;
/** What a busy machine may add to the delay of one message in a thousand. An ordinary channel adds seconds. */
const LATE_MS = 200;

test(`nothing is late or lost but what the network loses, for ${MINUTES} minutes, seed ${SEED}`, async () => {
  const relay = await startRelay({ oneWayMs: ONE_WAY_MS, seed: SEED });
  const options = ["--game", "relay", "--public", RAW_PAGES, "--public-addr", `127.0.0.1:${relay.port}`];
  const server = await startServer(options);
  relay.target = Number(new URL(server.url).port);
  const browser = await launchBrowser();
  try {
    const { page } = await openPage(browser, server.url);
    const room = new URL(page.url()).pathname.slice("/r/".length);
    const player = await joinInPage(page, room, CHANNELS["in-band"]);
    // On the websocket, which loses nothing: what it hears of the player is what the server has.
    const witness = await joinHere(server.url, room);
    await playsOverChannel(player);
    const before = await player.record();
    relay.loss = LOSS;
    await player.play(MINUTES * 60_000);
    relay.loss = 0;
    const after = await player.record();
    await sleep(1_000);

    assert.equal(after.channel, "open");
    const frames = over("channel", { frames: after.frames.slice(before.frames.length) });
    down(frames);
    up(after, before.sent, ticks(over("websocket", witness.record())));
    witness.socket.close();
  } finally {
    await browser.close();
    await server.stop();
    await relay.close();
  }
});

function down(frames) {
  const seqs = frames.map(({ seq }) => seq);
  const numbers = [];
  for (const seq of seqs) {
    const newest = numbers.at(-1) ?? seq;
    numbers.push(newest + (((seq - newest + 0x8000) & 0xffff) - 0x8000));
  }
  assert.equal(new Set(numbers).size, numbers.length, "no frame comes twice");
  arrived("frames down", numbers.length, Math.max(...numbers) - Math.min(...numbers) + 1);
  onTime("ticks down", ticks(frames).map(({ at, tick }) => at - tick * TICK_MS));
}

function up({ me, firstInput, sentAt }, first, ticks) {
  const arrivals = ticks.flatMap(({ at, window: [inputs] }) =>
    inputs.filter(([player]) => player === me).map(([, number]) => ({ at, sent: number - firstInput })),
  );
  const counted = arrivals.filter(({ sent }) => sent >= first);
  assert.equal(new Set(counted.map(({ sent }) => sent)).size, counted.length, "no input comes twice");
  arrived("inputs up", counted.length, sentAt.length - first);
  onTime("inputs up", counted.map(({ at, sent }) => at - sentAt[sent]));
}

/** One point, or of few messages three and a half standard deviations. */
function arrived(what, count, sent) {
  const tolerance = Math.max(0.01, 3.5 * Math.sqrt((LOSS * (1 - LOSS)) / sent));
  console.log(`${what}: ${count} of ${sent} arrived, ${((100 * count) / sent).toFixed(2)} %`);
  assert.ok(Math.abs(count / sent - (1 - LOSS)) <= tolerance, `${what}: ${count} of ${sent}`);
}

function onTime(what, delays) {
  const sorted = delays.sort((a, b) => a - b).map((delay) => delay - delays[0]);
  const [half, most, nearlyAll] = [0.5, 0.99, 0.999].map((share) => sorted[Math.floor(share * sorted.length)]);
  const [p50, p99, p999, worst] = [half, most, nearlyAll, sorted.at(-1)].map((ms) => ms.toFixed(1));
  console.log(`${what}: above the least delay p50 ${p50} ms, p99 ${p99} ms, p99.9 ${p999} ms, at most ${worst} ms`);
  assert.ok(nearlyAll <= LATE_MS, `${what} were late: p99.9 is ${p999} ms`);
}
