//! The TCP connections: HTTP until one becomes a websocket.

mod admission;
mod idle;

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;
use socket2::{SockRef, TcpKeepalive};

use self::admission::{Admission, Admitted};
use self::idle::{Idle, Waiting};
use super::call;
use super::doctor::Seen;
use super::gate::{Gate, Permission, is_local};
use super::http::{Malformed, Method, Outgoing, Reader, Request, Response, Sender, Status};
use super::live::{Asker, Sources};
use super::metered::{Budget, Metered};
use super::metrics::{HttpCounters, Tcp};
use super::refusals::rejection;
use super::site::{Answer, Site};
use super::websocket::{Closed, Gone, Received, Violation, Websocket};
use crate::game::Game;
use crate::limits::{CALL_WORK, REQUEST_WORK, TURN_ACCEPTS};
use crate::log_limit::Who;
use crate::rate::{canonical, network};
use crate::server::{Call, Connect, ConnectionId, Disconnect, Server, Signal};
use crate::wire::codes::CLOSE_REFUSED;
use crate::wire::signaling::{self, Fault, RoomName};

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

struct Connection {
    id: ConnectionId,
    remote: SocketAddr,
    /// The address of this machine that the client has used.
    local: IpAddr,
    admitted: Admitted,
    state: State,
    deadline: Option<Instant>,
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
    /// A websocket that the core knows of.
    Open(Websocket<TcpStream>),
    /// A websocket whose closing handshake is under way.
    Closing(Websocket<TcpStream>),
    /// The last bytes are sent. Data that still arrives is discarded: closing a socket with unread bytes would reset
    /// the connection, and the other end would lose what it has not read yet.
    Lingering(Metered<TcpStream>),
    Gone,
}

impl State {
    fn socket(&mut self) -> Option<&mut Metered<TcpStream>> {
        match self {
            State::Http(http) => Some(&mut http.socket),
            State::Calling(calling) => Some(&mut calling.http.socket),
            State::Open(websocket) | State::Closing(websocket) => Some(websocket.socket()),
            State::Lingering(socket) => Some(socket),
            State::Gone => None,
        }
    }
}

struct Http {
    socket: Metered<TcpStream>,
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
}

impl Connections {
    pub(super) fn new(first_token: usize, gate: Gate, keep_alive: Duration) -> Connections {
        Connections {
            slots: Slab::new(),
            first_token,
            opened: 0,
            admission: Admission::new(gate),
            keep_alive,
            closed: Closed::default(),
            deadlines: BTreeSet::new(),
            idle: Idle::default(),
            ready: VecDeque::new(),
        }
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
    ///
    /// `bound` is the address that the listener is bound to.
    pub(super) fn handle_accepted(
        &mut self,
        now: Instant,
        registry: &Registry,
        socket: TcpStream,
        remote: SocketAddr,
        bound: IpAddr,
    ) {
        let remote = canonical(remote);
        let (admitted, refusal) = match self.admit(now, remote.ip()) {
            Ok(admitted) => (admitted, None),
            Err(status) => match self.admission.crowd_out(remote.ip()) {
                Some(admitted) => (admitted, Some(status)),
                None => return,
            },
        };
        // If the connection has failed, reading from it reports that.
        let local = match bound {
            bound if bound.is_unspecified() => socket.local_addr().map_or(bound, |local| local.ip()),
            bound => bound,
        };
        if !INHERITS_OPTIONS {
            let _ = set_options(SockRef::from(&socket));
        }
        let socket = Metered::new(socket);
        let mut http = Http {
            socket,
            reader: Reader::new(now, self.keep_alive),
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
        if let Err(error) = registry.register(http.socket.get_mut(), token, Interest::READABLE) {
            log::warn!("{remote}: {error}");
            self.admission.release(admitted);
            return;
        }
        self.opened = self.opened.wrapping_add(1);
        let id = ConnectionId(u64::from(self.opened) << 32 | slot as u64);
        let deadline = Some(http.reader.poll_timeout());
        let state = State::Http(http);
        entry.insert(Connection {
            id,
            remote,
            local,
            admitted,
            state,
            deadline,
            scheduled: None,
            idle: None,
            queued: false,
            signalled: false,
            is_watched_for_writing: false,
        });
        self.schedule(slot);
        self.queue(slot);
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
            socket.handle_readable(is_ending);
        }
        self.queue(slot);
    }

    fn queue(&mut self, slot: usize) {
        if let Some(connection) = self.slots.get_mut(slot)
            && !connection.queued
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
                socket.allow(budget.share());
            }
            let turn = connection.handle_ready(context, &mut self.admission, &mut self.closed);
            let spent = connection.state.socket().map_or(REQUEST_WORK, |socket| socket.spent());
            budget.spend(spent.max(CALL_WORK));
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
                State::Calling(_) | State::Open(_) | State::Closing(_) | State::Gone => {}
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

impl Connection {
    /// The address, if the connection waits for its next request.
    fn waiting(&self) -> Option<Waiting> {
        match (&self.state, self.admitted, self.deadline) {
            (State::Http(http), Admitted::Http(network), Some(until))
                if http.outgoing.is_none() && http.reader.is_idle() =>
            {
                Some(Waiting { network, until })
            }
            _ => None,
        }
    }

    /// Watches a socket on which bytes wait.
    fn watch_for_writing(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if !self.is_watched_for_writing
            && let Some(socket) = self.state.socket().filter(|socket| socket.has_waiting())
        {
            registry.reregister(socket.get_mut(), token, Interest::READABLE | Interest::WRITABLE)?;
            self.is_watched_for_writing = true;
        }
        Ok(())
    }

    fn handle_ready<G: Game>(
        &mut self,
        context: &mut Context<'_, G>,
        admission: &mut Admission,
        closed: &mut Closed,
    ) -> Turn {
        let (state, turn) = match std::mem::replace(&mut self.state, State::Gone) {
            State::Http(http) => self.serve(http, context, admission, closed),
            State::Calling(calling) => self.await_decision(*calling, context),
            State::Open(websocket) => self.exchange(websocket, context, closed),
            State::Closing(websocket) => finish_closing(websocket, context.now),
            State::Lingering(socket) => discard(socket),
            State::Gone => (State::Gone, Turn::Done),
        };
        self.state = state;
        turn
    }

    /// Answers one request after the other. Nothing is read while a response waits for the socket.
    fn serve<G: Game>(
        &mut self,
        mut http: Http,
        context: &mut Context<'_, G>,
        admission: &mut Admission,
        closed: &Closed,
    ) -> (State, Turn) {
        let now = context.now;
        while !http.socket.is_exhausted() {
            if let Some(outgoing) = &mut http.outgoing {
                match outgoing.write(&mut http.socket) {
                    Ok(false) => self.deadline = Some(now + WRITE_TIMEOUT),
                    Ok(true) => {
                        http.outgoing = None;
                        match std::mem::replace(&mut http.next, Next::Request) {
                            Next::Request => {
                                http.reader.restart(now);
                                self.deadline = Some(http.reader.poll_timeout());
                            }
                            Next::Websocket { room, remote, headers } => {
                                self.remote = remote;
                                return (self.open(http, room, headers, context, admission), Turn::More);
                            }
                            Next::Refusal(fault) => return (self.refuse_page(http, &fault, now), Turn::More),
                            Next::Close | Next::Call(..) => return (self.linger(http.socket, now), Turn::More),
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return (State::Gone, Turn::Done),
                }
                continue;
            }
            match http.reader.poll_request() {
                Ok(Some(request)) => {
                    http.socket.charge(REQUEST_WORK);
                    self.answer(&mut http, &request, context, admission, closed);
                    self.deadline = Some(now + WRITE_TIMEOUT);
                    if matches!(http.next, Next::Call(..))
                        && let Next::Call(room, permission) = std::mem::replace(&mut http.next, Next::Close)
                    {
                        return (State::Calling(Box::new(Calling { http, room, permission })), Turn::More);
                    }
                }
                Ok(None) => {
                    let mut buffer = [0; 2048];
                    let length = http.reader.capacity().min(buffer.len());
                    match http.socket.read(&mut buffer[..length]) {
                        Ok(0) => return (State::Gone, Turn::Done),
                        Ok(read) => {
                            http.reader.handle_bytes(now, &buffer[..read]);
                            self.deadline = Some(http.reader.poll_timeout());
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(_) => return (State::Gone, Turn::Done),
                    }
                }
                Err(malformed) => self.refuse(&mut http, malformed, now, &mut admission.counters),
            }
        }
        let turn = Turn::after(&http.socket);
        (State::Http(http), turn)
    }

    fn answer<G: Game>(
        &mut self,
        http: &mut Http,
        request: &Request,
        context: &mut Context<'_, G>,
        admission: &mut Admission,
        closed: &Closed,
    ) {
        let local = Some(self.local).filter(|local| !local.is_unspecified());
        let Context { now, server, site, sources, .. } = context;
        if let Some(rejection) = rejection(http.crowded, request) {
            admission.counters.no_websocket += u64::from(request.has_lost_cookies);
            self.reject(http, request, rejection, *now, admission);
            return;
        }
        let keep_alive = request.keep_alive.then(|| http.reader.keep_alive());
        let next = if request.keep_alive { Next::Request } else { Next::Close };
        if request.has_lost_upgrade {
            admission.counters.lost_upgrade += 1;
            let sentence = admission.dropped_upgrades.note(*now, self.remote);
            let response = Response::sentence(Status::UpgradeRequired, &sentence);
            (http.outgoing, http.next) = (Some(response.into_outgoing(request.method, keep_alive)), next);
            return;
        }
        let mut permission = admission.gate.permission(&request.sender, self.remote, local);
        let tcp = Tcp { refused_pages: admission.gate.refused(), http: admission.counters, closed: *closed };
        let refusal = permission.refusal.take();
        let is_local = refusal.is_none() && is_local(&request.sender, self.remote.ip());
        let asker = Asker { refusal, local, seen: self.seen(request, *now, admission) };
        let live = |what| sources.answer(what, asker, *now, server, tcp);
        match site.answer(request, is_local, live) {
            Answer::Response(response) => {
                log::trace!("{}: {:?} {}", self.remote, request.path, response.status as u16);
                admission.counters.forbidden += u64::from(response.status == Status::Forbidden);
                let response = permission.apply(request, response);
                (http.outgoing, http.next) = (Some(response.into_outgoing(request.method, keep_alive)), next);
            }
            Answer::Websocket { upgrade, room } => {
                http.outgoing = Some(Outgoing::switching_protocols(&upgrade.accept_key));
                http.next = match admission.gate.check(&request.sender, self.remote, local) {
                    Ok(remote) => Next::Websocket { room, remote, headers: upgrade.headers },
                    Err(fault) => {
                        let who = Who::at(self.remote, room.as_ref().map(RoomName::as_str));
                        admission.player_log.note_refused(*now, who, &fault);
                        Next::Refusal(fault)
                    }
                };
            }
            Answer::Call { room, publishes } => {
                let offer = String::from_utf8_lossy(&request.body).into_owned();
                let bearer = request.authorization.as_deref().and_then(|it| it.strip_prefix("Bearer "));
                match admission.gate.check(&request.sender, self.remote, local) {
                    Ok(remote) => {
                        let connect = Connect::new(Some(room.clone()), remote, self.local);
                        let call = Call { publishes, bearer: bearer.map(str::to_owned), offer };
                        server.handle_call(*now, self.id, connect, call);
                        http.next = Next::Call(room, permission);
                    }
                    Err(fault) => {
                        admission.player_log.note_refused(*now, Who::at(self.remote, Some(room.as_str())), &fault);
                        let response = permission.apply(request, Response::sentence(Status::Forbidden, &fault.message));
                        (http.outgoing, http.next) = (Some(response.into_outgoing(request.method, None)), Next::Close);
                    }
                }
            }
            Answer::HangUp { socket_id, resume } => {
                let response = if server.handle_hang_up(*now, &socket_id, &resume) {
                    Response::empty(Status::Ok)
                } else {
                    Response::sentence(Status::NotFound, "There is no such session.")
                };
                let response = permission.apply(request, response);
                (http.outgoing, http.next) = (Some(response.into_outgoing(request.method, keep_alive)), next);
            }
            Answer::NoWebsocket { fault } => {
                admission.counters.no_websocket += 1;
                self.reject(http, request, (Status::NotFound, fault), *now, admission);
            }
        }
    }

    /// Refuses a request regardless of its path. A page that requests a websocket gets a signaling message with the
    /// reason, because it can't read an HTTP response.
    fn reject(
        &mut self,
        http: &mut Http,
        request: &Request,
        (status, fault): (Status, Fault),
        now: Instant,
        admission: &mut Admission,
    ) {
        let Some(upgrade) = &request.websocket else {
            let response = Response::sentence(status, &fault.message);
            (http.outgoing, http.next) = (Some(response.into_outgoing(request.method, None)), Next::Close);
            return;
        };
        admission.player_log.note_refused(now, Who::at(self.remote, None), &fault);
        http.outgoing = Some(Outgoing::switching_protocols(&upgrade.accept_key));
        http.next = Next::Refusal(fault);
    }

    fn seen(&self, request: &Request, now: Instant, admission: &mut Admission) -> Seen {
        let Sender { host, forwarded_host, forwarded_proto, forwarded_for, .. } = request.sender.clone();
        let proxy_trusted = admission.gate.is_proxy(self.remote.ip());
        let upgrades_dropped = admission.dropped_upgrades.count(now);
        Seen { host, forwarded_host, forwarded_proto, forwarded_for, proxy_trusted, upgrades_dropped }
    }

    fn refuse(&mut self, http: &mut Http, malformed: Malformed, now: Instant, counters: &mut HttpCounters) {
        log::debug!("{}: {}", self.remote, malformed.sentence);
        counters.malformed += 1;
        let response = Response::sentence(malformed.status, malformed.sentence);
        http.outgoing = Some(response.into_outgoing(Method::Get, None));
        http.next = Next::Close;
        self.deadline = Some(now + WRITE_TIMEOUT);
    }

    /// Sends the core's decision on a call. Then the connection closes, so that its ID names one call only.
    fn await_decision<G: Game>(&mut self, mut calling: Calling, context: &mut Context<'_, G>) -> (State, Turn) {
        let now = context.now;
        let Some(decision) = context.server.poll_signal(self.id).and_then(call::decision) else {
            self.signalled = false;
            return match calling.http.socket.read(&mut [0; 2048]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (State::Calling(Box::new(calling)), Turn::Done)
                }
                // Another request before the answer gets none.
                Ok(1..) => (State::Calling(Box::new(calling)), Turn::More),
                Ok(0) | Err(_) => {
                    context.server.handle_disconnect(now, self.id, Disconnect::Goodbye);
                    (State::Gone, Turn::Done)
                }
            };
        };
        context.server.handle_disconnect(now, self.id, Disconnect::Goodbye);
        let Calling { mut http, room, permission } = calling;
        let response = permission.allow(call::response(&decision, &room));
        http.outgoing = Some(response.into_outgoing(Method::Post, None));
        http.next = Next::Close;
        self.deadline = Some(now + WRITE_TIMEOUT);
        (State::Http(http), Turn::More)
    }

    fn open<G: Game>(
        &mut self,
        http: Http,
        room: Option<RoomName>,
        headers: Vec<(String, String)>,
        context: &mut Context<'_, G>,
        admission: &mut Admission,
    ) -> State {
        admission.upgrade(&mut self.admitted);
        self.deadline = None;
        let connect = Connect { room, remote: self.remote, local: self.local, headers };
        context.server.handle_connect(context.now, self.id, connect);
        State::Open(Websocket::new(context.now, http.socket, http.reader.into_rest()))
    }

    /// Sends a signaling message with the reason of a refusal. The websocket counts as unjoined until it is closed.
    fn refuse_page(&mut self, http: Http, fault: &Fault, now: Instant) -> State {
        let mut websocket = Websocket::new(now, http.socket, http.reader.into_rest());
        let code = fault.code.as_str().to_owned();
        let written = websocket
            .write(Signal::Text(signaling::refused_join(fault)))
            .and_then(|()| websocket.write(Signal::Close { code: CLOSE_REFUSED, reason: code }));
        if written.is_ok() { self.close(websocket, now) } else { State::Gone }
    }

    /// Sends the messages of the core, then receives.
    fn exchange<G: Game>(
        &mut self,
        mut websocket: Websocket<TcpStream>,
        context: &mut Context<'_, G>,
        closed: &mut Closed,
    ) -> (State, Turn) {
        let now = context.now;
        match self.send_signals(&mut websocket, context) {
            Ok(Sent::All) => {}
            Ok(Sent::Close) => return (self.close(websocket, now), Turn::More),
            Err(Gone) => return self.lose(now, context.server),
        }
        while !websocket.socket().is_exhausted() {
            match websocket.read(now) {
                Received::Text(text) => {
                    websocket.socket().charge(REQUEST_WORK);
                    context.server.handle_text(now, self.id, &text);
                }
                Received::Binary(bytes) => context.server.handle_binary(now, self.id, &bytes),
                Received::Control => {}
                Received::Blocked => break,
                Received::Pong(payload) => context.server.handle_pong(now, self.id, &payload),
                Received::Goodbye(how) => {
                    context.server.handle_disconnect(now, self.id, how);
                    return (self.close(websocket, now), Turn::More);
                }
                Received::Violation(violation) => {
                    log::debug!("{}: closed: {violation:?}", self.remote);
                    closed.count(violation);
                    if violation == Violation::TooLarge
                        && let Some(refusal) = context.server.refuse_oversized(now, self.id)
                        && websocket.write(Signal::Text(refusal)).is_err()
                    {
                        return self.lose(now, context.server);
                    }
                    context.server.handle_disconnect(now, self.id, Disconnect::Broken);
                    return match websocket.fail(violation) {
                        Ok(()) if !websocket.has_waiting() => (self.linger(websocket.into_socket(), now), Turn::More),
                        _ => (State::Gone, Turn::Done),
                    };
                }
                Received::Gone => return self.lose(now, context.server),
            }
        }
        let turn = Turn::after(websocket.socket());
        self.note_progress(&mut websocket, now);
        (State::Open(websocket), turn)
    }

    /// Sends queued data and the messages of the core for this websocket, until the socket would block.
    fn send_signals<G: Game>(
        &mut self,
        websocket: &mut Websocket<TcpStream>,
        context: &mut Context<'_, G>,
    ) -> Result<Sent, Gone> {
        websocket.flush()?;
        while self.signalled && websocket.is_writable() {
            let Some(signal) = context.server.poll_signal(self.id) else {
                self.signalled = false;
                break;
            };
            let closes = matches!(signal, Signal::Close { .. });
            websocket.write(signal)?;
            if closes {
                context.server.handle_disconnect(context.now, self.id, Disconnect::Goodbye);
                return Ok(Sent::Close);
            }
        }
        websocket.flush()?;
        Ok(Sent::All)
    }

    /// Closes a websocket that accepts no data for too long.
    fn note_progress(&mut self, websocket: &mut Websocket<TcpStream>, now: Instant) {
        let has_progressed = websocket.socket().take_progress();
        if !websocket.has_waiting() {
            self.deadline = None;
        } else if has_progressed || self.deadline.is_none() {
            self.deadline = Some(now + WRITE_TIMEOUT);
        }
    }

    fn handle_timeout<G: Game>(
        &mut self,
        now: Instant,
        server: &mut Server<G>,
        counters: &mut HttpCounters,
        closed: &mut Closed,
    ) {
        self.deadline = None;
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Http(mut http) if http.outgoing.is_none() => match http.reader.handle_timeout() {
                Some(malformed) => {
                    self.refuse(&mut http, malformed, now, counters);
                    State::Http(http)
                }
                // A request in flight must meet a closed connection, not a reset one.
                None => self.linger(http.socket, now),
            },
            State::Calling(_) => {
                server.handle_disconnect(now, self.id, Disconnect::Goodbye);
                State::Gone
            }
            State::Open(_) => {
                log::debug!("{}: closed: nothing could be sent for {} seconds", self.remote, WRITE_TIMEOUT.as_secs());
                closed.stalled += 1;
                self.lose(now, server).0
            }
            _ => State::Gone,
        };
    }

    /// The websocket was lost without a closing handshake.
    fn lose<G: Game>(&self, now: Instant, server: &mut Server<G>) -> (State, Turn) {
        server.handle_disconnect(now, self.id, Disconnect::Lost);
        (State::Gone, Turn::Done)
    }

    fn close(&mut self, websocket: Websocket<TcpStream>, now: Instant) -> State {
        self.deadline = Some(now + CLOSE_TIMEOUT);
        State::Closing(websocket)
    }

    /// Ends a connection that waits for its next request.
    fn end(&mut self, now: Instant) {
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Http(http) => self.linger(http.socket, now),
            other => other,
        };
    }

    fn linger(&mut self, socket: Metered<TcpStream>, now: Instant) -> State {
        self.deadline = Some(now + CLOSE_TIMEOUT);
        match socket.get_ref().shutdown(Shutdown::Write) {
            Ok(()) => State::Lingering(socket),
            Err(_) => State::Gone,
        }
    }
}

/// Whether the message ends the connection.
enum Sent {
    All,
    Close,
}

fn finish_closing(mut websocket: Websocket<TcpStream>, now: Instant) -> (State, Turn) {
    if websocket.flush().is_err() {
        return (State::Gone, Turn::Done);
    }
    while !websocket.socket().is_exhausted() {
        match websocket.read(now) {
            Received::Gone | Received::Violation(_) => return (State::Gone, Turn::Done),
            Received::Blocked => break,
            Received::Text(_) | Received::Binary(_) | Received::Control | Received::Pong(_) | Received::Goodbye(_) => {}
        }
    }
    let turn = Turn::after(websocket.socket());
    (State::Closing(websocket), turn)
}

fn discard(mut socket: Metered<TcpStream>) -> (State, Turn) {
    let mut buffer = [0; 2048];
    while !socket.is_exhausted() {
        match socket.read(&mut buffer) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Ok(0) | Err(_) => return (State::Gone, Turn::Done),
        }
    }
    let turn = Turn::after(&socket);
    (State::Lingering(socket), turn)
}
