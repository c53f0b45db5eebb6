//! What a node tells others about its rooms, and what it asks about theirs while somebody wants to know it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::listing::{self, ListedRoom};
use super::store::{Command, Member, Nodes, Reply};
use super::{Cluster, Event, Reach, Sent, millis};
use crate::limits::INQUIRY_AGE;
use crate::wire::signaling::RoomName;

/// Moves that are remembered.
pub const MOVES: usize = 64;

/// What somebody may want to know about the other nodes, see [`Cluster::inquire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The rooms that they list: [`Cluster::listed_rooms`].
    Rooms,
    /// How they do: [`Cluster::nodes`].
    Nodes,
}

/// A room that clients were sent to elsewhere, or that was lost to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Move {
    /// When, since 1970.
    pub at: Duration,
    /// The room.
    pub room: RoomName,
    /// The node to which a client was sent; `None` if the room was lost.
    pub to: Option<Arc<str>>,
}

/// A request that has not been answered. Nothing else depends on it.
#[derive(Debug)]
pub(super) enum Asked {
    Publish(Vec<ListedRoom>),
    Rooms,
    Nodes,
}

#[derive(Debug)]
pub(super) struct Directory {
    /// The rooms that the store lists of this node; `None` if that is unknown.
    published: Option<Vec<ListedRoom>>,
    /// Whether they may be replaced: once after each renewal.
    may_publish: bool,
    to_publish: Option<Vec<ListedRoom>>,
    rooms: Inquiry<Vec<ListedRoom>>,
    nodes: Inquiry<Nodes>,
    /// The oldest first.
    moves: VecDeque<Move>,
}

impl Default for Directory {
    fn default() -> Directory {
        Directory {
            published: Some(Vec::new()),
            may_publish: false,
            to_publish: None,
            rooms: Inquiry::default(),
            nodes: Inquiry::default(),
            moves: VecDeque::new(),
        }
    }
}

impl Directory {
    /// The lease was renewed: whether it is another one, of which the store may list other rooms.
    pub(super) fn handle_renewal(&mut self, is_another: bool) {
        if is_another {
            self.published = None;
        }
        self.may_publish = true;
    }

    pub(super) fn next(&mut self, member: &Member, ttl: Duration) -> Option<(Command, Sent)> {
        let member = member.clone();
        let (command, asked) = if let Some(rooms) = self.to_publish.take() {
            (Command::Publish { member, rooms: rooms.clone(), ttl_ms: millis(ttl) }, Asked::Publish(rooms))
        } else if self.rooms.begin() {
            (Command::ListRooms { member }, Asked::Rooms)
        } else if self.nodes.begin() {
            (Command::ListNodes, Asked::Nodes)
        } else {
            return None;
        };
        Some((command, Sent::Directory(asked)))
    }

    /// Takes an answer; `None` if there is none. Returns whether that was the end of an inquiry.
    pub(super) fn take(&mut self, now: Instant, asked: Asked, reply: Option<Reply>) -> bool {
        match (asked, reply) {
            (Asked::Publish(rooms), reply) => {
                self.published = (reply == Some(Reply::Done)).then_some(rooms);
                return false;
            }
            (Asked::Rooms, Some(Reply::Rooms(rooms))) => self.rooms.end(now, Some(rooms)),
            (Asked::Rooms, _) => self.rooms.end(now, None),
            (Asked::Nodes, Some(Reply::Nodes(nodes))) => self.nodes.end(now, Some(nodes)),
            (Asked::Nodes, _) => self.nodes.end(now, None),
        }
        true
    }
}

impl Cluster {
    /// Returns whether the rooms that this node lists are to be told now, with [`Cluster::publish`].
    #[must_use]
    pub fn wants_rooms(&self) -> bool {
        self.directory.may_publish
    }

    /// Tells the rooms that this node lists. The store gets them if they have changed.
    pub fn publish(&mut self, rooms: Vec<ListedRoom>) {
        let rooms = listing::limited(rooms);
        let directory = &mut self.directory;
        directory.may_publish = false;
        let is_known = directory.published.as_ref().is_some_and(|published| listing::are_alike(published, &rooms));
        directory.to_publish = (!is_known).then_some(rooms);
    }

    /// Asks about the other nodes, unless the last answer is younger than [`INQUIRY_AGE`]. Returns `false` if the
    /// answer is yet to come: an [`Event::Inquired`] tells of it.
    pub fn inquire(&mut self, now: Instant, about: About) -> bool {
        let is_known = match about {
            About::Rooms => self.directory.rooms.want(now),
            About::Nodes => self.directory.nodes.want(now),
        };
        is_known || self.reach == Reach::Down || self.is_displaced
    }

    /// Returns the rooms that other nodes listed when the store was last asked, by name; none if that is longer ago
    /// than a lease lasts.
    #[must_use]
    pub fn listed_rooms(&self, now: Instant) -> &[ListedRoom] {
        self.directory.rooms.answer(now, self.config.ttl).map_or(&[], Vec::as_slice)
    }

    /// Returns the nodes, as they were when the store was last asked; `None` if that is longer ago than a lease lasts.
    #[must_use]
    pub fn nodes(&self, now: Instant) -> Option<&Nodes> {
        self.directory.nodes.answer(now, self.config.ttl)
    }

    /// Returns the last [`MOVES`], the newest first.
    pub fn moves(&self) -> impl Iterator<Item = &Move> {
        self.directory.moves.iter().rev()
    }

    pub(crate) fn note_move(&mut self, at: Duration, room: RoomName, to: Option<Arc<str>>) {
        let moves = &mut self.directory.moves;
        if moves.len() >= MOVES {
            moves.pop_front();
        }
        moves.push_back(Move { at, room, to });
    }

    pub(super) fn take_asked(&mut self, now: Instant, asked: Asked, reply: Option<Reply>) {
        if self.directory.take(now, asked, reply) {
            self.events.push_back(Event::Inquired);
        }
    }
}

/// A question whose answer is kept for [`INQUIRY_AGE`].
#[derive(Debug)]
struct Inquiry<T> {
    step: Step,
    /// When it was answered last, or not.
    tried: Option<Instant>,
    answer: Option<(Instant, T)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Idle,
    Wanted,
    Asked,
}

impl<T> Default for Inquiry<T> {
    fn default() -> Inquiry<T> {
        Inquiry { step: Step::Idle, tried: None, answer: None }
    }
}

impl<T> Inquiry<T> {
    /// Returns whether the last attempt is new enough. Otherwise the store is to be asked.
    fn want(&mut self, now: Instant) -> bool {
        if self.tried.is_some_and(|tried| now < tried + INQUIRY_AGE) {
            return true;
        }
        if self.step == Step::Idle {
            self.step = Step::Wanted;
        }
        false
    }

    /// Whether the store is to be asked now.
    fn begin(&mut self) -> bool {
        let is_wanted = self.step == Step::Wanted;
        if is_wanted {
            self.step = Step::Asked;
        }
        is_wanted
    }

    /// Takes the answer, or that there is none.
    fn end(&mut self, now: Instant, answer: Option<T>) {
        (self.step, self.tried) = (Step::Idle, Some(now));
        if let Some(answer) = answer {
            self.answer = Some((now, answer));
        }
    }

    /// The last answer, if it is younger than this.
    fn answer(&self, now: Instant, age: Duration) -> Option<&T> {
        self.answer.as_ref().filter(|(at, _)| now < *at + age).map(|(_, answer)| answer)
    }
}
