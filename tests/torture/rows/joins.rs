//! Addresses that join far more often than anybody plays, and honest players who come meanwhile.

use std::time::{Duration, Instant};

use rtcade::client::Event;

use super::Found;
use crate::attack::{Attack, Connection, join};
use crate::player::{Player, TURN};
use crate::world::{Failure, World, attacker, honest};

const ADDRESSES: usize = 40;
const PER_SECOND: u32 = 12;
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / (ADDRESSES as u64 * PER_SECOND as u64));
/// How long an attacker waits for the answer to a join.
const HELD: Duration = Duration::from_millis(500);
/// What the server lets in at once is used up then.
const SETTLING: Duration = Duration::from_secs(4);
const HONEST: usize = 40;
const HONEST_INTERVAL: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(40);
const BOUND: Duration = Duration::from_secs(1);

pub(super) fn run(world: &World) -> Result<Found, Failure> {
    let mut server = world.start(&[])?;
    let attack = flood();
    std::thread::sleep(SETTLING);
    let mut waits = honest_waits(world.seed)?;
    if let Some(words) = server.last_words()? {
        return Err(format!("the server ended: {words}").into());
    }
    waits.sort_unstable();
    let seconds = |percent: usize| waits[(HONEST * percent).div_ceil(100) - 1].as_secs_f64();
    let figure = format!(
        "median {:.2} s, p95 {:.2} s, longest {:.2} s, of {HONEST} beside {} others",
        seconds(50),
        seconds(95),
        seconds(100),
        attack.done()
    );
    Ok(Found { figure, bound: format!("p95 ≤ {} s", BOUND.as_secs()), holds: seconds(95) <= BOUND.as_secs_f64() })
}

fn flood() -> Attack {
    let mut held: Vec<(Instant, Connection)> = Vec::new();
    let mut next = Instant::now();
    let mut number = 0;
    Attack::start(move || {
        let now = Instant::now();
        held.retain(|(since, _)| now < *since + HELD);
        let mut sent = 0;
        while next <= now {
            next += INTERVAL;
            number += 1;
            if let Ok(connection) = ask(number % ADDRESSES) {
                held.push((now, connection));
                sent += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
        sent
    })
}

fn ask(address: usize) -> std::io::Result<Connection> {
    let mut connection = Connection::open(attacker(address))?;
    connection.upgrade(&format!("/r/flood-{address}"))?;
    connection.send(&join("flood"))?;
    Ok(connection)
}

/// How long each honest player, of an address of its own, waits until a room has let it in.
fn honest_waits(seed: u64) -> Result<Vec<Duration>, Failure> {
    std::thread::scope(|scope| {
        let mut players = Vec::new();
        for number in 0..HONEST {
            players.push(scope.spawn(move || wait(number, seed + number as u64)));
            std::thread::sleep(HONEST_INTERVAL);
        }
        players.into_iter().map(|player| player.join().map_err(|_| "a player panicked")?).collect()
    })
}

fn wait(number: usize, seed: u64) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let mut player = Player::join(honest(number), &format!("honest-{}", number % 4), seed, &None)?;
    let mut joined = None;
    while joined.is_none() && begun.elapsed() < PATIENCE {
        player.turn(|_, event| {
            if matches!(event, Event::Joined { .. }) {
                joined = Some(begun.elapsed());
            }
        })?;
        std::thread::sleep(TURN);
    }
    player.client.leave(Instant::now());
    player.turn(|_, _| ())?;
    Ok(joined.unwrap_or(PATIENCE))
}
