//! A page of `evil.com`, whose name was made to resolve to the server's address, opens a websocket: to the browser it
//! is of one origin with the server.

use std::time::{Duration, Instant};

use super::Found;
use crate::attack::{CLOSE, Connection, TEXT, join, upgrade};
use crate::world::{Failure, World, attacker};

/// What an answer takes, where one comes.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn run(world: &World) -> Result<Found, Failure> {
    let _server = world.start(&[])?;
    let mut connection = Connection::open(attacker(0))?;
    connection.send(upgrade("/r/rebound", "evil.com", Some("http://evil.com")).as_bytes())?;
    connection.send(&join("rebound"))?;
    let mut outcome = None;
    let begun = Instant::now();
    while outcome.is_none() && begun.elapsed() < PATIENCE && connection.read().is_ok() {
        connection.take_frames(|first, payload| match first {
            TEXT if String::from_utf8_lossy(payload).starts_with(r#"{"a":"joinR","s":true"#) => outcome = Some("joins"),
            CLOSE => outcome = Some("closed"),
            _ => {}
        });
        std::thread::sleep(Duration::from_millis(1));
    }
    let outcome = outcome.unwrap_or("no websocket");
    Ok(Found { figure: outcome.to_owned(), bound: "does not join".to_owned(), holds: outcome != "joins" })
}
