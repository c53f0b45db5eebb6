import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { controls, launchBrowser, openPage, screenshot, signedToken, startServer, until } from "./harness.mjs";
import { startPrefixProxy } from "./prefix-proxy.mjs";

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

  const title = (page) => page.getByRole("heading", { level: 1 }).innerText();

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
      assert.equal(await title(page), "You can play");
      assert.equal(await page.title(), "You can play · rtcade");
      for (const [role, name] of await controls(page)) assert.notEqual(name, "", role);
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
      const link = game.getByRole("link", { name: "Check the connection" });
      await link.waitFor({ timeout: LOOK_MS });
      const [page] = await Promise.all([game.context().waitForEvent("page"), link.click()]);
      assert.equal(new URL(page.url()).pathname, "/doctor");
      const { here } = await findings(page);
      await screenshot(page, "doctor-without-udp");
      assert.equal(await title(page), "You can play, but slower");
      assert.equal(here.websocket.verdict, "ok");
      assert.ok(here.advertised.says.includes(NOWHERE), here.advertised.says);
      assert.equal(here.UDP.verdict, "fail");
      assert.match(here.UDP.remedy, /UDP port 9 .* --public-addr/);
      assert.equal(here["UDP size"], undefined);
    } finally {
      await server.stop();
    }
  });

  test("where the server is gone it says that", async (t) => {
    const server = await startServer();
    t.after(server.kill);
    const { page } = await openPage(browser, `${server.url}doctor`);
    await findings(page);
    // The checks wait until the title has been read.
    let read;
    const isRead = new Promise((resolve) => (read = resolve));
    await page.route("**/doctor.json", async (route) => {
      await isRead;
      await route.abort();
    });
    await page.routeWebSocket(/./, (socket) => socket.close());
    await page.getByRole("button", { name: "Check again" }).click();
    assert.equal(await title(page), "Checking…");
    read();
    const { here } = await findings(page);
    assert.deepEqual([here.page.verdict, here.websocket.verdict], ["fail", "fail"]);
    assert.equal(await title(page), "You can't play yet: the server does not answer");
    assert.equal(await server.stop(), 0);
  });

  test("where a token is required it says so, and checks with the one that is pasted", async (t) => {
    const { directory, keys, token } = await signedToken();
    const server = await startServer(["--public-addr", "127.0.0.1", "--keys", keys, "--audience", "test"]);
    t.after(() => Promise.all([server.kill(), rm(directory, { recursive: true })]));
    const { page } = await openPage(browser, `${server.url}doctor`);
    assert.equal((await findings(page)).here.join.verdict, "warn");
    assert.equal(await title(page), "You can't play yet: the server requires a token");
    for (const [pasted, result] of [["nonsense", "You can't play yet: the token is not valid"], [token, "You can play"]]) {
      await page.getByRole("textbox").fill(pasted);
      await page.getByRole("button", { name: "Check with the token" }).click();
      await findings(page);
      assert.equal(await title(page), result);
    }
  });

  describe("names what a proxy has to pass on", () => {
    /** Opens the page through a proxy that changes the header fields. An older server does not say what it has seen. */
    async function check(t, change, { args = [], isOlder = false } = {}) {
      const server = await startServer(args);
      t.after(server.kill);
      const proxy = await startPrefixProxy(server.url, { change });
      t.after(proxy.close);
      const { page } = await openPage(browser, "about:blank");
      if (isOlder) {
        await page.route("**/doctor.json", async (route) => {
          const { seen, ...report } = await (await route.fetch()).json();
          assert.ok(seen, "the server says what it has seen");
          await route.fulfill({ json: report });
        });
      }
      await page.goto(`${proxy.url}doctor`);
      const { here } = await findings(page);
      const found = { title: await title(page), here };
      await page.context().close();
      return found;
    }
    const behindTrusted = { args: ["--trusted-proxy", "127.0.0.1"] };
    const backend = (fields) => ({ ...fields, host: "backend.example" });
    const withoutUpgrade = ({ upgrade, connection, ...fields }) => fields;

    test("where it replaces Host", async (t) => {
      const { title, here } = await check(t, backend);
      assert.equal(title, "You can't play yet: the proxy replaces the header Host");
      assert.match(here.Host.says, /127\.0\.0\.1:\d+, but the server receives Host “backend\.example”/);
      assert.match(here.Host.remedy, /proxy_set_header Host \$http_host;/);
      assert.deepEqual(Object.keys(here).filter((check) => here[check].verdict === "fail"), ["Host"]);
    });

    test("where a trusted one names another scheme", async (t) => {
      const { here } = await check(t, (fields) => ({ ...fields, "x-forwarded-proto": "https" }), behindTrusted);
      assert.match(here["X-Forwarded-Proto"].remedy, /proxy_set_header X-Forwarded-Proto \$scheme;/);
      assert.equal(here.Host, undefined);
    });

    test("where a trusted one names another host", async (t) => {
      const { here } = await check(t, (fields) => ({ ...fields, "x-forwarded-host": "backend.example" }), behindTrusted);
      assert.match(here["X-Forwarded-Host"].remedy, /proxy_set_header X-Forwarded-Host \$http_host;/);
      assert.deepEqual([here.Host, here["X-Forwarded-Proto"]], [undefined, undefined]);
    });

    test("where it drops Upgrade", async (t) => {
      const { title, here } = await check(t, withoutUpgrade);
      assert.equal(title, "You can't play yet: the proxy drops the header Upgrade");
      assert.equal(here.websocket.verdict, "fail");
      for (const directive of [/proxy_http_version 1\.1;/, /Upgrade \$http_upgrade;/, /Connection "upgrade";/]) {
        assert.match(here.upgrade.remedy, directive);
      }
    });

    test("in general, where the server does not say what it has seen", async (t) => {
      const { title, here } = await check(t, withoutUpgrade, { isOlder: true });
      assert.equal(title, "You can't play yet: the websocket does not open");
      assert.match(here.websocket.remedy, /Upgrade: websocket/);
    });

    test("of a server that refuses the page's address, its own words", async (t) => {
      const { title, here } = await check(t, backend, { isOlder: true });
      assert.equal(title, "You can't play yet: the server does not allow this page's address");
      assert.match(here.join.says, /--origin/);
    });

    test("and nothing where the page may play all the same", async (t) => {
      const named = "https://play.example";
      const { here } = await check(t, (fields) => ({ ...backend(fields), ...(fields.origin && { origin: named }) }), {
        args: ["--origin", named],
      });
      assert.equal(here.join.verdict, "ok");
      assert.deepEqual([here.Host, here.upgrade], [undefined, undefined]);
    });
  });
});
