//! The driver: one thread with one event loop that provides sockets, clock and files to the sans-IO [`Server`].
//! Recordings are written by another thread, files are hashed by one (`site/manifests.rs`), and one reports to Agones.
//!
//! Each turn of the loop sleeps until there is something to do, reads the clock once, receives datagrams, runs timeouts
//! and ticks, and sends datagrams. Then it does a limited amount of TCP work ([`limits::TURN_WORK`]), so that requests
//! cannot delay a tick for longer. Readiness is edge-triggered: if a socket was not drained, the next sleep returns at
//! once.
//!
//! A turn costs about as much as handling several datagrams, so there are few. While all players have open data
//! channels, datagrams do not wake the loop: they are received right before the next tick, which they wait for anyway,
//! and at the latest after a quarter of a tick, or 25 ms, together with whatever else is due. The kernel reports when
//! each arrived, so that round trips don't include the wait. TCP always wakes the loop, and while a channel opens,
//! datagrams do too.

#![expect(clippy::disallowed_methods, reason = "this is where the clock is read")]

mod admin;
mod agones;
mod alarm;
mod bind;
mod call;
pub(crate) mod client;
#[cfg(feature = "script")]
pub(crate) mod development;
pub(crate) mod doctor;
mod door;
#[cfg(feature = "cluster")]
mod events;
mod gate;
mod handle;
mod http;
#[cfg(all(feature = "cluster", target_os = "linux"))]
mod link;
mod listener;
mod live;
mod metered;
pub(crate) mod metrics;
#[cfg(feature = "cluster")]
mod nodes;
mod options;
#[cfg(all(feature = "cluster", target_os = "linux"))]
mod parent;
mod recorder;
#[cfg(feature = "cluster")]
mod redis;
mod refusals;
mod reload;
mod sentinel;
mod service;
mod site;
mod tcp;
mod tls;
mod trace;
mod udp;
mod websocket;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[cfg(all(feature = "cluster", target_os = "linux"))]
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use self::admin::Console;
pub use self::admin::{Admin, AdminToken};
use self::agones::{Agones, Occupancy, Wanted};
use self::alarm::Alarm;
use self::doctor::Premises;
use self::door::{Inside, door};
#[cfg(feature = "cluster")]
pub use self::events::Broker;
#[cfg(feature = "cluster")]
use self::events::Publisher;
use self::gate::Gate;
pub use self::gate::Origin;
pub use self::handle::Handle;
#[cfg(all(feature = "cluster", target_os = "linux"))]
use self::link::Inlet;
#[cfg(all(feature = "cluster", target_os = "linux"))]
pub use self::link::Link;
use self::listener::Listener;
use self::live::Sources;
use self::metered::Budget;
#[cfg(feature = "cluster")]
use self::nodes::Membership;
#[cfg(feature = "cluster")]
pub(crate) use self::nodes::{ClusterStatus, NodeStatus, host_name};
pub use self::options::{BindError, Options, Record, Reload};
#[cfg(all(feature = "cluster", target_os = "linux"))]
pub(crate) use self::parent::{Parent, ParentOptions};
use self::recorder::Recordings;
use self::reload::Reloader;
use self::sentinel::{Observer, Pulse};
use self::service::Service;
use self::site::Site;
use self::tcp::{CLOSE_TIMEOUT, Connections, Context, Entrance, Role};
pub use self::tls::Tls;
use self::tls::{Acceptor, Security, Socket};
use self::trace::{Part, Trace, Turn, skipped};
use self::udp::Udp;
#[cfg(feature = "cluster")]
pub use self::{nodes::Node, redis::Store};
#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
use crate::game::{Game, Refusal, RoomInfo};
use crate::hooks::Hooks;
use crate::limits;
use crate::log_limit::Throttle;
use crate::server::{Activity, Config, Gauges, Histogram, Server};

/// Datagrams received from one socket per turn of the loop.
const TURN_DATAGRAMS: usize = 512;
/// The minimum time between two turns of the loop, unless something is due: waking for every single piece of received
/// data would cost more than handling it.
const TURN_INTERVAL: Duration = Duration::from_millis(1);
/// The longest time that datagrams and timers wait for a turn while all players have open data channels: this share of
/// a tick, but no longer than the maximum.
const TURNS_PER_TICK: u32 = 4;
const TURN_WAIT_MAX: Duration = Duration::from_millis(25);
/// Events taken from the OS at once.
const EVENTS: usize = 1024;
/// The maximum number of rounds that receive events before timeouts run, after the process was suspended.
const LATE_ROUNDS: usize = 16;
/// Datagrams received from one socket in each of these rounds: 64 Ki in all, more than a socket's buffer holds.
const LATE_ROUND_DATAGRAMS: usize = 64 * 1024 / LATE_ROUNDS;
/// The interval at which this machine's addresses are checked.
const INTERFACES_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which the wall clock is read; it may be set at any time.
const WORLD_CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// Limits the log lines about ticks that were skipped.
const MISSED_LOG: Throttle = Throttle::new(3, Duration::from_secs(10));

#[cfg(feature = "cluster")]
const DISPLACED: &str =
    "another process has taken the name of this node: give each node of the cluster a name of its own with --node";

const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
// Four kinds of listeners, and the UDP port: two sockets each.
const LISTENERS: usize = 2;
const DATAGRAMS: usize = 10;
const ALARM: Token = Token(12);
#[cfg(all(feature = "cluster", target_os = "linux"))]
const PARENT: Token = Token(13);
const CONNECTIONS: usize = 14;

/// A server with its sockets.
///
/// ```no_run
/// # use rtcade::{driver::{Driver, Options}, games::Relay};
/// # fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let options = Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() };
/// let driver = Driver::bind(options, |_room| Ok(Relay))?;
/// println!("http://{}/", driver.local_addr());
/// driver.run()?;
/// # Ok(())
/// # }
/// ```
pub struct Driver<G: Game> {
    poll: Poll,
    alarm: Alarm,
    server: Server<G>,
    listeners: Vec<Listener>,
    #[cfg(all(feature = "cluster", target_os = "linux"))]
    inlet: Option<Inlet>,
    tls: Option<Rc<Acceptor>>,
    udp: Udp,
    /// Whether datagrams wake the loop.
    is_udp_watched: bool,
    busy_poll: bool,
    /// How long datagrams and timers may wait if they don't wake the loop.
    turn_wait: Duration,
    /// The time of the last turn.
    last_turn: Instant,
    /// Whether something that has arrived ended the last sleep.
    was_woken: bool,
    connections: Connections,
    site: Site,
    signals: Option<Signals>,
    handle: Handle,
    inside: Inside,
    service: Service,
    pulse: Arc<Pulse>,
    activity: Activity,
    reloader: Reloader,
    console: Option<Console>,
    #[cfg(feature = "cluster")]
    publisher: Option<Publisher>,
    #[cfg(feature = "cluster")]
    membership: Option<Membership>,
    trace: Trace,
    /// How long the server waits for its rooms to end when it is drained.
    drain_time: Duration,
    /// When it stops even with rooms left, once it drains.
    drains: Option<Instant>,
    /// When the server stops even with data left to send.
    stops: Option<Instant>,
    local: SocketAddr,
    redirect: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    udp_port: u16,
    /// The addresses of the UDP sockets, including wildcards.
    bound: Vec<IpAddr>,
    interfaces: Vec<IpAddr>,
    interfaces_read: Instant,
    world_clock_read: Instant,
    /// The duration of ticks and timers in the last turn that had any.
    ticks_took: Duration,
    missed_log: Throttle,
    turns: Histogram,
    /// When it was started: since 1970, and by the clock of the loop.
    started: Duration,
    began: Instant,
    premises: Premises,
    /// Dropped after the server, which ends its recordings first.
    recordings: Option<Recordings>,
    /// Dropped last: the machine may be taken away after its report.
    agones: Option<Agones>,
}

impl<G: Game> Driver<G> {
    /// Opens the sockets. `factory` creates the game of each new room, or refuses.
    ///
    /// # Errors
    /// An address is in use or not local, the directory of static files can't be read, the certificate or its key
    /// can't be used, the directory of recordings can't be written, or a number or a time is out of range.
    pub fn bind(
        options: Options,
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    ) -> Result<Driver<G>, BindError> {
        let tick = options.tick.unwrap_or(G::TICK);
        options.check(tick)?;
        let mut site = Site::new(options.page, options.public.as_deref())
            .map_err(|source| BindError::Public { directory: options.public.clone().unwrap_or_default(), source })?;
        if options.dev {
            site.open_dev();
        }
        let tls = options.tls.map(Acceptor::new).transpose().map_err(BindError::Tls)?.map(Rc::new);
        #[cfg(all(feature = "cluster", target_os = "linux"))]
        let link = options.link;
        #[cfg(all(feature = "cluster", target_os = "linux"))]
        let (sockets, is_alone) = match &link {
            // The parent listens.
            Some(link) => (bind::Sockets { tcp: Vec::new(), udp: link.udp()? }, false),
            None => (bind::bind(options.listen, options.udp)?, true),
        };
        #[cfg(not(all(feature = "cluster", target_os = "linux")))]
        let (sockets, is_alone) = (bind::bind(options.listen, options.udp)?, true);
        let udp_addresses = sockets.udp.iter().map(|socket| socket.local_addr()).collect::<io::Result<Vec<_>>>()?;
        let udp_port = udp_addresses[0].port();
        let bound: Vec<IpAddr> = udp_addresses.iter().map(SocketAddr::ip).collect();
        let interfaces = bind::interfaces(&bound).unwrap_or_else(|error| {
            log::warn!("the addresses of this machine's interfaces cannot be read: {error}");
            vec![Ipv4Addr::LOCALHOST.into()]
        });
        let tcp_addresses = sockets.tcp.iter().map(|socket| socket.local_addr()).collect::<io::Result<Vec<_>>>()?;
        #[cfg(all(feature = "cluster", target_os = "linux"))]
        let tcp_addresses = link.as_ref().map_or(tcp_addresses, |link| link.begin().tcp.clone());
        let local = tcp_addresses[0];

        let poll = Poll::new()?;
        let registry = poll.registry();
        let security = tls.clone().map_or(Security::None, Security::Tls);
        let mut open: Vec<_> = sockets.tcp.into_iter().map(|socket| (socket, Role::Game, security.clone())).collect();
        let mut beside = |option, address: Option<SocketAddr>, role, security: Security| {
            let Some(address) = address.filter(|_| is_alone) else { return Ok::<_, BindError>(None) };
            let sockets = bind::listeners(option, address)?;
            let local = sockets[0].local_addr()?;
            open.extend(sockets.into_iter().map(|socket| (socket, role, security.clone())));
            Ok(Some(local))
        };
        let redirect = options.https_redirect.filter(|_| tls.is_some());
        let redirect = beside("--https-redirect", redirect, Role::Game, Security::Redirect(local.port()))?;
        let metrics = beside("--metrics", options.metrics, Role::Metrics, Security::None)?;
        let admin = options.admin.as_ref().map(|admin| admin.listen);
        let of_admin = if admin.is_some_and(|admin| admin.ip().is_loopback()) { Security::None } else { security };
        let is_plain = matches!(of_admin, Security::None);
        let admin = beside("--admin", admin, Role::Admin, of_admin)?;
        if let Some(at) = admin.filter(|at| is_plain && !at.ip().is_loopback()) {
            log::warn!("the admin token travels to {at} unencrypted: use --tls-cert, or 127.0.0.1 and a tunnel");
        }
        let mut listeners = Vec::new();
        for (index, (mut socket, role, security)) in open.into_iter().enumerate() {
            registry.register(&mut socket, Token(LISTENERS + index), Interest::READABLE)?;
            let entrance = Entrance { ip: socket.local_addr()?.ip(), role };
            listeners.push(Listener::new(socket, entrance, security));
        }
        #[cfg(all(feature = "cluster", target_os = "linux"))]
        if let Some(link) = &link {
            registry.register(&mut SourceFd(&link.as_raw_fd()), PARENT, Interest::READABLE)?;
        }
        let mut udp = Udp::new(sockets.udp)?;
        for (index, socket) in udp.sockets().enumerate() {
            registry.register(socket, Token(DATAGRAMS + index), Interest::READABLE)?;
        }
        let alarm = Alarm::new(registry, ALARM)?;
        let premises = Premises::new(tcp_addresses, udp_addresses, !options.public_addresses.is_empty(), &udp);
        let waker = Arc::new(Waker::new(registry, WAKER)?);
        let (outside, inside) = door();

        let (mut seed, mut key) = ([0; 32], [0; 32]);
        getrandom::fill(&mut seed).and_then(|()| getrandom::fill(&mut key)).map_err(io::Error::other)?;
        let now = Instant::now();
        let mut config = Config::new(seed);
        config.tick = tick;
        config.max_players = options.max_players;
        config.max_rooms = options.max_rooms;
        config.grace = options.grace;
        config.udp_port = udp_port;
        config.interfaces.clone_from(&interfaces);
        config.keys = options.keys.map(Rc::new);
        let started = unix_time();
        config.unix_time = started;
        config.media = options.media;
        let gate = Gate::new(options.origins, options.trusted_proxies, &options.public_addresses);
        let mut server = Server::new(config, now, factory);
        server.set_public(&options.public_addresses);
        let activity = server.supervise(Instant::now, options.tick_budget.unwrap_or(tick));
        let recordings = match options.record {
            Some(record) => {
                let recordings = Recordings::start(&record)
                    .map_err(|source| BindError::Record { directory: record.directory, source })?;
                server.record(recordings.opener());
                Some(recordings)
            }
            None => None,
        };
        #[cfg(feature = "cluster")]
        let publisher = options.events.map(|events| {
            server.make_live_events(events.node.as_str());
            Publisher::start(events)
        });
        #[cfg(feature = "cluster")]
        let publisher = publisher.transpose()?;
        let wanted = Wanted {
            addresses: options.public_addresses.is_empty(),
            #[cfg(feature = "cluster")]
            node_url: options.node.as_ref().is_some_and(|node| node.url.is_none()).then_some(tls.is_some()),
        };
        #[cfg(feature = "cluster")]
        let default_url = match options.agones {
            Some(_) => String::new(),
            None => {
                let ip = options.public_addresses.first().map(SocketAddr::ip).or_else(|| interfaces.first().copied());
                nodes::url(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), local.port(), tls.is_some())
            }
        };
        #[cfg(all(feature = "cluster", target_os = "linux"))]
        let default_url = link.as_ref().map_or(default_url.clone(), |link| link.url(&default_url));
        #[cfg(feature = "cluster")]
        let membership = options
            .node
            .map(|node| Membership::begin(node, &mut server, now, Arc::clone(&waker), (default_url, local.port())));
        #[cfg(feature = "cluster")]
        let membership = membership.transpose()?;
        let handle = Handle { outside, waker, requests: Arc::default() };
        let pulse = Arc::default();
        let agones = options.agones.map(|sidecar| {
            let observer = Observer::new(activity.clone());
            Agones::new(sidecar, handle.clone(), &pulse, observer, wanted)
        });
        let console = options.admin.map(|admin| Console::new(admin.token, now, handle.clone()));
        Ok(Driver {
            server,
            poll,
            alarm,
            listeners,
            #[cfg(all(feature = "cluster", target_os = "linux"))]
            inlet: link.map(Inlet::new),
            tls,
            udp,
            is_udp_watched: true,
            busy_poll: options.busy_poll,
            turn_wait: (tick / TURNS_PER_TICK).min(TURN_WAIT_MAX),
            last_turn: now,
            was_woken: false,
            connections: Connections::new(now, CONNECTIONS, gate, options.keep_alive, key),
            site,
            signals: None,
            handle,
            inside,
            service: Service::default(),
            pulse,
            activity,
            reloader: Reloader::default(),
            console,
            #[cfg(feature = "cluster")]
            publisher,
            #[cfg(feature = "cluster")]
            membership,
            trace: Trace::default(),
            drain_time: options.drain.min(limits::DRAIN_MAX),
            drains: None,
            stops: None,
            local,
            redirect,
            metrics,
            admin,
            udp_port,
            bound,
            interfaces,
            interfaces_read: now,
            world_clock_read: now,
            ticks_took: Duration::ZERO,
            missed_log: MISSED_LOG,
            turns: Histogram::default(),
            started,
            began: now,
            premises,
            recordings,
            agones,
        })
    }

    /// Returns the TCP address.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns the TCP address whose requests are redirected to TLS.
    #[must_use]
    pub fn redirect_addr(&self) -> Option<SocketAddr> {
        self.redirect
    }

    /// Returns the TCP address of [`Options::metrics`].
    #[must_use]
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Returns the TCP address of [`Options::admin`].
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Returns the UDP port.
    #[must_use]
    pub fn udp_port(&self) -> u16 {
        self.udp_port
    }

    /// Returns the local addresses at which players may reach the server, loopback last.
    #[must_use]
    pub fn interfaces(&self) -> &[IpAddr] {
        &self.interfaces
    }

    /// Returns a handle to control the server from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Makes this the server of a playback: `front` is the page at `/`, and players of all rooms are numbered from
    /// `first_player`.
    pub(crate) fn open_to_spectators(&mut self, front: &'static str, first_player: u32) {
        self.set_front(front);
        self.server.number_players_from(first_player);
    }

    /// Serves `page` at `/` instead of redirecting to a new room.
    pub(crate) fn set_front(&mut self, page: &'static str) {
        self.site.set_front(page);
    }

    /// Installs hooks that decide who may join and observe joins and leaves.
    pub fn set_hooks(&mut self, hooks: impl Hooks + 'static) {
        self.server.set_hooks(hooks);
    }

    /// Sets what reads the configuration again on [`Handle::reload`] and on SIGHUP. If it returns an error, a sentence,
    /// this is logged and the server goes on as before.
    pub fn set_reload(&mut self, reload: impl FnMut() -> Result<Reload, String> + 'static) {
        self.reloader.set_source(reload);
    }

    /// Obeys signals: SIGTERM as [`Handle::drain`], or as [`Handle::shutdown`] if it comes again, SIGINT as
    /// [`Handle::shutdown`], SIGHUP as [`Handle::reload`]. Reports to the service manager, if that is systemd, when the
    /// server is ready, reloads, stops, and that its loop runs (sd_notify(3), `WatchdogSec`). If the loop hangs for two
    /// seconds, for example in a game that never returns, the process logs where, and aborts.
    ///
    /// # Errors
    /// The OS refuses signal handlers.
    pub fn obey_signals(&mut self) -> io::Result<()> {
        self.service = Service::from_environment(Instant::now());
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        self.poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Runs the server until it is stopped.
    ///
    /// # Errors
    /// The OS refuses to wait for events, or a thread.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        self.service.ready();
        #[cfg(all(feature = "cluster", target_os = "linux"))]
        self.inlet.as_ref().map_or(Ok(()), Inlet::ready)?;
        if self.signals.is_some()
            && let Err(error) = sentinel::watch(&self.pulse, self.activity.clone())
        {
            log::warn!("a loop that hangs will not be noticed: {error}");
        }
        self.agones.as_mut().map_or(Ok(()), Agones::start)?;
        loop {
            let deadline = self.poll_timeout();
            let full = self.sleep(&mut events, deadline)?;
            let now = Instant::now();
            self.reload_if_asked();
            self.stop_if_asked(now);
            if let Some(gap) = gap(now, deadline) {
                log::info!("{} ms late: handling received data before timeouts", gap.as_millis());
                self.drain(&mut events, full, now)?;
            }
            self.turn(now);
            if self.is_stopped(now) {
                log::info!("stopped: {:?}", self.udp.counters());
                #[cfg(feature = "cluster")]
                if let Some(membership) = &mut self.membership {
                    membership.leave(now, &mut self.server);
                }
                #[cfg(feature = "cluster")]
                if self.server.cluster().is_some_and(Cluster::is_displaced) {
                    return Err(io::Error::other(DISPLACED));
                }
                self.pulse.note_sleep(true);
                return Ok(());
            }
        }
    }

    /// Sleeps until the next turn. Returns `true` if there may be more events.
    fn sleep(&mut self, events: &mut Events, deadline: Option<Instant>) -> io::Result<bool> {
        let now = Instant::now();
        let may_wait = !self.busy_poll && self.server.may_wait(now);
        self.watch_udp(!may_wait)?;
        if self.busy_poll || self.is_busy() {
            return self.wait(events, Some(Duration::ZERO));
        }
        let wakes = if may_wait {
            let latest = self.last_turn + self.turn_wait;
            Some(self.server.next_tick().map_or(latest, |tick| tick.min(latest)))
        } else {
            deadline
        };
        if self.was_woken {
            let next = self.last_turn + TURN_INTERVAL;
            std::thread::sleep(wakes.map_or(next, |at| at.min(next)).saturating_duration_since(now));
        }
        let timeout = self.alarm.set(Instant::now(), wakes)?;
        self.wait(events, timeout)
    }

    /// Lets datagrams wake the loop, or not.
    fn watch_udp(&mut self, watch: bool) -> io::Result<()> {
        if std::mem::replace(&mut self.is_udp_watched, watch) != watch {
            for (index, socket) in self.udp.sockets().enumerate() {
                if watch {
                    self.poll.registry().register(socket, Token(DATAGRAMS + index), Interest::READABLE)?;
                } else {
                    self.poll.registry().deregister(socket)?;
                }
            }
        }
        Ok(())
    }

    /// Returns whether sockets were left undrained.
    fn is_busy(&self) -> bool {
        #[cfg(all(feature = "cluster", target_os = "linux"))]
        if self.inlet.as_ref().is_some_and(|inlet| inlet.readable) {
            return true;
        }
        self.udp.is_readable()
            || self.connections.is_ready()
            || self.listeners.iter().any(|listener| listener.readable && listener.retry.is_none())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        let retries = self.listeners.iter().filter_map(|listener| listener.retry);
        // The last room may have ended in the last turn.
        let drains = self.drains.map(|until| if self.server.is_drained() { self.last_turn } else { until });
        let stops = self.stops.or(drains);
        let others = [self.server.poll_timeout(), self.connections.poll_timeout(), stops, self.service.poll_timeout()];
        retries.chain(others.into_iter().flatten()).min()
    }

    /// Waits for events and records them. Returns `true` if there may be more.
    fn wait(&mut self, events: &mut Events, sleep: Option<Duration>) -> io::Result<bool> {
        self.pulse.note_sleep(true);
        let polled = self.poll.poll(events, sleep);
        self.pulse.note_sleep(false);
        match polled {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut count = 0;
        self.was_woken = false;
        for event in events.iter() {
            count += 1;
            self.was_woken |= event.token() != ALARM;
            match event.token() {
                WAKER | ALARM => {}
                SIGNALS => {
                    #[cfg(all(feature = "cluster", target_os = "linux"))]
                    let has_parent = self.inlet.is_some();
                    #[cfg(not(all(feature = "cluster", target_os = "linux")))]
                    let has_parent = false;
                    let signals = self.signals.iter_mut().flat_map(Signals::pending);
                    signals.for_each(|signal| self.handle.requests.handle_signal(signal, has_parent));
                }
                #[cfg(all(feature = "cluster", target_os = "linux"))]
                PARENT => self.inlet.iter_mut().for_each(|inlet| inlet.readable = true),
                Token(token @ CONNECTIONS..) => {
                    self.connections.handle_event(Token(token), event.is_read_closed() || event.is_error());
                }
                Token(token @ DATAGRAMS..) => self.udp.handle_readable(token - DATAGRAMS),
                Token(token) => {
                    if let Some(listener) = self.listeners.get_mut(token - LISTENERS) {
                        listener.readable = true;
                    }
                }
            }
        }
        Ok(count == EVENTS)
    }

    /// Updates the addresses of this machine, which may change at any time, for later joins.
    fn read_interfaces(&mut self, now: Instant) {
        if now < self.interfaces_read + INTERFACES_INTERVAL {
            return;
        }
        self.interfaces_read = now;
        match bind::interfaces(&self.bound) {
            Ok(interfaces) if interfaces != self.interfaces => {
                log::info!("this machine's addresses are {interfaces:?} now");
                self.server.set_interfaces(interfaces.clone());
                self.interfaces = interfaces;
            }
            Ok(_) => {}
            Err(error) => log::debug!("the addresses of this machine's interfaces cannot be read: {error}"),
        }
    }

    /// Runs one turn: ticks after the datagrams received so far, and before any TCP work.
    fn turn(&mut self, now: Instant) {
        if now >= self.world_clock_read + WORLD_CLOCK_INTERVAL {
            self.world_clock_read = now;
            self.server.handle_unix_time(now, unix_time());
            self.connections.flush_log(now);
        }
        self.service.note_turn(now);
        self.pulse.note_turn();
        let mut turn = Turn::begin(now);
        self.take_in_datagrams(now, TURN_DATAGRAMS);
        turn.end(Part::Datagrams, Instant::now());
        self.last_turn = now;
        self.inside.deliver(now, &mut self.server);
        if let Some(deadline) = self.server.poll_timeout().filter(|&deadline| deadline <= now) {
            let before = self.server.missed_ticks();
            self.server.handle_timeout(now);
            self.note_missed(now, now - deadline, self.server.missed_ticks() - before);
            self.ticks_took = now.elapsed();
        }
        turn.end(Part::Rooms, Instant::now());
        self.send_datagrams();
        turn.end(Part::Flush, Instant::now());
        let mut budget = Budget::of_turn();
        self.connections.handle_timeout(now, &mut self.server, &mut budget);
        self.serve_connections(now, budget);
        self.exchange(now);
        // Data received over TCP, and of the cluster, may have produced datagrams to send.
        self.send_datagrams();
        self.publish_events();
        self.note_occupancy();
        turn.end(Part::Sockets, Instant::now());
        self.turns.observe(turn.took());
        self.trace.add(turn);
    }

    /// Passes on what the nodes of the cluster agree about.
    fn exchange(&mut self, now: Instant) {
        #[cfg(feature = "cluster")]
        if let Some(membership) = &mut self.membership {
            membership.exchange(now, &mut self.server);
            if self.stops.is_none() && self.server.cluster().is_some_and(Cluster::is_displaced) {
                self.handle.shutdown();
            }
        }
        #[cfg(not(feature = "cluster"))]
        let _ = now;
        if self.server.take_inquired() {
            self.connections.handle_inquired();
        }
    }

    /// Queues what has happened for other services.
    fn publish_events(&mut self) {
        #[cfg(feature = "cluster")]
        if let Some(publisher) = &self.publisher {
            while let Some(event) = self.server.poll_live_event() {
                publisher.publish(event);
            }
        }
    }

    fn note_occupancy(&self) {
        if let Some(agones) = &self.agones {
            let (Gauges { rooms, players, .. }, (max_rooms, per_room)) = (self.server.gauges(), self.server.capacity());
            agones.note(Occupancy { rooms, players, max_rooms, max_players: max_rooms * per_room });
        }
    }

    /// Warns of ticks that were skipped because the loop was late.
    fn note_missed(&mut self, now: Instant, late: Duration, missed: u64) {
        if let Some(line) = skipped(missed, late, self.ticks_took)
            && let Some(left_out) = self.missed_log.take(now)
        {
            log::warn!("{line}{left_out}");
        }
    }

    /// Receives about this many datagrams from each socket.
    fn take_in_datagrams(&mut self, now: Instant, count: usize) {
        if !self.is_udp_watched {
            self.udp.handle_unwatched();
        }
        let server = &mut self.server;
        self.udp.receive(now, self.last_turn, count, |arrived, local, source, bytes| {
            server.handle_datagram(now, arrived, local, source, bytes);
        });
    }

    /// Does TCP work within the budget: first new connections, then ready ones.
    fn serve_connections(&mut self, now: Instant, mut budget: Budget) {
        if self.connections.is_ready() {
            self.read_interfaces(now);
        }
        for listener in &mut self.listeners {
            let (entrance, security) = (listener.entrance, listener.security.clone());
            let has_place = listener.accept(now, |socket, remote| {
                budget.spend(limits::REQUEST_WORK);
                let socket = Socket::new(socket, &security);
                self.connections.handle_accepted(now, self.poll.registry(), socket, remote, entrance);
            });
            if !has_place {
                self.connections.handle_shortage();
            }
        }
        #[cfg(all(feature = "cluster", target_os = "linux"))]
        if let Some(inlet) = &mut self.inlet {
            let (security, is_stopping) =
                (self.tls.clone().map_or(Security::None, Security::Tls), self.stops.is_some());
            inlet.take_in(&self.handle, |socket, remote, role| {
                budget.spend(limits::REQUEST_WORK);
                if !is_stopping {
                    let entrance = Entrance { ip: Ipv4Addr::UNSPECIFIED.into(), role };
                    let socket = Socket::new(socket, &security);
                    self.connections.handle_accepted(now, self.poll.registry(), socket, remote, entrance);
                }
            });
        }
        let sources = Sources {
            udp: &mut self.udp,
            tls: self.tls.as_deref(),
            recordings: self.recordings.as_ref(),
            reloader: &mut self.reloader,
            trace: &self.trace,
            premises: &self.premises,
            turns: &self.turns,
            started: self.started,
            began: self.began,
            drain_time: self.drain_time,
            #[cfg(feature = "cluster")]
            publisher: self.publisher.as_ref(),
            #[cfg(feature = "cluster")]
            store: self.membership.as_ref().and_then(Membership::figures),
            agones: self.agones.as_ref().map(Agones::figures),
            admin: self.console.as_ref().map(Console::refusals),
        };
        let registry = self.poll.registry();
        let console = self.console.as_mut();
        #[cfg(all(feature = "cluster", target_os = "linux"))]
        let node = self.inlet.as_ref().map(Inlet::name);
        #[cfg(not(all(feature = "cluster", target_os = "linux")))]
        let node = None;
        let mut context = Context { now, server: &mut self.server, site: &self.site, registry, sources, console, node };
        self.connections.handle_ready(&mut context, &mut budget);
    }

    /// Receives the data that arrived while the process was suspended; otherwise clients would time out wrongly.
    fn drain(&mut self, events: &mut Events, mut full: bool, now: Instant) -> io::Result<()> {
        // Datagrams count as arrived now, or who was heard during the gap would count as silent since.
        self.last_turn = now;
        for _ in 0..LATE_ROUNDS {
            self.take_in_datagrams(now, LATE_ROUND_DATAGRAMS);
            self.serve_connections(now, Budget::of_turn());
            if !full && !self.is_busy() {
                break;
            }
            full = self.wait(events, Some(Duration::ZERO))?;
        }
        Ok(())
    }

    fn send_datagrams(&mut self) {
        while let Some(transmit) = self.server.poll_transmit() {
            self.udp.send(&transmit);
        }
        self.udp.flush();
    }

    fn stop_if_asked(&mut self, now: Instant) {
        let requests = &self.handle.requests;
        let stop = requests.stop.load(Ordering::Acquire);
        let is_asked_to_drain = requests.drain.load(Ordering::Acquire);
        let is_terminated = requests.is_terminated.load(Ordering::Acquire);
        if is_asked_to_drain && stop == 0 && self.drains.is_none() {
            let millis = requests.drain_ms.load(Ordering::Acquire);
            let time = if millis == u64::MAX { self.drain_time } else { Duration::from_millis(millis) };
            self.drain_within(now, time);
        }
        // A drain that an operator has begun may be longer than a service manager waits.
        if is_terminated && self.drains.is_some_and(|until| now + self.drain_time < until) {
            self.drain_within(now, self.drain_time);
        }
        let is_drained = self.drains.is_some_and(|until| until <= now || self.server.is_drained());
        if (stop > 0 || is_drained) && self.stops.is_none() {
            log::info!("stopping");
            self.service.stopping("closing connections");
            self.stops = Some(now + CLOSE_TIMEOUT);
            self.listeners.clear();
            #[cfg(all(feature = "cluster", target_os = "linux"))]
            self.inlet.iter().for_each(|inlet| inlet.stopping(&mut self.server));
            self.connections.handle_shutdown();
            self.server.handle_shutdown(now);
        } else if stop > 1 {
            self.stops = Some(now);
        }
    }

    /// Stops once the rooms have ended, after this time at the latest.
    fn drain_within(&mut self, now: Instant, time: Duration) {
        self.drains = Some(now + time);
        if !time.is_zero() {
            log::warn!("stopping once the rooms have ended, in {} s at the latest", time.as_secs());
            self.service.stopping("waiting for the rooms to end");
            self.server.handle_drain(now, time);
        }
    }

    /// Reads the configuration again if asked to.
    fn reload_if_asked(&mut self) {
        if !self.handle.requests.reload.swap(false, Ordering::AcqRel) {
            return;
        }
        self.service.reloading();
        let reloaded = self.reloader.reload(self.tls.as_deref(), &mut self.server, self.connections.gate_mut());
        if let (Some(token), Some(console)) = (reloaded.token, &mut self.console) {
            console.set_token(token);
        }
        self.service.ready();
    }

    /// Returns whether it was asked to stop and has notified everyone, or its time to do so is over.
    fn is_stopped(&self, now: Instant) -> bool {
        self.stops.is_some_and(|stops| self.connections.is_empty() || stops <= now)
    }
}

/// How long ago the deadline was, if that is so long that the process must have been suspended.
fn gap(now: Instant, deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| now.saturating_duration_since(deadline)).filter(|gap| *gap > limits::CLOCK_GAP)
}

/// Returns the wall clock: time since 1970.
pub(crate) fn unix_time() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

/// Returns whether all these addresses are reachable from the same machine or network only.
pub(crate) fn are_private(addresses: &[IpAddr]) -> bool {
    addresses.iter().all(|ip| bind::is_private(*ip))
}

#[cfg(test)]
mod tests;
