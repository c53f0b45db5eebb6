//! `rtcade bench report` and `compare`, on made-up reports.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rtcade::bench::ensure::Condition;
use rtcade::bench::report::{Machine, Report};
use rtcade::bench::stats::{INTERVAL, Run, Stats, Who};

const SECONDS: u64 = 120;

fn machine() -> Machine {
    Machine {
        cpu: "a made-up CPU <x>".to_owned(),
        cores: 2,
        kernel: "none".to_owned(),
        memory_bytes: 8 << 30,
        version: "0".to_owned(),
        commit: None,
    }
}

/// Made up: the latency is `ms` and some more, twice as much in the middle of the run.
fn run(seed: u64, ms: f64) -> Run {
    let phases = ["warm up", "ramp & hold <b>"].map(str::to_owned);
    let scenarios = ["players", "watchers"].map(str::to_owned);
    let mut stats = Stats::new(INTERVAL, phases.to_vec(), scenarios.to_vec());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let counters = [
        "vusers.created",
        "vusers.completed",
        "vusers.failed",
        "rtc.sent",
        "rtc.received",
        "rtc.lost",
        "rtc.bytes_up",
        "rtc.bytes_down",
        "errors.timeout",
    ];
    let counters = counters.map(|name| stats.counter(name));
    let [echo, age, gap, lateness, open] =
        ["rtc.echo", "rtc.age", "rtc.tick_gap", "generator.lateness", "rtc.open"].map(|name| stats.timing(name));
    for second in 0..SECONDS {
        let at = Duration::from_millis(second * 1_000 + 500);
        let who = Who { phase: usize::from(second >= 30), scenario: usize::from(second % 4 == 3) };
        let created = if second < 30 {
            4
        } else if second < 90 {
            10
        } else {
            0
        };
        let gone = if second >= 100 { 30 } else { 0 };
        let users = if second < 30 { 4 * second } else { 120 + 10 * (second.min(90) - 30) };
        let sent = users * 30;
        let lost = if second > 60 { sent / 90 } else { sent / 800 };
        let failed = u64::from(second == 70);
        let timeouts = u64::from(second % 50 == 49);
        let counts = [created, gone, failed, sent, sent * 2, lost, sent * 42, sent * 180, timeouts];
        for (counter, count) in counters.into_iter().zip(counts) {
            stats.add(at, who, counter, count);
        }
        for _ in 0..50 {
            let load = if (50..80).contains(&second) { 2.0 } else { 1.0 };
            let mut tail = |scale: f64| {
                let uniform: f64 = rng.random_range(1e-4..1.0);
                Duration::from_secs_f64((load * (ms - uniform.ln() * scale)).max(0.0) / 1e3)
            };
            stats.record(at, who, echo, tail(6.0));
            stats.record(at, who, age, tail(1.5));
            stats.record(at, who, gap, Duration::from_millis(33).saturating_sub(Duration::from_millis(3)) + tail(1.0));
            stats.record(at, who, lateness, tail(0.05) / 50);
        }
        stats.record(at, who, open, Duration::from_millis(rng.next_u64() % 50 + 80));
        stats.gauge(at, "generator.cpu", 0.4);
        stats.raise_gauge(at, "vusers.active", if second == 77 { 777.0 } else { 7.0 });
    }
    let scrape = |second: u64| {
        let cpu = f64::from(u32::try_from(second).unwrap());
        let cpu = cpu * 0.2 + (cpu - 40.0).max(0.0) * 0.5;
        let metrics = [("process_cpu_seconds_total", cpu), ("rtcade_players", cpu * 9.0)];
        (Duration::from_secs(second), metrics.map(|(name, value)| (name.to_owned(), value)).into())
    };
    Run {
        script: "made-up.yml".to_owned(),
        target: "http://127.0.0.1:8080/?a=1&b=<script>".to_owned(),
        seed,
        began_unix_ms: 1_700_000_000_000,
        threads: 2,
        phase_durations: [30, 90].map(Duration::from_secs).to_vec(),
        stats,
        scrapes: (0..SECONDS).step_by(5).map(scrape).collect::<Vec<(Duration, BTreeMap<String, f64>)>>(),
        overload: None,
        generator_cpu: 0.4,
        is_interrupted: false,
    }
}

fn report(run: Run, conditions: &[&str]) -> Report {
    let conditions = conditions.iter().map(|text| Condition::parse(text).unwrap());
    Report::new(run, machine(), conditions.collect())
}

/// A directory of this test's own.
fn directory(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-report").join(name);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn bench(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtcade"));
    command.arg("bench").args(arguments).current_dir(directory).output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

#[test]
fn a_page_is_made_of_a_report() {
    let directory = directory("page");
    let conditions = ["rtc.echo.p95 < 250 and vusers.failed <= 1", "rtc.loss_ratio < 0.001", "rtc.eco.p99 < 9"];
    fs::write(directory.join("a.json"), report(run(1, 9.0), &conditions).to_json()).unwrap();
    let output = bench(&directory, &["report", "a.json", "--html", "a.html"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let summary = text(&output.stdout);
    assert!(summary.contains("ok: rtc.echo.p95 < 250") && summary.contains("FAILED: rtc.loss_ratio"), "{summary}");
    assert!(summary.contains("FAILED: rtc.eco.p99 < 9 (rtc.eco.p99 was not measured)"), "{summary}");

    let page = fs::read_to_string(directory.join("a.html")).unwrap();
    for needed in ["rtc.echo", "Active users", "CPU of the server", "made-up.yml", "2 of 3 checks failed", "<desc"] {
        assert!(page.contains(needed), "{needed}");
    }
    assert!(page.contains("<p>at most 777 at once</p>"));
    let charts = page.matches("<figure").count();
    for (mark, each) in [
        // One line: where the second begins. The first begins, and the second ends, with the run.
        ("<path class=\"phase\"", 1),
        ("<text class=\"phase-name\" y=\"15\">warm up</text>", 1),
        ("<text class=\"phase-name\" y=\"15\">ramp &amp; hold &lt;b&gt;</text>", 1),
    ] {
        assert_eq!(page.matches(mark).count(), charts * each, "{mark}");
    }
    assert!(page.contains("<tr><th>00:35</th><td>ramp &amp; hold &lt;b&gt;</td>"), "the value says its phase");
    for named in ["a made-up CPU &lt;x&gt;", "ramp &amp; hold &lt;b&gt;", "?a=1&amp;b=&lt;script&gt;"] {
        assert!(page.contains(named), "{named}");
    }
    assert_eq!(page.matches("<script").count(), 1, "only ours");
    for foreign in ["src=", "href=", "url(", "@import", "fetch("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert_eq!(page.matches("<figure").count(), page.matches("<details><summary>Values").count(), "a table for each");
    assert_eq!(page.matches("role=\"img\"").count(), page.matches("<desc").count());
}

#[test]
fn reports_of_one_script_become_one() {
    let directory = directory("merge");
    for (name, seed) in [("a.json", 1), ("b.json", 2)] {
        fs::write(directory.join(name), report(run(seed, 9.0), &["rtc.echo.p50 < 100"]).to_json()).unwrap();
    }
    let output = bench(&directory, &["report", "a.json", "b.json", "-o", "both.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let [a, b, both] = ["a.json", "b.json", "both.json"].map(|name| {
        let json = fs::read_to_string(directory.join(name)).unwrap();
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    });
    let sent = |report: &serde_json::Value| report["aggregate"]["counters"]["rtc.sent"].as_u64().unwrap();
    assert_eq!(sent(&both), sent(&a) + sent(&b));
    assert_eq!((both["seed"].clone(), both["merged"][0]["seed"].clone()), (1.into(), 2.into()));
    assert_eq!(both["checks"].as_array().unwrap().len(), 1);

    let stats = Stats::new(INTERVAL, vec!["x".to_owned()], vec!["y".to_owned()]);
    let other = Run { stats, phase_durations: vec![Duration::ZERO], ..run(3, 1.0) };
    fs::write(directory.join("other.json"), report(other, &[]).to_json()).unwrap();
    let output = bench(&directory, &["report", "a.json", "other.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("other.json: it is of another script: its phases are"));
}

#[test]
fn two_runs_are_compared() {
    let directory = directory("compare");
    let overloaded = Run { overload: Some("its CPU was at 97 %".to_owned()), ..run(1, 9.0) };
    for (name, run) in [("a.json", run(1, 9.0)), ("slower.json", run(1, 12.0)), ("unfit.json", overloaded)] {
        fs::write(directory.join(name), report(run, &[]).to_json()).unwrap();
    }
    let check = |arguments: &[&str], status: i32, expected: &str| {
        let output = bench(&directory, &[&["compare"], arguments].concat());
        let table = text(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{table}{}", text(&output.stderr));
        assert!(table.contains(expected), "{table}");
    };
    check(&["a.json", "a.json", "--fail-on", "0%"], 0, "rtc.echo.p99");
    check(&["a.json", "slower.json", "--fail-on", "10%"], 1, "worse");
    check(&["a.json", "slower.json", "--fail-on", "900"], 0, "rtc.echo.p99");
    check(&["slower.json", "a.json", "--fail-on", "10%"], 0, "-");
    check(&["a.json", "slower.json"], 0, "+");
    check(
        &["a.json", "unfit.json", "--fail-on", "10%"],
        4,
        "unfit: the second run's generator was overloaded: its CPU",
    );
}

#[test]
fn the_exit_status_says_how_the_run_came_out() {
    let directory = directory("status");
    let overload = || Some("late".to_owned());
    let check = |run: Run, conditions: &[&str], status: i32| {
        fs::write(directory.join("r.json"), report(run, conditions).to_json()).unwrap();
        let output = bench(&directory, &["report", "r.json"]);
        assert_eq!(output.status.code(), Some(status), "{}", text(&output.stdout));
    };
    check(run(1, 1.0), &["errors.never == 0"], 0);
    check(run(1, 1.0), &["vusers.failed == 0"], 1);
    check(Run { overload: overload(), ..run(1, 1.0) }, &["vusers.failed == 0"], 4);
    check(Run { overload: overload(), is_interrupted: true, ..run(1, 1.0) }, &["vusers.failed == 0"], 130);
}

#[test]
fn what_is_no_report_gets_one_sentence() {
    let directory = directory("wrong");
    let valid = report(run(1, 1.0), &["rtc.sent > 0"]).to_json();
    let check = |json: &str, expected: &str| {
        fs::write(directory.join("wrong.json"), json).unwrap();
        let output = bench(&directory, &["report", "wrong.json"]);
        let sentence = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{sentence}");
        assert!(sentence.contains("wrong.json: ") && sentence.contains(expected), "{sentence}");
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
    };
    check("", "this is no report of rtcade bench: EOF while parsing");
    check("{\"aggregate\": {}, \"intermediate\": []}", "missing field");
    check(&valid.replace("rtc.sent > 0", "rtc.sent >"), "checks[0]: column 11: expected a number");
    check(&valid.replace("HISTEwAA", "HISTEwBB"), "hdr of ");
    check(&valid.replace("HISTEw", "HISUEw"), "the histogram has another format");
    check(&valid.replacen("\"period\": 1700000010000", "\"period\": 1700000010001", 1), "intermediate[1]: its period");
    check(&valid.replace("\"duration\": 90.0", "\"duration\": 1e300"), "phases[1]: it has no duration");
    check(&valid.replace("\"errors.timeout\": 2", "\"errors.timeout\": -2"), "line ");
    let output = bench(&directory, &["report", "missing.json"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("missing.json can't be read"));
}

/// Figures that no run has can be read, and cost nothing.
#[test]
fn impossible_figures_make_a_page_too() {
    fn exaggerate(value: &mut serde_json::Value, key: &str) {
        match value {
            serde_json::Value::Object(entries) => entries.iter_mut().for_each(|(name, value)| {
                let key = if matches!(name.as_str(), "counters" | "metrics" | "gauges") { name } else { key };
                match key {
                    "counters" | "metrics" | "gauges" if value.is_number() => exaggerate(value, key),
                    "" if name.starts_with("last") && name.ends_with("At") => *value = u64::MAX.into(),
                    _ => exaggerate(value, key),
                }
            }),
            serde_json::Value::Array(values) => values.iter_mut().for_each(|value| exaggerate(value, key)),
            other if key == "counters" => *other = u64::MAX.into(),
            other if key == "metrics" || key == "gauges" => {
                let sign = if other.as_f64().unwrap_or(0.0) > 2.0 { 1.0 } else { -1.0 };
                *other = (sign * f64::MAX).into();
            }
            _ => {}
        }
    }
    let directory = directory("impossible");
    let mut json = serde_json::from_str(&report(run(1, 1.0), &[]).to_json()).unwrap();
    exaggerate(&mut json, "");
    fs::write(directory.join("a.json"), json.to_string()).unwrap();
    let output = bench(&directory, &["report", "a.json", "a.json", "--html", "a.html", "-o", "b.json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(fs::read_to_string(directory.join("a.html")).unwrap().contains("18,446,744"));
    let output = bench(&directory, &["compare", "a.json", "b.json", "--fail-on", "0%"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}
