//! The command cluster: nodes that share the TCP port of one machine, as its operator runs it.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other end of the sockets is here")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rtcade::game::Leave;
use rtcade::limits::WAITING_CONNECTIONS;
use serde_json::{Value, json};

use super::admission::program::{Program, rtcade};
use super::driver::{Connection, PATIENCE, Player, Response, get, upgrade};
use super::operations::join;

/// The lines that a parent prints on loopback.
const LINES: usize = 3;

fn cluster(options: &[&str]) -> Program {
    let common = ["cluster", "--nodes", "2", "--listen", "127.0.0.1:0", "--node", "box"];
    Program::start(rtcade(&[&common, options].concat()), LINES)
}

fn ask(address: SocketAddr, path: &str) -> Response {
    let mut connection = Connection::open(address);
    connection.send(get(path));
    connection.response()
}

/// The number of rooms of a node.
fn rooms(address: SocketAddr, node: usize) -> usize {
    let metrics = ask(address, &format!("/metrics?node=box-{node}")).body;
    let rooms = metrics.lines().find_map(|line| line.strip_prefix("rtcade_rooms "));
    rooms.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}

/// The node that has the room.
fn owner(address: SocketAddr, room: &str) -> usize {
    let asked = |node: usize| {
        let (_, reply) = asked_at(address, &format!("/r/{room}?node=box-{node}"), &json!({ "name": "Eve" }));
        reply["a"] == "joinR"
    };
    let owners: Vec<usize> = (1..=2).filter(|node| asked(*node)).collect();
    assert_eq!(owners.len(), 1, "{room}: {owners:?}");
    owners[0]
}

/// Asks a node to join; its answer.
fn asked_at(address: SocketAddr, path: &str, data: &Value) -> (Connection, Value) {
    let mut page = Connection::open(address);
    page.send(upgrade(path));
    assert_eq!(page.head().status, 101, "{path}");
    page.send_frame(0x81, json!({ "a": "join", "d": data }).to_string().as_bytes());
    loop {
        let answer: Value = serde_json::from_str(&page.text_with("\"a\":")).unwrap();
        if answer["a"] == "joinR" || answer["a"] == "eventRedirect" {
            return (page, answer);
        }
    }
}

/// Joins a room at a node that is named; a redirect is followed.
fn join_at(address: SocketAddr, path: &str, data: &Value) -> (Connection, Value) {
    let (mut path, mut data) = (path.to_owned(), data.clone());
    for _ in 0..3 {
        let (page, answer) = asked_at(address, &path, &data);
        if answer["a"] == "joinR" {
            return (page, answer);
        }
        // It names the host by which this client has reached the node.
        path = answer["d"]["url"].as_str().unwrap().strip_prefix("ws://h").expect("the same host").to_owned();
        data["ticket"] = answer["d"]["ticket"].clone();
    }
    panic!("redirected three times");
}

/// The process of each node, by its number.
fn processes(program: &Program) -> Vec<Pid> {
    let parent = program.id();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    let mut found: Vec<i32> = children.split_whitespace().map(|id| id.parse().unwrap()).collect();
    found.sort_by_key(|id| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let name = line.split(|byte| *byte == 0).find(|argument| argument.starts_with(b"--child="));
        name.map(<[u8]>::to_vec)
    });
    found.into_iter().map(Pid::from_raw).collect()
}

fn is_running(id: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"));
    stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

/// The core and this end understand each other.
fn assert_answers(page: &mut Connection) {
    page.send_frame(0x81, b"no JSON");
    page.text_with("bad_request");
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn players_of_a_room_meet_at_one_node_and_rooms_are_on_both() {
    let program = cluster(&[]);
    assert_eq!(program.line("nodes are ").matches("UDP port").count(), 2);
    let address = program.address;
    let mut pages = Vec::new();
    for index in 0..12 {
        let (page, reply) = join(address, &format!("room-{}", index % 6), &json!({ "name": "Ada" }));
        assert_eq!(reply["s"], true, "{reply}");
        let players = reply["d"]["sessions"].as_array().unwrap().len();
        assert_eq!(players, 1 + index / 6, "{reply}");
        pages.push(page);
    }
    let (one, other) = (rooms(address, 1), rooms(address, 2));
    assert_eq!(one + other, 6);
    assert!(one > 0 && other > 0, "{one} {other}");

    // Whoever comes to the other node is brought to the room, also by the name of the room alone.
    let stranger = 3 - owner(address, "room-0");
    for path in [format!("/r/room-0?node=box-{stranger}"), format!("/api?node=box-{stranger}")] {
        let (page, reply) = join_at(address, &path, &json!({ "name": "Ada", "roomId": "room-0" }));
        assert_eq!(reply["s"], true, "{path}: {reply}");
        pages.push(page);
    }
    assert_eq!((rooms(address, 1), rooms(address, 2)), (one, other));
    program.signal(Signal::SIGINT);
    let (status, log) = program.end();
    assert!(status.success(), "{status}\n{log}");
}

#[test]
fn players_who_come_together_to_a_new_room_are_not_redirected() {
    let program = cluster(&[]);
    let address = program.address;
    let (mut together, mut others) = (Vec::new(), Vec::new());
    for index in 0..6 {
        let mut page = Connection::open(address);
        page.send(upgrade("/r/new"));
        assert_eq!(page.head().status, 101);
        together.push(page);
        // Whichever node is less busy changes with each room.
        others.push(join(address, &format!("other-{index}"), &json!({ "name": "Bob" })).0);
    }
    for page in &mut together {
        page.send_frame(0x81, json!({ "a": "join", "d": { "name": "Ada" } }).to_string().as_bytes());
        let answer = page.text_with("\"a\":");
        assert!(!answer.contains("eventRedirect"), "{answer}");
    }
}

#[test]
fn each_node_has_a_data_channel_of_its_own() {
    let program = cluster(&["--game", "relay"]);
    let mut players: Vec<Player> = (1..=2)
        .map(|node| {
            let (tcp, udp) = (TcpStream::connect(program.address).unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
            Player::join_at(&format!("/r/room-{node}?node=box-{node}"), tcp, udp, ["Ada", "Bob"][node - 1])
        })
        .collect();
    until("an input comes back from each node", || {
        for player in &mut players {
            if player.client.is_open() && player.heard.is_empty() {
                let _ = player.client.send(Instant::now(), &1);
            }
            player.turn();
        }
        players.iter().all(|player| !player.heard.is_empty() && !player.sources.is_empty())
    });
    let ports: BTreeSet<u16> = players.iter().flat_map(|player| &player.sources).map(SocketAddr::port).collect();
    assert_eq!(ports.len(), 2, "{ports:?}");
    for port in ports {
        assert!(program.line("nodes are ").contains(&format!("UDP port {port}")), "{port}");
    }
}

#[test]
fn a_node_that_is_killed_is_started_again_and_its_players_come_back() {
    let program = cluster(&[]);
    let address = program.address;
    let (_lost, reply) = join(address, "lobby", &json!({ "name": "Ada" }));
    assert_eq!(reply["s"], true);
    let (socket_id, resume) = (&reply["d"]["socketId"], &reply["d"]["resume"]);
    let former = json!({ "name": "Ada", "former": { "socketId": socket_id, "resume": resume } });
    let killed = owner(address, "lobby");
    let path = format!("/r/other?node=box-{}", 3 - killed);
    let (mut other, reply) = join_at(address, &path, &json!({ "name": "Bob" }));
    assert_eq!(reply["s"], true);
    let before = processes(&program);
    let of_killed = before[killed - 1];
    kill(of_killed, Signal::SIGKILL).unwrap();
    // A connection that was passed to it before its parent knows is lost with it.
    until("its parent has noticed", || !processes(&program).contains(&of_killed));

    // At once, as the lease of a process that has ended is over.
    let (_page, reply) = join(address, "lobby", &former);
    assert_eq!(reply["s"], true, "{reply}");
    assert_eq!(&reply["d"]["socketId"], socket_id, "it is the player that it was");
    assert_answers(&mut other);
    assert_eq!(ask(address, &format!("/healthz?node=box-{killed}")).status, 200);
    let after = processes(&program);
    assert_eq!((after.len(), after.contains(&of_killed)), (2, false));
    assert_eq!(after.iter().filter(|id| before.contains(id)).count(), 1, "the other goes on");
    program.signal(Signal::SIGTERM);
    let (status, log) = program.end();
    assert!(status.success(), "{status}\n{log}");
    let line = format!("node box-{killed} has ended (signal: 9 (SIGKILL)), and is started again in ");
    assert!(log.contains(&line), "{log}");
}

#[test]
fn signals_drain_the_nodes_and_a_second_one_stops_them() {
    let program = cluster(&["--drain", "3600", "--log-format", "json"]);
    let address = program.address;
    // A node without a room stops at once.
    let mut pages = [1, 2].map(|node| {
        let (page, reply) = join_at(address, &format!("/r/room-{node}?node=box-{node}"), &json!({ "name": "Ada" }));
        assert_eq!(reply["s"], true);
        page
    });
    assert_eq!((rooms(address, 1), rooms(address, 2)), (1, 1));
    let nodes = processes(&program);
    program.signal(Signal::SIGTERM);
    until("no node takes a room", || ask(address, "/readyz").status == 503 && ask(address, "/readyz").status == 503);
    let (_, reply) = join(address, "new", &json!({ "name": "Bob" }));
    assert_eq!(reply["s"], false, "{reply}");
    pages.iter_mut().for_each(assert_answers);
    program.signal(Signal::SIGTERM);
    for page in &mut pages {
        assert_eq!(page.close_code(), Leave::Shutdown.close_code(), "there is no other node");
    }
    let (status, log) = program.end();
    assert!(status.success(), "{status}\n{log}");
    assert!(!log.contains("killed"), "{log}");
    for node in ["box-1", "box-2"] {
        assert!(log.contains(&format!("\"node\":\"{node}\"")), "{log}");
    }
    assert!(nodes.iter().all(|id| !is_running(*id)));
}

#[test]
fn a_node_that_is_asked_to_stop_gets_no_more_connections_and_is_started_again() {
    let program = cluster(&[]);
    let address = program.address;
    // This end does not close the websocket, which keeps the node from ending at once.
    let (mut page, reply) = join_at(address, "/r/room?node=box-1", &json!({ "name": "Ada" }));
    assert_eq!(reply["s"], true);
    let before = processes(&program);
    kill(before[0], Signal::SIGTERM).unwrap();
    assert_eq!(page.close_code(), Leave::Moved.close_code());
    for _ in 0..20 {
        assert_eq!(ask(address, "/healthz").status, 200);
    }
    assert_eq!(ask(address, "/healthz?node=box-1").status, 200, "it waits for the node");
    let after = processes(&program);
    assert_eq!((after.len(), after[0] == before[0], after[1] == before[1]), (2, false, true));
}

/// A terminal sends SIGINT to all.
#[test]
fn an_interrupt_is_the_parents_and_players_are_told_that_all_nodes_stop() {
    let program = cluster(&[]);
    let (mut page, _) = join(program.address, "lobby", &json!({ "name": "Ada" }));
    for node in processes(&program) {
        kill(node, Signal::SIGINT).unwrap();
    }
    assert_answers(&mut page);
    program.signal(Signal::SIGINT);
    assert_eq!(page.close_code(), Leave::Shutdown.close_code());
    let (status, log) = program.end();
    assert!(status.success(), "{status}\n{log}");
}

#[test]
fn the_nodes_stop_when_their_parent_is_killed() {
    let program = cluster(&[]);
    let nodes = processes(&program);
    assert_eq!(nodes.len(), 2);
    let (mut page, _) = join(program.address, "lobby", &json!({ "name": "Ada" }));
    program.signal(Signal::SIGKILL);
    assert_eq!(page.close_code(), Leave::Shutdown.close_code());
    until("the nodes have stopped", || nodes.iter().all(|id| !is_running(*id)));
    let (_, log) = program.end();
    for node in ["box-1", "box-2"] {
        assert!(log.contains(&format!("the parent process has ended node={node}\n")), "{log}");
    }
}

#[test]
fn what_is_no_request_gets_the_answer_of_a_node() {
    let program = cluster(&[]);
    let address = program.address;
    let answer = |bytes: &[u8]| {
        println!("{}", bytes[..bytes.len().min(60)].escape_ascii());
        let mut connection = Connection::open(address);
        connection.send(bytes);
        connection.response().status
    };
    let long = [b"GET /r/", &vec![b'a'; 20_000][..]].concat();
    for (bytes, expected) in [
        (&b"garbage\r\n\r\n"[..], 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        (b"GET /r/lobby HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz?node=box-3 HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        (b"GET /r/lobby?node= HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        (&long, 431),
    ] {
        assert_eq!(answer(bytes), expected);
    }
    let unknown = ask(address, "/metrics?node=box-3");
    assert!(unknown.body.contains("name one of box-1, box-2"), "{unknown:?}");

    // A first line in pieces, and one that never ends.
    let mut pieces = Connection::open(address);
    for byte in get("/healthz?node=box-2").bytes() {
        pieces.send([byte]);
    }
    assert_eq!(pieces.response().status, 200);
    assert_eq!(answer(b"GET /heal"), 408);
}

#[test]
fn the_connection_of_a_node_that_is_named_is_not_used_for_another() {
    let program = cluster(&[]);
    let mut connection = Connection::open(program.address);
    connection.send(get("/healthz?node=box-1"));
    let response = connection.response();
    assert_eq!((response.status, response.field("Connection")), (200, Some("close")));
    assert!(connection.is_closed());

    // Requests for any node go to each in turn.
    let statuses = [(); 2].map(|()| {
        let mut connection = Connection::open(program.address);
        connection.send(get("/healthz"));
        assert_eq!(connection.response().field("Connection"), Some("keep-alive"));
        connection.send(get("/healthz?node=box-1"));
        let response = connection.response();
        assert_eq!(response.field("Connection"), Some("close"));
        response.status
    });
    assert_eq!(BTreeSet::from(statuses), BTreeSet::from([200, 421]));
}

#[test]
fn connections_that_send_nothing_cost_themselves() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let program = cluster(&[]);
    let address = program.address;
    let mut silent = Vec::new();
    for _ in 0..WAITING_CONNECTIONS {
        silent.push(TcpStream::connect(address).unwrap());
    }
    assert_eq!(ask(address, "/healthz").status, 200, "the oldest has made room for it");
    silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent[0].read(&mut [0]).unwrap_or(0), 0);
    // The newest is served when it asks.
    let mut last = silent.pop().unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    last.write_all(get("/healthz").as_bytes()).unwrap();
    let mut first = [0; 12];
    last.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
}

#[test]
fn the_admin_page_of_each_node_shows_all_nodes() {
    const TOKEN: &str = "a-token-for-tests-only";
    let common = ["cluster", "--nodes", "2", "--listen", "127.0.0.1:0", "--node", "box", "--admin", "127.0.0.1:0"];
    let mut command = rtcade(&common);
    command.env("RTCADE_ADMIN__TOKEN", TOKEN);
    let program = Program::start(command, LINES + 1);
    let admin = program.line("administer it at http://").split('/').next().unwrap().parse().unwrap();
    let (_page, reply) = join(program.address, "lobby", &json!({ "name": "Ada" }));
    assert_eq!(reply["s"], true, "{reply}");
    for node in 1..=2 {
        let request =
            format!("GET /api/cluster?node=box-{node} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        until("the room is shown", || {
            let mut connection = Connection::open(admin);
            connection.send(&request);
            let view: Value = serde_json::from_str(&connection.response().body).unwrap();
            assert_eq!(view["node"], format!("box-{node}"), "{view}");
            let names: Vec<_> = view["status"]["nodes"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
            assert_eq!(names, ["box-1", "box-2"], "{view}");
            view["connected"] == true && view["status"]["rooms"] == 1
        });
    }
}

#[test]
fn the_status_of_a_cluster_without_redis_says_where_it_is_shown() {
    let output = rtcade(&["cluster", "status"]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.contains("--redis-file FILE") && errors.contains("admin page"), "{errors}");
    let output = rtcade(&["cluster", "--nodes", "2", "status"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn options_that_make_no_sense_are_refused_in_a_sentence() {
    for (options, expected) in [
        (&["--tls-dev"][..], "put a reverse proxy with TLS in front"),
        (&["--agones"], "Agones starts each node by itself"),
        (&["--public-addr", "203.0.113.7:9"], "leave the port of --public-addr out"),
        (&["--nodes", "0"], "expected auto or a number from 1 to 256"),
        (&["--nodes", "257"], "expected auto or a number from 1 to 256"),
        (&["--child=box-1"], "has no parent"),
        (&["--listen", "127.0.0.1:0", "--udp", "127.0.0.1:65535", "--nodes", "2"], "begin with a lower port"),
        (&["--keys", "/nowhere"], "/nowhere"),
    ] {
        let output = rtcade(&[&["cluster"], options].concat()).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.contains(expected), "{options:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn a_node_that_cannot_start_ends_the_parent() {
    let options = ["cluster", "--nodes", "2", "--listen", "127.0.0.1:0", "--public", "/nowhere", "--node", "box"];
    let output = rtcade(&options).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("/nowhere can't be read") && errors.contains("could not start"), "{errors}");
}
