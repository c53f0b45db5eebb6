//! How long the calls into games take. One thread runs all rooms, so a game that takes too long is a fault of its room:
//! it is logged, then the room ticks less often, then it is closed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{RoomKey, Server};
use crate::game::Game;
use crate::limits::{STRIKES_CLOSED, STRIKES_PER_TICK, STRIKES_SLOWED, TICKS_SLOWED};
use crate::log_limit::Throttle;
use crate::wire::codes::Leave;
use crate::wire::signaling::RoomName;

/// Limits the log lines of one room about ticks over its budget.
const LOG: Throttle = Throttle::new(3, Duration::from_mins(1));

/// The calls into games, for other threads.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Calls>);

#[derive(Debug, Default)]
struct Calls {
    count: AtomicU64,
    /// The room whose game is being called; empty if none is.
    room: Mutex<String>,
}

impl Activity {
    /// Returns the name of the room whose game is being called.
    #[must_use]
    pub fn room(&self) -> Option<String> {
        let room = self.0.room.lock().unwrap_or_else(PoisonError::into_inner);
        (!room.is_empty()).then(|| room.clone())
    }

    /// Returns the number of calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    fn begin(&self, name: &str) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.room.lock().unwrap_or_else(PoisonError::into_inner).push_str(name);
    }

    fn end(&self) {
        self.0.room.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The clock and the budget of the calls.
pub(super) struct Supervision {
    clock: fn() -> Instant,
    budget: Duration,
    activity: Activity,
}

impl Supervision {
    pub(super) fn now(&self) -> Instant {
        (self.clock)()
    }

    /// A game of this room is about to be called.
    pub(super) fn begin(&self, room: &RoomName) -> Instant {
        self.activity.begin(room.as_str());
        self.now()
    }

    /// The call has returned. Returns how long it took.
    pub(super) fn end(&self, begun: Instant) -> Duration {
        self.activity.end();
        self.now().saturating_duration_since(begun)
    }
}

/// How often the ticks of one room have been over their budget lately.
pub(super) struct Overruns {
    strikes: u32,
    is_slowed: bool,
    log: Throttle,
}

impl Default for Overruns {
    fn default() -> Overruns {
        Overruns { strikes: 0, is_slowed: false, log: LOG }
    }
}

impl Overruns {
    /// The number of ticks from one that is run to the next.
    pub(super) fn stride(&self) -> u32 {
        if self.is_slowed { TICKS_SLOWED } else { 1 }
    }

    pub(super) fn is_slowed(&self) -> bool {
        self.is_slowed
    }

    /// A tick counts as often as its time exceeds the budget, up to a limit; one within the budget takes a strike back.
    fn note(&mut self, took: Duration, budget: Duration) {
        self.strikes = if took > budget {
            let times = u32::try_from(took.as_nanos() / budget.as_nanos().max(1)).unwrap_or(u32::MAX);
            self.strikes + times.min(STRIKES_PER_TICK)
        } else {
            self.strikes.saturating_sub(1)
        };
        // A room that has just recovered would soon be slowed again.
        self.is_slowed = self.strikes >= STRIKES_SLOWED || (self.is_slowed && self.strikes > 0);
    }
}

impl<G: Game> Server<G> {
    /// Measures the calls into games by this clock from now on, and lets no tick take longer than `budget` for long.
    /// Returns what tells other threads which room's game is being called.
    pub fn supervise(&mut self, clock: fn() -> Instant, budget: Duration) -> Activity {
        let activity = Activity::default();
        self.supervision = Some(Supervision { clock, budget, activity: activity.clone() });
        activity
    }

    /// Notes how long a tick of a room took, and closes the room if too many took too long.
    pub(super) fn note_tick_time(&mut self, now: Instant, key: RoomKey, took: Duration) {
        let Some(budget) = self.supervision.as_ref().map(|supervision| supervision.budget) else { return };
        let Some(hosted) = self.rooms.get_mut(key) else { return };
        let was_slowed = hosted.overruns.is_slowed;
        hosted.overruns.note(took, budget);
        if took > budget {
            self.counters.ticks_over_budget += 1;
            if let Some(left_out) = hosted.overruns.log.take(now) {
                let (took, budget) = (took.as_millis(), budget.as_millis());
                log::warn!(
                    "room {}: its game took {took} ms for a tick, over its budget of {budget} ms; a game must not wait \
                     or compute for so long{left_out}",
                    hosted.name
                );
            }
        }
        if was_slowed != hosted.overruns.is_slowed
            && let Some(left_out) = hosted.overruns.log.take(now)
        {
            let stride = hosted.overruns.stride();
            log::warn!("room {}: from now on one of {stride} ticks is run{left_out}", hosted.name);
        }
        if hosted.overruns.strikes >= STRIKES_CLOSED {
            self.counters.rooms_over_budget += 1;
            log::error!("room {}: closed, because its game takes too much time", hosted.name);
            self.end_room(now, key, Leave::RoomClosed, "The room was closed, because its game takes too much time.");
        }
    }
}
