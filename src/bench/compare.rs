//! Two runs beside each other.

use std::collections::BTreeSet;
use std::fmt;

use super::report::{Report, Verdict};

/// What of a timing is compared.
const FIGURES: [&str; 3] = ["p50", "p95", "p99"];
/// Shares and counts of which more is worse, whatever else differs.
const RATIOS: [&str; 2] = ["vusers.failed_ratio", "rtc.loss_ratio"];
/// Timings that say nothing of the server.
const NEUTRAL_TIMINGS: [&str; 2] = ["vusers.session_length", "generator.lateness"];
/// Counters that are shown beside, each for the size of the run.
const COUNTERS: [&str; 5] = ["vusers.created", "vusers.completed", "rtc.sent", "rtc.received", "http.requests"];

/// Figures of two runs.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// By metric.
    pub rows: Vec<Row>,
    /// Why nothing can be said of them, where that is so.
    pub unfit: Option<String>,
}

/// A metric of two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its name.
    pub metric: String,
    /// Of the one run; nothing where it wasn't measured.
    pub a: Option<f64>,
    /// Of the other.
    pub b: Option<f64>,
    /// Whether `b` is worse than it may be.
    pub is_worse: bool,
}

impl Comparison {
    /// Of two reports. Timings, the share of errors and that of losses may grow by the share `tolerance` (0.1 is 10 %);
    /// what was measured before must be measured again. Nothing is called worse without a tolerance.
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

    /// How it came out.
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

/// With as many digits as say something.
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
