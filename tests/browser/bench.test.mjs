// The load tester as its user runs it: the ten seconds of smoke.yml against the shipped server, and the page that they
// make.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { launchBrowser, screenshot, serverProgram, startServer } from "./harness.mjs";

const SMOKE = fileURLToPath(new URL("../../benches/load/smoke.yml", import.meta.url));
const USERS = 10;

describe("smoke.yml against the shipped server", () => {
  let server, browser, directory, report, page;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "rtcade-smoke-"));
    [server, browser] = await Promise.all([startServer(), launchBrowser()]);
  });

  after(async () => {
    await browser?.close();
    await server?.stop();
    await rm(directory, { recursive: true, force: true });
  });

  test("passes", async () => {
    [report, page] = ["smoke.json", "smoke.html"].map((name) => join(directory, name));
    const smoke = ["bench", "run", SMOKE, "-t", server.url, "-q", "-o", report, "--html", page];
    const status = await promisify(execFile)(serverProgram(), smoke).then(() => 0, (error) => error.code);
    // A machine that is busy with something else overloads the generator, whose status is 4 then.
    assert.ok([0, 4].includes(status), `status ${status}`);
    const { aggregate, server: scrapes } = JSON.parse(await readFile(report, "utf8"));
    assert.equal(aggregate.counters["vusers.created"], USERS);
    assert.equal(aggregate.counters["vusers.completed"], USERS);
    assert.equal(aggregate.summaries["rtc.open"].count, USERS);
    assert.ok(aggregate.summaries["rtc.echo"].count > USERS * 100, "four seconds of 30 inputs a second each");
    assert.ok(scrapes.some(({ metrics }) => "rtcade_players" in metrics), "the server was asked for its own figures");
  });

  for (const colorScheme of ["light", "dark"]) {
    test(`makes a page that needs no network, in ${colorScheme}`, async () => {
      const context = await browser.newContext({ colorScheme, viewport: { width: 1200, height: 900 } });
      const tab = await context.newPage();
      const [errors, requests] = [[], []];
      tab.on("pageerror", (error) => errors.push(String(error)));
      tab.on("console", (message) => message.type() === "error" && errors.push(message.text()));
      tab.on("request", (request) => requests.push(request.url()));
      await tab.goto(pathToFileURL(page).href);
      assert.ok((await tab.locator("figure svg").count()) >= 6);
      await tab.locator(".plot").first().hover();
      assert.match(await tab.locator(".plot output").first().innerText(), /at: \d\d:\d\d\n/);
      const [r, g, b] = await tab.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
      assert.equal(r + g + b > 384, colorScheme === "light", `${r} ${g} ${b}`);
      assert.equal(await tab.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
      assert.deepEqual([errors, requests], [[], [pathToFileURL(page).href]]);
      await screenshot(tab, `bench-${colorScheme}`);
      await context.close();
    });
  }
});
