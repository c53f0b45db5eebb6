// Pages that are cut off, and come back by themselves. What they measure they print.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { after, afterEach, before, describe, test } from "node:test";
import { connection, launchBrowser, openPage, playing, startServer, until } from "./harness.mjs";
import { joinHere } from "./interop.mjs";
import { startRelay } from "./lossy-relay.mjs";
import { startTcpRelay } from "./tcp-relay.mjs";

/** The server's. */
const RELOAD_GRACE_MS = 1_500;
const FROZEN_MS = 20_000;
/** What a page may take to find out that its websocket is dead, and to have another. */
const SILENCE_MS = 12_000;

describe("a page that is cut off", () => {
  let browser;

  before(async () => {
    browser = await launchBrowser();
  });

  after(() => browser?.close());

  afterEach(() => Promise.all(browser.contexts().map((context) => context.close())));

  const withServer = async (args, play) => {
    const server = await startServer(args);
    try {
      await play(server);
    } finally {
      await server.stop();
    }
  };
  const openArena = async (url, inBrowser = browser) => {
    const opened = await openPage(inBrowser, "about:blank");
    await opened.page.addInitScript(noteFirstState);
    await opened.page.goto(url);
    return opened;
  };

  test("is the same player when it is loaded again, and nobody sees them leave", (t) =>
    withServer([], async (server) => {
      const { page, errors } = await openArena(server.url);
      let { me } = await playing(page, "webrtc");
      const fresh = await firstState(page);
      const other = await joinHere(server.url, roomOf(page));
      let reloads = 0;
      for (let tries = 0; tries < 10 && reloads < 3; tries++) {
        const startedAt = performance.now();
        await page.reload();
        const again = await playing(page, "webrtc");
        t.diagnostic(`first state ${await firstState(page)} ms after a reload, ${fresh} ms after a fresh load`);
        if (again.me === me) reloads++;
        else assert.ok(performance.now() - startedAt > RELOAD_GRACE_MS, "a machine that stalls is no quick reload");
        me = again.me;
      }
      assert.equal(reloads, 3);
      const name = await page.evaluate(() => rtcade.room.players.get(rtcade.room.me).name);
      assert.notEqual(name, "");
      assert.deepEqual(presenceOf(other, me).filter(({ a }) => a === "eventLeave"), []);
      assert.deepEqual(errors, []);
      other.socket.close();
    }));

  test("is gone for the others as soon as it is closed", (t) =>
    withServer([], async (server) => {
      const { page } = await openArena(server.url);
      const { me } = await playing(page, "webrtc");
      const other = await joinHere(server.url, roomOf(page));
      const closedAt = performance.now();
      await page.close();
      const leaves = async () => presenceOf(other, me);
      const [{ d }] = await until("the leave", leaves, ({ length }) => length > 0);
      t.diagnostic(`others saw a closed page leave after ${Math.round(performance.now() - closedAt)} ms`);
      assert.equal(d.reason, "left", "the browser has said so, or it would have been a lost connection");
      other.socket.close();
    }));

  test("joins a server that was started again as a new player, in the same room object", async (t) => {
    let server = await startServer();
    try {
      const { page: ann } = await openArena(server.url);
      const { page: ben } = await openArena(ann.url());
      for (const page of [ann, ben]) {
        await playing(page, "webrtc");
        await record(page);
      }
      const port = Number(new URL(server.url).port);
      const names = await Promise.all([ann, ben].map(ownName));
      await server.kill();
      await sleep(1_000);
      const startedAt = Date.now();
      server = await startServer([], { port });
      for (const [i, page] of [ann, ben].entries()) {
        await until("the new game", () => page.evaluate(() => record.rejoins.length), (rejoins) => rejoins === 1);
        const { firstStateAt } = await until("a state", () => recorded(page), (now) => now.firstStateAt);
        t.diagnostic(`first state ${Math.round(firstStateAt - startedAt)} ms after the server was started again`);
        await playing(page, "webrtc");
        const { statuses, isSameRoom, closed } = await recorded(page);
        assert.deepEqual(statuses.slice(0, 2), ["dropped", "resuming"]);
        assert.equal(statuses.at(-1), "open");
        assert.ok(isSameRoom && !closed);
        assert.equal(await ownName(page), names[i]);
      }
      assert.deepEqual(
        (await Promise.all([ann, ben].map(connection))).map(({ me }) => me).sort(),
        [1, 2],
      );
    } finally {
      await server.stop();
    }
  });

  for (const [how, args] of Object.entries({ plays: [], "does not": ["--public-addr", "192.0.2.1:9"] })) {
    test(`resumes after its websocket is cut while the data channel ${how}`, () =>
      withServer(args, (server) =>
        withTcpRelay(server, async (relay, url) => {
          const { page } = await openArena(url);
          const { me } = await playing(page, args.length > 0 ? "websocket" : "webrtc");
          const other = await joinHere(server.url, roomOf(page));
          await record(page);
          for (let cut = 1; cut <= 3; cut++) {
            relay.cut();
            const opened = ({ statuses }) => statuses.filter((status) => status === "open").length === cut;
            await until("a room that is open", () => recorded(page), opened);
            await statesMoveOn(page);
          }
          const { statuses, rejoins, closed, ticks } = await recorded(page);
          assert.deepEqual(statuses, Array(3).fill(["dropped", "resuming", "open"]).flat());
          assert.deepEqual({ rejoins, closed }, { rejoins: [], closed: null });
          assert.equal((await connection(page)).me, me);
          onlyRise(ticks);
          assert.deepEqual(presenceOf(other, me), []);
          other.socket.close();
        }),
      ));
  }

  test("finds out that its websocket is silent", () =>
    withServer([], (server) =>
      withTcpRelay(server, async (relay, url) => {
        const { page } = await openArena(url);
        const { me } = await playing(page, "webrtc");
        await record(page);
        relay.isSilent = true;
        await until("a dropped room", () => recorded(page), ({ statuses }) => statuses.length > 0, SILENCE_MS);
        relay.isSilent = false;
        await until("an open one", () => recorded(page), ({ statuses }) => statuses.at(-1) === "open", SILENCE_MS);
        assert.equal((await connection(page)).me, me);
        onlyRise((await recorded(page)).ticks);
      }),
    ));

  test("plays on over the websocket when UDP is blocked, and over UDP when it is not", async (t) => {
    const relay = await startRelay({ oneWayMs: 0, seed: "1" });
    await withServer(["--public-addr", `127.0.0.1:${relay.port}`], async (server) => {
      relay.target = Number(new URL(server.url).port);
      const { page } = await openArena(server.url);
      await playing(page, "webrtc");
      await record(page);
      await statesOverChannel(page);
      relay.loss = 1;
      await playing(page, "websocket");
      await statesMoveOn(page);
      relay.loss = 0;
      await playing(page, "webrtc");
      await statesMoveOn(page);
      const { ticks, times, statuses, duplicates } = await recorded(page);
      const gaps = times.slice(1).map((time, i) => time - times[i]);
      t.diagnostic(`the longest time without a state was ${Math.round(Math.max(...gaps))} ms`);
      onlyRise(ticks);
      assert.equal(duplicates, 0);
      assert.deepEqual(statuses, [], "the room was open all the time");
    });
    await relay.close();
  });

  test("plays on after it was frozen", (t) =>
    withServer([], async (server) => {
      // Its own, with no process but this page's to be stopped.
      const ours = await launchBrowser();
      t.after(() => ours.close());
      const { page } = await openArena(server.url, ours);
      await playing(page, "webrtc");
      await record(page);
      await statesOverChannel(page);
      // A page that is visible can't be frozen by the devtools' word, but its process can be stopped.
      const renderers = await rendererProcesses(ours);
      const signal = (name) => renderers.forEach((id) => process.kill(id, name));
      signal("SIGSTOP");
      await sleep(FROZEN_MS).finally(() => signal("SIGCONT"));
      const thawedAt = Date.now();
      await statesMoveOn(page);
      await playing(page, "webrtc");
      const { ticks, statuses, closed, times, rejoins } = await recorded(page);
      const longest = Math.max(...times.slice(1).map((time, i) => time - times[i]));
      t.diagnostic(`frozen ${Math.round(longest)} ms; then ${JSON.stringify(statuses)}, ${rejoins.length} new games`);
      const first = times.find((time) => time > thawedAt);
      t.diagnostic(`a state ${Math.round(first - thawedAt)} ms after the thaw`);
      assert.ok(longest > FROZEN_MS / 2, "it was frozen");
      assert.equal(closed, null);
      if (rejoins.length === 0) onlyRise(ticks);
    }));

  test("loses its place to a newer window with the same session", () =>
    withServer([], async (server) => {
      const { page: older } = await openArena(server.url);
      const { me } = await playing(older, "webrtc");
      await record(older);
      const [newer] = await Promise.all([
        older.context().waitForEvent("page"),
        older.evaluate(() => void window.open(location.href)),
      ]);
      assert.equal((await playing(newer, "webrtc")).me, me);
      const { closed } = await until("the older window to be told", () => recorded(older), (now) => now.closed);
      assert.deepEqual([closed.code, closed.reason], [4006, "replaced"]);
      await sleep(1_000);
      assert.equal((await connection(newer)).status, "open");
      await older.reload();
      assert.notEqual((await playing(older, "webrtc")).me, me, "it has lost the session for good");
      assert.equal((await connection(newer)).status, "open");
    }));

  async function withTcpRelay(server, play) {
    const relay = await startTcpRelay();
    relay.target = Number(new URL(server.url).port);
    try {
      await play(relay, `http://127.0.0.1:${relay.port}/`);
    } finally {
      await relay.close();
    }
  }
});

async function rendererProcesses(browser) {
  const { processInfo } = await (await browser.newBrowserCDPSession()).send("SystemInfo.getProcessInfo");
  return processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
}

const roomOf = (page) => new URL(page.url()).pathname.slice("/r/".length);
const presenceOf = (other, player) =>
  other.record().events.filter(({ a, d }) => (a === "eventLeave" || a === "eventJoin") && d.player === player);
const ownName = (page) => page.evaluate(() => rtcade.room.players.get(rtcade.room.me).name);

// Runs in the page, before its own scripts.
function noteFirstState() {
  const timer = setInterval(() => {
    if (!globalThis.rtcade?.world().tick) return;
    globalThis.firstStateAt = performance.now();
    clearInterval(timer);
  }, 1);
}

async function firstState(page) {
  return Math.round(await until("the first state", () => page.evaluate(() => globalThis.firstStateAt)));
}

/** Notes in the page what happens to its room from now on. */
function record(page) {
  return page.evaluate(() => {
    const { room } = rtcade;
    const record = { statuses: [], rejoins: [], ticks: [], times: [], closed: null, firstStateAt: null, room };
    globalThis.record = record;
    record.duplicatesBefore = room.stats.duplicate;
    room.on("status", (status) => record.statuses.push(status));
    room.on("rejoin", (welcome) => record.rejoins.push(welcome));
    room.on("close", (closing) => (record.closed = closing));
    room.on("state", (_, { tick }) => {
      record.ticks.push(tick);
      record.times.push(Date.now());
      if (record.rejoins.length > 0) record.firstStateAt ??= Date.now();
    });
  });
}

const recorded = (page) =>
  page.evaluate(() => {
    const { room, duplicatesBefore, ...record } = globalThis.record;
    return { ...record, isSameRoom: room === rtcade.room, duplicates: room.stats.duplicate - duplicatesBefore };
  });

async function statesMoveOn(page) {
  const { tick } = await connection(page);
  await until("the state to move on", () => connection(page), (now) => now.tick >= tick + 30);
}

/** Waits until states have been recorded that came over the newest channel: that it is open says one end alone. */
async function statesOverChannel(page) {
  const counts = () => page.evaluate(() => Math.min(globalThis.record.ticks.length, channels.at(-1).received));
  await until("states over the channel", counts, (count) => count >= 10);
}

function onlyRise(ticks) {
  for (const [i, tick] of ticks.slice(1).entries()) assert.ok(tick > ticks[i], `tick ${tick} after ${ticks[i]}`);
}
