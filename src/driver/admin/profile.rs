//! CPU profiles of the process, taken by a thread.

use std::fmt::Write;
use std::panic::catch_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::super::http::Status;
use super::super::unix_time;
use super::views::millis;
use super::{Answered, encoded, refused, text};

/// Samples a second of CPU time: no divisor of a tick's rate, so that ticks aren't always hit at the same place.
const SAMPLES_PER_SECOND: i32 = 997;

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    Running,
    /// Folded stacks, or why there are none.
    Done(Result<String, String>),
}

/// Takes one profile at a time, and keeps the last.
#[derive(Debug, Default)]
pub(super) struct Profiler(Arc<Mutex<State>>);

impl Profiler {
    pub(super) fn start(&self, time: Duration) -> Answered {
        let mut state = lock(&self.0);
        if matches!(*state, State::Running) {
            return refused(Status::Conflict, "A profile is being taken: wait until it is complete.");
        }
        let shared = Arc::clone(&self.0);
        let taken = thread::Builder::new().name("profiler".to_owned()).spawn(move || {
            let profile = catch_unwind(|| take(time)).unwrap_or_else(|_| Err("The profiler has failed.".to_owned()));
            *lock(&shared) = State::Done(profile);
        });
        if let Err(error) = taken {
            return refused(Status::InternalServerError, format!("The OS refuses a thread: {error}."));
        }
        *state = State::Running;
        encoded(Status::Accepted, &json!({ "readyMs": millis(unix_time() + time) }))
    }

    /// The last profile.
    pub(super) fn profile(&self) -> Answered {
        match &*lock(&self.0) {
            State::None => refused(Status::NotFound, "No profile was taken: start one by POST."),
            State::Running => refused(Status::Conflict, "A profile is being taken: wait until it is complete."),
            State::Done(Ok(folded)) => Ok(text("text/plain; charset=utf-8", folded.clone())),
            State::Done(Err(sentence)) => refused(Status::InternalServerError, sentence.clone()),
        }
    }
}

/// A thread that panicked left a plain value behind.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stacks of this time, the outermost call first, each with its number of samples, as flame graphs are made of.
fn take(time: Duration) -> Result<String, String> {
    let failed = |error: pprof::Error| format!("The profile can't be taken: {error}.");
    let profiler = pprof::ProfilerGuardBuilder::default().frequency(SAMPLES_PER_SECOND).build().map_err(failed)?;
    thread::sleep(time);
    let report = profiler.report().build().map_err(failed)?;
    let mut lines: Vec<String> = report.data.iter().map(|(frames, count)| line(frames, *count)).collect();
    lines.sort();
    Ok(lines.concat())
}

fn line(frames: &pprof::Frames, count: isize) -> String {
    let mut line = frames.thread_name.replace([';', '\n'], " ");
    for symbol in frames.frames.iter().rev().flatten() {
        line.push(';');
        line.push_str(&symbol.name().replace([';', '\n'], " "));
    }
    writeln!(line, " {count}").expect("a string takes everything");
    line
}
