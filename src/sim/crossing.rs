//! Packets on the nodes of a path: datagrams, and the TCP segments of a websocket.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::path::{Arrival, Fate, Node};
use super::{Packet, SERVER};
use crate::client::Message;
use crate::endpoint::LocalId;
use crate::limits;
use crate::server::{Config, Signal};

/// Bytes of the IPv4 and UDP headers of a datagram, which nodes count too (RFC 791 §3.1, RFC 768).
pub const DATAGRAM_HEADER_BYTES: usize = 20 + 8;
/// Bytes of the IPv4 and TCP headers of a segment (RFC 791 §3.1, RFC 9293 §3.1).
const SEGMENT_HEADER_BYTES: usize = 20 + 20;
/// Payload of a full segment on a path with an MTU of 1,500 bytes.
const SEGMENT_BYTES: usize = 1_500 - SEGMENT_HEADER_BYTES;
/// Bytes in flight in one direction of a websocket, as much as Linux starts with; further data waits.
const WINDOW_BYTES: usize = 16 * 1024;
/// A lost segment is retransmitted after a round trip and this time, then after twice as long, and so on.
const RETRANSMIT: Duration = Duration::from_millis(200);
const RETRANSMIT_MAX: Duration = Duration::from_secs(60);

/// Words of one ChaCha block: the random numbers of one crossing, one per node.
pub(super) const DRAWS: usize = 16;
/// Packets are numbered below this bit; the bits above distinguish copies and retransmissions.
const NUMBER_BITS: u32 = 48;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// Datagrams, or the segments of a client's websocket with this number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    Datagrams,
    Websocket(usize),
}

/// Returns the random stream of a client's packets. Stream 0 seeds the server and the clients.
fn stream(client: usize, way: Way, carries: Carries) -> u64 {
    let of_client = 2 * client as u64 + if way == Way::Up { 1 } else { 2 };
    let number = match carries {
        Carries::Datagrams => 0,
        Carries::Websocket(number) => number as u64 + 1,
    };
    of_client + (number << 32)
}

/// Counters of datagrams or segments in one direction of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets sent.
    pub sent: u64,
    /// Packets delivered, including duplicates made by the network.
    pub delivered: u64,
    /// Bytes sent, including IP, UDP and TCP headers.
    pub sent_bytes: u64,
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Traffic>>(all: I) -> Traffic {
        all.fold(Traffic::default(), |sum, one| Traffic {
            sent: sum.sent + one.sent,
            delivered: sum.delivered + one.delivered,
            sent_bytes: sum.sent_bytes + one.sent_bytes,
        })
    }
}

/// One direction of a path, for datagrams or for segments.
pub(super) struct Direction {
    pub(super) nodes: Rc<[Node]>,
    pub(super) traffic: Traffic,
    begun: u64,
    rng: ChaCha8Rng,
    is_datagram: bool,
}

impl Direction {
    pub(super) fn new(seed: u64, client: usize, way: Way, carries: Carries) -> Direction {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream(client, way, carries));
        let is_datagram = carries == Carries::Datagrams;
        Direction { nodes: Rc::new([]), traffic: Traffic::default(), begun: 0, rng, is_datagram }
    }

    pub(super) fn datagram(&mut self, local: LocalId, bytes: &[u8]) -> Datagram {
        assert!(bytes.len() <= limits::UDP_PAYLOAD_BYTES, "a datagram of {} bytes", bytes.len());
        Datagram { crossing: self.begin(bytes.len() + DATAGRAM_HEADER_BYTES), local, bytes: bytes.into() }
    }

    fn begin(&mut self, bytes: usize) -> Crossing {
        let number = self.begun;
        self.begun += 1;
        self.count_sent(bytes);
        Crossing { number, bytes, nodes: Rc::clone(&self.nodes), passed: 0 }
    }

    fn count_sent(&mut self, bytes: usize) {
        self.traffic.sent += 1;
        self.traffic.sent_bytes += bytes as u64;
    }

    fn draw(&mut self, number: u64, node: usize) -> u32 {
        self.rng.set_word_pos(u128::from(number) * DRAWS as u128 + node as u128);
        self.rng.next_u32()
    }
}

/// The position of a packet on its path.
#[derive(Clone)]
pub(super) struct Crossing {
    number: u64,
    bytes: usize,
    /// The nodes at the time of sending.
    nodes: Rc<[Node]>,
    passed: usize,
}

impl Crossing {
    /// Returns the number of packets sent before this one.
    fn place(&self) -> u64 {
        self.number & ((1 << NUMBER_BITS) - 1)
    }

    pub(super) fn is_through(&self) -> bool {
        self.passed == self.nodes.len()
    }

    /// Passes nodes up to the first that takes time. Returns when the packet leaves it, `None` if it is lost, and a
    /// copy for each node that duplicated it.
    pub(super) fn pass(&mut self, now: Duration, direction: &mut Direction) -> (Option<Duration>, Vec<Crossing>) {
        let mut copies = Vec::new();
        let mut at = now;
        while at == now && !self.is_through() {
            let arrival = Arrival { now, bytes: self.bytes, is_datagram: direction.is_datagram };
            let (number, node) = (self.number, self.passed);
            let place = self.place();
            let luck = |before: u64| (before <= place).then(|| direction.draw(number - before, node));
            match self.nodes[node].pass(&arrival, luck) {
                Fate::Lost => return (None, copies),
                Fate::Leaves(leaves) => at = leaves,
                Fate::LeavesTwice => {
                    let number = number | 1 << (NUMBER_BITS as usize + node);
                    copies.push(Crossing { number, passed: node + 1, ..self.clone() });
                }
            }
            self.passed += 1;
        }
        (Some(at), copies)
    }
}

#[derive(Clone)]
pub(super) struct Datagram {
    pub(super) crossing: Crossing,
    /// The server's address of the datagram.
    pub(super) local: LocalId,
    pub(super) bytes: Rc<[u8]>,
}

/// The content of a websocket.
pub(super) enum Said {
    Up(Message),
    /// The answer to a ping with this payload, which browsers send automatically.
    Pong(u64),
    /// The client's end was dropped without a close frame.
    Dropped,
    Down(Signal),
}

impl Said {
    fn bytes(&self) -> usize {
        match self {
            Said::Up(Message::Text(text)) | Said::Down(Signal::Text(text)) => text.len(),
            Said::Up(Message::Binary(bytes)) | Said::Down(Signal::Binary(bytes)) => bytes.len(),
            Said::Up(Message::Connect(_) | Message::Close) | Said::Dropped => 0,
            Said::Pong(_) | Said::Down(Signal::Ping(_)) => size_of::<u64>(),
            Said::Down(Signal::Close { reason, .. }) => reason.len(),
        }
    }
}

/// A part of a message. The last part carries the message.
pub(super) struct Segment {
    crossing: Crossing,
    said: Option<Said>,
    attempt: u32,
    sent: Duration,
    is_lost: bool,
}

impl Segment {
    pub(super) fn is_through(&self) -> bool {
        self.crossing.is_through() && !self.is_lost
    }
}

/// One direction of a websocket: TCP with ordering, retransmission and a window.
pub(super) struct Stream {
    pub(super) direction: Direction,
    pub(super) round_trip: Duration,
    /// Segment sizes, and the messages that end with them, waiting for the window.
    waiting: VecDeque<(usize, Option<Said>)>,
    under_way_bytes: usize,
    /// When each message was sent that has not arrived completely.
    said_at: VecDeque<Duration>,
    /// Segments that arrived before a missing one.
    arrived: BTreeMap<u64, Segment>,
    next: u64,
}

impl Stream {
    pub(super) fn new(direction: Direction) -> Stream {
        Stream {
            direction,
            round_trip: Duration::ZERO,
            waiting: VecDeque::new(),
            under_way_bytes: 0,
            said_at: VecDeque::new(),
            arrived: BTreeMap::new(),
            next: 0,
        }
    }

    /// Returns whether another message can be sent without waiting.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.under_way_bytes < WINDOW_BYTES
    }

    /// Returns when the oldest message was sent that has not arrived completely.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.said_at.front().copied()
    }

    pub(super) fn send(&mut self, now: Duration, said: Said) {
        self.said_at.push_back(now);
        let mut left = said.bytes();
        while left > SEGMENT_BYTES {
            self.waiting.push_back((SEGMENT_BYTES, None));
            left -= SEGMENT_BYTES;
        }
        self.waiting.push_back((left, Some(said)));
    }

    /// Returns the next segment that the window permits.
    pub(super) fn poll(&mut self, now: Duration) -> Option<Segment> {
        if self.under_way_bytes >= WINDOW_BYTES {
            return None;
        }
        let (bytes, said) = self.waiting.pop_front()?;
        let crossing = self.direction.begin(bytes + SEGMENT_HEADER_BYTES);
        self.under_way_bytes += crossing.bytes;
        Some(Segment { crossing, said, attempt: 0, sent: now, is_lost: false })
    }

    /// Passes nodes up to the first that takes time, or waits for the retransmission. Returns when that is over.
    pub(super) fn pass(&mut self, now: Duration, segment: &mut Segment) -> Duration {
        if std::mem::take(&mut segment.is_lost) {
            segment.attempt += 1;
            segment.sent = now;
            segment.crossing.number = segment.crossing.place() | u64::from(segment.attempt) << NUMBER_BITS;
            segment.crossing.nodes = Rc::clone(&self.direction.nodes);
            segment.crossing.passed = 0;
            self.direction.count_sent(segment.crossing.bytes);
        }
        let (at, _) = segment.crossing.pass(now, &mut self.direction);
        at.unwrap_or_else(|| {
            segment.is_lost = true;
            let wait = (self.round_trip + RETRANSMIT).saturating_mul(2u32.saturating_pow(segment.attempt));
            now.max(segment.sent + wait.min(RETRANSMIT_MAX))
        })
    }

    /// Handles an arrived segment and returns the messages that are now complete.
    pub(super) fn arrive(&mut self, segment: Segment) -> Vec<Said> {
        self.direction.traffic.delivered += 1;
        self.arrived.insert(segment.crossing.place(), segment);
        let mut complete = Vec::new();
        while let Some(segment) = self.arrived.remove(&self.next) {
            self.next += 1;
            self.under_way_bytes -= segment.crossing.bytes;
            if let Some(said) = segment.said {
                self.said_at.pop_front();
                complete.push(said);
            }
        }
        complete
    }
}

pub(super) struct InFlight {
    pub(super) at: Duration,
    pub(super) order: u64,
    pub(super) packet: Packet,
}

impl PartialEq for InFlight {
    fn eq(&self, other: &InFlight) -> bool {
        self.order == other.order
    }
}
impl Eq for InFlight {}
impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &InFlight) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for InFlight {
    fn cmp(&self, other: &InFlight) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Returns the address of the server with this number. Those after the first are further [`Config::interfaces`].
pub(super) fn address_of(config: &Config, local: LocalId) -> SocketAddr {
    config.interfaces.get(usize::from(local.0)).map_or(SERVER, |&ip| SocketAddr::new(ip, SERVER.port()))
}

pub(super) fn local_of(config: &Config, address: SocketAddr) -> Option<LocalId> {
    let locals = u16::try_from(config.interfaces.len().max(1)).expect("a server has few addresses");
    (0..locals).map(LocalId).find(|&local| address_of(config, local) == address)
}

/// Returns whether the datagram is a STUN binding request (RFC 8489 §5).
pub(super) fn is_check(datagram: &[u8]) -> bool {
    datagram.starts_with(&[0, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn direction(seed: u64, client: usize, nodes: &[&Node]) -> Direction {
        let mut direction = Direction::new(seed, client, Way::Up, Carries::Datagrams);
        direction.nodes = nodes.iter().map(|&node| node.clone()).collect();
        direction
    }

    #[test]
    fn what_becomes_of_a_datagram_depends_on_its_path_and_number_alone() {
        for loss in [Node::Loss { permille: 300 }, Node::BurstLoss { permille: 170, longest: 3 }] {
            let fates = |seed: u64, client: usize, nodes: &[&Node], bytes: &[u8]| -> Vec<bool> {
                let mut direction = direction(seed, client, nodes);
                let mut datagrams: Vec<_> = (0..1_000).map(|_| direction.datagram(LocalId(0), bytes)).collect();
                let mut fates: Vec<_> = datagrams
                    .iter_mut()
                    .rev()
                    .map(|datagram| datagram.crossing.pass(MS, &mut direction).0.is_some())
                    .collect();
                fates.reverse();
                fates
            };
            let expected = fates(1, 1, &[&loss], b"x");
            let lost = expected.iter().filter(|&&passed| !passed).count();
            assert!((240..=360).contains(&lost), "{loss:?}: {lost} of 1,000 at 30 %: some four standard deviations");
            assert_eq!(fates(1, 1, &[&loss, &Node::Jitter(MS)], &[7; 1_000]), expected);
            assert_ne!(fates(1, 2, &[&loss], b"x"), expected, "another path");
            assert_ne!(fates(2, 1, &[&loss], b"x"), expected, "another seed");
            assert_ne!(fates(1, 1, &[&Node::Latency(Duration::ZERO), &loss], b"x"), expected, "another node");
        }
    }

    #[test]
    fn nodes_act_one_after_the_other_each_when_a_datagram_reaches_it() {
        let arrives = |nodes: [&Node; 2]| {
            let mut direction = direction(1, 1, &nodes);
            let mut datagram = direction.datagram(LocalId(0), b"x");
            let mut at = Duration::ZERO;
            while !datagram.crossing.is_through() {
                at = datagram.crossing.pass(at, &mut direction).0?;
            }
            Some(at)
        };
        let (latency, blackout) = (Node::Latency(120 * MS), Node::Blackout(Duration::ZERO..100 * MS));
        assert_eq!(arrives([&blackout, &latency]), None);
        assert_eq!(arrives([&latency, &blackout]), Some(120 * MS));
    }

    #[test]
    fn a_copy_has_luck_of_its_own() {
        let (double, loss) = (Node::Duplicate { permille: 1_000 }, Node::Loss { permille: 500 });
        let mut direction = direction(1, 1, &[&double, &double, &loss]);
        let mut arrived = [0; 5];
        for _ in 0..1_000 {
            let mut crossings = vec![direction.datagram(LocalId(0), b"x").crossing];
            let mut through = 0;
            while let Some(mut crossing) = crossings.pop() {
                let (at, copies) = crossing.pass(MS, &mut direction);
                through += usize::from(at.is_some());
                crossings.extend(copies);
            }
            arrived[through] += 1;
        }
        // Of four, each with even chances; four standard deviations.
        for (through, expected) in [(0, 62), (1, 250), (2, 375), (3, 250), (4, 62)] {
            assert!(i32::abs_diff(arrived[through], expected) <= 61, "{arrived:?}");
        }
    }

    /// Returns when each of `messages` of `bytes`, one every 10 ms, has arrived completely.
    fn websocket(nodes: &[&Node], messages: u32, bytes: usize) -> Vec<(Duration, Duration)> {
        let mut direction = Direction::new(1, 1, Way::Up, Carries::Websocket(0));
        direction.nodes = nodes.iter().map(|&node| node.clone()).collect();
        let mut stream = Stream { round_trip: 50 * MS, ..Stream::new(direction) };
        let mut under_way: BTreeMap<(Duration, u64), Segment> = BTreeMap::new();
        let (mut complete, mut order) = (Vec::new(), 0);
        for ms in (0..100_000).map(|ms| ms * MS) {
            if ms < 10 * MS * messages && ms.as_millis().is_multiple_of(10) {
                stream.send(ms, Said::Up(Message::Text(format!("{}{}", ms.as_millis(), " ".repeat(bytes)))));
            }
            while let Some(first) = under_way.first_entry().filter(|first| first.key().0 <= ms) {
                let mut segment = first.remove();
                if !segment.is_through() {
                    order += 1;
                    under_way.insert((stream.pass(ms, &mut segment), order), segment);
                    continue;
                }
                for said in stream.arrive(segment) {
                    let Said::Up(Message::Text(text)) = said else { panic!("only text was sent") };
                    complete.push((text.trim().parse::<u32>().unwrap() * MS, ms));
                }
            }
            while let Some(mut segment) = stream.poll(ms) {
                order += 1;
                under_way.insert((stream.pass(ms, &mut segment), order), segment);
            }
            assert!(stream.under_way_bytes < WINDOW_BYTES + 1_500);
        }
        assert_eq!(complete.len(), messages as usize, "everything arrives");
        assert!(complete.is_sorted(), "in order");
        complete
    }

    #[test]
    fn a_websocket_loses_nothing_and_what_is_lost_holds_up_what_follows() {
        let latency = Node::Latency(25 * MS);
        for (said, arrived) in websocket(&[&latency], 100, 100) {
            assert_eq!(arrived - said, 25 * MS);
        }
        let loss = Node::Loss { permille: 100 };
        let ages: Vec<_> =
            websocket(&[&loss, &latency], 1_000, 100).iter().map(|(said, arrived)| *arrived - *said).collect();
        let prompt = ages.iter().filter(|&&age| age == 25 * MS).count();
        assert!((10..500).contains(&prompt), "{prompt} of 1,000: one in ten holds up those of 250 ms");
        assert!(ages.iter().any(|&age| age == 275 * MS) && ages.iter().any(|&age| age > 700 * MS));
    }

    #[test]
    fn a_websocket_waits_twice_as_long_each_time() {
        // Sent at 0, 250, 750 and 1,750 ms.
        let ages = websocket(&[&Node::Blackout(Duration::ZERO..Duration::from_secs(1))], 1, 100);
        assert_eq!(ages, [(Duration::ZERO, 1_750 * MS)]);
    }

    #[test]
    fn a_long_message_takes_its_time_and_no_more_than_its_window() {
        // 1 MB over a link of 100 kB/s, with 27 kB of headers.
        let limit = Node::RateLimit(crate::sim::RateLimit::new(100_000, 20_000));
        let ages = websocket(&[&limit, &Node::Latency(5 * MS)], 1, 1_000_000);
        assert!((10_250 * MS..10_400 * MS).contains(&ages[0].1), "{ages:?}");
    }
}
