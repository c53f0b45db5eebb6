//! Against a stand-in for the sidecar, which takes what the OpenAPI files of Agones' SDK allow, and nothing else.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, MutexGuard};

use mio::{Poll, Token, Waker};
use serde_json::Value;

use super::*;
use crate::driver::door::{Inside, door};
use crate::driver::{Driver, Options};
use crate::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
use crate::games::Relay;
use crate::server::{Config, Server};

/// Bounds every wait; nothing is asserted about how long anything takes.
const PATIENCE_OF_TESTS: Duration = Duration::from_secs(40);

/// What a server wants that is no node of a cluster.
const ADDRESSES: Wanted = Wanted {
    addresses: true,
    #[cfg(feature = "cluster")]
    node_url: None,
};

/// What goes wrong at the sidecar, for each request until it is healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It accepts, and never answers.
    Silent,
    Error,
    /// It closes the connection without an answer.
    Closing,
    /// The answer is no HTTP.
    Noise,
    /// The answer is no JSON.
    Nonsense,
    /// The body never ends.
    Endless,
}

struct Seen {
    state: String,
    address: String,
    ports: Vec<(&'static str, u16)>,
    /// Those declared: count and capacity.
    counters: BTreeMap<&'static str, (i64, i64)>,
    /// The calls that were answered, health aside.
    calls: Vec<String>,
    health: usize,
    fault: Option<Fault>,
    /// Requests that a fault hit.
    hit: usize,
    watchers: Vec<TcpStream>,
    /// Connections that are kept open without an answer.
    held: Vec<TcpStream>,
    /// What breaks the rules of the API.
    violations: Vec<String>,
    is_over: bool,
}

impl Seen {
    fn game_server(&self) -> Value {
        let ports: Vec<Value> = self.ports.iter().map(|(name, port)| json!({ "name": name, "port": port })).collect();
        let counters: BTreeMap<_, _> = self
            .counters
            .iter()
            .map(|(name, (count, capacity))| {
                (name, json!({ "count": count.to_string(), "capacity": capacity.to_string() }))
            })
            .collect();
        json!({
            "object_meta": {
                "name": "rtcade-x7", "namespace": "default", "uid": "1234", "resource_version": "7", "generation": "1",
                "creation_timestamp": "1531795395", "deletion_timestamp": "0",
                "annotations": { "agones.dev/sdk-version": "1.55.0" }, "labels": {},
            },
            "spec": {
                "health": {
                    "disabled": false, "period_seconds": 5, "failure_threshold": 3, "initial_delay_seconds": 5,
                },
            },
            "status": {
                "state": self.state, "address": self.address,
                "addresses": [{ "type": "InternalIP", "address": "10.0.0.9" }],
                "ports": ports, "players": null, "counters": counters, "lists": {},
            },
        })
    }

    fn tell(&mut self) {
        let line = format!("{}\n", json!({ "result": self.game_server() }));
        let chunk = format!("{:x}\r\n{line}\r\n", line.len());
        self.watchers.retain_mut(|watcher| watcher.write_all(chunk.as_bytes()).is_ok());
    }

    fn set_state(&mut self, state: &str) {
        state.clone_into(&mut self.state);
        self.tell();
    }

    /// The status and the body of the answer.
    fn answer(&mut self, request: &str, body: &str) -> (u16, Value) {
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        let number = |name: &str| json.get(name)?.as_str()?.parse::<i64>().ok();
        match request {
            "GET /gameserver" if body.is_empty() => return (200, self.game_server()),
            "POST /health" if json == json!({}) => {}
            "POST /ready" if json == json!({}) => self.set_state("Ready"),
            "POST /allocate" if json == json!({}) => self.set_state("Allocated"),
            "POST /shutdown" if json == json!({}) => self.set_state("Shutdown"),
            "POST /reserve" if number("seconds").is_some_and(|seconds| seconds >= 0) => self.set_state("Reserved"),
            _ => {
                let counter = request.strip_prefix("PATCH /v1beta1/counters/");
                let (Some(name), Some(count), Some(capacity)) = (counter, number("count"), number("capacity")) else {
                    self.violations.push(format!("{request} {body}"));
                    return (400, json!({ "code": 3, "message": "not of the API" }));
                };
                let Some(counter) = self.counters.get_mut(name) else {
                    let message = format!("counter not found: {name}");
                    return (500, json!({ "code": 2, "message": message, "details": [] }));
                };
                if !(0..=capacity).contains(&count) {
                    self.violations.push(format!("{request} {body}"));
                    return (500, json!({ "code": 2, "message": "out of range" }));
                }
                *counter = (count, capacity);
                return (200, json!({ "name": name, "count": count.to_string(), "capacity": capacity.to_string() }));
            }
        }
        (200, json!({}))
    }
}

struct Sidecar {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Sidecar {
    fn start() -> Sidecar {
        Sidecar::listen(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    fn listen(address: SocketAddr) -> Sidecar {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen {
            state: "Scheduled".to_owned(),
            address: "203.0.113.7".to_owned(),
            ports: vec![("tcp", 7100), ("udp", 7200)],
            counters: [("rooms", (0, 10)), ("players", (0, 100))].into(),
            calls: Vec::new(),
            health: 0,
            fault: None,
            hit: 0,
            watchers: Vec::new(),
            held: Vec::new(),
            violations: Vec::new(),
            is_over: false,
        }));
        let of_thread = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.lock().unwrap().is_over {
                    return;
                }
                let seen = Arc::clone(&of_thread);
                // Whoever has asked may be gone.
                thread::spawn(move || drop(serve(&seen, stream.unwrap())));
            }
        });
        Sidecar { address, seen }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn calls(&self) -> Vec<String> {
        self.seen().calls.clone()
    }

    /// The calls that change the state, without their bodies.
    fn steps(&self) -> Vec<String> {
        let calls = self.calls();
        let steps = calls.iter().filter_map(|call| Some(call.strip_prefix("POST /")?.split(' ').next()?.to_owned()));
        steps.collect()
    }

    fn counter(&self, name: &str) -> (i64, i64) {
        self.seen().counters[name]
    }

    fn break_down(&self, fault: Option<Fault>) {
        let mut seen = self.seen();
        seen.fault = fault;
        seen.held.clear();
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let mut seen = self.seen();
        seen.is_over = true;
        seen.fault = None;
        let violations = std::mem::take(&mut seen.violations);
        drop(seen);
        let _ = TcpStream::connect(self.address);
        assert!(thread::panicking() || violations.is_empty(), "not of the API: {violations:?}");
    }
}

fn serve(seen: &Mutex<Seen>, mut stream: TcpStream) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let request = line.trim_end().strip_suffix(" HTTP/1.1").unwrap_or_default().to_owned();
    let (mut length, mut is_json) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("content-type", value)) => is_json = value == "application/json",
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).unwrap();

    let mut seen_now = seen.lock().unwrap();
    if let Some(fault) = seen_now.fault {
        seen_now.hit += 1;
        if fault == Fault::Silent {
            seen_now.held.push(stream);
            return Ok(());
        }
        drop(seen_now);
        return fail(seen, fault, &mut stream);
    }
    if request == "GET /watch/gameserver" {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        seen_now.calls.push(request);
        seen_now.watchers.push(stream);
        seen_now.tell();
        return Ok(());
    }
    if length > 0 && !is_json {
        seen_now.violations.push(format!("{request} with a body that is not said to be JSON"));
    }
    let (status, answer) = seen_now.answer(&request, &body);
    if request == "POST /health" {
        seen_now.health += 1;
    } else {
        seen_now.calls.push(format!("{request} {body}").trim_end().to_owned());
    }
    drop(seen_now);
    respond(&mut stream, status, &answer.to_string())
}

fn respond(stream: &mut TcpStream, status: u16, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn fail(seen: &Mutex<Seen>, fault: Fault, stream: &mut TcpStream) -> io::Result<()> {
    match fault {
        Fault::Silent | Fault::Closing => Ok(()),
        Fault::Error => respond(stream, 500, r#"{"code":13,"message":"broken","details":[]}"#),
        Fault::Noise => stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        Fault::Nonsense => respond(stream, 200, "<html>\n"),
        Fault::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            while seen.lock().unwrap().fault == Some(Fault::Endless) {
                stream.write_all(chunk.as_bytes())?;
            }
            Ok(())
        }
    }
}

/// A reporter whose time and loop are the test's.
struct Stepped {
    reporter: Reporter,
    shared: Arc<Shared>,
    pulse: Arc<Pulse>,
    inside: Inside,
    server: Server<Relay>,
    handle: Handle,
    now: Instant,
    // It keeps the waker's queue.
    _poll: Poll,
}

impl Stepped {
    fn new(sidecar: SocketAddr, wanted: Wanted) -> Stepped {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (outside, inside) = door();
        let handle = Handle { outside, waker, requests: Arc::default() };
        let pulse = Arc::<Pulse>::default();
        pulse.note_sleep(true);
        let mut server = Server::new(Config::new([7; 32]), Instant::now(), |_| Ok(Relay));
        let activity = server.supervise(Instant::now, Duration::from_secs(1));
        let shared = Arc::<Shared>::default();
        shared.max_rooms.store(20, Ordering::Relaxed);
        shared.max_players.store(80, Ordering::Relaxed);
        let (of_loop, observer) = (Arc::downgrade(&pulse), Observer::new(activity));
        let reporter = Reporter::new(sidecar, Arc::clone(&shared), handle.clone(), of_loop, observer, wanted);
        Stepped { reporter, shared, pulse, inside, server, handle, now: Instant::now(), _poll: poll }
    }

    /// With a server that is ready, and watched.
    fn ready(sidecar: &Sidecar) -> Stepped {
        let mut stepped = Stepped::new(sidecar.address, ADDRESSES);
        stepped.until("ready, and watched", |_| sidecar.steps() == ["ready"] && !sidecar.seen().watchers.is_empty());
        stepped
    }

    fn look(&mut self) {
        self.reporter.look(self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn open(&self, rooms: usize, players: usize) {
        self.shared.rooms.store(rooms, Ordering::Relaxed);
        self.shared.players.store(players, Ordering::Relaxed);
    }

    /// Looks again and again, without that much time passes.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Stepped) -> bool) {
        let deadline = Instant::now() + PATIENCE_OF_TESTS;
        loop {
            self.look();
            if is_so(self) {
                return;
            }
            assert!(Instant::now() < deadline, "never {what}: {:?}", self.figures());
            self.wait(Duration::from_millis(10));
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn figures(&self) -> Figures {
        let shared = Arc::clone(&self.shared);
        Agones { shared, reporter: None, thread: None, ended: None }.figures()
    }

    /// Whether players are given this address.
    fn gives(&mut self, given: &str) -> bool {
        self.inside.deliver(self.now, &mut self.server);
        self.server.candidates(Ipv4Addr::LOCALHOST.into()).contains(&address(given))
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_state_follows_the_rooms() {
    let sidecar = Sidecar::start();
    let mut server = Stepped::ready(&sidecar);
    assert_eq!(sidecar.calls()[0], "GET /gameserver");
    server.open(1, 2);
    server.until("allocated", |_| sidecar.steps() == ["ready", "allocate"]);
    server.open(0, 0);
    server.until("reserved", |_| sidecar.steps().len() == 3);
    assert!(sidecar.calls().contains(&r#"POST /reserve {"seconds":"30"}"#.to_owned()), "{:?}", sidecar.calls());
    server.wait(RESERVED_FOR / 2);
    for _ in 0..10 {
        server.look();
    }
    assert_eq!(sidecar.steps().len(), 3, "it stays reserved for a while");
    server.open(1, 1);
    server.until("allocated from there", |_| sidecar.steps()[2..] == ["reserve", "allocate"]);
    server.open(0, 0);
    server.until("reserved again", |_| sidecar.steps().len() == 5);
    server.wait(RESERVED_FOR);
    server.until("ready again", |_| sidecar.steps()[4..] == ["reserve", "ready"]);
    server.wait(RESERVED_FOR * 10);
    server.look();
    assert_eq!(sidecar.steps().len(), 6, "nothing happens");
}

#[test]
fn a_server_that_agones_allocates_waits_for_its_players() {
    let sidecar = Sidecar::start();
    let mut server = Stepped::ready(&sidecar);
    sidecar.seen().set_state("Allocated");
    server.until("allocated", |server| server.reporter.state.as_deref() == Some(ALLOCATED));
    server.wait(RESERVED_FOR * 10);
    server.look();
    assert_eq!(sidecar.steps(), ["ready"], "without a room so far");
    server.open(1, 1);
    server.look();
    assert_eq!(sidecar.steps(), ["ready"], "it is allocated already");
    server.open(0, 0);
    server.until("reserved", |_| sidecar.steps() == ["ready", "reserve"]);
}

#[test]
fn a_server_in_a_state_that_ends_it_stays_there() {
    for state in ENDING {
        let sidecar = Sidecar::start();
        sidecar.seen().set_state(state);
        let mut server = Stepped::new(sidecar.address, ADDRESSES);
        server.open(1, 1);
        server.until("watched", |_| !sidecar.seen().watchers.is_empty());
        server.look();
        assert_eq!(sidecar.steps(), [""; 0], "{state}");
        assert_eq!(server.handle.is_stopping(), state == SHUTDOWN, "{state}");
    }
}

#[test]
fn counters_have_what_there_is_at_most_once_a_second() {
    let sidecar = Sidecar::start();
    let mut server = Stepped::ready(&sidecar);
    server.until("capacities", |_| sidecar.counter("rooms") == (0, 20) && sidecar.counter("players") == (0, 80));
    let updates = || sidecar.calls().iter().filter(|call| call.starts_with("PATCH")).count();
    let before = updates();
    server.wait(COUNTER_INTERVAL);
    server.open(2, 7);
    server.look();
    assert_eq!((sidecar.counter("rooms"), sidecar.counter("players")), ((2, 20), (7, 80)));
    server.open(3, 9);
    server.wait(COUNTER_INTERVAL / 2);
    server.look();
    assert_eq!(updates(), before + 2, "within a second");
    server.wait(COUNTER_INTERVAL / 2);
    server.look();
    assert_eq!((sidecar.counter("rooms"), sidecar.counter("players")), ((3, 20), (9, 80)));
    server.wait(COUNTER_INTERVAL);
    server.look();
    assert_eq!(updates(), before + 4, "none without a change");
    server.shared.max_rooms.store(1, Ordering::Relaxed);
    server.look();
    assert_eq!(sidecar.counter("rooms"), (3, 3), "a count above the capacity would be refused");
}

#[test]
fn a_counter_that_the_fleet_does_not_declare_is_asked_for_once() {
    let sidecar = Sidecar::start();
    sidecar.seen().counters.remove("players");
    let mut server = Stepped::ready(&sidecar);
    for players in 1..10 {
        server.open(players, players);
        server.wait(COUNTER_INTERVAL * 10);
        server.look();
    }
    let calls = sidecar.calls();
    let of =
        |name: &str| calls.iter().filter(|call| call.starts_with(&format!("PATCH /v1beta1/counters/{name} "))).count();
    assert!(of("players") == 1 && of("rooms") > 9, "{calls:?}");
    let status = |status, sentence: &str| is_undeclared(&Failure::Refused(status, sentence.to_owned()));
    assert!(status(404, "") && status(500, "CountsAndLists not enabled"));
    assert!(status(500, "not found. rooms Counter not found"), "the sidecar's local mode");
    assert!(!status(500, "out of range"));
    let other = "could not retrieve GameServer default/rtcade-x7: gameserver.agones.dev \"rtcade-x7\" not found";
    assert!(!status(500, other), "it may be found later");
}

#[test]
fn health_is_reported_only_while_the_loop_runs() {
    let sidecar = Sidecar::start();
    let mut server = Stepped::ready(&sidecar);
    let mut reports = |change: fn(&Pulse)| {
        change(&server.pulse);
        server.wait(HEALTH_INTERVAL);
        let before = sidecar.seen().health;
        server.look();
        sidecar.seen().health - before
    };
    assert_eq!(reports(|_| ()), 1, "it waits for something to do");
    assert_eq!(reports(|pulse| pulse.note_sleep(false)), 0, "it stands still");
    assert_eq!(reports(Pulse::note_turn), 1);
    assert_eq!([reports(|_| ()), reports(|_| ())], [0, 0]);
    assert_eq!(reports(Pulse::note_turn), 1, "it goes on");
    server.look();
    server.wait(HEALTH_INTERVAL);
    server.pulse = Arc::default();
    let before = sidecar.seen().health;
    server.look();
    assert_eq!(sidecar.seen().health, before, "the server is gone");
}

#[test]
fn players_are_given_the_address_that_agones_has() {
    let sidecar = Sidecar::start();
    let mut server = Stepped::ready(&sidecar);
    assert!(server.gives("203.0.113.7:7200"));
    sidecar.seen().ports = vec![("game-tcp", 1), ("game-udp", 2)];
    sidecar.seen().address = "localhost".to_owned();
    sidecar.seen().tell();
    server.until("a new address", |server| server.gives("127.0.0.1:2"));
    assert!(!server.gives("203.0.113.7:7200"));

    let place = |ports: &[(&str, u16)]| {
        let ports = ports.iter().map(|&(name, port)| Port { name: name.to_owned(), port }).collect();
        let place = Status { address: "a".to_owned(), ports, ..Status::default() }.place().unwrap();
        (place.udp, place.tcp)
    };
    assert_eq!(place(&[("default", 5)]), (Some(5), None));
    assert_eq!(place(&[("default", 5), ("tcp", 6)]), (Some(5), Some(6)));
    assert_eq!(place(&[("one", 5), ("two", 6)]), (None, None));
    assert_eq!(place(&[("one", 5), ("udp", 6)]), (Some(6), None));
    assert_eq!(place(&[]), (None, None));
    assert_eq!(Status::default().place(), None);
}

#[test]
fn an_address_that_can_not_be_given_is_tried_again() {
    let sidecar = Sidecar::start();
    sidecar.seen().ports = vec![("one", 1), ("two", 2)];
    let mut server = Stepped::ready(&sidecar);
    assert_eq!(server.reporter.given, None);
    sidecar.seen().ports = vec![("one", 1), ("udp", 2)];
    sidecar.seen().tell();
    server.until("a port", |server| server.gives("203.0.113.7:2"));
}

#[test]
fn an_address_of_the_operator_stays() {
    let sidecar = Sidecar::start();
    let mut server = Stepped::new(sidecar.address, Wanted { addresses: false, ..ADDRESSES });
    server.until("ready", |_| sidecar.steps() == ["ready"]);
    assert!(!server.gives("203.0.113.7:7200"));
}

#[cfg(feature = "cluster")]
#[test]
fn other_nodes_send_players_to_the_address_that_agones_has() {
    use crate::cluster::store::{Command, Profile, Renewal, Reply};
    use crate::cluster::{Cluster, NodeConfig, Request};

    let sidecar = Sidecar::start();
    sidecar.seen().ports = vec![("udp", 7200)];
    let wanted = Wanted { node_url: Some(false), ..ADDRESSES };
    let mut server = Stepped::new(sidecar.address, wanted);
    let cluster = Cluster::new(NodeConfig::new("node", ""), [7; 32], server.now);
    server.server.join_cluster(cluster);
    // What the node tells about itself, once the store has taken it.
    let told = |server: &mut Stepped| {
        server.inside.deliver(server.now, &mut server.server);
        let Request { id, command } = server.server.poll_store_request(server.now)?;
        let Command::Renew { profile: Profile { url, takes_rooms, .. }, secret, .. } = command else { panic!() };
        let reply = Reply::Renewed { renewal: Renewal::Since(1), secret, store_time: 1 };
        server.server.handle_store_reply(server.now, id, Some(reply));
        Some((url, takes_rooms))
    };
    server.until("ready", |_| sidecar.steps() == ["ready"]);
    assert_eq!(told(&mut server), Some((String::new(), false)), "there is no port for the websocket");
    assert!(server.gives("203.0.113.7:7200"));
    for (address, url) in [
        ("203.0.113.7", "ws://203.0.113.7:7100"),
        ("localhost", "ws://localhost:7100"),
        ("2001:db8::7", "ws://[2001:db8::7]:7100"),
    ] {
        sidecar.seen().address = address.to_owned();
        sidecar.seen().ports = vec![("udp", 7200), ("tcp", 7100)];
        sidecar.seen().tell();
        server
            .until("an address", |server| server.reporter.given.as_ref().is_some_and(|given| given.address == address));
        assert_eq!(told(&mut server), Some((url.to_owned(), true)));
    }
    let place = |address: &str| Place { address: address.to_owned(), udp: None, tcp: Some(1) };
    assert_eq!(place("192.0.2.1").url(true).as_deref(), Ok("wss://192.0.2.1:1"));
    assert!(place("no host").url(true).is_err());
}

#[test]
fn a_sidecar_that_is_not_there_yet_is_found_later() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut server = Stepped::new(free, ADDRESSES);
    for _ in 0..3 {
        server.look();
        server.wait(RETRY.1);
    }
    let Figures { is_watched, done, refused, unanswered, malformed } = server.figures();
    assert!(!is_watched && (done, refused, malformed) == (0, 0, 0) && unanswered >= 6, "{:?}", server.figures());
    let sidecar = Sidecar::listen(free);
    server.until("ready", |_| sidecar.steps() == ["ready"]);
    assert_eq!(server.figures().unanswered, unanswered);
}

#[test]
fn each_failure_of_a_call_is_counted_and_retried() {
    for fault in [Fault::Silent, Fault::Error, Fault::Closing, Fault::Noise, Fault::Nonsense, Fault::Endless] {
        let sidecar = Sidecar::start();
        sidecar.break_down(Some(fault));
        let mut server = Stepped::new(sidecar.address, ADDRESSES);
        for _ in 0..2 {
            server.look();
            server.wait(RETRY.1);
        }
        let figures = server.figures();
        let counted = match fault {
            Fault::Silent | Fault::Closing => figures.unanswered,
            Fault::Error => figures.refused,
            Fault::Noise | Fault::Nonsense | Fault::Endless => figures.malformed,
        };
        assert!(counted >= 2 && sidecar.steps().is_empty(), "{fault:?}: {figures:?}");
        sidecar.break_down(None);
        server.until("ready", |_| sidecar.steps() == ["ready"]);
        // What fails later is tried again as well.
        sidecar.break_down(Some(if fault == Fault::Nonsense { Fault::Error } else { fault }));
        server.open(1, 1);
        server.wait(HEALTH_INTERVAL);
        server.look();
        assert_eq!(sidecar.steps(), ["ready"], "{fault:?}");
        sidecar.break_down(None);
        server.wait(RETRY.1);
        server.until("allocated", |_| sidecar.steps() == ["ready", "allocate"]);
    }
}

#[test]
fn each_failure_of_the_stream_is_counted_and_the_stream_opened_again() {
    for fault in [Fault::Silent, Fault::Error, Fault::Closing, Fault::Noise, Fault::Nonsense, Fault::Endless] {
        let sidecar = Sidecar::start();
        let mut server = Stepped::ready(&sidecar);
        server.until("watched", |server| server.figures().is_watched);
        let before = server.figures();
        sidecar.break_down(Some(fault));
        sidecar.seen().watchers.clear();
        // Other calls fail as well: only the stream is looked at.
        let deadline = Instant::now() + PATIENCE_OF_TESTS;
        let failed = |figures: Figures| match fault {
            Fault::Silent | Fault::Closing => figures.unanswered >= before.unanswered + 2,
            Fault::Error => figures.refused > before.refused,
            Fault::Noise | Fault::Nonsense | Fault::Endless => figures.malformed > before.malformed,
        };
        while !failed(server.figures()) {
            server.reporter.follow(server.now);
            server.wait(Duration::from_millis(100));
            thread::sleep(Duration::from_millis(5));
            assert!(Instant::now() < deadline, "{fault:?}: {:?}", server.figures());
        }
        assert!(!server.figures().is_watched, "{fault:?}");
        sidecar.break_down(None);
        server.until("watched again", |server| server.figures().is_watched);
        sidecar.seen().set_state("Allocated");
        server.until("told of changes", |server| server.reporter.state.as_deref() == Some(ALLOCATED));
    }
}

#[test]
fn lines_of_the_stream_are_read_wherever_they_are_cut() {
    let sidecar = Sidecar::start();
    let mut server = Stepped::ready(&sidecar);
    for state in ["One", "Two"] {
        let line = format!("\n{}\n", json!({ "result": { "status": { "state": state } } }));
        for byte in line.bytes() {
            let mut seen = sidecar.seen();
            seen.watchers[0].write_all(&[b"1\r\n", &[byte][..], b"\r\n"].concat()).unwrap();
            drop(seen);
            server.reporter.follow(server.now);
        }
        server.until("told", |server| server.reporter.state.as_deref() == Some(state));
    }
    let error = json!({ "error": { "code": 14, "message": "closing" } });
    let chunk = format!("{:x}\r\n{error}\n\r\n", error.to_string().len() + 1);
    sidecar.seen().watchers[0].write_all(chunk.as_bytes()).unwrap();
    server.until("an error", |server| server.figures().malformed == 1);
}

/// Plays nothing. A tick may wait for the test.
struct Stuck {
    entered: mpsc::Sender<()>,
    released: mpsc::Receiver<()>,
}

impl Game for Stuck {
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

    fn tick(&mut self, _: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {
        let _ = self.entered.send(());
        let _ = self.released.recv();
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE_OF_TESTS;
    while !is_so() {
        assert!(Instant::now() < deadline, "never {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a server until it ends.
fn run<G: Game>(
    sidecar: SocketAddr,
    mut game: impl FnMut() -> G + Send + 'static,
) -> (SocketAddr, Handle, JoinHandle<io::Result<()>>) {
    let (sender, started) = mpsc::channel();
    let thread = thread::spawn(move || {
        let drain = Duration::from_secs(3_600);
        let options = Options {
            listen: address("127.0.0.1:0"),
            agones: Some(sidecar),
            drain,
            max_rooms: 20,
            ..Options::default()
        };
        let driver = Driver::bind(options, move |_| Ok(game())).unwrap();
        sender.send((driver.local_addr(), driver.handle())).unwrap();
        driver.run()
    });
    let (at, handle) = started.recv().unwrap();
    (at, handle, thread)
}

/// A player in the room `a`.
fn join(server: SocketAddr) -> TcpStream {
    let mut page = TcpStream::connect(server).unwrap();
    let upgrade = "GET /r/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    page.write_all(upgrade.as_bytes()).unwrap();
    let message = json!({ "a": "join", "d": { "roomId": "a", "name": "Ada" } }).to_string();
    let frame = [&[0x81, 0x80 | u8::try_from(message.len()).unwrap(), 0, 0, 0, 0], message.as_bytes()].concat();
    page.write_all(&frame).unwrap();
    page
}

#[test]
fn a_server_reports_its_whole_life() {
    let sidecar = Sidecar::start();
    let (at, handle, server) = run(sidecar.address, || Relay);
    eventually("ready", || sidecar.steps() == ["ready"]);
    eventually("healthy", || sidecar.seen().health > 0);
    let _page = join(at);
    eventually("allocated", || sidecar.steps() == ["ready", "allocate"]);
    eventually("counted", || {
        let players = i64::try_from(20 * crate::limits::PLAYERS_PER_ROOM).unwrap();
        sidecar.counter("rooms") == (1, 20) && sidecar.counter("players") == (1, players)
    });
    handle.close_room("a", "it is over").unwrap();
    eventually("reserved", || sidecar.steps() == ["ready", "allocate", "reserve"]);
    eventually("empty", || sidecar.counter("rooms").0 == 0 && sidecar.counter("players").0 == 0);
    let _page = join(at);
    eventually("allocated", || sidecar.steps().len() == 4);
    sidecar.seen().set_state("Shutdown");
    eventually("draining", || handle.is_stopping());
    assert!(!server.is_finished(), "it waits for its room");
    handle.close_room("a", "it is over").unwrap();
    server.join().unwrap().unwrap();
    assert_eq!(sidecar.steps().last().map(String::as_str), Some("shutdown"));
}

#[test]
fn a_loop_that_hangs_is_not_healthy() {
    let sidecar = Sidecar::start();
    let (entered, in_tick) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let mut released = Some(released);
    let (at, handle, server) =
        run(sidecar.address, move || Stuck { entered: entered.clone(), released: released.take().expect("one room") });
    eventually("healthy", || sidecar.seen().health > 0);
    let _page = join(at);
    in_tick.recv_timeout(PATIENCE_OF_TESTS).unwrap();
    // The loop has run since the last report.
    thread::sleep(HEALTH_INTERVAL + LOOK_INTERVAL * 2);
    let before = sidecar.seen().health;
    thread::sleep(HEALTH_INTERVAL * 2);
    assert_eq!(sidecar.seen().health, before);
    drop(release);
    eventually("healthy again", || sidecar.seen().health > before);
    handle.shutdown();
    server.join().unwrap().unwrap();
}

#[test]
fn a_sidecar_that_does_not_answer_does_not_keep_a_server_from_its_end() {
    let sidecar = Sidecar::start();
    sidecar.break_down(Some(Fault::Silent));
    let (_, handle, server) = run(sidecar.address, || Relay);
    eventually("asked", || sidecar.seen().hit > 0);
    handle.shutdown();
    server.join().unwrap().unwrap();
    assert_eq!(sidecar.steps(), [""; 0]);
}
