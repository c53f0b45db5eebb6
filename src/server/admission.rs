//! How fast players come in: a pace of the whole server, and one of each address.

use std::time::{Duration, Instant};

use super::Server;
use crate::game::Game;
use crate::limits;
use crate::rate::{Limit, Pace, Paces};
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::Fault;

const OF_SERVER: Limit = Limit::new(limits::JOINS_PER_SECOND, limits::JOINS_AT_ONCE, limits::JOIN_RETRY);
const OF_ADDRESS: Limit =
    Limit::new(limits::JOINS_PER_ADDRESS_PER_SECOND, limits::JOINS_PER_ADDRESS_AT_ONCE, limits::JOIN_RETRY);

pub(super) struct Admission {
    of_server: Pace,
    of_addresses: Paces,
}

impl Admission {
    pub(super) fn new(key: [u8; 32]) -> Admission {
        Admission { of_server: Pace::default(), of_addresses: Paces::new(OF_ADDRESS, limits::JOINING_ADDRESSES, key) }
    }
}

impl<G: Game> Server<G> {
    /// Counts an attempt to come in against the address that it comes from: a connection's first attempt, and each
    /// guess of a session. Tests come from this machine, and proxies that don't say for whom.
    pub(super) fn admit_address(&mut self, now: Instant, index: usize, is_guess: bool) -> Result<(), Fault> {
        let is_counted = std::mem::replace(&mut self.connections[index].is_counted, true);
        let remote = self.connections[index].connect.remote.ip();
        if remote.is_loopback() || (is_counted && !is_guess) {
            return Ok(());
        }
        let taken = self.admission.of_addresses.take(now - self.started, remote);
        taken.map_err(|wait| too_many("Too many players come from your address.", wait))
    }

    /// Takes one of the server's places at this time, of which only those use one who may come in otherwise.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Fault> {
        let taken = self.admission.of_server.take(now - self.started, &OF_SERVER);
        taken.map_err(|wait| too_many("Too many players come at once.", wait))
    }

    /// Counts who was not let in.
    pub(super) fn count_refused_join(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::RateLimited => self.counters.refused_joins.pace += 1,
            ErrorCode::Unauthorized | ErrorCode::Expired => self.counters.refused_joins.token += 1,
            _ => {}
        }
    }

    /// Counts who was not let back in.
    pub(super) fn count_refused_return(&mut self, code: ErrorCode) {
        match code {
            ErrorCode::RateLimited => self.counters.refused_joins.pace += 1,
            ErrorCode::Unauthorized | ErrorCode::NoSuchSession => self.counters.refused_joins.session += 1,
            _ => {}
        }
    }
}

fn too_many(sentence: &str, wait: Duration) -> Fault {
    Fault { retry_after: Some(wait), ..Fault::new(ErrorCode::RateLimited, sentence) }
}
