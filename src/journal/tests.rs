use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::game::{Batch, Context, Incoming, Lane};
use crate::sim::Simulation;

const SECOND: Duration = Duration::from_secs(1);

/// Sums up what players send, throws dice, and fails when told to.
struct Dice {
    sum: u64,
    /// Added to every sum: the next version of the game.
    bonus: u64,
}

impl Game for Dice {
    type Input = u64;
    type Command = String;
    type State = u64;
    type Event = String;
    type Welcome = Value;
    type JoinData = Value;
    const VERSION: u32 = 3;

    fn join(&mut self, _: &mut Context<Dice>, _: PlayerId, join: &Join) -> Result<Value, Refusal> {
        if join.data["refuse"] == true { Err(Refusal::new("as you wish")) } else { Ok(join.data.clone()) }
    }

    fn leave(&mut self, _: &mut Context<Dice>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Dice>, tick: Tick, batch: Batch<'_, Dice>) {
        for message in batch {
            match message {
                Incoming::Input { input, .. } => self.sum += input + self.bonus,
                Incoming::Command { player, command } if command == "kick me" => ctx.kick(player, "there"),
                Incoming::Command { command, .. } if command == "fail" => panic!("as it was told to"),
                Incoming::Command { command, .. } => ctx.event(Target::All, &command, Lane::Reliable).unwrap(),
            }
        }
        if tick.number.is_multiple_of(10) {
            self.sum += rand::RngExt::random_range(ctx.rng(), 1..=6);
        }
        ctx.state(&self.sum).unwrap();
    }
}

fn dice(bonus: u64) -> impl Fn(&RoomInfo) -> Result<Dice, Refusal> {
    move |_| Ok(Dice { sum: 0, bonus })
}

/// The recording of a room with three players, over a network that loses; `act` may do more with it.
fn record(seed: u64, act: impl FnOnce(&mut Simulation<Dice>)) -> Vec<u8> {
    let mut sim = Simulation::new(seed, dice(0));
    let file = Rc::new(RefCell::new(Vec::new()));
    // Who is put out by a panic comes back into another room.
    let mut written = Some(Rc::clone(&file));
    sim.server.record(move |_| match written.take() {
        Some(written) => Box::new(move |block| written.borrow_mut().extend_from_slice(block)),
        None => Box::new(|_| {}),
    });
    let players = [json!({ "hue": 0.1, "deep": [[[{}]]] }), json!(null), json!({ "refuse": true })]
        .map(|data| sim.join_with("dice", |config| config.data = data));
    sim.run(SECOND);
    sim.run_every(50 * SECOND / 1_000, SECOND, |sim| {
        sim.send(players[0], &7_u64);
        sim.command(players[1], &"hello");
    });
    act(&mut sim);
    sim.run(SECOND);
    drop(sim);
    file.take()
}

fn steps(file: &[u8], game: impl FnOnce(&RoomInfo) -> Result<Dice, Refusal>) -> Vec<Step> {
    let mut replay = Replay::new(&Journal::parse(file).unwrap(), game).unwrap();
    std::iter::from_fn(|| replay.step().unwrap()).collect()
}

#[test]
fn a_recorded_room_says_the_same_again() {
    let file = record(1, |sim| {
        let third = sim.join("dice", "third");
        sim.run(SECOND);
        sim.command(third, &"kick me");
        sim.run(SECOND);
        sim.leave(third);
    });
    let journal = Journal::parse(&file).unwrap();
    let Header { game, game_version, room, max_players, phase, .. } = journal.header();
    assert!(game.ends_with("::Dice"), "{game}");
    assert_eq!((*game_version, room.name.as_str(), *max_players), (3, "dice", 16));
    assert_eq!((room.tick, *phase), (SECOND * 33 / 1_000, Duration::ZERO));
    assert_eq!(room.data["hue"], 0.1);
    let steps = steps(&file, dice(0));
    assert!(steps.len() > 120, "{} ticks", steps.len());
    assert!(steps.iter().all(|step| step.verdict == Verdict::Same));
    let told = || steps.iter().flat_map(|step| &step.told);
    assert_eq!(told().filter(|input| matches!(input, Input::Join { .. })).count(), 4);
    assert!(told().filter(|input| matches!(input, Input::Input { .. })).count() >= 15);
    assert!(told().any(|input| matches!(input, Input::Link { .. })));
    assert!(steps.iter().flat_map(|step| &step.said).any(|output| matches!(output, Output::Left { .. })));
    let last = journal.entries().last().unwrap().unwrap();
    assert_eq!(last, Entry::Ended(End::Closed));
}

/// Says how long its ticks are.
struct Metronome;

impl Game for Metronome {
    type Input = ();
    type Command = ();
    type State = u64;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Metronome>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Metronome>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Metronome>, _: Tick, _: Batch<'_, Metronome>) {
        ctx.state(&nanos(ctx.tick_length())).unwrap();
    }
}

#[test]
fn a_tick_of_any_length_that_a_server_takes_replays() {
    let (shortest, longest) = limits::TICK_MS_RANGE.into_inner();
    let (shortest, longest) = (u64::from(shortest) * 1_000_000, u64::from(longest) * 1_000_000);
    for ns in [shortest - 1, shortest, 16_666_667, 33_000_001, longest - 1, longest, longest + 1, 1_000_900_000] {
        let tick = Duration::from_nanos(ns);
        let file = Rc::new(RefCell::new(Vec::new()));
        let written = Rc::clone(&file);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut sim = Simulation::with_config(1, |config| config.tick = tick, |_| Ok(Metronome));
            sim.server.record(move |_| {
                let written = Rc::clone(&written);
                Box::new(move |block| written.borrow_mut().extend_from_slice(block))
            });
            sim.join("beat", "one");
            sim.run(5 * tick + SECOND);
        }));
        assert_eq!(played.is_ok(), (shortest..=longest).contains(&ns), "{ns} ns");
        if played.is_err() {
            continue;
        }
        let file = file.take();
        let journal = Journal::parse(&file).unwrap();
        assert_eq!(journal.header().room.tick, tick);
        let mut replay = Replay::new(&journal, |_| Ok(Metronome)).unwrap();
        let steps: Vec<_> = std::iter::from_fn(|| replay.step().unwrap()).collect();
        assert!(!steps.is_empty() && steps.iter().all(|step| step.verdict == Verdict::Same), "{ns} ns");
    }
}

#[test]
fn times_of_the_first_format_are_in_microseconds() {
    let header = Header::new::<Dice>(&RoomInfo::new("old", 1), 4, Duration::from_micros(16));
    let mut file = Vec::new();
    append_header(&mut file, &Header { room: RoomInfo { tick: Duration::from_micros(33), ..header.room }, ..header });
    // The same numbers, thousandfold.
    assert_eq!(Journal::parse(&file).unwrap_err().reason, Reason::Malformed("the tick length is out of range"));
    file[MAGIC.len()..PREAMBLE_BYTES].copy_from_slice(&1_u16.to_le_bytes());
    let journal = Journal::parse(&file).unwrap();
    let Header { room, phase, .. } = journal.header();
    assert_eq!((room.tick, *phase), (Duration::from_millis(33), Duration::from_millis(16)));
}

#[test]
fn a_game_that_has_changed_is_found_out_in_the_tick_where_it_shows() {
    let file = record(1, |_| {});
    let steps = steps(&file, dice(1));
    let first_input = steps.iter().position(|step| step.told.iter().any(|told| matches!(told, Input::Input { .. })));
    let first = steps.iter().position(|step| step.verdict != Verdict::Same);
    assert_eq!(first, first_input);
    assert_eq!(steps[first.unwrap()].verdict, Verdict::Differs { panicked_then: false, panicked_now: false });

    let again = record_again(&Journal::parse(&file).unwrap(), dice(1)).unwrap();
    assert!(super::tests::steps(&again, dice(1)).iter().all(|step| step.verdict == Verdict::Same));
    assert!(super::tests::steps(&again, dice(0)).iter().any(|step| step.verdict != Verdict::Same));
    let unchanged = record_again(&Journal::parse(&file).unwrap(), dice(0)).unwrap();
    assert!(unchanged == file, "what has not changed is recorded alike");
    let cut = &file[..file.len() / 2];
    let cut_again = record_again(&Journal::parse(cut).unwrap(), dice(0)).unwrap();
    let entries = Journal::parse(&cut_again).unwrap().entries().map(Result::unwrap);
    assert!(!entries.into_iter().any(|entry| matches!(entry, Entry::Ended(_))), "it has no end either");
}

#[test]
fn a_panic_is_on_record_and_expected_again() {
    let file = record(1, |sim| {
        let [first, ..] = sim.clients().collect::<Vec<_>>()[..] else { panic!("there are players") };
        sim.command(first, &"fail");
        sim.run(SECOND);
    });
    let steps = steps(&file, dice(0));
    let (last, before) = steps.split_last().unwrap();
    assert!(before.iter().all(|step| step.verdict == Verdict::Same && !step.said.contains(&Output::Closed)));
    assert!(last.said.contains(&Output::Closed) && last.verdict == Verdict::Same);
    let entries: Vec<_> = Journal::parse(&file).unwrap().entries().map(Result::unwrap).collect();
    let [.., Entry::Panicked { .. }, Entry::Ended(End::Closed)] = entries[..] else { panic!("it panicked last") };

    let fixed = Journal::parse(&file).unwrap();
    let mut replay = Replay::new(&fixed, |_| Ok(Calm)).unwrap();
    let mut verdict = None;
    while let Some(step) = replay.step().unwrap() {
        verdict = Some(step.verdict);
    }
    assert_eq!(verdict, Some(Verdict::Differs { panicked_then: true, panicked_now: false }));
}

/// Does nothing, and fails at nothing.
struct Calm;

impl Game for Calm {
    type Input = serde::de::IgnoredAny;
    type Command = serde::de::IgnoredAny;
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Calm>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Calm>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, _: &mut Context<Calm>, _: Tick, _: Batch<'_, Calm>) {}
}

#[test]
fn random_numbers_that_do_not_show_are_compared_too() {
    let file = record(1, |_| {});
    let mut replay = Replay::new(&Journal::parse(&file).unwrap(), dice(0)).unwrap();
    let first = replay.step().unwrap().unwrap();
    assert_eq!(first.verdict, Verdict::Same);
    let mut hash = OutputHash::default();
    first.said.iter().for_each(|output| hash.note(output));
    let Some(Entry::Said { hash: recorded }) =
        Journal::parse(&file).unwrap().entries().map(Result::unwrap).find(|entry| matches!(entry, Entry::Said { .. }))
    else {
        panic!("a tick has a hash")
    };
    assert_eq!(hash.clone().take(&replay.room), recorded);
    while replay.room.random_numbers_used() == 0 {
        replay.step().unwrap().unwrap();
    }
    assert_ne!(hash.take(&replay.room), recorded);
}

#[test]
fn wherever_a_recording_is_cut_what_is_whole_replays() {
    let file = record(1, |_| {});
    let header = Journal::parse(&file).unwrap().entries_at;
    let whole = steps(&file, dice(0)).len();
    let mut replayed = 0;
    for cut in 0..file.len() {
        let file = &file[..cut];
        if cut < header {
            let reason = Journal::parse(file).unwrap_err().reason;
            assert_eq!(reason, if cut < MAGIC.len() { Reason::NotAJournal } else { Reason::NoHeader }, "at {cut}");
            continue;
        }
        // Replaying at each byte of a long file takes long.
        let journal = Journal::parse(file).unwrap();
        let mut entries = journal.entries();
        let ticks =
            entries.by_ref().map(Result::unwrap).filter(|entry| matches!(entry, Entry::Told(Input::Tick(_)))).count();
        assert!(ticks >= replayed, "a longer file has no fewer ticks");
        let torn = entries.torn_bytes();
        assert!(torn <= BLOCK_BYTES_MAX);
        if ticks > replayed {
            assert_eq!(torn, 0, "a tick ends a block");
            replayed = ticks;
            let steps = steps(file, dice(0));
            assert_eq!(steps.len(), ticks);
            let (last, before) = steps.split_last().unwrap();
            assert!(before.iter().all(|step| step.verdict == Verdict::Same));
            assert_eq!(last.verdict, Verdict::Unknown, "its hash stands in the next block");
        }
    }
    assert_eq!(replayed, whole);
}

#[test]
fn a_flipped_bit_is_named_with_its_place() {
    let file = record(1, |_| {});
    let end = file.len().min(6_000);
    let blocks: Vec<_> = {
        let mut blocks = Blocks { bytes: &file, at: PREAMBLE_BYTES };
        let mut starts = Vec::new();
        loop {
            starts.push(blocks.at);
            if blocks.next_block().unwrap().is_none() {
                break starts;
            }
        }
    };
    for bit in 0..end * 8 {
        let (byte, mut spoiled) = (bit / 8, file.clone());
        spoiled[byte] ^= 1 << (bit % 8);
        let error = match Journal::parse(&spoiled) {
            Err(error) => error,
            Ok(journal) => journal.entries().find_map(Result::err).unwrap_or_else(|| panic!("bit {bit} passes")),
        };
        let block = blocks.iter().rev().find(|&&start| start <= byte);
        let expected = match byte {
            0..8 => 0,
            8..PREAMBLE_BYTES => 8,
            _ => *block.unwrap() as u64,
        };
        assert_eq!(error.offset, expected, "bit {bit}: {error}");
    }
}

#[test]
fn what_is_no_recording_or_a_newer_one_is_told_so() {
    fn check(bytes: &[u8], expected: &str) {
        assert_eq!(Journal::parse(bytes).unwrap_err().to_string(), expected);
    }
    check(b"", "at byte 0: this is no recording of a room");
    check(b"GIF89a, and more", "at byte 0: this is no recording of a room");
    for (file, format) in [(b"rtcade-j\x00\x00...", 0), (b"rtcade-j\x20\x00...", 32)] {
        let expected =
            format!("at byte 8: the recording has format {format}, but this program reads formats 1, 2, 4, 8 and 16");
        check(file, &expected);
    }
    check(b"rtcade-j\x01\x00\xff", "at byte 10: the recording ends within its header");
    check(b"rtcade-j\x01\x00\x01\x00\x02\x02....", "at byte 10: the length of a block is damaged");
}

/// A recording with a header of ours and these entries behind it.
fn forged(entries: &[RawEntry<'_>]) -> Vec<u8> {
    let header = Header::new::<Dice>(&RoomInfo::new("forged", 1), 4, Duration::ZERO);
    let file = Rc::new(RefCell::new(Vec::new()));
    let written = Rc::clone(&file);
    let mut recorder = Recorder::new(&header, Box::new(move |block| written.borrow_mut().extend_from_slice(block)));
    entries.iter().for_each(|entry| recorder.append(entry));
    drop(recorder);
    file.take()
}

#[test]
fn stamps_and_reloads_are_read_as_they_were_told() {
    fn told(file: &[u8]) -> Vec<Input> {
        let entries = Journal::parse(file).unwrap().entries();
        let told = entries.filter_map(|entry| if let Entry::Told(input) = entry.unwrap() { Some(input) } else { None });
        told.filter(|input| !matches!(input, Input::Tick(_))).collect()
    }
    let player = PlayerId(1);
    let input = |seen| Input::Input { player, number: 9, seen, value: vec![7] };
    let resume = |reloaded| Input::Resume { player, resumed: Resumed { reloaded } };
    let expected = [resume(false), resume(true), input(0), input(0xfff7)];
    let file = Rc::new(RefCell::new(Vec::new()));
    let written = Rc::clone(&file);
    let header = Header::new::<Dice>(&RoomInfo::new("told", 1), 4, Duration::ZERO);
    let mut recorder = Recorder::new(&header, Box::new(move |block| written.borrow_mut().extend_from_slice(block)));
    expected.iter().for_each(|input| recorder.note_input(input));
    drop(recorder);
    assert_eq!(told(&file.borrow()), expected);

    let before = [
        RawEntry::Tick { number: 4_100, missed: 0 },
        RawEntry::Said { hash: 0 },
        RawEntry::Input { player: 1, number: 9, value: &[7] },
        RawEntry::Resume { player: 1 },
    ];
    assert_eq!(
        told(&forged(&before)),
        [input(64), resume(false)],
        "before there were any, a player saw the newest tick"
    );
}

#[test]
fn what_a_room_could_never_have_been_told_is_refused() {
    fn check(entries: &[RawEntry<'_>], expected: &'static str) {
        let file = forged(entries);
        let mut replay = Replay::new(&Journal::parse(&file).unwrap(), dice(0)).unwrap();
        let error = std::iter::from_fn(|| replay.step().transpose()).find_map(Result::err);
        assert_eq!(error.unwrap().reason, Reason::Malformed(expected));
    }
    let tick = |number| RawEntry::Tick { number, missed: 0 };
    let long = [&[0xc5, 0x40, 0x00][..], &[0; 0x4000]].concat();
    let deep = [0x91; 100];
    check(&[tick(1), tick(1)], "a tick does not follow the previous one");
    check(&[tick(7), tick(6)], "a tick does not follow the previous one");
    check(&[tick(1), tick(2)], "a tick follows one without a hash");
    check(&[RawEntry::Said { hash: 1 }], "a hash follows no tick");
    check(&[tick(1), RawEntry::Said { hash: 1 }, RawEntry::Panicked { hash: 1 }], "a hash follows no tick");
    let much = vec![RawEntry::Ticks { player: 1, first: 1, last: 1 }; limits::TOLD_PER_TICK + 1];
    check(&much, "there are more inputs between two ticks than a server allows");
    check(&[RawEntry::Leave { player: 1, reason: "bored" }], "a reason for leaving is unknown");
    check(&[RawEntry::Input { player: 1, number: 1, value: &[0xc1] }], "a message exceeds its limits");
    check(&[RawEntry::Input { player: 1, number: 1, value: &[0xc4, 0xff] }], "a message exceeds its limits");
    check(&[RawEntry::Command { player: 1, value: &long }], "a message exceeds its limits");
    check(&[RawEntry::Command { player: 1, value: &deep }], "a message exceeds its limits");
    let name = "x".repeat(limits::PLAYER_NAME_BYTES + 1);
    check(&[RawEntry::Join { player: 1, name: &name, data: &[0xc0] }], "a name is too long");
    check(
        &[RawEntry::Join { player: 1, name: "x", data: &[0xdd, 0xff, 0xff, 0xff, 0xff] }],
        "the data of a join can't be read",
    );
    check(&[RawEntry::External { bytes: &vec![0; limits::EXTERNAL_BYTES + 1] }], "a message exceeds its limits");
    check(&[RawEntry::Ended(End::Closed), tick(1)], "the recording continues after its end");
}

#[test]
fn a_recording_ends_where_it_is_full_and_the_room_goes_on() {
    let header = Header::new::<Dice>(&RoomInfo::new("full", 1), 4, Duration::ZERO);
    let file = Rc::new(RefCell::new(Vec::new()));
    let written = Rc::clone(&file);
    let mut recorder = Recorder::new(&header, Box::new(move |block| written.borrow_mut().extend_from_slice(block)));
    recorder.bytes = limits::JOURNAL_BYTES - 100;
    let before = file.borrow().len();
    for number in 1..100 {
        recorder.note_input(&Input::Tick(Tick { number, missed: 0 }));
        recorder.append(&RawEntry::Said { hash: number });
    }
    drop(recorder);
    let file = file.take();
    assert!(file.len() - before <= 100, "{} bytes", file.len() - before);
    let last = Journal::parse(&file).unwrap().entries().last().unwrap().unwrap();
    assert_eq!(last, Entry::Ended(End::Full));
}

#[test]
fn sessions_and_their_secrets_are_not_on_record() {
    let mut ids = Vec::new();
    let file = record(1, |sim| {
        let clients: Vec<_> = sim.clients().collect();
        ids = clients
            .iter()
            .filter_map(|&client| sim[client].heard("joinR")?["d"]["socketId"].as_str().map(str::to_owned))
            .collect();
    });
    assert_eq!(ids.len(), 2);
    for id in ids {
        assert!(!file.windows(id.len()).any(|window| window == id.as_bytes()), "{id} is in the recording");
    }
}
