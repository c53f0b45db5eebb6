//! Relays messages between players of the same room, without interpreting them.

use std::rc::Rc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::session::CpuReport;
use super::{ConnectionKey, Server, SessionKey};
use crate::game::Game;
use crate::limits;
use crate::rate::Credit;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::{self, FREEZE, Fault, Orientation, Relayed, ReplyTo};

impl<G: Game> Server<G> {
    pub(super) fn handle_exchange_sdp(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        to: &str,
        sdp: &Value,
    ) {
        let answered = self.answer_for_publisher(now, key, to, sdp);
        let relayed = answered.unwrap_or_else(|| self.relay(now, key, to, "eventExchangeSdp", json!({ "sdp": sdp })));
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
            // The server learns a client's addresses from its checks.
            "server" => self.session_of(key).map(drop),
            _ if self.session_of(key).is_ok_and(|session| self.listens_to(session, to)) => Ok(()),
            _ => self.relay(now, key, to, "eventExchangeCandidate", json!({ "candidate": candidate })),
        };
        self.reply(key, reply_to, relayed);
    }

    pub(super) fn handle_orientation_change(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        change: Orientation,
    ) {
        let relayed = self.change_orientation(now, key, change);
        self.reply(key, reply_to, relayed);
    }

    fn change_orientation(&mut self, now: Instant, key: ConnectionKey, change: Orientation) -> Result<(), Fault> {
        let sender = self.session_of(key)?;
        let Some(session) = self.sessions.get(sender) else { return Ok(()) };
        let device = session.device.changed(change);
        self.relay_to_others(now, key, "eventOrientationChange", &device)?;
        if let Some(session) = self.sessions.get_mut(sender) {
            session.device = device;
        }
        Ok(())
    }

    /// A player's picture or game stands still: for now, the others of the room are told.
    pub(super) fn handle_freeze(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        fields: &Map<String, Value>,
    ) {
        if let Err(fault) = self.relay_to_others(now, key, FREEZE, fields) {
            self.refuse(key, reply_to, &fault);
        }
    }

    pub(super) fn handle_cpu(&mut self, now: Instant, key: ConnectionKey, reply_to: &ReplyTo, used: f64) {
        let noted = self.session_of(key).and_then(|session| {
            let Some(session) = self.sessions.get_mut(session) else { return Ok(()) };
            if session.cpu.is_some_and(|last| now < last.at + limits::CPU_REPORT_INTERVAL) {
                return Err(Fault::new(ErrorCode::RateLimited, "Report the CPU use every 10 s at most."));
            }
            session.cpu = Some(CpuReport { at: now, used });
            Ok(())
        });
        if let Err(fault) = noted {
            self.refuse(key, reply_to, &fault);
        }
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
        // The same answer for sessions of other rooms and unknown ones, so that sessions can't be found by guessing.
        let nobody = || Fault::new(ErrorCode::NoSuchPlayer, "Nobody else in the room has this socketId.");
        let receiver = self.by_socket_id.get(to).copied().filter(|&receiver| receiver != sender).ok_or_else(nobody)?;
        let (Some(from), Some(receiver)) = (self.sessions.get(sender), self.sessions.get(receiver)) else {
            return Err(nobody());
        };
        if receiver.room != from.room {
            return Err(nobody());
        }
        let carrier = receiver.connection.ok_or_else(|| {
            Fault::new(
                ErrorCode::NoSuchPlayer,
                "The player's connection is lost; try again when the player has reconnected.",
            )
        })?;
        let text: Rc<str> = signaling::event(event, &Relayed::new(&from.info, data)).into();
        self.charge_relayed(now, key, sender, text.len())?;
        if !self.push_relayed(carrier, &text) {
            let sentence = "The player's connection is too slow; try again.";
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
        let text: Rc<str> = signaling::event(event, &Relayed::new(&from.info, data)).into();
        let carriers: Vec<ConnectionKey> = self
            .playing(from.room)
            .filter(|&(_, session)| session != sender)
            .filter_map(|(_, session)| self.sessions.get(session)?.connection)
            .collect();
        self.charge_relayed(now, key, sender, text.len() * carriers.len())?;
        for carrier in carriers {
            self.push_relayed(carrier, &text);
        }
        Ok(())
    }

    /// Charges the bytes that a message causes to the allowances of the sender, the room and the address, if each has
    /// enough left.
    fn charge_relayed(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        sender: SessionKey,
        bytes: usize,
    ) -> Result<(), Fault> {
        let refusal = |sentence| Err(Fault::new(ErrorCode::RateLimited, sentence));
        let Some(session) = self.sessions.get_mut(sender) else { return Ok(()) };
        let Some(hosted) = self.rooms.get_mut(session.room) else { return Ok(()) };
        let address = self.connections.get(key).and_then(|from| self.addresses.relayed(from.connect.remote.ip()));
        if !session.relayed.has_left(now) {
            return refusal("You send too much data to the other players; wait a second.");
        }
        let of_all = [Some(&mut hosted.relayed), address];
        let mut of_all: Vec<&mut Credit> = of_all.into_iter().flatten().collect();
        if !of_all.iter_mut().all(|credit| credit.has_left(now)) {
            return refusal("The players of your room or address send too much data to each other; wait a second.");
        }
        session.relayed.charge(bytes);
        of_all.into_iter().for_each(|credit| credit.charge(bytes));
        Ok(())
    }

    /// Whether the queue of the connection accepts a message from another player.
    pub(super) fn push_relayed(&mut self, carrier: ConnectionKey, text: &Rc<str>) -> bool {
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
