//! One websocket on a non-blocking socket. The messages of one turn are buffered in it and sent in one call; while
//! bytes wait for the socket, further messages stay in the server's core.
//!
//! While bytes wait to be sent, nothing is read. So replies don't accumulate for a client that doesn't read them, and
//! at most one pong is buffered (RFC 6455 §5.5.3 allows an endpoint to answer the most recent ping only).

use std::io::{self, Read, Write};
use std::time::Instant;

use tungstenite::error::CapacityError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Bytes, Error, Message, Utf8Bytes, WebSocket};

use super::tls::Socket;
use crate::limits::{
    CALL_WORK, RELIABLE_DOWN_BYTES, RELIABLE_HEADER_BYTES, RELIABLE_UP_BYTES, WEBSOCKET_FRAME_WORK,
    WEBSOCKET_FRAMES_PER_SECOND,
};
use crate::rate::Allowance;
use crate::server::{Disconnect, Signal};
use crate::wire::codes::Leave;

/// Bytes of one message from a client, its header included.
pub(super) const MESSAGE_BYTES: usize = RELIABLE_UP_BYTES + RELIABLE_HEADER_BYTES;
/// The maximum bytes of a reply to `join` besides its welcome: 1,024 players of at most 520 bytes each, an SDP with its
/// line ends escaped; and the frame header, a pong and a close.
const AROUND_WELCOME_BYTES: usize = 640 * 1024;
/// Bytes read at once; also the buffer size of a websocket that has sent nothing longer.
const READ_BUFFER_BYTES: usize = 2 * 1024;
/// Bytes of the longest control frame from this end (RFC 6455 §5.5).
const CONTROL_FRAME_BYTES: usize = 2 + 125;
/// Bytes of the longest header: two, a long length and a mask (RFC 6455 §5.2).
const FRAME_HEADER_BYTES: usize = 2 + 8 + 4;
/// Messages written in one turn are sent together, in calls of about this many bytes.
const BATCH_BYTES: usize = 4 * 1024;
const WRITE_BUFFER_BYTES: usize = BATCH_BYTES + RELIABLE_DOWN_BYTES + AROUND_WELCOME_BYTES;
/// Bytes of a close frame's reason (RFC 6455 §5.5).
const CLOSE_REASON_BYTES: usize = 123;

/// The result of [`Websocket::read`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// Nothing to pass on.
    Control,
    /// A pong with this payload.
    Pong(Bytes),
    /// A close frame, and whether the player may reconnect. It has been answered.
    Goodbye(Disconnect),
    /// Nothing to read now: the socket is empty, bytes wait to be sent, or the share of work is used up.
    Blocked,
    /// The client violated the protocol or a limit; [`Websocket::fail`] closes the websocket.
    Violation(Violation),
    /// The connection is lost or closed.
    Gone,
}

/// Why the driver closes a websocket by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    TooLarge,
    NotUtf8,
    Protocol,
    /// More frames than [`WEBSOCKET_FRAMES_PER_SECOND`] allows.
    Flood,
}

/// Websockets that the driver closed by itself, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) too_large: u64,
    pub(super) not_utf8: u64,
    pub(super) protocol: u64,
    pub(super) flood: u64,
    /// The socket accepted no data for too long.
    pub(super) stalled: u64,
}

impl Closed {
    pub(super) fn count(&mut self, violation: Violation) {
        *match violation {
            Violation::TooLarge => &mut self.too_large,
            Violation::NotUtf8 => &mut self.not_utf8,
            Violation::Protocol => &mut self.protocol,
            Violation::Flood => &mut self.flood,
        } += 1;
    }
}

/// The connection is lost.
#[derive(Debug)]
pub(super) struct Gone;

/// Counts the frames in a stream of bytes by their headers (RFC 6455 §5.2), including those that form no message.
#[derive(Debug, Default)]
struct FrameCounter {
    /// The received part of an incomplete header.
    header: [u8; FRAME_HEADER_BYTES],
    length: usize,
    /// Bytes of payload that are still to come.
    payload: u64,
    /// Headers since [`FrameCounter::take`].
    frames: u32,
}

impl FrameCounter {
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some(&byte) = bytes.first() {
            if self.payload > 0 {
                let skipped = bytes.len().min(usize::try_from(self.payload).unwrap_or(usize::MAX));
                self.payload -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.length] = byte;
            self.length += 1;
            bytes = &bytes[1..];
            if let Some(payload) = payload_length(&self.header[..self.length]) {
                (self.length, self.payload) = (0, payload);
                self.frames += 1;
            }
        }
    }

    fn take(&mut self) -> u32 {
        std::mem::take(&mut self.frames)
    }
}

/// The length in a frame's header, once that is complete.
fn payload_length(header: &[u8]) -> Option<u64> {
    let [_, second, rest @ ..] = header else { return None };
    let short = second & 0x7f;
    let extended = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let complete = rest.len() >= extended + mask;
    let long = || rest[..extended].iter().fold(0, |length, &byte| length << 8 | u64::from(byte));
    complete.then(|| if extended == 0 { short.into() } else { long() })
}

/// What a websocket reads from and writes to.
#[derive(Debug)]
struct Stream<S> {
    socket: Socket<S>,
    counter: FrameCounter,
}

impl<S: Read + Write> Read for Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(buffer)?;
        self.counter.read(&buffer[..read]);
        Ok(read)
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

#[derive(Debug)]
pub(super) struct Websocket<S> {
    inner: WebSocket<Stream<S>>,
    frames: Allowance,
}

impl<S: Read + Write> Websocket<S> {
    /// A websocket after its opening handshake; `rest` is the data received after it.
    pub(super) fn new(now: Instant, socket: Socket<S>, rest: Vec<u8>) -> Websocket<S> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(BATCH_BYTES)
            .max_write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES))
            .max_frame_size(Some(MESSAGE_BYTES));
        let mut counter = FrameCounter::default();
        counter.read(&rest);
        let stream = Stream { socket, counter };
        let inner = WebSocket::from_partially_read(stream, rest, Role::Server, Some(config));
        Websocket { inner, frames: Allowance::new(WEBSOCKET_FRAMES_PER_SECOND, now) }
    }

    pub(super) fn socket(&mut self) -> &mut Socket<S> {
        &mut self.inner.get_mut().socket
    }

    /// Whether a message would be sent now instead of being buffered.
    pub(super) fn is_writable(&self) -> bool {
        let socket = &self.inner.get_ref().socket;
        self.inner.can_write() && !socket.meter.has_waiting() && !socket.meter.is_exhausted()
    }

    /// Whether bytes wait to be sent.
    pub(super) fn has_waiting(&self) -> bool {
        self.inner.get_ref().socket.meter.has_waiting()
    }

    pub(super) fn read(&mut self, now: Instant) -> Received {
        if self.has_waiting() {
            return Received::Blocked;
        }
        let received = self.read_message();
        let stream = self.inner.get_mut();
        let frames = stream.counter.take();
        stream.socket.meter.charge(frames as usize * WEBSOCKET_FRAME_WORK);
        if frames > 0 && !self.frames.take_many(now, frames) && self.frames.is_flooded() {
            return Received::Violation(Violation::Flood);
        }
        received
    }

    fn read_message(&mut self) -> Received {
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
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Received::Violation(Violation::TooLarge),
            Err(Error::Utf8(_)) => Received::Violation(Violation::NotUtf8),
            Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => Received::Gone,
            Err(Error::Protocol(_)) => Received::Violation(Violation::Protocol),
            Err(_) => Received::Gone,
        }
    }

    /// Buffers a message for [`Websocket::flush`]; a long one is sent at once, as far as the socket accepts it. A
    /// message written while bytes wait is added to them, which is allowed only for a last message. [`Signal::Close`]
    /// flushes.
    pub(super) fn write(&mut self, signal: Signal) -> Result<(), Gone> {
        let message = match signal {
            Signal::Text(text) => Message::Text(text.into()),
            Signal::Binary(bytes) => Message::Binary(bytes.into()),
            Signal::Ping(payload) => Message::Ping(Bytes::copy_from_slice(&payload.to_be_bytes())),
            Signal::Close { code, reason } => return self.close(code.into(), &reason),
        };
        settle(self.inner.write(message))
    }

    /// Sends a close frame: the close is complete when [`Websocket::read`] returns [`Received::Gone`].
    fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Gone> {
        let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES)];
        settle(self.inner.close(Some(CloseFrame { code, reason: reason.into() })))
    }

    /// Closes the websocket with the code of the violation. Nothing more is read.
    pub(super) fn fail(&mut self, violation: Violation) -> Result<(), Gone> {
        let (code, reason) = match violation {
            Violation::TooLarge => (CloseCode::Size, "a message must not exceed 16 KiB"),
            Violation::NotUtf8 => (CloseCode::Invalid, "a text message must be UTF-8"),
            Violation::Protocol => (CloseCode::Protocol, "the data violates the websocket protocol"),
            Violation::Flood => (Leave::Flood.close_code().into(), "You sent too many websocket frames."),
        };
        self.socket().meter.grant(2 * (CALL_WORK + CONTROL_FRAME_BYTES));
        // A buffered pong must be sent before the close frame, not after it.
        self.flush()?;
        self.close(code, reason)
    }

    /// Sends the buffered bytes, or as many as the socket accepts.
    pub(super) fn flush(&mut self) -> Result<(), Gone> {
        settle(self.inner.flush())
    }

    pub(super) fn into_socket(self) -> Socket<S> {
        self.inner.into_inner().socket
    }
}

/// Data that would block is sent later.
fn settle(result: Result<(), Error>) -> Result<(), Gone> {
    match result {
        Ok(()) => Ok(()),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(_) => Err(Gone),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tls::{self, Security};
    use super::*;
    use crate::limits::{CANDIDATES_ADVERTISED, PLAYER_NAME_BYTES, PLAYERS_PER_ROOM_MAX, SDP_BYTES, SUBJECT_BYTES};
    use crate::wire::signaling::{self, JoinReply, Return, SessionInfo};

    /// Holds what arrives, and takes so many bytes.
    #[derive(Debug, Default)]
    struct Socket {
        arrived: io::Cursor<Vec<u8>>,
        sent: Vec<u8>,
        takes: usize,
        writes: u32,
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
            self.writes += 1;
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
        let socket = Socket { arrived: io::Cursor::new(arrived), sent: Vec::new(), takes, writes: 0 };
        let mut websocket = Websocket::new(Instant::now(), tls::Socket::new(socket, &Security::None), Vec::new());
        websocket.socket().meter.allow(usize::MAX);
        websocket
    }

    fn read(websocket: &mut Websocket<Socket>) -> Received {
        websocket.read(Instant::now())
    }

    fn socket(websocket: &Websocket<Socket>) -> &Socket {
        websocket.inner.get_ref().socket.meter.get_ref()
    }

    fn send(websocket: &mut Websocket<Socket>, signal: Signal) {
        websocket.write(signal).and_then(|()| websocket.flush()).expect("still there");
    }

    fn text(text: &str) -> Signal {
        Signal::Text(text.to_owned())
    }

    #[test]
    fn messages_arrive_from_both_sides_of_the_handshake() {
        let socket = Socket { arrived: io::Cursor::new(frame(0x82, b"two")), ..Socket::default() };
        let mut websocket =
            Websocket::new(Instant::now(), tls::Socket::new(socket, &Security::None), frame(0x81, b"one"));
        websocket.socket().meter.allow(usize::MAX);
        assert_eq!(read(&mut websocket), Received::Text("one".into()));
        assert_eq!(read(&mut websocket), Received::Binary(Bytes::from_static(b"two")));
        assert_eq!(read(&mut websocket), Received::Blocked);
    }

    #[test]
    fn a_message_has_a_limit_whole_or_in_fragments() {
        let largest = vec![0; MESSAGE_BYTES];
        let larger = vec![0; MESSAGE_BYTES + 1];
        assert_eq!(read(&mut websocket(frame(0x82, &largest), 0)), Received::Binary(largest.clone().into()));
        assert_eq!(read(&mut websocket(frame(0x82, &larger), 0)), Received::Violation(Violation::TooLarge));
        let fragments = [frame(0x02, &largest), frame(0x80, &[0])].concat();
        let mut websocket = websocket(fragments, 1_000);
        assert_eq!(read(&mut websocket), Received::Violation(Violation::TooLarge));
        websocket.fail(Violation::TooLarge).expect("still there");
        assert_eq!(socket(&websocket).sent[..4], [0x88, 34, 0x03, 0xf1], "close frame, 1009");
    }

    #[test]
    fn what_is_no_websocket_is_a_violation() {
        assert_eq!(read(&mut websocket(frame(0x81, b"\xff"), 0)), Received::Violation(Violation::NotUtf8));
        assert_eq!(read(&mut websocket(vec![0x81, 1, b'a'], 0)), Received::Violation(Violation::Protocol));
        assert_eq!(read(&mut websocket(frame(0xf1, b"a"), 0)), Received::Violation(Violation::Protocol));
    }

    #[test]
    fn a_goodbye_says_whether_somebody_may_come_back() {
        use Disconnect::{Away, Goodbye, Lost};
        for (code, how) in [(1000_u16, Goodbye), (1001, Away), (1002, Lost), (4000, Lost)] {
            let mut websocket = websocket(frame(0x88, &code.to_be_bytes()), 1_000);
            assert_eq!(read(&mut websocket), Received::Goodbye(how), "{code}");
            assert_eq!(read(&mut websocket), Received::Gone, "{code}");
            assert_eq!(socket(&websocket).sent[2..4], code.to_be_bytes(), "the code goes back");
        }
        assert_eq!(read(&mut websocket(frame(0x88, b""), 1_000)), Received::Goodbye(Lost));
    }

    #[test]
    fn a_full_socket_blocks_and_loses_nothing() {
        let mut websocket = websocket(Vec::new(), 3);
        send(&mut websocket, text("0123456789"));
        assert!(websocket.has_waiting() && !websocket.is_writable());
        assert!(websocket.socket().meter.take_progress(), "three bytes");
        websocket.flush().expect("still there");
        assert!(!websocket.socket().meter.take_progress());
        websocket.socket().meter.get_mut().takes = 1_000;
        websocket.flush().expect("still there");
        assert!(websocket.is_writable());
        assert_eq!(socket(&websocket).sent, b"\x81\x0a0123456789");
    }

    #[test]
    fn messages_of_one_turn_are_sent_in_one_call() {
        let mut websocket = websocket(Vec::new(), 1_000_000);
        for _ in 0..20 {
            websocket.write(text("0123456789")).expect("still there");
        }
        assert_eq!((socket(&websocket).sent.len(), socket(&websocket).writes), (0, 0));
        websocket.flush().expect("still there");
        assert_eq!((socket(&websocket).sent.len(), socket(&websocket).writes), (20 * 12, 1));
        websocket.write(Signal::Binary(vec![7; BATCH_BYTES])).expect("still there");
        assert_eq!(socket(&websocket).writes, 2, "a long message does not wait");
    }

    #[test]
    fn the_largest_reply_fits_the_buffer() {
        let mut websocket = websocket(Vec::new(), 0);
        let socket_id = "f".repeat(32);
        let session = SessionInfo {
            player: u32::MAX,
            socket_id: socket_id.clone(),
            user_id: Some("\"".repeat(SUBJECT_BYTES)),
            name: "n".repeat(PLAYER_NAME_BYTES),
        };
        let welcome = serde_json::value::to_raw_value(&"w".repeat(RELIABLE_DOWN_BYTES - "\"\"".len())).expect("JSON");
        let reply = JoinReply {
            socket_id: &socket_id,
            player: u32::MAX,
            room_size: PLAYERS_PER_ROOM_MAX,
            sessions: vec![&session; PLAYERS_PER_ROOM_MAX],
            user_media_configuration: signaling::UserMedia::default(),
            tick: u32::MAX,
            tick_ms: 1_000.0,
            input_seq: u32::MAX,
            resume: &"f".repeat(32),
            returns: Some(Return { last: u32::MAX, reliable_seq: u32::MAX }),
            ice_servers: vec![
                signaling::IceServer::stun((std::net::Ipv6Addr::from(u128::MAX), u16::MAX).into());
                CANDIDATES_ADVERTISED
            ],
            welcome: &welcome,
            // JSON text in JSON is the longest form.
            sdp: Some(serde_json::json!({ "type": "answer", "sdp": "\n".repeat(SDP_BYTES) }).to_string().into()),
            sdp_error: None,
            media: Some("video"),
        };
        let (reply_to, _) = signaling::parse(r#"{"a":"join"}"#);
        websocket.write(Signal::Binary(vec![7; BATCH_BYTES - 4])).expect("within the buffer");
        websocket.write(Signal::Text(signaling::granted(&reply_to, &reply))).expect("within the buffer");
        assert!(websocket.has_waiting());
    }

    #[test]
    fn nothing_is_read_while_bytes_wait_and_one_pong_waits_at_most() {
        let ping = frame(0x89, &[7; 125]);
        for (takes, before) in [(0, Vec::new()), (1_000_000, vec![0; 1_000])] {
            let mut websocket = websocket(ping.repeat(400), takes);
            if !before.is_empty() {
                send(&mut websocket, Signal::Binary(before));
                websocket.socket().meter.get_mut().takes = 0;
            }
            while read(&mut websocket) != Received::Blocked {}
            let taken = socket(&websocket).arrived.position();
            assert!(taken <= 2 * READ_BUFFER_BYTES as u64, "{taken} bytes were read");
            websocket.socket().meter.get_mut().takes = usize::MAX;
            let sent = socket(&websocket).sent.len();
            websocket.flush().expect("still there");
            let pongs = socket(&websocket).sent.len() - sent;
            assert!(pongs <= 2 * (2 + 125), "{pongs} bytes of pongs had waited");
        }
    }

    /// What a second of such frames, and how many of them, comes to.
    fn flooded(frames: &[u8], count: usize) -> bool {
        let mut websocket = websocket(frames.repeat(count), usize::MAX);
        loop {
            match read(&mut websocket) {
                Received::Violation(violation) => {
                    assert_eq!(violation, Violation::Flood);
                    websocket.fail(violation).expect("still there");
                    let sent = &socket(&websocket).sent;
                    let close = sent.len() - 39;
                    assert_eq!(sent[close..close + 4], [0x88, 37, 0x0f, 0xa4], "4004: {:?}", &sent[close..]);
                    return true;
                }
                Received::Blocked => return false,
                _ => {}
            }
        }
    }

    #[test]
    fn frames_have_a_limit_whatever_they_are() {
        let most = WEBSOCKET_FRAMES_PER_SECOND as usize;
        let fragments = |count: usize| {
            let empty = frame(0x00, b"").repeat(count - 1);
            flooded(&[frame(0x02, b""), empty].concat(), 1)
        };
        for kind in [0x89, 0x8a, 0x81, 0x82] {
            assert!(!flooded(&frame(kind, b""), most), "{kind:#x}");
            assert!(flooded(&frame(kind, b""), 3 * most), "{kind:#x}");
        }
        assert!(!fragments(most) && fragments(3 * most));
    }

    #[test]
    fn frames_at_the_limit_may_go_on_for_ever() {
        let start = Instant::now();
        let mut websocket = websocket(Vec::new(), usize::MAX);
        for tenth in 0..100 {
            let arrived = frame(0x8a, b"late").repeat(WEBSOCKET_FRAMES_PER_SECOND as usize / 10);
            websocket.socket().meter.get_mut().arrived = io::Cursor::new(arrived);
            let now = start + std::time::Duration::from_millis(100) * tenth;
            while websocket.read(now) == Received::Pong(Bytes::from_static(b"late")) {}
            assert_eq!(websocket.read(now), Received::Blocked);
        }
    }

    #[test]
    fn a_share_ends_within_a_run_of_empty_fragments() {
        let fragments = frame(0x02, b"").into_iter().chain(frame(0x00, b"").into_iter().cycle().take(60_000));
        let mut websocket = websocket(fragments.collect(), 0);
        websocket.socket().meter.allow(CALL_WORK + 10);
        assert_eq!(read(&mut websocket), Received::Blocked);
        assert!(websocket.socket().meter.is_exhausted());
        assert!(socket(&websocket).arrived.position() <= READ_BUFFER_BYTES as u64);
    }

    #[test]
    fn a_goodbye_is_cut_to_its_limit_and_awaits_the_answer() {
        let mut websocket = websocket(frame(0x88, &[0x03, 0xe8]), 1_000);
        websocket.write(Signal::Close { code: 4003, reason: "é".repeat(100) }).expect("still there");
        assert_eq!(socket(&websocket).sent.len(), 2 + 2 + 122, "61 whole characters");
        assert!(matches!(read(&mut websocket), Received::Goodbye { .. }));
        assert_eq!(read(&mut websocket), Received::Gone);
    }

    proptest! {
        #[test]
        fn frames_are_counted_however_they_are_cut(
            lengths in proptest::collection::vec(prop_oneof![0_usize..3, 120_usize..130, 65_530_usize..65_540], 0..20),
            cuts in proptest::collection::vec(1_usize..70_000, 1..20),
        ) {
            let long = |length: usize| {
                [&[0x82, 0xff][..], &(length as u64).to_be_bytes(), &[9; 4], &vec![0xff; length]].concat()
            };
            let bytes: Vec<u8> = lengths
                .iter()
                .flat_map(|&length| if length > 65_535 { long(length) } else { frame(0x82, &vec![0xff; length]) })
                .collect();
            let mut counter = FrameCounter::default();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at(rest.len().min(*cut));
                counter.read(now);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(counter.take() as usize, lengths.len());
            prop_assert_eq!((counter.length, counter.payload), (0, 0));
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            share in 0_usize..10_000,
        ) {
            let mut websocket = websocket(bytes, 1_000);
            websocket.socket().meter.allow(share);
            for _ in 0..500 {
                match read(&mut websocket) {
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
