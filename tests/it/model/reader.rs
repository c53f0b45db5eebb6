//! Websockets that read only occasionally, and send no datagrams.

use std::time::Duration;

use rtcade::client::{Client, Event, Message, Status};
use rtcade::limits;
use rtcade::rand::RngExt;
use rtcade::server::{Connect, ConnectionId, Disconnect, Signal};
use rtcade::sim::SERVER;
use rtcade::wire::Inflater;
use rtcade::wire::frame::Kind;
use rtcade::wire::msgpack;
use rtcade::wire::signaling::RoomName;
use serde_json::Value;

use super::player::Place;
use super::world::{MS, World};

/// Of the first byte of a frame, see [`rtcade::wire::frame`].
const KIND: u8 = 0x0f;
const DEFLATED: u8 = 1 << 5;
const PARTED: u8 = 1 << 4;
/// The first byte of a delta.
const DELTA: u8 = 0xc1;
/// Where websockets of no [`ClientId`] come from: all from one address, as from behind one router.
const CROWD: [u8; 4] = [10, 7, 0, 1];

/// A websocket that takes what the server says only now and then, and has no datagrams; with a client, or of nobody.
pub(super) struct Reader {
    /// Of its newest websocket.
    pub(super) connection: ConnectionId,
    pub(super) room: &'static str,
    pub(super) client: Option<Client>,
    pub(super) events: Vec<(Duration, Event)>,
    pub(super) texts: Vec<Value>,
    pub(super) closed: Option<(u16, String)>,
    /// The server knows it no longer.
    pub(super) is_gone: bool,
    pub(super) opened: Duration,
    pub(super) reads_at: Duration,
    /// It was sent a body that nests too deep.
    pub(super) is_unreadable: bool,
    /// Frames of states, and those of them that were deflated or deltas.
    pub(super) states: [u32; 2],
    /// When it read last, and before that.
    pub(super) read: Duration,
    pub(super) previous_read: Duration,
}

/// A browser reads the whole of a body with one limit of depth. Bodies in parts aren't looked at.
fn is_readable(inflater: &mut Inflater, frame: &[u8]) -> bool {
    let kind = frame[0] & KIND;
    let header = match kind {
        _ if frame[0] & PARTED != 0 => return true,
        _ if kind == Kind::Ticks as u8 => limits::RELIABLE_HEADER_BYTES,
        _ if kind == Kind::Tick as u8 => limits::UNRELIABLE_HEADER_BYTES - 1,
        _ => return true,
    };
    let mut body = frame[header..].to_vec();
    if frame[0] & DEFLATED != 0 {
        body.clear();
        inflater.inflate(&frame[header..], limits::RELIABLE_DOWN_BYTES, &mut body).unwrap();
    }
    msgpack::decode_ticks(&body).is_ok()
}

impl Reader {
    fn count_state(&mut self, frame: &[u8]) {
        let [states, smaller] = &mut self.states;
        let is_parted = frame[0] & PARTED != 0;
        if frame[0] & KIND == Kind::State as u8 && (!is_parted || frame[1] >> 4 == 0) {
            let body = limits::UNRELIABLE_HEADER_BYTES - usize::from(!is_parted);
            *states += 1;
            *smaller += u32::from(frame[0] & DEFLATED != 0 || frame.get(body) == Some(&DELTA));
        }
    }

    pub(super) fn refusals(&self) -> usize {
        self.texts.iter().filter(|text| text["s"] == false).count()
    }
}

impl World {
    pub(super) fn connect(&mut self, number: u64, room: &str) -> ConnectionId {
        let connection = ConnectionId(number);
        self.sim.server.handle_connect(self.sim.now(), connection, from_the_crowd(room));
        connection
    }

    pub(super) fn open(&mut self, client: Option<Client>, room: &'static str) -> usize {
        let connection = self.connect(1_000_000 + self.readers.len() as u64, room);
        self.readers.push(Reader {
            connection,
            room,
            client,
            events: Vec::new(),
            texts: Vec::new(),
            closed: None,
            is_gone: false,
            opened: self.awake,
            reads_at: self.awake,
            is_unreadable: false,
            states: [0; 2],
            read: self.awake,
            previous_read: self.awake,
        });
        self.readers.len() - 1
    }

    /// Carries what a reader and the server have for each other.
    pub(super) fn pump(&mut self, index: usize) {
        let now = self.sim.now();
        let is_silent = self.players.iter().any(|player| {
            matches!(player.place, Place::Reader(reader) if reader == index) && player.websocket_ends.is_some()
        });
        // In a crowd more comes.
        let messages = if self.is_crowded() { 40..80 } else { 4..20 };
        let server = &mut self.sim.server;
        let reader = &mut self.readers[index];
        if is_silent || (reader.is_gone && reader.client.is_none()) {
            return;
        }
        let mut most = if self.is_calm { usize::MAX } else { 0 };
        if reader.reads_at <= self.awake {
            most = most.max(self.rng.random_range(messages));
            reader.previous_read = std::mem::replace(&mut reader.read, self.awake);
            reader.reads_at = self.awake + MS * self.rng.random_range(0..900);
        }
        while most > 0 && !reader.is_gone {
            most -= 1;
            match server.poll_signal(reader.connection) {
                None => break,
                Some(Signal::Text(text)) => {
                    if let Some(client) = &mut reader.client {
                        client.handle_text(now, &text);
                    }
                    reader.texts.push(serde_json::from_str(&text).unwrap());
                }
                Some(Signal::Binary(bytes)) => {
                    reader.count_state(&bytes);
                    reader.is_unreadable |= !is_readable(&mut self.inflater, &bytes);
                    reader.client.as_mut().unwrap().handle_binary(now, &bytes);
                }
                Some(Signal::Ping(payload)) => server.handle_pong(now, reader.connection, &payload.to_be_bytes()),
                Some(Signal::Close { code, reason }) => {
                    reader.is_gone = true;
                    if let Some(client) = &mut reader.client {
                        client.handle_disconnect(now, code, &reason);
                    }
                    reader.closed = Some((code, reason));
                    server.handle_disconnect(now, reader.connection, Disconnect::Broken);
                }
                Some(unknown) => panic!("{unknown:?}"),
            }
        }
        self.pump_up(index);
    }

    /// Carries what the client of a reader has for the server.
    fn pump_up(&mut self, index: usize) {
        let now = self.sim.now();
        let elapsed = self.sim.elapsed();
        let server = &mut self.sim.server;
        let reader = &mut self.readers[index];
        let Some(client) = &mut reader.client else { return };
        if client.poll_timeout().is_some_and(|at| at <= now) {
            client.handle_timeout(now);
        }
        reader.events.extend(std::iter::from_fn(|| client.poll_event()).map(|event| (elapsed, event)));
        while let Some(message) = client.poll_message() {
            match message {
                Message::Text(text) => server.handle_text(now, reader.connection, &text),
                Message::Binary(bytes) => server.handle_binary(now, reader.connection, &bytes),
                Message::Connect(_) => {
                    if !std::mem::take(&mut reader.is_gone) {
                        server.handle_disconnect(now, reader.connection, Disconnect::Lost);
                    }
                    reader.connection.0 += 1_000_000_000;
                    reader.closed = None;
                    server.handle_connect(now, reader.connection, from_the_crowd(reader.room));
                }
                Message::Close => {
                    reader.is_gone = true;
                    server.handle_disconnect(now, reader.connection, Disconnect::Goodbye);
                }
            }
        }
        if matches!(client.status(), Status::Dropped | Status::Closed) && !std::mem::replace(&mut reader.is_gone, true)
        {
            server.handle_disconnect(now, reader.connection, Disconnect::Lost);
        }
    }

    /// Those of clients that have crashed.
    pub(super) fn end_websockets(&mut self) {
        for player in 0..self.players.len() {
            if !matches!(self.players[player].websocket_ends, Some(Some(at)) if at <= self.awake) {
                continue;
            }
            let connections: Vec<ConnectionId> = match self.players[player].place {
                Place::Simulation(id) => self.sim[id].connections().collect(),
                Place::Reader(reader) => {
                    self.readers[reader].is_gone = true;
                    vec![self.readers[reader].connection]
                }
            };
            for connection in connections {
                self.sim.server.handle_disconnect(self.sim.now(), connection, Disconnect::Broken);
            }
        }
    }
}

fn from_the_crowd(room: &str) -> Connect {
    Connect::new(RoomName::parse(room), (CROWD, 40_000).into(), SERVER.ip())
}
