//! Events and measurements of a peer.

use std::fmt;
use std::time::Instant;

/// The outcome of sending a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The frame was sent.
    Sent,
    /// The frame could not be sent at once and was dropped.
    Dropped,
}

/// An event of a peer.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The data channel is open; frames can be sent.
    Open,
    /// A frame was received. [`Outbox::recycle`](super::Outbox::recycle) takes the buffer back.
    Data(Vec<u8>),
    /// The peer is closed.
    Closed(Closed),
}

/// Why a peer is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The data channel did not open in time.
    NeverOpened,
    /// Nothing was received any more (RFC 7675).
    Lost,
    /// The other end closed the data channel.
    ByPeer,
    /// The data channel was not unordered with `maxRetransmits: 0`.
    ReliableChannel,
    /// The other end exceeded its packet rate by far.
    Flood,
    /// The handshake or the cryptography failed.
    Failed,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Closed::NeverOpened => "The data channel did not open in time: UDP may be blocked.",
            Closed::Lost => "The data channel was lost.",
            Closed::ByPeer => "The data channel was closed.",
            Closed::ReliableChannel => "The data channel must be unordered, with maxRetransmits: 0.",
            Closed::Flood => "The data channel sent too many packets.",
            Closed::Failed => "The data channel failed.",
        })
    }
}

/// The measurements of the path to a peer, from the lane's own packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Path {
    /// The smoothed round-trip time in microseconds; 0 until it has been measured.
    pub rtt_us: u32,
    /// The smoothed variation of the round-trip time in microseconds. It includes the time that acknowledgements wait
    /// for a packet to carry them.
    pub jitter_us: u32,
    /// The loss to the peer since the last measurement, in packets per 1,000.
    pub sent_loss_permille: u16,
    /// The loss from the peer since the last measurement, in packets per 1,000.
    pub received_loss_permille: u16,
}

/// When a connection reached each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stages {
    /// ICE found a path.
    pub ice: Option<Instant>,
    /// The DTLS handshake completed.
    pub dtls: Option<Instant>,
}

/// The result of handling a STUN message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stun {
    /// The message was for this peer, and its path now belongs to the peer.
    Accepted,
    /// The message was not for this peer, is a copy from another path, or is on one path too many.
    Refused,
}

/// Packets and messages dropped by peers, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Packets that are too short, malformed or of another association.
    pub malformed: u64,
    /// Messages that are duplicates, or too old to tell.
    pub duplicate: u64,
    /// Fragments of messages.
    pub fragment: u64,
    /// Messages on another stream, or not binary.
    pub foreign: u64,
    /// Datagrams, and frames, for a path that was not proven.
    pub unproven: u64,
    /// Packets past a peer's rate limit.
    pub excess: u64,
    /// Plaintext alerts during the handshake, which anybody can send.
    pub alerts: u64,
    /// Packets on media connections: past the limits, of a source that was not offered, or too large.
    pub media: u64,
}

impl std::ops::AddAssign for Dropped {
    fn add_assign(&mut self, other: Dropped) {
        self.malformed += other.malformed;
        self.duplicate += other.duplicate;
        self.fragment += other.fragment;
        self.foreign += other.foreign;
        self.unproven += other.unproven;
        self.excess += other.excess;
        self.alerts += other.alerts;
        self.media += other.media;
    }
}
