//! The transitions of a run. A new one needs a variant, a line in [`Transition::draw`], and an arm in
//! [`World::apply`](super::world::World::apply).

use rtcade::rand::RngExt;

use super::network::{Garbage, Weather};
use super::player::Place;
use super::witness::{Audience, FAN, HALF, MUTE, Manner, QUARTER, SHUT, WIDE, WORDY, Wish};
use super::world::World;

/// Rooms, the common ones more often.
const ROOMS: [&str; 16] =
    ["ada", "ada", "ada", "bob", "bob", FAN, FAN, FAN, FAN, SHUT, HALF, HALF, QUARTER, MUTE, WIDE, WORDY];

/// What may happen. Players are named by their number among all of the run.
#[derive(Clone, Debug)]
pub(super) enum Transition {
    /// Somebody asks to join, and somebody polite right behind them.
    Join { room: &'static str, manner: Manner, weather: Weather, one_way_ms: u32, slow_reader: bool, in_company: bool },
    /// A player says goodbye.
    Leave(usize),
    /// A player falls silent without a word. Their websocket ends later, or never.
    Crash { player: usize, websocket_ends_after_ms: Option<u64> },
    /// A player's websocket breaks. They come back by themselves.
    Lose(usize),
    /// A player sends inputs, the next every so often.
    Inputs { player: usize, count: u32, every_ms: u64 },
    /// A player sends a command.
    Command { player: usize, wish: Wish },
    /// A player has a message for another, or all others, relayed.
    Relay { from: usize, to: usize, whom: Whom },
    /// A player offers a new data channel, which nobody ever opens.
    OfferAgain(usize),
    /// A player's network changes.
    Weather { player: usize, weather: Weather },
    /// A player reaches the server at this of its addresses only.
    Reach { player: usize, server: u16 },
    /// The address translation before a player forgets it.
    Rebind(usize),
    /// Everything stands still.
    StandStill { ms: u64 },
    /// Datagrams come from somewhere, or as if from a player.
    Garbage { forged: Option<usize>, kind: Garbage, count: usize },
    /// A websocket opens on which nobody joins.
    Knock,
    /// A request that must be refused comes from a player, or on the newest websocket of nobody.
    BadRequest { player: Option<usize>, number: usize },
    /// A player sends a frame that can't be read.
    BadFrame { player: usize, number: usize },
    /// A player sends what their game can't read, as a command or as an input.
    Misfit { player: usize, input: bool },
    /// A player sends an input that nests so deep.
    Nested { player: usize, depth: usize },
    /// A player sends a value of as many bytes as one may have, and tries one byte more.
    Largest { player: usize, command: bool },
    /// A player sends too many requests, or too many frames.
    Flood { player: usize, frames: bool },
    /// A connection floods that has not joined, that is joining, or that is being closed.
    FloodOutside(Stage),
    /// A connectivity check of a player comes again, from elsewhere, so many times.
    Replay { player: usize, times: u32 },
    /// A player's websocket is no longer read, and sends requests until the queue of replies is all but full. Then
    /// another player of the room floods, and then it closes.
    Hoard(usize),
    /// So many players join the full room one after the other, and leave again.
    Flap(usize),
    /// Everybody in a full room sends at once what their game can't read.
    Riot,
    /// Connections from so many addresses ask to join and are refused. Meanwhile others join.
    Stampede { addresses: u8 },
    /// A player's websocket is no longer read, and sends pongs that answer no ping.
    Pongs(usize),
}

/// What has become of a connection that is in no room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    Arrived,
    Joining,
    Closing,
}

/// To whom, and by which request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whom {
    /// `exchangeSdp` to one.
    Sdp,
    /// `exchangeCandidate` to one.
    Candidate,
    /// `orientationChange`, to all others.
    Orientation,
}

impl Transition {
    /// The next thing that happens, which the model takes to be possible.
    pub(super) fn draw(world: &mut World) -> Transition {
        loop {
            if let Some(transition) = Transition::try_draw(world) {
                return transition;
            }
        }
    }

    fn try_draw(world: &mut World) -> Option<Transition> {
        let members = world.members();
        let has_place = world.has_place_for_clients();
        let is_flooding = world.is_flooding();
        let is_crowded = world.is_crowded();
        let readers: Vec<usize> =
            members.iter().copied().filter(|&member| matches!(world.players[member].place, Place::Reader(_))).collect();
        let rng = &mut world.rng;
        let a_reader = (!readers.is_empty()).then(|| readers[rng.random_range(0..readers.len())]);
        let somebody = (!members.is_empty()).then(|| members[rng.random_range(0..members.len())]);
        Some(match rng.random_range(0..121) {
            0..=24 if !has_place => return None,
            0..=24 => {
                let room = ROOMS[rng.random_range(0..ROOMS.len())];
                let manner = match rng.random_range(0..20) {
                    0 => Manner::Unwelcome,
                    1 => Manner::Fatal,
                    _ => Manner::Polite,
                };
                Transition::Join {
                    room,
                    manner,
                    weather: Weather::draw(rng),
                    one_way_ms: rng.random_range(2..150),
                    slow_reader: rng.random_range(0..5) == 0,
                    in_company: rng.random_range(0..4) == 0,
                }
            }
            25..=27 => Transition::Leave(somebody?),
            28..=30 => {
                let websocket_ends_after_ms = rng.random_bool(0.7).then(|| rng.random_range(0..3_000));
                Transition::Crash { player: somebody?, websocket_ends_after_ms }
            }
            31..=34 => Transition::Lose(somebody?),
            35..=47 => {
                let every_ms = [0, 5, 33][rng.random_range(0..3)];
                Transition::Inputs { player: somebody?, count: rng.random_range(1..=12), every_ms }
            }
            48..=50 => Transition::Rebind(somebody?),
            51..=66 => {
                let wish = match rng.random_range(0..16) {
                    0 => Wish::KickMe,
                    1 | 2 => Wish::Lock(rng.random()),
                    3 if rng.random() => Wish::Panic,
                    3 => Wish::PanicWhenILeave,
                    4 => Wish::Nothing,
                    5 | 6 => Wish::Rename,
                    _ => {
                        let audiences =
                            [Audience::All, Audience::AllButMe, Audience::Me, Audience::Newest, Audience::AllButNewest];
                        let to = audiences[rng.random_range(0..audiences.len())];
                        Wish::Say { to, reliable: rng.random(), bytes: [1, 300, 3_000][rng.random_range(0..3)] }
                    }
                };
                Transition::Command { player: somebody?, wish }
            }
            67 => Transition::OfferAgain(somebody?),
            68 => {
                let whom = [Whom::Sdp, Whom::Candidate, Whom::Orientation][rng.random_range(0..3)];
                Transition::Relay { from: somebody?, to: members[rng.random_range(0..members.len())], whom }
            }
            69..=76 => Transition::Weather { player: somebody?, weather: Weather::draw(rng) },
            // The second half of a flood would be none after that.
            77..=79 if is_flooding => return None,
            77..=79 => Transition::StandStill { ms: [40, 300, 3_000, 20_000][rng.random_range(0..4)] },
            80..=87 => {
                let kind = [Garbage::Unknown, Garbage::Stun, Garbage::Dtls][rng.random_range(0..3)];
                let forged = somebody.filter(|_| rng.random());
                Transition::Garbage { forged, kind, count: rng.random_range(1..20) }
            }
            88..=89 => Transition::Knock,
            90..=95 => {
                Transition::BadRequest { player: somebody.filter(|_| rng.random()), number: rng.random_range(0..100) }
            }
            96..=97 => Transition::BadFrame { player: somebody?, number: rng.random_range(0..100) },
            98 => Transition::Misfit { player: somebody?, input: rng.random() },
            99..=101 => Transition::Weather { player: somebody?, weather: Weather::DownLost },
            102 | 103 | 117 => Transition::Nested { player: somebody?, depth: rng.random_range(12..=17) },
            104 => Transition::Largest { player: somebody?, command: rng.random() },
            105 => Transition::FloodOutside([Stage::Arrived, Stage::Joining, Stage::Closing][rng.random_range(0..3)]),
            106 | 107 => Transition::Replay { player: somebody?, times: rng.random_range(1..=4) },
            108 => Transition::Hoard(a_reader?),
            109 => Transition::Pongs(a_reader?),
            110..=114 => Transition::Reach { player: somebody?, server: rng.random_range(0..2) },
            115 if is_crowded => Transition::Flap(rng.random_range(4..=12)),
            116 if is_crowded => Transition::Riot,
            118 if has_place && rng.random_bool(0.4) => Transition::Stampede { addresses: 40 },
            115 | 116 | 118 => return None,
            _ => Transition::Flood { player: somebody?, frames: rng.random() },
        })
    }
}
