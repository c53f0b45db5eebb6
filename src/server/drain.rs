//! Draining: no new rooms are made, and those that are left end by themselves or at a deadline.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{RoomKey, Server};
use crate::game::Game;
use crate::limits::DRAIN_MAX;
use crate::room;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::{self, Fault};

/// The event that announces it to players.
const DRAIN: &str = "eventDrain";

#[derive(Serialize)]
struct Drain {
    /// The time until the room is closed, in milliseconds.
    deadline: u64,
}

impl Drain {
    fn within(time: Duration) -> Drain {
        Drain { deadline: u64::try_from(time.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl<G: Game> Server<G> {
    /// Prepares to stop after at most `time`, in whole milliseconds and at most [`DRAIN_MAX`]: from now on no room is
    /// listed or made, and a room ends with its last player. Games and players are told, in a cluster those of rooms
    /// that don't move to another node ([`Game::save`]). The caller stops the server once it
    /// [is drained](Server::is_drained), or after `time`, with [`Server::handle_shutdown`].
    pub fn handle_drain(&mut self, now: Instant, time: Duration) {
        // As the recordings have it.
        let millis = u64::try_from(time.min(DRAIN_MAX).as_millis()).unwrap_or(u64::MAX);
        let time = Duration::from_millis(millis);
        self.turn(now, |server| {
            server.drains_until = Some(now + time);
            if let Some(cluster) = &mut server.cluster {
                cluster.handle_drain(now);
            }
            server.drains_since.get_or_insert(now);
            if server.cluster.is_some() {
                server.move_pools(now);
            }
            let rooms: Vec<RoomKey> = server.rooms.keys().collect();
            for key in rooms {
                let Some(hosted) = server.rooms.get_mut(key) else { continue };
                let is_told = std::mem::take(&mut hosted.prospects.is_told);
                // In a cluster, a room is told only if it doesn't move to another node.
                if is_told || server.cluster.is_none() {
                    server.tell_drain(now, key);
                }
            }
        });
    }

    /// Tells the game of a room, and its players, that the server is about to stop, once.
    pub(super) fn tell_drain(&mut self, now: Instant, key: RoomKey) {
        let (Some(until), Some(hosted)) = (self.drains_until, self.rooms.get_mut(key)) else { return };
        if std::mem::replace(&mut hosted.prospects.is_told, true) {
            return;
        }
        let millis = u64::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
        let time = Duration::from_millis(millis);
        hosted.handle_input(room::Input::Drain { time });
        let playing = self.take_playing(key);
        for &(_, session) in &playing {
            let carrier = self.sessions.get(session).and_then(|session| session.connection);
            if let Some(carrier) = carrier {
                self.push_text(carrier, signaling::event(DRAIN, &Drain::within(time)).into());
            }
        }
        self.playing = playing;
    }

    /// Returns for how long the server has been about to stop.
    pub(super) fn drained_for(&self, now: Instant) -> Option<Duration> {
        self.drains_since.map(|since| now.saturating_duration_since(since))
    }

    /// Returns whether the server is about to stop and no room is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.is_draining() && self.rooms.is_empty()
    }

    /// Returns when the server stops even with rooms left, if it is about to stop.
    #[must_use]
    pub fn drains_until(&self) -> Option<Instant> {
        self.drains_until
    }

    /// Returns whether the server is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drains_until.is_some()
    }

    /// Why no room can be made, if the server is about to stop.
    pub(super) fn refuse_room(&self, now: Instant) -> Result<(), Fault> {
        let Some(until) = self.drains_until else { return Ok(()) };
        let mut fault =
            Fault::new(ErrorCode::Draining, "The server is about to stop, and opens no more rooms. Try again later.");
        fault.retry_after = Some(until.saturating_duration_since(now));
        Err(fault)
    }

    /// What a player is told who joins or returns while the server is about to stop.
    pub(super) fn drain_event(&self, now: Instant) -> Option<String> {
        let until = self.drains_until?;
        Some(signaling::event(DRAIN, &Drain::within(until.saturating_duration_since(now))))
    }
}
