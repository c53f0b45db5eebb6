//! The JavaScript engine of one room: what a game may use, and the budgets that end it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use rquickjs::context::intrinsic;
use rquickjs::function::Args;
use rquickjs::{
    CatchResultExt, CaughtError, Context, Ctx, Exception, Function, IntoJs, Module, Object, Persistent, Runtime, Value,
};

use super::desk::{Desk, host};
use super::maths;
use super::program::{Modules, Program};
use crate::game::RoomInfo;
use crate::limits;

/// What a game may use: everything of the language but clocks, and what shows when garbage is collected.
type Language = (
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
);
/// Their results depend on the time or on other threads.
const NOT_DETERMINISTIC: [&str; 4] = ["Atomics", "SharedArrayBuffer", "queueMicrotask", "navigator"];

/// The engine counts this many backward jumps and calls between two looks at the budget.
const STEPS_PER_LOOK: u32 = 10_000;
const STACK_BYTES: usize = 256 * 1024;
/// What the engine's error says.
const OUT_OF_MEMORY: &str = "out of memory";

/// Why a game can't go on with what it was called for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// What was called: `tick`, `join`, …; empty while the modules are loaded.
    pub callback: String,
    /// What is wrong, as in `TypeError: x is not a function`.
    pub message: String,
    /// The calls down to the place, the innermost first, as in `at tick (game.js:12:5)`. May be empty.
    pub stack: Vec<String>,
    /// Whether a budget is used up, so that the game can't go on.
    pub is_final: bool,
}

/// Characters of a message: an error may quote what players have sent.
const MESSAGE_CHARS: usize = 500;

impl Failure {
    /// Returns the innermost place, as in `game.js:12:5`.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        let places = self.stack.iter().filter_map(|call| Some(call.rsplit(['(', ' ']).next()?.trim_end_matches(')')));
        let has_line = |place: &&str| {
            place.split_once(':').is_some_and(|(_, line)| line.starts_with(|c: char| c.is_ascii_digit()))
        };
        places.into_iter().find(has_line)
    }

    /// Returns the message and, on a line each, the calls.
    #[must_use]
    pub fn with_calls(&self) -> String {
        self.stack.iter().fold(self.message.clone(), |text, call| text + "\n    " + call)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(place) = self.place() {
            write!(f, " ({place})")?;
        }
        Ok(())
    }
}

/// The steps of the current callback, and how many it may have.
#[derive(Default)]
struct Budget {
    looks: Cell<u32>,
    limit: Cell<u32>,
    is_used_up: Cell<bool>,
}

/// An engine of its own, with one context. Values that outlive a call must be dropped before it.
pub(super) struct Machine {
    context: Context,
    runtime: Runtime,
    budget: Rc<Budget>,
}

/// One room's engine with its game.
pub(super) struct Engine {
    // Before the machine: values must not outlive it.
    callbacks: Persistent<Object<'static>>,
    machine: Machine,
}

impl Engine {
    /// Loads a program. Its game is not made yet. Returns what it exports as `tickMs`, too.
    pub(super) fn new(program: &Program, desk: &Rc<RefCell<Desk>>) -> Result<(Engine, Option<f64>), Failure> {
        Engine::with_modules(Modules::of(program), program.entry(), desk, limits::SCRIPT_MEMORY)
    }

    /// Loads the module `entry` and those that it imports. The engine may hold `memory` bytes.
    pub(super) fn with_modules(
        modules: Modules,
        entry: &str,
        desk: &Rc<RefCell<Desk>>,
        memory: usize,
    ) -> Result<(Engine, Option<f64>), Failure> {
        let machine = Machine::new(modules, memory)?;
        let loaded = machine.run("", limits::SCRIPT_STEPS_TO_LOAD, |ctx| load(ctx, entry, desk));
        let (callbacks, tick_ms) = loaded?;
        Ok((Engine { callbacks, machine }, tick_ms))
    }

    /// Calls one of the callbacks. `arguments` makes what it gets, `read` takes what it returns.
    pub(super) fn call<R>(
        &self,
        callback: &str,
        arguments: impl for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<Vec<Value<'js>>>,
        read: impl for<'js> FnOnce(&Ctx<'js>, Value<'js>) -> rquickjs::Result<R>,
    ) -> Result<R, Failure> {
        let called = self.machine.run(callback, limits::SCRIPT_STEPS, |ctx| {
            let callbacks = self.callbacks.clone().restore(ctx)?;
            let function: Function<'_> = callbacks.get(callback)?;
            let mut list = Args::new(ctx.clone(), 4);
            for argument in arguments(ctx)? {
                list.push_arg(argument)?;
            }
            let returned = list.apply(&function)?;
            read(ctx, returned)
        });
        if called.is_ok() && self.machine.runtime.is_job_pending() {
            return Err(failure(callback, "a game must not use promises: it has no time but its ticks".to_owned()));
        }
        called
    }

    /// Bytes that the engine holds.
    pub(super) fn memory(&self) -> usize {
        usize::try_from(self.machine.runtime.memory_usage().malloc_size).unwrap_or_default()
    }
}

fn cannot_start(error: rquickjs::Error) -> Failure {
    failure("", format!("the engine can't start: {error}"))
}

impl Machine {
    /// Once it is made, the engine may hold `memory` bytes.
    pub(super) fn new(modules: Modules, memory: usize) -> Result<Machine, Failure> {
        let runtime = Runtime::new().map_err(cannot_start)?;
        runtime.set_max_stack_size(STACK_BYTES);
        runtime.set_loader(modules.clone(), modules);
        let budget = Rc::new(Budget::default());
        let counted = Rc::clone(&budget);
        runtime.set_interrupt_handler(Some(Box::new(move || {
            counted.looks.set(counted.looks.get().saturating_add(1));
            let is_over = counted.looks.get() > counted.limit.get();
            counted.is_used_up.set(counted.is_used_up.get() || is_over);
            is_over
        })));
        let context = Context::custom::<Language>(&runtime).map_err(cannot_start)?;
        // A context that was made without enough memory would lack parts of the language.
        runtime.set_memory_limit(memory);
        Ok(Machine { context, runtime, budget })
    }

    /// Runs something of a script within a number of steps.
    pub(super) fn run<R>(
        &self,
        callback: &str,
        steps: u32,
        what: impl for<'js> FnOnce(&Ctx<'js>) -> rquickjs::Result<R>,
    ) -> Result<R, Failure> {
        self.budget.begin(steps);
        self.context.with(|ctx| what(&ctx).catch(&ctx).map_err(|error| describe(callback, &error, &self.budget)))
    }
}

/// Takes away what is not deterministic, and replaces what differs between machines.
pub(super) fn restrict(ctx: &Ctx<'_>, desk: &Rc<RefCell<Desk>>) -> rquickjs::Result<()> {
    let globals = ctx.globals();
    for name in NOT_DETERMINISTIC {
        globals.remove(name)?;
    }
    maths::replace(ctx, desk)
}

impl Budget {
    fn begin(&self, steps: u32) {
        self.looks.set(0);
        self.limit.set(steps / STEPS_PER_LOOK);
        self.is_used_up.set(false);
    }
}

fn load<'js>(
    ctx: &Ctx<'js>,
    entry: &str,
    desk: &Rc<RefCell<Desk>>,
) -> rquickjs::Result<(Persistent<Object<'static>>, Option<f64>)> {
    restrict(ctx, desk)?;
    let game: Object<'js> = import(ctx, "rtcade/game")?;
    let prelude: Function<'js> = ctx.eval(include_str!("prelude.js"))?;
    let with_script: Function<'js> = prelude.call((host(ctx, desk)?, game))?;
    let script = import(ctx, &format!("./{entry}"))?;
    if !script.get::<_, Value<'js>>("tick")?.is_function() {
        return Err(Exception::throw_type(ctx, "the game exports no function named tick"));
    }
    let tick_ms = script.get("tickMs")?;
    let callbacks: Object<'js> = with_script.call((script,))?;
    Ok((Persistent::save(ctx, callbacks), tick_ms))
}

/// Returns what a module exports.
pub(super) fn import<'js>(ctx: &Ctx<'js>, name: &str) -> rquickjs::Result<Object<'js>> {
    Module::import(ctx, name)?.finish()
}

pub(super) fn failure(callback: &str, message: String) -> Failure {
    Failure { callback: callback.to_owned(), message, stack: Vec::new(), is_final: false }
}

fn describe(callback: &str, error: &CaughtError<'_>, budget: &Budget) -> Failure {
    if budget.is_used_up.get() {
        let steps = budget.limit.get() * STEPS_PER_LOOK;
        let what = if callback.is_empty() { "loading the game" } else { callback };
        let stack = stack_of(error);
        let message = format!("{what} took more than {steps} steps (loops and calls)");
        return Failure { callback: callback.to_owned(), message, stack, is_final: true };
    }
    let message = match error {
        CaughtError::Exception(exception) => {
            let name = exception.as_object().get::<_, Value<'_>>("name").ok();
            let name = name.as_ref().and_then(|name| name.as_string()).and_then(|name| name.to_string().ok());
            let text = exception.message().unwrap_or_default();
            let name = name.unwrap_or_else(|| "Error".to_owned());
            if name == "InternalError" && text == OUT_OF_MEMORY { text } else { format!("{name}: {text}") }
        }
        // The engine has no memory for an Error.
        CaughtError::Value(value) if value.is_null() => OUT_OF_MEMORY.to_owned(),
        // What an object is converted to may have its address.
        CaughtError::Value(value) => match value.as_string() {
            Some(text) => text.to_string().unwrap_or_default(),
            None => format!("something else than an Error was thrown: {}", value.type_name()),
        },
        CaughtError::Error(error) => error.to_string(),
    };
    if message == OUT_OF_MEMORY {
        // The place differs between runs.
        let message = format!("{OUT_OF_MEMORY}: a room may hold {} MiB", limits::SCRIPT_MEMORY / (1024 * 1024));
        return Failure { callback: callback.to_owned(), message, stack: Vec::new(), is_final: true };
    }
    let message = message.chars().take(MESSAGE_CHARS).map(|char| if char.is_control() { ' ' } else { char }).collect();
    Failure { callback: callback.to_owned(), message, stack: stack_of(error), is_final: false }
}

fn stack_of(error: &CaughtError<'_>) -> Vec<String> {
    let CaughtError::Exception(exception) = error else { return Vec::new() };
    let stack = exception.stack().unwrap_or_default();
    // Calls of the host and the prelude say nothing to the game's author.
    let is_of_game = |call: &&str| !call.contains("eval_script") && !call.contains("(native)");
    stack.lines().map(str::trim).filter(|call| !call.is_empty()).filter(is_of_game).map(str::to_owned).collect()
}

/// The parameters of a room, as `create` and `load` get them.
pub(super) fn room<'js>(ctx: &Ctx<'js>, room: &RoomInfo) -> rquickjs::Result<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("name", room.name.as_str())?;
    // A number of JavaScript has 53 bits.
    object.set("seed", (room.seed >> 11) as f64)?;
    object.set("tickMs", room.tick.as_secs_f64() * 1e3)?;
    object.set("data", super::value::from_json(ctx, &room.data)?)?;
    object.into_js(ctx)
}
