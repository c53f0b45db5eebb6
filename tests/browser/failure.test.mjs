import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { connection, controls, launchBrowser, openPage, playing, screenshot, signedToken, startServer, until } from "./harness.mjs";

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

  const title = (page) => page.locator("#notice h2");
  const figures = (page) => page.locator("#connection dd").allInnerTexts();
  const portOf = (server) => ({ port: Number(new URL(server.url).port) });
  const doctorOf = (page) => page.getByRole("link", { name: "Check the connection" }).getAttribute("href");

  for (const game of ["arena", "relay"]) {
    test(`while the server is gone the ${game}'s page counts down, and tries again when asked`, async (t) => {
      let server = await startServer(["--game", game]);
      t.after(() => server.kill());
      const { page } = await openPage(browser, "about:blank");
      await page.clock.install();
      await page.goto(server.url);
      await playing(page, "webrtc");
      await until("figures", () => figures(page), (shown) => shown.every((text) => /\d/.test(text)));
      await server.kill();
      await page.getByText("Next try in").waitFor();
      assert.equal(await title(page).innerText(), "Connection lost");
      assert.match(await page.locator("#connection").innerText(), /Connection lost/);
      assert.deepEqual(await figures(page), ["–", "–", "–", "–"]);
      assert.match(await page.locator("canvas").evaluate((canvas) => getComputedStyle(canvas).filter), /brightness/);
      for (const [role, name] of await controls(page)) assert.notEqual(name, "", role);

      // Time stands still while the page waits: it does not try by itself.
      await until("a wait", async () => {
        const now = await page.evaluate(() => Date.now());
        // It may be later than that by now, on a slow machine.
        const stands = await page.clock.pauseAt(now + 1_000).then(() => true, () => false);
        if (stands && (await connection(page)).status === "dropped") return true;
        await page.clock.resume();
        return false;
      });
      server = await startServer(["--game", game], portOf(server));
      assert.equal((await connection(page)).status, "dropped");
      await page.getByRole("button", { name: "Try now" }).click();
      await until("an open room", () => connection(page), ({ status }) => status === "open");
      await page.clock.resume();
      await playing(page, "webrtc");
      await title(page).waitFor({ state: "hidden" });
      await until("figures", () => figures(page), (shown) => shown.every((text) => /\d/.test(text)));
      await page.context().close();
    });
  }

  test("after a minute the game has stopped, and can be joined again", async (t) => {
    let server = await startServer();
    t.after(() => server.kill());
    const { page } = await openPage(browser, "about:blank");
    await page.clock.install();
    await page.goto(server.url);
    await playing(page, "webrtc");
    await server.kill();
    await title(page).waitFor();
    await until("the end", async () => {
      // A page that skips more time was asleep, and has another minute.
      for (let second = 0; second < 5; second++) await page.clock.fastForward(1_000);
      return title(page).innerText();
    }, (text) => text === "The game has stopped");
    assert.equal(await page.locator("#notice").getAttribute("role"), "alertdialog");
    assert.equal(await page.evaluate(() => document.activeElement.id), "notice");
    assert.match(await page.locator("#connection").innerText(), /Not connected/);
    assert.deepEqual(await figures(page), ["–", "–", "–", "–"]);
    assert.equal(await doctorOf(page), "../doctor");
    server = await startServer([], portOf(server));
    await page.getByRole("button", { name: "Join again" }).click();
    await playing(page, "webrtc");
    assert.equal((await connection(page)).notice, "");
    await page.context().close();
  });

  test("a session is in one window, and the player may choose which", async (t) => {
    const server = await startServer();
    t.after(() => server.kill());
    const { page: first } = await openPage(browser, server.url);
    await playing(first, "webrtc");
    const bystander = await first.context().newPage();
    await bystander.goto(first.url());
    await playing(bystander, "webrtc");
    // What a window opens gets a copy of its session storage, as a tab that is duplicated does.
    const [second] = await Promise.all([first.waitForEvent("popup"), first.evaluate(() => void open(location.href))]);
    const { me } = await playing(second, "webrtc");
    await until("the word", () => title(first).innerText(), (text) => text === "You are playing in another window");
    assert.equal((await connection(first)).me, me);
    await first.getByRole("button", { name: "Play here instead" }).click();
    await playing(first, "webrtc");
    await until("the word", () => title(second).innerText(), (text) => text === "You are playing in another window");
    assert.equal((await connection(bystander)).status, "open");
    await first.context().close();
  });

  test("each reason for which nobody gets in has a headline and something to do", async (t) => {
    const server = await startServer();
    t.after(() => server.kill());
    const { page } = await openPage(browser, "about:blank");
    let refusal;
    await page.routeWebSocket(/./, (socket) => {
      if (!refusal) return socket.close({ code: 1011 });
      socket.onMessage(() => socket.send(JSON.stringify({ a: "joinR", s: false, e: refusal, m: `The sentence for ${refusal}.` })));
    });
    for (const [code, headline, button = "Try again"] of [
      [undefined, "The server cannot be reached"],
      ["room_full", "This room is full"],
      ["room_locked", "This room is locked"],
      ["refused", "The game did not admit you"],
      ["origin", "This page may not use the server"],
      ["unauthorized", "This server requires a token", "Join"],
      ["expired", "Your token has expired", "Join"],
      ["version_mismatch", "This page is out of date", "Reload"],
      ["overloaded", "The server is busy"],
      ["a_newer_code", "You could not join"],
    ]) {
      refusal = code;
      await page.goto(`${server.url}r/refused`);
      await title(page).waitFor();
      assert.equal(await title(page).innerText(), headline);
      await page.getByRole("button", { name: button, exact: true }).waitFor();
      if (code && code !== "version_mismatch") assert.match(await page.locator("#notice-text").innerText(), new RegExp(`sentence for ${code}`));
      if (code?.startsWith("room")) assert.equal(await page.getByRole("link", { name: "Use a new room" }).getAttribute("href"), "../");
      else if (code !== "refused") assert.equal(await doctorOf(page), "../doctor");
    }
    await page.context().close();
  });

  test("a server with keys lets in who pastes a token", async (t) => {
    const { directory, keys, token } = await signedToken();
    const server = await startServer(["--keys", keys, "--audience", "test"]);
    t.after(() => Promise.all([server.kill(), rm(directory, { recursive: true })]));
    const { page } = await openPage(browser, server.url);
    await title(page).waitFor();
    assert.equal(await title(page).innerText(), "This server requires a token");
    await page.getByRole("textbox", { name: "Token" }).fill(token);
    await page.keyboard.press("Enter");
    await playing(page, "webrtc");
    assert.equal((await connection(page)).notice, "");
    await page.context().close();
  });
});
