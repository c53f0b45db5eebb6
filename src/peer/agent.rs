//! str0m's part of a peer: its ICE agent, and the handshake of DTLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Instant;

use rand::Rng;
use str0m::net::{Protocol, Receive};
use str0m::{IceConnectionState, Input, Output};

use super::lane::Role;
use super::paths::Pair;
use super::{Closed, Outbox, Peer, RETRY};

impl Peer {
    pub(super) fn handle_slowly(&mut self, now: Instant, pair: Pair, bytes: &[u8], outbox: &mut Outbox) {
        let local = pair.stand_in();
        let Ok(receive) = Receive::new(Protocol::Udp, pair.remote, local, bytes) else { return };
        let Some(rtc) = self.rtc.as_mut().filter(|_| !self.closed) else { return };
        if let Err(error) = rtc.handle_input(Input::Receive(now, receive)) {
            log::debug!("peer {}: {error}", self.ufrag);
            self.close(now, Closed::Failed, outbox);
            return;
        }
        self.drain(now, Some(pair), outbox);
    }

    pub(super) fn poll_rtc(&mut self, now: Instant, outbox: &mut Outbox) {
        while let Some(rtc) = &mut self.rtc {
            match rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.ice_deadline = at;
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    self.transmit(now, transmit.source, transmit.destination, &transmit.contents, outbox);
                }
                Ok(Output::Event(event)) => self.handle_rtc_event(now, &event, outbox),
                Err(error) => {
                    log::debug!("peer {}: {error}", self.ufrag);
                    self.end(Closed::Failed);
                    return;
                }
            }
        }
    }

    fn handle_rtc_event(&mut self, now: Instant, event: &str0m::Event, outbox: &mut Outbox) {
        let closed = match event {
            str0m::Event::IceConnectionStateChange(IceConnectionState::Connected | IceConnectionState::Completed) => {
                self.stages.ice.get_or_insert(now);
                return;
            }
            str0m::Event::Connected => {
                self.stages.dtls = Some(now);
                if self.role == Role::Active {
                    self.handshake(now, RETRY, outbox);
                }
                return;
            }
            str0m::Event::IceConnectionStateChange(IceConnectionState::Disconnected) if self.lane.is_open() => {
                Closed::Lost
            }
            str0m::Event::IceConnectionStateChange(IceConnectionState::Disconnected) => Closed::NeverOpened,
            str0m::Event::Closed => Closed::ByPeer,
            _ => return,
        };
        self.end(closed);
    }

    fn transmit(
        &mut self,
        now: Instant,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: &[u8],
        outbox: &mut Outbox,
    ) {
        let mut pair = Pair::of(source, destination);
        let is_stun = bytes.first().is_some_and(|&byte| byte < 4);
        match (self.role, self.paths.current()) {
            _ if is_stun => {}
            (Role::Active, _) => {
                // With an offer, str0m knows the candidates.
                let nonce = self.rng.next_u64();
                self.paths.trust(now, pair, nonce);
            }
            (Role::Passive, Some(current)) if self.knows_paths() => pair = current,
            (Role::Passive, _) => self.paths.choose(pair),
        }
        self.transmit_on(pair, bytes, outbox);
    }

    /// Sends a datagram, if the path's limit permits.
    pub(super) fn transmit_on(&mut self, pair: Pair, bytes: &[u8], outbox: &mut Outbox) {
        if !self.paths.handle_sent(pair, bytes.len()).unwrap_or(self.role == Role::Active) {
            self.unproven_dropped += 1;
            return;
        }
        let pushed: Result<(), Infallible> = outbox.push(pair.local, pair.remote, |out| {
            out.extend_from_slice(bytes);
            Ok(())
        });
        debug_assert!(pushed.is_ok());
    }
}
