//! Checks of the server against the model that must hold at any time.

use std::time::Duration;

use rtcade::limits;

use super::ERRORS;
use super::network::Weather;
use super::player::{Place, Player};
use super::reader::Reader;
use super::witness::{FAN, MOB, Output, WORDY};
use super::world::{STEP, World};

/// How long there may be no new state while a websocket is sound.
const STALE: Duration = Duration::from_secs(2);
/// The same of ticks that are fanned out: those that are missing are asked for again after a second.
const TICKS_STALE: Duration = Duration::from_secs(3);

impl World {
    /// Compares the model with the server.
    pub(super) fn check(&mut self) {
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
            if let Place::Reader(reader) = place {
                known.previous_read = Some(self.readers[reader].previous_read);
            }
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
        self.check_bounds();
        self.check_connections();
    }

    /// Over a sound websocket states come every now and then, and all ticks that are fanned out, whatever becomes of
    /// datagrams.
    pub(super) fn check_freshness(&mut self, step: Duration) {
        let book = self.book.borrow();
        let mut fault = None;
        for (number, player) in self.players.iter_mut().enumerate() {
            let every = Output::of(player.room).every;
            let is_owed = player.is_owed_states(number, &book) && player.held_up != self.awake;
            let states = player.states.note(player.heard.state, is_owed && every > 0, step);
            let ticks = player.ticks.note(player.heard.tick, is_owed && player.room == FAN, step);
            // A congested path gets every fourth state: so late may the first be that is not delivered, from which the
            // silence counts, and so late again the one that takes the websocket. On the slow path, where an
            // address changes all the time, it counts anew from the proof of one, which comes before the next change.
            let round_trip = 2 * player.one_way;
            let rebinding = match player.weather {
                Weather::Rebinding { every_ms: every_ms @ ..1_000 } if self.takes_slow_path => {
                    Duration::from_millis(every_ms)
                }
                _ => Duration::ZERO,
            };
            let is_stale = states > STALE + round_trip + rebinding + 8 * every * book.tick;
            if is_stale || ticks > TICKS_STALE + round_trip + 4 * book.tick {
                let Player { room, weather, reaches, .. } = player;
                let stale =
                    format!("client {number} of room {room} has had no state for {states:?}, no tick for {ticks:?}");
                fault = Some(format!("{stale}, and its websocket is sound: {weather:?}, reaches {reaches:?}"));
            }
        }
        drop(book);
        if let Some(fault) = fault {
            self.fault(&fault);
        }
    }

    /// Of what the server keeps and sends for strangers.
    fn check_bounds(&self) {
        let (stray, injected) = (self.sim.stray_bytes(), self.injected_bytes);
        if stray > limits::UNPROVEN_AMPLIFICATION * injected {
            self.fault(&format!("{stray} bytes were sent to addresses from which {injected} had come"));
        }
        for reader in &self.readers {
            let [states, smaller] = reader.states;
            // What goes to one player alone is never deflated.
            if reader.room == WORDY && states > 60 && smaller < states / 2 {
                self.fault(&format!(
                    "of {states} states of room {}, all of which compress, {smaller} did",
                    reader.room
                ));
            }
            if reader.is_unreadable {
                self.fault(&format!("{:?} was sent inputs that nest too deep for it", reader.connection));
            }
            let queued = self.sim.server.queued_bytes(reader.connection);
            if queued > limits::RELIABLE_QUEUE_BYTES {
                self.fault(&format!("{queued} bytes wait for {:?}", reader.connection));
            }
        }
    }

    fn check_rooms(&mut self) {
        let book = self.book.borrow();
        for (number, room) in book.rooms.iter().enumerate() {
            let awaited = |player: &Player| {
                let heard = &player.heard;
                let is_asking = heard.player.is_none() && !heard.refused && !heard.closed;
                player.room == room.name && (is_asking || heard.is_away)
            };
            let is_stormed = room.name == MOB && self.awake < self.stormed + self.grace();
            if !room.is_there || !room.members.is_empty() || is_stormed || self.players.iter().any(awaited) {
                self.empty_since.remove(&number);
                continue;
            }
            let since = *self.empty_since.entry(number).or_insert(self.awake);
            if self.awake - since > limits::EMPTY_ROOM_LINGER + self.grace() {
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
        if counters.failed_rooms != book.panics {
            self.fault(&format!("{} failed rooms are counted, there were {}", counters.failed_rooms, book.panics));
        }
        if counters.bad_frames > self.bad_frames {
            self.fault(&format!("{} bad frames are counted, {} were sent", counters.bad_frames, self.bad_frames));
        }
        let missed = book.missed_ticks;
        if missed > 0 && !self.has_stood_still {
            self.fault(&format!("{missed} ticks were missed, and nothing stood still"));
        }
        if counters.missed_ticks < missed || (counters.missed_ticks > missed && !book.missed_untold) {
            self.fault(&format!("{} missed ticks are counted, games were told of {missed}", counters.missed_ticks));
        }
    }

    fn check_connections(&self) {
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
                    // It may have been told to come again.
                    (None, None) if player.heard.player.is_none() && player.may_wait > Duration::ZERO => (false, true),
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
        let readers = self.readers.iter().filter(|reader| !reader.is_gone).count() + self.strangers;
        let counted = self.sim.server.gauges().connections;
        if !(least + readers..=most + readers).contains(&counted) {
            self.fault(&format!("{counted} connections are counted, there are {least} to {most}, and {readers}"));
        }
        let idle = |reader: &Reader| {
            reader.client.is_none()
                && !reader.is_gone
                && self.awake - reader.opened > limits::JOIN_TIMEOUT + 2 * self.grace()
        };
        if self.readers.iter().any(idle) {
            self.fault("a websocket on which nobody joins stays open");
        }
    }
}
