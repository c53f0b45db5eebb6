//! Where a peer has been heard from, and how much may go there.

use std::net::SocketAddr;

use str0m::Candidate;

use super::LocalId;
use crate::limits;

pub(super) struct Address {
    pub(super) local: LocalId,
    pub(super) remote: SocketAddr,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) nonce: u64,
    pub(super) proven: bool,
    /// What ICE knows a client's address as.
    pub(super) candidate: Option<Candidate>,
}

impl Address {
    pub(super) fn new(local: LocalId, remote: SocketAddr, nonce: u64) -> Address {
        Address { local, remote, received_bytes: 0, sent_bytes: 0, nonce, proven: false, candidate: None }
    }

    /// Whether so many bytes may go there, and counts them: few until the address has proven itself.
    pub(super) fn may_send(&mut self, bytes: usize) -> bool {
        let sent = self.sent_bytes + bytes as u64;
        let may = self.proven || sent <= self.received_bytes * limits::UNPROVEN_AMPLIFICATION;
        if may {
            self.sent_bytes = sent;
        }
        may
    }
}
