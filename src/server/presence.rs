//! Presence: who is listed as a player of a room, and how joins and leaves are announced.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use super::rooms::Member;
use super::{ConnectionKey, RoomKey, Server, SessionKey};
use crate::game::{Game, PlayerId};
use crate::limits;
use crate::rate::Credit;
use crate::wire::codes::Leave;
use crate::wire::signaling::{self, LeaveDetails, Presence, RoomUsers, SessionInfo};

/// What is announced of a player.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Joined,
    Renamed,
    Left(Leave),
}

/// The joins, names and leaves that are not yet announced to the players of a room.
pub(super) struct News {
    waiting: VecDeque<(SessionInfo, Change)>,
    credit: Credit,
}

impl News {
    pub(super) fn new(now: Instant) -> News {
        News { waiting: VecDeque::new(), credit: Credit::new(limits::PRESENCE_BYTES_PER_SECOND, now) }
    }

    /// A player who leaves before the join was announced is not announced at all. A name before another one is not
    /// announced either.
    fn add(&mut self, info: &SessionInfo, change: Change) {
        let untold = self.waiting.iter().rposition(|(of, _)| of.player == info.player);
        let untold = untold.map(|at| (at, self.waiting[at].1));
        match (untold, change) {
            (Some((at, Change::Joined)), Change::Left(_)) => drop(self.waiting.remove(at)),
            (Some((at, Change::Joined | Change::Renamed)), Change::Renamed) => self.waiting[at].0 = info.clone(),
            (Some((at, Change::Renamed)), Change::Left(_)) => self.waiting[at] = (info.clone(), change),
            _ => self.waiting.push_back((info.clone(), change)),
        }
    }

    /// Players whose join is not announced yet.
    fn untold(&self) -> BTreeSet<u32> {
        self.waiting.iter().filter(|(_, change)| *change == Change::Joined).map(|(of, _)| of.player).collect()
    }

    fn next(&mut self, now: Instant) -> Option<(SessionInfo, Change)> {
        if self.waiting.is_empty() || !self.credit.has_left(now) {
            return None;
        }
        self.waiting.pop_front()
    }
}

impl<G: Game> Server<G> {
    /// The players of a room, and their sessions.
    pub(super) fn playing(&self, room: RoomKey) -> impl Iterator<Item = (PlayerId, SessionKey)> + '_ {
        let members = self.rooms.get(room).into_iter().flat_map(|hosted| &hosted.members);
        members.filter_map(|(&player, &member)| match member {
            Member::Playing(session) => Some((player, session)),
            Member::Joining(_) => None,
        })
    }

    /// As [`Server::playing`], while the server changes; put the buffer back into `self.playing` afterwards.
    pub(super) fn take_playing(&mut self, room: RoomKey) -> Vec<(PlayerId, SessionKey)> {
        let mut playing = std::mem::take(&mut self.playing);
        playing.clear();
        playing.extend(self.playing(room));
        playing
    }

    /// The players listed in the room: its cast if there is one, otherwise its members.
    pub(super) fn shown(&self, room: RoomKey) -> Vec<&SessionInfo> {
        if let Some(cast) = self.rooms.get(room).and_then(|hosted| hosted.cast.as_ref()) {
            return cast.values().collect();
        }
        self.playing(room).filter_map(|(_, key)| Some(&self.sessions.get(key)?.info)).collect()
    }

    /// The announced players of the room, and `own`. Players whose join is still to be announced are left out: a new
    /// player gets their announcement with the others, or none if they leave before.
    pub(super) fn known(&self, room: RoomKey, own: PlayerId) -> Vec<&SessionInfo> {
        let untold = self.rooms.get(room).map(|hosted| hosted.news.untold()).unwrap_or_default();
        let mut sessions = self.shown(room);
        sessions.retain(|info| info.player == own.0 || !untold.contains(&info.player));
        sessions
    }

    /// Applies a changed cast, and announces the differences to the members.
    pub(super) fn show_cast(&mut self, now: Instant, room: RoomKey) {
        let Some(hosted) = self.rooms.get_mut(room) else { return };
        let Some(mut names) = hosted.room.poll_cast() else { return };
        let mut cast = hosted.cast.take().unwrap_or_default();
        let gone: Vec<_> = cast.extract_if(.., |player, _| !names.contains_key(player)).collect();
        let mut renamed = Vec::new();
        for (player, info) in &mut cast {
            if let Some(name) = names.remove(player).filter(|name| *name != info.name) {
                info.name = name;
                renamed.push(info.clone());
            }
        }
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
            hosted.news.add(&info, Change::Left(Leave::Left));
        }
        for info in renamed {
            hosted.news.add(&info, Change::Renamed);
        }
        for info in come {
            hosted.news.add(&info, Change::Joined);
        }
        self.tell_news(now, room);
    }

    /// Announces a join or a leave to the other players.
    pub(super) fn tell_presence(&mut self, now: Instant, room: RoomKey, info: &SessionInfo, reason: Option<Leave>) {
        self.tell_change(now, room, info, reason.map_or(Change::Joined, Change::Left));
    }

    /// Gives a player another name, and announces it to all players.
    pub(super) fn rename(&mut self, now: Instant, room: RoomKey, player: PlayerId, name: String) {
        let member = self.rooms.get(room).and_then(|hosted| hosted.members.get(&player));
        let Some(&Member::Playing(key)) = member else { return };
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.info.name = name;
        let info = session.info.clone();
        self.tell_change(now, room, &info, Change::Renamed);
    }

    fn tell_change(&mut self, now: Instant, room: RoomKey, info: &SessionInfo, change: Change) {
        if let Some(hosted) = self.rooms.get_mut(room).filter(|hosted| hosted.cast.is_none()) {
            hosted.news.add(info, change);
            self.tell_news(now, room);
        }
    }

    /// Sends the pending announcements to the players of a room, as far as the rate limit allows.
    pub(super) fn tell_news(&mut self, now: Instant, room: RoomKey) {
        while let Some((info, change)) = self.rooms.get_mut(room).and_then(|hosted| hosted.news.next(now)) {
            let room_size = self.shown(room).len();
            let room_id = self.rooms.get(room).map_or("", |hosted| hosted.name.as_str());
            let (name, leave) = match change {
                Change::Joined => ("eventJoin", None),
                Change::Renamed => ("eventRename", None),
                Change::Left(reason) => ("eventLeave", Some(LeaveDetails { room_id, reason })),
            };
            let text: Rc<str> = signaling::event(name, &Presence { session: &info, room_size, leave }).into();
            let carriers: Vec<ConnectionKey> = self
                .playing(room)
                .filter(|&(player, _)| player != PlayerId(info.player) || change == Change::Renamed)
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

    /// Sends the list of players to a player who has joined or reconnected, and that the server is about to stop.
    pub(super) fn tell_users(&mut self, now: Instant, room: RoomKey, own: PlayerId, carrier: ConnectionKey) {
        let sessions = self.known(room, own);
        let text = signaling::event("eventRoomUsers", &RoomUsers { room_size: sessions.len(), sessions });
        self.push_text(carrier, text.into());
        let is_told = self.rooms.get(room).is_some_and(|hosted| hosted.prospects.is_told);
        if let Some(event) = self.drain_event(now).filter(|_| is_told) {
            self.push_text(carrier, event.into());
        }
    }
}
