//! The numbers of an outgoing RTP stream that carries one speaker after the other.
//!
//! A receiver takes a jump in the sequence numbers for loss, and one in the timestamps for a delay. So the sequence
//! numbers of a slot have no gap where another speaker begins or where silence was left out, and its timestamps advance
//! with the time that has passed (RFC 3550 §5.1).

use std::time::{Duration, Instant};

use crate::game::PlayerId;

/// RTP timestamps per second of Opus (RFC 7587 §4.1).
const CLOCK_RATE: u32 = 48_000;
/// The length of a packet where nothing is known.
const PACKET_SAMPLES: u32 = CLOCK_RATE / 50;
/// A gap in the sequence numbers past this is no loss.
const GAP_MAX: u64 = 100;
/// A pause after which the stream begins a new talkspurt.
const PAUSE: Duration = Duration::from_millis(200);
/// Timestamps that differ from the time that has passed by more than this are not believed.
const DRIFT_SAMPLES_MAX: u32 = 2 * CLOCK_RATE;

/// Where a packet stands in the stream of its speaker.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) sequence: u64,
    /// The newest sequence number that arrived before it.
    pub(super) follows: u64,
    pub(super) time: u32,
}

/// The numbers that a packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) sequence: u64,
    pub(super) time: u32,
    /// Whether the packet begins a talkspurt (RFC 3551 §4.1).
    pub(super) is_first: bool,
}

/// The speaker who is being forwarded, and how the numbers are translated.
struct Source {
    player: PlayerId,
    first: (u64, u32),
    becomes: (u64, u32),
    newest: u64,
    newest_time: u32,
    heard_at: Instant,
}

#[derive(Default)]
pub(super) struct Stream {
    next_sequence: u64,
    time: u32,
    sent_at: Option<Instant>,
    source: Option<Source>,
}

impl Stream {
    /// Returns the numbers that a packet gets; `None` if its place has passed.
    pub(super) fn translate(&mut self, now: Instant, player: PlayerId, place: Place) -> Option<Numbers> {
        let Place { sequence, follows, time } = place;
        let current = self.source.as_ref().filter(|source| source.player == player);
        if current.is_some_and(|source| sequence < source.first.0 && sequence + GAP_MAX >= source.first.0) {
            return None;
        }
        let continues = current.is_some_and(|source| {
            let is_next = follows == source.newest && (follows + 1..=follows + GAP_MAX).contains(&sequence);
            let is_late = (source.first.0..source.newest).contains(&sequence);
            (is_next || is_late) && now < source.heard_at + PAUSE
        });
        if !continues {
            self.begin(now, player, sequence, time);
        }
        let source = self.source.as_mut()?;
        let becomes_sequence = source.becomes.0 + (sequence - source.first.0);
        let becomes_time = source.becomes.1.wrapping_add(time.wrapping_sub(source.first.1));
        if sequence >= source.newest {
            source.newest = sequence;
            source.newest_time = time;
            source.heard_at = now;
            self.time = becomes_time;
            self.sent_at = Some(now);
            self.next_sequence = becomes_sequence + 1;
        }
        Some(Numbers { sequence: becomes_sequence, time: becomes_time, is_first: !continues })
    }

    fn begin(&mut self, now: Instant, player: PlayerId, sequence: u64, time: u32) {
        let passed = self.sent_at.map_or(0, |sent_at| samples(now.saturating_duration_since(sent_at)));
        let passed = passed.max(PACKET_SAMPLES);
        let told = self.source.as_ref().filter(|source| source.player == player);
        let told = told.map(|source| time.wrapping_sub(source.newest_time));
        let advance = told.filter(|&told| told >= 1 && told.abs_diff(passed) < DRIFT_SAMPLES_MAX).unwrap_or(passed);
        let becomes = (self.next_sequence, self.time.wrapping_add(advance));
        self.source = Some(Source {
            player,
            first: (sequence, time),
            becomes,
            newest: sequence,
            newest_time: time,
            heard_at: now,
        });
    }
}

fn samples(time: Duration) -> u32 {
    let samples = time.as_micros() * u128::from(CLOCK_RATE) / 1_000_000;
    u32::try_from(samples).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        Instant::now()
    }

    const PACKET: Duration = Duration::from_millis(20);

    #[test]
    fn speakers_follow_one_another_without_a_gap() {
        let (mut stream, now) = (Stream::default(), start());
        let (one, other) = (PlayerId(1), PlayerId(2));
        let mut at = now;
        let mut newest = 0;
        let mut say = |player, sequence, time, after: Duration| {
            at += after;
            let place = Place { sequence, follows: newest, time };
            newest = if sequence < newest && sequence + GAP_MAX > newest { newest } else { sequence };
            stream.translate(at, player, place).map(|it| (it.sequence, it.time, it.is_first))
        };
        assert_eq!(say(one, 7_000, 1_000, PACKET), Some((0, 960, true)));
        assert_eq!(say(one, 7_001, 1_960, PACKET), Some((1, 1_920, false)));
        assert_eq!(say(one, 7_003, 3_880, PACKET), Some((3, 3_840, false)), "one was lost");
        assert_eq!(say(one, 7_002, 2_920, Duration::ZERO), Some((2, 2_880, false)), "or late");
        assert_eq!(say(other, 90, u32::MAX - 10, PACKET), Some((4, 4_800, true)));
        assert_eq!(say(other, 91, 949, PACKET), Some((5, 5_760, false)), "timestamps wrap");
        assert_eq!(say(one, 7_010, 99, PACKET), Some((6, 6_720, true)));
        assert_eq!(say(one, 7_009, 1, PACKET), None, "from before the change");
        // A second of silence was left out.
        assert_eq!(say(one, 7_060, 99 + 48_000, Duration::from_secs(1)), Some((7, 54_720, true)));
        assert_eq!(say(one, 50, 5, PACKET), Some((8, 55_680, true)), "the client has begun again");
        let withheld = Place { sequence: 53, follows: 52, time: 5 + 3 * 960 };
        let numbers = stream.translate(at + PACKET, one, withheld).expect("it is new");
        assert_eq!(
            (numbers.sequence, numbers.time),
            (9, 55_680 + 3 * 960),
            "51 and 52 arrived, and were not forwarded"
        );
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(512)
        })]

        /// SRTP must not use a sequence number twice (RFC 3711 §9.1), whatever is sent.
        #[test]
        fn no_number_is_used_twice(
            packets in prop::collection::vec((1..4_u32, 0..300_u64, any::<u32>(), 0..500_u64), 0..200),
        ) {
            let (mut stream, mut now) = (Stream::default(), start());
            let (mut used, mut taken) = (BTreeSet::new(), BTreeSet::new());
            let mut newest = [0; 4];
            for (player, sequence, time, after) in packets {
                // str0m passes no packet on twice.
                if !taken.insert((player, sequence)) {
                    continue;
                }
                now += Duration::from_millis(after);
                let newest = &mut newest[player as usize];
                let place = Place { sequence, follows: *newest, time };
                *newest = sequence.max(*newest);
                if let Some(numbers) = stream.translate(now, PlayerId(player), place) {
                    prop_assert!(used.insert(numbers.sequence), "{numbers:?}");
                }
            }
            let largest = used.last().copied().unwrap_or_default();
            prop_assert!(largest <= (used.len() as u64) * (GAP_MAX + 1), "{largest}");
        }
    }
}
