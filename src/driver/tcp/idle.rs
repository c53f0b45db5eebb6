//! HTTP connections between two requests.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// The connections that wait for their next request. If the server is full, they are closed, those that have waited
/// longest first, so they never keep others out.
#[derive(Debug, Default)]
pub(super) struct Idle {
    all: BTreeSet<(Instant, usize)>,
    by_network: BTreeMap<IpAddr, BTreeSet<(Instant, usize)>>,
}

impl Idle {
    pub(super) fn insert(&mut self, Waiting { network, until }: Waiting, slot: usize) {
        self.all.insert((until, slot));
        self.by_network.entry(network).or_default().insert((until, slot));
    }

    pub(super) fn remove(&mut self, Waiting { network, until }: Waiting, slot: usize) {
        self.all.remove(&(until, slot));
        if let Entry::Occupied(mut of_network) = self.by_network.entry(network) {
            of_network.get_mut().remove(&(until, slot));
            if of_network.get().is_empty() {
                of_network.remove();
            }
        }
    }

    pub(super) fn longest(&self) -> Option<usize> {
        self.all.first().map(|(_, slot)| *slot)
    }

    pub(super) fn longest_of(&self, network: IpAddr) -> Option<usize> {
        self.by_network.get(&network)?.first().map(|(_, slot)| *slot)
    }
}

/// The address of an idle connection, and its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) network: IpAddr,
    pub(super) until: Instant,
}
