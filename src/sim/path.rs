//! A path: the nodes that a datagram passes on its way between a client and the server.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// The way between one client and the server.
#[derive(Clone, Debug)]
pub struct Path {
    /// What a datagram from the client passes, in this order.
    pub up: Vec<Node>,
    /// What a datagram to the client passes, in this order.
    pub down: Vec<Node>,
    /// One way of the websocket, which keeps order and loses nothing.
    pub websocket: Duration,
}

impl Path {
    /// A path that takes `one_way` for everything, and does nothing else.
    #[must_use]
    pub fn new(one_way: Duration) -> Path {
        Path { up: vec![Node::Latency(one_way)], down: vec![Node::Latency(one_way)], websocket: one_way }
    }

    /// The same with `node` in front of the others, both ways.
    #[must_use]
    pub fn with(mut self, node: &Node) -> Path {
        self.up.insert(0, node.clone());
        self.down.insert(0, node.clone());
        self
    }
}

/// One thing that happens to datagrams on their way. Times count from the simulation's beginning.
#[derive(Clone, Debug)]
pub enum Node {
    /// Loses so many of 1,000, each by itself.
    Loss {
        /// 0 to 1,000.
        permille: u16,
    },
    /// Takes so long.
    Latency(Duration),
    /// Takes between nothing and so long, each time anew: who leaves later may arrive earlier.
    Jitter(Duration),
    /// Lets so many bytes a second through; others wait, or are lost where the queue is full.
    RateLimit(RateLimit),
    /// Loses everything within this time.
    Blackout(Range<Duration>),
}

impl Node {
    /// When a datagram of `bytes` that comes at `now` leaves; `None` if it never does. `draw` is its luck.
    pub(super) fn pass(&self, now: Duration, bytes: usize, draw: u32) -> Option<Duration> {
        match self {
            Node::Loss { permille } => (share(draw, 1_000) >= u64::from(*permille)).then_some(now),
            Node::Latency(latency) => Some(now + *latency),
            Node::Jitter(most) => {
                let most_ns = u64::try_from(most.as_nanos()).expect("a jitter is shorter than 500 years");
                Some(now + Duration::from_nanos(share(draw, most_ns)))
            }
            Node::RateLimit(limit) => limit.pass(now, bytes),
            Node::Blackout(time) => (!time.contains(&now)).then_some(now),
        }
    }
}

/// A uniform number below `end`.
fn share(draw: u32, end: u64) -> u64 {
    u64::try_from((u128::from(draw) * u128::from(end)) >> 32).expect("it is below `end`")
}

/// A link of limited rate with a queue before it, which loses what comes while it is full (tail drop).
///
/// Clones are the same queue: put one into the paths of several clients, or into both directions of one
/// as [`Path::with`] does, and they share the bottleneck.
#[derive(Clone, Debug)]
pub struct RateLimit {
    bytes_per_s: u64,
    queue_bytes: usize,
    idle_at: Rc<Cell<Duration>>,
}

impl RateLimit {
    /// `queue_bytes` may wait, those that are being sent included.
    ///
    /// # Panics
    /// If nothing passes a second.
    #[must_use]
    pub fn new(bytes_per_s: u64, queue_bytes: usize) -> RateLimit {
        assert!(bytes_per_s > 0, "a link that takes nothing is a blackout");
        RateLimit { bytes_per_s, queue_bytes, idle_at: Rc::default() }
    }

    /// When `bytes` that come at `now` have been sent; `None` if the queue has no room for them. For traffic of other
    /// kinds through the same bottleneck; that of clients passes by itself. `now` never goes back.
    pub fn pass(&self, now: Duration, bytes: usize) -> Option<Duration> {
        if self.queued(now) + bytes > self.queue_bytes {
            return None;
        }
        let sending = Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.bytes_per_s);
        self.idle_at.set(self.idle_at.get().max(now) + sending);
        Some(self.idle_at.get())
    }

    /// Bytes that wait at `now`.
    #[must_use]
    pub fn queued(&self, now: Duration) -> usize {
        let wait = self.idle_at.get().saturating_sub(now);
        let bytes = (wait.as_nanos() * u128::from(self.bytes_per_s)).div_ceil(1_000_000_000);
        usize::try_from(bytes).expect("no more than the queue holds")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Draws in the middle of `count` equal shares of all there are.
    fn draws(count: u32) -> impl Iterator<Item = u32> {
        let share = u32::MAX / count;
        (0..count).map(move |n| n * share + share / 2)
    }

    #[test]
    fn loss_takes_its_share_and_delays_nothing() {
        for permille in [0, 1, 50, 999, 1_000] {
            let node = Node::Loss { permille };
            let passed: Vec<_> = draws(10_000).filter_map(|draw| node.pass(MS, 100, draw)).collect();
            assert_eq!(passed.len(), 10_000 - 10 * usize::from(permille));
            assert!(passed.iter().all(|&at| at == MS));
        }
    }

    #[test]
    fn latency_delays_and_jitter_reorders() {
        assert_eq!(Node::Latency(20 * MS).pass(5 * MS, 100, u32::MAX), Some(25 * MS));
        let jitter = Node::Jitter(20 * MS);
        let delays: Vec<_> = draws(1_000).map(|draw| jitter.pass(5 * MS, 100, draw).unwrap() - 5 * MS).collect();
        assert!(delays[0] < MS && delays[999] > 19 * MS && delays[999] < 20 * MS);
        assert!(delays.iter().sum::<Duration>().abs_diff(1_000 * 10 * MS) < 10 * MS, "10 ms on average");
        assert!(jitter.pass(MS, 100, u32::MAX) > jitter.pass(2 * MS, 100, 0), "the later one comes first");
    }

    #[test]
    fn a_blackout_has_a_beginning_and_an_end() {
        let node = Node::Blackout(2 * MS..4 * MS);
        let passed: Vec<u32> = (1..=5).filter(|&ms| node.pass(MS * ms, 100, 7).is_some()).collect();
        assert_eq!(passed, [1, 4, 5]);
    }

    #[test]
    fn a_rate_limit_has_its_rate_and_loses_what_its_queue_has_no_room_for() {
        let limit = RateLimit::new(100_000, 1_000);
        let burst: Vec<_> = (0..12).map(|_| limit.pass(50 * MS, 100)).collect();
        let expected: Vec<_> = (1..=12).map(|n| (n <= 10).then(|| (50 + n) * MS)).collect();
        assert_eq!(burst, expected, "1 ms each; two too many");
        assert_eq!((limit.queued(50 * MS), limit.queued(55 * MS), limit.queued(70 * MS)), (1_000, 500, 0));
        assert_eq!(limit.pass(51 * MS, 100), Some(61 * MS), "one has left");
        assert_eq!(limit.pass(51 * MS, 1), None);
        assert_eq!(limit.pass(80 * MS, 100), Some(81 * MS), "an idle limit saves nothing up");
        let sent = (0..10_000).filter(|&ms| limit.pass(100 * MS + ms * MS, 150).is_some()).count();
        assert!((10_000 * 100 / 150..=10_000 * 100 / 150 + 6).contains(&sent), "{sent} of 150 bytes in 10 s");
    }

    #[test]
    fn clones_of_a_rate_limit_share_it() {
        let limit = Node::RateLimit(RateLimit::new(1_000_000, 10_000));
        let path = Path::new(MS).with(&limit);
        assert_eq!(path.up[0].pass(Duration::ZERO, 1_000, 0), Some(MS));
        assert_eq!(path.clone().down[0].pass(Duration::ZERO, 1_000, 0), Some(2 * MS));
    }
}
