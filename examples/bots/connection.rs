//! The sockets of a [`Client`]: its websocket and its UDP socket.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Instant;

use mio::{Interest, Registry, Token};
use rtcade::client::{Client, Config, Destination, Message};
use rtcade::endpoint::LocalId;
use tungstenite::http::Uri;
use tungstenite::protocol::WebSocket;

/// What a socket returns when it has nothing to read.
const EMPTY: io::ErrorKind = io::ErrorKind::WouldBlock;
/// The close code of a websocket that was lost without one (RFC 6455 §7.4.1).
const LOST: u16 = 1006;

/// A client and the sockets that it needs. After [`Connection::receive`], handle the client's events, then call
/// [`Connection::send`].
pub(crate) struct Connection {
    pub(crate) client: Client,
    home: Server,
    token: Token,
    udp: mio::net::UdpSocket,
    websocket: Option<WebSocket<TcpStream>>,
    /// The websocket's socket again, for the registry.
    registered: Option<mio::net::TcpStream>,
    buffer: Vec<u8>,
}

/// The server's address, and the room's URL.
#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    url: String,
    /// The local address that reaches the server.
    local: IpAddr,
}

impl Server {
    /// Resolves the host of a room's URL, such as `http://localhost:8080/r/lobby`.
    pub(crate) fn resolve(url: &str) -> io::Result<Server> {
        let invalid = |sentence: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {sentence}"));
        let uri: Uri = url.parse().map_err(|_| invalid("this is no URL"))?;
        let host = match (uri.scheme_str(), uri.host()) {
            (Some("http" | "ws"), Some(host)) => host.trim_matches(['[', ']']),
            _ => return Err(invalid("expected a URL that begins with http:// or ws://")),
        };
        let mut failure = invalid("its host has no address");
        for address in (host, uri.port_u16().unwrap_or(80)).to_socket_addrs()? {
            match TcpStream::connect(address).and_then(|socket| socket.local_addr()) {
                Ok(local) => {
                    let url = url.strip_prefix("http").map_or(url.to_owned(), |rest| format!("ws{rest}"));
                    return Ok(Server { address, url, local: local.ip() });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

impl Connection {
    /// Binds a UDP socket, registers it as `token`, and starts to join.
    pub(crate) fn open(
        server: &Server,
        name: &str,
        seed: [u8; 32],
        token: Token,
        registry: &Registry,
    ) -> io::Result<Connection> {
        let udp = UdpSocket::bind((server.local, 0))?;
        udp.set_nonblocking(true)?;
        let mut udp = mio::net::UdpSocket::from_std(udp);
        registry.register(&mut udp, token, Interest::READABLE)?;
        let mut config = Config::new(seed);
        config.name = name.to_owned();
        config.locals = vec![udp.local_addr()?];
        let mut connection = Connection {
            client: Client::new(config, Instant::now()),
            home: server.clone(),
            token,
            udp,
            websocket: None,
            registered: None,
            buffer: vec![0; 65_536],
        };
        connection.connect(server, registry)?;
        Ok(connection)
    }

    /// Opens the websocket at the bot's own server, or at the one of the cluster that has the room.
    fn go(&mut self, to: &Destination, registry: &Registry) -> io::Result<()> {
        let server = match to {
            Destination::Home => self.home.clone(),
            Destination::Url(url) => Server::resolve(url)?,
        };
        self.connect(&server, registry)
    }

    /// Opens the websocket. This blocks until the server has answered.
    fn connect(&mut self, server: &Server, registry: &Registry) -> io::Result<()> {
        self.registered = None;
        self.websocket = None;
        let socket = TcpStream::connect(server.address)?;
        socket.set_nodelay(true)?;
        let mut registered = mio::net::TcpStream::from_std(socket.try_clone()?);
        let (websocket, _) = tungstenite::client(&server.url, socket).map_err(io::Error::other)?;
        websocket.get_ref().set_nonblocking(true)?;
        registry.register(&mut registered, self.token, Interest::READABLE | Interest::WRITABLE)?;
        self.registered = Some(registered);
        self.websocket = Some(websocket);
        Ok(())
    }

    /// Passes to the client what has arrived, and the time.
    pub(crate) fn receive(&mut self) {
        let now = Instant::now();
        loop {
            match self.udp.recv_from(&mut self.buffer) {
                Ok((bytes, source)) => self.client.handle_datagram(now, LocalId(0), source, &self.buffer[..bytes]),
                Err(error) if error.kind() == EMPTY => break,
                // The reply to a datagram that could not be delivered.
                Err(_) => {}
            }
        }
        while let Some(websocket) = &mut self.websocket {
            match websocket.read() {
                Ok(tungstenite::Message::Text(text)) => self.client.handle_text(now, &text),
                Ok(tungstenite::Message::Binary(bytes)) => self.client.handle_binary(now, &bytes),
                Ok(tungstenite::Message::Close(frame)) => {
                    let code = frame.as_ref().map_or(1005, |frame| frame.code.into());
                    self.drop_websocket(code, frame.as_ref().map_or("", |frame| &frame.reason));
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) if error.kind() == EMPTY => break,
                Err(error) => self.drop_websocket(LOST, &error.to_string()),
            }
        }
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
    }

    /// Sends what the client has to send.
    pub(crate) fn send(&mut self, registry: &Registry) {
        while let Some(transmit) = self.client.poll_transmit() {
            // Not every address of the server has a route.
            let _ = self.udp.send_to(transmit.bytes, transmit.destination);
        }
        while let Some(message) = self.client.poll_message() {
            let sent = match (message, &mut self.websocket) {
                (Message::Connect(to), _) => self.go(&to, registry).map_err(tungstenite::Error::Io),
                (Message::Text(text), Some(websocket)) => websocket.write(text.into()),
                (Message::Binary(bytes), Some(websocket)) => websocket.write(bytes.into()),
                (Message::Close, Some(websocket)) => websocket.close(None),
                (_, None) => Ok(()),
            };
            self.drop_if_lost(sent);
        }
        let flushed = self.websocket.as_mut().map_or(Ok(()), WebSocket::flush);
        self.drop_if_lost(flushed);
    }

    fn drop_if_lost(&mut self, result: tungstenite::Result<()>) {
        match result {
            Err(tungstenite::Error::Io(error)) if error.kind() == EMPTY => {}
            Err(error) => self.drop_websocket(LOST, &error.to_string()),
            Ok(()) => {}
        }
    }

    fn drop_websocket(&mut self, code: u16, reason: &str) {
        self.websocket = None;
        self.registered = None;
        self.client.handle_disconnect(Instant::now(), code, reason);
    }
}
