//! A server and its players under virtual time, over a network of your making: for tests of your game.
//!
//! A [`Simulation`] holds one real [`Server`] and any number of real [`Client`]s, with ICE, DTLS and the datagram lane.
//! Only clock and network are made up: an hour passes in seconds, nothing waits, and a seed says what is lost.
//!
//! ```
//! use rtcade::client::Event;
//! use rtcade::games::Arena;
//! use rtcade::sim::{Path, Node, Simulation};
//! use std::time::Duration;
//!
//! let mut sim = Simulation::new(1, |room| Ok(Arena::new(room)));
//! sim.set_paths(|| Path::new(Duration::from_millis(25)).with(&Node::Loss { permille: 50 }));
//! let bots: Vec<_> = (0..8).map(|n| sim.join("arena", &format!("bot {n}"))).collect();
//! sim.run(Duration::from_secs(10));
//! for bot in bots {
//!     assert!(sim[bot].client.is_open());
//!     let states = sim[bot].events.iter().filter(|(_, event)| matches!(event, Event::State { .. })).count();
//!     assert!(states > 250, "{states} of some 300 states");
//! }
//! ```
//!
//! # The network
//!
//! Each client has a [`Path`]: a list of [`Node`]s for each direction, which a datagram passes one after the other,
//! and a websocket, which is slow but sound. Every direction of every path has random numbers of its own, and of those
//! each datagram has its own: what becomes of it depends on the seed, on whose it is and on how many went before it,
//! never on what is in it or on what else is under way.
//!
//! # What a seed reproduces
//!
//! The seed of the server, those of its clients, and which datagrams of a path are lost. DTLS draws keys of its own
//! and varies the times of its handshake, so when a channel opens under loss may differ from run to run.

mod client;
mod crossing;
mod path;
mod rooms;
mod scenario;
#[cfg(feature = "driver")]
mod scenario_file;

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
use self::crossing::{Datagram, Said, Segment};
pub use self::path::{Node, Path, RateLimit};
pub use self::rooms::{Divergence, RoomSimulation, check};
pub use self::scenario::{Report, Reports, Scenario, Trial};
#[cfg(feature = "driver")]
pub use self::scenario_file::ScenarioError;
use crate::client::{Config as ClientConfig, Message};
use crate::endpoint::LocalId;
use crate::game::{Game, Refusal, RoomInfo};
use crate::limits;
use crate::peer::SeededDtls;
use crate::server::{Config, Connect, ConnectionId, Server, Signal};
use crate::wire::signaling::RoomName;

/// Where the server is.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 8080);

const ONE_WAY: Duration = Duration::from_millis(25);

/// One client of a [`Simulation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(usize);

impl ClientId {
    /// The connection that the server knows it by. Others are the caller's own: the simulation leaves them alone.
    #[must_use]
    pub fn connection(self) -> ConnectionId {
        ConnectionId(self.0 as u64)
    }
}

/// On its way to or from `client`.
struct Packet {
    client: ClientId,
    payload: Payload,
}

enum Payload {
    /// With where it comes from.
    DatagramUp(Datagram, SocketAddr),
    /// With where it goes.
    DatagramDown(Datagram, SocketAddr),
    SegmentUp(Segment),
    SegmentDown(Segment),
}

struct InFlight {
    at: Duration,
    order: u64,
    packet: Packet,
}

impl PartialEq for InFlight {
    fn eq(&self, other: &InFlight) -> bool {
        self.order == other.order
    }
}
impl Eq for InFlight {}
impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &InFlight) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for InFlight {
    fn cmp(&self, other: &InFlight) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A server and its players, with a clock and a network of their own. `sim[id]` is a client.
///
/// Dropped by a test that fails, it prints its seed.
pub struct Simulation<G: Game> {
    /// The server. What it is told directly is taken up when time passes next.
    pub server: Server<G>,
    seed: u64,
    slow_path: bool,
    rng: ChaCha8Rng,
    started: Instant,
    now: Instant,
    clients: Vec<SimulatedClient>,
    by_ip: BTreeMap<IpAddr, ClientId>,
    deadlines: BTreeSet<(Instant, ClientId)>,
    /// Clients that may have something to say.
    touched: BTreeSet<ClientId>,
    /// Clients for whose websocket the server may have something to say.
    ready: BTreeSet<ClientId>,
    make_path: Box<dyn Fn() -> Path>,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    order: u64,
}

impl<G: Game> Simulation<G> {
    /// A server of 33 ms ticks and 16 players per room. `factory` makes the game of each room, or says why not.
    pub fn new(seed: u64, factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static) -> Simulation<G> {
        Simulation::with_config(seed, |_| {}, factory)
    }

    /// The same, configured otherwise.
    ///
    /// # Panics
    /// As [`Server::new`] does.
    pub fn with_config(
        seed: u64,
        configure: impl FnOnce(&mut Config),
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    ) -> Simulation<G> {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut config = Config {
            seed: rng.random(),
            tick: Duration::from_millis(limits::TICK_MS.into()),
            max_players: 16,
            udp_port: SERVER.port(),
            public: Vec::new(),
            interfaces: Vec::new(),
            slow_path: false,
        };
        configure(&mut config);
        let _seeded = SeededDtls::new(seed);
        Simulation {
            slow_path: config.slow_path,
            server: Server::new(config, now, factory),
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
        }
    }

    /// The time, as server and clients are told it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The time since the simulation's beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.started
    }

    /// The game of a room, where there is one.
    #[must_use]
    pub fn game(&self, room: &str) -> Option<&G> {
        self.server.game(&RoomName::parse(room)?)
    }

    /// All clients, in the order of their coming.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> + use<G> {
        (0..self.clients.len()).map(ClientId)
    }

    /// A client that joins `room`.
    pub fn join(&mut self, room: &str, name: &str) -> ClientId {
        self.join_with(room, |config| config.name = name.to_owned())
    }

    /// A client, configured otherwise, that joins `room`.
    pub fn join_with(&mut self, room: &str, configure: impl FnOnce(&mut ClientConfig)) -> ClientId {
        let id = self.add(room, configure);
        self.collect();
        id
    }

    /// A websocket alone: nothing is said on it but what [`Simulation::text`] and [`Simulation::binary`] say.
    pub fn connect(&mut self, room: &str) -> ClientId {
        let id = self.add(room, |config| config.locals.clear());
        while self[id].client.poll_message().is_some() {}
        id
    }

    fn add(&mut self, room: &str, configure: impl FnOnce(&mut ClientConfig)) -> ClientId {
        let id = ClientId(self.clients.len());
        let byte = |number: usize| u8::try_from(number).expect("there are addresses for 63,000 clients");
        let address = SocketAddr::from(([10, 0, 1 + byte(id.0 / 250), 1 + byte(id.0 % 250)], 5_000));
        let connect =
            Connect { room: RoomName::parse(room), remote: SocketAddr::new(address.ip(), 40_000), local: SERVER.ip() };
        self.server.handle_connect(self.now, id.connection(), connect);
        let mut config = ClientConfig {
            seed: self.rng.random(),
            room: None,
            name: String::new(),
            data: serde_json::Value::Null,
            locals: vec![address],
            slow_path: self.slow_path,
        };
        configure(&mut config);
        let seeded = self.seeded_dtls();
        let mut client = SimulatedClient::new(config, self.now, self.seed, id.0, address);
        drop(seeded);
        client.set_path((self.make_path)(), self.elapsed());
        self.clients.push(client);
        self.by_ip.insert(address.ip(), id);
        self.touched.insert(id);
        id
    }

    /// For all DTLS that is made now.
    fn seeded_dtls(&self) -> SeededDtls {
        let now_ms = u64::try_from(self.elapsed().as_millis()).expect("a simulation is shorter than that");
        SeededDtls::new(self.seed.wrapping_add(now_ms))
    }

    /// Changes the path of a client, for what is sent from now on.
    ///
    /// # Panics
    /// Past 16 nodes in one direction.
    pub fn set_path(&mut self, client: ClientId, path: Path) {
        self.collect();
        let now = self.elapsed();
        self[client].set_path(path, now);
    }

    /// Changes the paths of all clients, those that are still to come included: 25 ms unless told otherwise.
    ///
    /// # Panics
    /// Past 16 nodes in one direction.
    pub fn set_paths(&mut self, make: impl Fn() -> Path + 'static) {
        self.collect();
        let now = self.elapsed();
        for client in &mut self.clients {
            client.set_path(make(), now);
        }
        self.make_path = Box::new(make);
    }

    /// Changes the address that a client's datagrams come from, as when its network's address translation forgets it.
    /// What is sent to the old one is lost. See [`Node::Rebinding`] for one that happens again and again.
    pub fn rebind(&mut self, client: ClientId) {
        self.collect();
        let now = self.elapsed();
        self[client].rebind(now);
    }

    /// Sends an input, see [`Client::send`]. Its number.
    ///
    /// # Panics
    /// Where it can't be sent.
    pub fn send(&mut self, client: ClientId, input: &impl Serialize) -> u32 {
        let now = self.now;
        self[client].client.send(now, input).expect("an input that can be encoded, and is no longer than one may be")
    }

    /// Sends a command, see [`Client::command`].
    ///
    /// # Panics
    /// Where it can't be sent.
    pub fn command(&mut self, client: ClientId, command: &impl Serialize) {
        let now = self.now;
        self[client]
            .client
            .command(now, command)
            .expect("a command that can be encoded, and is no longer than one may be");
    }

    /// Says goodbye.
    pub fn leave(&mut self, client: ClientId) {
        let now = self.now;
        self[client].client.leave(now);
    }

    /// Sends signaling as if the client's websocket had.
    pub fn text(&mut self, client: ClientId, text: &str) {
        self.send_message(client, Message::Text(text.to_owned()));
    }

    /// Sends a frame as if the client's websocket had.
    pub fn binary(&mut self, client: ClientId, bytes: &[u8]) {
        self.send_message(client, Message::Binary(bytes.to_vec()));
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.collect();
        while let Some(next) = self.next_event().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.turn();
        }
        self.now = end;
    }

    /// Lets time pass, calling `each` at once and then every `period`.
    pub fn run_every(&mut self, period: Duration, time: Duration, mut each: impl FnMut(&mut Simulation<G>)) {
        let end = self.now + time;
        while self.now < end {
            each(self);
            self.run(period.min(end - self.now));
        }
    }

    /// Lets time pass in which nobody acts, as if the whole world had been stopped.
    pub fn stand_still(&mut self, time: Duration) {
        self.now += time;
    }

    fn next_event(&self) -> Option<Instant> {
        let client = self.deadlines.first().map(|&(at, _)| at);
        let packet = self.in_flight.peek().map(|Reverse(in_flight)| self.started + in_flight.at);
        [client, packet, self.server.poll_timeout()].into_iter().flatten().min()
    }

    fn turn(&mut self) {
        let now = self.elapsed();
        let _seeded = self.seeded_dtls();
        while self.in_flight.peek().is_some_and(|Reverse(in_flight)| in_flight.at <= now) {
            let Some(Reverse(InFlight { packet, .. })) = self.in_flight.pop() else { break };
            let is_through = match &packet.payload {
                Payload::DatagramUp(datagram, _) | Payload::DatagramDown(datagram, _) => datagram.crossing.is_through(),
                Payload::SegmentUp(segment) | Payload::SegmentDown(segment) => segment.is_through(),
            };
            if is_through {
                self.arrive(packet);
            } else {
                self.forward(packet);
            }
        }
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

    /// Takes what server and clients have to say.
    fn collect(&mut self) {
        let mut packets = Vec::new();
        let elapsed = self.elapsed();
        while let Some(transmit) = self.server.poll_transmit() {
            // Elsewhere nobody listens.
            let Some(&client) = self.by_ip.get(&transmit.destination.ip()) else { continue };
            let datagram = self.clients[client.0].down.datagram(transmit.bytes);
            packets.push(Packet { client, payload: Payload::DatagramDown(datagram, transmit.destination) });
        }
        while let Some(connection) = self.server.poll_signal_ready() {
            let index = usize::try_from(connection.0).ok().filter(|&index| index < self.clients.len());
            self.ready.extend(index.map(ClientId));
        }
        self.ready.retain(|&client| {
            let stream = &mut self.clients[client.0].websocket_down;
            let mut is_ready = true;
            while is_ready && stream.has_room() {
                match self.server.poll_signal(client.connection()) {
                    Some(signal) => stream.send(Said::Down(signal)),
                    None => is_ready = false,
                }
                let segments = std::iter::from_fn(|| stream.poll(elapsed));
                packets.extend(segments.map(|segment| Packet { client, payload: Payload::SegmentDown(segment) }));
            }
            is_ready
        });
        while let Some(client) = self.touched.pop_first() {
            let end = &mut self.clients[client.0];
            let source = end.address_at(elapsed);
            while let Some(transmit) = end.client.poll_transmit() {
                let datagram = end.up.datagram(transmit.bytes);
                packets.push(Packet { client, payload: Payload::DatagramUp(datagram, source) });
            }
            while let Some(message) = end.client.poll_message() {
                end.websocket_up.send(Said::Up(message));
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

    /// Sends a packet on, through the nodes that it has not passed yet.
    fn forward(&mut self, packet: Packet) {
        let now = self.elapsed();
        let mut copies = vec![packet];
        while let Some(Packet { client, mut payload }) = copies.pop() {
            let end = &mut self.clients[client.0];
            let at = match &mut payload {
                Payload::DatagramUp(datagram, source) => {
                    let (at, doubled) = datagram.crossing.pass(now, &mut end.up);
                    copies.extend(doubled.into_iter().map(|crossing| {
                        let datagram = Datagram { crossing, bytes: Rc::clone(&datagram.bytes) };
                        Packet { client, payload: Payload::DatagramUp(datagram, *source) }
                    }));
                    at
                }
                Payload::DatagramDown(datagram, destination) => {
                    let (at, doubled) = datagram.crossing.pass(now, &mut end.down);
                    copies.extend(doubled.into_iter().map(|crossing| {
                        let datagram = Datagram { crossing, bytes: Rc::clone(&datagram.bytes) };
                        Packet { client, payload: Payload::DatagramDown(datagram, *destination) }
                    }));
                    at
                }
                Payload::SegmentUp(segment) => Some(end.websocket_up.pass(now, segment)),
                Payload::SegmentDown(segment) => Some(end.websocket_down.pass(now, segment)),
            };
            if let Some(at) = at {
                self.order += 1;
                self.in_flight.push(Reverse(InFlight { at, order: self.order, packet: Packet { client, payload } }));
            }
        }
    }

    /// Takes a packet to where it goes.
    fn arrive(&mut self, packet: Packet) {
        let (id, now, elapsed) = (packet.client, self.now, self.elapsed());
        match packet.payload {
            Payload::DatagramUp(datagram, source) => {
                self.clients[id.0].up.traffic.delivered += 1;
                self.server.handle_datagram(now, LocalId(0), source, &datagram.bytes);
            }
            Payload::DatagramDown(datagram, destination) => {
                let end = &mut self[id];
                if end.address_at(elapsed) == destination {
                    end.down.traffic.delivered += 1;
                    end.client.handle_datagram(now, LocalId(0), SERVER, &datagram.bytes);
                }
            }
            Payload::SegmentUp(segment) => {
                let messages = self[id].websocket_up.arrive(segment);
                for message in messages {
                    self.hear(id, message);
                }
            }
            Payload::SegmentDown(segment) => {
                // Touched, because what waited for the window may go now.
                let messages = self[id].websocket_down.arrive(segment);
                for message in messages {
                    self.hear(id, message);
                }
            }
        }
    }

    /// Takes a message that has come over a client's websocket.
    fn hear(&mut self, id: ClientId, said: Said) {
        let now = self.now;
        match said {
            Said::Up(Message::Text(text)) => {
                self.server.handle_text(now, id.connection(), &text);
            }
            Said::Up(Message::Binary(bytes)) => self.server.handle_binary(now, id.connection(), &bytes),
            Said::Up(Message::Close) => self.server.handle_disconnect(now, id.connection(), true),
            Said::Down(Signal::Text(text)) => {
                let end = &mut self[id];
                end.client.handle_text(now, &text);
                end.texts.push(serde_json::from_str(&text).expect("the server sends JSON"));
            }
            Said::Down(Signal::Binary(bytes)) => self[id].client.handle_binary(now, &bytes),
            Said::Down(Signal::Close { code, reason }) => {
                let end = &mut self[id];
                end.closed = Some((code, reason));
                end.client.handle_disconnect(now);
                self.server.handle_disconnect(now, id.connection(), false);
            }
        }
    }

    fn send_message(&mut self, client: ClientId, message: Message) {
        self.collect();
        self[client].websocket_up.send(Said::Up(message));
        self.collect();
    }
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
mod tests {
    use super::*;
    use crate::games::Relay;

    const MS: Duration = Duration::from_millis(1);

    fn relay() -> Simulation<Relay> {
        Simulation::new(7, |_| Ok(Relay))
    }

    #[test]
    fn what_is_on_its_way_keeps_the_path_it_left_on() {
        let mut sim = relay();
        let ada = sim.join("keeps", "Ada");
        sim.run(Duration::from_secs(1));
        sim.send(ada, &());
        sim.set_path(ada, Path::new(25 * MS).with(&Node::Blackout(Duration::ZERO..Duration::MAX)));
        let Traffic { sent, delivered, .. } = sim[ada].up();
        sim.run(Duration::from_secs(1));
        assert!(sim[ada].up().sent > sent, "the input is repeated");
        assert_eq!(sim[ada].up().delivered, sent);
        assert!(sent > delivered);
    }

    #[test]
    fn a_websocket_keeps_its_order() {
        let mut sim = relay();
        let ada = sim.connect("orderly");
        for (number, websocket) in [(1, 500 * MS), (2, MS), (3, 200 * MS)] {
            sim.set_path(ada, Path::new(websocket));
            sim.text(ada, &format!(r#"{{"a":"fly","i":{number}}}"#));
            sim.run(10 * MS);
        }
        sim.run(Duration::from_secs(1));
        let replies: Vec<_> = sim[ada].texts.iter().map(|text| text["i"].as_u64().unwrap()).collect();
        assert_eq!(replies, [1, 2, 3]);
    }

    #[test]
    fn clients_behind_one_bottleneck_share_it() {
        let mut sim = relay();
        let limit = RateLimit::new(4_000, 2_000);
        sim.set_paths(|| Path::new(25 * MS));
        let clients: Vec<_> = (0..4).map(|n| sim.join("narrow", &format!("bot {n}"))).collect();
        sim.run(Duration::from_secs(2));
        let delivered = |sim: &Simulation<Relay>| -> u64 { clients.iter().map(|&id| sim[id].down().delivered).sum() };
        let before = delivered(&sim);
        sim.run(Duration::from_secs(2));
        let wide = delivered(&sim) - before;
        for &id in &clients {
            let down = vec![Node::RateLimit(limit.clone()), Node::Latency(25 * MS)];
            sim.set_path(id, Path { down, ..Path::new(25 * MS) });
        }
        let before = delivered(&sim);
        sim.run(Duration::from_secs(2));
        let narrow = delivered(&sim) - before;
        // A datagram of the relay has more than 80 bytes with all its headers.
        assert!(narrow <= (2 * 4_000 + 2_000) / 80 && wide >= 4 * 60, "{narrow} instead of {wide}");
    }
}
