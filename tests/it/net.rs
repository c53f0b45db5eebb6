//! A server and native clients under virtual time, over a network that loses datagrams by seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rtcade::client::{self, Client, Event, Message};
use rtcade::endpoint::LocalId;
use rtcade::game::{Game, Refusal, RoomInfo};
use rtcade::server::{Config, Connect, ConnectionId, Server, Signal};
use rtcade::wire::signaling::RoomName;

pub(crate) const SERVER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SERVER_PORT: u16 = 8080;

/// A datagram or websocket message on its way.
enum Packet {
    ToServer { source: SocketAddr, bytes: Vec<u8> },
    ToClient { client: usize, bytes: Vec<u8> },
    MessageToServer { client: usize, message: Message },
    SignalToClient { client: usize, signal: Signal },
}

struct InFlight {
    at: Instant,
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
        (Reverse(self.at), Reverse(self.order)).cmp(&(Reverse(other.at), Reverse(other.order)))
    }
}

pub(crate) struct End {
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    pub(crate) events: Vec<(Duration, Event)>,
    /// Signaling that arrived, as it was.
    pub(crate) texts: Vec<serde_json::Value>,
    pub(crate) closed: Option<(u16, String)>,
    /// Datagrams to and from this client are lost.
    pub(crate) blackout: bool,
}

pub(crate) struct Net<G: Game> {
    pub(crate) server: Server<G>,
    pub(crate) ends: Vec<End>,
    pub(crate) now: Instant,
    started: Instant,
    /// Of 100 datagrams, those that are lost; the websocket loses nothing.
    pub(crate) loss_percent: u32,
    pub(crate) one_way: Duration,
    pub(crate) datagrams_to_clients: u64,
    queue: BinaryHeap<InFlight>,
    order: u64,
    rng: ChaCha8Rng,
}

impl<G: Game> Net<G> {
    pub(crate) fn new(seed: u64, factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static) -> Net<G> {
        Net::with_config(seed, |_| {}, factory)
    }

    pub(crate) fn with_config(
        seed: u64,
        configure: impl FnOnce(&mut Config),
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    ) -> Net<G> {
        println!("seed {seed}");
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut config = Config {
            seed: rng.random_seed(),
            tick: Duration::from_millis(33),
            max_players: 16,
            udp_port: SERVER_PORT,
            public: Vec::new(),
            interfaces: Vec::new(),
        };
        configure(&mut config);
        Net {
            server: Server::new(config, now, factory),
            ends: Vec::new(),
            now,
            started: now,
            loss_percent: 0,
            one_way: Duration::from_millis(25),
            datagrams_to_clients: 0,
            queue: BinaryHeap::new(),
            order: 0,
            rng,
        }
    }

    /// A client that joins `room`; its number among [`Net::ends`].
    pub(crate) fn join(&mut self, room: &str, name: &str) -> usize {
        self.join_with(room, |config| config.name = name.to_owned())
    }

    /// A websocket alone: nothing is said on it but what [`Net::text`] and [`Net::binary`] say.
    pub(crate) fn connect(&mut self, room: &str) -> usize {
        let index = self.open(room, |config| config.locals.clear());
        while self.ends[index].client.poll_message().is_some() {}
        index
    }

    pub(crate) fn join_with(&mut self, room: &str, configure: impl FnOnce(&mut client::Config)) -> usize {
        let index = self.open(room, configure);
        self.collect();
        index
    }

    fn open(&mut self, room: &str, configure: impl FnOnce(&mut client::Config)) -> usize {
        let index = self.ends.len();
        let address: SocketAddr = format!("10.0.{}.{}:5000", 1 + index / 250, 1 + index % 250).parse().unwrap();
        let connect =
            Connect { room: RoomName::parse(room), remote: SocketAddr::new(address.ip(), 40_000), local: SERVER_IP };
        self.server.handle_connect(self.now, ConnectionId(index as u64), connect);
        let mut config = client::Config {
            seed: self.rng.random_seed(),
            room: None,
            name: String::new(),
            data: serde_json::Value::Null,
            locals: vec![address],
        };
        configure(&mut config);
        let client = Client::new(config, self.now);
        self.ends.push(End { client, address, events: Vec::new(), texts: Vec::new(), closed: None, blackout: false });
        index
    }

    /// Lets time pass, calling `each` before every turn.
    pub(crate) fn run_with(&mut self, time: Duration, mut each: impl FnMut(&mut Net<G>)) {
        let end = self.now + time;
        while let Some(next) = self.next_event().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            each(self);
            self.turn();
        }
        self.now = end;
        each(self);
        self.turn();
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_with(time, |_| {});
    }

    pub(crate) fn events(&self, end: usize) -> impl Iterator<Item = &Event> {
        self.ends[end].events.iter().map(|(_, event)| event)
    }

    /// Sends a signaling text as if the client's websocket had.
    pub(crate) fn text(&mut self, end: usize, text: &str) {
        self.push(Packet::MessageToServer { client: end, message: Message::Text(text.to_owned()) }, Duration::ZERO);
    }

    /// Sends a binary message as if the client's websocket had.
    pub(crate) fn binary(&mut self, end: usize, bytes: &[u8]) {
        self.push(Packet::MessageToServer { client: end, message: Message::Binary(bytes.to_vec()) }, Duration::ZERO);
    }

    /// The newest reply or event of that name.
    pub(crate) fn heard(&self, end: usize, action: &str) -> Option<&serde_json::Value> {
        self.ends[end].texts.iter().rev().find(|text| text["a"] == action)
    }

    fn next_event(&self) -> Option<Instant> {
        let clients = self.ends.iter().filter_map(|end| end.client.poll_timeout());
        let queued = self.queue.peek().map(|in_flight| in_flight.at);
        clients.chain(self.server.poll_timeout()).chain(queued).min()
    }

    fn turn(&mut self) {
        while self.queue.peek().is_some_and(|in_flight| in_flight.at <= self.now) {
            let packet = self.queue.pop().unwrap().packet;
            self.deliver(packet);
        }
        if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
            self.server.handle_timeout(self.now);
        }
        for end in &mut self.ends {
            if end.client.poll_timeout().is_some_and(|at| at <= self.now) {
                end.client.handle_timeout(self.now);
            }
        }
        self.collect();
    }

    fn deliver(&mut self, packet: Packet) {
        let now = self.now;
        match packet {
            Packet::ToServer { source, bytes } => self.server.handle_datagram(now, LocalId(0), source, &bytes),
            Packet::ToClient { client, bytes } => {
                let server = SocketAddr::new(SERVER_IP, SERVER_PORT);
                self.ends[client].client.handle_datagram(now, LocalId(0), server, &bytes);
            }
            Packet::MessageToServer { client, message } => {
                let connection = ConnectionId(client as u64);
                match message {
                    Message::Text(text) => self.server.handle_text(now, connection, &text),
                    Message::Binary(bytes) => self.server.handle_binary(now, connection, &bytes),
                    Message::Close => self.server.handle_disconnect(now, connection, true),
                }
            }
            Packet::SignalToClient { client, signal } => {
                let end = &mut self.ends[client];
                match signal {
                    Signal::Text(text) => {
                        end.client.handle_text(now, &text);
                        end.texts.push(serde_json::from_str(&text).unwrap());
                    }
                    Signal::Binary(bytes) => end.client.handle_binary(now, &bytes),
                    Signal::Close { code, reason } => {
                        end.closed = Some((code, reason));
                        end.client.handle_disconnect(now);
                        self.server.handle_disconnect(now, ConnectionId(client as u64), false);
                    }
                }
            }
        }
    }

    fn collect(&mut self) {
        let mut packets = Vec::new();
        while let Some(transmit) = self.server.poll_transmit() {
            let client = self.ends.iter().position(|end| end.address == transmit.destination);
            if let Some(client) = client {
                packets.push((Packet::ToClient { client, bytes: transmit.bytes.to_vec() }, true));
            }
        }
        self.datagrams_to_clients += packets.len() as u64;
        while let Some(connection) = self.server.poll_signal_ready() {
            let client = usize::try_from(connection.0).unwrap();
            // Others are a test's own, which polls them, or doesn't.
            while let Some(signal) = self.ends.get(client).and_then(|_| self.server.poll_signal(connection)) {
                packets.push((Packet::SignalToClient { client, signal }, false));
            }
        }
        for (client, end) in self.ends.iter_mut().enumerate() {
            while let Some(transmit) = end.client.poll_transmit() {
                assert!(transmit.bytes.len() <= rtcade::limits::UDP_PAYLOAD_BYTES);
                packets.push((Packet::ToServer { source: end.address, bytes: transmit.bytes.to_vec() }, true));
            }
            while let Some(message) = end.client.poll_message() {
                packets.push((Packet::MessageToServer { client, message }, false));
            }
            while let Some(event) = end.client.poll_event() {
                end.events.push((self.now - self.started, event));
            }
        }
        for (packet, is_datagram) in packets {
            let blackout = match &packet {
                Packet::ToServer { source, .. } => self.ends.iter().any(|end| end.blackout && end.address == *source),
                Packet::ToClient { client, .. } => self.ends[*client].blackout,
                _ => false,
            };
            let lost = is_datagram && (blackout || self.rng.next_u32() % 100 < self.loss_percent);
            if !lost {
                self.push(packet, self.one_way);
            }
        }
    }

    fn push(&mut self, packet: Packet, delay: Duration) {
        self.order += 1;
        self.queue.push(InFlight { at: self.now + delay, order: self.order, packet });
    }
}

trait RandomSeed {
    fn random_seed(&mut self) -> [u8; 32];
}

impl RandomSeed for ChaCha8Rng {
    fn random_seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.fill_bytes(&mut seed);
        seed
    }
}
