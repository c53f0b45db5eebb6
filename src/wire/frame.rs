//! Headers of game frames, and frames in parts. [`crate::wire`] describes the layout.

use std::fmt;

use crate::limits;

const VERSION_SHIFT: u8 = 6;
const DEFLATED: u8 = 1 << 5;
const PARTED: u8 = 1 << 4;
const KIND: u8 = 0x0f;

/// The kind of a frame; see the table in [`crate::wire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Unacknowledged inputs of a player.
    Input = 1,
    /// Requests a pong from the other end.
    Ping = 2,
    /// Answers a ping.
    Pong = 3,
    /// A state of the game.
    State = 4,
    /// The inputs of the newest ticks.
    Tick = 5,
    /// An event of the game.
    Event = 6,
    /// A request for missed ticks, or the answer.
    Command = 7,
    /// Asks for missed ticks, and answers.
    Ticks = 8,
    /// An event of the game on the reliable lane.
    ReliableEvent = 9,
    /// Acknowledges reliable messages. It is not a reliable message itself; its `seq` is 0.
    Ack = 10,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 10] = [
        Kind::Input,
        Kind::Ping,
        Kind::Pong,
        Kind::State,
        Kind::Tick,
        Kind::Event,
        Kind::Command,
        Kind::Ticks,
        Kind::ReliableEvent,
        Kind::Ack,
    ];

    pub(crate) fn parse(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|&kind| kind as u8 == number)
    }

    /// Returns whether the kind belongs to the reliable lane.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        matches!(self, Kind::Command | Kind::Ticks | Kind::ReliableEvent | Kind::Ack)
    }

    /// Returns whether frames of this kind are sent in `direction`.
    #[must_use]
    pub fn goes(self, direction: Direction) -> bool {
        match self {
            Kind::Ping | Kind::Pong | Kind::Ticks | Kind::Ack => true,
            Kind::Input | Kind::Command => direction == Direction::Up,
            Kind::State | Kind::Tick | Kind::Event | Kind::ReliableEvent => direction == Direction::Down,
        }
    }
}

/// The direction of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Up,
    /// To the player.
    Down,
}

/// The transport that carried a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// The data channel, for unreliable frames only.
    DataChannel,
    /// The websocket, for frames of both lanes.
    WebSocket,
}

/// The position of a part in an unreliable frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The index, from 0.
    pub index: u8,
    /// The number of parts, 2 to 4.
    pub count: u8,
}

/// A frame, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The kind.
    pub kind: Kind,
    /// Whether the body (all parts together) is deflated.
    pub deflated: bool,
    /// The header of its lane.
    pub header: Header,
    /// The body, or a part of it.
    pub body: &'a [u8],
}

/// The header between the first byte and the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The header of an unreliable frame.
    Unreliable {
        /// The position, if the frame has parts.
        part: Option<Part>,
        /// The sequence number (mod 2¹⁶).
        seq: u16,
        /// From the server: the newest input consumed (mod 2¹⁶); from a client: the states received, see
        /// [`crate::wire`].
        ack: u16,
    },
    /// The header of a reliable frame.
    Reliable {
        /// The sequence number, from 1.
        seq: u32,
        /// From the server: the tick of the message; from a client: the newest tick received.
        tick: u32,
    },
}

/// Why a frame can't be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The frame ends within its header.
    Truncated,
    /// The frame has an unknown version.
    Version,
    /// The kind is unknown or not allowed in this direction.
    Kind,
    /// A reliable frame on the data channel.
    Lane,
    /// An invalid part: its numbers, or a part of a reliable frame or of one from a client.
    Part,
    /// The body exceeds its limit.
    TooLarge,
}

impl FrameError {
    /// Returns the name used in counters and tests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FrameError::Truncated => "truncated",
            FrameError::Version => "version",
            FrameError::Kind => "kind",
            FrameError::Lane => "lane",
            FrameError::Part => "part",
            FrameError::TooLarge => "too_large",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::error::Error for FrameError {}

impl<'a> Frame<'a> {
    /// Parses a frame received in this direction on this transport.
    ///
    /// # Errors
    /// See [`FrameError`]. The body is not checked.
    pub fn parse(bytes: &'a [u8], direction: Direction, transport: Transport) -> Result<Frame<'a>, FrameError> {
        let &first = bytes.first().ok_or(FrameError::Truncated)?;
        if first >> VERSION_SHIFT != 0 {
            return Err(FrameError::Version);
        }
        let kind = Kind::parse(first & KIND).ok_or(FrameError::Kind)?;
        if !kind.goes(direction) {
            return Err(FrameError::Kind);
        }
        if kind.is_reliable() && transport == Transport::DataChannel {
            return Err(FrameError::Lane);
        }
        let deflated = first & DEFLATED != 0;
        let parted = first & PARTED != 0;
        if parted && (kind.is_reliable() || direction == Direction::Up) {
            return Err(FrameError::Part);
        }
        let mut rest = &bytes[1..];
        let header = if kind.is_reliable() {
            Header::Reliable { seq: u32::from_le_bytes(take(&mut rest)?), tick: u32::from_le_bytes(take(&mut rest)?) }
        } else {
            let part = if parted {
                let [byte] = take(&mut rest)?;
                Some(Part { index: byte >> 4, count: (byte & 0x0f) + 1 })
            } else {
                None
            };
            let (seq, ack) = (u16::from_le_bytes(take(&mut rest)?), u16::from_le_bytes(take(&mut rest)?));
            Header::Unreliable { part, seq, ack }
        };
        if rest.len() > body_limit(kind, direction, parted) {
            return Err(FrameError::TooLarge);
        }
        if let Header::Unreliable { part: Some(part), .. } = header
            && (part.index >= part.count || !(2..=limits::FRAME_PARTS).contains(&part.count.into()))
        {
            return Err(FrameError::Part);
        }
        Ok(Frame { kind, deflated, header, body: rest })
    }

    /// Returns the maximum bytes of the inflated body, all parts together.
    #[must_use]
    pub fn inflated_limit(&self, direction: Direction) -> usize {
        if self.kind == Kind::State { limits::STATE_BODY_BYTES } else { body_limit(self.kind, direction, false) }
    }

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut first = self.kind as u8;
        if self.deflated {
            first |= DEFLATED;
        }
        match self.header {
            Header::Unreliable { part, seq, ack } => {
                if let Some(part) = part {
                    out.extend_from_slice(&[first | PARTED, part.index << 4 | (part.count - 1)]);
                } else {
                    out.push(first);
                }
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&ack.to_le_bytes());
            }
            Header::Reliable { seq, tick } => {
                out.push(first);
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&tick.to_le_bytes());
            }
        }
        out.extend_from_slice(self.body);
    }
}

/// Returns the maximum bytes of a body on the wire.
fn body_limit(kind: Kind, direction: Direction, parted: bool) -> usize {
    match (kind.is_reliable(), direction) {
        (true, Direction::Up) => limits::RELIABLE_UP_BYTES - limits::RELIABLE_HEADER_BYTES,
        (true, Direction::Down) => limits::RELIABLE_DOWN_BYTES,
        (false, _) if parted => limits::PART_BODY_BYTES,
        (false, _) => limits::UNRELIABLE_BODY_BYTES,
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], FrameError> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(FrameError::Truncated)?;
    *rest = left;
    Ok(*taken)
}

/// Splits a body into unreliable frames: one, or several parts with consecutive sequence numbers from `seq`.
///
/// The caller must have checked that the body has at most [`limits::UNRELIABLE_BODY_BYTES`].
pub fn split(kind: Kind, deflated: bool, body: &[u8], seq: u16, ack: u16) -> impl Iterator<Item = Frame<'_>> {
    debug_assert!(body.len() <= limits::UNRELIABLE_BODY_BYTES);
    // A frame without parts has one byte less of header; that byte is not used.
    let count = u8::try_from(parts(body)).unwrap_or(u8::MAX);
    let mut chunks = body.chunks(limits::PART_BODY_BYTES);
    (0..count).map(move |index| Frame {
        kind,
        deflated,
        header: Header::Unreliable {
            part: (count > 1).then_some(Part { index, count }),
            seq: seq.wrapping_add(index.into()),
            ack,
        },
        body: chunks.next().unwrap_or_default(),
    })
}

fn parts(body: &[u8]) -> usize {
    body.len().div_ceil(limits::PART_BODY_BYTES).max(1)
}

/// Returns the maximum bytes of a body's frames, headers included, and the number of parts.
pub(crate) fn size(body: &[u8]) -> (usize, usize) {
    let parts = parts(body);
    (body.len() + parts * limits::UNRELIABLE_HEADER_BYTES, parts)
}

/// Returns whether `a` is newer than `b` in mod 2¹⁶ arithmetic (RFC 1982).
#[must_use]
pub fn is_newer(a: u16, b: u16) -> bool {
    a.wrapping_sub(b).wrapping_sub(1) < 0x7fff
}

/// Newer frames after which an unfinished one is discarded.
const STALE: u16 = 0x4000;

/// Reassembles frames from parts. Keeps at most one unfinished frame, the newest.
#[derive(Default)]
pub struct Reassembler {
    unfinished: Option<Unfinished>,
    abandoned: u64,
}

struct Unfinished {
    kind: Kind,
    deflated: bool,
    first_seq: u16,
    parts: Vec<Option<Vec<u8>>>,
}

impl Reassembler {
    /// Returns the number of frames discarded because a newer one began.
    #[must_use]
    pub fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// Adds an unreliable frame or part. Returns the body once it is complete.
    pub fn push(&mut self, frame: &Frame<'_>) -> Option<Vec<u8>> {
        let Header::Unreliable { part, seq, .. } = frame.header else { return None };
        let Some(part) = part else {
            // Half a wrap later an unfinished frame would look newer than all others.
            if self.unfinished.as_ref().is_some_and(|old| is_newer(seq, old.first_seq.wrapping_add(STALE))) {
                self.unfinished = None;
                self.abandoned += 1;
            }
            return Some(frame.body.to_vec());
        };
        let first_seq = seq.wrapping_sub(part.index.into());
        let is_part_of = |unfinished: &Unfinished| {
            unfinished.first_seq == first_seq
                && unfinished.kind == frame.kind
                && unfinished.deflated == frame.deflated
                && unfinished.parts.len() == usize::from(part.count)
        };
        match &self.unfinished {
            Some(unfinished) if is_part_of(unfinished) => {}
            Some(unfinished) if !is_newer(first_seq, unfinished.first_seq) => return None,
            older => {
                self.abandoned += u64::from(older.is_some());
                self.unfinished = Some(Unfinished {
                    kind: frame.kind,
                    deflated: frame.deflated,
                    first_seq,
                    parts: vec![None; part.count.into()],
                });
            }
        }
        let unfinished = self.unfinished.as_mut()?;
        unfinished.parts[usize::from(part.index)] = Some(frame.body.to_vec());
        if unfinished.parts.iter().any(Option::is_none) {
            return None;
        }
        self.unfinished.take().map(|whole| whole.parts.into_iter().flatten().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    fn part(seq: u16, index: u8, count: u8, body: &[u8]) -> Frame<'_> {
        let header =
            Header::Unreliable { part: Some(Part { index, count }), seq: seq.wrapping_add(index.into()), ack: 0 };
        Frame { kind: Kind::State, deflated: false, header, body }
    }

    #[test]
    fn a_body_ends_at_its_limit() {
        fn check(first: u8, direction: Direction, limit: usize) {
            for (length, expected) in [(limit, None), (limit + 1, Some(FrameError::TooLarge))] {
                let is_reliable = first & KIND >= Kind::Command as u8;
                let header = match (is_reliable, first & PARTED != 0) {
                    (true, _) => vec![0; 8],
                    (false, true) => vec![0x01, 0, 0, 0, 0],
                    (false, false) => vec![0; 4],
                };
                let bytes = [&[first], header.as_slice(), &vec![0; length]].concat();
                let error = Frame::parse(&bytes, direction, Transport::WebSocket).err();
                assert_eq!(error, expected, "kind {first:#x} with {length} bytes");
            }
        }
        check(Kind::Input as u8, Direction::Up, 4_376);
        check(Kind::State as u8, Direction::Down, 4_376);
        check(Kind::State as u8 | PARTED, Direction::Down, 1_094);
        check(Kind::Command as u8, Direction::Up, 16 * 1024 - 9);
        check(Kind::ReliableEvent as u8, Direction::Down, 1024 * 1024);
    }

    #[test]
    fn numbers_of_parts_are_held_to_the_limit() {
        for byte in 0..=u8::MAX {
            let bytes = [Kind::State as u8 | PARTED, byte, 0, 0, 0, 0, 7];
            let (index, count) = (byte >> 4, (byte & 15) + 1);
            let possible = index < count && (2..=4).contains(&count);
            let parsed = Frame::parse(&bytes, Direction::Down, Transport::DataChannel);
            assert_eq!(parsed.err(), (!possible).then_some(FrameError::Part), "{index} of {count}");
        }
    }

    #[test]
    fn newer_counts_around_the_wrap() {
        for (a, b, expected) in [
            (1, 0, true),
            (0, 0, false),
            (0, 1, false),
            (0, u16::MAX, true),
            (u16::MAX, 0, false),
            (0x7fff, 0, true),
            (0x8000, 0, false),
        ] {
            assert_eq!(is_newer(a, b), expected, "{a} after {b}");
        }
    }

    #[test]
    fn one_unfinished_frame_is_kept_the_newest() {
        /// `(seq of the frame, index, count, whether it is whole then)`
        fn check(name: &str, parts: &[(u16, u8, u8, bool)], abandoned: u64) {
            let mut reassembler = Reassembler::default();
            for &(seq, index, count, whole) in parts {
                let body = [seq.to_le_bytes()[0], index];
                let expected: Vec<u8> = (0..count).flat_map(|index| [body[0], index]).collect();
                let got = reassembler.push(&part(seq, index, count, &body));
                assert_eq!(got, whole.then_some(expected), "{name}: part {index} of {seq}");
            }
            assert_eq!(reassembler.abandoned(), abandoned, "{name}");
        }
        check("in order", &[(0, 0, 3, false), (0, 1, 3, false), (0, 2, 3, true)], 0);
        check("reordered", &[(0, 2, 3, false), (0, 0, 3, false), (0, 1, 3, true)], 0);
        check("across the wrap", &[(u16::MAX, 0, 2, false), (u16::MAX, 1, 2, true)], 0);
        check("duplicates", &[(0, 0, 2, false), (0, 0, 2, false), (0, 1, 2, true)], 0);
        check("a lost part", &[(0, 0, 2, false), (2, 0, 2, false), (2, 1, 2, true)], 1);
        check("newer across the wrap", &[(u16::MAX, 0, 2, false), (1, 0, 2, false), (1, 1, 2, true)], 1);
        check("an older one", &[(9, 0, 2, false), (4, 0, 2, false), (4, 1, 2, false), (9, 1, 2, true)], 0);
        check("another count", &[(0, 0, 2, false), (0, 1, 3, false), (0, 2, 3, false), (0, 1, 2, true)], 0);
    }

    #[test]
    fn an_unfinished_frame_does_not_block_those_half_a_wrap_later() {
        let mut reassembler = Reassembler::default();
        assert_eq!(reassembler.push(&part(0, 0, 2, b"lost")), None);
        for seq in 1..=0x9000 {
            let header = Header::Unreliable { part: None, seq, ack: 0 };
            let frame = Frame { kind: Kind::State, deflated: false, header, body: b"whole" };
            assert_eq!(reassembler.push(&frame).as_deref(), Some(&b"whole"[..]));
        }
        assert_eq!(reassembler.push(&part(0x9001, 0, 2, b"a")), None);
        assert_eq!(reassembler.push(&part(0x9001, 1, 2, b"b")).as_deref(), Some(&b"ab"[..]));
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(512)
        })]

        #[test]
        fn what_is_split_comes_together(
            body in prop::collection::vec(any::<u8>(), 0..=limits::UNRELIABLE_BODY_BYTES), seq: u16, ack: u16,
            reversed: bool,
        ) {
            let mut datagrams: Vec<Vec<u8>> = Vec::new();
            for frame in split(Kind::Tick, true, &body, seq, ack) {
                let mut bytes = Vec::new();
                frame.encode(&mut bytes);
                prop_assert!(bytes.len() <= limits::FRAME_BYTES);
                datagrams.push(bytes);
            }
            prop_assert!(datagrams.len() <= limits::FRAME_PARTS);
            if reversed {
                datagrams.reverse();
            }
            let mut reassembler = Reassembler::default();
            let mut whole = Vec::new();
            for bytes in &datagrams {
                let frame = Frame::parse(bytes, Direction::Down, Transport::DataChannel).unwrap();
                prop_assert_eq!((frame.kind, frame.deflated), (Kind::Tick, true));
                let Header::Unreliable { ack: carried, .. } = frame.header else { unreachable!() };
                prop_assert_eq!(carried, ack);
                whole.extend(reassembler.push(&frame));
            }
            prop_assert_eq!(whole, [body]);
        }

        #[test]
        fn frames_of_random_bytes_are_read_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..32), up: bool, websocket: bool,
        ) {
            let direction = if up { Direction::Up } else { Direction::Down };
            let transport = if websocket { Transport::WebSocket } else { Transport::DataChannel };
            if let Ok(frame) = Frame::parse(&bytes, direction, transport) {
                let mut again = Vec::new();
                frame.encode(&mut again);
                prop_assert_eq!(&again, &bytes, "what is read is all that was there");
                prop_assert!(frame.kind.goes(direction));
                let header = bytes.len() - frame.body.len();
                for cut in 0..header {
                    prop_assert!(Frame::parse(&bytes[..cut], direction, transport).is_err());
                }
            }
        }

        #[test]
        fn a_reassembler_takes_any_parts(
            parts in prop::collection::vec((any::<u16>(), any::<u8>(), any::<bool>()), 0..200),
        ) {
            let mut reassembler = Reassembler::default();
            for (seq, byte, deflated) in parts {
                let [low, high] = seq.to_le_bytes();
                let first = Kind::State as u8 | PARTED | if deflated { DEFLATED } else { 0 };
                let bytes = [first, byte, low & 7, high & 1, 0, 0, 1, 2, 3];
                if let Ok(frame) = Frame::parse(&bytes, Direction::Down, Transport::DataChannel) {
                    let whole = reassembler.push(&frame).map(|body| body.len());
                    prop_assert!(whole.is_none_or(|bytes| (6..=12).contains(&bytes)));
                }
            }
        }
    }
}
