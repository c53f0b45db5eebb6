//! Reports to Agones, which runs game servers on Kubernetes, over the REST API of the sidecar in the server's pod.
//!
//! A thread of its own asks the sidecar. The loop leaves it figures and never waits for it. The state of the game
//! server in Agones follows the rooms: Ready without any, Allocated with one or more, and Reserved for a while after
//! the last one, so that its players may begin another before Agones gives the server away or removes it.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a thread of its own that may block")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::client::{self, Chunks, Framing, Request, Response};
use super::handle::Handle;
#[cfg(feature = "cluster")]
use super::nodes::{self, Node};
use super::sentinel::{Observer, Pulse};
use crate::log_limit::Throttle;

/// How often the thread looks whether something is to be done.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);
/// The shortest time between two updates of a counter.
const COUNTER_INTERVAL: Duration = Duration::from_secs(1);
/// How long a server stays reserved after its last room has ended.
const RESERVED_FOR: Duration = Duration::from_secs(30);
/// How long the sidecar may take to accept a connection, and to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a response, and of a line of the stream of changes; Kubernetes limits an object to a similar size.
const RESPONSE_BYTES: usize = 1024 * 1024;
/// Reads from the stream of changes before other things have their turn.
const READS_AT_ONCE: usize = 64;
/// The shortest and the longest wait before something is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// The waits before each attempt to report the end, and how long a stopping server waits for them.
const SHUTDOWN_ATTEMPTS: [Duration; 3] = [Duration::ZERO, RETRY.0, RETRY.0];
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
const LOG: Throttle = Throttle::new(10, Duration::from_secs(30));

const READY: &str = "Ready";
const ALLOCATED: &str = "Allocated";
const RESERVED: &str = "Reserved";
const SHUTDOWN: &str = "Shutdown";
/// States that Agones ends a server from.
const ENDING: [&str; 3] = [SHUTDOWN, "Unhealthy", "Error"];

/// How many rooms and players there are, and may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Occupancy {
    pub(super) rooms: usize,
    pub(super) players: usize,
    pub(super) max_rooms: usize,
    pub(super) max_players: usize,
}

/// What Agones is asked for because the operator hasn't set it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The addresses that players are given.
    pub(super) addresses: bool,
    /// The URL of this node of a cluster: whether it is one with TLS.
    #[cfg(feature = "cluster")]
    pub(super) node_url: Option<bool>,
}

/// Calls to the sidecar by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Whether the stream of changes is open.
    pub(super) is_watched: bool,
    pub(super) done: u64,
    /// Answered with another status than 200.
    pub(super) refused: u64,
    /// Not answered, or not in time.
    pub(super) unanswered: u64,
    /// Answered with something that can't be understood.
    pub(super) malformed: u64,
}

#[derive(Debug, Default)]
struct Shared {
    rooms: AtomicUsize,
    players: AtomicUsize,
    max_rooms: AtomicUsize,
    max_players: AtomicUsize,
    is_stopping: AtomicBool,
    is_watched: AtomicBool,
    done: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    malformed: AtomicU64,
}

/// The loop's end.
pub(super) struct Agones {
    shared: Arc<Shared>,
    /// What the thread is made of, until it is started.
    reporter: Option<Reporter>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected when the thread has ended.
    ended: Option<mpsc::Receiver<Infallible>>,
}

impl Agones {
    pub(super) fn new(
        sidecar: SocketAddr,
        handle: Handle,
        pulse: &Arc<Pulse>,
        observer: Observer,
        wanted: Wanted,
    ) -> Agones {
        let shared = Arc::<Shared>::default();
        let reporter = Reporter::new(sidecar, Arc::clone(&shared), handle, Arc::downgrade(pulse), observer, wanted);
        Agones { shared, reporter: Some(reporter), thread: None, ended: None }
    }

    /// Begins to report: the server is ready.
    ///
    /// # Errors
    /// The OS refuses a thread.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let Some(mut reporter) = self.reporter.take() else { return Ok(()) };
        let (alive, ended) = mpsc::channel::<Infallible>();
        self.thread = Some(thread::Builder::new().name("agones".to_owned()).spawn(move || {
            let _alive = alive;
            reporter.run();
        })?);
        self.ended = Some(ended);
        Ok(())
    }

    pub(super) fn note(&self, Occupancy { rooms, players, max_rooms, max_players }: Occupancy) {
        self.shared.max_rooms.store(max_rooms, Ordering::Relaxed);
        self.shared.max_players.store(max_players, Ordering::Relaxed);
        self.shared.players.store(players, Ordering::Relaxed);
        self.shared.rooms.store(rooms, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> Figures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            is_watched: self.shared.is_watched.load(Ordering::Relaxed),
            done: count(&self.shared.done),
            refused: count(&self.shared.refused),
            unanswered: count(&self.shared.unanswered),
            malformed: count(&self.shared.malformed),
        }
    }
}

impl Drop for Agones {
    fn drop(&mut self) {
        let (Some(thread), Some(ended)) = (self.thread.take(), &self.ended) else { return };
        self.shared.is_stopping.store(true, Ordering::Release);
        thread.thread().unpark();
        if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(SHUTDOWN_TIMEOUT) {
            log::warn!("Agones' sidecar does not take the report that this server ends");
        } else if thread.join().is_err() {
            log::error!("the thread that reports to Agones failed");
        }
    }
}

/// When something may be tried, after attempts that failed.
#[derive(Debug)]
struct Attempts {
    due: Instant,
    wait: Duration,
}

impl Attempts {
    fn new(now: Instant) -> Attempts {
        Attempts { due: now, wait: Duration::ZERO }
    }

    fn is_due(&self, now: Instant) -> bool {
        now >= self.due
    }

    /// `pause` passes before the next one.
    fn succeed(&mut self, now: Instant, pause: Duration) {
        *self = Attempts { due: now + pause, wait: Duration::ZERO };
    }

    fn fail(&mut self, now: Instant) {
        self.wait = (self.wait * 2).clamp(RETRY.0, RETRY.1);
        self.due = now + self.wait;
    }
}

/// Why the sidecar did not do what it was asked for.
#[derive(Debug)]
enum Failure {
    Io(io::Error),
    /// A status, and what it said.
    Refused(u16, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                f.write_str("the answer can't be understood, or is too long")
            }
            // What a read or a write that takes too long is called depends on the system.
            Failure::Io(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                f.write_str("no answer in time")
            }
            Failure::Io(error) => error.fmt(f),
            Failure::Refused(status, sentence) => write!(f, "status {status} {sentence:?}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

/// A counter of Agones, which the fleet must declare.
struct Counter {
    name: &'static str,
    /// The count and the capacity that Agones has.
    sent: Option<(usize, usize)>,
    is_declared: bool,
    attempts: Attempts,
}

/// The game server as Agones describes it, as far as it is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GameServer {
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    state: String,
    address: String,
    ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Port {
    name: String,
    port: u16,
}

/// One line of the stream of changes.
#[derive(Deserialize)]
struct Change {
    result: GameServer,
}

/// Where players reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    address: String,
    udp: Option<u16>,
    tcp: Option<u16>,
}

#[cfg(feature = "cluster")]
impl Place {
    /// Where clients reach the websocket.
    fn url(&self, is_secure: bool) -> Result<String, String> {
        let port = self.tcp.ok_or("none of its ports is named tcp: name it so in the fleet, or set --node-url")?;
        match self.address.parse() {
            Ok(ip) => Ok(nodes::url(ip, port, is_secure)),
            Err(_) => Node::parse_url(&format!("{}://{}:{port}", nodes::scheme(is_secure), self.address)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        for (name, port) in [("UDP", self.udp), ("TCP", self.tcp)] {
            if let Some(port) = port {
                write!(f, ", {name} port {port}")?;
            }
        }
        Ok(())
    }
}

impl Status {
    /// `None` until Agones has an address for the server.
    fn place(&self) -> Option<Place> {
        // Of a port for both, Agones makes two, with these ends of their names.
        let is_of = |port: &Port, name: &str| {
            port.name == name || port.name.strip_suffix(name).is_some_and(|of| of.ends_with('-'))
        };
        let named = |name| self.ports.iter().find(|port| is_of(port, name)).map(|port| port.port);
        let mut others = self.ports.iter().filter(|port| !is_of(port, "tcp"));
        let only = others.next().filter(|_| others.next().is_none()).map(|port| port.port);
        let (udp, tcp) = (named("udp").or(only), named("tcp"));
        (!self.address.is_empty()).then(|| Place { address: self.address.clone(), udp, tcp })
    }
}

/// A change of the state of the game server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ready,
    Allocate,
    Reserve,
}

/// The thread's end.
struct Reporter {
    sidecar: SocketAddr,
    shared: Arc<Shared>,
    handle: Handle,
    pulse: Weak<Pulse>,
    observer: Observer,
    wanted: Wanted,
    /// The state that Agones has for this server, as last seen or set.
    state: Option<String>,
    /// Whether it was ready once.
    is_reported: bool,
    /// Whether there was a room since the server was ready or reserved.
    had_rooms: bool,
    reserved: Option<Instant>,
    is_told_to_drain: bool,
    /// Where players reach the server, and what they are given.
    place: Option<Place>,
    given: Option<Place>,
    health: Instant,
    steps: Attempts,
    placing: Attempts,
    watching: Attempts,
    counters: [Counter; 2],
    watch: Option<Watch>,
    /// Whether a call has failed since the last one that did not.
    is_failing: bool,
    /// Limits the lines about failures, and those about what Agones says.
    log: Throttle,
    state_log: Throttle,
}

impl Reporter {
    fn new(
        sidecar: SocketAddr,
        shared: Arc<Shared>,
        handle: Handle,
        pulse: Weak<Pulse>,
        observer: Observer,
        wanted: Wanted,
    ) -> Reporter {
        let now = Instant::now();
        let counter = |name| Counter { name, sent: None, is_declared: true, attempts: Attempts::new(now) };
        Reporter {
            sidecar,
            shared,
            handle,
            pulse,
            observer,
            wanted,
            state: None,
            is_reported: false,
            had_rooms: false,
            reserved: None,
            is_told_to_drain: false,
            place: None,
            given: None,
            health: now,
            steps: Attempts::new(now),
            placing: Attempts::new(now),
            watching: Attempts::new(now),
            counters: [counter("rooms"), counter("players")],
            watch: None,
            is_failing: false,
            log: LOG,
            state_log: LOG,
        }
    }

    fn run(&mut self) {
        while !self.shared.is_stopping.load(Ordering::Acquire) {
            self.look(Instant::now());
            thread::park_timeout(LOOK_INTERVAL);
        }
        for wait in SHUTDOWN_ATTEMPTS {
            thread::sleep(wait);
            if self.call("POST", "/shutdown", Some("{}")).is_ok() {
                return;
            }
        }
    }

    fn occupancy(&self) -> Occupancy {
        Occupancy {
            rooms: self.shared.rooms.load(Ordering::Relaxed),
            players: self.shared.players.load(Ordering::Relaxed),
            max_rooms: self.shared.max_rooms.load(Ordering::Relaxed),
            max_players: self.shared.max_players.load(Ordering::Relaxed),
        }
    }

    /// Does what is due.
    fn look(&mut self, now: Instant) {
        self.report_health(now);
        self.follow(now);
        self.place_server(now);
        self.take_step(now);
        self.count(now);
    }

    fn report_health(&mut self, now: Instant) {
        if now < self.health {
            return;
        }
        self.health = now + HEALTH_INTERVAL;
        let is_running = self.pulse.upgrade().is_some_and(|pulse| self.observer.is_running(&pulse));
        if is_running {
            let _ = self.call("POST", "/health", Some("{}"));
        } else if let Some(left_out) = self.log.take(now) {
            log::warn!("Agones is not told that this server is healthy, because its event loop stands still{left_out}");
        }
    }

    /// Changes the state of the game server as the rooms demand.
    fn take_step(&mut self, now: Instant) {
        let rooms = self.occupancy().rooms;
        self.had_rooms |= rooms > 0;
        if !self.steps.is_due(now) {
            return;
        }
        let Some(state) = &self.state else {
            match self.call("GET", "/gameserver", None).and_then(|response| self.read(&response.body)) {
                Ok(game_server) => {
                    self.steps.succeed(now, Duration::ZERO);
                    self.take(now, game_server);
                }
                Err(_) => self.steps.fail(now),
            }
            return;
        };
        let is_reserved_enough = self.reserved.is_some_and(|since| now >= since + RESERVED_FOR);
        let step = match (state.as_str(), rooms) {
            (state, _) if ENDING.contains(&state) => return,
            (ALLOCATED, 0) if self.had_rooms => Step::Reserve,
            (ALLOCATED, _) => {
                self.is_reported = true;
                return;
            }
            _ if !self.is_reported => Step::Ready,
            (READY | RESERVED, 1..) => Step::Allocate,
            (RESERVED, 0) if is_reserved_enough => Step::Ready,
            _ => return,
        };
        let seconds = json!({ "seconds": RESERVED_FOR.as_secs().to_string() }).to_string();
        let called = match step {
            Step::Ready => self.call("POST", "/ready", Some("{}")),
            Step::Allocate => self.call("POST", "/allocate", Some("{}")),
            Step::Reserve => self.call("POST", "/reserve", Some(&seconds)),
        };
        if called.is_err() {
            self.steps.fail(now);
            return;
        }
        self.steps.succeed(now, Duration::ZERO);
        self.is_reported = true;
        self.had_rooms = rooms > 0;
        self.reserved = (step == Step::Reserve).then_some(now);
        // Agones tells it, too, but later.
        let state = match step {
            Step::Ready => READY,
            Step::Allocate => ALLOCATED,
            Step::Reserve => RESERVED,
        };
        self.note_state(now, state);
    }

    fn note_state(&mut self, now: Instant, state: &str) {
        if self.state.as_deref() != Some(state) {
            self.state = Some(state.to_owned());
            if let Some(left_out) = self.state_log.take(now) {
                log::info!("the state of this server in Agones is {state} now{left_out}");
            }
        }
    }

    /// Takes over what Agones says about this server.
    fn take(&mut self, now: Instant, GameServer { status }: GameServer) {
        if let Some(place) = status.place()
            && self.place.as_ref() != Some(&place)
        {
            self.place = Some(place);
            self.placing = Attempts::new(now);
        }
        self.note_state(now, &status.state);
        if status.state == SHUTDOWN && !self.is_told_to_drain {
            log::warn!("Agones shuts this server down");
            self.is_told_to_drain = true;
            self.handle.drain();
        }
    }

    /// Lets players know where Agones has placed the server.
    fn place_server(&mut self, now: Instant) {
        let Some(place) = self.place.clone().filter(|_| self.place != self.given && self.placing.is_due(now)) else {
            return;
        };
        match self.give(&place) {
            Ok(()) => {
                if let Some(left_out) = self.state_log.take(now) {
                    log::info!("Agones has placed this server at {place}{left_out}");
                }
                self.given = Some(place);
            }
            Err(cause) => {
                self.placing.fail(now);
                if let Some(left_out) = self.log.take(now) {
                    log::warn!("the address that Agones has for this server is not used yet: {cause}{left_out}");
                }
            }
        }
    }

    /// The error is a cause, for within a sentence.
    fn give(&self, place: &Place) -> Result<(), String> {
        let addresses = self.give_addresses(place);
        #[cfg(feature = "cluster")]
        if let Some(is_secure) = self.wanted.node_url {
            self.handle.set_node_url(place.url(is_secure)?).map_err(|error| error.to_string())?;
        }
        addresses
    }

    fn give_addresses(&self, Place { address, udp, .. }: &Place) -> Result<(), String> {
        if !self.wanted.addresses {
            return Ok(());
        }
        let port = udp.ok_or("none of its ports is named udp, nor is there just one: name it so in the fleet")?;
        let resolved = (address.as_str(), port).to_socket_addrs();
        let resolved: Vec<_> = resolved.map_err(|error| format!("{address} can't be resolved: {error}"))?.collect();
        self.handle.set_public_addresses(resolved).map_err(|error| error.to_string())
    }

    /// Updates the counters.
    fn count(&mut self, now: Instant) {
        if self.state.is_none() {
            return;
        }
        let Occupancy { rooms, players, max_rooms, max_players } = self.occupancy();
        for (index, (count, capacity)) in [(rooms, max_rooms), (players, max_players)].into_iter().enumerate() {
            // Rooms stay open when the limit is lowered below their number.
            let wanted = (count, capacity.max(count));
            let Counter { name, sent, is_declared, attempts } = &self.counters[index];
            if !is_declared || *sent == Some(wanted) || !attempts.is_due(now) {
                continue;
            }
            let name = *name;
            let body = json!({ "count": wanted.0.to_string(), "capacity": wanted.1.to_string() }).to_string();
            let called = self.call("PATCH", &format!("/v1beta1/counters/{name}"), Some(&body));
            let counter = &mut self.counters[index];
            match called {
                Ok(_) => {
                    counter.sent = Some(wanted);
                    counter.attempts.succeed(now, COUNTER_INTERVAL);
                }
                Err(failure) if is_undeclared(&failure) => {
                    counter.is_declared = false;
                    log::warn!("Agones has no counter named {name}: declare it in the fleet to see the {name}");
                }
                Err(_) => counter.attempts.fail(now),
            }
        }
    }

    /// Reads the stream of changes, and opens it if need be.
    fn follow(&mut self, now: Instant) {
        // It begins with the current state, which is asked for first.
        if self.state.is_none() {
            return;
        }
        if self.watch.is_none() {
            if !self.watching.is_due(now) {
                return;
            }
            match Watch::open(self.sidecar, now) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => {
                    self.watching.fail(now);
                    self.note_failure(now, "/watch/gameserver", &error.into());
                    return;
                }
            }
        }
        let Some(watch) = &mut self.watch else { return };
        let mut changes = Vec::new();
        let read = watch.read(now, &mut changes);
        let is_open = watch.is_open();
        if !changes.is_empty() {
            self.watching.succeed(now, RETRY.0);
        }
        for change in changes {
            self.take(now, change);
        }
        if let Err(failure) = read {
            self.watch = None;
            self.watching.fail(now);
            self.note_failure(now, "/watch/gameserver", &failure);
        }
        self.shared.is_watched.store(self.watch.is_some() && is_open, Ordering::Relaxed);
    }

    fn read(&mut self, json: &[u8]) -> Result<GameServer, Failure> {
        let read = serde_json::from_slice(json).map_err(|_| Failure::Io(invalid()));
        read.inspect_err(|failure| self.note_failure(Instant::now(), "/gameserver", failure))
    }

    /// Asks the sidecar; a failure is counted and logged.
    fn call(&mut self, method: &str, path: &str, json: Option<&str>) -> Result<Response, Failure> {
        let called = ask(self.sidecar, method, path, json);
        match &called {
            Ok(_) => {
                self.shared.done.fetch_add(1, Ordering::Relaxed);
                if std::mem::take(&mut self.is_failing)
                    && let Some(left_out) = self.log.take(Instant::now())
                {
                    log::warn!("Agones' sidecar answers again{left_out}");
                }
            }
            Err(failure) => self.note_failure(Instant::now(), path, failure),
        }
        called
    }

    fn note_failure(&mut self, now: Instant, path: &str, failure: &Failure) {
        let counter = match failure {
            Failure::Refused(..) => &self.shared.refused,
            Failure::Io(error) if error.kind() == io::ErrorKind::InvalidData => &self.shared.malformed,
            Failure::Io(_) => &self.shared.unanswered,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.is_failing = true;
        if let Some(left_out) = self.log.take(now) {
            log::warn!("Agones' sidecar at {} fails for {path}: {failure}{left_out}", self.sidecar);
        }
    }
}

/// Whether the counter is not declared, or counters are not enabled. The sidecar has no status of its own for that.
fn is_undeclared(failure: &Failure) -> bool {
    match failure {
        Failure::Refused(404 | 501, _) => true,
        Failure::Refused(_, sentence) => sentence.contains("ounter not found") || sentence.contains("not enabled"),
        Failure::Io(_) => false,
    }
}

fn connect(sidecar: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&sidecar, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn ask(sidecar: SocketAddr, method: &str, path: &str, json: Option<&str>) -> Result<Response, Failure> {
    let authority = sidecar.to_string();
    let request = Request { method, authority: &authority, path, headers: &[], json };
    let response = client::ask(&request, &mut connect(sidecar)?, RESPONSE_BYTES, PATIENCE)?;
    if response.status == 200 { Ok(response) } else { Err(refused(response.status, &response.body)) }
}

/// What a response says that is no success: its message, if it has one.
fn refused(status: u16, body: &[u8]) -> Failure {
    const CHARS: usize = 200;
    let fields: Option<BTreeMap<String, serde_json::Value>> = serde_json::from_slice(body).ok();
    let message = fields.as_ref().and_then(|fields| fields.get("message")?.as_str().map(str::to_owned));
    let sentence = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    Failure::Refused(status, sentence.chars().take(CHARS).collect())
}

/// The stream of changes of the game server: a line of JSON for each.
struct Watch {
    stream: TcpStream,
    /// When the head of the response must be there.
    deadline: Instant,
    framing: Option<Framing>,
    chunks: Chunks,
    /// What has arrived and is not decoded, and what is decoded and has no end of its line.
    bytes: Vec<u8>,
    line: Vec<u8>,
}

impl Watch {
    fn open(sidecar: SocketAddr, now: Instant) -> io::Result<Watch> {
        let mut stream = connect(sidecar)?;
        let authority = sidecar.to_string();
        let request = Request { authority: &authority, path: "/watch/gameserver", ..Request::default() };
        stream.write_all(&request.encode())?;
        stream.set_nonblocking(true)?;
        let (bytes, line) = (Vec::new(), Vec::new());
        Ok(Watch { stream, deadline: now + PATIENCE, framing: None, chunks: Chunks::default(), bytes, line })
    }

    fn is_open(&self) -> bool {
        self.framing.is_some()
    }

    /// Adds the changes that have arrived. An error ends the stream, after these.
    fn read(&mut self, now: Instant, changes: &mut Vec<GameServer>) -> Result<(), Failure> {
        let mut buffer = [0; 16 * 1024];
        for _ in 0..READS_AT_ONCE {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            self.decode(changes)?;
        }
        if !self.is_open() && now > self.deadline {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        Ok(())
    }

    fn decode(&mut self, changes: &mut Vec<GameServer>) -> Result<(), Failure> {
        if self.framing.is_none()
            && let Some(head) = client::head(&self.bytes)?
        {
            let rest = self.bytes.split_off(head.length);
            self.bytes = rest;
            if head.status != 200 {
                return Err(refused(head.status, &self.bytes));
            }
            self.framing = Some(head.framing);
        }
        let is_ended = match self.framing {
            Some(Framing::Chunked) => self.chunks.decode(&mut self.bytes, &mut self.line)?,
            Some(Framing::Length(_) | Framing::UntilClosed) => {
                self.line.append(&mut self.bytes);
                false
            }
            None => false,
        };
        if let Some(end) = self.line.iter().rposition(|&byte| byte == b'\n') {
            let rest = self.line.split_off(end + 1);
            let lines = std::mem::replace(&mut self.line, rest);
            for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
                let change: Change = serde_json::from_slice(line).map_err(|_| invalid())?;
                changes.push(change.result);
            }
        }
        if self.line.len() > RESPONSE_BYTES || (self.framing.is_none() && self.bytes.len() > RESPONSE_BYTES) {
            return Err(invalid().into());
        }
        if is_ended { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
