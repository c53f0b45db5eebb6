// node packaging/npm/pack.mjs DIRECTORY PLATFORM=BINARY…: packs the client with its launcher, and a package for each
// platform, such as linux-x64, that holds the server; prints the tarballs.
import { execFileSync } from "node:child_process";
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const PLATFORMS = ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"];
const root = fileURLToPath(new URL("../..", import.meta.url));
const clientJs = join(root, "client-js");

const holder = (platform) => `@rtcade/server-${platform}`;
const json = (value) => `${JSON.stringify(value, null, 2)}\n`;
const manifestOf = async (directory) => JSON.parse(await readFile(join(directory, "package.json"), "utf8"));

/** Packs the package in `from`; returns the tarball's path. */
function pack(from, to, ...options) {
  const printed = execFileSync("npm", ["pack", "--json", ...options, "--pack-destination", to], { cwd: from });
  // What a script of the package prints comes first.
  const [{ filename }] = JSON.parse(String(printed).replace(/^[^[]*/, ""));
  return join(to, filename.replace("@", "").replace("/", "-"));
}

/** The client, with its launcher and the packages that hold the server for it. */
async function packClient(work, to) {
  const packed = join(work, "client");
  await mkdir(packed);
  execFileSync("tar", ["-xzf", pack(clientJs, work), "--strip-components=1", "-C", packed]);
  const { devDependencies, scripts, ...manifest } = await manifestOf(packed);
  manifest.optionalDependencies = Object.fromEntries(PLATFORMS.map((name) => [holder(name), manifest.version]));
  await writeFile(join(packed, "package.json"), json(manifest));
  return pack(packed, to, "--ignore-scripts");
}

async function packServer(work, to, platform, binary) {
  const { version, license } = await manifestOf(clientJs);
  const [os, cpu] = platform.split("-");
  const directory = join(work, platform);
  await mkdir(join(directory, "bin"), { recursive: true });
  const name = holder(platform);
  const description = `The server of rtcade for ${platform}, which the package rtcade runs`;
  const files = ["bin", "LICENSE-*"];
  await writeFile(join(directory, "package.json"), json({ name, version, description, license, os: [os], cpu: [cpu], files }));
  await writeFile(join(directory, "README.md"), `# ${name}\n\n${description}: install that one.\n`);
  for (const licence of ["LICENSE-APACHE", "LICENSE-MIT"]) await copyFile(join(root, licence), join(directory, licence));
  await copyFile(binary, join(directory, "bin/rtcade"));
  await chmod(join(directory, "bin/rtcade"), 0o755);
  return pack(directory, to);
}

const [to, ...binaries] = process.argv.slice(2);
const pairs = binaries.map((pair) => pair.split("="));
if (!to || pairs.some(([platform, binary]) => !binary || !PLATFORMS.includes(platform))) {
  console.error(`usage: node packaging/npm/pack.mjs DIRECTORY PLATFORM=BINARY…, with platforms of ${PLATFORMS.join(", ")}`);
  process.exit(2);
}
await mkdir(to, { recursive: true });
const work = await mkdtemp(join(tmpdir(), "rtcade-pack-"));
try {
  console.log(await packClient(work, resolve(to)));
  for (const [platform, binary] of pairs) console.log(await packServer(work, resolve(to), platform, binary));
} finally {
  await rm(work, { recursive: true, force: true });
}
