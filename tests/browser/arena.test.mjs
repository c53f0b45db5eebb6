import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connection, launchBrowser, openPage, playing, screenshot, startServer, until } from "./harness.mjs";

const WATCH_MS = 4_000;
/** How far a player who holds a key must get, in the arena's units. */
const MOVED = 10;

describe("two pages in one arena", () => {
  let server, browser, ann, ben;

  before(async () => {
    server = await startServer();
    browser = await launchBrowser();
    ann = await openPage(browser, server.url);
    ben = await openPage(browser, ann.page.url());
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test("the root leads to a fresh room each time", async () => {
    assert.match(new URL(ann.page.url()).pathname, /^\/r\/[A-Za-z0-9_-]{1,64}$/);
    const again = await fetch(server.url);
    assert.equal(again.status, 200);
    assert.notEqual(again.url, ann.page.url());
  });

  test("both play over a data channel that is unordered and never retransmits", async () => {
    for (const { page } of [ann, ben]) {
      await playing(page, "webrtc");
      const open = await page.evaluate(() =>
        channels
          .filter(({ channel }) => channel.readyState === "open")
          .map(({ channel: { ordered, maxRetransmits } }) => ({ ordered, maxRetransmits })),
      );
      assert.deepEqual(open, [{ ordered: false, maxRetransmits: 0 }]);
    }
  });

  test("each is seen by the other to move", async () => {
    await seenMoving(ann.page, ben.page, "ArrowRight", "ArrowLeft");
    await seenMoving(ben.page, ann.page, "KeyD", "KeyA");
  });

  test("states come 30 times a second over the channel, and are the same in both pages", async () => {
    await ann.page.keyboard.down("ArrowDown");
    await ben.page.keyboard.down("KeyW");
    // A machine that stalls for a moment makes the server skip ticks, as it should: it gets three tries at the rate.
    const perSecond = ({ states }) => ((states.length - 1) * 1_000) / (states.at(-1).at - states[0].at);
    const isSteady = (watched) => perSecond(watched) >= 28 && perSecond(watched) <= 31;
    let anns, bens;
    for (let tries = 0; tries < 3; tries++) {
      [anns, bens] = await Promise.all([watch(ann.page), watch(ben.page)]);
      if (isSteady(anns) && isSteady(bens)) break;
    }
    await ann.page.keyboard.up("ArrowDown");
    await ben.page.keyboard.up("KeyW");

    for (const watched of [anns, bens]) {
      const { states, received } = watched;
      assert.ok(isSteady(watched), `${perSecond(watched)} states per second`);
      assert.ok(received >= states.length, `${received} messages on the channel, ${states.length} states`);
      for (const [i, state] of states.slice(1).entries()) assert.ok(state.tick > states[i].tick, "ticks only rise");
    }
    const bensPlayers = new Map(bens.states.map(({ tick, players }) => [tick, players]));
    const common = anns.states.filter(({ tick }) => bensPlayers.has(tick));
    assert.ok(common.length > 60, `${common.length} ticks were seen by both`);
    for (const { tick, players } of common) assert.deepEqual(players, bensPlayers.get(tick), `tick ${tick}`);
    assert.notDeepEqual(common[0].players, common.at(-1).players);
  });

  test("both look right and report no error", async () => {
    await screenshot(ann.page, "arena-ann");
    await screenshot(ben.page, "arena-ben");
    assert.deepEqual(ann.errors, []);
    assert.deepEqual(ben.errors, []);
    assert.equal((await connection(ann.page)).notice, "");
    assert.equal((await connection(ben.page)).notice, "");
  });
});

/** The mover holds a key for either way, each until the watcher has seen them go that way. */
async function seenMoving(mover, watcher, right, left) {
  const { me } = await connection(mover);
  const x = () => watcher.evaluate((me) => rtcade.world().players.find(({ id }) => id === me)?.x, me);
  await until(`player ${me} in the other page`, x, (x) => x !== undefined);
  // Away from the left wall, lest there be no way to go.
  await mover.keyboard.press(right, { delay: 500 });
  for (const [key, way] of [[left, -1], [right, 1]]) {
    const from = await x();
    await mover.keyboard.down(key);
    await until(`player ${me} to go from ${from} with ${key}`, x, (x) => (x - from) * way > MOVED);
    await mover.keyboard.up(key);
  }
}

/** The states that a page gets within a while, as `{ tick, at, players }`, and the messages its channel received. */
function watch(page) {
  return page.evaluate(async (watchMs) => {
    const received = () => channels.reduce((sum, record) => sum + record.received, 0);
    const states = [];
    const before = received();
    const unsubscribe = rtcade.room.on("state", () => {
      const { tick, players } = rtcade.world();
      const positions = players.map(({ id, x, y }) => ({ id, x, y })).sort((a, b) => a.id - b.id);
      states.push({ tick, at: performance.now(), players: positions });
    });
    await new Promise((resolve) => setTimeout(resolve, watchMs));
    unsubscribe();
    return { states, received: received() - before };
  }, WATCH_MS);
}
