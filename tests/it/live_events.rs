//! Events for other services, under virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rtcade::games::Relay;
use rtcade::limits::LIVE_EVENTS_WAITING;
use rtcade::server::{Config, Connect, ConnectionId, Disconnect, LiveEvent, LiveEventKind, Server};
use serde_json::{Value, json};

struct Made {
    server: Server<Relay>,
    now: Instant,
}

impl Made {
    fn new() -> Made {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        let mut config = Config::new([7; 32]);
        config.unix_time = Duration::from_secs(1_000_000_000);
        let mut server = Server::new(config, now, |_| Ok(Relay));
        server.make_live_events("node-1");
        Made { server, now }
    }

    fn join(&mut self, number: u64, room: &str) {
        let remote = format!("192.0.2.{}:5000", number % 250 + 1).parse().unwrap();
        let id = ConnectionId(number);
        self.server.handle_connect(self.now, id, Connect::new(None, remote, "192.0.2.251".parse().unwrap()));
        let request = json!({ "a": "join", "d": { "roomId": room, "name": format!("p{number}") } });
        self.server.handle_text(self.now, id, &request.to_string());
        self.pass(Duration::from_millis(100));
    }

    fn leave(&mut self, number: u64) {
        self.server.handle_disconnect(self.now, ConnectionId(number), Disconnect::Goodbye);
        self.pass(Duration::from_millis(100));
    }

    /// Lets time pass; the websockets read and answer all the while.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.server.poll_timeout().filter(|&due| due <= end) {
            self.now = self.now.max(due);
            self.server.handle_timeout(self.now);
            while let Some(ready) = self.server.poll_signal_ready() {
                while let Some(signal) = self.server.poll_signal(ready) {
                    if let rtcade::server::Signal::Ping(payload) = signal {
                        self.server.handle_pong(self.now, ready, &payload.to_be_bytes());
                    }
                }
            }
        }
        self.now = end;
    }

    fn events(&mut self) -> Vec<(LiveEvent, Value)> {
        let events = std::iter::from_fn(|| self.server.poll_live_event());
        events.map(|event| (event.clone(), serde_json::from_str(&event.body).unwrap())).collect()
    }
}

#[test]
fn each_room_is_named_once_a_minute_with_those_who_are_in_it() {
    let mut made = Made::new();
    for number in 0..20 {
        made.join(number, &format!("room-{}", number % 10));
    }
    made.events();
    made.pass(Duration::from_secs(300));
    let mut times: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (event, body) in made.events() {
        assert_eq!(event.kind.routing_key(), "room.live");
        let names: Vec<_> = body["sessions"].as_array().unwrap().iter().map(|session| &session["name"]).collect();
        let room: u64 = body["roomId"].as_str().unwrap().trim_start_matches("room-").parse().unwrap();
        assert_eq!(json!(names), json!([format!("p{room}"), format!("p{}", room + 10)]));
        assert_eq!((&body["roomSize"], &body["node"]), (&json!(2), &json!("node-1")));
        times.entry(body["roomId"].to_string()).or_default().push(body["seq"].clone());
    }
    assert_eq!(times.len(), 10);
    for (room, seqs) in times {
        assert!((4..=5).contains(&seqs.len()), "{room}: {seqs:?} in five minutes");
        assert!(seqs.iter().map(|seq| seq.as_u64().unwrap()).eq(3..3 + seqs.len() as u64), "{room}: {seqs:?}");
    }
}

#[test]
fn a_room_of_the_same_name_has_a_later_epoch() {
    let mut made = Made::new();
    made.join(1, "lobby");
    made.leave(1);
    made.pass(Duration::from_secs(120));
    made.join(2, "lobby");
    let events = made.events();
    let shown: Vec<_> = events.iter().map(|(event, body)| (event.kind, body["seq"].as_u64().unwrap())).collect();
    assert_eq!(shown, [(LiveEventKind::Join, 1), (LiveEventKind::Leave, 2), (LiveEventKind::Join, 1)]);
    let epochs: Vec<_> = events.iter().map(|(_, body)| body["epoch"].as_u64().unwrap()).collect();
    assert!(epochs[0] == epochs[1] && epochs[1] < epochs[2], "{epochs:?}");
    for (event, body) in &events {
        assert_eq!(event.id, format!("lobby:{}:{}", body["epoch"], body["seq"]));
    }
}

#[test]
fn a_stop_makes_the_leaves_of_all_and_what_nobody_polls_has_a_limit() {
    let mut made = Made::new();
    for number in 0..30 {
        made.join(number, "lobby");
    }
    made.events();
    made.server.handle_shutdown(made.now);
    let sizes: Vec<_> = made.events().iter().map(|(_, body)| body["roomSize"].as_u64().unwrap()).collect();
    assert_eq!(sizes, (0..30).rev().collect::<Vec<_>>());
    let mut made = Made::new();
    made.join(0, "lobby");
    // A player who comes and goes all the time, while nobody polls.
    let mut changes = 1;
    while made.server.counters().dropped_live_events == 0 {
        made.join(1, "lobby");
        made.leave(1);
        changes += 2;
        assert!(changes < 2 * LIVE_EVENTS_WAITING, "the queue has no end");
    }
    assert_eq!(made.events().len(), LIVE_EVENTS_WAITING);
}

#[test]
fn without_a_consumer_there_are_none() {
    let mut made = Made::new();
    made.server = Server::new(Config::new([7; 32]), made.now, |_| Ok(Relay));
    made.join(1, "lobby");
    made.pass(Duration::from_secs(120));
    assert_eq!(made.server.poll_live_event(), None);
}
