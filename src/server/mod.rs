//! The server: connections, rooms and peers behind one sans-IO interface.
//!
//! The caller passes in the time and the data that arrived (`handle_*`), then polls for data to send and for the next
//! deadline (`poll_*`). The server never blocks and never fails: invalid data affects only its sender, and is counted.

mod addresses;
mod admission;
mod call;
mod channel;
mod connection;
mod delivery;
mod drain;
mod external;
mod figures;
mod inspect;
mod join;
mod live_events;
mod media;
mod nodes;
mod presence;
mod relay;
mod resume;
mod rooms;
mod saving;
mod seek;
mod session;
mod states;
mod supervision;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde::Serialize;
use slotmap::SlotMap;

use self::addresses::Addresses;
use self::admission::Admission;
pub use self::call::Call;
use self::connection::{Connection, Stage};
pub use self::external::ExternalError;
pub use self::figures::{
    ChannelsEnded, Cost, Counters, Gauges, Histogram, PutOut, RefusedJoins, StatesSent, Timings, Traffic, Transports,
};
pub use self::inspect::{LastState, PersonReport, RoomReport};
use self::live_events::LiveEvents;
pub use self::live_events::{LiveEvent, LiveEventKind};
pub use self::nodes::PASS;
use self::rooms::HostedRoom;
use self::seek::Seekers;
use self::session::{Fate, Session};
use self::states::Recipient;
pub use self::supervision::Activity;
use self::supervision::Supervision;
use crate::auth::Keys;
use crate::cluster::Cluster;
use crate::endpoint::{Endpoint, LocalId, PeerKey, Transmit};
use crate::game::{Game, Link, PlayerId, Refusal, RoomInfo};
use crate::hooks::{ArrivalId, Decision, Guarded, Hooks};
use crate::journal;
use crate::limits;
use crate::log_limit::{PlayerLog, Who};
pub use crate::media::Media;
use crate::player::Bodies;
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::delta;
use crate::wire::frame::Transport;
use crate::wire::signaling::{self, Fault, Request, RoomName};
use crate::wire::{Deflater, Inflater};

/// The configuration of a server. Start from [`Config::new`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The seed of credentials, tokens and rooms, from the OS's random number generator.
    pub seed: [u8; 32],
    /// The length of a tick, within [`limits::TICK_MS_RANGE`].
    pub tick: Duration,
    /// The grace period of a player whose websocket was lost, see [`limits::RESUME_GRACE`].
    pub grace: Duration,
    /// The maximum number of players per room, at most [`limits::PLAYERS_PER_ROOM_MAX`].
    pub max_players: usize,
    /// The maximum number of rooms, at most [`limits::ROOMS`].
    pub max_rooms: usize,
    /// The UDP port announced to players, unless `public` names one.
    pub udp_port: u16,
    /// Addresses announced to players instead of local ones; empty to announce the local ones.
    pub public: Vec<SocketAddr>,
    /// Addresses of this machine, announced to players after the one at which their websocket arrived.
    pub interfaces: Vec<IpAddr>,
    /// Joining requires a token signed with one of these keys. Without keys anyone may join.
    pub keys: Option<Rc<Keys>>,
    /// The wall clock (time since 1970) at the start of the server, by which tokens expire.
    pub unix_time: Duration,
    /// What the server forwards between the players of a room.
    pub media: Media,
}

impl Config {
    /// Returns a configuration with ticks of [`limits::TICK_MS`], [`limits::PLAYERS_PER_ROOM`] players per room, local
    /// addresses and no keys.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Config {
        Config {
            seed,
            tick: Duration::from_millis(limits::TICK_MS.into()),
            grace: limits::RESUME_GRACE,
            max_players: limits::PLAYERS_PER_ROOM,
            max_rooms: limits::ROOMS,
            udp_port: 0,
            public: Vec::new(),
            interfaces: Vec::new(),
            keys: None,
            unix_time: Duration::ZERO,
            media: Media::Off,
        }
    }
}

/// How long received datagrams are handled at once because a channel opens. One that takes longer has a path on which
/// waiting for a turn hardly counts.
const OPENING: Duration = Duration::from_secs(1);
/// The same before anything was received from the other end. It may be that nothing ever is, in each of many attempts.
#[cfg(feature = "driver")]
const REACHING: Duration = Duration::from_millis(250);

/// By how much the wall clock may be ahead of the time that has passed.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// Identifies a websocket connection. Chosen by the caller, unique among the open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A newly opened websocket connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connect {
    /// The room of `/r/{room}`; `None` for `/api`.
    pub room: Option<RoomName>,
    /// The client's address, as reported by a trusted proxy if there is one. Limits per address use it.
    pub remote: SocketAddr,
    /// The local address on which it arrived.
    pub local: IpAddr,
    /// The headers of the HTTP request that opened it, names in lower case, in their order: for [`Hooks::accept`].
    /// They are kept until somebody joins. The driver's are at most 64 with 16 KiB in all, without those that aren't
    /// UTF-8.
    pub headers: Vec<(String, String)>,
}

impl Connect {
    /// Returns a connection without headers; `room` is `None` if the request to join names the room.
    #[must_use]
    pub fn new(room: Option<RoomName>, remote: SocketAddr, local: IpAddr) -> Connect {
        Connect { room, remote, local, headers: Vec::new() }
    }
}

/// A websocket message to a player.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// Signaling, as JSON.
    Text(String),
    /// A game frame.
    Binary(Vec<u8>),
    /// A ping (RFC 6455 §5.5.2) with this payload, 8 bytes in network order. The other end answers automatically; pass
    /// the pong to [`Server::handle_pong`].
    Ping(u64),
    /// Closes the connection with this code and reason. Nothing follows.
    Close {
        /// The close code (RFC 6455 §7.4).
        code: u16,
        /// The reason, at most 123 bytes.
        reason: String,
    },
}

/// How a websocket was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disconnect {
    /// By the client with code 1000 (RFC 6455 §7.4.1).
    Goodbye,
    /// By the client with code 1001: the page was closed or is reloading.
    Away,
    /// Without a close frame or with another code: the player may reconnect.
    Lost,
    /// By a violation of the websocket protocol or of its limits: the player may not reconnect.
    Broken,
}

/// The status of a room, as listed on `/rooms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RoomStatus {
    /// The name of the room.
    pub name: String,
    /// The title that the game has given the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The number of players.
    pub players: usize,
    /// The maximum number of players.
    pub max_players: usize,
    /// Whether the game has locked the room.
    pub locked: bool,
    /// The number of the last tick.
    pub tick: u32,
    /// Whether the room is listed on `/rooms`.
    #[serde(skip)]
    pub listed: bool,
}

// Keys have generations: a key that is kept after its object is gone matches nothing.
slotmap::new_key_type! {
    struct ConnectionKey;
    struct SessionKey;
    struct RoomKey;
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Room(RoomKey),
    Connection(ConnectionKey),
    Session(SessionKey),
}

type Recordings = Box<dyn FnMut(&journal::Header) -> journal::Sink>;
type Factory<G> = Box<dyn FnMut(&RoomInfo) -> Result<G, Refusal>>;

/// The server, sans-IO.
pub struct Server<G: Game> {
    config: Config,
    factory: Factory<G>,
    recordings: Option<Recordings>,
    /// Whether rooms that are made are recorded.
    is_recording: bool,
    hooks: Guarded,
    started: Instant,
    /// The wall clock, and when it was read.
    unix_time: (Instant, Duration),
    rng: ChaCha20Rng,
    endpoint: Endpoint,
    connections: SlotMap<ConnectionKey, Connection>,
    by_id: BTreeMap<ConnectionId, ConnectionKey>,
    addresses: Addresses,
    admission: Admission,
    seekers: Seekers,
    sessions: SlotMap<SessionKey, Session>,
    by_socket_id: BTreeMap<String, SessionKey>,
    by_peer: BTreeMap<PeerKey, SessionKey>,
    by_media: BTreeMap<PeerKey, SessionKey>,
    /// Peers whose channel may be opening, and since when.
    opening: VecDeque<(Instant, PeerKey)>,
    rooms: SlotMap<RoomKey, HostedRoom<G>>,
    by_name: BTreeMap<RoomName, RoomKey>,
    rooms_made: u32,
    first_player: u32,
    timers: BTreeSet<(Instant, Timer)>,
    ready: VecDeque<ConnectionId>,
    /// Connections whose queue exceeds its limit and which have yet to be closed.
    overfull: Vec<ConnectionKey>,
    deflater: Deflater,
    inflater: Inflater,
    deflated: Vec<u8>,
    bodies: Bodies,
    /// Empty or outdated; kept for its capacity, see [`Server::take_playing`].
    playing: Vec<(PlayerId, SessionKey)>,
    encoder: delta::Encoder,
    delta: Vec<u8>,
    last_delta: states::LastDelta,
    recipients: Vec<Recipient>,
    frame: Vec<u8>,
    counters: Counters,
    timings: Timings,
    player_log: PlayerLog,
    live_events: LiveEvents,
    cluster: Option<Box<Cluster>>,
    has_inquired: bool,
    /// Whether all nodes of the cluster stop.
    is_cluster_ending: bool,
    /// Connections that wait until a room is located, and until a session is found.
    placing: BTreeMap<RoomName, Vec<ConnectionKey>>,
    recalling: BTreeMap<String, Vec<ConnectionKey>>,
    supervision: Option<Supervision>,
    /// When the rooms that are left are closed, since [`Server::handle_drain`].
    drains_until: Option<Instant>,
    drains_since: Option<Instant>,
    stopping: bool,
}

impl<G: Game> Server<G> {
    /// Returns a server without rooms. `factory` creates the game of each new room, or refuses.
    ///
    /// # Panics
    /// The operating system has no random numbers for a DTLS key, or a limit of `config` is exceeded.
    pub fn new(
        config: Config,
        now: Instant,
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    ) -> Server<G> {
        assert!(limits::is_tick_length(config.tick), "a tick has {:?} ms", limits::TICK_MS_RANGE);
        assert!((1..=limits::PLAYERS_PER_ROOM_MAX).contains(&config.max_players), "too many players per room");
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        let unix_time = (now, config.unix_time);
        let admission = Admission::new(config.seed);
        let mut endpoint_seed = [0; 32];
        rng.fill_bytes(&mut endpoint_seed);
        Server {
            config,
            factory: Box::new(factory),
            recordings: None,
            is_recording: true,
            hooks: Guarded::new(Box::new(())),
            started: now,
            unix_time,
            rng,
            endpoint: Endpoint::new(endpoint_seed),
            connections: SlotMap::with_key(),
            by_id: BTreeMap::new(),
            addresses: Addresses::default(),
            admission,
            seekers: Seekers::default(),
            sessions: SlotMap::with_key(),
            by_socket_id: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            by_media: BTreeMap::new(),
            opening: VecDeque::new(),
            rooms: SlotMap::with_key(),
            by_name: BTreeMap::new(),
            rooms_made: 0,
            first_player: 1,
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            overfull: Vec::new(),
            deflater: Deflater::new(),
            inflater: Inflater::new(),
            deflated: Vec::new(),
            bodies: Bodies::default(),
            playing: Vec::new(),
            encoder: delta::Encoder::default(),
            delta: Vec::new(),
            last_delta: states::LastDelta::default(),
            recipients: Vec::new(),
            frame: Vec::with_capacity(limits::FRAME_BYTES),
            counters: Counters::default(),
            timings: Timings::default(),
            player_log: PlayerLog::default(),
            live_events: LiveEvents::default(),
            cluster: None,
            has_inquired: false,
            is_cluster_ending: false,
            placing: BTreeMap::new(),
            recalling: BTreeMap::new(),
            supervision: None,
            drains_until: None,
            drains_since: None,
            stopping: false,
        }
    }

    /// Passes every datagram through str0m: the slow path, for comparison in tests.
    #[doc(hidden)]
    pub fn take_slow_path(&mut self) {
        self.endpoint.take_slow_path();
    }

    /// Records every room created from now on. `open` returns the sink for each recording.
    pub fn record(&mut self, open: impl FnMut(&journal::Header) -> journal::Sink + 'static) {
        self.recordings = Some(Box::new(open));
    }

    /// Returns whether rooms that are created are recorded.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.recordings.is_some() && self.is_recording
    }

    /// Records rooms that are created from now on, or not: only with [`Server::record`]. A recording begins with its
    /// room, and goes on until that ends.
    pub fn set_recording(&mut self, is_recording: bool) {
        self.is_recording = is_recording;
    }

    /// Installs hooks that decide who may join and observe joins and leaves.
    pub fn set_hooks(&mut self, hooks: impl Hooks + 'static) {
        self.hooks = Guarded::new(Box::new(hooks));
    }

    /// Numbers the players of rooms created from now on from `first` instead of from 1.
    pub fn number_players_from(&mut self, first: u32) {
        self.first_player = first;
    }

    /// Replaces the addresses of [`Config::interfaces`].
    pub fn set_interfaces(&mut self, interfaces: Vec<IpAddr>) {
        self.config.interfaces = interfaces;
    }

    /// Replaces [`Config::public`], for later joins. Port 0 stands for [`Config::udp_port`].
    pub fn set_public(&mut self, addresses: &[SocketAddr]) {
        self.config.public = with_port(addresses, self.config.udp_port);
    }

    /// Replaces [`Config::keys`], for later joins.
    pub fn set_keys(&mut self, keys: Option<Keys>) {
        self.config.keys = keys.map(Rc::new);
    }

    /// Replaces [`Config::max_players`], for rooms that are made later.
    pub fn set_max_players(&mut self, players: usize) {
        self.config.max_players = players.clamp(1, limits::PLAYERS_PER_ROOM_MAX);
    }

    /// Returns the length of a tick.
    #[must_use]
    pub fn tick(&self) -> Duration {
        self.config.tick
    }

    /// Returns the maximum number of rooms, and that of players in a room that is made now.
    #[must_use]
    pub fn capacity(&self) -> (usize, usize) {
        (self.config.max_rooms, self.config.max_players)
    }

    /// Replaces [`Config::max_rooms`]. Rooms past it stay open.
    pub fn set_max_rooms(&mut self, rooms: usize) {
        self.config.max_rooms = rooms.clamp(1, limits::ROOMS);
    }

    /// Replaces [`Config::grace`], for players whose websocket is lost later.
    pub fn set_grace(&mut self, grace: Duration) {
        self.config.grace = grace;
    }

    /// Returns all rooms, ordered by name.
    pub fn rooms(&self) -> impl Iterator<Item = RoomStatus> + '_ {
        self.by_name.values().filter_map(|&room| self.rooms.get(room)).map(|hosted| self.status(hosted))
    }

    fn status(&self, hosted: &HostedRoom<G>) -> RoomStatus {
        RoomStatus {
            name: hosted.name.to_string(),
            title: hosted.room.title().map(str::to_owned),
            players: hosted.room.players().len(),
            max_players: hosted.room.max_players(),
            locked: hosted.room.is_locked(),
            tick: hosted.last_tick,
            listed: self.is_listed(hosted),
        }
    }

    fn is_listed(&self, hosted: &HostedRoom<G>) -> bool {
        hosted.room.is_listed() && !seek::is_private(&hosted.name) && !self.is_draining()
    }

    /// Returns the game of a room, for tests and tools.
    #[must_use]
    pub fn game(&self, room: &RoomName) -> Option<&G> {
        self.by_name.get(room).and_then(|&room| self.rooms.get(room)).and_then(|hosted| hosted.room.game())
    }

    /// Returns the counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let overflowed: u64 = self.rooms.values().map(|hosted| hosted.room.overflowed()).sum();
        let clamped: u64 = self.rooms.values().map(|hosted| hosted.room.clamped_seen()).sum();
        let unsent: u64 = self.rooms.values().map(|hosted| hosted.room.unsent()).sum();
        Counters {
            unroutable: self.endpoint.unroutable(),
            stun: self.endpoint.stun_requests(),
            peers: self.endpoint.dropped(),
            overflowed_inputs: self.counters.overflowed_inputs + overflowed,
            clamped_seen: self.counters.clamped_seen + clamped,
            unsent_messages: self.counters.unsent_messages + unsent,
            failed_hooks: self.hooks.failed(),
            ..self.counters
        }
    }

    /// Returns the times measured since the start.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Ticks that rooms have skipped.
    #[cfg(feature = "driver")]
    pub(crate) fn missed_ticks(&self) -> u64 {
        self.counters.missed_ticks
    }

    /// The current numbers.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            connections: self.connections.len(),
            players: self.sessions.len(),
            rooms: self.rooms.len(),
            peers: self.endpoint.peers(),
            media_peers: self.endpoint.media_peers(),
            queued_bytes: self.addresses.queued_bytes(),
        }
    }

    /// Returns the players by transport.
    #[must_use]
    pub fn transports(&self, now: Instant) -> Transports {
        self.count_transports(now)
    }

    /// Returns the CPU use that each player has reported within [`limits::CPU_REPORT_KEPT`], in the client's unit.
    pub fn cpu_used(&self, now: Instant) -> impl Iterator<Item = f64> + '_ {
        let reports = self.sessions.values().filter_map(|session| session.cpu);
        reports.filter(move |report| now < report.at + limits::CPU_REPORT_KEPT).map(|report| report.used)
    }

    /// Returns the quality of each player's connection, as last passed to the game.
    pub fn links(&self) -> impl Iterator<Item = Link> + '_ {
        self.sessions.values().map(|session| session.link)
    }

    /// Handles a newly opened websocket.
    pub fn handle_connect(&mut self, now: Instant, connection: ConnectionId, connect: Connect) {
        self.turn(now, |server| server.open_connection(now, connection, connect));
    }

    /// Handles a text message received on a websocket.
    pub fn handle_text(&mut self, now: Instant, connection: ConnectionId, text: &str) {
        self.turn(now, |server| {
            if let Some(key) = server.live_connection(connection) {
                server.note_message(now, key);
                server.handle_request(now, key, text);
            }
        });
    }

    /// Handles a binary message received on a websocket.
    pub fn handle_binary(&mut self, now: Instant, connection: ConnectionId, bytes: &[u8]) {
        self.turn(now, |server| {
            if let Some(key) = server.live_connection(connection) {
                server.note_message(now, key);
                if let Ok(session) = server.session_of(key) {
                    server.handle_frame(now, now, session, bytes, Transport::WebSocket);
                }
            }
        });
    }

    /// Handles a message past every limit, for which the driver closes the websocket. Returns the refusal to send first
    /// to a connection that has not joined.
    #[cfg(feature = "driver")]
    pub(crate) fn refuse_oversized(&mut self, now: Instant, connection: ConnectionId) -> Option<String> {
        let key = self.live_connection(connection).filter(|&key| self.expect_arrived(key).is_ok())?;
        let fault = signaling::too_large();
        self.log_refused(now, key, None, None, &fault);
        self.counters.refused_requests += 1;
        Some(signaling::refused_join(&fault))
    }

    /// Handles a pong received on a websocket. It proves that the client reads only if its payload is that of a
    /// [`Signal::Ping`]; unsolicited pongs (RFC 6455 §5.5.3) have no effect.
    pub fn handle_pong(&mut self, now: Instant, connection: ConnectionId, payload: &[u8]) {
        self.turn(now, |server| {
            let key = server.live_connection(connection);
            if let Some(connection) = key.and_then(|key| server.connections.get_mut(key)) {
                connection.handle_pong(now, payload);
            }
        });
    }

    /// Handles the end of a websocket.
    pub fn handle_disconnect(&mut self, now: Instant, connection: ConnectionId, how: Disconnect) {
        self.turn(now, |server| server.forget_connection(now, connection, how));
    }

    /// Handles a datagram received on the socket `local` from `source`. Invalid datagrams are counted.
    ///
    /// `arrived` is when the OS received it, at most `now`; pass `now` if that is unknown. Round trips are measured as
    /// of then, and pongs account for the time since. It must not be before the `now` of the calls whose output has
    /// been sent.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        arrived: Instant,
        local: LocalId,
        source: SocketAddr,
        bytes: &[u8],
    ) {
        let arrived = arrived.min(now);
        self.turn_of(now, arrived, |server| server.endpoint.handle_datagram(arrived, local, source, bytes));
    }

    /// Handles the deadline of [`Server::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.turn(now, |server| {
            server.endpoint.handle_timeout(now);
            if let Some(cluster) = &mut server.cluster {
                cluster.handle_timeout(now);
            }
            while let Some((due, timer)) = server.timers.first().copied().filter(|&(due, _)| due <= now) {
                server.timers.pop_first();
                match timer {
                    Timer::Room(key) => server.tick_room(now, key),
                    Timer::Connection(key) => server.handle_connection_timeout(now, due, key),
                    Timer::Session(key) => server.end_grace(now, key),
                }
            }
        });
    }

    /// Stops the server: notifies every player, calls [`Game::leave`] for each in a last tick of its room, and closes
    /// every websocket.
    pub fn handle_shutdown(&mut self, now: Instant) {
        self.turn(now, |server| {
            server.stopping = true;
            let sentence = "The server is stopping.";
            // Another node takes the players of a cluster.
            let has_others = server.cluster.is_some() && !server.is_cluster_ending;
            let reason = if has_others { Leave::Moved } else { Leave::Shutdown };
            server.save_all();
            let rooms: Vec<RoomKey> = server.rooms.keys().collect();
            for room in rooms {
                server.end_room(now, room, reason, sentence);
            }
            let connections: Vec<ConnectionKey> = server.connections.keys().collect();
            for connection in connections {
                server.close_connection(now, connection, reason.close_code(), sentence);
            }
        });
    }

    /// Handles a decision that a hook postponed ([`Decision::Later`]). Ignored if the player is gone or was decided on
    /// before.
    pub fn handle_decision(&mut self, now: Instant, arrival: ArrivalId, decision: Decision) {
        self.turn(now, |server| server.take_decision(now, arrival, decision));
    }

    /// Closes a room if it exists: `sentence` is shown to its players, who leave for [`Leave::RoomClosed`], the game
    /// handles their leaving in a last tick, and a later join creates a new room.
    pub fn handle_close_room(&mut self, now: Instant, room: &RoomName, sentence: &str) {
        self.turn(now, |server| {
            if let Some(&room) = server.by_name.get(room) {
                server.end_room(now, room, Leave::RoomClosed, sentence);
            }
        });
    }

    /// Sets the wall clock (time since 1970), by which tokens expire. Call it once a second, so that setting the clock
    /// and suspending the machine are taken into account.
    pub fn handle_unix_time(&mut self, now: Instant, unix_time: Duration) {
        // While a machine is suspended, only the wall clock goes on.
        if unix_time > self.unix_time(now) + CLOCK_STEP
            && let Some(cluster) = &mut self.cluster
        {
            cluster.handle_suspension(now);
        }
        self.unix_time = (now, unix_time);
        self.player_log.flush(now);
    }

    /// Returns the next datagram to send, valid until the next call.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.endpoint.poll_transmit()
    }

    /// Returns a connection with messages for [`Server::poll_signal`]. Edge-triggered: a connection is returned once,
    /// and again only after it was polled until empty and has new messages. If its socket is not writable, remember the
    /// connection and poll it when it is.
    pub fn poll_signal_ready(&mut self) -> Option<ConnectionId> {
        self.ready.pop_front()
    }

    /// Returns the next message for a websocket. Call it only while the socket is writable: this queue is kept short
    /// (one state at most), whereas data in a socket becomes stale.
    pub fn poll_signal(&mut self, connection: ConnectionId) -> Option<Signal> {
        self.pop_signal(connection)
    }

    /// Returns the bytes of reliable messages waiting in [`Server::poll_signal`] for a connection, see
    /// [`limits::RELIABLE_QUEUE_BYTES`].
    #[must_use]
    pub fn queued_bytes(&self, connection: ConnectionId) -> usize {
        let key = self.by_id.get(&connection);
        key.and_then(|&key| self.connections.get(key)).map_or(0, |connection| connection.queue.bytes())
    }

    /// Returns when to call [`Server::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = self.timers.first().map(|&(at, _)| at);
        let cluster = self.cluster.as_ref().and_then(|cluster| cluster.poll_timeout());
        [own, self.endpoint.poll_timeout(), cluster].into_iter().flatten().min()
    }

    /// Returns when the next room has its tick.
    #[cfg(feature = "driver")]
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        // Each room has one within the length of a tick, so few other timers are before it.
        self.timers.iter().find(|(_, timer)| matches!(timer, Timer::Room(_))).map(|&(at, _)| at)
    }

    /// Returns whether received datagrams and timers other than ticks may wait for a part of a tick: there are data
    /// channels, and none is opening. Opening one takes several round trips, each of which would wait. Voice does not
    /// wait.
    #[cfg(feature = "driver")]
    pub(crate) fn may_wait(&mut self, now: Instant) -> bool {
        self.opening.retain(|&(since, peer)| {
            let patience = self.endpoint.is_reached(peer).map(|is_reached| if is_reached { OPENING } else { REACHING });
            patience.is_some_and(|patience| now < since + patience)
        });
        let (channels, media) = (self.endpoint.peers(), self.endpoint.media_peers());
        self.opening.is_empty() && channels > 0 && media == 0 && !self.rooms.is_empty()
    }

    /// Runs one `handle_*` with all its consequences. Every `handle_*` that can end something is such a turn, so that
    /// nothing is left partly ended.
    fn turn(&mut self, now: Instant, act: impl FnOnce(&mut Self)) {
        self.turn_of(now, now, act);
    }

    /// A turn that handles what `arrived` before `now`.
    fn turn_of(&mut self, now: Instant, arrived: Instant, act: impl FnOnce(&mut Self)) {
        act(self);
        while let Some((peer, event)) = self.endpoint.poll_event() {
            self.handle_peer_event(now, arrived, peer, event);
        }
        while let Some((peer, event)) = self.endpoint.poll_media_event() {
            self.handle_media_event(now, peer, event);
        }
        self.handle_cluster(now);
        self.end_overfull(now);
    }

    fn live_connection(&self, id: ConnectionId) -> Option<ConnectionKey> {
        let key = *self.by_id.get(&id)?;
        self.connections.get(key).filter(|connection| !connection.closing).map(|_| key)
    }

    fn unix_time(&self, now: Instant) -> Duration {
        unix_time_at(self.unix_time, now)
    }

    fn handle_request(&mut self, now: Instant, key: ConnectionKey, text: &str) {
        let (reply_to, request) = signaling::parse(text);
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Some(codes) = reply_to.codes {
            connection.codes = codes;
        }
        if !connection.allowance.take(now) {
            if connection.allowance.is_flooded() {
                self.put_out(now, key, Leave::Flood, "You sent too many requests.");
            } else {
                let fault = Fault::new(ErrorCode::RateLimited, "Too many requests; wait a second.");
                self.refuse(key, &reply_to, &fault);
            }
            return;
        }
        match request {
            Ok(Request::Join(join)) => self.handle_join(now, key, reply_to, *join),
            Ok(Request::Seek(request)) => self.handle_seek(now, key, reply_to, request),
            Ok(Request::Reconnect(request)) => self.handle_reconnect(now, key, &reply_to, &request),
            Ok(Request::Offer(offer)) => self.handle_offer(now, key, &reply_to, &offer),
            Ok(Request::ExchangeSdp { to, sdp }) => self.handle_exchange_sdp(now, key, &reply_to, &to, &sdp),
            Ok(Request::ExchangeCandidate { to, candidate }) => {
                self.handle_exchange_candidate(now, key, &reply_to, &to, &candidate);
            }
            Ok(Request::OrientationChange(change)) => self.handle_orientation_change(now, key, &reply_to, change),
            Ok(Request::Cpu(used)) => self.handle_cpu(now, key, &reply_to, used),
            Ok(Request::Freeze(fields)) => self.handle_freeze(now, key, &reply_to, &fields),
            Ok(Request::Leave) => {
                self.grant(key, &reply_to, &serde_json::Map::new());
                self.put_out(now, key, Leave::Left, "");
            }
            Err(fault) if self.expect_arrived(key).is_ok() => {
                self.log_refused(now, key, None, None, &fault);
                self.refuse(key, &reply_to.or_join(), &fault);
            }
            Err(fault) => self.refuse(key, &reply_to, &fault),
        }
    }

    /// Ends the session of a connection for `reason` and closes it.
    fn put_out(&mut self, now: Instant, key: ConnectionKey, reason: Leave, sentence: &str) {
        match self.session_of(key) {
            Ok(session) => self.end_session(now, session, reason, sentence),
            Err(_) => {
                let Some(connection) = self.connections.get_mut(key) else { return };
                let held = std::mem::replace(&mut connection.stage, Stage::Gone);
                let room = connection.connect.room.as_ref().map(RoomName::as_str);
                if reason == Leave::Flood {
                    self.player_log.note_put_out(now, Who::at(connection.connect.remote, room), reason, sentence);
                }
                self.release(now, held, Fate::Over(reason));
                let text = if sentence.is_empty() { reason.as_str() } else { sentence };
                self.close_connection(now, key, reason.close_code(), text);
            }
        }
    }
}

#[cfg(test)]
mod tests;

/// The wall clock, of which is known what it was.
fn unix_time_at((told, unix_time): (Instant, Duration), now: Instant) -> Duration {
    unix_time + now.saturating_duration_since(told)
}

/// Returns these addresses, with the UDP port where none is given.
pub(crate) fn with_port(addresses: &[SocketAddr], udp_port: u16) -> Vec<SocketAddr> {
    let port = |address: &SocketAddr| if address.port() == 0 { udp_port } else { address.port() };
    addresses.iter().map(|address| SocketAddr::new(address.ip(), port(address))).collect()
}
