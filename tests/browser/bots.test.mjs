// The bots of examples/bots, with a page that plays against them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launchBrowser, openPage, screenshot, serverProgram, startServer, until } from "./harness.mjs";

const PROGRAM = join(serverProgram(), "../examples/bots");
const BOTS = 3;
/** Units of the arena. */
const MOVED = 1_000;

let server, browser;

before(async () => {
  server = await startServer(["--game", "arena"]);
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const runBots = (url) => {
  const bots = spawn(PROGRAM, [url, "--bots", BOTS], { stdio: ["ignore", "pipe", "pipe"] });
  const run = { bots, output: "", exit: once(bots, "close") };
  for (const stream of [bots.stdout, bots.stderr]) stream.on("data", (data) => (run.output += data));
  process.once("exit", () => bots.kill("SIGKILL"));
  return run;
};

test("they play over data channels, and a page sees them collect gems", async () => {
  const { page, errors } = await openPage(browser, new URL("/r/bots", server.url).href);
  const run = runBots(page.url());
  try {
    const isWhole = (output) => output.split("the data channel is open").length === BOTS + 1;
    await until("the bots' channels", async () => run.output, isWhole);
    await page.evaluate(() => {
      globalThis.discs = [];
      rtcade.room.on("state", ([, , , discs]) => (globalThis.discs = discs));
    });
    const bots = () =>
      page.evaluate(() => {
        const { room } = rtcade;
        const others = [...room.players].filter(([id]) => id !== room.me);
        return others.map(([id, { name }]) => {
          const [, [x, y] = [], , , score] = discs.find(([disc]) => disc === id) ?? [];
          return { name, x, y, score };
        });
      });
    const before = await until("their discs", bots, (discs) => discs.length === BOTS && discs.every(({ x }) => x));
    assert.deepEqual(before.map(({ name }) => name).sort(), ["Bot 1", "Bot 2", "Bot 3"]);
    await until("all to move", bots, (now) =>
      now.every(({ x, y }, n) => Math.hypot(x - before[n].x, y - before[n].y) > MOVED),
    );
    await until("a gem", bots, (now) => now.some(({ score }) => score > 0));
    await screenshot(page, "bots");
    assert.deepEqual(errors, []);
  } finally {
    run.bots.kill();
    await run.exit;
    await page.context().close();
  }
});

test("they come back where the server restarts", async () => {
  const run = runBots(new URL("/r/restarted", server.url).href);
  const joins = async () => run.output.match(/joined as player/g)?.length ?? 0;
  try {
    await until("the bots to join", joins, (count) => count === BOTS);
    const port = new URL(server.url).port;
    await server.stop();
    server = await startServer(["--game", "arena"], { port });
    await until("the bots to join again", joins, (count) => count === 2 * BOTS);
  } finally {
    run.bots.kill();
    await run.exit;
  }
});

test("they say why they can't join", async () => {
  const run = runBots("ftp://localhost/r/bots");
  const [code] = await run.exit;
  assert.equal(code, 1);
  assert.match(run.output, /expected a URL that begins with http:\/\//);
});
