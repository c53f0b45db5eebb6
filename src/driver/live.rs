//! What is made anew for each request: the rooms, the figures, the findings.

use std::net::IpAddr;
use std::time::Instant;

use super::doctor::Premises;
use super::metrics::{self, Tcp};
use super::recorder::Recordings;
use super::site::Live;
use super::udp::Udp;
use crate::game::Game;
use crate::server::Server;

/// Where it comes from, the server itself aside.
pub(super) struct Sources<'a> {
    pub(super) udp: &'a mut Udp,
    pub(super) recordings: Option<&'a Recordings>,
    pub(super) premises: &'a Premises,
}

impl Sources<'_> {
    /// The bytes for a request that came in on the address `local`.
    pub(super) fn answer<G: Game>(
        &mut self,
        what: Live,
        now: Instant,
        server: &Server<G>,
        local: Option<IpAddr>,
        tcp: Tcp,
    ) -> Vec<u8> {
        match what {
            Live::Rooms => {
                let rooms: Vec<_> = server.rooms().filter(|room| room.listed).collect();
                serde_json::to_vec(&rooms).expect("names and numbers are JSON")
            }
            Live::Metrics => metrics::text(now, server, self.udp, self.recordings, tcp).into_bytes(),
            Live::Doctor => {
                let advertised = local.map(|local| server.candidates(local)).unwrap_or_default();
                serde_json::to_vec(&self.premises.report(&advertised)).expect("sentences and numbers are JSON")
            }
        }
    }
}
