//! Connections: who is at the other end, and what waits to be sent there.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;

use super::{Connect, ConnectionId, Server, Signal};
use crate::game::{Game, PlayerId};
use crate::limits;
use crate::rate::Allowance;
use crate::wire::codes::Leave;
use crate::wire::frame::Kind;
use crate::wire::signaling::{self, Fault, ReplyTo};

pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) connect: Connect,
    pub(super) opened: Instant,
    pub(super) stage: Stage,
    pub(super) outgoing: VecDeque<Signal>,
    pub(super) outgoing_bytes: usize,
    pub(super) unreliable: VecDeque<SharedBody>,
    pub(super) announced: bool,
    pub(super) closing: bool,
    pub(super) is_unjoined: bool,
    /// Whether it has tried to come in.
    pub(super) is_counted: bool,
    pub(super) unanswered_pings: u8,
    /// When something came over it last.
    pub(super) heard: Instant,
    /// When it was last asked whether it is alive because a data channel was silent.
    pub(super) asked: Instant,
    pub(super) allowance: Allowance,
    pub(super) deadline: Option<Instant>,
}

pub(super) enum Stage {
    Arrived,
    Joining {
        room: usize,
        player: PlayerId,
        user_id: Option<String>,
        name: String,
        attached: serde_json::Value,
        offer: Option<String>,
        reply_to: ReplyTo,
    },
    /// The session that it carries.
    Joined(usize),
    Gone,
}

impl Connection {
    pub(super) fn note_alive(&mut self, now: Instant) {
        self.unanswered_pings = 0;
        self.heard = now;
    }
}

/// A body that waits for a websocket to take it. Its header is written when it leaves, so that a state which is
/// replaced meanwhile leaves no gap in the sequence.
#[derive(Clone)]
pub(super) struct SharedBody {
    pub(super) kind: Kind,
    pub(super) deflated: bool,
    pub(super) bytes: Rc<[u8]>,
}

/// Bytes of the reason in a close frame (RFC 6455 §5.5, less the code).
pub(super) const CLOSE_REASON_BYTES: usize = 123;

impl SharedBody {
    pub(super) fn plain(kind: Kind, bytes: Vec<u8>) -> SharedBody {
        SharedBody { kind, deflated: false, bytes: bytes.into() }
    }
}

pub(super) fn announce(connection: &mut Connection, ready: &mut VecDeque<ConnectionId>) {
    if !std::mem::replace(&mut connection.announced, true) {
        ready.push_back(connection.id);
    }
}

pub(super) fn signal_bytes(signal: &Signal) -> usize {
    match signal {
        Signal::Text(text) => text.len(),
        Signal::Binary(bytes) => bytes.len(),
        Signal::Ping => 0,
        Signal::Close { reason, .. } => reason.len(),
    }
}

impl<G: Game> Server<G> {
    /// Bytes that must arrive and wait in [`Server::poll_signal`] for a connection, see
    /// [`limits::RELIABLE_QUEUE_BYTES`].
    #[doc(hidden)]
    #[must_use]
    pub fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.by_id.get(&connection).map_or(0, |&index| self.connections[index].outgoing_bytes)
    }

    pub(super) fn grant(&mut self, index: usize, reply_to: &ReplyTo, data: &impl Serialize) {
        let text = signaling::granted(reply_to, data);
        self.push(index, Signal::Text(text));
    }

    pub(super) fn refuse(&mut self, index: usize, reply_to: &ReplyTo, fault: &Fault) {
        self.counters.refused_requests += 1;
        self.push(index, Signal::Text(signaling::refused(reply_to, fault)));
    }

    pub(super) fn close_connection(&mut self, index: usize, code: u16, reason: &str) {
        let reason = reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES)].to_owned();
        self.push(index, Signal::Close { code, reason });
    }

    /// Queues a message that must arrive. A socket that takes nothing for so long that its queue is full is closed.
    pub(super) fn push(&mut self, index: usize, signal: Signal) {
        let connection = &mut self.connections[index];
        if connection.closing {
            return;
        }
        connection.closing = matches!(signal, Signal::Close { .. });
        connection.outgoing_bytes += signal_bytes(&signal);
        connection.outgoing.push_back(signal);
        if connection.outgoing_bytes > limits::RELIABLE_QUEUE_BYTES {
            connection.outgoing.clear();
            connection.outgoing_bytes = 0;
            let reason = "Your connection can't keep up.".to_owned();
            connection.outgoing.push_back(Signal::Close { code: Leave::Timeout.close_code(), reason });
            connection.closing = true;
            self.overfull.push(index);
        }
        if connection.closing {
            connection.unreliable.clear();
        }
        announce(connection, &mut self.ready);
    }
}
