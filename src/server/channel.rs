//! Data channels: how an offer is answered, how a channel ends, and when it carries the player's messages.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use super::session::Session;
use super::states::PlayerStates;
use super::{ConnectionKey, OPENING, Server, SessionKey, Transports};
use crate::endpoint::PeerKey;
use crate::game::Game;
use crate::limits;
use crate::media::is_media;
use crate::peer::{self, Closed, Stages};
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::frame::Transport;
use crate::wire::signaling::{self, Description, Fault, ReplyTo};

impl<G: Game> Server<G> {
    pub(super) fn handle_offer(&mut self, now: Instant, key: ConnectionKey, reply_to: &ReplyTo, offer: &Description) {
        #[derive(Serialize)]
        struct Answer {
            sdp: Value,
        }
        let answered = self.session_of(key).and_then(|session| {
            let is_media = offer.offer().is_ok_and(is_media);
            if is_media { self.answer_media(now, session, None, offer) } else { self.answer(now, session, offer) }
        });
        match answered {
            Ok(sdp) => self.grant(key, reply_to, &Answer { sdp }),
            Err(fault) => self.refuse(key, reply_to, &fault),
        }
    }

    /// Answers an offer of a player, in its form; the player's former peer is closed.
    pub(super) fn answer(&mut self, now: Instant, key: SessionKey, offer: &Description) -> Result<Value, Fault> {
        let session = self.sessions.get_mut(key);
        let Some((session, carrier)) = session.and_then(|session| {
            let carrier = self.connections.get(session.connection?)?;
            Some((session, carrier))
        }) else {
            return Err(Fault::new(ErrorCode::BadRequest, "Send join first."));
        };
        let candidates = candidates(&self.config, carrier.connect.local);
        let (peer, sdp) = self
            .endpoint
            .answer(now, offer.offer()?, candidates)
            .map_err(|error| Fault::new(ErrorCode::BadSdp, error.to_string()))?;
        // Another page may have received what the former peer has carried.
        session.states = PlayerStates::default();
        session.offered = now;
        if let Some(old) = session.peer.replace(peer) {
            self.by_peer.remove(&old);
            self.endpoint.close(now, old);
        }
        self.by_peer.insert(peer, key);
        while self.opening.pop_front_if(|&mut (since, _)| since + OPENING <= now).is_some() {}
        self.opening.push_back((now, peer));
        Ok(offer.answer(sdp))
    }

    /// The candidates for a player whose websocket arrived at `local`: the public addresses if there are any, otherwise
    /// that address, then the others.
    #[cfg(feature = "driver")]
    pub(crate) fn candidates(&self, local: IpAddr) -> Vec<SocketAddr> {
        candidates(&self.config, local)
    }

    pub(super) fn handle_peer_event(&mut self, now: Instant, arrived: Instant, peer: PeerKey, event: peer::Event) {
        let Some(&key) = self.by_peer.get(&peer) else { return };
        let Some(session) = self.sessions.get_mut(key) else { return };
        let carrier = session.connection;
        match event {
            // Frames queued for the websocket would arrive after newer frames of the channel.
            peer::Event::Open => {
                if let Stages { ice: Some(ice), dtls: Some(dtls) } = self.endpoint.stages(peer) {
                    self.timings.ice.observe(ice.saturating_duration_since(session.offered));
                    self.timings.dtls.observe(dtls.saturating_duration_since(ice));
                    self.timings.sctp.observe(now.saturating_duration_since(dtls));
                }
                if let Some(connection) = carrier.and_then(|key| self.connections.get_mut(key)) {
                    connection.queue.clear_unreliable();
                }
            }
            peer::Event::Data(frame) => {
                self.handle_frame(now, arrived, key, &frame, Transport::DataChannel);
                self.endpoint.recycle(frame);
            }
            peer::Event::Closed(why) => {
                self.by_peer.remove(&peer);
                session.peer = None;
                let ended = &mut self.counters.channels;
                *match why {
                    Closed::NeverOpened => &mut ended.unopened,
                    Closed::Lost => &mut ended.lost,
                    Closed::ByPeer => &mut ended.closed,
                    Closed::Failed => &mut ended.failed,
                    Closed::ReliableChannel | Closed::Flood => &mut ended.refused,
                } += 1;
                if let Some(carrier) = carrier {
                    let text = signaling::event("eventChannelClosed", &channel_fault(why).shown(session.codes));
                    self.push_text(carrier, text.into());
                }
                if why == Closed::Flood {
                    self.end_session(now, key, Leave::Flood, "You sent too many packets on the data channel.");
                }
            }
        }
    }

    /// The data channel of a session, if it is open and to be used. A channel that delivers nothing is bypassed once
    /// something has arrived over the websocket in the meantime. If neither delivers, frames go over the channel: in
    /// the websocket they would be queued and arrive late.
    pub(super) fn channel(&self, now: Instant, session: &Session) -> Option<PeerKey> {
        let peer = session.peer.filter(|&peer| self.endpoint.is_open(peer))?;
        let is_passed_by = self.endpoint.silence(peer).is_some_and(|silence| {
            let carrier = session.connection.and_then(|key| self.connections.get(key));
            now >= silence.from
                && carrier.is_some_and(|connection| {
                    let websocket = connection.heard;
                    websocket >= silence.doubted_from && now < websocket + 2 * limits::HEARTBEAT_INTERVAL
                })
        });
        Some(peer).filter(|_| !is_passed_by)
    }

    /// Returns whether the session's data channel delivers, and has brought something since the last heartbeat.
    pub(super) fn is_heard(&self, now: Instant, session: &Session) -> bool {
        self.channel(now, session).is_some_and(|peer| {
            let is_recent = |heard_at: Instant| now < heard_at + limits::HEARTBEAT_INTERVAL;
            let is_doubted = self.endpoint.silence(peer).is_some_and(|silence| now >= silence.doubted_from);
            self.endpoint.heard_at(peer).is_some_and(is_recent) && !is_doubted
        })
    }

    /// Probes the data channel and the websocket if the channel may have stopped delivering.
    pub(super) fn doubt_channel(&mut self, now: Instant, key: SessionKey) {
        let Some(Session { peer: Some(peer), connection, .. }) = self.sessions.get(key) else { return };
        let (peer, carrier) = (*peer, *connection);
        let doubted = self.endpoint.silence(peer).filter(|silence| now >= silence.doubted_from);
        let Some(silence) = doubted else { return };
        self.endpoint.ask_where_silent(now, peer);
        let Some(carrier) = carrier else { return };
        let Some(websocket) = self.connections.get_mut(carrier) else { return };
        if websocket.asked < silence.doubted_from && !websocket.closing {
            websocket.asked = now;
            self.ping(carrier);
        }
    }

    /// What carries the states of a session; `None` without a connection.
    pub(super) fn transport(&self, now: Instant, session: &Session) -> Option<Transport> {
        match (self.channel(now, session), session.connection) {
            (Some(_), _) => Some(Transport::DataChannel),
            (None, Some(_)) => Some(Transport::WebSocket),
            // It is a media connection.
            (None, None) => session.is_call.then_some(Transport::DataChannel),
        }
    }

    pub(super) fn count_transports(&self, now: Instant) -> Transports {
        let mut transports = Transports::default();
        for session in self.sessions.values() {
            match self.transport(now, session) {
                Some(Transport::DataChannel) => transports.webrtc += 1,
                Some(Transport::WebSocket) => transports.websocket += 1,
                None => transports.away += 1,
            }
        }
        transports
    }
}

pub(super) fn candidates(config: &super::Config, local: IpAddr) -> Vec<SocketAddr> {
    let mut candidates = config.public.clone();
    if candidates.is_empty() {
        let local = local.to_canonical();
        let interfaces = &config.interfaces;
        let reaches_udp = |of: IpAddr| of == local || (of.is_loopback() && local.is_loopback());
        let has_udp = interfaces.is_empty() || interfaces.iter().any(|&interface| reaches_udp(interface));
        let first = std::iter::once(local).filter(|_| has_udp);
        // A player who connects over loopback may be elsewhere, behind a proxy on this machine; a player who connects
        // from elsewhere is not on this machine.
        let rest = interfaces.iter().copied().filter(|ip| local.is_loopback() || !ip.is_loopback());
        for ip in first.chain(rest).filter(|ip| !ip.is_unspecified()) {
            let address = SocketAddr::new(ip, config.udp_port);
            if !candidates.contains(&address) {
                candidates.push(address);
            }
        }
    }
    candidates.truncate(limits::CANDIDATES_ADVERTISED);
    candidates
}

pub(super) fn channel_fault(why: Closed) -> Fault {
    let code = match why {
        Closed::ReliableChannel => ErrorCode::ChannelMustBeUnreliable,
        Closed::NeverOpened => ErrorCode::BadSdp,
        Closed::Lost | Closed::ByPeer => ErrorCode::NoSuchSession,
        Closed::Flood => ErrorCode::RateLimited,
        Closed::Failed => ErrorCode::Internal,
    };
    Fault::new(code, why.to_string())
}
