// Shared by the shipped pages: their style, and how they show the state of the connection.

export const $ = (selector) => document.querySelector(selector);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

// ---- The style. A page is hidden until this has loaded, so that it is never shown unstyled. It is inserted first, so
// that the page's own styles override it.

document.head.prepend(element("style", { textContent: `
  :root {
    color-scheme: dark; --ground: #070a14; --panel: #0d1324; --ink: #e8eefc; --dim: #9aa7c7; --line: #ffffff26;
    --raised: #ffffff14; --hover: #ffffff2b; --accent: #38d9ff; --on-accent: #04121a;
    --good: #5ff0a8; --fair: #ffd24a; --poor: #ff9b9b;
  }
  @media (prefers-color-scheme: light) {
    :root.any-scheme {
      color-scheme: light; --ground: #fff; --panel: #f6f8fc; --ink: #16203a; --dim: #566180; --line: #c3cbdc;
      --raised: #fff; --hover: #e8eef8; --accent: #0a6fa3; --on-accent: #fff;
      --good: #0b6e3f; --fair: #8a4300; --poor: #a51d1d;
    }
  }
  * { box-sizing: border-box; }
  [hidden] { display: none !important; }
  html { background: var(--ground); -webkit-text-size-adjust: 100%; }
  html body { visibility: visible; animation: none; }
  body { margin: 0; color: var(--ink); font: 14px/1.4 system-ui, sans-serif; }
  h1, h2, p { margin: 0; }
  a { color: var(--accent); }
  button, .button, input, select {
    font: inherit; color: inherit; min-width: 0; min-height: 36px; padding: 4px 12px;
    border: 1px solid var(--line); border-radius: 8px; background: var(--raised);
  }
  @media (pointer: coarse), (max-width: 899px) { input, select { font-size: 16px; } } /* iOS zooms in on smaller ones. */
  button, .button { display: inline-flex; align-items: center; justify-content: center; font-weight: 600;
    white-space: nowrap; text-decoration: none; cursor: pointer; }
  button:hover, .button:hover { background: var(--hover); }
  .main { background: var(--accent); border-color: transparent; color: var(--on-accent); }
  .main:hover { background: var(--accent); filter: brightness(1.15); }
  ::placeholder { color: var(--dim); opacity: 1; }
  input { text-overflow: ellipsis; user-select: text; -webkit-user-select: text; }
  :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  kbd { font: inherit; border: 1px solid var(--line); border-radius: 4px; padding: 0 5px; }
  .panel { background: color-mix(in srgb, var(--panel) 88%, transparent); border: 1px solid var(--line); border-radius: 12px; }
  .buttons { display: flex; flex-wrap: wrap; gap: 8px; }
  .said { color: var(--poor); font-size: 13px; } .said:empty { display: none; }
  .unseen { position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

  #connection { padding: 6px 12px; font-size: 12px; font-variant-numeric: tabular-nums; pointer-events: none; }
  #connection p::before { content: "●"; content: "●" / ""; margin-right: 6px; color: var(--dim); }
  #connection p.good::before, #connection .good { color: var(--good); }
  #connection p.fair::before, #connection .fair { color: var(--fair); }
  #connection p.poor::before, #connection .poor { color: var(--poor); }
  #connection p.good, #connection p.fair, #connection p.poor { color: inherit; }
  #connection dl { display: flex; flex-wrap: wrap; gap: 0 12px; margin: 2px 0 0; }
  #connection dl div { display: flex; gap: 5px; } #connection dt { color: var(--dim); } #connection dd { margin: 0; }

  #notice {
    position: fixed; z-index: 9; top: 50%; left: 50%; transform: translate(-50%, -50%); width: min(440px, 100% - 32px);
    max-height: calc(100% - 24px); overflow: auto; padding: 18px 20px; border: 1px solid var(--poor); border-radius: 12px;
    background: var(--panel); box-shadow: 0 12px 60px #000a; font-size: 15px;
  }
  #notice:focus { outline: none; }
  #notice h2 { margin: 0 0 6px; font-size: 20px; line-height: 1.25; }
  #notice p { margin: 0 0 10px; }
  #notice p:empty { display: none; }
  #notice .advice { color: var(--dim); }
  #notice form { display: flex; gap: 8px; margin: 0 0 14px; } #notice form input { flex: 1; }
  #notice .buttons { margin-top: 14px; }
  #notice.joining { border-color: var(--line); }
  #notice.told {
    top: max(12px, env(safe-area-inset-top)); transform: translateX(-50%); border-color: var(--fair); padding: 10px 14px;
    width: min(560px, 100% - 32px); display: flex; flex-wrap: wrap; gap: 8px 12px; align-items: center; font-size: 14px;
  }
  #notice.told h2 { display: none; } #notice.told p { margin: 0; flex: 1 1 220px; overflow-wrap: anywhere; white-space: pre-line; } #notice.told .buttons { margin: 0; }
  canvas { transition: filter .3s; }
  .away canvas { filter: grayscale(.85) brightness(.5); }
  @media (prefers-reduced-motion: reduce) { canvas { transition: none; } }
` }));

// ---- The player's name, kept where the browser allows it, and the address to share.

const NAME_CHARS = 32;
const stored = {
  get name() { try { return localStorage.getItem("name"); } catch { return null; } },
  set name(name) { try { localStorage.setItem("name", name); } catch { /* forbidden, or full */ } },
};
const oneOf = (words) => words[Math.floor(Math.random() * words.length)];
const randomName = () => `${oneOf(["Amber", "Brisk", "Calm", "Fuzzy", "Lucky", "Quick", "Silver", "Sunny"])} ` +
  oneOf(["Badger", "Falcon", "Fox", "Llama", "Otter", "Penguin", "Puffin", "Tiger"]);
/** Kept for the tab: under another name, a page that is loaded again joins as another player. */
const guestName = () => { try { return (sessionStorage.guest ??= randomName()); } catch { return randomName(); } };

/** The first 32 grapheme clusters of `text`, as the server counts a name, without half a surrogate pair. */
function cutName(text) {
  const { Segmenter } = Intl;
  const graphemes = Segmenter ? Array.from(new Segmenter().segment(text), ({ segment }) => segment) : Array.from(text);
  const name = graphemes.slice(0, NAME_CHARS).join("");
  return name.toWellFormed?.() ?? name;
}

/** The field of `form` with the player's name; `renamed` is called after the player has changed it. */
export function createName(form, renamed) {
  const input = form.querySelector("input");
  input.value = stored.name || guestName();
  input.oninput = ({ isComposing }) => {
    const name = cutName(input.value);
    if (!isComposing && name !== input.value) input.value = name;
  };
  form.onsubmit = (event) => {
    event.preventDefault();
    stored.name = cutName(input.value).trim();
    input.value = stored.name || guestName();
    input.blur();
    renamed();
  };
  return {
    get value() { return cutName(input.value).trim() || guestName(); },
    /** The name as the server has it. */
    set value(name) { if (document.activeElement !== input) input.value = name; },
  };
}

export function createCopyButton(button, text) {
  const label = button.textContent;
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(text());
      button.textContent = "Copied";
    } catch { // Pages over plain HTTP have no clipboard.
      prompt("Copy this:", text());
    }
    setTimeout(() => (button.textContent = label), 1_500);
  };
}

// ---- Voice, where the server forwards it.

/**
 * A button that joins the voices of the room and then mutes the microphone; with the `key` of a keyboard, which has a
 * `name`, the microphone is open while that or the button is held. `speaking` is called as `on("speaking")`.
 */
export function createVoice(button, { key, name, speaking = () => {} } = {}) {
  const said = element("p", { className: "said", role: "status" });
  const isTouched = matchMedia("(pointer: coarse)");
  button.after(said);
  let room = null, voice = null, isJoining = false;
  const show = () => {
    button.hidden = !room?.media;
    if (isJoining) button.textContent = "Joining voice…";
    else if (!voice) button.textContent = "Join voice";
    else if (key) button.textContent = voice.talking ? "Talking" : `Hold ${isTouched.matches ? "" : `${name} `}to talk`;
    else button.textContent = voice.muted ? "Unmute" : "Mute";
    button.classList.toggle("main", Boolean(voice?.talking));
  };
  const end = (sentence) => {
    voice = null;
    said.textContent = sentence;
    show();
  };
  const join = async () => {
    isJoining = true;
    end("");
    try {
      const { joinVoice } = await import("./rtcade/voice.js");
      const joined = await joinVoice(room, { muted: Boolean(key) });
      joined.on("speaking", speaking);
      joined.on("error", ({ message }) => end(message));
      voice = joined;
    } catch ({ message }) {
      said.textContent = message;
    }
    isJoining = false;
    show();
  };
  const talk = (talking) => {
    if (!voice || !key) return;
    voice.talking = talking;
    show();
  };
  button.onclick = () => {
    if (!voice) return isJoining || join();
    if (!key) voice.muted = !voice.muted;
    show();
  };
  button.onpointerdown = ({ pointerId }) => {
    if (key) button.setPointerCapture(pointerId);
    talk(true);
  };
  button.onlostpointercapture = () => talk(false);
  // A long touch would open it.
  button.oncontextmenu = (event) => event.preventDefault();
  addEventListener("keydown", ({ code, target }) => code === key && !(target instanceof HTMLInputElement) && talk(true));
  addEventListener("keyup", ({ code }) => code === key && talk(false));
  addEventListener("blur", () => talk(false));
  return {
    /** Another room. */
    enter(joined) {
      room = joined;
      room.on("close", () => {
        room = null;
        end("");
      });
      end("");
    },
  };
}

// ---- Errors: what went wrong, and what to do.

const RELOAD = ["Reload", () => location.reload()];
const NETWORK = "Check your connection. The doctor page tests each step of the way to the server.";
/**
 * By code: `[headline, sentence or null for the server's own, advice, the main button where it is another]`. The page
 * may set the headlines that are null.
 */
const FAILURES = {
  unreachable: ["The server cannot be reached", null, NETWORK],
  timeout: ["The server does not answer", null, NETWORK],
  unsupported: ["This browser cannot connect", null, "Use a current version of Chrome, Edge, Firefox or Safari."],
  version_mismatch: ["This page is out of date", "The page and the server have different versions.", "Reload the page.", RELOAD],
  origin: ["This page may not use the server", null, "The doctor page names the setting of the server or the proxy to change."],
  unauthorized: ["This server requires a token", null,
    "It was started with --keys: only players with a signed token may join. The operator of the server issues them. Paste yours here:"],
  expired: ["Your token has expired", null, "Get a new one from the operator of the server, and paste it here:"],
  room_full: ["This room is full", null, "Try again when somebody has left, or use a new room."],
  room_locked: ["This room is locked", null, "Nobody else can join it. Use a new room."],
  refused: [null, null, ""],
  rate_limited: ["Too many players join at once", null, "Wait a moment, then try again."],
  overloaded: ["The server is busy", null, "Wait a moment, then try again."],
  draining: ["The server is about to stop", null, "Try again in a minute."],
  internal: ["The server has an error", null, "Try again. If it happens again, tell the operator of the server."],
  kicked: ["You were removed from the game", null, ""],
  flood: ["This page sent too much", "The server closed the connection to protect the other players.", "Reload the page.", RELOAD],
  bad_frame: ["This page sent invalid data", "The server could not read it and closed the connection.", "Reload the page.", RELOAD],
  replaced: ["You are playing in another window", "This player can be in one window at a time.", "", ["Play here instead"]],
  room_closed: ["The room was closed", "The game in it has ended.", ""],
  shutdown: ["The server has stopped", "It was not available again within a minute.", "It may be under maintenance. Try again later."],
  left: ["You have left the room", "", ""],
};
/** The same code means something else in a game that ran. */
const ENDINGS = {
  unreachable: [null, "The connection to the server was lost, and could not be restored within a minute.", NETWORK],
  timeout: [null, "The server did not answer for a minute.", NETWORK],
  closed: [null, "The server closed the connection.", NETWORK],
};
const TOKEN_CODES = ["unauthorized", "expired"];
const ROOM_CODES = ["room_full", "room_locked", "room_closed"];
const OWN_WINDOW_CODES = ["replaced", "kicked", "refused", "left"];

const link = (textContent, href, target = "") => element("a", { className: "button", textContent, href, target });
const button = ([textContent, onclick], className = "") => element("button", { type: "button", textContent, className, onclick });

/** The panel that shows errors. */
function createNotice() {
  const box = element("section", { id: "notice", tabIndex: -1, hidden: true },
    element("h2", { id: "notice-title" }), element("p", { id: "notice-text" }), element("p", { className: "advice" }),
    element("div"), element("div", { className: "buttons" }));
  const spoken = element("p", { className: "unseen" });
  spoken.setAttribute("role", "status");
  box.setAttribute("aria-labelledby", "notice-title");
  box.setAttribute("aria-describedby", "notice-text");
  document.body.append(spoken, box);
  const [title, text, advice, extra, buttons] = box.children;
  let returnFocus = null;

  const notice = {
    kind: null,
    /** Announces it to screen readers: by focus where the player has to decide, otherwise as a status. */
    show(kind, { title: headline, text: sentence, advice: remedy = "", more = [], buttons: choices }) {
      notice.kind = kind;
      box.className = kind;
      box.setAttribute("role", kind === "failed" ? "alertdialog" : "group");
      title.textContent = headline;
      text.textContent = sentence;
      advice.textContent = remedy;
      extra.replaceChildren(...more);
      buttons.replaceChildren(...choices);
      box.hidden = false;
      if (kind === "failed") {
        if (!box.contains(document.activeElement)) returnFocus = document.activeElement;
        box.focus({ preventScroll: true });
      } else {
        spoken.textContent = [headline && `${headline}.`, sentence, remedy].filter(Boolean).join(" ");
      }
    },
    amend(remedy) {
      if (advice.textContent !== remedy) advice.textContent = remedy;
    },
    hide() {
      if (box.contains(document.activeElement)) returnFocus?.focus({ preventScroll: true });
      returnFocus = null;
      notice.kind = null;
      box.hidden = true;
      spoken.textContent = "";
    },
  };
  return notice;
}

// ---- The display of the connection: transport and measurements.

const NONE = "–";
const grade = (value, good, fair) => (value <= good ? "good" : value <= fair ? "fair" : "poor");

function figures(room) {
  const { rtt, jitter, loss, tickRate } = room.stats;
  return [
    rtt === null ? [NONE, ""] : [`${Math.round(rtt)} ms`, grade(rtt, 80, 160)],
    [`${jitter.toFixed(1)} ms`, grade(jitter, 8, 20)],
    [`${(loss * 100).toFixed(1)} %`, grade(loss, 0.01, 0.05)],
    [`${tickRate} Hz`, grade(1_000 / room.tickMs - tickRate, 3, 8)],
  ];
}

function createHud(parent) {
  const line = element("p");
  line.setAttribute("role", "status");
  const values = ["RTT", "jitter", "loss", "rate"].map((name) => [name, element("dd", { textContent: NONE })]);
  parent.append(line, element("dl", {}, ...values.map(([name, value]) => element("div", {}, element("dt", { textContent: name }), value))));
  return (text, className, room) => {
    if (line.textContent !== text) line.textContent = text;
    line.className = className;
    const shown = room ? figures(room) : values.map(() => [NONE, ""]);
    for (const [index, [text, className]] of shown.entries()) Object.assign(values[index][1], { textContent: text, className });
  };
}

// ---- The session in the room of this page.

const REFRESH_MS = 250;
/** A connection that is lost for a shorter time is not shown. */
const UNTOLD_MS = 1_000;
const JOIN_UNTOLD_MS = 2_000;

/**
 * Joins the room at the page's own address, and shows the state of the connection in `#connection` and in a notice.
 *
 * @param connect the function of the client
 * @param options returns the options of each join
 * @param enter called with the room after each join, to register listeners
 * @param headlines of a connection that has ended, and of a join that was refused
 */
export function createStay({ connect, options, enter, headlines }) {
  const { ended, refused } = { ended: "The game has stopped", refused: "The game did not admit you", ...headlines };
  const notice = createNotice();
  const showConnection = createHud($("#connection"));
  // A tab that was duplicated has the same session.
  const windows = globalThis.BroadcastChannel && new BroadcastChannel(`rtcade ${location.pathname}`);
  let room = null;
  let attempt = 0;
  let joiningSince = null;
  let bearer;
  let lostAt = null;
  /** What the player has not dismissed yet; `stopsAt` is when the server stops, as of `performance.now()`. */
  let announced = { text: "", stopsAt: null };

  const doctor = () => link("Check the connection", "../doctor", "_blank");
  const newRoom = () => link("Use a new room", "../");

  function tokenForm() {
    const input = element("input", { autocomplete: "off", spellcheck: false, ariaLabel: "Token", placeholder: "eyJ…", required: true });
    const onsubmit = (event) => {
      event.preventDefault();
      bearer = input.value.trim();
      play();
    };
    return element("form", { onsubmit }, input, element("button", { className: "main", textContent: "Join" }));
  }

  function fail(code, message, isEnd) {
    const [title, text, advice, [label, action] = []] = (isEnd && ENDINGS[code]) || FAILURES[code] ||
      [isEnd ? ended : "You could not join", null, NETWORK];
    const asksToken = TOKEN_CODES.includes(code);
    const again = button([label ?? (isEnd ? "Join again" : "Try again"), action ?? (code === "replaced" ? takeOver : play)], asksToken ? "" : "main");
    notice.show("failed", {
      title: title ?? (code === "refused" ? refused : ended), advice, text: text ?? message,
      more: asksToken ? [tokenForm()] : [],
      buttons: [again, ...(ROOM_CODES.includes(code) ? [newRoom()] : OWN_WINDOW_CODES.includes(code) ? [] : [doctor()])],
    });
    refresh();
  }

  function takeOver() {
    windows?.postMessage(room.me);
    play();
  }
  if (windows) {
    windows.onmessage = ({ data: player }) => {
      if (room?.me !== player || room.status === "closed") return;
      attempt++;
      room.leave();
      fail("replaced", "", true);
    };
  }

  async function play() {
    const mine = ++attempt;
    room?.leave();
    room = null;
    joiningSince = performance.now();
    dismiss();
    refresh();
    let joined;
    try {
      joined = await connect(undefined, { ...options(), bearer });
    } catch (error) {
      if (mine !== attempt) return;
      joiningSince = null;
      fail(error.code, error.message, false);
      return;
    }
    if (mine !== attempt) {
      joined.leave();
      return;
    }
    joiningSince = null;
    if (notice.kind === "joining") notice.hide();
    room = joined;
    room.on("status", refresh);
    room.on("error", ({ message }) => {
      if (notice.kind !== "lost") tell(message);
    });
    room.on("eventNotice", ({ d }) => announce({ text: `Message from the operator: ${d.text}` }));
    room.on("eventDrain", ({ d }) => announce({ stopsAt: performance.now() + d.deadline }));
    room.on("rejoin", () => announce({ stopsAt: null }));
    room.on("close", ({ reason, message }) => mine === attempt && fail(reason, message, true));
    enter(room);
    refresh();
  }

  const tell = (text) => notice.show("told", { title: "", text, buttons: [button(["OK", notice.hide]), doctor()] });

  const isAnnounced = () => announced.text !== "" || announced.stopsAt !== null;

  function announce(news) {
    const wasAnnounced = isAnnounced();
    announced = { ...announced, ...news };
    if (notice.kind !== null && notice.kind !== "told") return;
    if (isAnnounced()) tellAnnounced();
    else if (wasAnnounced) notice.hide();
  }

  function dismiss() {
    announced = { text: "", stopsAt: null };
    notice.hide();
  }

  function tellAnnounced() {
    notice.show("told", { title: "", text: announced.text, advice: untilStop(), buttons: [button(["OK", dismiss])] });
  }

  function untilStop() {
    if (announced.stopsAt === null) return "";
    return `The server stops in ${Math.max(0, Math.ceil((announced.stopsAt - performance.now()) / 1_000))} s.`;
  }

  const isAway = () => room?.status === "dropped" || room?.status === "resuming";
  /** While the data channel is open, the game continues without the websocket. */
  const isLost = () => isAway() && room.stats.tickRate === 0;

  const tellJoining = () => notice.show("joining", {
    title: "Connecting…", text: "The server has not admitted you yet. The page tries for a minute at most.", buttons: [doctor()],
  });

  function tellLost() {
    if (notice.kind !== "lost") {
      notice.show("lost", {
        title: "Connection lost", text: "The server does not answer. The page tries to reconnect for a minute.",
        buttons: [button(["Try now", () => (room.retryNow(), refresh())], "main"), doctor()],
      });
    }
    const seconds = Math.max(1, Math.ceil((room.retryAt - performance.now()) / 1_000));
    notice.amend(room.retryAt === null ? "Trying now…" : `Next try in ${seconds} s.`);
  }

  function refresh() {
    const isOver = !room || room.status === "closed", lost = isLost(), now = performance.now();
    lostAt = lost ? lostAt ?? now : null;
    if (joiningSince !== null && now - joiningSince >= JOIN_UNTOLD_MS && notice.kind === null) tellJoining();
    else if (lost && now - lostAt >= UNTOLD_MS) tellLost();
    else if (!lost && notice.kind === "lost") notice.hide();
    if (notice.kind === null && isAnnounced()) tellAnnounced();
    else if (notice.kind === "told" && announced.stopsAt !== null) notice.amend(untilStop());
    document.body.classList.toggle("away", notice.kind === "lost" || notice.kind === "failed");
    if (joiningSince !== null) showConnection("Connecting…", "", null);
    else if (isOver) showConnection("Not connected", "poor", null);
    else if (lost) showConnection("Connection lost", "poor", null);
    else {
      const isChannel = room.stats.transport === "webrtc";
      const by = `Connected by ${isChannel ? "WebRTC" : "WebSocket"}`;
      showConnection(isAway() ? `${by}, WebSocket lost` : by, isChannel && !isAway() ? "good" : "fair", room);
    }
  }
  setInterval(refresh, REFRESH_MS);

  return { play, isLost };
}
