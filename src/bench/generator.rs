//! Runs a script: spreads its users over threads with one event loop each, and collects their measurements.
//!
//! **Time.** Every arrival of a user and every step has an *intended* time, determined by the script alone: the step
//! after a `think` or a turn of a paced loop is due relative to the intended time of the previous step, not to when the
//! generator executed it. Only after a step that waits for the server (`join`, `expect`, `reconnect`, `leave`, a
//! request) is the next due when the wait is over. Latency is measured from the intended time. If the server or the
//! generator stalls for a second, every step due in that second shows its delay although it was sent afterwards (no
//! coordinated omission).
//!
//! **Overload of the generator.** `generator.lateness` is the delay of arrivals and timed steps; `generator.cpu` the
//! fraction of CPU time used of what its threads could have had. Past [`CPU_MOST`] over the run, or [`LATENESS_MOST`]
//! at the 99th percentile, the figures describe the generator rather than the server: the run is marked
//! ([`Run::overload`]).
//! marked ([`Run::overload`]).

#![expect(clippy::disallowed_methods, reason = "the clock is what is measured with")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token, Waker};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slab::Slab;

use super::meters::{ACTIVE, Count, Meters};
use super::redirects::Servers;
use super::scrape;
use super::script::arrivals::{Arrival, arrivals};
use super::script::{Phase, Script};
use super::stats::{INTERVAL, Run, SHORT_INTERVAL, SHORT_RUN, Share, Stats, Who};
use super::target::Target;
pub use super::target::Unreachable;
use super::tls::Trust;
use super::user::{Thread, User};
use crate::driver::metrics::cpu_time;

/// The fraction of CPU time past which the generator is overloaded.
pub const CPU_MOST: f64 = 0.85;
/// The 99th percentile of lateness past which the generator is overloaded.
pub const LATENESS_MOST: Duration = Duration::from_millis(5);

/// How long the server may take to accept a connection or complete TLS before the run begins.
pub(super) const REACH_PATIENCE: Duration = Duration::from_secs(5);
/// How often measurements are handed over and the caller is informed.
const HANDOVER: Duration = Duration::from_millis(500);
const EVENTS: usize = 1024;
/// Bytes received at once: a datagram, or a piece of an HTTP response.
const BUFFER_BYTES: usize = 64 * 1024;
/// The token of the waker; those of users are small.
const WAKER: Token = Token(usize::MAX);
/// The maximum number of threads.
const THREADS: usize = 256;

/// The options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of the script in reports.
    pub name: String,
    /// The URL of the server, for example `http://127.0.0.1:8080` or `wss://example.com/chat`.
    pub target: String,
    /// Whether to accept any certificate of the server, as if the script said so.
    pub insecure: bool,
    /// Event loops, one thread each; at least one.
    pub threads: usize,
    /// The seed of everything random.
    pub seed: u64,
    /// Whether to run a single user, who arrives at once, instead of the whole load.
    pub solo: bool,
    /// The URL of the server's metrics in the Prometheus text format; `/metrics` of the target by default.
    pub scrape: Option<String>,
}

impl Options {
    /// Returns one thread per core but one, which is left to the server and the rest of the machine.
    #[must_use]
    pub fn default_threads() -> usize {
        thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
    }
}

/// The progress of a run.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Time since the start of the run.
    pub elapsed: Duration,
    /// Index of the current phase; the last one while users are active after its end.
    pub phase: usize,
    /// Users who have not finished their flow.
    pub active: usize,
    /// The measurements up to half a second ago.
    pub stats: &'a Stats,
    /// The output of `log` steps since the last call; only a sample if there is too much to read.
    pub said: &'a [String],
}

/// Runs `script` to its end, or until `progress`, which is called twice a second, stops it.
///
/// # Errors
/// The target can't be used or reached: see [`Unreachable`].
pub fn run(
    script: &Script,
    options: &Options,
    progress: &mut dyn FnMut(&Progress<'_>) -> ControlFlow<()>,
) -> Result<Run, Unreachable> {
    let trust = Arc::new(Trust::new(options.insecure || script.config.insecure));
    let (target, _) = Target::connect(&options.target, &trust, REACH_PATIENCE)?;
    let (phases, durations): (Vec<String>, Vec<Duration>) = phases(script, options.solo).into_iter().unzip();
    let scenarios: Vec<String> = script.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let ends = ends(&durations);
    let planned = ends.last().copied().unwrap_or_default();
    let threads = options.threads.clamp(1, THREADS);
    let began_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut polls = Vec::with_capacity(threads);
    for _ in 0..threads {
        polls.push(Poll::new().map_err(Unreachable::Generator)?);
    }
    let wakers: io::Result<Vec<Waker>> = polls.iter().map(|poll| Waker::new(poll.registry(), WAKER)).collect();
    let servers = Servers::new(Arc::clone(&trust), wakers.map_err(Unreachable::Generator)?);
    let shared = Shared {
        script,
        target: &target,
        servers: Arc::new(servers),
        options,
        begun: Instant::now(),
        ends: planned,
        threads,
        is_stopped: AtomicBool::new(false),
        active: AtomicUsize::new(0),
    };
    let metrics = options.scrape.clone().unwrap_or_else(|| target.url("http", "/metrics"));
    let interval = if planned <= SHORT_RUN { SHORT_INTERVAL } else { INTERVAL };
    let mut all = Stats::new(interval, phases, scenarios);
    let mut is_interrupted = false;
    let mut cpu = Cpu::new(shared.begun, threads);
    let scrapes = thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for (index, poll) in polls.into_iter().enumerate() {
            let (shared, sender) = (&shared, sender.clone());
            let meters = Meters::new(all.of_same_run());
            scope.spawn(move || Worker::new(shared, index, poll, meters).run(&sender));
        }
        drop(sender);
        let (ended, ends_scrape) = mpsc::channel();
        let scraper = scope.spawn({
            let (begun, trust) = (shared.begun, &trust);
            move || scrape::collect(&metrics, trust, begun, interval, &ends_scrape)
        });
        let mut told = Instant::now();
        let mut said = Vec::new();
        let mut is_over = false;
        while !is_over {
            match receiver.recv_timeout(HANDOVER) {
                Ok((stats, more)) => {
                    all.merge(stats);
                    said.extend(more);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_over = true,
            }
            let now = Instant::now();
            if now - told < HANDOVER && !is_over {
                continue;
            }
            told = now;
            let elapsed = now - shared.begun;
            cpu.note(now, &mut all);
            let phase = ends.iter().position(|end| elapsed < *end).unwrap_or(ends.len().saturating_sub(1));
            let active = shared.active.load(Ordering::Relaxed);
            // In an interval without arrivals and ends the number is constant.
            all.raise_gauge(elapsed, ACTIVE, active as f64);
            let is_broken_off = progress(&Progress { elapsed, phase, active, stats: &all, said: &said }).is_break();
            said.clear();
            if is_broken_off && !is_over {
                is_interrupted = true;
                shared.is_stopped.store(true, Ordering::Relaxed);
            }
        }
        drop(ended);
        scraper.join().unwrap_or_default()
    });
    let share = cpu.finish(Instant::now(), &mut all);
    let overload = overload(share, &all);
    Ok(Run {
        script: options.name.clone(),
        target: options.target.clone(),
        seed: options.seed,
        began_unix_ms: u64::try_from(began_unix_ms).unwrap_or(u64::MAX),
        threads,
        phase_durations: durations,
        stats: all,
        scrapes,
        overload,
        generator_cpu: share,
        is_interrupted,
    })
}

/// Returns the names and lengths of the phases of a run, in order.
#[must_use]
pub fn phases(script: &Script, solo: bool) -> Vec<(String, Duration)> {
    let name = |(number, phase): (usize, &Phase)| {
        let name = phase.name.clone().unwrap_or_else(|| format!("phase {number}"));
        (name, if solo { Duration::ZERO } else { phase.duration })
    };
    (1..).zip(&script.config.phases).map(name).collect()
}

/// Returns when each phase ends.
fn ends(durations: &[Duration]) -> Vec<Duration> {
    let mut end = Duration::ZERO;
    let add = |duration: &Duration| {
        end += *duration;
        end
    };
    durations.iter().map(add).collect()
}

/// The CPU time of the process.
struct Cpu {
    threads: usize,
    begun: Instant,
    used_before: Duration,
    noted_at: Instant,
    noted: Duration,
}

impl Cpu {
    fn new(begun: Instant, threads: usize) -> Cpu {
        let used = cpu_time();
        Cpu { threads, begun, used_before: used, noted_at: begun, noted: used }
    }

    fn share(&self, used: Duration, of: Duration) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "there are few threads")]
        let available = of.as_secs_f64() * self.threads as f64;
        if available > 0.0 { used.as_secs_f64() / available } else { 0.0 }
    }

    /// Records the fraction of each interval when it has ended.
    fn note(&mut self, now: Instant, stats: &mut Stats) {
        let interval = now - self.noted_at;
        if interval >= stats.interval() {
            self.record(now, stats);
        }
    }

    fn record(&mut self, now: Instant, stats: &mut Stats) {
        let used = cpu_time();
        let share = self.share(used.saturating_sub(self.noted), now - self.noted_at);
        // Attributed to the interval that has ended.
        let at = (now - self.begun).saturating_sub((now - self.noted_at) / 2);
        stats.gauge(at, "generator.cpu", share);
        (self.noted_at, self.noted) = (now, used);
    }

    /// Returns the fraction over the whole run.
    fn finish(&mut self, now: Instant, stats: &mut Stats) -> f64 {
        self.record(now, stats);
        self.share(self.noted.saturating_sub(self.used_before), now - self.begun)
    }
}

/// Returns why the figures do not describe the server, as a sentence.
fn overload(cpu: f64, stats: &Stats) -> Option<String> {
    let most_ms = LATENESS_MOST.as_secs_f64() * 1_000.0;
    let late_ms = stats.summary("generator.lateness", Share::All).map_or(0.0, |lateness| lateness.p99);
    if cpu > CPU_MOST {
        let (cpu, most) = (cpu * 100.0, CPU_MOST * 100.0);
        return Some(format!(
            "The generator used {cpu:.0} % of the CPU time of its threads; the limit is {most:.0} %."
        ));
    }
    (late_ms > most_ms).then(|| {
        format!("The generator executed steps {late_ms:.1} ms late (99th percentile); the limit is {most_ms:.0} ms.")
    })
}

/// The data shared by all threads.
struct Shared<'s> {
    script: &'s Script,
    target: &'s Target,
    servers: Arc<Servers>,
    options: &'s Options,
    begun: Instant,
    /// When the last phase ends.
    ends: Duration,
    threads: usize,
    is_stopped: AtomicBool,
    /// Users who have not finished their flow.
    active: AtomicUsize,
}

impl Shared<'_> {
    /// Removes a user. The number before is recorded too: an interval may begin with its maximum.
    fn let_go(&self, meters: &mut Meters) {
        let active = self.active.fetch_sub(1, Ordering::Relaxed);
        meters.note_active(self.begun.elapsed(), active);
    }

    /// Returns the scenario of a user, by the weights.
    fn scenario_of(&self, user: u64) -> usize {
        let weights = self.script.scenarios.iter().map(|scenario| u64::from(scenario.weight));
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed);
        rng.set_stream(user);
        let mut luck = rng.random_range(0..weights.clone().sum::<u64>().max(1));
        for (index, weight) in weights.enumerate() {
            if luck < weight {
                return index;
            }
            luck -= weight;
        }
        0
    }
}

struct Entry<'s> {
    user: User<'s>,
    /// The newest timer of the user.
    timer: Option<Instant>,
    is_active: bool,
}

/// One thread: an event loop and its users.
struct Worker<'s> {
    shared: &'s Shared<'s>,
    poll: Poll,
    thread: Thread<'s>,
    users: Slab<Entry<'s>>,
    /// Timers by time; those that differ from their [`Entry`] are outdated.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    arrivals: std::iter::Peekable<Box<dyn Iterator<Item = (u64, Arrival)> + 's>>,
    /// Sockets with more data than one turn reads.
    again: Vec<Token>,
}

impl<'s> Worker<'s> {
    fn new(shared: &'s Shared<'s>, index: usize, poll: Poll, meters: Meters) -> Worker<'s> {
        let phases = &shared.script.config.phases;
        let arrivals: Box<dyn Iterator<Item = (u64, Arrival)>> = if shared.options.solo {
            let only = (0, Arrival { at: Duration::ZERO, phase: 0 });
            Box::new((index == 0 && !phases.is_empty()).then_some(only).into_iter())
        } else {
            // Users are distributed over the threads in turn.
            Box::new((0..).zip(arrivals(phases)).skip(index).step_by(shared.threads))
        };
        let registry = Rc::new(poll.registry().try_clone().expect("a file descriptor can be cloned"));
        Worker {
            shared,
            thread: Thread {
                script: shared.script,
                target: shared.target,
                servers: Arc::clone(&shared.servers),
                seed: shared.options.seed,
                begun: shared.begun,
                registry,
                meters,
                buffer: vec![0; BUFFER_BYTES].into(),
                said: Vec::new(),
            },
            poll,
            users: Slab::new(),
            timers: BinaryHeap::new(),
            arrivals: arrivals.peekable(),
            again: Vec::new(),
        }
    }

    fn run(mut self, sender: &Sender<(Stats, Vec<String>)>) {
        let mut events = Events::with_capacity(EVENTS);
        let mut hand_over = self.shared.begun + HANDOVER;
        let end = self.shared.begun + self.shared.ends;
        loop {
            let now = Instant::now();
            let is_over = now >= end && self.users.is_empty() && self.arrivals.peek().is_none();
            if is_over || self.shared.is_stopped.load(Ordering::Relaxed) {
                break;
            }
            let wait = if self.again.is_empty() {
                self.wake_at(hand_over).saturating_duration_since(now)
            } else {
                Duration::ZERO
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    log::error!("the event loop failed: {error}");
                    break;
                }
                _ => {}
            }
            for token in std::mem::take(&mut self.again) {
                self.handle_ready(token);
            }
            for event in &events {
                match event.token() {
                    WAKER => self.handle_lookup(),
                    token => self.handle_ready(token),
                }
            }
            self.let_arrive();
            self.wake();
            let now = Instant::now();
            if now >= hand_over {
                hand_over = now + HANDOVER;
                // A closed channel means that the run was stopped.
                let _ = sender.send(self.hand_over());
            }
        }
        let now = Instant::now();
        for (_, entry) in &mut self.users {
            entry.user.stop(now, &mut self.thread);
            if entry.is_active {
                self.shared.let_go(&mut self.thread.meters);
            }
        }
        let _ = sender.send(self.hand_over());
    }

    fn hand_over(&mut self) -> (Stats, Vec<String>) {
        (self.thread.meters.take(), std::mem::take(&mut self.thread.said))
    }

    fn wake_at(&mut self, hand_over: Instant) -> Instant {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let arrival = self.arrivals.peek().map(|(_, arrival)| self.shared.begun + arrival.at);
        [timer, arrival].into_iter().flatten().fold(hand_over, Instant::min)
    }

    fn handle_ready(&mut self, token: Token) {
        let Some(entry) = self.users.get_mut(token.0 / 2) else { return };
        entry.user.handle_ready(Instant::now(), token.0.is_multiple_of(2), &mut self.thread);
        if entry.user.has_more {
            self.again.push(token);
        }
        self.settle(token.0 / 2);
    }

    /// A server was looked up. Users who wait for it connect.
    fn handle_lookup(&mut self) {
        let keys: Vec<usize> = self.users.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.handle_ready(Token(2 * key + 1));
        }
    }

    fn let_arrive(&mut self) {
        loop {
            let now = Instant::now();
            let Some((number, arrival)) = self.arrivals.next_if(|(_, arrival)| self.shared.begun + arrival.at <= now)
            else {
                return;
            };
            let who = Who { phase: arrival.phase, scenario: self.shared.scenario_of(number) };
            let most = self.shared.script.config.phases[arrival.phase].max_vusers.unwrap_or(u32::MAX);
            let one_more = |active: usize| (active < most as usize).then_some(active + 1);
            let Ok(active) = self.shared.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) else {
                self.thread.meters.add(arrival.at, who, Count::Skipped, 1);
                continue;
            };
            self.thread.meters.note_active(now - self.shared.begun, active + 1);
            let due = self.shared.begun + arrival.at;
            let slot = self.users.vacant_entry();
            let key = slot.key();
            let user = User::new(number, who, due, Token(2 * key), &mut self.thread);
            slot.insert(Entry { user, timer: None, is_active: true }).user.handle_timeout(now, &mut self.thread);
            self.settle(key);
        }
    }

    /// Wakes the users whose timers are due. Users due again at once wait until sockets have been handled.
    fn wake(&mut self) {
        let by = Instant::now();
        while let Some(Reverse((at, key))) = self.timers.peek().copied().filter(|Reverse((at, _))| *at <= by) {
            self.timers.pop();
            let Some(entry) = self.users.get_mut(key).filter(|entry| entry.timer == Some(at)) else { continue };
            entry.timer = None;
            entry.user.handle_timeout(Instant::now(), &mut self.thread);
            self.settle_after(key, by);
        }
    }

    fn settle(&mut self, key: usize) {
        self.settle_after(key, self.shared.begun);
    }

    /// Sets the timer of a user, not before `least`, or removes a finished user.
    fn settle_after(&mut self, key: usize, least: Instant) {
        let Some(entry) = self.users.get_mut(key) else { return };
        if entry.is_active && entry.user.is_over() {
            entry.is_active = false;
            self.shared.let_go(&mut self.thread.meters);
        }
        if entry.user.is_gone() {
            self.users.remove(key);
            return;
        }
        let at = entry.user.poll_timeout().max(least + Duration::from_nanos(1));
        if entry.timer != Some(at) {
            entry.timer = Some(at);
            self.timers.push(Reverse((at, key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_that_is_busy_or_late_is_no_measure() {
        for (cpu, late_ms, is_unfit) in [(0.85, 4, false), (0.86, 4, true), (0.1, 6, true), (0.1, 0, false)] {
            let mut stats = Stats::new(INTERVAL, vec!["phase".to_owned()], vec!["scenario".to_owned()]);
            let lateness = stats.timing("generator.lateness");
            // One in a hundred does not count.
            for number in 0..200 {
                let late = if number == 0 { 1_000 } else { late_ms };
                let who = Who { phase: 0, scenario: 0 };
                stats.record(Duration::ZERO, who, lateness, Duration::from_millis(late));
            }
            assert_eq!(overload(cpu, &stats).is_some(), is_unfit, "{cpu} {late_ms}");
        }
    }
}
