//! The text output of a run: live progress and the summary at the end.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::compare::number;
use super::meters::ACTIVE;
use super::report::{RECEIVED, Report, SENT, loss_ratio, sum};
use super::stats::{Share, Stats};

/// Minimum time between two redraws.
const REDRAW: Duration = Duration::from_millis(250);
/// Minimum time over which a rate is computed.
const RATE_OVER: Duration = Duration::from_secs(1);
const LINES_APART: Duration = Duration::from_secs(10);
/// The period of the current figures, in whole intervals.
const OF_NOW: Duration = Duration::from_secs(10);
const BAR_CELLS: usize = 30;
/// Phases shown in the live view.
const PHASES_SHOWN: usize = 8;

const LIVE_TIMINGS: [&str; 4] = ["rtc.echo", "websocket.echo", "http.response_time", "rtc.age"];

/// The output during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A view that is redrawn in place.
    Live,
    /// A line every 10 s.
    Lines,
    /// No output.
    Quiet,
}

impl Mode {
    /// Returns the mode that suits standard output.
    #[must_use]
    pub fn of_stdout(is_quiet: bool) -> Mode {
        match is_quiet {
            true => Mode::Quiet,
            false if io::stdout().is_terminal() => Mode::Live,
            false => Mode::Lines,
        }
    }
}

/// The progress output of a run. Write errors are ignored: the run continues if the output is closed.
#[derive(Debug)]
pub struct Terminal<W> {
    out: W,
    mode: Mode,
    title: String,
    phases: Vec<(String, Duration)>,
    shown_at: Option<Duration>,
    /// Lines of the view on the screen.
    lines: usize,
    /// The basis of the rates: time, sent, received.
    sample: (Duration, u64, u64),
    rates: Option<(f64, f64)>,
}

impl<W: Write> Terminal<W> {
    /// Returns the view of a run with these phases, each with its length, in order.
    pub fn new(out: W, mode: Mode, title: &str, phases: Vec<(String, Duration)>) -> Terminal<W> {
        let phases = phases.into_iter().map(|(name, duration)| (printable(&name), duration)).collect();
        let title = printable(title);
        let sample = (Duration::ZERO, 0, 0);
        Terminal { out, mode, title, phases, shown_at: None, lines: 0, sample, rates: None }
    }

    /// Shows the progress if an update is due. `phase` is the index of the current phase, `active` the number of active
    /// virtual users.
    pub fn show(&mut self, elapsed: Duration, phase: usize, active: usize, stats: &Stats) {
        let pause = match self.mode {
            Mode::Live => REDRAW,
            Mode::Lines => LINES_APART,
            Mode::Quiet => return,
        };
        let next = self.shown_at.map_or(if self.mode == Mode::Live { Duration::ZERO } else { pause }, |at| at + pause);
        if elapsed < next {
            return;
        }
        // Lines stay on the grid of the intervals even if one was late.
        self.shown_at = Some(match self.mode {
            Mode::Lines => Duration::from_secs(elapsed.as_secs() / LINES_APART.as_secs() * LINES_APART.as_secs()),
            Mode::Live | Mode::Quiet => elapsed,
        });
        self.take_rates(elapsed, stats);
        let text = match self.mode {
            Mode::Lines => self.line(elapsed, phase, active, stats),
            Mode::Live | Mode::Quiet => self.picture(elapsed, phase, active, stats),
        };
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    /// Shows the output of a user, above the live view if there is one.
    pub fn say(&mut self, text: &str) {
        let text = printable(text);
        let text = match self.mode {
            Mode::Quiet => return,
            Mode::Live if self.lines > 0 => format!("\x1b[{}A\r\x1b[J{text}\n", self.lines),
            Mode::Live | Mode::Lines => format!("{text}\n"),
        };
        // The view is redrawn at once.
        (self.lines, self.shown_at) = (0, self.shown_at.filter(|_| self.mode != Mode::Live));
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    fn take_rates(&mut self, elapsed: Duration, stats: &Stats) {
        let (at, sent_before, received_before) = self.sample;
        let over = elapsed.saturating_sub(at);
        if over >= RATE_OVER {
            let [sent, received] =
                [&SENT[..], &RECEIVED].map(|names| sum(stats, names, Share::All).unwrap_or_default());
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / over.as_secs_f64();
            self.rates = Some((rate(sent, sent_before), rate(received, received_before)));
            self.sample = (elapsed, sent, received);
        }
    }

    /// Returns the current figures without those that are not known yet.
    fn figures(&self, elapsed: Duration, stats: &Stats) -> Vec<String> {
        let mut figures = Vec::new();
        if let Some((up, down)) = self.rates {
            figures.push(format!("{up:.0}/s up, {down:.0}/s down"));
        }
        if let Some(timing) = LIVE_TIMINGS.iter().find_map(|timing| of_now(stats, timing, elapsed)) {
            figures.push(timing);
        }
        if let Some(loss) = loss_ratio(stats, Share::All) {
            figures.push(format!("loss {:.2}%", loss * 100.0));
        }
        figures.push(format!("errors {}", errors(stats)));
        figures
    }

    fn line(&self, elapsed: Duration, phase: usize, active: usize, stats: &Stats) -> String {
        let name = self.phases.get(phase).map_or("", |(name, _)| name.as_str());
        format!("{} {name}: {active} users, {}\n", clock(elapsed), self.figures(elapsed, stats).join(", "))
    }

    fn picture(&mut self, elapsed: Duration, phase: usize, active: usize, stats: &Stats) -> String {
        let total: Duration = self.phases.iter().map(|(_, duration)| *duration).sum();
        let rest = if elapsed > total && active > 0 { ", waiting for the last users" } else { "" };
        let mut lines = vec![format!("{}  {} of {}{rest}", self.title, clock(elapsed), clock(total))];
        let width = self.phases.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(24);
        let first = phase.saturating_sub(PHASES_SHOWN / 2).min(self.phases.len().saturating_sub(PHASES_SHOWN));
        let mut begin: Duration = self.phases.iter().take(first).map(|(_, duration)| *duration).sum();
        for (name, duration) in self.phases.iter().skip(first).take(PHASES_SHOWN) {
            let done = elapsed.saturating_sub(begin).as_secs_f64();
            let share = if duration.is_zero() { f64::from(elapsed >= begin) } else { done / duration.as_secs_f64() };
            let share = share.min(1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the bar's cells")]
            let full = (share * BAR_CELLS as f64) as usize;
            let name: String = name.chars().take(width).collect();
            let bar = "█".repeat(full) + &"░".repeat(BAR_CELLS - full);
            lines.push(format!("  {name:width$} {bar} {:3.0}%", share * 100.0));
            begin += *duration;
        }
        let count = |name| stats.count(name, Share::All).unwrap_or(0);
        let [created, completed, failed] = ["vusers.created", "vusers.completed", "vusers.failed"].map(count);
        let most = stats.gauge_max(ACTIVE).map(|most| format!(" (at most {most})")).unwrap_or_default();
        let skipped = stats.count("vusers.skipped", Share::All).map(|skipped| format!(", {skipped} skipped"));
        lines.push(format!(
            "  users {active} active{most}, {created} created, {completed} completed, {failed} failed{}",
            skipped.unwrap_or_default()
        ));
        lines.extend(self.figures(elapsed, stats).into_iter().map(|figure| format!("  {figure}")));

        // Without wrapping, or a long line would be two, and the next view would start too low.
        let mut text = String::from("\x1b[?7l");
        if self.lines > 0 {
            write!(text, "\x1b[{}A", self.lines).expect("a string takes everything");
        }
        self.lines = lines.len();
        for line in lines {
            write!(text, "\r\x1b[2K{line}\n").expect("a string takes everything");
        }
        // Clears the rest of a longer view.
        text + "\x1b[J\x1b[?7h"
    }
}

/// Returns the figures of a timing in the last seconds.
fn of_now(stats: &Stats, timing: &str, elapsed: Duration) -> Option<String> {
    let [from, now] = [elapsed.saturating_sub(OF_NOW), elapsed].map(|at| stats.interval_of(at));
    let summary = stats.summary(timing, Share::Between(from, now + 1))?;
    let [p50, p95, p99] = [summary.p50, summary.p95, summary.p99].map(number);
    Some(format!("{timing} p50 {p50} p95 {p95} p99 {p99} ms"))
}

/// Returns the number of errors of all kinds.
pub(super) fn errors(stats: &Stats) -> u64 {
    let names: Vec<&str> = stats.counters().filter(|name| name.starts_with("errors.")).collect();
    sum(stats, &names, Share::All).unwrap_or_default()
}

/// Formats as minutes and seconds, with hours if needed.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes:02}:{seconds:02}") }
}

/// Removes control characters.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Returns the summary of a run.
#[must_use]
pub fn summary(report: &Report) -> String {
    let stats = &report.stats;
    let origin = &report.origins[0];
    let mut lines = vec![format!(
        "{} against {}: {} s, seed {}, {} {}",
        printable(&origin.script),
        printable(&origin.target),
        number(stats.elapsed().as_secs_f64()),
        origin.seed,
        report.origins.len(),
        if report.origins.len() == 1 { "run" } else { "runs" },
    )];
    let counted =
        stats.counters().map(|name| (printable(name), stats.count(name, Share::All).unwrap_or(0).to_string()));
    let most = stats.gauges().filter_map(|name| Some((format!("{} (most)", printable(name)), stats.gauge_max(name)?)));
    let rates = report.rates(Share::All).into_iter().chain(most).map(|(name, value)| (name, number(value)));
    let rows: Vec<(String, String)> = counted.chain(rates).collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    lines.extend(rows.into_iter().map(|(name, value)| format!("  {name:width$} {value:>12}")));

    let width = stats.timings().map(|name| name.chars().count()).max().unwrap_or(0);
    let columns = |values: [String; 7]| values.map(|value| format!("{value:>10}")).join("");
    let heads = ["count", "min", "mean", "p50", "p95", "p99", "max"].map(str::to_owned);
    lines.push(format!("  {:width$}{}", "ms", columns(heads)));
    for name in stats.timings() {
        if let Some(figures) = stats.summary(name, Share::All) {
            let [min, mean, p50, p95, p99, max] =
                [figures.min, figures.mean, figures.p50, figures.p95, figures.p99, figures.max].map(number);
            let figures = columns([figures.count.to_string(), min, mean, p50, p95, p99, max]);
            lines.push(format!("  {:width$}{figures}", printable(name)));
        }
    }
    for outcome in report.outcomes() {
        let mark = match (outcome.is_ok, outcome.is_strict) {
            (true, _) => "ok",
            (false, true) => "FAILED",
            (false, false) => "failed, optional",
        };
        let values = outcome.values.iter().map(|(name, value)| match value {
            Some(value) => format!("{} = {}", printable(name), number(*value)),
            None => format!("{} was not measured", printable(name)),
        });
        let values: Vec<String> = values.collect();
        lines.push(format!("{mark}: {} ({})", printable(&outcome.condition), values.join(", ")));
    }
    if let Some(reason) = report.overload() {
        lines.push(format!("UNFIT: the generator was overloaded: {}", printable(reason)));
    }
    if report.origins.iter().any(|origin| origin.interrupted) {
        lines.push("INTERRUPTED: these are the figures until then".to_owned());
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::stats::{INTERVAL, Who};
    use super::*;

    /// Returns the output for a minute of a run, updated every 50 ms.
    fn shown(mode: Mode) -> String {
        let mut stats = Stats::new(INTERVAL, vec!["warm".to_owned(), "hot".to_owned()], vec!["s".to_owned()]);
        let (sent, timing) = (stats.counter("rtc.sent"), stats.timing("rtc.echo"));
        let mut out = Vec::new();
        let phases =
            vec![("wa\x1b[2Jrm".to_owned(), Duration::from_secs(30)), ("hot".to_owned(), Duration::from_secs(30))];
        let mut terminal = Terminal::new(&mut out, mode, "s.yml", phases);
        for step in 0..1_200 {
            let (at, who) = (Duration::from_millis(step * 50), Who { phase: 0, scenario: 0 });
            stats.add(at, who, sent, 5);
            stats.record(at, who, timing, Duration::from_millis(20));
            stats.raise_gauge(at, ACTIVE, if step == 5 { 9.0 } else { 7.0 });
            terminal.show(at, usize::from(step >= 600), 7, &stats);
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_picture_is_redrawn_in_place() {
        let text = shown(Mode::Live);
        let pictures: Vec<&str> = text.split("\x1b[?7l").skip(1).collect();
        assert_eq!(pictures.len(), 240, "four times a second");
        for pair in pictures.windows(2) {
            let lines = pair[0].matches('\n').count();
            assert!(pair[1].starts_with(&format!("\x1b[{lines}A\r")), "{pair:?}");
        }
        let last = pictures[239];
        for part in
            ["00:59 of 01:00", "100%", " 99%", "users 7 active (at most 9)", "100/s up", "p99 20.0 ms", "errors 0"]
        {
            assert!(last.contains(part), "{part} {last}");
        }
        assert!(!text.contains("\x1b[2J"), "what the script says is no command");
    }

    #[test]
    fn what_users_say_stands_above_the_picture() {
        let stats = Stats::new(INTERVAL, vec!["p".to_owned()], vec!["s".to_owned()]);
        let said = |mode| {
            let mut out = Vec::new();
            let mut terminal = Terminal::new(&mut out, mode, "s.yml", vec![("p".to_owned(), Duration::from_secs(9))]);
            terminal.show(Duration::ZERO, 0, 1, &stats);
            terminal.say("hel\x1blo");
            terminal.show(Duration::from_millis(1), 0, 1, &stats);
            String::from_utf8(out).expect("text")
        };
        let (before, after) = (said(Mode::Live), said(Mode::Lines));
        let [first, rest] = before.split("hel\u{fffd}lo\n").collect::<Vec<_>>()[..] else { panic!("{before}") };
        let lines = first.matches('\n').count();
        assert!(first.ends_with(&format!("\x1b[{lines}A\r\x1b[J")), "over the picture: {first:?}");
        assert!(rest.contains("s.yml") && !rest.contains("A\r"), "and another below: {rest:?}");
        assert_eq!((after.as_str(), said(Mode::Quiet).as_str()), ("hel\u{fffd}lo\n", ""));
    }

    #[test]
    fn where_there_is_no_terminal_there_are_lines() {
        let text = shown(Mode::Lines);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[4].starts_with("00:50 hot: 7 users, 100/s up, 0/s down, rtc.echo p50 20.0 p95 20.0"), "{text}");
        assert!(!text.contains('\x1b'));
        assert_eq!(shown(Mode::Quiet), "");
    }
}
