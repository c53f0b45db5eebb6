//! The paths to a peer: which are known, which of them is in use, and how much may go there.
//!
//! A path is a local and a remote address together: who reaches the server by another of its addresses is on another
//! path. The rules, for the answering end:
//!
//! - **Known** is a path over which an ICE check with the peer's password has come. A check counts on the path that
//!   brought it first; a copy of it on another path counts for nothing.
//! - **Proven** is a path that has returned a lane heartbeat with its random number in it, over itself. Until then it
//!   gets at most [`limits::UNPROVEN_AMPLIFICATION`] times the bytes that came over it (as RFC 9000 §8 has it).
//! - **In use** is the path that the lane was opened over, until another one that the peer sends over, or has nominated
//!   (RFC 8445 §8.1.1), has proven itself. Until then the old one stays in use; afterwards it has proven nothing.
//! - Of too many the oldest that has proven nothing is forgotten.
//!
//! The offering end has one path: the one that its str0m has chosen.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use str0m::Candidate;

use super::LocalId;
use crate::limits;

/// The two addresses of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// Ours.
    pub local: LocalId,
    /// The other end's.
    pub remote: SocketAddr,
}

/// The port that stands for the local address of number 0.
const STAND_IN_PORT: u16 = 1024;

impl Pair {
    /// str0m knows local addresses by number only: one address of a documentation range (RFC 5737, RFC 3849) stands for
    /// each, so that it makes no difference to ICE by which of its names the server was reached.
    pub(super) fn stand_in(self) -> SocketAddr {
        let port = STAND_IN_PORT + self.local.0;
        match self.remote {
            SocketAddr::V4(_) => (Ipv4Addr::new(192, 0, 2, 1), port).into(),
            SocketAddr::V6(_) => (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), port).into(),
        }
    }

    /// The path that str0m sends over, by what stands for its local address.
    pub(super) fn of(stand_in: SocketAddr, remote: SocketAddr) -> Pair {
        Pair { local: LocalId(stand_in.port().saturating_sub(STAND_IN_PORT)), remote }
    }
}

struct Known {
    pair: Pair,
    /// When an ICE check came over it last.
    checked_at: Instant,
    received_bytes: u64,
    sent_bytes: u64,
    nonce: u64,
    is_proven: bool,
    /// What ICE knows the remote address as.
    candidate: Option<Candidate>,
}

impl Known {
    fn has_room(&self, bytes: usize) -> bool {
        self.is_proven || self.sent_bytes + bytes as u64 <= self.received_bytes * limits::UNPROVEN_AMPLIFICATION
    }
}

/// A path that is to prove itself, and by which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) pair: Pair,
    pub(super) nonce: u64,
}

/// What an answer to a heartbeat was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Of nothing: a number that was not asked for, or not over this path.
    None,
    /// Of a path that is not in use, or was proven before.
    Answer,
    /// Of the path to which the peer has moved by it.
    Move,
}

pub(super) struct Paths {
    known: Vec<Known>,
    current: Option<Pair>,
    /// The path that is in use once it has proven itself.
    challenger: Option<Pair>,
    /// Remote addresses that were ever known.
    introductions: u16,
    /// The newest checks, by the first half of their transaction's id, and the path that brought each first.
    checks: Vec<(u64, Pair)>,
    next_check: usize,
}

impl Paths {
    pub(super) fn new() -> Paths {
        Paths {
            known: Vec::with_capacity(1),
            current: None,
            challenger: None,
            introductions: 0,
            checks: Vec::new(),
            next_check: 0,
        }
    }

    pub(super) fn pairs(&self) -> impl Iterator<Item = Pair> + '_ {
        self.known.iter().map(|known| known.pair)
    }

    pub(super) fn current(&self) -> Option<Pair> {
        self.current
    }

    fn get(&self, pair: Pair) -> Option<&Known> {
        self.known.iter().find(|known| known.pair == pair)
    }

    fn get_mut(&mut self, pair: Pair) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.pair == pair)
    }

    pub(super) fn is_known(&self, pair: Pair) -> bool {
        self.get(pair).is_some()
    }

    fn knows_remote(&self, remote: SocketAddr) -> bool {
        self.known.iter().any(|known| known.pair.remote == remote)
    }

    /// When a check came last over a path that is proven.
    pub(super) fn proven_at(&self, pair: Pair) -> Option<Instant> {
        self.get(pair).filter(|known| known.is_proven).map(|known| known.checked_at)
    }

    /// Counts bytes that came; `false` where the path is unknown.
    pub(super) fn handle_received(&mut self, pair: Pair, bytes: usize) -> bool {
        let known = self.get_mut(pair);
        known.map(|known| known.received_bytes += bytes as u64).is_some()
    }

    /// Whether so many bytes may go over the path in use.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.current.and_then(|pair| self.get(pair)).is_some_and(|known| known.has_room(bytes))
    }

    /// Counts bytes that are to go over a path; `None` where it is unknown, `false` where they are too many.
    pub(super) fn handle_sent(&mut self, pair: Pair, bytes: usize) -> Option<bool> {
        let known = self.get_mut(pair)?;
        let has_room = known.has_room(bytes);
        known.sent_bytes += if has_room { bytes as u64 } else { 0 };
        Some(has_room)
    }

    /// Notes a check that came over a path; `false` if it is a copy of one that came over another.
    pub(super) fn handle_check(&mut self, now: Instant, pair: Pair, transaction: u64) -> bool {
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

    /// The number of the remote address among those that were ever known, where it is to be told to ICE; `None` where
    /// there have been too many.
    pub(super) fn number_remote(&mut self, remote: SocketAddr) -> Option<Option<u16>> {
        if self.knows_remote(remote) {
            return Some(None);
        }
        if self.introductions == limits::PEER_INTRODUCTIONS {
            return None;
        }
        self.introductions += 1;
        Some(Some(self.introductions))
    }

    /// Adds a path. The candidate that ICE need not know any more, where another path had to be forgotten for it.
    pub(super) fn introduce(
        &mut self,
        now: Instant,
        pair: Pair,
        nonce: u64,
        candidate: Option<Candidate>,
    ) -> Option<Candidate> {
        let forgotten = if self.known.len() == limits::PEER_ADDRESSES { self.forget_oldest() } else { None };
        let of_remote = self.known.iter().find(|known| known.pair.remote == pair.remote);
        let candidate = candidate.or_else(|| of_remote.and_then(|known| known.candidate.clone()));
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

    /// The path in use, as long as it has not been chosen by proof.
    pub(super) fn choose(&mut self, pair: Pair) {
        self.current = Some(pair);
        self.challenger = self.challenger.filter(|&challenger| challenger != pair);
    }

    /// The one path of the offering end, which trusts whoever answers.
    pub(super) fn trust(&mut self, now: Instant, pair: Pair, nonce: u64) {
        if self.current == Some(pair) {
            return;
        }
        self.current = Some(pair);
        self.known.clear();
        self.introduce(now, pair, nonce, None);
        self.known.iter_mut().for_each(|known| known.is_proven = true);
    }

    /// The peer wants to be reached over this path, or sends over it: it is to prove itself. `true` if it is another
    /// than before.
    pub(super) fn challenge(&mut self, pair: Pair) -> bool {
        let is_other = self.current.is_some_and(|current| current != pair) && self.is_known(pair);
        is_other && self.challenger.replace(pair) != Some(pair)
    }

    /// The path that is to prove itself next.
    pub(super) fn unproven(&self) -> Option<Asked> {
        let known = self.challenger.or(self.current).and_then(|pair| self.get(pair))?;
        (!known.is_proven).then_some(Asked { pair: known.pair, nonce: known.nonce })
    }

    /// The heartbeat that shows whether the path in use still delivers.
    pub(super) fn heartbeat(&self) -> Option<Asked> {
        let known = self.get(self.current?)?;
        Some(Asked { pair: known.pair, nonce: known.nonce })
    }

    /// Takes the answer to a heartbeat that came over a path. `fresh` is the number by which the path that is left, if
    /// there is a move, can prove itself again.
    pub(super) fn prove(&mut self, pair: Pair, nonce: u64, fresh: u64) -> Proof {
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
