//! Reports of runs as JSON: Artillery's format with additions.
//!
//! `aggregate` and `intermediate` have the format of Artillery's reports, with times in milliseconds. For runs of at
//! most three minutes there is an `intermediate` per second, otherwise one per 10 s. The additions: `phases` and
//! `scenarios` have the format of an `intermediate`. `hdr` in each of them contains every timing as a histogram in
//! HdrHistogram's V2 format in base64, from which reports can be merged without loss. `checks` are the conditions of
//! `ensure` and their results. `machine`, `seed` and `generator` describe the origin of the figures, and `merged` that
//! of further runs in the same report. `server` contains metrics scraped from the server. A phase has `beginsAt`, and
//! `duration` in seconds. Gauges are `vusers.active`, the maximum of users at once in an `intermediate`, and
//! `generator.cpu`.
//!
//! `rates` includes `server.cpu_us_per_message` if `process_cpu_seconds_total` is among the metrics of the server: the
//! microseconds of the server's CPU time per message that users received. The counter at the ends of an interval is
//! interpolated between the scrapes. The rate is missing if they cover less than four fifths of the interval, if the
//! counter fell because the server was restarted, and if the report contains several runs. The same holds for
//! `server.state_bytes_ratio`, the bytes of states that rtcade sent per byte that the game had encoded, and
//! `server.whole_states_ratio`, the fraction of states that it sent whole.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::ensure::{Condition, Outcome};
use super::script::LONGEST;
use super::stats::{INTERVAL, INTERVALS_MAX, Run, SHORT_INTERVAL, Share, Spans, Stats, Summary, millis};

/// Maximum bytes of a report.
pub const REPORT_BYTES: usize = 256 * 1024 * 1024;
/// Maximum number of phases, and of scenarios.
const SECTIONS_MAX: usize = 1_000;
const CHECKS_MAX: usize = 1_000;

/// Rates per second, and their counters.
const RATES: [(&str, &str); 6] = [
    ("http.request_rate", "http.requests"),
    ("websocket.send_rate", "websocket.messages_sent"),
    ("rtc.send_rate", "rtc.sent"),
    ("rtc.receive_rate", "rtc.received"),
    ("rtc.bytes_up_rate", "rtc.bytes_up"),
    ("rtc.bytes_down_rate", "rtc.bytes_down"),
];
/// Counters of messages and requests sent.
pub(super) const SENT: [&str; 3] = ["rtc.sent", "websocket.messages_sent", "http.requests"];
/// Counters of messages and responses received.
pub(super) const RECEIVED: [&str; 4] =
    ["rtc.received", "rtc.received_by_websocket", "websocket.messages_received", "http.responses"];

/// The rate of the server's CPU time.
pub(super) const CPU_PER_MESSAGE: &str = "server.cpu_us_per_message";
/// The server's CPU time: the metric that Prometheus client libraries export for every process.
const SERVER_CPU: &str = "process_cpu_seconds_total";
/// The bytes of states sent, per byte of them as encoded by the game.
const STATE_BYTES: &str = "server.state_bytes_ratio";
/// The fraction of states that were sent whole.
const WHOLE_STATES: &str = "server.whole_states_ratio";
/// Scrapes further apart are not interpolated.
const SCRAPES_APART: Duration = Duration::from_secs(2 * INTERVAL.as_secs());
/// The fraction of a period that scrapes must cover, and of a longer period between scrapes that must lie in it.
const MOST: f64 = 0.8;

/// Prefixes of counters that exist only once they are incremented.
const ON_DEMAND: [&str; 4] = ["errors.", "http.codes.", "vusers.created_by_name.", "vusers.failed"];

/// The main timing of a report is the first of these that was measured.
const MAIN_TIMINGS: [&str; 7] = [
    "rtc.echo",
    "websocket.echo",
    "http.response_time",
    "rtc.age",
    "rtc.tick_gap",
    "rtc.open",
    "vusers.session_length",
];

/// One or several runs of a script, with their checks.
#[derive(Clone, Debug)]
pub struct Report {
    /// The origins of the figures, at least one.
    pub origins: Vec<Origin>,
    /// The length of each phase.
    pub phase_durations: Vec<Duration>,
    /// The measurements.
    pub stats: Stats,
    /// The metrics of the server, each with its time since the start of the run, in order.
    pub scrapes: Vec<(Duration, BTreeMap<String, f64>)>,
    checks: Vec<Condition>,
}

/// The origin of a run's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The script file.
    pub script: String,
    /// The URL of the server.
    pub target: String,
    /// The seed of everything random.
    pub seed: u64,
    /// The start, in milliseconds since 1970.
    pub began_at: u64,
    /// Whether the run was interrupted.
    pub interrupted: bool,
    /// The machine that generated the load.
    pub machine: Machine,
    /// The load of the generator.
    pub generator: Generator,
}

/// The machine that generated the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The model of the CPU.
    pub cpu: String,
    /// The number of hardware threads.
    pub cores: usize,
    /// The version of the kernel.
    pub kernel: String,
    /// The memory in bytes; 0 if unknown.
    pub memory_bytes: u64,
    /// The version of rtcade.
    pub version: String,
    /// The commit of rtcade, if `RTCADE_COMMIT` was set when it was built.
    pub commit: Option<String>,
}

/// The load of the generator, and whether it was overloaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Generator {
    /// The number of threads.
    pub threads: usize,
    /// The fraction of CPU time that it used of what its threads could have had.
    pub cpu: f64,
    /// The 99th percentile of lateness in milliseconds.
    pub lateness_p99: Option<f64>,
    /// Why the figures are unfit, if they are.
    pub overload: Option<String>,
}

/// The result of a run: the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The run was interrupted.
    Interrupted,
    /// The generator was overloaded: the figures do not describe the server.
    Unfit,
    /// A check failed.
    Failed,
    /// All checks passed.
    Passed,
}

impl Verdict {
    /// Returns the exit status of the process.
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Verdict::Passed => 0,
            Verdict::Failed => 1,
            Verdict::Unfit => 4,
            Verdict::Interrupted => 130,
        }
    }
}

impl Machine {
    /// Returns this machine.
    #[must_use]
    pub fn this() -> Machine {
        let line_of = |file: &str, key: &str| {
            let text = fs::read_to_string(file).ok()?;
            let (_, value) = text.lines().find(|line| line.starts_with(key))?.split_once(':')?;
            Some(value.trim().to_owned())
        };
        let unknown = || "unknown".to_owned();
        let memory = line_of("/proc/meminfo", "MemTotal").and_then(|kib| kib.strip_suffix(" kB")?.parse::<u64>().ok());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
        Machine {
            cpu: line_of("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: kernel.map_or_else(unknown, |release| format!("{} {}", std::env::consts::OS, release.trim())),
            memory_bytes: memory.unwrap_or(0).saturating_mul(1024),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("RTCADE_COMMIT").map(str::to_owned),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(skip_deserializing)]
    aggregate: Section,
    interval_ms: u64,
    intermediate: Vec<Section>,
    script: String,
    target: String,
    seed: u64,
    began_at: u64,
    interrupted: bool,
    machine: Machine,
    generator: Generator,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    merged: Vec<Origin>,
    phases: Vec<Section>,
    scenarios: Vec<Section>,
    checks: Vec<Check>,
    server: Vec<Scrape>,
}

/// A part of the measurements in Artillery's format.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Section {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<u64>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    begins_at: Option<u64>,
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration: Option<f64>,
    counters: BTreeMap<String, u64>,
    #[serde(skip_deserializing)]
    rates: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    gauges: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_counter_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_histogram_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_counter_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_histogram_at: Option<u64>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    first_metric_at: Option<u64>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    last_metric_at: Option<u64>,
    #[serde(skip_deserializing)]
    summaries: BTreeMap<String, serde_json::Value>,
    #[serde(skip_deserializing)]
    histograms: BTreeMap<String, serde_json::Value>,
    hdr: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Check {
    condition: String,
    strict: bool,
    #[serde(skip_deserializing)]
    ok: bool,
    #[serde(skip_deserializing)]
    values: BTreeMap<String, Option<f64>>,
}

#[derive(Serialize, Deserialize)]
struct Scrape {
    /// Milliseconds since 1970.
    at: u64,
    metrics: BTreeMap<String, f64>,
}

impl Report {
    /// Returns the report of a run on this machine, with its checks.
    #[must_use]
    pub fn new(run: Run, machine: Machine, checks: Vec<Condition>) -> Report {
        let generator = Generator {
            threads: run.threads,
            cpu: rounded(run.generator_cpu),
            lateness_p99: run.stats.summary("generator.lateness", Share::All).map(|summary| summary.p99),
            overload: run.overload,
        };
        let origin = Origin {
            script: run.script,
            target: run.target,
            seed: run.seed,
            began_at: run.began_unix_ms,
            interrupted: run.is_interrupted,
            machine,
            generator,
        };
        Report {
            origins: vec![origin],
            phase_durations: run.phase_durations,
            stats: run.stats,
            scrapes: run.scrapes,
            checks,
        }
    }

    /// Returns the start of the first run, in milliseconds since 1970.
    #[must_use]
    pub fn began_at(&self) -> u64 {
        self.origins.iter().map(|origin| origin.began_at).min().unwrap_or(0)
    }

    /// Merges another run of the same script. Times are aligned at the starts of the runs.
    ///
    /// # Errors
    ///
    /// The other run has different phases or scenarios, or phases of different lengths.
    pub fn merge(&mut self, other: Report) -> Result<(), String> {
        for (what, here, there) in [
            ("phases", self.stats.phases(), other.stats.phases()),
            ("scenarios", self.stats.scenarios(), other.stats.scenarios()),
        ] {
            if here != there {
                return Err(format!("it is of another script: its {what} are {there:?} instead of {here:?}"));
            }
        }
        if self.phase_durations != other.phase_durations {
            let (here, there) = (&self.phase_durations, &other.phase_durations);
            return Err(format!("it is of another script: its phases take {there:?} instead of {here:?}"));
        }
        self.origins.extend(other.origins);
        self.stats.merge(other.stats);
        self.scrapes.extend(other.scrapes);
        self.scrapes.sort_by_key(|(at, _)| *at);
        for check in other.checks {
            if self.checks.iter().all(|here| here.text() != check.text()) {
                self.checks.push(check);
            }
        }
        Ok(())
    }

    /// Returns the phases in order: the name, start and end of each.
    pub(super) fn phases(&self) -> impl Iterator<Item = (&str, Duration, Duration)> {
        let mut end = Duration::ZERO;
        self.stats.phases().iter().zip(&self.phase_durations).map(move |(name, duration)| {
            let begin = end;
            end += *duration;
            (name.as_str(), begin, end)
        })
    }

    /// Returns the CPU seconds of the server and when they were scraped, `from` one time `to` the other, and around
    /// them as needed for interpolation. Empty for several runs, whose scrapes can't be told apart.
    pub(super) fn server_cpu(&self, from: Duration, to: Duration) -> Vec<(f64, f64)> {
        self.server_metric(SERVER_CPU, from, to)
    }

    fn server_metric(&self, name: &str, from: Duration, to: Duration) -> Vec<(f64, f64)> {
        if self.origins.len() > 1 {
            return Vec::new();
        }
        let (from, to) = (from.saturating_sub(SCRAPES_APART), to.saturating_add(SCRAPES_APART));
        let begin = self.scrapes.partition_point(|(at, _)| *at < from);
        let scrapes = self.scrapes[begin..].iter().take_while(|(at, _)| *at <= to);
        scrapes.filter_map(|(at, metrics)| Some((at.as_secs_f64(), *metrics.get(name)?))).collect()
    }

    /// Returns the microseconds of the server's CPU time per message that users received.
    pub(super) fn cpu_per_message(&self, share: Share) -> Option<f64> {
        let messages = sum(&self.stats, &RECEIVED, share).filter(|messages| *messages > 0)?;
        let seconds = self.server_growth(SERVER_CPU, share)?;
        Some(seconds * 1e6 / messages as f64).filter(|micros| micros.is_finite())
    }

    /// Returns by how much a metric of the server grew.
    fn server_growth(&self, name: &str, share: Share) -> Option<f64> {
        // The last message may have arrived long before the last scrape.
        let end = self.scrapes.last().map_or(Duration::ZERO, |(at, _)| *at).max(self.stats.elapsed());
        let (from, to) = span_of(&self.stats, share, end)?;
        growth(&self.server_metric(name, from, to), from.as_secs_f64(), to.as_secs_f64())
    }

    /// Returns the bytes of the states sent per byte that the game had encoded, and the fraction of states sent whole.
    pub(super) fn state_ratios(&self, share: Share) -> Option<(f64, f64)> {
        let growth = |name, kind| self.server_growth(&format!("rtcade_{name}_total{{kind=\"{kind}\"}}"), share);
        let (whole, delta) = (growth("states", "whole")?, growth("states", "delta")?);
        let sent = growth("state_bytes", "whole")? + growth("state_bytes", "delta")?;
        let encoded = growth("state_bytes", "encoded")?;
        (whole + delta > 0.0 && encoded > 0.0).then(|| (sent / encoded, whole / (whole + delta)))
    }

    /// Returns the results of the checks.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        self.checks.iter().map(|check| check.check(|name| self.metric(name))).collect()
    }

    /// Returns the verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.origins.iter().any(|origin| origin.interrupted) {
            Verdict::Interrupted
        } else if self.overload().is_some() {
            Verdict::Unfit
        } else if self.outcomes().iter().any(|outcome| outcome.is_strict && !outcome.is_ok) {
            Verdict::Failed
        } else {
            Verdict::Passed
        }
    }

    /// Returns why the figures are unfit, if they are.
    #[must_use]
    pub fn overload(&self) -> Option<&str> {
        self.origins.iter().find_map(|origin| origin.generator.overload.as_deref())
    }

    /// Returns a metric by its name, for example `rtc.echo.p99` (in milliseconds), `vusers.failed`, `rtc.send_rate`
    /// (per second) or `rtc.loss_ratio` (0 to 1); for a gauge the maximum. `None` if it was not measured, except for
    /// errors that never occurred, which are 0.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        if let Some(count) = self.stats.count(name, Share::All) {
            return Some(count as f64);
        }
        if let Some(value) = self.stats.gauge_max(name).or_else(|| self.rates(Share::All).get(name).copied()) {
            return Some(value);
        }
        if let Some((timing, figure)) = name.rsplit_once('.')
            && let Some(summary) = self.stats.summary(timing, Share::All)
        {
            if figure == "count" {
                return Some(summary.count as f64);
            }
            let figures = summary.figures();
            return figures.iter().find(|(name, _)| *name == figure).map(|(_, value)| *value);
        }
        ON_DEMAND.iter().any(|beginning| name.starts_with(beginning)).then_some(0.0)
    }

    /// Returns the main timing.
    #[must_use]
    pub fn main_timing(&self) -> Option<&'static str> {
        MAIN_TIMINGS.into_iter().find(|timing| self.stats.summary(timing, Share::All).is_some())
    }

    /// Returns the rates per second and the server's CPU time per message, of everything or of an interval, and ratios
    /// from 0 to 1 of everything.
    pub(super) fn rates(&self, share: Share) -> BTreeMap<String, f64> {
        let stats = &self.stats;
        let mut rates = BTreeMap::new();
        let seconds = seconds_of(stats, share);
        for (rate, counter) in RATES {
            if let Some(count) = stats.count(counter, share)
                && let Some(seconds) = seconds
            {
                rates.insert(rate.to_owned(), rounded(count as f64 / seconds));
            }
        }
        let ratios =
            [("rtc.loss_ratio", loss_ratio(stats, share)), ("vusers.failed_ratio", failed_ratio(stats, share))];
        rates.extend(ratios.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        rates.extend(self.cpu_per_message(share).map(|micros| (CPU_PER_MESSAGE.to_owned(), rounded(micros))));
        if let Some((bytes, whole)) = self.state_ratios(share) {
            rates.extend([(STATE_BYTES.to_owned(), rounded(bytes)), (WHOLE_STATES.to_owned(), rounded(whole))]);
        }
        rates
    }

    /// Returns the report as JSON; the same text for the same content.
    #[must_use]
    pub fn to_json(&self) -> String {
        let Origin { script, target, seed, began_at, interrupted, machine, generator } = self.origins[0].clone();
        let named = |share, name: &str| Section { name: Some(name.to_owned()), ..self.section(share) };
        let phase = |(i, (name, begin, end)): (usize, (&str, Duration, Duration))| Section {
            begins_at: Some(self.began_at().saturating_add(millis(begin))),
            duration: Some((end - begin).as_secs_f64()),
            ..named(Share::Phase(i), name)
        };
        let file = File {
            aggregate: self.section(Share::All),
            interval_ms: millis(self.stats.interval()),
            intermediate: (0..self.stats.intervals())
                .map(|number| self.section(Share::Between(number, number + 1)))
                .collect(),
            script,
            target,
            seed,
            began_at,
            interrupted,
            machine,
            generator,
            merged: self.origins[1..].to_vec(),
            phases: self.phases().enumerate().map(phase).collect(),
            scenarios: (self.stats.scenarios().iter().enumerate())
                .map(|(i, name)| named(Share::Scenario(i), name))
                .collect(),
            checks: self
                .outcomes()
                .into_iter()
                .map(|Outcome { condition, is_strict, is_ok, values }| Check {
                    condition,
                    strict: is_strict,
                    ok: is_ok,
                    values,
                })
                .collect(),
            server: self.scrapes.iter().map(|(at, metrics)| self.scrape(*at, metrics)).collect(),
        };
        serde_json::to_string_pretty(&file).expect("all keys are text")
    }

    fn scrape(&self, at: Duration, metrics: &BTreeMap<String, f64>) -> Scrape {
        let metrics = metrics.iter().filter(|(_, value)| value.is_finite());
        let at = self.began_at().saturating_add(millis(at));
        Scrape { at, metrics: metrics.map(|(name, value)| (name.clone(), *value)).collect() }
    }

    fn section(&self, share: Share) -> Section {
        let stats = &self.stats;
        let began = self.began_at();
        let Spans { counters, timings } = stats.spans_of(share);
        let all = stats.spans_of(share).all();
        let is_timed = matches!(share, Share::All | Share::Between(..));
        let first = |span: Option<(u64, u64)>| span.filter(|_| is_timed).map(|(first, _)| began.saturating_add(first));
        let last = |span: Option<(u64, u64)>| span.filter(|_| is_timed).map(|(_, last)| began.saturating_add(last));
        let summaries: BTreeMap<_, _> = stats
            .timings()
            .filter_map(|name| Some((name.to_owned(), summary_to_json(&stats.summary(name, share)?))))
            .collect();
        let hdr = |name: &str| Some((name.to_owned(), STANDARD.encode(stats.packed(name, share)?)));
        Section {
            name: None,
            begins_at: None,
            duration: None,
            period: match share {
                Share::All => Some(began),
                Share::Between(number, _) => Some(began.saturating_add(millis(stats.begin_of(number)))),
                Share::Phase(_) | Share::Scenario(_) => None,
            },
            counters: stats
                .counters()
                .filter_map(|name| Some((name.to_owned(), stats.count(name, share)?)))
                .filter(|(_, count)| *count > 0 || !matches!(share, Share::Between(..)))
                .collect(),
            rates: self.rates(share),
            gauges: match share {
                Share::Between(number, _) => {
                    stats.gauges().filter_map(|name| Some((name.to_owned(), stats.gauge_in(name, number)?))).collect()
                }
                _ => BTreeMap::new(),
            },
            first_counter_at: first(counters),
            first_histogram_at: first(timings),
            last_counter_at: last(counters),
            last_histogram_at: last(timings),
            first_metric_at: first(all),
            last_metric_at: last(all),
            histograms: summaries.clone(),
            summaries,
            hdr: stats.timings().filter_map(hdr).collect(),
        }
    }

    /// Parses the output of [`Report::to_json`]. Derived figures are ignored and computed again.
    ///
    /// # Errors
    ///
    /// A field is missing or invalid; the sentence names it.
    pub fn parse(json: &str) -> Result<Report, String> {
        if json.len() > REPORT_BYTES {
            return Err(format!("the report is longer than {} MiB", REPORT_BYTES >> 20));
        }
        let file: File =
            serde_json::from_str(json).map_err(|error| format!("this is no report of rtcade bench: {error}"))?;
        let names = |what: &str, sections: &[Section]| {
            if sections.is_empty() || sections.len() > SECTIONS_MAX {
                return Err(format!("{what}: found {}, expected 1 to {SECTIONS_MAX}", sections.len()));
            }
            let names = sections.iter().map(|section| section.name.clone()).collect::<Option<Vec<_>>>();
            names.ok_or_else(|| format!("{what}: one has no name"))
        };
        let interval = [INTERVAL, SHORT_INTERVAL].into_iter().find(|one| millis(*one) == file.interval_ms);
        let interval = interval.ok_or_else(|| format!("intervalMs: {} is not a valid length", file.interval_ms))?;
        let mut stats = Stats::new(interval, names("phases", &file.phases)?, names("scenarios", &file.scenarios)?);
        let mut origins = vec![Origin {
            script: file.script,
            target: file.target,
            seed: file.seed,
            began_at: file.began_at,
            interrupted: file.interrupted,
            machine: file.machine,
            generator: file.generator,
        }];
        origins.extend(file.merged);
        let began = origins.iter().map(|origin| origin.began_at).min().unwrap_or(0);

        let mut phase_durations = Vec::with_capacity(file.phases.len());
        for (i, phase) in file.phases.iter().enumerate() {
            let duration = phase.duration.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let duration = duration.filter(|duration| *duration <= LONGEST);
            phase_durations.push(duration.ok_or_else(|| format!("phases[{i}]: it has no duration"))?);
            phase.read_into(&mut stats, Share::Phase(i)).map_err(|error| format!("phases[{i}]: {error}"))?;
        }
        for (i, scenario) in file.scenarios.iter().enumerate() {
            scenario.read_into(&mut stats, Share::Scenario(i)).map_err(|error| format!("scenarios[{i}]: {error}"))?;
        }
        if file.intermediate.len() > INTERVALS_MAX {
            return Err(format!("intermediate: found {}, expected at most {INTERVALS_MAX}", file.intermediate.len()));
        }
        for (i, interval) in file.intermediate.iter().enumerate() {
            if interval.period != Some(began.saturating_add(millis(stats.begin_of(i)))) {
                return Err(format!("intermediate[{i}]: its period is not {i} intervals after the start"));
            }
            interval
                .read_into(&mut stats, Share::Between(i, i + 1))
                .and_then(|()| interval.read_spans_into(&mut stats, i, began))
                .map_err(|error| format!("intermediate[{i}]: {error}"))?;
        }

        if file.checks.len() > CHECKS_MAX {
            return Err(format!("checks: found {}, expected at most {CHECKS_MAX}", file.checks.len()));
        }
        let checks = file.checks.iter().enumerate().map(|(i, check)| {
            let mut condition = Condition::parse(&check.condition).map_err(|error| format!("checks[{i}]: {error}"))?;
            condition.is_strict = check.strict;
            Ok(condition)
        });
        let scrapes = file.server.into_iter().enumerate().map(|(i, scrape)| {
            let at = scrape.at.checked_sub(began).ok_or_else(|| format!("server[{i}]: it is before the start"))?;
            Ok((Duration::from_millis(at), scrape.metrics))
        });
        let mut scrapes = scrapes.collect::<Result<Vec<_>, String>>()?;
        scrapes.sort_by_key(|(at, _)| *at);
        Ok(Report { origins, phase_durations, stats, scrapes, checks: checks.collect::<Result<_, String>>()? })
    }
}

impl Section {
    fn read_into(&self, stats: &mut Stats, share: Share) -> Result<(), String> {
        for (name, count) in &self.counters {
            stats.set_count(name, share, *count).map_err(|error| format!("counter {name}: {error}"))?;
        }
        for (name, base64) in &self.hdr {
            let bytes = STANDARD.decode(base64).map_err(|error| format!("hdr of {name}: {error}"))?;
            stats.set_packed(name, share, bytes).map_err(|error| format!("hdr of {name}: {error}"))?;
        }
        if let Share::Between(number, _) = share {
            for (name, value) in &self.gauges {
                stats.set_gauge(name, number, *value);
            }
        }
        Ok(())
    }

    fn read_spans_into(&self, stats: &mut Stats, interval: usize, began: u64) -> Result<(), String> {
        let span = |what: &str, first: Option<u64>, last: Option<u64>| match (first, last) {
            (None, None) => Ok(None),
            (Some(first), Some(last)) if began <= first && first <= last => Ok(Some((first - began, last - began))),
            _ => Err(format!("first{what}At and last{what}At are not a valid period after the start")),
        };
        let counters = span("Counter", self.first_counter_at, self.last_counter_at)?;
        let timings = span("Histogram", self.first_histogram_at, self.last_histogram_at)?;
        stats.set_spans(interval, Spans { counters, timings });
        Ok(())
    }
}

/// Returns the fraction of expected frames that did not arrive, 0 to 1.
pub(super) fn loss_ratio(stats: &Stats, share: Share) -> Option<f64> {
    let (lost, received) = (stats.count("rtc.lost", share)?, stats.count("rtc.received", share)?);
    let expected = lost.saturating_add(received);
    (expected > 0).then(|| lost as f64 / expected as f64)
}

/// Returns the fraction of virtual users that failed, 0 to 1.
fn failed_ratio(stats: &Stats, share: Share) -> Option<f64> {
    let (failed, created) = (stats.count("vusers.failed", share)?, stats.count("vusers.created", share)?);
    (created > 0).then(|| failed as f64 / created as f64)
}

/// Returns the sum of counters; `None` if none of them exists.
pub(super) fn sum(stats: &Stats, counters: &[&str], share: Share) -> Option<u64> {
    counters.iter().filter_map(|name| stats.count(name, share)).reduce(u64::saturating_add)
}

/// Returns the growth of a counter between two times, interpolated between known values. `None` if it fell.
fn growth(known: &[(f64, f64)], from: f64, to: f64) -> Option<f64> {
    let (mut growth, mut covered) = (0.0, 0.0);
    for pair in known.windows(2) {
        let [(begin, before), (end, after)] = [pair[0], pair[1]];
        let common = end.min(to) - begin.max(from);
        let is_vague = end - begin > SCRAPES_APART.as_secs_f64() && common < MOST * (end - begin);
        if common <= 0.0 || is_vague {
            continue;
        }
        if after < before {
            return None;
        }
        growth += (after - before) * common / (end - begin);
        covered += common;
    }
    (covered >= MOST * (to - from)).then(|| growth * (to - from) / covered)
}

/// Returns the start and end of a share, for a run that ended at `end_of_run`; `None` if unknown or equal.
fn span_of(stats: &Stats, share: Share, end_of_run: Duration) -> Option<(Duration, Duration)> {
    let (begin, end) = match share {
        Share::All => (Duration::ZERO, end_of_run),
        Share::Between(from, to) => (stats.begin_of(from), end_of_run.min(stats.begin_of(to))),
        Share::Phase(_) | Share::Scenario(_) => return None,
    };
    (begin < end).then_some((begin, end))
}

/// Returns the length of a share in seconds; `None` if unknown.
pub(super) fn seconds_of(stats: &Stats, share: Share) -> Option<f64> {
    span_of(stats, share, stats.elapsed()).map(|(begin, end)| (end - begin).as_secs_f64())
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn summary_to_json(summary: &Summary) -> serde_json::Value {
    let mut json = serde_json::Map::from_iter([("count".to_owned(), summary.count.into())]);
    json.extend(summary.figures().map(|(name, value)| (name.to_owned(), value.into())));
    json.into()
}

#[cfg(test)]
mod tests;
