//! Tanks: an arena in the browser. The own tank is predicted, the others are interpolated, and shots are judged by what
//! the shooter saw.

use std::collections::BTreeMap;

use rtcade::game::{
    Batch, Context, Game, History, Incoming, Join, Lane, Leave, PlayerId, Refusal, RoomInfo, Target, Tick,
};
use rtcade::rand::RngExt;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

mod bots;
mod rules;

use bots::Bot;
use rules::{Arena, Body, Input};

/// Bots have the numbers from here on.
const FIRST_BOT: u32 = 1_000_000;
/// Ticks between two chat messages of a player.
const CHAT_PAUSE: u32 = 10;
const CHAT_CHARS: usize = 120;
/// Ticks until a destroyed tank is back.
const RESPAWN: u32 = 60;
/// Ticks of which the positions are kept: more than `limits::SEEN_LIMIT`.
const HISTORY: usize = 40;

#[derive(Debug, Serialize, Deserialize, TS)]
pub(crate) enum Command {
    Say(String),
}

#[derive(Clone, Debug, Serialize, TS)]
pub(crate) struct Tank {
    body: Body,
    name: String,
    /// Hits that it can still take; 0 while it is destroyed.
    armor: i32,
    /// The number of the input that has fired its last shot.
    shot: u32,
    kills: u32,
    #[serde(skip)]
    back_at: u32,
    #[serde(skip)]
    said_at: Option<u32>,
}

#[derive(Debug, Serialize, TS)]
pub(crate) struct State {
    /// By player.
    tanks: BTreeMap<u32, Tank>,
}

#[derive(Debug, Serialize, TS)]
pub(crate) enum Event {
    Shot { by: u32, from: (f64, f64), to: (f64, f64), hit: Option<u32> },
    Destroyed { by: u32, tank: u32 },
    Said { by: u32, text: String },
}

pub(crate) struct Tanks {
    arena: Arena,
    dt: f64,
    tanks: BTreeMap<u32, Tank>,
    bots: BTreeMap<u32, Bot>,
    /// Of the next tanks that appear; further ones appear far from the others.
    starts: Vec<Body>,
    /// Where each tank was that could be hit.
    history: History<BTreeMap<u32, (f64, f64)>>,
}

impl Tanks {
    fn new(room: &RoomInfo) -> Tanks {
        let bots = room.data.get("bots").and_then(serde_json::Value::as_u64).unwrap_or(3).min(8);
        let bots = (FIRST_BOT..).take(usize::try_from(bots).unwrap_or(0)).map(|id| (id, Bot::default())).collect();
        Tanks {
            arena: Arena::new(),
            dt: room.tick.as_secs_f64(),
            tanks: BTreeMap::new(),
            bots,
            starts: Vec::new(),
            history: History::new(HISTORY),
        }
    }

    /// A place that is far from the tanks that are there.
    fn spawn(&mut self, ctx: &mut Context<Self>) -> Body {
        if let Some(start) = self.starts.pop() {
            return start;
        }
        let away = |&(x, y): &(f64, f64)| {
            let squares = self.alive().map(|(_, body)| (body.x - x) * (body.x - x) + (body.y - y) * (body.y - y));
            squares.fold(f64::MAX, f64::min)
        };
        let places: Vec<_> = (0..12)
            .map(|_| {
                let (x, y) = (ctx.rng().random_range(60.0..1_540.0), ctx.rng().random_range(60.0..940.0));
                let mut body = Body { x, y, hull: 0, turret: 0, speed: 0.0, reload: 0 };
                self.arena.keep_out_of_walls(&mut body);
                (body.x, body.y)
            })
            .filter(|&(x, y)| {
                !self.arena.walls.iter().any(|w| w.left <= x && x <= w.right && w.top <= y && y <= w.bottom)
            })
            .collect();
        let (x, y) = places.into_iter().max_by(|a, b| away(a).total_cmp(&away(b))).unwrap_or((100.0, 500.0));
        let hull = if x < self.arena.width / 2.0 { 0 } else { rules::HEADINGS / 2 };
        Body { x, y, hull, turret: hull, speed: 0.0, reload: 0 }
    }

    fn alive(&self) -> impl Iterator<Item = (u32, &Body)> {
        self.tanks.iter().filter(|(_, tank)| tank.armor > 0).map(|(&id, tank)| (id, &tank.body))
    }

    fn add(&mut self, ctx: &mut Context<Self>, id: u32, name: String) {
        let body = self.spawn(ctx);
        let armor = self.arena.armor;
        self.tanks.insert(id, Tank { body, name, armor, shot: 0, kills: 0, back_at: 0, said_at: None });
    }

    /// Applies an input of a tank, and judges its shot by the tick that its driver saw.
    fn drive(&mut self, ctx: &mut Context<Self>, id: u32, number: u32, seen: f64, input: Input) {
        let Some(tank) = self.tanks.get_mut(&id).filter(|tank| tank.armor > 0) else { return };
        if !self.arena.step(&mut tank.body, input, self.dt) {
            return;
        }
        tank.shot = number;
        let from = (tank.body.x, tank.body.y);
        let direction = self.arena.direction(tank.body.turret);
        let (reach, hit) = self.judge(id, from, direction, seen);
        let to = (from.0 + direction.0 * reach, from.1 + direction.1 * reach);
        let _ = ctx.event(Target::All, &Event::Shot { by: id, from, to, hit }, Lane::Unreliable);
        if let Some(hit) = hit {
            self.damage(ctx, id, hit);
        }
    }

    /// Returns how far a shot goes, and which tank it hits: the walls don't move, and the others are where the shooter
    /// saw them.
    fn judge(&self, shooter: u32, from: (f64, f64), direction: (f64, f64), seen: f64) -> (f64, Option<u32>) {
        let mut reach = self.arena.sight(from, direction);
        let mut hit = None;
        for (id, at) in self.history.at(seen).unwrap_or_default() {
            let met = self.arena.meets_tank(at, from, direction);
            if let Some(distance) = met.filter(|&distance| id != shooter && distance < reach) {
                (reach, hit) = (distance, Some(id));
            }
        }
        (reach, hit)
    }

    fn damage(&mut self, ctx: &mut Context<Self>, by: u32, id: u32) {
        let Some(tank) = self.tanks.get_mut(&id).filter(|tank| tank.armor > 0) else { return };
        tank.armor -= 1;
        if tank.armor > 0 {
            return;
        }
        tank.back_at = ctx.tick() + RESPAWN;
        if let Some(winner) = self.tanks.get_mut(&by) {
            winner.kills += 1;
        }
        let _ = ctx.event(Target::All, &Event::Destroyed { by, tank: id }, Lane::Reliable);
    }

    /// Pushes tanks apart that touch: the one thing of a tank that its own inputs don't tell.
    fn part(&mut self) {
        let ids: Vec<_> = self.alive().map(|(id, _)| id).collect();
        for (n, one) in ids.iter().enumerate() {
            for two in &ids[n + 1..] {
                let (a, b) = (self.tanks[one].body, self.tanks[two].body);
                let (dx, dy) = (b.x - a.x, b.y - a.y);
                let square = dx * dx + dy * dy;
                let apart = 2.0 * self.arena.radius;
                if square == 0.0 || square >= apart * apart {
                    continue;
                }
                let push = (apart / square.sqrt() - 1.0) / 2.0;
                for (id, sign) in [(one, -1.0), (two, 1.0)] {
                    if let Some(tank) = self.tanks.get_mut(id) {
                        tank.body.x += sign * dx * push;
                        tank.body.y += sign * dy * push;
                        self.arena.keep_out_of_walls(&mut tank.body);
                    }
                }
            }
        }
    }

    fn say(&mut self, ctx: &mut Context<Self>, by: u32, text: &str) {
        let now = ctx.tick();
        let Some(tank) = self.tanks.get_mut(&by) else { return };
        let text: String = text.trim().chars().filter(|char| !char.is_control()).take(CHAT_CHARS).collect();
        if text.is_empty() || tank.said_at.is_some_and(|at| now < at + CHAT_PAUSE) {
            return;
        }
        tank.said_at = Some(now);
        let _ = ctx.event(Target::All, &Event::Said { by, text }, Lane::Reliable);
    }
}

impl Game for Tanks {
    type Input = Input;
    type Command = Command;
    type State = State;
    type Event = Event;
    type Welcome = Arena;
    type JoinData = ();

    /// A page sends one input per tick; those that come late come together.
    const INPUTS_PER_TICK: usize = 2;

    fn join(&mut self, ctx: &mut Context<Self>, player: PlayerId, join: &Join<()>) -> Result<Arena, Refusal> {
        self.add(ctx, player.0, join.name.clone());
        Ok(self.arena.clone())
    }

    fn leave(&mut self, _: &mut Context<Self>, player: PlayerId, _: Leave) {
        self.tanks.remove(&player.0);
    }

    fn tick(&mut self, ctx: &mut Context<Self>, tick: Tick, batch: Batch<'_, Self>) {
        for id in self.bots.keys().copied().collect::<Vec<_>>() {
            if !self.tanks.contains_key(&id) {
                self.add(ctx, id, format!("Bot {}", id - FIRST_BOT + 1));
            }
        }
        for message in batch {
            match message {
                Incoming::Input { player, number, seen, input, .. } => self.drive(ctx, player.0, number, seen, input),
                Incoming::Command { player, command: Command::Say(text), .. } => self.say(ctx, player.0, &text),
                _ => {}
            }
        }
        for (id, mut bot) in std::mem::take(&mut self.bots) {
            let input = bot.decide(self, id, ctx.rng());
            self.drive(ctx, id, tick.number, f64::from(tick.number), input);
            self.bots.insert(id, bot);
        }
        self.part();
        let due = self.tanks.iter().filter(|(_, tank)| tank.armor <= 0 && tank.back_at <= tick.number);
        for id in due.map(|(&id, _)| id).collect::<Vec<_>>() {
            let body = self.spawn(ctx);
            if let Some(tank) = self.tanks.get_mut(&id) {
                (tank.body, tank.armor) = (body, self.arena.armor);
            }
        }
        self.history.record(tick.number, self.alive().map(|(id, body)| (id, (body.x, body.y))).collect());
        let _ = ctx.state(&State { tanks: self.tanks.clone() }); // a state above 16 KiB is not sent, but counted
    }
}

fn main() -> rtcade::ExitCode {
    rtcade::run(|room| Ok(Tanks::new(room)))
}

#[cfg(test)]
mod tests;
