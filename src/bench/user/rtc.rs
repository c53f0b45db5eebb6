//! A player of an rtcade server: the native client with sockets of its own.
//!
//! What is measured, all times at the user, from the [intended time](crate::bench::generator) of the step where one has
//! begun it:
//!
//! - `rtc.signal`: until the room has let the user in. `rtc.open`: until the data channel is open.
//! - `rtc.echo`, of inputs to be measured: until the user knows that the game has had the input. Where the room fans
//!   inputs out, that is the own input in a tick; elsewhere the acknowledgement that comes with any frame. Of commands:
//!   until an event of the same value. What has not come back after [`GRACE`] or at the end counts as
//!   `rtc.echoes_lost`, but is recorded still if it comes later and the user is there.
//! - `rtc.age`, of states and ticks: how much later they came than the one that came earliest, each measured from the
//!   beginning of its tick: (receipt − tick × tick length) − the least of this user so far. So the fastest one counts
//!   as 0, and a constant delay does not show.
//! - `rtc.tick_gap`: between a state or tick and the one before it.
//! - `rtc.received`: frames over the data channel; `rtc.received_by_websocket` those of the same lane that came while
//!   there was none. `rtc.lost`: gaps in the sequence numbers of frames that are still there after [`GRACE`].
//!   `rtc.reordered`: frames that came after a newer one.
//! - `rtc.reconnect`: from the loss of the websocket until the session goes on; in it is what the client waits before
//!   it tries.
//! - `rtc.bytes_up`, `rtc.bytes_down`: bytes of datagrams and of websocket messages, without the headers of either.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Interest, Token};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::{Happened, Mark, Thread};
use crate::bench::meters::{Count, Time};
use crate::bench::netem::{Datagram, Direction, Path};
use crate::bench::websocket::{Brought, WebSocket, error_name};
use crate::client::{Client, Config, Event, Message, Stats, Status};
use crate::peer::LocalId;
use crate::wire::msgpack::SendError;

/// How late something may come before it counts as lost.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked what was lost.
const LOSS_INTERVAL: Duration = Duration::from_millis(500);
const LOSS_SNAPSHOTS: usize = (GRACE.as_millis() / LOSS_INTERVAL.as_millis()) as usize;
/// Datagrams taken in one go, before others have their turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// Measured inputs or commands that are on their way.
const ECHOES: usize = 4096;

const LOCAL: LocalId = LocalId(0);

/// How somebody joins.
pub(super) struct Join {
    pub(super) room: Option<String>,
    pub(super) name: String,
    pub(super) data: Value,
    pub(super) bearer: Option<String>,
}

/// What is to come back.
struct Echo<T> {
    what: T,
    intended: Instant,
    is_counted_lost: bool,
}

pub(super) struct Rtc {
    client: Client,
    udp: UdpSocket,
    websocket: WebSocket,
    websocket_token: Token,
    url: String,
    path: Option<Path>,
    joined_at: Instant,
    player: Option<u32>,
    has_told_open: bool,
    is_leaving: bool,
    inputs: VecDeque<Echo<u32>>,
    commands: VecDeque<Echo<Value>>,
    newest_input: u32,
    unacknowledged: usize,
    fans_out: bool,
    newest_tick_at: Option<Instant>,
    least_transit: Option<f64>,
    losses: Losses,
    counted: Stats,
    lost_at: Option<Instant>,
}

impl Rtc {
    /// Begins to join; `intended` is when that was due.
    pub(super) fn join(
        now: Instant,
        intended: Instant,
        number: u64,
        token: Token,
        join: Join,
        thread: &mut Thread<'_>,
    ) -> Result<Rtc, &'static str> {
        let target = thread.target;
        let name = |error: io::Error| error_name(&error);
        let mut udp = UdpSocket::bind(SocketAddr::new(target.local, 0)).map_err(name)?;
        thread.registry.register(&mut udp, token, Interest::READABLE).map_err(name)?;
        let mut rng = ChaCha8Rng::seed_from_u64(thread.seed);
        rng.set_stream(number);
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let url = match &join.room {
            Some(room) if target.path == "/" => format!("ws://{}/r/{room}", target.authority),
            _ => format!("ws://{}{}", target.authority, target.path),
        };
        let websocket_token = Token(token.0 + 1);
        let websocket = WebSocket::connect(&thread.registry, websocket_token, target.address, &url)?;
        let config = Config {
            seed,
            room: join.room,
            name: join.name,
            data: join.data,
            bearer: join.bearer,
            locals: vec![udp.local_addr().map_err(name)?],
            slow_path: false,
        };
        let mut rtc = Rtc {
            client: Client::new(config, now),
            udp,
            websocket,
            websocket_token,
            url,
            path: Path::new(&thread.script.config.netem, number, thread.seed),
            joined_at: intended,
            player: None,
            has_told_open: false,
            is_leaving: false,
            inputs: VecDeque::new(),
            commands: VecDeque::new(),
            newest_input: 0,
            unacknowledged: 0,
            fans_out: false,
            newest_tick_at: None,
            least_transit: None,
            losses: Losses::new(now),
            counted: Stats::default(),
            lost_at: None,
        };
        let mut bytes_up = 0;
        rtc.send_messages(&mut bytes_up);
        Ok(rtc)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let path = self.path.as_ref().and_then(Path::poll_timeout);
        let losses = (!self.is_leaving).then_some(self.losses.next);
        [self.client.poll_timeout(), path, losses].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        mark: Mark,
        thread: &mut Thread<'_>,
        happened: &mut Vec<Happened>,
    ) {
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        self.settle(now, mark, thread, happened);
    }

    /// True where more datagrams may wait.
    pub(super) fn handle_datagrams(
        &mut self,
        now: Instant,
        mark: Mark,
        thread: &mut Thread<'_>,
        happened: &mut Vec<Happened>,
    ) -> bool {
        let mut has_more = true;
        let mut bytes_down = 0;
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.udp.recv_from(&mut thread.buffer) {
                Ok((length, remote)) => {
                    bytes_down += length;
                    let bytes = &thread.buffer[..length];
                    match &mut self.path {
                        Some(path) => {
                            path.send(now, Datagram { direction: Direction::Down, remote, bytes: bytes.to_vec() });
                        }
                        None => self.client.handle_datagram(now, LOCAL, remote, bytes),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    has_more = false;
                    break;
                }
                // What an ICMP message says of one candidate is no matter of the others.
                Err(_) => {}
            }
        }
        thread.add(mark, Count::BytesDown, bytes_down as u64);
        self.settle(now, mark, thread, happened);
        has_more
    }

    /// True where more messages may wait.
    pub(super) fn handle_websocket(
        &mut self,
        now: Instant,
        mark: Mark,
        thread: &mut Thread<'_>,
        happened: &mut Vec<Happened>,
    ) -> bool {
        let (client, is_leaving) = (&mut self.client, self.is_leaving);
        let mut bytes_down = 0;
        let mut frames = 0;
        let has_more = self.websocket.handle_ready(|brought| match brought {
            Brought::Open => {}
            Brought::Text(text) => {
                bytes_down += text.len();
                client.handle_text(now, &text);
            }
            Brought::Binary(bytes) => {
                bytes_down += bytes.len();
                let before = client.stats().frames;
                client.handle_binary(now, &bytes);
                frames += client.stats().frames - before;
            }
            Brought::Closed { .. } if is_leaving => happened.push(Happened::Gone),
            Brought::Closed { code, reason, error } => {
                if client.status() == Status::Signaling && code == 1006 {
                    happened.push(Happened::Failed(error.to_owned()));
                }
                client.handle_disconnect(now, code, &reason);
            }
        });
        if frames > 0 {
            thread.add(mark, Count::ReceivedByWebsocket, frames);
            self.counted.frames += frames;
        }
        thread.add(mark, Count::BytesDown, bytes_down as u64);
        self.settle(now, mark, thread, happened);
        has_more
    }

    /// Sends an input, measured from `intended` where that is given.
    pub(super) fn send(
        &mut self,
        now: Instant,
        value: &Value,
        intended: Option<Instant>,
        mark: Mark,
        thread: &mut Thread<'_>,
        happened: &mut Vec<Happened>,
    ) -> Result<(), &'static str> {
        let number = self.client.send(now, value).map_err(send_error)?;
        self.newest_input = number;
        self.unacknowledged = self.client.unacknowledged();
        if let Some(intended) = intended {
            self.note_lost_echoes(self.inputs.len() >= ECHOES, mark, thread);
            self.inputs.push_back(Echo { what: number, intended, is_counted_lost: false });
        }
        thread.add(mark, Count::Sent, 1);
        self.settle(now, mark, thread, happened);
        Ok(())
    }

    /// Sends a command, measured from `intended` where that is given.
    pub(super) fn command(
        &mut self,
        now: Instant,
        value: Value,
        intended: Option<Instant>,
        mark: Mark,
        thread: &mut Thread<'_>,
        happened: &mut Vec<Happened>,
    ) -> Result<(), &'static str> {
        self.client.command(now, &value).map_err(send_error)?;
        if let Some(intended) = intended.filter(|_| self.commands.len() < ECHOES) {
            self.commands.push_back(Echo { what: value, intended, is_counted_lost: false });
        }
        thread.add(mark, Count::Commands, 1);
        self.settle(now, mark, thread, happened);
        Ok(())
    }

    /// Breaks the websocket off, as a network that changes does; the client comes back by itself.
    pub(super) fn reconnect(
        &mut self,
        now: Instant,
        intended: Instant,
        mark: Mark,
        thread: &mut Thread<'_>,
        happened: &mut Vec<Happened>,
    ) {
        self.lost_at = Some(intended);
        self.websocket = WebSocket::none();
        self.client.handle_disconnect(now, 1006, "The load test broke it off.");
        self.settle(now, mark, thread, happened);
    }

    pub(super) fn leave(&mut self, now: Instant, mark: Mark, thread: &mut Thread<'_>, happened: &mut Vec<Happened>) {
        if std::mem::replace(&mut self.is_leaving, true) {
            return;
        }
        let lost = self.losses.settle(self.client.stats().missing);
        thread.add(mark, Count::Lost, lost);
        let is_late = |intended: Instant| now >= intended + GRACE;
        let waiting = self.inputs.iter().filter(|echo| !echo.is_counted_lost && is_late(echo.intended)).count()
            + self.commands.iter().filter(|echo| !echo.is_counted_lost && is_late(echo.intended)).count();
        thread.add(mark, Count::EchoesLost, waiting as u64);
        self.client.leave(now);
        self.settle(now, mark, thread, happened);
        if self.websocket.is_closed() {
            happened.push(Happened::Gone);
        }
    }

    /// Brings out what waits in the client.
    fn settle(&mut self, now: Instant, mark: Mark, thread: &mut Thread<'_>, happened: &mut Vec<Happened>) {
        let mut bytes_up = 0;
        self.pass_datagrams(now, &mut bytes_up);
        while let Some(event) = self.client.poll_event() {
            self.note(now, event, mark, thread, happened);
        }
        self.note_acknowledgements(now, mark, thread);
        self.note_stats(now, mark, thread);
        if self.send_messages(&mut bytes_up) {
            match WebSocket::connect(&thread.registry, self.websocket_token, thread.target.address, &self.url) {
                Ok(websocket) => self.websocket = websocket,
                Err(_) => self.client.handle_disconnect(now, 1006, "The socket could not be opened."),
            }
            self.send_messages(&mut bytes_up);
        }
        while let Some(transmit) = self.client.poll_transmit() {
            let (bytes, remote) = (transmit.bytes, transmit.destination);
            match &mut self.path {
                Some(path) => path.send(now, Datagram { direction: Direction::Up, remote, bytes: bytes.to_vec() }),
                None => send_datagram(&self.udp, bytes, remote, &mut bytes_up),
            }
        }
        if let Some(path) = &mut self.path {
            // What comes down at once is taken with the next deadline, which has passed.
            while path.is_next(Direction::Up, now)
                && let Some(datagram) = path.poll(now)
            {
                send_datagram(&self.udp, &datagram.bytes, datagram.remote, &mut bytes_up);
            }
        }
        if bytes_up > 0 {
            thread.add(mark, Count::BytesUp, bytes_up as u64);
        }
    }

    /// Lets what has come through the worse network go on.
    fn pass_datagrams(&mut self, now: Instant, bytes_up: &mut usize) {
        let Some(path) = &mut self.path else { return };
        while let Some(Datagram { direction, remote, bytes }) = path.poll(now) {
            match direction {
                Direction::Up => send_datagram(&self.udp, &bytes, remote, bytes_up),
                Direction::Down => self.client.handle_datagram(now, LOCAL, remote, &bytes),
            }
        }
    }

    /// Whether the client wants another websocket: what it says then is for that one.
    fn send_messages(&mut self, bytes_up: &mut usize) -> bool {
        while let Some(message) = self.client.poll_message() {
            let message = match message {
                Message::Connect => return true,
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
        false
    }

    fn note(&mut self, now: Instant, event: Event, mark: Mark, thread: &mut Thread<'_>, happened: &mut Vec<Happened>) {
        let since = |then: Instant| now.saturating_duration_since(then);
        match event {
            Event::Joined { player, .. } => {
                if self.player.replace(player).is_none() {
                    thread.record(mark, Time::Signal, since(self.joined_at));
                } else {
                    // It is another session: nothing of the old one comes back.
                    self.lose_all_echoes(mark, thread);
                    self.least_transit = None;
                    self.note_return(now, mark, thread, happened);
                }
                self.newest_tick_at = None;
            }
            Event::Resumed => self.note_return(now, mark, thread, happened),
            Event::Open => {
                if !std::mem::replace(&mut self.has_told_open, true) {
                    thread.record(mark, Time::Open, since(self.joined_at));
                    happened.push(Happened::Done);
                }
            }
            Event::ChannelClosed { message } => {
                log::debug!("a data channel closed: {message}");
                thread.add(mark, Count::ChannelsClosed, 1);
                // Frames go over the websocket.
                if !std::mem::replace(&mut self.has_told_open, true) {
                    happened.push(Happened::Done);
                }
            }
            Event::Dropped => {
                if self.lost_at.is_none() {
                    thread.add(mark, Count::Dropped, 1);
                    self.lost_at = Some(now);
                }
            }
            Event::Refused { code, message } => {
                log::debug!("a room refused a user: {message}");
                happened.push(Happened::Failed(format!("refused.{}", plain(&code))));
            }
            Event::Closed { .. } if self.is_leaving => {}
            Event::Closed { code, reason } => {
                log::debug!("a server let go of a user: {reason}");
                happened.push(Happened::Failed(format!("closed.{code}")));
            }
            Event::State { tick, .. } => {
                self.note_tick(now, tick, mark, thread);
                happened.push(Happened::State);
            }
            Event::Tick { tick, inputs } => {
                self.fans_out = true;
                self.note_tick(now, tick, mark, thread);
                let player = self.player;
                for input in inputs.iter().filter(|input| Some(input.player) == player) {
                    while let Some(echo) = self.inputs.pop_front_if(|echo| echo.what < input.number) {
                        thread.add(mark, Count::EchoesLost, u64::from(!echo.is_counted_lost));
                    }
                    self.note_inputs_until(input.number, now, mark, thread);
                }
                happened.push(Happened::State);
            }
            Event::Event { value, .. } => {
                if !self.commands.is_empty()
                    && let Ok(value) = rmp_serde::from_slice::<Value>(&value)
                    && let Some(index) = self.commands.iter().position(|echo| echo.what == value)
                    && let Some(echo) = self.commands.remove(index)
                {
                    thread.record(mark, Time::Echo, since(echo.intended));
                }
                happened.push(Happened::Event(value));
            }
            Event::TicksLost { .. } | Event::PlayerJoined { .. } | Event::PlayerLeft { .. } => {}
        }
    }

    fn note_return(&mut self, now: Instant, mark: Mark, thread: &mut Thread<'_>, happened: &mut Vec<Happened>) {
        if let Some(lost_at) = self.lost_at.take() {
            thread.record(mark, Time::Reconnect, now.saturating_duration_since(lost_at));
            happened.push(Happened::Done);
        }
    }

    fn note_tick(&mut self, now: Instant, tick: u32, mark: Mark, thread: &mut Thread<'_>) {
        if let Some(last) = self.newest_tick_at.replace(now) {
            thread.record(mark, Time::TickGap, now.saturating_duration_since(last));
        }
        let Some(length) = self.client.tick_length() else { return };
        let began = length.as_secs_f64() * f64::from(tick);
        let transit = now.saturating_duration_since(thread.begun).as_secs_f64() - began;
        let least = self.least_transit.map_or(transit, |least| least.min(transit));
        self.least_transit = Some(least);
        thread.record(mark, Time::Age, Duration::from_secs_f64((transit - least).max(0.0)));
    }

    /// Acknowledgements are known by how much less there is to acknowledge.
    fn note_acknowledgements(&mut self, now: Instant, mark: Mark, thread: &mut Thread<'_>) {
        let left = self.client.unacknowledged();
        if left < self.unacknowledged && !self.fans_out {
            let consumed = self.newest_input.saturating_sub(u32::try_from(left).unwrap_or(u32::MAX));
            self.note_inputs_until(consumed, now, mark, thread);
        }
        self.unacknowledged = left;
    }

    fn note_inputs_until(&mut self, newest: u32, now: Instant, mark: Mark, thread: &mut Thread<'_>) {
        while let Some(echo) = self.inputs.pop_front_if(|echo| echo.what <= newest) {
            thread.record(mark, Time::Echo, now.saturating_duration_since(echo.intended));
        }
    }

    /// The oldest gives way where too many wait.
    fn note_lost_echoes(&mut self, is_full: bool, mark: Mark, thread: &mut Thread<'_>) {
        if is_full && self.inputs.pop_front().is_some_and(|echo| !echo.is_counted_lost) {
            thread.add(mark, Count::EchoesLost, 1);
        }
    }

    fn lose_all_echoes(&mut self, mark: Mark, thread: &mut Thread<'_>) {
        let inputs = self.inputs.drain(..).filter(|echo| !echo.is_counted_lost).count();
        let commands = self.commands.drain(..).filter(|echo| !echo.is_counted_lost).count();
        thread.add(mark, Count::EchoesLost, (inputs + commands) as u64);
        self.newest_input = 0;
        self.unacknowledged = 0;
    }

    fn note_stats(&mut self, now: Instant, mark: Mark, thread: &mut Thread<'_>) {
        let stats = self.client.stats();
        let told = std::mem::replace(&mut self.counted, stats);
        if stats.frames > told.frames {
            thread.add(mark, Count::Received, stats.frames - told.frames);
        }
        if stats.late_frames > told.late_frames {
            thread.add(mark, Count::Reordered, stats.late_frames - told.late_frames);
        }
        #[expect(clippy::float_cmp, reason = "it is the same until another is measured")]
        if stats.rtt_ms != told.rtt_ms {
            let took = Duration::try_from_secs_f64(stats.rtt_ms / 1_000.0).unwrap_or_default();
            thread.record(mark, Time::RoundTrip, took);
        }
        if now >= self.losses.next && !self.is_leaving {
            let lost = self.losses.note(now, stats.missing);
            thread.add(mark, Count::Lost, lost);
            let mut late = 0;
            let intended = self.inputs.iter_mut().map(|echo| (echo.intended, &mut echo.is_counted_lost));
            let of_commands = self.commands.iter_mut().map(|echo| (echo.intended, &mut echo.is_counted_lost));
            for (intended, is_counted_lost) in intended.chain(of_commands) {
                if now >= intended + GRACE && !std::mem::replace(is_counted_lost, true) {
                    late += 1;
                }
            }
            thread.add(mark, Count::EchoesLost, late);
        }
    }
}

/// Gaps in sequence numbers, of which the late ones close after a while.
struct Losses {
    /// When to look next.
    next: Instant,
    /// How many gaps there were, oldest first.
    snapshots: VecDeque<u64>,
    told: u64,
}

impl Losses {
    fn new(now: Instant) -> Losses {
        Losses { next: now + LOSS_INTERVAL, snapshots: VecDeque::new(), told: 0 }
    }

    /// How many more are lost for certain: gaps that were there all the time since [`GRACE`] ago.
    fn note(&mut self, now: Instant, missing: u64) -> u64 {
        self.next = now + LOSS_INTERVAL;
        self.snapshots.push_back(missing);
        if self.snapshots.len() <= LOSS_SNAPSHOTS {
            return 0;
        }
        let lost = self.snapshots.iter().copied().min().unwrap_or_default();
        self.snapshots.pop_front();
        self.tell(lost)
    }

    /// How many more are lost when nothing is waited for any more.
    fn settle(&mut self, missing: u64) -> u64 {
        self.tell(missing)
    }

    fn tell(&mut self, lost: u64) -> u64 {
        let more = lost.saturating_sub(self.told);
        self.told += more;
        more
    }
}

fn send_datagram(udp: &UdpSocket, bytes: &[u8], remote: SocketAddr, bytes_up: &mut usize) {
    // Not every address that the server names has a route.
    if udp.send_to(bytes, remote).is_ok() {
        *bytes_up += bytes.len();
    }
}

fn send_error(error: SendError) -> &'static str {
    match error {
        SendError::Backlog => "backlog",
        _ => "too_large",
    }
}

/// What a server says, as part of a name.
fn plain(code: &str) -> String {
    code.chars().filter(|char| char.is_ascii_alphanumeric() || *char == '_').take(40).collect()
}
