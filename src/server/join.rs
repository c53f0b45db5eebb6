//! Joining: a request passes the rate limit of its address, the token check and the rate limit of the server. Then the
//! hooks decide, at once or later, and then the game in the next tick of its room.

use std::time::Instant;

use rand::Rng;
use slotmap::{Key, KeyData};

use super::channel::candidates;
use super::connection::{Asking, Joining, Stage};
use super::rooms::Member;
use super::session::Session;
use super::tokens::Tokens;
use super::{ConnectionKey, RoomKey, Server, SessionKey};
use crate::game::{Encoded, Game, Identity, Join, PlayerId};
use crate::hooks::{Arrival, ArrivalId, Decision};
use crate::limits;
use crate::log_limit::Who;
use crate::room;
use crate::wire::codes::{CLOSE_REFUSED, ErrorCode, Leave};
use crate::wire::name;
use crate::wire::signaling::{
    self, Description, Fault, IceServer, JoinReply, JoinRequest, ReplyTo, Return, RoomName, SessionInfo,
};

impl<G: Game> Server<G> {
    pub(super) fn handle_join(&mut self, now: Instant, key: ConnectionKey, reply_to: ReplyTo, mut join: JoinRequest) {
        let name = name::shown(join.name.as_deref());
        let (room, identity) = match self.check_join(now, key, &join) {
            Ok(checked) => checked,
            Err(fault) => {
                let room = join.room_id.as_deref().and_then(RoomName::parse);
                self.refuse_join(now, key, &reply_to, room.as_ref(), &name, &fault);
                return;
            }
        };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.takes_sparse_heartbeats = join.sparse_heartbeats;
        }
        let device = join.take_device();
        let JoinRequest { data, sdp: offer, former, ticket, .. } = join;
        let asking = Asking { room, identity, name, data, offer, device, reply_to, former };
        self.try_join(now, key, asking, |server, asking| server.place_join(now, key, asking, ticket.as_deref()));
    }

    /// Passes a request on to the next step, or refuses it.
    fn try_join(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        asking: Asking,
        ask: impl FnOnce(&mut Self, Asking) -> Result<(), Fault>,
    ) {
        let (reply_to, room, name) = (asking.reply_to.clone(), asking.room.clone(), asking.name.clone());
        if let Err(fault) = ask(self, asking) {
            self.refuse_join(now, key, &reply_to, Some(&room), &name, &fault);
        }
    }

    pub(super) fn refuse_join(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        room: Option<&RoomName>,
        name: &str,
        fault: &Fault,
    ) {
        self.count_refused_join(fault.code);
        self.refuse(key, reply_to, fault);
        // A connection that has joined or is joining stays open; others have nothing to wait for.
        let stage = self.connections.get(key).map(|connection| &connection.stage);
        if matches!(stage, Some(Stage::Arrived | Stage::Gone)) {
            self.log_refused(now, key, room, Some(name), fault);
            self.close_connection(now, key, CLOSE_REFUSED, fault.code.as_str());
        }
    }

    fn check_join(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        join: &JoinRequest,
    ) -> Result<(RoomName, Option<Identity>), Fault> {
        self.expect_arrived(key)?;
        self.admit_address(now, key, false)?;
        signaling::check_version(&join.version)?;
        let room = self.room_of_request(key, join.room_id.as_deref())?;
        let identity = match &self.config.keys {
            Some(keys) => Some(keys.verify(join.bearer.as_str(), room.as_str(), self.unix_time(now))?),
            None => None,
        };
        self.admit(now, key)?;
        Ok((room, identity))
    }

    /// Calls the hooks, and passes the request to the game if they accept at once.
    pub(super) fn ask_hooks(&mut self, now: Instant, key: ConnectionKey, asking: Asking) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let arrival = Arrival {
            id: ArrivalId(key.data().as_ffi()),
            remote: connection.connect.remote,
            headers: &connection.connect.headers,
            room: asking.room.as_str(),
            name: &asking.name,
            data: &asking.data,
            identity: asking.identity.as_ref(),
        };
        match self.hooks.accept(&arrival)? {
            Some(attached) => self.ask_game(now, key, asking, attached),
            None => {
                connection.stage = Stage::Asking(Box::new(asking));
                self.set_deadline(key, now + limits::DECISION_TIMEOUT);
                Ok(())
            }
        }
    }

    /// Handles the decision of a hook that had postponed it; the player may have left.
    pub(super) fn take_decision(&mut self, now: Instant, arrival: ArrivalId, decision: Decision) {
        let key = ConnectionKey::from(KeyData::from_ffi(arrival.0));
        let decided = match self.hooks.take(decision) {
            Ok(None) => return,
            Ok(Some(attached)) => Ok(attached),
            Err(fault) => Err(fault),
        };
        let Some(asking) = self.take_asking(key) else { return };
        self.try_join(now, key, *asking, |server, asking| server.ask_game(now, key, asking, decided?));
    }

    /// A hook has made no decision in time.
    pub(super) fn give_up_decision(&mut self, now: Instant, key: ConnectionKey) {
        let Some(asking) = self.take_asking(key) else { return };
        let fault = self.hooks.give_up();
        self.refuse_join(now, key, &asking.reply_to, Some(&asking.room), &asking.name, &fault);
    }

    fn take_asking(&mut self, key: ConnectionKey) -> Option<Box<Asking>> {
        let stage = &mut self.connections.get_mut(key)?.stage;
        match std::mem::replace(stage, Stage::Gone) {
            Stage::Asking(asking) => Some(asking),
            other => {
                *stage = other;
                None
            }
        }
    }

    /// Passes a request to the game of its room, which is created if it does not exist.
    fn ask_game(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        asking: Asking,
        attached: serde_json::Value,
    ) -> Result<(), Fault> {
        let Asking { room: name, identity, name: shown, data, offer, device, reply_to, former } = asking;
        let room = match self.by_name.get(&name) {
            Some(&room) => room,
            None => self.make_room(now, name, &data)?,
        };
        let Some(hosted) = self.rooms.get_mut(room) else { return Ok(()) };
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let player = hosted.room.next_player();
        let user_id = identity.as_ref().map(|identity| identity.subject.clone());
        let mut join = Join::new(&shown);
        join.data = data;
        join.identity = identity;
        join.attached = attached.clone();
        hosted.handle_input(room::Input::Join { player, join });
        hosted.members.insert(player, Member::Joining(key));
        hosted.empty_since = None;
        let joining = Joining { room, player, user_id, name: shown, attached, offer, device, reply_to, former };
        connection.stage = Stage::Joining(Box::new(joining));
        Ok(())
    }

    /// Refuses the request if the connection has joined or is joining.
    pub(super) fn expect_arrived(&self, key: ConnectionKey) -> Result<(), Fault> {
        match self.connections.get(key).map(|connection| &connection.stage) {
            Some(Stage::Arrived) => Ok(()),
            _ => Err(Fault::new(ErrorCode::BadRequest, "This connection has already sent join or seek.")),
        }
    }

    fn room_of_request(&self, key: ConnectionKey, asked: Option<&str>) -> Result<RoomName, Fault> {
        let bad_room =
            || Fault::new(ErrorCode::BadRoom, "A room's name has 1 to 64 letters, digits, hyphens or underscores.");
        let asked = asked.map(|name| RoomName::parse(name).ok_or_else(bad_room)).transpose()?;
        let of_url = self.connections.get(key).and_then(|connection| connection.connect.room.clone());
        match (of_url, asked) {
            (Some(of_url), Some(asked)) if of_url != asked => {
                Err(Fault::new(ErrorCode::BadRoom, "The room in the request differs from that of the URL."))
            }
            (Some(name), _) | (None, Some(name)) => Ok(name),
            (None, None) => {
                Err(Fault::new(ErrorCode::BadRoom, "The request names no room: set roomId, or connect to /r/NAME."))
            }
        }
    }

    /// The game has admitted a player.
    pub(super) fn handle_joined(&mut self, now: Instant, room: RoomKey, player: PlayerId, welcome: Encoded) {
        let Some(hosted) = self.rooms.get_mut(room) else { return };
        let Some(&Member::Joining(carrier)) = hosted.members.get(&player) else { return };
        let Some(joining) = self.take_joining(carrier) else { return };
        let Joining { user_id, name, attached, offer, device, reply_to, former, .. } = *joining;
        let former = former.map(|former| former.socket_id);
        if let Some(&restored) = former.as_ref().and_then(|former| self.by_socket_id.get(former))
            && self.sessions.get(restored).is_some_and(Session::is_yet_to_return)
        {
            self.end_session(now, restored, Leave::Replaced, "");
        }
        let former = former.filter(|former| !self.by_socket_id.contains_key(former));
        let new_id = format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64());
        let socket_id = former.unwrap_or(new_id);
        let info = SessionInfo { player: player.0, socket_id: socket_id.clone(), user_id, name };
        let (tokens, resume) = Tokens::generate(&mut self.rng);
        let Some(connection) = self.connections.get(carrier) else { return };
        let (remote, codes) = (connection.connect.remote, connection.codes);
        let session = Session::new(now, (room, player), remote, info.clone(), welcome, tokens);
        let session = self.sessions.insert(Session { device, codes, attached, connection: Some(carrier), ..session });
        self.counters.joined += 1;
        self.save_session(now, session);
        self.by_socket_id.insert(socket_id, session);
        self.endpoint.note_player(remote.ip());
        if let Some(hosted) = self.rooms.get_mut(room) {
            hosted.members.insert(player, Member::Playing(session));
        }
        self.attach(now, session, carrier);
        let is_call = self.connections.get(carrier).is_some_and(|connection| connection.call.is_some());
        if !is_call {
            self.tell_joined(now, session, &reply_to, &resume, offer.as_ref(), None);
        }
        let name = self.rooms.get(room).map(|hosted| hosted.name.as_str());
        self.player_log.note_joined(now, Who { remote, room: name, player: Some(player), name: Some(&info.name) });
        self.tell_presence(now, room, &info, None);
        self.note_join(session);
        self.tell_hooks(session, "joined", |hooks, visitor| hooks.joined(visitor));
        if is_call {
            self.answer_call(now, carrier, session, &reply_to, &resume);
        }
    }

    /// The game, or the room, has refused a player.
    pub(super) fn handle_refused(&mut self, now: Instant, room: RoomKey, player: PlayerId, fault: &Fault) {
        let Some(hosted) = self.rooms.get_mut(room) else { return };
        let Some(Member::Joining(carrier)) = hosted.members.remove(&player) else { return };
        let name = hosted.name.clone();
        if let Some(joining) = self.take_joining(carrier) {
            self.log_refused(now, carrier, Some(&name), Some(&joining.name), fault);
            self.refuse(carrier, &joining.reply_to, fault);
        }
        self.close_connection(now, carrier, CLOSE_REFUSED, fault.code.as_str());
    }

    pub(super) fn take_joining(&mut self, carrier: ConnectionKey) -> Option<Box<Joining>> {
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
        offer: Option<&Description>,
        returns: Option<Return>,
    ) {
        let (sdp, sdp_error) = match offer.map(|offer| self.answer(now, key, offer)) {
            None => (None, None),
            Some(Ok(sdp)) => (Some(sdp), None),
            Some(Err(fault)) => (None, Some(fault)),
        };
        let Some(Session { room, player, info, codes, welcome, frames, connection, .. }) = self.sessions.get(key)
        else {
            return;
        };
        let (Some(carrier), Some(hosted)) = (*connection, self.rooms.get(*room)) else { return };
        let local = self.connections.get(carrier).map(|connection| connection.connect.local);
        let ice_servers = local.into_iter().flat_map(|local| candidates(&self.config, local)).map(IceServer::stun);
        let sessions = self.known(*room, *player);
        let reply = JoinReply {
            socket_id: &info.socket_id,
            player: player.0,
            room_size: if hosted.cast.is_some() { sessions.len() } else { hosted.room.players().len() },
            sessions,
            user_media_configuration: self.user_media(*room, *player),
            tick: hosted.last_tick,
            tick_ms: self.config.tick.as_secs_f64() * 1000.0,
            input_seq: frames.next_input(),
            resume,
            returns,
            ice_servers: ice_servers.collect(),
            welcome: welcome.as_raw(),
            sdp,
            sdp_error: sdp_error.map(|fault| fault.shown(*codes)),
            media: self.config.media.name(),
        };
        let (room, player) = (*room, *player);
        let told_media = reply.user_media_configuration;
        let text = signaling::granted(reply_to, &reply);
        if let Some(session) = self.sessions.get_mut(key) {
            session.told_media = told_media;
        }
        self.push_text(carrier, text.into());
        self.tell_users(now, room, player, carrier);
    }
}
