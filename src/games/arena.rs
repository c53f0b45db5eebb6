//! The demo game. Every player is a disc in an arena. A gem is worth one point, the star five; dashing into another
//! disc steals points from it. The player with the most points wears the crown and wins the round.
//!
//! All of it is integer arithmetic, so that a recording replays identically on every machine. Lengths on the wire are
//! in units (the arena has 16,000 × 10,000), speeds in units per second; positions are kept in thousandths of a unit,
//! so that speed times milliseconds is a distance. The state consists of tuple structs: they are arrays on the wire and
//! take half the bytes of objects.

use std::cmp::Reverse;
use std::time::Duration;

use rand::RngExt;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::game::{
    Batch, Context, Game, Incoming, Join, Lane, Leave, PlayerId, Random, Refusal, RoomInfo, Target, Tick,
};

/// The maximum number of players of an arena.
pub const MAX_PLAYERS: usize = 64;
/// Bots join until there are this many discs, and leave as players join.
pub const MIN_ACTORS: usize = 4;

const WIDTH: i32 = 16_000;
const HEIGHT: i32 = 10_000;
const RADIUS: i32 = 260;
const GEM_RADIUS: i32 = 130;
const POSITION_SCALE: i32 = 1_000;

const TOP_SPEED: i32 = 3_400;
const DASH_SPEED: i32 = 6_000;
const MAX_SPEED: i32 = 8_000;
/// Loss of speed per second in percent; thrust balances it exactly at the top speed.
const DRAG_PERCENT: i32 = 300;
const WALL_BOUNCE_PERCENT: i32 = 60;
const BUMP_KICK: i64 = 2_400;
const VELOCITY_STEP: i32 = 64;
/// The longest step in ms; longer ones would overshoot the drag.
const MAX_STEP_MS: i32 = 100;

const DASH_MS: i32 = 300;
const COOLDOWN_MS: i32 = 1_200;
const SHIELD_MS: i32 = 1_200;
const SILENCE_MS: i32 = 1_000;
const ROUND_MS: i32 = 90_000;
const PAUSE_MS: i32 = 6_000;

const GEM_VALUE: u16 = 1;
const STAR_VALUE: u16 = 5;
const STOLEN_VALUE: u16 = 3;
const GEMS_PER_ACTOR: usize = 3;
const MAX_GEMS: usize = 48;

const BOT_NAMES: [&str; MIN_ACTORS] = ["Nova", "Pixel", "Comet", "Turbo"];
const BOT_THRUST_PERCENT: i32 = 72;
/// The distance in units at which a bot may dash at another disc; it does so in one of [`BOT_DASH_ODDS`] ticks.
const BOT_REACH: i32 = 2_400;
const BOT_DASH_ODDS: u32 = 24;

/// A player's input: thrust to the right and down, from −100 to 100 percent, and whether to dash.
///
/// JavaScript has one type of number, so fractions and values out of range are converted to the nearest valid value.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Steer(pub f32, pub f32, pub bool);

/// The state: whether a round is running (or the break after one), seconds left of it, who wears the crown, the discs,
/// and the places of the gems. The first gem is the star.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State(pub bool, pub u8, pub Option<ActorId>, pub Vec<Disc>, pub Vec<Place>);

/// A disc: its player or bot, place, velocity to the right and down (in steps of 64 units per second), score, rounds
/// won, and flags: 1 while dashing, 2 while protected from theft, 4 when ready to dash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disc(pub ActorId, pub Place, pub i8, pub i8, pub u16, pub u8, pub u8);

/// A point in the arena, in units from its left and top.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place(pub u16, pub u16);

/// A player's number, or a negative number for a bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActorId(pub i64);

/// The events of the arena.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Effects of this tick. Unreliable: a lost one has no consequences.
    Effects(Vec<Effect>),
    /// A round has ended. Reliable.
    Won {
        /// The winner.
        actor: ActorId,
        /// The winner's name, in case the winner leaves.
        name: String,
        /// The winner's score.
        score: u16,
    },
}

/// A visible and audible effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// A gem was collected: by this disc, its value, and its place.
    Collected(ActorId, u16, Place),
    /// A disc dashed into another: the two discs, the points stolen, and the place.
    Bumped(ActorId, ActorId, u16, Place),
}

/// The welcome: what a page needs to draw the arena and to predict its own disc.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rules {
    width: i32,
    height: i32,
    radius: i32,
    gem_radius: i32,
    top_speed: i32,
    dash_speed: i32,
    max_speed: i32,
    drag_percent: i32,
    wall_bounce_percent: i32,
    velocity_step: i32,
    cooldown_ms: i32,
    round_seconds: i32,
    pause_seconds: i32,
    bot_names: [&'static str; MIN_ACTORS],
}

const RULES: Rules = Rules {
    width: WIDTH,
    height: HEIGHT,
    radius: RADIUS,
    gem_radius: GEM_RADIUS,
    top_speed: TOP_SPEED,
    dash_speed: DASH_SPEED,
    max_speed: MAX_SPEED,
    drag_percent: DRAG_PERCENT,
    wall_bounce_percent: WALL_BOUNCE_PERCENT,
    velocity_step: VELOCITY_STEP,
    cooldown_ms: COOLDOWN_MS,
    round_seconds: ROUND_MS / 1_000,
    pause_seconds: PAUSE_MS / 1_000,
    bot_names: BOT_NAMES,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Play,
    Pause,
}

/// A vector in thousandths of a unit, units per second, or percent of thrust.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Vector {
    x: i32,
    y: i32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Actor {
    id: ActorId,
    position: Vector,
    velocity: Vector,
    steer: Vector,
    wants_dash: bool,
    silent_ms: i32,
    dash_ms: i32,
    cooldown_ms: i32,
    shield_ms: i32,
    score: u16,
    /// The tick in which the score last rose. Among equal scores the earliest wears the crown.
    scored_at: u32,
    wins: u8,
}

/// The game of one arena.
#[derive(Debug, Serialize, Deserialize)]
pub struct Arena {
    step_ms: i32,
    phase: Phase,
    left_ms: i32,
    actors: Vec<Actor>,
    gems: Vec<Vector>,
}

impl Game for Arena {
    type Input = Steer;
    type Command = IgnoredAny;
    type State = State;
    type Event = Event;
    type Welcome = Rules;
    type JoinData = IgnoredAny;

    fn join(&mut self, ctx: &mut Context<Self>, player: PlayerId, _: &Join<IgnoredAny>) -> Result<Rules, Refusal> {
        if ctx.players().len() > MAX_PLAYERS {
            return Err(Refusal::new(format!("This arena takes {MAX_PLAYERS} players. Try another room.")));
        }
        self.actors.push(Actor::new(player.into(), ctx.rng()));
        Ok(RULES)
    }

    fn leave(&mut self, _: &mut Context<Self>, player: PlayerId, _: Leave) {
        self.actors.retain(|actor| actor.id != player.into());
    }

    fn save(&self) -> Option<Vec<u8>> {
        rmp_serde::to_vec(self).ok()
    }

    fn restore(&mut self, _: &mut Context<Self>, saved: &[u8]) -> Result<(), Refusal> {
        *self = rmp_serde::from_slice(saved).map_err(|error| Refusal::new(format!("No arena: {error}.")))?;
        Ok(())
    }

    fn tick(&mut self, ctx: &mut Context<Self>, tick: Tick, batch: Batch<'_, Self>) {
        if ctx.players().len() == 0 {
            return;
        }
        self.fill_with_bots(ctx.rng());
        self.keep_gems(ctx.rng());
        self.advance_round(ctx, tick);
        self.take_inputs(batch);
        self.steer_bots(ctx.rng());
        for actor in &mut self.actors {
            actor.advance(self.step_ms);
        }
        let mut effects = Vec::new();
        self.collide(tick, &mut effects);
        self.collect(tick, ctx.rng(), &mut effects);

        if !effects.is_empty() {
            let _ = ctx.event(Target::All, &Event::Effects(effects), Lane::Unreliable);
        }
        let _ = ctx.state(&self.state());
    }
}

/// Added before truncation to round to the nearest millisecond.
const HALF_MS: Duration = Duration::from_micros(500);

impl Arena {
    /// Returns an arena before its first round.
    #[must_use]
    pub fn new(info: &RoomInfo) -> Arena {
        Arena {
            step_ms: i32::try_from((info.tick + HALF_MS).as_millis()).unwrap_or(MAX_STEP_MS).clamp(1, MAX_STEP_MS),
            phase: Phase::Play,
            left_ms: ROUND_MS,
            actors: Vec::new(),
            gems: Vec::new(),
        }
    }

    fn fill_with_bots(&mut self, rng: &mut Random) {
        while self.actors.len() < MIN_ACTORS {
            let free = (1..).map(|number| ActorId(-number)).find(|&id| self.actors.iter().all(|actor| actor.id != id));
            self.actors.extend(free.map(|id| Actor::new(id, rng)));
        }
        while self.actors.len() > MIN_ACTORS {
            let Some(bot) = self.actors.iter().rposition(Actor::is_bot) else { break };
            self.actors.remove(bot);
        }
    }

    fn keep_gems(&mut self, rng: &mut Random) {
        let wanted = (self.actors.len() * GEMS_PER_ACTOR).min(MAX_GEMS);
        self.gems.truncate(wanted);
        while self.gems.len() < wanted {
            self.gems.push(Vector::scattered(rng, GEM_RADIUS));
        }
    }

    fn advance_round(&mut self, ctx: &mut Context<Self>, tick: Tick) {
        let steps = i32::try_from(tick.missed).unwrap_or(i32::MAX).saturating_add(1);
        self.left_ms = self.left_ms.saturating_sub(self.step_ms.saturating_mul(steps));
        if self.left_ms > 0 {
            return;
        }
        if self.phase == Phase::Pause {
            self.start_round(ctx.rng());
        } else if let Some(winner) = self.leader() {
            winner.wins = winner.wins.saturating_add(1);
            let (actor, score) = (winner.id, winner.score);
            let name = name_of(ctx, actor);
            self.phase = Phase::Pause;
            self.left_ms = PAUSE_MS;
            let _ = ctx.event(Target::All, &Event::Won { actor, name, score }, Lane::Reliable);
        } else {
            self.left_ms = ROUND_MS;
        }
    }

    fn start_round(&mut self, rng: &mut Random) {
        self.phase = Phase::Play;
        self.left_ms = ROUND_MS;
        self.gems.clear();
        self.keep_gems(rng);
        for actor in &mut self.actors {
            actor.score = 0;
        }
    }

    fn leader(&mut self) -> Option<&mut Actor> {
        let richest = self.actors.iter_mut().max_by_key(|actor| (actor.score, Reverse(actor.scored_at)));
        richest.filter(|actor| actor.score > 0)
    }

    fn take_inputs(&mut self, batch: Batch<'_, Self>) {
        for message in batch {
            let Incoming::Input { player, input, .. } = message else { continue };
            let Some(actor) = self.actors.iter_mut().find(|actor| actor.id == player.into()) else { continue };
            actor.steer = Vector::from_steer(&input);
            actor.wants_dash |= input.2;
            actor.silent_ms = 0;
        }
    }

    /// Bots head for the nearest gem, allowing for their drift, and sometimes dash at a disc with points.
    fn steer_bots(&mut self, rng: &mut Random) {
        for bot in 0..self.actors.len() {
            let Actor { position, velocity, .. } = self.actors[bot];
            if !self.actors[bot].is_bot() {
                continue;
            }
            let ahead = position.plus(Vector { x: velocity.x * 300, y: velocity.y * 300 });
            let gem = self.gems.iter().copied().min_by_key(|gem| gem.minus(position).length_squared());
            let victim = self.actors.iter().enumerate().find_map(|(other, actor)| {
                let way = actor.position.minus(position);
                (other != bot && actor.score > 0 && way.is_within(BOT_REACH * POSITION_SCALE)).then_some(way)
            });
            let dash_at = victim.filter(|_| rng.random_ratio(1, BOT_DASH_ODDS));
            let goal = dash_at.or_else(|| gem.map(|gem| gem.minus(ahead))).unwrap_or_default();
            let actor = &mut self.actors[bot];
            actor.steer = goal.with_length(BOT_THRUST_PERCENT);
            actor.wants_dash = dash_at.is_some();
            actor.silent_ms = 0;
        }
    }

    fn collide(&mut self, tick: Tick, effects: &mut Vec<Effect>) {
        for second in 1..self.actors.len() {
            let (before, after) = self.actors.split_at_mut(second);
            let b = &mut after[0];
            for a in before {
                let Some(normal) = push_apart(a, b) else { continue };
                if self.phase == Phase::Pause || a.is_dashing() == b.is_dashing() {
                    continue;
                }
                let (by, whom, away) = if a.is_dashing() { (&mut *a, &mut *b, 1) } else { (&mut *b, &mut *a, -1) };
                if whom.shield_ms > 0 {
                    continue;
                }
                let stolen = whom.score.min(STOLEN_VALUE);
                whom.score -= stolen;
                whom.shield_ms = SHIELD_MS;
                whom.velocity = whom.velocity.pushed(normal, away * BUMP_KICK).limited(MAX_SPEED);
                by.earn(stolen, tick);
                effects.push(Effect::Bumped(by.id, whom.id, stolen, whom.position.into()));
            }
        }
    }

    fn collect(&mut self, tick: Tick, rng: &mut Random, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Pause {
            return;
        }
        for (index, gem) in self.gems.iter_mut().enumerate() {
            let nearest = self.actors.iter_mut().min_by_key(|actor| actor.position.minus(*gem).length_squared());
            let Some(actor) = nearest else { continue };
            if !actor.position.minus(*gem).is_within((RADIUS + GEM_RADIUS) * POSITION_SCALE) {
                continue;
            }
            let value = if index == 0 { STAR_VALUE } else { GEM_VALUE };
            actor.earn(value, tick);
            effects.push(Effect::Collected(actor.id, value, (*gem).into()));
            *gem = Vector::scattered(rng, GEM_RADIUS);
        }
    }

    fn state(&mut self) -> State {
        let leader = self.leader().map(|actor| actor.id);
        let seconds = u8::try_from((self.left_ms + 999) / 1_000).unwrap_or(u8::MAX);
        let discs = self.actors.iter().map(Actor::disc).collect();
        let gems = self.gems.iter().copied().map(Place::from).collect();
        State(self.phase == Phase::Play, seconds, leader, discs, gems)
    }
}

impl Actor {
    fn new(id: ActorId, rng: &mut Random) -> Actor {
        Actor {
            id,
            position: Vector::scattered(rng, RADIUS),
            velocity: Vector::default(),
            steer: Vector::default(),
            wants_dash: false,
            silent_ms: 0,
            dash_ms: 0,
            cooldown_ms: 0,
            shield_ms: SHIELD_MS,
            score: 0,
            scored_at: 0,
            wins: 0,
        }
    }

    fn is_bot(&self) -> bool {
        self.id.0 < 0
    }

    fn is_dashing(&self) -> bool {
        self.dash_ms > 0
    }

    fn earn(&mut self, points: u16, tick: Tick) {
        if points > 0 {
            self.score = self.score.saturating_add(points);
            self.scored_at = tick.number;
        }
    }

    fn advance(&mut self, step_ms: i32) {
        for timer in [&mut self.dash_ms, &mut self.cooldown_ms, &mut self.shield_ms] {
            *timer = (*timer - step_ms).max(0);
        }
        // A player whose inputs stop drifts to a halt instead of into a wall.
        self.silent_ms = (self.silent_ms + step_ms).min(SILENCE_MS);
        if self.silent_ms == SILENCE_MS {
            self.steer = Vector::default();
        }
        if std::mem::take(&mut self.wants_dash) && self.cooldown_ms == 0 {
            let heading = if self.steer == Vector::default() { self.velocity } else { self.steer };
            let Vector { x, y } = heading.with_length(DASH_SPEED);
            self.velocity = Vector { x: self.velocity.x + x, y: self.velocity.y + y };
            self.dash_ms = DASH_MS;
            self.cooldown_ms = COOLDOWN_MS;
        }
        let drag_per_step = DRAG_PERCENT * step_ms;
        let along = |velocity: i32, steer: i32| {
            velocity + (steer * TOP_SPEED / 100 * drag_per_step - velocity * drag_per_step) / 100_000
        };
        self.velocity = Vector { x: along(self.velocity.x, self.steer.x), y: along(self.velocity.y, self.steer.y) }
            .limited(MAX_SPEED);
        self.position.x += self.velocity.x * step_ms;
        self.position.y += self.velocity.y * step_ms;
        bounce(&mut self.position.x, &mut self.velocity.x, WIDTH);
        bounce(&mut self.position.y, &mut self.velocity.y, HEIGHT);
    }

    fn disc(&self) -> Disc {
        let Vector { x, y } = self.velocity;
        let flags =
            u8::from(self.is_dashing()) | u8::from(self.shield_ms > 0) << 1 | u8::from(self.cooldown_ms == 0) << 2;
        Disc(self.id, self.position.into(), velocity_steps(x), velocity_steps(y), self.score, self.wins, flags)
    }
}

impl Vector {
    fn scattered(rng: &mut Random, margin: i32) -> Vector {
        Vector {
            x: rng.random_range(margin..=WIDTH - margin) * POSITION_SCALE,
            y: rng.random_range(margin..=HEIGHT - margin) * POSITION_SCALE,
        }
    }

    /// Converts to percent of thrust, at most 100 in any direction; NaN becomes 0.
    #[expect(clippy::cast_possible_truncation, reason = "clamped, and casts take NaN for 0")]
    fn from_steer(&Steer(x, y, _): &Steer) -> Vector {
        Vector { x: x.clamp(-100.0, 100.0) as i32, y: y.clamp(-100.0, 100.0) as i32 }.limited(100)
    }

    fn plus(self, other: Vector) -> Vector {
        Vector { x: self.x + other.x, y: self.y + other.y }
    }

    fn minus(self, other: Vector) -> Vector {
        Vector { x: self.x - other.x, y: self.y - other.y }
    }

    fn length_squared(self) -> i64 {
        let (x, y) = (i64::from(self.x), i64::from(self.y));
        x * x + y * y
    }

    fn is_within(self, distance: i32) -> bool {
        self.length_squared() <= i64::from(distance).pow(2)
    }

    /// Returns the same direction with another length; zero stays zero.
    fn with_length(self, length: i32) -> Vector {
        let squared = self.length_squared();
        let floor = squared.isqrt();
        // Rounded up, so that the result never exceeds `length`.
        let own = (floor + i64::from(floor * floor < squared)).max(1);
        Vector { x: scale(self.x, length.into(), own), y: scale(self.y, length.into(), own) }
    }

    fn limited(self, length: i32) -> Vector {
        if self.is_within(length) { self } else { self.with_length(length) }
    }

    /// Adds `amount` along `normal`, which has length 1000.
    fn pushed(self, normal: Vector, amount: i64) -> Vector {
        Vector { x: self.x + scale(normal.x, amount, 1_000), y: self.y + scale(normal.y, amount, 1_000) }
    }
}

impl From<Vector> for Place {
    fn from(position: Vector) -> Place {
        let units = |thousandths: i32| u16::try_from(thousandths / POSITION_SCALE).unwrap_or(0);
        Place(units(position.x), units(position.y))
    }
}

impl From<PlayerId> for ActorId {
    fn from(player: PlayerId) -> ActorId {
        ActorId(player.0.into())
    }
}

fn scale(value: i32, by: i64, over: i64) -> i32 {
    i32::try_from(i64::from(value) * by / over).unwrap_or(0)
}

fn velocity_steps(velocity: i32) -> i8 {
    i8::try_from(velocity / VELOCITY_STEP).unwrap_or(if velocity < 0 { i8::MIN } else { i8::MAX })
}

fn bounce(position: &mut i32, velocity: &mut i32, size: i32) {
    let inside = (*position).clamp(RADIUS * POSITION_SCALE, (size - RADIUS) * POSITION_SCALE);
    if inside != *position {
        *position = inside;
        *velocity = -*velocity * WALL_BOUNCE_PERCENT / 100;
    }
}

/// Separates two overlapping discs and lets them bounce. Returns the direction from `a` to `b` with length 1000.
fn push_apart(a: &mut Actor, b: &mut Actor) -> Option<Vector> {
    let apart = b.position.minus(a.position);
    let reach = 2 * RADIUS * POSITION_SCALE;
    if !apart.is_within(reach) {
        return None;
    }
    let normal = if apart == Vector::default() { Vector { x: 1_000, y: 0 } } else { apart.with_length(1_000) };
    let overlap = (i64::from(reach) - apart.length_squared().isqrt()) / 2;
    a.position = a.position.pushed(normal, -overlap);
    b.position = b.position.pushed(normal, overlap);
    let approach = a.velocity.minus(b.velocity);
    let closing = (i64::from(approach.x) * i64::from(normal.x) + i64::from(approach.y) * i64::from(normal.y)) / 1_000;
    if closing > 0 {
        a.velocity = a.velocity.pushed(normal, -closing);
        b.velocity = b.velocity.pushed(normal, closing);
    }
    for actor in [a, b] {
        actor.velocity = actor.velocity.limited(MAX_SPEED);
        bounce(&mut actor.position.x, &mut actor.velocity.x, WIDTH);
        bounce(&mut actor.position.y, &mut actor.velocity.y, HEIGHT);
    }
    Some(normal)
}

fn name_of(ctx: &Context<Arena>, actor: ActorId) -> String {
    match u32::try_from(actor.0) {
        Ok(player) => ctx.player(PlayerId(player)).map(|player| player.name.clone()).unwrap_or_default(),
        Err(_) => bot_name(actor).to_owned(),
    }
}

fn bot_name(bot: ActorId) -> &'static str {
    let index = usize::try_from(-bot.0 - 1).unwrap_or(0);
    BOT_NAMES[index % BOT_NAMES.len()]
}

#[cfg(test)]
mod tests;
