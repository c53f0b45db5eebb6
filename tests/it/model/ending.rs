//! Checks after the faults have stopped, and after all players have left.

use std::collections::BTreeMap;

use rtcade::client::{Client, Status};
use rtcade::limits;
use rtcade::server::{ConnectionId, Disconnect, Gauges};

use super::player::{Place, Player};
use super::reader::Reader;
use super::witness::{Output, Seat, Wish};
use super::world::{AWAY, SILENCE, World};

/// Inputs that each sends in the end, at once: all of them must be heard.
const LAST_INPUTS: u32 = 4;

impl World {
    /// Everybody who is in gets states and events, and their inputs and commands reach the game.
    pub(super) fn expect_liveness(&mut self) {
        self.let_the_absent_go();
        let members = self.members();
        let inputs: Vec<u32> = members.iter().map(|player| self.book.borrow().seats[player].inputs).collect();
        for &player in &members {
            (0..LAST_INPUTS).for_each(|_| self.send_input(player));
            self.command(player, Wish::Nothing);
            self.players[player].heard.states = 0;
        }
        let half = self.grace();
        self.run(half);
        let reliable: Vec<usize> =
            members.iter().map(|player| self.book.borrow().seats[player].reliable.len()).collect();
        self.run(half);
        assert_eq!(self.members(), members, "nobody goes while nothing happens");
        for ((&player, least_reliable), inputs) in members.iter().zip(reliable).zip(inputs) {
            self.expect_player_lives(player, least_reliable, inputs);
        }
        let is_open = |&&player: &&usize| {
            let Player { place, has_offered_again, .. } = self.players[player];
            !has_offered_again && matches!(place, Place::Simulation(id) if self.sim[id].client.is_open())
        };
        let open = members.iter().filter(is_open).count();
        let peers = self.sim.server.gauges().peers;
        if peers < open {
            self.fault(&format!("there are {peers} peers, and {open} open channels"));
        }
        self.expect_places_to_wait();
    }

    fn expect_player_lives(&self, player: usize, least_reliable: usize, inputs: u32) {
        let (book, known) = (self.book.borrow(), &self.players[player]);
        let seat = &book.seats[&player];
        let is_heard = seat.newest_input == known.inputs && seat.inputs >= inputs + LAST_INPUTS;
        if !is_heard || seat.commands != known.commands {
            let counts = (seat.newest_input, known.inputs, seat.inputs - inputs, seat.commands, known.commands);
            self.fault(&format!("client {player} is not heard: {counts:?}"));
        }
        // A path that was congested gets every fourth state for a while.
        let every = Output::of(known.room).every;
        let time = 2 * book.grace();
        let said = time.as_nanos().checked_div(book.tick.as_nanos() * u128::from(every)).unwrap_or(0);
        let states = known.heard.states;
        if u128::from(states) < said / 5 {
            self.fault(&format!("client {player} had {states} states of some {said} in {time:?}"));
        }
        if known.heard.reliable < least_reliable {
            let missing = least_reliable - known.heard.reliable;
            self.fault(&format!("client {player} misses {missing} reliable events"));
        }
        let members = book.rooms[seat.room].members.iter();
        let others: BTreeMap<u32, String> =
            members.map(|(&player, client)| (player, book.seats[client].name.clone())).collect();
        if known.heard.others != others {
            self.fault(&format!("client {player} knows of {:?}, and {others:?} are in", known.heard.others));
        }
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
        self.run(2 * self.grace());
        self.let_the_absent_go();
        let Gauges { players, peers, .. } = self.sim.server.gauges();
        if (players, peers) != (0, 0) {
            self.fault(&format!("all have left, and there are {players} players and {peers} peers"));
        }
        // Those who knocked are closed when they have not joined, and rooms when they have been empty.
        self.run(limits::JOIN_TIMEOUT.max(limits::EMPTY_ROOM_LINGER) + self.grace());
        let Gauges { connections, rooms, .. } = self.sim.server.gauges();
        if (connections, rooms) != (0, 0) {
            self.fault(&format!("all have left, and there are {connections} connections and {rooms} rooms"));
        }
        if self.sim.server.poll_timeout().is_some() {
            self.fault("nothing is left, and the server waits for something");
        }
        self.expect_all_have_left();
        let refusals: u64 = self.players.iter().map(|player| player.heard.refusals).sum();
        let nobodys: usize = self.readers.iter().filter(|reader| reader.client.is_none()).map(Reader::refusals).sum();
        let counted = self.sim.server.counters().refused_requests;
        let heard = refusals + nobodys as u64;
        if heard > counted || (heard < counted && !self.replies_lost) {
            self.fault(&format!("{counted} refusals were counted, and {heard} heard"));
        }
        self.expect_places_to_wait();
    }

    /// The server stops in the middle of the run: every game is told at once of each of its players that
    /// they leave, because the process may end next.
    pub(super) fn shut_down(&mut self) {
        self.has_stopped = true;
        self.sim.server.handle_shutdown(self.sim.now());
        self.expect_all_have_left();
        let Gauges { players, peers, .. } = self.sim.server.gauges();
        if (players, peers) != (0, 0) {
            self.fault(&format!("the server has stopped with {players} players and {peers} peers"));
        }
    }

    /// Each that joined has left, unless their room's game has failed. No game is told twice, see the game.
    fn expect_all_have_left(&self) {
        let book = self.book.borrow();
        if let Some(fault) = book.faults.first() {
            self.fault(fault);
        }
        for (client, seat) in &book.seats {
            if seat.left.is_none() && !book.rooms[seat.room].has_failed {
                self.fault(&format!("client {client} is gone, and the game of room {} was not told", seat.room));
            }
        }
    }

    /// What was recorded says the same again.
    pub(super) fn expect_replays(&self) {
        let tick = self.book.borrow().tick;
        self.recordings.check(tick, self.has_stopped).unwrap_or_else(|fault| self.fault(&fault));
    }

    /// Those who crash are away before they leave, and may take a room along; its players learn that there is no place
    /// for them any more.
    fn let_the_absent_go(&mut self) {
        let begun = self.sim.elapsed();
        while self.is_somebody_away() {
            if self.sim.elapsed() - begun > SILENCE + 3 * AWAY + self.grace() {
                self.fault("somebody is away, and neither comes back nor leaves");
            }
            self.run(self.grace());
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
}
