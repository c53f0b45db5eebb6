import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { minify } from "terser";

const path = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url));
const text = (relative) => readFile(path(relative), "utf8");

/** What a page imports beside the client, as `rtcade/NAME` or from a server as `/rtcade/NAME.js`. */
export const modules = [
  "game",
  "interpolate",
  "math",
  "peers",
  "predict",
  "rollback",
  "rooms",
  "seek",
  "segments",
  "swarm",
  "testing",
  "video",
  "voice",
];
/** What a server serves beside them. */
const servedAlone = ["dev", "live"];

/** Modules share the page's one client, which stands at `address`. */
const clientAt = (address) => ({
  name: "client",
  setup: ({ onResolve }) =>
    onResolve({ filter: /^\.\/index\.js$/ }, ({ kind }) =>
      kind === "entry-point" ? undefined : { path: address, external: true },
    ),
});

const bundle = async (name, options) => {
  const { outputFiles } = await build({
    absWorkingDir: path("."),
    entryPoints: [`./src/${name}.js`],
    outfile: path(`dist/${name}.js`),
    bundle: true,
    format: "esm",
    banner: { js: "/*! rtcade: MIT OR Apache-2.0 */" },
    write: false,
    ...options,
  });
  return outputFiles.map((file) => file.text);
};

/** What a server serves as it is: without a source map, which the server has not. */
async function served(name) {
  const [code] = await bundle(name, { target: "es2022", minifySyntax: true, plugins: [clientAt("../rtcade.js")] });
  const minified = await minify(code, { module: true, ecma: 2022, compress: { passes: 3 } });
  return `${minified.code}\n`;
}

/** What bundlers take, which minify it themselves: in the newest syntax that webpack 4 parses. */
const packaged = (name, format, extension) =>
  bundle(name, {
    target: "es2019",
    format,
    sourcemap: true,
    outfile: path(`dist/${name}${extension}`),
    plugins: [clientAt(`./index${extension}`)],
  });

/** The client for pages without modules, as `rtcade`. */
const asGlobal = () =>
  bundle("index", {
    target: "es2019",
    format: "iife",
    globalName: "rtcade",
    minify: true,
    sourcemap: true,
    outfile: path("dist/rtcade.global.js"),
  });

const entryPoint = (name, dist) => ({
  require: { types: `./${name}.d.cts`, default: `./dist/${dist}.cjs` },
  default: { types: `./${name}.d.ts`, default: `./dist/${dist}.js` },
});

async function manifest() {
  const content = JSON.parse(await text("package.json"));
  content.exports = {
    ".": entryPoint("index", "index"),
    ...Object.fromEntries(modules.map((name) => [`./${name}`, entryPoint(name, name)])),
    "./package.json": "./package.json",
  };
  return `${JSON.stringify(content, null, 2)}\n`;
}

export const client = path("dist/rtcade.js");
export const servedModule = (name) => path(`dist/rtcade/${name}.js`);

/** What bundlers, Node and pages without modules take, as `[name in dist, [source map, code]]`. */
async function mapped() {
  const bundles = ["index", ...modules].flatMap((name) => [
    [`${name}.js`, packaged(name, "esm", ".js")],
    [`${name}.cjs`, packaged(name, "cjs", ".cjs")],
  ]);
  bundles.push(["rtcade.global.js", asGlobal()]);
  return Promise.all(bundles.map(async ([name, bundle]) => [name, await bundle]));
}

/** The generated files that are committed, so that a clone can be installed. */
export async function outputs() {
  const files = { [path("package.json")]: await manifest(), [client]: await served("index") };
  for (const name of [...modules, ...servedAlone]) files[servedModule(name)] = await served(name);
  for (const [name, [, code]] of await mapped()) files[path(`dist/${name}`)] = code;
  for (const name of ["index", ...modules]) {
    const types = await text(`${name}.d.ts`);
    files[path(`${name}.d.cts`)] = types.replaceAll(/(from "\.\/\w+)\.js"/g, '$1.cjs"');
  }
  // Where resolvers that know no `exports` look for `rtcade/NAME`.
  for (const name of modules) files[path(`${name}.js`)] = `export * from "./dist/${name}.js";\n`;
  return files;
}

/** Those that the tarball has on top of them. */
export async function packedOutputs() {
  const files = {
    [path("LICENSE-APACHE")]: await text("../LICENSE-APACHE"),
    [path("LICENSE-MIT")]: await text("../LICENSE-MIT"),
  };
  for (const [name, [sourceMap]] of await mapped()) files[path(`dist/${name}.map`)] = sourceMap;
  return files;
}
