//! Attackers: websockets that are driven byte by byte, on threads of their own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::world::SERVER;

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// The smallest receive buffer; the kernel doubles it (socket(7)).
const SMALL_BUFFER_BYTES: usize = 2048;

/// First bytes of a frame: FIN and opcode (RFC 6455 §5.2).
pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
pub(super) const CLOSE: u8 = 0x88;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;
pub(super) const TEXT_FRAGMENT: u8 = 0x01;
pub(super) const CONTINUATION: u8 = 0x00;

/// A thread that attacks until it is dropped.
pub(super) struct Attack {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Attack {
    /// Calls `round` until the end; it returns how much of whatever it does it has done.
    pub(super) fn start(mut round: impl FnMut() -> u64 + Send + 'static) -> Attack {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                counted.fetch_add(round(), Ordering::Relaxed);
            }
        });
        Attack { stop, done, thread: Some(thread) }
    }

    /// How much it has done.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the attack panicked");
        }
    }
}

/// A connection from an address of the attacker's choice; connecting blocks, nothing else does.
pub(super) struct Connection {
    socket: TcpStream,
    /// What the socket has not taken of a message that was begun.
    rest: Vec<u8>,
    inbox: Vec<u8>,
}

impl Connection {
    pub(super) fn open(source: IpAddr) -> io::Result<Connection> {
        let socket = connect(source, None)?;
        Connection::new(socket)
    }

    /// One whose end of the connection has little room for what it doesn't read.
    pub(super) fn open_small(source: IpAddr) -> io::Result<Connection> {
        let socket = connect(source, Some(SMALL_BUFFER_BYTES))?;
        Connection::new(socket)
    }

    fn new(socket: TcpStream) -> io::Result<Connection> {
        socket.set_nonblocking(true)?;
        // Closed by a reset, so that no port waits: an attack needs very many of them.
        SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        Ok(Connection { socket, rest: Vec::new(), inbox: Vec::new() })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends a message if the socket takes it now, or at least its first byte. Whether it does.
    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<bool> {
        if !self.flush()? {
            return Ok(false);
        }
        match self.socket.write(message) {
            Ok(written) => {
                self.rest.extend_from_slice(&message[written..]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether everything has gone out that was begun.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        while !self.rest.is_empty() {
            match self.socket.write(&self.rest) {
                Ok(written) => drop(self.rest.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Asks for a websocket. Its frames may follow at once.
    pub(super) fn upgrade(&mut self, path: &str) -> io::Result<bool> {
        self.send(upgrade(path, &SERVER.to_string(), None).as_bytes())
    }

    /// Takes in some of what has arrived, if anything has; an error at the end of the connection.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 64 * 1024];
        match self.socket.read(&mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.inbox.extend_from_slice(&bytes[..length]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives the whole frames that have arrived to `take`: first byte and payload. Bytes of the HTTP response before
    /// them.
    pub(super) fn take_frames(&mut self, mut take: impl FnMut(u8, &[u8])) -> usize {
        let head = match self.inbox.starts_with(b"HTTP") {
            true => match self.inbox.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => end + 4,
                None => return 0,
            },
            false => 0,
        };
        let mut at = head;
        while let Some((first, payload, next)) = frame_at(&self.inbox, at) {
            take(first, &self.inbox[payload..next]);
            at = next;
        }
        self.inbox.drain(..at);
        head
    }
}

/// The frame from a server that begins at `at`, if it is whole: its first byte, where its payload begins, and its end.
fn frame_at(bytes: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let (first, length) = (*bytes.get(at)?, *bytes.get(at + 1)?);
    let extended = |count: usize| {
        let bytes = bytes.get(at + 2..at + 2 + count)?;
        Some(bytes.iter().fold(0_usize, |length, &byte| length << 8 | usize::from(byte)))
    };
    let (payload, length) = match length {
        126 => (at + 4, extended(2)?),
        127 => (at + 10, extended(8)?),
        length => (at + 2, length.into()),
    };
    (payload + length <= bytes.len()).then_some((first, payload, payload + length))
}

/// A frame from a client, masked with zeros.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

pub(super) fn upgrade(path: &str, host: &str, origin: Option<&str>) -> String {
    let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\n{origin}Connection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A request to join a room, as a frame.
pub(super) fn join(name: &str) -> Vec<u8> {
    frame(TEXT, format!(r#"{{"a":"join","d":{{"version":0,"name":"{name}"}}}}"#).as_bytes())
}

/// Connects from an address, blocking.
pub(super) fn connect(source: IpAddr, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(SERVER), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    socket.connect_timeout(&SockAddr::from(SERVER), CONNECT_PATIENCE)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}
