//! Reconnecting: a player whose websocket was lost resumes the session on another one.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::channel::channel_fault;
use super::connection::{Stage, Waiting};
use super::states::PlayerStates;
use super::{ConnectionKey, Server, SessionKey, Timer};
use crate::game::{Game, Resumed};
use crate::log_limit::Who;
use crate::peer::Closed;
use crate::room;
use crate::wire::codes::{CLOSE_REFUSED, ErrorCode, Leave};
use crate::wire::signaling::{self, Fault, ReconnectRequest, ReplyTo, Return};

impl<G: Game> Server<G> {
    pub(super) fn handle_reconnect(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        request: &ReconnectRequest,
    ) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.takes_sparse_heartbeats = request.sparse_heartbeats;
        }
        let Err(fault) = self.resume(now, key, reply_to, request) else { return };
        let is_unknown = fault.code == ErrorCode::NoSuchSession && self.expect_arrived(key).is_ok();
        if !(is_unknown && self.recall_return(now, key, reply_to, request)) {
            self.refuse_return(now, key, reply_to, &fault);
        }
    }

    pub(super) fn refuse_return(&mut self, now: Instant, key: ConnectionKey, reply_to: &ReplyTo, fault: &Fault) {
        self.count_refused_return(fault.code);
        self.refuse(key, reply_to, fault);
        if self.expect_arrived(key).is_err() {
            return;
        }
        // After a restart of the server no session is known, and everybody joins anew.
        if fault.code != ErrorCode::NoSuchSession {
            self.log_refused(now, key, None, None, fault);
        }
        // A player whose session is gone may join on the same connection.
        if !matches!(fault.code, ErrorCode::NoSuchSession | ErrorCode::Unauthorized) {
            self.close_connection(now, key, CLOSE_REFUSED, fault.code.as_str());
        }
    }

    pub(super) fn resume(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        request: &ReconnectRequest,
    ) -> Result<(), Fault> {
        self.expect_arrived(key)?;
        signaling::check_version(&request.version)?;
        let session = self.claimed_session(now, key, request)?;
        if self.is_overtaken(key, session) {
            self.replace(now, key, session);
            return Ok(());
        }
        self.expect_room_of_url(key, session)?;
        if let Err(fault) = self.admit(now, key) {
            self.prolong_grace(now, session, fault.retry_after.unwrap_or_default());
            return Err(fault);
        }
        self.move_session(now, session, key, reply_to, request)
    }

    /// The session in the request, if the resume token is valid.
    fn claimed_session(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        request: &ReconnectRequest,
    ) -> Result<SessionKey, Fault> {
        let claimed = self.by_socket_id.get(&request.socket_id).copied();
        let Some((session, claimed)) = claimed.and_then(|session| Some((session, self.sessions.get(session)?))) else {
            self.admit_address(now, key, true)?;
            return Err(unknown_session());
        };
        let is_valid = request.resume.as_deref().is_some_and(|resume| claimed.tokens.accept(resume));
        if !is_valid || claimed.is_call {
            self.admit_address(now, key, true)?;
            return Err(Fault::new(ErrorCode::Unauthorized, "The token of this session is invalid; join again."));
        }
        if let Err(fault) = self.expect_subject(session, &request.bearer) {
            // Signatures cost time.
            self.admit_address(now, key, true)?;
            return Err(fault);
        }
        Ok(session)
    }

    /// A reloaded page may be used by somebody else, with another bearer token. The times and the room of the token are
    /// not checked, because the session was already admitted.
    fn expect_subject(&self, session: SessionKey, bearer: &Value) -> Result<(), Fault> {
        let Some(keys) = self.config.keys.as_ref().filter(|_| !bearer.is_null()) else { return Ok(()) };
        let subject = keys.subject(bearer.as_str().unwrap_or_default())?;
        match self.sessions.get(session) {
            Some(session) if session.info.user_id.as_ref() == Some(&subject) => Ok(()),
            _ => Err(unknown_session()),
        }
    }

    /// Whether the client has opened another websocket since this one, and has the session on that one.
    fn is_overtaken(&self, key: ConnectionKey, session: SessionKey) -> bool {
        let opened = |key| self.connections.get(key).map(|connection| connection.opened);
        let carrier = self.sessions.get(session).and_then(|session| session.connection);
        carrier.and_then(opened) > opened(key)
    }

    fn expect_room_of_url(&self, key: ConnectionKey, session: SessionKey) -> Result<(), Fault> {
        let of_url = self.connections.get(key).and_then(|connection| connection.connect.room.as_ref());
        let hosted = self.sessions.get(session).and_then(|session| self.rooms.get(session.room));
        match (of_url, hosted) {
            (Some(of_url), Some(hosted)) if *of_url != hosted.name => {
                Err(Fault::new(ErrorCode::BadRoom, "The session belongs to another room."))
            }
            _ => Ok(()),
        }
    }

    /// Moves a session to another connection.
    fn move_session(
        &mut self,
        now: Instant,
        key: SessionKey,
        carrier: ConnectionKey,
        reply_to: &ReplyTo,
        request: &ReconnectRequest,
    ) -> Result<(), Fault> {
        let Self { sessions, rng, .. } = self;
        let Some(resumed) = sessions.get_mut(key) else { return Err(unknown_session()) };
        // A reloaded page needs only messages from now on.
        let newest = request.last.unwrap_or_else(|| resumed.frames.newest_made());
        // One whose room was saved before knows more than the room.
        let has_lost = resumed.frames.note_return(newest);
        let Some(missed) = resumed.frames.missed_since(newest) else {
            self.counters.missed_too_much += 1;
            self.end_session(now, key, Leave::Timeout, "You were disconnected for too long.");
            return Err(unknown_session());
        };
        let resume = resumed.tokens.rotate(request.resume.as_deref().unwrap_or_default(), rng);
        let returns = Return { last: resumed.frames.newest_reliable(), reliable_seq: newest.wrapping_add(1) };
        let (room, player) = (resumed.room, resumed.player);
        // A page that was loaded anew holds no states.
        resumed.states = PlayerStates::default();
        let (was_away, old) = (resumed.away.take(), resumed.connection.take());
        self.save_session(now, key);
        if let Some(old) = old {
            if let Some(connection) = self.connections.get_mut(old) {
                connection.stage = Stage::Gone;
            }
            self.replace(now, old, key);
        }
        let resumed = Resumed { reloaded: request.last.is_none() || has_lost };
        // The websocket of the page before may still be open.
        if (was_away.is_some() || resumed.reloaded)
            && let Some(hosted) = self.rooms.get_mut(room)
        {
            hosted.handle_input(room::Input::Resume { player, resumed });
        }
        if let Some((until, _)) = was_away {
            self.timers.remove(&(until, Timer::Session(key)));
            self.tell_hooks(key, "resumed", |hooks, visitor| hooks.resumed(visitor));
        }
        self.attach(now, key, carrier);
        self.tell_joined(now, key, reply_to, &resume, request.sdp.as_ref(), Some(returns));
        for frame in missed {
            self.push(carrier, Waiting::Frame(frame));
        }
        if let Some(&peer) = self.sessions.get(key).and_then(|session| session.media.get(&None)) {
            self.tell_slots(peer);
        }
        // They may take one for open that closed while nobody could tell them.
        if let Some(session) = self.sessions.get(key).filter(|session| session.peer.is_none()) {
            let text = signaling::event("eventChannelClosed", &channel_fault(Closed::Lost).shown(session.codes));
            self.push_text(carrier, text.into());
        }
        Ok(())
    }

    /// Closes a connection whose session has moved to another one.
    fn replace(&mut self, now: Instant, key: ConnectionKey, session: SessionKey) {
        const SENTENCE: &str = "You are playing in another window.";
        if let (Some(connection), Some(session)) = (self.connections.get(key), self.sessions.get(session)) {
            let room = self.rooms.get(session.room).map(|hosted| hosted.name.as_str());
            let remote = connection.connect.remote;
            let who = Who { remote, room, player: Some(session.player), name: Some(&session.info.name) };
            self.player_log.note_put_out(now, who, Leave::Replaced, SENTENCE);
        }
        self.close_connection(now, key, Leave::Replaced.close_code(), SENTENCE);
    }

    /// Keeps the session of a player who has to wait `wait` before reconnecting.
    fn prolong_grace(&mut self, now: Instant, key: SessionKey, wait: Duration) {
        if let Some((until, _)) = self.sessions.get_mut(key).and_then(|session| session.away.as_mut()) {
            self.timers.remove(&(*until, Timer::Session(key)));
            *until = (*until).max(now + wait + self.config.grace);
            self.timers.insert((*until, Timer::Session(key)));
        }
    }
}

pub(super) fn unknown_session() -> Fault {
    Fault::new(ErrorCode::NoSuchSession, "The server does not know this session; join again.")
}
