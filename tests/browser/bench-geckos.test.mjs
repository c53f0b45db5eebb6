// The load tester against a real geckos.io server.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import geckos from "@geckos.io/server";
import { serverProgram } from "./harness.mjs";

const USERS = 8;
const ROUNDS = 20;
const SCENARIO = `
config:
  timeout: 10
  phases: [{ duration: 1, arrivalCount: ${USERS} }]
scenarios:
  - engine: geckos
    flow:
      - loop:
          - send: "round {{ $loopCount }}"
            measure: echo
        count: ${ROUNDS}
        pacing: fixed
        every: 33ms
      - send: { chat: "hi" }
      - expect: { text: '{"chat":"hi there"}' }
        within: 5s
      - reconnect
      - send: once more
        measure: echo
      - expect: { text: once more }
        within: 5s
      - leave
`;

let server;
let directory;
const gone = [];

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "rtcade-geckos-"));
  server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  const io = geckos({ bindAddress: "127.0.0.1", portRange: { min: port, max: port } });
  io.addServer(server);
  io.onConnection((channel) => {
    channel.onRaw((message) => channel.raw.emit(message));
    channel.on("chat", (text) => channel.emit("chat", `${text} there`));
    channel.onDisconnect((state) => gone.push(state));
  });
});

after(async () => {
  server?.close();
  server?.closeAllConnections();
  await rm(directory, { recursive: true, force: true });
});

test("users of the engine geckos play on a geckos.io server", async () => {
  const [script, output] = ["geckos.yml", "geckos.json"].map((name) => join(directory, name));
  await writeFile(script, SCENARIO);
  const target = `http://127.0.0.1:${server.address().port}`;
  // A machine that is busy with other tests makes an overloaded generator, whose status is 4.
  const status = await promisify(execFile)(serverProgram(), ["bench", "run", script, "-q", "-t", target, "-o", output])
    .then(() => 0, (error) => error.code);
  assert.ok([0, 4].includes(status), `status ${status}`);
  const { counters, summaries } = JSON.parse(await readFile(output, "utf8")).aggregate;
  assert.equal(counters["vusers.completed"], USERS, JSON.stringify(counters));
  assert.equal(counters["rtc.sent"], USERS * (ROUNDS + 2));
  // The channels are unreliable, though hardly anything gets lost within a machine.
  const received = counters["rtc.received"];
  assert.ok(received <= USERS * (ROUNDS + 2) && received > USERS * ROUNDS, `${received} received`);
  assert.equal(summaries["rtc.echo"].count, received - USERS, "all but the answers to the event");
  for (const stage of ["signal", "ice", "dtls", "open"]) {
    assert.equal(summaries[`rtc.${stage}`].count, 2 * USERS, stage);
  }
  assert.ok(gone.length >= USERS, `who leaves is gone: ${gone}`);
});
