//! Media connections: the voice of players, forwarded and never mixed.
//!
//! Media has a WebRTC connection of its own beside that of the game, because it needs what the lane does without: SRTP,
//! RTCP and header extensions. [`MediaPeer`] is one such connection, with an unmodified str0m. [`sdp`] checks offers
//! before str0m reads them, [`slots`] chooses who is forwarded to whom, and [`stream`] numbers what is forwarded.
//!
//! A client offers one audio section for its microphone, and one for each speaker that it can play at the same time: a
//! slot. A slot changes its speaker without another offer.

mod peer;
mod sdp;
mod slots;
mod stream;

pub(crate) use peer::{Event, MediaPeer, Packet};
pub(crate) use sdp::is_media;
