//! The server: connections, rooms and peers behind one sans-IO interface.
//!
//! The caller tells it the time and what arrived (`handle_*`), then polls it for what is to be sent (`poll_*`) and for
//! when to come again. It never blocks and never fails: what goes wrong costs its sender, and is counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde::Serialize;
use slab::Slab;

use crate::endpoint::{Dropped, Endpoint, LocalId, PeerKey, Transmit, Unroutable};
use crate::game::{Game, Join, PlayerId, Refusal, RoomInfo, Target, Tick};
use crate::limits;
use crate::peer::{self, Closed, Sent};
use crate::player::{Arrived, FIRST_INPUT, Frames, NotTaken};
use crate::rate::{Allowance, network};
use crate::room::{self, Room};
use crate::wire::codes::{CLOSE_REFUSED, ErrorCode, Leave};
use crate::wire::frame::{Kind, Transport};
use crate::wire::signaling::{
    self, Fault, JoinReply, JoinRequest, Presence, ReplyTo, Request, RoomName, RoomUsers, SessionInfo,
};
use crate::wire::{Deflater, Inflater, msgpack};

/// What a server is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// From the OS's generator: credentials, tokens and the seeds of rooms come from it.
    pub seed: [u8; 32],
    /// Length of a tick, within [`limits::TICK_MS_RANGE`].
    pub tick: Duration,
    /// Players per room, at most [`limits::PLAYERS_PER_ROOM_MAX`].
    pub max_players: usize,
    /// The UDP port that players are told of, where `public` doesn't name one.
    pub udp_port: u16,
    /// What players are told to reach instead of local addresses; empty where local addresses are right.
    pub public: Vec<SocketAddr>,
    /// Addresses of this machine, told to players after the one that their websocket came in on.
    pub interfaces: Vec<IpAddr>,
}

/// One websocket connection, chosen by the caller: unique among the open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A websocket connection as it opens.
#[derive(Clone, Debug)]
pub struct Connect {
    /// From `/r/{room}`; `None` on `/api`.
    pub room: Option<RoomName>,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// The local address on which it arrived.
    pub local: IpAddr,
}

/// A websocket message to a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Signaling: JSON.
    Text(String),
    /// A game frame.
    Binary(Vec<u8>),
    /// Close the connection with this code and reason; nothing follows.
    Close {
        /// RFC 6455 §7.4.
        code: u16,
        /// At most 123 bytes.
        reason: String,
    },
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
    /// Frames that could not be read; each cost its sender the place.
    pub bad_frames: u64,
    /// Frames that came faster than a player may send them.
    pub excess_frames: u64,
    /// Unreliable frames that could not leave in time.
    pub dropped_frames: u64,
    /// Inputs that came faster than a room takes them.
    pub overflowed_inputs: u64,
    /// Ticks that rooms missed because the server was late.
    pub missed_ticks: u64,
    /// Rooms that closed because their game failed.
    pub failed_rooms: u64,
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

struct Connection {
    id: ConnectionId,
    connect: Connect,
    stage: Stage,
    outgoing: VecDeque<Signal>,
    outgoing_bytes: usize,
    unreliable: VecDeque<SharedBody>,
    announced: bool,
    closing: bool,
    is_unjoined: bool,
    allowance: Allowance,
    deadline: Option<Instant>,
}

enum Stage {
    Arrived,
    Joining { room: usize, player: PlayerId, name: String, offer: Option<String>, reply_to: ReplyTo },
    Joined(Box<Session>),
    Gone,
}

struct Session {
    room: usize,
    player: PlayerId,
    info: SessionInfo,
    frames: Frames,
    peer: Option<PeerKey>,
}

/// A body that waits for a websocket to take it. Its header is written when it leaves, so that a state which is
/// replaced meanwhile leaves no gap in the sequence.
#[derive(Clone)]
struct SharedBody {
    kind: Kind,
    deflated: bool,
    bytes: Rc<[u8]>,
}

struct HostedRoom<G: Game> {
    name: RoomName,
    room: Room<G>,
    members: BTreeMap<PlayerId, usize>,
    start: Instant,
    last_tick: u32,
    deadline: Instant,
    empty_since: Option<Instant>,
    users_changed: bool,
    users_told: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Room(usize),
    Connection(usize),
}

type Factory<G> = Box<dyn FnMut(&RoomInfo) -> Result<G, Refusal>>;

/// The whole server, sans-IO.
pub struct Server<G: Game> {
    config: Config,
    factory: Factory<G>,
    started: Instant,
    rng: ChaCha20Rng,
    endpoint: Endpoint,
    connections: Slab<Connection>,
    by_id: BTreeMap<ConnectionId, usize>,
    unjoined: BTreeMap<IpAddr, usize>,
    by_peer: BTreeMap<PeerKey, usize>,
    rooms: Slab<HostedRoom<G>>,
    by_name: BTreeMap<RoomName, usize>,
    rooms_made: u32,
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
        let tick_ms = u32::try_from(config.tick.as_millis()).unwrap_or(u32::MAX);
        assert!(limits::TICK_MS_RANGE.contains(&tick_ms), "a tick has {:?} ms", limits::TICK_MS_RANGE);
        assert!((1..=limits::PLAYERS_PER_ROOM_MAX).contains(&config.max_players), "too many players per room");
        let mut rng = ChaCha20Rng::from_seed(config.seed);
        let mut endpoint_seed = [0; 32];
        rng.fill_bytes(&mut endpoint_seed);
        Server {
            config,
            factory: Box::new(factory),
            started: now,
            rng,
            endpoint: Endpoint::new(endpoint_seed),
            connections: Slab::new(),
            by_id: BTreeMap::new(),
            unjoined: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            rooms: Slab::new(),
            by_name: BTreeMap::new(),
            rooms_made: 0,
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
            ..self.counters
        }
    }

    /// How many things there are now.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let joined = |connection: &Connection| matches!(connection.stage, Stage::Joined(_));
        Gauges {
            connections: self.connections.len(),
            players: self.connections.iter().filter(|(_, connection)| joined(connection)).count(),
            rooms: self.rooms.len(),
            peers: self.endpoint.peers(),
        }
    }

    /// A websocket has opened.
    pub fn handle_connect(&mut self, now: Instant, connection: ConnectionId, connect: Connect) {
        let deadline = now + limits::JOIN_TIMEOUT;
        let remote = connect.remote.ip();
        let index = self.connections.insert(Connection {
            id: connection,
            connect,
            stage: Stage::Arrived,
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            unreliable: VecDeque::new(),
            announced: false,
            closing: false,
            is_unjoined: true,
            allowance: Allowance::new(limits::SIGNALS_PER_SECOND, now),
            deadline: Some(deadline),
        });
        self.by_id.insert(connection, index);
        self.timers.insert((deadline, Timer::Connection(index)));
        let waiting = self.unjoined.entry(network(remote)).or_default();
        *waiting += 1;
        // Proxies and tests come from this machine.
        if *waiting > limits::UNJOINED_PER_ADDRESS && !remote.is_loopback() {
            let reason = "rate_limited: Too many connections from your address wait to join.";
            self.close_connection(index, CLOSE_REFUSED, reason);
        }
        if self.stopping {
            self.close_connection(index, Leave::Shutdown.close_code(), "shutdown: The server is stopping.");
        }
    }

    /// A text message has arrived on a websocket.
    pub fn handle_text(&mut self, now: Instant, connection: ConnectionId, text: &str) {
        let Some(index) = self.index_of(connection) else { return };
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
            Ok(Request::ExchangeSdp { to, sdp }) => self.handle_exchange_sdp(now, index, &reply_to, &to, &sdp),
            // An ICE-lite server learns a client's addresses from its checks.
            Ok(Request::ExchangeCandidate { to }) => match self.check_to(index, &to) {
                Ok(()) => self.grant(index, &reply_to, &serde_json::Map::new()),
                Err(fault) => self.refuse(index, &reply_to, &fault),
            },
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
        self.handle_frame(now, index, bytes, Transport::WebSocket);
        self.settle(now);
    }

    /// A websocket is gone; `clean` if its other end closed it with code 1000 or 1001.
    pub fn handle_disconnect(&mut self, now: Instant, connection: ConnectionId, clean: bool) {
        let Some(index) = self.by_id.remove(&connection) else { return };
        self.leave_room(now, index, if clean { Leave::Left } else { Leave::Closed });
        self.count_as_joined(index);
        let gone = self.connections.remove(index);
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
                    if matches!(self.connections[index].stage, Stage::Arrived) {
                        self.close_connection(index, Leave::Timeout.close_code(), "timeout: Nobody joined.");
                    }
                }
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
        if connection.outgoing.is_empty() {
            if let Some(body) = connection.unreliable.pop_front() {
                self.write_unreliable(index, &body);
            }
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

    // ----- joining and leaving

    fn handle_join(&mut self, now: Instant, index: usize, reply_to: ReplyTo, join: JoinRequest) {
        match self.ask_room(now, index, &reply_to, join) {
            Ok(()) => {}
            Err(fault) => {
                self.refuse(index, &reply_to, &fault);
                // Somebody who is in stays in; for others there is nothing to wait for.
                if !matches!(self.connections[index].stage, Stage::Joined(_) | Stage::Joining { .. }) {
                    self.close_connection(index, CLOSE_REFUSED, fault.code.as_str());
                }
            }
        }
    }

    fn ask_room(&mut self, now: Instant, index: usize, reply_to: &ReplyTo, join: JoinRequest) -> Result<(), Fault> {
        if !matches!(self.connections[index].stage, Stage::Arrived) {
            return Err(Fault::new(ErrorCode::BadRequest, "This connection has asked to join already."));
        }
        if join.version.as_u64().is_some_and(|version| version != signaling::VERSION) {
            let sentence = "Page and server speak different versions; reload the page.";
            return Err(Fault::new(ErrorCode::VersionMismatch, sentence));
        }
        let bad_room =
            || Fault::new(ErrorCode::BadRoom, "A room's name has 1 to 64 letters, digits, hyphens or underscores.");
        let asked = match &join.room_id {
            Some(name) => Some(RoomName::parse(name).ok_or_else(bad_room)?),
            None => None,
        };
        let name = match (self.connections[index].connect.room.clone(), asked) {
            (Some(of_url), Some(asked)) if of_url != asked => {
                return Err(Fault::new(ErrorCode::BadRoom, "The room in the request is not that of the URL."));
            }
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => return Err(Fault::new(ErrorCode::BadRoom, "The request names no room.")),
        };
        let room = match self.by_name.get(&name) {
            Some(&room) => room,
            None => self.make_room(now, name, &join.data)?,
        };
        let hosted = &mut self.rooms[room];
        let player = hosted.room.next_player();
        let shown = signaling::shown_name(join.name.as_deref());
        let mut player_join = Join::new(&shown);
        player_join.data = join.data;
        hosted.room.handle_input(room::Input::Join { player, join: player_join });
        hosted.members.insert(player, index);
        hosted.empty_since = None;
        self.connections[index].stage =
            Stage::Joining { room, player, name: shown, offer: join.sdp, reply_to: reply_to.clone() };
        Ok(())
    }

    fn make_room(&mut self, now: Instant, name: RoomName, data: &serde_json::Value) -> Result<usize, Fault> {
        if self.rooms.len() >= limits::ROOMS {
            return Err(Fault::new(ErrorCode::RoomFull, "The server has no place for another room."));
        }
        let mut info = RoomInfo::new(name.as_str(), self.rng.next_u64());
        info.tick = self.config.tick;
        info.data = data.clone();
        let game = catch_unwind(AssertUnwindSafe(|| (self.factory)(&info)))
            .map_err(|_| Fault::new(ErrorCode::Internal, "The room can't be made: its game failed."))?
            .map_err(|refusal| Fault::new(ErrorCode::Refused, refusal.to_string()))?;
        let start = self.phase_start(now);
        let hosted = HostedRoom {
            name: name.clone(),
            room: Room::new(&info, game, self.config.max_players),
            members: BTreeMap::new(),
            start,
            last_tick: 0,
            deadline: start + self.config.tick,
            empty_since: None,
            users_changed: false,
            users_told: None,
        };
        let deadline = hosted.deadline;
        let index = self.rooms.insert(hosted);
        self.by_name.insert(name, index);
        self.timers.insert((deadline, Timer::Room(index)));
        Ok(index)
    }

    /// The last point before `now` of the time grid of the next phase slot: rooms are spread over the slots, so that
    /// no turn of the loop carries the burst of all of them.
    fn phase_start(&mut self, now: Instant) -> Instant {
        let slot = self.rooms_made % limits::PHASE_SLOTS;
        self.rooms_made = self.rooms_made.wrapping_add(1);
        let tick = self.config.tick;
        let origin = self.started + tick * slot / limits::PHASE_SLOTS;
        let past = now.saturating_duration_since(origin);
        let into = Duration::from_nanos(u64::try_from(past.as_nanos() % tick.as_nanos()).unwrap_or_default());
        (now - into).max(origin)
    }

    /// Ends what a connection has in the rooms; the connection stays.
    fn leave_room(&mut self, now: Instant, index: usize, reason: Leave) {
        match std::mem::replace(&mut self.connections[index].stage, Stage::Gone) {
            Stage::Joining { room, player, .. } => {
                self.rooms[room].members.remove(&player);
                self.rooms[room].room.handle_input(room::Input::Leave { player, reason });
            }
            Stage::Joined(session) => {
                if let Some(peer) = session.peer {
                    self.by_peer.remove(&peer);
                    self.endpoint.close(now, peer);
                }
                let room = session.room;
                self.rooms[room].members.remove(&session.player);
                self.rooms[room].room.handle_input(room::Input::Leave { player: session.player, reason });
                // Where all go, nobody is left to be told of each.
                if !matches!(reason, Leave::RoomClosed | Leave::Shutdown) {
                    self.tell_presence(room, &session.info, Some(reason));
                }
            }
            Stage::Arrived | Stage::Gone => {}
        }
    }

    /// The connection no longer counts among those of its address that wait.
    fn count_as_joined(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let network = network(connection.connect.remote.ip());
        if std::mem::take(&mut connection.is_unjoined)
            && let Some(waiting) = self.unjoined.get_mut(&network)
        {
            *waiting -= 1;
            if *waiting == 0 {
                self.unjoined.remove(&network);
            }
        }
    }

    /// Ends a connection, whatever it is in.
    fn put_out(&mut self, now: Instant, index: usize, reason: Leave, sentence: &str) {
        self.leave_room(now, index, reason);
        let text = if sentence.is_empty() { reason.to_string() } else { format!("{reason}: {sentence}") };
        self.close_connection(index, reason.close_code(), &text);
    }

    // ----- the data channel

    fn handle_exchange_sdp(&mut self, now: Instant, index: usize, reply_to: &ReplyTo, to: &str, offer: &str) {
        #[derive(Serialize)]
        struct Answer {
            sdp: String,
        }
        match self.check_to(index, to).and_then(|()| self.answer(now, index, offer)) {
            Ok(sdp) => self.grant(index, reply_to, &Answer { sdp }),
            Err(fault) => self.refuse(index, reply_to, &fault),
        }
    }

    fn check_to(&self, index: usize, to: &str) -> Result<(), Fault> {
        if !matches!(self.connections[index].stage, Stage::Joined(_)) {
            return Err(Fault::new(ErrorCode::BadRequest, "Join first."));
        }
        if to != "server" {
            let sentence = "This server doesn't relay between players yet.";
            return Err(Fault::new(ErrorCode::UnknownAction, sentence));
        }
        Ok(())
    }

    /// Answers an offer of a player; a peer that they had is closed.
    fn answer(&mut self, now: Instant, index: usize, offer: &str) -> Result<String, Fault> {
        let candidates = self.candidates(self.connections[index].connect.local);
        let Stage::Joined(session) = &mut self.connections[index].stage else {
            return Err(Fault::new(ErrorCode::BadRequest, "Join first."));
        };
        let (peer, sdp) = self
            .endpoint
            .answer(now, offer, candidates)
            .map_err(|error| Fault::new(ErrorCode::BadSdp, error.to_string()))?;
        if let Some(old) = session.peer.replace(peer) {
            self.by_peer.remove(&old);
            self.endpoint.close(now, old);
        }
        self.by_peer.insert(peer, index);
        Ok(sdp)
    }

    /// What a player whose websocket came in on `local` is told: public addresses where they are given, else that
    /// address, then the others.
    fn candidates(&self, local: IpAddr) -> Vec<SocketAddr> {
        let mut candidates = self.config.public.clone();
        if candidates.is_empty() {
            let first = std::iter::once(local.to_canonical());
            let rest = self.config.interfaces.iter().copied().filter(|ip| ip.is_loopback() == local.is_loopback());
            for ip in first.chain(rest).filter(|ip| !ip.is_unspecified()) {
                let address = SocketAddr::new(ip, self.config.udp_port);
                if !candidates.contains(&address) {
                    candidates.push(address);
                }
            }
        }
        candidates.truncate(limits::CANDIDATES_ADVERTISED);
        candidates
    }

    fn handle_peer_event(&mut self, now: Instant, peer: PeerKey, event: peer::Event) {
        let Some(&index) = self.by_peer.get(&peer) else { return };
        match event {
            // What waits for the websocket would arrive after newer frames of the channel.
            peer::Event::Open => self.connections[index].unreliable.clear(),
            peer::Event::Data(frame) => self.handle_frame(now, index, &frame, Transport::DataChannel),
            peer::Event::Closed(why) => {
                self.by_peer.remove(&peer);
                if let Stage::Joined(session) = &mut self.connections[index].stage {
                    session.peer = None;
                }
                let text = signaling::event("eventChannelClosed", &channel_fault(why));
                self.push(index, Signal::Text(text));
            }
        }
    }

    // ----- frames

    fn handle_frame(&mut self, now: Instant, index: usize, bytes: &[u8], transport: Transport) {
        let clock_ms = self.clock_ms(now);
        let Stage::Joined(session) = &mut self.connections[index].stage else { return };
        let mut arrived = Vec::new();
        let handled = session.frames.handle_frame(now, clock_ms, bytes, transport, &mut self.inflater, &mut arrived);
        let (room, player) = (session.room, session.player);
        for arrived in arrived {
            let room_input = match arrived {
                Arrived::Input { number, value } => room::Input::Input { player, number, value },
                Arrived::Command(value) => room::Input::Command { player, value },
                Arrived::Ticks { first, last } => room::Input::Ticks { player, first, last },
                Arrived::Ping { clock_ms: pinged } => {
                    let tick = self.rooms[room].last_tick;
                    let body = msgpack::encode_pong(pinged, clock_ms, tick);
                    self.send_unreliable(now, index, &SharedBody::plain(Kind::Pong, body));
                    continue;
                }
            };
            self.rooms[room].room.handle_input(room_input);
        }
        match handled {
            Ok(()) => {}
            Err(NotTaken::Bad(error)) => {
                self.counters.bad_frames += 1;
                self.put_out(now, index, Leave::BadFrame, &format!("A frame can't be read: {error}."));
            }
            Err(NotTaken::TooMany) => self.counters.excess_frames += 1,
            Err(NotTaken::Flood) => self.put_out(now, index, Leave::Flood, "You sent too many frames."),
        }
    }

    fn clock_ms(&self, now: Instant) -> f64 {
        (now - self.started).as_secs_f64() * 1000.0
    }

    /// Over the data channel where it is open, else over the websocket, there at most one state at a time.
    fn send_unreliable(&mut self, now: Instant, index: usize, body: &SharedBody) {
        let connection = &mut self.connections[index];
        let Stage::Joined(session) = &mut connection.stage else { return };
        if let Some(peer) = session.peer.filter(|&peer| self.endpoint.is_open(peer)) {
            let consumed = self.rooms[session.room].room.consumed(session.player);
            let endpoint = &mut self.endpoint;
            let dropped = &mut self.counters.dropped_frames;
            session.frames.write_unreliable(
                body.kind,
                body.deflated,
                &body.bytes,
                consumed,
                &mut self.frame,
                |frame| {
                    *dropped += u64::from(endpoint.send(now, peer, frame) == Sent::Dropped);
                },
            );
            return;
        }
        if connection.closing {
            return;
        }
        if body.kind == Kind::State {
            let before = connection.unreliable.len();
            connection.unreliable.retain(|waiting| waiting.kind != Kind::State);
            self.counters.dropped_frames += (before - connection.unreliable.len()) as u64;
        } else if connection.unreliable.len() >= limits::WEBSOCKET_FRAMES {
            connection.unreliable.pop_front();
            self.counters.dropped_frames += 1;
        }
        connection.unreliable.push_back(body.clone());
        announce(connection, &mut self.ready);
    }

    /// The frames of a body that goes over the websocket.
    fn write_unreliable(&mut self, index: usize, body: &SharedBody) {
        let connection = &mut self.connections[index];
        let Stage::Joined(session) = &mut connection.stage else { return };
        let consumed = self.rooms[session.room].room.consumed(session.player);
        let (outgoing, bytes) = (&mut connection.outgoing, &mut connection.outgoing_bytes);
        session.frames.write_unreliable(body.kind, body.deflated, &body.bytes, consumed, &mut self.frame, |frame| {
            *bytes += frame.len();
            outgoing.push_back(Signal::Binary(frame.to_vec()));
        });
    }

    // ----- rooms

    fn tick_room(&mut self, now: Instant, index: usize) {
        let tick = self.config.tick;
        let hosted = &mut self.rooms[index];
        let age = now.saturating_duration_since(hosted.start);
        let number = u32::try_from(age.as_nanos() / tick.as_nanos()).unwrap_or(u32::MAX);
        let missed = number.saturating_sub(hosted.last_tick).saturating_sub(1);
        self.counters.missed_ticks += u64::from(missed);
        hosted.last_tick = number;
        hosted.deadline = (hosted.start + tick * number.saturating_add(1)).max(now + Duration::from_millis(1));
        let deadline = hosted.deadline;
        self.measure_links(now, index);
        self.rooms[index].room.handle_input(room::Input::Tick(Tick { number, missed }));
        self.handle_room_outputs(now, index);
        if self.rooms.contains(index) && !self.dispose_if_empty(now, index) {
            self.tell_users(now, index);
            self.timers.insert((deadline, Timer::Room(index)));
        }
    }

    fn measure_links(&mut self, now: Instant, index: usize) {
        let clock_ms = self.clock_ms(now);
        let members: Vec<(PlayerId, usize)> = self.members(index);
        for (player, connection) in members {
            let Stage::Joined(session) = &mut self.connections[connection].stage else { continue };
            if let Some(link) = session.frames.poll_link(now) {
                self.rooms[index].room.handle_input(room::Input::Link { player, link });
                let body = msgpack::encode_clock(clock_ms);
                self.send_unreliable(now, connection, &SharedBody::plain(Kind::Ping, body));
            }
        }
    }

    fn members(&self, room: usize) -> Vec<(PlayerId, usize)> {
        self.rooms[room].members.iter().map(|(&player, &connection)| (player, connection)).collect()
    }

    fn handle_room_outputs(&mut self, now: Instant, index: usize) {
        while let Some(output) = self.rooms[index].room.poll_output() {
            match output {
                room::Output::Joined { player, welcome } => self.handle_joined(now, index, player, welcome),
                room::Output::Refused { player, code, message } => {
                    self.handle_refused(index, player, &Fault::new(code, message));
                }
                room::Output::Left { player, reason, message } => {
                    // Of those who left by themselves, the connection is gone already.
                    if let Some(connection) = self.rooms[index].members.get(&player).copied() {
                        if matches!(self.connections[connection].stage, Stage::Joining { .. }) {
                            self.handle_refused(index, player, &Fault::new(ErrorCode::Internal, message));
                        } else {
                            self.put_out(now, connection, reason, &message);
                        }
                    }
                }
                room::Output::Body { to, kind, body } => self.fan_out(now, index, to, kind, &body),
                room::Output::Closed => {
                    log::error!("room {} closed: its game failed", self.rooms[index].name);
                    self.counters.failed_rooms += 1;
                    self.remove_room(index);
                    return;
                }
            }
        }
    }

    fn handle_joined(&mut self, now: Instant, room: usize, player: PlayerId, welcome: serde_json::Value) {
        let Some(&index) = self.rooms[room].members.get(&player) else { return };
        let stage = std::mem::replace(&mut self.connections[index].stage, Stage::Gone);
        let Stage::Joining { name, offer, reply_to, .. } = stage else { return };
        let socket_id = format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64());
        let info = SessionInfo { player: player.0, socket_id, user_id: None, name };
        let session = Session { room, player, info, frames: Frames::new(now), peer: None };
        self.connections[index].stage = Stage::Joined(Box::new(session));
        self.count_as_joined(index);
        let (sdp, sdp_error) = match offer.map(|offer| self.answer(now, index, &offer)) {
            None => (None, None),
            Some(Ok(sdp)) => (Some(sdp), None),
            Some(Err(fault)) => (None, Some(fault)),
        };
        let Stage::Joined(session) = &self.connections[index].stage else { return };
        let info = session.info.clone();
        let reply = JoinReply {
            socket_id: &info.socket_id,
            player: player.0,
            room_size: self.rooms[room].room.players().len(),
            sessions: self.joined(room).collect(),
            tick: self.rooms[room].last_tick,
            tick_ms: self.config.tick.as_secs_f64() * 1000.0,
            input_seq: FIRST_INPUT,
            welcome,
            sdp,
            sdp_error,
        };
        let text = signaling::granted(&reply_to, &reply);
        self.push(index, Signal::Text(text));
        self.tell_presence(room, &info, None);
    }

    fn handle_refused(&mut self, room: usize, player: PlayerId, fault: &Fault) {
        let Some(index) = self.rooms[room].members.remove(&player) else { return };
        let stage = std::mem::replace(&mut self.connections[index].stage, Stage::Gone);
        if let Stage::Joining { reply_to, .. } = stage {
            self.refuse(index, &reply_to, fault);
        }
        self.close_connection(index, CLOSE_REFUSED, fault.code.as_str());
    }

    /// Encoded once, deflated once, shared by all; only the header is each player's own. What goes to one player is not
    /// deflated: done for each of many, it would take the time of the tick.
    fn fan_out(&mut self, now: Instant, room: usize, to: Target, kind: Kind, body: &[u8]) {
        if let Target::One(player) = to {
            if let Some(&index) = self.rooms[room].members.get(&player) {
                self.send_body(now, index, &SharedBody { kind, deflated: false, bytes: body.into() });
            }
            return;
        }
        let deflated = self.deflater.deflate(body, &mut self.deflated);
        let bytes: Rc<[u8]> = if deflated { self.deflated.as_slice().into() } else { body.into() };
        let shared = SharedBody { kind, deflated, bytes };
        for (_, index) in self.members(room).into_iter().filter(|&(player, _)| to.includes(player)) {
            self.send_body(now, index, &shared);
        }
    }

    fn send_body(&mut self, now: Instant, index: usize, body: &SharedBody) {
        if !body.kind.is_reliable() {
            self.send_unreliable(now, index, body);
        } else if let Stage::Joined(session) = &mut self.connections[index].stage {
            let tick = self.rooms[session.room].last_tick;
            let frame = session.frames.write_reliable(body.kind, body.deflated, &body.bytes, tick);
            self.push(index, Signal::Binary(frame));
        }
    }

    fn dispose_if_empty(&mut self, now: Instant, index: usize) -> bool {
        let hosted = &mut self.rooms[index];
        if !hosted.room.is_empty() || !hosted.members.is_empty() {
            hosted.empty_since = None;
            return false;
        }
        let since = *hosted.empty_since.get_or_insert(now);
        // One that was hardly used is hardly missed; else rooms could be made faster than they go.
        if now - since < limits::EMPTY_ROOM_LINGER.min(since.saturating_duration_since(hosted.start)) {
            return false;
        }
        self.remove_room(index);
        true
    }

    fn remove_room(&mut self, index: usize) {
        let hosted = self.rooms.remove(index);
        self.by_name.remove(&hosted.name);
        self.timers.remove(&(hosted.deadline, Timer::Room(index)));
        self.counters.overflowed_inputs += hosted.room.overflowed();
        // A game that has panicked is gone already; one that panics when it goes takes nobody along.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(hosted.room)));
    }

    // ----- telling players

    fn joined(&self, room: usize) -> impl Iterator<Item = &SessionInfo> {
        let connections = self.rooms[room].members.values().filter_map(|&index| self.connections.get(index));
        connections.filter_map(|connection| match &connection.stage {
            Stage::Joined(session) => Some(&session.info),
            _ => None,
        })
    }

    /// Tells the others that a player has come, or gone.
    fn tell_presence(&mut self, room: usize, info: &SessionInfo, reason: Option<Leave>) {
        self.rooms[room].users_changed = true;
        let room_size = self.joined(room).count();
        let name = if reason.is_some() { "eventLeave" } else { "eventJoin" };
        let text = signaling::event(name, &Presence { session: info, room_size, reason });
        self.tell_room(room, Some(PlayerId(info.player)), &text);
    }

    fn tell_users(&mut self, now: Instant, room: usize) {
        let hosted = &mut self.rooms[room];
        let recently = hosted.users_told.is_some_and(|told| now - told < Duration::from_secs(1));
        if !hosted.users_changed || recently {
            return;
        }
        hosted.users_changed = false;
        hosted.users_told = Some(now);
        let sessions: Vec<&SessionInfo> = self.joined(room).collect();
        let text = signaling::event("eventRoomUsers", &RoomUsers { room_size: sessions.len(), sessions });
        self.tell_room(room, None, &text);
    }

    fn tell_room(&mut self, room: usize, except: Option<PlayerId>, text: &str) {
        for (player, index) in self.members(room) {
            if Some(player) != except && matches!(self.connections[index].stage, Stage::Joined(_)) {
                self.push(index, Signal::Text(text.to_owned()));
            }
        }
    }

    fn grant(&mut self, index: usize, reply_to: &ReplyTo, data: &impl Serialize) {
        let text = signaling::granted(reply_to, data);
        self.push(index, Signal::Text(text));
    }

    fn refuse(&mut self, index: usize, reply_to: &ReplyTo, fault: &Fault) {
        self.counters.refused_requests += 1;
        self.push(index, Signal::Text(signaling::refused(reply_to, fault)));
    }

    fn close_connection(&mut self, index: usize, code: u16, reason: &str) {
        let reason = reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES)].to_owned();
        self.push(index, Signal::Close { code, reason });
    }

    /// Queues a message that must arrive. A socket that takes nothing for so long that its queue is full is closed.
    fn push(&mut self, index: usize, signal: Signal) {
        let connection = &mut self.connections[index];
        if connection.closing {
            return;
        }
        connection.closing = matches!(signal, Signal::Close { .. });
        connection.outgoing_bytes += signal_bytes(&signal);
        connection.outgoing.push_back(signal);
        if connection.outgoing_bytes > limits::RELIABLE_QUEUE_BYTES {
            connection.outgoing.clear();
            connection.outgoing_bytes = 0;
            let reason = "timeout: Your connection can't keep up.".to_owned();
            connection.outgoing.push_back(Signal::Close { code: Leave::Timeout.close_code(), reason });
            connection.closing = true;
            self.overfull.push(index);
        }
        if connection.closing {
            connection.unreliable.clear();
        }
        announce(connection, &mut self.ready);
    }

    // ----- bookkeeping

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

/// Bytes of the reason in a close frame (RFC 6455 §5.5, less the code).
const CLOSE_REASON_BYTES: usize = 123;

impl SharedBody {
    fn plain(kind: Kind, bytes: Vec<u8>) -> SharedBody {
        SharedBody { kind, deflated: false, bytes: bytes.into() }
    }
}

fn announce(connection: &mut Connection, ready: &mut VecDeque<ConnectionId>) {
    if !std::mem::replace(&mut connection.announced, true) {
        ready.push_back(connection.id);
    }
}

fn signal_bytes(signal: &Signal) -> usize {
    match signal {
        Signal::Text(text) => text.len(),
        Signal::Binary(bytes) => bytes.len(),
        Signal::Close { reason, .. } => reason.len(),
    }
}

fn channel_fault(why: Closed) -> Fault {
    let (code, sentence) = match why {
        Closed::ReliableChannel => {
            (ErrorCode::ChannelMustBeUnreliable, "The data channel must be unordered, with maxRetransmits: 0.")
        }
        Closed::NeverOpened => (ErrorCode::BadSdp, "The data channel did not open in time; UDP may be blocked."),
        Closed::Lost => (ErrorCode::NoSuchSession, "The data channel was lost."),
        Closed::ByPeer => (ErrorCode::NoSuchSession, "The data channel was closed."),
        Closed::TooManyAddresses => (ErrorCode::RateLimited, "The data channel moved too often; offer again."),
        Closed::Failed => (ErrorCode::Internal, "The data channel failed."),
    };
    Fault::new(code, sentence)
}
