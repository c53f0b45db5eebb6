//! A room that plays beside an attacker: how long its players wait for the next state.

use std::time::{Duration, Instant};

use rtcade::client::Event;
use rtcade::games::arena::Steer;

use super::Found;
use crate::attack::{Attack, CONTINUATION, Connection, PING, PONG, TEXT, TEXT_FRAGMENT, frame, join};
use crate::player::{Player, TURN};
use crate::tls::Trust;
use crate::world::{Failure, World, attacker, honest, limit_socket_buffers};

const PLAYERS: usize = 8;
const RUNS: usize = 3;
const RUN: Duration = Duration::from_secs(15);
/// What most attacks take to have their effect.
pub(super) const SETTLING: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);
/// Of what is added to the quiet room's gap.
const LEAST_ADDED: Duration = Duration::from_millis(1);
const ADDED_PART: u32 = 10;
/// Below the server's limit of connections of one address that have not joined.
const PER_ADDRESS: usize = 60;
const INPUT_INTERVAL: Duration = Duration::from_millis(33);

/// The p99 of the gap between two states of a room, in the median of three runs.
pub(super) fn quiet(world: &World) -> Result<Found, Failure> {
    let gap = quiet_gap(world)?;
    Ok(Found { figure: format!("gap p99 {}", ms(gap)), bound: String::new(), holds: true })
}

fn quiet_gap(world: &World) -> Result<Duration, Failure> {
    world.quiet(|| {
        let _server = world.start(&[])?;
        Room::join(world.seed, &None)?.gap_p99(SETTLING, || Ok(()))
    })
}

/// The same beside an attack on a server with these options, which `begin` begins, which counts `what`, and is complete
/// after `settling`.
pub(super) fn beside(
    world: &World,
    options: &[&str],
    what: &str,
    settling: Duration,
    begin: impl FnOnce(&Trust) -> Result<Attack, Failure>,
) -> Result<Found, Failure> {
    let quiet = quiet_gap(world)?;
    let bound = quiet + LEAST_ADDED.max(quiet / ADDED_PART);
    let mut server = world.start(options)?;
    let mut room = Room::join(world.seed, &server.trust)?;
    let attack = begin(&server.trust)?;
    let gap = room.gap_p99(settling, || match server.last_words()? {
        Some(words) => Err(format!("the server ended: {words}").into()),
        None => Ok(()),
    })?;
    let figure = format!("gap p99 {} beside {} {what}", ms(gap), attack.done());
    Ok(Found { figure, bound: format!("≤ {}", ms(bound)), holds: gap <= bound })
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", 1000.0 * time.as_secs_f64())
}

struct Room {
    players: Vec<Player>,
    last: Vec<Option<Duration>>,
    next_input: Instant,
}

impl Room {
    /// Whose players are all over their data channels.
    fn join(seed: u64, trust: &Trust) -> Result<Room, Failure> {
        let players = (0..PLAYERS).map(|number| Player::join(honest(number), "victim", seed + number as u64, trust));
        let players = players.collect::<Result<Vec<_>, _>>()?;
        let mut room = Room { last: vec![None; players.len()], players, next_input: Instant::now() };
        let begun = Instant::now();
        while !room.players.iter().all(|player| player.client.is_open()) {
            if begun.elapsed() > PATIENCE {
                return Err("the victim's data channels did not open".into());
            }
            room.turn(|_| ())?;
        }
        Ok(room)
    }

    /// The median of three runs, which begin after `settling`; `check` is called after each.
    fn gap_p99(
        &mut self,
        settling: Duration,
        mut check: impl FnMut() -> Result<(), Failure>,
    ) -> Result<Duration, Failure> {
        self.run(settling)?;
        let mut of_runs = Vec::new();
        for _ in 0..RUNS {
            of_runs.push(self.run(RUN)?);
            check()?;
        }
        of_runs.sort_unstable();
        Ok(of_runs[RUNS / 2])
    }

    fn run(&mut self, duration: Duration) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let mut gaps = Vec::new();
        while begun.elapsed() < duration {
            self.turn(|gap| gaps.push(gap))?;
        }
        gaps.sort_unstable();
        gaps.get(gaps.len() * 99 / 100).copied().ok_or_else(|| "the victim got no states".into())
    }

    fn turn(&mut self, mut take: impl FnMut(Duration)) -> Result<(), Failure> {
        let now = Instant::now();
        let is_input_due = self.next_input <= now;
        if is_input_due {
            self.next_input = now + INPUT_INTERVAL;
        }
        for (player, last) in self.players.iter_mut().zip(&mut self.last) {
            if is_input_due && player.client.is_open() {
                player.client.send(now, &Steer(0.5, 0.5, false))?;
            }
            player.turn(|at, event| {
                if matches!(event, Event::State { .. })
                    && let Some(last) = last.replace(at)
                {
                    take(at.saturating_sub(last));
                }
            })?;
        }
        std::thread::sleep(TURN);
        Ok(())
    }
}

pub(super) fn http_500(world: &World) -> Result<Found, Failure> {
    http(world, 500)
}

pub(super) fn http_1500(world: &World) -> Result<Found, Failure> {
    http(world, 1_500)
}

/// Connections that ask for a file again and again and read nothing. When their sockets have long been full, others take
/// their place.
fn http(world: &World, count: usize) -> Result<Found, Failure> {
    const REQUESTS: usize = 200;
    const INTERVAL: Duration = Duration::from_millis(400);
    /// With 1,500 connections, half of what the kernel has for TCP on a machine with 16 GiB.
    const SOCKET_BYTES: usize = 512 * 1024;
    let requests = "GET /rtcade.js HTTP/1.1\r\nHost: h\r\n\r\n".repeat(REQUESTS).into_bytes();
    let mut connections: Vec<Connection> = Vec::new();
    let mut wave = 0;
    beside(world, &[], "requests", SETTLING, |_| {
        limit_socket_buffers(SOCKET_BYTES)?;
        Ok(Attack::start(move || {
            let begun = Instant::now();
            connections.clear();
            // From other addresses: the server may not know yet that the last ones are gone.
            wave = (wave + 1) % 2;
            let addresses = (0..count).map(|number| attacker((wave * count + number) / PER_ADDRESS));
            connections.extend(addresses.filter_map(|address| Connection::open(address).ok()));
            let taken = connections.iter_mut().filter_map(|connection| connection.send(&requests).ok());
            let sent = taken.filter(|&taken| taken).count() as u64 * REQUESTS as u64;
            std::thread::sleep(INTERVAL.saturating_sub(begun.elapsed()));
            sent
        }))
    })
}

/// Three rooms full of players from one address, each of whom has something relayed to all others of its room.
pub(super) fn relay(world: &World) -> Result<Found, Failure> {
    const INTERVAL: Duration = Duration::from_millis(20);
    let change = frame(TEXT, br#"{"a":"orientationChange","d":{"orientation":90,"camera":"front"}}"#);
    let mut party = Party::new(192, 64);
    let settling = 192 * Party::JOIN_INTERVAL + SETTLING;
    beside(world, &[], "changes", settling, |_| {
        let mut next = Instant::now();
        Ok(Attack::start(move || {
            party.turn();
            if Instant::now() < next {
                std::thread::sleep(Duration::from_millis(1));
                return 0;
            }
            next += INTERVAL;
            party.send(&change)
        }))
    })
}

/// Players from one address, who answer pings and come back where they are put out.
struct Party {
    players: Vec<Option<Connection>>,
    per_room: usize,
    next_join: Instant,
}

impl Party {
    /// Below the server's limit of joins from one address.
    const JOIN_INTERVAL: Duration = Duration::from_millis(110);

    fn new(count: usize, per_room: usize) -> Party {
        Party { players: (0..count).map(|_| None).collect(), per_room, next_join: Instant::now() }
    }

    fn turn(&mut self) {
        for player in &mut self.players {
            if player.as_mut().is_some_and(|player| answer(player).is_err()) {
                *player = None;
            }
        }
        let now = Instant::now();
        if let Some(number) = self.players.iter().position(Option::is_none)
            && self.next_join <= now
        {
            self.next_join = now + Party::JOIN_INTERVAL;
            self.players[number] = enter(&format!("/r/party-{}", number / self.per_room)).ok();
        }
    }

    /// How many of them could send it.
    fn send(&mut self, message: &[u8]) -> u64 {
        let send = |player: &mut Connection| player.send(message).is_ok_and(|sent| sent);
        self.players.iter_mut().flatten().map(send).filter(|&sent| sent).count() as u64
    }
}

fn enter(path: &str) -> std::io::Result<Connection> {
    let mut connection = open_websocket(path)?;
    connection.send(&join("party"))?;
    Ok(connection)
}

/// Reads what has come, and answers pings.
fn answer(connection: &mut Connection) -> std::io::Result<()> {
    connection.read()?;
    let mut pongs = Vec::new();
    connection.take_frames(|first, payload| {
        if first == PING {
            pongs.extend(frame(PONG, payload));
        }
    });
    if !pongs.is_empty() {
        connection.send(&pongs)?;
    }
    Ok(())
}

/// Connections that send the begin of a message and then nothing of it, without end.
pub(super) fn fragments(world: &World) -> Result<Found, Failure> {
    const CONNECTIONS: usize = 20;
    const FRAGMENTS: usize = 5_000;
    let fragments = frame(CONTINUATION, &[]).repeat(FRAGMENTS);
    let mut connections: Vec<Option<Connection>> = (0..CONNECTIONS).map(|_| None).collect();
    let open = || {
        let mut connection = open_websocket("/r/fragments").ok()?;
        connection.send(&frame(TEXT_FRAGMENT, &[])).ok()?;
        Some(connection)
    };
    beside(world, &[], "fragments", SETTLING, |_| {
        Ok(Attack::start(move || {
            let mut sent = 0;
            for connection in &mut connections {
                match connection.as_mut().map(|connection| connection.send(&fragments)) {
                    Some(Ok(taken)) => sent += if taken { FRAGMENTS as u64 } else { 0 },
                    _ => *connection = open(),
                }
            }
            std::thread::sleep(Duration::from_micros(200));
            sent
        }))
    })
}

/// Connections whose requests can't be read: refusals that repeat what they refuse would cost far more than requests.
pub(super) fn refusals(world: &World) -> Result<Found, Failure> {
    const CONNECTIONS: usize = 20;
    /// The limit of requests per second.
    const INTERVAL: Duration = Duration::from_millis(20);
    // Characters that are escaped in most languages' error messages, as many as a request may have.
    let request = frame(TEXT, format!(r#"{{"a":"exchangeSdp","d":"{}"}}"#, "\u{e000}".repeat(5_400)).as_bytes());
    let mut connections: Vec<Option<Connection>> = (0..CONNECTIONS).map(|_| None).collect();
    let mut next = Instant::now();
    beside(world, &[], "requests", SETTLING, |_| {
        Ok(Attack::start(move || {
            let mut sent = 0;
            let is_due = Instant::now() >= next;
            for connection in &mut connections {
                match connection.as_mut().map(|connection| exchange(connection, is_due.then_some(&request))) {
                    Some(Ok(count)) => sent += count,
                    _ => *connection = open_websocket("/r/refusals").ok(),
                }
            }
            next += if is_due { INTERVAL } else { Duration::ZERO };
            std::thread::sleep(Duration::from_millis(1));
            sent
        }))
    })
}

/// Reads what has come, and sends a message. How many it has sent.
fn exchange(connection: &mut Connection, message: Option<&Vec<u8>>) -> std::io::Result<u64> {
    answer(connection)?;
    Ok(message.map(|message| connection.send(message)).transpose()?.map_or(0, u64::from))
}

fn open_websocket(path: &str) -> std::io::Result<Connection> {
    let mut connection = Connection::open(attacker(0))?;
    connection.upgrade(path)?;
    Ok(connection)
}
