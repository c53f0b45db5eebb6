//! The metrics of a running server, in the OpenMetrics text format.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::admin::Refusals;
#[cfg(feature = "cluster")]
use super::events::Publisher;
use super::live::Sources;
#[cfg(feature = "cluster")]
use super::redis::Cause;
use super::websocket::Closed;
#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
use crate::game::{Game, Link};
use crate::server::{Histogram, Server};
use crate::wire::codes::Leave;

/// The media type of the OpenMetrics text format.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const QUANTILES: [(f64, &str); 3] = [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99")];

/// The CPU time of this process, user and system; zero if the operating system doesn't report it.
pub(crate) fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// The memory of this process in bytes, by the names that the kernel gives (proc_pid_status(5)): resident, its peak,
/// its part that is no file's, data segments, address space, swapped out. Those that it doesn't report are left out.
pub(super) fn memory() -> Vec<(&'static str, u64)> {
    const NAMES: [&str; 6] = ["VmRSS", "VmHWM", "RssAnon", "VmData", "VmSize", "VmSwap"];
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    NAMES.iter().filter_map(|&name| Some((name, value(name)?))).collect()
}

/// Metrics with the same name.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    label: Option<(&'static str, &'static str)>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Count(u64),
    Amount(f64),
    Histogram(Box<Histogram>),
    /// A label, without a value.
    Info((&'static str, &'static str)),
}

/// The current values of all metrics, to be encoded once.
#[derive(Debug, Default)]
struct Families(Vec<Family>);

impl Families {
    fn add(&mut self, name: &'static str, help: &'static str, kind: MetricType, samples: Vec<Sample>) {
        self.0.push(Family { name, help, kind, samples });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: usize) {
        self.add(name, help, MetricType::Gauge, vec![Sample::of(None, Value::Count(value as u64))]);
    }

    /// Of each kind one value.
    fn gauges(&mut self, name: &'static str, help: &'static str, values: &[(&'static str, usize)]) {
        let sample = |&(kind, value): &(&'static str, usize)| Sample::of_kind(kind, value as u64);
        self.add(name, help, MetricType::Gauge, values.iter().map(sample).collect());
    }

    fn amount(&mut self, name: &'static str, help: &'static str, kind: MetricType, value: f64) {
        self.add(name, help, kind, vec![Sample::of(None, Value::Amount(value))]);
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, help, MetricType::Counter, vec![Sample::of(None, Value::Count(value))]);
    }

    /// Of each kind one value.
    fn counters(&mut self, name: &'static str, help: &'static str, values: &[(&'static str, u64)]) {
        let samples = values.iter().map(|&(kind, value)| Sample::of_kind(kind, value)).collect();
        self.add(name, help, MetricType::Counter, samples);
    }

    fn histogram(&mut self, name: &'static str, help: &'static str, histogram: Histogram) {
        let sample = Sample::of(None, Value::Histogram(Box::new(histogram)));
        self.add(name, help, MetricType::Histogram, vec![sample]);
    }

    /// The median and the 90th and 99th percentiles over all players. No values if there are no players.
    fn quantiles(&mut self, name: &'static str, help: &'static str, values: impl Iterator<Item = f64>) {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let sample = |&(quantile, label): &(f64, &'static str)| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of a short list")]
            let rank = (quantile * values.len() as f64).ceil() as usize;
            let value = *values.get(rank.saturating_sub(1))?;
            Some(Sample::of(Some(("quantile", label)), Value::Amount(value)))
        };
        let samples = QUANTILES.iter().filter_map(sample).collect();
        self.add(name, help, MetricType::Gauge, samples);
    }
}

impl Sample {
    fn of(label: Option<(&'static str, &'static str)>, value: Value) -> Sample {
        Sample { label, value }
    }

    fn of_kind(kind: &'static str, value: u64) -> Sample {
        Sample::of(Some(("kind", kind)), Value::Count(value))
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, kind, samples } in &self.0 {
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            for Sample { label, value } in samples {
                match label {
                    Some(label) => value.encode(*kind, &mut metric.encode_family(&[*label])?)?,
                    None => value.encode(*kind, &mut metric)?,
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: MetricType, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match (kind, self) {
            (MetricType::Counter, Value::Count(value)) => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
            (MetricType::Counter, Value::Amount(value)) => encoder.encode_counter::<NoLabelSet, _, f64>(value, None),
            (_, Value::Count(value)) => encoder.encode_gauge(value),
            (_, Value::Amount(value)) => encoder.encode_gauge(value),
            (_, Value::Histogram(histogram)) => {
                let bound = |bound: Option<Duration>| bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64());
                let buckets: Vec<_> = histogram.buckets().map(|(of, count)| (bound(of), count)).collect();
                encoder.encode_histogram::<NoLabelSet>(histogram.sum().as_secs_f64(), histogram.count(), &buckets, None)
            }
            (_, Value::Info(label)) => encoder.encode_info(&[*label]),
        }
    }
}

/// HTTP requests and connections that were refused or ended early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HttpCounters {
    /// Requests that were invalid or had a method that is not allowed.
    pub(super) malformed: u64,
    /// Requests of pages for responses that they are not allowed to read.
    pub(super) forbidden: u64,
    /// Websocket requests from which a proxy removed the upgrade.
    pub(super) lost_upgrade: u64,
    /// Websocket requests for a path without websockets, or with cookies that are too long.
    pub(super) no_websocket: u64,
    /// Connections past a limit.
    pub(super) crowded: u64,
    /// Idle connections that were closed because the server was full.
    pub(super) evicted: u64,
}

/// Counters of TCP connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tcp {
    /// Websockets that were refused because of their origin.
    pub(super) refused_pages: u64,
    pub(super) http: HttpCounters,
    pub(super) closed: Closed,
}

/// All current metrics.
pub(super) fn text<G: Game>(now: Instant, server: &Server<G>, sources: &mut Sources<'_>, tcp: Tcp) -> String {
    let mut families = Families::default();
    let gauges = server.gauges();
    families.add(
        "build",
        "The version of the server.",
        MetricType::Info,
        vec![Sample::of(None, Value::Info(("version", env!("CARGO_PKG_VERSION"))))],
    );
    families.gauge("connections", "Open websockets.", gauges.connections);
    families.gauge("players", "Players in rooms.", gauges.players);
    let transports = server.transports(now);
    families.gauges(
        "transports",
        "Players by the transport that carries their states.",
        &[("webrtc", transports.webrtc), ("websocket", transports.websocket), ("away", transports.away)],
    );
    families.gauge("rooms", "Open rooms.", gauges.rooms);
    families.gauge("peers", "Data channels, open or opening.", gauges.peers);
    families.gauge("media_connections", "Media connections, open or opening.", gauges.media_peers);
    families.gauge("queued_bytes", "Bytes queued for websockets.", gauges.queued_bytes);

    let links: Vec<Link> = server.links().collect();
    let seconds = |micros: u32| f64::from(micros) / 1e6;
    let share = |permille: u16| f64::from(permille) / 1e3;
    let mut of_links =
        |name, help, value: &dyn Fn(&Link) -> f64| families.quantiles(name, help, links.iter().map(value));
    of_links("rtt_seconds", "Round-trip time to the players.", &|link| seconds(link.rtt_us));
    of_links("jitter_seconds", "Variation of the round trip.", &|link| seconds(link.jitter_us));
    let (down, up) = ("Fraction of datagrams lost to the players.", "Fraction of datagrams lost from the players.");
    of_links("loss_down_ratio", down, &|link| share(link.loss_down_permille));
    of_links("loss_up_ratio", up, &|link| share(link.loss_up_permille));
    let reported = "CPU use that players have reported within a minute (eventCpu), in the clients' unit.";
    families.quantiles("client_cpu_used", reported, server.cpu_used(now));

    let counters = server.counters();
    let timings = server.timings();
    let late = "From when the tick of a room is due to its begin.";
    families.histogram("tick_lateness_seconds", late, timings.tick_lateness);
    let tick = "The tick of a room: its game, and sending to its players.";
    families.histogram("tick_duration_seconds", tick, timings.tick);
    families.histogram("loop_turn_seconds", "A turn of the event loop, without its sleep.", *sources.turns);
    let ice = "From the offer of a data channel that opened until ICE found a path.";
    families.histogram("handshake_ice_seconds", ice, timings.ice);
    let dtls = "From the path of a data channel that opened until DTLS was complete.";
    families.histogram("handshake_dtls_seconds", dtls, timings.dtls);
    let sctp = "From the end of DTLS until the data channel was open.";
    families.histogram("handshake_sctp_seconds", sctp, timings.sctp);
    let channels = counters.channels;
    families.counters(
        "channels_closed",
        "Data channels that ended before their player left. Unopened: not open in time. Failed: in the handshake.",
        &[
            ("unopened", channels.unopened),
            ("failed", channels.failed),
            ("lost", channels.lost),
            ("closed", channels.closed),
            ("refused", channels.refused),
        ],
    );
    let (webrtc, websocket) = (counters.over_channels, counters.over_websockets);
    families.counters(
        "messages",
        "Frames of games, by direction and transport. A large message has several.",
        &[
            ("sent_webrtc", webrtc.sent),
            ("sent_websocket", websocket.sent),
            ("received_webrtc", webrtc.received),
            ("received_websocket", websocket.received),
        ],
    );
    families.counters(
        "message_bytes",
        "Bytes of frames of games, by direction and transport.",
        &[
            ("sent_webrtc", webrtc.sent_bytes),
            ("sent_websocket", websocket.sent_bytes),
            ("received_webrtc", webrtc.received_bytes),
            ("received_websocket", websocket.received_bytes),
        ],
    );
    families.counter("players_joined", "Players who have joined.", counters.joined);
    let left: Vec<_> = Leave::ALL.iter().map(|leave| leave.as_str()).zip(counters.left).collect();
    families.counters("players_left", "Players who have left, by reason.", &left);
    families.counter(
        "ticks_over_budget",
        "Ticks whose calls into the game took longer than their budget.",
        counters.ticks_over_budget,
    );
    families.counter(
        "rooms_over_budget",
        "Rooms closed because too many of their ticks took longer than their budget.",
        counters.rooms_over_budget,
    );
    families.counter("ticks_missed", "Ticks skipped because the server was late.", counters.missed_ticks);
    families.counter("rooms_failed", "Rooms closed because their game panicked.", counters.failed_rooms);
    families.counter("hooks_failed", "Calls of hooks that panicked or broke a limit.", counters.failed_hooks);
    families.counter("externals_lost", "External messages to rooms that do not exist.", counters.lost_externals);
    families.counter("requests_refused", "Signaling requests that were refused.", counters.refused_requests);
    families.counter("relays_dropped", "Messages between players dropped at a slow socket.", counters.dropped_relays);
    let refused = counters.refused_joins;
    families.counters(
        "joins_refused",
        "Refused joins.",
        &[
            ("pace", refused.pace),
            ("token", refused.token),
            ("session", refused.session),
            ("origin", tcp.refused_pages),
        ],
    );
    let http = tcp.http;
    families.counters(
        "http_refused",
        "HTTP requests and connections that were refused, and idle connections closed because the server was full.",
        &[
            ("malformed", http.malformed),
            ("forbidden", http.forbidden),
            ("lost_upgrade", http.lost_upgrade),
            ("no_websocket", http.no_websocket),
            ("crowded", http.crowded),
            ("evicted", http.evicted),
        ],
    );
    #[cfg(feature = "cluster")]
    if let Some(events) = sources.publisher.map(Publisher::figures) {
        let kinds = ["join", "leave", "live"];
        let by_kind = |counts: [u64; 3]| kinds.into_iter().zip(counts).collect::<Vec<_>>();
        families.counters("events_published", "Events that the broker has confirmed.", &by_kind(events.published));
        let mut dropped = by_kind(events.dropped);
        dropped.push(("unpolled", counters.dropped_live_events));
        families.counters("events_dropped", "Events dropped because too many waited.", &dropped);
        families.gauge("events_queued", "Events that the broker has not confirmed.", events.queued);
        families.gauge("events_connected", "Whether the broker takes events.", usize::from(events.is_connected));
    }
    #[cfg(feature = "cluster")]
    if let (Some(cluster), Some(store)) = (server.cluster().map(Cluster::figures), sources.store) {
        let help = "Whether Redis answers.";
        families.gauge("cluster_connected", help, usize::from(store.is_connected));
        families.gauge("cluster_rooms", "Rooms that this node has leased.", cluster.leases);
        let mut requests: Vec<_> =
            Cause::ALL.into_iter().zip(store.failed).map(|(cause, count)| (cause.as_str(), count)).collect();
        requests.push(("answered", store.answered));
        families.counters("cluster_requests", "Requests to Redis by outcome.", &requests);
        families.counter("cluster_connections", "Connections made to Redis.", store.connections);
        families.counter("cluster_batches", "Batches of requests that Redis has answered.", store.batches);
        let help = "Time that Redis took to answer these batches.";
        families.amount("cluster_batch_seconds", help, MetricType::Counter, store.waited.as_secs_f64());
        let results = ["here", "elsewhere", "unavailable", "full"];
        let lookups: Vec<_> = results.into_iter().zip(cluster.located).collect();
        families.counters("cluster_lookups", "Lookups of a room by result.", &lookups);
        families.counter("cluster_redirects", "Clients sent to another node.", counters.redirected);
        families.counter("cluster_rooms_lost", "Rooms that another node has taken.", cluster.lost);
        families.counter("cluster_rooms_moved", "Rooms moved to another node.", cluster.moved);
        let help = "Rooms that were saved, and go on here.";
        families.counter("cluster_rooms_restored", help, counters.restored_rooms);
        let help = "Saved rooms that Redis has not got.";
        families.counter("cluster_snapshots_dropped", help, cluster.dropped_snapshots);
        families.counter("cluster_lapses", "Times that the node had to verify its leases.", cluster.lapses);
        let [forged, expired, replayed] = cluster.refused_tickets;
        let tickets = [("accepted", cluster.tickets), ("forged", forged), ("expired", expired), ("replayed", replayed)];
        families.counters("cluster_tickets", "Tickets of clients sent by another node, by result.", &tickets);
        let help = "Sessions not saved for other nodes because too many waited.";
        families.counter("cluster_sessions_dropped", help, cluster.dropped_sessions);
    }
    if let Some(agones) = &sources.agones {
        families.counters(
            "agones_calls",
            "Requests to Agones' sidecar, by outcome.",
            &[
                ("done", agones.done),
                ("refused", agones.refused),
                ("unanswered", agones.unanswered),
                ("malformed", agones.malformed),
            ],
        );
        let help = "Whether Agones' sidecar tells what changes about this server.";
        families.gauge("agones_watched", help, usize::from(agones.is_watched));
    }
    if let Some(Refusals { token, pace }) = sources.admin {
        families.counters("admin_refused", "Refused requests of the admin API.", &[("token", token), ("pace", pace)]);
    }
    if let Some((handshakes, expires)) = sources.tls.map(|acceptor| (acceptor.handshakes(), acceptor.expires())) {
        families.counters(
            "tls_handshakes",
            "TLS handshakes by result.",
            &[
                ("full", handshakes.full),
                ("resumed", handshakes.resumed),
                ("failed", handshakes.failed),
                ("unfinished", handshakes.unfinished),
                ("plaintext", handshakes.plaintext),
                ("excess", handshakes.excess),
            ],
        );
        let help = "When the TLS certificate expires: seconds since 1970.";
        families.gauge(
            "tls_certificate_expires_seconds",
            help,
            usize::try_from(expires.as_secs()).unwrap_or(usize::MAX),
        );
    }
    let closed = tcp.closed;
    families.counters(
        "websockets_closed",
        "Websockets closed for invalid data, slow reading or not joining.",
        &[
            ("too_large", closed.too_large),
            ("not_utf8", closed.not_utf8),
            ("protocol", closed.protocol),
            ("flood", closed.flood),
            ("stalled", closed.stalled),
            ("overfull", counters.overfull_connections),
            ("crowded", counters.refused_connections),
            ("idle", counters.idle_connections),
        ],
    );
    let put_out = counters.put_out;
    families.counters(
        "players_put_out",
        "Players removed.",
        &[("kicked", put_out.kicked), ("flood", put_out.flood), ("bad_frame", put_out.bad_frame)],
    );
    let anew = "Sessions not resumed because the player had missed more than is kept.";
    families.counter("sessions_begun_anew", anew, counters.missed_too_much);
    families.counter(
        "messages_unsent",
        "Messages of games that could not be encoded or sent.",
        counters.unsent_messages,
    );
    let states = counters.states;
    families.counters(
        "states",
        "States sent to players, whole or as a delta.",
        &[("whole", states.whole), ("delta", states.deltas)],
    );
    families.counters(
        "state_bytes",
        "Bytes of the states sent, whole or as a delta, and those that all of them have as encoded by the game.",
        &[("whole", states.whole_bytes), ("delta", states.delta_bytes), ("encoded", states.encoded_bytes)],
    );
    let oversized = "States not sent to players who hold none before them, because the whole does not fit one frame.";
    families.counter("states_oversized", oversized, counters.oversized_states);
    families.counter("inputs_overflowed", "Inputs dropped because they arrived too fast.", counters.overflowed_inputs);
    let clamped = "Inputs whose seen tick was clamped because it was ahead of the room or too far back.";
    families.counter("inputs_seen_clamped", clamped, counters.clamped_seen);
    families.counters(
        "frames_dropped",
        "Frames dropped.",
        &[
            ("late", counters.dropped_frames),
            ("congested", counters.held_back),
            ("excess", counters.excess_frames),
            ("bad", counters.bad_frames),
        ],
    );
    let (peers, unroutable) = (counters.peers, counters.unroutable);
    families.counters(
        "packets_dropped",
        "Packets of data channels and media connections dropped.",
        &[
            ("malformed", peers.malformed),
            ("duplicate", peers.duplicate),
            ("fragment", peers.fragment),
            ("foreign", peers.foreign),
            ("unproven", peers.unproven),
            ("excess", peers.excess),
            ("alerts", peers.alerts),
            ("media", peers.media),
        ],
    );
    families.counters(
        "datagrams_unroutable",
        "Datagrams that no peer accepted.",
        &[
            ("unknown", unroutable.unknown),
            ("stun", unroutable.stun),
            ("dtls", unroutable.dtls),
            ("media", unroutable.media),
        ],
    );
    let stun = counters.stun;
    families.counters(
        "stun_requests",
        "STUN requests: answered, from addresses without players, past the rate of an address, or unsupported.",
        &[
            ("answered", stun.answered),
            ("unjoined", stun.unjoined),
            ("excess", stun.excess),
            ("unsupported", stun.unsupported),
        ],
    );
    let datagrams = sources.udp.counters();
    families.counters(
        "datagrams",
        "Datagrams by outcome.",
        &[
            ("received", datagrams.received),
            ("overflowed", datagrams.overflowed),
            ("unnumbered", datagrams.unnumbered),
            ("sent", datagrams.sent),
            ("blocked", datagrams.blocked),
            ("failed", datagrams.failed),
        ],
    );

    if let Some((recordings, waiting)) = sources.recordings.map(|of| (of.figures(), of.waiting_bytes())) {
        families.gauge("recordings", "Rooms being recorded.", recordings.running);
        families.gauge("recording_queue_bytes", "Bytes of recordings that wait for the disk.", waiting);
        families.counter("recorded_bytes", "Bytes of recordings written.", recordings.written_bytes);
        let early = "Recordings that ended before their rooms did.";
        families.counter("recordings_ended_early", early, recordings.ended_early);
    }

    let mut process = Families::default();
    process.amount(
        "cpu_seconds",
        "CPU time that the process used, user and system.",
        MetricType::Counter,
        cpu_time().as_secs_f64(),
    );
    let started = "When the server was started: seconds since 1970.";
    process.amount("start_time_seconds", started, MetricType::Gauge, sources.started.as_secs_f64());
    for (name, bytes) in memory() {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        match name {
            "VmRSS" => process.gauge("resident_memory_bytes", "Resident memory of the process.", bytes),
            "VmSize" => process.gauge("virtual_memory_bytes", "Address space of the process.", bytes),
            _ => {}
        }
    }
    encoded([("rtcade", families), ("process", process)])
}

/// The text of families, each set with its prefix.
fn encoded<const N: usize>(sets: [(&'static str, Families); N]) -> String {
    let mut registry = Registry::default();
    for (prefix, families) in sets {
        registry.sub_registry_with_prefix(prefix).register_collector(Box::new(families));
    }
    let mut text = String::with_capacity(16 * 1024);
    encode(&mut text, &registry).expect("a string takes everything");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn quantiles_are_of_those_who_are_there() {
        let check = |rtts: &[u32], expected: &[&str]| {
            let mut families = Families::default();
            families.quantiles("rtt", "Round trip.", rtts.iter().map(|&rtt| f64::from(rtt)));
            assert_eq!(lines(&encoded([("rtcade", families)])), expected, "{rtts:?}");
        };
        let [half, most, nearly_all] =
            ["0.5", "0.9", "0.99"].map(|quantile| format!("rtcade_rtt{{quantile=\"{quantile}\"}}"));
        check(&[], &[]);
        check(&[7], &[&format!("{half} 7.0"), &format!("{most} 7.0"), &format!("{nearly_all} 7.0")]);
        let hundred: Vec<u32> = (1..=100).rev().collect();
        check(&hundred, &[&format!("{half} 50.0"), &format!("{most} 90.0"), &format!("{nearly_all} 99.0")]);
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up() {
        let mut histogram = Histogram::default();
        for millis in [1, 2, 200, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut families = Families::default();
        families.histogram("took_seconds", "How long.", histogram);
        let text = encoded([("rtcade", families)]);
        for line in [
            "# TYPE rtcade_took_seconds histogram",
            "rtcade_took_seconds_bucket{le=\"0.0005\"} 0",
            "rtcade_took_seconds_bucket{le=\"0.0025\"} 2",
            "rtcade_took_seconds_bucket{le=\"10.0\"} 3",
            "rtcade_took_seconds_bucket{le=\"+Inf\"} 4",
            "rtcade_took_seconds_count 4",
            "rtcade_took_seconds_sum 60.203",
        ] {
            assert!(text.lines().any(|of_text| of_text == line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
