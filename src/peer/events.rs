//! What a peer tells of itself.

use std::fmt;
use std::time::Instant;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    Sent,
    /// It could not leave now, and so never will.
    Dropped,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Frames can be sent.
    Open,
    /// A frame has arrived.
    Data(Vec<u8>),
    /// The peer is no more.
    Closed(Closed),
}

/// Why a peer is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// It did not open in time.
    NeverOpened,
    /// Nothing was heard of it any more (RFC 7675).
    Lost,
    /// The other end closed it.
    ByPeer,
    /// Its data channel would have lost data silently.
    ReliableChannel,
    /// It sent far more than is allowed.
    Flood,
    /// Its handshake, or its cryptography, failed.
    Failed,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closed::NeverOpened => "The data channel did not open in time; UDP may be blocked.",
            Closed::Lost => "The data channel was lost.",
            Closed::ByPeer => "The data channel was closed.",
            Closed::ReliableChannel => "The data channel must be unordered, with maxRetransmits: 0.",
            Closed::Flood => "The data channel sent too many packets.",
            Closed::Failed => "The data channel failed.",
        })
    }
}

/// The path to a peer, from the lane's own packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Path {
    /// Smoothed round trip, in microseconds; 0 until it is first measured.
    pub rtt_us: u32,
    /// Smoothed variation of single packets' round trips, in microseconds: the network's, and the time that their
    /// acknowledgements wait for a packet to ride on.
    pub jitter_us: u32,
    /// Of 1,000 packets to the peer since this was last asked, those that didn't arrive.
    pub sent_loss_permille: u16,
    /// Of 1,000 packets from the peer since this was last asked, those that didn't arrive.
    pub received_loss_permille: u16,
}

/// When a peer came how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stages {
    /// ICE had a path.
    pub ice: Option<Instant>,
    /// The DTLS handshake was done.
    pub dtls: Option<Instant>,
}

/// What a STUN message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stun {
    /// It was for this peer, over a path that is its own now.
    Accepted,
    /// It was not this peer's, came over another path before, or over one path too many.
    Refused,
}
