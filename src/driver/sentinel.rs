//! A thread that ends the process when its loop hangs, for example in a game that never returns: nothing else could run
//! any more, and a service manager starts it again. Before that it logs where the loop is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{fs, io, process, thread};

use crate::server::Activity;

/// How often the thread looks. It counts these times and not the time itself, so that a process that was suspended
/// isn't taken for one that hangs.
const INTERVAL: Duration = Duration::from_millis(250);
/// How often the loop may be seen in the same turn and the same call of a game.
const SEEN_MAX: u32 = 8;
/// The time for which the stack is sampled, how often in a second, and how many different stacks are logged.
const SAMPLED_FOR: Duration = Duration::from_millis(300);
const SAMPLES_PER_SECOND: i32 = 200;
const STACKS: usize = 3;
/// How long the log may take.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What the loop tells the thread.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    turns: AtomicU64,
    /// Whether the loop waits for something to do.
    is_asleep: AtomicBool,
}

impl Pulse {
    pub(super) fn note_turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_sleep(&self, is_asleep: bool) {
        self.is_asleep.store(is_asleep, Ordering::Relaxed);
    }
}

/// Sees whether the loop runs.
#[derive(Debug)]
pub(super) struct Observer {
    activity: Activity,
    /// The turns and the calls of games when it was last asked.
    seen: u64,
}

impl Observer {
    pub(super) fn new(activity: Activity) -> Observer {
        Observer { activity, seen: 0 }
    }

    /// Returns whether the loop waits for something to do, or has run or called a game since it was last asked.
    pub(super) fn is_running(&mut self, pulse: &Pulse) -> bool {
        // One turn may call many games.
        let now = pulse.turns.load(Ordering::Relaxed).wrapping_add(self.activity.calls());
        std::mem::replace(&mut self.seen, now) != now || pulse.is_asleep.load(Ordering::Relaxed)
    }
}

/// Watches the loop of the calling thread for as long as `pulse` exists.
///
/// # Errors
/// The OS refuses another thread.
pub(super) fn watch(pulse: &Arc<Pulse>, activity: Activity) -> io::Result<()> {
    let pulse = Arc::downgrade(pulse);
    let watched = Watched::this_thread();
    thread::Builder::new().name("sentinel".to_owned()).spawn(move || {
        if is_hung(&pulse, &mut Observer::new(activity.clone()), &watched) {
            end(&activity, &watched);
        }
    })?;
    Ok(())
}

/// Returns once the loop hangs (`true`) or has ended.
fn is_hung(pulse: &Weak<Pulse>, observer: &mut Observer, watched: &Watched) -> bool {
    let (mut seen, mut waited) = (0, watched.waited());
    loop {
        thread::sleep(INTERVAL);
        let Some(pulse) = pulse.upgrade() else { return false };
        if observer.is_running(&pulse) {
            (seen, waited) = (0, watched.waited());
            continue;
        }
        seen += 1;
        if seen >= SEEN_MAX {
            // On an overloaded machine it may just not have had its turn.
            if watched.waited().saturating_sub(waited) < INTERVAL * SEEN_MAX / 2 {
                return true;
            }
            (seen, waited) = (0, watched.waited());
        }
    }
}

fn end(activity: &Activity, watched: &Watched) -> ! {
    // Whatever holds the log up, the process ends.
    let _ = thread::Builder::new().spawn(|| {
        thread::sleep(LAST_WORDS);
        process::abort();
    });
    let within = activity.room().map_or(String::new(), |room| format!(" in the game of room {room}"));
    let seconds = (INTERVAL * SEEN_MAX).as_secs();
    log::error!("the event loop has been{within} for {seconds} s: the process ends, because nothing else can run");
    match stacks() {
        Ok(stacks) if stacks.is_empty() => {
            log::error!("it uses no CPU time: it waits in the kernel{}", watched.place());
        }
        Ok(stacks) => stacks.iter().for_each(|stack| log::error!("it was here:\n{stack}")),
        Err(error) => log::error!("where it is can't be found out: {error}"),
    }
    process::abort();
}

/// The stacks of threads that use CPU time, the most frequent ones first.
fn stacks() -> pprof::Result<Vec<String>> {
    let profiler = pprof::ProfilerGuardBuilder::default().frequency(SAMPLES_PER_SECOND).build()?;
    thread::sleep(SAMPLED_FOR);
    let report = profiler.report().build()?;
    let mut stacks: Vec<_> = report.data.iter().map(|(frames, count)| (-count, lines(frames))).collect();
    stacks.sort();
    stacks.truncate(STACKS);
    Ok(stacks.into_iter().map(|(_, lines)| lines).collect())
}

/// One line for each call, the innermost first.
fn lines(frames: &pprof::Frames) -> String {
    let symbols = frames.frames.iter().flatten();
    let lines: Vec<String> =
        symbols.map(|symbol| format!("    {} ({}:{})", symbol.name(), symbol.filename(), symbol.lineno())).collect();
    lines.join("\n")
}

/// The thread of the loop, as the kernel sees it.
#[cfg(target_os = "linux")]
struct Watched(nix::unistd::Pid);

#[cfg(target_os = "linux")]
impl Watched {
    fn this_thread() -> Watched {
        Watched(nix::unistd::gettid())
    }

    fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/self/task/{}/{file}", self.0)).ok()
    }

    /// How long it has been ready to run without running (Documentation/scheduler/sched-stats).
    fn waited(&self) -> Duration {
        let stats = self.read("schedstat");
        let waited = stats.as_deref().and_then(|stats| stats.split(' ').nth(1)?.parse().ok());
        Duration::from_nanos(waited.unwrap_or_default())
    }

    fn place(&self) -> String {
        self.read("wchan").map_or(String::new(), |place| format!(" ({place})"))
    }
}

#[cfg(not(target_os = "linux"))]
struct Watched;

#[cfg(not(target_os = "linux"))]
impl Watched {
    fn this_thread() -> Watched {
        Watched
    }

    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    fn place(&self) -> String {
        String::new()
    }
}
