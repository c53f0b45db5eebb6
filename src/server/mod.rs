//! The server: connections, rooms and peers behind one sans-IO interface.
//!
//! The caller tells it the time and what arrived (`handle_*`), then polls it for what is to be sent (`poll_*`) and for
//! when to come again. It never blocks and never fails: what goes wrong costs its sender, and is counted.

mod admission;
mod connection;
mod external;
mod hosting;
mod relay;
mod resume;
mod session;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde::Serialize;
use slab::Slab;

use self::admission::Admission;
use self::connection::{Connection, Stage, signal_bytes};
pub use self::external::ExternalError;
use self::hosting::HostedRoom;
use self::session::Session;
use crate::auth::Keys;
use crate::endpoint::{Dropped, Endpoint, LocalId, PeerKey, Transmit, Unroutable};
use crate::game::{Game, Link, Refusal, RoomInfo};
use crate::hooks::{Guarded, Hooks};
use crate::journal;
use crate::limits;
use crate::rate::{Allowance, network};
use crate::wire::codes::{CLOSE_REFUSED, ErrorCode, Leave};
use crate::wire::frame::Transport;
use crate::wire::signaling::{self, Fault, Request, RoomName};
use crate::wire::{Deflater, Inflater};

/// What a server is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// From the OS's generator: credentials, tokens and the seeds of rooms come from it.
    pub seed: [u8; 32],
    /// Length of a tick, within [`limits::TICK_MS_RANGE`].
    pub tick: Duration,
    /// How long a player whose websocket was lost may stay away, see [`limits::RESUME_GRACE`].
    pub grace: Duration,
    /// Players per room, at most [`limits::PLAYERS_PER_ROOM_MAX`].
    pub max_players: usize,
    /// The UDP port that players are told of, where `public` doesn't name one.
    pub udp_port: u16,
    /// What players are told to reach instead of local addresses; empty where local addresses are right.
    pub public: Vec<SocketAddr>,
    /// Addresses of this machine, told to players after the one that their websocket came in on.
    pub interfaces: Vec<IpAddr>,
    /// Only who bears a token signed with one of these may join; without keys, everybody.
    pub keys: Option<Rc<Keys>>,
    /// What the clock of the world shows as the server is made: time since 1970, by which tokens expire.
    pub unix_time: Duration,
    /// Every datagram goes through str0m: the slow way, which tests compare with.
    pub slow_path: bool,
}

/// One websocket connection, chosen by the caller: unique among the open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A websocket connection as it opens.
#[derive(Clone, Debug)]
pub struct Connect {
    /// From `/r/{room}`; `None` on `/api`.
    pub room: Option<RoomName>,
    /// Where it comes from, by the word of a proxy that is believed where one brings it. What limits count.
    pub remote: SocketAddr,
    /// The local address on which it arrived.
    pub local: IpAddr,
    /// The headers of the HTTP request that opened it, names in lower case, in their order: for [`Hooks::accept`].
    /// They are kept until somebody joins. The driver's are at most 64 with 8 KiB in all, without those that aren't
    /// UTF-8.
    pub headers: Vec<(String, String)>,
}

/// A websocket message to a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Signaling: JSON.
    Text(String),
    /// A game frame.
    Binary(Vec<u8>),
    /// A ping (RFC 6455 §5.5.2): the other end answers by itself, and then [`Server::handle_pong`] is due.
    Ping,
    /// Close the connection with this code and reason; nothing follows.
    Close {
        /// RFC 6455 §7.4.
        code: u16,
        /// At most 123 bytes.
        reason: String,
    },
}

/// How a websocket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// Its other end closed it for good, with code 1000 (RFC 6455 §7.4.1).
    Goodbye,
    /// Its other end went away, with code 1001: the page was closed, or is loading anew.
    Away,
    /// It broke, with or without another code: who was there may come back.
    Lost,
    /// What it sent is no websocket: nothing more can come of it.
    Broken,
}

/// A room as `/rooms` lists it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomStatus {
    /// Its name.
    pub name: String,
    /// Players in it.
    pub players: usize,
    /// Players it takes.
    pub max_players: usize,
    /// Whether the game lets nobody in.
    pub locked: bool,
    /// The tick that ran last.
    pub tick: u32,
}

/// What has been counted since the server was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams that no peer took.
    pub unroutable: Unroutable,
    /// What peers dropped.
    pub peers: Dropped,
    /// Requests that were refused.
    pub refused_requests: u64,
    /// Of those, the ones of players who were not let in.
    pub refused_joins: RefusedJoins,
    /// Frames that could not be read; each cost its sender the place.
    pub bad_frames: u64,
    /// Frames that came faster than a player may send them.
    pub excess_frames: u64,
    /// Unreliable frames that could not leave in time.
    pub dropped_frames: u64,
    /// States, ticks and unreliable events that were left out because the player's path was congested.
    pub held_back: u64,
    /// Messages from player to player that a slow socket left no place for.
    pub dropped_relays: u64,
    /// Inputs that came faster than a room takes them.
    pub overflowed_inputs: u64,
    /// Ticks that rooms missed because the server was late.
    pub missed_ticks: u64,
    /// Rooms that closed because their game failed.
    pub failed_rooms: u64,
    /// Messages from outside for rooms that weren't there.
    pub lost_externals: u64,
    /// Calls of [`Hooks`] that failed.
    pub failed_hooks: u64,
}

/// Players who were not let in, by why not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedJoins {
    /// Too many came at once, to the server or from one address.
    pub pace: u64,
    /// The bearer token was missing, not valid, or not any more.
    pub token: u64,
    /// The session that they wanted back is not known, or not theirs.
    pub session: u64,
}

/// How many things there are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// Websocket connections.
    pub connections: usize,
    /// Players.
    pub players: usize,
    /// Rooms.
    pub rooms: usize,
    /// Peers: data channels, open or opening.
    pub peers: usize,
}

/// Players by what carries the states that they are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transports {
    /// A data channel.
    pub webrtc: usize,
    /// The websocket: the data channel opens, failed or has fallen silent.
    pub websocket: usize,
    /// Nothing, for now: they lost their websocket and have no data channel.
    pub away: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Room(usize),
    Connection(usize),
    Session(usize),
}

type Recordings = Box<dyn FnMut(&journal::Header) -> journal::Sink>;
type Factory<G> = Box<dyn FnMut(&RoomInfo) -> Result<G, Refusal>>;

/// Connections of one address.
#[derive(Default)]
struct Network {
    connections: usize,
    unjoined: usize,
}

/// The whole server, sans-IO.
pub struct Server<G: Game> {
    config: Config,
    factory: Factory<G>,
    recordings: Option<Recordings>,
    hooks: Guarded,
    started: Instant,
    rng: ChaCha20Rng,
    endpoint: Endpoint,
    connections: Slab<Connection>,
    by_id: BTreeMap<ConnectionId, usize>,
    by_network: BTreeMap<IpAddr, Network>,
    admission: Admission,
    sessions: Slab<Session>,
    by_socket_id: BTreeMap<String, usize>,
    by_peer: BTreeMap<PeerKey, usize>,
    rooms: Slab<HostedRoom<G>>,
    by_name: BTreeMap<RoomName, usize>,
    rooms_made: u32,
    first_player: u32,
    timers: BTreeSet<(Instant, Timer)>,
    ready: VecDeque<ConnectionId>,
    overfull: Vec<usize>,
    deflater: Deflater,
    inflater: Inflater,
    deflated: Vec<u8>,
    frame: Vec<u8>,
    counters: Counters,
    stopping: bool,
}

impl<G: Game> Server<G> {
    /// A server without rooms. `factory` makes the game of each new room, or says why not.
    ///
    /// # Panics
    /// If the operating system has no random numbers for a DTLS key, or a limit of `config` is exceeded.
    pub fn new(
        config: Config,
        now: Instant,
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    ) -> Server<G> {
        assert!(limits::is_tick_length(config.tick), "a tick has {:?} ms", limits::TICK_MS_RANGE);
        assert!((1..=limits::PLAYERS_PER_ROOM_MAX).contains(&config.max_players), "too many players per room");
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        let slow_path = config.slow_path;
        let admission = Admission::new(config.seed);
        let mut endpoint_seed = [0; 32];
        rng.fill_bytes(&mut endpoint_seed);
        Server {
            config,
            factory: Box::new(factory),
            recordings: None,
            hooks: Guarded::new(Box::new(())),
            started: now,
            rng,
            endpoint: Endpoint::new(endpoint_seed, slow_path),
            connections: Slab::new(),
            by_id: BTreeMap::new(),
            by_network: BTreeMap::new(),
            admission,
            sessions: Slab::new(),
            by_socket_id: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            rooms: Slab::new(),
            by_name: BTreeMap::new(),
            rooms_made: 0,
            first_player: 1,
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            overfull: Vec::new(),
            deflater: Deflater::new(),
            inflater: Inflater::new(),
            deflated: Vec::new(),
            frame: Vec::with_capacity(limits::FRAME_BYTES),
            counters: Counters::default(),
            stopping: false,
        }
    }

    /// Records every room that is made from now on; `open` says what takes the recording of each.
    pub fn record(&mut self, open: impl FnMut(&journal::Header) -> journal::Sink + 'static) {
        self.recordings = Some(Box::new(open));
    }

    /// From now on these are asked whom to let in, and told who comes and goes.
    pub fn set_hooks(&mut self, hooks: impl Hooks + 'static) {
        self.hooks = Guarded::new(Box::new(hooks));
    }

    /// The players of every room that is made from now on are numbered from `first` on, instead of from 1.
    pub fn number_players_from(&mut self, first: u32) {
        self.first_player = first;
    }

    /// This machine has these addresses from now on: what [`Config::interfaces`] named before.
    pub fn set_interfaces(&mut self, interfaces: Vec<IpAddr>) {
        self.config.interfaces = interfaces;
    }

    /// The rooms that their games list, by name.
    pub fn rooms(&self) -> impl Iterator<Item = RoomStatus> + '_ {
        self.by_name.values().filter_map(|&room| self.rooms.get(room)).filter(|hosted| hosted.room.is_listed()).map(
            |hosted| RoomStatus {
                name: hosted.name.to_string(),
                players: hosted.room.players().len(),
                max_players: self.config.max_players,
                locked: hosted.room.is_locked(),
                tick: hosted.last_tick,
            },
        )
    }

    /// The game of a room, for tests and tools.
    #[must_use]
    pub fn game(&self, room: &RoomName) -> Option<&G> {
        self.by_name.get(room).and_then(|&room| self.rooms.get(room)).and_then(|hosted| hosted.room.game())
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let overflowed: u64 = self.rooms.iter().map(|(_, hosted)| hosted.room.overflowed()).sum();
        Counters {
            unroutable: self.endpoint.unroutable(),
            peers: self.endpoint.dropped(),
            overflowed_inputs: self.counters.overflowed_inputs + overflowed,
            failed_hooks: self.hooks.failed(),
            ..self.counters
        }
    }

    /// How many things there are now.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            connections: self.connections.len(),
            players: self.sessions.len(),
            rooms: self.rooms.len(),
            peers: self.endpoint.peers(),
        }
    }

    /// How many players are told states over what.
    #[must_use]
    pub fn transports(&self, now: Instant) -> Transports {
        let mut transports = Transports::default();
        for (index, session) in &self.sessions {
            match (self.channel(now, index), session.connection) {
                (Some(_), _) => transports.webrtc += 1,
                (None, Some(_)) => transports.websocket += 1,
                (None, None) => transports.away += 1,
            }
        }
        transports
    }

    /// How each player is connected, as their game was told last.
    pub fn links(&self) -> impl Iterator<Item = Link> + '_ {
        self.sessions.iter().map(|(_, session)| session.link)
    }

    /// A websocket has opened.
    pub fn handle_connect(&mut self, now: Instant, connection: ConnectionId, connect: Connect) {
        let deadline = now + limits::JOIN_TIMEOUT;
        let remote = connect.remote.ip();
        let index = self.connections.insert(Connection {
            id: connection,
            connect,
            opened: now,
            stage: Stage::Arrived,
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            unreliable: VecDeque::new(),
            announced: false,
            closing: false,
            is_unjoined: true,
            is_counted: false,
            unanswered_pings: 0,
            heard: now,
            asked: now,
            allowance: Allowance::new(limits::SIGNALS_PER_SECOND, now),
            deadline: Some(deadline),
        });
        self.by_id.insert(connection, index);
        self.timers.insert((deadline, Timer::Connection(index)));
        let here = self.by_network.entry(network(remote)).or_default();
        here.connections += 1;
        here.unjoined += 1;
        let is_full =
            here.unjoined > limits::UNJOINED_PER_ADDRESS || here.connections > limits::CONNECTIONS_PER_ADDRESS;
        // Proxies and tests come from this machine.
        if is_full && !remote.is_loopback() {
            self.close_connection(index, CLOSE_REFUSED, ErrorCode::RateLimited.as_str());
        }
        if self.stopping {
            self.close_connection(index, Leave::Shutdown.close_code(), "The server is stopping.");
        }
    }

    /// A text message has arrived on a websocket.
    pub fn handle_text(&mut self, now: Instant, connection: ConnectionId, text: &str) {
        let Some(index) = self.index_of(connection) else { return };
        self.note_message(now, index);
        let (reply_to, request) = signaling::parse(text);
        if !self.connections[index].allowance.take(now) {
            if self.connections[index].allowance.is_flooded() {
                self.put_out(now, index, Leave::Flood, "You sent too many requests.");
                return;
            }
            let fault = Fault::new(ErrorCode::RateLimited, "Too many requests; wait a second.");
            self.refuse(index, &reply_to, &fault);
            return;
        }
        match request {
            Ok(Request::Join(join)) => self.handle_join(now, index, reply_to, join),
            Ok(Request::Reconnect(request)) => self.handle_reconnect(now, index, &reply_to, &request),
            Ok(Request::ExchangeSdp { to, sdp }) => self.handle_exchange_sdp(now, index, &reply_to, &to, &sdp),
            Ok(Request::ExchangeCandidate { to, candidate }) => {
                self.handle_exchange_candidate(now, index, &reply_to, &to, &candidate);
            }
            Ok(Request::OrientationChange(change)) => self.handle_orientation_change(now, index, &reply_to, &change),
            Ok(Request::Leave) => {
                self.grant(index, &reply_to, &serde_json::Map::new());
                self.put_out(now, index, Leave::Left, "");
            }
            Err(fault) => self.refuse(index, &reply_to, &fault),
        }
        self.settle(now);
    }

    /// A binary message has arrived on a websocket.
    pub fn handle_binary(&mut self, now: Instant, connection: ConnectionId, bytes: &[u8]) {
        let Some(index) = self.index_of(connection) else { return };
        self.note_message(now, index);
        if let Stage::Joined(session) = self.connections[index].stage {
            self.handle_frame(now, session, bytes, Transport::WebSocket);
        }
        self.settle(now);
    }

    /// The other end of a websocket has answered a [`Signal::Ping`].
    pub fn handle_pong(&mut self, now: Instant, connection: ConnectionId) {
        if let Some(index) = self.index_of(connection) {
            self.connections[index].note_alive(now);
        }
    }

    /// A websocket is gone.
    pub fn handle_disconnect(&mut self, now: Instant, connection: ConnectionId, how: Disconnect) {
        let Some(index) = self.by_id.remove(&connection) else { return };
        match how {
            Disconnect::Goodbye => self.leave_room(now, index, Leave::Left),
            Disconnect::Broken => self.leave_room(now, index, Leave::Closed),
            Disconnect::Away => self.lose_connection(now, index, Leave::Left, limits::RELOAD_GRACE),
            Disconnect::Lost => self.lose_connection(now, index, Leave::Closed, self.config.grace),
        }
        self.count_as_joined(index);
        let gone = self.connections.remove(index);
        let network = network(gone.connect.remote.ip());
        if let Some(here) = self.by_network.get_mut(&network) {
            here.connections -= 1;
            if here.connections == 0 {
                self.by_network.remove(&network);
            }
        }
        if let Some(deadline) = gone.deadline {
            self.timers.remove(&(deadline, Timer::Connection(index)));
        }
        self.settle(now);
    }

    /// A datagram has arrived at the socket `local` from `source`. Cannot fail: what can't be used is counted.
    pub fn handle_datagram(&mut self, now: Instant, local: LocalId, source: SocketAddr, bytes: &[u8]) {
        self.endpoint.handle_datagram(now, local, source, bytes);
        self.settle(now);
    }

    /// Time has come for whatever [`Server::poll_timeout`] named.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            match timer {
                Timer::Room(index) => self.tick_room(now, index),
                Timer::Connection(index) => {
                    self.connections[index].deadline = None;
                    match self.connections[index].stage {
                        Stage::Arrived => {
                            self.close_connection(index, Leave::Timeout.close_code(), "Nobody joined in time.");
                        }
                        Stage::Joined(session) => self.send_heartbeat(now, at, index, session),
                        Stage::Joining { .. } | Stage::Gone => {}
                    }
                }
                Timer::Session(session) => self.end_grace(now, session),
            }
        }
        self.settle(now);
    }

    /// The server stops: every player is told and every websocket closed.
    pub fn handle_shutdown(&mut self, now: Instant) {
        self.stopping = true;
        let indices: Vec<usize> = self.connections.iter().map(|(index, _)| index).collect();
        for index in indices {
            self.put_out(now, index, Leave::Shutdown, "The server is stopping.");
        }
        let away: Vec<usize> = self.sessions.iter().map(|(session, _)| session).collect();
        for session in away {
            self.end_session(now, session, Leave::Shutdown, "The server is stopping.");
        }
        self.settle(now);
    }

    /// The next datagram to send. Lent until the next call.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.endpoint.poll_transmit()
    }

    /// A connection for which something waits in [`Server::poll_signal`]. Each is named once; again only when it has
    /// been polled until there was nothing.
    pub fn poll_signal_ready(&mut self) -> Option<ConnectionId> {
        self.ready.pop_front()
    }

    /// The next message for a websocket. Poll it only while that socket takes more: what waits here is kept short
    /// (one state at most), what waits in a socket grows old.
    pub fn poll_signal(&mut self, connection: ConnectionId) -> Option<Signal> {
        let index = *self.by_id.get(&connection)?;
        let connection = &mut self.connections[index];
        if connection.outgoing.is_empty()
            && let Some(body) = connection.unreliable.pop_front()
        {
            self.write_unreliable(index, &body);
        }
        let connection = &mut self.connections[index];
        let Some(signal) = connection.outgoing.pop_front() else {
            connection.announced = false;
            return None;
        };
        connection.outgoing_bytes = connection.outgoing_bytes.saturating_sub(signal_bytes(&signal));
        Some(signal)
    }

    /// When to call [`Server::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = self.timers.first().map(|&(at, _)| at);
        [own, self.endpoint.poll_timeout()].into_iter().flatten().min()
    }

    fn index_of(&self, connection: ConnectionId) -> Option<usize> {
        let index = *self.by_id.get(&connection)?;
        (!self.connections[index].closing).then_some(index)
    }

    /// Takes up what the last call has set going.
    fn settle(&mut self, now: Instant) {
        while let Some((peer, event)) = self.endpoint.poll_event() {
            self.handle_peer_event(now, peer, event);
        }
        while let Some(index) = self.overfull.pop() {
            self.leave_room(now, index, Leave::Timeout);
        }
    }
}

#[cfg(test)]
mod tests;
