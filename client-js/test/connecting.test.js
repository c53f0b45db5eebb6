import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { connect, RtcadeError } from "../src/index.js";
import { closure } from "../src/error.js";
import { connect as replacing } from "../src/testing.js";
import { dial, dialOpen, grant, heartbeat, join, joinOpen, microtasks, pong, refuse, REPLY, tab } from "./fakes.js";

const RESUMED = { ...REPLY, resume: "token 2", last: 0, reliableSeq: 1, sdp: undefined };
const never = () => new Promise(() => {});
const errorOf = async ({ outcome }) => {
  const { error } = await outcome;
  assert.ok(error instanceof RtcadeError, `${error}`);
  assert.match(error.message, /^[A-Z].*\.$/);
  return error;
};
const lose = ({ socket }, code = 1006, reason = "") => socket.onclose({ code, reason });
const keptIn = ({ kept }) => Object.values(kept).map((text) => JSON.parse(text).resume);

/** An `AbortSignal` that knows how many listen to it. */
function abortable() {
  const controller = new AbortController();
  const { signal } = controller;
  const listeners = new Set();
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (type, listener) => (listeners.add(listener), add(type, listener));
  signal.removeEventListener = (type, listener) => (listeners.delete(listener), remove(type, listener));
  return { signal, listeners, abort: () => controller.abort() };
}

describe("a cancelled connect", () => {
  const cancelled = async (reach, options) => {
    const { signal, listeners, abort } = abortable();
    const session = await dial({ signal, ...options });
    await reach(session);
    abort();
    const { stage, code } = await errorOf(session);
    assert.deepEqual([stage, code], ["signaling", "aborted"]);
    assert.equal(session.clock.pending, 0);
    assert.equal(listeners.size, 0);
    assert.ok(session.pcs.every(({ closed }) => closed));
    const seen = session.sockets.length;
    await session.clock.advance(100_000);
    assert.equal(session.sockets.length, seen);
    return session;
  };
  const opens = async ({ socket }) => {
    socket.onopen();
    await microtasks();
  };

  test("before its websocket is open asks for nothing", async () => {
    const { socket } = await cancelled(() => {});
    assert.deepEqual([socket.sent, socket.closedWith], [[], 1000]);
  });

  test("leaves what it may have got", async () => {
    const { socket } = await cancelled(opens);
    assert.deepEqual([socket.signals.map(({ a }) => a), socket.closedWith], [["join", "leave"], 1000]);
  });

  test("waiting for a token, an offer or its next try is over", async () => {
    await cancelled(opens, { bearer: never });
    await cancelled(opens, { RTCPeerConnection: null, bearer: never });
    await cancelled(async (session) => {
      await opens(session);
      refuse(session, "rate_limited", { retryAfter: 3_000 }, "join");
    });
  });

  test("before it begins opens nothing", async () => {
    const session = await dial({ signal: AbortSignal.abort() });
    assert.equal((await errorOf(session)).code, "aborted");
    assert.equal(session.sockets.length, 0);
  });

  test("does not take the session from the one that follows it", async () => {
    const storage = tab();
    await joinOpen({ storage });
    const reloaded = tab(storage.kept);
    const { signal, abort } = abortable();
    await dial({ storage: reloaded, signal });
    abort();
    const session = await dialOpen({ storage: reloaded });
    assert.equal(session.socket.signals[0].a, "reconnect");
    grant(session, RESUMED);
    await session.outcome;
    assert.deepEqual(keptIn(reloaded), ["token 2"]);
  });

  test("lets one that overlapped with it keep its session", async () => {
    const storage = tab();
    const { signal, abort } = abortable();
    const first = await dialOpen({ storage, signal });
    const second = await dialOpen({ storage });
    grant(first, REPLY, "join");
    grant(second, { ...REPLY, socketId: "second", resume: "second" }, "join");
    await second.outcome;
    assert.deepEqual(keptIn(storage), ["token"]);
    abort();
    assert.deepEqual(keptIn(storage), ["second"]);
    const reloaded = await dialOpen({ storage: tab(storage.kept) });
    assert.equal(reloaded.socket.signals[0].d.resume, "second");
  });

  test("that has resolved leaves its room", async () => {
    const { signal, listeners, abort } = abortable();
    const session = await joinOpen({ signal });
    assert.equal(listeners.size, 1);
    abort();
    assert.equal(session.of("close")[0][0].reason, "left");
    assert.deepEqual(session.socket.signals, [{ a: "leave" }]);
    assert.equal(listeners.size, 0);
  });

  test("keeps no listener of a room that is closed", async () => {
    const { signal, listeners } = abortable();
    const session = await joinOpen({ signal });
    lose(session, 4003);
    assert.equal(listeners.size, 0);
  });
});

describe("a player that is another after a reload", () => {
  for (const [what, changed] of [
    ["name", { name: "Grace" }],
    ["data", { data: { skin: "blue" } }],
    ["version of the page", { appVersion: "8" }],
  ]) {
    test(`by ${what} joins anew`, async () => {
      const before = tab();
      const options = { name: "Ada", data: { skin: "red" }, appVersion: "7" };
      await joinOpen({ storage: before, ...options });
      assert.equal((await dialOpen({ storage: tab(before.kept), ...options })).socket.signals[0].a, "reconnect");
      const session = await dialOpen({ storage: tab(before.kept), ...options, ...changed });
      assert.equal(session.socket.signals[0].a, "join");
      grant(session, { ...REPLY, resume: "anew" }, "join");
      await session.outcome;
    });
  }

  test("by token lets the server compare it", async () => {
    const before = tab();
    await joinOpen({ storage: before, bearer: "Ada's" });
    const session = await dialOpen({ storage: tab(before.kept), bearer: "Grace's" });
    assert.equal(session.socket.signals[0].d.bearer, "Grace's");
    refuse(session, "no_such_session");
    await microtasks();
    assert.deepEqual((({ a, d }) => [a, d.bearer])(session.socket.signals[1]), ["join", "Grace's"]);
  });
});

describe("a token that the page gets when it is asked", () => {
  const counted = () => {
    let count = 0;
    return async () => `token ${++count}`;
  };
  const redial = async (session) => {
    const seen = session.sockets.length;
    lose(session);
    while (session.sockets.length === seen) await session.clock.advance(250);
    session.socket.onopen();
    await microtasks();
    return session.socket.signals.at(-1);
  };

  test("is fresh at each join, and none is asked for where the session goes on", async () => {
    const session = await join({ bearer: counted() });
    assert.equal(session.socket.signals[0].d.bearer, "token 1");
    assert.ok(!("bearer" in (await redial(session)).d));
    grant(session, RESUMED);
    await redial(session);
    refuse(session, "no_such_session");
    await microtasks();
    assert.equal(session.socket.signals.at(-1).d.bearer, "token 2");
  });

  for (const [how, bearer] of [
    ["rejects", () => Promise.reject(new Error("401"))],
    ["throws", () => { throw new Error("no session"); }],
    ["never comes", never],
  ]) {
    test(`and that ${how} rejects`, async () => {
      const session = await dialOpen({ bearer });
      await session.clock.advance(10_000);
      assert.equal((await errorOf(session)).code, "bearer");
      assert.equal(session.clock.pending, 0);
    });
  }

  test("and that rejects while the net is away is asked for again", async () => {
    let isAway = false;
    const session = await join({ bearer: async () => (isAway ? Promise.reject(new TypeError("fetch")) : "token") });
    await redial(session);
    isAway = true;
    refuse(session, "no_such_session");
    await microtasks();
    assert.equal(session.room.status, "dropped");
    isAway = false;
    await session.clock.advance(500);
    session.socket.onopen();
    await microtasks();
    refuse(session, "no_such_session");
    await microtasks();
    grant(session, REPLY, "join");
    assert.equal(session.room.status, "open");
  });

  test("and that is none is not sent", async () => {
    for (const bearer of [() => undefined, async () => null, () => 1n, undefined])
      assert.ok(!("bearer" in (await dialOpen({ bearer })).socket.signals[0].d));
  });
});

describe("an offer that hangs", () => {
  for (const method of ["createOffer", "setLocalDescription"]) {
    for (const [how, fake] of [["hangs", never], ["rejects", () => Promise.reject(new Error("OperationError"))]]) {
      test(`where ${method} ${how} holds up no join and no return, and is made again`, async () => {
        let isBroken = true;
        const breaking = (pc) => {
          const sound = pc[method].bind(pc);
          pc[method] = (...args) => (isBroken ? fake() : sound(...args));
        };
        const session = await dialOpen({ breaking });
        await session.clock.advance(2_000);
        assert.deepEqual(session.socket.signals.map(({ a, d }) => [a, d.sdp]), [["join", undefined]]);
        grant(session, { ...REPLY, sdp: undefined }, "join");
        const { room } = await session.outcome;
        const errors = [];
        room.on("error", ({ code }) => errors.push(code));
        await session.clock.advance(0);
        assert.equal(room.status, "open");
        assert.deepEqual(errors, ["offer"]);

        lose(session);
        await session.clock.advance(250);
        session.socket.onopen();
        await session.clock.advance(2_000);
        assert.deepEqual(session.socket.signals.map(({ a, d }) => [a, d.sdp]), [["reconnect", undefined]]);
        grant(session, RESUMED);
        await session.clock.advance(0);
        isBroken = false;
        session.clock.startHeartbeat(() => session.socket.deliver(heartbeat(0)));
        await session.clock.advance(70_000);
        assert.ok(session.socket.signals.some(({ a }) => a === "exchangeSdp"));
        assert.deepEqual(errors, ["offer"], "told once");
        room.leave();
        assert.equal(session.clock.pending, 0);
        assert.ok(session.pcs.every(({ closed }) => closed));
      });
    }
  }

  test("is no failure of connecting, nor is an answer that the browser throws at", async () => {
    const breaking = (pc) => (pc.setRemoteDescription = () => { throw new Error("InvalidAccessError"); });
    const session = await join({ breaking });
    assert.equal(session.room.status, "open");
    assert.equal(session.room.stats.transport, "websocket");
  });

  test("where there can be no channel leaves no connection open", async () => {
    const breaking = (pc) => (pc.createDataChannel = () => { throw new Error("OperationError"); });
    const session = await dialOpen({ breaking });
    assert.equal(session.socket.signals[0].a, "join");
    assert.ok(session.pcs.length > 0 && session.pcs.every(({ closed }) => closed));
  });
});

describe("what a page may pass", () => {
  test("has no half characters when it is sent", async () => {
    const data = { "\ud83d": ["\ude00", "whole \u{1f600}", "\\ud83d", '\\"\ud83d'] };
    const session = await dialOpen({ name: "Ada \ud83d", data });
    const [text] = session.socket.sent;
    assert.ok(text.isWellFormed() && !/[^\\]\\ud[89a-f]/.test(text), text);
    const { name, data: sent } = JSON.parse(text).d;
    assert.equal(name, "Ada \ufffd");
    assert.deepEqual(sent, { "\ufffd": ["\ufffd", "whole \u{1f600}", "\\ud83d", '\\"\ufffd'] });
  });

  test("is sent as it was at the call", async () => {
    const data = { skin: "red" };
    const session = await dial({ data });
    data.skin = data;
    session.socket.onopen();
    await microtasks();
    assert.deepEqual(session.socket.signals[0].d.data, { skin: "red" });
  });

  const cycle = {};
  cycle.cycle = cycle;
  for (const [what, options, code, url] of [
    ["a BigInt", { data: 1n }, "bad_value"],
    ["a cycle", { data: cycle }, "bad_value"],
    ["data that throws", { data: { get x() { throw null; } } }, "bad_value"],
    ["20 KB of data", { data: "x".repeat(20_000) }, "too_large"],
    ["6,000 characters of three bytes", { data: "\u20ac".repeat(6_000) }, "too_large"],
    ["no address", {}, "bad_address", "http://"],
    ["another scheme", {}, "bad_address", "ftp://play.example/r/lobby"],
    ["a symbol", {}, "bad_address", Symbol("url")],
  ]) {
    test(`and is ${what} rejects with ${code} before anything is opened`, async () => {
      const session = await dial(options, url);
      assert.equal((await errorOf(session)).code, code);
      assert.deepEqual([session.sockets, session.clock.pending], [[], 0]);
    });
  }

  test("is refused in words where the whole request is too large", async () => {
    const session = await dialOpen({ bearer: "b".repeat(16_300), data: { a: "x".repeat(100) } });
    assert.equal((await errorOf(session)).code, "too_large");
    assert.deepEqual(session.socket.sent, []);
  });

  test("goes without the offer where there is no room for both", async () => {
    const session = await dialOpen({
      data: "x".repeat(15_000),
      breaking: (pc) => (pc.createOffer = async () => ({ type: "offer", sdp: "s".repeat(2_000) })),
    });
    assert.ok(!("sdp" in session.socket.signals[0].d));
    grant(session, { ...REPLY, sdp: undefined }, "join");
    await session.outcome;
    await microtasks();
    assert.equal(session.socket.signals.at(-1).a, "exchangeSdp", "it follows");
  });

  test("may be null, and without a browser's websockets is told so", async (t) => {
    const { WebSocket } = globalThis;
    delete globalThis.WebSocket;
    t.after(() => (globalThis.WebSocket = WebSocket));
    await assert.rejects(connect("http://h/r/a", null), { name: "RtcadeError", code: "unsupported" });
  });
});

test("what the environment does not replace is the browser's own", async (t) => {
  const { WebSocket } = globalThis;
  globalThis.WebSocket = class {
    constructor(url) {
      throw new Error(url);
    }
  };
  t.after(() => (globalThis.WebSocket = WebSocket));
  const none = { name: undefined, data: undefined, signal: undefined };
  for (const environment of [undefined, {}, { random: () => 0 }]) {
    await assert.rejects(replacing("http://h/r/a", none, environment), { code: "blocked" });
  }
  const throwing = () => {
    throw new Error("SyntaxError");
  };
  await assert.rejects(connect("http://h/r/a", { WebSocket: throwing, setTimeout: throwing }), { code: "blocked" });
});

test("a page over https that names a server over http is told of it", async (t) => {
  globalThis.location = { href: "https://play.example/", protocol: "https:" };
  t.after(() => delete globalThis.location);
  const throwing = await dial({ WebSocket: function () { throw new Error("SecurityError"); } }, "ws://h/r/a");
  await throwing.clock.advance(0);
  assert.equal((await errorOf(throwing)).code, "mixed_content");
  const failing = await dial({}, "ws://h/r/a");
  lose(failing);
  assert.equal((await errorOf(failing)).code, "mixed_content");
  const secure = await dial({}, "wss://h/r/a");
  lose(secure);
  assert.equal((await errorOf(secure)).code, "unreachable");
});

describe("a websocket that the browser blocks", () => {
  test("by an exception is told of", async () => {
    const session = await dial({ WebSocket: function () { throw new Error("NS_ERROR_CONTENT_BLOCKED"); } });
    await session.clock.advance(0);
    assert.equal((await errorOf(session)).code, "blocked");
    assert.equal(session.clock.pending, 0);
  });

  test("by an error that no close follows is told of at once", async () => {
    const session = await dial();
    session.socket.onerror();
    await session.clock.advance(0);
    const { code, message } = await errorOf(session);
    assert.equal(code, "blocked");
    assert.match(message, /connect-src/);
    assert.equal(session.clock.pending, 0);
  });

  test("is another failure than one whose close follows its error", async () => {
    const session = await dial();
    session.socket.onerror();
    lose(session);
    await session.clock.advance(0);
    assert.equal((await errorOf(session)).code, "unreachable");
  });
});

test("a join that is answered too late is left, and a return is not", async () => {
  const joining = await dialOpen();
  await joining.clock.advance(10_000);
  assert.equal((await errorOf(joining)).code, "timeout");
  assert.deepEqual([joining.socket.signals.at(-1).a, joining.socket.closedWith], ["leave", 1000]);

  const before = tab();
  await joinOpen({ storage: before });
  const storage = tab({ ...before.kept });
  const returning = await dialOpen({ storage });
  await returning.clock.advance(10_000);
  assert.equal((await errorOf(returning)).code, "timeout");
  assert.deepEqual([returning.socket.signals.at(-1).a, returning.socket.closedWith], ["reconnect", "no code"]);
  assert.deepEqual(keptIn(storage), ["token"]);
});

describe("a websocket that is closed before the reply", () => {
  for (const [code, reason, expected, message] of [
    [1009, "", "too_large", /16 KiB/],
    [1008, "", "policy", /not allow/],
    [1008, "Log in first.", "policy", /^Log in first\.$/],
    [4100, "origin", "origin", /origin/],
    [4100, "", "internal", /./],
    [4100, " ", "internal", /./],
    [1001, "", "unreachable", /was lost/],
  ]) {
    test(`with ${code} "${reason}" rejects with ${expected}`, async () => {
      const session = await dialOpen();
      lose(session, code, reason);
      const error = await errorOf(session);
      assert.equal(error.code, expected);
      assert.match(error.message, message);
    });
  }

  test("and no close code leaves without a sentence", () => {
    for (const code of [0, 999, 1000, 1005, 1006, 1011, 3000, 4000, 4009, 4100, 4999, NaN, undefined])
      for (const text of [undefined, "", " ", "kicked", "A sentence."]) {
        const { reason, message } = closure(code, text);
        assert.ok(reason && message.trim(), `${code} ${text}`);
      }
  });
});

describe("a reply that can't be true", () => {
  const replies = {
    "no session for a player": { sessions: [null] },
    "a player without a number": { sessions: [{ name: "Ada" }] },
    "a name that is none": { sessions: [{ player: 1, name: {} }] },
    "no sessions": { sessions: {} },
    "a player past 32 bits": { player: 2 ** 32 },
    "a negative tick": { tick: -1 },
    "half a number of an input": { inputSeq: 0.5 },
    "no time between ticks": { tickMs: 0 },
    "a tick for ever": { tickMs: 1e9 },
    "no token": { resume: undefined },
    "no session": { socketId: 7 },
  };
  for (const [what, wrong] of Object.entries(replies)) {
    test(`(${what}) rejects, and closes a room that comes back`, async () => {
      const session = await dialOpen();
      grant(session, { ...REPLY, ...wrong }, "join");
      assert.equal((await errorOf(session)).code, "version_mismatch");
      assert.deepEqual([session.clock.pending, session.socket.closedWith], [0, 1000]);

      const back = await joinOpen();
      lose(back);
      await back.clock.advance(250);
      back.socket.onopen();
      await microtasks();
      grant(back, { ...RESUMED, ...wrong });
      assert.equal(back.of("close")[0][0].reason, "version_mismatch");
      assert.equal(back.clock.pending, 0);
    });
  }

  test("(its numbers of reliable messages) rejects", async () => {
    const before = tab();
    await joinOpen({ storage: before });
    for (const wrong of [{ last: null }, { reliableSeq: "1" }]) {
      const storage = tab({ ...before.kept });
      const session = await dialOpen({ storage });
      grant(session, { ...RESUMED, ...wrong });
      assert.equal((await errorOf(session)).code, "version_mismatch");
    }
  });

  test("(one that was not asked for) is passed over", async () => {
    const session = await dial();
    grant(session, REPLY, "join");
    session.socket.onopen();
    grant(session, RESUMED);
    await microtasks();
    grant(session, REPLY, "join");
    assert.ok((await session.outcome).room);
  });

  test("(a refusal of the websocket itself, before anything is asked) rejects in the server's words", async () => {
    for (const storage of [null, tab()]) {
      if (storage) await joinOpen({ storage });
      const session = await dial({ storage: storage && tab({ ...storage.kept }), bearer: never });
      session.socket.onopen();
      refuse(session, "origin", {}, "join");
      session.socket.onclose?.({ code: 4100, reason: "origin" });
      const { code, message } = await errorOf(session);
      assert.deepEqual([code, message], ["origin", "No."]);
    }
  });

  test("(a refusal of something else than a code and a sentence) rejects", async () => {
    for (const refusal of [{}, { e: 7, m: {} }, { e: "", m: "" }, { e: null, m: null, d: null }]) {
      const session = await dialOpen();
      session.socket.deliver(JSON.stringify({ a: "joinR", s: false, ...refusal }));
      assert.equal((await errorOf(session)).code, "internal");
    }
  });

  test("(a refusal of what could not be read) rejects", async () => {
    const session = await dialOpen();
    session.socket.deliver(JSON.stringify({ a: "R", s: false, e: "too_large", m: "A request must not exceed 16 KiB." }));
    assert.equal((await errorOf(session)).code, "too_large");
  });

  test("(a player list with one who is none) changes nobody", async () => {
    const session = await joinOpen();
    const before = [...session.room.players.keys()];
    for (const sessions of [[{ player: 9, name: "Alan" }, null], [{ player: "9" }], 7])
      session.socket.deliver(JSON.stringify({ a: "eventRoomUsers", d: { sessions } }));
    assert.deepEqual([...session.room.players.keys()], before);
    assert.deepEqual(session.log, []);
    assert.equal(session.room.stats.bad, 3);
  });
});

describe("the end of a channel", () => {
  test("is not told of where the session ends too", async () => {
    for (const end of ["onclose", "failed"]) {
      const session = await joinOpen();
      if (end === "onclose") session.pc.channel.onclose();
      else session.pc.become({ connectionState: "failed" });
      await session.clock.advance(40);
      lose(session, 4003, "Too slow.");
      assert.deepEqual(session.of("error"), []);
      assert.equal(session.of("close")[0][0].message, "Too slow.");
    }
  });

  test("is told of when the session is known to go on, once", async () => {
    const session = await joinOpen();
    session.pc.channel.onclose();
    assert.deepEqual(session.of("error"), []);
    pong(session);
    pong(session);
    assert.deepEqual(session.of("error").map(([{ stage }]) => stage), ["channel"]);
    assert.match(session.of("error")[0][0].message, /continues over the websocket/);
  });

  test("while the websocket is lost is told of when it is back", async () => {
    const session = await joinOpen();
    lose(session);
    session.pc.channel.onclose();
    await session.clock.advance(250);
    session.socket.onopen();
    await microtasks();
    grant(session, { ...RESUMED, sdp: "the answer" });
    assert.equal(session.of("error").length, 1);
  });
});

describe("a page that wakes", () => {
  for (const type of ["pageshow", "visibilitychange", "online"]) {
    test(`has a minute of tries from ${type} on`, async () => {
      const session = await joinOpen();
      lose(session);
      session.clock.time += 59_000;
      session.page.dispatchEvent(new Event(type));
      let tries = 0;
      for (let i = 0; i < 500 && session.room.status !== "closed"; i++) {
        if (session.socket.closedWith === null && session.room.status === "resuming") lose(session), tries++;
        await session.clock.advance(100);
        if (i === 400) assert.notEqual(session.room.status, "closed", "40 s later");
      }
      assert.ok(tries > 5, `${tries} tries`);
    });
  }

  test("without an event has one too", async () => {
    const session = await joinOpen();
    lose(session);
    session.clock.time += 3_600_000;
    await session.clock.advance(0);
    lose(session);
    assert.equal(session.room.status, "dropped");
    await session.clock.advance(30_000);
    session.socket.onopen();
    await microtasks();
    grant(session, RESUMED);
    assert.equal(session.room.status, "open");
  });

  test("does not forget that an offer was not answered", async () => {
    const session = await joinOpen();
    const offers = () => session.socket.signals.filter(({ a }) => a === "exchangeSdp").length;
    session.pc.channel.onclose();
    await session.clock.advance(0);
    assert.equal(offers(), 1);
    session.page.dispatchEvent(new Event("pageshow"));
    await session.clock.advance(20_000);
    assert.equal(offers(), 2);
  });
});

test("a clock that stands still keeps no connect pending", async () => {
  const session = await dial({ now: () => 0 });
  for (let tries = 0; tries < 300; tries++) {
    session.socket.onopen?.();
    await microtasks();
    refuse(session, "rate_limited", { retryAfter: 1_000 }, "join");
    await session.clock.advance(1_500);
  }
  assert.equal((await errorOf(session)).code, "rate_limited");
  assert.equal(session.clock.pending, 0);
});
