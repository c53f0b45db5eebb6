//! Scenario files: the load of a run, and the steps of each virtual user. The format is close to Artillery's.
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
//! at most 100,000 per second. A file may have at most 1 MiB and 10,000 steps; loops may be nested 16 deep. Unknown,
//! missing and out-of-range values are errors with line and column.
//!
//! | key | value | default |
//! |---|---|---|
//! | `config.target` | URL of the server; `-t` overrides it | none: set it with `-t` |
//! | `config.phases[]` | one of the following, and `name`, `maxVusers` (active users; further arrivals are skipped) | required |
//! | … `duration`, `arrivalRate`, `rampTo` | users per second, changing linearly from one rate to the other | `rampTo`: the same rate; `arrivalRate`: 0 |
//! | … `duration`, `arrivalCount` | this number of users, spread evenly | |
//! | … `pause` | a duration without arrivals | |
//! | `config.environments.NAME` | anything that `config` may contain, used with `-e NAME`; maps are merged, other values replaced | |
//! | `config.variables.NAME` | a value, or a list of which each user gets one | |
//! | `config.payload` | a CSV file or a list of them: `path` (relative to the scenario file), `fields` | |
//! | … `order` | `sequence` or `random` | `random` |
//! | … `skipHeader` | whether to skip the first line | `false` |
//! | … `delimiter` | one ASCII character | `,` |
//! | `config.timeout`, `config.http.timeout` | the timeout of an answer | 10 s |
//! | `config.tls.rejectUnauthorized` | `false` accepts any certificate of the server, like `-k` | `true` |
//! | `config.rtc.netem` | impairment of datagrams in each direction: `loss` (percent, `5` or `5%`), `delay`, `jitter` (at most 10 s) | none |
//! | `config.ensure`, `config.plugins.ensure` | checks at the end of the run: | |
//! | … `thresholds[]` | `METRIC: NUMBER`: the metric must be less; times are in milliseconds | |
//! | … `conditions[]` | an expression such as `rtc.echo.p99 < 80 and vusers.failed == 0`, or `expression`, `strict`; see [`ensure`](super::ensure) | `strict`: `true` |
//! | … `maxErrorRate` | the percentage of users that may fail | |
//! | … `min`, `max`, `median`, `p50` … `p999` | thresholds of `http.response_time` if a scenario uses `http`, otherwise of `rtc.echo` | |
//! | `scenarios[].name` | the name in reports; unique | `scenario N` |
//! | `scenarios[].weight` | the relative number of users | 1 |
//! | `scenarios[].engine` | `rtc` (a player of rtcade), `ws` (text messages over a websocket), `http`, `geckos` (a client of geckos.io 3); all but `rtc` connect at the first step that needs a connection | `rtc` |
//! | `scenarios[].flow[]` | the steps: | required |
//! | `think` | a pause: a duration, a template of one, or a range: `500ms-2s` | |
//! | `log` | a text to print on the terminal | |
//! | `loop` | steps, with one of `count`, `over`, `duration` | |
//! | … `over` | a list, or the name of a variable with a list; `loopElement` names the variable for the element | `$loopElement` |
//! | … `pacing: fixed`, `every` | starts the rounds at this interval, however long each takes | one after the other |
//! | `join` (rtc, first) | a room, or `room`, `name`, `data` (for the game), `bearer` (a token) | `room`: that of the target |
//! | `send` (rtc, ws, geckos) | an input of the game; for ws and geckos a message, as JSON unless it is a text. For geckos.io `{ chat: hi }` is the event `chat`, and a text a raw message | |
//! | `command` (rtc) | a command of the game | |
//! | … `measure: echo` | measures the time until the server's answer; of a `replay`, for its inputs | |
//! | `expect` (rtc) | waits for `state`, `event`, or `event: VALUE` | |
//! | `expect` (ws, geckos) | waits for `text`, or `text: TEXT` | |
//! | … `within` | the timeout | that of `config` |
//! | `reconnect`, `leave` (all but http) | breaks the connection and reconnects; leaves | |
//! | `replay` (rtc) | a recording (of `rtcade --record`): sends the inputs and commands of one of its players at their recorded times, relative to that player's join. The nth user plays the nth player with any input, starting over after the last | |
//! | … `speed` | the speed, 0.01 to 1,000; a room takes 8 inputs of a player per tick | 1 |
//! | `get`, `post` (http) | a URL or path, or `url`, `headers`, and for `post` `json` | |
//!
//! Texts of steps are templates: `{{ name }}` is a variable, a field of the payload, or within a loop `$loopCount`
//! (from 1) and `$loopElement`; `{{ name.field }}` is a field of a variable that is a map. `{{ $randomString(10) }}`,
//! `{{ $randomNumber(1, 6) }}` (both included) and `{{ $uuid }}` are random; `{{ $environment }}` is the argument of
//! `-e`, `{{ $environment.HOME }}` (or `$env.HOME`) a variable of the process. A text that consists of a single
//! placeholder becomes its value: `"{{ $randomNumber(1, 6) }}"` is a number. The target may use variables of the
//! process.

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

/// The maximum of a duration.
pub const LONGEST: Duration = Duration::from_secs(100 * 24 * 3_600);
/// The maximum of a rate, in users per second.
pub const MAX_RATE: f64 = 100_000.0;
/// Maximum bytes of a scenario file.
pub const FILE_BYTES: usize = 1024 * 1024;
/// Maximum number of steps of all scenarios in a file, including those in loops.
pub const STEPS: usize = 10_000;
/// Maximum nesting of loops.
pub const LOOPS: usize = 16;

/// An error in a scenario file and its place, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ScriptError {}

/// Changes to a file by the command line.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The environment of the file to use.
    pub environment: Option<String>,
    /// Variables as a JSON object; they override those of the file.
    pub variables: Option<String>,
    /// JSON to merge into the file: maps are merged, other values replaced.
    pub file: Option<String>,
    /// The file to use as the payload.
    pub payload: Option<PathBuf>,
    /// The URL of the server, instead of the file's target.
    pub target: Option<String>,
    /// The only scenario to run.
    pub scenario: Option<String>,
    /// The environment variables of the process, for templates.
    pub process: BTreeMap<String, String>,
}

/// A scenario file, read and checked.
#[derive(Clone, Debug)]
pub struct Script {
    /// The load.
    pub config: Config,
    /// The scenarios: at least one, and at least one with a weight above zero.
    pub scenarios: Vec<Scenario>,
}

impl Script {
    /// Reads a file and the payloads and recordings that it names.
    ///
    /// # Errors
    /// As for [`Script::parse`], or if a file can't be read.
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

    /// Parses the text of a file without reading others: payloads have no rows, recordings no players.
    ///
    /// # Errors
    /// The text is not valid YAML, or a key or value is unknown, missing or out of range. The error names line and
    /// column, and the most similar known name.
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

/// The load of a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The URL of the server.
    pub target: Option<String>,
    /// The phases; at least one.
    pub phases: Vec<Phase>,
    /// Files of which each user gets a row.
    pub payloads: Vec<Payload>,
    /// The variables; each user gets one value of each.
    pub variables: BTreeMap<String, Vec<Value>>,
    /// The checks at the end.
    pub ensure: Vec<Condition>,
    /// The impairment of datagrams.
    pub netem: Netem,
    /// Whether any certificate of the server is accepted.
    pub insecure: bool,
    /// The timeout of an answer.
    pub timeout: Duration,
}

impl Config {
    /// Returns the values for a user's templates: a row of each payload and a value of each variable.
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

/// A period with a uniform or linear arrival rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// The name in reports.
    pub name: Option<String>,
    /// The length, above zero.
    pub duration: Duration,
    /// The arrivals.
    pub load: Load,
    /// The maximum number of active users.
    pub max_vusers: Option<u32>,
}

/// The arrivals of a phase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// No arrivals.
    Pause,
    /// A rate in users per second that changes linearly; from 0 to [`MAX_RATE`].
    Rate {
        /// The rate at the start.
        from: f64,
        /// The rate at the end.
        to: f64,
    },
    /// A number of users, spread evenly.
    Count(u32),
}

/// The impairment of each user's datagrams, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Netem {
    /// The fraction that is lost, from 0 to 1.
    pub loss: f64,
    /// The delay of every datagram.
    pub delay: Duration,
    /// The maximum additional delay, drawn for each datagram.
    pub jitter: Duration,
}

/// The behaviour of a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The name in reports.
    pub name: String,
    /// The relative number of users.
    pub weight: u32,
    /// The protocol of the users.
    pub engine: Engine,
    /// The steps in order; only those that the engine supports.
    pub flow: Vec<Step>,
}

/// The protocol of virtual users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Players of rtcade.
    Rtc,
    /// Text messages over a websocket.
    Ws,
    /// HTTP requests.
    Http,
    /// Players of geckos.io.
    Geckos,
}

impl Engine {
    /// Returns the name in scenario files.
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

/// A step of a user. Texts in values may be templates.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Waits.
    Think(Span),
    /// Prints a text on the terminal.
    Log(Template),
    /// Repeats steps. The variable `$loopCount` counts the rounds from 1.
    Loop {
        /// The number of rounds.
        times: Times,
        /// The pacing of the rounds.
        pacing: Pacing,
        /// The steps.
        steps: Vec<Step>,
    },
    /// Joins a room.
    Join {
        /// The room, if it is not that of the target.
        room: Option<Template>,
        /// The display name.
        name: Option<Template>,
        /// The data for the game.
        data: Value,
        /// The bearer token.
        bearer: Option<Template>,
    },
    /// Sends an input of the game, or a message with `ws` and `geckos`.
    Send {
        /// The input or message.
        value: Value,
        /// The measurement.
        measure: Option<Measure>,
    },
    /// Sends a command of the game.
    Command {
        /// The command.
        value: Value,
        /// The measurement.
        measure: Option<Measure>,
    },
    /// Waits for something; if it does not arrive, the user has failed.
    Expect {
        /// The expected message.
        what: Expected,
        /// The timeout.
        within: Duration,
    },
    /// Breaks the connection and reconnects.
    Reconnect,
    /// Leaves.
    Leave,
    /// Sends an HTTP request.
    Request {
        /// The method.
        method: Method,
        /// A URL, or a path of the target.
        url: Template,
        /// The body.
        json: Option<Value>,
        /// The headers.
        headers: Vec<(String, Template)>,
    },
    /// Sends the inputs and commands of one player of a recording.
    Replay {
        /// The recording.
        recording: Recording,
        /// The speed, above zero.
        speed: f64,
        /// The measurement for the inputs.
        measure: Option<Measure>,
    },
}

/// The number of rounds of a loop.
#[derive(Clone, Debug, PartialEq)]
pub enum Times {
    /// A fixed number, above zero.
    Count(u64),
    /// One for each value.
    Over {
        /// The variable for the value.
        variable: String,
        /// The values; at least one.
        values: Vec<Value>,
    },
    /// Rounds start within this time after the first.
    For {
        /// The duration.
        duration: Duration,
    },
}

/// The pacing of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// A round starts when the last one ends.
    Free,
    /// Rounds start at this interval, above zero, however long each takes.
    Fixed(Duration),
}

/// The measurement of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The time until the server's answer.
    Echo,
}

/// A message that a user waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// The next state.
    State,
    /// The next event, or the next with this value.
    Event(Option<Value>),
    /// The next message, or the next with this text.
    Text(Option<Template>),
}

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
}

#[cfg(test)]
mod tests;
