//! Users of the load generator who are redirected to other servers.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a server that redirects is here")]

use std::net::{SocketAddr, TcpListener};
use std::thread;

use rtcade::bench::stats::Share;
use serde_json::json;

use super::bench::{Server, count, counts, options, run_with};
use super::bench_tls::Proxy;

/// A server that redirects each request to the next of these URLs, and begins again after the last.
fn redirecting(urls: Vec<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut urls = urls.iter().cycle();
        for stream in listener.incoming() {
            // Not everything that connects is a websocket.
            let Ok(mut socket) = tungstenite::accept(stream.unwrap()) else { continue };
            if socket.read().is_err() {
                continue;
            }
            let redirect = json!({"a": "eventRedirect", "d": {"url": urls.next().unwrap(), "ticket": "a ticket"}});
            let _ = socket.send(redirect.to_string().into());
            let _ = socket.close(None);
            while socket.read().is_ok() {}
        }
    });
    address
}

#[test]
fn users_play_where_they_are_redirected_by_name_through_tls_and_past_a_server_that_has_gone() {
    let server = Server::start("relay");
    let proxy = Proxy::start(server.address());
    // Its listener ends at once.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home = redirecting(vec![
        format!("ws://{gone}/r/lobby"),
        format!("ws://localhost:{}/r/lobby", server.address().port()),
        format!("wss://localhost:{}/r/lobby", proxy.address.port()),
        format!("ws://{gone}/r/lobby?pass=1"),
        format!("ws://{}/r/lobby?pass=1", server.address()),
    ]);
    let yaml = "
config:
  phases: [{ duration: 1, arrivalCount: 10 }]
scenarios:
  - flow:
      - join: lobby
      - expect: state
      - reconnect
      - send: 1
      - expect: state
      - leave
";
    let mut options = options(&format!("http://{home}"));
    options.insecure = true;
    options.scrape = Some(format!("{}metrics", server.url));
    let run = run_with(yaml, &options, |_| ());
    let times = |name| run.stats.summary(name, Share::All).map_or(0, |summary| summary.count);
    assert_eq!((count(&run, "vusers.completed"), count(&run, "vusers.failed")), (10, 0), "{:?}", counts(&run));
    assert_eq!((times("rtc.open"), times("rtc.reconnect")), (10, 10), "{:?}", counts(&run));
    let lost = (count(&run, "rtc.rejoined"), count(&run, "rtc.identities_lost"));
    assert_eq!(lost, (0, 0), "each session was resumed: {:?}", counts(&run));
}
