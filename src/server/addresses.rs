//! The resources in use per remote address: connections, queued bytes, and messages relayed between its players.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::limits;
use crate::rate::{Credit, network};

/// The accounts per network; an IPv6 network is a /64. Loopback has no limit per address, because tests and proxies
/// that send no client address come from there.
#[derive(Default)]
pub(super) struct Addresses(BTreeMap<IpAddr, Address>);

struct Address {
    connections: usize,
    unjoined: usize,
    queued_bytes: usize,
    relayed: Credit,
}

impl Addresses {
    /// Counts a connection. Returns whether it exceeds a limit.
    pub(super) fn handle_connect(&mut self, now: Instant, remote: IpAddr) -> bool {
        let here = self.0.entry(network(remote)).or_insert_with(|| Address {
            connections: 0,
            unjoined: 0,
            queued_bytes: 0,
            relayed: Credit::new(limits::RELAYED_BYTES_PER_ADDRESS_PER_SECOND, now),
        });
        here.connections += 1;
        here.unjoined += 1;
        let is_full =
            here.unjoined > limits::UNJOINED_PER_ADDRESS || here.connections > limits::CONNECTIONS_PER_ADDRESS;
        is_full && !remote.is_loopback()
    }

    pub(super) fn handle_joined(&mut self, remote: IpAddr) {
        if let Some(here) = self.0.get_mut(&network(remote)) {
            here.unjoined -= 1;
        }
    }

    pub(super) fn handle_disconnect(&mut self, remote: IpAddr, was_unjoined: bool, queued_bytes: usize) {
        let network = network(remote);
        let Some(here) = self.0.get_mut(&network) else { return };
        here.connections -= 1;
        here.unjoined -= usize::from(was_unjoined);
        here.queued_bytes -= queued_bytes;
        if here.connections == 0 {
            self.0.remove(&network);
        }
    }

    /// Whether `more` bytes may be queued for a connection of this address, `bytes` in total. If the address exceeds
    /// its limit, only connections above their share are refused.
    pub(super) fn may_queue(&self, remote: IpAddr, bytes: usize, more: usize) -> bool {
        let here = self.0.get(&network(remote)).map_or(0, |here| here.queued_bytes);
        remote.is_loopback() || bytes <= limits::RELAY_QUEUE_BYTES || here + more <= limits::QUEUED_BYTES_PER_ADDRESS
    }

    /// The queue of a connection of this address has changed from `before` to `after` bytes.
    pub(super) fn handle_queued(&mut self, remote: IpAddr, before: usize, after: usize) {
        if let Some(here) = self.0.get_mut(&network(remote)) {
            here.queued_bytes = here.queued_bytes - before + after;
        }
    }

    /// The relay allowance of the players of this address.
    pub(super) fn relayed(&mut self, remote: IpAddr) -> Option<&mut Credit> {
        self.0.get_mut(&network(remote)).filter(|_| !remote.is_loopback()).map(|here| &mut here.relayed)
    }

    /// Bytes queued for all connections.
    pub(super) fn queued_bytes(&self) -> usize {
        self.0.values().map(|here| here.queued_bytes).sum()
    }
}
