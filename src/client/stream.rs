//! Detects that a steady stream of states has stopped, long before the channel counts as silent.

use std::time::{Duration, Instant};

use crate::limits;

/// A stream has stopped after this time or after several intervals; losses and back-off cause shorter gaps.
const STOPPED: Duration = Duration::from_millis(250);
const MISSED: u32 = 10;
/// Fewer arrivals do not determine an interval.
const ARRIVALS: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Stream {
    newest: Option<Instant>,
    arrivals: u32,
    /// Smoothed.
    interval: Duration,
}

impl Stream {
    pub(super) fn handle_arrival(&mut self, now: Instant) {
        if let Some(before) = self.newest.replace(now) {
            let interval = (now - before).min(limits::CHANNEL_SILENCE);
            self.interval = if self.arrivals == 0 { interval } else { (self.interval * 7 + interval) / 8 };
            self.arrivals += 1;
        }
    }

    /// Returns when the stream counts as stopped unless something arrives before; `None` if it is not steady.
    pub(super) fn stops_at(&self) -> Option<Instant> {
        let patience = (self.interval * MISSED).max(STOPPED);
        let is_steady = self.arrivals >= ARRIVALS && patience < limits::CHANNEL_SILENCE;
        self.newest.filter(|_| is_steady).map(|newest| newest + patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stops_after(intervals_ms: impl IntoIterator<Item = u64>) -> Option<Duration> {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let mut now = Instant::now();
        let mut stream = Stream::default();
        stream.handle_arrival(now);
        for interval in intervals_ms {
            now += Duration::from_millis(interval);
            stream.handle_arrival(now);
        }
        stream.stops_at().map(|at| at - now)
    }

    #[test]
    fn a_stream_is_missed_after_the_time_of_several_arrivals_and_an_unsteady_one_never() {
        let ms = Duration::from_millis;
        assert_eq!(stops_after([10; 100]), Some(ms(250)));
        assert_eq!(stops_after([40; 100]), Some(ms(400)));
        assert_eq!(stops_after([100; 100]), Some(ms(1_000)));
        assert_eq!(stops_after([150; 100]), None, "the channel's silence is found as soon");
        assert_eq!(stops_after([33; 7]), None, "it has just begun");
        let after_a_pause = stops_after([33; 100].into_iter().chain([60_000]).chain([33; 40]));
        assert!(after_a_pause.is_some_and(|after| after < ms(400)), "{after_a_pause:?}");
    }
}
