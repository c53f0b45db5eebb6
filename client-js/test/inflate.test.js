import assert from "node:assert/strict";
import { test } from "node:test";
import { constants, deflateRawSync, inflateRawSync } from "node:zlib";
import { inflate } from "../src/inflate.js";
import { WireError } from "../src/msgpack.js";
import { randomBytes } from "./vectors.js";

const LIMIT = 70_000;
const { Z_DEFAULT_STRATEGY, Z_FILTERED, Z_FIXED, Z_HUFFMAN_ONLY, Z_RLE } = constants;
/** Bytes of a skewed alphabet with repetitions, near and as far as a window reaches. */
function compressible({ below }, length) {
  const bytes = [];
  const letters = 1 + below(200);
  while (bytes.length < length) {
    const back = below(bytes.length + 1);
    if (below(3) === 0 && back > 0) {
      for (let n = below(300); n >= 0; n--) bytes.push(bytes[bytes.length - back]);
    } else bytes.push(below(letters) & below(letters));
  }
  return Uint8Array.from(bytes.slice(0, length));
}

test("inflates what zlib deflates, by each of its strategies", () => {
  for (let seed = 1; seed <= 120; seed++) {
    const random = randomBytes(seed);
    const length = [0, 1, 3, 50, 1_000, 16_000, 66_000][seed % 7];
    const plain = seed % 5 === 0 ? random.bytes(length) : compressible(random, length);
    for (const strategy of [Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED]) {
      const deflated = deflateRawSync(plain, { level: seed % 10, strategy });
      const out = new Uint8Array(plain.length);
      assert.deepEqual(inflate(deflated, out), plain, `seed ${seed}, strategy ${strategy}`);
      if (length === 0) continue;
      assert.throws(() => inflate(deflated, out.subarray(1)), { constructor: WireError, code: "too_large" });
      const cut = deflated.subarray(0, -1);
      assert.throws(() => inflate(cut, out), { constructor: WireError, code: "inflate" }, `seed ${seed}`);
    }
  }
});

test("of what is damaged gives what zlib gives, or a WireError where zlib fails too", () => {
  let failures = 0;
  for (let seed = 1; seed <= 3_000; seed++) {
    const random = randomBytes(seed);
    const { below } = random;
    const deflated = deflateRawSync(compressible(random, below(400)), { strategy: seed % 5 });
    const bytes = seed % 3 === 0 ? random.bytes(below(60)) : deflated;
    for (let n = below(4); n > 0 && bytes.length > 0; n--) bytes[below(bytes.length)] ^= 1 << below(8);
    let expected;
    try {
      expected = inflateRawSync(bytes, { maxOutputLength: LIMIT });
    } catch {
      failures++;
    }
    try {
      const inflated = inflate(bytes, new Uint8Array(LIMIT));
      if (expected) assert.deepEqual(Buffer.from(inflated), expected, `seed ${seed}`);
    } catch (error) {
      assert.ok(error instanceof WireError, `seed ${seed}: ${error.stack}`);
      assert.equal(expected, undefined, `seed ${seed}: ${error.code}`);
    }
  }
  assert.ok(failures > 500 && failures < 2_900, `${failures}`);
});
