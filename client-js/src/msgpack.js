import { MSGPACK_DEPTH, MSGPACK_ITEMS } from "./limits.js";

/** Bytes or a value that the wire does not take. `code` says why, for a value `path` where, and `trouble` in words. */
export class WireError extends Error {
  constructor(code, trouble) {
    super(code);
    this.code = code;
    this.trouble = trouble;
  }
}

export const fail = (code, trouble) => {
  throw new WireError(code, trouble);
};

const JS_INTEGER_MAX = 2 ** 53;
const toUtf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** Up to so many characters a loop is quicker than the browser's own coders. */
const SHORT = 32;

// ---- Writing. `out` belongs to one call: a getter of what is written may encode something itself.

const scratch = new DataView(new ArrayBuffer(8));

const putInteger = (out, n, width) => {
  for (let bits = 8 * width - 8; bits >= 0; bits -= 8) out.bytes.push((n >> bits) & 0xff);
};
const putFloat = (out, x) => {
  const single = Object.is(Math.fround(x), x);
  out.bytes.push(single ? 0xca : 0xcb);
  if (single) scratch.setFloat32(0, x);
  else scratch.setFloat64(0, x);
  for (let at = 0; at < (single ? 4 : 8); at++) out.bytes.push(scratch.getUint8(at));
};
const putNumber = (out, n) => {
  if (!Number.isInteger(n) || Math.abs(n) > JS_INTEGER_MAX) return putFloat(out, n);
  if (n >= -32 && n < 128) return out.bytes.push(n & 0xff);
  // Of negative integers, the unsigned one that has the same width.
  const size = n < 0 ? -2 * (n + 1) : n;
  const power = size < 0x100 ? 0 : size < 0x10000 ? 1 : size < 2 ** 32 ? 2 : 3;
  out.bytes.push((n < 0 ? 0xd0 : 0xcc) + power);
  if (power === 3) putInteger(out, Math.floor(n / 2 ** 32), 4);
  putInteger(out, n, Math.min(4, 1 << power));
};
/** `marker` is that of an 8-bit length, or where it would be if the shortest has not `2 ** leastPower` bytes. */
const putLength = (out, n, fixed, fixedBelow, marker, leastPower = 0) => {
  if (n < fixedBelow) return out.bytes.push(fixed + n);
  const power = Math.max(leastPower, n < 0x100 ? 0 : n < 0x10000 ? 1 : 2);
  out.bytes.push(marker + power);
  putInteger(out, n, 1 << power);
};
const putBytes = (out, bytes) => {
  // Before they are copied.
  if (bytes.length > out.limit) fail("too_large");
  for (let at = 0; at < bytes.length; at++) out.bytes.push(bytes[at]);
};
const putString = (out, text) => {
  const { length } = text;
  // There are no fewer bytes than characters.
  if (length > out.limit) fail("too_large");
  let at = 0;
  if (length <= SHORT) while (at < length && text.charCodeAt(at) < 0x80) at++;
  if (at < length) {
    const utf8 = toUtf8.encode(text);
    putLength(out, utf8.length, 0xa0, 32, 0xd9);
    putBytes(out, utf8);
  } else {
    putLength(out, length, 0xa0, 32, 0xd9);
    for (at = 0; at < length; at++) out.bytes.push(text.charCodeAt(at));
  }
};
const enter = (out, elements, depth) => {
  if (depth === 0) fail("depth");
  out.itemsLeft -= elements;
  if (out.itemsLeft < 0) fail("items");
};
/** The error of what is at `step`, where a getter may throw anything. */
const located = (error, step) => {
  const known = error instanceof WireError ? error : new WireError("bad_value", "throws");
  known.path = step + (known.path ?? "");
  return known;
};
const putObject = (out, object, depth) => {
  const keysAndValues = [];
  let key;
  const keys = Object.keys(object);
  try {
    for (key of keys) {
      const value = object[key];
      if (value !== undefined) keysAndValues.push(key, value);
    }
    const { length } = keysAndValues;
    enter(out, length, depth);
    putLength(out, length / 2, 0x80, 16, 0xdd, 1);
    for (let n = 0; n < length; n += 2) {
      key = keysAndValues[n];
      putString(out, key);
      put(out, keysAndValues[n + 1], depth - 1);
    }
  } catch (error) {
    throw located(error, `.${key}`);
  }
};
const putArray = (out, array, depth) => {
  const { length } = array;
  enter(out, length, depth);
  putLength(out, length, 0x90, 16, 0xdb, 1);
  let n = 0;
  try {
    for (; n < length; n++) put(out, array[n], depth - 1);
  } catch (error) {
    throw located(error, `[${n}]`);
  }
};
const put = (out, value, depth) => {
  if (typeof value === "number") putNumber(out, value);
  else if (typeof value === "string") putString(out, value);
  else if (typeof value === "boolean") out.bytes.push(value ? 0xc3 : 0xc2);
  else if (value === undefined || value === null) out.bytes.push(0xc0);
  else if (Array.isArray(value)) putArray(out, value, depth);
  else if (value instanceof Uint8Array) {
    putLength(out, value.length, 0, 0, 0xc4);
    putBytes(out, value);
  } else {
    const type = Object.prototype.toString.call(value).slice(8, -1);
    if (type !== "Object") fail("bad_value", `is of type ${type}`);
    putObject(out, value, depth);
  }
  if (out.bytes.length > out.limit) fail("too_large");
};

/**
 * The msgpack of `value`, in at most `limit` bytes, `depth` nested containers and `maxItems` elements of all of them, as
 * an array of bytes.
 * @throws {WireError} `too_large`, `depth`, `items`, or `bad_value` for what msgpack or the server cannot hold.
 */
export function encode(value, limit, depth = MSGPACK_DEPTH, maxItems = MSGPACK_ITEMS) {
  const out = { bytes: [], limit, itemsLeft: maxItems };
  try {
    put(out, value, depth);
  } catch (error) {
    throw located(error, "");
  }
  return out.bytes;
}

// ---- Reading. Nothing of the page's runs meanwhile, so all calls share where they are.

let bytes;
let view;
let at;
let itemsLeft;
/** Short strings by their hash: keys come again and again, and a string that exists need not be made. */
const known = Array(256).fill("");

const take = (length) => {
  if (length > bytes.length - at) fail("truncated");
  at += length;
  return at - length;
};
/** An unsigned integer of so many bytes, 4 at most. */
const unsigned = (width) => {
  let from = take(width);
  let n = 0;
  while (from < at) n = n * 256 + bytes[from++];
  return n;
};
const signed = (width) => {
  const shift = 32 - 8 * width;
  return (unsigned(width) << shift) >> shift;
};
const long = (high) => {
  const low = unsigned(4);
  const top = JS_INTEGER_MAX / 2 ** 32;
  if (high < -top || high > top || (high === top && low > 0)) fail("integer");
  return high * 2 ** 32 + low;
};
const string = (length) => {
  const from = take(length);
  let hash = length;
  let isPlain = length <= SHORT;
  for (let n = from; isPlain && n < at; n++) {
    hash = (hash * 31 + bytes[n]) & 0xff;
    isPlain = bytes[n] < 0x80;
  }
  if (!isPlain) {
    try {
      return fromUtf8.decode(bytes.subarray(from, at));
    } catch {
      fail("utf8");
    }
  }
  let text = known[hash];
  let isSame = text.length === length;
  for (let n = 0; isSame && n < length; n++) isSame = text.charCodeAt(n) === bytes[from + n];
  if (!isSame) {
    text = "";
    for (let n = from; n < at; n++) text += String.fromCharCode(bytes[n]);
    known[hash] = text;
  }
  return text;
};
const claim = (elements, depth) => {
  if (depth === 0) fail("depth");
  itemsLeft -= elements;
  if (itemsLeft < 0) fail("items");
  // Every element takes a byte at least, so nothing is allocated for a count that cannot be true.
  if (elements > bytes.length - at) fail("truncated");
};
const array = (length, depth) => {
  claim(length, depth);
  const items = new Array(length);
  for (let n = 0; n < length; n++) items[n] = read(depth - 1);
  return items;
};
/** Whether it begins a string or an integer, or what is refused anyway. */
const beginsKey = (marker) => marker < 0x80 || marker >> 5 === 5 || (marker >= 0xcc && marker < 0xdc) || marker >= 0xe0;
const map = (length, depth) => {
  claim(2 * length, depth);
  const object = {};
  while (length-- > 0) {
    const marker = bytes[take(1)];
    if (!beginsKey(marker)) fail("type");
    const key = readAfter(marker, 0);
    const value = read(depth - 1);
    // Assigned, what objects inherit may do anything: "__proto__" sets the prototype.
    if (key in object) {
      Object.defineProperty(object, key, { value, configurable: true, enumerable: true, writable: true });
    } else object[key] = value;
  }
  return object;
};
const readAfter = (marker, depth) => {
  if (marker < 0x80) return marker;
  if (marker < 0x90) return map(marker & 15, depth);
  if (marker < 0xa0) return array(marker & 15, depth);
  if (marker < 0xc0) return string(marker & 31);
  if (marker === 0xc0) return null;
  if (marker === 0xc1) fail("type");
  if (marker < 0xc4) return marker === 0xc3;
  if (marker < 0xc7) return bytes.slice(take(unsigned(1 << (marker - 0xc4))), at);
  if (marker < 0xca) fail("type");
  if (marker === 0xca) return view.getFloat32(take(4));
  if (marker === 0xcb) return view.getFloat64(take(8));
  if (marker < 0xcf) return unsigned(1 << (marker - 0xcc));
  if (marker === 0xcf) return long(unsigned(4));
  if (marker < 0xd3) return signed(1 << (marker - 0xd0));
  if (marker === 0xd3) return long(signed(4));
  if (marker < 0xd9) fail("type");
  if (marker < 0xdc) return string(unsigned(1 << (marker - 0xd9)));
  if (marker < 0xde) return array(unsigned(2 << (marker - 0xdc)), depth);
  if (marker < 0xe0) return map(unsigned(2 << (marker - 0xde)), depth);
  return marker - 256;
};
const read = (depth) => {
  const marker = bytes[take(1)];
  return marker < 0x80 ? marker : readAfter(marker, depth);
};

/**
 * The value of which `from` are the msgpack, of at most `maxDepth` nested containers and `maxItems` elements. Binary
 * becomes a `Uint8Array` of its own, keys of maps become strings.
 * @throws {WireError} `truncated`, `trailing`, `depth`, `items`, `integer`, `utf8`, or `type` for extensions, the
 * reserved marker, and keys that are neither strings nor integers.
 */
export function decode(from, maxDepth = MSGPACK_DEPTH, maxItems = MSGPACK_ITEMS) {
  bytes = from;
  view = new DataView(from.buffer, from.byteOffset, from.length);
  at = 0;
  itemsLeft = maxItems;
  const value = read(maxDepth);
  if (at < bytes.length) fail("trailing");
  return value;
}
