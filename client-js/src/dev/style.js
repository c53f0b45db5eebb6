export const STYLE = `
:host {
  all: initial !important; position: fixed !important; z-index: 2147483647 !important; inset: 0 !important;
  display: block !important; pointer-events: none !important; contain: layout style !important;
}
* { box-sizing: border-box; }
:is(.panel, .pill) {
  --ground: #0c1122f0; --raised: #171f38; --field: #0a0e1c; --line: #ffffff1a; --ink: #e9edf9; --dim: #94a1c0;
  --accent: #45cdf5; --up: #ffb454; --bad: #ff6f7d; --good: #5fd9a0;
  position: absolute; pointer-events: auto; color: var(--ink); background: var(--ground); border: 1px solid var(--line);
  -webkit-backdrop-filter: blur(14px); backdrop-filter: blur(14px);
  box-shadow: 0 12px 40px #000a, 0 1px 0 #ffffff0f inset; font: 12px/1.4 system-ui, sans-serif;
  font-variant-numeric: tabular-nums; text-align: left; color-scheme: dark; user-select: none; -webkit-user-select: none;
}
[hidden] { display: none !important; }
button, input, select { font: inherit; color: inherit; margin: 0; }
button, select {
  min-height: 28px; padding: 3px 10px; border: 1px solid var(--line); border-radius: 7px; background: var(--raised); cursor: pointer;
  white-space: nowrap;
}
button:hover, select:hover { border-color: #ffffff40; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
button[aria-pressed=true] { background: var(--accent); border-color: var(--accent); color: #05131c; font-weight: 600; }
button.danger[aria-pressed=true] { background: var(--bad); border-color: var(--bad); color: #220409; }

.pill {
  display: flex; align-items: center; gap: 10px; padding: 5px 13px 5px 11px; min-height: 34px; border-radius: 17px; cursor: grab;
  touch-action: none; white-space: nowrap;
}
.dot { width: 8px; height: 8px; border-radius: 50%; background: var(--dim); flex: none; box-shadow: 0 0 8px -1px currentColor; }
.dot.good { background: var(--good); color: var(--good); } .dot.fair { background: var(--up); color: var(--up); }
.dot.poor { background: var(--bad); color: var(--bad); }
.pill b { font-weight: 650; } .pill span { color: var(--dim); }

.panel { width: 428px; max-width: calc(100vw - 16px); max-height: calc(100vh - 16px); max-height: calc(100dvh - 16px); border-radius: 12px; display: flex; flex-direction: column; overflow: hidden; }
header { display: flex; align-items: center; gap: 9px; padding: 7px 8px 5px 14px; cursor: grab; touch-action: none; }
header:active { cursor: grabbing; }
header h2 { margin: 0; font-size: 13px; font-weight: 650; }
header .now { flex: 1; min-width: 0; color: var(--dim); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: right; }
header button { min-height: 26px; width: 30px; padding: 0; background: none; border-color: transparent; font-size: 15px; line-height: 1; color: var(--dim); }
[role=tablist] { display: flex; gap: 2px; padding: 0 10px; border-bottom: 1px solid var(--line); }
[role=tab] { background: none; border: 0; border-radius: 0; padding: 5px 9px 6px; color: var(--dim); border-bottom: 2px solid transparent; margin-bottom: -1px; }
[role=tab][aria-selected=true] { color: var(--ink); border-bottom-color: var(--accent); font-weight: 600; }
.body { overflow: auto; overscroll-behavior: contain; min-height: 0; }
section { padding: 10px 12px 12px; }
.chips { display: flex; flex-wrap: wrap; gap: 5px; }
.chips button { border-radius: 14px; padding: 2px 11px; }

.paths { display: grid; grid-template-columns: auto minmax(0, 1fr) minmax(0, 1fr); gap: 3px 14px; align-items: center; margin: 11px 0 9px; }
.paths > .way { font-weight: 600; }
.paths > .way.up { color: var(--up); } .paths > .way.down { color: var(--accent); }
.paths > .name { color: var(--dim); }
.paths label { display: flex; align-items: center; gap: 8px; min-height: 26px; }
.paths output { min-width: 46px; text-align: right; white-space: nowrap; }
.paths output.zero { color: #94a1c080; }
input[type=range] { -webkit-appearance: none; appearance: none; flex: 1; min-width: 0; width: 0; height: 22px; background: none; cursor: pointer; }
input[type=range]::-webkit-slider-runnable-track { height: 4px; border-radius: 2px; background: linear-gradient(var(--tint), var(--tint)) 0 / var(--filled, 0%) 100% no-repeat #ffffff24; }
input[type=range]::-moz-range-track { height: 4px; border-radius: 2px; background: #ffffff24; }
input[type=range]::-moz-range-progress { height: 4px; border-radius: 2px; background: var(--tint); }
input[type=range]::-webkit-slider-thumb { -webkit-appearance: none; width: 14px; height: 14px; margin-top: -5px; border-radius: 50%; background: var(--ink); border: 3px solid var(--tint); }
input[type=range]::-moz-range-thumb { width: 9px; height: 9px; border-radius: 50%; background: var(--ink); border: 3px solid var(--tint); }
.up { --tint: var(--up); } .down { --tint: var(--accent); }
.row { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; margin-top: 8px; }
.row label { display: flex; align-items: center; gap: 6px; color: var(--dim); }
.row .fill { flex: 1; }
input[type=number], input[type=search], input:not([type]) { min-height: 28px; padding: 2px 8px; border: 1px solid var(--line); border-radius: 7px; background: var(--field); color: var(--ink); user-select: text; -webkit-user-select: text; }
input[type=number] { width: 84px; }
input[type=checkbox] { accent-color: var(--accent); width: 15px; height: 15px; }
.joined { display: flex; } .joined button { border-radius: 7px 0 0 7px; } .joined select { border-radius: 0 7px 7px 0; border-left: 0; padding: 3px 4px; }
p { margin: 9px 0 0; color: var(--dim); font-size: 11px; line-height: 1.45; }
p.told { color: var(--good); } p.told.bad { color: var(--bad); }
p.told:empty { display: none; }

.graphs { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 12px; border-top: 1px solid var(--line); }
figure { margin: 0; min-width: 0; }
figcaption { display: flex; justify-content: space-between; gap: 6px; white-space: nowrap; }
figcaption span { color: var(--dim); } figcaption b { font-weight: 600; white-space: pre; overflow: hidden; text-overflow: ellipsis; }
figure > div { position: relative; margin-top: 2px; }
figure canvas { display: block; width: 100%; height: 40px; border-radius: 5px; background: #ffffff0a; touch-action: pan-y; }
figure i { position: absolute; left: 5px; top: 1px; font-style: normal; font-size: 10px; color: #94a1c0b0; pointer-events: none; }
figure.unused b { color: var(--dim); font-weight: 400; font-size: 11px; } figure.unused canvas { opacity: .5; }

.messages { display: flex; flex-direction: column; padding: 0; min-height: 0; }
.messages .row { margin: 0; padding: 8px 10px; }
.messages .row input { flex: 1; min-width: 90px; }
.list { height: min(340px, 38vh); overflow: auto; overscroll-behavior: contain; border-block: 1px solid var(--line); background: var(--field); font-size: 11.5px; }
.line { display: grid; grid-template-columns: 50px 13px minmax(62px, 1fr) 66px 20px 50px 58px 44px; gap: 5px; align-items: center; width: 100%; min-height: 23px; padding: 0 8px; border: 0; border-radius: 0; background: none; text-align: left; }
.line > * { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.line:hover { background: #ffffff0d; } .line[aria-current=true] { background: #45cdf52b; }
.line .way { font-weight: 700; } .line .way.up { color: var(--up); } .line .way.down { color: var(--accent); }
.line .dim, .line .size { color: var(--dim); } .line .size, .line .ratio { text-align: right; }
.line .ratio { color: var(--good); }
.line.lost { color: var(--bad); } .line.odd { color: var(--up); }
.line.lost .size { text-decoration: line-through; }
.heading { position: sticky; top: 0; z-index: 1; background: #131a30; color: var(--dim); min-height: 22px; cursor: default; }
.detail > .dim { color: var(--dim); }
.empty { padding: 26px 12px; text-align: center; color: var(--dim); }
.detail { height: min(230px, 26vh); overflow: auto; overscroll-behavior: contain; padding: 8px 10px 10px; user-select: text; -webkit-user-select: text; }
.about { display: flex; align-items: start; gap: 10px; margin-bottom: 6px; color: var(--dim); }
.about span { flex: 1; } .about b { color: var(--ink); margin-right: 4px; } .about button { min-height: 24px; padding: 1px 9px; font-size: 11px; }
.tree, .tree details { font: 11.5px/1.55 ui-monospace, "SF Mono", Menlo, monospace; }
.tree details > :not(summary) { margin-left: 15px; }
.tree summary { cursor: pointer; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.tree .leaf { padding-left: 12px; overflow-wrap: anywhere; white-space: pre-wrap; }
.key { color: #b9c4e4; } .count, .preview { color: var(--dim); } details[open] > summary > .preview { display: none; }
.value.number { color: var(--accent); } .value.string { color: var(--good); } .value.boolean, .value.null { color: #b69cff; } .value.bytes { color: var(--up); }
pre { margin: 0; font: 11px/1.5 ui-monospace, "SF Mono", Menlo, monospace; white-space: pre-wrap; overflow-wrap: anywhere; user-select: text; -webkit-user-select: text; }

[data-tab=Network] :is(.messages, .graphs), [data-tab=Graphs] :is(.messages, .network), [data-tab=Messages] :is(.network, .graphs) { display: none; }
[data-tab=Graphs] .graphs { border-top: 0; } [data-tab=Graphs] figure canvas { height: 56px; }
@media (min-width: 641px) and (min-height: 700px) {
  [data-tab=Network] .graphs { display: grid; }
  [role=tab][data-name=Graphs] { display: none; }
}
@media (max-width: 640px) {
  .panel { left: 0 !important; right: 0; bottom: 0; top: auto !important; width: auto; max-width: none; max-height: 62vh; max-height: 62dvh; border-radius: 14px 14px 0 0; border-width: 1px 0 0; padding-bottom: env(safe-area-inset-bottom); }
  header { cursor: default; touch-action: auto; }
  button, select, input[type=number], input[type=search] { min-height: 34px; }
  header .rates { display: none; }
  header button { width: 40px; min-height: 34px; }
  section { padding: 8px 10px 10px; }
  .chips { gap: 4px; } .chips button { padding: 2px 8.5px; border-radius: 17px; }
  .row { gap: 5px; } .row button { padding: 3px 8px; } input[type=number] { width: 62px; }
  .paths { gap: 0 10px; margin: 6px 0 4px; } .paths label { min-height: 34px; gap: 5px; } .paths output { min-width: 43px; }
  input[type=range] { height: 34px; }
  .list { height: 22vh; } .detail { height: 17vh; }
  .line { grid-template-columns: 42px 12px minmax(50px, 1fr) 60px 18px 46px 52px 42px; gap: 3px; min-height: 30px; }
  .heading { min-height: 24px; }
  [data-tab=Graphs] figure canvas { height: 44px; }
  input { font-size: 16px; }
}
`;
