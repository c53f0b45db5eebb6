//! States: which earlier ones each player holds, and how the next one goes out: to most as a delta.
//!
//! A baseline is a state that its player has acknowledged. The room knows nothing of it: it gives whole bodies, and so
//! recordings do not depend on what the network has delivered.

use std::collections::VecDeque;
use std::time::Instant;

use super::delivery::Route;
use super::inspect::LastState;
use super::{RoomKey, Server, SessionKey};
use crate::game::{Game, Target};
use crate::limits;
use crate::player::Body;
use crate::wire::Deflater;
use crate::wire::delta;
use crate::wire::frame::Kind;

/// Deltas of one state, each against another baseline. A delta takes less time than deflating the whole state.
const DELTAS: usize = 4;
/// A baseline that all players hold is taken if it is no more than this many states older than one that most hold.
const OLDER: u32 = 4;

/// The last states sent to a room, or to one player alone.
#[derive(Default)]
pub(super) struct History {
    /// The newest last.
    sent: VecDeque<Past>,
    bytes: usize,
    /// The number of the newest; they count from 1.
    newest: u32,
}

struct Past {
    tick: u32,
    body: Vec<u8>,
}

impl History {
    /// Adds a state. Returns the buffer of one that is not kept any longer, if there is one.
    fn push(&mut self, tick: u32, body: Vec<u8>) -> Option<Vec<u8>> {
        self.bytes += body.len();
        self.sent.push_back(Past { tick, body });
        self.newest = self.newest.wrapping_add(1);
        let mut forgotten = None;
        while self.sent.len() > limits::STATE_HISTORY || self.bytes > limits::STATE_HISTORY_BYTES {
            forgotten = self.forget_oldest();
        }
        forgotten
    }

    fn forget_oldest(&mut self) -> Option<Vec<u8>> {
        let Past { body, .. } = self.sent.pop_front()?;
        self.bytes -= body.len();
        Some(body)
    }

    /// Returns a state by its age: 0 for the newest.
    fn get(&self, age: u32) -> Option<&Past> {
        self.sent.get(self.sent.len().checked_sub(age as usize + 1)?)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn newest(&self) -> Option<LastState<'_>> {
        self.get(0).map(|Past { tick, body }| LastState { tick: *tick, body })
    }

    /// Returns the age of the state of a tick.
    fn age_of(&self, tick: u32) -> Option<u32> {
        let newest = self.sent.len().checked_sub(1)?;
        // Most rooms send a state in each tick.
        let ticks = self.sent[newest].tick.checked_sub(tick)? as usize;
        let guessed = newest.checked_sub(ticks).filter(|&at| self.sent[at].tick == tick);
        let at = guessed.or_else(|| self.sent.binary_search_by_key(&tick, |past| past.tick).ok())?;
        u32::try_from(newest - at).ok()
    }

    /// The bits of the states that are kept.
    fn kept(&self) -> u32 {
        let bits = u32::try_from(self.sent.len()).unwrap_or(u32::BITS);
        u32::MAX.checked_shr(u32::BITS - bits).unwrap_or(0)
    }
}

const _: () = assert!(limits::STATE_HISTORY == u32::BITS as usize, "each state has a bit");

/// Which states of a history a player has been sent, and which of them the player holds. Bit n stands for the state of
/// age n.
#[derive(Default)]
struct Holding {
    /// The number of the state of bit 0.
    newest: u32,
    sent: u32,
    held: u32,
}

impl Holding {
    fn follow(&mut self, newest: u32) {
        let newer = newest.wrapping_sub(self.newest);
        self.newest = newest;
        self.sent = self.sent.checked_shl(newer).unwrap_or(0);
        self.held = self.held.checked_shl(newer).unwrap_or(0);
    }

    fn held_of(&mut self, history: &History) -> u32 {
        self.follow(history.newest);
        self.held & history.kept()
    }

    fn forget(&mut self, number: u32) {
        let bit = 1_u32.checked_shl(self.newest.wrapping_sub(number)).unwrap_or(0);
        self.sent &= !bit;
        self.held &= !bit;
    }

    /// Handles an acknowledgement by a player to whom the state of tick `newest` was sent last.
    fn acknowledge(&mut self, ack: u16, newest: u32, history: &History) {
        self.follow(history.newest);
        let Some((tick, named)) = delta::acknowledged(ack, newest) else { return };
        // Most of them were named before.
        let known = history.age_of(tick).and_then(|age| self.held.checked_shr(age)).unwrap_or(0);
        let fresh = named & !known;
        for before in (0..u32::BITS - fresh.leading_zeros()).filter(|before| fresh >> before & 1 == 1) {
            if let Some(age) = tick.checked_sub(before).and_then(|tick| history.age_of(tick)) {
                self.held |= self.sent & 1 << age;
            }
        }
    }
}

/// The states of one player.
#[derive(Default)]
pub(super) struct PlayerStates {
    of_room: Holding,
    /// Those sent to the player alone.
    own: Option<Box<(History, Holding)>>,
    /// The states sent last, of both kinds, newest last. The client keeps no more, whichever kind they are.
    sent: VecDeque<SentState>,
    acknowledged: Option<u16>,
}

#[derive(Clone, Copy)]
struct SentState {
    tick: u32,
    is_own: bool,
    /// In its history.
    number: u32,
}

impl PlayerStates {
    /// Handles what the player acknowledges. Only states that were sent since these were created count.
    pub(super) fn acknowledge(&mut self, ack: u16, room: &History) {
        if self.acknowledged.replace(ack) == Some(ack) {
            return;
        }
        let newest = self.sent.back().map_or(0, |newest| newest.tick);
        self.of_room.acknowledge(ack, newest, room);
        if let Some(own) = &mut self.own {
            let (history, holding) = &mut **own;
            holding.acknowledge(ack, newest, history);
            // Nobody else needs what is older than the newest that is held.
            let needed = holding.held_of(history).trailing_zeros() as usize + 1;
            while history.sent.len() > needed {
                history.forget_oldest();
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.own.as_ref().map_or(0, |own| own.0.bytes())
    }

    fn holding(&mut self, is_own: bool) -> &mut Holding {
        if is_own { &mut self.own.get_or_insert_default().1 } else { &mut self.of_room }
    }

    fn handle_sent(&mut self, state: SentState) {
        let SentState { tick, is_own, number } = state;
        if self.sent.len() == limits::STATE_HISTORY
            && let Some(oldest) = self.sent.pop_front()
        {
            self.holding(oldest.is_own).forget(oldest.number);
        }
        self.holding(is_own).follow(number);
        match self.sent.back().copied() {
            // An acknowledgement of the tick would not say which of the two it means.
            Some(before) if before.tick == tick => self.holding(before.is_own).forget(before.number),
            _ => self.holding(is_own).sent |= 1,
        }
        self.sent.push_back(state);
    }
}

/// A player who is to get a state.
pub(super) struct Recipient {
    key: SessionKey,
    route: Route,
    held: u32,
}

/// Returns the age of the baseline that serves the players best, given what each holds; `None` if nobody holds any.
fn choose_baseline(held: impl Iterator<Item = u32> + Clone) -> Option<u32> {
    let holders = held.filter(|&held| held != 0);
    let count = holders.clone().count();
    let held_by = |age: &u32| holders.clone().filter(|held| held >> age & 1 == 1).count();
    let ages = 0..if count == 0 { 0 } else { u32::BITS };
    let of_most = ages.clone().find(|age| 4 * held_by(age) >= 3 * count);
    // Of those that as many hold, the newest.
    let newest = of_most.or_else(|| ages.rev().max_by_key(held_by))?;
    let of_all = holders.fold(u32::MAX, |all, held| all & held).trailing_zeros();
    Some(if of_all < u32::BITS && of_all <= newest + OLDER { of_all } else { newest })
}

/// The difference that was computed last for a player alone: of players with equal states it is the same.
#[derive(Default)]
pub(super) struct LastDelta {
    is_valid: bool,
    baseline_tick: u32,
    baseline: Vec<u8>,
    body: Vec<u8>,
}

impl LastDelta {
    fn is_of(&self, baseline: &Past, body: &[u8]) -> bool {
        self.is_valid && self.baseline_tick == baseline.tick && self.body == body && self.baseline == baseline.body
    }

    fn set(&mut self, baseline: &Past, body: &[u8]) {
        self.is_valid = true;
        self.baseline_tick = baseline.tick;
        self.baseline.clone_from(&baseline.body);
        self.body.clear();
        self.body.extend_from_slice(body);
    }
}

/// What is the same for all players who get a state.
struct Outgoing<'a> {
    /// Its number is that in the history that it is about to enter.
    state: SentState,
    body: &'a [u8],
}

impl<G: Game> Server<G> {
    /// Sends a state to its players: to those who hold an earlier one its difference from that, to the others the
    /// whole. What several get is encoded once.
    pub(super) fn send_state(&mut self, now: Instant, room: RoomKey, to: Target, body: Vec<u8>) {
        let mut recipients = std::mem::take(&mut self.recipients);
        let playing = self.take_playing(room);
        for &(_, key) in playing.iter().filter(|&&(player, _)| to.includes(player)) {
            if let Some(route) = self.route(now, key, Kind::State) {
                recipients.push(Recipient { key, route, held: 0 });
            }
        }
        self.playing = playing;
        let is_own = matches!(to, Target::One(_));
        let own = recipients.first().filter(|_| is_own).map(|only| only.key);
        if !recipients.is_empty()
            && let Some(mut history) = self.history(room, own).map(std::mem::take)
        {
            for recipient in &mut recipients {
                if let Some(session) = self.sessions.get_mut(recipient.key) {
                    recipient.held = session.states.holding(is_own).held_of(&history);
                }
            }
            let tick = self.rooms.get(room).map_or(0, |hosted| hosted.last_tick);
            let number = history.newest.wrapping_add(1);
            let state = Outgoing { state: SentState { tick, is_own, number }, body: &body };
            self.send_state_to(now, room, &mut recipients, &history, &state);
            let forgotten = history.push(tick, body);
            if let Some(place) = self.history(room, own) {
                *place = history;
            }
            if let (Some(buffer), Some(hosted)) = (forgotten, self.rooms.get_mut(room)) {
                hosted.room.recycle_body(buffer);
            }
        }
        recipients.clear();
        self.recipients = recipients;
    }

    /// The states sent to a room, or to one player alone.
    fn history(&mut self, room: RoomKey, own: Option<SessionKey>) -> Option<&mut History> {
        match own {
            Some(key) => Some(&mut self.sessions.get_mut(key)?.states.own.get_or_insert_default().0),
            None => Some(&mut self.rooms.get_mut(room)?.states),
        }
    }

    fn send_state_to(
        &mut self,
        now: Instant,
        room: RoomKey,
        recipients: &mut Vec<Recipient>,
        history: &History,
        state: &Outgoing<'_>,
    ) {
        let mut whole = None;
        for _ in 0..DELTAS {
            let baseline = choose_baseline(recipients.iter().map(|recipient| recipient.held));
            let Some((age, baseline)) = baseline.and_then(|age| Some((age, history.get(age)?))) else { break };
            self.encode_delta(baseline, state);
            // Deflated, the whole may be smaller than a delta that saves little.
            if 2 * self.delta.len() > state.body.len() {
                let whole = whole.get_or_insert_with(|| self.whole_state(now, room, state)).as_ref();
                let limit = whole.map_or(limits::UNRELIABLE_BODY_BYTES + 1, |whole| whole.bytes.len());
                if self.delta.len() >= limit {
                    break;
                }
            }
            let delta = self.bodies.make(Kind::State, false, &self.delta);
            recipients.retain(|recipient| {
                let is_holder = recipient.held >> age & 1 == 1;
                if is_holder {
                    self.counters.states.deltas += 1;
                    self.counters.states.delta_bytes += delta.bytes.len() as u64;
                    self.send_state_by(now, recipient, &delta, state);
                }
                !is_holder
            });
        }
        if recipients.is_empty() {
            return;
        }
        let Some(whole) = whole.unwrap_or_else(|| self.whole_state(now, room, state)) else {
            self.counters.oversized_states += recipients.len() as u64;
            return;
        };
        for recipient in recipients {
            self.counters.states.whole += 1;
            self.counters.states.whole_bytes += whole.bytes.len() as u64;
            self.send_state_by(now, recipient, &whole, state);
        }
    }

    fn encode_delta(&mut self, baseline: &Past, state: &Outgoing<'_>) {
        if self.last_delta.is_of(baseline, state.body) {
            return;
        }
        self.encoder.encode(baseline.tick, &baseline.body, state.body, &mut self.delta);
        if state.state.is_own {
            self.last_delta.set(baseline, state.body);
        } else {
            self.last_delta.is_valid = false;
        }
    }

    fn send_state_by(&mut self, now: Instant, recipient: &Recipient, sent: &Body, state: &Outgoing<'_>) {
        self.counters.states.encoded_bytes += state.body.len() as u64;
        if let Some(session) = self.sessions.get_mut(recipient.key) {
            session.states.handle_sent(state.state);
        }
        self.send_by(now, recipient.key, recipient.route, sent);
    }

    /// Returns the whole body, deflated where that helps; `None` if it is too large for one frame all the same. A body
    /// for one player is deflated only if it must be: for many players that would take too much of the tick.
    fn whole_state(&mut self, now: Instant, room: RoomKey, state: &Outgoing<'_>) -> Option<Body> {
        let Outgoing { state: SentState { is_own, .. }, body } = *state;
        let hosted = self.rooms.get_mut(room)?;
        let deflater = &mut self.deflater;
        let out = &mut self.deflated;
        let is_too_large = body.len() > limits::UNRELIABLE_BODY_BYTES;
        let deflated = if is_too_large {
            deflater.deflate(body, out)
        } else {
            // A body that is too small to deflate says nothing about larger ones.
            let habit = &mut hosted.deflating[Kind::State as usize];
            !is_own && Deflater::is_worth_trying(body.len()) && habit.deflate(|| deflater.deflate(body, out))
        };
        let bytes = if deflated { out.as_slice() } else { body };
        if bytes.len() <= limits::UNRELIABLE_BODY_BYTES {
            return Some(self.bodies.make(Kind::State, deflated, bytes));
        }
        if hosted.unsent_log.take(now).is_some() {
            log::warn!(
                "room {}: a state has {} bytes, deflated {}, and can't be sent to players who hold none of those \
                 before it; the limit is {}: send less, or what changes seldom as a reliable event",
                hosted.name,
                body.len(),
                bytes.len(),
                limits::UNRELIABLE_BODY_BYTES
            );
        }
        None
    }
}
