import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import * as acorn from "acorn-6";
import webpack4 from "enhanced-resolve-4";
import { build } from "esbuild";
import resolve from "resolve";

const source = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url));

describe("the packed package", () => {
  let page;
  let installed;
  const read = (relative) => fs.readFileSync(join(installed, relative), "utf8");
  const entry = () => join(installed, "dist/index.js");

  before(() => {
    // What the system calls its temporary folder may be a link, and resolvers tell where it leads.
    page = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "rtcade-package-")));
    installed = join(page, "node_modules/rtcade");
    fs.mkdirSync(installed, { recursive: true });
    execFileSync("npm", ["pack", "--silent", "--pack-destination", page], { cwd: source(".") });
    const tarball = fs.readdirSync(page).find((name) => name.endsWith(".tgz"));
    execFileSync("tar", ["-xzf", join(page, tarball), "--strip-components=1", "-C", installed]);
  });
  after(() => fs.rmSync(page, { recursive: true, force: true }));

  test("has the licences, the readme, and a source map of all that its bundle is made of", () => {
    for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) {
      assert.equal(read(name), fs.readFileSync(source(`../${name}`), "utf8"), name);
    }
    assert.match(read("README.md"), /^# rtcade\n/);
    const [, mapName] = read("dist/index.js").match(/\n\/\/# sourceMappingURL=(.+)\n$/);
    const { sources, sourcesContent } = JSON.parse(read(join("dist", mapName)));
    const ours = fs.readdirSync(source("src")).map((name) => `../src/${name}`);
    assert.deepEqual(sources.filter((path) => path.startsWith("../src/")).sort(), ours.sort());
    for (const [n, path] of sources.entries()) {
      assert.match(path, /^\.\.\/(src|node_modules)\//);
      assert.equal(sourcesContent[n], fs.readFileSync(source(path.slice("../".length)), "utf8"), path);
    }
  });

  test("has a bundle for servers that names no map", () => {
    assert.doesNotMatch(read("dist/rtcade.js"), /sourceMappingURL/);
  });

  test("is found by resolvers that know no `exports`, and parsed by webpack 4", () => {
    assert.equal(resolve.sync("rtcade", { basedir: page }), entry());
    const resolver = webpack4.ResolverFactory.createResolver({
      fileSystem: new webpack4.CachedInputFileSystem(new webpack4.NodeJsInputFileSystem(), 0),
      useSyncFileSystemCalls: true,
      extensions: [".wasm", ".mjs", ".js", ".json"],
      mainFields: ["browser", "module", "main"],
    });
    assert.equal(resolver.resolveSync({}, page, "rtcade"), entry());
    acorn.parse(read("dist/index.js"), { ecmaVersion: 11, sourceType: "module" });
  });

  test("is found by those that do", async () => {
    const main = join(page, "main.mjs");
    fs.writeFileSync(main, 'export * from "rtcade";\n');
    const { connect, RtcadeError } = await import(main);
    assert.equal(typeof connect, "function");
    assert.ok(new RtcadeError("game", "backlog", "") instanceof Error);
    assert.equal(createRequire(main).resolve("rtcade"), entry());
    assert.equal(createRequire(main)("rtcade/package.json").name, "rtcade");
    const options = { absWorkingDir: page, entryPoints: [main], bundle: true, write: false, metafile: true };
    const { metafile } = await build(options);
    assert.ok("node_modules/rtcade/dist/index.js" in metafile.inputs);
  });

  test("has types that hold, wherever a compiler looks for them", () => {
    fs.copyFileSync(source("test/types/usage.ts"), join(page, "usage.mts"));
    const { compilerOptions } = JSON.parse(fs.readFileSync(source("test/types/tsconfig.json"), "utf8"));
    for (const [module, moduleResolution] of [
      ["esnext", "bundler"],
      ["node16", "node16"],
      ["nodenext", "nodenext"],
    ]) {
      const options = { ...compilerOptions, module, moduleResolution, skipLibCheck: false };
      fs.writeFileSync(join(page, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["usage.mts"] }));
      const tsc = source("node_modules/typescript/bin/tsc");
      const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", page], { encoding: "utf8" });
      assert.deepEqual({ status, stdout }, { status: 0, stdout: "" }, moduleResolution);
    }
  });
});
