//! Games in JavaScript: a module that exports the callbacks of a [`Game`], run by an engine of its own in each room.
//!
//! ```js
//! export function create(room) {
//!   return { presses: 0 };
//! }
//! export function tick(game, ctx, { number, missed }, batch) {
//!   game.presses += batch.length;
//!   ctx.state(game);
//! }
//! ```
//!
//! A script is as deterministic as a game in Rust: it has no clock, `Math.random` is the room's generator, and `Math`
//! has the same results on every machine. What a callback may use is counted, not timed, so that a recording ends where
//! the room did. Past a budget the room is closed, and its players read why.
//!
//! The engine is for scripts that the operator trusts as much as any other part of the game.

mod desk;
mod engine;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod maths;
mod program;
mod testing;
mod value;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmpv::Value as Plain;
use rquickjs::{Array, Ctx, Exception, IntoJs, Object, TypedArray, Value};
use serde::{Deserialize, Deserializer};

use self::desk::{Desk, Order};
use self::engine::Engine;
pub use self::engine::Failure;
use self::program::Modules;
pub use self::program::{Program, ProgramError};
pub use self::testing::{TestResult, run_tests};
use self::value::{encode, from_json, from_plain};
use crate::game::{
    Batch, Context, Encoded, Game, Identity, Incoming, Join, Lane, Leave, PlayerId, Refusal, Resumed, RoomInfo, Tick,
};
use crate::limits;
use crate::wire::frame::Kind;

/// What an external message starts with that replaces the program of a room.
const RELOAD: &[u8] = b"\0rtcade program\0";
/// The levels of what a game saves.
const SAVED_DEPTH: usize = 64;
/// The errors of a game that goes on are reported once per place in this time, and of at most so many places.
const REPORTED_ONCE_PER: Duration = Duration::from_secs(60);
const REPORTED_PLACES: usize = 64;

/// A message of a player, as the script gets it: any value.
#[derive(Clone, Debug, PartialEq)]
pub struct Message(Plain);

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Message, D::Error> {
        Plain::deserialize(deserializer).map(Message)
    }
}

/// What a program says of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Checked {
    /// The length of a tick that the script exports as `tickMs`.
    pub tick: Option<Duration>,
}

/// Something that went wrong in a room, or that its author should know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The room's name.
    pub room: String,
    /// What went wrong; `None` if the room goes on with another program.
    pub failure: Option<Failure>,
    /// Whether the room was closed.
    pub is_closed: bool,
}

/// The program of new rooms. Clones share it, and may be on other threads.
#[derive(Clone, Debug, Default)]
pub struct CurrentProgram(Arc<Mutex<Option<Arc<Program>>>>);

impl CurrentProgram {
    /// Returns a place for the program of new rooms.
    #[must_use]
    pub fn new(program: Program) -> CurrentProgram {
        let current = CurrentProgram::default();
        current.replace(program);
        current
    }

    /// Replaces the program of new rooms. Those that exist get it by [`reload_message`].
    pub fn replace(&self, program: Program) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(program));
    }

    fn get(&self) -> Option<Arc<Program>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Reporter = Rc<RefCell<dyn FnMut(&Report)>>;

/// Makes the games of rooms, and takes what they report. Clones share both.
#[derive(Clone)]
pub struct Scripts {
    program: CurrentProgram,
    report: Reporter,
}

impl Scripts {
    /// `report` is called in a room's tick; it must not block.
    pub fn new(program: CurrentProgram, report: impl FnMut(&Report) + 'static) -> Scripts {
        Scripts { program, report: Rc::new(RefCell::new(report)) }
    }

    /// Makes the game of a new room: of the room's recorded program if it has one, else of the current one.
    ///
    /// # Errors
    /// There is no program, it can't be loaded, or its `create` has thrown.
    pub fn create(&self, room: &RoomInfo) -> Result<Script, Refusal> {
        let program = if room.program.is_empty() {
            self.program.get().ok_or_else(|| Refusal::new("The recording has no program."))?
        } else {
            let recorded = Program::decode(&room.program);
            Arc::new(recorded.map_err(|error| Refusal::new(format!("The recording can't be replayed: {error}.")))?)
        };
        Script::new(program, room, self.clone()).map_err(|failure| {
            self.report(room.name.clone(), Some(failure.clone()), true);
            Refusal::new(format!("The game failed: {failure}."))
        })
    }

    fn report(&self, room: String, failure: Option<Failure>, is_closed: bool) {
        match &failure {
            Some(failure) => {
                let closed = if is_closed { "is closed" } else { "has a problem" };
                log::error!("room {room} {closed}: {}", failure.with_calls());
            }
            None => log::info!("room {room}: goes on with the changed game"),
        }
        (self.report.borrow_mut())(&Report { room, failure, is_closed });
    }
}

impl fmt::Debug for Scripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripts").finish_non_exhaustive()
    }
}

/// Loads a program, without a room: the module `entry` and those that it imports. `read` gets the path of a module in
/// the game's directory and returns its text, or a sentence why there is none.
///
/// # Errors
/// A module can't be read or throws, the first one exports no function named `tick`, or they are too large together.
pub fn load(
    entry: &str,
    read: impl FnMut(&str) -> Result<String, String> + 'static,
) -> Result<(Program, Checked), Failure> {
    let desk = Rc::new(RefCell::new(Desk::new("", 0, limits::TICK_MS.into())));
    let modules = Modules::found_by(Box::new(read));
    let (_, tick_ms) = Engine::with_modules(modules.clone(), entry, &desk, limits::SCRIPT_MEMORY)?;
    let range = f64::from(*limits::TICK_MS_RANGE.start())..=f64::from(*limits::TICK_MS_RANGE.end());
    let tick = match tick_ms {
        None => None,
        Some(ms) if range.contains(&ms) && ms.fract() == 0.0 => Some(Duration::from_secs_f64(ms / 1e3)),
        Some(ms) => {
            let message = format!("tickMs is {ms}; a tick has {} to {} milliseconds", range.start(), range.end());
            return Err(engine::failure("", message));
        }
    };
    let program = modules.program(entry).map_err(|error| engine::failure("", error.to_string()))?;
    Ok((program, Checked { tick }))
}

/// Returns the external message ([`Game::external`]) that makes a room go on with another program, in the state that
/// its game saves.
#[must_use]
pub fn reload_message(program: &Program) -> Vec<u8> {
    let mut message = RELOAD.to_vec();
    message.extend_from_slice(program.encoded());
    message
}

/// The game of one room, in JavaScript. [`Scripts::create`] makes it.
pub struct Script {
    /// `None` once the game has failed.
    engine: Option<Engine>,
    program: Arc<Program>,
    desk: Rc<RefCell<Desk>>,
    room: RoomInfo,
    scripts: Scripts,
    /// When an error was reported last, in ticks, by its place.
    reported: BTreeMap<String, u32>,
}

impl Script {
    fn new(program: Arc<Program>, room: &RoomInfo, scripts: Scripts) -> Result<Script, Failure> {
        let desk = Desk::new(&room.name, room.seed, room.tick.as_secs_f64() * 1e3);
        let desk = Rc::new(RefCell::new(desk));
        let (engine, _) = Engine::new(&program, &desk)?;
        desk.borrow_mut().draw_apart(room.seed);
        engine.call("create", |ctx| Ok(vec![engine::room(ctx, room)?]), |_, _| Ok(()))?;
        desk.borrow_mut().orders.clear();
        let room = RoomInfo { program: Vec::new(), ..room.clone() };
        Ok(Script { engine: Some(engine), program, desk, room, scripts, reported: BTreeMap::new() })
    }

    /// Returns the program that the room runs.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Returns the bytes that the room's engine holds.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.engine.as_ref().map_or(0, Engine::memory)
    }

    /// Calls a callback and carries out its orders. An error ends the room unless `onError` returns true.
    fn call<R>(
        &mut self,
        ctx: &mut Context<Script>,
        callback: &str,
        arguments: impl for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<Vec<Value<'js>>>,
        read: impl for<'js> FnOnce(&Ctx<'js>, Value<'js>) -> rquickjs::Result<R>,
    ) -> Option<R> {
        match self.run(ctx, callback, arguments, read)? {
            Ok(returned) => Some(returned),
            Err(failure) => {
                self.settle(ctx, failure);
                None
            }
        }
    }

    fn run<R>(
        &mut self,
        ctx: &mut Context<Script>,
        callback: &str,
        arguments: impl for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<Vec<Value<'js>>>,
        read: impl for<'js> FnOnce(&Ctx<'js>, Value<'js>) -> rquickjs::Result<R>,
    ) -> Option<Result<R, Failure>> {
        let engine = self.engine.as_ref()?;
        let players: Vec<_> = ctx.players().collect();
        let consumed = players.iter().map(|player| (player.id, ctx.consumed(player.id))).collect();
        {
            let desk = &mut *self.desk.borrow_mut();
            desk.show(players.into_iter());
            desk.tick = ctx.tick();
            desk.consumed = consumed;
            desk.random = ctx.rng().clone();
        }
        let called = engine.call(callback, arguments, read);
        let orders = {
            let desk = &mut *self.desk.borrow_mut();
            *ctx.rng() = desk.random.clone();
            std::mem::take(&mut desk.orders)
        };
        carry_out(ctx, orders);
        Some(called)
    }

    /// Asks the game whether it goes on after an error, and closes the room if it doesn't.
    fn settle(&mut self, ctx: &mut Context<Script>, failure: Failure) {
        let asked = failure.clone();
        let goes_on = !failure.is_final
            && matches!(
                self.run(
                    ctx,
                    "onError",
                    |js| {
                        let error = Exception::from_message(js.clone(), &asked.message)?;
                        Ok(vec![error.into_object().into_value(), asked.callback.as_str().into_js(js)?])
                    },
                    |_, goes_on| Ok(goes_on.as_bool() == Some(true)),
                ),
                Some(Ok(true))
            );
        if goes_on {
            self.report_once(ctx.tick(), failure);
        } else {
            ctx.close(format!("The room closed because its game failed: {failure}."));
            self.engine = None;
            self.scripts.report(self.room.name.clone(), Some(failure), true);
        }
    }

    fn report_once(&mut self, tick: u32, failure: Failure) {
        let place = failure.place().unwrap_or(&failure.message).to_owned();
        let once_per = REPORTED_ONCE_PER.as_nanos() / self.room.tick.as_nanos().max(1);
        let is_due = self.reported.get(&place).is_none_or(|last| u128::from(tick.saturating_sub(*last)) >= once_per);
        if is_due && (self.reported.len() < REPORTED_PLACES || self.reported.contains_key(&place)) {
            self.reported.insert(place, tick);
            self.scripts.report(self.room.name.clone(), Some(failure), false);
        }
    }

    /// Goes on with another program in the state that this one saves. If that fails, the program stays.
    fn reload(&mut self, encoded: &[u8]) {
        if let Err(failure) = self.try_reload(encoded) {
            self.scripts.report(self.room.name.clone(), Some(failure), false);
        } else {
            self.scripts.report(self.room.name.clone(), None, false);
        }
    }

    fn try_reload(&mut self, encoded: &[u8]) -> Result<(), Failure> {
        let cannot = |why: String| engine::failure("", format!("the changed game can't go on in this room: {why}"));
        let program = Arc::new(Program::decode(encoded).map_err(|error| cannot(error.to_string()))?);
        let saved = self.saved().map_err(cannot)?;
        let (engine, _) = Engine::new(&program, &self.desk)?;
        self.load(&engine, &saved)?;
        self.engine = Some(engine);
        self.program = program;
        Ok(())
    }

    /// What the game saves, or why it can't.
    fn saved(&self) -> Result<Vec<u8>, String> {
        self.desk.borrow_mut().unsaved = None;
        let Some(engine) = &self.engine else { return Err("it has failed".to_owned()) };
        let random = self.desk.borrow().random.clone();
        let saved = engine.call(
            "save",
            |_| Ok(Vec::new()),
            |ctx, value| match value.is_undefined() {
                true => Ok(None),
                false => match encode(&value, limits::SNAPSHOT_BYTES, SAVED_DEPTH) {
                    Ok(saved) => Ok(Some(saved)),
                    Err(stop) => Err(stop.throw(ctx)),
                },
            },
        );
        let desk = &mut *self.desk.borrow_mut();
        // Saving is no part of the game: it must leave no trace in it.
        desk.orders.clear();
        desk.random = random;
        match saved {
            Ok(Some(saved)) => Ok(saved),
            Ok(None) => {
                let why = desk.unsaved.take().unwrap_or_else(|| "save returned nothing".to_owned());
                Err(format!("{why}; export save and load"))
            }
            Err(failure) => Err(failure.to_string()),
        }
    }

    fn load(&self, engine: &Engine, saved: &[u8]) -> Result<(), Failure> {
        let mut bytes = saved;
        let saved = rmpv::decode::read_value(&mut bytes)
            .map_err(|error| engine::failure("load", format!("what was saved can't be read: {error}")))?;
        self.desk.borrow_mut().draw_apart(self.room.seed);
        engine.call("load", |ctx| Ok(vec![from_plain(ctx, &saved)?, engine::room(ctx, &self.room)?]), |_, _| Ok(()))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("room", &self.room.name).finish_non_exhaustive()
    }
}

impl Game for Script {
    type Input = Message;
    type Command = Message;
    /// States and events are sent encoded.
    type State = ();
    type Event = ();
    type Welcome = Encoded;
    type JoinData = serde_json::Value;

    fn program(&self) -> &[u8] {
        self.program.encoded()
    }

    fn join(&mut self, ctx: &mut Context<Self>, player: PlayerId, join: &Join) -> Result<Encoded, Refusal> {
        self.desk.borrow_mut().refusal = None;
        let failed = || Refusal::new("The game of this room has failed.");
        let joined = self.run(
            ctx,
            "join",
            |js| Ok(vec![player.0.into_js(js)?, join_value(js, join)?]),
            |js, welcome| match js.json_stringify(welcome)? {
                Some(text) => Ok(Encoded::from_json(&text.to_string()?)),
                None => Ok(Some(Encoded::default())),
            },
        );
        let refused = self.desk.borrow_mut().refusal.take();
        match (joined.ok_or_else(failed)?, refused) {
            (Ok(_), Some(sentence)) => Err(Refusal::new(sentence)),
            (Err(failure), Some(sentence)) if !failure.is_final => Err(Refusal::new(sentence)),
            (Ok(Some(welcome)), None) => Ok(welcome),
            (Ok(None), None) => Err(Refusal::new("The welcome of the game is no JSON.")),
            (Err(failure), _) if failure.is_final => {
                self.settle(ctx, failure);
                Err(failed())
            }
            // A player's data must not end the game of the others.
            (Err(failure), _) => {
                let sentence = format!("The game failed: {failure}.");
                self.report_once(ctx.tick(), failure);
                Err(Refusal::new(sentence))
            }
        }
    }

    fn leave(&mut self, ctx: &mut Context<Self>, player: PlayerId, reason: Leave) {
        self.call(ctx, "leave", |js| Ok(vec![player.0.into_js(js)?, reason.as_str().into_js(js)?]), |_, _| Ok(()));
    }

    fn drop(&mut self, ctx: &mut Context<Self>, player: PlayerId) {
        self.call(ctx, "drop", |js| Ok(vec![player.0.into_js(js)?]), |_, _| Ok(()));
    }

    fn resume(&mut self, ctx: &mut Context<Self>, player: PlayerId, resumed: Resumed) {
        self.call(
            ctx,
            "resume",
            |js| {
                let how = Object::new(js.clone())?;
                how.set("reloaded", resumed.reloaded)?;
                Ok(vec![player.0.into_js(js)?, how.into_value()])
            },
            |_, _| Ok(()),
        );
    }

    fn external(&mut self, ctx: &mut Context<Self>, bytes: &[u8]) {
        if let Some(program) = bytes.strip_prefix(RELOAD) {
            self.reload(program);
        } else {
            self.call(
                ctx,
                "external",
                |js| Ok(vec![TypedArray::<u8>::new_copy(js.clone(), bytes)?.into_value()]),
                |_, _| Ok(()),
            );
        }
    }

    fn drain(&mut self, ctx: &mut Context<Self>, time: Duration) {
        let ms = time.as_secs_f64() * 1e3;
        self.call(ctx, "drain", |js| Ok(vec![ms.into_js(js)?]), |_, _| Ok(()));
    }

    fn save(&self) -> Option<Vec<u8>> {
        match self.saved() {
            Ok(saved) => Some(saved),
            Err(why) => {
                log::debug!("room {}: the game can't be saved: {why}", self.room.name);
                None
            }
        }
    }

    fn restore(&mut self, _: &mut Context<Self>, saved: &[u8]) -> Result<(), Refusal> {
        let engine = self.engine.as_ref().ok_or_else(|| Refusal::new("The game of this room has failed."))?;
        self.load(engine, saved).map_err(|failure| Refusal::new(format!("The game failed: {failure}.")))
    }

    fn tick(&mut self, ctx: &mut Context<Self>, tick: Tick, batch: Batch<'_, Self>) {
        let Tick { number, missed } = tick;
        self.call(
            ctx,
            "tick",
            |js| {
                let messages = Array::new(js.clone())?;
                for (at, message) in batch.enumerate() {
                    messages.set(at, message_value(js, &message)?)?;
                }
                Ok(vec![number.into_js(js)?, missed.into_js(js)?, messages.into_value()])
            },
            |_, _| Ok(()),
        );
    }
}

fn message_value<'js>(js: &Ctx<'js>, message: &Incoming<Script>) -> rquickjs::Result<Value<'js>> {
    let object = Object::new(js.clone())?;
    match message {
        Incoming::Input { player, number, seen, input } => {
            object.set("player", player.0)?;
            object.set("input", from_plain(js, &input.0)?)?;
            object.set("number", *number)?;
            object.set("seen", *seen)?;
        }
        Incoming::Command { player, command } => {
            object.set("player", player.0)?;
            object.set("command", from_plain(js, &command.0)?)?;
        }
    }
    Ok(object.into_value())
}

fn join_value<'js>(js: &Ctx<'js>, join: &Join) -> rquickjs::Result<Value<'js>> {
    let object = Object::new(js.clone())?;
    object.set("name", join.name.as_str())?;
    object.set("data", from_json(js, &join.data)?)?;
    object.set("attached", from_json(js, &join.attached)?)?;
    let identity = match &join.identity {
        None => Value::new_null(js.clone()),
        Some(Identity { subject, claims }) => {
            let identity = Object::new(js.clone())?;
            identity.set("subject", subject.as_str())?;
            identity.set("claims", from_json(js, claims)?)?;
            identity.into_value()
        }
    };
    object.set("identity", identity)?;
    Ok(object.into_value())
}

fn carry_out(ctx: &mut Context<Script>, orders: Vec<Order>) {
    for order in orders {
        match order {
            Order::State(to, value) => ctx.send_encoded(to, Kind::State, &value),
            Order::States(states) => ctx.send_encoded_states(states),
            Order::Event(to, value, Lane::Unreliable) => ctx.send_encoded(to, Kind::Event, &value),
            Order::Event(to, value, Lane::Reliable) => ctx.send_encoded(to, Kind::ReliableEvent, &value),
            Order::Kick(player, sentence) => ctx.kick(player, sentence),
            Order::Close(sentence) => ctx.close(sentence),
            Order::Rename(player, name) => ctx.rename(player, &name),
            Order::Lock(locked) => ctx.lock(locked),
            Order::List(listed) => ctx.listed(listed),
            Order::Title(title) => ctx.title(Some(&title)),
            Order::FanOutInputs => ctx.fan_out_inputs(),
            Order::Unsent(error) => ctx.note_unsent(error),
        }
    }
}

#[cfg(test)]
mod tests;
