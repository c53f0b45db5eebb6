//! The native client, sans-IO: the counterpart of `client-js` for tests, bots, load generators and native games.
//!
//! The caller opens a websocket and a UDP socket, passes received data to [`Client`], and polls it for data to send,
//! for [`Event`]s and for the next deadline. Until the data channel is open, and if it never opens, the websocket
//! carries all messages.
//!
//! If the websocket is lost, the client requests another with [`Message::Connect`] and resumes its session if it still
//! exists, or else joins again ([`Event::Joined`] again). A data channel that fails is offered again from time to time.
//!
//! In a cluster, the server may name another one that has the room: [`Message::Connect`] then has its URL
//! ([`Destination::Url`]).

mod comeback;
mod inputs;
mod redirect;
mod reliable;
mod session;
mod states;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde::Serialize;

use self::comeback::Comeback;
pub use self::redirect::Destination;
use self::reliable::ReliableLane;
use self::session::{Offer, Ticket, Websocket};
use self::stream::Stream;
use crate::limits;
use crate::peer::{self, Identity, LocalId, Outbox, Peer, Sent, Stages, Transmit};
use crate::wire::Inflater;
use crate::wire::codes::Leave;
use crate::wire::delta::Received;
use crate::wire::frame::{self, Direction, Frame, Header, Kind, Reassembler, Transport};
use crate::wire::msgpack::{self, SendError};

/// The configuration of a client. Start from [`Config::new`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The seed of the client's random numbers, from the operating system's generator or from a test.
    pub seed: [u8; 32],
    /// The room to join, if the websocket's URL does not name it.
    pub room: Option<String>,
    /// The display name.
    pub name: String,
    /// The `data` to pass to the game.
    pub data: serde_json::Value,
    /// The bearer token, for a server that requires one.
    pub bearer: Option<String>,
    /// Local UDP addresses, by their [`LocalId`]. Without any, the websocket carries all messages.
    pub locals: Vec<SocketAddr>,
}

impl Config {
    /// Returns a configuration without name, data and UDP addresses.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Config {
        Config {
            seed,
            room: None,
            name: String::new(),
            data: serde_json::Value::Null,
            bearer: None,
            locals: Vec::new(),
        }
    }
}

/// An instruction for the client's websocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Drop the websocket (if it is open, not with close code 1000) and open another to this destination. Later
    /// messages are for the new one. Do not pass anything received on the old one to the client any more. If the new
    /// one can't be opened, call [`Client::handle_disconnect`].
    Connect(Destination),
    /// Send signaling as a text message.
    Text(String),
    /// Send a game frame as a binary message.
    Binary(Vec<u8>),
    /// Close the websocket with code 1000.
    Close,
}

/// An input that the room fanned out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FannedOut {
    /// The number of the sender.
    pub player: u32,
    /// The sequence number of the input.
    pub number: u32,
    /// The input, one msgpack value.
    pub value: Vec<u8>,
}

/// An event of a client.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The player has joined. Emitted again if the websocket was lost and the server no longer knows the session; the
    /// client is then a new player and starts over.
    Joined {
        /// The player's number.
        player: u32,
        /// The game's welcome message.
        welcome: serde_json::Value,
    },
    /// The join was refused.
    Refused {
        /// The error code, see [`crate::wire::codes`].
        code: String,
        /// The reason as a sentence.
        message: String,
    },
    /// The websocket was lost; the client tries to reconnect.
    Dropped,
    /// The session was resumed as the same player; the reliable lane continues without loss.
    Resumed,
    /// The data channel is open.
    Open,
    /// The data channel was closed or did not open; the websocket carries all frames. Emitted once until the channel is
    /// open again, even if further attempts fail.
    ChannelClosed {
        /// The reason as a sentence.
        message: String,
    },
    /// A state, newer than all before.
    State {
        /// The tick of the state.
        tick: u32,
        /// The number, as [`Client::send`] returned it, of this player's newest input that the game had taken by then.
        consumed: u32,
        /// The state, one msgpack value.
        value: Vec<u8>,
    },
    /// The inputs of a tick. Emitted once for each tick, in order.
    Tick {
        /// The number of the tick.
        tick: u32,
        /// The inputs of all players.
        inputs: Vec<FannedOut>,
    },
    /// Ticks that the server no longer keeps. The next tick follows.
    TicksLost {
        /// The number of lost ticks.
        count: u32,
    },
    /// An event of the game.
    Event {
        /// The tick of the event.
        tick: u32,
        /// The event, one msgpack value.
        value: Vec<u8>,
        /// Whether it was sent on the reliable lane.
        reliable: bool,
    },
    /// Another player has joined.
    PlayerJoined {
        /// The player's number.
        player: u32,
        /// The player's display name.
        name: String,
    },
    /// The game has given a player another name, who may be this player.
    PlayerRenamed {
        /// The player's number.
        player: u32,
        /// The player's display name from now on.
        name: String,
    },
    /// Another player has left.
    PlayerLeft {
        /// The player's number.
        player: u32,
        /// The reason, see [`crate::wire::codes::Leave`].
        reason: String,
    },
    /// The connection has ended: the server removed the player, or reconnecting failed for too long. No event follows.
    /// Drop the websocket if it is still open.
    Closed {
        /// The close code of the last websocket, see [`crate::wire::codes`]; 1006 without one (RFC 6455 §7.4.1).
        code: u16,
        /// The reason as a sentence.
        reason: String,
    },
}

/// The connection state of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waiting for the reply to `join`.
    Signaling,
    /// In the room, with the data channel opening; the websocket carries all messages meanwhile.
    Connecting,
    /// Playing, over the data channel or, if none could be opened, over the websocket.
    Open,
    /// The websocket is lost. An open data channel continues.
    Dropped,
    /// Connected again and waiting for the reply.
    Resuming,
    /// The connection has ended.
    Closed,
}

/// Measurements of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// The last round-trip time in milliseconds; 0 until measured.
    pub rtt_ms: f64,
    /// Unreliable frames received.
    pub frames: u64,
    /// Gaps in their sequence numbers: frames lost or still in transit.
    pub missing: u64,
    /// Frames received after one with a newer sequence number.
    pub late_frames: u64,
    /// Duplicates of received frames. They are ignored and not counted elsewhere.
    pub duplicate_frames: u64,
    /// States received after a newer one.
    pub stale_states: u64,
    /// States whose delta is against one that the client does not hold. They are dropped; the next ones are not.
    pub unrestored_states: u64,
    /// Frames that could not be decoded.
    pub bad_frames: u64,
    /// Frames dropped because they could not be sent at once.
    pub dropped_frames: u64,
}

/// The interval at which missed ticks are requested again.
const TICKS_REPEAT: Duration = Duration::from_secs(1);

const COMMAND_BYTES: usize = limits::RELIABLE_UP_BYTES - limits::RELIABLE_HEADER_BYTES;

/// The native client.
pub struct Client {
    config: Config,
    slow_path: bool,
    identity: Identity,
    rng: ChaCha20Rng,
    locals: Vec<(LocalId, SocketAddr)>,
    started: Instant,
    now: Instant,
    websocket: Websocket,
    comeback: Comeback,
    ticket: Option<Ticket>,
    peer: Option<Peer>,
    /// An offer without an answer so far.
    offer: Option<Offer>,
    requests: u32,
    /// Consecutive failures. Reset by a channel that was open for long.
    failed_offers: u32,
    opened_at: Option<Instant>,
    offer_at: Option<Instant>,
    is_obstacle_told: bool,
    outbox: Outbox,
    /// The states received on the data channel.
    stream: Stream,
    messages: VecDeque<Message>,
    events: VecDeque<Event>,
    others: BTreeMap<u32, String>,
    next_seq: u16,
    reliable: ReliableLane,
    next_input: u32,
    /// Number, stamp and value of each.
    unacknowledged: VecDeque<(u32, u16, Vec<u8>)>,
    render_tick: Option<f64>,
    last_input_packet: Option<Instant>,
    /// Inputs that no packet has carried, and their bytes.
    unsent_inputs: usize,
    unsent_bytes: usize,
    /// Packets that left early since the last in time.
    ahead: u32,
    newest_tick: u32,
    tick_length: Option<Duration>,
    states: Received,
    /// States received since the last frame was sent.
    unreported_states: u32,
    newest_seq: Option<u16>,
    /// Which of the 64 frames up to the newest have arrived: bit n stands for the frame n before it.
    seen: u64,
    next_tick: Option<u32>,
    ticks: BTreeMap<u32, Vec<FannedOut>>,
    asked_for_ticks: Option<Instant>,
    next_ping: Instant,
    reassembler: Reassembler,
    inflater: Inflater,
    stats: Stats,
}

impl Client {
    /// Returns a client that asks to join at once. Its messages wait if the websocket is not open yet.
    ///
    /// # Panics
    /// The operating system has no random numbers for a DTLS key.
    #[must_use]
    pub fn new(config: Config, now: Instant) -> Client {
        let mut client = Client {
            rng: ChaCha20Rng::from_seed(config.seed),
            identity: Identity::generate(),
            locals: (0..).map(LocalId).zip(config.locals.iter().copied()).collect(),
            config,
            slow_path: false,
            started: now,
            now,
            websocket: Websocket::Waiting { until: now },
            comeback: Comeback::new(now),
            ticket: None,
            peer: None,
            offer: None,
            requests: 0,
            failed_offers: 0,
            opened_at: None,
            offer_at: None,
            is_obstacle_told: false,
            outbox: Outbox::default(),
            stream: Stream::default(),
            messages: VecDeque::new(),
            events: VecDeque::new(),
            others: BTreeMap::new(),
            next_seq: 0,
            reliable: ReliableLane::new(0, 1),
            next_input: 1,
            unacknowledged: VecDeque::new(),
            render_tick: None,
            last_input_packet: None,
            unsent_inputs: 0,
            unsent_bytes: 0,
            ahead: 0,
            newest_tick: 0,
            tick_length: None,
            states: Received::new(0),
            unreported_states: 0,
            newest_seq: None,
            seen: 0,
            next_tick: None,
            ticks: BTreeMap::new(),
            asked_for_ticks: None,
            next_ping: now,
            reassembler: Reassembler::default(),
            inflater: Inflater::new(),
            stats: Stats::default(),
        };
        client.ask_to_join(now + session::JOIN_PATIENCE, 0);
        client
    }

    /// Passes every datagram through str0m: the slow path, for comparison in tests.
    #[doc(hidden)]
    pub fn take_slow_path(&mut self) {
        self.slow_path = true;
        if let Some(offer) = &mut self.offer {
            offer.peer.take_slow_path();
        }
    }

    /// Returns the measurements.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Returns the connection state.
    #[must_use]
    pub fn status(&self) -> Status {
        let is_connecting = self.offer.is_some() || self.peer.as_ref().is_some_and(|peer| !peer.is_open());
        match (&self.websocket, &self.ticket) {
            (Websocket::Closed, _) => Status::Closed,
            (_, None) => Status::Signaling,
            (Websocket::Asking { .. }, _) => Status::Resuming,
            (Websocket::Waiting { .. }, _) => Status::Dropped,
            (Websocket::Attached { .. }, _) if is_connecting && !self.is_obstacle_told => Status::Connecting,
            (Websocket::Attached { .. }, _) => Status::Open,
        }
    }

    /// Returns the names of the other players in the room, by number.
    #[must_use]
    pub fn others(&self) -> &BTreeMap<u32, String> {
        &self.others
    }

    /// Returns the `socketId` of the player's session, after joining. A player who joins again, because the session is
    /// no longer known, keeps it if a server of the same cluster had the session.
    #[must_use]
    pub fn socket_id(&self) -> Option<&str> {
        self.ticket.as_ref().map(|ticket| ticket.socket_id.as_str())
    }

    /// Returns whether the data channel is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.peer.as_ref().is_some_and(Peer::is_open)
    }

    /// Returns how far the data channel has come, and when. Restarts with a new channel.
    #[must_use]
    pub fn stages(&self) -> Stages {
        self.peer.as_ref().map(Peer::stages).unwrap_or_default()
    }

    /// Returns the length of the room's ticks, after joining.
    #[must_use]
    pub fn tick_length(&self) -> Option<Duration> {
        self.tick_length
    }

    /// Returns the number of inputs that are not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Handles a text message received on the websocket.
    pub fn handle_text(&mut self, now: Instant, text: &str) {
        self.now = now;
        if !self.hear_websocket() {
            return;
        }
        if self.read_signaling(text).is_err() {
            log::warn!("signaling of the server can't be decoded and is ignored");
        }
        self.settle();
    }

    /// Handles a binary message received on the websocket.
    pub fn handle_binary(&mut self, now: Instant, bytes: &[u8]) {
        self.now = now;
        if self.hear_websocket() {
            self.handle_frame(bytes, Transport::WebSocket);
            self.flush_reliable();
        }
    }

    /// Handles the end of the websocket, or a failure to open it. `code` and `reason` are those of its close frame, or
    /// 1006 (RFC 6455 §7.4.1) and the caller's description without one.
    pub fn handle_disconnect(&mut self, now: Instant, code: u16, reason: &str) {
        self.now = now;
        if self.has_websocket() {
            self.lose_websocket(code, reason);
        }
    }

    /// Handles a datagram received at `local` from `source`.
    pub fn handle_datagram(&mut self, now: Instant, local: LocalId, source: SocketAddr, bytes: &[u8]) {
        self.now = now;
        if let Some(peer) = &mut self.peer {
            peer.handle_datagram(now, local, source, bytes, &mut self.outbox);
        }
        self.settle();
    }

    /// Handles the deadline of [`Client::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.watch_websocket();
        if let Some(peer) = self.peer.as_mut().filter(|peer| peer.poll_timeout().is_some_and(|at| at <= now)) {
            peer.handle_timeout(now, &mut self.outbox);
        }
        self.settle();
        if self.is_in() {
            if self.stream_stops_at().is_some_and(|at| at <= now) {
                self.doubt_channel();
            }
            if self.input_packet_at().is_some_and(|at| at <= now) {
                self.ahead = 0;
                self.send_inputs();
            }
            if self.next_ping <= now {
                // On a fixed grid per client, or clients of one process that were late together would stay
                // synchronised.
                self.next_ping = (self.next_ping + limits::PING_INTERVAL).max(now);
                self.send_ping();
            }
            if self.offer_at.is_some_and(|at| at <= now) {
                self.offer_again();
            }
            self.ask_for_ticks();
            self.flush_reliable();
        }
    }

    /// Sends an input on the unreliable lane and returns its number. The input is repeated until acknowledged or
    /// [`limits::INPUT_WINDOW`] newer inputs follow; the game gets it at most once, in order.
    ///
    /// # Errors
    /// Encoded, the input exceeds [`limits::INPUT_BYTES`], or it cannot be encoded.
    pub fn send(&mut self, now: Instant, input: &impl Serialize) -> Result<u32, SendError> {
        let value = msgpack::encode(input, limits::INPUT_BYTES)?;
        Ok(self.send_value(now, value))
    }

    /// Sends an input that is already encoded as one msgpack value.
    ///
    /// # Errors
    /// The input exceeds [`limits::INPUT_BYTES`] or is not a valid msgpack value.
    pub fn send_encoded(&mut self, now: Instant, input: &[u8]) -> Result<u32, SendError> {
        msgpack::check_encoded(input, limits::INPUT_BYTES)?;
        Ok(self.send_value(now, input.to_vec()))
    }

    /// Sends a command on the reliable lane. It reaches the game in order, also across reconnects. If the server has
    /// forgotten the session, commands that it has not received are lost.
    ///
    /// # Errors
    /// With its header, the command exceeds [`limits::RELIABLE_UP_BYTES`]; it cannot be encoded; or
    /// [`limits::UNACKNOWLEDGED_BYTES`] are already waiting.
    pub fn command(&mut self, now: Instant, command: &impl Serialize) -> Result<(), SendError> {
        let body = msgpack::encode(command, COMMAND_BYTES)?;
        self.command_value(now, &body)
    }

    /// Sends a command that is already encoded as one msgpack value.
    ///
    /// # Errors
    /// As for [`Client::command`], or the value is not valid msgpack.
    pub fn command_encoded(&mut self, now: Instant, command: &[u8]) -> Result<(), SendError> {
        msgpack::check_encoded(command, COMMAND_BYTES)?;
        self.command_value(now, command)
    }

    fn command_value(&mut self, now: Instant, body: &[u8]) -> Result<(), SendError> {
        self.now = now;
        if !self.reliable.has_room_for(body.len()) {
            return Err(SendError::Backlog);
        }
        self.send_reliable(Kind::Command, body);
        Ok(())
    }

    /// Leaves the room and closes the connection.
    pub fn leave(&mut self, now: Instant) {
        self.now = now;
        if matches!(self.websocket, Websocket::Asking { .. } | Websocket::Attached { .. }) {
            self.messages.push_back(Message::Text(r#"{"a":"leave"}"#.to_owned()));
            self.messages.push_back(Message::Close);
        }
        self.close(Leave::Left.close_code(), Leave::Left.as_str());
    }

    /// Returns the next datagram to send, valid until the next call.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.outbox.poll()
    }

    /// Returns the next instruction for the websocket.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when to call [`Client::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let websocket = match self.websocket {
            Websocket::Asking { until, .. } | Websocket::Waiting { until } => until,
            Websocket::Attached { heard, .. } => self.websocket_silent_from(heard),
            Websocket::Closed => return None,
        };
        let peer = self.peer.as_ref().and_then(Peer::poll_timeout);
        let ping = self.is_in().then_some(self.next_ping);
        let stream = self.stream_stops_at();
        let offer = self.offer_at.filter(|_| self.is_in());
        let reliable = self.reliable.poll_timeout();
        [Some(websocket), peer, ping, stream, offer, reliable, self.input_packet_at()].into_iter().flatten().min()
    }

    fn clock_ms(&self) -> f64 {
        (self.now - self.started).as_secs_f64() * 1000.0
    }

    /// Returns whether the data channel carries frames. A channel without delivery is not used while the websocket is
    /// alive.
    fn channel_carries(&self) -> bool {
        let Some(peer) = self.peer.as_ref().filter(|peer| peer.is_open()) else { return false };
        let Some(silence) = peer.silence().filter(|silence| self.now >= silence.from) else { return true };
        let is_passed_by = matches!(self.websocket, Websocket::Attached { heard, .. }
            if heard >= silence.doubted_from && self.now < heard + 2 * limits::HEARTBEAT_INTERVAL);
        !is_passed_by
    }

    fn stream_stops_at(&self) -> Option<Instant> {
        self.stream.stops_at().filter(|_| self.is_open() && matches!(self.websocket, Websocket::Attached { .. }))
    }

    /// Handles a stop in the stream of states: probes both transports. The server takes a ping on the websocket as a
    /// report that the data channel is silent.
    fn doubt_channel(&mut self) {
        self.stream = Stream::default();
        if let Some(peer) = &mut self.peer {
            peer.doubt(self.now);
        }
        let body = msgpack::encode_clock(self.clock_ms());
        self.send_over(false, Kind::Ping, &body);
    }

    fn send_unreliable(&mut self, kind: Kind, body: &[u8]) {
        let over_channel = self.channel_carries();
        self.send_over(over_channel, kind, body);
    }

    fn send_over(&mut self, channel: bool, kind: Kind, body: &[u8]) {
        self.unreported_states = 0;
        let ack = self.states.acknowledgement();
        for frame in frame::split(kind, false, body, self.next_seq, ack) {
            self.next_seq = self.next_seq.wrapping_add(1);
            let mut bytes = Vec::with_capacity(limits::FRAME_BYTES);
            frame.encode(&mut bytes);
            let is_dropped = match (&mut self.peer, &self.websocket) {
                (Some(peer), _) if channel => peer.send(self.now, &bytes, &mut self.outbox) == Sent::Dropped,
                (_, Websocket::Attached { .. }) => {
                    self.messages.push_back(Message::Binary(bytes));
                    false
                }
                _ => true,
            };
            self.stats.dropped_frames += u64::from(is_dropped);
        }
    }

    fn send_ping(&mut self) {
        let body = msgpack::encode_clock(self.clock_ms());
        self.send_unreliable(Kind::Ping, &body);
    }

    fn send_reliable(&mut self, kind: Kind, body: &[u8]) {
        let tick = self.newest_tick;
        self.reliable.push(|seq| {
            let mut bytes = Vec::with_capacity(limits::RELIABLE_HEADER_BYTES + body.len());
            Frame { kind, deflated: false, header: Header::Reliable { seq, tick }, body }.encode(&mut bytes);
            bytes
        });
        self.flush_reliable();
    }

    fn flush_reliable(&mut self) {
        self.messages.extend(self.reliable.poll(self.now).into_iter().map(Message::Binary));
    }

    /// Acknowledges reliable messages, if there are new ones.
    fn acknowledge_reliable(&mut self) {
        let Some(newest) = self.reliable.poll_acknowledgement() else { return };
        let header = Header::Reliable { seq: 0, tick: self.newest_tick };
        let body = msgpack::encode_ack(newest);
        let mut bytes = Vec::new();
        Frame { kind: Kind::Ack, deflated: false, header, body: &body }.encode(&mut bytes);
        self.messages.push_back(Message::Binary(bytes));
    }

    fn settle(&mut self) {
        while let Some(event) = self.peer.as_mut().and_then(Peer::poll_event) {
            match event {
                peer::Event::Open => {
                    self.opened_at = Some(self.now);
                    self.is_obstacle_told = false;
                    self.events.push_back(Event::Open);
                    self.next_ping = self.now;
                }
                peer::Event::Data(frame) => self.handle_frame(&frame, Transport::DataChannel),
                peer::Event::Closed(why) => self.lose_peer(why.to_string()),
            }
        }
    }

    fn handle_frame(&mut self, bytes: &[u8], transport: Transport) {
        if self.read_frame(bytes, transport).is_none() {
            self.stats.bad_frames += 1;
        }
    }

    fn read_frame(&mut self, bytes: &[u8], transport: Transport) -> Option<()> {
        let frame = Frame::parse(bytes, Direction::Down, transport).ok()?;
        let mut newest_ack = 0;
        let mut body = match frame.header {
            Header::Reliable { seq, .. } => {
                if frame.kind != Kind::Ack && !self.reliable.receive(seq) {
                    return Some(());
                }
                frame.body.to_vec()
            }
            Header::Unreliable { seq, ack, .. } => {
                if !self.count_frame(seq) {
                    return Some(());
                }
                self.acknowledge(ack);
                newest_ack = ack;
                let Some(body) = self.reassembler.push(&frame) else { return Some(()) };
                if transport == Transport::DataChannel && matches!(frame.kind, Kind::State | Kind::Tick) {
                    self.stream.handle_arrival(self.now);
                }
                body
            }
        };
        if frame.deflated {
            let mut inflated = Vec::new();
            self.inflater.inflate(&body, frame.inflated_limit(Direction::Down), &mut inflated).ok()?;
            body = inflated;
        }
        self.read_body(frame.kind, &body, newest_ack)
    }

    fn read_body(&mut self, kind: Kind, body: &[u8], ack: u16) -> Option<()> {
        match kind {
            Kind::State => self.read_state(body, ack)?,
            Kind::Event | Kind::ReliableEvent => {
                let (tick, value) = msgpack::decode_at_tick(body).ok()?;
                let reliable = kind.is_reliable();
                self.events.push_back(Event::Event { tick, value: value.to_vec(), reliable });
            }
            Kind::Tick => {
                let (newest, window) = msgpack::decode_ticks(body).ok()?;
                self.newest_tick = self.newest_tick.max(newest);
                for (tick, inputs) in (0..=newest).rev().zip(window) {
                    self.note_tick(tick, &inputs);
                }
                self.deliver_ticks();
                self.ask_for_ticks();
            }
            Kind::Ticks => {
                self.asked_for_ticks = None;
                let answer = msgpack::decode_ticks(body);
                // An answer that cannot be decoded would be the same if requested again: its ticks are lost.
                let first = answer.as_ref().map_or(u32::MAX, |&(first, _)| first);
                self.lose_ticks_before(first);
                let (first, ticks) = answer.ok()?;
                for (tick, inputs) in (first..=u32::MAX).zip(ticks) {
                    self.note_tick(tick, &inputs);
                }
                self.deliver_ticks();
            }
            Kind::Ping => {
                let clock = msgpack::decode_clock(body).ok()?;
                self.send_unreliable(Kind::Pong, &msgpack::encode_clock(clock));
            }
            Kind::Pong => self.stats.rtt_ms = self.clock_ms() - msgpack::decode_clock(body).ok()?,
            Kind::Ack => {
                self.reliable.forget(msgpack::decode_ack(body).ok()?);
                self.acknowledge_reliable();
            }
            Kind::Input | Kind::Command => return None,
        }
        Some(())
    }

    /// Returns whether the frame arrived for the first time, as far as is remembered.
    fn count_frame(&mut self, seq: u16) -> bool {
        let newest = *self.newest_seq.get_or_insert_with(|| seq.wrapping_sub(1));
        if frame::is_newer(seq, newest) {
            let ahead = seq.wrapping_sub(newest);
            self.stats.missing += u64::from(ahead - 1);
            self.seen = self.seen.checked_shl(ahead.into()).unwrap_or(0) | 1;
            self.newest_seq = Some(seq);
        } else {
            let bit = 1_u64.checked_shl(newest.wrapping_sub(seq).into()).unwrap_or(0);
            if self.seen & bit != 0 {
                self.stats.duplicate_frames += 1;
                return false;
            }
            self.seen |= bit;
            self.stats.missing = self.stats.missing.saturating_sub(1);
            self.stats.late_frames += 1;
        }
        self.stats.frames += 1;
        true
    }

    fn acknowledge(&mut self, consumed: u16) {
        #[expect(clippy::cast_possible_truncation, reason = "acknowledgements count mod 2¹⁶")]
        let is_done = |number: u32| !frame::is_newer(number as u16, consumed);
        while self.unacknowledged.front().is_some_and(|&(number, ..)| is_done(number)) {
            self.unacknowledged.pop_front();
        }
    }

    fn note_tick(&mut self, tick: u32, inputs: &[msgpack::FannedOut<'_>]) {
        let is_full = self.ticks.len() >= limits::TICKS_PER_REQUEST as usize;
        if self.next_tick.is_none_or(|next| tick < next || (is_full && tick != next)) {
            return;
        }
        self.ticks.entry(tick).or_insert_with(|| {
            let own = |input: &msgpack::FannedOut<'_>| FannedOut {
                player: input.player,
                number: input.number,
                value: input.value.to_vec(),
            };
            inputs.iter().map(own).collect()
        });
    }

    /// Gives up the ticks before `first`, which the server no longer keeps, and delivers those received after them.
    fn lose_ticks_before(&mut self, first: u32) {
        let Some((&held, _)) = self.ticks.first_key_value() else { return };
        let oldest = held.min(first);
        if let Some(next) = self.next_tick.filter(|&next| next < oldest) {
            self.events.push_back(Event::TicksLost { count: oldest - next });
            self.next_tick = Some(oldest);
            self.deliver_ticks();
        }
    }

    fn deliver_ticks(&mut self) {
        while let Some(tick) = self.next_tick {
            let Some(inputs) = self.ticks.remove(&tick) else { return };
            self.next_tick = Some(tick + 1);
            self.events.push_back(Event::Tick { tick, inputs });
        }
    }

    /// Requests ticks that the windows of later ticks did not contain.
    fn ask_for_ticks(&mut self) {
        let (Some(next), Some((&known, _))) = (self.next_tick, self.ticks.first_key_value()) else { return };
        if self.asked_for_ticks.is_some_and(|asked| self.now - asked < TICKS_REPEAT) {
            return;
        }
        self.asked_for_ticks = Some(self.now);
        self.send_reliable(Kind::Ticks, &msgpack::encode_range(next, known - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        let config = Config {
            seed: [1; 32],
            room: None,
            name: String::new(),
            data: serde_json::Value::Null,
            bearer: None,
            locals: Vec::new(),
        };
        Client::new(config, now)
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_lost_at_once_and_ticks_go_on() {
        let mut client = client();
        client.events.clear();
        client.next_tick = Some(5);
        client.note_tick(8, &[]);
        client.asked_for_ticks = Some(client.now);
        assert_eq!(client.read_body(Kind::Ticks, &[0x92, 5, 0xc1], 0), None);
        let expected = [Event::TicksLost { count: 3 }, Event::Tick { tick: 8, inputs: Vec::new() }];
        assert_eq!(client.events, expected);
        assert_eq!((client.next_tick, client.asked_for_ticks), (Some(9), None));
    }

    #[test]
    fn a_frame_counts_once_and_a_gap_until_it_closes() {
        let mut client = client();
        // Around the end of what 16 bits count: two come twice, 1 comes late, 3 and those from 6 to 105 never.
        let come = [0xfffe, 0xffff, 0xffff, 0, 2, 1, 2, 4, 5, 106, 5, 106];
        let is_first: Vec<bool> = come.into_iter().map(|seq| client.count_frame(seq)).collect();
        let expected = [true, true, false, true, true, true, false, true, true, true, true, false];
        assert_eq!(is_first, expected, "5 is longer ago than what is remembered");
        let Stats { frames, missing, late_frames, duplicate_frames, .. } = client.stats();
        assert_eq!((frames, missing, late_frames, duplicate_frames), (9, 100, 2, 3));
    }
}
