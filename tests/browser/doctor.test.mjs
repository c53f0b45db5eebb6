import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { launchBrowser, openPage, screenshot, startServer, until } from "./harness.mjs";

/** Longer than the page waits for a data channel. */
const LOOK_MS = 40_000;
/** Reserved for documentation (RFC 5737): nothing answers there. */
const NOWHERE = "192.0.2.1:9";

describe("the page that says what is wrong", () => {
  let browser;

  before(async () => {
    browser = await launchBrowser();
  });

  after(() => browser?.close());

  /** What the page has found once it is through: verdict, sentence and remedy of each check of each list. */
  async function findings(page) {
    await until("the last finding", () => page.evaluate(() => document.body.dataset.done), Boolean, LOOK_MS);
    return page.evaluate(() => {
      const read = (list) =>
        Object.fromEntries(
          [...document.querySelectorAll(`#${list} li`)].map(({ dataset, children }) => {
            const [says, remedy = ""] = [...children].filter(({ tagName }) => tagName === "P").map((p) => p.textContent);
            return [dataset.check, { verdict: dataset.verdict, says, remedy }];
          }),
        );
      return { here: read("here"), there: read("there") };
    });
  }

  test("where all is well it says so, and that frames of full size pass", async () => {
    const server = await startServer(["--public-addr", "127.0.0.1"]);
    try {
      const { page, errors } = await openPage(browser, `${server.url}doctor`);
      const { here, there } = await findings(page);
      await screenshot(page, "doctor-ok");
      for (const check of ["page", "clock", "websocket", "join", "advertised", "UDP", "round trip", "UDP size"]) {
        assert.deepEqual({ verdict: here[check]?.verdict, remedy: here[check]?.remedy }, { verdict: "ok", remedy: "" }, check);
      }
      assert.match(here["UDP size"].says, /1,09\d bytes pass both ways: the full size/);
      const port = new URL(server.url).port;
      assert.ok(here.advertised.says.includes(`127.0.0.1:${port}`), here.advertised.says);
      assert.equal(there.bound.says, `TCP on 127.0.0.1:${port}, UDP on 127.0.0.1:${port}.`);
      assert.deepEqual(Object.keys(there), ["bound", "advertised", "open files", "socket buffers"]);
      assert.deepEqual(errors, []);
    } finally {
      await server.stop();
    }
  });

  test("where UDP can't pass, the game's page leads to it, and it says what to do", async () => {
    const server = await startServer(["--public-addr", NOWHERE]);
    try {
      const { page: game } = await openPage(browser, server.url);
      const link = game.getByRole("button", { name: "What is wrong?" });
      await link.waitFor({ timeout: LOOK_MS });
      const [page] = await Promise.all([game.context().waitForEvent("page"), link.click()]);
      assert.equal(new URL(page.url()).pathname, "/doctor");
      const { here } = await findings(page);
      await screenshot(page, "doctor-without-udp");
      assert.equal(here.websocket.verdict, "ok");
      assert.ok(here.advertised.says.includes(NOWHERE), here.advertised.says);
      assert.equal(here.UDP.verdict, "fail");
      assert.match(here.UDP.remedy, /UDP port 9 .* --public-addr/);
      assert.equal(here["UDP size"], undefined);
    } finally {
      await server.stop();
    }
  });

  test("where the server is gone it says that", async () => {
    const server = await startServer();
    const { page } = await openPage(browser, `${server.url}doctor`);
    await findings(page);
    await page.route("**/doctor.json", (route) => route.abort());
    await page.routeWebSocket(/./, (socket) => socket.close());
    await page.evaluate(() => delete document.body.dataset.done);
    await page.reload();
    const { here } = await findings(page);
    assert.deepEqual([here.page.verdict, here.websocket.verdict], ["fail", "fail"]);
    assert.equal(await server.stop(), 0);
  });
});
