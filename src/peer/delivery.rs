//! Whether sent messages are delivered.
//!
//! Receiving does not prove that a channel works: datagrams may be lost in one direction only. A delivery is confirmed
//! when a SACK acknowledges more than the last one (RFC 9260 §3.3.4), or a heartbeat is answered. If messages wait and
//! none is delivered for [`limits::CHANNEL_SILENCE`], the channel is silent; it is silent at once if either end reports
//! that it receives nothing. After [`limits::CHANNEL_DOUBT`] heartbeats probe the channel: they reach a receiver that
//! had no reason to acknowledge, and later detect that the channel works again.
//!
//! The offering end probes with a timer. The answering end, of which a machine may have thousands, probes when it
//! sends.

use std::time::{Duration, Instant};

use crate::limits;

/// The interval between probing heartbeats.
const INTERVAL: Duration = Duration::from_millis(250);

/// The state of a channel that may not be delivering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Since when delivery is in doubt: a transport that has received since then is better.
    pub doubted_from: Instant,
    /// From when the channel counts as silent.
    pub from: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Since when messages wait and none was delivered.
    waits_since: Option<Instant>,
    /// When one of the ends reported that it receives nothing.
    doubted_at: Option<Instant>,
    /// Until when reports of silence are ignored: they were sent before the channel worked again.
    trusted_until: Option<Instant>,
    asked_at: Option<Instant>,
}

impl Delivery {
    /// Records a sent message.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.waits_since.get_or_insert(now);
    }

    /// Records a delivery. `waiting_sent_at` is when the oldest message was sent that is newer than what was delivered.
    /// It waits since the time at which it could have been confirmed: a confirmation that comes late tells nothing of
    /// what was sent since.
    pub(super) fn handle_delivered(&mut self, now: Instant, waiting_sent_at: Option<Instant>, round_trip: Duration) {
        if self.silence().is_some_and(|silence| now >= silence.from) {
            self.trust(now, round_trip);
        }
        self.waits_since = waiting_sent_at.map(|sent_at| now.min(sent_at + round_trip));
        self.doubted_at = None;
    }

    /// Records that the channel works again: reports of silence in transit are outdated.
    pub(super) fn trust(&mut self, now: Instant, round_trip: Duration) {
        self.trusted_until = Some(now + limits::CHANNEL_DOUBT + round_trip);
    }

    /// Records that one of the ends receives nothing.
    pub(super) fn doubt(&mut self, now: Instant) {
        if self.trusted_until.is_none_or(|until| now >= until) {
            self.doubted_at.get_or_insert(now);
        }
    }

    /// Returns `None` if nothing waits to be delivered.
    pub(super) fn silence(&self) -> Option<Silence> {
        let waited = self.waits_since.map(|since| Silence {
            doubted_from: since + limits::CHANNEL_DOUBT,
            from: since + limits::CHANNEL_SILENCE,
        });
        self.doubted_at.map(|at| Silence { doubted_from: at, from: at }).or(waited)
    }

    /// Returns when to send the next probing heartbeat.
    pub(super) fn asks_at(&self) -> Option<Instant> {
        let doubted_from = self.silence()?.doubted_from;
        Some(self.asked_at.map_or(doubted_from, |asked| doubted_from.max(asked + INTERVAL)))
    }

    /// Returns whether to send a probing heartbeat now, and records it as sent.
    pub(super) fn asks(&mut self, now: Instant) -> bool {
        let asks = self.asks_at().is_some_and(|at| now >= at);
        if asks {
            self.asked_at = Some(now);
        }
        asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn start() -> (Delivery, Instant) {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        (Delivery::default(), now)
    }

    fn is_silent(delivery: &Delivery, now: Instant) -> bool {
        delivery.silence().is_some_and(|silence| now >= silence.from)
    }

    #[test]
    fn silence_counts_from_the_oldest_that_waits_and_ends_with_the_first_that_is_delivered() {
        let (mut delivery, now) = start();
        assert_eq!((delivery.silence(), delivery.asks_at()), (None, None), "nothing waits");
        delivery.handle_sent(now);
        delivery.handle_sent(now + 900 * MS);
        assert!(!is_silent(&delivery, now + limits::CHANNEL_SILENCE - MS));
        assert!(is_silent(&delivery, now + limits::CHANNEL_SILENCE));
        delivery.handle_delivered(now + 2_000 * MS, Some(now + 1_950 * MS), 100 * MS);
        assert!(!is_silent(&delivery, now + 2_000 * MS + limits::CHANNEL_SILENCE - MS), "progress is enough");
        assert!(is_silent(&delivery, now + 2_000 * MS + limits::CHANNEL_SILENCE), "the rest waits from then on");
        delivery.handle_delivered(now + 4_000 * MS, None, Duration::ZERO);
        assert_eq!(delivery.silence(), None);
    }

    #[test]
    fn a_late_confirmation_of_an_old_message_does_not_make_newer_ones_seem_on_their_way() {
        let (mut delivery, now) = start();
        delivery.handle_sent(now);
        delivery.handle_delivered(now + 1_000 * MS, Some(now + 50 * MS), 30 * MS);
        assert!(!is_silent(&delivery, now + 80 * MS + limits::CHANNEL_SILENCE - MS));
        assert!(is_silent(&delivery, now + 80 * MS + limits::CHANNEL_SILENCE));
    }

    #[test]
    fn heartbeats_ask_after_a_third_of_it_and_on_until_something_is_delivered() {
        let (mut delivery, now) = start();
        delivery.handle_sent(now);
        let asked: Vec<u32> = (0..3_000).filter(|&ms| delivery.asks(now + MS * ms)).collect();
        assert_eq!(asked, (500..3_000).step_by(250).collect::<Vec<_>>());
        delivery.handle_delivered(now + 3_000 * MS, None, Duration::ZERO);
        assert!(!delivery.asks(now + 9_000 * MS));
    }

    #[test]
    fn a_word_of_silence_counts_at_once_but_not_one_that_was_said_before_the_channel_came_back() {
        let (mut delivery, now) = start();
        delivery.doubt(now);
        assert_eq!(delivery.silence(), Some(Silence { doubted_from: now, from: now }));
        assert!(delivery.asks(now), "whether or not anything waits");
        delivery.handle_delivered(now + 100 * MS, None, 300 * MS);
        delivery.doubt(now + 899 * MS);
        assert_eq!(delivery.silence(), None);
        delivery.doubt(now + 900 * MS);
        assert!(is_silent(&delivery, now + 900 * MS));
    }
}
