//! Websockets that ask for pongs and never read them.

use std::time::{Duration, Instant};

use super::Found;
use crate::attack::{Connection, PING, frame};
use crate::world::{Failure, World, attacker, limit_socket_buffers};

const CONNECTIONS: usize = 8_000;
/// Below the server's limit of connections that have not joined.
const PER_ADDRESS: usize = 60;
/// Beyond the time after which the server closes them by itself.
const DURATION: Duration = Duration::from_secs(15);
const BOUND_BYTES: u64 = 200_000_000;
/// Where it is given up, so that the machine is not harmed.
const ENOUGH_BYTES: u64 = 1_500_000_000;
/// Pings sent at once, each with the largest payload (RFC 6455 §5.5).
const BURST: usize = 30;
/// So that pongs which nobody reads wait in the server.
const SOCKET_BYTES: usize = 64 * 1024;
/// Connections that are served between two looks at the memory.
const CHUNK: usize = 500;

pub(super) fn run(world: &World) -> Result<Found, Failure> {
    let server = world.start(&[])?;
    limit_socket_buffers(SOCKET_BYTES)?;
    let mut connections = (0..CONNECTIONS).map(open).collect::<Result<Vec<_>, _>>()?;
    let admitted = server.metric("rtcade_connections")?;
    let burst = frame(PING, &[7; 125]).repeat(BURST);
    let mut peak_bytes = 0;
    let begun = Instant::now();
    while begun.elapsed() < DURATION && peak_bytes < ENOUGH_BYTES {
        for (chunk, connections) in connections.chunks_mut(CHUNK).enumerate() {
            for (number, connection) in (chunk * CHUNK..).zip(connections) {
                // One that the server has closed makes place for another.
                if connection.send(&burst).is_err()
                    && let Ok(another) = open(number)
                {
                    *connection = another;
                }
            }
            peak_bytes = peak_bytes.max(server.resident_bytes()?);
        }
    }
    let given_up = if peak_bytes < ENOUGH_BYTES { "" } else { ", then given up" };
    Ok(Found {
        figure: format!("{} MB with {admitted} websockets{given_up}", peak_bytes / 1_000_000),
        bound: format!("< {} MB", BOUND_BYTES / 1_000_000),
        holds: peak_bytes < BOUND_BYTES && admitted >= CONNECTIONS as u64,
    })
}

fn open(number: usize) -> Result<Connection, Failure> {
    let mut connection = Connection::open_small(attacker(number / PER_ADDRESS))?;
    connection.upgrade("/r/pings")?;
    Ok(connection)
}
