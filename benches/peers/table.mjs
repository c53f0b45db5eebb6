// Prints results.json, or the file that is named, as the tables of README.md.
import { readFileSync } from "node:fs";
import path from "node:path";

const file = process.argv[2] ?? path.join(import.meta.dirname, "results.json");
const { date, quick, machine, versions, task, steady, outage, loss, wire } = JSON.parse(readFileSync(file));

const NAMES = {
  rtcade: "rtcade, encrypted",
  bun: "Bun (uWebSockets), plaintext",
  uws: "uWebSockets.js, plaintext",
  "bun-tls": "Bun, TLS",
  "uws-tls": "uWebSockets.js, TLS",
  ws: "`ws` on Node, plaintext",
  "ws-tls": "`ws` on Node, TLS",
  socketio: "socket.io, plaintext",
  colyseus: "Colyseus, plaintext",
  geckos: "geckos.io, encrypted",
  str0m: "stock str0m, encrypted",
};
const name = (server) => NAMES[server] ?? server;
const fixed = (value, digits = 0) => {
  if (value === null || value === undefined) return "never";
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
};
const percent = (value, digits = 0) => `${fixed(value * 100, digits)} %`;
const row = (...cells) => console.log(`| ${cells.join(" | ")} |`);
const table = (title, head, rows) => {
  if (rows.length === 0) return;
  console.log(`\n**${title}**\n`);
  row(...head);
  row(...head.map(() => "---"));
  for (const cells of rows) row(...cells);
};
const unique = (values) => [...new Set(values)];
const median = (values) => {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 0 ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[Math.floor(middle)];
};

/** All measurements of one server and size as one: the median of each value. `undefined` where there is none. */
function measured(server, size) {
  const runs = steady.filter((run) => run.server === server && sizeOf(run) === size && !run.left_out);
  if (runs.length === 0) return undefined;
  const of = (value) => median(runs.map(value));
  const inputs = (run) => run.generator.inputs_late_ms.p99;
  return {
    runs: runs.length,
    unfit: runs.filter((run) => run.generator.unfit).length,
    clients: runs[0].join.clients,
    joined: of((run) => run.join.joined),
    us_per_message: of((run) => run.us_per_message),
    lowest: Math.min(...runs.map((run) => run.us_per_message)),
    highest: Math.max(...runs.map((run) => run.us_per_message)),
    delivered: of((run) => run.delivered),
    age_p50: of((run) => run.age_ms.p50),
    age_p99: of((run) => run.age_ms.p99),
    tick_late_p99: of((run) => run.tick_late_ms.p99),
    kib_per_client: of((run) => (run.rss_kib_per_client * run.join.clients) / Math.max(run.join.joined, 1)),
    join_cpu_ms: of((run) => run.join_cpu_ms),
    server_cpu: of((run) => run.server_cpu_share),
    generator_cpu: of((run) => run.generator.cpu_share),
    late_p99: of(inputs),
  };
}

/** Marks measurements in which the load generator fell behind. */
const behind = (...results) => (results.some((result) => result.generator?.unfit) ? " \\*" : "");
const sizeOf = ({ clients, tick_ms }) => `${fixed(clients)} × ${Math.round(1000 / tick_ms)} Hz`;
const sizes = unique(steady.map(sizeOf));
const servers = unique(steady.map(({ server }) => server));
const serversOf = (size) => unique(steady.filter((run) => sizeOf(run) === size).map((run) => run.server));
const compared = sizes.filter((size) => serversOf(size).length > 1);

const { cpu, cores, pinned, kernel, tcp, load_average_before } = machine;
const about = [
  date,
  cpu,
  `${cores} cores (${pinned.server === undefined ? "shared" : `server on ${pinned.server}, clients on ${pinned.clients}`})`,
  `Linux ${kernel}`,
  `TCP ${tcp}`,
  `load average before ${load_average_before.toFixed(2)}`,
];
console.log([...about, ...(quick ? ["quick run"] : [])].join(", "));
console.log(Object.values(versions).join("; "));

const mark = ({ unfit, runs }) => (unfit === 0 ? "" : unfit === runs ? " \\*" : " (\\*)");
table(
  `Server CPU time per message that a client received, µs${task.rounds > 1 ? `; medians of ${task.rounds} where a range is given` : ""}`,
  ["server", ...compared],
  servers.map((server) => [
    name(server),
    ...compared.map((size) => {
      const found = measured(server, size);
      if (!found) return "–";
      const range = found.runs > 1 ? ` (${fixed(found.lowest, 1)}–${fixed(found.highest, 1)})` : "";
      const joined = found.joined < found.clients ? ` to ${fixed(found.joined)}` : "";
      const delivered = found.delivered < 0.98 || joined ? `, ${percent(found.delivered)} delivered${joined}` : "";
      return `${fixed(found.us_per_message, 1)}${range}${delivered}${mark(found)}`;
    }),
  ]),
);
console.log("\n\\* The load generator fell behind; (\\*) in some of the measurements.");

const ofRtcade = sizes.map((size) => [size, measured("rtcade", size)]).filter(([size, found]) => found && size.endsWith(" 30 Hz"));
table(
  "rtcade by size",
  [
    ...["players", "measured", "CPU µs per message", "server CPU", "delivered", "tick lateness p99, ms"],
    ...["age p50 / p99, ms", "KiB per player", "generator CPU"],
  ],
  ofRtcade.map(([size, found]) => [
    size,
    found.runs,
    fixed(found.us_per_message, 1) + mark(found),
    percent(found.server_cpu),
    percent(found.delivered, 1),
    fixed(found.tick_late_p99, 1),
    `${fixed(found.age_p50, 1)} / ${fixed(found.age_p99, 1)}`,
    fixed(found.kib_per_client),
    percent(found.generator_cpu),
  ]),
);

const TASKS = { opaque: "bytes that don't compress", walk: "state of a game", "walk-msgpack": "state of a game" };
const FORMATS = {
  rtcade: "MessagePack arrays",
  colyseus: "`schema`",
  geckos: "MessagePack arrays",
  "bun walk-msgpack": "MessagePack arrays",
};
const formatOf = ({ server, task }) => FORMATS[`${server} ${task}`] ?? FORMATS[server] ?? "JSON";
for (const group of [["opaque"], ["walk", "walk-msgpack"]]) {
  const of = wire.filter(({ task }) => group.includes(task));
  const keys = unique(of.map(({ server, task }) => `${server} ${task}`));
  const losses = unique(of.map(({ permille }) => permille));
  table(
    `Bytes on the wire per player and second, IP headers included: ${TASKS[group[0]]}`,
    ["server", ...losses.flatMap((permille) => [`down, ${permille / 10} % loss`, `up, ${permille / 10} % loss`, "delivered"])],
    keys.map((key) => {
      const [server, task] = key.split(" ");
      const isIt = (row, permille) => row.server === server && row.task === task && row.permille === permille;
      const rows = losses.map((permille) => of.find((row) => isIt(row, permille)) ?? { left_out: "not measured" });
      return [
        (task === "opaque" ? name(server) : `${name(server)}: ${formatOf({ server, task })}`) + behind(...rows),
        ...rows.flatMap((row) => (row.left_out ? [`left out: ${row.left_out}`, "–", "–"] : [
          `${fixed(row.down.bytes_per_second)} in ${fixed(row.down.packets_per_second, 1)} packets`,
          `${fixed(row.up.bytes_per_second)} in ${fixed(row.up.packets_per_second, 1)}`,
          percent(row.delivered),
        ])),
      ];
    }),
  );
}

table(
  "After an outage of 2 s",
  ["server", "stale messages per client", "current again after, median / last, ms", "never"],
  outage.map((result) => [
    name(result.server) + behind(result),
    ...(result.left_out ? [`left out: ${result.left_out}`] : [
      fixed(result.stale_per_client, 1),
      `${fixed(result.fresh_after_ms_median)} / ${fixed(result.fresh_after_ms_max)}`,
      `${result.never_fresh} of ${result.cut_off}`,
    ]),
  ]),
);
table(
  `Age of the newest state with ${task.loss.permille / 10} % loss, ms`,
  ["server", "ms each way", "delivered", "p50", "p90", "p99", "p99.9", "max"],
  loss.map((result) => [
    name(result.server) + behind(result),
    result.delay_ms,
    ...(result.left_out ? [`left out: ${result.left_out}`] : [
      percent(result.delivered, 1),
      ...["p50", "p90", "p99", "p999", "max"].map((key) => fixed(result.newest_age_ms[key])),
    ]),
  ]),
);
table(
  "Everything about the cost",
  [
    ...["server", "size", "measured", "joined", "CPU µs per message", "delivered", "age p50 / p99, ms"],
    ...["tick lateness p99, ms", "KiB per player", "CPU ms per join", "server CPU", "generator CPU", "inputs late p99, ms"],
  ],
  sizes.flatMap((size) => servers.map((server) => [server, size, measured(server, size)]))
    .filter(([, , found]) => found)
    .map(([server, size, found]) => [
      name(server),
      size,
      found.runs,
      fixed(found.joined),
      fixed(found.us_per_message, 1) + mark(found),
      percent(found.delivered, 1),
      `${fixed(found.age_p50, 1)} / ${fixed(found.age_p99, 1)}`,
      fixed(found.tick_late_p99, 1),
      fixed(found.kib_per_client),
      fixed(found.join_cpu_ms, 2),
      percent(found.server_cpu),
      percent(found.generator_cpu),
      fixed(found.late_p99, 1),
    ]),
);
const failed = [...steady, ...wire, ...loss, ...outage].filter((run) => run.left_out);
if (failed.length > 0) console.log("\nLeft out:");
for (const { server, clients, tick_ms, permille, round, left_out } of failed) {
  const where = [server, clients && sizeOf({ clients, tick_ms }), permille !== undefined && `${permille / 10} % loss`];
  console.log(`- ${[...where, round && `round ${round}`].filter(Boolean).join(", ")}: ${left_out.replaceAll("\n", " ")}`);
}
