//! One room with players connected directly to it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::game::{Game, Join, Lane, Leave, Link, PlayerId, Refusal, RoomInfo, Tick};
use crate::journal::{Entry, Header, Journal, Recorder, input_to_json, output_to_json};
use crate::limits;
use crate::room::{Input, Output, Room};
use crate::wire::frame::Kind;
use crate::wire::{msgpack, seen};

/// A room without a network: inputs of players arrive in the next tick, outputs of the room at once. The same calls
/// give the same game, bit for bit, and an hour passes in seconds.
///
/// Use it to test a game's rules; to test a game over a network, use [`Simulation`](super::Simulation).
///
/// ```
/// use rtcade::games::arena::{Arena, State, Steer};
/// use rtcade::sim::RoomSimulation;
/// use std::time::Duration;
///
/// let mut sim = RoomSimulation::new(1, |room| Ok(Arena::new(room)));
/// let ada = sim.join("Ada");
/// sim.run_every(Duration::from_millis(100), Duration::from_secs(10), |sim| sim.send(ada, &Steer(100.0, 0.0, false)));
/// let State(_, _, _, discs, _) = sim.last_state(ada).expect("the arena sends states");
/// assert!(discs.iter().any(|disc| disc.0 == ada.into() && disc.1.0 > 15_000), "she is at the right wall");
/// ```
///
/// Prints its seed when dropped by a failing test.
pub struct RoomSimulation<G: Game> {
    room: Room<G>,
    recorder: Recorder,
    recording: Rc<RefCell<Vec<u8>>>,
    seed: u64,
    rng: ChaCha8Rng,
    tick_length: Duration,
    tick: u32,
    missed: u32,
    into_tick: Duration,
    said: Vec<(u32, Output)>,
    seats: BTreeMap<PlayerId, Seat>,
}

/// When a player was in the room, as positions in the list of outputs.
#[derive(Default)]
struct Seat {
    inputs: u32,
    joined: Option<usize>,
    left: Option<usize>,
}

impl<G: Game> RoomSimulation<G> {
    /// Returns a room with 33 ms ticks for 16 players.
    ///
    /// # Panics
    /// `factory` refuses to make the game.
    #[must_use]
    pub fn new(seed: u64, factory: impl FnOnce(&RoomInfo) -> Result<G, Refusal>) -> RoomSimulation<G> {
        RoomSimulation::with_info(&RoomInfo::new("room", seed), 16, factory)
    }

    /// Returns a room with the parameters `info`, for `max_players` players.
    ///
    /// # Panics
    /// `factory` refuses to make the game.
    #[must_use]
    pub fn with_info(
        info: &RoomInfo,
        max_players: usize,
        factory: impl FnOnce(&RoomInfo) -> Result<G, Refusal>,
    ) -> RoomSimulation<G> {
        let game = factory(info).expect("the factory refused to make the game");
        let recording = Rc::new(RefCell::new(Vec::new()));
        let written = Rc::clone(&recording);
        let sink = Box::new(move |block: &[u8]| written.borrow_mut().extend_from_slice(block));
        let mut rng = ChaCha8Rng::seed_from_u64(info.seed);
        // The game uses stream 0 of this seed.
        rng.set_stream(1);
        let header = Header::new::<G>(info, max_players, Duration::ZERO).with_program_of(&game);
        RoomSimulation {
            room: Room::new(info, game, max_players),
            recorder: Recorder::new(&header, sink),
            recording,
            seed: info.seed,
            rng,
            tick_length: info.tick,
            tick: 0,
            missed: 0,
            into_tick: Duration::ZERO,
            said: Vec::new(),
            seats: BTreeMap::new(),
        }
    }

    /// Returns the game, or `None` after it has closed the room or panicked.
    #[must_use]
    pub fn game(&self) -> Option<&G> {
        self.room.game()
    }

    /// Returns the number of the last tick.
    #[must_use]
    pub fn tick(&self) -> u32 {
        self.tick
    }

    /// Returns random numbers for the players' actions: independent of the game's, and the same for the same seed.
    pub fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    /// Adds a player who asks to join in the next tick. The number is valid even if the player is refused.
    pub fn join(&mut self, name: &str) -> PlayerId {
        self.join_with(Join::new(name))
    }

    /// As [`RoomSimulation::join`], with the given name, data and identity.
    pub fn join_with(&mut self, join: Join) -> PlayerId {
        let player = self.room.next_player();
        self.seats.insert(player, Seat::default());
        self.tell(Input::Join { player, join });
        player
    }

    /// Sends an input of a player who sees the newest tick.
    ///
    /// # Panics
    /// The input cannot be encoded or exceeds [`limits::INPUT_BYTES`].
    pub fn send(&mut self, player: PlayerId, input: &impl Serialize) {
        self.send_seen(player, self.tick.into(), input);
    }

    /// Sends an input of a player who sees the others as they were in tick `seen`.
    ///
    /// # Panics
    /// The input cannot be encoded or exceeds [`limits::INPUT_BYTES`].
    pub fn send_seen(&mut self, player: PlayerId, seen: f64, input: &impl Serialize) {
        let value = msgpack::encode(input, limits::INPUT_BYTES).expect("the input can't be sent");
        let seat = self.seats.entry(player).or_default();
        seat.inputs += 1;
        let number = seat.inputs;
        self.tell(Input::Input { player, number, seen: seen::stamp(seen), value });
    }

    /// Sends a command.
    ///
    /// # Panics
    /// The command cannot be encoded or exceeds [`limits::RELIABLE_UP_BYTES`].
    pub fn command(&mut self, player: PlayerId, command: &impl Serialize) {
        let limit = limits::RELIABLE_UP_BYTES - limits::RELIABLE_HEADER_BYTES;
        let value = msgpack::encode(command, limit).expect("the command can't be sent");
        self.tell(Input::Command { player, value });
    }

    /// Sends an external message to the game, see [`Game::external`].
    pub fn external(&mut self, bytes: &[u8]) {
        self.tell(Input::External { bytes: bytes.to_vec() });
    }

    /// Announces to the game that the server is about to stop, see [`Game::drain`].
    pub fn drain(&mut self, time: Duration) {
        self.tell(Input::Drain { time });
    }

    /// Makes a player leave.
    pub fn leave(&mut self, player: PlayerId, reason: Leave) {
        self.tell(Input::Leave { player, reason });
    }

    /// Sets the quality of a player's connection.
    pub fn set_link(&mut self, player: PlayerId, link: Link) {
        self.tell(Input::Link { player, link });
    }

    /// Skips `count` ticks before the next, as a late server does.
    pub fn miss_ticks(&mut self, count: u32) {
        self.missed += count;
    }

    /// Advances the time, running all ticks that begin in it.
    pub fn run(&mut self, time: Duration) {
        self.into_tick += time;
        while self.into_tick >= self.tick_length {
            self.into_tick -= self.tick_length;
            self.step();
        }
    }

    /// Advances the time, calling `each` at once and then every `period`.
    pub fn run_every(&mut self, period: Duration, time: Duration, mut each: impl FnMut(&mut RoomSimulation<G>)) {
        let mut left = time;
        while !left.is_zero() {
            each(self);
            let pause = period.min(left);
            self.run(pause);
            left -= pause;
        }
    }

    /// Runs one tick.
    pub fn step(&mut self) {
        let missed = std::mem::take(&mut self.missed);
        self.tick += missed + 1;
        self.tell(Input::Tick(Tick { number: self.tick, missed }));
        while let Some(output) = self.room.poll_output() {
            self.recorder.note_output(&output);
            let at = self.said.len();
            match output {
                Output::Joined { player, .. } => self.seats.entry(player).or_default().joined = Some(at),
                Output::Left { player, .. } => self.seats.entry(player).or_default().left = Some(at),
                Output::Refused { .. }
                | Output::Renamed { .. }
                | Output::Body { .. }
                | Output::Ended
                | Output::Closed => {}
            }
            self.said.push((self.tick, output));
        }
        self.recorder.end_tick(&self.room);
    }

    fn tell(&mut self, input: Input) {
        self.recorder.note_input(&input);
        self.room.handle_input(input);
    }

    /// Returns all outputs of the room so far, each with its tick.
    #[must_use]
    pub fn said(&self) -> &[(u32, Output)] {
        &self.said
    }

    /// Returns whether a player is in the room.
    #[must_use]
    pub fn is_in(&self, player: PlayerId) -> bool {
        self.room.players().any(|other| other.id == player)
    }

    /// Returns the welcome message of a player; `None` if the player has not joined or was refused.
    #[must_use]
    pub fn welcome(&self, player: PlayerId) -> Option<Value> {
        let (_, output) = &self.said[self.seats.get(&player)?.joined?];
        if let Output::Joined { welcome, .. } = output { Some(welcome.to_value()) } else { None }
    }

    /// Returns why a player has left; `None` if the player is in the room or never was.
    #[must_use]
    pub fn left(&self, player: PlayerId) -> Option<(Leave, &str)> {
        let (_, output) = &self.said[self.seats.get(&player)?.left?];
        if let Output::Left { reason, message, .. } = output { Some((*reason, message)) } else { None }
    }

    /// Returns the sentence with which a player was refused.
    #[must_use]
    pub fn refused(&self, player: PlayerId) -> Option<&str> {
        self.said.iter().find_map(|(_, output)| match output {
            Output::Refused { player: asked, message, .. } if *asked == player => Some(message.as_str()),
            _ => None,
        })
    }

    /// Returns the states sent to a player, each with its tick.
    ///
    /// # Panics
    /// A state cannot be decoded as `T`.
    pub fn states<T: DeserializeOwned>(&self, player: PlayerId) -> impl DoubleEndedIterator<Item = (u32, T)> {
        self.bodies(player).filter(|(kind, ..)| *kind == Kind::State).map(|(_, tick, body)| (tick, decode(body)))
    }

    /// Returns the newest state sent to a player.
    ///
    /// # Panics
    /// It cannot be decoded as `T`.
    #[must_use]
    pub fn last_state<T: DeserializeOwned>(&self, player: PlayerId) -> Option<T> {
        self.states(player).next_back().map(|(_, state)| state)
    }

    /// Returns the events sent to a player, each with its tick and lane.
    ///
    /// # Panics
    /// An event cannot be decoded as `T`.
    pub fn events<T: DeserializeOwned>(&self, player: PlayerId) -> impl DoubleEndedIterator<Item = (u32, T, Lane)> {
        self.bodies(player).filter_map(|(kind, tick, body)| {
            let lane = match kind {
                Kind::Event => Lane::Unreliable,
                Kind::ReliableEvent => Lane::Reliable,
                _ => return None,
            };
            Some((tick, decode(body), lane))
        })
    }

    fn bodies(&self, player: PlayerId) -> impl DoubleEndedIterator<Item = (Kind, u32, &[u8])> {
        let in_room = self.seats.get(&player).and_then(|seat| Some(seat.joined?..seat.left.unwrap_or(self.said.len())));
        self.said[in_room.unwrap_or_default()].iter().filter_map(move |(tick, output)| match output {
            Output::Body { to, kind, body } if to.includes(player) => Some((*kind, *tick, body.as_slice())),
            _ => None,
        })
    }

    /// Returns the recording of the room so far, see [`crate::journal`].
    #[must_use]
    pub fn recording(&mut self) -> Vec<u8> {
        self.recorder.hand_over();
        self.recording.borrow().clone()
    }
}

impl<G: Game> Drop for RoomSimulation<G> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation's seed was {}", self.seed);
        }
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> T {
    let (_, value) = msgpack::decode_at_tick(body).expect("the body of a state or event has no tick");
    msgpack::decode(value).expect("the message can't be decoded as the requested type")
}

/// Two runs of a game with the same seed differ.
#[derive(Clone, PartialEq, Eq)]
pub struct Divergence {
    /// The seed.
    pub seed: u64,
    /// The first tick in which they differ.
    pub tick: u32,
    /// The difference, in words.
    pub what: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { seed, tick, what } = self;
        write!(f, "with seed {seed} two runs of the game differ in tick {tick}: {what}")
    }
}

/// As [`Display`](fmt::Display), so that `unwrap` prints a sentence.
impl fmt::Debug for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Divergence {}

/// Plays `workload` twice with every seed and compares the runs tick by tick: inputs, outputs and the number of random
/// numbers drawn. Finds games that are not deterministic because they iterate over a `HashMap`, read a clock or draw
/// other random numbers than the room's; such games cannot be replayed.
///
/// ```
/// use rtcade::games::arena::{Arena, Steer};
/// use rtcade::rand::RngExt;
/// use rtcade::sim;
/// use std::time::Duration;
///
/// sim::check(
///     |room| Ok(Arena::new(room)),
///     |sim| {
///         let players = [sim.join("Ada"), sim.join("Grace")];
///         sim.run_every(Duration::from_millis(33), Duration::from_secs(60), |sim| {
///             for player in players {
///                 let steer = Steer(sim.rng().random_range(-100.0..100.0), 50.0, sim.rng().random_ratio(1, 50));
///                 sim.send(player, &steer);
///             }
///         });
///     },
///     0..10,
/// )
/// .unwrap();
/// ```
///
/// # Errors
/// The first tick of the first seed in which the runs differ, and the difference.
pub fn check<G: Game>(
    factory: impl Fn(&RoomInfo) -> Result<G, Refusal>,
    workload: impl Fn(&mut RoomSimulation<G>),
    seeds: impl IntoIterator<Item = u64>,
) -> Result<(), Divergence> {
    for seed in seeds {
        let play = || {
            let mut sim = RoomSimulation::new(seed, &factory);
            workload(&mut sim);
            sim
        };
        compare(play(), play())?;
    }
    Ok(())
}

fn compare<G: Game>(mut first: RoomSimulation<G>, mut second: RoomSimulation<G>) -> Result<(), Divergence> {
    let recordings = [first.recording(), second.recording()];
    let [mut ours, mut theirs] = recordings.each_ref().map(|recording| {
        let journal = Journal::parse(recording).expect("what was recorded right now can be read");
        journal.entries().map(|entry| entry.expect("what was recorded right now can be read"))
    });
    let mut tick = 0;
    loop {
        let (tick, what) = match (ours.next(), theirs.next()) {
            (None, None) => return Ok(()),
            (ours, theirs) if ours == theirs => {
                if let Some(Entry::Told(Input::Tick(Tick { number, .. }))) = ours {
                    tick = number;
                }
                continue;
            }
            (Some(Entry::Told(ours)), Some(Entry::Told(theirs))) => {
                let what = difference(&input_to_json(&ours), &input_to_json(&theirs));
                (tick + 1, format!("the workload itself is not deterministic; its inputs differ: {what}"))
            }
            (Some(_), Some(_)) => (tick, what_was_said(first.said_in(tick), second.said_in(tick))),
            (None, _) | (_, None) => {
                (tick + 1, "the workload itself is not deterministic; one run is longer".to_owned())
            }
        };
        return Err(Divergence { seed: first.seed, tick, what });
    }
}

impl<G: Game> RoomSimulation<G> {
    fn said_in(&self, tick: u32) -> &[(u32, Output)] {
        let start = self.said.partition_point(|&(of, _)| of < tick);
        let end = self.said.partition_point(|&(of, _)| of <= tick);
        &self.said[start..end]
    }
}

fn what_was_said(ours: &[(u32, Output)], theirs: &[(u32, Output)]) -> String {
    let pairs = ours.iter().zip(theirs).find(|(ours, theirs)| ours != theirs);
    match pairs {
        Some(((_, ours), (_, theirs))) => {
            format!("the outputs differ: {}", difference(&output_to_json(ours), &output_to_json(theirs)))
        }
        None if ours.len() != theirs.len() => {
            let (more, less) = (ours.len().max(theirs.len()), ours.len().min(theirs.len()));
            let extra = if ours.len() > theirs.len() { &ours[less].1 } else { &theirs[less].1 };
            format!(
                "one run has {more} outputs and the other {less}; one of the further outputs is {}",
                output_to_json(extra)
            )
        }
        None => "the outputs are the same, but the number of random numbers drawn differs".to_owned(),
    }
}

/// Returns the first place where the two differ, and both values.
fn difference(ours: &Value, theirs: &Value) -> String {
    let mut path = String::new();
    let (mut ours, mut theirs) = (ours, theirs);
    loop {
        let inner = match (ours, theirs) {
            (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
                a.iter().zip(b.values()).find(|((_, a), b)| a != b).map(|((key, a), b)| (format!(".{key}"), a, b))
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => (0..)
                .zip(a.iter().zip(b))
                .find(|(_, (a, b))| a != b)
                .map(|(index, (a, b))| (format!("[{index}]"), a, b)),
            _ => None,
        };
        let Some((step, a, b)) = inner else { break };
        path.push_str(&step);
        (ours, theirs) = (a, b);
    }
    let shown = |value: &Value| {
        let text = value.to_string();
        if text.chars().count() > 200 { text.chars().take(200).chain("…".chars()).collect() } else { text }
    };
    let place = if path.is_empty() { String::new() } else { format!("{}: ", path.trim_start_matches('.')) };
    format!("{place}{} in one run, {} in the other", shown(ours), shown(theirs))
}

#[cfg(test)]
mod tests;
