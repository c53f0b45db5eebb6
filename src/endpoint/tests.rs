use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;
use crate::limits;

/// The server's addresses, by their `LocalId`.
const SERVERS: [&str; 2] = ["10.0.0.1:8080", "10.0.0.2:8080"];
const LOCAL: LocalId = LocalId(0);
const ONE_WAY: Duration = Duration::from_millis(20);

struct Client {
    peer: Peer,
    outbox: Outbox,
    key: PeerKey,
    address: SocketAddr,
    events: Vec<Event>,
    /// Nothing goes to or comes from it.
    is_silent: bool,
    /// The ICE checks that it sent.
    checks: Vec<Vec<u8>>,
}

type Damage = fn(&mut Vec<u8>);

enum Packet {
    Up { source: SocketAddr, local: LocalId, bytes: Vec<u8> },
    Down { local: LocalId, destination: SocketAddr, bytes: Vec<u8> },
}

/// Bytes that the endpoint had from an address, and sent there.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    up: u64,
    down: u64,
}

struct Net {
    now: Instant,
    endpoint: Endpoint,
    identity: Identity,
    clients: Vec<Client>,
    events: Vec<(PeerKey, Event)>,
    packets: BTreeMap<(Instant, u64), Packet>,
    order: u64,
    traffic: BTreeMap<SocketAddr, Traffic>,
    /// The records that clients sent.
    records: Vec<Vec<u8>>,
    /// Nothing goes to or comes from this address of the server.
    blocked: Option<LocalId>,
    /// DTLS datagrams that were sent, either way.
    dtls: usize,
    /// The one of them that is damaged, and how.
    damage: Option<(usize, Damage)>,
}

fn server(local: LocalId) -> SocketAddr {
    SERVERS[usize::from(local.0)].parse().unwrap()
}

fn local_of(server: SocketAddr) -> LocalId {
    LocalId(u16::try_from(SERVERS.iter().position(|address| address.parse() == Ok(server)).unwrap()).unwrap())
}

fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, host], port))
}

impl Net {
    fn new() -> Net {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        Net {
            now,
            endpoint: Endpoint::new([7; 32]),
            identity: Identity::generate(),
            clients: Vec::new(),
            events: Vec::new(),
            packets: BTreeMap::new(),
            order: 0,
            traffic: BTreeMap::new(),
            records: Vec::new(),
            blocked: None,
            dtls: 0,
            damage: None,
        }
    }

    /// A client that begins to connect, with an answer that `spoil` may have changed.
    fn connect_with(&mut self, spoil: impl FnOnce(String) -> String) -> usize {
        let number = u8::try_from(self.clients.len() + 1).unwrap();
        let (mut peer, offer) = Peer::offer(self.now, &self.identity, [number; 32]);
        let (key, answer) =
            self.endpoint.answer(self.now, &offer, SERVERS.map(|address| address.parse().unwrap()).to_vec()).unwrap();
        let mut outbox = Outbox::default();
        let address = address(number, 5000);
        peer.accept(self.now, &spoil(answer), &[(LOCAL, address)], &mut outbox).unwrap();
        self.clients.push(Client {
            peer,
            outbox,
            key,
            address,
            events: Vec::new(),
            is_silent: false,
            checks: Vec::new(),
        });
        self.clients.len() - 1
    }

    /// A client that is connected.
    fn connect(&mut self) -> usize {
        let client = self.connect_with(|answer| answer);
        self.run(Duration::from_secs(1));
        assert!(self.endpoint.is_open(self.clients[client].key), "{:?}", self.events);
        assert_eq!(self.clients[client].events, [Event::Open]);
        self.events.clear();
        self.clients[client].events.clear();
        client
    }

    fn run(&mut self, time: Duration) {
        self.run_with(time, |_| {});
    }

    /// Lets time pass, 30 times a second calling `each`.
    fn run_with(&mut self, time: Duration, mut each: impl FnMut(&mut Net)) {
        let end = self.now + time;
        let mut next_step = self.now;
        for _ in 0..1_000_000 {
            let at = self.next_event().unwrap_or(end).min(next_step).max(self.now);
            if at >= end {
                self.now = end;
                return;
            }
            self.now = at;
            if at == next_step {
                each(self);
                next_step += Duration::from_millis(33);
            }
            self.turn();
        }
        panic!("the ends never come to rest");
    }

    fn next_event(&mut self) -> Option<Instant> {
        self.collect();
        let clients = self.clients.iter().filter_map(|client| client.peer.poll_timeout());
        let packet = self.packets.keys().next().map(|&(at, _)| at);
        clients.chain(packet).chain(self.endpoint.poll_timeout()).min()
    }

    fn turn(&mut self) {
        let now = self.now;
        while let Some(entry) = self.packets.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Packet::Up { local, .. } | Packet::Down { local, .. } if self.blocked == Some(local) => {}
                Packet::Up { source, local, bytes } => self.give_to(local, source, &bytes),
                Packet::Down { local, destination, bytes } => {
                    let found = self.clients.iter_mut().find(|client| client.address == destination);
                    let Some(client) = found.filter(|client| !client.is_silent) else { continue };
                    let server = server(local);
                    if bytes[0] < 4 {
                        client.peer.handle_stun(now, LOCAL, server, &bytes, &mut client.outbox);
                    } else {
                        client.peer.handle_datagram(now, LOCAL, server, &bytes, &mut client.outbox);
                    }
                }
            }
            self.collect();
        }
        self.endpoint.handle_timeout(now);
        for client in &mut self.clients {
            if client.peer.poll_timeout().is_some_and(|at| at <= now) {
                client.peer.handle_timeout(now, &mut client.outbox);
            }
        }
        self.collect();
    }

    /// Gives the endpoint a datagram at once.
    fn give(&mut self, source: SocketAddr, bytes: &[u8]) {
        self.give_to(LOCAL, source, bytes);
    }

    fn give_to(&mut self, local: LocalId, source: SocketAddr, bytes: &[u8]) {
        self.traffic.entry(source).or_default().up += bytes.len() as u64;
        self.endpoint.handle_datagram(self.now, local, source, bytes);
        self.collect();
    }

    /// Sends a datagram on its way, damaged where it is its turn.
    fn put(&mut self, mut packet: Packet) {
        let (Packet::Up { bytes, .. } | Packet::Down { bytes, .. }) = &mut packet;
        if (20..64).contains(&bytes[0]) {
            if let Some((_, damage)) = self.damage.filter(|&(which, _)| which == self.dtls) {
                damage(bytes);
            }
            self.dtls += 1;
        }
        self.order += 1;
        self.packets.insert((self.now + ONE_WAY, self.order), packet);
    }

    /// Takes what both sides have to say.
    fn collect(&mut self) {
        let mut packets = Vec::new();
        for client in &mut self.clients {
            client.events.extend(std::iter::from_fn(|| client.peer.poll_event()));
            while let Some(transmit) = client.outbox.poll() {
                let (local, bytes) = (local_of(transmit.destination), transmit.bytes.to_vec());
                match bytes[0] {
                    0..4 if self.blocked != Some(local)
                        && StunMessage::parse(&bytes).is_ok_and(|message| message.is_binding_request()) =>
                    {
                        client.checks.push(bytes.clone());
                    }
                    20..64 => self.records.push(bytes.clone()),
                    _ => {}
                }
                if !client.is_silent {
                    packets.push(Packet::Up { source: client.address, local, bytes });
                }
            }
        }
        while let Some(transmit) = self.endpoint.poll_transmit() {
            assert!(transmit.bytes.len() <= limits::UDP_PAYLOAD_BYTES);
            let (local, destination, bytes) = (transmit.local, transmit.destination, transmit.bytes.to_vec());
            self.traffic.entry(destination).or_default().down += bytes.len() as u64;
            packets.push(Packet::Down { local, destination, bytes });
        }
        packets.into_iter().for_each(|packet| self.put(packet));
        self.events.extend(std::iter::from_fn(|| self.endpoint.poll_event()));
    }

    fn send_down(&mut self, client: usize, frame: &[u8]) -> Sent {
        self.endpoint.send(self.now, self.clients[client].key, frame)
    }

    fn send_up(&mut self, client: usize, frame: &[u8]) -> Sent {
        let client = &mut self.clients[client];
        client.peer.send(self.now, frame, &mut client.outbox)
    }

    /// Frames that reach the client and the endpoint while both send 30 a second.
    fn exchange(&mut self, client: usize, time: Duration) -> (usize, usize) {
        self.clients[client].events.clear();
        self.events.clear();
        self.run_with(time, |net| {
            net.send_down(client, &[1; 400]);
            net.send_up(client, &[2; 40]);
        });
        let is_data = |event: &Event| matches!(event, Event::Data(_));
        let down = self.clients[client].events.iter().filter(|event| is_data(event)).count();
        let key = self.clients[client].key;
        (down, self.events.iter().filter(|(of, event)| *of == key && is_data(event)).count())
    }

    /// At least so many checks of a client that nobody has had: it is cut off for moments.
    fn withheld_checks(&mut self, client: usize, count: usize) -> Vec<Vec<u8>> {
        let mut withheld = Vec::new();
        while withheld.len() < count {
            let before = self.clients[client].checks.len();
            self.clients[client].is_silent = true;
            self.run(Duration::from_secs(2));
            self.clients[client].is_silent = false;
            withheld.extend_from_slice(&self.clients[client].checks[before..]);
            self.run(Duration::from_secs(3));
        }
        withheld
    }

    fn paths(&self, of: usize) -> Vec<Pair> {
        let key = self.clients[of].key;
        self.endpoint.by_path.iter().filter(|&(_, &owner)| owner == key).map(|(&pair, _)| pair).collect()
    }

    /// Whether a frame reaches the client from that address of the server.
    fn reaches(&mut self, client: usize, local: LocalId) -> bool {
        self.clients[client].events.clear();
        self.blocked = Some(LocalId(1 - local.0));
        self.send_down(client, b"reaches");
        self.run(ONE_WAY * 2);
        self.blocked = None;
        self.clients[client].events.contains(&Event::Data(b"reaches".to_vec()))
    }

    fn assert_gone(&self) {
        assert_eq!((self.endpoint.peers(), self.endpoint.poll_timeout()), (0, None));
        assert!(self.endpoint.by_path.is_empty() && self.endpoint.timers.is_empty());
    }
}

#[test]
fn a_peer_is_sent_so_many_bytes_a_second_and_no_more() {
    let mut net = Net::new();
    let client = net.connect();
    let frames = limits::DOWNLINK_BYTES_PER_SECOND as usize / 1_000;
    let burst = |net: &mut Net| (0..2 * frames).filter(|_| net.send_down(client, &[1; 1_000]) == Sent::Sent).count();
    assert_eq!(burst(&mut net), frames);
    net.run(Duration::from_millis(100));
    let a_tenth = burst(&mut net);
    assert!((frames / 10 - 1..=frames / 10 + 1).contains(&a_tenth), "{a_tenth} of {frames}");
}

#[test]
fn frames_go_both_ways_until_either_end_closes() {
    fn check(close: impl Fn(&mut Net, usize), server: &[Event], client: &[Event]) {
        let mut net = Net::new();
        let (one, other) = (net.connect(), net.connect());
        let largest = vec![3; limits::FRAME_BYTES];
        assert_eq!((net.send_down(one, &largest), net.send_up(one, b"up")), (Sent::Sent, Sent::Sent));
        net.run(Duration::from_millis(100));
        assert_eq!(net.clients[one].events, [Event::Data(largest)]);
        assert_eq!(net.events, [(net.clients[one].key, Event::Data(b"up".to_vec()))]);
        assert!(net.clients[other].events.is_empty());

        net.events.clear();
        net.clients[one].events.clear();
        close(&mut net, one);
        net.run(Duration::from_millis(100));
        let told: Vec<_> = net.events.iter().map(|(key, event)| (*key == net.clients[one].key, event)).collect();
        assert_eq!(told, server.iter().map(|event| (true, event)).collect::<Vec<_>>());
        assert_eq!(net.clients[one].events, client);
        assert_eq!((net.send_down(one, b"x"), net.send_up(one, b"x")), (Sent::Dropped, Sent::Dropped));
        let (down, up) = net.exchange(other, Duration::from_secs(1));
        assert!(down > 25 && up > 25, "the other peer goes on: {down} down, {up} up");
        net.endpoint.close(net.now, net.clients[other].key);
        net.assert_gone();
    }
    let by_server = |net: &mut Net, one: usize| net.endpoint.close(net.now, net.clients[one].key);
    check(by_server, &[], &[Event::Closed(Closed::ByPeer)]);
    let by_client = |net: &mut Net, one: usize| {
        let Client { peer, outbox, .. } = &mut net.clients[one];
        peer.close(net.now, Closed::ByPeer, outbox);
    };
    check(by_client, &[Event::Closed(Closed::ByPeer)], &[Event::Closed(Closed::ByPeer)]);
}

#[test]
fn one_who_does_not_know_the_password_never_opens() {
    let mut net = Net::new();
    let start = net.now;
    let client = net.connect_with(|answer| {
        let at = answer.find("a=ice-pwd:").unwrap() + "a=ice-pwd:".len();
        [&answer[..at], &"x".repeat(24), &answer[at + 24..]].concat()
    });
    net.run(limits::PEER_OPEN_TIMEOUT - Duration::from_millis(1));
    assert!(net.endpoint.unroutable().stun > 3 && net.endpoint.peers() == 1);
    assert_eq!(net.traffic[&net.clients[client].address].down, 0, "nobody is answered who has proven nothing");
    assert_eq!(net.endpoint.poll_timeout(), Some(start + limits::PEER_OPEN_TIMEOUT));
    net.run(Duration::from_secs(1));
    assert_eq!(net.events, [(net.clients[client].key, Event::Closed(Closed::NeverOpened))]);
    net.assert_gone();
}

#[test]
fn the_first_byte_tells_where_a_datagram_goes() {
    fn check(bytes: &[u8], expected: Unroutable) {
        let mut net = Net::new();
        net.connect();
        net.give(address(99, 1), bytes);
        assert_eq!(net.endpoint.unroutable(), expected, "{:x?}", bytes.first());
    }
    let none = Unroutable::default();
    for first in [0, 1, 2, 3] {
        check(&[first, 1, 2], Unroutable { stun: 1, ..none });
    }
    for first in [20, 22, 63] {
        check(&[first, 1, 2], Unroutable { dtls: 1, ..none });
    }
    for first in [128, 191] {
        check(&[first, 1, 2], Unroutable { media: 1, ..none });
    }
    for first in [4, 19, 64, 127, 192, 255] {
        check(&[first, 1, 2], Unroutable { unknown: 1, ..none });
    }
    check(&[], Unroutable { unknown: 1, ..none });
}

#[test]
fn of_too_many_paths_the_oldest_that_has_proven_nothing_is_forgotten() {
    let mut net = Net::new();
    let client = net.connect();
    let home = Pair { local: LOCAL, remote: net.clients[client].address };
    let before = net.paths(client);
    assert!(before.contains(&home));
    let checks = net.withheld_checks(client, 2 * limits::PEER_ADDRESSES);
    for (port, check) in (1..).zip(&checks) {
        net.give(address(99, port), check);
        assert!(net.paths(client).len() <= limits::PEER_ADDRESSES && net.paths(client).contains(&home));
    }
    let newest = Pair { local: LOCAL, remote: address(99, u16::try_from(checks.len()).unwrap()) };
    assert!(net.paths(client).contains(&newest));
    net.events.clear();
    let (down, up) = net.exchange(client, Duration::from_secs(1));
    assert!(down >= 28 && up >= 28, "{down} down, {up} up: {:?}", net.events);
}

#[test]
fn a_peer_introduces_so_many_addresses_and_no_more() {
    let mut net = Net::new();
    let client = net.connect();
    let key = net.clients[client].key;
    let checks = net.withheld_checks(client, usize::from(limits::PEER_INTRODUCTIONS) + 8);
    for (port, check) in (1..).zip(&checks) {
        net.give(address(99, port), check);
        let is_known = net.paths(client).contains(&Pair { local: LOCAL, remote: address(99, port) });
        assert_eq!(is_known, port < limits::PEER_INTRODUCTIONS, "{port}: the client's own address was the first");
    }
    assert!(net.endpoint.is_open(key));
    let (down, up) = net.exchange(client, Duration::from_secs(1));
    assert!(down >= 28 && up >= 28, "{down} down, {up} up");
}

#[test]
fn copies_of_checks_from_other_addresses_are_passed_over() {
    let mut net = Net::new();
    net.blocked = Some(LocalId(1));
    let client = net.connect();
    net.exchange(client, Duration::from_secs(10));
    let (paths, refused) = (net.paths(client), net.endpoint.unroutable().stun);
    let copies = net.clients[client].checks.clone();
    for (port, check) in (1..).zip(&copies) {
        net.give(address(99, port), check);
        assert_eq!(net.traffic[&address(99, port)].down, 0, "nothing is sent there");
    }
    assert_eq!((net.paths(client), net.endpoint.unroutable().stun), (paths, refused + copies.len() as u64));
    // The same check again over the same path is one whose answer was lost (RFC 8489 §6.2.1).
    let home = net.clients[client].address;
    let before = net.traffic[&home].down;
    net.give(home, copies.last().unwrap());
    assert!(net.traffic[&home].down > before);
    let (down, up) = net.exchange(client, Duration::from_secs(1));
    assert!(down >= 28 && up >= 28, "{down} down, {up} up");
}

#[test]
fn a_damaged_check_of_an_open_peer_is_refused_without_an_answer() {
    /// The header, the user name and the integrity; a fingerprint (RFC 8489 §14.7) is optional and proves nothing.
    const FINGERPRINT_BYTES: usize = 8;
    let mut net = Net::new();
    let client = net.connect();
    net.exchange(client, Duration::from_secs(1));
    let check = net.withheld_checks(client, 1).remove(0);
    let paths = net.paths(client);
    for at in 0..check.len() - FINGERPRINT_BYTES {
        let mut damaged = check.clone();
        damaged[at] ^= 1;
        net.give(address(99, 9), &damaged);
    }
    assert_eq!(net.traffic[&address(99, 9)].down, 0);
    assert_eq!(net.paths(client), paths);
    net.give(address(99, 9), &check);
    assert!(net.traffic[&address(99, 9)].down > 0, "undamaged it is answered");
}

#[test]
fn the_old_path_is_used_until_the_new_one_has_answered() {
    let mut net = Net::new();
    let client = net.connect();
    net.exchange(client, Duration::from_secs(1));
    let checks = net.withheld_checks(client, 4);
    for (port, check) in (1..).zip(&checks) {
        let nobody = address(99, port);
        net.give(nobody, check);
        let (down, up) = net.exchange(client, Duration::from_millis(330));
        assert!(down >= 9 && up >= 9, "{down} down, {up} up");
        let Traffic { up, down } = net.traffic[&nobody];
        assert!(down <= up * limits::UNPROVEN_AMPLIFICATION, "{down} bytes for {up}");
    }
}

#[test]
fn a_client_that_changes_to_another_address_of_the_server_is_answered_from_there() {
    let mut net = Net::new();
    let client = net.connect();
    let first = LocalId(u16::from(!net.reaches(client, LOCAL)));
    let second = LocalId(1 - first.0);
    assert!(net.reaches(client, first) && !net.reaches(client, second));
    net.blocked = Some(first);
    // Its ICE gives an address up after 15 s (RFC 7675 §5.1 has twice as long), and then chooses the other.
    net.exchange(client, Duration::from_secs(25));
    let (down, up) = net.exchange(client, Duration::from_secs(1));
    assert!(down >= 28 && up >= 28, "{down} down, {up} up: {:?}", net.events);
    assert!(net.reaches(client, second) && !net.reaches(client, first));
}

#[test]
fn a_client_whose_address_changes_plays_on() {
    let mut net = Net::new();
    let client = net.connect();
    let home = net.clients[client].address;
    let sent = |net: &Net, address| net.traffic.get(&address).copied().unwrap_or_default();
    for (turn, away) in [address(200, 6000), home, address(200, 6001), home].into_iter().enumerate() {
        net.exchange(client, Duration::from_secs(2));
        net.clients[client].address = away;
        let before = sent(&net, away).down;
        // ICE checks the path every few seconds; until then the endpoint can't know.
        let mut waited = Duration::ZERO;
        while sent(&net, away).down == before && waited < Duration::from_secs(10) {
            net.exchange(client, Duration::from_millis(100));
            waited += Duration::from_millis(100);
        }
        net.exchange(client, Duration::from_millis(900));
        let (down, up) = net.exchange(client, Duration::from_secs(1));
        assert!(down >= 28 && up >= 28, "turn {turn}: {down} down, {up} up, {waited:?} after the change");
    }
}

#[test]
fn an_address_that_proves_nothing_gets_three_times_what_it_sent() {
    let mut net = Net::new();
    let client = net.connect();
    let victim = address(250, 53);
    let check = net.withheld_checks(client, 1).remove(0);
    net.give(victim, &check);
    for _ in 0..10 {
        let (down, up) = net.exchange(client, Duration::from_millis(330));
        assert!(down >= 9 && up >= 9, "the client keeps its peer: {down} down, {up} up");
        let Traffic { up, down } = net.traffic[&victim];
        assert!(down > 0 && down <= up * limits::UNPROVEN_AMPLIFICATION, "{down} bytes for {up}");
    }
    assert!(net.endpoint.dropped().unproven > 0);
}

#[test]
fn a_peer_that_falls_silent_is_lost() {
    let mut net = Net::new();
    let client = net.connect();
    net.clients[client].is_silent = true;
    net.run(Duration::from_secs(10));
    assert_eq!(net.events, []);
    net.run(Duration::from_secs(20));
    assert_eq!(net.events, [(net.clients[client].key, Event::Closed(Closed::Lost))]);
    net.assert_gone();
    assert_eq!(net.clients[client].events, [Event::Closed(Closed::Lost)], "and so is the endpoint for it");
}

#[test]
fn the_key_of_a_peer_that_is_gone_means_nobody() {
    let mut net = Net::new();
    let first = net.connect();
    let old = net.clients[first].key;
    net.endpoint.close(net.now, old);
    net.run(Duration::from_secs(1));
    let second = net.connect();
    let new = net.clients[second].key;
    assert_eq!((old.index, old == new), (new.index, false), "the place is taken again");
    assert!(!net.endpoint.is_open(old));
    assert_eq!(net.endpoint.send(net.now, old, b"x"), Sent::Dropped);
    net.endpoint.close(net.now, old);
    assert!(net.endpoint.is_open(new));
    let stale = net.clients[first].checks[0].clone();
    let paths = net.endpoint.by_path.clone();
    net.give(net.clients[first].address, &stale);
    assert_eq!((net.endpoint.unroutable().stun, &net.endpoint.by_path), (1, &paths));
}

#[test]
fn forged_datagrams_from_the_address_of_a_peer_do_not_end_it() {
    let mut net = Net::new();
    let client = net.connect();
    net.exchange(client, Duration::from_secs(1));
    let source = net.clients[client].address;
    let (check, record) = (net.clients[client].checks.last().cloned().unwrap(), net.records.last().cloned().unwrap());
    let handshake = net.records[0].clone();
    for original in [check, record, handshake] {
        for at in 0..original.len() {
            let mut forged = original.clone();
            forged[at] ^= 0x15;
            net.give(source, &forged);
            net.give(source, &original[..at]);
        }
    }
    for kind in 20..=25 {
        for epoch in 0..3 {
            net.give(source, &[&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 1, 0, 0, 2][..], &[2, 0]].concat());
        }
    }
    let (down, up) = net.exchange(client, Duration::from_secs(1));
    assert!(down >= 28 && up >= 28, "{down} down, {up} up: {:?}", net.events);
}

#[test]
fn forged_records_to_a_client_do_not_end_it() {
    let mut net = Net::new();
    let client = net.connect();
    net.exchange(client, Duration::from_secs(1));
    net.run(ONE_WAY * 2);
    net.clients[client].events.clear();
    net.send_down(client, b"genuine");
    let record = net.endpoint.poll_transmit().unwrap().bytes.to_vec();
    let (now, Client { peer, outbox, .. }) = (net.now, &mut net.clients[client]);
    let mut give = |bytes: &[u8]| peer.handle_datagram(now, LOCAL, server(LOCAL), bytes, outbox);
    for at in 0..record.len() {
        let mut forged = record.clone();
        forged[at] ^= 0x15;
        give(&forged);
        give(&record[..at]);
    }
    for kind in 20..=25 {
        for epoch in 0..3 {
            give(&[&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 1, 0, 0, 2][..], &[2, 0]].concat());
        }
    }
    give(&record);
    net.collect();
    assert_eq!(net.clients[client].events, [Event::Data(b"genuine".to_vec())]);
    let (down, up) = net.exchange(client, Duration::from_secs(1));
    assert!(down >= 28 && up >= 28, "{down} down, {up} up");
}

#[test]
fn ends_with_and_without_records_of_their_own_understand_each_other() {
    for (server, client) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut net = Net::new();
        if server {
            net.endpoint.take_slow_path();
        }
        let one = net.connect_with(|answer| answer);
        if client {
            net.clients[one].peer.take_slow_path();
        }
        net.run(Duration::from_secs(1));
        let (down, up) = net.exchange(one, Duration::from_secs(3));
        assert!(down >= 88 && up >= 88, "slow {server} {client}: {down} down, {up} up");
        let key = net.clients[one].key;
        let is_fast = [net.endpoint.game(key).unwrap().is_fast(), net.clients[one].peer.is_fast()];
        assert_eq!(is_fast, [!server, !client], "keys are taken over just where they may be");
        net.clients[one].events.clear();
        net.endpoint.close(net.now, key);
        net.run(Duration::from_millis(100));
        assert_eq!(net.clients[one].events, [Event::Closed(Closed::ByPeer)], "slow {server} {client}");
        net.assert_gone();
    }
}

#[test]
fn what_others_send_under_the_address_of_a_peer_is_not_held_against_it() {
    let mut net = Net::new();
    let client = net.connect();
    net.exchange(client, Duration::from_secs(1));
    let source = net.clients[client].address;
    let record = net.records.last().cloned().unwrap();
    net.run(ONE_WAY * 2);
    net.events.clear();
    for number in 0..2 * u16::try_from(limits::UPLINK_PACKETS_PER_SECOND).unwrap() {
        net.give(source, &record);
        let mut forged = record.clone();
        // The record's number is one that has not come (RFC 6347 §4.1.2.6); its tag can't be right.
        forged[9..11].copy_from_slice(&(1_000 + number).to_be_bytes());
        net.give(source, &forged);
    }
    assert_eq!((net.endpoint.dropped().excess, &net.events[..]), (0, &[][..]), "neither repeats nor forgeries count");
    let (down, up) = net.exchange(client, Duration::from_secs(1));
    assert!(down >= 28 && up >= 28, "{down} down, {up} up");
}

#[test]
fn a_path_that_is_proven_and_heard_is_nobody_elses() {
    let mut net = Net::new();
    let claimant = net.connect();
    let victim = net.connect();
    net.exchange(victim, Duration::from_secs(1));
    let claimed = Pair { local: LOCAL, remote: net.clients[victim].address };
    for check in net.withheld_checks(claimant, 4) {
        let refused = net.endpoint.unroutable().stun;
        net.give(claimed.remote, &check);
        assert_eq!(
            (net.endpoint.by_path[&claimed], net.endpoint.unroutable().stun),
            (net.clients[victim].key, refused + 1)
        );
        let (down, up) = net.exchange(victim, Duration::from_millis(330));
        assert!(down >= 9 && up >= 9, "{down} down, {up} up");
    }
    // An address that was left may be given to another by the translation in front of both.
    let checks = net.withheld_checks(claimant, 1);
    net.clients[victim].is_silent = true;
    net.exchange(claimant, limits::PATH_KEPT);
    net.give(claimed.remote, &checks[0]);
    assert_eq!(net.endpoint.by_path[&claimed], net.clients[claimant].key);
    // Whoever is there has not proven it; its owner is back with the next check.
    net.clients[victim].is_silent = false;
    net.exchange(victim, Duration::from_secs(4));
    for client in [victim, claimant] {
        let (down, up) = net.exchange(client, Duration::from_secs(1));
        assert!(down >= 28 && up >= 28, "client {client}: {down} down, {up} up");
    }
}

/// Ways to damage a datagram that begins with a record of DTLS (RFC 6347 §4.1).
const DAMAGES: [(&str, Damage); 8] = [
    ("type", |bytes| bytes[0] ^= 1),
    ("version", |bytes| bytes[1] ^= 1),
    ("epoch", |bytes| bytes[4] ^= 1),
    ("length", |bytes| bytes[12] ^= 1),
    ("message", |bytes| bytes[13] ^= 1),
    ("body", |bytes| bytes[30] ^= 1),
    ("end", |bytes| *bytes.last_mut().unwrap() ^= 1),
    ("junk", |bytes| bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = if at == 0 { 22 } else { 7 })),
];

#[test]
fn a_damaged_handshake_goes_on_or_is_given_up_in_time() {
    let mut given_up = 0;
    for number in 0..8 {
        for (what, damage) in DAMAGES {
            let mut net = Net::new();
            net.damage = Some((number, damage));
            let client = net.connect_with(|answer| answer);
            let start = net.now;
            let is_over = |net: &Net| {
                let is_open = net.endpoint.is_open(net.clients[client].key) && net.clients[client].peer.is_open();
                is_open || net.endpoint.peers() == 0 || net.clients[client].peer.is_closed()
            };
            while !is_over(&net) {
                net.run(Duration::from_millis(10));
            }
            let passed = net.now - start;
            let events = net.events.iter().map(|(_, event)| event).chain(&net.clients[client].events);
            let failures = events.filter(|event| matches!(event, Event::Closed(_))).inspect(|&event| {
                assert_eq!(
                    *event,
                    Event::Closed(Closed::Failed),
                    "{number}, {what}: the client is told, and offers again"
                );
            });
            given_up += failures.count();
            assert!(passed <= limits::PEER_SECURE_TIMEOUT + ONE_WAY * 6, "{number}, {what}: {passed:?}");
        }
    }
    assert!((1..=16).contains(&given_up), "{given_up} of 64");
}

#[test]
fn what_anybody_may_send_ends_no_handshake() {
    // Of the whole time that it takes: alerts, junk, and records of a later epoch, all from the right address.
    let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 2, 40];
    let behind = [&[20, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0][..], &alert].concat();
    let of_epoch_1 = [&[22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 40][..], &[7; 40]].concat();
    let junk: Vec<Vec<u8>> = (20..64).map(|first| [&[first][..], &[first; 40]].concat()).collect();
    let forged: Vec<Vec<u8>> = [vec![alert.to_vec(), behind, of_epoch_1], junk].concat();
    for (number, bytes) in forged.iter().enumerate() {
        for at in [0, 3, 5, 7, 9, 11] {
            let mut net = Net::new();
            let client = net.connect_with(|answer| answer);
            let (source, start) = (net.clients[client].address, net.now);
            net.run(ONE_WAY / 2 * at);
            net.give(source, bytes);
            let Client { peer, outbox, .. } = &mut net.clients[client];
            peer.handle_datagram(net.now, LOCAL, server(LOCAL), bytes, outbox);
            net.run(start + Duration::from_secs(2) - net.now);
            assert!(net.endpoint.is_open(net.clients[client].key), "{number} {at}: {:?}", net.events);
            assert_eq!(net.clients[client].events, [Event::Open], "{number} {at}");
        }
    }
}

proptest! {
    #![proptest_config(Config {
        rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(32)
    })]

    #[test]
    fn spoiled_handshakes_end_in_a_peer_or_in_none(
        spoiled in prop::collection::vec((0..60_usize, any::<prop::sample::Index>(), any::<u8>()), 0..12),
    ) {
        let mut net = Net::new();
        net.connect_with(|answer| answer);
        let mut number = 0;
        net.run_with(Duration::from_secs(40), |net| {
            for packet in net.packets.values_mut() {
                let (Packet::Up { bytes, .. } | Packet::Down { bytes, .. }) = packet;
                for (which, at, byte) in &spoiled {
                    if *which == number {
                        let at = at.index(bytes.len());
                        bytes[at] = *byte;
                    }
                }
                number += 1;
            }
        });
        let is_open = net.endpoint.peers() == 1;
        let ended = net.events.iter().any(|(_, event)| matches!(event, Event::Closed(_)));
        prop_assert!(is_open != ended);
        if !is_open {
            net.assert_gone();
        }
    }
}
