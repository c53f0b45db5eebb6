//! What one connection does with its turns, from its first request to its end.

use std::io::{self, Read};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::super::admin::{CLUSTER, Desk};
use super::super::call;
use super::super::doctor::Seen;
use super::super::gate::is_local;
use super::super::http::{Malformed, Method, Outgoing, Request, Response, Sender, Status};
use super::super::live::{self, Asker};
use super::super::metrics::{HttpCounters, Tcp};
use super::super::refusals::{rejection, to_https, unencrypted};
use super::super::site::{Answer, ROOMS};
use super::super::tls::{Redirect, Socket};
use super::super::websocket::{Closed, Gone, Received, Violation, Websocket};
use super::admission::{Admission, Admitted};
use super::idle::Waiting;
use super::{CLOSE_TIMEOUT, Calling, Connection, Context, Http, NODE, Next, Role, State, Turn, WRITE_TIMEOUT};
use crate::cluster::About;
use crate::game::Game;
use crate::limits::{INQUIRY_TIMEOUT, REQUEST_WORK};
use crate::log_limit::Who;
use crate::server::{Call, Connect, Disconnect, PASS, Server, Signal};
use crate::wire::codes::CLOSE_REFUSED;
use crate::wire::signaling::{self, Fault, RoomName};

impl Connection {
    /// Whether a request is expected, or a part of one.
    pub(super) fn awaits_request(&self) -> bool {
        matches!(&self.state, State::Http(http) if http.outgoing.is_none())
    }

    /// Whether the next request after an answer is expected.
    pub(super) fn is_idle(&self) -> bool {
        matches!(&self.state, State::Http(http) if http.outgoing.is_none() && http.reader.is_idle())
    }

    /// The address, if the connection waits for its next request.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        match (self.admitted, self.deadline) {
            (Admitted::Http(network), Some(until)) if self.is_idle() => Some(Waiting { network, until }),
            _ => None,
        }
    }

    /// Watches a socket on which bytes wait.
    pub(super) fn watch_for_writing(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if !self.is_watched_for_writing
            && let Some(socket) = self.state.socket().filter(|socket| socket.meter.has_waiting())
        {
            registry.reregister(socket.meter.get_mut(), token, Interest::READABLE | Interest::WRITABLE)?;
            self.is_watched_for_writing = true;
        }
        Ok(())
    }

    pub(super) fn handle_ready<G: Game>(
        &mut self,
        context: &mut Context<'_, G>,
        admission: &mut Admission,
        closed: &mut Closed,
    ) -> Turn {
        let (state, turn) = match std::mem::replace(&mut self.state, State::Gone) {
            State::Http(http) => self.serve(http, context, admission, closed),
            State::Calling(calling) => self.await_decision(*calling, context),
            State::Inquiring(inquiring) => self.await_inquiry(inquiring, context, admission, closed),
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
        while !http.socket.meter.is_exhausted() {
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
                Ok(Some(mut request)) => {
                    request.sender.is_secure = http.socket.is_secure();
                    http.socket.meter.charge(REQUEST_WORK);
                    if self.must_inquire(&request, context) {
                        self.deadline = Some(now + INQUIRY_TIMEOUT);
                        return (State::Inquiring(Box::new((http, request))), Turn::Done);
                    }
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
                        // The alert must not be lost by a reset.
                        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                            log::debug!("{}: TLS failed: {error}", self.remote);
                            return (self.linger(http.socket, now), Turn::More);
                        }
                        Err(_) => return (State::Gone, Turn::Done),
                    }
                }
                Err(malformed) => self.refuse(&mut http, malformed, now, &mut admission.counters),
            }
        }
        let turn = Turn::after(&http.socket.meter);
        (State::Http(http), turn)
    }

    /// Whether the server has yet to hear of other nodes what the answer tells of them.
    fn must_inquire<G: Game>(&self, request: &Request, context: &mut Context<'_, G>) -> bool {
        let about = match (self.role, request.path.as_str()) {
            (Role::Game, ROOMS) => About::Rooms,
            (Role::Admin, CLUSTER) => About::Nodes,
            _ => return false,
        };
        !context.server.inquire(context.now, about)
    }

    /// Answers a request once other nodes have been heard of, or its time is over.
    fn await_inquiry<G: Game>(
        &mut self,
        inquiring: Box<(Http, Request)>,
        context: &mut Context<'_, G>,
        admission: &mut Admission,
        closed: &Closed,
    ) -> (State, Turn) {
        if self.deadline.is_some() && self.must_inquire(&inquiring.1, context) {
            return (State::Inquiring(inquiring), Turn::Done);
        }
        let (mut http, request) = *inquiring;
        self.answer(&mut http, &request, context, admission, closed);
        self.deadline = Some(context.now + WRITE_TIMEOUT);
        self.serve(http, context, admission, closed)
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
        let now = &context.now;
        if let Some(rejection) = rejection(http.crowded, request) {
            admission.counters.no_websocket += u64::from(request.has_lost_cookies);
            self.reject(http, request, rejection, *now, admission);
            return;
        }
        if let Some(redirect) = http.socket.redirect() {
            self.redirect(http, request, redirect, context, admission);
            return;
        }
        let named = context.node.zip(request.parameter(NODE));
        if named.is_some_and(|(own, node)| node != own) && request.websocket.is_none() {
            // The parent of nodes has seen the first request of the connection only.
            let sentence = "This connection leads to another node: open a new one.";
            let response = Response::sentence(Status::MisdirectedRequest, sentence);
            (http.outgoing, http.next) = (Some(response.into_outgoing(request.method, None)), Next::Close);
            return;
        }
        let keeps_alive = request.keep_alive && named.is_none();
        let keep_alive = keeps_alive.then(|| http.reader.keep_alive());
        let next = if keeps_alive { Next::Request } else { Next::Close };
        if request.has_lost_upgrade {
            admission.counters.lost_upgrade += 1;
            let sentence = admission.dropped_upgrades.note(*now, self.remote);
            let response = Response::sentence(Status::UpgradeRequired, &sentence);
            (http.outgoing, http.next) = (Some(response.into_outgoing(request.method, keep_alive)), next);
            return;
        }
        if self.role != Role::Game {
            let response = self.answer_operator(request, context, admission, closed);
            (http.outgoing, http.next) = (Some(response.into_outgoing(request.method, keep_alive)), next);
            return;
        }
        let Context { now, server, site, sources, .. } = context;
        let mut permission = admission.gate.permission(&request.sender, self.remote, local);
        let tcp = Tcp { refused_pages: admission.gate.refused(), http: admission.counters, closed: *closed };
        let refusal = permission.refusal.take();
        let is_local = refusal.is_none() && is_local(&request.sender, self.remote.ip());
        let asker = Asker { refusal, local, is_local, seen: self.seen(request, *now, admission) };
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
                let pass = request.parameter(PASS);
                let is_vouched = |origin: &str| pass.is_some_and(|pass| server.is_vouched(*now, origin, pass));
                http.next = match admission.gate.check(&request.sender, self.remote, local, is_vouched) {
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
                match admission.gate.check(&request.sender, self.remote, local, |_| false) {
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

    /// The response to a request on a listener for operators.
    fn answer_operator<G: Game>(
        &self,
        request: &Request,
        context: &mut Context<'_, G>,
        admission: &mut Admission,
        closed: &Closed,
    ) -> Response {
        let tcp = Tcp { refused_pages: admission.gate.refused(), http: admission.counters, closed: *closed };
        let Context { now, server, site, sources, console, .. } = context;
        match console {
            Some(console) if self.role == Role::Admin => {
                let gate = &mut admission.gate;
                console.answer(request, self.remote, Desk { now: *now, server, site, sources, gate, tcp })
            }
            _ => match (request.method, request.path.as_str()) {
                (Method::Get | Method::Head, "/metrics") => sources.metrics(*now, server, tcp),
                (Method::Get | Method::Head, "/healthz") => Response::sentence(Status::Ok, "ok"),
                (Method::Get | Method::Head, "/readyz") => live::ready(server),
                _ => Response::sentence(Status::NotFound, "Here are /metrics, /healthz and /readyz only."),
            },
        }
    }

    /// Redirects an unencrypted request, apart from a websocket's: browsers don't follow such a redirect.
    fn redirect<G: Game>(
        &mut self,
        http: &mut Http,
        request: &Request,
        redirect: Redirect,
        context: &Context<'_, G>,
        admission: &mut Admission,
    ) {
        if request.websocket.is_some() {
            self.reject(http, request, unencrypted(), context.now, admission);
            return;
        }
        let response = context.site.challenge(request).unwrap_or_else(|| to_https(request, redirect));
        (http.outgoing, http.next) = (Some(response.into_outgoing(request.method, None)), Next::Close);
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
                    let turn = Turn::after(&calling.http.socket.meter);
                    (State::Calling(Box::new(calling)), turn)
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
        while !websocket.socket().meter.is_exhausted() {
            match websocket.read(now) {
                Received::Text(text) => {
                    websocket.socket().meter.charge(REQUEST_WORK);
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
        let turn = Turn::after(&websocket.socket().meter);
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
        let has_progressed = websocket.socket().meter.take_progress();
        if !websocket.has_waiting() {
            self.deadline = None;
        } else if has_progressed || self.deadline.is_none() {
            self.deadline = Some(now + WRITE_TIMEOUT);
        }
    }

    pub(super) fn handle_timeout<G: Game>(
        &mut self,
        now: Instant,
        server: &mut Server<G>,
        counters: &mut HttpCounters,
        closed: &mut Closed,
    ) {
        self.deadline = None;
        if self.held.take().is_some()
            && let State::Http(http) = &self.state
        {
            self.deadline = Some(http.reader.poll_timeout());
            return;
        }
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Http(mut http) if http.outgoing.is_none() => match http.reader.handle_timeout() {
                Some(malformed) => {
                    self.refuse(&mut http, malformed, now, counters);
                    State::Http(http)
                }
                // A request in flight must meet a closed connection, not a reset one.
                None => self.linger(http.socket, now),
            },
            // It gets its answer in the next turn, with what is known.
            State::Inquiring(inquiring) => State::Inquiring(inquiring),
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
    pub(super) fn end(&mut self, now: Instant) {
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Http(http) => self.linger(http.socket, now),
            other => other,
        };
    }

    fn linger(&mut self, mut socket: Socket<TcpStream>, now: Instant) -> State {
        self.deadline = Some(now + CLOSE_TIMEOUT);
        match socket.shut_down() {
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
    while !websocket.socket().meter.is_exhausted() {
        match websocket.read(now) {
            Received::Gone | Received::Violation(_) => return (State::Gone, Turn::Done),
            Received::Blocked => break,
            Received::Text(_) | Received::Binary(_) | Received::Control | Received::Pong(_) | Received::Goodbye(_) => {}
        }
    }
    let turn = Turn::after(&websocket.socket().meter);
    (State::Closing(websocket), turn)
}

fn discard(mut socket: Socket<TcpStream>) -> (State, Turn) {
    let mut buffer = [0; 2048];
    while !socket.meter.is_exhausted() {
        match socket.meter.read(&mut buffer) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Ok(0) | Err(_) => return (State::Gone, Turn::Done),
        }
    }
    let turn = Turn::after(&socket.meter);
    (State::Lingering(socket), turn)
}
