//! The paths to a peer: which are known, which is in use, and how much may be sent on each.
//!
//! A path is a pair of a local and a remote address; the same client at another address of the server is on another
//! path. The rules for the answering end:
//!
//! - A path is **known** if an ICE check with the peer's password has arrived on it. A check counts for the path on
//!   which it arrived first; copies on other paths are ignored.
//! - A path is **proven** if it has returned a lane heartbeat with its random number. Until then it gets at most
//!   [`limits::UNPROVEN_AMPLIFICATION`] times the bytes received on it (as in RFC 9000 §8).
//! - **In use** is the path on which the lane was opened, until another path that the peer sends on, or has nominated
//!   (RFC 8445 §8.1.1), is proven. The old path then becomes unproven.
//! - If there are too many paths, the oldest unproven one is forgotten.
//!
//! The offering end has one path, the one that its str0m has chosen.

use std::cmp::Ordering;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::time::Instant;

use str0m::Candidate;

use super::LocalId;
use crate::limits;

/// The two addresses of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The local address.
    pub local: LocalId,
    /// The remote address.
    pub remote: SocketAddr,
}

/// Each datagram looks its path up: IPv4 paths compare as one number.
impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        let v4 = |pair: &Pair, of: &SocketAddrV4| {
            u64::from(of.ip().to_bits()) << 32 | u64::from(of.port()) << 16 | u64::from(pair.local.0)
        };
        match (&self.remote, &other.remote) {
            (SocketAddr::V4(one), SocketAddr::V4(another)) => v4(self, one).cmp(&v4(other, another)),
            _ => (self.remote, self.local).cmp(&(other.remote, other.local)),
        }
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The port that represents the local address with number 0.
const STAND_IN_PORT: u16 = 1024;

impl Pair {
    /// Returns the address that represents the local address for str0m, from a documentation range (RFC 5737, RFC
    /// 3849): ICE must not depend on which of the server's addresses was used.
    pub(crate) fn stand_in(self) -> SocketAddr {
        let port = STAND_IN_PORT + self.local.0;
        match self.remote {
            SocketAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1), port).into(),
            SocketAddr::V6(_) => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), port).into(),
        }
    }

    /// Returns the path on which str0m sends, from the representation of its local address.
    pub(crate) fn of(stand_in: SocketAddr, remote: SocketAddr) -> Pair {
        Pair { local: LocalId(stand_in.port().saturating_sub(STAND_IN_PORT)), remote }
    }
}

struct Known {
    pair: Pair,
    /// When the last ICE check arrived on it.
    checked_at: Instant,
    received_bytes: u64,
    sent_bytes: u64,
    nonce: u64,
    is_proven: bool,
    /// The remote address as an ICE candidate.
    candidate: Option<Candidate>,
}

impl Known {
    fn has_room(&self, bytes: usize) -> bool {
        self.is_proven || self.sent_bytes + bytes as u64 <= self.received_bytes * limits::UNPROVEN_AMPLIFICATION
    }
}

/// A path to be proven, and the random number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) pair: Pair,
    pub(super) nonce: u64,
}

/// What the answer to a heartbeat proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing: the number is unknown, or came on another path.
    None,
    /// A path that is not in use or was already proven.
    Answer,
    /// The path to which the peer has now moved.
    Move,
}

pub(crate) struct Paths {
    known: Vec<Known>,
    /// Counts the changes of which paths are known.
    version: u32,
    current: Option<Pair>,
    /// The path that will be in use once it is proven.
    challenger: Option<Pair>,
    /// The number of remote addresses ever known.
    introductions: u16,
    /// The newest checks, by the first half of their transaction ID, and the path on which each arrived first.
    checks: Vec<(u64, Pair)>,
    next_check: usize,
}

impl Paths {
    pub(crate) fn new() -> Paths {
        Paths {
            known: Vec::with_capacity(1),
            version: 0,
            current: None,
            challenger: None,
            introductions: 0,
            checks: Vec::new(),
            next_check: 0,
        }
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = Pair> + '_ {
        self.known.iter().map(|known| known.pair)
    }

    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn current(&self) -> Option<Pair> {
        self.current
    }

    fn get(&self, pair: Pair) -> Option<&Known> {
        self.known.iter().find(|known| known.pair == pair)
    }

    fn get_mut(&mut self, pair: Pair) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.pair == pair)
    }

    pub(crate) fn is_known(&self, pair: Pair) -> bool {
        self.get(pair).is_some()
    }

    fn knows_remote(&self, remote: SocketAddr) -> bool {
        self.known.iter().any(|known| known.pair.remote == remote)
    }

    /// Returns when the last check arrived on a path, if it is proven.
    pub(super) fn proven_at(&self, pair: Pair) -> Option<Instant> {
        self.get(pair).filter(|known| known.is_proven).map(|known| known.checked_at)
    }

    /// Counts bytes received on a known path.
    pub(crate) fn handle_received(&mut self, pair: Pair, bytes: usize) {
        if let Some(known) = self.get_mut(pair) {
            known.received_bytes += bytes as u64;
        }
    }

    /// Returns whether `bytes` may be sent on the path in use.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.current.and_then(|pair| self.get(pair)).is_some_and(|known| known.has_room(bytes))
    }

    /// Counts bytes to send. Returns `None` if the path is unknown, `false` if they exceed its limit.
    pub(crate) fn handle_sent(&mut self, pair: Pair, bytes: usize) -> Option<bool> {
        let known = self.get_mut(pair)?;
        let has_room = known.has_room(bytes);
        known.sent_bytes += if has_room { bytes as u64 } else { 0 };
        Some(has_room)
    }

    /// Records a check. Returns `false` if it is a copy of one on another path.
    pub(crate) fn handle_check(&mut self, now: Instant, pair: Pair, transaction: u64) -> bool {
        if let Some(&(_, first)) = self.checks.iter().find(|&&(of, _)| of == transaction) {
            return first == pair;
        }
        if self.checks.len() < limits::PEER_CHECKS {
            self.checks.push((transaction, pair));
        } else {
            self.checks[self.next_check] = (transaction, pair);
            self.next_check = (self.next_check + 1) % limits::PEER_CHECKS;
        }
        if let Some(known) = self.get_mut(pair) {
            known.checked_at = now;
        }
        true
    }

    /// Returns the number of the remote address among all ever known, if ICE has to be told; `None` if there were too
    /// many.
    pub(crate) fn number_remote(&mut self, remote: SocketAddr) -> Option<Option<u16>> {
        if self.knows_remote(remote) {
            return Some(None);
        }
        if self.introductions == limits::PEER_INTRODUCTIONS {
            return None;
        }
        self.introductions += 1;
        Some(Some(self.introductions))
    }

    /// Adds a path. Returns the candidate to remove from ICE, if another path had to be forgotten.
    pub(crate) fn introduce(
        &mut self,
        now: Instant,
        pair: Pair,
        nonce: u64,
        candidate: Option<Candidate>,
    ) -> Option<Candidate> {
        let forgotten = if self.known.len() == limits::PEER_ADDRESSES { self.forget_oldest() } else { None };
        let of_remote = self.known.iter().find(|known| known.pair.remote == pair.remote);
        let candidate = candidate.or_else(|| of_remote.and_then(|known| known.candidate.clone()));
        self.version = self.version.wrapping_add(1);
        self.known.push(Known {
            pair,
            checked_at: now,
            received_bytes: 0,
            sent_bytes: 0,
            nonce,
            is_proven: false,
            candidate,
        });
        forgotten
    }

    fn forget_oldest(&mut self) -> Option<Candidate> {
        let oldest = self.known.iter().position(|known| !known.is_proven && Some(known.pair) != self.current)?;
        let Known { pair, candidate, .. } = self.known.remove(oldest);
        if self.challenger == Some(pair) {
            self.challenger = None;
        }
        candidate.filter(|_| !self.knows_remote(pair.remote))
    }

    /// Sets the path in use, unless one has been proven.
    pub(crate) fn choose(&mut self, pair: Pair) {
        self.current = Some(pair);
        self.challenger = self.challenger.filter(|&challenger| challenger != pair);
    }

    /// Sets the only path of the offering end, which trusts the answering end.
    pub(super) fn trust(&mut self, now: Instant, pair: Pair, nonce: u64) {
        if self.current == Some(pair) {
            return;
        }
        self.current = Some(pair);
        self.known.clear();
        self.introduce(now, pair, nonce, None);
        self.known.iter_mut().for_each(|known| known.is_proven = true);
    }

    /// Requires a path to be proven, because the peer sends on it or nominated it. Returns `true` if it is another than
    /// before.
    pub(crate) fn challenge(&mut self, pair: Pair) -> bool {
        let is_other = self.current.is_some_and(|current| current != pair) && self.is_known(pair);
        is_other && self.challenger.replace(pair) != Some(pair)
    }

    /// Returns the paths to prove: the one that the peer should move to, and the one in use. Neither waits for the
    /// other: a check that was recorded on the way may have named an address at which nobody answers.
    pub(super) fn unproven(&self) -> impl Iterator<Item = Asked> + use<> {
        let paths = [self.challenger, self.current].map(|pair| {
            let known = self.get(pair?).filter(|known| !known.is_proven)?;
            Some(Asked { pair: known.pair, nonce: known.nonce })
        });
        paths.into_iter().flatten()
    }

    /// Returns the heartbeat that shows whether the path in use still delivers.
    pub(super) fn heartbeat(&self) -> Option<Asked> {
        let known = self.get(self.current?)?;
        Some(Asked { pair: known.pair, nonce: known.nonce })
    }

    /// Handles the answer to a heartbeat. `fresh` is the random number for proving the previous path again if the peer
    /// moves.
    pub(crate) fn prove(&mut self, pair: Pair, nonce: u64, fresh: u64) -> Proof {
        let Some(known) = self.get_mut(pair).filter(|known| known.nonce == nonce) else { return Proof::None };
        known.is_proven = true;
        if self.challenger != Some(pair) {
            return Proof::Answer;
        }
        self.challenger = None;
        if let Some(left) = self.current.replace(pair).and_then(|left| self.get_mut(left)) {
            left.is_proven = false;
            left.nonce = fresh;
            (left.received_bytes, left.sent_bytes) = (0, 0);
        }
        Proof::Move
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_in_use_is_proven_also_while_another_does_not_answer() {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise")]
        let now = Instant::now();
        let pair = |port| Pair { local: LocalId(0), remote: (Ipv4Addr::LOCALHOST, port).into() };
        let (home, nowhere) = (pair(1), pair(2));
        let mut paths = Paths::new();
        paths.introduce(now, home, 11, None);
        paths.choose(home);
        paths.introduce(now, nowhere, 22, None);
        paths.challenge(nowhere);
        let asked = |paths: &Paths| paths.unproven().map(|asked| asked.pair).collect::<Vec<_>>();
        assert_eq!(asked(&paths), [nowhere, home]);
        assert_eq!(paths.prove(home, 11, 33), Proof::Answer);
        assert_eq!(asked(&paths), [nowhere]);
        assert!(paths.has_room(limits::UDP_PAYLOAD_BYTES));
    }
}
