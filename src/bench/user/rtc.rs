//! A player of an rtcade server: the native client with its own sockets.
//!
//! Metrics, all measured at the user, from the [intended time](crate::bench::generator) of the step if a step caused
//! them:
//!
//! - `rtc.signal`: until the user has joined. `rtc.ice`: until ICE found a path for the data channel. `rtc.dtls`: until
//!   the DTLS handshake completed. `rtc.open`: until the data channel opened.
//! - `rtc.echo`, for measured inputs: until the user knows that the game has the input. If the room fans out inputs,
//!   this is the user's own input in a tick, otherwise the acknowledgement in any frame. For commands: until an event
//!   with the same value. An echo that is missing after [`GRACE`] or at the end counts as `rtc.echoes_lost`, but is
//!   still recorded if it arrives later.
//! - `rtc.age`, of states and ticks: the delay relative to the fastest one, each measured from the start of its tick:
//!   (receipt − tick × tick length) − the minimum of this user so far. The fastest one counts as 0; a constant delay is
//!   not visible.
//! - `rtc.jitter`, of states and ticks: the difference in delay between consecutive ones, measured as above (RFC 3550
//!   §6.4.1, before smoothing).
//! - `rtc.tick_gap`: the time between consecutive states or ticks.
//! - `rtc.received`: frames over the data channel; `rtc.received_by_websocket`: frames of the unreliable lane over the
//!   websocket, while the channel was not open. `rtc.lost`: gaps in the sequence numbers that remain after [`GRACE`].
//!   `rtc.reordered`: frames after a newer one. `rtc.duplicates`: repeated frames, not counted otherwise.
//! - `rtc.reconnect`: from the loss of the websocket until the user is in the room again, including the client's
//!   back-off. `rtc.rejoined`: users who joined anew for that, because their session was no longer known;
//!   `rtc.identities_lost`: those of them who got another `socketId`.
//! - `rtc.bytes_up`, `rtc.bytes_down`: bytes of datagrams and of websocket messages, without headers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mio::Token;
use serde_json::Value;

use super::udp::Udp;
use super::{ECHOES, Happened, Thread, Turn};
use crate::bench::meters::{Count, Time};
use crate::bench::script::Said;
use crate::bench::websocket::{Brought, WebSocket};
use crate::client::{Client, Config, Destination, Event, Message, Stats, Status};
use crate::peer::{LocalId, Stages};
use crate::wire::msgpack::SendError;

/// The delay after which a message counts as lost.
const GRACE: Duration = Duration::from_secs(2);
/// How often losses are determined.
const LOSS_INTERVAL: Duration = Duration::from_millis(500);
const LOSS_SNAPSHOTS: usize = (GRACE.as_millis() / LOSS_INTERVAL.as_millis()) as usize;

const LOCAL: LocalId = LocalId(0);

/// The parameters of a join.
pub(super) struct Join {
    pub(super) room: Option<String>,
    pub(super) name: String,
    pub(super) data: Value,
    pub(super) bearer: Option<String>,
}

/// An expected echo.
struct Echo<T> {
    what: T,
    intended: Instant,
    is_counted_lost: bool,
}

pub(super) struct Rtc {
    client: Client,
    udp: Udp,
    websocket: WebSocket,
    websocket_token: Token,
    url: String,
    joined_at: Instant,
    player: Option<u32>,
    /// The `socketId` of the user.
    identity: Option<String>,
    stages: Stages,
    has_told_open: bool,
    is_leaving: bool,
    inputs: VecDeque<Echo<u32>>,
    commands: VecDeque<Echo<Value>>,
    newest_input: u32,
    unacknowledged: usize,
    fans_out: bool,
    newest_tick_at: Option<Instant>,
    least_transit: Option<f64>,
    last_transit: Option<f64>,
    losses: Losses,
    counted: Stats,
    lost_at: Option<Instant>,
}

impl Rtc {
    /// Starts to join; `intended` is when this was due.
    pub(super) fn join(
        intended: Instant,
        number: u64,
        token: Token,
        join: Join,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Rtc, &'static str> {
        let target = turn.thread.target;
        let udp = Udp::bind(number, token, turn)?;
        let url = match &join.room {
            Some(room) if target.path == "/" => target.url("ws", &format!("/r/{room}")),
            _ => target.url("ws", &target.path),
        };
        let websocket_token = Token(token.0 + 1);
        let websocket = WebSocket::connect(&turn.thread.registry, websocket_token, target, &url)?;
        let config = Config {
            seed: turn.thread.seed_of(number),
            room: join.room,
            name: join.name,
            data: join.data,
            bearer: join.bearer,
            locals: vec![udp.local_addr()?],
        };
        let mut rtc = Rtc {
            client: Client::new(config, turn.now),
            udp,
            websocket,
            websocket_token,
            url,
            joined_at: intended,
            player: None,
            identity: None,
            stages: Stages::default(),
            has_told_open: false,
            is_leaving: false,
            inputs: VecDeque::new(),
            commands: VecDeque::new(),
            newest_input: 0,
            unacknowledged: 0,
            fans_out: false,
            newest_tick_at: None,
            least_transit: None,
            last_transit: None,
            losses: Losses::new(turn.now),
            counted: Stats::default(),
            lost_at: None,
        };
        rtc.settle(turn);
        Ok(rtc)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let losses = (!self.is_leaving).then_some(self.losses.next);
        [self.client.poll_timeout(), self.udp.poll_timeout(), losses].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_, '_>) {
        if self.client.poll_timeout().is_some_and(|at| at <= turn.now) {
            self.client.handle_timeout(turn.now);
        }
        self.settle(turn);
    }

    /// Returns whether more datagrams may wait.
    pub(super) fn handle_datagrams(&mut self, turn: &mut Turn<'_, '_>) -> bool {
        let (now, client) = (turn.now, &mut self.client);
        let has_more = self.udp.receive(turn, |remote, bytes| client.handle_datagram(now, LOCAL, remote, bytes));
        self.settle(turn);
        has_more
    }

    /// Returns whether more messages may wait.
    pub(super) fn handle_websocket(&mut self, turn: &mut Turn<'_, '_>) -> bool {
        let (client, is_leaving) = (&mut self.client, self.is_leaving);
        let mut bytes_down = 0;
        let mut frames = 0;
        let mut closed = None;
        let has_more = self.websocket.handle_ready(|brought| match brought {
            Brought::Open => {}
            Brought::Text(text) => {
                bytes_down += text.len();
                client.handle_text(turn.now, &text);
            }
            Brought::Binary(bytes) => {
                bytes_down += bytes.len();
                let before = client.stats().frames;
                client.handle_binary(turn.now, &bytes);
                frames += client.stats().frames - before;
            }
            Brought::Closed { .. } if is_leaving => turn.tell(Happened::Gone),
            Brought::Closed { code, reason, error } => {
                let is_joining = client.status() == Status::Signaling;
                client.handle_disconnect(turn.now, code, &reason);
                if is_joining && code == 1006 && client.status() == Status::Closed {
                    turn.tell(Happened::Failed(error.to_owned()));
                }
                closed = Some(code);
            }
        });
        if let Some(code) = closed.filter(|_| self.player.is_some() && self.lost_at.is_none()) {
            turn.count(&format!("rtc.dropped_by_code.{code}"));
        }
        if frames > 0 {
            turn.add(Count::ReceivedByWebsocket, frames);
            self.counted.frames += frames;
        }
        turn.add(Count::BytesDown, bytes_down as u64);
        self.settle(turn);
        has_more
    }

    /// Sends an input. If `intended` is given, its echo is measured from then.
    pub(super) fn send(
        &mut self,
        value: &Value,
        intended: Option<Instant>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), &'static str> {
        let number = self.client.send(turn.now, value).map_err(send_error)?;
        self.note_sent(number, intended, turn);
        Ok(())
    }

    /// Sends a command. If `intended` is given, its echo is measured from then.
    pub(super) fn command(
        &mut self,
        value: Value,
        intended: Option<Instant>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), &'static str> {
        self.client.command(turn.now, &value).map_err(send_error)?;
        if let Some(intended) = intended.filter(|_| self.commands.len() < ECHOES) {
            self.commands.push_back(Echo { what: value, intended, is_counted_lost: false });
        }
        turn.add(Count::Commands, 1);
        self.settle(turn);
        Ok(())
    }

    /// Sends a message of a recording. If `intended` is given, the echo of an input is measured from then.
    pub(super) fn say_again(
        &mut self,
        said: &Said,
        intended: Option<Instant>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), &'static str> {
        if said.is_command {
            self.client.command_encoded(turn.now, &said.value).map_err(send_error)?;
            turn.add(Count::Commands, 1);
            self.settle(turn);
        } else {
            let number = self.client.send_encoded(turn.now, &said.value).map_err(send_error)?;
            self.note_sent(number, intended, turn);
        }
        Ok(())
    }

    fn note_sent(&mut self, number: u32, intended: Option<Instant>, turn: &mut Turn<'_, '_>) {
        self.newest_input = number;
        self.unacknowledged = self.client.unacknowledged();
        if let Some(intended) = intended {
            self.note_lost_echoes(self.inputs.len() >= ECHOES, turn);
            self.inputs.push_back(Echo { what: number, intended, is_counted_lost: false });
        }
        turn.add(Count::Sent, 1);
        self.settle(turn);
    }

    /// Drops the websocket, like a change of networks; the client reconnects by itself.
    pub(super) fn reconnect(&mut self, intended: Instant, turn: &mut Turn<'_, '_>) {
        self.lost_at = Some(intended);
        self.websocket = WebSocket::none();
        self.client.handle_disconnect(turn.now, 1006, "The load test broke it off.");
        self.settle(turn);
    }

    pub(super) fn leave(&mut self, turn: &mut Turn<'_, '_>) {
        if std::mem::replace(&mut self.is_leaving, true) {
            return;
        }
        let lost = self.losses.settle(self.client.stats().missing);
        turn.add(Count::Lost, lost);
        let is_late = |intended: Instant| turn.now >= intended + GRACE;
        let waiting = self.inputs.iter().filter(|echo| !echo.is_counted_lost && is_late(echo.intended)).count()
            + self.commands.iter().filter(|echo| !echo.is_counted_lost && is_late(echo.intended)).count();
        turn.add(Count::EchoesLost, waiting as u64);
        self.client.leave(turn.now);
        self.settle(turn);
        if self.websocket.is_closed() {
            turn.tell(Happened::Gone);
        }
    }

    /// Processes the output of the client.
    fn settle(&mut self, turn: &mut Turn<'_, '_>) {
        let (now, client) = (turn.now, &mut self.client);
        self.udp.pass(now, |remote, bytes| client.handle_datagram(now, LOCAL, remote, bytes));
        self.note_stages(turn);
        while let Some(event) = self.client.poll_event() {
            self.note(event, turn);
        }
        self.note_acknowledgements(turn);
        self.note_stats(turn);
        let mut bytes_up = 0;
        if let Some(destination) = self.send_messages(&mut bytes_up) {
            match self.connect(&destination, turn.thread) {
                Ok(websocket) => self.websocket = websocket,
                Err(_) => self.client.handle_disconnect(turn.now, 1006, "The socket could not be opened."),
            }
            self.send_messages(&mut bytes_up);
        }
        while let Some(transmit) = self.client.poll_transmit() {
            self.udp.send(now, transmit.destination, transmit.bytes);
        }
        bytes_up += self.udp.take_bytes_up();
        if bytes_up > 0 {
            turn.add(Count::BytesUp, bytes_up as u64);
        }
    }

    fn connect(&self, destination: &Destination, thread: &Thread<'_>) -> Result<WebSocket, &'static str> {
        match destination {
            Destination::Home => WebSocket::connect(&thread.registry, self.websocket_token, thread.target, &self.url),
            Destination::Url(url) => {
                let lookup = thread.servers.look_up(url)?;
                WebSocket::connect_to_found(&thread.registry, self.websocket_token, lookup, url)
            }
        }
    }

    /// Sends the client's messages, until it wants another websocket, for which the later messages are. Returns where
    /// that one goes.
    fn send_messages(&mut self, bytes_up: &mut usize) -> Option<Destination> {
        while let Some(message) = self.client.poll_message() {
            let message = match message {
                Message::Connect(destination) => return Some(destination),
                Message::Text(text) => tungstenite::Message::text(text),
                Message::Binary(bytes) => tungstenite::Message::binary(bytes),
                Message::Close => tungstenite::Message::Close(Some(tungstenite::protocol::CloseFrame {
                    code: tungstenite::protocol::frame::coding::CloseCode::Normal,
                    reason: "".into(),
                })),
            };
            *bytes_up += message.len();
            self.websocket.send(message);
        }
        self.websocket.flush();
        None
    }

    fn note(&mut self, event: Event, turn: &mut Turn<'_, '_>) {
        match event {
            Event::Joined { player, .. } => {
                if self.player.replace(player).is_none() {
                    turn.record_since(Time::Signal, self.joined_at);
                } else {
                    // In a new session no echo of the old one arrives.
                    self.lose_all_echoes(turn);
                    self.least_transit = None;
                    self.last_transit = None;
                    turn.add(Count::Rejoined, 1);
                    if self.identity.as_deref() != self.client.socket_id() {
                        turn.add(Count::IdentitiesLost, 1);
                    }
                    self.note_return(turn);
                }
                self.identity = self.client.socket_id().map(str::to_owned);
                self.newest_tick_at = None;
            }
            Event::Resumed => self.note_return(turn),
            Event::Open => {
                if !std::mem::replace(&mut self.has_told_open, true) {
                    turn.record_since(Time::Open, self.joined_at);
                    turn.tell(Happened::Done);
                }
            }
            Event::ChannelClosed { message } => {
                log::debug!("user: the data channel was closed: {message}");
                turn.add(Count::ChannelsClosed, 1);
                // The websocket carries the frames.
                if !std::mem::replace(&mut self.has_told_open, true) {
                    turn.tell(Happened::Done);
                }
            }
            Event::Dropped => {
                if self.lost_at.is_none() {
                    turn.add(Count::Dropped, 1);
                    self.lost_at = Some(turn.now);
                }
            }
            Event::Refused { code, message } => {
                log::debug!("user: the join was refused: {message}");
                turn.tell(Happened::Failed(format!("refused.{}", plain(&code))));
            }
            Event::Closed { .. } if self.is_leaving => {}
            Event::Closed { code, reason } => {
                log::debug!("user: the connection was closed: {reason}");
                turn.tell(Happened::Failed(format!("closed.{code}")));
            }
            Event::State { tick, .. } => {
                self.note_tick(tick, turn);
                turn.tell(Happened::State);
            }
            Event::Tick { tick, inputs } => {
                self.fans_out = true;
                self.note_tick(tick, turn);
                let player = self.player;
                for input in inputs.iter().filter(|input| Some(input.player) == player) {
                    while let Some(echo) = self.inputs.pop_front_if(|echo| echo.what < input.number) {
                        turn.add(Count::EchoesLost, u64::from(!echo.is_counted_lost));
                    }
                    self.note_inputs_until(input.number, turn);
                }
                turn.tell(Happened::State);
            }
            Event::Event { value, .. } => {
                if !self.commands.is_empty()
                    && let Ok(value) = rmp_serde::from_slice::<Value>(&value)
                    && let Some(index) = self.commands.iter().position(|echo| echo.what == value)
                    && let Some(echo) = self.commands.remove(index)
                {
                    turn.record_since(Time::Echo, echo.intended);
                }
                turn.tell(Happened::Event(value));
            }
            Event::TicksLost { .. }
            | Event::PlayerJoined { .. }
            | Event::PlayerRenamed { .. }
            | Event::PlayerLeft { .. } => {}
        }
    }

    fn note_return(&mut self, turn: &mut Turn<'_, '_>) {
        if let Some(lost_at) = self.lost_at.take() {
            turn.record_since(Time::Reconnect, lost_at);
            turn.tell(Happened::Done);
        }
    }

    fn note_tick(&mut self, tick: u32, turn: &mut Turn<'_, '_>) {
        if let Some(last) = self.newest_tick_at.replace(turn.now) {
            turn.record_since(Time::TickGap, last);
        }
        let Some(length) = self.client.tick_length() else { return };
        let began = length.as_secs_f64() * f64::from(tick);
        let transit = turn.now.saturating_duration_since(turn.thread.begun).as_secs_f64() - began;
        if let Some(last) = self.last_transit.replace(transit) {
            turn.record(Time::Jitter, Duration::from_secs_f64((transit - last).abs()));
        }
        let least = self.least_transit.map_or(transit, |least| least.min(transit));
        self.least_transit = Some(least);
        turn.record(Time::Age, Duration::from_secs_f64((transit - least).max(0.0)));
    }

    /// Inputs are acknowledged when fewer remain unacknowledged.
    fn note_acknowledgements(&mut self, turn: &mut Turn<'_, '_>) {
        let left = self.client.unacknowledged();
        if left < self.unacknowledged && !self.fans_out {
            let consumed = self.newest_input.saturating_sub(u32::try_from(left).unwrap_or(u32::MAX));
            self.note_inputs_until(consumed, turn);
        }
        self.unacknowledged = left;
    }

    /// Only for the first channel: later offers have no intended time.
    fn note_stages(&mut self, turn: &mut Turn<'_, '_>) {
        if self.has_told_open {
            return;
        }
        let Stages { ice, dtls } = self.client.stages();
        for (what, told, at) in [(Time::Ice, &mut self.stages.ice, ice), (Time::Dtls, &mut self.stages.dtls, dtls)] {
            if let (None, Some(at)) = (&told, at) {
                turn.record(what, at.saturating_duration_since(self.joined_at));
                *told = Some(at);
            }
        }
    }

    fn note_inputs_until(&mut self, newest: u32, turn: &mut Turn<'_, '_>) {
        while let Some(echo) = self.inputs.pop_front_if(|echo| echo.what <= newest) {
            turn.record_since(Time::Echo, echo.intended);
        }
    }

    /// If too many wait, the oldest is discarded.
    fn note_lost_echoes(&mut self, is_full: bool, turn: &mut Turn<'_, '_>) {
        if is_full && self.inputs.pop_front().is_some_and(|echo| !echo.is_counted_lost) {
            turn.add(Count::EchoesLost, 1);
        }
    }

    fn lose_all_echoes(&mut self, turn: &mut Turn<'_, '_>) {
        let inputs = self.inputs.drain(..).filter(|echo| !echo.is_counted_lost).count();
        let commands = self.commands.drain(..).filter(|echo| !echo.is_counted_lost).count();
        turn.add(Count::EchoesLost, (inputs + commands) as u64);
        self.newest_input = 0;
        self.unacknowledged = 0;
    }

    fn note_stats(&mut self, turn: &mut Turn<'_, '_>) {
        let stats = self.client.stats();
        let told = std::mem::replace(&mut self.counted, stats);
        if stats.frames > told.frames {
            turn.add(Count::Received, stats.frames - told.frames);
        }
        if stats.late_frames > told.late_frames {
            turn.add(Count::Reordered, stats.late_frames - told.late_frames);
        }
        if stats.duplicate_frames > told.duplicate_frames {
            turn.add(Count::Duplicates, stats.duplicate_frames - told.duplicate_frames);
        }
        #[expect(clippy::float_cmp, reason = "it is the same until another is measured")]
        if stats.rtt_ms != told.rtt_ms {
            let took = Duration::try_from_secs_f64(stats.rtt_ms / 1_000.0).unwrap_or_default();
            turn.record(Time::RoundTrip, took);
        }
        if turn.now >= self.losses.next && !self.is_leaving {
            let lost = self.losses.note(turn.now, stats.missing);
            turn.add(Count::Lost, lost);
            let mut late = 0;
            let intended = self.inputs.iter_mut().map(|echo| (echo.intended, &mut echo.is_counted_lost));
            let of_commands = self.commands.iter_mut().map(|echo| (echo.intended, &mut echo.is_counted_lost));
            for (intended, is_counted_lost) in intended.chain(of_commands) {
                if turn.now >= intended + GRACE && !std::mem::replace(is_counted_lost, true) {
                    late += 1;
                }
            }
            turn.add(Count::EchoesLost, late);
        }
    }
}

/// Gaps in sequence numbers; late frames close some after a while.
struct Losses {
    /// The next time to check.
    next: Instant,
    /// The numbers of gaps, oldest first.
    snapshots: VecDeque<u64>,
    told: u64,
}

impl Losses {
    fn new(now: Instant) -> Losses {
        Losses { next: now + LOSS_INTERVAL, snapshots: VecDeque::new(), told: 0 }
    }

    /// Returns the number of new losses: gaps that have existed since [`GRACE`] ago.
    fn note(&mut self, now: Instant, missing: u64) -> u64 {
        // On a grid per user, or users who were late together would stay synchronised.
        self.next = (self.next + LOSS_INTERVAL).max(now);
        self.snapshots.push_back(missing);
        if self.snapshots.len() <= LOSS_SNAPSHOTS {
            return 0;
        }
        let lost = self.snapshots.iter().copied().min().unwrap_or_default();
        self.snapshots.pop_front();
        self.tell(lost)
    }

    /// Returns the number of new losses when no further frames are expected.
    fn settle(&mut self, missing: u64) -> u64 {
        self.tell(missing)
    }

    fn tell(&mut self, lost: u64) -> u64 {
        let more = lost.saturating_sub(self.told);
        self.told += more;
        more
    }
}

fn send_error(error: SendError) -> &'static str {
    match error {
        SendError::Backlog => "backlog",
        _ => "too_large",
    }
}

/// Converts a server's code to a part of a metric's name.
fn plain(code: &str) -> String {
    code.chars().filter(|char| char.is_ascii_alphanumeric() || *char == '_').take(40).collect()
}
