import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { seek } from "../src/seek.js";
import { microtasks, REPLY } from "./fakes.js";

let sockets;
let timers;
class FakeSocket {
  sent = [];
  closedWith = null;

  constructor(url) {
    this.url = url;
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

beforeEach(() => {
  sockets = [];
  timers = [];
});

describe("seek", () => {
  test("waits on one websocket, and joins the room that the server names on another", async () => {
    const { outcome } = await opened({ name: "Ada", bearer: async () => "token" });
    const [socket] = sockets;
    assert.equal(socket.url, "ws://play.example/api");
    assert.deepEqual(socket.sent, [{ a: "seek", d: { version: 0, context: "chess", bearer: "token" } }]);
    assert.deepEqual(pending(), [], "nothing ends the waiting");
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
    timers.find(Boolean).act();
    await microtasks();
    sockets[1].onopen();
    assert.equal(sockets[1].sent.length, 1);
    sockets[1].onclose({ code: 4002, reason: "The client did not answer pings." });
    const lost = (await paced.outcome).error;
    assert.deepEqual([lost.code, lost.message], ["unreachable", "The client did not answer pings."]);
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
