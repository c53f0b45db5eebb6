//! The server: connections, rooms and peers behind one sans-IO interface.
//!
//! The caller tells it the time and what arrived (`handle_*`), then polls it for what is to be sent (`poll_*`) and for
//! when to come again. It never blocks and never fails: what goes wrong costs its sender, and is counted.

mod addresses;
mod admission;
mod channel;
mod connection;
mod delivery;
mod external;
mod join;
mod presence;
mod relay;
mod resume;
mod rooms;
mod session;
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
use self::connection::{Connection, Stage};
pub use self::external::ExternalError;
use self::rooms::HostedRoom;
use self::session::{Fate, Session};
use crate::auth::Keys;
use crate::endpoint::{Dropped, Endpoint, LocalId, PeerKey, Transmit, Unroutable};
use crate::game::{Game, Link, Refusal, RoomInfo};
use crate::hooks::{ArrivalId, Decision, Guarded, Hooks};
use crate::journal;
use crate::limits;
use crate::log_limit::{PlayerLog, Who};
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::frame::Transport;
use crate::wire::signaling::{self, Fault, Request, RoomName};
use crate::wire::{Deflater, Inflater};

/// What a server is made with: [`Config::new`], and whatever is to be otherwise.
#[derive(Clone, Debug)]
#[non_exhaustive]
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
}

impl Config {
    /// Ticks of [`limits::TICK_MS`], [`limits::PLAYERS_PER_ROOM`] players per room, open to everybody, at local
    /// addresses.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Config {
        Config {
            seed,
            tick: Duration::from_millis(limits::TICK_MS.into()),
            grace: limits::RESUME_GRACE,
            max_players: limits::PLAYERS_PER_ROOM,
            udp_port: 0,
            public: Vec::new(),
            interfaces: Vec::new(),
            keys: None,
            unix_time: Duration::ZERO,
        }
    }
}

/// One websocket connection, chosen by the caller: unique among the open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A websocket connection as it opens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connect {
    /// From `/r/{room}`; `None` on `/api`.
    pub room: Option<RoomName>,
    /// Where it comes from, by the word of a proxy that is believed where one brings it. What limits count.
    pub remote: SocketAddr,
    /// The local address on which it arrived.
    pub local: IpAddr,
    /// The headers of the HTTP request that opened it, names in lower case, in their order: for [`Hooks::accept`].
    /// They are kept until somebody joins. The driver's are at most 64 with 16 KiB in all, without those that aren't
    /// UTF-8.
    pub headers: Vec<(String, String)>,
}

impl Connect {
    /// One without headers, for `room` or, where that is `None`, for the room that the request to join names.
    #[must_use]
    pub fn new(room: Option<RoomName>, remote: SocketAddr, local: IpAddr) -> Connect {
        Connect { room, remote, local, headers: Vec::new() }
    }
}

/// A websocket message to a player.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Signal {
    /// Signaling: JSON.
    Text(String),
    /// A game frame.
    Binary(Vec<u8>),
    /// A ping (RFC 6455 §5.5.2) with this payload, 8 bytes in network order: the other end answers by itself, and then
    /// [`Server::handle_pong`] is due.
    Ping(u64),
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
#[non_exhaustive]
pub enum Disconnect {
    /// Its other end closed it for good, with code 1000 (RFC 6455 §7.4.1).
    Goodbye,
    /// Its other end went away, with code 1001: the page was closed, or is loading anew.
    Away,
    /// It broke, with or without another code: who was there may come back.
    Lost,
    /// What it sent is no websocket, or more frames than are allowed: nothing more can come of it.
    Broken,
}

/// A room as `/rooms` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
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
    /// Whether its game shows it on `/rooms`.
    #[serde(skip)]
    pub listed: bool,
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
    /// Messages that games could not send: too large, or of no shape that a client reads.
    pub unsent_messages: u64,
    /// Players who were put out, by the reason that they and the others were told.
    pub put_out: PutOut,
    /// Sessions that could not be taken up again, because more was missed than is kept.
    pub missed_too_much: u64,
    /// Connections that were closed because they took too little of what was for them.
    pub overfull_connections: u64,
    /// Connections that were refused because too many come from their address.
    pub refused_connections: u64,
    /// Connections on which nobody joined in time.
    pub idle_connections: u64,
    /// Messages from outside for rooms that weren't there.
    pub lost_externals: u64,
    /// Calls of [`Hooks`] that failed.
    pub failed_hooks: u64,
}

/// Players who were put out, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOut {
    /// By their game.
    pub kicked: u64,
    /// They sent more than is allowed.
    pub flood: u64,
    /// They sent what can't be read, by the server or by their game.
    pub bad_frame: u64,
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
#[non_exhaustive]
pub struct Gauges {
    /// Websocket connections.
    pub connections: usize,
    /// Players.
    pub players: usize,
    /// Rooms.
    pub rooms: usize,
    /// Peers: data channels, open or opening.
    pub peers: usize,
    /// Bytes that wait for websockets to take them.
    pub queued_bytes: usize,
}

/// Players by what carries the states that they are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transports {
    /// A data channel.
    pub webrtc: usize,
    /// The websocket: the data channel opens, failed or has fallen silent.
    pub websocket: usize,
    /// Nothing, for now: they lost their websocket and have no data channel.
    pub away: usize,
}

// Keys of what is gone never mean what has its place now: whoever kept one finds nothing.
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

/// The whole server, sans-IO.
pub struct Server<G: Game> {
    config: Config,
    factory: Factory<G>,
    recordings: Option<Recordings>,
    hooks: Guarded,
    started: Instant,
    /// What the clock of the world showed when.
    unix_time: (Instant, Duration),
    rng: ChaCha20Rng,
    endpoint: Endpoint,
    connections: SlotMap<ConnectionKey, Connection>,
    by_id: BTreeMap<ConnectionId, ConnectionKey>,
    addresses: Addresses,
    admission: Admission,
    sessions: SlotMap<SessionKey, Session>,
    by_socket_id: BTreeMap<String, SessionKey>,
    by_peer: BTreeMap<PeerKey, SessionKey>,
    rooms: SlotMap<RoomKey, HostedRoom<G>>,
    by_name: BTreeMap<RoomName, RoomKey>,
    rooms_made: u32,
    first_player: u32,
    timers: BTreeSet<(Instant, Timer)>,
    ready: VecDeque<ConnectionId>,
    /// Connections whose queue has outgrown its limit, and which are still to be ended.
    overfull: Vec<ConnectionKey>,
    deflater: Deflater,
    inflater: Inflater,
    deflated: Vec<u8>,
    frame: Vec<u8>,
    counters: Counters,
    player_log: PlayerLog,
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
        let unix_time = (now, config.unix_time);
        let admission = Admission::new(config.seed);
        let mut endpoint_seed = [0; 32];
        rng.fill_bytes(&mut endpoint_seed);
        Server {
            config,
            factory: Box::new(factory),
            recordings: None,
            hooks: Guarded::new(Box::new(())),
            started: now,
            unix_time,
            rng,
            endpoint: Endpoint::new(endpoint_seed),
            connections: SlotMap::with_key(),
            by_id: BTreeMap::new(),
            addresses: Addresses::default(),
            admission,
            sessions: SlotMap::with_key(),
            by_socket_id: BTreeMap::new(),
            by_peer: BTreeMap::new(),
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
            frame: Vec::with_capacity(limits::FRAME_BYTES),
            counters: Counters::default(),
            player_log: PlayerLog::default(),
            stopping: false,
        }
    }

    /// Lets every datagram go through str0m: the slow way, which tests compare with.
    #[doc(hidden)]
    pub fn take_slow_path(&mut self) {
        self.endpoint.take_slow_path();
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

    /// All rooms, by name.
    pub fn rooms(&self) -> impl Iterator<Item = RoomStatus> + '_ {
        self.by_name.values().filter_map(|&room| self.rooms.get(room)).map(|hosted| RoomStatus {
            name: hosted.name.to_string(),
            players: hosted.room.players().len(),
            max_players: self.config.max_players,
            locked: hosted.room.is_locked(),
            tick: hosted.last_tick,
            listed: hosted.room.is_listed(),
        })
    }

    /// The game of a room, for tests and tools.
    #[must_use]
    pub fn game(&self, room: &RoomName) -> Option<&G> {
        self.by_name.get(room).and_then(|&room| self.rooms.get(room)).and_then(|hosted| hosted.room.game())
    }

    /// What has been counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let overflowed: u64 = self.rooms.values().map(|hosted| hosted.room.overflowed()).sum();
        let unsent: u64 = self.rooms.values().map(|hosted| hosted.room.unsent()).sum();
        Counters {
            unroutable: self.endpoint.unroutable(),
            peers: self.endpoint.dropped(),
            overflowed_inputs: self.counters.overflowed_inputs + overflowed,
            unsent_messages: self.counters.unsent_messages + unsent,
            failed_hooks: self.hooks.failed(),
            ..self.counters
        }
    }

    /// Ticks that rooms have missed.
    #[cfg(feature = "driver")]
    pub(crate) fn missed_ticks(&self) -> u64 {
        self.counters.missed_ticks
    }

    /// How many things there are now.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        Gauges {
            connections: self.connections.len(),
            players: self.sessions.len(),
            rooms: self.rooms.len(),
            peers: self.endpoint.peers(),
            queued_bytes: self.addresses.queued_bytes(),
        }
    }

    /// How many players are told states over what.
    #[must_use]
    pub fn transports(&self, now: Instant) -> Transports {
        self.count_transports(now)
    }

    /// How each player is connected, as their game was told last.
    pub fn links(&self) -> impl Iterator<Item = Link> + '_ {
        self.sessions.values().map(|session| session.link)
    }

    /// A websocket has opened.
    pub fn handle_connect(&mut self, now: Instant, connection: ConnectionId, connect: Connect) {
        self.turn(now, |server| server.open_connection(now, connection, connect));
    }

    /// A text message has arrived on a websocket.
    pub fn handle_text(&mut self, now: Instant, connection: ConnectionId, text: &str) {
        self.turn(now, |server| {
            if let Some(key) = server.live_connection(connection) {
                server.note_message(now, key);
                server.handle_request(now, key, text);
            }
        });
    }

    /// A binary message has arrived on a websocket.
    pub fn handle_binary(&mut self, now: Instant, connection: ConnectionId, bytes: &[u8]) {
        self.turn(now, |server| {
            if let Some(key) = server.live_connection(connection) {
                server.note_message(now, key);
                if let Ok(session) = server.session_of(key) {
                    server.handle_frame(now, session, bytes, Transport::WebSocket);
                }
            }
        });
    }

    /// A message past every limit has arrived on a websocket, which is closed for it. What to say before that to
    /// somebody who has not joined.
    #[cfg(feature = "driver")]
    pub(crate) fn refuse_oversized(&mut self, now: Instant, connection: ConnectionId) -> Option<String> {
        let key = self.live_connection(connection).filter(|&key| self.expect_arrived(key).is_ok())?;
        let fault = signaling::too_large();
        self.log_refused(now, key, None, None, &fault);
        self.counters.refused_requests += 1;
        Some(signaling::refused_join(&fault))
    }

    /// A pong has arrived on a websocket. It shows that the other end reads only where its payload is that of a
    /// [`Signal::Ping`]; RFC 6455 §5.5.3 allows others too, which change nothing.
    pub fn handle_pong(&mut self, now: Instant, connection: ConnectionId, payload: &[u8]) {
        self.turn(now, |server| {
            let key = server.live_connection(connection);
            if let Some(connection) = key.and_then(|key| server.connections.get_mut(key)) {
                connection.handle_pong(now, payload);
            }
        });
    }

    /// A websocket is gone.
    pub fn handle_disconnect(&mut self, now: Instant, connection: ConnectionId, how: Disconnect) {
        self.turn(now, |server| server.forget_connection(now, connection, how));
    }

    /// A datagram has arrived at the socket `local` from `source`. Cannot fail: what can't be used is counted.
    pub fn handle_datagram(&mut self, now: Instant, local: LocalId, source: SocketAddr, bytes: &[u8]) {
        self.turn(now, |server| server.endpoint.handle_datagram(now, local, source, bytes));
    }

    /// Time has come for whatever [`Server::poll_timeout`] named.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.turn(now, |server| {
            server.endpoint.handle_timeout(now);
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

    /// The server stops: every player is told, every game hears of each in a last tick of its room, and every websocket
    /// is closed.
    pub fn handle_shutdown(&mut self, now: Instant) {
        self.turn(now, |server| {
            server.stopping = true;
            let sentence = "The server is stopping.";
            let rooms: Vec<RoomKey> = server.rooms.keys().collect();
            for room in rooms {
                server.end_room(now, room, Leave::Shutdown, sentence);
            }
            let connections: Vec<ConnectionKey> = server.connections.keys().collect();
            for connection in connections {
                server.close_connection(now, connection, Leave::Shutdown.close_code(), sentence);
            }
        });
    }

    /// A hook has decided on somebody whose decision it had put off ([`Decision::Later`]). Nothing comes of it where
    /// they are gone, or were decided on before.
    pub fn handle_decision(&mut self, now: Instant, arrival: ArrivalId, decision: Decision) {
        self.turn(now, |server| server.take_decision(now, arrival, decision));
    }

    /// Closes a room, which need not be there: everybody in it is told `sentence` and gone for
    /// [`Leave::RoomClosed`], its game is told of each in a last tick, and whoever comes next finds a new room.
    pub fn handle_close_room(&mut self, now: Instant, room: &RoomName, sentence: &str) {
        self.turn(now, |server| {
            if let Some(&room) = server.by_name.get(room) {
                server.end_room(now, room, Leave::RoomClosed, sentence);
            }
        });
    }

    /// The clock of the world shows `unix_time` (time since 1970) now. Told each second, it lets tokens be judged
    /// rightly after that clock was set, and after the machine has slept.
    pub fn handle_unix_time(&mut self, now: Instant, unix_time: Duration) {
        self.unix_time = (now, unix_time);
        self.player_log.flush(now);
    }

    /// The next datagram to send. Lent until the next call.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.endpoint.poll_transmit()
    }

    /// A connection for which something waits in [`Server::poll_signal`]. This is edge-triggered: each is named once,
    /// and again only when it has been polled until there was nothing and something new has come. A caller whose
    /// socket takes no more remembers the connection, and polls it again when the socket does.
    pub fn poll_signal_ready(&mut self) -> Option<ConnectionId> {
        self.ready.pop_front()
    }

    /// The next message for a websocket. Poll it only while that socket takes more: what waits here is kept short
    /// (one state at most), what waits in a socket grows old.
    pub fn poll_signal(&mut self, connection: ConnectionId) -> Option<Signal> {
        self.pop_signal(connection)
    }

    /// Bytes that must arrive and wait in [`Server::poll_signal`] for a connection, see
    /// [`limits::RELIABLE_QUEUE_BYTES`].
    #[must_use]
    pub fn queued_bytes(&self, connection: ConnectionId) -> usize {
        let key = self.by_id.get(&connection);
        key.and_then(|&key| self.connections.get(key)).map_or(0, |connection| connection.queue.bytes())
    }

    /// When to call [`Server::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let own = self.timers.first().map(|&(at, _)| at);
        [own, self.endpoint.poll_timeout()].into_iter().flatten().min()
    }

    /// One call of the caller's: what it does, and then all that follows from it. Every `handle_*` that can end
    /// something is a turn, and so leaves nothing half-ended behind.
    fn turn(&mut self, now: Instant, act: impl FnOnce(&mut Self)) {
        act(self);
        while let Some((peer, event)) = self.endpoint.poll_event() {
            self.handle_peer_event(now, peer, event);
        }
        self.end_overfull(now);
    }

    fn live_connection(&self, id: ConnectionId) -> Option<ConnectionKey> {
        let key = *self.by_id.get(&id)?;
        self.connections.get(key).filter(|connection| !connection.closing).map(|_| key)
    }

    fn unix_time(&self, now: Instant) -> Duration {
        let (told, unix_time) = self.unix_time;
        unix_time + now.saturating_duration_since(told)
    }

    fn handle_request(&mut self, now: Instant, key: ConnectionKey, text: &str) {
        let (reply_to, request) = signaling::parse(text);
        let Some(connection) = self.connections.get_mut(key) else { return };
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
            Ok(Request::Join(join)) => self.handle_join(now, key, reply_to, join),
            Ok(Request::Reconnect(request)) => self.handle_reconnect(now, key, &reply_to, &request),
            Ok(Request::ExchangeSdp { to, sdp }) => self.handle_exchange_sdp(now, key, &reply_to, &to, &sdp),
            Ok(Request::ExchangeCandidate { to, candidate }) => {
                self.handle_exchange_candidate(now, key, &reply_to, &to, &candidate);
            }
            Ok(Request::OrientationChange(change)) => self.handle_orientation_change(now, key, &reply_to, &change),
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

    /// Ends what a connection holds for `reason`, and closes it.
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
