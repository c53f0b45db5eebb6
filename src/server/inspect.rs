//! What operators see of rooms and players, and what they do to them.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::figures::{Cost, Traffic};
use super::rooms::{HostedRoom, Member};
use super::session::Session;
use super::{RoomStatus, Server, SessionKey};
use crate::game::{Game, Link, PlayerId};
use crate::wire::codes::Leave;
use crate::wire::frame::Transport;
use crate::wire::signaling::{self, RoomName};

/// The event with a message of the operator.
const NOTICE: &str = "eventNotice";

#[derive(Serialize)]
struct Notice<'a> {
    text: &'a str,
}

/// A room, as operators see it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RoomReport {
    /// As on `/rooms`.
    pub status: RoomStatus,
    /// The time since the room was created.
    pub age: Duration,
    /// Whether it is being recorded.
    pub is_recorded: bool,
    /// Whether it ticks less often, because its game takes too much time.
    pub is_slowed: bool,
    /// The time that its ticks take.
    pub cost: Cost,
    /// The messages of all its players.
    pub traffic: Traffic,
}

/// A player, as operators see one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PersonReport {
    /// The number in the room.
    pub player: PlayerId,
    /// The display name.
    pub name: String,
    /// The subject of the bearer token, or what a hook has named.
    pub user_id: Option<String>,
    /// The public ID of the session.
    pub socket_id: String,
    /// The current or last address.
    pub remote: SocketAddr,
    /// What carries the states, for a call its media connection; `None` if the player is away, and may return.
    pub transport: Option<Transport>,
    /// The quality of the connection.
    pub link: Link,
    /// The messages of the game.
    pub traffic: Traffic,
}

/// The state that a game has sent to its whole room last. None is kept while no player can be sent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastState<'a> {
    /// The tick in which it was sent.
    pub tick: u32,
    /// As the game has encoded it.
    pub body: &'a [u8],
}

impl<G: Game> Server<G> {
    /// Returns all rooms, ordered by name.
    pub fn room_reports(&self, now: Instant) -> impl Iterator<Item = RoomReport> + '_ {
        self.by_name.values().filter_map(|&room| self.rooms.get(room)).map(move |hosted| self.report(now, hosted))
    }

    /// Returns a room.
    #[must_use]
    pub fn room_report(&self, now: Instant, room: &RoomName) -> Option<RoomReport> {
        self.hosted(room).map(|hosted| self.report(now, hosted))
    }

    fn report(&self, now: Instant, hosted: &HostedRoom<G>) -> RoomReport {
        let mut traffic = hosted.past_traffic;
        for session in sessions(hosted).filter_map(|(_, key)| self.sessions.get(key)) {
            traffic += session.traffic;
        }
        RoomReport {
            status: self.status(hosted),
            age: now.saturating_duration_since(hosted.start),
            is_recorded: hosted.recorder.is_some(),
            is_slowed: hosted.overruns.is_slowed(),
            cost: hosted.cost.cost(),
            traffic,
        }
    }

    /// Returns the bytes of the states that are kept for deltas.
    #[must_use]
    pub fn state_history_bytes(&self) -> usize {
        self.rooms.values().map(|hosted| hosted.states.bytes()).sum::<usize>()
            + self.sessions.values().map(|session| session.states.bytes()).sum::<usize>()
    }

    /// Returns the players of a room, by number; `None` if there is no such room.
    #[must_use]
    pub fn people(&self, now: Instant, room: &RoomName) -> Option<Vec<PersonReport>> {
        let reported = |(player, key)| {
            let session: &Session = self.sessions.get(key)?;
            let transport = self.transport(now, session);
            Some(PersonReport {
                player,
                name: session.info.name.clone(),
                user_id: session.info.user_id.clone(),
                socket_id: session.info.socket_id.clone(),
                remote: session.remote,
                transport,
                link: session.link,
                traffic: session.traffic,
            })
        };
        Some(sessions(self.hosted(room)?).filter_map(reported).collect())
    }

    /// Returns the state that the game of a room has sent to all its players last.
    #[must_use]
    pub fn last_state(&self, room: &RoomName) -> Option<LastState<'_>> {
        self.hosted(room)?.states.newest()
    }

    /// Removes a player from a room, as if the game had: with `sentence` as the reason. Returns whether there is such
    /// a player.
    pub fn handle_kick(&mut self, now: Instant, room: &RoomName, player: PlayerId, sentence: &str) -> bool {
        let member = self.hosted(room).and_then(|hosted| hosted.members.get(&player)).copied();
        let Some(Member::Playing(session)) = member else { return false };
        self.turn(now, |server| server.end_session(now, session, Leave::Kicked, sentence));
        true
    }

    /// Sends a message of the operator (`eventNotice`) to the pages of a player, of a room's players, or of all.
    /// Returns how many are connected and get it.
    pub fn handle_notice(
        &mut self,
        now: Instant,
        room: Option<&RoomName>,
        player: Option<PlayerId>,
        text: &str,
    ) -> usize {
        let event: Rc<str> = signaling::event(NOTICE, &Notice { text }).into();
        let rooms = self.rooms.values().filter(|hosted| room.is_none_or(|room| hosted.name == *room));
        let players = rooms.flat_map(sessions).filter(|(of, _)| player.is_none_or(|player| *of == player));
        let carriers: Vec<_> = players.filter_map(|(_, key)| self.sessions.get(key)?.connection).collect();
        self.turn(now, |server| {
            for &carrier in &carriers {
                server.push_text(carrier, Rc::clone(&event));
            }
        });
        carriers.len()
    }

    /// Returns whether there is a room of this name.
    #[must_use]
    pub fn has_room(&self, room: &RoomName) -> bool {
        self.by_name.contains_key(room)
    }

    fn hosted(&self, room: &RoomName) -> Option<&HostedRoom<G>> {
        self.rooms.get(*self.by_name.get(room)?)
    }
}

fn sessions<G: Game>(hosted: &HostedRoom<G>) -> impl Iterator<Item = (PlayerId, SessionKey)> + '_ {
    hosted.members.iter().filter_map(|(&player, member)| match member {
        Member::Playing(session) => Some((player, *session)),
        Member::Joining(_) => None,
    })
}
