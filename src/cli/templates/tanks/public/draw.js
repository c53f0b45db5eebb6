// The picture: nothing here changes the game.
import { ARMOR, HEIGHT, RADIUS, RELOAD, WALLS, WIDTH } from "./step.js";

const SHOT_MS = 160;
const BLAST_MS = 420;
const view = { scale: 1, x: 0, y: 0 };

/** From a place in the window to one in the arena. */
export const toArena = ({ x, y }) => ({ x: (x - view.x) / view.scale, y: (y - view.y) / view.scale });

const colorOf = (id, me) => (id === me ? "#ffd166" : `hsl(${(Number(id) * 137.5 + 200) % 360} 65% 62%)`);

export function draw(canvas, { shown, me, nameOf, shots, blasts, sticks }) {
  const g = canvas.getContext("2d");
  const ratio = Math.min(devicePixelRatio || 1, 2.5);
  const [width, height] = [Math.round(innerWidth * ratio), Math.round(innerHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  look(shown.get(me));
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.fillStyle = "#10151c";
  g.fillRect(0, 0, innerWidth, innerHeight);
  g.save();
  g.translate(view.x, view.y);
  g.scale(view.scale, view.scale);
  drawGround(g);
  for (const [id, tank] of shown) drawTank(g, tank, colorOf(id, me));
  drawWalls(g);
  drawEffects(g, shots, blasts);
  for (const [id, tank] of shown) drawLabel(g, tank, nameOf(id));
  g.restore();
  drawSticks(g, sticks);
}

/** The whole arena, or on a small screen what is around the own tank. */
function look(tank) {
  const margin = 24;
  const [byWidth, byHeight] = [innerWidth / (WIDTH + margin), innerHeight / (HEIGHT + margin)];
  view.scale = Math.max(Math.min(byWidth, byHeight), Math.min(byHeight, innerWidth / 520));
  const place = (space, size, at) => {
    const [scaled, edge] = [size * view.scale, margin * view.scale];
    if (scaled + edge <= space) return (space - scaled) / 2;
    return Math.max(space - scaled - edge, Math.min(edge, space / 2 - at * view.scale));
  };
  if (!tank && view.x) return;
  view.x = place(innerWidth, WIDTH, tank?.x ?? WIDTH / 2);
  view.y = place(innerHeight, HEIGHT, tank?.y ?? HEIGHT / 2);
}

const box = (g, x, y, width, height, radius, fill) => {
  g.fillStyle = fill;
  g.beginPath();
  g.roundRect(x, y, width, height, radius);
  g.fill();
};

function drawGround(g) {
  box(g, 0, 0, WIDTH, HEIGHT, 20, "#263645");
  g.strokeStyle = "#ffffff0c";
  g.lineWidth = 1.5;
  g.beginPath();
  for (let x = 80; x < WIDTH; x += 80) g.moveTo(x, 0), g.lineTo(x, HEIGHT);
  for (let y = 80; y < HEIGHT; y += 80) g.moveTo(0, y), g.lineTo(WIDTH, y);
  g.stroke();
  g.strokeStyle = "#4a6076";
  g.lineWidth = 4;
  g.beginPath();
  g.roundRect(0, 0, WIDTH, HEIGHT, 20);
  g.stroke();
}

function drawWalls(g) {
  for (const [rise, fill] of [[9, "#0a0f15aa"], [0, "#5b6f84"], [-6, "#7f96ad"]]) {
    for (const { left, top, right, bottom } of WALLS) box(g, left, top + rise, right - left, bottom - top, 8, fill);
  }
}

function drawTank(g, { x, y, hull, turret, reload }, color) {
  const r = RADIUS;
  g.save();
  g.translate(x, y);
  g.fillStyle = "#0006";
  g.beginPath();
  g.ellipse(3, 6, r * 1.05, r * 0.95, 0, 0, 7);
  g.fill();
  g.save();
  g.rotate(hull);
  for (const side of [-1, 1]) box(g, -r, side * r * 0.72 - r * 0.24, r * 2, r * 0.48, 5, "#141b22");
  box(g, -r * 0.9, -r * 0.64, r * 1.8, r * 1.28, 6, color);
  box(g, r * 0.5, -r * 0.64, r * 0.3, r * 1.28, 3, "#0003");
  g.restore();
  g.rotate(turret);
  g.strokeStyle = "#10151c";
  g.lineWidth = 3;
  // The barrel springs back after a shot.
  const recoil = 7 * Math.max(0, reload / RELOAD - 0.6);
  for (const part of [() => g.roundRect(-recoil, -4.5, r * 1.5, 9, 2), () => g.arc(0, 0, r * 0.48, 0, 7)]) {
    g.fillStyle = color;
    g.beginPath();
    part();
    g.fill();
    g.stroke();
  }
  g.restore();
}

function drawLabel(g, { x, y, armor }, name) {
  g.textAlign = "center";
  g.font = "650 15px system-ui, sans-serif";
  g.fillStyle = "#e8eef5";
  g.fillText(name, x, y - RADIUS - 20);
  for (let at = 0; at < ARMOR; at += 1) {
    box(g, x - 24 + at * 17, y - RADIUS - 14, 14, 5, 2, at < armor ? "#7ee08a" : "#0008");
  }
}

function drawEffects(g, shots, blasts) {
  const now = performance.now();
  g.lineCap = "round";
  for (const shot of shots) {
    const age = (now - shot.at) / SHOT_MS;
    if (age > 1) shots.delete(shot);
    for (const [lineWidth, strokeStyle] of [[9, "#ffb34766"], [3.5, "#fff6d8"]]) {
      Object.assign(g, { lineWidth, strokeStyle, globalAlpha: Math.max(0, 1 - age) });
      g.beginPath();
      g.moveTo(...shot.from);
      g.lineTo(...shot.to);
      g.stroke();
    }
  }
  for (const blast of blasts) {
    const age = (now - blast.at) / (blast.size > 50 ? 2 * BLAST_MS : BLAST_MS);
    if (age > 1) blasts.delete(blast);
    g.globalAlpha = Math.max(0, 1 - age);
    g.fillStyle = age < 0.3 ? "#fff3c4" : "#ff8c42";
    for (let n = 0; n < 11; n += 1) {
      const far = blast.size * Math.sqrt(age) * (0.4 + (n % 4) / 4);
      g.beginPath();
      g.arc(blast.x + Math.cos(n * 2.4) * far, blast.y + Math.sin(n * 2.4) * far, blast.size * 0.2 * Math.max(0, 1 - age), 0, 7);
      g.fill();
    }
  }
  g.globalAlpha = 1;
}

/** What a thumb holds. */
function drawSticks(g, sticks) {
  g.lineWidth = 2;
  for (const { from, to } of sticks) {
    for (const [{ x, y }, radius, fill] of [[from, 50, "#ffffff14"], [to, 22, "#ffffff40"]]) {
      g.fillStyle = fill;
      g.strokeStyle = "#ffffff66";
      g.beginPath();
      g.arc(x, y, radius, 0, 7);
      g.fill();
      g.stroke();
    }
  }
}
