//! The cost of messages, ticks and joins in the server, without the kernel's part, for `benches/instructions.sh`.
//!
//! `instructions ROW` sets a server and its clients up, runs the work of the row within [`counted_by_callgrind`], and
//! prints how many units of it there were. Only the server's part of the work is counted; clients answer in between, as
//! they would.

#![allow(clippy::unwrap_used, reason = "a count whose setup fails should stop")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtcade::client::{Client, Config as ClientConfig, Message};
use rtcade::endpoint::LocalId;
use rtcade::game::{Batch, Context, Game, Join, Lane, Leave, PlayerId, Refusal, RoomInfo, Target, Tick};
use rtcade::games::Arena;
use rtcade::games::arena::Steer;
use rtcade::rand::Rng;
use rtcade::server::{Config, Connect, ConnectionId, Server, Signal};
use rtcade::sim::{ClientId, SERVER, Simulation};
use rtcade::wire::signaling::RoomName;

const TICK: Duration = Duration::from_millis(33);
const TICKS: usize = 45;
const PLAYERS: usize = 50;
const ARENA_PLAYERS: usize = 16;
const MESSAGE_BYTES: usize = 200;
const PACKETS: usize = 300;
const PACKET_INTERVAL: Duration = Duration::from_millis(10);
const JOINS: u64 = 40;
const JOIN_STEPS: u32 = 1_000;
const WAITING_BYTES: usize = 64 * 1024;

/// The function that `benches/instructions.sh` names to callgrind.
#[inline(never)]
fn counted_by_callgrind(work: &mut dyn FnMut()) {
    work();
}

/// Datagrams in one buffer, so that keeping them costs little.
#[derive(Default)]
struct Datagrams {
    bytes: Vec<u8>,
    ends: Vec<(SocketAddr, usize)>,
}

impl Datagrams {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, address: SocketAddr, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push((address, self.bytes.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(address, end)| {
            let bytes = &self.bytes[start..end];
            start = end;
            (address, bytes)
        })
    }
}

/// Sends a message of 200 bytes that neither deflate nor repetition shortens.
struct Noise(Option<Lane>);

impl Game for Noise {
    type Input = [f64; 4];
    type Command = ();
    type State = Vec<u8>;
    type Event = Vec<u8>;
    type Welcome = ();
    type JoinData = ();

    const INPUTS_PER_TICK: usize = 8;

    fn join(&mut self, _: &mut Context<Noise>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Noise>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Noise>, _: Tick, _: Batch<'_, Noise>) {
        let noise: Vec<u8> = (0..MESSAGE_BYTES - 10).map(|_| ctx.rng().next_u32().to_le_bytes()[0] & 0x7f).collect();
        match self.0 {
            None => ctx.state(&noise).unwrap(),
            Some(lane) => ctx.event(Target::All, &noise, lane).unwrap(),
        }
    }
}

/// What a row counts of a tick: receiving what the clients have sent, running the tick and sending, or both.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Send,
    Both,
}

fn count(is_counted: bool, mut work: impl FnMut()) {
    if is_counted { counted_by_callgrind(&mut work) } else { work() }
}

/// A room whose players have joined and whose channels are open, right before a tick.
fn room<G: Game>(players: usize, recorded: bool, make: impl Fn(&RoomInfo) -> G + 'static) -> Simulation<G> {
    let mut sim =
        Simulation::with_config(1, |config| config.max_players = players, move |room| Ok::<_, Refusal>(make(room)));
    if recorded {
        // As the driver does: blocks are copied to where another thread fetches them.
        sim.server.record(|_| {
            let mut waiting = Vec::new();
            Box::new(move |block| {
                if waiting.len() > WAITING_BYTES {
                    waiting.clear();
                }
                waiting.extend_from_slice(block);
            })
        });
    }
    for player in 0..players {
        sim.join("count", &format!("player {player}"));
    }
    // The room's ticks are at multiples of its length.
    sim.run(TICK * 60 - Duration::from_millis(1));
    assert!(sim.clients().all(|id| sim[id].client.is_open()));
    sim.stand_still(Duration::from_millis(1));
    sim
}

fn collect<G: Game>(server: &mut Server<G>, signals: &mut Vec<(ConnectionId, Signal)>, datagrams: &mut Datagrams) {
    while let Some(transmit) = server.poll_transmit() {
        datagrams.push(transmit.destination, transmit.bytes);
    }
    while let Some(connection) = server.poll_signal_ready() {
        while let Some(signal) = server.poll_signal(connection) {
            signals.push((connection, signal));
        }
    }
}

/// Lets every client send an input, by its number and the tick, in each of [`TICKS`] ticks, over a network without latency. Returns the messages that
/// the clients have received on the data channel and on the websocket.
fn play<G: Game>(sim: &mut Simulation<G>, part: Part, input: impl Fn(usize, usize) -> G::Input) -> (usize, usize)
where
    G::Input: serde::Serialize,
{
    let clients: Vec<ClientId> = sim.clients().collect();
    let (mut up, mut down, mut signals) = (Datagrams::default(), Datagrams::default(), Vec::new());
    let (mut by_channel, mut by_websocket) = (0, 0);
    // The first ticks let buffers grow to their size.
    for tick in 0..TICKS + 5 {
        let is_counted = tick >= 5;
        let now = sim.now();
        up.clear();
        for (number, &id) in clients.iter().enumerate() {
            sim.send(id, &input(number, tick));
            let end = &mut sim[id];
            if end.client.poll_timeout().is_some_and(|at| at <= now) {
                end.client.handle_timeout(now);
            }
            let address = end.address();
            while let Some(transmit) = end.client.poll_transmit() {
                up.push(address, transmit.bytes);
            }
        }
        let server = &mut sim.server;
        count(is_counted && part == Part::Both, || {
            for (source, bytes) in up.iter() {
                server.handle_datagram(now, now, LocalId(0), source, bytes);
            }
        });
        down.clear();
        signals.clear();
        count(is_counted, || {
            server.handle_timeout(now);
            collect(server, &mut signals, &mut down);
        });
        let mut datagrams = down.iter();
        for (address, bytes) in &mut datagrams {
            let id = clients.iter().find(|&&id| sim[id].address() == address).copied().unwrap();
            sim[id].client.handle_datagram(now, LocalId(0), SERVER, bytes);
        }
        for (connection, signal) in signals.drain(..) {
            match signal {
                Signal::Ping(payload) => sim.server.handle_pong(now, connection, &payload.to_be_bytes()),
                Signal::Binary(bytes) => {
                    by_websocket += usize::from(is_counted);
                    let id = clients.iter().find(|&&id| sim[id].connection() == connection).copied().unwrap();
                    sim[id].client.handle_binary(now, &bytes);
                    while let Some(message) = sim[id].client.poll_message() {
                        if let Message::Binary(bytes) = message {
                            sim.server.handle_binary(now, connection, &bytes);
                        }
                    }
                }
                _ => {}
            }
        }
        by_channel += if is_counted { down.ends.len() } else { 0 };
        sim.stand_still(TICK);
    }
    let counters = sim.server.counters();
    assert_eq!(counters.bad_frames + counters.excess_frames + counters.overflowed_inputs, 0);
    (by_channel, by_websocket)
}

fn noise(part: Part, recorded: bool) -> usize {
    let mut sim = room(PLAYERS, recorded, |_| Noise(None));
    let (sent, _) = play(&mut sim, part, |_, _| [0.1; 4]);
    assert!(sent >= TICKS * PLAYERS);
    TICKS * PLAYERS
}

/// Sends each player a state of 200 bytes: one of their own, or one of their team's.
struct Seen {
    teams: u32,
}

impl Game for Seen {
    type Input = [f64; 4];
    type Command = ();
    type State = Vec<u8>;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Seen>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Seen>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Seen>, _: Tick, _: Batch<'_, Seen>) {
        let noise: Vec<u8> = (0..MESSAGE_BYTES - 10).map(|_| ctx.rng().next_u32().to_le_bytes()[0] & 0x7f).collect();
        let state = |player: PlayerId| {
            let mut state = noise.clone();
            state[0] = u8::try_from(player.0 % self.teams).unwrap();
            state
        };
        ctx.state_for_each(state).unwrap();
    }
}

fn each(teams: usize) -> usize {
    let mut sim = room(PLAYERS, false, move |_| Seen { teams: u32::try_from(teams).unwrap() });
    let (sent, _) = play(&mut sim, Part::Both, |_, _| [0.1; 4]);
    assert!(sent >= TICKS * PLAYERS);
    TICKS * PLAYERS
}

fn reliable() -> usize {
    let mut sim = room(PLAYERS, false, |_| Noise(Some(Lane::Reliable)));
    let (_, sent) = play(&mut sim, Part::Send, |_, _| [0.1; 4]);
    assert!(sent >= TICKS * PLAYERS);
    TICKS * PLAYERS
}

/// The state of the arena, in which everything that moves changes from tick to tick.
fn states() -> usize {
    let mut sim = room(ARENA_PLAYERS, false, Arena::new);
    // Each player turns every few ticks, but not all of them at once.
    let turns = [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)];
    let (sent, _) = play(&mut sim, Part::Both, |player, tick| {
        let (right, down) = turns[(player + (tick + player) / 10) % turns.len()];
        Steer(100.0 * right, 100.0 * down, tick % 30 == player)
    });
    assert!(sent >= TICKS * ARENA_PLAYERS);
    TICKS * ARENA_PLAYERS
}

/// Packets of one client with eight inputs of 37 bytes each, one of them new, beside ticks that are not counted.
fn receive() -> usize {
    let mut sim = room(1, false, |_| Noise(None));
    let client = sim.clients().next().unwrap();
    let mut packets = Vec::new();
    while packets.len() < PACKETS {
        sim.stand_still(PACKET_INTERVAL);
        sim.send(client, &[0.1f64; 4]);
        while let Some(transmit) = sim[client].client.poll_transmit() {
            packets.push(transmit.bytes.to_vec());
        }
    }
    let source = sim[client].address();
    for packet in &packets {
        let now = sim.now();
        let server = &mut sim.server;
        counted_by_callgrind(&mut || server.handle_datagram(now, now, LocalId(0), source, packet));
        sim.stand_still(PACKET_INTERVAL);
        sim.server.handle_timeout(sim.now());
        while sim.server.poll_transmit().is_some() {}
    }
    let counters = sim.server.counters();
    assert_eq!(counters.bad_frames + counters.excess_frames + counters.overflowed_inputs, 0);
    packets.len()
}

/// Players that join one after another, from the websocket to the open channel. No simulation: its DTLS signs as often
/// as it takes to get a signature of one length.
fn join() -> usize {
    #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
    let mut now = Instant::now();
    let mut config = Config::new([1; 32]);
    config.max_players = PLAYERS;
    config.udp_port = SERVER.port();
    let mut server = Server::new(config, now, |_| Ok::<_, Refusal>(Noise(None)));
    let (mut down, mut signals) = (Datagrams::default(), Vec::new());
    for number in 0..JOINS {
        let address = SocketAddr::from(([10, 0, 1, u8::try_from(number).unwrap() + 1], 5_000));
        let mut config = ClientConfig::new([u8::try_from(number).unwrap(); 32]);
        config.locals = vec![address];
        let mut client = Client::new(config, now);
        let connection = ConnectionId(number);
        let connect = Connect::new(RoomName::parse("count"), address, SERVER.ip());
        counted_by_callgrind(&mut || server.handle_connect(now, connection, connect.clone()));
        let mut steps = 0;
        while !client.is_open() {
            steps += 1;
            assert!(steps < JOIN_STEPS, "player {number} has not joined");
            now += Duration::from_millis(1);
            let is_due = server.poll_timeout().is_some_and(|at| at <= now);
            // The ticks of the players before are no part of a join.
            count(number == 0 || !is_due, || {
                if is_due {
                    server.handle_timeout(now);
                }
                collect(&mut server, &mut signals, &mut down);
            });
            for (destination, bytes) in down.iter().filter(|&(destination, _)| destination == address) {
                debug_assert_eq!(destination, address);
                client.handle_datagram(now, LocalId(0), SERVER, bytes);
            }
            down.clear();
            for (to, signal) in signals.drain(..) {
                match signal {
                    Signal::Ping(payload) => server.handle_pong(now, to, &payload.to_be_bytes()),
                    Signal::Text(text) if to == connection => client.handle_text(now, &text),
                    _ => {}
                }
            }
            if client.poll_timeout().is_some_and(|at| at <= now) {
                client.handle_timeout(now);
            }
            while let Some(message) = client.poll_message() {
                if let Message::Text(text) = message {
                    counted_by_callgrind(&mut || server.handle_text(now, connection, &text));
                }
            }
            while let Some(transmit) = client.poll_transmit() {
                counted_by_callgrind(&mut || server.handle_datagram(now, now, LocalId(0), address, transmit.bytes));
            }
        }
        now += Duration::from_millis(200);
    }
    assert_eq!(server.gauges().players, usize::try_from(JOINS).unwrap());
    usize::try_from(JOINS).unwrap()
}

fn main() {
    let row = std::env::args().skip(1).find(|argument| argument != "--bench");
    let units = match row.as_deref() {
        Some("send") => noise(Part::Send, false),
        Some("receive") => receive(),
        Some("tick") => noise(Part::Both, false),
        Some("recorded") => noise(Part::Both, true),
        Some("reliable") => reliable(),
        Some("each") => each(PLAYERS),
        Some("teams") => each(2),
        Some("delta") => states(),
        Some("join") => join(),
        Some(other) => panic!("there is no row {other}"),
        None => {
            println!("benches/instructions.sh counts instructions");
            return;
        }
    };
    println!("units {units}");
}
