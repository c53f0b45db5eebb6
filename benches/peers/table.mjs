// Prints results.json, or the file that is named, as Markdown tables.
import { readFileSync } from "node:fs";
import path from "node:path";

const file = process.argv[2] ?? path.join(import.meta.dirname, "results.json");
const { date, quick, machine, versions, steady, outage, loss } = JSON.parse(readFileSync(file));

const fixed = (value, digits = 0) => (value === null || value === undefined ? "never" : value.toFixed(digits));
const percent = (value, digits = 0) => `${fixed(value * 100, digits)} %`;
const row = (...cells) => console.log(`| ${cells.join(" | ")} |`);
const table = (head, rows) => {
  console.log();
  row(...head);
  row(...head.map(() => "---"));
  for (const cells of rows) row(...cells);
};
const cells = (result, make) => (result.left_out ? [`left out: ${result.left_out}`] : make(result));

console.log(`${date}, ${machine.cpu}, ${machine.cores} cores, Linux ${machine.kernel}, TCP ${machine.tcp}${quick ? ", quick run" : ""}`);
console.log(Object.values(versions).join("; "));

table(
  ["server", "clients", "Hz", "joined", "CPU µs per message", "delivered", "age p50 / p99, ms", "KiB per client", "CPU ms per join", "server CPU", "generator CPU", "late inputs"],
  steady.map((result) => [
    result.server,
    result.clients,
    Math.round(1000 / result.tick_ms),
    ...cells(result, (r) => [
      r.join.joined,
      fixed(r.us_per_message, 1),
      percent(r.delivered, 1),
      `${fixed(r.age_ms.p50, 1)} / ${fixed(r.age_ms.p99, 1)}`,
      fixed(r.rss_kib_per_client),
      fixed(r.join_cpu_ms, 2),
      percent(r.server_cpu_share),
      percent(r.generator.cpu_share),
      percent(r.generator.inputs_late_share, 1),
    ]),
  ]),
);
table(
  ["server, after an outage of 2 s", "stale messages per client", "fresh again after, ms: median / last", "never fresh"],
  outage.map((result) => [
    result.server,
    ...cells(result, (r) => [
      fixed(r.stale_per_client, 1),
      `${fixed(r.fresh_after_ms_median)} / ${fixed(r.fresh_after_ms_max)}`,
      `${r.never_fresh} of ${r.cut_off}`,
    ]),
  ]),
);
table(
  ["server, 5 % loss", "ms each way", "delivered", "age of the newest state, ms: p50", "p90", "p99", "p99.9", "max"],
  loss.map((result) => [
    result.server,
    result.delay_ms,
    ...cells(result, (r) => [
      percent(r.delivered, 1),
      ...["p50", "p90", "p99", "p999", "max"].map((key) => fixed(r.newest_age_ms[key])),
    ]),
  ]),
);
