//! What an offer of media may contain, checked before str0m reads it (RFC 8866, RFC 8829).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::limits;
use crate::peer::{SdpError, write_candidates};

/// Returns whether an SDP is about media, and not about the data channel of a game.
pub(crate) fn is_media(sdp: &str) -> bool {
    sdp.lines().any(|line| line.starts_with("m=audio") || line.starts_with("m=video"))
}

/// An offer that str0m may read.
pub(super) struct Offer {
    /// The offer without its candidates: the addresses of a client are learnt from its checks.
    pub(super) sdp: String,
    /// Who offers: an offer with other credentials is one of another connection.
    pub(super) credentials: Credentials,
    /// The names of the sections in which the client receives, in order: its slots.
    pub(super) slots: Vec<String>,
    /// The sources that the client may send from (RFC 5576 §4.1).
    pub(super) sources: BTreeSet<u32>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    ufrag: String,
    password: String,
    fingerprint: String,
}

struct Section<'a> {
    mid: Option<&'a str>,
    is_off: bool,
    sends: bool,
    receives: bool,
    sources: Vec<u32>,
}

impl Offer {
    pub(super) fn parse(sdp: &str) -> Result<Offer, SdpError> {
        if sdp.len() > limits::SDP_BYTES {
            return Err(SdpError("The SDP is larger than 8 KiB: offer Opus only, with setCodecPreferences."));
        }
        if !sdp.starts_with("v=0") {
            return Err(SdpError("The SDP doesn't begin with v=0."));
        }
        if sdp.lines().count() > limits::SDP_LINES {
            return Err(SdpError("The SDP has more than 256 lines: offer Opus only, with setCodecPreferences."));
        }
        let mut kept = String::with_capacity(sdp.len());
        let mut sections: Vec<Section<'_>> = Vec::new();
        for line in sdp.lines() {
            if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
                continue;
            }
            kept.push_str(line);
            kept.push_str("\r\n");
            if let Some(section) = line.strip_prefix("m=") {
                let mut fields = section.split(' ');
                if fields.next() != Some("audio") {
                    return Err(SdpError("The server forwards audio only: leave out m=video and m=application."));
                }
                let is_off = fields.next() == Some("0");
                if fields.next() != Some("UDP/TLS/RTP/SAVPF") {
                    return Err(SdpError("An m=audio section must be UDP/TLS/RTP/SAVPF."));
                }
                sections.push(Section { mid: None, is_off, sends: true, receives: true, sources: Vec::new() });
            }
            let Some(section) = sections.last_mut() else { continue };
            if let Some(mid) = line.strip_prefix("a=mid:") {
                section.mid = Some(mid);
            } else if line == "a=bundle-only" {
                // RFC 8843 §6: its port is 0 too.
                section.is_off = false;
            } else if matches!(line, "a=sendonly" | "a=recvonly" | "a=inactive") {
                section.sends = line == "a=sendonly";
                section.receives = line == "a=recvonly";
            } else if let Some(source) = line.strip_prefix("a=ssrc:") {
                let number = source.split(' ').next().and_then(|number| number.parse().ok());
                section.sources.push(number.ok_or(SdpError("An a=ssrc of the SDP is no number."))?);
            }
        }
        if sections.len() > limits::MEDIA_SECTIONS {
            return Err(SdpError("The SDP has more than 16 sections."));
        }
        // Firefox names the sources of its reports too, of sections in which it only receives.
        let sending = sections.iter().filter(|section| section.sends && !section.is_off);
        let sources: BTreeSet<u32> = sending.flat_map(|section| section.sources.iter().copied()).collect();
        if sources.len() > limits::MEDIA_SOURCES {
            return Err(SdpError("The SDP names more than 4 sources (a=ssrc)."));
        }
        let is_mid = |mid: &str| (1..=16).contains(&mid.len()) && mid.bytes().all(|b| b.is_ascii_alphanumeric());
        let mids: BTreeSet<&str> = sections.iter().filter_map(|it| it.mid.filter(|mid| is_mid(mid))).collect();
        if mids.len() != sections.len() {
            return Err(SdpError("Each section needs an a=mid of its own, of 1 to 16 letters or digits."));
        }
        let attribute = |name: &str| sdp.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if attribute("a=setup:") == Some("passive") {
            return Err(SdpError("The offer must be a=setup:actpass; this one leaves no role to the server."));
        }
        let is_ice = |value: &&str| value.len() <= 256 && value.bytes().all(|b| b.is_ascii_graphic());
        let ufrag = attribute("a=ice-ufrag:").filter(|value| value.len() >= 4 && is_ice(value));
        let password = attribute("a=ice-pwd:").filter(|value| value.len() >= 22 && is_ice(value));
        Ok(Offer {
            sdp: kept,
            credentials: Credentials {
                ufrag: ufrag.ok_or(SdpError("The SDP has no valid a=ice-ufrag."))?.to_owned(),
                password: password.ok_or(SdpError("The SDP has no valid a=ice-pwd."))?.to_owned(),
                fingerprint: attribute("a=fingerprint:sha-256 ")
                    .ok_or(SdpError("The SDP has no valid a=fingerprint:sha-256."))?
                    .to_owned(),
            },
            slots: sections
                .iter()
                .filter(|section| section.receives && !section.is_off)
                .filter_map(|section| section.mid.map(str::to_owned))
                .collect(),
            sources,
        })
    }
}

/// Adds the server's candidates to the first section of an answer.
pub(super) fn with_candidates(answer: &str, candidates: &[SocketAddr]) -> String {
    let mut lines = String::new();
    // Writing to a string can't fail.
    let _ = write_candidates(&mut lines, candidates);
    lines.push_str("a=end-of-candidates\r\n");
    let first = answer.find("\r\nm=").map_or(answer.len(), |at| at + 2);
    let end = answer[first..].find("\r\nm=").map_or(answer.len(), |at| first + at + 2);
    [&answer[..end], &lines, &answer[end..]].concat()
}
