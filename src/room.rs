//! One room: a game and its players. Deterministic.
//!
//! All input enters through [`Room::handle_input`] and all output leaves through [`Room::poll_output`]. The same inputs
//! in the same order give the same outputs, bit for bit, from one build: a room reads no clock, has no randomness
//! except its seeded generator, and iterates over no hash map. Inputs are only queued; the game runs in
//! [`Input::Tick`], so one call is one step.

mod inbox;
mod listing;
mod media;
mod saved;
mod sending;

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use self::inbox::{Flood, Inbox, Message};
pub use self::media::Audible;
use self::media::MediaRules;
use crate::game::{
    Encoded, Game, Incoming, Join, Link, Player, PlayerId, Random, Resumed, RoomInfo, SendError, Target, Tick,
};
use crate::limits::{self, PerTick};
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::frame::Kind;
use crate::wire::signaling::UserMedia;
use crate::wire::{msgpack, name, seen};

/// An input of a room.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// A player asks to join.
    Join {
        /// The player's number, from [`Room::next_player`].
        player: PlayerId,
        /// The player's name, data and identity.
        join: Join,
    },
    /// A player has left.
    Leave {
        /// The player's number.
        player: PlayerId,
        /// The reason.
        reason: Leave,
    },
    /// A player's connection was lost; the player may reconnect.
    Drop {
        /// The player's number.
        player: PlayerId,
    },
    /// The player has reconnected.
    Resume {
        /// The player's number.
        player: PlayerId,
        /// How.
        resumed: Resumed,
    },
    /// A new input of a player. The caller must pass each input once and in order.
    Input {
        /// The sender.
        player: PlayerId,
        /// The input's sequence number.
        number: u32,
        /// The [stamp](crate::wire::seen) of the tick that the player saw.
        seen: u16,
        /// One msgpack value, within the limits of [`msgpack::check`] and [`limits::INPUT_BYTES`].
        value: Vec<u8>,
    },
    /// A command of a player.
    Command {
        /// The sender.
        player: PlayerId,
        /// One msgpack value, within the limits of [`msgpack::check`] and [`limits::RELIABLE_UP_BYTES`].
        value: Vec<u8>,
    },
    /// A player requests the inputs of ticks that were missed.
    Ticks {
        /// The player's number.
        player: PlayerId,
        /// The first tick requested.
        first: u32,
        /// The last tick requested.
        last: u32,
    },
    /// The quality of a player's connection has changed.
    Link {
        /// The player's number.
        player: PlayerId,
        /// The measurements.
        link: Link,
    },
    /// A message from the program, see [`Game::external`].
    External {
        /// At most [`limits::EXTERNAL_BYTES`].
        bytes: Vec<u8>,
    },
    /// The server is about to stop, see [`Game::drain`].
    Drain {
        /// The time until the room is closed.
        time: Duration,
    },
    /// Restores the room from what [`Room::save`] has saved, before anything else. No player is connected then: a
    /// resume or a leave follows for each. If that fails, the room ends with [`Output::Closed`].
    Restore {
        /// At most [`limits::SNAPSHOT_BYTES`].
        saved: Vec<u8>,
    },
    /// Runs the next step.
    Tick(Tick),
}

/// An output of a room.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// A player has joined. Precedes everything else that the same tick sends to the player.
    Joined {
        /// The player's number.
        player: PlayerId,
        /// The game's welcome message.
        welcome: Encoded,
    },
    /// A player was refused.
    Refused {
        /// The player's number.
        player: PlayerId,
        /// The error code.
        code: ErrorCode,
        /// The sentence to show to the player.
        message: String,
    },
    /// A player has left.
    Left {
        /// The player's number.
        player: PlayerId,
        /// The reason.
        reason: Leave,
        /// The sentence to show to the player; may be empty.
        message: String,
    },
    /// The game has given a player another name.
    Renamed {
        /// The player's number.
        player: PlayerId,
        /// The display name from now on.
        name: String,
    },
    /// The body of a message.
    Body {
        /// The recipients.
        to: Target,
        /// The kind of message, which determines its lane.
        kind: Kind,
        /// The encoded body, not deflated.
        body: Vec<u8>,
    },
    /// The game closed the room. All players have left; the room ignores further inputs.
    Ended,
    /// The game panicked. All players have left; the room ignores further inputs.
    Closed,
}

/// A game's access to its room: the players, random numbers, and sending messages.
pub struct Context<G: Game> {
    tick: u32,
    tick_length: std::time::Duration,
    players: BTreeMap<PlayerId, Player>,
    inbox: Inbox,
    /// Ticks of [`limits::SEEN_LIMIT`].
    seen_limit: f64,
    clamped_seen: u64,
    rng: Random,
    locked: bool,
    listed: bool,
    title: Option<String>,
    kicked: Vec<(PlayerId, String)>,
    outputs: VecDeque<Output>,
    /// The buffer for the next body.
    spare_body: Vec<u8>,
    fan_out: FanOut,
    closing: Option<String>,
    unsent: u64,
    last_unsent: Option<SendError>,
    cast: Option<BTreeMap<PlayerId, String>>,
    media: MediaRules,
    game: PhantomData<fn() -> G>,
}

impl<G: Game> Context<G> {
    /// Returns the number of this tick.
    #[must_use]
    pub fn tick(&self) -> u32 {
        self.tick
    }

    /// Returns the length of a tick.
    #[must_use]
    pub fn tick_length(&self) -> std::time::Duration {
        self.tick_length
    }

    /// Returns the players in the room, ordered by number.
    pub fn players(&self) -> impl ExactSizeIterator<Item = &Player> {
        self.players.values()
    }

    /// Returns a player of the room, or `None` if there is no such player.
    #[must_use]
    pub fn player(&self, player: PlayerId) -> Option<&Player> {
        self.players.get(&player)
    }

    /// Returns the quality of a player's connection. All zero for a player who is not in the room.
    #[must_use]
    pub fn link(&self, player: PlayerId) -> Link {
        self.players.get(&player).map(|player| player.link).unwrap_or_default()
    }

    /// Returns the number of a player's newest input that was passed to the game, including those of this tick. 0
    /// before the first, and for a player who is not in the room.
    #[must_use]
    pub fn consumed(&self, player: PlayerId) -> u32 {
        self.inbox.consumed(player)
    }

    /// Returns the room's random number generator, seeded with [`RoomInfo::seed`].
    pub fn rng(&mut self) -> &mut Random {
        &mut self.rng
    }

    /// Sends the inputs of this tick to every player, including their senders, for games that are simulated in the
    /// browser (lockstep). Clients receive the inputs of every tick once and in order; they request lost ticks again on
    /// the reliable lane.
    pub fn fan_out_inputs(&mut self) {
        self.fan_out = FanOut::Batch;
    }

    /// As [`Context::fan_out_inputs`], with other inputs than those of this tick.
    pub(crate) fn fan_out_others(&mut self, inputs: msgpack::Inputs) {
        self.fan_out = FanOut::Others(inputs.finish());
    }

    /// Presents these players to clients, by number and name, instead of the players in the room.
    pub(crate) fn show_cast(&mut self, cast: BTreeMap<PlayerId, String>) {
        self.cast = Some(cast);
    }

    /// Gives a player another display name and announces it to every client. What a name cannot have is taken out, as
    /// at the join: it has 1 to [`limits::PLAYER_NAME_CHARS`] printable characters, or is `player` if nothing remains.
    /// Does nothing if the player is not in the room.
    pub fn rename(&mut self, player: PlayerId, name: &str) {
        let Some(renamed) = self.players.get_mut(&player) else { return };
        let name = name::shown(Some(name));
        if renamed.name != name {
            renamed.name.clone_from(&name);
            self.outputs.push_back(Output::Renamed { player, name });
        }
    }

    /// Removes a player after this tick. `sentence` is shown to the player.
    pub fn kick(&mut self, player: PlayerId, sentence: impl Into<String>) {
        self.kicked.push((player, sentence.into()));
    }

    /// Closes the room after this tick. [`Game::leave`] is called for every player, `sentence` is shown to them, and
    /// the game is dropped. A later join to the same name creates a new room.
    pub fn close(&mut self, sentence: impl Into<String>) {
        self.closing = Some(sentence.into());
    }

    /// The first tick that an input may have seen.
    fn oldest_seen(&self) -> f64 {
        (f64::from(self.tick) - self.seen_limit).max(0.0)
    }

    fn clamp_seen(&mut self, seen: f64) -> f64 {
        let newest = f64::from(self.tick);
        self.clamped_seen += u64::from(seen > newest || seen < newest - self.seen_limit);
        seen.clamp(self.oldest_seen(), newest)
    }
}

/// The inputs to send to every player after the tick.
#[derive(Default)]
enum FanOut {
    #[default]
    Nothing,
    /// The inputs of the batch.
    Batch,
    /// Other inputs, encoded.
    Others(Vec<u8>),
}

enum Change {
    Join(PlayerId, Join),
    Leave(PlayerId, Leave),
    Drop(PlayerId),
    Resume(PlayerId, Resumed),
    Link(PlayerId, Link),
    External(Vec<u8>),
    Drain(Duration),
}

/// Buffers kept for later inputs: those of a tick with a hundred players. No input exceeds [`limits::INPUT_BYTES`].
const BUFFERS_KEPT: usize = 128;

/// A room and its game.
pub struct Room<G: Game> {
    game: Option<G>,
    unreadable: Option<(PlayerId, String)>,
    context: Context<G>,
    max_players: usize,
    next_player: u32,
    changes: VecDeque<Change>,
    /// The number of [`Change::External`] in `changes`.
    externals: usize,
    /// The first and last tick that each player has requested.
    wanted_ticks: BTreeMap<PlayerId, (u32, u32)>,
    history: VecDeque<(u32, Vec<u8>)>,
    history_ticks: usize,
    /// The messages of the current tick, decoded and raw; empty in between, kept for their capacity.
    batch: Vec<Incoming<G>>,
    messages: Vec<(PlayerId, Message)>,
    /// Empty buffers of inputs of earlier ticks.
    buffers: Vec<Vec<u8>>,
}

impl<G: Game> Room<G> {
    /// Returns a room without players.
    #[must_use]
    pub fn new(info: &RoomInfo, game: G, max_players: usize) -> Room<G> {
        let history_ticks = limits::TICK_HISTORY.as_nanos() / info.tick.as_nanos().max(1);
        Room {
            game: Some(game),
            unreadable: None,
            context: Context {
                tick: 0,
                tick_length: info.tick,
                players: BTreeMap::new(),
                inbox: Inbox::new(PerTick::new(info.tick, G::INPUTS_PER_TICK, G::TICK)),
                seen_limit: limits::SEEN_LIMIT.as_secs_f64() / info.tick.as_secs_f64(),
                clamped_seen: 0,
                rng: Random::new(info.seed),
                locked: false,
                listed: false,
                title: None,
                kicked: Vec::new(),
                outputs: VecDeque::new(),
                spare_body: Vec::new(),
                fan_out: FanOut::Nothing,
                closing: None,
                unsent: 0,
                last_unsent: None,
                cast: None,
                media: MediaRules::default(),
                game: PhantomData,
            },
            max_players,
            next_player: 1,
            changes: VecDeque::new(),
            externals: 0,
            wanted_ticks: BTreeMap::new(),
            history: VecDeque::new(),
            history_ticks: usize::try_from(history_ticks).unwrap_or(usize::MAX),
            batch: Vec::new(),
            messages: Vec::new(),
            buffers: Vec::new(),
        }
    }

    /// Returns the game, or `None` after it has closed the room or panicked.
    #[must_use]
    pub fn game(&self) -> Option<&G> {
        self.game.as_ref()
    }

    /// Returns the players in the room.
    pub fn players(&self) -> impl ExactSizeIterator<Item = &Player> {
        self.context.players()
    }

    /// Returns whether the room has no players and none that are about to join.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.context.players.is_empty() && self.changes.is_empty()
    }

    /// Returns what the game lets a player publish: [`Context::user_media`].
    #[must_use]
    pub fn user_media(&self, player: PlayerId) -> UserMedia {
        self.context.media.user_media(player, self.context.players.len())
    }

    /// Returns whether the game lets `listener` hear and see `speaker`: [`Context::voice`].
    #[must_use]
    pub fn hears(&self, listener: PlayerId, speaker: PlayerId) -> bool {
        self.context.media.hears(listener, speaker)
    }

    /// Returns the number of the last tick.
    #[must_use]
    pub fn tick(&self) -> u32 {
        self.context.tick
    }

    /// Returns the sequence number of the player's newest input that was passed to the game.
    #[must_use]
    pub fn consumed(&self, player: PlayerId) -> u32 {
        self.context.consumed(player)
    }

    /// Returns the position of the random number generator, in 32-bit words.
    #[must_use]
    pub fn random_numbers_used(&self) -> u128 {
        self.context.rng.used()
    }

    /// Returns the number of inputs dropped because more than [`PerTick::input_backlog`] of one player were waiting.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.context.inbox.dropped_inputs()
    }

    /// Takes the last player of whom an input was dropped for that since the last call.
    pub fn take_overflowed(&mut self) -> Option<PlayerId> {
        self.context.inbox.take_last_dropped()
    }

    /// Returns the number of inputs whose [`seen`](Incoming::Input) was clamped because it was ahead of the room or
    /// before [`limits::SEEN_LIMIT`].
    #[must_use]
    pub fn clamped_seen(&self) -> u64 {
        self.context.clamped_seen
    }

    /// Returns the number of states and events that were not sent because they were too long or could not be encoded.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.context.unsent
    }

    /// Returns the last error of a message that was not sent, if there was one since the last call.
    pub fn take_send_error(&mut self) -> Option<SendError> {
        self.context.last_unsent.take()
    }

    /// Takes the last player who was removed because the game cannot read their message, and the reason.
    pub fn take_unreadable(&mut self) -> Option<(PlayerId, String)> {
        self.unreadable.take()
    }

    /// Returns the number of external messages waiting for the next tick. At most [`limits::EXTERNAL_BACKLOG`] may be
    /// added.
    #[must_use]
    pub fn externals(&self) -> usize {
        self.externals
    }

    /// Returns the number for the next player to join. Each call returns a new one.
    pub fn next_player(&mut self) -> PlayerId {
        let player = PlayerId(self.next_player);
        self.next_player += 1;
        player
    }

    /// Numbers players from `first` instead of from 1.
    pub(crate) fn number_players_from(&mut self, first: u32) {
        self.next_player = first;
    }

    /// Returns the players to present to clients, if they have changed and differ from those in the room.
    pub(crate) fn poll_cast(&mut self) -> Option<BTreeMap<PlayerId, String>> {
        self.context.cast.take()
    }

    /// Handles an input. This is the only way in: a room's journal records exactly the inputs passed here.
    pub fn handle_input(&mut self, input: Input) {
        if self.game.is_none() {
            return;
        }
        match input {
            Input::Join { player, join } => self.changes.push_back(Change::Join(player, join)),
            Input::Leave { player, reason } => self.changes.push_back(Change::Leave(player, reason)),
            Input::Drop { player } => self.changes.push_back(Change::Drop(player)),
            Input::Resume { player, resumed } => self.changes.push_back(Change::Resume(player, resumed)),
            Input::Ticks { player, first, last } => {
                if self.context.inbox.is_open(player) {
                    self.wanted_ticks.insert(player, (first, last));
                }
            }
            Input::Link { player, link } => self.changes.push_back(Change::Link(player, link)),
            Input::External { bytes } => {
                self.externals += 1;
                self.changes.push_back(Change::External(bytes));
            }
            Input::Drain { time } => self.changes.push_back(Change::Drain(time)),
            Input::Input { player, number, seen, value } => {
                let seen = self.context.clamp_seen(seen::unwrap(seen, self.context.tick));
                self.context.inbox.push_input(player, number, seen, value);
            }
            Input::Command { player, value } => {
                if let Err(Flood) = self.context.inbox.push_command(player, value) {
                    // The player is about to be removed; ignore their further messages.
                    self.context.inbox.close(player);
                    self.changes.push_back(Change::Leave(player, Leave::Flood));
                }
            }
            Input::Restore { saved } => self.restore_or_close(&saved),
            Input::Tick(tick) => self.run(tick),
        }
    }

    /// Returns the maximum number of players.
    #[must_use]
    pub fn max_players(&self) -> usize {
        self.max_players
    }

    /// Returns the next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.context.outputs.pop_front()
    }

    fn run(&mut self, tick: Tick) {
        self.context.tick = tick.number;
        self.context.inbox.forget_departed();
        let step = catch_unwind(AssertUnwindSafe(|| self.step(tick)));
        if step.is_err() {
            self.close();
        }
    }

    fn step(&mut self, tick: Tick) {
        self.externals = 0;
        while let Some(change) = self.changes.pop_front() {
            match change {
                Change::Join(player, join) => self.join(player, join),
                Change::Leave(player, reason) => self.leave(player, reason, String::new()),
                Change::Drop(player) => self.drop_player(player),
                Change::Resume(player, resumed) => self.resume(player, resumed),
                Change::Link(player, link) => {
                    if let Some(player) = self.context.players.get_mut(&player) {
                        player.link = link;
                    }
                }
                Change::External(bytes) => {
                    if let Some(game) = &mut self.game {
                        game.external(&mut self.context, &bytes);
                    }
                }
                Change::Drain(time) => {
                    if let Some(game) = &mut self.game {
                        game.drain(&mut self.context, time);
                    }
                }
            }
        }
        self.answer_wanted_ticks();
        self.take_batch();
        if let Some(game) = &mut self.game {
            game.tick(&mut self.context, tick, self.batch.drain(..));
        }
        match std::mem::take(&mut self.context.fan_out) {
            FanOut::Nothing => {}
            FanOut::Batch => self.fan_out(encode_inputs(&self.messages)),
            FanOut::Others(inputs) => self.fan_out(inputs),
        }
        self.clear_batch();
        for (player, sentence) in std::mem::take(&mut self.context.kicked) {
            self.leave(player, Leave::Kicked, sentence);
        }
        if let Some(sentence) = self.context.closing.take() {
            let players: Vec<PlayerId> = self.context.players.keys().copied().collect();
            for player in players {
                self.leave(player, Leave::RoomClosed, sentence.clone());
            }
            self.game = None;
            self.context.outputs.push_back(Output::Ended);
        }
    }

    fn join(&mut self, player: PlayerId, join: Join) {
        let before = self.context.outputs.len();
        let admitted = self.admit(player, join);
        let is_in_game = admitted.is_ok();
        let reply = match admitted.and_then(|welcome| encode_welcome(&welcome)) {
            Ok(welcome) => {
                self.context.inbox.open(player);
                Output::Joined { player, welcome }
            }
            Err((code, message)) => {
                self.context.players.remove(&player);
                self.context.media.forget(player);
                Output::Refused { player, code, message }
            }
        };
        let is_refused = matches!(reply, Output::Refused { .. });
        // The reply precedes messages that the game sent during `join`.
        self.context.outputs.insert(before, reply);
        if is_in_game
            && is_refused
            && let Some(game) = &mut self.game
        {
            game.leave(&mut self.context, player, Leave::Closed);
        }
    }

    fn admit(&mut self, player: PlayerId, join: Join) -> Result<G::Welcome, (ErrorCode, String)> {
        if self.context.locked {
            return Err((ErrorCode::RoomLocked, "This room lets nobody in at the moment.".to_owned()));
        }
        if self.context.players.len() >= self.max_players {
            return Err((ErrorCode::RoomFull, format!("This room is full: it takes {} players.", self.max_players)));
        }
        let join = join.decode().map_err(|refusal| (ErrorCode::BadRequest, refusal.to_string()))?;
        let game = self.game.as_mut().ok_or_else(|| (ErrorCode::Internal, "This room has closed.".to_owned()))?;
        let entry = Player { id: player, name: join.name.clone(), connected: true, link: Link::default() };
        self.context.players.insert(player, entry);
        game.join(&mut self.context, player, &join).map_err(|refusal| (ErrorCode::Refused, refusal.to_string()))
    }

    /// Returns whether that is a change.
    fn set_connected(&mut self, player: PlayerId, connected: bool) -> bool {
        let player = self.context.players.get_mut(&player);
        player.is_some_and(|player| std::mem::replace(&mut player.connected, connected) != connected)
    }

    fn drop_player(&mut self, player: PlayerId) {
        if self.set_connected(player, false)
            && let Some(game) = &mut self.game
        {
            game.drop(&mut self.context, player);
        }
    }

    fn resume(&mut self, player: PlayerId, resumed: Resumed) {
        let was_away = self.set_connected(player, true);
        if (was_away || (resumed.reloaded && self.context.players.contains_key(&player)))
            && let Some(game) = &mut self.game
        {
            game.resume(&mut self.context, player, resumed);
        }
    }

    fn leave(&mut self, player: PlayerId, reason: Leave, message: String) {
        if self.context.players.remove(&player).is_none() {
            return;
        }
        self.context.inbox.close(player);
        self.wanted_ticks.remove(&player);
        self.context.media.forget(player);
        self.context.outputs.push_back(Output::Left { player, reason, message });
        if let Some(game) = &mut self.game {
            game.leave(&mut self.context, player, reason);
        }
    }

    /// Takes the messages of this tick in order of arrival, decoded and raw. A message that cannot be decoded as the
    /// game's type removes its sender.
    fn take_batch(&mut self) {
        // Whether the game fans out its inputs is unknown until it has done so once.
        let input_bytes = if self.history.is_empty() { usize::MAX } else { limits::FAN_OUT_BYTES };
        self.context.inbox.take(self.context.tick, input_bytes, &mut self.messages);
        let mut unreadable = Vec::new();
        let oldest_seen = self.context.oldest_seen();
        for &(player, ref message) in &self.messages {
            if !unreadable.is_empty() && !self.context.inbox.is_open(player) {
                continue;
            }
            match message.decode(player, oldest_seen) {
                Ok(message) => self.batch.push(message),
                Err(error) => {
                    self.context.inbox.close(player);
                    unreadable.push((player, error));
                }
            }
        }
        if !unreadable.is_empty() {
            self.messages.retain(|(player, _)| self.context.inbox.is_open(*player));
            self.batch.retain(|message| self.context.inbox.is_open(message.player()));
        }
        for (player, error) in unreadable {
            self.unreadable = Some((player, error));
            self.leave(player, Leave::BadFrame, "The game can't read what you sent.".to_owned());
        }
    }

    fn clear_batch(&mut self) {
        for (_, message) in self.messages.drain(..) {
            if let Message::Input { mut value, .. } = message
                && self.buffers.len() < BUFFERS_KEPT
            {
                value.clear();
                self.buffers.push(value);
            }
        }
    }

    /// Returns an empty buffer for the value of an input, if possible one that a former input has used.
    pub(crate) fn take_buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes back the buffer of a body, for the next state or event.
    pub(crate) fn recycle_body(&mut self, buffer: Vec<u8>) {
        self.context.spare_body = buffer;
    }

    fn fan_out(&mut self, inputs: Vec<u8>) {
        let tick = self.context.tick;
        // Skipped ticks had no inputs. Without entries for them, clients would request them forever.
        if let Some(&(newest, _)) = self.history.back() {
            for skipped in newest.saturating_add(1).max(tick.saturating_sub(self.history_span()))..tick {
                self.history.push_back((skipped, msgpack::Inputs::default().finish()));
            }
        }
        self.history.push_back((tick, inputs));
        while self.history.len() > self.history_ticks {
            self.history.pop_front();
        }
        let newest_alone = self.history.back().map_or(0, |(_, inputs)| inputs.len()) + limits::BODY_PREFIX_BYTES;
        if newest_alone > limits::UNRELIABLE_BODY_BYTES {
            // Only the first fanned-out tick can exceed the unreliable lane's limit: clients request it on the reliable
            // lane when they receive the next.
            return;
        }
        let window = self.history.iter().rev().take(limits::TICK_WINDOW).map(|(_, inputs)| inputs.as_slice());
        let body = msgpack::encode_ticks(tick, window, limits::PART_BODY_BYTES);
        self.context.outputs.push_back(Output::Body { to: Target::All, kind: Kind::Tick, body });
    }

    fn history_span(&self) -> u32 {
        u32::try_from(self.history_ticks).unwrap_or(u32::MAX)
    }

    fn answer_wanted_ticks(&mut self) {
        for (player, (first, last)) in std::mem::take(&mut self.wanted_ticks) {
            self.answer_ticks(player, first, last);
        }
    }

    /// Always answers, even with fewer ticks or none, so that the client learns which ticks are lost.
    fn answer_ticks(&mut self, player: PlayerId, first: u32, last: u32) {
        let oldest = self.history.front().map_or(self.context.tick.saturating_add(1), |&(oldest, _)| oldest);
        let start = first.max(oldest);
        let count = if last < start { 0 } else { (last - start).min(limits::TICKS_PER_REQUEST - 1) as usize + 1 };
        let ticks = self.history.iter().skip((start - oldest) as usize).take(count);
        let inputs = ticks.map(|(_, inputs)| inputs.as_slice());
        let body = msgpack::encode_ticks(start, inputs, limits::TICKS_ANSWER_BYTES);
        self.context.outputs.push_back(Output::Body { to: Target::One(player), kind: Kind::Ticks, body });
    }

    fn close(&mut self) {
        let game = self.game.take();
        // A value that panicked may panic again when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(game)));
        let sentence = "The room closed because its game failed.";
        for (player, _) in std::mem::take(&mut self.context.players) {
            let message = sentence.to_owned();
            self.context.outputs.push_back(Output::Left { player, reason: Leave::RoomClosed, message });
        }
        for change in std::mem::take(&mut self.changes) {
            if let Change::Join(player, _) = change {
                let message = sentence.to_owned();
                self.context.outputs.push_back(Output::Refused { player, code: ErrorCode::Internal, message });
            }
        }
        self.context.inbox.clear();
        self.wanted_ticks.clear();
        self.context.outputs.push_back(Output::Closed);
    }
}

fn encode_welcome<W: serde::Serialize + 'static>(welcome: &W) -> Result<Encoded, (ErrorCode, String)> {
    let welcome = Encoded::once(welcome).map_err(|refusal| (ErrorCode::Refused, refusal.to_string()))?;
    match welcome.as_json().len() {
        0..=limits::RELIABLE_DOWN_BYTES => Ok(welcome),
        bytes => Err((ErrorCode::TooLarge, format!("The game's welcome has {bytes} bytes, the limit is 1 MiB."))),
    }
}

/// Encodes the inputs of a batch for fan-out.
fn encode_inputs(messages: &[(PlayerId, Message)]) -> Vec<u8> {
    let mut inputs = msgpack::Inputs::default();
    for (player, message) in messages {
        if let Message::Input { number, value, .. } = message {
            inputs.push(player.0, *number, value);
        }
    }
    inputs.finish()
}

#[cfg(test)]
mod tests;
