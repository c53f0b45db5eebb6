//! Reconnecting after the websocket was lost: when to try again, and when to give up.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use crate::wire::codes::{CLOSE_REFUSED, ErrorCode, Leave};

/// The maximum wait before the first attempt. It doubles with each further attempt.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_CAP: Duration = Duration::from_secs(5);
/// The maximum jitter added to a wait that the server asks for.
const PACE_JITTER: Duration = Duration::from_millis(500);
/// How long to try, not counting waits that the server asks for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to try in total.
const PATIENCE_MAX: Duration = Duration::from_secs(300);

/// The attempts after one loss.
pub(super) struct Comeback {
    lost: Instant,
    ends: Instant,
    attempts: u32,
}

impl Comeback {
    pub(super) fn new(now: Instant) -> Comeback {
        Comeback { lost: now, ends: now + PATIENCE, attempts: 0 }
    }

    /// Returns whether a websocket that lasted this long counts as a successful reconnect.
    pub(super) fn is_over(lasted: Duration) -> bool {
        lasted > BACKOFF_CAP
    }

    /// Counts an attempt that is made at once. Returns `false` if it would not be the first.
    pub(super) fn begin_at_once(&mut self) -> bool {
        let is_first = self.attempts == 0;
        self.attempts = self.attempts.max(1);
        is_first
    }

    /// Returns when to try again, with full jitter, so that clients that were cut off together do not reconnect
    /// together, and not before `wait` if the server asked for it. `None` if the attempts have taken too long.
    pub(super) fn next(&mut self, now: Instant, wait: Option<Duration>, rng: &mut impl Rng) -> Option<Instant> {
        let most = if wait.is_some() {
            PACE_JITTER
        } else {
            self.attempts += 1;
            BACKOFF_FIRST.saturating_mul(2u32.saturating_pow(self.attempts - 1)).min(BACKOFF_CAP)
        };
        let at = now + wait.unwrap_or_default() + most.mul_f64(rng.random());
        if wait.is_some() {
            self.ends = (at + PATIENCE).min(self.lost + PATIENCE_MAX);
        }
        (at <= self.ends).then_some(at)
    }
}

/// Returns whether the client may reconnect after the websocket was closed with this code and reason.
pub(super) fn may_come_back(code: u16, reason: &str) -> bool {
    match Leave::ALL.iter().find(|leave| leave.close_code() == code) {
        Some(Leave::Closed | Leave::Timeout | Leave::RoomClosed | Leave::Shutdown | Leave::Moved) => true,
        Some(_) => false,
        None => code != CLOSE_REFUSED || reason == ErrorCode::RateLimited.as_str(),
    }
}
