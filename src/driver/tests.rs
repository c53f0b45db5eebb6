#![expect(clippy::disallowed_types, reason = "the other end of the sockets is here")]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::*;
use crate::game::{Batch, Context as GameContext, Join, Leave, PlayerId, Tick};
use crate::hooks::{Arrival, Decision};

const TICK: Duration = Duration::from_millis(33);
const UPGRADE: &str = "GET /r/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_stopped_process_is_told_from_a_busy_one() {
    let now = Instant::now();
    let gap_after = |late| gap(now + late, Some(now));
    let more = limits::CLOCK_GAP + Duration::from_nanos(1);
    assert_eq!(gap(now, None), None);
    assert_eq!(gap(now, Some(now + more)), None);
    assert_eq!(gap_after(limits::CLOCK_GAP), None);
    assert_eq!(gap_after(more), Some(more));
}

/// What happened, in order: ticks, and requests to join.
type Log = Rc<RefCell<Vec<&'static str>>>;

struct Metronome(Log);

impl Game for Metronome {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut GameContext<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut GameContext<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, _: &mut GameContext<Self>, _: Tick, _: Batch<'_, Self>) {
        self.0.borrow_mut().push("tick");
    }
}

struct Asked(Log);

impl Hooks for Asked {
    fn accept(&mut self, _: &Arrival<'_>) -> Decision {
        self.0.borrow_mut().push("asked");
        Decision::Accept(Value::Null)
    }
}

/// A driver whose turns and time are the test's.
struct Stepped {
    driver: Driver<Metronome>,
    events: Events,
    now: Instant,
    log: Log,
    /// Of connections as from other addresses.
    security: Security,
}

impl Stepped {
    fn new(page: String) -> Stepped {
        Stepped::with(Options { page: page.into(), ..Options::default() })
    }

    fn with(options: Options) -> Stepped {
        let log = Log::default();
        let of_game = Rc::clone(&log);
        let options = Options { listen: ([127, 0, 0, 1], 0).into(), ..options };
        let mut driver = Driver::bind(options, move |_| Ok(Metronome(Rc::clone(&of_game)))).expect("bound");
        driver.set_hooks(Asked(Rc::clone(&log)));
        Stepped { driver, events: Events::with_capacity(EVENTS), now: Instant::now(), log, security: Security::None }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.driver.local_addr()).expect("listening");
        socket.set_nonblocking(true).expect("set");
        // What is sent in pieces arrives without waiting for the first to be acknowledged.
        socket.set_nodelay(true).expect("set");
        socket
    }

    /// One turn at this time. What was logged in it.
    fn turn(&mut self) -> Vec<&'static str> {
        self.driver.wait(&mut self.events, Some(Duration::ZERO)).expect("polled");
        self.driver.turn(self.now);
        self.log.take()
    }

    /// Turns without time passing, until there is nothing more to do.
    fn rest(&mut self) {
        let mut idle = 0;
        while idle < 3 {
            self.turn();
            idle = if self.driver.is_busy() { 0 } else { idle + 1 };
        }
    }

    /// Asks to join over a websocket of its own.
    fn ask(&mut self) -> TcpStream {
        let mut player = self.connect();
        player.write_all(UPGRADE.as_bytes()).expect("taken");
        self.rest();
        player.write_all(&[&[0x81, 0x80 | 12, 0, 0, 0, 0][..], br#"{"a":"join"}"#].concat()).expect("taken");
        player
    }
}

/// Bytes that have arrived.
fn drained(socket: &mut TcpStream) -> usize {
    let mut buffer = vec![0; 1024 * 1024];
    let mut length = 0;
    while let Ok(read @ 1..) = socket.read(&mut buffer) {
        length += read;
    }
    length
}

#[test]
fn a_tick_that_is_due_runs_before_what_came_over_tcp() {
    let mut server = Stepped::new("page".to_owned());
    let _player = server.ask();
    server.rest();
    server.now += TICK;
    assert_eq!(server.turn(), ["tick"]);
    let _late = server.ask();
    server.now += TICK;
    assert_eq!(server.turn(), ["tick", "asked"]);
}

#[test]
fn pipelined_requests_are_served_in_turns_with_every_tick_between_them() {
    const CLIENTS: usize = 40;
    const REQUESTS: usize = 4;
    const PAGE: usize = 20_000;
    let mut server = Stepped::new("x".repeat(PAGE));
    let _player = server.ask();
    server.rest();
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.write_all("GET /r/b HTTP/1.1\r\nHost: h\r\n\r\n".repeat(REQUESTS).as_bytes()).expect("taken");
    }
    let mut received = [0; CLIENTS];
    let mut turns = 0;
    while received.iter().sum::<usize>() < CLIENTS * REQUESTS * PAGE {
        server.now += TICK;
        assert_eq!(server.turn(), ["tick"], "in turn {turns}");
        let before: usize = received.iter().sum();
        clients.iter_mut().zip(&mut received).for_each(|(client, received)| *received += drained(client));
        let written = received.iter().sum::<usize>() - before;
        assert!(written <= limits::TURN_WORK + limits::TURN_SHARE, "{written} bytes in turn {turns}");
        turns += 1;
        assert!(turns < 10_000, "{received:?}");
    }
    assert!(turns >= CLIENTS * REQUESTS * (PAGE + limits::REQUEST_WORK) / (limits::TURN_WORK + limits::TURN_SHARE));
}

#[test]
fn connections_are_served_one_after_the_other_over_many_turns() {
    const CLIENTS: usize = 60;
    let mut server = Stepped::new("x".repeat(100_000));
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    server.rest();
    for client in &mut clients {
        client.write_all("GET /r/b HTTP/1.1\r\nHost: h\r\n\r\n".repeat(3).as_bytes()).expect("taken");
    }
    let mut received = [0; CLIENTS];
    let round = (CLIENTS * limits::TURN_SHARE).div_ceil(limits::TURN_WORK);
    for number in 0..5 {
        // The share of a request may end before its response begins.
        (0..2 * round).for_each(|_| drop(server.turn()));
        for (client, received) in clients.iter_mut().zip(&mut received) {
            let new = drained(client);
            assert!(new > 0, "round {number}: {received} and then nothing");
            *received += new;
        }
    }
}

#[test]
fn tls_handshakes_are_done_in_turns_with_every_tick_between_them() {
    const CLIENTS: usize = 40;
    for is_given_up in [false, true] {
        let mut server = Stepped::new("page".to_owned());
        let _player = server.ask();
        server.rest();
        let (acceptor, config) = tls::tests::acceptor("turns");
        for listener in &mut server.driver.listeners {
            listener.security = Security::Tls(Rc::clone(&acceptor));
        }
        server.driver.tls = Some(acceptor);
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| (server.connect(), tls::tests::client(&config))).collect();
        for (socket, session) in &mut clients {
            while session.wants_write() {
                session.write_tls(socket).expect("taken");
            }
            if is_given_up {
                socket.shutdown(std::net::Shutdown::Write).expect("open");
            }
        }
        let (mut answered, mut turns) = (0, 0);
        while answered < CLIENTS {
            server.now += TICK;
            assert_eq!(server.turn(), ["tick"], "in turn {turns}");
            let new = clients.iter_mut().map(|(socket, _)| drained(socket)).filter(|length| *length > 0).count();
            // Each is charged before the next begins.
            assert!(new <= limits::TURN_WORK.div_ceil(limits::TLS_HANDSHAKE_WORK), "{new} in turn {turns}");
            answered += new;
            turns += 1;
            assert!(turns < 10_000, "{answered}");
        }
    }
}

#[test]
fn a_lost_player_keeps_the_place_for_as_long_as_is_set() {
    let grace = Duration::from_secs(100);
    let mut server = Stepped::with(Options { grace, max_rooms: 1, ..Options::default() });
    let mut player = server.ask();
    server.rest();
    server.now += TICK;
    server.rest();
    assert!(drained(&mut player) > 0);
    assert_eq!(server.driver.server.gauges().players, 1);
    drop(player);
    server.rest();
    for (later, players) in [(grace - TICK, 1), (TICK, 0)] {
        server.now += later;
        server.rest();
        assert_eq!(server.driver.server.gauges().players, players);
    }
}

#[test]
fn a_number_out_of_its_range_is_refused_at_the_start() {
    let bind =
        |options: Options| Driver::bind(options, |_| Ok(Metronome(Log::default()))).err().map(|it| it.to_string());
    let defaults = || Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() };
    for (options, expected) in [
        (Options { grace: Duration::ZERO, ..defaults() }, "--grace SECONDS"),
        (Options { grace: Duration::from_secs(3_601), ..defaults() }, "choose 1 to 3600 s"),
        (Options { max_rooms: 0, ..defaults() }, "--max-rooms N"),
        (Options { max_rooms: limits::ROOMS + 1, ..defaults() }, "choose 1 to 4096"),
        (Options { max_players: 0, ..defaults() }, "--max-players N"),
    ] {
        assert!(bind(options).expect("refused").contains(expected), "{expected}");
    }
}

#[test]
fn an_address_with_too_many_tls_handshakes_waits_and_then_gets_none() {
    let mut server = Stepped::new("page".to_owned());
    let (acceptor, config) = tls::tests::acceptor("flood");
    server.driver.tls = Some(Rc::clone(&acceptor));
    server.security = Security::Tls(Rc::clone(&acceptor));
    let hello = || {
        let mut bytes = Vec::new();
        tls::tests::client(&config).write_tls(&mut bytes).expect("a hello");
        bytes
    };
    let greet = |server: &mut Stepped, address: &str| {
        let mut socket = server.accept_from(address);
        // It may be closed already.
        let _ = socket.write_all(&hello());
        server.rest();
        socket
    };
    // Each ends at once, so that the limit of open connections is not in the way.
    let at_once = limits::TLS_HANDSHAKES_PER_ADDRESS_AT_ONCE;
    for number in 0..at_once {
        assert!(drained(&mut greet(&mut server, "192.0.2.1")) > 0, "{number}");
        server.rest();
    }
    let mut waiting = greet(&mut server, "192.0.2.1");
    assert_eq!(drained(&mut waiting), 0);
    // What arrives meanwhile does not shorten the wait, nor is the time for the request shorter after it.
    let mut silent = server.accept_from("192.0.2.1");
    let wait = Duration::from_secs(1) / limits::TLS_HANDSHAKES_PER_ADDRESS_PER_SECOND;
    server.now += wait - Duration::from_millis(1);
    server.rest();
    assert_eq!((drained(&mut waiting), acceptor.handshakes().unfinished), (0, u64::from(at_once)));
    server.now += Duration::from_millis(1);
    server.rest();
    assert!(drained(&mut waiting) > 0);
    server.now += wait;
    server.rest();
    assert!(drained(&mut greet(&mut server, "192.0.2.2")) > 0, "others are not affected");
    server.now += Duration::from_secs(5);
    server.rest();
    assert_eq!(is_at_end(&mut silent), Some(true));

    let before = acceptor.handshakes();
    let most = at_once + limits::TLS_HANDSHAKES_PER_ADDRESS_PER_SECOND * 2;
    let closed = (0..2 * most).filter(|_| is_at_end(&mut server.accept_from("192.0.2.1")).is_some()).count();
    assert_eq!(acceptor.handshakes().excess - before.excess, u64::from(most));
    assert_eq!(closed, most as usize, "without a byte");
}

#[test]
fn a_hundred_players_of_one_address_come_back_at_once_by_tls() {
    const PLAYERS: usize = 100;
    let mut server = Stepped::with(Options { max_players: PLAYERS, ..Options::default() });
    let (acceptor, config) = tls::tests::acceptor("crowd");
    server.driver.tls = Some(Rc::clone(&acceptor));
    server.security = Security::Tls(acceptor);
    let mut missing: Vec<usize> = (0..PLAYERS).collect();
    let mut open = Vec::new();
    for round in 0..5 {
        let mut pages: Vec<_> = missing
            .drain(..)
            .map(|player| {
                let mut session = tls::tests::client(&config);
                let join = [&[0x81, 0x80 | 12, 0, 0, 0, 0][..], br#"{"a":"join"}"#].concat();
                session.writer().write_all(&[UPGRADE.as_bytes(), &join].concat()).expect("buffered");
                (player, server.accept_from("192.0.2.1"), session, String::new())
            })
            .collect();
        for _ in 0..10 {
            for (_, socket, session, text) in &mut pages {
                while session.wants_write() && session.write_tls(socket).is_ok() {}
                while let Ok(1..) = session.read_tls(socket) {
                    session.process_new_packets().expect("TLS");
                    let mut bytes = [0; 2048];
                    if let Ok(length) = session.reader().read(&mut bytes) {
                        text.push_str(&String::from_utf8_lossy(&bytes[..length]));
                    }
                }
            }
            server.now += TICK;
            server.rest();
        }
        for (player, socket, session, text) in pages {
            let is_in = text.contains(r#""a":"joinR","s":true"#);
            assert!(is_in || text.contains("rate_limited"), "player {player} in round {round}: {text}");
            // As pages do, who is refused comes again.
            if is_in { open.push((socket, session)) } else { missing.push(player) }
        }
        if missing.is_empty() {
            return;
        }
        server.now += Duration::from_secs(5);
        server.rest();
    }
    panic!("{} of {PLAYERS} are not in", missing.len());
}

#[test]
fn connections_that_time_out_together_end_over_several_turns() {
    const CLIENTS: usize = 50;
    let mut server = Stepped::new("page".to_owned());
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    server.rest();
    server.now += Duration::from_secs(10);
    // They are told, and closed later.
    server.rest();
    server.now += CLOSE_TIMEOUT;
    let open = |server: &Stepped| server.driver.connections.len();
    assert_eq!(open(&server), CLIENTS);
    server.turn();
    let most = limits::TURN_WORK / limits::REQUEST_WORK;
    assert_eq!(open(&server), CLIENTS - most);
    server.rest();
    assert_eq!(open(&server), 0);
    drop(clients);
}

const ASK: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

/// Whether the other end has closed in order: `None` while it is open.
fn is_at_end(socket: &mut TcpStream) -> Option<bool> {
    match socket.read(&mut [0; 1]) {
        Ok(read) => Some(read == 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(false),
    }
}

impl Stepped {
    /// A request on this connection; the response is taken.
    fn is_served(&mut self, client: &mut TcpStream) -> bool {
        client.write_all(ASK).expect("taken");
        self.rest();
        let mut response = [0; 1024];
        let length = client.read(&mut response).unwrap_or_default();
        response[..length].starts_with(b"HTTP/1.1 200 ")
    }

    /// A connection as from this address, from which none can come here.
    fn accept_from(&mut self, remote: &str) -> TcpStream {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        client.set_nonblocking(true).expect("set");
        client.set_nodelay(true).expect("set");
        let (accepted, _) = listener.accept().expect("connected");
        accepted.set_nonblocking(true).expect("set");
        accepted.set_nodelay(true).expect("set");
        let remote = SocketAddr::new(remote.parse().expect("an address"), 9);
        let socket = mio::net::TcpStream::from_std(accepted);
        let entrance = Entrance { ip: Ipv4Addr::LOCALHOST.into(), role: Role::Game };
        self.driver.connections.handle_accepted(
            self.now,
            self.driver.poll.registry(),
            Socket::new(socket, &self.security),
            remote,
            entrance,
        );
        self.rest();
        client
    }
}

#[test]
fn a_connection_waits_for_its_next_request_for_as_long_as_is_said_and_then_ends_in_order() {
    let mut server = Stepped::new("page".to_owned());
    let mut client = server.connect();
    let just = Duration::from_millis(1);
    for _ in 0..2 {
        assert!(server.is_served(&mut client));
        server.now += limits::KEEP_ALIVE - just;
        server.rest();
        assert_eq!(is_at_end(&mut client), None);
    }
    server.now += just;
    server.rest();
    assert_eq!(is_at_end(&mut client), Some(true));
    client.write_all(ASK).expect("a request that was on its way");
    server.rest();
    assert_eq!(is_at_end(&mut client), Some(true), "no reset");
    server.now += CLOSE_TIMEOUT;
    server.rest();
    assert!(server.driver.connections.is_empty());
}

#[test]
fn a_request_that_has_begun_has_no_more_time_than_the_first() {
    let mut server = Stepped::new("page".to_owned());
    let mut client = server.connect();
    assert!(server.is_served(&mut client));
    server.now += Duration::from_secs(60);
    client.write_all(b"GET /").expect("taken");
    server.rest();
    server.now += Duration::from_secs(5);
    server.rest();
    let mut response = [0; 1024];
    let length = client.read(&mut response).expect("an answer");
    assert!(response[..length].starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn idle_connections_give_their_places_to_others_the_oldest_first() {
    let mut server = Stepped::new("page".to_owned());
    server.driver.connections.set_places(3);
    let mut clients: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    for number in [1, 0, 2] {
        server.now += TICK;
        assert!(server.is_served(&mut clients[number]));
    }
    let mut late = server.connect();
    assert!(server.is_served(&mut late));
    let ends: Vec<_> = clients.iter_mut().map(is_at_end).collect();
    assert_eq!(ends, [None, Some(true), None]);
    let mut begun = [clients.remove(0), clients.remove(1), late];
    for client in &mut begun {
        client.write_all(&ASK[..5]).expect("taken");
        server.rest();
    }
    let mut refused = server.connect();
    refused.write_all(ASK).expect("taken");
    server.rest();
    let mut response = [0; 1024];
    let length = refused.read(&mut response).expect("an answer");
    assert!(response[..length].starts_with(b"HTTP/1.1 503 "), "who has begun a request is not put out");
    for client in &mut begun {
        client.write_all(&ASK[5..]).expect("taken");
        server.rest();
        assert!(drained(client) > 0);
    }
    server.driver.connections.handle_shortage();
    let ends: Vec<_> = begun.iter_mut().map(is_at_end).collect();
    assert_eq!(ends, [Some(true); 3], "the operating system's places are scarce");
}

#[test]
fn a_page_without_a_place_learns_why_over_its_websocket() {
    let mut server = Stepped::new("page".to_owned());
    server.driver.connections.set_places(0);
    let mut page = server.connect();
    page.write_all(UPGRADE.as_bytes()).expect("taken");
    server.rest();
    let mut bytes = [0; 2048];
    let length = page.read(&mut bytes).expect("an answer");
    let told = String::from_utf8_lossy(&bytes[..length]);
    assert!(told.starts_with("HTTP/1.1 101 ") && told.contains(r#""a":"joinR","s":false,"e":"room_full","#), "{told}");
    assert!(told.contains(r#""retryAfter":5000"#) && told.ends_with("room_full"), "{told}");
    let mut silent = server.connect();
    server.rest();
    server.now += Duration::from_secs(6);
    server.rest();
    assert_eq!(is_at_end(&mut silent), Some(true), "who asks for nothing keeps no place for it");
}

#[test]
fn an_address_makes_its_own_idle_connections_give_way_and_no_others() {
    let mut server = Stepped::new("page".to_owned());
    let mut other = server.accept_from("192.0.2.2");
    assert!(server.is_served(&mut other));
    let mut clients = Vec::new();
    for _ in 0..limits::UNJOINED_PER_ADDRESS {
        server.now += Duration::from_millis(1);
        let mut client = server.accept_from("192.0.2.1");
        assert!(server.is_served(&mut client));
        clients.push(client);
    }
    assert!(clients.iter_mut().all(|client| is_at_end(client).is_none()));
    clients.iter_mut().for_each(|client| client.write_all(&ASK[..5]).expect("taken"));
    server.rest();
    let mut refused = server.accept_from("192.0.2.1");
    refused.write_all(ASK).expect("taken");
    server.rest();
    assert!(drained(&mut refused) > 0 && is_at_end(&mut refused) == Some(true), "all of them are busy");
    clients.iter_mut().for_each(|client| client.write_all(&ASK[5..]).expect("taken"));
    server.rest();
    clients.iter_mut().for_each(|client| assert!(drained(client) > 0));
    let mut next = server.accept_from("192.0.2.1");
    assert!(server.is_served(&mut next));
    assert_eq!(clients.iter_mut().filter_map(is_at_end).collect::<Vec<_>>(), [true]);
    assert_eq!(is_at_end(&mut other), None);
    assert!(server.is_served(&mut other));
}

#[test]
fn those_who_never_ask_anything_are_not_kept() {
    let mut server = Stepped::new("page".to_owned());
    let mut silent = server.connect();
    server.rest();
    server.now += Duration::from_secs(5);
    server.rest();
    assert_eq!(is_at_end(&mut silent), Some(true));
}

#[test]
fn ticks_that_are_skipped_are_told_with_their_cause() {
    let ms = Duration::from_millis;
    let slept = skipped(180, ms(2_984), ms(3_000)).expect("told");
    assert!(slept.starts_with("180 ticks were skipped, as they came 2984 ms late: the ticks before took 3000 ms;"));
    assert!(skipped(180, ms(2_984), ms(2)).expect("told").ends_with("the process was stopped"));
    assert_eq!(skipped(1, limits::CLOCK_GAP, ms(0)), None, "a hitch");
    assert_eq!(skipped(0, ms(3_000), ms(0)), None);
}
