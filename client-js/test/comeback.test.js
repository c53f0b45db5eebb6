import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ACK, COMMAND, EVENT, INPUT, PING, PONG, RELIABLE_EVENT, STATE } from "../src/frame.js";
import { dial, dialOpen, down, grant, heartbeat, join, joinOpen, microtasks, pong, refuse, REPLY, tab, up } from "./fakes.js";

const RESUMED = { ...REPLY, resume: "token 2", last: 0, reliableSeq: 1, sdp: undefined };
const NEW = { ...REPLY, player: 9, resume: "token 3", tick: 7, inputSeq: 1, sessions: [], welcome: { map: "moor" } };

const lose = ({ socket }, code = 1006, reason = "") => socket.onclose({ code, reason });
const statuses = ({ of }) => of("status").map(([status]) => status);
const kinds = (sent, wanted) => up(sent).filter(({ kind }) => kind === wanted);
const event = (seq, value) => down(RELIABLE_EVENT, { seq, tick: 101, reliable: true }, [101, value]);
const closing = ({ of }) => of("close").at(-1)?.[0];

/** The next websocket opens; gives the client's request on it. */
async function opens(session) {
  await microtasks();
  session.socket.onopen();
  await microtasks();
  return session.socket.signals.at(-1);
}

/** The websocket is lost, and another one is open that has asked for the session. */
async function redial(session) {
  const seen = session.sockets.length;
  lose(session);
  while (session.sockets.length === seen) await session.clock.advance(250);
  return opens(session);
}

const keptIn = (storage) => Object.values(storage.kept).map((text) => JSON.parse(text).resume);

for (const [code, reason, status] of [
  [1006, "", "dropped"],
  [1001, "", "dropped"],
  [4001, "closed", "dropped"],
  [4002, "timeout", "dropped"],
  [4007, "room_closed", "dropped"],
  [4008, "shutdown", "dropped"],
  [4100, "rate_limited", "dropped"],
  [1000, "", "closed"],
  [4003, "kicked", "closed"],
  [4004, "flood", "closed"],
  [4005, "bad_frame", "closed"],
  [4006, "replaced", "closed"],
  [4100, "room_full", "closed"],
]) {
  test(`a websocket closed with ${code} ${reason} leaves the room ${status}`, async () => {
    const session = await joinOpen();
    lose(session, code, reason);
    assert.equal(session.room.status, status);
    assert.equal(session.of("close").length, status === "closed" ? 1 : 0);
    await session.clock.advance(250);
    assert.equal(session.sockets.length, status === "closed" ? 1 : 2);
  });
}

describe("a return", () => {
  test("is one request, and the game notices nothing but the status", async () => {
    const session = await joinOpen();
    const { room, pc } = session;
    session.socket.deliver(event(1, "a"));
    session.socket.deliver(event(2, "b"));
    session.log.length = 0;
    const request = await redial(session);
    assert.equal(session.socket.url, "ws://play.example/r/lobby");
    const { socketId } = REPLY;
    assert.deepEqual(request, { a: "reconnect", d: { version: 0, sparseHeartbeats: true, socketId, resume: "token", last: 2 } });
    grant(session, RESUMED);
    assert.deepEqual(session.log, [["status", "dropped"], ["status", "resuming"], ["status", "open"]]);
    assert.equal(session.room, room);
    assert.equal(session.pc, pc, "the channel plays on");
    assert.deepEqual(kinds(session.socket.sent, ACK).map(({ seq, body }) => [seq, body]), [[0, [2]]]);

    assert.equal((await redial(session)).d.resume, "token 2");
  });

  test("brings a fresh offer where the channel is not open, or silent", async () => {
    for (const isOpen of [false, true]) {
      const session = isOpen ? await joinOpen() : await join();
      const first = session.pc;
      if (isOpen) await session.clock.advance(1_500);
      assert.equal((await redial(session)).d.sdp, "the offer");
      assert.notEqual(session.pc, first);
      grant(session, { ...RESUMED, sdp: "another answer" });
      assert.ok(first.closed);
      assert.equal(session.pc.remoteDescription.sdp, "another answer");
      assert.equal(session.room.status, "open");
      session.pc.open();
      assert.equal(session.room.stats.transport, "webrtc");
      assert.deepEqual(session.of("error"), []);
    }
  });

  test("goes on counting inputs, which the channel carries meanwhile", async () => {
    const session = await joinOpen();
    session.room.send("a");
    lose(session);
    await session.clock.advance(8);
    session.room.send("b");
    assert.deepEqual(kinds(session.pc.channel.sent, INPUT).at(-1).body, [2, ["b", "a"]]);
    session.pc.channel.deliver(down(EVENT, { seq: 0, ack: 1 }, [101, "heard"]));
    assert.deepEqual(session.of("event"), [["heard", 101, "unreliable"]]);
    await session.clock.advance(250);
    await opens(session);
    grant(session, RESUMED);
    await session.clock.advance(8);
    session.room.send("c");
    assert.deepEqual(kinds(session.pc.channel.sent, INPUT).at(-1).body, [3, ["c", "b"]]);
  });

  test("repeats the commands that the server has not had, and no others", async () => {
    const session = await joinOpen();
    const said = () => kinds(session.socket.sent, COMMAND).map(({ seq, body }) => [seq, body]);
    for (const command of ["a", "b", "c"]) session.room.command(command);
    session.socket.deliver(heartbeat(1));
    lose(session);
    session.room.command("d");
    assert.equal(said().length, 3, "what has no websocket waits");
    await session.clock.advance(250);
    await opens(session);
    grant(session, { ...RESUMED, last: 2 });
    assert.deepEqual(said(), [[3, "c"], [4, "d"]]);
    session.room.command("e");
    assert.deepEqual(said().at(-1), [5, "e"]);
  });

  test("repeats many commands at the pace at which the server takes them, in order", async () => {
    const session = await joinOpen();
    lose(session);
    for (let n = 1; n <= 10; n++) session.room.command(n);
    await session.clock.advance(250);
    await opens(session);
    grant(session, RESUMED);
    const said = () => kinds(session.socket.sent, COMMAND).map(({ body }) => body);
    assert.deepEqual(said(), [1, 2, 3, 4]);
    session.room.command(11);
    assert.equal(said().length, 4, "no command passes another");
    await session.clock.advance(REPLY.tickMs);
    assert.equal(said().length, 8);
    await session.clock.advance(REPLY.tickMs);
    assert.deepEqual(said(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  });

  test("takes each reliable message once", async () => {
    const session = await joinOpen();
    session.socket.deliver(event(1, "a"));
    await redial(session);
    grant(session, RESUMED);
    for (const [seq, value] of [[1, "a"], [2, "b"], [2, "b"], [3, "c"]]) session.socket.deliver(event(seq, value));
    assert.deepEqual(session.of("event").map(([value]) => value), ["a", "b", "c"]);
  });

  test("tells who came and went meanwhile", async () => {
    const session = await joinOpen();
    await redial(session);
    const alan = { player: 4, socketId: "cc", userId: null, name: "Alan" };
    grant(session, { ...RESUMED, sessions: [REPLY.sessions[1], alan] });
    assert.deepEqual(session.of("join"), [[alan]]);
    assert.deepEqual(session.of("leave"), [[REPLY.sessions[0], "left"]].map(([{ ...player }, reason]) => [player, reason]));
  });
});

for (const code of ["no_such_session", "unauthorized"]) {
  test(`after ${code} everything begins anew in the same room`, async () => {
    const session = await joinOpen({ bearer: "b", data: { skin: "red" } });
    const { room } = session;
    const players = room.players;
    const old = session.pc;
    room.command("lost with the session");
    room.send("the same");
    session.socket.deliver(event(5, "old"));
    await redial(session);
    session.log.length = 0;
    refuse(session, code);
    await microtasks();
    const { a, d } = session.socket.signals.at(-1);
    assert.equal(a, "join");
    const former = { socketId: REPLY.socketId, resume: REPLY.resume };
    const own = { name: "Ada", bearer: "b", data: { skin: "red" } };
    assert.deepEqual(d, { version: 0, sparseHeartbeats: true, ...own, former, sdp: "the offer" });
    grant(session, NEW, "join");
    assert.deepEqual(session.log, [["rejoin", NEW.welcome], ["status", "open"]]);
    const { me, welcome, stats } = room;
    assert.deepEqual({ me, welcome, tick: stats.tick }, { me: 9, welcome: NEW.welcome, tick: 7 });
    assert.equal(room.players, players);
    assert.deepEqual([...players.keys()], [9]);
    assert.ok(old.closed);

    session.socket.sent = [];
    session.clock.time += 8;
    room.send("x");
    room.command("y");
    session.socket.deliver(event(1, "new"));
    assert.deepEqual(kinds(session.socket.sent, INPUT).map(({ body }) => body), [[1, ["x"]]]);
    assert.deepEqual(kinds(session.socket.sent, COMMAND).map(({ seq, body }) => [seq, body]), [[1, "y"]]);
    assert.deepEqual(session.of("event"), [["new", 101, "reliable"]]);
    assert.equal((await redial(session)).d.resume, "token 3");
  });
}

test("a join that is refused after a return ends the room with its reason", async () => {
  const session = await joinOpen();
  await redial(session);
  refuse(session, "no_such_session");
  await microtasks();
  refuse(session, "room_full", {}, "join");
  assert.deepEqual(closing(session), { code: 4100, reason: "room_full", message: "No.", retry: false });
  assert.equal(session.room.status, "closed");
  assert.equal(session.clock.pending, 0);
});

describe("waiting", () => {
  test("doubles up to a cap, and has an end that is told", async () => {
    const session = await joinOpen();
    const tried = [];
    lose(session);
    const lostAt = session.clock.time;
    let seen = 1;
    for (let i = 0; i < 100 && session.room.status !== "closed"; i++) {
      const before = session.clock.time;
      while (session.sockets.length === seen && session.room.status !== "closed") await session.clock.advance(10);
      if (session.sockets.length > seen) tried.push(session.clock.time - before);
      seen = session.sockets.length;
      if (session.room.status !== "closed") lose(session);
    }
    assert.deepEqual(tried.slice(0, 8), [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000]);
    assert.ok(session.clock.time - lostAt > 50_000 && session.clock.time - lostAt <= 60_000);
    assert.deepEqual([closing(session).reason, closing(session).retry], ["unreachable", true]);
    assert.equal(session.clock.pending, 0);
  });

  test("ends when the page has said", async () => {
    for (const [reconnectTimeout, least, most] of [
      [0, 0, 0],
      [10_000, 7_000, 10_000],
      [600_000, 594_000, 600_000],
      [undefined, 54_000, 60_000],
      [NaN, 54_000, 60_000],
    ]) {
      const session = await joinOpen({ reconnectTimeout });
      lose(session);
      const lostAt = session.clock.time;
      for (let seen = 1; session.room.status !== "closed" && session.clock.time < 700_000; ) {
        await session.clock.advance(10);
        if (session.sockets.length > seen) lose(session);
        seen = session.sockets.length;
      }
      const took = session.clock.time - lostAt;
      assert.ok(session.room.status === "closed" && took >= least && took <= most, `${reconnectTimeout}: ${took}`);
    }
  });

  test("has no end where the page wants none", async () => {
    const session = await joinOpen({ reconnectTimeout: Infinity });
    lose(session);
    for (let seen = 1, tries = 0; tries < 500; await session.clock.advance(1_000)) {
      if (session.sockets.length === seen) continue;
      seen = session.sockets.length;
      tries++;
      if (tries % 2) lose(session);
      else refuse(session, "rate_limited", { retryAfter: 10_000 });
      await microtasks();
    }
    assert.notEqual(session.room.status, "closed");
  });

  test("is drawn from the whole of it", async () => {
    const session = await joinOpen({ random: () => 0 });
    lose(session);
    await session.clock.advance(0);
    assert.equal(session.sockets.length, 2, "at once, where chance says so");
  });

  test("does not begin anew where a return lasts no time", async () => {
    const session = await joinOpen();
    await redial(session);
    grant(session, RESUMED);
    lose(session, 4001);
    await session.clock.advance(499);
    assert.equal(session.sockets.length, 2);
    await session.clock.advance(1);
    await opens(session);
    grant(session, RESUMED);
    await session.clock.advance(5_001);
    lose(session);
    await session.clock.advance(250);
    assert.equal(session.sockets.length, 4);
  });

  test("for an answer has an end", async () => {
    const session = await joinOpen();
    await redial(session);
    await session.clock.advance(4_999);
    assert.equal(session.room.status, "resuming");
    await session.clock.advance(1);
    assert.equal(session.room.status, "dropped");
    assert.equal(session.socket.closedWith, "no code");
  });

  for (const where of ["beside", "within"]) {
    test(`is as long as the server says ${where} the refusal`, async () => {
      const session = await joinOpen();
      await redial(session);
      refuse(session, "no_such_session");
      await microtasks();
      const told = { retryAfter: 20_000 };
      refuse(session, "rate_limited", where === "beside" ? told : { d: told }, "join");
      session.page.dispatchEvent(new Event("online"));
      await session.clock.advance(20_499);
      assert.equal(session.sockets.length, 2, "the server's word goes before a page that wakes");
      await session.clock.advance(1);
      assert.equal(session.sockets.length, 3);
      await opens(session);
      grant(session, RESUMED);
      assert.equal(session.room.status, "open");
    });
  }

  test("for a server that puts off again and again has an end too", async () => {
    const session = await joinOpen();
    lose(session);
    const lostAt = session.clock.time;
    for (let i = 0; i < 100 && session.room.status !== "closed"; i++) {
      const seen = session.sockets.length;
      for (let n = 0; n < 100 && session.sockets.length === seen && session.room.status !== "closed"; n++) {
        await session.clock.advance(500);
      }
      if (session.sockets.length === seen) continue;
      await opens(session);
      refuse(session, "rate_limited", { retryAfter: 20_000 });
    }
    assert.equal(closing(session).reason, "rate_limited");
    const tookMs = session.clock.time - lostAt;
    assert.ok(tookMs > 240_000 && tookMs <= 300_000, `${tookMs} ms`);
  });

  test("names the time of the next try, which can be made at once", async () => {
    const session = await joinOpen();
    const { room, clock } = session;
    assert.equal(room.retryAt, null);
    lose(session);
    for (const wait of [250, 500, 1_000]) {
      assert.equal(room.retryAt, clock.time + wait);
      room.retryNow();
      room.retryNow();
      assert.deepEqual([room.status, room.retryAt], ["resuming", null], "one try at a time");
      const tried = session.sockets.length;
      await clock.advance(wait);
      assert.equal(session.sockets.length, tried, "nothing is left of the wait");
      lose(session);
    }
    room.leave();
    room.retryNow();
    assert.deepEqual([room.status, room.retryAt, clock.pending], ["closed", null, 0]);

    const open = await joinOpen();
    open.room.retryNow();
    assert.equal(open.sockets.length, 1, "there is nothing to come back to");
  });

  test("can be left", async () => {
    for (const reach of [() => {}, ({ clock }) => clock.advance(250)]) {
      const session = await joinOpen();
      lose(session);
      await reach(session);
      session.room.leave();
      assert.deepEqual([closing(session).reason, session.room.status], ["left", "closed"]);
      assert.equal(session.clock.pending, 0);
      if (session.sockets.length > 1) assert.equal(session.socket.closedWith, 1000, "the session may be ours already");
      await session.clock.advance(60_000);
      assert.ok(session.sockets.length <= 2);
    }
  });
});

describe("the first connection", () => {
  test("waits as the server says", async () => {
    const session = await dialOpen();
    refuse(session, "rate_limited", { retryAfter: 3_000 }, "join");
    await session.clock.advance(3_500);
    assert.equal(session.sockets.length, 2);
    assert.equal((await opens(session)).a, "join");
    grant(session, REPLY, "join");
    assert.equal((await session.outcome).room.me, 3);
  });

  test("waits a minute at most", async () => {
    const session = await dialOpen();
    refuse(session, "rate_limited", { retryAfter: 40_000 }, "join");
    await session.clock.advance(40_500);
    await opens(session);
    refuse(session, "rate_limited", { retryAfter: 40_000 }, "join");
    assert.equal((await session.outcome).error.code, "rate_limited");
  });
});

describe("a silent websocket", () => {
  test("is given up after five seconds", async () => {
    const session = await joinOpen();
    const { socket, clock } = session;
    clock.beat = null;
    await clock.advance(5_000);
    assert.equal(session.room.status, "open");
    await clock.advance(1_000);
    assert.equal(session.room.status, "dropped");
    assert.equal(socket.closedWith, "no code", "or the server would take it for a goodbye");
  });

  test("has the time of two more heartbeats while the channel delivers", async () => {
    const session = await joinOpen();
    const { clock, pc, room } = session;
    clock.beat = null;
    for (let tick = 1; tick <= 14; tick++) {
      await clock.advance(500);
      pc.channel.deliver(down(STATE, { seq: tick }, [tick, null]));
      assert.equal(room.status, "open", `after ${tick / 2} s`);
    }
    for (let tick = 15; tick <= 18; tick++) {
      await clock.advance(500);
      pc.channel.deliver(down(STATE, { seq: tick }, [tick, null]));
    }
    assert.notEqual(room.status, "open");
  });

  test("and a channel that falls silent with it leave the time of an outage", async () => {
    const session = await joinOpen();
    const { clock, pc, room } = session;
    clock.beat = null;
    for (let tick = 1; tick <= 7; tick++) {
      await clock.advance(500);
      pc.channel.deliver(down(STATE, { seq: tick }, [tick, null]));
    }
    await clock.advance(3_000);
    assert.equal(room.status, "open", "nothing for 3 s");
    await clock.advance(2_000);
    assert.notEqual(room.status, "open");
  });

  test("is alive while heartbeats come", async () => {
    const session = await joinOpen();
    await session.clock.advance(60_000);
    assert.deepEqual(session.of("status"), []);
  });

  test("of a page that was frozen has one more heartbeat's time", async () => {
    for (const isAlive of [true, false]) {
      const session = await joinOpen();
      const { clock } = session;
      clock.beat = null;
      clock.time += 20_000;
      await clock.advance(1_500);
      assert.equal(session.room.status, "open");
      if (isAlive) session.socket.deliver(heartbeat(0));
      await clock.advance(1_500);
      assert.equal(statuses(session)[0], isAlive ? undefined : "dropped");
    }
  });
});

for (const type of ["online", "pageshow", "visibilitychange"]) {
  describe(`on ${type}`, () => {
    const wake = ({ page }) => page.dispatchEvent(new Event(type));

    test("a websocket that was heard of is kept", async () => {
      const session = await joinOpen();
      await session.clock.advance(2_000);
      wake(session);
      assert.equal(session.sockets.length, 1);
    });

    test("a stale one is replaced at once", async () => {
      const session = await joinOpen();
      session.clock.time += 2_001;
      wake(session);
      assert.equal(session.sockets.length, 2);
      assert.deepEqual(statuses(session), ["dropped", "resuming"]);
    });

    test("one beside a channel that delivers is kept", async () => {
      const session = await joinOpen();
      session.clock.time += 2_001;
      session.pc.channel.deliver(down(STATE, { seq: 1 }, [1, null]));
      wake(session);
      assert.equal(session.sockets.length, 1);
    });

    test("nobody waits", async () => {
      const session = await joinOpen();
      for (let attempt = 1; attempt <= 5; attempt++) {
        lose(session);
        wake(session);
        assert.equal(session.sockets.length, 1 + attempt);
      }
    });

    test("an attempt that hangs is made again, a fresh one is not", async () => {
      const session = await joinOpen();
      await redial(session);
      wake(session);
      assert.equal(session.sockets.length, 2);
      session.clock.time += 2_001;
      wake(session);
      assert.equal(session.sockets.length, 3);
      assert.notEqual(session.sockets[1].closedWith, null);
      await opens(session);
      grant(session, RESUMED);
      assert.equal(session.room.status, "open");
    });

    test("nothing happens in a closed room", async () => {
      const session = await joinOpen();
      session.room.leave();
      session.clock.time += 10_000;
      wake(session);
      assert.equal(session.sockets.length, 1);
    });
  });
}

describe("a page that is loaded anew", () => {
  test("goes on with the session that the one before has kept", async () => {
    const before = tab();
    const first = await joinOpen({ storage: before });
    assert.deepEqual(keptIn(before), ["token"]);
    first.page.dispatchEvent(new Event("pagehide"));
    assert.deepEqual(first.socket.signals, [], "the browser's own goodbye says that it may come back");
    assert.equal(first.room.status, "open");

    const storage = tab(before.kept);
    const session = await dialOpen({ storage });
    const { socketId } = REPLY;
    assert.deepEqual(session.socket.signals, [
      { a: "reconnect", d: { version: 0, sparseHeartbeats: true, socketId, resume: "token", last: null, sdp: "the offer" } },
    ]);
    grant(session, { ...RESUMED, inputSeq: 40, last: 6, reliableSeq: 12, sdp: "the answer" });
    const { room } = await session.outcome;
    assert.deepEqual([room.me, room.welcome, room.players.size], [3, { map: "castle" }, 2]);
    assert.deepEqual(keptIn(storage), ["token 2"]);
    room.send("x");
    room.command("y");
    assert.deepEqual(kinds(session.socket.sent, INPUT)[0].body, [40, ["x"]]);
    assert.equal(kinds(session.socket.sent, COMMAND)[0].seq, 7);
    assert.equal((await redial(session)).d.last, 11, "nothing is missed, though nothing has come");
  });

  test("joins over the same websocket where the session is gone", async () => {
    const before = tab();
    await joinOpen({ storage: before });
    const storage = tab(before.kept);
    const session = await dialOpen({ storage });
    refuse(session, "no_such_session");
    await microtasks();
    assert.deepEqual(session.socket.signals.map(({ a }) => a), ["reconnect", "join"]);
    grant(session, REPLY, "join");
    assert.equal((await session.outcome).room.me, 3);
    assert.deepEqual(keptIn(storage), ["token"]);
  });

  for (const [how, end] of [
    ["left", ({ room }) => room.leave()],
    ["was put out", (session) => lose(session, 4003)],
    ["was replaced", (session) => lose(session, 4006)],
  ]) {
    test(`joins anew after its player ${how}`, async () => {
      const storage = tab();
      const session = await joinOpen({ storage });
      end(session);
      assert.deepEqual(storage.kept, {});
      assert.equal((await dialOpen({ storage })).socket.signals[0].a, "join");
    });
  }

  test("does not take a session from another connection of its own", async () => {
    const storage = tab();
    await joinOpen({ storage });
    const second = await joinOpen({ storage });
    assert.equal(second.socket.url, "ws://play.example/r/lobby");
    assert.equal((await dialOpen({ storage })).socket.signals[0].a, "join");
    second.room.leave();
    assert.deepEqual(keptIn(storage), ["token"], "it is the first one's");
    assert.equal((await dialOpen({ storage, room: "lobby" }, "http://play.example/api")).socket.signals[0].a, "join");
  });

  test("can do without storage, and with one that throws or holds nonsense", async () => {
    const forbidden = () => {
      throw new Error("SecurityError");
    };
    const key = "rtcade ws://play.example/r/lobby ";
    for (const storage of [
      undefined,
      { getItem: forbidden, setItem: forbidden, removeItem: forbidden },
      tab({ [key]: "{" }),
      tab({ [key]: "null" }),
      tab({ [key]: '{"resume":7}' }),
    ]) {
      const session = await joinOpen({ storage });
      assert.equal(session.room.status, "open");
      session.room.leave();
    }
  });
});

describe("a channel that is open and silent", () => {
  const transports = ({ socket, pc }) => [socket, pc.channel].map(({ sent }) => kinds(sent, INPUT).length);

  test("is passed by after 1.5 s until it brings something", async () => {
    const session = await joinOpen();
    await session.clock.advance(1_499);
    session.room.send(1);
    assert.deepEqual(transports(session), [0, 1]);
    await session.clock.advance(51);
    assert.deepEqual(transports(session), [1, 1]);
    assert.equal(session.room.stats.transport, "websocket");
    session.socket.deliver(down(EVENT, { seq: 0 }, [101, "a"]));
    session.pc.channel.deliver(down(EVENT, { seq: 0 }, [101, "a"]));
    session.pc.channel.deliver(down(EVENT, { seq: 1 }, [102, "b"]));
    assert.deepEqual(session.of("event").map(([value]) => value), ["a", "b"], "nothing comes twice");
    assert.equal(session.room.stats.transport, "webrtc");
    await session.clock.advance(50);
    assert.deepEqual(transports(session), [1, 2]);
    assert.deepEqual(session.of("status").concat(session.of("error")), []);
  });

  test("is asked each second whether it is there", async () => {
    const session = await joinOpen();
    await session.clock.advance(4_000);
    const pings = kinds(session.pc.channel.sent, PING).map(({ body: [clock] }) => clock);
    assert.deepEqual(pings.slice(-2), [3_000, 4_000]);
    assert.ok(kinds(session.socket.sent, PING).length >= 2);
  });
});

describe("a channel in doubt", () => {
  const state = (n) => down(STATE, { seq: n }, [100 + n, n]);
  const pings = ({ socket, pc }) => [socket, pc.channel].map(({ sent }) => kinds(sent, PING).length);
  const inputs = ({ socket, pc }) => [socket, pc.channel].map(({ sent }) => kinds(sent, INPUT).length);
  const streaming = async (count = 30, interval = 33) => {
    const session = await joinOpen();
    for (let n = 0; n < count; n++) {
      session.pc.channel.deliver(state(n));
      await session.clock.advance(interval);
    }
    session.socket.sent = [];
    session.pc.channel.sent = [];
    return session;
  };

  test("asks both ways when a steady stream stops, and is passed by when the websocket answers", async () => {
    const session = await streaming(20);
    await session.clock.advance(330 - 33 - 1);
    assert.deepEqual(pings(session), [0, 0]);
    await session.clock.advance(1);
    assert.deepEqual(pings(session), [1, 1]);
    assert.equal(session.room.stats.transport, "webrtc", "the websocket may be as dead");
    session.socket.deliver(state(20));
    assert.equal(session.room.stats.transport, "websocket");
    session.room.send(1);
    assert.deepEqual(inputs(session), [1, 0]);
    session.pc.channel.deliver(state(31));
    assert.equal(session.room.stats.transport, "websocket", "one way is not both");
    session.pc.channel.deliver(down(PONG, { seq: 32 }, [session.clock.time, 5, 132]));
    assert.equal(session.room.stats.transport, "webrtc");
    assert.deepEqual(session.of("error"), []);
  });

  test("is none where the stream was not steady, or goes on slower", async () => {
    const brief = await streaming(8);
    const slow = await streaming(20, 150);
    for (const session of [brief, slow]) {
      const before = pings(session);
      await session.clock.advance(999);
      assert.ok(pings(session)[0] === 0 && pings(session)[1] <= before[1] + 1);
    }
    const session = await streaming();
    for (let n = 30; n < 40; n++) {
      session.pc.channel.deliver(state(n));
      await session.clock.advance(132);
    }
    assert.equal(pings(session)[0], 0);
  });

  test("is none in a page that was frozen until it has read what came", async () => {
    const session = await streaming();
    session.clock.time += 1_000;
    await session.clock.advance(0);
    assert.equal(pings(session)[0], 0);
    session.pc.channel.deliver(state(30));
    await session.clock.advance(200);
    assert.equal(pings(session)[0], 0);
  });

  test("begins when inputs stay unacknowledged although states come", async () => {
    const session = await joinOpen();
    const play = async (count, ack) => {
      for (let n = 0; n < count; n++) {
        session.room.send(n);
        session.pc.channel.deliver(down(STATE, { seq: seq++, ack: ack(n) }, [100 + seq, n]));
        await session.clock.advance(33);
      }
    };
    let seq = 0;
    let sent = 0;
    await play(100, () => sent++);
    assert.equal(inputs(session)[0], 0, "all is acknowledged");
    await play(100, () => sent);
    session.socket.sent = [];
    session.pc.channel.sent = [];
    await play(10, () => sent);
    assert.ok(inputs(session)[0] >= 10 && inputs(session)[1] === 0, `${inputs(session)}`);
    assert.equal(session.room.stats.transport, "websocket");
  });
});

describe("a channel that has failed", () => {
  const offers = ({ sockets }) =>
    sockets.flatMap(({ signals }) => signals.filter(({ a }) => a === "exchangeSdp").map(({ i }) => i));
  const answer = ({ socket }, i, more = { s: true, d: { sdp: "the answer" } }) =>
    socket.deliver(JSON.stringify({ a: "exchangeSdpR", i, ...more }));

  test("is offered again at a slow pace, and told of once", async () => {
    const session = await joinOpen();
    session.pc.channel.onclose();
    const waits = [];
    for (let offer = 1; offer <= 5; offer++) {
      const before = session.clock.time;
      for (let n = 0; n < 100 && offers(session).length < offer; n++) await session.clock.advance(1_000);
      waits.push(session.clock.time - before);
      assert.deepEqual(session.socket.signals.at(-1).d, { to: "server", sdp: "the offer" });
      answer(session, offer);
      session.pc.become({ iceConnectionState: "failed" });
      pong(session);
    }
    assert.deepEqual(waits, [1_000, 10_000, 20_000, 40_000, 60_000], "the first at once");
    assert.equal(session.of("error").length, 1);
    assert.deepEqual(session.of("status"), []);
  });

  test("opens again, and a later failure is told of anew", async () => {
    const session = await joinOpen();
    session.pc.channel.onclose();
    pong(session);
    await session.clock.advance(0);
    answer(session, 1);
    session.pc.open();
    assert.equal(session.room.stats.transport, "webrtc");
    session.pc.channel.onclose();
    pong(session);
    assert.equal(session.of("error").length, 2);
    await session.clock.advance(9_999);
    assert.equal(offers(session).length, 1, "it was not open for long");
    await session.clock.advance(1);
    assert.equal(offers(session).length, 2);
    answer(session, 2);
    session.pc.open();
    await session.clock.advance(10_000);
    session.pc.channel.onclose();
    await session.clock.advance(0);
    assert.equal(offers(session).length, 3, "at once");
  });

  test("is offered at once when the net is back", async () => {
    const session = await joinOpen();
    session.pc.channel.onclose();
    session.page.dispatchEvent(new Event("online"));
    await microtasks();
    assert.equal(offers(session).length, 1);
  });

  for (const [what, reply] of [
    ["a refusal", (session) => answer(session, 1, { s: false, e: "bad_sdp", m: "No." })],
    ["no answer", ({ clock }) => clock.advance(10_000)],
  ]) {
    test(`is offered again after ${what}`, async () => {
      const session = await joinOpen();
      session.pc.channel.onclose();
      await session.clock.advance(0);
      await reply(session);
      await session.clock.advance(10_000);
      assert.equal(offers(session).length, 2);
    });
  }

  test("is not offered where there is no WebRTC", async () => {
    const session = await join({ RTCPeerConnection: null });
    await session.clock.advance(200_000);
    session.page.dispatchEvent(new Event("online"));
    await microtasks();
    assert.deepEqual(offers(session), []);
    assert.equal(session.of("error").length, 1);
  });

  test("while the websocket is lost too comes with the return", async () => {
    const session = await joinOpen();
    lose(session);
    session.pc.channel.onclose();
    await session.clock.advance(250);
    assert.equal((await opens(session)).d.sdp, "the offer");
  });
});

test("commands that the server does not take are an error, not a longer queue", async () => {
  const session = await joinOpen();
  const command = "x".repeat(16_000);
  for (let n = 0; n < 4; n++) session.room.command(command);
  assert.throws(() => session.room.command(command), { name: "RtcadeError", stage: "game", code: "backlog" });
  session.socket.deliver(heartbeat(1));
  session.room.command(command);
  assert.equal(kinds(session.socket.sent, COMMAND).length, 5);
});

test("the server hears once what reliable messages have come", async () => {
  const session = await joinOpen();
  const acks = () => kinds(session.socket.sent, ACK).map(({ seq, body }) => [seq, body]);
  session.socket.deliver(heartbeat(0));
  assert.deepEqual(acks(), [], "nothing has come");
  session.socket.deliver(event(1, "a"));
  session.socket.deliver(event(2, "b"));
  session.socket.deliver(heartbeat(0));
  session.socket.deliver(heartbeat(0));
  assert.deepEqual(acks(), [[0, [2]]]);
});

test("an address that is none rejects and keeps nothing", async () => {
  const storage = tab();
  assert.equal((await (await dial({ storage }, "http://")).outcome).error.code, "bad_address");
  assert.deepEqual(storage.kept, {});
});
