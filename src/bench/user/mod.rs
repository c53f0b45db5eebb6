//! A virtual user: runs the steps of a scenario, one after the other.

mod geckos;
mod http;
mod rtc;
mod udp;
mod ws;

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
use super::script::{Engine, Expected, Pacing, Said, Script, Step, Times, Variables};
use super::stats::Who;
use super::target::Target;

/// Steps taken in one go, before others have their turn.
const STEPS_PER_TURN: usize = 64;
/// Texts of a thread for whoever runs the test, from one handover to the next; nobody reads more.
const SAID: usize = 100;
/// How long somebody who has left waits for the server to say goodbye too.
const GOODBYE: Duration = Duration::from_secs(2);

/// Measured messages of a user that are on their way; the oldest gives way to the next.
const ECHOES: usize = 4096;

/// What the users of one thread share.
pub(super) struct Thread<'s> {
    pub(super) script: &'s Script,
    pub(super) target: &'s Target,
    pub(super) seed: u64,
    pub(super) begun: Instant,
    pub(super) registry: Registry,
    pub(super) meters: Meters,
    /// For what is received.
    pub(super) buffer: Box<[u8]>,
    /// What users said to whoever runs the test, since it was last handed over.
    pub(super) said: Vec<String>,
}

impl Thread<'_> {
    /// From which a user's client takes its credentials.
    fn seed_of(&self, user: u64) -> [u8; 32] {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(user);
        rng.random()
    }

    /// Asks the target.
    fn ask(&self, http: &mut super::http::Http, request: &Request) -> Result<(), &'static str> {
        http.ask(&self.registry, self.target, request)
    }
}

/// A user's turn: the time of it, and where what is measured and what happens go.
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

    /// Records the time since then.
    fn record_since(&mut self, what: Time, then: Instant) {
        self.record(what, self.now.saturating_duration_since(then));
    }

    /// Counts one more of what has a name of its own.
    fn count(&mut self, name: &str) {
        self.thread.meters.count(self.at(), self.who, name);
    }

    fn tell(&mut self, happened: Happened) {
        self.happened.push(happened);
    }
}

/// What an engine has to say to the steps.
enum Happened {
    /// What [`Wait::Engine`] waits for.
    Done,
    State,
    /// One msgpack value.
    Event(Vec<u8>),
    Text(String),
    /// The user can't go on; the name of the error.
    Failed(String),
    /// The server has let go of them.
    Gone,
}

/// What the next step waits for, beside its time.
enum Wait<'s> {
    /// Nothing.
    None,
    /// The engine's word, until then.
    Engine { until: Instant },
    /// What a server sends, until then.
    Expect { what: &'s Expected, wanted: Option<Value>, until: Instant },
    /// The end of the connection, until then; the flow is over.
    Goodbye { until: Instant },
}

/// A list of steps that is being run.
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

/// What a player of a recording said, and is said again.
struct Recital<'s> {
    left: &'s [Said],
    speed: f64,
    is_measured: bool,
    /// Intended.
    began: Instant,
}

impl Recital<'_> {
    /// When the next of it is due.
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

/// How it went.
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
    /// When the next step is to be taken by the schedule.
    due: Instant,
    /// Whether `due` is by the clock, so that coming later is the generator's fault.
    is_timed: bool,
    outcome: Option<Outcome>,
    happened: Vec<Happened>,
    /// Whether more may wait to be read than one turn takes.
    pub(super) has_more: bool,
}

impl<'s> User<'s> {
    /// Somebody who is to begin at `due`. `token` is that of their UDP socket, and the next one that of the TCP socket.
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

    /// When to call [`User::handle_timeout`].
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

    /// Whether the flow is over.
    pub(super) fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// Whether nothing is left of them.
    pub(super) fn is_gone(&self) -> bool {
        self.is_over() && matches!(self.connection, Connection::None)
    }

    /// Something can be read from, or written to, the socket of that token.
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

    /// Time has come for whatever [`User::poll_timeout`] named.
    pub(super) fn handle_timeout(&mut self, now: Instant, thread: &mut Thread<'s>) {
        let turn = &mut Turn { now, who: self.who, thread, happened: &mut self.happened };
        match &mut self.connection {
            Connection::Rtc(rtc) => rtc.handle_timeout(turn),
            Connection::Geckos(geckos) => geckos.handle_timeout(turn),
            Connection::Ws(_) | Connection::Http(_) | Connection::None => {}
        }
        self.advance(now, thread);
    }

    /// Breaks off: the run is over.
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
                // A loop has to wait for its next turn, or for the end of the last.
                None => {}
            }
            for happened in std::mem::take(&mut self.happened) {
                self.hear(now, happened, thread);
            }
        }
        // The others first; `due` has passed, so this goes on at once.
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

    /// The next step; `None` where the flow is over, or the end of a loop's turn has to come first.
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
                // A turn that took longer is followed by the next at once.
                self.due = self.due.max(repeat.turn_began + *pace);
                self.is_timed = true;
            }
            // Where a turn takes no time by the schedule, the clock has to end the loop.
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

    /// Says the next of what was recorded.
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

    /// Until the next is due, or the next step where there is none.
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

    /// All but players of rtcade have no step to join: they connect with the first that needs it. Whether that can be
    /// taken; where it has to wait for the connection it is the next again.
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

    /// Whether messages can be given to the connection at once.
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

    /// The connection is at its end; the flow goes on, where it isn't.
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
    /// Whether there is another turn; sets the variables that it is told by.
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

/// A message, where the server takes text.
fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        value => value.to_string(),
    }
}
