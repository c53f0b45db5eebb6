//! What a node asks of the store of the cluster, and what that answers.
//!
//! Each command is atomic: a script in Redis, or a call of [`Table::apply`](super::Table::apply). The store's clock is
//! its own: epochs and expiry count by it, so that nodes need no common clock.

use std::fmt;
use std::sync::Arc;

pub use super::listing::ListedRoom;
use crate::wire::signaling::RoomName;

/// A secret that the nodes of a cluster share: they sign tickets with it.
pub type Secret = [u8; 32];

/// A node, and which process has its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The name of the node, unique in its cluster.
    pub node: Arc<str>,
    /// Random for each process: whatever a former process of the same name owned is not this one's.
    pub incarnation: u64,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{:016x}", self.node, self.incarnation)
    }
}

/// What others know about a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Where clients reach it, as [`NodeConfig::url`](super::NodeConfig::url).
    pub url: String,
    /// Rooms are placed in the region of the player's node, if there is a place.
    pub region: String,
    /// How busy it is: 1 is a core's worth.
    pub load: f64,
    /// Whether it takes rooms: it has a URL, and is neither about to stop nor above its hard limit.
    pub takes_rooms: bool,
    /// Whether it stops once its rooms have ended.
    pub is_draining: bool,
    /// The number of its rooms.
    pub rooms: usize,
    /// The number of its players.
    pub players: usize,
}

/// A node, as the store knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeReport {
    /// The node.
    pub member: Member,
    /// What it has told.
    pub profile: Profile,
    /// When its lease was made, in milliseconds since 1970 by the store's clock.
    pub since: u64,
    /// When its lease ends, unless it is renewed.
    pub until: u64,
}

impl NodeReport {
    /// Returns in a word how it does, at this time of the store.
    #[must_use]
    pub fn state(&self, store_time: u64) -> &'static str {
        let Profile { url, takes_rooms, is_draining, .. } = &self.profile;
        match () {
            () if self.until <= store_time => "silent",
            () if *is_draining => "draining",
            () if url.is_empty() => "no address",
            () if *takes_rooms => "open",
            () => "busy",
        }
    }
}

/// The nodes of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nodes {
    /// Milliseconds since 1970 by the store's clock.
    pub store_time: u64,
    /// How many there are, with those whose lease has ended lately.
    pub count: usize,
    /// The nodes by name, at most [`LISTED_NODES`](crate::limits::LISTED_NODES).
    pub nodes: Vec<NodeReport>,
}

/// A lease of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The room.
    pub room: RoomName,
    /// Rises with each owner of the room: milliseconds since 1970 by the store's clock, or more.
    pub epoch: u64,
}

/// A session, as other nodes need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// Its room.
    pub room: RoomName,
    /// The subject of the player's bearer token.
    pub user_id: Option<String>,
    /// SHA-256 of the resume token, and of the one before it, which may be the client's last.
    pub tokens: [Option<[u8; 32]>; 2],
}

/// A room that was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What the node has saved.
    pub bytes: Vec<u8>,
    /// How long ago, in milliseconds by the store's clock.
    pub age_ms: u64,
}

/// A lease that is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The lease.
    pub lease: Lease,
    /// Whether the room has ended. Then its snapshot is forgotten.
    pub has_ended: bool,
}

/// What becomes of a session in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUpdate {
    /// Its socket ID.
    pub socket_id: String,
    /// The epoch of the room's owner. What was saved with a newer one stays.
    pub epoch: u64,
    /// The session; `None` once it has ended.
    pub session: Option<StoredSession>,
}

/// A command for the store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Extends the lease of a node, or registers it. Answered by [`Reply::Renewed`].
    Renew {
        /// The node.
        member: Member,
        /// What to tell others.
        profile: Profile,
        /// When the lease ends, in milliseconds from now.
        ttl_ms: u64,
        /// Whether to take the name from another process. A new process does, because the one before it may have been
        /// killed.
        takes_over: bool,
        /// The secret to use if the cluster has none.
        secret: Secret,
    },
    /// Finds the owner of a room, or makes one. Answered by [`Reply::Acquired`].
    Acquire {
        /// The room.
        room: RoomName,
        /// The node that asks. If it is the owner already, it gets a newer epoch: it asks because it does not know of
        /// the lease.
        member: Member,
        /// Whether that node takes a room without an owner. Otherwise the less busy of two others does, and this one
        /// if there is none.
        keeps: bool,
        /// Whether that node takes it if no other does.
        falls_back: bool,
        /// Others are looked for in this region first.
        region: String,
        /// How long rooms without an owner can't be made after the store lost its data, in milliseconds.
        grace_ms: u64,
    },
    /// Claims rooms that the node had before it may have lost its lease. Answered by [`Reply::Reasserted`].
    Reassert {
        /// The node.
        member: Member,
        /// The leases, at most [`LEASES_PER_COMMAND`](crate::limits::LEASES_PER_COMMAND).
        leases: Vec<Lease>,
    },
    /// Gives up rooms, if these are their leases still. Answered by [`Reply::Done`].
    Release {
        /// The node.
        member: Member,
        /// The leases, at most [`LEASES_PER_COMMAND`](crate::limits::LEASES_PER_COMMAND).
        leases: Vec<Release>,
    },
    /// Gives a room to the less busy of two other nodes, with its snapshot. Answered by [`Reply::Acquired`]: the
    /// new owner, [`Placement::Full`] if no other node takes it, or [`Placement::Recovering`] if this is not its lease.
    Move {
        /// The node that has it.
        member: Member,
        /// Its lease.
        lease: Lease,
        /// Others are looked for in this region first.
        region: String,
        /// The saved room.
        snapshot: Vec<u8>,
        /// How long that is kept, in milliseconds.
        ttl_ms: u64,
    },
    /// Keeps snapshots of rooms, if these are their leases still. Answered by [`Reply::Done`].
    SaveSnapshots {
        /// The node.
        member: Member,
        /// One, or several of [`SNAPSHOT_BYTES`](crate::limits::SNAPSHOT_BYTES) together.
        snapshots: Vec<(Lease, Vec<u8>)>,
        /// How long they are kept, in milliseconds.
        ttl_ms: u64,
    },
    /// Looks up the snapshot of a room. Answered by [`Reply::Snapshot`].
    FindSnapshot {
        /// The room.
        room: RoomName,
    },
    /// Gives up the name of the node and all of its rooms. Answered by [`Reply::Done`].
    Leave {
        /// The node.
        member: Member,
    },
    /// Keeps sessions, or forgets those that have ended. Answered by [`Reply::Done`].
    SaveSessions {
        /// At most [`LEASES_PER_COMMAND`](crate::limits::LEASES_PER_COMMAND).
        updates: Vec<SessionUpdate>,
        /// How long they are kept, in milliseconds.
        ttl_ms: u64,
    },
    /// Looks up a session. Answered by [`Reply::Session`].
    FindSession {
        /// Its socket ID.
        socket_id: String,
    },
    /// Replaces the rooms that the node lists. They are forgotten with its lease. Answered by [`Reply::Done`].
    Publish {
        /// The node.
        member: Member,
        /// At most [`LISTED_ROOMS`](crate::limits::LISTED_ROOMS). Those that exceed
        /// [`LISTING_BYTES`](crate::limits::LISTING_BYTES) are left out.
        rooms: Vec<ListedRoom>,
        /// As of the lease.
        ttl_ms: u64,
    },
    /// Looks up the rooms that other nodes list. Answered by [`Reply::Rooms`].
    ListRooms {
        /// The node that asks.
        member: Member,
    },
    /// Looks up the nodes. Answered by [`Reply::Nodes`].
    ListNodes,
}

/// A lease of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewal {
    /// It lasts. The number is when it was made, in milliseconds since 1970 by the store's clock. If it is not the one
    /// that the node knows, the lease had lapsed or the store has lost its data, and rooms may be lost.
    Since(u64),
    /// Another process has the name.
    Taken,
}

/// Where a room lives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// At a node.
    At {
        /// The owner.
        owner: Member,
        /// Where clients reach it, as [`Profile::url`].
        url: String,
        /// The epoch of the owner's lease.
        epoch: u64,
        /// Whether something is saved of the room.
        has_snapshot: bool,
    },
    /// The store has lost its data, and waits for the owners of rooms to claim them. Ask again.
    Recovering,
    /// No node takes a room.
    Full,
}

/// An answer of the store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Reply {
    /// To [`Command::Renew`].
    Renewed {
        /// What became of the lease.
        renewal: Renewal,
        /// The secret of the cluster.
        secret: Secret,
        /// Milliseconds since 1970 by the store's clock, or the newest epoch of any room, if that is more.
        store_time: u64,
    },
    /// To [`Command::Acquire`] and [`Command::Move`].
    Acquired(Placement),
    /// To [`Command::Reassert`]: the epoch of each lease that is the node's, in their order.
    Reasserted(Vec<Option<u64>>),
    /// To [`Command::FindSession`].
    Session(Option<StoredSession>),
    /// To [`Command::FindSnapshot`].
    Snapshot(Option<Snapshot>),
    /// To [`Command::ListRooms`]: by name, at most [`LISTED_ROOMS`](crate::limits::LISTED_ROOMS). If there are more,
    /// they are of some nodes, a share of each.
    Rooms(Vec<ListedRoom>),
    /// To [`Command::ListNodes`].
    Nodes(Nodes),
    /// The command was carried out.
    Done,
    /// To any command: the store can't carry it out, or has done a part of it only.
    Refused,
}
