//! Transitions, applied to the model and to the server.

use std::time::Duration;

use rtcade::client::{self, Client, Status};
use rtcade::game::Leave;
use rtcade::rand::RngExt;
use rtcade::server::Disconnect;

use super::network::Weather;
use super::player::{Place, Player};
use super::reader::Reader;
use super::transition::{Transition, Whom};
use super::witness::{Manner, Nest, Order, Sealed, Sent, Ticket, Wish};
use super::world::{MS, World};

/// Commands of one client that are on their way at once: a websocket that was held up brings all in one tick.
const COMMANDS_UNDER_WAY: u32 = 8;

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
            Transition::Reach { player, server } => {
                self.reach(player, Some(server));
                // ICE takes a while to choose the other one.
                self.run(if self.has_two_addresses { Duration::from_secs(2) } else { Duration::ZERO });
            }
            Transition::StandStill { ms } => {
                self.has_stood_still = true;
                self.sim.stand_still(Duration::from_millis(ms));
            }
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
            Transition::BadFrame { player, number } => self.bad_frame(player, number),
            Transition::Misfit { player, input } => self.misfit(player, input),
            Transition::Nested { player, depth } => self.nested(player, depth),
            Transition::Largest { player, command } => self.largest(player, command),
            Transition::FloodOutside(stage) => self.flood_outside(stage),
            Transition::Replay { player, times } => self.replay_check(player, times),
            Transition::Hoard(player) => self.hoard(player),
            Transition::Flap(times) => self.flap(times),
            Transition::Riot => self.riot(),
            Transition::Stampede { addresses } => self.stampede(addresses),
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

    fn offer_again(&mut self, player: usize) {
        let request = serde_json::json!({"a": "exchangeSdp", "d": {"to": "server", "sdp": OFFER}});
        self.players[player].has_offered_again = true;
        self.text(self.players[player].place, &request.to_string());
    }

    pub(super) fn join(
        &mut self,
        room: &'static str,
        manner: Manner,
        weather: Weather,
        one_way: Duration,
        slow_reader: bool,
    ) {
        let ticket = serde_json::to_value(Ticket { client: self.players.len(), manner }).unwrap();
        let place = if slow_reader {
            let mut config = client::Config::new(self.rng.random());
            config.data = ticket;
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

    pub(super) fn crash(&mut self, player: usize, websocket_ends_after_ms: Option<u64>) {
        self.set_weather(player, Weather::Blackout { ms: u64::MAX / 2 });
        let now = self.sim.now();
        self.client(player).handle_disconnect(now, Leave::Left.close_code(), "crashed");
        let known = &mut self.players[player];
        known.gone = Some(known.flowing);
        self.replies_lost = true;
        known.websocket_ends = Some(websocket_ends_after_ms.map(|ms| self.awake + Duration::from_millis(ms)));
    }

    /// What is said on a websocket that is gone costs nothing.
    pub(super) fn excuse_the_absent(&mut self, player: usize) {
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
        let number = self.players[player].inputs;
        let seen = claim(number, self.players[player].heard.state.unwrap_or(0));
        let input = Sealed::new(Sent { client: player, number, seen, padding, nest });
        let now = self.sim.now();
        self.client(player).set_render_tick(seen);
        assert_eq!(self.client(player).send(now, &input).unwrap(), number);
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

    pub(super) fn may_command(&self, player: usize) -> bool {
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

/// The tick that a client claims to see with an input, when it has seen the state of `newest`.
fn claim(number: u32, newest: u32) -> Option<f64> {
    let newest = f64::from(newest);
    match number % 6 {
        0 => None,
        1 => Some(newest),
        2 => Some(newest - 3.1875),
        3 => Some(newest - 200.0),
        4 => Some(newest + 1_000.0),
        _ => Some(newest - 1_000_000.0),
    }
}

/// Of somebody who is not there.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\n\
    a=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 \
    00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n";
