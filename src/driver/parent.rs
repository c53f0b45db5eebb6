//! The parent of a machine's nodes: one process that listens, and starts a process for each node.
//!
//! Each connection is passed to a node once its first line has arrived, which only the node reads: the parent looks at
//! it ([`glance`]). The node that the line names in its query gets it, else the one that has its room, else one that is
//! little busy. Without `--redis` the parent keeps the store in which the nodes agree ([`Keeper`]).
//!
//! A node that has ended is started again. What signals ask of the parent it passes on, and it ends after its nodes.

mod glance;
mod node;
mod waiting;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::thread::sched_getaffinity;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use socket2::SockRef;

use self::glance::{Glance, Wish};
use self::node::{Ended, Node};
use self::waiting::{Taken, Waiting};
use super::http::Status;
use super::link::{Begin, ToNode, ToParent};
use super::listener::Listener;
use super::redis::Keeper;
use super::service::{self, Service};
use super::tcp::{self, Entrance, Role};
use super::tls::Security;
use super::{BindError, bind};
use crate::limits::{MACHINE_NODES, WAITING_CONNECTIONS};
use crate::wire::signaling::RoomName;

const SIGNALS: Token = Token(0);
// Three kinds of listeners: two sockets each.
const LISTENERS: usize = 1;
const NODES: usize = 7;
const WAITING: usize = NODES + MACHINE_NODES;
const EVENTS: usize = 256;
/// How often a connection is offered again to a node that takes none.
const RETRY: Duration = Duration::from_millis(20);
/// How long the players of a new room follow the first one.
const CHOSEN_FOR: Duration = Duration::from_secs(2);
/// How long nodes that stop at once have for it.
const KILL_AFTER: Duration = Duration::from_secs(2);

/// The options of a parent.
#[derive(Debug)]
pub(crate) struct ParentOptions {
    /// As [`Options::listen`](super::Options::listen).
    pub(crate) listen: SocketAddr,
    /// The UDP address of the first node; by default that of `listen` with the next port. The other nodes have the
    /// ports that follow. Port 0 stands for free ports.
    pub(crate) udp: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) admin: Option<SocketAddr>,
    /// The number of nodes, 1 to [`MACHINE_NODES`]; by default one for each core that this process may use.
    pub(crate) nodes: Option<usize>,
    /// What the names of the nodes begin with.
    pub(crate) name: String,
    /// Whether the nodes agree in the parent.
    pub(crate) has_store: bool,
    /// The argument that tells a process of this program which node it is, before the name of that.
    pub(crate) argument: &'static str,
}

/// The parent of the nodes of a machine.
pub(crate) struct Parent {
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    nodes: Vec<Node>,
    by_name: BTreeMap<String, usize>,
    waiting: Waiting,
    keeper: Option<Arc<Keeper>>,
    service: Service,
    local: SocketAddr,
    /// Which node gets the next connection for which all are alike.
    next: usize,
    /// The nodes that were chosen for rooms lately, and until when others follow there: the store may not know yet.
    chosen: BTreeMap<RoomName, usize>,
    chosen_until: VecDeque<(Instant, RoomName)>,
    is_announced: bool,
    /// Whether SIGTERM has come.
    is_terminated: bool,
    /// How often the nodes were asked to stop.
    stops: u32,
    /// When those that have not stopped are killed.
    kill: Option<Instant>,
    /// How a node has ended before all of them took connections.
    failure: Option<ExitCode>,
}

impl Parent {
    /// Opens the sockets.
    ///
    /// # Errors
    /// An address is in use or not local, a port is out of range, or a socket of the service manager can't be used.
    pub(crate) fn bind(options: ParentOptions) -> Result<Parent, BindError> {
        let cores = cores();
        let count = options.nodes.unwrap_or_else(|| available(&cores)).clamp(1, MACHINE_NODES);
        let (tcp, local) = listen(options.listen)?;
        let mut open: Vec<_> = tcp.into_iter().map(|socket| (socket, Role::Game)).collect();
        let tcp = open.iter().map(|(socket, _)| socket.local_addr()).collect::<io::Result<Vec<_>>>()?;
        for (option, address, role) in
            [("--metrics", options.metrics, Role::Metrics), ("--admin", options.admin, Role::Admin)]
        {
            if let Some(address) = address {
                open.extend(bind::listeners(option, address)?.into_iter().map(|socket| (socket, role)));
            }
        }
        let poll = Poll::new()?;
        let registry = poll.registry();
        let mut listeners = Vec::new();
        for (index, (mut socket, role)) in open.into_iter().enumerate() {
            registry.register(&mut socket, Token(LISTENERS + index), Interest::READABLE)?;
            let entrance = Entrance { ip: socket.local_addr()?.ip(), role };
            listeners.push(Listener::new(socket, entrance, Security::None));
        }
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGCHLD])?;
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;

        let udp = options.udp.unwrap_or(SocketAddr::new(local.ip(), options.listen.port()));
        // Beside the TCP port, so that port and name of a node go together.
        let first = u16::from(options.udp.is_none());
        let mut nodes = Vec::with_capacity(count);
        for index in 0..count {
            let port = match udp.port() {
                0 => Some(0),
                port => u16::try_from(index).ok().and_then(|index| port.checked_add(first)?.checked_add(index)),
            };
            let port = port.ok_or(BindError::NodePorts(count))?;
            let udp = bind::datagrams("--udp", SocketAddr::new(udp.ip(), port))?;
            let name = format!("{}-{}", options.name, index + 1);
            let begin = Begin {
                nodes: count,
                // Where nodes have to share cores, the operating system shares them better.
                core: if count <= cores.len() { cores.get(index).copied() } else { None },
                tcp: tcp.clone(),
                has_store: options.has_store,
            };
            nodes.push(Node::new(name, begin, udp, options.argument));
        }
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        Ok(Parent {
            poll,
            signals,
            listeners,
            by_name: nodes.iter().map(|node| node.name().to_owned()).zip(0..).collect(),
            nodes,
            waiting: Waiting::new(WAITING),
            keeper: options.has_store.then(|| Arc::new(Keeper::new(u64::from_ne_bytes(seed)))),
            service: Service::from_environment(Instant::now()),
            local,
            next: 0,
            chosen: BTreeMap::new(),
            chosen_until: VecDeque::new(),
            is_announced: false,
            is_terminated: false,
            stops: 0,
            kill: None,
            failure: None,
        })
    }

    /// Returns the TCP address that the nodes share.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns the TCP address for metrics.
    pub(crate) fn metrics_addr(&self) -> Option<SocketAddr> {
        self.address_of(Role::Metrics)
    }

    /// Returns the TCP address of the admin page.
    pub(crate) fn admin_addr(&self) -> Option<SocketAddr> {
        self.address_of(Role::Admin)
    }

    fn address_of(&self, role: Role) -> Option<SocketAddr> {
        let listener = self.listeners.iter().find(|listener| listener.entrance.role == role)?;
        listener.local_addr().ok()
    }

    /// Returns the local addresses at which players may reach the nodes, loopback last.
    pub(crate) fn interfaces(&self) -> Vec<IpAddr> {
        bind::interfaces(&[self.local.ip()]).unwrap_or_default()
    }

    /// Returns the names of the nodes, and their UDP ports.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, u16)> {
        self.nodes.iter().map(|node| (node.name(), node.udp_port()))
    }

    /// Runs until all nodes have stopped. `announce` is called once all take connections. Returns the exit status: that
    /// of a node if it could not start at all.
    ///
    /// # Errors
    /// The OS refuses to wait for events.
    pub(crate) fn run(mut self, announce: impl FnOnce(&Parent)) -> io::Result<ExitCode> {
        let mut events = Events::with_capacity(EVENTS);
        let mut announce = Some(announce);
        loop {
            let now = Instant::now();
            self.start_nodes(now);
            if !self.is_announced && self.nodes.iter().all(Node::is_ready) {
                self.is_announced = true;
                self.service.ready();
                if let Some(announce) = announce.take() {
                    announce(&self);
                }
            }
            if self.is_stopping() && self.nodes.iter().all(|node| !node.is_running()) {
                return Ok(self.failure.unwrap_or(ExitCode::SUCCESS));
            }
            let timeout = self.poll_timeout(now);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            self.service.note_turn(now);
            let mut is_retried = false;
            for event in &events {
                match event.token() {
                    SIGNALS => self.handle_signals(now),
                    Token(token @ WAITING..) => self.route(token - WAITING),
                    Token(token @ NODES..) => {
                        self.hear(token - NODES);
                        is_retried = true;
                    }
                    Token(token) => {
                        if let Some(listener) = self.listeners.get_mut(token - LISTENERS) {
                            listener.readable = true;
                        }
                    }
                }
            }
            self.accept(now);
            if is_retried || self.waiting.is_retry_due(now) {
                self.waiting.take_complete().into_iter().for_each(|slot| self.route(slot));
            }
            self.handle_timeout(now);
        }
    }

    fn is_stopping(&self) -> bool {
        self.is_terminated || self.stops > 0
    }

    fn poll_timeout(&self, now: Instant) -> Option<Duration> {
        if self.listeners.iter().any(|listener| listener.readable && listener.retry.is_none()) {
            return Some(Duration::ZERO);
        }
        let of_nodes = self.nodes.iter().filter_map(Node::poll_timeout);
        let of_listeners = self.listeners.iter().filter_map(|listener| listener.retry);
        let others = [self.waiting.poll_timeout(), self.service.poll_timeout(), self.kill];
        let next = of_nodes.chain(of_listeners).chain(others.into_iter().flatten()).min();
        // Rounded up, as a shorter sleep would return before the time.
        next.map(|next| next.saturating_duration_since(now) + Duration::from_millis(1))
    }

    fn start_nodes(&mut self, now: Instant) {
        let is_stopping = self.is_stopping();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if is_stopping || !node.is_due(now) {
                continue;
            }
            match node.start(now) {
                Ok(fd) => {
                    let source = &mut SourceFd(&fd);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    if let Err(error) = self.poll.registry().register(source, Token(NODES + index), interest) {
                        log::error!("node {} can't be heard: {error}", node.name());
                    }
                }
                Err(error) => log::error!("node {} can't be started, and is tried again: {error}", node.name()),
            }
        }
    }

    fn handle_signals(&mut self, now: Instant) {
        for signal in self.signals.pending().collect::<Vec<_>>() {
            match signal {
                SIGCHLD => self.reap(now),
                SIGHUP => {
                    self.service.reloading();
                    self.tell(&ToNode::Reload);
                    self.service.ready();
                }
                SIGTERM if !self.is_terminated => {
                    self.is_terminated = true;
                    self.service.stopping("waiting for the nodes to stop");
                    self.tell(&ToNode::Drain);
                }
                _ => self.stop(now),
            }
        }
    }

    /// Stops the nodes, or at once if they were asked to before.
    fn stop(&mut self, now: Instant) {
        self.stops += 1;
        if self.stops == 1 {
            self.listeners.clear();
            self.service.stopping("closing connections");
            self.tell(&ToNode::Stop);
        } else {
            self.tell(&ToNode::StopNow);
            self.kill.get_or_insert(now + KILL_AFTER);
        }
    }

    fn tell(&self, message: &ToNode) {
        for node in &self.nodes {
            if let Err(error) = node.send(message, &[]) {
                log::warn!("node {} can't be told {message:?}: {error}", node.name());
            }
        }
    }

    /// Notes which nodes have ended.
    fn reap(&mut self, now: Instant) {
        for index in 0..self.nodes.len() {
            let is_stopping = self.is_stopping();
            let node = &mut self.nodes[index];
            let Some(Ended { status, after }) = node.reap(now) else { continue };
            if let Some(keeper) = &self.keeper {
                keeper.forget(node.name());
            }
            if is_stopping {
                log::info!("node {} has stopped: {status}", node.name());
            } else if !self.is_announced {
                log::error!("node {} could not start: {status}", node.name());
                let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
                self.failure = Some(ExitCode::from(code.unwrap_or(1)));
                self.stop(now);
            } else {
                let millis = after.as_millis();
                log::error!("node {} has ended ({status}), and is started again in {millis} ms", node.name());
            }
        }
    }

    /// Handles what a node has sent.
    fn hear(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while let Some((message, sockets)) = node.receive() {
            match (message, sockets.into_iter().next(), &self.keeper) {
                (ToParent::Ready, ..) => node.note_ready(true),
                (ToParent::Stopping, ..) => node.note_ready(false),
                (ToParent::Store, Some(socket), Some(keeper)) => {
                    let stream = UnixStream::from(socket);
                    let kept = stream.try_clone().and_then(|kept| keeper.serve(node.name(), stream).map(|()| kept));
                    match kept {
                        Ok(kept) => node.note_store(kept),
                        Err(error) => log::warn!("node {} can't use the store: {error}", node.name()),
                    }
                }
                (ToParent::Store, ..) => {}
            }
        }
    }

    fn accept(&mut self, now: Instant) {
        let mut slots = Vec::new();
        for listener in &mut self.listeners {
            let role = listener.entrance.role;
            let has_place = listener.accept(now, |stream, remote| {
                slots.push(self.waiting.insert(now, stream, remote.ip(), role));
            });
            if !has_place {
                self.waiting.evict();
            }
        }
        // Its first line is often there already.
        slots.into_iter().for_each(|slot| self.route(slot));
    }

    /// Passes a connection to a node if its first line is there.
    fn route(&mut self, slot: usize) {
        let Some(role) = self.waiting.role(slot) else { return };
        let wish = match self.waiting.look(slot, self.poll.registry()) {
            Glance::Wait => return,
            Glance::Gone => return self.waiting.remove(slot, self.poll.registry()),
            Glance::Line(wish) => wish,
        };
        let node = match &wish.node {
            Some(name) => match self.by_name.get(name) {
                Some(index) => *index,
                None => {
                    let names: Vec<&str> = self.nodes.iter().map(Node::name).collect();
                    let sentence = format!("There is no such node: name one of {}.", names.join(", "));
                    return self.waiting.refuse(slot, self.poll.registry(), Status::NotFound, &sentence);
                }
            },
            None => self.choose(role, &wish),
        };
        let node = &self.nodes[node];
        if node.is_ready() {
            let pass = |stream: std::os::fd::BorrowedFd<'_>| node.send(&ToNode::Connection(role), &[stream]);
            if let Taken::No(error) = self.waiting.pass(slot, self.poll.registry(), pass) {
                log::debug!("node {} takes no connection now: {error}", node.name());
            }
        }
    }

    /// Chooses a node for a connection that names none.
    fn choose(&mut self, role: Role, wish: &Wish) -> usize {
        if role != Role::Game {
            return 0;
        }
        let now = Instant::now();
        while let Some((_, room)) = self.chosen_until.pop_front_if(|(until, _)| *until <= now) {
            self.chosen.remove(&room);
        }
        let ready = |index: &usize| self.nodes[*index].is_ready();
        if let (Some(keeper), Some(room)) = (&self.keeper, &wish.room)
            && let Some(index) = keeper.owner(room).and_then(|owner| self.by_name.get(&*owner).copied()).filter(ready)
        {
            return index;
        }
        if let Some(index) = wish.room.as_ref().and_then(|room| self.chosen.get(room).copied()).filter(ready) {
            return index;
        }
        let chosen = self.least_busy(wish);
        if let Some(room) = &wish.room
            && self.chosen.len() < WAITING_CONNECTIONS
            && self.chosen.insert(room.clone(), chosen).is_none()
        {
            self.chosen_until.push_back((now + CHOSEN_FOR, room.clone()));
        }
        chosen
    }

    /// Returns the node that is least busy, or the next one if a request is for none in particular.
    fn least_busy(&mut self, wish: &Wish) -> usize {
        let ready = |index: &usize| self.nodes[*index].is_ready();
        if let (Some(keeper), true) = (&self.keeper, wish.is_of_player) {
            let loads = keeper.loads();
            let loads = loads.iter().filter_map(|(name, load)| Some((*self.by_name.get(name)?, *load)));
            let least = loads.filter(|(index, _)| ready(index)).min_by(|(_, one), (_, other)| one.total_cmp(other));
            if let Some((index, _)) = least {
                return index;
            }
        }
        let count = self.nodes.len();
        let chosen = (0..count).map(|step| (self.next + step) % count).find(ready).unwrap_or(self.next);
        self.next = (chosen + 1) % count;
        chosen
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.waiting.handle_timeout(now, self.poll.registry());
        if self.kill.is_some_and(|kill| kill <= now) {
            self.kill = None;
            self.nodes.iter_mut().for_each(Node::kill);
        }
    }
}

/// Listens, or takes the sockets that the service manager has opened. Returns the first address, too.
fn listen(address: SocketAddr) -> Result<(Vec<TcpListener>, SocketAddr), BindError> {
    let (mut tcp, udp) = service::take_sockets()?;
    if !udp.is_empty() {
        return Err(BindError::Passed(
            "it has opened a UDP socket, but each node has a UDP port of its own: leave ListenDatagram out of the unit",
        ));
    }
    if tcp.is_empty() {
        tcp = bind::listeners("--listen", address)?;
    }
    tcp.iter().try_for_each(|socket| tcp::set_options(SockRef::from(socket)))?;
    let local = tcp[0].local_addr()?;
    Ok((tcp, local))
}

/// The cores that this process may use.
fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// How many cores' worth of time this process may use.
fn available(cores: &[usize]) -> usize {
    std::thread::available_parallelism().map_or(cores.len().max(1), std::num::NonZero::get)
}
