//! The load generator against real servers: its measurements, and that they show stalls.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "servers of real time stand at the other end")]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rtcade::bench::generator::{self, Options, Progress, Unreachable};
use rtcade::bench::script::{Overrides, Script};
use rtcade::bench::stats::{Run, Share};

use super::driver::PATIENCE;

const STALL: Duration = Duration::from_secs(1);

/// The program, as a server.
pub(super) struct Server {
    pub(super) process: Child,
    pub(super) url: String,
}

impl Server {
    pub(super) fn start(game: &str) -> Server {
        Server::start_with(game, &[])
    }

    pub(super) fn start_with(game: &str, arguments: &[&str]) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_rtcade"))
            .args(["--listen", "127.0.0.1:0", "--game", game])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.split_whitespace().next_back().unwrap().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{line}");
        Server { process, url }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(super) fn signal(process: &Child, name: &str) {
    let status = Command::new("kill").args([name, &process.id().to_string()]).status().unwrap();
    assert!(status.success());
}

pub(super) fn options(target: &str) -> Options {
    Options {
        name: "test".to_owned(),
        target: target.to_owned(),
        insecure: false,
        threads: 2,
        seed: 7,
        solo: false,
        scrape: None,
    }
}

pub(super) fn run(yaml: &str, target: &str, progress: impl FnMut(&Progress<'_>)) -> Run {
    run_with(yaml, &options(target), progress)
}

pub(super) fn run_with(yaml: &str, options: &Options, progress: impl FnMut(&Progress<'_>)) -> Run {
    play(&Script::parse(yaml, &Overrides::default()).unwrap(), options, progress)
}

pub(super) fn play(script: &Script, options: &Options, mut progress: impl FnMut(&Progress<'_>)) -> Run {
    let begun = Instant::now();
    let run = generator::run(script, options, &mut |now| {
        progress(now);
        if begun.elapsed() > 3 * PATIENCE { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let run = run.unwrap();
    assert!(!run.is_interrupted, "{:?}", counts(&run));
    run
}

pub(super) fn counts(run: &Run) -> Vec<(String, u64)> {
    run.stats.counters().map(|name| (name.to_owned(), run.stats.count(name, Share::All).unwrap())).collect()
}

pub(super) fn count(run: &Run, name: &str) -> u64 {
    run.stats.count(name, Share::All).unwrap_or_default()
}

#[test]
fn users_do_what_the_script_says_on_either_game() {
    for game in ["relay", "arena"] {
        let server = Server::start(game);
        let yaml = "
config:
  phases: [{ duration: 1, arrivalCount: 10 }]
scenarios:
  - name: player
    flow:
      - join: { room: lobby }
      - expect: state
      - loop:
          - send: [1, 2, false]
            measure: echo
          - think: 0.05
        count: 20
      - command: { a: 1 }
      - think: 0.5
      - leave
";
        let run = run(yaml, &server.url, |_| ());
        let expected = [
            ("vusers.created", 10),
            ("vusers.created_by_name.player", 10),
            ("vusers.completed", 10),
            ("vusers.failed", 0),
            ("rtc.sent", 200),
            ("rtc.commands", 10),
            ("rtc.echoes_lost", 0),
        ];
        for (name, expected) in expected {
            assert_eq!(count(&run, name), expected, "{game}: {name} of {:?}", counts(&run));
        }
        let times = |name| run.stats.summary(name, Share::All).map_or(0, |summary| summary.count);
        assert_eq!((times("rtc.echo"), times("rtc.signal"), times("rtc.open")), (200, 10, 10), "{game}");
        assert!(times("rtc.age") >= 200 && times("rtc.tick_gap") >= 200, "{game}");
        assert!(run.scrapes.iter().any(|(_, metrics)| metrics.contains_key("rtcade_players")), "{game}");
    }
}

/// Of 80 messages, 20 a second, a second's worth meets a server that stands still. Who waited for an echo before the
/// next would have one that is late.
fn assert_the_stall_shows(run: &Run, timing: &str) {
    let echo = run.stats.summary(timing, Share::All).expect("measured");
    assert_eq!(echo.count, 4 * 80, "{:?}", counts(run));
    assert!(echo.max >= 950.0 && echo.p99 >= 850.0 && echo.p90 >= 400.0, "{echo:?}");
}

#[test]
fn a_server_that_stands_still_shows_in_each_message_that_was_due() {
    let server = Server::start("relay");
    let yaml = "
config:
  phases: [{ duration: 0.1, arrivalCount: 4 }]
scenarios:
  - flow:
      - join: lobby
      - loop: [{ send: 1, measure: echo }]
        count: 80
        pacing: fixed
        every: 50ms
      - think: 1
";
    let mut stopped = None;
    let mut goes_on = false;
    let run = run(yaml, &server.url, |progress| match stopped {
        None if progress.elapsed > STALL => {
            signal(&server.process, "-STOP");
            stopped = Some(Instant::now());
        }
        Some(since) if !goes_on && since.elapsed() > STALL => {
            signal(&server.process, "-CONT");
            goes_on = true;
        }
        _ => {}
    });
    assert_the_stall_shows(&run, "rtc.echo");
}

#[test]
fn a_websocket_server_that_stands_still_does_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            // The connection that only asks whether somebody is there.
            let Ok(mut socket) = tungstenite::accept(stream.unwrap()) else { continue };
            thread::spawn(move || {
                for number in 1.. {
                    let Ok(message) = socket.read() else { return };
                    if number == 20 {
                        thread::sleep(STALL);
                    }
                    if socket.send(message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let yaml = "
config:
  phases: [{ duration: 0.1, arrivalCount: 4 }]
scenarios:
  - engine: ws
    flow:
      - loop: [{ send: \"{{ $loopCount }}\", measure: echo }]
        count: 80
        pacing: fixed
        every: 50ms
      - think: 1
";
    let run = run(yaml, &target, |_| ());
    assert_the_stall_shows(&run, "websocket.echo");
    assert_eq!((count(&run, "vusers.completed"), count(&run, "websocket.messages_sent")), (4, 320));
}

#[test]
fn the_loss_that_is_set_is_the_loss_that_is_reported() {
    let server = Server::start("relay");
    let yaml = "
config:
  rtc: { netem: { loss: 5, delay: 5ms } }
  timeout: 20
  phases: [{ duration: 1, arrivalCount: 24 }]
scenarios:
  - flow:
      - join: \"room-{{ $randomNumber(1, 6) }}\"
      - loop: [{ send: 1 }]
        count: 80
        pacing: fixed
        every: 100ms
";
    let run = run(yaml, &server.url, |_| ());
    let (lost, received) = (count(&run, "rtc.lost"), count(&run, "rtc.received"));
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let (lost, all) = (lost as f64, (lost + received) as f64);
    assert!(all > 3_000.0, "{:?}", counts(&run));
    // Of so many, each lost by itself, 5 %: a sample is off by more than five standard deviations once in a million.
    let deviation = (0.05 * 0.95 / all).sqrt();
    assert!((lost / all - 0.05).abs() < 5.0 * deviation, "{lost} of {all}, deviation {deviation}");
}

#[test]
fn no_more_users_are_let_in_than_may_be_there_at_once() {
    let server = Server::start("relay");
    let yaml = "
config:
  phases: [{ duration: 1, arrivalCount: 40, maxVusers: 7 }]
scenarios: [{ flow: [{ join: lobby }, { think: 6 }] }]
";
    let mut most = 0;
    let run = run(yaml, &server.url, |progress| most = most.max(progress.active));
    let [created, skipped, completed] =
        ["vusers.created", "vusers.skipped", "vusers.completed"].map(|name| count(&run, name));
    assert_eq!((created, skipped, completed), (7, 33, 7), "{:?}", counts(&run));
    assert_eq!((run.stats.gauge_max("vusers.active"), most), (Some(7.0), 7));
}

/// Who comes in the first interval leaves in the third; in the second nobody comes or goes.
#[test]
fn a_run_writes_its_report_and_its_page() {
    let server = Server::start("relay");
    let directory = std::env::temp_dir().join(format!("rtcade-bench-page-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let yaml = "
config:
  phases: [{ name: come & go, duration: 0.5, arrivalCount: 9 }, { pause: 1.5 }, { name: end, pause: 1.5 }]
  ensure: { conditions: [vusers.active == 9 and server.cpu_us_per_message > 0] }
scenarios: [{ flow: [{ join: lobby }, { send: 1 }, { think: 2 }] }]
";
    let path = |name: &str| directory.join(name);
    std::fs::write(path("s.yml"), yaml).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rtcade"))
        .args(["bench", "run", "s.yml", "-t", &server.url, "--threads", "2", "-o", "o.json", "--html", "o.html"])
        .current_dir(&directory)
        .output()
        .unwrap();
    // Where other tests have the cores, the generator may be late.
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    let json = std::fs::read_to_string(path("o.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let actives: Vec<_> = [0, 1, 2].map(|i| report["intermediate"][i]["gauges"]["vusers.active"].as_f64()).into();
    assert_eq!(actives, [Some(9.0); 3], "{json}");
    assert_eq!(report["checks"][0]["ok"], true, "{json}");
    assert!(report["aggregate"]["rates"]["server.cpu_us_per_message"].as_f64().unwrap() > 0.0);
    let phases: Vec<_> = [0, 1, 2].map(|i| &report["phases"][i]).into();
    let begins = |i: usize| phases[i]["beginsAt"].as_u64().unwrap() - report["beganAt"].as_u64().unwrap();
    assert_eq!([begins(0), begins(1), begins(2)], [0, 500, 2_000]);
    assert_eq!((&phases[1]["name"], &phases[2]["duration"]), (&"phase 2".into(), &1.5.into()));
    let page = std::fs::read_to_string(path("o.html")).unwrap();
    for part in ["at most 9 at once", "come &amp; go", "CPU of the server per message"] {
        assert!(page.contains(part), "{part}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_was_measured_is_written_where_a_run_is_interrupted() {
    let server = Server::start("relay");
    let directory = std::env::temp_dir().join(format!("rtcade-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let out = directory.join("out.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_rtcade"))
        .args(["bench", "quick", &server.url, "--clients", "3", "--seconds", "60", "-q", "-o"])
        .arg(&out)
        .spawn()
        .unwrap();
    thread::sleep(2 * STALL);
    signal(&bench, "-INT");
    assert_eq!(bench.wait().unwrap().code(), Some(130));
    let report = std::fs::read_to_string(&out).unwrap();
    assert!(report.contains("rtc.sent"), "{report}");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_generator_that_stood_still_says_that_its_figures_are_unfit() {
    let server = Server::start("relay");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-overload");
    std::fs::create_dir_all(&directory).unwrap();
    let (script, out) = (directory.join("script.yml"), directory.join("out.json"));
    let yaml = "
config:
  phases: [{ duration: 0.1, arrivalCount: 4 }]
scenarios:
  - flow:
      - join: lobby
      - loop: [{ send: 1, measure: echo }]
        count: 60
        pacing: fixed
        every: 50ms
";
    std::fs::write(&script, yaml).unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_rtcade"))
        .args(["bench", "run", script.to_str().unwrap(), "-t", &server.url, "-o", out.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(STALL);
    signal(&bench, "-STOP");
    thread::sleep(STALL);
    signal(&bench, "-CONT");
    let mut said = String::new();
    bench.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(bench.wait().unwrap().code(), Some(4), "{said}");
    assert!(said.contains("UNFIT: the generator was overloaded: The generator executed steps "), "{said}");
    assert!(std::fs::read_to_string(&out).unwrap().contains("\"overload\": \"The generator executed steps "));
}

#[test]
fn a_server_that_is_not_there_is_said_to_be() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = "{ config: { phases: [{ duration: 1, arrivalCount: 1 }] }, scenarios: [{ flow: [join] }] }";
    let script = Script::parse(yaml, &Overrides::default()).unwrap();
    let run = |target: &str| generator::run(&script, &options(target), &mut |_| ControlFlow::Continue(()));
    assert!(matches!(run(&format!("http://{address}")), Err(Unreachable::Server { .. })));
    assert!(matches!(run(&format!("https://{address}")), Err(Unreachable::Server { .. })));
    assert!(matches!(run("ftp://127.0.0.1:1"), Err(Unreachable::Target(_))));
}
