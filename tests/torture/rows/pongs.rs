//! Players that never read and send pongs which answer no ping: they are put out as if they were silent.

use std::time::{Duration, Instant};

use super::Found;
use crate::attack::{Connection, PONG, frame, join};
use crate::world::{Failure, World, attacker};

const PLAYERS: usize = 30;
const PATIENCE: Duration = Duration::from_secs(45);
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(world: &World) -> Result<Found, Failure> {
    let server = world.start(&[])?;
    let mut connections = Vec::new();
    for number in 0..PLAYERS {
        let mut connection = Connection::open_small(attacker(number))?;
        connection.upgrade("/r/silent")?;
        connection.send(&join("silent"))?;
        connections.push(connection);
    }
    std::thread::sleep(INTERVAL);
    let joined = server.metric("rtcade_players")?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        connections.retain_mut(|connection| connection.send(&frame(PONG, &[])).is_ok());
        std::thread::sleep(INTERVAL);
    }
    let left = server.metric("rtcade_players")?;
    let figure = format!("{left} of {joined} are there after {} s", PATIENCE.as_secs());
    Ok(Found { figure, bound: "none".to_owned(), holds: left == 0 && joined > 0 })
}
