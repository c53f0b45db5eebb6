//! What players of one room tell each other by way of the server, which doesn't look into it.

use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Server, Signal};
use crate::game::Game;
use crate::limits;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::{self, Fault, Orientation, Relayed, ReplyTo};

impl<G: Game> Server<G> {
    pub(super) fn relay_sdp(&mut self, now: Instant, index: usize, reply_to: &ReplyTo, to: &str, sdp: &str) {
        let relayed = if sdp.len() > limits::SDP_BYTES {
            Err(Fault::new(ErrorCode::TooLarge, format!("An SDP may have {} bytes.", limits::SDP_BYTES)))
        } else {
            self.relay(now, index, to, "eventExchangeSdp", json!({ "sdp": sdp }))
        };
        self.reply(index, reply_to, relayed);
    }

    pub(super) fn handle_exchange_candidate(
        &mut self,
        now: Instant,
        index: usize,
        reply_to: &ReplyTo,
        to: &str,
        candidate: &Value,
    ) {
        let relayed = match to {
            // An ICE-lite server learns a client's addresses from its checks.
            "server" => self.session_of(index).map(drop),
            _ => self.relay(now, index, to, "eventExchangeCandidate", json!({ "candidate": candidate })),
        };
        self.reply(index, reply_to, relayed);
    }

    pub(super) fn handle_orientation_change(
        &mut self,
        now: Instant,
        index: usize,
        reply_to: &ReplyTo,
        change: &Orientation,
    ) {
        let relayed = self.relay_to_others(now, index, "eventOrientationChange", change);
        self.reply(index, reply_to, relayed);
    }

    fn relay(&mut self, now: Instant, index: usize, to: &str, event: &str, data: impl Serialize) -> Result<(), Fault> {
        let sender = self.session_of(index)?;
        let room = self.sessions[sender].room;
        // One answer for who is elsewhere and who is nowhere: sessions are not to be found by guessing.
        let receiver = self.by_socket_id.get(to).copied();
        let receiver = receiver
            .filter(|&receiver| receiver != sender && self.sessions[receiver].room == room)
            .ok_or_else(|| Fault::new(ErrorCode::NoSuchPlayer, "Nobody else in the room has this socketId."))?;
        let connection = self.sessions[receiver].connection.ok_or_else(|| {
            Fault::new(ErrorCode::NoSuchPlayer, "The player's connection is lost at the moment; they may come back.")
        })?;
        self.take_relayed(now, sender, 1)?;
        let text = signaling::event(event, &Relayed::new(&self.sessions[sender].info, data));
        if !self.push_relayed(connection, text) {
            let sentence = "The player's connection takes no more at the moment; try again.";
            return Err(Fault::new(ErrorCode::RateLimited, sentence));
        }
        Ok(())
    }

    fn relay_to_others(&mut self, now: Instant, index: usize, event: &str, data: impl Serialize) -> Result<(), Fault> {
        let sender = self.session_of(index)?;
        let playing = self.playing(self.sessions[sender].room);
        let connections: Vec<usize> = playing
            .into_iter()
            .filter(|&(_, session)| session != sender)
            .filter_map(|(_, session)| self.sessions[session].connection)
            .collect();
        self.take_relayed(now, sender, u32::try_from(connections.len()).unwrap_or(u32::MAX))?;
        let text = signaling::event(event, &Relayed::new(&self.sessions[sender].info, data));
        for connection in connections {
            self.push_relayed(connection, text.clone());
        }
        Ok(())
    }

    fn take_relayed(&mut self, now: Instant, sender: usize, count: u32) -> Result<(), Fault> {
        if self.sessions[sender].relayed.take_left(now, count) {
            return Ok(());
        }
        Err(Fault::new(ErrorCode::RateLimited, "Too much for the other players; wait a second."))
    }

    /// Whether the connection takes a message from another player.
    fn push_relayed(&mut self, connection: usize, text: String) -> bool {
        let is_slow = self.connections[connection].outgoing_bytes > limits::RELAY_QUEUE_BYTES;
        if is_slow {
            self.counters.dropped_relays += 1;
        } else {
            self.push(connection, Signal::Text(text));
        }
        !is_slow
    }

    fn reply(&mut self, index: usize, reply_to: &ReplyTo, result: Result<(), Fault>) {
        match result {
            Ok(()) => self.grant(index, reply_to, &serde_json::Map::new()),
            Err(fault) => self.refuse(index, reply_to, &fault),
        }
    }
}
