//! `rtcade bench report` and `rtcade bench compare`: what is made of the reports of runs.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{ExitCode, complain};
use crate::bench::compare::Comparison;
use crate::bench::html::html;
use crate::bench::report::{REPORT_BYTES, Report};
use crate::bench::terminal;

#[derive(Debug, Args)]
pub(super) struct ReportOf {
    /// Reports that a run wrote with -o; several of one script become one.
    #[arg(value_name = "FILE.json", required = true)]
    files: Vec<PathBuf>,
    /// Write a page with charts, which needs no network.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the merged report as JSON.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// The report to compare with.
    #[arg(value_name = "A.json")]
    a: PathBuf,
    /// The report of what is to be judged.
    #[arg(value_name = "B.json")]
    b: PathBuf,
    /// By how much timings, failures and losses may grow; without it none are too high.
    #[arg(long, value_name = "PERCENT", value_parser = tolerance)]
    fail_on: Option<f64>,
}

/// As a share.
fn tolerance(text: &str) -> Result<f64, &'static str> {
    match text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(percent / 100.0),
        _ => Err("expected a percentage, as in 10%"),
    }
}

/// Prints the summary of all together, and writes what is asked for. The exit status is that of the run: 1 where a
/// check failed, 4 where a generator was overloaded, 130 where it was broken off; 2 where a file can't be read.
pub(super) fn report(arguments: &ReportOf) -> ExitCode {
    outcome(|| {
        let (first, others) = arguments.files.split_first().expect("one is required");
        let mut report = read(first)?;
        for path in others {
            report.merge(read(path)?).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        write(&report, arguments.output.as_deref(), arguments.html.as_deref())?;
        let _ = io::stdout().write_all(terminal::summary(&report).as_bytes());
        Ok(report.verdict().exit_status())
    })
}

/// Prints a table. The exit status is 1 where something is worse than it may be, 4 where an overloaded generator leaves
/// nothing to compare, 2 where a file can't be read.
pub(super) fn compare(arguments: &Compare) -> ExitCode {
    outcome(|| {
        let comparison = Comparison::new(&read(&arguments.a)?, &read(&arguments.b)?, arguments.fail_on);
        let _ = write!(io::stdout(), "{comparison}");
        Ok(comparison.verdict().exit_status())
    })
}

/// Writes the report as JSON and as a page, each where a file is named.
pub(super) fn write(report: &Report, json: Option<&Path>, page: Option<&Path>) -> Result<(), String> {
    let write = |path: &Path, text: String| {
        fs::write(path, text).map_err(|error| format!("{} can't be written: {error}", path.display()))
    };
    json.map_or(Ok(()), |path| write(path, report.to_json()))?;
    page.map_or(Ok(()), |path| write(path, html(report)))
}

fn outcome(act: impl FnOnce() -> Result<u8, String>) -> ExitCode {
    act().map_or_else(
        |sentence| {
            complain(&sentence);
            ExitCode::from(2)
        },
        ExitCode::from,
    )
}

fn read(path: &Path) -> Result<Report, String> {
    let name = path.display();
    let mut json = String::new();
    let limit = u64::try_from(REPORT_BYTES).expect("it fits") + 1;
    let file = File::open(path).map_err(|error| format!("{name} can't be read: {error}"))?;
    file.take(limit).read_to_string(&mut json).map_err(|error| format!("{name} can't be read: {error}"))?;
    Report::parse(&json).map_err(|error| format!("{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_is_a_percentage() {
        for (text, expected) in [("10%", Ok(0.1)), ("10", Ok(0.1)), ("0%", Ok(0.0)), ("-1%", Err(())), ("x", Err(()))] {
            assert_eq!(tolerance(text).map_err(|_| ()), expected, "{text}");
        }
    }
}
