// WHIP (RFC 9725) and WHEP, with aiortc as the client.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launchBrowser, openPage, playing, screenshot, startServer, until } from "./harness.mjs";
import { PYTHON, install } from "./python.mjs";

const CLIENT = fileURLToPath(new URL("whip.py", import.meta.url));
const DEVICES = [
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--autoplay-policy=no-user-gesture-required",
];
const skip = await install();

/** Runs the client. `end()` lets it end, and gives what it tells then, as `result` does when it ends by itself. */
function start(what, url, frames = 0) {
  const client = spawn(PYTHON, [CLIENT, what, url, String(frames)], { stdio: ["pipe", "pipe", "inherit"], timeout: 60_000 });
  const result = Promise.all([text(client.stdout), once(client, "exit")]).then(([told]) => JSON.parse(told));
  result.catch(() => {});
  return { result, end: () => (client.stdin.end(), result) };
}

describe("over HTTP alone", { skip }, () => {
  let server, browser;

  before(async () => {
    server = await startServer(["--game", "relay", "--media=video"]);
    browser = await launchBrowser(DEVICES);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  const open = async (room, options) => {
    const { page } = await openPage(browser, `${server.url}r/${room}`);
    await playing(page, "webrtc");
    await page.evaluate(async (options) => {
      const { joinVideo } = await import("/rtcade/video.js");
      globalThis.video = await joinVideo(rtcade.room, options);
      video.on("speaking", ({ player }) => (globalThis.heard = player));
      video.on("video", ({ player, stream }) => {
        globalThis.seen?.remove();
        globalThis.seen = stream && Object.assign(document.createElement("video"), { muted: true, srcObject: stream, player });
        if (!seen) return;
        seen.style = "position: fixed; z-index: 99; top: 0; right: 0; width: 45vw";
        document.body.append(seen);
        seen.play();
      });
    }, options);
    return page;
  };

  test("a publisher is seen and heard in the browser, and is a player until it ends", async () => {
    const page = await open("in", { microphone: false, camera: false });
    const publisher = start("publish", `${server.url}whip/in`);
    const frames = () => page.evaluate(() => globalThis.seen?.getVideoPlaybackQuality().totalVideoFrames ?? 0);
    await until("frames", frames, (count) => count > 20);
    await until("a voice", () => page.evaluate(() => globalThis.heard ?? 0));
    const players = () => page.evaluate(() => [...rtcade.room.players.values()].map(({ name }) => name));
    assert.ok((await players()).includes("WHIP"));
    await screenshot(page, "whip");
    const { state, ended } = await publisher.end();
    assert.deepEqual({ state, ended }, { state: "connected", ended: [200, 404] });
    await until("the publisher to leave", players, (names) => !names.includes("WHIP"));
    await page.close();
  });

  test("a viewer sees and hears what a browser publishes", async () => {
    const page = await open("out", { microphone: true });
    const { state, seen, ended } = await start("watch", `${server.url}whep/out`, 30).result;
    assert.equal(state, "connected");
    assert.ok(seen.video.frames >= 30 && seen.video.width > 0 && seen.audio.frames >= 30, JSON.stringify(seen));
    assert.deepEqual(ended, [200, 404]);
    await page.close();
  });

  test("many watch one who publishes", async () => {
    const publisher = start("publish", `${server.url}whip/many`);
    const viewers = await Promise.all(Array.from({ length: 4 }, () => start("watch", `${server.url}whep/many`, 20).result));
    for (const { seen } of viewers) assert.ok(seen.video.frames >= 20, JSON.stringify(viewers));
    assert.deepEqual((await publisher.end()).ended, [200, 404]);
  });
});
