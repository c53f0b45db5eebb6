//! Session descriptions of exactly one data channel section (RFC 8866, RFC 8829, RFC 8841), offered and answered.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use crate::limits;

/// The content of a session description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// The name of the media section, repeated in the answer.
    pub(crate) mid: Option<String>,
    /// ICE credentials (RFC 8445 §5.3).
    pub(crate) ufrag: String,
    pub(crate) password: String,
    /// The SHA-256 fingerprint of the certificate (RFC 8122 §5).
    pub(crate) fingerprint: [u8; 32],
    /// The role in the DTLS handshake (RFC 5763 §5).
    pub(crate) setup: Setup,
    /// The SCTP port (RFC 8841 §5).
    pub(crate) sctp_port: u16,
    /// The UDP host candidates; others are ignored.
    pub(crate) candidates: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    ActPass,
    Active,
    Passive,
}

/// The reason why a description can't be used, as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SdpError(pub(crate) &'static str);

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for SdpError {}

/// The port that all browsers offer.
const SCTP_PORT: u16 = 5000;

impl Description {
    pub(crate) fn parse(sdp: &str) -> Result<Description, SdpError> {
        if sdp.len() > limits::SDP_BYTES {
            return Err(SdpError("The SDP is larger than 8 KiB."));
        }
        if !sdp.starts_with("v=0") {
            return Err(SdpError("The SDP doesn't begin with v=0."));
        }
        if sdp.lines().count() > limits::SDP_LINES {
            return Err(SdpError("The SDP has more than 256 lines."));
        }
        let mut sections = sdp.lines().filter_map(|line| line.strip_prefix("m="));
        let section = sections.next().ok_or(SdpError("The SDP has no m=application section."))?;
        if sections.next().is_some() {
            return Err(SdpError("The SDP must have exactly one section, m=application; this one has more."));
        }
        let mut fields = section.split(' ');
        if fields.next() != Some("application") {
            return Err(SdpError("The one section of the SDP must be m=application."));
        }
        if fields.next() == Some("0") {
            return Err(SdpError("The m=application section of the SDP is switched off (port 0)."));
        }
        if !matches!(fields.next(), Some("UDP/DTLS/SCTP" | "DTLS/SCTP")) || fields.next() != Some("webrtc-datachannel")
        {
            return Err(SdpError("The m=application section must be UDP/DTLS/SCTP webrtc-datachannel."));
        }

        let attribute = |name: &str| {
            sdp.lines().filter_map(|line| line.strip_prefix("a=")).find_map(|attribute| {
                match attribute.split_once(':') {
                    Some((key, value)) if key == name => Some(value.trim()),
                    _ => None,
                }
            })
        };
        let ice = |name, least: usize, missing| {
            attribute(name)
                .filter(|value| (least..=256).contains(&value.len()) && value.bytes().all(is_ice_char))
                .map(str::to_owned)
                .ok_or(SdpError(missing))
        };
        let mid = attribute("mid").filter(|mid| mid.len() <= 16 && mid.bytes().all(is_token_char)).map(str::to_owned);
        Ok(Description {
            mid,
            ufrag: ice("ice-ufrag", 4, "The SDP has no valid a=ice-ufrag.")?,
            password: ice("ice-pwd", 22, "The SDP has no valid a=ice-pwd.")?,
            fingerprint: sdp
                .lines()
                .filter_map(|line| line.strip_prefix("a=fingerprint:"))
                .find_map(parse_sha256)
                .ok_or(SdpError("The SDP has no valid a=fingerprint:sha-256."))?,
            setup: match attribute("setup") {
                Some("actpass") => Setup::ActPass,
                Some("active") => Setup::Active,
                Some("passive") => Setup::Passive,
                _ => return Err(SdpError("The SDP has no valid a=setup.")),
            },
            sctp_port: match attribute("sctp-port") {
                Some(port) => port.parse().map_err(|_| SdpError("The a=sctp-port of the SDP is no port."))?,
                None => SCTP_PORT,
            },
            candidates: host_candidates(sdp).collect(),
        })
    }

    /// Returns the SDP of this description; if it is passive, as an ICE-lite answer.
    pub(crate) fn to_sdp(&self, session: u64) -> String {
        let mut sdp = String::with_capacity(1024);
        // Writing to a string can't fail.
        let _ = self.write(&mut sdp, session);
        sdp
    }

    fn write(&self, sdp: &mut String, session: u64) -> fmt::Result {
        write!(sdp, "v=0\r\no=- {session} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n")?;
        if let Some(mid) = &self.mid {
            write!(sdp, "a=group:BUNDLE {mid}\r\n")?;
        }
        if self.setup == Setup::Passive {
            sdp.push_str("a=ice-lite\r\n");
        }
        sdp.push_str("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n");
        if let Some(mid) = &self.mid {
            write!(sdp, "a=mid:{mid}\r\n")?;
        }
        write!(sdp, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 ", self.ufrag, self.password)?;
        for (i, byte) in self.fingerprint.iter().enumerate() {
            write!(sdp, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        let setup = match self.setup {
            Setup::ActPass => "actpass",
            Setup::Active => "active",
            Setup::Passive => "passive",
        };
        write!(sdp, "\r\na=setup:{setup}\r\na=sctp-port:{}\r\n", self.sctp_port)?;
        write!(sdp, "a=max-message-size:{}\r\n", limits::FRAME_BYTES)?;
        write_candidates(sdp, &self.candidates)?;
        if !self.candidates.is_empty() {
            sdp.push_str("a=end-of-candidates\r\n");
        }
        Ok(())
    }
}

/// Appends UDP host candidates, the first preferred.
pub(crate) fn write_candidates(sdp: &mut String, candidates: &[SocketAddr]) -> fmt::Result {
    for (rank, address) in candidates.iter().enumerate() {
        // RFC 8445 §5.1.2.1, for the one component.
        let priority = (126 << 24) | ((65_535 - rank) << 8) | 255;
        let (foundation, ip, port) = (rank + 1, address.ip(), address.port());
        write!(sdp, "a=candidate:{foundation} 1 udp {priority} {ip} {port} typ host\r\n")?;
    }
    Ok(())
}

/// Characters of ICE credentials (RFC 8839 §5.4).
fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`{|}~".contains(&byte)
}

fn parse_sha256(value: &str) -> Option<[u8; 32]> {
    let (hash, digits) = value.split_once(' ')?;
    if !hash.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut fingerprint = [0; 32];
    let mut bytes = digits.trim().split(':');
    for byte in &mut fingerprint {
        let digits = bytes.next().filter(|digits| digits.len() == 2 && !digits.starts_with('+'))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    bytes.next().is_none().then_some(fingerprint)
}

/// Returns the UDP host candidates of an SDP, or of its attributes alone, up to the limit of candidates.
pub(crate) fn host_candidates(sdp: &str) -> impl Iterator<Item = SocketAddr> {
    let candidates = sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:")).filter_map(parse_candidate);
    candidates.take(limits::CANDIDATES_ADVERTISED)
}

/// Parses a candidate (RFC 8839 §5.1). mDNS names are ignored: the address of such a peer is learnt from its checks.
fn parse_candidate(value: &str) -> Option<SocketAddr> {
    let mut fields = value.split(' ');
    let (_foundation, component, transport, _priority) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let ip: IpAddr = fields.next()?.parse().ok()?;
    let port: u16 = fields.next()?.parse().ok()?;
    let is_host = fields.next() == Some("typ") && fields.next() == Some("host");
    (component == "1" && transport.eq_ignore_ascii_case("udp") && is_host).then_some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    const HASH: &str =
        "3A:96:6D:57:B2:C2:C7:61:A0:46:3E:1C:97:39:D3:F7:0A:88:A0:B1:EC:03:FB:10:A5:5D:3A:37:AB:DD:02:AA";

    fn chromium() -> String {
        format!(
            "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
            a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=application 54321 UDP/DTLS/SCTP webrtc-datachannel\r\n\
            c=IN IP4 203.0.113.7\r\n\
            a=candidate:3348148302 1 udp 2113937151 4f7ce1d0-8a2f-4a56-9b1e-2b6c3d4e5f60.local 54321 typ host \
            generation 0 network-cost 999\r\n\
            a=candidate:842163049 1 udp 1677729535 203.0.113.7 54321 typ srflx raddr 0.0.0.0 rport 0 generation 0\r\n\
            a=candidate:1876313031 1 tcp 1518280447 192.168.1.5 9 typ host tcptype active generation 0\r\n\
            a=candidate:559267639 1 udp 2122202367 2001:db8::17 61000 typ host generation 0 network-id 2\r\n\
            a=ice-ufrag:EsAw\r\na=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\na=ice-options:trickle\r\n\
            a=fingerprint:sha-256 {HASH}\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n\
            a=max-message-size:262144\r\n"
        )
    }

    fn firefox() -> String {
        let hash = HASH.to_lowercase();
        format!(
            "v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 8054329456 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
            a=fingerprint:sha-256 {hash}\r\na=group:BUNDLE 0\r\na=ice-options:trickle\r\na=msid-semantic:WMS *\r\n\
            m=application 49203 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 10.9.0.1\r\n\
            a=candidate:0 1 UDP 2122252543 10.9.0.1 49203 typ host\r\n\
            a=candidate:1 1 TCP 2105524479 10.9.0.1 9 typ host tcptype active\r\n\
            a=candidate:2 2 UDP 2122252542 10.9.0.1 49204 typ host\r\na=sendrecv\r\na=end-of-candidates\r\n\
            a=ice-pwd:2a7e1a64f0d3c5b98e7f60123456789a\r\na=ice-ufrag:5f2c1a9b\r\na=mid:0\r\na=setup:actpass\r\n\
            a=sctp-port:5000\r\na=max-message-size:1073741823\r\n"
        )
    }

    #[test]
    fn offers_of_browsers_are_read() {
        fn check(offer: &str, ufrag: &str, password: &str, candidates: &[&str]) {
            for offer in [offer.to_owned(), offer.replace("\r\n", "\n")] {
                let description = Description::parse(&offer).unwrap();
                assert_eq!((description.ufrag.as_str(), description.password.as_str()), (ufrag, password));
                assert_eq!((description.mid.as_deref(), description.setup), (Some("0"), Setup::ActPass));
                assert_eq!(description.fingerprint[..2], [0x3a, 0x96]);
                assert_eq!(description.sctp_port, 5000);
                let candidates: Vec<SocketAddr> = candidates.iter().map(|address| address.parse().unwrap()).collect();
                assert_eq!(description.candidates, candidates);
            }
        }
        check(&chromium(), "EsAw", "bP+XJMM09aR8AiX1jdukzR6Y", &["[2001:db8::17]:61000"]);
        check(&firefox(), "5f2c1a9b", "2a7e1a64f0d3c5b98e7f60123456789a", &["10.9.0.1:49203"]);
    }

    #[test]
    fn what_cannot_be_answered_is_refused_in_words() {
        fn check(from: &str, to: &str, sentence: &str) {
            for offer in [chromium(), firefox()] {
                let offer = offer.replace(HASH, &HASH.to_lowercase());
                if offer.contains(from) {
                    let error = Description::parse(&offer.replacen(from, to, 1)).unwrap_err();
                    assert!(error.0.contains(sentence), "{from:?} → {to:?}: {error}");
                }
            }
            assert!(chromium().replace(HASH, &HASH.to_lowercase()).contains(from), "{from:?} is in neither");
        }
        check("v=0", "v=1", "doesn't begin with v=0");
        check("m=application", "x=application", "no m=application section");
        check("m=application", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nm=application", "exactly one section");
        check("m=application 54321 UDP/DTLS/SCTP webrtc-datachannel", "m=video 9 UDP/TLS/RTP/SAVPF 96", "one section");
        check("m=application 54321", "m=application 0", "switched off");
        check("UDP/DTLS/SCTP", "TCP/DTLS/SCTP", "must be UDP/DTLS/SCTP");
        check("webrtc-datachannel", "5000", "must be UDP/DTLS/SCTP");
        check("a=ice-ufrag:", "a=x:", "ice-ufrag");
        check("a=ice-ufrag:EsAw", "a=ice-ufrag:EsA", "ice-ufrag");
        check("a=ice-ufrag:EsAw", "a=ice-ufrag:Es:w", "ice-ufrag");
        check("a=ice-ufrag:EsAw", &format!("a=ice-ufrag:{}", "x".repeat(257)), "ice-ufrag");
        check("a=ice-pwd:", "a=x:", "ice-pwd");
        check("a=ice-pwd:bP+", "a=ice-pwd:", "ice-pwd");
        check("a=ice-pwd:", &format!("a=ice-pwd:{}", "x".repeat(233)), "ice-pwd");
        check("a=fingerprint:", "a=x:", "fingerprint");
        check("sha-256", "sha-1", "fingerprint");
        for (from, to) in
            [("3a:96", "3a:9"), ("3a:96", "3a"), ("3a:96", "3a:96:00"), ("3a:96", "3a:zz"), ("3a:96", "3a:+6")]
        {
            check(from, to, "fingerprint");
        }
        check("a=setup:actpass", "a=setup:holdconn", "setup");
        check("a=setup:", "a=x:", "setup");
        check("a=sctp-port:5000", "a=sctp-port:65536", "sctp-port");
    }

    #[test]
    fn an_offer_ends_at_its_limits() {
        let pad = |bytes: usize| {
            let offer = chromium();
            let missing = bytes - offer.len() - "a=x:\r\n".len();
            format!("{offer}a=x:{}\r\n", "x".repeat(missing))
        };
        assert!(Description::parse(&pad(limits::SDP_BYTES)).is_ok());
        assert!(Description::parse(&pad(limits::SDP_BYTES + 1)).is_err_and(|error| error.0.contains("8 KiB")));
        let lines = |count: usize| chromium() + &"a=x\r\n".repeat(count - chromium().lines().count());
        assert!(Description::parse(&lines(limits::SDP_LINES)).is_ok());
        assert!(Description::parse(&lines(limits::SDP_LINES + 1)).is_err_and(|error| error.0.contains("256 lines")));
        let candidate = "a=candidate:1 1 udp 1 10.0.0.1 1000 typ host\r\n";
        let many = chromium() + &candidate.repeat(limits::CANDIDATES_ADVERTISED + 1);
        assert_eq!(Description::parse(&many).unwrap().candidates.len(), limits::CANDIDATES_ADVERTISED);
        let long = chromium().replace("a=mid:0", "a=mid:12345678901234567");
        assert_eq!(Description::parse(&long).unwrap().mid, None, "a name that can't be repeated safely is left out");
    }

    fn description() -> impl Strategy<Value = Description> {
        let address = (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port));
        let setup = prop::sample::select(vec![Setup::ActPass, Setup::Active, Setup::Passive]);
        let candidates = prop::collection::vec(address, 0..=limits::CANDIDATES_ADVERTISED);
        let mid = prop::option::of("[a-z0-9_-]{1,16}");
        (mid, "[A-Za-z0-9+/]{4,256}", "[A-Za-z0-9+/]{22,256}", any::<[u8; 32]>(), setup, any::<u16>(), candidates)
            .prop_map(|(mid, ufrag, password, fingerprint, setup, sctp_port, candidates)| Description {
                mid,
                ufrag,
                password,
                fingerprint,
                setup,
                sctp_port,
                candidates,
            })
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(256)
        })]

        #[test]
        fn what_is_written_is_read_again(description in description(), session: u64) {
            let sdp = description.to_sdp(session);
            prop_assert_eq!(sdp.contains("a=ice-lite\r\n"), description.setup == Setup::Passive);
            prop_assert!(sdp.lines().all(|line| line.as_bytes().get(1) == Some(&b'=')));
            prop_assert_eq!(Description::parse(&sdp), Ok(description));
        }

        #[test]
        fn random_and_spoiled_lines_are_read_or_refused(
            random in "(v=0)?(\\PC|\r\n|a=|m=){0,64}",
            line in 0..32_usize,
            value in "\\PC{0,40}",
            cut: prop::sample::Index,
        ) {
            let _ = Description::parse(&random);
            for offer in [chromium(), firefox()] {
                let cut = offer.floor_char_boundary(cut.index(offer.len()));
                let _ = Description::parse(&offer[..cut]);
                let mut lines: Vec<&str> = offer.lines().collect();
                let at = line % lines.len();
                let key = lines[at].split_inclusive([':', '=']).next().unwrap_or_default();
                let spoiled = format!("{key}{value}");
                lines[at] = &spoiled;
                if let Ok(description) = Description::parse(&lines.join("\r\n")) {
                    // An accepted description can be repeated without breaking its line.
                    let again = Description::parse(&description.to_sdp(1));
                    prop_assert_eq!(again, Ok(description));
                }
            }
        }
    }
}
