//! Against a real broker, which `scripts/rabbitmq` runs.

#![expect(clippy::disallowed_types, reason = "a free port for the broker")]

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::*;
use crate::games::Relay;
use crate::server::{Config, Connect, ConnectionId, Disconnect, Server};

/// Bounds every wait; nothing is asserted about how long anything takes.
const PATIENCE: Duration = Duration::from_secs(60);
const QUEUE: &str = "of the test";
/// The exit status of the script if there is no RabbitMQ.
const MISSING: i32 = 69;

struct Rabbit {
    child: Child,
    port: u16,
    directory: PathBuf,
}

impl Rabbit {
    /// `None` where there is no RabbitMQ.
    fn start(name: &str) -> Option<Rabbit> {
        let directory = std::env::temp_dir().join(format!("rtcade-rabbit-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut rabbit = Rabbit { child: Rabbit::spawn(port, &directory), port, directory };
        if rabbit.is_up() {
            return Some(rabbit);
        }
        println!("skipped: RabbitMQ is not there; run scripts/test, or name its rabbitmq-server in RABBITMQ");
        None
    }

    fn spawn(port: u16, directory: &Path) -> Child {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/rabbitmq");
        let mut command = Command::new(script);
        command.arg(port.to_string()).arg(directory).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("a script of this repository")
    }

    /// Waits until it takes connections; `false` if there is none.
    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while block_on(self.connect()).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(MISSING), "the broker has ended: see {}", self.directory.display());
                assert!(std::env::var_os("RABBITMQ").is_none(), "the environment names a RabbitMQ that is not there");
                return false;
            }
            assert!(Instant::now() < deadline, "the broker does not start");
            thread::sleep(Duration::from_millis(100));
        }
        true
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = Rabbit::spawn(self.port, &self.directory);
        assert!(self.is_up());
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    fn publisher(&self) -> Publisher {
        Publisher::start(Broker::new(&self.url(), "node-1").unwrap()).unwrap()
    }

    async fn connect(&self) -> lapin::Result<(Connection, Channel)> {
        let connection = Connection::connect(&self.url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }

    /// Makes a durable queue that gets every event of rooms.
    fn bind(&self) {
        block_on(async {
            let (_connection, channel) = self.connect().await.unwrap();
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            let no_fields = FieldTable::default;
            channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, no_fields()).await.unwrap();
            channel.queue_declare(QUEUE.into(), QueueDeclareOptions::durable(), no_fields()).await.unwrap();
            let options = QueueBindOptions::default();
            channel.queue_bind(QUEUE.into(), EXCHANGE.into(), "room.*".into(), options, no_fields()).await.unwrap();
        });
    }

    /// Takes all messages of the queue.
    fn drain(&self) -> Vec<BasicGetMessage> {
        block_on(async {
            let (_connection, channel) = self.connect().await.unwrap();
            let mut messages = Vec::new();
            while let Some(message) = channel.basic_get(QUEUE.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
                messages.push(message);
            }
            messages
        })
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn event(kind: LiveEventKind, number: usize) -> LiveEvent {
    LiveEvent { kind, id: format!("room:1:{number}"), body: format!("{{\"seq\":{number}}}") }
}

fn wait_for(publisher: &Publisher, what: &str, is_there: impl Fn(&Figures) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_there(&publisher.figures()) {
        assert!(Instant::now() < deadline, "{what}: {:?}", publisher.figures());
        thread::sleep(Duration::from_millis(10));
    }
}

fn id(message: &BasicGetMessage) -> String {
    message.delivery.properties.message_id().as_ref().expect("each has one").to_string()
}

#[test]
fn joins_and_leaves_arrive_as_their_consumers_know_them() {
    let Some(rabbit) = Rabbit::start("fields") else { return };
    rabbit.bind();
    let now = Instant::now();
    let mut config = Config::new([7; 32]);
    config.unix_time = Duration::from_millis(1_700_000_000_000);
    let mut server = Server::new(config, now, |_| Ok(Relay));
    server.make_live_events("node-1");
    let websocket = ConnectionId(1);
    let connect = Connect::new(None, "192.0.2.1:5000".parse().unwrap(), "192.0.2.7".parse().unwrap());
    server.handle_connect(now, websocket, connect);
    let join = json!({ "roomId": "lobby", "name": "Ada", "platform": "web", "appVersion": "1.2", "version": 0 });
    server.handle_text(now, websocket, &json!({ "a": "join", "d": join }).to_string());
    for tick in 1..=3 {
        server.handle_timeout(now + Duration::from_millis(33 * tick));
    }
    server.handle_disconnect(now + Duration::from_millis(100), websocket, Disconnect::Goodbye);
    let publisher = rabbit.publisher();
    while let Some(event) = server.poll_live_event() {
        publisher.publish(event);
    }
    drop(publisher);
    let messages = rabbit.drain();
    let shown: Vec<Value> = messages.iter().map(|message| serde_json::from_slice(&message.data).unwrap()).collect();
    let socket_id = shown[0]["socketId"].as_str().unwrap();
    let (epoch, node) = (1_700_000_000_000_u64, "node-1");
    let expected = [
        json!({
            "roomId": "lobby", "roomSize": 1, "socketId": socket_id, "userId": null, "platform": "web",
            "appVersion": "1.2", "version": 0, "ip": "192.0.2.1", "bitrate": null, "epoch": epoch, "seq": 1,
            "node": node,
        }),
        json!({
            "roomId": "lobby", "roomSize": 0, "socketId": socket_id, "userId": null, "epoch": epoch, "seq": 2,
            "node": node,
        }),
    ];
    assert_eq!(shown, expected);
    let keys: Vec<_> = messages.iter().map(|message| message.delivery.routing_key.to_string()).collect();
    assert_eq!(keys, ["room.join", "room.leave"]);
    let properties = &messages[0].delivery.properties;
    assert_eq!(id(&messages[0]), format!("lobby:{epoch}:1"));
    assert_eq!(properties.app_id().as_ref().unwrap().as_str(), node);
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.delivery_mode(), &Some(PERSISTENT));
}

#[test]
fn ten_thousand_events_outlive_their_broker() {
    const COUNT: usize = 10_000;
    let Some(mut rabbit) = Rabbit::start("restart") else { return };
    rabbit.bind();
    let publisher = rabbit.publisher();
    let publish = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            publisher.publish(event(if number % 2 == 0 { LiveEventKind::Join } else { LiveEventKind::Leave }, number));
        }
    };
    publish(0..COUNT / 2);
    wait_for(&publisher, "some confirmed", |figures| figures.published[0] > 100);
    rabbit.kill();
    publish(COUNT / 2..COUNT * 3 / 4);
    wait_for(&publisher, "the loss noticed", |figures| !figures.is_connected);
    publish(COUNT * 3 / 4..COUNT);
    rabbit.restart();
    wait_for(&publisher, "all confirmed", |figures| figures.queued == 0);
    assert_eq!(publisher.figures().published, [COUNT as u64 / 2, COUNT as u64 / 2, 0]);
    assert_eq!(publisher.figures().dropped, [0; 3]);
    let mut seen = BTreeSet::new();
    let mut first_times = Vec::new();
    for message in rabbit.drain() {
        let number: usize = id(&message).rsplit(':').next().unwrap().parse().unwrap();
        if seen.insert(number) {
            first_times.push(number);
        }
    }
    assert!(first_times.iter().copied().eq(0..COUNT), "each arrives, for the first time in order");
}

#[test]
fn while_the_broker_stands_still_only_the_events_that_are_repeated_are_dropped() {
    const LIVE: usize = LIVE_EVENTS_QUEUED / LIVE_SHARE;
    let Some(rabbit) = Rabbit::start("frozen") else { return };
    rabbit.bind();
    let publisher = rabbit.publisher();
    wait_for(&publisher, "a connection", |figures| figures.is_connected);
    rabbit.signal(Signal::SIGSTOP);
    for number in 0..LIVE + 100 {
        publisher.publish(event(LiveEventKind::Live, number));
    }
    for number in 0..500 {
        publisher.publish(event(LiveEventKind::Join, LIVE + 100 + number));
    }
    assert_eq!(publisher.figures().dropped, [0, 0, 100]);
    rabbit.signal(Signal::SIGCONT);
    wait_for(&publisher, "all confirmed", |figures| figures.queued == 0);
    assert_eq!(publisher.figures().published, [500, 0, LIVE as u64]);
}

#[test]
fn a_server_that_stops_waits_for_nobody_if_nothing_waits() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let publisher = Publisher::start(Broker::new(&format!("amqp://{nobody}/%2f"), "node-1").unwrap()).unwrap();
    drop(publisher);
}

/// The number of threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn attempts_to_reach_a_silent_broker_leave_nothing_behind() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("amqp://{}/%2f", silent.local_addr().unwrap());
    let accepted = thread::spawn(move || {
        let mut kept = Vec::new();
        while kept.len() < 3 {
            kept.push(silent.accept().unwrap());
        }
        kept
    });
    let before = threads();
    let publisher = Publisher::start(Broker::new(&url, "node-1").unwrap()).unwrap();
    publisher.publish(event(LiveEventKind::Join, 1));
    let kept = accepted.join().unwrap();
    let deadline = Instant::now() + PATIENCE;
    // The thread of events, and what the third attempt has.
    while threads() > before + 3 {
        assert!(Instant::now() < deadline, "{} threads, {before} before", threads());
        thread::sleep(Duration::from_millis(100));
    }
    drop(kept);
    std::mem::forget(publisher);
}

#[test]
fn the_bytes_that_wait_have_a_limit_too() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let publisher = Publisher::start(Broker::new(&format!("amqp://{nobody}/%2f"), "node-1").unwrap()).unwrap();
    let large = LiveEvent { body: "x".repeat(LIVE_EVENTS_QUEUED_BYTES / 2 + 1), ..event(LiveEventKind::Join, 1) };
    publisher.publish(large.clone());
    publisher.publish(large);
    publisher.publish(event(LiveEventKind::Leave, 2));
    assert_eq!((publisher.figures().queued, publisher.figures().dropped), (2, [1, 0, 0]));
    // It would wait for a broker.
    std::mem::forget(publisher);
}

#[test]
fn the_url_of_the_broker_is_read_and_not_shown() {
    let broker = Broker::new("amqp://user:secret@example.com:5671/vhost\n", "a").unwrap();
    assert!(!format!("{broker:?}").contains("secret"), "{broker:?}");
    let of = |url: &str| Broker::new(url, "a").unwrap().uri;
    assert_eq!(
        (of("amqp://example.com:5672/").vhost, of("amqp://example.com").vhost),
        ("/".to_owned(), "/".to_owned())
    );
    assert_eq!(of("amqp://example.com/%2f").vhost, "/");
    let uri = of("amqp://user:secret@[2001:db8::5]:5671/games");
    assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("2001:db8::5", 5671, "games"));
    for node in ["", "a b", "ä", &"a".repeat(65)] {
        assert!(Broker::new("amqp://example.com", node).unwrap_err().contains("--node"), "{node}");
    }
    for wrong in
        ["", "amqp://[example.com]/", "example.com", "http://example.com", "amqp://user:secret@example.com:port/"]
    {
        let sentence = Broker::new(wrong, "a").unwrap_err();
        assert!(sentence.contains("amqp://user:password@host") && !sentence.contains("secret"), "{sentence}");
    }
}
