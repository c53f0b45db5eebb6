//! A simulated network between a user's UDP socket and the client: loses and delays datagrams in both directions.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::script::Netem;

/// Datagrams in transit; a path with more would drop them.
const QUEUED: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    pub(super) direction: Direction,
    /// The destination or source address.
    pub(super) remote: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// The path between one user and the server.
pub(super) struct Path {
    loss: f64,
    delay: Duration,
    jitter: Duration,
    rng: ChaCha8Rng,
    taken: u64,
    queue: BTreeMap<(Instant, u64), Datagram>,
}

impl Path {
    /// Returns `None` if the network is not changed.
    pub(super) fn new(netem: &Netem, user: u64, seed: u64) -> Option<Path> {
        let &Netem { loss, delay, jitter, .. } = netem;
        if loss <= 0.0 && delay.is_zero() && jitter.is_zero() {
            return None;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(user);
        Some(Path { loss, delay, jitter, rng, taken: 0, queue: BTreeMap::new() })
    }

    pub(super) fn send(&mut self, now: Instant, datagram: Datagram) {
        // Both numbers are drawn for every datagram, so that its fate does not depend on that of others.
        let (luck, share): (f64, f64) = (self.rng.random(), self.rng.random());
        if luck < self.loss || self.queue.len() >= QUEUED {
            return;
        }
        self.taken += 1;
        self.queue.insert((now + self.delay + self.jitter.mul_f64(share), self.taken), datagram);
    }

    /// Returns the next datagram that has arrived.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Datagram> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// Returns whether the next datagram that has arrived goes in this direction.
    pub(super) fn is_next(&self, direction: Direction, now: Instant) -> bool {
        self.queue.first_key_value().is_some_and(|(&(at, _), datagram)| at <= now && datagram.direction == direction)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|(&(at, _), _)| at)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a time to count from")]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_lost_and_the_rest_late_the_same_for_one_seed() {
        let begun = Instant::now();
        let ms = Duration::from_millis;
        let netem = Netem { loss: 0.05, delay: ms(20), jitter: ms(10) };
        let arrivals = |user| {
            let mut path = Path::new(&netem, user, 7).expect("it does something");
            let remote = ([127, 0, 0, 1], 9).into();
            let mut arrived = Vec::new();
            for number in 0..4_000_u32 {
                let datagram = Datagram { direction: Direction::Up, remote, bytes: number.to_be_bytes().to_vec() };
                path.send(begun + ms(number.into()), datagram);
            }
            while let Some(at) = path.poll_timeout() {
                assert_eq!(path.poll(at - ms(1)), None, "not before its time");
                let bytes = path.poll(at).expect("it is time").bytes;
                let number = u32::from_be_bytes(bytes.try_into().expect("four"));
                assert!((ms(20)..=ms(30)).contains(&(at - begun - ms(number.into()))));
                arrived.push((at, number));
            }
            arrived
        };
        let one = arrivals(1);
        // Five standard deviations of 4,000 draws: 5 × √(4,000 × 0.05 × 0.95) is 69.
        assert!((4_000 - one.len()).abs_diff(200) <= 69, "{}", one.len());
        assert!(one == arrivals(1) && one != arrivals(2));
        assert!(Path::new(&Netem::default(), 1, 7).is_none());
    }
}
