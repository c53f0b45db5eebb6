//! Unauthenticated datagrams and malformed offers for an endpoint.

use std::time::Instant;

use super::*;
use crate::limits;

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

/// A peer whose offer was answered and which has sent nothing since.
fn waiting_peer(endpoint: &mut Endpoint, now: Instant) -> PeerKey {
    let offer = concat!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
        "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=fingerprint:sha-256 ",
        "00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n",
    );
    endpoint.answer(now, offer, vec![server()]).expect("the offer is right").0
}
