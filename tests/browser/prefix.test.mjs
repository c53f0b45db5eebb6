import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connection, launchBrowser, openPage, playing, startServer, until } from "./harness.mjs";
import { startPrefixProxy } from "./prefix-proxy.mjs";

const CHECK_MS = 40_000;

describe("below a path of another site", () => {
  let browser, directory;

  before(async () => {
    browser = await launchBrowser();
    directory = await mkdtemp(join(tmpdir(), "rtcade-prefix-"));
  });

  after(async () => {
    await browser?.close();
    await rm(directory, { recursive: true, force: true });
  });

  /** Opens `path` in two windows; what they ask for must be below the prefix, or the proxy answers 404. */
  async function behindProxy(args, path, look) {
    const server = await startServer(args);
    const proxy = await startPrefixProxy(server.url);
    try {
      const windows = [];
      for (let opened = 0; opened < 2; opened++) windows.push(await openPage(browser, `${proxy.url}${path}`));
      await look(...windows.map(({ page }) => page));
      for (const { page, errors } of windows) {
        assert.deepEqual(errors, []);
        await page.context().close();
      }
    } finally {
      await proxy.close();
      await server.stop();
    }
  }

  test("two windows play in one arena", () =>
    behindProxy(["--record", directory], "r/lobby", async (ann, ben) => {
      for (const page of [ann, ben]) await playing(page, "webrtc");
      const { me } = await connection(ann);
      const seen = () => ben.evaluate((me) => rtcade.world().players.some(({ id }) => id === me), me);
      await until("the other player", seen);
      assert.equal(await ann.locator("#link").inputValue(), ann.url());
      const root = await fetch(new URL("..", ann.url()));
      assert.match(new URL(root.url).pathname, /^\/game\/r\/\w+$/, "the root leads to a room below the prefix");
      await until("a few ticks", () => connection(ann), ({ tick }) => tick > 60);
    }));

  test("two windows see each other's pointers in a relay room", () =>
    behindProxy(["--game", "relay"], "r/lobby", async (ann, ben) => {
      for (const page of [ann, ben]) await playing(page, "webrtc");
      const { me } = await connection(ann);
      await ann.mouse.move(600, 300, { steps: 5 });
      await until("the other's pointer", () => ben.evaluate((me) => rtcade.pointers()[me], me));
      const links = await ann.locator("#about a").evaluateAll((links) => links.map(({ href }) => href));
      for (const link of links) assert.ok(link.startsWith(ann.url().replace("r/lobby", "")), link);
    }));

  test("the doctor page checks the way through the proxy", () =>
    behindProxy(["--public-addr", "127.0.0.1"], "doctor", async (page) => {
      await until("the result", () => page.evaluate(() => document.body.dataset.done), Boolean, CHECK_MS);
      assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "You can play");
    }));

  test("two windows watch one recording", async () => {
    const [recording] = await readdir(directory);
    await behindProxy(["replay", join(directory, recording), "--serve"], "#same", async (ann, ben) => {
      for (const page of [ann, ben]) {
        const frame = () => page.frames().find((frame) => frame.url().endsWith("/game/r/same"));
        await until("the game's page", async () => frame()?.evaluate(() => globalThis.rtcade?.world().tick > 0));
        await until("the playback", () => page.evaluate(() => globalThis.rtcade?.status()));
      }
    });
  });
});
