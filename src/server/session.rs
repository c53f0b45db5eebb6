//! Players: how they come in and go, their data channels, and their frames.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::Rng;
use serde::Serialize;

use super::connection::{SharedBody, Stage, announce};
use super::hosting::Member;
use super::resume::Tokens;
use super::{Server, Signal, Timer};
use crate::endpoint::PeerKey;
use crate::game::{Game, Join, Link, PlayerId};
use crate::hooks::{Arrival, Hooks, Visitor};
use crate::limits;
use crate::peer::{self, Closed, Sent};
use crate::player::{Arrived, Frames, NotTaken};
use crate::rate::{Allowance, network};
use crate::room;
use crate::wire::codes::{CLOSE_REFUSED, ErrorCode, Leave};
use crate::wire::frame::{self, Kind, Transport};
use crate::wire::msgpack;
use crate::wire::signaling::{self, Fault, JoinReply, JoinRequest, ReplyTo, Return, RoomName, SessionInfo};

/// A player's stay in a room.
pub(super) struct Session {
    pub(super) room: usize,
    pub(super) player: PlayerId,
    pub(super) info: SessionInfo,
    /// By the hooks.
    pub(super) attached: serde_json::Value,
    pub(super) frames: Frames,
    /// Nothing, while it was lost and the player may come back.
    pub(super) connection: Option<usize>,
    pub(super) welcome: serde_json::Value,
    pub(super) tokens: Tokens,
    /// Until when they may, and with what reason they are gone then.
    pub(super) away: Option<(Instant, Leave)>,
    pub(super) peer: Option<PeerKey>,
    pub(super) link: Link,
    /// For what goes to other players.
    pub(super) relayed: Allowance,
}

impl<G: Game> Server<G> {
    pub(super) fn handle_join(&mut self, now: Instant, index: usize, reply_to: ReplyTo, join: JoinRequest) {
        match self.ask_room(now, index, &reply_to, join) {
            Ok(()) => {}
            Err(fault) => {
                self.count_refused_join(fault.code);
                self.refuse(index, &reply_to, &fault);
                // Somebody who is in stays in; for others there is nothing to wait for.
                if !matches!(self.connections[index].stage, Stage::Joined(_) | Stage::Joining { .. }) {
                    self.close_connection(index, CLOSE_REFUSED, fault.code.as_str());
                }
            }
        }
    }

    pub(super) fn ask_room(
        &mut self,
        now: Instant,
        index: usize,
        reply_to: &ReplyTo,
        join: JoinRequest,
    ) -> Result<(), Fault> {
        if !matches!(self.connections[index].stage, Stage::Arrived) {
            return Err(Fault::new(ErrorCode::BadRequest, "This connection has asked to join already."));
        }
        self.admit_address(now, index, false)?;
        signaling::check_version(&join.version)?;
        let bad_room =
            || Fault::new(ErrorCode::BadRoom, "A room's name has 1 to 64 letters, digits, hyphens or underscores.");
        let asked = match &join.room_id {
            Some(name) => Some(RoomName::parse(name).ok_or_else(bad_room)?),
            None => None,
        };
        let name = match (self.connections[index].connect.room.clone(), asked) {
            (Some(of_url), Some(asked)) if of_url != asked => {
                return Err(Fault::new(ErrorCode::BadRoom, "The room in the request is not that of the URL."));
            }
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => return Err(Fault::new(ErrorCode::BadRoom, "The request names no room.")),
        };
        let identity = match &self.config.keys {
            Some(keys) => {
                let unix_time = self.config.unix_time + (now - self.started);
                Some(keys.verify(join.bearer.as_str(), name.as_str(), unix_time)?)
            }
            None => None,
        };
        self.admit(now)?;
        let user_id = identity.as_ref().map(|identity| identity.subject.clone());
        let shown = signaling::shown_name(join.name.as_deref());
        let connect = &mut self.connections[index].connect;
        let headers = std::mem::take(&mut connect.headers);
        let arrival = Arrival::new(connect.remote, &headers, name.as_str(), &shown, &join.data, identity.as_ref());
        let attached = self.hooks.accept(&arrival)?;
        let room = match self.by_name.get(&name) {
            Some(&room) => room,
            None => self.make_room(now, name, &join.data)?,
        };
        let hosted = &mut self.rooms[room];
        let player = hosted.room.next_player();
        let mut player_join = Join::new(&shown);
        player_join.data = join.data;
        player_join.identity = identity;
        player_join.attached = attached.clone();
        hosted.handle_input(room::Input::Join { player, join: player_join });
        hosted.members.insert(player, Member::Joining(index));
        hosted.empty_since = None;
        self.connections[index].stage = Stage::Joining {
            room,
            player,
            user_id,
            name: shown,
            attached,
            offer: join.sdp,
            reply_to: reply_to.clone(),
        };
        Ok(())
    }

    /// Ends what a connection has in the rooms; the connection stays.
    pub(super) fn leave_room(&mut self, now: Instant, index: usize, reason: Leave) {
        match std::mem::replace(&mut self.connections[index].stage, Stage::Gone) {
            Stage::Joining { room, player, .. } => {
                self.rooms[room].members.remove(&player);
                self.rooms[room].handle_input(room::Input::Leave { player, reason });
            }
            Stage::Joined(session) => self.remove_session(now, session, reason),
            Stage::Arrived | Stage::Gone => {}
        }
    }

    fn remove_session(&mut self, now: Instant, session: usize, reason: Leave) {
        self.tell_hooks(session, "left", |hooks, visitor| hooks.left(visitor, reason));
        let Session { room, player, info, peer, away, .. } = self.sessions.remove(session);
        self.by_socket_id.remove(&info.socket_id);
        if let Some((until, _)) = away {
            self.timers.remove(&(until, Timer::Session(session)));
        }
        if let Some(peer) = peer {
            self.by_peer.remove(&peer);
            self.endpoint.close(now, peer);
        }
        self.rooms[room].members.remove(&player);
        self.rooms[room].handle_input(room::Input::Leave { player, reason });
        // Where all go, nobody is left to be told of each.
        if !matches!(reason, Leave::RoomClosed | Leave::Shutdown) {
            self.tell_presence(room, &info, Some(reason));
        }
    }

    /// The connection no longer counts among those of its address that wait.
    pub(super) fn count_as_joined(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let network = network(connection.connect.remote.ip());
        if std::mem::take(&mut connection.is_unjoined)
            && let Some(here) = self.by_network.get_mut(&network)
        {
            here.unjoined -= 1;
        }
    }

    /// Ends a session, and closes the connection that carries it.
    pub(super) fn end_session(&mut self, now: Instant, session: usize, reason: Leave, sentence: &str) {
        match self.sessions[session].connection {
            Some(connection) => self.put_out(now, connection, reason, sentence),
            None => self.remove_session(now, session, reason),
        }
    }

    /// Ends a connection, whatever it is in.
    pub(super) fn put_out(&mut self, now: Instant, index: usize, reason: Leave, sentence: &str) {
        self.leave_room(now, index, reason);
        let text = if sentence.is_empty() { reason.as_str() } else { sentence };
        self.close_connection(index, reason.close_code(), text);
    }

    pub(super) fn handle_joined(&mut self, now: Instant, room: usize, player: PlayerId, welcome: serde_json::Value) {
        let Some(&Member::Joining(index)) = self.rooms[room].members.get(&player) else { return };
        let stage = std::mem::replace(&mut self.connections[index].stage, Stage::Gone);
        let Stage::Joining { user_id, name, attached, offer, reply_to, .. } = stage else { return };
        let socket_id = format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64());
        let info = SessionInfo { player: player.0, socket_id, user_id, name };
        let (tokens, resume) = Tokens::generate(&mut self.rng);
        let session = self.sessions.insert(Session {
            room,
            player,
            info: info.clone(),
            attached,
            frames: Frames::new(now),
            connection: Some(index),
            welcome,
            tokens,
            away: None,
            peer: None,
            link: Link::default(),
            relayed: Allowance::new(limits::RELAYED_PER_SECOND, now),
        });
        self.by_socket_id.insert(info.socket_id.clone(), session);
        self.rooms[room].members.insert(player, Member::Playing(session));
        self.attach(now, session, index);
        self.tell_joined(now, session, &reply_to, &resume, offer.as_deref(), None);
        self.tell_presence(room, &info, None);
        self.tell_hooks(session, "joined", |hooks, visitor| hooks.joined(visitor));
    }

    pub(super) fn tell_hooks(&mut self, session: usize, name: &str, tell: impl FnOnce(&mut dyn Hooks, &Visitor<'_>)) {
        let Session { room, player, info, attached, .. } = &self.sessions[session];
        let room = self.rooms[*room].name.as_str();
        let visitor = Visitor::new(room, *player, &info.name, info.user_id.as_deref(), attached);
        self.hooks.call(name, |hooks| tell(hooks, &visitor));
    }

    /// Replies to `join` and to `reconnect`.
    pub(super) fn tell_joined(
        &mut self,
        now: Instant,
        session: usize,
        reply_to: &ReplyTo,
        resume: &str,
        offer: Option<&str>,
        returns: Option<Return>,
    ) {
        let (sdp, sdp_error) = match offer.map(|offer| self.answer(now, session, offer)) {
            None => (None, None),
            Some(Ok(sdp)) => (Some(sdp), None),
            Some(Err(fault)) => (None, Some(fault)),
        };
        let Session { room, player, info, welcome, frames, connection, .. } = &self.sessions[session];
        let Some(index) = *connection else { return };
        let sessions = self.shown(*room);
        let players = self.rooms[*room].room.players().len();
        let reply = JoinReply {
            socket_id: &info.socket_id,
            player: player.0,
            room_size: if self.rooms[*room].cast.is_some() { sessions.len() } else { players },
            sessions,
            tick: self.rooms[*room].last_tick,
            tick_ms: self.config.tick.as_secs_f64() * 1000.0,
            input_seq: frames.next_input(),
            resume,
            returns,
            welcome,
            sdp,
            sdp_error,
        };
        let text = signaling::granted(reply_to, &reply);
        self.push(index, Signal::Text(text));
    }

    pub(super) fn handle_refused(&mut self, room: usize, player: PlayerId, fault: &Fault) {
        let Some(Member::Joining(index)) = self.rooms[room].members.remove(&player) else { return };
        let stage = std::mem::replace(&mut self.connections[index].stage, Stage::Gone);
        if let Stage::Joining { reply_to, .. } = stage {
            self.refuse(index, &reply_to, fault);
        }
        self.close_connection(index, CLOSE_REFUSED, fault.code.as_str());
    }

    pub(super) fn handle_exchange_sdp(
        &mut self,
        now: Instant,
        index: usize,
        reply_to: &ReplyTo,
        to: &str,
        offer: &str,
    ) {
        #[derive(Serialize)]
        struct Answer {
            sdp: String,
        }
        if to != "server" {
            self.relay_sdp(now, index, reply_to, to, offer);
            return;
        }
        match self.session_of(index).and_then(|session| self.answer(now, session, offer)) {
            Ok(sdp) => self.grant(index, reply_to, &Answer { sdp }),
            Err(fault) => self.refuse(index, reply_to, &fault),
        }
    }

    /// The session that a connection carries.
    pub(super) fn session_of(&self, index: usize) -> Result<usize, Fault> {
        match self.connections[index].stage {
            Stage::Joined(session) => Ok(session),
            _ => Err(Fault::new(ErrorCode::BadRequest, "Join first.")),
        }
    }

    /// Answers an offer of a player; a peer that they had is closed.
    fn answer(&mut self, now: Instant, session: usize, offer: &str) -> Result<String, Fault> {
        let Some(connection) = self.sessions[session].connection else {
            return Err(Fault::new(ErrorCode::BadRequest, "Join first."));
        };
        let local = self.connections[connection].connect.local;
        let (peer, sdp) = self
            .endpoint
            .answer(now, offer, self.candidates(local))
            .map_err(|error| Fault::new(ErrorCode::BadSdp, error.to_string()))?;
        if let Some(old) = self.sessions[session].peer.replace(peer) {
            self.by_peer.remove(&old);
            self.endpoint.close(now, old);
        }
        self.by_peer.insert(peer, session);
        Ok(sdp)
    }

    /// What a player whose websocket came in on `local` is told: public addresses where they are given, else that
    /// address, then the others.
    pub(crate) fn candidates(&self, local: IpAddr) -> Vec<SocketAddr> {
        let mut candidates = self.config.public.clone();
        if candidates.is_empty() {
            let local = local.to_canonical();
            let interfaces = &self.config.interfaces;
            let reaches_udp = |of: IpAddr| of == local || (of.is_loopback() && local.is_loopback());
            let has_udp = interfaces.is_empty() || interfaces.iter().any(|&interface| reaches_udp(interface));
            let first = std::iter::once(local).filter(|_| has_udp);
            // Who came by loopback may be a proxy on this machine, whose players are elsewhere; nobody who came from
            // elsewhere is on this machine.
            let rest = interfaces.iter().copied().filter(|ip| local.is_loopback() || !ip.is_loopback());
            for ip in first.chain(rest).filter(|ip| !ip.is_unspecified()) {
                let address = SocketAddr::new(ip, self.config.udp_port);
                if !candidates.contains(&address) {
                    candidates.push(address);
                }
            }
        }
        candidates.truncate(limits::CANDIDATES_ADVERTISED);
        candidates
    }

    pub(super) fn handle_peer_event(&mut self, now: Instant, peer: PeerKey, event: peer::Event) {
        let Some(&session) = self.by_peer.get(&peer) else { return };
        let connection = self.sessions[session].connection;
        match event {
            // What waits for the websocket would arrive after newer frames of the channel.
            peer::Event::Open => {
                if let Some(connection) = connection {
                    self.connections[connection].unreliable.clear();
                }
            }
            peer::Event::Data(frame) => self.handle_frame(now, session, &frame, Transport::DataChannel),
            peer::Event::Closed(why) => {
                self.by_peer.remove(&peer);
                self.sessions[session].peer = None;
                if let Some(connection) = connection {
                    let text = signaling::event("eventChannelClosed", &channel_fault(why));
                    self.push(connection, Signal::Text(text));
                }
                if why == Closed::Flood {
                    self.end_session(now, session, Leave::Flood, "Your data channel sent too many packets.");
                }
            }
        }
    }

    pub(super) fn handle_frame(&mut self, now: Instant, session: usize, bytes: &[u8], transport: Transport) {
        let clock_ms = self.clock_ms(now);
        let Session { room, player, frames, .. } = &mut self.sessions[session];
        let (room, player) = (*room, *player);
        let mut arrived = Vec::new();
        let handled = frames.handle_frame(now, clock_ms, bytes, transport, &mut self.inflater, &mut arrived);
        for arrived in arrived {
            let room_input = match arrived {
                Arrived::Input { number, value } => room::Input::Input { player, number, value },
                Arrived::Command(value) => room::Input::Command { player, value },
                Arrived::Ticks { first, last } => room::Input::Ticks { player, first, last },
                Arrived::Ping { clock_ms: pinged, padding } => {
                    let tick = self.rooms[room].last_tick;
                    let body = msgpack::encode_pong(pinged, clock_ms, tick, &padding);
                    self.answer_ping(now, session, transport, &SharedBody::plain(Kind::Pong, body));
                    continue;
                }
            };
            self.rooms[room].handle_input(room_input);
        }
        match handled {
            Ok(()) => self.acknowledge(session, false),
            Err(NotTaken::Bad(error)) => {
                self.counters.bad_frames += 1;
                self.end_session(now, session, Leave::BadFrame, &format!("A frame can't be read: {error}."));
            }
            Err(NotTaken::TooMany) => self.counters.excess_frames += 1,
            Err(NotTaken::Flood) => self.end_session(now, session, Leave::Flood, "You sent too many frames."),
        }
    }

    pub(super) fn clock_ms(&self, now: Instant) -> f64 {
        (now - self.started).as_secs_f64() * 1000.0
    }

    /// The data channel of a session, where it is open and better than the websocket: one that delivers nothing is
    /// passed by once the websocket was heard meanwhile. Where neither is, what waits in the websocket arrives late.
    pub(super) fn channel(&self, now: Instant, session: usize) -> Option<PeerKey> {
        let Session { peer, connection, .. } = self.sessions[session];
        let peer = peer.filter(|&peer| self.endpoint.is_open(peer))?;
        let is_passed_by = self.endpoint.silence(peer).is_some_and(|silence| {
            now >= silence.from
                && connection.is_some_and(|index| {
                    let websocket = self.connections[index].heard;
                    websocket >= silence.doubted_from && now < websocket + 2 * limits::HEARTBEAT_INTERVAL
                })
        });
        Some(peer).filter(|_| !is_passed_by)
    }

    /// Asks whether data channel and websocket are alive, where the channel may deliver nothing.
    fn doubt_channel(&mut self, now: Instant, session: usize) {
        let Session { peer: Some(peer), connection, .. } = self.sessions[session] else { return };
        let doubted = self.endpoint.silence(peer).filter(|silence| now >= silence.doubted_from);
        let Some(silence) = doubted else { return };
        self.endpoint.ask_where_silent(now, peer);
        let Some(index) = connection else { return };
        let websocket = &mut self.connections[index];
        if websocket.asked < silence.doubted_from && !websocket.closing {
            websocket.asked = now;
            self.push(index, Signal::Ping);
        }
    }

    /// Over the data channel, or else over the websocket.
    pub(super) fn send_unreliable(&mut self, now: Instant, session: usize, body: &SharedBody) {
        self.doubt_channel(now, session);
        match self.channel(now, session) {
            Some(peer) => self.send_over_channel(now, session, peer, body),
            None => self.send_over_websocket(session, body),
        }
    }

    /// Answers a ping the way it came. A client that pings over the websocket while its channel is open hears nothing
    /// over the channel.
    fn answer_ping(&mut self, now: Instant, session: usize, transport: Transport, pong: &SharedBody) {
        let peer = self.sessions[session].peer.filter(|&peer| self.endpoint.is_open(peer));
        match (peer, transport) {
            (Some(peer), Transport::DataChannel) => return self.send_over_channel(now, session, peer, pong),
            (Some(peer), Transport::WebSocket) => self.endpoint.doubt(now, peer),
            (None, _) => {}
        }
        self.send_over_websocket(session, pong);
    }

    fn send_over_channel(&mut self, now: Instant, session: usize, peer: PeerKey, body: &SharedBody) {
        let session = &mut self.sessions[session];
        let hosted = &self.rooms[session.room];
        let is_state = matches!(body.kind, Kind::State | Kind::Tick);
        let is_of_tick = is_state || body.kind == Kind::Event;
        if is_of_tick && !self.endpoint.takes_tick(now, peer, hosted.last_tick, is_state) {
            self.counters.held_back += 1;
            return;
        }
        let (bytes, parts) = frame::size(&body.bytes);
        if !self.endpoint.reserve(now, peer, bytes, parts) {
            self.counters.dropped_frames += 1;
            return;
        }
        let consumed = hosted.room.consumed(session.player);
        let endpoint = &mut self.endpoint;
        let mut is_whole = true;
        session.frames.write_unreliable(body.kind, body.deflated, &body.bytes, consumed, &mut self.frame, |part| {
            is_whole &= endpoint.send_reserved(now, peer, part) == Sent::Sent
        });
        self.counters.dropped_frames += u64::from(!is_whole);
    }

    /// There at most one state waits at a time.
    fn send_over_websocket(&mut self, session: usize, body: &SharedBody) {
        let index = self.sessions[session].connection;
        let Some(connection) = index.and_then(|index| self.connections.get_mut(index)) else { return };
        if connection.closing {
            return;
        }
        if body.kind == Kind::State {
            let before = connection.unreliable.len();
            connection.unreliable.retain(|waiting| waiting.kind != Kind::State);
            self.counters.dropped_frames += (before - connection.unreliable.len()) as u64;
        } else if connection.unreliable.len() >= limits::WEBSOCKET_FRAMES {
            connection.unreliable.pop_front();
            self.counters.dropped_frames += 1;
        }
        connection.unreliable.push_back(body.clone());
        announce(connection, &mut self.ready);
    }

    pub(super) fn send_reliable(&mut self, session: usize, body: &SharedBody) {
        let Session { room, frames, connection, .. } = &mut self.sessions[session];
        let tick = self.rooms[*room].last_tick;
        let frame = frames.write_reliable(body.kind, body.deflated, &body.bytes, tick);
        if let Some(connection) = *connection {
            self.push(connection, Signal::Binary(frame));
            self.acknowledge(session, false);
        }
    }

    /// Tells a player which of their reliable frames were received, and asks for the like.
    pub(super) fn acknowledge(&mut self, session: usize, is_due: bool) {
        let Session { room, frames, connection, .. } = &mut self.sessions[session];
        if let Some(connection) = *connection
            && (is_due || frames.needs_ack())
        {
            let frame = frames.write_ack(self.rooms[*room].last_tick);
            self.push(connection, Signal::Binary(frame));
        }
    }

    /// The frames of a body that goes over the websocket.
    pub(super) fn write_unreliable(&mut self, index: usize, body: &SharedBody) {
        let connection = &mut self.connections[index];
        let Stage::Joined(session) = connection.stage else { return };
        let session = &mut self.sessions[session];
        let consumed = self.rooms[session.room].room.consumed(session.player);
        let (outgoing, bytes) = (&mut connection.outgoing, &mut connection.outgoing_bytes);
        session.frames.write_unreliable(body.kind, body.deflated, &body.bytes, consumed, &mut self.frame, |frame| {
            *bytes += frame.len();
            outgoing.push_back(Signal::Binary(frame.to_vec()));
        });
    }
}

pub(super) fn channel_fault(why: Closed) -> Fault {
    let code = match why {
        Closed::ReliableChannel => ErrorCode::ChannelMustBeUnreliable,
        Closed::NeverOpened => ErrorCode::BadSdp,
        Closed::Lost | Closed::ByPeer => ErrorCode::NoSuchSession,
        Closed::Flood => ErrorCode::RateLimited,
        Closed::Failed => ErrorCode::Internal,
    };
    Fault::new(code, why.to_string())
}
