//! Routes datagrams to peers, and calls peers when their deadlines are due.

mod stun;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use slab::Slab;
use str0m::ice::{IceCreds, StunMessage};

use crate::media::{self, Media, MediaPeer};
use crate::peer::{
    Closed, Event, Identity, Outbox, Pair, Path, Peer, SdpError, Sent, Silence, Stages, Stun, ice_password,
};

pub use self::stun::StunRequests;
use self::stun::{BindingRequest, StunServer};
pub use crate::peer::{Dropped, LocalId, Transmit};

/// Identifies a peer of this endpoint. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerKey {
    index: u32,
    generation: u32,
}

struct Entry {
    generation: u32,
    peer: Kind,
    deadline: Option<Instant>,
    paths: Vec<Pair>,
    paths_version: u32,
}

/// The two kinds of WebRTC connections.
#[expect(clippy::large_enum_variant, reason = "an entry is boxed, and most are data channels")]
enum Kind {
    /// A data channel.
    Game(Peer),
    /// Voice.
    Media(Box<MediaPeer>),
}

/// Calls the same method of either kind.
macro_rules! either {
    ($kind:expr, $peer:ident => $call:expr) => {
        match $kind {
            Kind::Game($peer) => $call,
            Kind::Media($peer) => $call,
        }
    };
}

impl Kind {
    fn game(&self) -> Option<&Peer> {
        match self {
            Kind::Game(peer) => Some(peer),
            Kind::Media(_) => None,
        }
    }

    fn dropped(&self) -> Dropped {
        match self {
            Kind::Game(peer) => peer.dropped(),
            Kind::Media(peer) => Dropped { media: peer.dropped(), ..Dropped::default() },
        }
    }
}

/// Datagrams that no peer accepted, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unroutable {
    /// Datagrams whose first byte is neither that of STUN nor of DTLS (RFC 7983).
    pub unknown: u64,
    /// STUN messages that are malformed or no requests, for an unknown peer, with a wrong password, copied from another
    /// path, or on a path that belongs to another peer. [`StunRequests`] counts those without a user name.
    pub stun: u64,
    /// DTLS records on a path that no ICE check has authenticated.
    pub dtls: u64,
    /// RTP and RTCP packets on a path that is not one of a media connection.
    pub media: u64,
}

pub(crate) struct Endpoint {
    identity: Identity,
    slow_path: bool,
    rng: ChaCha20Rng,
    /// Boxed, because a growing slab moves its content.
    peers: Slab<Box<Entry>>,
    generation: u32,
    by_path: BTreeMap<Pair, PeerKey>,
    timers: BTreeSet<(Instant, PeerKey)>,
    events: VecDeque<(PeerKey, Event)>,
    media_events: VecDeque<(PeerKey, media::Event)>,
    /// The number of media connections among the peers.
    media_peers: usize,
    outbox: Outbox,
    stun: StunServer,
    unroutable: Unroutable,
    dropped_by_gone: Dropped,
}

impl Endpoint {
    pub(crate) fn new(seed: [u8; 32]) -> Endpoint {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut stun_key = [0; 32];
        rng.fill_bytes(&mut stun_key);
        Endpoint {
            identity: Identity::generate(),
            slow_path: false,
            rng,
            peers: Slab::new(),
            generation: 0,
            by_path: BTreeMap::new(),
            timers: BTreeSet::new(),
            events: VecDeque::new(),
            media_events: VecDeque::new(),
            media_peers: 0,
            outbox: Outbox::default(),
            stun: StunServer::new(stun_key),
            unroutable: Unroutable::default(),
            dropped_by_gone: Dropped::default(),
        }
    }

    /// Passes every datagram of future peers through str0m.
    pub(crate) fn take_slow_path(&mut self) {
        self.slow_path = true;
    }

    pub(crate) fn unroutable(&self) -> Unroutable {
        self.unroutable
    }

    /// Answers STUN requests from the network of a player who has joined.
    pub(crate) fn note_player(&mut self, ip: IpAddr) {
        self.stun.note_player(ip);
    }

    /// A player of [`Endpoint::note_player`] has left.
    pub(crate) fn forget_player(&mut self, ip: IpAddr) {
        self.stun.forget_player(ip);
    }

    pub(crate) fn stun_requests(&self) -> StunRequests {
        self.stun.requests()
    }

    pub(crate) fn dropped(&self) -> Dropped {
        let mut dropped = self.dropped_by_gone;
        for (_, entry) in &self.peers {
            dropped += entry.peer.dropped();
        }
        dropped
    }

    /// The number of data channels, open or opening.
    pub(crate) fn peers(&self) -> usize {
        self.peers.len() - self.media_peers
    }

    /// The number of media connections, open or opening.
    pub(crate) fn media_peers(&self) -> usize {
        self.media_peers
    }

    /// Answers an offer. Returns the new peer and the answer with `candidates`.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        offer: &str,
        candidates: Vec<SocketAddr>,
    ) -> Result<(PeerKey, String), SdpError> {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let slow_path = self.slow_path;
        self.add(|identity, _, ufrag| {
            let (mut peer, sdp) = Peer::answer(now, identity, ufrag, seed, offer, candidates)?;
            if slow_path {
                peer.take_slow_path();
            }
            Ok((Kind::Game(peer), sdp))
        })
    }

    /// Answers an offer of media. `former` is the media connection of the same client: if the offer is of that one, it
    /// is changed; otherwise there is a new one. Returns the connection and the answer with `candidates`.
    pub(crate) fn answer_media(
        &mut self,
        now: Instant,
        former: Option<PeerKey>,
        media: Media,
        offer: &str,
        candidates: &[SocketAddr],
    ) -> Result<(PeerKey, String), SdpError> {
        if let Some(former) = former
            && let Some(Some(answer)) =
                self.with_media(former, |peer, outbox| peer.answer_again(offer, candidates, outbox))
        {
            return answer.map(|sdp| (former, sdp));
        }
        self.add(|identity, rng, ufrag| {
            let local = IceCreds { ufrag, pass: ice_password(rng) };
            let (peer, sdp) = MediaPeer::answer(now, identity.certificate(), local, media, offer, candidates)?;
            Ok((Kind::Media(Box::new(peer)), sdp))
        })
    }

    /// Adds the peer that `answer` makes for a ufrag.
    fn add(
        &mut self,
        answer: impl FnOnce(&Identity, &mut ChaCha20Rng, String) -> Result<(Kind, String), SdpError>,
    ) -> Result<(PeerKey, String), SdpError> {
        let slot = self.peers.vacant_entry();
        let index = u32::try_from(slot.key()).map_err(|_| SdpError("The server has no place for another peer."))?;
        self.generation = self.generation.wrapping_add(1);
        let ufrag = format!("{index:08x}{:08x}", self.rng.next_u32());
        let answered = catch_unwind(AssertUnwindSafe(|| answer(&self.identity, &mut self.rng, ufrag)));
        let (peer, sdp) = answered.unwrap_or(Err(SdpError("The offer can't be answered.")))?;
        let key = PeerKey { index, generation: self.generation };
        self.media_peers += usize::from(matches!(peer, Kind::Media(_)));
        slot.insert(Box::new(Entry {
            generation: self.generation,
            peer,
            deadline: None,
            paths: Vec::new(),
            paths_version: 0,
        }));
        self.settle(key);
        Ok((key, sdp))
    }

    /// Handles a datagram received at `local` from `source`. Its first byte tells the protocol (RFC 7983).
    pub(crate) fn handle_datagram(&mut self, now: Instant, local: LocalId, source: SocketAddr, bytes: &[u8]) {
        match bytes.first() {
            Some(0..=3) => self.handle_stun(now, local, source, bytes),
            Some(first @ (20..=63 | 128..=191)) => {
                let is_dtls = *first < 128;
                let key = self.by_path.get(&Pair { local, remote: source }).copied();
                match key.filter(|&key| is_dtls || self.is_media(key)) {
                    Some(key) => {
                        self.with_any(key, |peer, outbox| {
                            either!(peer, peer => peer.handle_datagram(now, local, source, bytes, outbox));
                        });
                    }
                    None if is_dtls => self.unroutable.dtls += 1,
                    None => self.unroutable.media += 1,
                }
            }
            _ => self.unroutable.unknown += 1,
        }
    }

    fn handle_stun(&mut self, now: Instant, local: LocalId, source: SocketAddr, bytes: &[u8]) {
        if let Some(request) = BindingRequest::parse(bytes) {
            if self.stun.admit(now, source, &request) {
                let pushed: Result<(), Infallible> = self.outbox.push(local, source, |out| {
                    request.answer(source, out);
                    Ok(())
                });
                debug_assert!(pushed.is_ok());
            }
            return;
        }
        let named = catch_unwind(|| peer_index(bytes)).ok().flatten();
        let key = named.and_then(|(index, ufrag)| {
            let entry = self.peers.get(index as usize)?;
            let is_named = either!(&entry.peer, peer => peer.ufrag() == ufrag);
            is_named.then_some(PeerKey { index, generation: entry.generation })
        });
        let pair = Pair { local, remote: source };
        // The answer to a check of ours names nobody.
        let key = key.or_else(|| self.by_path.get(&pair).copied().filter(|&key| self.is_media(key)));
        let owner = self.by_path.get(&pair).copied().filter(|&owner| Some(owner) != key);
        // The source may be forged: a path that another peer has proven and used lately belongs to that peer.
        let is_held = owner
            .and_then(|owner| self.entry(owner))
            .is_some_and(|entry| either!(&entry.peer, peer => peer.holds(now, pair)));
        let taken = key.filter(|_| !is_held).and_then(|key| {
            self.with_any(
                key,
                |peer, outbox| either!(peer, peer => peer.handle_stun(now, local, source, bytes, outbox)),
            )
        });
        if taken != Some(Stun::Accepted) {
            self.unroutable.stun += 1;
            return;
        }
        let key = key.filter(|&key| self.entry(key).is_some_and(|entry| entry.paths.contains(&pair)));
        if let Some(key) = key {
            self.by_path.insert(pair, key);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        // A peer's next deadline may already be due; it waits for the next call, so that this one ends.
        let due: Vec<PeerKey> = self.timers.iter().take_while(|(at, _)| *at <= now).map(|&(_, key)| key).collect();
        for key in due {
            self.with_any(key, |peer, outbox| either!(peer, peer => peer.handle_timeout(now, outbox)));
        }
    }

    fn is_media(&self, key: PeerKey) -> bool {
        self.entry(key).is_some_and(|entry| entry.peer.game().is_none())
    }

    pub(crate) fn is_open(&self, key: PeerKey) -> bool {
        self.game(key).is_some_and(Peer::is_open)
    }

    /// Returns whether a check of the other end has arrived; `None` if the channel is open or the peer is gone.
    #[cfg(feature = "driver")]
    pub(crate) fn is_reached(&self, key: PeerKey) -> Option<bool> {
        let entry = self.entry(key).filter(|entry| entry.peer.game().is_some_and(|peer| !peer.is_open()))?;
        Some(!entry.paths.is_empty())
    }

    /// Returns when a data channel reached each stage.
    pub(crate) fn stages(&self, key: PeerKey) -> Stages {
        self.game(key).map(Peer::stages).unwrap_or_default()
    }

    /// Returns when the last packet of an open peer arrived.
    pub(crate) fn heard_at(&self, key: PeerKey) -> Option<Instant> {
        self.game(key).filter(|peer| peer.is_open()).map(Peer::heard_at)
    }

    /// See [`Peer::silence`].
    pub(crate) fn silence(&self, key: PeerKey) -> Option<Silence> {
        self.game(key).and_then(Peer::silence)
    }

    /// See [`Peer::doubt`].
    pub(crate) fn doubt(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.open_peer(key) {
            peer.doubt(now);
        }
    }

    /// See [`Peer::ask_where_silent`].
    pub(crate) fn ask_where_silent(&mut self, now: Instant, key: PeerKey) {
        self.act(key, |peer, outbox| peer.ask_where_silent(now, outbox));
    }

    /// See [`Peer::reserve`].
    pub(crate) fn reserve(&mut self, now: Instant, key: PeerKey, bytes: usize, parts: usize) -> bool {
        self.open_peer(key).is_some_and(|peer| peer.reserve(now, bytes, parts))
    }

    /// See [`Peer::send_reserved`].
    pub(crate) fn send_reserved(&mut self, now: Instant, key: PeerKey, frame: &[u8]) -> Sent {
        let sent = self.act(key, |peer, outbox| peer.send_reserved(now, frame, outbox)).unwrap_or(Sent::Dropped);
        // Outside of str0m, sending has no effect but the datagram.
        if sent == Sent::Dropped || !self.game(key).is_some_and(Peer::is_fast) {
            self.settle(key);
        }
        sent
    }

    /// Sends a frame now or never.
    #[cfg(test)]
    pub(crate) fn send(&mut self, now: Instant, key: PeerKey, frame: &[u8]) -> Sent {
        if self.reserve(now, key, frame.len(), 1) { self.send_reserved(now, key, frame) } else { Sent::Dropped }
    }

    /// See [`Peer::takes_tick`].
    pub(crate) fn takes_tick(&mut self, now: Instant, key: PeerKey, tick: u32, is_state: bool) -> bool {
        self.open_peer(key).is_some_and(|peer| peer.takes_tick(now, tick, is_state))
    }

    /// Returns the measurements of an open peer's path since the last call.
    pub(crate) fn measure_path(&mut self, key: PeerKey) -> Option<Path> {
        self.open_peer(key).map(Peer::measure_path)
    }

    fn open_peer(&mut self, key: PeerKey) -> Option<&mut Peer> {
        let entry = self.peers.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)?;
        match &mut entry.peer {
            Kind::Game(peer) => Some(peer).filter(|peer| peer.is_open()),
            Kind::Media(_) => None,
        }
    }

    fn game(&self, key: PeerKey) -> Option<&Peer> {
        self.entry(key).and_then(|entry| entry.peer.game())
    }

    /// Closes a peer. No event follows.
    pub(crate) fn close(&mut self, now: Instant, key: PeerKey) {
        self.with_any(key, |peer, outbox| match peer {
            Kind::Game(peer) => peer.close(now, Closed::ByPeer, outbox),
            Kind::Media(peer) => peer.close(Closed::ByPeer, outbox),
        });
        self.events.retain(|&(of, _)| of != key);
        self.media_events.retain(|&(of, _)| of != key);
    }

    pub(crate) fn poll_media_event(&mut self) -> Option<(PeerKey, media::Event)> {
        self.media_events.pop_front()
    }

    /// Calls `act` with a media connection and handles the consequences.
    pub(crate) fn with_media<T>(
        &mut self,
        key: PeerKey,
        act: impl FnOnce(&mut MediaPeer, &mut Outbox) -> T,
    ) -> Option<T> {
        let acted = self.with_any(key, |peer, outbox| match peer {
            Kind::Media(peer) => Some(act(peer, outbox)),
            Kind::Game(_) => None,
        });
        acted.flatten()
    }

    pub(crate) fn poll_event(&mut self) -> Option<(PeerKey, Event)> {
        self.events.pop_front()
    }

    /// See [`Outbox::recycle`].
    pub(crate) fn recycle(&mut self, frame: Vec<u8>) {
        self.outbox.recycle(frame);
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.outbox.poll()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }

    fn entry(&self, key: PeerKey) -> Option<&Entry> {
        self.peers.get(key.index as usize).map(Box::as_ref).filter(|entry| entry.generation == key.generation)
    }

    /// Calls `act` with a peer and handles the consequences.
    fn with_any<T>(&mut self, key: PeerKey, act: impl FnOnce(&mut Kind, &mut Outbox) -> T) -> Option<T> {
        let result = self.act_any(key, act);
        self.settle(key);
        result
    }

    /// Calls `act` with a data channel.
    fn act<T>(&mut self, key: PeerKey, act: impl FnOnce(&mut Peer, &mut Outbox) -> T) -> Option<T> {
        let acted = self.act_any(key, |peer, outbox| match peer {
            Kind::Game(peer) => Some(act(peer, outbox)),
            Kind::Media(_) => None,
        });
        acted.flatten()
    }

    /// Calls `act` with a peer. str0m panics when it finds its state inconsistent: then only this peer is closed.
    fn act_any<T>(&mut self, key: PeerKey, act: impl FnOnce(&mut Kind, &mut Outbox) -> T) -> Option<T> {
        let entry = self.peers.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation)?;
        let outbox = &mut self.outbox;
        let Ok(result) = catch_unwind(AssertUnwindSafe(|| act(&mut entry.peer, outbox))) else {
            log::error!("a peer panicked and was closed");
            if self.is_media(key) {
                self.media_events.push_back((key, media::Event::Closed(Closed::Failed)));
            } else {
                self.events.push_back((key, Event::Closed(Closed::Failed)));
            }
            self.remove(key);
            return None;
        };
        Some(result)
    }

    fn settle(&mut self, key: PeerKey) {
        let found = self.peers.get_mut(key.index as usize).filter(|entry| entry.generation == key.generation);
        let Some(entry) = found else { return };
        match &mut entry.peer {
            Kind::Game(peer) => {
                while let Some(event) = peer.poll_event() {
                    self.events.push_back((key, event));
                }
            }
            Kind::Media(peer) => {
                while let Some(event) = peer.poll_event() {
                    self.media_events.push_back((key, event));
                }
            }
        }
        if either!(&entry.peer, peer => peer.is_closed()) {
            self.remove(key);
            return;
        }
        let deadline = either!(&entry.peer, peer => peer.poll_timeout());
        if deadline != entry.deadline {
            if let Some(old) = entry.deadline {
                self.timers.remove(&(old, key));
            }
            if let Some(new) = deadline {
                self.timers.insert((new, key));
            }
            entry.deadline = deadline;
        }
        let paths_version = either!(&entry.peer, peer => peer.paths_version());
        if std::mem::replace(&mut entry.paths_version, paths_version) != paths_version {
            for old in &entry.paths {
                if self.by_path.get(old) == Some(&key) {
                    self.by_path.remove(old);
                }
            }
            let known = std::mem::replace(&mut entry.paths, either!(&entry.peer, peer => peer.paths().collect()));
            // A path that another peer has claimed meanwhile stays that peer's.
            for &pair in &entry.paths {
                if !known.contains(&pair) || !self.by_path.contains_key(&pair) {
                    self.by_path.insert(pair, key);
                }
            }
        }
    }

    fn remove(&mut self, key: PeerKey) {
        let entry = *self.peers.remove(key.index as usize);
        self.dropped_by_gone += entry.peer.dropped();
        self.media_peers -= usize::from(entry.peer.game().is_none());
        if let Some(deadline) = entry.deadline {
            self.timers.remove(&(deadline, key));
        }
        for pair in entry.paths {
            if self.by_path.get(&pair) == Some(&key) {
                self.by_path.remove(&pair);
            }
        }
        // A value that panicked may panic again when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(entry.peer)));
    }
}

/// Returns the index of a peer and its ufrag, which begins with the index, from the user name of a STUN request.
fn peer_index(bytes: &[u8]) -> Option<(u32, String)> {
    let message = StunMessage::parse(bytes).ok()?;
    if !message.is_binding_request() {
        return None;
    }
    let (ufrag, _) = message.split_username()?;
    let index = u32::from_str_radix(ufrag.get(..8)?, 16).ok()?;
    Some((index, ufrag.to_owned()))
}

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
#[cfg(test)]
mod tests;
