//! The session of a client: joining, reconnecting over further websockets, and opening the data channel.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::comeback::{Comeback, may_come_back};
use super::redirect::{self, Destination};
use super::reliable::ReliableLane;
use super::stream::Stream;
use super::{Client, Event, Message};
use crate::limits;
use crate::peer::{self, Peer};
use crate::wire::codes::{CLOSE_REDIRECTED, CLOSE_REFUSED, ErrorCode, Leave};
use crate::wire::delta::Received;
use crate::wire::frame::Reassembler;
use crate::wire::{seen, signaling};

/// How long the reply to a `join` or `reconnect` may take.
pub(super) const JOIN_PATIENCE: Duration = Duration::from_secs(10);
const RESUME_PATIENCE: Duration = Duration::from_secs(5);
/// How long the answer to an offer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// The wait before a failed channel is offered again. The first retry is immediate; further ones double the wait.
const OFFER_FIRST: Duration = Duration::from_secs(10);
const OFFER_CAP: Duration = Duration::from_secs(60);
/// A websocket without messages for this time counts as lost: four heartbeats were due. The server may leave out
/// [`limits::HEARTBEATS_SKIPPED`] before each while the data channel delivers.
const WEBSOCKET_SILENCE: Duration = Duration::from_secs(5);
const SPARSE_SILENCE: Duration =
    WEBSOCKET_SILENCE.saturating_add(limits::HEARTBEAT_INTERVAL.saturating_mul(limits::HEARTBEATS_SKIPPED as u32));
/// The close code without a close frame (RFC 6455 §7.4.1).
const ABNORMAL: u16 = 1006;

/// The state of the client's websocket.
pub(super) enum Websocket {
    /// Waiting for the reply to a request, which servers have redirected so many times.
    Asking { until: Instant, asked: Asked, redirects: u32 },
    /// Carries the session.
    Attached { since: Instant, heard: Instant },
    /// None; the next is requested at `until`.
    Waiting { until: Instant },
    /// None, permanently.
    Closed,
}

/// A `join` or `reconnect` request.
pub(super) struct Asked {
    pub(super) number: u32,
    pub(super) action: &'static str,
    pub(super) details: serde_json::Value,
}

/// The credentials of the session.
pub(super) struct Ticket {
    pub(super) socket_id: String,
    resume: String,
}

pub(super) struct Offer {
    pub(super) peer: Peer,
    /// The number of the request that contains the offer.
    pub(super) request: u32,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    a: String,
    #[serde(default)]
    s: bool,
    #[serde(default)]
    e: String,
    #[serde(default)]
    m: String,
    i: Option<u32>,
    #[serde(rename = "retryAfter")]
    retry_after: Option<u32>,
    #[serde(borrow)]
    d: Option<&'a RawValue>,
}

/// The reply to `join` and `reconnect`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    socket_id: String,
    player: u32,
    sessions: Vec<Presence>,
    tick: u32,
    tick_ms: f64,
    input_seq: u32,
    resume: String,
    #[serde(default)]
    last: u32,
    #[serde(default)]
    welcome: serde_json::Value,
    sdp: Option<String>,
}

#[derive(Deserialize)]
struct Presence {
    player: u32,
    name: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Answer {
    sdp: String,
}

#[derive(Deserialize)]
struct ChannelFault {
    m: String,
}

impl Client {
    pub(super) fn is_in(&self) -> bool {
        self.ticket.is_some() && !matches!(self.websocket, Websocket::Closed)
    }

    /// Returns whether the client has a websocket of which it expects anything: not one that the caller has yet to
    /// replace.
    pub(super) fn has_websocket(&self) -> bool {
        matches!(self.websocket, Websocket::Asking { .. } | Websocket::Attached { .. })
            && !matches!(self.messages.front(), Some(Message::Connect(_)))
    }

    /// Records that the websocket has delivered something. Returns `false` if there is none that may.
    pub(super) fn hear_websocket(&mut self) -> bool {
        if let Websocket::Attached { heard, .. } = &mut self.websocket {
            *heard = self.now;
        }
        self.has_websocket()
    }

    /// Returns from when a websocket counts as lost that was last heard then. A data channel that was heard since
    /// replaces a heartbeat.
    pub(super) fn websocket_silent_from(&self, heard: Instant) -> Instant {
        let silent_from = heard + WEBSOCKET_SILENCE;
        let Some(peer) = self.peer.as_ref().filter(|peer| peer.is_open()) else { return silent_from };
        let channel_silent_from = peer.heard_at() + WEBSOCKET_SILENCE - limits::HEARTBEAT_INTERVAL;
        silent_from.max(channel_silent_from).min(heard + SPARSE_SILENCE)
    }

    /// Handles the websocket's deadlines: the next attempt, or a reply that is overdue.
    pub(super) fn watch_websocket(&mut self) {
        let now = self.now;
        // After a pause of the process, messages received meanwhile have yet to be read.
        if self.poll_timeout().is_some_and(|due| due + limits::PING_INTERVAL <= now) {
            let later = now + limits::HEARTBEAT_INTERVAL;
            match &mut self.websocket {
                Websocket::Asking { until, .. } => *until = later.max(*until),
                Websocket::Attached { heard, .. } => *heard = (*heard).max(later - WEBSOCKET_SILENCE),
                Websocket::Waiting { .. } | Websocket::Closed => {}
            }
        }
        if matches!(self.websocket, Websocket::Attached { heard, .. } if self.websocket_silent_from(heard) <= now) {
            self.lose_websocket(ABNORMAL, "The server has sent nothing for seconds.");
        }
        match self.websocket {
            Websocket::Asking { until, .. } if until <= now => {
                self.lose_websocket(ABNORMAL, "The server did not answer in time.");
            }
            Websocket::Waiting { until } if until <= now => self.ask_again(Destination::Home, None),
            _ => {}
        }
    }

    pub(super) fn lose_websocket(&mut self, code: u16, reason: &str) {
        self.messages.clear();
        self.reliable.detach();
        self.offer = None;
        let is_redirected = matches!(self.websocket, Websocket::Asking { redirects: 1.., .. });
        let mut is_moved = false;
        if let Websocket::Attached { since, .. } = self.websocket {
            if Comeback::is_over(self.now - since) {
                self.comeback = Comeback::new(self.now);
            }
            is_moved = code == CLOSE_REDIRECTED;
            self.events.push_back(Event::Dropped);
        }
        if !(self.ticket.is_some() || is_redirected) || !may_come_back(code, reason) {
            self.close(code, reason);
        } else if is_moved && self.comeback.begin_at_once() {
            self.websocket = Websocket::Waiting { until: self.now };
        } else {
            self.try_later(is_redirected.then_some(redirect::RETRY), code, reason);
        }
    }

    fn try_later(&mut self, wait: Option<Duration>, code: u16, reason: &str) {
        match self.comeback.next(self.now, wait, &mut self.rng) {
            Some(until) => self.websocket = Websocket::Waiting { until },
            None => self.close(code, reason),
        }
    }

    pub(super) fn close(&mut self, code: u16, reason: &str) {
        if matches!(self.websocket, Websocket::Closed) {
            return;
        }
        self.websocket = Websocket::Closed;
        self.events.push_back(Event::Closed { code, reason: reason.to_owned() });
        self.offer = None;
        self.close_peer();
    }

    /// Opens the next websocket and asks for the session there. `ticket` is that of a redirect.
    pub(super) fn ask_again(&mut self, at: Destination, ticket: Option<String>) {
        self.messages.push_back(Message::Connect(at));
        let Some(Ticket { socket_id, resume, .. }) = &self.ticket else {
            return self.ask_to_join(self.now + JOIN_PATIENCE, 0);
        };
        let mut details = serde_json::json!({
            "socketId": socket_id,
            "resume": resume,
            "last": self.reliable.received(),
            "version": signaling::VERSION,
            "sparseHeartbeats": true,
        });
        // A silent channel may be as alive as the websocket was; it times out by itself if not.
        if !self.is_open() {
            details["sdp"] = self.prepare_offer().into();
        }
        let redirects = u32::from(ticket.is_some());
        if let Some(ticket) = ticket {
            details["ticket"] = ticket.into();
        }
        self.ask(self.now + RESUME_PATIENCE, redirects, "reconnect", details);
    }

    /// Joins; if there was a session that is no longer known, as the player of it.
    pub(super) fn ask_to_join(&mut self, until: Instant, redirects: u32) {
        let sdp = self.prepare_offer();
        let config = &self.config;
        let mut details = serde_json::json!({
            "roomId": config.room,
            "name": config.name,
            "data": config.data,
            "bearer": config.bearer,
            "version": signaling::VERSION,
            "sparseHeartbeats": true,
            "sdp": sdp,
        });
        if let Some(Ticket { socket_id, resume }) = &self.ticket {
            details["former"] = serde_json::json!({"socketId": socket_id, "resume": resume});
        }
        self.ask(until, redirects, "join", details);
    }

    fn ask(&mut self, until: Instant, redirects: u32, action: &'static str, details: serde_json::Value) {
        let number = self.request(action, &details);
        self.websocket = Websocket::Asking { until, asked: Asked { number, action, details }, redirects };
    }

    /// Sends a request and returns its number.
    pub(super) fn request(&mut self, action: &str, details: &serde_json::Value) -> u32 {
        self.requests += 1;
        let request = serde_json::json!({"a": action, "i": self.requests, "d": details});
        self.messages.push_back(Message::Text(request.to_string()));
        self.requests
    }

    /// Returns a new offer for the next request, if there are local addresses.
    fn prepare_offer(&mut self) -> Option<String> {
        if self.locals.is_empty() {
            return None;
        }
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let (mut peer, sdp) = Peer::offer(self.now, &self.identity, seed);
        if self.slow_path {
            peer.take_slow_path();
        }
        self.offer_at = None;
        self.offer = Some(Offer { peer, request: self.requests + 1 });
        Some(sdp)
    }

    /// Without a websocket an offer can't be sent; reconnecting includes one.
    pub(super) fn offer_again(&mut self) {
        self.offer_at = None;
        if self.offer.take().is_some() {
            return self.lose_peer("The server did not answer the SDP offer.".to_owned());
        }
        if !matches!(self.websocket, Websocket::Attached { .. }) || self.peer.is_some() {
            return;
        }
        if let Some(sdp) = self.prepare_offer() {
            self.request("exchangeSdp", &serde_json::json!({"to": "server", "sdp": sdp}));
            self.offer_at = Some(self.now + ANSWER_PATIENCE);
        }
    }

    fn accept_answer(&mut self, sdp: Option<&str>) {
        let Some(Offer { mut peer, .. }) = self.offer.take() else { return };
        self.close_peer();
        let accepted = match sdp {
            Some(sdp) => peer.accept(self.now, sdp, &self.locals, &mut self.outbox).map_err(|error| error.to_string()),
            None => Err("The server did not answer the SDP offer.".to_owned()),
        };
        match accepted {
            Ok(()) => self.peer = Some(peer),
            Err(message) => self.lose_peer(message),
        }
    }

    pub(super) fn lose_peer(&mut self, message: String) {
        self.close_peer();
        if self.opened_at.take().is_some_and(|opened| self.now >= opened + OFFER_FIRST) {
            self.failed_offers = 0;
        }
        let wait = match self.failed_offers.checked_sub(1) {
            None => Duration::ZERO,
            Some(doublings) => OFFER_FIRST.saturating_mul(2u32.saturating_pow(doublings)).min(OFFER_CAP),
        };
        self.failed_offers += 1;
        self.offer_at = Some(self.now + wait);
        if !std::mem::replace(&mut self.is_obstacle_told, true) {
            self.events.push_back(Event::ChannelClosed { message });
        }
    }

    pub(super) fn close_peer(&mut self) {
        self.offer_at = None;
        self.stream = Stream::default();
        if let Some(mut peer) = self.peer.take() {
            peer.close(self.now, peer::Closed::ByPeer, &mut self.outbox);
        }
    }

    pub(super) fn read_signaling(&mut self, text: &str) -> Result<(), serde_json::Error> {
        let Envelope { a: action, s: success, e: code, m: message, i: number, retry_after, d: data } =
            serde_json::from_str(text)?;
        let data = data.map_or("null", RawValue::get);
        let asked = match &self.websocket {
            Websocket::Asking { asked, .. } => Some(asked.number),
            _ => None,
        };
        let is_asking = asked.is_some() && number == asked;
        match action.as_str() {
            "joinR" | "reconnectR" if is_asking && success => {
                self.enter(action == "joinR", serde_json::from_str(data)?);
            }
            "joinR" | "reconnectR" if is_asking => self.note_refusal(action == "joinR", retry_after, code, message),
            redirect::EVENT if asked.is_some() => self.follow(serde_json::from_str(data)?),
            redirect::EVENT if matches!(self.websocket, Websocket::Attached { .. }) => {
                self.move_on(serde_json::from_str(data)?);
            }
            "exchangeSdpR" if self.offer.as_ref().is_some_and(|offer| Some(offer.request) == number) => {
                let answer: Option<Answer> = if success { serde_json::from_str(data)? } else { None };
                self.accept_answer(answer.as_ref().map(|answer| answer.sdp.as_str()));
            }
            // The server may report it on the websocket only: the channel's own message about its end can be lost.
            "eventChannelClosed" if self.peer.is_some() => {
                let fault: ChannelFault = serde_json::from_str(data)?;
                self.lose_peer(fault.m);
            }
            "eventJoin" => {
                let Presence { player, name, .. } = serde_json::from_str(data)?;
                self.note_join(player, name);
            }
            "eventRename" => {
                let Presence { player, name, .. } = serde_json::from_str(data)?;
                self.note_name(player, name);
            }
            "eventLeave" => {
                let Presence { player, reason, .. } = serde_json::from_str(data)?;
                self.note_leave(player, reason);
            }
            _ => {}
        }
        Ok(())
    }

    fn note_join(&mut self, player: u32, name: String) {
        match self.others.insert(player, name.clone()) {
            None => self.events.push_back(Event::PlayerJoined { player, name }),
            Some(former) if former != name => self.events.push_back(Event::PlayerRenamed { player, name }),
            Some(_) => {}
        }
    }

    /// Notes the name of another player, or of this one.
    fn note_name(&mut self, player: u32, name: String) {
        if let Some(other) = self.others.get_mut(&player) {
            other.clone_from(&name);
        }
        self.events.push_back(Event::PlayerRenamed { player, name });
    }

    fn note_leave(&mut self, player: u32, reason: String) {
        if self.others.remove(&player).is_some() {
            self.events.push_back(Event::PlayerLeft { player, reason });
        }
    }

    fn note_refusal(&mut self, of_join: bool, retry_after: Option<u32>, code: String, message: String) {
        let is_unknown = [ErrorCode::NoSuchSession, ErrorCode::Unauthorized].iter().any(|known| known.as_str() == code);
        if let Some(wait_ms) = retry_after {
            self.offer = None;
            self.try_later(Some(Duration::from_millis(wait_ms.into())), CLOSE_REFUSED, &code);
        } else if of_join {
            // The server closes the websocket now. If it is lost before, the refusal stands.
            self.ticket = None;
            self.events.push_back(Event::Refused { code, message });
        } else if is_unknown && let Websocket::Asking { until, redirects, .. } = self.websocket {
            self.ask_to_join(until, redirects);
        } else {
            self.close(CLOSE_REFUSED, &code);
        }
    }

    /// Discards the state of a session that the server has forgotten.
    fn forget_session(&mut self) {
        self.close_peer();
        self.reliable = ReliableLane::new(0, 1);
        self.next_seq = 0;
        self.newest_seq = None;
        self.seen = 0;
        self.reassembler = Reassembler::default();
        self.unacknowledged.clear();
        self.ticks.clear();
        self.asked_for_ticks = None;
    }

    /// Renumbers inputs that were sent before the server gave the first number, and the tick.
    fn renumber_inputs(&mut self, first: u32) {
        let newest = seen::stamp(self.newest_tick.into());
        for (number, (input, seen, _)) in (first..).zip(&mut self.unacknowledged) {
            (*input, *seen) = (number, newest);
        }
        self.next_input = self.unacknowledged.back().map_or(first, |&(number, ..)| number + 1);
    }

    /// Enters the room, in the player's previous place or a new one.
    fn enter(&mut self, is_new: bool, reply: Reply) {
        let Reply { socket_id, player, sessions, tick, tick_ms, input_seq, resume, last, welcome, sdp } = reply;
        let now = self.now;
        let tick_length = Duration::from_secs_f64((tick_ms / 1_000.0).clamp(0.0, 1.0));
        self.tick_length = Some(tick_length);
        let is_first = self.ticket.replace(Ticket { socket_id, resume }).is_none();
        self.websocket = Websocket::Attached { since: now, heard: now };
        self.next_ping = now;
        let others: BTreeMap<u32, String> = sessions
            .into_iter()
            .map(|other| (other.player, other.name))
            .filter(|&(other, _)| other != player)
            .collect();
        if is_new {
            if !is_first {
                self.forget_session();
            }
            self.states = Received::new(tick);
            self.newest_tick = tick;
            self.next_tick = Some(tick);
            self.renumber_inputs(input_seq);
            self.others = others;
            self.events.push_back(Event::Joined { player, welcome });
        } else {
            self.newest_tick = self.newest_tick.max(tick);
            self.events.push_back(Event::Resumed);
            let gone: Vec<u32> = self.others.keys().copied().filter(|player| !others.contains_key(player)).collect();
            gone.into_iter().for_each(|player| self.note_leave(player, Leave::Left.as_str().to_owned()));
            others.into_iter().for_each(|(player, name)| self.note_join(player, name));
        }
        self.reliable.attach(now, last, tick_length);
        self.acknowledge_reliable();
        self.flush_reliable();
        if self.offer.is_some() {
            self.accept_answer(sdp.as_deref());
        } else if self.peer.is_none() {
            self.offer_at = Some(now);
        }
    }
}
