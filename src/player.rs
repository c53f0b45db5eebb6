//! A player's frames: what arrives becomes inputs for the room, what the room says becomes frames.

use std::time::{Duration, Instant};

use crate::game::Link;
use crate::limits;
use crate::rate::Allowance;
use crate::wire::frame::{self, Direction, Frame, FrameError, Header, Kind, Transport};
use crate::wire::msgpack::{self, Malformed};
use crate::wire::{InflateError, Inflater};

/// What a frame of a player brought.
#[derive(Debug, PartialEq)]
pub(crate) enum Arrived {
    /// A new input; each comes once and in order.
    Input { number: u32, value: Vec<u8> },
    /// A command.
    Command(Vec<u8>),
    /// A request for missed ticks.
    Ticks { first: u32, last: u32 },
    /// A ping, to be answered.
    Ping { clock_ms: f64 },
}

/// Why a frame wasn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// It can't be read.
    Bad(BadFrame),
    /// The player sends too many; this one is lost.
    TooMany,
    /// The player sends so many that it is no accident.
    Flood,
}

impl<T: Into<BadFrame>> From<T> for NotTaken {
    fn from(error: T) -> NotTaken {
        NotTaken::Bad(error.into())
    }
}

/// Why a frame can't be read: its sender can't be understood any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadFrame {
    Frame(FrameError),
    Body(Malformed),
    Inflate(InflateError),
}

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadFrame::Frame(error) => write!(f, "its header is wrong ({error})"),
            BadFrame::Body(error) => write!(f, "its body is wrong: {error}"),
            BadFrame::Inflate(InflateError::Corrupt) => f.write_str("its body can't be inflated"),
            BadFrame::Inflate(InflateError::TooLarge) => f.write_str("its body is too large"),
        }
    }
}

impl From<FrameError> for BadFrame {
    fn from(error: FrameError) -> BadFrame {
        BadFrame::Frame(error)
    }
}

impl From<Malformed> for BadFrame {
    fn from(error: Malformed) -> BadFrame {
        BadFrame::Body(error)
    }
}

impl From<InflateError> for BadFrame {
    fn from(error: InflateError) -> BadFrame {
        BadFrame::Inflate(error)
    }
}

/// The state of one player's two lanes, both ways.
pub(crate) struct Frames {
    next_seq: u16,
    next_reliable_seq: u32,
    newest_input: u32,
    heard: Heard,
    round_trip: RoundTrip,
    next_ping: Instant,
    allowance: Allowance,
}

/// Number of a player's first input.
pub(crate) const FIRST_INPUT: u32 = 1;

impl Frames {
    pub(crate) fn new(now: Instant) -> Frames {
        Frames {
            next_seq: 0,
            next_reliable_seq: 1,
            newest_input: FIRST_INPUT - 1,
            heard: Heard::default(),
            round_trip: RoundTrip::default(),
            next_ping: now + limits::PING_INTERVAL,
            allowance: Allowance::new(limits::FRAMES_PER_SECOND, now),
        }
    }

    /// Takes a frame; what it brought is appended to `arrived`.
    pub(crate) fn handle_frame(
        &mut self,
        now: Instant,
        clock_ms: f64,
        bytes: &[u8],
        transport: Transport,
        inflater: &mut Inflater,
        arrived: &mut Vec<Arrived>,
    ) -> Result<(), NotTaken> {
        if !self.allowance.take(now) {
            return Err(if self.allowance.is_flooded() { NotTaken::Flood } else { NotTaken::TooMany });
        }
        let frame = Frame::parse(bytes, Direction::Up, transport)?;
        if let Header::Unreliable { seq, .. } = frame.header {
            self.heard.count(seq);
        }
        if frame.deflated {
            let mut inflated = Vec::new();
            inflater.inflate(frame.body, frame.inflated_limit(Direction::Up), &mut inflated)?;
            return Ok(self.handle_body(clock_ms, frame.kind, &inflated, arrived)?);
        }
        Ok(self.handle_body(clock_ms, frame.kind, frame.body, arrived)?)
    }

    fn handle_body(
        &mut self,
        clock_ms: f64,
        kind: Kind,
        body: &[u8],
        arrived: &mut Vec<Arrived>,
    ) -> Result<(), BadFrame> {
        msgpack::check(body)?;
        match kind {
            Kind::Input => {
                let (newest, values) = msgpack::decode_inputs(body)?;
                for (age, value) in values.into_iter().enumerate().rev() {
                    let age = u32::try_from(age).map_err(|_| Malformed::Items)?;
                    let number = newest.checked_sub(age).ok_or(Malformed::Shape)?;
                    if number > self.newest_input {
                        self.newest_input = number;
                        arrived.push(Arrived::Input { number, value: value.to_vec() });
                    }
                }
            }
            Kind::Command => arrived.push(Arrived::Command(body.to_vec())),
            Kind::Ticks => {
                let (first, last) = msgpack::decode_range(body)?;
                arrived.push(Arrived::Ticks { first, last });
            }
            Kind::Ping => arrived.push(Arrived::Ping { clock_ms: msgpack::decode_clock(body)? }),
            Kind::Pong => self.round_trip.measure(clock_ms - msgpack::decode_clock(body)?),
            Kind::State | Kind::Tick | Kind::Event | Kind::ReliableEvent => {}
        }
        Ok(())
    }

    /// The unreliable frames of a body, one after the other, each written to `buffer` and given to `send`.
    pub(crate) fn write_unreliable(
        &mut self,
        kind: Kind,
        deflated: bool,
        body: &[u8],
        consumed: u32,
        buffer: &mut Vec<u8>,
        mut send: impl FnMut(&[u8]),
    ) {
        #[expect(clippy::cast_possible_truncation, reason = "acknowledgements count mod 2¹⁶")]
        let ack = consumed as u16;
        for frame in frame::split(kind, deflated, body, self.next_seq, ack) {
            self.next_seq = self.next_seq.wrapping_add(1);
            buffer.clear();
            frame.encode(buffer);
            send(buffer);
        }
    }

    /// The reliable frame of a body.
    pub(crate) fn write_reliable(&mut self, kind: Kind, deflated: bool, body: &[u8], tick: u32) -> Vec<u8> {
        let header = Header::Reliable { seq: self.next_reliable_seq, tick };
        self.next_reliable_seq = self.next_reliable_seq.wrapping_add(1);
        let mut bytes = Vec::with_capacity(limits::RELIABLE_HEADER_BYTES + body.len());
        Frame { kind, deflated, header, body }.encode(&mut bytes);
        bytes
    }

    /// Once a second: a ping is due, and the figures of the second that has passed.
    pub(crate) fn poll_link(&mut self, now: Instant) -> Option<Link> {
        if now < self.next_ping {
            return None;
        }
        self.next_ping = now + limits::PING_INTERVAL;
        let mut link = Link::default();
        link.rtt_us = self.round_trip.smoothed_us();
        link.jitter_us = self.round_trip.variation_us();
        link.loss_permille = self.heard.take_loss_permille();
        Some(link)
    }
}

/// Smoothed as in RFC 6298 §2.
#[derive(Default)]
struct RoundTrip {
    smoothed_ms: Option<f64>,
    variation_ms: f64,
}

impl RoundTrip {
    /// Takes a measurement; what can't be one (the pinged clock was made up) is passed over.
    fn measure(&mut self, sample_ms: f64) {
        if !(0.0..10_000.0).contains(&sample_ms) {
            return;
        }
        match &mut self.smoothed_ms {
            Some(smoothed) => {
                self.variation_ms += ((*smoothed - sample_ms).abs() - self.variation_ms) / 4.0;
                *smoothed += (sample_ms - *smoothed) / 8.0;
            }
            None => {
                self.smoothed_ms = Some(sample_ms);
                self.variation_ms = sample_ms / 2.0;
            }
        }
    }

    fn smoothed_us(&self) -> u32 {
        micros(self.smoothed_ms.unwrap_or_default())
    }

    fn variation_us(&self) -> u32 {
        micros(self.variation_ms)
    }
}

fn micros(ms: f64) -> u32 {
    u32::try_from(Duration::from_secs_f64(ms.max(0.0) / 1000.0).as_micros()).unwrap_or(u32::MAX)
}

/// Which frames of a player arrived, by their sequence numbers.
#[derive(Default)]
struct Heard {
    newest: Option<u16>,
    expected: u32,
    received: u32,
}

impl Heard {
    fn count(&mut self, seq: u16) {
        let advance = match self.newest {
            None => 1,
            Some(newest) if frame::is_newer(seq, newest) => u32::from(seq.wrapping_sub(newest)),
            Some(_) => 0,
        };
        if advance > 0 {
            self.newest = Some(seq);
        }
        self.expected += advance;
        self.received += 1;
    }

    fn take_loss_permille(&mut self) -> u16 {
        let expected = std::mem::take(&mut self.expected);
        let lost = expected.saturating_sub(std::mem::take(&mut self.received));
        u16::try_from(u64::from(lost) * 1000 / u64::from(expected.max(1))).unwrap_or(1000)
    }
}
