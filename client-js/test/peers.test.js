import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, mock, test } from "node:test";
import { openPeers } from "../src/peers.js";
import { join } from "./fakes.js";
import { connections, FakePeerConnection, net } from "./peer-connections.js";

const turns = async (count = 40) => {
  for (let n = 0; n < count; n++) await new Promise((resolve) => setImmediate(resolve));
};
/** Lets time pass, with whatever happens meanwhile. */
const pass = async (ms) => {
  for (; ms > 0; ms -= 100) {
    mock.timers.tick(Math.min(ms, 100));
    await turns(8);
  }
};

/** The rooms of several pages on one server, which relays as src/server/relay.rs does. */
function createServer() {
  const rooms = new Map();
  const relayed = [];
  let refused = 0;
  /** What each socketId has sent in this second. */
  let counts = {};
  setInterval(() => (counts = {}), 1000);
  const server = {
    relayed,
    /** Whether a message is lost on its way. */
    loses: () => false,
    get refused() {
      return refused;
    },

    join(me, socketId = `socket ${me}`) {
      const listeners = new Set();
      const info = { player: me, name: "", userId: null, socketId };
      const emit = (type, ...details) => {
        for (const entry of [...listeners]) if (entry.type === type) entry.listener(...details);
      };
      const room = {
        me,
        status: "open",
        players: new Map([[me, info]]),
        emit,
        on(type, listener) {
          const entry = { type, listener };
          listeners.add(entry);
          return () => listeners.delete(entry);
        },
        get listening() {
          return listeners.size;
        },
        become(status) {
          room.status = status;
          emit("status", status);
        },
        signal(message) {
          const { a, d } = JSON.parse(JSON.stringify(message));
          assert.equal(a, "exchangeSdp");
          assert.ok(Buffer.byteLength(d.sdp) <= 8 * 1024 && JSON.stringify(message).length <= 16 * 1024, "the server's limits");
          counts[socketId] = (counts[socketId] ?? 0) + 1;
          if (counts[socketId] > 50) refused++;
          if (counts[socketId] > 50 || server.loses(d, me) || !["open", "connecting"].includes(room.status)) return;
          relayed.push({ from: me, ...d });
          const receiver = [...rooms.values()].find(({ own }) => own.socketId === d.to);
          if (!receiver || !["open", "connecting"].includes(receiver.room.status)) return;
          setImmediate(() => receiver.room.emit("eventExchangeSdp", { d: { from: { socketId, userId: null }, sdp: d.sdp } }));
        },
      };
      for (const other of rooms.values()) {
        room.players.set(other.own.player, other.own);
        other.room.players.set(me, info);
        other.room.emit("join", info);
      }
      rooms.set(me, { room, own: info });
      return room;
    },

    leave(player) {
      const { own } = rooms.get(player);
      rooms.delete(player);
      for (const { room } of rooms.values()) {
        room.players.delete(player);
        room.emit("leave", own, "left");
      }
    },

    /** The page of a player is loaded again, and continues the session. */
    reload(player) {
      const { own } = rooms.get(player);
      const others = [...rooms.values()].filter(({ own }) => own.player !== player);
      rooms.delete(player);
      const room = server.join(player, own.socketId);
      for (const other of others) assert.ok(room.players.has(other.own.player));
      return room;
    },
  };
  return server;
}

/** What the peers of a page say. */
function watch(peers) {
  const log = [];
  for (const type of ["peer", "state", "message", "track"]) {
    peers.on(type, (detail, peer) => log.push({ type, detail, peer }));
  }
  return {
    messages: () => log.filter(({ type }) => type === "message").map(({ detail }) => detail.value),
    of: (wanted) => log.filter(({ type }) => type === wanted).map(({ detail }) => detail),
  };
}

let server;
const open = (room, options) => {
  const peers = openPeers(room, options);
  return { room, peers, ...watch(peers) };
};
/** Two pages, each with the other's peer. */
async function pair(isWaiting = true) {
  const one = open(server.join(1));
  const two = open(server.join(2));
  one.peer = one.peers.peer(2);
  two.peer = two.peers.peer(1);
  if (isWaiting) await pass(500);
  return [one, two];
}
const statusesOf = (...ends) => ends.map(({ peer }) => peer.status);
/** The signals in what was relayed. */
const signals = (key) => server.relayed.filter(({ sdp }) => sdp.includes(`{"${key}":`));

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  globalThis.RTCPeerConnection = FakePeerConnection;
  net.isBlocked = false;
  net.gathersAfter = 1;
  server = createServer();
});
afterEach(() => {
  for (const pc of connections()) pc.close();
  mock.timers.reset();
  delete globalThis.RTCPeerConnection;
});

describe("two players", () => {
  test("who offer at once are connected by one connection each, and talk over both lanes", async () => {
    const [one, two] = await pair();
    assert.deepEqual(statusesOf(one, two), ["direct", "direct"]);
    assert.equal(connections().length, 2);
    assert.equal(one.peer.send([1, "ä😀"]), true);
    assert.equal(two.peer.sendReliable({ a: null }), true);
    await pass(100);
    assert.deepEqual(two.of("message"), [{ value: [1, "ä😀"], reliable: false }]);
    assert.deepEqual(one.of("message"), [{ value: { a: null }, reliable: true }]);
    const [{ channels }] = connections();
    assert.deepEqual(channels.map(({ options: { ordered, maxRetransmits } }) => [ordered, maxRetransmits]), [[false, 0], [true, undefined]]);
    assert.equal(one.peers.bad + two.peers.bad, 0);
  });

  test("are connected where one of them asks, and the other is told", async () => {
    const one = open(server.join(1));
    const two = open(server.join(2));
    const peer = two.peers.peer(1);
    await pass(500);
    assert.equal(peer.status, "direct");
    assert.deepEqual(one.of("peer").map(({ player, status }) => [player, status]), [[2, "direct"]]);
    assert.equal(one.peers.peer(2), one.of("peer")[0]);
    assert.equal(signals("d").length, 2, "an offer and an answer");
  });

  test("are connected once the other has opened its peers", async () => {
    const one = open(server.join(1));
    const late = server.join(2);
    const peer = one.peers.peer(2);
    await pass(30_000);
    assert.equal(peer.status, "connecting", "nobody is there to relay to");
    open(late);
    await pass(5_500);
    assert.equal(peer.status, "direct");
  });

  test("open channels of their own, which one of both takes or not", async () => {
    const [one, two] = await pair();
    const taken = [];
    two.peers.on("datachannel", (channel, { player }) => {
      if (channel.label !== "mine") return;
      channel.onmessage = ({ data }) => taken.push([player, data]);
    });
    const mine = one.peer.createDataChannel("mine");
    const other = one.peer.createDataChannel("other");
    await turns();
    assert.deepEqual([mine.readyState, other.readyState], ["open", "closed"]);
    mine.send("bytes");
    await turns();
    assert.deepEqual(taken, [[1, "bytes"]]);
    assert.equal(two.peer.createDataChannel("nobody listens").readyState, "connecting");
    await turns();
    assert.deepEqual(statusesOf(one, two), ["direct", "direct"]);
    assert.deepEqual(one.of("message"), []);
    assert.equal(one.peers.bad + two.peers.bad, 0);
    one.peer.close();
    assert.equal(one.peer.createDataChannel("late"), undefined);
  });

  test("negotiate tracks at once, each with its own offer", async () => {
    const [one, two] = await pair();
    const [voice, video] = [{ id: "voice" }, { id: "video" }];
    one.peer.addTrack(voice);
    const remove = two.peer.addTrack(video);
    await pass(500);
    assert.deepEqual(two.of("track").map(({ track }) => track), [voice]);
    assert.deepEqual(one.of("track").map(({ track }) => track), [video]);
    assert.deepEqual(statusesOf(one, two), ["direct", "direct"]);
    remove();
    await pass(500);
    assert.deepEqual(connections().map(({ senders }) => senders.length).sort(), [0, 1]);
    assert.equal(one.peers.bad + two.peers.bad, 0);
  });

  test("roll back and keep the impolite one's offer where both offers cross", async () => {
    const [one, two] = await pair();
    const before = signals("d").length;
    one.peer.addTrack({ id: "a" });
    two.peer.addTrack({ id: "b" });
    await turns(2);
    await pass(500);
    const said = signals("d").slice(before).map(({ from, sdp }) => `${from} ${sdp.match(/"type":"(\w+)"/)[1]}`);
    assert.equal(said[0].split(" ")[1], "offer");
    assert.ok(said.includes("2 answer"), "the polite one gives in");
    for (const { signalingState } of connections()) assert.equal(signalingState, "stable");
  });

  test("are connected where their offers cross before their browsers have found an address", async () => {
    net.gathersAfter = 10;
    const [one, two] = await pair(false);
    await pass(1_000);
    assert.deepEqual(statusesOf(one, two), ["direct", "direct"]);
    assert.equal(connections().length, 2);
    assert.equal(one.peers.bad + two.peers.bad, 0);
  });

  test("are connected although a signal is lost", async () => {
    for (const type of ["offer", "answer"]) {
      const [me, other] = type === "offer" ? [11, 12] : [21, 22];
      const lost = new Set();
      server.loses = ({ sdp }, from) => sdp.includes(`"type":"${type}"`) && !lost.has(from) && lost.add(from);
      const one = open(server.join(me));
      const two = open(server.join(other));
      const peer = one.peers.peer(other);
      await pass(6_000);
      assert.ok(lost.size > 0);
      assert.equal(peer.status, "direct", type);
      assert.equal(two.peers.peer(me).status, "direct");
    }
  });

  test("keep candidates that come before their description, and none of another negotiation", async () => {
    const held = [];
    // Offers are late: candidates pass them.
    server.loses = (d, from) => d.sdp.includes('"type":"offer"') && held.length < 1 && held.push([from, d]);
    const one = open(server.join(1));
    const two = open(server.join(2));
    const peer = one.peers.peer(2);
    await pass(300);
    assert.equal(held.length, 1);
    const [[, { sdp }]] = held;
    const tell = (sdp) => two.room.emit("eventExchangeSdp", { d: { from: { socketId: "socket 1" }, sdp } });
    const [, , from] = sdp.split(" ");
    tell(`peers 0 ${from}  {"c":{"candidate":"candidate:9","usernameFragment":"older"}}`);
    tell(sdp);
    await pass(300);
    assert.equal(peer.status, "direct");
    assert.equal(one.peers.bad + two.peers.bad, 0);
  });

  test("let Firefox give way, although its player has the lower number", async () => {
    globalThis.mozInnerScreenX = 0;
    const one = open(server.join(1));
    delete globalThis.mozInnerScreenX;
    const two = open(server.join(2));
    one.peer = one.peers.peer(2);
    two.peer = two.peers.peer(1);
    await pass(500);
    assert.deepEqual(statusesOf(one, two), ["direct", "direct"]);
    const answers = signals("d").filter(({ sdp }) => sdp.includes('"type":"answer"'));
    assert.deepEqual([...new Set(answers.map(({ from }) => from))], [1]);
  });

  test("drop what is unreliable where the channel has a backlog", async () => {
    const [one] = await pair();
    const { channels } = connections().find(({ channels: [{ sent }] }) => one.peer.send(1) && sent.length > 0);
    channels[0].bufferedAmount = 40_000;
    assert.equal(one.peer.send(2), false);
    assert.equal(one.peer.sendReliable(3), true);
  });

  test("restart ICE where the connection fails", async () => {
    const [one, two] = await pair();
    const fragments = connections().map(({ fragment }) => fragment);
    net.isBlocked = true;
    for (const pc of connections()) pc.become("disconnected");
    assert.deepEqual(statusesOf(one, two), ["connecting", "connecting"]);
    assert.equal(one.peer.send(1), false);
    assert.equal(one.peer.sendReliable("kept"), true);
    net.isBlocked = false;
    for (const pc of connections()) pc.become("failed");
    await pass(500);
    assert.deepEqual(statusesOf(one, two), ["direct", "direct"]);
    assert.deepEqual(two.messages(), ["kept"]);
    assert.ok(connections().every(({ fragment }) => !fragments.includes(fragment)));
    assert.equal(connections().length, 2);
  });

  test("restart ICE where the websocket comes back, if the connection is lost too", async () => {
    const [one, two] = await pair();
    const fragments = connections().map(({ fragment }) => fragment);
    const lose = () => {
      one.room.become("dropped");
      one.room.become("resuming");
    };
    lose();
    one.room.become("open");
    await pass(500);
    assert.deepEqual(connections().map(({ fragment }) => fragment), fragments, "what works is left alone");
    lose();
    for (const pc of connections()) pc.become("disconnected");
    one.room.become("open");
    await pass(500);
    assert.ok(connections().every(({ fragment }) => !fragments.includes(fragment)));
    assert.deepEqual(statusesOf(one, two), ["direct", "direct"]);
  });

  test("offer a track again where the other websocket, or the own one, was away", async () => {
    const [one, two] = await pair();
    const voices = [{ id: "one's" }, { id: "two's" }];
    two.room.become("dropped");
    one.peer.addTrack(voices[0]);
    await pass(500);
    two.room.become("open");
    await pass(3_000);
    assert.deepEqual(two.of("track").map(({ track }) => track), [voices[0]]);
    two.room.become("dropped");
    two.peer.addTrack(voices[1]);
    await pass(500);
    two.room.become("open");
    await pass(300);
    assert.deepEqual(one.of("track").map(({ track }) => track), [voices[1]]);
    assert.deepEqual([...one.of("state"), ...two.of("state")], ["direct", "direct"]);
  });

  test("look for another way where nothing is acknowledged, although the browser takes the connection for open", async () => {
    const [one, two] = await pair();
    net.isBlocked = true;
    one.peer.sendReliable("kept");
    await pass(8_000);
    assert.equal(one.peer.status, "direct");
    await pass(22_000);
    assert.deepEqual(one.of("state"), ["direct", "connecting", "relayed"]);
    assert.deepEqual(two.messages(), ["kept"]);
  });

  test("are connected anew where a page is loaded again in the same session", async () => {
    const [one, two] = await pair();
    two.peer.sendReliable("before");
    await pass(300);
    const voice = { id: "of two" };
    two.peer.addTrack(voice);
    await pass(300);
    for (const pc of connections()) if (pc.senders.length === 0) pc.close();
    const again = open(server.reload(1));
    // It is the other that asks, with what it knows of the page before.
    await pass(6_000);
    assert.deepEqual(two.peer.status, "direct");
    assert.deepEqual(again.of("peer").map(({ status }) => status), ["direct"]);
    assert.deepEqual(again.of("track").map(({ track }) => track), [voice]);
    again.peers.peer(2).sendReliable("again");
    two.peer.sendReliable("after");
    await pass(300);
    assert.deepEqual(one.messages(), ["before"]);
    assert.deepEqual(two.messages(), ["again"]);
    assert.deepEqual(again.messages(), ["after"]);
  });

  test("have no peer any more where one leaves", async () => {
    const [one] = await pair();
    server.leave(2);
    assert.deepEqual(one.of("state"), ["direct", "closed"]);
    assert.deepEqual(one.peers.all, []);
    assert.equal(one.peer.sendReliable(1), false);
    assert.equal(one.peer.send(1), false);
    assert.throws(() => one.peers.peer(2), { name: "RtcadeError", stage: "game", code: "no_such_player" });
    const again = open(server.join(3));
    const peer = one.peers.peer(3);
    await pass(500);
    assert.equal(peer.status, "direct");
    assert.deepEqual(again.of("state"), ["direct"]);
  });

  test("close at both ends, for good until one of them asks again", async () => {
    const [one, two] = await pair();
    one.peer.close();
    await pass(20_000);
    assert.deepEqual(statusesOf(one, two), ["closed", "closed"]);
    assert.deepEqual([...one.peers.all, ...two.peers.all, ...connections()], []);
    const next = two.peers.peer(1);
    assert.notEqual(next, two.peer);
    await pass(500);
    assert.equal(next.status, "direct");
    assert.equal(one.of("peer").at(-1).status, "direct");
  });

  test("close where the word of it was lost", async () => {
    const [one, two] = await pair();
    server.loses = ({ sdp }) => sdp.includes('{"b":1}');
    one.peer.close();
    await pass(300);
    server.loses = () => false;
    assert.equal(two.peer.status, "connecting");
    await pass(6_000);
    assert.deepEqual(statusesOf(one, two), ["closed", "closed"]);
    assert.deepEqual(one.peers.all, []);
  });

  test("can refuse each other", async () => {
    const asked = [];
    const one = open(server.join(1), { accept: ({ player }) => asked.push(player) && false });
    const two = open(server.join(2));
    const peer = two.peers.peer(1);
    await pass(1_000);
    assert.equal(peer.status, "closed");
    assert.deepEqual([...new Set(asked)], [2]);
    assert.deepEqual(one.peers.all, []);
  });

  test("end with their room", async () => {
    const [one, two] = await pair();
    one.room.status = "closed";
    one.room.emit("close", {});
    assert.equal(one.peer.status, "closed");
    assert.equal(one.room.listening, 0);
    assert.throws(() => one.peers.peer(2), { code: "no_such_player" });
    assert.throws(() => openPeers(one.room), { name: "RtcadeError", code: "bad_value" });
    await pass(300);
    assert.equal(two.peer.status, "connecting");
    const sent = server.relayed.length;
    await pass(5_000);
    assert.ok(server.relayed.slice(sent).every(({ from }) => from === 2), "a closed page is silent");
  });

  test("measure the way", async () => {
    const [one] = await pair();
    assert.deepEqual(await one.peer.stats(), { rtt: 20, local: "host", remote: "srflx" });
    one.peer.close();
    assert.deepEqual(await one.peer.stats(), { rtt: undefined, local: undefined, remote: undefined });
  });
});

describe("without a direct way", () => {
  const blockedPair = async () => {
    net.isBlocked = true;
    const ends = await pair(false);
    await pass(10_500);
    assert.deepEqual(statusesOf(...ends), ["relayed", "relayed"]);
    return ends;
  };

  test("messages go through the server after ten seconds", async () => {
    net.isBlocked = true;
    const [one, two] = await pair(false);
    one.peer.sendReliable("early");
    await pass(9_000);
    assert.deepEqual(statusesOf(one, two), ["connecting", "connecting"]);
    await pass(1_500);
    assert.deepEqual(statusesOf(one, two), ["relayed", "relayed"]);
    assert.equal(two.peer.send("unreliable"), true);
    await pass(500);
    assert.deepEqual(two.of("message"), [{ value: "early", reliable: true }]);
    assert.deepEqual(one.of("message"), [{ value: "unreliable", reliable: false }]);
    assert.equal(server.refused, 0);
  });

  test("so do they where the browser has no WebRTC", async () => {
    delete globalThis.RTCPeerConnection;
    const [one, two] = await pair(false);
    await pass(10_500);
    assert.deepEqual(statusesOf(one, two), ["relayed", "relayed"]);
    one.peer.sendReliable(1);
    await pass(500);
    assert.deepEqual(two.messages(), [1]);
  });

  test("a reliable message arrives once and in order, although parts are lost", async () => {
    const [one, two] = await blockedPair();
    let n = 0;
    server.loses = () => n++ % 5 === 0;
    const values = Array.from({ length: 30 }, (_, n) => [n, "😀".repeat((n * 37) % 500)]);
    const send = async () => {
      for (const value of values) {
        assert.equal(one.peer.sendReliable(value), true);
        await pass(300);
      }
    };
    await send();
    await pass(30_000);
    assert.deepEqual(two.messages(), values);
    assert.equal(server.refused, 0);
  });

  test("the rate of the server is kept to, and what is unreliable is dropped", async () => {
    const [one, two] = await blockedPair();
    const text = "x".repeat(1_800);
    let sent = 0;
    for (let n = 0; n < 100; n++) if (one.peer.send([n, text])) sent++;
    assert.ok(sent > 0 && sent <= 25, String(sent));
    for (let n = 0; n < 15; n++) assert.equal(one.peer.sendReliable([n, text]), true);
    assert.equal(one.peer.send("something waits"), false);
    await pass(5_000);
    assert.equal(server.refused, 0);
    const reliable = two.of("message").filter(({ reliable }) => reliable).map(({ value: [n] }) => n);
    assert.deepEqual(reliable, Array.from({ length: 15 }, (_, n) => n));
    assert.equal(two.messages().length, sent + 15);
  });

  test("what is not acknowledged has a limit", async () => {
    const [one, two] = await blockedPair();
    server.loses = () => true;
    const text = "x".repeat(10_000);
    assert.deepEqual([1, 2, 3, 4].map(() => one.peer.sendReliable(text)), [true, true, true, false]);
    await pass(20_000);
    server.loses = () => false;
    await pass(10_000);
    assert.deepEqual(two.messages().length, 3);
    assert.equal(one.peer.sendReliable(text), true);
  });

  test("nothing is lost or doubled where a direct way appears and goes", async () => {
    const [one, two] = await blockedPair();
    const expected = [];
    const say = async (value) => {
      expected.push(value);
      one.peer.sendReliable(value);
      await pass(100);
    };
    for (let n = 0; n < 5; n++) await say(n);
    net.isBlocked = false;
    await pass(31_000);
    assert.deepEqual(statusesOf(one, two), ["direct", "direct"]);
    for (let n = 5; n < 10; n++) await say(n);
    net.isBlocked = true;
    for (let n = 10; n < 15; n++) await say(n);
    for (const pc of connections()) pc.become("disconnected");
    for (let n = 15; n < 20; n++) await say(n);
    await pass(15_000);
    assert.deepEqual(statusesOf(one, two), ["relayed", "relayed"]);
    for (let n = 20; n < 25; n++) await say(n);
    await pass(5_000);
    assert.deepEqual(two.messages(), expected);
  });

  test("what was lost on its way is repeated over the direct one", async () => {
    const [one, two] = await blockedPair();
    server.loses = ({ sdp }) => sdp.includes('"n":');
    one.peer.sendReliable("first");
    one.peer.sendReliable("second");
    net.isBlocked = false;
    await pass(31_000);
    assert.equal(one.peer.status, "direct");
    one.peer.sendReliable("third");
    await pass(300);
    assert.deepEqual(two.messages(), ["first", "second", "third"]);
  });

  test("what waits is kept while the websocket is lost", async () => {
    const [one, two] = await blockedPair();
    one.room.become("dropped");
    for (let n = 0; n < 50; n++) one.peer.sendReliable(n);
    await pass(7_000);
    assert.deepEqual(two.messages(), []);
    one.room.become("resuming");
    one.room.become("open");
    await pass(6_000);
    assert.deepEqual(two.messages(), Array.from({ length: 50 }, (_, n) => n));
    assert.equal(server.refused, 0);
  });
});

describe("a mesh", () => {
  test("connects everybody, who comes later too, and sends to all", async () => {
    const ends = [1, 2, 3].map((n) => open(server.join(n)));
    for (const { peers } of ends) peers.mesh();
    await pass(1_000);
    const late = open(server.join(4));
    late.peers.mesh();
    await pass(1_000);
    ends.push(late);
    for (const { peers } of ends) assert.deepEqual(peers.all.map(({ status }) => status), ["direct", "direct", "direct"]);
    for (const [n, { peers }] of ends.entries()) {
      peers.send(`${n}`);
      peers.sendReliable(n);
    }
    await pass(300);
    for (const { messages } of ends) assert.equal(messages().length, 6);
    assert.deepEqual(new Set(late.messages()), new Set(["0", "1", "2", 0, 1, 2]));
    server.leave(2);
    assert.equal(late.peers.all.length, 2);
    late.peers.close();
    assert.equal(late.room.listening, 0);
    await pass(500);
    assert.deepEqual(ends[0].peers.all.map(({ player }) => player), [3]);
    assert.equal(server.refused, 0);
  });

  test("begins anew with the session", async () => {
    const one = open(server.join(1));
    const two = open(server.join(2));
    for (const { peers } of [one, two]) peers.mesh();
    await pass(500);
    const [former] = one.peers.all;
    one.room.emit("rejoin");
    assert.equal(former.status, "closed");
    await pass(500);
    assert.deepEqual([...one.peers.all, ...two.peers.all].map(({ status }) => status), ["direct", "direct"]);
  });

  test("of many is signaled at the rate of the server", async () => {
    const ends = Array.from({ length: 12 }, (_, n) => open(server.join(n + 1)));
    for (const { peers } of ends) peers.mesh();
    await pass(20_000);
    for (const { peers } of ends) assert.ok(peers.all.every(({ status }) => status === "direct"));
    assert.equal(server.refused, 0);
  });
});

describe("what others send", () => {
  const from = (room, socketId, sdp) => room.emit("eventExchangeSdp", { d: { from: { socketId, userId: null }, sdp } });
  const offer = '{"d":{"type":"offer","sdp":"v=0\\r\\n"}}';

  test("is ignored and counted where it is a stranger's, or no message of this module", async () => {
    const one = open(server.join(1));
    server.join(2);
    for (const [n, [socketId, sdp]] of [
      ["socket 9", `peers 0 a  ${offer}`],
      ["socket 1", `peers 0 a  ${offer}`],
      [undefined, `peers 0 a  ${offer}`],
      ["socket 2", undefined],
      ["socket 2", "v=0\r\n"],
      ["socket 2", "peers 0 a b "],
      ["socket 2", `peers 20 a  ${offer}`],
      ["socket 2", `peers -1 a  ${offer}`],
      ["socket 2", `peers 0 ${"a".repeat(41)}  ${offer}`],
      ["socket 2", `peers 0 a  {"d":`],
      ["socket 2", `peers 0 a  ${"x".repeat(2_001)}`],
    ].entries()) {
      from(one.room, socketId, sdp);
      assert.equal(one.peers.bad, n + 1, `${socketId}: ${sdp}`);
    }
    one.room.emit("eventExchangeSdp", {});
    assert.equal(one.peers.bad, 12);
    assert.deepEqual(one.peers.all, []);
  });

  test("costs a page no more than its limits", async () => {
    const [one, two] = await pair();
    const { peer } = one;
    const [, , theirs, mine] = server.relayed.findLast(({ from }) => from === 2).sdp.split(" ");
    const say = (packet) => from(one.room, "socket 2", `peers 0 ${theirs} ${mine} ${packet}`);
    for (const packet of [
      "null", "[]", "7", '"x"', "{}",
      '{"d":7}', '{"d":{"type":"rollback"}}', '{"d":{"type":"pranswer","sdp":"v=0\\r\\n"}}', '{"d":{"type":"answer","sdp":1}}',
      '{"d":{"type":"offer"}}', '{"d":{"type":"offer","sdp":"nonsense"}}',
      '{"c":7}', '{"c":{"candidate":"x"}}',
      '{"n":"1","v":[1]}', '{"n":-1,"v":{"forEach":1}}', '{"n":99,"v":[1]}', '{"n":1e999,"v":[1,2]}',
      '{"k":"x"}', '{"k":9}', '{"k":-1}', '{"k":1e999}', '{"k":null}',
    ]) say(packet);
    await pass(500);
    assert.equal(peer.status, "direct");
    assert.ok(one.messages().length <= 1);
    for (let n = 0; n < 500; n++) say(`{"c":{"usernameFragment":"none"}}`);
    for (let n = 0; n < 500; n++) say(offer);
    assert.ok(one.peers.bad > 400, "no more than 64 signals wait");
    for (let n = 0; n < 50; n++) from(one.room, "socket 2", `peers 19 ${theirs} ${mine} ${"x".repeat(2_000)}`);
    for (const data of ["x".repeat(50_000), new ArrayBuffer(8), new Blob([]), "{", ""]) {
      const { bad } = one.peers;
      connections().forEach((pc) => pc.channels[1].onmessage({ data }));
      assert.equal(one.peers.bad, bad + 1);
    }
    await pass(2_000);
    two.peer.sendReliable("still");
    await pass(500);
    assert.equal(one.messages().at(-1), "still");
  });

  test("does not change what this page has negotiated, or has sent", async () => {
    const [one, two] = await pair();
    const [, , theirs, mine] = server.relayed.findLast(({ from }) => from === 2).sdp.split(" ");
    const say = (packet) => from(one.room, "socket 2", `peers 0 ${theirs} ${mine} ${packet}`);
    const { bad } = one.peers;
    say(`{"d":{"type":"answer","sdp":"v=0\\r\\n"}}`);
    await pass(100);
    assert.equal(one.peers.bad, bad, "an answer without an offer is late, not bad");
    net.isBlocked = true;
    for (const pc of connections()) pc.become("disconnected");
    one.peer.sendReliable("kept");
    say('{"k":1}');
    await pass(20_000);
    assert.deepEqual(two.messages(), ["kept"], "what was not on its way can't be acknowledged");
  });

  test("opens no channels", async () => {
    await pair();
    let closed = 0;
    for (const pc of connections()) pc.ondatachannel({ channel: { close: () => closed++ } });
    assert.equal(closed, 2);
  });

  test("is not taken for a message where a part is missing", async () => {
    const [one] = await pair();
    const [, , theirs, mine] = server.relayed.findLast(({ from }) => from === 2).sdp.split(" ");
    const say = (left, part) => from(one.room, "socket 2", `peers ${left} ${theirs} ${mine} ${part}`);
    const { bad } = one.peers;
    say(2, '{"v":["a');
    say(0, 'c"]}');
    say(1, '{"v":["');
    say(0, '"]}');
    assert.deepEqual(one.messages(), [""]);
    assert.equal(one.peers.bad, bad + 1);
  });

  test("opens nothing where a page has not opened its peers", async () => {
    server.join(1);
    const two = open(server.join(2));
    two.peers.peer(1);
    await pass(20_000);
    assert.equal(connections().length, 1);
  });
});

describe("wrong use", () => {
  test("is refused with a sentence", async () => {
    const [one] = await pair();
    const cycle = {};
    cycle.cycle = cycle;
    for (const [act, code] of [
      [() => openPeers(undefined), "bad_value"],
      [() => openPeers({}), "bad_value"],
      [() => openPeers(one.room), "bad_value"],
      [() => one.peers.peer(1), "no_such_player"],
      [() => one.peers.peer(7), "no_such_player"],
      [() => one.peers.peer(null), "no_such_player"],
      [() => one.peer.send(undefined), "bad_value"],
      [() => one.peer.send(() => {}), "bad_value"],
      [() => one.peer.send(1n), "bad_value"],
      [() => one.peer.sendReliable(cycle), "bad_value"],
      [() => one.peer.sendReliable("x".repeat(16_383)), "too_large"],
    ]) {
      assert.throws(act, (error) => {
        assert.equal(error.name, "RtcadeError");
        assert.equal(error.code, code, String(act));
        assert.match(error.message, /^[A-Zo].* .*\.$/);
        return true;
      });
    }
    assert.equal(one.peer.sendReliable("x".repeat(16_382)), true);
    assert.equal(one.peers.peer(one.room.players.get(2)), one.peer);
  });

  test("a listener that throws is reported, and disturbs nobody", async (t) => {
    const [one, two] = await pair();
    const reported = [];
    const onUncaught = (error) => reported.push(error.message);
    process.prependListener("uncaughtException", onUncaught);
    const former = process.listeners("uncaughtException").filter((listener) => listener !== onUncaught);
    for (const listener of former) process.off("uncaughtException", listener);
    t.after(() => {
      process.off("uncaughtException", onUncaught);
      for (const listener of former) process.on("uncaughtException", listener);
    });
    two.peer.on("message", () => {
      throw new Error("the page's");
    });
    const off = two.peer.on("message", () => off());
    one.peer.sendReliable(1);
    one.peer.sendReliable(2);
    await pass(300);
    assert.deepEqual(two.messages(), [1, 2]);
    assert.deepEqual(reported, ["the page's", "the page's"]);
  });

  test("the room has the ICE servers that its server has named", async () => {
    const iceServers = [{ urls: "stun:192.0.2.1:8080" }];
    const { room } = await join({}, { iceServers });
    assert.deepEqual(room.iceServers, iceServers);
  });

  test("the ICE servers are the option's, or the room's", async () => {
    const option = [{ urls: "stun:option.example" }];
    const ofRoom = [{ urls: "stun:room.example" }];
    for (const [n, [options, expected]] of [[undefined, ofRoom], [{ iceServers: option }, option]].entries()) {
      const room = server.join(10 * n + 1);
      room.iceServers = ofRoom;
      server.join(10 * n + 2);
      openPeers(room, options).peer(10 * n + 2);
      assert.deepEqual(connections().at(-1).configuration, { iceServers: expected });
    }
  });
});
