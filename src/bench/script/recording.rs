//! The inputs and commands of players in a recording, for users who replay them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{LONGEST, payload};
use crate::game::PlayerId;
use crate::journal::{Entry, Journal};
use crate::limits;
use crate::room::Input;

/// A recording and its players' messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// The path of the file.
    pub path: PathBuf,
    players: Arc<[Vec<Said>]>,
}

/// A message of a player in a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The time since the player joined.
    pub at: Duration,
    /// Whether it is a command rather than an input.
    pub is_command: bool,
    /// The message, one msgpack value.
    pub value: Vec<u8>,
}

impl Recording {
    pub(super) fn new(path: PathBuf) -> Recording {
        Recording { path, players: Arc::default() }
    }

    /// Returns the messages of one player in order: the nth user gets the nth player with any, starting over after the
    /// last.
    #[must_use]
    pub fn said_by(&self, user: u64) -> &[Said] {
        let player = user.checked_rem(self.players.len() as u64).and_then(|player| usize::try_from(player).ok());
        player.and_then(|player| self.players.get(player)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the number of players with any message.
    #[must_use]
    pub fn players(&self) -> usize {
        self.players.len()
    }

    /// Reads the file.
    pub(super) fn load(&mut self, directory: &Path) -> Result<(), String> {
        self.path = directory.join(&self.path);
        let name = self.path.display().to_string();
        let mut bytes = Vec::new();
        payload::open(&self.path, limits::JOURNAL_BYTES as u64)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(|error| format!("the recording {name} can't be read: {error}"))?;
        self.take(&bytes).map_err(|error| format!("the recording {name} can't be played: {error}"))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        let journal = Journal::parse(bytes).map_err(|error| error.to_string())?;
        let tick_length = journal.header().room.tick;
        let mut players: BTreeMap<PlayerId, Player> = BTreeMap::new();
        let mut told: BTreeMap<PlayerId, Vec<(bool, Vec<u8>)>> = BTreeMap::new();
        let mut came = Vec::new();
        for entry in journal.entries() {
            match entry.map_err(|error| error.to_string())? {
                Entry::Told(Input::Join { player, .. }) => came.push(player),
                Entry::Told(Input::Input { player, value, .. }) => told.entry(player).or_default().push((false, value)),
                Entry::Told(Input::Command { player, value }) => told.entry(player).or_default().push((true, value)),
                Entry::Told(Input::Tick(tick)) => {
                    for player in came.drain(..) {
                        players.insert(player, Player { came: tick.number, said: Vec::new() });
                    }
                    for (player, told) in std::mem::take(&mut told) {
                        if let Some(player) = players.get_mut(&player) {
                            player.say(tick.number, tick_length, told);
                        }
                    }
                }
                _ => {}
            }
        }
        self.players = players.into_values().map(|player| player.said).filter(|said| !said.is_empty()).collect();
        if self.players.is_empty() { Err("no player sends anything in it".to_owned()) } else { Ok(()) }
    }
}

struct Player {
    came: u32,
    said: Vec<Said>,
}

impl Player {
    /// A recording contains only the tick of a message: the messages of a tick are spread over it.
    fn say(&mut self, tick: u32, tick_length: Duration, told: Vec<(bool, Vec<u8>)>) {
        let began = tick_length.saturating_mul(tick.saturating_sub(self.came)).min(LONGEST);
        let apart = tick_length / u32::try_from(told.len()).unwrap_or(u32::MAX);
        for (number, (is_command, value)) in (0..).zip(told) {
            self.said.push(Said { at: began + apart * number, is_command, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_tick_took_is_spread_over_it() {
        let ms = Duration::from_millis;
        let mut player = Player { came: 10, said: Vec::new() };
        let input = |value| (false, vec![value]);
        player.say(10, ms(30), vec![input(1)]);
        player.say(12, ms(30), vec![input(2), (true, vec![3]), input(4)]);
        let said: Vec<_> = player.said.iter().map(|said| (said.at, said.is_command, said.value[0])).collect();
        assert_eq!(said, [(ms(0), false, 1), (ms(60), false, 2), (ms(70), true, 3), (ms(80), false, 4)]);
    }
}
