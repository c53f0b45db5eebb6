//! The TCP connections: HTTP until one becomes a websocket.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;
use socket2::{SockRef, TcpKeepalive};

use super::gate::Gate;
use super::http::{Malformed, Outgoing, Reader, Request, Response, Status};
use super::live::Sources;
use super::metered::{Budget, Metered};
use super::metrics::Tcp;
use super::site::{Answer, Site};
use super::websocket::{Closed, Gone, Received, Websocket};
use crate::game::Game;
use crate::limits::{CALL_WORK, CONNECTIONS, REQUEST_WORK, UNJOINED_PER_ADDRESS};
use crate::rate::{canonical, network};
use crate::server::{Connect, ConnectionId, Disconnect, Server, Signal};
use crate::wire::codes::CLOSE_REFUSED;
use crate::wire::signaling::{self, Fault, RoomName};

/// How long a chunk of a response may take, and how long a websocket may take no byte of what waits for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// From this end's goodbye to the end of the connection.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections past a limit that are told so at once, before others are just closed.
const REFUSED: usize = 256;
/// Silence after which the OS asks whether the other end is there, then how often.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));

/// Which connections are let in: how many are open, and from where. Neither loopback nor a proxy has a limit of its
/// own: everybody may come from there.
#[derive(Debug, Default)]
struct Admission {
    gate: Gate,
    open: usize,
    refused: usize,
    /// Connections that are not websockets yet.
    http: BTreeMap<IpAddr, usize>,
}

/// How a connection is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admitted {
    Http(IpAddr),
    Websocket,
    Refused,
}

impl Admission {
    fn admit(&mut self, remote: IpAddr) -> Result<Admitted, Status> {
        let network = network(remote);
        let here = self.http.get(&network).copied().unwrap_or(0);
        if self.open >= CONNECTIONS {
            Err(Status::ServiceUnavailable)
        } else if here >= UNJOINED_PER_ADDRESS && !remote.is_loopback() && !self.gate.is_proxy(remote) {
            Err(Status::TooManyRequests)
        } else {
            self.open += 1;
            self.http.insert(network, here + 1);
            Ok(Admitted::Http(network))
        }
    }

    /// A connection that is past a limit may be told so: `None` where there are too many of them.
    fn admit_refused(&mut self) -> Option<Admitted> {
        (self.refused < REFUSED).then(|| {
            self.refused += 1;
            Admitted::Refused
        })
    }

    fn upgrade(&mut self, admitted: &mut Admitted) {
        self.release_http(*admitted);
        *admitted = Admitted::Websocket;
    }

    fn release(&mut self, admitted: Admitted) {
        self.release_http(admitted);
        match admitted {
            Admitted::Http(_) | Admitted::Websocket => self.open -= 1,
            Admitted::Refused => self.refused -= 1,
        }
    }

    fn release_http(&mut self, admitted: Admitted) {
        if let Admitted::Http(network) = admitted
            && let Some(count) = self.http.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                self.http.remove(&network);
            }
        }
    }
}

struct Connection {
    id: ConnectionId,
    remote: SocketAddr,
    admitted: Admitted,
    state: State,
    deadline: Option<Instant>,
    /// The deadline as it stands in `Connections::deadlines`.
    scheduled: Option<Instant>,
    /// Whether it stands in `Connections::ready`.
    queued: bool,
    /// Whether the core has messages for it.
    signalled: bool,
}

enum State {
    Http(Http),
    /// A websocket that the core knows of.
    Open(Websocket<TcpStream>),
    /// A websocket whose closing handshake is under way.
    Closing(Websocket<TcpStream>),
    /// The last bytes are sent. What still arrives is thrown away: closing a socket with unread bytes would make the
    /// other end lose what it has not read yet.
    Lingering(Metered<TcpStream>),
    Gone,
}

impl State {
    fn socket(&mut self) -> Option<&mut Metered<TcpStream>> {
        match self {
            State::Http(http) => Some(&mut http.socket),
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
}

/// What follows a response.
enum Next {
    Request,
    /// A websocket of this room, that comes from there.
    Websocket {
        room: Option<RoomName>,
        remote: SocketAddr,
        headers: Vec<(String, String)>,
    },
    /// A websocket that is closed at once: browsers show a page nothing of a refusal before it opens.
    Refusal(Fault),
    Close,
}

/// Whether a connection has more to do without waiting for its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Done,
    More,
}

impl Turn {
    /// After a socket would have blocked, or seemed to because its share was used up.
    fn after(socket: &Metered<TcpStream>) -> Turn {
        if socket.is_exhausted() { Turn::More } else { Turn::Done }
    }
}

/// What a connection works with beside its socket.
pub(super) struct Context<'a, G: Game> {
    pub(super) now: Instant,
    pub(super) server: &'a mut Server<G>,
    pub(super) site: &'a Site,
    pub(super) sources: Sources<'a>,
}

/// All TCP connections of a server.
pub(super) struct Connections {
    slots: Slab<Connection>,
    /// The token of the connection in slot 0.
    first_token: usize,
    opened: u32,
    admission: Admission,
    closed: Closed,
    deadlines: BTreeSet<(Instant, usize)>,
    /// Those with something to do, in the order of their turns.
    ready: VecDeque<usize>,
}

impl Connections {
    pub(super) fn new(first_token: usize, gate: Gate) -> Connections {
        Connections {
            slots: Slab::new(),
            first_token,
            opened: 0,
            admission: Admission { gate, ..Admission::default() },
            closed: Closed::default(),
            deadlines: BTreeSet::new(),
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

    /// Whether a connection has more to do than there was time for.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes in a connection that has been accepted, or tells it why not.
    pub(super) fn handle_accepted(&mut self, now: Instant, registry: &Registry, socket: TcpStream, remote: SocketAddr) {
        let remote = canonical(remote);
        let (admitted, refusal) = match self.admission.admit(remote.ip()) {
            Ok(admitted) => (admitted, None),
            Err(status) => match self.admission.admit_refused() {
                Some(admitted) => (admitted, Some(status)),
                None => return,
            },
        };
        // Small messages leave at once. A connection that dies in the mean time is found out by its reader.
        let _ = socket.set_nodelay(true);
        let _ = SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE);
        let socket = Metered::new(socket);
        let mut http = Http { socket, reader: Reader::new(now), outgoing: None, next: Next::Request };
        if let Some(status) = refusal {
            log::debug!("{remote}: refused, too many connections");
            let sentence = if status == Status::TooManyRequests {
                "Too many connections from this address; close some and try again."
            } else {
                "The server is full; try again later."
            };
            http.outgoing = Some(Response::sentence(status, sentence).into_outgoing(false, false));
            http.next = Next::Close;
        }
        let entry = self.slots.vacant_entry();
        let slot = entry.key();
        let token = Token(self.first_token + slot);
        if let Err(error) = registry.register(http.socket.get_mut(), token, Interest::READABLE | Interest::WRITABLE) {
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
            admitted,
            state,
            deadline,
            scheduled: None,
            queued: false,
            signalled: false,
        });
        self.schedule(slot);
        self.queue(slot);
    }

    /// The socket with this token can be read or written again.
    pub(super) fn handle_event(&mut self, token: Token) {
        self.queue(token.0 - self.first_token);
    }

    fn queue(&mut self, slot: usize) {
        if let Some(connection) = self.slots.get_mut(slot)
            && !connection.queued
        {
            connection.queued = true;
            self.ready.push_back(slot);
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
            self.settle(slot, turn);
            self.note_signals(context.server);
        }
    }

    /// Ends what has run out of time, within the budget.
    pub(super) fn handle_timeout<G: Game>(&mut self, now: Instant, server: &mut Server<G>, budget: &mut Budget) {
        while !budget.is_spent()
            && let Some((deadline, slot)) = self.deadlines.first().copied()
            && deadline <= now
        {
            budget.spend(REQUEST_WORK);
            let connection = &mut self.slots[slot];
            connection.handle_timeout(now, server, &mut self.closed);
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

    /// The server stops: who waits for nothing is closed now, the others when they are done.
    pub(super) fn handle_shutdown(&mut self) {
        let slots: Vec<usize> = self.slots.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let connection = &mut self.slots[slot];
            match &mut connection.state {
                State::Http(http) if http.outgoing.is_some() => http.next = Next::Close,
                State::Http(_) | State::Lingering(_) => connection.state = State::Gone,
                State::Open(_) | State::Closing(_) | State::Gone => {}
            }
            self.settle(slot, Turn::Done);
        }
    }

    /// Brings the books up to date after a connection has done something.
    fn settle(&mut self, slot: usize, turn: Turn) {
        if matches!(self.slots[slot].state, State::Gone) {
            let connection = self.slots.remove(slot);
            self.admission.release(connection.admitted);
            if let Some(scheduled) = connection.scheduled {
                self.deadlines.remove(&(scheduled, slot));
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
    }
}

impl Connection {
    fn handle_ready<G: Game>(
        &mut self,
        context: &mut Context<'_, G>,
        admission: &mut Admission,
        closed: &mut Closed,
    ) -> Turn {
        let (state, turn) = match std::mem::replace(&mut self.state, State::Gone) {
            State::Http(http) => self.serve(http, context, admission, closed),
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
                            Next::Close => return (self.linger(http.socket, now), Turn::More),
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
                }
                Ok(None) => {
                    let mut buffer = [0; 2048];
                    let length = http.reader.capacity().min(buffer.len());
                    match http.socket.read(&mut buffer[..length]) {
                        Ok(0) => return (State::Gone, Turn::Done),
                        Ok(read) => http.reader.handle_bytes(&buffer[..read]),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(_) => return (State::Gone, Turn::Done),
                    }
                }
                Err(malformed) => self.refuse(&mut http, malformed, now),
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
        let local = http.socket.get_ref().local_addr().ok().map(|local| local.ip());
        let Context { now, server, site, sources } = context;
        let tcp = Tcp { refused_pages: admission.gate.refused(), closed: *closed };
        let live = |what| sources.answer(what, *now, server, local, tcp);
        let next = if request.keep_alive { Next::Request } else { Next::Close };
        (http.outgoing, http.next) = match site.answer(request, live) {
            Answer::Response(response) => {
                log::trace!("{}: {:?} {}", self.remote, request.path, response.status as u16);
                (Some(response.into_outgoing(request.head, request.keep_alive)), next)
            }
            Answer::Websocket { upgrade, room } => {
                let switching = Outgoing::switching_protocols(&upgrade.accept_key);
                let next = match admission.gate.check(*now, &upgrade, self.remote, local) {
                    Ok(remote) => Next::Websocket { room, remote, headers: upgrade.headers },
                    Err(fault) => Next::Refusal(fault),
                };
                (Some(switching), next)
            }
        };
    }

    fn refuse(&mut self, http: &mut Http, malformed: Malformed, now: Instant) {
        log::debug!("{}: {}", self.remote, malformed.sentence);
        let response = Response::sentence(malformed.status, malformed.sentence);
        http.outgoing = Some(response.into_outgoing(false, false));
        http.next = Next::Close;
        self.deadline = Some(now + WRITE_TIMEOUT);
    }

    fn open<G: Game>(
        &mut self,
        http: Http,
        room: Option<RoomName>,
        headers: Vec<(String, String)>,
        context: &mut Context<'_, G>,
        admission: &mut Admission,
    ) -> State {
        let Ok(local) = http.socket.get_ref().local_addr() else { return State::Gone };
        admission.upgrade(&mut self.admitted);
        self.deadline = None;
        let connect = Connect { room, remote: self.remote, local: local.ip(), headers };
        context.server.handle_connect(context.now, self.id, connect);
        State::Open(Websocket::new(context.now, http.socket, http.reader.into_rest()))
    }

    /// Says in the words of signaling why a page may not play. It counts as unjoined until it is gone.
    fn refuse_page(&mut self, http: Http, fault: &Fault, now: Instant) -> State {
        let mut websocket = Websocket::new(now, http.socket, http.reader.into_rest());
        let code = fault.code.as_str().to_owned();
        let written = websocket
            .write(Signal::Text(signaling::refused_join(fault)))
            .and_then(|()| websocket.write(Signal::Close { code: CLOSE_REFUSED, reason: code }));
        if written.is_ok() { self.close(websocket, now) } else { State::Gone }
    }

    /// Sends what the core has, then takes what the other end has sent.
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

    /// Sends what waits and what the core has for this websocket, until the socket takes no more.
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
        Ok(Sent::All)
    }

    /// A websocket may be slow, but not take nothing for long.
    fn note_progress(&mut self, websocket: &mut Websocket<TcpStream>, now: Instant) {
        let has_progressed = websocket.socket().take_progress();
        if !websocket.has_waiting() {
            self.deadline = None;
        } else if has_progressed || self.deadline.is_none() {
            self.deadline = Some(now + WRITE_TIMEOUT);
        }
    }

    fn handle_timeout<G: Game>(&mut self, now: Instant, server: &mut Server<G>, closed: &mut Closed) {
        self.deadline = None;
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Http(mut http) if http.outgoing.is_none() => match http.reader.handle_timeout() {
                Some(malformed) => {
                    self.refuse(&mut http, malformed, now);
                    State::Http(http)
                }
                None => State::Gone,
            },
            State::Open(_) => {
                log::debug!("{}: closed: nothing could be sent for {} seconds", self.remote, WRITE_TIMEOUT.as_secs());
                closed.stalled += 1;
                self.lose(now, server).0
            }
            _ => State::Gone,
        };
    }

    /// The core's websocket is gone without a goodbye.
    fn lose<G: Game>(&self, now: Instant, server: &mut Server<G>) -> (State, Turn) {
        server.handle_disconnect(now, self.id, Disconnect::Lost);
        (State::Gone, Turn::Done)
    }

    fn close(&mut self, websocket: Websocket<TcpStream>, now: Instant) -> State {
        self.deadline = Some(now + CLOSE_TIMEOUT);
        State::Closing(websocket)
    }

    fn linger(&mut self, socket: Metered<TcpStream>, now: Instant) -> State {
        self.deadline = Some(now + CLOSE_TIMEOUT);
        match socket.get_ref().shutdown(Shutdown::Write) {
            Ok(()) => State::Lingering(socket),
            Err(_) => State::Gone,
        }
    }
}

/// Whether what was sent ends the connection.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_a_limit_until_its_connections_are_websockets() {
        let mut admission = Admission::default();
        let mut admitted: Vec<_> =
            (0..UNJOINED_PER_ADDRESS).map(|_| admission.admit(ip("192.0.2.1")).expect("room")).collect();
        assert_eq!(admission.admit(ip("192.0.2.1")), Err(Status::TooManyRequests));
        assert!(admission.admit(ip("192.0.2.2")).is_ok(), "others are not affected");
        admission.upgrade(&mut admitted[0]);
        let last = admission.admit(ip("192.0.2.1")).expect("room again");
        assert_eq!(admission.admit(ip("192.0.2.1")), Err(Status::TooManyRequests));
        admission.release(last);
        assert!(admission.admit(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn a_customer_of_ipv6_is_one_address() {
        let mut admission = Admission::default();
        for number in 0..UNJOINED_PER_ADDRESS {
            admission.admit(ip(&format!("2001:db8::{number:x}"))).expect("room");
        }
        assert_eq!(admission.admit(ip("2001:db8::ffff:1")), Err(Status::TooManyRequests));
        assert!(admission.admit(ip("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn the_server_has_a_limit_that_loopback_has_too() {
        let mut admission = Admission::default();
        let admitted: Vec<_> = (0..CONNECTIONS).map(|_| admission.admit(ip("127.0.0.1")).expect("room")).collect();
        assert_eq!(admission.admit(ip("127.0.0.1")), Err(Status::ServiceUnavailable));
        let refused: Vec<_> = (0..REFUSED).map(|_| admission.admit_refused().expect("told so")).collect();
        assert_eq!(admission.admit_refused(), None);
        admitted.into_iter().chain(refused).for_each(|one| admission.release(one));
        assert_eq!((admission.open, admission.refused, admission.http.len()), (0, 0, 0));
    }
}
