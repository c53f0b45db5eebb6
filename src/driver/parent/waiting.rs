//! The connections whose first line has not arrived, or whose node takes none at the moment.
//!
//! Each waits for as long as a request may take to arrive, and costs a place and a file descriptor. When all places are
//! taken, one of the address that has most makes room for a new one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::RETRY;
use super::glance::{Glance, LINE_BYTES, glance};
use crate::driver::http::{HEAD_TIMEOUT, Method, Response, Status};
use crate::driver::tcp::Role;
use crate::limits::WAITING_CONNECTIONS;
use crate::rate::{canonical, network};

struct Connection {
    stream: TcpStream,
    role: Role,
    network: IpAddr,
    /// Which of all connections it is.
    number: u64,
    /// Whether events are reported for it.
    is_watched: bool,
    /// Whether anything has arrived.
    has_begun: bool,
}

/// Whether a node has taken a connection.
#[derive(Debug)]
pub(super) enum Taken {
    Yes,
    No(io::Error),
}

pub(super) struct Waiting {
    connections: Slab<Connection>,
    /// The token of the connection in slot 0.
    first_token: usize,
    accepted: u64,
    /// The deadlines, in their order, of connections that may have gone since.
    deadlines: VecDeque<(Instant, usize, u64)>,
    /// Connections of each network, in their order.
    by_network: BTreeMap<IpAddr, BTreeSet<(u64, usize)>>,
    /// Those whose line is there.
    complete: BTreeSet<usize>,
    retry: Option<Instant>,
}

impl Waiting {
    pub(super) fn new(first_token: usize) -> Waiting {
        Waiting {
            connections: Slab::new(),
            first_token,
            accepted: 0,
            deadlines: VecDeque::new(),
            by_network: BTreeMap::new(),
            complete: BTreeSet::new(),
            retry: None,
        }
    }

    /// Adds a connection. Returns its slot.
    pub(super) fn insert(&mut self, now: Instant, stream: TcpStream, remote: IpAddr, role: Role) -> usize {
        if self.connections.len() >= WAITING_CONNECTIONS {
            self.evict();
        }
        self.accepted += 1;
        let number = self.accepted;
        let network = network(canonical((remote, 0).into()).ip());
        let connection = Connection { stream, role, network, number, is_watched: false, has_begun: false };
        let slot = self.connections.insert(connection);
        self.deadlines.push_back((now + HEAD_TIMEOUT, slot, number));
        self.by_network.entry(network).or_default().insert((number, slot));
        slot
    }

    /// Closes the oldest connection of the network that has most.
    pub(super) fn evict(&mut self) {
        let most = self.by_network.values().max_by_key(|of_network| of_network.len());
        if let Some(&(_, slot)) = most.and_then(BTreeSet::first) {
            self.take(slot);
        }
    }

    pub(super) fn role(&self, slot: usize) -> Option<Role> {
        self.connections.get(slot).map(|connection| connection.role)
    }

    /// Looks at the first line of a connection, without reading it.
    pub(super) fn look(&mut self, slot: usize, registry: &Registry) -> Glance {
        let Some(connection) = self.connections.get_mut(slot) else { return Glance::Wait };
        if !connection.is_watched {
            let token = Token(self.first_token + slot);
            match registry.register(&mut connection.stream, token, Interest::READABLE) {
                Ok(()) => connection.is_watched = true,
                Err(error) => {
                    log::warn!("a connection can't be waited for: {error}");
                    return Glance::Gone;
                }
            }
        }
        let mut bytes = [0; LINE_BYTES];
        let found = match connection.stream.peek(&mut bytes) {
            Ok(0) => return Glance::Gone,
            Ok(length) => glance(&bytes[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Glance::Wait;
            }
            Err(_) => return Glance::Gone,
        };
        connection.has_begun = true;
        if found != Glance::Wait {
            self.complete.insert(slot);
        }
        found
    }

    /// Passes a connection on.
    pub(super) fn pass(
        &mut self,
        slot: usize,
        registry: &Registry,
        pass: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Taken {
        let Some(connection) = self.connections.get_mut(slot) else { return Taken::Yes };
        // Closing this descriptor does not end the events, as the node has another one.
        unwatch(connection, registry);
        match pass(connection.stream.as_fd()) {
            Ok(()) => {
                self.take(slot);
                Taken::Yes
            }
            Err(error) => Taken::No(error),
        }
    }

    pub(super) fn remove(&mut self, slot: usize, registry: &Registry) {
        if let Some(mut connection) = self.take(slot) {
            unwatch(&mut connection, registry);
        }
    }

    /// Answers with a sentence, and closes the connection.
    pub(super) fn refuse(&mut self, slot: usize, registry: &Registry, status: Status, sentence: &str) {
        let Some(mut connection) = self.take(slot) else { return };
        unwatch(&mut connection, registry);
        // Closing a socket with unread bytes would reset the connection.
        let _ = connection.stream.read(&mut [0; LINE_BYTES]);
        let mut response = Response::sentence(status, sentence).into_outgoing(Method::Get, None);
        // It fits the buffer of a socket that nothing was written to.
        while let Ok(false) = response.write(&mut connection.stream) {}
        let _ = connection.stream.shutdown(Shutdown::Write);
    }

    /// Whether connections whose line is there are to be offered again.
    pub(super) fn is_retry_due(&self, now: Instant) -> bool {
        self.retry.is_some_and(|retry| retry <= now)
    }

    /// Returns the connections whose line is there.
    pub(super) fn take_complete(&mut self) -> BTreeSet<usize> {
        self.retry = None;
        std::mem::take(&mut self.complete)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.front().map(|(deadline, ..)| *deadline).into_iter().chain(self.retry).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, registry: &Registry) {
        while let Some((_, slot, number)) = self.deadlines.pop_front_if(|(deadline, slot, number)| {
            let connection = self.connections.get(*slot).filter(|connection| connection.number == *number);
            connection.is_none() || *deadline <= now
        }) {
            let Some(connection) = self.connections.get(slot).filter(|it| it.number == number) else { continue };
            if self.complete.contains(&slot) {
                let sentence = "The node does not answer at the moment: try again.";
                self.refuse(slot, registry, Status::ServiceUnavailable, sentence);
            } else if connection.has_begun {
                let sentence = "The request took longer than 5 seconds: send it without pauses.";
                self.refuse(slot, registry, Status::RequestTimeout, sentence);
            } else {
                self.remove(slot, registry);
            }
        }
        if !self.complete.is_empty() && self.retry.is_none() {
            self.retry = Some(now + RETRY);
        }
    }

    fn take(&mut self, slot: usize) -> Option<Connection> {
        let connection = self.connections.try_remove(slot)?;
        self.complete.remove(&slot);
        if let Some(of_network) = self.by_network.get_mut(&connection.network) {
            of_network.remove(&(connection.number, slot));
            if of_network.is_empty() {
                self.by_network.remove(&connection.network);
            }
        }
        Some(connection)
    }
}

fn unwatch(connection: &mut Connection, registry: &Registry) {
    if std::mem::replace(&mut connection.is_watched, false)
        && let Err(error) = registry.deregister(&mut connection.stream)
    {
        log::warn!("a connection is still waited for: {error}");
    }
}
