// What a state costs the page's thread, decoded there and decoded in a worker that hands it over: medians of CPU time in
// Chromium. `node benches/worker.mjs`
import { once } from "node:events";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { deflateRawSync } from "node:zlib";
import { encode } from "../client-js/src/msgpack.js";
import { launchBrowser } from "../tests/browser/harness.mjs";

const { build } = createRequire(new URL("../client-js/package.json", import.meta.url))("esbuild");
const MESSAGES = 400;

const unit = (n) => ({ id: n, x: (n * 317) % 4096, y: (n * 173) % 4096, angle: n / 7, health: 100 - (n % 100), team: n % 3 });
const asArray = ({ id, x, y, angle, health, team }) => [id, x, y, angle, health, team];
/** A state of about so many bytes of msgpack. */
function state(bytes, shape) {
  const units = [];
  for (let length = 0; length < bytes; length += encode(units.at(-1), bytes).length) units.push(shape(unit(units.length)));
  return [1, { units }];
}

const cases = [];
for (const kib of [1, 4, 8, 16, 64, 256, 1_000]) {
  for (const [name, shape] of [
    ["objects", (unit) => unit],
    ["arrays", asArray],
  ]) {
    const body = Uint8Array.from(encode(state(kib * 1_000, shape), 2 ** 21, 16, 2 ** 21));
    cases.push({ name: `${kib} kB of ${name}`, body: deflateRawSync(body).toString("base64") });
  }
}

const bundle = async (contents) => {
  const resolveDir = fileURLToPath(new URL("../client-js/src", import.meta.url));
  const options = { stdin: { contents, resolveDir }, bundle: true, minify: true, format: "esm", write: false };
  return (await build(options)).outputFiles[0].text;
};
const codec = `
  import { inflate } from "./inflate.js";
  import { decode } from "./msgpack.js";
  const out = new Uint8Array(2 ** 21);
  const read = (body) => {
    const bytes = inflate(body, out);
    return decode(bytes, 16, bytes.length);
  };`;
const files = {
  "/": ["text/html", "<!doctype html><script type=module src=/page.js></script>"],
  "/worker.js": ["text/javascript", await bundle(`${codec} onmessage = ({ data }) => postMessage(read(data));`)],
  "/page.js": ["text/javascript", await bundle(`${codec}
    const worker = new Worker("/worker.js", { type: "module" });
    const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
    globalThis.measure = async (base64, messages) => {
      const body = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
      const here = [];
      for (let n = 0; n < messages; n++) {
        const copy = body.slice();
        const start = performance.now();
        read(copy);
        here.push(performance.now() - start);
      }
      const there = [];
      for (let n = 0; n < messages; n++) {
        const copy = body.slice();
        const start = performance.now();
        worker.postMessage(copy, [copy.buffer]);
        const sent = performance.now() - start;
        there.push(await new Promise((resolve) => {
          worker.onmessage = (message) => {
            const start = performance.now();
            // Here it is read: until then it is bytes.
            message.data;
            resolve(sent + performance.now() - start);
          };
        }));
      }
      return { here: median(here), there: median(there), isPrecise: crossOriginIsolated };
    };`)],
};

const server = createServer(({ url }, response) => {
  const [type, content] = files[url] ?? ["text/plain", ""];
  // A page that is isolated has a clock of 5 µs instead of 100.
  const isolating = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
  response.writeHead(content ? 200 : 404, { "Content-Type": type, ...isolating });
  response.end(content);
}).listen(0, "127.0.0.1");
await once(server, "listening");
const browser = await launchBrowser();
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.waitForFunction(() => globalThis.measure);
  for (const { name, body } of cases) {
    const { here, there, isPrecise } = await page.evaluate(
      ([body, messages]) => globalThis.measure(body, messages),
      [body, MESSAGES],
    );
    if (!isPrecise) throw new Error("the page's clock is too coarse");
    const us = (ms) => `${Math.round(1_000 * ms)} µs`.padStart(9);
    console.log(`${name.padEnd(20)} decoded by the page: ${us(here)}   by a worker: ${us(there)}`);
  }
} finally {
  await browser.close();
  server.close();
}
