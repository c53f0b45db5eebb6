//! Admission: tokens and origins at a real server, the rate of joins under virtual time, the program's log.

#![expect(clippy::disallowed_methods, reason = "tokens for a real server are good by the real clock")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use rtcade::auth::Keys;
use rtcade::driver::{Options, Origin};
use rtcade::games::Relay;
use rtcade::limits;
use rtcade::server::{Connect, ConnectionId, Disconnect, Signal};
use rtcade::sim::{SERVER, Simulation};
use rtcade::wire::signaling::RoomName;
use serde_json::{Value, json};

use super::driver::{Server, loopback, upgrade, websocket};

const AUDIENCE: &str = "game.example";
const HOUR: u64 = 3_600;
const MS: Duration = Duration::from_millis(1);

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn secret(id: &str, byte: u8) -> Value {
    json!({ "kty": "oct", "kid": id, "k": base64([byte; 32]) })
}

pub(super) fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

pub(super) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token, whatever stands in it.
pub(super) fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", base64(signature))
}

pub(super) fn hs256(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |bytes| hmac::sign(&key, bytes).as_ref().to_vec()
}

pub(super) fn claims(now: u64) -> Value {
    json!({ "exp": now + HOUR, "aud": AUDIENCE, "sub": "ada", "room": "lobby" })
}

/// What `join` with this bearer gets: the code of the refusal, or the `userId` that the player is shown as.
fn join(server: &Server, bearer: &Value) -> String {
    let mut page = websocket(server, "/r/lobby");
    page.send_frame(0x81, json!({ "a": "join", "d": { "name": "Ada", "bearer": bearer } }).to_string().as_bytes());
    let reply: Value = serde_json::from_str(&page.text_with("joinR")).unwrap();
    if reply["s"] == true {
        let sessions = reply["d"]["sessions"].as_array().unwrap();
        let own = sessions.iter().find(|session| session["player"] == reply["d"]["player"]).unwrap();
        return format!("as {}", own["userId"]);
    }
    assert_eq!(page.close_code(), 4100, "a refused page has nothing to wait for");
    reply["e"].as_str().unwrap().to_owned()
}

#[test]
fn only_a_token_that_is_right_in_everything_lets_somebody_in() {
    let keys = Keys::parse(&set(&[secret("a", 1), secret("b", 2)]), AUDIENCE).unwrap();
    let server = Server::start(Options { keys: Some(keys), ..loopback() });
    let now = unix_time();
    let good = json!({ "alg": "HS256", "kid": "a" });
    let with = |claim: &str, value: Value| {
        let mut claims = claims(now);
        claims[claim] = value;
        token(&good, &claims, hs256(&[1; 32]))
    };
    let headed = |header: &Value| token(header, &claims(now), hs256(&[1; 32]));
    let hs512 = |bytes: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, &[1; 32]), bytes).as_ref().to_vec();
    let valid = headed(&good);
    let (payload, signature) = valid.rsplit_once('.').unwrap();
    let tampered = valid.replace(&base64(claims(now).to_string()), &base64(claims(now + 1).to_string()));
    let mut refused = 0;
    for (what, bearer, expected) in [
        ("valid", valid.clone(), "as \"ada\""),
        (
            "valid, of the other key",
            token(&json!({ "alg": "HS256", "kid": "b" }), &claims(now), hs256(&[2; 32])),
            "as \"ada\"",
        ),
        ("good for every room", with("room", json!("*")), "as \"ada\""),
        (
            "the longest subject",
            with("sub", json!("x".repeat(limits::SUBJECT_BYTES))),
            &format!("as \"{}\"", "x".repeat(128)),
        ),
        ("expired", with("exp", json!(now - HOUR)), "expired"),
        ("not valid yet", with("nbf", json!(now + HOUR)), "unauthorized"),
        ("of a foreign audience", with("aud", json!("other.example")), "unauthorized"),
        ("for a foreign room", with("room", json!("lobby2")), "unauthorized"),
        ("too long a subject", with("sub", json!("x".repeat(limits::SUBJECT_BYTES + 1))), "unauthorized"),
        ("a subject of two lines", with("sub", json!("ada\nbob")), "unauthorized"),
        ("none", format!("{}.{}.", base64(r#"{"alg":"none"}"#), base64(claims(now).to_string())), "unauthorized"),
        (
            "none, with a kid",
            format!("{}.{}.{signature}", base64(r#"{"alg":"none","kid":"a"}"#), base64(claims(now).to_string())),
            "unauthorized",
        ),
        ("none in capitals", headed(&json!({ "alg": "NONE", "kid": "a" })), "unauthorized"),
        ("RS256 in the header", headed(&json!({ "alg": "RS256", "kid": "a" })), "unauthorized"),
        ("EdDSA in the header", headed(&json!({ "alg": "EdDSA", "kid": "a" })), "unauthorized"),
        ("HS512 in the header", headed(&json!({ "alg": "HS512", "kid": "a" })), "unauthorized"),
        ("HS512 in deed", token(&json!({ "alg": "HS512", "kid": "a" }), &claims(now), hs512), "unauthorized"),
        ("of the wrong key", headed(&json!({ "alg": "HS256", "kid": "b" })), "unauthorized"),
        ("of an unknown key", headed(&json!({ "alg": "HS256", "kid": "c" })), "unauthorized"),
        ("of no key, where there are two", headed(&json!({ "alg": "HS256" })), "unauthorized"),
        ("with a key of its own", headed(&json!({ "alg": "HS256", "jwk": secret("a", 1) })), "unauthorized"),
        ("tampered with", tampered, "unauthorized"),
        ("unsigned", format!("{payload}."), "unauthorized"),
        ("two parts", payload.to_owned(), "unauthorized"),
        ("nothing", String::new(), "unauthorized"),
        ("long", "x".repeat(15_000), "unauthorized"),
    ] {
        assert_eq!(join(&server, &json!(bearer)), expected, "{what}");
        refused += u32::from(!expected.starts_with("as"));
    }
    for bearer in [Value::Null, json!(7), json!({ "token": valid }), json!([valid])] {
        assert_eq!(join(&server, &bearer), "unauthorized", "{bearer}");
        refused += 1;
    }
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains(&format!("rtcade_joins_refused_total{{kind=\"token\"}} {refused}\n")), "{metrics}");
}

#[test]
fn a_public_key_is_no_secret() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let public = pair.public_key().as_ref();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "e", "x": base64(public) });
    let keys = Keys::parse(&set(&[jwk]), AUDIENCE).unwrap();
    let server = Server::start(Options { keys: Some(keys), ..loopback() });
    let claims = claims(unix_time());
    let eddsa = |bytes: &[u8]| pair.sign(bytes).as_ref().to_vec();
    for (what, bearer, expected) in [
        ("signed", token(&json!({ "alg": "EdDSA", "kid": "e" }), &claims, eddsa), "as \"ada\""),
        ("of the only key", token(&json!({ "alg": "EdDSA" }), &claims, eddsa), "as \"ada\""),
        (
            "HS256 with the public key",
            token(&json!({ "alg": "HS256", "kid": "e" }), &claims, hs256(public)),
            "unauthorized",
        ),
        (
            "HS256 with its text",
            token(&json!({ "alg": "HS256" }), &claims, hs256(base64(public).as_bytes())),
            "unauthorized",
        ),
        ("EdDSA, in truth HS256", token(&json!({ "alg": "EdDSA" }), &claims, hs256(public)), "unauthorized"),
    ] {
        assert_eq!(join(&server, &json!(bearer)), expected, "{what}");
    }
}

/// Why a page is refused that opens a websocket with these fields, if it is: what its `join` is answered with.
fn refusal(server: &Server, host: &str, fields: &[(&str, &str)]) -> Option<String> {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut page = server.connect();
    page.send(upgrade("/r/lobby").replace("Host: h\r\n", &format!("Host: {host}\r\n{fields}")));
    assert_eq!(page.head().status, 101);
    page.send_frame(0x81, b"no JSON");
    let reply: Value = serde_json::from_str(&page.text_with("\"s\":false")).unwrap();
    if reply["e"] == "bad_request" {
        return None;
    }
    assert_eq!((&reply["a"], &reply["e"]), (&json!("joinR"), &json!("origin")));
    assert_eq!(page.close_code(), 4100);
    Some(reply["m"].as_str().unwrap().to_owned())
}

fn check_origins(options: Options, host: &str, cases: &[(&[&str], bool)]) {
    let origins = options.origins.clone();
    let server = Server::start(options);
    for (origin, expected) in cases {
        let fields: Vec<_> = origin.iter().map(|&origin| ("Origin", origin)).collect();
        let refusal = refusal(&server, host, &fields);
        assert_eq!(refusal.is_none(), *expected, "{origin:?} at {host} with {origins:?}: {refusal:?}");
    }
    let refused = cases.iter().filter(|(_, expected)| !*expected).count();
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains(&format!("rtcade_joins_refused_total{{kind=\"origin\"}} {refused}\n")), "{metrics}");
}

#[test]
fn only_pages_of_an_origin_that_may_open_websockets() {
    check_origins(
        loopback(),
        "game.localhost:8080",
        &[
            (&[], true),
            (&["http://game.localhost:8080"], true),
            (&["https://game.localhost:8080"], true),
            (&["http://game.localhost"], false),
            (&["http://game.localhost:8081"], false),
            (&["http://www.game.localhost:8080"], false),
            (&["http://game.localhost.evil:8080"], false),
            (&["http://game.localhost:8080.evil"], false),
            (&["http://evil/game.localhost:8080"], false),
            (&["http://game.localhost:8080@evil"], false),
            (&["HTTP://game.localhost:8080"], false),
            (&["http://GAME.localhost:8080"], false),
            (&["ftp://game.localhost:8080"], false),
            (&["null"], false),
            (&[""], false),
            (&["http://game.localhost:8080", "http://evil"], false),
            (&["http://game.localhost:8080 http://evil"], false),
        ],
    );
    check_origins(loopback(), "[::1]:8080", &[(&["http://[::1]:8080"], true), (&["http://[::2]:8080"], false)]);
    // Behind a proxy that takes TLS off, and hands on the host it was asked for.
    let public = Options { public_addresses: vec![([203, 0, 113, 7], 0).into()], ..loopback() };
    let cases: [(&[&str], bool); 2] = [(&["https://example.com"], true), (&["https://example.com:444"], false)];
    check_origins(public, "Example.com", &cases);
    let origins = ["https://example.com", "http://localhost:5173"];
    let named =
        Options { origins: origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect(), ..loopback() };
    check_origins(
        named,
        "game.example",
        &[
            (&[], true),
            (&["https://example.com"], true),
            (&["http://localhost:5173"], true),
            (&["https://game.example"], false),
            (&["http://example.com"], false),
            (&["https://example.com:8443"], false),
            (&["https://www.example.com"], false),
            (&["https://example.com.evil"], false),
            (&["https://evil-example.com"], false),
            (&["HTTPS://EXAMPLE.COM"], false),
            (&["https://example.com:443"], false),
            (&["https://example.com/"], false),
            (&["http://localhost"], false),
            (&["null"], false),
        ],
    );
}

/// DNS rebinding: the owner of a name has it point to an address in the network of somebody who looks at its page.
#[test]
fn a_page_whose_name_was_made_to_point_here_is_refused_with_the_remedy() {
    let server = Server::start(loopback());
    for (host, origin) in [
        ("evil.com", "http://evil.com"),
        ("evil.com:8080", "http://evil.com:8080"),
        ("localhost.evil.com", "https://localhost.evil.com"),
        ("my-laptop.local:8080", "http://my-laptop.local:8080"),
    ] {
        let sentence = refusal(&server, host, &[("Origin", origin)]).expect("refused");
        assert_eq!(
            sentence,
            format!(
                "The origin {origin} is not allowed to play on this server, because host names are not trusted in a \
                private network: open the page by the server's IP address, or start the server with --origin {origin}."
            ),
        );
        let origins = vec![Origin::parse(origin).unwrap()];
        let named = Server::start(Options { origins, ..loopback() });
        assert_eq!(refusal(&named, host, &[("Origin", origin)]), None, "the remedy works");
    }
    for host in ["localhost:8080", "127.0.0.1:8080", "192.168.1.5", "[::1]:8080"] {
        assert_eq!(refusal(&server, host, &[("Origin", &format!("http://{host}"))]), None, "{host}");
    }
    let public = Server::start(Options { public_addresses: vec![([203, 0, 113, 7], 0).into()], ..loopback() });
    assert_eq!(refusal(&public, "play.example", &[("Origin", "https://play.example")]), None);
    // Behind a known proxy counts for whom it speaks.
    let proxied = Server::start(Options { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..loopback() });
    for (player, expected) in [("198.51.100.7", true), ("192.168.1.7", false), ("::ffff:127.0.0.1", false)] {
        let fields = [("Origin", "https://play.example"), ("X-Forwarded-For", player)];
        assert_eq!(refusal(&proxied, "play.example", &fields).is_none(), expected, "{player}");
    }
}

#[test]
fn limits_count_the_players_of_a_known_proxy_and_not_the_proxy() {
    let proxied = Options { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..loopback() };
    let check = |options: Options, forwarded: Option<&str>, expected: bool| {
        let server = Server::start(options);
        let mut waiting = Vec::new();
        for _ in 0..=limits::UNJOINED_PER_ADDRESS {
            let mut page = server.connect();
            let field = forwarded.map_or(String::new(), |list| format!("X-Forwarded-For: {list}\r\n"));
            page.send(upgrade("/r/lobby").replace("Host: h\r\n", &format!("Host: h\r\n{field}")));
            assert_eq!(page.head().status, 101);
            waiting.push(page);
        }
        let mut last = waiting.pop().unwrap();
        if expected {
            last.send_frame(0x81, b"no JSON");
            assert!(last.text_with("bad_request").contains("\"s\":false"), "{forwarded:?}");
        } else {
            assert_eq!(last.close_code(), 4100, "{forwarded:?}");
        }
    };
    check(proxied.clone(), None, true);
    check(proxied.clone(), Some("198.51.100.7"), false);
    check(proxied.clone(), Some("::ffff:198.51.100.7"), false);
    check(proxied, Some("6.6.6.6, 198.51.100.7, 127.0.0.9"), false);
    check(loopback(), Some("198.51.100.7"), true);
}

/// Websockets that join without a page behind them.
struct Door {
    sim: Simulation<Relay>,
    next: u64,
}

/// What one attempt came to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Asked,
    /// With its code, and the time in ms after which to come back.
    Refused(String, Option<u64>),
}

impl Door {
    fn new() -> Door {
        Door::with_keys(None)
    }

    fn with_keys(keys: Option<Keys>) -> Door {
        let configure = |config: &mut rtcade::server::Config| {
            config.max_players = limits::PLAYERS_PER_ROOM_MAX;
            config.keys = keys.map(Into::into);
            config.unix_time = Duration::from_secs(1_000_000);
        };
        Door { sim: Simulation::with_config(1, configure, |_| Ok(Relay)), next: 0 }
    }

    fn connect(&mut self, ip: impl Into<std::net::IpAddr>) -> ConnectionId {
        let connection = ConnectionId(1_000_000 + self.next);
        self.next += 1;
        let remote = SocketAddr::new(ip.into(), 40_000);
        let connect = Connect::new(RoomName::parse("lobby"), remote, SERVER.ip());
        self.sim.server.handle_connect(self.sim.now(), connection, connect);
        connection
    }

    fn say(&mut self, connection: ConnectionId, request: &Value) -> Outcome {
        let now = self.sim.now();
        self.sim.server.handle_text(now, connection, &request.to_string());
        match self.sim.server.poll_signal(connection) {
            None => Outcome::Asked,
            Some(Signal::Text(reply)) => {
                let reply: Value = serde_json::from_str(&reply).unwrap();
                assert_eq!(reply["s"], false, "{reply}");
                Outcome::Refused(reply["e"].as_str().unwrap().to_owned(), reply["retryAfter"].as_u64())
            }
            other => panic!("{other:?}"),
        }
    }

    /// A connection that asks to join and is gone.
    fn knock(&mut self, ip: impl Into<std::net::IpAddr>) -> Outcome {
        let connection = self.connect(ip);
        let outcome = self.say(connection, &json!({ "a": "join" }));
        if outcome != Outcome::Asked {
            let closed = self.sim.server.poll_signal(connection);
            assert!(matches!(closed, Some(Signal::Close { code: 4100, .. })), "{closed:?}");
        }
        let now = self.sim.now();
        self.sim.server.handle_disconnect(now, connection, Disconnect::Goodbye);
        outcome
    }
}

fn too_early(retry_after: u64) -> Outcome {
    Outcome::Refused("rate_limited".to_owned(), Some(retry_after))
}

fn ip(number: u32) -> std::net::IpAddr {
    std::net::Ipv4Addr::from(0x0a80_0000 + number).into()
}

#[test]
fn one_address_joins_so_often_and_no_more() {
    for (ours, neighbour, other) in
        [("10.9.0.1", "::ffff:10.9.0.1", "10.9.0.2"), ("2001:db8::1", "2001:db8::2:3:4:5", "2001:db8:0:1::1")]
    {
        let mut door = Door::new();
        let address = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
        for _ in 0..limits::JOINS_PER_ADDRESS_AT_ONCE {
            assert_eq!(door.knock(address(ours)), Outcome::Asked);
        }
        assert_eq!(door.knock(address(neighbour)), too_early(125), "{neighbour} is {ours}");
        assert_eq!(door.knock(address(ours)), too_early(250), "each has a time of their own");
        assert_eq!(door.knock(address(other)), Outcome::Asked, "others are not concerned");
        assert_eq!(door.sim.server.counters().refused_joins.pace, 2);
        door.sim.stand_still(125 * MS);
        assert_eq!(door.knock(address(ours)), Outcome::Asked);
        assert_eq!(door.knock(address(ours)), too_early(250));
    }
    let mut door = Door::new();
    for number in 0..limits::JOINS_AT_ONCE {
        let itself = ["127.0.0.1", "::1", "::ffff:127.0.0.1"][number as usize % 3];
        let outcome = door.knock(itself.parse::<std::net::IpAddr>().unwrap());
        assert_eq!(outcome, Outcome::Asked, "this machine has the limit of all alone");
    }
    assert_eq!(door.knock([127, 0, 0, 1]), too_early(13));
}

#[test]
fn the_server_takes_so_many_at_once_and_no_more() {
    let mut door = Door::new();
    for number in 0..limits::JOINS_AT_ONCE {
        assert_eq!(door.knock(ip(number)), Outcome::Asked);
    }
    let waits: Vec<_> = (0..4).map(|number| door.knock(ip(1_000 + number))).collect();
    assert_eq!(waits, [too_early(13), too_early(25), too_early(38), too_early(50)], "12.5 ms each");
    door.sim.stand_still(10 * MS);
    assert_eq!(door.knock(ip(2_000)), Outcome::Asked, "one is earned every 10 ms");
    assert_eq!(door.knock(ip(2_001)), too_early(53));
    assert_eq!(door.sim.server.counters().refused_joins.pace, 5);
    assert_eq!(door.sim.server.counters().refused_requests, 5);
    let longest = u64::try_from(limits::JOIN_RETRY.as_millis()).unwrap();
    for number in 0..4_000 {
        let Outcome::Refused(_, Some(wait)) = door.knock(ip(10_000 + number)) else { panic!("one was let in") };
        assert!(wait <= longest, "{wait} ms");
    }
}

#[test]
fn tokens_that_are_refused_take_no_place_of_others() {
    let keys = Keys::parse(&set(&[secret("a", 1)]), AUDIENCE).unwrap();
    let mut door = Door::with_keys(Some(keys));
    let bearer = token(&json!({ "alg": "HS256" }), &claims(1_000_000), hs256(&[1; 32]));
    for number in 0..2 * limits::JOINS_AT_ONCE {
        assert_eq!(door.knock(ip(number)), Outcome::Refused("unauthorized".to_owned(), None));
    }
    let request = json!({ "a": "join", "d": { "bearer": bearer } });
    let connection = door.connect([10, 9, 0, 1]);
    assert_eq!(door.say(connection, &request), Outcome::Asked);
    assert_eq!(u64::from(2 * limits::JOINS_AT_ONCE), door.sim.server.counters().refused_joins.token);
    // The same token once it has expired, by the clock that the server was told.
    door.sim.stand_still(Duration::from_secs(HOUR) + rtcade::auth::LEEWAY);
    let connection = door.connect([10, 9, 0, 1]);
    assert_eq!(door.say(connection, &request), Outcome::Refused("expired".to_owned(), None));
    // Whoever guesses tokens is slowed down.
    for _ in 1..limits::JOINS_PER_ADDRESS_AT_ONCE {
        assert_eq!(door.knock([10, 9, 0, 1]), Outcome::Refused("unauthorized".to_owned(), None));
    }
    assert_eq!(door.knock([10, 9, 0, 1]), too_early(125));
}

#[test]
fn sessions_cannot_be_guessed_fast() {
    let mut door = Door::new();
    let guess =
        |socket_id: &str, resume: &str| json!({ "a": "reconnect", "d": { "socketId": socket_id, "resume": resume } });
    let ada = door.connect([10, 9, 0, 9]);
    assert_eq!(door.say(ada, &json!({ "a": "join" })), Outcome::Asked);
    door.sim.run(40 * MS);
    let Some(Signal::Text(reply)) = door.sim.server.poll_signal(ada) else { panic!("no reply") };
    let reply: Value = serde_json::from_str(&reply).unwrap();
    let known = reply["d"]["socketId"].as_str().unwrap();

    let guesser = [10, 9, 0, 1];
    let mut codes = BTreeSet::new();
    let mut waits = Vec::new();
    for number in 0..limits::JOINS_PER_ADDRESS_AT_ONCE + 2 {
        // Several on one connection count as much as on several.
        let connection = door.connect(guesser);
        let socket_id = if number % 2 == 0 { known } else { "0123456789abcdef0123456789abcdef" };
        match door.say(connection, &guess(socket_id, "00000000000000000000000000000000")) {
            Outcome::Refused(code, None) => drop(codes.insert(code)),
            Outcome::Refused(_, Some(wait)) => waits.push(wait),
            Outcome::Asked => panic!("a guess was right"),
        }
        let now = door.sim.now();
        door.sim.server.handle_disconnect(now, connection, Disconnect::Lost);
    }
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["no_such_session", "unauthorized"]);
    assert_eq!(waits, [125, 250]);
    let counted = door.sim.server.counters().refused_joins;
    assert_eq!((counted.session, counted.pace), (limits::JOINS_PER_ADDRESS_AT_ONCE.into(), 2));
    assert_eq!(door.knock(guesser), too_early(375), "nor does joining help");

    let connection = door.connect([10, 9, 0, 2]);
    for _ in 0..10 {
        assert_eq!(door.say(connection, &guess("0", "0")), Outcome::Refused("no_such_session".to_owned(), None));
    }
    assert_eq!(door.say(connection, &json!({ "a": "join" })), Outcome::Asked, "counted with the first guess");
    for _ in 10..limits::JOINS_PER_ADDRESS_AT_ONCE {
        assert_eq!(door.knock([10, 9, 0, 2]), Outcome::Asked);
    }
    assert_eq!(door.knock([10, 9, 0, 2]), too_early(125));

    // Who has the right token is no guesser, wherever they come from.
    let back = door.connect(guesser);
    let now = door.sim.now();
    let right = guess(known, reply["d"]["resume"].as_str().unwrap());
    door.sim.server.handle_text(now, back, &right.to_string());
    let Some(Signal::Text(granted)) = door.sim.server.poll_signal(back) else { panic!("no reply") };
    assert!(granted.contains("\"s\":true"), "{granted}");
}

#[test]
fn who_is_told_to_come_back_later_still_finds_their_session() {
    let mut door = Door::new();
    let ada = door.connect([10, 9, 0, 9]);
    assert_eq!(door.say(ada, &json!({ "a": "join" })), Outcome::Asked);
    door.sim.run(40 * MS);
    let Some(Signal::Text(reply)) = door.sim.server.poll_signal(ada) else { panic!("no reply") };
    let reply: Value = serde_json::from_str(&reply).unwrap();
    let now = door.sim.now();
    door.sim.server.handle_disconnect(now, ada, Disconnect::Lost);
    door.sim.run(limits::RESUME_GRACE - 100 * MS);
    let mut number = 0;
    let told = loop {
        number += 1;
        if let Outcome::Refused(_, Some(wait)) = door.knock(ip(number))
            && wait > 5_000
        {
            break wait;
        }
        assert!(number < 2_000);
    };
    let returns = json!({ "socketId": reply["d"]["socketId"], "resume": reply["d"]["resume"] });
    let returns = json!({ "a": "reconnect", "d": returns });
    let early = door.connect([10, 9, 0, 9]);
    let outcome = door.say(early, &returns);
    let Outcome::Refused(code, Some(wait)) = outcome else { panic!("{outcome:?}") };
    assert!(code == "rate_limited" && wait > told, "{code} after {wait} ms");
    door.sim.run(MS * u32::try_from(wait).unwrap() + 500 * MS);
    let back = door.connect([10, 9, 0, 9]);
    let now = door.sim.now();
    door.sim.server.handle_text(now, back, &returns.to_string());
    let Some(Signal::Text(granted)) = door.sim.server.poll_signal(back) else { panic!("no reply") };
    assert!(granted.contains("\"s\":true"), "{granted}");
}

/// The program as a developer runs it.
#[cfg(unix)]
pub(super) mod program {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::thread::JoinHandle;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;
    use crate::driver::Connection;

    /// A running server, and what it logs.
    pub(crate) struct Program {
        child: Child,
        pub(crate) address: SocketAddr,
        announced: Vec<String>,
        log: Option<JoinHandle<String>>,
    }

    pub(crate) fn rtcade(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcade"));
        command.args(arguments).env_remove("RTCADE_KEYS").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    impl Program {
        /// Starts it and waits for so many lines.
        pub(crate) fn start(mut command: Command, lines: usize) -> Program {
            let mut child = command.spawn().expect("started");
            let mut stderr = child.stderr.take().expect("piped");
            let log = std::thread::spawn(move || {
                let mut log = Vec::new();
                stderr.read_to_end(&mut log).expect("read");
                String::from_utf8(log).expect("text")
            });
            let stdout = BufReader::new(child.stdout.take().expect("piped"));
            let announced: Vec<String> = stdout.lines().take(lines).map(|line| line.expect("text")).collect();
            let url = announced.iter().find_map(|line| line.split("http://").nth(1)).expect("a URL");
            let address = url.trim_end_matches('/').parse().expect("an address");
            Program { child, address, announced, log: Some(log) }
        }

        /// The rest of a line that it has announced.
        pub(crate) fn line(&self, begin: &str) -> &str {
            let line = self.announced.iter().find_map(|line| line.split_once(begin));
            line.unwrap_or_else(|| panic!("{:?}", self.announced)).1
        }

        pub(crate) fn id(&self) -> u32 {
            self.child.id()
        }

        /// Ends it. What it has logged.
        fn stop(mut self) -> String {
            self.child.kill().expect("running");
            self.log.take().expect("stopped once").join().expect("no panic")
        }

        pub(crate) fn signal(&self, signal: Signal) {
            let id = Pid::from_raw(self.child.id().try_into().expect("a process ID"));
            kill(id, signal).expect("running");
        }

        /// Waits for its end. Its exit status, and what it has logged.
        pub(crate) fn end(mut self) -> (ExitStatus, String) {
            let log = self.log.take().expect("ended once").join().expect("no panic");
            (self.child.wait().expect("ended"), log)
        }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn printed(arguments: &[&str]) -> String {
        let output = rtcade(arguments).output().expect("ran");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
    }

    #[test]
    fn a_server_without_keys_says_that_it_is_open() {
        let program = Program::start(rtcade(&["--listen", "127.0.0.1:0"]), 2);
        assert!(program.announced[1].contains("anyone may join"), "{:?}", program.announced);
    }

    #[test]
    fn keys_and_tokens_take_two_commands() {
        let keys = printed(&["token", "--new-keys"]);
        let file = std::env::temp_dir().join(format!("rtcade-it-keys-{}", std::process::id()));
        std::fs::write(&file, &keys).expect("written");
        let path = file.to_str().expect("text");
        let of_file = ["token", "--keys", path, "--audience", AUDIENCE, "--subject", "ada"];
        let bearer = printed(&[&of_file[..], &["--room", "lobby"]].concat());
        let other = printed(&[&of_file[..], &["--room", "lobby2", "--ttl", "720h"]].concat());

        let listen = ["--listen", "127.0.0.1:0", "--audience", AUDIENCE];
        let mut of_environment = rtcade(&listen);
        of_environment.env("RTCADE_KEYS", &keys);
        for command in [rtcade(&[&listen[..], &["--keys", path]].concat()), of_environment] {
            let program = Program::start(command, 1);
            let asked = |bearer: &str| {
                let mut page = Connection::open(program.address);
                page.send(upgrade("/r/lobby"));
                assert_eq!(page.head().status, 101);
                let join = json!({ "a": "join", "d": { "bearer": bearer } });
                page.send_frame(0x81, join.to_string().as_bytes());
                page.text_with("joinR")
            };
            assert!(asked(&bearer).contains("\"userId\":\"ada\""));
            assert!(asked(&other).contains("unauthorized"));
            let log = program.stop();
            let refused: Vec<&str> = log.lines().filter(|line| line.contains("was refused")).collect();
            assert!(refused.len() == 1 && refused[0].contains("(unauthorized)"), "{log}");
        }

        for (arguments, keys, word) in [
            (&["--keys", path][..], None, "--keys FILE (or RTCADE_KEYS) requires --audience NAME"),
            (&[], Some(keys.as_str()), "--keys FILE (or RTCADE_KEYS) requires --audience NAME"),
            (&["--audience", "a"], None, "requires keys: a JWK set in --keys FILE or in RTCADE_KEYS"),
            (&["--audience", "a"], Some(""), "not a JWK set"),
            (&["--audience", "a"], Some("\"a secret\""), "not a JWK set"),
            (&["--audience", "a", "--keys", "/nowhere"], None, "/nowhere can't be read"),
            (&["token", "--subject", "ada", "--room", "lobby"], None, "signing a token requires keys"),
            (&["token", "--subject", "ada", "--room", "a/b", "--keys", path, "--audience", "a"], None, "The room"),
            (&["token", "--subject", "", "--room", "a", "--keys", path, "--audience", "a"], None, "1 to 128 bytes"),
        ] {
            let mut command = rtcade(arguments);
            keys.map(|keys| command.env("RTCADE_KEYS", keys));
            let output = command.output().expect("ran");
            let error = String::from_utf8(output.stderr).expect("text");
            assert_eq!((output.status.code(), error.lines().count()), (Some(2), 1), "{error}");
            assert!(error.starts_with("rtcade: ") && error.contains(word), "{error}");
            assert!(!error.contains("secret") && output.stdout.is_empty(), "{error}");
        }
        std::fs::remove_file(file).expect("removed");
    }

    #[test]
    fn each_player_who_is_refused_or_put_out_is_a_line_of_the_log_without_any_option() {
        let program = Program::start(rtcade(&["--listen", "127.0.0.1:0", "--game", "relay"]), 1);
        let open = |request: &str| {
            let mut page = Connection::open(program.address);
            page.send(request);
            assert_eq!(page.head().status, 101);
            page
        };
        let join = |page: &mut Connection, data: Value| {
            page.send_frame(0x81, json!({ "a": "join", "d": data }).to_string().as_bytes());
            page.text_with("joinR")
        };
        let lobby = upgrade("/r/lobby");
        assert!(join(&mut open(&lobby), json!({ "name": "Ada", "version": 99 })).contains("version_mismatch"));
        let mut page = open(&lobby);
        page.send_frame(0x81, b"no JSON");
        page.text_with("bad_request");
        assert!(join(&mut open(&upgrade("/api")), json!({ "roomId": "a/b", "name": "Eve" })).contains("bad_room"));
        open(&upgrade("/rooms")).text_with("bad_room");
        open(&lobby.replace("Host: h", "Host: h\r\nOrigin: http://elsewhere")).text_with("\"origin\"");
        let mut page = open(&lobby);
        assert!(join(&mut page, json!({ "name": "Bob" })).contains("\"s\":true"));
        page.send_frame(0x82, &[0xff; 20]);
        assert_eq!(page.close_code(), 4005);
        for _ in 0..30 {
            let mut flood = open(&lobby);
            flood.send_frame(0x81, b"still no JSON");
            flood.text_with("bad_request");
        }
        let log = program.stop();
        let told = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        for words in [
            &[" INFO ", "a player \"Ada\" at 127.0.0.1:", " in room lobby was refused (version_mismatch): "][..],
            &[" INFO ", "a player at 127.0.0.1:", " in room lobby was refused (bad_request): "],
            &[" INFO ", "a player \"Eve\" at 127.0.0.1:", " was refused (bad_room): "],
            &[" INFO ", "a player at 127.0.0.1:", " was refused (bad_room): Websockets are accepted at "],
            &[" WARN ", "was refused (origin): ", "origin http://elsewhere", "Host is \"h\"", "$http_host"],
            &[" INFO ", "player 1 \"Bob\" at 127.0.0.1:", " in room lobby was removed (bad_frame): "],
        ] {
            assert!(told(words), "no line with {words:?}:\n{log}");
        }
        let lines = log.lines().filter(|line| line.contains("(bad_request)")).count();
        assert!((10..20).contains(&lines), "of 31, {lines}:\n{log}");
    }

    #[test]
    fn the_log_has_no_token_and_no_line_of_anybody_else() {
        const FORGED: &str = "[2026-11-21T00:00:00Z ERROR rtcade] forged";
        let keys = set(&[secret("a", 1)]);
        let mut command = rtcade(&["--listen", "127.0.0.1:0", "--audience", AUDIENCE, "-vvv"]);
        command.env("RTCADE_KEYS", &keys);
        let program = Program::start(command, 1);
        let mut secrets = vec![base64([1; 32])];
        let sign = |subject: &str| {
            let mut claims = claims(unix_time());
            claims["sub"] = subject.into();
            token(&json!({ "alg": "HS256" }), &claims, hs256(&[1; 32]))
        };
        let nasty = format!("x\r\n{FORGED}\u{1b}[31m\u{85}\u{202e}");
        let mut heads = 0;
        let mut open = |head: &str| {
            heads += 1;
            let mut page = Connection::open(program.address);
            page.send(head);
            let status = page.head().status;
            (page, status)
        };
        for bearer in [sign("ada"), sign(&nasty), sign(&nasty.replace(['\r', '\n'], ""))] {
            let (mut page, status) = open(&upgrade("/r/lobby"));
            assert_eq!(status, 101);
            // JSON may have line breaks of its own between its parts.
            let join = json!({ "name": nasty, "bearer": bearer, "data": nasty, "sdp": nasty });
            page.send_frame(
                0x81,
                format!("{{\"a\":\"join\",\r\n\"i\":\"{}\",\"d\":{join}}}\n{FORGED}\n", 1).as_bytes(),
            );
            assert!(page.text_with("bad_request").contains("bad_request"), "text behind the JSON");
            page.send_frame(0x81, format!("\n{{\"a\":\"join\",\n\"d\":{join}}}\n\n").as_bytes());
            let reply: Value = serde_json::from_str(&page.text_with("joinR")).unwrap();
            secrets.extend(reply["d"]["resume"].as_str().map(str::to_owned));
            let request = json!({ "a": nasty, "d": { "socketId": nasty, "resume": bearer } });
            page.send_frame(0x81, request.to_string().as_bytes());
            page.send_frame(0x88, &[&[0x0f, 0xa0][..], nasty.as_bytes()].concat());
            secrets.push(bearer.rsplit('.').next().unwrap().to_owned());
            secrets.push(bearer);
        }
        let agent =
            format!("User-Agent: {FORGED}\u{85}\r\nOrigin: http://\u{85}{FORGED}\r\nX-Forwarded-For: {FORGED}\r\n");
        let (mut page, status) = open(&upgrade("/r/lobby").replace("Host: h\r\n", &format!("Host: h\r\n{agent}")));
        assert_eq!(status, 101);
        assert!(page.text_with("joinR").contains("\"e\":\"origin\""));
        for path in ["/%0D%0A%1B[31mforged", "/\u{85}\u{2028}forged", "/r/%0Aforged", "/x?bearer=forged"] {
            let status = open(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).1;
            assert!(status == 404 || status == 400, "{path}: {status}");
        }
        assert!(heads > 0 && secrets.len() == 8, "two were let in: {secrets:?}");
        let log = program.stop();
        assert!(log.contains(" TRACE ") && log.contains("is not allowed to play on"), "it says everything: {log}");
        for secret in secrets {
            assert!(!log.contains(&secret), "{secret} in {log}");
        }
        for line in log.lines() {
            let is_own = line.starts_with("[20") && !line.starts_with(FORGED);
            assert!(is_own && !line.contains(char::is_control) && !line.contains('\u{202e}'), "{line:?}");
        }
    }
}

/// A machine that has slept, or whose clock was set after the server had started, shows another time than the server has
/// counted.
#[test]
fn tokens_are_judged_by_the_clock_of_the_world_as_it_was_told_last() {
    let keys = Keys::parse(&set(&[secret("a", 1)]), AUDIENCE).unwrap();
    let started = Duration::from_secs(1_000_000);
    let mut sim = Simulation::with_config(
        1,
        |config| {
            config.keys = Some(std::rc::Rc::new(keys));
            config.unix_time = started;
        },
        |_| Ok(Relay),
    );
    let bearer = token(&json!({ "alg": "HS256", "kid": "a" }), &claims(started.as_secs()), hs256(&[1; 32]));
    let mut join = |number: u64, sleeps: Duration| {
        let (now, id) = (sim.now(), ConnectionId(number));
        sim.server.handle_unix_time(now, started + sim.elapsed() + sleeps);
        let remote = ([10, 7, 0, 1], 40_000).into();
        let connect = Connect::new(RoomName::parse("lobby"), remote, SERVER.ip());
        sim.server.handle_connect(now, id, connect);
        let request = json!({ "a": "join", "d": { "bearer": bearer } });
        sim.server.handle_text(now, id, &request.to_string());
        sim.run(100 * MS);
        let Some(Signal::Text(reply)) = sim.server.poll_signal(id) else { panic!("no reply") };
        serde_json::from_str::<Value>(&reply).unwrap()["e"].as_str().map(str::to_owned)
    };
    assert_eq!(join(1, Duration::ZERO), None);
    assert_eq!(join(2, Duration::from_secs(2 * HOUR)).as_deref(), Some("expired"));
    assert_eq!(join(3, Duration::ZERO), None);
}
