//! Sessions: the membership of a player in a room, over one connection after the other.
//!
//! Every session is ended by [`Server::end_session`]. When a connection ends, [`Server::release`] ends its session or
//! request, or keeps the session for a reconnect.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::connection::Stage;
use super::figures::Traffic;
use super::states::PlayerStates;
use super::tokens::Tokens;
use super::{ConnectionKey, RoomKey, Server, SessionKey, Timer, nodes};
use crate::endpoint::PeerKey;
use crate::game::{Encoded, Game, Link, PlayerId, UserMedia};
use crate::hooks::{Hooks, Visitor};
use crate::limits;
use crate::log_limit::Who;
use crate::player::Frames;
use crate::rate::Credit;
use crate::room;
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::signaling::{Codes, Device, Fault, SessionInfo};

/// The membership of a player in a room.
pub(super) struct Session {
    pub(super) room: RoomKey,
    pub(super) player: PlayerId,
    /// The player's current or last address.
    pub(super) remote: SocketAddr,
    pub(super) info: SessionInfo,
    pub(super) device: Device,
    pub(super) codes: Codes,
    pub(super) cpu: Option<CpuReport>,
    /// The attachment of the hooks.
    pub(super) attached: serde_json::Value,
    pub(super) frames: Frames,
    pub(super) states: PlayerStates,
    /// `None` while it is lost and the player may reconnect.
    pub(super) connection: Option<ConnectionKey>,
    pub(super) welcome: Encoded,
    pub(super) tokens: Tokens,
    /// When it was last saved for other nodes.
    pub(super) saved: Instant,
    /// The time until which a player without a connection may reconnect, and the reason of the leave after that.
    pub(super) away: Option<(Instant, Leave)>,
    pub(super) peer: Option<PeerKey>,
    /// The media connections: the player's own one, and those that listen to one publisher each.
    pub(super) media: BTreeMap<Option<PlayerId>, PeerKey>,
    /// What the player may publish, as told.
    pub(super) told_media: UserMedia,
    /// Whether it has no websocket, and ends with its media connection.
    pub(super) is_call: bool,
    pub(super) link: Link,
    pub(super) traffic: Traffic,
    /// When the offer of the data channel was answered.
    pub(super) offered: Instant,
    /// The allowance for messages to other players.
    pub(super) relayed: Credit,
}

impl Session {
    /// Returns the session of a player without a connection.
    pub(super) fn new(
        now: Instant,
        (room, player): (RoomKey, PlayerId),
        remote: SocketAddr,
        info: SessionInfo,
        welcome: Encoded,
        tokens: Tokens,
    ) -> Session {
        Session {
            room,
            player,
            remote,
            info,
            device: Device::default(),
            codes: Codes::default(),
            cpu: None,
            attached: Value::Null,
            frames: Frames::new(now),
            states: PlayerStates::default(),
            connection: None,
            welcome,
            tokens,
            saved: now,
            away: None,
            peer: None,
            media: BTreeMap::new(),
            told_media: UserMedia::default(),
            is_call: false,
            link: Link::default(),
            traffic: Traffic::default(),
            offered: now,
            relayed: Credit::new(limits::RELAYED_BYTES_PER_SECOND, now),
        }
    }
}

/// A report of the CPU use of a player's client.
#[derive(Clone, Copy)]
pub(super) struct CpuReport {
    pub(super) at: Instant,
    pub(super) used: f64,
}

/// What happens to a player whose connection has ended.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// The player leaves.
    Over(Leave),
    /// The player leaves unless they reconnect in time.
    MayReturn { within: Duration, or: Leave },
}

impl<G: Game> Server<G> {
    /// Ends the session or request of a connection.
    pub(super) fn release(&mut self, now: Instant, held: Stage, fate: Fate) {
        match (held, fate) {
            (Stage::Joined(session), Fate::Over(reason)) => self.end_session(now, session, reason, ""),
            (Stage::Joined(session), Fate::MayReturn { within, or }) => self.suspend_session(now, session, within, or),
            (Stage::Joining(joining), Fate::Over(reason) | Fate::MayReturn { or: reason, .. }) => {
                self.withdraw(joining.room, joining.player, reason);
            }
            (Stage::Seeking(seeking), _) => self.end_seek(&seeking),
            (Stage::Arrived | Stage::Placing(_) | Stage::Recalling(_) | Stage::Asking(_) | Stage::Gone, _) => {}
        }
    }

    /// Tells the room that one of its members has left.
    pub(super) fn withdraw(&mut self, room: RoomKey, player: PlayerId, reason: Leave) {
        if let Some(hosted) = self.rooms.get_mut(room) {
            hosted.members.remove(&player);
            hosted.handle_input(room::Input::Leave { player, reason });
        }
    }

    /// Ends a session: notifies its room, the other players and the hooks, releases its peer, names and timer, and
    /// closes its connection with `sentence`, or if that is empty with the name of the reason.
    pub(super) fn end_session(&mut self, now: Instant, key: SessionKey, reason: Leave, sentence: &str) {
        self.tell_hooks(key, "left", |hooks, visitor| hooks.left(visitor, reason));
        self.close_all_media(now, key);
        let Some(session) = self.sessions.remove(key) else { return };
        let Session { room, player, remote, info, connection, away, peer, traffic, .. } = session;
        if let Some(hosted) = self.rooms.get_mut(room) {
            hosted.past_traffic += traffic;
        }
        self.counters.left[reason as usize] += 1;
        let name = self.rooms.get(room).map(|hosted| hosted.name.as_str());
        let who = Who { remote, room: name, player: Some(player), name: Some(&info.name) };
        if matches!(reason, Leave::Kicked | Leave::Flood | Leave::BadFrame | Leave::Timeout) {
            self.player_log.note_put_out(now, who, reason, sentence);
        } else {
            self.player_log.note_left(now, who, reason);
        }
        match reason {
            Leave::Kicked => self.counters.put_out.kicked += 1,
            Leave::Flood => self.counters.put_out.flood += 1,
            Leave::BadFrame => self.counters.put_out.bad_frame += 1,
            _ => {}
        }
        self.forget_session(room, &info.socket_id, reason);
        self.by_socket_id.remove(&info.socket_id);
        self.endpoint.forget_player(remote.ip());
        if let Some((until, _)) = away {
            self.timers.remove(&(until, Timer::Session(key)));
        }
        if let Some(peer) = peer {
            self.by_peer.remove(&peer);
            self.endpoint.close(now, peer);
        }
        self.withdraw(room, player, reason);
        // Where the room goes on elsewhere, the player has not left it.
        if self.rooms.get(room).is_some_and(|hosted| !hosted.prospects.goes_on) {
            self.note_leave(room, &info);
        }
        // If all players leave, nobody needs the announcements.
        if !matches!(reason, Leave::RoomClosed | Leave::Shutdown | Leave::Moved) {
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

    /// Detaches a session from its connection. Its player may reconnect within `grace`, and otherwise leaves for
    /// `reason`.
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

    /// A player has not reconnected in time.
    pub(super) fn end_grace(&mut self, now: Instant, key: SessionKey) {
        if let Some((_, reason)) = self.sessions.get_mut(key).and_then(|session| session.away.take()) {
            self.end_session(now, key, reason, "The player did not reconnect in time.");
        }
    }

    /// Attaches a session to a connection.
    pub(super) fn attach(&mut self, now: Instant, key: SessionKey, carrier: ConnectionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(connection) = self.connections.get_mut(carrier) else { return };
        session.connection = Some(carrier);
        let former = std::mem::replace(&mut session.remote, connection.connect.remote);
        self.endpoint.note_player(session.remote.ip());
        self.endpoint.forget_player(former.ip());
        connection.stage = Stage::Joined(key);
        connection.connect.headers.retain(|(name, _)| nodes::is_needed(name));
        match connection.codes {
            Codes::Names => connection.codes = session.codes,
            Codes::Numbers => session.codes = Codes::Numbers,
        }
        if std::mem::take(&mut connection.is_unjoined) {
            self.addresses.handle_joined(connection.connect.remote.ip());
        }
        self.set_deadline(carrier, now + limits::HEARTBEAT_INTERVAL);
    }

    /// The session of a connection.
    pub(super) fn session_of(&self, key: ConnectionKey) -> Result<SessionKey, Fault> {
        match self.connections.get(key).map(|connection| &connection.stage) {
            Some(&Stage::Joined(session)) => Ok(session),
            _ => Err(Fault::new(ErrorCode::BadRequest, "Send join first.")),
        }
    }

    /// Handles a sign of life: a message on the connection proves that its client is present and has received the
    /// reply.
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
