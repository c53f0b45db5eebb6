import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connection, controls, launchBrowser, openPage, overlaps, playing, SCREENS, screenshot, startServer, until } from "./harness.mjs";

describe("two pages in one relay room", () => {
  let server, browser, ann, ben;

  before(async () => {
    server = await startServer(["--game", "relay"]);
    browser = await launchBrowser();
    ann = await openPage(browser, server.url);
    await playing(ann.page, "webrtc");
    await recordTicks(ann.page);
    ben = await openPage(browser, ann.page.url());
    await playing(ben.page, "webrtc");
    await recordTicks(ben.page);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  test("each sees the other's pointer move", async () => {
    for (const [mover, watcher] of [[ann.page, ben.page], [ben.page, ann.page]]) {
      const { me } = await connection(mover);
      const pointer = () => watcher.evaluate((me) => rtcade.pointers()[me], me);
      // The text at the left is not part of the picture.
      await mover.mouse.move(400, 150, { steps: 5 });
      const from = await until(`the pointer of player ${me}`, pointer);
      await mover.mouse.move(700, 350, { steps: 20 });
      await until(`the pointer of player ${me} to move`, pointer, ({ x, y }) => x > from.x && y > from.y);
    }
  });

  test("both get every tick with the same inputs", async () => {
    await until("enough ticks", () => ben.page.evaluate(() => ticks.length), (length) => length >= 100);
    const [anns, bens] = await Promise.all([ann.page, ben.page].map((page) => page.evaluate(() => ticks)));
    for (const ticks of [anns, bens]) {
      for (const [i, [tick]] of ticks.entries()) assert.equal(tick, ticks[0][0] + i, "no tick is left out");
    }
    const first = Math.max(anns[0][0], bens[0][0]);
    const last = Math.min(anns.at(-1)[0], bens.at(-1)[0]);
    const common = (ticks) => ticks.filter(([tick]) => tick >= first && tick <= last);
    assert.deepEqual(common(anns), common(bens));
    const heard = new Set(common(anns).flatMap(([, inputs]) => inputs.map(({ player }) => player)));
    for (const { page } of [ann, ben]) assert.ok(heard.has((await connection(page)).me), "both players were heard");
  });

  test("both look right and report no error", async () => {
    await screenshot(ann.page, "relay-ann");
    await screenshot(ben.page, "relay-ben");
    assert.deepEqual(ann.errors, []);
    assert.deepEqual(ben.errors, []);
  });

  test("the page says what it is for, and opens another window of the room", async () => {
    const { page } = ann;
    const snapshot = await page.locator("body").ariaSnapshot();
    assert.match(snapshot, /heading "Relay room" \[level=1\]/);
    assert.match(snapshot, /lockstep/);
    assert.match(snapshot, /img "The pointers of all players in this room"/);
    for (const [role, name] of await controls(page)) assert.notEqual(name, "", role);
    const link = page.getByRole("link", { name: "Open another window" });
    const [other] = await Promise.all([page.context().waitForEvent("page"), link.click()]);
    assert.equal(other.url(), page.url());
    await playing(other, "webrtc");
    assert.notEqual((await connection(other)).me, (await connection(page)).me);
    await until("three names", () => page.locator("#players li").count(), (count) => count === 3);
    await other.close();
    await until("two names", () => page.locator("#players li").count(), (count) => count === 2);
  });

  for (const screen of Object.keys(SCREENS)) {
    test(`no panel covers another, ${screen}`, async () => {
      const { page } = await openPage(browser, ann.page.url(), SCREENS[screen]);
      await playing(page, "webrtc");
      assert.deepEqual(await overlaps(page, ["about", "players", "naming", "connection"]), []);
      await page.context().close();
    });
  }
});

function recordTicks(page) {
  return page.evaluate(() => {
    globalThis.ticks = [];
    rtcade.room.on("tick", ({ tick, inputs }) => ticks.push([tick, inputs]));
  });
}
