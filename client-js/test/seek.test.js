import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { seek } from "../src/seek.js";
import { microtasks, REPLY } from "./fakes.js";

let sockets;
let timers;
let now;
class FakeSocket {
  sent = [];
  closedWith = null;

  constructor(url) {
    this.url = new URL(url).href;
    sockets.push(this);
  }

  send(data) {
    if (typeof data === "string") this.sent.push(JSON.parse(data));
  }

  close(code) {
    this.closedWith ??= code ?? "no code";
  }

  say(message) {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}
const environment = {
  WebSocket: FakeSocket,
  RTCPeerConnection: null,
  storage: null,
  page: null,
  now: () => now,
  random: () => 1,
  setTimeout: (act, ms) => timers.push({ act, ms }),
  setInterval: () => 0,
  clearInterval: () => {},
  clearTimeout: (id) => id && (timers[id - 1] = null),
};
/** What seeking comes to, as `{room}` or `{error}`. */
const start = (options, given = {}) => ({
  outcome: seek("chess", { url: "http://play.example/", ...options, [Symbol.for("rtcade.environment")]: { ...environment, ...given } }).then(
    (room) => ({ room }),
    (error) => ({ error }),
  ),
});
const opened = async (options, given) => {
  const started = start(options, given);
  await microtasks();
  sockets[0]?.onopen?.();
  return started;
};
const pending = () => timers.filter(Boolean).map(({ ms }) => ms);
/** The only timer that runs ends. */
const elapse = async () => {
  assert.equal(pending().length, 1);
  const at = timers.findIndex(Boolean);
  const { act, ms } = timers[at];
  timers[at] = null;
  now += ms;
  act();
  await microtasks();
  return ms;
};
const last = () => sockets.at(-1);
const redirect = async (url, ticket) => {
  const before = last();
  before.say({ a: "eventRedirect", d: { url, ticket } });
  assert.deepEqual([before.closedWith, before.onclose], [1000, null]);
  await microtasks();
};

beforeEach(() => {
  sockets = [];
  timers = [];
  now = 0;
});

describe("seek", () => {
  test("waits on one websocket, and joins the room that the server names on another", async () => {
    const { outcome } = await opened({ name: "Ada", bearer: async () => "token" });
    const [socket] = sockets;
    assert.equal(socket.url, "ws://play.example/api");
    assert.deepEqual(socket.sent, [{ a: "seek", d: { version: 0, context: "chess", bearer: "token" } }]);
    socket.say({ a: "eventNew", d: 1 });
    socket.say({ a: "seekR", s: true, d: { roomId: "seek-1" } });
    await microtasks();
    assert.equal(socket.closedWith, 1000);
    sockets[1].onopen();
    await microtasks();
    const [{ a: action, d: join }] = sockets[1].sent;
    assert.deepEqual([sockets[1].url, action, join.roomId, join.name, join.bearer], ["ws://play.example/api", "join", "seek-1", "Ada", "token"]);
    sockets[1].say({ a: "joinR", s: true, d: REPLY });
    const { room } = await outcome;
    assert.equal(room.name, "seek-1");
    room.leave();
  });

  test("finds the server from any of its pages", async () => {
    for (const [url, api] of [
      ["https://play.example", "wss://play.example/api"],
      ["https://play.example/r/lobby?x=1#y", "wss://play.example/api?x=1"],
      ["http://play.example/bar/lobby", "ws://play.example/bar/api"],
      ["ws://play.example/games/r/lobby", "ws://play.example/games/api"],
      [new URL("http://play.example/games/"), "ws://play.example/games/api"],
      ["http://play.example/api", "ws://play.example/api"],
    ]) {
      sockets = [];
      await opened({ url });
      assert.equal(sockets[0].url, api);
    }
    const { error } = await start({ url: "not an address" }).outcome;
    assert.equal(error.code, "bad_address");
  });

  test("ends when it is aborted, in each stage", async () => {
    const controllers = [0, 1, 2, 3].map(() => new AbortController());
    controllers[0].abort();
    assert.equal((await start({ signal: controllers[0].signal }).outcome).error.code, "aborted");
    assert.equal(sockets.length, 0);

    const early = start({ signal: controllers[1].signal, bearer: () => new Promise((resolve) => setImmediate(resolve)) });
    controllers[1].abort();
    assert.equal((await early.outcome).error.code, "aborted");
    await microtasks();
    assert.equal(sockets.length, 0);

    const waiting = await opened({ signal: controllers[2].signal });
    controllers[2].abort();
    assert.equal((await waiting.outcome).error.code, "aborted");
    assert.equal(sockets[0].closedWith, 1000);

    sockets = [];
    const joining = await opened({ signal: controllers[3].signal });
    sockets[0].say({ a: "seekR", s: true, d: { roomId: "seek-1" } });
    await microtasks();
    controllers[3].abort();
    assert.equal((await joining.outcome).error.code, "aborted");
    assert.notEqual(sockets[1].closedWith, null);
  });

  test("tells why the server refuses, and tries again when it is told to", async () => {
    const refused = await opened({ bearer: "token" });
    sockets[0].say({ a: "seekR", s: false, e: "unauthorized", m: "The bearer token is for another room." });
    const { error } = await refused.outcome;
    assert.deepEqual([error.name, error.stage, error.code], ["RtcadeError", "signaling", "unauthorized"]);
    assert.equal(error.message, "The bearer token is for another room.");

    sockets = [];
    const paced = await opened();
    sockets[0].say({ a: "joinR", s: false, e: "rate_limited", m: "Too many joins.", retryAfter: 2_000 });
    assert.equal(sockets[0].closedWith, 1000);
    assert.deepEqual(pending(), [2_500]);
    await elapse();
    sockets[1].onopen();
    assert.equal(sockets[1].sent.length, 1);
    sockets[1].say({ a: "seekR", s: false, e: "rate_limited", m: "Too many players wait for others." });
    assert.equal((await paced.outcome).error.code, "rate_limited");
  });

  test("seeks again where the connection was lost, for a minute at most", async () => {
    const { outcome } = await opened({ bearer: () => `token ${sockets.length}` });
    now = 3_600_000;
    const waits = [];
    for (let lost = 0; lost < 3; lost++) {
      last().onclose({ code: 4008, reason: "The server is stopping." });
      waits.push(await elapse());
      last().onopen();
      assert.equal(last().sent[0].d.bearer, `token ${lost + 1}`);
    }
    assert.deepEqual(waits, [250, 500, 1_000], "what is lost at once is waited for longer each time");
    now += 6_000;
    last().onclose({ code: 1006, reason: "" });
    assert.equal(await elapse(), 250, "and after a wait from the beginning");
    assert.deepEqual(new Set(sockets.map(({ url }) => url)), new Set(["ws://play.example/api"]));
    const lostAt = now;
    // No server answers any more.
    while (pending().length) {
      await elapse();
      assert.ok(sockets.length < 100, "nothing ends it");
    }
    assert.equal((await outcome).error.code, "timeout");
    assert.ok(now - lostAt > 40_000 && now - lostAt <= 70_000, `${now - lostAt} ms`);
  });

  test("waits as long as the server says that it does", async () => {
    const { outcome } = await opened();
    for (let minute = 0; minute < 60; minute++) {
      now += 14_999;
      assert.deepEqual(pending(), [15_000], "one watches, and all before it are cancelled");
      last().say({ a: "eventSeek", d: {} });
    }
    assert.equal(await elapse(), 15_000);
    assert.equal(last().closedWith, 1000);
    assert.equal(await elapse(), 250);
    assert.equal(sockets.length, 2);
    last().onopen();
    last().say({ a: "seekR", s: false, e: "refused", m: "" });
    assert.equal((await outcome).error.code, "refused");
    assert.deepEqual(pending(), []);
  });

  test("goes to the server that it is sent to, with the ticket and a token", async () => {
    const { outcome } = await opened({ bearer: "token" });
    await redirect("ws://b.example/api?pass=1.x", "a ticket");
    assert.equal(last().url, "ws://b.example/api?pass=1.x");
    last().onopen();
    assert.deepEqual(last().sent, [{ a: "seek", d: { version: 0, context: "chess", bearer: "token", ticket: "a ticket" } }]);
    for (const d of [null, {}, { ticket: "a ticket" }]) last().say({ a: "eventRedirect", d });
    assert.equal(sockets.length, 2, "what is no address is not followed");
    // That server stops an hour later, and another one is named.
    for (let hour = 1; hour < 9; hour++) {
      now = hour * 3_600_000;
      await redirect(`ws://${hour}.example/api`, "another");
      last().onopen();
    }
    last().say({ a: "seekR", s: true, d: { roomId: "seek-1" } });
    await microtasks();
    assert.equal(last().url, "ws://play.example/api", "the room is looked for where the page came from");
    last().onopen();
    await microtasks();
    last().say({ a: "joinR", s: true, d: REPLY });
    (await outcome).room.leave();
  });

  test("asks again where the page came from if that server can't be reached, or is lost", async () => {
    const { outcome } = await opened();
    await redirect("ws://b.example/api", "a ticket");
    last().onclose({ code: 1006, reason: "" });
    assert.equal(await elapse(), 1_000);
    assert.equal(last().url, "ws://play.example/api");
    last().onopen();
    assert.equal(last().sent[0].d.ticket, undefined);
    await redirect("ws://b.example/api", "another");
    last().onopen();
    now += 60_000;
    last().onclose({ code: 1006, reason: "" });
    assert.equal(await elapse(), 250);
    assert.equal(last().url, "ws://play.example/api");
    last().onopen();
    last().say({ a: "seekR", s: false, e: "refused", m: "" });
    assert.equal((await outcome).error.code, "refused");
  });

  test("asks again if what it is sent to is no address", async () => {
    const { outcome } = await opened();
    await redirect("no address", "a ticket");
    assert.equal(await elapse(), 1_000);
    last().onopen();
    last().say({ a: "seekR", s: false, e: "refused", m: "" });
    assert.equal((await outcome).error.code, "refused");
    assert.equal(sockets.length, 2);
  });

  test("is not sent to and fro for ever", async () => {
    const { outcome } = await opened();
    for (let hop = 1; hop <= 4; hop++) {
      await redirect(`ws://${hop}.example/api`, "a ticket");
      last().onopen();
    }
    last().say({ a: "eventRedirect", d: { url: "ws://5.example/api", ticket: "a ticket" } });
    assert.equal((await outcome).error.code, "redirects");
    assert.equal(sockets.length, 5);
  });

  test("fails where there is no server, no token and no websocket", async () => {
    const codes = async (outcome) => (await outcome).error.code;
    const late = start();
    await microtasks();
    timers.find(({ ms }) => ms === 10_000).act();
    assert.equal(await codes(late.outcome), "timeout");
    sockets = [];
    const cut = start();
    await microtasks();
    sockets[0].onclose({ code: 1006, reason: "" });
    assert.equal(await codes(cut.outcome), "unreachable");
    const unsigned = start({ bearer: () => Promise.reject(new Error("signed out")) });
    assert.equal(await codes(unsigned.outcome), "bearer");
    assert.equal(await codes(start({}, { WebSocket: undefined }).outcome), "unsupported");
    const odd = await opened();
    for (const socket of sockets) socket.onmessage?.({ data: "no JSON" });
    assert.equal(await codes(odd.outcome), "internal");
  });
});
