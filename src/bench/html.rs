//! A report as a self-contained HTML file.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;

use super::chart::{Chart, Phase, escape};
use super::compare;
use super::ensure::Outcome;
use super::meters::ACTIVE;
use super::report::{RECEIVED, Report, SENT, Verdict, loss_ratio, seconds_of, sum};
use super::stats::{Share, Stats, Summary};
use super::terminal::{clock, errors};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// Points of a line; in a longer run each covers several intervals.
const POINTS_MAX: usize = 720;
/// Metrics of the server that are listed.
const METRICS_MAX: usize = 500;

/// Returns the report as HTML: summary, checks, charts and tables. Text from files is escaped.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut page = Page { report, stats: &report.stats, html: String::new() };
    page.head();
    page.verdict();
    page.cards();
    page.charts();
    page.sections("Phases", report.stats.phases(), Share::Phase);
    page.sections("Scenarios", report.stats.scenarios(), Share::Scenario);
    page.timings();
    page.counters();
    page.server();
    page.origins();
    page.put(format_args!("<script>\n{SCRIPT}</script>\n</body>\n</html>\n"));
    page.html
}

struct Page<'a> {
    report: &'a Report,
    stats: &'a Stats,
    html: String,
}

impl Page<'_> {
    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.html.write_fmt(text).expect("a string takes everything");
    }

    fn head(&mut self) {
        let origin = &self.report.origins[0];
        let machine = &origin.machine;
        let script = escape(&origin.script);
        self.put(format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'\">\n<title>{script} – rtcade bench</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{script}</h1>\n"
        ));
        let runs = match self.report.origins.len() {
            1 => String::new(),
            runs => format!(" · {runs} runs merged"),
        };
        self.put(format_args!(
            "<p>against {} · {} · {} long · seed {}{runs}</p>\n\
             <p>made on {}, {} cores, {}, {}; rtcade {}{}</p>\n</header>\n",
            escape(&origin.target),
            date(self.report.began_at()),
            clock(self.stats.elapsed()),
            origin.seed,
            escape(&machine.cpu),
            machine.cores,
            gibibytes(machine.memory_bytes),
            escape(&machine.kernel),
            escape(&machine.version),
            machine.commit.as_ref().map_or_else(String::new, |commit| format!(" ({})", escape(commit))),
        ));
    }

    fn verdict(&mut self) {
        let outcomes = self.report.outcomes();
        let failed = outcomes.iter().filter(|outcome| outcome.is_strict && !outcome.is_ok).count();
        let (class, text) = match self.report.verdict() {
            Verdict::Interrupted => ("warn", "The run was interrupted: these are its figures until then.".to_owned()),
            Verdict::Unfit => {
                let reason = self.report.overload().unwrap_or_default();
                let text = "Unfit: the generator was overloaded, so these figures do not describe the server";
                ("bad", format!("{text}: {reason}"))
            }
            Verdict::Failed => ("bad", format!("{failed} of {} checks failed", outcomes.len())),
            Verdict::Passed if outcomes.is_empty() => ("none", "No checks were defined".to_owned()),
            Verdict::Passed if outcomes.len() == 1 => ("good", "The check passed".to_owned()),
            Verdict::Passed => ("good", format!("All {} checks passed", outcomes.len())),
        };
        self.put(format_args!("<p class=\"verdict {class}\">{}</p>\n", escape(&text)));
        if outcomes.is_empty() {
            return;
        }
        let rows = outcomes.iter().map(|Outcome { condition, is_strict, is_ok, values }| {
            let outcome = match (is_ok, is_strict) {
                (true, _) => "<b class=\"good\">passed</b>",
                (false, true) => "<b class=\"bad\">failed</b>",
                (false, false) => "<b class=\"warn\">failed, optional</b>",
            };
            let values = values.iter().map(|(name, value)| match value {
                Some(value) => format!("{} = {}", escape(name), number(*value)),
                None => format!("{} was not measured", escape(name)),
            });
            let values: Vec<String> = values.collect();
            vec![td_of_text(&escape(condition)), td(outcome), td_of_text(&values.join(", "))]
        });
        self.table(&["check", "outcome", "measured"], rows.collect());
    }

    fn cards(&mut self) {
        let stats = self.stats;
        let count = |name| stats.count(name, Share::All).unwrap_or(0);
        let [created, completed, failed] = ["vusers.created", "vusers.completed", "vusers.failed"].map(count);
        let of_one = if self.report.origins.len() > 1 { " in one run" } else { "" };
        let most = stats.gauge_max(ACTIVE).map(|most| format!("at most {} at once{of_one}", number(most)));
        let mut cards = vec![card("Users", &number(created as f64), "", &most.unwrap_or_default())];
        cards.push(card(
            "Failed users",
            &number(failed as f64),
            "",
            &format!("{} completed, {} errors", number(completed as f64), number(errors(stats) as f64)),
        ));
        if let Some(seconds) = seconds_of(stats, Share::All) {
            let [sent, received] =
                [&SENT[..], &RECEIVED].map(|names| sum(stats, names, Share::All).unwrap_or_default() as f64);
            let up_and_down =
                format!("{} up, {} down", number(round(sent / seconds)), number(round(received / seconds)));
            cards.push(card("Messages", &number(round((sent + received) / seconds)), "/s", &up_and_down));
        }
        if let Some(timing) = self.report.main_timing()
            && let Some(summary) = stats.summary(timing, Share::All)
        {
            for (name, value) in [("p50", summary.p50), ("p95", summary.p95), ("p99", summary.p99)] {
                cards.push(card(&format!("{timing} {name}"), &number(value), "ms", meaning(timing)));
            }
        }
        if let Some(loss) = loss_ratio(stats, Share::All) {
            let of = format!(
                "{} of {}",
                number(count("rtc.lost") as f64),
                number(count("rtc.lost").saturating_add(count("rtc.received")) as f64)
            );
            cards.push(card("Loss", &format!("{:.2}", loss * 100.0), "%", &of));
        }
        if let Some(micros) = self.report.cpu_per_message(Share::All) {
            cards.push(card("Server CPU", &number(micros), "µs", "per message received"));
        }
        if let Some((bytes, whole)) = self.report.state_ratios(Share::All) {
            let of = format!("of the bytes encoded; {:.1} % were sent whole", whole * 100.0);
            cards.push(card("States", &format!("{:.1}", bytes * 100.0), "%", &of));
        }
        self.put(format_args!("<dl class=\"cards\">\n{}</dl>\n", cards.concat()));
    }

    /// Returns the intervals that the points of the charts cover.
    fn points(&self) -> Vec<Share> {
        let intervals = self.stats.intervals();
        let step = intervals.div_ceil(POINTS_MAX).max(1);
        (0..intervals).step_by(step).map(|from| Share::Between(from, (from + step).min(intervals))).collect()
    }

    fn charts(&mut self) {
        let stats = self.stats;
        let phases: Vec<Phase<'_>> = (self.report.phases())
            .map(|(name, begin, end)| Phase { name, begin: begin.as_secs_f64(), end: end.as_secs_f64() })
            .collect();
        // A phase at the end without arrivals may have no measurements.
        let is_whole = self.report.origins.iter().all(|origin| !origin.interrupted);
        let planned = phases.last().filter(|_| is_whole).map_or(0.0, |last| last.end);
        let seconds = stats.elapsed().as_secs_f64().max(planned);
        let points = self.points();
        let step = match points[..] {
            [Share::Between(_, step), _, ..] if seconds > 0.0 => step,
            _ => {
                let step = stats.interval().as_secs();
                let text = format!("The run was too short for charts: they have a point for every {step} s.");
                self.put(format_args!("<h2>Over time</h2>\n<p class=\"soft\">{text}</p>\n"));
                return;
            }
        };
        let middle = |share: &Share| match share {
            Share::Between(from, to) => {
                let [from, to] = [*from, *to].map(|interval| stats.begin_of(interval).as_secs_f64());
                f64::midpoint(from, to.min(seconds).max(from)).min(seconds)
            }
            _ => 0.0,
        };
        let at: Vec<f64> = points.iter().map(middle).collect();
        let timing = |name: &str, figure: fn(&Summary) -> f64| -> Vec<Option<f64>> {
            points.iter().map(|share| stats.summary(name, *share).as_ref().map(figure)).collect()
        };
        let per_second = |names: &[&str], scale: f64| -> Vec<Option<f64>> {
            let rate = |share: &Share| Some(sum(stats, names, *share)? as f64 * scale / seconds_of(stats, *share)?);
            points.iter().map(rate).collect()
        };
        let percentiles = |name| {
            vec![
                ("p50", timing(name, |summary| summary.p50)),
                ("p95", timing(name, |summary| summary.p95)),
                ("p99", timing(name, |summary| summary.p99)),
            ]
        };
        let mut charts = Vec::new();
        let main = self.report.main_timing();
        if let Some(main) = main {
            charts.push((format!("{main}: {}", meaning(main)), "ms", percentiles(main)));
        }
        let most = points.iter().map(|share| active_users(stats, *share)).collect();
        charts.push(("Active users (maximum)".to_owned(), "users", vec![("users", most)]));
        let throughput = vec![("up", per_second(&SENT, 1.0)), ("down", per_second(&RECEIVED, 1.0))];
        charts.push(("Messages".to_owned(), "per s", throughput));
        let bytes = vec![
            ("up", per_second(&["rtc.bytes_up"], 1.0 / 1024.0)),
            ("down", per_second(&["rtc.bytes_down"], 1.0 / 1024.0)),
        ];
        charts.push(("Bytes".to_owned(), "KiB/s", bytes));
        let loss = points.iter().map(|share| loss_ratio(stats, *share).map(|loss| loss * 100.0)).collect();
        charts.push(("Loss".to_owned(), "%", vec![("loss", loss)]));
        for name in ["rtc.age", "rtc.tick_gap"] {
            if main != Some(name) {
                charts.push((format!("{name}: {}", meaning(name)), "ms", percentiles(name)));
            }
        }
        let lateness = percentiles("generator.lateness");
        let cpu = points.iter().map(|share| self.report.cpu_per_message(*share)).collect();
        charts.push(("CPU of the server per message that users received".to_owned(), "µs", vec![("CPU", cpu)]));
        charts.push(("generator.lateness: delay of the generator itself".to_owned(), "ms", lateness));

        let mut html = String::new();
        for (i, (title, unit, lines)) in charts.into_iter().enumerate() {
            let lines = lines.into_iter().filter(|(_, values)| values.iter().any(Option::is_some)).collect();
            let chart = Chart { title: &title, unit, seconds, phases: &phases, at: &at, lines };
            html.push_str(&chart.to_html(&format!("chart{i}")).unwrap_or_default());
        }
        html.push_str(&self.server_cpu(seconds, &phases).unwrap_or_default());
        let step = stats.begin_of(step).as_secs();
        self.put(format_args!(
            "<h2>Over time <small>a point for every {step} s</small></h2>\n<div class=\"charts\">\n{html}</div>\n"
        ));
    }

    /// Returns the server's CPU seconds per second between scrapes.
    fn server_cpu(&self, seconds: f64, phases: &[Phase<'_>]) -> Option<String> {
        let values = self.report.server_cpu(Duration::ZERO, Duration::try_from_secs_f64(seconds).ok()?);
        let step = values.len().div_ceil(POINTS_MAX).max(1);
        let values: Vec<_> = values.into_iter().step_by(step).collect();
        let (at, shares): (Vec<f64>, Vec<Option<f64>>) = values
            .windows(2)
            .filter(|pair| pair[1].0 > pair[0].0 && f64::midpoint(pair[0].0, pair[1].0) <= seconds)
            .map(|pair| {
                let [(begin, before), (end, after)] = [pair[0], pair[1]];
                // Unknown if the server was restarted.
                let share = (after >= before).then(|| (after - before) / (end - begin) * 100.0);
                (f64::midpoint(begin, end), share)
            })
            .unzip();
        let lines = vec![("CPU", shares)];
        let chart = Chart { title: "CPU of the server, of one core", unit: "%", seconds, phases, at: &at, lines };
        chart.to_html("chart-cpu")
    }

    fn sections(&mut self, title: &str, names: &[String], share: fn(usize) -> Share) {
        let main = self.report.main_timing();
        let mut heads = vec!["name"];
        let is_of_phases = matches!(share(0), Share::Phase(_));
        if is_of_phases {
            heads.extend(["begins", "ends"]);
        }
        heads.extend(["users", "completed", "failed", "up", "down", "loss %"]);
        let mut what = String::new();
        if let Some(main) = main {
            heads.extend(["p50", "p95", "p99", "max"]);
            what = format!(" <small>times of {} in ms</small>", escape(main));
        }
        let stats = self.stats;
        let times: Vec<_> = self.report.phases().map(|(_, begin, end)| [begin, end].map(clock)).collect();
        let rows = names.iter().enumerate().map(|(i, name)| {
            let share = share(i);
            let created = stats.count("vusers.created", share);
            // A counter of something that never happened does not exist.
            let count = |name| Some(stats.count(name, share).or(created.map(|_| 0))? as f64);
            let mut cells = vec![format!("<th>{}</th>", escape(name))];
            cells.extend(times.get(i).filter(|_| is_of_phases).into_iter().flatten().map(|time| td(time)));
            cells.extend(["vusers.created", "vusers.completed", "vusers.failed"].map(|name| maybe(count(name))));
            let messages = |names| sum(stats, names, share).map(|count| count as f64);
            cells.extend([&SENT[..], &RECEIVED].map(|names| maybe(messages(names))));
            cells.push(maybe(loss_ratio(stats, share).map(|loss| loss * 100.0)));
            if let Some(main) = main {
                let summary = stats.summary(main, share);
                let figures: [fn(&Summary) -> f64; 4] = [|s| s.p50, |s| s.p95, |s| s.p99, |s| s.max];
                cells.extend(figures.map(|figure| maybe(summary.as_ref().map(figure))));
            }
            cells
        });
        let rows = rows.collect();
        self.put(format_args!("<h2>{title}{what}</h2>\n"));
        self.table(&heads, rows);

        let rows = names.iter().enumerate().flat_map(|(i, name)| {
            stats.timings().filter_map(move |timing| {
                let summary = stats.summary(timing, share(i))?;
                let heads = vec![format!("<th>{}</th>", escape(name)), td(&escape(timing))];
                Some([heads, cells_of(&summary)].concat())
            })
        });
        let rows: Vec<_> = rows.collect();
        self.html.push_str("<details><summary>All timings of these scenarios</summary>\n");
        self.table(&[&["name", "timing"], &TIMING_HEADS[..]].concat(), rows);
        self.html.push_str("</details>\n");
    }

    fn timings(&mut self) {
        let row = |name: &str| {
            let summary = self.stats.summary(name, Share::All)?;
            Some([vec![format!("<th>{}</th>", escape(name))], cells_of(&summary)].concat())
        };
        let rows: Vec<_> = self.stats.timings().filter_map(row).collect();
        self.html.push_str("<h2>Timings <small>in ms</small></h2>\n");
        self.table(&[&["timing"], &TIMING_HEADS[..]].concat(), rows);
    }

    fn counters(&mut self) {
        let row = |(name, value): (String, f64)| vec![format!("<th>{}</th>", escape(&name)), maybe(Some(value))];
        let stats = self.stats;
        let counts = stats.counters().filter_map(|name| Some((name.to_owned(), stats.count(name, Share::All)? as f64)));
        let counts = counts.map(row).collect();
        let most = stats.gauges().filter_map(|name| Some((format!("{name} (most)"), stats.gauge_max(name)?)));
        let rates = self.report.rates(Share::All).into_iter().chain(most).map(row).collect();
        self.html.push_str("<div class=\"pair\">\n<div><h2>Counters</h2>\n");
        self.table(&["name", "count"], counts);
        self.html.push_str("</div>\n<div><h2>Rates and gauges</h2>\n");
        self.table(&["name", "value"], rates);
        self.html.push_str("</div>\n</div>\n");
    }

    /// Writes the server's metrics at the beginning and at the end.
    fn server(&mut self) {
        if self.report.origins.len() > 1 {
            // In a merged report it is unknown to which run a scrape belongs.
            return;
        }
        let scrapes = &self.report.scrapes;
        let (Some((_, first)), Some((_, last))) = (scrapes.first(), scrapes.last()) else { return };
        let rows = last.iter().take(METRICS_MAX).map(|(name, value)| {
            let before = first.get(name).copied();
            let change = before.map(|before| value - before);
            vec![format!("<th>{}</th>", escape(name)), maybe(before), maybe(Some(*value)), maybe(change)]
        });
        let rows = rows.collect();
        self.html.push_str(
            "<h2>The server’s own metrics</h2>\n<details><summary>At the first and the last scrape</summary>\n",
        );
        self.table(&["metric", "first", "last", "change"], rows);
        self.html.push_str("</details>\n");
    }

    fn origins(&mut self) {
        let rows = self.report.origins.iter().map(|origin| {
            let generator = &origin.generator;
            let state = match (&generator.overload, origin.interrupted) {
                (Some(reason), _) => format!("overloaded: {}", escape(reason)),
                (None, true) => "interrupted".to_owned(),
                (None, false) => "ok".to_owned(),
            };
            vec![
                format!("<th>{}</th>", escape(&origin.machine.cpu)),
                td(&date(origin.began_at)),
                td(&origin.seed.to_string()),
                td(&generator.threads.to_string()),
                maybe(Some(generator.cpu)),
                maybe(generator.lateness_p99),
                td(&state),
            ]
        });
        let rows = rows.collect();
        self.html.push_str("<h2>The generator</h2>\n");
        self.table(&["machine", "started", "seed", "threads", "CPU", "lateness p99 ms", "state"], rows);
    }

    /// Writes a table; cells are HTML.
    fn table(&mut self, heads: &[&str], rows: Vec<Vec<String>>) {
        let heads: String = heads.iter().map(|head| format!("<th>{}</th>", escape(head))).collect();
        self.put(format_args!(
            "<div class=\"box scroll\"><table><thead><tr>{heads}</tr></thead><tbody>\n{}</tbody></table></div>\n",
            rows.into_iter().map(|cells| format!("<tr>{}</tr>\n", cells.concat())).collect::<String>()
        ));
    }
}

const TIMING_HEADS: [&str; 10] = ["count", "min", "mean", "p50", "p75", "p90", "p95", "p99", "p99.9", "max"];

fn cells_of(summary: &Summary) -> Vec<String> {
    let Summary { count, min, max, mean, p50, p75, p90, p95, p99, p999 } = *summary;
    [count as f64, min, mean, p50, p75, p90, p95, p99, p999, max].map(|value| maybe(Some(value))).to_vec()
}

/// Formats a number with commas between the thousands.
fn number(value: f64) -> String {
    let plain = compare::number(value);
    let digits = plain.find('.').unwrap_or(plain.len());
    let mut text = String::new();
    for (i, c) in plain.char_indices() {
        let left = digits.saturating_sub(i);
        if c.is_ascii_digit() && left > 0 && left % 3 == 0 && text.ends_with(|c: char| c.is_ascii_digit()) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

fn td(html: &str) -> String {
    format!("<td>{html}</td>")
}

/// A cell for long text.
fn td_of_text(html: &str) -> String {
    format!("<td class=\"text\">{html}</td>")
}

fn maybe(value: Option<f64>) -> String {
    td(&value.map_or_else(|| "–".to_owned(), number))
}

fn card(name: &str, value: &str, unit: &str, note: &str) -> String {
    let [name, note] = [name, note].map(escape);
    format!("<div><dt>{name}</dt><dd>{value} <small>{unit}</small></dd><p>{note}</p></div>\n")
}

/// Describes a timing in a few words.
fn meaning(timing: &str) -> &'static str {
    match timing {
        "rtc.echo" | "websocket.echo" => "from sending to the echo",
        "http.response_time" => "from request to response",
        "rtc.age" => "delay of a state relative to the fastest one",
        "rtc.tick_gap" => "between two states",
        "rtc.open" => "until the data channel opened",
        "vusers.session_length" => "from arrival to end of a user",
        _ => "",
    }
}

/// Returns the maximum number of active users.
fn active_users(stats: &Stats, share: Share) -> Option<f64> {
    let Share::Between(from, to) = share else { return None };
    (from..to).filter_map(|interval| stats.gauge_in(ACTIVE, interval)).reduce(f64::max)
}

fn round(value: f64) -> f64 {
    if value >= 10.0 { value.round() } else { value }
}

fn date(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(|| "at an unknown time".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_parted() {
        for (value, expected) in [
            (0.0, "0"),
            (999.0, "999"),
            (1_000.0, "1,000"),
            (-123_456.0, "-123,456"),
            (1_234_567.0, "1,234,567"),
            (12.34, "12.3"),
            (0.0125, "0.0125"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
