import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connection, launchBrowser, openPage, playing, screenshot, startServer, until } from "./harness.mjs";

/** Longer than a client may take to give a data channel up. */
const GIVE_UP_MS = 40_000;
/** Reserved for documentation (RFC 5737): nothing answers there. */
const NOWHERE = "192.0.2.1:9";

describe("what goes wrong", () => {
  let browser;

  before(async () => {
    browser = await launchBrowser();
  });

  after(() => browser?.close());

  test("where UDP can't pass, the page plays over the websocket and says so", async () => {
    const server = await startServer(["--public-addr", NOWHERE]);
    try {
      const { page } = await openPage(browser, server.url);
      await until("a word on the missing UDP", () => connection(page), ({ notice }) => notice, GIVE_UP_MS);
      const { tick } = await playing(page, "websocket");
      await until("the state to move on", () => connection(page), (now) => now.tick >= tick + 30);
      await screenshot(page, "without-udp");
    } finally {
      await server.stop();
    }
  });

  test("when the server stops it exits with 0, and the page says what happened", async () => {
    const server = await startServer();
    const { page } = await openPage(browser, server.url);
    assert.equal((await playing(page, "webrtc")).notice, "");
    assert.equal(await server.stop(), 0);
    await until("a word on the stopped server", () => connection(page), ({ notice }) => notice);
    await screenshot(page, "server-stopped");
  });
});
