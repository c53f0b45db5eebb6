// `rtcade/peers` as it is built, in the browsers: their negotiation, their ICE and their media.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import puppeteer from "puppeteer-core";
import { launchBrowser, openPage, startServer, until } from "./harness.mjs";

const MODULE = fileURLToPath(new URL("../../client-js/dist/rtcade/peers.js", import.meta.url));
const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
const FIREFOX_START_MS = 60_000;
/** Ten seconds until messages are relayed, and some more. */
const RELAYED_MS = 30_000;
/** Until a browser notices that the other end of a connection is gone. */
const GONE_MS = 60_000;
const PAGE = `<!doctype html><meta charset="utf-8"><title>Peers</title>
<script type="module">
  import { connect } from "/rtcade.js";
  import { openPeers } from "/built/peers.js";
  const app = { connections: [], sockets: [], messages: [], tracks: [], isBlocked: location.search === "?blocked" };
  globalThis.WebSocket = class extends WebSocket {
    constructor(...args) {
      super(...args);
      app.sockets.push(this);
    }
  };
  app.room = await connect(location.pathname);
  // Only those between players.
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...args) {
      super(...args);
      app.connections.push(this);
    }
    addIceCandidate(candidate) {
      return app.isBlocked ? Promise.resolve() : super.addIceCandidate(candidate);
    }
    setRemoteDescription({ type, sdp }) {
      return super.setRemoteDescription({ type, sdp: app.isBlocked ? sdp.replace(/^a=candidate.*\\r\\n/gm, "") : sdp });
    }
  };
  app.peers = openPeers(app.room);
  app.peers.on("message", ({ value, reliable }, { player }) => app.messages.push(JSON.stringify([player, value, reliable])));
  app.peers.on("track", ({ track }) => app.tracks.push(track));
  globalThis.app = app;
</script>`;

let browser;
let server;
let directory;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "rtcade-peers-"));
  await mkdir(join(directory, "built"));
  await copyFile(MODULE, join(directory, "built", "peers.js"));
  await writeFile(join(directory, "index.html"), PAGE);
  server = await startServer(["--public", directory]);
  browser = await launchBrowser([
    // A machine without multicast resolves no names of candidates.
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
  ]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
  await rm(directory, { recursive: true, force: true });
});

let rooms = 0;
const newRoom = () => `${server.url}r/peers-${++rooms}`;
const playing = (page) => until("a page that plays", () => page.evaluate(() => Boolean(globalThis.app)));
async function enter(url, options) {
  const opened = await openPage(browser, url, options);
  await playing(opened.page);
  return opened;
}
const me = (page) => page.evaluate(() => app.room.me);
const statuses = (page) => page.evaluate(() => Object.fromEntries(app.peers.all.map(({ player, status }) => [player, status])));
const connected = (page, count, status = "direct", ms = undefined) =>
  until(
    `${count} peers that are ${status}`,
    () => statuses(page),
    (found) => Object.values(found).filter((each) => each === status).length === count && Object.keys(found).length === count,
    ms,
  );
const seesPlayers = (page, count) => until("the players", () => page.evaluate(() => app.room.players.size), (size) => size === count);
const received = (page, expected) =>
  until(
    `the messages ${JSON.stringify(expected)}`,
    () => page.evaluate(() => app.messages),
    (messages) => expected.every((message) => messages.includes(JSON.stringify(message))),
  );
const forget = (page) => page.evaluate(() => (app.messages.length = 0));
/** Each says something to all over both lanes, over the unreliable one until it has arrived. */
async function talk(pages) {
  const numbers = await Promise.all(pages.map(me));
  await Promise.all(pages.map(forget));
  await atOnce(pages, () => app.peers.sendReliable({ reliable: app.room.me, text: "ä😀" }));
  const expectedOf = (n) =>
    numbers
      .filter((_, other) => other !== n)
      .flatMap((player) => [[player, { unreliable: player }, false], [player, { reliable: player, text: "ä😀" }, true]])
      .map((message) => JSON.stringify(message));
  await until(
    "messages from everybody",
    () =>
      atOnce(pages, () => {
        app.peers.send({ unreliable: app.room.me });
        return app.messages;
      }),
    (heard) => heard.every((messages, n) => expectedOf(n).every((message) => messages.includes(message))),
  );
  const reliable = await atOnce(pages, () => app.messages.filter((message) => message.endsWith("true]")).length);
  assert.deepEqual(reliable, pages.map(() => pages.length - 1), "once");
}

// Runs in the page.
async function audioPackets() {
  const report = [...(await app.connections.at(-1).getStats()).values()];
  return report.find(({ type, kind }) => type === "inbound-rtp" && kind === "audio")?.packetsReceived;
}
const atOnce = (pages, act) => Promise.all(pages.map((page) => page.evaluate(act)));
const fragments = (pages) => atOnce(pages, () => app.connections.map((pc) => pc.localDescription.sdp.match(/ice-ufrag:(.*)/)[1]).join());
const close = (...opened) => Promise.all(opened.map(({ page }) => page.context().close()));
const noErrors = (...opened) => opened.forEach(({ errors }) => assert.deepEqual(errors, []));

describe("pages in Chromium", () => {
  test("two that offer at once are connected, and talk over both lanes", async () => {
    const url = newRoom();
    const [ann, ben] = [await enter(url), await enter(url)];
    const pages = [ann.page, ben.page];
    for (const page of pages) await seesPlayers(page, 2);
    await atOnce(pages, () => void app.peers.mesh());
    for (const page of pages) await connected(page, 1);
    await talk(pages);
    const stats = await until("a round trip", () => ann.page.evaluate(() => app.peers.all[0].stats()), ({ rtt }) => rtt >= 0);
    assert.match(stats.local, /^(host|prflx)$/);
    assert.match(stats.remote, /^(host|prflx)$/);
    assert.deepEqual(await atOnce(pages, () => app.peers.bad), [0, 0]);

    const big = "x".repeat(16_000);
    await ann.page.evaluate((big) => app.peers.sendReliable(big), big);
    await received(ben.page, [[await me(ann.page), big, true]]);

    // Both add a track in the same moment.
    await atOnce(pages, async () => {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      const [track] = stream.getAudioTracks();
      app.removeTrack = app.peers.all[0].addTrack(track, stream);
    });
    for (const page of pages) {
      await until("a track", () => page.evaluate(() => app.tracks.map(({ kind }) => kind)), (kinds) => kinds.join() === "audio");
      await until("its packets", () => page.evaluate(audioPackets), (count) => count > 20);
    }
    await atOnce(pages, () => app.removeTrack());
    await talk(pages);
    noErrors(ann, ben);
    await close(ann, ben);
  });

  test("three make a mesh, and one leaves and joins again", async () => {
    const url = newRoom();
    const opened = [await enter(url), await enter(url), await enter(url)];
    const pages = opened.map(({ page }) => page);
    for (const page of pages) await seesPlayers(page, 3);
    await atOnce(pages, () => void app.peers.mesh());
    for (const page of pages) await connected(page, 2);
    await talk(pages);

    await pages[2].evaluate(() => app.room.leave());
    for (const page of pages.slice(0, 2)) await connected(page, 1);
    assert.deepEqual(await statuses(pages[2]), {});
    await close(opened.pop());
    const again = await enter(url);
    opened.push(again);
    await again.page.evaluate(() => void app.peers.mesh());
    for (const { page } of opened) await connected(page, 2);
    await talk(opened.map(({ page }) => page));
    noErrors(...opened);
    await close(...opened);
  });

  test("one that is loaded again is connected anew, although only the other asks", async () => {
    const url = newRoom();
    const [ann, ben] = [await enter(url), await enter(url)];
    await seesPlayers(ben.page, 2);
    await ben.page.evaluate(() => void app.peers.mesh());
    for (const { page } of [ann, ben]) await connected(page, 1);
    const before = await me(ann.page);
    await ann.page.reload();
    await playing(ann.page);
    assert.equal(await me(ann.page), before);
    await connected(ann.page, 1, "direct", GONE_MS);
    await connected(ben.page, 1);
    await talk([ann.page, ben.page]);
    noErrors(ann, ben);
    await close(ann, ben);
  });

  test("a lost websocket leaves the connection alone, and ICE restarts on it", async () => {
    const url = newRoom();
    const [ann, ben] = [await enter(url), await enter(url)];
    const pages = [ann.page, ben.page];
    await seesPlayers(ben.page, 2);
    await ben.page.evaluate(() => void app.peers.mesh());
    for (const page of pages) await connected(page, 1);
    const former = await fragments(pages);
    await ann.page.evaluate(() => app.sockets.at(-1).close());
    await until("another websocket", () => ann.page.evaluate(() => app.sockets.length === 2 && app.room.status === "open"));
    await talk(pages);
    assert.deepEqual(await fragments(pages), former);
    await ann.page.evaluate(() => app.connections[0].restartIce());
    await until("a restart", () => fragments(pages), (found) => found.every((fragment, n) => fragment !== former[n]));
    for (const page of pages) await connected(page, 1);
    await talk(pages);
    assert.deepEqual(await atOnce(pages, () => app.connections.length), [1, 1]);
    await close(ann, ben);
  });

  test("where no candidate arrives messages go through the server, until a way is found", async () => {
    const url = `${newRoom()}?blocked`;
    const [ann, ben] = [await enter(url), await enter(url)];
    const pages = [ann.page, ben.page];
    for (const page of pages) await seesPlayers(page, 2);
    await atOnce(pages, () => void app.peers.mesh());
    for (const page of pages) await connected(page, 1, "relayed", RELAYED_MS);
    await talk(pages);
    await atOnce(pages, () => void (app.isBlocked = false));
    for (const page of pages) await connected(page, 1, "direct", GONE_MS);
    await talk(pages);
    noErrors(ann, ben);
    await close(ann, ben);
  });
});

const noFirefox = !existsSync(FIREFOX) && `${FIREFOX} is missing: install Firefox, or name it in FIREFOX`;
describe("Firefox and Chromium", { skip: noFirefox }, () => {
  let firefox;

  before(async () => {
    firefox = await puppeteer.launch({
      browser: "firefox",
      executablePath: FIREFOX,
      headless: true,
      timeout: FIREFOX_START_MS,
      extraPrefsFirefox: {
        "media.peerconnection.ice.obfuscate_host_addresses": false,
        "media.navigator.streams.fake": true,
        "media.navigator.permission.disabled": true,
      },
    });
  });

  after(() => firefox?.close());

  // The one that joins later is the polite one.
  for (const isFirst of [true, false]) {
    test(`are connected where Firefox joins ${isFirst ? "first" : "second"}, with audio both ways`, async () => {
      const url = newRoom();
      const enterFirefox = async () => {
        const page = await firefox.newPage();
        await page.goto(url);
        await playing(page);
        return page;
      };
      const early = isFirst && (await enterFirefox());
      const ann = await enter(url);
      const ben = early || (await enterFirefox());
      const pages = [ann.page, ben];
      for (const page of pages) await seesPlayers(page, 2);
      await atOnce(pages, () => void app.peers.mesh());
      for (const page of pages) await connected(page, 1);
      await talk(pages);
      await atOnce(pages, async () => {
        const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
        app.peers.all[0].addTrack(stream.getAudioTracks()[0], stream);
      });
      for (const page of pages) await until("audio", () => page.evaluate(audioPackets), (count) => count > 20);
      for (const page of pages) {
        const stats = await page.evaluate(() => app.peers.all[0].stats());
        assert.match(stats.local, /^(host|prflx)$/);
      }
      await talk(pages);
      assert.deepEqual(await atOnce(pages, () => app.connections.length), [1, 1]);
      await ben.close();
      await close(ann);
    });
  }
});
