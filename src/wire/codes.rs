//! Codes: of errors, of the reasons for leaving, of closed websockets.
//!
//! | error code | meaning |
//! |---|---|
//! | `bad_request` | not JSON, not an envelope, or a field of the wrong type |
//! | `unknown_action` | an action that this server doesn't have |
//! | `bad_room` | the room's name doesn't match `^[A-Za-z0-9_-]{1,64}$`, or the address is that of no room |
//! | `room_full` | the room, or the server, has no place left |
//! | `room_locked` | the game lets nobody in now |
//! | `refused` | the game, or its program, refused in its own sentence |
//! | `unauthorized`, `expired` | the bearer or resume token is not valid, or no longer |
//! | `origin` | the page's origin may not play here |
//! | `rate_limited` | too many requests; wait and try again |
//! | `too_large` | past a limit of size, of the cookies of a websocket's request too |
//! | `bad_sdp` | the offer can't be answered |
//! | `channel_must_be_unreliable` | the data channel is not unordered with `maxRetransmits: 0` |
//! | `no_such_player`, `no_such_session` | nobody there of that name |
//! | `version_mismatch` | page and server speak different versions |
//! | `draining` | the server is going away |
//! | `internal` | a defect of the server or its game |

use serde::Serialize;

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* #[serde(rename = $text)] $variant,)* }

        impl $name {
            /// Every code.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The code as it stands on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// The code that stands on the wire as `text`.
            #[must_use]
            pub fn parse(text: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|code| code.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

codes! {
    /// Why a request was refused.
    ErrorCode {
        /// Not JSON, not an envelope, or a field of the wrong type.
        BadRequest = "bad_request",
        /// An action that this server doesn't have.
        UnknownAction = "unknown_action",
        /// The room's name is not one, or the address is that of no room.
        BadRoom = "bad_room",
        /// No place left in the room or on the server.
        RoomFull = "room_full",
        /// The game lets nobody in now.
        RoomLocked = "room_locked",
        /// The game, or its program, refused.
        Refused = "refused",
        /// The token is not valid.
        Unauthorized = "unauthorized",
        /// The token is no longer valid.
        Expired = "expired",
        /// The page's origin may not play here.
        Origin = "origin",
        /// Too many requests.
        RateLimited = "rate_limited",
        /// Past a limit of size.
        TooLarge = "too_large",
        /// The offer can't be answered.
        BadSdp = "bad_sdp",
        /// The data channel would lose data silently.
        ChannelMustBeUnreliable = "channel_must_be_unreliable",
        /// No such player in the room.
        NoSuchPlayer = "no_such_player",
        /// No such session.
        NoSuchSession = "no_such_session",
        /// Page and server speak different versions.
        VersionMismatch = "version_mismatch",
        /// The server is going away.
        Draining = "draining",
        /// A defect of the server or its game.
        Internal = "internal",
    }
}

codes! {
    /// Why a player is gone.
    Leave {
        /// They said goodbye.
        Left = "left",
        /// Their connection closed.
        Closed = "closed",
        /// Nothing was heard of them.
        Timeout = "timeout",
        /// The game put them out.
        Kicked = "kicked",
        /// They sent more than is allowed.
        Flood = "flood",
        /// They sent what can't be read.
        BadFrame = "bad_frame",
        /// The same session connected again.
        Replaced = "replaced",
        /// The room closed.
        RoomClosed = "room_closed",
        /// The server stopped.
        Shutdown = "shutdown",
    }
}

impl Leave {
    /// The websocket close code that tells a player of it: 4000 and the place in [`Leave::ALL`]. A clean goodbye is
    /// 1000 (RFC 6455 §7.4.1).
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Leave::Left => 1000,
            Leave::Closed => 4001,
            Leave::Timeout => 4002,
            Leave::Kicked => 4003,
            Leave::Flood => 4004,
            Leave::BadFrame => 4005,
            Leave::Replaced => 4006,
            Leave::RoomClosed => 4007,
            Leave::Shutdown => 4008,
        }
    }
}

/// The websocket close code after a refused request that leaves nothing to wait for; its reason is the [`ErrorCode`].
pub const CLOSE_REFUSED: u16 = 4100;
