#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "games that do what they must not")]

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Instant;

use serde_json::{Value, json};

use super::*;
use crate::game::{Batch, Context, Incoming, Target};

const SECOND: Duration = Duration::from_secs(1);

/// Counts what it hears, and does what `each_tick` says.
struct Probe {
    heard: u32,
    missed: u32,
    each_tick: fn(&mut Context<Probe>, u32) -> u32,
}

impl Game for Probe {
    type Input = u32;
    type Command = String;
    type State = (u32, u32);
    type Event = String;
    type Welcome = Value;
    type JoinData = ();

    fn join(&mut self, ctx: &mut Context<Probe>, player: PlayerId, join: &Join<()>) -> Result<Value, Refusal> {
        ctx.event(Target::Except(player), &format!("{} comes", join.name), Lane::Reliable).unwrap();
        if join.name == "nobody" { Err(Refusal::new("not you")) } else { Ok(json!({ "you": player })) }
    }

    fn leave(&mut self, _: &mut Context<Probe>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Probe>, tick: Tick, batch: Batch<'_, Probe>) {
        self.missed += tick.missed;
        for message in batch {
            match message {
                Incoming::Input { input, .. } => self.heard += input,
                Incoming::Command { player, command } if command == "kick" => ctx.kick(player, "as you wish"),
                Incoming::Command { .. } => panic!("as you wish"),
            }
        }
        let value = (self.each_tick)(ctx, tick.number);
        ctx.state(&(self.heard, value)).unwrap();
    }
}

fn probe(each_tick: fn(&mut Context<Probe>, u32) -> u32) -> impl Fn(&RoomInfo) -> Result<Probe, Refusal> {
    move |_| Ok(Probe { heard: 0, missed: 0, each_tick })
}

#[test]
fn players_see_what_the_room_says_to_them_while_they_are_in() {
    let mut sim = RoomSimulation::new(1, probe(|_, tick| tick));
    let ada = sim.join("Ada");
    let nobody = sim.join("nobody");
    assert!(!sim.is_in(ada), "she asks, and comes in with the next tick");
    sim.run_every(33 * SECOND / 1_000, 330 * SECOND / 1_000, |sim| sim.send(ada, &2));
    let grace = sim.join("Grace");
    sim.step();
    sim.command(grace, &"kick");
    sim.miss_ticks(4);
    sim.step();
    sim.leave(ada, Leave::Closed);
    sim.run(SECOND);

    assert_eq!(sim.game().unwrap().missed, 4);
    let states: Vec<(u32, (u32, u32))> = sim.states(ada).collect();
    assert_eq!(states[..2], [(1, (0, 1)), (2, (2, 2))], "an input of somebody who is not in is nobody's");
    assert_eq!(states.last(), Some(&(16, (18, 16))), "ten ticks, two, and four missed");
    let events: Vec<(u32, String, Lane)> = sim.events(ada).collect();
    let comes = |tick, name: &str| (tick, format!("{name} comes"), Lane::Reliable);
    assert_eq!(events, [comes(1, "nobody"), comes(11, "Grace")]);
    assert_eq!(sim.states::<(u32, u32)>(grace).map(|(tick, _)| tick).collect::<Vec<_>>(), [11, 16]);
    assert_eq!(sim.last_state::<(u32, u32)>(nobody), None);

    assert_eq!(sim.welcome(ada), Some(json!({ "you": 1 })));
    assert_eq!((sim.welcome(nobody), sim.refused(nobody)), (None, Some("not you")));
    assert_eq!((sim.left(ada), sim.left(grace)), (Some((Leave::Closed, "")), Some((Leave::Kicked, "as you wish"))));
    assert!(![ada, grace, nobody].iter().any(|&player| sim.is_in(player)));
}

#[test]
fn its_recording_replays() {
    let mut sim = RoomSimulation::new(5, probe(|ctx, _| rand::RngExt::random(ctx.rng())));
    let ada = sim.join("Ada");
    sim.run_every(SECOND / 10, SECOND * 3, |sim| sim.send(ada, &1));
    let recording = sim.recording();
    let journal = Journal::parse(&recording).unwrap();
    let mut replay = crate::journal::Replay::new(&journal, probe(|ctx, _| rand::RngExt::random(ctx.rng()))).unwrap();
    let mut verdicts = Vec::new();
    while let Some(step) = replay.step().unwrap() {
        verdicts.push(step.verdict);
    }
    assert_eq!(verdicts.len(), 90);
    assert!(verdicts.iter().all(|&verdict| verdict == crate::journal::Verdict::Same));
}

fn two_players(sim: &mut RoomSimulation<Probe>) {
    let players = [sim.join("Ada"), sim.join("Grace")];
    sim.run_every(SECOND / 20, SECOND * 2, |sim| {
        for player in players {
            let input: u8 = rand::RngExt::random(sim.rng());
            sim.send(player, &input);
        }
    });
}

/// In which tick, and with which words, the check finds what a game does.
fn check_finds(each_tick: fn(&mut Context<Probe>, u32) -> u32) -> (u32, String) {
    let Divergence { seed, tick, what } = check(probe(each_tick), two_players, 3..20).unwrap_err();
    assert_eq!(seed, 3);
    (tick, what)
}

#[test]
fn a_game_that_is_the_same_twice_passes() {
    check(probe(|ctx, _| rand::RngExt::random(ctx.rng())), two_players, 0..20).unwrap();
}

#[test]
fn a_game_that_iterates_a_hash_map_is_caught() {
    let (tick, what) = check_finds(|_, tick| {
        if tick < 20 {
            return 0;
        }
        let scores: HashMap<u32, u32> = (0..1_000).map(|player| (player, 2 * player)).collect();
        *scores.values().next().unwrap()
    });
    assert_eq!(tick, 20);
    assert!(what.starts_with("the outputs differ: state[1]: ") && what.contains(" in one run, "), "{what}");
}

#[test]
fn a_game_that_reads_a_clock_is_caught() {
    thread_local!(static STARTED: Instant = Instant::now());
    let (tick, what) = check_finds(|_, tick| if tick < 30 { 0 } else { STARTED.with(Instant::elapsed).subsec_nanos() });
    assert_eq!(tick, 30);
    assert!(what.starts_with("the outputs differ: state[1]: "), "{what}");
}

#[test]
fn a_game_that_remembers_the_run_before_is_caught() {
    thread_local!(static RUNS: Cell<u32> = const { Cell::new(0) });
    let (tick, what) = check_finds(|_, tick| {
        RUNS.with(|runs| runs.set(runs.get() + u32::from(tick == 1)));
        // The last tick there is.
        u32::from(tick >= 60) * RUNS.with(Cell::get)
    });
    assert_eq!((tick, what.as_str()), (60, "the outputs differ: state[1]: 1 in one run, 2 in the other"));
}

#[test]
fn random_numbers_that_are_drawn_but_not_shown_are_caught() {
    thread_local!(static DRAWS: Cell<u32> = const { Cell::new(0) });
    let (tick, what) = check_finds(|ctx, tick| {
        DRAWS.with(|draws| draws.set(draws.get() + u32::from(tick == 9)));
        for _ in 0..DRAWS.with(Cell::get) * u32::from(tick >= 9) {
            let _: u32 = rand::RngExt::random(ctx.rng());
        }
        0
    });
    assert_eq!((tick, what.as_str()), (9, "the outputs are the same, but the number of random numbers drawn differs"));
}

#[test]
fn one_event_more_is_told() {
    thread_local!(static TICKS: Cell<u32> = const { Cell::new(0) });
    let (tick, what) = check_finds(|ctx, _| {
        TICKS.with(|ticks| ticks.set(ticks.get() + 1));
        if TICKS.with(Cell::get) == 5 {
            ctx.event(Target::All, &"once".to_owned(), Lane::Unreliable).unwrap();
        }
        0
    });
    assert_eq!(tick, 5);
    assert!(what.contains(r#""event":"once""#), "{what}");
}

#[test]
fn a_workload_that_is_not_the_same_twice_is_told_from_a_game_that_is_not() {
    let runs = Cell::new(0);
    let differs = |sim: &mut RoomSimulation<Probe>| {
        runs.set(runs.get() + 1);
        let ada = sim.join("Ada");
        sim.run(SECOND);
        sim.send(ada, &runs.get());
        sim.run(SECOND);
    };
    let Divergence { tick, what, .. } = check(probe(|_, _| 0), differs, [1]).unwrap_err();
    assert_eq!(tick, 31);
    assert!(what.contains("the workload itself") && what.contains("input: 1 in one run, 2 in the other"), "{what}");

    let runs = Cell::new(0);
    let longer = |sim: &mut RoomSimulation<Probe>| {
        runs.set(runs.get() + 1);
        sim.run(SECOND * runs.get());
    };
    let Divergence { tick, what, .. } = check(probe(|_, _| 0), longer, [1]).unwrap_err();
    assert_eq!(tick, 31);
    assert!(what.contains("one run is longer"), "{what}");
}

#[test]
fn a_game_that_panics_ends_the_same_way_twice() {
    let fails = |sim: &mut RoomSimulation<Probe>| {
        let ada = sim.join("Ada");
        sim.step();
        sim.command(ada, &"fail");
        sim.step();
        assert!(sim.game().is_none());
        assert_eq!(sim.left(ada).unwrap().0, Leave::RoomClosed);
        sim.run(SECOND);
    };
    check(probe(|_, _| 0), fails, [1]).unwrap();
}
