//! Transitions, applied to the model and to the server.

use std::time::Duration;

use rtcade::client::{self, Client, Status};
use rtcade::game::Leave;
use rtcade::limits;
use rtcade::rand::RngExt;
use rtcade::server::Disconnect;
use rtcade::wire::msgpack;

use super::network::Weather;
use super::player::{Place, Player};
use super::reader::Reader;
use super::transition::{Stage, Transition, Whom};
use super::witness::{Manner, Nest, Order, Sealed, Sent, Ticket, Wish, padded};
use super::world::{MS, SILENCE, STEP, World};

/// Commands of one client that are on their way at once: a websocket that was held up brings all in one tick.
const COMMANDS_UNDER_WAY: u32 = 8;

/// Arrays around an input in what a room fans out.
const FAN_OUT_DEPTH: usize = 3;

impl World {
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
            Transition::Lose(player) => self.lose(player),
            Transition::Crash { player, websocket_ends_after_ms } => self.crash(player, websocket_ends_after_ms),
            Transition::Inputs { player, count, every_ms } => {
                for _ in 0..count {
                    self.send_input(player);
                    self.run(Duration::from_millis(every_ms));
                }
            }
            Transition::Command { player, wish } => self.command(player, wish),
            Transition::Relay { from, to, whom } => self.relay(from, to, whom),
            Transition::OfferAgain(player) => self.offer_again(player),
            Transition::Weather { player, weather } => self.set_weather(player, weather),
            Transition::Rebind(player) => {
                if let Place::Simulation(id) = self.players[player].place {
                    self.sim.rebind(id);
                }
            }
            Transition::Reach { player, server } => self.reach(player, Some(server)),
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
            Transition::BadRequest { player, number } => self.bad_request(player, number),
            Transition::BadFrame { player, number } => {
                self.bad_frames += 1;
                self.players[player].may_be_bad = true;
                self.excuse_the_absent(player);
                self.binary(self.players[player].place, BAD_FRAMES[number % BAD_FRAMES.len()]);
            }
            Transition::Misfit { player, input } => self.misfit(player, input),
            Transition::Nested { player, depth } => self.nested(player, depth),
            Transition::Largest { player, command } => self.largest(player, command),
            Transition::FloodOutside(stage) => self.flood_outside(stage),
            Transition::Replay { player, times } => self.replay_check(player, times),
            Transition::Hoard(player) => self.hoard(player),
            Transition::Pongs(player) => self.pongs(player),
            Transition::Flood { player, frames } => self.flood(player, frames),
        }
        self.check();
    }

    fn lose(&mut self, player: usize) {
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

    fn misfit(&mut self, player: usize, input: bool) {
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

    /// Past the limit it is refused where it is sent, or costs the place. What is fanned out nests deeper than what was
    /// sent, so a limit below [`limits::MSGPACK_DEPTH`] is right as well.
    fn nested(&mut self, player: usize, depth: usize) {
        if !self.players[player].is_settled() {
            return;
        }
        let known = &mut self.players[player];
        let nest = Nest::new(depth - Sent::DEPTH);
        let input = Sealed::new(Sent { client: player, number: known.inputs + 1, padding: String::new(), nest });
        if depth > limits::MSGPACK_DEPTH - FAN_OUT_DEPTH {
            (known.may_be_bad, known.is_excused) = (true, true);
            self.bad_frames += 1;
        }
        let now = self.sim.now();
        let is_sent = self.client(player).send(now, &input).is_ok();
        assert!(is_sent || depth > limits::MSGPACK_DEPTH - FAN_OUT_DEPTH, "a depth of {depth} is refused");
        self.players[player].inputs += u32::from(is_sent);
    }

    fn largest(&mut self, player: usize, command: bool) {
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
                let input = padded(bytes, |padding| Sent { client: player, number, padding, nest: nest.clone() });
                self.client(player).send(now, &input).is_ok()
            };
            assert_eq!(sent, bytes == limit, "{bytes} bytes, and {limit} may be sent");
        }
        let known = &mut self.players[player];
        if command { known.commands += 1 } else { known.inputs += 1 }
    }

    fn flood_outside(&mut self, stage: Stage) {
        let reader = self.open(None, "ada");
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

    /// Fills the queue of a player that reads no more, has another put out, of which they would be told, and ends their
    /// connection.
    fn hoard(&mut self, player: usize) {
        let Place::Reader(reader) = self.players[player].place else { return };
        let connection = self.readers[reader].connection;
        let others = |&other: &usize| other != player && self.players[other].room == self.players[player].room;
        let Some(other) = self.members().into_iter().find(others) else { return };
        self.crash(player, None);
        let long = format!(r#"{{"a":"exchangeSdp","d":"{}"}}"#, "x".repeat(limits::RELIABLE_UP_BYTES - 100));
        for request in [long.as_str(), BAD_REQUESTS[0]] {
            loop {
                let before = self.sim.server.queued_bytes(connection);
                self.text(Place::Reader(reader), request);
                let after = self.sim.server.queued_bytes(connection);
                // It is full or gone, or the next reply would fill it.
                if after <= before || 2 * after - before > limits::RELIABLE_QUEUE_BYTES {
                    break;
                }
                if request.len() > 1_000 {
                    self.run(STEP);
                }
            }
        }
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

    /// A player that reads nothing is put out, whatever their websocket sends by itself.
    fn pongs(&mut self, player: usize) {
        let Place::Reader(reader) = self.players[player].place else { return };
        let connection = self.readers[reader].connection;
        self.crash(player, None);
        let begun = self.awake;
        while self.awake - begun < SILENCE + limits::HEARTBEAT_INTERVAL + self.grace() {
            self.sim.server.handle_pong(self.sim.now(), connection);
            self.run(STEP);
        }
        let book = self.book.borrow();
        let seat = &book.seats[&player];
        if seat.left.is_none() && !seat.is_away && book.rooms[seat.room].is_there {
            drop(book);
            self.fault(&format!("client {player} reads nothing, and pongs keep it in"));
        }
    }

    fn offer_again(&mut self, player: usize) {
        let request = serde_json::json!({"a": "exchangeSdp", "d": {"to": "server", "sdp": OFFER}});
        self.players[player].has_offered_again = true;
        self.text(self.players[player].place, &request.to_string());
    }

    fn bad_request(&mut self, player: Option<usize>, number: usize) {
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

    fn flood(&mut self, player: usize, frames: bool) {
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
        let one_way = if slow_reader { Duration::ZERO } else { one_way };
        let mut player = Player::new(place, room, manner, one_way, self.sim.elapsed());
        player.weather = weather;
        self.players.push(player);
    }

    pub(super) fn leave(&mut self, player: usize) {
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

    pub(super) fn send_input(&mut self, player: usize) {
        if !self.players[player].is_settled() {
            return;
        }
        let padding = "x".repeat(self.rng.random_range(0..60));
        self.players[player].inputs += 1;
        let nest = Nest::default();
        let input = Sealed::new(Sent { client: player, number: self.players[player].inputs, padding, nest });
        let now = self.sim.now();
        let number = self.client(player).send(now, &input).unwrap();
        assert_eq!(number, self.players[player].inputs);
    }

    pub(super) fn command(&mut self, player: usize, wish: Wish) {
        let now = self.sim.now();
        if !self.may_command(player) {
            return;
        }
        let known = &mut self.players[player];
        known.commands += 1;
        let order = Sealed::new(Order { client: player, number: known.commands, wish, padding: String::new() });
        self.client(player).command(now, &order).unwrap();
    }

    fn may_command(&self, player: usize) -> bool {
        self.players[player].commands - self.book.borrow().seats[&player].commands < COMMANDS_UNDER_WAY
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
