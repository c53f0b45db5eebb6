//! Rate limits, and the addresses to which they apply.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};

/// A token bucket that holds one second's worth and refills evenly. It stores when it will be full instead of what is
/// left, so that nothing has to be refilled. Times are in nanoseconds since `start`.
#[derive(Debug)]
pub(crate) struct Allowance {
    start: Instant,
    /// In which one token refills.
    interval: u64,
    /// In which all tokens refill.
    period: u64,
    full_at: u64,
    /// When what was taken past the limit is paid back.
    paid_at: u64,
    used_at: u64,
}

impl Allowance {
    pub(crate) fn new(per_second: u32, now: Instant) -> Allowance {
        let interval = 1_000_000_000 / u64::from(per_second);
        Allowance { start: now, interval, period: interval * u64::from(per_second), full_at: 0, paid_at: 0, used_at: 0 }
    }

    /// Takes one token; returns `false` if none is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.take_many(now, 1)
    }

    /// Takes `count` tokens; returns `false` if fewer are left.
    pub(crate) fn take_many(&mut self, now: Instant, count: u32) -> bool {
        if !self.take_left(now, count) {
            self.paid_at = self.paid_at.max(self.used_at).saturating_add(self.interval * u64::from(count));
        }
        self.paid_at <= self.used_at
    }

    /// Takes `count` tokens if that many are left. Does not count as exceeding the limit otherwise.
    pub(crate) fn take_left(&mut self, now: Instant, count: u32) -> bool {
        let passed = now.saturating_duration_since(self.start);
        self.used_at = passed.as_secs() * 1_000_000_000 + u64::from(passed.subsec_nanos());
        let full_at = self.full_at.max(self.used_at) + self.interval * u64::from(count);
        let is_left = full_at <= self.used_at + self.period;
        if is_left {
            self.full_at = full_at;
        }
        is_left
    }

    /// Adds `count` tokens, up to one second's worth.
    pub(crate) fn grant(&mut self, count: u32) {
        let time = self.interval * u64::from(count);
        self.full_at = self.full_at.saturating_sub(time);
        self.paid_at = self.paid_at.saturating_sub(time);
    }

    /// Returns whether the excess is more than one second's worth.
    pub(crate) fn is_flooded(&self) -> bool {
        self.paid_at > self.used_at + self.period
    }
}

/// A token bucket that holds one second's worth and lends: a request is granted in full while any credit is left, and
/// the rest is owed. A small bucket can thus grant a large message, followed by a long wait.
pub(crate) struct Credit {
    per_second: u32,
    left: f64,
    filled: Instant,
}

impl Credit {
    pub(crate) fn new(per_second: u32, now: Instant) -> Credit {
        Credit { per_second, left: per_second.into(), filled: now }
    }

    /// Returns whether any credit is left.
    pub(crate) fn has_left(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.left = (self.left + passed * f64::from(self.per_second)).min(self.per_second.into());
        self.filled = now;
        self.left > 0.0
    }

    pub(crate) fn charge(&mut self, amount: usize) {
        self.left -= amount as f64;
    }
}

/// A rate with a burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    interval: Duration,
    at_once: u32,
}

impl Limit {
    pub(crate) const fn new(per_second: u32, at_once: u32) -> Limit {
        Limit { interval: Duration::from_nanos(1_000_000_000 / per_second as u64), at_once }
    }

    /// The interval between the retries of waiting clients. It leaves a fifth of the rate to new and late clients.
    pub(crate) fn slot(&self) -> Duration {
        self.interval * 5 / 4
    }
}

/// The use of a [`Limit`], stored as the time at which all of it will have been refilled. Times count from the server's
/// start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace(Duration);

impl Pace {
    /// Takes one; returns `false` if none is left.
    pub(crate) fn take(&mut self, now: Duration, limit: &Limit) -> bool {
        let is_left = self.left(now, limit) >= 1.0;
        if is_left {
            self.0 = self.0.max(now) + limit.interval;
        }
        is_left
    }

    /// Takes one, in advance if none is left now. Returns how long it is until then, or `None`, with none taken, if
    /// that is longer than `longest`.
    #[cfg(feature = "driver")]
    pub(crate) fn reserve(&mut self, now: Duration, limit: &Limit, longest: Duration) -> Option<Duration> {
        let refilled = self.0.max(now) + limit.interval;
        let wait = refilled.saturating_sub(now + limit.interval * limit.at_once);
        (wait <= longest).then(|| {
            self.0 = refilled;
            wait
        })
    }

    /// Returns how many are left.
    pub(crate) fn left(&self, now: Duration, limit: &Limit) -> f64 {
        let used = self.0.saturating_sub(now).as_secs_f64() / limit.interval.as_secs_f64();
        f64::from(limit.at_once) - used
    }
}

/// The times at which clients that came too early are told to retry, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits(Duration);

impl Waits {
    /// Returns the next wait, one slot after the last, starting over when it would exceed `longest`.
    pub(crate) fn next(&mut self, now: Duration, slot: Duration, longest: Duration) -> Duration {
        let next = self.0.max(now) + slot;
        self.0 = if next <= now + longest { next } else { now + slot };
        self.0 - now
    }

    /// Returns whether an assigned time is still in the future.
    pub(crate) fn is_pending(&self, now: Duration) -> bool {
        self.0 > now
    }

    /// Continues from this wait as if it had been the last.
    pub(crate) fn begin(&mut self, now: Duration, wait: Duration) {
        self.0 = now + wait;
    }
}

/// An exponentially decaying count: after [`Recent::MEMORY`] an event counts about a third.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recent {
    count: f64,
    at: Duration,
}

impl Recent {
    const MEMORY: Duration = Duration::from_secs(10);

    pub(crate) fn count(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.at);
        self.count * (-passed.as_secs_f64() / Recent::MEMORY.as_secs_f64()).exp()
    }

    pub(crate) fn add(&mut self, now: Duration) {
        *self = Recent { count: self.count(now) + 1.0, at: now };
    }
}

/// The rate limits of many addresses in a table of fixed size: [`limits::JOINING_ADDRESSES`] places, divided into sets.
/// A keyed hash selects the set of an address, so that an attacker cannot predict it.
///
/// If a set is full, the address in it that has used least is forgotten and starts again with its full allowance. An
/// attack from very many addresses therefore makes the limit per address more lenient, never stricter for others;
/// addresses past their limit are forgotten last. The limit for all addresses together still holds.
///
/// [`limits::JOINING_ADDRESSES`]: crate::limits::JOINING_ADDRESSES
pub(crate) struct Places {
    key: [u8; 32],
    sets: Box<[[Place; SET_PLACES]]>,
}

const SET_PLACES: usize = 8;

/// Addresses with the same hash share a place; with a keyed 64-bit hash a collision is negligible.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    hash: u64,
    /// The use of the address's own limit.
    pub(crate) pace: Pace,
    /// The use of the shared limit.
    pub(crate) recent: Recent,
    pub(crate) waits: Waits,
}

impl Places {
    /// Returns a table of `places` places, rounded down to whole sets. `key` must be secret.
    pub(crate) fn new(places: usize, key: [u8; 32]) -> Places {
        let sets = vec![[Place::default(); SET_PLACES]; (places / SET_PLACES).max(1)];
        Places { key, sets: sets.into() }
    }

    /// Returns the place of the network of `ip`.
    pub(crate) fn of(&mut self, ip: IpAddr) -> &mut Place {
        let hash = self.hash(network(ip));
        let set = usize::try_from(hash % self.sets.len() as u64).unwrap_or_default();
        let places = &mut self.sets[set];
        let known = places.iter().position(|place| place.hash == hash);
        let least = || (0..SET_PLACES).min_by_key(|&place| places[place].pace.0).unwrap_or_default();
        let index = known.unwrap_or_else(least);
        let place = &mut places[index];
        if place.hash != hash {
            *place = Place { hash, ..Place::default() };
        }
        place
    }

    fn hash(&self, network: IpAddr) -> u64 {
        let mut bytes = [0; 48];
        bytes[..32].copy_from_slice(&self.key);
        let address = match network {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        bytes[32..].copy_from_slice(&address.octets());
        let digest = digest(&SHA256, &bytes);
        digest.as_ref().iter().take(8).fold(0, |hash, &byte| hash << 8 | u64::from(byte))
    }
}

/// Returns the canonical form of an address: IPv4-mapped IPv6 (`::ffff:127.0.0.1`, RFC 4291 §2.5.5.2) becomes IPv4. All
/// addresses from outside are converted to this form.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Returns the network that counts as one address: for IPv6 the /64 assigned to one customer.
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
        let later = start + Duration::from_millis(1_400);
        assert!(!bursts.take(later), "what was too much is paid back first");
        assert!(!bursts.is_flooded());
        assert!(bursts.take(later + Duration::from_millis(200)), "and then there is some left");
        let mut many = Allowance::new(10, start);
        assert!(many.take_many(start, 10) && !many.take_many(start, 10) && !many.is_flooded());
        assert!(!many.take_many(start, 1) && many.is_flooded());
        let mut steady = Allowance::new(10, start);
        assert_eq!((0..300).filter(|&i| steady.take_left(start + Duration::from_millis(10) * i, 1)).count(), 39);
        assert!(!steady.is_flooded());
        let mut even = Allowance::new(10, start);
        assert!((0..100u32).all(|i| even.take(start + Duration::from_millis(100) * i)));
    }

    const LIMIT: Limit = Limit::new(10, 4);
    const LONGEST: Duration = Duration::from_secs(2);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_wait_is_told_once_and_ends_with_a_place() {
        let (mut pace, mut waits) = (Pace::default(), Waits::default());
        let start = Duration::from_secs(5);
        assert_eq!((0..6).filter(|_| pace.take(start, &LIMIT)).count(), 4);
        let told: Vec<Duration> = (0..16).map(|_| waits.next(start, LIMIT.slot(), LONGEST)).collect();
        assert!(told.iter().zip(1..).all(|(&wait, slot)| wait == 125 * MS * slot), "{told:?}");
        assert_eq!(waits.next(start, LIMIT.slot(), LONGEST), 125 * MS, "past the longest wait times begin anew");
        for wait in told {
            assert!(pace.take(start + wait, &LIMIT), "after {wait:?}");
        }
    }

    #[test]
    fn no_second_has_more_than_the_limit() {
        let mut pace = Pace::default();
        let at = |ms: u32| MS * ms;
        let taken: Vec<u32> = (0..5_000).filter(|&ms| pace.take(at(ms), &LIMIT)).collect();
        assert_eq!(taken.len(), 4 + 49);
        assert!(taken.iter().all(|&from| taken.iter().filter(|&&ms| (from..from + 1_000).contains(&ms)).count() <= 14));
        assert_eq!((0..10).filter(|_| pace.take(at(9_000), &LIMIT)).count(), 4, "what is not used is not saved");
    }

    #[test]
    #[cfg(feature = "driver")]
    fn who_reserves_gets_one_in_turn_or_none_at_all() {
        let (mut pace, start) = (Pace::default(), Duration::from_secs(5));
        let longest = 300 * MS;
        let waits: Vec<_> = (0..10).map(|_| pace.reserve(start, &LIMIT, longest)).collect();
        let expected = [0, 0, 0, 0, 100, 200, 300].map(|ms| Some(ms * MS));
        assert_eq!((&waits[..7], &waits[7..]), (&expected[..], &[None; 3][..]), "who is sent away takes none");
        assert_eq!(pace.reserve(start + 100 * MS, &LIMIT, longest), Some(300 * MS));
        assert!(!pace.take(start + 400 * MS, &LIMIT), "what was reserved is not given to others");
        assert_eq!(pace.reserve(start + Duration::from_secs(5), &LIMIT, longest), Some(Duration::ZERO));
    }

    #[test]
    fn credit_grants_a_large_amount_whole_and_then_nothing_until_it_is_paid_back() {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let start = Instant::now();
        let mut credit = Credit::new(100, start);
        assert!(credit.has_left(start));
        credit.charge(350);
        assert!(!credit.has_left(start + Duration::from_millis(2_499)));
        assert!(credit.has_left(start + Duration::from_millis(2_501)));
        let later = start + Duration::from_secs(100);
        assert!(credit.has_left(later));
        credit.charge(99);
        assert!(credit.has_left(later), "no more than a second's worth is saved");
        credit.charge(1);
        assert!(!credit.has_left(later));
    }

    fn ip(network: u32) -> IpAddr {
        std::net::Ipv4Addr::from(network).into()
    }

    fn take(places: &mut Places, now: Duration, ip: IpAddr) -> bool {
        places.of(ip).pace.take(now, &LIMIT)
    }

    #[test]
    fn each_network_has_its_own_pace_until_the_table_is_full() {
        let mut places = Places::new(1_024, [7; 32]);
        let now = Duration::from_secs(5);
        let ipv6 = |text: &str| text.parse::<IpAddr>().unwrap();
        let ours: Vec<bool> = (0..8).map(|n| take(&mut places, now, ipv6(&format!("2001:db8::{n:x}")))).collect();
        assert_eq!(ours, [true, true, true, true, false, false, false, false], "a /64 is one network");
        assert!(take(&mut places, now, ipv6("2001:db8:0:1::1")));
        assert!((0..4).all(|_| take(&mut places, now, ip(1))));
        assert!(!take(&mut places, now, "::ffff:0.0.0.1".parse().unwrap()), "IPv4 in either form");
        // An eighth of what there is room for.
        assert!((100..228).all(|network| (0..4).all(|_| take(&mut places, now, ip(network)))));
    }

    #[test]
    fn a_flood_from_everywhere_forgets_who_used_least_and_refuses_nobody_else() {
        let mut places = Places::new(64, [7; 32]);
        let now = Duration::from_secs(5);
        assert_eq!((0..5).filter(|_| take(&mut places, now, ip(1))).count(), 4);
        for network in 1_000..101_000 {
            assert!(take(&mut places, now, ip(network)));
        }
        assert_eq!(places.sets.len() * SET_PLACES, 64, "the table is as large as it was");
        assert!(!take(&mut places, now, ip(1)), "an address that is past the limit is remembered");
        assert!(take(&mut places, now + Duration::from_secs(1), ip(1)), "until it has passed");
    }

    #[test]
    fn another_key_is_another_table() {
        let sets = |key: u8| {
            let places = Places::new(1_024, [key; 32]);
            (0..32).map(|network| places.hash(ip(network)) % 128).collect::<Vec<_>>()
        };
        assert_ne!(sets(1), sets(2));
    }
}
