import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { connection, launchBrowser, openPage, playing, startServer, until } from "./harness.mjs";

const NODES = ["box-1", "box-2"];

let browser;
let server;

before(async () => {
  server = await startServer(["cluster", "--nodes", String(NODES.length), "--node", "box"]);
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function roomsOf(node) {
  const response = await fetch(`${server.url}metrics?node=${node}`);
  return Number((await response.text()).match(/^rtcade_rooms (\d+)/m)[1]);
}
const rooms = () => Promise.all(NODES.map(roomsOf));

/** The process of a node. */
async function processOf(node) {
  const children = await readFile(`/proc/${server.pid}/task/${server.pid}/children`, "utf8");
  for (const id of children.trim().split(" ")) {
    if ((await readFile(`/proc/${id}/cmdline`, "utf8")).includes(`--child=${node}\0`)) return Number(id);
  }
  throw new Error(`${node} does not run`);
}

async function join(room) {
  const { page } = await openPage(browser, `${server.url}r/${room}`);
  await playing(page, "webrtc");
  return page;
}
const players = (page) => page.evaluate(() => globalThis.rtcade.room.players.size);

describe("pages at the port that the nodes of a machine share", () => {
  test("meet in their room, over the UDP port of its node, and survive that node", async () => {
    const [ann, ben] = await Promise.all([join("shared"), join("shared")]);
    for (const page of [ann, ben]) await until("each other", () => players(page), (count) => count === 2);
    const found = await rooms();
    assert.deepEqual(found.toSorted(), [0, 1]);

    const others = await Promise.all(["a", "b", "c", "d"].map(join));
    const spread = await rooms();
    assert.ok(spread.every((count) => count > 0), `rooms are at both nodes: ${spread}`);

    const owner = NODES[found.indexOf(1)];
    process.kill(await processOf(owner), "SIGKILL");
    for (const page of [ann, ben]) {
      await until("a game that goes on", () => connection(page), ({ status }) => status === "open");
      await playing(page, "webrtc");
      await until("each other again", () => players(page), (count) => count === 2);
    }
    assert.match(server.output, new RegExp(`node ${owner} has ended \\(signal: 9`));
    for (const page of others) await playing(page, "webrtc");
  });

  test("are paired, whichever node each of them seeks at", async () => {
    const seek = async (node) => {
      const { page } = await openPage(browser, `${server.url}rooms`);
      return page.evaluate(async (url) => {
        const { seek } = await import("/rtcade/seek.js");
        const room = await seek("machine", { url });
        await new Promise((resolve) => (room.players.size > 1 ? resolve() : room.on("join", resolve)));
        return room.name;
      }, `${server.url}?node=${node}`);
    };
    const [name, other] = await Promise.all(NODES.map(seek));
    assert.equal(name, other);
  });
});
