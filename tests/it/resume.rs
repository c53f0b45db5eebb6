//! Resuming: a player whose connection broke gets the same session back, and nobody else does.

use std::time::Duration;

use rtcade::auth::{Keys, SigningKey, new_key_set};
use rtcade::game::{Batch, Context, Game, Incoming, Join, Lane, Leave, PlayerId, Refusal, Resumed, Target, Tick};
use rtcade::limits;
use rtcade::rand::RngExt;
use rtcade::server::{Config, Connect, ConnectionId, Disconnect, Server, Signal};
use rtcade::sim::{SERVER, Simulation};
use rtcade::wire::Inflater;
use rtcade::wire::frame::{Direction, Frame, Header, Kind, Transport};
use rtcade::wire::msgpack;
use rtcade::wire::signaling::RoomName;
use serde_json::{Value, json};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const LONG: u32 = 555;

/// Notes who comes, goes and comes back, and tells everybody what anybody commands.
#[derive(Default)]
struct Diary {
    lines: Vec<String>,
    commands: Vec<u32>,
}

impl Game for Diary {
    type Input = u32;
    type Command = u32;
    type State = u32;
    /// The command, and noise to make it longer where it is [`LONG`].
    type Event = (u32, String);
    type Welcome = Value;
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Diary>, player: PlayerId, join: &Join<()>) -> Result<Value, Refusal> {
        self.lines.push(format!("{player} joins"));
        Ok(json!({ "hello": join.name }))
    }

    fn drop(&mut self, ctx: &mut Context<Diary>, player: PlayerId) {
        assert!(!ctx.player(player).unwrap().connected);
        self.lines.push(format!("{player} drops"));
    }

    fn resume(&mut self, ctx: &mut Context<Diary>, player: PlayerId, resumed: Resumed) {
        assert!(ctx.player(player).unwrap().connected);
        self.lines.push(format!("{player} resumes{}", if resumed.reloaded { ", reloaded" } else { "" }));
    }

    fn leave(&mut self, _: &mut Context<Diary>, player: PlayerId, reason: Leave) {
        self.lines.push(format!("{player} leaves: {reason}"));
    }

    fn tick(&mut self, ctx: &mut Context<Diary>, tick: Tick, batch: Batch<'_, Diary>) {
        for message in batch {
            let Incoming::Command { player, command, .. } = message else { continue };
            self.commands.push(command);
            match command {
                666 => ctx.kick(player, "as you wish"),
                number => {
                    let padding =
                        (0..if number == LONG { 10_000 } else { 0 }).map(|_| ctx.rng().random_range(' '..='~'));
                    let padding = padding.collect();
                    ctx.event(Target::All, &(number, padding), Lane::Reliable).unwrap();
                }
            }
        }
        ctx.state(&tick.number).unwrap();
    }
}

/// A page's websockets, one after the other, without the page.
struct Page {
    sim: Simulation<Diary>,
    next: u64,
}

/// What a websocket has brought.
#[derive(Debug, Default)]
struct Heard {
    texts: Vec<Value>,
    events: Vec<(u32, u32)>,
    states: Vec<u32>,
    acknowledged: u32,
    pings: u32,
    closed: Option<u16>,
}

impl Page {
    fn new() -> Page {
        Page::with_keys(None)
    }

    fn with_keys(keys: Option<Keys>) -> Page {
        let configure = |config: &mut Config| config.keys = keys.map(Into::into);
        Page { sim: Simulation::with_config(1, configure, |_| Ok(Diary::default())), next: 1_000 }
    }

    fn server(&mut self) -> &mut Server<Diary> {
        &mut self.sim.server
    }

    fn connect(&mut self, room: &str) -> ConnectionId {
        let connection = ConnectionId(self.next);
        self.next += 1;
        let connect = Connect::new(RoomName::parse(room), ([10, 9, 0, 1], 40_000).into(), SERVER.ip());
        let now = self.sim.now();
        self.server().handle_connect(now, connection, connect);
        connection
    }

    fn text(&mut self, connection: ConnectionId, text: &Value) -> Heard {
        let now = self.sim.now();
        self.server().handle_text(now, connection, &text.to_string());
        self.run(connection, 50 * MS)
    }

    fn reliable(&mut self, connection: ConnectionId, kind: Kind, seq: u32, body: &[u8]) {
        let mut bytes = Vec::new();
        Frame { kind, deflated: false, header: Header::Reliable { seq, tick: 0 }, body }.encode(&mut bytes);
        let now = self.sim.now();
        self.server().handle_binary(now, connection, &bytes);
    }

    fn command(&mut self, connection: ConnectionId, seq: u32, command: u32) {
        self.reliable(connection, Kind::Command, seq, &msgpack::encode(&command, 5).unwrap());
    }

    fn acknowledge(&mut self, connection: ConnectionId, newest: u32) {
        self.reliable(connection, Kind::Ack, 0, &msgpack::encode_ack(newest));
    }

    fn disconnect(&mut self, connection: ConnectionId, how: Disconnect) {
        let now = self.sim.now();
        self.server().handle_disconnect(now, connection, how);
    }

    /// Lets time pass. What the websocket brings meanwhile; it answers pings.
    fn run(&mut self, connection: ConnectionId, time: Duration) -> Heard {
        let mut heard = Heard::default();
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.sim.run(MS.max((end - self.sim.elapsed()).min(10 * MS)));
            while let Some(signal) = self.server().poll_signal(connection) {
                match signal {
                    Signal::Text(text) => heard.texts.push(serde_json::from_str(&text).unwrap()),
                    Signal::Close { code, .. } => {
                        heard.closed = Some(code);
                        self.disconnect(connection, Disconnect::Goodbye);
                    }
                    Signal::Ping(payload) => {
                        heard.pings += 1;
                        let now = self.sim.now();
                        self.server().handle_pong(now, connection, &payload.to_be_bytes());
                    }
                    Signal::Binary(bytes) => heard.frame(&bytes),
                    unknown => panic!("{unknown:?}"),
                }
            }
        }
        heard
    }

    fn join(&mut self, room: &str) -> (ConnectionId, Value) {
        self.join_with(room, &Value::Null)
    }

    fn join_with(&mut self, room: &str, bearer: &Value) -> (ConnectionId, Value) {
        let connection = self.connect(room);
        let heard = self.text(connection, &json!({ "a": "join", "d": { "name": "Ada", "bearer": bearer } }));
        (connection, heard.reply("joinR"))
    }

    /// A new websocket that asks for the session of an earlier reply.
    fn reconnect(&mut self, room: &str, reply: &Value, last: Option<u32>) -> (ConnectionId, Heard) {
        self.reconnect_with(room, reply, last, &Value::Null)
    }

    fn reconnect_with(
        &mut self,
        room: &str,
        reply: &Value,
        last: Option<u32>,
        bearer: &Value,
    ) -> (ConnectionId, Heard) {
        let connection = self.connect(room);
        let request =
            json!({ "socketId": reply["socketId"], "resume": reply["resume"], "last": last, "bearer": bearer });
        let heard = self.text(connection, &json!({ "a": "reconnect", "d": request }));
        (connection, heard)
    }

    fn diary(&self, room: &str) -> Vec<&str> {
        self.sim.game(room).unwrap().lines.iter().map(String::as_str).collect()
    }
}

impl Heard {
    fn frame(&mut self, bytes: &[u8]) {
        let mut frame = Frame::parse(bytes, Direction::Down, Transport::WebSocket).unwrap();
        let mut inflated = Vec::new();
        if frame.deflated {
            Inflater::new().inflate(frame.body, frame.inflated_limit(Direction::Down), &mut inflated).unwrap();
            frame.body = &inflated;
        }
        match (frame.kind, frame.header) {
            (Kind::Ack, _) => self.acknowledged = msgpack::decode_ack(frame.body).unwrap(),
            (Kind::ReliableEvent, Header::Reliable { seq, .. }) => {
                let (_, value) = msgpack::decode_at_tick(frame.body).unwrap();
                let (number, _): (u32, String) = msgpack::decode(value).unwrap();
                self.events.push((seq, number));
            }
            (Kind::State, _) => {
                let (_, value) = msgpack::decode_at_tick(frame.body).unwrap();
                self.states.push(msgpack::decode(value).unwrap());
            }
            _ => {}
        }
    }

    fn reply(&self, action: &str) -> Value {
        let reply = self.texts.iter().find(|text| text["a"] == action).unwrap_or_else(|| panic!("{self:?}"));
        assert_eq!(reply["s"], true, "{reply}");
        reply["d"].clone()
    }

    fn refusal(&self, action: &str) -> &str {
        let reply = self.texts.iter().find(|text| text["a"] == action).unwrap_or_else(|| panic!("{self:?}"));
        assert!(reply["s"] == false && !reply["m"].as_str().unwrap().is_empty(), "{reply}");
        reply["e"].as_str().unwrap()
    }
}

#[test]
fn who_comes_back_in_time_is_who_they_were_and_misses_no_reliable_message() {
    let mut page = Page::new();
    let (first, joined) = page.join("home");
    let (other, _) = page.join("home");
    page.command(first, 1, 10);
    page.run(first, 100 * MS);
    page.acknowledge(first, 1);
    page.disconnect(first, Disconnect::Lost);
    for (seq, number) in [(1, 11), (2, 12), (3, 13)] {
        page.command(other, seq, number);
        page.run(other, SECOND);
    }
    let (second, heard) = page.reconnect("home", &joined, Some(1));
    let resumed = heard.reply("reconnectR");
    for same in ["socketId", "player", "welcome"] {
        assert_eq!(resumed[same], joined[same]);
    }
    assert_eq!(resumed["last"], 1, "the command that the server has had");
    assert_eq!(resumed["reliableSeq"], 2);
    assert_ne!(resumed["resume"], joined["resume"]);
    assert_eq!(resumed["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(heard.events, [(2, 11), (3, 12), (4, 13)]);
    assert!(!heard.states.is_empty(), "the game goes on");
    // What the page has not seen acknowledged it sends again, and the game has it once.
    page.command(second, 1, 10);
    page.command(second, 2, 20);
    let heard = page.run(second, 2 * SECOND);
    assert_eq!((heard.events.as_slice(), heard.acknowledged), (&[(5, 20)][..], 2));
    assert_eq!(page.sim.game("home").unwrap().commands, [10, 11, 12, 13, 20]);
    assert_eq!(page.diary("home"), ["1 joins", "2 joins", "1 drops", "1 resumes"]);
    assert_eq!(page.sim.server.gauges().players, 2);
}

#[test]
fn who_does_not_come_back_leaves_when_their_time_is_over() {
    fn check(how: Disconnect, set: Duration, grace: Duration, expected: &[&str]) {
        let mut page = Page::new();
        page.sim.server.set_grace(set);
        let (first, joined) = page.join("away");
        let (other, _) = page.join("away");
        page.disconnect(first, how);
        page.run(other, grace.saturating_sub(100 * MS));
        assert_eq!(page.sim.server.gauges().players, if grace.is_zero() { 1 } else { 2 }, "{how:?}");
        page.run(other, 200 * MS);
        assert_eq!(page.sim.server.gauges().players, 1, "{how:?}");
        assert_eq!(page.diary("away")[2..], *expected, "{how:?}");
        let (_, heard) = page.reconnect("away", &joined, None);
        assert_eq!(heard.refusal("reconnectR"), "no_such_session");
    }
    for set in [limits::RESUME_GRACE, 2 * SECOND, 60 * SECOND] {
        check(Disconnect::Lost, set, set, &["1 drops", "1 leaves: closed"]);
        check(Disconnect::Away, set, limits::RELOAD_GRACE, &["1 drops", "1 leaves: left"]);
        check(Disconnect::Goodbye, set, Duration::ZERO, &["1 leaves: left"]);
        check(Disconnect::Broken, set, Duration::ZERO, &["1 leaves: closed"]);
    }
}

#[test]
fn a_page_that_loads_anew_goes_on_from_now() {
    let mut page = Page::new();
    let (first, joined) = page.join("reload");
    page.command(first, 1, 10);
    page.run(first, 100 * MS);
    let input = |number: u32| {
        let value = msgpack::encode(&number, 5).unwrap();
        let body = msgpack::encode_inputs(number, std::iter::once((0, value.as_slice())));
        let mut bytes = Vec::new();
        let header = Header::Unreliable { part: None, seq: 0, ack: 0 };
        Frame { kind: Kind::Input, deflated: false, header, body: &body }.encode(&mut bytes);
        bytes
    };
    let now = page.sim.now();
    page.server().handle_binary(now, first, &input(7));
    page.disconnect(first, Disconnect::Away);
    page.run(first, SECOND);
    let (second, heard) = page.reconnect("reload", &joined, None);
    let resumed = heard.reply("reconnectR");
    assert_eq!((&resumed["inputSeq"], &resumed["last"]), (&json!(8), &json!(1)));
    assert_eq!(heard.events, [], "what the page before has had is not this one's");
    assert_eq!(resumed["reliableSeq"], 2, "from where on the page can say what it has missed");
    page.command(second, 2, 20);
    assert_eq!(page.run(second, 100 * MS).events, [(2, 20)]);
    assert_eq!(page.diary("reload"), ["1 joins", "1 drops", "1 resumes, reloaded"]);
}

#[test]
fn the_newer_of_two_windows_wins_and_the_older_is_told() {
    let mut page = Page::new();
    let (first, joined) = page.join("double");
    let (second, heard) = page.reconnect("double", &joined, None);
    let resumed = heard.reply("reconnectR");
    assert_eq!(page.run(first, 50 * MS).closed, Some(Leave::Replaced.close_code()));
    page.command(second, 1, 20);
    assert_eq!(page.run(second, 100 * MS).events, [(1, 20)]);
    assert_eq!(page.diary("double"), ["1 joins", "1 resumes, reloaded"], "the second window knows nothing yet");
    assert_eq!(page.sim.server.gauges().players, 1);
    let (_, heard) = page.reconnect("double", &resumed, None);
    heard.reply("reconnectR");
}

#[test]
fn a_token_is_good_until_the_one_after_it_was_used() {
    let mut page = Page::new();
    let (first, joined) = page.join("tokens");
    page.disconnect(first, Disconnect::Lost);
    let (second, heard) = page.reconnect("tokens", &joined, None);
    let resumed = heard.reply("reconnectR");
    // The reply is lost, and the page has the old token alone.
    page.disconnect(second, Disconnect::Lost);
    let (third, heard) = page.reconnect("tokens", &joined, None);
    let third_reply = heard.reply("reconnectR");
    let (thief, heard) = page.reconnect("tokens", &resumed, None);
    assert_eq!(heard.refusal("reconnectR"), "unauthorized", "it was never used, and is not the newest");
    assert_eq!(heard.closed, None, "they may join");
    page.disconnect(thief, Disconnect::Goodbye);
    page.command(third, 1, 1);
    let (_, heard) = page.reconnect("tokens", &joined, None);
    assert_eq!(heard.refusal("reconnectR"), "unauthorized", "the newer one was used");
    assert_eq!(page.run(third, 50 * MS).closed, None, "who plays is not disturbed");
    let (_, heard) = page.reconnect("tokens", &third_reply, None);
    heard.reply("reconnectR");
}

#[test]
fn nobody_resumes_what_is_not_theirs() {
    fn check(expected: &str, spoil: impl FnOnce(&mut Page, &mut Value) -> &'static str) {
        let mut page = Page::new();
        let (first, mut joined) = page.join("mine");
        page.disconnect(first, Disconnect::Lost);
        let room = spoil(&mut page, &mut joined);
        let (_, heard) = page.reconnect(room, &joined, None);
        assert_eq!(heard.refusal("reconnectR"), expected);
        page.run(first, SECOND);
        assert_eq!(page.diary("mine"), ["1 joins", "1 drops"]);
    }
    check("unauthorized", |_, joined| {
        joined["resume"] = json!("0".repeat(32));
        "mine"
    });
    check("unauthorized", |_, joined| {
        joined["resume"] = json!("");
        "mine"
    });
    check("unauthorized", |page, joined| {
        joined["resume"] = page.join("other").1["resume"].clone();
        "mine"
    });
    check("no_such_session", |_, joined| {
        joined["socketId"] = json!("f".repeat(32));
        "mine"
    });
    check("bad_room", |_, _| "other");
}

#[test]
fn a_session_is_given_only_to_the_player_of_a_bearer_token_that_is_shown() {
    let signing = |secret: u8, audience: &str| {
        let set = new_key_set("a", &[secret; 32]);
        (SigningKey::parse(&set, audience, None).unwrap(), Keys::parse(&set, audience).unwrap())
    };
    let (key, keys) = signing(1, "game");
    let sign = |key: &SigningKey, subject, room, expires| json!(key.sign(subject, room, expires).unwrap());
    let good = sign(&key, "ada", "mine", 60 * SECOND);
    for (bearer, expected) in [
        (Value::Null, None),
        (good.clone(), None),
        (sign(&key, "ada", "another", SECOND), None),
        (sign(&key, "eve", "mine", 60 * SECOND), Some("no_such_session")),
        (sign(&signing(2, "game").0, "ada", "mine", 60 * SECOND), Some("unauthorized")),
        (sign(&signing(1, "other").0, "ada", "mine", 60 * SECOND), Some("unauthorized")),
        (json!("nonsense"), Some("unauthorized")),
        (json!({ "sub": "ada" }), Some("unauthorized")),
    ] {
        let mut page = Page::with_keys(Some(keys.clone()));
        let (first, joined) = page.join_with("mine", &good);
        page.disconnect(first, Disconnect::Away);
        // By then a token of one second has expired.
        page.run(first, limits::RELOAD_GRACE / 2);
        let now = page.sim.now();
        page.server().handle_unix_time(now, 50 * SECOND);
        let (second, heard) = page.reconnect_with("mine", &joined, None, &bearer);
        let Some(expected) = expected else {
            assert_eq!(heard.reply("reconnectR")["socketId"], joined["socketId"], "{bearer}");
            continue;
        };
        assert_eq!((heard.refusal("reconnectR"), heard.closed), (expected, None), "{bearer}");
        assert_eq!(page.diary("mine"), ["1 joins", "1 drops"], "whose it is may still come back");
        let eve = sign(&key, "eve", "mine", 60 * SECOND);
        let heard = page.text(second, &json!({ "a": "join", "d": { "bearer": eve } }));
        assert_ne!(heard.reply("joinR")["socketId"], joined["socketId"], "they may join anew at once");
        page.reconnect_with("mine", &joined, None, &good).1.reply("reconnectR");
    }
    let mut page = Page::new();
    let (first, joined) = page.join("open");
    page.disconnect(first, Disconnect::Away);
    page.reconnect_with("open", &joined, None, &json!("nonsense")).1.reply("reconnectR");
}

#[test]
fn bearer_tokens_that_are_shown_for_a_session_are_checked_at_the_pace_of_joins() {
    let set = new_key_set("a", &[1; 32]);
    let (key, keys) = (SigningKey::parse(&set, "game", None).unwrap(), Keys::parse(&set, "game").unwrap());
    let sign = |subject| json!(key.sign(subject, "mine", 60 * SECOND).unwrap());
    for wrong in [json!("nonsense"), sign("eve")] {
        let mut page = Page::with_keys(Some(keys.clone()));
        let (_, joined) = page.join_with("mine", &sign("ada"));
        let is_slowed_down = (0..4 * limits::JOINS_PER_ADDRESS_AT_ONCE).any(|_| {
            let (connection, heard) = page.reconnect_with("mine", &joined, None, &wrong);
            page.disconnect(connection, Disconnect::Goodbye);
            heard.refusal("reconnectR") == "rate_limited"
        });
        assert!(is_slowed_down, "{wrong}");
    }
}

#[test]
fn who_has_missed_more_than_is_kept_begins_anew() {
    let mut page = Page::new();
    let (first, joined) = page.join("long");
    let (other, _) = page.join("long");
    page.disconnect(first, Disconnect::Lost);
    let mut missed = 0;
    while missed <= limits::UNACKNOWLEDGED_BYTES {
        let seq = u32::try_from(missed / 8_000).unwrap() + 1;
        page.command(other, seq, LONG);
        // What is left of it deflated.
        missed += 8_000;
        let heard = page.run(other, 100 * MS);
        assert_eq!(heard.events, [(seq, LONG)]);
    }
    let (_, heard) = page.reconnect("long", &joined, Some(0));
    assert_eq!(heard.refusal("reconnectR"), "no_such_session");
    page.run(other, 100 * MS);
    assert_eq!(page.diary("long")[2..], ["1 drops", "1 leaves: timeout"]);
}

#[test]
fn a_kick_leaves_nothing_to_come_back_to() {
    let mut page = Page::new();
    let (first, joined) = page.join("kick");
    page.command(first, 1, 666);
    assert_eq!(page.run(first, 100 * MS).closed, Some(Leave::Kicked.close_code()));
    let (_, heard) = page.reconnect("kick", &joined, None);
    assert_eq!(heard.refusal("reconnectR"), "no_such_session");
}

#[test]
fn a_websocket_that_answers_no_ping_is_lost_within_seconds() {
    let mut page = Page::new();
    let (first, joined) = page.join("silent");
    assert!(page.run(first, 10 * SECOND).pings >= 5, "who answers stays");
    let interval = limits::HEARTBEAT_INTERVAL * (u32::from(limits::HEARTBEATS_UNANSWERED) + 1);
    assert!(interval < 7 * SECOND);
    page.sim.run(interval + 100 * MS);
    assert_eq!(page.diary("silent"), ["1 joins", "1 drops"]);
    let (_, heard) = page.reconnect("silent", &joined, None);
    heard.reply("reconnectR");
    assert_eq!(page.diary("silent"), ["1 joins", "1 drops", "1 resumes, reloaded"]);
    assert_eq!(page.run(first, MS).closed, Some(Leave::Timeout.close_code()));
}

#[test]
fn only_an_answer_to_a_ping_shows_that_a_websocket_is_read() {
    fn is_kept(pong: impl Fn(&[u64]) -> Vec<u8>) -> bool {
        let mut page = Page::new();
        let (connection, _) = page.join("pong");
        let mut pings = Vec::new();
        for _ in 0..12 {
            page.sim.run(limits::HEARTBEAT_INTERVAL / 2);
            while let Some(signal) = page.server().poll_signal(connection) {
                if let Signal::Ping(payload) = signal {
                    pings.push(payload);
                }
            }
            let now = page.sim.now();
            page.server().handle_pong(now, connection, &pong(&pings));
        }
        page.diary("pong") == ["1 joins"]
    }
    let newest = |pings: &[u64]| pings.last().map_or(Vec::new(), |payload| payload.to_be_bytes().to_vec());
    assert!(is_kept(newest));
    assert!(is_kept(|pings| newest(&pings[..pings.len().saturating_sub(2)])), "late answers are answers");
    assert!(!is_kept(|_| Vec::new()), "unsolicited");
    assert!(!is_kept(|pings| newest(&pings[..pings.len().min(1)])), "one answer counts once");
    assert!(!is_kept(|pings| (pings.len() as u64).to_be_bytes().to_vec()), "a guess");
    assert!(!is_kept(|pings| newest(pings).into_iter().take(7).collect()), "a part of an answer");
    assert!(!is_kept(|pings| [newest(pings), vec![0]].concat()), "more than the answer");
}

#[test]
fn a_server_that_stops_forgets_those_who_are_away() {
    let mut page = Page::new();
    let (first, _) = page.join("stops");
    page.disconnect(first, Disconnect::Lost);
    let now = page.sim.now();
    page.server().handle_shutdown(now);
    assert_eq!(page.sim.server.gauges().players, 0);
}
