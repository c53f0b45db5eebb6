//! The model beside the server: what is done to both, and what must hold between them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rtcade::client::{self, Client, Event, Message, Status};
use rtcade::endpoint::LocalId;
use rtcade::game::Leave;
use rtcade::limits;
use rtcade::rand::{RngExt, SeedableRng};
use rtcade::server::{Connect, ConnectionId, Counters, Disconnect, Gauges, Signal};
use rtcade::sim::{ClientId, SERVER, Simulation};
use rtcade::wire::codes::CLOSE_REFUSED;
use rtcade::wire::msgpack;
use rtcade::wire::signaling::RoomName;
use serde_json::Value;

use super::ERRORS;
use super::transition::{Transition, Weather, Whom};
use super::witness::{Book, Greeting, Manner, Order, SHUT, Said, Sealed, Seat, Sent, Ticket, Wish, Witness, unseal};

const MS: Duration = Duration::from_millis(1);
/// The world is looked at this often.
const STEP: Duration = Duration::from_millis(25);
/// What a server and a client may take to act on what they have, ticks included.
const GRACE: Duration = Duration::from_millis(500);
const MAX_PLAYERS: usize = 4;
/// After which the server takes a silent websocket for lost.
const SILENCE: Duration = limits::HEARTBEAT_INTERVAL.saturating_mul(1 + limits::HEARTBEATS_UNANSWERED as u32);
/// How long a player may be away.
const AWAY: Duration = Duration::from_secs(3);
/// Commands of one client that are on their way at once: a websocket that was held up brings all in one tick.
const COMMANDS_UNDER_WAY: u32 = 8;
/// Inputs that each sends in the end, at once: all of them must be heard.
const LAST_INPUTS: u32 = 4;
/// After which TCP sends again at the latest what was lost.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Clients of one run.
const CLIENTS: usize = 10;
/// Where websockets of no [`ClientId`] come from: all from one address, as from behind one router.
const CROWD: [u8; 4] = [10, 7, 0, 1];

/// Where a player's client is.
#[derive(Clone, Copy)]
enum Place {
    Simulation(ClientId),
    /// Among [`World::readers`].
    Reader(usize),
}

/// A websocket that takes what the server says only now and then, and has no datagrams; with a client, or of nobody.
struct Reader {
    /// Of its newest websocket.
    connection: ConnectionId,
    room: &'static str,
    client: Option<Client>,
    events: Vec<(Duration, Event)>,
    texts: Vec<Value>,
    closed: Option<(u16, String)>,
    /// The server knows it no longer.
    is_gone: bool,
    opened: Duration,
    reads_at: Duration,
}

/// What the model knows of a player. Times are of [`Player::flowing`] where nothing else is said.
struct Player {
    place: Place,
    room: &'static str,
    manner: Manner,
    one_way: Duration,
    /// When they came, in the simulation's time.
    came: Duration,
    /// How long their websocket has not been held up: nothing was on its way for longer than a sound network takes. So
    /// each message counts for no more than that, however often TCP had to send it again.
    flowing: Duration,
    inputs: u32,
    commands: u32,
    may_be_flood: bool,
    may_be_bad: bool,
    /// What costs their place may have been lost with a websocket.
    is_excused: bool,
    has_offered_again: bool,
    /// When they last asked for what must be refused.
    asked: Option<Duration>,
    /// When they left or crashed.
    gone: Option<Duration>,
    /// They crashed, and their websocket ends at that time of the world, if it does.
    websocket_ends: Option<Option<Duration>>,
    /// Since when the model sees something that must pass.
    unsettled: Option<Duration>,
    heard: Heard,
}

/// What a player's client has said so far.
#[derive(Default)]
struct Heard {
    socket_id: String,
    events: usize,
    texts: usize,
    player: Option<u32>,
    refused: bool,
    closed: bool,
    is_away: bool,
    was_away: bool,
    state: Option<u32>,
    states: u32,
    tick: Option<u32>,
    reliable: usize,
    unreliable: BTreeSet<u64>,
    others: BTreeSet<u32>,
    refusals: u64,
}

pub(super) struct World {
    pub(super) rng: ChaCha8Rng,
    seed: u64,
    sim: Simulation<Witness>,
    book: Rc<RefCell<Book>>,
    players: Vec<Player>,
    readers: Vec<Reader>,
    history: Vec<(Duration, Transition)>,
    /// How long it was that something could happen.
    awake: Duration,
    /// Since when each room has been empty, in that time.
    empty_since: BTreeMap<usize, Duration>,
    bad_frames: u64,
    /// A connection closed before it could have had its last replies.
    replies_lost: bool,
    is_calm: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let tick = MS * [33, 50, 100][rng.random_range(0..3)];
        let book = Rc::new(RefCell::new(Book { tick, ..Book::default() }));
        let shared = Rc::clone(&book);
        let slow_path = std::env::var_os("RTCADE_SLOW_PATH").is_some();
        let configure = |config: &mut rtcade::server::Config| {
            config.tick = tick;
            config.max_players = MAX_PLAYERS;
            config.grace = AWAY;
            config.slow_path = slow_path;
        };
        let sim = Simulation::with_config(seed, configure, move |info| Witness::new(&shared, info, MAX_PLAYERS));
        World {
            rng,
            seed,
            sim,
            book,
            players: Vec::new(),
            readers: Vec::new(),
            history: Vec::new(),
            awake: Duration::ZERO,
            empty_since: BTreeMap::new(),
            bad_frames: 0,
            replies_lost: false,
            is_calm: false,
        }
    }

    /// Players who are in, as far as they know, and have given no cause to be put out.
    pub(super) fn members(&self) -> Vec<usize> {
        let is_member = |player: &Player| player.heard.player.is_some() && player.is_settled();
        (0..self.players.len()).filter(|&player| is_member(&self.players[player])).collect()
    }

    pub(super) fn has_place_for_clients(&self) -> bool {
        self.players.len() < CLIENTS
    }

    /// A flood may still be on its way.
    pub(super) fn is_flooding(&self) -> bool {
        self.players.iter().any(|player| player.may_be_flood && !player.heard.closed)
    }

    pub(super) fn apply(&mut self, transition: Transition) {
        self.history.push((self.sim.elapsed(), transition.clone()));
        match transition {
            Transition::Join { room, manner, weather, one_way_ms, slow_reader, in_company } => {
                self.join(room, manner, weather, MS * one_way_ms, slow_reader);
                if in_company {
                    self.join(room, Manner::Polite, weather, MS * one_way_ms, slow_reader);
                }
            }
            Transition::Leave(player) => self.leave(player),
            Transition::Lose(player) => {
                let now = self.sim.now();
                match self.players[player].place {
                    Place::Simulation(id) => self.sim.break_websocket(id),
                    Place::Reader(reader) => {
                        let Reader { connection, client, is_gone, .. } = &mut self.readers[reader];
                        client.as_mut().unwrap().handle_disconnect(now, 1006, "The connection was reset.");
                        *is_gone = true;
                        self.sim.server.handle_disconnect(now, *connection, Disconnect::Lost);
                    }
                }
            }
            Transition::Crash { player, websocket_ends_after_ms } => self.crash(player, websocket_ends_after_ms),
            Transition::Inputs { player, count, every_ms } => {
                for _ in 0..count {
                    self.send_input(player);
                    self.run(Duration::from_millis(every_ms));
                }
            }
            Transition::Command { player, wish } => self.command(player, wish),
            Transition::Relay { from, to, whom } => self.relay(from, to, whom),
            Transition::OfferAgain(player) => {
                let request = serde_json::json!({"a": "exchangeSdp", "d": {"to": "server", "sdp": OFFER}});
                self.players[player].has_offered_again = true;
                self.text(self.players[player].place, &request.to_string());
            }
            Transition::Weather { player, weather } => self.set_weather(player, weather),
            Transition::Rebind(player) => {
                if let Place::Simulation(id) = self.players[player].place {
                    self.sim.rebind(id);
                }
            }
            Transition::StandStill { ms } => self.sim.stand_still(Duration::from_millis(ms)),
            Transition::Garbage { forged, kind, count } => {
                for _ in 0..count {
                    let bytes = kind.datagram(&mut self.rng);
                    self.inject(forged, &bytes);
                }
            }
            Transition::Knock => {
                self.open(None, "ada");
            }
            Transition::BadRequest { player, number } => {
                let newest = (0..self.readers.len()).rev().find(|&reader| {
                    let reader = &self.readers[reader];
                    reader.client.is_none() && !reader.is_gone && reader.closed.is_none()
                });
                if let Some(player) = player {
                    self.players[player].asked = Some(self.players[player].flowing);
                    self.text(self.players[player].place, BAD_REQUESTS[number % BAD_REQUESTS.len()]);
                } else if let Some(newest) = newest {
                    let mut requests = BAD_REQUESTS.iter().chain(BAD_JOINS).cycle();
                    self.text(Place::Reader(newest), requests.nth(number).unwrap());
                }
            }
            Transition::BadFrame { player, number } => {
                self.bad_frames += 1;
                self.players[player].may_be_bad = true;
                self.excuse_the_absent(player);
                self.binary(self.players[player].place, BAD_FRAMES[number % BAD_FRAMES.len()]);
            }
            Transition::Misfit { player } => {
                self.players[player].may_be_bad = true;
                let now = self.sim.now();
                self.client(player).command(now, &"no order").unwrap();
            }
            Transition::Flood { player, frames } => {
                self.players[player].may_be_flood = true;
                self.excuse_the_absent(player);
                // Others would spread it over so long that it is none.
                self.set_weather(player, Weather::Sound);
                let place = self.players[player].place;
                if frames {
                    let ping = [&[0x02, 0, 0, 0, 0][..], &msgpack::encode_clock(1.0)].concat();
                    (0..3 * limits::FRAMES_PER_SECOND).for_each(|_| self.binary(place, &ping));
                } else {
                    (0..3 * limits::SIGNALS_PER_SECOND).for_each(|_| self.text(place, r#"{"a":"fly"}"#));
                }
            }
        }
        self.check();
    }

    /// Lets time pass, and compares.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            let step = STEP.min(end - self.sim.elapsed());
            self.sim.run(step);
            self.awake += step;
            for player in &mut self.players {
                player.flowing += if player.is_held_up(&self.sim) { Duration::ZERO } else { step };
            }
            for reader in 0..self.readers.len() {
                self.pump(reader);
            }
            self.end_websockets();
            self.check();
        }
    }

    /// All faults stop, and what they held up arrives: TCP doesn't know that the network is sound again before it sends
    /// the next time, which may be a minute after the last. Nothing that the server does makes that any shorter.
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        for player in 0..self.players.len() {
            match &mut self.players[player].websocket_ends {
                None => self.set_weather(player, Weather::Sound),
                Some(ends) => *ends = ends.map(|ends| self.awake.min(ends)),
            }
        }
        let calm = self.sim.elapsed();
        let holds_up = |player: &Player, sim: &Simulation<Witness>| {
            player.waits_since(sim).is_some_and(|since| since <= calm) || (player.heard.is_away && player.is_settled())
        };
        while self.players.iter().any(|player| holds_up(player, &self.sim)) {
            if self.sim.elapsed() - calm > LONGEST_TIMEOUT + GRACE {
                self.fault("the network is sound, and somebody is still held up or away");
            }
            self.run(STEP);
        }
    }

    /// Everybody who is in gets states and events, and their inputs and commands reach the game, within a second.
    pub(super) fn expect_liveness(&mut self) {
        self.let_the_absent_go();
        let members = self.members();
        let inputs: Vec<u32> = members.iter().map(|player| self.book.borrow().seats[player].inputs).collect();
        for &player in &members {
            (0..LAST_INPUTS).for_each(|_| self.send_input(player));
            self.command(player, Wish::Nothing);
            self.players[player].heard.states = 0;
        }
        self.run(Duration::from_millis(500));
        let reliable: Vec<usize> =
            members.iter().map(|player| self.book.borrow().seats[player].reliable.len()).collect();
        self.run(Duration::from_millis(500));
        assert_eq!(self.members(), members, "nobody goes while nothing happens");
        let mut open = 0;
        for ((player, least_reliable), inputs) in members.into_iter().zip(reliable).zip(inputs) {
            let (book, known) = (self.book.borrow(), &self.players[player]);
            let seat = &book.seats[&player];
            let is_open = matches!(known.place, Place::Simulation(id) if self.sim[id].client.is_open());
            let is_heard = seat.newest_input == known.inputs && seat.inputs >= inputs + LAST_INPUTS;
            if !is_heard || seat.commands != known.commands {
                let counts = (seat.newest_input, known.inputs, seat.inputs - inputs, seat.commands, known.commands);
                self.fault(&format!("client {player} is not heard: {counts:?}"));
            }
            // A path that was congested gets every fourth tick for a while.
            let said = u32::try_from(Duration::from_secs(1).as_millis() / book.tick.as_millis()).unwrap();
            if known.heard.states < said / 5 {
                let states = known.heard.states;
                self.fault(&format!("client {player} had {states} states of some {said} in a second"));
            }
            if known.heard.reliable < least_reliable {
                self.fault(&format!(
                    "client {player} misses {} reliable events",
                    least_reliable - known.heard.reliable
                ));
            }
            let others: BTreeSet<u32> = book.rooms[seat.room].members.keys().copied().collect();
            if known.heard.others != others {
                self.fault(&format!("client {player} knows of {:?}, and {others:?} are in", known.heard.others));
            }
            open += usize::from(is_open && !known.has_offered_again);
        }
        let peers = self.sim.server.gauges().peers;
        if peers < open {
            self.fault(&format!("there are {peers} peers, and {open} open channels"));
        }
        self.expect_places_to_wait();
    }

    /// All leave, and then the server is as new.
    pub(super) fn expect_nothing_left(&mut self) {
        for player in 0..self.players.len() {
            match self.players[player].websocket_ends {
                Some(_) => self.players[player].websocket_ends = Some(Some(self.awake)),
                None if self.players[player].gone.is_none() && !self.players[player].heard.closed => self.leave(player),
                None => {}
            }
        }
        self.run(Duration::from_secs(1));
        self.let_the_absent_go();
        let Gauges { players, peers, .. } = self.sim.server.gauges();
        if (players, peers) != (0, 0) {
            self.fault(&format!("all have left, and there are {players} players and {peers} peers"));
        }
        // Those who knocked are closed when they have not joined, and rooms when they have been empty.
        self.run(limits::JOIN_TIMEOUT.max(limits::EMPTY_ROOM_LINGER) + GRACE);
        let Gauges { connections, rooms, .. } = self.sim.server.gauges();
        if (connections, rooms) != (0, 0) {
            self.fault(&format!("all have left, and there are {connections} connections and {rooms} rooms"));
        }
        if self.sim.server.poll_timeout().is_some() {
            self.fault("nothing is left, and the server waits for something");
        }
        let refusals: u64 = self.players.iter().map(|player| player.heard.refusals).sum();
        let nobodys: usize = self.readers.iter().filter(|reader| reader.client.is_none()).map(Reader::refusals).sum();
        let counted = self.sim.server.counters().refused_requests;
        let heard = refusals + nobodys as u64;
        if heard > counted || (heard < counted && !self.replies_lost) {
            self.fault(&format!("{counted} refusals were counted, and {heard} heard"));
        }
        self.expect_places_to_wait();
    }

    /// Those who crash are away before they leave, and may take a room along; its players learn that there is no place
    /// for them any more.
    fn let_the_absent_go(&mut self) {
        let begun = self.sim.elapsed();
        while self.is_somebody_away() {
            if self.sim.elapsed() - begun > SILENCE + 3 * AWAY + GRACE {
                self.fault("somebody is away, and neither comes back nor leaves");
            }
            self.run(GRACE);
        }
    }

    fn is_somebody_away(&self) -> bool {
        let book = self.book.borrow();
        let is_absent = |seat: &Seat| seat.is_away && seat.left.is_none() && book.rooms[seat.room].is_there;
        book.seats.values().any(is_absent)
            || self.players.iter().any(|player| player.heard.is_away && player.gone.is_none())
    }

    /// As many connections may wait to join as if nobody who has joined or gone had ever come from there.
    fn expect_places_to_wait(&mut self) {
        let status = |reader: &Reader| reader.client.as_ref().map(Client::status);
        // Who crashed may have waited, or not.
        if self.readers.iter().any(|reader| status(reader) == Some(Status::Closed) && !reader.is_gone) {
            return;
        }
        let waits = |reader: &&Reader| {
            matches!(status(reader), None | Some(Status::Signaling | Status::Resuming)) && !reader.is_gone
        };
        let waiting = self.readers.iter().filter(waits).count();
        let first = 2_000_000;
        let most = (limits::UNJOINED_PER_ADDRESS - waiting) as u64;
        for number in first..=first + most {
            let connection = self.connect(number, "ada");
            let is_refused = self.sim.server.poll_signal(connection).is_some();
            if is_refused != (number == first + most) {
                let number = number - first;
                self.fault(&format!("{most} more may wait to join, of whom number {number} is refused: {is_refused}"));
            }
        }
        for number in first..=first + most {
            self.sim.server.handle_disconnect(self.sim.now(), ConnectionId(number), Disconnect::Broken);
        }
    }

    fn join(&mut self, room: &'static str, manner: Manner, weather: Weather, one_way: Duration, slow_reader: bool) {
        let ticket = serde_json::to_value(Ticket { client: self.players.len(), manner }).unwrap();
        let place = if slow_reader {
            let config = client::Config {
                seed: self.rng.random(),
                room: None,
                name: String::new(),
                data: ticket,
                bearer: None,
                locals: Vec::new(),
                slow_path: false,
            };
            let client = Client::new(config, self.sim.now());
            let reader = self.open(Some(client), room);
            self.pump(reader);
            Place::Reader(reader)
        } else {
            let now = self.sim.elapsed();
            let id = self.sim.join_with(room, |config| config.data = ticket);
            self.sim.set_path(id, weather.path(now, one_way));
            Place::Simulation(id)
        };
        self.players.push(Player {
            place,
            room,
            manner,
            one_way: if slow_reader { Duration::ZERO } else { one_way },
            came: self.sim.elapsed(),
            flowing: Duration::ZERO,
            inputs: 0,
            commands: 0,
            may_be_flood: false,
            may_be_bad: false,
            is_excused: false,
            has_offered_again: false,
            asked: None,
            gone: None,
            websocket_ends: None,
            unsettled: None,
            heard: Heard::default(),
        });
    }

    fn leave(&mut self, player: usize) {
        let known = &mut self.players[player];
        known.gone = Some(known.flowing);
        self.replies_lost |= known.asked.is_some_and(|at| known.flowing - at < Duration::from_secs(1));
        let now = self.sim.now();
        self.client(player).leave(now);
        if let Place::Reader(reader) = self.players[player].place {
            self.pump(reader);
        }
    }

    fn crash(&mut self, player: usize, websocket_ends_after_ms: Option<u64>) {
        self.set_weather(player, Weather::Blackout { ms: u64::MAX / 2 });
        let now = self.sim.now();
        self.client(player).handle_disconnect(now, Leave::Left.close_code(), "crashed");
        let known = &mut self.players[player];
        known.gone = Some(known.flowing);
        self.replies_lost = true;
        known.websocket_ends = Some(websocket_ends_after_ms.map(|ms| self.awake + Duration::from_millis(ms)));
    }

    /// What is said on a websocket that is gone costs nothing.
    fn excuse_the_absent(&mut self, player: usize) {
        let is_away = matches!(self.client(player).status(), Status::Dropped | Status::Resuming);
        self.players[player].is_excused |= is_away;
    }

    fn send_input(&mut self, player: usize) {
        if !self.players[player].is_settled() {
            return;
        }
        let padding = "x".repeat(self.rng.random_range(0..60));
        self.players[player].inputs += 1;
        let input = Sealed::new(Sent { client: player, number: self.players[player].inputs, padding });
        let now = self.sim.now();
        let number = self.client(player).send(now, &input).unwrap();
        assert_eq!(number, self.players[player].inputs);
    }

    fn command(&mut self, player: usize, wish: Wish) {
        let now = self.sim.now();
        let known = &mut self.players[player];
        if known.commands - self.book.borrow().seats[&player].commands == COMMANDS_UNDER_WAY {
            return;
        }
        known.commands += 1;
        let order = Sealed::new(Order { client: player, number: known.commands, wish });
        self.client(player).command(now, &order).unwrap();
    }

    /// What is relayed says who sent it, and whom it is for.
    fn relay(&mut self, from: usize, to: usize, whom: Whom) {
        let socket_id = self.players[to].heard.socket_id.clone();
        let said = |to: Option<usize>| serde_json::json!({ "from": from, "to": to });
        let request = match whom {
            Whom::Sdp => ("exchangeSdp", serde_json::json!({ "to": socket_id, "sdp": said(Some(to)).to_string() })),
            Whom::Candidate => {
                ("exchangeCandidate", serde_json::json!({ "to": socket_id, "candidate": said(Some(to)) }))
            }
            Whom::Orientation => ("orientationChange", serde_json::json!({ "orientation": said(None), "camera": 0 })),
        };
        self.players[from].asked = Some(self.players[from].flowing);
        let request = serde_json::json!({ "a": request.0, "d": request.1 });
        self.text(self.players[from].place, &request.to_string());
    }

    fn set_weather(&mut self, player: usize, weather: Weather) {
        let (now, one_way) = (self.sim.elapsed(), self.players[player].one_way);
        if let Place::Simulation(id) = self.players[player].place {
            self.sim.set_path(id, weather.path(now, one_way));
        }
    }

    /// A datagram that no client has sent.
    fn inject(&mut self, forged: Option<usize>, bytes: &[u8]) {
        let forged = forged.and_then(|player| match self.players[player].place {
            Place::Simulation(id) => Some(self.sim[id].address()),
            Place::Reader(_) => None,
        });
        let unroutable = |counters: Counters| {
            let kinds = counters.unroutable;
            kinds.unknown + kinds.stun + kinds.dtls
        };
        let before = unroutable(self.sim.server.counters());
        let source = forged.unwrap_or(SocketAddr::from(([198, 51, 100, 7], self.rng.random_range(1..=65_535))));
        self.sim.server.handle_datagram(self.sim.now(), LocalId(0), source, bytes);
        let counted = unroutable(self.sim.server.counters()) - before;
        if forged.is_none() && counted != 1 {
            self.fault(&format!("one datagram from nowhere was counted {counted} times: {bytes:?}"));
        }
    }

    fn client(&mut self, player: usize) -> &mut Client {
        match self.players[player].place {
            Place::Simulation(id) => &mut self.sim[id].client,
            Place::Reader(reader) => self.readers[reader].client.as_mut().unwrap(),
        }
    }

    fn text(&mut self, place: Place, text: &str) {
        match place {
            Place::Simulation(id) => self.sim.text(id, text),
            Place::Reader(reader) => {
                self.sim.server.handle_text(self.sim.now(), self.readers[reader].connection, text);
            }
        }
    }

    fn binary(&mut self, place: Place, bytes: &[u8]) {
        match place {
            Place::Simulation(id) => self.sim.binary(id, bytes),
            Place::Reader(reader) => {
                self.sim.server.handle_binary(self.sim.now(), self.readers[reader].connection, bytes);
            }
        }
    }

    fn connect(&mut self, number: u64, room: &str) -> ConnectionId {
        let connection = ConnectionId(number);
        self.sim.server.handle_connect(self.sim.now(), connection, from_the_crowd(room));
        connection
    }

    fn open(&mut self, client: Option<Client>, room: &'static str) -> usize {
        let connection = self.connect(1_000_000 + self.readers.len() as u64, room);
        self.readers.push(Reader {
            connection,
            room,
            client,
            events: Vec::new(),
            texts: Vec::new(),
            closed: None,
            is_gone: false,
            opened: self.awake,
            reads_at: self.awake,
        });
        self.readers.len() - 1
    }

    /// Carries what a reader and the server have for each other.
    fn pump(&mut self, index: usize) {
        let now = self.sim.now();
        let elapsed = self.sim.elapsed();
        let is_silent = self.players.iter().any(|player| {
            matches!(player.place, Place::Reader(reader) if reader == index) && player.websocket_ends.is_some()
        });
        let server = &mut self.sim.server;
        let reader = &mut self.readers[index];
        if is_silent || (reader.is_gone && reader.client.is_none()) {
            return;
        }
        let mut most = if self.is_calm { usize::MAX } else { 0 };
        if reader.reads_at <= self.awake {
            most = most.max(self.rng.random_range(4..20));
            reader.reads_at = self.awake + MS * self.rng.random_range(0..900);
        }
        while most > 0 && !reader.is_gone {
            most -= 1;
            match server.poll_signal(reader.connection) {
                None => break,
                Some(Signal::Text(text)) => {
                    if let Some(client) = &mut reader.client {
                        client.handle_text(now, &text);
                    }
                    reader.texts.push(serde_json::from_str(&text).unwrap());
                }
                Some(Signal::Binary(bytes)) => reader.client.as_mut().unwrap().handle_binary(now, &bytes),
                Some(Signal::Ping(payload)) => server.handle_pong(now, reader.connection, &payload.to_be_bytes()),
                Some(Signal::Close { code, reason }) => {
                    reader.is_gone = true;
                    if let Some(client) = &mut reader.client {
                        client.handle_disconnect(now, code, &reason);
                    }
                    reader.closed = Some((code, reason));
                    server.handle_disconnect(now, reader.connection, Disconnect::Broken);
                }
            }
        }
        let Some(client) = &mut reader.client else { return };
        if client.poll_timeout().is_some_and(|at| at <= now) {
            client.handle_timeout(now);
        }
        reader.events.extend(std::iter::from_fn(|| client.poll_event()).map(|event| (elapsed, event)));
        while let Some(message) = client.poll_message() {
            match message {
                Message::Text(text) => server.handle_text(now, reader.connection, &text),
                Message::Binary(bytes) => server.handle_binary(now, reader.connection, &bytes),
                Message::Connect => {
                    if !std::mem::take(&mut reader.is_gone) {
                        server.handle_disconnect(now, reader.connection, Disconnect::Lost);
                    }
                    reader.connection.0 += 1_000_000_000;
                    reader.closed = None;
                    server.handle_connect(now, reader.connection, from_the_crowd(reader.room));
                }
                Message::Close => {
                    reader.is_gone = true;
                    server.handle_disconnect(now, reader.connection, Disconnect::Goodbye);
                }
            }
        }
        if matches!(client.status(), Status::Dropped | Status::Closed) && !std::mem::replace(&mut reader.is_gone, true)
        {
            server.handle_disconnect(now, reader.connection, Disconnect::Lost);
        }
    }

    /// Those of clients that have crashed.
    fn end_websockets(&mut self) {
        for player in 0..self.players.len() {
            if !matches!(self.players[player].websocket_ends, Some(Some(at)) if at <= self.awake) {
                continue;
            }
            let connections: Vec<ConnectionId> = match self.players[player].place {
                Place::Simulation(id) => self.sim[id].connections().collect(),
                Place::Reader(reader) => {
                    self.readers[reader].is_gone = true;
                    vec![self.readers[reader].connection]
                }
            };
            for connection in connections {
                self.sim.server.handle_disconnect(self.sim.now(), connection, Disconnect::Broken);
            }
        }
    }

    /// Compares the model with the server.
    fn check(&mut self) {
        let fault = self.book.borrow_mut().faults.pop();
        if let Some(fault) = fault {
            self.fault(&fault);
        }
        let errors = ERRORS.with_borrow(Vec::clone);
        let panics = self.book.borrow().panics;
        if errors.len() as u64 != panics || errors.iter().any(|error| !error.ends_with("its game failed")) {
            self.fault(&format!("{panics} games panicked, and the log has {errors:?}"));
        }
        for player in 0..self.players.len() {
            let place = self.players[player].place;
            let (events, texts, closed) = match place {
                Place::Simulation(id) => {
                    let end = &self.sim[id];
                    (&end.events, &end.texts, &end.closed)
                }
                Place::Reader(reader) => {
                    let end = &self.readers[reader];
                    (&end.events, &end.texts, &end.closed)
                }
            };
            let known = &mut self.players[player];
            let book = self.book.borrow();
            let checked = known
                .hear(player, &book, events, texts)
                .and_then(|()| known.check_closed(player, &book, closed.as_ref(), self.sim.elapsed()))
                .and_then(|()| known.check_settling(player, &book, self.awake));
            drop(book);
            self.replies_lost |= known.heard.was_away || (known.heard.closed && closed.is_none());
            if let Err(fault) = checked {
                self.fault(&format!("client {player}: {fault}"));
            }
        }
        self.check_rooms();
        self.check_counts();
    }

    fn check_rooms(&mut self) {
        let book = self.book.borrow();
        for (number, room) in book.rooms.iter().enumerate() {
            let awaited = |player: &Player| {
                let heard = &player.heard;
                let is_asking = heard.player.is_none() && !heard.refused && !heard.closed;
                player.room == room.name && (is_asking || heard.is_away)
            };
            if !room.is_there || !room.members.is_empty() || self.players.iter().any(awaited) {
                self.empty_since.remove(&number);
                continue;
            }
            let since = *self.empty_since.entry(number).or_insert(self.awake);
            if self.awake - since > limits::EMPTY_ROOM_LINGER + GRACE {
                self.fault(&format!("room {number} has been empty for {:?}", self.awake - since));
            }
        }
    }

    fn check_counts(&self) {
        let gauges = self.sim.server.gauges();
        let counters = self.sim.server.counters();
        let book = self.book.borrow();
        let rooms = book.rooms.iter().filter(|room| room.is_there).count();
        if gauges.rooms != rooms {
            self.fault(&format!("{} rooms are counted, there are {rooms}", gauges.rooms));
        }
        let (mut players, mut leaving) = (0, 0);
        for (&player, seat) in &book.seats {
            if seat.left.is_none() && book.rooms[seat.room].is_there {
                players += 1;
                leaving += usize::from(seat.is_away || !self.players[player].is_settled());
            }
        }
        if !(players - leaving..=players).contains(&gauges.players) {
            let counted = gauges.players;
            self.fault(&format!("{counted} players are counted, {players} are in, {leaving} about to go"));
        }
        if gauges.peers > gauges.players {
            self.fault(&format!("there are {} peers of {} players", gauges.peers, gauges.players));
        }
        let (mut least, mut most) = (0, 0);
        for player in &self.players {
            let (is_there, may_be) = match player.place {
                Place::Reader(_) => (false, false),
                Place::Simulation(id) => match (player.gone, player.websocket_ends) {
                    (_, Some(ends)) => {
                        let ended = ends.is_some_and(|at| at <= self.awake);
                        (false, !ended)
                    }
                    (Some(gone), None) => (false, player.flowing - gone <= player.one_way + 2 * STEP),
                    // Either end may have closed it, and then the other has yet to hear of it.
                    (None, None) if player.heard.closed => {
                        (false, self.sim[id].closed.is_none() || player.heard.was_away)
                    }
                    (None, None) => (!player.heard.is_away, true),
                },
            };
            least += usize::from(is_there);
            most += usize::from(may_be);
            // Those before the newest end as the server finds out.
            if let Place::Simulation(id) = player.place {
                most += self.sim[id].connections().count() - 1;
            }
        }
        let readers = self.readers.iter().filter(|reader| !reader.is_gone).count();
        if !(least + readers..=most + readers).contains(&gauges.connections) {
            let counted = gauges.connections;
            self.fault(&format!("{counted} connections are counted, there are {least} to {most}, and {readers}"));
        }
        if counters.failed_rooms != book.panics {
            self.fault(&format!("{} failed rooms are counted, there were {}", counters.failed_rooms, book.panics));
        }
        if counters.bad_frames > self.bad_frames {
            self.fault(&format!("{} bad frames are counted, {} were sent", counters.bad_frames, self.bad_frames));
        }
        let missed = book.missed_ticks;
        if counters.missed_ticks < missed || (counters.missed_ticks > missed && !book.missed_untold) {
            self.fault(&format!("{} missed ticks are counted, games were told of {missed}", counters.missed_ticks));
        }
        let idle = |reader: &Reader| {
            reader.client.is_none() && !reader.is_gone && self.awake - reader.opened > limits::JOIN_TIMEOUT + 2 * GRACE
        };
        if self.readers.iter().any(idle) {
            self.fault("a websocket on which nobody joins stays open");
        }
    }

    fn fault(&self, fault: &str) -> ! {
        panic!("at {:?}: {fault}", self.sim.elapsed());
    }
}

fn from_the_crowd(room: &str) -> Connect {
    Connect { room: RoomName::parse(room), remote: (CROWD, 40_000).into(), local: SERVER.ip(), headers: Vec::new() }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} of the model, ticks of {:?}:", self.seed, self.book.borrow().tick);
            for (at, transition) in &self.history {
                eprintln!("  {:9.3} s  {transition:?}", at.as_secs_f64());
            }
            eprintln!("MODEL_FIRST_SEED={} MODEL_SEEDS=1 cargo test --test it -- model::", self.seed);
        }
    }
}

impl Reader {
    fn refusals(&self) -> usize {
        self.texts.iter().filter(|text| text["s"] == false).count()
    }
}

impl Player {
    /// Nothing has happened that may have ended their session.
    fn is_settled(&self) -> bool {
        self.gone.is_none() && !self.may_be_bad && !self.may_be_flood && !self.heard.closed && !self.heard.refused
    }

    /// Since when something has been on its way over the websocket, in the simulation's time. Nobody waits for what a
    /// crash has cut off.
    fn waits_since(&self, sim: &Simulation<Witness>) -> Option<Duration> {
        match self.place {
            Place::Simulation(id) if self.websocket_ends.is_none() => sim[id].websocket_waits_since(),
            _ => None,
        }
    }

    fn is_held_up(&self, sim: &Simulation<Witness>) -> bool {
        self.waits_since(sim).is_some_and(|since| sim.elapsed() - since > self.one_way + STEP)
    }

    /// Checks what the client has heard since.
    fn hear(
        &mut self,
        client: usize,
        book: &Book,
        events: &[(Duration, Event)],
        texts: &[Value],
    ) -> Result<(), String> {
        let new = self.heard.texts..texts.len();
        self.heard.texts = texts.len();
        for text in &texts[new] {
            self.heard.refusals += u64::from(text["s"] == false);
            let is_join = text["a"] == "joinR" && text["s"] == true;
            if is_join || (text["a"] == "reconnectR" && text["s"] == true) {
                let sessions = text["d"]["sessions"].as_array().unwrap();
                let players =
                    sessions.iter().map(|session| u32::try_from(session["player"].as_u64().unwrap()).unwrap());
                self.heard.others = players.collect();
            }
            if is_join {
                self.heard.socket_id = text["d"]["socketId"].as_str().unwrap().to_owned();
                self.heard.tick = u32::try_from(text["d"]["tick"].as_u64().unwrap()).unwrap().checked_sub(1);
            }
            let relayed = match text["a"].as_str() {
                Some("eventExchangeSdp") => serde_json::from_str(text["d"]["sdp"].as_str().unwrap()).ok(),
                Some("eventExchangeCandidate") => Some(text["d"]["candidate"].clone()),
                Some("eventOrientationChange") => Some(text["d"]["orientation"].clone()),
                _ => None,
            };
            if let Some(relayed) = relayed {
                self.check_relayed(client, book, &relayed)?;
            }
            let player = || u32::try_from(text["d"]["player"].as_u64().unwrap()).unwrap();
            if text["a"] == "eventJoin" && !self.heard.others.insert(player()) {
                return Err(format!("is told twice of player {}", player()));
            }
            if text["a"] == "eventLeave" && !self.heard.others.remove(&player()) {
                return Err(format!("is told that player {} left, whom it did not know", player()));
            }
        }
        let new = self.heard.events..events.len();
        self.heard.events = events.len();
        for (_, event) in &events[new] {
            self.hear_event(client, book, event)?;
        }
        Ok(())
    }

    /// What is relayed stays in the room, and reaches whom it is for.
    fn check_relayed(&self, client: usize, book: &Book, relayed: &Value) -> Result<(), String> {
        let from = relayed["from"].as_u64().and_then(|from| usize::try_from(from).ok());
        let sender = from.filter(|&from| from != client).and_then(|from| book.seats.get(&from));
        let is_for_us = relayed["to"].as_u64().is_none_or(|to| to == client as u64);
        if is_for_us && sender.is_some_and(|sender| sender.room == book.seats[&client].room) {
            return Ok(());
        }
        Err(format!("was told {relayed}"))
    }

    fn hear_event(&mut self, client: usize, book: &Book, event: &Event) -> Result<(), String> {
        let heard = &mut self.heard;
        if heard.closed {
            return Err(format!("{event:?} came after the end"));
        }
        let is_of_room = matches!(event, Event::State { .. } | Event::Event { .. } | Event::Tick { .. });
        if is_of_room && heard.player.is_none() {
            return Err(format!("{event:?} came before the room let it in"));
        }
        match event {
            Event::Joined { player, welcome } => {
                let greeting: Greeting = serde_json::from_value(welcome.clone()).map_err(|error| error.to_string())?;
                let seat = book.seats.get(&client).ok_or("is let in by no game")?;
                if (greeting.client, greeting.room, *player) != (client, seat.room, seat.player) {
                    return Err(format!("is greeted as player {player} with {greeting:?}"));
                }
                if heard.player.replace(*player).is_some() || heard.refused || self.manner != Manner::Polite {
                    return Err("should not be in".to_owned());
                }
            }
            Event::Dropped => {
                self.is_excused |= self.may_be_bad || self.may_be_flood;
                (heard.is_away, heard.was_away) = (true, true);
            }
            Event::Resumed if !heard.is_away => return Err("is back, and was not away".to_owned()),
            Event::Resumed => heard.is_away = false,
            Event::Refused { code, .. } => {
                // Who has had a place is refused another.
                if (heard.player.is_some() && !heard.is_away) || heard.refused {
                    return Err(format!("is refused with {code} too late"));
                }
                heard.refused = true;
                let may_be = match code.as_str() {
                    "refused" if heard.is_away => book.seats.contains_key(&client),
                    "refused" => self.manner == Manner::Unwelcome || self.room == SHUT,
                    "room_full" => book.overfull,
                    "room_locked" => book.rooms.iter().any(|room| room.name == self.room && room.was_locked),
                    "internal" => book.panics > 0,
                    _ => false,
                };
                if !may_be {
                    return Err(format!("is refused with {code} for no reason"));
                }
            }
            Event::State { tick, value } => {
                let said = self.said(client, book, *tick, value)?;
                if self.heard.state.replace(*tick).is_some_and(|newest| newest >= *tick) {
                    return Err(format!("had the state {} of tick {tick} after a newer one", said.number));
                }
                self.heard.states += 1;
            }
            Event::Event { tick, value, reliable } => {
                let said = self.said(client, book, *tick, value)?;
                let seat = &book.seats[&client];
                if *reliable {
                    let expected = seat.reliable.get(self.heard.reliable);
                    self.heard.reliable += 1;
                    if expected != Some(&said.number) {
                        return Err(format!("had the reliable event {} instead of {expected:?}", said.number));
                    }
                } else if !seat.unreliable.contains(&said.number) {
                    return Err(format!("had the event {}, which is not for it", said.number));
                } else if !self.heard.unreliable.insert(said.number) {
                    return Err(format!("had the event {} twice", said.number));
                }
            }
            Event::Tick { tick, inputs } => {
                let room = book.seats[&client].room;
                if heard.tick.map_or(0, |newest| newest + 1) != *tick {
                    return Err(format!("had the inputs of tick {tick} after those of {:?}", heard.tick));
                }
                heard.tick = Some(*tick);
                let mut numbers = Vec::new();
                for input in inputs {
                    let sent: Sent = unseal(&input.value)?;
                    numbers.push((input.player, sent.number));
                    if input.number != sent.number {
                        return Err(format!("had input {} as {}", sent.number, input.number));
                    }
                }
                let expected = book.rooms[room].ticks.get(tick).cloned().unwrap_or_default();
                if numbers != expected {
                    return Err(format!("had the inputs {numbers:?} of tick {tick} instead of {expected:?}"));
                }
            }
            Event::TicksLost { count } => {
                let before = heard.tick.unwrap_or(0);
                let newest = book.rooms[book.seats[&client].room].ticks.last_key_value().map_or(0, |(&tick, _)| tick);
                heard.tick = Some(before + count);
                if book.tick * (newest - before - count) < limits::TICK_HISTORY - book.tick {
                    return Err(format!("lost {count} ticks after {before}, of {newest}: the room has them still"));
                }
            }
            Event::Closed { .. } => {
                heard.closed = true;
                heard.is_away = false;
            }
            _ => {}
        }
        Ok(())
    }

    /// What a state or an event says, if it is for this client.
    fn said(&self, client: usize, book: &Book, tick: u32, value: &[u8]) -> Result<Said, String> {
        let said: Said = unseal(value)?;
        let seat = &book.seats[&client];
        if said.room != seat.room || said.tick != tick || said.to.is_some_and(|player| player != seat.player) {
            return Err(format!("had what is not for it: {said:?} at tick {tick}"));
        }
        Ok(said)
    }

    /// Whether there was a reason for the server to close the websocket.
    fn check_closed(
        &self,
        client: usize,
        book: &Book,
        closed: Option<&(u16, String)>,
        elapsed: Duration,
    ) -> Result<(), String> {
        let Some((code, reason)) = closed else { return Ok(()) };
        let seat = book.seats.get(&client);
        let has_left = |reason| seat.is_some_and(|seat| seat.left == Some(reason));
        let may_be = match *code {
            code if code == CLOSE_REFUSED => self.heard.refused || self.gone.is_some(),
            code if code == Leave::Left.close_code() => self.gone.is_some(),
            code if code == Leave::Kicked.close_code() => has_left(Leave::Kicked),
            code if code == Leave::BadFrame.close_code() => self.may_be_bad,
            code if code == Leave::Flood.close_code() => self.may_be_flood,
            // The join was held up; where it is not, a missing reply is a fault much earlier.
            code if code == Leave::Timeout.close_code() && seat.is_none() => {
                elapsed - self.came >= limits::JOIN_TIMEOUT
            }
            // Its answers to pings were held up.
            code if code == Leave::Timeout.close_code() => {
                let silence = limits::HEARTBEAT_INTERVAL * u32::from(limits::HEARTBEATS_UNANSWERED);
                let is_slow = matches!(self.place, Place::Reader(_));
                is_slow || self.websocket_ends.is_some() || elapsed - self.came - self.flowing >= silence
            }
            code if code == Leave::RoomClosed.close_code() => seat.is_some_and(|seat| !book.rooms[seat.room].is_there),
            _ => false,
        };
        if may_be { Ok(()) } else { Err(format!("was closed with {code} ({reason}) for no reason")) }
    }

    /// Whether the client, the game and the model agree who is in, once they had the time.
    fn check_settling(&mut self, client: usize, book: &Book, awake: Duration) -> Result<(), String> {
        let is_slow = matches!(self.place, Place::Reader(_));
        let seat = book.seats.get(&client);
        let is_in_game = seat.is_some_and(|seat| seat.left.is_none() && book.rooms[seat.room].is_there);
        let ended = (self.heard.closed || self.gone.is_some())
            && self.websocket_ends.is_none_or(|ends| ends.is_some_and(|at| at <= awake));
        let is_asking = self.heard.player.is_none() && !self.heard.refused && !ended && self.gone.is_none();
        let is_costly = (self.may_be_bad || self.may_be_flood) && !self.is_excused;
        let what = if is_asking {
            "has no reply to its join"
        } else if ended && is_in_game {
            "is gone, and still in its room"
        } else if !ended && self.gone.is_none() && !is_in_game && self.heard.player.is_some() && !self.heard.is_away {
            "is out of its room, and not told"
        } else if is_costly && is_in_game {
            "sent what costs its place, and is still in"
        } else {
            self.unsettled = None;
            return Ok(());
        };
        let waited = self.flowing - *self.unsettled.get_or_insert(self.flowing);
        // Who could say no goodbye is waited for.
        let was_away = self.heard.was_away || seat.is_some_and(|seat| seat.was_away);
        let grace = if ended && was_away { SILENCE + AWAY } else { Duration::ZERO };
        let patience = grace + if is_slow { Duration::from_secs(8) } else { 2 * self.one_way + GRACE };
        if waited > patience { Err(format!("{what} for {waited:?}")) } else { Ok(()) }
    }
}

const BAD_REQUESTS: &[&str] = &[
    r#"{"a":"fly","i":7}"#,
    r#"{"a":"reconnect","d":{"socketId":"x"}}"#,
    r#"{"a":"exchangeSdp","d":{"to":"server","sdp":"v=0"}}"#,
    r#"{"a":"exchangeSdp","d":{"to":"somebody","sdp":"v=0"}}"#,
    r#"{"a":"exchangeSdp","d":{"to":5}}"#,
    r#"{"a":"exchangeCandidate","d":{"to":"somebody","candidate":{}}}"#,
    "{}",
    "[[[[",
    "not JSON",
    "",
];

/// Of those who have not joined yet; they are closed for it.
const BAD_JOINS: &[&str] =
    &[r#"{"a":"join","d":{"version":1}}"#, r#"{"a":"join","d":{"roomId":"no such/room"}}"#, r#"{"a":"join","d":5}"#];

const BAD_FRAMES: &[&[u8]] =
    &[&[0xff], &[], &[0x01, 0, 0, 0, 0, 0xc1], &[0x21, 0, 0, 0, 0, 0xff, 0xff], &[0x04, 0, 0, 0, 0, 0x90]];

/// Of somebody who is not there.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
    a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 \
    00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n";
