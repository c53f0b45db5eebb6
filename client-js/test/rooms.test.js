import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { joinOrCreate, roomCode } from "../src/rooms.js";
import { microtasks, REPLY } from "./fakes.js";

/** What `/rooms` has, and what was asked for. */
let listed;
let fetched;
/** The error codes with which rooms refuse, by name. */
let refusals;
let asked;
class FakeSocket {
  constructor(url) {
    this.url = url;
    microtasks().then(() => this.onopen?.());
  }

  send(text) {
    const { a: action, d } = typeof text === "string" ? JSON.parse(text) : {};
    if (action !== "join") return;
    const name = new URL(this.url).pathname.split("/").pop();
    asked.push(name);
    this.join = d;
    const e = refusals[name] ?? refusals.all;
    const reply = e ? { a: "joinR", s: false, e, m: "No." } : { a: "joinR", s: true, d: REPLY };
    this.onmessage({ data: JSON.stringify(reply) });
  }

  close() {}
}
const environment = {
  WebSocket: FakeSocket,
  RTCPeerConnection: null,
  storage: null,
  page: null,
  setInterval: () => 0,
  clearInterval: () => {},
};
const enter = async (options, url = "http://play.example/games/r/lobby?x=1") => {
  asked = [];
  try {
    const room = await joinOrCreate(url, { ...options, [Symbol.for("rtcade.environment")]: environment });
    room.leave();
    return room.name;
  } catch (error) {
    assert.equal(error.name, "RtcadeError");
    return error.code;
  }
};
const room = (name, players, more) => ({ name, players, maxPlayers: 4, locked: false, tick: 1, ...more });
const realFetch = globalThis.fetch;

beforeEach(() => {
  listed = [];
  fetched = [];
  refusals = {};
  globalThis.fetch = async (url) => {
    fetched.push(url);
    return new Response(JSON.stringify(listed));
  };
});
afterEach(() => {
  globalThis.fetch = realFetch;
});

describe("joinOrCreate", () => {
  test("joins the fullest room that takes somebody", async () => {
    listed = [room("a", 1), room("b", 3), room("c", 4), room("d", 3), room("e", 3, { locked: true })];
    assert.equal(await enter(), "b");
    assert.deepEqual(fetched, ["http://play.example/games/rooms?x=1"]);
    refusals = { b: "room_full" };
    assert.equal(await enter(), "d");
    refusals = { b: "room_locked", d: "room_full" };
    assert.equal(await enter(), "a");
    assert.deepEqual(asked, ["b", "d", "a"]);
  });

  test("joins a room that the filter admits", async () => {
    listed = [room("duel-1", 1), room("duel-x-1", 2), room("duel", 2), room("race-1", 3, { title: "Race" }), room("7", 2)];
    assert.equal(await enter({ filter: { kind: "duel" } }), "duel-1");
    assert.equal(await enter({ filter: { kind: "duel-x" } }), "duel-x-1");
    assert.equal(await enter({ filter: { title: "Race" } }), "race-1");
    assert.equal(await enter({ filter: { kind: "duel", title: "Race" } }), "duel-2", "that is a new one");
    assert.equal(await enter({ filter: {} }), "race-1");
  });

  test("opens the first room that is not listed, as all do who ask at that moment", async () => {
    assert.equal(await enter(), "room-1");
    listed = [room("room-1", 4), room("room-3", 4), room("duel-1", 4)];
    assert.deepEqual(await Promise.all([enter(), enter()]), ["room-2", "room-2"]);
    assert.equal(await enter({ filter: { kind: "duel" } }), "duel-2");
    refusals = { "room-2": "room_full", "room-4": "room_locked" };
    assert.equal(await enter(), "room-5");
  });

  test("ends where every room is full, or the server refuses", async () => {
    listed = Array.from({ length: 20 }, (_, n) => room(`duel-${n}`, 3));
    refusals = { all: "room_full" };
    assert.equal(await enter({ filter: { kind: "duel" } }), "room_full");
    assert.deepEqual(asked.slice(0, 7), ["duel-0", "duel-1", "duel-2", "duel-3", "duel-20", "duel-21", "duel-22"]);
    assert.match(asked[7], /^duel-[B-Z]{5}$/);
    assert.equal(asked.length, 8);
    refusals = { all: "unauthorized" };
    assert.equal(await enter(), "unauthorized");
    assert.equal(asked.length, 1);
  });

  test("ends where there is no list, no address, or no patience", async () => {
    assert.equal(await enter({}, "not an address"), "bad_address");
    globalThis.fetch = async () => new Response("", { status: 403 });
    assert.equal(await enter(), "unreachable");
    for (const text of ["<html>", "{}", "null"]) {
      globalThis.fetch = async () => new Response(text);
      assert.equal(await enter(), "unreachable", text);
    }
    globalThis.fetch = async (_, { signal }) => signal.throwIfAborted();
    assert.equal(await enter({ signal: AbortSignal.abort() }), "aborted");
    assert.deepEqual(asked, []);
  });

  test("gives the server what connect gives it", async () => {
    const sockets = [];
    const given = { ...environment, WebSocket: class extends FakeSocket {
      constructor(url) {
        super(url);
        sockets.push(this);
      }
    } };
    asked = [];
    const options = { name: "Ada", data: 7, bearer: "token", [Symbol.for("rtcade.environment")]: given };
    const joined = await joinOrCreate("https://play.example", { filter: { kind: "duel" }, ...options });
    joined.leave();
    const [{ url, join }] = sockets;
    assert.deepEqual([url, join.name, join.data, join.bearer], ["wss://play.example/r/duel-1", "Ada", 7, "token"]);
    assert.deepEqual(fetched, ["https://play.example/rooms"]);
  });
});

describe("roomCode", () => {
  test("is one of many that can be told apart", () => {
    const codes = Array.from({ length: 500 }, () => roomCode());
    for (const code of codes) assert.match(code, /^[BCDFGHJKMPQRTVXZ]{5}$/);
    assert.ok(new Set(codes).size > 490);
    assert.equal(new Set(codes.join("")).size, 16);
  });

  test("is understood as it is typed", () => {
    const code = roomCode();
    for (const typed of [code, code.toLowerCase(), ` ${code.slice(0, 2)} ${code.slice(2)}\n`, `${code.slice(0, 3)}-${code.slice(3)}`]) {
      assert.equal(roomCode(typed), code);
    }
    assert.equal(roomCode(" 12 "), "");
  });
});
