import { readFile } from "node:fs/promises";
import { relative } from "node:path";
import { gzipSync } from "node:zlib";
import { client, modules, outputs, servedModule } from "./bundle.mjs";

// Coming back by itself (back-off, resuming, heartbeats, repeated commands) is a quarter of it, watching whether the
// channel delivers a twentieth, and so is restoring states from deltas, and inflating. Following servers that send it to
// another one is the last quarter of a KiB.
const CLIENT_LIMIT_BYTES = 12.25 * 1024;
const MODULE_LIMIT_BYTES = 3 * 1024;
// Both ends of a protocol of its own, and the requests to the server.
const SWARM_LIMIT_BYTES = 4 * 1024;

const fail = (sentence) => {
  console.error(sentence);
  process.exitCode = 1;
};

const fresh = await outputs();
for (const [path, content] of Object.entries(fresh)) {
  if ((await readFile(path, "utf8").catch(() => null)) === content) continue;
  fail(`${path} is not what its sources give: run \`npm run build\` and commit the result.`);
}
const limits = [[client, CLIENT_LIMIT_BYTES], ...modules.map((name) => [servedModule(name), name === "swarm" ? SWARM_LIMIT_BYTES : MODULE_LIMIT_BYTES])];
for (const [path, limit] of limits) {
  const gzipped = gzipSync(fresh[path], { level: 9 }).length;
  const sentence = `${relative(".", path)} has ${gzipped} bytes gzipped, of at most ${limit}.`;
  if (gzipped > limit) fail(sentence);
  else console.log(sentence);
}
