//! Routes datagrams to peers.

use std::net::SocketAddr;

/// A local UDP address, numbered by the caller from 0: below [`crate::limits::LOCAL_ADDRESSES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalId(pub u16);

/// A datagram to send.
#[derive(Debug)]
pub struct Transmit<'a> {
    /// From which local address.
    pub local: LocalId,
    /// Where to.
    pub destination: SocketAddr,
    /// Its payload.
    pub bytes: &'a [u8],
}
