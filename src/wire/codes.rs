//! Codes of errors, of the reasons for leaving, and of closed websockets.
//!
//! | error code | meaning |
//! |---|---|
//! | `bad_request` | not JSON, not an envelope, a field of the wrong type, or `data` that the game can't read |
//! | `unknown_action` | an action that the server does not support |
//! | `bad_room` | the room's name doesn't match `^[A-Za-z0-9_-]{1,64}$`, or the address is not that of a room |
//! | `room_full` | the room, or the server, is full |
//! | `room_locked` | the game has locked the room |
//! | `refused` | the game or a hook refused, with its own sentence |
//! | `unauthorized`, `expired` | the bearer or resume token is not valid, or has expired |
//! | `origin` | the origin of the page is not allowed |
//! | `rate_limited` | too many requests; wait and try again |
//! | `too_large` | a message, or the cookies of a websocket request, exceed a limit |
//! | `bad_sdp` | the offer can't be answered |
//! | `channel_must_be_unreliable` | the data channel is not unordered with `maxRetransmits: 0` |
//! | `no_such_player`, `no_such_session` | there is no such player or session |
//! | `resume_required` | a `reconnect` without the resume token |
//! | `version_mismatch` | page and server use different versions of the protocol |
//! | `draining` | the server is shutting down |
//! | `unavailable` | the servers can't agree about the room at the moment; try again |
//! | `internal` | a defect of the server or its game |
//!
//! A client that joins with `"errors": "number"` gets [`ErrorCode::number`] instead.

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

            /// Returns the code as used on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }

            /// Returns the code that is `text` on the wire.
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
        /// Not JSON, not an envelope, a field of the wrong type, or `data` that the game can't read.
        BadRequest = "bad_request",
        /// An action that this server does not support.
        UnknownAction = "unknown_action",
        /// The room's name is not one, or the address is that of no room.
        BadRoom = "bad_room",
        /// The room or the server is full.
        RoomFull = "room_full",
        /// The game has locked the room.
        RoomLocked = "room_locked",
        /// Refused by the game or a hook.
        Refused = "refused",
        /// The token is invalid.
        Unauthorized = "unauthorized",
        /// The token has expired.
        Expired = "expired",
        /// The page's origin is not allowed.
        Origin = "origin",
        /// Too many requests.
        RateLimited = "rate_limited",
        /// A size limit is exceeded.
        TooLarge = "too_large",
        /// The offer can't be answered.
        BadSdp = "bad_sdp",
        /// The data channel is not unordered with `maxRetransmits: 0`: it would lose data silently.
        ChannelMustBeUnreliable = "channel_must_be_unreliable",
        /// No such player in the room.
        NoSuchPlayer = "no_such_player",
        /// No such session.
        NoSuchSession = "no_such_session",
        /// `reconnect` has no resume token.
        ResumeRequired = "resume_required",
        /// Page and server use different versions of the protocol.
        VersionMismatch = "version_mismatch",
        /// The server is shutting down.
        Draining = "draining",
        /// The servers of the cluster can't agree about the room at the moment.
        Unavailable = "unavailable",
        /// A defect of the server or its game.
        Internal = "internal",
    }
}

impl ErrorCode {
    /// Returns the number of the code, for clients that join with `"errors": "number"`. It never changes.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            ErrorCode::BadRequest => 1,
            ErrorCode::UnknownAction => 2,
            ErrorCode::BadRoom => 3,
            ErrorCode::RoomFull => 4,
            ErrorCode::RoomLocked => 5,
            ErrorCode::Refused => 6,
            ErrorCode::Unauthorized => 7,
            ErrorCode::Expired => 8,
            ErrorCode::Origin => 9,
            ErrorCode::RateLimited => 10,
            ErrorCode::TooLarge => 11,
            ErrorCode::BadSdp => 12,
            ErrorCode::ChannelMustBeUnreliable => 13,
            ErrorCode::NoSuchPlayer => 14,
            ErrorCode::NoSuchSession => 15,
            ErrorCode::VersionMismatch => 16,
            ErrorCode::Draining => 17,
            ErrorCode::Internal => 18,
            ErrorCode::ResumeRequired => 19,
            ErrorCode::Unavailable => 20,
        }
    }
}

codes! {
    /// Why a player has left.
    Leave {
        /// The player left.
        Left = "left",
        /// The connection was closed.
        Closed = "closed",
        /// Nothing was received from the player.
        Timeout = "timeout",
        /// The game removed the player.
        Kicked = "kicked",
        /// The player exceeded a rate limit.
        Flood = "flood",
        /// The player sent a message that can't be decoded.
        BadFrame = "bad_frame",
        /// The session was resumed on another connection.
        Replaced = "replaced",
        /// The room closed.
        RoomClosed = "room_closed",
        /// The server stopped.
        Shutdown = "shutdown",
        /// The room is at another server.
        Moved = "moved",
    }
}

impl Leave {
    /// Returns the websocket close code for this reason: 4000 plus the index in [`Leave::ALL`]; for [`Leave::Left`]
    /// 1000 (RFC 6455 §7.4.1), and for [`Leave::Moved`] [`CLOSE_REDIRECTED`].
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
            Leave::Moved => CLOSE_REDIRECTED,
        }
    }
}

/// The websocket close code where the room is at another server of the cluster.
pub const CLOSE_REDIRECTED: u16 = 4307;

/// The websocket close code after a refused request that ends the connection. The close reason is the [`ErrorCode`].
pub const CLOSE_REFUSED: u16 = 4100;
