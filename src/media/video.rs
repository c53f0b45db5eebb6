//! Video on its way to one listener: which layer it is, and how its packets are numbered.
//!
//! A listener has one stream per slot, whatever is forwarded in it. So where the layer or the publisher changes, the
//! sequence numbers, timestamps and picture IDs continue, and the first packet begins a keyframe.

use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::format::{Codec, CodecSpec};
use str0m::media::Mid;
use str0m::rtp::{VideoOrientation, Vp8Descriptor, Vp8Patch};

use super::layers::{LayerId, Rates};
use crate::game::PlayerId;
use crate::limits;

/// RTP timestamps per second of video (RFC 7741 §4.1, RFC 6184 §8.2.1).
const CLOCK_RATE: u32 = 90_000;
/// The step of the timestamps where nothing has passed.
const STEP: u32 = CLOCK_RATE / 30;
/// A jump of the sequence numbers past this is no loss.
const GAP_MAX: u64 = 1_000;
/// How often another layer is chosen.
const CHOICE_INTERVAL: Duration = Duration::from_millis(500);
/// The least share of a layer's rate with which it is still sent, in percent.
const LEAST_PERCENT: u32 = 50;
/// What there must be of a higher layer's rate to change to it, in percent.
const HIGHER_PERCENT: u32 = 120;

/// A video packet of a publisher.
pub(crate) struct VideoPacket {
    pub(crate) layer: LayerId,
    pub(super) sequence: u64,
    pub(super) time: u32,
    pub(super) marker: bool,
    pub(super) begins_keyframe: bool,
    pub(super) spec: CodecSpec,
    pub(super) vp8: Option<Vp8Descriptor>,
    pub(super) orientation: Option<VideoOrientation>,
    pub(super) payload: Arc<[u8]>,
}

/// Returns the descriptor of a VP8 packet, and whether a keyframe begins with it; `None` if it can't be read.
pub(super) fn inspect(codec: Codec, payload: &[u8]) -> Option<(Option<Vp8Descriptor>, bool)> {
    if codec == Codec::Vp8 {
        let descriptor = Vp8Descriptor::parse(payload).ok()?;
        return Some((Some(descriptor), descriptor.starts_keyframe(payload)));
    }
    (codec == Codec::H264).then(|| (None, begins_h264_keyframe(payload)))
}

/// Returns whether an H.264 packet holds parameter sets, which precede a keyframe, or the beginning of an IDR picture
/// (RFC 6184 §5.2).
fn begins_h264_keyframe(payload: &[u8]) -> bool {
    const IDR: u8 = 5;
    const PARAMETERS: u8 = 7;
    const AGGREGATE: u8 = 24;
    const FRAGMENT: u8 = 28;
    let begins = |kind: u8| kind == IDR || kind == PARAMETERS;
    match payload {
        [first, rest @ ..] if first & 31 == AGGREGATE => {
            let mut rest = rest;
            while let [high, low, unit @ ..] = rest {
                if unit.first().is_some_and(|first| begins(first & 31)) {
                    return true;
                }
                rest = unit.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
            }
            false
        }
        [first, second, ..] if first & 31 == FRAGMENT => second & 128 != 0 && begins(second & 31),
        [first, ..] => begins(first & 31),
        [] => false,
    }
}

/// The numbers that a packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) sequence: u64,
    pub(super) time: u32,
    picture: Option<u16>,
    base: Option<u8>,
}

impl Numbers {
    /// Returns how the payload changes.
    pub(super) fn patch(&self, packet: &VideoPacket) -> Option<Vp8Patch> {
        let mut patch = packet.vp8?.patch();
        if let Some(picture) = self.picture {
            patch = patch.picture_id(picture);
        }
        if let Some(base) = self.base {
            patch = patch.tl0_pic_idx(base);
        }
        patch.build().ok()
    }
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Forwarded(Numbers),
    /// It is not for this listener.
    Left,
    /// Nothing can be forwarded before a keyframe of its layer.
    NeedsKeyframe,
}

/// The layer that is forwarded, and how its numbers are translated.
struct Source {
    player: PlayerId,
    layer: LayerId,
    first: (u64, u32),
    becomes: (u64, u32),
    newest: u64,
    /// What is added to the numbers of pictures.
    picture: u16,
    base: u8,
}

#[derive(Default)]
struct Stream {
    next_sequence: u64,
    time: u32,
    sent_at: Option<Instant>,
    next_picture: u16,
    next_base: u8,
    source: Option<Source>,
}

impl Stream {
    fn translate(&mut self, now: Instant, player: PlayerId, wanted: LayerId, packet: &VideoPacket) -> Fate {
        let is_of = |source: &&mut Source| source.player == player && source.layer == packet.layer;
        if let Some(source) = self.source.as_mut().filter(is_of) {
            if packet.sequence < source.first.0 {
                return Fate::Left;
            }
            if packet.sequence > source.newest + GAP_MAX {
                self.source = None;
            }
        }
        let continues = self.source.as_mut().filter(is_of).is_some();
        if !continues {
            if packet.layer != wanted {
                return Fate::Left;
            }
            if !packet.begins_keyframe {
                return Fate::NeedsKeyframe;
            }
            self.begin(now, player, packet);
        }
        let Some(source) = self.source.as_mut() else { return Fate::Left };
        let sequence = source.becomes.0 + (packet.sequence - source.first.0);
        let time = source.becomes.1.wrapping_add(packet.time.wrapping_sub(source.first.1));
        let picture = packet.vp8.and_then(|vp8| vp8.picture_id()).map(|id| source.picture.wrapping_add(id) & PICTURES);
        let base = packet.vp8.and_then(|vp8| vp8.tl0_pic_idx()).map(|id| source.base.wrapping_add(id));
        if packet.sequence >= source.newest {
            source.newest = packet.sequence;
            self.time = time;
            self.sent_at = Some(now);
            self.next_sequence = sequence + 1;
            self.next_picture = picture.map_or(self.next_picture, |picture| picture.wrapping_add(1) & PICTURES);
            self.next_base = base.map_or(self.next_base, |base| base.wrapping_add(1));
        }
        Fate::Forwarded(Numbers { sequence, time, picture, base })
    }

    fn begin(&mut self, now: Instant, player: PlayerId, packet: &VideoPacket) {
        let passed = self.sent_at.map_or(0, |sent_at| {
            let passed = now.saturating_duration_since(sent_at).as_micros() * u128::from(CLOCK_RATE) / 1_000_000;
            u32::try_from(passed).unwrap_or(u32::MAX)
        });
        let picture = packet.vp8.and_then(|vp8| vp8.picture_id()).unwrap_or_default();
        let base = packet.vp8.and_then(|vp8| vp8.tl0_pic_idx()).unwrap_or_default();
        self.source = Some(Source {
            player,
            layer: packet.layer,
            first: (packet.sequence, packet.time),
            becomes: (self.next_sequence, self.time.wrapping_add(passed.max(STEP))),
            newest: packet.sequence,
            picture: self.next_picture.wrapping_sub(picture),
            base: self.next_base.wrapping_sub(base),
        });
    }
}

/// Returns `rate` · `numerator` / `denominator`.
fn scaled(rate: u32, numerator: u32, denominator: u32) -> u32 {
    let scaled = u64::from(rate) * u64::from(numerator) / u64::from(denominator);
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

/// Picture IDs have 15 bits; 7 where the publisher sends short ones, which is not changed.
const PICTURES: u16 = 0x7FFF;

/// A slot: a section in which the client receives the video of one player.
pub(super) struct VideoSlot {
    pub(super) mid: Mid,
    player: Option<PlayerId>,
    /// `None` while the link can't take the least one.
    wanted: Option<LayerId>,
    chosen_at: Option<Instant>,
    /// The rates of the best layer, and of the one above the chosen one if there is one.
    most: u32,
    next_rate: u32,
    /// When the client last asked for a keyframe and was heeded.
    asked_at: Option<Instant>,
    stream: Stream,
}

impl VideoSlot {
    pub(super) fn new(mid: Mid) -> VideoSlot {
        VideoSlot {
            mid,
            player: None,
            wanted: None,
            chosen_at: None,
            most: 0,
            next_rate: 0,
            asked_at: None,
            stream: Stream::default(),
        }
    }

    /// Returns the rate of the best layer, in bit/s; 0 if there is no video.
    pub(super) fn most(&self) -> u32 {
        self.most
    }

    /// Returns the rate of the layer above the chosen one, in bit/s; 0 if that is the best.
    pub(super) fn next_rate(&self) -> u32 {
        self.next_rate
    }

    pub(super) fn player(&self) -> Option<PlayerId> {
        self.player
    }

    pub(super) fn assign(&mut self, player: Option<PlayerId>) {
        self.player = player;
        self.wanted = None;
        self.chosen_at = None;
        (self.most, self.next_rate) = (0, 0);
        self.stream.source = None;
    }

    /// Handles a packet of the slot's player.
    pub(super) fn take(&mut self, now: Instant, packet: &VideoPacket) -> Fate {
        let Some(player) = self.player else { return Fate::Left };
        match self.wanted {
            Some(wanted) => self.stream.translate(now, player, wanted, packet),
            None => Fate::Left,
        }
    }

    /// Returns whether a layer is to be chosen: every [`CHOICE_INTERVAL`], and when the chosen one is sent no longer.
    pub(super) fn has_to_choose(&self, now: Instant, rates: &Rates) -> bool {
        let is_over = self.wanted.is_some_and(|wanted| rates.of(wanted) == 0);
        is_over || self.chosen_at.is_none_or(|chosen_at| chosen_at + CHOICE_INTERVAL <= now)
    }

    /// Chooses the layer for `share`, the rate that the slot has, in bit/s.
    pub(super) fn choose(&mut self, now: Instant, share: u32, rates: &Rates) {
        self.chosen_at = Some(now);
        self.most = rates.most();
        let Some((best, rate)) = rates.best_within(share) else { return };
        let Some((ample, ample_rate)) = rates.best_within(scaled(share, 100, HIGHER_PERCENT)) else { return };
        let current = self.wanted.map(|layer| (layer, rates.of(layer))).filter(|&(_, rate)| rate > 0);
        self.wanted = match current {
            Some((_, current_rate)) if current_rate < ample_rate => Some(ample),
            Some((current, current_rate)) if current_rate <= share => Some(current),
            _ => {
                let least = if self.wanted.is_some() { LEAST_PERCENT } else { 100 };
                (share >= scaled(rate, least, 100)).then_some(best)
            }
        };
        self.next_rate = rates.above(self.wanted);
        if self.wanted.is_none() {
            self.stream.source = None;
        }
    }

    /// Stops until the next keyframe, because packets were dropped.
    pub(super) fn interrupt(&mut self) {
        self.stream.source = None;
    }

    /// The client asks for a keyframe. Returns of whom and which layer, unless it asks too often.
    pub(super) fn take_keyframe_request(&mut self, now: Instant) -> Option<(PlayerId, LayerId)> {
        if self.asked_at.is_some_and(|asked_at| now < asked_at + limits::KEYFRAME_REQUEST_INTERVAL) {
            return None;
        }
        let source = self.stream.source.as_ref()?;
        self.asked_at = Some(now);
        Some((source.player, source.layer))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};
    use str0m::media::Frequency;

    use super::*;

    const ONE: PlayerId = PlayerId(1);
    const FRAME: Duration = Duration::from_millis(33);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        Instant::now()
    }

    /// A VP8 packet with a picture ID of 15 bits and a base layer index (RFC 7741 §4.2).
    fn packet(layer: u8, sequence: u64, time: u32, picture: u16, begins_keyframe: bool) -> VideoPacket {
        let [high, low] = (picture | 0x8000).to_be_bytes();
        let base = picture.to_be_bytes()[1];
        let payload = [0x90, 0xE0, high, low, base, 0, u8::from(!begins_keyframe), 0, 0, 0];
        let (vp8, is_keyframe) = inspect(Codec::Vp8, &payload).expect("it can be read");
        assert_eq!(is_keyframe, begins_keyframe);
        let format = str0m::format::FormatParams::default();
        VideoPacket {
            layer: LayerId(layer),
            sequence,
            time,
            marker: true,
            begins_keyframe,
            spec: CodecSpec { codec: Codec::Vp8, clock_rate: Frequency::NINETY_KHZ, channels: None, format },
            vp8,
            orientation: None,
            payload: payload.into(),
        }
    }

    #[test]
    fn another_layer_continues_the_stream_from_its_keyframe_on() {
        let (mut stream, start) = (Stream::default(), start());
        let [small, large] = [LayerId(0), LayerId(1)];
        let mut take =
            |at: u32, wanted, packet: VideoPacket| match stream.translate(start + FRAME * at, ONE, wanted, &packet) {
                Fate::Forwarded(numbers) => Some((numbers.sequence, numbers.time, numbers.picture, numbers.base)),
                Fate::Left => None,
                Fate::NeedsKeyframe => panic!("a keyframe is needed"),
            };
        let first = take(0, small, packet(0, 500, 9_000, 32_767, true)).expect("a keyframe");
        assert_eq!(first, (0, STEP, Some(0), Some(0)));
        assert_eq!(take(1, small, packet(0, 501, 12_000, 0, false)), Some((1, 2 * STEP, Some(1), Some(1))));
        assert_eq!(take(1, small, packet(1, 90, 77, 40, true)), None, "that one is not wanted");
        assert_eq!(take(2, large, packet(0, 503, 15_000, 1, false)), Some((3, 3 * STEP, Some(2), Some(2))));
        assert_eq!(take(2, large, packet(0, 502, 15_000, 1, false)), Some((2, 3 * STEP, Some(2), Some(2))), "late");
        let switched = take(3, large, packet(1, 95, 700, 45, true)).expect("a keyframe");
        assert_eq!((switched.0, switched.2, switched.3), (4, Some(3), Some(3)));
        assert!(switched.1.wrapping_sub(3 * STEP) < 2 * STEP);
        assert_eq!(take(3, large, packet(0, 504, 18_000, 2, false)), None);
        assert_eq!(take(3, large, packet(1, 94, 700, 44, false)), None, "from before the keyframe");
    }

    #[test]
    fn nothing_is_forwarded_without_a_keyframe() {
        let (mut slot, now) = (VideoSlot::new(Mid::from("v")), start());
        let rates = Rates::new([100_000]);
        slot.assign(Some(ONE));
        assert!(slot.has_to_choose(now, &rates));
        slot.choose(now, u32::MAX, &rates);
        assert!(!slot.has_to_choose(now, &rates) && slot.has_to_choose(now + CHOICE_INTERVAL, &rates));
        assert_eq!(slot.take(now, &packet(0, 1, 0, 1, false)), Fate::NeedsKeyframe);
        assert!(slot.take_keyframe_request(now).is_none(), "it is asked for already");
        assert!(matches!(slot.take(now, &packet(0, 2, 0, 2, true)), Fate::Forwarded(_)));
        assert!(matches!(slot.take(now, &packet(0, 3, 0, 3, false)), Fate::Forwarded(_)));
        assert_eq!(slot.take_keyframe_request(now), Some((ONE, LayerId(0))));
        assert_eq!(slot.take_keyframe_request(now), None, "too often");
        slot.interrupt();
        assert_eq!(slot.take(now, &packet(0, 4, 0, 4, false)), Fate::NeedsKeyframe);
        assert!(matches!(slot.take(now, &packet(0, 5, 0, 5, true)), Fate::Forwarded(_)));
        let jumped = packet(0, 5 + GAP_MAX + 1, 0, 6, false);
        assert_eq!(slot.take(now, &jumped), Fate::NeedsKeyframe, "that is no loss");
    }

    #[test]
    fn the_layer_follows_the_link_and_does_not_swing() {
        let (mut slot, mut now) = (VideoSlot::new(Mid::from("v")), start());
        let rates = Rates::new([150_000, 500_000, 1_500_000]);
        slot.assign(Some(ONE));
        let mut chosen = |share| {
            now += CHOICE_INTERVAL;
            slot.choose(now, share, &rates);
            slot.wanted.map(|layer| layer.0)
        };
        assert_eq!(chosen(100_000), None, "less than the least");
        assert_eq!(chosen(160_000), Some(0));
        assert_eq!(chosen(520_000), Some(0), "hardly more than the next");
        assert_eq!(chosen(650_000), Some(1));
        assert_eq!(chosen(1_600_000), Some(1));
        assert_eq!(chosen(510_000), Some(1));
        assert_eq!(chosen(490_000), Some(0));
        assert_eq!(chosen(80_000), Some(0), "it may get through");
        assert_eq!(chosen(70_000), None);
        assert_eq!(chosen(u32::MAX), Some(2));
        assert_eq!(chosen(160_000), Some(0));
        assert_eq!(chosen(700_000), Some(1));
    }

    #[test]
    fn the_beginning_of_a_keyframe_is_seen_in_h264() {
        for (payload, begins) in [
            (&[0x67, 0x42][..], true),
            (&[0x65, 0x88], true),
            (&[0x41, 0x9A], false),
            (&[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68], true),
            (&[0x78, 0, 1, 0x06, 0, 1, 0x68], false),
            (&[0x78, 0xFF, 0xFF, 0x06], false),
            (&[0x7C, 0x85], true),
            (&[0x7C, 0x05], false),
            (&[0x7C], false),
            (&[], false),
        ] {
            assert_eq!(begins_h264_keyframe(payload), begins, "{payload:02x?}");
        }
        assert!(inspect(Codec::Vp8, &[]).is_none() && inspect(Codec::Vp9, &[0; 20]).is_none());
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(512)
        })]

        /// SRTP must not use a sequence number twice (RFC 3711 §9.1), whatever is sent.
        #[test]
        fn no_number_is_used_twice(
            packets in prop::collection::vec((1..3_u32, 0..3_u8, 0..3_u8, 0..3_000_u64, any::<bool>()), 0..200),
        ) {
            let (mut stream, now) = (Stream::default(), start());
            let (mut used, mut taken) = (BTreeSet::new(), BTreeSet::new());
            for (player, wanted, layer, sequence, begins_keyframe) in packets {
                // str0m passes no packet on twice.
                if !taken.insert((player, layer, sequence)) {
                    continue;
                }
                let packet = packet(layer, sequence, 0, 0, begins_keyframe);
                if let Fate::Forwarded(numbers) = stream.translate(now, PlayerId(player), LayerId(wanted), &packet) {
                    prop_assert!(used.insert(numbers.sequence), "{numbers:?}");
                }
            }
            let largest = used.last().copied().unwrap_or_default();
            prop_assert!(largest <= (used.len() as u64) * (GAP_MAX + 1), "{largest}");
        }
    }
}
