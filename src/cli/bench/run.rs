//! `rtcade bench run` and `rtcade bench quick`: run a script.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Changes;
use crate::bench::generator::{self, Options, Unreachable};
use crate::bench::report::{Machine, Report};
use crate::bench::script::{Overrides, Script};
use crate::bench::terminal::{Mode, Terminal, summary};
use crate::cli::{ExitCode, bench_report, complain, raise_file_limit};
use crate::limits;

/// Approximate number of users of `quick` per room.
const QUICK_ROOM: u32 = 16;

const BAD_SCRIPT: u8 = 2;
const UNREACHABLE: u8 = 3;
const INTERRUPTED: i32 = 130;

#[derive(Debug, Args)]
#[command(after_long_help = "\
Exit status:
  0    the run passed
  1    a threshold failed
  2    the file is invalid
  3    the target can't be reached
  4    the generator itself was overloaded; its figures are marked unfit
  130  interrupted; the report covers what was measured until then

Examples:
  rtcade bench run load.yml
  rtcade bench run load.yml -t https://example.com -e staging -o report.json --html report.html
  rtcade bench run load.yml --solo    Try the scenario with a single user")]
pub(in crate::cli) struct Run {
    /// Scenario file.
    #[arg(value_name = "SCENARIO.yml")]
    file: PathBuf,
    #[command(flatten)]
    changes: Changes,
    #[command(flatten)]
    play: Play,
    /// Run a single user, who arrives at once, instead of the whole load.
    #[arg(long)]
    solo: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  rtcade bench quick http://127.0.0.1:8080 --clients 100 --seconds 60")]
pub(in crate::cli) struct Quick {
    /// URL of the server, for example http://127.0.0.1:8080.
    url: String,
    /// Number of users; all stay until the last has played.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Inputs per second of each user.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// Seconds that each user plays.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    #[command(flatten)]
    play: Play,
}

/// How to run a script, and what to write.
#[derive(Debug, Args)]
struct Play {
    /// Write the report as JSON.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the report as an HTML page with charts.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print only errors.
    #[arg(short, long)]
    quiet: bool,
    /// Accept any TLS certificate of the server.
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Event loops, one thread each [default: one fewer than the cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// URL of the server's metrics in the Prometheus text format [default: /metrics of the target].
    #[arg(long, value_name = "URL")]
    scrape: Option<String>,
    /// Seed of all random numbers [default: a new one for each run].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl Run {
    pub(super) fn run(&self) -> ExitCode {
        let overrides = match self.changes.overrides() {
            Ok(overrides) => overrides,
            Err(sentence) => return fail(BAD_SCRIPT, &sentence),
        };
        let name = self.file.display().to_string();
        match Script::read(&self.file, &overrides) {
            Ok(script) => self.play.play(&script, &name, self.solo),
            Err(error) => fail(BAD_SCRIPT, &format!("{name}: {error}")),
        }
    }
}

impl Quick {
    pub(super) fn run(&self) -> ExitCode {
        match Script::parse(&self.script(), &Overrides::default()) {
            Ok(script) => self.play.play(&script, "quick", false),
            Err(error) => fail(BAD_SCRIPT, &error.to_string()),
        }
    }

    /// Returns the equivalent scenario file. Users arrive no faster than the server admits them, and stay until the
    /// last has arrived and played.
    fn script(&self) -> String {
        let Quick { url, clients, rate, seconds, .. } = self;
        let arriving = clients.div_ceil(limits::JOINS_PER_SECOND * 4 / 5);
        let rooms = clients.div_ceil(QUICK_ROOM);
        let inputs = u64::from(*rate) * u64::from(seconds + arriving);
        let every = 1_000.0 / f64::from(*rate);
        let target = serde_json::Value::String(url.clone());
        format!(
            "config:
  target: {target}
  phases: [{{ name: join, duration: {arriving}, arrivalCount: {clients} }}, {{ name: play, pause: {seconds} }}]
scenarios:
  - name: quick
    engine: rtc
    flow:
      - join: {{ room: \"bench-{{{{ $randomNumber(1, {rooms}) }}}}\" }}
      - loop:
          - send: [\"{{{{ $randomNumber(-100, 100) }}}}\", \"{{{{ $randomNumber(-100, 100) }}}}\", false]
            measure: echo
        count: {inputs}
        pacing: fixed
        every: {every}ms
      - leave
"
        )
    }
}

impl Play {
    /// Returns the exit status: 0, or 1 if a threshold failed, 2 if the script can't be run, 3 if the target can't be
    /// reached, 4 if the generator was overloaded, 130 if interrupted.
    fn play(&self, script: &Script, name: &str, solo: bool) -> ExitCode {
        let Some(target) = script.config.target.clone() else {
            return fail(BAD_SCRIPT, &format!("{name}: no target is set: set config.target or use -t URL"));
        };
        let checks = script.config.ensure.clone();
        if let Err(sentence) = raise_file_limit() {
            return fail(1, &sentence);
        }
        let is_interrupted = match interruptions() {
            Ok(flag) => flag,
            Err(error) => return fail(1, &format!("signals can't be caught: {error}")),
        };
        let options = Options {
            name: name.to_owned(),
            target,
            insecure: self.insecure,
            threads: self.threads.map_or_else(Options::default_threads, usize::from),
            seed: self.seed.unwrap_or_else(|| getrandom::u64().unwrap_or_default()),
            solo,
            scrape: self.scrape.clone(),
        };
        let phases = generator::phases(script, solo);
        let mut terminal = Terminal::new(io::stdout(), Mode::of_stdout(self.quiet), name, phases);
        let ran = generator::run(script, &options, &mut |progress| {
            progress.said.iter().for_each(|text| terminal.say(text));
            terminal.show(progress.elapsed, progress.phase, progress.active, progress.stats);
            if is_interrupted.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let run = match ran {
            Ok(run) => run,
            Err(error @ Unreachable::Target(_)) => return fail(BAD_SCRIPT, &error.to_string()),
            Err(error) => return fail(UNREACHABLE, &error.to_string()),
        };
        let report = Report::new(run, Machine::this(), checks);
        if !self.quiet {
            // Standard output may be closed; the files are written anyway.
            let _ = io::stdout().write_all(summary(&report).as_bytes());
        }
        let written = bench_report::write(&report, self.output.as_deref(), self.html.as_deref());
        match written {
            Ok(()) => ExitCode::from(report.verdict().exit_status()),
            Err(sentence) => fail(1, &sentence),
        }
    }
}

fn fail(status: u8, sentence: &str) -> ExitCode {
    complain(sentence);
    ExitCode::from(status)
}

/// Returns a flag that SIGINT and SIGTERM set. A second signal ends the process at once.
fn interruptions() -> io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::script::arrivals;

    #[test]
    fn the_script_of_quick_has_its_users_and_inputs() {
        for clients in [1, 80, 81, 1_000] {
            let play = Play {
                output: None,
                html: None,
                quiet: true,
                insecure: false,
                threads: None,
                scrape: None,
                seed: None,
            };
            let quick = Quick { url: "http://127.0.0.1:1".to_owned(), clients, rate: 30, seconds: 10, play };
            let script = Script::parse(&quick.script(), &Overrides::default()).expect("it can be read");
            assert_eq!(arrivals::count(&script.config.phases), u64::from(clients));
        }
    }
}
