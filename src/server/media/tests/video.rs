//! Videos between clients that str0m plays.

use str0m::media::{KeyframeRequestKind, Rid, Simulcast, SimulcastLayer};
use str0m::rtp::Vp8Descriptor;

use super::*;

const FRAME: Duration = Duration::from_millis(33);

/// A player who may publish a video and receive some.
fn client(now: Instant, address: SocketAddr, codec: Codec, layers: &[&str], slots: usize) -> Player {
    let mut builder = Rtc::builder().clear_codecs().enable_opus(true, false).set_rtp_mode(true);
    builder = match codec {
        Codec::Vp8 => builder.enable_vp8(true),
        _ => builder.enable_h264(true),
    };
    let mut rtc = builder.build(now);
    rtc.add_local_candidate(Candidate::host(address, Protocol::Udp).unwrap());
    let mut api = rtc.sdp_api();
    let simulcast = (!layers.is_empty()).then(|| {
        let mut simulcast = Simulcast::new();
        layers.iter().for_each(|layer| simulcast.add_send_layer(SimulcastLayer::new(layer)));
        simulcast
    });
    let camera = api.add_media(MediaKind::Video, Direction::SendOnly, None, None, simulcast);
    for _ in 0..slots {
        api.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
    }
    let (offer, pending) = api.apply().unwrap();
    Player::new(rtc, pending, camera, address, &offer.to_sdp_string())
}

/// A packet of a frame of its own (RFC 7741 §4.2, RFC 6184 §5.6). The last byte tells who has sent it.
fn picture(codec: Codec, from: usize, number: u16, is_keyframe: bool) -> Vec<u8> {
    let from = u8::try_from(from).unwrap();
    let [high, low] = (number | 0x8000).to_be_bytes();
    match codec {
        Codec::Vp8 => vec![0x90, 0x80, high, low, u8::from(!is_keyframe), 0, 0, from],
        _ => vec![if is_keyframe { 0x65 } else { 0x41 }, high, low, from],
    }
}

impl Call {
    fn join_with_video(&mut self, codec: Codec, layers: &[&str], slots: usize) -> usize {
        let address = self.next_address();
        let player = client(self.now, address, codec, layers, slots);
        let index = self.add(player);
        self.offer(index);
        self.run(Duration::from_secs(1));
        assert!(self.players[index].rtc.is_connected(), "{:?}", self.players[index].texts);
        index
    }

    /// Each of the players sends frames for a while, a keyframe first if `begins`, and whenever one is requested.
    fn film(&mut self, time: Duration, players: &[usize], begins: bool) {
        let end = self.now + time;
        let mut is_first = begins;
        while self.now < end {
            for &index in players {
                let now = self.now;
                self.players[index].film(now, index, is_first);
            }
            is_first = false;
            self.run(FRAME);
        }
    }
}

impl Player {
    /// Sends a frame in each layer.
    fn film(&mut self, now: Instant, from: usize, is_keyframe: bool) {
        let params = self.rtc.codec_config().find(|params| params.spec().codec.is_video()).unwrap();
        let (payload_type, codec) = (params.pt(), params.spec().codec);
        let rids = match self.rtc.media(self.microphone).unwrap().rids_tx() {
            str0m::media::Rids::Specific(rids) => rids.iter().copied().map(Some).collect::<Vec<Option<Rid>>>(),
            _ => vec![None],
        };
        let requests = std::mem::take(&mut self.requests);
        for (layer, rid) in rids.into_iter().enumerate() {
            let is_keyframe = is_keyframe || requests.iter().any(|request| request.rid == rid);
            let mut payload = picture(codec, from, u16::try_from(self.sequence % 0x8000).unwrap(), is_keyframe);
            // Each layer is larger than the one before it.
            payload.resize(payload.len() + 100 * (layer + 1), u8::try_from(from).unwrap());
            let mut api = self.rtc.direct_api();
            let stream = api.stream_tx_by_mid(self.microphone, rid).expect("it may send");
            let packet = RtpWrite::new(payload_type, self.sequence.into(), self.time, now, payload);
            stream.write_rtp(packet.marker(true).ext_vals(ExtensionValues::default()));
        }
        self.sequence += 1;
        self.time = self.time.wrapping_add(3_000);
        self.handle(Input::Timeout(now));
    }

    fn video_slots(&self) -> Vec<Option<u64>> {
        self.told_slots("video")
    }

    fn ask_for_keyframe(&mut self, now: Instant) {
        let source = self.heard.last().expect("something was received").header.ssrc;
        self.rtc.direct_api().stream_rx(&source).unwrap().request_keyframe(KeyframeRequestKind::Pli);
        self.handle(Input::Timeout(now));
    }
}

fn is_keyframe(packet: &RtpPacket) -> bool {
    Vp8Descriptor::parse(&packet.payload).unwrap().starts_keyframe(&packet.payload)
}

#[test]
fn everybody_sees_a_publisher_from_a_keyframe_on() {
    let mut call = Call::new();
    let [one, two] = [0; 2].map(|_| call.join_with_video(Codec::Vp8, &[], 2));
    call.film(Duration::from_secs(1), &[one], true);
    assert_eq!(call.players[two].video_slots(), [Some(1), None]);
    let late = call.join_with_video(Codec::Vp8, &[], 2);
    call.film(Duration::from_secs(1), &[one], false);
    for (listener, least) in [(two, 55), (late, 20)] {
        let packets = std::mem::take(&mut call.players[listener].heard);
        assert!(packets.len() >= least && is_keyframe(&packets[0]), "{} packets", packets.len());
        assert!(packets.windows(2).all(|pair| *pair[1].seq_no == *pair[0].seq_no + 1));
        assert!(packets.windows(2).all(|pair| pair[1].header.timestamp == pair[0].header.timestamp + 3_000));
        assert!(packets.iter().all(|packet| packet.header.marker));
    }
    assert!(call.players[one].heard.is_empty(), "nobody sees themselves");
}

#[test]
fn keyframes_are_requested_once_for_many_and_no_more_than_one_needs() {
    let mut call = Call::new();
    let one = call.join_with_video(Codec::Vp8, &[], 0);
    let others: Vec<usize> = (0..4).map(|_| call.join_with_video(Codec::Vp8, &[], 1)).collect();
    call.film(Duration::from_millis(200), &[one], false);
    assert_eq!(call.players[one].requested, 1, "of all at once");
    call.film(Duration::from_secs(3), &[one], false);
    assert_eq!(call.players[one].requested, 1);
    // One who asks all the time gets one each two seconds.
    for _ in 0..90 {
        let now = call.now;
        call.players[others[0]].ask_for_keyframe(now);
        call.film(FRAME, &[one], false);
    }
    let requested = call.players[one].requested;
    assert!((3..=4).contains(&requested), "{requested}");
}

#[test]
fn one_layer_is_forwarded_and_another_takes_its_place_when_it_ends() {
    let mut call = Call::new();
    let one = call.join_with_video(Codec::Vp8, &["q", "h", "f"], 0);
    let two = call.join_with_video(Codec::Vp8, &[], 1);
    call.film(Duration::from_secs(4), &[one], true);
    let packets = std::mem::take(&mut call.players[two].heard);
    assert!(packets.windows(2).all(|pair| *pair[1].seq_no == *pair[0].seq_no + 1), "there is one stream");
    let sizes: Vec<usize> = packets.iter().map(|packet| packet.payload.len()).collect();
    assert!(sizes.len() > 100 && sizes.ends_with(&[308; 20]), "the best that the link takes: {sizes:?}");
    let changes = packets.windows(2).filter(|pair| pair[0].payload.len() != pair[1].payload.len());
    assert!(changes.clone().all(|pair| is_keyframe(&pair[1])), "a layer begins with a keyframe");
    let pictures = packets.iter().map(|it| Vp8Descriptor::parse(&it.payload).unwrap().picture_id().unwrap());
    let pictures: Vec<u16> = pictures.collect();
    assert!(pictures.windows(2).all(|pair| pair[1] == pair[0] + 1), "{pictures:?}");
}

#[test]
fn h264_gets_through_as_well() {
    let mut call = Call::new();
    let one = call.join_with_video(Codec::H264, &[], 0);
    let two = call.join_with_video(Codec::H264, &[], 1);
    call.film(Duration::from_secs(1), &[one], true);
    assert!(call.heard(two).len() >= 29 && call.players[two].video_slots() == [Some(1)]);
}

#[test]
fn in_a_large_room_nobody_publishes_video_unless_the_game_allows_it() {
    let mut call = Call::new();
    let one = call.join_with_video(Codec::Vp8, &[], 0);
    let two = call.join_with_video(Codec::Vp8, &[], 1);
    call.film(Duration::from_secs(1), &[one], true);
    assert!(!call.heard(two).is_empty());
    let told = |call: &Call| {
        let told = call.players[one].texts.iter().rev().find(|text| text["a"] == "eventUserMediaConfiguration");
        told.map(|text| text["d"].clone())
    };
    assert_eq!(told(&call), Some(json!({ "audio": true, "video": true })));
    for _ in 2..=limits::VIDEO_ROOM_PLAYERS {
        call.join_without_media(0);
    }
    call.run(100 * MS);
    assert_eq!(told(&call), Some(json!({ "audio": true, "video": false })));
    assert_eq!(call.players[two].video_slots(), [None]);
    call.heard(two);
    let dropped = call.server.counters().peers.media;
    call.film(Duration::from_secs(1), &[one], true);
    assert!(call.heard(two).is_empty() && call.server.counters().peers.media - dropped >= 29);
    call.permit(one, true);
    assert_eq!(told(&call), Some(json!({ "audio": true, "video": true })));
    call.film(Duration::from_secs(1), &[one], true);
    assert!(!call.heard(two).is_empty());
}

#[test]
fn those_who_watch_learn_that_a_video_has_stopped() {
    let mut call = Call::new();
    let one = call.join_with_video(Codec::Vp8, &[], 0);
    let two = call.join_with_video(Codec::Vp8, &[], 1);
    let blind = call.join(1);
    let told =
        |call: &Call, index: usize| call.players[index].texts.iter().filter(|text| text["a"] == "eventFreeze").count();
    call.film(Duration::from_secs(1), &[one], true);
    call.run(limits::VIDEO_STALL / 2);
    assert_eq!(told(&call, two), 0);
    call.run(limits::VIDEO_STALL * 2);
    assert_eq!((told(&call, two), told(&call, blind), told(&call, one)), (1, 0, 0));
    call.film(Duration::from_secs(1), &[one], true);
    call.run(limits::VIDEO_STALL * 2);
    assert_eq!(told(&call, two), 2);
}

#[test]
fn a_connection_of_its_own_for_each_publisher_is_answered_in_their_names() {
    let mut call = Call::new();
    let [one, two] = [0; 2].map(|_| call.join_with_video(Codec::Vp8, &[], 0));
    let three = call.join_without_media(0);
    let socket_id = |call: &Call, index: usize| {
        let joined = call.players[index].texts.iter().find(|text| text["a"] == "joinR").expect("it has joined");
        joined["d"]["socketId"].as_str().unwrap().to_owned()
    };
    let of = socket_id(&call, two);
    let address = call.next_address();
    let listener = client(call.now, address, Codec::Vp8, &[], 1);
    let offer = listener.texts[0]["offer"].clone();
    let (rtc, pending, home) = (listener.rtc, listener.pending, listener.home);
    let player = &mut call.players[three];
    (player.rtc, player.pending, player.home, player.address) = (rtc, pending, home, home);
    let request = json!({ "a": "exchangeSdp", "d": { "to": of, "sdp": { "type": "offer", "sdp": offer } } });
    let id = ConnectionId(three as u64);
    call.server.handle_text(call.now, id, &request.to_string());
    let candidate = json!({ "a": "exchangeCandidate", "d": { "to": of, "candidate": {} } });
    call.server.handle_text(call.now, id, &candidate.to_string());
    call.turn();
    let player = &mut call.players[three];
    let answer = player.texts.iter().find(|text| text["a"] == "eventExchangeSdp").expect("it is answered");
    assert_eq!(answer["d"]["from"]["socketId"], of.as_str());
    let sdp = SdpAnswer::from_sdp_string(answer["d"]["sdp"]["sdp"].as_str().unwrap()).unwrap();
    player.rtc.sdp_api().accept_answer(player.pending.take().unwrap(), sdp).unwrap();
    call.run(Duration::from_secs(1));
    call.film(Duration::from_secs(1), &[one, two], true);
    let heard = call.heard_last(three);
    assert!(heard.len() >= 29 && heard.iter().all(|&from| usize::from(from) == two), "{heard:?}");
    let told = &call.players[two].texts;
    assert!(!told.iter().any(|text| text["a"] == "eventExchangeCandidate" || text["a"] == "eventExchangeSdp"));
}
