import { readFileSync } from "node:fs";

/** The cases shared with the server; what they mean stands in their `comment`. */
export const vectors = (name) =>
  JSON.parse(readFileSync(new URL(`../../tests/vectors/${name}.json`, import.meta.url), "utf8"));

export const fromHex = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
export const toHex = (bytes) => Buffer.from(bytes).toString("hex");

const FLOATS = { NaN, inf: Infinity, "-inf": -Infinity };

/** A value of the vectors with its binary as bytes, and with the numbers that JSON has not. */
export function revive(value) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(revive);
  if ("$bin" in value) return fromHex(value.$bin);
  if ("$float" in value) return FLOATS[value.$float];
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, revive(item)]));
}

/** A generator of bytes that is the same for the same seed (xorshift32). */
export function randomBytes(seed) {
  let x = seed >>> 0 || 1;
  const next = () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
  return { below: (limit) => next() % limit, bytes: (length) => Uint8Array.from({ length }, () => next() & 0xff) };
}
