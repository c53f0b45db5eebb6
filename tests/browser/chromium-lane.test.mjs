import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { launchBrowser, openPage, playing, startServer, until } from "./harness.mjs";
import {
  CHANNELS,
  RAW_PAGES,
  STATE,
  fallsBack,
  joinHere,
  joinInPage,
  losesNothing,
  playsOverChannel,
  receivedAll,
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

  const play = async (channelOptions) => {
    const { page } = await openPage(browser, server.url);
    return { page, player: await joinInPage(page, roomOf(page), channelOptions) };
  };

  for (const [how, options] of Object.entries(CHANNELS)) {
    test(`loses nothing over a channel that is ${how}`, async () => {
      const { page, player } = await play(options);
      await losesNothing(player);
      await page.context().close();
    });
  }

  for (const options of RETRANSMITTING_OR_ORDERED) {
    test(`is refused a channel of ${JSON.stringify(options)}, and plays on`, async () => {
      const { page, player } = await play(options);
      await fallsBack(player, "channel_must_be_unreliable");
      await page.context().close();
    });
  }

  for (const end of ["channel", "pc"]) {
    test(`plays on after ${end}.close()`, async () => {
      const { page, player } = await play(CHANNELS["in-band"]);
      await playsOverChannel(player);
      await page.evaluate((end) => player[end].close(), end);
      await fallsBack(player, "no_such_session");
      assert.equal((await player.record()).channel, "closed");
      await page.context().close();
    });
  }

  const ends = {
    closes: (page) => page.close(),
    // The crash fails the navigation.
    crashes: (page) => page.goto("chrome://crash").catch(() => {}),
  };
  for (const [how, end] of Object.entries(ends)) {
    test(`leaves when its page ${how}`, async () => {
      const { page, player } = await play(CHANNELS.negotiated);
      await playsOverChannel(player);
      const { me } = await player.record();
      const other = await joinHere(server.url, roomOf(page));
      await end(page);
      await left(other, me);
      other.socket.close();
      await page.context().close();
    });
  }
});

describe("Chromium in the arena", () => {
  let browser;

  before(async () => {
    browser = await launchBrowser();
  });

  after(() => browser?.close());

  test("gets every state without the client", async () => {
    const server = await startServer(["--public", RAW_PAGES]);
    try {
      const { page } = await openPage(browser, server.url);
      const player = await joinInPage(page, roomOf(page), CHANNELS["in-band"]);
      await playsOverChannel(player);
      await until("states", async () => (await player.record()).frames.length, (count) => count >= 150);
      receivedAll(await player.record(), STATE);
    } finally {
      await server.stop();
    }
  });

  test("is a new player when its page is loaded again without its storage, and the old one is gone", async () => {
    const server = await startServer();
    try {
      const { page } = await openPage(browser, server.url);
      const { me } = await playing(page, "webrtc");
      const other = await joinHere(server.url, roomOf(page));
      await page.evaluate(() => sessionStorage.clear());
      await page.reload();
      await left(other, me);
      const again = await playing(page, "webrtc");
      assert.ok(again.me > other.record().me, `player ${me} came back as ${again.me}`);
      assert.equal(again.notice, "");
      other.socket.close();
    } finally {
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
