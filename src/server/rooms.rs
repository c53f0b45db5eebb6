//! Rooms: their creation, ticks and end.
//!
//! Every room is ended by [`Server::end_room`]: all players leave, its game handles each leave, then the room is
//! removed.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::Rng;

use super::delivery::Habits;
use super::figures::{Cost, CostMeter, Traffic};
use super::live_events::Numbering;
use super::media::Listener;
use super::presence::News;
use super::saving::{Prospects, Restored};
use super::states::History;
use super::supervision::{Overruns, Supervision};
use super::{ConnectionKey, RoomKey, Server, SessionKey, Timer};
use crate::game::{Game, PlayerId, RoomInfo, Tick};
use crate::journal::{Header, Recorder};
use crate::limits;
use crate::log_limit::Throttle;
use crate::rate::Credit;
use crate::room::{self, Room};
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::signaling::{Fault, RoomName, SessionInfo};

pub(super) struct HostedRoom<G: Game> {
    pub(super) name: RoomName,
    pub(super) info: RoomInfo,
    pub(super) room: Room<G>,
    pub(super) recorder: Option<Recorder>,
    pub(super) members: BTreeMap<PlayerId, Member>,
    /// The open media connections of its players.
    pub(super) listeners: Vec<Listener>,
    /// The listed players, if those are not the members.
    pub(super) cast: Option<BTreeMap<PlayerId, SessionInfo>>,
    pub(super) start: Instant,
    /// The number of the tick that was, or would have been, at `start`.
    first_tick: u32,
    pub(super) last_tick: u32,
    deadline: Instant,
    pub(super) empty_since: Option<Instant>,
    /// Joins and leaves that are not yet announced.
    pub(super) news: News,
    /// The allowance for messages relayed between its players.
    pub(super) relayed: Credit,
    pub(super) deflating: Habits,
    /// The states sent to its players.
    pub(super) states: History,
    pub(super) unsent_log: Throttle,
    unreadable_log: Throttle,
    overflow_log: Throttle,
    pub(super) overruns: Overruns,
    pub(super) cost: CostMeter,
    pub(super) numbering: Numbering,
    pub(super) prospects: Prospects,
    /// The traffic of players who have left.
    pub(super) past_traffic: Traffic,
    /// The number of ticks from the last one to the next that is due.
    stride: u32,
}

/// Limits the log lines of one room about messages that its game could not send or read.
const OF_MESSAGES: Throttle = Throttle::new(1, Duration::from_mins(1));

/// A member of a room.
#[derive(Clone, Copy)]
pub(super) enum Member {
    /// Is joining over this connection.
    Joining(ConnectionKey),
    /// Plays, in this session.
    Playing(SessionKey),
}

impl<G: Game> HostedRoom<G> {
    /// Passes an input to the recording and then to the room.
    pub(super) fn handle_input(&mut self, input: room::Input) {
        if let Some(recorder) = &mut self.recorder {
            recorder.note_input(&input);
        }
        self.room.handle_input(input);
    }

    /// The next output of the room in this tick; `None` ends the tick.
    fn poll_output(&mut self) -> Option<room::Output> {
        let output = self.room.poll_output();
        match (&mut self.recorder, &output) {
            (Some(recorder), Some(output)) => recorder.note_output(output),
            (Some(recorder), None) => recorder.end_tick(&self.room),
            (None, _) => {}
        }
        output
    }

    /// Logs messages that the game could not send, read or take: the game continues, but its author should know.
    fn log_messages(&mut self, now: Instant) {
        if let Some(error) = self.room.take_send_error()
            && self.unsent_log.take(now).is_some()
        {
            log::warn!(
                "room {}: the game could not send a message ({} so far): {error}",
                self.name,
                self.room.unsent()
            );
        }
        if let Some(player) = self.room.take_overflowed()
            && let Some(left_out) = self.overflow_log.take(now)
        {
            log::warn!(
                "room {}: player {player} sends more than {} inputs per {} ms, the budget of the game; {} were \
                 dropped so far{left_out}",
                self.name,
                G::INPUTS_PER_TICK,
                G::TICK.as_millis(),
                self.room.overflowed(),
            );
        }
        if let Some((player, why)) = self.room.take_unreadable()
            && let Some(left_out) = self.unreadable_log.take(now)
        {
            let why = why.replace(char::is_control, " ");
            log::warn!("room {}: the game can't read what player {player} sent: {why}{left_out}", self.name);
        }
    }

    /// How long its ticks have counted, also at other nodes.
    pub(super) fn age(&self, now: Instant, length: Duration) -> Duration {
        now.saturating_duration_since(self.start) + length * self.first_tick
    }

    /// The index in the room's schedule at `now`.
    fn tick_at(&self, now: Instant, length: Duration) -> u32 {
        let age = now.saturating_duration_since(self.start);
        let ticks = u32::try_from(age.as_nanos() / length.as_nanos()).unwrap_or(u32::MAX);
        self.first_tick.saturating_add(ticks)
    }

    /// When a tick is due.
    fn due_at(&self, tick: u32, length: Duration) -> Instant {
        self.start + length * tick.saturating_sub(self.first_tick)
    }
}

impl<G: Game> Server<G> {
    pub(super) fn make_room(
        &mut self,
        now: Instant,
        name: RoomName,
        data: &serde_json::Value,
    ) -> Result<RoomKey, Fault> {
        self.refuse_room(now)?;
        if self.rooms.len() >= self.config.max_rooms {
            return Err(Fault::new(
                ErrorCode::RoomFull,
                "The server has reached its maximum number of rooms; try again later.",
            ));
        }
        let (epoch, snapshot) = self.take_lease(&name)?.unzip();
        if let Some(restored) = snapshot.flatten().and_then(|snapshot| self.restore(&name, &snapshot)) {
            let Restored { info, room, next_tick, input, players } = restored;
            let key = self.insert_room(now, name, info, room, next_tick, epoch);
            if let Some(recorder) = self.rooms.get_mut(key).and_then(|hosted| hosted.recorder.as_mut()) {
                recorder.note_input(&input);
            }
            self.restore_players(now, key, players);
            self.counters.restored_rooms += 1;
            return Ok(key);
        }
        let mut info = RoomInfo::new(name.as_str(), self.rng.next_u64());
        info.tick = self.config.tick;
        info.data = data.clone();
        let game = self.make_game(&name, &info).inspect_err(|_| self.give_up_lease(&name))?;
        let mut room = Room::new(&info, game, self.config.max_players);
        room.number_players_from(self.first_player);
        Ok(self.insert_room(now, name, info, room, 1, epoch))
    }

    pub(super) fn make_game(&mut self, name: &RoomName, info: &RoomInfo) -> Result<G, Fault> {
        let supervised = self.supervision.as_ref().map(|supervision| (supervision, supervision.begin(name)));
        let made = catch_unwind(AssertUnwindSafe(|| (self.factory)(info)));
        if let Some((supervision, begun)) = supervised {
            supervision.end(begun);
        }
        match made {
            Ok(made) => made.map_err(|refusal| Fault::new(ErrorCode::Refused, refusal.to_string())),
            Err(_) => Err(Fault::new(ErrorCode::Internal, "The room can't be created: its game failed.")),
        }
    }

    fn insert_room(
        &mut self,
        now: Instant,
        name: RoomName,
        info: RoomInfo,
        room: Room<G>,
        next_tick: u32,
        epoch: Option<u64>,
    ) -> RoomKey {
        let start = self.phase_start(now);
        let deadline = start + self.config.tick;
        let recorder = self.start_recording(&info, &room, start);
        let numbering = self.live_events.numbering(now, self.unix_time(now), &name, epoch);
        let key = self.rooms.insert(HostedRoom {
            name: name.clone(),
            info,
            room,
            recorder,
            members: BTreeMap::new(),
            listeners: Vec::new(),
            cast: None,
            start,
            first_tick: next_tick - 1,
            last_tick: next_tick - 1,
            deadline,
            empty_since: None,
            news: News::new(now),
            relayed: Credit::new(limits::RELAYED_BYTES_PER_ROOM_PER_SECOND, now),
            deflating: Habits::default(),
            states: History::default(),
            unsent_log: OF_MESSAGES,
            unreadable_log: OF_MESSAGES,
            overflow_log: OF_MESSAGES,
            overruns: Overruns::default(),
            cost: CostMeter::default(),
            numbering,
            prospects: Prospects::new(now),
            past_traffic: Traffic::default(),
            stride: 1,
        });
        self.by_name.insert(name, key);
        self.timers.insert((deadline, Timer::Room(key)));
        key
    }

    fn start_recording(&mut self, info: &RoomInfo, room: &Room<G>, start: Instant) -> Option<Recorder> {
        let open = self.recordings.as_mut().filter(|_| self.is_recording)?;
        let into_grid = (start - self.started).as_nanos() % self.config.tick.as_nanos();
        let phase = Duration::from_nanos(u64::try_from(into_grid).unwrap_or_default());
        let header = Header::new::<G>(info, self.config.max_players, phase).with_program_of(room.game()?);
        let sink = open(&header);
        Some(Recorder::new(&header, sink))
    }

    /// The last point before `now` of the schedule of the next phase slot. Rooms are spread over the slots, so that
    /// their bursts don't fall into the same turn of the loop.
    fn phase_start(&mut self, now: Instant) -> Instant {
        let slot = self.rooms_made % limits::PHASE_SLOTS;
        self.rooms_made = self.rooms_made.wrapping_add(1);
        let tick = self.config.tick;
        let origin = self.started + tick * slot / limits::PHASE_SLOTS;
        let past = now.saturating_duration_since(origin);
        let into = Duration::from_nanos(u64::try_from(past.as_nanos() % tick.as_nanos()).unwrap_or_default());
        (now - into).max(origin)
    }

    pub(super) fn tick_room(&mut self, now: Instant, key: RoomKey) {
        let length = self.config.tick;
        let Some(hosted) = self.rooms.get_mut(key) else { return };
        let begun = self.supervision.as_ref().map(Supervision::now);
        self.timings.tick_lateness.observe(begun.unwrap_or(now).saturating_duration_since(hosted.deadline));
        let number = hosted.tick_at(now, length);
        let missed = number.saturating_sub(hosted.last_tick).saturating_sub(1);
        // Those that are left out because its game takes too long are no sign of a late server.
        self.counters.missed_ticks += u64::from(missed.saturating_sub(hosted.stride - 1));
        hosted.stride = hosted.overruns.stride();
        self.schedule(now, key);
        self.measure_links(now, key);
        let took = self.run_tick(now, key, Tick { number, missed });
        if let Some(hosted) = self.rooms.get_mut(key) {
            hosted.log_messages(now);
        }
        self.note_tick_time(now, key, took);
        if !self.end_if_empty(now, key) {
            self.note_live(now, key);
            self.tell_news(now, key);
            self.tell_user_media(key);
            if self.save_or_move(now, key) {
                self.unschedule(key);
            }
        }
        if let (Some(begun), Some(supervision)) = (begun, &self.supervision) {
            let tick = supervision.now().saturating_duration_since(begun);
            self.timings.tick.observe(tick);
            if let Some(hosted) = self.rooms.get_mut(key) {
                hosted.cost.note(now, Cost { game: took, tick });
            }
        }
    }

    /// Sets the timer of the next tick.
    pub(super) fn schedule(&mut self, now: Instant, key: RoomKey) {
        let length = self.config.tick;
        let Some(hosted) = self.rooms.get_mut(key) else { return };
        let next = hosted.tick_at(now, length).saturating_add(hosted.stride);
        hosted.deadline = hosted.due_at(next, length).max(now + Duration::from_millis(1));
        self.timers.insert((hosted.deadline, Timer::Room(key)));
    }

    fn unschedule(&mut self, key: RoomKey) {
        if let Some(hosted) = self.rooms.get(key) {
            self.timers.remove(&(hosted.deadline, Timer::Room(key)));
        }
    }

    /// Returns how long the calls into the game took, if that is measured.
    fn run_tick(&mut self, now: Instant, key: RoomKey, tick: Tick) -> Duration {
        let Some(hosted) = self.rooms.get_mut(key) else { return Duration::ZERO };
        hosted.last_tick = tick.number;
        let supervised = self.supervision.as_ref().map(|supervision| (supervision, supervision.begin(&hosted.name)));
        hosted.handle_input(room::Input::Tick(tick));
        let took = supervised.map_or(Duration::ZERO, |(supervision, begun)| supervision.end(begun));
        self.show_cast(now, key);
        while let Some(output) = self.rooms.get_mut(key).and_then(HostedRoom::poll_output) {
            self.handle_room_output(now, key, output);
        }
        took
    }

    fn handle_room_output(&mut self, now: Instant, key: RoomKey, output: room::Output) {
        match output {
            room::Output::Joined { player, welcome } => self.handle_joined(now, key, player, welcome),
            room::Output::Refused { player, code, message } => {
                self.handle_refused(now, key, player, &Fault::new(code, message));
            }
            room::Output::Left { player, reason, message } => {
                self.end_member(now, key, player, reason, &message);
            }
            room::Output::Renamed { player, name } => self.rename(now, key, player, name),
            room::Output::Body { to, kind, body } => self.fan_out(now, key, to, kind, body),
            room::Output::Ended | room::Output::Closed => {
                let Some(hosted) = self.rooms.get_mut(key) else { return };
                if output == room::Output::Closed {
                    self.counters.failed_rooms += 1;
                    log::error!("room {} closed: its game failed", hosted.name);
                }
                // The recording needs the end of the tick.
                while hosted.poll_output().is_some() {}
                self.end_room(now, key, Leave::RoomClosed, "");
            }
        }
    }

    /// Handles a member that the room has removed or refused. Members who left by themselves were removed before.
    fn end_member(&mut self, now: Instant, key: RoomKey, player: PlayerId, reason: Leave, sentence: &str) {
        match self.rooms.get(key).and_then(|hosted| hosted.members.get(&player)) {
            Some(Member::Joining(_)) => {
                self.handle_refused(now, key, player, &Fault::new(ErrorCode::Internal, sentence));
            }
            Some(&Member::Playing(session)) => self.end_session(now, session, reason, sentence),
            None => {}
        }
    }

    /// Ends the room if it was empty for long enough. Returns whether it did.
    fn end_if_empty(&mut self, now: Instant, key: RoomKey) -> bool {
        let is_draining = self.is_draining();
        let Some(hosted) = self.rooms.get_mut(key) else { return true };
        if !hosted.room.is_empty() || !hosted.members.is_empty() {
            hosted.empty_since = None;
            return false;
        }
        let since = *hosted.empty_since.get_or_insert(now);
        // A room that was used briefly is dropped sooner; otherwise rooms could be created faster than they are
        // dropped.
        if !is_draining && now - since < limits::EMPTY_ROOM_LINGER.min(since.saturating_duration_since(hosted.start)) {
            return false;
        }
        self.end_room(now, key, Leave::RoomClosed, "");
        true
    }

    /// Ends a room: all players leave for `reason` and get `sentence`. The game, unless it has failed, handles that in
    /// a last tick. Then the room and its recording end.
    pub(super) fn end_room(&mut self, now: Instant, key: RoomKey, reason: Leave, sentence: &str) {
        let Some(hosted) = self.rooms.get(key) else { return };
        let members: Vec<(PlayerId, Member)> =
            hosted.members.iter().map(|(&player, &member)| (player, member)).collect();
        for (player, member) in members {
            self.end_member(now, key, player, reason, sentence);
            // The game may have got the request in the last tick, and must learn that the player has left.
            if matches!(member, Member::Joining(_)) {
                self.withdraw(key, player, reason);
            }
        }
        let Some(hosted) = self.rooms.get(key) else { return };
        if hosted.room.game().is_some() && !hosted.room.is_empty() {
            let number = hosted.tick_at(now, self.config.tick).max(hosted.last_tick.saturating_add(1));
            let missed = number - hosted.last_tick - 1;
            self.run_tick(now, key, Tick { number, missed });
        }
        self.remove_room(key);
    }

    pub(super) fn remove_room(&mut self, key: RoomKey) {
        self.unschedule(key);
        let Some(hosted) = self.rooms.remove(key) else { return };
        self.by_name.remove(&hosted.name);
        self.give_up_lease(&hosted.name);
        self.counters.overflowed_inputs += hosted.room.overflowed();
        self.counters.clamped_seen += hosted.room.clamped_seen();
        self.counters.unsent_messages += hosted.room.unsent();
        // A game that panics when it is dropped must not affect others.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(hosted.room)));
    }
}
