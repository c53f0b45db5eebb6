//! Steps of the load tester's users, against real servers.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "servers of real time stand at the other end")]

use std::net::TcpListener;
use std::thread;

use super::bench::{count, counts, run};

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
