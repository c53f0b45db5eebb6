//! Headers of game frames, and frames in parts. The layout is drawn in [`crate::wire`].

use std::fmt;

use crate::limits;

const VERSION_SHIFT: u8 = 6;
const DEFLATED: u8 = 1 << 5;
const PARTED: u8 = 1 << 4;
const KIND: u8 = 0x0f;

/// What a frame carries; see the table in [`crate::wire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Unacknowledged inputs of a player.
    Input = 1,
    /// Asks the other end for a pong.
    Ping = 2,
    /// Answers a ping.
    Pong = 3,
    /// A state of the game.
    State = 4,
    /// The inputs of the newest ticks.
    Tick = 5,
    /// An event of the game.
    Event = 6,
    /// A command of a player.
    Command = 7,
    /// Asks for missed ticks, and answers.
    Ticks = 8,
    /// An event of the game that must arrive.
    ReliableEvent = 9,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::Input,
        Kind::Ping,
        Kind::Pong,
        Kind::State,
        Kind::Tick,
        Kind::Event,
        Kind::Command,
        Kind::Ticks,
        Kind::ReliableEvent,
    ];

    fn parse(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|&kind| kind as u8 == number)
    }

    /// Whether it belongs to the reliable lane.
    #[must_use]
    pub fn is_reliable(self) -> bool {
        matches!(self, Kind::Command | Kind::Ticks | Kind::ReliableEvent)
    }

    /// Whether it is sent that way.
    #[must_use]
    pub fn goes(self, direction: Direction) -> bool {
        match self {
            Kind::Ping | Kind::Pong | Kind::Ticks => true,
            Kind::Input | Kind::Command => direction == Direction::Up,
            Kind::State | Kind::Tick | Kind::Event | Kind::ReliableEvent => direction == Direction::Down,
        }
    }
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Up,
    /// To the player.
    Down,
}

/// On what a frame came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Carries unreliable frames only.
    DataChannel,
    /// Carries frames of both lanes.
    WebSocket,
}

/// Which part of an unreliable frame this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub index: u8,
    /// Of how many: 2 to 4.
    pub count: u8,
}

/// A frame, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: Kind,
    /// Whether its body (the whole of it, where it is parted) is deflated.
    pub deflated: bool,
    /// The fields of its lane.
    pub header: Header,
    /// Its body, or a part of it.
    pub body: &'a [u8],
}

/// What stands between the first byte and the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Of the unreliable lane.
    Unreliable {
        /// Where the frame is cut.
        part: Option<Part>,
        /// Counts frames (mod 2¹⁶).
        seq: u16,
        /// Down: the newest input consumed; up: the newest tick received (mod 2¹⁶).
        ack: u16,
    },
    /// Of the reliable lane.
    Reliable {
        /// Counts reliable messages, from 1.
        seq: u32,
        /// Down: the tick that made it; up: the newest tick received.
        tick: u32,
    },
}

/// Why a frame can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// It ends within its header.
    Truncated,
    /// It is of another version.
    Version,
    /// No such kind, or it doesn't go this way.
    Kind,
    /// A reliable kind on the data channel.
    Lane,
    /// A part that can't be: of a reliable or uplink frame, or by its numbers.
    Part,
    /// Its body is longer than it may be.
    TooLarge,
}

impl FrameError {
    /// The name under which it is counted and tested.
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
    /// Reads a frame that came that way.
    ///
    /// # Errors
    /// See [`FrameError`]; the body is not looked at.
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
        if let Header::Unreliable { part: Some(part), .. } = header {
            if part.index >= part.count || !(2..=limits::FRAME_PARTS).contains(&part.count.into()) {
                return Err(FrameError::Part);
            }
        }
        Ok(Frame { kind, deflated, header, body: rest })
    }

    /// Bytes that the body may have inflated, all parts together.
    #[must_use]
    pub fn inflated_limit(&self, direction: Direction) -> usize {
        body_limit(self.kind, direction, false)
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

/// Bytes of a body, on the wire and inflated.
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

/// The unreliable frames of one body: one, or its parts, counted from `seq`.
///
/// The body is at most [`limits::UNRELIABLE_BODY_BYTES`] long; what made it has checked that.
pub fn split(kind: Kind, deflated: bool, body: &[u8], seq: u16, ack: u16) -> impl Iterator<Item = Frame<'_>> {
    debug_assert!(body.len() <= limits::UNRELIABLE_BODY_BYTES);
    // A frame that isn't parted has one byte less of header; that byte is left unused.
    let count = u8::try_from(body.len().div_ceil(limits::PART_BODY_BYTES)).unwrap_or(u8::MAX).max(1);
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

/// Whether `a` is newer than `b`, both counting mod 2¹⁶ (RFC 1982).
#[must_use]
pub fn is_newer(a: u16, b: u16) -> bool {
    a.wrapping_sub(b).wrapping_sub(1) < 0x7fff
}

/// Frames after which an unfinished one is given up.
const STALE: u16 = 0x4000;

/// Puts parted frames together. It keeps one unfinished frame, the newest.
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
    /// Frames that were given up because a newer one began.
    #[must_use]
    pub fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// Takes an unreliable frame or part: the whole body once there is one.
    pub fn push(&mut self, frame: &Frame<'_>) -> Option<Vec<u8>> {
        let Header::Unreliable { part, seq, .. } = frame.header else { return None };
        let Some(part) = part else {
            // Half a wrap later, what was never finished would look newer than all that comes.
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
