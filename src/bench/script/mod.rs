//! Scenario files: what load there is, and what each virtual user does. They read like those of Artillery.
//!
//! ```yaml
//! config:
//!   target: http://localhost:8080
//!   phases:
//!     - { name: ramp, duration: 30s, arrivalRate: 1, rampTo: 10 }
//! scenarios:
//!   - name: steer
//!     flow:
//!       - join: { room: "room-{{ $randomNumber(1, 8) }}" }
//!       - loop:
//!           - send: ["{{ $randomNumber(-100, 100) }}", 0, false]
//!             measure: echo
//!         duration: 20s
//!         pacing: fixed
//!         every: 33ms
//!       - leave
//! ```
//!
//! A duration is a number of seconds, or a text such as `500ms`, `30s`, `2m`, `1.5 hours`; at most 100 days. A rate is
//! at most 100,000 per second. A file has at most 1 MiB and 10,000 steps, loops are at most 16 deep. What is unknown,
//! missing or out of range is an error with line and column.
//!
//! | key | value | without it |
//! |---|---|---|
//! | `config.target` | URL of the server; `-t` goes before it | `-t` has to say it |
//! | `config.phases[]` | one of the following, and `name`, `maxVusers` (users at once; who comes past it is not let in) | an error |
//! | … `duration`, `arrivalRate`, `rampTo` | users per second, from one rate evenly to the other | `rampTo`: the same rate; `arrivalRate`: 0 |
//! | … `duration`, `arrivalCount` | so many users, evenly over that time | |
//! | … `pause` | a duration in which nobody comes | |
//! | `config.environments.NAME` | whatever `config` may have; maps are merged, all else replaces, with `-e NAME` | |
//! | `config.variables.NAME` | a value, or a list, of which each user gets one | |
//! | `config.payload` | a CSV file or a list of them: `path` (from the scenario file's directory), `fields` | |
//! | … `order` | `sequence`, or `random` | `random` |
//! | … `skipHeader` | whether the first line is no row | `false` |
//! | … `delimiter` | one character of ASCII | `,` |
//! | `config.timeout`, `config.http.timeout` | how long an answer may take | 10 s |
//! | `config.tls.rejectUnauthorized` | `false` takes any certificate of the server, as `-k` does | `true` |
//! | `config.rtc.netem` | what is done to datagrams each way: `loss` (percent, as `5` or `5%`), `delay`, `jitter` (at most 10 s) | nothing |
//! | `config.ensure`, `config.plugins.ensure` | what must hold at the end: | |
//! | … `thresholds[]` | `METRIC: NUMBER`: less than that; times are milliseconds | |
//! | … `conditions[]` | an expression such as `rtc.echo.p99 < 80 and vusers.failed == 0`, or `expression`, `strict`; see [`ensure`](super::ensure) | `strict`: `true` |
//! | … `maxErrorRate` | percent of users that may fail | |
//! | … `min`, `max`, `median`, `p50` … `p999` | thresholds of `http.response_time` where a scenario is of `http`, else of `rtc.echo` | |
//! | `scenarios[].name` | what reports call it; each once | `scenario N` |
//! | `scenarios[].weight` | its share of the users | 1 |
//! | `scenarios[].engine` | `rtc` (a player of rtcade), `ws` (text messages over a websocket), `http`, `geckos` (a client of geckos.io 3); all but `rtc` connect with the first step that needs it | `rtc`: that is what this tool is for |
//! | `scenarios[].flow[]` | steps: | an error |
//! | `think` | a duration, a template of one, or a range of two: `500ms-2s` | |
//! | `log` | a text for the terminal | |
//! | `loop` | steps, with one of `count`, `over`, `duration` | |
//! | … `over` | a list, or the name of a variable: its list; `loopElement` names the variable that gets each | `$loopElement` |
//! | … `pacing: fixed`, `every` | each round begins so long after the one before it, however long that took | one after the other |
//! | `join` (rtc, first) | a room, or `room`, `name`, `data` (for the game), `bearer` (a token) | `room`: the target's |
//! | `send` (rtc, ws, geckos) | an input of the game; for ws and geckos a message, where it is no text as JSON. For geckos.io `{ chat: hi }` is the event `chat`, and a text a raw message | |
//! | `command` (rtc) | a command of the game | |
//! | … `measure: echo` | takes the time until the server has answered it; of a `replay`, of its inputs | |
//! | `expect` (rtc) | `state`, `event`, or `event: VALUE` | |
//! | `expect` (ws, geckos) | `text`, or `text: TEXT` | |
//! | … `within` | how long that may take | the timeout |
//! | `reconnect`, `leave` (all but http) | breaks the connection and comes back; goes | |
//! | `replay` (rtc) | a recording (of `rtcade --record`): inputs and commands of one of its players are sent when they were, counted from that player's coming. The nth user plays the nth player who sent anything, and again from the first | |
//! | … `speed` | so many times as fast, 0.01 to 1,000; a room takes 8 inputs of a player per tick | 1 |
//! | `get`, `post` (http) | a URL or path, or `url`, `headers`, and of `post` `json` | |
//!
//! Texts of steps are templates: `{{ name }}` is a variable, a field of the payload, or within a loop `$loopCount`
//! (from 1) and `$loopElement`; `{{ name.field }}` is a field of a variable that is a map. `{{ $randomString(10) }}`,
//! `{{ $randomNumber(1, 6) }}` (both included) and `{{ $uuid }}` are drawn; `{{ $environment }}` is what `-e` names,
//! `{{ $environment.HOME }}` (or `$env.HOME`) a variable of the process. A text that is one place and nothing else
//! becomes the value itself: `"{{ $randomNumber(1, 6) }}"` is a number. The target may have the environment's in it.

pub mod arrivals;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod payload;
mod read;
mod recording;
mod template;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

pub use self::payload::{Order, Payload};
pub use self::recording::{Recording, Said};
pub use self::template::{Span, Template, Variables};
use super::ensure::Condition;

/// The longest duration there may be.
pub const LONGEST: Duration = Duration::from_secs(100 * 24 * 3_600);
/// The highest rate, in users per second.
pub const MAX_RATE: f64 = 100_000.0;
/// Bytes of a scenario file.
pub const FILE_BYTES: usize = 1024 * 1024;
/// Steps of all scenarios of a file, those in loops included.
pub const STEPS: usize = 10_000;
/// Loops in each other.
pub const LOOPS: usize = 16;

/// What is wrong with a scenario file, and where, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ScriptError {}

/// What the command line changes in a file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The environment of the file that is chosen.
    pub environment: Option<String>,
    /// Variables, as a JSON object; they go before those of the file.
    pub variables: Option<String>,
    /// JSON that is merged into the file before it is read: maps are merged, all else replaces.
    pub file: Option<String>,
    /// Where the payload is instead.
    pub payload: Option<PathBuf>,
    /// URL of the server instead.
    pub target: Option<String>,
    /// The only scenario that is played.
    pub scenario: Option<String>,
    /// The process's environment, which templates may name.
    pub process: BTreeMap<String, String>,
}

/// A scenario file, read and checked.
#[derive(Clone, Debug)]
pub struct Script {
    /// What load there is.
    pub config: Config,
    /// What users do; at least one, and one of a weight above zero.
    pub scenarios: Vec<Scenario>,
}

impl Script {
    /// Reads a file, and those it names: payloads and recordings.
    ///
    /// # Errors
    /// As [`Script::parse`] has them, and where a file can't be read.
    pub fn read(path: &Path, overrides: &Overrides) -> Result<Script, ScriptError> {
        let mut text = String::new();
        payload::open(path, FILE_BYTES as u64)
            .and_then(|mut file| file.read_to_string(&mut text))
            .map_err(|error| ScriptError(format!("it can't be read: {error}")))?;
        let mut script = Script::parse(&text, overrides)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        for payload in &mut script.config.payloads {
            payload.load(directory).map_err(ScriptError)?;
        }
        for scenario in &mut script.scenarios {
            load_recordings(&mut scenario.flow, directory).map_err(ScriptError)?;
        }
        Ok(script)
    }

    /// Reads the text of a file and no other file: payloads have no rows, and recordings nobody in them.
    ///
    /// # Errors
    /// Where something is unknown, missing or out of range, or it is no YAML: with line and column, and what comes
    /// closest to an unknown name.
    pub fn parse(text: &str, overrides: &Overrides) -> Result<Script, ScriptError> {
        read::script(text, overrides).map_err(ScriptError)
    }
}

fn load_recordings(steps: &mut [Step], directory: &Path) -> Result<(), String> {
    for step in steps {
        match step {
            Step::Replay { recording, .. } => recording.load(directory)?,
            Step::Loop { steps, .. } => load_recordings(steps, directory)?,
            _ => {}
        }
    }
    Ok(())
}

/// What load there is.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL of the server.
    pub target: Option<String>,
    /// When users come; at least one.
    pub phases: Vec<Phase>,
    /// Files of which each user gets a row.
    pub payloads: Vec<Payload>,
    /// Of each, every user gets one value.
    pub variables: BTreeMap<String, Vec<Value>>,
    /// What must hold at the end.
    pub ensure: Vec<Condition>,
    /// What is done to datagrams.
    pub netem: Netem,
    /// Whether any certificate of the server is taken.
    pub insecure: bool,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl Config {
    /// What this user's templates are filled with: the row of each payload and a value of each variable, drawn.
    #[must_use]
    pub fn variables_of(&self, user: u64, seed: u64) -> Variables {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(user);
        let mut variables = Variables::new(rng);
        for (name, values) in &self.variables {
            let drawn = variables.pick(values.len());
            variables.set(name, values.get(drawn).cloned().unwrap_or_default());
        }
        for payload in &self.payloads {
            payload.set(user, &mut variables);
        }
        variables
    }
}

/// A time in which users come in one way.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// What reports call it.
    pub name: Option<String>,
    /// Above zero.
    pub duration: Duration,
    /// How they come.
    pub load: Load,
    /// Users that may be there at once.
    pub max_vusers: Option<u32>,
}

/// How users come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Not at all.
    Pause,
    /// So many per second, evenly from one rate to the other; from 0 to [`MAX_RATE`].
    Rate {
        /// At the begin.
        from: f64,
        /// At the end.
        to: f64,
    },
    /// So many, evenly.
    Count(u32),
}

/// What is done to the datagrams of each user, each way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Netem {
    /// The share that is lost, from 0 to 1.
    pub loss: f64,
    /// How much later all arrive.
    pub delay: Duration,
    /// How much later still they arrive, at most; each draws it anew.
    pub jitter: Duration,
}

/// What a user does.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What reports call it.
    pub name: String,
    /// Its share of the users.
    pub weight: u32,
    /// How users speak with the server.
    pub engine: Engine,
    /// What they do, one after the other; only steps that the engine has.
    pub flow: Vec<Step>,
}

/// How users speak with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// As players of rtcade.
    Rtc,
    /// By text messages over a websocket.
    Ws,
    /// By requests.
    Http,
    /// As players of geckos.io.
    Geckos,
}

impl Engine {
    /// As files name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Engine::Rtc => "rtc",
            Engine::Ws => "ws",
            Engine::Http => "http",
            Engine::Geckos => "geckos",
        }
    }
}

/// One thing that a user does. Texts in values may be templates.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Waits.
    Think(Span),
    /// Says something to whoever runs the test.
    Log(Template),
    /// Does the steps again and again. The variable `$loopCount` counts the rounds from 1.
    Loop {
        /// How often.
        times: Times,
        /// How fast.
        pacing: Pacing,
        /// What.
        steps: Vec<Step>,
    },
    /// Joins a room.
    Join {
        /// The room, where it isn't the target's.
        room: Option<Template>,
        /// The player's name.
        name: Option<Template>,
        /// For the game.
        data: Value,
        /// A token.
        bearer: Option<Template>,
    },
    /// Sends an input of the game, or with `ws` and `geckos` a message.
    Send {
        /// What.
        value: Value,
        /// What is measured of it.
        measure: Option<Measure>,
    },
    /// Sends a command of the game.
    Command {
        /// What.
        value: Value,
        /// What is measured of it.
        measure: Option<Measure>,
    },
    /// Waits for something, without which the user has failed.
    Expect {
        /// For what.
        what: Expected,
        /// For how long.
        within: Duration,
    },
    /// Breaks the connection and comes back.
    Reconnect,
    /// Goes.
    Leave,
    /// Asks over HTTP.
    Request {
        /// How.
        method: Method,
        /// A whole URL, or a path of the target.
        url: Template,
        /// The body.
        json: Option<Value>,
        /// Names and values.
        headers: Vec<(String, Template)>,
    },
    /// Sends what one player of a recording sent.
    Replay {
        /// The recording.
        recording: Recording,
        /// How many times as fast; above zero.
        speed: f64,
        /// What is measured of the inputs.
        measure: Option<Measure>,
    },
}

/// How often a loop goes round.
#[derive(Clone, Debug, PartialEq)]
pub enum Times {
    /// So often; above zero.
    Count(u64),
    /// Once for each of these.
    Over {
        /// The variable that has it then.
        variable: String,
        /// At least one.
        values: Vec<Value>,
    },
    /// No round begins later than so long after the first.
    For {
        /// So long.
        duration: Duration,
    },
}

/// When a loop's next round begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// When the one before it ends.
    Free,
    /// So long after the begin of the one before it, whenever that ends; above zero.
    Fixed(Duration),
}

/// What is measured of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The time until the server has answered it.
    Echo,
}

/// What a user waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// The next state.
    State,
    /// The next event, or that one.
    Event(Option<Value>),
    /// The next message, or that one.
    Text(Option<Template>),
}

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
}

#[cfg(test)]
mod tests;
