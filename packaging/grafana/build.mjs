// node packaging/grafana/build.mjs > packaging/grafana/rtcade.json: the dashboard, from the table of its panels.
import { fileURLToPath } from "node:url";

const HERE = '{instance=~"$instance"}';
const rate = (metric, by) => `sum by (${by}) (rate(${metric}${HERE}[$__rate_interval]))`;
const total = (metric, by) => `sum by (${by}) (${metric}${HERE})`;
const kinds = (metric) => [[rate(metric, "kind"), "{{kind}}"]];
const percentiles = (metric) => ["0.5", "0.99"].map((q) => [
  `histogram_quantile(${q}, ${rate(`${metric}_bucket`, "le")})`, q,
]);
const mean = (metric) => `${rate(`${metric}_sum`, "job")} / ${rate(`${metric}_count`, "job")}`;
const quantiles = (metric) => [[`max by (quantile) (${metric}${HERE})`, "{{quantile}}"]];

/** Title of a row, then its panels: title, unit as Grafana names it, queries with their legends, what it tells. */
const ROWS = [
  ["Load", [
    ["Players", "short", [[total("rtcade_transports", "kind"), "{{kind}}"]], "By the transport that carries their states. Many on websockets: UDP does not arrive."],
    ["Rooms", "short", [[total("rtcade_rooms", "instance"), "{{instance}}"]], ""],
    ["CPU", "percentunit", [[rate("process_cpu_seconds_total", "instance"), "{{instance}}"]], "A server uses one core: 100 % is all that it has."],
    ["Skipped ticks", "cps", [[rate("rtcade_ticks_missed_total", "instance"), "{{instance}}"]], "The game computes for too long, or the machine is overloaded."],
    ["Open", "short", [
      [total("rtcade_connections", "job"), "websockets"],
      [total("rtcade_peers", "job"), "data channels"],
      [total("rtcade_media_connections", "job"), "media connections"],
    ], ""],
    ["Failures", "cps", [
      [rate("rtcade_rooms_failed_total", "job"), "rooms"],
      [rate("rtcade_hooks_failed_total", "job"), "hooks"],
      [rate("rtcade_messages_unsent_total", "job"), "messages of games"],
      [rate("rtcade_externals_lost_total", "job"), "external messages"],
    ], "Games that panicked, hooks that panicked or broke a limit, and messages that could not be sent."],
  ]],
  ["Time", [
    ["Lateness of ticks", "s", percentiles("rtcade_tick_lateness_seconds"), "From when the tick of a room is due to its begin."],
    ["Ticks", "s", percentiles("rtcade_tick_duration_seconds"), "The tick of a room: its game, and sending to its players."],
    ["Turns of the loop", "s", percentiles("rtcade_loop_turn_seconds"), "Without the sleep between them."],
    ["Opening a data channel", "s", ["ice", "dtls", "sctp"].map((stage) => [mean(`rtcade_handshake_${stage}_seconds`), stage]), "The mean of each stage, of channels that opened."],
    ["Over their budget", "cps", [
      [rate("rtcade_ticks_over_budget_total", "job"), "ticks"],
      [rate("rtcade_rooms_over_budget_total", "job"), "rooms closed"],
    ], "Games that take longer for a tick than they may."],
    ["Memory", "bytes", [[total("process_resident_memory_bytes", "instance"), "{{instance}}"]], "Resident."],
  ]],
  ["Players", [
    ["Joined", "cps", [[rate("rtcade_players_joined_total", "instance"), "{{instance}}"]], ""],
    ["Left", "cps", kinds("rtcade_players_left_total"), "By reason."],
    ["Data channels closed", "cps", kinds("rtcade_channels_closed_total"), "Unopened: UDP may be blocked."],
    ["Messages", "cps", kinds("rtcade_messages_total"), "Of games, by direction and transport."],
    ["Bytes of messages", "Bps", kinds("rtcade_message_bytes_total"), "Of games, by direction and transport."],
    ["Recordings", "Bps", [
      [rate("rtcade_recorded_bytes_total", "job"), "written"],
      [total("rtcade_recording_queue_bytes", "job"), "waiting for the disk, in bytes"],
    ], "Empty without --record."],
  ]],
  ["Links", [
    ["Round trip", "s", quantiles("rtcade_rtt_seconds"), "Of the worst server, the quantiles over its players."],
    ["Jitter", "s", quantiles("rtcade_jitter_seconds"), "Of the worst server, the quantiles over its players."],
    ["Loss to players", "percentunit", quantiles("rtcade_loss_down_ratio"), "Of the worst server, the quantiles over its players."],
    ["Loss from players", "percentunit", quantiles("rtcade_loss_up_ratio"), "Of the worst server, the quantiles over its players."],
    ["Datagrams", "pps", kinds("rtcade_datagrams_total"), "Overflowed: lost at the server's own socket; raise net.core.rmem_max."],
    ["Queued for websockets", "bytes", [[total("rtcade_queued_bytes", "instance"), "{{instance}}"]], "Grows where players read slowly."],
    ["Dropped frames", "cps", kinds("rtcade_frames_dropped_total"), "Late and congested ones are the links' doing."],
    ["Dropped packets", "pps", kinds("rtcade_packets_dropped_total"), ""],
  ]],
  ["States", [
    ["States", "cps", kinds("rtcade_states_total"), "Sent whole, or as the difference from one that the player has."],
    ["Bytes of states", "Bps", kinds("rtcade_state_bytes_total"), "Encoded: what the games have encoded; the others are sent."],
    ["Sent of encoded states", "percentunit", [[
      `sum(rate(rtcade_state_bytes_total{instance=~"$instance", kind!="encoded"}[$__rate_interval])) / sum(rate(rtcade_state_bytes_total{instance=~"$instance", kind="encoded"}[$__rate_interval]))`, "sent",
    ]], "What deltas and deflating leave."],
    ["Inputs and states in excess", "cps", [
      [rate("rtcade_inputs_overflowed_total", "job"), "inputs too fast"],
      [rate("rtcade_inputs_seen_clamped_total", "job"), "seen ticks clamped"],
      [rate("rtcade_states_oversized_total", "job"), "states too large"],
    ], ""],
  ]],
  ["Cluster", [
    ["Leased rooms", "short", [[total("rtcade_cluster_rooms", "instance"), "{{instance}}"]], "Rooms by node. Empty without --redis, as all of this row but the last."],
    ["Nodes that reach Redis", "short", [[total("rtcade_cluster_connected", "job"), "nodes"]], "Fewer than there are: the others keep their rooms, and nobody gets from them to rooms elsewhere."],
    ["Lookups of rooms", "cps", kinds("rtcade_cluster_lookups_total"), "Full: no node takes rooms. Unavailable: Redis does not answer."],
    ["Moves", "cps", [
      [rate("rtcade_cluster_redirects_total", "job"), "clients sent elsewhere"],
      [rate("rtcade_cluster_rooms_lost_total", "job"), "rooms lost"],
      [rate("rtcade_cluster_lapses_total", "job"), "leases verified"],
    ], ""],
    ["Requests to Redis", "cps", kinds("rtcade_cluster_requests_total"), "By outcome."],
    ["Answer of Redis", "s", [[`${rate("rtcade_cluster_batch_seconds_total", "instance")} / ${rate("rtcade_cluster_batches_total", "instance")}`, "{{instance}}"]], "The mean of a batch of requests."],
    ["Tickets", "cps", kinds("rtcade_cluster_tickets_total"), "Of clients that another node has sent."],
    ["Agones", "cps", kinds("rtcade_agones_calls_total"), "Requests to its sidecar. Empty without --agones."],
  ]],
  ["Refused", [
    ["Joins", "cps", kinds("rtcade_joins_refused_total"), ""],
    ["HTTP", "cps", kinds("rtcade_http_refused_total"), "Crowded and evicted: the server, or an address, has no room left."],
    ["Websockets closed", "cps", kinds("rtcade_websockets_closed_total"), ""],
    ["Players put out", "cps", kinds("rtcade_players_put_out_total"), ""],
    ["Datagrams of nobody", "pps", kinds("rtcade_datagrams_unroutable_total"), ""],
    ["Admin API", "cps", kinds("rtcade_admin_refused_total"), "Requests without the token. Empty without --admin."],
    ["STUN requests", "cps", kinds("rtcade_stun_requests_total"), ""],
  ]],
];

const datasource = { type: "prometheus", uid: "${datasource}" };
const [WIDTH, HEIGHT, COLUMNS] = [8, 7, 3];

function panels() {
  const all = [];
  let y = 0;
  const add = (panel) => all.push({ id: all.length + 1, ...panel });
  for (const [title, row] of ROWS) {
    add({ type: "row", title, collapsed: false, panels: [], gridPos: { x: 0, y, w: WIDTH * COLUMNS, h: 1 } });
    y += 1;
    for (const [index, [title, unit, queries, description]] of row.entries()) {
      const gridPos = { x: (index % COLUMNS) * WIDTH, y: y + Math.floor(index / COLUMNS) * HEIGHT, w: WIDTH, h: HEIGHT };
      const targets = queries.map(([expr, legendFormat], n) => ({ refId: "ABCDEF"[n], datasource, expr, legendFormat }));
      const options = { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi", sort: "desc" } };
      const fieldConfig = { defaults: { unit, min: 0, custom: { fillOpacity: 10, showPoints: "never" } }, overrides: [] };
      add({ type: "timeseries", title, description, datasource, targets, gridPos, options, fieldConfig });
    }
    y += Math.ceil(row.length / COLUMNS) * HEIGHT;
  }
  return all;
}

export const dashboard = () => ({
  uid: "rtcade",
  title: "rtcade",
  tags: ["rtcade"],
  schemaVersion: 39,
  timezone: "browser",
  refresh: "10s",
  time: { from: "now-1h", to: "now" },
  graphTooltip: 1,
  templating: {
    list: [
      { name: "datasource", type: "datasource", query: "prometheus" },
      {
        name: "instance",
        type: "query",
        datasource,
        query: { query: "label_values(rtcade_rooms, instance)", refId: "instance" },
        refresh: 2,
        multi: true,
        includeAll: true,
        allValue: ".*",
        current: { text: "All", value: "$__all" },
      },
    ],
  },
  panels: panels(),
});

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(JSON.stringify(dashboard(), null, 2));
