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

const startNode = (name) => startServer(["--redis", redis.url, "--node", name, "--cluster", "browser"]);

/** A room of the node: it is asked for there first. */
async function openAt(node, room) {
  const opened = await openPage(browser, `${node.url}r/${room}`);
  await playing(opened.page, "webrtc");
  return opened;
}
const roomsOf = async (node) => Number((await (await fetch(`${node.url}metrics`)).text()).match(/^rtcade_rooms (\d+)/m)[1]);

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

      await there.kill();
      await until("the room at the node that is left", () => roomsOf(home), Boolean, FAILOVER_MS);
      await until("a game that goes on", () => connection(page), ({ status }) => status === "open", FAILOVER_MS);
      await playing(page, "webrtc");
      const me = await page.evaluate(() => globalThis.rtcade.room.players.get(globalThis.rtcade.room.me).socketId);
      assert.ok(former.includes(me), "it is the player that it was");
      await screenshot(page, "cluster-survived");
      await owner.page.close();
    } finally {
      await Promise.all([home.kill(), there.kill()]);
    }
  });
});
