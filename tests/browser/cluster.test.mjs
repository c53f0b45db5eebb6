import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connection, launchBrowser, openPage, playing, screenshot, startServer, until } from "./harness.mjs";
import { NO_REDIS, startRedis } from "./redis.mjs";

/** A room's lease lasts 5 s, then its players have to come back. */
const FAILOVER_MS = 30_000;

let browser;
let redis;

before(async () => {
  redis = await startRedis();
  if (redis) browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await redis?.stop();
});

const startNode = (name, more = []) =>
  startServer(["--redis", redis.url, "--node", name, "--cluster", "browser", ...more]);

/** A room of the node: it is asked for there first. */
async function openAt(node, room) {
  const opened = await openPage(browser, `${node.url}r/${room}`);
  await playing(opened.page, "webrtc");
  return opened;
}
const roomsOf = async (node) => Number((await (await fetch(`${node.url}metrics`)).text()).match(/^rtcade_rooms (\d+)/m)[1]);

const seat = (page) =>
  page.evaluate(() => {
    const { room } = globalThis.rtcade;
    return { player: room.me, socketId: room.players.get(room.me).socketId, tick: room.stats.tick };
  });

describe("a room whose node drains", () => {
  test("goes on at another one, and its pages with it", async (t) => {
    if (!redis) return t.skip(NO_REDIS);
    const [goes, stays] = await Promise.all(["goes", "stays"].map((name) => startNode(name, ["--drain", "30"])));
    try {
      const { page } = await openAt(goes, "moved");
      const { page: other } = await openAt(goes, "moved");
      const before = await Promise.all([seat(page), seat(other)]);
      await page.evaluate(() => {
        const { room } = globalThis.rtcade;
        const seen = { statuses: [], gap: 0, at: performance.now(), backwards: 0, tick: 0 };
        globalThis.seen = seen;
        room.on("status", (status) => seen.statuses.push(status));
        room.on("state", (state, { tick }) => {
          const now = performance.now();
          seen.gap = Math.max(seen.gap, now - seen.at);
          seen.backwards += tick <= seen.tick;
          Object.assign(seen, { at: now, tick });
        });
      });
      assert.equal(await goes.stop(), 0, "it need not wait until its rooms have ended");
      await until("the room at the node that stays", () => roomsOf(stays), Boolean);
      await Promise.all([playing(page, "webrtc"), playing(other, "webrtc")]);
      const after = await Promise.all([seat(page), seat(other)]);
      assert.deepEqual(after.map(({ player, socketId }) => [player, socketId]), before.map(({ player, socketId }) => [player, socketId]));
      const { statuses, gap, backwards } = await page.evaluate(() => globalThis.seen);
      assert.deepEqual(statuses, ["resuming", "open"]);
      assert.equal(backwards, 0, "states that go back");
      t.diagnostic(`the longest time without a state: ${gap.toFixed()} ms`);
      await screenshot(page, "cluster-moved");
    } finally {
      await Promise.all([goes.kill(), stays.kill()]);
    }
  });
});

describe("a page of one node, and a room of another", () => {
  test("are brought together, and the page survives that node", async (t) => {
    if (!redis) return t.skip(NO_REDIS);
    const [home, there] = await Promise.all([startNode("home"), startNode("there")]);
    try {
      const owner = await openAt(there, "shared");
      const { page } = await openAt(home, "shared");
      assert.deepEqual([await roomsOf(home), await roomsOf(there)], [0, 1]);
      await until("each other", () => page.evaluate(() => globalThis.rtcade.room.players.size), (players) => players === 2);
      const former = await page.evaluate(() => [...globalThis.rtcade.room.players.values()].map(({ socketId }) => socketId));
      await screenshot(page, "cluster-redirected");

      const before = await seat(page);
      // The room is saved every five seconds.
      await until("two saves", () => seat(page), ({ tick }) => tick > before.tick + 12_000 / 33, FAILOVER_MS);
      await there.kill();
      await until("the room at the node that is left", () => roomsOf(home), Boolean, FAILOVER_MS);
      await until("a game that goes on", () => connection(page), ({ status }) => status === "open", FAILOVER_MS);
      await playing(page, "webrtc");
      const after = await seat(page);
      assert.ok(former.includes(after.socketId), "it is the player that it was");
      assert.equal(after.player, before.player, "in the room that it was");
      assert.ok(after.tick > before.tick, `${after.tick} follows ${before.tick}`);
      const states = () =>
        page.evaluate(() => new Promise((resolve) => {
          const ticks = [];
          globalThis.rtcade.room.on("state", (_, { tick }) => ticks.push(tick));
          setTimeout(() => resolve(ticks), 1_000);
        }));
      await until("states again", states, (ticks) => ticks.length > 10);
      await screenshot(page, "cluster-survived");
      await owner.page.close();
    } finally {
      await Promise.all([home.kill(), there.kill()]);
    }
  });
});
