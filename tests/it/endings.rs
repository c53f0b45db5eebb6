//! The ends of connections, sessions and rooms, whatever the cause.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rtcade::game::{Batch, Context, Game, Join, Lane, Leave, PlayerId, Refusal, Target, Tick};
use rtcade::limits;
use rtcade::server::{Connect, ConnectionId, Disconnect, Server, Signal};
use rtcade::sim::{SERVER, Simulation};
use rtcade::wire::codes::CLOSE_REFUSED;
use rtcade::wire::signaling::RoomName;

const MS: Duration = Duration::from_millis(1);
const TICK: Duration = Duration::from_secs(1);

/// Notes who leaves, and why, and tells players what it is asked to.
#[derive(Clone, Default)]
struct Witness {
    left: Rc<RefCell<Vec<(PlayerId, Leave)>>>,
    /// The times after which rooms are closed that drain.
    drains: Rc<RefCell<Vec<Duration>>>,
    /// Bytes of events that players are to be told in the next tick.
    events: Rc<RefCell<Vec<(PlayerId, usize)>>>,
}

impl Game for Witness {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = String;
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, player: PlayerId, reason: Leave) {
        self.left.borrow_mut().push((player, reason));
    }

    fn drain(&mut self, _: &mut Context<Self>, time: Duration) {
        self.drains.borrow_mut().push(time);
    }

    fn tick(&mut self, ctx: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {
        for (player, bytes) in self.events.take() {
            ctx.event(Target::One(player), &"x".repeat(bytes), Lane::Reliable).unwrap();
        }
    }
}

/// A server with websockets that are read only when asked.
struct Hall {
    sim: Simulation<Witness>,
    game: Witness,
}

impl Hall {
    fn new() -> Hall {
        let game = Witness::default();
        let of_room = game.clone();
        let sim = Simulation::with_config(1, |config| config.tick = TICK, move |_| Ok(of_room.clone()));
        Hall { sim, game }
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
        let connect = Connect::new(RoomName::parse("hall"), remote, SERVER.ip());
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

    /// Takes everything that waits for a websocket.
    fn read(&mut self, id: ConnectionId) {
        while self.server().poll_signal(id).is_some() {}
    }

    /// Bytes for which the queue of a websocket has room.
    fn room(&mut self, id: ConnectionId) -> usize {
        limits::RELIABLE_QUEUE_BYTES - self.server().queued_bytes(id)
    }

    /// Fills the queue of a player who doesn't read up to so many bytes.
    fn fill(&mut self, id: ConnectionId, player: PlayerId, left: usize, others: &[ConnectionId]) {
        // What is around a text of more than 64 KiB in a frame: kind, seq, tick; array, tick; marker and length.
        const AROUND: usize = limits::RELIABLE_HEADER_BYTES + 2 + 5;
        while self.room(id) > left + 100_000 {
            let bytes = (self.room(id) - left - AROUND).min(1_000_000);
            self.game.events.borrow_mut().push((player, bytes));
            // Or the players would be given up.
            self.say(id, r#"{"a":"z"}"#);
            others.iter().for_each(|&other| self.say(other, r#"{"a":"z"}"#));
            self.sim.run(TICK);
        }
    }
}

/// The queue of one player who doesn't read is filled up to a few bytes, so that the news of another's end overfills
/// it; then its connection goes.
#[test]
fn a_connection_that_another_ones_end_overfills_may_go_at_once() {
    let mut hall = Hall::new();
    let (leaver, idler) = (hall.join(1), hall.join(2));
    hall.read(leaver);
    hall.read(idler);
    hall.fill(idler, PlayerId(2), 150, &[leaver]);
    assert!(hall.room(idler) < 120, "the news that somebody left doesn't fit: {}", hall.room(idler));
    let now = hall.now();
    for _ in 0..=2 * limits::SIGNALS_PER_SECOND {
        hall.say(leaver, r#"{"a":"z"}"#);
    }
    assert_eq!(hall.server().counters().overfull_connections, 1);
    hall.server().handle_disconnect(now, idler, Disconnect::Lost);
    hall.server().handle_disconnect(now, leaver, Disconnect::Lost);
    hall.sim.run(limits::RESUME_GRACE + 2 * TICK);
    assert_eq!(hall.server().gauges().players, 0);
    let mut left: Vec<PlayerId> = hall.game.left.borrow().iter().map(|&(player, _)| player).collect();
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
    let left = [1, 2, 3].map(|player| (PlayerId(player), Leave::Shutdown));
    assert_eq!(*hall.game.left.borrow(), left, "the one who asked to join, too, whom the game let in in its last tick");
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
    assert_eq!(*hall.game.left.borrow(), [(PlayerId(1), Leave::RoomClosed), (PlayerId(2), Leave::RoomClosed)]);
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
    assert_eq!(hall.game.left.borrow().first(), Some(&(PlayerId(1), Leave::Closed)));
}

/// A stranger's connection holds little of what the server keeps for players.
#[test]
fn a_connection_that_has_not_joined_is_closed_past_its_own_queue() {
    let mut hall = Hall::new();
    let stranger = hall.connect(9);
    while hall.server().counters().overfull_connections == 0 {
        hall.say(stranger, &format!(r#"{{"a":"{}"}}"#, "z".repeat(64)));
        assert!(hall.server().gauges().queued_bytes <= limits::UNJOINED_QUEUE_BYTES);
        hall.sim.run(1_000 * MS / limits::SIGNALS_PER_SECOND);
        assert!(hall.sim.elapsed() < limits::JOIN_TIMEOUT, "{:?}", hall.server().gauges());
    }
    let last = std::iter::from_fn(|| hall.server().poll_signal(stranger)).last();
    assert!(matches!(last, Some(Signal::Close { code: 4002, .. })), "{last:?}");
}

#[test]
fn a_server_that_drains_makes_no_room_and_ends_each_with_its_last_player() {
    let mut hall = Hall::new();
    let (there, away) = (hall.join(1), hall.join(2));
    let now = hall.now();
    hall.server().handle_disconnect(now, away, Disconnect::Lost);
    hall.server().handle_drain(now, 60 * TICK);
    let signals: Vec<Signal> = std::iter::from_fn(|| hall.server().poll_signal(there)).collect();
    let event = Signal::Text(r#"{"a":"eventDrain","d":{"deadline":60000}}"#.to_owned());
    assert_eq!(signals.iter().filter(|signal| **signal == event).count(), 1, "{signals:?}");
    hall.sim.run(2 * TICK);
    assert_eq!(*hall.game.drains.borrow(), [60 * TICK]);
    assert!(hall.server().is_draining() && !hall.server().is_drained());

    let remote = SocketAddr::from(([10, 7, 0, 9], 40_000));
    let (now, other) = (hall.now(), ConnectionId(9));
    let connect = Connect::new(RoomName::parse("other"), remote, SERVER.ip());
    hall.server().handle_connect(now, other, connect);
    hall.say(other, r#"{"a":"join","d":{}}"#);
    let Some(Signal::Text(refused)) = hall.server().poll_signal(other) else { panic!("no reply") };
    assert!(refused.contains("\"e\":\"draining\"") && refused.contains("\"retryAfter\":58000"), "{refused}");

    let now = hall.now();
    hall.server().handle_disconnect(now, there, Disconnect::Goodbye);
    hall.sim.run(TICK);
    assert!(!hall.server().is_drained(), "the other may still come back");
    hall.sim.run(limits::RESUME_GRACE + 2 * TICK);
    assert!(hall.server().is_drained());
    let mut left: Vec<PlayerId> = hall.game.left.borrow().iter().map(|&(player, _)| player).collect();
    left.sort();
    assert_eq!(left, [PlayerId(1), PlayerId(2)]);
}
