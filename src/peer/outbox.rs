//! Datagrams waiting to be sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;

/// A local UDP address, numbered by the caller from 0, below [`LOCAL_ADDRESSES`](crate::limits::LOCAL_ADDRESSES).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalId(pub u16);

/// A datagram to send.
#[derive(Debug)]
pub struct Transmit<'a> {
    /// The local address to send from.
    pub local: LocalId,
    /// The address to send to.
    pub destination: SocketAddr,
    /// The UDP payload.
    pub bytes: &'a [u8],
}

/// Datagrams of any number of peers, waiting to be polled in order. All share one buffer, which is cleared when the
/// last is taken.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// The buffer for packets before encryption; kept for its capacity.
    pub(super) packet: Vec<u8>,
    waiting: VecDeque<(LocalId, SocketAddr, Range<usize>)>,
}

impl Outbox {
    /// Returns the next datagram, valid until the next call.
    pub fn poll(&mut self) -> Option<Transmit<'_>> {
        let (local, destination, range) = self.waiting.pop_front()?;
        Some(Transmit { local, destination, bytes: &self.bytes[range] })
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds the datagram that `write` appends.
    pub(super) fn push<E>(
        &mut self,
        local: LocalId,
        destination: SocketAddr,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.waiting.is_empty() {
            self.bytes.clear();
        }
        let start = self.bytes.len();
        write(&mut self.bytes)?;
        self.waiting.push_back((local, destination, start..self.bytes.len()));
        Ok(())
    }
}
