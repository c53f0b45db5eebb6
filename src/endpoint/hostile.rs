//! Unauthenticated datagrams and malformed offers for an endpoint.

use std::time::Instant;

use super::*;
use crate::limits;
use crate::media::Media;

const LOCAL: LocalId = LocalId(0);
const PIECES_MAX: usize = 64;

fn server() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 8080))
}

/// An offer.
pub(crate) fn offers(now: Instant, input: &[u8]) {
    thread_local! {
        static ENDPOINT: std::cell::RefCell<Endpoint> = std::cell::RefCell::new(Endpoint::new([7; 32]));
    }
    let Ok(offer) = std::str::from_utf8(input) else { return };
    ENDPOINT.with_borrow_mut(|endpoint| {
        if let Ok((key, answer)) = endpoint.answer(now, offer, vec![server()]) {
            assert!(answer.len() <= limits::SDP_BYTES && answer.lines().count() <= limits::SDP_LINES);
            assert_eq!(answer.lines().filter(|line| line.starts_with("m=")).count(), 1);
            assert!(answer.chars().all(|c| !c.is_control() || matches!(c, '\r' | '\n')));
            assert!(endpoint.answer(now, &answer, Vec::new()).is_err(), "an answer is no offer");
            endpoint.close(now, key);
        }
        assert_eq!((endpoint.peers(), endpoint.poll_timeout()), (0, None));
        assert!(endpoint.poll_transmit().is_none() && endpoint.poll_event().is_none());
    });
}

/// Datagrams from a few addresses to an endpoint that waits for a client: each piece begins with its length and where
/// it comes from.
pub(crate) fn datagrams(now: Instant, input: &[u8]) {
    let mut endpoint = Endpoint::new([7; 32]);
    let key = waiting_peer(&mut endpoint, now);
    (0..8).for_each(|host| endpoint.note_player([10, 0, 1, host].into()));
    let mut traffic: BTreeMap<SocketAddr, (u64, u64)> = BTreeMap::new();
    let mut rest = input;
    for _ in 0..PIECES_MAX {
        let Some((&[high, low, host], after)) = rest.split_first_chunk() else { break };
        let bytes = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (piece, after) = after.split_at(bytes);
        rest = after;
        let source = SocketAddr::from(([10, 0, 1, host % 16], 5000));
        traffic.entry(source).or_default().0 += piece.len() as u64;
        endpoint.handle_datagram(now, LOCAL, source, piece);
        while let Some(transmit) = endpoint.poll_transmit() {
            assert!(transmit.bytes.len() <= limits::UDP_PAYLOAD_BYTES);
            let (up, down) = traffic.get_mut(&transmit.destination).expect("who never spoke is not spoken to");
            *down += transmit.bytes.len() as u64;
            assert!(*down <= *up * limits::UNPROVEN_AMPLIFICATION);
        }
        assert!(!endpoint.is_open(key));
        assert!(endpoint.by_path.len() <= limits::PEER_ADDRESSES);
        assert!(endpoint.timers.len() == endpoint.peers());
    }
    endpoint.close(now, key);
    assert!(endpoint.peers() == 0 && endpoint.by_path.is_empty() && endpoint.timers.is_empty());
}

/// An offer of media.
pub(crate) fn media_offers(now: Instant, input: &[u8]) {
    let Ok(offer) = std::str::from_utf8(input) else { return };
    let mut endpoint = Endpoint::new([7; 32]);
    let Ok((key, answer)) = endpoint.answer_media(now, None, Media::Video, offer, &[server()]) else { return };
    assert!(answer.starts_with("v=0\r\n") && answer.contains("a=candidate:1 1 udp "));
    let sections = |sdp: &str| sdp.lines().filter(|line| line.starts_with("m=")).count();
    assert!(sections(&answer) == sections(offer) && sections(offer) <= limits::MEDIA_SECTIONS);
    // The same again changes nothing, or ends the connection.
    if let Ok((again, _)) = endpoint.answer_media(now, Some(key), Media::Video, offer, &[server()]) {
        assert!(again == key);
        endpoint.close(now, key);
    }
    assert_eq!((endpoint.peers(), endpoint.media_peers(), endpoint.poll_timeout()), (0, 0, None));
}

/// Datagrams on the path of a media connection, whose client has sent one check and knows no more.
pub(crate) fn media_datagrams(now: Instant, input: &[u8]) {
    let mut endpoint = Endpoint::new([7; 32]);
    let offer = concat!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\n",
        "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=fingerprint:sha-256 ",
        "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n",
        "a=mid:0\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=sendonly\r\n",
        "a=rtpmap:111 opus/48000/2\r\na=ssrc:1 cname:c\r\n",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\n",
        "a=mid:1\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n",
    );
    let (key, answer) = endpoint.answer_media(now, None, Media::Video, offer, &[server()]).expect("the offer is right");
    let attribute = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).expect("it is answered");
    let source = SocketAddr::from(([10, 0, 1, 1], 5000));
    endpoint.handle_datagram(now, LOCAL, source, &check(attribute("a=ice-ufrag:"), attribute("a=ice-pwd:")));
    assert!(endpoint.by_path.len() == 1, "the check is right");
    let mut received = 100;
    let mut rest = input;
    for _ in 0..PIECES_MAX {
        let Some((&[high, low, host], after)) = rest.split_first_chunk() else { break };
        let bytes = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (piece, after) = after.split_at(bytes);
        rest = after;
        received += piece.len();
        endpoint.handle_datagram(now, LOCAL, SocketAddr::from(([10, 0, 1, 1 + host % 2], 5000)), piece);
        while let Some(transmit) = endpoint.poll_transmit() {
            assert!(transmit.destination == source && transmit.bytes.len() <= limits::MEDIA_PAYLOAD_BYTES);
        }
        while let Some((_, event)) = endpoint.poll_media_event() {
            assert!(matches!(event, media::Event::Closed(_)), "nobody has the keys");
        }
    }
    assert!(endpoint.by_path.len() <= 1 && received >= 100);
    endpoint.close(now, key);
    assert!(endpoint.media_peers() == 0 && endpoint.by_path.is_empty() && endpoint.timers.is_empty());
}

/// An ICE check of a client with these credentials of the server (RFC 8445 §7.2.2).
fn check(ufrag: &str, password: &str) -> Vec<u8> {
    let hmac = |key: &[u8], payloads: &[&[u8]]| {
        str0m::crypto::from_feature_flags().sha1_hmac_provider.sha1_hmac(key, payloads)
    };
    let username = format!("{ufrag}:abcd");
    let request = StunMessage::binding_request(&username, str0m::ice::TransId::new(), true, 1, 1, false);
    let mut bytes = vec![0; 200];
    let length = request.to_bytes(Some(password.as_bytes()), &mut bytes, hmac).expect("it fits");
    bytes.truncate(length);
    bytes
}

/// A peer whose offer was answered and which has sent nothing since.
fn waiting_peer(endpoint: &mut Endpoint, now: Instant) -> PeerKey {
    let offer = concat!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
        "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=fingerprint:sha-256 ",
        "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n",
    );
    endpoint.answer(now, offer, vec![server()]).expect("the offer is right").0
}
