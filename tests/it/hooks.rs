//! Hooks: deciding who may join, and observing joins and leaves.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rtcade::auth::Keys;
use rtcade::game::{Batch, Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::hooks::{Arrival, ArrivalId, Decision, Hooks, Visitor};
use rtcade::journal::{Journal, Replay, Verdict};
use rtcade::limits;
use rtcade::server::{Connect, ConnectionId, Disconnect, Signal};
use rtcade::sim::{SERVER, Simulation};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

const TICK: Duration = Duration::from_millis(33);
/// 2026-11-21.
const NOW: u64 = 1_795_219_200;

/// Greets each player with what is attached to them.
struct Greeter;

impl Game for Greeter {
    type Input = ();
    type Command = String;
    type State = ();
    type Event = ();
    type Welcome = Value;
    type JoinData = IgnoredAny;

    fn join(&mut self, _: &mut Context<Greeter>, _: PlayerId, join: &Join<IgnoredAny>) -> Result<Value, Refusal> {
        if join.name == "Unwelcome" { Err(Refusal::new("Not in this room.")) } else { Ok(join.attached.clone()) }
    }

    fn leave(&mut self, _: &mut Context<Greeter>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Greeter>, _: Tick, batch: Batch<'_, Greeter>) {
        for message in batch {
            let Incoming::Command { player, .. } = message else { continue };
            ctx.kick(player, "as you wish");
        }
    }
}

type Heard = Rc<RefCell<Vec<String>>>;

/// Notes each call, and fails where the player is named after it.
struct Notes(Heard);

impl Notes {
    fn note(&mut self, what: &str, visitor: &Visitor<'_>) {
        let Visitor { room, player, name, attached, .. } = visitor;
        self.0.borrow_mut().push(format!("{what} {room}/{player} {name} {}", attached["cookie"]));
        assert_ne!(*name, what);
    }
}

impl Hooks for Notes {
    fn accept(&mut self, arrival: &Arrival<'_>) -> Decision {
        let identity = arrival.identity.map(|identity| (identity.subject.as_str(), &identity.claims["level"]));
        self.0.borrow_mut().push(format!("accept {} {} {identity:?}", arrival.room, arrival.remote));
        match arrival.name {
            "accept" => panic!("as it was told to"),
            "Mallory" => Decision::Refuse(Refusal::new("Not you.")),
            _ => Decision::Accept(match arrival.data["attach"].as_u64() {
                Some(bytes) => "x".repeat(usize::try_from(bytes).unwrap() - 2).into(),
                None => arrival.header("cookie").map_or(Value::Null, |cookie| json!({ "cookie": cookie })),
            }),
        }
    }

    fn joined(&mut self, visitor: &Visitor<'_>) {
        self.note("joined", visitor);
    }

    fn dropped(&mut self, visitor: &Visitor<'_>) {
        self.note("dropped", visitor);
    }

    fn resumed(&mut self, visitor: &Visitor<'_>) {
        self.note("resumed", visitor);
    }

    fn left(&mut self, visitor: &Visitor<'_>, reason: Leave) {
        self.0.borrow_mut().push(format!("{reason}:"));
        self.note("left", visitor);
    }
}

/// A server with [`Notes`], and websockets to it.
struct Hall {
    sim: Simulation<Greeter>,
    heard: Heard,
    next: u64,
}

impl Hall {
    fn new(keys: Option<Keys>) -> Hall {
        let keys = keys.map(Rc::new);
        let configure = move |config: &mut rtcade::server::Config| {
            config.keys = keys;
            config.unix_time = Duration::from_secs(NOW);
        };
        let mut sim = Simulation::with_config(1, configure, |info| {
            if info.name == "closed" { Err(Refusal::new("Closed today.")) } else { Ok(Greeter) }
        });
        let heard = Heard::default();
        sim.server.set_hooks(Notes(Rc::clone(&heard)));
        Hall { sim, heard, next: 1 }
    }

    fn connect(&mut self, headers: &[(&str, &str)]) -> ConnectionId {
        let connection = ConnectionId(self.next);
        self.next += 1;
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut connect = Connect::new(None, ([192, 0, 2, 1], 5).into(), SERVER.ip());
        connect.headers = headers;
        self.sim.server.handle_connect(self.sim.now(), connection, connect);
        connection
    }

    /// The reply to a request.
    fn ask(&mut self, connection: ConnectionId, action: &str, data: &Value) -> Value {
        self.sim.server.handle_text(self.sim.now(), connection, &json!({ "a": action, "d": data }).to_string());
        self.sim.run(2 * TICK);
        let texts = std::iter::from_fn(|| self.sim.server.poll_signal(connection)).filter_map(|signal| match signal {
            Signal::Text(text) => Some(serde_json::from_str::<Value>(&text).unwrap()),
            _ => None,
        });
        texts.collect::<Vec<_>>().into_iter().find(|text| text["a"] == format!("{action}R")).unwrap()
    }

    fn join(&mut self, name: &str) -> (ConnectionId, Value) {
        let connection = self.connect(&[("cookie", "c")]);
        let reply = self.ask(connection, "join", &json!({ "roomId": "hall", "name": name }));
        (connection, reply)
    }

    fn disconnect(&mut self, connection: ConnectionId, how: Disconnect) {
        self.sim.server.handle_disconnect(self.sim.now(), connection, how);
    }

    fn take_heard(&mut self) -> Vec<String> {
        self.heard.take()
    }
}

#[test]
fn hooks_hear_of_each_step_of_a_players_life() {
    let mut hall = Hall::new(None);
    let (first, reply) = hall.join("Ada");
    assert_eq!(reply["d"]["welcome"], json!({ "cookie": "c" }), "the game knows it");
    assert_eq!(hall.take_heard(), ["accept hall 192.0.2.1:5 None", r#"joined hall/1 Ada "c""#]);
    hall.disconnect(first, Disconnect::Lost);
    let back = hall.connect(&[]);
    let who = json!({ "socketId": reply["d"]["socketId"], "resume": reply["d"]["resume"] });
    let resumed = hall.ask(back, "reconnect", &who);
    assert_eq!(resumed["s"], true);
    assert_eq!(hall.take_heard(), [r#"dropped hall/1 Ada "c""#, r#"resumed hall/1 Ada "c""#]);
    hall.ask(back, "leave", &Value::Null);
    assert_eq!(hall.take_heard(), ["left:", r#"left hall/1 Ada "c""#]);

    let (lost, _) = hall.join("Bob");
    hall.disconnect(lost, Disconnect::Lost);
    hall.sim.run(limits::RESUME_GRACE + TICK);
    let (_, _) = hall.join("Cy");
    hall.sim.server.handle_shutdown(hall.sim.now());
    let left: Vec<String> = hall.take_heard().into_iter().filter(|line| line.ends_with(':')).collect();
    assert_eq!(left, ["closed:", "shutdown:"]);
}

#[test]
fn who_is_not_let_in_costs_no_room_and_is_not_heard_of_again() {
    let mut hall = Hall::new(None);
    for (name, room, code, sentence, accepts) in [
        ("Mallory", "hall", "refused", "Not you.", 1),
        ("accept", "hall", "internal", "whether you may join", 1),
        ("Ada", "no such/room", "bad_room", "1 to 64", 0),
        ("Ada", "closed", "refused", "Closed today.", 1),
    ] {
        let connection = hall.connect(&[]);
        let reply = hall.ask(connection, "join", &json!({ "roomId": room, "name": name }));
        assert_eq!((&reply["s"], &reply["e"]), (&false.into(), &code.into()), "{reply}");
        assert!(reply["m"].as_str().unwrap().contains(sentence), "{reply}");
        assert_eq!(hall.sim.server.gauges().rooms, 0, "{name}");
        assert_eq!(hall.take_heard().len(), accepts, "{name}");
    }
    let (_, reply) = hall.join("Unwelcome");
    assert_eq!(reply["m"], "Not in this room.");
    assert_eq!(hall.take_heard().len(), 1, "the game refused");

    // Gone before the game has decided.
    let hasty = hall.connect(&[]);
    hall.sim.server.handle_text(hall.sim.now(), hasty, r#"{"a":"join","d":{"roomId":"hall"}}"#);
    hall.disconnect(hasty, Disconnect::Lost);
    hall.sim.run(2 * TICK);
    assert_eq!(hall.take_heard().len(), 1);
}

#[test]
fn a_hook_that_fails_is_counted_and_costs_nobody_else_anything() {
    let mut hall = Hall::new(None);
    let (ada, _) = hall.join("Ada");
    for (count, name) in (1..).zip(["accept", "joined", "dropped", "left"]) {
        let (connection, reply) = hall.join(name);
        assert_eq!(reply["s"], name != "accept");
        hall.disconnect(connection, if name == "dropped" { Disconnect::Lost } else { Disconnect::Goodbye });
        assert_eq!(hall.sim.server.counters().failed_hooks, count, "{name}");
    }
    hall.take_heard();
    hall.ask(ada, "leave", &Value::Null);
    assert_eq!(hall.take_heard(), ["left:", r#"left hall/1 Ada "c""#]);
    assert_eq!(hall.sim.server.gauges().players, 1, "the one whose connection was lost");
}

#[test]
fn what_is_attached_has_a_limit() {
    let mut hall = Hall::new(None);
    for (bytes, code) in [(limits::ATTACHED_BYTES, None), (limits::ATTACHED_BYTES + 1, Some("internal"))] {
        let connection = hall.connect(&[]);
        let reply = hall.ask(connection, "join", &json!({ "roomId": "hall", "data": { "attach": bytes } }));
        assert_eq!(reply["e"].as_str(), code);
    }
    assert_eq!(hall.sim.server.counters().failed_hooks, 1);
}

#[test]
fn accept_knows_who_somebody_is_and_is_not_asked_where_nobody_does() {
    let key = EncodingKey::from_secret(&[7; 32]);
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::HS256).unwrap();
    let keys = Keys::parse(&json!({ "keys": [jwk] }).to_string(), "game.example").unwrap();
    let mut hall = Hall::new(Some(keys));
    let claims = json!({ "exp": NOW + 60, "aud": "game.example", "sub": "ada", "room": "hall", "level": 7 });
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
    for (bearer, heard) in [(json!(token), "accept hall 192.0.2.1:5 Some((\"ada\", Number(7)))"), (json!("x"), "")] {
        let connection = hall.connect(&[]);
        hall.ask(connection, "join", &json!({ "roomId": "hall", "bearer": bearer }));
        assert_eq!(hall.take_heard().first().map_or("", String::as_str), heard);
    }
}

#[test]
fn a_replay_without_hooks_says_what_was_said_with_them() {
    for with_key in [false, true] {
        let key = EncodingKey::from_secret(&[7; 32]);
        let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, Algorithm::HS256).unwrap();
        let keys = Keys::parse(&json!({ "keys": [jwk] }).to_string(), "game.example").unwrap();
        let mut hall = Hall::new(Some(keys).filter(|_| with_key));
        let file = Rc::new(RefCell::new(Vec::new()));
        let written = Rc::clone(&file);
        hall.sim.server.record(move |_| {
            let written = Rc::clone(&written);
            Box::new(move |block| written.borrow_mut().extend_from_slice(block))
        });
        let claims = json!({ "exp": NOW + 60, "aud": "game.example", "sub": "ada", "room": "*" });
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        let connection = hall.connect(&[("cookie", "crumbs")]);
        let reply = hall.ask(connection, "join", &json!({ "roomId": "hall", "bearer": token }));
        assert_eq!(reply["d"]["welcome"]["cookie"], "crumbs");
        drop(hall);
        let bytes = file.take();
        let journal = Journal::parse(&bytes).unwrap();
        let mut replay = Replay::new(&journal, |_| Ok(Greeter)).unwrap();
        let mut joins = 0;
        while let Some(step) = replay.step().unwrap() {
            assert_eq!(step.verdict, Verdict::Same);
            for told in step.told.iter().map(rtcade::journal::input_to_json).filter(|told| !told["join"].is_null()) {
                joins += 1;
                assert_eq!(told["attached"], json!({ "cookie": "crumbs" }));
                assert_eq!(told["subject"], if with_key { json!("ada") } else { Value::Null });
            }
        }
        assert_eq!(joins, 1);
    }
}

/// Puts every decision off.
struct Later(Rc<RefCell<Vec<ArrivalId>>>);

impl Hooks for Later {
    fn accept(&mut self, arrival: &Arrival<'_>) -> Decision {
        self.0.borrow_mut().push(arrival.id);
        Decision::Later
    }
}

#[test]
fn a_decision_may_come_later_and_then_comes_once() {
    let mut hall = Hall::new(None);
    let asked = Rc::default();
    hall.sim.server.set_hooks(Later(Rc::clone(&asked)));
    let request = json!({ "a": "join", "d": { "roomId": "hall", "name": "Ada" } }).to_string();
    let ask = |hall: &mut Hall| {
        let connection = hall.connect(&[]);
        hall.sim.server.handle_text(hall.sim.now(), connection, &request);
        hall.sim.run(TICK);
        assert!(hall.sim.server.poll_signal(connection).is_none(), "nothing is decided");
        let arrival: ArrivalId = asked.borrow_mut().pop().unwrap();
        (connection, arrival)
    };
    let decide = |hall: &mut Hall, arrival, decision| {
        hall.sim.server.handle_decision(hall.sim.now(), arrival, decision);
        hall.sim.run(2 * TICK);
    };
    let replies = |hall: &mut Hall, connection| {
        let signals = std::iter::from_fn(|| hall.sim.server.poll_signal(connection));
        let replies = signals.filter_map(|signal| match signal {
            Signal::Text(text) => Some(serde_json::from_str::<Value>(&text).unwrap()),
            _ => None,
        });
        replies.filter(|reply| reply["a"] == "joinR").collect::<Vec<_>>()
    };
    let welcome = json!({ "level": 7 });
    let (first, arrival) = ask(&mut hall);
    decide(&mut hall, arrival, Decision::Later);
    assert_eq!(replies(&mut hall, first), [] as [Value; 0], "nothing is decided yet");
    for decision in [Decision::Accept(welcome.clone()), Decision::Refuse(Refusal::new("Too late."))] {
        decide(&mut hall, arrival, decision);
    }
    let [reply] = &replies(&mut hall, first)[..] else { panic!("one reply") };
    assert_eq!(reply["d"]["welcome"], welcome);

    let refusals = [
        (Decision::Refuse(Refusal::new("Not you.")), "refused"),
        (Decision::Accept("x".repeat(limits::ATTACHED_BYTES).into()), "internal"),
    ];
    for (decision, code) in refusals {
        let (connection, arrival) = ask(&mut hall);
        decide(&mut hall, arrival, decision);
        assert_eq!(replies(&mut hall, connection)[0]["e"], code);
    }
    // The one who asked is gone, and another has the place of their connection.
    let (gone, arrival) = ask(&mut hall);
    hall.disconnect(gone, Disconnect::Lost);
    let (other, _) = ask(&mut hall);
    decide(&mut hall, arrival, Decision::Accept(Value::Null));
    assert_eq!(replies(&mut hall, other), [] as [Value; 0]);
    // Nobody decides.
    let before = hall.sim.server.counters().failed_hooks;
    hall.sim.run(limits::DECISION_TIMEOUT);
    assert_eq!(replies(&mut hall, other)[0]["e"], "internal");
    assert_eq!(hall.sim.server.counters().failed_hooks, before + 1);
}

#[cfg(feature = "driver")]
#[expect(clippy::disallowed_types, reason = "the other end of the socket is here")]
#[test]
fn headers_and_address_come_from_the_request_that_opened_the_websocket() {
    use std::net::TcpStream;
    use std::sync::mpsc;

    use tungstenite::client::IntoClientRequest;

    use crate::driver::{PATIENCE, Server, loopback};

    struct Forward(mpsc::Sender<(String, Option<String>)>);

    impl Hooks for Forward {
        fn accept(&mut self, arrival: &Arrival<'_>) -> Decision {
            let cookie = arrival.header("cookie").map(str::to_owned);
            self.0.send((arrival.remote.to_string(), cookie)).unwrap();
            Decision::Accept(Value::Null)
        }
    }

    let (sender, receiver) = mpsc::channel();
    let server = Server::start_prepared(loopback(), |_| Ok(Greeter), |driver| driver.set_hooks(Forward(sender)));
    let tcp = TcpStream::connect(server.address).unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let mut request = format!("ws://{}/r/hall", server.address).into_client_request().unwrap();
    request.headers_mut().insert("Cookie", "session=7".parse().unwrap());
    let (mut websocket, _) = tungstenite::client(request, tcp).unwrap();
    websocket.send(tungstenite::Message::text(r#"{"a":"join"}"#)).unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok((address, Some("session=7".to_owned()))));
    server.stop();
}
