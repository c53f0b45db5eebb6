//! The store in memory: for the processes of one machine, and for simulations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::IteratorRandom;
use rand_chacha::ChaCha20Rng;

use super::listing;
use super::store::{
    Command, Lease, ListedRoom, Member, NodeReport, Nodes, Placement, Profile, Release, Renewal, Reply, Secret,
    SessionUpdate, Snapshot, StoredSession,
};
use crate::limits::{LISTED_BYTES, LISTED_NODES, LISTING_BYTES, LISTING_NODES};
use crate::wire::signaling::RoomName;

/// What a room that is placed on a node adds to its load until it tells the next one.
const PLACED_LOAD: f64 = 0.02;

/// How often expired sessions and snapshots are removed.
const SWEEP_MS: u64 = 60_000;

/// The store in memory. Times are milliseconds since 1970.
#[derive(Debug)]
pub struct Table {
    rng: ChaCha20Rng,
    secret: Option<Secret>,
    /// When it was first asked for a room since it has been empty.
    begun: Option<u64>,
    /// The newest epoch of all.
    epoch: u64,
    nodes: BTreeMap<Arc<str>, Registered>,
    rooms: BTreeMap<RoomName, Owned>,
    sessions: BTreeMap<String, Kept>,
    snapshots: BTreeMap<RoomName, Saved>,
    /// When what has expired was last removed.
    swept: u64,
}

#[derive(Debug)]
struct Registered {
    incarnation: u64,
    since: u64,
    until: u64,
    profile: Profile,
    rooms: BTreeSet<RoomName>,
    /// The lines of the rooms that it lists, and until when they are kept.
    listing: Option<(String, u64)>,
}

#[derive(Debug)]
struct Owned {
    owner: Member,
    epoch: u64,
}

#[derive(Debug)]
struct Saved {
    bytes: Vec<u8>,
    at: u64,
    until: u64,
}

#[derive(Debug)]
struct Kept {
    session: StoredSession,
    epoch: u64,
    until: u64,
}

impl Table {
    /// Returns an empty table. The choice among nodes for a room follows from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Table {
        Table {
            rng: ChaCha20Rng::seed_from_u64(seed),
            secret: None,
            begun: None,
            epoch: 0,
            nodes: BTreeMap::new(),
            rooms: BTreeMap::new(),
            sessions: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            swept: 0,
        }
    }

    /// Carries out a command.
    pub fn apply(&mut self, now: u64, command: Command) -> Reply {
        if self.swept + SWEEP_MS <= now {
            self.swept = now;
            self.sessions.retain(|_, kept| kept.until > now);
            self.snapshots.retain(|_, saved| saved.until > now);
        }
        match command {
            Command::Renew { member, profile, ttl_ms, takes_over, secret } => {
                let secret = *self.secret.get_or_insert(secret);
                self.begun.get_or_insert(now);
                Reply::Renewed {
                    renewal: self.renew(now, &member, profile, ttl_ms, takes_over),
                    secret,
                    store_time: now.max(self.epoch),
                }
            }
            Command::Acquire { room, member, keeps, falls_back, region, grace_ms } => {
                let begun = self.begun.get_or_insert(now);
                // The clock may be set back.
                *begun = now.min(*begun);
                let begun = *begun;
                Reply::Acquired(self.acquire(now, room, &member, keeps, falls_back, &region, begun + grace_ms))
            }
            Command::Reassert { member, leases } => {
                Reply::Reasserted(leases.into_iter().map(|lease| self.reassert(now, &member, lease)).collect())
            }
            Command::Release { member, leases } => {
                leases.into_iter().for_each(|release| self.release(&member, &release));
                Reply::Done
            }
            Command::Leave { member } => {
                if self.is_current(&member)
                    && let Some(left) = self.nodes.remove(&member.node)
                {
                    left.rooms.iter().for_each(|room| self.forget_room(&member, room));
                }
                Reply::Done
            }
            Command::Move { member, lease, region, snapshot, ttl_ms } => {
                let saved = Saved { bytes: snapshot, at: now, until: now + ttl_ms };
                Reply::Acquired(self.move_room(now, &member, lease, &region, saved))
            }
            Command::SaveSnapshots { member, snapshots, ttl_ms } => {
                for (Lease { room, epoch }, bytes) in snapshots {
                    let is_lease = |owned: &Owned| owned.owner == member && owned.epoch == epoch;
                    if self.rooms.get(&room).is_some_and(is_lease) && self.is_current(&member) {
                        self.snapshots.insert(room, Saved { bytes, at: now, until: now + ttl_ms });
                    }
                }
                Reply::Done
            }
            Command::FindSnapshot { room } => {
                let saved = self.snapshots.get(&room).filter(|saved| saved.until > now);
                let age_ms = |at: u64| now.saturating_sub(at);
                Reply::Snapshot(saved.map(|saved| Snapshot { bytes: saved.bytes.clone(), age_ms: age_ms(saved.at) }))
            }
            Command::SaveSessions { updates, ttl_ms } => {
                updates.into_iter().for_each(|update| self.save(update, now, now + ttl_ms));
                Reply::Done
            }
            Command::FindSession { socket_id } => {
                let found = self.sessions.get(&socket_id).filter(|kept| kept.until > now);
                Reply::Session(found.map(|kept| kept.session.clone()))
            }
            Command::Publish { member, rooms, ttl_ms } => {
                if self.is_current(&member)
                    && let Some(node) = self.nodes.get_mut(&member.node)
                {
                    let text = listing::write(&rooms, LISTING_BYTES);
                    node.listing = (!text.is_empty()).then_some((text, now + ttl_ms));
                }
                Reply::Done
            }
            Command::ListRooms { member } => Reply::Rooms(self.list_rooms(now, &member)),
            Command::ListNodes => {
                let report = |(name, node): (&Arc<str>, &Registered)| NodeReport {
                    member: Member { node: Arc::clone(name), incarnation: node.incarnation },
                    profile: node.profile.clone(),
                    since: node.since,
                    until: node.until,
                };
                let nodes = self.nodes.iter().map(report).take(LISTED_NODES).collect();
                Reply::Nodes(Nodes { store_time: now, count: self.nodes.len(), nodes })
            }
        }
    }

    /// Returns the nodes whose leases have not ended, by name.
    pub fn nodes(&self, now: u64) -> impl Iterator<Item = (&str, &Profile)> {
        self.nodes.iter().filter(move |(_, node)| node.until > now).map(|(name, node)| (&**name, &node.profile))
    }

    /// Returns the owner of a room, dead or alive, and the epoch of its lease.
    #[must_use]
    pub fn owner(&self, room: &RoomName) -> Option<(&Member, u64)> {
        self.rooms.get(room).map(|owned| (&owned.owner, owned.epoch))
    }

    fn is_current(&self, member: &Member) -> bool {
        self.nodes.get(&member.node).is_some_and(|node| node.incarnation == member.incarnation)
    }

    fn is_alive(&self, now: u64, member: &Member) -> bool {
        self.is_current(member) && self.nodes.get(&member.node).is_some_and(|node| node.until > now)
    }

    fn renew(&mut self, now: u64, member: &Member, profile: Profile, ttl_ms: u64, takes_over: bool) -> Renewal {
        let until = now + ttl_ms;
        let mut since = now;
        if let Some(node) = self.nodes.get_mut(&member.node) {
            let (is_same, is_over) = (node.incarnation == member.incarnation, node.until <= now);
            if !is_same && !is_over && !takes_over {
                return Renewal::Taken;
            }
            // Two leases never begin at the same time, though the clock may be set back.
            since = if is_same && !is_over { node.since } else { now.max(node.since + 1) };
            if is_same {
                (node.since, node.until, node.profile) = (since, until, profile);
                node.listing = node.listing.take().filter(|(_, kept)| *kept > now).map(|(text, _)| (text, until));
                return Renewal::Since(since);
            }
        }
        let (incarnation, rooms, listing) = (member.incarnation, BTreeSet::new(), None);
        let node = Registered { incarnation, since, until, profile, rooms, listing };
        if let Some(former) = self.nodes.insert(member.node.clone(), node) {
            let owner = Member { incarnation: former.incarnation, ..member.clone() };
            former.rooms.iter().for_each(|room| self.forget_room(&owner, room));
        }
        Renewal::Since(since)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a command")]
    fn acquire(
        &mut self,
        now: u64,
        room: RoomName,
        member: &Member,
        keeps: bool,
        falls_back: bool,
        region: &str,
        made_from: u64,
    ) -> Placement {
        // Many rooms may be given in a millisecond, and the clock may be set back.
        let mut epoch = now.max(self.epoch + 1);
        if let Some(owned) = self.rooms.get(&room) {
            epoch = epoch.max(owned.epoch + 1);
            if owned.owner != *member && self.is_alive(now, &owned.owner) {
                return self.at(now, &room, owned);
            }
            // Its lease does not come to life again if the clock is set back: it has to verify what it had.
            if owned.owner != *member
                && self.is_current(&owned.owner)
                && let Some(node) = self.nodes.get_mut(&owned.owner.node)
            {
                node.until = 0;
            }
        } else if now < made_from {
            return Placement::Recovering;
        }
        let is_own = self.rooms.get(&room).is_some_and(|owned| owned.owner == *member);
        let own = self.is_alive(now, member).then(|| member.clone());
        let owner = own.clone().filter(|_| keeps || is_own).or_else(|| self.choose(now, member, region));
        let Some(owner) = owner.or_else(|| own.filter(|_| falls_back)) else { return Placement::Full };
        self.place(now, room, &owner, epoch)
    }

    fn place(&mut self, now: u64, room: RoomName, owner: &Member, epoch: u64) -> Placement {
        self.epoch = epoch;
        self.give(room.clone(), owner, epoch);
        if let Some(node) = self.nodes.get_mut(&owner.node) {
            node.profile.load += PLACED_LOAD;
        }
        self.rooms.get(&room).map_or(Placement::Full, |owned| self.at(now, &room, owned))
    }

    fn at(&self, now: u64, room: &RoomName, owned: &Owned) -> Placement {
        let url = self.nodes.get(&owned.owner.node).map(|node| node.profile.url.clone()).unwrap_or_default();
        let has_snapshot = self.snapshots.get(room).is_some_and(|saved| saved.until > now);
        Placement::At { owner: owned.owner.clone(), url, epoch: owned.epoch, has_snapshot }
    }

    fn move_room(&mut self, now: u64, member: &Member, lease: Lease, region: &str, saved: Saved) -> Placement {
        let Lease { room, epoch } = lease;
        let is_lease = |owned: &Owned| owned.owner == *member && owned.epoch == epoch;
        if !self.is_current(member) || !self.rooms.get(&room).is_some_and(is_lease) {
            return Placement::Recovering;
        }
        let Some(owner) = self.choose(now, member, region) else { return Placement::Full };
        self.snapshots.insert(room.clone(), saved);
        let epoch = now.max(self.epoch + 1).max(epoch + 1);
        self.place(now, room, &owner, epoch)
    }

    /// The rooms of other nodes: of some, if there are many, and a share of each.
    fn list_rooms(&mut self, now: u64, member: &Member) -> Vec<ListedRoom> {
        let others = self.nodes.iter().filter(|(name, node)| **name != member.node && node.until > now);
        let texts = others.filter_map(|(_, node)| node.listing.as_ref().filter(|(_, until)| *until > now));
        let texts: Vec<&[u8]> = texts.map(|(text, _)| text.as_bytes()).sample(&mut self.rng, LISTING_NODES);
        let share = LISTED_BYTES / texts.len().max(1);
        let shares: Vec<&[u8]> = texts.iter().map(|text| &text[..text.len().min(share)]).collect();
        listing::read(&shares)
    }

    /// The less busy of two random nodes other than `member`, of the region if it has any.
    fn choose(&mut self, now: u64, member: &Member, region: &str) -> Option<Member> {
        let mut two_others = |in_region: bool| {
            let is_candidate = |node: &Registered| {
                node.until > now && node.profile.takes_rooms && (!in_region || node.profile.region == region)
            };
            let nodes = self.nodes.iter().filter(|(name, node)| **name != member.node && is_candidate(node));
            nodes.map(|(name, node)| (name, node.incarnation, node.profile.load)).sample(&mut self.rng, 2)
        };
        let two = match two_others(true) {
            here if here.is_empty() => two_others(false),
            here => here,
        };
        let chosen = two.into_iter().min_by(|(_, _, one), (_, _, other)| one.total_cmp(other))?;
        Some(Member { node: chosen.0.clone(), incarnation: chosen.1 })
    }

    fn give(&mut self, room: RoomName, owner: &Member, epoch: u64) {
        if let Some(former) = self.rooms.insert(room.clone(), Owned { owner: owner.clone(), epoch })
            && former.owner.node != owner.node
            && let Some(node) = self.nodes.get_mut(&former.owner.node)
        {
            node.rooms.remove(&room);
        }
        if let Some(node) = self.nodes.get_mut(&owner.node) {
            node.rooms.insert(room);
        }
    }

    fn reassert(&mut self, now: u64, member: &Member, Lease { room, epoch }: Lease) -> Option<u64> {
        if !self.is_current(member) {
            return None;
        }
        if let Some(owned) = self.rooms.get_mut(&room)
            && owned.owner == *member
        {
            owned.epoch = owned.epoch.max(epoch);
            self.epoch = self.epoch.max(owned.epoch);
            return Some(owned.epoch);
        }
        // An owner that lives has been told that the room is its own, whatever it was before.
        let is_free = |owned: &Owned| owned.epoch < epoch && !self.is_alive(now, &owned.owner);
        if !self.rooms.get(&room).is_none_or(is_free) {
            return None;
        }
        self.give(room, member, epoch);
        self.epoch = self.epoch.max(epoch);
        Some(epoch)
    }

    fn release(&mut self, member: &Member, Release { lease, has_ended }: &Release) {
        if self.rooms.get(&lease.room).is_some_and(|owned| owned.owner == *member && owned.epoch == lease.epoch) {
            self.forget_room(member, &lease.room);
            if *has_ended {
                self.snapshots.remove(&lease.room);
            }
        }
    }

    fn forget_room(&mut self, owner: &Member, room: &RoomName) {
        if self.rooms.get(room).is_some_and(|owned| owned.owner == *owner) {
            self.rooms.remove(room);
        }
        if let Some(node) = self.nodes.get_mut(&owner.node) {
            node.rooms.remove(room);
        }
    }

    fn save(&mut self, update: SessionUpdate, now: u64, until: u64) {
        let SessionUpdate { socket_id, epoch, session } = update;
        if self.sessions.get(&socket_id).is_some_and(|kept| kept.until > now && kept.epoch > epoch) {
            return;
        }
        match session {
            Some(session) => drop(self.sessions.insert(socket_id, Kept { session, epoch, until })),
            None => drop(self.sessions.remove(&socket_id)),
        }
    }
}
