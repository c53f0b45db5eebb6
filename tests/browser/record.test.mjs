import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connection, launchBrowser, openPage, playing, serverProgram, startServer, until } from "./harness.mjs";

const REPLAY_MS = 60_000;
/** Ticks of a game that is worth replaying: some two seconds. */
const TICKS = 60;

describe("a recorded arena", () => {
  let browser, directory;

  before(async () => {
    browser = await launchBrowser();
    directory = await mkdtemp(join(tmpdir(), "rtcade-record-"));
  });

  after(async () => {
    await browser?.close();
    await rm(directory, { recursive: true, force: true });
  });

  test("replays after its server was killed in mid-game", async () => {
    const killed = join(directory, "killed");
    const server = await startServer(["--record", killed]);
    await play(server);
    await server.kill();
    const recording = await recordingIn(killed);
    const summary = check(recording);
    assert.match(summary, /is incomplete/);
    played(summary);
    const told = dump(recording).flatMap(({ told }) => told ?? []);
    assert.deepEqual(told.filter(({ join }) => join !== undefined).map(({ join }) => join), [1, 2]);
    assert.ok(told.some(({ input }) => input !== undefined), "somebody moved");
  });

  test("replays to its end after its server was stopped", async () => {
    const stopped = join(directory, "stopped");
    const server = await startServer(["--record", stopped]);
    await play(server);
    assert.equal(await server.stop(), 0);
    const summary = check(await recordingIn(stopped));
    assert.match(summary, /it ended with its room or its server/);
    assert.doesNotMatch(summary, /incomplete/);
    played(summary);
  });

  /** Two pages play in one room; they still do when this resolves. */
  async function play(server) {
    const { page: ann } = await openPage(browser, server.url);
    const { page: ben } = await openPage(browser, ann.url());
    for (const page of [ann, ben]) await playing(page, "webrtc");
    await ann.keyboard.down("ArrowRight");
    await ben.keyboard.down("KeyS");
    const { tick } = await connection(ann);
    await until("some seconds of play", () => connection(ann), (now) => now.tick > tick + TICKS);
  }
});

async function recordingIn(directory) {
  const files = await readdir(directory);
  assert.equal(files.length, 1, `one room, one file: ${files}`);
  assert.match(files[0], /^[A-Za-z0-9_-]+-\d{8}T\d{6}Z-\d+\.journal$/);
  return join(directory, files[0]);
}

function replay(...args) {
  const options = { encoding: "utf8", timeout: REPLAY_MS, maxBuffer: 256 * 1024 * 1024 };
  const { status, stdout, stderr } = spawnSync(serverProgram(), ["replay", ...args], options);
  assert.equal(status, 0, stderr);
  return stdout;
}

function check(recording) {
  const summary = replay("--check", recording);
  assert.match(summary, /no differences/);
  return summary;
}

function dump(recording) {
  return replay("--dump", recording).trim().split("\n").map((line) => JSON.parse(line));
}

function played(summary) {
  const [, ticks, joined] = summary.match(/(\d+) ticks .* players: (\d+) joined/) ?? assert.fail(summary);
  assert.ok(Number(ticks) > TICKS, summary);
  assert.equal(Number(joined), 2, summary);
}
