//! A WebRTC peer: str0m's ICE and DTLS handshake, with records of our own after it, and the unreliable lane instead of
//! str0m's SCTP.
//!
//! [`Server`](crate::server::Server) and [`Client`](crate::client::Client) are built on it. On its own it is one end of
//! a data channel to any WebRTC stack, sans-IO. Start with [`Peer::offer`] and [`Peer::accept`], or with
//! [`Peer::answer`]. Then pass received data to the `handle_*` methods, which put datagrams to send into an [`Outbox`],
//! and poll [`Peer::poll_event`] and [`Peer::poll_timeout`].

mod agent;
mod consent;
mod delivery;
mod dtls;
mod events;
mod lane;
mod outbox;
mod pace;
mod paths;
mod record;
mod sdp;
mod uplink;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use str0m::config::{DtlsCert, Fingerprint};
use str0m::ice::{IceCreds, StunMessage};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Input, Rtc};

use crate::limits;
use crate::rate::Allowance;
use consent::Consent;
use dtls::{DtlsHandle, Unsealed, WithoutAlerts};
use lane::{Arrival, Lane, Role};
use paths::{Asked, Proof};
use record::{CLOSE_NOTIFY, Opened, content};
use sdp::{Description, Setup};
use uplink::Uplink;

pub use delivery::Silence;
pub(crate) use dtls::{SeededDtls, media_crypto};
pub use events::{Closed, Dropped, Event, Path, Sent, Stages, Stun};
#[cfg(any(test, fuzzing))]
pub(crate) use lane::hostile;
pub use outbox::{LocalId, Outbox, Transmit};
pub(crate) use pace::RoundTrip;
pub use paths::Pair;
pub(crate) use paths::Paths;
#[cfg(any(test, fuzzing))]
pub(crate) use record::hostile as record_hostile;
pub use sdp::SdpError;
#[cfg(feature = "driver")]
pub(crate) use sdp::host_candidates;
pub(crate) use sdp::write_candidates;

/// The certificate that all peers of a process share, and its fingerprint.
#[derive(Clone)]
pub struct Identity {
    certificate: DtlsCert,
    fingerprint: [u8; 32],
}

impl Identity {
    /// Generates a certificate.
    ///
    /// # Panics
    /// The operating system has no random numbers.
    #[must_use]
    pub fn generate() -> Identity {
        let certificate = dtls::generate_certificate().expect("a key pair can be generated");
        let fingerprint = dtls::crypto_provider().sha256_provider.sha256(&certificate.certificate);
        Identity { certificate, fingerprint }
    }

    pub(crate) fn certificate(&self) -> DtlsCert {
        self.certificate.clone()
    }
}

/// The interval between attempts to prove a path, and the first timeout of the lane's handshake.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// The interval at which a packet of the offering end passes through str0m, to learn the remote address it has chosen.
const ASK_STR0M_INTERVAL: Duration = Duration::from_secs(1);

/// One end of a data channel, sans-IO.
pub struct Peer {
    /// `None` at the answering end once it is open: most of a peer's memory.
    rtc: Option<Box<Rtc>>,
    consent: Consent,
    dtls: DtlsHandle,
    lane: Lane,
    role: Role,
    ufrag: String,
    rng: ChaCha20Rng,
    paths: Paths,
    locals: Vec<SocketAddr>,
    stages: Stages,
    closed: bool,
    open_before: Instant,
    /// Until the first packet of the other end.
    reach_before: Option<Instant>,
    /// Of `rtc`, or after it when the consent of the other end expires.
    ice_deadline: Instant,
    handshake_at: Option<(Instant, Duration)>,
    probe_at: Option<Instant>,
    ask_str0m_at: Instant,
    slow_path: bool,
    events: VecDeque<Event>,
    unproven_dropped: u64,
    alerts_dropped: u64,
    uplink: Uplink,
    downlink: Allowance,
    /// Empty; kept for its capacity.
    arrivals: Vec<Arrival>,
}

impl Peer {
    /// Answers an offer as the ICE-lite end. Returns the peer and an answer with `candidates`. `ufrag` must have 4 to
    /// 256 characters of RFC 8839 §5.4; the other end's ICE checks contain it, so that they can be routed to this peer.
    ///
    /// # Errors
    /// The offer can't be answered, for example because it has no data channel.
    pub fn answer(
        now: Instant,
        identity: &Identity,
        ufrag: String,
        seed: [u8; 32],
        offer: &str,
        candidates: Vec<SocketAddr>,
    ) -> Result<(Peer, String), SdpError> {
        let offer = Description::parse(offer)?;
        if offer.setup == Setup::Passive {
            return Err(SdpError("The offer must be a=setup:actpass; this one leaves no role to the server."));
        }
        let mut rng = ChaCha20Rng::from_seed(seed);
        let answer = Description {
            mid: offer.mid.clone(),
            ufrag,
            password: ice_password(&mut rng),
            fingerprint: identity.fingerprint,
            setup: Setup::Passive,
            sctp_port: offer.sctp_port,
            candidates,
        };
        let session = rng.next_u64() >> 2;
        let mut peer = Peer::new(now, identity, rng, Role::Passive, &answer);
        peer.start(&offer).map_err(|()| SdpError("The offer can't be answered."))?;
        Ok((peer, answer.to_sdp(session)))
    }

    /// Returns an offering peer and its offer.
    #[must_use]
    pub fn offer(now: Instant, identity: &Identity, seed: [u8; 32]) -> (Peer, String) {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let offer = Description {
            mid: Some("0".to_owned()),
            ufrag: ice_password(&mut rng)[..8].to_owned(),
            password: ice_password(&mut rng),
            fingerprint: identity.fingerprint,
            setup: Setup::ActPass,
            sctp_port: 5000,
            candidates: Vec::new(),
        };
        let session = rng.next_u64() >> 2;
        (Peer::new(now, identity, rng, Role::Active, &offer), offer.to_sdp(session))
    }

    /// Accepts the answer to an offer. `locals` are the local addresses.
    ///
    /// # Errors
    /// The answer does not match the offer.
    pub fn accept(
        &mut self,
        now: Instant,
        answer: &str,
        locals: &[(LocalId, SocketAddr)],
        outbox: &mut Outbox,
    ) -> Result<(), SdpError> {
        let answer = Description::parse(answer)?;
        if answer.setup != Setup::Passive {
            return Err(SdpError("The answer must be a=setup:passive."));
        }
        for &(local, address) in locals {
            self.add_local(Pair { local, remote: address }.stand_in());
        }
        if let Some(rtc) = &mut self.rtc {
            for &address in &answer.candidates {
                if let Ok(candidate) = Candidate::host(address, Protocol::Udp) {
                    rtc.add_remote_candidate(candidate);
                }
            }
        }
        self.start(&answer).map_err(|()| SdpError("The answer can't be used."))?;
        self.reach_before = Some(now + limits::PEER_REACH_TIMEOUT);
        self.handle_timeout(now, outbox);
        Ok(())
    }

    fn new(now: Instant, identity: &Identity, mut rng: ChaCha20Rng, role: Role, own: &Description) -> Peer {
        let passive = role == Role::Passive;
        let rtc = Rtc::builder()
            .set_crypto_provider(dtls::crypto_provider())
            .set_dtls_cert(identity.certificate.clone())
            .set_local_ice_credentials(IceCreds { ufrag: own.ufrag.clone(), pass: own.password.clone() })
            .set_ice_lite(passive)
            .clear_codecs()
            .clear_extension_map()
            .build(now);
        let dtls = DtlsHandle::take_newest().expect("str0m makes its DTLS instance when it is built");
        let lane = Lane::new(role, own.sctp_port, own.sctp_port, rng.next_u32(), rng.next_u32(), now);
        Peer {
            rtc: Some(Box::new(rtc)),
            consent: Consent { remote_ufrag: String::new(), password: own.password.clone() },
            dtls,
            lane,
            role,
            ufrag: own.ufrag.clone(),
            rng,
            paths: Paths::new(),
            locals: Vec::new(),
            stages: Stages::default(),
            closed: false,
            open_before: now + limits::PEER_OPEN_TIMEOUT,
            reach_before: None,
            ice_deadline: now,
            handshake_at: None,
            probe_at: None,
            ask_str0m_at: now,
            slow_path: false,
            events: VecDeque::new(),
            unproven_dropped: 0,
            alerts_dropped: 0,
            uplink: Uplink::new(now),
            downlink: Allowance::new(limits::DOWNLINK_BYTES_PER_SECOND, now),
            arrivals: Vec::new(),
        }
    }

    fn start(&mut self, remote: &Description) -> Result<(), ()> {
        self.consent.remote_ufrag.clone_from(&remote.ufrag);
        let mut api = self.rtc.as_mut().ok_or(())?.direct_api();
        api.set_remote_ice_credentials(IceCreds { ufrag: remote.ufrag.clone(), pass: remote.password.clone() });
        api.set_remote_fingerprint(Fingerprint { hash_func: "sha-256".to_owned(), bytes: remote.fingerprint.to_vec() });
        api.set_ice_controlling(self.role == Role::Active);
        api.start_dtls(self.role == Role::Active).map_err(drop)
    }

    /// Passes every datagram through str0m, even with an open lane: the slow path, for comparison in tests.
    pub fn take_slow_path(&mut self) {
        self.slow_path = true;
    }

    /// Reports gaps in the received packets to the other end, as browsers do. The offering end always does. An
    /// answering end that does not never slows its clients down.
    pub fn report_gaps(&mut self) {
        self.lane.report_gaps();
    }

    /// Also accepts text messages, as sent with [`Peer::send_text`]: other servers than rtcade use them.
    pub fn take_text(&mut self) {
        self.lane.take_text();
    }

    /// Returns whether frames can be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lane.is_open() && !self.closed
    }

    /// Returns how far the connection has come, and when.
    #[must_use]
    pub fn stages(&self) -> Stages {
        self.stages
    }

    /// Returns when the last packet arrived.
    #[must_use]
    pub fn heard_at(&self) -> Instant {
        self.lane.heard_at()
    }

    /// Returns whether the peer is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns the local half of the user name in STUN messages for this peer.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Returns the paths on which an ICE check has shown the peer's password.
    pub fn paths(&self) -> impl Iterator<Item = Pair> + '_ {
        self.paths.pairs()
    }

    /// Changes with [`Peer::paths`].
    pub(crate) fn paths_version(&self) -> u32 {
        self.paths.version()
    }

    /// Returns whether a path belongs to this peer: it is proven, and a packet arrived on it within
    /// [`limits::PATH_KEPT`].
    #[must_use]
    pub fn holds(&self, now: Instant, pair: Pair) -> bool {
        let heard_at = self.paths.proven_at(pair).map(|checked_at| match self.paths.current() {
            Some(current) if current == pair => checked_at.max(self.lane.heard_at()),
            _ => checked_at,
        });
        heard_at.is_some_and(|heard_at| now < heard_at + limits::PATH_KEPT)
    }

    /// Returns since when sent messages have not been delivered; `None` if none are waiting. After [`Silence::from`]
    /// messages passed to [`Peer::send`] are unlikely to arrive until a delivery is confirmed.
    #[must_use]
    pub fn silence(&self) -> Option<Silence> {
        self.lane.delivery().silence()
    }

    /// Marks the channel as silent until something is delivered, because this end receives nothing, or because the
    /// other end has reported so on another transport.
    pub fn doubt(&mut self, now: Instant) {
        self.lane.delivery_mut().doubt(now);
    }

    /// Probes a channel whose delivery is in doubt, at most every 250 ms.
    pub fn ask_where_silent(&mut self, now: Instant, outbox: &mut Outbox) {
        if self.is_open()
            && self.lane.delivery_mut().asks(now)
            && let Some(asked) = self.paths.heartbeat()
        {
            self.send_heartbeat(now, asked, outbox);
        }
    }

    /// Returns the counters of dropped packets.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        Dropped {
            unproven: self.unproven_dropped,
            excess: self.uplink.excess(),
            alerts: self.alerts_dropped,
            ..self.lane.dropped()
        }
    }

    /// Returns whether the state or events of this tick should be sent. On a congested path only every 2nd or 4th tick
    /// with anything to send should be.
    pub fn takes_tick(&mut self, now: Instant, tick: u32, is_state: bool) -> bool {
        self.lane.pace().takes_tick(now, tick, is_state)
    }

    /// Returns the measurements of the path since the last call.
    pub fn measure_path(&mut self) -> Path {
        Path {
            rtt_us: self.lane.pace().round_trip_us(),
            jitter_us: self.lane.pace().variation_us(),
            sent_loss_permille: self.lane.pace().take_losses().permille(),
            received_loss_permille: self.lane.take_arrivals().permille(),
        }
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when to call [`Peer::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let handshake = self.handshake_at.map(|(at, _)| at);
        let is_offering = self.role == Role::Active && self.is_open();
        let fails_at = self.fails_at().map(|(at, _)| at);
        let asks_at = if is_offering { self.lane.delivery().asks_at() } else { None };
        [Some(self.ice_deadline), handshake, self.probe_at, asks_at, fails_at].into_iter().flatten().min()
    }

    /// Handles a STUN message that names this peer or answers its check.
    pub fn handle_stun(
        &mut self,
        now: Instant,
        local: LocalId,
        source: SocketAddr,
        bytes: &[u8],
        outbox: &mut Outbox,
    ) -> Stun {
        let Ok(message) = StunMessage::parse(bytes) else { return Stun::Refused };
        let pair = Pair { local, remote: source };
        let accepts = match &self.rtc {
            Some(rtc) => Receive::new(Protocol::Udp, source, pair.stand_in(), bytes)
                .is_ok_and(|receive| rtc.accepts(&Input::Receive(now, receive))),
            None => self.consent.accepts(&self.ufrag, &message),
        };
        if self.closed || !accepts {
            return Stun::Refused;
        }
        if self.role == Role::Passive && !self.takes_check(now, pair, bytes, outbox) {
            return Stun::Refused;
        }
        if self.rtc.is_some() {
            self.handle_datagram(now, local, source, bytes, outbox);
        } else {
            self.paths.handle_received(pair, bytes.len());
            self.ice_deadline = now + consent::TIMEOUT;
            let mut response = std::mem::take(&mut outbox.packet);
            response.clear();
            self.consent.respond(&message, source, &mut response);
            self.transmit_on(pair, &response, outbox);
            outbox.packet = response;
        }
        if self.role == Role::Passive && message.use_candidate() {
            self.challenge(now, pair, outbox);
        }
        Stun::Accepted
    }

    /// Checks an ICE check with the right password. Returns `false` if it is a copy, or on one path too many.
    fn takes_check(&mut self, now: Instant, pair: Pair, check: &[u8], outbox: &mut Outbox) -> bool {
        // RFC 8489 §5: type, length and magic cookie, then a transaction ID of 96 bits.
        let Some(transaction) = check.get(8..16).and_then(|id| id.first_chunk()) else { return false };
        let is_first = self.paths.handle_check(now, pair, u64::from_be_bytes(*transaction));
        is_first && (self.paths.is_known(pair) || self.introduce(now, pair, outbox))
    }

    /// Adds a path that has shown the password. Returns `false` if there are too many.
    fn introduce(&mut self, now: Instant, pair: Pair, outbox: &mut Outbox) -> bool {
        let Some(number) = self.paths.number_remote(pair.remote) else { return false };
        self.add_local(pair.stand_in());
        let candidate = number.filter(|_| self.rtc.is_some()).and_then(|number| {
            // Each candidate must be new: str0m keeps removed ones and finds them first.
            let base = SocketAddr::new(pair.remote.ip(), number);
            Candidate::server_reflexive(pair.remote, base, Protocol::Udp).ok()
        });
        if let (Some(rtc), Some(candidate)) = (&mut self.rtc, &candidate) {
            rtc.add_remote_candidate(candidate.clone());
        }
        let nonce = self.rng.next_u64();
        let forgotten = self.paths.introduce(now, pair, nonce, candidate);
        if let (Some(rtc), Some(forgotten)) = (&mut self.rtc, forgotten) {
            rtc.direct_api().invalidate_candidate(&forgotten);
        }
        self.drain(now, None, outbox);
        true
    }

    /// Handles a datagram received on a path of this peer.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        local: LocalId,
        source: SocketAddr,
        bytes: &[u8],
        outbox: &mut Outbox,
    ) {
        if self.closed {
            return;
        }
        let pair = Pair { local, remote: source };
        self.paths.handle_received(pair, bytes.len());
        let is_dtls = bytes.first().is_some_and(|first| (20..64).contains(first));
        if is_dtls && self.is_fast() {
            self.handle_records(now, pair, bytes, outbox);
            return;
        }
        self.reach_before = None;
        let is_handshake = is_dtls && self.stages.dtls.is_none();
        if !is_handshake {
            self.handle_slowly(now, pair, bytes, outbox);
            return;
        }
        let mut records = WithoutAlerts::of(bytes);
        for run in records.by_ref() {
            self.handle_slowly(now, pair, run, outbox);
        }
        self.alerts_dropped += records.alerts;
    }

    /// Returns when and why the peer is given up unless it opens before.
    fn fails_at(&self) -> Option<(Instant, Closed)> {
        // A record that was damaged on the way may have broken DTLS silently.
        let is_unsecured = self.role == Role::Active && self.stages.dtls.is_none();
        let secure_before = self.stages.ice.filter(|_| is_unsecured).map(|ice| ice + limits::PEER_SECURE_TIMEOUT);
        let never_opened =
            self.reach_before.map_or(self.open_before, |reach_before| reach_before.min(self.open_before));
        let (failed, never_opened) =
            (secure_before.map(|at| (at, Closed::Failed)), (never_opened, Closed::NeverOpened));
        let first = failed.filter(|(at, _)| *at < never_opened.0).unwrap_or(never_opened);
        (!self.lane.is_open()).then_some(first)
    }

    /// Handles the deadline of [`Peer::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant, outbox: &mut Outbox) {
        if self.closed {
            return;
        }
        if let Some((_, why)) = self.fails_at().filter(|&(at, _)| at <= now) {
            self.close(now, why, outbox);
            return;
        }
        if self.probe_at.is_some_and(|at| at <= now) {
            self.probe(now, outbox);
        }
        if self.role == Role::Active {
            self.ask_where_silent(now, outbox);
        }
        if let Some((_, wait)) = self.handshake_at.filter(|&(at, _)| at <= now) {
            self.handshake(now, (wait * 2).min(RETRY_MAX), outbox);
        }
        let Some(rtc) = &mut self.rtc else {
            if self.ice_deadline <= now {
                self.end(Closed::Lost);
            }
            return;
        };
        if let Err(error) = rtc.handle_input(Input::Timeout(now)) {
            log::debug!("peer {}: {error}", self.ufrag);
            self.close(now, Closed::Failed, outbox);
            return;
        }
        self.drain(now, None, outbox);
    }

    /// Reserves capacity for `parts` packets with `bytes` in total, within the limits per second and of an unproven
    /// path. Returns whether it is available. If so, send them with [`Peer::send_reserved`]; otherwise drop all of
    /// them.
    pub fn reserve(&mut self, now: Instant, bytes: usize, parts: usize) -> bool {
        if !self.is_open() {
            return false;
        }
        let packets = bytes + parts * (limits::SCTP_OVERHEAD_BYTES + limits::DTLS_RECORD_OVERHEAD_BYTES);
        if !self.paths.has_room(packets) {
            self.unproven_dropped += 1;
            return false;
        }
        self.downlink.take_left(now, u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    /// Sends a frame of at most [`limits::FRAME_BYTES`] for which [`Peer::reserve`] returned `true`.
    pub fn send_reserved(&mut self, now: Instant, frame: &[u8], outbox: &mut Outbox) -> Sent {
        self.send_message(now, outbox, |lane, packet| lane.write_message(now, frame, packet))
    }

    /// Sends a frame of at most [`limits::FRAME_BYTES`] now or never.
    pub fn send(&mut self, now: Instant, frame: &[u8], outbox: &mut Outbox) -> Sent {
        if !self.reserve(now, frame.len(), 1) {
            return Sent::Dropped;
        }
        self.send_reserved(now, frame, outbox)
    }

    /// Sends a text message of at most [`limits::FRAME_BYTES`] now or never.
    pub fn send_text(&mut self, now: Instant, text: &str, outbox: &mut Outbox) -> Sent {
        if !self.reserve(now, text.len(), 1) {
            return Sent::Dropped;
        }
        self.send_message(now, outbox, |lane, packet| lane.write_text(now, text, packet))
    }

    fn send_message(
        &mut self,
        now: Instant,
        outbox: &mut Outbox,
        write: impl FnOnce(&mut Lane, &mut Vec<u8>) -> bool,
    ) -> Sent {
        if self.closed || !self.send_packet(now, outbox, write) {
            return Sent::Dropped;
        }
        self.uplink.handle_sent();
        Sent::Sent
    }

    /// Closes the peer and notifies the other end.
    pub fn close(&mut self, now: Instant, why: Closed, outbox: &mut Outbox) {
        if self.closed {
            return;
        }
        self.send_packet(now, outbox, Lane::write_abort);
        match self.paths.current() {
            Some(pair) if self.dtls.is_taken_over() => {
                self.seal(pair, content::ALERT, outbox, |_, out| {
                    out.extend_from_slice(&CLOSE_NOTIFY);
                    true
                });
            }
            _ if self.stages.dtls.is_some() && self.rtc.as_mut().is_some_and(|rtc| rtc.close().is_ok()) => {
                self.poll_rtc(now, outbox);
            }
            _ => {}
        }
        self.end(why);
    }

    /// Closes the peer without notifying the other end.
    fn end(&mut self, why: Closed) {
        if !std::mem::replace(&mut self.closed, true) {
            self.events.push_back(Event::Closed(why));
        }
    }

    fn add_local(&mut self, stand_in: SocketAddr) {
        if let Some(rtc) = self.rtc.as_mut().filter(|_| !self.locals.contains(&stand_in)) {
            self.locals.push(stand_in);
            if let Ok(candidate) = Candidate::host(stand_in, Protocol::Udp) {
                rtc.add_local_candidate(candidate);
            }
        }
    }

    /// The other end uses a path or has nominated it: unless it is in use, it must be proven.
    fn challenge(&mut self, now: Instant, pair: Pair, outbox: &mut Outbox) {
        if self.paths.challenge(pair) || self.probe_at.is_none() {
            self.probe(now, outbox);
        }
    }

    /// Sends a heartbeat on each path that is to be proven.
    fn probe(&mut self, now: Instant, outbox: &mut Outbox) {
        let mut is_asked = false;
        if self.lane.is_open() {
            for asked in self.paths.unproven() {
                is_asked |= self.send_heartbeat(now, asked, outbox);
            }
        }
        // Without capacity for a heartbeat it is sent with the next check on that path.
        self.probe_at = is_asked.then_some(now + RETRY);
    }

    fn send_heartbeat(&mut self, now: Instant, asked: Asked, outbox: &mut Outbox) -> bool {
        let write = |lane: &mut Lane, out: &mut Vec<u8>| {
            lane.write_heartbeat(asked.nonce, out);
            true
        };
        match self.role {
            Role::Active => self.send_packet(now, outbox, write),
            Role::Passive => self.seal(asked.pair, content::APPLICATION_DATA, outbox, write),
        }
    }

    fn handshake(&mut self, now: Instant, wait: Duration, outbox: &mut Outbox) {
        let mut is_written = false;
        self.send_packet(now, outbox, |lane, out| {
            is_written = lane.write_handshake(out);
            is_written
        });
        if is_written {
            self.handshake_at = Some((now + wait, wait));
        }
    }

    /// Returns whether datagrams bypass str0m, which saves its cost: after the lane has opened. From then on the
    /// answering end manages its paths itself, and the offering end has one.
    pub(crate) fn is_fast(&self) -> bool {
        self.dtls.is_taken_over()
    }

    /// Before DTLS is established, only str0m sends, and it chooses the path.
    fn knows_paths(&self) -> bool {
        self.role == Role::Passive && self.stages.dtls.is_some() && self.paths.current().is_some()
    }

    /// Sends the packet that `write` appends, unless it returns `false`. Returns whether a datagram was sent.
    fn send_packet(
        &mut self,
        now: Instant,
        outbox: &mut Outbox,
        write: impl FnOnce(&mut Lane, &mut Vec<u8>) -> bool,
    ) -> bool {
        let asks_str0m = self.role == Role::Active && now >= self.ask_str0m_at;
        if let Some(pair) = self.paths.current().filter(|_| self.is_fast() && !asks_str0m) {
            return self.seal(pair, content::APPLICATION_DATA, outbox, write);
        }
        let before = outbox.len();
        let mut packet = std::mem::take(&mut outbox.packet);
        packet.clear();
        if write(&mut self.lane, &mut packet) {
            self.ask_str0m_at = now + ASK_STR0M_INTERVAL;
            // str0m polls its DTLS only after an input that it knows of.
            let sent = self.dtls.send(&packet).is_ok();
            if sent && self.rtc.as_mut().is_some_and(|rtc| rtc.handle_input(Input::Timeout(now)).is_ok()) {
                self.poll_rtc(now, outbox);
            }
        }
        outbox.packet = packet;
        outbox.len() > before
    }

    /// Sends a record on a path, if the path's limit permits. `write` appends its content, or returns `false` if there
    /// is none. Returns whether it was sent.
    fn seal(
        &mut self,
        pair: Pair,
        kind: u8,
        outbox: &mut Outbox,
        write: impl FnOnce(&mut Lane, &mut Vec<u8>) -> bool,
    ) -> bool {
        let Peer { dtls, lane, paths, .. } = self;
        let permits = |bytes| paths.handle_sent(pair, bytes) == Some(true);
        let sealed = outbox.push(pair.local, pair.remote, |out| dtls.seal(kind, out, |out| write(lane, out), permits));
        match sealed {
            Ok(()) | Err(Unsealed::Nothing) => {}
            Err(Unsealed::Refused) => self.unproven_dropped += 1,
            Err(Unsealed::Failed) => {
                log::debug!("peer {}: DTLS can't seal any more", self.ufrag);
                self.end(Closed::Failed);
            }
        }
        sealed.is_ok()
    }

    /// Handles a datagram of DTLS records after the keys were taken over.
    fn handle_records(&mut self, now: Instant, pair: Pair, datagram: &[u8], outbox: &mut Outbox) {
        let mut plain = std::mem::take(&mut outbox.plain);
        for record in record::split(datagram) {
            let Some(records) = self.dtls.records().filter(|_| !self.closed) else { break };
            match records.open(record, &mut plain) {
                Opened::Data(packet) => self.handle_packet(now, Some(pair), packet, outbox),
                Opened::CloseNotify => self.close(now, Closed::ByPeer, outbox),
                Opened::FatalAlert | Opened::TooManyForgeries => self.close(now, Closed::Failed, outbox),
                Opened::Nothing => {}
            }
        }
        outbox.plain = plain;
    }

    /// Handles a packet that DTLS has authenticated.
    fn handle_packet(&mut self, now: Instant, pair: Option<Pair>, packet: &[u8], outbox: &mut Outbox) {
        if let Some(pair) = pair.filter(|&pair| self.paths.current() != Some(pair)) {
            self.handle_other_path(now, pair, outbox);
        }
        // The offering end trusts the answering end.
        if self.role == Role::Passive && !self.uplink.takes(now, packet) {
            if self.uplink.is_flooded() {
                self.close(now, Closed::Flood, outbox);
            }
            return;
        }
        let mut arrivals = std::mem::take(&mut self.arrivals);
        if let Some(replies) = self.lane.receive(now, packet, &mut arrivals) {
            self.send_packet(now, outbox, |lane, out| lane.write_replies(now, &replies, out));
        }
        for arrival in arrivals.drain(..) {
            self.handle_arrival(now, arrival, packet, pair, outbox);
        }
        self.arrivals = arrivals;
    }

    /// Handles authentic data on a path that is not in use. Until the lane is open, it is answered there.
    fn handle_other_path(&mut self, now: Instant, pair: Pair, outbox: &mut Outbox) {
        if self.role == Role::Active || !self.paths.is_known(pair) {
            return;
        }
        if self.lane.is_open() {
            self.challenge(now, pair, outbox);
        } else {
            self.paths.choose(pair);
        }
    }

    /// Processes everything that waits in str0m, after every input to it. `pair` is the path of the input.
    fn drain(&mut self, now: Instant, pair: Option<Pair>, outbox: &mut Outbox) {
        self.poll_rtc(now, outbox);
        for packet in self.dtls.take_received() {
            if !self.closed {
                self.handle_packet(now, pair, &packet, outbox);
            }
        }
        if self.lane.is_open() && !self.closed && !self.slow_path {
            self.dtls.take_over();
        }
        if self.role == Role::Passive && self.is_fast() && self.rtc.take().is_some() {
            self.ice_deadline = now + consent::TIMEOUT;
        }
    }

    fn handle_arrival(
        &mut self,
        now: Instant,
        arrival: Arrival,
        packet: &[u8],
        pair: Option<Pair>,
        outbox: &mut Outbox,
    ) {
        match arrival {
            Arrival::Open => {
                self.handshake_at = None;
                self.lane.delivery_mut().trust(now, Duration::ZERO);
                self.events.push_back(Event::Open);
                self.probe(now, outbox);
            }
            Arrival::Message(place) => {
                let frame = outbox.copy(packet.get(place).unwrap_or_default());
                self.events.push_back(Event::Data(frame));
            }
            Arrival::HeartbeatAck(nonce) => {
                if let Some(pair) = pair {
                    self.handle_answer(now, pair, nonce, outbox);
                }
            }
            Arrival::Closed => self.close(now, Closed::ByPeer, outbox),
            Arrival::ReliableChannel => self.close(now, Closed::ReliableChannel, outbox),
        }
    }

    fn handle_answer(&mut self, now: Instant, pair: Pair, nonce: u64, outbox: &mut Outbox) {
        let fresh = self.rng.next_u64();
        match self.paths.prove(pair, nonce, fresh) {
            Proof::None => return,
            Proof::Answer if self.paths.current() != Some(pair) => {}
            Proof::Answer => self.lane.handle_answered(now),
            Proof::Move => self.lane.handle_new_path(now),
        }
        self.probe(now, outbox);
    }
}

/// The characters of ICE credentials (RFC 8839 §5.4); 24 of them carry 144 bits.
pub(crate) fn ice_password(rng: &mut ChaCha20Rng) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..24).map(|_| char::from(ALPHABET[(rng.next_u32() >> 26) as usize])).collect()
}

#[cfg(test)]
impl Peer {
    /// Sends chunks that no lane would. `tag` defaults to that of the association.
    pub(crate) fn send_chunks(&mut self, now: Instant, tag: Option<u32>, chunks: &[u8], outbox: &mut Outbox) {
        self.send_packet(now, outbox, |lane, out| {
            out.extend_from_slice(&lane.hostile_packet(tag, chunks));
            true
        });
    }
}
