//! Sessions: a player's stay in a room, over one connection after the other.
//!
//! A session ends in one way, [`Server::end_session`]. What a connection held when it ended goes through
//! [`Server::release`], which tells whether its player may come back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connection::Stage;
use super::tokens::Tokens;
use super::{ConnectionKey, RoomKey, Server, SessionKey, Timer};
use crate::endpoint::PeerKey;
use crate::game::{Game, Link, PlayerId, Welcome};
use crate::hooks::{Hooks, Visitor};
use crate::limits;
use crate::log_limit::Who;
use crate::player::Frames;
use crate::rate::Credit;
use crate::room;
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::signaling::{Fault, SessionInfo};

/// A player's stay in a room.
pub(super) struct Session {
    pub(super) room: RoomKey,
    pub(super) player: PlayerId,
    /// Where they come from, or came from last.
    pub(super) remote: SocketAddr,
    pub(super) info: SessionInfo,
    /// By the hooks.
    pub(super) attached: serde_json::Value,
    pub(super) frames: Frames,
    /// `None` while it was lost and the player may come back.
    pub(super) connection: Option<ConnectionKey>,
    pub(super) welcome: Welcome,
    pub(super) tokens: Tokens,
    /// Until when a player without a connection may come back, and for what reason they are gone then.
    pub(super) away: Option<(Instant, Leave)>,
    pub(super) peer: Option<PeerKey>,
    pub(super) link: Link,
    /// For what goes to other players.
    pub(super) relayed: Credit,
}

/// What becomes of a player whose connection has ended.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// They have left.
    Over(Leave),
    /// They have left unless they come back in time.
    MayReturn { within: Duration, or: Leave },
}

impl<G: Game> Server<G> {
    /// Ends what a connection held.
    pub(super) fn release(&mut self, now: Instant, held: Stage, fate: Fate) {
        match (held, fate) {
            (Stage::Joined(session), Fate::Over(reason)) => self.end_session(now, session, reason, ""),
            (Stage::Joined(session), Fate::MayReturn { within, or }) => self.suspend_session(now, session, within, or),
            (Stage::Joining(joining), Fate::Over(reason) | Fate::MayReturn { or: reason, .. }) => {
                self.withdraw(joining.room, joining.player, reason);
            }
            (Stage::Arrived | Stage::Asking(_) | Stage::Gone, _) => {}
        }
    }

    /// The room is told that one of its members is gone.
    pub(super) fn withdraw(&mut self, room: RoomKey, player: PlayerId, reason: Leave) {
        if let Some(hosted) = self.rooms.get_mut(room) {
            hosted.members.remove(&player);
            hosted.handle_input(room::Input::Leave { player, reason });
        }
    }

    /// Ends a session: its room, the others in it and the hooks are told, its peer, names and timer are given up, and
    /// the connection that carries it is closed with `sentence`, or where that is empty with the reason's name.
    pub(super) fn end_session(&mut self, now: Instant, key: SessionKey, reason: Leave, sentence: &str) {
        self.tell_hooks(key, "left", |hooks, visitor| hooks.left(visitor, reason));
        let Some(session) = self.sessions.remove(key) else { return };
        let Session { room, player, remote, info, connection, away, peer, .. } = session;
        if matches!(reason, Leave::Kicked | Leave::Flood | Leave::BadFrame | Leave::Timeout) {
            let name = self.rooms.get(room).map(|hosted| hosted.name.as_str());
            let who = Who { remote, room: name, player: Some(player), name: Some(&info.name) };
            self.player_log.note_put_out(now, who, reason, sentence);
        }
        match reason {
            Leave::Kicked => self.counters.put_out.kicked += 1,
            Leave::Flood => self.counters.put_out.flood += 1,
            Leave::BadFrame => self.counters.put_out.bad_frame += 1,
            _ => {}
        }
        self.by_socket_id.remove(&info.socket_id);
        if let Some((until, _)) = away {
            self.timers.remove(&(until, Timer::Session(key)));
        }
        if let Some(peer) = peer {
            self.by_peer.remove(&peer);
            self.endpoint.close(now, peer);
        }
        self.withdraw(room, player, reason);
        // Where all go, nobody is left to be told of each.
        if !matches!(reason, Leave::RoomClosed | Leave::Shutdown) {
            self.tell_presence(now, room, &info, Some(reason));
        }
        if let Some(connection) = connection {
            if let Some(carrier) = self.connections.get_mut(connection) {
                carrier.stage = Stage::Gone;
            }
            let text = if sentence.is_empty() { reason.as_str() } else { sentence };
            self.close_connection(now, connection, reason.close_code(), text);
        }
    }

    /// The connection of a session carries nothing any more. Its player may come back within `grace`, or else is gone
    /// for `reason`.
    fn suspend_session(&mut self, now: Instant, key: SessionKey, grace: Duration, reason: Leave) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let until = now + grace;
        session.connection = None;
        session.away = Some((until, reason));
        self.timers.insert((until, Timer::Session(key)));
        let (room, player) = (session.room, session.player);
        if let Some(hosted) = self.rooms.get_mut(room) {
            hosted.handle_input(room::Input::Drop { player });
        }
        self.tell_hooks(key, "dropped", |hooks, visitor| hooks.dropped(visitor));
    }

    /// A player who was away has not come back in time.
    pub(super) fn end_grace(&mut self, now: Instant, key: SessionKey) {
        if let Some((_, reason)) = self.sessions.get_mut(key).and_then(|session| session.away.take()) {
            self.end_session(now, key, reason, "They did not come back in time.");
        }
    }

    /// Gives a session its connection.
    pub(super) fn attach(&mut self, now: Instant, key: SessionKey, carrier: ConnectionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(connection) = self.connections.get_mut(carrier) else { return };
        session.connection = Some(carrier);
        session.remote = connection.connect.remote;
        connection.stage = Stage::Joined(key);
        connection.connect.headers = Vec::new();
        if std::mem::take(&mut connection.is_unjoined) {
            self.addresses.handle_joined(connection.connect.remote.ip());
        }
        self.set_deadline(carrier, now + limits::HEARTBEAT_INTERVAL);
    }

    /// The session that a connection carries.
    pub(super) fn session_of(&self, key: ConnectionKey) -> Result<SessionKey, Fault> {
        match self.connections.get(key).map(|connection| &connection.stage) {
            Some(&Stage::Joined(session)) => Ok(session),
            _ => Err(Fault::new(ErrorCode::BadRequest, "Join first.")),
        }
    }

    /// A connection has brought a message: its sender is there, and has had the reply that it answers.
    pub(super) fn note_message(&mut self, now: Instant, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.note_alive(now);
        if let Stage::Joined(session) = connection.stage
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.tokens.forget_previous();
        }
    }

    pub(super) fn tell_hooks(&mut self, key: SessionKey, name: &str, tell: impl FnOnce(&mut dyn Hooks, &Visitor<'_>)) {
        let Some(Session { room, player, info, attached, .. }) = self.sessions.get(key) else { return };
        let Some(hosted) = self.rooms.get(*room) else { return };
        let visitor = Visitor::new(hosted.name.as_str(), *player, &info.name, info.user_id.as_deref(), attached);
        self.hooks.call(name, |hooks| tell(hooks, &visitor));
    }
}
