//! Messages of players that wait for the next tick.
//!
//! Each tick takes a batch: of each player the inputs of a budget that grows with the ticks (a token bucket) and at
//! most [`PerTick::commands`], and a limited number of bytes in all. If more is waiting, the players share those bytes
//! by deficit round robin (Shreedhar and Varghese, SIGCOMM 1995): a player with many or long messages delays
//! only their own.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::saved::SavedInbox;
use crate::game::{Game, Incoming, PlayerId};
use crate::limits::{self, PerTick};
use crate::wire::msgpack;

/// A player's message: one msgpack value.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Message {
    Input { number: u32, seen: f64, value: Vec<u8> },
    Command { value: Vec<u8> },
}

impl Message {
    /// `oldest` is the first tick that an input may have seen.
    ///
    /// # Errors
    /// The reason, if the value cannot be decoded as the game's type.
    pub(super) fn decode<G: Game>(&self, player: PlayerId, oldest: f64) -> Result<Incoming<G>, String> {
        match *self {
            Message::Input { number, seen, ref value } => {
                let seen = seen.max(oldest);
                msgpack::decode(value).map(|input| Incoming::Input { player, number, seen, input })
            }
            Message::Command { ref value } => {
                msgpack::decode(value).map(|command| Incoming::Command { player, command })
            }
        }
    }

    /// Bytes in the batch: those of the value and, for an input, of its wrapping when fanned out.
    fn cost(&self, player: PlayerId) -> usize {
        match self {
            Message::Input { number, value, .. } => msgpack::fanned_out_bytes(player.0, *number, value),
            Message::Command { value } => value.len(),
        }
    }
}

/// Too many commands of the player are waiting.
pub(super) struct Flood;

/// The waiting messages of all players.
pub(super) struct Inbox {
    per_tick: PerTick,
    players: BTreeMap<PlayerId, Queues>,
    /// Those closed since the last tick began, and the number of their newest input: what that tick sends still goes to
    /// them.
    departed: Vec<(PlayerId, u32)>,
    /// One for each waiting message, in order of arrival.
    arrivals: VecDeque<Arrival>,
    /// The player to serve first when not everything fits.
    input_turn: PlayerId,
    command_turn: PlayerId,
    dropped_inputs: u64,
    last_dropped: Option<PlayerId>,
}

#[derive(Default)]
struct Queues {
    inputs: Queue,
    commands: Queue,
    command_bytes: usize,
    consumed: u32,
    /// The budget of inputs, see [`PerTick::input_credit`], in the tick in which it was last known.
    credit: u64,
    credited_in: u32,
}

#[derive(Clone, Copy)]
enum Arrival {
    Input(PlayerId),
    Command(PlayerId),
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Message>,
    /// Messages that the next batch takes at most.
    limit: usize,
    /// Messages at the front that the next batch takes.
    granted: usize,
    /// Bytes left over from earlier turns.
    deficit: usize,
}

/// The result of a player's turn.
#[derive(PartialEq)]
enum Turn {
    /// Everything that the player may send in this tick is granted.
    Done,
    /// The rest waits for the player's next turn.
    Over,
    /// The rest, and that of all other players, waits for the next tick.
    Full,
}

impl Inbox {
    pub(super) fn new(per_tick: PerTick) -> Inbox {
        Inbox {
            per_tick,
            players: BTreeMap::new(),
            departed: Vec::new(),
            arrivals: VecDeque::new(),
            input_turn: PlayerId(0),
            command_turn: PlayerId(0),
            dropped_inputs: 0,
            last_dropped: None,
        }
    }

    /// Starts accepting messages of this player.
    pub(super) fn open(&mut self, player: PlayerId) {
        let commands = Queue { limit: self.per_tick.commands, ..Queue::default() };
        self.players.insert(player, Queues { commands, credit: u64::MAX, ..Queues::default() });
    }

    /// Starts accepting messages of a player whose room was saved.
    pub(super) fn reopen(&mut self, player: PlayerId, saved: SavedInbox) {
        self.open(player);
        if let Some(queues) = self.players.get_mut(&player) {
            (queues.consumed, queues.credit, queues.credited_in) = (saved.consumed, saved.credit, saved.credited_in);
        }
    }

    /// What is kept of a player when the room is saved.
    pub(super) fn saved(&self, player: PlayerId) -> SavedInbox {
        let queues = self.players.get(&player);
        queues.map_or(SavedInbox { consumed: 0, credit: u64::MAX, credited_in: 0 }, |queues| SavedInbox {
            consumed: queues.consumed,
            credit: queues.credit,
            credited_in: queues.credited_in,
        })
    }

    /// Returns the messages that wait, in order of arrival.
    pub(super) fn messages(&self) -> Vec<(PlayerId, Message)> {
        let mut taken: BTreeMap<PlayerId, [usize; 2]> = BTreeMap::new();
        let message = |&arrival: &Arrival| {
            let (player, lane) = match arrival {
                Arrival::Input(player) => (player, 0),
                Arrival::Command(player) => (player, 1),
            };
            let queues = self.players.get(&player)?;
            let at = &mut taken.entry(player).or_default()[lane];
            *at += 1;
            let message = [&queues.inputs, &queues.commands][lane].waiting.get(*at - 1)?;
            Some((player, message.clone()))
        };
        self.arrivals.iter().filter_map(message).collect()
    }

    pub(super) fn push(&mut self, player: PlayerId, message: Message) -> Result<(), Flood> {
        match message {
            Message::Input { number, seen, value } => {
                self.push_input(player, number, seen, value);
                Ok(())
            }
            Message::Command { value } => self.push_command(player, value),
        }
    }

    /// Stops accepting messages of this player and discards those that wait.
    pub(super) fn close(&mut self, player: PlayerId) {
        self.departed.extend(self.players.remove(&player).map(|queues| (player, queues.consumed)));
    }

    pub(super) fn is_open(&self, player: PlayerId) -> bool {
        self.players.contains_key(&player)
    }

    pub(super) fn clear(&mut self) {
        self.departed
            .extend(std::mem::take(&mut self.players).into_iter().map(|(player, queues)| (player, queues.consumed)));
        self.arrivals.clear();
    }

    /// Returns the number of the player's newest input taken by a batch; 0 before the first.
    pub(super) fn consumed(&self, player: PlayerId) -> u32 {
        let departed = || self.departed.iter().find(|(departed, _)| *departed == player).map(|(_, consumed)| *consumed);
        self.players.get(&player).map(|queues| queues.consumed).or_else(departed).unwrap_or(0)
    }

    /// A tick begins.
    pub(super) fn forget_departed(&mut self) {
        self.departed.clear();
    }

    /// Returns the number of inputs dropped past [`PerTick::input_backlog`].
    pub(super) fn dropped_inputs(&self) -> u64 {
        self.dropped_inputs
    }

    /// Takes the last player of whom an input was dropped since the last call.
    pub(super) fn take_last_dropped(&mut self) -> Option<PlayerId> {
        self.last_dropped.take()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.arrivals.len()
    }

    pub(super) fn push_input(&mut self, player: PlayerId, number: u32, seen: f64, value: Vec<u8>) {
        let Some(Queues { inputs, .. }) = self.players.get_mut(&player) else { return };
        inputs.waiting.push_back(Message::Input { number, seen, value });
        if inputs.waiting.len() > self.per_tick.input_backlog {
            inputs.waiting.pop_front();
            self.dropped_inputs += 1;
            self.last_dropped = Some(player);
        } else {
            self.arrivals.push_back(Arrival::Input(player));
        }
    }

    pub(super) fn push_command(&mut self, player: PlayerId, value: Vec<u8>) -> Result<(), Flood> {
        let Some(queues) = self.players.get_mut(&player) else { return Ok(()) };
        let bytes = queues.command_bytes + value.len();
        if queues.commands.waiting.len() == self.per_tick.command_backlog || bytes > limits::COMMAND_BACKLOG_BYTES {
            return Err(Flood);
        }
        queues.command_bytes = bytes;
        queues.commands.waiting.push_back(Message::Command { value });
        self.arrivals.push_back(Arrival::Command(player));
        Ok(())
    }

    /// Appends the batch of `tick`, in order of arrival. Its inputs take at most `input_bytes` when fanned out.
    pub(super) fn take(&mut self, tick: u32, input_bytes: usize, batch: &mut Vec<(PlayerId, Message)>) {
        if self.arrivals.is_empty() {
            return;
        }
        self.grant(tick, input_bytes);
        let input_cost = self.per_tick.input_cost;
        let players = &mut self.players;
        self.arrivals.retain(|&arrival| {
            let (Arrival::Input(player) | Arrival::Command(player)) = arrival;
            let Some(queues) = players.get_mut(&player) else { return false };
            let queue = if let Arrival::Input(_) = arrival { &mut queues.inputs } else { &mut queues.commands };
            let Some(message) = queue.take_granted() else { return !queue.waiting.is_empty() };
            match &message {
                Message::Input { number, .. } => {
                    queues.consumed = *number;
                    queues.credit -= input_cost;
                }
                Message::Command { value } => queues.command_bytes -= value.len(),
            }
            batch.push((player, message));
            false
        });
    }

    fn grant(&mut self, tick: u32, input_bytes: usize) {
        let PerTick { batch_bytes, .. } = self.per_tick;
        for queues in self.players.values_mut().filter(|queues| !queues.inputs.waiting.is_empty()) {
            queues.inputs.limit = queues.input_budget(tick, &self.per_tick);
        }
        let input_bytes = input_bytes.min(batch_bytes);
        let of_inputs = Share { bytes: input_bytes, quantum: limits::FANNED_OUT_BYTES };
        self.input_turn = of_inputs.grant(&mut self.players, |queues| &mut queues.inputs, self.input_turn);
        let of_commands = Share { bytes: batch_bytes, quantum: limits::RELIABLE_UP_BYTES };
        self.command_turn = of_commands.grant(&mut self.players, |queues| &mut queues.commands, self.command_turn);
    }
}

/// The capacity of a batch for messages of one kind.
struct Share {
    /// For all players together.
    bytes: usize,
    /// Bytes per turn; no message is longer.
    quantum: usize,
}

impl Share {
    /// Grants each player in turn, beginning with `turn`. Returns the player to begin with in the next tick.
    fn grant(
        self,
        players: &mut BTreeMap<PlayerId, Queues>,
        queue: fn(&mut Queues) -> &mut Queue,
        turn: PlayerId,
    ) -> PlayerId {
        let mut left = self.bytes;
        let mut turn = turn;
        let mut unserved = players.values_mut().map(queue).filter(|queue| !queue.is_served()).count();
        while unserved > 0 {
            let Some((&player, queues)) = players.range_mut(turn..).next() else {
                turn = PlayerId(0);
                continue;
            };
            let queue = queue(queues);
            if !queue.is_served() {
                match queue.take_turn(player, &mut left, &self) {
                    Turn::Done => unserved -= 1,
                    Turn::Over => {}
                    Turn::Full => return player,
                }
            }
            turn = player.0.checked_add(1).map_or(PlayerId(0), PlayerId);
        }
        turn
    }
}

impl Queues {
    /// Returns how many inputs may be taken in `tick`.
    fn input_budget(&mut self, tick: u32, per_tick: &PerTick) -> usize {
        let PerTick { input_credit, input_cost, inputs, .. } = *per_tick;
        let grown = input_credit.saturating_mul(tick.saturating_sub(self.credited_in).into());
        self.credited_in = tick;
        self.credit = self.credit.saturating_add(grown).min(input_cost * inputs as u64);
        usize::try_from(self.credit / input_cost).unwrap_or(usize::MAX)
    }
}

impl Queue {
    fn is_served(&self) -> bool {
        self.granted == self.waiting.len().min(self.limit)
    }

    fn take_turn(&mut self, player: PlayerId, left: &mut usize, share: &Share) -> Turn {
        // A turn interrupted by the end of a tick continues with its remaining bytes.
        if self.waiting.get(self.granted).is_some_and(|message| message.cost(player) > self.deficit) {
            self.deficit += share.quantum;
        }
        while self.granted < self.limit
            && let Some(message) = self.waiting.get(self.granted)
        {
            let cost = message.cost(player);
            if cost > self.deficit {
                return Turn::Over;
            }
            if cost > *left {
                return Turn::Full;
            }
            self.deficit -= cost;
            *left -= cost;
            self.granted += 1;
        }
        self.deficit = 0;
        Turn::Done
    }

    fn take_granted(&mut self) -> Option<Message> {
        self.granted = self.granted.checked_sub(1)?;
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PLAYER: PlayerId = PlayerId(1);

    /// Sends `sent` inputs before each of `ticks`; how many each of these takes.
    fn taken(inbox: &mut Inbox, ticks: std::ops::Range<u32>, sent: u32) -> Vec<usize> {
        let tick = |tick: u32| {
            (0..sent).for_each(|number| inbox.push_input(PLAYER, tick * 100 + number, 0.0, vec![7]));
            let mut batch = Vec::new();
            inbox.take(tick, usize::MAX, &mut batch);
            batch.len()
        };
        ticks.map(tick).collect()
    }

    fn inbox(tick_ms: u64, inputs: usize, inputs_in_ms: u64) -> Inbox {
        let [tick, inputs_in] = [tick_ms, inputs_in_ms].map(Duration::from_millis);
        let mut inbox = Inbox::new(PerTick::new(tick, inputs, inputs_in));
        inbox.open(PLAYER);
        inbox
    }

    #[test]
    fn eight_inputs_in_each_tick_are_no_faster_than_two() {
        let mut inbox = inbox(33, 2, 33);
        assert_eq!(taken(&mut inbox, 1..1_001, 2), [2; 1_000], "within the budget none waits");
        let greedy = taken(&mut inbox, 1_001..1_161, 8);
        assert_eq!(greedy[0], 8, "what was saved");
        let most = 8 + 159 * 2 * 17 / 16;
        assert!((most - 1..=most).contains(&greedy.iter().sum::<usize>()), "{greedy:?}");
        assert!(inbox.dropped_inputs() > 900 && inbox.waiting() <= 12);
        assert_eq!((inbox.take_last_dropped(), inbox.take_last_dropped()), (Some(PLAYER), None));
        // What waits is taken at the same pace, and then budget is saved again, also in ticks that were missed.
        assert!(taken(&mut inbox, 1_161..1_170, 0).iter().all(|&taken| taken <= 3));
        assert_eq!(taken(&mut inbox, 1_180..1_183, 8), [8, 2, 2]);
    }

    #[test]
    fn the_budget_is_that_of_the_time_whatever_the_tick() {
        // The ticks' length, the budget in a time, what is sent per tick, and taken of that.
        for (tick_ms, inputs, inputs_in_ms, sent, expected) in [
            (133, 2, 33, 8, 800),
            (1_000, 2, 33, 60, 6_000),
            (5, 2, 33, 1, 8 + 99 * 2 * 5 * 17 / (33 * 16)),
            (33, 8, 33, 8, 800),
            (33, 0, 33, 8, 8 + 99 * 17 / 16),
            (33, usize::MAX, 33, 40, 800),
            (33, 1, 0, 8, 800),
        ] {
            let taken: usize = taken(&mut inbox(tick_ms, inputs, inputs_in_ms), 1..101, sent).iter().sum();
            let what = format!("{sent} in {tick_ms} ms, of {inputs} in {inputs_in_ms} ms: {taken}");
            assert!((expected - 1..=expected + 1).contains(&taken), "{what}, not {expected}");
        }
    }

    #[test]
    fn a_page_of_sixty_a_second_has_its_inputs_taken_by_default() {
        let inputs = |micros| limits::inputs_per_tick(Duration::from_micros(micros));
        assert_eq!([5_000, 16_667, 33_000, 33_333, 50_000, 100_000].map(inputs), [1, 1, 2, 2, 3, 6]);
    }
}
