//! `rtcade bench`: the load tester.

mod run;

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{self, PathBuf};

use clap::{Args, Subcommand};

use super::{ExitCode, bench_report, complain};
use crate::bench::script::{Config, Load, Overrides, Script, arrivals};

#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Check scenario files, and print the load that they describe.
    #[command(after_long_help = "\
Exit status:
  0  all files are valid
  2  a file is invalid")]
    Check(Check),
    /// Run a scenario file against a server, and report what its users measured.
    Run(run::Run),
    /// Run a standard load without a scenario file: users join rooms, send inputs and leave.
    ///
    /// The exit status is that of run.
    Quick(run::Quick),
    /// Summarise the JSON reports of a run, and make an HTML page with charts.
    #[command(after_long_help = "\
Exit status:
  0    the run passed
  1    a threshold failed
  2    a file can't be read
  4    a generator was overloaded
  130  a run was interrupted")]
    Report(bench_report::ReportOf),
    /// Compare the JSON reports of two runs.
    #[command(after_long_help = "\
Exit status:
  0  nothing is worse than allowed
  1  something is worse than allowed
  2  a file can't be read
  4  a generator was overloaded, so that its figures are unfit")]
    Compare(bench_report::Compare),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Scenario files.
    #[arg(required = true, value_name = "SCENARIO.yml")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    changes: Changes,
}

/// Changes to a scenario file.
#[derive(Debug, Args)]
struct Changes {
    /// Environment of the file (in config.environments) to use.
    #[arg(short, long, value_name = "NAME")]
    environment: Option<String>,
    /// Variables as a JSON object; they override those of the file.
    #[arg(short, long, value_name = "JSON")]
    variables: Option<String>,
    /// JSON to merge into the file: maps are merged, other values are replaced.
    #[arg(long, value_name = "JSON")]
    overrides: Option<String>,
    /// CSV file to use instead of the file's payload, of which there must be exactly one.
    #[arg(short, long, value_name = "CSV")]
    payload: Option<PathBuf>,
    /// URL of the server, instead of the file's target.
    #[arg(short, long, value_name = "URL")]
    target: Option<String>,
    /// Run only this scenario.
    #[arg(long, value_name = "NAME")]
    scenario_name: Option<String>,
}

impl Changes {
    fn overrides(&self) -> Result<Overrides, String> {
        let payload = self.payload.as_ref().map(|path| {
            // Relative to the working directory, unlike paths in the scenario file.
            path::absolute(path).map_err(|error| format!("{} can't be found: {error}", path.display()))
        });
        let process =
            env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Overrides {
            environment: self.environment.clone(),
            variables: self.variables.clone(),
            file: self.overrides.clone(),
            payload: payload.transpose()?,
            target: self.target.clone(),
            scenario: self.scenario_name.clone(),
            process: process.collect(),
        })
    }
}

pub(super) fn run(bench: &Bench) -> ExitCode {
    match bench {
        Bench::Check(check) => self::check(check),
        Bench::Run(run) => run.run(),
        Bench::Quick(quick) => quick.run(),
        Bench::Report(arguments) => bench_report::report(arguments),
        Bench::Compare(arguments) => bench_report::compare(arguments),
    }
}

fn check(check: &Check) -> ExitCode {
    let overrides = match check.changes.overrides() {
        Ok(overrides) => overrides,
        Err(sentence) => {
            complain(&sentence);
            return ExitCode::from(2);
        }
    };
    let mut status = ExitCode::SUCCESS;
    for file in &check.files {
        match Script::read(file, &overrides) {
            Ok(script) => {
                let printed = write!(io::stdout(), "{}:\n{}", file.display(), summary(&script));
                if printed.is_err() {
                    return ExitCode::FAILURE;
                }
            }
            Err(error) => {
                complain(&format!("{}: {error}", file.display()));
                status = ExitCode::from(2);
            }
        }
    }
    status
}

/// Describes the load of a script.
fn summary(script: &Script) -> String {
    let Script { config: Config { target, phases, .. }, scenarios } = script;
    let mut text = format!("  target: {}\n", target.as_deref().unwrap_or("none; set it with -t"));
    for (number, phase) in (1..).zip(phases) {
        let name = phase.name.clone().unwrap_or_else(|| format!("phase {number}"));
        let load = match phase.load {
            Load::Pause => "no arrivals".to_owned(),
            Load::Rate { from, to } if from.to_bits() == to.to_bits() => format!("{from} users per second"),
            Load::Rate { from, to } => format!("from {from} to {to} users per second"),
            Load::Count(users) => format!("{users} users"),
        };
        let most = phase.max_vusers.map(|most| format!(", at most {most} at once")).unwrap_or_default();
        let _ = writeln!(text, "  {name}: {load} for {:?}{most}", phase.duration);
    }
    let _ = writeln!(text, "  users: {}", arrivals::count(phases));
    let weights: u64 = scenarios.iter().map(|scenario| u64::from(scenario.weight)).sum();
    for scenario in scenarios {
        let tenths = u64::from(scenario.weight) * 1_000 / weights.max(1);
        let (percent, engine) = (format!("{}.{}", tenths / 10, tenths % 10), scenario.engine.name());
        let _ = writeln!(text, "  {} ({engine}): {} % of the users", scenario.name, percent.trim_end_matches(".0"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_tells_phases_users_and_shares() {
        let yaml = "
config:
  phases:
    - { name: up, duration: 10, arrivalRate: 1, rampTo: 4, maxVusers: 9 }
    - { pause: 500ms }
    - { duration: 1m, arrivalRate: 0.5 }
    - { duration: 1, arrivalCount: 7 }
scenarios:
  - { name: a, weight: 2, flow: [join] }
  - { name: b, engine: ws, flow: [log: x] }";
        let script = Script::parse(yaml, &Overrides::default()).expect("it can be read");
        assert_eq!(
            summary(&script),
            "  target: none; set it with -t\n  \
             up: from 1 to 4 users per second for 10s, at most 9 at once\n  \
             phase 2: no arrivals for 500ms\n  \
             phase 3: 0.5 users per second for 60s\n  \
             phase 4: 7 users for 1s\n  \
             users: 62\n  \
             a (rtc): 66.6 % of the users\n  \
             b (ws): 33.3 % of the users\n"
        );
    }
}
