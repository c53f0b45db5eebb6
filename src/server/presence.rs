//! Presence: who is shown as being in a room, and how the others are told.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::rooms::Member;
use super::{RoomKey, Server, SessionKey};
use crate::game::{Game, PlayerId};
use crate::wire::codes::Leave;
use crate::wire::signaling::{self, Presence, RoomUsers, SessionInfo};

impl<G: Game> Server<G> {
    /// The players of a room, and their sessions.
    pub(super) fn playing(&self, room: RoomKey) -> Vec<(PlayerId, SessionKey)> {
        let members = self.rooms.get(room).into_iter().flat_map(|hosted| &hosted.members);
        let playing = members.filter_map(|(&player, &member)| match member {
            Member::Playing(session) => Some((player, session)),
            Member::Joining(_) => None,
        });
        playing.collect()
    }

    /// Who is shown as being in the room: its cast, or else who has joined.
    pub(super) fn shown(&self, room: RoomKey) -> Vec<&SessionInfo> {
        if let Some(cast) = self.rooms.get(room).and_then(|hosted| hosted.cast.as_ref()) {
            return cast.values().collect();
        }
        self.playing(room).into_iter().filter_map(|(_, key)| Some(&self.sessions.get(key)?.info)).collect()
    }

    /// Takes over a changed cast, and tells the members who of it has come and gone.
    pub(super) fn show_cast(&mut self, room: RoomKey) {
        let Some(hosted) = self.rooms.get_mut(room) else { return };
        let Some(mut names) = hosted.room.poll_cast() else { return };
        let mut cast = hosted.cast.take().unwrap_or_default();
        let gone: Vec<_> = cast.extract_if(.., |player, _| !names.contains_key(player)).collect();
        names.retain(|player, _| !cast.contains_key(player));
        let come: Vec<_> = names
            .into_iter()
            .map(|(player, name)| {
                let socket_id = format!("{player}-of-the-cast");
                SessionInfo { player: player.0, socket_id, user_id: None, name }
            })
            .collect();
        cast.extend(come.iter().map(|info| (PlayerId(info.player), info.clone())));
        hosted.cast = Some(cast);
        for (_, info) in gone {
            self.tell_change(room, &info, Some(Leave::Left));
        }
        for info in come {
            self.tell_change(room, &info, None);
        }
    }

    /// Tells the others that a player has come, or gone.
    pub(super) fn tell_presence(&mut self, room: RoomKey, info: &SessionInfo, reason: Option<Leave>) {
        if let Some(hosted) = self.rooms.get_mut(room).filter(|hosted| hosted.cast.is_none()) {
            hosted.users_changed = true;
            self.tell_change(room, info, reason);
        }
    }

    fn tell_change(&mut self, room: RoomKey, info: &SessionInfo, reason: Option<Leave>) {
        let room_size = self.shown(room).len();
        let name = if reason.is_some() { "eventLeave" } else { "eventJoin" };
        let text = signaling::event(name, &Presence { session: info, room_size, reason });
        self.tell_room(room, Some(PlayerId(info.player)), &text.into());
    }

    pub(super) fn tell_users(&mut self, now: Instant, room: RoomKey) {
        let Some(hosted) = self.rooms.get_mut(room) else { return };
        let recently = hosted.users_told.is_some_and(|told| now - told < Duration::from_secs(1));
        if !hosted.users_changed || recently {
            return;
        }
        hosted.users_changed = false;
        hosted.users_told = Some(now);
        let sessions = self.shown(room);
        let text = signaling::event("eventRoomUsers", &RoomUsers { room_size: sessions.len(), sessions });
        self.tell_room(room, None, &text.into());
    }

    fn tell_room(&mut self, room: RoomKey, except: Option<PlayerId>, text: &Rc<str>) {
        for (player, key) in self.playing(room) {
            let carrier = self.sessions.get(key).and_then(|session| session.connection);
            if let Some(carrier) = carrier.filter(|_| Some(player) != except) {
                self.push_text(carrier, text.clone());
            }
        }
    }
}
