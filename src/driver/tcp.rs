//! The TCP connections: HTTP until one becomes a websocket.

mod admission;
mod connection;
mod idle;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use serde::{Deserialize, Serialize};
use slab::Slab;
use socket2::{SockRef, TcpKeepalive};

use self::admission::{Admission, Admitted};
use self::idle::{Idle, Waiting};
use super::admin::Console;
use super::gate::{Gate, Permission};
use super::http::{Outgoing, Reader, Request, Status};
use super::live::Sources;
use super::metered::{Budget, Metered};
use super::site::Site;
use super::tls::{Acceptor, Socket};
use super::websocket::{Closed, Websocket};
use crate::game::Game;
use crate::limits::{CALL_WORK, REQUEST_WORK, TURN_ACCEPTS};
use crate::rate::{canonical, network};
use crate::server::{ConnectionId, Server};
use crate::wire::signaling::{Fault, RoomName};

/// How long a chunk of a response may take, and how long a websocket with queued data may accept no byte.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The time from this end's close to the end of the connection.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// TCP keep-alive: the idle time, then the interval between probes.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));
/// Whether accepted sockets have the options of their listener, see tcp(7).
const INHERITS_OPTIONS: bool = cfg!(target_os = "linux");

/// Sets the options of a connection, on the listener or on the connection itself: small messages are sent at once, and
/// silent connections are probed.
///
/// # Errors
/// The OS refuses an option.
pub(super) fn set_options(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)
}

/// In the query of a URL at a port that nodes share: the name of the node.
pub(super) const NODE: &str = "node";

/// Through which listener a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entrance {
    /// The address that the listener is bound to.
    pub(super) ip: IpAddr,
    pub(super) role: Role,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    Game,
    Metrics,
    Admin,
}

struct Connection {
    id: ConnectionId,
    role: Role,
    remote: SocketAddr,
    /// The address of this machine that the client has used.
    local: IpAddr,
    admitted: Admitted,
    state: State,
    deadline: Option<Instant>,
    /// Until when it waits for its TLS handshake; nothing is read before.
    held: Option<Instant>,
    /// The deadline as listed in `Connections::deadlines`.
    scheduled: Option<Instant>,
    /// As listed in `Connections::idle`.
    idle: Option<Waiting>,
    /// Whether it is listed in `Connections::ready`.
    queued: bool,
    /// Whether the core has messages for it.
    signalled: bool,
    /// Whether the poll reports when it can be written to. Only once bytes have had to wait: at most sockets it would
    /// be a wake-up for nothing.
    is_watched_for_writing: bool,
}

enum State {
    Http(Http),
    /// The core decides on a call, whose answer gets this permission.
    Calling(Box<Calling>),
    /// The answer to the request depends on other nodes, of which the server has yet to hear.
    Inquiring(Box<(Http, Request)>),
    /// A websocket that the core knows of.
    Open(Websocket<TcpStream>),
    /// A websocket whose closing handshake is under way.
    Closing(Websocket<TcpStream>),
    /// The last bytes are sent. Data that still arrives is discarded: closing a socket with unread bytes would reset
    /// the connection, and the other end would lose what it has not read yet.
    Lingering(Socket<TcpStream>),
    Gone,
}

impl State {
    fn socket(&mut self) -> Option<&mut Socket<TcpStream>> {
        match self {
            State::Http(http) => Some(&mut http.socket),
            State::Calling(calling) => Some(&mut calling.http.socket),
            State::Inquiring(inquiring) => Some(&mut inquiring.0.socket),
            State::Open(websocket) | State::Closing(websocket) => Some(websocket.socket()),
            State::Lingering(socket) => Some(socket),
            State::Gone => None,
        }
    }
}

struct Http {
    socket: Socket<TcpStream>,
    reader: Reader,
    outgoing: Option<Outgoing>,
    next: Next,
    /// The limit that the connection exceeds. It is refused once it is known whether it requests a websocket.
    crowded: Option<Status>,
}

/// A call on which the core decides.
struct Calling {
    http: Http,
    room: RoomName,
    permission: Permission,
}

/// The state after a response.
enum Next {
    Request,
    /// A websocket of this room, from this address.
    Websocket {
        room: Option<RoomName>,
        remote: SocketAddr,
        headers: Vec<(String, String)>,
    },
    /// A websocket that is closed at once: pages can't read a refusal before the upgrade.
    Refusal(Fault),
    /// Nothing is sent before the core has decided on a call.
    Call(RoomName, Permission),
    Close,
}

/// Whether a connection has more work without waiting for its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Done,
    More,
}

impl Turn {
    /// The socket would have blocked, or the connection's share of work is used up.
    fn after(socket: &Metered<TcpStream>) -> Turn {
        if socket.is_exhausted() { Turn::More } else { Turn::Done }
    }
}

/// What a connection uses besides its socket.
pub(super) struct Context<'a, G: Game> {
    pub(super) now: Instant,
    pub(super) server: &'a mut Server<G>,
    pub(super) site: &'a Site,
    pub(super) registry: &'a Registry,
    pub(super) sources: Sources<'a>,
    pub(super) console: Option<&'a mut Console>,
    /// The name of the node, if several share their port.
    pub(super) node: Option<&'a str>,
}

/// All TCP connections of a server.
pub(super) struct Connections {
    slots: Slab<Connection>,
    /// The token of the connection in slot 0.
    first_token: usize,
    opened: u32,
    admission: Admission,
    /// How long a connection may wait for its next request.
    keep_alive: Duration,
    closed: Closed,
    deadlines: BTreeSet<(Instant, usize)>,
    idle: Idle,
    /// The connections with work, in the order of their turns.
    ready: VecDeque<usize>,
    /// Those whose requests wait to hear of other nodes. Some may have ended since.
    inquiring: BTreeSet<usize>,
}

impl Connections {
    /// `key` must be secret.
    pub(super) fn new(
        now: Instant,
        first_token: usize,
        gate: Gate,
        keep_alive: Duration,
        key: [u8; 32],
    ) -> Connections {
        Connections {
            slots: Slab::new(),
            first_token,
            opened: 0,
            admission: Admission::new(now, gate, key),
            keep_alive,
            closed: Closed::default(),
            deadlines: BTreeSet::new(),
            idle: Idle::default(),
            ready: VecDeque::new(),
            inquiring: BTreeSet::new(),
        }
    }

    pub(super) fn gate_mut(&mut self) -> &mut Gate {
        &mut self.admission.gate
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(super) fn set_places(&mut self, places: usize) {
        self.admission.set_places(places);
    }

    /// Logs how many lines were left out.
    pub(super) fn flush_log(&mut self, now: Instant) {
        self.admission.player_log.flush(now);
    }

    /// Whether a connection has work left.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Adds an accepted connection, or refuses it.
    pub(super) fn handle_accepted(
        &mut self,
        now: Instant,
        registry: &Registry,
        socket: Socket<TcpStream>,
        remote: SocketAddr,
        Entrance { ip: bound, role }: Entrance,
    ) {
        let remote = canonical(remote);
        let wait = match socket.awaits_handshake() {
            true => self.admission.pace_handshake(now, remote.ip()),
            false => Some(Duration::ZERO),
        };
        let Some(wait) = wait else {
            log::debug!("{remote}: closed: too many TLS handshakes");
            socket.refuse_handshake();
            return;
        };
        let admitted = match role {
            Role::Game => self.admit(now, remote.ip()),
            // A full server must not keep its operators out, nor they its players.
            Role::Metrics | Role::Admin => match self.admit_operator(role) {
                Some(admitted) => Ok(admitted),
                None => return,
            },
        };
        let (admitted, refusal) = match admitted {
            Ok(admitted) => (admitted, None),
            Err(status) => match self.admission.crowd_out(remote.ip()) {
                Some(admitted) => (admitted, Some(status)),
                None => return,
            },
        };
        let held = (!wait.is_zero()).then(|| now + wait);
        // If the connection has failed, reading from it reports that.
        let local = match bound {
            bound if bound.is_unspecified() => socket.meter.get_ref().local_addr().map_or(bound, |local| local.ip()),
            bound => bound,
        };
        if !INHERITS_OPTIONS {
            let _ = set_options(SockRef::from(socket.meter.get_ref()));
        }
        let mut http = Http {
            socket,
            reader: Reader::new(now + wait, self.keep_alive),
            outgoing: None,
            next: Next::Request,
            crowded: refusal,
        };
        if refusal.is_some() {
            log::debug!("{remote}: refused: too many connections");
        }
        let entry = self.slots.vacant_entry();
        let slot = entry.key();
        let token = Token(self.first_token + slot);
        if let Err(error) = registry.register(http.socket.meter.get_mut(), token, Interest::READABLE) {
            log::warn!("{remote}: {error}");
            self.admission.release(admitted);
            return;
        }
        self.opened = self.opened.wrapping_add(1);
        let id = ConnectionId(u64::from(self.opened) << 32 | slot as u64);
        let deadline = held.or(Some(http.reader.poll_timeout()));
        let state = State::Http(http);
        entry.insert(Connection {
            id,
            role,
            remote,
            local,
            admitted,
            state,
            deadline,
            held,
            scheduled: None,
            idle: None,
            queued: false,
            signalled: false,
            is_watched_for_writing: false,
        });
        self.schedule(slot);
        self.queue(slot);
    }

    /// Admits a connection to a listener for operators, if necessary instead of one that waits for a request.
    fn admit_operator(&mut self, role: Role) -> Option<Admitted> {
        if let Some(admitted) = self.admission.admit_operator(role) {
            return Some(admitted);
        }
        let of_role = self.slots.iter().filter(|(_, connection)| connection.admitted == Admitted::Operator(role));
        let waiting = of_role.filter(|(_, connection)| connection.awaits_request() && !connection.queued);
        let (slot, _) = waiting.min_by_key(|(_, connection)| (!connection.is_idle(), connection.deadline))?;
        self.slots[slot].state = State::Gone;
        self.settle(slot, Turn::Done);
        self.admission.admit_operator(role)
    }

    /// Admits a connection, if necessary instead of one that waits for its next request.
    fn admit(&mut self, now: Instant, remote: IpAddr) -> Result<Admitted, Status> {
        let admitted = self.admission.admit(remote);
        let longest = match admitted {
            Ok(_) => None,
            Err(Status::TooManyRequests) => self.idle.longest_of(network(remote)),
            Err(_) => self.idle.longest(),
        };
        let Some(slot) = longest else { return admitted };
        let connection = &mut self.slots[slot];
        // It gets a response before it is closed, like those that are refused.
        match self.admission.admit_refused(connection.remote.ip()) {
            Some(refused) => {
                let admitted = std::mem::replace(&mut connection.admitted, refused);
                self.admission.release(admitted);
                connection.end(now);
            }
            None => connection.state = State::Gone,
        }
        self.admission.counters.evicted += 1;
        self.settle(slot, Turn::More);
        self.admission.admit(remote)
    }

    /// The OS allows no more connections: closes those that wait for their next request.
    pub(super) fn handle_shortage(&mut self) {
        for _ in 0..TURN_ACCEPTS {
            let Some(slot) = self.idle.longest() else { return };
            self.slots[slot].state = State::Gone;
            self.admission.counters.evicted += 1;
            self.settle(slot, Turn::Done);
        }
    }

    /// The socket with this token is readable or writable again. `is_ending` means that the other end has closed or the
    /// connection has failed.
    pub(super) fn handle_event(&mut self, token: Token, is_ending: bool) {
        let slot = token.0 - self.first_token;
        if let Some(socket) = self.slots.get_mut(slot).and_then(|connection| connection.state.socket()) {
            socket.meter.handle_readable(is_ending);
        }
        self.queue(slot);
    }

    /// Other nodes have been heard of.
    pub(super) fn handle_inquired(&mut self) {
        for slot in std::mem::take(&mut self.inquiring) {
            self.queue(slot);
        }
    }

    fn queue(&mut self, slot: usize) {
        if let Some(connection) = self.slots.get_mut(slot)
            && !connection.queued
            && connection.held.is_none()
        {
            connection.queued = true;
            self.ready.push_back(slot);
            // Its next request may have arrived.
            if let Some(idle) = connection.idle.take() {
                self.idle.remove(idle, slot);
            }
        }
    }

    /// Serves the ready connections round-robin until the budget is spent. The next turn continues with the connection
    /// behind the last one that was served.
    pub(super) fn handle_ready<G: Game>(&mut self, context: &mut Context<'_, G>, budget: &mut Budget) {
        self.note_signals(context.server);
        while !budget.is_spent()
            && let Some(slot) = self.ready.pop_front()
        {
            let Some(connection) = self.slots.get_mut(slot) else { continue };
            connection.queued = false;
            if let Some(socket) = connection.state.socket() {
                socket.meter.allow(budget.share());
            }
            let turn = connection.handle_ready(context, &mut self.admission, &mut self.closed);
            let spent = connection.state.socket().map_or(REQUEST_WORK, |socket| socket.meter.spent());
            let handshake = context.sources.tls.map_or(0, Acceptor::take_work);
            budget.spend(spent.max(CALL_WORK) + handshake);
            if matches!(connection.state, State::Inquiring(_)) {
                self.inquiring.insert(slot);
            }
            let token = Token(self.first_token + slot);
            if let Err(error) = connection.watch_for_writing(context.registry, token) {
                log::warn!("{}: {error}", connection.remote);
            }
            self.settle(slot, turn);
            self.note_signals(context.server);
        }
    }

    /// Handles expired deadlines, within the budget.
    pub(super) fn handle_timeout<G: Game>(&mut self, now: Instant, server: &mut Server<G>, budget: &mut Budget) {
        while !budget.is_spent()
            && let Some((deadline, slot)) = self.deadlines.first().copied()
            && deadline <= now
        {
            budget.spend(REQUEST_WORK);
            let connection = &mut self.slots[slot];
            connection.handle_timeout(now, server, &mut self.admission.counters, &mut self.closed);
            // Its answer, if any, goes out with the connection's next share.
            self.settle(slot, Turn::More);
        }
    }

    /// Queues the connections that the core has messages for.
    fn note_signals<G: Game>(&mut self, server: &mut Server<G>) {
        while let Some(id) = server.poll_signal_ready() {
            let Ok(slot) = usize::try_from(id.0 & u64::from(u32::MAX)) else { continue };
            let Some(connection) = self.slots.get_mut(slot).filter(|connection| connection.id == id) else { continue };
            connection.signalled = true;
            self.queue(slot);
        }
    }

    /// The server stops: closes idle connections now, the others when they are finished.
    pub(super) fn handle_shutdown(&mut self) {
        let slots: Vec<usize> = self.slots.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let connection = &mut self.slots[slot];
            match &mut connection.state {
                State::Http(http) if http.outgoing.is_some() => http.next = Next::Close,
                State::Http(_) | State::Lingering(_) => connection.state = State::Gone,
                State::Calling(_) | State::Inquiring(_) | State::Open(_) | State::Closing(_) | State::Gone => {}
            }
            self.settle(slot, Turn::Done);
        }
    }

    /// Updates deadlines and queues after a connection has made progress.
    fn settle(&mut self, slot: usize, turn: Turn) {
        if matches!(self.slots[slot].state, State::Gone) {
            let connection = self.slots.remove(slot);
            self.admission.release(connection.admitted);
            if let Some(scheduled) = connection.scheduled {
                self.deadlines.remove(&(scheduled, slot));
            }
            if let Some(idle) = connection.idle {
                self.idle.remove(idle, slot);
            }
            return;
        }
        self.schedule(slot);
        if turn == Turn::More {
            self.queue(slot);
        }
    }

    fn schedule(&mut self, slot: usize) {
        let connection = &mut self.slots[slot];
        if connection.scheduled != connection.deadline {
            if let Some(scheduled) = connection.scheduled {
                self.deadlines.remove(&(scheduled, slot));
            }
            if let Some(deadline) = connection.deadline {
                self.deadlines.insert((deadline, slot));
            }
            connection.scheduled = connection.deadline;
        }
        let idle = connection.waiting();
        if connection.idle != idle {
            if let Some(idle) = connection.idle {
                self.idle.remove(idle, slot);
            }
            if let Some(idle) = idle {
                self.idle.insert(idle, slot);
            }
            connection.idle = idle;
        }
    }
}
