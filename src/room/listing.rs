//! Who finds a room on `/rooms` and gets in, as its game decides.

use super::{Context, Room};
use crate::game::Game;
use crate::wire::name;

impl<G: Game> Context<G> {
    /// Locks the room against new players, or unlocks it. Players whose connection was lost can still reconnect.
    pub fn lock(&mut self, locked: bool) {
        self.locked = locked;
    }

    /// Sets whether the room is listed on `/rooms`. By default it is not.
    pub fn listed(&mut self, listed: bool) {
        self.listed = listed;
    }

    /// Sets the title with which `/rooms` shows the room, if it is listed. It has 1 to
    /// [`ROOM_TITLE_CHARS`](crate::limits::ROOM_TITLE_CHARS) printable characters: others are taken out, and a longer
    /// one is truncated. `None`, and a title of which nothing remains, remove it. By default a room has none.
    pub fn title(&mut self, title: Option<&str>) {
        self.title = title.and_then(name::title);
    }
}

impl<G: Game> Room<G> {
    /// Returns whether the game has locked the room.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.context.locked
    }

    /// Returns whether the game wants the room to be listed.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.context.listed
    }

    /// Returns the title that the game has given the room: [`Context::title`].
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.context.title.as_deref()
    }
}
