//! Answers STUN Binding requests of players (RFC 8489), so that browsers learn their mapped address.
//!
//! A request has no credentials, so its source may be forged. Only networks with a player get responses, each at most
//! [`limits::STUN_PER_ADDRESS_PER_SECOND`]. A browser's request has no attributes and 20 bytes, and a response has 32,
//! or 44 over IPv6: what is sent to a network that is attacked is bounded by that rate, and is at most 2.2 times what
//! the attacker sends ([`limits::UNPROVEN_AMPLIFICATION`] is the limit for ICE). Everything else is dropped.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use flate2::Crc;

use crate::limits;
use crate::rate::{Limit, Places, canonical, network};

/// STUN Binding requests without a user name, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StunRequests {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests from addresses without a player, dropped.
    pub unjoined: u64,
    /// Requests past the rate of their address, dropped.
    pub excess: u64,
    /// Requests that require attributes which the server does not support, or have a wrong fingerprint, dropped.
    pub unsupported: u64,
}

const HEADER_BYTES: usize = 20;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: u16 = 0x0006;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;
/// Attributes from here on may be ignored (RFC 8489 §14).
const OPTIONAL: u16 = 0x8000;
/// RFC 8489 §14.7.
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// The longest response: the header, an IPv6 address and a fingerprint.
const RESPONSE_BYTES: usize = HEADER_BYTES + (ATTRIBUTE_HEADER_BYTES + 4 + 16) + (ATTRIBUTE_HEADER_BYTES + 4);
const _: () = assert!(RESPONSE_BYTES as u64 <= HEADER_BYTES as u64 * limits::UNPROVEN_AMPLIFICATION);

const OF_ADDRESS: Limit = Limit::new(limits::STUN_PER_ADDRESS_PER_SECOND, limits::STUN_PER_ADDRESS_AT_ONCE);

/// A Binding request without a user name.
pub(super) struct BindingRequest<'a> {
    transaction: &'a [u8],
    has_fingerprint: bool,
    /// Whether all that it requires is supported, and its fingerprint is right.
    is_supported: bool,
}

impl BindingRequest<'_> {
    /// `None` for other messages, malformed ones, and requests with a user name.
    pub(super) fn parse(bytes: &[u8]) -> Option<BindingRequest<'_>> {
        let (header, mut attributes) = bytes.split_at_checked(HEADER_BYTES)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[..2] != BINDING_REQUEST || header[4..8] != MAGIC_COOKIE || length != attributes.len() {
            return None;
        }
        let mut request = BindingRequest { transaction: &header[4..], has_fingerprint: false, is_supported: true };
        while !attributes.is_empty() {
            let (&[kind_high, kind_low, high, low], rest) = attributes.split_first_chunk()?;
            let kind = u16::from_be_bytes([kind_high, kind_low]);
            let (value, rest) =
                rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])).next_multiple_of(4))?;
            match kind {
                USERNAME => return None,
                // It is the last attribute.
                FINGERPRINT => {
                    let before = &bytes[..bytes.len() - attributes.len()];
                    request.has_fingerprint = true;
                    request.is_supported &= rest.is_empty() && value == fingerprint(before).to_be_bytes();
                }
                kind => request.is_supported &= kind >= OPTIONAL,
            }
            attributes = rest;
        }
        Some(request)
    }

    /// Appends the response.
    pub(super) fn answer(&self, source: SocketAddr, out: &mut Vec<u8>) {
        let start = out.len();
        let source = canonical(source);
        let (family, address) = match source.ip() {
            IpAddr::V4(ip) => (1, ip.octets().to_vec()),
            IpAddr::V6(ip) => (2, ip.octets().to_vec()),
        };
        let address_bytes = ATTRIBUTE_HEADER_BYTES + 4 + address.len();
        let fingerprint_bytes = if self.has_fingerprint { ATTRIBUTE_HEADER_BYTES + 4 } else { 0 };
        let put = |out: &mut Vec<u8>, number: usize| {
            out.extend_from_slice(&u16::try_from(number).unwrap_or_default().to_be_bytes());
        };
        out.extend_from_slice(&BINDING_SUCCESS);
        put(out, address_bytes + fingerprint_bytes);
        out.extend_from_slice(self.transaction);
        put(out, XOR_MAPPED_ADDRESS.into());
        put(out, address_bytes - ATTRIBUTE_HEADER_BYTES);
        out.extend_from_slice(&[0, family]);
        let xored = |byte: &u8, with: &u8| byte ^ with;
        out.extend(source.port().to_be_bytes().iter().zip(self.transaction).map(|(byte, with)| xored(byte, with)));
        out.extend(address.iter().zip(self.transaction).map(|(byte, with)| xored(byte, with)));
        if self.has_fingerprint {
            let fingerprint = fingerprint(&out[start..]);
            put(out, FINGERPRINT.into());
            put(out, 4);
            out.extend_from_slice(&fingerprint.to_be_bytes());
        }
    }
}

/// The fingerprint of a message whose header already counts it.
fn fingerprint(message: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(message);
    crc.sum() ^ FINGERPRINT_XOR
}

/// The STUN server of an endpoint.
pub(super) struct StunServer {
    /// When it received its first request.
    started: Option<Instant>,
    /// Networks of players, and how many each has.
    players: BTreeMap<IpAddr, usize>,
    places: Places,
    requests: StunRequests,
}

impl StunServer {
    /// Returns a server that answers nobody. `key` must be secret.
    pub(super) fn new(key: [u8; 32]) -> StunServer {
        StunServer {
            started: None,
            players: BTreeMap::new(),
            places: Places::new(limits::STUN_ADDRESSES, key),
            requests: StunRequests::default(),
        }
    }

    pub(super) fn requests(&self) -> StunRequests {
        self.requests
    }

    pub(super) fn note_player(&mut self, ip: IpAddr) {
        *self.players.entry(network(ip)).or_default() += 1;
    }

    pub(super) fn forget_player(&mut self, ip: IpAddr) {
        if let Entry::Occupied(mut players) = self.players.entry(network(ip)) {
            *players.get_mut() -= 1;
            if *players.get() == 0 {
                players.remove();
            }
        }
    }

    /// Returns whether to answer a request, and counts it.
    pub(super) fn admit(&mut self, now: Instant, source: SocketAddr, request: &BindingRequest<'_>) -> bool {
        let since_start = now.saturating_duration_since(*self.started.get_or_insert(now));
        if !self.players.contains_key(&network(source.ip())) {
            self.requests.unjoined += 1;
        } else if !request.is_supported {
            self.requests.unsupported += 1;
        } else if !self.places.of(source.ip()).pace.take(since_start, &OF_ADDRESS) {
            self.requests.excess += 1;
        } else {
            self.requests.answered += 1;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    const TRANSACTION: [u8; 12] = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    fn message(kind: [u8; 2], attributes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
        [&kind, &length[..], &MAGIC_COOKIE, &TRANSACTION, attributes].concat()
    }

    fn with_fingerprint(attributes: &[u8]) -> Vec<u8> {
        let counted = [attributes, &[0x80, 0x28, 0, 4, 0, 0, 0, 0]].concat();
        let mut request = message(BINDING_REQUEST, &counted);
        let end = request.len() - 8;
        let print = fingerprint(&request[..end]).to_be_bytes();
        request[end + 4..].copy_from_slice(&print);
        request
    }

    /// What a server with a player at each of `players` answers at `ms`.
    struct Asked {
        server: StunServer,
        start: Instant,
    }

    impl Asked {
        fn new(players: &[&str]) -> Asked {
            let mut server = StunServer::new([7; 32]);
            players.iter().for_each(|ip| server.note_player(ip.parse().unwrap()));
            #[expect(
                clippy::disallowed_methods,
                reason = "an Instant can't be made otherwise; only differences matter"
            )]
            let start = Instant::now();
            Asked { server, start }
        }

        fn ask(&mut self, ms: u64, source: &str, bytes: &[u8]) -> (bool, Vec<u8>) {
            let (now, source) = (self.start + Duration::from_millis(ms), source.parse().unwrap());
            let mut answer = Vec::new();
            let request = BindingRequest::parse(bytes);
            if let Some(request) = request.as_ref().filter(|request| self.server.admit(now, source, request)) {
                request.answer(source, &mut answer);
            }
            (request.is_some(), answer)
        }
    }

    /// The address of RFC 5769 §2.2 and §2.3, whose transaction is the same.
    #[test]
    fn a_response_has_the_address_as_the_rfc_encodes_it() {
        let mut asked = Asked::new(&["192.0.2.1", "2001:db8:1234:5678:11:2233:4455:6677"]);
        let bare = message(BINDING_REQUEST, &[]);
        let v4 = [0x00, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        let v6 = [
            0x00, 0x20, 0, 20, 0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25, 0xf4,
            0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(asked.ask(0, "192.0.2.1:32853", &bare), (true, message(BINDING_SUCCESS, &v4)));
        assert_eq!(asked.ask(0, "[::ffff:192.0.2.1]:32853", &bare), (true, message(BINDING_SUCCESS, &v4)));
        let source = "[2001:db8:1234:5678:11:2233:4455:6677]:32853";
        assert_eq!(asked.ask(0, source, &bare), (true, message(BINDING_SUCCESS, &v6)));
        // A fingerprint for a fingerprint, which is the same sum in both directions.
        let (_, answer) = asked.ask(0, "192.0.2.1:32853", &with_fingerprint(&[0x80, 0x22, 0, 3, b'x', b'y', b'z', 0]));
        assert_eq!((answer.len(), &answer[20..32]), (40, &v4[..]));
        assert_eq!(answer[36..], fingerprint(&answer[..32]).to_be_bytes());
        assert_eq!(asked.server.requests(), StunRequests { answered: 4, ..StunRequests::default() });
    }

    /// The sample request of RFC 5769 §2.1 is one of ICE; its fingerprint shows that ours is computed as it should be.
    #[test]
    fn the_fingerprint_is_that_of_the_rfc() {
        let sample = [
            &[0x00, 0x01, 0x00, 0x58][..],
            &MAGIC_COOKIE,
            &TRANSACTION,
            &[0x80, 0x22, 0x00, 0x10],
            b"STUN test client",
            &[0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00, 0x08],
            &[0x93, 0x2f, 0xf9, 0xb1, 0x51, 0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09],
            b"evtj:h6vY   ",
            &[0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5],
            &[0xb2, 0xd3, 0xf2, 0x49, 0xc1, 0xb5, 0x71, 0xa2],
        ]
        .concat();
        assert_eq!(fingerprint(&sample), 0xe57a_3bcf);
        let whole = [&sample[..], &[0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf]].concat();
        assert!(BindingRequest::parse(&whole).is_none(), "with a user name it is for a peer");
    }

    #[test]
    fn only_networks_with_a_player_get_responses() {
        let mut asked = Asked::new(&["10.0.1.1", "10.0.1.1", "2001:db8::1"]);
        let bare = message(BINDING_REQUEST, &[]);
        let answers = |source: &str, asked: &mut Asked| !asked.ask(0, source, &bare).1.is_empty();
        assert!(answers("10.0.1.1:1", &mut asked) && answers("10.0.1.1:65535", &mut asked), "any port");
        assert!(answers("[2001:db8::2]:5", &mut asked), "a /64 is one network");
        assert!(!answers("10.0.1.2:1", &mut asked) && !answers("[2001:db8:0:1::1]:1", &mut asked));
        let first = "10.0.1.1".parse().unwrap();
        asked.server.forget_player(first);
        assert!(answers("10.0.1.1:1", &mut asked), "one player is left");
        asked.server.forget_player(first);
        assert!(!answers("10.0.1.1:1", &mut asked));
        asked.server.forget_player(first);
        assert_eq!(asked.server.requests(), StunRequests { answered: 4, unjoined: 3, ..StunRequests::default() });
    }

    #[test]
    fn a_network_that_is_attacked_gets_no_more_than_its_rate() {
        let mut asked = Asked::new(&["10.0.1.1", "10.0.1.2"]);
        let bare = message(BINDING_REQUEST, &[]);
        let (mut sent, mut received) = (0, 0);
        for ms in 0..10_000 {
            for port in 1..=5 {
                // Players who come and go don't begin it anew.
                let ip = "10.0.1.1".parse().unwrap();
                asked.server.forget_player(ip);
                asked.server.note_player(ip);
                sent += bare.len();
                received += asked.ask(ms, &format!("10.0.1.1:{port}"), &bare).1.len();
            }
        }
        let most = (limits::STUN_PER_ADDRESS_AT_ONCE + 10 * limits::STUN_PER_ADDRESS_PER_SECOND) as usize * 32;
        assert!(received <= most && received > most / 2, "{received} of {most} bytes for {sent}");
        assert!(!asked.ask(10_000, "10.0.1.2:1", &bare).1.is_empty(), "others are answered");
        let counted = asked.server.requests();
        assert_eq!(counted.answered + counted.excess, 50_001);
    }

    #[test]
    fn what_is_not_supported_is_dropped_and_the_rest_is_not_ours() {
        let mut asked = Asked::new(&["10.0.1.1"]);
        let mut ask = |bytes: &[u8]| {
            let (taken, answer) = asked.ask(0, "10.0.1.1:9", bytes);
            (taken, !answer.is_empty())
        };
        let wrong = {
            let mut wrong = with_fingerprint(&[]);
            wrong[9] ^= 1;
            let mut other = with_fingerprint(&[]);
            other[27] ^= 1;
            [wrong, other]
        };
        for (bytes, expected) in [
            (message(BINDING_REQUEST, &[]), (true, true)),
            (with_fingerprint(&[]), (true, true)),
            (message(BINDING_REQUEST, &[0xc0, 0x57, 0, 1, 7, 0, 0, 0]), (true, true)),
            // CHANGE-REQUEST, RESPONSE-PORT, PRIORITY and MESSAGE-INTEGRITY.
            (message(BINDING_REQUEST, &[0, 3, 0, 4, 0, 0, 0, 6]), (true, false)),
            (message(BINDING_REQUEST, &[0, 0x27, 0, 4, 0, 53, 0, 0]), (true, false)),
            (message(BINDING_REQUEST, &[0, 0x24, 0, 4, 0, 0, 0, 6]), (true, false)),
            (message(BINDING_REQUEST, &[&[0, 8, 0, 20][..], &[7; 20]].concat()), (true, false)),
            (wrong[0].clone(), (true, false)),
            (wrong[1].clone(), (true, false)),
            (message(BINDING_REQUEST, &[0x80, 0x28, 0, 4, 0, 0, 0, 0, 0x80, 0x22, 0, 0]), (true, false)),
            // A user name, an indication, a response, another method, and what is malformed.
            (message(BINDING_REQUEST, &[0, 6, 0, 1, b'x', 0, 0, 0]), (false, false)),
            (message([0x00, 0x11], &[]), (false, false)),
            (message([0x01, 0x01], &[]), (false, false)),
            (message([0x00, 0x03], &[]), (false, false)),
            (message(BINDING_REQUEST, &[0x80, 0x22, 0, 8, 0, 0, 0, 0]), (false, false)),
            (message(BINDING_REQUEST, &[0x80, 0x22, 0xff, 0xff]), (false, false)),
            (message(BINDING_REQUEST, &[0x80, 0x22]), (false, false)),
            (message(BINDING_REQUEST, &[])[..19].to_vec(), (false, false)),
            ([message(BINDING_REQUEST, &[]), vec![0]].concat(), (false, false)),
            ([&[0, 1, 0, 0], &[0; 16][..]].concat(), (false, false)),
            (Vec::new(), (false, false)),
        ] {
            assert_eq!(ask(&bytes), expected, "{bytes:02x?}");
        }
        let counted = asked.server.requests();
        assert_eq!((counted.answered, counted.unsupported), (3, 7));
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(512)
        })]

        #[test]
        fn no_answer_is_more_than_the_limit_of_amplification(
            attributes in prop::collection::vec(any::<u8>(), 0..80), at in 0..40usize, byte: u8, is_v6: bool,
        ) {
            let mut asked = Asked::new(&["10.0.1.1", "2001:db8::1"]);
            let source = if is_v6 { "[2001:db8::1]:9" } else { "10.0.1.1:9" };
            let mut spoiled = with_fingerprint(&attributes);
            if let Some(spoiled) = spoiled.get_mut(at) {
                *spoiled = byte;
            }
            for bytes in [message(BINDING_REQUEST, &attributes), with_fingerprint(&attributes), spoiled] {
                let (_, answer) = asked.ask(0, source, &bytes);
                prop_assert!(answer.len() as u64 <= bytes.len() as u64 * limits::UNPROVEN_AMPLIFICATION);
            }
        }
    }
}
