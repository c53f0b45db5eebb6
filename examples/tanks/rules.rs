//! What moves a tank, the same as `step` in `page/rules.js`, bit for bit: nothing but `+ - * /`, `sqrt`, and integers.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// Headings of a full turn.
pub(crate) const HEADINGS: i32 = 512;

/// What a player holds in one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
pub(crate) struct Input {
    /// -1 for backwards, 0, or 1.
    pub(crate) drive: i8,
    /// -1 for left, 0, or 1.
    pub(crate) turn: i8,
    /// The heading of the turret, 0 to 511.
    pub(crate) aim: i32,
    pub(crate) fire: bool,
}

/// What the own inputs move, and nothing else but the touch of another tank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, TS)]
pub(crate) struct Body {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// The heading of the hull. It counts on beyond a full turn, so that it can be blended.
    pub(crate) hull: i32,
    pub(crate) turret: i32,
    /// Units per second.
    pub(crate) speed: f64,
    /// Ticks until the gun is loaded.
    pub(crate) reload: i32,
}

/// A wall from one corner to the other.
#[derive(Clone, Copy, Debug, Serialize, TS)]
pub(crate) struct Wall {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

/// What both ends know from the beginning: the welcome.
#[derive(Clone, Debug, Serialize, TS)]
pub(crate) struct Arena {
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) walls: Vec<Wall>,
    /// The direction of each heading. No two browsers have to agree on a sine.
    pub(crate) directions: Vec<(f64, f64)>,
    /// The radius of a tank.
    pub(crate) radius: f64,
    /// Units per second forwards.
    pub(crate) speed: f64,
    /// Units per second and second.
    pub(crate) acceleration: f64,
    /// Headings per tick.
    pub(crate) turn: i32,
    /// Ticks between two shots.
    pub(crate) reload: i32,
    /// Hits that a tank takes.
    pub(crate) armor: i32,
}

impl Arena {
    pub(crate) fn new() -> Arena {
        let wall = |(left, top, width, height)| Wall { left, top, right: left + width, bottom: top + height };
        let walls = [
            (340.0, 180.0, 60.0, 260.0),
            (340.0, 560.0, 60.0, 260.0),
            (1200.0, 180.0, 60.0, 260.0),
            (1200.0, 560.0, 60.0, 260.0),
            (560.0, 240.0, 200.0, 56.0),
            (840.0, 704.0, 200.0, 56.0),
            (740.0, 440.0, 120.0, 120.0),
            (560.0, 704.0, 90.0, 56.0),
            (950.0, 240.0, 90.0, 56.0),
        ];
        Arena {
            width: 1_600.0,
            height: 1_000.0,
            walls: walls.into_iter().map(wall).collect(),
            directions: directions(),
            radius: 26.0,
            speed: 210.0,
            acceleration: 620.0,
            turn: 8,
            reload: 18,
            armor: 4,
        }
    }

    pub(crate) fn direction(&self, heading: i32) -> (f64, f64) {
        self.directions[heading.rem_euclid(HEADINGS).unsigned_abs() as usize]
    }

    /// Applies one input. Returns whether the tank has fired.
    pub(crate) fn step(&self, tank: &mut Body, input: Input, dt: f64) -> bool {
        tank.hull = tank.hull.wrapping_add(i32::from(input.turn.signum()) * self.turn);
        let turned = (input.aim.rem_euclid(HEADINGS) - tank.turret.rem_euclid(HEADINGS)).rem_euclid(HEADINGS);
        tank.turret = tank.turret.wrapping_add(if turned < HEADINGS / 2 { turned } else { turned - HEADINGS });
        let drive = f64::from(input.drive.signum());
        let wanted = if drive < 0.0 { drive * self.speed / 2.0 } else { drive * self.speed };
        let most = self.acceleration * dt;
        tank.speed += (wanted - tank.speed).clamp(-most, most);
        let (dx, dy) = self.direction(tank.hull);
        tank.x += dx * tank.speed * dt;
        tank.y += dy * tank.speed * dt;
        self.keep_out_of_walls(tank);
        tank.reload = (tank.reload - 1).max(0);
        let fires = input.fire && tank.reload == 0;
        if fires {
            tank.reload = self.reload;
        }
        fires
    }

    pub(crate) fn keep_out_of_walls(&self, tank: &mut Body) {
        let r = self.radius;
        for wall in &self.walls {
            let (dx, dy) = (tank.x - tank.x.clamp(wall.left, wall.right), tank.y - tank.y.clamp(wall.top, wall.bottom));
            let square = dx * dx + dy * dy;
            if square > 0.0 && square < r * r {
                let push = r / square.sqrt() - 1.0;
                tank.x += dx * push;
                tank.y += dy * push;
            }
        }
        tank.x = tank.x.clamp(r, self.width - r);
        tank.y = tank.y.clamp(r, self.height - r);
    }

    /// How far a ray from `from` goes until it meets a wall or the edge of the arena.
    pub(crate) fn sight(&self, from: (f64, f64), direction: (f64, f64)) -> f64 {
        let edge = |at: f64, d: f64, size: f64| match d {
            0.0 => f64::MAX,
            _ if d > 0.0 => (size - at) / d,
            _ => -at / d,
        };
        let edges = edge(from.0, direction.0, self.width).min(edge(from.1, direction.1, self.height));
        self.walls.iter().filter_map(|wall| wall.meets(from, direction)).fold(edges, f64::min)
    }

    /// How far a ray goes until it meets a tank at `at`.
    pub(crate) fn meets_tank(&self, at: (f64, f64), from: (f64, f64), direction: (f64, f64)) -> Option<f64> {
        let (x, y) = (at.0 - from.0, at.1 - from.1);
        let along = x * direction.0 + y * direction.1;
        let aside = x * direction.1 - y * direction.0;
        let half = (self.radius * self.radius - aside * aside).sqrt();
        (along > 0.0 && half >= 0.0).then_some(along - half)
    }
}

impl Wall {
    fn meets(&self, from: (f64, f64), direction: (f64, f64)) -> Option<f64> {
        let (mut near, mut far) = (0.0_f64, f64::MAX);
        for (at, d, low, high) in
            [(from.0, direction.0, self.left, self.right), (from.1, direction.1, self.top, self.bottom)]
        {
            if d == 0.0 {
                if at < low || at > high {
                    return None;
                }
                continue;
            }
            let (one, two) = ((low - at) / d, (high - at) / d);
            near = near.max(one.min(two));
            far = far.min(one.max(two));
        }
        (near <= far).then_some(near)
    }
}

/// The directions of all headings, each halfway between two that are known: equal on every machine.
fn directions() -> Vec<(f64, f64)> {
    let mut known = vec![(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)];
    while known.len() < HEADINGS.unsigned_abs() as usize {
        let next = known.iter().cycle().skip(1);
        let halfway = known.iter().zip(next).flat_map(|(&one, &two): (&(f64, f64), &(f64, f64))| {
            let (x, y) = (one.0 + two.0, one.1 + two.1);
            let length = (x * x + y * y).sqrt();
            [one, (x / length, y / length)]
        });
        known = halfway.collect();
    }
    known
}
