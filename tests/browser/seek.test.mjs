// `rtcade/seek` as the server serves it: pages that know nothing of each other are paired.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { launchBrowser, openPage, startServer, until } from "./harness.mjs";
import { NO_REDIS, startRedis } from "./redis.mjs";

/** Longer than a websocket that has neither joined nor seeks may stay open. */
const LONG_MS = 11_000;
/** The lease of a node lasts 5 s, then another one takes those who waited there. */
const FAILOVER_MS = 30_000;
const PAGE = `<!doctype html><meta charset="utf-8"><title>Seek</title>
<script type="module">
  import { openPeers } from "/rtcade/peers.js";
  import { seek } from "/rtcade/seek.js";
  const app = { messages: [], cancel: new AbortController() };
  globalThis.app = app;
  try {
    app.room = await seek("chess", { name: location.hash.slice(1), signal: app.cancel.signal });
    app.peers = openPeers(app.room).mesh();
    app.peers.on("message", ({ value }) => app.messages.push(value));
  } catch ({ code }) {
    app.code = code;
  }
</script>`;

let browser;
let server;
let directory;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "rtcade-seek-"));
  await writeFile(join(directory, "index.html"), PAGE);
  server = await startServer(["--public", directory]);
  // A machine without multicast resolves no names of candidates.
  browser = await launchBrowser(["--disable-features=WebRtcHideLocalIpsWithMdns"]);
});

after(async () => {
  await browser?.close();
  await server?.stop();
  await rm(directory, { recursive: true, force: true });
});

const shown = ({ page }) =>
  page.evaluate(() => ({
    room: globalThis.app?.room?.name,
    code: globalThis.app?.code,
    names: [...(globalThis.app?.room?.players.values() ?? [])].map(({ name }) => name).sort(),
    messages: globalThis.app?.messages,
  }));
const rooms = async (opened) => (await Promise.all(opened.map(shown))).map(({ room }) => room);

test("of three pages two are paired and connected, and the third with a fourth that comes later", async () => {
  // The page of any room, which is not the one in which they meet.
  const enter = (name) => openPage(browser, `${server.url}r/lobby#${name}`);
  const three = await Promise.all(["Ann", "Ben", "Cy"].map(enter));
  const paired = await until("a pair", () => rooms(three), (found) => found.filter(Boolean).length === 2);
  const [name, other] = paired.filter(Boolean);
  assert.equal(name, other);
  assert.match(name, /^seek-[0-9a-f]{32}$/);
  const pair = three.filter((_, n) => paired[n]);
  const [third] = three.filter((_, n) => !paired[n]);
  await until("both", () => Promise.all(pair.map(shown)), (both) => both.every(({ names }) => names.length === 2));
  await Promise.all(pair.map(({ page }) => page.evaluate(() => app.peers.sendReliable(`from ${app.room.me}`))));
  await until("messages", () => Promise.all(pair.map(shown)), (both) => both.every(({ messages }) => messages.length === 1));
  assert.deepEqual(await (await fetch(`${server.url}rooms`)).json(), []);

  await sleep(LONG_MS);
  assert.equal((await shown(third)).code, undefined);
  const late = [await enter("Dan"), await enter("Eve")];
  const [dan, eve] = late;
  await until("a room for the third", () => shown(third), ({ room }) => room);
  const [ofThird, ofDan, ofEve] = await until(
    "its partner",
    () => rooms([third, dan, eve]),
    (found) => found.filter(Boolean).length === 2,
  );
  assert.ok(ofThird && ofThird !== name && [ofDan, ofEve].includes(ofThird));
  const [left] = late.filter((_, n) => ![ofDan, ofEve][n]);
  await left.page.evaluate(() => app.cancel.abort());
  assert.equal((await until("an end", () => shown(left), ({ code }) => code)).code, "aborted");
  for (const { errors } of [...three, ...late]) assert.deepEqual(errors, []);
});

test("pages of two nodes are paired, and one that waits survives its node", async (t) => {
  const redis = await startRedis();
  if (!redis) return t.skip(NO_REDIS);
  const startNode = (name, more) =>
    startServer(["--redis", redis.url, "--node", name, "--cluster", "seek", "--public", directory, ...more]);
  const [first, second] = await Promise.all([startNode("first", []), startNode("second", ["--soft-limit", "1"])]);
  const enter = (node, name) => openPage(browser, `${node.url}r/lobby#${name}`);
  const bare = await openPage(browser, `${second.url}rooms`);
  /** A room that was placed there lately is above its limit, so that players wait at the other one. */
  const burden = (room) =>
    bare.page.evaluate(async (url) => void (await (await import("/rtcade.js")).connect(url)), `/r/${room}`);
  const redirects = async () =>
    Number((await (await fetch(`${second.url}metrics`)).text()).match(/^rtcade_cluster_redirects_total (\d+)/m)[1]);
  try {
    await burden("one");
    const start = await redirects();
    const ann = await enter(second, "Ann");
    await until("a redirect", redirects, (count) => count > start);
    const ben = await enter(first, "Ben");
    const [ofAnn, ofBen] = await until("a room", () => rooms([ann, ben]), (found) => found.every(Boolean));
    assert.equal(ofAnn, ofBen);
    assert.match(ofAnn, /^seek-[0-9a-f]{32}$/);
    for (const page of [ann, ben]) {
      const { names } = await until("both", () => shown(page), ({ names }) => names.length === 2);
      assert.deepEqual([names, page.errors], [["Ann", "Ben"], []]);
    }

    await burden("two");
    const before = await redirects();
    const cy = await enter(second, "Cy");
    await until("a redirect", redirects, (count) => count > before);
    await first.kill();
    const dan = await enter(second, "Dan");
    const found = await until("a room", () => rooms([cy, dan]), (both) => both.every(Boolean), FAILOVER_MS);
    assert.equal(found[0], found[1]);
    const { names } = await until("both", () => shown(cy), (seen) => seen.names.length === 2, FAILOVER_MS);
    assert.deepEqual(names, ["Cy", "Dan"]);
  } finally {
    await Promise.all([first.kill(), second.kill()]);
    await redis.stop();
  }
});
