// Draws comparison.svg from results.json, or from the file that is named: how old what a player sees is, on a link that
// loses packets.
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";

const file = process.argv[2] ?? path.join(import.meta.dirname, "results.json");
const { loss, task } = JSON.parse(readFileSync(file));

const NAMES = {
  rtcade: ["rtcade", "data channel"],
  geckos: ["geckos.io", "data channel (libdatachannel)"],
  str0m: ["str0m, stock", "data channel (its own SCTP)"],
  ws: ["ws on Node", "websocket (TCP)"],
  bun: ["Bun (uWebSockets)", "websocket (TCP)"],
};
const SECONDS = 10;
const TOP_MS = 800;
const STALE_MS = 300;

const width = 870;
const left = 236;
const plotWidth = 446;
const rowHeight = 76;
const plotHeight = 58;
const top = 84;
const delay_ms = Math.max(...task.loss.delays_ms);
const rows = loss.filter((result) => !result.left_out && result.delay_ms === delay_ms);
const height = top + rows.length * rowHeight + 46;
const x = (ms) => left + (ms / (SECONDS * 1000)) * plotWidth;
const columns = [
  ["p50", "median"],
  ["p99", "99 %"],
  ["p999", "99.9 %"],
];
const columnX = (index) => left + plotWidth + 54 + index * 52;

/** The age of the newest state: it grows with time, and falls when a newer one comes. */
function sawtooth(arrivals, bottom) {
  const y = (age) => bottom - (Math.min(age, TOP_MS) / TOP_MS) * plotHeight;
  let path = "";
  let newest = -Infinity;
  let last = 0;
  for (const [came, age] of arrivals) {
    const made = came - age;
    if (made <= newest || came > SECONDS * 1000) continue;
    if (path === "") {
      path = `M${x(came).toFixed(1)} ${y(age).toFixed(1)}`;
    } else {
      const capped = newest + TOP_MS;
      // Past the top of the picture it runs along the edge.
      if (came > capped && capped > last) path += `L${x(capped).toFixed(1)} ${y(TOP_MS).toFixed(1)}`;
      path += `L${x(came).toFixed(1)} ${y(came - newest).toFixed(1)}V${y(age).toFixed(1)}`;
    }
    newest = made;
    last = came;
  }
  return path;
}

const parts = [];
const text = (at, y, words, attributes = "") => parts.push(`<text x="${at}" y="${y}" ${attributes}>${words}</text>`);

text(24, 34, "How old is what a player sees?", 'class="title"');
const { permille } = task.loss;
text(
  24,
  55,
  `Age of the newest state at the median of ${task.link_clients} players: 30 states a second, ` +
    `${permille / 10} % of packets lost each way, ${2 * delay_ms} ms round trip`,
  'class="note"',
);
text(columnX(0) - 36, top - 14, "all players, ms", 'class="note"');

rows.forEach((result, index) => {
  const bottom = top + index * rowHeight + plotHeight + 8;
  const upper = bottom - plotHeight;
  const stale = bottom - (STALE_MS / TOP_MS) * plotHeight;
  const [name, how] = NAMES[result.server];
  text(24, bottom - plotHeight / 2, name, 'class="name"');
  text(24, bottom - plotHeight / 2 + 16, how, 'class="note"');
  parts.push(`<rect x="${left}" y="${upper}" width="${plotWidth}" height="${plotHeight}" class="plot"/>`);
  parts.push(`<path d="M${left} ${stale.toFixed(1)}h${plotWidth}" class="limit"/>`);
  parts.push(`<defs><path id="p${index}" d="${sawtooth(result.example, bottom)}"/></defs>`);
  parts.push(`<use href="#p${index}" class="age"/>`);
  const clip = `<rect x="${left}" y="${upper - 1}" width="${plotWidth}" height="${(stale - upper + 1).toFixed(1)}"/>`;
  parts.push(`<clipPath id="c${index}">${clip}</clipPath>`);
  parts.push(`<use href="#p${index}" clip-path="url(#c${index})" class="stale"/>`);
  for (const [ms, at] of [[TOP_MS, upper + 9], [STALE_MS, stale + 4], [0, bottom]]) {
    text(left - 6, at.toFixed(1), ms === TOP_MS ? `${ms} ms` : ms, 'class="axis" text-anchor="end"');
  }
  columns.forEach(([key, label], column) => {
    if (index === 0) text(columnX(column), top + 2, label, 'class="axis" text-anchor="end"');
    const value = result.newest_age_ms[key];
    const words = value < 10_000 ? Math.round(value) : `${Math.round(value / 1000)} s`;
    const kind = value > STALE_MS ? "value old" : "value";
    text(columnX(column), bottom - plotHeight / 2 + 6, words, `class="${kind}" text-anchor="end"`);
  });
});
const bottom = top + rows.length * rowHeight;
for (let second = 0; second <= SECONDS; second += 2) {
  text(x(second * 1000), bottom + 6, second === SECONDS ? `${second} s` : second, 'class="axis" text-anchor="middle"');
}
text(24, bottom + 30, `Red: older than ${STALE_MS} ms. One link for all: benches/peers`, 'class="note"');

const style = `
text{font-family:system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2328}
.title{font-size:20px;font-weight:600}.name{font-size:15px;font-weight:600}
.note{font-size:12px;fill:#59636e}.axis{font-size:10.5px;fill:#59636e}
.value{font-size:15px}.old{fill:#c6262e;font-weight:600}
.plot{fill:#f3f5f8}.limit{stroke:#b6bec8;stroke-dasharray:3 3;fill:none}
.age,.stale{fill:none;stroke:#1a67c2;stroke-width:1.3;stroke-linejoin:round}.stale{stroke:#c6262e}
`;
const svg =
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">` +
  `<title>Age of the newest state of a game at a player, per server, on a link that loses packets</title>` +
  `<style>${style.trim()}</style><rect width="${width}" height="${height}" rx="8" fill="#fff"/>` +
  `${parts.join("\n")}\n</svg>\n`;
writeFileSync(flagged("output") ?? path.join(import.meta.dirname, "../../docs/src/images/comparison.svg"), svg);

function flagged(name) {
  return process.argv.find((argument) => argument.startsWith(`--${name}=`))?.split("=")[1];
}
