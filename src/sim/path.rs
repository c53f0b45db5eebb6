//! A path: the nodes that packets pass between a client and the server.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// The path between one client and the server, for both its datagrams and its websocket.
#[derive(Clone, Debug)]
pub struct Path {
    /// The nodes that packets from the client pass, in order.
    pub up: Vec<Node>,
    /// The nodes that packets to the client pass, in order.
    pub down: Vec<Node>,
}

impl Path {
    /// Returns a path with a latency of `one_way` in each direction and no other effect.
    #[must_use]
    pub fn new(one_way: Duration) -> Path {
        Path { up: vec![Node::Latency(one_way)], down: vec![Node::Latency(one_way)] }
    }

    /// Inserts `node` before the others in both directions.
    #[must_use]
    pub fn with(mut self, node: &Node) -> Path {
        self.up.insert(0, node.clone());
        self.down.insert(0, node.clone());
        self
    }

    /// Returns the round-trip time of the latencies alone.
    pub(super) fn round_trip(&self) -> Duration {
        let latency = |node: &Node| match node {
            Node::Latency(latency) => *latency,
            _ => Duration::ZERO,
        };
        self.up.iter().chain(&self.down).map(latency).sum()
    }
}

/// An effect on the path. Times count from the start of the simulation.
///
/// Websocket segments that a node loses are retransmitted, see [the network](super#the-network). Nodes that only affect
/// datagrams say so.
#[derive(Clone, Debug)]
pub enum Node {
    /// Loses packets independently.
    Loss {
        /// Lost packets per 1,000: 0 to 1,000.
        permille: u16,
    },
    /// Loses bursts of packets. The length of each burst is random, from 1 to `longest`; bursts may overlap. Bursts are
    /// counted in datagrams, so at a low rate they last longer: long bursts can keep a data channel from opening,
    /// because the handshake sends only a few datagrams a second.
    BurstLoss {
        /// Packets per 1,000 that start a burst: 0 to 1,000.
        permille: u16,
        /// The maximum length in datagrams.
        longest: u16,
    },
    /// Delays every packet by a fixed time.
    Latency(Duration),
    /// Delays every packet by a random time up to this maximum. Packets may be reordered.
    Jitter(Duration),
    /// Delays some packets by a fixed time, so that later packets overtake them.
    Reorder {
        /// Delayed packets per 1,000: 0 to 1,000.
        permille: u16,
        /// The delay.
        by: Duration,
    },
    /// Duplicates datagrams. Does not affect the websocket.
    Duplicate {
        /// Duplicated datagrams per 1,000: 0 to 1,000.
        permille: u16,
    },
    /// Limits the rate. Packets wait in a queue and are lost when it is full.
    RateLimit(RateLimit),
    /// Loses datagrams larger than this number of bytes, headers included. Does not affect the websocket: TCP adapts.
    Mtu(usize),
    /// Loses every packet in this period.
    Blackout(Range<Duration>),
    /// Changes the client's address at this interval, as when a NAT forgets its mapping; datagrams to the old address
    /// are lost. Belongs into [`Path::up`], at any position; in [`Path::down`] it has no effect. Does not affect the
    /// websocket.
    Rebinding(Duration),
    /// Loses every datagram: a network that blocks UDP. Does not affect the websocket.
    NoUdp,
}

/// A packet that reaches a node.
pub(super) struct Arrival {
    pub(super) now: Duration,
    pub(super) bytes: usize,
    pub(super) is_datagram: bool,
}

/// The fate of a packet at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Leaves(Duration),
    /// Leaves at once, together with a copy.
    LeavesTwice,
}

impl Node {
    /// `luck` returns the random number of the packet that preceded this one by the given number.
    pub(super) fn pass(&self, arrival: &Arrival, mut luck: impl FnMut(u64) -> Option<u32>) -> Fate {
        let &Arrival { now, bytes, is_datagram } = arrival;
        let mut is_among = |permille: u16| share(luck(0).unwrap_or_default(), 1_000) < u64::from(permille);
        let lost_if = |lost| if lost { Fate::Lost } else { Fate::Leaves(now) };
        match self {
            Node::Loss { permille } => lost_if(is_among(*permille)),
            Node::BurstLoss { permille, longest } => {
                let begins = (0..u64::from(*longest)).map_while(|before| Some((before, luck(before)?)));
                let mut burst = begins.filter_map(|(before, draw)| Some((before, burst(draw, *permille, *longest)?)));
                lost_if(burst.any(|(before, length)| before < length))
            }
            Node::Latency(latency) => Fate::Leaves(now + *latency),
            Node::Jitter(most) => {
                let most_ns = u64::try_from(most.as_nanos()).expect("a jitter is shorter than 500 years");
                Fate::Leaves(now + Duration::from_nanos(share(luck(0).unwrap_or_default(), most_ns)))
            }
            Node::Reorder { permille, by } => Fate::Leaves(if is_among(*permille) { now + *by } else { now }),
            Node::Duplicate { permille } if is_datagram && is_among(*permille) => Fate::LeavesTwice,
            Node::RateLimit(limit) => limit.pass(now, bytes).map_or(Fate::Lost, Fate::Leaves),
            Node::Mtu(most) => lost_if(is_datagram && bytes > *most),
            Node::Blackout(time) => lost_if(time.contains(&now)),
            Node::NoUdp => lost_if(is_datagram),
            Node::Duplicate { .. } | Node::Rebinding(_) => Fate::Leaves(now),
        }
    }

    /// Returns how often the client's address has changed.
    pub(super) fn rebindings(&self, now: Duration) -> u64 {
        let Node::Rebinding(every) = self else { return 0 };
        u64::try_from(now.as_nanos() / every.as_nanos().max(1)).unwrap_or_default()
    }

    /// Returns a copy that shares nothing with this node, with times relative to `start`.
    pub(super) fn afresh(&self, start: Duration) -> Node {
        match self {
            Node::RateLimit(limit) => Node::RateLimit(RateLimit::new(limit.bytes_per_s, limit.queue_bytes)),
            Node::Blackout(time) => Node::Blackout(start + time.start..start + time.end),
            other => other.clone(),
        }
    }
}

/// Converts a draw to a uniform number below `end`.
fn share(draw: u32, end: u64) -> u64 {
    u64::try_from((u128::from(draw) * u128::from(end)) >> 32).expect("it is below `end`")
}

/// Returns the length of the burst that starts with the packet of this draw, if one does.
fn burst(draw: u32, permille: u16, longest: u16) -> Option<u64> {
    let begins = (u64::from(permille) << 32) / 1_000;
    // For packets that start a burst, draws are uniform below `begins`.
    let length = || 1 + u64::from(draw) * u64::from(longest) / begins;
    (u64::from(draw) < begins).then(length)
}

/// A link of limited rate with a queue before it, which drops packets when it is full (tail drop).
///
/// Clones share the queue: put one into the paths of several clients, or into both directions of one path as
/// [`Path::with`] does, for a common bottleneck.
#[derive(Clone, Debug)]
pub struct RateLimit {
    bytes_per_s: u64,
    queue_bytes: usize,
    idle_at: Rc<Cell<Duration>>,
}

impl RateLimit {
    /// Returns a link of `bytes_per_s`. The queue holds `queue_bytes`, including the packet being sent.
    ///
    /// # Panics
    /// `bytes_per_s` is 0.
    #[must_use]
    pub fn new(bytes_per_s: u64, queue_bytes: usize) -> RateLimit {
        assert!(bytes_per_s > 0, "the rate is 0; use a blackout instead");
        RateLimit { bytes_per_s, queue_bytes, idle_at: Rc::default() }
    }

    /// Sends `bytes` at `now` and returns when they have been sent; `None` if the queue is full. For other traffic
    /// through the same bottleneck; the traffic of clients passes automatically. `now` must not decrease.
    pub fn pass(&self, now: Duration, bytes: usize) -> Option<Duration> {
        if self.queued(now) + bytes > self.queue_bytes {
            return None;
        }
        let sending = Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.bytes_per_s);
        self.idle_at.set(self.idle_at.get().max(now) + sending);
        Some(self.idle_at.get())
    }

    /// Returns the bytes waiting at `now`.
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

    fn datagram(now: Duration, bytes: usize) -> Arrival {
        Arrival { now, bytes, is_datagram: true }
    }

    /// When a datagram of 100 bytes leaves.
    fn pass(node: &Node, now: Duration, draw: u32) -> Option<Duration> {
        match node.pass(&datagram(now, 100), |_| Some(draw)) {
            Fate::Leaves(at) => Some(at),
            Fate::Lost => None,
            Fate::LeavesTwice => panic!("{node:?} doubles"),
        }
    }

    #[test]
    fn loss_takes_its_share_and_delays_nothing() {
        for permille in [0, 1, 50, 999, 1_000] {
            let node = Node::Loss { permille };
            let passed: Vec<_> = draws(10_000).filter_map(|draw| pass(&node, MS, draw)).collect();
            assert_eq!(passed.len(), 10_000 - 10 * usize::from(permille));
            assert!(passed.iter().all(|&at| at == MS));
        }
    }

    #[test]
    fn bursts_begin_by_their_share_and_have_every_length_up_to_the_longest() {
        let mut lengths = [0; 5];
        for draw in draws(100_000) {
            if let Some(length) = burst(draw, 20, 4) {
                lengths[usize::try_from(length).unwrap()] += 1;
            }
        }
        assert_eq!(lengths, [0, 500, 500, 500, 500], "2 % begin one");
        assert_eq!(burst(0, 0, 4), None);
        assert_eq!(draws(1_000).filter(|&draw| burst(draw, 1_000, 1) == Some(1)).count(), 1_000);
    }

    #[test]
    fn a_burst_takes_what_follows_its_first() {
        // The third begins one of three, the sixth one of a single datagram.
        let begun = |number: u64| match number {
            3 => u32::MAX / 2 - 10,
            6 => 0,
            _ => u32::MAX,
        };
        let node = Node::BurstLoss { permille: 500, longest: 3 };
        let is_lost =
            |number: u64| node.pass(&datagram(MS, 100), |before| number.checked_sub(before).map(begun)) == Fate::Lost;
        let lost: Vec<u64> = (0..10).filter(|&number| is_lost(number)).collect();
        assert_eq!(lost, [3, 4, 5, 6]);
    }

    #[test]
    fn latency_delays_and_jitter_reorders() {
        assert_eq!(pass(&Node::Latency(20 * MS), 5 * MS, u32::MAX), Some(25 * MS));
        let jitter = Node::Jitter(20 * MS);
        let delays: Vec<_> = draws(1_000).map(|draw| pass(&jitter, 5 * MS, draw).unwrap() - 5 * MS).collect();
        assert!(delays[0] < MS && delays[999] > 19 * MS && delays[999] < 20 * MS);
        assert!(delays.iter().sum::<Duration>().abs_diff(1_000 * 10 * MS) < 10 * MS, "10 ms on average");
        assert!(pass(&jitter, MS, u32::MAX) > pass(&jitter, 2 * MS, 0), "the later one comes first");
    }

    #[test]
    fn some_take_longer_and_some_leave_twice() {
        let reorder = Node::Reorder { permille: 30, by: 8 * MS };
        let delays: Vec<_> = draws(1_000).map(|draw| pass(&reorder, MS, draw).unwrap() - MS).collect();
        let delayed = delays.iter().filter(|&&delay| delay == 8 * MS).count();
        assert_eq!((delayed, delays.iter().sum::<Duration>()), (30, 30 * 8 * MS));
        let double = Node::Duplicate { permille: 30 };
        let fates: Vec<_> = draws(1_000).map(|draw| double.pass(&datagram(MS, 100), |_| Some(draw))).collect();
        assert_eq!(fates.iter().filter(|&&fate| fate == Fate::LeavesTwice).count(), 30);
        assert_eq!(fates.iter().filter(|&&fate| fate == Fate::Leaves(MS)).count(), 970);
    }

    #[test]
    fn an_mtu_lets_what_fits_through() {
        let node = Node::Mtu(1_200);
        for (bytes, fate) in [(1, Fate::Leaves(MS)), (1_200, Fate::Leaves(MS)), (1_201, Fate::Lost)] {
            assert_eq!(node.pass(&datagram(MS, bytes), |_| Some(7)), fate);
        }
    }

    #[test]
    fn what_knows_only_datagrams_leaves_the_websocket_alone() {
        let websocket = Arrival { now: MS, bytes: 1_440, is_datagram: false };
        let nodes = [Node::Mtu(1_200), Node::Duplicate { permille: 1_000 }, Node::NoUdp, Node::Rebinding(MS)];
        for node in &nodes {
            assert_eq!(node.pass(&websocket, |_| Some(0)), Fate::Leaves(MS), "{node:?}");
        }
        assert_eq!(pass(&Node::NoUdp, MS, 7), None);
        for node in [Node::Loss { permille: 500 }, Node::BurstLoss { permille: 500, longest: 3 }] {
            assert_eq!(node.pass(&websocket, |_| Some(0)), Fate::Lost, "{node:?}");
        }
    }

    #[test]
    fn an_address_changes_every_so_often() {
        let node = Node::Rebinding(20 * MS);
        assert_eq!([0, 19, 20, 59, 60].map(|ms| node.rebindings(ms * MS)), [0, 0, 1, 2, 3]);
        assert_eq!(Node::Latency(MS).rebindings(60 * MS), 0);
    }

    #[test]
    fn a_blackout_has_a_beginning_and_an_end() {
        let node = Node::Blackout(2 * MS..4 * MS);
        let passed: Vec<u32> = (1..=5).filter(|&ms| pass(&node, MS * ms, 7).is_some()).collect();
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
        let leaves = |node: &Node| node.pass(&datagram(Duration::ZERO, 1_000), |_| None);
        assert_eq!(leaves(&path.up[0]), Fate::Leaves(MS));
        assert_eq!(leaves(&path.clone().down[0]), Fate::Leaves(2 * MS));
        assert_eq!(leaves(&path.up[0].afresh(Duration::ZERO)), Fate::Leaves(MS), "a queue of its own");
    }
}
