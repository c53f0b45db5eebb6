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
use tungstenite::WebSocket;

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
}

enum Kind {
    Rtcade { client: Box<Client>, web: WebSocket<TcpStream> },
    Channel { peer: Box<Peer>, outbox: Outbox, answers: bool },
    Websocket(WebSocket<TcpStream>),
}

/// A client that is connected, or at it.
pub struct Connection {
    pub udp: Option<UdpSocket>,
    kind: Kind,
    open: bool,
    closed: Option<String>,
}

const LOCAL: LocalId = LocalId(0);
const SIGNALING_TIMEOUT: Duration = Duration::from_secs(20);

impl Connection {
    /// Asks the server in. Blocks for the signaling.
    pub fn connect(
        protocol: Protocol,
        server: SocketAddr,
        local: IpAddr,
        number: usize,
    ) -> Result<Connection, Failure> {
        let udp = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((local, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let seed = *blend(number as u64).first_chunk().expect("there are more bytes");
        match protocol {
            Protocol::Websocket => {
                let web = open_websocket(server, local, "/")?;
                Ok(Connection { udp: None, kind: Kind::Websocket(web), open: true, closed: None })
            }
            Protocol::Rtcade => {
                let udp = udp()?;
                let room = format!("room-{}", number / ROOM_PLAYERS);
                let web = open_websocket(server, local, &format!("/r/{room}"))?;
                let mut config = Config::new(seed);
                config.room = Some(room);
                config.name = "load".to_owned();
                config.locals = vec![udp.local_addr()?];
                let client = Box::new(Client::new(config, Instant::now()));
                Ok(Connection { udp: Some(udp), kind: Kind::Rtcade { client, web }, open: false, closed: None })
            }
            Protocol::Offer => {
                let udp = udp()?;
                let mut outbox = Outbox::default();
                let (mut peer, offer) = Peer::offer(Instant::now(), &Identity::generate(), seed);
                let answer = http(server, local, "POST /", &offer)?;
                peer.accept(Instant::now(), &answer, &[(LOCAL, udp.local_addr()?)], &mut outbox)
                    .map_err(|error| error.to_string())?;
                let kind = Kind::Channel { peer: Box::new(peer), outbox, answers: false };
                Ok(Connection { udp: Some(udp), kind, open: false, closed: None })
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
                let answer = serde_json::json!({ "sdp": answer, "type": "answer" }).to_string();
                http(server, local, &format!("POST {path}/{id}/remote-description"), &answer)?;
                http(server, local, &format!("GET {path}/{id}/additional-candidates"), "")?;
                // Its UDP port learns addresses from checks like a browser's, and this end makes none by itself.
                udp.send_to(&check, server)?;
                let kind = Kind::Channel { peer: Box::new(peer), outbox: Outbox::default(), answers: true };
                Ok(Connection { udp: Some(udp), kind, open: false, closed: None })
            }
        }
    }

    pub fn tcp(&self) -> Option<&TcpStream> {
        match &self.kind {
            Kind::Rtcade { web, .. } | Kind::Websocket(web) => Some(web.get_ref()),
            Kind::Channel { .. } => None,
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
            Kind::Websocket(_) => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant, arrived: &mut impl FnMut(&[u8])) {
        match &mut self.kind {
            Kind::Rtcade { client, .. } => client.handle_timeout(now),
            Kind::Channel { peer, outbox, .. } => peer.handle_timeout(now, outbox),
            Kind::Websocket(_) => {}
        }
        self.settle(arrived);
    }

    /// Takes all datagrams that wait.
    pub fn read_datagrams(&mut self, now: Instant, arrived: &mut impl FnMut(&[u8])) {
        let Some(udp) = &self.udp else { return };
        let mut buffer = [0; 2048];
        while let Ok((length, source)) = udp.recv_from(&mut buffer) {
            let bytes = &buffer[..length];
            match &mut self.kind {
                Kind::Rtcade { client, .. } => client.handle_datagram(now, LOCAL, source, bytes),
                Kind::Channel { peer, outbox, answers: true } if bytes.first().is_some_and(|&byte| byte < 4) => {
                    peer.handle_stun(now, LOCAL, source, bytes, outbox);
                }
                Kind::Channel { peer, outbox, .. } => peer.handle_datagram(now, LOCAL, source, bytes, outbox),
                Kind::Websocket(_) => {}
            }
        }
        self.settle(arrived);
    }

    /// Takes all messages of the websocket that wait, and sends what waits.
    pub fn read_websocket(&mut self, now: Instant, arrived: &mut impl FnMut(&[u8])) {
        let (web, mut client) = match &mut self.kind {
            Kind::Rtcade { web, client } => (web, Some(client)),
            Kind::Websocket(web) => (web, None),
            Kind::Channel { .. } => return,
        };
        loop {
            match (web.read(), &mut client) {
                (Ok(tungstenite::Message::Binary(bytes)), None) => arrived(&bytes),
                (Ok(tungstenite::Message::Binary(bytes)), Some(client)) => client.handle_binary(now, &bytes),
                (Ok(tungstenite::Message::Text(text)), Some(client)) => client.handle_text(now, text.as_str()),
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

    pub fn send(&mut self, now: Instant, input: &[u8; INPUT_BYTES], arrived: &mut impl FnMut(&[u8])) {
        match &mut self.kind {
            Kind::Rtcade { client, .. } => {
                // With the two bytes that msgpack puts in front, an input has the size of all the others'.
                let body = serde_bytes::Bytes::new(&input[2..]);
                client.send(now, &body).expect("the input fits");
            }
            Kind::Channel { peer, outbox, .. } => {
                peer.send(now, input, outbox);
            }
            Kind::Websocket(web) => {
                // Where the socket is full, the frame stays with the websocket and goes with the next.
                let _ = web.write(tungstenite::Message::binary(input.to_vec()));
                flush(web);
            }
        }
        self.settle(arrived);
    }

    /// Brings out what waits in the state machines.
    fn settle(&mut self, arrived: &mut impl FnMut(&[u8])) {
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
                        Message::Connect => break,
                    };
                    let _ = web.write(message);
                    wrote = true;
                }
                if wrote {
                    flush(web);
                }
                while let (Some(transmit), Some(udp)) = (client.poll_transmit(), &self.udp) {
                    let _ = udp.send_to(transmit.bytes, transmit.destination);
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
                    }
                }
                while let (Some(transmit), Some(udp)) = (outbox.poll(), &self.udp) {
                    let _ = udp.send_to(transmit.bytes, transmit.destination);
                }
            }
            Kind::Websocket(_) => {}
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

fn flush(web: &mut WebSocket<TcpStream>) {
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

fn open_websocket(server: SocketAddr, local: IpAddr, path: &str) -> Result<WebSocket<TcpStream>, Failure> {
    let stream = dial(server, local)?;
    let config = tungstenite::protocol::WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let (web, _) = tungstenite::client::client_with_config(format!("ws://{server}{path}"), stream, Some(config))
        .map_err(|error| error.to_string())?;
    web.get_ref().set_nonblocking(true)?;
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
