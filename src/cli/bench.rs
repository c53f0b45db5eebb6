//! `rtcade bench`: the load tester.

use clap::Subcommand;

use super::{ExitCode, bench_report};

#[derive(Debug, Subcommand)]
pub(super) enum Bench {
    /// Sum up the JSON that runs wrote, and make a page with charts of it.
    ///
    /// The exit status is 0 where the run reached what it must, 1 where a check failed, 2 where a file can't be read, 4
    /// where a generator was overloaded, 130 where a run was broken off.
    Report(bench_report::ReportOf),
    /// Compare the JSON that two runs wrote.
    ///
    /// The exit status is 0 where nothing is worse than it may be, 1 where something is, 2 where a file can't be read,
    /// 4 where the figures are unfit because a generator was overloaded.
    Compare(bench_report::Compare),
}

pub(super) fn run(bench: &Bench) -> ExitCode {
    match bench {
        Bench::Report(arguments) => bench_report::report(arguments),
        Bench::Compare(arguments) => bench_report::compare(arguments),
    }
}
