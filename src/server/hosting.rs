//! Rooms: when they tick, and to whom what they say goes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::Rng;

use super::connection::SharedBody;
use super::{Server, Signal, Timer};
use crate::game::{Game, Link, PlayerId, RoomInfo, Target, Tick};
use crate::journal::{Header, Recorder};
use crate::limits;
use crate::peer::Path;
use crate::room::{self, Room};
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::frame::Kind;
use crate::wire::msgpack;
use crate::wire::signaling::{self, Fault, Presence, RoomName, RoomUsers, SessionInfo};

pub(super) struct HostedRoom<G: Game> {
    pub(super) name: RoomName,
    pub(super) room: Room<G>,
    pub(super) recorder: Option<Recorder>,
    pub(super) members: BTreeMap<PlayerId, Member>,
    /// Who is shown as the players, where those aren't the members.
    pub(super) cast: Option<BTreeMap<PlayerId, SessionInfo>>,
    pub(super) start: Instant,
    pub(super) last_tick: u32,
    pub(super) deadline: Instant,
    pub(super) empty_since: Option<Instant>,
    pub(super) users_changed: bool,
    pub(super) users_told: Option<Instant>,
    pub(super) deflating: Habit,
}

/// Somebody of a room.
#[derive(Clone, Copy)]
pub(super) enum Member {
    /// Asks to come in, over this connection.
    Joining(usize),
    /// Plays, in this session.
    Playing(usize),
}

/// Whether what a room says is worth deflating: mostly it is as it was before, and trying in vain costs time.
#[derive(Default)]
pub(super) struct Habit {
    left_out: u32,
    next: u32,
}

impl Habit {
    const LEFT_OUT_MAX: u32 = 31;

    fn is_due(&self) -> bool {
        self.next == 0
    }

    fn note(&mut self, deflated: bool) {
        if deflated {
            *self = Habit::default();
        } else if let Some(next) = self.next.checked_sub(1) {
            self.next = next;
        } else {
            self.left_out = (self.left_out * 2 + 1).min(Habit::LEFT_OUT_MAX);
            self.next = self.left_out;
        }
    }
}

impl<G: Game> HostedRoom<G> {
    /// Tells the room something, and its recording before.
    pub(super) fn handle_input(&mut self, input: room::Input) {
        if let Some(recorder) = &mut self.recorder {
            recorder.note_input(&input);
        }
        self.room.handle_input(input);
    }

    /// The next thing that the room has to say in this tick; `None` ends the tick.
    fn poll_output(&mut self) -> Option<room::Output> {
        let output = self.room.poll_output();
        match (&mut self.recorder, &output) {
            (Some(recorder), Some(output)) => recorder.note_output(output),
            (Some(recorder), None) => recorder.end_tick(&self.room),
            (None, _) => {}
        }
        output
    }
}

impl<G: Game> Server<G> {
    pub(super) fn make_room(&mut self, now: Instant, name: RoomName, data: &serde_json::Value) -> Result<usize, Fault> {
        if self.rooms.len() >= limits::ROOMS {
            return Err(Fault::new(ErrorCode::RoomFull, "The server has no place for another room."));
        }
        let mut info = RoomInfo::new(name.as_str(), self.rng.next_u64());
        info.tick = self.config.tick;
        info.data = data.clone();
        let game = catch_unwind(AssertUnwindSafe(|| (self.factory)(&info)))
            .map_err(|_| Fault::new(ErrorCode::Internal, "The room can't be made: its game failed."))?
            .map_err(|refusal| Fault::new(ErrorCode::Refused, refusal.to_string()))?;
        let start = self.phase_start(now);
        let mut room = Room::new(&info, game, self.config.max_players);
        room.number_players_from(self.first_player);
        let recorder = self.recordings.as_mut().map(|open| {
            let into_grid = (start - self.started).as_nanos() % self.config.tick.as_nanos();
            let phase = Duration::from_nanos(u64::try_from(into_grid).unwrap_or_default());
            let header = Header::new::<G>(&info, self.config.max_players, phase);
            let sink = open(&header);
            Recorder::new(&header, sink)
        });
        let hosted = HostedRoom {
            name: name.clone(),
            room,
            recorder,
            members: BTreeMap::new(),
            cast: None,
            start,
            last_tick: 0,
            deadline: start + self.config.tick,
            empty_since: None,
            users_changed: false,
            users_told: None,
            deflating: Habit::default(),
        };
        let deadline = hosted.deadline;
        let index = self.rooms.insert(hosted);
        self.by_name.insert(name, index);
        self.timers.insert((deadline, Timer::Room(index)));
        Ok(index)
    }

    /// The last point before `now` of the time grid of the next phase slot: rooms are spread over the slots, so that
    /// no turn of the loop carries the burst of all of them.
    pub(super) fn phase_start(&mut self, now: Instant) -> Instant {
        let slot = self.rooms_made % limits::PHASE_SLOTS;
        self.rooms_made = self.rooms_made.wrapping_add(1);
        let tick = self.config.tick;
        let origin = self.started + tick * slot / limits::PHASE_SLOTS;
        let past = now.saturating_duration_since(origin);
        let into = Duration::from_nanos(u64::try_from(past.as_nanos() % tick.as_nanos()).unwrap_or_default());
        (now - into).max(origin)
    }

    pub(super) fn tick_room(&mut self, now: Instant, index: usize) {
        let tick = self.config.tick;
        let hosted = &mut self.rooms[index];
        let age = now.saturating_duration_since(hosted.start);
        let number = u32::try_from(age.as_nanos() / tick.as_nanos()).unwrap_or(u32::MAX);
        let missed = number.saturating_sub(hosted.last_tick).saturating_sub(1);
        self.counters.missed_ticks += u64::from(missed);
        hosted.last_tick = number;
        hosted.deadline = (hosted.start + tick * number.saturating_add(1)).max(now + Duration::from_millis(1));
        let deadline = hosted.deadline;
        self.measure_links(now, index);
        self.rooms[index].handle_input(room::Input::Tick(Tick { number, missed }));
        self.show_cast(index);
        self.handle_room_outputs(now, index);
        if self.rooms.contains(index) && !self.dispose_if_empty(now, index) {
            self.tell_users(now, index);
            self.timers.insert((deadline, Timer::Room(index)));
        }
    }

    pub(super) fn measure_links(&mut self, now: Instant, index: usize) {
        let clock_ms = self.clock_ms(now);
        for (player, playing) in self.playing(index) {
            let session = &mut self.sessions[playing];
            if session.frames.poll_ping(now) {
                let path = session.peer.and_then(|peer| self.endpoint.measure_path(peer));
                let link = path.map_or_else(|| session.frames.link(), link_of);
                session.link = link;
                self.rooms[index].handle_input(room::Input::Link { player, link });
                let body = msgpack::encode_clock(clock_ms);
                self.send_unreliable(now, playing, &SharedBody::plain(Kind::Ping, body));
            }
        }
    }

    /// Who plays in a room, and their sessions.
    pub(super) fn playing(&self, room: usize) -> Vec<(PlayerId, usize)> {
        let members = self.rooms[room].members.iter();
        let playing = members.filter_map(|(&player, &member)| match member {
            Member::Playing(session) => Some((player, session)),
            Member::Joining(_) => None,
        });
        playing.collect()
    }

    pub(super) fn handle_room_outputs(&mut self, now: Instant, index: usize) {
        while let Some(output) = self.rooms[index].poll_output() {
            match output {
                room::Output::Joined { player, welcome } => self.handle_joined(now, index, player, welcome),
                room::Output::Refused { player, code, message } => {
                    self.handle_refused(index, player, &Fault::new(code, message));
                }
                room::Output::Left { player, reason, message } => {
                    match self.rooms[index].members.get(&player) {
                        Some(Member::Joining(_)) => {
                            self.handle_refused(index, player, &Fault::new(ErrorCode::Internal, message));
                        }
                        Some(&Member::Playing(session)) => self.end_session(now, session, reason, &message),
                        // They left by themselves.
                        None => {}
                    }
                }
                room::Output::Body { to, kind, body } => self.fan_out(now, index, to, kind, &body),
                room::Output::Closed => {
                    log::error!("room {} closed: its game failed", self.rooms[index].name);
                    self.counters.failed_rooms += 1;
                    while self.rooms[index].poll_output().is_some() {}
                    self.remove_room(index);
                    return;
                }
            }
        }
    }

    pub(super) fn dispose_if_empty(&mut self, now: Instant, index: usize) -> bool {
        let hosted = &mut self.rooms[index];
        if !hosted.room.is_empty() || !hosted.members.is_empty() {
            hosted.empty_since = None;
            return false;
        }
        let since = *hosted.empty_since.get_or_insert(now);
        // One that was hardly used is hardly missed; else rooms could be made faster than they go.
        if now - since < limits::EMPTY_ROOM_LINGER.min(since.saturating_duration_since(hosted.start)) {
            return false;
        }
        self.remove_room(index);
        true
    }

    pub(super) fn remove_room(&mut self, index: usize) {
        let hosted = self.rooms.remove(index);
        self.by_name.remove(&hosted.name);
        self.timers.remove(&(hosted.deadline, Timer::Room(index)));
        self.counters.overflowed_inputs += hosted.room.overflowed();
        // A game that has panicked is gone already; one that panics when it goes takes nobody along.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(hosted.room)));
    }

    /// Encoded once, deflated once, shared by all; only the header is each player's own. What goes to one player is not
    /// deflated: done for each of many, it would take the time of the tick.
    pub(super) fn fan_out(&mut self, now: Instant, room: usize, to: Target, kind: Kind, body: &[u8]) {
        if let Target::One(player) = to {
            if let Some(&Member::Playing(session)) = self.rooms[room].members.get(&player) {
                self.send_body(now, session, &SharedBody { kind, deflated: false, bytes: body.into() });
            }
            return;
        }
        let habit = &mut self.rooms[room].deflating;
        let deflated = habit.is_due() && self.deflater.deflate(body, &mut self.deflated);
        habit.note(deflated);
        let bytes: Rc<[u8]> = if deflated { self.deflated.as_slice().into() } else { body.into() };
        let shared = SharedBody { kind, deflated, bytes };
        for (_, session) in self.playing(room).into_iter().filter(|&(player, _)| to.includes(player)) {
            self.send_body(now, session, &shared);
        }
    }

    fn send_body(&mut self, now: Instant, session: usize, body: &SharedBody) {
        if body.kind.is_reliable() {
            self.send_reliable(session, body);
        } else {
            self.send_unreliable(now, session, body);
        }
    }

    /// Who is shown as being in the room: its cast, or else who has joined.
    pub(super) fn shown(&self, room: usize) -> Vec<&SessionInfo> {
        let hosted = &self.rooms[room];
        if let Some(cast) = &hosted.cast {
            return cast.values().collect();
        }
        self.playing(room).into_iter().map(|(_, session)| &self.sessions[session].info).collect()
    }

    /// Takes over a changed cast, and tells the members who of it has come and gone.
    fn show_cast(&mut self, room: usize) {
        let Some(mut names) = self.rooms[room].room.poll_cast() else { return };
        let mut cast = self.rooms[room].cast.take().unwrap_or_default();
        let gone: Vec<_> = cast.extract_if(.., |player, _| !names.contains_key(player)).collect();
        names.retain(|player, _| !cast.contains_key(player));
        let come: Vec<_> = names
            .into_iter()
            .map(|(player, name)| {
                let socket_id = format!("{player}-of-the-cast");
                SessionInfo { player: player.0, socket_id, user_id: None, name }
            })
            .collect();
        cast.extend(come.iter().map(|info| (PlayerId(info.player), info.clone())));
        self.rooms[room].cast = Some(cast);
        for (_, info) in gone {
            self.tell_change(room, &info, Some(Leave::Left));
        }
        for info in come {
            self.tell_change(room, &info, None);
        }
    }

    /// Tells the others that a player has come, or gone.
    pub(super) fn tell_presence(&mut self, room: usize, info: &SessionInfo, reason: Option<Leave>) {
        if self.rooms[room].cast.is_none() {
            self.rooms[room].users_changed = true;
            self.tell_change(room, info, reason);
        }
    }

    fn tell_change(&mut self, room: usize, info: &SessionInfo, reason: Option<Leave>) {
        let room_size = self.shown(room).len();
        let name = if reason.is_some() { "eventLeave" } else { "eventJoin" };
        let text = signaling::event(name, &Presence { session: info, room_size, reason });
        self.tell_room(room, Some(PlayerId(info.player)), &text);
    }

    pub(super) fn tell_users(&mut self, now: Instant, room: usize) {
        let hosted = &mut self.rooms[room];
        let recently = hosted.users_told.is_some_and(|told| now - told < Duration::from_secs(1));
        if !hosted.users_changed || recently {
            return;
        }
        hosted.users_changed = false;
        hosted.users_told = Some(now);
        let sessions = self.shown(room);
        let text = signaling::event("eventRoomUsers", &RoomUsers { room_size: sessions.len(), sessions });
        self.tell_room(room, None, &text);
    }

    pub(super) fn tell_room(&mut self, room: usize, except: Option<PlayerId>, text: &str) {
        for (player, session) in self.playing(room) {
            if Some(player) != except
                && let Some(connection) = self.sessions[session].connection
            {
                self.push(connection, Signal::Text(text.to_owned()));
            }
        }
    }
}

fn link_of(path: Path) -> Link {
    Link {
        rtt_us: path.rtt_us,
        jitter_us: path.jitter_us,
        loss_down_permille: path.sent_loss_permille,
        loss_up_permille: path.received_loss_permille,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_deflates_is_tried_seldom_and_what_does_every_time() {
        let tries = |habit: &mut Habit, bodies: u32, shrinks: bool| {
            let due = (0..bodies).filter(|_| {
                let is_due = habit.is_due();
                habit.note(is_due && shrinks);
                is_due
            });
            due.count()
        };
        let mut habit = Habit::default();
        assert_eq!(tries(&mut habit, 100, true), 100);
        assert_eq!(tries(&mut habit, 200, false), 10);
        assert!(tries(&mut habit, 100, true) >= 100 - Habit::LEFT_OUT_MAX as usize);
        assert_eq!(tries(&mut habit, 100, true), 100);
    }
}
