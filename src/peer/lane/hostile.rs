//! Attacks on a lane by the other end, and the invariants that must hold.
//!
//! Each function takes the bytes that drive it: a fuzzer's, or those of a test that replays what fuzzers found.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::*;

const ACTIVE: usize = 0;
const PASSIVE: usize = 1;
const TAGS: [u32; 2] = [0xaaaa_0001, 0xbbbb_0002];
/// The maximum content of a datagram through DTLS.
const PACKET_BYTES: usize = limits::UDP_PAYLOAD_BYTES - limits::DTLS_RECORD_OVERHEAD_BYTES;
/// The content of a hostile datagram: more than permitted.
const HOSTILE_PACKET_BYTES: usize = 2 * limits::UDP_PAYLOAD_BYTES;
const STEPS_MAX: usize = 512;
const IN_FLIGHT_MAX: usize = 64;

/// Raw packets before the association is up, to either end, whose handshake may have begun.
pub(crate) fn packets_before_opening(now: Instant, input: &[u8]) {
    let mut script = Script(input);
    let setup = script.byte();
    let end = usize::from(setup & 1);
    let mut watched = Watched::new(now, end, 1000);
    if end == ACTIVE && setup & 2 != 0 {
        watched.write_handshake();
    }
    for _ in 0..STEPS_MAX {
        let Some(packet) = script.piece() else { return };
        watched.handle(now, packet);
    }
}

/// Raw chunks, behind a header that is right, to either end of an association that is up.
pub(crate) fn chunks_after_opening(now: Instant, input: &[u8]) {
    let mut script = Script(input);
    let setup = script.byte();
    let mut ends = open_ends(now, [script.tsn(), script.tsn()]);
    let watched = &mut ends[usize::from(setup & 1)];
    for _ in 0..STEPS_MAX {
        let Some(chunks) = script.piece() else { return };
        let mut packet = watched.header();
        packet.extend_from_slice(chunks);
        watched.handle(now, &packet);
        if chunks.len() % 2 == 1 {
            watched.write(now, chunks);
        }
    }
}

/// Two ends, what they say to each other, and hostile packets of nearly right chunks in between.
pub(crate) fn scripts(mut now: Instant, input: &[u8]) {
    let mut script = Script(input);
    let setup = script.byte();
    let tsns = [script.tsn(), script.tsn()];
    let mut ends = if setup & 1 == 0 {
        open_ends(now, tsns)
    } else {
        [ACTIVE, PASSIVE].map(|end| Watched::new(now, end, tsns[end]))
    };
    let mut in_flight: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut old: Vec<(usize, Vec<u8>)> = Vec::new();
    for _ in 0..STEPS_MAX {
        if script.0.is_empty() {
            return;
        }
        let step = script.byte();
        let end = usize::from(step >> 7);
        let written = match step & 15 {
            0..=5 => {
                let packet = script.hostile_packet(&ends[end]);
                Some((end, packet))
            }
            6 | 7 => {
                let bytes = 1 + usize::from(script.byte()) * 4;
                ends[end].write(now, &vec![step; bytes]).map(|packet| (1 - end, packet))
            }
            8 => ends[ACTIVE].write_handshake().map(|packet| (PASSIVE, packet)),
            9 => Some((1 - end, ends[end].write_heartbeat(u64::from(step)))),
            10 => ends[end].write_abort().map(|packet| (1 - end, packet)),
            11 if !old.is_empty() => Some(old[usize::from(script.byte()) % old.len()].clone()),
            12 if !in_flight.is_empty() => {
                let (to, mut packet) = in_flight.swap_remove(usize::from(script.byte()) % in_flight.len());
                let at = usize::from(script.short()) % packet.len();
                packet[at] ^= script.byte();
                Some((to, packet))
            }
            13 => {
                now += Duration::from_millis(u64::from(script.byte()) * 16);
                ends[end].lane.pace().takes_tick(now, u32::from(step), true);
                None
            }
            14 => {
                ends[end].lane.pace().handle_new_path(now);
                None
            }
            _ if !in_flight.is_empty() => Some(in_flight.remove(usize::from(script.byte()) % in_flight.len())),
            _ => None,
        };
        let Some((mut to, mut packet)) = written else { continue };
        // Packets may be in transit for a while, or be lost.
        if step & 0x20 != 0 {
            if step & 0x40 == 0 && in_flight.len() < IN_FLIGHT_MAX {
                in_flight.push((to, packet));
            }
            continue;
        }
        // Each answers the other until one has nothing to say.
        for _ in 0..8 {
            let reply = ends[to].handle(now, &packet);
            if old.len() < IN_FLIGHT_MAX {
                old.push((to, packet));
            }
            match reply {
                Some(reply) => (to, packet) = (1 - to, reply),
                None => break,
            }
        }
    }
}

fn open_ends(now: Instant, tsns: [u32; 2]) -> [Watched; 2] {
    let mut ends = [ACTIVE, PASSIVE].map(|end| Watched::new(now, end, tsns[end]));
    let mut to = PASSIVE;
    let mut packet = ends[ACTIVE].write_handshake();
    while let Some(said) = packet {
        packet = ends[to].handle(now, &said);
        to = 1 - to;
    }
    assert!(ends.iter().all(|end| end.lane.is_open()));
    ends
}

impl Lane {
    /// Handles a packet, and appends the reply, if any, to `reply`.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        packet: &[u8],
        reply: &mut Vec<u8>,
        arrivals: &mut Vec<Arrival>,
    ) {
        if let Some(replies) = self.receive(now, packet, arrivals) {
            self.write_replies(now, &replies, reply);
        }
    }
}

#[cfg(test)]
impl Lane {
    /// A packet to the other end, of chunks as no lane would write them.
    pub(crate) fn hostile_packet(&self, tag: Option<u32>, chunks: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        self.begin(&mut packet);
        if let Some(tag) = tag {
            packet[4..8].copy_from_slice(&tag.to_be_bytes());
        }
        packet.extend_from_slice(chunks);
        finish(&mut packet);
        packet
    }
}

/// A lane that is held to its word.
struct Watched {
    lane: Lane,
    /// Number of the highest TSN seen, counting on where TSNs wrap.
    highest: i64,
    /// Such numbers of the messages that were delivered.
    delivered: BTreeSet<i64>,
    ended: bool,
}

impl Watched {
    fn new(now: Instant, end: usize, tsn: u32) -> Watched {
        let role = if end == ACTIVE { Role::Active } else { Role::Passive };
        let lane = Lane::new(role, 5000, 5000, TAGS[end], tsn, now);
        Watched { lane, highest: 0, delivered: BTreeSet::new(), ended: false }
    }

    /// Gives it a packet; its reply.
    fn handle(&mut self, now: Instant, packet: &[u8]) -> Option<Vec<u8>> {
        let state_before = self.lane.state;
        let highest_before = self.lane.highest_seen;
        let dropped_before = self.lane.dropped();
        let (mut reply, mut arrivals) = (Vec::new(), Vec::new());
        self.lane.handle_packet(now, packet, &mut reply, &mut arrivals);

        assert!(self.lane.cookie.capacity() <= COOKIE_BYTES_MAX, "what it keeps is bounded");
        let first = packet.get(HEADER_BYTES);
        if be_u32(packet, 4) != Some(self.lane.local_tag) && first != Some(&chunk::ABORT) {
            assert!(arrivals.is_empty(), "a packet of another association brings nothing: {arrivals:?}");
            assert!(reply.is_empty() || first == Some(&chunk::INIT), "nor is it answered");
        }
        self.check_arrivals(state_before == State::Established, packet, &arrivals);
        self.check_deliveries(state_before, highest_before, packet, &arrivals);
        let dropped = self.lane.dropped();
        for (before, after) in [
            (dropped_before.malformed, dropped.malformed),
            (dropped_before.duplicate, dropped.duplicate),
            (dropped_before.fragment, dropped.fragment),
            (dropped_before.foreign, dropped.foreign),
        ] {
            assert!((before..=before + packet.len() as u64 / 4 + 1).contains(&after), "each drop is counted once");
        }
        if reply.is_empty() {
            return None;
        }
        let answers_init = reply.get(HEADER_BYTES) == Some(&chunk::INIT_ACK);
        // An INIT-ACK carries the tag that the INIT names, which is the first chunk, or stands behind others.
        let init = Chunks::of(packet).flatten().find(|chunk| chunk.kind == chunk::INIT);
        let tag = if answers_init { init.and_then(|init| be_u32(init.value, 0)) } else { Some(self.lane.remote_tag) };
        self.check_packet(&reply, tag);
        let overhead = limits::DTLS_RECORD_OVERHEAD_BYTES;
        let to_unproven = self.lane.role == Role::Passive;
        assert!(
            !to_unproven
                || (reply.len() + overhead) as u64 <= (packet.len() + overhead) as u64 * limits::UNPROVEN_AMPLIFICATION
        );
        Some(reply)
    }

    fn check_arrivals(&mut self, was_open: bool, packet: &[u8], arrivals: &[Arrival]) {
        let mut open = was_open;
        let mut bytes = 0;
        for arrival in arrivals {
            assert!(!self.ended, "nothing arrives after the end: {arrival:?}");
            match arrival {
                Arrival::Open => assert!(!std::mem::replace(&mut open, true), "it opens once"),
                Arrival::Message(message) => {
                    assert!(open, "messages come while it is open");
                    bytes += message.len();
                }
                Arrival::HeartbeatAck(_) => assert!(open),
                Arrival::Closed | Arrival::ReliableChannel => {
                    open = false;
                    self.ended = true;
                }
            }
        }
        assert!(bytes <= packet.len());
        assert_eq!(self.lane.is_open(), open, "whoever asks and whoever is told hear the same: {arrivals:?}");
        assert!(!self.ended || self.lane.state == State::Closed);
    }

    /// Checks that each delivered message is in the packet, under a TSN not delivered before.
    fn check_deliveries(&mut self, state_before: State, highest_before: u32, packet: &[u8], arrivals: &[Arrival]) {
        let mut messages = arrivals.iter().filter_map(|arrival| match arrival {
            Arrival::Message(place) => Some(&packet[place.clone()]),
            _ => None,
        });
        let mut next = messages.next();
        let mut open = state_before == State::Established;
        let (mut tsn_now, mut number_now) = (highest_before, self.highest);
        let mut reached = vec![(tsn_now, number_now)];
        for chunk in Chunks::of(packet).map_while(|chunk| chunk) {
            match chunk.kind {
                chunk::COOKIE_ECHO if self.lane.role == Role::Passive && !open => {
                    let Some(tsn) = be_u32(chunk.value, 4) else { break };
                    tsn_now = tsn.wrapping_sub(1);
                    open = true;
                }
                chunk::COOKIE_ACK if state_before == State::CookieEchoed => open = true,
                chunk::DATA | chunk::FORWARD_TSN if open => {
                    let Some(tsn) = be_u32(chunk.value, 0) else { continue };
                    let number = number_now + i64::from(tsn.wrapping_sub(tsn_now).cast_signed());
                    if number > number_now {
                        (tsn_now, number_now) = (tsn, number);
                    }
                    let is_next = chunk.kind == chunk::DATA && next == chunk.value.get(12..);
                    if is_next && chunk.flags & UNFRAGMENTED == UNFRAGMENTED && self.delivered.insert(number) {
                        next = messages.next();
                    }
                }
                _ => {}
            }
            reached.push((tsn_now, number_now));
        }
        assert_eq!(next, None, "a message came twice, or was never sent");
        // It need not have looked at the last chunks.
        if let Some(&(_, number)) = reached.iter().rev().find(|(tsn, _)| *tsn == self.lane.highest_seen) {
            self.highest = number;
        }
    }

    fn check_packet(&self, packet: &[u8], tag: Option<u32>) {
        assert!((HEADER_BYTES + CHUNK_HEADER_BYTES..=PACKET_BYTES).contains(&packet.len()), "{} bytes", packet.len());
        assert_eq!(packet.len() % 4, 0, "chunks are padded");
        assert_eq!(packet[..4], [0x13, 0x88, 0x13, 0x88], "the ports are right");
        assert_eq!(be_u32(packet, 4), tag, "the tag is the one that its receiver chose");
        let mut unsummed = packet.to_vec();
        unsummed[8..12].fill(0);
        assert_eq!(packet[8..12], crc32c::crc32c(&unsummed).to_le_bytes(), "the checksum is right");
        for chunk in Chunks::of(packet) {
            let chunk = chunk.expect("what is sent is whole");
            let tsn = be_u32(chunk.value, 0).unwrap_or_default();
            match chunk.kind {
                chunk::SACK => assert!(!is_newer(tsn, self.lane.highest_seen), "what came is acknowledged"),
                chunk::FORWARD_TSN => assert!(is_newer(self.lane.next_tsn, tsn), "what was sent is given up"),
                _ => {}
            }
        }
    }

    fn write(&mut self, now: Instant, payload: &[u8]) -> Option<Vec<u8>> {
        let payload = &payload[..payload.len().min(limits::FRAME_BYTES)];
        let (tsn, mut packet) = (self.lane.next_tsn, Vec::new());
        let written = self.lane.write_message(now, payload, &mut packet);
        assert_eq!(written, self.lane.is_open());
        written.then(|| {
            self.check_packet(&packet, Some(self.lane.remote_tag));
            let data = Chunks::of(&packet).flatten().find(|chunk| chunk.kind == chunk::DATA);
            let said = data.map(|data| (be_u32(data.value, 0), &data.value[12..]));
            assert_eq!(said, Some((Some(tsn), payload)));
            assert_eq!(self.lane.next_tsn, tsn.wrapping_add(1), "each message has a number of its own");
            packet
        })
    }

    fn write_handshake(&mut self) -> Option<Vec<u8>> {
        let mut packet = Vec::new();
        self.lane.write_handshake(&mut packet).then_some(packet)
    }

    fn write_heartbeat(&mut self, nonce: u64) -> Vec<u8> {
        let mut packet = Vec::new();
        self.lane.write_heartbeat(nonce, &mut packet);
        packet
    }

    fn write_abort(&mut self) -> Option<Vec<u8>> {
        let mut packet = Vec::new();
        let written = self.lane.write_abort(&mut packet);
        self.ended = true;
        assert!(!self.lane.is_open());
        written.then_some(packet)
    }

    /// The header of a packet that it takes.
    fn header(&self) -> Vec<u8> {
        let mut header = [0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 0];
        header[4..8].copy_from_slice(&self.lane.local_tag.to_be_bytes());
        header.to_vec()
    }
}

/// Bytes that drive what happens; when there are none left, zeros.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        let mut bytes = [0; N];
        bytes[..head.len()].copy_from_slice(head);
        bytes
    }

    fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    fn short(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn word(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// The next piece, which begins with its length.
    fn piece(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = usize::from(self.short()) % HOSTILE_PACKET_BYTES;
        let (piece, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        Some(piece)
    }

    fn tsn(&mut self) -> u32 {
        match self.byte() {
            0 => 1,
            1 => u32::MAX - 2,
            2 => 0x7fff_fffd,
            _ => self.word(),
        }
    }

    /// A number somewhere around another, or far from it.
    fn near(&mut self, number: u32) -> u32 {
        let far = match self.byte() {
            0..=99 => 1,
            100..=179 => i32::from(self.byte().cast_signed()),
            180..=209 => i32::from(self.short().cast_signed()),
            210..=219 => i32::MAX,
            220..=229 => i32::MIN,
            _ => self.word().cast_signed(),
        };
        number.wrapping_add_signed(far)
    }

    fn hostile_packet(&mut self, victim: &Watched) -> Vec<u8> {
        let count = self.byte();
        let mut packet = victim.header();
        match count >> 5 {
            6 => packet[4..8].fill(0),
            7 => packet[4..8].copy_from_slice(&victim.lane.remote_tag.to_be_bytes()),
            _ => {}
        }
        for _ in 0..=count % 16 {
            self.hostile_chunk(&victim.lane, &mut packet);
        }
        packet.truncate(HOSTILE_PACKET_BYTES);
        packet
    }

    fn hostile_chunk(&mut self, victim: &Lane, packet: &mut Vec<u8>) {
        let start = packet.len();
        let kind = self.byte();
        match kind % 16 {
            0..=2 => self.data(victim, packet),
            3 => self.channel(victim, packet),
            4 => self.sack(victim, packet),
            5 => {
                let tsn = self.near(victim.highest_seen);
                put_chunk(packet, chunk::FORWARD_TSN, 0, &[&tsn.to_be_bytes()]);
            }
            6 => {
                let kind = self.pick(&[
                    parameter::RECONFIG_RESPONSE,
                    parameter::OUTGOING_RESET_REQUEST,
                    parameter::HEARTBEAT_INFO,
                    parameter::STATE_COOKIE,
                ]);
                let mut parameters = Vec::new();
                put_parameter(&mut parameters, kind, &self.take::<8>());
                put_parameter(&mut parameters, self.short(), &self.take::<3>());
                put_chunk(packet, chunk::RE_CONFIG, 0, &[&parameters]);
            }
            7 => {
                let bytes = usize::from(self.byte()) * 2;
                put_chunk(packet, chunk::HEARTBEAT, 0, &[&vec![kind; bytes]]);
            }
            8 => put_chunk(packet, chunk::HEARTBEAT_ACK, 0, &[&[0, 1, 0, 12], &self.take::<8>()]),
            9 | 10 => {
                let kind = self.pick(&[chunk::INIT, chunk::INIT_ACK]);
                let tag = self.pick(&[TAGS[ACTIVE], TAGS[PASSIVE], 0, 1]);
                let tsn = self.near(victim.highest_seen);
                let mut cookie = Vec::new();
                let bytes = usize::from(self.byte()) * 4;
                put_parameter(&mut cookie, parameter::STATE_COOKIE, &vec![kind; bytes]);
                put_chunk(packet, kind, 0, &[&tag.to_be_bytes(), &[0; 8], &tsn.to_be_bytes(), &cookie]);
            }
            11 => {
                let tag = self.pick(&[victim.remote_tag, TAGS[ACTIVE], 0, 1]);
                put_chunk(packet, chunk::COOKIE_ECHO, 0, &[&tag.to_be_bytes(), &self.take::<4>()]);
            }
            12 => put_chunk(packet, chunk::COOKIE_ACK, 0, &[]),
            13 => put_chunk(packet, self.byte(), self.byte(), &[&self.take::<8>()]),
            14 => put_chunk(packet, self.pick(&[chunk::ABORT, chunk::SHUTDOWN]), self.byte(), &[]),
            // One whose length is not what it has.
            _ => {
                self.data(victim, packet);
                packet[start + 2..start + 4].copy_from_slice(&self.take::<2>());
            }
        }
    }

    fn data(&mut self, victim: &Lane, packet: &mut Vec<u8>) {
        let tsn = self.near(victim.highest_seen);
        let shape = self.byte();
        let flags = if shape & 3 == 3 { self.byte() } else { UNORDERED_UNFRAGMENTED };
        let stream = if shape & 0xc == 0xc { self.short() } else { victim.stream.unwrap_or(0) };
        let ppid = if shape & 0x30 == 0x30 { self.word() } else { ppid::BINARY };
        let payload = vec![shape; usize::from(shape >> 6) * 30 + 1];
        let (tsn, stream, ppid) = (tsn.to_be_bytes(), stream.to_be_bytes(), ppid.to_be_bytes());
        put_chunk(packet, chunk::DATA, flags, &[&tsn, &stream, &[0; 2], &ppid, &payload]);
    }

    fn channel(&mut self, victim: &Lane, packet: &mut Vec<u8>) {
        let tsn = self.near(victim.highest_seen);
        let stream = self.pick(&[0, 1, victim.stream.unwrap_or(0), u16::MAX]);
        let channel = self.pick(&[0x81, 0x81, 0x81, 0x80, 0x01, 0x00, 0x02, 0x82, 0xff]);
        let retransmits = self.pick(&[0_u32, 0, 0, 1, u32::MAX]);
        let kind = self.pick(&[dcep::OPEN, dcep::OPEN, dcep::OPEN, dcep::ACK, 0]);
        let open = [&[kind, channel, 0, 0][..], &retransmits.to_be_bytes(), &self.take::<4>()].concat();
        let open = &open[..open.len() - usize::from(self.byte() % 12)];
        let (tsn, stream, ppid) = (tsn.to_be_bytes(), stream.to_be_bytes(), ppid::DCEP.to_be_bytes());
        put_chunk(packet, chunk::DATA, UNFRAGMENTED, &[&tsn, &stream, &[0; 2], &ppid, open]);
    }

    fn sack(&mut self, victim: &Lane, packet: &mut Vec<u8>) {
        let cumulative = self.near(victim.next_tsn.wrapping_sub(2));
        let count = self.byte();
        let mut gaps = Vec::new();
        for _ in 0..count % 64 {
            gaps.extend_from_slice(&u16::from(self.byte()).to_be_bytes());
            gaps.extend_from_slice(&u16::from(self.byte()).to_be_bytes());
        }
        // Some claim more than there are.
        let said = u16::from(if count & 0x40 == 0 { count % 64 } else { count });
        let repeats = u16::from(count & 0x80);
        let (cumulative, said, repeats) = (cumulative.to_be_bytes(), said.to_be_bytes(), repeats.to_be_bytes());
        put_chunk(packet, chunk::SACK, 0, &[&cumulative, &[0; 4], &said, &repeats, &gaps]);
    }
}
