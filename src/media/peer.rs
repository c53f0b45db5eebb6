//! One media connection, sans-IO: str0m in RTP mode, and the rules for its paths.
//!
//! str0m's ICE agent is a full one here. It answers a nomination only after a check of its own has come back, so that
//! nobody can direct the voices of a room to an address that did not ask for them (RFC 8445 §7.3.1.5).

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use str0m::bwe::{Bitrate, BweKind};
use str0m::change::SdpOffer;
use str0m::config::DtlsCert;
use str0m::format::{Codec, CodecSpec, FormatParams};
use str0m::ice::{IceCreds, StunMessage};
use str0m::media::{Frequency, KeyframeRequestKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, ExtensionMap, ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Candidate, IceConnectionState, Input, Output, Rtc};

use super::Media;
use super::layers::{LayerId, Layers, Rates};
use super::sdp::{self, Credentials, Offer};
use super::slots::{Grant, Slots, Speaker};
use super::stream::{Place, Stream};
use super::video::{Fate, VideoPacket, VideoSlot, inspect};
use crate::game::PlayerId;
use crate::limits;
use crate::peer::{Closed, LocalId, Outbox, Pair, Paths, SdpError, Stun, media_crypto};
use crate::rate::Allowance;

/// The random number of a path, which heartbeats of the lane carry: here str0m's checks prove a path.
const NONCE: u64 = 0;

/// The estimate of a link's rate before the first measurement.
const RATE_FIRST: Bitrate = Bitrate::kbps(500);
/// The rate that any link is taken to have, in bit/s. Where little is sent, little is measured.
const RATE_LEAST: u32 = 150_000;
/// The profiles of H.264 in use: constrained baseline, baseline, main and high, each at level 3.1.
const H264_PROFILES: [(u8, u32); 4] = [(102, 0x42_e01f), (104, 0x42_001f), (106, 0x4d_001f), (108, 0x64_001f)];

/// An event of a media connection.
pub(crate) enum Event {
    /// It can carry media.
    Open,
    /// The client has sent audio.
    Audio(Packet),
    /// The client has sent video. Its layers have these rates.
    Video(VideoPacket, Rates),
    /// The client needs a keyframe of the video of another.
    KeyframeWanted(PlayerId, LayerId),
    /// The video of the client has stopped.
    Stalled,
    /// It has ended.
    Closed(Closed),
}

/// What has become of a packet for a listener.
#[derive(Clone, Copy, Default)]
pub(crate) struct Forwarded {
    /// It has changed who is in the slots.
    pub(crate) is_new: bool,
    /// A keyframe is needed, before which nothing is forwarded.
    pub(crate) needs_keyframe: bool,
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
    media: Media,
    /// The sources of all offers, and those of layers that have appeared.
    sources: BTreeSet<u32>,
    has_layers: bool,
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
    audio: Rate,
    video: Rate,
    dropped: u64,
    speaker: Speaker,
    /// The newest sequence number from the client.
    newest: u64,
    slots: Slots,
    /// The section of each slot, and the stream in it.
    streams: Vec<(Mid, Stream)>,
    opus: Option<Pt>,
    /// The section in which the client sends video.
    camera: Option<Mid>,
    layers: Layers,
    is_stalled: bool,
    videos: Vec<VideoSlot>,
    /// The rate that the link to the client takes, in bit/s; `None` if it isn't measured.
    estimate: Option<u32>,
    /// The rates up to which the link is padded and probed, as str0m was told.
    desired: (u32, u32),
}

/// The allowance for one kind of media.
struct Rate {
    packets: Allowance,
    bytes: Allowance,
}

impl Rate {
    fn new(packets: u32, bytes: u32, now: Instant) -> Rate {
        Rate { packets: Allowance::new(packets, now), bytes: Allowance::new(bytes, now) }
    }

    fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Both count what is dropped too.
        let (is_few, is_little) = (self.packets.take(now), self.bytes.take_many(now, bytes));
        is_few && is_little
    }

    fn is_flooded(&self) -> bool {
        self.packets.is_flooded() || self.bytes.is_flooded()
    }
}

impl MediaPeer {
    /// Answers an offer. Returns the connection and the answer with `candidates`. `local` are the ICE credentials of
    /// this end.
    pub(crate) fn answer(
        now: Instant,
        certificate: DtlsCert,
        local: IceCreds,
        media: Media,
        offer: &str,
        candidates: &[SocketAddr],
    ) -> Result<(MediaPeer, String), SdpError> {
        let offer = Offer::parse(offer, media)?;
        let mut extensions = ExtensionMap::empty();
        extensions.set(1, Extension::AudioLevel);
        extensions.set(2, Extension::AbsoluteSendTime);
        extensions.set(3, Extension::TransportSequenceNumber);
        extensions.set(4, Extension::RtpMid);
        extensions.set(5, Extension::RtpStreamId);
        extensions.set(6, Extension::RepairedRtpStreamId);
        extensions.set(7, Extension::VideoOrientation);
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
        if media == Media::Video {
            config.codec_config().add_config(
                Pt::new_with_value(96),
                Some(Pt::new_with_value(97)),
                Codec::Vp8,
                Frequency::NINETY_KHZ,
                None,
                FormatParams::default(),
            );
            for (payload_type, profile) in H264_PROFILES {
                let resend = Some(Pt::new_with_value(payload_type + 1));
                config.codec_config().add_h264(Pt::new_with_value(payload_type), resend, true, profile);
            }
        }
        if !offer.video_slots.is_empty() {
            config = config.enable_bwe(Some(RATE_FIRST));
        }
        let mut peer = MediaPeer {
            media,
            has_layers: false,
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
            audio: Rate::new(limits::AUDIO_PACKETS_PER_SECOND, limits::AUDIO_BYTES_PER_SECOND, now),
            video: Rate::new(limits::VIDEO_PACKETS_PER_SECOND, limits::VIDEO_BYTES_PER_SECOND, now),
            dropped: 0,
            speaker: Speaker::default(),
            newest: 0,
            slots: Slots::default(),
            streams: Vec::new(),
            opus: None,
            camera: None,
            layers: Layers::default(),
            is_stalled: false,
            videos: Vec::new(),
            estimate: None,
            desired: (0, 0),
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
        let offer = match Offer::parse(offer, self.media) {
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
            return Err(SdpError("The connection has had more than 16 sources (a=ssrc): open a new one."));
        }
        let read = SdpOffer::from_sdp_string(&offer.sdp).map_err(|error| {
            log::debug!("media {}: {error}", self.ufrag);
            SdpError("The SDP can't be read.")
        })?;
        let answer = self.rtc.sdp_api().accept_offer(read).map_err(|error| {
            log::debug!("media {}: {error}", self.ufrag);
            SdpError("The offer can't be answered.")
        })?;
        let mids = |names: &[String]| names.iter().map(|mid| Mid::from(mid.as_str())).collect::<Vec<Mid>>();
        let mut streams = std::mem::take(&mut self.streams);
        for mid in mids(&offer.audio_slots) {
            let known = streams.iter().position(|(of, _)| *of == mid);
            self.streams.push((mid, known.map(|at| streams.swap_remove(at).1).unwrap_or_default()));
        }
        self.slots.resize(self.streams.len());
        let mut videos = std::mem::take(&mut self.videos);
        for mid in mids(&offer.video_slots) {
            let known = videos.iter().position(|slot| slot.mid == mid);
            self.videos.push(known.map_or_else(|| VideoSlot::new(mid), |at| videos.swap_remove(at)));
            if known.is_none()
                && let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, None)
            {
                // Beyond a seventh of the rate, what is sent again only adds to the congestion.
                stream.set_rtx_cache(limits::VIDEO_KEPT_PACKETS, limits::VIDEO_KEPT, Some(0.15));
            }
        }
        self.camera = offer.camera.as_deref().map(Mid::from);
        self.has_layers = offer.has_layers;
        let opus = self.rtc.codec_config().find(|params| params.spec().codec == Codec::Opus);
        self.opus = opus.map(|params| params.pt());
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
        let first = [Some(self.deadline), opens, self.stalls_at()].into_iter().flatten().min();
        first.filter(|_| !self.closed)
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
        // What is forwarded must fit a datagram of the server. Browsers may have longer ones in their handshakes.
        let is_long = bytes.len() > limits::MEDIA_PAYLOAD_BYTES && bytes.first().is_some_and(|&first| first >= 128);
        let is_foreign = !is_long && source_of(bytes).is_some_and(|source| !self.is_source(source));
        if self.closed || is_foreign || is_long {
            self.dropped += 1;
            return;
        }
        self.receive(now, Pair { local, remote: source }, bytes, outbox);
    }

    /// Returns whether the client may send from a source. Those of layers are not in the offer.
    fn is_source(&mut self, source: u32) -> bool {
        // Browsers measure their uplink with padding of source 0.
        if self.sources.contains(&source) || (source == 0 && self.camera.is_some()) {
            return true;
        }
        let is_layer = self.has_layers && self.sources.len() < limits::MEDIA_SOURCES;
        if is_layer {
            self.sources.insert(source);
        }
        is_layer
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
        if self.stalls_at().is_some_and(|at| at <= now) {
            self.is_stalled = true;
            self.events.push_back(Event::Stalled);
        }
        self.advance(now, outbox);
    }

    fn stalls_at(&self) -> Option<Instant> {
        let heard_at = self.layers.heard_at().filter(|_| !self.is_stalled);
        heard_at.map(|heard_at| heard_at + limits::VIDEO_STALL)
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
        if bytes.len() > limits::MEDIA_PAYLOAD_BYTES || self.paths.handle_sent(pair, bytes.len()) != Some(true) {
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
            str0m::Event::EgressBitrateEstimate(BweKind::Twcc { estimate, can_probe }) => {
                let rate = u32::try_from(estimate.as_u64()).unwrap_or(u32::MAX);
                self.estimate = can_probe.then_some(rate);
            }
            str0m::Event::KeyframeRequest(request) => {
                let slot = self.videos.iter_mut().find(|slot| slot.mid == request.mid);
                if let Some((player, layer)) = slot.and_then(|slot| slot.take_keyframe_request(self.now)) {
                    self.events.push_back(Event::KeyframeWanted(player, layer));
                }
            }
            str0m::Event::Closed => self.end(Closed::ByPeer),
            _ => {}
        }
    }

    fn handle_rtp(&mut self, packet: RtpPacket) {
        self.heard_at = self.now;
        let spec = self.rtc.codec_config().find(|it| it.pt() == packet.header.payload_type).map(|it| it.spec());
        let Some(spec) = spec else {
            self.dropped += 1;
            return;
        };
        let rate = if spec.codec.is_audio() { &mut self.audio } else { &mut self.video };
        let is_allowed = rate.take(self.now, packet.payload.len());
        if rate.is_flooded() {
            self.end(Closed::Flood);
        }
        if !is_allowed || packet.payload.is_empty() || self.closed {
            self.dropped += 1;
            return;
        }
        let event = if spec.codec.is_audio() { Some(self.audio(packet)) } else { self.video(spec, packet) };
        match event {
            Some(event) => self.events.push_back(event),
            None => self.dropped += 1,
        }
    }

    fn audio(&mut self, packet: RtpPacket) -> Event {
        let (sequence, follows) = (*packet.seq_no, self.newest);
        self.newest = self.newest.max(sequence);
        Event::Audio(Packet {
            sequence,
            follows,
            time: packet.header.timestamp,
            level: packet.header.ext_vals.audio_level,
            payload: packet.payload,
        })
    }

    /// `None` if the packet can't be forwarded.
    fn video(&mut self, spec: CodecSpec, packet: RtpPacket) -> Option<Event> {
        let (vp8, begins_keyframe) = inspect(spec.codec, &packet.payload)?;
        let rid = self.rtc.direct_api().stream_rx(&packet.header.ssrc)?.rid();
        let layer = self.layers.hear(self.now, rid, packet.payload.len())?;
        self.is_stalled = false;
        let packet = VideoPacket {
            layer,
            sequence: *packet.seq_no,
            time: packet.header.timestamp,
            marker: packet.header.marker,
            begins_keyframe,
            spec,
            vp8,
            orientation: packet.header.ext_vals.video_orientation,
            payload: packet.payload,
        };
        Some(Event::Video(packet, self.layers.rates(self.now)))
    }

    /// Asks the client for a keyframe of a layer, unless it was asked lately.
    pub(crate) fn request_keyframe(&mut self, now: Instant, layer: LayerId, outbox: &mut Outbox) {
        let Some(camera) = self.camera else { return };
        let Some(rid) = self.layers.take_keyframe_request(now, layer) else { return };
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(camera, rid) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
            self.advance(now, outbox);
        }
    }

    /// Returns whether the client has a section in which it sends video.
    pub(crate) fn has_camera(&self) -> bool {
        self.camera.is_some()
    }

    /// Returns the loudness of the client while it speaks, which its packet continues. A packet that is not allowed is
    /// dropped.
    pub(crate) fn hear(&mut self, now: Instant, packet: &Packet, is_allowed: bool) -> Option<f32> {
        if !is_allowed {
            self.drop_packet();
            return None;
        }
        self.speaker.hear(now, packet.level)
    }

    /// Counts a packet that is not forwarded.
    pub(crate) fn drop_packet(&mut self) {
        self.dropped += 1;
    }

    /// Sends a packet of a speaker to this client, if there is a slot for this loudness.
    pub(crate) fn forward_audio(
        &mut self,
        now: Instant,
        from: PlayerId,
        loudness: f32,
        packet: &Packet,
        outbox: &mut Outbox,
    ) -> Forwarded {
        if !self.can_send() {
            return Forwarded::default();
        }
        let Some(Grant { slot, is_new }) = self.slots.take(now, from, loudness) else { return Forwarded::default() };
        let forwarded = Forwarded { is_new, needs_keyframe: false };
        let Some((mid, stream)) = self.streams.get_mut(slot) else { return forwarded };
        let Some(numbers) = stream.translate(now, from, packet.place()) else { return forwarded };
        let Some(payload_type) = self.opus else { return forwarded };
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
        forwarded
    }

    /// Until then str0m would keep what it can't send.
    fn can_send(&self) -> bool {
        self.is_open() && self.paths.current().is_some()
    }

    /// Sends a video packet of a player to this client, if there is a slot and the packet is of the layer for its link.
    pub(crate) fn forward_video(
        &mut self,
        now: Instant,
        from: PlayerId,
        rates: &Rates,
        packet: &VideoPacket,
        outbox: &mut Outbox,
    ) -> Forwarded {
        let mut forwarded = Forwarded::default();
        if !self.can_send() {
            return forwarded;
        }
        let held = self.videos.iter().position(|slot| slot.player() == Some(from));
        let Some(index) = held.or_else(|| self.videos.iter().position(|slot| slot.player().is_none())) else {
            return forwarded;
        };
        if held.is_none() {
            self.videos[index].assign(Some(from));
            forwarded.is_new = true;
        }
        if self.videos[index].has_to_choose(now, rates) {
            let share = self.share(index);
            self.videos[index].choose(now, share, rates);
            self.desire();
        }
        let slot = &mut self.videos[index];
        let numbers = match slot.take(now, packet) {
            Fate::Forwarded(numbers) => numbers,
            Fate::Left => return forwarded,
            Fate::NeedsKeyframe => {
                forwarded.needs_keyframe = true;
                return forwarded;
            }
        };
        // The client may decode only one of the profiles, or another codec.
        let codecs = || self.rtc.codec_config().params().iter().filter(|it| it.spec().codec == packet.spec.codec);
        let exact = codecs().find(|params| params.spec() == packet.spec);
        let Some(payload_type) = exact.or_else(|| codecs().next()).map(|params| params.pt()) else { return forwarded };
        let mut api = self.rtc.direct_api();
        let Some(outgoing) = api.stream_tx_by_mid(slot.mid, None) else { return forwarded };
        if outgoing.queue_info().is_some_and(|queue| queue.byte_size() > limits::VIDEO_QUEUE_BYTES) {
            slot.interrupt();
            self.dropped += 1;
            return forwarded;
        }
        let extensions = ExtensionValues { video_orientation: packet.orientation, ..ExtensionValues::default() };
        let mut rtp =
            RtpWrite::new(payload_type, numbers.sequence.into(), numbers.time, now, Arc::clone(&packet.payload))
                .marker(packet.marker)
                .nackable(true)
                .ext_vals(extensions);
        if let Some(patch) = numbers.patch(packet) {
            rtp = rtp.vp8_patch(patch);
        }
        outgoing.write_rtp(rtp);
        self.advance(now, outbox);
        forwarded
    }

    /// Returns the rate that a video may have, in bit/s: an equal part of the link, and what others leave of theirs.
    fn share(&self, index: usize) -> u32 {
        let Some(estimate) = self.estimate else { return u32::MAX };
        let held = self.videos.iter().enumerate().filter(|(_, slot)| slot.player().is_some());
        let mut held: Vec<(u32, usize)> = held.map(|(of, slot)| (slot.most(), of)).collect();
        held.sort_unstable();
        let (mut rest, mut left) = (estimate.max(RATE_LEAST), u32::try_from(held.len()).unwrap_or(u32::MAX));
        for (most, of) in held {
            let share = rest / left;
            if of == index {
                return share;
            }
            rest -= share.min(most);
            left -= 1;
        }
        rest
    }

    /// Tells str0m up to which rates to pad and to probe the link: to those of the next layers, and of the best ones.
    fn desire(&mut self) {
        if self.estimate.is_none() {
            return;
        }
        let [least, most] = [VideoSlot::next_rate, VideoSlot::most]
            .map(|rate| self.videos.iter().map(rate).fold(0_u32, u32::saturating_add));
        let differs = |one: u32, other: u32| one.abs_diff(other) > other / 8;
        if differs(least, self.desired.0) || differs(most, self.desired.1) {
            self.desired = (least, most);
            let [least, most] = [least, most].map(|rate| Bitrate::bps(u64::from(rate) * 3 / 2));
            self.rtc.bwe().set_bitrate(least, most);
        }
    }

    /// Stops forwarding the voice of a player to this client. Returns whether that has changed who is in the slots.
    pub(crate) fn release_audio(&mut self, player: PlayerId) -> bool {
        self.slots.release(player)
    }

    /// The same of the video of a player.
    pub(crate) fn release_video(&mut self, player: PlayerId) -> bool {
        let slot = self.videos.iter_mut().find(|slot| slot.player() == Some(player));
        slot.map(|slot| slot.assign(None)).is_some()
    }

    /// Returns the players in the audio slots, in the order of the sections.
    pub(crate) fn audio_slots(&self) -> Vec<Option<PlayerId>> {
        self.slots.players()
    }

    /// The same of the video slots.
    pub(crate) fn video_slots(&self) -> Vec<Option<PlayerId>> {
        self.videos.iter().map(VideoSlot::player).collect()
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
