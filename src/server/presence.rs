//! Presence: who is shown as being in a room, and how the others are told.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use super::rooms::Member;
use super::{ConnectionKey, RoomKey, Server, SessionKey};
use crate::game::{Game, PlayerId};
use crate::limits;
use crate::rate::Credit;
use crate::wire::codes::Leave;
use crate::wire::signaling::{self, Presence, RoomUsers, SessionInfo};

/// What the players of a room are still to be told: who has come, and who has gone and why.
pub(super) struct News {
    waiting: VecDeque<(SessionInfo, Option<Leave>)>,
    credit: Credit,
}

impl News {
    pub(super) fn new(now: Instant) -> News {
        News { waiting: VecDeque::new(), credit: Credit::new(limits::PRESENCE_BYTES_PER_SECOND, now) }
    }

    /// A player who goes before anybody was told of their coming is never told of.
    fn add(&mut self, info: &SessionInfo, reason: Option<Leave>) {
        let untold = self.waiting.iter().position(|(of, gone)| of.player == info.player && gone.is_none());
        match untold.filter(|_| reason.is_some()) {
            Some(untold) => drop(self.waiting.remove(untold)),
            None => self.waiting.push_back((info.clone(), reason)),
        }
    }

    /// Players of whose coming nobody was told.
    fn untold(&self) -> BTreeSet<u32> {
        self.waiting.iter().filter(|(_, gone)| gone.is_none()).map(|(of, _)| of.player).collect()
    }

    fn next(&mut self, now: Instant) -> Option<(SessionInfo, Option<Leave>)> {
        if self.waiting.is_empty() || !self.credit.has_left(now) {
            return None;
        }
        self.waiting.pop_front()
    }
}

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

    /// Who is in the room as the others know it, and `own`: a player whose coming is still news is told to a newcomer
    /// with the others, or a newcomer would never hear that such a player has gone again.
    pub(super) fn known(&self, room: RoomKey, own: PlayerId) -> Vec<&SessionInfo> {
        let untold = self.rooms.get(room).map(|hosted| hosted.news.untold()).unwrap_or_default();
        let mut sessions = self.shown(room);
        sessions.retain(|info| info.player == own.0 || !untold.contains(&info.player));
        sessions
    }

    /// Takes over a changed cast, and tells the members who of it has come and gone.
    pub(super) fn show_cast(&mut self, now: Instant, room: RoomKey) {
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
            hosted.news.add(&info, Some(Leave::Left));
        }
        for info in come {
            hosted.news.add(&info, None);
        }
        self.tell_news(now, room);
    }

    /// Tells the others that a player has come, or gone.
    pub(super) fn tell_presence(&mut self, now: Instant, room: RoomKey, info: &SessionInfo, reason: Option<Leave>) {
        if let Some(hosted) = self.rooms.get_mut(room).filter(|hosted| hosted.cast.is_none()) {
            hosted.news.add(info, reason);
            self.tell_news(now, room);
        }
    }

    /// Tells the players of a room as much of what is new as they may be told at this time.
    pub(super) fn tell_news(&mut self, now: Instant, room: RoomKey) {
        while let Some((info, reason)) = self.rooms.get_mut(room).and_then(|hosted| hosted.news.next(now)) {
            let room_size = self.shown(room).len();
            let name = if reason.is_some() { "eventLeave" } else { "eventJoin" };
            let text: Rc<str> = signaling::event(name, &Presence { session: &info, room_size, reason }).into();
            let carriers: Vec<ConnectionKey> = self
                .playing(room)
                .into_iter()
                .filter(|&(player, _)| player != PlayerId(info.player))
                .filter_map(|(_, key)| self.sessions.get(key)?.connection)
                .collect();
            if let Some(hosted) = self.rooms.get_mut(room) {
                hosted.news.credit.charge(text.len() * carriers.len());
            }
            for carrier in carriers {
                self.push_text(carrier, text.clone());
            }
        }
    }

    /// Tells a player who has come in, or back, who else is there.
    pub(super) fn tell_users(&mut self, room: RoomKey, own: PlayerId, carrier: ConnectionKey) {
        let sessions = self.known(room, own);
        let text = signaling::event("eventRoomUsers", &RoomUsers { room_size: sessions.len(), sessions });
        self.push_text(carrier, text.into());
    }
}
