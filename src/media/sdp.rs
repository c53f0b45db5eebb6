//! What an offer of media may contain, checked before str0m reads it (RFC 8866, RFC 8829).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::Media;
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
    /// The names of the audio sections in which the client receives, in order: its slots.
    pub(super) audio_slots: Vec<String>,
    /// The same of the video sections.
    pub(super) video_slots: Vec<String>,
    /// The name of the section in which the client sends video.
    pub(super) camera: Option<String>,
    /// The sources that the client may send from (RFC 5576 §4.1).
    pub(super) sources: BTreeSet<u32>,
    /// Whether it sends from sources that the offer doesn't name: the layers of a video (RFC 8853).
    pub(super) has_layers: bool,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    ufrag: String,
    password: String,
    fingerprint: String,
}

struct Section<'a> {
    is_video: bool,
    mid: Option<&'a str>,
    is_off: bool,
    sends: bool,
    receives: bool,
    has_layers: bool,
    sources: Vec<u32>,
}

impl Section<'_> {
    fn is_sent(&self) -> bool {
        self.sends && !self.is_off
    }
}

impl Offer {
    pub(super) fn parse(sdp: &str, media: Media) -> Result<Offer, SdpError> {
        if sdp.len() > limits::MEDIA_SDP_BYTES {
            let sentence = "The SDP is larger than 14 KiB: offer Opus, VP8 and H.264 only, with setCodecPreferences.";
            return Err(SdpError(sentence));
        }
        if !sdp.starts_with("v=0") {
            return Err(SdpError("The SDP doesn't begin with v=0."));
        }
        if sdp.lines().count() > limits::MEDIA_SDP_LINES {
            let sentence = "The SDP has more than 512 lines: offer Opus, VP8 and H.264 only, with setCodecPreferences.";
            return Err(SdpError(sentence));
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
                let is_video = match fields.next() {
                    Some("audio") => false,
                    Some("video") if media == Media::Video => true,
                    Some("video") => {
                        let sentence =
                            "The server forwards audio only: leave out m=video, or start it with --media=video.";
                        return Err(SdpError(sentence));
                    }
                    _ => return Err(SdpError("An offer of media has m=audio and m=video sections only.")),
                };
                let is_off = fields.next() == Some("0");
                if fields.next() != Some("UDP/TLS/RTP/SAVPF") {
                    return Err(SdpError("A section of media must be UDP/TLS/RTP/SAVPF."));
                }
                sections.push(Section {
                    is_video,
                    mid: None,
                    is_off,
                    sends: true,
                    receives: true,
                    has_layers: false,
                    sources: Vec::new(),
                });
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
            } else if line.starts_with("a=simulcast:send ") {
                section.has_layers = true;
            } else if let Some(source) = line.strip_prefix("a=ssrc:") {
                let number = source.split(' ').next().and_then(|number| number.parse().ok());
                section.sources.push(number.ok_or(SdpError("An a=ssrc of the SDP is no number."))?);
            }
        }
        if sections.len() > limits::MEDIA_SECTIONS {
            return Err(SdpError("The SDP has more than 16 sections."));
        }
        // Firefox names the sources of its reports too, of sections in which it only receives.
        let sent = sections.iter().filter(|section| section.is_sent());
        let sources: BTreeSet<u32> = sent.clone().flat_map(|section| section.sources.iter().copied()).collect();
        if sources.len() > limits::MEDIA_SOURCES {
            return Err(SdpError("The SDP names more than 16 sources (a=ssrc)."));
        }
        let cameras = sent.clone().filter(|section| section.is_video).count();
        if cameras > 1 || sent.clone().count() - cameras > 1 {
            return Err(SdpError("A connection sends one audio and one video at most: make the others recvonly."));
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
            audio_slots: slots(&sections, false),
            video_slots: slots(&sections, true),
            camera: sent.clone().find(|section| section.is_video).and_then(|section| section.mid).map(str::to_owned),
            has_layers: sent.clone().any(|section| section.has_layers),
            sources,
        })
    }
}

fn slots(sections: &[Section<'_>], is_video: bool) -> Vec<String> {
    let received = sections.iter().filter(|it| it.receives && !it.is_off && it.is_video == is_video);
    received.filter_map(|section| section.mid.map(str::to_owned)).collect()
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
