import { element, short, size } from "./element.js";
import { SAMPLES_KEPT } from "./meter.js";

const COLORS = { up: "#ffb454", jitter: "#b69cff", loss: "#ff6f7d", gap: "#6fe3c1", error: "#ff9d6f", corrections: "#ff9d6f", delay: "#b69cff" };
const COLOR = "#45cdf5";
const STEPS = [1, 2, 5, 10];

/** The top of a scale that has room for `value`: a round number. */
function topOf(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return STEPS.find((step) => step * power >= value) * power;
}

const show = (value, unit) => (value === null ? "–" : unit === "bytes" ? size(value) : `${short(value)} ${unit}`.trim());

/** A graph of the last minute: `{node, draw(samples)}`. */
export function createGraph({ title, unit, series, needs }) {
  const value = element("b");
  const scale = element("i");
  const canvas = element("canvas", { role: "img" });
  const node = element("figure", {}, element("figcaption", {}, element("span", {}, title), value), element("div", {}, canvas, scale));
  if (needs) node.title = `From ${needs}, where the page uses it`;
  let hovered = null;
  let drawn = [];
  canvas.onpointermove = ({ offsetX }) => {
    hovered = offsetX / canvas.clientWidth;
    draw(drawn);
  };
  canvas.onpointerleave = () => {
    hovered = null;
    draw(drawn);
  };

  function draw(samples) {
    drawn = samples;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0) return;
    const first = SAMPLES_KEPT - samples.length;
    const place = hovered === null ? samples.length - 1 : Math.round(hovered * (SAMPLES_KEPT - 1)) - first;
    const at = samples[Math.max(0, Math.min(samples.length - 1, place))];
    const has = samples.some((sample) => sample[series[0]] !== null);
    node.classList.toggle("unused", !has && Boolean(needs));
    const values = at ? series.map((name) => show(at[name], unit)) : ["–"];
    value.textContent = !has && needs ? "not used" : series.length > 1 ? `↓ ${values[0]}  ↑ ${values[1]}` : values[0];
    canvas.setAttribute("aria-label", `${title}: ${value.textContent}`);

    const ratio = devicePixelRatio;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const most = Math.max(0, ...samples.flatMap((sample) => series.map((name) => sample[name] ?? 0)));
    const top = topOf(Math.max(most, 1e-3) * 1.05);
    scale.textContent = most > 0 ? show(top, unit) : "";
    const x = (n) => ((first + n) / (SAMPLES_KEPT - 1)) * width;
    const y = (value) => height - 1.5 - (value / top) * (height - 5);
    pen.strokeStyle = "#ffffff14";
    pen.lineWidth = 1;
    for (const line of [0, 0.5, 1]) {
      pen.beginPath();
      pen.moveTo(0, Math.round(y(line * top)) + 0.5);
      pen.lineTo(width, Math.round(y(line * top)) + 0.5);
      pen.stroke();
    }
    for (const name of series) {
      const color = COLORS[name] ?? COLOR;
      let from = null;
      const fill = (to) => {
        if (from === null) return;
        pen.lineTo(x(to), y(0));
        pen.lineTo(x(from), y(0));
        pen.closePath();
        pen.fillStyle = gradient(pen, color, height);
        pen.fill();
        from = null;
      };
      for (const pass of ["area", "line"]) {
        pen.strokeStyle = color;
        pen.lineWidth = 1.5;
        pen.lineJoin = "round";
        pen.beginPath();
        from = null;
        samples.forEach((sample, n) => {
          const value = sample[name];
          if (value === null) {
            if (pass === "area") fill(n - 1);
            from = null;
          } else if (from === null) {
            from = n;
            if (pass === "area") pen.beginPath();
            pen.moveTo(x(n), y(value));
          } else pen.lineTo(x(n), y(value));
        });
        if (pass === "area") fill(samples.length - 1);
        else pen.stroke();
      }
    }
    if (hovered !== null) {
      pen.fillStyle = "#ffffff66";
      pen.fillRect(hovered * width, 0, 1, height);
    }
  }
  return { node, draw };
}

function gradient(pen, color, height) {
  const fade = pen.createLinearGradient(0, 0, 0, height);
  fade.addColorStop(0, `${color}55`);
  fade.addColorStop(1, `${color}08`);
  return fade;
}
