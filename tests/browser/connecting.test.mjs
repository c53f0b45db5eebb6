// Pages whose framework, browser, token or net makes connecting hard.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { after, afterEach, before, describe, test } from "node:test";
import { launchBrowser, openPage, serverProgram, startServer, until } from "./harness.mjs";
import { startTcpRelay } from "./tcp-relay.mjs";

/** The server's: within it a page that is loaded anew finds its session. */
const RELOAD_GRACE_MS = 1_500;
/** The server's: how far clocks may differ. */
const LEEWAY_S = 30;

describe("connecting", () => {
  let browser, server;

  before(async () => {
    browser = await launchBrowser();
    server = await startServer(["--game", "relay"]);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  afterEach(() => Promise.all(browser.contexts().map((context) => context.close())));

  let rooms = 0;
  /** A page of the server's that does nothing by itself, and a room of its own. */
  const blank = async (url = server.url) => {
    const { page } = await openPage(browser, `${url}rtcade.js`);
    return { page, room: `/r/connecting-${++rooms}` };
  };
  /** Calls `connect` in the page: what its room, or its error, says. The room is the page's `globalThis.room`. */
  const connect = (page, url, options = {}) =>
    page.evaluate(
      async ([url, options]) => {
        const { connect, RtcadeError } = await import("/rtcade.js");
        try {
          const room = (globalThis.room = await connect(url, { ...options, bearer: globalThis.bearer ?? options.bearer }));
          globalThis.said = [];
          for (const type of ["status", "error", "close", "leave", "rejoin"])
            room.on(type, (...details) => said.push([type, ...details.map((d) => d?.code ?? d?.reason ?? d)]));
          return { me: room.me, name: room.players.get(room.me).name };
        } catch (error) {
          return { isOurs: error instanceof RtcadeError, code: error.code, stage: error.stage, message: error.message };
        }
      },
      [url, options],
    );
  const said = (page) => page.evaluate(() => globalThis.said);
  const players = (page) => page.evaluate(() => [...room.players.values()].map(({ name }) => name).sort());
  const leaves = async (page) => (await said(page)).filter(([type]) => type === "leave").map(([, , reason]) => reason);
  const overWebRtc = (page) =>
    until("a channel", () => page.evaluate(() => room.stats.transport), (transport) => transport === "webrtc");
  /** Loads the page again and connects, until that was as quick as it must be. */
  const reload = async (page, ...how) => {
    for (let tries = 0; tries < 10; tries++) {
      const startedAt = performance.now();
      await page.reload();
      const joined = await connect(page, ...how);
      if (performance.now() - startedAt < RELOAD_GRACE_MS) return joined;
      await connect(page, ...how);
    }
    throw new Error("the machine is too slow for a quick reload");
  };

  test("an effect that runs, is cleaned up and runs again is one player, who is the same after a reload", async () => {
    const { page: watcher, room } = await blank();
    await connect(watcher, room, { name: "Watcher" });
    const { page } = await blank();
    const name = "Ada";
    const twice = (page) =>
      page.evaluate(
        async ([url, options]) => {
          const { connect } = await import("/rtcade.js");
          const cleanups = [];
          const effect = () => {
            const controller = new AbortController();
            cleanups.push(() => controller.abort());
            return connect(url, { ...options, signal: controller.signal });
          };
          const first = effect().catch(({ code }) => code);
          cleanups[0]();
          globalThis.room = await effect();
          return { first: await first, me: globalThis.room.me };
        },
        [room, { name }],
      );
    const { first, me } = await twice(page);
    assert.equal(first, "aborted");
    assert.deepEqual(await players(watcher), [name, "Watcher"]);
    let before = me;
    for (let tries = 0; tries < 10; tries++) {
      const startedAt = performance.now();
      await page.reload();
      const again = await twice(page);
      const isQuick = performance.now() - startedAt < RELOAD_GRACE_MS;
      if (isQuick) assert.equal(again.me, before);
      if (isQuick) break;
      before = again.me;
    }
    assert.deepEqual(await players(watcher), [name, "Watcher"]);
  });

  test("that is cancelled leaves nobody in the room, whenever it is", async () => {
    const { page: watcher, room } = await blank();
    await connect(watcher, room, { name: "Watcher" });
    const { page } = await blank();
    for (const ms of [0, 1, 2, 5, 10, 20, 40, 80, 160]) {
      const code = await page.evaluate(
        async ([url, ms]) => {
          const { connect } = await import("/rtcade.js");
          const controller = new AbortController();
          setTimeout(() => controller.abort(), ms);
          const options = { name: "Ghost", signal: controller.signal };
          const forgetful = { ...options, [Symbol.for("rtcade.environment")]: { storage: null } };
          const outcome = await connect(url, forgetful).catch((error) => error);
          if (!controller.signal.aborted) await new Promise((resolve) => controller.signal.addEventListener("abort", resolve));
          return outcome.code ?? outcome.status;
        },
        [room, ms],
      );
      assert.ok(code === "aborted" || code === "closed", code);
    }
    await until("an empty room", () => players(watcher), (names) => names.join() === "Watcher");
    assert.ok((await leaves(watcher)).every((reason) => reason === "left"), `${await leaves(watcher)}`);
  });

  test("under another name after a reload is another player", async () => {
    const { page, room } = await blank();
    const ada = await connect(page, room, { name: "Ada", data: { skin: "red" } });
    const same = await reload(page, room, { name: "Ada", data: { skin: "red" } });
    assert.equal(same.name, "Ada");
    const grace = await reload(page, room, { name: "Grace", data: { skin: "red" } });
    assert.equal(grace.name, "Grace");
    assert.notEqual(grace.me, ada.me);
  });

  for (const method of ["createOffer", "setLocalDescription"]) {
    test(`where ${method} hangs plays over the websocket, and over a channel when it does not hang any more`, async () => {
      const { page, room } = await blank();
      await page.evaluate((method) => {
        const { [method]: sound } = RTCPeerConnection.prototype;
        let calls = 0;
        RTCPeerConnection.prototype[method] = function (...args) {
          return calls++ === 0 ? new Promise(() => {}) : sound.apply(this, args);
        };
      }, method);
      assert.ok((await connect(page, room)).me);
      await until("to be told", () => said(page), (all) => all.some(([type]) => type === "error"));
      assert.deepEqual((await said(page)).filter(([type]) => type === "error"), [["error", "offer"]]);
      await overWebRtc(page);
    });
  }

  test("with half an emoji joins", async () => {
    const { page, room } = await blank();
    const data = { "\ud83d": ["\ude00", "\u{1f600}"] };
    assert.equal((await connect(page, room, { name: "Ada \ud83d", data })).name, "Ada \ufffd");
  });

  test("with 20 KB of data is refused in words, and so is what is no room", async () => {
    const { page, room } = await blank();
    for (const [url, options, code] of [
      [room, { data: "x".repeat(20_000) }, "too_large"],
      ["http://", {}, "bad_address"],
      ["ftp://play.example/r/lobby", {}, "bad_address"],
      ["ws://127.0.0.1:1/r/lobby", {}, "unreachable"],
    ]) {
      const error = await connect(page, url, options);
      assert.deepEqual([error.isOurs, error.code], [true, code]);
      assert.match(error.message, /^[A-Z].*\.$/);
    }
  });

  test("is over with its reason alone for a player who is put out", async () => {
    const { page, room } = await blank();
    await page.evaluate(() => {
      globalThis.WebSocket = class extends WebSocket {
        constructor(url) {
          super(url);
          globalThis.socket = this;
        }
      };
    });
    await connect(page, room);
    await overWebRtc(page);
    await page.evaluate(() => {
      said.length = 0;
      socket.send(Uint8Array.of(0xff));
    });
    await until("the end", () => said(page), (all) => all.some(([type]) => type === "close"));
    await sleep(500);
    assert.deepEqual(await said(page), [["status", "closed"], ["close", 4005]]);
  });

  test("of a page that slept while its net was away is back when the net is", async () => {
    const relay = await startTcpRelay();
    relay.target = Number(new URL(server.url).port);
    try {
      const { page, room } = await blank(`http://127.0.0.1:${relay.port}/`);
      await page.evaluate(() => {
        globalThis.sleptFor = 0;
        const { now } = performance;
        performance.now = () => now.call(performance) + sleptFor;
      });
      const { me } = await connect(page, room);
      relay.target = 1;
      await page.context().setOffline(true);
      relay.cut();
      await until("a lost room", () => said(page), (all) => all.some(([, status]) => status === "dropped"));
      await page.evaluate(() => {
        sleptFor = 3_600_000;
        document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
      });
      await sleep(3_000);
      assert.notEqual(await page.evaluate(() => room.status), "closed");
      relay.target = Number(new URL(server.url).port);
      await page.context().setOffline(false);
      await until("an open room", () => page.evaluate(() => room.status), (status) => status === "open");
      assert.ok(me);
      assert.deepEqual((await said(page)).filter(([type]) => type === "close"), []);
    } finally {
      await relay.close();
    }
  });

  describe("with tokens", () => {
    let directory, keys, secret, locked;
    const args = () => ["--game", "relay", "--keys", keys, "--audience", "tests"];
    /** What `rtcade token` would print, with any time of its end. */
    const token = (sub, seconds) => {
      const text = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
      const exp = Math.floor(Date.now() / 1_000) + seconds;
      const body = `${text({ alg: "HS256", kid: secret.kid })}.${text({ sub, exp, aud: "tests", room: "*" })}`;
      return `${body}.${createHmac("sha256", Buffer.from(secret.k, "base64url")).update(body).digest("base64url")}`;
    };

    before(async () => {
      directory = await mkdtemp(joinPath(tmpdir(), "rtcade-"));
      keys = joinPath(directory, "keys.json");
      const { stdout } = spawnSync(serverProgram(), ["token", "--new-keys"], { encoding: "utf8" });
      await writeFile(keys, stdout);
      [secret] = JSON.parse(stdout).keys;
    });

    after(() => rm(directory, { recursive: true }));
    afterEach(() => locked?.stop());

    test("that expired before the server was started again comes back with a fresh one", async () => {
      locked = await startServer(args());
      const { page, room } = await blank(locked.url);
      let asked = 0;
      await page.exposeFunction("bearer", () => token("ada", asked++ === 0 ? 3 - LEEWAY_S : 60));
      assert.ok((await connect(page, room, { name: "Ada" })).me);
      const { page: fixed } = await blank(locked.url);
      assert.ok((await connect(fixed, room, { bearer: token("grace", 3 - LEEWAY_S) })).me);
      const port = Number(new URL(locked.url).port);
      await locked.kill();
      await sleep(4_000);
      locked = await startServer(args(), { port });
      const isBack = (all) => all.some(([type]) => type === "rejoin") && all.at(-1)?.[1] === "open";
      await until("a new game", () => said(page), isBack);
      assert.equal(asked, 2);
      await until("an end", () => said(fixed), (all) => all.some(([type]) => type === "close"));
      assert.deepEqual((await said(fixed)).at(-1), ["close", 4100]);
    });

    test("of another player after a reload is another player", async () => {
      locked = await startServer(args());
      const { page, room } = await blank(locked.url);
      const ada = await connect(page, room, { bearer: token("ada", 60) });
      const same = await reload(page, room, { bearer: token("ada", 90) });
      assert.equal(same.me, ada.me);
      const grace = await reload(page, room, { bearer: token("grace", 60) });
      assert.notEqual(grace.me, ada.me);
      assert.equal(await page.evaluate(() => room.players.get(room.me).userId), "grace");
    });
  });
});
