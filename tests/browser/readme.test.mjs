import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launchBrowser, openPage, SCREENS, screenshot, serverProgram, startServer, until } from "./harness.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const inRust = () => {
  const program = join(dirname(serverProgram()), "examples", "readme");
  return startServer(["--public", here("../it/readme_game/public")], { program });
};
const inJavaScript = () => startServer(["--game", here("../it/readme_game/game.js")]);

for (const [name, start] of Object.entries({ "the game of the README": inRust, "the same in JavaScript": inJavaScript })) describe(name, () => {
  let server, browser, ann, ben;

  before(async () => {
    server = await start();
    browser = await launchBrowser();
    ann = await openPage(browser, server.url, SCREENS.desktop);
    ben = await openPage(browser, ann.page.url(), SCREENS.upright);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
  });

  /** What the page shows in a color: its place in shares of the window, and its text. */
  const shown = ({ page }, color) =>
    page.evaluate((color) => {
      const element = [...document.querySelectorAll("b")].find(({ style }) => style.background === color);
      if (!element) return null;
      const { left, top, width, height } = element.getBoundingClientRect();
      return { x: (left + width / 2) / innerWidth, y: (top + height / 2) / innerHeight, text: element.textContent };
    }, color);

  const pointTo = ({ page }, { x, y }) => {
    const { width, height } = page.viewportSize();
    return page.mouse.move(x * width, y * height);
  };

  test("each square follows the pointer, in both windows", async () => {
    for (const [mover, watcher, to] of [[ann, ben, { x: 0.8, y: 0.2 }], [ben, ann, { x: 0.3, y: 0.7 }]]) {
      const isThere = (square) => square && Math.hypot(square.x - to.x, square.y - to.y) < 0.005;
      await until("a square", () => shown(mover, "springgreen"));
      await pointTo(mover, to);
      await until("the own square at the pointer", () => shown(mover, "springgreen"), isThere);
      await until("the square in the other window", () => shown(watcher, "tomato"), isThere);
    }
  });

  test("the square that reaches the dot scores, and the dot jumps", async () => {
    const first = await until("the dot", () => shown(ben, "gold"));
    await pointTo(ann, first);
    await until("a score", () => shown(ann, "springgreen"), ({ text }) => text === "1");
    await until("the score in the other window", () => shown(ben, "tomato"), ({ text }) => text === "1");
    await until("a dot elsewhere", () => shown(ben, "gold"), ({ x, y }) => x !== first.x || y !== first.y);
    await pointTo(ann, { x: 0.6, y: 0.4 });
    await until("a square in sight", () => shown(ann, "springgreen"), ({ x }) => Math.abs(x - 0.6) < 0.1);
    await screenshot(ann.page, "readme-ann");
    await screenshot(ben.page, "readme-ben");
    assert.deepEqual(ann.errors, []);
    assert.deepEqual(ben.errors, []);
  });
});
