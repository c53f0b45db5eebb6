//! Saved rooms: how a node keeps them in the store, moves a room to another node with one, and finds those of rooms
//! that it gets.
//!
//! They may be long, so at most one is on its way in each direction: leases are renewed beside them in time.

use std::collections::{BTreeMap, VecDeque};

use super::store::{Command, Lease, Placement, Snapshot};
use super::{Cluster, Event, Location, Reach, Sent, Step, Unlocated, millis, there};
use crate::limits::{SNAPSHOT_BYTES, SNAPSHOT_KEPT, SNAPSHOTS_BYTES};
use crate::wire::signaling::RoomName;

/// The snapshot of a room that has no game yet.
#[derive(Debug, Default)]
pub(super) enum Saved {
    #[default]
    Nothing,
    /// The store has something.
    Stored,
    Found(Snapshot),
}

impl Saved {
    pub(super) fn into_found(self) -> Option<Snapshot> {
        match self {
            Saved::Found(snapshot) => Some(snapshot),
            Saved::Nothing | Saved::Stored => None,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Saving {
    /// Those that have yet to be sent, and the epochs of the leases.
    snapshots: BTreeMap<RoomName, (u64, Vec<u8>)>,
    /// Bytes of those, and of those that are on their way.
    bytes: usize,
    is_saving: bool,
    moving: Option<(RoomName, Vec<u8>)>,
    is_moving: bool,
    to_find: VecDeque<RoomName>,
    pub(super) is_finding: bool,
}

impl Saving {
    /// Drops the snapshot of a room that has yet to be sent.
    pub(super) fn forget(&mut self, room: &RoomName) {
        self.bytes -= self.snapshots.remove(room).map_or(0, |(_, bytes)| bytes.len());
    }

    pub(super) fn end(&mut self, bytes: usize) {
        self.is_saving = false;
        self.bytes -= bytes;
    }
}

impl Cluster {
    /// Returns whether rooms can be saved at the moment: the store answers, and has got those before.
    #[must_use]
    pub fn takes_snapshots(&self) -> bool {
        self.reach == Reach::Up && self.saving.bytes < SNAPSHOT_BYTES
    }

    /// Returns whether saved rooms are yet to be kept by a store that answers.
    #[must_use]
    pub fn has_unsaved(&self) -> bool {
        self.reach == Reach::Up && self.saving.bytes > 0
    }

    /// Saves a room that the node has, of at most [`SNAPSHOT_BYTES`], for the case that another node gets it.
    pub fn save_snapshot(&mut self, room: &RoomName, snapshot: Vec<u8>) {
        let Some(epoch) = self.held.get(room).filter(|held| held.has_game).map(|held| held.epoch) else { return };
        self.saving.forget(room);
        if snapshot.len() > SNAPSHOT_BYTES || self.saving.bytes + snapshot.len() > SNAPSHOTS_BYTES {
            self.figures.dropped_snapshots += 1;
            return;
        }
        self.saving.bytes += snapshot.len();
        self.saving.snapshots.insert(room.clone(), (epoch, snapshot));
    }

    /// Returns whether a room can be moved now: it is known to be this node's, and no other is being moved.
    #[must_use]
    pub fn can_move(&self, room: &RoomName) -> bool {
        let is_up = self.reach == Reach::Up && self.lease_until.is_some();
        let is_own = self.held.contains_key(room) && !self.unverified.contains(room);
        is_up && is_own && self.saving.moving.is_none() && !self.saving.is_moving
    }

    /// Moves a room that the node has to another node, with this snapshot. The room must stand still until
    /// [`Event::Moved`] tells where it is then. Call it if [`Cluster::can_move`].
    pub fn move_room(&mut self, room: &RoomName, snapshot: Vec<u8>) {
        self.saving.forget(room);
        self.saving.moving = Some((room.clone(), snapshot));
    }

    pub(super) fn next_move(&mut self) -> Option<(Command, Sent)> {
        let (room, snapshot) = self.saving.moving.take()?;
        // If it was lost meanwhile, that was told.
        let lease = Lease { room: room.clone(), epoch: self.held.get(&room)?.epoch };
        self.saving.is_moving = true;
        let (member, region) = (self.member.clone(), self.config.region.clone());
        Some((Command::Move { member, lease, region, snapshot, ttl_ms: millis(SNAPSHOT_KEPT) }, Sent::Move(room)))
    }

    pub(super) fn take_move(&mut self, room: RoomName, placement: Placement) {
        self.saving.is_moving = false;
        let at = match placement {
            Placement::At { owner, url, epoch, has_snapshot } if owner != self.member => {
                Ok(there(owner, url, epoch, has_snapshot))
            }
            Placement::Full => Err(Unlocated::Full),
            // The lease is another one than the node knows.
            Placement::At { .. } | Placement::Recovering => {
                if self.held.contains_key(&room) {
                    self.unverified.insert(room.clone());
                }
                Err(Unlocated::Unavailable)
            }
        };
        if let Ok(to) = &at {
            self.known.note(self.told, &room, to);
            self.unverified.remove(&room);
            if let Some(held) = self.held.remove(&room) {
                self.ticket_floor = self.ticket_floor.max(held.epoch);
            }
            self.figures.moved += 1;
            self.conclude(room.clone(), at.clone());
        }
        self.events.push_back(Event::Moved(room, at));
    }

    /// Whether the room was moved is unknown. The node goes on with it until it learns more.
    pub(super) fn fail_move(&mut self, room: RoomName) {
        self.saving.is_moving = false;
        if let Some(held) = self.held.get_mut(&room) {
            held.may_move = true;
        }
        self.events.push_back(Event::Moved(room, Err(Unlocated::Unavailable)));
    }

    /// A room that was about to be moved goes on here.
    pub(super) fn give_up_move(&mut self) {
        if let Some((room, _)) = self.saving.moving.take() {
            self.events.push_back(Event::Moved(room, Err(Unlocated::Unavailable)));
        }
    }

    /// Whether a room that the node has can't be made before its snapshot is found.
    pub(super) fn needs_saved(&self, room: &RoomName) -> bool {
        self.held.get(room).is_some_and(|held| !held.has_game && matches!(held.saved, Saved::Stored))
    }

    /// Returns whether something was saved of a room that was located here, and has no game yet.
    #[must_use]
    pub fn has_saved(&self, room: &RoomName) -> bool {
        self.held.get(room).is_some_and(|held| !held.has_game && matches!(held.saved, Saved::Found(_)))
    }

    /// Ends the lookup of a room that this node has, once its snapshot is known.
    pub(super) fn conclude_here(&mut self, room: RoomName) {
        if !self.needs_saved(&room) {
            self.conclude(room, Ok(Location::Here));
        } else if let Some(lookup) = self.lookups.get_mut(&room)
            && lookup.step != Step::Fetching
        {
            lookup.step = Step::Fetching;
            self.saving.to_find.push_back(room);
        }
    }

    pub(super) fn next_fetch(&mut self) -> Option<(Command, Sent)> {
        while !self.saving.is_finding {
            let room = self.saving.to_find.pop_front()?;
            if self.lookups.get(&room).is_some_and(|lookup| lookup.step == Step::Fetching) {
                self.saving.is_finding = true;
                return Some((Command::FindSnapshot { room: room.clone() }, Sent::FindSnapshot(room)));
            }
        }
        None
    }

    pub(super) fn take_snapshot(&mut self, is_current: bool, room: RoomName, found: Option<Snapshot>) {
        self.saving.is_finding = false;
        let Some(lookup) = self.lookups.get_mut(&room) else { return };
        let Some(held) = self.held.get_mut(&room).filter(|held| !held.has_game) else {
            // It was lost, and perhaps got again, meanwhile.
            self.look_up_again(room);
            return;
        };
        if is_current {
            held.saved = found.map_or(Saved::Nothing, Saved::Found);
            self.conclude_here(room);
        } else {
            // Another node may have had it since.
            lookup.step = Step::Verifying;
        }
    }

    pub(super) fn next_snapshots(&mut self) -> Option<(Command, Sent)> {
        if self.saving.is_saving {
            return None;
        }
        let (mut snapshots, mut bytes) = (Vec::new(), 0);
        while let Some(first) = self.saving.snapshots.first_entry()
            && (snapshots.is_empty() || bytes + first.get().1.len() <= SNAPSHOT_BYTES)
        {
            let (room, (epoch, snapshot)) = first.remove_entry();
            bytes += snapshot.len();
            snapshots.push((Lease { room, epoch }, snapshot));
        }
        self.saving.is_saving = !snapshots.is_empty();
        let command = Command::SaveSnapshots { member: self.member.clone(), snapshots, ttl_ms: millis(SNAPSHOT_KEPT) };
        self.saving.is_saving.then_some((command, Sent::SaveSnapshots(bytes)))
    }
}
