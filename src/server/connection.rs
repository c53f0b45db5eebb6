//! Websocket connections: the session or request of each, and its queue.
//!
//! A connection ends in two steps. [`Server::close_connection`] closes the websocket; from then on the connection has
//! no session and receives nothing. [`Server::forget_connection`] removes it when the caller reports the end.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::Rng;
use serde::Serialize;

use super::nodes::Placing;
use super::seek::Seeking;
use super::session::Fate;
use super::{Connect, ConnectionId, ConnectionKey, Disconnect, RoomKey, Server, SessionKey, Signal, Timer};
use crate::game::{Game, Identity, PlayerId};
use crate::limits;
use crate::log_limit::Who;
use crate::player::{Body, ReliableFrame};
use crate::rate::{Allowance, canonical};
use crate::wire::codes::{CLOSE_REFUSED, ErrorCode, Leave};
use crate::wire::frame::Kind;
use crate::wire::signaling::{self, Codes, Description, Device, Fault, Former, ReplyTo, RoomName};

pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) connect: Connect,
    pub(super) opened: Instant,
    pub(super) stage: Stage,
    pub(super) queue: Queue,
    /// Whether the queue was reported to the caller since it was empty.
    announced: bool,
    pub(super) closing: bool,
    /// Whether it counts as an unjoined connection of its address.
    pub(super) is_unjoined: bool,
    /// Whether its first attempt to join was counted against its address.
    pub(super) is_counted: bool,
    /// Whether the client takes fewer heartbeats while its data channel delivers.
    pub(super) takes_sparse_heartbeats: bool,
    /// Heartbeats left out since the last.
    skipped_heartbeats: u8,
    /// Before this time the websocket does not count as lost.
    lost_at: Option<Instant>,
    unanswered_pings: u8,
    /// Payloads of unanswered pings, the oldest first.
    pings: VecDeque<u64>,
    /// When something was last received on it.
    pub(super) heard: Instant,
    /// When it was last pinged because a data channel was silent.
    pub(super) asked: Instant,
    pub(super) allowance: Allowance,
    pub(super) codes: Codes,
    /// The offer of a call, until it is answered.
    pub(super) call: Option<Description>,
    deadline: Option<Instant>,
}

/// The use of a connection.
pub(super) enum Stage {
    Arrived,
    /// A request to seek that waits for another player.
    Seeking(Box<Seeking>),
    /// A request that waits until the room is located, in a cluster.
    Placing(Placing),
    /// A request that waits for what the cluster knows of its session.
    Recalling(Placing),
    /// A join that waits for the decision of a hook.
    Asking(Box<Asking>),
    /// A join that waits for the decision of the game.
    Joining(Box<Joining>),
    /// The session of the connection.
    Joined(SessionKey),
    Gone,
}

/// A request to join that the server has checked.
pub(super) struct Asking {
    pub(super) room: RoomName,
    pub(super) identity: Option<Identity>,
    pub(super) name: String,
    pub(super) data: serde_json::Value,
    pub(super) offer: Option<Description>,
    pub(super) device: Device,
    pub(super) reply_to: ReplyTo,
    /// The session that the player had before, once verified.
    pub(super) former: Option<Former>,
}

/// The part that is kept once the room has the request.
pub(super) struct Joining {
    pub(super) room: RoomKey,
    pub(super) player: PlayerId,
    pub(super) user_id: Option<String>,
    pub(super) name: String,
    pub(super) attached: serde_json::Value,
    pub(super) offer: Option<Description>,
    pub(super) device: Device,
    pub(super) reply_to: ReplyTo,
    pub(super) former: Option<Former>,
}

/// A message queued for a websocket. Bodies shared with other players get their header when they are sent.
pub(super) enum Waiting {
    Text(Rc<str>),
    Frame(ReliableFrame),
    /// A frame for this player only.
    Bytes(Vec<u8>),
    Ping(u64),
    Close {
        code: u16,
        reason: String,
    },
}

impl Waiting {
    fn bytes(&self) -> usize {
        match self {
            Waiting::Text(text) => text.len(),
            Waiting::Frame(frame) => frame.len(),
            Waiting::Bytes(bytes) => bytes.len(),
            Waiting::Ping(_) => size_of::<u64>(),
            Waiting::Close { reason, .. } => reason.len(),
        }
    }

    fn into_signal(self) -> Signal {
        match self {
            Waiting::Text(text) => Signal::Text((*text).to_owned()),
            Waiting::Frame(frame) => Signal::Binary(frame.encode()),
            Waiting::Bytes(bytes) => Signal::Binary(bytes),
            Waiting::Ping(payload) => Signal::Ping(payload),
            Waiting::Close { code, reason } => Signal::Close { code, reason },
        }
    }
}

/// The queue of one websocket: reliable messages in order, then a few unreliable bodies.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Each with the number of the newest input that the game had consumed when it was added.
    unreliable: VecDeque<(Body, u32)>,
}

impl Queue {
    /// Bytes of the reliable messages.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, message: Waiting) {
        self.bytes += message.bytes();
        self.waiting.push_back(message);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let message = self.waiting.pop_front()?;
        self.bytes -= message.bytes();
        Some(message)
    }

    fn clear(&mut self) {
        *self = Queue::default();
    }

    /// Adds a body; a state replaces the state before it. Returns how many bodies were dropped.
    fn push_unreliable(&mut self, body: Body, consumed: u32) -> usize {
        let before = self.unreliable.len();
        if body.kind == Kind::State {
            self.unreliable.retain(|(waiting, _)| waiting.kind != Kind::State);
        } else if before >= limits::WEBSOCKET_FRAMES {
            self.unreliable.pop_front();
        }
        let dropped = before - self.unreliable.len();
        self.unreliable.push_back((body, consumed));
        dropped
    }

    pub(super) fn clear_unreliable(&mut self) {
        self.unreliable.clear();
    }
}

/// Bytes of the reason in a close frame (RFC 6455 §5.5, less the code).
const CLOSE_REASON_BYTES: usize = 123;
/// The close reason of a player whose queue has exceeded its limit.
const OVERFULL: &str = "Your connection is too slow.";
/// The close reason of a client that counts as gone.
const UNANSWERED: &str = "The client did not answer pings.";
/// Silence of a client after which its websocket counts as lost, at the earliest.
const LOST_AFTER: Duration = limits::HEARTBEAT_INTERVAL.saturating_mul(1 + limits::HEARTBEATS_UNANSWERED as u32);
/// How much earlier than [`limits::HEARTBEAT_INTERVAL`] the next heartbeat may follow a late one.
const HEARTBEAT_HASTE: Duration = Duration::from_millis(150);

impl Connection {
    pub(super) fn note_alive(&mut self, now: Instant) {
        self.unanswered_pings = 0;
        self.lost_at = None;
        self.heard = now;
    }

    /// A pong also answers the pings before it (RFC 6455 §5.5.3), and counts once.
    pub(super) fn handle_pong(&mut self, now: Instant, payload: &[u8]) {
        let Ok(payload) = payload.try_into().map(u64::from_be_bytes) else { return };
        if let Some(answered) = self.pings.iter().position(|&ping| ping == payload) {
            self.pings.drain(..=answered);
            self.note_alive(now);
        }
    }
}

impl<G: Game> Server<G> {
    pub(super) fn open_connection(&mut self, now: Instant, id: ConnectionId, mut connect: Connect) {
        // The caller has reused the ID of a connection without reporting its end.
        self.forget_connection(now, id, Disconnect::Lost);
        connect.remote = canonical(connect.remote);
        let remote = connect.remote.ip();
        let key = self.connections.insert(Connection {
            id,
            connect,
            opened: now,
            stage: Stage::Arrived,
            queue: Queue::default(),
            announced: false,
            closing: false,
            is_unjoined: true,
            is_counted: false,
            takes_sparse_heartbeats: false,
            skipped_heartbeats: 0,
            lost_at: None,
            unanswered_pings: 0,
            pings: VecDeque::new(),
            heard: now,
            asked: now,
            allowance: Allowance::new(limits::SIGNALS_PER_SECOND, now),
            codes: Codes::default(),
            call: None,
            deadline: None,
        });
        self.by_id.insert(id, key);
        self.set_deadline(key, now + limits::JOIN_TIMEOUT);
        let is_full = self.addresses.handle_connect(now, remote);
        if self.stopping {
            self.close_connection(now, key, Leave::Shutdown.close_code(), "The server is stopping.");
        } else if is_full {
            self.counters.refused_connections += 1;
            let fault = Fault::new(ErrorCode::RateLimited, "Too many websockets are open from your address.");
            self.log_refused(now, key, None, None, &fault);
            self.push_text(key, signaling::refused_join(&fault).into());
            self.close_connection(now, key, CLOSE_REFUSED, fault.code.as_str());
        }
    }

    /// Closes a websocket from this end. Its session or request ends, and nothing more is sent on it.
    pub(super) fn close_connection(&mut self, now: Instant, key: ConnectionKey, code: u16, reason: &str) {
        let Some(connection) = self.connections.get_mut(key).filter(|connection| !connection.closing) else { return };
        let held = std::mem::replace(&mut connection.stage, Stage::Gone);
        let reason = reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES)].to_owned();
        self.push(key, Waiting::Close { code, reason });
        self.release(now, held, Fate::Over(Leave::Closed));
    }

    /// Handles the end of a websocket, whichever end closed it.
    pub(super) fn forget_connection(&mut self, now: Instant, id: ConnectionId, how: Disconnect) {
        let Some(key) = self.by_id.remove(&id) else { return };
        let Some(gone) = self.connections.remove(key) else { return };
        if let Some(deadline) = gone.deadline {
            self.timers.remove(&(deadline, Timer::Connection(key)));
        }
        self.addresses.handle_disconnect(gone.connect.remote.ip(), gone.is_unjoined, gone.queue.bytes());
        let fate = match how {
            Disconnect::Goodbye => Fate::Over(Leave::Left),
            Disconnect::Broken => Fate::Over(Leave::Closed),
            Disconnect::Away => Fate::MayReturn { within: limits::RELOAD_GRACE, or: Leave::Left },
            Disconnect::Lost => Fate::MayReturn { within: self.config.grace, or: Leave::Closed },
        };
        self.release(now, gone.stage, fate);
    }

    /// Closes the connections whose queue has exceeded its limit since the last call.
    pub(super) fn end_overfull(&mut self, now: Instant) {
        while let Some(key) = self.overfull.pop() {
            if let Some(connection) = self.connections.get_mut(key) {
                match std::mem::replace(&mut connection.stage, Stage::Gone) {
                    Stage::Joined(session) => self.end_session(now, session, Leave::Timeout, OVERFULL),
                    held => self.release(now, held, Fate::Over(Leave::Timeout)),
                }
            }
        }
    }

    pub(super) fn grant(&mut self, key: ConnectionKey, reply_to: &ReplyTo, data: &impl Serialize) {
        self.push_text(key, signaling::granted(reply_to, data).into());
    }

    pub(super) fn refuse(&mut self, key: ConnectionKey, reply_to: &ReplyTo, fault: &Fault) {
        self.counters.refused_requests += 1;
        let Some(connection) = self.connections.get(key).filter(|_| !reply_to.is_event()) else { return };
        self.push_text(key, signaling::refused(reply_to, fault, connection.codes).into());
    }

    /// Logs the refusal of a join on this connection.
    pub(super) fn log_refused(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        room: Option<&RoomName>,
        name: Option<&str>,
        fault: &Fault,
    ) {
        let Some(connection) = self.connections.get(key) else { return };
        let room = room.or(connection.connect.room.as_ref()).map(RoomName::as_str);
        let who = Who { remote: connection.connect.remote, room, player: None, name };
        self.player_log.note_refused(now, who, fault);
    }

    pub(super) fn push_text(&mut self, key: ConnectionKey, text: Rc<str>) {
        self.push(key, Waiting::Text(text));
    }

    /// Sends a ping. Its pong proves that the other end reads, because it contains the payload.
    pub(super) fn ping(&mut self, key: ConnectionKey) {
        let payload = self.rng.next_u64();
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.pings.len() == limits::PINGS_REMEMBERED {
            connection.pings.pop_front();
        }
        connection.pings.push_back(payload);
        self.push(key, Waiting::Ping(payload));
    }

    /// Queues a reliable message. If the queue is full because the socket accepts nothing, the connection is closed;
    /// its session ends at the end of the current `handle_*`.
    pub(super) fn push(&mut self, key: ConnectionKey, message: Waiting) {
        let Some(connection) = self.connections.get_mut(key).filter(|connection| !connection.closing) else { return };
        let remote = connection.connect.remote.ip();
        let before = connection.queue.bytes();
        connection.closing = matches!(message, Waiting::Close { .. });
        connection.queue.push(message);
        let limit = if connection.is_unjoined { limits::UNJOINED_QUEUE_BYTES } else { limits::RELIABLE_QUEUE_BYTES };
        let bytes = connection.queue.bytes();
        if bytes > limit || !self.addresses.may_queue(remote, bytes, bytes - before) {
            self.counters.overfull_connections += 1;
            connection.queue.clear();
            connection.queue.push(Waiting::Close { code: Leave::Timeout.close_code(), reason: OVERFULL.to_owned() });
            connection.closing = true;
            self.overfull.push(key);
        }
        if connection.closing {
            connection.queue.clear_unreliable();
        }
        self.addresses.handle_queued(remote, before, connection.queue.bytes());
        announce(connection, &mut self.ready);
    }

    /// Queues an unreliable body; at most one state is queued at a time.
    pub(super) fn push_unreliable(&mut self, key: ConnectionKey, body: &Body) {
        let Some(connection) = self.connections.get_mut(key).filter(|connection| !connection.closing) else { return };
        let Stage::Joined(session) = connection.stage else { return };
        let Some(session) = self.sessions.get(session) else { return };
        let consumed = self.rooms.get(session.room).map_or(0, |hosted| hosted.room.consumed(session.player));
        self.counters.dropped_frames += connection.queue.push_unreliable(body.clone(), consumed) as u64;
        announce(connection, &mut self.ready);
    }

    pub(super) fn pop_signal(&mut self, id: ConnectionId) -> Option<Signal> {
        let key = *self.by_id.get(&id)?;
        let queue = &mut self.connections.get_mut(key)?.queue;
        if queue.waiting.is_empty()
            && let Some((body, consumed)) = queue.unreliable.pop_front()
        {
            self.write_unreliable(key, &body, consumed);
        }
        let connection = self.connections.get_mut(key)?;
        let before = connection.queue.bytes();
        let Some(message) = connection.queue.pop() else {
            connection.announced = false;
            return None;
        };
        self.addresses.handle_queued(connection.connect.remote.ip(), before, connection.queue.bytes());
        let stage = &connection.stage;
        let signal = message.into_signal();
        if let Signal::Binary(frame) = &signal {
            self.counters.over_websockets.note_sent(1, frame.len());
            if let &Stage::Joined(session) = stage
                && let Some(session) = self.sessions.get_mut(session)
            {
                session.traffic.note_sent(1, frame.len());
            }
        }
        Some(signal)
    }

    /// The frames of an unreliable body. Their header is written when they are sent, so that a replaced state leaves no
    /// gap in the sequence.
    fn write_unreliable(&mut self, key: ConnectionKey, body: &Body, consumed: u32) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Joined(session) = connection.stage else { return };
        let Some(session) = self.sessions.get_mut(session) else { return };
        let before = connection.queue.bytes();
        let queue = &mut connection.queue;
        session.frames.write_unreliable(body.kind, body.deflated, &body.bytes, consumed, &mut self.frame, |frame| {
            queue.push(Waiting::Bytes(frame.to_vec()));
        });
        self.addresses.handle_queued(connection.connect.remote.ip(), before, connection.queue.bytes());
    }

    pub(super) fn set_deadline(&mut self, key: ConnectionKey, deadline: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if let Some(old) = connection.deadline.replace(deadline) {
            self.timers.remove(&(old, Timer::Connection(key)));
        }
        self.timers.insert((deadline, Timer::Connection(key)));
    }

    /// Handles the deadline of a connection, which was due at `due`.
    pub(super) fn handle_connection_timeout(&mut self, now: Instant, due: Instant, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.deadline = None;
        match connection.stage {
            Stage::Arrived => {
                self.counters.idle_connections += 1;
                self.close_connection(now, key, Leave::Timeout.close_code(), "The connection did not join in time.");
            }
            Stage::Seeking(_) => self.continue_seek(now, key),
            Stage::Placing(_) | Stage::Recalling(_) => self.give_up_placing(now, key),
            Stage::Asking(_) => self.give_up_decision(now, key),
            Stage::Joined(session) => self.send_heartbeat(now, due, key, session),
            Stage::Joining(_) | Stage::Gone => {}
        }
    }

    /// Pings a connection that seeks, or closes it if too many pings are unanswered.
    pub(super) fn ping_seeker(&mut self, now: Instant, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.unanswered_pings == limits::HEARTBEATS_UNANSWERED {
            self.close_connection(now, key, Leave::Timeout.close_code(), UNANSWERED);
            return;
        }
        connection.unanswered_pings += 1;
        self.ping(key);
        self.set_deadline(key, now + limits::HEARTBEAT_INTERVAL);
    }

    /// Sends a heartbeat: a ping and an ack. If too many are unanswered, the websocket counts as lost. While the data
    /// channel shows that the player is there, most are left out.
    ///
    /// The next one is scheduled relative to when this one was due, so that heartbeats which a delay has brought
    /// together spread out again; but not so early that this one could not be answered.
    fn send_heartbeat(&mut self, now: Instant, due: Instant, key: ConnectionKey, session: SessionKey) {
        let grace = self.config.grace;
        let is_heard = self.sessions.get(session).is_some_and(|session| self.is_heard(now, session));
        let peer = self.sessions.get(session).and_then(|session| session.peer);
        let heard_at = peer.and_then(|peer| self.endpoint.heard_at(peer));
        let Some(connection) = self.connections.get_mut(key).filter(|connection| !connection.closing) else { return };
        if connection.unanswered_pings == limits::HEARTBEATS_UNANSWERED {
            if let Some(lost_at) = connection.lost_at.take().filter(|&lost_at| now < lost_at) {
                self.set_deadline(key, lost_at);
                return;
            }
            let held = std::mem::replace(&mut connection.stage, Stage::Gone);
            self.release(now, held, Fate::MayReturn { within: grace, or: Leave::Timeout });
            self.close_connection(now, key, Leave::Timeout.close_code(), UNANSWERED);
            return;
        }
        let may_skip = is_heard && connection.takes_sparse_heartbeats && connection.unanswered_pings == 0;
        if may_skip && connection.skipped_heartbeats < limits::HEARTBEATS_SKIPPED {
            connection.skipped_heartbeats += 1;
        } else {
            let is_silent = !is_heard && now >= connection.heard + limits::HEARTBEAT_INTERVAL;
            let skipped = std::mem::take(&mut connection.skipped_heartbeats);
            connection.unanswered_pings += 1;
            if is_silent && skipped > 0 {
                // The one that was left out counts as unanswered, too. It may have been left out before the silence.
                connection.unanswered_pings += 1;
                connection.lost_at =
                    Some(heard_at.map_or(connection.heard, |at| at.max(connection.heard)) + LOST_AFTER);
            }
            self.refresh_session(now, session);
            self.acknowledge(session, true);
            self.ping(key);
        }
        let late = now - due + limits::HEARTBEAT_INTERVAL - HEARTBEAT_HASTE;
        let missed = u32::try_from(late.as_micros() / limits::HEARTBEAT_INTERVAL.as_micros()).unwrap_or(u32::MAX);
        self.set_deadline(key, due + limits::HEARTBEAT_INTERVAL * missed.saturating_add(1));
    }
}

fn announce(connection: &mut Connection, ready: &mut VecDeque<ConnectionId>) {
    if !std::mem::replace(&mut connection.announced, true) {
        ready.push_back(connection.id);
    }
}
