//! The game of the model's rooms, and the book in which all of them write what they see and say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use rtcade::game::{Context, Game, Incoming, Join, Lane, Leave, PlayerId, Refusal, RoomInfo, Target, Tick, Welcome};
use rtcade::rand::Rng;
use rtcade::wire::msgpack;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A room whose game can't be made.
pub(super) const SHUT: &str = "shut";
/// A room that fans its inputs out.
pub(super) const FAN: &str = "fan";
/// Ticks after which every room says something of itself.
const SAY_EVERY: u32 = 15;

/// A body and what tells whether it came as it went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sealed<T> {
    body: T,
    sum: u32,
}

impl<T: Serialize> Sealed<T> {
    pub(super) fn new(body: T) -> Sealed<T> {
        Sealed { sum: sum(&body), body }
    }

    fn open(&self) -> Option<&T> {
        (self.sum == sum(&self.body)).then_some(&self.body)
    }
}

fn sum(body: &impl Serialize) -> u32 {
    crc32c::crc32c(&msgpack::encode(body, usize::MAX).unwrap())
}

/// The body of an encoded [`Sealed`], or what is wrong with it.
pub(super) fn unseal<T: Serialize + DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    let sealed: Sealed<T> = msgpack::decode(value)?;
    if sealed.open().is_some() { Ok(sealed.body) } else { Err("its sum is wrong".to_owned()) }
}

/// An input: the number that the client gave it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sent {
    pub(super) client: usize,
    pub(super) number: u32,
    pub(super) padding: String,
}

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) client: usize,
    pub(super) number: u32,
    pub(super) wish: Wish,
}

/// What a command asks the game for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Wish {
    Nothing,
    Say { to: Audience, reliable: bool, bytes: usize },
    KickMe,
    Lock(bool),
    Panic,
    PanicWhenILeave,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Audience {
    All,
    AllButMe,
    Me,
    /// The player of the highest number.
    Newest,
    AllButNewest,
}

/// A state or an event: of which room it is, and what number it has among all that were said in the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) room: usize,
    pub(super) number: u64,
    pub(super) tick: u32,
    /// For whom, where it is for one.
    pub(super) to: Option<u32>,
    padding: String,
}

/// What a client brings to its join.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Manner {
    Polite,
    /// The game is to refuse them.
    Unwelcome,
    /// The game is to panic when they come.
    Fatal,
}

/// The `data` of a join.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ticket {
    pub(super) client: usize,
    pub(super) manner: Manner,
}

/// What a client is greeted with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) client: usize,
    pub(super) room: usize,
}

/// What all games of a run have seen and said.
#[derive(Default)]
pub(super) struct Book {
    pub(super) tick: Duration,
    /// Every room that was made, those that are gone included.
    pub(super) rooms: Vec<RoomPage>,
    /// By client, those that their game let in.
    pub(super) seats: BTreeMap<usize, Seat>,
    pub(super) panics: u64,
    /// Ticks that the games were told they missed, and whether one panicked before it was told.
    pub(super) missed_ticks: u64,
    pub(super) missed_untold: bool,
    pub(super) overfull: bool,
    pub(super) said: u64,
    /// What a game saw and should not have.
    pub(super) faults: Vec<String>,
}

pub(super) struct RoomPage {
    pub(super) name: String,
    pub(super) is_there: bool,
    pub(super) was_locked: bool,
    /// Their clients, by player.
    pub(super) members: BTreeMap<u32, usize>,
    /// What was fanned out: player and number of each input, by tick.
    pub(super) ticks: BTreeMap<u32, Vec<(u32, u32)>>,
}

pub(super) struct Seat {
    pub(super) room: usize,
    pub(super) player: u32,
    pub(super) left: Option<Leave>,
    /// Their connection was lost, and whether it ever was.
    pub(super) is_away: bool,
    pub(super) was_away: bool,
    pub(super) newest_input: u32,
    pub(super) inputs: u32,
    pub(super) commands: u32,
    /// Numbers of the events that must arrive, in this order.
    pub(super) reliable: Vec<u64>,
    /// Numbers of the events that may.
    pub(super) unreliable: BTreeSet<u64>,
}

pub(super) struct Witness {
    book: Rc<RefCell<Book>>,
    room: usize,
    locked: bool,
    failed: bool,
    max_players: usize,
    clients: BTreeMap<PlayerId, usize>,
    takes_along: Option<PlayerId>,
}

impl Witness {
    pub(super) fn new(book: &Rc<RefCell<Book>>, info: &RoomInfo, max_players: usize) -> Result<Witness, Refusal> {
        if info.name == SHUT {
            return Err(Refusal::new("Nobody plays here."));
        }
        let mut pages = book.borrow_mut();
        if pages.rooms.iter().any(|room| room.is_there && room.name == info.name) {
            pages.faults.push(format!("there is a second room {}", info.name));
        }
        let room = pages.rooms.len();
        pages.rooms.push(RoomPage {
            name: info.name.clone(),
            is_there: true,
            was_locked: false,
            members: BTreeMap::new(),
            ticks: BTreeMap::new(),
        });
        Ok(Witness {
            book: Rc::clone(book),
            room,
            locked: false,
            failed: false,
            max_players,
            clients: BTreeMap::new(),
            takes_along: None,
        })
    }

    /// Panics without a word on stderr.
    fn panic(&mut self, before_tick: bool) -> ! {
        self.failed = true;
        let mut book = self.book.borrow_mut();
        book.panics += 1;
        book.missed_untold |= before_tick;
        drop(book);
        resume_unwind(Box::new("a game that was asked to"))
    }

    fn fault(&self, fault: impl std::fmt::Display) {
        self.book.borrow_mut().faults.push(format!("room {}: {fault}", self.room));
    }

    fn said(&self, ctx: &mut Context<Witness>, to: Option<PlayerId>, bytes: usize) -> Sealed<Said> {
        let padding = (0..bytes).map(|_| char::from(b' ' + (ctx.rng().next_u32() % 64) as u8)).collect();
        let mut book = self.book.borrow_mut();
        book.said += 1;
        Sealed::new(Said {
            room: self.room,
            number: book.said,
            tick: ctx.tick(),
            to: to.map(|player| player.0),
            padding,
        })
    }

    fn say(&self, ctx: &mut Context<Witness>, target: Target, reliable: bool, bytes: usize) {
        let to = if let Target::One(player) = target { Some(player) } else { None };
        let event = self.said(ctx, to, bytes);
        {
            let mut book = self.book.borrow_mut();
            let number = book.said;
            for (&player, client) in &self.clients {
                let is_meant = match target {
                    Target::All => true,
                    Target::One(one) => player == one,
                    Target::Except(one) => player != one,
                };
                if is_meant {
                    let seat = book.seats.get_mut(client).unwrap();
                    if reliable {
                        seat.reliable.push(number);
                    } else {
                        seat.unreliable.insert(number);
                    }
                }
            }
        }
        let lane = if reliable { Lane::Reliable } else { Lane::Unreliable };
        ctx.event(target, &event, lane).unwrap();
    }

    fn state(&self, ctx: &mut Context<Witness>) {
        let bytes = if ctx.tick() % 16 == 5 { 2_500 } else { 40 };
        if ctx.tick() % 8 == 3 {
            for &player in self.clients.keys() {
                let state = self.said(ctx, Some(player), bytes / 20);
                ctx.state_to(player, &state).unwrap();
            }
        } else {
            let state = self.said(ctx, None, bytes);
            ctx.state(&state).unwrap();
        }
    }

    fn seat(&mut self, player: PlayerId, client: usize) {
        self.clients.insert(player, client);
        if self.clients.len() > self.max_players {
            self.fault(format_args!("{} players are in", self.clients.len()));
        }
        {
            let mut book = self.book.borrow_mut();
            book.overfull |= self.clients.len() == self.max_players;
            book.rooms[self.room].members.insert(player.0, client);
            let seat = Seat {
                room: self.room,
                player: player.0,
                left: None,
                is_away: false,
                was_away: false,
                newest_input: 0,
                inputs: 0,
                commands: 0,
                reliable: Vec::new(),
                unreliable: BTreeSet::new(),
            };
            if book.seats.insert(client, seat).is_some() {
                book.faults.push(format!("client {client} came in twice"));
            }
        }
    }

    fn note_away(&self, player: PlayerId, is_away: bool) {
        let Some(client) = self.clients.get(&player) else {
            return self.fault(format_args!("player {player} is not in, and is away: {is_away}"));
        };
        let mut book = self.book.borrow_mut();
        let seat = book.seats.get_mut(client).unwrap();
        seat.was_away = true;
        if std::mem::replace(&mut seat.is_away, is_away) == is_away {
            book.faults.push(format!("client {client} is twice told to be away: {is_away}"));
        }
    }

    fn take_input(&self, player: PlayerId, input: &Sealed<Sent>) -> Option<(u32, u32)> {
        let Some(sent) = input.open() else {
            self.fault(format_args!("an input of {player} is corrupt: {input:?}"));
            return None;
        };
        if self.clients.get(&player) != Some(&sent.client) {
            self.fault(format_args!("player {player} is not client {}, whose input came", sent.client));
            return None;
        }
        let newest = self.book.borrow().seats[&sent.client].newest_input;
        if sent.number <= newest {
            self.fault(format_args!("input {} of client {} came after {newest}", sent.number, sent.client));
        }
        let mut book = self.book.borrow_mut();
        let seat = book.seats.get_mut(&sent.client).unwrap();
        seat.newest_input = sent.number;
        seat.inputs += 1;
        Some((player.0, sent.number))
    }

    fn take_command(&mut self, ctx: &mut Context<Witness>, player: PlayerId, command: &Sealed<Order>) {
        let Some(order) = command.open() else {
            return self.fault(format_args!("a command of {player} is corrupt: {command:?}"));
        };
        if self.clients.get(&player) != Some(&order.client) {
            return self.fault(format_args!("player {player} is not client {}, whose command came", order.client));
        }
        let before = {
            let mut book = self.book.borrow_mut();
            let seat = book.seats.get_mut(&order.client).unwrap();
            std::mem::replace(&mut seat.commands, order.number)
        };
        if order.number != before + 1 {
            self.fault(format_args!("command {} of client {} came after {before}", order.number, order.client));
        }
        self.obey(ctx, player, order.wish);
    }

    fn obey(&mut self, ctx: &mut Context<Witness>, player: PlayerId, wish: Wish) {
        let newest = *self.clients.keys().next_back().unwrap();
        match wish {
            Wish::Nothing => {}
            Wish::Say { to, reliable, bytes } => {
                let target = match to {
                    Audience::All => Target::All,
                    Audience::AllButMe => Target::Except(player),
                    Audience::Me => Target::One(player),
                    Audience::Newest => Target::One(newest),
                    Audience::AllButNewest => Target::Except(newest),
                };
                self.say(ctx, target, reliable, bytes);
            }
            Wish::KickMe => ctx.kick(player, "As you wish."),
            Wish::Lock(locked) => {
                ctx.lock(locked);
                self.locked = locked;
                self.book.borrow_mut().rooms[self.room].was_locked |= locked;
            }
            Wish::Panic => self.panic(false),
            Wish::PanicWhenILeave => self.takes_along = Some(player),
        }
    }
}

impl Game for Witness {
    type Input = Sealed<Sent>;
    type Command = Sealed<Order>;
    type State = Sealed<Said>;
    type Event = Sealed<Said>;

    fn join(&mut self, ctx: &mut Context<Witness>, player: PlayerId, join: &Join) -> Result<Welcome, Refusal> {
        let Ok(Ticket { client, manner }) = serde_json::from_value(join.data.clone()) else {
            self.fault("somebody was let in without a ticket");
            return Err(Refusal::new("Who are you?"));
        };
        if self.locked {
            self.fault(format_args!("client {client} came into the locked room"));
        }
        let has_had_a_place = {
            let book = self.book.borrow();
            book.seats.get(&client).is_some_and(|seat| seat.left.is_some() || !book.rooms[seat.room].is_there)
        };
        if has_had_a_place {
            return Err(Refusal::new("You have had your place."));
        }
        match manner {
            Manner::Fatal => self.panic(true),
            Manner::Unwelcome => return Err(Refusal::new("Not you.")),
            Manner::Polite => {}
        }
        self.seat(player, client);
        self.say(ctx, Target::Except(player), true, 10);
        self.say(ctx, Target::One(player), true, 10);
        Welcome::new(&Greeting { client, room: self.room })
    }

    fn leave(&mut self, ctx: &mut Context<Witness>, player: PlayerId, reason: Leave) {
        let Some(client) = self.clients.remove(&player) else {
            return self.fault(format_args!("player {player} left and was not in"));
        };
        {
            let mut book = self.book.borrow_mut();
            book.rooms[self.room].members.remove(&player.0);
            let seat = book.seats.get_mut(&client).unwrap();
            seat.left = Some(reason);
            seat.is_away = false;
        }
        if self.takes_along == Some(player) {
            self.panic(true);
        }
        self.say(ctx, Target::All, true, 10);
    }

    fn drop(&mut self, _: &mut Context<Witness>, player: PlayerId) {
        self.note_away(player, true);
    }

    fn resume(&mut self, _: &mut Context<Witness>, player: PlayerId) {
        self.note_away(player, false);
    }

    fn tick(&mut self, ctx: &mut Context<Witness>, tick: Tick, batch: &[Incoming<Witness>]) {
        self.book.borrow_mut().missed_ticks += u64::from(tick.missed);
        let known: BTreeSet<PlayerId> = ctx.players().map(|player| player.id).collect();
        if !known.iter().eq(self.clients.keys()) {
            self.fault(format_args!("the context has the players {known:?}, but {:?} are in", self.clients));
        }
        for player in ctx.players() {
            let is_away = self.book.borrow().seats[&self.clients[&player.id]].is_away;
            if player.connected == is_away {
                self.fault(format_args!("player {} is away: {is_away}, and connected as well", player.id));
            }
        }
        let mut inputs = Vec::new();
        for message in batch {
            match message {
                Incoming::Input { player, input } => inputs.extend(self.take_input(*player, input)),
                Incoming::Command { player, command } => self.take_command(ctx, *player, command),
            }
        }
        let name = self.book.borrow().rooms[self.room].name.clone();
        if name == FAN {
            self.book.borrow_mut().rooms[self.room].ticks.insert(tick.number, inputs);
            ctx.fan_out_inputs();
        }
        self.state(ctx);
        if tick.number.is_multiple_of(SAY_EVERY) {
            self.say(ctx, Target::All, false, 100);
            self.say(ctx, Target::All, true, 200);
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let mut book = self.book.borrow_mut();
        book.rooms[self.room].is_there = false;
        if !self.failed && !self.clients.is_empty() {
            book.faults.push(format!("room {} is gone, and {:?} were in", self.room, self.clients));
        }
        if self.failed {
            book.rooms[self.room].members.clear();
        }
    }
}
