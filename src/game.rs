//! The interface that a game implements.
//!
//! Each room has its own value of the game's type. All of its methods are called on one thread, within the room's tick:
//! [`Game::join`] and [`Game::leave`] for players that joined or left since the last tick, then [`Game::tick`] with the
//! messages received since then. A game therefore needs no locks.
//!
//! Rooms are deterministic: all input arrives as arguments or through [`Context`]. A game that depends on nothing else
//! (no clock, no thread-local random numbers, no iteration over a `HashMap`) can be recorded and replayed bit for bit.

mod history;

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use rand::rand_core::TryRng;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_path_to_error::Segment;

pub use self::history::{History, Interpolate};
pub use crate::room::{Audible, Context};
pub use crate::wire::codes::Leave;
pub use crate::wire::msgpack::SendError;
pub use crate::wire::signaling::UserMedia;

/// The logic of one room.
///
/// The associated types are the messages of the game. They are encoded as msgpack; the client reads and writes them as
/// JavaScript values.
pub trait Game: Sized + 'static {
    /// The type of inputs, sent with `room.send(input)` on the unreliable lane. Inputs are repeated until they are
    /// acknowledged; each is delivered to the game at most once, in order. At most
    /// [`INPUT_BYTES`](crate::limits::INPUT_BYTES) encoded.
    type Input: DeserializeOwned;
    /// The type of commands, sent with `room.command(command)` on the reliable lane. At most
    /// [`RELIABLE_UP_BYTES`](crate::limits::RELIABLE_UP_BYTES) encoded.
    type Command: DeserializeOwned;
    /// The type of states, sent with [`Context::state`] on the unreliable lane. Only the newest counts; a lost one is
    /// not sent again.
    type State: Serialize;
    /// The type of events, sent with [`Context::event`] on the lane that the game chooses.
    type Event: Serialize;
    /// The type of welcomes: what [`Game::join`] returns and the page has in `room.welcome`, such as the map or the
    /// rules. Sent once as JSON, of at most 1 MiB. `()` for a game that needs none; [`Encoded`] for a large one that
    /// many players get.
    type Welcome: Serialize;
    /// The type of the `data` that the page passed to `connect`; without any it is null. A join with other data is
    /// refused with the code `bad_request` and a sentence that names the place in the data.
    ///
    /// `()` accepts no data, [`serde::de::IgnoredAny`] ignores it, [`Option`] makes it optional, and
    /// [`serde_json::Value`] accepts any.
    type JoinData: DeserializeOwned;

    /// The version of the game's rules, written into recordings. Increment it with every change that would make an
    /// existing recording replay differently.
    const VERSION: u32 = 0;
    /// The length of a tick, within [`TICK_MS_RANGE`](crate::limits::TICK_MS_RANGE) milliseconds; 33 ms by default. The
    /// server's configuration may set another one (`--tick-ms`); [`RoomInfo::tick`] has the one that applies.
    const TICK: Duration = Duration::from_millis(crate::limits::TICK_MS as u64);
    /// The inputs of a player that the game takes per [`Game::TICK`], on average and at least 1; by default those of a
    /// page that sends 60 a second, so 2 for a tick of 33 ms. Where each input moves its player, this is what limits
    /// the speed of one whose client sends more. If the server's configuration sets another tick length, as many are
    /// taken per second.
    ///
    /// What a player has not used is saved for up to [`INPUT_WINDOW`](crate::limits::INPUT_WINDOW) inputs, so that
    /// those which arrive together after a loss are taken together. Inputs over the budget wait for the next ticks;
    /// past [`PerTick::input_backlog`](crate::limits::PerTick::input_backlog) the oldest is dropped, and the server
    /// logs and counts that.
    const INPUTS_PER_TICK: usize = crate::limits::inputs_per_tick(Self::TICK);

    /// Returns what the game runs besides its compiled code, as a game in another language has it. Recordings contain
    /// it, and a replay gives it to the factory in [`RoomInfo::program`]. At most
    /// [`RECORDED_PROGRAM_BYTES`](crate::limits::RECORDED_PROGRAM_BYTES).
    fn program(&self) -> &[u8] {
        &[]
    }

    /// Called when a player asks to join. `Ok` admits the player with a welcome; `Err` refuses the join.
    ///
    /// During the call the player is already listed in [`Context::players`]; on refusal the player is removed again,
    /// and [`Game::leave`] is not called.
    ///
    /// # Errors
    /// A [`Refusal`]. Its sentence is sent to the client with the error code `refused`. If the welcome cannot be
    /// encoded or is too large, the join is refused too; the game has admitted the player by then, so
    /// [`Game::leave`] follows.
    fn join(
        &mut self,
        ctx: &mut Context<Self>,
        player: PlayerId,
        join: &Join<Self::JoinData>,
    ) -> Result<Self::Welcome, Refusal>;

    /// Called when a player has left. The player is no longer listed in [`Context::players`].
    fn leave(&mut self, ctx: &mut Context<Self>, player: PlayerId, reason: Leave);

    /// Called when a player's connection is lost. The player stays in [`Context::players`], and reliable messages are
    /// kept for them. Either [`Game::resume`] or, after the grace period
    /// ([`RESUME_GRACE`](crate::limits::RESUME_GRACE), or what `--grace` sets), [`Game::leave`] follows.
    fn drop(&mut self, _ctx: &mut Context<Self>, _player: PlayerId) {}

    /// Called when a player whose connection was lost has reconnected, and when a page that was loaded anew has taken
    /// over from one that was still connected; then without [`Game::drop`] before it. Such a page knows no more than
    /// its welcome: send it what the page before had from events.
    fn resume(&mut self, _ctx: &mut Context<Self>, _player: PlayerId, _resumed: Resumed) {}

    /// Called with a message from another thread of the program, sent with [`Handle::external`]. Messages are delivered
    /// before the tick, in the order in which they arrived relative to joins and leaves. They are part of the
    /// recording.
    ///
    /// [`Handle::external`]: crate::driver::Handle::external
    fn external(&mut self, _ctx: &mut Context<Self>, _bytes: &[u8]) {}

    /// Called when the server is about to stop: the room is closed after `time`, or when its last player has left. The
    /// players are told by the server. A game may end its match early, or lock the room.
    fn drain(&mut self, _ctx: &mut Context<Self>, _time: Duration) {}

    /// Saves the game, so that its room can go on at another node of a cluster, or after a restart. Called between two
    /// ticks: when the server is about to stop, and every few seconds in case it doesn't get that far
    /// ([`SNAPSHOT_INTERVAL`](crate::limits::SNAPSHOT_INTERVAL)). `None`, the default, means that the game can't be
    /// saved: its room ends with its node.
    ///
    /// The room saves the rest: players, the messages that wait, [`Context::rng`], whether it is locked or listed. In
    /// all, a room of up to 1 MiB is saved ([`SNAPSHOT_BYTES`](crate::limits::SNAPSHOT_BYTES)).
    fn save(&self) -> Option<Vec<u8>> {
        None
    }

    /// Restores what [`Game::save`] has returned, in a game that was just made with the [`RoomInfo`] of the former one.
    /// [`Context::players`] has the players already. None is connected: [`Game::resume`] or [`Game::leave`] follows for
    /// each. The next tick has a greater number than the last one before.
    ///
    /// # Errors
    /// A [`Refusal`], which is logged. The room begins anew, as without anything saved.
    fn restore(&mut self, _ctx: &mut Context<Self>, _saved: &[u8]) -> Result<(), Refusal> {
        Err(Refusal::new("The game can be saved, but has no `restore`."))
    }

    /// Called once per tick. `batch` holds the messages received since the last tick, in order of arrival, by value.
    fn tick(&mut self, ctx: &mut Context<Self>, tick: Tick, batch: Batch<'_, Self>);
}

/// A player's number, unique within the room. Numbers start at 1 and are never reused.
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlayerId(pub u32);

impl fmt::Display for PlayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The parameters of a new room.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RoomInfo {
    /// The room's name, as in its URL.
    pub name: String,
    /// The seed for everything random in the game. [`Context::rng`] is seeded from it too.
    pub seed: u64,
    /// The length of a tick.
    pub tick: Duration,
    /// The `data` that the first player passed to `connect`: the room's parameters, as any JSON. The join that
    /// follows is refused if it can't be decoded as [`Game::JoinData`].
    pub data: serde_json::Value,
    /// In a replay, what [`Game::program`] has returned in the recorded room; else empty.
    pub program: Vec<u8>,
}

impl RoomInfo {
    /// Returns the parameters of a room with the default tick length and no data, for tests of a game.
    #[must_use]
    pub fn new(name: &str, seed: u64) -> RoomInfo {
        RoomInfo {
            name: name.to_owned(),
            seed,
            tick: Duration::from_millis(crate::limits::TICK_MS.into()),
            data: serde_json::Value::Null,
            program: Vec::new(),
        }
    }
}

/// A request to join a room, with its data as the game's [`Game::JoinData`], or as any JSON before it is decoded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Join<D = serde_json::Value> {
    /// The player's display name: printable, 1 to [`limits::PLAYER_NAME_CHARS`](crate::limits::PLAYER_NAME_CHARS)
    /// characters, not unique.
    pub name: String,
    /// The `data` that the page passed to `connect`.
    pub data: D,
    /// The player's identity, if the server requires bearer tokens (see [`crate::auth`]).
    pub identity: Option<Identity>,
    /// The value that [`Hooks::accept`](crate::hooks::Hooks::accept) attached to the player; null by default.
    pub attached: serde_json::Value,
}

/// A player's identity, as verified by their bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The token's `sub` claim: identifies the player independently of the display name.
    pub subject: String,
    /// The token's other claims.
    pub claims: serde_json::Value,
}

impl Identity {
    /// Returns an identity, for tests of a game.
    #[must_use]
    pub fn new(subject: &str, claims: serde_json::Value) -> Identity {
        Identity { subject: subject.to_owned(), claims }
    }
}

impl Join {
    /// Returns a request to join without data, for tests of a game.
    #[must_use]
    pub fn new(name: &str) -> Join {
        let nothing = serde_json::Value::Null;
        Join { name: name.to_owned(), data: nothing.clone(), identity: None, attached: nothing }
    }

    /// Returns the request with its data decoded; the sentence that refuses it, if that fails.
    pub(crate) fn decode<D: DeserializeOwned>(self) -> Result<Join<D>, Refusal> {
        let Join { name, data, identity, attached } = self;
        let data = serde_path_to_error::deserialize(data).map_err(|error| {
            let place = match error.path().iter().next() {
                None => "data".to_owned(),
                Some(Segment::Seq { .. }) => format!("data{}", error.path()),
                Some(_) => format!("data.{}", error.path()),
            };
            // Both quote what was sent.
            let printable = |text: String| text.chars().take(QUOTED_CHARS).collect::<String>();
            let (place, why) = (printable(place), printable(error.inner().to_string()));
            let sentence = format!("The game can't read {place} of the join: {why}.");
            Refusal(sentence.replace(char::is_control, " "))
        })?;
        Ok(Join { name, data, identity, attached })
    }
}

/// The characters of a place in a join's data, and of what is wrong there, that a refusal has.
const QUOTED_CHARS: usize = 100;

/// How a player has reconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Resumed {
    /// `true` if the page was loaded anew and has taken up the session of the page before it; `false` if the same page,
    /// or native client, has come back.
    pub reloaded: bool,
}

impl Resumed {
    /// Returns how a player has reconnected, for tests of a game.
    #[must_use]
    pub fn new(reloaded: bool) -> Resumed {
        Resumed { reloaded }
    }
}

/// A value that is encoded as JSON once, when the `Encoded` is made; clones share the text. With
/// `type Welcome = Encoded`, a game encodes a large map once for all players.
///
/// It serializes as the value does, within other values too, but only as JSON.
#[derive(Clone, Debug)]
pub struct Encoded(Rc<RawValue>);

impl Encoded {
    /// Encodes `value`.
    ///
    /// # Errors
    /// A refusal, if `value` cannot be represented as JSON, for example a map with keys other than strings. The reason
    /// is logged.
    pub fn new(value: &impl Serialize) -> Result<Encoded, Refusal> {
        let not_json = |error| {
            log::error!("the welcome can't be encoded as JSON: {error}");
            Refusal::new("The server could not encode the welcome of the game.")
        };
        // Encoding by way of a `Value` gives fields a fixed order, so that equal values give equal text.
        let value = serde_json::to_value(value).map_err(not_json)?;
        Ok(Encoded(to_raw_value(&value).map_err(not_json)?.into()))
    }

    /// Encodes `value`, unless it is encoded already.
    pub(crate) fn once<T: Serialize + 'static>(value: &T) -> Result<Encoded, Refusal> {
        match (value as &dyn Any).downcast_ref::<Encoded>() {
            Some(encoded) => Ok(encoded.clone()),
            None => Encoded::new(value),
        }
    }

    /// Returns the JSON text.
    #[must_use]
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    pub(crate) fn as_raw(&self) -> &RawValue {
        &self.0
    }

    /// Takes JSON text as it is; `None` if it is none.
    pub(crate) fn from_json(text: &str) -> Option<Encoded> {
        Some(Encoded(RawValue::from_string(text.to_owned()).ok()?.into()))
    }

    /// Decodes the value.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(self.as_json()).unwrap_or_default()
    }
}

impl Default for Encoded {
    /// Null.
    fn default() -> Encoded {
        Encoded(RawValue::NULL.to_owned().into())
    }
}

impl PartialEq for Encoded {
    fn eq(&self, other: &Encoded) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// The reason for refusing a player, a sentence that the player can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// Refuses with a sentence to be shown to the player.
    pub fn new(sentence: impl Into<String>) -> Refusal {
        Refusal(sentence.into())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refusal {}

/// A deterministic random number generator (ChaCha8): the same seed gives the same numbers on every machine and in
/// every replay. Use it through the traits of [`rand`]: `ctx.rng().random_range(1..=6)`.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// Returns a generator for `seed`, for tests of a game. In a room use [`Context::rng`].
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Goes to a position, as from [`Random::used`].
    pub(crate) fn skip_to(&mut self, used: u128) {
        self.0.set_word_pos(used);
    }

    /// The generator's position, in 32-bit words.
    pub(crate) fn used(&self) -> u128 {
        self.0.get_word_pos()
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

/// A step of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// The tick's number. The room's age is the number times the tick length.
    pub number: u32,
    /// The number of ticks skipped immediately before this one because the server was late.
    pub missed: u32,
}

impl Tick {
    /// Returns a tick, for tests of a game.
    #[must_use]
    pub fn new(number: u32, missed: u32) -> Tick {
        Tick { number, missed }
    }
}

/// The messages that a tick takes: an iterator over [`Incoming`], by value, that also has `len` and `as_slice`.
pub type Batch<'a, G> = std::vec::Drain<'a, Incoming<G>>;

/// A message from a player.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming<G: Game> {
    /// An input, received on the unreliable lane.
    #[non_exhaustive]
    Input {
        /// The sender.
        player: PlayerId,
        /// The input's number: what `room.send(input)` has returned in the browser. Numbers count up from 1; those of
        /// dropped inputs are missing.
        number: u32,
        /// The tick that the player saw of the others when sending the input: `room.renderTick` in the browser, or the
        /// tick of the newest state. It may lie between two ticks, to a sixteenth. Compensate for lag with it: test a
        /// shot against the positions of that tick. A player chooses it freely within
        /// [`SEEN_LIMIT`](crate::limits::SEEN_LIMIT) before the room's tick.
        seen: f64,
        /// The input.
        input: G::Input,
    },
    /// A command, received on the reliable lane.
    #[non_exhaustive]
    Command {
        /// The sender.
        player: PlayerId,
        /// The command.
        command: G::Command,
    },
}

impl<G: Game> Incoming<G> {
    /// Returns an input, for tests of a game.
    #[must_use]
    pub fn input(player: PlayerId, number: u32, seen: f64, input: G::Input) -> Incoming<G> {
        Incoming::Input { player, number, seen, input }
    }

    /// Returns a command, for tests of a game.
    #[must_use]
    pub fn command(player: PlayerId, command: G::Command) -> Incoming<G> {
        Incoming::Command { player, command }
    }
}

impl<G: Game> Incoming<G> {
    /// Returns the sender.
    #[must_use]
    pub fn player(&self) -> PlayerId {
        let (Incoming::Input { player, .. } | Incoming::Command { player, .. }) = self;
        *player
    }
}

/// A player of the room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Player {
    /// The player's number.
    pub id: PlayerId,
    /// The player's display name.
    pub name: String,
    /// Whether the player is connected. `false` while the connection is lost and the player may still reconnect.
    pub connected: bool,
    /// The quality of the player's connection.
    pub link: Link,
}

/// The quality of a player's connection, updated at most once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// The smoothed round-trip time in microseconds; 0 until it has been measured.
    pub rtt_us: u32,
    /// The smoothed variation of the round-trip time in microseconds. It includes up to the interval between two of the
    /// player's messages, because acknowledgements travel with them.
    pub jitter_us: u32,
    /// The recent loss from server to player, in datagrams per 1,000; 0 over the websocket, which retransmits.
    pub loss_down_permille: u16,
    /// The recent loss from player to server, in datagrams per 1,000.
    pub loss_up_permille: u16,
}

/// The recipients of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Every player in the room.
    All,
    /// Every player except one.
    Except(PlayerId),
    /// One player.
    One(PlayerId),
}

impl Target {
    pub(crate) fn includes(self, player: PlayerId) -> bool {
        match self {
            Target::All => true,
            Target::Except(one) => one != player,
            Target::One(one) => one == player,
        }
    }
}

/// The delivery guarantee of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Over the data channel: dropped rather than delivered late.
    Unreliable,
    /// Over the websocket: delivered, in order.
    Reliable,
}
