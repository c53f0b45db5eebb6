import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { EVENT, INPUT, PING, STATE } from "../src/frame.js";
import { down, joinOpen, up } from "./fakes.js";

/** A session whose clock shows multiples of `step` ms only, as browsers do that hide the time. Its timers are exact. */
async function joinWithClock(step) {
  let clock = { time: 0 };
  const session = await joinOpen({ now: () => Math.floor(clock.time / step) * step });
  ({ clock } = session);
  // A channel that brings nothing is passed by after a while.
  const frames = () => up([...session.pc.channel.sent, ...session.socket.sent]).filter(({ kind }) => kind === INPUT);
  const arrived = () => new Set(frames().flatMap(({ body: [, inputs] }) => inputs));
  return Object.assign(session, { frames, arrived });
}

describe("whatever the steps of the clock, each input leaves, in as few frames as the interval allows:", () => {
  const MS = 2_000;
  for (const step of [1, 100 / 6, 100, 1_000]) {
    for (const every of [1, 4, 7.9, 8.6, 16, 60]) {
      test(`one each ${every} ms, the clock's steps ${step} ms`, async () => {
        const session = await joinWithClock(step);
        let sent = 0;
        for (; sent * every < MS; sent++) {
          session.room.send(sent);
          await session.clock.advance(every);
        }
        await session.clock.advance(50);
        assert.equal(session.arrived().size, sent);
        // A step of the clock may let one leave early, and without further inputs they are repeated each 50 ms.
        const most = Math.min(sent, MS / 8) + (MS + 50) / Math.max(step, 8) + (MS + 50) / 50;
        assert.ok(session.frames().length <= most, `${session.frames().length} frames, at most ${most}`);
      });
    }
  }
});

test("an input leaves within 8 ms although the clock stands still", async () => {
  const session = await joinWithClock(1_000_000);
  session.room.send("a");
  session.room.send("b");
  await session.clock.advance(4);
  session.room.send("c");
  await session.clock.advance(4);
  assert.deepEqual([...session.arrived()], ["a", "c", "b"]);
});

test("many inputs at once leave in a few frames, the newest last", async () => {
  const session = await joinWithClock(1);
  for (let input = 0; input < 1_000; input++) session.room.send(input);
  await session.clock.advance(8);
  const all = session.frames();
  assert.ok(all.length <= 5, `${all.length} frames`);
  assert.deepEqual(all.at(-1).body, [1_000, [999, 998, 997, 996, 995, 994, 993, 992]]);
  // The first input and three windows after it, for which the server has room beside the last.
  for (let input = 0; input < 25; input++) assert.ok(session.arrived().has(input), `${input}`);
});

test("large inputs leave before they no longer fit one frame", async () => {
  const session = await joinWithClock(1);
  const inputs = Array.from({ length: 8 }, (_, n) => String(n).repeat(509));
  for (const input of inputs) session.room.send(input);
  await session.clock.advance(8);
  assert.deepEqual([...session.arrived()].sort(), inputs);
});

test("an input carries the tick that the page shows, or else the newest state's", async () => {
  const session = await joinOpen();
  const stamps = () => session.room.send("x") && session.clock.advance(8).then(() => up(session.pc.channel.sent).at(-1).stamps);
  const state = (seq, tick) => session.pc.channel.deliver(down(STATE, { seq, ack: seq + 1 }, [tick, null]));
  assert.deepEqual(await stamps(), [100 * 16], "the room's tick before the first state");
  state(0, 103);
  assert.deepEqual(await stamps(), [103 * 16]);
  session.room.renderTick = () => 101.25;
  assert.deepEqual(await stamps(), [101.25 * 16, (103 - 101.25) * -16]);
  // Frames are repeated with the stamps that the inputs had.
  state(1, 104);
  await session.clock.advance(50);
  assert.deepEqual(up(session.pc.channel.sent).at(-1).stamps, [101.25 * 16]);
  for (const none of [NaN, Infinity, undefined, null]) {
    session.room.renderTick = () => none;
    assert.equal((await stamps())[0], 104 * 16);
  }
});

test("a clock that is set back holds no input up", async () => {
  let ahead = 3_600_000;
  let clock = { time: 0 };
  const session = await joinOpen({ now: () => clock.time + ahead });
  ({ clock } = session);
  session.room.send("a");
  ahead = 0;
  session.room.send("b");
  await session.clock.advance(8);
  assert.deepEqual(up(session.pc.channel.sent).at(-1).body, [2, ["b", "a"]]);
});

test("the steps of the clock put no channel in doubt that has short gaps, and one that stops is noticed", async () => {
  for (const step of [1, 100 / 6, 100]) {
    const session = await joinWithClock(step);
    const { channel } = session.pc;
    const pings = () => up(channel.sent).filter(({ kind }) => kind === PING).length;
    let seq = 0;
    const state = async (wait) => {
      channel.deliver(down(STATE, { seq, ack: 0 }, [101 + seq, null]));
      seq++;
      await session.clock.advance(wait);
    };
    const start = session.clock.time;
    for (let n = 0; n < 300; n++) await state(n % 20 === 19 ? 200 : 33);
    // Doubt asks at once, on top of each second.
    const seconds = Math.ceil((session.clock.time - start) / 1_000);
    assert.ok(pings() <= seconds, `${pings()} pings in ${seconds} s, steps of ${step} ms`);
    assert.equal(session.room.stats.transport, "webrtc");
    await session.clock.advance(600);
    session.socket.deliver(down(EVENT, { seq: seq++ }, [101 + seq, null]));
    assert.equal(session.room.stats.transport, "websocket", `steps of ${step} ms`);
  }
});
