//! Rate limits of joins: one per address, and one of the whole server, which the addresses share fairly.
//!
//! While at least half of the server's allowance is left, every address may use it up to its own rate. Below that, the
//! less is left, the fewer joins an address may have used recently to get another. So addresses that join all the time
//! compete with each other, and a new address is still admitted. A refusal contains the time of the next attempt. Each
//! address reserves only one of the server's times at once, and further ones after it, so that addresses don't wait for
//! each other's refusals.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{ConnectionKey, Server};
use crate::game::Game;
use crate::limits;
use crate::rate::{Limit, Pace, Places, Waits};
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::Fault;

const OF_SERVER: Limit = Limit::new(limits::JOINS_PER_SECOND, limits::JOINS_AT_ONCE);
const OF_ADDRESS: Limit = Limit::new(limits::JOINS_PER_ADDRESS_PER_SECOND, limits::JOINS_PER_ADDRESS_AT_ONCE);

pub(super) struct Admission {
    of_server: Pace,
    waits: Waits,
    places: Places,
}

impl Admission {
    pub(super) fn new(key: [u8; 32]) -> Admission {
        let places = Places::new(limits::JOINING_ADDRESSES, key);
        Admission { of_server: Pace::default(), waits: Waits::default(), places }
    }

    /// Uses one join of the address, or returns the time until the next attempt. Loopback has no limit: tests and
    /// proxies that send no client address come from there.
    fn admit_address(&mut self, now: Duration, remote: IpAddr) -> Result<(), Duration> {
        if remote.is_loopback() {
            return Ok(());
        }
        let place = self.places.of(remote);
        if place.pace.take(now, &OF_ADDRESS) {
            return Ok(());
        }
        Err(place.waits.next(now, OF_ADDRESS.slot(), limits::JOIN_RETRY))
    }

    /// Uses one join of the server's allowance, or returns the time until the next attempt.
    fn admit(&mut self, now: Duration, remote: IpAddr) -> Result<(), Duration> {
        let place = (!remote.is_loopback()).then(|| self.places.of(remote));
        let left = self.of_server.left(now, &OF_SERVER);
        let recent = place.as_ref().map_or(0.0, |place| place.recent.count(now));
        if recent <= share(left) && self.of_server.take(now, &OF_SERVER) {
            if let Some(place) = place {
                place.recent.add(now);
            }
            return Ok(());
        }
        let of_server = &mut self.waits;
        let mut next = || of_server.next(now, OF_SERVER.slot(), limits::JOIN_RETRY);
        let Some(place) = place else { return Err(next()) };
        if place.waits.is_pending(now) {
            return Err(place.waits.next(now, OF_ADDRESS.slot(), limits::JOIN_RETRY));
        }
        let wait = next();
        place.waits.begin(now, wait);
        Err(wait)
    }
}

/// How many recent joins an address may have to get another, if this much of the server's allowance is left.
fn share(left: f64) -> f64 {
    let left_of_half = left / (f64::from(limits::JOINS_AT_ONCE) / 2.0);
    if left_of_half >= 1.0 { f64::INFINITY } else { left_of_half * f64::from(limits::JOINS_PER_ADDRESS_AT_ONCE) }
}

impl<G: Game> Server<G> {
    /// Counts an attempt to join against its address: a connection's first attempt, and each invalid `reconnect`.
    pub(super) fn admit_address(&mut self, now: Instant, key: ConnectionKey, is_guess: bool) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let is_counted = std::mem::replace(&mut connection.is_counted, true);
        if is_counted && !is_guess {
            return Ok(());
        }
        let taken = self.admission.admit_address(now - self.started, connection.connect.remote.ip());
        taken.map_err(|wait| too_many("Too many joins from your address.", wait))
    }

    /// Uses one join of the server's allowance. Called only for players who pass all other checks.
    pub(super) fn admit(&mut self, now: Instant, key: ConnectionKey) -> Result<(), Fault> {
        let Some(connection) = self.connections.get(key) else { return Ok(()) };
        let taken = self.admission.admit(now - self.started, connection.connect.remote.ip());
        taken.map_err(|wait| too_many("The server is receiving too many joins.", wait))
    }

    /// Counts a refused join.
    pub(super) fn count_refused_join(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::RateLimited => self.counters.refused_joins.pace += 1,
            ErrorCode::Unauthorized | ErrorCode::Expired => self.counters.refused_joins.token += 1,
            _ => {}
        }
    }

    /// Counts a refused reconnect.
    pub(super) fn count_refused_return(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::RateLimited => self.counters.refused_joins.pace += 1,
            ErrorCode::Unauthorized | ErrorCode::NoSuchSession => self.counters.refused_joins.session += 1,
            _ => {}
        }
    }
}

fn too_many(sentence: &str, wait: Duration) -> Fault {
    Fault { retry_after: Some(wait), ..Fault::new(ErrorCode::RateLimited, sentence) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ip(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    fn attempt(admission: &mut Admission, now: Duration, remote: IpAddr) -> Result<(), Duration> {
        admission.admit_address(now, remote).and_then(|()| admission.admit(now, remote))
    }

    /// How long each honest player waits, one of whom arrives every half second, while `floods` addresses try to join
    /// every `every`, regardless of the answers.
    fn waits_of_the_honest(floods: u32, every: Duration) -> Vec<Duration> {
        let mut admission = Admission::new([3; 32]);
        let mut waiting: Vec<(Duration, u32, Duration)> =
            (0..40).map(|n| (Duration::from_secs(10) + 500 * MS * n, 5_000 + n, Duration::ZERO)).collect();
        let mut waits = Vec::new();
        let mut now = Duration::from_secs(1);
        let mut next_flood = now;
        while !waiting.is_empty() && now < Duration::from_secs(90) {
            now += MS;
            if now >= next_flood {
                next_flood += every;
                for flood in 0..floods {
                    let _ = attempt(&mut admission, now, ip(flood));
                }
            }
            waiting.retain_mut(|(at, number, waited)| {
                if *at > now {
                    return true;
                }
                let Err(wait) = attempt(&mut admission, now, ip(*number)) else {
                    waits.push(*waited);
                    return false;
                };
                *at += wait;
                *waited += wait;
                true
            });
        }
        waits
    }

    #[test]
    fn addresses_that_flood_meet_each_other_and_nobody_else() {
        for (floods, every) in [(40, 83 * MS), (40, 10 * MS), (400, 100 * MS)] {
            let waits = waits_of_the_honest(floods, every);
            assert_eq!(waits.len(), 40, "{floods} floods: everybody came in");
            let longest = waits.iter().max().unwrap();
            assert!(*longest <= Duration::from_secs(1), "{floods} floods: {longest:?}");
        }
    }

    #[test]
    fn an_address_alone_uses_all_that_it_may() {
        let mut admission = Admission::new([3; 32]);
        let came = |admission: &mut Admission, ms: u32| {
            (0..ms).filter(|&ms| attempt(admission, MS * ms, ip(1)).is_ok()).count()
        };
        let at_once = limits::JOINS_PER_ADDRESS_AT_ONCE as usize;
        let per_second = limits::JOINS_PER_ADDRESS_PER_SECOND as usize;
        assert_eq!(came(&mut admission, 20_001), at_once + 20 * per_second);
    }

    #[test]
    fn all_who_come_back_at_once_are_told_different_times() {
        let mut admission = Admission::new([3; 32]);
        let now = Duration::from_secs(1);
        let mut waits: Vec<Duration> = (0..1_000).filter_map(|n| attempt(&mut admission, now, ip(n)).err()).collect();
        assert_eq!(waits.len(), 1_000 - limits::JOINS_AT_ONCE as usize);
        let told = waits.clone();
        waits.dedup();
        assert_eq!(waits, told, "no time is told twice");
        let admitted = told
            .iter()
            .zip(limits::JOINS_AT_ONCE..)
            .filter(|&(&wait, n)| attempt(&mut admission, now + wait, ip(n)).is_ok());
        assert_eq!(admitted.count(), told.len(), "and each finds a place then");
    }
}
