//! A page of `evil.com`, whose name was made to resolve to the server's address, opens a websocket: to the browser it
//! is of one origin with the server.

use super::Found;
use crate::attack::upgrade;
use crate::world::{Failure, World, status};

pub(super) fn run(world: &World) -> Result<Found, Failure> {
    let _server = world.start(&[])?;
    let status = status(&upgrade("/r/rebound", "evil.com", Some("http://evil.com")))?;
    Ok(Found { figure: format!("status {status}"), bound: "no 101".to_owned(), holds: status != "101" })
}
