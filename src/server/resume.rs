//! Players whose websocket was lost, and how they come back.

use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use rand::Rng;
use rand_chacha::ChaCha20Rng;

use super::connection::Stage;
use super::session::channel_fault;
use super::{Server, Signal, Timer};
use crate::game::Game;
use crate::limits;
use crate::peer::Closed;
use crate::room;
use crate::wire::codes::{CLOSE_REFUSED, ErrorCode, Leave};
use crate::wire::signaling::{self, Fault, ReconnectRequest, ReplyTo, Return};

type Hash = [u8; 32];

/// What proves that somebody is the player of a session: of each token the hash alone.
///
/// A token is good for one return, on which there is a new one. The old one stays good until something was heard of a
/// player who has had the reply: it might have been lost with the next websocket.
pub(super) struct Tokens {
    current: Hash,
    previous: Option<Hash>,
}

impl Tokens {
    /// The first token of a session.
    pub(super) fn generate(rng: &mut ChaCha20Rng) -> (Tokens, String) {
        let (current, token) = new_token(rng);
        (Tokens { current, previous: None }, token)
    }

    fn accept(&self, token: &str) -> bool {
        let hash = hash(token);
        let is = |known: &Hash| verify_slices_are_equal(known, &hash).is_ok();
        // Both are compared, whichever it is.
        is(&self.current) | self.previous.as_ref().is_some_and(is)
    }

    /// The next token; the one that was shown stays good for now.
    fn rotate(&mut self, shown: &str, rng: &mut ChaCha20Rng) -> String {
        let (current, token) = new_token(rng);
        self.current = current;
        self.previous = Some(hash(shown));
        token
    }

    fn forget_previous(&mut self) {
        self.previous = None;
    }
}

fn new_token(rng: &mut ChaCha20Rng) -> (Hash, String) {
    let token = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
    (hash(&token), token)
}

fn hash(token: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

/// How much sooner than after [`limits::HEARTBEAT_INTERVAL`] the next heartbeat may follow one that was late.
const HEARTBEAT_HASTE: Duration = Duration::from_millis(150);

impl<G: Game> Server<G> {
    /// A connection has brought a message: who sent it is there, and has had the reply that it answers.
    pub(super) fn note_message(&mut self, now: Instant, index: usize) {
        let connection = &mut self.connections[index];
        connection.note_alive(now);
        if let Stage::Joined(session) = connection.stage {
            self.sessions[session].tokens.forget_previous();
        }
    }

    /// Gives a session its connection.
    pub(super) fn attach(&mut self, now: Instant, session: usize, index: usize) {
        self.sessions[session].connection = Some(index);
        let connection = &mut self.connections[index];
        connection.stage = Stage::Joined(session);
        connection.connect.headers = Vec::new();
        self.set_deadline(index, now + limits::HEARTBEAT_INTERVAL);
        self.count_as_joined(index);
    }

    fn set_deadline(&mut self, index: usize, deadline: Instant) {
        if let Some(old) = self.connections[index].deadline.replace(deadline) {
            self.timers.remove(&(old, Timer::Connection(index)));
        }
        self.timers.insert((deadline, Timer::Connection(index)));
    }

    /// Asks whether anybody is there, and says what was received; who has not answered for long is not.
    ///
    /// The next is counted from when this one was due: those that a delay has brought together part again, or each
    /// delay would leave more of them in one turn. But it leaves the answer to this one its time.
    pub(super) fn send_heartbeat(&mut self, now: Instant, due: Instant, index: usize, session: usize) {
        let connection = &mut self.connections[index];
        if connection.closing {
            return;
        }
        if connection.unanswered_pings == limits::HEARTBEATS_UNANSWERED {
            self.lose_connection(now, index, Leave::Timeout, self.config.grace);
            self.close_connection(index, Leave::Timeout.close_code(), "Nothing was heard of you.");
            return;
        }
        connection.unanswered_pings += 1;
        self.acknowledge(session, true);
        self.ping(index);
        let late = now - due + limits::HEARTBEAT_INTERVAL - HEARTBEAT_HASTE;
        let missed = u32::try_from(late.as_micros() / limits::HEARTBEAT_INTERVAL.as_micros()).unwrap_or(u32::MAX);
        self.set_deadline(index, due + limits::HEARTBEAT_INTERVAL * missed.saturating_add(1));
    }

    /// A connection carries nothing any more. Its player may come back within `grace`, or else is gone for `reason`.
    pub(super) fn lose_connection(&mut self, now: Instant, index: usize, reason: Leave, grace: Duration) {
        let Stage::Joined(session) = self.connections[index].stage else {
            self.leave_room(now, index, reason);
            return;
        };
        self.connections[index].stage = Stage::Gone;
        let until = now + grace;
        let gone = &mut self.sessions[session];
        gone.connection = None;
        gone.away = Some((until, reason));
        self.timers.insert((until, Timer::Session(session)));
        let (room, player) = (gone.room, gone.player);
        self.rooms[room].handle_input(room::Input::Drop { player });
        self.tell_hooks(session, "dropped", |hooks, visitor| hooks.dropped(visitor));
    }

    /// A player who was away has not come back in time.
    pub(super) fn end_grace(&mut self, now: Instant, session: usize) {
        if let Some((_, reason)) = self.sessions[session].away.take() {
            self.end_session(now, session, reason, "");
        }
    }

    /// A player who was told to come back after `wait` still finds their session then.
    fn prolong_grace(&mut self, now: Instant, session: usize, wait: Duration) {
        if let Some((until, _)) = &mut self.sessions[session].away {
            self.timers.remove(&(*until, Timer::Session(session)));
            *until = (*until).max(now + wait + self.config.grace);
            self.timers.insert((*until, Timer::Session(session)));
        }
    }

    pub(super) fn handle_reconnect(
        &mut self,
        now: Instant,
        index: usize,
        reply_to: &ReplyTo,
        request: &ReconnectRequest,
    ) {
        if let Err(fault) = self.resume(now, index, reply_to, request) {
            self.count_refused_return(fault.code);
            self.refuse(index, reply_to, &fault);
            // Who has nothing to come back to may join on the same connection.
            let may_join = matches!(fault.code, ErrorCode::NoSuchSession | ErrorCode::Unauthorized);
            if !may_join && matches!(self.connections[index].stage, Stage::Arrived) {
                self.close_connection(index, CLOSE_REFUSED, fault.code.as_str());
            }
        }
    }

    fn resume(
        &mut self,
        now: Instant,
        index: usize,
        reply_to: &ReplyTo,
        request: &ReconnectRequest,
    ) -> Result<(), Fault> {
        if !matches!(self.connections[index].stage, Stage::Arrived) {
            return Err(Fault::new(ErrorCode::BadRequest, "This connection has asked to join already."));
        }
        signaling::check_version(&request.version)?;
        let unknown = || Fault::new(ErrorCode::NoSuchSession, "The server doesn't know this session; join anew.");
        let Some(&session) = self.by_socket_id.get(&request.socket_id) else {
            self.admit_address(now, index, true)?;
            return Err(unknown());
        };
        if !self.sessions[session].tokens.accept(&request.resume) {
            self.admit_address(now, index, true)?;
            return Err(Fault::new(ErrorCode::Unauthorized, "The token of this session is not valid; join anew."));
        }
        // The request was overtaken by another, on a websocket that the client has opened since.
        let attached = self.sessions[session].connection.map(|attached| self.connections[attached].opened);
        if attached.is_some_and(|attached| attached > self.connections[index].opened) {
            self.put_out(now, index, Leave::Replaced, "You are playing in another window.");
            return Ok(());
        }
        let room = self.sessions[session].room;
        let of_url = &self.connections[index].connect.room;
        if of_url.as_ref().is_some_and(|of_url| *of_url != self.rooms[room].name) {
            return Err(Fault::new(ErrorCode::BadRoom, "The session is in another room."));
        }
        if let Err(fault) = self.admit(now) {
            self.prolong_grace(now, session, fault.retry_after.unwrap_or_default());
            return Err(fault);
        }
        let Self { sessions, rng, .. } = self;
        let resumed = &mut sessions[session];
        // A page that has begun anew wants what comes, not what it had.
        let newest = request.last.unwrap_or_else(|| resumed.frames.newest_made());
        let Some(missed) = resumed.frames.missed_since(newest) else {
            self.end_session(now, session, Leave::Timeout, "You were away for too long.");
            return Err(unknown());
        };
        let resume = resumed.tokens.rotate(&request.resume, rng);
        let returns = Return { last: resumed.frames.newest_reliable(), reliable_seq: newest.wrapping_add(1) };
        let player = resumed.player;
        let was_away = resumed.away.take();
        if let Some(old) = resumed.connection.take() {
            self.connections[old].stage = Stage::Gone;
            self.close_connection(old, Leave::Replaced.close_code(), "You are playing in another window.");
        }
        if let Some((until, _)) = was_away {
            self.timers.remove(&(until, Timer::Session(session)));
            self.rooms[room].handle_input(room::Input::Resume { player });
            self.tell_hooks(session, "resumed", |hooks, visitor| hooks.resumed(visitor));
        }
        self.attach(now, session, index);
        self.tell_joined(now, session, reply_to, &resume, request.sdp.as_deref(), Some(returns));
        for frame in missed {
            self.push(index, Signal::Binary(frame));
        }
        // They may take one for open that closed while nobody could tell them.
        if self.sessions[session].peer.is_none() {
            let text = signaling::event("eventChannelClosed", &channel_fault(Closed::Lost));
            self.push(index, Signal::Text(text));
        }
        Ok(())
    }
}
