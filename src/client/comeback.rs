//! When a client whose websocket was lost tries again, and when it gives up.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

use crate::wire::codes::{CLOSE_REFUSED, ErrorCode, Leave};

/// Before the first try, at most; each further try doubles it.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
const BACKOFF_CAP: Duration = Duration::from_secs(5);
/// On top of a wait that the server asks for, at most.
const PACE_JITTER: Duration = Duration::from_millis(500);
/// How long it is tried, the waits that the server asks for not counted.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long in all.
const PATIENCE_MAX: Duration = Duration::from_secs(300);

/// The tries of one loss.
pub(super) struct Comeback {
    lost: Instant,
    ends: Instant,
    attempts: u32,
}

impl Comeback {
    pub(super) fn new(now: Instant) -> Comeback {
        Comeback { lost: now, ends: now + PATIENCE, attempts: 0 }
    }

    /// Whether a websocket that was lost after so long had brought the client back: else the tries go on.
    pub(super) fn is_over(lasted: Duration) -> bool {
        lasted > BACKOFF_CAP
    }

    /// When to try again: with full jitter, because many who were cut off together should not come back together, and
    /// not before `wait`, if the server has asked for it. `None` where it has been tried for long enough.
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

/// Whether a closed websocket leaves something to come back to, by its close code and the reason beside it.
pub(super) fn may_come_back(code: u16, reason: &str) -> bool {
    match Leave::ALL.iter().find(|leave| leave.close_code() == code) {
        Some(leave) => matches!(leave, Leave::Closed | Leave::Timeout | Leave::RoomClosed | Leave::Shutdown),
        None => code != CLOSE_REFUSED || reason == ErrorCode::RateLimited.as_str(),
    }
}
