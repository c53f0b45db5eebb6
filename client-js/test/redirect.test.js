import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { COMMAND } from "../src/frame.js";
import { dialOpen, grant, joinOpen, microtasks, REPLY, refuse, up } from "./fakes.js";

const HOME = "ws://play.example/r/lobby";
const THERE = "ws://b.example/r/lobby?pass=1.x";
const RESUMED = { ...REPLY, resume: "token 2", last: 0, reliableSeq: 1, sdp: undefined };

const redirect = async (session, url = THERE, ticket = "a ticket") => {
  const before = session.socket;
  before.deliver(JSON.stringify({ a: "eventRedirect", d: { url, ticket } }));
  assert.notEqual(before.closedWith, null, "the websocket before is closed");
  assert.equal(before.onclose, null, "and its end means nothing");
  session.socket.onopen?.();
  await microtasks();
};
const last = ({ socket }) => socket.signals.at(-1);

describe("a server that sends the client to another one", () => {
  test("gets the same request there, with the ticket", async () => {
    const session = await dialOpen({ bearer: "b", data: { skin: "red" } });
    const asked = last(session);
    await redirect(session);
    assert.deepEqual(session.sockets.map(({ url }) => url), [HOME, THERE]);
    assert.deepEqual(last(session), { ...asked, d: { ...asked.d, ticket: "a ticket" } });
    assert.equal(session.pcs.length, 1, "with the offer that was made before");
    grant(session, REPLY, "join");
    const { room } = await session.outcome;
    assert.equal(room.me, 3);
  });

  test("is asked first when the connection is lost", async () => {
    const session = await dialOpen();
    await redirect(session);
    grant(session, REPLY, "join");
    const { room } = await session.outcome;
    const log = [];
    room.on("status", (status) => log.push(status));
    // The room has moved.
    session.socket.onclose({ code: 4307, reason: "The room is at another server." });
    await session.clock.advance(1_000);
    assert.equal(session.socket.url, HOME);
    session.socket.onopen();
    await microtasks();
    await redirect(session, "ws://c.example/r/lobby");
    const { a, d } = last(session);
    assert.deepEqual([a, d.socketId, d.resume, d.ticket], ["reconnect", REPLY.socketId, REPLY.resume, "a ticket"]);
    grant(session, RESUMED);
    assert.deepEqual(log, ["dropped", "resuming", "open"]);
  });

  test("and knows the session no more gets a join with its credentials", async () => {
    const session = await joinOpen();
    session.socket.onclose({ code: 1006, reason: "" });
    await session.clock.advance(1_000);
    session.socket.onopen();
    await microtasks();
    refuse(session, "no_such_session");
    await microtasks();
    await redirect(session);
    const { a, d } = last(session);
    assert.deepEqual([a, d.former, d.ticket], ["join", { socketId: REPLY.socketId, resume: REPLY.resume }, "a ticket"]);
    grant(session, { ...REPLY, player: 9 }, "join");
    assert.equal(session.room.me, 9);
  });

  test("that can't be reached is asked for again where the page came from", async () => {
    const session = await dialOpen();
    session.socket.deliver(JSON.stringify({ a: "eventRedirect", d: { url: THERE, ticket: "a ticket" } }));
    session.socket.onclose({ code: 1006, reason: "" });
    await session.clock.advance(10_000);
    assert.deepEqual(session.sockets.map(({ url }) => url), [HOME, THERE, HOME]);
    session.socket.onopen();
    await microtasks();
    assert.equal(last(session).d.ticket, undefined);
    grant(session, REPLY, "join");
    assert.equal((await session.outcome).room.me, 3);
  });

  test("while it plays is left at once for the other one, over a new peer", async () => {
    const session = await joinOpen();
    const { room } = session;
    const log = [];
    room.on("status", (status) => log.push(status));
    room.on("error", (error) => log.push(error.code));
    const [before, peers] = [session.socket, session.pcs.length];
    before.deliver(JSON.stringify({ a: "eventRedirect", d: { url: THERE, ticket: "a ticket" } }));
    assert.equal(before.onclose, null, "its end means nothing");
    assert.equal(session.socket.url, THERE);
    room.command("while it moves");
    session.socket.onopen();
    await microtasks();
    assert.equal(session.pcs.length, peers + 1);
    const { a, d } = last(session);
    assert.deepEqual([a, d.socketId, d.resume, d.ticket], ["reconnect", REPLY.socketId, REPLY.resume, "a ticket"]);
    grant(session, RESUMED);
    assert.deepEqual(log, ["resuming", "open"]);
    assert.equal(up(session.socket.sent).filter(({ kind }) => kind === COMMAND).length, 1);
    // Where it can't be reached, the client comes back through the address of the page.
    session.socket.deliver(JSON.stringify({ a: "eventRedirect", d: { url: "ws://c.example/r/lobby", ticket: "t" } }));
    session.socket.onclose({ code: 1006, reason: "" });
    await session.clock.advance(10_000);
    assert.equal(session.socket.url, HOME);
    session.socket.onopen();
    await microtasks();
    assert.equal(last(session).d.ticket, undefined);
  });

  test("to and fro is left", async () => {
    const session = await dialOpen();
    for (let hop = 0; hop < 4; hop++) await redirect(session);
    session.socket.deliver(JSON.stringify({ a: "eventRedirect", d: { url: THERE, ticket: "a ticket" } }));
    const { error } = await session.outcome;
    assert.equal(error.code, "redirects");
    assert.equal(session.sockets.length, 5);
  });

  test("with what is no address is not followed", async () => {
    const session = await dialOpen();
    for (const d of [null, {}, { url: 5 }]) session.socket.deliver(JSON.stringify({ a: "eventRedirect", d }));
    assert.equal(session.sockets.length, 1);
    grant(session, REPLY, "join");
    assert.equal((await session.outcome).room.me, 3);
  });
});
