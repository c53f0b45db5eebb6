//! Comparison of two runs.

use std::collections::BTreeSet;
use std::fmt;

use super::report::{CPU_PER_MESSAGE, Report, Verdict};

/// The figures of a timing that are compared.
const FIGURES: [&str; 3] = ["p50", "p95", "p99"];
/// Shares that are worse when higher, whatever else differs.
const RATIOS: [&str; 2] = ["vusers.failed_ratio", "rtc.loss_ratio"];
/// Timings that do not depend on the server.
const NEUTRAL_TIMINGS: [&str; 2] = ["vusers.session_length", "generator.lateness"];
/// Counters that are shown to indicate the size of the run.
const COUNTERS: [&str; 5] = ["vusers.created", "vusers.completed", "rtc.sent", "rtc.received", "http.requests"];

/// The figures of two runs.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The rows, by metric.
    pub rows: Vec<Row>,
    /// Why the figures are unfit for a comparison, if they are.
    pub unfit: Option<String>,
}

/// A metric of two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The name of the metric.
    pub metric: String,
    /// The value in the baseline; `None` if not measured.
    pub a: Option<f64>,
    /// The value in the other run.
    pub b: Option<f64>,
    /// Whether `b` is worse than allowed.
    pub is_worse: bool,
}

impl Comparison {
    /// Compares two reports. Timings, the shares of failed users and lost messages, and the server's CPU time per
    /// message may grow by the fraction `tolerance` (0.1 is 10 %); what the baseline measured must be measured again.
    /// Without a tolerance nothing counts as worse.
    #[must_use]
    pub fn new(a: &Report, b: &Report, tolerance: Option<f64>) -> Comparison {
        let timings: BTreeSet<&str> = a.stats.timings().chain(b.stats.timings()).collect();
        let mut rows = Vec::new();
        let mut row = |metric: String, is_judged: bool| {
            let (a, b) = (a.metric(&metric), b.metric(&metric));
            if a.is_none() && b.is_none() {
                return;
            }
            let is_worse = is_judged
                && match (a, b, tolerance) {
                    (Some(a), Some(b), Some(tolerance)) => b > a * (1.0 + tolerance),
                    (Some(_), None, Some(_)) => true,
                    _ => false,
                };
            rows.push(Row { metric, a, b, is_worse });
        };
        for timing in timings {
            for figure in FIGURES {
                row(format!("{timing}.{figure}"), !NEUTRAL_TIMINGS.contains(&timing));
            }
        }
        for ratio in RATIOS {
            row(ratio.to_owned(), true);
        }
        // Unknown for merged runs.
        row(CPU_PER_MESSAGE.to_owned(), [a, b].iter().all(|report| report.origins.len() == 1));
        let errors: BTreeSet<&str> =
            a.stats.counters().chain(b.stats.counters()).filter(|name| name.starts_with("errors.")).collect();
        for counter in COUNTERS.into_iter().chain(errors) {
            row(counter.to_owned(), false);
        }
        let unfit = [("first", a), ("second", b)].into_iter().find_map(|(which, report)| {
            let reason = report.overload()?;
            Some(format!("the {which} run's generator was overloaded: {reason}"))
        });
        Comparison { rows, unfit }
    }

    /// Returns the verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.unfit.is_some() {
            Verdict::Unfit
        } else if self.rows.iter().any(|row| row.is_worse) {
            Verdict::Failed
        } else {
            Verdict::Passed
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.metric.chars().count()).max().unwrap_or(0).max(6);
        writeln!(f, "{:width$} {:>12} {:>12} {:>9}", "metric", "a", "b", "change")?;
        for Row { metric, a, b, is_worse } in &self.rows {
            let number = |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), number);
            let change = match (a, b) {
                (Some(a), Some(b)) if a == b => "0.0%".to_owned(),
                (Some(a), Some(b)) if *a != 0.0 => format!("{:+.1}%", (b - a) / a * 100.0),
                (Some(_), None) => "missing".to_owned(),
                _ => "new".to_owned(),
            };
            let mark = if *is_worse { "  worse" } else { "" };
            writeln!(f, "{metric:width$} {:>12} {:>12} {change:>9}{mark}", number(a), number(b))?;
        }
        match &self.unfit {
            Some(reason) => writeln!(f, "unfit: {reason}"),
            None => Ok(()),
        }
    }
}

/// Formats a number with its significant digits.
pub(super) fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1_000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else if value.abs() >= 0.1 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::report::Machine;
    use super::super::stats::{INTERVAL, Run, Stats, Who};
    use super::*;

    /// A made-up run of 100 users of which `failed` fail; without timings if `ms` is 0.
    fn run(ms: u64, failed: u64, sent: u64) -> Report {
        let mut stats = Stats::new(INTERVAL, vec!["p".to_owned()], vec!["s".to_owned()]);
        let (at, who) = (Duration::from_secs(1), Who { phase: 0, scenario: 0 });
        for (name, count) in [("vusers.created", 100), ("vusers.failed", failed), ("rtc.sent", sent)] {
            let counter = stats.counter(name);
            stats.add(at, who, counter, count);
        }
        if ms > 0 {
            for name in ["rtc.echo", "vusers.session_length"] {
                let timing = stats.timing(name);
                stats.record(at, who, timing, Duration::from_millis(ms));
            }
        }
        let run = Run {
            script: String::new(),
            target: String::new(),
            seed: 0,
            began_unix_ms: 0,
            threads: 1,
            phase_durations: vec![Duration::from_secs(1)],
            stats,
            scrapes: Vec::new(),
            overload: None,
            generator_cpu: 0.5,
            is_interrupted: false,
        };
        Report::new(run, Machine::this(), Vec::new())
    }

    #[test]
    fn only_what_grows_beyond_the_tolerance_is_worse() {
        let check = |a: Report, b: Report, tolerance, expected: &[&str]| {
            let comparison = Comparison::new(&a, &b, tolerance);
            let worse: Vec<_> = comparison.rows.iter().filter(|row| row.is_worse).map(|row| &row.metric).collect();
            assert_eq!(worse, expected, "{comparison}");
            assert_eq!(comparison.verdict() == Verdict::Failed, !expected.is_empty());
        };
        let echo = ["rtc.echo.p50", "rtc.echo.p95", "rtc.echo.p99"];
        check(run(100, 1, 5), run(109, 1, 5), Some(0.1), &[]);
        check(run(100, 1, 5), run(112, 1, 900), Some(0.1), &echo);
        check(run(100, 1, 5), run(50, 1, 5), Some(0.0), &[]);
        check(run(100, 0, 5), run(100, 1, 5), Some(0.1), &["vusers.failed_ratio"]);
        check(run(100, 1, 5), run(0, 1, 5), Some(0.1), &echo);
        check(run(0, 1, 5), run(100, 1, 5), Some(0.1), &[]);
        check(run(100, 1, 5), run(900, 50, 5), None, &[]);
    }

    #[test]
    fn more_cpu_per_message_is_worse() {
        let with_cpu = |seconds: f64| {
            let mut report = run(100, 1, 5);
            let counter = report.stats.counter("rtc.received");
            report.stats.add(Duration::from_secs(10), Who { phase: 0, scenario: 0 }, counter, 1_000);
            let scrape =
                |(at, used)| (Duration::from_secs(at), [("process_cpu_seconds_total".to_owned(), used)].into());
            report.scrapes = [(0, 0.0), (10, seconds)].map(scrape).to_vec();
            report
        };
        let judged = |a: Report, b: Report| Comparison::new(&a, &b, Some(0.1)).verdict();
        assert_eq!(judged(with_cpu(1.0), with_cpu(1.09)), Verdict::Passed);
        assert_eq!(judged(with_cpu(1.0), with_cpu(1.11)), Verdict::Failed);
        assert_eq!(judged(with_cpu(1.0), with_cpu(0.2)), Verdict::Passed);
        let mut merged = with_cpu(1.0);
        merged.merge(with_cpu(1.0)).expect("the same script");
        assert_eq!(judged(with_cpu(1.0), merged), Verdict::Passed, "it isn't known");
    }

    #[test]
    fn the_table_shows_the_change() {
        let table = Comparison::new(&run(100, 0, 1_000), &run(120, 2, 1_500), Some(0.1)).to_string();
        let row = |metric: &str| table.lines().find(|line| line.starts_with(metric)).unwrap_or_default().to_owned();
        for (metric, parts) in [
            ("metric", ["a", "b", "change"]),
            ("rtc.echo.p99", ["100", "120", "worse"]),
            ("vusers.failed_ratio", ["0", "0.02", "new  worse"]),
            ("rtc.sent", ["1000", "1500", "+50.0%"]),
        ] {
            assert!(parts.iter().all(|part| row(metric).contains(part)), "{table}");
        }
    }
}
