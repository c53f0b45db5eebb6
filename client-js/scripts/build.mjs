import { writeFile } from "node:fs/promises";
import { outputs } from "./bundle.mjs";

for (const [path, content] of Object.entries(await outputs())) await writeFile(path, content);
