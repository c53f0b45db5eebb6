//! A player's frames: decodes received frames into inputs of the room and encodes its outputs into frames.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::game::Link;
use crate::limits;
use crate::peer::RoundTrip;
use crate::rate::Allowance;
use crate::wire::frame::{self, Direction, Frame, FrameError, Header, Kind, Transport};
use crate::wire::msgpack::{self, Malformed};
use crate::wire::{InflateError, Inflater};

/// The content of a received frame.
#[derive(Debug, PartialEq)]
pub(crate) enum Arrived<'a> {
    /// A new input; each is reported once and in order.
    Input { number: u32, seen: u16, value: &'a [u8] },
    /// A command.
    Command(&'a [u8]),
    /// A request for missed ticks.
    Ticks { first: u32, last: u32 },
    /// A ping, to be answered.
    Ping { clock_ms: f64, padding: &'a [u8] },
}

/// The reason for not accepting a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The frame cannot be decoded.
    Bad(BadFrame),
    /// The rate limit is exceeded; the frame is dropped.
    TooMany,
    /// The rate limit is exceeded so far that the player is to be removed.
    Flood,
}

impl<T: Into<BadFrame>> From<T> for NotTaken {
    fn from(error: T) -> NotTaken {
        NotTaken::Bad(error.into())
    }
}

/// The reason why a frame cannot be decoded. The sender is removed.
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

/// A message body, shared by all recipients. Only the header differs per player.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) kind: Kind,
    pub(crate) deflated: bool,
    pub(crate) bytes: Rc<Vec<u8>>,
}

impl Body {
    pub(crate) fn plain(kind: Kind, bytes: Vec<u8>) -> Body {
        Body { kind, deflated: false, bytes: Rc::new(bytes) }
    }
}

/// Buffers of bodies. One can be used again when nobody else holds its body any more.
#[derive(Default)]
pub(crate) struct Bodies(Vec<Rc<Vec<u8>>>);

impl Bodies {
    /// About as many as a tick of one room needs.
    const KEPT: usize = 8;

    /// Returns a body with a copy of `bytes`.
    pub(crate) fn make(&mut self, kind: Kind, deflated: bool, bytes: &[u8]) -> Body {
        let shared = match self.0.iter_mut().find(|kept| Rc::strong_count(kept) == 1) {
            Some(kept) => {
                let buffer = Rc::make_mut(kept);
                buffer.clear();
                buffer.extend_from_slice(bytes);
                Rc::clone(kept)
            }
            None => {
                let fresh = Rc::new(bytes.to_vec());
                if self.0.len() < Bodies::KEPT && bytes.len() <= limits::UNRELIABLE_BODY_BYTES {
                    self.0.push(Rc::clone(&fresh));
                }
                fresh
            }
        };
        Body { kind, deflated, bytes: shared }
    }
}

/// A numbered reliable frame, encoded only when a websocket takes it.
#[derive(Clone, Debug)]
pub(crate) struct ReliableFrame {
    seq: u32,
    tick: u32,
    body: Body,
}

impl ReliableFrame {
    /// Bytes of the encoded frame.
    pub(crate) fn len(&self) -> usize {
        limits::RELIABLE_HEADER_BYTES + self.body.bytes.len()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let ReliableFrame { seq, tick, body: Body { kind, deflated, bytes: body } } = self;
        let header = Header::Reliable { seq: *seq, tick: *tick };
        let mut bytes = Vec::with_capacity(self.len());
        Frame { kind: *kind, deflated: *deflated, header, body }.encode(&mut bytes);
        bytes
    }
}

/// The state of both lanes of a player, in both directions.
pub(crate) struct Frames {
    next_seq: u16,
    next_reliable_seq: u32,
    /// Reliable frames not yet acknowledged by the player.
    unacknowledged: VecDeque<ReliableFrame>,
    unacknowledged_bytes: usize,
    /// Bytes of reliable frames, both ways, since the last acknowledgement was sent to the player.
    unreported_bytes: usize,
    newest_reliable: u32,
    newest_input: u32,
    acknowledged_states: Option<u16>,
    round_trip: RoundTrip,
    next_ping: Instant,
    allowance: Allowance,
    /// Whether it was restored, until the player is back.
    is_restored: bool,
}

/// The lanes of a player whose room is saved.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedFrames {
    next_seq: u16,
    next_reliable_seq: u32,
    /// The sequence number of each, its tick, kind, whether it is deflated, and its body.
    unacknowledged: Vec<(u32, u32, u8, bool, Vec<u8>)>,
    newest_reliable: u32,
    newest_input: u32,
}

/// Unreliable frames that may have been sent since, at most, so that the next one is taken for newer.
const SENT_SINCE_MAX: u16 = 1 << 14;

/// The number of a player's first input.
pub(crate) const FIRST_INPUT: u32 = 1;

impl Frames {
    pub(crate) fn new(now: Instant) -> Frames {
        Frames {
            next_seq: 0,
            next_reliable_seq: 1,
            unacknowledged: VecDeque::new(),
            unacknowledged_bytes: 0,
            unreported_bytes: 0,
            newest_reliable: 0,
            newest_input: FIRST_INPUT - 1,
            acknowledged_states: None,
            round_trip: RoundTrip::default(),
            next_ping: now + limits::PING_INTERVAL,
            allowance: Allowance::new(limits::FRAMES_PER_SECOND, now),
            is_restored: false,
        }
    }

    pub(crate) fn save(&self) -> SavedFrames {
        let frame = |ReliableFrame { seq, tick, body }: &ReliableFrame| {
            (*seq, *tick, body.kind as u8, body.deflated, body.bytes.to_vec())
        };
        SavedFrames {
            next_seq: self.next_seq,
            next_reliable_seq: self.next_reliable_seq,
            unacknowledged: self.unacknowledged.iter().map(frame).collect(),
            newest_reliable: self.newest_reliable,
            newest_input: self.newest_input,
        }
    }

    /// Restores what was saved, after which frames may have been sent for this long.
    pub(crate) fn restore(now: Instant, saved: SavedFrames, sent_for: Duration) -> Frames {
        let mut frames = Frames::new(now);
        let sent_since = u16::try_from(sent_for.as_millis() / 4).unwrap_or(u16::MAX).min(SENT_SINCE_MAX);
        frames.next_seq = saved.next_seq.wrapping_add(sent_since);
        frames.next_reliable_seq = saved.next_reliable_seq;
        for (seq, tick, kind, deflated, bytes) in saved.unacknowledged {
            if let Some(kind) = Kind::parse(kind) {
                let frame = ReliableFrame { seq, tick, body: Body { kind, deflated, bytes: Rc::new(bytes) } };
                frames.unacknowledged_bytes += frame.len();
                frames.unacknowledged.push_back(frame);
            }
        }
        (frames.newest_reliable, frames.newest_input) = (saved.newest_reliable, saved.newest_input);
        frames.is_restored = true;
        frames
    }

    /// A player is back whose room was restored, and has received reliable frames up to `newest`. Returns whether that
    /// is more than the room knows of: then it was saved before.
    pub(crate) fn note_return(&mut self, newest: u32) -> bool {
        let has_lost = std::mem::take(&mut self.is_restored) && newest > self.newest_made();
        if has_lost {
            self.unacknowledged.clear();
            self.unacknowledged_bytes = 0;
            self.next_reliable_seq = newest.saturating_add(1);
        }
        has_lost
    }

    /// Handles a frame and passes its content to `each`.
    pub(crate) fn handle_frame(
        &mut self,
        now: Instant,
        clock_ms: f64,
        bytes: &[u8],
        transport: Transport,
        inflater: &mut Inflater,
        each: impl FnMut(Arrived<'_>),
    ) -> Result<(), NotTaken> {
        let is_within = self.allowance.take(now);
        if self.allowance.is_flooded() {
            return Err(NotTaken::Flood);
        }
        let frame = Frame::parse(bytes, Direction::Up, transport)?;
        // Reliable frames are never dropped: too many of them are a flood.
        if !is_within && !frame.kind.is_reliable() {
            return Err(NotTaken::TooMany);
        }
        if let Header::Reliable { seq, .. } = frame.header
            && frame.kind != Kind::Ack
        {
            // A reconnected client repeats frames that were not acknowledged.
            if seq <= self.newest_reliable {
                return Ok(());
            }
            self.newest_reliable = seq;
            self.unreported_bytes += bytes.len();
        }
        if let Header::Unreliable { ack, .. } = frame.header {
            self.acknowledged_states = Some(ack);
        }
        if frame.deflated {
            let mut inflated = Vec::new();
            inflater.inflate(frame.body, frame.inflated_limit(Direction::Up), &mut inflated)?;
            return Ok(self.handle_body(clock_ms, frame.kind, &inflated, each)?);
        }
        Ok(self.handle_body(clock_ms, frame.kind, frame.body, each)?)
    }

    fn handle_body(
        &mut self,
        clock_ms: f64,
        kind: Kind,
        body: &[u8],
        mut each: impl FnMut(Arrived<'_>),
    ) -> Result<(), BadFrame> {
        match kind {
            Kind::Input => {
                let window = msgpack::decode_inputs(body)?;
                for (age, (value, &seen)) in window.values().iter().zip(window.seen()).enumerate().rev() {
                    let age = u32::try_from(age).map_err(|_| Malformed::Items)?;
                    let number = window.newest.checked_sub(age).ok_or(Malformed::Shape)?;
                    if number > self.newest_input {
                        self.newest_input = number;
                        each(Arrived::Input { number, seen, value });
                    }
                }
            }
            Kind::Command => {
                msgpack::check(body)?;
                each(Arrived::Command(body));
            }
            Kind::Ticks => {
                let (first, last) = msgpack::decode_range(body)?;
                each(Arrived::Ticks { first, last });
            }
            Kind::Ping => {
                let (clock_ms, padding) = msgpack::decode_ping(body)?;
                each(Arrived::Ping { clock_ms, padding });
            }
            Kind::Pong => self.measure(clock_ms - msgpack::decode_clock(body)?),
            Kind::Ack => self.acknowledge(msgpack::decode_ack(body)?),
            Kind::State | Kind::Tick | Kind::Event | Kind::ReliableEvent => {}
        }
        Ok(())
    }

    /// Splits a body into unreliable frames, each written to `buffer` and passed to `send`.
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

    /// Numbers a body as the next reliable frame.
    pub(crate) fn number_reliable(&mut self, body: Body, tick: u32) -> ReliableFrame {
        let frame = ReliableFrame { seq: self.next_reliable_seq, tick, body };
        self.next_reliable_seq = self.next_reliable_seq.wrapping_add(1);
        self.unacknowledged_bytes += frame.len();
        self.unreported_bytes += frame.len();
        self.unacknowledged.push_back(frame.clone());
        while self.unacknowledged_bytes > limits::UNACKNOWLEDGED_BYTES {
            self.forget_oldest();
        }
        frame
    }

    fn forget_oldest(&mut self) {
        if let Some(frame) = self.unacknowledged.pop_front() {
            self.unacknowledged_bytes -= frame.len();
        }
    }

    fn acknowledge(&mut self, newest: u32) {
        while self.unacknowledged.front().is_some_and(|frame| frame.seq <= newest) {
            self.forget_oldest();
        }
    }

    /// Returns the reliable frames after `newest`; `None` if they are no longer kept.
    pub(crate) fn missed_since(&mut self, newest: u32) -> Option<Vec<ReliableFrame>> {
        self.acknowledge(newest);
        let oldest = self.unacknowledged.front().map_or(self.next_reliable_seq, |frame| frame.seq);
        let has_all = newest.checked_add(1) == Some(oldest);
        has_all.then(|| self.unacknowledged.iter().cloned().collect())
    }

    /// Returns the number of the newest reliable frame sent.
    pub(crate) fn newest_made(&self) -> u32 {
        self.next_reliable_seq.wrapping_sub(1)
    }

    /// Returns the number of the newest reliable frame received.
    pub(crate) fn newest_reliable(&self) -> u32 {
        self.newest_reliable
    }

    /// Returns the states that the player has received according to the last unreliable frame.
    pub(crate) fn acknowledged_states(&self) -> Option<u16> {
        self.acknowledged_states
    }

    /// Returns the number of the next input, for a client that does not know it.
    pub(crate) fn next_input(&self) -> u32 {
        self.newest_input.saturating_add(1)
    }

    /// Returns whether [`Frames::write_ack`] is due before the next heartbeat: both ends keep a limited number of
    /// bytes, and the client answers with its own acknowledgement.
    pub(crate) fn needs_ack(&self) -> bool {
        self.unreported_bytes >= limits::UNACKNOWLEDGED_BYTES / 4
    }

    /// Writes a frame that acknowledges the reliable frames received.
    pub(crate) fn write_ack(&mut self, tick: u32) -> Vec<u8> {
        self.unreported_bytes = 0;
        let mut bytes = Vec::new();
        let body = msgpack::encode_ack(self.newest_reliable);
        let header = Header::Reliable { seq: 0, tick };
        Frame { kind: Kind::Ack, deflated: false, header, body: &body }.encode(&mut bytes);
        bytes
    }

    /// Returns whether a ping is due; at most once a second.
    pub(crate) fn poll_ping(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next_ping;
        if is_due {
            self.next_ping = now + limits::PING_INTERVAL;
        }
        is_due
    }

    /// Returns the link quality measured on the websocket, which loses nothing. The data channel has its own
    /// measurement.
    pub(crate) fn link(&self) -> Link {
        Link { rtt_us: self.round_trip.smoothed_us(), jitter_us: self.round_trip.variation_us(), ..Link::default() }
    }

    /// Adds the round trip of a ping. Implausible values are ignored: the client chose the clock it returned.
    fn measure(&mut self, sample_ms: f64) {
        if (0.0..10_000.0).contains(&sample_ms) {
            self.round_trip.measure(Duration::from_secs_f64(sample_ms / 1000.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;
    use crate::wire::Deflater;

    fn frames() -> (Frames, Instant) {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        (Frames::new(now), now)
    }

    fn unreliable(kind: Kind, seq: u16, deflated: bool, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame { kind, deflated, header: Header::Unreliable { part: None, seq, ack: 0 }, body }.encode(&mut bytes);
        bytes
    }

    fn reliable(kind: Kind, deflated: bool, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Frame { kind, deflated, header: Header::Reliable { seq: 1, tick: 0 }, body }.encode(&mut bytes);
        bytes
    }

    fn take(frames: &mut Frames, clock_ms: f64, bytes: &[u8]) -> Result<Vec<Arrived<'static>>, BadFrame> {
        let kept = |bytes: &[u8]| -> &'static [u8] { bytes.to_vec().leak() };
        let mut arrived = Vec::new();
        let keep = |content: Arrived<'_>| {
            arrived.push(match content {
                Arrived::Input { number, seen, value } => Arrived::Input { number, seen, value: kept(value) },
                Arrived::Command(value) => Arrived::Command(kept(value)),
                Arrived::Ticks { first, last } => Arrived::Ticks { first, last },
                Arrived::Ping { clock_ms, padding } => Arrived::Ping { clock_ms, padding: kept(padding) },
            });
        };
        let transport = Transport::WebSocket;
        let now = frames.next_ping;
        match frames.handle_frame(now, clock_ms, bytes, transport, &mut Inflater::new(), keep) {
            Ok(()) => Ok(arrived),
            Err(NotTaken::Bad(error)) => Err(error),
            Err(excess) => panic!("{excess:?}"),
        }
    }

    #[test]
    fn each_input_comes_once_and_in_order() {
        /// `(newest, how many, what is new)`
        fn check(windows: &[(u32, u32, &[u32])]) {
            // Each of another distance to the one before it, around the wrap, and some of a newer one.
            let seen = |newest: u32, age: u32| {
                [3_u16, 0, 0xffff, 0x8000, 0x8001, 40_000, 9, 0x8009][age as usize % 8]
                    .wrapping_add((newest % 2) as u16)
            };
            let (mut frames, _) = frames();
            for &(newest, count, expected) in windows {
                let values: Vec<Vec<u8>> =
                    (0..count).map(|age| msgpack::encode(&newest.wrapping_sub(age), 5).unwrap()).collect();
                let body = msgpack::encode_inputs(
                    newest,
                    (0..).map(|age| seen(newest, age)).zip(values.iter().map(Vec::as_slice)),
                );
                let arrived = take(&mut frames, 0.0, &unreliable(Kind::Input, 0, false, &body)).unwrap();
                let values: Vec<_> = expected.iter().map(|number| msgpack::encode(number, 5).unwrap()).collect();
                let inputs = expected.iter().zip(&values);
                let expected: Vec<_> = inputs
                    .map(|(&number, value)| Arrived::Input { number, seen: seen(newest, newest - number), value })
                    .collect();
                assert_eq!(arrived, expected, "{count} up to {newest}");
            }
        }
        check(&[(1, 1, &[1]), (2, 2, &[2]), (2, 2, &[]), (5, 4, &[3, 4, 5]), (4, 4, &[]), (6, 0, &[]), (6, 1, &[6])]);
        check(&[(8, 8, &[1, 2, 3, 4, 5, 6, 7, 8]), (20, 8, &[13, 14, 15, 16, 17, 18, 19, 20]), (12, 8, &[])]);
        check(&[(u32::MAX, 2, &[u32::MAX - 1, u32::MAX]), (3, 1, &[])]);
    }

    #[test]
    fn requests_are_understood_and_bad_ones_named() {
        fn check(bytes: &[u8], expected: Result<Vec<Arrived<'_>>, BadFrame>) {
            let (mut frames, _) = frames();
            assert_eq!(take(&mut frames, 0.0, bytes), expected);
        }
        let text = msgpack::encode(&"x".repeat(1_000), 2_000).unwrap();
        let mut deflated = Vec::new();
        assert!(Deflater::new().deflate(&text, &mut deflated));
        check(&reliable(Kind::Command, false, &text), Ok(vec![Arrived::Command(&text)]));
        check(&reliable(Kind::Command, true, &deflated), Ok(vec![Arrived::Command(&text)]));
        let range = msgpack::encode_range(3, u32::MAX);
        check(&reliable(Kind::Ticks, false, &range), Ok(vec![Arrived::Ticks { first: 3, last: u32::MAX }]));
        let clock = msgpack::encode_clock(1.5);
        check(&unreliable(Kind::Ping, 0, false, &clock), Ok(vec![Arrived::Ping { clock_ms: 1.5, padding: &[] }]));

        check(&[], Err(BadFrame::Frame(FrameError::Truncated)));
        check(&unreliable(Kind::State, 0, false, &clock), Err(BadFrame::Frame(FrameError::Kind)));
        check(&unreliable(Kind::Ping, 0, false, &[0x91]), Err(BadFrame::Body(Malformed::Truncated)));
        check(&unreliable(Kind::Ping, 0, false, &[0x91, 0xa0]), Err(BadFrame::Body(Malformed::Shape)));
        check(&reliable(Kind::Command, false, &[1, 2]), Err(BadFrame::Body(Malformed::Trailing)));
        check(&reliable(Kind::Command, true, &[0xff; 9]), Err(BadFrame::Inflate(InflateError::Corrupt)));
        let deep = |depth: usize| [&vec![0x91; depth - 1][..], &[0x90]].concat();
        let input = |depth| unreliable(Kind::Input, 0, false, &[&[0x93, 1, 0x91][..], &deep(depth), &[0]].concat());
        check(&input(16), Ok(vec![Arrived::Input { number: 1, seen: 0, value: &deep(16) }]));
        check(&input(17), Err(BadFrame::Body(Malformed::Depth)));
        check(&reliable(Kind::Command, false, &deep(16)), Ok(vec![Arrived::Command(&deep(16))]));
        check(&reliable(Kind::Command, false, &deep(17)), Err(BadFrame::Body(Malformed::Depth)));
        // Numbers start at 1, so there is no number 0 nor one before it.
        check(&unreliable(Kind::Input, 0, false, &[0x94, 0, 0x92, 1, 1, 0, 0]), Err(BadFrame::Body(Malformed::Shape)));
        let mut bomb = Vec::new();
        assert!(Deflater::new().deflate(&vec![0; 64 * 1024], &mut bomb));
        check(&reliable(Kind::Command, true, &bomb), Err(BadFrame::Inflate(InflateError::TooLarge)));
        check(&unreliable(Kind::Input, 0, true, &bomb), Err(BadFrame::Inflate(InflateError::TooLarge)));
    }

    #[test]
    fn frames_down_count_on_in_each_lane() {
        let (mut frames, _) = frames();
        frames.next_seq = u16::MAX;
        let mut seqs = Vec::new();
        let mut buffer = Vec::new();
        for body in [&[7; 3_000][..], &[7]] {
            frames.write_unreliable(Kind::State, false, body, 0x1_0005, &mut buffer, |bytes| {
                let frame = Frame::parse(bytes, Direction::Down, Transport::DataChannel).unwrap();
                let Header::Unreliable { seq, ack, part } = frame.header else { panic!("of the unreliable lane") };
                seqs.push((seq, ack, part.map(|part| part.index)));
            });
        }
        assert_eq!(seqs, [(u16::MAX, 5, Some(0)), (0, 5, Some(1)), (1, 5, Some(2)), (2, 5, None)]);
        for expected in [1, 2] {
            let bytes = frames.number_reliable(Body::plain(Kind::ReliableEvent, vec![1]), 9).encode();
            let frame = Frame::parse(&bytes, Direction::Down, Transport::WebSocket).unwrap();
            assert_eq!(frame.header, Header::Reliable { seq: expected, tick: 9 });
        }
    }

    #[test]
    fn pings_are_due_each_second_and_pongs_measure_the_link() {
        let (mut frames, start) = frames();
        let second = |count: u32| start + limits::PING_INTERVAL * count;
        assert!(!frames.poll_ping(second(1) - Duration::from_nanos(1)));
        assert!(frames.poll_ping(second(1)));
        assert!(!frames.poll_ping(second(1)));
        assert!(frames.poll_ping(second(2)));
        assert_eq!(frames.link(), Link::default());

        let pong = |clock| unreliable(Kind::Pong, 0, false, &msgpack::encode_clock(clock));
        take(&mut frames, 140.0, &pong(100.0)).unwrap();
        let link = frames.link();
        assert_eq!((link.rtt_us, link.jitter_us), (40_000, 20_000));
        // Implausible round trips are ignored.
        for clock in [f64::NAN, f64::INFINITY, -1e300, 1e300, 141.0] {
            take(&mut frames, 140.0, &pong(clock)).unwrap();
        }
        take(&mut frames, 180.0, &pong(100.0)).unwrap();
        let link = frames.link();
        assert_eq!((link.rtt_us, link.jitter_us), (45_000, 25_000));
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(512)
        })]

        #[test]
        fn random_frames_are_read_or_refused(
            random in prop::collection::vec(any::<u8>(), 0..40), kind in 1..8_u8, deflated: bool,
            body in prop::collection::vec(prop_oneof![Just(0x93_u8), Just(0x91), Just(1), any::<u8>()], 0..24),
        ) {
            let (mut frames, _) = frames();
            let first = kind | if deflated { 0x20 } else { 0 };
            for bytes in [random, [&[first, 0, 0, 0, 0][..], &body].concat()] {
                if let Ok(arrived) = take(&mut frames, 0.0, &bytes) {
                    prop_assert!(arrived.len() <= limits::INPUT_WINDOW);
                }
            }
        }
    }
}
