//! `rtcade bench report` and `rtcade bench compare`: evaluate the reports of runs.

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
    /// Reports written with -o; several of the same script are merged.
    #[arg(value_name = "FILE.json", required = true)]
    files: Vec<PathBuf>,
    /// Write a self-contained HTML page with charts.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the merged report as JSON.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Compare {
    /// Baseline report.
    #[arg(value_name = "A.json")]
    a: PathBuf,
    /// Report to compare with the baseline.
    #[arg(value_name = "B.json")]
    b: PathBuf,
    /// Allowed increase of timings, failures and losses; without it the comparison never fails.
    #[arg(long, value_name = "PERCENT", value_parser = tolerance)]
    fail_on: Option<f64>,
}

/// Parses a percentage and returns it as a fraction.
fn tolerance(text: &str) -> Result<f64, &'static str> {
    match text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(percent / 100.0),
        _ => Err("expected a percentage, as in 10%"),
    }
}

/// Prints the merged summary and writes the requested files. Returns the exit status of the run: 1 if a check failed, 4
/// if a generator was overloaded, 130 if it was interrupted, 2 if a file can't be read.
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

/// Prints a table. Returns the exit status: 1 if something is worse than allowed, 4 if an overloaded generator makes
/// the figures unfit, 2 if a file can't be read.
pub(super) fn compare(arguments: &Compare) -> ExitCode {
    outcome(|| {
        let comparison = Comparison::new(&read(&arguments.a)?, &read(&arguments.b)?, arguments.fail_on);
        let _ = write!(io::stdout(), "{comparison}");
        Ok(comparison.verdict().exit_status())
    })
}

/// Writes the report as JSON and as a page, if a file is given.
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
