// The examples that are built with Vite, as their READMEs have it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launchBrowser, openPage, overlaps, SCREENS, screenshot, startServer, until } from "./harness.mjs";

const EXAMPLES = fileURLToPath(new URL("../../examples", import.meta.url));
/** How far a player who holds a key must get, in units of the arena. */
const MOVED = 1_000;
const npm = (...args) => execFileSync("npm", ["--prefix", EXAMPLES, ...args], { stdio: ["ignore", "ignore", "inherit"] });

/** As many pixels as a machine without a graphics card can paint in time. */
const WINDOW = { viewport: { width: 640, height: 360 } };
const PHONE = { ...SCREENS.upright, deviceScaleFactor: 1 };

let browser;

before(async () => {
  const changed = (path) => statSync(`${EXAMPLES}/${path}`, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (changed("node_modules/.package-lock.json") < changed("package-lock.json")) npm("ci");
  npm("run", "build");
  // WebGL without a graphics card.
  browser = await launchBrowser(["--enable-unsafe-swiftshader"]);
});

after(() => browser?.close());

const discOf = (page, player) =>
  page.evaluate((player) => globalThis.example?.frame.discs.find(({ id }) => id === player), player);
const me = (page) => page.evaluate(() => example.room.me);
const direction = ({ x }) => (x > 8_000 ? -1 : 1);

async function join(url, name, options) {
  const opened = await openPage(browser, url, options);
  const { page } = opened;
  await page.getByLabel("Your name").fill(name);
  await page.getByRole("button", { name: "Play" }).click();
  await until("a disc", () => page.evaluate(() => globalThis.example?.frame.own !== undefined));
  return opened;
}

for (const name of ["phaser", "three"]) {
  describe(name, () => {
    let server, ann, ben;

    before(async () => {
      server = await startServer(["--game", "arena", "--public", `${EXAMPLES}/${name}/dist`]);
      ann = await join(server.url, "Ann", WINDOW);
      ben = await join(ann.page.url(), "Ben", PHONE);
    });

    after(() => server?.stop());

    test("each sees the other move and knows the name", async () => {
      for (const [mover, watcher] of [[ann, ben], [ben, ann]]) {
        const player = await me(mover.page);
        const { x } = await until("the other's disc", () => discOf(watcher.page, player));
        const sign = direction({ x });
        const key = sign < 0 ? "ArrowLeft" : "KeyD";
        await mover.page.keyboard.down(key);
        await until("a disc that moves", () => discOf(watcher.page, player), (disc) => (disc.x - x) * sign > MOVED);
        await mover.page.keyboard.up(key);
      }
      const names = await ann.page.evaluate(() => [...example.room.players.values()].map(({ name }) => name));
      assert.deepEqual(names.sort(), ["Ann", "Ben"]);
    });

    test("what it shows of the own disc is near to what the server says", async () => {
      await until("the room's word to agree", () =>
        ann.page.evaluate(() => {
          const { frame, room } = example;
          const said = frame.round.discs.find(({ id }) => id === room.me);
          return frame.own && Math.hypot(frame.own.x - said.x, frame.own.y - said.y) < 300;
        }),
      );
    });

    test("a finger steers, and the button dashes", async () => {
      const { page } = ben;
      const player = await me(page);
      const session = await page.context().newCDPSession(page);
      const touch = (type, ...touchPoints) => session.send("Input.dispatchTouchEvent", { type, touchPoints });
      const { y } = await discOf(page, player);
      const sign = y > 5_000 ? -1 : 1;
      await touch("touchStart", { x: 150, y: 500 });
      for (let moved = 0; moved < 60; moved += 10) await touch("touchMove", { x: 150, y: 500 + sign * moved });
      await until("a disc that moves", () => discOf(page, player), (disc) => (disc.y - y) * sign > MOVED);
      await screenshot(page, `${name}-steering`);
      await touch("touchEnd");
      await until("a dash", async () => {
        await page.getByRole("button", { name: "Dash" }).tap();
        return discOf(page, player);
      }, ({ isReady }) => !isReady);
    });

    test("a reloaded page joins by itself, with the same name", async () => {
      await ben.page.reload();
      await until("a disc", () => ben.page.evaluate(() => globalThis.example?.frame.own !== undefined));
      assert.equal(await ben.page.evaluate(() => example.room.players.get(example.room.me).name), "Ben");
    });

    test("both look right and report no error", async () => {
      await ann.page.setViewportSize(SCREENS.desktop.viewport);
      for (const [who, { page, errors }] of Object.entries({ ann, ben })) {
        await screenshot(page, `${name}-${who}`);
        assert.deepEqual(errors, []);
        assert.deepEqual(await overlaps(page, ["scores", "clock", "invite", "connection", "dash", "help"]), []);
      }
    });
  });
}
