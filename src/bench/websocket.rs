//! A non-blocking websocket.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Registry, Token};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::{ClientHandshake, Request};
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Message, Utf8Bytes};

use super::redirects::Lookup;
use super::target::{Target, error_name, is_connected};
use super::tls::Stream;

/// Messages read per turn before others have theirs.
const MESSAGES_PER_TURN: usize = 64;
/// Maximum bytes of a message; game servers send less.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// An event of the websocket.
pub(super) enum Brought {
    Open,
    Text(Utf8Bytes),
    Binary(Bytes),
    Closed { code: u16, reason: String, error: &'static str },
}

enum State {
    LookingUp { lookup: Arc<Lookup>, registry: Rc<Registry>, token: Token, request: Box<Request> },
    Connecting { stream: Stream<TcpStream>, request: Box<Request> },
    Handshaking(Box<MidHandshake<ClientHandshake<Stream<TcpStream>>>>),
    Open(Box<tungstenite::WebSocket<Stream<TcpStream>>>),
    Closed,
}

pub(super) struct WebSocket {
    state: State,
    /// Messages to send once it is open.
    waiting: VecDeque<Message>,
}

impl WebSocket {
    /// Starts to connect; `url` is one of the target's.
    pub(super) fn connect(
        registry: &Registry,
        token: Token,
        target: &Target,
        url: &str,
    ) -> Result<WebSocket, &'static str> {
        let request = Box::new(url.into_client_request().map_err(|_| "EURL")?);
        let stream = target.dial(registry, token).map_err(|error| error_name(&error))?;
        Ok(WebSocket { state: State::Connecting { stream, request }, waiting: VecDeque::new() })
    }

    /// Starts to connect to a server once it is found; `url` is one of the server's. Call [`WebSocket::handle_ready`]
    /// when the lookup has ended.
    pub(super) fn connect_to_found(
        registry: &Rc<Registry>,
        token: Token,
        lookup: Arc<Lookup>,
        url: &str,
    ) -> Result<WebSocket, &'static str> {
        match lookup.get() {
            Some(Ok(target)) => return WebSocket::connect(registry, token, target, url),
            Some(Err(kind)) => return Err(error_name(&io::Error::from(*kind))),
            None => {}
        }
        let request = Box::new(url.into_client_request().map_err(|_| "EURL")?);
        let state = State::LookingUp { lookup, registry: Rc::clone(registry), token, request };
        Ok(WebSocket { state, waiting: VecDeque::new() })
    }

    /// Returns a closed websocket.
    pub(super) fn none() -> WebSocket {
        WebSocket { state: State::Closed, waiting: VecDeque::new() }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Reads what has arrived. Returns whether more may be waiting.
    pub(super) fn handle_ready(&mut self, mut take: impl FnMut(Brought)) -> bool {
        let result = self.open(&mut take).and_then(|is_open| if is_open { self.read(&mut take) } else { Ok(false) });
        result.unwrap_or_else(|error| {
            self.state = State::Closed;
            take(describe(&error));
            false
        })
    }

    /// Sends a message, or queues what does not fit until the socket is writable.
    pub(super) fn send(&mut self, message: Message) {
        match &mut self.state {
            // What does not fit is sent later; errors show when reading.
            State::Open(socket) => drop(socket.write(message)),
            State::LookingUp { .. } | State::Connecting { .. } | State::Handshaking(_) => {
                self.waiting.push_back(message)
            }
            State::Closed => {}
        }
    }

    pub(super) fn flush(&mut self) {
        if let State::Open(socket) = &mut self.state {
            let _ = socket.flush();
        }
    }

    /// Continues to open. Returns whether it is open.
    fn open(&mut self, take: &mut impl FnMut(Brought)) -> Result<bool, tungstenite::Error> {
        let handshake = match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => return Ok(false),
            State::Open(socket) => {
                self.state = State::Open(socket);
                return Ok(true);
            }
            State::LookingUp { lookup, registry, token, request } => {
                self.state = match lookup.get() {
                    None => State::LookingUp { lookup, registry, token, request },
                    Some(Err(kind)) => return Err(io::Error::from(*kind).into()),
                    Some(Ok(target)) => State::Connecting { stream: target.dial(&registry, token)?, request },
                };
                return Ok(false);
            }
            State::Connecting { stream, request } => {
                if !is_connected(&stream)? {
                    self.state = State::Connecting { stream, request };
                    return Ok(false);
                }
                // A small buffer each, because there may be thousands.
                let config = WebSocketConfig::default()
                    .read_buffer_size(4096)
                    .write_buffer_size(0)
                    .max_message_size(Some(MESSAGE_BYTES));
                Box::new(ClientHandshake::start(stream, *request, Some(config))?)
            }
            State::Handshaking(handshake) => handshake,
        };
        match handshake.handshake() {
            Ok((mut socket, _)) => {
                for message in self.waiting.drain(..) {
                    match socket.write(message) {
                        Err(error) if !is_block(&error) => return Err(error),
                        _ => {}
                    }
                }
                self.state = State::Open(Box::new(socket));
                self.flush();
                take(Brought::Open);
                Ok(true)
            }
            Err(HandshakeError::Interrupted(handshake)) => {
                self.state = State::Handshaking(Box::new(handshake));
                Ok(false)
            }
            Err(HandshakeError::Failure(error)) => Err(error),
        }
    }

    fn read(&mut self, take: &mut impl FnMut(Brought)) -> Result<bool, tungstenite::Error> {
        let State::Open(socket) = &mut self.state else { return Ok(false) };
        for _ in 0..MESSAGES_PER_TURN {
            match socket.read() {
                Ok(Message::Text(text)) => take(Brought::Text(text)),
                Ok(Message::Binary(bytes)) => take(Brought::Binary(bytes)),
                Ok(Message::Close(frame)) => {
                    self.flush();
                    self.state = State::Closed;
                    let (code, reason) =
                        frame.map_or((1005, String::new()), |frame| (frame.code.into(), frame.reason.to_string()));
                    take(Brought::Closed { code, reason, error: "closed" });
                    return Ok(false);
                }
                Ok(_) => {}
                Err(error) if is_block(&error) => {
                    self.flush();
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn is_block(error: &tungstenite::Error) -> bool {
    matches!(error, tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn describe(error: &tungstenite::Error) -> Brought {
    let name = match error {
        tungstenite::Error::Io(error) => error_name(error),
        tungstenite::Error::Http(_) => "handshake",
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => "closed",
        tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => "ECONNRESET",
        _ => "EPROTO",
    };
    // Without a close frame (RFC 6455 §7.4.1).
    Brought::Closed { code: 1006, reason: error.to_string(), error: name }
}
