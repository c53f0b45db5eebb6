//! A node among others: which rooms are its own, and where the others are. Sans-IO.
//!
//! Rooms have leases in a store that the nodes share ([`store`]): Redis, or a [`Table`] in memory. A [`Cluster`]
//! decides what to ask, is told of time and answers, and is polled for requests and events. Nothing waits for the
//! store: rooms that are played go on without it.
//!
//! - **Epochs are fences, not locks.** A lease has an epoch, which rises with each owner. What an owner writes names
//!   its epoch, and never replaces what was written with a newer one.
//! - **A node keeps its rooms until it learns that another has them.** If the store can't be reached they go on. Once
//!   it can, the node claims them again before it trusts its leases, also where an answer was lost: the store may have
//!   executed what it had not answered.
//! - **A node that may have lost its lease verifies before it serves**, as after a pause of the process.
//! - **A store without data makes no rooms for the length of a lease**, so that the owners of rooms can claim them.

mod directory;
mod known;
pub(crate) mod listing;
mod saving;
pub mod store;
mod table;
mod ticket;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

pub use self::directory::{About, MOVES, Move};
use self::directory::{Asked, Directory};
use self::known::Known;
use self::saving::{Saved, Saving};
use self::store::{
    Command, Lease, Member, Placement, Profile, Release, Renewal, Reply, Secret, SessionUpdate, Snapshot, StoredSession,
};
pub use self::table::Table;
use self::ticket::Inspector;
use crate::limits::{
    LEASE_TTL, LEASES_PER_COMMAND, LOOKUP_TIMEOUT, SESSION_KEPT, STORE_REQUESTS, STORE_TIMEOUT, UNSAVED_SESSIONS,
};
use crate::wire::signaling::RoomName;

/// How often a lease is renewed while it lasts.
const RENEWALS_PER_LEASE: u32 = 4;
/// How long a room may be without a game after its lease was granted: a hook may decide later.
const UNUSED_LEASE: Duration = Duration::from_secs(20);
/// How long a lookup waits before it asks again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// What a room that was placed here lately adds to the load, which grows only when its players have come.
const PLACED_LOAD: f64 = 0.02;
const PLACED_FOR: Duration = Duration::from_secs(20);

/// A node of a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeConfig {
    /// The name of the node, unique in its cluster.
    pub name: String,
    /// Where clients reach it, as `ws://host:port` or `wss://host:port`, without a path. A query may follow; if it
    /// stands alone, all nodes are reached where the client has reached this one. A node whose URL is empty gets no
    /// rooms, see [`Cluster::handle_url`].
    pub url: String,
    /// Rooms are placed in the region of the player's node, if there is a place.
    pub region: String,
    /// Up to this load (1 is a core's worth) the node takes the rooms that it is asked for.
    pub soft_load: f64,
    /// From this load on no room is placed on it.
    pub hard_load: f64,
    /// How long a room stays with a node that is not heard of.
    pub ttl: Duration,
}

impl NodeConfig {
    /// Returns a node without a region, whose limits are 0.6 and 0.9 of a core, with [`LEASE_TTL`].
    #[must_use]
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> NodeConfig {
        NodeConfig {
            name: name.into(),
            url: url.into(),
            region: String::new(),
            soft_load: 0.6,
            hard_load: 0.9,
            ttl: LEASE_TTL,
        }
    }
}

/// A command for the store, and the number by which its answer is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The number.
    pub id: u64,
    /// The command.
    pub command: Command,
}

/// Where a room lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// Here.
    Here,
    /// At another node.
    There {
        /// The node.
        owner: Member,
        /// Where clients reach it, as [`Profile::url`].
        url: String,
        /// The epoch of its lease; 0 if something is saved of the room, for which the owner has to ask the store.
        epoch: u64,
    },
}

/// Why a room can't be located.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlocated {
    /// The store can't be reached, or does not answer in time.
    Unavailable,
    /// No node takes a room.
    Full,
}

/// What a [`Cluster`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A room that was asked for is located, or not.
    Located(RoomName, Result<Location, Unlocated>),
    /// A session that was asked for; `None` if there is none, or the store can't be asked.
    Session(String, Option<StoredSession>),
    /// A room was [moved](Cluster::move_room) to another node. `Err` if it is this node's still, or may be.
    Moved(RoomName, Result<Location, Unlocated>),
    /// Another node has a room that was this one's.
    Lost(RoomName),
    /// Another process has the name of this node, and with it all of its rooms.
    Displaced,
    /// The answer to [`Cluster::inquire`] has come, or none will.
    Inquired,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Whether the store answers.
    pub is_connected: bool,
    /// Leases of rooms held.
    pub leases: usize,
    /// Lookups that wait for an answer.
    pub lookups: usize,
    /// Requests answered.
    pub answered: u64,
    /// Requests that failed or were not answered in time.
    pub failed: u64,
    /// Lookups by result: here, at another node, unavailable, full.
    pub located: [u64; 4],
    /// Rooms that were lost to other nodes.
    pub lost: u64,
    /// Rooms that were moved to other nodes.
    pub moved: u64,
    /// Saved rooms that the store has not got.
    pub dropped_snapshots: u64,
    /// Times at which the node had to verify its leases, because they may have lapsed.
    pub lapses: u64,
    /// Tickets that were accepted.
    pub tickets: u64,
    /// Tickets that were forged, had expired, or were used before.
    pub refused_tickets: [u64; 3],
    /// Sessions that were not saved because too many waited.
    pub dropped_sessions: u64,
}

#[derive(Debug)]
struct Held {
    epoch: u64,
    has_game: bool,
    /// The snapshot of the room, until its game is made.
    saved: Saved,
    /// Whether the store may have a command by which the room is moved. A newer epoch makes that void.
    may_move: bool,
}

#[derive(Debug)]
struct Lookup {
    until: Instant,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// To be asked for, now or later.
    Waiting,
    Asked,
    /// The room is this node's if its lease is verified.
    Verifying,
    /// It is, and its snapshot is looked up.
    Fetching,
}

/// A request that has not been answered.
#[derive(Debug)]
enum Sent {
    Renew,
    Acquire { room: RoomName, falls_back: bool },
    Reassert(Vec<RoomName>),
    Release(Vec<Release>),
    Move(RoomName),
    SaveSnapshots(usize),
    FindSnapshot(RoomName),
    Save(Vec<SessionUpdate>),
    Find(String),
    Directory(Asked),
}

#[derive(Debug)]
struct Unanswered {
    sent: Sent,
    at: Instant,
    /// [`Cluster::lapses`] at that time: an answer about leases from before a lapse proves nothing.
    lapses: u64,
}

/// Whether the store answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Unknown,
    Up,
    Down,
}

/// A node among others.
#[derive(Debug)]
pub struct Cluster {
    config: NodeConfig,
    member: Member,
    rng: ChaCha20Rng,
    secret: Secret,
    inspector: Inspector,
    reach: Reach,
    is_draining: bool,
    is_displaced: bool,
    load: f64,
    players: usize,
    /// When rooms were placed here.
    placed: VecDeque<Instant>,
    /// When the node was last told of the time.
    told: Instant,
    /// When the lease of the node was made, by the store's clock; `None` until it was. Then the secret is that of the
    /// cluster.
    since: Option<u64>,
    /// Until when the lease of the node lasts at least.
    lease_until: Option<Instant>,
    next_renewal: Instant,
    is_renewing: bool,
    /// How often leases had to be verified.
    lapses: u64,
    held: BTreeMap<RoomName, Held>,
    /// Leases that may have no game yet, in the order of the times until when they may.
    unused: VecDeque<(Instant, RoomName)>,
    /// Those of `held` that may be lost.
    unverified: BTreeSet<RoomName>,
    is_reasserting: bool,
    /// A ticket with this epoch or an older one may be for a lease that was given up or lost since.
    ticket_floor: u64,
    lookups: BTreeMap<RoomName, Lookup>,
    /// The rooms of lookups that wait, in order.
    to_ask: VecDeque<RoomName>,
    /// Those that are asked for again later, and all by when they end.
    later: VecDeque<(Instant, RoomName)>,
    expiries: VecDeque<(Instant, RoomName)>,
    /// Leases to give up, and those whose end has yet to be answered.
    to_release: BTreeMap<RoomName, Release>,
    releasing: BTreeSet<RoomName>,
    unsaved: BTreeMap<String, SessionUpdate>,
    is_saving: bool,
    finding: VecDeque<String>,
    saving: Saving,
    known: Known,
    directory: Directory,
    unanswered: BTreeMap<u64, Unanswered>,
    last_id: u64,
    events: VecDeque<Event>,
    figures: Figures,
}

impl Cluster {
    /// Returns a node that asks to be registered at once. The seed is from the operating system's random numbers, also
    /// for a node that was known before.
    #[must_use]
    pub fn new(config: NodeConfig, seed: [u8; 32], now: Instant) -> Cluster {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let member = Member { node: Arc::from(config.name.as_str()), incarnation: rng.next_u64() };
        Cluster {
            config,
            member,
            rng,
            secret,
            inspector: Inspector::default(),
            reach: Reach::Unknown,
            is_draining: false,
            is_displaced: false,
            load: 0.0,
            players: 0,
            placed: VecDeque::new(),
            told: now,
            since: None,
            lease_until: None,
            next_renewal: now,
            is_renewing: false,
            lapses: 0,
            held: BTreeMap::new(),
            unused: VecDeque::new(),
            unverified: BTreeSet::new(),
            is_reasserting: false,
            ticket_floor: 0,
            lookups: BTreeMap::new(),
            to_ask: VecDeque::new(),
            later: VecDeque::new(),
            expiries: VecDeque::new(),
            to_release: BTreeMap::new(),
            releasing: BTreeSet::new(),
            unsaved: BTreeMap::new(),
            is_saving: false,
            finding: VecDeque::new(),
            saving: Saving::default(),
            known: Known::default(),
            directory: Directory::default(),
            unanswered: BTreeMap::new(),
            last_id: 0,
            events: VecDeque::new(),
            figures: Figures::default(),
        }
    }

    /// Returns the node.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Returns whether another process has the name of this node. It has no rooms, and gets none.
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        self.is_displaced
    }

    /// Returns what is counted.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let (is_connected, leases) = (self.is_connected(), self.rooms());
        Figures { is_connected, leases, lookups: self.lookups.len(), lapses: self.lapses, ..self.figures }
    }

    /// Returns whether the store answers.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.reach == Reach::Up
    }

    /// The number of leases of rooms. Those of pools cost a node next to nothing.
    fn rooms(&self) -> usize {
        self.held.keys().filter(|room| !room.is_pool()).count()
    }

    /// Tells how busy the node is (1 is a core's worth), and how many players it has.
    pub fn handle_load(&mut self, load: f64, players: usize) {
        (self.load, self.players) = (load, players);
    }

    /// Clients reach the node here from now on, as [`NodeConfig::url`] says.
    pub fn handle_url(&mut self, now: Instant, url: String) {
        self.config.url = url;
        self.next_renewal = now;
    }

    /// No room is placed here from now on.
    pub fn handle_drain(&mut self, now: Instant) {
        self.is_draining = true;
        self.next_renewal = now;
    }

    /// The clock of [`Instant`] stood still, as it does while a machine is suspended.
    pub fn handle_suspension(&mut self, now: Instant) {
        self.note_time(now);
        if self.lease_until.is_some() {
            self.lapse(now);
        }
        self.reach = Reach::Unknown;
    }

    /// Asks where a room lives. The answer comes at once, or in an [`Event::Located`].
    pub fn locate(&mut self, now: Instant, room: &RoomName) -> Option<Result<Location, Unlocated>> {
        self.note_time(now);
        if self.is_displaced {
            return Some(self.count(Err(Unlocated::Unavailable)));
        }
        let is_held = self.held.contains_key(room);
        let is_down = self.reach == Reach::Down;
        let needs_saved = self.needs_saved(room);
        if is_held && !needs_saved && (is_down || !self.unverified.contains(room)) {
            return Some(self.count(Ok(Location::Here)));
        }
        if is_down {
            return Some(self.count(self.known_at(room)));
        }
        if !self.lookups.contains_key(room) {
            let (until, step) = (now + LOOKUP_TIMEOUT, if is_held { Step::Verifying } else { Step::Waiting });
            self.lookups.insert(room.clone(), Lookup { until, step });
            self.expiries.push_back((until, room.clone()));
            if step == Step::Waiting {
                self.to_ask.push_back(room.clone());
            } else if !self.unverified.contains(room) {
                self.conclude_here(room.clone());
            }
        }
        None
    }

    /// Asks for a session of any node. The answer comes in an [`Event::Session`].
    pub fn find_session(&mut self, socket_id: &str) {
        if self.reach == Reach::Down {
            self.events.push_back(Event::Session(socket_id.to_owned(), None));
        } else {
            self.finding.push_back(socket_id.to_owned());
        }
    }

    /// Keeps a session where other nodes find it, or forgets it. A store that can't be reached gets it later.
    pub fn save_session(&mut self, update: SessionUpdate) {
        if self.unsaved.len() >= UNSAVED_SESSIONS && !self.unsaved.contains_key(&update.socket_id) {
            self.figures.dropped_sessions += 1;
            return;
        }
        self.unsaved.insert(update.socket_id.clone(), update);
    }

    /// Takes a room that was located here into use. Returns the epoch of its lease, and the snapshot of the room;
    /// `None` if the node has it no more.
    pub fn host(&mut self, room: &RoomName) -> Option<(u64, Option<Snapshot>)> {
        let held = self.held.get_mut(room)?;
        held.has_game = true;
        Some((held.epoch, std::mem::take(&mut held.saved).into_found()))
    }

    /// Returns the epoch of a lease that the node has.
    #[must_use]
    pub fn epoch(&self, room: &RoomName) -> Option<u64> {
        self.held.get(room).map(|held| held.epoch)
    }

    /// Gives up a room. If it had a game, its snapshot is forgotten.
    pub fn release(&mut self, room: &RoomName) {
        self.unverified.remove(room);
        self.saving.forget(room);
        if let Some(held) = self.held.remove(room) {
            self.ticket_floor = self.ticket_floor.max(held.epoch);
            let lease = Lease { room: room.clone(), epoch: held.epoch };
            self.to_release.insert(room.clone(), Release { lease, has_ended: held.has_game });
        }
    }

    /// Returns the command by which the node leaves its cluster.
    #[must_use]
    pub fn leave(&self) -> Command {
        Command::Leave { member: self.member.clone() }
    }

    /// Handles the answer to a request, or its failure. An answer that comes too late counts as one that never came.
    pub fn handle_reply(&mut self, now: Instant, id: u64, reply: Option<Reply>) {
        self.note_time(now);
        let Some(Unanswered { sent, at, lapses }) = self.unanswered.remove(&id) else { return };
        match reply {
            Some(Reply::Refused) => self.take_refusal(now, sent),
            Some(reply) => self.take(now, at, lapses == self.lapses, sent, reply),
            None => self.fail(now, sent),
        }
    }

    /// Handles the deadline of [`Cluster::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        self.note_time(now);
        while let Some((&id, unanswered)) = self.unanswered.first_key_value()
            && unanswered.at + STORE_TIMEOUT <= now
        {
            self.handle_reply(now, id, None);
        }
        while let Some((_, room)) = self.later.pop_front_if(|(from, _)| *from <= now) {
            self.to_ask.push_back(room);
        }
        while let Some((until, room)) = self.expiries.pop_front_if(|(until, _)| *until <= now) {
            if self.lookups.get(&room).is_some_and(|lookup| lookup.until == until) {
                self.conclude(room, Err(Unlocated::Unavailable));
            }
        }
        while let Some((_, room)) = self.unused.pop_front_if(|(until, _)| *until <= now) {
            if self.held.get(&room).is_some_and(|held| !held.has_game) {
                self.release(&room);
            }
        }
    }

    /// Returns when to call [`Cluster::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = |queue: &VecDeque<(Instant, RoomName)>| queue.front().map(|&(at, _)| at);
        let answer = self.unanswered.first_key_value().map(|(_, unanswered)| unanswered.at + STORE_TIMEOUT);
        let renewal = (!self.is_renewing && !self.is_displaced).then_some(self.next_renewal);
        let of_rooms = [&self.later, &self.expiries, &self.unused].map(first);
        [answer, renewal, self.lease_until].into_iter().chain(of_rooms).flatten().min()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns the next request for the store. Poll it after each call, and at [`Cluster::poll_timeout`].
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        self.note_time(now);
        if self.is_displaced {
            return None;
        }
        if !self.is_renewing && self.next_renewal <= now {
            return Some(self.renew(now));
        }
        let is_full = self.unanswered.len() >= STORE_REQUESTS;
        if is_full || self.reach == Reach::Down || self.lease_until.is_none() {
            return None;
        }
        let next = self.next_reassertion().or_else(|| self.next_move()).or_else(|| self.next_release());
        let next = next.or_else(|| self.next_lookup()).or_else(|| self.next_fetch());
        let next = next.or_else(|| self.next_session()).or_else(|| self.next_snapshots());
        let (command, sent) = next.or_else(|| self.directory.next(&self.member, self.config.ttl))?;
        Some(self.send(now, command, sent))
    }

    fn send(&mut self, now: Instant, command: Command, sent: Sent) -> Request {
        self.last_id += 1;
        self.unanswered.insert(self.last_id, Unanswered { sent, at: now, lapses: self.lapses });
        Request { id: self.last_id, command }
    }

    fn load(&self) -> f64 {
        self.load + PLACED_LOAD * self.placed.len() as f64
    }

    /// Whether it may get rooms at all, however busy it is.
    fn takes_rooms(&self) -> bool {
        !self.is_draining && !self.config.url.is_empty()
    }

    fn renew(&mut self, now: Instant) -> Request {
        while self.placed.front().is_some_and(|&at| at + PLACED_FOR <= now) {
            self.placed.pop_front();
        }
        let load = self.load();
        let NodeConfig { url, region, hard_load, ttl, .. } = &self.config;
        let profile = Profile {
            url: url.clone(),
            region: region.clone(),
            load,
            takes_rooms: self.takes_rooms() && load < *hard_load,
            is_draining: self.is_draining,
            rooms: self.rooms(),
            players: self.players,
        };
        let (member, ttl, secret) = (self.member.clone(), *ttl, self.secret);
        self.is_renewing = true;
        self.next_renewal = now + ttl / RENEWALS_PER_LEASE;
        let takes_over = self.since.is_none();
        let ttl_ms = millis(ttl);
        self.send(now, Command::Renew { member, profile, ttl_ms, takes_over, secret }, Sent::Renew)
    }

    fn next_reassertion(&mut self) -> Option<(Command, Sent)> {
        if self.is_reasserting || self.unverified.is_empty() {
            return None;
        }
        let lease = |room: &RoomName| {
            let held = self.held.get(room)?;
            Some(Lease { room: room.clone(), epoch: held.epoch + u64::from(held.may_move) })
        };
        let leases: Vec<Lease> = self.unverified.iter().filter_map(lease).take(LEASES_PER_COMMAND).collect();
        let rooms = leases.iter().map(|lease| lease.room.clone()).collect();
        self.is_reasserting = true;
        Some((Command::Reassert { member: self.member.clone(), leases }, Sent::Reassert(rooms)))
    }

    fn next_release(&mut self) -> Option<(Command, Sent)> {
        let mut leases = Vec::new();
        while leases.len() < LEASES_PER_COMMAND
            && let Some((room, release)) = self.to_release.pop_first()
        {
            self.releasing.insert(room);
            leases.push(release);
        }
        let sent = Sent::Release(leases.clone());
        (!leases.is_empty()).then(|| (Command::Release { member: self.member.clone(), leases }, sent))
    }

    fn next_lookup(&mut self) -> Option<(Command, Sent)> {
        let room = loop {
            let room = self.to_ask.pop_front()?;
            let Some(lookup) = self.lookups.get_mut(&room).filter(|lookup| lookup.step == Step::Waiting) else {
                continue;
            };
            // Asked for once the end of the former lease is answered: the room's next game has a newer one.
            if !self.releasing.contains(&room) {
                lookup.step = Step::Asked;
                break room;
            }
        };
        let load = self.load();
        let falls_back = self.takes_rooms() && load < self.config.hard_load;
        let command = Command::Acquire {
            room: room.clone(),
            member: self.member.clone(),
            keeps: self.takes_rooms() && load < self.config.soft_load,
            falls_back,
            region: self.config.region.clone(),
            grace_ms: millis(self.config.ttl),
        };
        Some((command, Sent::Acquire { room, falls_back }))
    }

    fn next_session(&mut self) -> Option<(Command, Sent)> {
        if let Some(socket_id) = self.finding.pop_front() {
            return Some((Command::FindSession { socket_id: socket_id.clone() }, Sent::Find(socket_id)));
        }
        if self.is_saving || self.unsaved.is_empty() {
            return None;
        }
        let mut updates = Vec::new();
        while updates.len() < LEASES_PER_COMMAND
            && let Some((_, update)) = self.unsaved.pop_first()
        {
            updates.push(update);
        }
        self.is_saving = true;
        let sent = Sent::Save(updates.clone());
        Some((Command::SaveSessions { updates, ttl_ms: millis(SESSION_KEPT) }, sent))
    }

    /// Notices that the lease of the node has lapsed, and that the process stood still.
    fn note_time(&mut self, now: Instant) {
        if self.lease_until.is_some_and(|until| until <= now) {
            self.lapse(now);
        }
        // Renewals are more frequent.
        if self.told + self.config.ttl / 2 <= now {
            self.reach = Reach::Unknown;
        }
        self.told = self.told.max(now);
        if self.reach == Reach::Up {
            self.known.forget_before(now.checked_sub(self.config.ttl).unwrap_or(now));
        }
    }

    fn lapse(&mut self, now: Instant) {
        self.lease_until = None;
        self.distrust();
        self.next_renewal = self.next_renewal.min(now);
    }

    /// Every lease has to be verified.
    fn distrust(&mut self) {
        self.lapses += 1;
        self.unverified = self.held.keys().cloned().collect();
    }

    fn grant(&mut self, now: Instant, room: RoomName, epoch: u64, has_snapshot: bool) {
        if !room.is_pool() {
            self.placed.push_back(now);
        }
        self.unused.push_back((now + UNUSED_LEASE, room.clone()));
        // A lease that is about to be given up is given up with an older epoch, which has no effect any more.
        self.to_release.remove(&room);
        self.known.forget(&room);
        let saved = if has_snapshot { Saved::Stored } else { Saved::Nothing };
        let held = self.held.entry(room).or_insert(Held { epoch, has_game: false, saved, may_move: false });
        held.epoch = held.epoch.max(epoch);
    }

    fn take(&mut self, now: Instant, at: Instant, is_current: bool, sent: Sent, reply: Reply) {
        self.figures.answered += 1;
        self.reach = Reach::Up;
        match (sent, reply) {
            (Sent::Renew, Reply::Renewed { renewal, secret, store_time }) => {
                self.take_renewal(now, at, renewal, secret, store_time);
            }
            // The node would take the room itself, but the store knows of no lease of the node.
            (Sent::Acquire { room, falls_back: true }, Reply::Acquired(Placement::Full)) => {
                self.lapse(now);
                self.look_up_later(now, room);
            }
            (Sent::Acquire { room, .. }, Reply::Acquired(placement)) => {
                self.take_placement(now, is_current, room, placement);
            }
            (Sent::Reassert(rooms), Reply::Reasserted(epochs)) if rooms.len() == epochs.len() => {
                self.is_reasserting = false;
                if is_current {
                    rooms.into_iter().zip(epochs).for_each(|(room, epoch)| self.take_verdict(room, epoch));
                }
            }
            (Sent::Release(leases), Reply::Done) => leases.iter().for_each(|of| self.end_release(&of.lease.room)),
            (Sent::Move(room), Reply::Acquired(placement)) => self.take_move(room, placement),
            (Sent::SaveSnapshots(bytes), Reply::Done) => self.saving.end(bytes),
            (Sent::FindSnapshot(room), Reply::Snapshot(found)) => self.take_snapshot(is_current, room, found),
            (Sent::Save(_), Reply::Done) => self.is_saving = false,
            (Sent::Find(socket_id), Reply::Session(session)) => {
                self.events.push_back(Event::Session(socket_id, session));
            }
            (Sent::Directory(asked), reply) => self.take_asked(now, asked, Some(reply)),
            (sent, _) => self.fail(now, sent),
        }
    }

    fn take_renewal(&mut self, now: Instant, at: Instant, renewal: Renewal, secret: Secret, store_time: u64) {
        self.is_renewing = false;
        let Renewal::Since(since) = renewal else {
            self.displace();
            return;
        };
        let is_known = self.since == Some(since);
        if !is_known && self.since.is_some() {
            self.distrust();
        }
        self.directory.handle_renewal(!is_known && self.since.is_some());
        if !is_known || self.lease_until.is_none() {
            self.ticket_floor = self.ticket_floor.max(store_time);
        }
        self.since = Some(since);
        self.secret = secret;
        // It lasts from when the store had the request, which was after it was sent.
        self.lease_until = Some(at + self.config.ttl);
        self.note_time(now);
    }

    fn displace(&mut self) {
        self.is_displaced = true;
        self.events.push_back(Event::Displaced);
        let rooms: Vec<RoomName> = self.lookups.keys().cloned().collect();
        rooms.into_iter().for_each(|room| self.conclude(room, Err(Unlocated::Unavailable)));
        let rooms: Vec<RoomName> = self.held.keys().cloned().collect();
        rooms.into_iter().for_each(|room| self.lose(room));
    }

    fn take_placement(&mut self, now: Instant, is_current: bool, room: RoomName, placement: Placement) {
        match placement {
            Placement::At { owner, epoch, has_snapshot, .. } if owner == self.member => {
                if is_current {
                    self.grant(now, room.clone(), epoch, has_snapshot);
                    self.conclude_here(room);
                } else {
                    self.look_up_again(room);
                }
            }
            Placement::At { owner, url, epoch, has_snapshot } => {
                let at = there(owner, url, epoch, has_snapshot);
                self.known.note(now, &room, &at);
                self.conclude(room, Ok(at));
            }
            Placement::Recovering => self.look_up_later(now, room),
            Placement::Full => self.conclude(room, Err(Unlocated::Full)),
        }
    }

    fn look_up_again(&mut self, room: RoomName) {
        if let Some(lookup) = self.lookups.get_mut(&room) {
            lookup.step = Step::Waiting;
            self.to_ask.push_back(room);
        }
    }

    fn look_up_later(&mut self, now: Instant, room: RoomName) {
        if let Some(lookup) = self.lookups.get_mut(&room) {
            lookup.step = Step::Waiting;
            self.later.push_back((now + RETRY_INTERVAL, room));
        }
    }

    fn take_verdict(&mut self, room: RoomName, epoch: Option<u64>) {
        // Given up meanwhile.
        if !self.unverified.remove(&room) {
            return;
        }
        match (epoch, self.held.get_mut(&room)) {
            // With a newer lease than it knows another node had the room meanwhile, and has given it back.
            (Some(epoch), Some(held)) if !held.has_game || epoch <= held.epoch + u64::from(held.may_move) => {
                (held.epoch, held.may_move) = (epoch, false);
                self.conclude_here(room);
            }
            _ => {
                self.lose(room.clone());
                self.look_up_again(room);
            }
        }
    }

    fn lose(&mut self, room: RoomName) {
        self.unverified.remove(&room);
        self.saving.forget(&room);
        if let Some(held) = self.held.remove(&room) {
            self.ticket_floor = self.ticket_floor.max(held.epoch);
        }
        self.figures.lost += 1;
        self.events.push_back(Event::Lost(room));
    }

    fn end_release(&mut self, room: &RoomName) {
        self.releasing.remove(room);
        if self.lookups.get(room).is_some_and(|lookup| lookup.step == Step::Waiting) {
            self.to_ask.push_back(room.clone());
        }
    }

    /// A request has failed, or was not answered in time. What it did is unknown.
    fn fail(&mut self, now: Instant, sent: Sent) {
        self.figures.failed += 1;
        // Leases and sessions do not depend on it, and the next renewal shows whether the store answers.
        if let Sent::Directory(asked) = sent {
            self.take_asked(now, asked, None);
            return;
        }
        self.reach = Reach::Down;
        match sent {
            Sent::Renew => self.is_renewing = false,
            Sent::Acquire { .. } => {}
            Sent::Reassert(_) => self.is_reasserting = false,
            Sent::Release(leases) => {
                for release in leases {
                    let room = release.lease.room.clone();
                    self.end_release(&room);
                    if !self.held.contains_key(&room) {
                        self.to_release.entry(room).or_insert(release);
                    }
                }
            }
            Sent::Move(room) => self.fail_move(room),
            Sent::SaveSnapshots(bytes) => {
                self.saving.end(bytes);
                self.figures.dropped_snapshots += 1;
            }
            Sent::FindSnapshot(_) => self.saving.is_finding = false,
            Sent::Save(updates) => {
                self.is_saving = false;
                for update in updates {
                    self.unsaved.entry(update.socket_id.clone()).or_insert(update);
                }
            }
            Sent::Find(socket_id) => self.events.push_back(Event::Session(socket_id, None)),
            Sent::Directory(_) => {}
        }
        self.distrust();
        // Rooms of this node go on without the store.
        let lookups: Vec<(RoomName, Step)> = self.lookups.iter().map(|(room, of)| (room.clone(), of.step)).collect();
        for (room, step) in lookups {
            let is_own = step == Step::Verifying && self.held.contains_key(&room) && !self.needs_saved(&room);
            let at = if is_own { Ok(Location::Here) } else { self.known_at(&room) };
            self.conclude(room, at);
        }
        self.give_up_move();
        for socket_id in std::mem::take(&mut self.finding) {
            self.events.push_back(Event::Session(socket_id, None));
        }
        self.next_renewal = self.next_renewal.max(now);
    }

    /// Ends a lookup, if there is one of the room.
    fn conclude(&mut self, room: RoomName, at: Result<Location, Unlocated>) {
        if self.lookups.remove(&room).is_some() {
            let at = self.count(at);
            self.events.push_back(Event::Located(room, at));
        }
    }

    fn count(&mut self, at: Result<Location, Unlocated>) -> Result<Location, Unlocated> {
        let index = match &at {
            Ok(Location::Here) => 0,
            Ok(Location::There { .. }) => 1,
            Err(Unlocated::Unavailable) => 2,
            Err(Unlocated::Full) => 3,
        };
        self.figures.located[index] += 1;
        at
    }
}

fn there(owner: Member, url: String, epoch: u64, has_snapshot: bool) -> Location {
    Location::There { owner, url, epoch: if has_snapshot { 0 } else { epoch } }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
