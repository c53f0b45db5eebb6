//! Who hears and sees whom, and who may publish what, as the game decides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Context;
use crate::game::{Game, PlayerId};
use crate::limits;
use crate::wire::signaling::UserMedia;

/// Whether a player hears the voice of another, see [`Context::voice`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Audible {
    /// If both are in the same group, see [`Context::voice_group`].
    #[default]
    ByGroup,
    /// Never.
    Off,
    /// Always.
    On,
}

impl<G: Game> Context<G> {
    /// Sets whether `listener` hears and sees `speaker`, where the server forwards media (`--media`). It applies from
    /// the end of the tick until it is set again or one of the two leaves; [`Audible::ByGroup`] is the default. Does
    /// nothing if either is not in the room.
    ///
    /// Of the speakers that a listener hears, the loudest are forwarded.
    pub fn voice(&mut self, listener: PlayerId, speaker: PlayerId, audible: Audible) {
        if self.players.contains_key(&listener) && self.players.contains_key(&speaker) {
            self.media.set_audible(listener, speaker, audible);
        }
    }

    /// Puts a player into a voice group: those in the same group hear each other, unless [`Context::voice`] says
    /// otherwise for two of them. Everybody is in group 0 at first. Does nothing if the player is not in the room.
    pub fn voice_group(&mut self, player: PlayerId, group: u32) {
        if self.players.contains_key(&player) {
            self.media.set_group(player, group);
        }
    }

    /// Sets what a player may publish, where the server forwards it (`--media`). It applies from the end of the tick
    /// until it is set again or the player leaves. The player is told; what is published without permission is dropped.
    /// Does nothing if the player is not in the room.
    ///
    /// By default, every player may publish a voice, and in rooms of up to
    /// [`VIDEO_ROOM_PLAYERS`](limits::VIDEO_ROOM_PLAYERS) players also a video.
    pub fn user_media(&mut self, player: PlayerId, allowed: UserMedia) {
        if self.players.contains_key(&player) {
            self.media.permissions.insert(player, allowed);
        }
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct MediaRules {
    /// Without an entry the default applies.
    permissions: BTreeMap<PlayerId, UserMedia>,
    /// Without an entry a player is in group 0.
    groups: BTreeMap<PlayerId, u32>,
    /// By listener and speaker; never [`Audible::ByGroup`].
    pairs: BTreeMap<(PlayerId, PlayerId), Audible>,
}

impl MediaRules {
    pub(super) fn set_audible(&mut self, listener: PlayerId, speaker: PlayerId, audible: Audible) {
        if audible == Audible::ByGroup {
            self.pairs.remove(&(listener, speaker));
        } else {
            self.pairs.insert((listener, speaker), audible);
        }
    }

    pub(super) fn set_group(&mut self, player: PlayerId, group: u32) {
        self.groups.insert(player, group);
    }

    pub(super) fn hears(&self, listener: PlayerId, speaker: PlayerId) -> bool {
        match self.pairs.get(&(listener, speaker)).copied().unwrap_or_default() {
            Audible::ByGroup => self.group(listener) == self.group(speaker),
            audible => audible == Audible::On,
        }
    }

    fn group(&self, player: PlayerId) -> u32 {
        self.groups.get(&player).copied().unwrap_or_default()
    }

    /// Returns what a player of a room of this size may publish.
    pub(super) fn user_media(&self, player: PlayerId, players: usize) -> UserMedia {
        let by_size = UserMedia { audio: true, video: players <= limits::VIDEO_ROOM_PLAYERS };
        self.permissions.get(&player).copied().unwrap_or(by_size)
    }

    pub(super) fn forget(&mut self, player: PlayerId) {
        self.permissions.remove(&player);
        self.groups.remove(&player);
        self.pairs.retain(|&(listener, speaker), _| listener != player && speaker != player);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_outweighs_groups_and_ends_with_either_player() {
        let mut rules = MediaRules::default();
        let [one, two, three] = [1, 2, 3].map(PlayerId);
        assert!(rules.hears(one, two) && rules.hears(two, one), "everybody hears everybody");
        rules.set_group(two, 7);
        assert!(!rules.hears(one, two) && !rules.hears(two, one));
        rules.set_group(three, 7);
        assert!(rules.hears(three, two));
        rules.set_audible(one, two, Audible::On);
        rules.set_audible(three, two, Audible::Off);
        assert!(rules.hears(one, two) && !rules.hears(two, one), "a pair has a direction");
        assert!(!rules.hears(three, two) && rules.hears(two, three));
        rules.set_audible(three, two, Audible::ByGroup);
        assert!(rules.hears(three, two));
        rules.forget(two);
        assert!(rules.hears(one, two) && rules.pairs.is_empty() && !rules.groups.contains_key(&two));
    }

    #[test]
    fn everybody_may_publish_until_the_room_is_large_or_the_game_decides() {
        let mut rules = MediaRules::default();
        let (all, voice) = (UserMedia { audio: true, video: true }, UserMedia { audio: true, video: false });
        assert_eq!(rules.user_media(PlayerId(1), limits::VIDEO_ROOM_PLAYERS), all);
        assert_eq!(rules.user_media(PlayerId(1), limits::VIDEO_ROOM_PLAYERS + 1), voice);
        rules.permissions.insert(PlayerId(1), all);
        assert_eq!(rules.user_media(PlayerId(1), 500), all);
        rules.forget(PlayerId(1));
        assert_eq!(rules.user_media(PlayerId(1), 500), voice);
    }
}
