//! Session descriptions of exactly one data channel section (RFC 8866, RFC 8829, RFC 8841), offered and answered.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};

use crate::limits;

/// What one end tells the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    /// Name of the media section, to be repeated in the answer.
    pub(crate) mid: Option<String>,
    /// ICE credentials (RFC 8445 §5.3).
    pub(crate) ufrag: String,
    pub(crate) password: String,
    /// SHA-256 of the certificate (RFC 8122 §5).
    pub(crate) fingerprint: [u8; 32],
    /// Role in the DTLS handshake (RFC 5763 §5).
    pub(crate) setup: Setup,
    /// RFC 8841 §5.
    pub(crate) sctp_port: u16,
    /// UDP host candidates; others are passed over.
    pub(crate) candidates: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    ActPass,
    Active,
    Passive,
}

/// Why a description can't be used: a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SdpError(pub(crate) &'static str);

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for SdpError {}

/// The port that every browser offers.
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
            candidates: sdp
                .lines()
                .filter_map(|line| line.strip_prefix("a=candidate:"))
                .filter_map(parse_candidate)
                .take(limits::CANDIDATES_ADVERTISED)
                .collect(),
        })
    }

    /// The SDP of this description; that of an ICE-lite answerer where it is passive.
    pub(crate) fn to_sdp(&self, session: u64) -> String {
        let mut sdp = String::with_capacity(1024);
        // An sdp is made of lines; writing them into a string can't fail.
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
        for (rank, address) in self.candidates.iter().enumerate() {
            // RFC 8445 §5.1.2.1: host candidates of one component, the first preferred.
            let priority = (126 << 24) | ((65_535 - rank) << 8) | 255;
            let (foundation, ip, port) = (rank + 1, address.ip(), address.port());
            write!(sdp, "a=candidate:{foundation} 1 udp {priority} {ip} {port} typ host\r\n")?;
        }
        if !self.candidates.is_empty() {
            sdp.push_str("a=end-of-candidates\r\n");
        }
        Ok(())
    }
}

/// RFC 8839 §5.4.
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

/// RFC 8839 §5.1. A name (mDNS) is no address: that peer is learnt from its checks.
fn parse_candidate(value: &str) -> Option<SocketAddr> {
    let mut fields = value.split(' ');
    let (_foundation, component, transport, _priority) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let ip: IpAddr = fields.next()?.parse().ok()?;
    let port: u16 = fields.next()?.parse().ok()?;
    let is_host = fields.next() == Some("typ") && fields.next() == Some("host");
    (component == "1" && transport.eq_ignore_ascii_case("udp") && is_host).then_some(SocketAddr::new(ip, port))
}
