//! Which connections are admitted.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::super::gate::Gate;
use super::super::http::Status;
use super::super::metrics::HttpCounters;
use super::super::refusals::DroppedUpgrades;
use super::Role;
use crate::limits::{
    CONNECTIONS, TLS_HANDSHAKE_ADDRESSES, TLS_HANDSHAKE_WAIT, TLS_HANDSHAKES_PER_ADDRESS_AT_ONCE,
    TLS_HANDSHAKES_PER_ADDRESS_PER_SECOND, UNJOINED_PER_ADDRESS,
};
use crate::log_limit::PlayerLog;
use crate::rate::{Limit, Places, network};

/// The maximum number of connections past a limit that get a response at a time; others are just closed. One address
/// has at most as many of them as of connections within the limits.
const REFUSED: usize = 256;
/// The maximum number of connections to each listener for operators; further ones are closed.
const OPERATORS: usize = 64;

const HANDSHAKES: Limit = Limit::new(TLS_HANDSHAKES_PER_ADDRESS_PER_SECOND, TLS_HANDSHAKES_PER_ADDRESS_AT_ONCE);

/// Admits connections: counts how many are open, in total and per address. Loopback and proxies have no limit per
/// address, because many players share them.
pub(super) struct Admission {
    pub(super) gate: Gate,
    places: usize,
    open: usize,
    /// Connections that are not websockets yet.
    http: PerNetwork,
    refused: PerNetwork,
    /// Connections of the two listeners for operators.
    metrics: usize,
    admin: usize,
    started: Instant,
    /// TLS handshakes.
    handshakes: Places,
    pub(super) counters: HttpCounters,
    pub(super) dropped_upgrades: DroppedUpgrades,
    pub(super) player_log: PlayerLog,
}

/// How a connection is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    Http(IpAddr),
    Websocket,
    Refused(IpAddr),
    Operator(Role),
}

/// Counts connections by the network that they come from.
#[derive(Debug, Default)]
struct PerNetwork {
    all: usize,
    by_network: BTreeMap<IpAddr, usize>,
}

impl PerNetwork {
    fn of(&self, network: IpAddr) -> usize {
        self.by_network.get(&network).copied().unwrap_or(0)
    }

    fn add(&mut self, network: IpAddr) {
        self.all += 1;
        *self.by_network.entry(network).or_default() += 1;
    }

    fn remove(&mut self, network: IpAddr) {
        if let Entry::Occupied(mut count) = self.by_network.entry(network) {
            self.all -= 1;
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Admission {
    /// `key` must be secret.
    pub(super) fn new(now: Instant, gate: Gate, key: [u8; 32]) -> Admission {
        Admission {
            gate,
            places: CONNECTIONS,
            open: 0,
            http: PerNetwork::default(),
            refused: PerNetwork::default(),
            metrics: 0,
            admin: 0,
            started: now,
            handshakes: Places::new(TLS_HANDSHAKE_ADDRESSES, key),
            counters: HttpCounters::default(),
            dropped_upgrades: DroppedUpgrades::new(),
            player_log: PlayerLog::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn set_places(&mut self, places: usize) {
        self.places = places;
    }

    pub(super) fn admit(&mut self, remote: IpAddr) -> Result<Admitted, Status> {
        if self.is_crowd(&self.http, remote) {
            Err(Status::TooManyRequests)
        } else if self.open >= self.places {
            Err(Status::ServiceUnavailable)
        } else {
            self.open += 1;
            self.http.add(network(remote));
            Ok(Admitted::Http(network(remote)))
        }
    }

    /// Whether an address has as many of these connections as one may have.
    fn is_crowd(&self, connections: &PerNetwork, remote: IpAddr) -> bool {
        self.has_limit(remote) && connections.of(network(remote)) >= UNJOINED_PER_ADDRESS
    }

    fn has_limit(&self, remote: IpAddr) -> bool {
        !remote.is_loopback() && !self.gate.is_proxy(remote)
    }

    /// How long a connection has to wait for its TLS handshake; `None` if it gets none.
    pub(super) fn pace_handshake(&mut self, now: Instant, remote: IpAddr) -> Option<Duration> {
        if !self.has_limit(remote) {
            return Some(Duration::ZERO);
        }
        let since_start = now.saturating_duration_since(self.started);
        self.handshakes.of(remote).pace.reserve(since_start, &HANDSHAKES, TLS_HANDSHAKE_WAIT)
    }

    /// Admits a connection past a limit so that it gets a response; `None` if there are too many of them.
    pub(super) fn admit_refused(&mut self, remote: IpAddr) -> Option<Admitted> {
        if self.refused.all >= REFUSED || self.is_crowd(&self.refused, remote) {
            return None;
        }
        self.refused.add(network(remote));
        Some(Admitted::Refused(network(remote)))
    }

    /// Counts a connection past a limit, whether it gets a response or not.
    pub(super) fn crowd_out(&mut self, remote: IpAddr) -> Option<Admitted> {
        self.counters.crowded += 1;
        self.admit_refused(remote)
    }

    /// Admits a connection to a listener for operators, up to as many as it may have.
    pub(super) fn admit_operator(&mut self, role: Role) -> Option<Admitted> {
        let open = self.operators(role);
        if *open >= OPERATORS {
            return None;
        }
        *open += 1;
        Some(Admitted::Operator(role))
    }

    fn operators(&mut self, role: Role) -> &mut usize {
        if role == Role::Metrics { &mut self.metrics } else { &mut self.admin }
    }

    pub(super) fn upgrade(&mut self, admitted: &mut Admitted) {
        self.release_http(*admitted);
        *admitted = Admitted::Websocket;
    }

    pub(super) fn release(&mut self, admitted: Admitted) {
        self.release_http(admitted);
        match admitted {
            Admitted::Http(_) | Admitted::Websocket => self.open -= 1,
            Admitted::Refused(network) => self.refused.remove(network),
            Admitted::Operator(role) => *self.operators(role) -= 1,
        }
    }

    fn release_http(&mut self, admitted: Admitted) {
        if let Admitted::Http(network) = admitted {
            self.http.remove(network);
        }
    }
}

#[cfg(test)]
mod tests;
