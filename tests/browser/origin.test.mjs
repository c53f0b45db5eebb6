import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { launchBrowser, openPage, startServer } from "./harness.mjs";

const EMPTY = "<!doctype html><link rel=icon href=data:,><title>a page of another origin</title>";

describe("a page of another origin", () => {
  let pages, browser, own, named, page;

  before(async () => {
    pages = createServer(({ url }, response) => {
      if (url === "/strict") response.setHeader("Content-Security-Policy", "connect-src 'self'");
      response.setHeader("Content-Type", "text/html").end(EMPTY);
    });
    await once(pages.listen(0, "127.0.0.1"), "listening");
    own = `http://127.0.0.1:${pages.address().port}`;
    named = await startServer(["--origin", own, "--origin", "null"]);
    browser = await launchBrowser();
    ({ page } = await openPage(browser, own));
  });

  after(async () => {
    await browser?.close();
    await named?.stop();
    pages?.close();
  });

  /** What a page gets that imports the client from a server, asks it for its rooms and plays there. */
  const visit = async (server) => {
    const { connect } = await import(`${server}rtcade.js`);
    const room = await connect(`${server.replace("http", "ws")}r/lobby`);
    const options = { headers: { "x-asks": "before" } };
    const rooms = await (await fetch(`${server}rooms`, options)).json();
    const answer = { me: room.me, rooms };
    room.leave();
    return answer;
  };

  test("that is named loads the client, plays, and lists the rooms", async () => {
    const { me, rooms } = await page.evaluate(visit, named.url);
    assert.equal(typeof me, "number");
    assert.ok(Array.isArray(rooms));
  });

  test("whose Content-Security-Policy does not name the server is told so", async () => {
    const { page: strict } = await openPage(browser, `${own}/strict`);
    await assert.rejects(strict.evaluate(visit, named.url), /The browser blocked .* connect-src/);
  });

  test("that is not named reads nothing", async () => {
    const server = await startServer([]);
    try {
      await assert.rejects(page.evaluate(visit, server.url), /dynamically imported module/);
      const read = await page.evaluate((url) => fetch(`${url}rooms`).then(() => "read", () => "kept"), server.url);
      assert.equal(read, "kept");
    } finally {
      await server.stop();
    }
  });

  test("in a sandboxed frame reads where null is named", async () => {
    const rooms = await page.evaluate((url) => new Promise((resolve) => {
      addEventListener("message", ({ data }) => resolve(data));
      const frame = document.createElement("iframe");
      frame.sandbox = "allow-scripts";
      frame.srcdoc = `<script type=module>
        const response = await fetch("${url}rooms");
        parent.postMessage(await response.json(), "*");
      </script>`;
      document.body.append(frame);
    }), named.url);
    assert.ok(Array.isArray(rooms));
  });
});

test("a recording of sound seeks over HTTP", async () => {
  const seconds = 600, rate = 8_000;
  const header = Buffer.alloc(44);
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + seconds * rate, 4);
  header.write("WAVEfmt ", 8);
  for (const [at, value] of [[16, 16], [24, rate], [28, rate], [40, seconds * rate]]) header.writeUInt32LE(value, at);
  for (const [at, value] of [[20, 1], [22, 1], [32, 1], [34, 8]]) header.writeUInt16LE(value, at);
  header.write("data", 36);
  const directory = await mkdtemp(join(tmpdir(), "rtcade-sound-"));
  await writeFile(join(directory, "index.html"), EMPTY);
  await writeFile(join(directory, "sound.wav"), Buffer.concat([header, Buffer.alloc(seconds * rate, 128)]));
  const server = await startServer(["--public", directory]);
  const browser = await launchBrowser();
  try {
    const { page } = await openPage(browser, `${server.url}r/a`);
    const ranges = [];
    page.on("response", (response) => {
      if (response.url().endsWith(".wav")) ranges.push([response.status(), response.headers()["content-range"]]);
    });
    const at = await page.evaluate((url) => new Promise((resolve, reject) => {
      const sound = new Audio(url);
      sound.preload = "metadata";
      sound.onerror = () => reject(new Error(sound.error.message));
      sound.onloadedmetadata = () => { sound.currentTime = 580; };
      sound.onseeked = () => resolve(sound.currentTime);
    }), `${server.url}sound.wav`);
    assert.equal(at, 580);
    assert.ok(ranges.length > 0 && ranges.every(([status]) => status === 206), JSON.stringify(ranges));
  } finally {
    await browser.close();
    await server.stop();
    await rm(directory, { recursive: true });
  }
});
