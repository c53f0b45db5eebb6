//! A joined player's data channel brings what no browser would send; others must not feel it.

use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::endpoint::Dropped;
use crate::game::{Batch, Context, Join, Leave as GameLeave, PlayerId, Tick};
use crate::peer::{Event, Identity, Outbox, Peer};
use crate::wire::frame::{Frame, Header, Kind};
use crate::wire::msgpack;

const LOCAL: LocalId = LocalId(0);
const MS: Duration = Duration::from_millis(1);

/// Says the number of its tick and of the inputs that it had.
#[derive(Default)]
struct Count(u32);

impl Game for Count {
    type Input = u32;
    type Command = ();
    type State = (u32, u32);
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Count>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Count>, _: PlayerId, _: GameLeave) {}

    fn tick(&mut self, ctx: &mut Context<Count>, tick: Tick, batch: Batch<'_, Count>) {
        self.0 += u32::try_from(batch.len()).unwrap();
        ctx.state(&(tick.number, self.0)).unwrap();
    }
}

/// A player who speaks through a bare [`Peer`].
struct Player {
    peer: Peer,
    outbox: Outbox,
    address: SocketAddr,
    texts: Vec<Value>,
    closed: Option<(u16, String)>,
    /// Whether nothing passes between the player's data channel and the server.
    is_cut: bool,
    /// Frames of the websocket.
    binaries: Vec<Vec<u8>>,
    /// Frames of the data channel, and when they came.
    frames: Vec<(Duration, Vec<u8>)>,
    /// Datagrams from the server, and their bytes.
    datagrams: usize,
    bytes: usize,
}

/// A server and players without a network between them.
struct Hall {
    server: Server<Count>,
    start: Instant,
    now: Instant,
    identity: Identity,
    players: Vec<Player>,
    /// Whose websocket was asked whether anybody is there, and when.
    pings: Vec<(usize, Duration)>,
}

impl Hall {
    fn new() -> Hall {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        let mut config = Config::new([5; 32]);
        config.max_players = 16;
        config.udp_port = 8080;
        config.public = vec![([10, 0, 0, 1], 8080).into()];
        let server = Server::new(config, now, |_| Ok(Count::default()));
        Hall { server, start: now, now, identity: Identity::generate(), players: Vec::new(), pings: Vec::new() }
    }

    /// A player whose data channel is open.
    fn join(&mut self, room: &str) -> usize {
        self.join_with(room, &serde_json::json!({}))
    }

    fn join_with(&mut self, room: &str, more: &Value) -> usize {
        let index = self.players.len();
        let number = u8::try_from(index + 1).unwrap();
        let (peer, sdp) = Peer::offer(self.now, &self.identity, [number; 32]);
        let address = SocketAddr::from(([10, 0, 1, number], 5000));
        let outbox = Outbox::default();
        let (texts, frames) = (Vec::new(), Vec::new());
        self.players.push(Player {
            peer,
            outbox,
            address,
            texts,
            closed: None,
            is_cut: false,
            binaries: Vec::new(),
            frames,
            datagrams: 0,
            bytes: 0,
        });
        let id = ConnectionId(index as u64);
        let connect =
            Connect { room: RoomName::parse(room), remote: address, local: [10, 0, 0, 1].into(), headers: Vec::new() };
        self.server.handle_connect(self.now, id, connect);
        let mut join = serde_json::json!({ "a": "join", "d": { "name": room, "sdp": sdp } });
        join["d"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.server.handle_text(self.now, id, &join.to_string());
        self.run(Duration::from_millis(100), |_| {});
        let (now, player) = (self.now, &mut self.players[index]);
        let answer = player.texts.iter().find_map(|text| text["d"]["sdp"].as_str()).unwrap();
        player.peer.accept(now, answer, &[(LOCAL, address)], &mut player.outbox).unwrap();
        self.run(Duration::from_secs(1), |_| {});
        assert!(self.players[index].peer.is_open(), "{:?}", self.players[index].texts);
        index
    }

    /// Lets time pass, each millisecond calling `each`.
    fn run(&mut self, time: Duration, mut each: impl FnMut(&mut Hall)) {
        let end = self.now + time;
        while self.now < end {
            self.now += MS;
            each(self);
            if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
                self.server.handle_timeout(self.now);
            }
            for player in &mut self.players {
                if player.peer.poll_timeout().is_some_and(|at| at <= self.now) {
                    player.peer.handle_timeout(self.now, &mut player.outbox);
                }
            }
            self.exchange();
        }
    }

    /// Brings everything to whom it is for, until nobody has anything to say.
    fn exchange(&mut self) {
        let now = self.now;
        for _ in 0..1_000 {
            let mut is_quiet = self.take_from_server();
            for player in &mut self.players {
                while let Some(transmit) = player.outbox.poll() {
                    if player.is_cut {
                        continue;
                    }
                    self.server.handle_datagram(now, now, LOCAL, player.address, transmit.bytes);
                    is_quiet = false;
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("the ends never come to rest");
    }

    fn take_from_server(&mut self) -> bool {
        let (now, mut is_quiet) = (self.now, true);
        while let Some(transmit) = self.server.poll_transmit() {
            assert!(transmit.bytes.len() <= limits::UDP_PAYLOAD_BYTES);
            is_quiet = false;
            let player = self.players.iter_mut().find(|player| player.address == transmit.destination).unwrap();
            if player.is_cut {
                continue;
            }
            player.datagrams += 1;
            player.bytes += transmit.bytes.len();
            let source = SocketAddr::from(([10, 0, 0, 1], 8080));
            if transmit.bytes[0] < 4 {
                player.peer.handle_stun(now, LOCAL, source, transmit.bytes, &mut player.outbox);
            } else {
                player.peer.handle_datagram(now, LOCAL, source, transmit.bytes, &mut player.outbox);
            }
        }
        let mut pongs = Vec::new();
        while let Some(id) = self.server.poll_signal_ready() {
            let player = &mut self.players[usize::try_from(id.0).unwrap()];
            while let Some(signal) = self.server.poll_signal(id) {
                match signal {
                    Signal::Text(text) => player.texts.push(serde_json::from_str(&text).unwrap()),
                    Signal::Binary(bytes) => player.binaries.push(bytes),
                    Signal::Ping(payload) => pongs.push((id, payload)),
                    Signal::Close { code, reason } => player.closed = Some((code, reason)),
                }
            }
        }
        for (id, payload) in pongs {
            self.pings.push((usize::try_from(id.0).unwrap(), now - self.start));
            self.server.handle_pong(now, id, &payload.to_be_bytes());
        }
        for player in &mut self.players {
            while let Some(event) = player.peer.poll_event() {
                if let Event::Data(frame) = event {
                    player.frames.push((now - self.start, frame));
                }
            }
        }
        is_quiet
    }

    /// Sends chunks past a player's lane; one datagram at most answers them while the peer is there.
    fn send_chunks(&mut self, player: usize, tag: Option<u32>, chunks: &[u8]) {
        let (now, sender) = (self.now, &mut self.players[player]);
        let (peers, datagrams, bytes) = (self.server.gauges().peers, sender.datagrams, sender.bytes);
        let mut sent = 0;
        sender.peer.send_chunks(now, tag, chunks, &mut sender.outbox);
        while let Some(transmit) = sender.outbox.poll() {
            sent += transmit.bytes.len();
            self.server.handle_datagram(now, now, LOCAL, sender.address, transmit.bytes);
        }
        self.take_from_server();
        let sender = &self.players[player];
        if self.server.gauges().peers == peers {
            assert!(sender.datagrams - datagrams <= 1, "one packet, one reply");
            assert!((sender.bytes - bytes) as u64 <= sent as u64 * limits::UNPROVEN_AMPLIFICATION);
        }
    }

    fn input(&mut self, player: usize, number: u32) {
        let value = msgpack::encode(&number, limits::INPUT_BYTES).unwrap();
        let body = msgpack::encode_inputs(number, std::iter::once((0, value.as_slice())));
        let mut bytes = Vec::new();
        let header = Header::Unreliable { part: None, seq: 0, ack: 0 };
        Frame { kind: Kind::Input, deflated: false, header, body: &body }.encode(&mut bytes);
        let player = &mut self.players[player];
        player.peer.send(self.now, &bytes, &mut player.outbox);
    }

    /// Bob plays in one room; in another Mallory sends `per_ms` packets each millisecond for a second, while Ann is
    /// there.
    fn play(&mut self, per_ms: u32, mut packet: impl FnMut(u32) -> (Option<u32>, Vec<u8>)) -> Played {
        let (bob, ann, mallory) = (self.join("calm"), self.join("flooded"), self.join("flooded"));
        let begin = self.now;
        let (mut number, mut inputs, mut put_out_after) = (0, 0, None);
        let memory = allocation_counter::measure(|| {
            self.run(Duration::from_millis(1_500), |hall| {
                if (hall.now - begin).as_millis().is_multiple_of(33) {
                    inputs += 1;
                    hall.input(bob, inputs);
                }
                for _ in 0..per_ms {
                    if hall.now - begin <= Duration::from_secs(1) && hall.players[mallory].closed.is_none() {
                        let (tag, chunks) = packet(number);
                        hall.send_chunks(mallory, tag, &chunks);
                        number += 1;
                    }
                }
                if hall.players[mallory].closed.is_some() {
                    put_out_after.get_or_insert(hall.now - begin);
                }
            });
        });
        let bobs_frames = std::mem::take(&mut self.players[bob].frames);
        let told = |player: usize, name: &str| {
            let mut texts = self.players[player].texts.iter().rev();
            texts.find(|text| text["a"] == name).map(|text| text["d"].clone()).unwrap_or_default()
        };
        Played {
            bobs_frames,
            put_out_after,
            closed: self.players[mallory].closed.clone(),
            channel_closed: told(mallory, "eventChannelClosed"),
            left: told(ann, "eventLeave"),
            packets: number,
            memory: memory.bytes_max,
            dropped: self.server.counters().peers,
            peers: self.server.gauges().peers,
        }
    }
}

#[derive(Debug)]
struct Played {
    bobs_frames: Vec<(Duration, Vec<u8>)>,
    put_out_after: Option<Duration>,
    closed: Option<(u16, String)>,
    channel_closed: Value,
    left: Value,
    packets: u32,
    memory: u64,
    dropped: Dropped,
    peers: usize,
}

/// What a second of flood may make the process allocate beyond what it gives back: all that waits to be sent included.
const MEMORY_BYTES: u64 = 64 * 1024;

fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut chunk = [&[kind, flags][..], &length.to_be_bytes(), value].concat();
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

fn data(tsn: u32, flags: u8, stream: u16, protocol: u32, payload: &[u8]) -> Vec<u8> {
    let head = [&tsn.to_be_bytes()[..], &stream.to_be_bytes(), &[0; 2], &protocol.to_be_bytes()].concat();
    chunk(0, flags, &[&head, payload].concat())
}

const TEXT: u32 = 51;
const CHANNEL: u32 = 50;

fn calm() -> Vec<(Duration, Vec<u8>)> {
    let calm = Hall::new().play(0, |_| unreachable!());
    assert!(calm.bobs_frames.len() > 70 && calm.peers == 3 && calm.closed.is_none(), "{calm:?}");
    calm.bobs_frames
}

#[test]
fn who_floods_the_data_channel_is_put_out_within_a_second_and_nobody_else_feels_it() {
    let calm = calm();
    let check = |name: &str, packet: &dyn Fn(u32) -> Vec<u8>| {
        let tag = (name == "INIT").then_some(0);
        let played = Hall::new().play(100, |number| (tag, packet(number)));
        let after = played.put_out_after.unwrap_or_else(|| panic!("{name}: nobody was put out: {:?}", played.dropped));
        println!("{name}: put out after {after:?} and {} packets, {} bytes", played.packets, played.memory);
        assert!(after <= Duration::from_secs(1), "{name}: {after:?}");
        let reason = "You sent too many packets on the data channel.".to_owned();
        assert_eq!(played.closed, Some((Leave::Flood.close_code(), reason)), "{name}");
        assert_eq!(played.channel_closed["e"], "rate_limited", "{name}");
        assert_eq!(played.left["reason"], "flood", "{name}");
        assert!(played.dropped.excess > 0, "{name}");
        assert!(played.memory <= MEMORY_BYTES, "{name}: {} bytes", played.memory);
        assert_eq!(played.peers, 2, "{name}");
        assert!(played.bobs_frames == calm, "{name}: another room was moved");
    };
    let init = [&7_u32.to_be_bytes()[..], &[0; 4], &[4, 0, 4, 0], &9_u32.to_be_bytes()].concat();
    check("INIT", &|_| chunk(1, 0, &init));
    check("streams", &|number| data(number, 7, u16::try_from(number % 65_536).unwrap(), TEXT, b"x"));
    check("gaps", &|number| data(number.wrapping_mul(100_000), 7, 0, TEXT, b"x"));
    check("fragments", &|number| data(number, 0, 0, TEXT, b"x"));
    check("channels", &|number| {
        let stream = u16::try_from(number % 65_536).unwrap();
        data(number, 3, stream, CHANNEL, &[3, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    });
    check("SACK", &|_| {
        let head = [0_u32.to_be_bytes(), [0; 4], 250_u32.rotate_left(16).to_be_bytes()].concat();
        chunk(3, 0, &[head, [0, 1, 0xff, 0xff].repeat(250)].concat())
    });
    check("HEARTBEAT", &|_| chunk(4, 0, &[0; 256]));
    check("HEARTBEAT-ACK", &|_| chunk(5, 0, &[0, 1, 0, 12, 7, 7, 7, 7, 7, 7, 7, 7]));
    check("RE-CONFIG", &|_| chunk(130, 0, &[0, 16, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1]));
    check("FORWARD-TSN", &|number| chunk(192, 0, &number.wrapping_mul(1_000).to_be_bytes()));
    check("COOKIE-ECHO", &|_| chunk(10, 0, &[7; 8]));
    check("many chunks", &|_| chunk(11, 0, &[]).repeat(280));
    check("nothing", &|_| Vec::new());
}

#[test]
fn what_is_hostile_but_rare_is_dropped_and_counted() {
    let calm = calm();
    let check = |name: &str, packet: &dyn Fn(u32) -> Vec<u8>, foreign: std::ops::RangeInclusive<u64>| {
        let mut hall = Hall::new();
        let played = hall.play(1, |number| (None, if number < 100 { packet(number) } else { chunk(11, 0, &[]) }));
        assert_eq!((&played.closed, played.peers), (&None, 3), "{name}: {played:?}");
        assert!(foreign.contains(&played.dropped.foreign), "{name}: {:?}", played.dropped);
        assert!(played.memory <= MEMORY_BYTES, "{name}: {} bytes", played.memory);
        assert!(played.bobs_frames == calm, "{name}: another room was moved");
    };
    // 4,000 channels, 40 in a packet; the first is on the stream that is taken.
    let open = |number: u32| {
        let opens = (0..40).map(|offset| (number * 40 + offset, u16::try_from(number * 40 + offset).unwrap()));
        opens.flat_map(|(tsn, stream)| data(tsn, 3, stream, CHANNEL, b"\x03\x81\0\0\0\0\0\0\0\0\0\0")).collect()
    };
    check("channels", &open, 3_900..=4_000);
    let streams =
        |number: u32| (0..50).flat_map(|offset| data(number * 50 + offset, 7, 1, TEXT, b"x")).collect::<Vec<u8>>();
    check("texts", &streams, 4_900..=5_000);
}

#[test]
fn many_frames_in_few_packets_are_a_flood_too() {
    let calm = calm();
    let mut ping = Vec::new();
    let header = Header::Unreliable { part: None, seq: 0, ack: 0 };
    Frame { kind: Kind::Pong, deflated: false, header, body: &msgpack::encode_clock(0.0) }.encode(&mut ping);
    let played = Hall::new()
        .play(1, |number| (None, (0..30).flat_map(|offset| data(number * 30 + offset, 7, 0, 53, &ping)).collect()));
    assert_eq!(played.closed, Some((Leave::Flood.close_code(), "You sent too many frames.".to_owned())));
    assert!(played.packets < 30 && played.bobs_frames == calm, "{played:?}");
}

#[test]
fn a_channel_that_delivers_nothing_is_passed_by_until_it_does() {
    let seqs = |frames: &[Vec<u8>]| -> Vec<u16> {
        let states = frames.iter().filter(|frame| frame[0] & 0x0f == Kind::State as u8);
        states.map(|frame| u16::from_le_bytes([frame[1], frame[2]])).collect()
    };
    let mut hall = Hall::new();
    let player = hall.join("cut");
    hall.players[player].binaries.clear();
    hall.run(limits::CHANNEL_SILENCE * 2, |_| {});
    assert!(seqs(&hall.players[player].binaries).is_empty(), "an open channel carries everything");
    hall.players[player].is_cut = true;
    hall.run(limits::CHANNEL_SILENCE - 100 * MS, |_| {});
    assert!(seqs(&hall.players[player].binaries).is_empty(), "it may be a short gap");
    hall.run(200 * MS + 10 * 33 * MS, |_| {});
    let meanwhile = seqs(&hall.players[player].binaries);
    assert!(meanwhile.len() >= 10, "{meanwhile:?}");
    hall.players[player].is_cut = false;
    hall.run(limits::CHANNEL_DOUBT, |_| {});
    let over_channel = hall.players[player].frames.len();
    let before = seqs(&hall.players[player].binaries).len();
    hall.run(330 * MS, |_| {});
    assert_eq!(seqs(&hall.players[player].binaries).len(), before, "it delivers again");
    assert!(hall.players[player].frames.len() >= over_channel + 10);
    let frames: Vec<Vec<u8>> = hall.players[player].frames.iter().map(|(_, frame)| frame.clone()).collect();
    let mut all = [seqs(&frames), seqs(&hall.players[player].binaries)].concat();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "no state went over both");
}

#[cfg(feature = "driver")]
#[test]
fn turns_may_wait_while_no_channel_opens() {
    let mut hall = Hall::new();
    assert!(!hall.server.may_wait(hall.now), "nobody plays");
    hall.join("waits");
    assert!(hall.server.may_wait(hall.now));
    assert!(hall.server.next_tick().is_some_and(|at| at <= hall.now + hall.server.config.tick));
    let (_, sdp) = Peer::offer(hall.now, &hall.identity, [9; 32]);
    let remote = ([10, 0, 1, 9], 5000).into();
    hall.server.handle_connect(hall.now, ConnectionId(9), Connect::new(RoomName::parse("waits"), remote, remote.ip()));
    let join = serde_json::json!({ "a": "join", "d": { "sdp": sdp } });
    hall.server.handle_text(hall.now, ConnectionId(9), &join.to_string());
    hall.now += hall.server.config.tick;
    hall.server.handle_timeout(hall.now);
    assert!(!hall.server.may_wait(hall.now), "a channel opens");
    hall.now += Duration::from_millis(500);
    assert!(hall.server.may_wait(hall.now), "nothing was received of it");
}

#[test]
fn heartbeats_are_sparse_for_who_takes_that_while_the_channel_delivers() {
    let mut hall = Hall::new();
    let taking = |value: Value| serde_json::json!({ "sparseHeartbeats": value });
    let sparse = hall.join_with("some", &taking(true.into()));
    let others = [hall.join("some"), hall.join_with("some", &taking(1.into()))];
    let longest = |hall: &Hall, player: usize, from: Duration| {
        let pings = hall.pings.iter().filter(|&&(of, at)| of == player && at >= from).map(|&(_, at)| at);
        let times: Vec<_> = [from].into_iter().chain(pings).chain([hall.now - hall.start]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
    };
    let from = hall.now - hall.start;
    hall.run(limits::HEARTBEAT_INTERVAL * 12, |_| {});
    let most = limits::HEARTBEAT_INTERVAL * (1 + u32::from(limits::HEARTBEATS_SKIPPED)) + MS;
    assert!((most - 2 * MS..=most).contains(&longest(&hall, sparse, from)), "{:?}", hall.pings);
    for other in others {
        assert!(longest(&hall, other, from) <= limits::HEARTBEAT_INTERVAL + MS, "{:?}", hall.pings);
    }
    hall.players[sparse].is_cut = true;
    hall.run(limits::HEARTBEAT_INTERVAL, |_| {});
    let from = hall.now - hall.start;
    hall.run(limits::HEARTBEAT_INTERVAL * 12, |_| {});
    assert!(longest(&hall, sparse, from) <= limits::HEARTBEAT_INTERVAL + MS, "a silent channel: {:?}", hall.pings);
}

/// Or each delay would leave more of them due in one turn, until all are.
#[test]
fn heartbeats_that_a_delay_has_brought_together_part_again() {
    let mut hall = Hall::new();
    let players = [hall.join("late"), hall.join("late")];
    hall.now += limits::HEARTBEAT_INTERVAL;
    hall.run(MS, |_| {});
    let late = hall.now - hall.start;
    assert!(players.iter().all(|player| hall.pings.contains(&(*player, late))), "both were due: {:?}", hall.pings);
    hall.run(limits::HEARTBEAT_INTERVAL * 4, |_| {});
    let [one, other] = players.map(|player| {
        let of = hall.pings.iter().filter(|(of, at)| *of == player && *at > late);
        of.map(|(_, at)| *at).collect::<Vec<_>>()
    });
    assert!(one.len() >= 2 && other.len() >= 2, "{:?}", hall.pings);
    assert!(one.iter().all(|at| !other.contains(at)), "{:?}", hall.pings);
}
