import { element, size } from "./element.js";
import { toText, tree } from "./tree.js";

const LINES_SHOWN = 150;
const LANES = { websocket: "ws", "data channel": "dc" };
const ARROWS = { up: "↑", down: "↓" };
const HEADINGS = ["time", "", "message", "number", "", "wire", "decoded", "ratio"];

/** What share of the decoded bytes has gone over the wire, where a coding made them fewer. */
const ratio = ({ coding, wireBytes, decodedBytes }) =>
  coding ? `${coding === "delta" ? "Δ" : "z"} ${Math.round((wireBytes / decodedBytes) * 100)}%` : "";

/** The list of messages, and the one that is opened: `{node, draw(messages)}`. */
export function createInspector() {
  const pause = element("button", { type: "button" }, "Pause");
  pause.setAttribute("aria-pressed", "false");
  const filter = element("input", { type: "search", placeholder: "Filter: state, up, lost, text…", ariaLabel: "Filter" });
  const heading = element("div", { className: "line heading" }, ...HEADINGS.map((text, n) => element("span", { className: n > 4 ? "size" : "dim" }, text)));
  const lines = element("div");
  const list = element("div", { className: "list", role: "log", ariaLabel: "Messages", ariaLive: "off" }, heading, lines);
  const detail = element("div", { className: "detail" }, element("span", { className: "dim" }, "Choose a message to see its value."));
  const node = element("section", { className: "messages" }, element("div", { className: "row" }, pause, filter), list, detail);

  let from = null;
  let frozen = null;
  let drawnUpTo = 0;
  let wanted = "";
  let opened = null;

  /** For a text filter, so it is made once. */
  const texts = new WeakMap();
  const textOf = (message) => {
    if (!texts.has(message)) {
      const { way, kind, lane, label, coding, fate, value } = message;
      texts.set(message, [way, kind, lane, LANES[lane], label, coding, fate, toText(value)].join(" ").toLowerCase());
    }
    return texts.get(message);
  };
  const matches = (message) => wanted.split(/\s+/).every((word) => textOf(message).includes(word));

  const line = (message) => {
    const { at, way, lane, kind, label, wireBytes, decodedBytes, fate, isReliable } = message;
    const made = element(
      "button",
      { type: "button", className: `line ${fate === "lost" ? "lost" : fate ? "odd" : ""}`, title: fate ? `${fate}, ${lane}` : lane },
      element("span", { className: "dim" }, (at / 1_000).toFixed(2)),
      element("span", { className: `way ${way}` }, ARROWS[way]),
      element("span", { className: "kind" }, [kind, isReliable && kind === "event" && "reliable", fate].filter(Boolean).join(" · ")),
      element("span", { className: "dim" }, label),
      element("span", { className: "dim" }, LANES[lane]),
      element("span", { className: "size" }, size(wireBytes)),
      element("span", { className: "size" }, decodedBytes === undefined ? "" : size(decodedBytes)),
      element("span", { className: "ratio" }, ratio(message)),
    );
    made.onclick = () => open(message, made);
    return made;
  };

  function open(message, row) {
    opened?.removeAttribute("aria-current");
    opened = row;
    row.setAttribute("aria-current", "true");
    const { way, lane, kind, label, wireBytes, decodedBytes, coding, parts, fate, value } = message;
    const facts = [
      label,
      `${way === "up" ? "to the server" : "from the server"} by ${lane}`,
      `${size(wireBytes)} on the wire${parts ? ` in ${parts} parts` : ""}`,
      ...(decodedBytes === undefined ? [] : [`${size(decodedBytes)} decoded`]),
      ...(coding ? [`${coding}: ${Math.round((wireBytes / decodedBytes) * 100)} %`] : []),
      ...(fate ? [fate] : []),
    ];
    const shown = element("div", { className: "tree" });
    const asText = element("button", { type: "button" }, "Text");
    let isText = false;
    const render = () => {
      asText.textContent = isText ? "Tree" : "Text";
      shown.replaceChildren(isText ? element("pre", {}, toText(value, 2)) : tree(value));
    };
    asText.onclick = () => {
      isText = !isText;
      render();
    };
    const about = element("div", { className: "about" }, element("span", {}, element("b", {}, kind), facts.filter(Boolean).join(" · ")));
    if (value === undefined) shown.append(fate === "lost" ? "Lost before it could be decoded." : "It could not be decoded.");
    else {
      about.append(asText);
      render();
    }
    detail.replaceChildren(about, shown);
    detail.scrollTop = 0;
  }

  const reset = () => {
    lines.replaceChildren();
    drawnUpTo = 0;
  };
  const setPaused = (isPaused) => {
    frozen = isPaused ? [...(from?.kept ?? [])] : null;
    pause.setAttribute("aria-pressed", String(isPaused));
    pause.textContent = isPaused ? "Paused" : "Pause";
    redraw();
  };
  const redraw = () => {
    reset();
    if (from) draw(from);
  };
  pause.onclick = () => setPaused(!frozen);
  filter.oninput = () => {
    wanted = filter.value.trim().toLowerCase();
    redraw();
  };

  function draw(messages) {
    if (messages !== from) {
      from = messages;
      if (!frozen) reset();
    }
    const kept = frozen ?? messages.kept;
    const fresh = kept.filter((message) => message.number > drawnUpTo && (!wanted || matches(message))).slice(-LINES_SHOWN);
    drawnUpTo = Math.max(drawnUpTo, kept.at(-1)?.number ?? 0);
    if (fresh.length === 0 && lines.childElementCount > 0) return;
    const isAtTop = list.scrollTop < 4;
    const before = list.scrollHeight;
    lines.querySelector(".empty")?.remove();
    lines.prepend(...fresh.reverse().map(line));
    while (lines.childElementCount > LINES_SHOWN) lines.lastElementChild.remove();
    if (lines.childElementCount === 0) {
      lines.append(element("div", { className: "empty" }, wanted ? "No message matches the filter." : "No messages yet."));
    }
    // Who reads further down goes on reading there.
    if (!isAtTop) list.scrollTop += list.scrollHeight - before;
  }
  return { node, draw };
}
