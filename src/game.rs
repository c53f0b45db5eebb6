//! What a game implements and sees.
//!
//! A game is a value per room. The server calls it on one thread: [`Game::join`] and [`Game::leave`] as players come
//! and go, then [`Game::tick`] once per tick with everything the players sent since the last one. All of it runs inside
//! the tick, so a game needs no locks; all it learns arrives as arguments or through [`Context`], so a game that reads
//! nothing else (no clock, no thread-local random numbers, no iteration over a `HashMap`) can be replayed bit for bit.

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

pub use crate::room::Context;
pub use crate::wire::codes::Leave;
pub use crate::wire::msgpack::SendError;

/// The logic of one room.
pub trait Game: Sized + 'static {
    /// What `room.send(input)` carries: unreliable lane, each reaches the game once and in order.
    type Input: DeserializeOwned;
    /// What `room.command(command)` carries: reliable lane.
    type Command: DeserializeOwned;
    /// What [`Context::state`] carries: unreliable, the newest wins.
    type State: Serialize;
    /// What [`Context::event`] carries, on the lane that the game chooses.
    type Event: Serialize;

    /// The version of the rules: recordings name it. Count it up with a change after which old recordings would replay
    /// otherwise.
    const VERSION: u32 = 0;

    /// A player asks to come in. `Ok` lets them in and greets them (with the map, say); `Err` tells them why not.
    ///
    /// The player is counted among [`Context::players`] already, and leaves again if refused.
    ///
    /// # Errors
    /// The game's refusal reaches the player with code `refused` and its sentence.
    fn join(&mut self, ctx: &mut Context<Self>, player: PlayerId, join: &Join) -> Result<Welcome, Refusal>;

    /// A player has gone, for `reason`; they are no longer among [`Context::players`].
    fn leave(&mut self, ctx: &mut Context<Self>, player: PlayerId, reason: Leave);

    /// A player's connection was lost. They stay among [`Context::players`], and what is sent to them over the reliable
    /// lane is kept; within the grace time either [`Game::resume`] follows, or [`Game::leave`].
    fn drop(&mut self, _ctx: &mut Context<Self>, _player: PlayerId) {}

    /// A player whose connection was lost is back.
    fn resume(&mut self, _ctx: &mut Context<Self>, _player: PlayerId) {}

    /// Something has come from outside: from a thread of the program, by [`Handle::external`]. It stands in its place
    /// among those who come and go, and precedes the tick. A replay has it too.
    ///
    /// [`Handle::external`]: crate::driver::Handle::external
    fn external(&mut self, _ctx: &mut Context<Self>, _bytes: &[u8]) {}

    /// One step of the room: `batch` holds what arrived since the last one, in order of arrival.
    fn tick(&mut self, ctx: &mut Context<Self>, tick: Tick, batch: &[Incoming<Self>]);
}

/// A player's number in their room: counts up from 1 and is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlayerId(pub u32);

impl fmt::Display for PlayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a room is made from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RoomInfo {
    /// The name in the room's URL.
    pub name: String,
    /// Seeds whatever the game generates; [`Context::rng`] is seeded from it too.
    pub seed: u64,
    /// Length of a tick.
    pub tick: Duration,
    /// The `data` of the first player to join: the room's parameters.
    pub data: serde_json::Value,
}

impl RoomInfo {
    /// A room of that name and seed, with the default tick and no data: for tests of a game.
    #[must_use]
    pub fn new(name: &str, seed: u64) -> RoomInfo {
        RoomInfo {
            name: name.to_owned(),
            seed,
            tick: Duration::from_millis(crate::limits::TICK_MS.into()),
            data: serde_json::Value::Null,
        }
    }
}

/// A player who asks to come in.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Join {
    /// The name to show: printable, at most [`limits::PLAYER_NAME_CHARS`](crate::limits::PLAYER_NAME_CHARS) characters,
    /// never empty, not unique.
    pub name: String,
    /// What the page gave for the game, untrusted.
    pub data: serde_json::Value,
    /// Who they are, where the server asks for bearer tokens (see [`crate::auth`]).
    pub identity: Option<Identity>,
    /// What the program has attached to them, see [`Hooks::accept`](crate::hooks::Hooks::accept); or null.
    pub attached: serde_json::Value,
}

/// Who a player is, by the word of whoever signed their token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The `sub` of the token: the same player, whatever their name.
    pub subject: String,
    /// Its other claims.
    pub claims: serde_json::Value,
}

impl Identity {
    /// Of that subject and claims: for tests of a game.
    #[must_use]
    pub fn new(subject: &str, claims: serde_json::Value) -> Identity {
        Identity { subject: subject.to_owned(), claims }
    }
}

impl Join {
    /// A player of that name who brings no data: for tests of a game.
    #[must_use]
    pub fn new(name: &str) -> Join {
        let nothing = serde_json::Value::Null;
        Join { name: name.to_owned(), data: nothing.clone(), identity: None, attached: nothing }
    }
}

/// What a player is greeted with: any value, sent once as JSON with the reply to `join` (at most 1 MiB). It is encoded
/// when it is made, and shared from then on.
#[derive(Clone, Debug)]
pub struct Welcome(Rc<RawValue>);

impl Welcome {
    /// Greets with `value`.
    ///
    /// # Errors
    /// A value that JSON cannot hold (a map with keys other than strings, say) becomes a refusal; why is logged.
    pub fn new(value: &impl Serialize) -> Result<Welcome, Refusal> {
        let not_json = |error| {
            log::error!("the welcome of the game is not JSON: {error}");
            Refusal::new("The game has no welcome for you that can be sent.")
        };
        // By way of a value, whose fields have one order, so that the same welcome is the same text.
        let value = serde_json::to_value(value).map_err(not_json)?;
        Ok(Welcome(to_raw_value(&value).map_err(not_json)?.into()))
    }

    /// Its JSON.
    #[must_use]
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    pub(crate) fn as_raw(&self) -> &RawValue {
        &self.0
    }

    /// Its value, decoded anew.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(self.as_json()).unwrap_or_default()
    }
}

impl Default for Welcome {
    /// Greets with nothing: null.
    fn default() -> Welcome {
        Welcome(RawValue::NULL.to_owned().into())
    }
}

impl PartialEq for Welcome {
    fn eq(&self, other: &Welcome) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Serialize for Welcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Why a player may not come in: a sentence that they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// Refuses with a sentence.
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

/// Random numbers that follow from a seed: the same on every machine, and in every replay. It is used through the
/// traits of [`rand`]: `ctx.rng().random_range(1..=6)`.
#[derive(Clone, Debug)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The numbers of a seed: for tests of a game; a room has its own ([`Context::rng`]).
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(ChaCha8Rng::seed_from_u64(seed))
    }

    /// How far they have been used, in words of 32 bits.
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

/// Which step of a room this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// Index in the room's time grid: number × tick length is the room's age.
    pub number: u32,
    /// Ticks that were skipped right before this one because the server was late.
    pub missed: u32,
}

impl Tick {
    /// A tick of that number that follows `missed` skipped ones: for tests of a game.
    #[must_use]
    pub fn new(number: u32, missed: u32) -> Tick {
        Tick { number, missed }
    }
}

/// One message of a player.
#[derive(Debug)]
#[non_exhaustive]
pub enum Incoming<G: Game> {
    /// From the unreliable lane.
    #[non_exhaustive]
    Input {
        /// Who sent it.
        player: PlayerId,
        /// What they sent.
        input: G::Input,
    },
    /// From the reliable lane.
    #[non_exhaustive]
    Command {
        /// Who sent it.
        player: PlayerId,
        /// What they sent.
        command: G::Command,
    },
}

impl<G: Game> Incoming<G> {
    /// An input of a player: for tests of a game.
    #[must_use]
    pub fn input(player: PlayerId, input: G::Input) -> Incoming<G> {
        Incoming::Input { player, input }
    }

    /// A command of a player: for tests of a game.
    #[must_use]
    pub fn command(player: PlayerId, command: G::Command) -> Incoming<G> {
        Incoming::Command { player, command }
    }
}

impl<G: Game> Incoming<G> {
    /// The sender.
    #[must_use]
    pub fn player(&self) -> PlayerId {
        let (Incoming::Input { player, .. } | Incoming::Command { player, .. }) = self;
        *player
    }
}

/// A player of the room, as the game sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Player {
    /// Their number.
    pub id: PlayerId,
    /// Their name.
    pub name: String,
    /// Whether they are connected, or lost their connection and may come back.
    pub connected: bool,
    /// How they are connected.
    pub link: Link,
}

/// How well a player is connected, measured at most once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Smoothed round trip, in microseconds; 0 until it is first measured.
    pub rtt_us: u32,
    /// Smoothed variation of single packets' round trips, in microseconds: the network's, and up to the time between
    /// two of the player's messages, which carry the acknowledgements.
    pub jitter_us: u32,
    /// Of 1,000 datagrams that were sent to the player lately, those that didn't arrive; 0 over the websocket, which
    /// delays instead.
    pub loss_down_permille: u16,
    /// Of 1,000 datagrams that the player sent lately, those that didn't arrive.
    pub loss_up_permille: u16,
}

/// Who gets an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Everybody in the room.
    All,
    /// Everybody but one.
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

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Over the data channel: arrives soon or never.
    Unreliable,
    /// Over the websocket: arrives, in order.
    Reliable,
}
