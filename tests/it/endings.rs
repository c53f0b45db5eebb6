//! How connections, sessions and rooms end, whatever ends them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rtcade::game::{Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick, Welcome};
use rtcade::limits;
use rtcade::server::{Connect, ConnectionId, Disconnect, Server, Signal};
use rtcade::sim::{SERVER, Simulation};
use rtcade::wire::codes::CLOSE_REFUSED;
use rtcade::wire::frame::Kind;
use rtcade::wire::signaling::RoomName;

const MS: Duration = Duration::from_millis(1);
const TICK: Duration = Duration::from_secs(1);

/// Notes who leaves, and why.
#[derive(Clone, Default)]
struct Witness(Rc<RefCell<Vec<(PlayerId, Leave)>>>);

impl Game for Witness {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = ();

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join) -> Result<Welcome, Refusal> {
        Ok(Welcome::default())
    }

    fn leave(&mut self, _: &mut Context<Self>, player: PlayerId, reason: Leave) {
        self.0.borrow_mut().push((player, reason));
    }

    fn tick(&mut self, _: &mut Context<Self>, _: Tick, _: &[Incoming<Self>]) {}
}

/// A server with websockets that are read only when asked.
struct Hall {
    sim: Simulation<Witness>,
    left: Witness,
}

impl Hall {
    fn new() -> Hall {
        let left = Witness::default();
        let game = left.clone();
        let sim = Simulation::with_config(1, |config| config.tick = TICK, move |_| Ok(game.clone()));
        Hall { sim, left }
    }

    fn now(&self) -> Instant {
        self.sim.now()
    }

    fn server(&mut self) -> &mut Server<Witness> {
        &mut self.sim.server
    }

    fn connect(&mut self, number: u64) -> ConnectionId {
        let (now, id) = (self.now(), ConnectionId(number));
        let remote = SocketAddr::from(([10, 7, 0, u8::try_from(number % 256).unwrap()], 40_000));
        let connect = Connect { room: RoomName::parse("hall"), remote, local: SERVER.ip(), headers: Vec::new() };
        self.server().handle_connect(now, id, connect);
        id
    }

    fn join(&mut self, number: u64) -> ConnectionId {
        let id = self.connect(number);
        self.say(id, r#"{"a":"join","d":{}}"#);
        self.sim.run(2 * TICK);
        self.read(id);
        id
    }

    fn say(&mut self, id: ConnectionId, text: &str) {
        let now = self.now();
        self.server().handle_text(now, id, text);
    }

    /// Takes everything that waits for a websocket: how many bytes of it are reliable.
    fn read(&mut self, id: ConnectionId) -> usize {
        let bytes = |signal| match signal {
            Signal::Text(text) => text.len(),
            Signal::Binary(bytes) if bytes[0] & 0x0f == Kind::Ack as u8 => bytes.len(),
            _ => 0,
        };
        std::iter::from_fn(|| self.server().poll_signal(id)).map(bytes).sum()
    }
}

/// A request that is refused with a reply of about so many bytes.
fn refused_request(reply_bytes: usize) -> String {
    match reply_bytes {
        0..1_000 => r#"{"a":"z"}"#.to_owned(),
        _ => format!(r#"{{"a":"exchangeSdp","d":"{}"}}"#, "x".repeat((reply_bytes - 500).min(15_000))),
    }
}

/// The queue of one player who doesn't read is filled up to a few bytes, so that the news of another's end overfills
/// it; then its connection goes.
#[test]
fn a_connection_that_another_ones_end_overfills_may_go_at_once() {
    let mut hall = Hall::new();
    let (reader, idler) = (hall.join(1), hall.join(2));
    hall.read(reader);
    hall.read(idler);
    let mut left = limits::RELIABLE_QUEUE_BYTES;
    loop {
        let request = refused_request(left);
        hall.say(reader, &request);
        let bytes = hall.read(reader);
        if left < bytes {
            break;
        }
        left -= bytes;
        hall.say(idler, &request);
        hall.sim.run(25 * MS);
        left -= hall.read(reader);
    }
    for _ in 0..=2 * limits::SIGNALS_PER_SECOND {
        hall.say(reader, r#"{"a":"z"}"#);
    }
    let now = hall.now();
    hall.server().handle_disconnect(now, idler, Disconnect::Lost);
    hall.server().handle_disconnect(now, reader, Disconnect::Lost);
    hall.sim.run(limits::RESUME_GRACE + 2 * TICK);
    assert_eq!(hall.server().gauges().players, 0);
    let mut left: Vec<PlayerId> = hall.left.0.borrow().iter().map(|&(player, _)| player).collect();
    left.sort();
    assert_eq!(left, [PlayerId(1), PlayerId(2)], "each leaves once");
}

/// What a game saves when a player leaves would be lost.
#[test]
fn each_player_leaves_the_game_once_when_the_server_stops() {
    let mut hall = Hall::new();
    let (there, away) = (hall.join(1), hall.join(2));
    let now = hall.now();
    hall.server().handle_disconnect(now, away, Disconnect::Lost);
    let asking = hall.connect(3);
    hall.say(asking, r#"{"a":"join","d":{}}"#);
    let now = hall.now();
    hall.server().handle_shutdown(now);
    assert_eq!(*hall.left.0.borrow(), [(PlayerId(1), Leave::Shutdown), (PlayerId(2), Leave::Shutdown)]);
    let gauges = hall.server().gauges();
    assert_eq!((gauges.players, gauges.rooms), (0, 0));
    for (id, code) in [(there, Leave::Shutdown.close_code()), (asking, CLOSE_REFUSED)] {
        let last = std::iter::from_fn(|| hall.server().poll_signal(id)).last();
        assert!(matches!(last, Some(Signal::Close { code: closed, .. }) if closed == code), "{id:?}: {last:?}");
    }
}

#[test]
fn a_room_that_is_closed_tells_everybody_and_makes_place_for_a_new_one() {
    let mut hall = Hall::new();
    let (there, away) = (hall.join(1), hall.join(2));
    let now = hall.now();
    hall.server().handle_disconnect(now, away, Disconnect::Lost);
    let room = RoomName::parse("hall").unwrap();
    hall.server().handle_close_room(now, &room, "The match is over.");
    assert_eq!(*hall.left.0.borrow(), [(PlayerId(1), Leave::RoomClosed), (PlayerId(2), Leave::RoomClosed)]);
    assert_eq!(hall.server().rooms().count(), 0);
    let last = std::iter::from_fn(|| hall.server().poll_signal(there)).last();
    let closed = Signal::Close { code: Leave::RoomClosed.close_code(), reason: "The match is over.".to_owned() };
    assert_eq!(last, Some(closed));
    hall.server().handle_close_room(now, &room, "There is none.");
    hall.join(3);
    let rooms: Vec<_> = hall.server().rooms().collect();
    assert_eq!((rooms.len(), rooms[0].players, rooms[0].listed), (1, 1, false));
}

#[test]
fn a_connection_whose_name_is_used_again_is_gone() {
    let mut hall = Hall::new();
    hall.join(1);
    hall.join(2);
    hall.connect(1);
    let gauges = hall.server().gauges();
    assert_eq!((gauges.connections, gauges.players), (2, 2));
    hall.sim.run(limits::RESUME_GRACE + 2 * TICK);
    assert_eq!(hall.left.0.borrow().first(), Some(&(PlayerId(1), Leave::Closed)));
}

/// A stranger's connection holds little of what the server keeps for players.
#[test]
fn a_connection_that_has_not_joined_is_closed_past_its_own_queue() {
    let mut hall = Hall::new();
    let stranger = hall.connect(9);
    for _ in 0..2 * limits::UNJOINED_QUEUE_BYTES / 15_000 {
        hall.say(stranger, &refused_request(15_000));
        assert!(hall.server().gauges().queued_bytes <= limits::UNJOINED_QUEUE_BYTES);
    }
    assert_eq!(hall.server().counters().overfull_connections, 1);
    let last = std::iter::from_fn(|| hall.server().poll_signal(stranger)).last();
    assert!(matches!(last, Some(Signal::Close { code: 4002, .. })), "{last:?}");
}
