use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use rtcade::game::Game;
use rtcade::sim::{ClientId, Node, Path, Simulation};

use super::*;

mod equal_rules;
mod feel;

const MS: Duration = Duration::from_millis(1);
const TICK: Duration = <Tanks as Game>::TICK;
const ONE_WAY: Duration = Duration::from_millis(75);
const SEEDS: std::ops::RangeInclusive<u64> = 1..=4;
const SHOOTER: u32 = 1;
const TARGET: u32 = 2;
/// Downwards.
const DOWN: i32 = rules::HEADINGS / 4;
/// The shooter looks left through the gap between two walls, and sees a target at `LANE` from 410 to 590.
const STAND: (f64, f64) = (600.0, 500.0);
const LANE: f64 = 200.0;

#[cfg(feature = "typescript")]
#[test]
fn the_page_has_the_types_of_the_game() {
    rtcade::typescript::check::<Tanks>("examples/tanks/page/types.ts");
}

/// Starts a script beside this file, which is spoken with over its stdin and stdout.
fn node(script: &str) -> Child {
    let mut process = Process::new("node");
    process.arg(format!("{}/examples/tanks/tests/{script}", env!("CARGO_MANIFEST_DIR")));
    let started = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    started.unwrap_or_else(|error| panic!("can't run node ({error}): install Node 20 or newer (https://nodejs.org)"))
}

/// What of a state its player looks at.
#[derive(Deserialize)]
struct Seen {
    tanks: BTreeMap<u32, SeenTank>,
}

#[derive(Deserialize)]
struct SeenTank {
    body: Place,
}

#[derive(Deserialize)]
struct Place {
    y: f64,
}

/// A shooter who stands, and a target that drives down the lane, with 150 ms of round trip, and no bots.
struct Duel {
    sim: Simulation<Tanks>,
    shooter: ClientId,
    target: ClientId,
}

impl Duel {
    fn new(seed: u64, y: f64) -> Duel {
        let at = |x, y| Body { x, y, hull: DOWN, turret: DOWN, speed: 0.0, reload: 0 };
        let mut sim = Simulation::new(seed, move |room| {
            let starts = vec![at(LANE, y), at(STAND.0, STAND.1)];
            Ok(Tanks { bots: BTreeMap::new(), starts, ..Tanks::new(room) })
        });
        sim.set_paths(|| Path::new(ONE_WAY).with(&Node::Jitter(10 * MS)));
        let shooter = sim.join("duel", "shooter");
        sim.run(1_000 * MS);
        let target = sim.join("duel", "target");
        sim.run(2_000 * MS);
        assert!(sim[shooter].client.is_open() && sim[target].client.is_open(), "seed {seed}");
        Duel { sim, shooter, target }
    }

    fn truth(&self) -> &Tanks {
        self.sim.game("duel").unwrap()
    }

    fn target_y(&self) -> f64 {
        self.truth().tanks[&TARGET].body.y
    }

    fn tick(&mut self) {
        self.sim.send(self.target, &Input { drive: 1, ..Input::default() });
        self.sim.run(TICK);
    }

    fn drive_past(&mut self, y: f64) {
        for _ in 0..200 {
            if self.target_y() >= y {
                return;
            }
            self.tick();
        }
        panic!("the target stands at {}", self.target_y());
    }

    /// The tick and the height of the target that the shooter's page shows, which is 100 ms behind its newest state.
    fn seen(&self) -> (u32, f64) {
        let states = self.sim[self.shooter].states::<Seen>();
        let (tick, state) = &states[states.len() - 4];
        (*tick, state.tanks[&TARGET].body.y)
    }

    /// Whether a shot at that height of the lane hits, fired by a player who claims to have seen that tick. The target
    /// drives on.
    fn hits(&mut self, y: f64, seen: f64) -> bool {
        let aim = bots::heading(self.truth(), (LANE - STAND.0, y - STAND.1));
        let armor = self.truth().tanks[&TARGET].armor;
        let shooter = self.shooter;
        self.sim[shooter].client.set_render_tick(Some(seen));
        self.sim.send(shooter, &Input { aim, fire: true, ..Input::default() });
        (0..15).for_each(|_| self.tick());
        assert!(self.truth().tanks[&SHOOTER].shot > 0, "it was fired");
        self.truth().tanks[&TARGET].armor < armor
    }
}

#[test]
fn a_hit_that_the_shooter_saw_at_150_ms_counts() {
    for seed in SEEDS {
        let aim = || {
            let mut duel = Duel::new(seed, 120.0);
            duel.drive_past(520.0);
            let (tick, y) = duel.seen();
            (duel, f64::from(tick), y)
        };
        let (mut duel, tick, y) = aim();
        assert!(duel.hits(y, tick), "seed {seed}: seen at {y}");
        let (mut duel, tick, y) = aim();
        assert!(!duel.hits(y, tick + 1_000.0), "seed {seed}: by the present, the shot at {y} passes behind the target");
    }
}

#[test]
fn a_hit_counts_although_the_target_has_reached_cover_since() {
    for seed in SEEDS {
        let mut duel = Duel::new(seed, 120.0);
        duel.drive_past(605.0);
        let (tick, y) = duel.seen();
        assert!(y < 590.0, "seed {seed}: {y} is in sight");
        assert!(duel.hits(y, tick.into()), "seed {seed}: seen at {y}");
    }
}

#[test]
fn a_target_behind_cover_at_the_tick_that_was_seen_is_not_hit() {
    for seed in SEEDS {
        let mut duel = Duel::new(seed, 120.0);
        duel.drive_past(415.0);
        let (tick, y) = duel.seen();
        assert!(y < 390.0, "seed {seed}: {y} is behind the wall");
        let mut other = Duel::new(seed, 120.0);
        other.drive_past(415.0);
        assert!(!duel.hits(y, tick.into()), "seed {seed}: the wall stops it");
        assert!(!other.hits(450.0, tick.into()), "seed {seed}: where it is by now, it was not when the shooter saw it");
    }
}

#[test]
fn nobody_shoots_further_into_the_past_than_the_limit() {
    for seed in SEEDS {
        for (ago, is_hit) in [(0.7, true), (2.0, false)] {
            let mut duel = Duel::new(seed, 470.0);
            let since = duel.sim[duel.shooter].states::<Seen>().last().unwrap().0;
            let ticks = ago / TICK.as_secs_f64();
            while f64::from(duel.sim[duel.shooter].states::<Seen>().last().unwrap().0) < f64::from(since) + ticks {
                duel.tick();
            }
            let hits = duel.hits(470.0, since.into());
            assert_eq!(hits, is_hit, "seed {seed}: a claim of {ago} s");
            let clamped = duel.sim.server.counters().clamped_seen;
            assert_eq!(clamped > 0, !is_hit, "seed {seed}: a claim of {ago} s");
        }
    }
}

#[test]
fn bots_play_and_nothing_overlaps() {
    let mut sim = Simulation::new(7, |room| Ok(Tanks::new(room)));
    let player = sim.join("bots", "one");
    let mut shots = 0;
    sim.run_every(TICK, 60_000 * MS, |sim| {
        let Some(game) = sim.game("bots") else { return };
        shots += game.alive().filter(|(_, body)| body.reload == game.arena.reload).count();
        for (id, body) in game.alive() {
            for wall in &game.arena.walls {
                let (dx, dy) =
                    (body.x - body.x.clamp(wall.left, wall.right), body.y - body.y.clamp(wall.top, wall.bottom));
                assert!(dx * dx + dy * dy > 20.0 * 20.0, "tank {id} is in a wall");
            }
        }
        sim.send(player, &Input::default());
    });
    let game = sim.game("bots").unwrap();
    let kills: u32 = game.tanks.values().map(|tank| tank.kills).sum();
    assert!(shots > 20 && kills > 0, "{shots} shots, {kills} kills");
    assert!(sim[player].states::<Seen>().len() > 1_500);
}

#[test]
fn directions_are_of_length_one_and_in_order() {
    let arena = Arena::new();
    for heading in 0..rules::HEADINGS {
        let ((x, y), next) = (arena.direction(heading), arena.direction(heading + 1));
        assert!((x * x + y * y - 1.0).abs() < 1e-15);
        assert!((x * next.1 - y * next.0 - (std::f64::consts::TAU / 512.0).sin()).abs() < 1e-12, "{heading}");
    }
}
