//! External messages to a game: from a database, a matchmaker, an administrator.

use std::fmt;

use super::Server;
use crate::game::Game;
use crate::limits;
use crate::room;
use crate::wire::signaling::RoomName;

/// Why an external message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExternalError {
    /// No room has this name.
    NoSuchRoom,
    /// The message exceeds [`limits::EXTERNAL_BYTES`].
    TooLarge,
    /// Too many messages are waiting; try again after a tick.
    Full,
    /// The server has stopped.
    Stopped,
}

impl fmt::Display for ExternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExternalError::NoSuchRoom => f.write_str("no room has this name"),
            ExternalError::TooLarge => write!(f, "a message must not exceed {} bytes", limits::EXTERNAL_BYTES),
            ExternalError::Full => f.write_str("too many messages are waiting for rooms"),
            ExternalError::Stopped => f.write_str("the server has stopped"),
        }
    }
}

impl std::error::Error for ExternalError {}

impl<G: Game> Server<G> {
    /// Sends an external message to the game of a room, which receives it in the next tick ([`Game::external`]).
    ///
    /// # Errors
    /// The message is too large, or too many are waiting for the room's next tick. Messages to rooms that do not exist
    /// are counted.
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
