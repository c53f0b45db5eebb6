import assert from "node:assert/strict";
import { test } from "node:test";
import { createAssembler, decodeBody, decodeFrame, reliableFrame, STATE, unreliableFrame } from "../src/frame.js";
import { INPUTS_WRAPPING, MSGPACK_DEPTH } from "../src/limits.js";
import { encode, WireError } from "../src/msgpack.js";
import { downParts } from "./fakes.js";
import { fromHex, randomBytes, revive, toHex, vectors } from "./vectors.js";

const { valid, assembled, invalid } = vectors("frames");
const down = ({ direction }) => direction === "down";
const up = ({ direction }) => direction === "up";

for (const { name, lane, hex, frame, body } of valid.filter(down)) {
  test(`reads ${name}`, () => {
    const { body: _, ...header } = decodeFrame(fromHex(hex), lane === "reliable");
    assert.deepEqual(header, frame);
    if (!frame.part) assert.deepEqual(decodeBody(decodeFrame(fromHex(hex), lane === "reliable")), revive(body));
  });
}

for (const { name, lane, hex, frame, body } of valid.filter((vector) => up(vector) && !vector.frame.deflated)) {
  test(`writes ${name}`, () => {
    const { kind, seq, ack, tick } = frame;
    const encoded = encode(revive(body), 16 * 1024, MSGPACK_DEPTH + INPUTS_WRAPPING);
    const written =
      lane === "reliable" ? reliableFrame(kind, seq, tick, encoded) : unreliableFrame(kind, seq, ack, encoded);
    assert.equal(toHex(written), hex);
  });
}

for (const { name, transport, hex, error } of invalid.filter(down)) {
  test(`refuses ${name}`, () => {
    const read = () => decodeBody(decodeFrame(fromHex(hex), transport === "websocket"));
    assert.throws(read, { constructor: WireError, code: error });
  });
}

for (const { parts, body } of assembled) {
  const frames = parts.map((part) => fromHex(valid.find(({ name }) => name === part).hex));
  test(`puts together ${parts[0]} and the rest, in any order`, () => {
    for (const order of [frames, [...frames].reverse()]) {
      const assemble = createAssembler();
      const whole = order
        .map((bytes) => decodeFrame(bytes, false))
        // As the link does it, for a frame that starts before the wrap.
        .map((frame) => assemble(frame, frame.seq < 0x8000 ? frame.seq + 0x10000 : frame.seq));
      assert.deepEqual(whole.slice(0, -1), Array(order.length - 1).fill(undefined));
      assert.deepEqual(decodeBody(whole.at(-1)), revive(body));
    }
  });
}

const parts = (seq, value) => downParts(STATE, { seq }, [1, value], 100).map((bytes) => decodeFrame(bytes, false));

test("only the newest unfinished frame is kept", () => {
  const assemble = createAssembler();
  const older = parts(10, "a".repeat(150));
  const newer = parts(12, "b".repeat(150));
  assert.equal(assemble(older[0], 10), undefined);
  assert.equal(assemble(newer[0], 12), undefined);
  assert.equal(assemble(older[1], 11), undefined);
  assert.deepEqual(decodeBody(assemble(newer[1], 13)), [1, "b".repeat(150)]);
});

test("a frame that lost a part does not mix with the next", () => {
  const assemble = createAssembler();
  const first = parts(0, "a".repeat(250));
  const second = parts(3, "b".repeat(250));
  const wholes = [first[0], first[2], ...second].map((part) => assemble(part, part.seq));
  assert.equal(wholes.filter(Boolean).length, 1);
  assert.deepEqual(decodeBody(wholes.at(-1)), [1, "b".repeat(250)]);
});

test("random and cut bytes give a value or a WireError, nothing else", () => {
  for (let seed = 1; seed <= 20_000; seed++) {
    const random = randomBytes(seed);
    let bytes = random.bytes(random.below(80));
    if (seed % 2) {
      const whole = fromHex(valid[random.below(valid.length)].hex);
      bytes = whole.slice(0, random.below(whole.length + 1));
      if (bytes.length > 0) bytes[random.below(Math.min(bytes.length, 40))] ^= 1 << random.below(8);
    } else if (bytes.length > 0) bytes[0] = 0x20 | (2 + random.below(5));
    try {
      decodeBody(decodeFrame(bytes, random.below(2) === 1));
    } catch (error) {
      assert.ok(error instanceof WireError, `seed ${seed}: ${error.stack}`);
    }
  }
});
