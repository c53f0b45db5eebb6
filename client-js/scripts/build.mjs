import { writeFile } from "node:fs/promises";
import { bundle, bundlePath, noticePath, notice } from "./bundle.mjs";

await writeFile(bundlePath, await bundle());
await writeFile(noticePath, await notice());
