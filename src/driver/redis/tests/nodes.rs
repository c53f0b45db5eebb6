//! Servers that share a Redis, over their sockets.

use std::net::SocketAddr;

use serde_json::{Value as Json, json};

use super::*;
use crate::driver::{Driver, Handle, Node, Options};
use crate::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};

/// A game that lists its rooms.
struct Lobby;

impl Game for Lobby {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, ctx: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        ctx.listed(true);
        ctx.title(Some("A lobby"));
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, _: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {}
}

struct Server {
    address: SocketAddr,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(store: Store, name: &str) -> Server {
        let (told, address) = channel();
        // Each keeps the rooms that it is asked for, however busy this machine is.
        let node = Node { name: Some(name.to_owned()), soft_load: 99.0, hard_load: 99.0, ..Node::new(store) };
        let thread = thread::spawn(move || {
            let listen = ([127, 0, 0, 1], 0).into();
            let options = Options { listen, node: Some(node), ..Options::default() };
            let driver = Driver::bind(options, |_| Ok(Lobby)).unwrap();
            told.send((driver.local_addr(), driver.handle())).unwrap();
            driver.run().unwrap();
        });
        let (address, handle) = address.recv_timeout(LONG).unwrap();
        Server { address, handle, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn rooms(&self) -> Json {
        let mut stream = self.connect();
        stream.write_all(b"GET /rooms HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").expect("a response");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        serde_json::from_str(body).expect("JSON")
    }

    fn names(&self) -> Vec<String> {
        self.rooms().as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Asks to join a room. Returns the connection, and the text that has come with `word`.
    fn join(&self, room: &str, word: &str) -> (TcpStream, String) {
        let mut stream = self.connect();
        let upgrade = format!(
            "GET /r/{room} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).unwrap();
        stream.write_all(&[&[0x81, 0x80 | 12, 0, 0, 0, 0][..], br#"{"a":"join"}"#].concat()).unwrap();
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&received);
            if text.contains(word) {
                return (stream, text.into_owned());
            }
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "no {word} in {text}");
            received.extend_from_slice(&buffer[..length]);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

/// Waits until this is so.
#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn rooms_of_all_nodes_are_listed_by_each_and_found_from_there() {
    let Some(redis) = Redis::start("listing", &[]) else { return };
    let nodes = ["one", "two", "three"].map(|name| Server::start(redis.store(), name));
    let names = ["a", "b"];
    let players: Vec<_> = names.iter().zip(&nodes).map(|(room, node)| node.join(room, "joinR").0).collect();
    for node in &nodes {
        until(|| node.names() == names);
        let room = node.rooms()[1].clone();
        assert_eq!(
            ["name", "title", "players", "maxPlayers", "locked"].map(|field| room[field].clone()),
            [json!("b"), json!("A lobby"), json!(1), json!(64), json!(false)],
        );
        assert!(room["tick"].as_u64().is_some_and(|tick| tick < 100_000), "{room}");
    }
    let [first, second, third] = &nodes;
    for (room, owner) in names.iter().zip([first, second]) {
        let (_, sent) = third.join(room, "eventRedirect");
        assert!(sent.contains(&format!("ws://{}/r/{room}", owner.address)), "{sent}");
    }
    let of_store = || redis.store().nodes().expect("Redis answers");
    until(|| of_store().nodes.iter().map(|node| node.profile.rooms).collect::<Vec<_>>() == [1, 0, 1]);
    let known = of_store();
    let states = known.nodes.iter().map(|node| (&*node.member.node, node.state(known.store_time)));
    assert_eq!(states.collect::<Vec<_>>(), [("one", "open"), ("three", "open"), ("two", "open")]);
    let more = first.join("a", "joinR").0;
    until(|| third.rooms()[0]["players"] == 2);
    drop((players, more));
}

#[test]
fn rooms_of_a_node_that_is_gone_are_listed_no_more_and_without_redis_each_lists_its_own() {
    let Some(mut redis) = Redis::start("unlisted", &[]) else { return };
    let [one, two] = ["one", "two"].map(|name| Server::start(redis.store(), name));
    let players = (one.join("a", "joinR"), two.join("b", "joinR"));
    until(|| one.names() == ["a", "b"] && two.names() == ["a", "b"]);
    drop(two);
    until(|| one.names() == ["a"]);
    let two = Server::start(redis.store(), "two");
    let player = two.join("c", "joinR");
    until(|| one.names() == ["a", "c"] && two.names() == ["a", "c"]);
    redis.kill();
    until(|| one.names() == ["a"] && two.names() == ["c"]);
    redis.restart();
    until(|| one.names() == ["a", "c"] && two.names() == ["a", "c"]);
    drop((players, player));
}

/// A listing that can't be read is that of one node.
#[test]
fn a_listing_that_is_spoilt_costs_its_node_alone() {
    let Some(redis) = Redis::start("spoilt", &[]) else { return };
    let [one, two, three] = ["one", "two", "three"].map(|name| Server::start(redis.store(), name));
    let players = (one.join("a", "joinR"), two.join("b", "joinR"));
    until(|| three.names() == ["a", "b"]);
    let keys = redis.keys("*:listing:one#*");
    redis.raw(&format!("SET {} \u{1}[[[\"x\",]\n", keys[0]));
    until(|| three.names() == ["b"]);
    // What is no string can't be read at all, and rooms can be found and joined even so.
    redis.raw(&format!("DEL {}", keys[0]));
    redis.raw(&format!("HSET {} x y", keys[0]));
    until(|| three.names() == Vec::<String>::new());
    for number in 0..40 {
        let _ = three.rooms();
        let (_, joined) = three.join(&format!("room-{number}"), "joinR");
        assert!(joined.contains(r#""s":true"#), "{joined}");
    }
    drop(players);
}
