//! One media connection, sans-IO: str0m in RTP mode, and the rules for its paths.
//!
//! str0m's ICE agent is a full one here. It answers a nomination only after a check of its own has come back, so that
//! nobody can direct the voices of a room to an address that did not ask for them (RFC 8445 §7.3.1.5).

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use str0m::change::SdpOffer;
use str0m::config::DtlsCert;
use str0m::format::{Codec, FormatParams};
use str0m::ice::{IceCreds, StunMessage};
use str0m::media::{Frequency, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, ExtensionMap, ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Candidate, IceConnectionState, Input, Output, Rtc};

use super::sdp::{self, Credentials, Offer};
use super::slots::{Grant, Slots, Speaker};
use super::stream::{Place, Stream};
use crate::game::PlayerId;
use crate::limits;
use crate::peer::{Closed, LocalId, Outbox, Pair, Paths, SdpError, Stun, media_crypto};
use crate::rate::Allowance;

/// The random number of a path, which heartbeats of the lane carry: here str0m's checks prove a path.
const NONCE: u64 = 0;

/// An event of a media connection.
pub(crate) enum Event {
    /// It can carry media.
    Open,
    /// The client has sent audio.
    Packet(Packet),
    /// It has ended.
    Closed(Closed),
}

/// An audio packet of a client.
pub(crate) struct Packet {
    /// The sequence number, extended beyond 16 bits.
    sequence: u64,
    /// The newest that arrived before it: those in between are lost or late.
    follows: u64,
    time: u32,
    level: Option<i8>,
    payload: Arc<[u8]>,
}

impl Packet {
    fn place(&self) -> Place {
        Place { sequence: self.sequence, follows: self.follows, time: self.time }
    }
}

pub(crate) struct MediaPeer {
    rtc: Rtc,
    ufrag: String,
    credentials: Credentials,
    /// The sources of all offers.
    sources: BTreeSet<u32>,
    paths: Paths,
    locals: Vec<SocketAddr>,
    /// The addresses under which the client has seen the server.
    mapped: Vec<SocketAddr>,
    /// The newest time passed to str0m, which ignores what is older.
    now: Instant,
    deadline: Instant,
    open_before: Instant,
    heard_at: Instant,
    is_open: bool,
    closed: bool,
    events: VecDeque<Event>,
    packets: Allowance,
    bytes: Allowance,
    dropped: u64,
    speaker: Speaker,
    /// The newest sequence number from the client.
    newest: u64,
    slots: Slots,
    /// The section of each slot, and the stream in it.
    streams: Vec<(Mid, Stream)>,
}

impl MediaPeer {
    /// Answers an offer. Returns the connection and the answer with `candidates`. `local` are the ICE credentials of
    /// this end.
    pub(crate) fn answer(
        now: Instant,
        certificate: DtlsCert,
        local: IceCreds,
        offer: &str,
        candidates: &[SocketAddr],
    ) -> Result<(MediaPeer, String), SdpError> {
        let offer = Offer::parse(offer)?;
        let mut extensions = ExtensionMap::empty();
        extensions.set(1, Extension::AudioLevel);
        extensions.set(2, Extension::AbsoluteSendTime);
        extensions.set(3, Extension::TransportSequenceNumber);
        extensions.set(4, Extension::RtpMid);
        let ufrag = local.ufrag.clone();
        let mut config = Rtc::builder()
            .set_crypto_provider(media_crypto())
            .set_dtls_cert(certificate)
            .set_local_ice_credentials(local)
            .clear_codecs()
            .set_extension_map(extensions)
            .set_rtp_mode(true);
        let opus = FormatParams {
            min_p_time: Some(10),
            use_inband_fec: Some(true),
            use_dtx: Some(true),
            ..FormatParams::default()
        };
        config.codec_config().add_config(
            Pt::new_with_value(111),
            None,
            Codec::Opus,
            Frequency::FORTY_EIGHT_KHZ,
            Some(2),
            opus,
        );
        let mut peer = MediaPeer {
            rtc: config.build(now),
            ufrag,
            credentials: offer.credentials.clone(),
            sources: BTreeSet::new(),
            paths: Paths::new(),
            locals: Vec::new(),
            mapped: Vec::new(),
            now,
            deadline: now,
            open_before: now + limits::PEER_OPEN_TIMEOUT,
            heard_at: now,
            is_open: false,
            closed: false,
            events: VecDeque::new(),
            packets: Allowance::new(limits::MEDIA_PACKETS_PER_SECOND, now),
            bytes: Allowance::new(limits::MEDIA_BYTES_PER_SECOND, now),
            dropped: 0,
            speaker: Speaker::default(),
            newest: 0,
            slots: Slots::default(),
            streams: Vec::new(),
        };
        let answer = peer.accept(offer, candidates)?;
        Ok((peer, answer))
    }

    /// Answers another offer of the same connection; `None` if it is an offer of another one.
    pub(crate) fn answer_again(
        &mut self,
        offer: &str,
        candidates: &[SocketAddr],
        outbox: &mut Outbox,
    ) -> Option<Result<String, SdpError>> {
        let offer = match Offer::parse(offer) {
            Ok(offer) if offer.credentials == self.credentials => offer,
            Ok(_) => return None,
            Err(error) => return Some(Err(error)),
        };
        let answer = self.accept(offer, candidates);
        if answer.is_err() {
            // str0m may have taken a part of it.
            self.close(Closed::Failed, outbox);
        }
        Some(answer)
    }

    fn accept(&mut self, offer: Offer, candidates: &[SocketAddr]) -> Result<String, SdpError> {
        self.sources.extend(&offer.sources);
        if self.sources.len() > limits::MEDIA_SOURCES {
            return Err(SdpError("The connection has had more than 4 sources (a=ssrc): open a new one."));
        }
        let read = SdpOffer::from_sdp_string(&offer.sdp).map_err(|error| {
            log::debug!("media {}: {error}", self.ufrag);
            SdpError("The SDP can't be read.")
        })?;
        let answer = self.rtc.sdp_api().accept_offer(read).map_err(|error| {
            log::debug!("media {}: {error}", self.ufrag);
            SdpError("The offer can't be answered.")
        })?;
        let mut streams: Vec<(Mid, Stream)> = Vec::with_capacity(offer.slots.len());
        for mid in &offer.slots {
            let mid = Mid::from(mid.as_str());
            let known = self.streams.iter().position(|(of, _)| *of == mid);
            streams.push((mid, known.map(|at| self.streams.swap_remove(at).1).unwrap_or_default()));
        }
        self.slots.resize(streams.len());
        self.streams = streams;
        Ok(sdp::with_candidates(&answer.to_sdp_string(), candidates))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open && !self.closed
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn ufrag(&self) -> &str {
        &self.ufrag
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = Pair> + '_ {
        self.paths.pairs()
    }

    pub(crate) fn paths_version(&self) -> u32 {
        self.paths.version()
    }

    /// Returns whether a path belongs to this connection: it is in use, and something authentic arrived within
    /// [`limits::PATH_KEPT`].
    pub(crate) fn holds(&self, now: Instant, pair: Pair) -> bool {
        self.paths.current() == Some(pair) && now < self.heard_at + limits::PATH_KEPT
    }

    /// Returns the number of packets that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let opens = (!self.is_open).then_some(self.open_before);
        (!self.closed).then(|| opens.map_or(self.deadline, |opens| opens.min(self.deadline)))
    }

    /// Handles a STUN message that names this connection, or that arrived on one of its paths and names none.
    pub(crate) fn handle_stun(
        &mut self,
        now: Instant,
        local: LocalId,
        source: SocketAddr,
        bytes: &[u8],
        outbox: &mut Outbox,
    ) -> Stun {
        let pair = Pair { local, remote: source };
        let Ok(message) = StunMessage::parse(bytes) else { return Stun::Refused };
        let Ok(receive) = Receive::new(Protocol::Udp, source, pair.stand_in(), bytes) else { return Stun::Refused };
        if self.closed || !self.rtc.accepts(&Input::Receive(now, receive)) {
            return Stun::Refused;
        }
        let is_welcome = if message.is_binding_request() {
            self.takes_check(now, pair, bytes)
        } else {
            self.takes_response(pair, &message)
        };
        if !is_welcome {
            return Stun::Refused;
        }
        self.heard_at = self.heard_at.max(now);
        self.receive(now, pair, bytes, outbox);
        Stun::Accepted
    }

    /// Returns `false` if a check is a copy, or on one path too many.
    fn takes_check(&mut self, now: Instant, pair: Pair, check: &[u8]) -> bool {
        // RFC 8489 §5: type, length and magic cookie, then a transaction ID of 96 bits.
        let Some(transaction) = check.get(8..16).and_then(|id| id.first_chunk()) else { return false };
        if !self.paths.handle_check(now, pair, u64::from_be_bytes(*transaction)) {
            return false;
        }
        if !self.paths.is_known(pair) {
            if self.paths.number_remote(pair.remote).is_none() {
                return false;
            }
            self.paths.introduce(now, pair, NONCE, None);
            let local = pair.stand_in();
            if !self.locals.contains(&local) {
                self.locals.push(local);
                if let Ok(candidate) = Candidate::host(local, Protocol::Udp) {
                    self.rtc.add_local_candidate(candidate);
                }
            }
        }
        true
    }

    /// str0m keeps each address that a response tells it about.
    fn takes_response(&mut self, pair: Pair, message: &StunMessage<'_>) -> bool {
        let Some(mapped) = message.mapped_address().filter(|_| self.paths.is_known(pair)) else { return false };
        if !self.mapped.contains(&mapped) {
            if self.mapped.len() == limits::LOCAL_ADDRESSES {
                return false;
            }
            self.mapped.push(mapped);
        }
        true
    }

    /// Handles a datagram of DTLS, RTP or RTCP received on a path of this connection.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        local: LocalId,
        source: SocketAddr,
        bytes: &[u8],
        outbox: &mut Outbox,
    ) {
        let is_foreign = source_of(bytes).is_some_and(|source| !self.sources.contains(&source));
        // What is forwarded must fit a datagram of the server. Firefox has longer ones in its handshake.
        let is_long = bytes.len() > limits::UDP_PAYLOAD_BYTES && bytes.first().is_some_and(|&first| first >= 128);
        if self.closed || is_foreign || is_long {
            self.dropped += 1;
            return;
        }
        self.receive(now, Pair { local, remote: source }, bytes, outbox);
    }

    fn receive(&mut self, now: Instant, pair: Pair, bytes: &[u8], outbox: &mut Outbox) {
        self.paths.handle_received(pair, bytes.len());
        let local = pair.stand_in();
        let Ok(receive) = Receive::new(Protocol::Udp, pair.remote, local, bytes) else { return };
        self.now = self.now.max(now);
        if let Err(error) = self.rtc.handle_input(Input::Receive(self.now, receive)) {
            log::debug!("media {}: {error}", self.ufrag);
            self.close(Closed::Failed, outbox);
            return;
        }
        self.drain(outbox);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant, outbox: &mut Outbox) {
        if !self.is_open && self.open_before <= now {
            self.close(Closed::NeverOpened, outbox);
        }
        self.advance(now, outbox);
    }

    fn advance(&mut self, now: Instant, outbox: &mut Outbox) {
        if self.closed {
            return;
        }
        self.now = self.now.max(now);
        match self.rtc.handle_input(Input::Timeout(self.now)) {
            Ok(()) => self.drain(outbox),
            Err(error) => {
                log::debug!("media {}: {error}", self.ufrag);
                self.close(Closed::Failed, outbox);
            }
        }
    }

    fn drain(&mut self, outbox: &mut Outbox) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.deadline = at;
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    self.transmit(transmit.source, transmit.destination, &transmit.contents, outbox);
                }
                Ok(Output::Event(event)) => self.handle_rtc_event(event),
                Err(error) => {
                    log::debug!("media {}: {error}", self.ufrag);
                    self.end(Closed::Failed);
                    return;
                }
            }
        }
    }

    fn transmit(&mut self, source: SocketAddr, destination: SocketAddr, bytes: &[u8], outbox: &mut Outbox) {
        let pair = Pair::of(source, destination);
        let is_stun = bytes.first().is_some_and(|&byte| byte < 4);
        if !is_stun && self.paths.current() != Some(pair) {
            // str0m has nominated it after its own check was answered.
            if self.paths.current().is_none() {
                self.paths.choose(pair);
            }
            self.paths.challenge(pair);
            self.paths.prove(pair, NONCE, NONCE);
        }
        if bytes.len() > limits::UDP_PAYLOAD_BYTES || self.paths.handle_sent(pair, bytes.len()) != Some(true) {
            self.dropped += 1;
            return;
        }
        let pushed: Result<(), Infallible> = outbox.push(pair.local, pair.remote, |out| {
            out.extend_from_slice(bytes);
            Ok(())
        });
        debug_assert!(pushed.is_ok());
    }

    fn handle_rtc_event(&mut self, event: str0m::Event) {
        match event {
            str0m::Event::Connected => {
                self.is_open = true;
                self.events.push_back(Event::Open);
            }
            str0m::Event::RtpPacket(packet) => self.handle_rtp(packet),
            str0m::Event::IceConnectionStateChange(IceConnectionState::Disconnected) if self.is_open => {
                self.end(Closed::Lost);
            }
            str0m::Event::Closed => self.end(Closed::ByPeer),
            _ => {}
        }
    }

    fn handle_rtp(&mut self, packet: RtpPacket) {
        self.heard_at = self.now;
        let bytes = u32::try_from(packet.payload.len()).unwrap_or(u32::MAX);
        let is_few = self.packets.take(self.now);
        let is_little = self.bytes.take_many(self.now, bytes);
        if self.packets.is_flooded() || self.bytes.is_flooded() {
            self.end(Closed::Flood);
        }
        if !is_few || !is_little || packet.payload.is_empty() || self.closed {
            self.dropped += 1;
            return;
        }
        let (sequence, follows) = (*packet.seq_no, self.newest);
        self.newest = self.newest.max(sequence);
        self.events.push_back(Event::Packet(Packet {
            sequence,
            follows,
            time: packet.header.timestamp,
            level: packet.header.ext_vals.audio_level,
            payload: packet.payload,
        }));
    }

    /// Returns the loudness of the client while it speaks, which its packet continues.
    pub(crate) fn hear(&mut self, now: Instant, packet: &Packet) -> Option<f32> {
        self.speaker.hear(now, packet.level)
    }

    /// Sends a packet of a speaker to this client, if there is a slot for this loudness. Returns whether that has
    /// changed who is in the slots.
    pub(crate) fn forward(
        &mut self,
        now: Instant,
        from: PlayerId,
        loudness: f32,
        packet: &Packet,
        outbox: &mut Outbox,
    ) -> bool {
        // Until then str0m would keep what it can't send.
        if !self.is_open() || self.paths.current().is_none() {
            return false;
        }
        let Some(Grant { slot, is_new }) = self.slots.take(now, from, loudness) else { return false };
        let Some((mid, stream)) = self.streams.get_mut(slot) else { return is_new };
        let Some(numbers) = stream.translate(now, from, packet.place()) else { return is_new };
        let opus = self.rtc.codec_config().find(|params| params.spec().codec == Codec::Opus);
        let Some(payload_type) = opus.map(|params| params.pt()) else { return is_new };
        let mut api = self.rtc.direct_api();
        if let Some(outgoing) = api.stream_tx_by_mid(*mid, None) {
            let extensions = ExtensionValues {
                audio_level: packet.level,
                voice_activity: packet.level.map(|_| true),
                ..ExtensionValues::default()
            };
            outgoing.write_rtp(
                RtpWrite::new(payload_type, numbers.sequence.into(), numbers.time, now, Arc::clone(&packet.payload))
                    .marker(numbers.is_first)
                    .ext_vals(extensions),
            );
            self.advance(now, outbox);
        }
        is_new
    }

    /// Stops forwarding a player to this client. Returns whether that has changed who is in the slots.
    pub(crate) fn release(&mut self, player: PlayerId) -> bool {
        self.slots.release(player)
    }

    /// Returns the players in the slots, in the order of the sections.
    pub(crate) fn slots(&self) -> Vec<Option<PlayerId>> {
        self.slots.players()
    }

    /// Closes the connection and notifies the client.
    pub(crate) fn close(&mut self, why: Closed, outbox: &mut Outbox) {
        if self.closed {
            return;
        }
        if self.is_open && self.rtc.close().is_ok() {
            self.drain(outbox);
        }
        self.end(why);
    }

    fn end(&mut self, why: Closed) {
        if !std::mem::replace(&mut self.closed, true) {
            self.events.push_back(Event::Closed(why));
        }
    }
}

/// The source of an RTP packet; `None` for other datagrams. RTCP has packet types from 192 to 223 in the place of the
/// payload type (RFC 5761 §4).
fn source_of(datagram: &[u8]) -> Option<u32> {
    let (&first, &second) = (datagram.first()?, datagram.get(1)?);
    if !(128..192).contains(&first) || (192..224).contains(&second) {
        return None;
    }
    // Too short a packet has a source that nobody has offered.
    Some(datagram.get(8..12).and_then(|source| source.first_chunk()).map_or(0, |source| u32::from_be_bytes(*source)))
}
