//! Transitions that attack the server, over connections of players and of others.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rtcade::limits;
use rtcade::rand::RngExt;
use rtcade::server::{Connect, ConnectionId, Disconnect};
use rtcade::sim::SERVER;
use rtcade::wire::msgpack;
use rtcade::wire::signaling::RoomName;

use super::network::Weather;
use super::player::Place;
use super::transition::Stage;
use super::witness::{MOB, MUTE, Manner, Nest, Order, Sealed, Sent, Ticket, Wish, padded};
use super::world::{CROWD, MS, SILENCE, STEP, World};

/// The first connection of theirs.
const STRANGERS: u64 = 1 << 60;
/// How long a stampede lasts, and for how long each of its connections is there.
const STAMPEDE: Duration = Duration::from_secs(3);
const STAMPEDE_STEP: Duration = Duration::from_millis(4);
const STRANGER_STAYS: Duration = Duration::from_millis(200);
/// How much longer than otherwise a join may take in a stampede.
const STAMPEDE_WAIT: Duration = Duration::from_secs(1);
/// Rooms that others join meanwhile, one after the other.
const HONEST: [&str; 3] = ["ada", "bob", MUTE];
/// Joins of each of its addresses per second.
const JOINS_PER_ADDRESS: u32 = 12;

impl World {
    pub(super) fn misfit(&mut self, player: usize, input: bool) {
        self.players[player].may_be_bad = true;
        let now = self.sim.now();
        if input {
            // It may be lost, or come too late for its window.
            self.players[player].is_excused = true;
            self.players[player].inputs += 1;
            self.client(player).send(now, &"no input").unwrap();
        } else {
            self.client(player).command(now, &"no order").unwrap();
        }
    }

    /// Past the limit it is refused where it is sent, or costs the place.
    pub(super) fn nested(&mut self, player: usize, depth: usize) {
        if !self.players[player].is_settled() {
            return;
        }
        let known = &mut self.players[player];
        let nest = Nest::new(depth - Sent::DEPTH);
        let input =
            Sealed::new(Sent { client: player, number: known.inputs + 1, seen: None, padding: String::new(), nest });
        if depth > limits::MSGPACK_DEPTH {
            (known.may_be_bad, known.is_excused) = (true, true);
            self.bad_frames += 1;
        }
        let now = self.sim.now();
        let is_sent = self.client(player).send(now, &input).is_ok();
        assert!(is_sent || depth > limits::MSGPACK_DEPTH, "a depth of {depth} is refused");
        self.players[player].inputs += u32::from(is_sent);
    }

    pub(super) fn largest(&mut self, player: usize, command: bool) {
        let now = self.sim.now();
        let number = if command { self.players[player].commands } else { self.players[player].inputs } + 1;
        let limit =
            if command { limits::RELIABLE_UP_BYTES - limits::RELIABLE_HEADER_BYTES } else { limits::INPUT_BYTES };
        if !self.players[player].is_settled() || (command && !self.may_command(player)) {
            return;
        }
        for bytes in [limit + 1, limit] {
            let sent = if command {
                let order = padded(bytes, |padding| Order { client: player, number, wish: Wish::Nothing, padding });
                self.client(player).command(now, &order).is_ok()
            } else {
                let nest = Nest::default();
                let input =
                    padded(bytes, |padding| Sent { client: player, number, seen: None, padding, nest: nest.clone() });
                self.client(player).send(now, &input).is_ok()
            };
            assert_eq!(sent, bytes == limit, "{bytes} bytes, and {limit} may be sent");
        }
        let known = &mut self.players[player];
        if command { known.commands += 1 } else { known.inputs += 1 }
    }

    pub(super) fn flood_outside(&mut self, stage: Stage) {
        let reader = self.open(None, MOB);
        self.stormed = self.awake;
        let place = Place::Reader(reader);
        match stage {
            Stage::Arrived => {}
            Stage::Joining => {
                let ticket = Ticket { client: usize::MAX, manner: Manner::Unwelcome };
                self.text(place, &serde_json::json!({"a": "join", "d": {"data": ticket}}).to_string());
            }
            Stage::Closing => self.text(place, BAD_JOINS[0]),
        }
        (0..3 * limits::SIGNALS_PER_SECOND).for_each(|_| self.text(place, r#"{"a":"fly"}"#));
        (0..3 * limits::FRAMES_PER_SECOND).for_each(|_| self.binary(place, BAD_FRAMES[0]));
    }

    /// Leaves a connection unread and asks for what it may, has the server put out another player of the room, and closes
    /// the connection in the same turn. (How a queue overfills then is tested by itself: refusals are too short for it.)
    pub(super) fn hoard(&mut self, player: usize) {
        let Place::Reader(reader) = self.players[player].place else { return };
        let others = |&other: &usize| other != player && self.players[other].room == self.players[player].room;
        let Some(other) = self.members().into_iter().find(others) else { return };
        self.crash(player, None);
        (0..limits::SIGNALS_PER_SECOND / 2).for_each(|_| self.text(Place::Reader(reader), BAD_REQUESTS[0]));
        self.players[other].may_be_flood = true;
        self.excuse_the_absent(other);
        let flooding = match self.players[other].place {
            Place::Simulation(id) => self.sim[id].connection(),
            Place::Reader(reader) => self.readers[reader].connection,
        };
        let now = self.sim.now();
        for _ in 0..3 * limits::SIGNALS_PER_SECOND {
            self.sim.server.handle_text(now, flooding, BAD_REQUESTS[0]);
        }
        self.players[player].websocket_ends = Some(Some(self.awake));
        self.end_websockets();
    }

    /// Pongs that answer no ping don't keep a connection open that reads nothing.
    pub(super) fn pongs(&mut self, player: usize) {
        let Place::Reader(reader) = self.players[player].place else { return };
        let connection = self.readers[reader].connection;
        self.crash(player, None);
        let begun = self.awake;
        while self.awake - begun < SILENCE + limits::HEARTBEAT_INTERVAL + self.grace() {
            self.sim.server.handle_pong(self.sim.now(), connection, b"");
            self.run(STEP);
        }
        let book = self.book.borrow();
        let seat = &book.seats[&player];
        if seat.left.is_none() && !seat.is_away && book.rooms[seat.room].is_there {
            drop(book);
            self.fault(&format!("client {player} reads nothing, and pongs keep it in"));
        }
    }

    pub(super) fn bad_request(&mut self, player: Option<usize>, number: usize) {
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

    pub(super) fn flood(&mut self, player: usize, frames: bool) {
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

    pub(super) fn bad_frame(&mut self, player: usize, number: usize) {
        self.bad_frames += 1;
        self.players[player].may_be_bad = true;
        self.excuse_the_absent(player);
        self.binary(self.players[player].place, BAD_FRAMES[number % BAD_FRAMES.len()]);
    }

    /// Fills a room with players that read now and then.
    pub(super) fn gather(&mut self) {
        for _ in 0..CROWD {
            self.join("ada", Manner::Polite, Weather::Sound, MS, true);
        }
        self.run(Duration::from_secs(2));
    }

    /// Presence must cost by the changes, not by the players of the room.
    pub(super) fn flap(&mut self, times: usize) {
        for _ in 0..times {
            self.join("ada", Manner::Polite, Weather::Sound, MS, true);
            self.run(Duration::from_millis(500));
            self.leave(self.players.len() - 1);
            self.run(Duration::from_millis(500));
        }
    }

    pub(super) fn riot(&mut self) {
        for player in self.members() {
            if self.players[player].room == "ada" {
                self.misfit(player, false);
            }
        }
    }

    /// Joins come from many addresses for a while, each of which keeps to its own limit or nearly so. Other joins must be
    /// answered meanwhile.
    pub(super) fn stampede(&mut self, addresses: u8) {
        let ticket = Ticket { client: usize::MAX, manner: Manner::Unwelcome };
        let join = serde_json::json!({"a": "join", "d": {"data": ticket}}).to_string();
        let begun = self.awake;
        let mut there = VecDeque::new();
        let (mut asked, mut joined) = (0, 0);
        self.replies_lost = true;
        while self.awake - begun < STAMPEDE || !there.is_empty() {
            let passed = self.awake - begun;
            let due = u128::from(JOINS_PER_ADDRESS) * u128::from(addresses) * passed.as_millis() / 1_000;
            while passed < STAMPEDE && asked < due {
                let address = u8::try_from(asked % u128::from(addresses)).unwrap();
                let connection = self.ask_as_stranger(address, &join);
                there.push_back((self.awake, connection));
                asked += 1;
            }
            if joined < HONEST.len() && passed >= STAMPEDE * u32::try_from(joined + 1).unwrap() / 5 {
                let one_way = MS * self.rng.random_range(3..20);
                self.join(HONEST[joined], Manner::Polite, Weather::Sound, one_way, false);
                self.players.last_mut().unwrap().may_wait = STAMPEDE_WAIT;
                joined += 1;
            }
            self.run(STAMPEDE_STEP);
            while let Some(&(_, connection)) = there.front().filter(|(came, _)| self.awake - *came >= STRANGER_STAYS) {
                there.pop_front();
                self.strangers -= 1;
                self.sim.server.handle_disconnect(self.sim.now(), connection, Disconnect::Broken);
            }
        }
    }

    fn ask_as_stranger(&mut self, address: u8, join: &str) -> ConnectionId {
        let connection = ConnectionId(STRANGERS + self.strangers_met);
        let remote = SocketAddr::from(([10, 9, address, 1], 40_000));
        let connect = Connect::new(RoomName::parse(MOB), remote, SERVER.ip());
        let now = self.sim.now();
        self.sim.server.handle_connect(now, connection, connect);
        self.sim.server.handle_text(now, connection, join);
        self.strangers += 1;
        self.strangers_met += 1;
        self.stormed = self.awake;
        connection
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
