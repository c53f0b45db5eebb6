// `rtcade/swarm`: what comes from the server and what from other pages. With UPLINK=1000000, the default of the module,
// the example's figures are those of the book.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import puppeteer from "puppeteer-core";
import { launchBrowser, openPage, overlaps, SCREENS, screenshot, startServer, until } from "./harness.mjs";

const EXAMPLE = fileURLToPath(new URL("../../examples/swarm", import.meta.url));
const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
const FIREFOX_START_MS = 60_000;
const UPLINK = Number(process.env.UPLINK ?? 4_000_000);
/** Bytes of the example's map, and of the one that the other tests load. */
const MAP = 20_000_000;
const BYTES = 5_000_000;
const PIECE = 256 * 1024;
const PIECES = Math.ceil(BYTES / PIECE);
/** A map takes 20 s from one page with the default uplink, and this machine may be slow. */
const LOADED_MS = 120_000;
/** A page that joins its room, and loads nothing by itself. */
const PAGE = `<!doctype html><meta charset="utf-8"><title>Swarm</title>
<script type="module">
  import { connect } from "/rtcade.js";
  import { openPeers } from "/rtcade/peers.js";
  import { openSwarm } from "/rtcade/swarm.js";
  const room = await connect("/r/" + new URLSearchParams(location.search).get("room"));
  const peers = openPeers(room);
  const digest = async (blob) =>
    [...new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()))]
      .map((byte) => byte.toString(16).padStart(2, "0"))
      .join("");
  globalThis.app = { room, peers, openSwarm, digest, async load(source, options) {
    const blob = await app.swarm.fetch(source, options);
    return { sha256: await digest(blob), bytes: blob.size };
  } };
</script>`;

let browser;
let server;
let directory;
let mapSha256;
let sha256;
let rooms = 0;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "rtcade-swarm-"));
  await cp(EXAMPLE, directory, { recursive: true, filter: (path) => !path.endsWith("map.bin") });
  await writeFile(join(directory, "plain.html"), PAGE);
  await promisify(execFile)(process.execPath, [join(EXAMPLE, "map.mjs"), join(directory, "map.bin")]);
  const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");
  const map = await readFile(join(directory, "map.bin"));
  assert.equal(map.length, MAP);
  mapSha256 = hash(map);
  const part = map.subarray(0, BYTES);
  await writeFile(join(directory, "part.bin"), part);
  sha256 = hash(part);
  const script = await readFile(join(directory, "swarm.js"), "utf8");
  assert.ok(script.includes("openSwarm(peers)"));
  await writeFile(join(directory, "swarm.js"), script.replace("openSwarm(peers)", `openSwarm(peers, { uplink: ${UPLINK} })`));
  server = await startServer(["--game", "relay", "--public", directory]);
  // A machine without multicast resolves no names of candidates.
  browser = await launchBrowser(["--disable-features=WebRtcHideLocalIpsWithMdns"]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
  await rm(directory, { recursive: true, force: true });
});

const newRoom = () => `${server.url}r/swarm-${++rooms}`;
const loaded = (page) => until("the map", () => page.evaluate(() => Boolean(globalThis.example)), Boolean, LOADED_MS);
/** What the page has counted, and what the browser has of the server. */
const figures = (page) =>
  page.evaluate(async () => {
    const entries = performance.getEntriesByType("resource").filter(({ name }) => name.endsWith("/map.bin"));
    const { swarm, map, seconds } = example;
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await map.arrayBuffer()));
    return {
      ...swarm.stats(),
      sha256: [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join(""),
      served: entries.reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0),
      seconds,
    };
  });

function print(title, rows) {
  for (const [n, { fromServer, fromPeers, toPeers, seconds }] of rows.entries()) {
    const megabytes = [fromServer, fromPeers, toPeers].map((bytes) => (bytes / 1e6).toFixed(1));
    console.log(`${title}: page ${n + 1}: ${megabytes[0]} MB from the server, ${megabytes[1]} from pages, ${megabytes[2]} to pages, ${seconds.toFixed(1)} s`);
  }
}

/** A window in the room of this test, with a swarm. */
async function enter(name, { options = {}, isActor = false } = {}) {
  const opened = await openPage(browser, `${server.url}plain.html?room=${name}`);
  const { page } = opened;
  await until("a page that plays", () => page.evaluate(() => Boolean(globalThis.app)));
  if (!isActor) await page.evaluate((options) => void (app.swarm = app.openSwarm(app.peers, options)), options);
  await page.evaluate(() => void app.peers.mesh());
  return opened;
}
const stats = (page) => page.evaluate(() => app.swarm.stats());
const connected = (page, count) =>
  until("direct connections", () => page.evaluate(() => app.peers.all.filter(({ status }) => status === "direct").length), (found) => found === count);
const load = (page) => page.evaluate(() => app.load("/part.bin"));
const isMap = (found) => assert.deepEqual(found, { sha256, bytes: BYTES });
const noErrors = (...opened) => opened.forEach(({ errors }) => assert.deepEqual(errors, []));
const close = (...opened) => Promise.all(opened.map(({ page }) => page.context().close()));

describe("the example", () => {
  test("loads the map from the server once, and then from page to page", async () => {
    const url = newRoom();
    const opened = [];
    for (let n = 0; n < 3; n++) {
      opened.push(await openPage(browser, url, n === 2 ? { ...SCREENS.upright, deviceScaleFactor: 1 } : SCREENS.desktop));
      if (n === 1) {
        const { page } = opened[n];
        await until("some of the map", () => page.evaluate(() => Number(bar.ariaValueNow ?? bar.getAttribute("aria-valuenow"))), (value) => value > 40, LOADED_MS);
        await screenshot(page, "swarm-loading");
      }
      await loaded(opened[n].page);
    }
    const rows = [];
    for (const { page } of opened) rows.push(await figures(page));
    print("one after the other", rows);
    for (const { sha256: found, fromServer, served, bad } of rows) {
      assert.equal(found, mapSha256);
      // A request that was cancelled may have brought something.
      assert.ok(served >= fromServer, `${served}, ${fromServer}`);
      assert.equal(bad, 0);
    }
    assert.deepEqual([rows[0].fromServer, rows[0].fromPeers], [MAP, 0]);
    for (const { fromServer, fromPeers } of rows.slice(1)) assert.ok(fromPeers > MAP / 2 && fromServer < MAP / 2, `${fromServer}, ${fromPeers}`);
    assert.ok(rows[0].toPeers > 0 && rows[1].toPeers > 0, "the third loads from both");
    for (const [n, { page }] of opened.entries()) {
      await screenshot(page, `swarm-${n + 1}`);
      assert.deepEqual(await overlaps(page, ["bar", "status", "from-server"]), []);
    }
    noErrors(...opened);
    await close(...opened);
  });

  test("lets three pages that open at once share what the server sends", async () => {
    const url = newRoom();
    const opened = await Promise.all([0, 1, 2].map(() => openPage(browser, url)));
    for (const { page } of opened) await loaded(page);
    const rows = [];
    for (const { page } of opened) rows.push(await figures(page));
    print("at once", rows);
    for (const { sha256: found } of rows) assert.equal(found, mapSha256);
    assert.ok(rows.some(({ fromPeers }) => fromPeers > 0));
    noErrors(...opened);
    await close(...opened);
  });
});

describe("a page", () => {
  test("drops another that sends wrong pieces, and loads the map all the same", async () => {
    const name = "swarm-malicious";
    const bad = await enter(name, { isActor: true });
    await bad.page.evaluate(({ BYTES, PIECE, PIECES }) => {
      app.asked = [];
      app.peers.on("datachannel", (channel) => {
        channel.onmessage = ({ data }) => {
          app.asked.push(Number(data));
          const length = Math.min(PIECE, BYTES - Number(data) * PIECE);
          for (let at = 0; at < length; at += 16_384) {
            const chunk = new Uint8Array(8 + Math.min(16_384, length - at));
            new DataView(chunk.buffer).setUint32(0, Number(data));
            new DataView(chunk.buffer).setUint32(4, length);
            channel.send(chunk);
          }
        };
        channel.onopen = () => channel.send("1".repeat(PIECES));
        channel.onclose = () => (app.isDropped = true);
      });
    }, { BYTES, PIECE, PIECES });
    const good = await enter(name);
    await connected(good.page, 1);
    isMap(await load(good.page));
    const found = await stats(good.page);
    assert.equal(found.bad, 1);
    assert.equal(found.fromServer, BYTES, "every byte that it sent was wrong");
    const asked = await bad.page.evaluate(() => app.asked.length);
    assert.ok(asked >= 1 && asked <= 4, `${asked}`);
    await until("the end of its channel", () => bad.page.evaluate(() => app.isDropped));

    const third = await enter(name);
    await connected(third.page, 2);
    isMap(await load(third.page));
    assert.ok((await stats(third.page)).fromPeers > BYTES / 4, "the others serve each other");
    noErrors(good, third);
    await close(bad, good, third);
  });

  test("goes on with the server where the other one is closed in the middle", async () => {
    const [ann, ben] = [await enter("swarm-departure"), await enter("swarm-departure")];
    await connected(ben.page, 1);
    isMap(await load(ann.page));
    const loading = load(ben.page);
    await until("some pieces", () => stats(ben.page), ({ fromPeers }) => fromPeers > 2 * PIECE);
    await close(ann);
    isMap(await loading);
    assert.ok((await stats(ben.page)).fromServer > 0);
    noErrors(ben);
    await close(ben);
  });

  test("uploads nothing with an uplink of 0, or over a metered connection", async () => {
    const name = "swarm-metered";
    const ann = await enter(name, { options: { uplink: 0 } });
    const ben = await enter(name);
    await ben.page.evaluate(() => Object.defineProperty(navigator, "connection", { value: { type: "cellular" } }));
    for (const { page } of [ann, ben]) isMap(await load(page));
    const cai = await enter(name);
    await connected(cai.page, 2);
    isMap(await load(cai.page));
    assert.deepEqual(await Promise.all([ann, ben].map(async ({ page }) => (await stats(page)).toPeers)), [0, 0]);
    assert.equal((await stats(cai.page)).fromPeers, 0);
    noErrors(ann, ben, cai);
    await close(ann, ben, cai);
  });

  test("passes on segments that no server has", async () => {
    const name = "swarm-segments";
    const [ann, ben, cai] = [await enter(name), await enter(name), await enter(name)];
    for (const { page } of [ann, ben, cai]) await connected(page, 2);
    const seconds = 5;
    const names = await ann.page.evaluate(async (seconds) => {
      const names = [];
      for (let n = 0; n < seconds; n++) names.push(await app.swarm.share(new Uint8Array(250_000).fill(n + 1)));
      return names;
    }, seconds);
    assert.deepEqual(names, Array.from({ length: seconds }, (_, n) => createHash("sha256").update(Buffer.alloc(250_000, n + 1)).digest("hex")));
    for (const { page } of [ben, cai]) {
      for (const sha256 of names) {
        assert.deepEqual(await page.evaluate((sha256) => app.load({ sha256, bytes: 250_000 }, { signal: AbortSignal.timeout(20_000) }), sha256), { sha256, bytes: 250_000 });
      }
      assert.deepEqual((await stats(page)).fromServer, 0);
    }
    noErrors(ann, ben, cai);
    await close(ann, ben, cai);
  });

  test("whose map changes on the server gets an error, and then the new map", async () => {
    const changing = join(directory, "changing.bin");
    await cp(join(directory, "part.bin"), changing);
    const { page, errors } = await enter("swarm-changing");
    const session = await page.context().newCDPSession(page);
    await session.send("Network.enable");
    await session.send("Network.emulateNetworkConditions", { offline: false, latency: 20, downloadThroughput: 4_000_000, uploadThroughput: -1 });
    const loading = page.evaluate(() =>
      app.swarm.fetch("/changing.bin", { onProgress: ({ bytes }) => (app.bytes = bytes) }).then(() => "loaded", ({ stage, code }) => [stage, code]),
    );
    await until("some pieces", () => page.evaluate(() => app.bytes), (bytes) => bytes > 0);
    await writeFile(changing, "short");
    assert.deepEqual(await loading, ["swarm", "changed"]);
    assert.equal(await page.evaluate(async () => (await app.swarm.fetch("/changing.bin")).text()), "short");
    // A response that is under way can't be completed.
    assert.ok(errors.every((error) => /416|CONTENT_LENGTH_MISMATCH/.test(error)), `${errors}`);
    await page.context().close();
  });
});

const noFirefox = !existsSync(FIREFOX) && `${FIREFOX} is missing: install Firefox, or name it in FIREFOX`;
describe("Firefox and Chromium", { skip: noFirefox }, () => {
  test("load from each other", async () => {
    const firefox = await puppeteer.launch({
      browser: "firefox",
      executablePath: FIREFOX,
      headless: true,
      timeout: FIREFOX_START_MS,
      extraPrefsFirefox: { "media.peerconnection.ice.obfuscate_host_addresses": false },
    });
    try {
      const ann = await enter("swarm-firefox", { options: { uplink: 4_000_000 } });
      const ben = await firefox.newPage();
      await ben.goto(`${server.url}plain.html?room=swarm-firefox`);
      await until("a page that plays", () => ben.evaluate(() => Boolean(globalThis.app)));
      await ben.evaluate(() => void (app.swarm = app.openSwarm(app.peers, { uplink: 4_000_000 })));
      await connected(ben, 1);
      isMap(await load(ann.page));
      isMap(await load(ben));
      assert.ok((await stats(ben)).fromPeers > BYTES / 2, JSON.stringify(await stats(ben)));
      const hash = await ben.evaluate(() => app.swarm.share("of Firefox"));
      assert.equal((await ann.page.evaluate((sha256) => app.load({ sha256 }), hash)).sha256, hash);
      await close(ann);
    } finally {
      await firefox.close();
    }
  });
});
