//! A client of a simulation, and what it has received.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::crossing::{Carries, DRAWS, Datagram, Direction, Said, Stream, Traffic, Way};
use super::path::Path;
use super::{ClientId, Payload, SERVER};
use crate::client::{Client, Config, Event};
use crate::endpoint::LocalId;
use crate::server::{Connect, ConnectionId};
use crate::wire::msgpack;
use crate::wire::signaling::RoomName;

/// The first port of a client; each further address has the next port.
const PORT: u16 = 5_000;
const PORTS: u64 = 60_000;

/// A websocket of a client.
pub(super) struct Websocket {
    pub(super) up: Stream,
    pub(super) down: Stream,
    /// Closed by one of its ends, or never to be closed by either.
    pub(super) is_over: bool,
    /// Dropped by the client, which no longer receives from it.
    pub(super) is_dropped: bool,
}

/// A client and what it has received.
pub struct SimulatedClient {
    /// The client. The effects of calling it directly appear when time next passes.
    pub client: Client,
    /// The events so far, with the time since the start of the simulation.
    pub events: Vec<(Duration, Event)>,
    /// The signaling messages received.
    pub texts: Vec<serde_json::Value>,
    /// The code and reason with which the server last closed a websocket of the client; 1006 if the server was killed.
    pub closed: Option<(u16, String)>,
    pub(super) up: Direction,
    pub(super) down: Direction,
    /// In order; all but the last have been given up.
    pub(super) websockets: Vec<Websocket>,
    pub(super) room: Option<RoomName>,
    /// Addresses of the server that the client's datagrams do not reach, and from which none arrive.
    pub(super) unreachable: BTreeSet<LocalId>,
    pub(super) deadline: Option<Instant>,
    pub(super) check: Option<Datagram>,
    id: ClientId,
    seed: u64,
    round_trip: Duration,
    address: SocketAddr,
    /// How often the address has changed, not counting the nodes of the path.
    rebound: u64,
}

impl SimulatedClient {
    pub(super) fn new(
        config: Config,
        now: Instant,
        seed: u64,
        id: ClientId,
        address: SocketAddr,
        room: Option<RoomName>,
    ) -> SimulatedClient {
        let mut client = SimulatedClient {
            client: Client::new(config, now),
            events: Vec::new(),
            texts: Vec::new(),
            closed: None,
            up: Direction::new(seed, id.0, Way::Up, Carries::Datagrams),
            down: Direction::new(seed, id.0, Way::Down, Carries::Datagrams),
            websockets: Vec::new(),
            room,
            unreachable: BTreeSet::new(),
            deadline: None,
            check: None,
            id,
            seed,
            round_trip: Duration::ZERO,
            address,
            rebound: 0,
        };
        client.open_websocket();
        client
    }

    /// Opens the next websocket and returns its connection ID.
    pub(super) fn open_websocket(&mut self) -> ConnectionId {
        let number = self.websockets.len();
        let stream = |way, like: &Direction| {
            let mut stream = Stream::new(Direction::new(self.seed, self.id.0, way, Carries::Websocket(number)));
            stream.direction.nodes = like.nodes.clone();
            stream.round_trip = self.round_trip;
            stream
        };
        let (up, down) = (stream(Way::Up, &self.up), stream(Way::Down, &self.down));
        self.websockets.push(Websocket { up, down, is_over: false, is_dropped: false });
        self.connection()
    }

    /// Returns the newest websocket as the server sees it when it opens.
    pub(super) fn connect(&self) -> Connect {
        let remote = SocketAddr::new(self.address.ip(), 40_000);
        Connect { room: self.room.clone(), remote, local: SERVER.ip(), headers: Vec::new() }
    }

    /// Returns the connection ID of the newest websocket.
    ///
    /// # Panics
    /// Never: every client has a websocket.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.id.connection(self.websockets.len() - 1)
    }

    /// Ends the newest websocket without a close frame, unless it has ended.
    pub(super) fn drop_websocket(&mut self, now: Duration) {
        let websocket = self.websocket();
        if !std::mem::replace(&mut websocket.is_over, true) {
            websocket.is_dropped = true;
            websocket.up.send(now, Said::Dropped);
        }
    }

    /// Returns the connection IDs of all its websockets so far: more than one if it reconnected, or tried to.
    pub fn connections(&self) -> impl DoubleEndedIterator<Item = ConnectionId> + use<> {
        let id = self.id;
        (0..self.websockets.len()).map(move |number| id.connection(number))
    }

    pub(super) fn websocket(&mut self) -> &mut Websocket {
        self.websockets.last_mut().expect("there is one from the beginning")
    }

    /// Returns the last source address of its datagrams as the server saw it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the last ICE connectivity check it sent (RFC 8445 §7.2.4), and the address of the server it was sent to.
    #[must_use]
    pub fn last_check(&self) -> Option<(LocalId, &[u8])> {
        self.check.as_ref().map(|datagram| (datagram.local, &*datagram.bytes))
    }

    /// Returns the traffic of datagrams to the server.
    #[must_use]
    pub fn up(&self) -> Traffic {
        self.up.traffic
    }

    /// Returns the traffic of datagrams from the server.
    #[must_use]
    pub fn down(&self) -> Traffic {
        self.down.traffic
    }

    /// Returns the traffic of websocket segments to the server. Retransmissions count.
    #[must_use]
    pub fn websocket_up(&self) -> Traffic {
        self.websockets.iter().map(|websocket| websocket.up.direction.traffic).sum()
    }

    /// Returns the traffic of websocket segments from the server. Retransmissions count.
    #[must_use]
    pub fn websocket_down(&self) -> Traffic {
        self.websockets.iter().map(|websocket| websocket.down.direction.traffic).sum()
    }

    /// Returns when the oldest message still in transit on the newest websocket was sent, in either direction; `None`
    /// if all have arrived. Messages that the server holds back until the websocket is writable do not count.
    #[must_use]
    pub fn websocket_waits_since(&self) -> Option<Duration> {
        let newest = self.websockets.last()?;
        [newest.up.oldest(), newest.down.oldest()].into_iter().flatten().min()
    }

    /// Returns the newest signaling reply or event with the name `action`.
    #[must_use]
    pub fn heard(&self, action: &str) -> Option<&serde_json::Value> {
        self.texts.iter().rev().find(|text| text["a"] == action)
    }

    /// Returns the states received, each with its tick. Ticks increase strictly.
    ///
    /// # Panics
    /// A state cannot be decoded as `T`.
    #[must_use]
    pub fn states<T: DeserializeOwned>(&self) -> Vec<(u32, T)> {
        self.raw_states().map(|(tick, value)| (tick, decode("state", tick, value))).collect()
    }

    /// Returns the newest state received.
    ///
    /// # Panics
    /// It cannot be decoded as `T`.
    #[must_use]
    pub fn last_state<T: DeserializeOwned>(&self) -> Option<T> {
        self.raw_states().next_back().map(|(tick, value)| decode("state", tick, value))
    }

    /// Returns the game's events received on either lane, each with its tick.
    ///
    /// # Panics
    /// An event cannot be decoded as `T`.
    #[must_use]
    pub fn events_of<T: DeserializeOwned>(&self) -> Vec<(u32, T)> {
        let told = self.events.iter().filter_map(|(_, event)| match event {
            Event::Event { tick, value, .. } => Some((*tick, decode("event", *tick, value))),
            _ => None,
        });
        told.collect()
    }

    fn raw_states(&self) -> impl DoubleEndedIterator<Item = (u32, &[u8])> {
        self.events.iter().filter_map(|(_, event)| match event {
            Event::State { tick, value, .. } => Some((*tick, value.as_slice())),
            _ => None,
        })
    }

    pub(super) fn set_path(&mut self, path: Path, now: Duration) {
        assert!(path.up.len().max(path.down.len()) <= DRAWS, "a path has at most {DRAWS} nodes each way");
        let rebound = self.rebindings(now);
        self.round_trip = path.round_trip();
        self.up.nodes = path.up.into();
        self.down.nodes = path.down.into();
        for websocket in &mut self.websockets {
            for (stream, like) in [(&mut websocket.up, &self.up), (&mut websocket.down, &self.down)] {
                stream.direction.nodes = like.nodes.clone();
                stream.round_trip = self.round_trip;
            }
        }
        // A new path by itself does not change the address.
        self.rebound = 0;
        self.rebound = rebound.wrapping_sub(self.rebindings(now));
    }

    pub(super) fn rebind(&mut self, now: Duration) {
        self.rebound = self.rebound.wrapping_add(1);
        self.address_at(now);
    }

    fn rebindings(&self, now: Duration) -> u64 {
        self.up.nodes.iter().fold(self.rebound, |before, node| before.wrapping_add(node.rebindings(now)))
    }

    pub(super) fn address_at(&mut self, now: Duration) -> SocketAddr {
        let offset = u16::try_from(self.rebindings(now) % PORTS).expect("there are fewer ports");
        self.address.set_port(PORT + offset);
        self.address
    }

    /// Returns the segments that its websockets can send now.
    pub(super) fn poll_segments(&mut self, now: Duration) -> Vec<Payload> {
        let mut segments = Vec::new();
        for (number, Websocket { up, down, .. }) in self.websockets.iter_mut().enumerate() {
            segments.extend(std::iter::from_fn(|| up.poll(now)).map(|segment| Payload::SegmentUp(number, segment)));
            segments.extend(std::iter::from_fn(|| down.poll(now)).map(|segment| Payload::SegmentDown(number, segment)));
        }
        segments
    }
}

fn decode<T: DeserializeOwned>(what: &str, tick: u32, value: &[u8]) -> T {
    let type_name = std::any::type_name::<T>();
    match msgpack::decode(value) {
        Ok(value) => value,
        Err(error) => panic!("the {what} of tick {tick} can't be decoded as {type_name}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::games::Relay;
    use crate::limits;
    use crate::sim::Simulation;

    const SECOND: [u8; 4] = [10, 0, 0, 2];

    /// A client of a server with two addresses, which has reached it at this one alone for two seconds.
    fn reach(server: LocalId) -> (Simulation<Relay>, ClientId) {
        let configure = |config: &mut crate::server::Config| config.interfaces = vec![SERVER.ip(), SECOND.into()];
        let mut sim = Simulation::with_config(7, configure, |_| Ok(Relay));
        let ada = sim.join("reached", "Ada");
        for local in [LocalId(0), LocalId(1)] {
            sim.set_reachable(ada, local, local == server);
        }
        sim.run(Duration::from_secs(2));
        (sim, ada)
    }

    #[test]
    fn a_server_of_two_addresses_is_reached_at_either() {
        for server in [LocalId(0), LocalId(1)] {
            let (sim, ada) = reach(server);
            assert!(sim[ada].client.is_open(), "at {server:?}");
            let (to, check) = sim[ada].last_check().expect("its channel is open");
            assert!(check.len() > 20, "a STUN header and attributes");
            assert!(to.0 < 2);
        }
        let (sim, ada) = reach(LocalId(9));
        assert!(!sim[ada].client.is_open() && sim[ada].down().sent == 0);
    }

    #[test]
    fn what_the_server_sends_to_addresses_of_nobody_is_counted() {
        let (mut sim, ada) = reach(LocalId(0));
        let mut stray = 0;
        // The next check arrives as if from elsewhere: no copy of one that the server has had.
        sim.set_path(ada, Path::new(Duration::from_millis(1)).with(&crate::sim::Node::NoUdp));
        let (_, before) = sim[ada].last_check().map(|(local, check)| (local, check.to_vec())).unwrap();
        for _ in 0..100 {
            sim.run(Duration::from_millis(100));
            let (local, check) = sim[ada].last_check().map(|(local, check)| (local, check.to_vec())).unwrap();
            if check != before {
                let now = sim.now();
                sim.server.handle_datagram(now, now, local, SocketAddr::from(([192, 0, 2, 1], 9)), &check);
                stray = check.len() as u64;
                break;
            }
        }
        sim.run(Duration::from_millis(1));
        let most = limits::UNPROVEN_AMPLIFICATION * stray;
        assert!((1..=most).contains(&sim.stray_bytes()), "{} bytes of {stray}", sim.stray_bytes());
    }
}
