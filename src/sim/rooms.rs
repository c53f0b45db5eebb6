//! One room, with players wired straight to it.

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
use crate::wire::msgpack;

/// A room without network: what players send is there in the next tick, what the room says is seen at once. The same
/// calls make the same game, bit for bit, and an hour passes in seconds.
///
/// For how a game feels over a network there is [`Simulation`](super::Simulation); this is for its rules.
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
/// Dropped by a test that fails, it prints its seed.
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

/// When a player was in, in places of what was said.
#[derive(Default)]
struct Seat {
    inputs: u32,
    joined: Option<usize>,
    left: Option<usize>,
}

impl<G: Game> RoomSimulation<G> {
    /// A room of 33 ms ticks for 16 players.
    ///
    /// # Panics
    /// Where `factory` refuses to make the game.
    #[must_use]
    pub fn new(seed: u64, factory: impl FnOnce(&RoomInfo) -> Result<G, Refusal>) -> RoomSimulation<G> {
        RoomSimulation::with_info(&RoomInfo::new("room", seed), 16, factory)
    }

    /// A room made from `info`, for so many players.
    ///
    /// # Panics
    /// Where `factory` refuses to make the game.
    #[must_use]
    pub fn with_info(
        info: &RoomInfo,
        max_players: usize,
        factory: impl FnOnce(&RoomInfo) -> Result<G, Refusal>,
    ) -> RoomSimulation<G> {
        let game = factory(info).expect("the game of this room can be made");
        let recording = Rc::new(RefCell::new(Vec::new()));
        let written = Rc::clone(&recording);
        let sink = Box::new(move |block: &[u8]| written.borrow_mut().extend_from_slice(block));
        let mut rng = ChaCha8Rng::seed_from_u64(info.seed);
        // The stream 0 of this seed is the game's.
        rng.set_stream(1);
        RoomSimulation {
            room: Room::new(info, game, max_players),
            recorder: Recorder::new(&Header::new::<G>(info, max_players, Duration::ZERO), sink),
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

    /// The game; `None` once it has panicked.
    #[must_use]
    pub fn game(&self) -> Option<&G> {
        self.room.game()
    }

    /// The tick that ran last.
    #[must_use]
    pub fn tick(&self) -> u32 {
        self.tick
    }

    /// Random numbers for what players do: others than the game's, and the same for the same seed.
    pub fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    /// A player who asks to come in, in the next tick. Their number stands for them, in or not.
    pub fn join(&mut self, name: &str) -> PlayerId {
        self.join_with(Join::new(name))
    }

    /// The same with data.
    pub fn join_with(&mut self, join: Join) -> PlayerId {
        let player = self.room.next_player();
        self.seats.insert(player, Seat::default());
        self.tell(Input::Join { player, join });
        player
    }

    /// Sends an input.
    ///
    /// # Panics
    /// Where it can't be encoded or is longer than an input may be.
    pub fn send(&mut self, player: PlayerId, input: &impl Serialize) {
        let value = msgpack::encode(input, limits::INPUT_BYTES).expect("an input that can be sent");
        let seat = self.seats.entry(player).or_default();
        seat.inputs += 1;
        let number = seat.inputs;
        self.tell(Input::Input { player, number, value });
    }

    /// Sends a command.
    ///
    /// # Panics
    /// Where it can't be encoded or is longer than a command may be.
    pub fn command(&mut self, player: PlayerId, command: &impl Serialize) {
        let limit = limits::RELIABLE_UP_BYTES - limits::RELIABLE_HEADER_BYTES;
        let value = msgpack::encode(command, limit).expect("a command that can be sent");
        self.tell(Input::Command { player, value });
    }

    /// Tells the game something from outside, see [`Game::external`].
    pub fn external(&mut self, bytes: &[u8]) {
        self.tell(Input::External { bytes: bytes.to_vec() });
    }

    /// Ends a player's connection.
    pub fn leave(&mut self, player: PlayerId, reason: Leave) {
        self.tell(Input::Leave { player, reason });
    }

    /// Tells the game how a player is connected.
    pub fn set_link(&mut self, player: PlayerId, link: Link) {
        self.tell(Input::Link { player, link });
    }

    /// Skips so many ticks before the next, as a server that is late does.
    pub fn miss_ticks(&mut self, count: u32) {
        self.missed += count;
    }

    /// Lets time pass: as many ticks as begin in it.
    pub fn run(&mut self, time: Duration) {
        self.into_tick += time;
        while self.into_tick >= self.tick_length {
            self.into_tick -= self.tick_length;
            self.step();
        }
    }

    /// Lets time pass, calling `each` at once and then every `period`.
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
                Output::Refused { .. } | Output::Body { .. } | Output::Ended | Output::Closed => {}
            }
            self.said.push((self.tick, output));
        }
        self.recorder.end_tick(&self.room);
    }

    fn tell(&mut self, input: Input) {
        self.recorder.note_input(&input);
        self.room.handle_input(input);
    }

    /// Everything that the room has said, with the tick of each: to whom it may have been.
    #[must_use]
    pub fn said(&self) -> &[(u32, Output)] {
        &self.said
    }

    /// Whether a player is in.
    #[must_use]
    pub fn is_in(&self, player: PlayerId) -> bool {
        self.room.players().any(|other| other.id == player)
    }

    /// What the game has greeted a player with; `None` where they are not in yet, or were refused.
    #[must_use]
    pub fn welcome(&self, player: PlayerId) -> Option<Value> {
        let (_, output) = &self.said[self.seats.get(&player)?.joined?];
        if let Output::Joined { welcome, .. } = output { Some(welcome.to_value()) } else { None }
    }

    /// Why a player is out; `None` while they are in, or never were.
    #[must_use]
    pub fn left(&self, player: PlayerId) -> Option<(Leave, &str)> {
        let (_, output) = &self.said[self.seats.get(&player)?.left?];
        if let Output::Left { reason, message, .. } = output { Some((*reason, message)) } else { None }
    }

    /// What a player was refused with.
    #[must_use]
    pub fn refused(&self, player: PlayerId) -> Option<&str> {
        self.said.iter().find_map(|(_, output)| match output {
            Output::Refused { player: asked, message, .. } if *asked == player => Some(message.as_str()),
            _ => None,
        })
    }

    /// The states that a player has had, with the tick of each.
    ///
    /// # Panics
    /// Where one isn't a `T`.
    pub fn states<T: DeserializeOwned>(&self, player: PlayerId) -> impl DoubleEndedIterator<Item = (u32, T)> {
        self.bodies(player).filter(|(kind, ..)| *kind == Kind::State).map(|(_, tick, body)| (tick, decode(body)))
    }

    /// The newest of them.
    ///
    /// # Panics
    /// Where it isn't a `T`.
    #[must_use]
    pub fn last_state<T: DeserializeOwned>(&self, player: PlayerId) -> Option<T> {
        self.states(player).next_back().map(|(_, state)| state)
    }

    /// The events that a player has had, with tick and lane of each.
    ///
    /// # Panics
    /// Where one isn't a `T`.
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

    /// The recording of the room so far, see [`crate::journal`].
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
    let (_, value) = msgpack::decode_at_tick(body).expect("a state or event has its tick");
    msgpack::decode(value).expect("what the game sends is what the test asks for")
}

/// That a game is not the same twice.
#[derive(Clone, PartialEq, Eq)]
pub struct Divergence {
    /// With which seed.
    pub seed: u64,
    /// In which tick first.
    pub tick: u32,
    /// What differed, in words.
    pub what: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { seed, tick, what } = self;
        write!(f, "with seed {seed} two runs of the game differ in tick {tick}: {what}")
    }
}

/// As [`Display`](fmt::Display), so that `unwrap` tells it in words.
impl fmt::Debug for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Divergence {}

/// Plays `workload` twice with every seed, and compares the two tick by tick: what the room was told, what it said, and
/// how many random numbers it drew. A game that iterates a `HashMap`, reads a clock or draws random numbers of its own
/// is not the same twice, and can't be replayed.
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
/// The first tick of the first seed in which the two differ, and what differed there.
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
                (tick + 1, format!("the workload itself is not the same twice; it told the room {what}"))
            }
            (Some(_), Some(_)) => (tick, what_was_said(first.said_in(tick), second.said_in(tick))),
            (None, _) | (_, None) => {
                (tick + 1, "the workload itself is not the same twice; one of the two goes on for longer".to_owned())
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
            format!("it said {}", difference(&output_to_json(ours), &output_to_json(theirs)))
        }
        None if ours.len() != theirs.len() => {
            let (more, less) = (ours.len().max(theirs.len()), ours.len().min(theirs.len()));
            let extra = if ours.len() > theirs.len() { &ours[less].1 } else { &theirs[less].1 };
            format!("it said {more} things instead of {less}, such as {}", output_to_json(extra))
        }
        None => "it said the same, but drew another number of random numbers on the way".to_owned(),
    }
}

/// The first place where the two differ, and what stands there.
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
    format!("{place}{} once and {} the other time", shown(ours), shown(theirs))
}

#[cfg(test)]
mod tests;
