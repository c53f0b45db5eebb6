//! The tests of a game in JavaScript: in the engine of its rooms, over simulated networks under virtual time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rmpv::Value as Plain;
use rquickjs::{Ctx, Exception, Function, IntoJs, Object, Persistent, Symbol, Value};

use super::desk::Desk;
use super::engine::{self, Failure, Machine, failure, import};
use super::program::{Modules, Program};
use super::value::{encode, from_json, from_plain};
use super::{Checked, CurrentProgram, Script, Scripts};
use crate::client::Event;
use crate::limits;
use crate::sim::{ClientId, Node, Path, Simulation};
use crate::wire::msgpack::SendError;

const MODULE: (&str, &str) = ("rtcade/test", include_str!("testing.js"));
/// Bytes that the engine of the tests may hold, besides those of the rooms.
const MEMORY: usize = 512 * 1024 * 1024;
/// Steps of all tests of a file: far more than any needs, so that an endless loop ends.
const STEPS: u32 = u32::MAX;
/// Simulations of a test.
const SIMULATIONS: usize = 1_000;

/// The result of one test with one seed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TestResult {
    /// The test's name.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// What went wrong.
    pub failure: Option<Failure>,
}

type Simulated = Rc<RefCell<Vec<Simulation<Script>>>>;

/// What the functions of the host share.
#[derive(Clone)]
struct Host {
    program: CurrentProgram,
    tick: Option<Duration>,
    simulations: Simulated,
    /// The first failure of a room since the last look.
    failed: Rc<RefCell<Option<Failure>>>,
    seed: Rc<Cell<u64>>,
}

/// Runs each test of the module `tests` whose name `is_wanted` for each of the seeds, twice, and compares what players
/// have received. `read` has the text of modules, as in [`load`](super::load). `each` gets every result.
///
/// # Errors
/// The tests can't be loaded.
pub fn run_tests(
    (program, checked): (&Program, Checked),
    tests: &str,
    read: impl FnMut(&str) -> Result<String, String> + 'static,
    seeds: impl Iterator<Item = u64> + Clone,
    is_wanted: impl Fn(&str) -> bool,
    mut each: impl FnMut(&TestResult),
) -> Result<(), Failure> {
    let host = Host {
        program: CurrentProgram::new(program.clone()),
        tick: checked.tick,
        simulations: Simulated::default(),
        failed: Rc::default(),
        seed: Rc::default(),
    };
    let engine = TestEngine::new(program.entry(), tests, read, &host)?;
    for (name, test) in engine.tests.borrow().iter().filter(|(name, _)| is_wanted(name)) {
        for seed in seeds.clone() {
            let failure = match (engine.run(&host, test, seed), engine.run(&host, test, seed)) {
                (Err(failure), _) | (_, Err(failure)) => Some(failure),
                (Ok(first), Ok(second)) if first != second => {
                    let message = "players have received something else in a second run of the same seed";
                    Some(failure(name, message.to_owned()))
                }
                (Ok(_), Ok(_)) => None,
            };
            each(&TestResult { name: name.clone(), seed, failure });
        }
    }
    Ok(())
}

type Tests = Rc<RefCell<Vec<(String, Persistent<Function<'static>>)>>>;

struct TestEngine {
    // Before the machine: values must not outlive it.
    tests: Tests,
    machine: Machine,
    desk: Rc<RefCell<Desk>>,
}

impl TestEngine {
    fn new(
        entry: &str,
        tests: &str,
        read: impl FnMut(&str) -> Result<String, String> + 'static,
        host: &Host,
    ) -> Result<TestEngine, Failure> {
        let desk = Rc::new(RefCell::new(Desk::new("", 0, 0.0)));
        let modules = Modules::found_by(Box::new(read)).with_built_in(MODULE);
        let collected = Tests::default();
        let engine = TestEngine { tests: Rc::clone(&collected), machine: Machine::new(modules, MEMORY)?, desk };
        engine.machine.run("", STEPS, |ctx| {
            engine::restrict(ctx, &engine.desk)?;
            let key = Symbol::new_global(ctx.clone(), "rtcade.test")?;
            ctx.globals().set(key, functions(ctx, host, entry, &collected)?)?;
            import(ctx, &format!("./{tests}")).map(drop)
        })?;
        Ok(engine)
    }

    /// Returns what the players have received, each with its time.
    fn run(&self, host: &Host, test: &Persistent<Function<'static>>, seed: u64) -> Result<Vec<String>, Failure> {
        host.seed.set(seed);
        host.failed.take();
        self.desk.borrow_mut().random = crate::game::Random::new(seed);
        let ran = self.machine.run("", STEPS, |ctx| {
            let given = Object::new(ctx.clone())?;
            given.set("seed", seed as f64)?;
            let returned: Value<'_> = test.clone().restore(ctx)?.call((given,))?;
            if returned.is_promise() {
                return Err(Exception::throw_type(ctx, "a test must not be async: its time is virtual"));
            }
            Ok(())
        });
        let simulations = std::mem::take(&mut *host.simulations.borrow_mut());
        ran?;
        let received = |simulation: &Simulation<Script>| {
            let clients: Vec<_> =
                simulation.clients().map(|client| format!("{:?}", simulation[client].events)).collect();
            clients
        };
        Ok(simulations.iter().flat_map(received).collect())
    }
}

impl Drop for TestEngine {
    /// The engine holds a function that holds them too.
    fn drop(&mut self) {
        self.tests.borrow_mut().clear();
    }
}

/// Throws the first failure of a room, so that the test fails with the game's error.
fn look_for_failures(ctx: &Ctx<'_>, host: &Host) -> rquickjs::Result<()> {
    match host.failed.take() {
        None => Ok(()),
        Some(failure) => {
            let sentence = format!("the game has failed in {}: {failure}", failure.callback);
            Err(Exception::throw_message(ctx, &sentence))
        }
    }
}

fn functions<'js>(ctx: &Ctx<'js>, host: &Host, entry: &str, tests: &Tests) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    object.set("entry", entry)?;
    let own = format!("./{entry}");
    let is_game = move |ctx: Ctx<'js>, game: Value<'js>| -> rquickjs::Result<bool> {
        Ok(game.as_object().is_some_and(|game| import(&ctx, &own).is_ok_and(|own| *game == own)))
    };
    object.set("isGame", Function::new(ctx.clone(), is_game)?)?;
    let seed = Rc::clone(&host.seed);
    object.set("seed", Function::new(ctx.clone(), move || seed.get() as f64)?)?;
    let tests = Rc::clone(tests);
    let add = move |ctx: Ctx<'js>, name: String, body: Function<'js>| {
        tests.borrow_mut().push((name, Persistent::save(&ctx, body)));
    };
    object.set("add", Function::new(ctx.clone(), add)?)?;
    let shared = host.clone();
    let create = move |ctx: Ctx<'js>, seed: f64, players: usize, loss: u16, delay: f64, jitter: f64| {
        let simulations = &mut *shared.simulations.borrow_mut();
        if simulations.len() >= SIMULATIONS {
            return Err(Exception::throw_range(&ctx, "a test may have 1,000 simulations"));
        }
        if !(1..=limits::PLAYERS_PER_ROOM_MAX).contains(&players) {
            return Err(Exception::throw_range(&ctx, "maxPlayers is a number from 1 to 1024"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the module checks it")]
        let seed = seed as u64;
        simulations.push(simulation(&shared, seed, players, loss, delay, jitter));
        Ok(simulations.len() - 1)
    };
    object.set("create", Function::new(ctx.clone(), create)?)?;

    macro_rules! function {
        ($name:literal, |$ctx:ident, $sim:ident $(, $argument:ident: $type:ty)*| $body:expr) => {{
            let shared = host.clone();
            let function = move |$ctx: Ctx<'js>, sim: usize $(, $argument: $type)*| {
                let simulations = &mut *shared.simulations.borrow_mut();
                let Some($sim) = simulations.get_mut(sim) else {
                    return Err(Exception::throw_type(&$ctx, "the simulation is of another test"));
                };
                $body
            };
            object.set($name, Function::new(ctx.clone(), function)?)?;
        }};
    }
    let shared = host.clone();
    let run = move |ctx: Ctx<'js>, sim: usize, ms: f64| {
        if let Some(sim) = shared.simulations.borrow_mut().get_mut(sim) {
            sim.run(Duration::from_secs_f64(ms / 1e3));
        }
        look_for_failures(&ctx, &shared)
    };
    object.set("run", Function::new(ctx.clone(), run)?)?;
    function!("now", |_ctx, sim| Ok(sim.elapsed().as_secs_f64() * 1e3));
    function!("join", |ctx, sim, room: String, name: String, data: String| {
        let data = serde_json::from_str(&data).map_err(|error| Exception::throw_type(&ctx, &error.to_string()))?;
        let client = sim.join_with(&room, |config| {
            config.name = name;
            config.data = data;
        });
        Ok(sim.clients().position(|other| other == client).unwrap_or_default())
    });
    function!("network", |ctx, sim, client: usize, loss: u16, delay: f64, jitter: f64| {
        let client = client_of(&ctx, sim, client)?;
        sim.set_path(client, path(loss, delay, jitter));
        Ok(())
    });
    function!("leave", |ctx, sim, client: usize| {
        let client = client_of(&ctx, sim, client)?;
        sim.leave(client);
        Ok(())
    });
    function!("disconnect", |ctx, sim, client: usize| {
        let client = client_of(&ctx, sim, client)?;
        sim.break_websocket(client);
        Ok(())
    });
    function!("send", |ctx, sim, client: usize, input: Value<'js>| {
        let client = client_of(&ctx, sim, client)?;
        let (now, input) = (sim.now(), encoded(&ctx, &input, limits::INPUT_BYTES)?);
        sim[client].client.send_encoded(now, &input).map_err(|error| unsent(&ctx, &error))
    });
    function!("command", |ctx, sim, client: usize, command: Value<'js>| {
        let client = client_of(&ctx, sim, client)?;
        let (now, command) = (sim.now(), encoded(&ctx, &command, limits::RELIABLE_UP_BYTES)?);
        sim[client].client.command_encoded(now, &command).map_err(|error| unsent(&ctx, &error))
    });
    function!("isOpen", |ctx, sim, client: usize| Ok(sim[client_of(&ctx, sim, client)?].client.is_open()));
    function!("player", |ctx, sim, client: usize| {
        let events = &sim[client_of(&ctx, sim, client)?].events;
        Ok(events.iter().rev().find_map(|(_, event)| match event {
            Event::Joined { player, .. } => Some(*player),
            _ => None,
        }))
    });
    function!("welcome", |ctx, sim, client: usize| {
        let events = &sim[client_of(&ctx, sim, client)?].events;
        let welcome = events.iter().rev().find_map(|(_, event)| match event {
            Event::Joined { welcome, .. } => Some(welcome),
            _ => None,
        });
        welcome.map(|welcome| from_json(&ctx, welcome)).transpose()
    });
    function!("over", |ctx, sim, client: usize| {
        let events = &sim[client_of(&ctx, sim, client)?].events;
        Ok(events.iter().find_map(|(_, event)| match event {
            Event::Refused { message, .. } => Some(message.clone()),
            Event::Closed { reason, .. } => Some(reason.clone()),
            _ => None,
        }))
    });
    function!("consumed", |ctx, sim, client: usize| {
        let events = &sim[client_of(&ctx, sim, client)?].events;
        Ok(events.iter().rev().find_map(|(_, event)| match event {
            Event::State { consumed, .. } => Some(*consumed),
            _ => None,
        }))
    });
    function!("state", |ctx, sim, client: usize| {
        let events = &sim[client_of(&ctx, sim, client)?].events;
        let newest = events.iter().rev().find_map(|(_, event)| match event {
            Event::State { value, .. } => Some(value),
            _ => None,
        });
        newest.map(|value| decoded(&ctx, value)).transpose()
    });
    function!("states", |ctx, sim, client: usize| {
        let events = &sim[client_of(&ctx, sim, client)?].events;
        let states = events.iter().filter_map(|(_, event)| match event {
            Event::State { tick, value, .. } => Some((*tick, value)),
            _ => None,
        });
        pairs(&ctx, states)
    });
    function!("events", |ctx, sim, client: usize| {
        let events = &sim[client_of(&ctx, sim, client)?].events;
        let events = events.iter().filter_map(|(_, event)| match event {
            Event::Event { tick, value, .. } => Some((*tick, value)),
            _ => None,
        });
        pairs(&ctx, events)
    });
    function!("game", |ctx, sim, room: String| {
        let Some(game) = sim.game(&room) else { return Ok(None) };
        match game.saved() {
            Ok(saved) => decoded(&ctx, &saved).map(Some),
            Err(why) => Err(Exception::throw_type(&ctx, &format!("the game can't be saved: {why}"))),
        }
    });
    Ok(object)
}

fn simulation(host: &Host, seed: u64, players: usize, loss: u16, delay: f64, jitter: f64) -> Simulation<Script> {
    let (failed, tick) = (Rc::clone(&host.failed), host.tick);
    let scripts = Scripts::new(host.program.clone(), move |report| {
        let mut first = failed.borrow_mut();
        if first.is_none() {
            first.clone_from(&report.failure);
        }
    });
    let mut sim = Simulation::with_config(
        seed,
        |config| {
            config.max_players = players;
            config.tick = tick.unwrap_or(config.tick);
        },
        move |room| scripts.create(room),
    );
    sim.set_paths(move || path(loss, delay, jitter));
    sim
}

fn path(loss: u16, delay_ms: f64, jitter_ms: f64) -> Path {
    let ms = |ms: f64| Duration::from_secs_f64(ms / 1e3);
    let mut path = Path::new(ms(delay_ms));
    if jitter_ms > 0.0 {
        path = path.with(&Node::Jitter(ms(jitter_ms)));
    }
    if loss > 0 { path.with(&Node::Loss { permille: loss }) } else { path }
}

fn client_of(ctx: &Ctx<'_>, sim: &Simulation<Script>, client: usize) -> rquickjs::Result<ClientId> {
    sim.clients().nth(client).ok_or_else(|| Exception::throw_type(ctx, "the player is of another simulation"))
}

fn encoded<'js>(ctx: &Ctx<'js>, value: &Value<'js>, most: usize) -> rquickjs::Result<Vec<u8>> {
    encode(value, most, limits::MSGPACK_DEPTH).map_err(|stop| stop.throw(ctx))
}

fn unsent(ctx: &Ctx<'_>, error: &SendError) -> rquickjs::Error {
    Exception::throw_range(ctx, &error.to_string())
}

fn decoded<'js>(ctx: &Ctx<'js>, mut value: &[u8]) -> rquickjs::Result<Value<'js>> {
    from_plain(ctx, &rmpv::decode::read_value(&mut value).unwrap_or(Plain::Nil))
}

fn pairs<'js, 'v>(
    ctx: &Ctx<'js>,
    values: impl Iterator<Item = (u32, &'v Vec<u8>)>,
) -> rquickjs::Result<rquickjs::Array<'js>> {
    let array = rquickjs::Array::new(ctx.clone())?;
    for (at, (tick, value)) in values.enumerate() {
        let pair = rquickjs::Array::new(ctx.clone())?;
        pair.set(0, tick.into_js(ctx)?)?;
        pair.set(1, decoded(ctx, value)?)?;
        array.set(at, pair)?;
    }
    Ok(array)
}
