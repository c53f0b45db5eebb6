import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { outputs, servedPath } from "./bundle.mjs";

// Coming back by itself (back-off, resuming, heartbeats, repeated commands) is a quarter of it, watching whether the
// channel delivers a twentieth, and so is restoring states from deltas.
const LIMIT_BYTES = 12 * 1024;

const fresh = await outputs();
for (const [path, content] of Object.entries(fresh)) {
  if ((await readFile(path, "utf8").catch(() => null)) === content) continue;
  console.error(`${path} is not what its sources give: run \`npm run build\` and commit the result.`);
  process.exitCode = 1;
}
const gzipped = gzipSync(fresh[servedPath], { level: 9 }).length;
const size = `dist/rtcade.js has ${gzipped} bytes gzipped, of at most ${LIMIT_BYTES}.`;
if (gzipped > LIMIT_BYTES) {
  console.error(size);
  process.exitCode = 1;
} else console.log(size);
