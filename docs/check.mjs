// Type-checks the JavaScript and TypeScript of the book against the client's types: `node docs/check.mjs DIRECTORY`, which is filled.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

const root = path.join(import.meta.dirname, "..");
const client = path.join(root, "client-js");
const directory = path.resolve(process.argv[2]);
rmSync(directory, { recursive: true, force: true });
mkdirSync(directory, { recursive: true });

const pages = readdirSync(path.join(import.meta.dirname, "src")).filter((name) => name.endsWith(".md"));
let blocks = 0;
for (const page of pages) {
  const text = readFileSync(path.join(import.meta.dirname, "src", page), "utf8");
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
