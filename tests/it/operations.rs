//! The program as an operator runs it: its configuration, signals, and the service manager.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other end of the sockets is here")]

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rtcade::driver::{Driver, Options};
use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::admission::program::{Program, rtcade};
use super::driver::{Connection, PATIENCE, Response, upgrade};

/// A file in the directory of temporary files, removed when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let file = File(env::temp_dir().join(format!("rtcade-it-{name}-{}", std::process::id())));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs it to its end: its exit status, its output, and its errors.
fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn ask(address: SocketAddr, path: &str) -> Response {
    let mut connection = Connection::open(address);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    connection.response()
}

/// Asks to join a room; the websocket, and the reply.
pub(super) fn join(address: SocketAddr, room: &str, data: &Value) -> (Connection, Value) {
    let mut page = Connection::open(address);
    page.send(upgrade(&format!("/r/{room}")));
    assert_eq!(page.head().status, 101);
    page.send_frame(0x81, json!({ "a": "join", "d": data }).to_string().as_bytes());
    let reply = serde_json::from_str(&page.text_with("joinR")).unwrap();
    (page, reply)
}

#[test]
fn file_environment_and_command_line_take_precedence_in_this_order() {
    let file = File::new(
        "order.toml",
        "[rooms]\nmax_players = 3\ntick_ms = 20\nmedia = \"audio\"\n\n[access]\norigin = [\"https://a.example\", \
        \"https://b.example\"]\n\n[server]\nlisten = \"127.0.0.1:1\"\n",
    );
    let path = file.path();
    let mut command = rtcade(&["--config", path, "--print-config", "--tick-ms", "50"]);
    command.env("RTCADE_ROOMS__MAX_PLAYERS", "4").env("RTCADE_ROOMS__TICK_MS", "30");
    command.env("RTCADE_ACCESS__TRUSTED_PROXY", "10.0.0.0/8, ::1").env("RTCADE_SERVER__DEV", "true");
    command.env("PORT", "9000").env("HOST", "::1");
    let (status, printed, errors) = run(command);
    assert_eq!((status, errors.as_str()), (Some(0), ""));
    for line in [
        "listen = \"[::1]:9000\" # PORT",
        "dev = true # RTCADE_SERVER__DEV",
        "tick_ms = 50 # --tick-ms",
        "max_players = 4 # RTCADE_ROOMS__MAX_PLAYERS",
        &format!("media = \"audio\" # {path}:4:1"),
        &format!("origin = [\"https://a.example\", \"https://b.example\"] # {path}:7:1"),
        "trusted_proxy = [\"10.0.0.0/8\", \"::1\"] # RTCADE_ACCESS__TRUSTED_PROXY",
        "keep_alive = 75 # default",
        "# udp is not set",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}\n{printed}");
    }
    // What is printed is a configuration that means the same.
    let again = File::new("again.toml", &printed);
    let (_, printed_again, errors) = run(rtcade(&["--config", again.path(), "--print-config"]));
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(" # ").next().unwrap_or(line).to_owned()).collect()
    };
    assert_eq!(values(&printed_again), values(&printed), "{errors}");
}

#[test]
fn an_address_of_its_own_takes_precedence_over_that_of_the_platform() {
    for (variable, expected) in [(None, "0.0.0.0:9000"), (Some("127.0.0.1:8000"), "127.0.0.1:8000")] {
        let mut command = rtcade(&["serve", "--print-config"]);
        command.env("PORT", "9000");
        variable.map(|address| command.env("RTCADE_SERVER__LISTEN", address));
        let (_, printed, errors) = run(command);
        assert!(printed.contains(&format!("listen = \"{expected}\"")), "{printed}{errors}");
    }
}

#[test]
fn the_port_of_agones_is_that_of_the_environment() {
    for (port, status) in [(None, Some(0)), (Some("9358"), Some(0)), (Some("http"), Some(2)), (Some("65536"), Some(2))]
    {
        let mut command = rtcade(&["--check-config"]);
        command.env("RTCADE_SERVER__AGONES", "true").env_remove("AGONES_SDK_HTTP_PORT");
        port.map(|port| command.env("AGONES_SDK_HTTP_PORT", port));
        let (ended, _, errors) = run(command);
        assert_eq!(ended, status, "{errors}");
        assert_eq!(errors.contains("AGONES_SDK_HTTP_PORT is no port"), status == Some(2), "{errors}");
    }
}

#[test]
fn each_mistake_is_one_sentence_with_its_place() {
    let file = File::new("mistakes.toml", "");
    let path = file.path();
    for (text, expected) in [
        ("[rooms]\ntick_ms = 4", format!("rtcade: {path}:2:1: rooms.tick_ms: invalid value '4'")),
        ("[rooms]\n  max_playrs = 4", format!("rtcade: {path}:2:3: there is no setting \"rooms.max_playrs\"; is it")),
        ("[romms]\nmax_players = 4", format!("rtcade: {path}:2:1: there is no setting \"romms.max_players\"; is it")),
        ("max_players = 4", format!("rtcade: {path}:1:1: settings are in sections")),
        ("[rooms]\nmax_players = [4]", format!("rtcade: {path}:2:1: rooms.max_players must be a string or a number")),
        ("[server]\ndev = 1", format!("rtcade: {path}:2:1: server.dev must be true or false")),
        ("[access]\norigin = [[]]", format!("rtcade: {path}:2:1: access.origin must be a list of strings")),
        ("[rooms]\nmax_players = 4\nmax_players = 5", format!("rtcade: {path}:3:1: ")),
        ("[rooms\n", format!("rtcade: {path}:1:7: ")),
    ] {
        file.write(text);
        let (status, _, errors) = run(rtcade(&["--config", path, "--check-config"]));
        assert_eq!((status, errors.lines().count()), (Some(2), 1), "{errors}");
        assert!(errors.starts_with(&expected), "{expected}\n{errors}");
    }
    for (variable, value, expected) in [
        ("RTCADE_ROOMS__TICK_MS", "4", "rtcade: RTCADE_ROOMS__TICK_MS: rooms.tick_ms: invalid value '4'"),
        ("RTCADE_ROOMS__TICKMS", "4", "rtcade: RTCADE_ROOMS__TICKMS: there is no setting \"rooms.tickms\"; is it"),
        ("RTCADE_SERVER__DEV", "yes", "rtcade: RTCADE_SERVER__DEV: server.dev must be true or false"),
        ("RTCADE_CONFIG", "/nowhere.toml", "rtcade: /nowhere.toml can't be read"),
        ("PORT", "http", "rtcade: PORT: server.listen: invalid value '0.0.0.0:http'"),
    ] {
        let mut command = rtcade(&["--check-config"]);
        command.env(variable, value);
        let (status, _, errors) = run(command);
        assert_eq!((status, errors.lines().count()), (Some(2), 1), "{errors}");
        assert!(errors.starts_with(expected), "{expected}\n{errors}");
    }
    file.write("[server]\npublic = \"/nowhere\"");
    let (status, _, errors) = run(rtcade(&["--config", path, "--check-config"]));
    assert_eq!(status, Some(2));
    assert!(errors.contains("/nowhere can't be read"), "{errors}");
    file.write("[server]\nlisten = \"nowhere.invalid:80\"");
    let (status, _, errors) = run(rtcade(&["--config", path, "--check-config"]));
    assert_eq!(status, Some(2), "{errors}");
    file.write("[recording]\ndirectory = \"/proc\"");
    let (status, _, errors) = run(rtcade(&["--config", path, "--check-config"]));
    assert_eq!(status, Some(2), "{errors}");
    assert!(errors.contains("/proc can't be written"), "{errors}");
    file.write("[server]\npublic = \"/\"");
    let (status, printed, errors) = run(rtcade(&["--config", path, "--check-config"]));
    assert_eq!((status, printed.as_str()), (Some(0), "rtcade: the configuration is valid\n"), "{errors}");
    // What doesn't serve has no settings.
    let mut command = rtcade(&["token", "--new-keys"]);
    command.env("RTCADE_ROOMS__TICKMS", "4");
    assert_eq!(run(command).0, Some(0));
}

#[test]
fn names_of_hosts_are_addresses() {
    let mut command = rtcade(&["--listen", "localhost:0", "--udp", "localhost:0", "--public-addr", "localhost:7"]);
    command.env("HOST", "ignored");
    let program = Program::start(command, 1);
    assert!(program.address.ip().is_loopback());
    let (_page, reply) = join(program.address, "lobby", &json!({}));
    assert!(reply["d"]["iceServers"].to_string().contains("127.0.0.1:7"), "{reply}");
    let (status, _, errors) = run(rtcade(&["--listen", "nowhere.invalid:80"]));
    assert_eq!((status, errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.starts_with("rtcade: nowhere.invalid:80 can't be resolved ("), "{errors}");
}

#[test]
fn a_stun_server_names_the_public_address() {
    let named = |stun: SocketAddr| {
        let program = Program::start(
            rtcade(&["--listen", "127.0.0.1:0", "--public-addr", &format!("stun:localhost:{}", stun.port())]),
            1,
        );
        let (_page, reply) = join(program.address, "lobby", &json!({}));
        (reply["d"]["iceServers"].to_string(), program.address.port())
    };
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stun = socket.local_addr().unwrap();
    let answers = std::thread::spawn(move || {
        let mut request = [0; 100];
        let (length, source) = socket.recv_from(&mut request).unwrap();
        // 203.0.113.7 at port 9.
        let mapped = b"\x00\x20\x00\x08\x00\x01\x21\x1b\xea\x12\xd5\x45";
        let response = [b"\x01\x01\x00\x0c", &request[4..length], mapped].concat();
        socket.send_to(&response, source).unwrap();
    });
    let (servers, port) = named(stun);
    assert!(servers.contains(&format!("203.0.113.7:{port}")), "{servers}");
    answers.join().unwrap();

    // Another server of this program, which answers the networks of its players.
    let other = Program::start(rtcade(&["--listen", "127.0.0.1:0"]), 1);
    let (_player, reply) = join(other.address, "lobby", &json!({}));
    assert_eq!(reply["s"], true, "{reply}");
    let (servers, port) = named(other.address);
    assert!(servers.contains(&format!("127.0.0.1:{port}")), "{servers}");

    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let named = format!("stun:{}", silent.local_addr().unwrap());
    let (status, _, errors) = run(rtcade(&["--listen", "127.0.0.1:0", "--public-addr", &named]));
    assert_eq!((status, errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.starts_with(&format!("rtcade: {named} can't be resolved (")), "{errors}");
    assert!(errors.contains("has not answered") && errors.contains("--public-addr"), "{errors}");
}

#[test]
fn a_health_check_tells_a_server_that_answers_from_one_that_does_not() {
    let program = Program::start(rtcade(&["--listen", "127.0.0.1:0"]), 1);
    let check = |url: Option<String>, listen: SocketAddr| {
        let mut command = rtcade(&["healthcheck"]);
        command.args(url).env("RTCADE_SERVER__LISTEN", listen.to_string());
        let (status, _, errors) = run(command);
        (status, errors.lines().count())
    };
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(check(None, program.address), (Some(0), 0), "the server of the configuration");
    assert_eq!(check(None, closed), (Some(1), 1));
    assert_eq!(check(Some(format!("http://{}/healthz", program.address)), closed), (Some(0), 0));
    assert_eq!(check(Some(format!("http://{}/nothing", program.address)), closed), (Some(1), 1));
    assert_eq!(check(Some("nonsense".to_owned()), closed), (Some(1), 1));
}

#[test]
fn a_drained_server_ends_with_its_last_player() {
    let program = Program::start(rtcade(&["--listen", "127.0.0.1:0", "--game", "relay", "--drain", "60"]), 1);
    let address = program.address;
    assert_eq!(ask(address, "/readyz").body, r#"{"ready":true,"reasons":[]}"#);
    let (mut page, reply) = join(address, "lobby", &json!({}));
    assert_eq!(reply["s"], true, "{reply}");
    program.signal(Signal::SIGTERM);
    let event: Value = serde_json::from_str(&page.text_with("eventDrain")).unwrap();
    assert!((1..=60_000).contains(&event["d"]["deadline"].as_u64().unwrap()), "{event}");
    let ready = ask(address, "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, r#"{"ready":false,"reasons":["draining"]}"#));
    assert_eq!(ask(address, "/healthz").status, 200);
    assert_eq!(ask(address, "/rooms").body, "[]");
    let (_, refused) = join(address, "another", &json!({}));
    assert_eq!((&refused["s"], &refused["e"]), (&json!(false), &json!("draining")), "{refused}");
    assert!(refused["retryAfter"].as_u64().is_some_and(|wait| wait > 50_000), "{refused}");
    // A friend may still come, and learns how long.
    let (mut friend, reply) = join(address, "lobby", &json!({}));
    assert_eq!(reply["s"], true, "{reply}");
    friend.text_with("eventDrain");
    for page in [&mut page, &mut friend] {
        page.send_frame(0x81, br#"{"a":"leave","d":{}}"#);
    }
    let (status, log) = program.end();
    assert!(status.success(), "{status}\n{log}");
}

/// Nobody is connected any more when the last room ends, so nothing wakes the loop.
#[test]
fn a_drained_server_ends_with_its_last_room_though_nobody_is_connected() {
    let program = Program::start(rtcade(&["--listen", "127.0.0.1:0", "--game", "relay", "--drain", "600"]), 1);
    let (mut page, _) = join(program.address, "lobby", &json!({}));
    program.signal(Signal::SIGTERM);
    page.text_with("eventDrain");
    page.send_frame(0x81, br#"{"a":"leave","d":{}}"#);
    drop(page);
    let (status, log) = program.end();
    assert!(status.success(), "{status}\n{log}");
}

#[test]
fn a_drained_server_ends_at_the_deadline_or_when_told_again() {
    for (drain, signals) in
        [("1", &[Signal::SIGTERM][..]), ("60", &[Signal::SIGTERM, Signal::SIGTERM]), ("60", &[Signal::SIGINT])]
    {
        let program = Program::start(rtcade(&["--listen", "127.0.0.1:0", "--game", "relay", "--drain", drain]), 1);
        let (mut page, _) = join(program.address, "lobby", &json!({}));
        for (number, signal) in signals.iter().enumerate() {
            if number > 0 {
                page.text_with("eventDrain");
            }
            program.signal(*signal);
        }
        assert_eq!(page.close_code(), Leave::Shutdown.close_code(), "{signals:?}");
        let (status, log) = program.end();
        assert!(status.success(), "{status}\n{log}");
    }
}

#[test]
fn the_service_manager_is_told_what_happens() {
    let socket = File::new("notify", "");
    fs::remove_file(&socket.0).unwrap();
    let manager = UnixDatagram::bind(&socket.0).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = |wanted: &str| {
        let mut buffer = [0; 1024];
        for _ in 0..1_000 {
            let length = manager.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line == wanted) {
                return text;
            }
        }
        panic!("no {wanted}");
    };
    let mut command = rtcade(&["--listen", "127.0.0.1:0", "--game", "relay", "--drain", "60"]);
    command.env("NOTIFY_SOCKET", &socket.0).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    let program = Program::start(command, 1);
    next("READY=1");
    for _ in 0..3 {
        next("WATCHDOG=1");
    }
    program.signal(Signal::SIGHUP);
    assert!(next("RELOADING=1").contains("MONOTONIC_USEC="));
    next("READY=1");
    let (_page, _) = join(program.address, "lobby", &json!({}));
    program.signal(Signal::SIGTERM);
    next("STOPPING=1");
    next("WATCHDOG=1");
    program.signal(Signal::SIGTERM);
    next("STOPPING=1");
    assert!(program.end().0.success());
}

/// Starts it with a listener that stays open when the program ends, as with a service manager.
fn activated(listener: &TcpListener, arguments: &[&str]) -> Program {
    let script = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 </dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_rtcade")]).args(arguments);
    command.stdin(OwnedFd::from(listener.try_clone().unwrap())).stdout(Stdio::piped()).stderr(Stdio::piped());
    Program::start(command, 1)
}

#[test]
fn a_restart_refuses_no_connection_to_a_socket_of_the_service_manager() {
    const CONNECTIONS: usize = 500;
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(i32::try_from(CONNECTIONS).unwrap()).unwrap();
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().unwrap();
    let arguments = ["--game", "relay"];
    let mut program = Some(activated(&listener, &arguments));
    assert_eq!(program.as_ref().unwrap().address, address);
    let mut answered = 0;
    let mut open = Vec::new();
    for number in 0..CONNECTIONS {
        if number == CONNECTIONS / 4 {
            program.as_ref().unwrap().signal(Signal::SIGTERM);
        }
        // Some wait while no process runs.
        if number == CONNECTIONS / 2 {
            let (status, log) = program.take().unwrap().end();
            assert!(status.success(), "{log}");
        }
        if number == CONNECTIONS * 3 / 4 {
            program = Some(activated(&listener, &arguments));
        }
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        if program.is_some() && number < CONNECTIONS / 4 {
            let mut response = String::new();
            socket.read_to_string(&mut response).unwrap();
            answered += usize::from(response.starts_with("HTTP/1.1 200"));
        } else {
            open.push(socket);
        }
    }
    for mut socket in open {
        let mut response = String::new();
        if socket.read_to_string(&mut response).is_ok() {
            answered += usize::from(response.starts_with("HTTP/1.1 200"));
        }
    }
    assert_eq!(answered, CONNECTIONS);
}

#[test]
fn sockets_of_the_service_manager_that_cannot_be_used_are_an_error() {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
    let script = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" 3<&0 </dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_rtcade")]).stdin(OwnedFd::from(socket));
    let (status, _, errors) = run(command);
    assert_eq!(status, Some(1));
    assert!(errors.contains("add ListenStream to the socket unit"), "{errors}");
}

#[test]
fn a_reload_takes_over_what_has_changed_and_keeps_the_old_if_it_is_wrong() {
    let file = File::new("reload.toml", "[rooms]\ngame = \"relay\"\nmax_players = 1\n");
    let program = Program::start(rtcade(&["--listen", "127.0.0.1:0", "--config", file.path()]), 1);
    let address = program.address;
    let open = |origin: &str, room: &str| {
        let mut page = Connection::open(address);
        let headers = format!("Host: {address}\r\nOrigin: {origin}");
        page.send(upgrade(&format!("/r/{room}")).replace("Host: h", &headers));
        assert_eq!(page.head().status, 101);
        page.send_frame(0x81, br#"{"a":"join","d":{}}"#);
        let reply: Value = serde_json::from_str(&page.text_with("joinR")).unwrap();
        (page, reply["e"].as_str().unwrap_or("joined").to_owned())
    };
    let own = format!("http://{address}");
    let (_first, joined) = open(&own, "small");
    assert_eq!(joined, "joined");
    assert_eq!(open(&own, "small").1, "room_full");
    assert_eq!(open("https://play.example", "large").1, "origin");

    let reload = |text: &str| {
        file.write(text);
        program.signal(Signal::SIGHUP);
    };
    let wait_for = |origin: &str, room: &str, expected: &str| {
        let begun = Instant::now();
        loop {
            let (page, outcome) = open(origin, room);
            if outcome == expected {
                return page;
            }
            assert!(begun.elapsed() < PATIENCE, "{outcome}");
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    reload("[rooms]\ngame = \"relay\"\nmax_players = 2\n[access]\norigin = \"https://play.example\"\n");
    let _second = wait_for("https://play.example", "large", "joined");
    let _third = wait_for("https://play.example", "large", "joined");
    assert_eq!(open("https://play.example", "large").1, "room_full");
    assert_eq!(open("https://play.example", "small").1, "room_full", "the room is of before");
    reload("[rooms]\nmax_players = 0\n");
    std::thread::sleep(Duration::from_millis(300));
    let _fourth = wait_for("https://play.example", "other", "joined");
    program.signal(Signal::SIGTERM);
    let (_, log) = program.end();
    assert!(log.contains("the configuration was read again"), "{log}");
    assert!(log.contains("the configuration stays as it was: ") && log.contains(":2:1: rooms.max_players"), "{log}");
}

/// A player whose place is kept for longer has not left when another has, who was lost later.
#[test]
fn a_reload_takes_over_how_long_a_place_is_kept_and_the_number_of_rooms() {
    let text = |grace: u32, rooms: u32| format!("[rooms]\ngame = \"relay\"\ngrace = {grace}\nmax_rooms = {rooms}\n");
    let file = File::new("grace.toml", &text(3_600, 1));
    let program = Program::start(rtcade(&["--listen", "127.0.0.1:0", "--config", file.path()]), 1);
    let address = program.address;
    let (_host, _) = join(address, "lobby", &json!({ "name": "Host" }));
    let (first, reply) = join(address, "lobby", &json!({ "name": "First" }));
    assert_eq!(reply["s"], true, "{reply}");
    let (_, refused) = join(address, "other", &json!({}));
    assert_eq!(refused["e"], "room_full", "{refused}");
    drop(first);
    assert_eq!(ask(address, "/healthz").status, 200, "which is read after the end of the connection");
    file.write(&text(1, 2));
    program.signal(Signal::SIGHUP);
    let begun = Instant::now();
    while join(address, "other", &json!({})).1["e"] == "room_full" {
        assert!(begun.elapsed() < PATIENCE, "the configuration was not read again");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (mut watch, _) = join(address, "lobby", &json!({ "name": "Watch" }));
    let (second, reply) = join(address, "lobby", &json!({ "name": "Second" }));
    let second_player = reply["d"]["player"].clone();
    drop(second);
    let left: Value = serde_json::from_str(&watch.text_with("eventLeave")).unwrap();
    assert_eq!((&left["d"]["player"], &left["d"]["reason"]), (&second_player, &json!("closed")), "{left}");
}

#[test]
fn a_log_of_json_has_an_object_per_line_and_no_token() {
    let arguments = ["--listen", "127.0.0.1:0", "--game", "relay", "--log-format", "json", "--log", "info"];
    let program = Program::start(rtcade(&arguments), 1);
    join(program.address, "lobby", &json!({ "name": "A\"da", "version": 99, "bearer": "a.secret.token" }));
    let (_page, _) = join(program.address, "lobby", &json!({ "name": "Bob" }));
    program.signal(Signal::SIGTERM);
    let (_, log) = program.end();
    assert!(!log.contains("secret"), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of_players: Vec<&Value> = lines.iter().filter(|line| line["target"] == "rtcade::players").collect();
    let refused = of_players.iter().find(|line| line["code"] == "version_mismatch").expect("one was refused");
    assert_eq!(
        (&refused["level"], &refused["room"], &refused["name"]),
        (&json!("info"), &json!("lobby"), &json!("A\"da"))
    );
    for (what, code) in [("came", "joined"), ("left", "shutdown")] {
        let line =
            of_players.iter().find(|line| line["code"] == code).unwrap_or_else(|| panic!("no line: {what}\n{log}"));
        assert_eq!(
            (&line["room"], &line["name"], &line["player"]),
            (&json!("lobby"), &json!("Bob"), &json!(1)),
            "{line}"
        );
    }
}

/// Never returns from a tick in which there is a player.
struct Endless;

impl Game for Endless {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {
        while ctx.players().len() > 0 {
            search_for_ever();
        }
    }
}

#[inline(never)]
fn search_for_ever() {
    for number in 0..u64::MAX {
        std::hint::black_box(number);
    }
}

/// The address at which [`serve_an_endless_game`] listens, if it runs on its own.
const ENDLESS: &str = "RTCADE_ENDLESS";

/// A server in a process of its own, which the next test starts.
#[test]
fn serve_an_endless_game() {
    let Ok(address) = env::var(ENDLESS) else { return };
    env_logger::Builder::new().filter_level(log::LevelFilter::Info).init();
    let options = Options { listen: address.parse().unwrap(), ..Options::default() };
    let mut driver = Driver::bind(options, |_| Ok(Endless)).unwrap();
    driver.obey_signals().unwrap();
    println!("http://{}/", driver.local_addr());
    driver.run().unwrap();
}

#[test]
fn a_game_that_never_returns_ends_the_process_which_logs_where_it_was() {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "operations::serve_an_endless_game", "--nocapture"]).env(ENDLESS, "127.0.0.1:0");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = Program::start(command, 3);
    let mut page = Connection::open(program.address);
    page.send(upgrade("/r/maze"));
    assert_eq!(page.head().status, 101);
    page.send_frame(0x81, br#"{"a":"join","d":{}}"#);
    let (status, log) = program.end();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}\n{log}");
    assert!(log.contains("the event loop has been in the game of room maze for 2 s"), "{log}");
    assert!(log.contains("search_for_ever"), "{log}");
}
