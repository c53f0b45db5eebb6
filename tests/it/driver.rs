//! The driver over loopback sockets, spoken to byte by byte.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the other end of the sockets is here")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rtcade::client::{self, Client};
use rtcade::driver::{BindError, Driver, Handle, Options, Record};
use rtcade::endpoint::LocalId;
use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, RoomInfo, Tick};
use rtcade::games::{Broadcast, Relay};
use rtcade::journal::{End, Entry, Journal};
use rtcade::limits::{RELIABLE_HEADER_BYTES, RELIABLE_UP_BYTES};
use rtcade::room::Input;

/// Bounds every wait; nothing is asserted about how long anything takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
const HEAD_BYTES: usize = 16 * 1024;
const MESSAGE_BYTES: usize = RELIABLE_UP_BYTES + RELIABLE_HEADER_BYTES;

/// A running server, stopped when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) handle: Handle,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Server {
    pub(super) fn start(options: Options) -> Server {
        Server::start_with(options, |_| Ok(Relay))
    }

    pub(super) fn start_with<G: Game>(
        options: Options,
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + Send + 'static,
    ) -> Server {
        Server::start_prepared(options, factory, |_| ())
    }

    pub(super) fn start_prepared<G: Game>(
        options: Options,
        factory: impl FnMut(&RoomInfo) -> Result<G, Refusal> + Send + 'static,
        prepare: impl FnOnce(&mut Driver<G>) + Send + 'static,
    ) -> Server {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut driver = Driver::bind(options, factory).expect("loopback has a free port");
            prepare(&mut driver);
            sender.send((driver.local_addr(), driver.handle())).expect("the test waits for it");
            driver.run()
        });
        let (address, handle) = receiver.recv_timeout(PATIENCE).expect("started");
        Server { address, handle, thread: Some(thread) }
    }

    pub(super) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// What one request on a connection of its own gets.
    pub(super) fn ask(&self, request: &str) -> Response {
        let mut connection = self.connect();
        connection.send(request);
        connection.response()
    }

    pub(super) fn get(&self, path: &str) -> Response {
        self.ask(&get(path))
    }

    /// Stops it as SIGTERM does, and waits for its end.
    pub(super) fn stop(mut self) {
        self.handle.shutdown();
        let thread = self.thread.take().expect("stopped once");
        thread.join().expect("no panic").expect("no error");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}

pub(super) fn loopback() -> Options {
    Options { listen: ([127, 0, 0, 1], 0).into(), page: "<p>page".into(), ..Options::default() }
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

pub(super) fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Response {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub(super) struct Connection<S = TcpStream> {
    pub(super) socket: S,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Connection {
        let socket = TcpStream::connect(address).expect("listening");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.set_write_timeout(Some(PATIENCE)).expect("set");
        Connection::over(socket)
    }
}

impl<S: Read + Write> Connection<S> {
    pub(super) fn over(socket: S) -> Connection<S> {
        Connection { socket, buffer: Vec::new() }
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("taken");
    }

    /// Takes in more bytes; `false` at the end.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.socket.read(&mut bytes) {
            Ok(0) => false,
            Ok(length) => {
                self.buffer.extend_from_slice(&bytes[..length]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.read(), "closed too early: {:?}", String::from_utf8_lossy(&self.buffer));
        }
        self.buffer.drain(..length).collect()
    }

    pub(super) fn head(&mut self) -> Response {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            assert!(self.read(), "closed too early: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head = String::from_utf8(self.take(end + 4)).expect("text");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        Response { status, head, body: String::new() }
    }

    pub(super) fn response(&mut self) -> Response {
        let (response, body) = self.response_of_bytes();
        Response { body: String::from_utf8(body).expect("text"), ..response }
    }

    /// A response whose body is no text.
    pub(super) fn response_of_bytes(&mut self) -> (Response, Vec<u8>) {
        let response = self.head();
        let length = response.field("Content-Length").map_or(0, |length| length.parse().expect("a number"));
        let body = self.take(length);
        (response, body)
    }

    /// Whether the other end closes without another byte.
    pub(super) fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.read()
    }

    /// Sends a websocket frame.
    pub(super) fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send(masked(first, payload));
    }

    /// A frame from the server: its first byte and payload.
    pub(super) fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.take(2);
        let length = match head[1] {
            126 => {
                let length = self.take(2);
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            127 => panic!("longer than anything expected here"),
            length => length.into(),
        };
        (head[0], self.take(length))
    }

    /// The text message with this word in it that comes next, other messages aside.
    pub(super) fn text_with(&mut self, word: &str) -> String {
        for _ in 0..10_000 {
            let (kind, payload) = self.frame();
            assert_ne!(kind, 0x88, "closed before {word}");
            if kind == 0x81 {
                let text = String::from_utf8(payload).expect("text");
                if text.contains(word) {
                    return text;
                }
            }
        }
        panic!("no {word}");
    }

    /// The code of the close frame that comes next, other messages aside.
    pub(super) fn close_code(&mut self) -> u16 {
        self.close_code_among(1_000)
    }

    fn close_code_among(&mut self, others: usize) -> u16 {
        for _ in 0..=others {
            if let (0x88, payload) = self.frame() {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
        panic!("no close frame");
    }
}

/// A websocket frame from a client, masked with zeros.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()).expect("short enough") {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).expect("below 126")),
        length => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

pub(super) fn websocket(server: &Server, path: &str) -> Connection {
    upgraded(server.connect(), path)
}

/// Makes the connection a websocket.
pub(super) fn upgraded<S: Read + Write>(mut connection: Connection<S>, path: &str) -> Connection<S> {
    connection.send(upgrade(path));
    let response = connection.head();
    assert_eq!(response.status, 101, "{response:?}");
    assert_eq!(response.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    connection
}

/// Sends what no signaling is and takes the refusal: so the core and this end understand each other.
pub(super) fn assert_alive<S: Read + Write>(websocket: &mut Connection<S>) {
    websocket.send_frame(0x81, b"no JSON");
    let (kind, payload) = websocket.frame();
    assert_eq!(kind, 0x81);
    let text = String::from_utf8(payload).expect("text");
    assert!(text.contains("bad_request"), "{text}");
}

#[test]
fn a_websocket_that_is_refused_opens_to_say_why() {
    let server = Server::start(loopback());
    let with = |path: &str, field: &str| upgrade(path).replace("Host: h\r\n", &format!("Host: h\r\n{field}\r\n"));
    let cookies = format!("Cookie: a={}", "b".repeat(3 * HEAD_BYTES));
    for (request, code, word) in [
        (upgrade("/r/not.a.room"), "bad_room", "1 to 64 characters"),
        (upgrade("/rooms"), "bad_room", "/r/ROOM"),
        (upgrade("/"), "bad_room", "/r/ROOM"),
        (upgrade("/game/r/lobby"), "bad_room", "proxy_pass"),
        (with("/r/lobby", "Origin: http://elsewhere:8081"), "origin", "$http_host"),
        (with("/r/lobby", &cookies), "too_large", "cookies"),
        (with("/rooms", &cookies), "too_large", "cookies"),
    ] {
        let mut page = server.connect();
        page.send(&request);
        assert_eq!(page.head().status, 101, "{request:.80}");
        let told: serde_json::Value = serde_json::from_str(&page.text_with("joinR")).expect("JSON");
        assert_eq!((&told["s"], &told["e"]), (&false.into(), &code.into()), "{told}");
        assert!(told["m"].as_str().is_some_and(|sentence| sentence.contains(word)), "{told}");
        let (kind, payload) = page.frame();
        assert_eq!((kind, &payload[..2], &payload[2..]), (0x88, &4100_u16.to_be_bytes()[..], code.as_bytes()));
    }
    let page = format!("GET /healthz HTTP/1.1\r\nHost: h\r\n{cookies}\r\n\r\n");
    let response = server.ask(&page);
    assert!(response.status == 431 && response.body.contains("cookies"), "{response:?}");
    let within = with("/r/lobby", &format!("Cookie: a={}", "b".repeat(HEAD_BYTES - 500)));
    let mut page = server.connect();
    page.send(&within);
    assert_eq!(page.head().status, 101);
    assert_alive(&mut page);
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("rtcade_http_refused_total{kind=\"no_websocket\"} 7\n"), "{metrics}");
}

#[test]
fn a_lost_upgrade_is_answered_with_its_remedy_and_told_to_the_doctor() {
    let server = Server::start(loopback());
    let report = |fields: &str| -> serde_json::Value {
        let response = server.ask(&format!("GET /doctor.json HTTP/1.1\r\nHost: play.example:81\r\n{fields}\r\n"));
        serde_json::from_str(&response.body).expect("JSON")
    };
    assert_eq!(
        report("")["seen"],
        serde_json::json!({
            "host": "play.example:81", "forwardedHost": null, "forwardedProto": null, "forwardedFor": null,
            "proxyTrusted": false, "upgradesDropped": 0,
        })
    );
    for (path, from, to) in [
        ("/r/lobby", "Upgrade: websocket\r\n", ""),
        ("/api", "Connection: Upgrade", "Connection: close"),
        ("/nothing", "HTTP/1.1", "HTTP/1.0"),
    ] {
        let response = server.ask(&upgrade(path).replace(from, to));
        assert_eq!(response.status, 426, "{path}");
        assert!(response.body.contains("proxy_set_header Upgrade $http_upgrade;"), "{}", response.body);
    }
    let forwarded = "X-Forwarded-Host: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(
        report(forwarded)["seen"],
        serde_json::json!({
            "host": "play.example:81", "forwardedHost": "a", "forwardedProto": "https", "forwardedFor": "192.0.2.1",
            "proxyTrusted": false, "upgradesDropped": 3,
        })
    );
    let proxied = Server::start(Options { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..loopback() });
    let told: serde_json::Value = serde_json::from_str(&proxied.get("/doctor.json").body).expect("JSON");
    assert_eq!(told["seen"]["proxyTrusted"], true);
}

#[test]
fn pages_stand_where_they_should() {
    let server = Server::start(loopback());
    let root = server.get("/");
    let room = root.field("Location").expect("a room").to_owned();
    assert!(root.status == 302 && room.starts_with("r/") && room.len() == "r/12345678".len(), "{room}: relative");
    let page = server.get(&format!("/{room}"));
    assert_eq!((page.status, page.body.as_str()), (200, "<p>page"));
    assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.field("X-Content-Type-Options"), Some("nosniff"));
    assert_eq!(server.get("/healthz").body, "ok\n");
    let rooms = server.get("/rooms");
    assert_eq!((rooms.body.as_str(), rooms.field("Content-Type")), ("[]", Some("application/json")));
    let metrics = server.get("/metrics");
    assert_eq!(metrics.field("Content-Type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(metrics.body.contains("# TYPE rtcade_players gauge\nrtcade_players 0\n"), "{}", metrics.body);
    let (_, cpu) = metrics.body.split_once("# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total ").unwrap();
    let cpu: f64 = cpu.lines().next().unwrap().parse().unwrap();
    assert!(cpu > 0.0 && cpu < 3_600.0, "seconds: {cpu}");
    let client = server.get("/rtcade.js");
    assert!(client.status == 200 && client.field("Cache-Control") == Some("no-cache"), "{}", client.head);
    assert_eq!(server.get("/nothing").status, 404);
    assert_eq!(server.get(&format!("/r/{}", "a".repeat(65))).status, 404);
}

#[test]
fn a_connection_serves_request_after_request() {
    let server = Server::start(loopback());
    let mut connection = server.connect();
    connection.send([get("/healthz"), get("/r/a"), get("/nothing")].concat());
    let statuses = [connection.response().status, connection.response().status, connection.response().status];
    assert_eq!(statuses, [200, 200, 404]);
    connection.send("HEAD /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let head = connection.head();
    assert_eq!((head.status, head.field("Content-Length"), head.field("Connection")), (200, Some("3"), Some("close")));
    assert!(connection.is_closed(), "no body, then the end");
}

#[test]
fn each_bad_request_gets_its_status_and_the_end() {
    let server = Server::start(loopback());
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
    let head = |length: usize| {
        let frame = get("/healthz");
        frame.replace("Host: h", &format!("Host: h\r\nA: {}", "b".repeat(length - frame.len() - "\r\nA: ".len())))
    };
    assert_eq!(server.ask(&fields(64)).status, 302);
    assert_eq!(server.ask(&head(HEAD_BYTES)).status, 200);
    for (request, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 405),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 413),
        (fields(65), 431),
        (head(HEAD_BYTES + 1), 431),
        (head(40 * HEAD_BYTES), 431),
        (upgrade("/r/a").replace("Version: 13", "Version: 12"), 426),
        (upgrade("/r/a").replace("Key: dG", "Key: "), 400),
    ] {
        let mut connection = server.connect();
        connection.send(&request);
        let response = connection.response();
        assert_eq!(response.status, status, "{:.80}", request);
        assert!(response.body.ends_with(".\n"), "a sentence: {:?}", response.body);
        assert!(connection.is_closed(), "{:.80}", request);
    }
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("rtcade_http_refused_total{kind=\"malformed\"} 10\n"), "{metrics}");
    assert_eq!(server.get("/api").status, 426);
    assert_eq!(server.get("/healthz").status, 200, "others lose nothing");
}

#[test]
fn a_head_may_come_in_pieces_but_not_forever() {
    let server = Server::start(loopback());
    let mut pieces = server.connect();
    for byte in get("/healthz").bytes() {
        pieces.send([byte]);
    }
    assert_eq!(pieces.response().status, 200);
    let mut truncated = server.connect();
    truncated.send("GET / HTTP/1.1\r\nHost:");
    truncated.socket.shutdown(Shutdown::Write).expect("open");
    assert!(truncated.is_closed());
    let (mut slow, mut silent) = (server.connect(), server.connect());
    slow.send("GET / HTTP/1.1\r\nHost:");
    assert_eq!(slow.response().status, 408);
    assert!(slow.is_closed() && silent.is_closed());
}

#[test]
fn a_public_directory_is_served_and_nothing_else() {
    let root = std::env::temp_dir().join(format!("rtcade-it-{}", std::process::id()));
    let public: PathBuf = root.join("public");
    std::fs::create_dir_all(&public).expect("created");
    std::fs::write(root.join("secret"), "secret").expect("written");
    std::fs::write(public.join("index.html"), "<p>mine").expect("written");
    std::fs::write(public.join(".hidden"), "hidden").expect("written");
    std::fs::write(public.join("big.bin"), "0123456789abcdef".repeat(64 * 1024)).expect("written");
    let server = Server::start(Options { public: Some(public), ..loopback() });
    assert_eq!(server.get("/r/a").body, "<p>mine");
    let big = server.get("/big.bin");
    assert_eq!((big.body.len(), big.field("Content-Type")), (1024 * 1024, Some("application/octet-stream")));
    let mut again = server.connect();
    let tag = big.field("ETag").expect("a version");
    again.send(format!("GET /big.bin HTTP/1.1\r\nHost: h\r\nIf-None-Match: {tag}\r\n\r\n{}", get("/healthz")));
    assert_eq!((again.response().status, again.response().status), (304, 200));
    for path in ["/../secret", "/%2e%2e/secret", "/..%2fsecret", "/.hidden", "//etc/passwd", "/%00"] {
        assert_eq!(server.get(path).status, 404, "{path}");
    }
    drop(server);
    std::fs::remove_dir_all(root).expect("removed");
}

#[test]
fn a_websocket_opens_with_what_follows_its_request() {
    let server = Server::start(loopback());
    for path in ["/r/lobby", "/api"] {
        let mut early = server.connect();
        // The first message comes in one segment with the request.
        let mut bytes = upgrade(path).into_bytes();
        bytes.extend_from_slice(&[0x81, 0x82, 0, 0, 0, 0, b'n', b'o']);
        early.send(bytes);
        assert_eq!(early.head().status, 101);
        assert_eq!(early.frame().0, 0x81, "the refusal");
        assert_alive(&mut early);
    }
}

#[test]
fn players_join_and_learn_of_each_other() {
    let server = Server::start(loopback());
    let join = |name: &str| {
        let mut websocket = websocket(&server, "/r/lobby");
        websocket.send_frame(0x81, format!(r#"{{"a":"join","d":{{"name":"{name}"}}}}"#).as_bytes());
        websocket.text_with("joinR");
        websocket
    };
    let mut ada = join("Ada");
    let mut grace = join("Grace");
    let event = ada.text_with("eventJoin");
    assert!(event.contains("Grace"), "{event}");
    grace.send_frame(0x88, &1000_u16.to_be_bytes());
    ada.text_with("eventLeave");
}

#[test]
fn a_room_that_its_game_lists_is_shown_with_its_title() {
    let server = Server::start_with(loopback(), |_| Ok(Broadcast::default()));
    let listed = || serde_json::from_str::<serde_json::Value>(&server.get("/rooms").body).expect("JSON");
    let mut websocket = websocket(&server, "/r/123456");
    websocket.send_frame(0x81, br#"{"a":"join","d":{"name":"Ada","data":{"publish":true,"title":"Chess"}}}"#);
    websocket.text_with("joinR");
    let rooms = listed();
    assert!(rooms[0]["tick"].is_u64(), "{rooms}");
    let shown = ["name", "title", "players", "maxPlayers", "locked"].map(|field| rooms[0][field].clone());
    assert_eq!(serde_json::json!(shown), serde_json::json!(["123456", "Chess", 1, 64, false]));
    let of_handle = server.handle.rooms().expect("it runs").recv_timeout(PATIENCE).expect("it answers");
    assert_eq!((of_handle[0].title.as_deref(), of_handle[0].listed), (Some("Chess"), true));
}

/// A native client with sockets of its own.
pub(super) struct Player {
    pub(super) client: Client,
    websocket: tungstenite::WebSocket<TcpStream>,
    udp: UdpSocket,
    /// Numbers of the inputs that came back, by player.
    pub(super) heard: BTreeMap<u32, Vec<u32>>,
    /// Where datagrams came from.
    pub(super) sources: BTreeSet<SocketAddr>,
    /// Why it has no data channel any more.
    pub(super) channel_closed: Option<String>,
}

impl Player {
    fn join(server: &Server, name: &str) -> Player {
        Player::join_by(TcpStream::connect(server.address).unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap(), name)
    }

    pub(super) fn join_by(tcp: TcpStream, udp: UdpSocket, name: &str) -> Player {
        Player::join_at("/r/native", tcp, udp, name)
    }

    pub(super) fn join_at(path: &str, tcp: TcpStream, udp: UdpSocket, name: &str) -> Player {
        let url = format!("ws://{}{path}", tcp.peer_addr().unwrap());
        let (websocket, _) = tungstenite::client(url, tcp).unwrap();
        websocket.get_ref().set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        let mut config = client::Config::new([name.as_bytes()[0]; 32]);
        config.name = name.to_owned();
        config.locals = vec![udp.local_addr().unwrap()];
        Player {
            client: Client::new(config, Instant::now()),
            websocket,
            udp,
            heard: BTreeMap::new(),
            sources: BTreeSet::new(),
            channel_closed: None,
        }
    }

    pub(super) fn turn(&mut self) {
        let now = Instant::now();
        let mut datagram = [0; 2048];
        while let Ok((len, source)) = self.udp.recv_from(&mut datagram) {
            self.sources.insert(source);
            self.client.handle_datagram(now, LocalId(0), source, &datagram[..len]);
        }
        while let Ok(message) = self.websocket.read() {
            match message {
                tungstenite::Message::Text(text) => self.client.handle_text(now, &text),
                tungstenite::Message::Binary(bytes) => self.client.handle_binary(now, &bytes),
                _ => {}
            }
        }
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        while let Some(message) = self.client.poll_message() {
            let message = match message {
                client::Message::Text(text) => tungstenite::Message::text(text),
                client::Message::Binary(bytes) => tungstenite::Message::binary(bytes),
                client::Message::Close => tungstenite::Message::Close(None),
                client::Message::Connect(_) => panic!("the websocket was lost"),
            };
            self.websocket.send(message).unwrap();
        }
        while let Some(transmit) = self.client.poll_transmit() {
            // Not every address that the server names has a route.
            let _ = self.udp.send_to(transmit.bytes, transmit.destination);
        }
        while let Some(event) = self.client.poll_event() {
            match event {
                client::Event::Tick { inputs, .. } => {
                    for input in inputs {
                        self.heard.entry(input.player).or_default().push(input.number);
                    }
                }
                client::Event::ChannelClosed { message } => self.channel_closed = Some(message),
                _ => {}
            }
        }
    }
}

#[test]
fn native_clients_play_over_real_sockets() {
    let server = Server::start(loopback());
    let mut players = [Player::join(&server, "Ada"), Player::join(&server, "Bob")];
    let begun = Instant::now();
    // Inputs are paced from then on: a slow handshake must not end in a burst that is more than the server keeps.
    let mut both_open = None;
    let mut sent = 0;
    let has_heard_all =
        |player: &Player| (1..=2).all(|of| player.heard.get(&of).is_some_and(|heard| heard.len() >= 60));
    while !players.iter().all(has_heard_all) {
        assert!(begun.elapsed() < PATIENCE, "{sent} inputs were sent");
        if both_open.is_none() && players.iter().all(|player| player.client.is_open()) {
            both_open = Some(Instant::now());
        }
        if both_open.is_some_and(|since| since.elapsed() > Duration::from_millis(33) * sent) {
            sent += 1;
            for player in &mut players {
                player.client.send(Instant::now(), &sent).unwrap();
            }
        }
        players.iter_mut().for_each(Player::turn);
        std::thread::sleep(Duration::from_millis(2));
    }
    for player in &players {
        for heard in player.heard.values() {
            assert_eq!(*heard, (1..=u32::try_from(heard.len()).unwrap()).collect::<Vec<u32>>());
        }
    }
    let metrics = server.get("/metrics").body;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse::<f64>().expect("a number")
    };
    assert_eq!((value("rtcade_players "), value("rtcade_peers ")), (2.0, 2.0));
    assert!(value("rtcade_datagrams_total{kind=\"received\"}") >= 60.0, "{metrics}");
    assert!(value("rtcade_rtt_seconds{quantile=\"0.99\"}") > 0.0, "{metrics}");
    server.stop();
}

#[test]
fn a_ping_is_answered_and_a_goodbye_returned() {
    let server = Server::start(loopback());
    let mut websocket = websocket(&server, "/r/a");
    websocket.send_frame(0x89, b"are you there");
    assert_eq!(websocket.frame(), (0x8a, b"are you there".to_vec()));
    websocket.send_frame(0x88, &1000_u16.to_be_bytes());
    assert_eq!(websocket.close_code(), 1000);
    assert!(websocket.is_closed(), "the server closes first");
}

#[test]
fn each_violation_of_a_websocket_has_its_code() {
    let server = Server::start(loopback());
    let mut bystander = websocket(&server, "/r/a");
    let mut fits = websocket(&server, "/r/a");
    fits.send_frame(0x81, &[b' '; RELIABLE_UP_BYTES]);
    assert_eq!(fits.frame().0, 0x81, "a refusal, as it is no JSON");
    for (frames, code) in [
        (vec![(0x81, vec![b' '; MESSAGE_BYTES + 1])], 1009),
        (vec![(0x02, vec![0; MESSAGE_BYTES]), (0x80, vec![0])], 1009),
        (vec![(0x81, vec![0xff])], 1007),
        (vec![(0xf2, vec![0])], 1002),
        (vec![(0x80, vec![0])], 1002),
    ] {
        let mut websocket = websocket(&server, "/r/a");
        for (first, payload) in &frames {
            websocket.send_frame(*first, payload);
        }
        if code == 1009 {
            let told = websocket.text_with("joinR");
            assert!(told.contains("\"e\":\"too_large\""), "a page that waits for its place learns why: {told}");
        }
        assert_eq!(websocket.close_code(), code, "{:#x}", frames[0].0);
        assert!(websocket.is_closed());
    }
    assert_alive(&mut bystander);
}

#[test]
fn a_flood_of_frames_costs_its_sender_the_connection_and_is_counted() {
    let server = Server::start(loopback());
    let mut bystander = websocket(&server, "/r/a");
    let many = 4 * rtcade::limits::WEBSOCKET_FRAMES_PER_SECOND as usize;
    let fragments = [vec![(0x02, &b""[..])], vec![(0x00, &b""[..]); many]].concat();
    for frames in [vec![(0x89, &b"ping"[..]); many], vec![(0x8a, b"pong"); many], fragments] {
        let mut websocket = websocket(&server, "/r/a");
        let bytes: Vec<u8> = frames.iter().flat_map(|(first, payload)| masked(*first, payload)).collect();
        // The server may have closed before it has read all.
        let _ = websocket.socket.write_all(&bytes);
        assert_eq!(websocket.close_code_among(many), 4004);
    }
    assert_alive(&mut bystander);
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("rtcade_websockets_closed_total{kind=\"flood\"} 3\n"), "{metrics}");
    assert!(metrics.contains("rtcade_websockets_closed_total{kind=\"protocol\"} 0\n"), "{metrics}");
}

#[test]
fn loopback_has_no_limit_of_its_own() {
    let server = Server::start(loopback());
    let mut idle: Vec<_> = (0..=rtcade::limits::UNJOINED_PER_ADDRESS).map(|_| server.connect()).collect();
    for connection in &mut idle {
        connection.send(get("/healthz"));
        assert_eq!(connection.response().status, 200);
    }
}

#[test]
fn stopping_tells_players_and_ends() {
    let server = Server::start(loopback());
    let address = server.address;
    let mut idle = server.connect();
    let mut websocket = websocket(&server, "/r/a");
    assert_alive(&mut websocket);
    server.handle.shutdown();
    assert_eq!(websocket.close_code(), 4008, "the server is stopping");
    assert!(idle.is_closed());
    server.stop();
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
}

#[test]
fn what_keeps_a_server_from_starting_is_said_in_a_sentence() {
    let bind = |options| match Driver::bind(options, |_| Ok(Relay)) {
        Ok(_) => panic!("it can't start"),
        Err(error) => error,
    };
    let server = Server::start(loopback());
    let taken = bind(Options { listen: server.address, ..loopback() });
    assert!(matches!(&taken, BindError::Address { address, .. } if *address == server.address), "{taken}");
    let foreign = bind(Options { listen: ([192, 0, 2, 1], 0).into(), ..loopback() });
    assert!(foreign.to_string().contains("--listen"), "{foreign}");
    let missing = bind(Options { public: Some("/nowhere/at/all".into()), ..loopback() });
    assert!(missing.to_string().contains("--public"), "{missing}");
    for tick in [Duration::from_millis(4), Duration::from_millis(1_001), Duration::MAX] {
        let error = bind(Options { tick: Some(tick), ..loopback() }).to_string();
        assert!(error.contains("5 to 1000 ms with --tick-ms"), "{error}");
    }
    let record = Record { directory: "/dev/null/recordings".into(), limit_bytes: 1 };
    let unwritable = bind(Options { record: Some(record), ..loopback() }).to_string();
    assert!(unwritable.contains("/dev/null/recordings") && unwritable.contains("--record DIR"), "{unwritable}");
    for max_players in [0, 1_025] {
        let error = bind(Options { max_players, ..loopback() }).to_string();
        assert!(error.contains("1 to 1024 with --max-players"), "{error}");
    }
    for keep_alive in [Duration::ZERO, Duration::MAX] {
        let error = bind(Options { keep_alive, ..loopback() }).to_string();
        assert!(error.contains("1 to 3600 s with --keep-alive"), "{error}");
    }
}

/// The entries of the recordings in a directory, as far as they are written.
fn recorded(directory: &Path) -> Vec<Vec<Entry>> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    // One that was just made has no header yet.
    let read = |file: Vec<u8>| Some(Journal::parse(&file).ok()?.entries().map(Result::unwrap).collect());
    files.filter_map(read).collect()
}

fn recording(name: &str) -> (PathBuf, Options) {
    let directory = std::env::temp_dir().join(format!("rtcade-it-{name}-{}", std::process::id()));
    let record = Record { directory: directory.clone(), limit_bytes: u64::MAX };
    (directory, Options { record: Some(record), ..loopback() })
}

#[test]
fn a_recording_is_whole_when_the_server_has_stopped() {
    let (directory, options) = recording("recorded");
    let server = Server::start(options);
    let mut player = websocket(&server, "/r/lobby");
    player.send_frame(0x81, br#"{"a":"join","d":{"name":"Ada"}}"#);
    player.text_with("joinR");
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("rtcade_recordings_ended_early_total 0\n"), "{metrics}");
    server.stop();
    let [entries] = &recorded(&directory)[..] else { panic!("one room, one recording") };
    assert!(entries.iter().any(|entry| matches!(entry, Entry::Told(Input::Join { join, .. }) if join.name == "Ada")));
    assert!(entries.iter().any(|entry| matches!(entry, Entry::Told(Input::Leave { .. }))));
    assert_eq!(entries.last(), Some(&Entry::Ended(End::Closed)));
    std::fs::remove_dir_all(directory).expect("removed");
}

/// Never returns from its first tick with a player, until it is let go.
struct Stuck(Arc<AtomicBool>);

impl Game for Stuck {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Stuck>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Stuck>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Stuck>, _: Tick, _: Batch<'_, Stuck>) {
        while ctx.players().len() > 0 && !self.0.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn what_a_game_was_told_that_never_returns_is_on_disk() {
    let (directory, options) = recording("stuck");
    let let_go = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&let_go);
    let server = Server::start_with(options, move |_| Ok(Stuck(Arc::clone(&released))));
    let mut player = websocket(&server, "/r/lobby");
    player.send_frame(0x81, br#"{"a":"join","d":{"name":"Ada"}}"#);
    let begun = Instant::now();
    loop {
        if let [entries] = &recorded(&directory)[..]
            && let [.., Entry::Told(Input::Tick(_))] = entries[..]
            && entries.iter().any(|entry| matches!(entry, Entry::Told(Input::Join { .. })))
        {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{:?}", recorded(&directory));
        std::thread::sleep(Duration::from_millis(5));
    }
    let_go.store(true, Ordering::Relaxed);
    player.text_with("joinR");
    server.stop();
    std::fs::remove_dir_all(directory).expect("removed");
}

/// Signals, exit status and what is printed: of the program itself.
#[cfg(unix)]
mod program {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Program(Child);

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn rtcade(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rtcade"));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[test]
    fn a_signal_ends_it_with_status_0() {
        for signal in ["TERM", "INT"] {
            let mut program = Program(rtcade(&["--listen", "127.0.0.1:0"]).spawn().expect("started"));
            let mut line = String::new();
            let stdout = program.0.stdout.take().expect("piped");
            BufReader::new(stdout).read_line(&mut line).expect("a line");
            let url = line.trim_end().strip_prefix("rtcade: the arena game is open at http://").expect(&line);
            let address: SocketAddr = url.trim_end_matches('/').parse().expect("an address");
            assert!(TcpStream::connect(address).is_ok());
            let kill = Command::new("kill").args(["-s", signal, &program.0.id().to_string()]).status();
            assert!(kill.expect("kill runs").success());
            assert_eq!(program.0.wait().expect("ended").code(), Some(0), "{signal}");
        }
    }

    #[test]
    fn a_mistake_gets_one_line_and_a_status() {
        let server = Server::start(loopback());
        let taken = server.address.to_string();
        for (arguments, status, word) in [
            (&["--tick-ms", "0"][..], 2, "5..=1000"),
            (&["--listen", &taken], 1, "in use"),
            (&["--listen", "127.0.0.1:0", "--public", "/nowhere/at/all"], 1, "--public DIR"),
        ] {
            let output = rtcade(arguments).output().expect("ran");
            let error = String::from_utf8(output.stderr).expect("text");
            assert_eq!((output.status.code(), error.lines().count()), (Some(status), 1), "{error}");
            assert!(error.starts_with("rtcade: ") && error.contains(word), "{error}");
        }
    }
}
