//! One client, of any of the servers.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rtcade::client::{Client, Config, Event, Message};
use rtcade::peer::{self, Identity, LocalId, Outbox, Peer};
use rtcade_peers::{INPUT_BYTES, ROOM_PLAYERS};
use str0m::ice::{StunMessage, TransId};
use tungstenite::{Utf8Bytes, WebSocket};

use crate::stream::{Stream, Tls};

type Failure = Box<dyn Error + Send + Sync>;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// rtcade's own client: websocket and data channel.
    Rtcade,
    /// A data channel; the offer goes to the server by HTTP.
    Offer,
    /// A data channel; the server offers, as geckos.io does.
    Geckos,
    /// A websocket.
    Websocket,
    /// A websocket with the framing of socket.io.
    SocketIo,
    /// A websocket with the framing of Colyseus, after a request for a seat.
    Colyseus,
}

/// What the clients do. See `servers/task.mjs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Task {
    /// Bytes that don't compress.
    Opaque,
    /// A small game, in the server's own format: MessagePack for rtcade, `schema` for Colyseus, JSON for the others.
    Walk,
    /// The same in MessagePack, where a plain websocket is the server's protocol.
    WalkMsgpack,
}

/// What a player does in one tick.
#[derive(Clone, Copy)]
pub enum Input {
    Opaque([u8; INPUT_BYTES]),
    Walk { heading: u16, moving: bool },
}

impl Input {
    fn json(self) -> String {
        match self {
            Input::Opaque(_) => String::new(),
            Input::Walk { heading, moving } => format!(r#"{{"heading":{heading},"moving":{moving}}}"#),
        }
    }
}

/// The MessagePack that JavaScript's encoders make of an integer.
fn msgpack_integer(value: u16, out: &mut Vec<u8>) {
    match u8::try_from(value) {
        Ok(small @ 0..0x80) => out.push(small),
        Ok(byte) => out.extend([0xcc, byte]),
        Err(_) => {
            out.push(0xcd);
            out.extend(value.to_be_bytes());
        }
    }
}

/// How messages are framed in a websocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Plain,
    SocketIo,
    Colyseus,
}

type Web = WebSocket<Stream>;

enum Kind {
    Rtcade { client: Box<Client>, web: Box<Web> },
    Channel { peer: Box<Peer>, outbox: Outbox, answers: bool },
    Websocket { web: Box<Web>, dialect: Dialect },
}

/// A client that is connected, or at it.
pub struct Connection {
    pub udp: Option<UdpSocket>,
    kind: Kind,
    task: Task,
    open: bool,
    closed: Option<String>,
    /// Whether the datagram socket knows where it sends to.
    routed: bool,
}

/// What a client connects to, and as who.
#[derive(Clone)]
pub struct Target {
    pub protocol: Protocol,
    pub task: Task,
    pub server: SocketAddr,
    pub local: IpAddr,
    pub tls: Option<Tls>,
    pub number: usize,
}

const LOCAL: LocalId = LocalId(0);
const SIGNALING_TIMEOUT: Duration = Duration::from_secs(20);

impl Connection {
    /// Asks the server in. Blocks for the signaling.
    pub fn connect(target: &Target) -> Result<Connection, Failure> {
        let &Target { protocol, task, server, local, number, .. } = target;
        let new = |udp, kind, open| Connection { udp, kind, task, open, closed: None, routed: false };
        let udp = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((local, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let seed = *blend(number as u64).first_chunk().expect("there are more bytes");
        let open = |path: &str, dialect| -> Result<Connection, Failure> {
            let mut web = open_websocket(target, path)?;
            greet(&mut web, dialect)?;
            web.get_mut().set_nonblocking()?;
            Ok(new(None, Kind::Websocket { web: Box::new(web), dialect }, true))
        };
        match protocol {
            Protocol::Websocket => open("/", Dialect::Plain),
            Protocol::SocketIo => open("/socket.io/?EIO=4&transport=websocket", Dialect::SocketIo),
            Protocol::Colyseus => {
                let seat = http(server, local, "POST /matchmake/joinOrCreate/task", "{}")?;
                let seat: serde_json::Value = serde_json::from_str(&seat)?;
                let text = |name| seat[name].as_str().ok_or("no such field");
                let (process, room, session) = (text("processId")?, text("roomId")?, text("sessionId")?);
                open(&format!("/{process}/{room}?sessionId={session}"), Dialect::Colyseus)
            }
            Protocol::Rtcade => {
                let udp = udp()?;
                let room = format!("room-{}", number / ROOM_PLAYERS);
                let mut web = open_websocket(target, &format!("/r/{room}"))?;
                web.get_mut().set_nonblocking()?;
                let mut config = Config::new(seed);
                config.room = Some(room);
                config.name = "load".to_owned();
                config.locals = vec![udp.local_addr()?];
                let client = Box::new(Client::new(config, Instant::now()));
                Ok(new(Some(udp), Kind::Rtcade { client, web: Box::new(web) }, false))
            }
            Protocol::Offer => {
                let udp = udp()?;
                let mut outbox = Outbox::default();
                let (mut peer, offer) = Peer::offer(Instant::now(), &Identity::generate(), seed);
                let answer = http(server, local, "POST /", &offer)?;
                peer.accept(Instant::now(), &answer, &[(LOCAL, udp.local_addr()?)], &mut outbox)
                    .map_err(|error| error.to_string())?;
                Ok(new(Some(udp), Kind::Channel { peer: Box::new(peer), outbox, answers: false }, false))
            }
            Protocol::Geckos => {
                let udp = udp()?;
                let path = "/.wrtc/v2/connections";
                let made: serde_json::Value = serde_json::from_str(&http(server, local, &format!("POST {path}"), "")?)?;
                let text = |pointer| made.pointer(pointer).and_then(|value| value.as_str()).ok_or("no such field");
                let (id, offer) = (text("/id")?, text("/localDescription/sdp")?);
                let ufrag = format!("load{number:08}");
                let locals = vec![udp.local_addr()?];
                let check = binding_request(offer, &ufrag)?;
                let (mut peer, answer) =
                    Peer::answer(Instant::now(), &Identity::generate(), ufrag, seed, offer, locals)
                        .map_err(|error| error.to_string())?;
                peer.report_gaps();
                peer.take_text();
                let answer = serde_json::json!({ "sdp": answer, "type": "answer" }).to_string();
                http(server, local, &format!("POST {path}/{id}/remote-description"), &answer)?;
                http(server, local, &format!("GET {path}/{id}/additional-candidates"), "")?;
                // Its UDP port learns addresses from checks like a browser's, and this end makes none by itself.
                udp.send_to(&check, server)?;
                let kind = Kind::Channel { peer: Box::new(peer), outbox: Outbox::default(), answers: true };
                Ok(new(Some(udp), kind, false))
            }
        }
    }

    pub fn tcp(&self) -> Option<&TcpStream> {
        match &self.kind {
            Kind::Rtcade { web, .. } | Kind::Websocket { web, .. } => Some(web.get_ref().tcp()),
            Kind::Channel { .. } => None,
        }
    }

    /// The negotiated TLS version and cipher suite.
    pub fn cipher(&self) -> Option<String> {
        match &self.kind {
            Kind::Websocket { web, .. } => web.get_ref().cipher(),
            Kind::Rtcade { .. } | Kind::Channel { .. } => None,
        }
    }

    /// Whether messages pass, over the data channel where there is to be one.
    pub fn is_open(&self) -> bool {
        self.open && self.closed.is_none()
    }

    /// Why it ended, if it did.
    pub fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    pub fn deadline(&self) -> Option<Instant> {
        match &self.kind {
            Kind::Rtcade { client, .. } => client.poll_timeout(),
            Kind::Channel { peer, .. } => peer.poll_timeout(),
            Kind::Websocket { .. } => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant, arrived: &mut impl FnMut(&[u8])) {
        match &mut self.kind {
            Kind::Rtcade { client, .. } => client.handle_timeout(now),
            Kind::Channel { peer, outbox, .. } => peer.handle_timeout(now, outbox),
            Kind::Websocket { .. } => {}
        }
        self.settle(arrived);
    }

    /// Takes one datagram. If more wait, the socket remains ready.
    pub fn read_datagram(&mut self, now: Instant, arrived: &mut impl FnMut(&[u8])) {
        let Some(udp) = &self.udp else { return };
        let mut buffer = [0; 2048];
        let Ok((length, source)) = udp.recv_from(&mut buffer) else { return };
        let bytes = &buffer[..length];
        match &mut self.kind {
            Kind::Rtcade { client, .. } => client.handle_datagram(now, LOCAL, source, bytes),
            Kind::Channel { peer, outbox, answers: true } if bytes.first().is_some_and(|&byte| byte < 4) => {
                peer.handle_stun(now, LOCAL, source, bytes, outbox);
            }
            Kind::Channel { peer, outbox, .. } => peer.handle_datagram(now, LOCAL, source, bytes, outbox),
            Kind::Websocket { .. } => {}
        }
        self.settle(arrived);
        if self.open && !self.routed {
            // As long as nothing else is known of the destination, the kernel looks for a route at each datagram.
            self.routed = true;
            if let Some(udp) = &self.udp {
                let _ = udp.connect(source);
            }
        }
    }

    /// Takes all messages of the websocket that wait, and sends what waits.
    pub fn read_websocket(&mut self, now: Instant, arrived: &mut impl FnMut(&[u8])) {
        let (web, mut client, dialect) = match &mut self.kind {
            Kind::Rtcade { web, client } => (web, Some(client), Dialect::Plain),
            Kind::Websocket { web, dialect } => (web, None, *dialect),
            Kind::Channel { .. } => return,
        };
        web.get_mut().set_readable();
        loop {
            match (web.read(), &mut client) {
                (Ok(tungstenite::Message::Binary(bytes)), Some(client)) => client.handle_binary(now, &bytes),
                (Ok(tungstenite::Message::Text(text)), Some(client)) => client.handle_text(now, text.as_str()),
                (Ok(message), None) => {
                    if dialect == Dialect::SocketIo && message == tungstenite::Message::Text("2".into()) {
                        let _ = web.write(tungstenite::Message::text("3"));
                    } else if let Some(state) = state_in(&message, dialect, self.task) {
                        arrived(state);
                    }
                }
                (Ok(_), _) => {}
                (Err(tungstenite::Error::Io(error)), _) if error.kind() == io::ErrorKind::WouldBlock => break,
                (Err(error), client) => {
                    if let Some(client) = client {
                        client.handle_disconnect(now, 1006, &error.to_string());
                    }
                    self.closed.get_or_insert(error.to_string());
                    break;
                }
            }
        }
        flush(web);
        self.settle(arrived);
    }

    pub fn send(&mut self, now: Instant, input: Input, arrived: &mut impl FnMut(&[u8])) {
        match (&mut self.kind, input) {
            (Kind::Rtcade { client, .. }, Input::Opaque(input)) => {
                // With the two bytes that msgpack puts in front, an input has the size of all the others'.
                let body = serde_bytes::Bytes::new(&input[2..]);
                client.send(now, &body).expect("the input fits");
            }
            (Kind::Rtcade { client, .. }, Input::Walk { heading, moving }) => {
                client.send(now, &(heading, moving)).expect("the input fits");
            }
            (Kind::Channel { peer, outbox, .. }, Input::Opaque(input)) => {
                peer.send(now, &input, outbox);
            }
            (Kind::Channel { peer, outbox, .. }, Input::Walk { .. }) => {
                peer.send_text(now, &format!(r#"{{"input":{}}}"#, input.json()), outbox);
            }
            (Kind::Websocket { web, dialect }, input) => {
                for message in messages_of(input, *dialect, self.task).into_iter().flatten() {
                    // Where the socket is full, the frame stays with the websocket and goes with the next.
                    let _ = web.write(message);
                }
                flush(web);
            }
        }
        self.settle(arrived);
    }

    /// Brings out what waits in the state machines.
    fn settle(&mut self, arrived: &mut impl FnMut(&[u8])) {
        let send = |udp: &UdpSocket, routed: bool, bytes: &[u8], destination: SocketAddr| {
            let _ = if routed { udp.send(bytes) } else { udp.send_to(bytes, destination) };
        };
        match &mut self.kind {
            Kind::Rtcade { client, web } => {
                while let Some(event) = client.poll_event() {
                    match event {
                        Event::Open => self.open = true,
                        // One binary value: type and length stand before its bytes.
                        Event::State { value, .. } => arrived(value.get(2..).unwrap_or_default()),
                        Event::Refused { message, .. } | Event::ChannelClosed { message } => {
                            self.closed.get_or_insert(message);
                        }
                        Event::Dropped => {
                            self.closed.get_or_insert("the websocket was lost".to_owned());
                        }
                        Event::Closed { reason, .. } => {
                            self.closed.get_or_insert(reason);
                        }
                        _ => {}
                    }
                }
                let mut wrote = false;
                while let Some(message) = client.poll_message() {
                    let message = match message {
                        Message::Text(text) => tungstenite::Message::text(text),
                        Message::Binary(bytes) => tungstenite::Message::binary(bytes),
                        Message::Close => tungstenite::Message::Close(None),
                        // It was lost, which is the end here.
                        Message::Connect(_) => break,
                    };
                    let _ = web.write(message);
                    wrote = true;
                }
                if wrote {
                    flush(web);
                }
                while let (Some(transmit), Some(udp)) = (client.poll_transmit(), &self.udp) {
                    send(udp, self.routed, transmit.bytes, transmit.destination);
                }
            }
            Kind::Channel { peer, outbox, .. } => {
                while let Some(event) = peer.poll_event() {
                    match event {
                        peer::Event::Open => self.open = true,
                        peer::Event::Data(message) => arrived(&message),
                        peer::Event::Closed(why) => {
                            self.closed.get_or_insert(format!("{why:?}"));
                        }
                        _ => {}
                    }
                }
                while let (Some(transmit), Some(udp)) = (outbox.poll(), &self.udp) {
                    send(udp, self.routed, transmit.bytes, transmit.destination);
                }
            }
            Kind::Websocket { .. } => {}
        }
    }
}

mod socket_io {
    pub const CONNECT: &str = "40";
    pub const EVENT: &str = "42";
    /// A binary event with one attachment, which is the next frame.
    pub const BINARY_INPUT: &str = r#"451-["input",{"_placeholder":true,"num":0}]"#;
}

mod colyseus {
    pub const CODE_MASK: u8 = 0x1f;
    pub const JOIN_ROOM: u8 = 10;
    pub const ROOM_DATA: u8 = 13;
    pub const ROOM_STATE_PATCH: u8 = 15;
    pub const ROOM_DATA_BYTES: u8 = 17;
    /// The name of a message, as a string of `@colyseus/schema`.
    pub const INPUT: &[u8] = b"\xa5input";
}

/// Waits until the server has let a client into its room, on a blocking socket.
fn greet(web: &mut Web, dialect: Dialect) -> Result<(), Failure> {
    match dialect {
        Dialect::Plain => {}
        Dialect::SocketIo => {
            web.read()?;
            web.send(tungstenite::Message::text(socket_io::CONNECT))?;
            while !web.read()?.to_text().is_ok_and(|text| text.starts_with(socket_io::CONNECT)) {}
        }
        Dialect::Colyseus => {
            while web.read()?.into_data().first() != Some(&colyseus::JOIN_ROOM) {}
            web.send(tungstenite::Message::binary(vec![colyseus::JOIN_ROOM]))?;
        }
    }
    Ok(())
}

/// The state that a message carries, if it carries one.
fn state_in(message: &tungstenite::Message, dialect: Dialect, task: Task) -> Option<&[u8]> {
    use tungstenite::Message::{Binary, Text};
    match (message, dialect, task) {
        (Binary(bytes), Dialect::Plain, _) | (Binary(bytes), Dialect::SocketIo, Task::Opaque) => Some(bytes),
        (Text(text), Dialect::Plain, Task::Walk) => Some(text.as_bytes()),
        (Text(text), Dialect::SocketIo, Task::Walk) if text.starts_with(socket_io::EVENT) => Some(text.as_bytes()),
        (Binary(bytes), Dialect::Colyseus, task) => {
            let (&code, rest) = bytes.split_first()?;
            match (code & colyseus::CODE_MASK, task) {
                (colyseus::ROOM_STATE_PATCH, Task::Walk) => Some(rest),
                (colyseus::ROOM_DATA_BYTES, Task::Opaque) => {
                    // A name of less than 32 bytes stands before the message.
                    let (&length, rest) = rest.split_first()?;
                    rest.get(usize::from(length & 0x1f)..)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// The frames of an input: one, or two.
fn messages_of(input: Input, dialect: Dialect, task: Task) -> [Option<tungstenite::Message>; 2] {
    use tungstenite::Message;
    let one = |message| [Some(message), None];
    match (input, dialect) {
        (Input::Opaque(bytes), Dialect::Plain) => one(Message::binary(bytes.to_vec())),
        (Input::Opaque(bytes), Dialect::SocketIo) => {
            let head = Utf8Bytes::from_static(socket_io::BINARY_INPUT);
            [Some(Message::Text(head)), Some(Message::binary(bytes.to_vec()))]
        }
        (Input::Opaque(bytes), Dialect::Colyseus) => {
            one(Message::binary([&[colyseus::ROOM_DATA_BYTES], colyseus::INPUT, &bytes].concat()))
        }
        (Input::Walk { heading, moving }, Dialect::Plain) if task == Task::WalkMsgpack => {
            let mut bytes = vec![0x92];
            msgpack_integer(heading, &mut bytes);
            bytes.push(0xc2 + u8::from(moving));
            one(Message::binary(bytes))
        }
        (Input::Walk { .. }, Dialect::Plain) => one(Message::text(input.json())),
        (Input::Walk { .. }, Dialect::SocketIo) => one(Message::text(format!(r#"42["input",{}]"#, input.json()))),
        (Input::Walk { heading, moving }, Dialect::Colyseus) => {
            let mut bytes = [&[colyseus::ROOM_DATA], colyseus::INPUT, b"\x82\xa7heading"].concat();
            msgpack_integer(heading, &mut bytes);
            bytes.extend(b"\xa6moving");
            bytes.push(0xc2 + u8::from(moving));
            one(Message::binary(bytes))
        }
    }
}

/// Reproducible bytes that don't compress.
pub fn blend(number: u64) -> [u8; INPUT_BYTES] {
    let mut bytes = [0; INPUT_BYTES];
    let mut state = number;
    for chunk in bytes.chunks_mut(8) {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes
}

/// A connectivity check (RFC 8445 §7.1.1) to who made the offer.
fn binding_request(offer: &str, ufrag: &str) -> Result<Vec<u8>, Failure> {
    let attribute = |name| offer.lines().find_map(|line| line.strip_prefix(name)).ok_or("an offer without credentials");
    let (remote, password) = (attribute("a=ice-ufrag:")?, attribute("a=ice-pwd:")?);
    let username = format!("{remote}:{ufrag}");
    let priority = 110 << 24;
    let message = StunMessage::binding_request(&username, TransId::new(), false, 1, priority, false);
    let hmac = str0m::crypto::from_feature_flags().sha1_hmac_provider;
    let mut bytes = vec![0; 512];
    let sign = |key: &[u8], pieces: &[&[u8]]| hmac.sha1_hmac(key, pieces);
    let length = message.to_bytes(Some(password.as_bytes()), &mut bytes, sign).map_err(|error| error.to_string())?;
    bytes.truncate(length);
    Ok(bytes)
}

fn flush(web: &mut Web) {
    // What doesn't fit now goes when the socket is writable; a broken one shows when it is read.
    let _ = web.flush();
}

fn dial(server: SocketAddr, local: IpAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(server), socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(local, 0).into())?;
    socket.connect_timeout(&server.into(), SIGNALING_TIMEOUT)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SIGNALING_TIMEOUT))?;
    Ok(stream)
}

/// On a blocking socket yet.
fn open_websocket(target: &Target, path: &str) -> Result<Web, Failure> {
    let stream = Stream::new(dial(target.server, target.local)?, target.tls.as_ref())?;
    let config = tungstenite::protocol::WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let scheme = if target.tls.is_some() { "wss" } else { "ws" };
    let url = format!("{scheme}://{}{path}", target.server);
    let (web, _) =
        tungstenite::client::client_with_config(url, stream, Some(config)).map_err(|error| error.to_string())?;
    Ok(web)
}

/// The body of the answer to `request`: a method and a path.
fn http(server: SocketAddr, local: IpAddr, request: &str, body: &str) -> Result<String, Failure> {
    let mut stream = dial(server, local)?;
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.0\r\nhost: {server}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (head, body) = response.split_once("\r\n\r\n").ok_or("the answer is cut off")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("{request}: {}", head.lines().next().unwrap_or_default()).into()),
    }
}
