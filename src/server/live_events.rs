//! Events for other services: who has joined a room, who has left it, and once a minute who is in it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::rooms::{HostedRoom, Member};
use super::{RoomKey, Server, SessionKey};
use crate::game::Game;
use crate::limits::LIVE_EVENTS_WAITING;
use crate::wire::signaling::{RoomName, SessionInfo};

/// The time between two `room.live` of a room.
const LIVE_INTERVAL: Duration = Duration::from_secs(60);

/// What a [`LiveEvent`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LiveEventKind {
    /// A player has joined.
    Join,
    /// A player has left.
    Leave,
    /// Who is in the room, once a minute.
    Live,
}

impl LiveEventKind {
    /// Returns the routing key: `room.join`, `room.leave` or `room.live`.
    #[must_use]
    pub fn routing_key(self) -> &'static str {
        match self {
            LiveEventKind::Join => "room.join",
            LiveEventKind::Leave => "room.leave",
            LiveEventKind::Live => "room.live",
        }
    }
}

/// An event for other services.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveEvent {
    /// What it is about.
    pub kind: LiveEventKind,
    /// `room:epoch:seq`, by which consumers recognise an event that is delivered twice.
    pub id: String,
    /// The event as JSON.
    pub body: String,
}

/// The events that wait, if they are wanted.
#[derive(Default)]
pub(super) struct LiveEvents {
    node: Option<String>,
    waiting: VecDeque<LiveEvent>,
    last_epoch: u64,
}

/// The numbers of a room's events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbering {
    /// Rises with each room, also of the same name: milliseconds since 1970 when the room was made, or more.
    epoch: u64,
    /// The number of the last event.
    seq: u64,
    next_live: Instant,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Of<'a, T> {
    room_id: &'a str,
    room_size: usize,
    #[serde(flatten)]
    what: T,
    epoch: u64,
    seq: u64,
    node: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Joined<'a> {
    socket_id: &'a str,
    user_id: Option<&'a str>,
    platform: &'a Value,
    app_version: &'a Value,
    version: &'a Value,
    ip: String,
    /// Consumers expect the field; no client tells its bitrate.
    bitrate: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Left<'a> {
    socket_id: &'a str,
    user_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Live<'a> {
    sessions: Vec<&'a SessionInfo>,
}

impl LiveEvents {
    /// The numbering of a new room, with the epoch of its lease if it has one.
    pub(super) fn numbering(
        &mut self,
        now: Instant,
        unix_time: Duration,
        room: &RoomName,
        lease: Option<u64>,
    ) -> Numbering {
        let millis = u64::try_from(unix_time.as_millis()).unwrap_or(u64::MAX);
        let epoch = lease.unwrap_or_else(|| millis.max(self.last_epoch.saturating_add(1)));
        self.last_epoch = epoch;
        // Rooms that are made at the same time are spread over the minute.
        let spread = u64::from(crc32c::crc32c(room.as_str().as_bytes())) % LIVE_INTERVAL.as_secs();
        Numbering { epoch, seq: 0, next_live: now + Duration::from_secs(spread + 1) }
    }
}

impl<G: Game> Server<G> {
    /// Makes events of joins, leaves and rooms from now on, for [`Server::poll_live_event`]. `node` names this server
    /// in them.
    pub fn make_live_events(&mut self, node: impl Into<String>) {
        self.live_events.node = Some(node.into());
    }

    /// Returns the next event. Poll it after each `handle_*`; above [`LIVE_EVENTS_WAITING`] further ones are dropped.
    pub fn poll_live_event(&mut self) -> Option<LiveEvent> {
        self.live_events.waiting.pop_front()
    }

    pub(super) fn note_join(&mut self, key: SessionKey) {
        if self.live_events.node.is_none() {
            return;
        }
        let Some(session) = self.sessions.get(key) else { return };
        let [platform, version, app_version] = session.device.versions().map(Value::clone);
        let ip = session.remote.ip().to_canonical().to_string();
        let info = session.info.clone();
        self.emit(session.room, LiveEventKind::Join, || Joined {
            socket_id: &info.socket_id,
            user_id: info.user_id.as_deref(),
            platform: &platform,
            app_version: &app_version,
            version: &version,
            ip,
            bitrate: None,
        });
    }

    pub(super) fn note_leave(&mut self, room: RoomKey, info: &SessionInfo) {
        self.emit(room, LiveEventKind::Leave, || Left { socket_id: &info.socket_id, user_id: info.user_id.as_deref() });
    }

    /// Makes the event of a room with players, if it is due.
    pub(super) fn note_live(&mut self, now: Instant, room: RoomKey) {
        if self.live_events.node.is_none() {
            return;
        }
        let Some(hosted) = self.rooms.get_mut(room).filter(|hosted| hosted.numbering.next_live <= now) else { return };
        while hosted.numbering.next_live <= now {
            hosted.numbering.next_live += LIVE_INTERVAL;
        }
        let sessions = hosted.members.values().filter_map(|member| match member {
            Member::Playing(session) => self.sessions.get(*session).map(|session| session.info.clone()),
            Member::Joining(_) => None,
        });
        let sessions: Vec<SessionInfo> = sessions.collect();
        if !sessions.is_empty() {
            self.emit(room, LiveEventKind::Live, || Live { sessions: sessions.iter().collect() });
        }
    }

    fn emit<T: Serialize>(&mut self, room: RoomKey, kind: LiveEventKind, what: impl FnOnce() -> T) {
        let (Some(node), Some(hosted)) = (&self.live_events.node, self.rooms.get_mut(room)) else { return };
        hosted.numbering.seq += 1;
        if self.live_events.waiting.len() >= LIVE_EVENTS_WAITING {
            self.counters.dropped_live_events += 1;
            return;
        }
        let Numbering { epoch, seq, .. } = hosted.numbering;
        let room_size = players(hosted);
        let event = Of { room_id: hosted.name.as_str(), room_size, what: what(), epoch, seq, node };
        let body = serde_json::to_string(&event).expect("names, numbers and JSON are JSON");
        let id = format!("{}:{epoch}:{seq}", hosted.name);
        self.live_events.waiting.push_back(LiveEvent { kind, id, body });
    }
}

fn players<G: Game>(hosted: &HostedRoom<G>) -> usize {
    hosted.members.values().filter(|member| matches!(member, Member::Playing(_))).count()
}
