//! Steps of the load tester's users, against real servers.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "servers of real time stand at the other end")]

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use rtcade::bench::script::{Overrides, Script};
use rtcade::bench::stats::Share;
use rtcade::journal::{Entry, Journal};
use rtcade::room::Input;

use super::bench::{Server, count, counts, options, play, run, signal};

/// A websocket server that says again what it is told: its URL.
fn echo_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                // The connection that only asks whether somebody is there is no websocket.
                let Ok(mut socket) = tungstenite::accept(stream.unwrap()) else { return };
                while let Ok(message) = socket.read() {
                    if socket.send(message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}

/// Its answer would come before it is expected, if the message went with the last round.
#[test]
fn what_follows_a_paced_loop_waits_for_the_end_of_its_last_round() {
    let yaml = "
config:
  phases: [{ duration: 1, arrivalCount: 5 }]
scenarios:
  - engine: ws
    flow:
      - loop: [{ send: \"{{ $loopCount }}\" }]
        count: 2
        pacing: fixed
        every: 300ms
      - send: last
      - expect: { text: last }
        within: 2s
";
    let run = run(yaml, &echo_server(), |_| ());
    assert_eq!((count(&run, "vusers.completed"), count(&run, "errors.expect")), (5, 0), "{:?}", counts(&run));
}

/// What each player of a recording sent, in order, by the number they had.
fn sent_in(journal: &[u8]) -> Vec<Vec<(bool, Vec<u8>)>> {
    let mut sent: BTreeMap<u32, Vec<(bool, Vec<u8>)>> = BTreeMap::new();
    for entry in Journal::parse(journal).unwrap().entries() {
        match entry.unwrap() {
            Entry::Told(Input::Input { player, value, .. }) => sent.entry(player.0).or_default().push((false, value)),
            Entry::Told(Input::Command { player, value }) => sent.entry(player.0).or_default().push((true, value)),
            _ => {}
        }
    }
    sent.into_values().collect()
}

#[test]
fn users_play_what_the_players_of_a_recording_played() {
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/journals/arena.journal");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-replay");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let script = directory.join("replay.yml");
    let yaml = format!(
        "
config:
  phases: [{{ duration: 1, arrivalCount: 4 }}]
scenarios:
  - flow:
      - join: again
      - replay: {recorded}
        speed: 2
        measure: echo
      - think: 0.5
"
    );
    fs::write(&script, yaml).unwrap();
    let mut server = Server::start_with("arena", &["--record", directory.to_str().unwrap()]);
    let script = Script::read(&script, &Overrides::default()).unwrap();
    let run = play(&script, &options(&server.url), |_| ());
    signal(&server.process, "-TERM");
    server.process.wait().unwrap();

    let before = sent_in(&fs::read(recorded).unwrap());
    let inputs = before.iter().flatten().filter(|(is_command, _)| !is_command).count() as u64;
    let commands = before.iter().flatten().count() as u64 - inputs;
    assert_eq!((before.len(), count(&run, "vusers.completed")), (4, 4), "{:?}", counts(&run));
    assert_eq!((count(&run, "rtc.sent"), count(&run, "rtc.commands")), (inputs, commands));
    let echoes = run.stats.summary("rtc.echo", Share::All).map_or(0, |summary| summary.count);
    assert!(echoes <= inputs && echoes >= inputs * 9 / 10, "{echoes} of {inputs}");

    let again = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let again: Vec<_> = again.filter(|path| path.extension().is_some_and(|end| end == "journal")).collect();
    let [again] = again.as_slice() else { panic!("one room was recorded: {again:?}") };
    let again = sent_in(&fs::read(again).unwrap());
    assert_eq!(again.len(), 4);
    // Inputs are not reliable: where the machine stands still for a while, some of them are too late to be repeated.
    // Commands are.
    for sent in before {
        let is_like = |again: &Vec<(bool, Vec<u8>)>| {
            let mut left = sent.iter();
            let commands = |all: &[(bool, Vec<u8>)]| all.iter().filter(|(is_command, _)| *is_command).count();
            again.len() >= sent.len() * 9 / 10
                && commands(again) == commands(&sent)
                && again.iter().all(|one| left.any(|other| other == one))
        };
        assert!(again.iter().any(is_like), "somebody sent the same, in the same order");
    }
}

#[test]
fn who_reconnects_goes_on_as_the_same_player() {
    let server = Server::start("relay");
    let yaml = "
config:
  phases: [{ duration: 1, arrivalCount: 6 }]
scenarios:
  - flow:
      - join: lobby
      - loop:
          - send: 1
            measure: echo
          - reconnect
          - send: 2
            measure: echo
          - expect: state
        count: 2
      - think: 0.5
";
    let run = run(yaml, &server.url, |_| ());
    for (name, expected) in [("vusers.completed", 6), ("rtc.sent", 24), ("rtc.echoes_lost", 0), ("rtc.dropped", 0)] {
        assert_eq!(count(&run, name), expected, "{name}: {:?}", counts(&run));
    }
    let times = |name| run.stats.summary(name, Share::All).map_or(0, |summary| summary.count);
    assert_eq!((times("rtc.reconnect"), times("rtc.signal"), times("rtc.echo")), (12, 6, 24), "{:?}", counts(&run));
}

#[test]
fn what_users_log_is_shown() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-log");
    fs::create_dir_all(&directory).unwrap();
    let script = directory.join("log.yml");
    let yaml = "
config: { phases: [{ duration: 0.5, arrivalCount: 3 }], variables: { who: [Ann] } }
scenarios:
  - engine: ws
    flow: [log: \"{{ who }} is here\"]
";
    fs::write(&script, yaml).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rtcade"))
        .args(["bench", "run", script.to_str().unwrap(), "-t", &echo_server()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let logged: Vec<&str> = said.lines().filter(|line| line.ends_with(": Ann is here")).collect();
    assert_eq!(logged, ["user 0: Ann is here", "user 1: Ann is here", "user 2: Ann is here"], "{said}");
}
