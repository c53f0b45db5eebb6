use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use rand::RngExt;
use serde::de::IgnoredAny;

use super::*;
use crate::game::{Batch, Context, Incoming, Join, Lane, Leave, RoomInfo, Target, Tick};
use crate::room::{Audible, Input, Output};
use crate::wire::seen;
use crate::wire::signaling::UserMedia;

/// A game all of whose outputs depend on all that it was ever told.
#[derive(Default)]
struct Ledger {
    sum: u64,
    restored: u32,
}

impl Game for Ledger {
    type Input = u32;
    type Command = u32;
    type State = (String, u32, Vec<(PlayerId, String, u32)>);
    type Event = String;
    type Welcome = u64;
    type JoinData = IgnoredAny;

    fn join(&mut self, ctx: &mut Context<Ledger>, player: PlayerId, _: &Join<IgnoredAny>) -> Result<u64, Refusal> {
        ctx.listed(true);
        ctx.title(Some(&format!("{} rolled", self.sum)));
        ctx.user_media(player, UserMedia { audio: true, video: false });
        ctx.voice_group(player, player.0 % 2);
        ctx.voice(player, PlayerId(1), Audible::Off);
        Ok(self.sum)
    }

    fn leave(&mut self, ctx: &mut Context<Ledger>, player: PlayerId, _: Leave) {
        self.sum = self.sum.wrapping_mul(31).wrapping_add(player.0.into());
        ctx.lock(self.sum.is_multiple_of(5));
    }

    fn save(&self) -> Option<Vec<u8>> {
        Some(self.sum.to_le_bytes().to_vec())
    }

    fn restore(&mut self, ctx: &mut Context<Ledger>, saved: &[u8]) -> Result<(), Refusal> {
        let saved = saved.try_into().map_err(|_| Refusal::new("Eight bytes, please."))?;
        assert!(ctx.players().all(|player| !player.connected), "all of them have yet to come back");
        self.sum = u64::from_le_bytes(saved);
        self.restored += 1;
        Ok(())
    }

    fn tick(&mut self, ctx: &mut Context<Ledger>, tick: Tick, batch: Batch<'_, Ledger>) {
        for message in batch {
            let (player, value) = match message {
                Incoming::Input { player, number, input, .. } => (player, number ^ input),
                Incoming::Command { player, command } => (player, command.rotate_left(7)),
            };
            self.sum = self.sum.wrapping_mul(1_000_003).wrapping_add(u64::from(player.0 ^ value));
        }
        self.sum = self.sum.wrapping_add(ctx.rng().random::<u32>().into());
        let players: Vec<_> = ctx.players().map(|player| (player.id, player.name.clone())).collect();
        let players = players.into_iter().map(|(id, name)| (id, name, ctx.consumed(id))).collect();
        ctx.state(&(format!("{:x}", self.sum), tick.number, players)).unwrap();
        ctx.event(Target::All, &format!("{:x}", self.sum), Lane::Reliable).unwrap();
        if !self.sum.is_multiple_of(3) {
            ctx.fan_out_inputs();
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Join,
    Leave(usize),
    Input(usize, u32),
    Command(usize, u32),
    Ticks(usize),
    Tick { missed: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Join),
        1 => (0..8usize).prop_map(Step::Leave),
        // More than the budget, so that some wait.
        12 => (0..4usize, any::<u32>()).prop_map(|(player, value)| Step::Input(player, value)),
        6 => (0..8usize, any::<u32>()).prop_map(|(player, value)| Step::Command(player, value)),
        1 => (0..8usize).prop_map(Step::Ticks),
        2 => (0..3u32).prop_map(|missed| Step::Tick { missed }),
    ]
}

fn new_room() -> Room<Ledger> {
    Room::new(&RoomInfo::new("saved", 7), Ledger::default(), 8)
}

/// Takes a step of a room, and what it then has to say.
fn take(room: &mut Room<Ledger>, step: Step, number: &mut u32) -> Vec<Output> {
    let players: Vec<PlayerId> = room.players().map(|player| player.id).collect();
    let of = |index: usize| players.get(index % players.len().max(1)).copied();
    let encoded = |value: u32| msgpack::encode(&value, 100).unwrap();
    *number += 1;
    let input = match step {
        Step::Join => Some(Input::Join { player: room.next_player(), join: Join::new("somebody") }),
        Step::Leave(player) => of(player).map(|player| Input::Leave { player, reason: Leave::Left }),
        Step::Input(player, value) => of(player).map(|player| Input::Input {
            player,
            number: *number,
            seen: seen::stamp(room.tick().into()),
            value: encoded(value),
        }),
        Step::Command(player, value) => of(player).map(|player| Input::Command { player, value: encoded(value) }),
        Step::Ticks(player) => of(player).map(|player| Input::Ticks { player, first: 1, last: room.tick() }),
        Step::Tick { missed } => Some(Input::Tick(Tick { number: room.tick() + 1 + missed, missed })),
    };
    input.into_iter().for_each(|input| room.handle_input(input));
    std::iter::from_fn(|| room.poll_output()).collect()
}

fn restored(saved: Vec<u8>) -> Room<Ledger> {
    let mut room = new_room();
    room.handle_input(Input::Restore { saved });
    room
}

/// All players are back; to a room that was not restored, none was away.
fn resume_all(room: &mut Room<Ledger>) {
    let players: Vec<PlayerId> = room.players().map(|player| player.id).collect();
    let resumed = crate::game::Resumed { reloaded: false };
    players.into_iter().for_each(|player| room.handle_input(Input::Resume { player, resumed }));
}

proptest! {
    #![proptest_config(Config {
        rng_seed: RngSeed::Fixed(0x5a7e),
        cases: 256,
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn a_restored_room_goes_on_as_if_nothing_had_been(
        before in prop::collection::vec(step(), 1..120),
        after in prop::collection::vec(step(), 1..120),
    ) {
        let (mut room, mut number) = (new_room(), 0);
        for step in [Step::Join, Step::Join, Step::Tick { missed: 0 }].into_iter().chain(before) {
            take(&mut room, step, &mut number);
        }
        // Joins and leaves are handled in a tick; messages may wait.
        take(&mut room, Step::Tick { missed: 0 }, &mut number);
        let mut other = restored(room.save().unwrap());
        let game = other.game().expect("it is restored");
        prop_assert_eq!(game.restored, 1);
        prop_assert_eq!((other.is_locked(), other.is_listed(), other.title()), (room.is_locked(), true, room.title()));
        for (listener, speaker) in [(1, 2), (2, 1), (3, 1)].map(|(one, two)| (PlayerId(one), PlayerId(two))) {
            prop_assert_eq!(other.hears(listener, speaker), room.hears(listener, speaker));
            prop_assert_eq!(other.user_media(listener), room.user_media(listener));
        }
        [&mut room, &mut other].into_iter().for_each(resume_all);
        let mut of_other = number;
        for step in after.into_iter().chain([Step::Tick { missed: 0 }, Step::Tick { missed: 0 }]) {
            prop_assert_eq!(take(&mut room, step, &mut number), take(&mut other, step, &mut of_other), "{:?}", step);
        }
        prop_assert_eq!(room.random_numbers_used(), other.random_numbers_used());
    }

    #[test]
    fn what_is_no_saved_room_closes_it_and_no_more(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..4),
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let (mut room, mut number) = (new_room(), 0);
        let tick = Step::Tick { missed: 0 };
        for step in [Step::Join, tick, Step::Input(0, 5), Step::Command(0, 6), tick, Step::Input(0, 7)] {
            take(&mut room, step, &mut number);
        }
        let mut saved = room.save().unwrap();
        flips.iter().for_each(|(at, bit)| *at.get_mut(&mut saved) ^= 1 << bit);
        if is_cut {
            saved.truncate(cut.index(saved.len()));
        }
        let mut room = restored(saved);
        if room.game().is_none() {
            let told = room.poll_output();
            let is_told = matches!(told, Some(Output::Left { .. } | Output::Closed));
            prop_assert!(is_told, "{:?}", told);
        }
        // Whatever was let in is a room that plays on.
        let number = room.tick().saturating_add(1);
        room.handle_input(Input::Tick(Tick { number, missed: 0 }));
    }
}

#[test]
fn a_game_that_refuses_what_it_saved_closes_the_room() {
    let mut room = new_room();
    room.handle_input(Input::Tick(Tick { number: 1, missed: 0 }));
    let saved = room.save().unwrap();
    // The game's bytes come first: one more than it reads.
    let longer = [&[9, 0], &saved[1..]].concat();
    let mut room = restored(longer);
    assert!(room.game().is_none());
    assert_eq!(room.poll_output(), Some(Output::Closed));
    assert_eq!(room.save(), None, "what has ended can't be saved");
}
