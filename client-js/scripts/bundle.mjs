import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const path = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url));

export const bundlePath = path("dist/rtcade.js");
export const noticePath = path("dist/LICENSE-fflate");

/** The bytes that belong in `bundlePath`. */
export async function bundle() {
  const { outputFiles } = await build({
    absWorkingDir: path("."),
    entryPoints: ["src/index.js"],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    banner: { js: "/*! rtcade: MIT OR Apache-2.0; with fflate: see LICENSE-fflate */" },
    write: false,
  });
  return outputFiles[0].contents;
}

/** The licence of what is bundled, which must travel with it. */
export const notice = () => readFile(path("node_modules/fflate/LICENSE"));
