// What both examples show around the game: the form to join, clock, scores, connection and the link to invite others.

import "./hud.css";
import { RtcadeError } from "rtcade";
import { type Arena, type Disc, type Round, colorOf, joinArena } from "./arena";

const SCORES = 5;
const BANNER_MS = 4_000;
const CONNECTION_MS = 500;
/** In `sessionStorage`: a reloaded page with the same name continues as the same player. */
const NAME = "name";

const HTML = `
  <header>
    <ol id="scores" aria-label="Scores"></ol>
    <p id="clock" role="timer"></p>
    <button id="invite" type="button">Copy link</button>
  </header>
  <p id="banner" role="status"></p>
  <footer>
    <p id="connection"></p>
    <p id="help"><kbd>←</kbd><kbd>↑</kbd><kbd>↓</kbd><kbd>→</kbd> or <kbd>WASD</kbd> to steer, <kbd>space</kbd> to dash</p>
    <button id="dash" type="button">Dash</button>
  </footer>
  <form id="join" hidden>
    <h1></h1>
    <p>Collect gems. Dash into others to steal their points.</p>
    <label>Your name <input name="name" maxlength="32" required autocomplete="nickname" spellcheck="false"></label>
    <button>Play</button>
    <p class="error" role="alert"></p>
  </form>`;

export interface Hud {
  readonly surface: HTMLElement;
  readonly dashButton: HTMLElement;
  /** Asks for a name, unless this tab has one, and joins the room of the page's address. */
  join(): Promise<Arena>;
  update(arena: Arena, round: Round): void;
}

export function createHud(): Hud {
  document.body.insertAdjacentHTML("beforeend", HTML);
  const find = <E extends HTMLElement>(id: string) => document.getElementById(id) as E;
  const form = find<HTMLFormElement>("join");
  const field = form.elements.namedItem("name") as HTMLInputElement;
  const invite = find("invite");
  let bannerTimer: ReturnType<typeof setTimeout> | undefined;
  let shownScores = "";
  let connectionAt = -CONNECTION_MS;

  const banner = (text: string, ms = BANNER_MS) => {
    find("banner").textContent = text;
    clearTimeout(bannerTimer);
    if (ms < Infinity) bannerTimer = setTimeout(() => (find("banner").textContent = ""), ms);
  };

  invite.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      invite.textContent = "Copied";
      setTimeout(() => (invite.textContent = "Copy link"), BANNER_MS);
    } catch {
      banner(location.href);
    }
  });
  form.querySelector("h1")!.textContent = document.title;

  /** The name of the form when it is submitted. */
  const askName = (error: string) =>
    new Promise<string>((resolve) => {
      form.hidden = false;
      form.querySelector(".error")!.textContent = error;
      field.value ||= `Player ${Math.floor(Math.random() * 900 + 100)}`;
      field.select();
      form.onsubmit = (event) => {
        event.preventDefault();
        form.hidden = true;
        resolve(field.value);
      };
    });

  function showScores(arena: Arena, round: Round): void {
    const ranking = round.discs.toSorted((a, b) => b.score - a.score);
    const shown = ranking.filter(({ id }, place) => place < SCORES || id === arena.room.me);
    const key = JSON.stringify([round.crowned, shown.map(({ id, score }) => [id, arena.nameOf(id), score])]);
    if (key === shownScores) return;
    shownScores = key;
    find("scores").replaceChildren(...shown.map((disc) => row(arena, round, disc)));
  }

  function row(arena: Arena, round: Round, { id, score }: Disc): HTMLElement {
    const item = document.createElement("li");
    const name = document.createElement("span");
    const points = document.createElement("b");
    item.classList.toggle("me", id === arena.room.me);
    item.style.setProperty("--color", cssColorOf(id));
    name.textContent = `${id === round.crowned ? "★ " : ""}${arena.nameOf(id)}`;
    points.textContent = String(score);
    item.append(name, points);
    return item;
  }

  return {
    surface: find("game"),
    dashButton: find("dash"),
    async join() {
      let name = sessionStorage.getItem(NAME) ?? (await askName(""));
      for (;;) {
        banner("Connecting…", Infinity);
        try {
          const arena = await joinArena(name);
          sessionStorage.setItem(NAME, name);
          banner("", 0);
          arena.onWon(({ id, name, score }) =>
            banner(`${id === arena.room.me ? "You win" : `${name} wins`} with ${score} points`),
          );
          arena.room.on("close", ({ message }) => banner(`${message} Reload the page to join again.`, Infinity));
          return arena;
        } catch (error) {
          if (!(error instanceof RtcadeError)) throw error;
          banner("", 0);
          name = await askName(error.message);
        }
      }
    },
    update(arena, round) {
      showScores(arena, round);
      const { secondsLeft } = round;
      const time = `${Math.floor(secondsLeft / 60)}:${String(secondsLeft % 60).padStart(2, "0")}`;
      const clock = round.isPlaying ? time : `next round in ${time}`;
      if (find("clock").textContent !== clock) find("clock").textContent = clock;
      if (performance.now() < connectionAt + CONNECTION_MS) return;
      connectionAt = performance.now();
      const { status, stats } = arena.room;
      const rtt = stats.rtt === null ? "" : ` · ${Math.round(stats.rtt)} ms`;
      find("connection").textContent = status === "open" ? `${stats.transport}${rtt}` : status;
    },
  };
}

export function cssColorOf(id: number): string {
  const { hue, saturation, lightness } = colorOf(id);
  return `hsl(${hue} ${saturation * 100}% ${lightness * 100}%)`;
}
