import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { connection, launchBrowser, openPage, startServer, until } from "./harness.mjs";

const program = fileURLToPath(new URL("fake-server.mjs", import.meta.url));

test("a server is started, named by the URL on its standard output, and stopped", async () => {
  const server = await startServer(["well"], { program });
  assert.equal((await fetch(server.url)).status, 200);
  assert.match(server.output, /Open http/);
  assert.equal(await server.stop(), 7);
});

test("a server that dies, or never names a URL, fails with what it said", async () => {
  await assert.rejects(startServer(["dies"], { program }), /exited with 2; it said:\nthis port is taken/);
  await assert.rejects(startServer(["silent"], { program, startMs: 500 }), /waited 500 ms for .* URL/);
});

test("a server that does not stop fails", async () => {
  const server = await startServer(["stubborn"], { program, stopMs: 200 });
  await assert.rejects(server.stop(), /waited 200 ms/);
});

test("a page's errors, notice and data channels are seen", async () => {
  const server = await startServer(["well"], { program });
  const browser = await launchBrowser();
  try {
    const { page, errors } = await openPage(browser, server.url);
    await until("both errors", () => errors.length, (count) => count === 2);
    assert.match(errors.sort().join(), /thrown.*on the console/);
    assert.equal((await connection(page)).notice, "in words");
    const channels = await page.evaluate(() => channels.map(({ channel }) => [channel.ordered, channel.maxRetransmits]));
    assert.deepEqual(channels, [[false, 0]]);
  } finally {
    await browser.close();
    await server.stop();
  }
});

test("a wait that is in vain ends, and tells what there was", async () => {
  await assert.rejects(until("three", async () => 2, (n) => n === 3, 100), /100 ms for three; at last there was 2/);
  await assert.rejects(until("an answer", () => new Promise(() => {}), Boolean, 100), /100 ms for an answer/);
});
