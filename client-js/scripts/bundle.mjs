import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { minify } from "terser";

const path = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url));
const text = (relative) => readFile(path(relative), "utf8");

const bundle = async (options) => {
  const { outputFiles } = await build({
    absWorkingDir: path("."),
    entryPoints: ["src/index.js"],
    outfile: "dist/index.js",
    bundle: true,
    format: "esm",
    banner: { js: "/*! rtcade: MIT OR Apache-2.0 */" },
    write: false,
    ...options,
  });
  return outputFiles.map((file) => file.text);
};

/** What a server serves as it is: without a source map, which the server has not. */
async function served() {
  const [code] = await bundle({ target: "es2022", minifySyntax: true });
  const minified = await minify(code, { module: true, ecma: 2022, compress: { passes: 3 } });
  return `${minified.code}\n`;
}

/** What bundlers take, which minify it themselves: in the newest syntax that webpack 4 parses. */
const packaged = () => bundle({ target: "es2019", sourcemap: true });

export const servedPath = path("dist/rtcade.js");

/** The generated files that are committed. */
export async function outputs() {
  const [, code] = await packaged();
  return {
    [servedPath]: await served(),
    [path("dist/index.js")]: code,
  };
}

/** Those that the tarball has on top of them. */
export async function packedOutputs() {
  const [sourceMap] = await packaged();
  return {
    [path("dist/index.js.map")]: sourceMap,
    [path("LICENSE-APACHE")]: await text("../LICENSE-APACHE"),
    [path("LICENSE-MIT")]: await text("../LICENSE-MIT"),
  };
}
