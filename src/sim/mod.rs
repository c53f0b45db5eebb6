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

mod path;
mod rooms;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Index, IndexMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

pub use self::path::{Node, Path, RateLimit};
pub use self::rooms::{Divergence, RoomSimulation, check};
use crate::client::{self, Client, Event, Message};
use crate::endpoint::LocalId;
use crate::game::{Game, Refusal, RoomInfo};
use crate::limits;
use crate::server::{Config, Connect, ConnectionId, Disconnect, Server, Signal};
use crate::wire::signaling::RoomName;

/// Where the server is.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 8080);

/// Bytes that IPv4 and UDP put before a payload; nodes see them too (RFC 791 §3.1, RFC 768).
pub const DATAGRAM_HEADER_BYTES: usize = 20 + 8;

const ONE_WAY: Duration = Duration::from_millis(25);
/// Words of one block of ChaCha: a datagram's random numbers, one per node.
const DRAWS: usize = 16;

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

/// Datagrams of one direction of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams that were sent.
    pub sent: u64,
    /// Datagrams that arrived.
    pub delivered: u64,
}

/// A client and what it has heard.
pub struct SimulatedClient {
    /// The client. What it is told directly is taken up when time passes next.
    pub client: Client,
    /// What happened, and how long after the simulation's beginning.
    pub events: Vec<(Duration, Event)>,
    /// Signaling that arrived.
    pub texts: Vec<serde_json::Value>,
    /// Code and reason with which the server closed its websocket.
    pub closed: Option<(u16, String)>,
    address: SocketAddr,
    up: Direction,
    down: Direction,
    websocket: Duration,
    websocket_up_at: Duration,
    websocket_down_at: Duration,
    deadline: Option<Instant>,
}

impl SimulatedClient {
    /// Where its datagrams come from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Datagrams to the server.
    #[must_use]
    pub fn up(&self) -> Traffic {
        self.up.traffic
    }

    /// Datagrams from the server.
    #[must_use]
    pub fn down(&self) -> Traffic {
        self.down.traffic
    }

    /// The newest signaling reply or event of that name.
    #[must_use]
    pub fn heard(&self, action: &str) -> Option<&serde_json::Value> {
        self.texts.iter().rev().find(|text| text["a"] == action)
    }

    fn set_path(&mut self, path: Path) {
        assert!(path.up.len().max(path.down.len()) <= DRAWS, "a path has at most {DRAWS} nodes each way");
        self.up.nodes = path.up.into();
        self.down.nodes = path.down.into();
        self.websocket = path.websocket;
    }
}

/// One direction of a path.
struct Direction {
    nodes: Rc<[Node]>,
    rng: ChaCha8Rng,
    traffic: Traffic,
}

impl Direction {
    fn new(mut rng: ChaCha8Rng, stream: u64) -> Direction {
        rng.set_stream(stream);
        Direction { nodes: Rc::new([]), rng, traffic: Traffic::default() }
    }

    fn datagram(&mut self, bytes: &[u8]) -> Datagram {
        assert!(bytes.len() <= limits::UDP_PAYLOAD_BYTES, "a datagram of {} bytes", bytes.len());
        let number = self.traffic.sent;
        self.traffic.sent += 1;
        Datagram { bytes: bytes.to_vec(), number, nodes: Rc::clone(&self.nodes), passed: 0 }
    }

    fn draw(&mut self, datagram: u64, node: usize) -> u32 {
        self.rng.set_word_pos(u128::from(datagram) * DRAWS as u128 + node as u128);
        self.rng.next_u32()
    }
}

/// On its way to or from `client`.
struct Packet {
    client: ClientId,
    payload: Payload,
}

enum Payload {
    DatagramUp(Datagram),
    DatagramDown(Datagram),
    MessageUp(Message),
    SignalDown(Signal),
    PongUp,
}

struct Datagram {
    bytes: Vec<u8>,
    number: u64,
    /// As the path was when it was sent.
    nodes: Rc<[Node]>,
    passed: usize,
}

impl Datagram {
    fn is_through(&self) -> bool {
        self.passed == self.nodes.len()
    }

    /// Passes nodes up to the first that takes time. When it leaves that one; `None` if it is lost.
    fn pass(&mut self, now: Duration, direction: &mut Direction) -> Option<Duration> {
        let mut at = now;
        while at == now && !self.is_through() {
            let draw = direction.draw(self.number, self.passed);
            at = self.nodes[self.passed].pass(now, self.bytes.len() + DATAGRAM_HEADER_BYTES, draw)?;
            self.passed += 1;
        }
        Some(at)
    }
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
    by_address: BTreeMap<SocketAddr, ClientId>,
    deadlines: BTreeSet<(Instant, ClientId)>,
    /// Clients that may have something to say.
    touched: BTreeSet<ClientId>,
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
            grace: limits::RESUME_GRACE,
            max_players: 16,
            udp_port: SERVER.port(),
            public: Vec::new(),
            interfaces: Vec::new(),
            keys: None,
            unix_time: Duration::ZERO,
            slow_path: false,
        };
        configure(&mut config);
        Simulation {
            slow_path: config.slow_path,
            server: Server::new(config, now, factory),
            seed,
            rng,
            started: now,
            now,
            clients: Vec::new(),
            by_address: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            touched: BTreeSet::new(),
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
    pub fn join_with(&mut self, room: &str, configure: impl FnOnce(&mut client::Config)) -> ClientId {
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

    fn add(&mut self, room: &str, configure: impl FnOnce(&mut client::Config)) -> ClientId {
        let id = ClientId(self.clients.len());
        let byte = |number: usize| u8::try_from(number).expect("there are addresses for 63,000 clients");
        let address = SocketAddr::from(([10, 0, 1 + byte(id.0 / 250), 1 + byte(id.0 % 250)], 5_000));
        let connect =
            Connect { room: RoomName::parse(room), remote: SocketAddr::new(address.ip(), 40_000), local: SERVER.ip() };
        self.server.handle_connect(self.now, id.connection(), connect);
        let mut config = client::Config {
            seed: self.rng.random(),
            room: None,
            name: String::new(),
            data: serde_json::Value::Null,
            locals: vec![address],
            slow_path: self.slow_path,
        };
        configure(&mut config);
        let draws = ChaCha8Rng::seed_from_u64(self.seed);
        // The stream 0 of this seed is the one that seeds server and clients.
        let stream = 2 * id.0 as u64 + 1;
        let mut client = SimulatedClient {
            client: Client::new(config, self.now),
            events: Vec::new(),
            texts: Vec::new(),
            closed: None,
            address,
            up: Direction::new(draws.clone(), stream),
            down: Direction::new(draws, stream + 1),
            websocket: Duration::ZERO,
            websocket_up_at: Duration::ZERO,
            websocket_down_at: Duration::ZERO,
            deadline: None,
        };
        client.set_path((self.make_path)());
        self.clients.push(client);
        self.by_address.insert(address, id);
        self.touched.insert(id);
        id
    }

    /// Changes the path of a client, for what is sent from now on.
    ///
    /// # Panics
    /// Past 16 nodes in one direction.
    pub fn set_path(&mut self, client: ClientId, path: Path) {
        self.collect();
        self[client].set_path(path);
    }

    /// Changes the paths of all clients, those that are still to come included: 25 ms unless told otherwise.
    ///
    /// # Panics
    /// Past 16 nodes in one direction.
    pub fn set_paths(&mut self, make: impl Fn() -> Path + 'static) {
        self.collect();
        for client in &mut self.clients {
            client.set_path(make());
        }
        self.make_path = Box::new(make);
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
        while self.in_flight.peek().is_some_and(|Reverse(in_flight)| in_flight.at <= now) {
            let Some(Reverse(InFlight { packet, .. })) = self.in_flight.pop() else { break };
            match &packet.payload {
                Payload::DatagramUp(datagram) | Payload::DatagramDown(datagram) if !datagram.is_through() => {
                    self.forward(packet);
                }
                _ => self.arrive(packet),
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
        while let Some(transmit) = self.server.poll_transmit() {
            // Elsewhere nobody listens.
            let Some(&client) = self.by_address.get(&transmit.destination) else { continue };
            let datagram = self.clients[client.0].down.datagram(transmit.bytes);
            packets.push(Packet { client, payload: Payload::DatagramDown(datagram) });
        }
        while let Some(connection) = self.server.poll_signal_ready() {
            let index = usize::try_from(connection.0).ok().filter(|&index| index < self.clients.len());
            let Some(client) = index.map(ClientId) else { continue };
            while let Some(signal) = self.server.poll_signal(connection) {
                packets.push(Packet { client, payload: Payload::SignalDown(signal) });
            }
        }
        let elapsed = self.elapsed();
        while let Some(client) = self.touched.pop_first() {
            let end = &mut self.clients[client.0];
            while let Some(transmit) = end.client.poll_transmit() {
                let datagram = end.up.datagram(transmit.bytes);
                packets.push(Packet { client, payload: Payload::DatagramUp(datagram) });
            }
            while let Some(message) = end.client.poll_message() {
                packets.push(Packet { client, payload: Payload::MessageUp(message) });
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

    /// Sends a packet on: through the nodes that it has not passed yet, or into the websocket.
    fn forward(&mut self, mut packet: Packet) {
        let now = self.elapsed();
        let end = &mut self.clients[packet.client.0];
        let at = match &mut packet.payload {
            Payload::DatagramUp(datagram) => datagram.pass(now, &mut end.up),
            Payload::DatagramDown(datagram) => datagram.pass(now, &mut end.down),
            Payload::MessageUp(_) | Payload::PongUp => Some(in_order(&mut end.websocket_up_at, now + end.websocket)),
            Payload::SignalDown(_) => Some(in_order(&mut end.websocket_down_at, now + end.websocket)),
        };
        if let Some(at) = at {
            self.order += 1;
            self.in_flight.push(Reverse(InFlight { at, order: self.order, packet }));
        }
    }

    /// Takes a packet to where it goes.
    fn arrive(&mut self, packet: Packet) {
        let (id, now) = (packet.client, self.now);
        match packet.payload {
            Payload::DatagramUp(datagram) => {
                let end = &mut self.clients[id.0];
                end.up.traffic.delivered += 1;
                self.server.handle_datagram(now, LocalId(0), end.address, &datagram.bytes);
            }
            Payload::DatagramDown(datagram) => {
                let end = &mut self[id];
                end.down.traffic.delivered += 1;
                end.client.handle_datagram(now, LocalId(0), SERVER, &datagram.bytes);
            }
            Payload::MessageUp(Message::Text(text)) => self.server.handle_text(now, id.connection(), &text),
            Payload::MessageUp(Message::Binary(bytes)) => self.server.handle_binary(now, id.connection(), &bytes),
            Payload::MessageUp(Message::Close) => {
                self.server.handle_disconnect(now, id.connection(), Disconnect::Goodbye)
            }
            Payload::PongUp => self.server.handle_pong(id.connection()),
            Payload::SignalDown(Signal::Text(text)) => {
                let end = &mut self[id];
                end.client.handle_text(now, &text);
                end.texts.push(serde_json::from_str(&text).expect("the server sends JSON"));
            }
            Payload::SignalDown(Signal::Binary(bytes)) => self[id].client.handle_binary(now, &bytes),
            Payload::SignalDown(Signal::Ping) => self.forward(Packet { client: id, payload: Payload::PongUp }),
            Payload::SignalDown(Signal::Close { code, reason }) => {
                let end = &mut self[id];
                end.closed = Some((code, reason));
                end.client.handle_disconnect(now);
                self.server.handle_disconnect(now, id.connection(), Disconnect::Lost);
            }
        }
    }

    fn send_message(&mut self, client: ClientId, message: Message) {
        self.collect();
        self.forward(Packet { client, payload: Payload::MessageUp(message) });
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

/// `at`, or when the message before it arrives.
fn in_order(newest: &mut Duration, at: Duration) -> Duration {
    *newest = at.max(*newest);
    *newest
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
    fn what_becomes_of_a_datagram_depends_on_its_path_and_number_alone() {
        let loss = Node::Loss { permille: 300 };
        let fates = |seed: u64, stream: u64, nodes: &[&Node], bytes: &[u8]| -> Vec<bool> {
            let mut direction = Direction::new(ChaCha8Rng::seed_from_u64(seed), stream);
            direction.nodes = nodes.iter().map(|&node| node.clone()).collect();
            let mut datagrams: Vec<_> = (0..1_000).map(|_| direction.datagram(bytes)).collect();
            let mut fates: Vec<_> =
                datagrams.iter_mut().rev().map(|datagram| datagram.pass(MS, &mut direction).is_some()).collect();
            fates.reverse();
            fates
        };
        let expected = fates(1, 1, &[&loss], b"x");
        let lost = expected.iter().filter(|&&passed| !passed).count();
        assert!((256..=344).contains(&lost), "{lost} of 1,000 at 30 %: three standard deviations");
        assert_eq!(fates(1, 1, &[&loss, &Node::Jitter(MS)], &[7; 1_000]), expected);
        assert_ne!(fates(1, 2, &[&loss], b"x"), expected, "another path");
        assert_ne!(fates(2, 1, &[&loss], b"x"), expected, "another seed");
        assert_ne!(fates(1, 1, &[&Node::Latency(Duration::ZERO), &loss], b"x"), expected, "another node");
    }

    #[test]
    fn nodes_act_one_after_the_other_each_when_a_datagram_reaches_it() {
        let arrives = |nodes: [Node; 2]| {
            let mut direction = Direction::new(ChaCha8Rng::seed_from_u64(1), 1);
            direction.nodes = nodes.into();
            let mut datagram = direction.datagram(b"x");
            let mut at = Duration::ZERO;
            while !datagram.is_through() {
                at = datagram.pass(at, &mut direction)?;
            }
            Some(at)
        };
        let (latency, blackout) = (Node::Latency(120 * MS), Node::Blackout(Duration::ZERO..100 * MS));
        assert_eq!(arrives([blackout.clone(), latency.clone()]), None);
        assert_eq!(arrives([latency, blackout]), Some(120 * MS));
    }

    #[test]
    fn what_is_on_its_way_keeps_the_path_it_left_on() {
        let mut sim = relay();
        let ada = sim.join("keeps", "Ada");
        sim.run(Duration::from_secs(1));
        sim.send(ada, &());
        sim.set_path(ada, Path::new(25 * MS).with(&Node::Blackout(Duration::ZERO..Duration::MAX)));
        let Traffic { sent, delivered } = sim[ada].up();
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
            sim.set_path(ada, Path { websocket, ..Path::new(MS) });
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
