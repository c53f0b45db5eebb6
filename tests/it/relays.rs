//! Messages between players of a room, relayed by the server.

use std::time::Duration;

use rtcade::games::Relay;
use rtcade::limits;
use rtcade::server::{Connect, ConnectionId, Disconnect, Signal};
use rtcade::sim::{SERVER, Simulation};
use rtcade::wire::signaling::RoomName;
use serde_json::{Value, json};

const TICK: Duration = Duration::from_millis(33);

/// Players' websockets, which bring what waits for them when they are asked.
struct Players(Simulation<Relay>);

impl Players {
    fn new() -> Players {
        Players(Simulation::with_config(1, |config| config.max_players = limits::PLAYERS_PER_ROOM, |_| Ok(Relay)))
    }

    /// A player, by the number of their websocket, and their `socketId`.
    fn join(&mut self, room: &str, number: u8) -> (ConnectionId, String) {
        let connection = ConnectionId(number.into());
        let remote = ([10, 7, 0, number], 40_000).into();
        let connect = Connect::new(RoomName::parse(room), remote, SERVER.ip());
        self.0.server.handle_connect(self.0.now(), connection, connect);
        self.say(connection, &json!({ "a": "join", "d": {} }));
        self.0.run(2 * TICK);
        let reply = self.hear(connection).into_iter().find(|text| text["a"] == "joinR").unwrap();
        (connection, reply["d"]["socketId"].as_str().unwrap().to_owned())
    }

    fn say(&mut self, connection: ConnectionId, request: &Value) {
        self.0.server.handle_text(self.0.now(), connection, &request.to_string());
    }

    fn hear(&mut self, connection: ConnectionId) -> Vec<Value> {
        let mut texts = Vec::new();
        while let Some(signal) = self.0.server.poll_signal(connection) {
            match signal {
                Signal::Text(text) => texts.push(serde_json::from_str(&text).unwrap()),
                Signal::Ping(payload) => {
                    self.0.server.handle_pong(self.0.now(), connection, &payload.to_be_bytes());
                }
                Signal::Binary(_) => {}
                unwanted => panic!("{unwanted:?}"),
            }
        }
        texts
    }

    /// The code and the sentence that a request is refused with; nothing where it is granted.
    fn ask(&mut self, connection: ConnectionId, request: &Value) -> Option<(String, String)> {
        self.hear(connection);
        self.say(connection, request);
        let texts = self.hear(connection);
        let [reply] = texts.as_slice() else { panic!("{texts:?}") };
        assert_eq!(reply["a"], format!("{}R", request["a"].as_str().unwrap()));
        let text = |field: &str| reply[field].as_str().unwrap().to_owned();
        (reply["s"] == false).then(|| (text("e"), text("m")))
    }

    fn code(&mut self, connection: ConnectionId, request: &Value) -> Option<String> {
        self.ask(connection, request).map(|(code, _)| code)
    }
}

fn sdp(to: &str, sdp: &str) -> Value {
    json!({ "a": "exchangeSdp", "d": { "to": to, "sdp": sdp } })
}

fn candidate(to: &str) -> Value {
    json!({ "a": "exchangeCandidate", "d": { "to": to, "candidate": "c" } })
}

fn orientation() -> Value {
    json!({ "a": "orientationChange", "d": { "orientation": "landscape" } })
}

#[test]
fn what_players_exchange_arrives_as_it_was_sent_and_says_from_whom() {
    let mut players = Players::new();
    let (ada, ada_id) = players.join("talk", 1);
    let (bob, bob_id) = players.join("talk", 2);
    let (cy, _) = players.join("talk", 3);
    let from = json!({ "socketId": ada_id, "userId": null });
    let ice = json!({ "candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0 });
    let camera = json!({ "position": [0.5, -1, 2], "facing": "user" });
    let nonsense = "no SDP \u{0} at all\r\n\"}";
    let (of_one, of_all): (&[_], &[_]) = (&[bob], &[bob, cy]);
    for (action, data, event, carried, hear) in [
        (
            "exchangeSdp",
            json!({ "to": bob_id, "sdp": nonsense, "from": { "socketId": "forged" }, "z": 1 }),
            "eventExchangeSdp",
            json!({ "from": from, "sdp": nonsense }),
            of_one,
        ),
        (
            "exchangeCandidate",
            json!({ "to": bob_id, "candidate": ice }),
            "eventExchangeCandidate",
            json!({ "from": from, "candidate": ice }),
            of_one,
        ),
        (
            "exchangeCandidate",
            json!({ "to": bob_id, "candidate": null }),
            "eventExchangeCandidate",
            json!({ "from": from, "candidate": null }),
            of_one,
        ),
        (
            "orientationChange",
            json!({ "orientation": 90, "camera": camera, "from": "forged" }),
            "eventOrientationChange",
            json!({ "from": from, "platform": null, "orientation": 90, "camera": camera }),
            of_all,
        ),
    ] {
        for player in [ada, bob, cy] {
            players.hear(player);
        }
        players.say(ada, &json!({ "a": action, "d": data, "i": 7 }));
        assert_eq!(players.hear(ada), [json!({ "a": format!("{action}R"), "i": 7, "s": true, "d": {} })]);
        for player in [bob, cy] {
            let expected = hear.contains(&player).then(|| json!({ "a": event, "d": carried }));
            assert_eq!(players.hear(player), Vec::from_iter(expected), "{player:?}");
        }
    }
}

#[test]
fn nothing_goes_beyond_the_room_and_nobody_is_found_by_guessing() {
    let mut players = Players::new();
    let (ada, ada_id) = players.join("here", 1);
    let (bob, bob_id) = players.join("here", 2);
    let (eve, eve_id) = players.join("elsewhere", 3);
    let stranger = players.ask(ada, &sdp(&"0".repeat(32), "v=0")).unwrap();
    assert_eq!(stranger.0, "no_such_player");
    let before = players.0.server.counters().refused_requests;
    let guesses = [&eve_id, &ada_id, "", "Server", "2", &bob_id[..31], &format!("{bob_id} "), &bob_id.to_uppercase()];
    for to in guesses {
        for request in [sdp(to, "v=0"), candidate(to)] {
            assert_eq!(players.ask(ada, &request).as_ref(), Some(&stranger), "{request}");
        }
    }
    assert_eq!(players.0.server.counters().refused_requests - before, 2 * guesses.len() as u64);
    assert_eq!(players.code(ada, &orientation()), None);
    assert!(players.hear(eve).iter().all(|text| text["a"] == "eventRoomUsers"));
    assert_eq!(players.code(ada, &candidate(&bob_id)), None);

    // Who has left can neither be reached nor reach anybody.
    players.say(bob, &json!({ "a": "leave" }));
    assert_eq!(players.ask(ada, &candidate(&bob_id)), Some(stranger));
    let outside = ConnectionId(9);
    let connect = Connect::new(RoomName::parse("here"), ([10, 7, 0, 9], 1).into(), SERVER.ip());
    players.0.server.handle_connect(players.0.now(), outside, connect);
    for request in [sdp(&ada_id, "v=0"), candidate(&ada_id), orientation(), candidate("server")] {
        assert_eq!(players.code(outside, &request).as_deref(), Some("bad_request"), "{request}");
    }
    assert!(players.hear(ada).iter().all(|text| text["a"] == "eventLeave"));
}

#[test]
fn who_is_away_is_not_reached() {
    let mut players = Players::new();
    let (ada, _) = players.join("away", 1);
    let (bob, bob_id) = players.join("away", 2);
    players.0.server.handle_disconnect(players.0.now(), bob, Disconnect::Lost);
    let (code, sentence) = players.ask(ada, &sdp(&bob_id, "v=0")).unwrap();
    assert!(code == "no_such_player" && sentence.contains("has reconnected"), "{sentence}");
    assert_eq!(players.code(ada, &orientation()), None, "there is nobody to be told");
}

#[test]
fn a_slow_player_is_not_put_out_by_what_others_send() {
    let mut players = Players::new();
    let (ada, _) = players.join("slow", 1);
    let (_, bob_id) = players.join("slow", 2);
    let full = "v".repeat(limits::SDP_BYTES);
    let mut taken = 0;
    let refused = loop {
        match players.code(ada, &sdp(&bob_id, &full)) {
            None => taken += 1,
            Some(code) => break code,
        }
    };
    assert_eq!(refused, "rate_limited");
    assert_eq!(taken, limits::RELAY_QUEUE_BYTES / limits::SDP_BYTES, "and a first one for the rest of each message");
    for request in [candidate(&bob_id), sdp(&bob_id, "v=0")] {
        assert_eq!(players.code(ada, &request).as_deref(), Some("rate_limited"));
    }
    assert_eq!(players.code(ada, &orientation()), None);
    assert_eq!(players.0.server.counters().dropped_relays, 4);
    assert_eq!(players.0.server.gauges().players, 2);

    let heard = players.hear(ConnectionId(2));
    let relayed = |of: &str| heard.iter().filter(|text| text["a"] == of).count();
    assert_eq!((relayed("eventExchangeSdp"), relayed("eventOrientationChange")), (taken, 0));
    assert_eq!(players.code(ada, &candidate(&bob_id)), None, "there is place again");
}

#[test]
fn what_is_relayed_has_limits_of_size() {
    let mut players = Players::new();
    let (_, ada_id) = players.join("limits", 1);
    let (bob, _) = players.join("limits", 2);
    let text = |bytes: usize| "x".repeat(bytes);
    let candidate = |bytes| json!({ "a": "exchangeCandidate", "d": { "to": ada_id, "candidate": text(bytes) } });
    let camera = |bytes| json!({ "a": "orientationChange", "d": { "camera": text(bytes) } });
    for (request, expected) in [
        (sdp(&ada_id, &text(limits::MEDIA_SDP_BYTES)), None),
        (sdp(&ada_id, &text(limits::MEDIA_SDP_BYTES + 1)), Some("too_large")),
        (candidate(limits::CANDIDATE_BYTES - "\"\"".len()), None),
        (candidate(limits::CANDIDATE_BYTES + 1 - "\"\"".len()), Some("too_large")),
        (camera(limits::ORIENTATION_BYTES - "\"\"null".len()), None),
        (camera(limits::ORIENTATION_BYTES + 1 - "\"\"null".len()), Some("too_large")),
    ] {
        assert_eq!(players.code(bob, &request).as_deref(), expected);
    }
}

#[test]
fn events_of_players_have_no_reply_and_the_budgets_of_all_that_is_relayed() {
    let mut players = Players::new();
    let (ada, _) = players.join("freeze", 1);
    let (bob, _) = players.join("freeze", 2);
    let (eve, _) = players.join("elsewhere", 3);
    let freeze = json!({ "a": "eventFreeze", "i": 7, "d": { "x": "y".repeat(400) } });
    for player in [ada, bob, eve] {
        players.hear(player);
    }
    let before = players.0.server.counters().refused_requests;
    let (mut told, mut refused) = (0, 0);
    while refused == 0 {
        for _ in 0..limits::SIGNALS_PER_SECOND / 2 {
            players.say(ada, &freeze);
            told += players.hear(bob).len();
        }
        refused = players.0.server.counters().refused_requests - before;
        players.0.run(Duration::from_millis(100));
        assert!(told < 10_000);
    }
    assert!(told >= limits::SIGNALS_PER_SECOND as usize / 2, "{told}");
    assert!(players.hear(ada).is_empty(), "whether it was relayed or not");
    assert!(players.hear(eve).is_empty(), "it stays in the room");
    // A connection that has not joined gets no reply either.
    let outside = ConnectionId(9);
    let connect = Connect::new(RoomName::parse("freeze"), ([10, 7, 0, 9], 1).into(), SERVER.ip());
    players.0.server.handle_connect(players.0.now(), outside, connect);
    for event in [&freeze, &json!({ "a": "eventCpu", "d": { "cpuUsed": 1 } }), &json!({ "a": "eventCpu" })] {
        players.say(outside, event);
    }
    assert!(players.hear(outside).is_empty() && players.hear(bob).is_empty());
    assert_eq!(players.0.server.counters().refused_requests, before + refused + 3);
}

#[test]
fn a_report_of_the_cpu_counts_for_a_while_and_one_in_ten_seconds_is_taken() {
    let mut players = Players::new();
    let (ada, _) = players.join("cpu", 1);
    let (bob, _) = players.join("cpu", 2);
    let report = |used: f64| json!({ "a": "eventCpu", "d": { "cpuUsed": used } });
    let pass = |players: &mut Players, seconds: u64| {
        for _ in 0..seconds {
            players.0.run(Duration::from_secs(1));
            players.hear(ada);
            players.hear(bob);
        }
    };
    let used = |players: &Players| players.0.server.cpu_used(players.0.now()).collect::<Vec<_>>();
    assert!(used(&players).is_empty());
    players.say(ada, &report(20.0));
    players.say(bob, &report(30.0));
    players.say(ada, &report(90.0));
    assert_eq!(used(&players), [20.0, 30.0]);
    pass(&mut players, limits::CPU_REPORT_INTERVAL.as_secs());
    players.say(ada, &report(40.0));
    assert_eq!(used(&players), [40.0, 30.0]);
    pass(&mut players, (limits::CPU_REPORT_KEPT - limits::CPU_REPORT_INTERVAL).as_secs());
    assert_eq!(used(&players), [40.0], "an old report counts no more");
    players.say(ada, &json!({ "a": "leave" }));
    assert!(used(&players).is_empty());
}

/// What `sender` may have told to the others until it is refused: how many messages.
fn told_until_refused(players: &mut Players, sender: ConnectionId, others: &[ConnectionId]) -> usize {
    let mut told = 0;
    while players.code(sender, &orientation()).is_none() {
        told += 1;
        others.iter().for_each(|&other| drop(players.hear(other)));
    }
    told
}

#[test]
fn what_is_told_to_all_is_limited_in_bytes_by_player_by_room_and_by_address() {
    let mut players = Players::new();
    let mut rooms: [Vec<ConnectionId>; 2] = Default::default();
    for (number, room) in (1..=128).map(|number| (number, usize::from(number > 64))) {
        rooms[room].push(players.join(["one", "other"][room], number).0);
        rooms.iter().flatten().for_each(|&player| drop(players.hear(player)));
    }
    players.0.run(Duration::from_secs(1));
    let [ada, bob, ..] = rooms[0][..] else { panic!("there are 64") };
    rooms[0].iter().for_each(|&player| drop(players.hear(player)));
    assert_eq!(players.code(ada, &orientation()), None);
    let text = players.hear(bob).into_iter().find(|text| text["a"] == "eventOrientationChange").unwrap();
    let bytes = text.to_string().len() * 63;
    players.0.run(Duration::from_secs(1));

    let most = |limit: u32| (limit as usize).div_ceil(bytes);
    assert_eq!(told_until_refused(&mut players, ada, &rooms[0]), most(limits::RELAYED_BYTES_PER_SECOND));
    assert!(told_until_refused(&mut players, bob, &rooms[0]) > 0, "each has an allowance of their own");
    let told: usize = rooms[0][2..].iter().map(|&player| told_until_refused(&mut players, player, &rooms[0])).sum();
    let (room, player) = (most(limits::RELAYED_BYTES_PER_ROOM_PER_SECOND), most(limits::RELAYED_BYTES_PER_SECOND));
    assert!((room - 2 * player - 2..=room - 2 * player + 2).contains(&told), "{told} of {room}");
    let elsewhere = rooms[1][0];
    let told = told_until_refused(&mut players, elsewhere, &rooms[1]);
    assert_eq!(told, player, "another room of other addresses has its own");
}
