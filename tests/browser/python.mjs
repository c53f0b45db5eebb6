// aiortc (https://github.com/aiortc/aiortc), a WebRTC stack in Python.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
export const EXAMPLE = here("../../examples/python");
const ENVIRONMENT = here("../../target/python");
export const PYTHON = `${ENVIRONMENT}/bin/python`;

/** Installs the packages of the example, unless they are installed. Gives why it can't. */
export async function install() {
  const requirements = readFileSync(`${EXAMPLE}/requirements.txt`, "utf8");
  const installed = `${ENVIRONMENT}/installed.txt`;
  if (existsSync(installed) && readFileSync(installed, "utf8") === requirements) return false;
  try {
    execFileSync("python3", ["-c", "import ensurepip, sys, venv; assert sys.version_info >= (3, 11)"], { stdio: "ignore" });
  } catch {
    return "Python 3.11 with venv is missing: install the packages python3 and python3-venv";
  }
  await mkdir(here("../../target"), { recursive: true });
  execFileSync("python3", ["-m", "venv", "--clear", ENVIRONMENT], { stdio: "inherit" });
  const pip = `${ENVIRONMENT}/bin/pip`;
  execFileSync(pip, ["install", "--quiet", "--requirement", `${EXAMPLE}/requirements.txt`], { stdio: "inherit" });
  writeFileSync(installed, requirements);
  return false;
}
