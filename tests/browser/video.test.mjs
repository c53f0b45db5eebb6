import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { after, before, describe, test } from "node:test";
import puppeteer from "puppeteer-core";
import { connection, launchBrowser, openPage, playing, screenshot, startServer, until } from "./harness.mjs";
import { startRelay } from "./lossy-relay.mjs";

const DEVICES = [
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--autoplay-policy=no-user-gesture-required",
];

/** Runs in the page, before its own scripts: keeps its peer connections. */
function watch() {
  globalThis.connections = [];
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      globalThis.connections.push(this);
    }
  };
}

/** Joins the videos of the page's room, and shows them. */
async function film(page, options) {
  await page.evaluate(async (options) => {
    const { joinVideo } = await import("/rtcade/video.js");
    globalThis.seen = {};
    rtcade.room.on("eventFreeze", () => (globalThis.freezes = (globalThis.freezes ?? 0) + 1));
    rtcade.room.on("eventUserMediaConfiguration", ({ d }) => (globalThis.allowed = d));
    globalThis.video = await joinVideo(rtcade.room, options);
    video.on("video", ({ player, stream }) => {
      seen[player]?.remove();
      delete seen[player];
      if (!stream) return;
      const element = Object.assign(document.createElement("video"), { muted: true, srcObject: stream });
      element.style = "position: fixed; z-index: 99; top: 0; right: 0; width: 45vw";
      document.body.append(element);
      element.play();
      seen[player] = element;
    });
  }, options);
}

/** What the page has decoded of a video: frames and width. */
const decoded = (page, player) =>
  page.evaluate((player) => {
    const element = seen[player];
    return { frames: element?.getVideoPlaybackQuality().totalVideoFrames ?? 0, width: element?.videoWidth ?? 0 };
  }, player);

/** Waits until the page decodes a video of at least this width, or if `isMost` of at most this one. */
const watches = async (page, player, width = 1, isMost = false) => {
  const before = await decoded(page, player);
  const isWide = (now) => now.width > 0 && (isMost ? now.width <= width : now.width >= width);
  return until(`frames of player ${player}, ${isMost ? "at most" : "at least"} ${width} wide`, () => decoded(page, player),
    (now) => now.frames > before.frames + 10 && isWide(now), 40_000);
};

async function openPages(browser, server, count) {
  const pages = [];
  for (let index = 0; index < count; index++) {
    const opened = await openPage(browser, "about:blank");
    await opened.page.addInitScript(watch);
    await opened.page.goto(pages[0]?.page.url() ?? server.url);
    await playing(opened.page, "webrtc");
    pages.push({ ...opened, me: (await connection(opened.page)).me });
  }
  return pages;
}

/** The ports from which the page's media connection may send. */
const portsOf = (page) =>
  page.evaluate(async () => {
    const stats = [...(await connections.at(-1).getStats()).values()];
    return stats.filter(({ type }) => type === "local-candidate").map(({ port }) => port);
  });

describe("videos in a room", () => {
  let server, browser, ann, ben, cleo;

  before(async () => {
    server = await startServer(["--game", "relay", "--media=video"]);
    browser = await launchBrowser(DEVICES);
    [ann, ben, cleo] = await openPages(browser, server, 3);
    await film(ann.page, { microphone: false });
    await film(ben.page, { microphone: false });
    await film(cleo.page, { microphone: false, camera: false });
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test("everybody sees whoever publishes, and nobody themselves", async () => {
    for (const [viewer, players] of [[ann, [ben]], [ben, [ann]], [cleo, [ann, ben]]]) {
      for (const { me } of players) await watches(viewer.page, me);
      assert.deepEqual(await viewer.page.evaluate(() => Object.keys(seen).map(Number)), players.map(({ me }) => me));
    }
    assert.deepEqual(await ann.page.evaluate(() => allowed), { audio: true, video: true });
    await screenshot(cleo.page, "video");
  });

  test("a camera can be given back and taken again", async () => {
    await ben.page.evaluate(() => video.setCamera(false));
    await until("a freeze", () => cleo.page.evaluate(() => globalThis.freezes ?? 0));
    await ben.page.evaluate(() => video.setCamera(true));
    await watches(cleo.page, ben.me);
  });

  test("whoever leaves the videos is seen no more", async () => {
    await ben.page.evaluate(() => video.leave());
    await until("one video", () => cleo.page.evaluate(() => Object.keys(seen).length), (count) => count === 1);
    assert.deepEqual(ann.errors.concat(ben.errors, cleo.errors), []);
  });
});

test("each viewer gets the layer for their link, where a twentieth of the packets is lost", async () => {
  const relay = await startRelay({ oneWayMs: 20, seed: "video" });
  const server = await startServer(["--game", "relay", "--media=video", "--public-addr", `127.0.0.1:${relay.port}`]);
  relay.target = Number(server.output.match(/udp:\/\/\S+:(\d+)/)?.[1] ?? new URL(server.url).port);
  const browser = await launchBrowser(DEVICES);
  try {
    const [ann, ben, cleo, dora] = await openPages(browser, server, 4);
    await film(ann.page, { microphone: false });
    for (const { page } of [ben, cleo, dora]) await film(page, { microphone: false, camera: false });
    for (const { page } of [ben, cleo, dora]) await watches(page, ann.me, 640);
    const ports = await portsOf(cleo.page);
    for (const port of ports) relay.rates.set(port, 40_000);
    await watches(cleo.page, ann.me, 320, true);
    await watches(ben.page, ann.me, 640);
    for (const port of ports) relay.rates.delete(port);
    await watches(cleo.page, ann.me, 640);
    relay.loss = 0.05;
    for (const { page } of [ben, cleo, dora]) {
      const before = await decoded(page, ann.me);
      await until("a hundred frames", () => decoded(page, ann.me), ({ frames }) => frames > before.frames + 100, 40_000);
    }
  } finally {
    await browser.close();
    await server.stop();
    await relay.close();
  }
});

const firefox = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
// Firefox has no candidate that reaches a loopback address.
const host = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === "IPv4" && !internal)
  ?.address;

test("Firefox and Chromium see each other", { skip: !existsSync(firefox) || !host }, async () => {
  const server = await startServer(["--game", "relay", "--media=video"], { host });
  const chromium = await launchBrowser([...DEVICES, `--unsafely-treat-insecure-origin-as-secure=${new URL(server.url).origin}`]);
  const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: firefox,
    headless: true,
    timeout: 60_000,
    extraPrefsFirefox: {
      "media.devices.insecure.enabled": true,
      "media.getusermedia.insecure.enabled": true,
      "media.navigator.permission.disabled": true,
      "media.navigator.streams.fake": true,
      "media.autoplay.default": 0,
    },
  });
  try {
    const [ann] = await openPages(chromium, server, 1);
    const page = await browser.newPage();
    await page.goto(ann.page.url());
    await playing(page, "webrtc");
    await page.evaluate(watch);
    const ben = { page, me: (await connection(page)).me };
    for (const { page } of [ann, ben]) await film(page, { microphone: false });
    await watches(ann.page, ben.me);
    // Firefox counts no frames of an element that plays a stream.
    const frames = () =>
      ben.page.evaluate(async () => {
        const stats = [...(await connections.at(-1).getStats()).values()];
        return stats.reduce((sum, { type, framesDecoded }) => sum + (type === "inbound-rtp" && framesDecoded > 0 ? framesDecoded : 0), 0);
      });
    await until("frames in Firefox", frames, (count) => count > 20);
    assert.ok((await decoded(ben.page, ann.me)).width > 0);
    await screenshot(ann.page, "video-chromium-of-firefox");
    await screenshot(ben.page, "video-firefox-of-chromium");
    await ben.page.evaluate(() => video.setCamera(false));
    await until("an end of Firefox's video", async () => {
      const before = await decoded(ann.page, ben.me);
      await new Promise((resolve) => setTimeout(resolve, 500));
      return (await decoded(ann.page, ben.me)).frames - before.frames;
    }, (count) => count === 0);
    await ben.page.evaluate(() => video.setCamera(true));
    await watches(ann.page, ben.me);
    assert.deepEqual(ann.errors, []);
  } finally {
    await browser.close();
    await chromium.close();
    await server.stop();
  }
});
