//! Seeking: pairs two players who wait for the same context, the nearest addresses first.
//!
//! Others may come for [`limits::SEEK_GATHERING`]; then a player gets the nearest of those who wait, or waits on where
//! there is nobody. So of those with that time behind them at most one waits per context, and the next to come is
//! paired with that player or a nearer one.

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

/// A request to seek that waits for another.
pub(super) struct Seeking {
    key: ConnectionKey,
    context: RoomName,
    reply_to: ReplyTo,
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
    by_context: BTreeMap<RoomName, Vec<(ConnectionKey, IpAddr)>>,
    by_network: BTreeMap<IpAddr, usize>,
    count: usize,
}

impl Seekers {
    /// Loopback has no limit per address, because tests and proxies that send no client address come from there.
    fn add(&mut self, context: &RoomName, key: ConnectionKey, remote: IpAddr) -> Result<(), Fault> {
        let here = self.by_network.get(&network(remote)).copied().unwrap_or_default();
        if here >= limits::SEEKERS_PER_ADDRESS && !remote.is_loopback() {
            return Err(Fault::new(ErrorCode::RateLimited, "Too many players of your address wait for others."));
        }
        if self.count >= limits::SEEKERS {
            return Err(Fault::new(ErrorCode::RateLimited, "Too many players wait for others; try again later."));
        }
        self.by_context.entry(context.clone()).or_default().push((key, remote));
        *self.by_network.entry(network(remote)).or_default() += 1;
        self.count += 1;
        Ok(())
    }

    fn remove(&mut self, context: &RoomName, key: ConnectionKey) {
        let Some(here) = self.by_context.get_mut(context) else { return };
        let Some(at) = here.iter().position(|&(other, _)| other == key) else { return };
        let (_, remote) = here.remove(at);
        if here.is_empty() {
            self.by_context.remove(context);
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
    fn take_pair(&mut self, context: &RoomName, key: ConnectionKey) -> Option<ConnectionKey> {
        let here = self.by_context.get(context)?;
        let &(_, remote) = here.iter().find(|&&(own, _)| own == key)?;
        let others = here.iter().rev().filter(|&&(other, _)| other != key);
        // Of equals this is the last, and so the first who came.
        let &(other, _) = others.max_by_key(|&&(_, other)| common_prefix(remote, other))?;
        self.remove(context, key);
        self.remove(context, other);
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
    pub(super) fn handle_seek(&mut self, now: Instant, key: ConnectionKey, reply_to: ReplyTo, request: &SeekRequest) {
        if let Err(fault) = self.check_seek(now, key, request) {
            self.refuse_join(now, key, &reply_to, None, "", &fault);
            return;
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let context = request.context.clone();
        connection.stage = Stage::Seeking(Box::new(Seeking { key, context, reply_to, is_gathering: true }));
        self.set_deadline(key, now + limits::SEEK_GATHERING);
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
        let remote = connection.connect.remote.ip();
        if let Some(keys) = self.config.keys.clone() {
            let room = self.new_private_name();
            keys.verify(request.bearer.as_str(), &room, self.unix_time(now))?;
        }
        self.seekers.add(&request.context, key, remote)
    }

    /// 128 random bits, so that nobody can guess it.
    fn new_private_name(&mut self) -> String {
        format!("{PREFIX}{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64())
    }

    /// Pairs a player for whom others could come long enough, or keeps the connection alive.
    pub(super) fn continue_seek(&mut self, now: Instant, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Stage::Seeking(seeking) = &mut connection.stage else { return };
        let was_gathering = std::mem::take(&mut seeking.is_gathering);
        let other = was_gathering.then(|| self.seekers.take_pair(&seeking.context, key)).flatten();
        let Some(other) = other else { return self.ping_seeker(now, key) };
        let room = self.new_private_name();
        for key in [key, other] {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            let Stage::Seeking(seeking) = std::mem::replace(&mut connection.stage, Stage::Arrived) else { continue };
            self.set_deadline(key, now + limits::JOIN_TIMEOUT);
            self.grant(key, &seeking.reply_to, &json!({ "roomId": room }));
        }
    }

    /// A connection that seeks has ended.
    pub(super) fn end_seek(&mut self, seeking: &Seeking) {
        self.seekers.remove(&seeking.context, seeking.key);
    }
}

#[cfg(test)]
mod tests;
