//! Frames: passes the frames of players to their room, and the output of a room to each of its players.

use std::time::Instant;

use super::connection::Waiting;
use super::rooms::Member;
use super::session::Session;
use super::{ConnectionKey, RoomKey, Server, SessionKey};
use crate::endpoint::PeerKey;
use crate::game::{Game, Link, Target};
use crate::peer::{Path, Sent};
use crate::player::{Arrived, Body, NotTaken};
use crate::room;
use crate::wire::Deflater;
use crate::wire::codes::Leave;
use crate::wire::frame::{self, Kind, Transport};
use crate::wire::msgpack;

/// Whether to deflate bodies of one kind, judged by earlier bodies: trying without success costs time.
#[derive(Clone, Copy, Default)]
pub(super) struct Habit {
    left_out: u32,
    next: u32,
}

/// The statistics of a room, by the number of the kind.
pub(super) type Habits = [Habit; 16];

impl Habit {
    const LEFT_OUT_MAX: u32 = 31;

    /// Calls `deflate` if that has recently helped. Returns whether the body was deflated.
    pub(super) fn deflate(&mut self, deflate: impl FnOnce() -> bool) -> bool {
        if let Some(next) = self.next.checked_sub(1) {
            self.next = next;
            return false;
        }
        let deflated = deflate();
        self.left_out = if deflated { 0 } else { (self.left_out * 2 + 1).min(Habit::LEFT_OUT_MAX) };
        self.next = self.left_out;
        deflated
    }
}

/// What carries the frames of a player.
#[derive(Clone, Copy)]
pub(super) enum Route {
    Channel(PeerKey),
    WebSocket(ConnectionKey),
}

impl<G: Game> Server<G> {
    /// Handles a frame of a player that `arrived` before `now`.
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        arrived: Instant,
        key: SessionKey,
        bytes: &[u8],
        transport: Transport,
    ) {
        let (clock_ms, arrived_ms) = (self.clock_ms(now), self.clock_ms(arrived));
        let Some(Session { room, player, frames, states, traffic, .. }) = self.sessions.get_mut(key) else { return };
        let Some(hosted) = self.rooms.get_mut(*room) else { return };
        // What is not acknowledged is sent again, to the node that has the room then.
        if hosted.prospects.is_moving {
            return;
        }
        let player = *player;
        traffic.note_received(bytes.len());
        match transport {
            Transport::DataChannel => self.counters.over_channels.note_received(bytes.len()),
            Transport::WebSocket => self.counters.over_websockets.note_received(bytes.len()),
        }
        let mut pong = None;
        let handled = frames.handle_frame(now, arrived_ms, bytes, transport, &mut self.inflater, |arrived| {
            let room_input = match arrived {
                Arrived::Input { number, seen, value } => {
                    let mut buffer = hosted.room.take_buffer();
                    buffer.extend_from_slice(value);
                    room::Input::Input { player, number, seen, value: buffer }
                }
                Arrived::Command(value) => room::Input::Command { player, value: value.to_vec() },
                Arrived::Ticks { first, last } => room::Input::Ticks { player, first, last },
                Arrived::Ping { clock_ms: pinged, padding } => {
                    // As if it had been sent later by as much as it was held: so the round trip has no wait in it.
                    let pinged = pinged + (clock_ms - arrived_ms);
                    pong = Some(msgpack::encode_pong(pinged, clock_ms, hosted.last_tick, padding));
                    return;
                }
            };
            hosted.handle_input(room_input);
        });
        if let Some(ack) = frames.acknowledged_states() {
            states.acknowledge(ack, &hosted.states);
        }
        if let Some(pong) = pong {
            self.answer_ping(now, key, transport, &Body::plain(Kind::Pong, pong));
        }
        match handled {
            Ok(()) => self.acknowledge(key, false),
            Err(NotTaken::Bad(error)) => {
                self.counters.bad_frames += 1;
                self.end_session(now, key, Leave::BadFrame, &format!("A frame can't be decoded: {error}."));
            }
            Err(NotTaken::TooMany) => self.counters.excess_frames += 1,
            Err(NotTaken::Flood) => self.end_session(now, key, Leave::Flood, "You sent too many frames."),
        }
    }

    pub(super) fn clock_ms(&self, now: Instant) -> f64 {
        (now - self.started).as_secs_f64() * 1000.0
    }

    /// Measures the link of each player of a room once a second, and passes it to the game.
    pub(super) fn measure_links(&mut self, now: Instant, room: RoomKey) {
        let clock_ms = self.clock_ms(now);
        let playing = self.take_playing(room);
        for &(player, key) in &playing {
            let Some(session) = self.sessions.get_mut(key) else { continue };
            if session.frames.poll_ping(now) {
                let path = session.peer.and_then(|peer| self.endpoint.measure_path(peer));
                let link = path.map_or_else(|| session.frames.link(), link_of);
                session.link = link;
                if let Some(hosted) = self.rooms.get_mut(room) {
                    hosted.handle_input(room::Input::Link { player, link });
                }
                let body = msgpack::encode_clock(clock_ms);
                self.send_unreliable(now, key, &Body::plain(Kind::Ping, body));
            }
        }
        self.playing = playing;
    }

    /// A body is encoded and deflated once and shared by all players; only the header differs. A body for one player is
    /// not deflated: for many players that would take too much of the tick.
    pub(super) fn fan_out(&mut self, now: Instant, room: RoomKey, to: Target, kind: Kind, body: Vec<u8>) {
        if kind == Kind::State {
            return self.send_state(now, room, to, body);
        }
        let Some(hosted) = self.rooms.get_mut(room) else { return };
        if let Target::One(player) = to {
            if let Some(&Member::Playing(key)) = hosted.members.get(&player) {
                self.send_body(now, key, &Body::plain(kind, body));
            }
            return;
        }
        let habit = &mut hosted.deflating[kind as usize];
        // A body that is too small to deflate says nothing about larger ones.
        let deflated =
            Deflater::is_worth_trying(body.len()) && habit.deflate(|| self.deflater.deflate(&body, &mut self.deflated));
        let shared = if deflated { self.bodies.make(kind, true, &self.deflated) } else { Body::plain(kind, body) };
        let playing = self.take_playing(room);
        for &(_, key) in playing.iter().filter(|&&(player, _)| to.includes(player)) {
            self.send_body(now, key, &shared);
        }
        self.playing = playing;
    }

    fn send_body(&mut self, now: Instant, key: SessionKey, body: &Body) {
        if body.kind.is_reliable() {
            self.send_reliable(key, body);
        } else {
            self.send_unreliable(now, key, body);
        }
    }

    fn send_unreliable(&mut self, now: Instant, key: SessionKey, body: &Body) {
        if let Some(route) = self.route(now, key, body.kind) {
            self.send_by(now, key, route, body);
        }
    }

    /// The data channel if it is usable, otherwise the websocket. `None` without either, and for what a congested path
    /// is not to get.
    pub(super) fn route(&mut self, now: Instant, key: SessionKey, kind: Kind) -> Option<Route> {
        self.doubt_channel(now, key);
        let session = self.sessions.get(key)?;
        let Some(peer) = self.channel(now, session) else { return session.connection.map(Route::WebSocket) };
        let tick = self.rooms.get(session.room)?.last_tick;
        let is_state = matches!(kind, Kind::State | Kind::Tick);
        let is_of_tick = is_state || kind == Kind::Event;
        if is_of_tick && !self.endpoint.takes_tick(now, peer, tick, is_state) {
            self.counters.held_back += 1;
            return None;
        }
        Some(Route::Channel(peer))
    }

    pub(super) fn send_by(&mut self, now: Instant, key: SessionKey, route: Route, body: &Body) {
        match route {
            Route::Channel(peer) => self.send_over_channel(now, key, peer, body),
            Route::WebSocket(carrier) => self.push_unreliable(carrier, body),
        }
    }

    /// Answers a ping on the transport on which it arrived. A client pings over the websocket while its channel is open
    /// only if it receives nothing over the channel.
    fn answer_ping(&mut self, now: Instant, key: SessionKey, transport: Transport, pong: &Body) {
        let peer = self.sessions.get(key).and_then(|session| session.peer);
        match (peer.filter(|&peer| self.endpoint.is_open(peer)), transport) {
            (Some(peer), Transport::DataChannel) => return self.send_over_channel(now, key, peer, pong),
            (Some(peer), Transport::WebSocket) => self.endpoint.doubt(now, peer),
            (None, _) => {}
        }
        if let Some(carrier) = self.sessions.get(key).and_then(|session| session.connection) {
            self.push_unreliable(carrier, pong);
        }
    }

    fn send_over_channel(&mut self, now: Instant, key: SessionKey, peer: PeerKey, body: &Body) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(hosted) = self.rooms.get(session.room) else { return };
        let (bytes, parts) = frame::size(&body.bytes);
        if !self.endpoint.reserve(now, peer, bytes, parts) {
            self.counters.dropped_frames += 1;
            return;
        }
        let consumed = hosted.room.consumed(session.player);
        let endpoint = &mut self.endpoint;
        let mut is_whole = true;
        session.frames.write_unreliable(body.kind, body.deflated, &body.bytes, consumed, &mut self.frame, |part| {
            is_whole &= endpoint.send_reserved(now, peer, part) == Sent::Sent;
        });
        if is_whole {
            session.traffic.note_sent(parts, bytes);
            self.counters.over_channels.note_sent(parts, bytes);
        } else {
            self.counters.dropped_frames += 1;
        }
    }

    fn send_reliable(&mut self, key: SessionKey, body: &Body) {
        let Some(Session { room, frames, connection, is_call: false, .. }) = self.sessions.get_mut(key) else { return };
        let Some(hosted) = self.rooms.get(*room) else { return };
        let frame = frames.number_reliable(body.clone(), hosted.last_tick);
        if let Some(carrier) = *connection {
            self.push(carrier, Waiting::Frame(frame));
            self.acknowledge(key, false);
        }
    }

    /// Sends a player an ack of their reliable frames, and requests one in return.
    pub(super) fn acknowledge(&mut self, key: SessionKey, is_due: bool) {
        let Some(Session { room, frames, connection, .. }) = self.sessions.get_mut(key) else { return };
        let (Some(carrier), Some(hosted)) = (*connection, self.rooms.get(*room)) else { return };
        if is_due || frames.needs_ack() {
            let frame = frames.write_ack(hosted.last_tick);
            self.push(carrier, Waiting::Bytes(frame));
        }
    }
}

fn link_of(path: Path) -> Link {
    Link {
        rtt_us: path.rtt_us,
        jitter_us: path.jitter_us,
        loss_down_permille: path.sent_loss_permille,
        loss_up_permille: path.received_loss_permille,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_deflates_is_tried_seldom_and_what_does_every_time() {
        let tries = |habit: &mut Habit, bodies: u32, shrinks: bool| {
            let mut tries = 0;
            for _ in 0..bodies {
                habit.deflate(|| {
                    tries += 1;
                    shrinks
                });
            }
            tries
        };
        let mut habit = Habit::default();
        assert_eq!(tries(&mut habit, 100, true), 100);
        assert_eq!(tries(&mut habit, 200, false), 10);
        assert!(tries(&mut habit, 100, true) >= 100 - Habit::LEFT_OUT_MAX);
        assert_eq!(tries(&mut habit, 100, true), 100);
    }
}
