import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { after, before, describe, test } from "node:test";
import puppeteer from "puppeteer-core";
import { connection, playing, startServer, until } from "./harness.mjs";
import { CHANNELS, RAW_PAGES, fallsBack, joinInPage, losesNothing, playsOverChannel } from "./interop.mjs";

const executablePath = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
// Firefox has no candidate that reaches a loopback address.
const host = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === "IPv4" && !internal)
  ?.address;

function whyNot() {
  if (!existsSync(executablePath)) return `${executablePath} is missing: install Firefox, or name it in FIREFOX`;
  if (!host) return "this machine has no IPv4 address but loopback ones, which Firefox does not use";
  return false;
}

const WATCH_MS = 4_000;
const START_MS = 60_000;

describe("Firefox", { skip: whyNot() }, () => {
  let relay, arena, browser;

  before(async () => {
    relay = await startServer(["--game", "relay", "--public", RAW_PAGES], { host });
    arena = await startServer([], { host });
    browser = await puppeteer.launch({
      browser: "firefox",
      executablePath,
      headless: true,
      timeout: START_MS,
    });
  });

  after(async () => {
    await browser?.close();
    await relay?.stop();
    await arena?.stop();
  });

  async function open(url) {
    const page = await browser.newPage();
    await page.goto(url);
    return page;
  }

  for (const [how, options] of Object.entries(CHANNELS)) {
    test(`loses nothing over a channel that is ${how}`, async () => {
      const page = await open(relay.url);
      await losesNothing(await joinInPage(page, "relay", options));
      await page.close();
    });
  }

  for (const end of ["channel", "pc"]) {
    test(`plays on after ${end}.close()`, async () => {
      const page = await open(relay.url);
      const player = await joinInPage(page, "relay", CHANNELS["in-band"]);
      await playsOverChannel(player);
      await page.evaluate((end) => globalThis.player[end].close(), end);
      await fallsBack(player, "no_such_session");
      await page.close();
    });
  }

  test("is refused a channel that retransmits, and plays on", async () => {
    const page = await open(relay.url);
    await fallsBack(await joinInPage(page, "relay", {}), "channel_must_be_unreliable");
    await page.close();
  });

  test("gets the arena's states 30 times a second over the channel", async () => {
    const page = await open(arena.url);
    await playing(page, "webrtc");
    const times = await page.evaluate(async (watchMs) => {
      const times = [];
      const unsubscribe = rtcade.room.on("state", () => times.push(performance.now()));
      await new Promise((resolve) => setTimeout(resolve, watchMs));
      unsubscribe();
      return times;
    }, WATCH_MS);
    const perSecond = ((times.length - 1) * 1_000) / (times.at(-1) - times[0]);
    assert.ok(perSecond >= 28 && perSecond <= 31, `${perSecond} states per second`);
    const { transport, notice } = await connection(page);
    assert.deepEqual({ transport, notice }, { transport: "webrtc", notice: "" });
    await page.close();
  });
});

describe("a Firefox with settings for privacy", { skip: whyNot() }, () => {
  let arena;

  before(async () => {
    arena = await startServer([], { host });
  });

  after(() => arena?.stop());

  for (const [what, extraPrefsFirefox, transport] of [
    ["without WebRTC", { "media.peerconnection.enabled": false }, "websocket"],
    ["with a coarse clock", { "privacy.resistFingerprinting": true, "privacy.reduceTimerPrecision": true }, "webrtc"],
  ]) {
    test(`${what} plays over ${transport}`, async () => {
      const browser = await puppeteer.launch({
        browser: "firefox",
        executablePath,
        headless: true,
        timeout: START_MS,
        extraPrefsFirefox,
      });
      try {
        const page = await browser.newPage();
        await page.goto(arena.url);
        const { tick } = await playing(page, transport);
        await until("the game to go on", () => connection(page), (now) => now.tick >= tick + 30);
        assert.equal((await connection(page)).status, "open");
      } finally {
        await browser.close();
      }
    });
  }
});
