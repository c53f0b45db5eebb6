//! Datagrams waiting to be sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;

use crate::limits;

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
    /// The buffer for packets that str0m sends; kept for its capacity.
    pub(super) packet: Vec<u8>,
    /// The buffer for decrypted packets; kept for its length.
    pub(super) plain: Vec<u8>,
    /// Buffers for frames that are received.
    spare: Vec<Vec<u8>>,
    waiting: VecDeque<(LocalId, SocketAddr, Range<usize>)>,
}

/// The number of buffers for received frames that are kept.
const SPARE_MAX: usize = 16;

impl Outbox {
    /// Returns the next datagram, valid until the next call.
    pub fn poll(&mut self) -> Option<Transmit<'_>> {
        let (local, destination, range) = self.waiting.pop_front()?;
        Some(Transmit { local, destination, bytes: &self.bytes[range] })
    }

    /// Takes back the buffer of an [`Event::Data`](super::Event::Data), so that receiving the next needs no new one.
    pub fn recycle(&mut self, frame: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && frame.capacity() <= limits::UDP_PAYLOAD_BYTES {
            self.spare.push(frame);
        }
    }

    /// Returns a copy of a frame, in a buffer that was taken back if there is one.
    pub(super) fn copy(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        copy
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds the datagram that `write` appends, unless it fails.
    pub(crate) fn push<E>(
        &mut self,
        local: LocalId,
        destination: SocketAddr,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.waiting.is_empty() {
            self.bytes.clear();
        }
        let start = self.bytes.len();
        let written = write(&mut self.bytes);
        match written {
            Ok(()) => self.waiting.push_back((local, destination, start..self.bytes.len())),
            Err(_) => self.bytes.truncate(start),
        }
        written
    }
}
