//! A client of a simulation, and what it has seen.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::Payload;
use super::crossing::{DRAWS, Direction, Stream, Traffic, Way};
use super::path::Path;
use crate::client::{Client, Config, Event};
use crate::wire::msgpack;

/// The first port of a client; each other address that it comes from has the next.
const PORT: u16 = 5_000;
const PORTS: u64 = 60_000;

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
    pub(super) up: Direction,
    pub(super) down: Direction,
    pub(super) websocket_up: Stream,
    pub(super) websocket_down: Stream,
    pub(super) deadline: Option<Instant>,
    address: SocketAddr,
    /// How often its address has changed, those of the nodes of its path not counted.
    rebound: u64,
}

impl SimulatedClient {
    pub(super) fn new(config: Config, now: Instant, seed: u64, index: usize, address: SocketAddr) -> SimulatedClient {
        let direction = |way, is_datagram| Direction::new(seed, index, way, is_datagram);
        SimulatedClient {
            client: Client::new(config, now),
            events: Vec::new(),
            texts: Vec::new(),
            closed: None,
            up: direction(Way::Up, true),
            down: direction(Way::Down, true),
            websocket_up: Stream::new(direction(Way::Up, false)),
            websocket_down: Stream::new(direction(Way::Down, false)),
            deadline: None,
            address,
            rebound: 0,
        }
    }

    /// Where its datagrams came from last, as the server saw it.
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

    /// Segments of its websocket to the server; those that are sent again count again.
    #[must_use]
    pub fn websocket_up(&self) -> Traffic {
        self.websocket_up.direction.traffic
    }

    /// Segments of its websocket from the server; those that are sent again count again.
    #[must_use]
    pub fn websocket_down(&self) -> Traffic {
        self.websocket_down.direction.traffic
    }

    /// When the oldest message was said that is still on its way over the websocket, in either direction; `None` where
    /// all have arrived. What the server holds back until the websocket takes it doesn't count.
    #[must_use]
    pub fn websocket_waits_since(&self) -> Option<Duration> {
        [self.websocket_up.oldest(), self.websocket_down.oldest()].into_iter().flatten().min()
    }

    /// The newest signaling reply or event of that name.
    #[must_use]
    pub fn heard(&self, action: &str) -> Option<&serde_json::Value> {
        self.texts.iter().rev().find(|text| text["a"] == action)
    }

    /// The states that it has seen, each with the tick that made it: of each tick at most one, newer and newer.
    ///
    /// # Panics
    /// Where one is no `T`.
    #[must_use]
    pub fn states<T: DeserializeOwned>(&self) -> Vec<(u32, T)> {
        self.raw_states().map(|(tick, value)| (tick, decode("state", tick, value))).collect()
    }

    /// The newest state that it has seen.
    ///
    /// # Panics
    /// Where it is no `T`.
    #[must_use]
    pub fn last_state<T: DeserializeOwned>(&self) -> Option<T> {
        self.raw_states().next_back().map(|(tick, value)| decode("state", tick, value))
    }

    /// The game's events that it was told, on either lane, each with the tick that made it.
    ///
    /// # Panics
    /// Where one is no `T`.
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
            Event::State { tick, value } => Some((*tick, value.as_slice())),
            _ => None,
        })
    }

    pub(super) fn set_path(&mut self, path: Path, now: Duration) {
        assert!(path.up.len().max(path.down.len()) <= DRAWS, "a path has at most {DRAWS} nodes each way");
        let rebound = self.rebindings(now);
        let round_trip = path.round_trip();
        self.up.nodes = path.up.into();
        self.down.nodes = path.down.into();
        for (stream, direction) in [(&mut self.websocket_up, &self.up), (&mut self.websocket_down, &self.down)] {
            stream.direction.nodes = direction.nodes.clone();
            stream.round_trip = round_trip;
        }
        // A new path alone changes no address.
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

    /// What its websocket has room for.
    pub(super) fn poll_segments(&mut self, now: Duration) -> Vec<Payload> {
        let up = std::iter::from_fn(|| self.websocket_up.poll(now)).map(Payload::SegmentUp);
        let down = std::iter::from_fn(|| self.websocket_down.poll(now)).map(Payload::SegmentDown);
        up.chain(down).collect()
    }
}

fn decode<T: DeserializeOwned>(what: &str, tick: u32, value: &[u8]) -> T {
    let type_name = std::any::type_name::<T>();
    match msgpack::decode(value) {
        Ok(value) => value,
        Err(error) => panic!("the {what} of tick {tick} is no {type_name}: {error}"),
    }
}
