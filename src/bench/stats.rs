//! Measurements of a run: counters, timings and gauges by interval, phase and scenario.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

/// Length of the intervals of a run, as in Artillery's reports.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Length of the intervals of a short run, whose charts would otherwise have too few points.
pub const SHORT_INTERVAL: Duration = Duration::from_secs(1);
/// Runs planned for at most this time are short.
pub const SHORT_RUN: Duration = Duration::from_secs(180);
/// Maximum number of intervals: a week. Later measurements count to the last.
pub const INTERVALS_MAX: usize = 60_480;
/// Maximum number of counters, and of timings; further names count as [`FURTHER_NAMES`].
pub const NAMES_MAX: usize = 256;
/// The name for everything beyond [`NAMES_MAX`].
pub const FURTHER_NAMES: &str = "errors.of_further_names";

const TOO_MANY_NAMES: &str = "more names than there may be";
/// Longer times are recorded as this time: 1 h in microseconds.
const LONGEST_US: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// More than any run records; sums stay far from overflowing.
const COUNT_MAX: u64 = 1 << 48;
/// The first bytes of a packed histogram: V2.
const PACKED_COOKIE: [u8; 4] = [0x1c, 0x84, 0x93, 0x13];
/// Bytes before the counts of a packed histogram.
const PACKED_HEADER_BYTES: usize = 40;

/// A counter of the [`Stats`] that registered it.
#[derive(Clone, Copy, Debug)]
pub struct Counter(usize);

/// A timing of the [`Stats`] that registered it.
#[derive(Clone, Copy, Debug)]
pub struct Timing(usize);

/// The origin of a measurement: the phase in which the virtual user arrived, and its scenario.
#[derive(Clone, Copy, Debug)]
pub struct Who {
    /// Index of the phase.
    pub phase: usize,
    /// Index of the scenario.
    pub scenario: usize,
}

/// A part of the measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All measurements.
    All,
    /// Those of the phase with this index.
    Phase(usize),
    /// Those of the scenario with this index.
    Scenario(usize),
    /// Those of the intervals from the first (included) to the second (excluded).
    Between(usize, usize),
}

/// Measurements by interval, phase and scenario. Each thread has its own; they are merged at the end and for the live
/// view.
///
/// Times are recorded with three significant digits, from 1 µs to 1 h. Each phase and scenario holds a histogram of
/// each timing, of 16 KiB to 190 KiB depending on the longest time in it, as do the two intervals in use. All other
/// intervals are packed without loss, a few bytes per different time, so merging is exact.
#[derive(Clone, Debug)]
pub struct Stats {
    interval: Duration,
    phases: Vec<String>,
    scenarios: Vec<String>,
    counter_ids: BTreeMap<String, usize>,
    counters: Vec<Counts>,
    timing_ids: BTreeMap<String, usize>,
    timings: Vec<Times>,
    gauges: BTreeMap<String, BTreeMap<usize, f64>>,
    /// Of each interval.
    spans: Vec<Spans>,
}

#[derive(Clone, Debug)]
struct Counts {
    phases: Vec<u64>,
    scenarios: Vec<u64>,
    intervals: Vec<u64>,
}

#[derive(Clone, Debug)]
struct Times {
    phases: Vec<Slot>,
    scenarios: Vec<Slot>,
    intervals: Vec<Slot>,
    /// The intervals last recorded to; no others are open.
    in_use: [usize; 2],
}

/// When the first and the last measurement was recorded, in milliseconds since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans {
    pub(super) counters: Option<(u64, u64)>,
    pub(super) timings: Option<(u64, u64)>,
}

impl Spans {
    pub(super) fn merge(&mut self, other: Spans) {
        self.counters = hull(self.counters, other.counters);
        self.timings = hull(self.timings, other.timings);
    }

    pub(super) fn all(self) -> Option<(u64, u64)> {
        hull(self.counters, self.timings)
    }
}

fn hull(a: Option<(u64, u64)>, b: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (a, b) {
        (Some((first, last)), Some((other_first, other_last))) => Some((first.min(other_first), last.max(other_last))),
        (one, other) => one.or(other),
    }
}

/// A histogram, open for recording or packed.
#[derive(Clone, Debug, Default)]
enum Slot {
    #[default]
    Empty,
    Packed(Vec<u8>),
    Open(Box<Histogram<u64>>),
}

/// The summary of a timing, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The number of values.
    pub count: u64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 75th percentile.
    pub p75: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
}

impl Stats {
    /// Returns empty measurements with intervals of this length: [`INTERVAL`] or [`SHORT_INTERVAL`].
    #[must_use]
    pub fn new(interval: Duration, phases: Vec<String>, scenarios: Vec<String>) -> Stats {
        Stats {
            interval: interval.max(SHORT_INTERVAL),
            phases,
            scenarios,
            counter_ids: BTreeMap::new(),
            counters: Vec::new(),
            timing_ids: BTreeMap::new(),
            timings: Vec::new(),
            gauges: BTreeMap::new(),
            spans: Vec::new(),
        }
    }

    /// Returns empty measurements of the same run.
    #[must_use]
    pub fn of_same_run(&self) -> Stats {
        Stats::new(self.interval, self.phases.clone(), self.scenarios.clone())
    }

    /// Registers a counter, or returns the existing one. It is reported even if it stays 0.
    pub fn counter(&mut self, name: &str) -> Counter {
        let (phases, scenarios) = (self.phases.len(), self.scenarios.len());
        let new = || Counts { phases: vec![0; phases], scenarios: vec![0; scenarios], intervals: Vec::new() };
        Counter(register(&mut self.counter_ids, &mut self.counters, name, new))
    }

    /// Registers a timing, or returns the existing one.
    pub fn timing(&mut self, name: &str) -> Timing {
        let slots = |count| vec![Slot::Empty; count];
        let (phases, scenarios) = (self.phases.len(), self.scenarios.len());
        let new =
            || Times { phases: slots(phases), scenarios: slots(scenarios), intervals: Vec::new(), in_use: [0; 2] };
        Timing(register(&mut self.timing_ids, &mut self.timings, name, new))
    }

    /// Adds `count` to a counter, `at` this time since the start of the run.
    pub fn add(&mut self, at: Duration, who: Who, counter: Counter, count: u64) {
        let interval = self.interval_of(at);
        let counts = &mut self.counters[counter.0];
        counts.phases[who.phase] += count;
        counts.scenarios[who.scenario] += count;
        *at_index(&mut counts.intervals, interval) += count;
        let at = millis(at);
        let span = &mut at_index(&mut self.spans, interval).counters;
        *span = hull(*span, Some((at, at)));
    }

    /// Records a duration, `at` this time since the start of the run.
    pub fn record(&mut self, at: Duration, who: Who, timing: Timing, took: Duration) {
        let interval = self.interval_of(at);
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(LONGEST_US);
        let times = &mut self.timings[timing.0];
        times.phases[who.phase].record(took);
        times.scenarios[who.scenario].record(took);
        times.record_in_interval(interval, took);
        let at = millis(at);
        let span = &mut at_index(&mut self.spans, interval).timings;
        *span = hull(*span, Some((at, at)));
    }

    /// Sets a gauge. The newest value of an interval counts; when merging, the highest does. Values that are not finite
    /// are ignored.
    pub fn gauge(&mut self, at: Duration, name: &str, value: f64) {
        self.set_gauge(name, self.interval_of(at), value);
    }

    /// Sets a gauge of which the highest value of an interval counts.
    pub fn raise_gauge(&mut self, at: Duration, name: &str, value: f64) {
        let highest = self.gauge_in(name, self.interval_of(at)).map_or(value, |before| before.max(value));
        self.gauge(at, name, highest);
    }

    /// Merges the measurements of another thread.
    ///
    /// # Panics
    ///
    /// The phases, scenarios or intervals differ.
    pub fn merge(&mut self, other: Stats) {
        assert_eq!((&self.phases, &self.scenarios), (&other.phases, &other.scenarios), "another script");
        assert_eq!(self.interval, other.interval, "of one script all intervals are alike");
        let (mut counters, mut timings) = (other.counters, other.timings);
        for (name, id) in other.counter_ids {
            let id_here = self.counter(&name).0;
            self.counters[id_here].merge(&mut counters[id]);
        }
        for (name, id) in other.timing_ids {
            let id_here = self.timing(&name).0;
            self.timings[id_here].merge(&mut timings[id]);
        }
        for (name, values) in other.gauges {
            let here = self.gauges.entry(name).or_default();
            for (interval, value) in values {
                here.entry(interval).and_modify(|here| *here = here.max(value)).or_insert(value);
            }
        }
        for (interval, spans) in other.spans.into_iter().enumerate() {
            at_index(&mut self.spans, interval).merge(spans);
        }
    }

    /// Returns the length of the intervals.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns the start of an interval, relative to the start of the run; for later intervals, that of the last.
    #[must_use]
    pub fn begin_of(&self, interval: usize) -> Duration {
        self.interval.saturating_mul(u32::try_from(interval.min(INTERVALS_MAX)).unwrap_or(u32::MAX))
    }

    /// Returns the interval that contains this time.
    #[must_use]
    pub fn interval_of(&self, at: Duration) -> usize {
        usize::try_from(at.as_millis() / self.interval.as_millis()).unwrap_or(usize::MAX).min(INTERVALS_MAX - 1)
    }

    /// Returns the names of the phases.
    #[must_use]
    pub fn phases(&self) -> &[String] {
        &self.phases
    }

    /// Returns the names of the scenarios.
    #[must_use]
    pub fn scenarios(&self) -> &[String] {
        &self.scenarios
    }

    /// Returns the names of the counters, sorted.
    pub fn counters(&self) -> impl Iterator<Item = &str> {
        self.counter_ids.keys().map(String::as_str)
    }

    /// Returns the names of the timings, sorted, including those without values.
    pub fn timings(&self) -> impl Iterator<Item = &str> {
        self.timing_ids.keys().map(String::as_str)
    }

    /// Returns the names of the gauges, sorted.
    pub fn gauges(&self) -> impl Iterator<Item = &str> {
        self.gauges.keys().map(String::as_str)
    }

    /// Returns the number of intervals up to the last with a measurement.
    #[must_use]
    pub fn intervals(&self) -> usize {
        let of_gauges = self.gauges.values().filter_map(|values| values.keys().next_back()).max();
        self.spans.len().max(of_gauges.map_or(0, |last| last + 1))
    }

    /// Returns the value of a counter; `None` if it is not registered.
    #[must_use]
    pub fn count(&self, name: &str, share: Share) -> Option<u64> {
        let counts = &self.counters[*self.counter_ids.get(name)?];
        Some(match share {
            Share::All => counts.phases.iter().fold(0, |sum: u64, count| sum.saturating_add(*count)),
            Share::Phase(phase) => counts.phases[phase],
            Share::Scenario(scenario) => counts.scenarios[scenario],
            Share::Between(from, to) => {
                counts.intervals.iter().take(to).skip(from).fold(0, |sum: u64, count| sum.saturating_add(*count))
            }
        })
    }

    /// Returns the summary of a timing; `None` if it has no values.
    #[must_use]
    pub fn summary(&self, name: &str, share: Share) -> Option<Summary> {
        Summary::of(&self.histogram(name, share)?)
    }

    /// Returns the value of a gauge in an interval.
    #[must_use]
    pub fn gauge_in(&self, name: &str, interval: usize) -> Option<f64> {
        self.gauges.get(name)?.get(&interval).copied()
    }

    /// Returns the maximum of a gauge over all intervals.
    #[must_use]
    pub fn gauge_max(&self, name: &str) -> Option<f64> {
        self.gauges.get(name)?.values().copied().max_by(f64::total_cmp)
    }

    /// Returns the time from the start of the run to the last measurement.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.spans_of(Share::All).all().map_or(0, |(_, last)| last))
    }

    fn histogram(&self, name: &str, share: Share) -> Option<Histogram<u64>> {
        let times = &self.timings[*self.timing_ids.get(name)?];
        let slots = match share {
            Share::All => &times.phases[..],
            Share::Phase(phase) => &times.phases[phase..=phase],
            Share::Scenario(scenario) => &times.scenarios[scenario..=scenario],
            Share::Between(from, to) => times.intervals.get(from..to.min(times.intervals.len()))?,
        };
        let mut all = Slot::Empty;
        slots.iter().for_each(|slot| all.merge(slot.clone()));
        all.into_histogram()
    }

    /// Returns the histogram in HdrHistogram's V2 format, the same bytes for the same content.
    pub(super) fn packed(&self, name: &str, share: Share) -> Option<Vec<u8>> {
        self.histogram(name, share).map(|histogram| pack(&histogram))
    }

    pub(super) fn spans_of(&self, share: Share) -> Spans {
        let (from, to) = if let Share::Between(from, to) = share { (from, to) } else { (0, usize::MAX) };
        self.spans.iter().take(to).skip(from).fold(Spans::default(), |mut all, spans| {
            all.merge(*spans);
            all
        })
    }

    /// Sets a counter. `share` must be a phase, a scenario or one interval.
    pub(super) fn set_count(&mut self, name: &str, share: Share, count: u64) -> Result<(), &'static str> {
        let id = self.counter(name).0;
        if !self.counter_ids.contains_key(name) {
            return Err(TOO_MANY_NAMES);
        }
        let counts = &mut self.counters[id];
        match share {
            Share::All => {}
            Share::Phase(phase) => counts.phases[phase] = count,
            Share::Scenario(scenario) => counts.scenarios[scenario] = count,
            Share::Between(interval, _) => *at_index(&mut counts.intervals, interval) = count,
        }
        Ok(())
    }

    /// Sets a histogram, like [`Stats::set_count`]. The error describes what is wrong with the bytes.
    pub(super) fn set_packed(&mut self, name: &str, share: Share, bytes: Vec<u8>) -> Result<(), &'static str> {
        unpack(&bytes)?;
        let id = self.timing(name).0;
        if !self.timing_ids.contains_key(name) {
            return Err(TOO_MANY_NAMES);
        }
        let times = &mut self.timings[id];
        let slot = match share {
            Share::All => return Ok(()),
            Share::Phase(phase) => &mut times.phases[phase],
            Share::Scenario(scenario) => &mut times.scenarios[scenario],
            Share::Between(interval, _) => at_index(&mut times.intervals, interval),
        };
        *slot = Slot::Packed(bytes);
        Ok(())
    }

    pub(super) fn set_gauge(&mut self, name: &str, interval: usize, value: f64) {
        if !value.is_finite() {
            return;
        }
        if let Some(values) = self.gauges.get_mut(name) {
            values.insert(interval, value);
        } else if self.gauges.len() < NAMES_MAX {
            self.gauges.insert(name.to_owned(), BTreeMap::from([(interval, value)]));
        }
    }

    pub(super) fn set_spans(&mut self, interval: usize, spans: Spans) {
        *at_index(&mut self.spans, interval) = spans;
    }
}

impl Counts {
    fn merge(&mut self, other: &mut Counts) {
        for (here, other) in [
            (&mut self.phases, &mut other.phases),
            (&mut self.scenarios, &mut other.scenarios),
            (&mut self.intervals, &mut other.intervals),
        ] {
            for (index, count) in other.drain(..).enumerate() {
                let here = at_index(here, index);
                *here = here.saturating_add(count);
            }
        }
    }
}

impl Times {
    fn record_in_interval(&mut self, interval: usize, took: u64) {
        if !self.in_use.contains(&interval) {
            let [newest, oldest] = self.in_use;
            if let Some(slot) = self.intervals.get_mut(oldest) {
                slot.pack();
            }
            self.in_use = [interval, newest];
        }
        at_index(&mut self.intervals, interval).record(took);
    }

    fn merge(&mut self, other: &mut Times) {
        for (here, other) in [(&mut self.phases, &mut other.phases), (&mut self.scenarios, &mut other.scenarios)] {
            for (here, other) in here.iter_mut().zip(other.drain(..)) {
                here.merge(other);
            }
        }
        for (interval, other) in other.intervals.drain(..).enumerate() {
            let here = at_index(&mut self.intervals, interval);
            here.merge(other);
            if !self.in_use.contains(&interval) {
                here.pack();
            }
        }
    }
}

impl Slot {
    fn record(&mut self, took: u64) {
        self.open().record(took).expect("an hour fits a histogram that grows");
    }

    fn open(&mut self) -> &mut Histogram<u64> {
        if !matches!(self, Slot::Open(_)) {
            let histogram = std::mem::take(self).into_histogram().unwrap_or_else(|| {
                let mut histogram =
                    Histogram::new_with_bounds(1, 2, SIGNIFICANT_DIGITS).expect("the bounds are in order");
                histogram.auto(true);
                histogram
            });
            *self = Slot::Open(Box::new(histogram));
        }
        let Slot::Open(histogram) = self else { unreachable!("it was opened") };
        histogram
    }

    fn merge(&mut self, other: Slot) {
        if matches!(self, Slot::Empty) {
            *self = other;
        } else if let Some(other) = other.into_histogram() {
            self.open().add(other).expect("an hour fits a histogram that grows");
        }
    }

    fn pack(&mut self) {
        if let Slot::Open(histogram) = self {
            *self = Slot::Packed(pack(histogram));
        }
    }

    fn into_histogram(self) -> Option<Histogram<u64>> {
        match self {
            Slot::Empty => None,
            Slot::Packed(bytes) => Some(unpack(&bytes).expect("checked, or packed here")),
            Slot::Open(histogram) => Some(*histogram),
        }
    }
}

impl Summary {
    fn of(histogram: &Histogram<u64>) -> Option<Summary> {
        if histogram.is_empty() {
            return None;
        }
        let ms = |us: u64| us as f64 / 1e3;
        let quantile = |quantile| ms(histogram.value_at_quantile(quantile));
        Some(Summary {
            count: histogram.len(),
            min: ms(histogram.min()),
            max: ms(histogram.max()),
            mean: histogram.mean().round() / 1e3,
            p50: quantile(0.5),
            p75: quantile(0.75),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p999: quantile(0.999),
        })
    }

    /// Returns the figures by their names in Artillery's reports.
    #[must_use]
    pub fn figures(&self) -> [(&'static str, f64); 10] {
        [
            ("min", self.min),
            ("max", self.max),
            ("mean", self.mean),
            ("p50", self.p50),
            ("median", self.p50),
            ("p75", self.p75),
            ("p90", self.p90),
            ("p95", self.p95),
            ("p99", self.p99),
            ("p999", self.p999),
        ]
    }
}

/// The size of the histogram in memory must not affect the bytes, so all declare the whole range.
fn pack(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).expect("a vector takes everything");
    bytes[24..32].copy_from_slice(&LONGEST_US.to_be_bytes());
    bytes
}

/// The header after cookie and length: no offset, digits, minimum and maximum value, ratio.
fn packed_parameters() -> [u8; PACKED_HEADER_BYTES - 8] {
    let mut parameters = [0; PACKED_HEADER_BYTES - 8];
    parameters[4..8].copy_from_slice(&u32::from(SIGNIFICANT_DIGITS).to_be_bytes());
    parameters[8..16].copy_from_slice(&1_u64.to_be_bytes());
    parameters[16..24].copy_from_slice(&LONGEST_US.to_be_bytes());
    parameters[24..].copy_from_slice(&1_f64.to_be_bytes());
    parameters
}

fn unpack(bytes: &[u8]) -> Result<Histogram<u64>, &'static str> {
    let Some((header, counts)) = bytes.split_at_checked(PACKED_HEADER_BYTES) else {
        return Err("the histogram is incomplete");
    };
    let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    if header[..4] != PACKED_COOKIE || header[8..] != packed_parameters() {
        return Err("the histogram has another format: expected V2, from 1 µs to 1 h, three digits");
    }
    if usize::try_from(length).ok() != Some(counts.len()) {
        return Err("the histogram is incomplete");
    }
    const IMPOSSIBLE: &str = "the histogram has impossible counts";
    // The deserializer overflows when it negates such a count; no valid one is that long.
    if counts.windows(9).any(|bytes| bytes == [0xff; 9]) {
        return Err(IMPOSSIBLE);
    }
    let mut histogram: Histogram<u64> = Deserializer::new().deserialize(&mut &*bytes).map_err(|_| IMPOSSIBLE)?;
    if histogram.len() > COUNT_MAX {
        return Err(IMPOSSIBLE);
    }
    histogram.auto(true);
    Ok(histogram)
}

fn register<T>(ids: &mut BTreeMap<String, usize>, entries: &mut Vec<T>, name: &str, new: impl FnOnce() -> T) -> usize {
    if let Some(id) = ids.get(name) {
        return *id;
    }
    let name = if entries.len() + 1 < NAMES_MAX { name } else { FURTHER_NAMES };
    *ids.entry(name.to_owned()).or_insert_with(|| {
        entries.push(new());
        entries.len() - 1
    })
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn at_index<T: Clone + Default>(values: &mut Vec<T>, index: usize) -> &mut T {
    if values.len() <= index {
        values.resize(index + 1, T::default());
    }
    &mut values[index]
}

/// A finished or interrupted run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The script file.
    pub script: String,
    /// The URL of the server.
    pub target: String,
    /// The seed of everything random.
    pub seed: u64,
    /// The start, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// The number of threads of the generator.
    pub threads: usize,
    /// The length of each phase.
    pub phase_durations: Vec<Duration>,
    /// The measurements.
    pub stats: Stats,
    /// The metrics of the server, and when they were fetched.
    pub scrapes: Vec<(Duration, BTreeMap<String, f64>)>,
    /// Why the figures are unfit, if they are.
    pub overload: Option<String>,
    /// The fraction of CPU time that the generator used of what its threads could have had.
    pub generator_cpu: f64,
    /// Whether the run was interrupted.
    pub is_interrupted: bool,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WHO: Who = Who { phase: 0, scenario: 0 };

    fn one_of_each() -> Stats {
        Stats::new(INTERVAL, vec!["p".to_owned()], vec!["s".to_owned()])
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut stats = one_of_each();
        let timing = stats.timing("t");
        for took in 1..=1_000 {
            stats.record(Duration::ZERO, WHO, timing, ms(took));
        }
        let summary = stats.summary("t", Share::All).expect("recorded");
        for (figure, expected) in
            summary.figures().into_iter().zip([1.0, 1_000.0, 500.5, 500.0, 500.0, 750.0, 900.0, 950.0, 990.0, 999.0])
        {
            assert!((figure.1 / expected - 1.0).abs() < 1e-3, "{figure:?}, not {expected}");
        }
        assert_eq!(summary.count, 1_000);
        stats.record(Duration::ZERO, WHO, timing, Duration::from_secs(1 << 40));
        let longest = stats.summary("t", Share::All).expect("recorded").max;
        assert!((longest / 3_600_000.0 - 1.0).abs() < 1e-3, "more than an hour is an hour: {longest}");
    }

    #[test]
    fn what_was_measured_is_found_by_phase_scenario_and_interval() {
        let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
        let mut stats = Stats::new(INTERVAL, names(["a", "b"]), names(["c", "d"]));
        let (counter, timing) = (stats.counter("n"), stats.timing("t"));
        for (second, phase, scenario) in [(0, 0, 0), (9, 0, 1), (10, 1, 1), (35, 1, 1), (5, 1, 0)] {
            let (at, who) = (Duration::from_secs(second), Who { phase, scenario });
            stats.add(at, who, counter, 2);
            stats.record(at, who, timing, ms(second));
        }
        let check = |share, expected: u64| {
            assert_eq!(stats.count("n", share), Some(2 * expected), "{share:?}");
            assert_eq!(stats.summary("t", share).map_or(0, |summary| summary.count), expected, "{share:?}");
        };
        check(Share::All, 5);
        check(Share::Phase(0), 2);
        check(Share::Scenario(1), 3);
        check(Share::Between(0, 1), 3);
        check(Share::Between(1, 2), 1);
        check(Share::Between(2, 3), 0);
        check(Share::Between(0, 4), 5);
        check(Share::Between(7, 9), 0);
        assert_eq!((stats.intervals(), stats.elapsed()), (4, Duration::from_secs(35)));
        assert_eq!((stats.count("m", Share::All), stats.summary("m", Share::All)), (None, None));
    }

    #[test]
    fn what_has_no_end_stays_within_its_limits() {
        let mut stats = one_of_each();
        for name in 0..2 * NAMES_MAX as u64 {
            let counter = stats.counter(&format!("errors.{name}"));
            stats.add(Duration::from_secs(u64::MAX), WHO, counter, 1);
        }
        assert_eq!((stats.counters().count(), stats.intervals()), (NAMES_MAX, INTERVALS_MAX));
        assert_eq!(stats.count(FURTHER_NAMES, Share::All), Some(NAMES_MAX as u64 + 1));
    }

    #[test]
    fn gauges_keep_the_newest_or_the_highest_and_of_threads_the_highest() {
        let (mut a, mut b) = (one_of_each(), one_of_each());
        a.gauge(ms(1), "g", 5.0);
        a.gauge(ms(2), "g", 1.0);
        a.gauge(ms(3), "g", f64::NAN);
        assert_eq!(a.gauge_max("g"), Some(1.0));
        b.gauge(ms(1), "g", 3.0);
        a.merge(b);
        assert_eq!(a.gauge_in("g", 0), Some(3.0));
        for (at, value) in [(ms(4), 2.0), (ms(5), 7.0), (ms(6), 6.0), (INTERVAL, 1.0)] {
            a.raise_gauge(at, "g", value);
        }
        assert_eq!((a.gauge_in("g", 0), a.gauge_in("g", 1)), (Some(7.0), Some(1.0)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn two_threads_measure_what_one_does(
            mut records in prop::collection::vec((0..100_u64, 0..3_usize, 0..10_000_000_u64, any::<bool>()), 1..200),
        ) {
            // As time goes by: an interval that comes again is unpacked.
            records.sort_by_key(|(second, ..)| *second / 3);
            let new = || Stats::new(INTERVAL, ["a", "b", "c"].map(str::to_owned).to_vec(), vec!["s".to_owned()]);
            let (mut one, mut left, mut right) = (new(), new(), new());
            right.timing("not in the left one");
            for (second, phase, us, is_left) in records {
                for stats in [&mut one, if is_left { &mut left } else { &mut right }] {
                    let (timing, counter) = (stats.timing("t"), stats.counter("c"));
                    let (at, who) = (Duration::from_secs(second), Who { phase, scenario: 0 });
                    stats.record(at, who, timing, Duration::from_micros(us));
                    stats.add(at, who, counter, us);
                }
            }
            left.merge(right);
            let phases = (0..3).map(Share::Phase);
            for share in phases.chain((0..10).map(|i| Share::Between(i, i + 1))).chain([Share::All]) {
                prop_assert_eq!(one.packed("t", share), left.packed("t", share));
                prop_assert_eq!(one.count("c", share), left.count("c", share));
                prop_assert_eq!(one.summary("t", share), left.summary("t", share));
            }
            prop_assert_eq!(one.spans, left.spans);
        }

        #[test]
        fn any_bytes_are_a_histogram_or_an_error(
            counts in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xff), Just(0x80), Just(1)], 0..60),
        ) {
            let mut bytes = pack(&Histogram::new(SIGNIFICANT_DIGITS).expect("three digits do"));
            bytes.truncate(PACKED_HEADER_BYTES);
            bytes[4..8].copy_from_slice(&u32::try_from(counts.len()).expect("short").to_be_bytes());
            bytes.extend(counts);
            let mut stats = one_of_each();
            if stats.set_packed("t", Share::Phase(0), bytes).is_ok() {
                stats.merge(stats.clone());
                prop_assert!(stats.summary("t", Share::All).is_none_or(|summary| summary.min <= summary.max));
            }
        }
    }
}
