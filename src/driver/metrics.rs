//! The metrics of a running server, in the Prometheus text format.

use std::fmt::Write;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::live::Sources;
use super::recorder::Recordings;
use super::websocket::Closed;
use crate::game::{Game, Link};
use crate::server::Server;

const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// The CPU time of this process, user and system; zero if the operating system doesn't report it.
pub(crate) fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP rtcade_{name} {help}"));
        self.line(format_args!("# TYPE rtcade_{name} {kind}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a string takes everything");
    }

    fn gauge(&mut self, name: &str, help: &str, value: usize) {
        self.family(name, "gauge", help);
        self.line(format_args!("rtcade_{name} {value}"));
    }

    /// Of each kind one value.
    fn gauges(&mut self, name: &str, help: &str, values: &[(&str, usize)]) {
        self.family(name, "gauge", help);
        for (kind, value) in values {
            self.line(format_args!("rtcade_{name}{{kind=\"{kind}\"}} {value}"));
        }
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, &[("", value)]);
    }

    /// Of each kind one value.
    fn counters(&mut self, name: &str, help: &str, values: &[(&str, u64)]) {
        self.family(name, "counter", help);
        for (kind, value) in values {
            match *kind {
                "" => self.line(format_args!("rtcade_{name} {value}")),
                kind => self.line(format_args!("rtcade_{name}{{kind=\"{kind}\"}} {value}")),
            }
        }
    }

    /// The median and the 90th and 99th percentiles over all players. Nothing if there are no players.
    fn quantiles(&mut self, name: &str, help: &str, values: impl Iterator<Item = f64>) {
        self.family(name, "gauge", help);
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        for quantile in QUANTILES {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index of a short list")]
            let rank = (quantile * values.len() as f64).ceil() as usize;
            if let Some(value) = values.get(rank.saturating_sub(1)) {
                self.line(format_args!("rtcade_{name}{{quantile=\"{quantile}\"}} {value}"));
            }
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
    let mut text = Text(String::with_capacity(8 * 1024));
    let gauges = server.gauges();
    text.gauge("connections", "Open websockets.", gauges.connections);
    text.gauge("players", "Players in rooms.", gauges.players);
    let transports = server.transports(now);
    text.gauges(
        "transports",
        "Players by the transport that carries their states.",
        &[("webrtc", transports.webrtc), ("websocket", transports.websocket), ("away", transports.away)],
    );
    text.gauge("rooms", "Open rooms.", gauges.rooms);
    text.gauge("peers", "Data channels, open or opening.", gauges.peers);
    text.gauge("media_connections", "Media connections, open or opening.", gauges.media_peers);
    text.gauge("queued_bytes", "Bytes queued for websockets.", gauges.queued_bytes);

    let links: Vec<Link> = server.links().collect();
    let seconds = |micros: u32| f64::from(micros) / 1e6;
    let share = |permille: u16| f64::from(permille) / 1e3;
    let mut of_links = |name, help, value: &dyn Fn(&Link) -> f64| text.quantiles(name, help, links.iter().map(value));
    of_links("rtt_seconds", "Round-trip time to the players.", &|link| seconds(link.rtt_us));
    of_links("jitter_seconds", "Variation of the round trip.", &|link| seconds(link.jitter_us));
    let (down, up) = ("Fraction of datagrams lost to the players.", "Fraction of datagrams lost from the players.");
    of_links("loss_down_ratio", down, &|link| share(link.loss_down_permille));
    of_links("loss_up_ratio", up, &|link| share(link.loss_up_permille));
    let reported = "CPU use that players have reported within a minute (eventCpu), in the clients' unit.";
    text.quantiles("client_cpu_used", reported, server.cpu_used(now));

    let counters = server.counters();
    text.counter(
        "ticks_over_budget_total",
        "Ticks whose calls into the game took longer than their budget.",
        counters.ticks_over_budget,
    );
    text.counter(
        "rooms_over_budget_total",
        "Rooms closed because too many of their ticks took longer than their budget.",
        counters.rooms_over_budget,
    );
    text.counter("ticks_missed_total", "Ticks skipped because the server was late.", counters.missed_ticks);
    text.counter("rooms_failed_total", "Rooms closed because their game panicked.", counters.failed_rooms);
    text.counter("hooks_failed_total", "Calls of hooks that panicked or broke a limit.", counters.failed_hooks);
    text.counter("externals_lost_total", "External messages to rooms that do not exist.", counters.lost_externals);
    text.counter("requests_refused_total", "Signaling requests that were refused.", counters.refused_requests);
    text.counter("relays_dropped_total", "Messages between players dropped at a slow socket.", counters.dropped_relays);
    let refused = counters.refused_joins;
    text.counters(
        "joins_refused_total",
        "Refused joins.",
        &[
            ("pace", refused.pace),
            ("token", refused.token),
            ("session", refused.session),
            ("origin", tcp.refused_pages),
        ],
    );
    let http = tcp.http;
    text.counters(
        "http_refused_total",
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
    if let Some((handshakes, expires)) = sources.tls.map(|acceptor| (acceptor.handshakes(), acceptor.expires())) {
        text.counters(
            "tls_handshakes_total",
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
        text.gauge("tls_certificate_expires_seconds", help, usize::try_from(expires.as_secs()).unwrap_or(usize::MAX));
    }
    let closed = tcp.closed;
    text.counters(
        "websockets_closed_total",
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
    text.counters(
        "players_put_out_total",
        "Players removed.",
        &[("kicked", put_out.kicked), ("flood", put_out.flood), ("bad_frame", put_out.bad_frame)],
    );
    let anew = "Sessions not resumed because the player had missed more than is kept.";
    text.counter("sessions_begun_anew_total", anew, counters.missed_too_much);
    text.counter(
        "messages_unsent_total",
        "Messages of games that could not be encoded or sent.",
        counters.unsent_messages,
    );
    let states = counters.states;
    text.counters(
        "states_total",
        "States sent to players, whole or as a delta.",
        &[("whole", states.whole), ("delta", states.deltas)],
    );
    text.counters(
        "state_bytes_total",
        "Bytes of the states sent, whole or as a delta, and those that all of them have as encoded by the game.",
        &[("whole", states.whole_bytes), ("delta", states.delta_bytes), ("encoded", states.encoded_bytes)],
    );
    let oversized = "States not sent to players who hold none before them, because the whole does not fit one frame.";
    text.counter("states_oversized_total", oversized, counters.oversized_states);
    text.counter(
        "inputs_overflowed_total",
        "Inputs dropped because they arrived too fast.",
        counters.overflowed_inputs,
    );
    let clamped = "Inputs whose seen tick was clamped because it was ahead of the room or too far back.";
    text.counter("inputs_seen_clamped_total", clamped, counters.clamped_seen);
    text.counters(
        "frames_dropped_total",
        "Frames dropped.",
        &[
            ("late", counters.dropped_frames),
            ("congested", counters.held_back),
            ("excess", counters.excess_frames),
            ("bad", counters.bad_frames),
        ],
    );
    let (peers, unroutable) = (counters.peers, counters.unroutable);
    text.counters(
        "packets_dropped_total",
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
    text.counters(
        "datagrams_unroutable_total",
        "Datagrams that no peer accepted.",
        &[
            ("unknown", unroutable.unknown),
            ("stun", unroutable.stun),
            ("dtls", unroutable.dtls),
            ("media", unroutable.media),
        ],
    );
    let stun = counters.stun;
    text.counters(
        "stun_requests_total",
        "STUN requests: answered, from addresses without players, past the rate of an address, or unsupported.",
        &[
            ("answered", stun.answered),
            ("unjoined", stun.unjoined),
            ("excess", stun.excess),
            ("unsupported", stun.unsupported),
        ],
    );
    let datagrams = sources.udp.counters();
    text.counters(
        "datagrams_total",
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

    if let Some(recordings) = sources.recordings.map(Recordings::figures) {
        text.gauge("recordings", "Rooms being recorded.", recordings.running);
        text.counter("recorded_bytes_total", "Bytes of recordings written.", recordings.written_bytes);
        let early = "Recordings that ended before their rooms did.";
        text.counter("recordings_ended_early_total", early, recordings.ended_early);
    }

    // The standard name of this metric for all processes.
    text.line(format_args!("# HELP process_cpu_seconds_total CPU time that the process used, user and system."));
    text.line(format_args!("# TYPE process_cpu_seconds_total counter"));
    text.line(format_args!("process_cpu_seconds_total {}", cpu_time().as_secs_f64()));
    text.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_those_who_are_there() {
        let check = |rtts: &[u32], expected: &[&str]| {
            let mut text = Text(String::new());
            text.quantiles("rtt", "Round trip.", rtts.iter().map(|&rtt| f64::from(rtt)));
            let values: Vec<&str> = text.0.lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(values, expected, "{rtts:?}");
        };
        let [half, most, nearly_all] =
            ["0.5", "0.9", "0.99"].map(|quantile| format!("rtcade_rtt{{quantile=\"{quantile}\"}}"));
        check(&[], &[]);
        check(&[7], &[&format!("{half} 7"), &format!("{most} 7"), &format!("{nearly_all} 7")]);
        let hundred: Vec<u32> = (1..=100).rev().collect();
        check(&hundred, &[&format!("{half} 50"), &format!("{most} 90"), &format!("{nearly_all} 99")]);
    }
}
