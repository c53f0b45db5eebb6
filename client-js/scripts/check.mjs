import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { bundle, bundlePath, notice, noticePath } from "./bundle.mjs";

// Coming back by itself (back-off, resuming, heartbeats, repeated commands) is a quarter of it, and watching whether the
// channel delivers a twentieth.
const LIMIT_BYTES = 12 * 1024;

const committed = async (file) => readFile(file).catch(() => Buffer.alloc(0));
const fresh = await bundle();
const stale =
  Buffer.compare(fresh, await committed(bundlePath)) !== 0 ||
  Buffer.compare(await notice(), await committed(noticePath)) !== 0;
const gzipped = gzipSync(fresh, { level: 9 }).length;

if (stale) console.error("dist/ does not match src/: run `npm run build` and commit the result.");
if (gzipped > LIMIT_BYTES) console.error(`dist/rtcade.js has ${gzipped} bytes gzipped, at most ${LIMIT_BYTES} are allowed.`);
if (stale || gzipped > LIMIT_BYTES) process.exit(1);
console.log(`dist/rtcade.js is fresh and has ${gzipped} of ${LIMIT_BYTES} bytes gzipped.`);
