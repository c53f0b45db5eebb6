//! The server: sessions, rooms and peers behind one sans-IO interface.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::endpoint::{LocalId, Transmit};
use crate::game::{Game, Refusal, RoomInfo};
use crate::wire::signaling::RoomName;

/// What a server is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// From the OS's generator: credentials, tokens and the seeds of rooms come from it.
    pub seed: [u8; 32],
    /// Length of a tick.
    pub tick: Duration,
    /// Players per room.
    pub max_players: usize,
    /// The UDP port that players are told of, where `public` doesn't name one.
    pub udp_port: u16,
    /// What players are told to reach instead of local addresses; empty where local addresses are right.
    pub public: Vec<SocketAddr>,
    /// Addresses of this machine, told to players after the one that their websocket came in on.
    pub interfaces: Vec<IpAddr>,
}

/// One websocket connection, chosen by the caller: unique among the open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A websocket connection as it opens.
#[derive(Clone, Debug)]
pub struct Connect {
    /// From `/r/{room}`; `None` on `/api`.
    pub room: Option<RoomName>,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// The local address on which it arrived.
    pub local: IpAddr,
}

/// A websocket message to or from a player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Signaling: JSON.
    Text(String),
    /// A game frame.
    Binary(Vec<u8>),
    /// Close the connection with this code and reason; nothing follows.
    Close {
        /// RFC 6455 §7.4.
        code: u16,
        /// At most 123 bytes.
        reason: String,
    },
}

/// A room as `/rooms` lists it.
#[derive(Clone, Debug, Serialize)]
pub struct RoomStatus {
    /// Its name.
    pub name: String,
    /// Players in it.
    pub players: usize,
    /// Players it takes.
    pub max_players: usize,
    /// Whether the game lets nobody in.
    pub locked: bool,
    /// Ticks since it was made.
    pub tick: u32,
}

/// The whole server, sans-IO.
pub struct Server<G: Game> {
    game: std::marker::PhantomData<G>,
}

impl<G: Game> Server<G> {
    /// A server without rooms. `factory` makes the game of each new room, or says why not.
    pub fn new(
        config: Config,
        now: Instant,
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    ) -> Server<G> {
        todo!()
    }

    /// The listed rooms.
    pub fn rooms(&self) -> impl Iterator<Item = RoomStatus> + '_ {
        std::iter::empty()
    }

    /// A websocket has opened.
    pub fn handle_connect(&mut self, now: Instant, connection: ConnectionId, connect: Connect) {
        todo!()
    }

    /// A text message has arrived on a websocket.
    pub fn handle_text(&mut self, now: Instant, connection: ConnectionId, text: &str) {
        todo!()
    }

    /// A binary message has arrived on a websocket.
    pub fn handle_binary(&mut self, now: Instant, connection: ConnectionId, bytes: &[u8]) {
        todo!()
    }

    /// A websocket is gone; `clean` if its other end closed it with code 1000 or 1001.
    pub fn handle_disconnect(&mut self, now: Instant, connection: ConnectionId, clean: bool) {
        todo!()
    }

    /// A datagram has arrived at the socket `local` from `source`. Cannot fail: what can't be used is counted.
    pub fn handle_datagram(&mut self, now: Instant, local: LocalId, source: SocketAddr, bytes: &[u8]) {
        todo!()
    }

    /// Time has come for whatever [`Server::poll_timeout`] named.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    /// The server stops: every player is told and every websocket closed.
    pub fn handle_shutdown(&mut self, now: Instant) {
        todo!()
    }

    /// The next datagram to send. Lent until the next call.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        todo!()
    }

    /// A connection for which something new waits in [`Server::poll_signal`]; each is named once until it is polled.
    pub fn poll_signal_ready(&mut self) -> Option<ConnectionId> {
        todo!()
    }

    /// The next message for a websocket. Poll it only while that socket takes more: what waits here is kept short
    /// (one state at most), what waits in a socket grows old.
    pub fn poll_signal(&mut self, connection: ConnectionId) -> Option<Signal> {
        todo!()
    }

    /// When to call [`Server::handle_timeout`].
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        todo!()
    }
}
