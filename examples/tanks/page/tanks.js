// @ts-check
import { connect } from "/rtcade.js";
import { interpolate } from "/rtcade/interpolate.js";
import { predict } from "/rtcade/predict.js";
import { otherTanks, ownTank } from "./netcode.js";
import { direction, headingOf, HEADINGS, reach, turnTo } from "./rules.js";

/** @typedef {import("./types.js").Types} Types */
/** @typedef {import("./types.js").Input} Input */
/** @typedef {import("./types.js").Body} Body */
/** @typedef {import("./types.js").Tank} Tank */
/** @typedef {import("./rules.js").Point} Point */

/** @template {Element} T @param {string} selector @param {new () => T} type */
function $(selector, type) {
  const found = document.querySelector(selector);
  if (!(found instanceof type)) throw new Error(`${selector} is missing`);
  return found;
}
const canvas = $("canvas", HTMLCanvasElement);
const call = $("#call", HTMLElement);
const say = (/** @type {string} */ text) => {
  if (call.textContent !== text) call.textContent = text;
};

const NAMES = ["Ash", "Briar", "Cedar", "Fern", "Hazel", "Iris", "Juniper", "Laurel", "Moss", "Rowan", "Sage", "Willow"];
// A reloaded page is the same player if it has the same name.
const name = (sessionStorage["name"] ??= NAMES[Math.floor(Math.random() * NAMES.length)]);
/** `?bots=0` makes a room without bots. */
const bots = new URLSearchParams(location.search).get("bots");

const join = /** @type {typeof connect<Types>} */ (connect);
const room = await join(undefined, { name, data: bots === null ? null : { bots: Number(bots) } }).catch((error) => {
  say(error.message);
  throw error;
});
const arena = room.welcome;

// ---- The game: the own tank is predicted, the others are drawn between the states.

/** @type {Tank | undefined} */
let mine;
/** @type {{ [id: string]: Tank }} */
let tanks = {};
room.on("state", (state) => {
  ({ tanks } = state);
  mine = tanks[room.me];
});

const own = predict(
  room,
  ownTank(room, (tank, number) => {
    // Shown at once, and taken back if the server has not fired it.
    const shot = tracer(room.me, [tank.x, tank.y], shotEnd(tank));
    own.optimistic({
      number,
      apply: () => shots.add(shot),
      confirm: ({ tanks }) => tanks[room.me]?.shot === number,
      undo: () => shots.delete(shot),
    });
  }),
);
const others = interpolate(room, otherTanks(room));

/** @param {Body} tank @returns {Point} */
function shotEnd(tank) {
  const [dx, dy] = direction(arena, tank.turret);
  const far = reach(arena, [tank.x, tank.y], [dx, dy], others.at().values());
  return [tank.x + dx * far, tank.y + dy * far];
}

// ---- Effects. What the others do is shown when the tick is shown in which it happened.

/** @typedef {{ by: number, from: Point, to: Point, at: number }} Tracer */
/** @type {Set<Tracer>} */
const shots = new Set();
/** @type {Set<{ x: number, y: number, at: number, size: number, color: string }>} */
const bursts = new Set();
/** @type {{ tick: number, show: () => void }[]} */
let waiting = [];
/** @type {(by: number, from: Point, to: Point) => Tracer} */
const tracer = (by, from, to) => ({ by, from, to, at: performance.now() });
/** @type {(point: Point, size: number, color: string) => void} */
const burst = ([x, y], size, color) => bursts.add({ x, y, size, color, at: performance.now() });

room.on("event", (event, tick) => {
  if ("Said" in event) log(event.Said.by, event.Said.text);
  else if ("Destroyed" in event) {
    const { by, tank } = event.Destroyed;
    const show = () => {
      const body = tanks[tank]?.body;
      if (body) burst([body.x, body.y], 90, "#ffb347");
      log(by, `destroyed ${nameOf(tank)}`);
    };
    if (tank === room.me) show();
    else waiting.push({ tick, show });
  } else {
    const { by, from, to, hit } = event.Shot;
    const show = () => {
      if (by !== room.me) shots.add(tracer(by, from, to));
      burst(to, hit === null ? 14 : 34, hit === null ? "#d9d2b0" : "#ff6b4a");
    };
    if (by === room.me || hit === room.me) show();
    else waiting.push({ tick, show });
  }
});

/** @type {(id: number) => string} */
const nameOf = (id) => (id === room.me ? "you" : (tanks[id]?.name ?? "a tank that has left"));

const lines = $("#log", HTMLElement);
/** @param {number} by @param {string} text */
function log(by, text) {
  const line = document.createElement("li");
  const author = document.createElement("b");
  author.textContent = nameOf(by);
  author.style.color = color(by);
  line.append(author, ` ${text}`);
  lines.append(line);
  while (lines.childElementCount > 5) lines.firstElementChild?.remove();
  setTimeout(() => line.remove(), 9_000);
}

const text = $("#text", HTMLInputElement);
$("form", HTMLFormElement).addEventListener("submit", (event) => {
  event.preventDefault();
  if (text.value.trim()) room.command({ Say: text.value });
  text.value = "";
  text.blur();
});

// ---- Input: keys or the left thumb drive, the mouse or the right thumb aims and fires.

/** @type {Set<string>} */
const held = new Set();
addEventListener("keydown", ({ code, target, key }) => {
  if (target === text) return;
  if (key === "Enter") setTimeout(() => text.focus());
  held.add(code);
});
addEventListener("keyup", ({ code }) => held.delete(code));
addEventListener("blur", () => held.clear());

/** @type {Map<number, { side: "drive" | "aim", from: Point, at: Point }>} */
const fingers = new Map();
/** @type {Point} */
let pointer = [0, 0];
let isMouseHeld = false;
canvas.addEventListener("pointerdown", ({ pointerId, pointerType, clientX, clientY }) => {
  text.blur();
  if (pointerType === "mouse") isMouseHeld = true;
  const side = clientX < innerWidth / 2 ? "drive" : "aim";
  if (pointerType !== "mouse") fingers.set(pointerId, { side, from: [clientX, clientY], at: [clientX, clientY] });
  if (pointerType === "mouse" || side === "aim") pointer = [clientX, clientY];
});
addEventListener("pointermove", ({ pointerId, pointerType, clientX, clientY }) => {
  const finger = fingers.get(pointerId);
  if (finger) finger.at = [clientX, clientY];
  if (pointerType === "mouse" || finger?.side === "aim") pointer = [clientX, clientY];
});
for (const type of /** @type {const} */ (["pointerup", "pointercancel"])) {
  addEventListener(type, ({ pointerId, pointerType }) => {
    fingers.delete(pointerId);
    if (pointerType === "mouse") isMouseHeld = false;
  });
}

/** @type {(...codes: string[]) => number} */
const isHeld = (...codes) => Number(codes.some((code) => held.has(code)));
/** @returns {Input} */
function input() {
  let drive = isHeld("KeyW", "ArrowUp") - isHeld("KeyS", "ArrowDown");
  let turn = isHeld("KeyD", "ArrowRight") - isHeld("KeyA", "ArrowLeft");
  let fire = isMouseHeld || held.has("Space");
  const tank = own.value;
  for (const { side, from, at } of fingers.values()) {
    const [dx, dy] = [at[0] - from[0], at[1] - from[1]];
    if (side === "aim") fire = true;
    else if (tank && Math.hypot(dx, dy) > 14) {
      const off = turnTo(tank.hull, headingOf(dx, dy));
      turn = Math.abs(off) < arena.turn ? 0 : Math.sign(off);
      drive = Math.abs(off) < HEADINGS / 4 ? 1 : 0;
    }
  }
  const [x, y] = toArena(pointer);
  return { drive, turn, aim: tank ? headingOf(x - tank.x, y - tank.y) : 0, fire };
}

// ---- The picture.

const g = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
const view = { scale: 1, x: 0, y: 0 };
/** @type {(point: Point) => Point} */
const toArena = ([x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale];
/** @type {(id: number) => string} */
const color = (id) => (id === room.me ? "#ffd166" : `hsl(${(id * 137.5) % 360} 62% 62%)`);

/** Shows the whole arena, or what fits around the own tank on a small screen. @param {Body | null | undefined} tank */
function look(tank) {
  const ratio = Math.min(devicePixelRatio || 1, 2.5);
  const [width, height] = [innerWidth, innerHeight];
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const whole = Math.min(width / arena.width, height / arena.height);
  view.scale = Math.max(whole, Math.min(height / arena.height, width / 560));
  /** @type {(space: number, size: number, at: number) => number} */
  const place = (space, size, at) => {
    const scaled = size * view.scale;
    return scaled <= space ? (space - scaled) / 2 : Math.max(space - scaled, Math.min(0, space / 2 - at * view.scale));
  };
  if (tank || view.x === 0) {
    view.x = place(width, arena.width, tank?.x ?? arena.width / 2);
    view.y = place(height, arena.height, tank?.y ?? arena.height / 2);
  }
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  g.translate(view.x, view.y);
  g.scale(view.scale, view.scale);
}

function drawGround() {
  g.fillStyle = "#22352b";
  g.beginPath();
  g.roundRect(0, 0, arena.width, arena.height, 18);
  g.fill();
  g.strokeStyle = "#ffffff0a";
  g.lineWidth = 1.5;
  g.beginPath();
  for (let x = 100; x < arena.width; x += 100) g.moveTo(x, 0), g.lineTo(x, arena.height);
  for (let y = 100; y < arena.height; y += 100) g.moveTo(0, y), g.lineTo(arena.width, y);
  g.stroke();
}

function drawWalls() {
  for (const { left, top, right, bottom } of arena.walls) {
    for (const [offset, fill] of /** @type {[number, string][]} */ ([[7, "#0b120e99"], [0, "#5d6f63"], [-5, "#7d9183"]])) {
      g.fillStyle = fill;
      g.beginPath();
      g.roundRect(left, top + offset, right - left, bottom - top, 8);
      g.fill();
    }
  }
}

/** @param {number} id @param {Body} body */
function drawTank(id, body) {
  const [r, turn] = [arena.radius, (2 * Math.PI) / HEADINGS];
  g.save();
  g.translate(body.x, body.y);
  g.fillStyle = "#00000055";
  g.beginPath();
  g.ellipse(3, 6, r, r * 0.9, 0, 0, 7);
  g.fill();
  g.save();
  g.rotate(body.hull * turn);
  g.fillStyle = "#151b17";
  g.fillRect(-r * 0.95, -r * 0.9, r * 1.9, r * 0.42);
  g.fillRect(-r * 0.95, r * 0.48, r * 1.9, r * 0.42);
  g.fillStyle = color(id);
  g.beginPath();
  g.roundRect(-r * 0.9, -r * 0.6, r * 1.8, r * 1.2, 6);
  g.fill();
  g.fillStyle = "#0000002e";
  g.fillRect(r * 0.5, -r * 0.6, r * 0.28, r * 1.2);
  g.restore();
  g.save();
  g.rotate(body.turret * turn);
  g.fillStyle = color(id);
  g.strokeStyle = "#0f1512";
  g.lineWidth = 3;
  g.beginPath();
  g.roundRect(0, -4.5, r * 1.4, 9, 2);
  g.fill();
  g.stroke();
  g.restore();
  g.fillStyle = color(id);
  g.strokeStyle = "#0f1512";
  g.lineWidth = 3;
  g.beginPath();
  g.arc(0, 0, r * 0.46, 0, 7);
  g.fill();
  g.stroke();
  g.restore();
}

/** @param {number} id @param {Body} body */
function drawLabel(id, body) {
  const tank = tanks[id];
  if (!tank) return;
  const [r, width] = [arena.radius, 44];
  g.save();
  g.translate(body.x, body.y);
  g.fillStyle = "#000000a0";
  g.fillRect(-width / 2, -r - 14, width, 6);
  g.fillStyle = tank.armor > 1 ? "#7ee08a" : "#ff6b4a";
  g.fillRect(-width / 2 + 1, -r - 13, ((width - 2) * tank.armor) / arena.armor, 4);
  g.font = "600 13px system-ui, sans-serif";
  g.textAlign = "center";
  g.fillStyle = "#eef5ee";
  g.fillText(tank.name, 0, -r - 20);
  g.restore();
}

function drawEffects() {
  const now = performance.now();
  g.lineCap = "round";
  for (const shot of shots) {
    const age = (now - shot.at) / 180;
    if (age > 1) shots.delete(shot);
    g.globalAlpha = Math.max(0, 1 - age);
    g.strokeStyle = "#fff3c4";
    g.lineWidth = 5 * (1 - age / 2);
    g.beginPath();
    g.moveTo(...shot.from);
    g.lineTo(...shot.to);
    g.stroke();
  }
  for (const spark of bursts) {
    const age = (now - spark.at) / (spark.size > 50 ? 700 : 260);
    if (age > 1) bursts.delete(spark);
    g.globalAlpha = Math.max(0, 1 - age);
    g.fillStyle = spark.color;
    for (let n = 0; n < 9; n++) {
      const [x, y] = [Math.cos(n * 2.4), Math.sin(n * 2.4)];
      const far = spark.size * age * (0.5 + (n % 3) / 3);
      g.beginPath();
      g.arc(spark.x + x * far, spark.y + y * far, Math.max(0.5, spark.size * 0.16 * (1 - age)), 0, 7);
      g.fill();
    }
  }
  g.globalAlpha = 1;
}

/** What a thumb holds. */
function drawFingers() {
  const ratio = Math.min(devicePixelRatio || 1, 2.5);
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.strokeStyle = "#ffffff55";
  g.lineWidth = 2;
  for (const { side, from, at } of fingers.values()) {
    if (side === "aim") continue;
    for (const [[x, y], size] of /** @type {[Point, number][]} */ ([[from, 46], [at, 20]])) {
      g.beginPath();
      g.arc(x, y, size, 0, 7);
      g.stroke();
    }
  }
}

const list = $("#scores", HTMLElement);
const link = $("#link", HTMLElement);
let written = "";
function drawText() {
  const ranked = Object.entries(tanks).sort(([a, one], [b, two]) => two.kills - one.kills || Number(a) - Number(b));
  const key = JSON.stringify(ranked.map(([id, { name, kills }]) => [id, name, kills]));
  if (key !== written) {
    written = key;
    list.replaceChildren(
      ...ranked.map(([id, tank]) => {
        const row = document.createElement("li");
        const mark = document.createElement("i");
        const label = document.createElement("span");
        mark.style.background = color(Number(id));
        label.textContent = tank.name;
        row.append(mark, label, String(tank.kills));
        row.classList.toggle("own", id === String(room.me));
        return row;
      }),
    );
  }
  const { rtt } = room.stats;
  const shown = `${rtt === null ? "–" : Math.round(rtt)} ms round trip · others ${Math.round(others.delay || 0)} ms late`;
  if (link.textContent !== shown) link.textContent = shown;
  if (room.status === "dropped" || room.status === "resuming") say("Reconnecting…");
  else if (room.status !== "closed") say(mine && mine.armor <= 0 ? "Destroyed. You are back in a moment." : "");
}
room.on("close", ({ message }) => say(message));

requestAnimationFrame(function frame() {
  requestAnimationFrame(frame);
  // Sampled in each frame: so the picture answers to a key in the next one, whenever the tick is sent.
  own.advance(input());
  const shown = own.shown();
  const bodies = others.at();
  waiting = waiting.filter(({ tick, show }) => tick > others.tick || void show());
  look(shown);
  drawGround();
  for (const [id, body] of bodies) drawTank(Number(id), body);
  if (shown) drawTank(room.me, shown);
  drawWalls();
  for (const [id, body] of bodies) drawLabel(Number(id), body);
  if (shown) drawLabel(room.me, shown);
  drawEffects();
  drawFingers();
  drawText();
});

// For the tests.
Object.assign(globalThis, { tanks: { room, own, others } });
