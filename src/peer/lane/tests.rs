use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const ACTIVE_TAG: u32 = 0xaaaa_0001;
const PASSIVE_TAG: u32 = 0xbbbb_0002;

/// The time at which all happens: the lane keeps none of its own.
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
    *START.get_or_init(Instant::now)
}

/// Both ends, joined by a pipe that loses, repeats and reorders by seed.
struct Wire {
    ends: [Lane; 2],
    /// Packets on their way to each end.
    queues: [Vec<Vec<u8>>; 2],
    arrivals: [Vec<Arrival>; 2],
    messages: [Vec<Vec<u8>>; 2],
    /// Packets that were given to the pipe, to each end.
    packets: [u32; 2],
    loss_percent: u32,
    disorder_percent: u32,
    rng: ChaCha8Rng,
}

const ACTIVE: usize = 0;
const PASSIVE: usize = 1;

impl Wire {
    fn new(seed: u64, tsns: [u32; 2], loss_percent: u32, disorder_percent: u32) -> Wire {
        Wire {
            ends: [
                Lane::new(Role::Active, 5000, 5000, ACTIVE_TAG, tsns[0], start()),
                Lane::new(Role::Passive, 5000, 5000, PASSIVE_TAG, tsns[1], start()),
            ],
            queues: Default::default(),
            arrivals: Default::default(),
            messages: Default::default(),
            packets: [0; 2],
            loss_percent,
            disorder_percent,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Both ends open, over a pipe that does no harm.
    fn open(tsns: [u32; 2]) -> Wire {
        let mut wire = Wire::new(0, tsns, 0, 0);
        wire.shake_hands(1);
        wire.arrivals = Default::default();
        wire
    }

    fn push(&mut self, to: usize, packet: Vec<u8>) {
        assert!(packet.len() <= limits::UDP_PAYLOAD_BYTES - limits::DTLS_RECORD_OVERHEAD_BYTES);
        self.packets[to] += 1;
        if self.rng.random_range(0..100) < self.loss_percent {
            return;
        }
        let queue = &mut self.queues[to];
        if self.rng.random_range(0..100) < self.disorder_percent {
            queue.push(packet.clone());
        }
        queue.push(packet);
    }

    /// Delivers what is on its way, and what that causes.
    fn deliver(&mut self) {
        for _ in 0..10_000 {
            let Some(to) = (0..2).find(|&end| !self.queues[end].is_empty()) else { return };
            let is_late = self.rng.random_range(0..100) < self.disorder_percent;
            let at = if is_late { self.rng.random_range(0..self.queues[to].len()) } else { 0 };
            let packet = self.queues[to].remove(at);
            let mut reply = Vec::new();
            let mut arrivals = Vec::new();
            self.ends[to].handle_packet(start(), &packet, &mut reply, &mut arrivals);
            for arrival in arrivals {
                match arrival {
                    Arrival::Message(place) => self.messages[to].push(packet[place].to_vec()),
                    other => self.arrivals[to].push(other),
                }
            }
            if !reply.is_empty() {
                self.push(1 - to, reply);
            }
        }
        panic!("the ends never stop talking");
    }

    fn shake_hands(&mut self, tries: u32) {
        for _ in 0..tries {
            let mut packet = Vec::new();
            if self.ends[ACTIVE].write_handshake(&mut packet) {
                self.push(PASSIVE, packet);
            }
            self.deliver();
            if self.ends.iter().all(Lane::is_open) {
                return;
            }
        }
        panic!("no handshake in {tries} tries");
    }

    fn send(&mut self, from: usize, payload: &[u8]) {
        let mut packet = Vec::new();
        assert!(self.ends[from].write_message(start(), payload, &mut packet));
        self.push(1 - from, packet);
    }

    fn take_messages(&mut self, end: usize) -> Vec<Vec<u8>> {
        self.arrivals[end].clear();
        std::mem::take(&mut self.messages[end])
    }

    /// Gives the passive end a packet of these chunks; its reply's chunks, and what arrived.
    fn tell(&mut self, chunks: &[(u8, u8, Vec<u8>)]) -> (Vec<(u8, Vec<u8>)>, Vec<Arrival>) {
        let mut reply = Vec::new();
        let mut arrivals = Vec::new();
        self.ends[PASSIVE].handle_packet(start(), &packet_of(PASSIVE_TAG, chunks), &mut reply, &mut arrivals);
        (chunks_of(&reply), arrivals)
    }
}

fn packet_of(tag: u32, chunks: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut packet = [&[0x13, 0x88, 0x13, 0x88][..], &tag.to_be_bytes(), &[0; 4]].concat();
    for (kind, flags, value) in chunks {
        put_chunk(&mut packet, *kind, *flags, &[value]);
    }
    finish(&mut packet);
    packet
}

/// Types and values of the chunks of a packet that one of the ends wrote.
fn chunks_of(packet: &[u8]) -> Vec<(u8, Vec<u8>)> {
    if packet.is_empty() {
        return Vec::new();
    }
    let mut unsummed = packet.to_vec();
    unsummed[8..12].fill(0);
    assert_eq!(packet[8..12], crc32c::crc32c(&unsummed).to_le_bytes(), "the checksum of what is sent is right");
    Chunks::of(packet)
        .map(|chunk| chunk.map(|chunk| (chunk.kind, chunk.value.to_vec())).expect("what is sent is whole"))
        .collect()
}

fn kinds(chunks: &[(u8, Vec<u8>)]) -> Vec<u8> {
    chunks.iter().map(|(kind, _)| *kind).collect()
}

fn data(tsn: u32, flags: u8, stream: u16, ppid: u32, payload: &[u8]) -> (u8, u8, Vec<u8>) {
    let value = [&tsn.to_be_bytes()[..], &stream.to_be_bytes(), &[0; 2], &ppid.to_be_bytes(), payload].concat();
    (chunk::DATA, flags, value)
}

fn sack(cumulative: u32, gaps: &[(u16, u16)]) -> (u8, u8, Vec<u8>) {
    let mut value = [cumulative, 1 << 20, u32::try_from(gaps.len()).unwrap() << 16].map(u32::to_be_bytes).concat();
    for (first, last) in gaps {
        value.extend([first.to_be_bytes(), last.to_be_bytes()].concat());
    }
    (chunk::SACK, 0, value)
}

fn parameter(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_parameter(&mut bytes, kind, value);
    bytes
}

#[test]
fn the_handshake_outlasts_loss() {
    for seed in 0..200 {
        let mut wire = Wire::new(seed, [7, 9], 30, 20);
        wire.shake_hands(60);
        for end in [ACTIVE, PASSIVE] {
            assert_eq!(wire.arrivals[end], [Arrival::Open], "seed {seed}");
        }
        assert!(!wire.ends[ACTIVE].write_handshake(&mut Vec::new()), "an open lane has nothing to repeat");
    }
}

#[test]
fn messages_come_at_most_once_whatever_the_pipe_does() {
    fn check(seed: u64, tsn: u32, loss: u32, disorder: u32, expected: std::ops::RangeInclusive<usize>) {
        let mut wire = Wire::open([tsn, tsn]);
        wire.rng = ChaCha8Rng::seed_from_u64(seed);
        (wire.loss_percent, wire.disorder_percent) = (loss, disorder);
        for number in 0..200_u32 {
            for end in [ACTIVE, PASSIVE] {
                wire.send(end, &number.to_be_bytes());
            }
            if number % 5 == 0 {
                wire.deliver();
            }
        }
        wire.deliver();
        for end in [ACTIVE, PASSIVE] {
            let mut messages = wire.take_messages(end);
            let in_order = messages.is_sorted();
            assert!(disorder > 0 || in_order);
            messages.sort();
            let came = messages.len();
            messages.dedup();
            assert_eq!(messages.len(), came, "seed {seed}: one came twice");
            assert!(expected.contains(&came), "seed {seed}: {came} of 200");
        }
    }
    for seed in 0..20 {
        // The numbers wrap in between.
        for tsn in [1000, u32::MAX - 100, 0x7fff_ff9c] {
            check(seed, tsn, 0, 0, 200..=200);
            check(seed, tsn, 0, 30, 200..=200);
            check(seed, tsn, 20, 30, 120..=195);
        }
    }
}

#[test]
fn the_highest_number_seen_is_acknowledged_as_if_nothing_were_missing() {
    let mut wire = Wire::open([u32::MAX - 1, 50]);
    let come = |tsn| data(tsn, UNORDERED_UNFRAGMENTED, 0, ppid::BINARY, b"x");
    let (reply, arrivals) = wire.tell(&[come(u32::MAX - 1)]);
    assert_eq!((reply.len(), arrivals.len()), (0, 1), "one packet waits for the next message down");
    let (reply, _) = wire.tell(&[come(3)]);
    let [(chunk::SACK, value)] = &reply[..] else { panic!("the second packet is acknowledged: {reply:?}") };
    assert_eq!(*value, [3, WINDOW_BYTES, 0].map(u32::to_be_bytes).concat(), "no gap is reported");
    // Late ones are still delivered, once; those older than the memory can't be told from repeats.
    for (tsn, count) in [(u32::MAX, 1), (u32::MAX, 0), (2, 1), (3, 0), (3_u32.wrapping_sub(64), 0)] {
        assert_eq!(wire.tell(&[come(tsn)]).1.len(), count, "{tsn}");
    }
    assert_eq!(wire.ends[PASSIVE].dropped().duplicate, 3);

    wire.tell(&[come(4)]);
    assert_eq!(wire.tell(&[come(5)]).0, []);
    let mut packet = Vec::new();
    assert!(wire.ends[PASSIVE].write_message(start(), b"down", &mut packet));
    let chunks = chunks_of(&packet);
    assert_eq!(kinds(&chunks), [chunk::SACK, chunk::DATA]);
    assert_eq!(chunks[0].1[..4], 5_u32.to_be_bytes());
    packet.clear();
    assert!(wire.ends[PASSIVE].write_message(start(), b"down", &mut packet));
    assert_eq!(kinds(&chunks_of(&packet)), [chunk::DATA], "once");
}

#[test]
fn a_forward_tsn_follows_each_sack_that_shows_an_old_hole() {
    fn check(first: u32) {
        let mut wire = Wire::open([1, first]);
        for _ in 0..30 {
            wire.send(PASSIVE, b"x");
        }
        let mut forwards = |reported: (u8, u8, Vec<u8>), expected: Option<u32>| {
            wire.tell(std::slice::from_ref(&reported));
            let next = [(); 2].map(|()| {
                let mut packet = Vec::new();
                assert!(wire.ends[PASSIVE].write_message(start(), b"x", &mut packet));
                let chunks = chunks_of(&packet);
                let forward = chunks.into_iter().find(|(kind, _)| *kind == chunk::FORWARD_TSN);
                forward.map(|(_, value)| u32::from_be_bytes(value.try_into().unwrap()))
            });
            assert_eq!(next, [expected, None], "{reported:?} from {first}");
        };
        let sent = |count: u32| first.wrapping_add(count);
        forwards(sack(sent(0), &[]), None);
        forwards(sack(sent(0), &[(2, 8)]), None);
        forwards(sack(sent(0), &[(2, 9)]), Some(sent(1)));
        forwards(sack(sent(0), &[(2, 9)]), Some(sent(1)));
        forwards(sack(sent(0), &[(2, 3), (5, 12)]), Some(sent(4)));
        forwards(sack(sent(12), &[]), None);
        forwards(sack(sent(0), &[(2, 20)]), None);
        forwards(sack(sent(12), &[(2, 3000)]), None);
        forwards(sack(sent(1_000_000), &[]), None);
        forwards(sack(sent(12), &[(2, 12)]), Some(sent(16)));
    }
    check(100);
    check(u32::MAX - 6);
    check(0x7fff_fffa);
}

/// What the SACKs of an end that reports gaps say after each step, against a plain list of what has come.
#[test]
fn the_client_reports_what_is_missing_and_so_does_a_server_that_is_told_to() {
    for (seed, first) in (0..40_u64).zip([7, u32::MAX - 30, 0x7fff_ffe0, 1].into_iter().cycle()) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (end, tag) = [(ACTIVE, ACTIVE_TAG), (PASSIVE, PASSIVE_TAG)][usize::from(seed / 4 % 2 == 1)];
        let mut wire = Wire::open([first; 2]);
        wire.ends[PASSIVE].report_gaps();
        // Distances from the TSN before the first.
        let mut come = std::collections::BTreeSet::new();
        let (mut highest, mut complete) = (0_u32, 0_u32);
        for _ in 0..300 {
            let passes_over = rng.random_ratio(1, 20);
            let distance = (highest + rng.random_range(1..4)).saturating_sub(rng.random_range(0..12)).max(1);
            let tsn = first.wrapping_add(distance).wrapping_sub(1);
            let chunk = if passes_over {
                (chunk::FORWARD_TSN, 0, tsn.to_be_bytes().to_vec())
            } else {
                data(tsn, UNORDERED_UNFRAGMENTED, 0, ppid::BINARY, b"x")
            };
            let mut reply = Vec::new();
            let packet = packet_of(tag, std::slice::from_ref(&chunk));
            wire.ends[end].handle_packet(start(), &packet, &mut reply, &mut Vec::new());
            highest = highest.max(distance);
            if passes_over {
                complete = complete.max(distance);
            } else {
                come.insert(distance);
            }
            complete = complete.max(highest.saturating_sub(63));
            while come.contains(&(complete + 1)) {
                complete += 1;
            }
            let Some((_, sack)) = chunks_of(&reply).into_iter().find(|(kind, _)| *kind == chunk::SACK) else {
                assert_eq!(complete, highest, "seed {seed}: while something is missing, every packet is answered");
                continue;
            };
            let expected: Vec<u32> = come.range(complete + 1..).copied().collect();
            let (gaps, _) = sack[12..].as_chunks::<4>();
            let reported: Vec<u32> = gaps
                .iter()
                .flat_map(|&[a, b, c, d]| u16::from_be_bytes([a, b])..=u16::from_be_bytes([c, d]))
                .map(|offset| complete + u32::from(offset))
                .collect();
            assert_eq!(sack[..4], first.wrapping_add(complete).wrapping_sub(1).to_be_bytes(), "seed {seed}");
            assert_eq!(reported, expected, "seed {seed}");
            assert_eq!(usize::from(u16::from_be_bytes([sack[8], sack[9]])), gaps.len());
        }
    }
}

#[test]
fn a_sack_that_does_not_fit_beside_a_message_waits() {
    let mut wire = Wire::open([1, 1]);
    for tsn in [2, 4, 6, 8] {
        let chunk = data(tsn, UNORDERED_UNFRAGMENTED, 0, ppid::BINARY, b"x");
        wire.ends[ACTIVE].handle_packet(start(), &packet_of(ACTIVE_TAG, &[chunk]), &mut Vec::new(), &mut Vec::new());
        // Its reply is lost on the way to where the next message comes from.
        wire.ends[ACTIVE].unacknowledged_packets = 1;
    }
    let mut packet = Vec::new();
    assert!(wire.ends[ACTIVE].write_message(start(), &[0; limits::FRAME_BYTES], &mut packet));
    assert_eq!(kinds(&chunks_of(&packet)), [chunk::DATA]);
    assert!(packet.len() + limits::DTLS_RECORD_OVERHEAD_BYTES <= limits::UDP_PAYLOAD_BYTES);
    packet.clear();
    assert!(wire.ends[ACTIVE].write_message(start(), b"x", &mut packet));
    assert_eq!(kinds(&chunks_of(&packet)), [chunk::SACK, chunk::DATA]);
}

#[test]
fn a_forward_tsn_is_answered_and_moves_what_is_acknowledged() {
    let mut wire = Wire::open([100, 1]);
    let (reply, _) = wire.tell(&[(chunk::FORWARD_TSN, 0, 120_u32.to_be_bytes().to_vec())]);
    assert_eq!(reply[0].1[..4], 120_u32.to_be_bytes());
    let come = |tsn| data(tsn, UNORDERED_UNFRAGMENTED, 0, ppid::BINARY, b"x");
    assert_eq!(wire.tell(&[come(119)]).1.len(), 1, "what was given up may still come");
}

#[test]
fn the_cookie_is_acknowledged_in_front_of_messages_until_the_peer_speaks() {
    let mut wire = Wire::open([100, 1]);
    let sent = |wire: &mut Wire| {
        let mut packet = Vec::new();
        assert!(wire.ends[PASSIVE].write_message(start(), b"x", &mut packet));
        kinds(&chunks_of(&packet))
    };
    assert_eq!(sent(&mut wire), [chunk::COOKIE_ACK, chunk::DATA]);
    let cookie = [ACTIVE_TAG, 100].map(u32::to_be_bytes).concat();
    let (reply, arrivals) = wire.tell(&[(chunk::COOKIE_ECHO, 0, cookie)]);
    assert_eq!((kinds(&reply), arrivals), (vec![chunk::COOKIE_ACK], vec![]), "a repeated cookie opens nothing anew");
    assert_eq!(sent(&mut wire), [chunk::COOKIE_ACK, chunk::DATA]);
    wire.tell(&[sack(0, &[])]);
    assert_eq!(sent(&mut wire), [chunk::DATA]);
    let stranger = [7_u32, 100].map(u32::to_be_bytes).concat();
    assert_eq!(wire.tell(&[(chunk::COOKIE_ECHO, 0, stranger)]).0, []);
}

#[test]
fn heartbeats_are_echoed_up_to_their_bound() {
    for (bytes, echoed) in [(4, true), (12, true), (HEARTBEAT_BYTES_MAX, true), (HEARTBEAT_BYTES_MAX + 1, false)] {
        let value = vec![7; bytes];
        let (reply, _) = Wire::open([1, 1]).tell(&[(chunk::HEARTBEAT, 0, value.clone())]);
        assert_eq!(reply, if echoed { vec![(chunk::HEARTBEAT_ACK, value)] } else { vec![] }, "{bytes} bytes");
    }
    let mut wire = Wire::open([1, 1]);
    let mut packet = Vec::new();
    wire.ends[PASSIVE].write_heartbeat(0x0123_4567_89ab_cdef, &mut packet);
    wire.push(ACTIVE, packet);
    wire.deliver();
    assert_eq!(wire.arrivals[PASSIVE], [Arrival::HeartbeatAck(0x0123_4567_89ab_cdef)]);
}

#[test]
fn what_stands_behind_a_goodbye_or_an_init_is_not_looked_at() {
    let message = data(1, UNORDERED_UNFRAGMENTED, 0, ppid::BINARY, b"x");
    let reset = |request: &[u8]| (chunk::RE_CONFIG, 0, parameter(parameter::OUTGOING_RESET_REQUEST, request));
    let told = |chunk| Wire::open([1, 1]).tell(&[chunk, message.clone()]).1;
    assert_eq!(told(reset(&[0; 12])), [Arrival::Closed]);
    assert_eq!(told((chunk::ABORT, 0, vec![])), [Arrival::Closed]);

    let mut wire = Wire::open([1, 1]);
    assert_eq!(wire.tell(&[reset(&[0; 3])]), (vec![], vec![]), "a reset that names no request is none");
    assert_eq!((wire.ends[PASSIVE].is_open(), wire.ends[PASSIVE].dropped().malformed), (true, 1));

    // An INIT comes without a tag, so nothing else may come with it.
    let packet = packet_of(0, &[(chunk::INIT, 0, vec![0; 16]), message]);
    for end in [ACTIVE, PASSIVE] {
        let mut arrivals = Vec::new();
        Wire::open([1, 1]).ends[end].handle_packet(start(), &packet, &mut Vec::new(), &mut arrivals);
        assert_eq!(arrivals, []);
    }
}

#[test]
fn either_end_can_close() {
    fn check(name: &str, told: (u8, u8, Vec<u8>), answer: Option<u8>) {
        let mut wire = Wire::open([1, 1]);
        let (reply, arrivals) = wire.tell(std::slice::from_ref(&told));
        assert_eq!((kinds(&reply), &arrivals[..]), (answer.into_iter().collect(), &[Arrival::Closed][..]), "{name}");
        let mut packet = Vec::new();
        assert!(
            !wire.ends[PASSIVE].is_open() && !wire.ends[PASSIVE].write_message(start(), b"x", &mut packet),
            "{name}"
        );
        assert!(!wire.ends[PASSIVE].write_abort(&mut packet), "{name}: there is nobody left to tell");
        assert_eq!(wire.tell(&[told]), (vec![], vec![]), "{name}: a closed lane is silent");
    }
    let request = [9_u32, 1, 1].map(u32::to_be_bytes).concat();
    let reset = [parameter(parameter::OUTGOING_RESET_REQUEST, &request)].concat();
    check("reset", (chunk::RE_CONFIG, 0, reset.clone()), Some(chunk::RE_CONFIG));
    check("abort", (chunk::ABORT, 0, vec![]), None);
    check("shutdown", (chunk::SHUTDOWN, 0, vec![0; 4]), None);

    let (reply, _) = Wire::open([1, 1]).tell(&[(chunk::RE_CONFIG, 0, reset)]);
    let done = [9_u32, 1].map(u32::to_be_bytes).concat();
    assert_eq!(reply[0].1, parameter(parameter::RECONFIG_RESPONSE, &done), "number 9 is done (RFC 6525 §4.4)");
    let other = parameter(parameter::RECONFIG_RESPONSE, &[0; 8]);
    assert_eq!(Wire::open([1, 1]).tell(&[(chunk::RE_CONFIG, 0, other)]), (vec![], vec![]));

    let mut wire = Wire::open([1, 1]);
    let mut packet = Vec::new();
    assert!(wire.ends[ACTIVE].write_abort(&mut packet));
    wire.push(PASSIVE, packet);
    wire.deliver();
    assert_eq!(wire.arrivals[PASSIVE], [Arrival::Closed]);
    // RFC 9260 §8.5.1: an ABORT may carry the tag that its receiver chose for its sender.
    let mut wire = Wire::open([1, 1]);
    let mut arrivals = Vec::new();
    let abort = packet_of(ACTIVE_TAG, &[(chunk::ABORT, 0, vec![])]);
    wire.ends[PASSIVE].handle_packet(start(), &abort, &mut Vec::new(), &mut arrivals);
    assert_eq!(arrivals, [Arrival::Closed]);
}

#[test]
fn only_a_channel_without_guarantees_is_acknowledged() {
    fn check(channel: u8, retransmits: u32, accepted: bool) {
        let mut wire = Wire::open([1, 1]);
        let open = [&[dcep::OPEN, channel, 0, 0][..], &retransmits.to_be_bytes(), &[0, 1, 0, 0, b'x']].concat();
        let (reply, arrivals) = wire.tell(&[data(1, UNFRAGMENTED, 7, ppid::DCEP, &open)]);
        if accepted {
            assert_eq!((kinds(&reply), arrivals), (vec![chunk::SACK, chunk::DATA], vec![]));
            let expected = data(1, 0, 7, ppid::DCEP, &[dcep::ACK]).2;
            assert_eq!(reply[1].1, expected, "on the same stream");
            let mut packet = Vec::new();
            assert!(wire.ends[PASSIVE].write_message(start(), b"x", &mut packet));
            assert_eq!(chunks_of(&packet)[0].1[4..6], [0, 7], "messages follow the channel");
        } else {
            assert_eq!((kinds(&reply), arrivals), (vec![], vec![Arrival::ReliableChannel]), "{channel:#x}");
            assert!(!wire.ends[PASSIVE].is_open());
        }
    }
    check(0x81, 0, true);
    check(0x81, 1, false);
    check(0x80, 0, false);
    check(0x01, 0, false);
    check(0x00, 0, false);
    check(0x82, 0, false);

    let (reply, arrivals) = Wire::open([1, 1]).tell(&[data(1, UNFRAGMENTED, 7, ppid::DCEP, &[dcep::OPEN])]);
    assert_eq!((reply, arrivals), (vec![], vec![Arrival::ReliableChannel]), "one that says nothing of it");
}

#[test]
fn text_is_a_message_where_it_is_asked_for() {
    let mut wire = Wire::open([1, 1]);
    wire.ends.iter_mut().for_each(Lane::take_text);
    let mut packet = Vec::new();
    assert!(wire.ends[ACTIVE].write_text(start(), "hello", &mut packet));
    let mut arrivals = Vec::new();
    wire.ends[PASSIVE].handle_packet(start(), &packet, &mut Vec::new(), &mut arrivals);
    let [Arrival::Message(place)] = &arrivals[..] else { panic!("{arrivals:?}") };
    assert_eq!(packet[place.clone()], *b"hello");
    let ppid = ppid::STRING.to_be_bytes();
    assert!(packet.windows(9).any(|bytes| bytes == [&ppid[..], b"hello"].concat()), "as a string: RFC 8831 §6.6");
}

#[test]
fn what_is_no_message_of_this_channel_is_counted_and_dropped() {
    fn check(name: &str, told: Vec<u8>, expected: Dropped) {
        let mut wire = Wire::open([1, 1]);
        wire.tell(&[data(1, UNORDERED_UNFRAGMENTED, 4, ppid::BINARY, b"first")]);
        let mut arrivals = Vec::new();
        wire.ends[PASSIVE].handle_packet(start(), &told, &mut Vec::new(), &mut arrivals);
        assert_eq!((&arrivals[..], wire.ends[PASSIVE].dropped()), (&[][..], expected), "{name}");
        let (_, arrivals) = wire.tell(&[data(3, UNORDERED_UNFRAGMENTED, 4, ppid::BINARY, b"next")]);
        let content = HEADER_BYTES + DATA_HEADER_BYTES;
        assert_eq!(arrivals, [Arrival::Message(content..content + b"next".len())], "{name}");
    }
    let told = |chunk| packet_of(PASSIVE_TAG, &[chunk]);
    let foreign = Dropped { foreign: 1, ..Dropped::default() };
    let fragment = Dropped { fragment: 1, ..Dropped::default() };
    let malformed = Dropped { malformed: 1, ..Dropped::default() };
    check("another stream", told(data(2, 7, 5, ppid::BINARY, b"x")), foreign);
    check("text", told(data(2, 7, 4, ppid::STRING, b"x")), foreign);
    check("a channel on another stream", told(data(2, 3, 5, ppid::DCEP, b"\x03\x81\0\0\0\0\0\0\0\0\0\0")), foreign);
    for flags in [0b100, 0b101, 0b110, 0] {
        check("a fragment", told(data(2, flags, 4, ppid::BINARY, b"x")), fragment);
    }
    check("a repeat", told(data(1, 7, 4, ppid::BINARY, b"x")), Dropped { duplicate: 1, ..Dropped::default() });
    check("an empty message", told(data(2, 7, 4, ppid::BINARY, b"")), malformed);
    let message = data(2, 7, 4, ppid::BINARY, b"x");
    for tag in [0, ACTIVE_TAG, PASSIVE_TAG ^ 1] {
        check("another tag", packet_of(tag, std::slice::from_ref(&message)), malformed);
    }
    check("an abort with another tag", packet_of(PASSIVE_TAG ^ 1, &[(chunk::ABORT, 0, vec![])]), malformed);
    check("a short header", vec![0; 11], malformed);
    check("a chunk longer than the packet", told(message)[..26].to_vec(), malformed);
    check("a chunk shorter than its head", [&packet_of(PASSIVE_TAG, &[])[..], &[3, 0, 0, 3]].concat(), malformed);
}

#[test]
fn chunks_of_unknown_types_are_passed_over_as_they_ask() {
    for (kind, goes_on) in [(0x3f, false), (0x7f, false), (0x80, true), (0xff, true), (9, true)] {
        let message = data(1, UNORDERED_UNFRAGMENTED, 0, ppid::BINARY, b"x");
        let (_, arrivals) = Wire::open([1, 1]).tell(&[(kind, 0, vec![0; 5]), message]);
        assert_eq!(arrivals.len(), usize::from(goes_on), "{kind:#x}");
    }
}

/// A packet with the right tag, most of the time, of chunks that are nearly right.
fn hostile_packet() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        4 => prop::sample::select(vec![0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 130, 192]),
        1 => any::<u8>(),
    ];
    let value = prop_oneof![
        prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(3), Just(50), Just(53), any::<u8>()], 0..60),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    let tag = prop_oneof![6 => Just(PASSIVE_TAG), 2 => Just(0), 1 => any::<u32>()];
    let chunks = prop::collection::vec((kind, 0..8_u8, value), 0..40);
    (tag, chunks, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3), any::<bool>()).prop_map(
        |(tag, chunks, spoiled, cut)| {
            let mut bytes = packet_of(tag, &chunks);
            bytes.truncate(limits::UDP_PAYLOAD_BYTES);
            for (at, byte) in spoiled {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                if cut {
                    bytes.truncate(at.max(1));
                }
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(Config {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(200)
    })]

    #[test]
    fn hostile_packets_are_harmless_in_every_state(
        packets in prop::collection::vec(hostile_packet(), 1..8), stage in 0..4_usize, random: u64,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(random);
        let mut lane = match stage {
            0 => Lane::new(Role::Passive, 5000, 5000, PASSIVE_TAG, rng.next_u32(), start()),
            1 => Wire::open([rng.next_u32(), rng.next_u32()]).ends.into_iter().nth(PASSIVE).unwrap(),
            _ => {
                let mut lane = Lane::new(Role::Active, 5000, 5000, PASSIVE_TAG, rng.next_u32(), start());
                lane.write_handshake(&mut Vec::new());
                if stage == 3 {
                    lane.state = State::Established;
                    lane.remote_tag = ACTIVE_TAG;
                }
                lane
            }
        };
        let (mut reply, mut arrivals, mut written) = (Vec::new(), Vec::new(), Vec::new());
        for packet in packets {
            reply.clear();
            let messages = arrivals.len();
            let was_closed = lane.state == State::Closed;
            lane.handle_packet(start(), &packet, &mut reply, &mut arrivals);
            // All the small chunks that may answer one packet, and what is repeated of its own.
            let repeated = chunks_of(&reply).iter().find_map(|(kind, value)| match *kind {
                chunk::HEARTBEAT_ACK => Some(value.len().min(HEARTBEAT_BYTES_MAX)),
                chunk::COOKIE_ECHO => Some(value.len().min(COOKIE_BYTES_MAX)),
                _ => None,
            });
            prop_assert!(reply.len() <= 72 + repeated.unwrap_or(0), "{} bytes of reply", reply.len());
            prop_assert!(arrivals.len() - messages <= packet.len() / 4);
            prop_assert!(!was_closed || (reply.is_empty() && arrivals.len() == messages));
            written.clear();
            if lane.write_message(start(), b"next", &mut written) {
                chunks_of(&written);
                prop_assert!(written.len() <= limits::SCTP_OVERHEAD_BYTES + 4);
            }
        }
    }
}
