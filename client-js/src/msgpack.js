import { MSGPACK_DEPTH, MSGPACK_ITEMS } from "./limits.js";

/** Bytes or a value that the wire does not take. `code` says why. */
export class WireError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

export const fail = (code) => {
  throw new WireError(code);
};

const JS_INTEGER_MAX = 2 ** 53;
const WIDTHS = [1, 2, 4, 8];
const toUtf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The msgpack of `value`, in at most `limit` bytes, `depth` nested containers and `maxItems` elements of all of them, as
 * an array of bytes.
 * @throws {WireError} `too_large`, `depth`, `items`, or `bad_value` for what msgpack or the server cannot hold.
 */
export function encode(value, limit, depth = MSGPACK_DEPTH, maxItems = MSGPACK_ITEMS) {
  const out = [];
  let items = 0;

  const put = (bytes) => {
    if (out.length + bytes.length > limit) fail("too_large");
    for (const byte of bytes) out.push(byte);
  };
  // The division is exact, so this is two's complement up to 2^53 too.
  const number = (marker, width, n) => {
    const bytes = [];
    for (; width > 0; width--) {
      bytes.unshift(n & 0xff);
      n = Math.floor(n / 256);
    }
    put([marker, ...bytes]);
  };
  const integer = (n) => {
    if (Math.abs(n) > JS_INTEGER_MAX) fail("bad_value");
    if (n >= -32 && n < 128) return put([n & 0xff]);
    const size = WIDTHS.findIndex((width) => (n < 0 ? n >= -(256 ** width) / 2 : n < 256 ** width));
    number((n < 0 ? 0xd0 : 0xcc) + size, WIDTHS[size], n);
  };
  const float = (x) => {
    const single = Object.is(Math.fround(x), x);
    // Typed arrays are little endian wherever browsers run.
    const bytes = new Uint8Array((single ? Float32Array : Float64Array).of(x).buffer).reverse();
    put([single ? 0xca : 0xcb, ...bytes]);
  };
  /** `marker` is that of the 16-bit length; `marker8` is 0 for what has no 8-bit length. */
  const length = (n, fixed, fixedBelow, marker8, marker) => {
    if (n < fixedBelow) put([fixed + n]);
    else if (marker8 && n < 0x100) number(marker8, 1, n);
    else if (n < 0x10000) number(marker, 2, n);
    else number(marker + 1, 4, n);
  };
  const enter = (elements, depth) => {
    if (depth === 0) fail("depth");
    items += elements;
    if (items > maxItems) fail("items");
  };
  const string = (text) => {
    const utf8 = toUtf8.encode(text);
    length(utf8.length, 0xa0, 32, 0xd9, 0xda);
    put(utf8);
  };
  const write = (value, depth) => {
    const isArray = Array.isArray(value);
    if (value === undefined || value === null) put([0xc0]);
    else if (typeof value === "boolean") put([value ? 0xc3 : 0xc2]);
    else if (Number.isInteger(value)) integer(value);
    else if (typeof value === "number") float(value);
    else if (typeof value === "string") string(value);
    else if (value instanceof Uint8Array) {
      length(value.length, 0, 0, 0xc4, 0xc5);
      put(value);
    } else if (!isArray && Object.prototype.toString.call(value) !== "[object Object]") fail("bad_value");
    else if (isArray) {
      enter(value.length, depth);
      length(value.length, 0x90, 16, 0, 0xdc);
      for (const item of value) write(item, depth - 1);
    } else {
      const entries = Object.entries(value).filter(([, item]) => item !== undefined);
      enter(2 * entries.length, depth);
      length(entries.length, 0x80, 16, 0, 0xde);
      for (const [key, item] of entries) {
        string(key);
        write(item, depth - 1);
      }
    }
  };

  write(value, depth);
  return out;
}

/**
 * The value of which `bytes` are the msgpack, of at most `maxDepth` nested containers and `maxItems` elements. Binary becomes a `Uint8Array` of its own, keys of maps become strings.
 * @throws {WireError} `truncated`, `trailing`, `depth`, `items`, `integer`, `utf8`, or `type` for extensions, the
 * reserved marker, and keys that are neither strings nor integers.
 */
export function decode(bytes, maxDepth = MSGPACK_DEPTH, maxItems = MSGPACK_ITEMS) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  let items = 0;

  const take = (length) => {
    if (length > bytes.length - at) fail("truncated");
    at += length;
    return at - length;
  };
  const binary = (length) => bytes.slice(take(length), at);
  const unsigned = (width) => binary(width).reduce((n, byte) => n * 256 + byte, 0);
  const signed = (width) => {
    const n = unsigned(width);
    return n < 256 ** width / 2 ? n : n - 256 ** width;
  };
  const exact = (big) => {
    if (big > JS_INTEGER_MAX || big < -JS_INTEGER_MAX) fail("integer");
    return Number(big);
  };
  const string = (length) => {
    const utf8 = binary(length);
    try {
      return fromUtf8.decode(utf8);
    } catch {
      fail("utf8");
    }
  };
  const enter = (elements, depth) => {
    if (depth === 0) fail("depth");
    items += elements;
    if (items > maxItems) fail("items");
    // Every element takes a byte at least, so nothing is allocated for a count that cannot be true.
    if (elements > bytes.length - at) fail("truncated");
  };
  const array = (length, depth) => {
    enter(length, depth);
    return Array.from({ length }, () => read(depth - 1));
  };
  const map = (length, depth) => {
    enter(2 * length, depth);
    // Assigned instead, the key "__proto__" would set the prototype.
    return Object.fromEntries(
      Array.from({ length }, () => {
        const key = read(0);
        if (typeof key !== "string" && !Number.isInteger(key)) fail("type");
        return [key, read(depth - 1)];
      }),
    );
  };
  const read = (depth) => {
    const marker = bytes[take(1)];
    if (marker < 0x80) return marker;
    if (marker < 0x90) return map(marker & 15, depth);
    if (marker < 0xa0) return array(marker & 15, depth);
    if (marker < 0xc0) return string(marker & 31);
    if (marker === 0xc0) return null;
    if (marker === 0xc1) fail("type");
    if (marker < 0xc4) return marker === 0xc3;
    if (marker < 0xc7) return binary(unsigned(1 << (marker - 0xc4)));
    if (marker < 0xca) fail("type");
    if (marker === 0xca) return view.getFloat32(take(4));
    if (marker === 0xcb) return view.getFloat64(take(8));
    if (marker < 0xcf) return unsigned(1 << (marker - 0xcc));
    if (marker === 0xcf) return exact(view.getBigUint64(take(8)));
    if (marker < 0xd3) return signed(1 << (marker - 0xd0));
    if (marker === 0xd3) return exact(view.getBigInt64(take(8)));
    if (marker < 0xd9) fail("type");
    if (marker < 0xdc) return string(unsigned(1 << (marker - 0xd9)));
    if (marker < 0xde) return array(unsigned(2 << (marker - 0xdc)), depth);
    if (marker < 0xe0) return map(unsigned(2 << (marker - 0xde)), depth);
    return marker - 256;
  };

  const value = read(maxDepth);
  if (at < bytes.length) fail("trailing");
  return value;
}
