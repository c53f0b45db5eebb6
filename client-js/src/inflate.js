import { fail } from "./msgpack.js";

/** The order in which the lengths of the code of code lengths come (RFC 1951 §3.2.7). */
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/**
 * A prefix code, from the lengths of its codes by symbol (RFC 1951 §3.2.2): `symbol << 4 | length` by the next `width`
 * bits. What no code begins with stays 0.
 */
function prefixCode(lengths) {
  const byLength = [[]];
  lengths.forEach((length, symbol) => length && (byLength[length] ??= []).push(symbol));
  const width = byLength.length - 1;
  const entries = new Uint16Array(1 << width);
  // With its first bit lowest, as it is packed; so it is its own continuation by a 0.
  let code = 0;
  byLength.forEach((symbols, length) => {
    for (const symbol of symbols) {
      for (let at = code; at < entries.length; at += 1 << length) entries[at] = (symbol << 4) | length;
      let carry = 1 << (length - 1);
      for (; code & carry; carry >>= 1) code ^= carry;
      code |= carry;
    }
  });
  return { width, entries };
}

const FIXED = [
  prefixCode(new Uint8Array(288).map((_, symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8))),
  prefixCode(new Uint8Array(30).fill(5)),
];

/**
 * Inflates `body` (RFC 1951) into `out` and gives the part that it fills.
 * @throws {WireError} `inflate` where it can't be read, `too_large` where `out` is too small.
 */
export function inflate(body, out) {
  let at = 0;
  let size = 0;
  let isLast;

  const take = (bits) => {
    at += bits;
    if (at > 8 * body.length) fail("inflate");
  };
  const peek = (bits) => {
    const byte = at >> 3;
    const three = body[byte] | (body[byte + 1] << 8) | (body[byte + 2] << 16);
    return (three >> (at & 7)) & ((1 << bits) - 1);
  };
  const number = (bits) => {
    const value = peek(bits);
    take(bits);
    return value;
  };
  const symbol = ({ width, entries }) => {
    const entry = entries[peek(width)];
    if (entry === 0) fail("inflate");
    take(entry & 15);
    return entry >> 4;
  };
  /** The nth number of a scale on which, the first few aside, each `2 ** power` steps are twice as long as those before. */
  const scaled = (n, power) => {
    const extra = (n >> power) - 1;
    return extra > 0 ? (((1 << power) | (n & ((1 << power) - 1))) << extra) + number(extra) : n;
  };
  const claim = (bytes) => {
    if (size + bytes > out.length) fail("too_large");
  };

  const stored = () => {
    at = (at + 7) & ~7;
    let length = number(16);
    take(16);
    claim(length);
    while (length--) out[size++] = number(8);
  };
  const codes = () => {
    const literals = number(5) + 257;
    const lengths = new Uint8Array(literals + number(5) + 1);
    const ofLengths = new Uint8Array(ORDER.length);
    for (let n = 0, count = number(4) + 4; n < count; n++) ofLengths[ORDER[n]] = number(3);
    const code = prefixCode(ofLengths);
    for (let n = 0; n < lengths.length; ) {
      const length = symbol(code);
      if (length < 16) lengths[n++] = length;
      else {
        const end = n + (length < 18 ? 3 + number(length - 14) : 11 + number(7));
        lengths.fill(length < 17 ? lengths[n - 1] : 0, n, end);
        n = end;
      }
    }
    return [prefixCode(lengths.subarray(0, literals)), prefixCode(lengths.subarray(literals))];
  };
  const compressed = ([literals, distances]) => {
    for (;;) {
      const literal = symbol(literals);
      if (literal === 256) return;
      if (literal < 256) {
        claim(1);
        out[size++] = literal;
        continue;
      }
      let length = literal === 285 ? 258 : 3 + scaled(literal - 257, 2);
      let from = size - 1 - scaled(symbol(distances), 1);
      if (literal > 285 || from < 0) fail("inflate");
      claim(length);
      while (length--) out[size++] = out[from++];
    }
  };

  do {
    isLast = number(1);
    const type = number(2);
    if (type === 0) stored();
    else if (type === 3) fail("inflate");
    else compressed(type === 1 ? FIXED : codes());
  } while (!isLast);
  return out.subarray(0, size);
}
