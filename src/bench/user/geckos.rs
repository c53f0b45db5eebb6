//! A player of a geckos.io server: a data channel that the server offers over HTTP.
//!
//! The client answers as an ICE-lite agent, which sends no ICE checks. So that the server learns its address, it sends
//! plain binding requests until the server's checks arrive.
//!
//! The metrics have the names of an [rtcade player's](super::rtc): `rtc.signal`, until the server has accepted the
//! answer; `rtc.ice`, `rtc.dtls`, `rtc.open`; `rtc.echo`, of measured messages, until one with the same content
//! returns; `rtc.sent` and `rtc.received` count messages. They have no sequence numbers, so losses are unknown.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::Token;
use serde::Deserialize;
use serde_json::Value;
use str0m::ice::{StunMessage, TransId};

use super::udp::Udp;
use super::{ECHOES, Happened, Turn};
use crate::bench::http::{Http, Request};
use crate::bench::meters::{Count, Time};
use crate::bench::script::Method;
use crate::driver::client::Response;
use crate::limits;
use crate::peer::{Closed, Event, Identity, LocalId, Outbox, Peer, Sent, host_candidates};

const CONNECTIONS: &str = "/.wrtc/v2/connections";
const LOCAL: LocalId = LocalId(0);
/// The interval of binding requests.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The priority that browsers give their checks (RFC 8445 §5.1.2): the type preference of peer-reflexive candidates.
const CHECK_PRIORITY: u32 = 110 << 24;
const STUN_BYTES: usize = 512;

pub(super) struct Geckos {
    number: u64,
    http: Http,
    asked: Asked,
    udp: Udp,
    channel: Option<Channel>,
    outbox: Outbox,
    intended: Instant,
    is_leaving: bool,
    echoes: VecDeque<(String, Instant)>,
}

/// The pending request to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Offer,
    ToTakeAnswer,
    Candidates,
    ToClose,
    Nothing,
}

struct Channel {
    /// The server's ID of the connection.
    id: String,
    peer: Box<Peer>,
    /// A check, and when to send it again to all the server's addresses.
    check: Vec<u8>,
    check_at: Instant,
    remotes: Vec<SocketAddr>,
}

#[derive(Deserialize)]
struct Offered {
    id: String,
    #[serde(rename = "localDescription")]
    local_description: Description,
}

#[derive(Deserialize)]
struct Description {
    sdp: String,
}

#[derive(Deserialize)]
struct Candidate {
    candidate: String,
}

impl Geckos {
    /// Starts to connect; `intended` is when this was due. [`Happened::Done`] reports that the channel is open.
    pub(super) fn connect(
        intended: Instant,
        number: u64,
        token: Token,
        turn: &mut Turn<'_, '_>,
    ) -> Result<Geckos, &'static str> {
        let mut geckos = Geckos {
            number,
            http: Http::new(Token(token.0 + 1)),
            asked: Asked::Nothing,
            udp: Udp::bind(number, token, turn)?,
            channel: None,
            outbox: Outbox::default(),
            intended,
            is_leaving: false,
            echoes: VecDeque::new(),
        };
        geckos.ask(Asked::Offer, Method::Post, CONNECTIONS.to_owned(), None, turn)?;
        Ok(geckos)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let channel = self.channel.as_ref();
        let peer = channel.and_then(|channel| channel.peer.poll_timeout());
        let check = channel.filter(|channel| channel.is_unknown()).map(|channel| channel.check_at);
        [self.udp.poll_timeout(), peer, check].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_, '_>) {
        if let Some(Channel { peer, .. }) = &mut self.channel
            && peer.poll_timeout().is_some_and(|at| at <= turn.now)
        {
            peer.handle_timeout(turn.now, &mut self.outbox);
        }
        self.settle(turn);
    }

    /// Returns whether more datagrams may wait.
    pub(super) fn handle_datagrams(&mut self, turn: &mut Turn<'_, '_>) -> bool {
        let Geckos { udp, channel, outbox, .. } = self;
        let now = turn.now;
        let has_more = udp.receive(turn, |remote, bytes| take(channel, now, remote, bytes, outbox));
        self.settle(turn);
        has_more
    }

    /// Returns whether more may wait.
    pub(super) fn handle_http(&mut self, turn: &mut Turn<'_, '_>) -> bool {
        let (answered, has_more) = self.http.handle_ready(&mut turn.thread.buffer);
        let asked = match answered {
            Ok(None) => return has_more,
            _ => std::mem::replace(&mut self.asked, Asked::Nothing),
        };
        let went_on = match (asked, answered) {
            (Asked::ToClose, _) => {
                turn.tell(Happened::Gone);
                Ok(())
            }
            (_, Ok(Some(Response { status: 200, body }))) => self.go_on(asked, &body, turn),
            (_, Ok(response)) => {
                let status = response.map_or(0, |response| response.status);
                turn.tell(Happened::Failed(format!("signaling.{status}")));
                Ok(())
            }
            (_, Err(name)) => Err(name),
        };
        if let Err(name) = went_on {
            turn.tell(Happened::Failed(name.to_owned()));
        }
        self.settle(turn);
        has_more
    }

    /// Sends a message. If `intended` is given, its echo is measured from then.
    pub(super) fn send(
        &mut self,
        text: String,
        intended: Option<Instant>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), &'static str> {
        let Some(Channel { peer, .. }) = &mut self.channel else { return Err("not_connected") };
        if text.is_empty() || text.len() > limits::FRAME_BYTES {
            return Err(if text.is_empty() { "empty" } else { "too_large" });
        }
        turn.add(Count::Sent, 1);
        if peer.send_text(turn.now, &text, &mut self.outbox) == Sent::Dropped {
            turn.count("errors.not_sent");
        } else if let Some(intended) = intended {
            if self.echoes.len() >= ECHOES {
                self.echoes.pop_front();
            }
            self.echoes.push_back((text, intended));
        }
        self.settle(turn);
        Ok(())
    }

    pub(super) fn leave(&mut self, turn: &mut Turn<'_, '_>) {
        if std::mem::replace(&mut self.is_leaving, true) {
            return;
        }
        let Some(Channel { id, peer, .. }) = &mut self.channel else { return turn.tell(Happened::Gone) };
        peer.close(turn.now, Closed::ByPeer, &mut self.outbox);
        let path = format!("{CONNECTIONS}/{id}/close");
        if self.ask(Asked::ToClose, Method::Post, path, None, turn).is_err() {
            turn.tell(Happened::Gone);
        }
        self.settle(turn);
    }

    fn ask(
        &mut self,
        asked: Asked,
        method: Method,
        url: String,
        json: Option<Value>,
        turn: &mut Turn<'_, '_>,
    ) -> Result<(), &'static str> {
        self.asked = asked;
        turn.thread.ask(&mut self.http, &Request { method, url, json, headers: Vec::new() })
    }

    fn go_on(&mut self, asked: Asked, body: &[u8], turn: &mut Turn<'_, '_>) -> Result<(), &'static str> {
        const NONSENSE: &str = "signaling";
        match asked {
            Asked::Offer => {
                let Offered { id, local_description: Description { sdp } } =
                    serde_json::from_slice(body).map_err(|_| NONSENSE)?;
                if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return Err(NONSENSE);
                }
                let (channel, answer) = self.answer(id, &sdp, turn)?;
                let path = format!("{CONNECTIONS}/{}/remote-description", channel.id);
                self.channel = Some(channel);
                let answer = serde_json::json!({ "sdp": answer, "type": "answer" });
                self.ask(Asked::ToTakeAnswer, Method::Post, path, Some(answer), turn)
            }
            Asked::ToTakeAnswer => {
                turn.record_since(Time::Signal, self.intended);
                let Some(channel) = &self.channel else { return Err(NONSENSE) };
                let path = format!("{CONNECTIONS}/{}/additional-candidates", channel.id);
                self.ask(Asked::Candidates, Method::Get, path, None, turn)
            }
            Asked::Candidates => {
                let more: Vec<Candidate> = serde_json::from_slice(body).map_err(|_| NONSENSE)?;
                let more: String = more.into_iter().map(|more| more.candidate + "\n").collect();
                if let Some(channel) = &mut self.channel {
                    channel.learn(&more);
                    channel.check_at = turn.now;
                }
                Ok(())
            }
            Asked::ToClose | Asked::Nothing => Ok(()),
        }
    }

    fn answer(&self, id: String, offer: &str, turn: &Turn<'_, '_>) -> Result<(Channel, String), &'static str> {
        let seed = turn.thread.seed_of(self.number);
        let ufrag = format!("user{}", self.number);
        let check = binding_request(offer, &ufrag).ok_or("bad_sdp")?;
        let locals = vec![self.udp.local_addr()?];
        let answered = Peer::answer(turn.now, &Identity::generate(), ufrag, seed, offer, locals);
        let (mut peer, answer) = answered.map_err(|_| "bad_sdp")?;
        peer.report_gaps();
        peer.take_text();
        let mut channel = Channel { id, peer: Box::new(peer), check, check_at: turn.now, remotes: Vec::new() };
        channel.learn(offer);
        Ok((channel, answer))
    }

    /// Processes the output of the peer.
    fn settle(&mut self, turn: &mut Turn<'_, '_>) {
        let Geckos { udp, channel, outbox, .. } = self;
        let now = turn.now;
        udp.pass(now, |remote, bytes| take(channel, now, remote, bytes, outbox));
        while let Some(event) = self.channel.as_mut().and_then(|channel| channel.peer.poll_event()) {
            self.note(event, turn);
        }
        if let Some(channel) = &mut self.channel
            && channel.is_unknown()
            && channel.check_at <= now
            && matches!(self.asked, Asked::Nothing)
        {
            channel.check_at = now + CHECK_INTERVAL;
            channel.remotes.iter().for_each(|remote| self.udp.send(now, *remote, &channel.check));
        }
        while let Some(transmit) = self.outbox.poll() {
            self.udp.send(now, transmit.destination, transmit.bytes);
        }
        match self.udp.take_bytes_up() {
            0 => {}
            bytes_up => turn.add(Count::BytesUp, bytes_up as u64),
        }
    }

    fn note(&mut self, event: Event, turn: &mut Turn<'_, '_>) {
        match event {
            Event::Open => {
                let stages = self.channel.as_ref().map(|channel| channel.peer.stages()).unwrap_or_default();
                for (what, at) in [(Time::Ice, stages.ice), (Time::Dtls, stages.dtls), (Time::Open, Some(turn.now))] {
                    if let Some(at) = at {
                        turn.record(what, at.saturating_duration_since(self.intended));
                    }
                }
                turn.tell(Happened::Done);
            }
            Event::Data(message) => {
                turn.add(Count::Received, 1);
                let Ok(text) = String::from_utf8(message) else { return };
                if let Some(index) = self.echoes.iter().position(|(sent, _)| *sent == text)
                    && let Some((_, intended)) = self.echoes.remove(index)
                {
                    turn.record_since(Time::Echo, intended);
                }
                turn.tell(Happened::Text(text));
            }
            Event::Closed(_) if self.is_leaving => {}
            Event::Closed(why) => {
                log::debug!("user {}: {why}", self.number);
                turn.tell(Happened::Failed("closed".to_owned()));
            }
        }
    }
}

impl Channel {
    /// Returns whether the server may not know this end's address. It knows it from the answer, but its UDP port
    /// accepts nothing from it before a check.
    fn is_unknown(&self) -> bool {
        !self.peer.is_open() && !self.peer.is_closed()
    }

    fn learn(&mut self, sdp: &str) {
        for remote in host_candidates(sdp) {
            if !self.remotes.contains(&remote) && self.remotes.len() < limits::CANDIDATES_ADVERTISED {
                self.remotes.push(remote);
            }
        }
    }
}

fn take(channel: &mut Option<Channel>, now: Instant, remote: SocketAddr, bytes: &[u8], outbox: &mut Outbox) {
    let Some(Channel { peer, .. }) = channel else { return };
    if bytes.first().is_some_and(|&byte| byte < 4) {
        peer.handle_stun(now, LOCAL, remote, bytes, outbox);
    } else {
        peer.handle_datagram(now, LOCAL, remote, bytes, outbox);
    }
}

/// Builds a connectivity check (RFC 8445 §7.1.1) for the offering end.
fn binding_request(offer: &str, ufrag: &str) -> Option<Vec<u8>> {
    let attribute = |name| offer.lines().find_map(|line| line.strip_prefix(name));
    let (remote, password) = (attribute("a=ice-ufrag:")?, attribute("a=ice-pwd:")?);
    let username = format!("{remote}:{ufrag}");
    let message = StunMessage::binding_request(&username, TransId::new(), false, 1, CHECK_PRIORITY, false);
    let hmac = str0m::crypto::from_feature_flags().sha1_hmac_provider;
    let mut bytes = vec![0; STUN_BYTES];
    let sign = |key: &[u8], pieces: &[&[u8]]| hmac.sha1_hmac(key, pieces);
    let length = message.to_bytes(Some(password.as_bytes()), &mut bytes, sign).ok()?;
    bytes.truncate(length);
    Some(bytes)
}
