import { writeFile } from "node:fs/promises";
import { packedOutputs } from "./bundle.mjs";

for (const [path, content] of Object.entries(await packedOutputs())) await writeFile(path, content);
