#![expect(clippy::disallowed_types, reason = "the other end of the sockets is here")]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::*;
use crate::game::{Context as GameContext, Incoming, Join, Leave, PlayerId, Tick, Welcome};
use crate::hooks::Arrival;

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

    fn join(&mut self, _: &mut GameContext<Self>, _: PlayerId, _: &Join) -> Result<Welcome, Refusal> {
        Ok(Welcome::default())
    }

    fn leave(&mut self, _: &mut GameContext<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, _: &mut GameContext<Self>, _: Tick, _: &[Incoming<Self>]) {
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
}

impl Stepped {
    fn new(page: String) -> Stepped {
        let log = Log::default();
        let of_game = Rc::clone(&log);
        let options = Options { listen: ([127, 0, 0, 1], 0).into(), page: page.into(), ..Options::default() };
        let mut driver = Driver::bind(options, move |_| Ok(Metronome(Rc::clone(&of_game)))).expect("bound");
        driver.set_hooks(Asked(Rc::clone(&log)));
        Stepped { driver, events: Events::with_capacity(EVENTS), now: Instant::now(), log }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.driver.local_addr()).expect("listening");
        socket.set_nonblocking(true).expect("set");
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
fn connections_that_time_out_together_end_over_several_turns() {
    const CLIENTS: usize = 50;
    let mut server = Stepped::new("page".to_owned());
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    server.rest();
    server.now += Duration::from_secs(10);
    let open = |server: &Stepped| server.driver.connections.len();
    assert_eq!(open(&server), CLIENTS);
    server.turn();
    let most = limits::TURN_WORK / limits::REQUEST_WORK;
    assert_eq!(open(&server), CLIENTS - most);
    server.rest();
    assert_eq!(open(&server), 0);
    drop(clients);
}
