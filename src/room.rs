//! One room: a game, its players, and the line of determinism.
//!
//! Everything that a room learns enters through [`Room::handle_input`]; what it has to say leaves through
//! [`Room::poll_output`]. Given the same inputs in the same order, one build makes the same outputs, bit for bit: no
//! clock, no hash order, no randomness but the seeded generator's. Inputs only queue; the game runs in
//! [`Input::Tick`], so that one call is one step.

mod inbox;

use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use self::inbox::{Flood, Inbox, Message};
use crate::game::{
    Game, Incoming, Join, Lane, Link, Player, PlayerId, Random, RoomInfo, SendError, Target, Tick, Welcome,
};
use crate::limits::{self, PerTick};
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::frame::Kind;
use crate::wire::msgpack;

/// What a room can be told.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// A player asks to come in, under a number from [`Room::next_player`].
    Join {
        /// Their number.
        player: PlayerId,
        /// Who they say they are.
        join: Join,
    },
    /// A player is gone.
    Leave {
        /// Who.
        player: PlayerId,
        /// Why.
        reason: Leave,
    },
    /// A player's connection was lost; they may come back.
    Drop {
        /// Who.
        player: PlayerId,
    },
    /// They are back.
    Resume {
        /// Who.
        player: PlayerId,
    },
    /// A new input of a player; the caller sees to it that each comes once and in order.
    Input {
        /// Whose.
        player: PlayerId,
        /// Its number.
        number: u32,
        /// One msgpack value, within the limits of [`msgpack::check`] and [`limits::INPUT_BYTES`].
        value: Vec<u8>,
    },
    /// A command of a player.
    Command {
        /// Whose.
        player: PlayerId,
        /// One msgpack value, within the limits of [`msgpack::check`] and [`limits::RELIABLE_UP_BYTES`].
        value: Vec<u8>,
    },
    /// A player asks for the inputs of ticks that they missed.
    Ticks {
        /// Who.
        player: PlayerId,
        /// The first tick they want.
        first: u32,
        /// The last one.
        last: u32,
    },
    /// How a player is connected now.
    Link {
        /// Whose link.
        player: PlayerId,
        /// Its figures.
        link: Link,
    },
    /// Something from outside.
    External {
        /// At most [`limits::EXTERNAL_BYTES`].
        bytes: Vec<u8>,
    },
    /// Time for the next step.
    Tick(Tick),
}

/// What a room can say.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// A player is in. Precedes everything that the same tick sends them.
    Joined {
        /// Who.
        player: PlayerId,
        /// What the game greets them with.
        welcome: Welcome,
    },
    /// A player may not come in.
    Refused {
        /// Who asked.
        player: PlayerId,
        /// The code.
        code: ErrorCode,
        /// The sentence that they are shown.
        message: String,
    },
    /// A player is out.
    Left {
        /// Who.
        player: PlayerId,
        /// Why.
        reason: Leave,
        /// The sentence that they are shown.
        message: String,
    },
    /// A body for players.
    Body {
        /// For whom.
        to: Target,
        /// Its kind, which tells the lane.
        kind: Kind,
        /// Encoded, not deflated.
        body: Vec<u8>,
    },
    /// The game has closed its room: everybody is out, and the room does nothing more.
    Ended,
    /// The game panicked: everybody is out, and the room does nothing more.
    Closed,
}

/// The game's hold on its room.
pub struct Context<G: Game> {
    tick: u32,
    tick_length: std::time::Duration,
    players: BTreeMap<PlayerId, Player>,
    rng: Random,
    locked: bool,
    listed: bool,
    kicked: Vec<(PlayerId, String)>,
    outputs: VecDeque<Output>,
    fan_out: FanOut,
    closing: Option<String>,
    unsent: u64,
    last_unsent: Option<SendError>,
    cast: Option<BTreeMap<PlayerId, String>>,
    game: PhantomData<fn() -> G>,
}

impl<G: Game> Context<G> {
    /// The number of this tick.
    #[must_use]
    pub fn tick(&self) -> u32 {
        self.tick
    }

    /// The length of a tick.
    #[must_use]
    pub fn tick_length(&self) -> std::time::Duration {
        self.tick_length
    }

    /// The players in the room, by number.
    pub fn players(&self) -> impl ExactSizeIterator<Item = &Player> {
        self.players.values()
    }

    /// A player of the room.
    #[must_use]
    pub fn player(&self, player: PlayerId) -> Option<&Player> {
        self.players.get(&player)
    }

    /// How a player is connected; of one who is gone, nothing is known.
    #[must_use]
    pub fn link(&self, player: PlayerId) -> Link {
        self.players.get(&player).map(|player| player.link).unwrap_or_default()
    }

    /// The room's own random numbers: the same for the same seed and inputs.
    pub fn rng(&mut self) -> &mut Random {
        &mut self.rng
    }

    /// Sends a state to everybody, over the unreliable lane: the newest wins.
    ///
    /// # Errors
    /// Past 4 KiB encoded ([`limits::STATE_BYTES`]), or where no client could read it: nested deeper than 16
    /// ([`limits::MSGPACK_DEPTH`]), an integer beyond 2⁵³, a map with other keys than strings and integers. Then
    /// nothing is sent and the room counts it ([`Room::unsent`]): a game may go on without looking at the error.
    pub fn state(&mut self, state: &G::State) -> Result<(), SendError> {
        self.send(Target::All, Kind::State, state)
    }

    /// Sends a state to one player.
    ///
    /// # Errors
    /// As [`Context::state`].
    pub fn state_to(&mut self, player: PlayerId, state: &G::State) -> Result<(), SendError> {
        self.send(Target::One(player), Kind::State, state)
    }

    /// Sends an event.
    ///
    /// # Errors
    /// Past 4 KiB encoded on the unreliable lane ([`limits::STATE_BYTES`]), 1 MiB on the reliable one
    /// ([`limits::RELIABLE_EVENT_BYTES`]), or where no client could read it, as [`Context::state`].
    pub fn event(&mut self, target: Target, event: &G::Event, lane: Lane) -> Result<(), SendError> {
        let kind = match lane {
            Lane::Unreliable => Kind::Event,
            Lane::Reliable => Kind::ReliableEvent,
        };
        self.send(target, kind, event)
    }

    /// Sends the inputs of this tick to everybody, their senders included: for games that are simulated in the page.
    /// Every player gets every tick's inputs once and in order; what is lost on the way is asked for again.
    pub fn fan_out_inputs(&mut self) {
        self.fan_out = FanOut::Batch;
    }

    /// The same with `inputs` instead of those of this tick.
    pub(crate) fn fan_out_others(&mut self, inputs: msgpack::Inputs) {
        self.fan_out = FanOut::Others(inputs.finish());
    }

    /// Sends a state or event that is encoded already.
    pub(crate) fn send_encoded(&mut self, to: Target, kind: Kind, value: &[u8]) {
        let body = msgpack::prefix_tick(self.tick, value);
        self.outputs.push_back(Output::Body { to, kind, body });
    }

    /// From now on these are shown as the players, by number and name, instead of those who are in.
    pub(crate) fn show_cast(&mut self, cast: BTreeMap<PlayerId, String>) {
        self.cast = Some(cast);
    }

    /// Puts a player out after this tick; `sentence` is what they are shown.
    pub fn kick(&mut self, player: PlayerId, sentence: impl Into<String>) {
        self.kicked.push((player, sentence.into()));
    }

    /// Closes the room after this tick: [`Game::leave`] is called for everybody in it, they are shown `sentence`, and
    /// the game goes. The next player to join finds a new room of the same name.
    pub fn close(&mut self, sentence: impl Into<String>) {
        self.closing = Some(sentence.into());
    }

    /// Lets nobody in from now on, or everybody again.
    pub fn lock(&mut self, locked: bool) {
        self.locked = locked;
    }

    /// Shows the room on `/rooms`, or no longer. It is not shown at first.
    pub fn listed(&mut self, listed: bool) {
        self.listed = listed;
    }

    fn send(&mut self, to: Target, kind: Kind, value: &impl serde::Serialize) -> Result<(), SendError> {
        let limit = if kind.is_reliable() { limits::RELIABLE_EVENT_BYTES } else { limits::STATE_BYTES };
        match msgpack::encode_at_tick(self.tick, value, limit) {
            Ok(body) => {
                self.outputs.push_back(Output::Body { to, kind, body });
                Ok(())
            }
            Err(error) => {
                self.unsent += 1;
                self.last_unsent = Some(error.clone());
                Err(error)
            }
        }
    }
}

/// Which inputs go to everybody after the tick.
#[derive(Default)]
enum FanOut {
    #[default]
    Nothing,
    /// What the game got.
    Batch,
    /// What it gave instead, encoded.
    Others(Vec<u8>),
}

enum Change {
    Join(PlayerId, Join),
    Leave(PlayerId, Leave),
    /// Whether they are connected from now on.
    Presence(PlayerId, bool),
    Link(PlayerId, Link),
    External(Vec<u8>),
}

/// A room and its game.
pub struct Room<G: Game> {
    game: Option<G>,
    unreadable: Option<(PlayerId, String)>,
    context: Context<G>,
    max_players: usize,
    next_player: u32,
    changes: VecDeque<Change>,
    /// Those among `changes`.
    externals: usize,
    inbox: Inbox,
    /// The ticks that players ask for, from the first to the last.
    wanted_ticks: BTreeMap<PlayerId, (u32, u32)>,
    history: VecDeque<(u32, Vec<u8>)>,
    history_ticks: usize,
}

impl<G: Game> Room<G> {
    /// A room of `game`, without players.
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
                rng: Random::new(info.seed),
                locked: false,
                listed: false,
                kicked: Vec::new(),
                outputs: VecDeque::new(),
                fan_out: FanOut::Nothing,
                closing: None,
                unsent: 0,
                last_unsent: None,
                cast: None,
                game: PhantomData,
            },
            max_players,
            next_player: 1,
            changes: VecDeque::new(),
            externals: 0,
            inbox: Inbox::new(PerTick::new(info.tick)),
            wanted_ticks: BTreeMap::new(),
            history: VecDeque::new(),
            history_ticks: usize::try_from(history_ticks).unwrap_or(usize::MAX),
        }
    }

    /// The game, unless it has panicked.
    #[must_use]
    pub fn game(&self) -> Option<&G> {
        self.game.as_ref()
    }

    /// The players that are in.
    pub fn players(&self) -> impl ExactSizeIterator<Item = &Player> {
        self.context.players()
    }

    /// Whether nobody is in or about to come in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.context.players.is_empty() && self.changes.is_empty()
    }

    /// Whether the game lets nobody in.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.context.locked
    }

    /// Whether the game wants the room to be shown.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.context.listed
    }

    /// The tick that ran last.
    #[must_use]
    pub fn tick(&self) -> u32 {
        self.context.tick
    }

    /// The newest input of a player that the game has had.
    #[must_use]
    pub fn consumed(&self, player: PlayerId) -> u32 {
        self.inbox.consumed(player)
    }

    /// How far the room's random numbers have been used, in words of 32 bits.
    #[must_use]
    pub fn random_numbers_used(&self) -> u128 {
        self.context.rng.used()
    }

    /// Inputs that were dropped because more than [`PerTick::input_backlog`] of one player waited.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.inbox.dropped_inputs()
    }

    /// States and events of the game that were not sent: too long, or no client could read them.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.context.unsent
    }

    /// Why the last of them was not sent, if one was since this was last asked.
    pub fn take_send_error(&mut self) -> Option<SendError> {
        self.context.last_unsent.take()
    }

    /// The last player who was put out because the game can't read what they sent, if one was since this was last
    /// asked, and why it can't.
    pub fn take_unreadable(&mut self) -> Option<(PlayerId, String)> {
        self.unreadable.take()
    }

    /// Messages from outside that wait for the next tick; a room may be told [`limits::EXTERNAL_BACKLOG`] of them.
    #[must_use]
    pub fn externals(&self) -> usize {
        self.externals
    }

    /// The number for the next player to join; asking takes it.
    pub fn next_player(&mut self) -> PlayerId {
        let player = PlayerId(self.next_player);
        self.next_player += 1;
        player
    }

    /// The players are numbered from `first` on, instead of from 1.
    pub(crate) fn number_players_from(&mut self, first: u32) {
        self.next_player = first;
    }

    /// Who is to be shown as the players, where that has changed and they aren't those who are in.
    pub(crate) fn poll_cast(&mut self) -> Option<BTreeMap<PlayerId, String>> {
        self.context.cast.take()
    }

    /// Tells the room something: the one way in. The journal of a room is what passes here.
    pub fn handle_input(&mut self, input: Input) {
        if self.game.is_none() {
            return;
        }
        match input {
            Input::Join { player, join } => self.changes.push_back(Change::Join(player, join)),
            Input::Leave { player, reason } => self.changes.push_back(Change::Leave(player, reason)),
            Input::Drop { player } => self.changes.push_back(Change::Presence(player, false)),
            Input::Resume { player } => self.changes.push_back(Change::Presence(player, true)),
            Input::Ticks { player, first, last } => {
                if self.inbox.is_open(player) {
                    self.wanted_ticks.insert(player, (first, last));
                }
            }
            Input::Link { player, link } => self.changes.push_back(Change::Link(player, link)),
            Input::External { bytes } => {
                self.externals += 1;
                self.changes.push_back(Change::External(bytes));
            }
            Input::Input { player, number, value } => self.inbox.push_input(player, number, value),
            Input::Command { player, value } => {
                if let Err(Flood) = self.inbox.push_command(player, value) {
                    // They are on their way out, and nothing more of them is heard.
                    self.inbox.close(player);
                    self.changes.push_back(Change::Leave(player, Leave::Flood));
                }
            }
            Input::Tick(tick) => self.run(tick),
        }
    }

    /// The next thing the room has to say.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.context.outputs.pop_front()
    }

    fn run(&mut self, tick: Tick) {
        self.context.tick = tick.number;
        let step = catch_unwind(AssertUnwindSafe(|| self.step(tick)));
        if step.is_err() {
            self.close();
        }
    }

    fn step(&mut self, tick: Tick) {
        self.externals = 0;
        while let Some(change) = self.changes.pop_front() {
            match change {
                Change::Join(player, join) => self.join(player, &join),
                Change::Leave(player, reason) => self.leave(player, reason, String::new()),
                Change::Presence(player, connected) => self.set_connected(player, connected),
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
            }
        }
        self.answer_wanted_ticks();
        let (batch, messages) = self.take_batch();
        if let Some(game) = &mut self.game {
            game.tick(&mut self.context, tick, &batch);
        }
        match std::mem::take(&mut self.context.fan_out) {
            FanOut::Nothing => {}
            FanOut::Batch => self.fan_out(encode_inputs(&messages)),
            FanOut::Others(inputs) => self.fan_out(inputs),
        }
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

    fn join(&mut self, player: PlayerId, join: &Join) {
        let refused = if self.context.locked {
            Some((ErrorCode::RoomLocked, "This room lets nobody in at the moment.".to_owned()))
        } else if self.context.players.len() >= self.max_players {
            Some((ErrorCode::RoomFull, format!("This room is full: it takes {} players.", self.max_players)))
        } else {
            None
        };
        if let Some((code, message)) = refused {
            self.context.outputs.push_back(Output::Refused { player, code, message });
            return;
        }
        let Some(game) = &mut self.game else { return };
        let entry = Player { id: player, name: join.name.clone(), connected: true, link: Link::default() };
        self.context.players.insert(player, entry);
        let before = self.context.outputs.len();
        let reply = match game.join(&mut self.context, player, join) {
            Ok(welcome) if welcome.as_json().len() <= limits::RELIABLE_DOWN_BYTES => {
                self.inbox.open(player);
                Output::Joined { player, welcome }
            }
            Ok(welcome) => {
                self.context.players.remove(&player);
                let message = format!("The game's welcome has {} bytes, the limit is 1 MiB.", welcome.as_json().len());
                Output::Refused { player, code: ErrorCode::TooLarge, message }
            }
            Err(refusal) => {
                self.context.players.remove(&player);
                Output::Refused { player, code: ErrorCode::Refused, message: refusal.to_string() }
            }
        };
        // The reply precedes whatever the game sent while it decided.
        self.context.outputs.insert(before, reply);
    }

    fn set_connected(&mut self, id: PlayerId, connected: bool) {
        let Some(player) = self.context.players.get_mut(&id) else { return };
        if std::mem::replace(&mut player.connected, connected) == connected {
            return;
        }
        let Some(game) = &mut self.game else { return };
        if connected {
            game.resume(&mut self.context, id);
        } else {
            game.drop(&mut self.context, id);
        }
    }

    fn leave(&mut self, player: PlayerId, reason: Leave, message: String) {
        if self.context.players.remove(&player).is_none() {
            return;
        }
        self.inbox.close(player);
        self.wanted_ticks.remove(&player);
        self.context.outputs.push_back(Output::Left { player, reason, message });
        if let Some(game) = &mut self.game {
            game.leave(&mut self.context, player, reason);
        }
    }

    /// What the game gets this tick, in order of arrival, and the messages from which it was decoded. A message that
    /// the game's types can't hold puts its sender out.
    fn take_batch(&mut self) -> (Vec<Incoming<G>>, Vec<(PlayerId, Message)>) {
        // Before the first tick is fanned out it is not known whether the game fans out.
        let input_bytes = if self.history.is_empty() { usize::MAX } else { limits::FAN_OUT_BYTES };
        let mut messages = self.inbox.take(input_bytes);
        let mut batch = Vec::with_capacity(messages.len());
        let mut unreadable = Vec::new();
        for &(player, ref message) in &messages {
            if !unreadable.is_empty() && !self.inbox.is_open(player) {
                continue;
            }
            match message.decode(player) {
                Ok(message) => batch.push(message),
                Err(error) => {
                    self.inbox.close(player);
                    unreadable.push((player, error));
                }
            }
        }
        if !unreadable.is_empty() {
            messages.retain(|(player, _)| self.inbox.is_open(*player));
            batch.retain(|message| self.inbox.is_open(message.player()));
        }
        for (player, error) in unreadable {
            self.unreadable = Some((player, error));
            self.leave(player, Leave::BadFrame, "The game can't read what you sent.".to_owned());
        }
        (batch, messages)
    }

    fn fan_out(&mut self, inputs: Vec<u8>) {
        let tick = self.context.tick;
        // Ticks that the room skipped had no inputs; the record says so, or clients would ask for them for ever.
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
            // Only the first tick that is fanned out can be larger than the lane carries: each client asks for it on
            // the reliable lane when it sees the next.
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

    /// Always answers, with fewer ticks or none where the record doesn't reach: a client must learn what it lost.
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
        self.inbox.clear();
        self.wanted_ticks.clear();
        self.context.outputs.push_back(Output::Closed);
    }
}

/// The inputs of a batch as they are fanned out.
fn encode_inputs(messages: &[(PlayerId, Message)]) -> Vec<u8> {
    let mut inputs = msgpack::Inputs::default();
    for (player, message) in messages {
        if let Message::Input { number, value } = message {
            inputs.push(player.0, *number, value);
        }
    }
    inputs.finish()
}

#[cfg(test)]
mod tests;
