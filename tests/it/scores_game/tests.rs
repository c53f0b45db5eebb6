#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other end of the sockets is here")]

use super::*;
use rtcade::client::{Client, Config, Event, Message};
use rtcade::driver::{Driver, Options};
use rtcade::sim::RoomSimulation;
use rtcade::wire::msgpack;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Bounds every wait.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server as `main` has it, with its scores in `file`.
struct Running {
    address: SocketAddr,
    server: Handle,
    threads: [thread::JoinHandle<()>; 2],
}

impl Running {
    fn start(file: &str) -> Running {
        let (sender, notes) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let serve = thread::spawn(move || {
            let options = Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() };
            let driver = Driver::bind(options, move |room| Ok(Pig::new(room, &sender))).unwrap();
            tell.send((driver.local_addr(), driver.handle())).unwrap();
            driver.run().unwrap();
        });
        let (address, server) = told.recv_timeout(PATIENCE).unwrap();
        let (file, door) = (file.to_owned(), server.clone());
        let keep = thread::spawn(move || keep_scores(&file, &notes, &door).unwrap());
        Running { address, server, threads: [serve, keep] }
    }

    fn stop(self) {
        self.server.shutdown();
        self.server.shutdown();
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// A player over the websocket alone.
struct Player {
    client: Client,
    websocket: tungstenite::WebSocket<TcpStream>,
    events: Vec<Event>,
}

impl Player {
    fn join(address: SocketAddr, room: &str) -> Player {
        let tcp = TcpStream::connect(address).unwrap();
        let (websocket, _) = tungstenite::client(format!("ws://{address}/r/{room}"), tcp).unwrap();
        websocket.get_ref().set_nonblocking(true).unwrap();
        let mut config = Config::new([1; 32]);
        config.name = "Ada".to_owned();
        Player { client: Client::new(config, Instant::now()), websocket, events: Vec::new() }
    }

    fn command(&mut self, command: &str) {
        self.client.command(Instant::now(), &command).unwrap();
    }

    /// Plays until an event is what it is waited for.
    fn wait<T>(&mut self, what: &str, find: impl Fn(&Event) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.events.iter().position(|event| find(event).is_some()) {
                return find(&self.events.drain(..=at).next_back().unwrap()).unwrap();
            }
            assert!(begun.elapsed() < PATIENCE, "no {what}");
            self.turn();
        }
    }

    fn turn(&mut self) {
        let now = Instant::now();
        while let Ok(message) = self.websocket.read() {
            match message {
                tungstenite::Message::Text(text) => self.client.handle_text(now, &text),
                tungstenite::Message::Binary(bytes) => self.client.handle_binary(now, &bytes),
                _ => {}
            }
        }
        while let Some(message) = self.client.poll_message() {
            let message = match message {
                Message::Text(text) => tungstenite::Message::text(text),
                Message::Binary(bytes) => tungstenite::Message::binary(bytes),
                Message::Close => tungstenite::Message::Close(None),
                Message::Connect(_) => panic!("the websocket was lost"),
            };
            self.websocket.send(message).unwrap();
        }
        self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
        thread::sleep(Duration::from_millis(2));
    }
}

fn table(event: &Event) -> Option<Table> {
    match event {
        Event::Event { value, .. } => msgpack::decode(value).ok(),
        _ => None,
    }
}

#[test]
fn a_score_is_kept_for_the_room_and_for_the_next_start() {
    let directory = std::env::temp_dir().join(format!("rtcade-scores-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("scores.db").into_os_string().into_string().unwrap();

    let running = Running::start(&file);
    let mut player = Player::join(running.address, "pigsty");
    assert_eq!(player.wait("table", table), []);
    assert_eq!(Player::join(running.address, "elsewhere").wait("table", table), []);
    let mut kept = Table::new();
    for scores in 1..=2 {
        player.command("roll");
        player.command("keep");
        let table = player.wait("table", table);
        assert_eq!(table.len(), scores);
        assert!(table.is_sorted_by_key(|(_, score)| std::cmp::Reverse(score)), "{table:?}");
        assert!(table.iter().all(|(name, _)| name == "Ada") && kept.iter().all(|row| table.contains(row)), "{table:?}");
        kept = table;
    }
    running.stop();
    let rows: u32 = rusqlite::Connection::open(&file)
        .unwrap()
        .query_row("SELECT count(*) FROM scores WHERE room = 'pigsty'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 2);

    let running = Running::start(&file);
    assert_eq!(Player::join(running.address, "pigsty").wait("table", table), kept, "with nothing done for it");
    assert_eq!(Player::join(running.address, "elsewhere").wait("table", table), []);
    running.stop();
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_is_kept_is_what_was_rolled_and_whoever_comes_gets_the_table() {
    let (sender, notes) = mpsc::channel();
    let mut room = RoomSimulation::new(1, move |room| Ok(Pig::new(room, &sender)));
    assert!(notes.recv().unwrap().kept.is_none(), "it asks for the table");
    room.external(br#"[["Bob",7]]"#);
    let ada = room.join("Ada");
    room.step();
    assert_eq!(room.welcome(ada), Some(serde_json::json!([["Bob", 7]])));
    let mut scores = Vec::new();
    for rolls in 1..=20 {
        for _ in 0..rolls {
            room.command(ada, &"roll");
            room.step();
        }
        let sums: Vec<(PlayerId, u32)> = room.last_state(ada).unwrap();
        room.command(ada, &"keep");
        room.step();
        scores.push(sums[0].1);
        assert_eq!(notes.try_recv().unwrap().kept, Some(("Ada".to_owned(), sums[0].1)));
    }
    assert!(scores.contains(&0) && scores.iter().any(|&score| score > 6), "{scores:?}");
}
