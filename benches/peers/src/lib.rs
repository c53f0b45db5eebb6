//! The one task that all servers are given: rooms of ten, one message per player and tick that carries the newest
//! input of everybody in the room, stamped with the time at which it was made.

#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

/// Players of a room.
pub const ROOM_PLAYERS: usize = 10;
/// Bytes of an input.
pub const INPUT_BYTES: usize = 40;
/// Bytes of a message: a stamp of eight, and nineteen of each player's newest input.
pub const MESSAGE_BYTES: usize = 200;

const STAMP_BYTES: usize = 8;
const PLAYER_BYTES: usize = 19;

/// Microseconds of the clock that all processes of a machine share, whatever they are written in.
#[must_use]
pub fn clock_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// What a room knows, in the form in which it is sent.
pub struct RoomState([u8; MESSAGE_BYTES]);

impl Default for RoomState {
    fn default() -> RoomState {
        RoomState([0; MESSAGE_BYTES])
    }
}

impl RoomState {
    /// Takes the input of a player: its last bytes stand for where they are.
    pub fn set(&mut self, player: usize, input: &[u8]) {
        let start = STAMP_BYTES + player % ROOM_PLAYERS * PLAYER_BYTES;
        if let Some(newest) = input.last_chunk::<PLAYER_BYTES>() {
            self.0[start..start + PLAYER_BYTES].copy_from_slice(newest);
        }
    }

    /// The message of this tick.
    pub fn message(&mut self) -> &[u8; MESSAGE_BYTES] {
        self.0[..STAMP_BYTES].copy_from_slice(&clock_us().to_le_bytes());
        &self.0
    }
}

/// When a message was made, in microseconds of [`clock_us`].
#[must_use]
pub fn stamp_of(message: &[u8]) -> Option<u64> {
    (message.len() == MESSAGE_BYTES).then(|| message.first_chunk().copied().map(u64::from_le_bytes))?
}
