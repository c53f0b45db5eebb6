//! Seeking: pairs two players who wait in the same pool, that of a context, the nearest addresses first.
//!
//! Others may come for [`limits::SEEK_GATHERING`]; then a player gets the nearest of those who wait, or waits on where
//! there is nobody. So of those with that time behind them at most one waits per pool, and the next to come is paired
//! with that player or a nearer one.
//!
//! In a cluster a pool is located as a room is, and its node has the lease while somebody waits there; players who seek
//! at other nodes are redirected. Where the store can't be reached, players wait at the node that they have reached,
//! without a lease, and the pool is located again once it can.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use rand::Rng;
use serde_json::json;

use super::connection::Stage;
use super::{ConnectionKey, Server};
use crate::game::Game;
use crate::limits;
use crate::rate::network;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::{self, Fault, ReplyTo, RoomName, SeekRequest};

/// The beginning of the names of rooms for pairs.
const PREFIX: &str = "seek-";

/// The event by which a page, which sees no pings, knows that its player still waits.
const WAITING: &str = "eventSeek";

/// A request to seek that the server has checked.
pub(super) struct Asked {
    pub(super) pool: RoomName,
    pub(super) reply_to: ReplyTo,
}

/// A request to seek that waits for another.
pub(super) struct Seeking {
    key: ConnectionKey,
    asked: Asked,
    /// Whether others may still come before this one is paired.
    is_gathering: bool,
}

/// Returns whether `/rooms` leaves out the room.
pub(super) fn is_private(room: &RoomName) -> bool {
    room.as_str().starts_with(PREFIX)
}

/// The players who wait.
#[derive(Default)]
pub(super) struct Seekers {
    /// In the order in which they came.
    by_pool: BTreeMap<RoomName, Vec<(ConnectionKey, IpAddr)>>,
    by_network: BTreeMap<IpAddr, usize>,
    count: usize,
}

impl Seekers {
    /// Loopback has no limit per address, because tests and proxies that send no client address come from there.
    fn add(&mut self, pool: &RoomName, key: ConnectionKey, remote: IpAddr) -> Result<(), Fault> {
        let here = self.by_network.get(&network(remote)).copied().unwrap_or_default();
        if here >= limits::SEEKERS_PER_ADDRESS && !remote.is_loopback() {
            return Err(Fault::new(ErrorCode::RateLimited, "Too many players of your address wait for others."));
        }
        if self.count >= limits::SEEKERS {
            return Err(Fault::new(ErrorCode::RateLimited, "Too many players wait for others; try again later."));
        }
        self.by_pool.entry(pool.clone()).or_default().push((key, remote));
        *self.by_network.entry(network(remote)).or_default() += 1;
        self.count += 1;
        Ok(())
    }

    fn remove(&mut self, pool: &RoomName, key: ConnectionKey) {
        let Some(here) = self.by_pool.get_mut(pool) else { return };
        let Some(at) = here.iter().position(|&(other, _)| other == key) else { return };
        let (_, remote) = here.remove(at);
        if here.is_empty() {
            self.by_pool.remove(pool);
        }
        self.count -= 1;
        let network = network(remote);
        let left = self.by_network.get(&network).map_or(0, |count| count - 1);
        if left == 0 {
            self.by_network.remove(&network);
        } else {
            self.by_network.insert(network, left);
        }
    }

    /// Removes the player, and of the others the nearest, or of several the one who waited longest.
    fn take_pair(&mut self, pool: &RoomName, key: ConnectionKey) -> Option<ConnectionKey> {
        let here = self.by_pool.get(pool)?;
        let &(_, remote) = here.iter().find(|&&(own, _)| own == key)?;
        let others = here.iter().rev().filter(|&&(other, _)| other != key);
        // Of equals this is the last, and so the first who came.
        let &(other, _) = others.max_by_key(|&&(_, other)| common_prefix(remote, other))?;
        self.remove(pool, key);
        self.remove(pool, other);
        Some(other)
    }
}

/// The bits that both addresses begin with.
fn common_prefix(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (u32::from(one) ^ u32::from(other)).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (u128::from(one) ^ u128::from(other)).leading_zeros(),
        _ => 0,
    }
}

impl<G: Game> Server<G> {
    pub(super) fn handle_seek(&mut self, now: Instant, key: ConnectionKey, reply_to: ReplyTo, request: SeekRequest) {
        let checked = self.check_seek(now, key, &request);
        let SeekRequest { pool, ticket, .. } = request;
        let asked = Asked { pool, reply_to: reply_to.clone() };
        let placed = checked.and_then(|()| self.place_seek(now, key, asked, ticket.as_deref()));
        if let Err(fault) = placed {
            self.refuse_join(now, key, &reply_to, None, "", &fault);
        }
    }

    fn check_seek(&mut self, now: Instant, key: ConnectionKey, request: &SeekRequest) -> Result<(), Fault> {
        self.expect_arrived(key)?;
        // Each counts, because each may give a player who waits a room in which nobody comes.
        self.admit_address(now, key, true)?;
        signaling::check_version(&request.version)?;
        let Some(connection) = self.connections.get(key) else { return Ok(()) };
        if connection.connect.room.is_some() {
            return Err(Fault::new(ErrorCode::BadRoom, "The URL names a room: connect to /api to seek a player."));
        }
        if let Some(keys) = self.config.keys.clone() {
            let room = self.new_private_name();
            keys.verify(request.bearer.as_str(), &room, self.unix_time(now))?;
        }
        Ok(())
    }

    /// The player waits in the pool, which is this server's.
    pub(super) fn wait_here(&mut self, now: Instant, key: ConnectionKey, asked: Asked) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        self.seekers.add(&asked.pool, key, connection.connect.remote.ip())?;
        if let Some(cluster) = &mut self.cluster {
            // Without the store there is no lease.
            let _ = cluster.host(&asked.pool);
        }
        connection.stage = Stage::Seeking(Box::new(Seeking { key, asked, is_gathering: true }));
        self.set_deadline(key, now + limits::SEEK_GATHERING);
        Ok(())
    }

    /// 128 random bits, so that nobody can guess it.
    fn new_private_name(&mut self) -> String {
        format!("{PREFIX}{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64())
    }

    /// Pairs a player for whom others could come long enough, or keeps the connection alive.
    pub(super) fn continue_seek(&mut self, now: Instant, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Seeking(seeking) = &mut connection.stage else { return };
        let pool = seeking.asked.pool.clone();
        let was_gathering = std::mem::take(&mut seeking.is_gathering);
        let other = was_gathering.then(|| self.seekers.take_pair(&pool, key)).flatten();
        let Some(other) = other else {
            self.ping_seeker(now, key);
            self.push_text(key, signaling::event(WAITING, &json!({})).into());
            return self.claim_pool(now, &pool);
        };
        self.leave_pool(&pool);
        let room = self.new_private_name();
        for key in [key, other] {
            let Some(seeking) = self.take_seeking(key) else { continue };
            self.set_deadline(key, now + limits::JOIN_TIMEOUT);
            self.grant(key, &seeking.asked.reply_to, &json!({ "roomId": room }));
        }
    }

    fn take_seeking(&mut self, key: ConnectionKey) -> Option<Box<Seeking>> {
        self.take_stage(key, |stage| match stage {
            Stage::Seeking(seeking) => Ok(seeking),
            other => Err(other),
        })
    }

    /// A connection that seeks has ended.
    pub(super) fn end_seek(&mut self, seeking: &Seeking) {
        self.seekers.remove(&seeking.asked.pool, seeking.key);
        self.leave_pool(&seeking.asked.pool);
    }

    /// Gives up the pool, in a cluster, if nobody waits there any more.
    fn leave_pool(&mut self, pool: &RoomName) {
        if !self.seekers.by_pool.contains_key(pool) {
            self.give_up_lease(pool);
        }
    }

    /// Locates a pool without a lease, if the store answers.
    fn claim_pool(&mut self, now: Instant, pool: &RoomName) {
        if self.cluster.as_ref().is_some_and(|cluster| cluster.is_connected() && cluster.epoch(pool).is_none()) {
            self.move_pool(now, pool);
        }
    }

    /// Locates a pool again, for those who wait there.
    pub(super) fn move_pool(&mut self, now: Instant, pool: &RoomName) {
        let waiting = self.seekers.by_pool.get(pool).cloned().unwrap_or_default();
        let asked: Vec<(ConnectionKey, Asked)> =
            waiting.into_iter().filter_map(|(key, _)| Some((key, self.take_seeking(key)?.asked))).collect();
        for &(key, _) in &asked {
            self.seekers.remove(pool, key);
        }
        self.leave_pool(pool);
        for (key, asked) in asked {
            let reply_to = asked.reply_to.clone();
            if let Err(fault) = self.place_seek(now, key, asked, None) {
                self.refuse_join(now, key, &reply_to, None, "", &fault);
            }
        }
    }

    /// The server is about to stop: those who wait go to other nodes.
    pub(super) fn move_pools(&mut self, now: Instant) {
        let pools: Vec<RoomName> = self.seekers.by_pool.keys().cloned().collect();
        pools.iter().for_each(|pool| self.move_pool(now, pool));
    }
}

#[cfg(test)]
mod tests;
