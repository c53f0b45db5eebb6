//! Tanks that drive themselves.

use rtcade::game::Random;
use rtcade::rand::RngExt;

use crate::Tanks;
use crate::rules::{Body, HEADINGS, Input};

/// Ticks between two looks around.
const THOUGHT: u32 = 12;

#[derive(Debug, Default)]
pub(crate) struct Bot {
    until: u32,
    goal: (f64, f64),
    input: Input,
}

impl Bot {
    /// Drives to a place, and fires at the nearest tank in sight, a little beside it.
    pub(crate) fn decide(&mut self, game: &Tanks, id: u32, random: &mut Random) -> Input {
        let Some(own) = game.alive().find(|&(other, _)| other == id).map(|(_, body)| *body) else {
            return Input::default();
        };
        let (dx, dy) = (self.goal.0 - own.x, self.goal.1 - own.y);
        if self.goal == (0.0, 0.0) || dx * dx + dy * dy < 80.0 * 80.0 || random.random_ratio(1, 150) {
            self.goal = (random.random_range(80.0..1_520.0), random.random_range(80.0..920.0));
        }
        let off = turn(own.hull, heading(game, (dx, dy)));
        self.input.turn = if off > 10 { 1 } else { -i8::from(off < -10) };
        self.input.drive = i8::from(off.abs() < 110);
        self.input.fire = false;
        if self.until > 0 {
            self.until -= 1;
            return self.input;
        }
        self.until = THOUGHT;
        if let Some((x, y)) = target(game, id, &own) {
            self.input.aim = (heading(game, (x - own.x, y - own.y)) + random.random_range(-7..=7)).rem_euclid(HEADINGS);
            self.input.fire = random.random_ratio(1, 3);
        } else {
            self.input.aim = own.hull.rem_euclid(HEADINGS);
        }
        self.input
    }
}

fn target(game: &Tanks, id: u32, own: &Body) -> Option<(f64, f64)> {
    let others = game.alive().filter(|&(other, _)| other != id).filter_map(|(_, body)| {
        let (dx, dy) = (body.x - own.x, body.y - own.y);
        let distance = (dx * dx + dy * dy).sqrt();
        let is_in_sight = game.arena.sight((own.x, own.y), (dx / distance, dy / distance)) > distance;
        (distance > 0.0 && is_in_sight).then_some((distance, (body.x, body.y)))
    });
    others.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, at)| at)
}

/// The heading that comes nearest to a direction.
pub(crate) fn heading(game: &Tanks, (x, y): (f64, f64)) -> i32 {
    let along = |heading: &i32| {
        let (dx, dy) = game.arena.direction(*heading);
        dx * x + dy * y
    };
    (0..HEADINGS).max_by(|a, b| along(a).total_cmp(&along(b))).unwrap_or_default()
}

/// How far to turn from a heading to another, the short way around.
fn turn(from: i32, to: i32) -> i32 {
    let turned = (to - from).rem_euclid(HEADINGS);
    if turned < HEADINGS / 2 { turned } else { turned - HEADINGS }
}
