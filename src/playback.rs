//! Plays a recording to spectators.
//!
//! A [`Playback`] is a game that replays a recording: each of its ticks runs as many recorded ticks as the speed
//! requires, and sends the outputs of the recorded room. All players of its room are spectators and watch the same
//! tick; their inputs are ignored.
//!
//! A page cannot distinguish it from the live game. Tick numbers are those of the playback and always increase, even
//! after seeking back. If several recorded ticks run in one tick, their inputs are fanned out together. The recorded
//! players are presented as the players. Of messages to single players, spectators receive those of one selected
//! player. While paused, the state is sent again every tick, because a page takes silence for a bad connection.
//!
//! A client that joins with the data `{"playback": true}` is a controller instead of a page of the game. It sends
//! [`Command`]s, is welcomed with an [`Intro`] and receives a [`Status`] on every change and ten times a second while
//! playing.
//!
//! Seeking back runs the recording again from the beginning. Outputs on the way are not sent, so a page that
//! accumulates events misses the skipped ones.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::game::{
    Batch, Context, Encoded, Game, Incoming, Join, Lane, Leave, PlayerId, Refusal, RoomInfo, Target, Tick,
};
use crate::journal::{End, Entry, Header, Journal, Replay, Step, Verdict};
use crate::limits;
use crate::room::{Input, Output};
use crate::wire::frame::Kind;
use crate::wire::msgpack;

/// The number of the first spectator, high enough to differ from all recorded players: see
/// [`Server::number_players_from`](crate::server::Server::number_players_from).
pub const FIRST_SPECTATOR: u32 = 1_000_000_000;
/// The lowest and the highest speed, in percent.
const SPEEDS: std::ops::RangeInclusive<u32> = 1..=1_600;
/// Recorded ticks run within one tick while seeking: the initial and the maximum number. It is reduced while the server
/// falls behind, and raised otherwise.
const SEEK_TICKS: u32 = 64;
const SEEK_TICKS_MAX: u32 = 1_000;
/// The interval of status messages while playing.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

type Factory<G> = Box<dyn FnMut(&RoomInfo) -> Result<G, Refusal>>;

/// A recording that can be played.
pub struct Recording<G: Game> {
    journal: Journal<'static>,
    factory: RefCell<Factory<G>>,
    first_tick: u32,
    last_tick: u32,
    /// The welcome of the first player.
    welcome: Encoded,
    fans_out: bool,
}

impl<G: Game> Recording<G> {
    /// Reads a whole recording and runs it up to its first player. `factory` makes the game.
    ///
    /// # Errors
    /// The bytes are no recording, `factory` refuses, or no player ever joined. A recording that is incomplete or
    /// damaged further on is played up to there.
    pub fn new(
        bytes: &'static [u8],
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + 'static,
    ) -> Result<Recording<G>, Box<dyn Error>> {
        let journal = Journal::parse(bytes)?;
        let mut recording = Recording {
            factory: RefCell::new(Box::new(factory)),
            first_tick: 0,
            last_tick: 0,
            welcome: Encoded::default(),
            fans_out: false,
            journal,
        };
        for entry in recording.journal.entries() {
            if let Ok(Entry::Told(Input::Tick(tick))) = entry {
                recording.last_tick = tick.number;
            }
        }
        let mut replay = recording.replay()?;
        while recording.first_tick == 0 {
            let step = replay.step().ok().flatten().ok_or("no player joins in the recording")?;
            for output in step.said {
                match output {
                    Output::Joined { welcome, .. } if recording.first_tick == 0 => {
                        (recording.first_tick, recording.welcome) = (step.tick.number, welcome);
                    }
                    Output::Body { kind: Kind::Tick, .. } => recording.fans_out = true,
                    _ => {}
                }
            }
        }
        Ok(recording)
    }

    /// Returns the description of the recorded room.
    #[must_use]
    pub fn header(&self) -> &Header {
        self.journal.header()
    }

    fn replay(&self) -> Result<Replay<'static, G>, Refusal> {
        Replay::new(&self.journal, |info| (self.factory.borrow_mut())(info))
    }
}

/// The commands of clients. Those of the game itself are ignored.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub enum Command {
    /// `{"playback": …}`
    Playback {
        /// The action.
        playback: Control,
    },
    /// A command of the game, ignored.
    Other(IgnoredAny),
}

/// An action of a playback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Continue; at the end, start again.
    Play,
    /// Pause.
    Pause,
    /// Go to this recorded tick.
    Seek(u32),
    /// Play at this percentage of the recorded speed.
    Speed(u32),
    /// Show the messages to this recorded player while the player is in the room.
    View(u32),
}

/// The events that controllers receive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The state of the playback.
    Playback(Status),
}

/// The state of a playback.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The recorded tick that is shown.
    pub tick: u32,
    /// The last recorded tick.
    pub last: u32,
    /// Whether the playback is paused.
    pub paused: bool,
    /// The speed in percent.
    pub speed: u32,
    /// The recorded tick that is being sought.
    pub seeking: Option<u32>,
    /// Why the playback has ended, if it has.
    pub end: Option<String>,
    /// The first recorded tick in which the game's outputs differ from the recording, because the game has changed.
    pub differs: Option<u32>,
    /// The recorded player whose messages are shown, if there were messages to single players.
    pub view: Option<u32>,
    /// The recorded players in the room, to choose from, in that case.
    pub players: Vec<(u32, String)>,
}

/// The welcome message of a controller.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Intro<'a> {
    /// The name of the recorded room.
    pub room: &'a str,
    /// The name of the game's type.
    pub game: &'a str,
    /// The first recorded tick that is shown: the first player joined in it.
    pub first: u32,
    /// The last recorded tick.
    pub last: u32,
}

/// A recorded player in the room.
struct Seat {
    name: String,
    welcome: Encoded,
}

/// An input to fan out.
struct RecordedInput {
    player: u32,
    number: u32,
    value: Vec<u8>,
}

/// The game that plays a recording.
pub struct Playback<G: Game> {
    recording: Rc<Recording<G>>,
    replay: Option<Replay<'static, G>>,
    /// The next step, already run but not yet due.
    ahead: Option<Step>,
    /// The recorded tick that is shown.
    clock: u32,
    last_tick: u32,
    end: Option<String>,
    differs: Option<u32>,

    paused: bool,
    speed: u32,
    /// Hundredths of a recorded tick that are due.
    credit: u32,
    seeking: Option<u32>,
    seek_ticks: u32,

    names: BTreeMap<PlayerId, String>,
    present: BTreeMap<PlayerId, Seat>,
    present_changed: bool,
    view: Option<PlayerId>,
    has_views: bool,

    state: Option<Vec<u8>>,
    state_changed: bool,
    events: Vec<(Kind, Vec<u8>)>,
    inputs: VecDeque<RecordedInput>,
    fans_out: bool,

    newcomers: Vec<PlayerId>,
    commanders: BTreeSet<PlayerId>,
    told: Option<Status>,
    told_at: u32,
}

impl<G: Game> Playback<G> {
    /// Returns a playback before the first tick with a player.
    ///
    /// # Errors
    /// The refusal to make the game.
    pub fn new(recording: Rc<Recording<G>>) -> Result<Playback<G>, Refusal> {
        Ok(Playback {
            replay: Some(recording.replay()?),
            ahead: None,
            clock: 0,
            last_tick: recording.last_tick,
            end: None,
            differs: None,
            paused: false,
            speed: 100,
            credit: 0,
            seeking: Some(recording.first_tick),
            seek_ticks: SEEK_TICKS,
            names: BTreeMap::new(),
            present: BTreeMap::new(),
            present_changed: true,
            view: None,
            has_views: false,
            state: None,
            state_changed: false,
            events: Vec::new(),
            inputs: VecDeque::new(),
            fans_out: recording.fans_out,
            newcomers: Vec::new(),
            commanders: BTreeSet::new(),
            told: None,
            told_at: 0,
            recording,
        })
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Play => {
                if self.end.is_some() {
                    self.seeking = Some(self.recording.first_tick);
                }
                self.paused = false;
            }
            Control::Pause => self.paused = true,
            Control::Seek(tick) => self.seeking = Some(tick.clamp(self.recording.first_tick, self.last_tick)),
            Control::Speed(percent) => self.speed = percent.clamp(*SPEEDS.start(), *SPEEDS.end()),
            Control::View(player) => self.view = Some(PlayerId(player)),
        }
    }

    fn play_on(&mut self) {
        self.credit += self.speed;
        let due = self.credit / 100;
        self.credit %= 100;
        if due > 0 {
            // One more tick shows whether the recording continues.
            self.run_to(self.clock.saturating_add(due), due + 1);
        }
    }

    fn seek_on(&mut self, target: u32, tick: Tick) {
        self.seek_ticks = if tick.missed > 0 { self.seek_ticks / 2 } else { self.seek_ticks * 2 };
        self.seek_ticks = self.seek_ticks.clamp(1, SEEK_TICKS_MAX);
        if target < self.clock {
            self.rewind();
        }
        if self.run_to(target, self.seek_ticks) {
            self.seeking = None;
            self.credit = 0;
            self.state_changed = self.state.is_some();
        }
    }

    /// Goes back to before the first tick.
    fn rewind(&mut self) {
        let gone = (self.replay.take(), self.ahead.take());
        // A panic of the game while it is dropped or made ends only this playback.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(gone)));
        let made = catch_unwind(AssertUnwindSafe(|| self.recording.replay()));
        self.end = None;
        match made {
            Ok(Ok(replay)) => self.replay = Some(replay),
            Ok(Err(refusal)) => self.end = Some(format!("The game can't be created again: {refusal}")),
            Err(_) => self.end = Some("The game can't be created again: it panicked.".to_owned()),
        }
        self.clock = 0;
        self.names.clear();
        self.present.clear();
        self.present_changed = true;
        self.state = None;
        self.inputs.clear();
    }

    /// Runs at most `ticks` recorded ticks up to `target`. Returns whether it reached `target` or the end.
    fn run_to(&mut self, target: u32, ticks: u32) -> bool {
        for _ in 0..ticks {
            self.look_ahead();
            let Some(step) = self.ahead.take_if(|step| step.tick.number <= target) else {
                if self.ahead.is_some() {
                    self.clock = target;
                }
                return true;
            };
            self.take(step);
            if !self.has_room_for_inputs() {
                return false;
            }
        }
        false
    }

    fn look_ahead(&mut self) {
        if self.ahead.is_some() || self.end.is_some() {
            return;
        }
        let Some(replay) = &mut self.replay else { return };
        match replay.step() {
            Ok(Some(step)) => self.ahead = Some(step),
            Ok(None) => {
                let why = match replay.end() {
                    Some(End::Closed) => "The room closed at this point.",
                    Some(End::Full) => "The recording reached its maximum size at this point; the room continued.",
                    None => "The recording is incomplete and ends at this point.",
                };
                self.stop(why.to_owned());
            }
            Err(error) => self.stop(format!("The recording can't be read any further: {error}.")),
        }
    }

    fn stop(&mut self, why: String) {
        self.end = Some(why);
        self.last_tick = self.clock;
    }

    fn take(&mut self, step: Step) {
        self.clock = step.tick.number;
        if let Verdict::Differs { .. } = step.verdict {
            self.differs.get_or_insert(self.clock);
        }
        for input in step.told {
            if let Input::Join { player, join } = input {
                self.names.insert(player, join.name);
            }
        }
        let mut has_state = false;
        let failed = step.said.contains(&Output::Closed);
        for output in step.said {
            match output {
                Output::Joined { player, welcome } => {
                    let name = self.names.remove(&player).unwrap_or_default();
                    self.present.insert(player, Seat { name, welcome });
                    self.present_changed = true;
                }
                Output::Refused { player, .. } => {
                    self.names.remove(&player);
                }
                Output::Renamed { player, name } => {
                    if let Some(seat) = self.present.get_mut(&player) {
                        seat.name = name;
                        self.present_changed = true;
                    }
                }
                // Players who were in the room when the game failed stay visible.
                Output::Left { player, .. } if !failed => {
                    self.present.remove(&player);
                    self.present_changed = true;
                }
                Output::Left { .. } => {}
                Output::Body { to, kind, body } => self.hear(to, kind, &body, &mut has_state),
                Output::Ended => self.stop("The game closed the room at this point.".to_owned()),
                Output::Closed => self.stop("The game failed at this point.".to_owned()),
            }
        }
    }

    /// Keeps what spectators receive. Of several states in one tick clients use the first.
    fn hear(&mut self, to: Target, kind: Kind, body: &[u8], has_state: &mut bool) {
        match kind {
            Kind::Tick => {
                self.fans_out = true;
                let Ok((_, windows)) = msgpack::decode_ticks(body) else { return };
                if self.seeking.is_none() {
                    let newest = windows.into_iter().next().unwrap_or_default();
                    self.inputs.extend(newest.into_iter().map(|input| RecordedInput {
                        player: input.player,
                        number: input.number,
                        value: input.value.to_vec(),
                    }));
                }
            }
            Kind::State | Kind::Event | Kind::ReliableEvent => {
                self.has_views |= matches!(to, Target::One(_));
                let is_shown = to == Target::All || self.viewer().is_some_and(|viewer| to.includes(viewer));
                let Ok((_, value)) = msgpack::decode_at_tick(body) else { return };
                if kind != Kind::State {
                    if self.seeking.is_none() && (is_shown || matches!(to, Target::Except(_))) {
                        self.events.push((kind, value.to_vec()));
                    }
                } else if is_shown && !std::mem::replace(has_state, true) {
                    self.state = Some(value.to_vec());
                    self.state_changed = true;
                }
            }
            // Answers to players who missed ticks, and kinds that no room sends.
            Kind::Ticks | Kind::Input | Kind::Command | Kind::Ping | Kind::Pong | Kind::Ack => {}
        }
    }

    /// Returns the player whose messages are shown.
    fn viewer(&self) -> Option<PlayerId> {
        self.view.filter(|player| self.present.contains_key(player)).or_else(|| self.present.keys().next().copied())
    }

    fn welcome(&self) -> &Encoded {
        let seat = self.viewer().and_then(|viewer| self.present.get(&viewer));
        seat.map_or(&self.recording.welcome, |seat| &seat.welcome)
    }

    /// Returns whether the inputs fanned out so far fit this tick.
    fn has_room_for_inputs(&self) -> bool {
        let bytes_of = |input: &RecordedInput| msgpack::fanned_out_bytes(input.player, input.number, &input.value);
        self.inputs.iter().map(bytes_of).sum::<usize>() < limits::FAN_OUT_BYTES
    }

    /// Takes the inputs that fit the unreliable lane; the rest waits.
    fn take_inputs(&mut self) -> msgpack::Inputs {
        let mut inputs = msgpack::Inputs::default();
        let fits = |inputs: &msgpack::Inputs, input: &RecordedInput| {
            inputs.has_room_for(input.player, input.number, &input.value)
        };
        while let Some(input) = self.inputs.pop_front_if(|input| fits(&inputs, input)) {
            inputs.push(input.player, input.number, &input.value);
        }
        inputs
    }

    fn send(&mut self, ctx: &mut Context<Playback<G>>) {
        if self.fans_out {
            let inputs = self.take_inputs();
            ctx.fan_out_others(inputs);
        }
        if self.seeking.is_some() {
            return;
        }
        if std::mem::take(&mut self.present_changed) {
            ctx.show_cast(self.present.iter().map(|(&player, seat)| (player, seat.name.clone())).collect());
        }
        for (kind, value) in self.events.drain(..) {
            ctx.send_encoded(Target::All, kind, &value);
        }
        let newcomers = std::mem::take(&mut self.newcomers);
        let Some(state) = &self.state else { return };
        if std::mem::take(&mut self.state_changed) || self.stands() {
            ctx.send_encoded(Target::All, Kind::State, state);
        } else {
            for player in newcomers {
                ctx.send_encoded(Target::One(player), Kind::State, state);
            }
        }
    }

    fn stands(&self) -> bool {
        self.paused || self.end.is_some()
    }

    fn status(&self) -> Status {
        let players = self.present.iter().filter(|_| self.has_views);
        Status {
            tick: self.clock,
            last: self.last_tick,
            paused: self.stands(),
            speed: self.speed,
            seeking: self.seeking,
            end: self.end.clone(),
            differs: self.differs,
            view: self.viewer().filter(|_| self.has_views).map(|player| player.0),
            players: players.map(|(player, seat)| (player.0, seat.name.clone())).collect(),
        }
    }

    fn tell(&mut self, ctx: &mut Context<Playback<G>>, tick: Tick) {
        let status = self.status();
        let interval = STATUS_INTERVAL.as_millis() / ctx.tick_length().as_millis().max(1);
        let is_due = u128::from(tick.number - self.told_at) >= interval;
        let is_known = self
            .told
            .as_ref()
            .is_some_and(|told| *told == status || !is_due && *told == Status { tick: told.tick, ..status.clone() });
        if is_known || self.commanders.is_empty() {
            return;
        }
        for &player in &self.commanders {
            let event = Event::Playback(status.clone());
            let _ = ctx.event(Target::One(player), &event, Lane::Reliable);
        }
        self.told = Some(status);
        self.told_at = tick.number;
    }
}

impl<G: Game> Game for Playback<G> {
    type Input = IgnoredAny;
    type Command = Command;
    type State = ();
    type Event = Event;
    type Welcome = Encoded;
    type JoinData = Value;

    fn join(&mut self, _: &mut Context<Self>, player: PlayerId, join: &Join) -> Result<Encoded, Refusal> {
        if join.data["playback"] == true {
            self.commanders.insert(player);
            self.told = None;
            let Header { game, room, .. } = self.recording.header();
            return Encoded::new(&Intro {
                room: &room.name,
                game,
                first: self.recording.first_tick,
                last: self.last_tick,
            });
        }
        self.newcomers.push(player);
        Ok(self.welcome().clone())
    }

    fn leave(&mut self, _: &mut Context<Self>, player: PlayerId, _: Leave) {
        self.commanders.remove(&player);
    }

    fn tick(&mut self, ctx: &mut Context<Self>, tick: Tick, batch: Batch<'_, Self>) {
        for message in batch {
            if let Incoming::Command { player, command: Command::Playback { playback } } = message
                && self.commanders.contains(&player)
            {
                self.control(playback);
            }
        }
        if let Some(target) = self.seeking {
            self.seek_on(target, tick);
        } else if !self.stands() && self.inputs.is_empty() {
            self.play_on();
        }
        self.send(ctx);
        self.tell(ctx, tick);
    }
}

#[cfg(test)]
mod tests;
