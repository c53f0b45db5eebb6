// What a page does: it gives its input, computes the newest world, and draws it.
import { connect } from "rtcade";
import { rollback } from "rtcade/rollback";
import { GOAL, HEIGHT, init, MALLET, PUCK, ROBOT, step, WIDTH, WINS } from "./step.js";

const element = (selector) => document.querySelector(selector);
const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
const call = element("#call");

const NAMES = ["Ash", "Briar", "Cedar", "Fern", "Hazel", "Iris", "Juniper", "Laurel", "Moss", "Rowan", "Sage", "Willow"];
// A reloaded page is the same player if it has the same name.
const name = (sessionStorage["name"] ??= NAMES[Math.floor(Math.random() * NAMES.length)]);
const room = await connect(undefined, { name }).catch((error) => {
  call.textContent = error.message;
  throw error;
});
room.on("close", ({ message }) => setText(call, message));

const session = rollback(room, { init, step });
session.on("desync", (detail) => {
  console.error("The pages have computed different worlds: a rule is not deterministic.", detail);
  session.resync();
});

// ---- Input: the pointer, or the arrow keys.

const KEYS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
const held = new Set();
addEventListener("keydown", ({ code }) => held.add(code));
addEventListener("keyup", ({ code }) => held.delete(code));
addEventListener("blur", () => held.clear());
/** Where this player points, as the page shows the table. */
const target = { x: 0, y: HEIGHT - 20 };
for (const type of ["pointerdown", "pointermove"]) {
  addEventListener(type, ({ clientX, clientY }) => {
    target.x = (clientX - view.x) / view.scale;
    target.y = (clientY - view.y) / view.scale;
  });
}

/** Everybody sees the own side at the bottom. */
const side = (world) => (world?.players[1] === room.me ? -1 : 1);
const rounded = (value) => Math.round(value * 10) / 10;

function input(world, ms) {
  for (const code of held) {
    target.x += (KEYS[code]?.[0] ?? 0) * ms * 0.12;
    target.y += (KEYS[code]?.[1] ?? 0) * ms * 0.12;
  }
  target.x = Math.max(-WIDTH, Math.min(WIDTH, target.x));
  target.y = Math.max(0, Math.min(HEIGHT, target.y));
  return [rounded(target.x * side(world)), rounded(target.y * side(world))];
}

// ---- The picture.

const COLORS = ["#4ad9ff", "#ff6f91"];
const view = { x: 0, y: 0, scale: 1 };
const canvas = element("canvas");
const g = canvas.getContext("2d");
let trail = [];

function look() {
  const ratio = Math.min(devicePixelRatio || 1, 2.5);
  const [width, height] = [Math.round(innerWidth * ratio), Math.round(innerHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  Object.assign(view, { x: innerWidth / 2, y: innerHeight / 2 });
  view.scale = Math.min(innerWidth / (2 * WIDTH + 10), (innerHeight - 110) / (2 * HEIGHT + 6));
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, innerWidth, innerHeight);
}

function drawTable(score, turned) {
  g.fillStyle = "#15203f";
  g.strokeStyle = "#5f7bd6";
  g.lineWidth = 1.6;
  g.beginPath();
  g.roundRect(-WIDTH, -HEIGHT, 2 * WIDTH, 2 * HEIGHT, 7);
  g.fill();
  g.stroke();
  g.strokeStyle = "#5f7bd640";
  g.lineWidth = 0.8;
  g.beginPath();
  g.moveTo(-WIDTH, 0);
  g.lineTo(WIDTH, 0);
  g.moveTo(16, 0);
  g.arc(0, 0, 16, 0, 7);
  g.stroke();
  for (const seat of [0, 1]) {
    const at = (seat === 0 ? 1 : -1) * turned;
    g.strokeStyle = COLORS[seat];
    g.lineWidth = 2.4;
    g.beginPath();
    g.moveTo(-GOAL, at * HEIGHT);
    g.lineTo(GOAL, at * HEIGHT);
    g.stroke();
    g.fillStyle = `${COLORS[seat]}50`;
    g.font = "800 30px system-ui, sans-serif";
    g.textAlign = "center";
    g.textBaseline = "middle";
    g.fillText(String(score[seat]), 0, at * HEIGHT * 0.48);
  }
}

function disc({ x, y }, radius, color, shine) {
  g.fillStyle = "#0007";
  g.beginPath();
  g.arc(x + 0.8, y + 1.4, radius, 0, 7);
  g.fill();
  g.fillStyle = color;
  g.beginPath();
  g.arc(x, y, radius, 0, 7);
  g.fill();
  g.strokeStyle = shine;
  g.lineWidth = radius * 0.22;
  g.beginPath();
  g.arc(x, y, radius * 0.6, 0, 7);
  g.stroke();
}

function draw(world, previous) {
  const turned = side(world);
  // Between two ticks, unless something has jumped.
  const between = (was, is) => {
    const part = Math.hypot(is.x - was.x, is.y - was.y) > 20 ? 1 : session.fraction;
    return { x: (was.x + (is.x - was.x) * part) * turned, y: (was.y + (is.y - was.y) * part) * turned };
  };
  look();
  g.save();
  g.translate(view.x, view.y);
  g.scale(view.scale, view.scale);
  drawTable(world.score, turned);
  const puck = between(previous.puck, world.puck);
  trail = [...trail.filter(({ x, y }) => Math.hypot(x - puck.x, y - puck.y) < 45), puck].slice(-14);
  trail.forEach(({ x, y }, at) => {
    g.fillStyle = `rgb(255 240 200 / ${at / 50})`;
    g.beginPath();
    g.arc(x, y, PUCK * (at / 14), 0, 7);
    g.fill();
  });
  world.mallets.forEach((mallet, seat) => disc(between(previous.mallets[seat], mallet), MALLET, COLORS[seat], "#ffffff66"));
  if (world.winner === null) disc(puck, PUCK, "#fff0c8", "#d9a94a");
  g.restore();
}

const nameOf = (player) => (player === ROBOT ? "a robot" : player === room.me ? "you" : (room.players.get(player)?.name ?? ""));

function drawText(world) {
  const { players, winner } = world;
  setText(element("#names"), `${nameOf(players[0])} against ${nameOf(players[1])}, up to ${WINS}`);
  element("#copy").hidden = !players.includes(ROBOT);
  if (room.status === "closed") return;
  const isLost = room.status === "dropped" || room.status === "resuming";
  const ends = winner === null ? "" : players[winner] === room.me ? "You win!" : `${nameOf(players[winner])} wins`;
  setText(call, isLost ? "Reconnecting…" : session.status === "stalled" ? "Waiting for the connection…" : ends);
}

element("#copy").addEventListener("click", async ({ target }) => {
  const isCopied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  target.textContent = isCopied ? "Copied" : "Copy the address of this page";
});

let last = performance.now();
requestAnimationFrame(function frame(now) {
  requestAnimationFrame(frame);
  session.input(input(session.world, Math.min(100, now - last)));
  last = now;
  const world = session.update();
  if (!world) return;
  draw(world, session.previous);
  drawText(world);
});

// For the console and for tests.
Object.assign(globalThis, { game: { room, session } });
