// Type-checks the JavaScript and TypeScript of the book against the client's types, and compares its Python and llms.txt
// with their sources: `node docs/check.mjs DIRECTORY`, which is filled.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

const root = path.join(import.meta.dirname, "..");
const client = path.join(root, "client-js");
const directory = path.resolve(process.argv[2]);
rmSync(directory, { recursive: true, force: true });
mkdirSync(directory, { recursive: true });

const read = (name) => readFileSync(path.join(root, name), "utf8");
const pages = readdirSync(path.join(import.meta.dirname, "src")).filter((name) => name.endsWith(".md"));
let blocks = 0;
for (const page of pages) {
  const text = read(`docs/src/${page}`);
  for (const [index, [, language, block]] of [...text.matchAll(/^```(js|ts)\n(.*?)^```$/gms)].entries()) {
    writeFileSync(path.join(directory, `${page}-${index + 1}.${language}`), block);
    blocks += 1;
  }
}
const types = path.join(client, "index.d.ts");
const moduleTypes = path.join(client, "*.d.ts");
const compilerOptions = {
  allowJs: true,
  checkJs: true,
  noEmit: true,
  noImplicitAny: false,
  target: "es2022",
  module: "esnext",
  moduleResolution: "bundler",
  moduleDetection: "force",
  lib: ["es2022", "dom"],
  types: [],
  paths: {
    rtcade: [types],
    "/rtcade.js": [types],
    "rtcade/*": [moduleTypes],
    "/rtcade/*.js": [moduleTypes],
  },
};
writeFileSync(path.join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.js", "*.ts"] }));
const tsc = path.join(client, "node_modules", ".bin", "tsc");
try {
  execFileSync(tsc, ["--project", directory, "--pretty", "false"], { stdio: "inherit" });
} catch {
  process.exit(1);
}
console.log(`${blocks} blocks of JavaScript and TypeScript match the client's types.`);

const player = read("examples/python/player.py");
const snippets = pages.flatMap((page) => [...read(`docs/src/${page}`).matchAll(/^```python\n(.*?)^```$/gms)]);
assert.ok(snippets.length > 0);
for (const [, snippet] of snippets) assert.ok(player.includes(snippet), `not in examples/python/player.py:\n${snippet}`);

const llms = read("llms.txt");
const linked = [...llms.matchAll(/\]\((.*?)\)/g)].map(([, target]) => target);
for (const target of linked) assert.ok(existsSync(path.join(root, target)), `llms.txt: there is no ${target}`);
for (const [, chapter] of read("docs/src/SUMMARY.md").matchAll(/^- \[.*\]\((.*)\)$/gm)) {
  assert.ok(linked.includes(`docs/src/${chapter}`), `llms.txt has no link to docs/src/${chapter}`);
}
for (const source of ["main.rs", "public/index.html"]) {
  const [game] = read(`tests/it/readme_game/${source}`).split("\n#[cfg(test)]");
  assert.ok(llms.includes(game.trimEnd()), `llms.txt does not have tests/it/readme_game/${source} as it is`);
}
console.log(`llms.txt has its ${linked.length} links, ${snippets.length} blocks of Python are those of the example.`);
