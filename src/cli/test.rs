//! `rtcade test`: the tests of games in JavaScript.

#![expect(clippy::disallowed_methods, reason = "the lines say how long a test took")]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::script::{describe, loaded, read};
use super::{ExitCode, complain};
use crate::script::{TestResult, run_tests};

const TEST_ENDING: &str = ".test.js";

#[derive(Debug, Args)]
#[command(after_long_help = "\
Exit status:
  0  every test has passed
  1  a test has failed
  2  the tests can't be run")]
pub(super) struct Test {
    /// Files of tests, or directories with some. game.test.js tests game.js beside it.
    #[arg(value_name = "FILE.test.js|DIR", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Number of seeds with which each test is run, from --seed on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,
    /// The first seed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=9_007_199_253_740_992))]
    seed: u64,
    /// Run the tests whose names contain this text.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
}

/// How many tests there were, and how many have failed.
#[derive(Default)]
struct Totals {
    tests: u64,
    failed: u64,
}

pub(super) fn run(arguments: &Test) -> ExitCode {
    let mut files = Vec::new();
    for path in &arguments.paths {
        if path.is_dir() {
            files.extend(tests_in(path));
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        complain("there are no tests: their files end in .test.js, as in game.test.js beside game.js");
        return ExitCode::from(2);
    }
    let begun = Instant::now();
    let mut totals = Totals::default();
    for file in &files {
        if let Err(sentence) = run_file(file, arguments, &mut totals) {
            complain(&format!("{}: {sentence}", file.display()));
            return ExitCode::from(2);
        }
    }
    let Totals { tests, failed } = totals;
    say(&format!(
        "\n\u{2139} tests {tests}\n\u{2139} pass {}\n\u{2139} fail {failed}\n\u{2139} duration_ms {:.0}",
        tests - failed,
        begun.elapsed().as_secs_f64() * 1e3
    ));
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The files of tests in a directory, by name.
fn tests_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_test = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(TEST_ENDING));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_test).collect();
    files.sort();
    files
}

fn run_file(file: &Path, arguments: &Test, totals: &mut Totals) -> Result<(), String> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(game) = name.strip_suffix(TEST_ENDING) else {
        return Err("a file of tests has a name as in game.test.js".to_owned());
    };
    let (source, program, checked) =
        loaded(&file.with_file_name(format!("{game}.js"))).map_err(|_| "its game can't be loaded".to_owned())?;
    let directory = source.directory.clone();
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.seeds);
    let is_wanted = |name: &str| arguments.name.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let mut begun = Instant::now();
    let each = |result: &TestResult| {
        totals.tests += 1;
        totals.failed += u64::from(result.failure.is_some());
        let seed = if arguments.seeds > 1 { format!(", seed {}", result.seed) } else { String::new() };
        let took = begun.elapsed().as_secs_f64() * 1e3;
        begun = Instant::now();
        let mark = if result.failure.is_some() { "\u{2716}" } else { "\u{2714}" };
        say(&format!("{mark} {}{seed} ({took:.1}ms)", result.name));
        if let Some(failure) = &result.failure {
            let text = failure.with_calls().replace('\n', "\n  ");
            say(&format!("  {text}\n  seed {}: rtcade test --seed {}", result.seed, result.seed));
        }
    };
    run_tests((&program, checked), name, move |path| read(&directory, path), seeds, is_wanted, each)
        .map_err(|failure| describe(&failure))
}

fn say(line: &str) {
    // The reader may close its end; the exit status says how it went.
    let _ = writeln!(io::stdout(), "{line}");
}
