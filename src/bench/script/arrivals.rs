//! Arrival times of users: the nth arrives where the integral of the rate over all phases reaches n.
//!
//! Computed in integers, millionths of a second and of a user, so that the remainder of a phase carries over to the
//! next exactly, and no arrival is lost or duplicated at a boundary.

use std::time::Duration;

use super::{LONGEST, Load, MAX_RATE, Phase};

/// Arrivals per second are counted in millionths.
const RATE_SCALE: f64 = 1e6;
/// One user in the unit of the integral: half a millionth of a user per second, times a millionth of a second.
const USER: i128 = 2_000_000_000_000;

/// The arrival of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The time since the start of the run, in whole microseconds.
    pub at: Duration,
    /// The index of the phase.
    pub phase: usize,
}

/// Returns all arrivals of `phases` in order. At any time their number is the integral of the rate, rounded down. Rates
/// are rounded to millionths of a user per second, durations to microseconds.
pub fn arrivals(phases: &[Phase]) -> impl Iterator<Item = Arrival> {
    let mut begin = 0;
    let mut carried = 0;
    phases.iter().enumerate().flat_map(move |(index, phase)| {
        let course = Course::of(phase);
        let (at_begin, before) = (begin, carried);
        begin += course.length;
        carried = (before + course.total()) % USER;
        let users = (before + course.total()) / USER;
        (1..=users).map(move |nth| {
            let at = at_begin + course.time_of(nth * USER - before);
            Arrival { at: Duration::from_micros(u64::try_from(at).unwrap_or(u64::MAX)), phase: index }
        })
    })
}

/// Returns the number of arrivals.
#[must_use]
pub fn count(phases: &[Phase]) -> u64 {
    let total: i128 = phases.iter().map(|phase| Course::of(phase).total()).sum();
    u64::try_from(total / USER).unwrap_or(u64::MAX)
}

/// The integral over one phase: `length` times its value at `t` is `linear` × t + `square` × t².
#[derive(Clone, Copy)]
struct Course {
    /// In microseconds.
    length: i128,
    linear: i128,
    square: i128,
}

impl Course {
    fn of(phase: &Phase) -> Course {
        let length = micros(phase.duration);
        let (linear, square) = match phase.load {
            Load::Pause => (0, 0),
            Load::Rate { from, to } => (2 * scaled(from) * length, scaled(to) - scaled(from)),
            Load::Count(users) => (i128::from(users) * USER, 0),
        };
        Course { length, linear, square }
    }

    fn total(self) -> i128 {
        if self.length == 0 { 0 } else { self.linear + self.square * self.length }
    }

    /// Returns the first microsecond at which the integral is at least `value`, which it does reach.
    fn time_of(self, value: i128) -> i128 {
        let (mut low, mut high) = (0, self.length);
        while low < high {
            let middle = (low + high) / 2;
            if self.linear * middle + self.square * middle * middle < value * self.length {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        high
    }
}

fn micros(duration: Duration) -> i128 {
    i128::try_from(duration.min(LONGEST).as_micros()).expect("the longest has fewer")
}

#[expect(clippy::cast_possible_truncation, reason = "it is within the range of rates")]
fn scaled(rate: f64) -> i128 {
    (rate.clamp(0.0, MAX_RATE) * RATE_SCALE).round() as i128
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn phase(seconds: f64, load: Load) -> Phase {
        Phase { name: None, duration: Duration::from_secs_f64(seconds), load, max_vusers: None }
    }

    fn at(phases: &[Phase]) -> Vec<f64> {
        arrivals(phases).map(|arrival| arrival.at.as_secs_f64()).collect()
    }

    #[test]
    fn each_arrives_where_the_integral_says() {
        let rate = |from, to| Load::Rate { from, to };
        for (phases, expected) in [
            (vec![phase(2.0, rate(2.0, 2.0))], vec![0.5, 1.0, 1.5, 2.0]),
            // t²/4 is n.
            (vec![phase(4.0, rate(0.0, 2.0))], vec![2.0, 2.828_428, 3.464_102, 4.0]),
            (vec![phase(4.0, rate(2.0, 0.0))], vec![0.535_899, 1.171_573, 2.0, 4.0]),
            // Three quarters of a user are carried over a pause.
            (vec![phase(3.0, rate(0.25, 0.25)), phase(5.0, Load::Pause), phase(1.0, rate(1.0, 1.0))], vec![8.25]),
            (vec![phase(1.0, Load::Count(4))], vec![0.25, 0.5, 0.75, 1.0]),
            (vec![phase(1.0, rate(0.5, 0.5)), phase(1.0, Load::Count(2))], vec![1.25, 1.75]),
            (vec![phase(10.0, rate(0.1, 0.1)), phase(10.0, rate(0.2, 0.2))], vec![10.0, 15.0, 20.0]),
            (vec![phase(1.0, Load::Pause)], vec![]),
            (vec![], vec![]),
        ] {
            let found = at(&phases);
            assert_eq!(found.len(), expected.len(), "{phases:?}: {found:?}");
            assert_eq!(count(&phases), found.len() as u64, "{phases:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 2e-6, "{phases:?}: {found} for {expected}");
            }
        }
        let of_phases: Vec<_> = arrivals(&[phase(1.0, rate(1.0, 1.0)), phase(1.0, rate(1.0, 1.0))]).collect();
        assert_eq!(of_phases.iter().map(|arrival| arrival.phase).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(arrivals(&[phase(1e12, rate(f64::INFINITY, f64::NAN))]).take(3).count(), 3, "made by a program");
    }

    proptest! {
        /// Rates in thousandths, lengths in milliseconds: the integral is reckoned over them in another way.
        #[test]
        fn up_to_any_moment_as_many_arrive_as_the_integral_has_whole_users(
            phases in prop::collection::vec((0..3_u8, 1..20_000_u64, 0..40_000_u32, 0..40_000_u32), 1..6),
            moments in prop::collection::vec(0..100_000_000_u64, 1..20),
        ) {
            let phases: Vec<Phase> = phases
                .into_iter()
                .map(|(kind, millis, from, to)| {
                    let load = match kind {
                        0 => Load::Pause,
                        1 => Load::Rate { from: f64::from(from) / 1e3, to: f64::from(to) / 1e3 },
                        _ => Load::Count(from / 100),
                    };
                    Phase { name: None, duration: Duration::from_millis(millis), load, max_vusers: None }
                })
                .collect();
            let arrivals: Vec<Arrival> = arrivals(&phases).collect();
            prop_assert!(arrivals.is_sorted_by_key(|arrival| (arrival.at, arrival.phase)));
            let end: Duration = phases.iter().map(|phase| phase.duration).sum();
            let boundaries = phases.iter().scan(Duration::ZERO, |at, phase| {
                *at += phase.duration;
                Some(*at)
            });
            let own = arrivals.iter().take(50).flat_map(|a| [a.at, a.at - Duration::from_micros(1)]);
            for moment in moments.into_iter().map(Duration::from_micros).chain(boundaries).chain(own) {
                let arrived = arrivals.iter().filter(|arrival| arrival.at <= moment.min(end)).count();
                prop_assert_eq!(arrived as u128, whole_users(&phases, moment), "by {:?}", moment);
            }
            prop_assert_eq!(count(&phases), arrivals.len() as u64);
        }
    }

    /// The integral up to `moment` as a fraction over the product of all lengths.
    fn whole_users(phases: &[Phase], moment: Duration) -> u128 {
        let mut left = moment;
        // A sum of a whole part and a fraction per phase: numerator, denominator.
        let mut whole = 0_u128;
        let mut fractions: Vec<(u128, u128)> = Vec::new();
        for phase in phases {
            let length = phase.duration.as_micros();
            let t = left.min(phase.duration).as_micros();
            left = left.saturating_sub(phase.duration);
            let (numerator, denominator) = match phase.load {
                Load::Pause => (0, 1),
                Load::Count(users) => (u128::from(users) * t, length),
                Load::Rate { from, to } => {
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as given, in range")]
                    let [from, to] = [from, to].map(|rate| (rate * 1e3).round() as u128);
                    // (from × (2 length − t) + to × t) × t / (2 length), in thousandths and microseconds.
                    ((from * (2 * length - t) + to * t) * t, 2 * length * 1_000_000_000)
                }
            };
            whole += numerator / denominator;
            fractions.push((numerator % denominator, denominator));
        }
        let (mut numerator, mut denominator) = (0_u128, 1_u128);
        for (n, d) in fractions.into_iter().filter(|(n, _)| *n > 0) {
            let g = gcd(n, d);
            let (n, d) = (n / g, d / g);
            let g = gcd(denominator, d);
            numerator = numerator * (d / g) + n * (denominator / g);
            denominator *= d / g;
            whole += numerator / denominator;
            numerator %= denominator;
        }
        whole
    }

    fn gcd(a: u128, b: u128) -> u128 {
        if b == 0 { a } else { gcd(b, a % b) }
    }
}
