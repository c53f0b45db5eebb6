//! A virtual user: runs the steps of a scenario in order.

mod geckos;
mod http;
mod rtc;
mod udp;
mod ws;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Registry, Token};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use self::geckos::Geckos;
use self::http::Http;
use self::rtc::Rtc;
use self::ws::Ws;
use super::http::Request;
use super::meters::{Count, Meters, Time};
use super::redirects::Servers;
use super::script::{Engine, Expected, Pacing, Said, Script, Step, Times, Variables};
use super::stats::Who;
use super::target::Target;

/// Steps per turn before others have theirs.
const STEPS_PER_TURN: usize = 64;
/// Maximum `log` texts of a thread between two handovers.
const SAID: usize = 100;
/// How long a user who leaves waits for the server to close the connection.
const GOODBYE: Duration = Duration::from_secs(2);

/// Measured messages of a user in transit; the oldest is discarded for the next.
const ECHOES: usize = 4096;

/// The data shared by the users of a thread.
pub(super) struct Thread<'s> {
    pub(super) script: &'s Script,
    pub(super) target: &'s Target,
    pub(super) servers: Arc<Servers>,
    pub(super) seed: u64,
    pub(super) begun: Instant,
    pub(super) registry: Rc<Registry>,
    pub(super) meters: Meters,
    /// The buffer for received data.
    pub(super) buffer: Box<[u8]>,
    /// The output of `log` steps since the last handover.
    pub(super) said: Vec<String>,
}

impl Thread<'_> {
    /// Returns the seed of a user's client.
    fn seed_of(&self, user: u64) -> [u8; 32] {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(user);
        rng.random()
    }

    /// Sends a request to the target.
    fn ask(&self, http: &mut super::http::Http, request: &Request) -> Result<(), &'static str> {
        http.ask(&self.registry, self.target, request)
    }
}

/// A user's turn: its time, and the destinations of measurements and events.
struct Turn<'t, 's> {
    now: Instant,
    who: Who,
    thread: &'t mut Thread<'s>,
    happened: &'t mut Vec<Happened>,
}

impl Turn<'_, '_> {
    fn at(&self) -> Duration {
        self.now.saturating_duration_since(self.thread.begun)
    }

    fn add(&mut self, what: Count, count: u64) {
        self.thread.meters.add(self.at(), self.who, what, count);
    }

    fn record(&mut self, what: Time, took: Duration) {
        self.thread.meters.record(self.at(), self.who, what, took);
    }

    /// Records the time since `then`.
    fn record_since(&mut self, what: Time, then: Instant) {
        self.record(what, self.now.saturating_duration_since(then));
    }

    /// Increments a counter with a name of its own.
    fn count(&mut self, name: &str) {
        self.thread.meters.count(self.at(), self.who, name);
    }

    fn tell(&mut self, happened: Happened) {
        self.happened.push(happened);
    }
}

/// An event of an engine for the steps.
enum Happened {
    /// The event that [`Wait::Engine`] waits for.
    Done,
    State,
    /// One msgpack value.
    Event(Vec<u8>),
    Text(String),
    /// The user can't continue; the name of the error.
    Failed(String),
    /// The server closed the connection.
    Gone,
}

/// What the next step waits for besides its time.
enum Wait<'s> {
    /// Nothing.
    None,
    /// An event of the engine, with a timeout.
    Engine { until: Instant },
    /// A message of the server, with a timeout.
    Expect { what: &'s Expected, wanted: Option<Value>, until: Instant },
    /// The end of the connection after the flow, with a timeout.
    Goodbye { until: Instant },
}

/// A list of steps being run.
struct Level<'s> {
    steps: &'s [Step],
    next: usize,
    repeat: Option<Repeat<'s>>,
}

struct Repeat<'s> {
    times: &'s Times,
    pacing: &'s Pacing,
    /// Intended.
    began: Instant,
    turn_began: Instant,
    turns: u64,
}

/// A player's messages from a recording being sent.
struct Recital<'s> {
    left: &'s [Said],
    speed: f64,
    is_measured: bool,
    /// Intended.
    began: Instant,
}

impl Recital<'_> {
    /// Returns when the next message is due.
    fn next_at(&self) -> Option<Instant> {
        self.left.first().map(|said| self.began + said.at.div_f64(self.speed))
    }
}

enum Connection {
    Rtc(Box<Rtc>),
    Ws(Box<Ws>),
    Http(Box<Http>),
    Geckos(Box<Geckos>),
    None,
}

/// The result of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Completed,
    Failed,
}

pub(super) struct User<'s> {
    number: u64,
    token: Token,
    who: Who,
    born: Instant,
    variables: Variables,
    engine: Engine,
    connection: Connection,
    levels: Vec<Level<'s>>,
    recital: Option<Recital<'s>>,
    wait: Wait<'s>,
    /// When the next step is due by the schedule.
    due: Instant,
    /// Whether the schedule alone determines `due`, so that lateness is the generator's fault.
    is_timed: bool,
    outcome: Option<Outcome>,
    happened: Vec<Happened>,
    /// Whether more data may wait than one turn reads.
    pub(super) has_more: bool,
}

impl<'s> User<'s> {
    /// Returns a user who arrives at `due`. `token` is that of the UDP socket, and the next that of the TCP socket.
    pub(super) fn new(number: u64, who: Who, due: Instant, token: Token, thread: &mut Thread<'s>) -> User<'s> {
        let scenario = &thread.script.scenarios[who.scenario];
        let mut happened = Vec::new();
        let mut turn = Turn { now: due, who, thread, happened: &mut happened };
        turn.add(Count::Created, 1);
        turn.count(&format!("vusers.created_by_name.{}", scenario.name));
        User {
            number,
            token,
            who,
            born: due,
            variables: thread.script.config.variables_of(number, thread.seed),
            engine: scenario.engine,
            connection: Connection::None,
            levels: vec![Level { steps: &scenario.flow, next: 0, repeat: None }],
            recital: None,
            wait: Wait::None,
            due,
            is_timed: true,
            outcome: None,
            happened,
            has_more: false,
        }
    }

    /// Returns when to call [`User::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Instant {
        let wait = match self.wait {
            Wait::None => self.due,
            Wait::Engine { until } | Wait::Expect { until, .. } | Wait::Goodbye { until } => until,
        };
        let connection = match &self.connection {
            Connection::Rtc(rtc) => rtc.poll_timeout(),
            Connection::Geckos(geckos) => geckos.poll_timeout(),
            Connection::Ws(_) | Connection::Http(_) | Connection::None => None,
        };
        connection.map_or(wait, |at| at.min(wait))
    }

    /// Returns whether the flow has ended.
    pub(super) fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// Returns whether the user is finished, including the connection.
    pub(super) fn is_gone(&self) -> bool {
        self.is_over() && matches!(self.connection, Connection::None)
    }

    /// Handles a readable or writable socket.
    pub(super) fn handle_ready(&mut self, now: Instant, is_udp: bool, thread: &mut Thread<'s>) {
        let turn = &mut Turn { now, who: self.who, thread, happened: &mut self.happened };
        self.has_more = match &mut self.connection {
            Connection::Rtc(rtc) if is_udp => rtc.handle_datagrams(turn),
            Connection::Rtc(rtc) => rtc.handle_websocket(turn),
            Connection::Ws(ws) => ws.handle_ready(turn),
            Connection::Http(http) => http.handle_ready(turn),
            Connection::Geckos(geckos) if is_udp => geckos.handle_datagrams(turn),
            Connection::Geckos(geckos) => geckos.handle_http(turn),
            Connection::None => false,
        };
        self.advance(now, thread);
    }

    /// Handles the deadline of [`User::poll_timeout`].
    pub(super) fn handle_timeout(&mut self, now: Instant, thread: &mut Thread<'s>) {
        let turn = &mut Turn { now, who: self.who, thread, happened: &mut self.happened };
        match &mut self.connection {
            Connection::Rtc(rtc) => rtc.handle_timeout(turn),
            Connection::Geckos(geckos) => geckos.handle_timeout(turn),
            Connection::Ws(_) | Connection::Http(_) | Connection::None => {}
        }
        self.advance(now, thread);
    }

    /// Stops the user at the end of the run.
    pub(super) fn stop(&mut self, now: Instant, thread: &mut Thread<'s>) {
        if !self.is_over() {
            self.say_goodbye(now, thread);
        }
        self.connection = Connection::None;
    }

    fn turn<'t>(&'t mut self, now: Instant, thread: &'t mut Thread<'s>) -> Turn<'t, 's> {
        Turn { now, who: self.who, thread, happened: &mut self.happened }
    }

    fn advance(&mut self, now: Instant, thread: &mut Thread<'s>) {
        for happened in std::mem::take(&mut self.happened) {
            self.hear(now, happened, thread);
        }
        for _ in 0..STEPS_PER_TURN {
            match &self.wait {
                Wait::None if self.due > now || self.is_over() => return,
                Wait::None => {}
                Wait::Engine { until } | Wait::Expect { until, .. } | Wait::Goodbye { until } if *until > now => return,
                Wait::Engine { .. } => return self.fail(now, "ETIMEDOUT", thread),
                Wait::Expect { .. } => return self.fail(now, "expect", thread),
                Wait::Goodbye { .. } => {
                    self.part(now);
                    continue;
                }
            }
            if std::mem::take(&mut self.is_timed) {
                let due = self.due;
                self.turn(now, thread).record_since(Time::Lateness, due);
            }
            let step = if self.recital.is_none() { self.next_step(now) } else { None };
            match step {
                Some(step) => self.take_step(now, step, thread),
                None if self.recital.is_some() => self.recite(now, thread),
                None if self.levels.is_empty() => {
                    self.finish(now, Outcome::Completed, thread);
                    return self.say_goodbye(now, thread);
                }
                // A loop waits for its next round, or for the end of the last.
                None => {}
            }
            for happened in std::mem::take(&mut self.happened) {
                self.hear(now, happened, thread);
            }
        }
        // Other users first; `due` has passed, so this continues at once.
    }

    fn hear(&mut self, now: Instant, happened: Happened, thread: &mut Thread<'s>) {
        let is_met = match (&self.wait, happened) {
            (Wait::Goodbye { .. }, Happened::Gone | Happened::Failed(_)) => return self.part(now),
            (Wait::Goodbye { .. }, _) => false,
            (_, Happened::Failed(name)) if !self.is_over() => {
                self.fail(now, &name, thread);
                false
            }
            (_, Happened::Gone) if !self.is_over() => {
                self.fail(now, "closed", thread);
                false
            }
            (Wait::Engine { .. }, Happened::Done) => true,
            (Wait::Expect { what: Expected::State, .. }, Happened::State) => true,
            (Wait::Expect { what: Expected::Event(_), wanted, .. }, Happened::Event(value)) => wanted
                .as_ref()
                .is_none_or(|wanted| rmp_serde::from_slice(&value).is_ok_and(|value: Value| value == *wanted)),
            (Wait::Expect { what: Expected::Text(_), wanted, .. }, Happened::Text(text)) => {
                wanted.as_ref().is_none_or(|wanted| wanted.as_str() == Some(&text))
            }
            _ => false,
        };
        if is_met {
            self.wait = Wait::None;
            self.due = now;
        }
    }

    /// Returns the next step; `None` if the flow has ended, or a round of a loop has to end first.
    fn next_step(&mut self, now: Instant) -> Option<&'s Step> {
        loop {
            let level = self.levels.last_mut()?;
            if let Some(step) = level.steps.get(level.next) {
                level.next += 1;
                return Some(step);
            }
            let Some(repeat) = &mut level.repeat else {
                self.levels.pop();
                continue;
            };
            repeat.turns += 1;
            if let Pacing::Fixed(pace) = repeat.pacing {
                // After a round that took too long the next starts at once.
                self.due = self.due.max(repeat.turn_began + *pace);
                self.is_timed = true;
            }
            // If a round takes no scheduled time, the clock has to end the loop.
            let at = if self.due == repeat.turn_began { self.due.max(now) } else { self.due };
            repeat.turn_began = self.due;
            if !level.steps.is_empty() && repeat.begin_turn(at, &mut self.variables) {
                level.next = 0;
            } else {
                self.levels.pop();
            }
            if self.is_timed {
                return None;
            }
        }
    }

    fn take_step(&mut self, now: Instant, step: &'s Step, thread: &mut Thread<'s>) {
        match step {
            Step::Think(span) => {
                let Some(span) = self.variables.span(span) else { return self.fail(now, "no_duration", thread) };
                self.due += span;
                self.is_timed = true;
            }
            Step::Log(template) if thread.said.len() < SAID => {
                thread.said.push(format!("user {}: {}", self.number, self.variables.fill(template)));
            }
            Step::Log(_) => {}
            Step::Loop { times, pacing, steps } => {
                let repeat = Repeat { times, pacing, began: self.due, turn_began: self.due, turns: 0 };
                if repeat.begin_turn(self.due, &mut self.variables) {
                    self.levels.push(Level { steps, next: 0, repeat: Some(repeat) });
                }
            }
            Step::Expect { what, within } => {
                let wanted = match what {
                    Expected::Event(Some(value)) => Some(self.variables.fill_value(value)),
                    Expected::Text(Some(template)) => Some(Value::String(self.variables.fill(template))),
                    _ => None,
                };
                if self.connect(now, thread) {
                    self.wait = Wait::Expect { what, wanted, until: self.due + *within };
                }
            }
            Step::Leave => self.say_goodbye(now, thread),
            Step::Replay { recording, speed, measure } => {
                let left = recording.said_by(self.number);
                self.recital = Some(Recital { left, speed: *speed, is_measured: measure.is_some(), began: self.due });
                self.wait_to_recite();
            }
            Step::Reconnect if matches!(self.connection, Connection::Ws(_) | Connection::Geckos(_)) => {
                self.connection = Connection::None;
                self.begin_to_connect(now, thread);
            }
            _ => self.take_step_of_engine(now, step, thread),
        }
    }

    /// Sends the next message of a recording.
    fn recite(&mut self, now: Instant, thread: &mut Thread<'s>) {
        let turn = &mut Turn { now, who: self.who, thread, happened: &mut self.happened };
        let said = match (&mut self.recital, &mut self.connection) {
            (Some(recital), Connection::Rtc(rtc)) => match recital.left.split_off_first() {
                Some(said) => rtc.say_again(said, recital.is_measured.then_some(self.due), turn),
                None => Ok(()),
            },
            _ => Err("not_joined"),
        };
        match said {
            Ok(()) => self.wait_to_recite(),
            Err(name) => self.fail(now, name, thread),
        }
    }

    /// Waits for the next message of the recording, or continues with the next step.
    fn wait_to_recite(&mut self) {
        match self.recital.as_ref().and_then(Recital::next_at) {
            Some(at) => {
                self.due = at;
                self.is_timed = true;
            }
            None => self.recital = None,
        }
    }

    fn take_step_of_engine(&mut self, now: Instant, step: &'s Step, thread: &mut Thread<'s>) {
        if !self.connect(now, thread) {
            return;
        }
        let until = self.due.max(now) + thread.script.config.timeout;
        let turn = &mut Turn { now, who: self.who, thread, happened: &mut self.happened };
        let taken = match (step, &mut self.connection) {
            (Step::Join { room, name, data, bearer }, Connection::None) if matches!(self.engine, Engine::Rtc) => {
                let name = name.as_ref().map(|name| self.variables.fill(name));
                let join = rtc::Join {
                    room: room.as_ref().map(|room| self.variables.fill(room)),
                    name: name.unwrap_or_else(|| format!("user-{}", self.number)),
                    data: self.variables.fill_value(data),
                    bearer: bearer.as_ref().map(|bearer| self.variables.fill(bearer)),
                };
                self.wait = Wait::Engine { until };
                Rtc::join(self.due, self.number, self.token, join, turn)
                    .map(|rtc| self.connection = Connection::Rtc(Box::new(rtc)))
            }
            (Step::Send { value, measure }, Connection::Rtc(rtc)) => {
                let value = self.variables.fill_value(value);
                let intended = measure.is_some().then_some(self.due);
                rtc.send(&value, intended, turn)
            }
            (Step::Command { value, measure }, Connection::Rtc(rtc)) => {
                let value = self.variables.fill_value(value);
                let intended = measure.is_some().then_some(self.due);
                rtc.command(value, intended, turn)
            }
            (Step::Reconnect, Connection::Rtc(rtc)) => {
                self.wait = Wait::Engine { until };
                rtc.reconnect(self.due, turn);
                Ok(())
            }
            (Step::Send { value, measure }, Connection::Ws(ws)) => {
                let text = text_of(self.variables.fill_value(value));
                ws.send(text, measure.is_some().then_some(self.due), turn);
                Ok(())
            }
            (Step::Send { value, measure }, Connection::Geckos(geckos)) => {
                let text = text_of(self.variables.fill_value(value));
                geckos.send(text, measure.is_some().then_some(self.due), turn)
            }
            (Step::Request { method, url, json, headers }, Connection::Http(http)) => {
                let request = Request {
                    method: *method,
                    url: self.variables.fill(url),
                    json: json.as_ref().map(|json| self.variables.fill_value(json)),
                    headers: headers.iter().map(|(name, value)| (name.clone(), self.variables.fill(value))).collect(),
                };
                self.wait = Wait::Engine { until };
                http.ask(self.due, &request, turn)
            }
            _ => Err("not_joined"),
        };
        if let Err(name) = taken {
            self.fail(now, name, thread);
        }
    }

    /// Connects if needed: only rtcade players join explicitly, others connect at the first step that needs it. Returns
    /// whether the step can be taken; otherwise it is taken again once connected.
    fn connect(&mut self, now: Instant, thread: &mut Thread<'s>) -> bool {
        if !matches!(self.connection, Connection::None) || self.engine == Engine::Rtc {
            return true;
        }
        let is_connected = self.begin_to_connect(now, thread);
        if let Some(level) = self.levels.last_mut().filter(|_| !is_connected) {
            level.next -= 1;
        }
        is_connected
    }

    /// Returns whether messages can be sent at once.
    fn begin_to_connect(&mut self, now: Instant, thread: &mut Thread<'s>) -> bool {
        let (due, token, number) = (self.due, self.token, self.number);
        let turn = &mut Turn { now, who: self.who, thread, happened: &mut self.happened };
        let connected = match self.engine {
            Engine::Rtc => return false,
            Engine::Http => Ok(Connection::Http(Box::new(Http::new(due, token)))),
            Engine::Ws => Ws::connect(due, token, turn.thread).map(|ws| Connection::Ws(Box::new(ws))),
            Engine::Geckos => {
                Geckos::connect(due, number, token, turn).map(|geckos| Connection::Geckos(Box::new(geckos)))
            }
        };
        match connected {
            Ok(connection) => self.connection = connection,
            Err(name) => {
                self.fail(now, name, thread);
                return false;
            }
        }
        if matches!(self.engine, Engine::Geckos) {
            self.wait = Wait::Engine { until: due.max(now) + thread.script.config.timeout };
            return false;
        }
        true
    }

    fn say_goodbye(&mut self, now: Instant, thread: &mut Thread<'s>) {
        let turn = &mut Turn { now, who: self.who, thread, happened: &mut self.happened };
        match &mut self.connection {
            Connection::Rtc(rtc) => {
                rtc.leave(turn);
                self.wait = Wait::Goodbye { until: now + GOODBYE };
            }
            Connection::Ws(ws) => {
                ws.leave();
                self.wait = Wait::Goodbye { until: now + GOODBYE };
                if ws.is_closed() {
                    self.happened.push(Happened::Gone);
                }
            }
            Connection::Geckos(geckos) => {
                geckos.leave(turn);
                self.wait = Wait::Goodbye { until: now + GOODBYE };
            }
            Connection::Http(_) | Connection::None => self.connection = Connection::None,
        }
    }

    /// Handles the end of the connection; the flow continues if it has not ended.
    fn part(&mut self, now: Instant) {
        self.connection = Connection::None;
        self.wait = Wait::None;
        self.due = now;
    }

    fn fail(&mut self, now: Instant, name: &str, thread: &mut Thread<'s>) {
        self.turn(now, thread).count(&format!("errors.{name}"));
        self.finish(now, Outcome::Failed, thread);
        self.say_goodbye(now, thread);
    }

    fn finish(&mut self, now: Instant, outcome: Outcome, thread: &mut Thread<'s>) {
        let born = self.born;
        let mut turn = self.turn(now, thread);
        match outcome {
            Outcome::Completed => {
                turn.add(Count::Completed, 1);
                turn.record_since(Time::SessionLength, born);
            }
            Outcome::Failed => turn.add(Count::Failed, 1),
        }
        self.outcome = Some(outcome);
    }
}

impl Repeat<'_> {
    /// Returns whether there is another round, and sets its variables.
    fn begin_turn(&self, due: Instant, variables: &mut Variables) -> bool {
        variables.set("$loopCount", (self.turns + 1).into());
        match self.times {
            Times::Count(count) => self.turns < *count,
            Times::Over { variable, values } => {
                let value = usize::try_from(self.turns).ok().and_then(|turn| values.get(turn));
                value.is_some_and(|value| {
                    variables.set(variable, value.clone());
                    true
                })
            }
            Times::For { duration } => due < self.began + *duration,
        }
    }
}

/// Converts a message to text, for servers that expect text.
fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        value => value.to_string(),
    }
}
