//! The admin page, its API, and the listener of the metrics.

#![expect(clippy::disallowed_methods, reason = "the other end of the sockets is here")]

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rtcade::driver::{Admin, AdminToken, Options, Record};
use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::journal::Journal;
use serde_json::{Value, json};

use super::admission::program::{Program, rtcade};
use super::driver::{Connection, PATIENCE, Response, Server, get, loopback};
use super::operations::join;

const TOKEN: &str = "a-token-for-tests-only";

/// Sends who is there.
#[derive(Default)]
struct Presence(Vec<u32>);

impl Game for Presence {
    type Input = ();
    type Command = ();
    type State = Value;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Self>, player: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        self.0.push(player.0);
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, player: PlayerId, _: Leave) {
        self.0.retain(|&of| of != player.0);
    }

    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {
        ctx.state(&json!({ "players": self.0, "pi": 3.5 })).unwrap();
    }
}

struct Administered {
    server: Server,
    admin: SocketAddr,
    metrics: SocketAddr,
}

impl Administered {
    fn start(options: Options) -> Administered {
        let admin = Admin { listen: ([127, 0, 0, 1], 0).into(), token: AdminToken::parse(TOKEN).unwrap() };
        let options = Options { admin: Some(admin), metrics: Some(([127, 0, 0, 1], 0).into()), ..options };
        let (sender, receiver) = mpsc::channel();
        let server = Server::start_prepared(
            options,
            |_| Ok(Presence::default()),
            move |driver| sender.send((driver.admin_addr(), driver.metrics_addr())).unwrap(),
        );
        let (admin, metrics) = receiver.recv_timeout(PATIENCE).unwrap();
        Administered { server, admin: admin.unwrap(), metrics: metrics.unwrap() }
    }

    fn get(&self, path: &str) -> Response {
        ask(self.admin, &format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"))
    }

    fn json(&self, path: &str) -> Value {
        let response = self.get(path);
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        serde_json::from_str(&response.body).unwrap()
    }

    fn post(&self, path: &str, body: &str) -> Response {
        let length = body.len();
        ask(
            self.admin,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n\
                {body}"
            ),
        )
    }

    fn metric(&self, name: &str) -> f64 {
        let metrics = ask(self.metrics, &get("/metrics")).body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().unwrap()
    }

    fn join(&self, room: &str, name: &str) -> Connection {
        joined(self.server.address, room, name)
    }

    /// Asks until the answer is as expected.
    fn wait_for(&self, path: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.json(path);
            if is_expected(&value) {
                return value;
            }
            assert!(Instant::now() < deadline, "{value}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn joined(address: SocketAddr, room: &str, name: &str) -> Connection {
    let (page, reply) = join(address, room, &json!({ "name": name }));
    assert_eq!(reply["s"], true, "{reply}");
    page
}

fn ask(address: SocketAddr, request: &str) -> Response {
    let mut connection = Connection::open(address);
    connection.send(request);
    connection.response()
}

#[test]
fn the_api_needs_its_token_and_the_page_does_not() {
    let server = Administered::start(loopback());
    let page = ask(server.admin, &get("/"));
    assert_eq!((page.status, page.field("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.field("Content-Security-Policy").unwrap().contains("frame-ancestors 'none'"));
    assert_eq!(ask(server.admin, &get("/page.js")).status, 200);
    for path in ["/rooms", "/r/lobby", "/metrics", "/rtcade.js", "/api"] {
        assert_eq!(ask(server.admin, &get(path)).status, 404, "{path}");
    }
    assert_eq!(server.server.get("/api/overview").status, 404, "the port of the game has no admin API");
    for path in ["/api/overview", "/api/rooms", "/api/nothing", "/api/recordings/a"] {
        let response = ask(server.admin, &get(path));
        assert_eq!((response.status, response.field("WWW-Authenticate")), (401, Some("Bearer realm=\"admin\"")));
    }
    let guess = |guess: usize| {
        let token = format!("{guess:016}");
        ask(server.admin, &format!("GET /api/rooms HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n"))
    };
    let refused: Vec<u16> = (0..12).map(|number| guess(number).status).collect();
    assert_eq!(refused[..10], [401; 10]);
    assert_eq!(refused[11], 429, "{refused:?}");
    assert_eq!(server.get("/api/overview").status, 200, "the right token is not refused");
    assert!(server.metric("rtcade_admin_refused_total{kind=\"token\"}") >= 14.0);
    assert!(server.metric("rtcade_admin_refused_total{kind=\"pace\"}") >= 1.0);
}

#[test]
fn rooms_and_players_are_shown() {
    let server = Administered::start(loopback());
    let _ada = server.join("lobby", "Ada <b>");
    let _bob = server.join("lobby", "Bob");
    let _eve = server.join("attic", "Eve");
    let overview = server.json("/api/overview");
    assert_eq!((&overview["rooms"], &overview["players"]), (&json!(2), &json!(3)));
    assert_eq!(overview["transports"], json!({ "webrtc": 0, "websocket": 3, "away": 0 }));
    assert_eq!(
        (&overview["tickMs"], &overview["draining"], &overview["recording"]),
        (&json!(33.0), &Value::Null, &Value::Null)
    );
    assert!(overview["game"].as_str().unwrap().ends_with("Presence") && overview["memoryBytes"].as_u64() > Some(0));
    assert!(overview["nowMs"].as_u64() >= overview["startedMs"].as_u64());
    let rooms = server.json("/api/rooms");
    let shown: Vec<_> = rooms.as_array().unwrap().iter().map(|room| (&room["name"], &room["players"])).collect();
    assert_eq!(json!(shown), json!([["attic", 1], ["lobby", 2]]));
    let room = server.wait_for("/api/rooms/lobby", |room| room["state"]["value"]["players"] == json!([1, 2]));
    assert_eq!(room["state"]["value"]["pi"], 3.5);
    assert!(room["state"]["tick"].as_u64() > Some(0) && room["state"]["bytes"].as_u64() > Some(0));
    let people = room["people"].as_array().unwrap();
    assert_eq!(people.len(), 2);
    assert_eq!((&people[0]["player"], &people[0]["name"]), (&json!(1), &json!("Ada <b>")));
    assert_eq!((&people[0]["transport"], &people[0]["lossDown"]), (&json!("websocket"), &json!(0.0)));
    assert!(people[0]["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    let busy = server.wait_for("/api/rooms/lobby", |room| room["sentBytes"].as_u64() > Some(100));
    let sent: u64 = busy["people"].as_array().unwrap().iter().map(|person| person["sentBytes"].as_u64().unwrap()).sum();
    assert_eq!(busy["sentBytes"], sent, "a room's traffic is that of its players");
    assert!(busy["tickUs"].as_u64() >= busy["gameUs"].as_u64());
    assert!(server.metric("rtcade_messages_total{kind=\"sent_websocket\"}") >= 2.0);
    assert!(server.metric("rtcade_tick_duration_seconds_count") >= 2.0);
    assert_eq!(server.metric("rtcade_players_joined_total"), 3.0);
    for (path, status) in
        [("/api/rooms/none", 404), ("/api/rooms/%2e", 404), ("/api/rooms/lobby/more", 404), ("/api/", 404)]
    {
        assert_eq!(server.get(path).status, status, "{path}");
    }
}

#[test]
fn players_are_told_and_removed_and_rooms_closed_and_all_of_it_noted() {
    let server = Administered::start(loopback());
    let (mut ada, mut bob) = (server.join("lobby", "Ada"), server.join("lobby", "Bob"));
    let mut eve = server.join("attic", "Eve");
    let done = |path: &str, body: Value| {
        let response = server.post(path, &body.to_string());
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        serde_json::from_str::<Value>(&response.body).unwrap()
    };
    assert_eq!(done("/api/rooms/lobby/message", json!({ "text": "Hello \"all\"" })), json!({ "recipients": 2 }));
    assert_eq!(
        done("/api/rooms/lobby/message", json!({ "text": "Only Bob", "player": 2 })),
        json!({ "recipients": 1 })
    );
    assert_eq!(done("/api/message", json!({ "text": "Everybody" })), json!({ "recipients": 3 }));
    let told =
        |page: &mut Connection| serde_json::from_str::<Value>(&page.text_with("eventNotice")).unwrap()["d"].clone();
    assert_eq!([told(&mut ada), told(&mut ada)], [json!({ "text": "Hello \"all\"" }), json!({ "text": "Everybody" })]);
    assert_eq!(told(&mut bob)["text"], "Hello \"all\"");
    assert_eq!(told(&mut bob)["text"], "Only Bob");
    assert_eq!(told(&mut eve)["text"], "Everybody");
    done("/api/rooms/lobby/kick", json!({ "player": 1, "message": "Be kind." }));
    assert_eq!(ada.close_code(), 4003);
    let room = server.wait_for("/api/rooms/lobby", |room| room["state"]["value"]["players"] == json!([2]));
    assert_eq!(room["players"], 1);
    assert_eq!(server.metric("rtcade_players_left_total{kind=\"kicked\"}"), 1.0);
    done("/api/rooms/attic/close", json!({}));
    assert_eq!(eve.close_code(), 4007);
    for (path, body, status, word) in [
        ("/api/rooms/attic/close", "{}", 404, "no such room"),
        ("/api/rooms/lobby/kick", r#"{"player":1}"#, 404, "no such player"),
        ("/api/rooms/lobby/kick", r#"{"player":-1}"#, 400, "not the JSON"),
        ("/api/rooms/lobby/kick", r#"{"player":2,"mesage":""}"#, 400, "mesage"),
        ("/api/rooms/lobby/kick", r#"{"player":2,"message":""}"#, 400, "empty"),
        ("/api/rooms/lobby/message", "not JSON", 400, "JSON object"),
        ("/api/message", r#"["to all"]"#, 400, "JSON object"),
        ("/api/rooms/lobby/kick", &json!({ "player": 2, "message": "é".repeat(62) }).to_string(), 400, "123 bytes"),
        ("/api/rooms/lobby/message", r#"{"text":"","player":2}"#, 400, "empty"),
        ("/api/rooms/lobby/message", r#"{"text":"x","player":9}"#, 404, "no such player"),
        ("/api/message", &json!({ "text": "x".repeat(1_001) }).to_string(), 400, "1000"),
        ("/api/drain", r#"{"seconds":99999999}"#, 400, "86400"),
        ("/debug/profile", r#"{"seconds":0}"#, 400, "from 1 to 60"),
        ("/api/recordings", r#"{"on":true}"#, 409, "--record"),
        ("/api/rooms", "{}", 404, "nothing"),
        ("/api/rooms/lobby", "{}", 404, "nothing"),
    ] {
        let response = server.post(path, body);
        assert_eq!(response.status, status, "{path} {body}: {}", response.body);
        assert!(response.body.contains(word), "{path} {body}: {}", response.body);
    }
    let method = |method: &str| {
        let request = format!("{method} /api/rooms HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        ask(server.admin, &request).status
    };
    assert_eq!(method("DELETE"), 405);
    let audit = server.json("/api/audit");
    let audit = audit.as_array().unwrap();
    let actions: Vec<_> = audit.iter().rev().take(5).map(|entry| (&entry["action"], &entry["outcome"])).collect();
    let expected =
        json!([["message", "done"], ["message", "done"], ["message", "done"], ["kick", "done"], ["close", "done"]]);
    assert_eq!(json!(actions), expected);
    let kicked = audit.iter().rev().find(|entry| entry["action"] == "kick").unwrap();
    assert_eq!(
        (&kicked["room"], &kicked["player"], &kicked["detail"]),
        (&json!("lobby"), &json!(1), &json!("Be kind."))
    );
    assert!(kicked["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(audit.iter().filter(|entry| entry["outcome"] == "There is no such player.").count(), 1);
    assert_eq!(told_once_more(&server, &mut bob), "Still here");
}

/// Whether a player has stayed through all that was refused.
fn told_once_more(server: &Administered, page: &mut Connection) -> String {
    server.post("/api/message", r#"{"text":"Still here"}"#);
    let mut text = String::new();
    while text != "Still here" {
        let event: Value = serde_json::from_str(&page.text_with("eventNotice")).unwrap();
        event["d"]["text"].as_str().unwrap().clone_into(&mut text);
    }
    text
}

/// A directory of temporary files, removed when dropped.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn recordings_are_switched_listed_and_fetched() {
    let directory = Directory(env::temp_dir().join(format!("rtcade-it-admin-{}", std::process::id())));
    let record = Record { directory: directory.0.clone(), limit_bytes: u64::MAX };
    let server = Administered::start(Options { record: Some(record), ..loopback() });
    assert_eq!(server.json("/api/overview")["recording"], json!({ "on": true }));
    let ada = server.join("first", "Ada");
    assert_eq!(server.post("/api/recordings", r#"{"on":false}"#).body, "{\"on\":false}");
    let _bob = server.join("second", "Bob");
    assert_eq!(server.json("/api/rooms/second")["recorded"], false);
    assert_eq!(server.json("/api/rooms/first")["recorded"], true, "a recording goes on until its room ends");
    server.post("/api/recordings", r#"{"on":true}"#);
    let _eve = server.join("third", "Eve");
    let listed = server.wait_for("/api/recordings", |listed| listed["files"].as_array().unwrap().len() == 2);
    let names: Vec<_> = listed["files"].as_array().unwrap().iter().map(|file| &file["room"]).collect();
    assert_eq!(json!(names), json!(["third", "first"]), "the newest first");
    drop(ada);
    server.post("/api/rooms/first/close", "{}");
    let listed = server.wait_for("/api/recordings", |listed| {
        listed["files"].as_array().unwrap().iter().any(|file| file["room"] == "first" && file["running"] == false)
    });
    let file = listed["files"].as_array().unwrap().iter().find(|file| file["room"] == "first").unwrap();
    let name = file["name"].as_str().unwrap();
    let began = file["began"].as_str().unwrap();
    assert!(began.ends_with('Z') && began.contains(':'), "{began}");
    let mut connection = Connection::open(server.admin);
    let path = format!("/api/recordings/{name}");
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"));
    let (response, bytes) = connection.response_of_bytes();
    assert_eq!((response.status, response.field("Content-Type")), (200, Some("application/octet-stream")));
    assert!(response.field("Content-Disposition").unwrap().contains(name));
    assert_eq!(
        (bytes.len() as u64, &bytes),
        (file["bytes"].as_u64().unwrap(), &fs::read(directory.0.join(name)).unwrap())
    );
    assert!(Journal::parse(&bytes).unwrap().entries().all(|entry| entry.is_ok()));
    for name in ["..", "../x", "%2e%2e%2fx", "none-20261121T124031Z-1.journal", ""] {
        assert_eq!(server.get(&format!("/api/recordings/{name}")).status, 404, "{name}");
    }
}

#[test]
fn a_server_is_drained_from_the_page() {
    let server = Administered::start(loopback());
    let mut ada = server.join("lobby", "Ada");
    assert_eq!(ask(server.metrics, &get("/readyz")).status, 200);
    let answer: Value = serde_json::from_str(&server.post("/api/drain", r#"{"seconds":600}"#).body).unwrap();
    ada.text_with("eventDrain");
    let overview = server.wait_for("/api/overview", |overview| !overview["draining"].is_null());
    let told = answer["deadlineMs"].as_u64().unwrap();
    assert!(overview["draining"]["deadlineMs"].as_u64().unwrap().abs_diff(told) < 10_000, "{overview} {told}");
    assert_eq!(ask(server.metrics, &get("/readyz")).status, 503);
    assert_eq!(server.post("/api/drain", "{}").status, 409);
    drop(ada);
    server.post("/api/rooms/lobby/close", "{}");
    server.server.stop();
}

#[test]
fn a_service_manager_does_not_wait_for_the_drain_of_an_operator() {
    let mut command = rtcade(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.env("RTCADE_ADMIN__TOKEN", TOKEN);
    let program = Program::start(command, 2);
    let admin = program.line("administer it at http://").trim_end_matches('/').parse().unwrap();
    let mut page = joined(program.address, "lobby", "Ada");
    let body = r#"{"seconds":86400}"#;
    let head = format!("POST /api/drain HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n");
    let drain = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(ask(admin, &drain).status, 202);
    page.text_with("eventDrain");
    program.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(page.close_code(), 4008);
    assert_eq!(program.end().0.code(), Some(0));
}

#[test]
fn the_loop_its_memory_and_its_stacks_can_be_looked_at() {
    let server = Administered::start(loopback());
    let _ada = server.join("lobby", "Ada");
    assert_eq!(server.get("/debug/profile").status, 404);
    assert_eq!(server.post("/debug/profile", r#"{"seconds":1}"#).status, 202);
    assert_eq!(server.post("/debug/profile", "{}").status, 409);
    assert_eq!(server.get("/debug/profile").status, 409);
    let trace = server.wait_for("/debug/loop", |trace| trace["traceEvents"].as_array().unwrap().len() > 10);
    let names: Vec<_> =
        trace["traceEvents"].as_array().unwrap().iter().map(|event| event["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"turn") && names.contains(&"rooms") && names.contains(&"sockets"), "{names:?}");
    let memory = server.json("/debug/memory");
    assert!(memory["VmRSS"].as_u64() > Some(1 << 20) && memory["stateHistoryBytes"].as_u64() > Some(0), "{memory}");
    // The loop must have something to do, and other requests are served meanwhile.
    let deadline = Instant::now() + PATIENCE;
    let profile = loop {
        let profile = server.get("/debug/profile");
        if profile.status == 200 {
            break profile.body;
        }
        assert!(profile.status == 409 && Instant::now() < deadline, "{} {}", profile.status, profile.body);
        server.get("/api/rooms");
    };
    for line in profile.lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        assert!(count.parse::<u64>().unwrap() > 0 && stack.contains(';'), "{line}");
    }
    assert!(profile.contains(";serve_connections"), "the loop is in it, by the names of its functions");
    let metrics = server.get("/api/metrics");
    assert!(metrics.body.ends_with("# EOF\n"));
}

#[test]
fn the_metrics_have_a_listener_and_elsewhere_are_for_this_machine() {
    let server = Administered::start(loopback());
    let metrics = ask(server.metrics, &get("/metrics"));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((metrics.status, metrics.field("Content-Type")), (200, Some(content_type)));
    assert!(metrics.body.contains("\nrtcade_build_info{version=\"") && metrics.body.ends_with("# EOF\n"));
    assert_eq!(ask(server.metrics, &get("/healthz")).status, 200);
    for path in ["/", "/rooms", "/api/overview", "/r/lobby"] {
        assert_eq!(ask(server.metrics, &get(path)).status, 404, "{path}");
    }
    assert_eq!(server.server.get("/metrics").status, 200);
    let proxied = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    let refused = server.server.ask(proxied);
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("--metrics"), "{}", refused.body);
}

#[test]
fn the_program_keeps_the_token_to_itself_and_reloads_on_request() {
    let file = env::temp_dir().join(format!("rtcade-it-token-{}", std::process::id()));
    let keys = env::temp_dir().join(format!("rtcade-it-keys-{}", std::process::id()));
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    fs::write(&keys, "[rooms]\nmax_players = 2\n").unwrap();
    let (token_file, config) = (file.to_str().unwrap(), keys.to_str().unwrap());
    let output = |mut command: std::process::Command| {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let mut command = rtcade(&["--admin", "127.0.0.1:0", "--print-config"]);
    command.env("RTCADE_ADMIN__TOKEN", TOKEN);
    let (status, printed, _) = output(command);
    assert_eq!(status, Some(0));
    assert!(printed.contains("token = \"(secret)\" # RTCADE_ADMIN__TOKEN\n") && !printed.contains(TOKEN), "{printed}");
    for (arguments, expected) in [
        (&["--admin", "127.0.0.1:0"][..], "--admin-token-file FILE"),
        (&["--admin", "127.0.0.1:0", "--admin-token", "short"], "16 to 256"),
        (&["--admin", "127.0.0.1:0", "--admin-token-file", "/nowhere/at/all"], "/nowhere/at/all"),
    ] {
        let (status, _, errors) = output(rtcade(arguments));
        assert_eq!((status, errors.lines().count()), (Some(2), 1), "{errors}");
        assert!(errors.contains(expected), "{errors}");
    }
    let mut command = rtcade(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config", config]);
    command.env("RTCADE_ADMIN__TOKEN_FILE", token_file);
    let program = Program::start(command, 3);
    let admin = program.line("administer it at ").to_owned();
    let reload = |url: &str, token: &str| {
        let mut command = rtcade(&["reload", url]);
        command.env("RTCADE_ADMIN__TOKEN", token);
        output(command)
    };
    assert_eq!(reload(&admin, TOKEN).0, Some(0));
    let (status, _, errors) = reload(&admin, "another-token-altogether");
    assert!(status == Some(1) && errors.contains("status 401"), "{errors}");
    fs::write(&keys, "[rooms]\nmax_playrs = 2\n").unwrap();
    let (status, _, errors) = reload(&admin, TOKEN);
    assert!(status == Some(1) && errors.contains("max_playrs") && errors.contains("stays as it was"), "{errors}");
    // A token of the command line replaces that of the environment.
    let mut command = rtcade(&["--admin", "127.0.0.1:0", "--admin-token-file", token_file, "--print-config"]);
    command.env("RTCADE_ADMIN__TOKEN", "short");
    let (_, printed, errors) = output(command);
    assert!(printed.contains(&format!("token_file = {token_file:?} # --admin-token-file\n")), "{printed}{errors}");
    assert!(printed.contains("# token is not set\n"), "{printed}");
    // The token is read again too.
    fs::write(&keys, "[rooms]\nmax_players = 2\n").unwrap();
    fs::write(&file, "the-next-token-is-another").unwrap();
    assert_eq!(reload(&admin, TOKEN).0, Some(0));
    assert_eq!(reload(&admin, TOKEN).0, Some(1));
    assert_eq!(reload(&admin, "the-next-token-is-another").0, Some(0));
    let (status, _, errors) = output(rtcade(&["reload"]));
    assert!(status == Some(1) && errors.contains("SIGHUP"), "{errors}");
    let _ = (fs::remove_file(&file), fs::remove_file(&keys));
}

#[cfg(feature = "cluster")]
#[expect(clippy::disallowed_types, reason = "a port that nobody listens on")]
#[test]
fn the_program_plays_without_its_broker_and_says_so() {
    let command = rtcade(&["--listen", "127.0.0.1:0", "--amqp", "nowhere"]);
    let output = { command }.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(2), 1), "{errors}");
    assert!(errors.contains("amqp://user:password@host"), "{errors}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = rtcade(&["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--node", "game-1"]);
    command.env("RTCADE_EVENTS__AMQP", format!("amqp://guest:a-secret@{nobody}/%2f"));
    let program = Program::start(command, 2);
    let metrics = program.line("metrics are at http://").trim_end_matches("/metrics").parse().unwrap();
    let _page = joined(program.address, "lobby", "Ada");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = ask(metrics, &get("/metrics")).body;
        if text.contains("\nrtcade_events_queued 1\n") {
            assert!(text.contains("\nrtcade_events_connected 0\n"), "{text}");
            break;
        }
        assert!(Instant::now() < deadline, "{text}");
        std::thread::sleep(Duration::from_millis(20));
    }
    program.signal(nix::sys::signal::Signal::SIGTERM);
    let (status, log) = program.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains(&format!("the broker at {nobody} can't be used")), "{log}");
    assert!(log.contains("the last 2 events: they are lost") && !log.contains("a-secret"), "{log}");
}
