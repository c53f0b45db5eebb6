//! The past of a value, for lag compensation.

use std::collections::{BTreeMap, VecDeque};

/// The newest past of a value, tick by tick: where everybody was when a player aimed.
///
/// Players see the others late, by half a round trip and by the delay of their interpolation. A game that judges a shot
/// by where the target is now makes players aim ahead; one that judges it by where the shooter saw the target doesn't.
/// Record what can be hit at the end of each tick, and look it up at [`Incoming::Input::seen`].
///
/// ```
/// # use std::collections::BTreeMap;
/// # use rtcade::game::{History, PlayerId};
/// let mut positions = History::new(32);
/// positions.record(1, BTreeMap::from([(PlayerId(1), [0.0, 0.0])]));
/// positions.record(2, BTreeMap::from([(PlayerId(1), [4.0, 2.0])]));
/// assert_eq!(positions.at(1.5), Some(BTreeMap::from([(PlayerId(1), [2.0, 1.0])])));
/// ```
///
/// [`Incoming::Input::seen`]: crate::game::Incoming::Input::seen
#[derive(Clone, Debug)]
pub struct History<T> {
    /// By tick, the oldest first.
    past: VecDeque<(u32, T)>,
    ticks: usize,
}

impl<T> History<T> {
    /// Returns an empty history that keeps the values of `ticks` ticks, at least one.
    ///
    /// [`SEEN_LIMIT`](crate::limits::SEEN_LIMIT) is how far back players can look.
    #[must_use]
    pub fn new(ticks: usize) -> History<T> {
        let ticks = ticks.max(1);
        History { past: VecDeque::with_capacity(ticks), ticks }
    }

    /// Adds the value at the end of a tick. It replaces the values of this tick and of later ones. The oldest is
    /// forgotten if there are too many.
    pub fn record(&mut self, tick: u32, value: T) {
        while self.past.back().is_some_and(|&(last, _)| last >= tick) {
            self.past.pop_back();
        }
        if self.past.len() == self.ticks {
            self.past.pop_front();
        }
        self.past.push_back((tick, value));
    }

    /// Returns the value at a moment, in ticks, interpolated between the ticks around it. Before the oldest tick and
    /// after the newest it is that of the oldest or the newest; `None` if nothing is recorded.
    #[must_use]
    pub fn at(&self, tick: f64) -> Option<T>
    where
        T: Interpolate,
    {
        let (before, after, part) = self.around(tick)?;
        Some(before.interpolate(after, part))
    }

    /// Returns the values of the ticks around a moment, in ticks, and how far the moment is from the first to the
    /// second, 0 to 1. Both are the same at the ends of the history.
    #[must_use]
    pub fn around(&self, tick: f64) -> Option<(&T, &T, f64)> {
        let after = self.past.partition_point(|&(at, _)| f64::from(at) <= tick);
        let (earlier, before) = self.past.get(after.saturating_sub(1))?;
        let Some((later, after)) = self.past.get(after).filter(|(later, _)| later > earlier) else {
            return Some((before, before, 0.0));
        };
        let part = (tick - f64::from(*earlier)) / f64::from(later - earlier);
        Some((before, after, part.clamp(0.0, 1.0)))
    }
}

/// A value with values between it and the next, for [`History::at`].
pub trait Interpolate {
    /// Returns the value that is `part` of the way to `next`, 0 to 1.
    #[must_use]
    fn interpolate(&self, next: &Self, part: f64) -> Self;
}

impl Interpolate for f64 {
    fn interpolate(&self, next: &f64, part: f64) -> f64 {
        self + (next - self) * part
    }
}

impl Interpolate for f32 {
    #[expect(clippy::cast_possible_truncation, reason = "between two numbers of this type")]
    fn interpolate(&self, next: &f32, part: f64) -> f32 {
        f64::from(*self).interpolate(&f64::from(*next), part) as f32
    }
}

/// Each element for itself.
impl<T: Interpolate, const N: usize> Interpolate for [T; N] {
    fn interpolate(&self, next: &[T; N], part: f64) -> [T; N] {
        std::array::from_fn(|at| self[at].interpolate(&next[at], part))
    }
}

impl<A: Interpolate, B: Interpolate> Interpolate for (A, B) {
    fn interpolate(&self, next: &(A, B), part: f64) -> (A, B) {
        (self.0.interpolate(&next.0, part), self.1.interpolate(&next.1, part))
    }
}

/// Entities by key. One that is missing in the next tick stays where it was until then; one that is new appears with
/// it.
impl<K: Clone + Ord, T: Clone + Interpolate> Interpolate for BTreeMap<K, T> {
    fn interpolate(&self, next: &BTreeMap<K, T>, part: f64) -> BTreeMap<K, T> {
        let between = |(key, value): (&K, &T)| {
            let value = next.get(key).map_or_else(|| value.clone(), |next| value.interpolate(next, part));
            (key.clone(), value)
        };
        self.iter().map(between).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_lies_between_its_ticks_also_where_some_were_skipped() {
        let mut history = History::new(3);
        assert_eq!(history.at(1.0), None);
        for (tick, value) in [(7, 70.0), (8, 80.0), (12, 160.0)] {
            history.record(tick, value);
        }
        let expected = [(0.0, 70.0), (7.0, 70.0), (7.5, 75.0), (8.0, 80.0), (9.0, 100.0), (12.0, 160.0), (99.0, 160.0)];
        for (moment, value) in expected {
            assert_eq!(history.at(moment), Some(value), "{moment}");
        }
        assert_eq!(history.at(f64::NAN), Some(70.0), "what is no number is the oldest moment");
    }

    #[test]
    fn the_oldest_ticks_are_forgotten_and_a_tick_recorded_again_replaces_what_followed() {
        let mut history = History::new(2);
        for tick in 1..=5 {
            history.record(tick, f64::from(tick));
        }
        assert_eq!((history.at(1.0), history.at(4.5)), (Some(4.0), Some(4.5)));
        history.record(4, 40.0);
        assert_eq!((history.at(3.0), history.at(5.0)), (Some(40.0), Some(40.0)));
    }

    #[test]
    fn entities_leave_and_appear_with_the_tick() {
        let before = BTreeMap::from([(1, (0.0, 0.0)), (2, (8.0, 8.0))]);
        let after = BTreeMap::from([(1, (4.0, 2.0)), (3, (9.0, 9.0))]);
        assert_eq!(before.interpolate(&after, 0.5), BTreeMap::from([(1, (2.0, 1.0)), (2, (8.0, 8.0))]));
    }
}
