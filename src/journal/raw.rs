//! What a recording has in its blocks, as postcard encodes it. New entries follow those before them.

use serde::{Deserialize, Serialize};

use super::End;

#[derive(Serialize, Deserialize)]
pub(super) struct RawHeader<'a> {
    pub(super) game: &'a str,
    pub(super) game_version: u32,
    pub(super) room: &'a str,
    pub(super) seed: u64,
    pub(super) tick: u64,
    pub(super) data: &'a [u8],
    pub(super) max_players: u32,
    pub(super) phase: u64,
    pub(super) rtcade: &'a str,
    pub(super) commit: &'a str,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum RawEntry<'a> {
    Join {
        player: u32,
        name: &'a str,
        data: &'a [u8],
    },
    Leave {
        player: u32,
        reason: &'a str,
    },
    Input {
        player: u32,
        number: u32,
        value: &'a [u8],
    },
    Command {
        player: u32,
        value: &'a [u8],
    },
    Ticks {
        player: u32,
        first: u32,
        last: u32,
    },
    Link {
        player: u32,
        rtt_us: u32,
        jitter_us: u32,
        loss_down_permille: u16,
        loss_up_permille: u16,
    },
    Tick {
        number: u32,
        missed: u32,
    },
    Said {
        hash: u32,
    },
    Panicked {
        hash: u32,
    },
    Ended(End),
    Drop {
        player: u32,
    },
    Resume {
        player: u32,
    },
    JoinAs {
        player: u32,
        name: &'a str,
        data: &'a [u8],
        subject: &'a str,
        claims: &'a [u8],
    },
    JoinWith {
        player: u32,
        name: &'a str,
        data: &'a [u8],
        #[serde(borrow)]
        identity: Option<RawIdentity<'a>>,
        attached: &'a [u8],
    },
    External {
        bytes: &'a [u8],
    },
    InputSeen {
        player: u32,
        number: u32,
        seen: u16,
        value: &'a [u8],
    },
    Reload {
        player: u32,
    },
    Drain {
        time_ms: u64,
    },
    Restore {
        saved: &'a [u8],
    },
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct RawIdentity<'a> {
    pub(super) subject: &'a str,
    pub(super) claims: &'a [u8],
}
