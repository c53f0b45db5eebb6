//! What a callback of a script sees of its room, and what it orders. The room carries the orders out when the callback
//! has returned.

use std::cell::RefCell;
use std::rc::Rc;

use rand::{Rng, RngExt};
use rquickjs::function::Opt;
use rquickjs::{Array, Ctx, Function, Object, Value};

use super::value::{Stop, encode};
use crate::game::{Lane, Player, PlayerId, Random, SendError, Target};
use crate::limits;
use crate::log_limit::SCRIPTS;

/// The characters of one line that a script logs.
const LOGGED_CHARS: usize = 1_000;

/// What a callback has ordered.
pub(super) enum Order {
    State(Target, Vec<u8>),
    /// A state for each of these players.
    States(Vec<(PlayerId, Vec<u8>)>),
    Event(Target, Vec<u8>, Lane),
    Kick(PlayerId, String),
    Close(String),
    Rename(PlayerId, String),
    Lock(bool),
    List(bool),
    Title(String),
    FanOutInputs,
    /// A message was too large or not encodable; the script was told.
    Unsent(SendError),
}

/// The desk of one room.
pub(super) struct Desk {
    /// The room's name, for the log.
    pub(super) room: String,
    pub(super) tick: u32,
    pub(super) tick_ms: f64,
    pub(super) players: Vec<Player>,
    pub(super) consumed: Vec<(PlayerId, u32)>,
    pub(super) random: Random,
    pub(super) orders: Vec<Order>,
    pub(super) refusal: Option<String>,
    /// Why the game can't be saved.
    pub(super) unsaved: Option<String>,
    /// Counts the changes of the players.
    players_version: u32,
}

impl Desk {
    pub(super) fn new(room: &str, seed: u64, tick_ms: f64) -> Desk {
        Desk {
            room: room.to_owned(),
            tick: 0,
            tick_ms,
            players: Vec::new(),
            consumed: Vec::new(),
            random: Random::new(seed),
            orders: Vec::new(),
            refusal: None,
            unsaved: None,
            players_version: 0,
        }
    }

    /// A number from 0 to below 1, of 53 bits.
    pub(super) fn random(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 * (0.5_f64).powi(53)
    }

    /// Draws other numbers than the ticks that follow: outside of them the room's generator is out of reach.
    pub(super) fn draw_apart(&mut self, seed: u64) {
        self.random = Random::new(!seed ^ u64::from(self.tick));
    }

    pub(super) fn show<'a>(&mut self, players: impl ExactSizeIterator<Item = &'a Player> + Clone) {
        if players.len() != self.players.len() || !players.clone().eq(&self.players) {
            self.players = players.cloned().collect();
            self.players_version = self.players_version.wrapping_add(1);
        }
    }
}

/// Returns what the prelude calls.
pub(super) fn host<'js>(ctx: &Ctx<'js>, desk: &Rc<RefCell<Desk>>) -> rquickjs::Result<Object<'js>> {
    let host = Object::new(ctx.clone())?;
    macro_rules! function {
        ($name:literal, |$desk:ident $(, $argument:ident: $type:ty)*| $body:expr) => {{
            let shared = Rc::clone(desk);
            let function = move |$($argument: $type),*| {
                let $desk = &mut *shared.borrow_mut();
                $body
            };
            host.set($name, Function::new(ctx.clone(), function)?)?;
        }};
    }
    function!("tick", |desk| desk.tick);
    function!("playersVersion", |desk| desk.players_version);
    function!("tickMs", |desk| desk.tick_ms);
    function!("random", |desk| desk.random());
    function!("randomInt", |desk, low: i32, high: i32| desk.random.random_range(low..=high));
    function!("consumed", |desk, player: u32| {
        desk.consumed.iter().find(|(id, _)| id.0 == player).map_or(0, |(_, number)| *number)
    });
    function!("kick", |desk, player: u32, text: String| desk.orders.push(Order::Kick(PlayerId(player), text)));
    function!("close", |desk, text: String| desk.orders.push(Order::Close(text)));
    function!("rename", |desk, player: u32, name: String| desk.orders.push(Order::Rename(PlayerId(player), name)));
    function!("setLocked", |desk, locked: bool| desk.orders.push(Order::Lock(locked)));
    function!("setListed", |desk, listed: bool| desk.orders.push(Order::List(listed)));
    function!("setTitle", |desk, title: String| desk.orders.push(Order::Title(title)));
    function!("fanOutInputs", |desk| desk.orders.push(Order::FanOutInputs));
    function!("refuse", |desk, text: String| desk.refusal = Some(text));
    function!("unsaved", |desk, why: String| desk.unsaved = Some(why));
    function!("log", |desk, line: String| {
        // A line may quote what players have sent, which must not look like another line.
        let line: String = line.chars().take(LOGGED_CHARS).collect::<String>().replace('\n', "\n    ");
        let line = line.replace(|char: char| char.is_control() && char != '\n', " ");
        log::info!(target: SCRIPTS, "room {}: {line}", desk.room);
    });

    let shared = Rc::clone(desk);
    host.set("players", Function::new(ctx.clone(), move |ctx: Ctx<'js>| players(&ctx, &shared))?)?;
    let shared = Rc::clone(desk);
    let state = move |ctx: Ctx<'js>, value: Value<'js>| {
        let state = encoded(&ctx, &shared, &value, limits::STATE_BYTES)?;
        order(&shared, Order::State(Target::All, state))
    };
    host.set("state", Function::new(ctx.clone(), state)?)?;
    let shared = Rc::clone(desk);
    let state_to = move |ctx: Ctx<'js>, player: u32, value: Value<'js>| {
        let state = encoded(&ctx, &shared, &value, limits::STATE_BYTES)?;
        order(&shared, Order::State(Target::One(PlayerId(player)), state))
    };
    host.set("stateTo", Function::new(ctx.clone(), state_to)?)?;
    let shared = Rc::clone(desk);
    let state_for_each = move |ctx: Ctx<'js>, states: Array<'js>| {
        let mut each = Vec::with_capacity(states.len());
        for pair in states.iter::<Array<'js>>() {
            let pair = pair?;
            let state = encoded(&ctx, &shared, &pair.get(1)?, limits::STATE_BYTES)?;
            each.push((PlayerId(pair.get(0)?), state));
        }
        order(&shared, Order::States(each))
    };
    host.set("stateForEach", Function::new(ctx.clone(), state_for_each)?)?;
    let shared = Rc::clone(desk);
    let event = move |ctx: Ctx<'js>, kind: u32, player: u32, value: Value<'js>, reliable: Opt<bool>| {
        let (lane, most) = match reliable.0 {
            Some(true) => (Lane::Reliable, limits::RELIABLE_EVENT_BYTES),
            _ => (Lane::Unreliable, limits::EVENT_BYTES),
        };
        let target = match kind {
            0 => Target::All,
            1 => Target::Except(PlayerId(player)),
            _ => Target::One(PlayerId(player)),
        };
        let event = encoded(&ctx, &shared, &value, most)?;
        order(&shared, Order::Event(target, event, lane))
    };
    host.set("event", Function::new(ctx.clone(), event)?)?;
    Ok(host)
}

fn order(desk: &RefCell<Desk>, order: Order) -> rquickjs::Result<()> {
    desk.borrow_mut().orders.push(order);
    Ok(())
}

/// Encodes a message. The desk is not borrowed meanwhile, because getters of the value may call the host.
fn encoded<'js>(ctx: &Ctx<'js>, desk: &RefCell<Desk>, value: &Value<'js>, most: usize) -> rquickjs::Result<Vec<u8>> {
    encode(value, most, limits::MSGPACK_DEPTH).map_err(|stop| {
        let why = match &stop {
            Stop::Unencodable(why) => why.to_string(),
            Stop::Thrown(_) => "a getter has thrown".to_owned(),
        };
        desk.borrow_mut().orders.push(Order::Unsent(SendError::Unencodable(why)));
        stop.throw(ctx)
    })
}

/// One row per player, as the prelude reads it.
fn players<'js>(ctx: &Ctx<'js>, desk: &RefCell<Desk>) -> rquickjs::Result<Array<'js>> {
    let rows = Array::new(ctx.clone())?;
    for (at, Player { id, name, connected, link }) in desk.borrow().players.iter().enumerate() {
        let row = Array::new(ctx.clone())?;
        row.set(0, id.0)?;
        row.set(1, name.as_str())?;
        row.set(2, *connected)?;
        row.set(3, f64::from(link.rtt_us) / 1e3)?;
        row.set(4, f64::from(link.jitter_us) / 1e3)?;
        row.set(5, f64::from(link.loss_down_permille) / 1e3)?;
        row.set(6, f64::from(link.loss_up_permille) / 1e3)?;
        rows.set(at, row)?;
    }
    Ok(rows)
}
