//! The unreliable lane over UDP: the part of SCTP over DTLS (RFC 8261) that an unreliable, unordered channel needs.
//!
//! A full SCTP queues what its congestion window does not permit, so after a loss "unreliable" messages arrive seconds
//! late. This lane sends a message at once or drops it. It has one association, one stream, one DATA chunk per message
//! and no retransmissions; after the handshake it needs no timer.
//!
//! ```text
//! packet (RFC 9260 §3)                          chunk
//!  0               2               4             0       1       2               4
//! +---------------+---------------+             +-------+-------+---------------+----···
//! | source port   | destination p.|             | type  | flags | length        | value, padded to 4
//! +---------------+---------------+             +-------+-------+---------------+----···
//! | verification tag              |
//! +-------------------------------+             DATA: tsn 4 · stream 2 · ssn 2 · ppid 4 · payload
//! | CRC32c, little endian         |             SACK: cumulative tsn 4 · window 4 · gaps 2 · duplicates 2 · gaps 4 each
//! +-------------------------------+             FORWARD-TSN: new cumulative tsn 4
//! | chunks …                                    INIT, INIT-ACK: tag 4 · window 4 · streams out 2, in 2 · tsn 4 · params
//! ```
//!
//! Deliberate deviations from the RFCs:
//! - **The server's SACKs are optimistic** (RFC 9260 §3.3.4 requires reporting gaps): they acknowledge the highest TSN
//!   received as if all before it had arrived, so that a browser's sender never detects a loss and never slows down.
//!   This is safe only because nothing on this association is retransmitted. The client's SACKs report gaps, as a
//!   browser's do: the server measures the path with them.
//! - **No congestion window** (RFC 9260 §7): the application sends a limited number of small messages per tick, and
//!   leaves out ticks on a congested path ([`super::pace`]).
//! - **Checksums are not verified** (RFC 9260 §6.8): DTLS has authenticated the bytes, the argument by which RFC 9653
//!   lets both ends omit the checksum.
//! - **Fragments are dropped** (RFC 9260 §6.9): the SDP announces a `max-message-size` that fits one packet.

use std::ops::Range;
use std::time::Instant;

use super::delivery::Delivery;
use super::pace::{Acknowledged, Losses, Pace, is_newer};
use crate::limits;

const HEADER_BYTES: usize = 12;
const CHUNK_HEADER_BYTES: usize = 4;
const DATA_HEADER_BYTES: usize = CHUNK_HEADER_BYTES + 12;
const SACK_HEADER_BYTES: usize = CHUNK_HEADER_BYTES + 12;

/// Chunk types: RFC 9260 §3.2, RFC 3758 §3.2, RFC 6525 §3.1.
mod chunk {
    pub(super) const DATA: u8 = 0;
    pub(super) const INIT: u8 = 1;
    pub(super) const INIT_ACK: u8 = 2;
    pub(super) const SACK: u8 = 3;
    pub(super) const HEARTBEAT: u8 = 4;
    pub(super) const HEARTBEAT_ACK: u8 = 5;
    pub(super) const ABORT: u8 = 6;
    pub(super) const SHUTDOWN: u8 = 7;
    pub(super) const COOKIE_ECHO: u8 = 10;
    pub(super) const COOKIE_ACK: u8 = 11;
    pub(super) const RE_CONFIG: u8 = 130;
    pub(super) const FORWARD_TSN: u8 = 192;
}

/// Parameters: RFC 9260 §3.3, RFC 5061 §4.2.7, RFC 3758 §3.1, RFC 6525 §4.
mod parameter {
    pub(super) const HEARTBEAT_INFO: u16 = 1;
    pub(super) const STATE_COOKIE: u16 = 7;
    pub(super) const OUTGOING_RESET_REQUEST: u16 = 13;
    pub(super) const RECONFIG_RESPONSE: u16 = 16;
    pub(super) const SUPPORTED_EXTENSIONS: u16 = 0x8008;
    pub(super) const FORWARD_TSN_SUPPORTED: u16 = 0xc000;
}

/// Payload protocol identifiers: RFC 8831 §8.
mod ppid {
    pub(super) const DCEP: u32 = 50;
    pub(super) const STRING: u32 = 51;
    pub(super) const BINARY: u32 = 53;
}

/// Data channel establishment: RFC 8832 §5, §8.2.
mod dcep {
    pub(super) const ACK: u8 = 2;
    pub(super) const OPEN: u8 = 3;
    pub(super) const UNORDERED_MAX_RETRANSMITS: u8 = 0x81;
}

/// DATA flags: unordered, beginning, ending (RFC 9260 §3.3.1).
const UNORDERED_UNFRAGMENTED: u8 = 0b111;
const UNFRAGMENTED: u8 = 0b011;

const WINDOW_BYTES: u32 = 1024 * 1024;
const STREAMS: u16 = 1024;
const COOKIE_BYTES_MAX: usize = 512;
const HEARTBEAT_BYTES_MAX: usize = 256;
/// Packets with DATA after which a SACK is sent even without other data (RFC 9260 §6.2).
const SACK_EVERY: u8 = 2;
/// The maximum number of blocks in a SACK: every other remembered TSN is missing.
const GAPS_MAX: usize = 32;

/// The role of this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Sends the INIT: the native client.
    Active,
    /// Answers the INIT: the server.
    Passive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    CookieWait,
    CookieEchoed,
    Established,
    Closed,
}

/// An event from a received packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The association is established.
    Open,
    /// A message was received: its place in the packet.
    Message(Range<usize>),
    /// The peer answered [`Lane::write_heartbeat`].
    HeartbeatAck(u64),
    /// The peer closed the channel or the association.
    Closed,
    /// The peer opened a channel that is reliable or ordered.
    ReliableChannel,
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
    }
}

pub(super) struct Lane {
    role: Role,
    state: State,
    heard_at: Instant,
    local_port: u16,
    remote_port: u16,
    local_tag: u32,
    remote_tag: u32,
    next_tsn: u32,
    acknowledged: u32,
    forward_to: Option<u32>,
    highest_seen: u32,
    /// Bit n: the TSN that is n below the highest has been received.
    seen: u64,
    /// Up to this TSN nothing is missing, or nothing missing can still arrive.
    complete: u32,
    arrivals: Losses,
    pace: Pace,
    delivery: Delivery,
    unacknowledged_packets: u8,
    cookie: Vec<u8>,
    repeat_cookie_ack: bool,
    stream: Option<u16>,
    reports_gaps: bool,
    takes_text: bool,
    dropped: Dropped,
}

impl Lane {
    /// `tag` and `tsn` must come from a cryptographic random number generator (RFC 9260 §5.3.1).
    pub(super) fn new(role: Role, local_port: u16, remote_port: u16, tag: u32, tsn: u32, now: Instant) -> Lane {
        Lane {
            role,
            state: State::Idle,
            heard_at: now,
            local_port,
            remote_port,
            local_tag: tag.max(1),
            remote_tag: 0,
            next_tsn: tsn,
            acknowledged: tsn.wrapping_sub(1),
            forward_to: None,
            highest_seen: 0,
            seen: 0,
            complete: 0,
            arrivals: Losses::default(),
            pace: Pace::new(now, tsn.wrapping_sub(1)),
            delivery: Delivery::default(),
            unacknowledged_packets: 0,
            cookie: Vec::new(),
            repeat_cookie_ack: false,
            stream: None,
            reports_gaps: role == Role::Active,
            takes_text: false,
            dropped: Dropped::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Established
    }

    /// Returns when the last packet was received.
    pub(super) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Reports gaps in SACKs, as the active end does.
    pub(super) fn report_gaps(&mut self) {
        self.reports_gaps = true;
    }

    /// Accepts text messages too.
    pub(super) fn take_text(&mut self) {
        self.takes_text = true;
    }

    pub(super) fn dropped(&self) -> Dropped {
        self.dropped
    }

    pub(super) fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    pub(super) fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    pub(super) fn delivery_mut(&mut self) -> &mut Delivery {
        &mut self.delivery
    }

    /// Handles the answer to a heartbeat: everything sent before it has arrived or is lost.
    pub(super) fn handle_answered(&mut self, now: Instant) {
        self.delivery.handle_delivered(now, None, self.pace.round_trip());
    }

    /// Resets the path's measurements: the other end has moved to another path, which delivers.
    pub(super) fn handle_new_path(&mut self, now: Instant) {
        self.handle_answered(now);
        self.pace.handle_new_path(now);
    }

    /// Returns how many packets were sent to this end and lost since the last call.
    pub(super) fn take_arrivals(&mut self) -> Losses {
        std::mem::take(&mut self.arrivals)
    }

    /// Appends the packet that starts the handshake or repeats its unanswered step, on the active end.
    pub(super) fn write_handshake(&mut self, out: &mut Vec<u8>) -> bool {
        debug_assert_eq!(self.role, Role::Active);
        let start = out.len();
        match self.state {
            State::Idle | State::CookieWait => {
                self.state = State::CookieWait;
                let tag = std::mem::take(&mut self.remote_tag);
                self.begin(out);
                self.remote_tag = tag;
                self.init_chunk(out, chunk::INIT, &[]);
            }
            State::CookieEchoed => {
                self.begin(out);
                let cookie = std::mem::take(&mut self.cookie);
                put_chunk(out, chunk::COOKIE_ECHO, 0, &[&cookie]);
                self.cookie = cookie;
            }
            State::Established | State::Closed => return false,
        }
        finish(&mut out[start..]);
        true
    }

    /// Appends a message as one packet. Returns `false` if the channel is not open.
    pub(super) fn write_message(&mut self, now: Instant, payload: &[u8], out: &mut Vec<u8>) -> bool {
        self.write_payload(now, ppid::BINARY, payload, out)
    }

    /// Appends a text message as one packet. Returns `false` if the channel is not open.
    pub(super) fn write_text(&mut self, now: Instant, text: &str, out: &mut Vec<u8>) -> bool {
        self.write_payload(now, ppid::STRING, text.as_bytes(), out)
    }

    fn write_payload(&mut self, now: Instant, ppid: u32, payload: &[u8], out: &mut Vec<u8>) -> bool {
        debug_assert!(payload.len() <= limits::FRAME_BYTES && !payload.is_empty());
        if !self.is_open() {
            return false;
        }
        let start = out.len();
        self.begin(out);
        self.control_chunks(out, limits::FRAME_BYTES - payload.len());
        self.data_chunk(now, out, self.stream.unwrap_or(0), ppid, payload);
        finish(&mut out[start..]);
        true
    }

    /// Appends a packet that makes the peer return `nonce`, which proves that the address is its own (RFC 9260 §8.3).
    pub(super) fn write_heartbeat(&mut self, nonce: u64, out: &mut Vec<u8>) {
        let start = out.len();
        self.begin(out);
        let length = parameter_length(8);
        put_chunk(
            out,
            chunk::HEARTBEAT,
            0,
            &[&parameter::HEARTBEAT_INFO.to_be_bytes(), &length.to_be_bytes(), &nonce.to_be_bytes()],
        );
        finish(&mut out[start..]);
    }

    /// Appends the packet that aborts the association, if it is up.
    pub(super) fn write_abort(&mut self, out: &mut Vec<u8>) -> bool {
        let was_up = matches!(self.state, State::Established | State::CookieEchoed);
        self.state = State::Closed;
        if was_up {
            let start = out.len();
            self.begin(out);
            put_chunk(out, chunk::ABORT, 0, &[]);
            finish(&mut out[start..]);
        }
        was_up
    }

    /// Handles a packet authenticated by DTLS. Reports its events; returns what [`Lane::write_replies`] is to write.
    pub(super) fn receive<'a>(
        &mut self,
        now: Instant,
        packet: &'a [u8],
        arrivals: &mut Vec<Arrival>,
    ) -> Option<Replies<'a>> {
        if self.state == State::Closed {
            return None;
        }
        self.heard_at = now;
        let Some((header, chunks)) = packet.split_first_chunk::<HEADER_BYTES>() else {
            self.dropped.malformed += 1;
            return None;
        };
        let tag = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let is_init = chunks.first() == Some(&chunk::INIT);
        // RFC 9260 §8.5: an INIT carries no tag, an ABORT possibly the sender's own.
        let tag_fits = if is_init { tag == 0 } else { tag == self.local_tag };
        let is_reflected_abort = chunks.first() == Some(&chunk::ABORT) && tag == self.remote_tag;
        if !tag_fits && !is_reflected_abort {
            self.dropped.malformed += 1;
            return None;
        }
        self.pace.handle_heard(now);
        let mut replies = Replies::default();
        let mut data_came = false;
        for chunk in Chunks::of(packet) {
            let Some(chunk) = chunk else {
                self.dropped.malformed += 1;
                break;
            };
            if !matches!(chunk.kind, chunk::INIT | chunk::COOKIE_ECHO) {
                self.repeat_cookie_ack = false;
            }
            data_came |= chunk.kind == chunk::DATA;
            if !self.handle_chunk(now, &chunk, &mut replies, arrivals) {
                break;
            }
            if self.state == State::Closed {
                break;
            }
        }
        if data_came {
            self.unacknowledged_packets = self.unacknowledged_packets.saturating_add(1);
        }
        // RFC 9260 §6.7: while something is missing, in every packet.
        let sack_every = if self.reports_gaps && self.complete != self.highest_seen { 1 } else { SACK_EVERY };
        replies.sack |= replies.dcep_ack || self.unacknowledged_packets >= sack_every;
        (!replies.is_empty()).then_some(replies)
    }

    /// Returns `false` if the rest of the packet must be ignored.
    fn handle_chunk<'a>(
        &mut self,
        now: Instant,
        chunk: &Chunk<'a>,
        replies: &mut Replies<'a>,
        arrivals: &mut Vec<Arrival>,
    ) -> bool {
        let established = self.is_open();
        match chunk.kind {
            chunk::INIT => {
                if self.role == Role::Passive {
                    self.handle_init(chunk.value, replies);
                }
                // RFC 9260 §6.10: INIT is never bundled; the chunks after it came without a tag.
                return false;
            }
            chunk::INIT_ACK if self.state == State::CookieWait => {
                self.handle_init_ack(chunk.value, replies);
                return false;
            }
            chunk::COOKIE_ECHO if self.role == Role::Passive => {
                return self.handle_cookie(chunk.value, replies, arrivals);
            }
            chunk::COOKIE_ACK if self.state == State::CookieEchoed => {
                self.state = State::Established;
                self.cookie = Vec::new();
                arrivals.push(Arrival::Open);
            }
            chunk::DATA if established => self.handle_data(chunk, replies, arrivals),
            chunk::SACK if established => self.handle_sack(now, chunk.value),
            chunk::HEARTBEAT if established && chunk.value.len() <= HEARTBEAT_BYTES_MAX => {
                replies.heartbeat = Some(chunk.value);
            }
            chunk::HEARTBEAT_ACK if established => {
                if let Some(nonce) = chunk.value.get(4..12).and_then(|bytes| bytes.first_chunk::<8>()) {
                    arrivals.push(Arrival::HeartbeatAck(u64::from_be_bytes(*nonce)));
                }
            }
            chunk::FORWARD_TSN if established => {
                if let Some(tsn) = be_u32(chunk.value, 0) {
                    self.pass_over(tsn);
                    replies.sack = true;
                }
            }
            chunk::RE_CONFIG if established => return self.handle_reconfig(chunk.value, replies, arrivals),
            chunk::ABORT | chunk::SHUTDOWN => {
                self.state = State::Closed;
                arrivals.push(Arrival::Closed);
            }
            // RFC 9260 §3.2: the highest bit of an unknown type tells whether to continue.
            unknown => return unknown & 0x80 != 0 || unknown <= chunk::COOKIE_ACK,
        }
        true
    }

    fn handle_init(&mut self, value: &[u8], replies: &mut Replies<'_>) {
        let (Some(tag @ 1..), Some(tsn)) = (be_u32(value, 0), be_u32(value, 12)) else {
            self.dropped.malformed += 1;
            return;
        };
        replies.init_ack = Some((tag, tsn));
    }

    fn handle_init_ack(&mut self, value: &[u8], replies: &mut Replies<'_>) {
        let (Some(tag @ 1..), Some(tsn)) = (be_u32(value, 0), be_u32(value, 12)) else {
            self.dropped.malformed += 1;
            return;
        };
        let cookie = Parameters(value.get(16..).unwrap_or_default())
            .find_map(|(kind, cookie)| (kind == parameter::STATE_COOKIE).then_some(cookie));
        let Some(cookie) = cookie.filter(|cookie| cookie.len() <= COOKIE_BYTES_MAX) else {
            self.dropped.malformed += 1;
            return;
        };
        self.remote_tag = tag;
        self.expect(tsn);
        self.cookie = cookie.to_vec();
        self.state = State::CookieEchoed;
        replies.cookie_echo = true;
    }

    /// The cookie is the peer's own tag and TSN. It needs no signature: the packet came through that peer's DTLS, so a
    /// forged one can only break the forger's own association.
    fn handle_cookie(&mut self, cookie: &[u8], replies: &mut Replies<'_>, arrivals: &mut Vec<Arrival>) -> bool {
        let (Some(tag), Some(tsn)) = (be_u32(cookie, 0), be_u32(cookie, 4)) else {
            self.dropped.malformed += 1;
            return false;
        };
        match self.state {
            State::Idle => {
                self.remote_tag = tag;
                self.expect(tsn);
                self.state = State::Established;
                self.repeat_cookie_ack = true;
                arrivals.push(Arrival::Open);
            }
            State::Established if tag == self.remote_tag => {}
            _ => {
                self.dropped.malformed += 1;
                return false;
            }
        }
        replies.cookie_ack = true;
        true
    }

    fn handle_data(&mut self, chunk: &Chunk<'_>, replies: &mut Replies<'_>, arrivals: &mut Vec<Arrival>) {
        let (Some(tsn), Some(ppid)) = (be_u32(chunk.value, 0), be_u32(chunk.value, 8)) else {
            self.dropped.malformed += 1;
            return;
        };
        let stream = u16::from_be_bytes([chunk.value[4], chunk.value[5]]);
        let payload = &chunk.value[12..];
        if !self.see(tsn) {
            self.dropped.duplicate += 1;
        } else if chunk.flags & UNFRAGMENTED != UNFRAGMENTED {
            self.dropped.fragment += 1;
        } else if ppid == ppid::DCEP {
            self.handle_dcep(stream, payload, replies, arrivals);
        } else if self.takes(ppid) && *self.stream.get_or_insert(stream) == stream {
            arrivals.push(Arrival::Message(
                chunk.at + DATA_HEADER_BYTES..chunk.at + CHUNK_HEADER_BYTES + chunk.value.len(),
            ));
        } else {
            self.dropped.foreign += 1;
        }
    }

    fn takes(&self, ppid: u32) -> bool {
        ppid == ppid::BINARY || (ppid == ppid::STRING && self.takes_text)
    }

    fn handle_dcep(&mut self, stream: u16, message: &[u8], replies: &mut Replies<'_>, arrivals: &mut Vec<Arrival>) {
        if self.role == Role::Active || message.first() != Some(&dcep::OPEN) {
            return;
        }
        let retransmits = be_u32(message, 4);
        if message.get(1) != Some(&dcep::UNORDERED_MAX_RETRANSMITS) || retransmits != Some(0) {
            self.state = State::Closed;
            arrivals.push(Arrival::ReliableChannel);
        } else if *self.stream.get_or_insert(stream) == stream {
            replies.dcep_ack = true;
        } else {
            self.dropped.foreign += 1;
        }
    }

    fn handle_sack(&mut self, now: Instant, value: &[u8]) {
        let (Some(cumulative), Some(counts)) = (be_u32(value, 0), be_u32(value, 8)) else {
            self.dropped.malformed += 1;
            return;
        };
        let newest_sent = self.next_tsn.wrapping_sub(1);
        if is_newer(cumulative, newest_sent) || is_newer(self.acknowledged, cumulative) {
            return;
        }
        self.acknowledged = cumulative;
        let (gaps, _) = value.get(12..).unwrap_or_default().as_chunks::<4>();
        let gaps = gaps.get(..(counts >> 16) as usize).unwrap_or_default();
        // Once per SACK that shows the gap: with a FORWARD-TSN in every packet, a browser answers every packet.
        let before = self.pace.highest_acknowledged();
        self.forward_to = self.pace.handle_acknowledged(now, Acknowledged { cumulative, gaps });
        if is_newer(self.pace.highest_acknowledged(), before) {
            self.delivery.handle_delivered(now, self.pace.waiting_sent_at(now), self.pace.round_trip());
        }
    }

    /// The page called `dc.close()` (RFC 8831 §6.7); nothing follows.
    fn handle_reconfig(&mut self, value: &[u8], replies: &mut Replies<'_>, arrivals: &mut Vec<Arrival>) -> bool {
        for (kind, body) in Parameters(value) {
            if kind == parameter::OUTGOING_RESET_REQUEST {
                let Some(sequence) = be_u32(body, 0) else {
                    self.dropped.malformed += 1;
                    return false;
                };
                replies.reset_done = Some(sequence);
                arrivals.push(Arrival::Closed);
                return false;
            }
        }
        true
    }

    /// The other end's first TSN.
    fn expect(&mut self, tsn: u32) {
        self.highest_seen = tsn.wrapping_sub(1);
        self.complete = self.highest_seen;
        self.seen = u64::MAX;
    }

    /// Records a TSN. Returns `false` if it is a duplicate, or too old to tell.
    fn see(&mut self, tsn: u32) -> bool {
        self.advance(tsn);
        let behind = self.highest_seen.wrapping_sub(tsn);
        let bit = 1u64.checked_shl(behind).unwrap_or(0);
        let is_new = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        if is_new {
            self.arrivals.lost = self.arrivals.lost.saturating_sub(1);
            self.complete();
        }
        is_new
    }

    /// Nothing missing up to `tsn` will arrive any more (RFC 3758 §3.6).
    fn pass_over(&mut self, tsn: u32) {
        self.advance(tsn);
        if is_newer(tsn, self.complete) {
            self.complete = tsn;
        }
        self.complete();
    }

    /// TSNs up to this have been used.
    fn advance(&mut self, tsn: u32) {
        let ahead = tsn.wrapping_sub(self.highest_seen);
        if ahead.cast_signed() > 0 {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0);
            self.highest_seen = tsn;
            self.arrivals.add(ahead, ahead);
        }
    }

    /// Advances [`Lane::complete`] over the received TSNs, and past those too old to be remembered.
    fn complete(&mut self) {
        let open = self.highest_seen.wrapping_sub(self.complete).min(u64::BITS - 1);
        let newer = self.seen & ((1 << open) - 1);
        // The bit below the newer ones is that of `complete`; from there down to the first gap all have been received.
        let come = (newer << (u64::BITS - open - 1) << 1).leading_ones().min(open);
        self.complete = self.highest_seen.wrapping_sub(open - come);
    }

    /// Appends the replies to a packet as one. Returns `false` if there are none after all.
    pub(super) fn write_replies(&mut self, now: Instant, replies: &Replies<'_>, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        if let Some((tag, tsn)) = replies.init_ack {
            let mut cookie = [0; 8];
            cookie[..4].copy_from_slice(&tag.to_be_bytes());
            cookie[4..].copy_from_slice(&tsn.to_be_bytes());
            let own = std::mem::replace(&mut self.remote_tag, tag);
            self.begin(out);
            self.remote_tag = own;
            self.init_chunk(out, chunk::INIT_ACK, &cookie);
            finish(&mut out[start..]);
            return true;
        }
        if replies.cookie_echo {
            return self.write_handshake(out);
        }
        if self.state != State::Established {
            return false;
        }
        self.begin(out);
        if replies.cookie_ack {
            put_chunk(out, chunk::COOKIE_ACK, 0, &[]);
        }
        if replies.sack {
            self.sack_chunk(out, GAPS_MAX * 4);
        }
        if let Some(info) = replies.heartbeat {
            put_chunk(out, chunk::HEARTBEAT_ACK, 0, &[info]);
        }
        if let Some(sequence) = replies.reset_done {
            put_chunk(
                out,
                chunk::RE_CONFIG,
                0,
                &[
                    &parameter::RECONFIG_RESPONSE.to_be_bytes(),
                    &parameter_length(8).to_be_bytes(),
                    &sequence.to_be_bytes(),
                    &1_u32.to_be_bytes(),
                ],
            );
            self.state = State::Closed;
        }
        if replies.dcep_ack {
            self.data_chunk(now, out, self.stream.unwrap_or(0), ppid::DCEP, &[dcep::ACK]);
        }
        finish(&mut out[start..]);
        true
    }

    /// The chunks bundled before the next message.
    fn control_chunks(&mut self, out: &mut Vec<u8>, room: usize) {
        if self.repeat_cookie_ack {
            put_chunk(out, chunk::COOKIE_ACK, 0, &[]);
        }
        if self.unacknowledged_packets > 0 {
            self.sack_chunk(out, room);
        }
        if let Some(tsn) = self.forward_to.take() {
            put_chunk(out, chunk::FORWARD_TSN, 0, &[&tsn.to_be_bytes()]);
        }
    }

    fn begin(&self, out: &mut Vec<u8>) {
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(&self.local_port.to_be_bytes());
        header[2..4].copy_from_slice(&self.remote_port.to_be_bytes());
        header[4..8].copy_from_slice(&self.remote_tag.to_be_bytes());
        out.extend_from_slice(&header);
    }

    fn init_chunk(&self, out: &mut Vec<u8>, kind: u8, cookie: &[u8]) {
        let mut parameters = Vec::with_capacity(24);
        put_parameter(&mut parameters, parameter::FORWARD_TSN_SUPPORTED, &[]);
        put_parameter(&mut parameters, parameter::SUPPORTED_EXTENSIONS, &[chunk::RE_CONFIG, chunk::FORWARD_TSN]);
        if kind == chunk::INIT_ACK {
            put_parameter(&mut parameters, parameter::STATE_COOKIE, cookie);
        }
        put_chunk(
            out,
            kind,
            0,
            &[
                &self.local_tag.to_be_bytes(),
                &WINDOW_BYTES.to_be_bytes(),
                &STREAMS.to_be_bytes(),
                &STREAMS.to_be_bytes(),
                &self.next_tsn.to_be_bytes(),
                &parameters,
            ],
        );
    }

    /// Writes a SACK if it fits `room`; otherwise it waits for another packet.
    fn sack_chunk(&mut self, out: &mut Vec<u8>, room: usize) {
        let mut buffer = [0; GAPS_MAX * 4];
        let reports = self.reports_gaps && self.complete != self.highest_seen;
        let gaps = if reports { self.gaps(&mut buffer) } else { &[] };
        if gaps.len() > room {
            return;
        }
        self.unacknowledged_packets = 0;
        let cumulative = if self.reports_gaps { self.complete } else { self.highest_seen };
        let mut header = [0; SACK_HEADER_BYTES];
        header[0] = chunk::SACK;
        #[expect(clippy::cast_possible_truncation, reason = "there are at most GAPS_MAX")]
        let (length, count) = ((SACK_HEADER_BYTES + gaps.len()) as u16, (gaps.len() / 4) as u16);
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[4..8].copy_from_slice(&cumulative.to_be_bytes());
        header[8..12].copy_from_slice(&WINDOW_BYTES.to_be_bytes());
        header[12..14].copy_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(gaps);
    }

    /// Returns the TSNs received beyond [`Lane::complete`] as blocks of a SACK.
    fn gaps<'a>(&self, buffer: &'a mut [u8; GAPS_MAX * 4]) -> &'a [u8] {
        let open = u16::try_from(self.highest_seen.wrapping_sub(self.complete)).unwrap_or(63).min(63);
        let has_come = |offset: u16| (1..=open).contains(&offset) && self.seen >> (open - offset) & 1 == 1;
        let mut written = 0;
        for offset in 1..=open {
            let is_edge = [has_come(offset - 1), has_come(offset + 1)].map(|neighbour| !neighbour);
            for _ in is_edge.into_iter().filter(|&edge| edge && has_come(offset)) {
                buffer[written..written + 2].copy_from_slice(&offset.to_be_bytes());
                written += 2;
            }
        }
        &buffer[..written]
    }

    fn data_chunk(&mut self, now: Instant, out: &mut Vec<u8>, stream: u16, ppid: u32, payload: &[u8]) {
        let tsn = self.next_tsn;
        self.next_tsn = tsn.wrapping_add(1);
        self.pace.handle_sent(now, tsn);
        self.delivery.handle_sent(now);
        let mut header = [0; DATA_HEADER_BYTES];
        header[0] = chunk::DATA;
        header[1] = UNORDERED_UNFRAGMENTED;
        #[expect(clippy::cast_possible_truncation, reason = "what is sent fits a datagram")]
        header[2..4].copy_from_slice(&((DATA_HEADER_BYTES + payload.len()) as u16).to_be_bytes());
        header[4..8].copy_from_slice(&tsn.to_be_bytes());
        header[8..10].copy_from_slice(&stream.to_be_bytes());
        header[12..].copy_from_slice(&ppid.to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(payload);
        pad(out, payload.len());
    }
}

/// What a packet is answered with.
#[derive(Default)]
pub(super) struct Replies<'a> {
    init_ack: Option<(u32, u32)>,
    cookie_echo: bool,
    cookie_ack: bool,
    sack: bool,
    heartbeat: Option<&'a [u8]>,
    reset_done: Option<u32>,
    dcep_ack: bool,
}

impl Replies<'_> {
    fn is_empty(&self) -> bool {
        self.init_ack.is_none()
            && !self.cookie_echo
            && !self.cookie_ack
            && !self.sack
            && self.heartbeat.is_none()
            && self.reset_done.is_none()
    }
}

struct Chunk<'a> {
    /// Its place in the packet.
    at: usize,
    kind: u8,
    flags: u8,
    value: &'a [u8],
}

/// Iterates over the chunks of a packet; `None` for a malformed one, and then ends.
struct Chunks<'a> {
    packet: &'a [u8],
    next: usize,
}

impl<'a> Chunks<'a> {
    fn of(packet: &'a [u8]) -> Chunks<'a> {
        Chunks { packet, next: HEADER_BYTES }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Option<Chunk<'a>>;

    fn next(&mut self) -> Option<Option<Chunk<'a>>> {
        let at = std::mem::replace(&mut self.next, usize::MAX);
        let rest = self.packet.get(at..).filter(|rest| !rest.is_empty())?;
        let Some(&[kind, flags, high, low]) = rest.first_chunk::<CHUNK_HEADER_BYTES>() else { return Some(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(value) = rest.get(CHUNK_HEADER_BYTES..length) else { return Some(None) };
        if kind == chunk::DATA && length <= DATA_HEADER_BYTES {
            return Some(None);
        }
        self.next = at + length.next_multiple_of(4);
        Some(Some(Chunk { at, kind, flags, value }))
    }
}

/// Iterates over type and value of parameters (RFC 9260 §3.2.1) up to the first malformed one.
struct Parameters<'a>(&'a [u8]);

impl<'a> Iterator for Parameters<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let rest = std::mem::take(&mut self.0);
        let &[kind_high, kind_low, high, low] = rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(4..length)?;
        self.0 = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_be_bytes([kind_high, kind_low]), value))
    }
}

fn be_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

fn parameter_length(value_bytes: u16) -> u16 {
    4 + value_bytes
}

#[expect(clippy::cast_possible_truncation, reason = "the parameters made here have a few bytes")]
fn put_parameter(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&parameter_length(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

#[expect(clippy::cast_possible_truncation, reason = "what is sent fits a datagram")]
fn put_chunk(out: &mut Vec<u8>, kind: u8, flags: u8, value: &[&[u8]]) {
    let length = CHUNK_HEADER_BYTES + value.iter().map(|piece| piece.len()).sum::<usize>();
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&(length as u16).to_be_bytes());
    for piece in value {
        out.extend_from_slice(piece);
    }
    pad(out, length);
}

/// Pads a chunk or parameter of this length to four bytes (RFC 9260 §3.2).
fn pad(out: &mut Vec<u8>, length: usize) {
    let end = out.len() + length.wrapping_neg() % 4;
    out.extend_from_slice(&[0; 4]);
    out.truncate(end);
}

/// Fills in the checksum (RFC 9260 appendix A).
fn finish(packet: &mut [u8]) {
    let checksum = crc32c::crc32c(packet);
    if let Some(field) = packet.get_mut(8..12) {
        field.copy_from_slice(&checksum.to_le_bytes());
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
#[cfg(test)]
mod tests;
