//! How often somebody may do something, and who counts as one.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};

/// A token bucket that holds a second's worth and fills evenly.
#[derive(Debug)]
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

/// How often something may be done, and how those who come too early are spread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    interval: Duration,
    at_once: u32,
    /// Nobody is told to wait for longer.
    longest_wait: Duration,
}

impl Limit {
    pub(crate) const fn new(per_second: u32, at_once: u32, longest_wait: Duration) -> Limit {
        Limit { interval: Duration::from_nanos(1_000_000_000 / per_second as u64), at_once, longest_wait }
    }

    /// The time between two of those who were told to wait: a fifth of the places is left to those who come unasked,
    /// and to those who are late.
    fn slot(&self) -> Duration {
        self.interval * 5 / 4
    }
}

/// What has been used of a [`Limit`], in two points of time: it needs neither a timer nor a list of those who wait.
/// All times are those since the server's start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// When all that was used will have been earned.
    used_until: Duration,
    /// The last time that somebody was told to come back.
    told: Duration,
}

impl Pace {
    /// Uses one, or says after which time to come again: each who is refused gets a time of their own, until these
    /// reach the longest wait and begin anew.
    pub(crate) fn take(&mut self, now: Duration, limit: &Limit) -> Result<(), Duration> {
        let used_until = self.used_until.max(now) + limit.interval;
        if used_until <= now + limit.interval * limit.at_once {
            self.used_until = used_until;
            return Ok(());
        }
        let next = self.told.max(now) + limit.slot();
        self.told = if next <= now + limit.longest_wait { next } else { now + limit.slot() };
        Err(self.told - now)
    }
}

/// The paces of many addresses, in a table that never grows: whoever attacks, it has [`limits::JOINING_ADDRESSES`]
/// places, each of which is in one of so many sets. The set of an address follows from a hash that nobody can foresee.
///
/// Where all places of a set are taken, the address that has used least in it is forgotten: it begins with nothing used
/// when it comes again. So an attack from very many addresses makes the limit of one address lenient, never stricter
/// for somebody else, and those who are past their limit are forgotten last; the limit of all together still holds.
///
/// [`limits::JOINING_ADDRESSES`]: crate::limits::JOINING_ADDRESSES
pub(crate) struct Paces {
    limit: Limit,
    key: [u8; 32],
    sets: Box<[[Place; SET_PLACES]]>,
}

const SET_PLACES: usize = 8;

/// Two addresses of one hash would share a place; of 64 bits that nobody can foresee none are met.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    hash: u64,
    pace: Pace,
}

impl Paces {
    /// Has `places` places, rounded down to whole sets; `key` is secret.
    pub(crate) fn new(limit: Limit, places: usize, key: [u8; 32]) -> Paces {
        let sets = vec![[Place::default(); SET_PLACES]; (places / SET_PLACES).max(1)];
        Paces { limit, key, sets: sets.into() }
    }

    /// Uses one of the network of `ip`, or says after which time to come again.
    pub(crate) fn take(&mut self, now: Duration, ip: IpAddr) -> Result<(), Duration> {
        let hash = self.hash(network(ip));
        let set = usize::try_from(hash % self.sets.len() as u64).unwrap_or_default();
        let places = &mut self.sets[set];
        let known = places.iter().position(|place| place.hash == hash);
        let least = || (0..SET_PLACES).min_by_key(|&place| places[place].pace.used_until).unwrap_or_default();
        let index = known.unwrap_or_else(least);
        let place = &mut places[index];
        if place.hash != hash {
            *place = Place { hash, pace: Pace::default() };
        }
        place.pace.take(now, &self.limit)
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

/// The one form of an address that everything else goes by: of an IPv4 address that is written as IPv6
/// (`::ffff:127.0.0.1`, RFC 4291 §2.5.5.2) that of IPv4. What takes an address from outside brings it into this form.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
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

    const LIMIT: Limit = Limit::new(10, 4, Duration::from_secs(2));
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn who_is_too_early_gets_a_time_of_their_own_and_a_place_then() {
        let mut pace = Pace::default();
        let start = Duration::from_secs(5);
        assert_eq!((0..4).filter(|_| pace.take(start, &LIMIT).is_ok()).count(), 4);
        let waits: Vec<Duration> = (0..16).map(|_| pace.take(start, &LIMIT).unwrap_err()).collect();
        assert!(waits.iter().zip(1..).all(|(&wait, slot)| wait == 125 * MS * slot), "{waits:?}");
        assert_eq!(pace.take(start, &LIMIT), Err(125 * MS), "past the longest wait times begin anew");
        for wait in waits {
            assert_eq!(pace.take(start + wait, &LIMIT), Ok(()), "after {wait:?}");
        }
    }

    #[test]
    fn no_second_has_more_than_the_limit() {
        let mut pace = Pace::default();
        let at = |ms: u32| MS * ms;
        let taken: Vec<u32> = (0..5_000).filter(|&ms| pace.take(at(ms), &LIMIT).is_ok()).collect();
        assert_eq!(taken.len(), 4 + 49);
        assert!(taken.iter().all(|&from| taken.iter().filter(|&&ms| (from..from + 1_000).contains(&ms)).count() <= 14));
        assert_eq!(
            (0..10).filter(|_| pace.take(at(9_000), &LIMIT).is_ok()).count(),
            4,
            "what is not used is not saved"
        );
    }

    fn ip(network: u32) -> IpAddr {
        std::net::Ipv4Addr::from(network).into()
    }

    #[test]
    fn each_network_has_its_own_pace_until_the_table_is_full() {
        let mut paces = Paces::new(LIMIT, 1_024, [7; 32]);
        let now = Duration::from_secs(5);
        let ipv6 = |text: &str| text.parse::<IpAddr>().unwrap();
        let ours: Vec<bool> = (0..8).map(|n| paces.take(now, ipv6(&format!("2001:db8::{n:x}"))).is_ok()).collect();
        assert_eq!(ours, [true, true, true, true, false, false, false, false], "a /64 is one network");
        assert_eq!(paces.take(now, ipv6("2001:db8:0:1::1")), Ok(()));
        assert!((0..4).all(|_| paces.take(now, ip(1)).is_ok()));
        assert_eq!(paces.take(now, "::ffff:0.0.0.1".parse().unwrap()), Err(125 * MS), "IPv4 in either form");
        // An eighth of what there is room for.
        assert!((100..228).all(|network| (0..4).all(|_| paces.take(now, ip(network)).is_ok())));
    }

    #[test]
    fn a_flood_from_everywhere_forgets_who_used_least_and_refuses_nobody_else() {
        let mut paces = Paces::new(LIMIT, 64, [7; 32]);
        let now = Duration::from_secs(5);
        assert_eq!((0..5).filter(|_| paces.take(now, ip(1)).is_ok()).count(), 4);
        for network in 1_000..101_000 {
            assert_eq!(paces.take(now, ip(network)), Ok(()));
        }
        assert_eq!(paces.sets.len() * SET_PLACES, 64, "the table is as large as it was");
        assert!(paces.take(now, ip(1)).is_err(), "who is past the limit is remembered");
        assert_eq!(paces.take(now + Duration::from_secs(1), ip(1)), Ok(()), "until it has passed");
    }

    #[test]
    fn another_key_is_another_table() {
        let sets = |key: u8| {
            let paces = Paces::new(LIMIT, 1_024, [key; 32]);
            (0..32).map(|network| paces.hash(ip(network)) % 128).collect::<Vec<_>>()
        };
        assert_ne!(sets(1), sets(2));
    }
}
