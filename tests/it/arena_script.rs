//! The arena in JavaScript plays the same game as the arena in Rust: the same draws, the same messages, tick by tick.

use std::collections::BTreeMap;
use std::time::Duration;

use rtcade::game::{Game, Leave, PlayerId, RoomInfo};
use rtcade::games::Arena;
use rtcade::games::arena::{MAX_PLAYERS, Steer};
use rtcade::rand::RngExt;
use rtcade::room::Output;
use rtcade::script::{CurrentProgram, Program, Scripts};
use rtcade::sim::RoomSimulation;
use rtcade::wire::frame::Kind;

/// More than may play.
const SEATS: usize = MAX_PLAYERS + 2;

fn scripts() -> Scripts {
    let modules = BTreeMap::from([("arena.js".to_owned(), include_str!("../../benches/arena.js").to_owned())]);
    Scripts::new(CurrentProgram::new(Program::new("arena.js", modules).unwrap()), |report| panic!("{report:?}"))
}

/// Players come and go and steer at random, some beyond the limits, and ticks are missed.
fn play<G: Game>(sim: &mut RoomSimulation<G>, ticks: u32, usual_players: usize) {
    let mut players: Vec<PlayerId> = Vec::new();
    for _ in 0..ticks {
        if sim.rng().random_ratio(1, 40) {
            let is_full = players.len() > usual_players;
            if is_full || (!players.is_empty() && sim.rng().random_ratio(1, 3)) {
                let at = sim.rng().random_range(0..players.len());
                sim.leave(players.swap_remove(at), Leave::Left);
            } else {
                let name = format!("player {}", sim.tick());
                players.push(sim.join(&name));
            }
        }
        // A crowd, so that some are refused.
        if sim.rng().random_ratio(1, 2_000) {
            while players.len() < SEATS {
                players.push(sim.join("one of many"));
            }
        }
        for &player in &players {
            if sim.rng().random_ratio(1, 5) {
                continue;
            }
            let most = if sim.rng().random_ratio(1, 20) { 1e4 } else { 110.0 };
            let mut thrust = || match sim.rng().random_range(0..200) {
                0 => f32::NAN,
                1 => f32::INFINITY,
                2..40 => 0.0,
                _ => sim.rng().random_range(-most..=most),
            };
            let steer = Steer(thrust(), thrust(), sim.rng().random_ratio(1, 30));
            sim.send(player, &steer);
        }
        if sim.rng().random_ratio(1, 300) {
            let missed = sim.rng().random_range(1..20);
            sim.miss_ticks(missed);
        }
        sim.step();
    }
}

fn compare(seed: u64, tick: Duration, ticks: u32, usual_players: usize) {
    let mut info = RoomInfo::new("room", seed);
    info.tick = tick;
    let mut ours = RoomSimulation::with_info(&info, SEATS, |info| Ok(Arena::new(info)));
    let mut theirs = RoomSimulation::with_info(&info, SEATS, |info| scripts().create(info));
    play(&mut ours, ticks, usual_players);
    play(&mut theirs, ticks, usual_players);
    for ((tick, ours), (_, theirs)) in ours.said().iter().zip(theirs.said()) {
        match (ours, theirs) {
            // The keys of a welcome have no order.
            (Output::Joined { player, welcome }, Output::Joined { player: other, welcome: others }) => {
                assert_eq!((player, welcome.to_value()), (other, others.to_value()), "seed {seed}, tick {tick}");
            }
            _ => assert_eq!(ours, theirs, "seed {seed}, tick {tick}"),
        }
    }
    assert_eq!(ours.said().len(), theirs.said().len(), "seed {seed}");

    let count = |is: fn(&Output) -> bool| ours.said().iter().filter(|(_, output)| is(output)).count();
    assert!(count(|output| matches!(output, Output::Body { kind: Kind::State, .. })) > ticks as usize * 3 / 4);
    assert!(count(|output| matches!(output, Output::Body { kind: Kind::Event, .. })) > 100);
    assert!(count(|output| matches!(output, Output::Body { kind: Kind::ReliableEvent, .. })) > 0);
    assert!(count(|output| matches!(output, Output::Joined { .. })) > 20);
}

#[test]
fn the_arena_in_javascript_is_the_arena_in_rust() {
    let games =
        [(1, 33, 5_000, 6), (2, 50, 2_500, 20), (3, 16, 8_000, 3), (4, 100, 1_500, MAX_PLAYERS), (5, 33, 4_000, 2)];
    for (seed, ms, ticks, usual_players) in games {
        compare(seed, Duration::from_millis(ms), ticks, usual_players);
    }
}

#[test]
fn a_full_arena_refuses_in_the_same_words() {
    fn refusals<G: Game>(mut sim: RoomSimulation<G>) -> Vec<String> {
        let crowd: Vec<PlayerId> = (0..SEATS).map(|_| sim.join("one of many")).collect();
        sim.step();
        crowd.into_iter().filter_map(|player| sim.refused(player).map(str::to_owned)).collect()
    }
    let info = RoomInfo::new("room", 9);
    let ours = refusals(RoomSimulation::with_info(&info, SEATS, |info| Ok(Arena::new(info))));
    let theirs = refusals(RoomSimulation::with_info(&info, SEATS, |info| scripts().create(info)));
    assert_eq!(ours.len(), SEATS - MAX_PLAYERS);
    assert_eq!(ours, theirs);
}
