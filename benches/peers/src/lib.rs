//! The two tasks that the servers are given. Opaque: rooms of ten, one message per player and tick that carries the
//! newest input of everybody in the room, stamped with the time at which it was made. Walk: the state of a small game.

#![forbid(unsafe_code)]

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

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

/// What a player of [`World`] is seen as: x and y in centimetres, heading in degrees, health, score.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub struct Walker(pub u16, pub u16, pub u16, pub u8, pub u16);

/// A square of 100 m in which ten players walk at 5 m/s, and are hit now and then. `servers/world.mjs` is the same.
pub struct World {
    walkers: [Walker; ROOM_PLAYERS],
    moving: [bool; ROOM_PLAYERS],
    /// Centimetres.
    positions: [(f64, f64); ROOM_PLAYERS],
    random: u32,
}

const WORLD_CM: f64 = 10_000.0;
const TICK_SECONDS: f64 = 0.033;
const CM_PER_SECOND: f64 = 500.0;
const HITS_PER_SECOND: f64 = 3.0;
const HIT: u8 = 10;
const HEALTH: u8 = 100;

impl Default for World {
    fn default() -> World {
        let mut world = World {
            walkers: [Walker::default(); ROOM_PLAYERS],
            moving: [false; ROOM_PLAYERS],
            positions: [(0.0, 0.0); ROOM_PLAYERS],
            random: 1,
        };
        for player in 0..ROOM_PLAYERS {
            world.positions[player] = (world.random() * WORLD_CM, world.random() * WORLD_CM);
            world.walkers[player].3 = HEALTH;
        }
        world
    }
}

impl World {
    /// Between 0 and 1.
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(self.random) / (f64::from(u32::MAX) + 1.0)
    }

    pub fn steer(&mut self, player: usize, heading: u16, moving: bool) {
        self.walkers[player % ROOM_PLAYERS].2 = heading % 360;
        self.moving[player % ROOM_PLAYERS] = moving;
    }

    /// The next tick, of 33 ms.
    pub fn step(&mut self) {
        let seconds = TICK_SECONDS;
        for player in 0..ROOM_PLAYERS {
            if self.moving[player] {
                let (sin, cos) = f64::from(self.walkers[player].2).to_radians().sin_cos();
                let (x, y) = &mut self.positions[player];
                *x = (*x + cos * CM_PER_SECOND * seconds).clamp(0.0, WORLD_CM);
                *y = (*y + sin * CM_PER_SECOND * seconds).clamp(0.0, WORLD_CM);
            }
            self.walkers[player].0 = self.positions[player].0.round() as u16;
            self.walkers[player].1 = self.positions[player].1.round() as u16;
        }
        if self.random() < HITS_PER_SECOND * seconds {
            let hit = (self.random() * ROOM_PLAYERS as f64) as usize;
            let by = (self.random() * ROOM_PLAYERS as f64) as usize;
            let health = &mut self.walkers[hit].3;
            *health = if *health <= HIT { HEALTH } else { *health - HIT };
            self.walkers[by].4 = self.walkers[by].4.wrapping_add(1);
        }
    }

    #[must_use]
    pub fn walkers(&self) -> &[Walker; ROOM_PLAYERS] {
        &self.walkers
    }
}
