//! The JSON of the API.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::super::metrics::{cpu_time, memory as process_memory};
use super::super::unix_time;
use crate::game::Game;
use crate::journal::state_to_json;
use crate::rate::canonical;
use crate::server::{PersonReport, RoomReport, RoomStatus, Server, Transports};
use crate::wire::frame::Transport;
use crate::wire::signaling::RoomName;

/// Milliseconds, as JavaScript has times.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Overview {
    version: &'static str,
    game: &'static str,
    now_ms: u64,
    started_ms: u64,
    tick_ms: f64,
    draining: Option<Deadline>,
    rooms: usize,
    players: usize,
    connections: usize,
    transports: ByTransport,
    cpu_seconds: f64,
    memory_bytes: u64,
    ticks_missed: u64,
    recording: Option<Recording>,
    /// The name of the server in its cluster.
    node: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Deadline {
    deadline_ms: u64,
}

#[derive(Serialize)]
struct ByTransport {
    webrtc: usize,
    websocket: usize,
    away: usize,
}

#[derive(Serialize)]
struct Recording {
    on: bool,
}

impl Overview {
    /// Times count from 1970.
    pub(super) fn new<G: Game>(
        now: Instant,
        server: &Server<G>,
        game: &'static str,
        started: Duration,
        draining: Option<Duration>,
        recording: Option<bool>,
    ) -> Overview {
        let gauges = server.gauges();
        let Transports { webrtc, websocket, away, .. } = server.transports(now);
        Overview {
            version: env!("CARGO_PKG_VERSION"),
            game,
            now_ms: millis(unix_time()),
            started_ms: millis(started),
            tick_ms: server.tick().as_secs_f64() * 1e3,
            draining: draining.map(|deadline| Deadline { deadline_ms: millis(deadline) }),
            rooms: gauges.rooms,
            players: gauges.players,
            connections: gauges.connections,
            transports: ByTransport { webrtc, websocket, away },
            cpu_seconds: cpu_time().as_secs_f64(),
            memory_bytes: process_memory().first().map_or(0, |&(_, resident)| resident),
            ticks_missed: server.counters().missed_ticks,
            recording: recording.map(|on| Recording { on }),
            node: server.cluster().map(|cluster| cluster.member().node.to_string()),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RoomView {
    #[serde(flatten)]
    status: RoomStatus,
    listed: bool,
    age_seconds: f64,
    recorded: bool,
    slowed: bool,
    game_us: u64,
    tick_us: u64,
    sent_bytes: u64,
    received_bytes: u64,
}

impl From<RoomReport> for RoomView {
    fn from(report: RoomReport) -> RoomView {
        RoomView {
            listed: report.status.listed,
            status: report.status,
            age_seconds: report.age.as_secs_f64(),
            recorded: report.is_recorded,
            slowed: report.is_slowed,
            game_us: micros(report.cost.game),
            tick_us: micros(report.cost.tick),
            sent_bytes: report.traffic.sent_bytes,
            received_bytes: report.traffic.received_bytes,
        }
    }
}

#[derive(Serialize)]
pub(super) struct RoomDetails {
    #[serde(flatten)]
    room: RoomView,
    people: Vec<Person>,
    state: Option<State>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Person {
    player: u32,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    socket_id: String,
    address: String,
    transport: &'static str,
    rtt_ms: f64,
    jitter_ms: f64,
    loss_down: f64,
    loss_up: f64,
    sent_bytes: u64,
    received_bytes: u64,
}

#[derive(Serialize)]
struct State {
    tick: u32,
    bytes: usize,
    value: Value,
}

impl From<PersonReport> for Person {
    fn from(report: PersonReport) -> Person {
        let PersonReport { player, name, user_id, socket_id, remote, transport, link, traffic, .. } = report;
        Person {
            player: player.0,
            name,
            user_id,
            socket_id,
            address: canonical(remote).to_string(),
            transport: match transport {
                Some(Transport::DataChannel) => "webrtc",
                Some(Transport::WebSocket) => "websocket",
                None => "away",
            },
            rtt_ms: f64::from(link.rtt_us) / 1e3,
            jitter_ms: f64::from(link.jitter_us) / 1e3,
            loss_down: f64::from(link.loss_down_permille) / 1e3,
            loss_up: f64::from(link.loss_up_permille) / 1e3,
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
        }
    }
}

pub(super) fn room<G: Game>(now: Instant, server: &Server<G>, name: &RoomName) -> Option<RoomDetails> {
    let room = server.room_report(now, name)?.into();
    let people = server.people(now, name)?.into_iter().map(Person::from).collect();
    let state = server.last_state(name).map(|last| State {
        tick: last.tick,
        bytes: last.body.len(),
        value: state_to_json(last.body),
    });
    Some(RoomDetails { room, people, state })
}

/// The memory of the process, and of what it holds.
pub(super) fn memory<G: Game>(server: &Server<G>, process: Vec<(&'static str, u64)>) -> BTreeMap<&'static str, u64> {
    let gauges = server.gauges();
    let held = [
        ("rooms", gauges.rooms),
        ("players", gauges.players),
        ("connections", gauges.connections),
        ("dataChannels", gauges.peers),
        ("mediaConnections", gauges.media_peers),
        ("queuedBytes", gauges.queued_bytes),
        ("stateHistoryBytes", server.state_history_bytes()),
    ];
    process.into_iter().chain(held.map(|(name, count)| (name, count as u64))).collect()
}
