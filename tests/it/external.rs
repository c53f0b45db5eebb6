//! External messages to a game: in order, within limits, and part of a replay.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rtcade::game::{Batch, Context, Game, Join, Lane, Leave, PlayerId, Refusal, Target, Tick};
use rtcade::journal::{Journal, Replay, Verdict};
use rtcade::limits;
use rtcade::server::ExternalError;
use rtcade::sim::Simulation;
use rtcade::wire::signaling::RoomName;

const TICK: Duration = Duration::from_millis(33);

/// Notes what comes from outside, when, and passes it on to its players.
#[derive(Default)]
struct Board {
    tick: u32,
    /// The tick before each.
    heard: Vec<(u32, Vec<u8>)>,
}

impl Game for Board {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = Vec<u8>;
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Board>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Board>, _: PlayerId, _: Leave) {}

    fn external(&mut self, ctx: &mut Context<Board>, bytes: &[u8]) {
        assert_ne!(bytes, b"panic", "as it was told to");
        self.heard.push((self.tick, bytes.to_vec()));
        ctx.event(Target::All, &bytes.to_vec(), Lane::Reliable).unwrap();
    }

    fn tick(&mut self, _: &mut Context<Board>, tick: Tick, _: Batch<'_, Board>) {
        self.tick = tick.number;
    }
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

#[test]
fn a_game_gets_what_is_for_its_room_once_in_order_with_the_next_tick() {
    let mut sim = Simulation::new(1, |_| Ok(Board::default()));
    let ada = sim.join("here", "Ada");
    sim.join("elsewhere", "Bob");
    sim.run(Duration::from_secs(1));
    let before = sim.game("here").unwrap().tick;
    for byte in 1..=3 {
        sim.server.handle_external(&room("here"), &[byte]).unwrap();
    }
    assert!(sim.game("here").unwrap().heard.is_empty(), "not before the tick");
    sim.run(Duration::from_secs(1));
    let expected: Vec<(u32, Vec<u8>)> = (1..=3).map(|byte| (before, vec![byte])).collect();
    assert_eq!(sim.game("here").unwrap().heard, expected);
    assert!(sim.game("elsewhere").unwrap().heard.is_empty());
    let told: Vec<Vec<u8>> = sim[ada].events_of().into_iter().map(|(_, event)| event).collect();
    assert_eq!(told, [[1], [2], [3]]);
}

#[test]
fn what_is_too_large_too_much_or_for_nobody_is_refused() {
    let mut sim = Simulation::new(1, |_| Ok(Board::default()));
    sim.join("full", "Ada");
    sim.join("empty", "Bob");
    sim.run(Duration::from_secs(1));
    let largest = vec![7; limits::EXTERNAL_BYTES];
    let tell = |sim: &mut Simulation<Board>, name: &str, bytes: &[u8]| sim.server.handle_external(&room(name), bytes);
    assert_eq!(tell(&mut sim, "full", &[7; limits::EXTERNAL_BYTES + 1]), Err(ExternalError::TooLarge));
    for _ in 0..limits::EXTERNAL_BACKLOG {
        assert_eq!(tell(&mut sim, "full", &largest), Ok(()));
    }
    assert_eq!(tell(&mut sim, "full", &[]), Err(ExternalError::Full));
    assert_eq!(tell(&mut sim, "empty", &[]), Ok(()), "each room has its own place");
    assert_eq!(tell(&mut sim, "nowhere", &[]), Err(ExternalError::NoSuchRoom));
    assert_eq!(sim.server.counters().lost_externals, 1);
    sim.run(2 * TICK);
    assert_eq!(sim.game("full").unwrap().heard.len(), limits::EXTERNAL_BACKLOG);
    assert_eq!(tell(&mut sim, "full", &[]), Ok(()), "there is place again");
}

#[test]
fn a_game_that_fails_at_it_closes_its_room_alone() {
    let mut sim = Simulation::new(1, |_| Ok(Board::default()));
    let ada = sim.join("fails", "Ada");
    let bob = sim.join("plays", "Bob");
    sim.run(Duration::from_secs(1));
    sim.server.handle_external(&room("fails"), b"panic").unwrap();
    sim.server.handle_external(&room("fails"), b"after").unwrap();
    sim.run(Duration::from_secs(1));
    assert_eq!(sim[ada].closed.as_ref().unwrap().0, Leave::RoomClosed.close_code());
    assert!(sim[bob].closed.is_none() && sim.game("plays").is_some());
    assert_eq!(sim.server.counters().failed_rooms, 1);
    assert!(sim.game("fails").unwrap().heard.is_empty(), "she came back, into another");
}

#[test]
fn it_is_on_record_and_replayed() {
    let mut sim = Simulation::new(1, |_| Ok(Board::default()));
    let file = Rc::new(RefCell::new(Vec::new()));
    let written = Rc::clone(&file);
    sim.server.record(move |_| {
        let written = Rc::clone(&written);
        Box::new(move |block| written.borrow_mut().extend_from_slice(block))
    });
    sim.join("recorded", "Ada");
    sim.run(Duration::from_secs(1));
    let longest = vec![0xff; limits::EXTERNAL_BYTES];
    for bytes in [b"score: 7".as_slice(), &[1, 2, 255], &longest] {
        sim.server.handle_external(&room("recorded"), bytes).unwrap();
        sim.run(2 * TICK);
    }
    let heard = sim.game("recorded").unwrap().heard.clone();
    drop(sim);
    let bytes = file.take();
    let journal = Journal::parse(&bytes).unwrap();
    let mut replay = Replay::new(&journal, |_| Ok(Board::default())).unwrap();
    let mut shown = Vec::new();
    while let Some(step) = replay.step().unwrap() {
        assert_eq!(step.verdict, Verdict::Same);
        let told = step.told.iter().map(|input| rtcade::journal::input_to_json(input)["external"].clone());
        shown.extend(told.filter(|external| !external.is_null()));
    }
    assert_eq!(replay.room().game().unwrap().heard, heard);
    assert_eq!(shown[..2], [serde_json::json!("score: 7"), serde_json::json!([1, 2, 255])]);
    assert_eq!(shown.len(), 3);
}

#[cfg(feature = "driver")]
mod threads {
    #![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "what is outside the server is here")]

    use std::net::TcpStream;
    use std::sync::mpsc;
    use std::thread;

    use rtcade::driver::Driver;

    use super::*;
    use crate::driver::{PATIENCE, Server, loopback};

    /// Hands everything on to the test.
    struct Forward(mpsc::Sender<Vec<u8>>);

    impl Game for Forward {
        type Input = ();
        type Command = ();
        type State = ();
        type Event = ();
        type Welcome = ();
        type JoinData = ();

        fn join(&mut self, _: &mut Context<Forward>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
            self.0.send(vec![]).unwrap();
            Ok(())
        }

        fn leave(&mut self, _: &mut Context<Forward>, _: PlayerId, _: Leave) {}

        fn external(&mut self, _: &mut Context<Forward>, bytes: &[u8]) {
            self.0.send(bytes.to_vec()).unwrap();
        }

        fn tick(&mut self, _: &mut Context<Forward>, _: Tick, _: Batch<'_, Forward>) {}
    }

    #[test]
    fn threads_reach_a_room_each_in_order() {
        const THREADS: u8 = 4;
        let per_thread = u16::try_from(limits::EXTERNAL_QUEUE).unwrap();
        let (sender, receiver) = mpsc::channel();
        let server = Server::start_with(loopback(), move |_| Ok(Forward(sender.clone())));
        let tcp = TcpStream::connect(server.address).unwrap();
        let (mut websocket, _) = tungstenite::client(format!("ws://{}/r/busy", server.address), tcp).unwrap();
        websocket.send(tungstenite::Message::text(r#"{"a":"join"}"#)).unwrap();
        assert_eq!(receiver.recv_timeout(PATIENCE), Ok(vec![]), "somebody has joined");

        let handle = server.handle.clone();
        handle.external("nowhere", *b"lost").unwrap();
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let handle = handle.clone();
                thread::spawn(move || {
                    for index in 0..per_thread {
                        let [high, low] = index.to_be_bytes();
                        while let Err(error) = handle.external("busy", [number, high, low]) {
                            assert_eq!(error, ExternalError::Full);
                            thread::sleep(Duration::from_millis(1));
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; THREADS as usize];
        for _ in 0..u16::from(THREADS) * per_thread {
            let bytes = receiver.recv_timeout(PATIENCE).expect("everything arrives");
            let [number, high, low] = bytes[..] else { panic!("{bytes:?}") };
            assert_eq!(u16::from_be_bytes([high, low]), next[usize::from(number)], "of thread {number}");
            next[usize::from(number)] += 1;
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());

        let rooms = || handle.rooms().unwrap().recv_timeout(PATIENCE).unwrap();
        assert_eq!(rooms().iter().map(|room| (room.name.as_str(), room.players)).collect::<Vec<_>>(), [("busy", 1)]);
        handle.close_room("busy", "The match is over.").unwrap();
        let closed = std::iter::from_fn(|| websocket.read().ok()).find_map(|message| match message {
            tungstenite::Message::Close(Some(frame)) => Some((u16::from(frame.code), frame.reason.to_string())),
            _ => None,
        });
        assert_eq!(closed, Some((Leave::RoomClosed.close_code(), "The match is over.".to_owned())));
        assert_eq!(rooms(), []);
        server.stop();
        assert_eq!(handle.external("busy", *b"late"), Err(ExternalError::Stopped));
    }

    #[test]
    fn the_sender_learns_at_once_what_can_not_go() {
        let driver = Driver::bind(loopback(), |_| Ok(Board::default())).unwrap();
        let handle = driver.handle();
        for (room, bytes) in [("no such/room", 1), ("", 1), ("busy", limits::EXTERNAL_BYTES + 1)] {
            let expected = if bytes == 1 { ExternalError::NoSuchRoom } else { ExternalError::TooLarge };
            assert_eq!(handle.external(room, vec![0; bytes]), Err(expected));
        }
        for _ in 0..limits::EXTERNAL_QUEUE {
            assert_eq!(handle.external("busy", *b"waits"), Ok(()));
        }
        assert_eq!(handle.external("busy", *b"has no place"), Err(ExternalError::Full));
        drop(driver);
        assert_eq!(handle.external("busy", *b"late"), Err(ExternalError::Stopped));
    }
}
