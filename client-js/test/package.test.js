import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import * as acorn from "acorn-6";
import webpack4 from "enhanced-resolve-4";
import { build } from "esbuild";
import resolve from "resolve";
import { modules } from "../scripts/bundle.mjs";

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

  test("has the licences, the readme, and source maps of all that its bundles are made of", () => {
    for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) {
      assert.equal(read(name), fs.readFileSync(source(`../${name}`), "utf8"), name);
    }
    assert.match(read("README.md"), /^# rtcade\n/);
    const mapped = new Set();
    for (const name of ["index", ...modules].flatMap((name) => [`${name}.js`, `${name}.cjs`]).concat("rtcade.global.js")) {
      const [, mapName] = read(`dist/${name}`).match(/\n\/\/# sourceMappingURL=(.+)\n$/);
      const { sources, sourcesContent } = JSON.parse(read(join("dist", mapName)));
      for (const [n, path] of sources.entries()) {
        assert.match(path, /^\.\.\/(src|node_modules)\//);
        assert.equal(sourcesContent[n], fs.readFileSync(source(path.slice("../".length)), "utf8"), path);
        mapped.add(path);
      }
    }
    const ours = fs.readdirSync(source("src")).filter((name) => !/^(dev|live)(\.js)?$/.test(name));
    for (const name of ours) assert.ok(mapped.has(`../src/${name}`), name);
  });

  test("has bundles for servers that name no map", () => {
    for (const path of ["dist/rtcade.js", ...modules.map((name) => `dist/rtcade/${name}.js`)]) {
      assert.doesNotMatch(read(path), /sourceMappingURL/, path);
    }
  });

  test("is found by resolvers that know no `exports`, and parsed by webpack 4", () => {
    assert.equal(resolve.sync("rtcade", { basedir: page }), join(installed, "dist/index.cjs"));
    const resolver = webpack4.ResolverFactory.createResolver({
      fileSystem: new webpack4.CachedInputFileSystem(new webpack4.NodeJsInputFileSystem(), 0),
      useSyncFileSystemCalls: true,
      extensions: [".wasm", ".mjs", ".js", ".json"],
      mainFields: ["browser", "module", "main"],
    });
    const parse = (path) => {
      const imports = acorn.parse(fs.readFileSync(path, "utf8"), { ecmaVersion: 11, sourceType: "module" }).body;
      for (const { source: from } of imports) {
        if (from?.value) parse(resolver.resolveSync({}, join(path, ".."), from.value));
      }
    };
    assert.equal(resolver.resolveSync({}, page, "rtcade"), entry());
    for (const name of ["rtcade", ...modules.map((name) => `rtcade/${name}`)]) {
      parse(resolver.resolveSync({}, page, name));
    }
  });

  test("is found by those that do, whether they import or require", async () => {
    const main = join(page, "main.mjs");
    fs.writeFileSync(main, 'export * from "rtcade";\nexport * as testing from "rtcade/testing";\n');
    const imported = await import(main);
    const require = createRequire(main);
    assert.equal(require.resolve("rtcade"), join(installed, "dist/index.cjs"));
    for (const { connect, RtcadeError } of [imported, require("rtcade")]) {
      assert.equal(typeof connect, "function");
      assert.ok(new RtcadeError("game", "backlog", "") instanceof Error);
      await assert.rejects(connect("http://h/r/a", { signal: AbortSignal.abort() }), RtcadeError);
    }
    for (const [{ connect }, { RtcadeError }] of [
      [imported.testing, imported],
      [require("rtcade/testing"), require("rtcade")],
    ]) {
      await assert.rejects(connect("http://h/r/a", {}, { WebSocket: null }), RtcadeError);
    }
    for (const name of modules) {
      const exported = Object.keys(await import(join(installed, `dist/${name}.js`)));
      assert.deepEqual(Object.keys(require(`rtcade/${name}`)).sort(), exported.sort(), name);
    }
    assert.equal(require("rtcade/package.json").name, "rtcade");
    const options = { absWorkingDir: page, entryPoints: [main], bundle: true, write: false, metafile: true };
    const { metafile } = await build(options);
    const bundled = Object.keys(metafile.inputs).filter((path) => path.startsWith("node_modules/rtcade/"));
    assert.deepEqual(bundled, ["index.js", "testing.js"].map((name) => `node_modules/rtcade/dist/${name}`));
  });

  test("is a global of a page without modules", () => {
    const page = createContext({ TextEncoder, TextDecoder });
    runInContext(read("dist/rtcade.global.js"), page);
    assert.equal(runInContext("Object.keys(rtcade).sort().join()", page), "RtcadeError,connect");
    const manifest = JSON.parse(read("package.json"));
    for (const cdn of ["unpkg", "jsdelivr"]) assert.equal(manifest[cdn], "./dist/rtcade.global.js");
  });

  test("has types that hold, wherever a compiler looks for them", () => {
    fs.copyFileSync(source("test/types/usage.ts"), join(page, "usage.mts"));
    const required = 'import { connect } from "rtcade/testing";\nimport rtcade = require("rtcade");\n';
    const use = 'connect("", {}, {}).then((room: rtcade.Room) => room.leave()).catch((_: rtcade.RtcadeError) => {});\n';
    fs.writeFileSync(join(page, "usage.cts"), required + use);
    const { compilerOptions } = JSON.parse(fs.readFileSync(source("test/types/tsconfig.json"), "utf8"));
    for (const [module, moduleResolution, ...files] of [
      ["esnext", "bundler", "usage.mts"],
      ["node16", "node16", "usage.mts", "usage.cts"],
      ["nodenext", "nodenext", "usage.mts", "usage.cts"],
    ]) {
      const options = { ...compilerOptions, module, moduleResolution, skipLibCheck: false };
      fs.writeFileSync(join(page, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files }));
      const tsc = source("node_modules/typescript/bin/tsc");
      const { status, stdout } = spawnSync(process.execPath, [tsc, "-p", page], { encoding: "utf8" });
      assert.deepEqual({ status, stdout }, { status: 0, stdout: "" }, moduleResolution);
    }
  });
});
