//! Voice: how offers of media are answered, and who is forwarded to whom.

use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::channel::candidates;
use super::{RoomKey, Server, SessionKey};
use crate::endpoint::PeerKey;
use crate::game::{Game, PlayerId};
use crate::media::{Event, Packet};
use crate::peer::Closed;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::{self, Description, Fault};

impl<G: Game> Server<G> {
    /// Answers an offer of media. An offer of another connection replaces the former one.
    pub(super) fn answer_media(&mut self, now: Instant, key: SessionKey, offer: &Description) -> Result<Value, Fault> {
        if !self.config.media {
            let sentence = "The server forwards no voices: start it with --media.";
            return Err(Fault::new(ErrorCode::BadSdp, sentence));
        }
        let session = self.sessions.get(key);
        let Some((former, carrier)) = session.and_then(|session| {
            let carrier = self.connections.get(session.connection?)?;
            Some((session.media, carrier))
        }) else {
            return Err(Fault::new(ErrorCode::BadRequest, "Send join first."));
        };
        let candidates = candidates(&self.config, carrier.connect.local);
        let (peer, sdp) = self
            .endpoint
            .answer_media(now, former, offer.offer()?, &candidates)
            .map_err(|error| Fault::new(ErrorCode::BadSdp, error.to_string()))?;
        if former == Some(peer) {
            self.tell_slots(key);
        } else {
            self.close_media(now, key);
            self.by_media.insert(peer, key);
            if let Some(session) = self.sessions.get_mut(key) {
                session.media = Some(peer);
            }
        }
        Ok(offer.answer(sdp))
    }

    pub(super) fn handle_media_event(&mut self, now: Instant, peer: PeerKey, event: Event) {
        let Some(&key) = self.by_media.get(&peer) else { return };
        let Some(session) = self.sessions.get(key) else { return };
        let (room, player, carrier, codes) = (session.room, session.player, session.connection, session.codes);
        match event {
            Event::Open => {
                if let Some(hosted) = self.rooms.get_mut(room) {
                    hosted.voices.insert(player, peer);
                }
                self.tell_slots(key);
            }
            Event::Packet(packet) => self.forward_voice(now, room, player, peer, &packet),
            Event::Closed(why) => {
                self.close_media(now, key);
                if let Some(carrier) = carrier {
                    self.push_text(
                        carrier,
                        signaling::event("eventMediaClosed", &media_fault(why).shown(codes)).into(),
                    );
                }
            }
        }
    }

    /// Closes the media connection of a session, if there is one.
    pub(super) fn close_media(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(peer) = session.media.take() else { return };
        let (room, player) = (session.room, session.player);
        self.by_media.remove(&peer);
        self.endpoint.close(now, peer);
        let Some(hosted) = self.rooms.get_mut(room) else { return };
        hosted.voices.remove(&player);
        for listener in hosted.voices.values().copied().collect::<Vec<_>>() {
            self.unslot(listener, player);
        }
    }

    fn forward_voice(&mut self, now: Instant, room: RoomKey, from: PlayerId, peer: PeerKey, packet: &Packet) {
        let Some(loudness) = self.endpoint.with_media(peer, |peer, _| peer.hear(now, packet)).flatten() else {
            return;
        };
        let Some(hosted) = self.rooms.get(room) else { return };
        let voices = hosted.voices.iter().filter(|&(&listener, _)| listener != from);
        let listeners: Vec<(PeerKey, bool)> =
            voices.map(|(&listener, &peer)| (peer, hosted.room.hears(listener, from))).collect();
        for (listener, hears) in listeners {
            if !hears {
                self.unslot(listener, from);
                continue;
            }
            let forward =
                self.endpoint.with_media(listener, |peer, outbox| peer.forward(now, from, loudness, packet, outbox));
            if forward == Some(true) {
                self.tell_slots_of(listener);
            }
        }
    }

    /// Takes a speaker out of the slots of a listener.
    fn unslot(&mut self, listener: PeerKey, speaker: PlayerId) {
        if self.endpoint.with_media(listener, |peer, _| peer.release(speaker)) == Some(true) {
            self.tell_slots_of(listener);
        }
    }

    fn tell_slots_of(&mut self, peer: PeerKey) {
        if let Some(&key) = self.by_media.get(&peer) {
            self.tell_slots(key);
        }
    }

    /// Tells a player who speaks in which slot, if the player has a media connection.
    pub(super) fn tell_slots(&mut self, key: SessionKey) {
        #[derive(Serialize)]
        struct Voice {
            slots: Vec<Option<PlayerId>>,
        }
        let Some(session) = self.sessions.get(key) else { return };
        let (Some(carrier), Some(peer)) = (session.connection, session.media) else { return };
        let Some(slots) = self.endpoint.with_media(peer, |peer, _| peer.slots()) else { return };
        self.push_text(carrier, signaling::event("eventVoice", &Voice { slots }).into());
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
