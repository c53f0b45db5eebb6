//! The model's state of a player, and what the player's client may receive.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rtcade::client::{Event, FannedOut};
use rtcade::game::Leave;
use rtcade::limits;
use rtcade::sim::{ClientId, Simulation};
use rtcade::wire::codes::CLOSE_REFUSED;
use serde_json::Value;

use super::network::Weather;
use super::witness::{Book, Greeting, Manner, Output, SHUT, Said, Seat, Sent, Witness, unseal};
use super::world::{AWAY, SILENCE, STEP};

/// Bytes of presence that a player may be told, and those on top for each that comes or goes.
const PRESENCE_BYTES: usize = 8 * 1_024;
const CHANGE_BYTES: usize = 1_024;

/// How old something unreliable may be when it arrives.
const AGE: Duration = Duration::from_secs(2);

/// Where a player's client is.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Simulation(ClientId),
    /// Among [`World::readers`](super::world::World::readers).
    Reader(usize),
}

/// What the model knows of a player. Times are of [`Player::flowing`] where nothing else is said.
pub(super) struct Player {
    pub(super) place: Place,
    pub(super) room: &'static str,
    pub(super) manner: Manner,
    pub(super) one_way: Duration,
    /// When they came, in the simulation's time.
    pub(super) came: Duration,
    /// How long their websocket has not been held up: nothing was on its way for longer than a sound network takes. So
    /// each message counts for no more than that, however often TCP had to send it again.
    pub(super) flowing: Duration,
    /// When something was last held up on their websocket, in [`World::awake`](super::world::World::awake).
    pub(super) held_up: Duration,
    pub(super) weather: Weather,
    /// The one address of the server that they reach, where they don't reach both.
    pub(super) reaches: Option<u16>,
    pub(super) states: Freshness,
    pub(super) ticks: Freshness,
    /// When they read the last time before this, in [`World::awake`](super::world::World::awake), where they read only
    /// now and then.
    pub(super) previous_read: Option<Duration>,
    /// How much longer than others they may wait for the reply to their join.
    pub(super) may_wait: Duration,
    pub(super) inputs: u32,
    pub(super) commands: u32,
    pub(super) may_be_flood: bool,
    pub(super) may_be_bad: bool,
    /// What costs their place may have been lost with a websocket.
    pub(super) is_excused: bool,
    pub(super) has_offered_again: bool,
    /// When they last asked for what must be refused.
    pub(super) asked: Option<Duration>,
    /// When they left or crashed.
    pub(super) gone: Option<Duration>,
    /// They crashed, and their websocket ends at that time of the world, if it does.
    pub(super) websocket_ends: Option<Option<Duration>>,
    /// Since when the model sees something that must pass.
    pub(super) unsettled: Option<Duration>,
    pub(super) heard: Heard,
}

/// The newest that came of a kind, and for how long nothing newer has come though it was due.
#[derive(Default)]
pub(super) struct Freshness {
    newest: Option<u32>,
    stale: Duration,
}

impl Freshness {
    /// For how long nothing newer has come.
    pub(super) fn note(&mut self, newest: Option<u32>, is_due: bool, step: Duration) -> Duration {
        let is_new = std::mem::replace(&mut self.newest, newest) != newest;
        self.stale = if is_new || !is_due { Duration::ZERO } else { self.stale + step };
        self.stale
    }
}

/// What a player's client has said so far.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) socket_id: String,
    pub(super) events: usize,
    pub(super) texts: usize,
    pub(super) player: Option<u32>,
    pub(super) refused: bool,
    pub(super) closed: bool,
    pub(super) is_away: bool,
    pub(super) was_away: bool,
    pub(super) state: Option<u32>,
    pub(super) states: u32,
    pub(super) tick: Option<u32>,
    pub(super) reliable: usize,
    pub(super) unreliable: BTreeSet<u64>,
    /// Everybody in the room, by number and name.
    pub(super) others: BTreeMap<u32, String>,
    pub(super) refusals: u64,
    /// Bytes of presence, and how many have come and gone.
    presence_bytes: usize,
    changes: usize,
}

impl Player {
    pub(super) fn new(place: Place, room: &'static str, manner: Manner, one_way: Duration, came: Duration) -> Player {
        Player {
            place,
            room,
            manner,
            one_way,
            came,
            flowing: Duration::ZERO,
            held_up: Duration::ZERO,
            weather: Weather::Sound,
            reaches: None,
            states: Freshness::default(),
            ticks: Freshness::default(),
            previous_read: None,
            may_wait: Duration::ZERO,
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
        }
    }

    /// Nothing has happened that may have ended their session.
    pub(super) fn is_settled(&self) -> bool {
        self.gone.is_none() && !self.may_be_bad && !self.may_be_flood && !self.heard.closed && !self.heard.refused
    }

    /// The game sends them states, and nothing but the network can be in the way.
    pub(super) fn is_owed_states(&self, client: usize, book: &Book) -> bool {
        let is_here = |seat: &Seat| seat.left.is_none() && !seat.is_away && book.rooms[seat.room].is_there;
        // Of a large state no datagram passes where only small ones do.
        let passes = !matches!(self.weather, Weather::Mtu(_));
        matches!(self.place, Place::Simulation(_))
            && self.is_settled()
            && self.heard.player.is_some()
            && !self.heard.is_away
            && passes
            && book.seats.get(&client).is_some_and(is_here)
    }

    /// Since when something has been on its way over the websocket, in the simulation's time. Nobody waits for what a
    /// crash has cut off.
    pub(super) fn waits_since(&self, sim: &Simulation<Witness>) -> Option<Duration> {
        match self.place {
            Place::Simulation(id) if self.websocket_ends.is_none() => sim[id].websocket_waits_since(),
            _ => None,
        }
    }

    pub(super) fn is_held_up(&self, sim: &Simulation<Witness>) -> bool {
        self.waits_since(sim).is_some_and(|since| sim.elapsed() - since > self.one_way + STEP)
    }

    /// Checks what the client has heard since.
    pub(super) fn hear(
        &mut self,
        client: usize,
        book: &Book,
        events: &[(Duration, Event)],
        texts: &[Value],
    ) -> Result<(), String> {
        let new = self.heard.texts..texts.len();
        self.heard.texts = texts.len();
        for text in &texts[new] {
            self.hear_text(client, book, text)?;
        }
        let new = self.heard.events..events.len();
        self.heard.events = events.len();
        for (_, event) in &events[new] {
            self.hear_event(client, book, event)?;
        }
        Ok(())
    }

    fn hear_text(&mut self, client: usize, book: &Book, text: &Value) -> Result<(), String> {
        self.heard.refusals += u64::from(text["s"] == false);
        let is_join = text["a"] == "joinR" && text["s"] == true;
        if is_join || (text["a"] == "reconnectR" && text["s"] == true) {
            self.heard.others = text["d"]["sessions"].as_array().unwrap().iter().map(named).collect();
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
        self.check_presence(text)?;
        let action = text["a"].as_str().filter(|action| ["eventJoin", "eventRename", "eventLeave"].contains(action));
        let Some(action) = action else { return Ok(()) };
        let (player, name) = named(&text["d"]);
        let known = if action == "eventLeave" {
            self.heard.others.remove(&player)
        } else {
            self.heard.others.insert(player, name.clone())
        };
        if known.is_some() == (action == "eventJoin") || (action == "eventRename" && known.as_ref() == Some(&name)) {
            return Err(format!("is told {action} of player {player}, {name}, whom it knew as {known:?}"));
        }
        Ok(())
    }

    /// What others cost who come and go grows with their number, not with that of the players of the room.
    fn check_presence(&mut self, text: &Value) -> Result<(), String> {
        let heard = &mut self.heard;
        match text["a"].as_str() {
            Some("eventJoin" | "eventRename" | "eventLeave") => heard.changes += 1,
            Some("eventRoomUsers") => {}
            _ => return Ok(()),
        }
        heard.presence_bytes += text.to_string().len();
        if heard.presence_bytes > PRESENCE_BYTES + heard.changes * CHANGE_BYTES {
            return Err(format!("had {} bytes of presence, of {} changes", heard.presence_bytes, heard.changes));
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
            Event::Joined { player, welcome } => return self.hear_joined(client, book, *player, welcome),
            Event::Dropped => {
                self.is_excused |= self.may_be_bad || self.may_be_flood;
                (heard.is_away, heard.was_away) = (true, true);
            }
            Event::Resumed if !heard.is_away => return Err("is back, and was not away".to_owned()),
            Event::Resumed => heard.is_away = false,
            Event::Refused { code, .. } => return self.hear_refused(client, book, code),
            Event::State { tick, consumed, value } => {
                self.check_age(client, book, *tick)?;
                self.check_consumed(client, book, *tick, *consumed)?;
                return self.hear_state(client, book, *tick, value);
            }
            Event::Event { tick, value, reliable } => {
                let said = self.said(client, book, *tick, value)?;
                if !reliable {
                    self.check_age(client, book, *tick)?;
                }
                return self.hear_said(&book.seats[&client], &said, *reliable);
            }
            Event::Tick { tick, inputs } => return self.hear_tick(client, book, *tick, inputs),
            Event::TicksLost { count } => return self.hear_ticks_lost(client, book, *count),
            Event::Closed { .. } => {
                heard.closed = true;
                heard.is_away = false;
            }
            _ => {}
        }
        Ok(())
    }

    fn hear_joined(&mut self, client: usize, book: &Book, player: u32, welcome: &Value) -> Result<(), String> {
        let greeting: Greeting = serde_json::from_value(welcome.clone()).map_err(|error| error.to_string())?;
        let seat = book.seats.get(&client).ok_or("is let in by no game")?;
        if (greeting.client, greeting.room, player) != (client, book.rooms[seat.room].id, seat.player) {
            return Err(format!("is greeted as player {player} with {greeting:?}"));
        }
        if self.heard.player.replace(player).is_some() || self.heard.refused || self.manner != Manner::Polite {
            return Err("should not be in".to_owned());
        }
        Ok(())
    }

    fn hear_refused(&mut self, client: usize, book: &Book, code: &str) -> Result<(), String> {
        let heard = &mut self.heard;
        // Who has had a place is refused another.
        if (heard.player.is_some() && !heard.is_away) || heard.refused {
            return Err(format!("is refused with {code} too late"));
        }
        heard.refused = true;
        let may_be = match code {
            "refused" if heard.is_away => book.seats.contains_key(&client),
            "refused" => self.manner == Manner::Unwelcome || self.room == SHUT,
            "room_full" => book.overfull,
            "room_locked" => book.rooms.iter().any(|room| room.name == self.room && room.was_locked),
            "internal" => book.panics > 0,
            _ => false,
        };
        if may_be { Ok(()) } else { Err(format!("is refused with {code} for no reason")) }
    }

    fn hear_state(&mut self, client: usize, book: &Book, tick: u32, value: &[u8]) -> Result<(), String> {
        let said = self.said(client, book, tick, value)?;
        if self.heard.state.replace(tick).is_some_and(|newest| newest >= tick) {
            return Err(format!("had the state {} of tick {tick} after a newer one", said.number));
        }
        let every = Output::of(self.room).every;
        let mut newer = book.rooms[book.seats[&client].room].ran.range(tick + every..);
        let next = newer.find(|(newer, _)| newer.is_multiple_of(every));
        // Of a state in several parts some may have been read before.
        if let Some((newer, _)) = next.filter(|&(_, &ran)| self.previous_read.is_some_and(|read| ran < read)) {
            return Err(format!("reads the state of tick {tick}, and there was one of tick {newer} when it read last"));
        }
        self.heard.states += 1;
        Ok(())
    }

    /// A state names the inputs that it reflects, also where it has waited for a slow websocket.
    fn check_consumed(&self, client: usize, book: &Book, tick: u32, consumed: u32) -> Result<(), String> {
        let seat = &book.seats[&client];
        let had = book.rooms[seat.room].consumed.get(&(tick, seat.player));
        if had == Some(&consumed) {
            return Ok(());
        }
        Err(format!("had a state of tick {tick} that reflects its inputs up to {consumed}, and the game {had:?}"))
    }

    /// What is unreliable is dropped rather than late. What TCP holds up is out of the server's hands.
    fn check_age(&self, client: usize, book: &Book, tick: u32) -> Result<(), String> {
        let ran = book.rooms[book.seats[&client].room].ran[&tick];
        let age = book.now - ran;
        if age > AGE && self.held_up < ran {
            return Err(format!("had something unreliable of tick {tick}, which is {age:?} old"));
        }
        Ok(())
    }

    fn hear_said(&mut self, seat: &Seat, said: &Said, reliable: bool) -> Result<(), String> {
        if reliable {
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
        Ok(())
    }

    fn hear_tick(&mut self, client: usize, book: &Book, tick: u32, inputs: &[FannedOut]) -> Result<(), String> {
        let heard = &mut self.heard;
        if heard.tick.map_or(0, |newest| newest + 1) != tick {
            return Err(format!("had the inputs of tick {tick} after those of {:?}", heard.tick));
        }
        heard.tick = Some(tick);
        let mut numbers = Vec::new();
        for input in inputs {
            let sent: Sent = unseal(&input.value)?;
            numbers.push((input.player, sent.number));
            if input.number != sent.number {
                return Err(format!("had input {} as {}", sent.number, input.number));
            }
        }
        let room = book.seats[&client].room;
        let expected = book.rooms[room].ticks.get(&tick).cloned().unwrap_or_default();
        if numbers != expected {
            return Err(format!("had the inputs {numbers:?} of tick {tick} instead of {expected:?}"));
        }
        Ok(())
    }

    fn hear_ticks_lost(&mut self, client: usize, book: &Book, count: u32) -> Result<(), String> {
        let before = self.heard.tick.unwrap_or(0);
        let newest = book.rooms[book.seats[&client].room].ticks.last_key_value().map_or(0, |(&tick, _)| tick);
        self.heard.tick = Some(before + count);
        if book.tick * (newest - before - count) < limits::TICK_HISTORY - book.tick {
            return Err(format!("lost {count} ticks after {before}, of {newest}: the room has them still"));
        }
        Ok(())
    }

    /// What a state or an event says, if it is for this client.
    fn said(&self, client: usize, book: &Book, tick: u32, value: &[u8]) -> Result<Said, String> {
        let said: Said = unseal(value)?;
        let seat = &book.seats[&client];
        if said.room != book.rooms[seat.room].id
            || said.tick != tick
            || said.to.is_some_and(|player| player != seat.player)
        {
            return Err(format!("had what is not for it: {said:?} at tick {tick}"));
        }
        Ok(said)
    }

    /// Whether there was a reason for the server to close the websocket.
    pub(super) fn check_closed(
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
            // Or too many came at once, and the client comes again.
            code if code == CLOSE_REFUSED => {
                self.heard.refused || self.gone.is_some() || self.may_wait > Duration::ZERO
            }
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
    pub(super) fn check_settling(&mut self, client: usize, book: &Book, awake: Duration) -> Result<(), String> {
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
        let may_wait = if is_asking { self.may_wait } else { Duration::ZERO };
        let patience =
            may_wait + grace + if is_slow { Duration::from_secs(8) } else { 2 * self.one_way + book.grace() };
        if waited > patience { Err(format!("{what} for {waited:?}")) } else { Ok(()) }
    }
}

/// The number and the name of a player.
fn named(session: &Value) -> (u32, String) {
    let player = u32::try_from(session["player"].as_u64().unwrap()).unwrap();
    (player, session["name"].as_str().unwrap().to_owned())
}
