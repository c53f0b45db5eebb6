//! Media connections: the voice and the video of players, forwarded and never mixed.
//!
//! Media has a WebRTC connection of its own beside that of the game, because it needs what the lane does without: SRTP,
//! RTCP and header extensions. [`MediaPeer`] is one such connection, with an unmodified str0m. [`sdp`] checks offers
//! before str0m reads them. For audio, [`slots`] chooses who is forwarded to whom, and [`stream`] numbers what is
//! forwarded. For video, [`layers`] measures what a publisher sends, and [`video`] chooses and numbers what a listener
//! gets.
//!
//! A client offers one audio section for its microphone, one video section for its camera, and one section for each
//! player that it can play at the same time: a slot. A slot changes its player without another offer.

mod layers;
mod peer;
mod sdp;
mod slots;
mod stream;
mod video;

pub(crate) use layers::Rates;
pub(crate) use peer::{Event, Forwarded, MediaPeer, Packet};
pub(crate) use sdp::is_media;
pub(crate) use video::VideoPacket;

/// What the server forwards between the players of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    /// Nothing. An offer of media is refused.
    #[default]
    Off,
    /// Voices.
    Audio,
    /// Voices and videos.
    Video,
}

impl Media {
    /// The name in the signaling.
    pub(crate) fn name(self) -> Option<&'static str> {
        match self {
            Media::Off => None,
            Media::Audio => Some("audio"),
            Media::Video => Some("video"),
        }
    }
}
