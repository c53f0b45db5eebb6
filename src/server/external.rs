//! What reaches a game from outside: from a database, a matchmaker, an administrator.

use std::fmt;

use super::Server;
use crate::game::Game;
use crate::limits;
use crate::room;
use crate::wire::signaling::RoomName;

/// Why a room was not told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExternalError {
    /// There is no room of that name.
    NoSuchRoom,
    /// More than [`limits::EXTERNAL_BYTES`].
    TooLarge,
    /// Too much waits already; the next tick makes place.
    Full,
    /// The server has stopped.
    Stopped,
}

impl fmt::Display for ExternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExternalError::NoSuchRoom => f.write_str("there is no room of that name"),
            ExternalError::TooLarge => write!(f, "a message may have {} bytes", limits::EXTERNAL_BYTES),
            ExternalError::Full => f.write_str("too many messages wait for rooms"),
            ExternalError::Stopped => f.write_str("the server has stopped"),
        }
    }
}

impl std::error::Error for ExternalError {}

impl<G: Game> Server<G> {
    /// Something for a game from outside, which it gets in the next tick of its room ([`Game::external`]).
    ///
    /// # Errors
    /// What is too large, and what a room has no place for before its next tick. A room that isn't there is counted.
    pub fn handle_external(&mut self, room: &RoomName, bytes: &[u8]) -> Result<(), ExternalError> {
        if bytes.len() > limits::EXTERNAL_BYTES {
            return Err(ExternalError::TooLarge);
        }
        let Some(hosted) = self.by_name.get(room).and_then(|&room| self.rooms.get_mut(room)) else {
            self.counters.lost_externals += 1;
            return Err(ExternalError::NoSuchRoom);
        };
        if hosted.room.externals() >= limits::EXTERNAL_BACKLOG {
            return Err(ExternalError::Full);
        }
        hosted.handle_input(room::Input::External { bytes: bytes.to_vec() });
        Ok(())
    }
}
