//! A server and its players under virtual time, over a simulated network: for tests of your game.
//!
//! A [`Simulation`] holds one real [`Server`] and any number of real [`Client`](crate::client::Client)s, including ICE,
//! DTLS and the unreliable lane. Only the clock and the network are simulated: an hour passes in seconds, and a seed
//! determines which packets are lost.
//!
//! # How to test your game under loss
//!
//! Make a simulation of your game, set the network, let players join and play, and check both the game itself and what
//! each player received. For the game `Race`, in which every input is a number of steps:
//!
//! ```
//! # use rtcade::game::{Batch, Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick};
//! # #[derive(Default)]
//! # struct Race {
//! #     steps: std::collections::BTreeMap<PlayerId, u32>,
//! # }
//! # impl Game for Race {
//! #     type Input = u32;
//! #     type Command = ();
//! #     type State = Vec<(PlayerId, u32)>;
//! #     type Event = ();
//! #     type Welcome = ();
//! #     type JoinData = ();
//! #     fn join(&mut self, _: &mut Context<Self>, player: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
//! #         self.steps.insert(player, 0);
//! #         Ok(())
//! #     }
//! #     fn leave(&mut self, _: &mut Context<Self>, player: PlayerId, _: Leave) {
//! #         self.steps.remove(&player);
//! #     }
//! #     fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, batch: Batch<'_, Self>) {
//! #         for incoming in batch {
//! #             if let Incoming::Input { player, input, .. } = incoming {
//! #                 *self.steps.entry(player).or_default() += input;
//! #             }
//! #         }
//! #         ctx.state(&self.steps.iter().map(|(&player, &steps)| (player, steps)).collect()).expect("it fits");
//! #     }
//! # }
//! use rtcade::sim::{Node, Path, Simulation};
//! use std::time::Duration;
//!
//! let ms = Duration::from_millis;
//! let mut sim = Simulation::new(1, |_room| Ok(Race::default()));
//! sim.set_paths(move || Path::new(ms(25)).with(&Node::Jitter(ms(20))).with(&Node::Loss { permille: 50 }));
//! let bots: Vec<_> = (0..8).map(|number| sim.join("race", &format!("bot {number}"))).collect();
//! sim.run(ms(3_000));
//! sim.run_every(ms(100), ms(60_000), |sim| bots.iter().for_each(|&bot| drop(sim.send(bot, &1))));
//! sim.run(ms(1_000));
//! let race = sim.game("race").expect("the room has players");
//! assert!(race.steps.values().all(|&steps| steps == 600), "each input counts once: {:?}", race.steps);
//! for bot in bots {
//!     let states = sim[bot].states::<Vec<(u32, u32)>>();
//!     assert!(states.len() > 1_700, "of about 1,900 states {} arrived before a newer one", states.len());
//!     assert!(states.is_sorted_by_key(|(_, racers)| racers[0].1), "steps never decrease");
//! }
//! ```
//!
//! A failing test prints the seed. [`Scenario`] plays a whole game over a named network, with a closure for the bots,
//! and reports what players saw; `rtcade sim` prints the reports of the shipped games, see [`Scenario::play`].
//!
//! # The network
//!
//! Each client has a [`Path`]: a list of [`Node`]s per direction, which all packets pass in order. Every direction of
//! every path has its own random numbers, and every datagram its own part of them: its fate depends on the seed, on the
//! path and on the number of datagrams before it, never on its content or on other paths. (Paths that share a queue
//! also affect each other through it.)
//!
//! The websocket passes the same nodes in segments, as TCP would. A lost segment is sent again after 200 ms and a round
//! trip, then after twice as long, and so on, while later segments wait at the other end. At most 16 KiB are in flight;
//! the rest waits at the server, where a newer state replaces an older one. There is no fast retransmit and no
//! congestion window; acknowledgements have no cost, and opening a connection takes no time. Effects that TCP does not
//! see do not apply: a datagram limit, duplicates, a change of address, a firewall that drops UDP.
//!
//! # Reproducibility
//!
//! Everything that the game and the players receive, and when: joins, inputs with their ticks, leaves and
//! [`Link`](crate::game::Link) figures are the same in every run and every process. For that, DTLS repeats its flights
//! at times that follow from the seed, and its datagrams have a fixed length. Its keys still come from the operating
//! system, so the bytes of datagrams differ. Such DTLS repeats nonces and is insecure; only simulations can use it.
//! Data channels that a test opens by calling [`Simulation::server`] directly are not reproducible.
//!
//! # Results for the built-in networks
//!
//! The table is the output of `rtcade sim --game arena --clients 8 --seconds 60 --seed 1`, the defaults of `rtcade
//! sim`: 8 bots play the arena for a minute, after 10 seconds for joining over the same network. A tick is seen if its
//! state arrives, and late if a newer one arrived before; late states are not shown. Ages count from the tick to the
//! arrival of its state. The networks are defined in `src/sim/scenarios.yml`.
//!
//! | scenario    | channels |    seen |  late | p50 ms | p99 ms | p99.9 ms | up B/s | down B/s |
//! |-------------|---------:|--------:|------:|-------:|-------:|---------:|-------:|---------:|
//! | lan         |   8 of 8 | 100.0 % | 0.0 % |      0 |      0 |        0 |   4504 |     6227 |
//! | broadband   |   8 of 8 |  99.9 % | 0.0 % |     11 |     13 |       13 |   4811 |     6496 |
//! | wifi        |   8 of 8 |  99.0 % | 0.0 % |     18 |     24 |       24 |   5212 |     6884 |
//! | mobile      |   8 of 8 |  99.5 % | 0.0 % |     42 |     55 |       55 |   5851 |     7019 |
//! | far-away    |   8 of 8 |  99.5 % | 0.0 % |    130 |    135 |      135 |   7462 |     7286 |
//! | lossy-5     |   8 of 8 |  95.2 % | 0.0 % |     25 |     25 |       25 |   6103 |     6688 |
//! | lossy-20    |   8 of 8 |  80.1 % | 0.0 % |     25 |     25 |       25 |   7106 |     6814 |
//! | bursts      |   8 of 8 |  95.3 % | 0.0 % |     25 |     25 |       25 |   5434 |     6804 |
//! | reordering  |   8 of 8 |  90.8 % | 9.2 % |     25 |     85 |       85 |   5516 |     6891 |
//! | bufferbloat |   8 of 8 |  43.2 % | 1.4 % |    163 |   3005 |     3021 |   6217 |     4668 |
//! | outage      |   8 of 8 |  96.6 % | 0.0 % |     25 |     25 |       25 |   5165 |     6796 |
//! | rebinding   |   8 of 8 |  96.4 % | 0.0 % |     25 |     25 |       25 |   4940 |     6434 |
//! | no-udp      |   0 of 8 | 100.0 % | 0.0 % |     25 |    275 |      544 |   2899 |     4591 |

mod client;
mod crossing;
mod path;
mod rooms;
mod scenario;
#[cfg(feature = "driver")]
mod scenario_file;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Index, IndexMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

pub use self::client::SimulatedClient;
pub use self::crossing::{DATAGRAM_HEADER_BYTES, Traffic};
use self::crossing::{Datagram, InFlight, Said, Segment, address_of, is_check, local_of};
pub use self::path::{Node, Path, RateLimit};
pub use self::rooms::{Divergence, RoomSimulation, check};
pub use self::scenario::{Report, Reports, Scenario, Trial};
#[cfg(feature = "driver")]
pub use self::scenario_file::ScenarioError;
use crate::client::{Config as ClientConfig, Destination, Message, Status};
use crate::endpoint::LocalId;
use crate::game::{Game, Refusal, RoomInfo};
use crate::peer::SeededDtls;
use crate::server::{Config, ConnectionId, Disconnect, Server, Signal};
use crate::wire::signaling::RoomName;

/// The address of the server.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 8080);

const ONE_WAY: Duration = Duration::from_millis(25);

/// Identifies a client of a [`Simulation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(usize);

impl ClientId {
    /// Returns the connection ID of one of the client's websockets. The simulation ignores connections of the caller.
    fn connection(self, websocket: usize) -> ConnectionId {
        ConnectionId((websocket as u64) << 32 | self.0 as u64)
    }

    /// Returns the client and the number of its websocket, for a connection of the simulation.
    fn of(connection: ConnectionId) -> Option<(ClientId, usize)> {
        let client = usize::try_from(connection.0 & u64::from(u32::MAX)).ok()?;
        Some((ClientId(client), usize::try_from(connection.0 >> 32).ok()?))
    }
}

/// A packet to or from `client`.
struct Packet {
    client: ClientId,
    payload: Payload,
}

enum Payload {
    /// With the source address.
    DatagramUp(Datagram, SocketAddr),
    /// With the destination address.
    DatagramDown(Datagram, SocketAddr),
    /// Of the websocket with this number.
    SegmentUp(usize, Segment),
    SegmentDown(usize, Segment),
}

type Factory<G> = dyn FnMut(&RoomInfo) -> Result<G, Refusal>;

/// A server and its players, with their own clock and network. `sim[id]` is a client.
///
/// Prints its seed when dropped by a failing test.
pub struct Simulation<G: Game> {
    /// The server. The effects of calling it directly appear when time next passes.
    pub server: Server<G>,
    config: Config,
    factory: Rc<RefCell<Factory<G>>>,
    /// When the server restarts, while it is down.
    down_until: Option<Instant>,
    seed: u64,
    rng: ChaCha8Rng,
    started: Instant,
    now: Instant,
    clients: Vec<SimulatedClient>,
    by_ip: BTreeMap<IpAddr, ClientId>,
    deadlines: BTreeSet<(Instant, ClientId)>,
    /// Clients that may have output.
    touched: BTreeSet<ClientId>,
    /// Websockets for which the server may have output.
    ready: BTreeSet<(ClientId, usize)>,
    make_path: Box<dyn Fn() -> Path>,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    order: u64,
    stray_bytes: u64,
    slow_path: bool,
    turn_length: Duration,
    /// Datagrams in the server's socket, with their sources, and when each arrived.
    waiting: Vec<(Instant, Datagram, SocketAddr)>,
}

impl<G: Game> Simulation<G> {
    /// Returns a server with 33 ms ticks and 16 players per room. `factory` makes the game of each room or refuses.
    pub fn new(seed: u64, factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static) -> Simulation<G> {
        Simulation::with_config(seed, |_| {}, factory)
    }

    /// As [`Simulation::new`], with another configuration.
    ///
    /// # Panics
    /// As [`Server::new`].
    pub fn with_config(
        seed: u64,
        configure: impl FnOnce(&mut Config),
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    ) -> Simulation<G> {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut config = Config::new(rng.random());
        config.tick = G::TICK;
        config.max_players = 16;
        config.udp_port = SERVER.port();
        configure(&mut config);
        let _seeded = SeededDtls::new(seed);
        let factory: Rc<RefCell<Factory<G>>> = Rc::new(RefCell::new(factory));
        Simulation {
            server: make_server(&config, now, &factory),
            config,
            factory,
            down_until: None,
            seed,
            rng,
            started: now,
            now,
            clients: Vec::new(),
            by_ip: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            touched: BTreeSet::new(),
            ready: BTreeSet::new(),
            make_path: Box::new(|| Path::new(ONE_WAY)),
            in_flight: BinaryHeap::new(),
            order: 0,
            stray_bytes: 0,
            slow_path: false,
            turn_length: Duration::ZERO,
            waiting: Vec::new(),
        }
    }

    /// Passes every datagram through str0m on both ends: the slow path, for comparison in tests.
    #[doc(hidden)]
    pub fn take_slow_path(&mut self) {
        self.slow_path = true;
        self.server.take_slow_path();
    }

    /// Lets datagrams wait in the server's socket for its next deadline, but at most for `turn_length`, as the driver
    /// does. By default the server takes each at once.
    pub fn set_turn_length(&mut self, turn_length: Duration) {
        self.turn_length = turn_length;
    }

    /// Returns the time as passed to the server and the clients.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Returns the time since the start of the simulation.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.started
    }

    /// Returns the bytes of datagrams that the server has sent to addresses of no client.
    #[must_use]
    pub fn stray_bytes(&self) -> u64 {
        self.stray_bytes
    }

    /// Returns the game of a room, if the room exists.
    #[must_use]
    pub fn game(&self, room: &str) -> Option<&G> {
        self.server.game(&RoomName::parse(room)?)
    }

    /// Returns all clients in the order in which they were added.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> + use<G> {
        (0..self.clients.len()).map(ClientId)
    }

    /// Adds a client that joins `room`.
    pub fn join(&mut self, room: &str, name: &str) -> ClientId {
        self.join_with(room, |config| config.name = name.to_owned())
    }

    /// Adds a client with another configuration that joins `room`.
    pub fn join_with(&mut self, room: &str, configure: impl FnOnce(&mut ClientConfig)) -> ClientId {
        let id = self.add(room, configure);
        self.collect();
        id
    }

    /// Adds a bare websocket. It sends only what is passed to [`Simulation::text`] and [`Simulation::binary`].
    pub fn connect(&mut self, room: &str) -> ClientId {
        let id = self.add(room, |config| config.locals.clear());
        let now = self.now;
        let end = &mut self[id];
        end.websocket().is_over = true;
        end.client.handle_disconnect(now, 1000, "");
        while end.client.poll_message().is_some() || end.client.poll_event().is_some() {}
        id
    }

    fn add(&mut self, room: &str, configure: impl FnOnce(&mut ClientConfig)) -> ClientId {
        let id = ClientId(self.clients.len());
        let byte = |number: usize| u8::try_from(number).expect("there are addresses for 63,000 clients");
        let address = SocketAddr::from(([10, 0, 1 + byte(id.0 / 250), 1 + byte(id.0 % 250)], 5_000));
        let mut config = ClientConfig {
            seed: self.rng.random(),
            room: None,
            name: String::new(),
            data: serde_json::Value::Null,
            bearer: None,
            locals: vec![address],
        };
        configure(&mut config);
        let seeded = self.seeded_dtls();
        let room = RoomName::parse(room);
        let mut client = SimulatedClient::new(config, self.now, self.seed, id, address, room);
        drop(seeded);
        if self.slow_path {
            client.client.take_slow_path();
        }
        client.set_path((self.make_path)(), self.elapsed());
        self.server.handle_connect(self.now, client.connection(), client.connect());
        self.clients.push(client);
        self.by_ip.insert(address.ip(), id);
        self.touched.insert(id);
        id
    }

    /// Breaks a client's websocket as a TCP reset does. The server learns of it after the latency of the client's path.
    pub fn break_websocket(&mut self, client: ClientId) {
        self.collect();
        let (now, elapsed) = (self.now, self.elapsed());
        let end = &mut self[client];
        end.drop_websocket(elapsed);
        end.client.handle_disconnect(now, 1006, "The connection was reset.");
    }

    /// Kills the server and restarts it after `down`, without its rooms and sessions. Its websockets are closed as by
    /// the kernel. While it is down, connecting fails and datagrams are lost.
    pub fn restart(&mut self, down: Duration) {
        self.collect();
        let elapsed = self.elapsed();
        for client in self.clients() {
            let closed = Signal::Close { code: 1006, reason: "The server is gone.".to_owned() };
            let websocket = self[client].websocket();
            if !websocket.is_over {
                websocket.down.send(elapsed, Said::Down(closed));
            }
        }
        self.ready.clear();
        self.waiting.clear();
        let _seeded = self.seeded_dtls();
        let mut config = Config { seed: self.rng.random(), ..self.config.clone() };
        config.unix_time += elapsed + down;
        self.server = make_server(&config, self.now + down, &self.factory);
        if self.slow_path {
            self.server.take_slow_path();
        }
        self.down_until = Some(self.now + down);
        self.collect();
    }

    fn is_down(&self) -> bool {
        self.down_until.is_some_and(|until| self.now < until)
    }

    /// Returns the seed for DTLS associations made now.
    fn seeded_dtls(&self) -> SeededDtls {
        let now_ms = u64::try_from(self.elapsed().as_millis()).expect("a simulation is shorter than that");
        SeededDtls::new(self.seed.wrapping_add(now_ms))
    }

    /// Changes the path of a client for all packets sent from now on.
    ///
    /// # Panics
    /// More than 16 nodes in one direction.
    pub fn set_path(&mut self, client: ClientId, path: Path) {
        self.collect();
        let now = self.elapsed();
        self[client].set_path(path, now);
    }

    /// Sets the paths of all clients, including those added later. The default is 25 ms each way.
    ///
    /// # Panics
    /// More than 16 nodes in one direction.
    pub fn set_paths(&mut self, make: impl Fn() -> Path + 'static) {
        self.collect();
        let now = self.elapsed();
        for client in &mut self.clients {
            client.set_path(make(), now);
        }
        self.make_path = Box::new(make);
    }

    /// Changes the address that a client's datagrams come from, as when a NAT forgets its mapping. Datagrams to the old
    /// address are lost. See [`Node::Rebinding`] for repeated changes.
    pub fn rebind(&mut self, client: ClientId) {
        self.collect();
        let now = self.elapsed();
        self[client].rebind(now);
    }

    /// Makes an address of the server reachable or unreachable for the datagrams of a client. The addresses are those
    /// of [`Config::interfaces`], of which the first must be that of [`SERVER`], or only [`SERVER`].
    pub fn set_reachable(&mut self, client: ClientId, server: LocalId, is_reachable: bool) {
        self.collect();
        let unreachable = &mut self[client].unreachable;
        if is_reachable {
            unreachable.remove(&server)
        } else {
            unreachable.insert(server)
        };
    }

    /// Sends an input, see [`Client::send`](crate::client::Client::send). Returns its number.
    ///
    /// # Panics
    /// The input can't be sent.
    pub fn send(&mut self, client: ClientId, input: &impl Serialize) -> u32 {
        let now = self.now;
        self[client].client.send(now, input).expect("the input can't be sent")
    }

    /// Sends a command, see [`Client::command`](crate::client::Client::command).
    ///
    /// # Panics
    /// The command can't be sent.
    pub fn command(&mut self, client: ClientId, command: &impl Serialize) {
        let now = self.now;
        self[client].client.command(now, command).expect("the command can't be sent");
    }

    /// Makes a client leave.
    pub fn leave(&mut self, client: ClientId) {
        let now = self.now;
        self[client].client.leave(now);
    }

    /// Sends signaling on the client's websocket.
    pub fn text(&mut self, client: ClientId, text: &str) {
        self.send_message(client, Message::Text(text.to_owned()));
    }

    /// Sends a frame on the client's websocket.
    pub fn binary(&mut self, client: ClientId, bytes: &[u8]) {
        self.send_message(client, Message::Binary(bytes.to_vec()));
    }

    /// Advances the time.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.collect();
        while let Some(next) = self.next_event().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.turn();
        }
        self.now = end;
    }

    /// Advances the time, calling `each` at once and then every `period`.
    pub fn run_every(&mut self, period: Duration, time: Duration, mut each: impl FnMut(&mut Simulation<G>)) {
        let end = self.now + time;
        while self.now < end {
            each(self);
            self.run(period.min(end - self.now));
        }
    }

    /// Advances the time without running anything, as if the whole system had been suspended.
    pub fn stand_still(&mut self, time: Duration) {
        self.now += time;
    }

    fn next_event(&self) -> Option<Instant> {
        let client = self.deadlines.first().map(|&(at, _)| at);
        let packet = self.in_flight.peek().map(|Reverse(in_flight)| self.started + in_flight.at);
        let taken = self.waiting.first().map(|&(arrived, ..)| arrived + self.turn_length);
        [client, packet, taken, self.server.poll_timeout()].into_iter().flatten().min()
    }

    /// Passes the datagrams in its socket to the server, if it has a turn now.
    fn take_in_datagrams(&mut self) {
        let Some(&(oldest, ..)) = self.waiting.first() else { return };
        let is_due = self.server.poll_timeout().is_some_and(|at| at <= self.now);
        if is_due || oldest + self.turn_length <= self.now {
            // As in the driver: no earlier than the turn before.
            let earliest = self.now - self.turn_length;
            for (arrived, datagram, source) in std::mem::take(&mut self.waiting) {
                let arrived = arrived.max(earliest);
                self.server.handle_datagram(self.now, arrived, datagram.local, source, &datagram.bytes);
            }
        }
    }

    fn turn(&mut self) {
        let now = self.elapsed();
        let _seeded = self.seeded_dtls();
        while self.in_flight.peek().is_some_and(|Reverse(in_flight)| in_flight.at <= now) {
            let Some(Reverse(InFlight { packet, .. })) = self.in_flight.pop() else { break };
            let is_through = match &packet.payload {
                Payload::DatagramUp(datagram, _) | Payload::DatagramDown(datagram, _) => datagram.crossing.is_through(),
                Payload::SegmentUp(_, segment) | Payload::SegmentDown(_, segment) => segment.is_through(),
            };
            if is_through {
                self.arrive(packet);
            } else {
                self.forward(packet);
            }
        }
        self.take_in_datagrams();
        if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
            self.server.handle_timeout(self.now);
        }
        while let Some(&(_, id)) = self.deadlines.first().filter(|&&(at, _)| at <= self.now) {
            self.deadlines.pop_first();
            let now = self.now;
            let end = &mut self[id];
            end.deadline = None;
            end.client.handle_timeout(now);
        }
        self.collect();
    }

    /// Collects the output of the server and the clients.
    fn collect(&mut self) {
        let mut packets = Vec::new();
        let elapsed = self.elapsed();
        while let Some(transmit) = self.server.poll_transmit() {
            let Some(&client) = self.by_ip.get(&transmit.destination.ip()) else {
                self.stray_bytes += transmit.bytes.len() as u64;
                continue;
            };
            let end = &mut self.clients[client.0];
            if end.unreachable.contains(&transmit.local) {
                continue;
            }
            let datagram = end.down.datagram(transmit.local, transmit.bytes);
            packets.push(Packet { client, payload: Payload::DatagramDown(datagram, transmit.destination) });
        }
        while let Some(connection) = self.server.poll_signal_ready() {
            let is_ours = |&(client, number): &(ClientId, usize)| {
                self.clients.get(client.0).is_some_and(|end| number < end.websockets.len())
            };
            self.ready.extend(ClientId::of(connection).filter(is_ours));
        }
        self.ready.retain(|&(client, number)| {
            let stream = &mut self.clients[client.0].websockets[number].down;
            let mut is_ready = true;
            while is_ready && stream.has_room() {
                match self.server.poll_signal(client.connection(number)) {
                    Some(signal) => stream.send(elapsed, Said::Down(signal)),
                    None => is_ready = false,
                }
                let segments = std::iter::from_fn(|| stream.poll(elapsed));
                let payloads = segments.map(|segment| Payload::SegmentDown(number, segment));
                packets.extend(payloads.map(|payload| Packet { client, payload }));
            }
            is_ready
        });
        let is_down = self.is_down();
        while let Some(client) = self.touched.pop_first() {
            let end = &mut self.clients[client.0];
            let source = end.address_at(elapsed);
            while let Some(transmit) = end.client.poll_transmit() {
                let local = local_of(&self.config, transmit.destination);
                let Some(local) = local.filter(|local| !end.unreachable.contains(local)) else { continue };
                let datagram = end.up.datagram(local, transmit.bytes);
                if is_check(transmit.bytes) {
                    end.check = Some(datagram.clone());
                }
                packets.push(Packet { client, payload: Payload::DatagramUp(datagram, source) });
            }
            while let Some(message) = end.client.poll_message() {
                let is_goodbye = message == Message::Close;
                let Message::Connect(to) = message else {
                    end.websocket().up.send(elapsed, Said::Up(message));
                    end.websocket().is_over |= is_goodbye;
                    continue;
                };
                end.drop_websocket(elapsed);
                let connection = end.open_websocket();
                if is_down || to != Destination::Home {
                    end.websocket().is_over = true;
                    end.client.handle_disconnect(self.now, 1006, "No server is there.");
                } else {
                    self.server.handle_connect(self.now, connection, end.connect());
                }
            }
            if matches!(end.client.status(), Status::Dropped | Status::Closed) {
                end.drop_websocket(elapsed);
            }
            for payload in end.poll_segments(elapsed) {
                packets.push(Packet { client, payload });
            }
            end.events.extend(std::iter::from_fn(|| end.client.poll_event()).map(|event| (elapsed, event)));
            let deadline = end.client.poll_timeout();
            if let Some(old) = std::mem::replace(&mut end.deadline, deadline) {
                self.deadlines.remove(&(old, client));
            }
            self.deadlines.extend(deadline.map(|at| (at, client)));
        }
        for packet in packets {
            self.forward(packet);
        }
    }

    /// Forwards a packet through its remaining nodes.
    fn forward(&mut self, packet: Packet) {
        let now = self.elapsed();
        let mut copies = vec![packet];
        while let Some(Packet { client, mut payload }) = copies.pop() {
            let end = &mut self.clients[client.0];
            let at = match &mut payload {
                Payload::DatagramUp(datagram, source) => {
                    let (at, doubled) = datagram.crossing.pass(now, &mut end.up);
                    copies.extend(doubled.into_iter().map(|crossing| {
                        let datagram = Datagram { crossing, ..datagram.clone() };
                        Packet { client, payload: Payload::DatagramUp(datagram, *source) }
                    }));
                    at
                }
                Payload::DatagramDown(datagram, destination) => {
                    let (at, doubled) = datagram.crossing.pass(now, &mut end.down);
                    copies.extend(doubled.into_iter().map(|crossing| {
                        let datagram = Datagram { crossing, ..datagram.clone() };
                        Packet { client, payload: Payload::DatagramDown(datagram, *destination) }
                    }));
                    at
                }
                Payload::SegmentUp(number, segment) => Some(end.websockets[*number].up.pass(now, segment)),
                Payload::SegmentDown(number, segment) => Some(end.websockets[*number].down.pass(now, segment)),
            };
            if let Some(at) = at {
                self.order += 1;
                self.in_flight.push(Reverse(InFlight { at, order: self.order, packet: Packet { client, payload } }));
            }
        }
    }

    /// Delivers a packet.
    fn arrive(&mut self, packet: Packet) {
        let (id, now, elapsed) = (packet.client, self.now, self.elapsed());
        match packet.payload {
            Payload::DatagramUp(datagram, source) => {
                self.clients[id.0].up.traffic.delivered += 1;
                if !self.is_down() {
                    self.waiting.push((now, datagram, source));
                    if self.turn_length.is_zero() {
                        self.take_in_datagrams();
                    }
                }
            }
            Payload::DatagramDown(datagram, destination) => {
                let source = address_of(&self.config, datagram.local);
                let end = &mut self[id];
                if end.address_at(elapsed) == destination {
                    end.down.traffic.delivered += 1;
                    end.client.handle_datagram(now, LocalId(0), source, &datagram.bytes);
                }
            }
            Payload::SegmentUp(number, segment) => {
                let messages = self[id].websockets[number].up.arrive(segment);
                for message in messages {
                    self.hear(id, number, message);
                }
            }
            Payload::SegmentDown(number, segment) => {
                // The client may send what waited for the window.
                let messages = self[id].websockets[number].down.arrive(segment);
                for message in messages {
                    self.hear(id, number, message);
                }
            }
        }
    }

    /// Handles a message received on a client's websocket.
    fn hear(&mut self, id: ClientId, number: usize, said: Said) {
        let (now, elapsed) = (self.now, self.elapsed());
        let connection = id.connection(number);
        match said {
            Said::Up(Message::Text(text)) => self.server.handle_text(now, connection, &text),
            Said::Up(Message::Binary(bytes)) => self.server.handle_binary(now, connection, &bytes),
            Said::Up(Message::Close) => self.server.handle_disconnect(now, connection, Disconnect::Goodbye),
            Said::Up(Message::Connect(_)) => {}
            Said::Dropped => self.server.handle_disconnect(now, connection, Disconnect::Lost),
            Said::Pong(payload) => self.server.handle_pong(now, connection, &payload.to_be_bytes()),
            Said::Down(Signal::Close { code, reason }) => {
                self.server.handle_disconnect(now, connection, Disconnect::Lost);
                let end = &mut self[id];
                end.websockets[number].is_over = true;
                if !end.websockets[number].is_dropped {
                    end.client.handle_disconnect(now, code, &reason);
                    end.closed = Some((code, reason));
                }
            }
            Said::Down(_) if self[id].websockets[number].is_dropped => {}
            Said::Down(Signal::Text(text)) => {
                let end = &mut self[id];
                end.client.handle_text(now, &text);
                end.texts.push(serde_json::from_str(&text).expect("the server sends JSON"));
            }
            Said::Down(Signal::Binary(bytes)) => self[id].client.handle_binary(now, &bytes),
            Said::Down(Signal::Ping(payload)) => self[id].websocket().up.send(elapsed, Said::Pong(payload)),
        }
    }

    fn send_message(&mut self, client: ClientId, message: Message) {
        self.collect();
        let elapsed = self.elapsed();
        self[client].websocket().up.send(elapsed, Said::Up(message));
        self.collect();
    }
}

fn make_server<G: Game>(config: &Config, now: Instant, factory: &Rc<RefCell<Factory<G>>>) -> Server<G> {
    let factory = Rc::clone(factory);
    Server::new(config.clone(), now, move |room| factory.borrow_mut()(room))
}

impl<G: Game> Index<ClientId> for Simulation<G> {
    type Output = SimulatedClient;

    fn index(&self, id: ClientId) -> &SimulatedClient {
        &self.clients[id.0]
    }
}

impl<G: Game> IndexMut<ClientId> for Simulation<G> {
    fn index_mut(&mut self, id: ClientId) -> &mut SimulatedClient {
        self.touched.insert(id);
        &mut self.clients[id.0]
    }
}

impl<G: Game> Drop for Simulation<G> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation's seed was {}", self.seed);
        }
    }
}

#[cfg(test)]
mod tests;
