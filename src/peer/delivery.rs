//! Whether what is sent arrives.
//!
//! A channel is alive by what it delivers, not by what it brings: datagrams may be lost one way alone. Something is
//! delivered when a SACK acknowledges more than the last one did (RFC 9260 §3.3.4), or a heartbeat is answered.
//! Where there is something to deliver and nothing was delivered for [`limits::CHANNEL_SILENCE`], the channel is
//! silent; and at once where one of the ends says that it hears nothing. After [`limits::CHANNEL_DOUBT`] without a sign
//! heartbeats ask: they find a receiver that had no reason to acknowledge, and later that the channel delivers again.
//!
//! The offering end asks by a timer. The answering end, of which there are thousands on one machine, asks with what it
//! is to send.

use std::time::{Duration, Instant};

use crate::limits;

/// Time between two heartbeats that ask.
const INTERVAL: Duration = Duration::from_millis(250);

/// What is known of a channel that may deliver nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Since when it is in doubt: another way that was heard from then on is better.
    pub doubted_from: Instant,
    /// From when on it counts as silent.
    pub from: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Since when something waits to be delivered, and nothing was.
    waits_since: Option<Instant>,
    /// When one of the ends said that it hears nothing.
    doubted_at: Option<Instant>,
    /// What was said before the channel could be heard again still arrives.
    trusted_until: Option<Instant>,
    asked_at: Option<Instant>,
}

impl Delivery {
    /// A message was sent.
    pub(super) fn handle_sent(&mut self, now: Instant) {
        self.waits_since.get_or_insert(now);
    }

    /// Something was delivered; `is_all` where nothing newer was sent.
    pub(super) fn handle_delivered(&mut self, now: Instant, is_all: bool, round_trip: Duration) {
        if self.silence().is_some_and(|silence| now >= silence.from) {
            self.trust(now, round_trip);
        }
        self.waits_since = (!is_all).then_some(now);
        self.doubted_at = None;
    }

    /// The channel has just begun to deliver: what the other end says of its silence was said before.
    pub(super) fn trust(&mut self, now: Instant, round_trip: Duration) {
        self.trusted_until = Some(now + limits::CHANNEL_DOUBT + round_trip);
    }

    /// One of the ends hears nothing.
    pub(super) fn doubt(&mut self, now: Instant) {
        if self.trusted_until.is_none_or(|until| now >= until) {
            self.doubted_at.get_or_insert(now);
        }
    }

    /// `None` where nothing waits to be delivered.
    pub(super) fn silence(&self) -> Option<Silence> {
        let waited = self.waits_since.map(|since| Silence {
            doubted_from: since + limits::CHANNEL_DOUBT,
            from: since + limits::CHANNEL_SILENCE,
        });
        self.doubted_at.map(|at| Silence { doubted_from: at, from: at }).or(waited)
    }

    /// When a heartbeat is to ask next.
    pub(super) fn asks_at(&self) -> Option<Instant> {
        let doubted_from = self.silence()?.doubted_from;
        Some(self.asked_at.map_or(doubted_from, |asked| doubted_from.max(asked + INTERVAL)))
    }

    /// Whether a heartbeat is to ask now; it is noted as sent.
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
        delivery.handle_delivered(now + 2_000 * MS, false, Duration::ZERO);
        assert!(!is_silent(&delivery, now + 2_000 * MS + limits::CHANNEL_SILENCE - MS), "progress is enough");
        assert!(is_silent(&delivery, now + 2_000 * MS + limits::CHANNEL_SILENCE), "the rest waits from then on");
        delivery.handle_delivered(now + 4_000 * MS, true, Duration::ZERO);
        assert_eq!(delivery.silence(), None);
    }

    #[test]
    fn heartbeats_ask_after_a_third_of_it_and_on_until_something_is_delivered() {
        let (mut delivery, now) = start();
        delivery.handle_sent(now);
        let asked: Vec<u32> = (0..3_000).filter(|&ms| delivery.asks(now + MS * ms)).collect();
        assert_eq!(asked, (500..3_000).step_by(250).collect::<Vec<_>>());
        delivery.handle_delivered(now + 3_000 * MS, true, Duration::ZERO);
        assert!(!delivery.asks(now + 9_000 * MS));
    }

    #[test]
    fn a_word_of_silence_counts_at_once_but_not_one_that_was_said_before_the_channel_came_back() {
        let (mut delivery, now) = start();
        delivery.doubt(now);
        assert_eq!(delivery.silence(), Some(Silence { doubted_from: now, from: now }));
        assert!(delivery.asks(now), "whether or not anything waits");
        delivery.handle_delivered(now + 100 * MS, true, 300 * MS);
        delivery.doubt(now + 899 * MS);
        assert_eq!(delivery.silence(), None);
        delivery.doubt(now + 900 * MS);
        assert!(is_silent(&delivery, now + 900 * MS));
    }
}
