//! What becomes of lookups that the store does not answer: while it is away, a node goes by what it was told before.
//!
//! Such an answer may be old. It does no harm: a node that no longer has the room refuses the client, or redirects it.
//! A client that a redirect has sent here is not redirected by such an answer, so there are no loops.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::{Cluster, Event, Location, Sent, Unlocated};
use crate::limits::KNOWN_ROOMS;
use crate::wire::signaling::RoomName;

#[derive(Debug, Default)]
pub(super) struct Known {
    /// With the time at which each was told.
    locations: BTreeMap<RoomName, (Instant, Location)>,
    /// The same, the oldest first, and those that were forgotten since.
    told: VecDeque<(Instant, RoomName)>,
}

impl Known {
    /// Notes a room of another node. Too many replace the oldest.
    pub(super) fn note(&mut self, now: Instant, room: &RoomName, at: &Location) {
        if matches!(at, Location::Here) {
            return;
        }
        if self.told.len() >= KNOWN_ROOMS {
            self.forget_oldest();
        }
        self.locations.insert(room.clone(), (now, at.clone()));
        self.told.push_back((now, room.clone()));
    }

    pub(super) fn get(&self, room: &RoomName) -> Option<Location> {
        self.locations.get(room).map(|(_, at)| at.clone())
    }

    pub(super) fn forget(&mut self, room: &RoomName) {
        self.locations.remove(room);
    }

    /// Forgets what was told before this time.
    pub(super) fn forget_before(&mut self, time: Instant) {
        while self.told.front().is_some_and(|(told, _)| *told < time) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((told, room)) = self.told.pop_front()
            && self.locations.get(&room).is_some_and(|(newest, _)| *newest == told)
        {
            self.locations.remove(&room);
        }
    }
}

impl Cluster {
    /// Where the store had a room before it was away.
    pub(super) fn known_at(&self, room: &RoomName) -> Result<Location, Unlocated> {
        self.known.get(room).ok_or(Unlocated::Unavailable)
    }

    /// The store answers, and has refused a request. A lookup that needs it fails alone.
    pub(super) fn take_refusal(&mut self, now: Instant, sent: Sent) {
        match sent {
            Sent::Acquire { room, .. } => self.conclude(room, Err(Unlocated::Unavailable)),
            Sent::FindSnapshot(room) => {
                self.saving.is_finding = false;
                self.conclude(room, Err(Unlocated::Unavailable));
            }
            Sent::Find(socket_id) => self.events.push_back(Event::Session(socket_id, None)),
            sent => return self.fail(now, sent),
        }
        self.figures.failed += 1;
    }
}
