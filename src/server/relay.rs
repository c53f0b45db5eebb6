//! What players of one room tell each other by way of the server, which doesn't look into it.

use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::{ConnectionKey, Server, SessionKey};
use crate::game::Game;
use crate::limits;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::{self, Fault, Orientation, Relayed, ReplyTo};

impl<G: Game> Server<G> {
    pub(super) fn relay_sdp(&mut self, now: Instant, key: ConnectionKey, reply_to: &ReplyTo, to: &str, sdp: &str) {
        let relayed = if sdp.len() > limits::SDP_BYTES {
            Err(Fault::new(ErrorCode::TooLarge, format!("An SDP may have {} bytes.", limits::SDP_BYTES)))
        } else {
            self.relay(now, key, to, "eventExchangeSdp", json!({ "sdp": sdp }))
        };
        self.reply(key, reply_to, relayed);
    }

    pub(super) fn handle_exchange_candidate(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        to: &str,
        candidate: &Value,
    ) {
        let relayed = match to {
            // An ICE-lite server learns a client's addresses from its checks.
            "server" => self.session_of(key).map(drop),
            _ => self.relay(now, key, to, "eventExchangeCandidate", json!({ "candidate": candidate })),
        };
        self.reply(key, reply_to, relayed);
    }

    pub(super) fn handle_orientation_change(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        change: &Orientation,
    ) {
        let relayed = self.relay_to_others(now, key, "eventOrientationChange", change);
        self.reply(key, reply_to, relayed);
    }

    fn relay(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        to: &str,
        event: &str,
        data: impl Serialize,
    ) -> Result<(), Fault> {
        let sender = self.session_of(key)?;
        // One answer for who is elsewhere and who is nowhere: sessions are not to be found by guessing.
        let nobody = || Fault::new(ErrorCode::NoSuchPlayer, "Nobody else in the room has this socketId.");
        let receiver = self.by_socket_id.get(to).copied().filter(|&receiver| receiver != sender).ok_or_else(nobody)?;
        let (Some(from), Some(receiver)) = (self.sessions.get(sender), self.sessions.get(receiver)) else {
            return Err(nobody());
        };
        if receiver.room != from.room {
            return Err(nobody());
        }
        let carrier = receiver.connection.ok_or_else(|| {
            Fault::new(ErrorCode::NoSuchPlayer, "The player's connection is lost at the moment; they may come back.")
        })?;
        let text = signaling::event(event, &Relayed::new(&from.info, data)).into();
        self.take_relayed(now, sender, 1)?;
        if !self.push_relayed(carrier, &text) {
            let sentence = "The player's connection takes no more at the moment; try again.";
            return Err(Fault::new(ErrorCode::RateLimited, sentence));
        }
        Ok(())
    }

    fn relay_to_others(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        event: &str,
        data: impl Serialize,
    ) -> Result<(), Fault> {
        let sender = self.session_of(key)?;
        let Some(from) = self.sessions.get(sender) else { return Ok(()) };
        let text = signaling::event(event, &Relayed::new(&from.info, data)).into();
        let carriers: Vec<ConnectionKey> = self
            .playing(from.room)
            .into_iter()
            .filter(|&(_, session)| session != sender)
            .filter_map(|(_, session)| self.sessions.get(session)?.connection)
            .collect();
        self.take_relayed(now, sender, u32::try_from(carriers.len()).unwrap_or(u32::MAX))?;
        for carrier in carriers {
            self.push_relayed(carrier, &text);
        }
        Ok(())
    }

    fn take_relayed(&mut self, now: Instant, sender: SessionKey, count: u32) -> Result<(), Fault> {
        let is_left = self.sessions.get_mut(sender).is_some_and(|session| session.relayed.take_left(now, count));
        let too_much = || Fault::new(ErrorCode::RateLimited, "Too much for the other players; wait a second.");
        is_left.then_some(()).ok_or_else(too_much)
    }

    /// Whether the connection takes a message from another player.
    fn push_relayed(&mut self, carrier: ConnectionKey, text: &Rc<str>) -> bool {
        let queued = self.connections.get(carrier).map_or(0, |connection| connection.queue.bytes());
        let is_slow = queued > limits::RELAY_QUEUE_BYTES;
        if is_slow {
            self.counters.dropped_relays += 1;
        } else {
            self.push_text(carrier, text.clone());
        }
        !is_slow
    }

    fn reply(&mut self, key: ConnectionKey, reply_to: &ReplyTo, result: Result<(), Fault>) {
        match result {
            Ok(()) => self.grant(key, reply_to, &serde_json::Map::new()),
            Err(fault) => self.refuse(key, reply_to, &fault),
        }
    }
}
