//! Voice and video: how offers of media are answered, and who is forwarded to whom.

use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::channel::candidates;
use super::{ConnectionKey, RoomKey, Server, Session, SessionKey};
use crate::endpoint::PeerKey;
use crate::game::{Game, PlayerId, UserMedia};
use crate::limits;
use crate::media::{Event, Forwarded, Media, MediaPeer, Packet, Rates, VideoPacket, is_media};
use crate::peer::{Closed, Outbox};
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::signaling::{self, Description, FREEZE, Fault, Relayed};

/// An open media connection of a room's player.
#[derive(Clone, Copy)]
pub(super) struct Listener {
    player: PlayerId,
    peer: PeerKey,
    /// The only player whom it listens to.
    only: Option<PlayerId>,
}

impl<G: Game> Server<G> {
    /// Answers an offer of media. An offer of another connection replaces the former one. With `only`, the client gets
    /// the media of that player alone.
    pub(super) fn answer_media(
        &mut self,
        now: Instant,
        key: SessionKey,
        only: Option<PlayerId>,
        offer: &Description,
    ) -> Result<Value, Fault> {
        if self.config.media == Media::Off {
            let sentence = "The server forwards no voices: start it with --media.";
            return Err(Fault::new(ErrorCode::BadSdp, sentence));
        }
        let session = self.sessions.get(key);
        let Some((session, carrier)) = session.and_then(|session| {
            let carrier = self.connections.get(session.connection?)?;
            Some((session, carrier))
        }) else {
            return Err(Fault::new(ErrorCode::BadRequest, "Send join first."));
        };
        let former = session.media.get(&only).copied();
        if former.is_none() && session.media.len() == limits::MEDIA_CONNECTIONS {
            let sentence = "You have 8 media connections: receive several players on one.";
            return Err(Fault::new(ErrorCode::BadSdp, sentence));
        }
        let candidates = candidates(&self.config, carrier.connect.local);
        let (peer, sdp) = self
            .endpoint
            .answer_media(now, former, self.config.media, offer.offer()?, &candidates)
            .map_err(|error| Fault::new(ErrorCode::BadSdp, error.to_string()))?;
        if former == Some(peer) {
            if self.endpoint.with_media(peer, |peer, _| peer.has_camera()) == Some(false) {
                self.unslot_everywhere(key, MediaPeer::release_video);
            }
            self.tell_slots(peer);
        } else {
            self.close_media(now, key, only);
            self.by_media.insert(peer, key);
            if let Some(session) = self.sessions.get_mut(key) {
                session.media.insert(only, peer);
            }
        }
        Ok(offer.answer(sdp))
    }

    /// Answers an offer to a player who publishes, in that player's name. `None` if the offer is to be relayed.
    pub(super) fn answer_for_publisher(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        to: &str,
        sdp: &Value,
    ) -> Option<Result<(), Fault>> {
        if self.config.media == Media::Off {
            return None;
        }
        let listener = self.session_of(key).ok()?;
        let publisher = self.publisher(listener, to)?;
        let offer = Description::of(sdp).filter(|offer| offer.offer().is_ok_and(is_media))?;
        let player = self.sessions.get(publisher)?.player;
        Some(self.answer_media(now, listener, Some(player), &offer).map(|sdp| {
            #[derive(Serialize)]
            struct Answer {
                sdp: Value,
            }
            if let Some(publisher) = self.sessions.get(publisher) {
                let answer = signaling::event("eventExchangeSdp", &Relayed::new(&publisher.info, Answer { sdp }));
                self.push_text(key, answer.into());
            }
        }))
    }

    /// Returns whether a player listens to another on a connection of its own.
    pub(super) fn listens_to(&self, listener: SessionKey, to: &str) -> bool {
        let publisher = self.by_socket_id.get(to).and_then(|&publisher| self.sessions.get(publisher));
        let listener = self.sessions.get(listener);
        publisher.zip(listener).is_some_and(|(publisher, listener)| {
            publisher.room == listener.room && listener.media.contains_key(&Some(publisher.player))
        })
    }

    /// The session of another player in the room who has a media connection.
    fn publisher(&self, listener: SessionKey, to: &str) -> Option<SessionKey> {
        let publisher = self.by_socket_id.get(to).copied().filter(|&publisher| publisher != listener)?;
        let (from, of) = (self.sessions.get(listener)?, self.sessions.get(publisher)?);
        (from.room == of.room && of.media.contains_key(&None)).then_some(publisher)
    }

    pub(super) fn handle_media_event(&mut self, now: Instant, peer: PeerKey, event: Event) {
        let Some(&key) = self.by_media.get(&peer) else { return };
        let Some(session) = self.sessions.get(key) else { return };
        let Some(only) = session.media.iter().find_map(|(&only, &of)| (of == peer).then_some(only)) else { return };
        let Session { room, player, connection: carrier, codes, is_call, .. } = *session;
        match event {
            Event::Open => {
                if let Some(hosted) = self.rooms.get_mut(room) {
                    hosted.listeners.push(Listener { player, peer, only });
                }
                if let Some(carrier) = carrier.filter(|_| only.is_none()) {
                    let allowed = self.user_media(room, player);
                    self.push_text(carrier, signaling::event("eventUserMediaConfiguration", &allowed).into());
                }
                self.tell_slots(peer);
            }
            Event::Closed(why) => {
                self.close_media(now, key, only);
                if is_call {
                    self.end_session(now, key, Leave::Closed, "");
                } else if let Some(carrier) = carrier {
                    self.push_text(
                        carrier,
                        signaling::event("eventMediaClosed", &media_fault(why).shown(codes)).into(),
                    );
                }
            }
            Event::KeyframeWanted(of, layer) => {
                let publisher = self.playing(room).find(|&(player, _)| player == of);
                let session = publisher.and_then(|(_, session)| self.sessions.get(session));
                if let Some(&peer) = session.and_then(|session| session.media.get(&None)) {
                    self.endpoint.with_media(peer, |peer, outbox| peer.request_keyframe(now, layer, outbox));
                }
            }
            // A connection for listening brings nothing.
            Event::Audio(_) | Event::Video(..) | Event::Stalled if only.is_some() => {}
            Event::Audio(packet) => self.forward_audio(now, room, player, peer, &packet),
            Event::Video(packet, rates) => self.forward_video(now, room, player, peer, &packet, &rates),
            Event::Stalled => self.tell_freeze(key),
        }
    }

    /// Closes the media connections of a session.
    pub(super) fn close_all_media(&mut self, now: Instant, key: SessionKey) {
        let media = self.sessions.get(key).map(|session| session.media.keys().copied().collect::<Vec<_>>());
        for only in media.unwrap_or_default() {
            self.close_media(now, key, only);
        }
    }

    /// Closes a media connection of a session, if there is one.
    fn close_media(&mut self, now: Instant, key: SessionKey, only: Option<PlayerId>) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(peer) = session.media.remove(&only) else { return };
        self.by_media.remove(&peer);
        self.endpoint.close(now, peer);
        if let Some(hosted) = self.rooms.get_mut(session.room) {
            hosted.listeners.retain(|listener| listener.peer != peer);
        }
        if only.is_none() {
            self.unslot_everywhere(key, |peer, player| {
                let (audio, video) = (peer.release_audio(player), peer.release_video(player));
                audio || video
            });
        }
    }

    /// What a player of a room may publish.
    pub(super) fn user_media(&self, room: RoomKey, player: PlayerId) -> UserMedia {
        let allowed = self.rooms.get(room).map(|hosted| hosted.room.user_media(player)).unwrap_or_default();
        let media = self.config.media;
        UserMedia { audio: allowed.audio && media != Media::Off, video: allowed.video && media == Media::Video }
    }

    /// Tells the players of a room what they may publish, where that has changed.
    pub(super) fn tell_user_media(&mut self, room: RoomKey) {
        if self.config.media == Media::Off {
            return;
        }
        let playing = self.take_playing(room);
        for &(player, key) in &playing {
            let allowed = self.user_media(room, player);
            let Some(session) = self.sessions.get_mut(key).filter(|session| session.told_media != allowed) else {
                continue;
            };
            session.told_media = allowed;
            if let Some(carrier) = session.connection {
                self.push_text(carrier, signaling::event("eventUserMediaConfiguration", &allowed).into());
            }
            self.unslot_everywhere(key, |peer, player| {
                let audio = !allowed.audio && peer.release_audio(player);
                let video = !allowed.video && peer.release_video(player);
                audio || video
            });
        }
        self.playing = playing;
    }

    fn forward_audio(&mut self, now: Instant, room: RoomKey, from: PlayerId, peer: PeerKey, packet: &Packet) {
        let is_allowed = self.user_media(room, from).audio;
        let heard = self.endpoint.with_media(peer, |peer, _| peer.hear(now, packet, is_allowed)).flatten();
        let Some(loudness) = heard else { return };
        self.forward(
            room,
            from,
            |peer, outbox| peer.forward_audio(now, from, loudness, packet, outbox),
            MediaPeer::release_audio,
        );
    }

    fn forward_video(
        &mut self,
        now: Instant,
        room: RoomKey,
        from: PlayerId,
        peer: PeerKey,
        packet: &VideoPacket,
        rates: &Rates,
    ) {
        if !self.user_media(room, from).video {
            self.endpoint.with_media(peer, |peer, _| peer.drop_packet());
            return;
        }
        let needs_keyframe = self.forward(
            room,
            from,
            |peer, outbox| peer.forward_video(now, from, rates, packet, outbox),
            MediaPeer::release_video,
        );
        if needs_keyframe {
            self.endpoint.with_media(peer, |peer, outbox| peer.request_keyframe(now, packet.layer, outbox));
        }
    }

    /// Passes a packet on to everybody who may get it. Returns whether somebody needs a keyframe.
    fn forward(
        &mut self,
        room: RoomKey,
        from: PlayerId,
        forward: impl Fn(&mut MediaPeer, &mut Outbox) -> Forwarded,
        release: impl Fn(&mut MediaPeer, PlayerId) -> bool,
    ) -> bool {
        let Some(hosted) = self.rooms.get_mut(room) else { return false };
        let listeners = std::mem::take(&mut hosted.listeners);
        let mut needs_keyframe = false;
        let mut changed = Vec::new();
        for listener in &listeners {
            let is_for = listener.player != from && listener.only.is_none_or(|only| only == from);
            let hears = is_for && self.rooms.get(room).is_some_and(|hosted| hosted.room.hears(listener.player, from));
            let has_changed = if hears {
                let forwarded = self.endpoint.with_media(listener.peer, &forward).unwrap_or_default();
                needs_keyframe |= forwarded.needs_keyframe;
                forwarded.is_new
            } else {
                is_for && self.endpoint.with_media(listener.peer, |peer, _| release(peer, from)) == Some(true)
            };
            if has_changed {
                changed.push(listener.peer);
            }
        }
        if let Some(hosted) = self.rooms.get_mut(room) {
            hosted.listeners = listeners;
        }
        for peer in changed {
            self.tell_slots(peer);
        }
        needs_keyframe
    }

    /// Takes a player out of the slots of everybody in the room.
    fn unslot_everywhere(&mut self, key: SessionKey, release: impl Fn(&mut MediaPeer, PlayerId) -> bool) {
        let Some(session) = self.sessions.get(key) else { return };
        let player = session.player;
        let Some(hosted) = self.rooms.get(session.room) else { return };
        for listener in hosted.listeners.clone() {
            if self.endpoint.with_media(listener.peer, |peer, _| release(peer, player)) == Some(true) {
                self.tell_slots(listener.peer);
            }
        }
    }

    /// Tells those who watch a player that the video has stopped.
    fn tell_freeze(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get(key) else { return };
        let (room, player) = (session.room, session.player);
        let text: Rc<str> = signaling::event(FREEZE, &Relayed::new(&session.info, serde_json::Map::new())).into();
        let listeners = self.rooms.get(room).map(|hosted| hosted.listeners.clone()).unwrap_or_default();
        for listener in listeners {
            let watches = self.endpoint.with_media(listener.peer, |peer, _| peer.video_slots().contains(&Some(player)));
            let session = self.by_media.get(&listener.peer).and_then(|&key| self.sessions.get(key));
            if let Some(carrier) = session.and_then(|session| session.connection).filter(|_| watches == Some(true)) {
                self.push_relayed(carrier, &text);
            }
        }
    }

    /// Tells the client of a media connection who is in which slot.
    pub(super) fn tell_slots(&mut self, peer: PeerKey) {
        #[derive(Serialize)]
        struct Players {
            audio: Vec<Option<PlayerId>>,
            video: Vec<Option<PlayerId>>,
        }
        let Some(session) = self.by_media.get(&peer).and_then(|&key| self.sessions.get(key)) else { return };
        // Where there is but one publisher, that is known.
        let Some(carrier) = session.connection.filter(|_| session.media.get(&None) == Some(&peer)) else { return };
        let players =
            self.endpoint.with_media(peer, |peer, _| Players { audio: peer.audio_slots(), video: peer.video_slots() });
        if let Some(players) = players {
            self.push_text(carrier, signaling::event("eventMediaSlots", &players).into());
        }
    }
}

fn media_fault(why: Closed) -> Fault {
    let (code, sentence) = match why {
        Closed::NeverOpened => (ErrorCode::BadSdp, "The media connection did not open in time: UDP may be blocked."),
        Closed::Flood => (ErrorCode::RateLimited, "The media connection sent too many packets."),
        Closed::Lost => (ErrorCode::NoSuchSession, "The media connection was lost."),
        Closed::ByPeer => (ErrorCode::NoSuchSession, "The media connection was closed."),
        Closed::ReliableChannel | Closed::Failed => (ErrorCode::Internal, "The media connection failed."),
    };
    Fault::new(code, sentence)
}

#[cfg(test)]
mod tests;
