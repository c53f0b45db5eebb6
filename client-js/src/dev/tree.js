import { element } from "./element.js";

const CHILDREN_SHOWN = 200;
const TEXT_SHOWN = 2_000;
const BYTES_SHOWN = 64;
/** Levels that are open at first: an array with the tick, and what stands in it. */
const UNFOLDED = 2;

const isContainer = (value) => typeof value === "object" && value !== null && !(value instanceof Uint8Array);
const hex = (bytes) =>
  `${bytes.length} bytes: ${Array.from(bytes.subarray(0, BYTES_SHOWN), (byte) => byte.toString(16).padStart(2, "0")).join(" ")}${bytes.length > BYTES_SHOWN ? " …" : ""}`;
const cut = (text) => (text.length > TEXT_SHOWN ? `${text.slice(0, TEXT_SHOWN)} …` : text);
const replaceBytes = (key, value) => (value instanceof Uint8Array ? hex(value) : value);

/** The value in one line, as JSON. */
export const toText = (value, indent) => JSON.stringify(value, replaceBytes, indent) ?? String(value);

function leaf(value) {
  const kind = value === null ? "null" : value instanceof Uint8Array ? "bytes" : typeof value;
  return element("span", { className: `value ${kind}` }, cut(kind === "bytes" ? hex(value) : toText(value)));
}

/** A value as a tree. What is folded is not made yet. */
export function tree(value, key, depth = 0) {
  const name = key === undefined ? [] : [element("span", { className: "key" }, `${key}: `)];
  if (!isContainer(value)) return element("div", { className: "leaf" }, ...name, leaf(value));
  const entries = Object.entries(value);
  const brackets = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  const preview = element("span", { className: "preview" }, cut(toText(value)).slice(0, 120));
  const details = element("details", {}, element("summary", {}, ...name, element("span", { className: "count" }, brackets), " ", preview));
  const unfold = () => {
    if (!details.open || details.childElementCount > 1) return;
    details.append(...entries.slice(0, CHILDREN_SHOWN).map(([key, child]) => tree(child, key, depth + 1)));
    const more = entries.length - CHILDREN_SHOWN;
    if (more > 0) details.append(element("div", { className: "leaf" }, `${more} more`));
  };
  details.addEventListener("toggle", unfold);
  details.open = depth < UNFOLDED;
  unfold();
  return details;
}
