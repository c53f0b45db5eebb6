//! Joining: a request passes the address's pace, the token, the server's pace and the hooks, and then waits for the
//! game's decision in the next tick of its room.

use std::time::Instant;

use rand::Rng;

use super::connection::{Joining, Stage};
use super::rooms::Member;
use super::session::Session;
use super::tokens::Tokens;
use super::{ConnectionKey, RoomKey, Server, SessionKey};
use crate::game::{Game, Join, Link, PlayerId};
use crate::hooks::Arrival;
use crate::limits;
use crate::player::Frames;
use crate::rate::Credit;
use crate::room;
use crate::wire::codes::{CLOSE_REFUSED, ErrorCode};
use crate::wire::signaling::{self, Fault, JoinReply, JoinRequest, ReplyTo, Return, RoomName, SessionInfo};

impl<G: Game> Server<G> {
    pub(super) fn handle_join(&mut self, now: Instant, key: ConnectionKey, reply_to: &ReplyTo, join: JoinRequest) {
        let Err(fault) = self.ask_room(now, key, reply_to, join) else { return };
        self.count_refused_join(fault.code);
        self.refuse(key, reply_to, &fault);
        // A player who is in stays in; for others there is nothing to wait for.
        let stage = self.connections.get(key).map(|connection| &connection.stage);
        if !matches!(stage, Some(Stage::Joined(_) | Stage::Joining(_))) {
            self.close_connection(now, key, CLOSE_REFUSED, fault.code.as_str());
        }
    }

    fn ask_room(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        join: JoinRequest,
    ) -> Result<(), Fault> {
        self.expect_arrived(key)?;
        self.admit_address(now, key, false)?;
        signaling::check_version(&join.version)?;
        let name = self.room_of_request(key, join.room_id.as_deref())?;
        let identity = match &self.config.keys {
            Some(keys) => Some(keys.verify(join.bearer.as_str(), name.as_str(), self.unix_time(now))?),
            None => None,
        };
        self.admit(now, key)?;
        let user_id = identity.as_ref().map(|identity| identity.subject.clone());
        let shown = signaling::shown_name(join.name.as_deref());
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let headers = std::mem::take(&mut connection.connect.headers);
        let remote = connection.connect.remote;
        let arrival = Arrival::new(remote, &headers, name.as_str(), &shown, &join.data, identity.as_ref());
        let attached = self.hooks.accept(&arrival)?;
        let room = match self.by_name.get(&name) {
            Some(&room) => room,
            None => self.make_room(now, name, &join.data)?,
        };
        let Some(hosted) = self.rooms.get_mut(room) else { return Ok(()) };
        let player = hosted.room.next_player();
        let mut player_join = Join::new(&shown);
        player_join.data = join.data;
        player_join.identity = identity;
        player_join.attached = attached.clone();
        hosted.handle_input(room::Input::Join { player, join: player_join });
        hosted.members.insert(player, Member::Joining(key));
        hosted.empty_since = None;
        if let Some(connection) = self.connections.get_mut(key) {
            connection.stage = Stage::Joining(Box::new(Joining {
                room,
                player,
                user_id,
                name: shown,
                attached,
                offer: join.sdp,
                reply_to: reply_to.clone(),
            }));
        }
        Ok(())
    }

    /// Refuses a request that comes first on a connection, where it doesn't.
    pub(super) fn expect_arrived(&self, key: ConnectionKey) -> Result<(), Fault> {
        match self.connections.get(key).map(|connection| &connection.stage) {
            Some(Stage::Arrived) => Ok(()),
            _ => Err(Fault::new(ErrorCode::BadRequest, "This connection has asked to join already.")),
        }
    }

    fn room_of_request(&self, key: ConnectionKey, asked: Option<&str>) -> Result<RoomName, Fault> {
        let bad_room =
            || Fault::new(ErrorCode::BadRoom, "A room's name has 1 to 64 letters, digits, hyphens or underscores.");
        let asked = asked.map(|name| RoomName::parse(name).ok_or_else(bad_room)).transpose()?;
        let of_url = self.connections.get(key).and_then(|connection| connection.connect.room.clone());
        match (of_url, asked) {
            (Some(of_url), Some(asked)) if of_url != asked => {
                Err(Fault::new(ErrorCode::BadRoom, "The room in the request is not that of the URL."))
            }
            (Some(name), _) | (None, Some(name)) => Ok(name),
            (None, None) => Err(Fault::new(ErrorCode::BadRoom, "The request names no room.")),
        }
    }

    /// The game has let a player in.
    pub(super) fn handle_joined(&mut self, now: Instant, room: RoomKey, player: PlayerId, welcome: serde_json::Value) {
        let Some(hosted) = self.rooms.get_mut(room) else { return };
        let Some(&Member::Joining(carrier)) = hosted.members.get(&player) else { return };
        let Some(joining) = self.take_joining(carrier) else { return };
        let Joining { user_id, name, attached, offer, reply_to, .. } = *joining;
        let socket_id = format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64());
        let info = SessionInfo { player: player.0, socket_id: socket_id.clone(), user_id, name };
        let (tokens, resume) = Tokens::generate(&mut self.rng);
        let session = self.sessions.insert(Session {
            room,
            player,
            info: info.clone(),
            attached,
            frames: Frames::new(now),
            connection: Some(carrier),
            welcome,
            tokens,
            away: None,
            peer: None,
            link: Link::default(),
            relayed: Credit::new(limits::RELAYED_BYTES_PER_SECOND, now),
        });
        self.by_socket_id.insert(socket_id, session);
        if let Some(hosted) = self.rooms.get_mut(room) {
            hosted.members.insert(player, Member::Playing(session));
        }
        self.attach(now, session, carrier);
        self.tell_joined(now, session, &reply_to, &resume, offer.as_deref(), None);
        self.tell_presence(now, room, &info, None);
        self.tell_hooks(session, "joined", |hooks, visitor| hooks.joined(visitor));
    }

    /// The game, or the room, has refused a player.
    pub(super) fn handle_refused(&mut self, now: Instant, room: RoomKey, player: PlayerId, fault: &Fault) {
        let Some(hosted) = self.rooms.get_mut(room) else { return };
        let Some(Member::Joining(carrier)) = hosted.members.remove(&player) else { return };
        if let Some(joining) = self.take_joining(carrier) {
            self.refuse(carrier, &joining.reply_to, fault);
        }
        self.close_connection(now, carrier, CLOSE_REFUSED, fault.code.as_str());
    }

    fn take_joining(&mut self, carrier: ConnectionKey) -> Option<Box<Joining>> {
        let stage = &mut self.connections.get_mut(carrier)?.stage;
        match std::mem::replace(stage, Stage::Gone) {
            Stage::Joining(joining) => Some(joining),
            other => {
                *stage = other;
                None
            }
        }
    }

    /// Replies to `join` and to `reconnect`.
    pub(super) fn tell_joined(
        &mut self,
        now: Instant,
        key: SessionKey,
        reply_to: &ReplyTo,
        resume: &str,
        offer: Option<&str>,
        returns: Option<Return>,
    ) {
        let (sdp, sdp_error) = match offer.map(|offer| self.answer(now, key, offer)) {
            None => (None, None),
            Some(Ok(sdp)) => (Some(sdp), None),
            Some(Err(fault)) => (None, Some(fault)),
        };
        let Some(Session { room, player, info, welcome, frames, connection, .. }) = self.sessions.get(key) else {
            return;
        };
        let (Some(carrier), Some(hosted)) = (*connection, self.rooms.get(*room)) else { return };
        let sessions = self.shown(*room);
        let reply = JoinReply {
            socket_id: &info.socket_id,
            player: player.0,
            room_size: if hosted.cast.is_some() { sessions.len() } else { hosted.room.players().len() },
            sessions,
            tick: hosted.last_tick,
            tick_ms: self.config.tick.as_secs_f64() * 1000.0,
            input_seq: frames.next_input(),
            resume,
            returns,
            welcome,
            sdp,
            sdp_error,
        };
        let room = *room;
        let text = signaling::granted(reply_to, &reply);
        self.push_text(carrier, text.into());
        self.tell_users(room, carrier);
    }
}
