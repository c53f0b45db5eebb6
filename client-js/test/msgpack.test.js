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

test("minus zero is written as an integer: a game's field for integers takes no float, and to round gives it", () => {
  assert.equal(toHex(encode(Math.round(-0.4), 9)), "00");
});

test("undefined is nil in arrays and absent in objects", () => {
  assert.equal(toHex(encode([undefined, { a: undefined, b: 1 }], LIMIT)), "92c081a16201");
});

test("a map's key cannot reach a prototype", () => {
  const value = decode(fromHex("81a95f5f70726f746f5f5f81a16107"));
  assert.equal(value.a, undefined);
  assert.deepEqual(Object.keys(value), ["__proto__"]);
  for (const key of ["constructor", "toString", "hasOwnProperty", "__defineGetter__"]) {
    const own = decode(reference.encode({ [key]: 7 }));
    assert.deepEqual(Object.getOwnPropertyDescriptor(own, key), {
      value: 7,
      configurable: true,
      enumerable: true,
      writable: true,
    });
  }
});

test("a map's key calls nothing that the page has put into the prototype of objects", (t) => {
  let calls = 0;
  Object.defineProperty(Object.prototype, "hp", { set: () => calls++, configurable: true });
  t.after(() => delete Object.prototype.hp);
  const value = decode(fromHex("82a268700aa2687014"));
  assert.equal(calls, 0);
  assert.deepEqual(Object.entries(value), [["hp", 20]]);
});

test("what is written may write something itself, or be another each time it is read", () => {
  let reads = 0;
  const value = {
    get inner() {
      return encode({ a: [1, 2] }, LIMIT).length;
    },
    get fickle() {
      return reads++ % 2 ? 7 : undefined;
    },
    last: true,
  };
  for (let n = 0; n < 2; n++) {
    const whole = decode(Uint8Array.from(encode([value, value], LIMIT)));
    assert.equal(whole.length, 2);
    for (const { inner, last } of whole) assert.deepEqual({ inner, last }, { inner: 6, last: true });
  }
});

test("strings that share a place among the known ones stay apart", () => {
  const texts = [""];
  for (let a = 32; a < 127; a++) for (let b = 32; b < 127; b++) texts.push(String.fromCharCode(a, b), "");
  assert.deepEqual(decode(reference.encode(texts), 1, Infinity), texts);
});

test("what lies about its length, or is far too large, is refused before memory is taken for it", () => {
  const before = process.memoryUsage().heapUsed;
  for (const hex of ["ddffffffff", "dfffffffff", "92ddfffffff000", "dbffffffff", "c6ffffffff", "dd00100000"]) {
    assert.throws(() => decode(fromHex(hex), MSGPACK_DEPTH, Infinity), { code: "truncated" }, hex);
  }
  const sparse = [];
  sparse.length = 2 ** 32 - 1;
  assert.throws(() => encode(sparse, LIMIT), { code: "items" });
  assert.throws(() => encode(new Uint8Array(2 ** 26), LIMIT), { code: "too_large" });
  assert.throws(() => encode("x".repeat(2 ** 28), LIMIT), { code: "too_large" });
  assert.ok(process.memoryUsage().heapUsed - before < 2 ** 26);
});

test("binary is a copy", () => {
  const bytes = fromHex("c40107");
  const value = decode(bytes);
  bytes.fill(0);
  assert.deepEqual(value, Uint8Array.of(7));
});

for (const value of [1n, Symbol("s"), () => {}, new Map(), new Date(), [new Set()]]) {
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

const EDGES = [0, 32, 127, 128, 255, 256, 2 ** 15, 2 ** 16, 2 ** 31, 2 ** 32, 2 ** 53 - 1].flatMap((n) => [n, n + 1, -n - 1]);

function randomValue(random, depth = 4) {
  const length = () => [random.below(20), random.below(40), random.below(300)][random.below(3)];
  const text = () => {
    const most = [0x7f, 0xff, 0xd000, 0xd000][random.below(4)];
    const characters = Array.from({ length: length() }, () => 1 + random.below(most));
    return String.fromCodePoint(...characters, ...(random.below(4) ? [] : [0x1f600 + random.below(60)]));
  };
  const choices = [
    () => null,
    () => random.below(2) === 1,
    () => random.below(2 ** 31) * (random.below(2) ? 1 : -(2 ** 20)),
    () => EDGES[random.below(EDGES.length)],
    () => random.below(1000) / 7,
    () => Math.fround(random.below(1000) / 7),
    () => new DataView(random.bytes(8).buffer).getFloat64(0),
    () => [NaN, Infinity, -Infinity, 1e20, 2 ** 64][random.below(5)],
    text,
    () => random.bytes(length()),
    () => Array.from({ length: random.below(20) }, () => randomValue(random, depth - 1)),
    () => Object.fromEntries(Array.from({ length: random.below(20) }, () => [`k${text()}`, randomValue(random, depth - 1)])),
  ];
  return choices[random.below(depth > 0 ? choices.length : choices.length - 2)]();
}

test("agrees with the reference implementation on random values", () => {
  for (let seed = 1; seed <= 500; seed++) {
    const value = randomValue(randomBytes(seed));
    const ours = Uint8Array.from(encode(value, 2 ** 22, MSGPACK_DEPTH, Infinity));
    assert.deepEqual(reference.decode(ours), value, `seed ${seed}`);
    assert.deepEqual(decode(ours, MSGPACK_DEPTH, Infinity), value, `seed ${seed}`);
    assert.deepEqual(decode(reference.encode(value), MSGPACK_DEPTH, Infinity), value, `seed ${seed}`);
  }
});

test("reads what the reference implementation reads, and refuses what it refuses", () => {
  const read = (decode, bytes) => {
    try {
      return { value: decode(bytes) };
    } catch (error) {
      return { error };
    }
  };
  for (let seed = 1; seed <= 20_000; seed++) {
    const random = randomBytes(seed);
    const bytes = Uint8Array.from(reference.encode(randomValue(random, 2)));
    for (let flips = random.below(3); flips > 0; flips--) bytes[random.below(bytes.length)] ^= 1 << random.below(8);
    const ours = read((bytes) => decode(bytes, 16, Infinity), bytes);
    // Where it reads more: no limit on integers, extensions, and UTF-8 that is none.
    if (ours.error && ["integer", "type", "utf8"].includes(ours.error.code)) continue;
    const theirs = read((bytes) => reference.decode(bytes), bytes);
    // And where it reads less: "__proto__" as a key.
    if (/__proto__/.test(theirs.error?.message)) continue;
    assert.equal(ours.error === undefined, theirs.error === undefined, `seed ${seed}: ${ours.error ?? theirs.error}`);
    if (!ours.error) assert.deepEqual(ours.value, theirs.value, `seed ${seed}`);
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
