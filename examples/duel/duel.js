import { connect } from "./rtcade.js";
import { rollback } from "./rtcade/rollback.js";
import { init, PARTNER, PUCK, RECHARGE, RING, step, WINS } from "./game.js";

const $ = (selector) => document.querySelector(selector);
const COLORS = ["#43e0ff", "#ff7a5c"];
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

// ---- The game: a room whose server sends the inputs of all players to all, and the rules of game.js.

let room, session;

async function play() {
  try {
    room = await connect(undefined, { name: ownName() });
  } catch ({ message }) {
    return call(message);
  }
  session = rollback(room, { init, step });
  session.on("desync", (detail) => {
    console.error("The pages have computed different worlds.", detail);
    session.resync();
  });
  room.on("close", ({ message }) => call(message));
  // For the tests.
  globalThis.duel = { room, session };
}

/** A reloaded page is the same player if it has the same name. */
function ownName() {
  const names = ["Ash", "Briar", "Cedar", "Fern", "Hazel", "Iris", "Juniper", "Laurel", "Moss", "Rowan", "Sage", "Willow"];
  return (sessionStorage.name ??= names[Math.floor(Math.random() * names.length)]);
}

// ---- The input: [x, y, dash], x and y in hundredths of full speed.

const held = new Set();
const KEYS = {
  KeyW: [0, -1], ArrowUp: [0, -1], KeyS: [0, 1], ArrowDown: [0, 1],
  KeyA: [-1, 0], ArrowLeft: [-1, 0], KeyD: [1, 0], ArrowRight: [1, 0],
};
addEventListener("keydown", (event) => {
  if (event.code in KEYS || event.code === "Space") {
    if (!(event.target instanceof HTMLButtonElement)) event.preventDefault();
    held.add(event.code);
  }
});
addEventListener("keyup", ({ code }) => held.delete(code));
addEventListener("blur", () => held.clear());

const TAP_MS = 220;
const TAP_PIXELS = 12;
/** How far a finger goes for full speed. */
const STICK_PIXELS = 56;
let stick = null; // { id, fromX, fromY, x, y, at }
let dashesUntil = -1;
const dash = () => {
  // Long enough for a tick to have it.
  if (session?.tick !== undefined) dashesUntil = session.tick + 2;
};
const canvas = $("canvas");
canvas.addEventListener("pointerdown", ({ pointerId: id, clientX: x, clientY: y }) => {
  if (stick) return dash();
  stick = { id, fromX: x, fromY: y, x, y, at: performance.now() };
});
addEventListener("pointermove", ({ pointerId, clientX, clientY }) => {
  if (stick?.id === pointerId) Object.assign(stick, { x: clientX, y: clientY });
});
for (const type of ["pointerup", "pointercancel"]) {
  addEventListener(type, ({ pointerId }) => {
    if (stick?.id !== pointerId) return;
    const isShort = performance.now() - stick.at < TAP_MS && Math.hypot(stick.x - stick.fromX, stick.y - stick.fromY) < TAP_PIXELS;
    if (isShort && type === "pointerup") dash();
    stick = null;
  });
}
$("#dash").addEventListener("pointerdown", dash);
$("#dash").addEventListener("click", ({ detail }) => detail === 0 && dash());

function ownInput() {
  let x = 0, y = 0;
  for (const code of held) {
    x += KEYS[code]?.[0] ?? 0;
    y += KEYS[code]?.[1] ?? 0;
  }
  if (stick) {
    x = (stick.x - stick.fromX) / STICK_PIXELS;
    y = (stick.y - stick.fromY) / STICK_PIXELS;
  }
  const scale = 100 / Math.max(1, Math.hypot(x, y));
  return [Math.round(x * scale), Math.round(y * scale), held.has("Space") || session.tick < dashesUntil];
}

$("#copy").addEventListener("click", async ({ target }) => {
  const label = target.textContent;
  const isCopied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  target.textContent = isCopied ? "Copied" : "Copy the address of this page";
  setTimeout(() => (target.textContent = label), 2_000);
});

// ---- The text around the ring.

const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};
const call = (text) => setText($("#call"), text);

const nameOf = (player) => {
  if (player === PARTNER) return "Sparring partner";
  const name = room.players.get(player)?.name || `Player ${player}`;
  return player === room.me ? `${name} (you)` : name;
};

function announcement({ phase, left, winner, pucks } = {}) {
  if (room.status === "dropped" || room.status === "resuming") return "Reconnecting…";
  if (session.status === "syncing") return "Getting the game from the other players…";
  if (session.status === "stalled") return "Waiting for the connection…";
  if (phase === "ready") return left > 18 ? String(Math.ceil((left - 18) / 18) + 1) : "1";
  if (phase === "fight") return "";
  const { player } = pucks[winner];
  if (phase === "over") return player === room.me ? "You win the duel!" : `${nameOf(player)} wins the duel`;
  return player === room.me ? "Your point!" : `Point for ${nameOf(player)}`;
}

for (const side of ["#one", "#two"]) {
  for (let n = 0; n < WINS; n++) $(`${side} .wins`).append(document.createElement("i"));
}

function drawText(world) {
  if (room.status !== "closed") call(announcement(world));
  world.pucks.forEach(({ player }, seat) => {
    const side = $(seat === 0 ? "#one" : "#two");
    setText(side.querySelector(".name"), nameOf(player));
    [...side.querySelectorAll("i")].forEach((pip, n) => pip.classList.toggle("won", n < world.wins[seat]));
  });
  const { rtt } = room.stats, { tick, confirmed, stats } = session;
  const isWatching = !world.pucks.some(({ player }) => player === room.me);
  setText($("#link"), `${isWatching ? "You watch until a place is free. " : ""}` +
    `Round trip ${rtt === null ? "–" : Math.round(rtt)} ms, ${tick - confirmed} ticks predicted, ${stats.rollbacks} rollbacks.`);
}

// ---- The picture.

const g = canvas.getContext("2d");
let width, height, unit;
function resize() {
  const ratio = Math.min(devicePixelRatio || 1, 2.5);
  width = innerWidth;
  height = innerHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  // Room for the header and the footer.
  unit = Math.min(width - 24, height - 190) / (2 * RING + 12);
}
addEventListener("resize", resize);
resize();

let shown = []; // By seat, where the puck is drawn, and its trail.
let sparks = [];
let shake = 0;
let hits = 0;

/** Where a puck is between two ticks; corrections of others are smoothed. */
function place(seat, world, previous, ms) {
  const puck = world.pucks[seat], former = previous.pucks[seat];
  const isSame = former.player === puck.player && Math.hypot(puck.x - former.x, puck.y - former.y) < 2 * PUCK;
  const part = isSame ? session.fraction : 1;
  const x = isSame ? former.x + (puck.x - former.x) * part : puck.x;
  const y = isSame ? former.y + (puck.y - former.y) * part : puck.y;
  const old = shown[seat];
  const jumps = !old || old.player !== puck.player || Math.hypot(x - old.x, y - old.y) > 4 * PUCK;
  const pull = jumps || puck.player === room.me ? 1 : 1 - Math.exp(-ms / 25);
  const next = jumps ? { player: puck.player, x, y, trail: [] } : old;
  next.x += (x - next.x) * pull;
  next.y += (y - next.y) * pull;
  next.trail.push({ x: next.x, y: next.y, isDash: puck.dash > 0 });
  if (next.trail.length > (reducedMotion.matches ? 0 : 22)) next.trail.shift();
  shown[seat] = next;
}

function drawRing({ ring, age, phase }) {
  const ice = g.createRadialGradient(0, -ring * 0.3, ring * 0.1, 0, 0, ring);
  ice.addColorStop(0, "#31478f");
  ice.addColorStop(0.75, "#1d2b63");
  ice.addColorStop(1, "#141d47");
  g.fillStyle = "#0006";
  g.beginPath();
  g.arc(0, 5, RING + 2, 0, 2 * Math.PI);
  g.fill();
  g.fillStyle = ice;
  g.beginPath();
  g.arc(0, 0, ring, 0, 2 * Math.PI);
  g.fill();
  g.strokeStyle = "#ffffff14";
  g.lineWidth = 0.6;
  for (const part of [0.33, 0.66]) {
    g.beginPath();
    g.arc(0, 0, ring * part, 0, 2 * Math.PI);
    g.stroke();
  }
  const isShrinking = ring < RING && phase === "fight";
  const glow = isShrinking ? 0.65 + 0.35 * Math.sin(age / 4) : 0.8;
  g.save();
  g.shadowColor = isShrinking ? "#ff5c7a" : "#8fb4ff";
  g.shadowBlur = 22;
  g.strokeStyle = isShrinking ? `rgb(255 110 140 / ${glow})` : `rgb(170 200 255 / ${glow})`;
  g.lineWidth = 1.8;
  g.beginPath();
  g.arc(0, 0, ring, 0, 2 * Math.PI);
  g.stroke();
  g.restore();
}

function drawPuck(seat, world) {
  const puck = world.pucks[seat], { x, y, trail } = shown[seat];
  const isOut = world.winner !== null && world.winner !== seat;
  const fallen = isOut ? Math.min(1, 1 - world.left / 40 + 0.02) : 0;
  const size = PUCK * (world.phase === "over" && isOut ? 0 : 1 - Math.max(0, fallen));
  g.lineCap = "butt";
  for (let n = 1; n < trail.length; n++) {
    const from = trail[n - 1], to = trail[n];
    g.globalAlpha = (n / trail.length) ** 2 * (to.isDash ? 0.65 : 0.22);
    g.strokeStyle = COLORS[seat];
    g.lineWidth = PUCK * (to.isDash ? 1.7 : 1) * (n / trail.length);
    g.beginPath();
    g.moveTo(from.x, from.y);
    g.lineTo(to.x, to.y);
    g.stroke();
  }
  g.globalAlpha = 1;
  if (size <= 0.2) return;
  g.save();
  g.translate(x, y);
  g.shadowColor = COLORS[seat];
  g.shadowBlur = puck.dash > 0 ? 40 : 18;
  const body = g.createRadialGradient(-size * 0.3, -size * 0.4, size * 0.1, 0, 0, size);
  body.addColorStop(0, "#fff");
  body.addColorStop(0.35, COLORS[seat]);
  body.addColorStop(1, seat === 0 ? "#1279a8" : "#a83a24");
  g.fillStyle = body;
  g.beginPath();
  g.arc(0, 0, size * 0.8, 0, 2 * Math.PI);
  g.fill();
  g.shadowBlur = 0;
  g.strokeStyle = "#ffffff30";
  g.lineWidth = size * 0.18;
  g.beginPath();
  g.arc(0, 0, size * 0.91, 0, 2 * Math.PI);
  g.stroke();
  // How far the next dash is charged.
  const charge = 1 - puck.recharge / RECHARGE;
  g.strokeStyle = charge === 1 ? "#fff" : COLORS[seat];
  g.beginPath();
  g.arc(0, 0, size * 0.91, -Math.PI / 2, -Math.PI / 2 + charge * 2 * Math.PI);
  g.stroke();
  g.fillStyle = "#fff";
  g.beginPath();
  g.arc(puck.faceX * size * 0.5, puck.faceY * size * 0.5, size * 0.17, 0, 2 * Math.PI);
  g.fill();
  g.restore();
}

function strike({ x, y, power }) {
  const count = reducedMotion.matches ? 4 : Math.min(36, 6 + Math.round(power * 4));
  for (let n = 0; n < count; n++) {
    const angle = Math.random() * 2 * Math.PI, speed = (0.2 + Math.random()) * (0.5 + power * 0.25);
    sparks.push({ x, y, vx: Math.cos(angle) * speed, vy: Math.sin(angle) * speed, life: 1 });
  }
  if (!reducedMotion.matches) shake = Math.min(1.6, power * 0.22);
}

function drawSparks(ms) {
  g.strokeStyle = "#fff6d8";
  g.lineWidth = 0.7;
  for (const spark of sparks) {
    spark.life -= ms / 450;
    g.globalAlpha = Math.max(0, spark.life);
    g.beginPath();
    g.moveTo(spark.x, spark.y);
    spark.x += (spark.vx * ms) / 33;
    spark.y += (spark.vy * ms) / 33;
    g.lineTo(spark.x - spark.vx, spark.y - spark.vy);
    g.stroke();
  }
  g.globalAlpha = 1;
  sparks = sparks.filter(({ life }) => life > 0);
}

function drawStick() {
  if (!stick || Math.hypot(stick.x - stick.fromX, stick.y - stick.fromY) < TAP_PIXELS) return;
  g.strokeStyle = "#ffffff55";
  g.lineWidth = 2;
  g.beginPath();
  g.arc(stick.fromX, stick.fromY, STICK_PIXELS, 0, 2 * Math.PI);
  g.stroke();
  const scale = Math.min(1, STICK_PIXELS / Math.hypot(stick.x - stick.fromX, stick.y - stick.fromY));
  g.fillStyle = "#ffffff70";
  g.beginPath();
  g.arc(stick.fromX + (stick.x - stick.fromX) * scale, stick.fromY + (stick.y - stick.fromY) * scale, 20, 0, 2 * Math.PI);
  g.fill();
}

let last = performance.now();
function frame(now) {
  requestAnimationFrame(frame);
  const ms = Math.min(100, now - last);
  last = now;
  if (!session) return;
  session.input(ownInput());
  const world = session.update();
  g.clearRect(0, 0, width, height);
  if (!world) return room.status === "closed" || call(announcement());
  if (world.hit.count > hits) strike(world.hit);
  hits = world.hit.count;
  shake *= Math.exp(-ms / 90);
  g.save();
  g.translate(width / 2, (height - 24) / 2);
  g.scale(unit, unit);
  g.translate((Math.random() - 0.5) * 2 * shake, (Math.random() - 0.5) * 2 * shake);
  drawRing(world);
  for (const seat of [0, 1]) place(seat, world, session.previous, ms);
  for (const seat of [1, 0]) drawPuck(seat, world);
  drawSparks(ms);
  g.restore();
  drawStick();
  drawText(world);
}
requestAnimationFrame(frame);

await play();
