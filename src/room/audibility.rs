//! Who hears whose voice, as the game decides.

use std::collections::BTreeMap;

use super::Context;
use crate::game::{Game, PlayerId};

/// Whether a player hears the voice of another, see [`Context::voice`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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
    /// Sets whether `listener` hears the voice of `speaker`, where the server forwards voices (`--media`). It applies
    /// from the end of the tick until it is set again or one of the two leaves; [`Audible::ByGroup`] is the default.
    /// Does nothing if either is not in the room.
    ///
    /// Of the speakers that a listener hears, the loudest are forwarded.
    pub fn voice(&mut self, listener: PlayerId, speaker: PlayerId, audible: Audible) {
        if self.players.contains_key(&listener) && self.players.contains_key(&speaker) {
            self.audibility.set(listener, speaker, audible);
        }
    }

    /// Puts a player into a voice group: those in the same group hear each other, unless [`Context::voice`] says
    /// otherwise for two of them. Everybody is in group 0 at first. Does nothing if the player is not in the room.
    pub fn voice_group(&mut self, player: PlayerId, group: u32) {
        if self.players.contains_key(&player) {
            self.audibility.set_group(player, group);
        }
    }
}

#[derive(Default)]
pub(super) struct Audibility {
    /// Without an entry a player is in group 0.
    groups: BTreeMap<PlayerId, u32>,
    /// By listener and speaker; never [`Audible::ByGroup`].
    pairs: BTreeMap<(PlayerId, PlayerId), Audible>,
}

impl Audibility {
    pub(super) fn set(&mut self, listener: PlayerId, speaker: PlayerId, audible: Audible) {
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

    pub(super) fn forget(&mut self, player: PlayerId) {
        self.groups.remove(&player);
        self.pairs.retain(|&(listener, speaker), _| listener != player && speaker != player);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_outweighs_groups_and_ends_with_either_player() {
        let mut audibility = Audibility::default();
        let [one, two, three] = [1, 2, 3].map(PlayerId);
        assert!(audibility.hears(one, two) && audibility.hears(two, one), "everybody hears everybody");
        audibility.set_group(two, 7);
        assert!(!audibility.hears(one, two) && !audibility.hears(two, one));
        audibility.set_group(three, 7);
        assert!(audibility.hears(three, two));
        audibility.set(one, two, Audible::On);
        audibility.set(three, two, Audible::Off);
        assert!(audibility.hears(one, two) && !audibility.hears(two, one), "a pair has a direction");
        assert!(!audibility.hears(three, two) && audibility.hears(two, three));
        audibility.set(three, two, Audible::ByGroup);
        assert!(audibility.hears(three, two));
        audibility.forget(two);
        assert!(audibility.hears(one, two) && audibility.pairs.is_empty() && !audibility.groups.contains_key(&two));
    }
}
