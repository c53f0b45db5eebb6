// The package as its users install it: packed, in projects of their own.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFile, cp, mkdir, mkdtemp, readdir, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build, createServer } from "vite";
import { launchBrowser, openPage, startServer, until } from "./harness.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const clientJs = here("../../client-js");
const tsc = join(clientJs, "node_modules/typescript/bin/tsc");

const HTML = (script) => `<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><div id="root"></div>${script}`;
const MODULE = (path) => HTML(`<script type="module" src="${path}"></script>`);

describe("the package", { timeout: 120_000 }, () => {
  let directory, installed, browser;
  const stops = [];

  /** A project with `files` in it, which has rtcade and what of `packages` these tests have. */
  const project = async (name, packages, files) => {
    const root = join(directory, name);
    await mkdir(join(root, "node_modules"), { recursive: true });
    await cp(installed, join(root, "node_modules/rtcade"), { recursive: true });
    for (const each of packages) await symlink(here(`node_modules/${each}`), join(root, "node_modules", each));
    for (const [path, content] of Object.entries(files)) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), content);
    }
    return root;
  };
  const server = async (...args) => {
    const started = await startServer(["--game", "relay", ...args]);
    stops.push(() => started.stop());
    return started;
  };
  const playing = (page) =>
    until("a room", () => page.evaluate(() => globalThis.room?.status), (status) => status === "open");

  before(async () => {
    directory = await realpath(await mkdtemp(join(tmpdir(), "rtcade-packages-")));
    installed = join(directory, "rtcade");
    await mkdir(installed);
    execFileSync("npm", ["pack", "--silent", "--pack-destination", directory], { cwd: clientJs });
    const [tarball] = (await readdir(directory)).filter((name) => name.endsWith(".tgz"));
    execFileSync("tar", ["-xzf", join(directory, tarball), "--strip-components=1", "-C", installed]);
    browser = await launchBrowser();
  });
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
    // A build by Vite leaves it behind, as "production".
    delete process.env.NODE_ENV;
  });
  after(async () => {
    await browser?.close();
    await rm(directory, { recursive: true, force: true });
  });

  test("is built by Vite into a TypeScript page that the server serves", async () => {
    const root = await project("typescript", [], {
      "index.html": MODULE("/main.ts"),
      "main.ts": `
        import { connect, type Room } from "rtcade";
        import { connect as connectIn } from "rtcade/testing";
        type Game = { input: { x: number }; welcome: { seed: number } };
        const room: Room<Game> = await connect<Game>(undefined, { name: "Ada" });
        const other = await connectIn<Game>(undefined, { name: "Bea" }, { storage: null, RTCPeerConnection: null });
        room.on("leave", ({ name }) => document.body.append(name));
        other.leave();
        Object.assign(globalThis, { room, sent: room.send({ x: 1 }) });
      `,
      "tsconfig.json": JSON.stringify({
        compilerOptions: {
          strict: true,
          exactOptionalPropertyTypes: true,
          noEmit: true,
          target: "es2022",
          module: "esnext",
          moduleResolution: "bundler",
          lib: ["es2022", "dom"],
          types: [],
        },
      }),
    });
    execFileSync(process.execPath, [tsc, "-p", root], { stdio: "inherit" });
    await build({ root, logLevel: "warn", build: { target: "es2022" } });
    const { url } = await server("--public", join(root, "dist"));
    const { page, errors } = await openPage(browser, `${url}r/vite`);
    await playing(page);
    await until("a player who leaves", () => page.evaluate(() => document.body.textContent.includes("Bea")));
    assert.equal(await page.evaluate(() => globalThis.sent), 1);
    assert.deepEqual(errors, []);
  });

  test("is one player in React's strict mode, who goes with the component", async () => {
    const { url } = await server();
    const root = await project("react", ["react", "react-dom"], {
      "index.html": MODULE("/main.jsx"),
      "main.jsx": `
        import { StrictMode, useEffect, useState } from "react";
        import { createRoot } from "react-dom/client";
        import { connect } from "rtcade";
        globalThis.effects = 0;
        function Game({ name }) {
          const [room, setRoom] = useState(null);
          const [error, setError] = useState("");
          useEffect(() => {
            globalThis.effects++;
            const controller = new AbortController();
            connect("/r/react", { name, signal: controller.signal }).then(setRoom, (error) => {
              if (error.code !== "aborted") setError(error.message);
            });
            return () => controller.abort();
          }, [name]);
          globalThis.room = room;
          return <p>{error || (room ? room.players.get(room.me).name : "Connecting")}</p>;
        }
        const root = createRoot(document.getElementById("root"));
        root.render(<StrictMode><Game name="Ada" /></StrictMode>);
        globalThis.unmount = () => root.unmount();
      `,
    });
    const proxy = { "/r/": { target: url, ws: true } };
    const vite = await createServer({
      root,
      logLevel: "warn",
      configFile: false,
      esbuild: { jsx: "automatic" },
      // What Vite finds only while it serves makes it load the page again.
      optimizeDeps: { include: ["react", "react/jsx-dev-runtime", "react-dom/client", "rtcade"] },
      server: { host: "127.0.0.1", port: 0, proxy, fs: { strict: false } },
    });
    stops.push(() => vite.close());
    await vite.listen();
    const watcher = (await openPage(browser, `${url}rtcade.js`)).page;
    await watcher.evaluate(async () => {
      const { connect } = await import("/rtcade.js");
      globalThis.room = await connect("/r/react", { name: "Watcher" });
    });
    const names = () => watcher.evaluate(() => [...room.players.values()].map(({ name }) => name).sort().join());
    const { page, errors } = await openPage(browser, `http://127.0.0.1:${vite.httpServer.address().port}/`);
    await playing(page);
    assert.equal(await page.evaluate(() => globalThis.effects), 2, "strict mode runs each effect twice");
    await until("the component", () => page.textContent("p"), (text) => text === "Ada");
    await until("no ghost", names, (names) => names === "Ada,Watcher");
    await page.evaluate(() => globalThis.unmount());
    await until("a player who leaves", names, (names) => names === "Watcher");
    assert.deepEqual(errors, []);
  });

  test("is a global of a page with a script tag", async () => {
    const root = await project("script", [], {
      "public/index.html": HTML(`<script src="/rtcade.global.js"></script><script>
        rtcade.connect().then(
          (room) => (globalThis.room = room),
          (error) => document.body.append(error instanceof rtcade.RtcadeError, error.message),
        );
      </script>`),
    });
    await copyFile(join(installed, "dist/rtcade.global.js"), join(root, "public/rtcade.global.js"));
    const { url } = await server("--public", join(root, "public"));
    const { page, errors } = await openPage(browser, `${url}r/script`);
    await playing(page);
    assert.deepEqual(errors, []);
  });
});
