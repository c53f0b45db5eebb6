// `rtcade/rooms` as the server serves it: pages without a link meet in a room, at whichever node they are.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchBrowser, openPage, startServer, until } from "./harness.mjs";
import { NO_REDIS, startRedis } from "./redis.mjs";

let browser;

before(async () => {
  browser = await launchBrowser();
});

after(() => browser?.close());

/** What the page has joined. */
const enter = ({ page }, filter) =>
  page.evaluate(async (given) => {
    const { joinOrCreate } = await import("/rtcade/rooms.js");
    globalThis.joined = await joinOrCreate("/", { filter: given });
    return globalThis.joined.name;
  }, filter);
const players = ({ page }) => page.evaluate(() => globalThis.joined.players.size);

test("pages of two nodes fill one room and then the next", async (t) => {
  const redis = await startRedis();
  if (!redis) return t.skip(NO_REDIS);
  const startNode = (name) =>
    startServer(["--redis", redis.url, "--node", name, "--cluster", "rooms", "--max-players", "2"]);
  const nodes = await Promise.all(["one", "two"].map(startNode));
  try {
    // What is asked while Redis has just begun waits.
    const opened = await Promise.all([0, 1, 0, 1].map((node) => openPage(browser, `${nodes[node].url}rooms`)));
    const names = await Promise.all(opened.map((page) => enter(page, { kind: "duel" })));
    assert.deepEqual(names.toSorted(), ["duel-1", "duel-1", "duel-2", "duel-2"]);
    for (const page of opened) await until("the other", () => players(page), (count) => count === 2);
    const other = await openPage(browser, `${nodes[1].url}rooms`);
    assert.equal(await enter(other), "room-1");
    await opened[0].page.evaluate(() => globalThis.joined.leave());
    const left = opened.findLast((_, n) => names[n] === names[0]);
    await until("a place", () => players(left), (count) => count === 1);
    assert.equal(await enter(opened[0], { kind: "duel" }), names[0]);
    for (const { errors } of [...opened, other]) assert.deepEqual(errors, []);
  } finally {
    await Promise.all(nodes.map((node) => node.kill()));
    await redis.stop();
  }
});

test("a code that is typed leads to the room", async () => {
  const server = await startServer();
  try {
    const [host, guest] = await Promise.all([0, 1].map(() => openPage(browser, `${server.url}rooms`)));
    const code = await host.page.evaluate(async () => {
      const [{ connect }, { roomCode }] = await Promise.all([import("/rtcade.js"), import("/rtcade/rooms.js")]);
      const made = roomCode();
      globalThis.joined = await connect(`/r/${made}`);
      return made;
    });
    await guest.page.evaluate(async (typed) => {
      const [{ connect }, { roomCode }] = await Promise.all([import("/rtcade.js"), import("/rtcade/rooms.js")]);
      globalThis.joined = await connect(`/r/${roomCode(typed)}`);
    }, ` ${code.toLowerCase()} `);
    for (const page of [host, guest]) await until("the other", () => players(page), (count) => count === 2);
  } finally {
    await server.stop();
  }
});
