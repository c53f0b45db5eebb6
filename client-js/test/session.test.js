import assert from "node:assert/strict";
import { test } from "node:test";
import { RtcadeError } from "../src/index.js";
import { EVENT, INPUT, PING, PONG, RELIABLE_EVENT, STATE, TICK, TICKS, COMMAND } from "../src/frame.js";
import { dial, dialOpen, down, downParts, grant, join, joinOpen, pong, REPLY, up, withoutPings } from "./fakes.js";

const inputsOf = (channel) =>
  up(channel.sent)
    .filter(({ kind }) => kind === INPUT)
    .map(({ body }) => body);
const lastError = ({ of }) => of("error").at(-1)?.[0];

test("joins in one round trip", async () => {
  const session = await dialOpen({ bearer: "b", appVersion: "7", data: { skin: "red" } });
  assert.equal(session.socket.url, "ws://play.example/r/lobby");
  assert.deepEqual(session.pc.configuration, { iceServers: [] });
  const { label, options } = session.pc.channel;
  assert.equal(label, "rtcade");
  assert.deepEqual(options, { negotiated: true, id: 0, ordered: false, maxRetransmits: 0 });
  assert.deepEqual(session.socket.signals, [
    {
      a: "join",
      d: { version: 0, sparseHeartbeats: true, bearer: "b", appVersion: "7", name: "Ada", data: { skin: "red" }, sdp: "the offer" },
    },
  ]);

  session.socket.deliver(JSON.stringify({ a: "joinR", s: true, d: REPLY }));
  const { room } = await session.outcome;
  const { name, me, welcome, tickMs, status } = room;
  assert.deepEqual(
    { name, me, welcome, tickMs, status },
    { name: "lobby", me: 3, welcome: { map: "castle" }, tickMs: 33, status: "connecting" },
  );
  assert.deepEqual([...room.players.values()], [
    { player: 3, socketId: "bb", userId: null, name: "Ada" },
    { player: 1, socketId: "aa", userId: "u1", name: "Grace" },
  ]);
  assert.deepEqual(session.pc.remoteDescription, { type: "answer", sdp: "the answer" });
});

test("a first join is no rejoin", async () => {
  const { of } = await join();
  assert.deepEqual(of("rejoin"), []);
});

test("the address may be the server's /api, with the room beside it", async () => {
  const session = await dialOpen({ room: "den" }, "https://play.example/api#top");
  assert.equal(session.socket.url, "wss://play.example/api");
  assert.equal(session.socket.signals[0].d.roomId, "den");
  session.socket.deliver(JSON.stringify({ a: "joinR", s: true, d: REPLY }));
  assert.equal((await session.outcome).room.name, "den");
});

test("a path, or nothing, is taken relative to the page", async (t) => {
  globalThis.location = { href: "https://play.example/r/cave?x=1#y" };
  t.after(() => delete globalThis.location);
  assert.equal((await dial({}, "/r/lobby")).socket.url, "wss://play.example/r/lobby");
  assert.equal((await dial({}, null)).socket.url, "wss://play.example/r/cave?x=1");
});

test("what is no address is refused in words", async () => {
  const { outcome } = await dial({}, "nowhere");
  assert.deepEqual((({ stage, code }) => ({ stage, code }))((await outcome).error), {
    stage: "signaling",
    code: "bad_address",
  });
});

for (const [code, stage] of [
  ["room_full", "signaling"],
  ["unauthorized", "signaling"],
  ["refused", "game"],
]) {
  test(`a join refused with ${code} rejects`, async () => {
    const session = await dialOpen();
    session.socket.deliver(JSON.stringify({ a: "joinR", s: false, e: code, m: "Not now." }));
    const { error } = await session.outcome;
    assert.ok(error instanceof RtcadeError);
    assert.deepEqual([error.stage, error.code, error.message], [stage, code, "Not now."]);
    assert.notEqual(session.socket.closedWith, null);
    assert.ok(session.pc.closed);
    assert.equal(session.clock.pending, 0);
  });
}

test("an answer that is none of ours rejects", async () => {
  const session = await dialOpen();
  session.socket.deliver("{");
  session.socket.deliver(JSON.stringify({ a: "joinR", s: true, d: { player: "me" } }));
  assert.equal((await session.outcome).error.code, "version_mismatch");
});

test("signaling has ten seconds", async () => {
  const session = await dialOpen();
  await session.clock.advance(9_999);
  assert.equal(session.socket.closedWith, null);
  await session.clock.advance(1);
  const { error } = await session.outcome;
  assert.deepEqual([error.stage, error.code], ["signaling", "timeout"]);
  assert.ok(session.pc.closed);
});

for (const [code, reason, expected] of [
  [1006, "", "unreachable"],
  [4100, "rate_limited", "rate_limited"],
  [4008, "shutdown", "shutdown"],
]) {
  test(`a websocket closed with ${code} before the reply rejects with ${expected}`, async () => {
    const session = await dial();
    session.socket.onclose({ code, reason });
    const { error } = await session.outcome;
    assert.deepEqual([error.stage, error.code], ["signaling", expected]);
  });
}

test("a browser without websockets is told so", async () => {
  const { outcome } = await dial({ WebSocket: null });
  assert.equal((await outcome).error.code, "unsupported");
});

test("the channel opens stage by stage", async () => {
  const session = await join();
  assert.equal(session.room.stats.transport, "websocket");
  session.pc.open();
  assert.deepEqual(session.of("status"), [["open"]]);
  assert.equal(session.room.stats.transport, "webrtc");
  await session.clock.advance(60_000);
  assert.deepEqual(session.of("error"), []);
});

for (const [stage, ms, reach] of [
  ["ice", 8_000, () => {}],
  ["dtls", 4_000, (pc) => pc.become({ iceConnectionState: "connected" })],
  [
    "channel",
    5_000,
    (pc) => {
      pc.become({ iceConnectionState: "completed" });
      pc.become({ connectionState: "connected" });
    },
  ],
]) {
  test(`${stage} has ${ms} ms, then the game goes over the websocket`, async () => {
    const session = await join();
    const { pc } = session;
    await session.clock.advance(1_000);
    const before = session.clock.time;
    reach(session.pc);
    const left = stage === "ice" ? ms - before : ms;
    await session.clock.advance(left - 1);
    assert.deepEqual(session.of("error"), []);
    await session.clock.advance(1);
    const { stage: failed, code, message } = lastError(session);
    assert.deepEqual([failed, code], [stage, "timeout"]);
    assert.match(message, /over the websocket/);
    assert.ok(pc.closed && session.pc !== pc, "another is offered at once");
    assert.equal(session.room.status, "open");
    assert.equal(session.room.stats.transport, "websocket");
    session.socket.sent = [];
    session.room.send("still playing");
    assert.deepEqual(inputsOf(session.socket), [[1, ["still playing"]]]);
  });
}

for (const [states, stage] of [
  [{ iceConnectionState: "failed" }, "ice"],
  [{ iceConnectionState: "connected", connectionState: "failed" }, "dtls"],
]) {
  test(`a failed ${stage} is told as soon as the session is known to go on`, async () => {
    const session = await join();
    session.pc.become(states);
    assert.deepEqual(session.of("error"), []);
    pong(session);
    assert.deepEqual([lastError(session).stage, lastError(session).code], [stage, "unreachable"]);
    assert.equal(session.room.status, "open");
  });
}

test("a lost channel is no lost game, and frames go on counting", async () => {
  const session = await joinOpen();
  session.room.send(1);
  const [last] = withoutPings(up(session.pc.channel.sent));
  session.pc.channel.onclose();
  pong(session);
  assert.equal(lastError(session).stage, "channel");
  assert.equal(session.room.status, "open");
  session.clock.time += 8;
  session.room.send(2);
  const [next] = withoutPings(up(session.socket.sent));
  assert.deepEqual(next.body, [2, [2, 1]]);
  assert.equal(next.seq, last.seq + 2, "a ping is between them");
  assert.equal(session.of("error").length, 1);
});

test("a channel that the server closes is told once, in its words", async () => {
  const session = await joinOpen();
  const d = { e: "channel_must_be_unreliable", m: "The channel is ordered." };
  session.socket.deliver(JSON.stringify({ a: "eventChannelClosed", d }));
  session.pc.channel.onclose?.();
  const { stage, code, message } = lastError(session);
  assert.deepEqual([stage, code], ["channel", d.e]);
  assert.match(message, /^The channel is ordered\./);
  assert.equal(session.of("error").length, 1);
  assert.ok(session.pc.closed);
  assert.equal(session.room.stats.transport, "websocket");
});

test("without WebRTC the game is played over the websocket", async () => {
  const session = await join({ RTCPeerConnection: null }, { sdp: undefined });
  assert.deepEqual([lastError(session).stage, lastError(session).code], ["ice", "unsupported"]);
  assert.deepEqual(session.of("status"), [["open"]]);
  assert.ok(!("sdp" in session.socket.signals[0].d));
});

test("a refused offer is told and the game played over the websocket", async () => {
  const sdpError = { e: "channel_must_be_unreliable", m: "The channel is reliable." };
  const session = await join({}, { sdp: undefined, sdpError });
  const error = lastError(session);
  assert.deepEqual([error.stage, error.code], ["ice", "channel_must_be_unreliable"]);
  assert.match(error.message, /^The channel is reliable\./);
  assert.ok(session.pcs[0].closed);
  assert.equal(session.room.status, "open");
});

test("an answer that the browser refuses is told", async () => {
  const session = await join({}, { sdp: "nonsense" });
  await session.clock.advance(0);
  assert.deepEqual([lastError(session).stage, lastError(session).code], ["ice", "bad_sdp"]);
  assert.match(lastError(session).message, /^The browser can't use the server's answer\. The game continues/);
});

test("events that come with the reply wait for the listeners of the code that awaits the room", async () => {
  const session = await dialOpen({});
  const { socket, clock } = session;
  const event = (seq, value) => socket.deliver(down(RELIABLE_EVENT, { reliable: true, seq, tick: 100 }, [100, value]));
  // As where a platform hands over several messages in one turn.
  grant(session, REPLY, "join");
  event(1, "with the reply");
  socket.deliver(JSON.stringify({ a: "eventJoin", d: { player: 4, name: "Barbara" } }));
  const heard = [];
  const { room } = await session.outcome;
  await Promise.resolve();
  await null;
  event(2, "in the same turn");
  room.on("event", (value) => heard.push(value));
  room.on("join", ({ name }) => heard.push(name));
  await clock.advance(0);
  const expected = ["with the reply", "Barbara", "in the same turn"];
  assert.deepEqual(heard, expected);
  event(3, "at once");
  assert.deepEqual(heard, [...expected, "at once"]);
});

test("a room that is left before anything was heard closes, and says so once", async () => {
  const session = await dialOpen({});
  grant(session, REPLY, "join");
  const { room } = await session.outcome;
  const closings = [];
  room.leave();
  room.on("close", ({ reason }) => closings.push(reason));
  room.leave();
  assert.equal(room.status, "closed");
  await session.clock.advance(0);
  assert.deepEqual(closings, ["left"]);
  assert.equal(session.clock.pending, 0);
});

test("of states the newest wins", async () => {
  const session = await joinOpen();
  const { channel } = session.pc;
  channel.deliver(down(STATE, { seq: 0 }, [101, "a"]));
  channel.deliver(down(STATE, { seq: 2 }, [103, "c"]));
  channel.deliver(down(STATE, { seq: 1 }, [102, "b"]));
  channel.deliver(down(STATE, { seq: 2 }, [103, "c"]));
  channel.deliver(down(STATE, { seq: 3, deflated: true }, [104, { d: "d".repeat(99) }]));
  assert.deepEqual(session.of("state"), [
    ["a", { tick: 101, consumed: 0 }],
    ["c", { tick: 103, consumed: 0 }],
    [{ d: "d".repeat(99) }, { tick: 104, consumed: 0 }],
  ]);
  const { late, duplicate, bad, received, tick } = session.room.stats;
  assert.deepEqual({ late, duplicate, bad, received, tick }, { late: 1, duplicate: 1, bad: 0, received: 4, tick: 104 });
});

test("states in parts survive reordering and not loss", async () => {
  const session = await joinOpen();
  const { channel } = session.pc;
  const big = "x".repeat(2_000);
  const parts = (seq, tick) => downParts(STATE, { seq }, [tick, big + tick], 1_000);
  for (const part of parts(0, 101).reverse()) channel.deliver(part);
  parts(3, 102).forEach((part, index) => index !== 1 && channel.deliver(part));
  for (const part of parts(6, 103)) channel.deliver(part);
  assert.deepEqual(session.of("state"), [
    [big + 101, { tick: 101, consumed: 0 }],
    [big + 103, { tick: 103, consumed: 0 }],
  ]);
  assert.equal(session.room.stats.bad, 0);
});

test("parts still work after 2^15 frames without any", async () => {
  const session = await joinOpen();
  const deliver = (seq, tick) =>
    downParts(STATE, { seq }, [tick, "x".repeat(150)], 100).forEach((part) => session.pc.channel.deliver(part));
  deliver(0, 101);
  for (let seq = 2; seq < 40_000; seq++) session.pc.channel.deliver(down(EVENT, { seq }, [102, null]));
  deliver(40_000, 103);
  assert.equal(session.of("state").length, 2);
});

test("an input leaves at once and is repeated every 50 ms until it is acknowledged", async () => {
  const session = await joinOpen();
  const { channel } = session.pc;
  session.room.send({ dx: 1 });
  assert.deepEqual(inputsOf(channel), [[1, [{ dx: 1 }]]]);
  await session.clock.advance(100);
  assert.equal(inputsOf(channel).length, 3);
  channel.deliver(down(EVENT, { seq: 0, ack: 1 }, [101, null]));
  await session.clock.advance(330);
  assert.equal(inputsOf(channel).length, 3);
});

test("an acknowledgement frees what it covers", async () => {
  const session = await joinOpen();
  session.room.send("a");
  session.room.send("b");
  session.pc.channel.deliver(down(EVENT, { seq: 0, ack: 1 }, [101, null]));
  await session.clock.advance(8);
  assert.deepEqual(inputsOf(session.pc.channel).at(-1), [2, ["b"]]);
});

test("inputs within 8 ms leave together", async () => {
  const session = await joinOpen();
  for (const input of ["a", "b", "c"]) session.room.send(input);
  assert.equal(inputsOf(session.pc.channel).length, 1);
  await session.clock.advance(8);
  assert.deepEqual(inputsOf(session.pc.channel), [
    [1, ["a"]],
    [3, ["c", "b", "a"]],
  ]);
});

test("a repeated frame does not hold up a new input", async () => {
  const session = await joinOpen();
  session.room.send("a");
  await session.clock.advance(20);
  session.room.send("b");
  assert.deepEqual(inputsOf(session.pc.channel).at(-1), [2, ["b", "a"]]);
});

test("at most eight inputs are repeated", async () => {
  const session = await joinOpen({}, { inputSeq: 50 });
  for (let i = 0; i < 12; i++) session.room.send(i);
  await session.clock.advance(8);
  assert.deepEqual(inputsOf(session.pc.channel).at(-1), [61, [11, 10, 9, 8, 7, 6, 5, 4]]);
});

test("inputs and commands past their limits throw and are not sent", async () => {
  const session = await joinOpen();
  const { room } = session;
  room.send("x".repeat(509));
  assert.throws(() => room.send("x".repeat(510)), { name: "RtcadeError", stage: "game", code: "too_large" });
  assert.throws(() => room.send(10n), { code: "bad_value" });
  room.command("x".repeat(16 * 1024 - 9 - 3));
  assert.throws(() => room.command("x".repeat(16 * 1024 - 9 - 2)), { code: "too_large" });
  assert.equal(inputsOf(session.pc.channel).length, 1);
  assert.equal(session.socket.sent.at(-1).length, 16 * 1024);
});

test("inputs and commands that can't be read are refused in words", async () => {
  const { room } = await joinOpen();
  const thrower = { get x() { throw null; } };
  const cycle = [];
  cycle.push(cycle);
  for (const send of [room.send, room.command])
    for (const value of [thrower, cycle, () => {}, Symbol("x"), 1n])
      assert.throws(() => send(value), { name: "RtcadeError", code: "bad_value" });
});

test("what can't be sent is named by its path", async () => {
  const { room } = await joinOpen();
  class Ship {}
  for (const [value, sentence] of [
    [{ units: [1, { ship: new Ship(), target: new Map() }] }, ".units[1].target is of type Map"],
    [[[], [() => {}]], "[1][0] is of type Function"],
    [{ at: new Date() }, ".at is of type Date"],
    [{ a: { get b() { throw new Error("not yet"); } } }, ".a.b throws"],
    [10n, "it is of type BigInt"],
    [new Proxy({}, { ownKeys() { throw null; } }), "it throws"],
  ]) {
    const rest = "Use null, booleans, numbers, strings, Uint8Arrays, arrays and plain objects.";
    assert.throws(() => room.send(value), { message: `An input can't be encoded: ${sentence}. ${rest}` });
    assert.throws(() => room.command(value), { message: `A command can't be encoded: ${sentence}. ${rest}` });
  }
});

const nested = (depth) => JSON.parse("[".repeat(depth) + "]".repeat(depth));

test("inputs and commands are nested 16 deep at most, and the error says so", async () => {
  const session = await joinOpen();
  for (const send of [session.room.send, session.room.command]) {
    send(nested(16));
    assert.throws(() => send(nested(17)), { code: "bad_value", message: /at most 16 levels of arrays and objects/ });
  }
  assert.deepEqual(inputsOf(session.pc.channel), [[1, [nested(16)]]]);
});

test("a command has at most 4,096 elements, as the server wants it", async () => {
  const { room } = await joinOpen();
  const items = (count) => [...Array(count - 1).fill(0), []];
  room.command(items(4096));
  for (const value of [items(4097), [items(4096)], { a: items(4095) }])
    assert.throws(() => room.command(value), { code: "too_large", message: /at most 4096 elements/ });
});

test("inputs of any depth that may be sent are read when they are fanned out", async () => {
  const session = await joinOpen();
  for (let depth = 1; depth <= 16; depth++) {
    const tick = 99 + depth;
    session.pc.channel.deliver(down(TICK, { seq: depth - 1 }, [tick, [[1, depth, nested(depth)]]]));
    assert.deepEqual(session.of("tick").at(-1)[0], { tick, inputs: [{ player: 1, number: depth, input: nested(depth) }] });
  }
  assert.equal(session.room.stats.bad, 0);
});

test("an answer that can't be read is lost at once, and ticks go on", async () => {
  for (const answer of [
    [101, [[1, 8, nested(17)]], []],
    [101, 7],
    ["101", [], []],
    [101, ...Array(200_000).fill([])],
  ]) {
    const session = await joinOpen();
    const { channel } = session.pc;
    channel.deliver(down(TICK, { seq: 0 }, [100, []]));
    channel.deliver(down(TICK, { seq: 1 }, [105, [], [], []]));
    session.socket.deliver(down(TICKS, { seq: 1, tick: 105, reliable: true }, answer));
    assert.deepEqual(session.of("tick").map(([{ tick }]) => tick), [100, 103, 104, 105]);
    assert.equal(lastError(session).code, "ticks_lost");
    assert.match(lastError(session).message, /101 to 102/);
    channel.deliver(down(TICK, { seq: 2 }, [108, []]));
    assert.deepEqual(up(session.socket.sent).at(-1).body, [106, 107], "the next gap is asked for");
    assert.equal(session.room.stats.bad, 1);
  }
});

test("commands go over the websocket, numbered from 1", async () => {
  const session = await joinOpen();
  session.room.command({ Say: "a" });
  session.room.command({ Say: "b" });
  assert.deepEqual(up(session.socket.sent), [
    { kind: COMMAND, seq: 1, tick: 100, body: { Say: "a" } },
    { kind: COMMAND, seq: 2, tick: 100, body: { Say: "b" } },
  ]);
});

test("nothing queues behind a backlog", async () => {
  const session = await joinOpen();
  session.pc.channel.bufferedAmount = 32 * 1024 + 1;
  session.room.send("a");
  assert.deepEqual(session.pc.channel.sent, []);
  assert.equal(session.room.stats.dropped, 1);
  session.pc.channel.bufferedAmount = 0;
  await session.clock.advance(50);
  const [frame] = withoutPings(up(session.pc.channel.sent));
  assert.deepEqual(frame.body, [1, ["a"]]);

  session.pc.channel.onclose();
  session.socket.sent = [];
  session.socket.bufferedAmount = 64 * 1024 + 1;
  await session.clock.advance(50);
  assert.deepEqual(session.socket.sent.filter((data) => typeof data !== "string"), []);
});

test("the server hears of the newest state and of the newest tick", async () => {
  const session = await joinOpen();
  session.pc.channel.deliver(down(STATE, { seq: 0 }, [0x1_2345, null]));
  session.room.send(1);
  session.room.command(1);
  assert.equal(withoutPings(up(session.pc.channel.sent))[0].ack, 0x2345 & 0x3ff);
  assert.equal(up(session.socket.sent)[0].tick, 0x1_2345);
});

test("states are acknowledged although there is nothing to send", async () => {
  const session = await joinOpen();
  const frames = () => withoutPings(up(session.pc.channel.sent));
  for (let n = 0; n < 12; n++) {
    session.pc.channel.deliver(down(STATE, { seq: n }, [101 + n, n]));
    assert.equal(frames().length, Math.floor((n + 1) / 6));
  }
  const acknowledged = frames().map(({ kind, ack, body }) => [kind, ack, body]);
  assert.deepEqual(acknowledged, [106, 112].map((newest, n) => [INPUT, newest | ((n ? 0x3f : 0x1f) << 10), [0, []]]));
});

test("ticks come in order, missed ones over the reliable lane", async () => {
  const session = await joinOpen();
  const { channel } = session.pc;
  channel.deliver(down(TICK, { seq: 0 }, [100, [[1, 7, "a"]], [[1, 6, "before the join"]]]));
  channel.deliver(down(TICK, { seq: 5 }, [105, [], [[3, 1, "e"]], []]));
  assert.deepEqual(up(session.socket.sent), [{ kind: TICKS, seq: 1, tick: 105, body: [101, 102] }]);
  assert.equal(session.of("tick").length, 1);
  session.socket.deliver(down(TICKS, { seq: 1, tick: 105, reliable: true }, [101, [[1, 8, "b"]], []]));
  assert.deepEqual(
    session.of("tick").map(([{ tick, inputs }]) => [tick, inputs]),
    [
      [100, [{ player: 1, number: 7, input: "a" }]],
      [101, [{ player: 1, number: 8, input: "b" }]],
      [102, []],
      [103, []],
      [104, [{ player: 3, number: 1, input: "e" }]],
      [105, []],
    ],
  );
});

test("ticks that are gone are told", async () => {
  const session = await joinOpen();
  session.pc.channel.deliver(down(TICK, { seq: 0 }, [500, []]));
  session.socket.deliver(down(TICKS, { seq: 1, tick: 500, reliable: true }, [450, ...Array(50).fill([])]));
  assert.deepEqual([lastError(session).stage, lastError(session).code], ["game", "ticks_lost"]);
  assert.equal(session.of("tick").length, 51);
});

test("a deflated answer past a frame's limit is read", async () => {
  const session = await joinOpen();
  session.pc.channel.deliver(down(TICK, { seq: 0 }, [310, []]));
  const lists = Array(210).fill(Array.from({ length: 64 }, (_, i) => [i + 1, 9, { dx: 1 }]));
  session.socket.deliver(down(TICKS, { seq: 1, tick: 310, reliable: true, deflated: true }, [100, ...lists]));
  assert.equal(session.of("tick").length, 211);
});

test("events come over both lanes", async () => {
  const session = await joinOpen();
  session.pc.channel.deliver(down(EVENT, { seq: 0 }, [101, { Hit: 1 }]));
  session.socket.deliver(down(RELIABLE_EVENT, { seq: 1, tick: 102, reliable: true }, [102, "Won"]));
  assert.deepEqual(session.of("event"), [
    [{ Hit: 1 }, 101, "unreliable"],
    ["Won", 102, "reliable"],
  ]);
});

test("frames over the websocket count as those over the channel", async () => {
  const session = await join();
  session.socket.deliver(down(STATE, { seq: 0 }, [101, "a"]));
  session.pc.open();
  session.pc.channel.deliver(down(STATE, { seq: 1 }, [102, "b"]));
  session.socket.deliver(down(STATE, { seq: 1 }, [102, "b"]));
  assert.equal(session.of("state").length, 2);
  assert.equal(session.room.stats.duplicate, 1);
});

test("pings once a second, over whatever is open, and answers the server's", async () => {
  const session = await join();
  const pings = (transport) => up(transport.sent).filter(({ kind }) => kind === PING);
  assert.deepEqual(pings(session.socket).map(({ body }) => body), [[0]]);
  await session.clock.advance(500);
  session.pc.open();
  await session.clock.advance(600);
  session.pc.channel.deliver(down(EVENT, { seq: 0 }, [101, null]));
  await session.clock.advance(1_000);
  assert.deepEqual(pings(session.pc.channel).map(({ body }) => body), [[500], [1_000], [2_000]]);
  assert.equal(pings(session.socket).length, 1);

  session.pc.channel.deliver(down(PING, { seq: 1 }, [0.125]));
  const pong = up(session.pc.channel.sent).at(-1);
  assert.deepEqual([pong.kind, pong.body], [PONG, [0.125]]);
});

test("a pong tells the round trip and the server's tick", async () => {
  const session = await joinOpen();
  assert.equal(session.room.stats.rtt, null);
  await session.clock.advance(1_040);
  session.pc.channel.deliver(down(PONG, { seq: 0 }, [1_000, 7_020.5, 130]));
  const { rtt, tick } = session.room.stats;
  assert.deepEqual({ rtt, tick }, { rtt: 40, tick: 130 });
});

test("what cannot be read is counted and changes nothing", async () => {
  const session = await joinOpen();
  const before = session.room.stats;
  const junk = [
    new Uint8Array(0),
    Uint8Array.of(STATE),
    Uint8Array.of(0x40 | STATE, 0, 0, 0, 0, 0xc0),
    down(STATE, { seq: 0 }, "not an array".length),
    down(STATE, { seq: 1 }, ["no tick", 1]),
    down(STATE, { seq: 2 }, []),
    down(TICK, { seq: 3 }, [101, [["short"]], 7]),
    down(PONG, { seq: 4 }, ["1", 2, 3]),
    down(PING, { seq: 5 }, ["x".repeat(99)]),
    down(RELIABLE_EVENT, { seq: 1, reliable: true }, [101, 1]),
  ];
  for (const bytes of junk) session.pc.channel.deliver(bytes);
  for (const text of ["{", "null", '{"a":"eventJoin"}', '{"a":"eventRoomUsers","d":{}}']) session.socket.deliver(text);
  session.socket.deliver('{"a":"eventFromTheFuture","d":1}');
  assert.equal(session.room.stats.bad, junk.length + 4);
  assert.deepEqual(session.log, []);
  assert.equal(session.room.stats.rtt, before.rtt);
  session.pc.channel.deliver(down(STATE, { seq: 9 }, [102, "fine"]));
  assert.deepEqual(session.of("state"), [["fine", { tick: 102, consumed: 0 }]]);
});

test("players come and go", async () => {
  const session = await joinOpen();
  const alan = { player: 4, socketId: "cc", userId: null, name: "Alan" };
  const signal = (a, d) => session.socket.deliver(JSON.stringify({ a, d }));
  signal("eventJoin", { ...alan, roomSize: 3 });
  signal("eventJoin", { ...alan, roomSize: 3 });
  assert.deepEqual(session.of("join"), [[alan]]);
  assert.deepEqual(session.room.players.get(4), alan);
  const turing = { ...alan, name: "Turing" };
  for (let n = 0; n < 2; n++) signal("eventRename", { ...turing, roomSize: 3 });
  assert.deepEqual(session.of("rename"), [[turing, "Alan"]]);
  assert.deepEqual(session.room.players.get(4), turing);
  signal("eventRoomUsers", { sessions: [...session.room.players.values()].map((known) => ({ ...known, name: alan.name })) });
  assert.deepEqual(session.of("rename").length, 1 + session.room.players.size, "also of what was missed");
  signal("eventLeave", { ...alan, roomSize: 2, reason: "kicked" });
  signal("eventLeave", { ...alan, roomSize: 2, reason: "kicked" });
  assert.deepEqual(session.of("leave"), [[alan, "kicked"]]);
  signal("eventRoomUsers", { sessions: [REPLY.sessions[1], alan] });
  assert.deepEqual([...session.room.players.keys()], [3, 4]);
  assert.equal(session.of("join").length, 2);
  assert.equal(session.of("leave").length, 2);
});

test("leaving says goodbye and ends everything", async () => {
  const session = await joinOpen();
  session.room.send(1);
  session.room.leave();
  session.room.leave();
  assert.deepEqual(session.socket.signals, [{ a: "leave" }]);
  assert.equal(session.socket.closedWith, 1000);
  assert.ok(session.pc.closed);
  assert.equal(session.clock.pending, 0);
  assert.deepEqual(session.of("status"), [["closed"]]);
  const [[closing]] = session.of("close");
  assert.deepEqual([closing.reason, closing.retry], ["left", false]);

  const sent = session.socket.sent.length;
  session.room.send(2);
  session.room.command(2);
  session.socket.deliver(down(EVENT, { seq: 0 }, [101, 1]));
  assert.equal(session.socket.sent.length, sent);
  assert.deepEqual(session.of("event"), []);
});

test("a closed websocket ends the session with its reason", async () => {
  const session = await joinOpen();
  session.socket.onclose({ code: 4003, reason: "kicked" });
  assert.equal(session.room.status, "closed");
  assert.deepEqual(session.of("close"), [
    [{ code: 4003, reason: "kicked", message: "You were removed from the room.", retry: false }],
  ]);
  assert.ok(session.pc.closed);
  assert.equal(session.clock.pending, 0);
});

test("a listener that subscribes anew hears the next event, not the same again", async () => {
  const session = await joinOpen();
  let heard = 0;
  let off = session.room.on("event", rearm);
  function rearm() {
    heard++;
    off();
    off = session.room.on("event", rearm);
  }
  session.pc.channel.deliver(down(EVENT, { seq: 0 }, [101, null]));
  assert.equal(heard, 1);
  session.pc.channel.deliver(down(EVENT, { seq: 1 }, [102, null]));
  assert.equal(heard, 2);
});

test("nothing follows the close event", async () => {
  const session = await joinOpen();
  const heard = [];
  const first = REPLY.tick;
  session.room.on("close", () => heard.push("close"));
  session.room.on("tick", ({ tick }) => {
    heard.push(tick);
    session.room.leave();
  });
  session.pc.channel.deliver(down(TICK, { seq: 0 }, [first + 1, [], []]));
  assert.deepEqual(heard, [first, "close"]);
});


test("a listener is unsubscribed, once, and no other with it", async () => {
  const session = await joinOpen();
  const calls = [];
  const listener = (event) => calls.push(event);
  const off = session.room.on("event", listener);
  session.room.on("event", listener);
  session.pc.channel.deliver(down(EVENT, { seq: 0 }, [101, "twice"]));
  off();
  off();
  session.pc.channel.deliver(down(EVENT, { seq: 1 }, [101, "once"]));
  assert.deepEqual(calls, ["twice", "twice", "once"]);
});

test("what a listener throws is reported and breaks nothing", async (t) => {
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  t.after(() => delete globalThis.reportError);
  const session = await joinOpen();
  session.room.on("state", () => {
    throw new Error("mine");
  });
  const after = [];
  session.room.on("state", (state) => after.push(state));
  session.pc.channel.deliver(down(STATE, { seq: 0 }, [101, "a"]));
  assert.deepEqual(reported, ["mine"]);
  assert.deepEqual(after, ["a"]);
  assert.equal(session.room.stats.bad, 0);
});

test("a state names its tick and the newest input that it reflects", async () => {
  const session = await joinOpen();
  const numbers = [1, 2, 3].map((input) => session.room.send(input));
  assert.deepEqual(numbers, [1, 2, 3]);
  const heard = [];
  session.room.on("state", (state, info) => heard.push([state, info]));
  session.pc.channel.deliver(down(STATE, { seq: 0, ack: 0 }, [101, "a"]));
  session.pc.channel.deliver(down(STATE, { seq: 1, ack: 2 }, [102, "b"]));
  assert.deepEqual(heard, [["a", { tick: 101, consumed: 0 }], ["b", { tick: 102, consumed: 2 }]]);
  session.room.leave();
  assert.equal(session.room.send(4), 0);
});

test("a listener is called once, or until it is taken off", async () => {
  const session = await joinOpen();
  const calls = [];
  const listener = (event) => calls.push(event);
  session.room.once("event", listener);
  session.pc.channel.deliver(down(EVENT, { seq: 0 }, [101, "first"]));
  session.pc.channel.deliver(down(EVENT, { seq: 1 }, [101, "second"]));
  assert.deepEqual(calls, ["first"]);
  session.room.on("event", listener);
  session.room.off("event", () => {});
  session.pc.channel.deliver(down(EVENT, { seq: 2 }, [101, "third"]));
  session.room.off("event", listener);
  session.pc.channel.deliver(down(EVENT, { seq: 3 }, [101, "fourth"]));
  assert.deepEqual(calls, ["first", "third"]);
  session.room.once("event", listener)();
  session.room.once("event", listener);
  session.room.off("event", listener);
  session.pc.channel.deliver(down(EVENT, { seq: 4 }, [101, "fifth"]));
  assert.deepEqual(calls, ["first", "third"]);
});

test("a listener may leave", async () => {
  const session = await join();
  session.room.on("error", () => session.room.leave());
  await session.clock.advance(8_000);
  assert.deepEqual(session.of("status"), [["closed"]]);
});
