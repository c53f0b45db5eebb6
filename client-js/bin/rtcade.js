#!/usr/bin/env node
// Runs the server of this platform, which a package beside this one holds, in the place of this process.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { isatty } from "node:tty";

const platform = `${process.platform}-${process.arch}`;
const holder = `@rtcade/server-${platform}`;

function find() {
  const require = createRequire(import.meta.url);
  try {
    return require.resolve(`${holder}/bin/rtcade`);
  } catch {
    const { optionalDependencies = {} } = require("../package.json");
    const reason =
      Object.keys(optionalDependencies).length === 0
        ? "this copy of the package has no server: install it from the registry, or build it with `cargo install`"
        : holder in optionalDependencies
          ? `${holder}, which holds the server, is not installed: install rtcade again, without --omit=optional`
          : `there is no server for ${platform}, only for Linux and macOS on x64 and arm64; Windows runs it in WSL`;
    console.error(`rtcade: ${reason}`);
    process.exit(1);
  }
}

const server = spawn(find(), process.argv.slice(2), { stdio: "inherit" });
// A terminal sends its own signals to the server too, and a second one would end it at once.
const hasTerminal = [0, 1, 2].some(isatty);
const forward = (signal) => server.kill(signal);
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, forward);
process.on("SIGINT", hasTerminal ? () => {} : forward);
// Where npm has started this, a signal ends npm and its shell, and comes no further.
if (process.env.npm_command) {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    server.kill("SIGTERM");
  }, 250);
}
server.on("error", (error) => {
  console.error(`rtcade: the server can't be started: ${error.message}`);
  process.exit(1);
});
server.on("exit", (status, signal) => process.exit(status ?? 128 + constants.signals[signal]));
