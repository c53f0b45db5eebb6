// What a page does: it sends its input in each tick, predicts its own tank, and draws the others between two states.
import { connect } from "rtcade";
import { interpolate } from "rtcade/interpolate";
import { predict } from "rtcade/predict";
import { draw, toArena } from "./draw.js";
import { shot, step } from "./step.js";

const element = (selector) => document.querySelector(selector);
const call = element("#call");

const NAMES = ["Ash", "Briar", "Cedar", "Fern", "Hazel", "Iris", "Juniper", "Laurel", "Moss", "Rowan", "Sage", "Willow"];
// A reloaded page is the same player if it has the same name.
const name = (sessionStorage["name"] ??= NAMES[Math.floor(Math.random() * NAMES.length)]);
const room = await connect(undefined, { name }).catch((error) => {
  call.textContent = error.message;
  throw error;
});
room.on("close", ({ message }) => (call.textContent = message));

// ---- The own tank answers at once, the others are late and true.

let tanks = {};
room.on("state", (state) => (tanks = state));

const alive = (tank) => (tank?.armor > 0 ? tank : undefined);
const fields = { x: "lerp", y: "lerp", hull: "angle", turret: "angle" };
// A respawn is a jump.
const teleported = (before, after) => Math.hypot(after.x - before.x, after.y - before.y) > 80;

const own = predict(room, {
  from: (state) => alive(state[room.me]),
  step(tank, input, dt, { isReplay }) {
    // The rule runs again after each state: a shot is shown only the first time.
    if (step(tank, input, dt) && !isReplay) shots.add({ ...shot(tank, others.at()), at: performance.now() });
  },
  fields,
  teleported,
});

const others = interpolate(room, {
  from(state) {
    const entries = Object.entries(state).filter(([id, tank]) => Number(id) !== room.me && alive(tank));
    return Object.fromEntries(entries);
  },
  fields,
  teleported,
});

// ---- Effects. What the others do is shown when the tick is shown in which it happened.

const shots = new Set();
const blasts = new Set();
let later = [];
room.on("event", ({ shot, destroyed }, tick) => {
  const happens = () => {
    const at = performance.now();
    if (shot && shot.by !== room.me) shots.add({ ...shot, at });
    if (shot) blasts.add({ x: shot.to[0], y: shot.to[1], size: shot.hit === null ? 14 : 34, at });
    if (destroyed && tanks[destroyed.player]) blasts.add({ ...tanks[destroyed.player], size: 90, at });
  };
  const isMine = [shot?.by, shot?.hit, destroyed?.player].includes(room.me);
  if (isMine) happens();
  else later.push({ tick, happens });
});

// ---- Input: keys and the mouse, or two thumbs.

const KEYS = {
  KeyW: [0, -1], ArrowUp: [0, -1], KeyS: [0, 1], ArrowDown: [0, 1],
  KeyA: [-1, 0], ArrowLeft: [-1, 0], KeyD: [1, 0], ArrowRight: [1, 0],
};
const held = new Set();
addEventListener("keydown", ({ code }) => held.add(code));
addEventListener("keyup", ({ code }) => held.delete(code));
addEventListener("blur", () => held.clear());

/** How far a thumb goes for full speed. */
const STICK = 50;
const pointers = new Map();
let aimed = { x: innerWidth / 2, y: 0 };
const canvas = element("canvas");
canvas.addEventListener("pointerdown", ({ pointerId, pointerType, clientX: x, clientY: y }) => {
  const drives = pointerType !== "mouse" && x < innerWidth / 2;
  pointers.set(pointerId, { drives, from: { x, y }, to: { x, y } });
  if (!drives) aimed = { x, y };
});
addEventListener("pointermove", ({ pointerId, pointerType, clientX: x, clientY: y }) => {
  const pointer = pointers.get(pointerId);
  if (pointer) pointer.to = { x, y };
  if (pointer ? !pointer.drives : pointerType === "mouse") aimed = { x, y };
});
for (const type of ["pointerup", "pointercancel"]) addEventListener(type, ({ pointerId }) => pointers.delete(pointerId));

function input() {
  let [x, y] = [0, 0];
  for (const code of held) {
    x += KEYS[code]?.[0] ?? 0;
    y += KEYS[code]?.[1] ?? 0;
  }
  let fire = held.has("Space");
  for (const { drives, from, to } of pointers.values()) {
    if (drives) [x, y] = [(to.x - from.x) / STICK, (to.y - from.y) / STICK];
    else fire = true;
  }
  const length = Math.max(1, Math.hypot(x, y));
  const at = toArena(aimed);
  const aim = own.value ? Math.atan2(at.y - own.value.y, at.x - own.value.x) : 0;
  return { x: x / length, y: y / length, aim, fire };
}

// ---- The picture.

const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

function drawText() {
  const nameOf = (player) => room.players.get(player)?.name ?? "";
  const rows = Object.entries(tanks).map(([id, { kills }]) => ({ player: Number(id), kills }));
  rows.sort((a, b) => b.kills - a.kills || a.player - b.player);
  const list = element("#scores");
  while (list.childElementCount < rows.length) list.append(document.createElement("li"));
  while (list.childElementCount > rows.length) list.lastElementChild.remove();
  rows.forEach(({ player, kills }, at) => {
    const row = list.children[at];
    setText(row, `${nameOf(player)}${player === room.me ? " (you)" : ""} ${kills}`);
    row.style.color = player === room.me ? "#ffd166" : "";
  });
  element("#invite").hidden = room.players.size > 1;
  if (room.status === "closed") return;
  const isLost = room.status === "dropped" || room.status === "resuming";
  setText(call, isLost ? "Reconnecting…" : tanks[room.me]?.armor === 0 ? "Destroyed: back in a moment" : "");
}

element("#invite button").addEventListener("click", async ({ target }) => {
  const isCopied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  target.textContent = isCopied ? "Copied" : "Copy the address of this page";
});

requestAnimationFrame(function frame() {
  requestAnimationFrame(frame);
  own.advance(input);
  const shown = new Map(others.at());
  const mine = own.shown();
  if (mine) shown.set(String(room.me), mine);
  later = later.filter(({ tick, happens }) => tick > others.tick || happens());
  const sticks = [...pointers.values()].filter(({ drives }) => drives);
  draw(canvas, { shown, me: String(room.me), nameOf: (id) => room.players.get(Number(id))?.name ?? "", shots, blasts, sticks });
  drawText();
});

// For the console and for tests.
Object.assign(globalThis, { game: { room, own, others } });
