// Keyboard and touch: the arrow keys or WASD and space; a finger that drags, and a button or a second finger to dash.

import type { Input } from "./arena";

const KEYS: Readonly<Record<string, readonly [x: number, y: number]>> = {
  ArrowLeft: [-1, 0],
  KeyA: [-1, 0],
  ArrowRight: [1, 0],
  KeyD: [1, 0],
  ArrowUp: [0, -1],
  KeyW: [0, -1],
  ArrowDown: [0, 1],
  KeyS: [0, 1],
};
/** How far a finger drags for full thrust, in CSS pixels. */
const REACH = 52;

/** Steers with what happens on `surface`. Gives the function to read the input with: a dash counts once. */
export function createControls(surface: HTMLElement, dashButton: HTMLElement): () => Input {
  const keys = new Set<string>();
  let stick: { readonly pointer: number; readonly x: number; readonly y: number; dx: number; dy: number } | undefined;
  let wantsDash = false;
  const ring = surface.ownerDocument.createElement("div");
  ring.className = "stick";
  ring.append(surface.ownerDocument.createElement("i"));
  ring.hidden = true;
  surface.append(ring);

  const show = () => {
    ring.hidden = !stick;
    if (!stick) return;
    ring.style.translate = `${stick.x}px ${stick.y}px`;
    const length = Math.max(1, Math.hypot(stick.dx, stick.dy) / REACH);
    (ring.firstElementChild as HTMLElement).style.translate = `${stick.dx / length}px ${stick.dy / length}px`;
  };
  const letGo = () => {
    keys.clear();
    stick = undefined;
    show();
  };

  addEventListener("keydown", (event) => {
    if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.code === "Space" && !(event.target instanceof HTMLButtonElement)) {
      event.preventDefault();
      if (!event.repeat) wantsDash = true;
    } else if (KEYS[event.code]) {
      event.preventDefault();
      keys.add(event.code);
    }
  });
  addEventListener("keyup", ({ code }) => keys.delete(code));
  addEventListener("blur", letGo);
  document.addEventListener("visibilitychange", letGo);

  surface.addEventListener("pointerdown", (event) => {
    if (stick) {
      wantsDash = true;
      return;
    }
    surface.setPointerCapture(event.pointerId);
    stick = { pointer: event.pointerId, x: event.clientX, y: event.clientY, dx: 0, dy: 0 };
    show();
  });
  surface.addEventListener("pointermove", (event) => {
    if (event.pointerId !== stick?.pointer) return;
    stick.dx = event.clientX - stick.x;
    stick.dy = event.clientY - stick.y;
    show();
  });
  for (const type of ["pointerup", "pointercancel"] as const) {
    surface.addEventListener(type, (event) => {
      if (event.pointerId !== stick?.pointer) return;
      stick = undefined;
      show();
    });
  }
  dashButton.addEventListener("pointerdown", () => {
    wantsDash = true;
  });

  return () => {
    let x = (stick?.dx ?? 0) / REACH;
    let y = (stick?.dy ?? 0) / REACH;
    for (const key of keys) {
      x += KEYS[key]?.[0] ?? 0;
      y += KEYS[key]?.[1] ?? 0;
    }
    const length = Math.max(1, Math.hypot(x, y));
    const input: Input = [Math.round((100 * x) / length), Math.round((100 * y) / length), wantsDash];
    wantsDash = false;
    return input;
  };
}
