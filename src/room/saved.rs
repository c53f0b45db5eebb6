//! A room as bytes, with which it goes on elsewhere.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use super::inbox::Message;
use super::media::MediaRules;
use super::{Room, limits};
use crate::game::{Game, Link, Player, PlayerId, Refusal};
use crate::wire::msgpack;

/// A room between two ticks, as postcard encodes it. What is newer than its queues is not part of it: the server saves
/// a room at the end of a tick, when all joins and leaves are handled.
#[derive(Serialize, Deserialize)]
struct SavedRoom {
    game: Vec<u8>,
    tick: u32,
    random_numbers_used: u128,
    next_player: u32,
    players: Vec<(PlayerId, String, SavedInbox)>,
    /// The messages that wait, in order of arrival.
    messages: Vec<(PlayerId, Message)>,
    history: VecDeque<(u32, Vec<u8>)>,
    locked: bool,
    listed: bool,
    title: Option<String>,
    media: MediaRules,
}

/// What an inbox knows of a player besides the messages that wait.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct SavedInbox {
    pub(super) consumed: u32,
    pub(super) credit: u64,
    pub(super) credited_in: u32,
}

impl<G: Game> Room<G> {
    /// Saves the room after a tick, for [`Input::Restore`](super::Input::Restore). `None` if its game can't be saved
    /// ([`Game::save`]) or has ended.
    #[must_use]
    pub fn save(&self) -> Option<Vec<u8>> {
        let game = self.game.as_ref()?.save()?;
        let context = &self.context;
        let player = |player: &Player| (player.id, player.name.clone(), context.inbox.saved(player.id));
        let saved = SavedRoom {
            game,
            tick: context.tick,
            random_numbers_used: context.rng.used(),
            next_player: self.next_player,
            players: context.players.values().map(player).collect(),
            messages: context.inbox.messages(),
            history: self.history.clone(),
            locked: context.locked,
            listed: context.listed,
            title: context.title.clone(),
            media: context.media.clone(),
        };
        postcard::to_extend(&saved, Vec::new()).ok()
    }

    /// Restores what [`Room::save`] has saved, before the first tick. No player is connected. If that fails, the room
    /// ends.
    pub(super) fn restore_or_close(&mut self, saved: &[u8]) {
        let restored = catch_unwind(AssertUnwindSafe(|| self.restore(saved)));
        if let Ok(Err(refusal)) = &restored {
            log::warn!("a saved room can't be restored: {refusal}");
        }
        if !matches!(restored, Ok(Ok(()))) {
            self.close();
        }
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), Refusal> {
        let unreadable = || Refusal::new("The saved room can't be read.");
        let saved: SavedRoom = postcard::from_bytes(saved).map_err(|_| unreadable())?;
        let SavedRoom { game, tick, random_numbers_used, next_player, players, messages, history, .. } = saved;
        let is_sound = |(_, message): &(PlayerId, Message)| match message {
            Message::Input { value, .. } => value.len() <= limits::INPUT_BYTES && msgpack::check(value).is_ok(),
            Message::Command { value } => value.len() <= limits::RELIABLE_UP_BYTES && msgpack::check(value).is_ok(),
        };
        let is_whole = players.len() <= limits::PLAYERS_PER_ROOM_MAX
            && players.iter().all(|(player, ..)| player.0 < next_player)
            && messages.iter().all(is_sound)
            && history.len() <= self.history_ticks;
        if !is_whole {
            return Err(unreadable());
        }
        let context = &mut self.context;
        context.tick = tick;
        context.rng.skip_to(random_numbers_used);
        (context.locked, context.listed, context.title) = (saved.locked, saved.listed, saved.title);
        context.media = saved.media;
        for (id, name, inbox) in players {
            context.players.insert(id, Player { id, name, connected: false, link: Link::default() });
            context.inbox.reopen(id, inbox);
        }
        for (player, message) in messages {
            // None exceeds a limit that it was within before.
            let _ = context.inbox.push(player, message);
        }
        self.next_player = next_player;
        self.history = history;
        match &mut self.game {
            Some(restored) => restored.restore(&mut self.context, &game),
            None => Err(Refusal::new("The room has ended.")),
        }
    }
}

#[cfg(test)]
mod tests;
