//! Websockets that ask for pongs and never read them.

use std::time::{Duration, Instant};

use super::Found;
use crate::attack::{Connection, PING, frame};
use crate::world::{Failure, SmallBuffers, World, attacker};

const CONNECTIONS: usize = 8_000;
/// Below the server's limit of connections that have not joined.
const PER_ADDRESS: usize = 60;
/// Beyond the time after which the server closes them by itself.
const DURATION: Duration = Duration::from_secs(15);
const BOUND_BYTES: u64 = 200_000_000;
/// Where it is given up, so that the machine is not harmed.
const ENOUGH_BYTES: u64 = 1_500_000_000;
/// The most that was seen.
struct Peak {
    bytes: u64,
    connections: usize,
}

/// Pings sent at once: those of a frame's largest payload (RFC 6455 §5.5).
const BURST: usize = 30;

pub(super) fn run(world: &World) -> Result<Found, Failure> {
    let _small = SmallBuffers::set()?;
    let server = world.start(&[])?;
    let burst = frame(PING, &[7; 125]).repeat(BURST);
    let mut connections: Vec<Connection> = Vec::with_capacity(CONNECTIONS);
    let mut peak = Peak { bytes: 0, connections: 0 };
    let mut opened = 0;
    let begun = Instant::now();
    while begun.elapsed() < DURATION && peak.bytes < ENOUGH_BYTES {
        for _ in 0..CONNECTIONS.saturating_sub(connections.len()).min(500) {
            let mut connection = Connection::open_small(attacker(opened % CONNECTIONS / PER_ADDRESS))?;
            connection.upgrade("/r/pings")?;
            connections.push(connection);
            opened += 1;
        }
        for chunk in connections.chunks_mut(500) {
            for connection in chunk {
                let _ = connection.send(&burst);
            }
            peak.bytes = peak.bytes.max(server.resident_bytes()?);
        }
        // The sockets of those that the server has closed refuse what is sent.
        connections.retain_mut(|connection| connection.send(&burst).is_ok());
        peak.connections = peak.connections.max(connections.len());
    }
    let Peak { bytes, connections } = peak;
    let given_up = if bytes < ENOUGH_BYTES { "" } else { ", then given up" };
    Ok(Found {
        figure: format!("{} MB with {connections} websockets{given_up}", bytes / 1_000_000),
        bound: format!("< {} MB", BOUND_BYTES / 1_000_000),
        holds: bytes < BOUND_BYTES && connections == CONNECTIONS,
    })
}
