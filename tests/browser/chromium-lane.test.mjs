import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connection, launchBrowser, openPage, playing, startServer, until } from "./harness.mjs";
import {
  IN_BAND, NEGOTIATED, RAW_PAGES, STATE, fallsBack, joinHere, joinInPage, losesNothing, playsOverChannel, receivedAll,
} from "./interop.mjs";

const RETRANSMITTING_OR_ORDERED = [
  {},
  { ordered: false },
  { ordered: false, maxRetransmits: 1 },
  { ordered: false, maxPacketLifeTime: 100 },
  { ordered: true, maxRetransmits: 0 },
];

describe("Chromium without the client", () => {
  let server, browser;

  before(async () => {
    server = await startServer(["--game", "relay", "--public", RAW_PAGES]);
    browser = await launchBrowser();
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  const freshPage = async () => (await openPage(browser, server.url)).page;
  const play = async (channelOptions) => {
    const page = await freshPage();
    return { page, player: await joinInPage(page, roomOf(page), channelOptions) };
  };

  test("loses nothing over a negotiated channel", async () => {
    const { page, player } = await play(NEGOTIATED);
    await losesNothing(player);
    await page.context().close();
  });

  test("loses nothing over a channel opened in-band", async () => {
    const { page, player } = await play(IN_BAND);
    await losesNothing(player);
    await page.context().close();
  });

  for (const options of RETRANSMITTING_OR_ORDERED) {
    test(`is refused a channel of ${JSON.stringify(options)}, and plays on`, async () => {
      const { page, player } = await play(options);
      await fallsBack(player, "channel_must_be_unreliable");
      await page.context().close();
    });
  }

  for (const end of ["channel", "pc"]) {
    test(`plays on after ${end}.close()`, async () => {
      const { page, player } = await play(IN_BAND);
      await playsOverChannel(player);
      await page.evaluate((end) => player[end].close(), end);
      await fallsBack(player, "no_such_session");
      assert.equal((await player.record()).channel, "closed");
      await page.context().close();
    });
  }

  test("leaves when its page closes, or crashes", async () => {
    const closing = await play(NEGOTIATED);
    const crashing = await play(NEGOTIATED);
    for (const { page, player, end } of [
      { ...closing, end: () => closing.page.close() },
      // The crash fails the navigation.
      { ...crashing, end: () => crashing.page.goto("chrome://crash").catch(() => {}) },
    ]) {
      await playsOverChannel(player);
      const { me } = await player.record();
      const other = await joinHere(server.url, roomOf(page));
      await end();
      await left(other, me);
      other.socket.close();
    }
  });
});

describe("Chromium in the arena", () => {
  let server, browser;

  before(async () => {
    server = await startServer();
    browser = await launchBrowser();
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test("a page that is loaded again is a new player, and the old one is gone", async () => {
    const { page } = await openPage(browser, server.url);
    const { me } = await playing(page, "webrtc");
    const other = await joinHere(server.url, roomOf(page));
    await page.reload();
    await left(other, me);
    const again = await playing(page, "webrtc");
    assert.ok(again.me > other.record().me, `player ${me} came back as ${again.me}`);
    assert.equal((await connection(page)).notice, "");
    other.socket.close();
  });
});

describe("Chromium without the client in the arena", () => {
  test("gets every state", async () => {
    const server = await startServer(["--public", RAW_PAGES]);
    const browser = await launchBrowser();
    try {
      const { page } = await openPage(browser, server.url);
      const player = await joinInPage(page, roomOf(page), IN_BAND);
      await playsOverChannel(player);
      const { frames } = await player.record();
      const more = async () => (await player.record()).frames.length - frames.length;
      await until("states", more, (count) => count >= 100);
      receivedAll(await player.record(), STATE);
    } finally {
      await browser.close();
      await server.stop();
    }
  });
});

const roomOf = (page) => new URL(page.url()).pathname.slice("/r/".length);

/** Others are told that `player` has left. */
async function left(other, player) {
  const gone = async () => other.record().events.find(({ a, d }) => a === "eventLeave" && d.player === player);
  const { d } = await until(`player ${player} to leave`, gone);
  assert.ok(["left", "closed"].includes(d.reason), d.reason);
}
