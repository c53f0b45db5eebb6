// On every page that `rtcade dev` serves: loads it anew when its files change, and shows what is wrong with the game.

const POLL_MS = 300;
let first;
let panel;

function show(problems) {
  if (problems.length === 0) {
    panel?.remove();
    panel = undefined;
    return;
  }
  if (!panel) {
    panel = document.createElement("div");
    panel.id = "rtcade-problems";
    panel.setAttribute("role", "alert");
    panel.style.cssText =
      "position:fixed;inset:auto 0 0 0;z-index:2147483647;max-height:60vh;overflow:auto;padding:12px 16px;" +
      "background:#2a0b12;color:#ffd7de;border-top:3px solid #ff4d6a;font:13px/1.5 ui-monospace,monospace;" +
      "white-space:pre-wrap;text-align:left";
    document.body.append(panel);
  }
  const text = problems.map(({ title, text }) => `${title}\n${text}`).join("\n\n");
  if (panel.textContent !== text) panel.textContent = text;
}

async function look() {
  try {
    const response = await fetch("/rtcade/live.json", { cache: "no-store" });
    const { pages, problems } = await response.json();
    first ??= pages;
    if (pages !== first) location.reload();
    show(problems);
  } catch {
    // The server restarts, or the network is away: the next look may succeed.
  }
  setTimeout(look, POLL_MS);
}

look();
