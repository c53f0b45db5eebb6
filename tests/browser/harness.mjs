// Starts the server and Chromium for the tests beside this file. Every wait has a bound.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const START_MS = 10_000;
const STOP_MS = 5_000;
const WAIT_MS = 20_000;
const POLL_MS = 50;

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

export function serverProgram() {
  const builds = ["../../target/release/rtcade", "../../target/debug/rtcade"].map(here);
  const program = process.env.RTCADE_BIN ?? builds.find(existsSync);
  if (!program) throw new Error("no server to test: run `cargo build`, or name one in RTCADE_BIN");
  return program;
}

/**
 * Starts a server on `port` of `host`, a free one by default, and waits until it names its URL. `options` are those of
 * the process, such as its directory.
 *
 * `signal(name)` sends one. `stop()` sends SIGTERM and resolves to the exit status; it rejects where that takes longer
 * than 5 s. `kill()` sends SIGKILL and resolves when it is gone. `exited` resolves to its exit status and signal.
 */
export async function startServer(
  args = [],
  { program = serverProgram(), host = "127.0.0.1", port = 0, startMs = START_MS, stopMs = STOP_MS, ...options } = {},
) {
  const stdio = ["ignore", "pipe", "pipe"];
  const child = spawn(program, [...args, "--listen", `${host}:${port}`, "-v"], { ...options, stdio });
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const exited = once(child, "close").finally(() => process.off("exit", kill));

  const signal = (name) => child.kill(name);
  const server = { url: undefined, output: "", pid: child.pid, exited, signal, stop, kill: () => (kill(), exited) };
  const url = new Promise((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        server.output += `${line}\n`;
        const found = stream === child.stdout && line.match(/https?:\/\/\S+:\d+\//);
        if (found) resolve(found[0]);
      });
    }
  });

  async function stop() {
    child.kill("SIGTERM");
    const [code, signal] = await within(stopMs, exited, "the server to exit after SIGTERM").catch((error) => {
      kill();
      throw error;
    });
    return code ?? signal;
  }

  const died = exited.then(([code, signal]) => {
    throw new Error(`the server exited with ${code ?? signal}`);
  });
  // Once the URL is known, nobody awaits this one any more.
  died.catch(() => {});
  try {
    server.url = await within(startMs, Promise.race([url, died]), "the server to print its URL");
  } catch (error) {
    kill();
    error.message += `; it said:\n${server.output}`;
    throw error;
  }
  return server;
}

/** A file of fresh keys for a server whose audience is `test`, and a token that lets into every room. */
export async function signedToken() {
  const run = async (...args) => (await promisify(execFile)(serverProgram(), ["token", ...args])).stdout;
  const directory = await mkdtemp(join(tmpdir(), "rtcade-keys-"));
  const keys = join(directory, "keys.json");
  await writeFile(keys, await run("--new-keys"));
  const token = await run("--keys", keys, "--audience", "test", "--subject", "ada", "--room", "*");
  return { directory, keys, token: token.trim() };
}

export const chromiumProgram = () => process.env.CHROMIUM ?? "/usr/bin/chromium";

export function launchBrowser(args = [], { program = chromiumProgram() } = {}) {
  return chromium.launch({
    executablePath: program,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...args,
    ],
    timeout: START_MS,
  });
}

/**
 * Opens `url` in a window of its own, with `errors` that its console or its scripts report from then on. `options` are
 * those of the browser's context.
 *
 * The page's data channels stand in its `globalThis.channels`, each with the number of messages `received`.
 */
export async function openPage(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 960, height: 640 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  await page.addInitScript(recordChannels);
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(`${message.text()} (${message.location().url})`);
  });
  await page.goto(url);
  return { page, errors };
}

// Runs in the page, before its own scripts.
function recordChannels() {
  globalThis.channels = [];
  const createDataChannel = RTCPeerConnection.prototype.createDataChannel;
  RTCPeerConnection.prototype.createDataChannel = function (...args) {
    const record = { channel: createDataChannel.apply(this, args), received: 0 };
    record.channel.addEventListener("message", () => record.received++);
    globalThis.channels.push(record);
    return record.channel;
  };
}

/** What the page says of its connection: what tests wait for, and what they show where it does not come. */
export function connection(page) {
  return page.evaluate(() => {
    const { room, world } = globalThis.rtcade ?? {};
    const notice = document.querySelector("#notice");
    return {
      status: room?.status,
      transport: room?.stats.transport,
      me: room?.me,
      tick: world?.().tick,
      notice: notice?.checkVisibility() ? notice.innerText.trim() : "",
    };
  });
}

/** A desktop's window, and a phone held upright and aslant. */
export const SCREENS = {
  desktop: { viewport: { width: 1280, height: 720 } },
  upright: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true },
  aslant: { viewport: { width: 844, height: 390 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true },
};

/** The controls that assistive technology finds in the page, as `[role, name]`. */
export async function controls(page) {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  await session.detach();
  const roles = ["button", "link", "textbox", "combobox", "slider", "application"];
  return nodes
    .filter(({ ignored, role }) => !ignored && roles.includes(role?.value))
    .map(({ role, name }) => [role.value, name?.value ?? ""]);
}

/** The pairs of visible elements with these ids that overlap, or that stick out of the window. */
export function overlaps(page, ids) {
  return page.evaluate((ids) => {
    const boxes = ids
      .map((id) => document.getElementById(id))
      .filter((element) => element.checkVisibility({ visibilityProperty: true }))
      .map((element) => ({ id: element.id, box: element.getBoundingClientRect() }));
    const found = [];
    for (const [index, { id, box }] of boxes.entries()) {
      if (box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight) found.push([id, "window"]);
      for (const other of boxes.slice(index + 1)) {
        const isBeside = box.right <= other.box.left || other.box.right <= box.left;
        const isAbove = box.bottom <= other.box.top || other.box.bottom <= box.top;
        if (!isBeside && !isAbove) found.push([id, other.id]);
      }
    }
    return found;
  }, ids);
}

/** Waits until the page plays over `transport`. */
export function playing(page, transport) {
  return until(
    `a page that plays over ${transport}`,
    () => connection(page),
    (now) => now.status === "open" && now.transport === transport,
  );
}

/** Saves what the page shows under `tests/screenshots`. */
export async function screenshot(page, name) {
  const directory = here("../screenshots");
  await mkdir(directory, { recursive: true });
  await page.screenshot({ path: `${directory}/${name}.png` });
}

/** Probes until `accept` takes what comes, and resolves to it. */
export async function until(what, probe, accept = Boolean, waitMs = WAIT_MS) {
  const deadline = performance.now() + waitMs;
  for (;;) {
    const value = await within(waitMs, probe(), what);
    if (accept(value)) return value;
    if (performance.now() > deadline) {
      throw new Error(`waited ${waitMs} ms for ${what}; at last there was ${JSON.stringify(value)}`);
    }
    await sleep(POLL_MS);
  }
}

/** Awaits `promise` for at most `ms`. */
export async function within(ms, promise, what) {
  const cancel = new AbortController();
  const expiry = sleep(ms, undefined, { signal: cancel.signal }).then(() => {
    throw new Error(`waited ${ms} ms for ${what}`);
  });
  try {
    return await Promise.race([promise, expiry]);
  } finally {
    cancel.abort();
    expiry.catch(() => {});
  }
}
