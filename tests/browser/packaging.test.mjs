// What runs the server and watches over it: the image, the units, the alert rules and the dashboard.

import assert from "node:assert/strict";
import { execFile, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { dashboard } from "../../packaging/grafana/build.mjs";
import { serverProgram, startServer, until, within } from "./harness.mjs";
import { NO_REDIS, startRedis } from "./redis.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const packaging = (path) => here(`../../packaging/${path}`);
const run = promisify(execFile);
const prometheus = process.env.PROMETHEUS ?? "/usr/bin/prometheus";
const release = (...args) => run(here("../../scripts/release"), ["--dry-run", ...args]);

function missing(program, advice) {
  const { error, status } = spawnSync(program, ["--version"], { stdio: "ignore" });
  return (error || status !== 0) && `${program} does not run: ${advice}`;
}

describe("monitoring", { skip: missing(prometheus, "name Prometheus in PROMETHEUS, with promtool beside it") }, () => {
  const promtool = join(dirname(prometheus), "promtool");

  test("has alert rules that promtool takes, each of which a test makes fire", async () => {
    await run(promtool, ["check", "rules", packaging("prometheus/rules.yml")]);
    await run(promtool, ["test", "rules", packaging("prometheus/rules.test.yml")]);
    const [rules, tests] = await Promise.all(
      ["rules.yml", "rules.test.yml"].map((name) => readFile(packaging(`prometheus/${name}`), "utf8")),
    );
    const alerts = [...rules.matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
    const fired = [...tests.matchAll(/alertname="(\w+)"/g)].map(([, name]) => name);
    assert.ok(alerts.length > 5);
    assert.deepEqual(fired, alerts);
  });

  test("has the dashboard that its table gives", async () => {
    const committed = await readFile(packaging("grafana/rtcade.json"), "utf8");
    const remedy = "run `node packaging/grafana/build.mjs > packaging/grafana/rtcade.json`";
    assert.equal(committed, `${JSON.stringify(dashboard(), null, 2)}\n`, remedy);
  });

  describe("of a server with players", { timeout: 90_000 }, () => {
    let directory, redis, sidecar, server, load, scraper, address;

    const query = async (expr) => {
      const response = await fetch(`${address}/api/v1/query?${new URLSearchParams({ query: expr })}`);
      const { status, data, error } = await response.json();
      assert.equal(status, "success", `${expr}: ${error}`);
      return data.result;
    };

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), "rtcade-prometheus-"));
      // What is shown of clusters and of Agones is there only with them.
      redis = await startRedis();
      if (!redis) return;
      sidecar = createHttpServer((_, response) => response.end("{}")).listen(0, "127.0.0.1");
      await once(sidecar, "listening");
      const ofCluster = ["--redis", redis.url, "--node-url", "https://127.0.0.1:1", "--agones"];
      const options = [...ofCluster, "--metrics", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--record", join(directory, "recordings")];
      server = await startServer([...options, "--tls-dev"], {
        env: {
          ...process.env,
          RTCADE_ADMIN__TOKEN: "a-token-for-tests-only",
          XDG_CACHE_HOME: directory,
          AGONES_SDK_HTTP_PORT: `${sidecar.address().port}`,
        },
      });
      const bench = ["bench", "quick", server.url, "--clients", "4", "--seconds", "80", "--quiet", "-k"];
      load = spawn(serverProgram(), bench, { stdio: "ignore" });
      const announced = () => server.output.match(/metrics are at http:\/\/(\S+)\/metrics/)?.[1];
      const target = await until("the address of the metrics", announced);
      await copyFile(packaging("prometheus/rules.yml"), join(directory, "rules.yml"));
      const configuration = `
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [rules.yml]
scrape_configs: [{ job_name: rtcade, static_configs: [{ targets: ["${target}"] }] }]`;
      await writeFile(join(directory, "prometheus.yml"), configuration);
      address = `http://127.0.0.1:${await freePort()}`;
      scraper = spawn(prometheus, [
        `--config.file=${join(directory, "prometheus.yml")}`,
        `--storage.tsdb.path=${join(directory, "data")}`,
        `--web.listen-address=${new URL(address).host}`,
      ], { stdio: "ignore" });
      await until("a scrape", () => query("up").catch(() => []), (result) => result[0]?.value[1] === "1");
    });
    after(async () => {
      for (const child of [load, scraper]) {
        if (!child) continue;
        const closed = child.exitCode ?? once(child, "close");
        child.kill();
        await within(10_000, Promise.resolve(closed), "the end of what watches");
      }
      await server?.stop();
      sidecar?.closeAllConnections();
      sidecar?.close();
      await redis?.stop();
      await rm(directory, { recursive: true, force: true });
    });

    test("finds something for each query of the dashboard", async (t) => {
      if (!redis) return t.skip(NO_REDIS);
      const panels = dashboard().panels.filter(({ type }) => type === "timeseries");
      const queries = panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr]));
      assert.ok(queries.length > 20);
      await Promise.all(
        queries.map(([title, expr]) => {
          const filled = expr.replaceAll("$instance", ".*").replaceAll("$__rate_interval", "10s");
          return until(`the panel "${title}", ${filled}`, () => query(filled), (result) => result.length > 0);
        }),
      );
      const unnamed = '{__name__=~"rtcade_.*"}';
      assert.ok((await query(`count(${unnamed})`))[0].value[1] > 50);
    });

    test("has the metrics of each alert", async (t) => {
      if (!redis) return t.skip(NO_REDIS);
      const rules = await readFile(packaging("prometheus/rules.yml"), "utf8");
      const selectors = [...rules.matchAll(/(?:up|\w+_\w+)\{job="rtcade"[^}]*\}/g)].map(([selector]) => selector);
      assert.ok(selectors.length > 8);
      for (const selector of selectors) {
        await until(`a value of ${selector}`, () => query(selector), (result) => result.length > 0);
      }
      const { data } = await (await fetch(`${address}/api/v1/rules`)).json();
      const errors = data.groups.flatMap(({ rules }) => rules.map(({ lastError }) => lastError).filter(Boolean));
      assert.deepEqual(errors, []);
    });
  });
});

describe("systemd", { skip: missing("systemd-analyze", "install systemd") }, () => {
  let directory;
  before(async () => (directory = await mkdtemp(join(tmpdir(), "rtcade-systemd-"))));
  after(() => rm(directory, { recursive: true, force: true }));

  test("takes the units, and finds what they start", async () => {
    const units = ["rtcade.service", "rtcade.socket"];
    for (const name of units) {
      const unit = await readFile(packaging(`systemd/${name}`), "utf8");
      await writeFile(join(directory, name), unit.replaceAll("/usr/bin/rtcade", serverProgram()));
    }
    const { stderr } = await run("systemd-analyze", ["verify", "--man=no", ...units.map((name) => join(directory, name))]);
    assert.doesNotMatch(stderr, /rtcade/);
  });

  test("rates the service as little exposed", () => {
    const options = ["security", "--offline=yes", "--threshold=15", "--no-pager", packaging("systemd/rtcade.service")];
    const { status, stdout, stderr } = spawnSync("systemd-analyze", options, { encoding: "utf8" });
    assert.equal(status, 0, stdout.split("\n").filter((line) => /^✗|exposure/.test(line)).join("\n") + stderr);
  });
});

describe("a release", () => {
  test("is a binary, its dependencies, the crate, packages for npm and checksums, in this order", async () => {
    const { stdout } = await release("0.1.0");
    const steps = ["cargo build", "cargo cyclonedx", "tar -C", "cargo package", "node packaging/npm/pack.mjs", "sh -c"];
    const printed = stdout.split("\n");
    const places = steps.map((step) => printed.findIndex((line) => line.replace(/^[A-Z_]+=\w+ /, "").startsWith(step)));
    assert.ok(places.every((place, n) => place > (places[n - 1] ?? -1)), `${places} in:\n${stdout}`);
  });

  test("of another version than the sources have is refused", async () => {
    const refused = await release("9.9.9").then(() => assert.fail("not refused"), (error) => error);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^error: Cargo\.toml has version 0\.1\.0, not 9\.9\.9$/m);
  });
});

test("Fly is told ports, files and options that there are", async () => {
  const read = "import json, sys, tomllib; print(json.dumps(tomllib.load(open(sys.argv[1], 'rb'))))";
  const fly = JSON.parse((await run("python3", ["-c", read, packaging("fly.toml")])).stdout);
  await stat(packaging(fly.build.dockerfile));
  const [command, ...words] = fly.processes.app.split(" ");
  const help = (await run(serverProgram(), [command, "--help"])).stdout;
  const options = Object.fromEntries(words.flatMap((word, n) => (n % 2 ? [] : [[word, words[n + 1]]])));
  for (const option of Object.keys(options)) assert.match(help, new RegExp(`^ +(-\\w, )?${option}\\b`, "m"));
  const [{ ports, protocol, internal_port }] = fly.services;
  assert.equal(protocol, "udp");
  for (const port of [ports[0].port, internal_port]) assert.equal(options["--udp"], `fly-global-services:${port}`);
  assert.equal(options["--listen"], `0.0.0.0:${fly.http_service.internal_port}`);
});

/** The instructions of a Dockerfile by stage, as `[name, arguments]`. */
function stagesOf(dockerfile) {
  const lines = dockerfile.replaceAll("\\\n", "").split("\n").filter((line) => line && !line.startsWith("#"));
  const stages = [];
  for (const line of lines) {
    const [, name, rest] = line.match(/^([A-Z]+) (.*)$/);
    if (name === "FROM") stages.push([]);
    stages.at(-1).push([name, rest]);
  }
  return stages;
}

describe("the image", () => {
  let dockerfile, stages;
  before(async () => {
    dockerfile = await readFile(packaging("Dockerfile"), "utf8");
    stages = stagesOf(dockerfile);
  });

  test("is built as a release is, by the Rust that the crate needs", async () => {
    const [builds] = stages;
    const manifest = await readFile(here("../../Cargo.toml"), "utf8");
    const [, msrv] = manifest.match(/^rust-version = "(.*)"$/m);
    assert.match(builds[0][1], new RegExp(`^rust:${msrv}-bookworm AS build$`));
    const steps = builds.filter(([name]) => name === "RUN").map(([, step]) => step);
    const { stdout } = await release();
    const command = steps
      .find((step) => step.includes("cargo build"))
      .replaceAll('"$(uname -m)-unknown-linux-musl"', `${execFileSync("uname", ["-m"])}`.trim() + "-unknown-linux-musl")
      .replaceAll('"$BIN"', "rtcade");
    assert.ok(stdout.includes(`${command}\n`), `${command} is not among:\n${stdout}`);
  });

  const skip = missing("buildah", "install buildah to have the image built");
  describe("built by buildah from a server that is built already", { skip, timeout: 90_000 }, () => {
    let directory, buildah;

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), "rtcade-image-"));
      const storage = ["--storage-driver", "vfs", "--root", join(directory, "root"), "--runroot", join(directory, "run")];
      buildah = async (...args) => (await run("buildah", [...storage, ...args])).stdout.trim();
      buildah.command = ["buildah", ...storage];
      const context = join(directory, "context");
      await mkdir(context);
      await copyFile(serverProgram(), join(context, "server"));
      await copyFile("/etc/ssl/certs/ca-certificates.crt", join(context, "ca-certificates.crt"));
      const [, last] = dockerfile.split(/^(?=FROM scratch)/m);
      const first = "FROM scratch AS build\nCOPY server /server\nCOPY ca-certificates.crt /etc/ssl/certs/\n";
      await writeFile(join(context, "Dockerfile"), first + last);
      await buildah("build", "--quiet", "--format", "docker", "--isolation", "chroot", "--tag", "rtcade", context);
    });
    after(() => rm(directory, { recursive: true, force: true }));

    const inspected = async () => JSON.parse(await buildah("inspect", "--type", "image", "rtcade")).Docker.config;

    test("holds the server and the certificates, and says how it runs", async () => {
      const mounted = await buildah("mount", await buildah("from", "rtcade"));
      const files = [];
      const walk = async (path) => {
        for (const name of await readdir(join(mounted, path))) {
          const below = `${path}/${name}`;
          if ((await stat(join(mounted, below))).isDirectory()) await walk(below);
          else files.push(below);
        }
      };
      await walk("");
      assert.deepEqual(files.sort(), ["/etc/ssl/certs/ca-certificates.crt", "/usr/bin/rtcade"]);
      const { User, ExposedPorts, Entrypoint, Healthcheck, StopSignal } = await inspected();
      assert.deepEqual([User, StopSignal, Entrypoint], ["65532:65532", "SIGTERM", ["/usr/bin/rtcade"]]);
      assert.deepEqual(Object.keys(ExposedPorts).sort(), ["8080/tcp", "8080/udp"]);
      assert.deepEqual(Healthcheck.Test, ["CMD", "/usr/bin/rtcade", "healthcheck"]);
    });

    test("runs as a user without rights, and tells whether it is well", async () => {
      const container = await buildah("from", "rtcade");
      // A server that is linked dynamically brings no libraries.
      const libraries = ["/lib", "/lib64", "/usr/lib"].flatMap((path) => ["--volume", `${path}:${path}:ro`]);
      const inside = ["run", "--isolation", "chroot", ...libraries, container, "--"];
      const { Entrypoint, Healthcheck } = await inspected();
      const [program, ...args] = [...buildah.command, ...inside, ...Entrypoint];
      const server = await startServer(args, { program });
      try {
        const processes = execFileSync("ps", ["-eo", "uid,args"], { encoding: "utf8" });
        const port = new URL(server.url).port;
        const [, ...check] = Healthcheck.Test;
        await buildah(...inside, ...check, `${server.url}healthz`);
        await assert.rejects(buildah(...inside, ...check, `http://127.0.0.1:${await freePort()}/healthz`));
        assert.match(processes, /^ *65532 .*rtcade --listen/m, port);
      } finally {
        await server.stop();
      }
    });
  });
});

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}
