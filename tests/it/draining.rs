//! The program that drains while many play: everybody learns why the game ends, and every recording is whole.

#![expect(clippy::disallowed_methods, reason = "the program has its deadline in real time")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rtcade::bench::stats::Share;
use rtcade::game::Leave;
use serde_json::Value;

use super::admission::program::{Program, rtcade};
use super::bench::{count, counts, run};

const PLAYERS: u64 = 200;
const ROOMS: usize = 8;
const DRAIN: Duration = Duration::from_secs(4);
/// For closing the connections, and what a stalled disk may add (`Handle::shutdown`).
const CLOSING: Duration = Duration::from_secs(12);
/// Some leave by themselves. The server begins to drain when the last user has joined, so each of them has left well
/// before it ends. The others would stay for longer than it runs.
const SCRIPT: &str = "
config:
  phases: [{ duration: 4, arrivalCount: 200 }]
scenarios:
  - name: stays
    weight: 3
    flow:
      - join: { room: 'room-{{ $randomNumber(1, 8) }}' }
      - expect: state
      - loop: [{ send: [1, 2, false] }]
        duration: 15
        pacing: fixed
        every: 100ms
  - name: leaves
    weight: 1
    flow:
      - join: { room: 'room-{{ $randomNumber(1, 8) }}' }
      - expect: state
      - loop: [{ send: [1, 2, false] }]
        duration: 2
        pacing: fixed
        every: 100ms
      - leave
";

#[test]
#[ignore = "200 players on one machine take half a minute"]
fn two_hundred_players_learn_that_the_server_stops_and_every_recording_is_whole() {
    let directory = std::env::temp_dir().join(format!("rtcade-it-draining-{}", std::process::id()));
    let drain = DRAIN.as_secs().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--drain", &drain, "--record", directory.to_str().unwrap()];
    let program = Program::start(rtcade(&arguments), 1);
    let url = format!("http://{}", program.address);
    let (here, all_are_here) = mpsc::channel();
    let (run, took) = std::thread::scope(|scope| {
        let users = scope.spawn(move || {
            run(SCRIPT, &url, |now| {
                let joined = now.stats.summary("rtc.signal", Share::All).map_or(0, |summary| summary.count);
                if joined == PLAYERS {
                    // It is received once.
                    let _ = here.send(());
                }
            })
        });
        all_are_here.recv().expect("all users have joined");
        program.signal(Signal::SIGTERM);
        let asked = Instant::now();
        let (status, log) = program.end();
        let took = asked.elapsed();
        assert!(status.success(), "{status}\n{log}");
        (users.join().unwrap(), took)
    });
    assert!(took < DRAIN + CLOSING, "{took:?}");

    // Each user was told by the server, or has left.
    let told = count(&run, &format!("rtc.dropped_by_code.{}", Leave::Shutdown.close_code()));
    let expected = [("vusers.created", PLAYERS), ("vusers.completed", PLAYERS), ("rtc.dropped", told)];
    for (name, expected) in expected {
        assert_eq!(count(&run, name), expected, "{name} of {:?}", counts(&run));
    }
    let closed = counts(&run).into_iter().filter(|(name, _)| name.starts_with("rtc.dropped_by_code."));
    assert_eq!(closed.map(|(_, count)| count).sum::<u64>(), told, "{:?}", counts(&run));

    // The games have heard the same, and it is all recorded.
    let files: Vec<PathBuf> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), ROOMS);
    let output = rtcade(&["replay", "--check"]).args(&files).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for sentence in ["the recording is complete: ", "no differences: "] {
        assert_eq!(text.matches(sentence).count(), ROOMS, "{sentence}\n{text}");
    }
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let output = rtcade(&["replay", "--dump"]).args(&files).output().unwrap();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(reason) = line["told"]["reason"].as_str() {
            *reasons.entry(reason.to_owned()).or_default() += 1;
        }
    }
    assert!(told > 0 && told < PLAYERS, "{told} of {PLAYERS}");
    let expected = [("left".to_owned(), PLAYERS - told), ("shutdown".to_owned(), told)];
    assert_eq!(reasons, BTreeMap::from(expected));
    fs::remove_dir_all(directory).unwrap();
}
