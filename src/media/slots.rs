//! Who of the speakers is forwarded to a listener.

use std::time::{Duration, Instant};

use crate::game::PlayerId;

/// The level from which a packet counts as speech, in dBov (RFC 6464 §3).
const SPEECH_DBOV: i8 = -60;
/// How long a player counts as speaking after the last such packet: longer than the pauses between words.
const HOLD: Duration = Duration::from_millis(800);
/// How long a slot is silent before another speaker may take it.
const IDLE: Duration = Duration::from_millis(300);
/// How long a speaker keeps a slot while others are louder.
const TENURE: Duration = Duration::from_secs(1);
/// How much louder a speaker must be to take the slot of another.
const MARGIN_DB: f32 = 6.0;
/// The weight of the newest packet in the loudness: of 20 ms each, ten make up nine tenths of it.
const NEWEST: f32 = 0.2;

/// Whether and how loudly a player speaks, by the levels of the packets.
#[derive(Default)]
pub(crate) struct Speaker {
    spoke_at: Option<Instant>,
    loudness: f32,
}

impl Speaker {
    /// Handles the level of a packet. Returns the loudness in dBov while the player speaks. A packet without a level is
    /// speech that takes no slot of another.
    pub(super) fn hear(&mut self, now: Instant, level: Option<i8>) -> Option<f32> {
        let level = level.unwrap_or(SPEECH_DBOV);
        let was_speaking = self.is_speaking(now);
        if level >= SPEECH_DBOV {
            self.spoke_at = Some(now);
        }
        let newest = f32::from(level);
        self.loudness = if was_speaking { self.loudness + (newest - self.loudness) * NEWEST } else { newest };
        self.is_speaking(now).then_some(self.loudness)
    }

    fn is_speaking(&self, now: Instant) -> bool {
        self.spoke_at.is_some_and(|spoke_at| now < spoke_at + HOLD)
    }
}

#[derive(Clone, Copy)]
struct Holder {
    player: PlayerId,
    since: Instant,
    heard_at: Instant,
    loudness: f32,
}

/// The slots of a listener.
#[derive(Default)]
pub(super) struct Slots {
    holders: Vec<Option<Holder>>,
}

/// The slot that a speaker has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) slot: usize,
    pub(super) is_new: bool,
}

impl Slots {
    /// Sets the number of slots.
    pub(super) fn resize(&mut self, slots: usize) {
        self.holders.resize(slots, None);
    }

    /// Returns the slot of a speaker, if there is one for this loudness: the one held, a free one, the one that is
    /// silent for longest, or that of the quietest speaker.
    pub(super) fn take(&mut self, now: Instant, player: PlayerId, loudness: f32) -> Option<Grant> {
        let of = |holder: &Option<Holder>| holder.is_some_and(|holder| holder.player == player);
        if let Some(slot) = self.holders.iter().position(of) {
            if let Some(holder) = &mut self.holders[slot] {
                holder.heard_at = now;
                holder.loudness = loudness;
            }
            return Some(Grant { slot, is_new: false });
        }
        let slot = self
            .holders
            .iter()
            .position(Option::is_none)
            .or_else(|| self.longest_idle(now))
            .or_else(|| self.quieter(now, loudness))?;
        self.holders[slot] = Some(Holder { player, since: now, heard_at: now, loudness });
        Some(Grant { slot, is_new: true })
    }

    fn longest_idle(&self, now: Instant) -> Option<usize> {
        let idle = self.held().filter(|(_, holder)| holder.heard_at + IDLE <= now);
        idle.min_by_key(|(_, holder)| holder.heard_at).map(|(slot, _)| slot)
    }

    fn quieter(&self, now: Instant, loudness: f32) -> Option<usize> {
        let quieter =
            self.held().filter(|(_, holder)| holder.since + TENURE <= now && holder.loudness + MARGIN_DB < loudness);
        quieter.min_by(|(_, one), (_, other)| one.loudness.total_cmp(&other.loudness)).map(|(slot, _)| slot)
    }

    fn held(&self) -> impl Iterator<Item = (usize, Holder)> + '_ {
        self.holders.iter().enumerate().filter_map(|(slot, holder)| Some((slot, (*holder)?)))
    }

    /// Frees the slot of a player. Returns whether there was one.
    pub(super) fn release(&mut self, player: PlayerId) -> bool {
        let mut had_one = false;
        for holder in self.holders.iter_mut().filter(|holder| holder.is_some_and(|holder| holder.player == player)) {
            *holder = None;
            had_one = true;
        }
        had_one
    }

    /// The players in the slots, in the order of the sections.
    pub(super) fn players(&self) -> Vec<Option<PlayerId>> {
        self.holders.iter().map(|holder| holder.map(|holder| holder.player)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: Duration = Duration::from_millis(20);

    fn start() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        Instant::now()
    }

    fn slots(count: usize) -> Slots {
        let mut slots = Slots::default();
        slots.resize(count);
        slots
    }

    #[test]
    fn speech_is_held_over_the_pauses_between_words() {
        let (mut speaker, now) = (Speaker::default(), start());
        assert_eq!(speaker.hear(now, Some(-127)), None);
        assert_eq!(speaker.hear(now + PACKET, Some(-30)), Some(-30.0));
        assert!(speaker.hear(now + PACKET + HOLD / 2, Some(-127)).is_some());
        assert_eq!(speaker.hear(now + PACKET + HOLD, Some(-127)), None);
        assert_eq!(Speaker::default().hear(now, None), Some(f32::from(SPEECH_DBOV)));
    }

    #[test]
    fn the_loudest_are_heard_and_none_is_cut_off_for_little() {
        let (mut slots, mut now) = (slots(2), start());
        let player = PlayerId;
        assert_eq!(slots.take(now, player(1), -30.0), Some(Grant { slot: 0, is_new: true }));
        assert_eq!(slots.take(now, player(2), -40.0), Some(Grant { slot: 1, is_new: true }));
        assert_eq!(slots.take(now, player(3), -20.0), None, "both have only begun");
        for _ in 0..=TENURE.as_millis() / PACKET.as_millis() {
            now += PACKET;
            assert_eq!(slots.take(now, player(1), -30.0), Some(Grant { slot: 0, is_new: false }));
            assert_eq!(slots.take(now, player(2), -40.0), Some(Grant { slot: 1, is_new: false }));
            assert_eq!(slots.take(now, player(4), -36.0), None, "little louder");
        }
        assert_eq!(slots.take(now, player(3), -20.0), Some(Grant { slot: 1, is_new: true }));
        assert_eq!(slots.players(), [Some(player(1)), Some(player(3))]);
        assert_eq!(slots.take(now, player(2), -10.0), Some(Grant { slot: 0, is_new: true }), "1 has long spoken");
    }

    #[test]
    fn a_silent_slot_is_kept_until_another_needs_it() {
        let (mut slots, mut now) = (slots(2), start());
        slots.take(now, PlayerId(1), -20.0);
        slots.take(now + PACKET, PlayerId(2), -20.0);
        now += IDLE + PACKET;
        assert_eq!(slots.players(), [Some(PlayerId(1)), Some(PlayerId(2))]);
        assert_eq!(slots.take(now, PlayerId(3), -50.0), Some(Grant { slot: 0, is_new: true }), "silent for longest");
        assert!(slots.release(PlayerId(2)) && !slots.release(PlayerId(2)));
        assert_eq!(slots.players(), [Some(PlayerId(3)), None]);
        assert_eq!(self::slots(0).take(now, PlayerId(1), 0.0), None);
    }
}
