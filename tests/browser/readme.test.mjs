import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launchBrowser, openPage, screenshot, serverProgram, startServer, until } from "./harness.mjs";

describe("the game of the README", () => {
  let server, browser, ann, ben;

  before(async () => {
    const program = join(dirname(serverProgram()), "examples", "readme");
    const pages = fileURLToPath(new URL("../it/readme_game/public", import.meta.url));
    server = await startServer(["--public", pages], { program });
    browser = await launchBrowser();
    ann = await openPage(browser, server.url);
    ben = await openPage(browser, ann.page.url());
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test("who points at the dot first scores, and both see it", async () => {
    const labels = (page) => page.evaluate(() => [...document.querySelectorAll("b")].map((b) => b.textContent));
    await until("the dot", () => labels(ben.page), (shown) => shown.includes("●"));
    await ben.page.mouse.move(300, 300);
    // Away and back: the dot lies in the corner at first, then anywhere.
    await ann.page.mouse.move(200, 200);
    await ann.page.mouse.move(5, 5, { steps: 10 });
    const scored = (label) => (shown) => shown.some((text) => text.startsWith(label) && !text.endsWith(" 0"));
    await until("Ann's score", () => labels(ann.page), scored("you: "));
    const seen = await until("her score in Ben's page", () => labels(ben.page), scored("player 1: "));
    assert.ok(seen.some((text) => text.startsWith("you: ")), `Ben sees ${seen}`);
    await screenshot(ben.page, "readme-ben");
    assert.deepEqual(ann.errors, []);
    assert.deepEqual(ben.errors, []);
  });
});
