//! `Arena::step` and `step` of `page/rules.js` are the same.

use std::io::Write;

use rtcade::game::Random;

use super::*;
use crate::rules::HEADINGS;

const TANKS: usize = 16;
const STEPS: usize = 2_000;

#[derive(Serialize)]
struct Run {
    arena: Arena,
    dt: f64,
    drives: Vec<Drive>,
}

#[derive(Serialize)]
struct Drive {
    /// Before the first step.
    body: Body,
    /// The input, the body after it, and whether it has fired.
    steps: Vec<(Input, Body, bool)>,
}

/// Holds an input for some ticks: what a page sends, and of what the wire can carry the extremes.
fn input(random: &mut Random) -> (Input, usize) {
    let extreme = random.random_ratio(1, 8);
    let aim = match random.random_range(0..4) {
        0 if extreme => [i32::MIN, i32::MAX, -1, HEADINGS, HEADINGS / 2][random.random_range(0..5)],
        1 if extreme => random.random_range(i32::MIN..=i32::MAX),
        _ => random.random_range(0..HEADINGS),
    };
    let axis = |random: &mut Random| match random.random_range(0..4) {
        0 if extreme => random.random_range(i8::MIN..=i8::MAX),
        _ => random.random_range(-1..=1),
    };
    let input = Input { drive: axis(random), turn: axis(random), aim, fire: random.random_ratio(1, 2) };
    (input, random.random_range(1..60))
}

/// Starts anywhere, also in a wall and beyond the edge, and beyond any number of turns.
fn start(random: &mut Random) -> Body {
    let heading = |random: &mut Random| match random.random_range(0..3) {
        0 => random.random_range(i32::MIN..=i32::MAX),
        1 => [i32::MIN, i32::MAX][random.random_range(0..2)],
        _ => random.random_range(0..HEADINGS),
    };
    Body {
        x: random.random_range(-100.0..1_700.0),
        y: random.random_range(-100.0..1_100.0),
        hull: heading(random),
        turret: heading(random),
        speed: random.random_range(-210.0..210.0),
        reload: random.random_range(0..20),
    }
}

fn drive(arena: &Arena, dt: f64, random: &mut Random) -> Drive {
    let start = start(random);
    let mut body = start;
    let mut held = (Input::default(), 0);
    let steps = (0..STEPS).map(|_| {
        if held.1 == 0 {
            held = input(random);
        }
        held.1 -= 1;
        let fires = arena.step(&mut body, held.0, dt);
        (held.0, body, fires)
    });
    Drive { body: start, steps: steps.collect() }
}

#[test]
fn the_page_moves_a_tank_as_the_server_does_bit_for_bit() {
    for seed in SEEDS {
        let mut random = Random::new(seed);
        let (arena, dt) = (Arena::new(), TICK.as_secs_f64());
        let drives = (0..TANKS).map(|_| drive(&arena, dt, &mut random)).collect();
        let run = serde_json::to_vec(&Run { arena, dt, drives }).unwrap();
        let mut node = node("equal_rules.mjs");
        let sent = node.stdin.take().unwrap().write_all(&run);
        assert!(node.wait().unwrap().success() && sent.is_ok(), "seed {seed}: page/rules.js and rules.rs differ");
    }
}

#[test]
fn a_client_has_the_arena_of_the_server_bit_for_bit() {
    let mut sim = Simulation::new(1, |room| Ok(Tanks::new(room)));
    let player = sim.join("welcome", "one");
    sim.run(1_000 * MS);
    let welcomes = sim[player].events.iter().filter_map(|(_, event)| match event {
        rtcade::client::Event::Joined { welcome, .. } => Some(welcome),
        _ => None,
    });
    assert_eq!(welcomes.collect::<Vec<_>>(), [&serde_json::to_value(Arena::new()).unwrap()]);
}
