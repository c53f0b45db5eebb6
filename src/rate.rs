//! How often somebody may do something, and who counts as one.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A token bucket that holds a second's worth and fills evenly.
pub(crate) struct Allowance {
    per_second: u32,
    interval: Duration,
    left: u32,
    filled: Instant,
    exceeded: u32,
}

impl Allowance {
    pub(crate) fn new(per_second: u32, now: Instant) -> Allowance {
        Allowance {
            per_second,
            interval: Duration::from_secs(1) / per_second,
            left: per_second,
            filled: now,
            exceeded: 0,
        }
    }

    /// Uses one; `false` where none is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1)
    }

    /// Uses so many; `false` where fewer are left.
    pub(crate) fn take_many(&mut self, now: Instant, count: u32) -> bool {
        self.fill(now);
        match self.left.checked_sub(count) {
            Some(left) => self.left = left,
            None => self.exceeded = self.exceeded.saturating_add(count),
        }
        self.exceeded == 0
    }

    /// Uses so many, if they are left. It is no excess where they aren't.
    pub(crate) fn take_left(&mut self, now: Instant, count: u32) -> bool {
        self.fill(now);
        let left = self.left.checked_sub(count);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        if passed >= Duration::from_secs(1) {
            self.grant(self.per_second);
            self.filled = now;
        } else if passed >= self.interval {
            let new = passed.subsec_nanos() / self.interval.subsec_nanos().max(1);
            self.grant(new);
            self.filled += self.interval * new;
        }
    }

    /// Allows so many on top, but no more at once than a second's worth.
    pub(crate) fn grant(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.per_second);
        self.exceeded = self.exceeded.saturating_sub(count);
    }

    /// Whether a second's worth has been asked for on top of what there was: no accident any more.
    pub(crate) fn is_flooded(&self) -> bool {
        self.exceeded > self.per_second
    }
}

/// What counts as one address: for IPv6 the /64 that one customer has.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_as_many_as_it_says_however_they_are_spread() {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let start = Instant::now();
        let mut bursts = Allowance::new(10, start);
        assert_eq!((0..15).filter(|_| bursts.take(start)).count(), 10);
        assert!(!bursts.is_flooded());
        assert_eq!((0..10).filter(|_| bursts.take(start)).count(), 0);
        assert!(bursts.is_flooded());
        let later = start + Duration::from_secs(2);
        assert!(!bursts.take(later), "what was too much is paid back first");
        assert!(!bursts.is_flooded());
        let mut many = Allowance::new(10, start);
        assert!(many.take_many(start, 10) && !many.take_many(start, 10) && !many.is_flooded());
        assert!(!many.take_many(start, 1) && many.is_flooded());
        let mut steady = Allowance::new(10, start);
        assert_eq!((0..300).filter(|&i| steady.take_left(start + Duration::from_millis(10) * i, 1)).count(), 39);
        assert!(!steady.is_flooded());
        let mut even = Allowance::new(10, start);
        assert!((0..100u32).all(|i| even.take(start + Duration::from_millis(100) * i)));
    }
}
