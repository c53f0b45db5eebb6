import { mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { outputs } from "./bundle.mjs";

for (const [path, content] of Object.entries(await outputs())) {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
}
