//! Voices between clients that str0m plays, without a network in between.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::format::Codec;
use str0m::media::{Direction, KeyframeRequest, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Candidate, Event as RtcEvent, Input, Output, Rtc};

use super::super::*;
use crate::game::{Audible, Batch, Context, Join, Leave as GameLeave, Tick, UserMedia};
use crate::limits;

const LOCAL: LocalId = LocalId(0);
const MS: Duration = Duration::from_millis(1);
const PACKET: Duration = Duration::from_millis(20);
const LOUD: i8 = -20;
const SILENT: i8 = -127;

mod video;

/// Messages from outside decide who hears whom: listener, speaker, whether; and who may publish video.
struct Rules;

impl Game for Rules {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Rules>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Rules>, _: PlayerId, _: GameLeave) {}

    fn external(&mut self, ctx: &mut Context<Rules>, bytes: &[u8]) {
        if let &[player, video] = bytes {
            return ctx.user_media(PlayerId(player.into()), UserMedia { audio: true, video: video != 0 });
        }
        let audible = if bytes[2] == 0 { Audible::Off } else { Audible::On };
        ctx.voice(PlayerId(bytes[0].into()), PlayerId(bytes[1].into()), audible);
    }

    fn tick(&mut self, _: &mut Context<Rules>, _: Tick, _: Batch<'_, Rules>) {}
}

struct Player {
    rtc: Rtc,
    pending: Option<SdpPendingOffer>,
    /// The address that it knows, and the one under which the server sees it.
    home: SocketAddr,
    address: SocketAddr,
    microphone: Mid,
    sequence: u64,
    time: u32,
    texts: Vec<Value>,
    heard: Vec<RtpPacket>,
    /// Requests for keyframes that wait, and the number of all.
    requests: Vec<KeyframeRequest>,
    requested: usize,
    /// Datagrams for the server.
    outgoing: Vec<Vec<u8>>,
    is_gone: bool,
}

impl Player {
    fn new(rtc: Rtc, pending: SdpPendingOffer, microphone: Mid, address: SocketAddr, offer: &str) -> Player {
        Player {
            rtc,
            pending: Some(pending),
            home: address,
            address,
            outgoing: Vec::new(),
            microphone,
            sequence: 1_000,
            time: 7,
            texts: vec![json!({ "offer": offer })],
            heard: Vec::new(),
            requests: Vec::new(),
            requested: 0,
            is_gone: false,
        }
    }

    fn handle(&mut self, input: Input<'_>) {
        self.rtc.handle_input(input).unwrap();
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => self.outgoing.push(transmit.contents.to_vec()),
                Output::Event(RtcEvent::RtpPacket(packet)) => self.heard.push(packet),
                Output::Event(RtcEvent::KeyframeRequest(request)) => {
                    self.requests.push(request);
                    self.requested += 1;
                }
                Output::Event(_) => {}
            }
        }
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) {
        let receive = Receive::new(Protocol::Udp, server_address(), self.home, bytes).unwrap();
        self.handle(Input::Receive(now, receive));
    }

    /// The players in the slots, as last told.
    fn slots(&self) -> Vec<Option<u64>> {
        self.told_slots("audio")
    }

    fn told_slots(&self, kind: &str) -> Vec<Option<u64>> {
        let told = self.texts.iter().rev().find(|text| text["a"] == "eventMediaSlots").expect("it was told");
        told["d"][kind].as_array().unwrap().iter().map(Value::as_u64).collect()
    }

    fn answers(&self) -> impl Iterator<Item = &Value> {
        self.texts.iter().filter(|text| text["a"] == "exchangeSdpR")
    }

    fn write(&mut self, now: Instant, level: i8, payload: &[u8]) {
        let payload_type = self.rtc.codec_config().params()[0].pt();
        let extensions =
            ExtensionValues { audio_level: Some(level), voice_activity: Some(true), ..ExtensionValues::default() };
        let mut api = self.rtc.direct_api();
        let stream = api.stream_tx_by_mid(self.microphone, None).expect("it may send");
        let packet = RtpWrite::new(payload_type, self.sequence.into(), self.time, now, payload);
        stream.write_rtp(packet.ext_vals(extensions));
        self.sequence += 1;
        self.time = self.time.wrapping_add(960);
        self.handle(Input::Timeout(now));
    }
}

struct Call {
    server: Server<Rules>,
    now: Instant,
    players: Vec<Player>,
}

impl Call {
    fn new() -> Call {
        Call::with(|config| config.media = Media::Video)
    }

    fn with(change: impl FnOnce(&mut Config)) -> Call {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        let mut config = Config::new([5; 32]);
        config.udp_port = 8080;
        config.public = vec![server_address()];
        change(&mut config);
        Call { server: Server::new(config, now, |_| Ok(Rules)), now, players: Vec::new() }
    }

    /// A player who has joined and whose media connection is open.
    fn join(&mut self, slots: usize) -> usize {
        let index = self.join_without_media(slots);
        self.offer(index);
        self.run(Duration::from_secs(1));
        assert!(self.players[index].rtc.is_connected(), "{:?}", self.players[index].texts);
        index
    }

    fn join_without_media(&mut self, slots: usize) -> usize {
        let address = self.next_address();
        let (rtc, pending, microphone, offer) = client(self.now, address, slots);
        self.add(Player::new(rtc, pending, microphone, address, &offer))
    }

    fn next_address(&self) -> SocketAddr {
        SocketAddr::from(([10, 0, 1, u8::try_from(self.players.len() + 1).unwrap()], 5000))
    }

    fn add(&mut self, player: Player) -> usize {
        let (index, address) = (self.players.len(), player.address);
        self.players.push(player);
        let id = ConnectionId(index as u64);
        let connect = Connect::new(RoomName::parse("call"), address, [10, 0, 0, 1].into());
        self.server.handle_connect(self.now, id, connect);
        self.server.handle_text(self.now, id, r#"{"a":"join"}"#);
        self.run(100 * MS);
        index
    }

    /// Offers what the player has to offer, and takes the answer.
    fn offer(&mut self, index: usize) {
        let offer = self.players[index].texts.iter().rev().find_map(|text| text["offer"].as_str()).unwrap().to_owned();
        let answers = self.players[index].answers().count();
        self.exchange(index, &offer);
        let player = &mut self.players[index];
        let answer = player.answers().nth(answers).expect("it is answered");
        let sdp = answer["d"]["sdp"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        let pending = player.pending.take().expect("an offer waits");
        player.rtc.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&sdp).unwrap()).unwrap();
    }

    fn exchange(&mut self, index: usize, sdp: &str) {
        let text = json!({ "a": "exchangeSdp", "d": { "to": "server", "sdp": sdp } }).to_string();
        self.server.handle_text(self.now, ConnectionId(index as u64), &text);
        self.turn();
    }

    /// The code with which an offer is refused.
    fn refusal(&mut self, index: usize, sdp: &str) -> String {
        self.exchange(index, sdp);
        let answer = self.players[index].answers().last().expect("it is answered");
        assert_eq!(answer["s"], false, "{answer}");
        answer["m"].as_str().unwrap().to_owned()
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += 5 * MS;
            self.turn();
        }
    }

    /// Each of the players says something for a while, at a level.
    fn speak(&mut self, time: Duration, levels: &[(usize, i8)]) {
        let end = self.now + time;
        while self.now < end {
            for &(index, level) in levels {
                let now = self.now;
                self.players[index].write(now, level, &[u8::try_from(index).unwrap(); 80]);
            }
            self.run(PACKET);
        }
    }

    fn turn(&mut self) {
        let now = self.now;
        self.server.handle_timeout(now);
        for index in 0..self.players.len() {
            if !self.players[index].is_gone {
                self.players[index].handle(Input::Timeout(now));
            }
        }
        for _ in 0..1_000 {
            if !self.pass() {
                return;
            }
        }
        panic!("the ends never come to rest");
    }

    /// Passes everything that waits on. Returns whether there was something.
    fn pass(&mut self) -> bool {
        let now = self.now;
        let mut has_passed = false;
        for player in &mut self.players {
            for bytes in player.outgoing.drain(..).filter(|_| !player.is_gone) {
                has_passed = true;
                self.server.handle_datagram(now, now, LOCAL, player.address, &bytes);
            }
        }
        while let Some(transmit) = self.server.poll_transmit() {
            has_passed = true;
            assert!(transmit.bytes.len() <= limits::MEDIA_PAYLOAD_BYTES);
            let found = self.players.iter_mut().find(|player| player.address == transmit.destination);
            if let Some(player) = found.filter(|player| !player.is_gone) {
                player.receive(now, transmit.bytes);
            }
        }
        while let Some(id) = self.server.poll_signal_ready() {
            let index = usize::try_from(id.0).unwrap();
            while let Some(signal) = self.server.poll_signal(id) {
                match signal {
                    Signal::Text(text) => self.players[index].texts.push(serde_json::from_str(&text).unwrap()),
                    Signal::Ping(payload) => self.server.handle_pong(now, id, &payload.to_be_bytes()),
                    _ => {}
                }
            }
        }
        has_passed
    }

    /// What a player has heard since it was last asked, as the index of the speaker of each packet.
    fn heard(&mut self, index: usize) -> Vec<u8> {
        std::mem::take(&mut self.players[index].heard).iter().map(|packet| packet.payload[0]).collect()
    }

    /// As [`Call::heard`], of payloads that end with the index.
    fn heard_last(&mut self, index: usize) -> Vec<u8> {
        let heard = std::mem::take(&mut self.players[index].heard);
        heard.iter().filter_map(|packet| packet.payload.last().copied()).collect()
    }

    fn permit(&mut self, player: usize, video: bool) {
        let player = u8::try_from(player + 1).unwrap();
        let room = RoomName::parse("call").unwrap();
        self.server.handle_external(&room, &[player, video.into()]).unwrap();
        self.run(100 * MS);
    }

    fn allow(&mut self, listener: usize, speaker: usize, allowed: bool) {
        let [listener, speaker] = [listener, speaker].map(|index| u8::try_from(index + 1).unwrap());
        let room = RoomName::parse("call").unwrap();
        self.server.handle_external(&room, &[listener, speaker, allowed.into()]).unwrap();
        self.run(50 * MS);
    }
}

fn server_address() -> SocketAddr {
    ([10, 0, 0, 1], 8080).into()
}

fn client(now: Instant, address: SocketAddr, slots: usize) -> (Rtc, SdpPendingOffer, Mid, String) {
    let mut rtc = Rtc::builder().clear_codecs().enable_opus(true, false).set_rtp_mode(true).build(now);
    rtc.add_local_candidate(Candidate::host(address, Protocol::Udp).unwrap());
    let mut api = rtc.sdp_api();
    let microphone = api.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
    for _ in 0..slots {
        api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
    }
    let (offer, pending) = api.apply().unwrap();
    (rtc, pending, microphone, offer.to_sdp_string())
}

#[test]
fn everybody_in_the_room_hears_whoever_speaks() {
    let mut call = Call::new();
    let [one, two, three] = [0; 3].map(|_| call.join(4));
    assert_eq!(call.players[two].slots(), [None; 4]);
    call.speak(Duration::from_secs(1), &[(one, LOUD), (two, SILENT)]);
    for listener in [two, three] {
        let packets = &call.players[listener].heard;
        let sequences: Vec<u64> = packets.iter().map(|packet| *packet.seq_no).collect();
        assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
        let times: Vec<u32> = packets.iter().map(|packet| packet.header.timestamp).collect();
        assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 960), "{times:?}");
        assert_eq!(packets[0].header.ext_vals.audio_level, Some(LOUD));
        assert_eq!(call.heard(listener), [0; 50]);
        assert_eq!(call.players[listener].slots(), [Some(1), None, None, None]);
    }
    assert!(call.heard(one).is_empty(), "nobody hears themselves, nor who is silent");
    assert_eq!(call.server.gauges().media_peers, 3);
}

#[test]
fn a_slot_carries_one_speaker_after_the_other_in_one_stream() {
    let mut call = Call::new();
    let [one, two, three] = [0; 3].map(|_| call.join(1));
    call.speak(Duration::from_secs(1), &[(one, LOUD)]);
    assert_eq!(call.players[three].slots(), [Some(1)]);
    call.run(Duration::from_secs(1));
    call.speak(Duration::from_secs(1), &[(two, LOUD)]);
    assert_eq!(call.players[three].slots(), [Some(2)]);
    let packets = std::mem::take(&mut call.players[three].heard);
    assert_eq!(packets.len(), 100);
    assert!(packets.windows(2).all(|pair| pair[0].header.ssrc == pair[1].header.ssrc));
    assert!(packets.windows(2).all(|pair| *pair[1].seq_no == *pair[0].seq_no + 1));
    let pause = packets[50].header.timestamp.wrapping_sub(packets[49].header.timestamp);
    assert!((47_000..50_000).contains(&pause), "a second of {pause}");
    assert!(packets[50].header.marker);
}

#[test]
fn what_was_not_forwarded_is_no_loss() {
    let mut call = Call::new();
    let [one, two] = [0; 2].map(|_| call.join(1));
    for _ in 0..3 {
        call.speak(PACKET, &[(one, LOUD)]);
        call.speak(Duration::from_millis(900), &[(one, SILENT)]);
    }
    let packets = std::mem::take(&mut call.players[two].heard);
    assert!(packets.len() < 3 * 46, "silence is not forwarded: {}", packets.len());
    assert!(packets.windows(2).all(|pair| *pair[1].seq_no == *pair[0].seq_no + 1));
    let last = packets.last().unwrap().header.timestamp.wrapping_sub(packets[0].header.timestamp);
    assert!((2 * 44_160..3 * 44_160).contains(&last), "the silence lasts: {last}");
}

#[test]
fn the_loudest_are_forwarded_where_slots_are_few() {
    let mut call = Call::new();
    let [one, two, three, listener] = [4, 4, 4, 2].map(|slots| call.join(slots));
    call.speak(Duration::from_secs(3), &[(one, -50), (two, -40), (three, -10)]);
    let slots = call.players[listener].slots();
    assert!(slots.contains(&Some(3)) && slots.contains(&Some(2)), "{slots:?}");
    call.heard(listener);
    call.speak(Duration::from_secs(1), &[(one, -50), (two, -40), (three, -10)]);
    let heard = call.heard(listener);
    assert_eq!((heard.len(), heard.contains(&0)), (100, false), "{heard:?}");
    let told = call.players[listener].texts.iter().filter(|text| text["a"] == "eventMediaSlots").count();
    assert!(told <= 6, "the slots change seldom: {told}");
}

#[test]
fn the_game_decides_who_hears_whom() {
    let mut call = Call::new();
    let [one, two, three] = [0; 3].map(|_| call.join(2));
    call.allow(two, one, false);
    call.speak(Duration::from_secs(1), &[(one, LOUD)]);
    assert_eq!((call.heard(two).len(), call.heard(three).len()), (0, 50));
    call.allow(two, one, true);
    call.allow(three, one, false);
    call.speak(Duration::from_secs(1), &[(one, LOUD)]);
    assert_eq!((call.heard(two).len(), call.heard(three).len()), (50, 0));
    assert_eq!((call.players[two].slots()[0], call.players[three].slots()[0]), (Some(1), None));
}

#[test]
fn voices_stay_in_their_room_and_end_with_the_player() {
    let mut call = Call::new();
    let [one, two] = [0; 2].map(|_| call.join(2));
    call.speak(Duration::from_secs(1), &[(one, LOUD)]);
    assert_eq!(call.players[two].slots(), [Some(1), None]);
    call.players[one].is_gone = true;
    call.server.handle_text(call.now, ConnectionId(one as u64), r#"{"a":"leave"}"#);
    call.run(50 * MS);
    assert_eq!(call.players[two].slots(), [None, None]);
    assert_eq!(call.server.gauges().media_peers, 1);
    call.server.handle_shutdown(call.now);
    assert_eq!(call.server.gauges().media_peers, 0);
    assert!(call.server.by_media.is_empty());
}

#[test]
fn a_client_that_vanishes_is_given_up_while_its_player_stays() {
    let mut call = Call::new();
    let [one, two] = [0; 2].map(|_| call.join(2));
    call.players[one].is_gone = true;
    call.run(Duration::from_secs(40));
    assert_eq!((call.server.gauges().media_peers, call.server.gauges().players), (1, 2));
    let closed = call.players[one].texts.iter().find(|text| text["a"] == "eventMediaClosed").expect("it was told");
    assert_eq!(closed["d"]["e"], "no_such_session");
    assert!(call.players[two].rtc.is_connected());
}

#[test]
fn another_offer_changes_the_connection_and_one_of_another_replaces_it() {
    let mut call = Call::new();
    let [one, two] = [0; 2].map(|_| call.join(1));
    call.speak(Duration::from_secs(1), &[(two, LOUD)]);
    assert_eq!(call.heard(one).len(), 50);
    let mut api = call.players[one].rtc.sdp_api();
    api.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
    let (offer, pending) = api.apply().unwrap();
    let offer = offer.to_sdp_string();
    call.players[one].pending = Some(pending);
    call.players[one].texts.push(json!({ "offer": offer }));
    call.offer(one);
    call.run(100 * MS);
    assert_eq!(call.players[one].slots(), [Some(2), None]);
    call.speak(Duration::from_secs(1), &[(two, LOUD)]);
    assert_eq!((call.heard(one).len(), call.server.gauges().media_peers), (50, 2));

    let address = SocketAddr::from(([10, 0, 2, 1], 5000));
    let (rtc, pending, microphone, offer) = client(call.now, address, 3);
    let player = &mut call.players[one];
    (player.rtc, player.pending, player.microphone) = (rtc, Some(pending), microphone);
    (player.home, player.address) = (address, address);
    player.texts.push(json!({ "offer": offer }));
    call.offer(one);
    call.run(Duration::from_secs(1));
    call.speak(Duration::from_secs(1), &[(one, LOUD), (two, LOUD)]);
    assert_eq!((call.heard(one).len(), call.heard(two).len(), call.server.gauges().media_peers), (50, 50, 2));
}

#[test]
fn too_much_is_dropped_and_far_too_much_ends_the_connection() {
    let mut call = Call::new();
    let [one, two] = [0; 2].map(|_| call.join(1));
    let send = |call: &mut Call, packets: u32| {
        for _ in 0..packets {
            let now = call.now;
            call.players[one].write(now, LOUD, &[0; 20]);
            call.turn();
        }
    };
    send(&mut call, limits::AUDIO_PACKETS_PER_SECOND + 20);
    assert_eq!(call.heard(two).len(), limits::AUDIO_PACKETS_PER_SECOND as usize);
    assert_eq!(call.server.counters().peers.media, 20);
    send(&mut call, 2 * limits::AUDIO_PACKETS_PER_SECOND);
    let closed = call.players[one].texts.iter().find(|text| text["a"] == "eventMediaClosed").expect("it was told");
    assert_eq!(closed["d"]["e"], "rate_limited");
    assert_eq!((call.server.gauges().media_peers, call.server.gauges().players), (1, 2));
}

#[test]
fn what_is_not_authentic_is_counted_and_moves_nothing() {
    let mut call = Call::new();
    let [one, two] = [0; 2].map(|_| call.join(1));
    let (now, from) = (call.now, call.players[one].address);
    let stranger = SocketAddr::from(([10, 9, 9, 9], 9));
    let rtp = |source: u32| {
        let mut packet = vec![0x90, 111, 0, 1, 0, 0, 0, 1];
        packet.extend(source.to_be_bytes());
        packet.extend([0; 60]);
        packet
    };
    let before = call.server.counters();
    call.server.handle_datagram(now, now, LOCAL, stranger, &rtp(1));
    call.server.handle_datagram(now, now, LOCAL, stranger, &[0x80, 201, 0, 1, 0, 0, 0, 1]);
    call.server.handle_datagram(now, now, LOCAL, from, &rtp(1));
    call.server.handle_datagram(now, now, LOCAL, from, &[0x80, 111]);
    let source = {
        let microphone = call.players[one].microphone;
        let mut api = call.players[one].rtc.direct_api();
        *api.stream_tx_by_mid(microphone, None).unwrap().ssrc()
    };
    call.server.handle_datagram(now, now, LOCAL, from, &rtp(source));
    let after = call.server.counters();
    assert_eq!(after.unroutable.media - before.unroutable.media, 2);
    assert_eq!(after.peers.media - before.peers.media, 2);
    call.speak(Duration::from_secs(1), &[(one, LOUD)]);
    assert_eq!(call.heard(two), [0; 50]);
}

/// A player who copies a check of their own to the address of a victim gets the voices sent there only if that answers.
#[test]
fn voices_go_nowhere_that_has_not_asked_for_them() {
    let mut call = Call::new();
    let one = call.join(1);
    let two = call.join_without_media(1);
    call.offer(two);
    let victim = SocketAddr::from(([10, 9, 9, 9], 9));
    call.players[two].address = victim;
    let mut sent = 0;
    for _ in 0..400 {
        let now = call.now;
        call.players[one].write(now, LOUD, &[0; 80]);
        for player in &mut call.players {
            player.handle(Input::Timeout(now));
            for bytes in player.outgoing.drain(..) {
                call.server.handle_datagram(now, now, LOCAL, player.address, &bytes);
            }
        }
        call.server.handle_timeout(now);
        while let Some(transmit) = call.server.poll_transmit() {
            let is_answer = transmit.bytes[..2] == [1, 1];
            if transmit.destination == victim {
                sent += transmit.bytes.len();
            }
            // Whoever forges an address may guess the answers to its checks, but not the server's checks.
            if let Some(player) = call.players.iter_mut().find(|it| it.address == transmit.destination)
                && (is_answer || player.address != victim)
            {
                player.receive(now, transmit.bytes);
            }
        }
        call.now += PACKET;
    }
    assert!(!call.players[two].rtc.is_connected());
    assert!((1..20_000).contains(&sent), "checks alone: {sent} bytes");
}

/// Firefox offers all sections but the first as bundle-only (RFC 8843 §6), and names sources of reports.
#[test]
fn a_section_that_is_bundled_only_is_a_slot() {
    let mut call = Call::new();
    let [one, two] = [0; 2].map(|_| call.join_without_media(3));
    let offer = call.players[two].texts[0]["offer"].as_str().unwrap().to_owned();
    let (first, rest) = offer.split_at(offer.rfind("m=audio").unwrap());
    let changed = rest.replacen("m=audio 9", "m=audio 0", 1).replacen("a=mid:", "a=bundle-only\r\na=mid:", 1);
    call.players[two].texts.push(json!({ "offer": format!("{first}{changed}") }));
    for index in [one, two] {
        call.offer(index);
    }
    call.run(Duration::from_secs(1));
    assert_eq!(call.players[two].slots(), [None; 3]);
    call.speak(Duration::from_secs(1), &[(one, LOUD)]);
    assert_eq!(call.heard(two).len(), 50);
}

#[test]
fn an_offer_that_is_not_answered_is_refused_in_words() {
    let mut call = Call::new();
    let one = call.join_without_media(1);
    let offer = call.players[one].texts[0]["offer"].as_str().unwrap().to_owned();
    let mut check = |sdp: &str, sentence: &str| {
        let told = call.refusal(one, sdp);
        assert!(told.contains(sentence), "{told}");
        call.run(Duration::from_secs(1));
    };
    let changed = |from: &str, to: &str| {
        assert!(offer.contains(from), "{offer}");
        offer.replacen(from, to, 1)
    };
    check(
        &format!("{offer}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:app\r\n"),
        "m=video sections only",
    );
    check(&changed("a=recvonly", "a=sendrecv"), "one audio");
    check(&changed("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "SAVPF");
    check(&changed("a=setup:actpass", "a=setup:passive"), "actpass");
    check(&changed("a=mid:", "a=mid:-"), "a=mid");
    check(&changed("a=ice-pwd:", "a=ice-pwd:é"), "ice-pwd");
    check(&changed("a=ssrc:", "a=ssrc:x"), "a=ssrc");
    let sources: String = (1..=limits::MEDIA_SOURCES).map(|number| format!("a=ssrc:{number}\r\n")).collect();
    check(&changed("a=mid:", &format!("{sources}a=mid:")), "16 sources");
    check(&offer.replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 zz"), "can't be");
    check(&offer.replace("t=0 0", "t=x"), "can't be read");
    check(&format!("{offer}{}", "a=x\r\n".repeat(limits::MEDIA_SDP_LINES)), "512 lines");
    let padding = "x".repeat(limits::MEDIA_SDP_BYTES - offer.len());
    check(&format!("{offer}a=x:{padding}\r\n"), "14 KiB");
    let section = offer.split("\r\nm=").nth(2).unwrap().trim_end().to_owned();
    let many: String = (0..limits::MEDIA_SECTIONS).map(|n| format!("m={section}\r\na=mid:n{n}\r\n")).collect();
    check(&format!("{}{many}", offer.lines().take(4).collect::<Vec<_>>().join("\r\n") + "\r\n"), "");
    assert_eq!(call.server.gauges().media_peers, 0);
}

#[test]
fn without_the_option_an_offer_of_media_is_refused() {
    let mut call = Call::with(|_| {});
    let one = call.join_without_media(1);
    let offer = call.players[one].texts[0]["offer"].as_str().unwrap().to_owned();
    let told = call.refusal(one, &offer);
    assert!(told.contains("--media"), "{told}");
    let mut call = Call::with(|config| config.media = Media::Audio);
    let one = call.join_without_media(1);
    let told = call.refusal(one, &offer.replacen("m=audio", "m=video", 1));
    assert!(told.contains("--media=video"), "{told}");
}
