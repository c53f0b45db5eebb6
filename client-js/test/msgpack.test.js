import assert from "node:assert/strict";
import { test } from "node:test";
import * as reference from "@msgpack/msgpack";
import { MSGPACK_DEPTH } from "../src/limits.js";
import { decode, encode, WireError } from "../src/msgpack.js";
import { fromHex, randomBytes, revive, toHex, vectors } from "./vectors.js";

const { canonical, valid, invalid } = vectors("msgpack");
const LIMIT = 16 * 1024;

for (const { name, hex, value } of canonical) {
  test(`writes and reads: ${name}`, () => {
    assert.equal(toHex(encode(revive(value), LIMIT)), hex);
    assert.deepEqual(decode(fromHex(hex)), revive(value));
  });
}

for (const { name, hex, value } of valid) {
  test(`reads: ${name}`, () => assert.deepEqual(decode(fromHex(hex)), revive(value)));
}

for (const { name, hex, error } of invalid) {
  test(`refuses: ${name}`, () => assert.throws(() => decode(fromHex(hex)), { constructor: WireError, code: error }));
}

test("floats take four bytes only where nothing is lost", () => {
  assert.equal(toHex(encode(1.5, 9)), "ca3fc00000");
  assert.equal(toHex(encode(0.1, 9)), "cb3fb999999999999a");
  assert.equal(toHex(encode(Infinity, 9)), "ca7f800000");
  assert.equal(decode(Uint8Array.from(encode(NaN, 9))), NaN);
});

test("undefined is nil in arrays and absent in objects", () => {
  assert.equal(toHex(encode([undefined, { a: undefined, b: 1 }], LIMIT)), "92c081a16201");
});

test("a map's key cannot reach a prototype", () => {
  const value = decode(fromHex("81a95f5f70726f746f5f5f81a16107"));
  assert.equal(value.a, undefined);
  assert.deepEqual(Object.keys(value), ["__proto__"]);
});

test("binary is a copy", () => {
  const bytes = fromHex("c40107");
  const value = decode(bytes);
  bytes.fill(0);
  assert.deepEqual(value, Uint8Array.of(7));
});

for (const value of [2 ** 53 + 2, -(2 ** 53) - 2, 1e300, 1n, Symbol("s"), () => {}, new Map(), new Date(), [new Set()]]) {
  test(`does not write ${String(value)}`, () => assert.throws(() => encode(value, LIMIT), { code: "bad_value" }));
}

test("limits of size and depth hold to the byte and the level", () => {
  assert.equal(encode("a".repeat(30), 31).length, 31);
  assert.throws(() => encode("a".repeat(31), 31), { code: "too_large" });
  assert.equal(encode([[]], 9, 2).length, 2);
  assert.throws(() => encode([[[]]], 9, 2), { code: "depth" });
  const circle = [];
  circle.push(circle);
  assert.throws(() => encode(circle, LIMIT), { code: "depth" });
});

function randomValue(random, depth = 4) {
  const text = () => String.fromCodePoint(...Array.from({ length: random.below(40) }, () => 1 + random.below(0xd000)));
  const choices = [
    () => null,
    () => random.below(2) === 1,
    () => random.below(2 ** 31) * (random.below(2) ? 1 : -(2 ** 20)),
    () => random.below(300) - 150,
    () => random.below(1000) / 7,
    text,
    () => random.bytes(random.below(300)),
    () => Array.from({ length: random.below(20) }, () => randomValue(random, depth - 1)),
    () => Object.fromEntries(Array.from({ length: random.below(20) }, () => [`k${text()}`, randomValue(random, depth - 1)])),
  ];
  return choices[random.below(depth > 0 ? choices.length : 7)]();
}

test("agrees with the reference implementation on random values", () => {
  for (let seed = 1; seed <= 500; seed++) {
    const value = randomValue(randomBytes(seed));
    const ours = Uint8Array.from(encode(value, 2 ** 22, MSGPACK_DEPTH, Infinity));
    assert.deepEqual(reference.decode(ours), value, `seed ${seed}`);
    assert.deepEqual(decode(reference.encode(value), MSGPACK_DEPTH, Infinity), value, `seed ${seed}`);
  }
});

test("random and cut bytes give a value or a WireError, nothing else", () => {
  for (let seed = 1; seed <= 20_000; seed++) {
    const random = randomBytes(seed);
    let bytes = random.bytes(random.below(64));
    if (seed % 2) {
      const whole = fromHex(canonical[random.below(canonical.length)].hex);
      bytes = whole.slice(0, random.below(whole.length + 1));
      if (bytes.length > 0) bytes[random.below(bytes.length)] ^= 1 << random.below(8);
    }
    try {
      decode(bytes);
    } catch (error) {
      assert.ok(error instanceof WireError, `seed ${seed}: ${error.stack}`);
    }
  }
});
