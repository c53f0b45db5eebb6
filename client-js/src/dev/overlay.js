import { element, short, size } from "./element.js";
import { createGraph } from "./graph.js";
import { createInspector } from "./inspector.js";
import { GRAPHS, SAMPLE_MS } from "./meter.js";
import { PRESETS, RANGES, WAYS } from "./network.js";
import { toScenario } from "./scenario.js";
import { STYLE } from "./style.js";

const TABS = ["Network", "Graphs", "Messages"];
const NAMES = { latency: "Latency", jitter: "Jitter", loss: "Loss", duplication: "Duplicates", reordering: "Reordering" };
const FREEZES = [1, 2, 5, 10];
const GOOD_MS = 100;
const POOR_MS = 250;
const GOOD_LOSS = 2;
const POOR_LOSS = 10;
/** On a phone it would cover the game. */
const SMALL_PX = 640;
const MARGIN = 8;
const DRAG_PX = 4;
const TOLD_MS = 4_000;
/** What the game must not take for steering. Releases pass, so that no key of the game stays down. */
const OWN_EVENTS = ["keydown", "keypress", "pointerdown", "mousedown", "touchstart", "click", "dblclick", "wheel", "contextmenu"];

const button = (text, onclick, properties = {}) => element("button", { type: "button", onclick, ...properties }, text);
const press = (pressed, isPressed) => pressed.setAttribute("aria-pressed", String(isPressed));

/**
 * The overlay over a page.
 *
 * @param settings those of the network, which the sliders change
 * @param shown gives `messages` and `sockets` of the connection that it is about
 * @param store where settings and places are kept for a reload, and `stored` what was
 */
export function createOverlay({ settings, shown, meter, store, stored }) {
  const view = { tab: "Network", isCollapsed: innerWidth <= SMALL_PX, isLinked: true, place: null, pillPlace: null, ...stored.view };
  const save = () => store.write({ settings, view });

  const host = element("rtcade-dev");
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];
  for (const type of OWN_EVENTS) host.addEventListener(type, (event) => event.stopPropagation(), { passive: true });

  const inspector = createInspector();
  const graphs = GRAPHS.map(createGraph);
  const controls = createControls();

  // ---- The frame around it.

  const dots = [0, 1].map(() => element("span", { className: "dot" }));
  const rates = element("span", { className: "rates" });
  const summary = element("span", { className: "now" });
  const pill = element("div", { className: "pill", role: "button", tabIndex: 0, ariaLabel: "Open the dev page" }, dots[0]);
  const pillText = [element("b"), element("span")];
  pill.append(...pillText);
  const tabs = TABS.map((name) => {
    const tab = button(name, () => select(name), { role: "tab" });
    tab.dataset.name = name;
    return tab;
  });
  const head = element("header", {}, dots[1], element("h2", {}, "Dev page"), summary, button("–", () => collapse(true), { ariaLabel: "Collapse", title: "Collapse" }));
  const panel = element(
    "div",
    { className: "panel", role: "region", ariaLabel: "Dev page" },
    head,
    element("div", { role: "tablist" }, ...tabs),
    element("div", { className: "body" }, controls.node, element("section", { className: "graphs" }, ...graphs.map(({ node }) => node)), inspector.node),
  );
  root.append(pill, panel);

  function select(name) {
    view.tab = name;
    panel.dataset.tab = name;
    for (const tab of tabs) tab.setAttribute("aria-selected", String(tab.dataset.name === name));
    save();
    settle();
    draw();
  }
  function collapse(isCollapsed) {
    view.isCollapsed = isCollapsed;
    pill.hidden = !isCollapsed;
    panel.hidden = isCollapsed;
    save();
    settle();
    draw();
  }
  /** Brings what was dragged, or is there for the first time, into the window. */
  function settle() {
    const put = (box, [left, top]) => {
      const within = (at, most) => Math.max(MARGIN, Math.min(most - MARGIN, at));
      box.style.left = `${within(left, innerWidth - box.offsetWidth)}px`;
      box.style.top = `${within(top, innerHeight - box.offsetHeight)}px`;
    };
    put(panel, view.place ?? [MARGIN, MARGIN]);
    put(pill, view.pillPlace ?? [MARGIN, innerHeight / 2]);
  }
  function drag(handle, box, key, onClick = () => {}) {
    let start = null;
    handle.onpointerdown = (event) => {
      if (event.target.closest("button")) return;
      const { left, top } = box.getBoundingClientRect();
      start = { x: event.clientX, y: event.clientY, left, top, isMoved: false };
      handle.setPointerCapture(event.pointerId);
    };
    handle.onpointermove = ({ clientX, clientY }) => {
      if (!start) return;
      const [dx, dy] = [clientX - start.x, clientY - start.y];
      start.isMoved ||= Math.hypot(dx, dy) > DRAG_PX;
      if (!start.isMoved) return;
      view[key] = [start.left + dx, start.top + dy];
      settle();
    };
    handle.onpointerup = handle.onpointercancel = ({ type }) => {
      if (start && !start.isMoved && type === "pointerup") onClick();
      start = null;
      save();
    };
  }
  drag(head, panel, "place");
  drag(pill, pill, "pillPlace", () => collapse(false));
  pill.onkeydown = ({ key }) => {
    if (key === "Enter" || key === " ") collapse(false);
  };
  addEventListener("resize", settle);

  // ---- What it shows.

  function draw() {
    const { rtt, loss, up, down } = meter.samples.at(-1) ?? { rtt: null, loss: null, up: 0, down: 0 };
    const isPoor = rtt > POOR_MS || loss > POOR_LOSS;
    const quality = rtt === null ? "" : isPoor ? "poor" : rtt > GOOD_MS || loss > GOOD_LOSS ? "fair" : "good";
    for (const dot of dots) dot.className = `dot ${quality}`;
    const measured = rtt === null ? "not connected" : `${Math.round(rtt)} ms`;
    const lost = rtt === null ? "" : `${short(loss)} % loss`;
    rates.textContent = rtt === null ? "" : ` · ↓ ${size(down)}/s · ↑ ${size(up)}/s`;
    summary.replaceChildren([measured, lost].filter(Boolean).join(" · "), rates);
    pillText[0].textContent = measured;
    pillText[1].textContent = lost + rates.textContent;
    if (view.isCollapsed) return;
    for (const graph of graphs) graph.draw(meter.samples);
    if (view.tab === "Messages") inspector.draw(shown().messages);
  }
  setInterval(() => {
    meter.take(shown().messages);
    draw();
    // A game that replaces the whole document takes the overlay with it.
    if (!host.isConnected) document.documentElement.append(host);
  }, SAMPLE_MS);

  // ---- The network, and what can be done to the connection.

  function createControls() {
    const presets = Object.entries(PRESETS).map(([name, paths]) =>
      button(name, () => {
        for (const way of WAYS) Object.assign(settings[way], paths[way]);
        changed();
      }),
    );
    const fits = ([, paths]) => WAYS.every((way) => Object.keys(RANGES).every((key) => paths[way][key] === settings[way][key]));

    const sliders = [];
    const slider = (key, way) => {
      const { max, step, unit } = RANGES[key];
      const input = element("input", { type: "range", min: 0, max, step, className: way });
      input.ariaLabel = `${NAMES[key]} ${way === "up" ? "to the server" : "from the server"}, ${unit}`;
      const output = element("output");
      input.oninput = () => {
        for (const one of view.isLinked ? WAYS : [way]) settings[one][key] = input.valueAsNumber;
        changed();
      };
      sliders.push(() => {
        const value = settings[way][key];
        input.value = value;
        input.style.setProperty("--filled", `${(value / max) * 100}%`);
        output.textContent = `${value} ${unit}`;
        output.classList.toggle("zero", value === 0);
      });
      return element("label", {}, input, output);
    };
    const rows = Object.keys(RANGES).flatMap((key) => [
      element("span", { className: "name" }, NAMES[key]),
      ...WAYS.map((way) => slider(key, way)),
    ]);
    const linked = element("input", { type: "checkbox", checked: view.isLinked });
    linked.onchange = () => {
      view.isLinked = linked.checked;
      save();
    };
    const seed = element("input", { type: "number", min: 0, max: 2 ** 32 - 1, step: 1, ariaLabel: "Seed" });
    seed.onchange = () => {
      settings.seed = Math.max(0, Math.min(2 ** 32 - 1, Math.floor(seed.valueAsNumber || 0)));
      changed();
    };

    const told = element("p", { className: "told", role: "status" });
    let toldTimer;
    const tell = (text, isBad = false) => {
      told.textContent = text;
      told.classList.toggle("bad", isBad);
      clearTimeout(toldTimer);
      toldTimer = setTimeout(() => (told.textContent = ""), TOLD_MS);
    };
    const copied = element("pre", { hidden: true });
    const copy = button("Copy scenario", async () => {
      const scenario = toScenario(settings);
      try {
        await navigator.clipboard.writeText(scenario);
        copied.hidden = true;
        tell("Copied. Save it as a file for rtcade sim --scenario FILE.");
      } catch {
        // Browsers allow it only to pages over https and of this machine.
        copied.textContent = scenario;
        copied.hidden = false;
        getSelection().selectAllChildren(copied);
      }
    });
    const dropSocket = button("Drop WebSocket", () => {
      const { size } = shown().sockets;
      for (const socket of [...shown().sockets]) socket.drop();
      tell(size ? "The WebSocket was dropped." : "There is no WebSocket to drop.", !size);
    });
    const killUdp = button("Kill UDP", () => {
      settings.isUdpSilent = !settings.isUdpSilent;
      changed();
    }, { className: "danger", title: "The data channel is silent in both directions" });
    const seconds = element("select", { ariaLabel: "Seconds to freeze" }, ...FREEZES.map((s) => element("option", { value: s }, `${s} s`)));
    seconds.value = 2;
    const freeze = button("Freeze", () => {
      tell(`Frozen for ${seconds.value} s.`);
      // After the next frame, which shows it.
      requestAnimationFrame(() =>
        setTimeout(() => {
          const end = performance.now() + seconds.value * 1_000;
          while (performance.now() < end);
        }, 0),
      );
    }, { title: "Blocks the whole tab: no frames, no timers, no messages" });
    const reload = button("Reload", () => location.reload());

    const node = element(
      "section",
      { className: "network" },
      element("div", { className: "chips", role: "group", ariaLabel: "Presets" }, ...presets),
      element(
        "div",
        { className: "paths" },
        element("span"),
        element("span", { className: "way up" }, "↑ to the server"),
        element("span", { className: "way down" }, "↓ from the server"),
        ...rows,
      ),
      element("div", { className: "row" }, element("label", {}, linked, "Same both ways"), element("span", { className: "fill" }), element("label", {}, "Seed", seed), copy),
      element("div", { className: "row" }, dropSocket, killUdp, element("span", { className: "joined" }, freeze, seconds), reload),
      element("p", {}, "On the WebSocket (TCP), loss is a delay; the last two do nothing."),
      told,
      copied,
    );
    const changed = () => {
      Object.entries(PRESETS).forEach((preset, n) => press(presets[n], fits(preset)));
      for (const show of sliders) show();
      seed.value = settings.seed;
      press(killUdp, settings.isUdpSilent);
      save();
    };
    changed();
    return { node };
  }

  document.documentElement.append(host);
  collapse(view.isCollapsed);
  select(view.tab);
}
