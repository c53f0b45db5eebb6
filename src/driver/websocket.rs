//! One websocket on a non-blocking socket: at most one message waits in it, the rest stays in the server's core.

use std::io::{self, Read, Write};

use tungstenite::error::CapacityError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Bytes, Error, Message, Utf8Bytes, WebSocket};

use crate::limits::{RELIABLE_DOWN_BYTES, RELIABLE_HEADER_BYTES, RELIABLE_UP_BYTES};
use crate::server::{Disconnect, Signal};

/// Bytes of one message from a client, its header included.
pub(super) const MESSAGE_BYTES: usize = RELIABLE_UP_BYTES + RELIABLE_HEADER_BYTES;
/// What a reply to `join` holds besides its welcome: 1,024 players of at most 520 bytes each, an SDP with its line ends
/// escaped; and the frame header, a pong and a close.
const AROUND_WELCOME_BYTES: usize = 640 * 1024;
const WRITE_BUFFER_BYTES: usize = RELIABLE_DOWN_BYTES + AROUND_WELCOME_BYTES;
/// Bytes of a close frame's reason (RFC 6455 §5.5).
const CLOSE_REASON_BYTES: usize = 123;

/// What [`Websocket::read`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// Nothing that concerns anybody.
    Control,
    /// A pong with this payload.
    Pong(Bytes),
    /// The other end says goodbye, and whether it may come back. The answer is on its way.
    Goodbye(Disconnect),
    /// Nothing more for now: the socket is empty, or the allowance used up.
    Blocked,
    /// The other end broke the protocol or a limit: it is told so in [`Websocket::fail`].
    Violation(Violation),
    /// The connection is gone, or its closing complete.
    Gone,
}

/// Why a websocket is closed from this end without the core's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    TooLarge,
    NotUtf8,
    Protocol,
}

/// The connection is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// A socket of which no more than an allowance is read in one turn of the loop. (An endless run of empty fragments
/// would otherwise keep tungstenite reading.)
#[derive(Debug)]
pub(super) struct Metered<S> {
    pub(super) socket: S,
    allowance: usize,
    /// Whether bytes were written since [`Websocket::take_progress`].
    wrote: bool,
}

impl<S: Read> Read for Metered<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.allowance == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = buffer.len().min(self.allowance);
        let read = self.socket.read(&mut buffer[..length])?;
        self.allowance -= read;
        Ok(read)
    }
}

impl<S: Write> Write for Metered<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.socket.write(bytes)?;
        self.wrote |= written > 0;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

#[derive(Debug)]
pub(super) struct Websocket<S> {
    inner: WebSocket<Metered<S>>,
    /// Whether the socket has refused bytes that wait in `inner`.
    blocked: bool,
}

impl<S: Read + Write> Websocket<S> {
    /// A websocket whose opening handshake is done; `rest` is what has arrived behind it.
    pub(super) fn new(socket: S, rest: Vec<u8>) -> Websocket<S> {
        let config = WebSocketConfig::default()
            .read_buffer_size(2048)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let socket = Metered { socket, allowance: 0, wrote: false };
        let inner = WebSocket::from_partially_read(socket, rest, Role::Server, Some(config));
        Websocket { inner, blocked: false }
    }

    /// How many bytes may be read until the next call.
    pub(super) fn allow(&mut self, bytes: usize) {
        self.inner.get_mut().allowance = bytes;
    }

    /// Whether reading has stopped at the allowance, so that the socket may hold more.
    pub(super) fn is_exhausted(&self) -> bool {
        self.inner.get_ref().allowance == 0
    }

    /// Whether a message would go out now instead of waiting.
    pub(super) fn is_writable(&self) -> bool {
        !self.blocked && self.inner.can_write()
    }

    /// Whether bytes wait for the socket.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether the socket has taken bytes since the last call.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.inner.get_mut().wrote)
    }

    pub(super) fn read(&mut self) -> Received {
        match self.inner.read() {
            Ok(Message::Text(text)) => Received::Text(text),
            Ok(Message::Binary(bytes)) => Received::Binary(bytes),
            Ok(Message::Close(frame)) => Received::Goodbye(match frame.map(|frame| frame.code) {
                Some(CloseCode::Normal) => Disconnect::Goodbye,
                Some(CloseCode::Away) => Disconnect::Away,
                _ => Disconnect::Lost,
            }),
            Ok(Message::Pong(payload)) => Received::Pong(payload),
            Ok(Message::Ping(_) | Message::Frame(_)) => Received::Control,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Received::Blocked,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::Interrupted => Received::Control,
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Received::Violation(Violation::TooLarge),
            Err(Error::Utf8(_)) => Received::Violation(Violation::NotUtf8),
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => Received::Gone,
            Err(Error::Protocol(_)) => Received::Violation(Violation::Protocol),
            Err(_) => Received::Gone,
        }
    }

    /// Sends a message, or as much of it as the socket takes; the rest goes with [`Websocket::flush`].
    pub(super) fn write(&mut self, signal: Signal) -> Result<(), Gone> {
        debug_assert!(self.is_writable(), "the caller writes to a flushed websocket only");
        let message = match signal {
            Signal::Text(text) => Message::Text(text.into()),
            Signal::Binary(bytes) => Message::Binary(bytes.into()),
            Signal::Ping(payload) => Message::Ping(Bytes::copy_from_slice(&payload.to_be_bytes())),
            Signal::Close { code, reason } => return self.close(code.into(), &reason),
        };
        let result = self.inner.write(message);
        self.settle(result)
    }

    /// Says goodbye: the closing is complete when [`Websocket::read`] is [`Received::Gone`].
    fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Gone> {
        let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES)];
        let result = self.inner.close(Some(CloseFrame { code, reason: reason.into() }));
        self.settle(result)
    }

    /// Tells the other end what it did wrong. What it sends cannot be read any more.
    pub(super) fn fail(&mut self, violation: Violation) -> Result<(), Gone> {
        let (code, reason) = match violation {
            Violation::TooLarge => (CloseCode::Size, "a message may have 16 KiB"),
            Violation::NotUtf8 => (CloseCode::Invalid, "a text message is UTF-8"),
            Violation::Protocol => (CloseCode::Protocol, "this is not the websocket protocol"),
        };
        self.close(code, reason)
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        let result = self.inner.flush();
        self.settle(result)
    }

    fn settle(&mut self, result: Result<(), Error>) -> Result<(), Gone> {
        match result {
            Ok(()) => self.blocked = false,
            Err(Error::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                self.blocked = true;
            }
            Err(_) => return Err(Gone),
        }
        Ok(())
    }

    pub(super) fn into_socket(self) -> S {
        self.inner.into_inner().socket
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{PLAYER_NAME_CHARS, PLAYERS_PER_ROOM_MAX, SDP_BYTES, SUBJECT_BYTES};
    use crate::wire::signaling::{self, JoinReply, Return, SessionInfo};

    /// Holds what arrives, and takes so many bytes.
    #[derive(Debug, Default)]
    struct Socket {
        arrived: io::Cursor<Vec<u8>>,
        sent: Vec<u8>,
        takes: usize,
    }

    impl Read for Socket {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.arrived.read(buffer)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                read => Ok(read),
            }
        }
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.takes);
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.takes -= taken;
            self.sent.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A frame from a client, masked with zeros.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match u16::try_from(payload.len()).expect("short enough") {
            length @ 0..126 => bytes.push(0x80 | u8::try_from(length).expect("below 126")),
            length => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn websocket(arrived: Vec<u8>, takes: usize) -> Websocket<Socket> {
        let socket = Socket { arrived: io::Cursor::new(arrived), sent: Vec::new(), takes };
        let mut websocket = Websocket::new(socket, Vec::new());
        websocket.allow(usize::MAX);
        websocket
    }

    fn socket(websocket: &Websocket<Socket>) -> &Socket {
        &websocket.inner.get_ref().socket
    }

    fn text(text: &str) -> Signal {
        Signal::Text(text.to_owned())
    }

    #[test]
    fn messages_arrive_from_both_sides_of_the_handshake() {
        let socket = Socket { arrived: io::Cursor::new(frame(0x82, b"two")), ..Socket::default() };
        let mut websocket = Websocket::new(socket, frame(0x81, b"one"));
        websocket.allow(1_000);
        assert_eq!(websocket.read(), Received::Text("one".into()));
        assert_eq!(websocket.read(), Received::Binary(Bytes::from_static(b"two")));
        assert_eq!(websocket.read(), Received::Blocked);
    }

    #[test]
    fn a_message_has_a_limit_whole_or_in_fragments() {
        let largest = vec![0; MESSAGE_BYTES];
        let larger = vec![0; MESSAGE_BYTES + 1];
        assert_eq!(websocket(frame(0x82, &largest), 0).read(), Received::Binary(largest.clone().into()));
        assert_eq!(websocket(frame(0x82, &larger), 0).read(), Received::Violation(Violation::TooLarge));
        let fragments = [frame(0x02, &largest), frame(0x80, &[0])].concat();
        let mut websocket = websocket(fragments, 1_000);
        assert_eq!(websocket.read(), Received::Violation(Violation::TooLarge));
        websocket.fail(Violation::TooLarge).expect("still there");
        assert_eq!(socket(&websocket).sent[..4], [0x88, 27, 0x03, 0xf1], "close frame, 1009");
    }

    #[test]
    fn what_is_no_websocket_is_a_violation() {
        assert_eq!(websocket(frame(0x81, b"\xff"), 0).read(), Received::Violation(Violation::NotUtf8));
        assert_eq!(websocket(vec![0x81, 1, b'a'], 0).read(), Received::Violation(Violation::Protocol));
        assert_eq!(websocket(frame(0xf1, b"a"), 0).read(), Received::Violation(Violation::Protocol));
    }

    #[test]
    fn a_goodbye_says_whether_somebody_may_come_back() {
        use Disconnect::{Away, Goodbye, Lost};
        for (code, how) in [(1000_u16, Goodbye), (1001, Away), (1002, Lost), (4000, Lost)] {
            let mut websocket = websocket(frame(0x88, &code.to_be_bytes()), 1_000);
            assert_eq!(websocket.read(), Received::Goodbye(how), "{code}");
            assert_eq!(websocket.read(), Received::Gone, "{code}");
            assert_eq!(socket(&websocket).sent[2..4], code.to_be_bytes(), "the code goes back");
        }
        assert_eq!(websocket(frame(0x88, b""), 1_000).read(), Received::Goodbye(Lost));
    }

    #[test]
    fn a_full_socket_blocks_and_loses_nothing() {
        let mut websocket = websocket(Vec::new(), 3);
        websocket.write(text("0123456789")).expect("still there");
        assert!(websocket.is_blocked() && !websocket.is_writable());
        assert!(websocket.take_progress(), "three bytes");
        websocket.flush().expect("still there");
        assert!(!websocket.take_progress());
        websocket.inner.get_mut().socket.takes = 1_000;
        websocket.flush().expect("still there");
        assert!(websocket.is_writable());
        assert_eq!(socket(&websocket).sent, b"\x81\x0a0123456789");
    }

    #[test]
    fn the_largest_reply_fits_behind_a_pong() {
        let mut websocket = websocket(frame(0x89, &[7; 125]), 0);
        assert_eq!(websocket.read(), Received::Control);
        assert_eq!(websocket.read(), Received::Blocked);
        let socket_id = "f".repeat(32);
        let session = SessionInfo {
            player: u32::MAX,
            socket_id: socket_id.clone(),
            user_id: Some("\"".repeat(SUBJECT_BYTES)),
            name: "\u{10348}".repeat(PLAYER_NAME_CHARS),
        };
        let reply = JoinReply {
            socket_id: &socket_id,
            player: u32::MAX,
            room_size: PLAYERS_PER_ROOM_MAX,
            sessions: vec![&session; PLAYERS_PER_ROOM_MAX],
            tick: u32::MAX,
            tick_ms: 1_000.0,
            input_seq: u32::MAX,
            resume: &"f".repeat(32),
            returns: Some(Return { last: u32::MAX, reliable_seq: u32::MAX }),
            welcome: &"w".repeat(RELIABLE_DOWN_BYTES - "\"\"".len()).into(),
            sdp: Some("\n".repeat(SDP_BYTES)),
            sdp_error: None,
        };
        let (reply_to, _) = signaling::parse(r#"{"a":"join"}"#);
        websocket.write(Signal::Text(signaling::granted(&reply_to, &reply))).expect("within the buffer");
        assert!(websocket.is_blocked());
    }

    #[test]
    fn empty_fragments_end_with_the_allowance() {
        let fragments = frame(0x02, b"").into_iter().chain(frame(0x00, b"").into_iter().cycle().take(60_000));
        let mut websocket = websocket(fragments.collect(), 0);
        websocket.allow(10_000);
        assert_eq!(websocket.read(), Received::Blocked);
        assert!(websocket.is_exhausted());
        assert_eq!(socket(&websocket).arrived.position(), 10_000);
    }

    #[test]
    fn a_goodbye_is_cut_to_its_limit_and_awaits_the_answer() {
        let mut websocket = websocket(frame(0x88, &[0x03, 0xe8]), 1_000);
        websocket.write(Signal::Close { code: 4003, reason: "é".repeat(100) }).expect("still there");
        assert_eq!(socket(&websocket).sent.len(), 2 + 2 + 122, "61 whole characters");
        assert!(matches!(websocket.read(), Received::Goodbye { .. }));
        assert_eq!(websocket.read(), Received::Gone);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            allowance in 0_usize..500,
        ) {
            let mut websocket = websocket(bytes, 1_000);
            websocket.allow(allowance);
            for _ in 0..500 {
                match websocket.read() {
                    Received::Blocked | Received::Gone => break,
                    Received::Violation(violation) => {
                        let _ = websocket.fail(violation);
                        break;
                    }
                    _ => {}
                }
            }
        }
    }
}
