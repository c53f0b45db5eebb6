//! The game of the model's rooms, and the log of everything that they receive and send.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rtcade::game::{
    Batch, Context, Game, Incoming, Join, Lane, Leave, PlayerId, Refusal, Resumed, RoomInfo, Target, Tick,
};
use rtcade::hooks::{Arrival, Decision, Hooks};
use rtcade::limits;
use rtcade::rand::{Rng, SeedableRng};
use rtcade::wire::msgpack;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::world::GRACE;

/// A room whose game can't be made.
pub(super) const SHUT: &str = "shut";
/// A room that fans its inputs out.
pub(super) const FAN: &str = "fan";
/// A room that strangers storm, of whom it takes none.
pub(super) const MOB: &str = "mob";
/// Rooms whose games send a state each second tick, each fourth tick, and never.
pub(super) const HALF: &str = "half";
pub(super) const QUARTER: &str = "quarter";
pub(super) const MUTE: &str = "mute";
/// A room whose states are as large as a state may be, and don't compress.
pub(super) const WIDE: &str = "wide";
/// A room whose states compress well, with an event each tick that is too small to.
pub(super) const WORDY: &str = "wordy";
/// The name of a player who joins without one.
pub(super) const UNNAMED: &str = "player";
/// Less than the ticks before the room's that a stamp can name.
const STAMPED_TICKS: f64 = 1_500.0;
/// Time after which every room sends events of its own.
const SAY_EVERY: Duration = Duration::from_millis(500);
/// Ticks of [`WIDE`] after which it tries the limit of a state, and one byte past it.
const LIMIT_EVERY: u32 = 64;

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
    /// The tick that the client claims to see, where it claims one.
    pub(super) seen: Option<f64>,
    pub(super) padding: String,
    pub(super) nest: Nest,
}

impl Sent {
    /// How deep an input with an empty nest nests: the seal, the body, and the nest.
    pub(super) const DEPTH: usize = 3;
}

/// Arrays within arrays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Nest(Vec<Nest>);

impl Nest {
    /// So many more than an empty one.
    pub(super) fn new(depth: usize) -> Nest {
        (0..depth).fold(Nest::default(), |nest, _| Nest(vec![nest]))
    }
}

/// A body with the padding that makes it so many bytes long when it is encoded.
pub(super) fn padded<T: Serialize>(bytes: usize, body: impl Fn(String) -> T) -> Sealed<T> {
    let mut padding = bytes;
    for letter in ('a'..='z').cycle() {
        let sealed = Sealed::new(body(letter.to_string().repeat(padding)));
        let encoded = msgpack::encode(&sealed, usize::MAX).unwrap().len();
        if encoded == bytes {
            return sealed;
        }
        // The sum, which another letter changes, takes a byte more or less by chance.
        padding = if encoded > bytes { padding - (encoded - bytes) } else { padding + 1 };
    }
    unreachable!("letters go on")
}

/// A command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) client: usize,
    pub(super) number: u32,
    pub(super) wish: Wish,
    pub(super) padding: String,
}

/// What a command asks the game for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Wish {
    Nothing,
    Say { to: Audience, reliable: bool, bytes: usize },
    KickMe,
    Lock(bool),
    Rename,
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

/// A state or an event: of which room it is, and what number it has among all that the room has sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) room: u64,
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
    pub(super) room: u64,
}

/// What the game of a room sends by itself.
#[derive(Clone, Copy)]
pub(super) struct Output {
    /// A state goes with each tick whose number is a multiple; none if this is 0.
    pub(super) every: u32,
    /// Bytes of padding in a state; every sixteenth has more where this is small.
    bytes: usize,
    padding: Padding,
}

#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Noise,
    Repeating,
}

impl Output {
    pub(super) fn of(room: &str) -> Output {
        let (every, bytes) = match room {
            HALF => (2, 1_000),
            QUARTER => (4, 1_500),
            MUTE => (0, 0),
            WIDE => (1, 3_900),
            WORDY => (1, 1_000),
            _ => (1, 40),
        };
        let padding = if room == WORDY { Padding::Repeating } else { Padding::Noise };
        Output { every, bytes, padding }
    }
}

/// What all games of a run have seen and said.
#[derive(Default)]
pub(super) struct Book {
    pub(super) tick: Duration,
    /// No earlier than it is, and a step later at most, in [`World::awake`](super::world::World::awake).
    pub(super) now: Duration,
    /// Every room that was made, those that are gone included.
    pub(super) rooms: Vec<RoomPage>,
    /// By client, those that their game let in.
    pub(super) seats: BTreeMap<usize, Seat>,
    pub(super) panics: u64,
    /// Ticks that the games were told they missed, and whether one panicked before it was told.
    pub(super) missed_ticks: u64,
    pub(super) missed_untold: bool,
    pub(super) overfull: bool,
    /// What a game saw and should not have.
    pub(super) faults: Vec<String>,
}

impl Book {
    /// What a server and a client may take to act on what they have, ticks included.
    pub(super) fn grace(&self) -> Duration {
        GRACE.max(3 * self.tick)
    }
}

pub(super) struct RoomPage {
    pub(super) name: String,
    /// What its game calls it.
    pub(super) id: u64,
    pub(super) is_there: bool,
    pub(super) has_failed: bool,
    pub(super) was_locked: bool,
    /// Their clients, by player.
    pub(super) members: BTreeMap<u32, usize>,
    /// When each tick ran, as [`Book::now`] shows it.
    pub(super) ran: BTreeMap<u32, Duration>,
    /// The newest input of each player that its game has had, by tick and player.
    pub(super) consumed: BTreeMap<(u32, u32), u32>,
    /// What was fanned out: player and number of each input, by tick.
    pub(super) ticks: BTreeMap<u32, Vec<(u32, u32)>>,
}

pub(super) struct Seat {
    pub(super) room: usize,
    pub(super) player: u32,
    pub(super) name: String,
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
    id: u64,
    output: Output,
    said: u64,
    locked: bool,
    failed: bool,
    max_players: usize,
    clients: BTreeMap<PlayerId, usize>,
    /// Clients that have had a place here.
    seated: BTreeSet<usize>,
    takes_along: Option<PlayerId>,
}

/// Attaches to each player whether their client has had a place in any room, so that games replay without the book.
pub(super) struct Doorkeeper(pub(super) Rc<RefCell<Book>>);

impl Hooks for Doorkeeper {
    fn accept(&mut self, arrival: &Arrival<'_>) -> Decision {
        let ticket: Option<Ticket> = serde_json::from_value(arrival.data.clone()).ok();
        Decision::Accept(ticket.is_some_and(|ticket| self.0.borrow().seats.contains_key(&ticket.client)).into())
    }
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
        // JavaScript's integers have 53 bits.
        let id = info.seed >> 11;
        pages.rooms.push(RoomPage {
            name: info.name.clone(),
            id,
            is_there: true,
            has_failed: false,
            was_locked: false,
            members: BTreeMap::new(),
            ran: BTreeMap::new(),
            consumed: BTreeMap::new(),
            ticks: BTreeMap::new(),
        });
        Ok(Witness {
            book: Rc::clone(book),
            room,
            id,
            output: Output::of(&info.name),
            said: 0,
            locked: false,
            failed: false,
            max_players,
            clients: BTreeMap::new(),
            seated: BTreeSet::new(),
            takes_along: None,
        })
    }

    /// Panics without a word on stderr.
    fn panic(&mut self, before_tick: bool) -> ! {
        self.failed = true;
        let mut book = self.book.borrow_mut();
        book.panics += 1;
        book.rooms[self.room].has_failed = true;
        book.missed_untold |= before_tick;
        drop(book);
        resume_unwind(Box::new("a game that was asked to"))
    }

    fn fault(&self, fault: impl std::fmt::Display) {
        self.book.borrow_mut().faults.push(format!("room {}: {fault}", self.room));
    }

    fn said(&mut self, ctx: &mut Context<Witness>, to: Option<PlayerId>, padding: String) -> Sealed<Said> {
        self.said += 1;
        Sealed::new(Said { room: self.id, number: self.said, tick: ctx.tick(), to: to.map(|player| player.0), padding })
    }

    fn say(&mut self, ctx: &mut Context<Witness>, target: Target, reliable: bool, bytes: usize) {
        let to = if let Target::One(player) = target { Some(player) } else { None };
        let padding = noise(ctx, bytes);
        let event = self.said(ctx, to, padding);
        {
            let mut book = self.book.borrow_mut();
            let number = self.said;
            for (&player, client) in &self.clients {
                let is_meant = match target {
                    Target::All => true,
                    Target::One(one) => player == one,
                    Target::Except(one) => player != one,
                    unknown => panic!("{unknown:?}"),
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

    fn state(&mut self, ctx: &mut Context<Witness>) {
        let Output { every, bytes, padding } = self.output;
        if every == 0 || !ctx.tick().is_multiple_of(every) {
            return;
        }
        let bytes = if ctx.tick() % 16 == 5 { bytes.max(2_500) } else { bytes };
        if ctx.tick() % 8 == 3 && bytes < 2_000 {
            for player in self.clients.keys().copied().collect::<Vec<_>>() {
                let padding = noise(ctx, bytes / 20);
                let state = self.said(ctx, Some(player), padding);
                ctx.state_to(player, &state).unwrap();
            }
            return;
        }
        let padding = match padding {
            Padding::Noise => noise(ctx, bytes),
            Padding::Repeating => "as before ".repeat(bytes / 10),
        };
        let state = self.said(ctx, None, padding);
        ctx.state(&state).unwrap();
        if bytes > 3_000 && ctx.tick().is_multiple_of(LIMIT_EVERY) {
            self.try_limit(ctx, limits::STATE_BYTES);
            self.try_limit(ctx, limits::STATE_BYTES + 1);
        }
    }

    /// Sends a state of so many bytes, which must be refused past the limit.
    fn try_limit(&mut self, ctx: &mut Context<Witness>, bytes: usize) {
        let mut state = self.said(ctx, None, String::new());
        let encoded = |state: &Sealed<Said>| msgpack::encode(state, usize::MAX).unwrap().len();
        while encoded(&state) != bytes {
            let missing = bytes.saturating_sub(encoded(&state)).max(1);
            state.body.padding.push_str(&noise(ctx, missing));
            if encoded(&state) > bytes {
                state.body.padding.truncate(state.body.padding.len() - (encoded(&state) - bytes));
            }
            state = Sealed::new(state.body);
        }
        if ctx.state(&state).is_ok() != (bytes <= limits::STATE_BYTES) {
            self.fault(format_args!("a state of {bytes} bytes is taken, or refused, against the limit"));
        }
    }

    fn seat(&mut self, player: PlayerId, client: usize) {
        self.clients.insert(player, client);
        self.seated.insert(client);
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
                name: UNNAMED.to_owned(),
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

    fn note_tick(&self, tick: Tick) {
        let mut book = self.book.borrow_mut();
        book.missed_ticks += u64::from(tick.missed);
        let now = book.now;
        book.rooms[self.room].ran.insert(tick.number, now);
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

    fn take_input(
        &self,
        ctx: &Context<Witness>,
        player: PlayerId,
        seen: f64,
        input: &Sealed<Sent>,
    ) -> Option<(u32, u32)> {
        let Some(sent) = input.open() else {
            self.fault(format_args!("an input of {player} is corrupt: {input:?}"));
            return None;
        };
        let oldest = f64::from(ctx.tick()) - limits::SEEN_LIMIT.as_secs_f64() / ctx.tick_length().as_secs_f64();
        let possible = oldest.max(0.0)..=ctx.tick().into();
        let is_claimed = |claim: f64| seen == claim.max(*possible.start());
        // A claim further back than the clamp has no stamp of its own. A client may know newer ticks than its claim.
        let is_exact = |claim: &f64| possible.contains(claim) || (*claim < oldest && oldest - claim < STAMPED_TICKS);
        if !possible.contains(&seen) || !sent.seen.filter(is_exact).is_none_or(is_claimed) {
            let claim = sent.seen;
            self.fault(format_args!("input {} claims {claim:?}, and has seen {seen} of {possible:?}", sent.number));
        }
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
        self.obey(ctx, player, order);
    }

    fn obey(&mut self, ctx: &mut Context<Witness>, player: PlayerId, order: &Order) {
        let newest = *self.clients.keys().next_back().unwrap();
        match order.wish {
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
            Wish::Rename => {
                let name = format!("{player} for {}", order.number);
                ctx.rename(player, &name);
                self.book.borrow_mut().seats.get_mut(&order.client).unwrap().name = name;
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
    type Welcome = Greeting;
    type JoinData = Value;

    const INPUTS_PER_TICK: usize = rtcade::limits::INPUT_WINDOW;

    fn join(&mut self, ctx: &mut Context<Witness>, player: PlayerId, join: &Join) -> Result<Greeting, Refusal> {
        let Ok(Ticket { client, manner }) = serde_json::from_value(join.data.clone()) else {
            self.fault("somebody was let in without a ticket");
            return Err(Refusal::new("Who are you?"));
        };
        if self.locked {
            self.fault(format_args!("client {client} came into the locked room"));
        }
        if join.attached == true || self.seated.contains(&client) {
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
        Ok(Greeting { client, room: self.id })
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

    fn resume(&mut self, _: &mut Context<Witness>, player: PlayerId, _: Resumed) {
        self.note_away(player, false);
    }

    fn tick(&mut self, ctx: &mut Context<Witness>, tick: Tick, batch: Batch<'_, Witness>) {
        self.note_tick(tick);
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
        let consumed = ctx.players().map(|player| ((tick.number, player.id.0), ctx.consumed(player.id)));
        self.book.borrow_mut().rooms[self.room].consumed.extend(consumed);
        let mut inputs = Vec::new();
        for message in batch {
            match message {
                Incoming::Input { player, seen, input, .. } => {
                    inputs.extend(self.take_input(ctx, player, seen, &input))
                }
                Incoming::Command { player, command, .. } => self.take_command(ctx, player, &command),
                _ => unreachable!("there are inputs and commands"),
            }
        }
        let name = self.book.borrow().rooms[self.room].name.clone();
        if name == FAN {
            self.book.borrow_mut().rooms[self.room].ticks.insert(tick.number, inputs);
            ctx.fan_out_inputs();
        }
        self.state(ctx);
        if name == WORDY {
            self.say(ctx, Target::All, false, 1);
        }
        let say_every = SAY_EVERY.as_nanos().div_ceil(ctx.tick_length().as_nanos());
        if u128::from(tick.number).is_multiple_of(say_every) {
            self.say(ctx, Target::All, false, 100);
            self.say(ctx, Target::All, true, 200);
        }
    }
}

/// Text that hardly compresses: 7 of 8 bits are random.
fn noise(ctx: &mut Context<Witness>, bytes: usize) -> String {
    thread_local! {
        static NOISE: String = {
            let mut noise = vec![0; 128 * 1_024];
            ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut noise);
            noise.iter().map(|&byte| char::from(byte & 0x7f)).collect()
        };
    }
    NOISE.with(|noise| {
        let first = ctx.rng().next_u32() as usize % (noise.len() - bytes);
        noise[first..first + bytes].to_owned()
    })
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
