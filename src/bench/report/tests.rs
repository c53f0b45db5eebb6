use super::super::stats::Who;
use super::*;

fn report(stats: Stats, scrapes: Vec<(Duration, BTreeMap<String, f64>)>, checks: Vec<Condition>) -> Report {
    let run = Run {
        script: "s.yml".to_owned(),
        target: "http://t".to_owned(),
        seed: u64::MAX,
        began_unix_ms: 1_700_000_000_123,
        threads: 1,
        phase_durations: vec![Duration::from_secs(20), Duration::from_millis(25_100)],
        stats,
        scrapes,
        overload: None,
        generator_cpu: 0.5,
        is_interrupted: false,
    };
    Report::new(run, Machine::this(), checks)
}

/// Made up, of the seconds given.
fn run(seconds: impl Iterator<Item = u64>) -> Report {
    let mut stats = Stats::new(INTERVAL, vec!["one".to_owned(), "two".to_owned()], vec!["s".to_owned()]);
    let counters = ["vusers.created", "vusers.failed", "rtc.lost", "rtc.received", "http.requests"];
    let counters = counters.map(|name| stats.counter(name));
    let timing = stats.timing("rtc.echo");
    for second in seconds {
        let at = Duration::from_secs(second);
        let who = Who { phase: usize::from(second > 20), scenario: 0 };
        for (counter, count) in counters.into_iter().zip([2, 1, 1, 3, 5]) {
            stats.add(at, who, counter, count);
        }
        stats.record(at, who, timing, Duration::from_micros(second * second * 997));
        stats.gauge(at, "generator.cpu", 0.5);
    }
    let scrapes = vec![(Duration::from_millis(1_500), BTreeMap::from([("m".to_owned(), 0.1)]))];
    let mut optional = Condition::below("rtc.echo.p99", 1.0);
    optional.is_strict = false;
    report(stats, scrapes, vec![Condition::error_rate(60.0), optional])
}

/// In each of 40 seconds users receive 100 messages; the server has used so much CPU at these seconds.
fn run_with_cpu(used: &[(u64, f64)]) -> Report {
    let mut stats = Stats::new(INTERVAL, vec!["one".to_owned(), "two".to_owned()], vec!["s".to_owned()]);
    for name in RECEIVED {
        let counter = stats.counter(name);
        for second in 0..40 {
            stats.add(Duration::from_secs(second), Who { phase: 0, scenario: 0 }, counter, 25);
        }
    }
    let scrape =
        |(second, used): &(u64, f64)| (Duration::from_secs(*second), BTreeMap::from([(SERVER_CPU.to_owned(), *used)]));
    report(stats, used.iter().map(scrape).collect(), Vec::new())
}

#[test]
fn cpu_per_message_is_interpolated_between_scrapes() {
    let check = |what: &str, used: &[(u64, f64)], intervals: [Option<f64>; 4], all: Option<f64>| {
        let report = run_with_cpu(used);
        let found = [0, 1, 2, 3].map(|i| report.rates(Share::Between(i, i + 1)).get(CPU_PER_MESSAGE).copied());
        // The last message came after 39 s.
        assert_eq!((found, report.metric("server.cpu_us_per_message")), (intervals, all), "{what}");
    };
    let some = |micros: [f64; 4]| micros.map(Some);
    let at_the_ends = [(0, 1.0), (10, 2.0), (20, 4.0), (30, 4.0), (39, 4.9)];
    check("at the ends", &at_the_ends, some([1_000.0, 2_000.0, 0.0, 900.0]), Some(975.0));
    let between = [(0, 0.0), (15, 3.0), (25, 8.0), (40, 8.0)];
    check("between", &between, some([2_000.0, 3_500.0, 2_500.0, 0.0]), Some(2_000.0));
    let idle = [(0, 0.0), (10, 1.0), (20, 2.0), (30, 3.0), (50, 5.0)];
    check("idle at the end", &idle, some([1_000.0; 4]), Some(1_250.0));
    let restart = [(0, 5.0), (10, 6.0), (20, 1.0), (30, 2.0), (39, 2.9)];
    check("restart", &restart, [Some(1_000.0), None, Some(1_000.0), Some(900.0)], None);
    let gap = [(0, 0.0), (10, 1.0), (39, 3.9)];
    check("gap", &gap, [Some(1_000.0), None, None, None], Some(975.0));
    check("late", &[(2, 0.2), (10, 1.0), (20, 2.0)], [Some(1_000.0), Some(1_000.0), None, None], None);
    check("too late", &[(3, 0.3), (10, 1.0), (20, 2.0)], [None, Some(1_000.0), None, None], None);
    check("one", &[(5, 0.3)], [None; 4], None);

    let mut merged = run_with_cpu(&at_the_ends);
    merged.merge(run_with_cpu(&at_the_ends)).expect("the same script");
    assert_eq!(merged.metric("server.cpu_us_per_message"), None);
}

#[test]
fn states_are_counted_by_what_was_sent_of_them() {
    let scrape = |second: u64, [whole, delta, whole_bytes, delta_bytes, encoded]: [f64; 5]| {
        let name = |name: &str, kind: &str| format!("rtcade_{name}_total{{kind=\"{kind}\"}}");
        let metrics = [
            (name("states", "whole"), whole),
            (name("states", "delta"), delta),
            (name("state_bytes", "whole"), whole_bytes),
            (name("state_bytes", "delta"), delta_bytes),
            (name("state_bytes", "encoded"), encoded),
        ];
        (Duration::from_secs(second), BTreeMap::from(metrics))
    };
    let stats = run(0..40).stats;
    let scrapes = vec![scrape(0, [5.0; 5]), scrape(39, [15.0, 95.0, 1_005.0, 2_005.0, 10_005.0])];
    let counted = report(stats, scrapes, Vec::new());
    assert_eq!(counted.metric("server.state_bytes_ratio"), Some(0.3));
    assert_eq!(counted.metric("server.whole_states_ratio"), Some(0.1));
    assert_eq!(run(0..40).metric("server.state_bytes_ratio"), None);
}

#[test]
fn what_is_written_is_read_again() {
    let written = run(0..45).to_json();
    let read = Report::parse(&written).expect("it was written here");
    assert_eq!(read.to_json(), written);
}

#[test]
fn two_that_are_merged_are_as_one() {
    let read = |report: Report| Report::parse(&report.to_json()).expect("it was written here");
    let mut merged = read(run((0..45).filter(|second| second % 3 == 0)));
    merged.merge(read(run((0..45).filter(|second| second % 3 != 0)))).expect("the same script");
    merged.origins.pop();
    merged.scrapes.pop();
    assert_eq!(merged.to_json(), run(0..45).to_json());
}

#[test]
fn phases_of_other_lengths_are_of_another_script() {
    let mut other = run(0..45);
    other.phase_durations[1] = Duration::from_secs(26);
    assert!(run(0..45).merge(other).is_err_and(|sentence| sentence.contains("its phases take [20s, 26s]")));
}

#[test]
fn it_has_the_form_of_artillerys() {
    let json: serde_json::Value = serde_json::from_str(&run(0..45).to_json()).expect("it is JSON");
    let aggregate = &json["aggregate"];
    assert_eq!(aggregate["counters"]["vusers.created"], 90);
    assert_eq!(aggregate["firstCounterAt"], 1_700_000_000_123_u64);
    assert_eq!(aggregate["lastHistogramAt"], 1_700_000_044_123_u64);
    let summary = &aggregate["summaries"]["rtc.echo"];
    for key in ["min", "max", "count", "mean", "p50", "median", "p75", "p90", "p95", "p99", "p999"] {
        assert!(summary[key].is_number(), "{key}");
    }
    assert_eq!((summary, summary["count"].as_u64()), (&aggregate["histograms"]["rtc.echo"], Some(45)));
    assert_eq!(json["intermediate"].as_array().map(Vec::len), Some(5));
    assert_eq!(json["intermediate"][1]["period"], 1_700_000_010_123_u64);
    assert_eq!(json["intermediate"][1]["rates"]["http.request_rate"], 5.0);
    assert_eq!(json["phases"][1]["counters"]["vusers.created"], 48);
    assert_eq!(json["phases"][1]["beginsAt"], 1_700_000_020_123_u64);
    assert_eq!(json["phases"][1]["duration"], 25.1);
    assert_eq!((&json["checks"][0]["ok"], &json["checks"][1]["ok"]), (&false.into(), &false.into()));
}

#[test]
fn metrics_have_names() {
    let report = run(0..45);
    for (name, expected) in [
        ("vusers.created", Some(90.0)),
        ("vusers.failed_ratio", Some(0.5)),
        ("rtc.loss_ratio", Some(0.25)),
        ("generator.cpu", Some(0.5)),
        ("rtc.echo.count", Some(45.0)),
        ("http.request_rate", Some(5.114)),
        ("errors.nobody_met", Some(0.0)),
        ("http.codes.500", Some(0.0)),
        ("vusers.creatd", None),
        ("rtc.echo.p98", None),
        ("rtc.echo", None),
    ] {
        assert_eq!(report.metric(name), expected, "{name}");
    }
}

#[test]
fn checks_decide_and_an_overload_goes_before() {
    let mut report = run(0..45);
    assert_eq!(report.verdict(), Verdict::Failed);
    report.checks.remove(0);
    assert_eq!(report.verdict(), Verdict::Passed, "the other is optional");
    report.checks.push(Condition::below("rtc.missing.p99", 1.0));
    assert_eq!(report.verdict(), Verdict::Failed);
    report.origins[0].generator.overload = Some("late".to_owned());
    assert_eq!(report.verdict(), Verdict::Unfit);
    report.origins[0].interrupted = true;
    assert_eq!(report.verdict(), Verdict::Interrupted);
    let statuses = [Verdict::Passed, Verdict::Failed, Verdict::Unfit, Verdict::Interrupted].map(Verdict::exit_status);
    assert_eq!(statuses, [0, 1, 4, 130]);
}
