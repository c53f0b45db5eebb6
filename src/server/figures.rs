//! What is counted and measured for operators.

use std::time::{Duration, Instant};

use crate::endpoint::{Dropped, StunRequests, Unroutable};
use crate::wire::codes::Leave;

/// Counters since the start of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams that no peer accepted.
    pub unroutable: Unroutable,
    /// STUN requests without a user name.
    pub stun: StunRequests,
    /// Packets and messages dropped by peers.
    pub peers: Dropped,
    /// Refused requests.
    pub refused_requests: u64,
    /// Refused joins, by reason; included in `refused_requests`.
    pub refused_joins: RefusedJoins,
    /// Frames that could not be decoded. The sender is removed.
    pub bad_frames: u64,
    /// Frames past a player's rate limit.
    pub excess_frames: u64,
    /// Unreliable frames dropped because they could not be sent at once.
    pub dropped_frames: u64,
    /// States sent to players.
    pub states: StatesSent,
    /// States not sent to players because the whole of it does not fit one frame, and they hold no baseline.
    pub oversized_states: u64,
    /// States, ticks and unreliable events left out because the player's path was congested.
    pub held_back: u64,
    /// Messages between players dropped because of a slow websocket.
    pub dropped_relays: u64,
    /// Inputs dropped because a player sent more than the game takes.
    pub overflowed_inputs: u64,
    /// Inputs whose [`seen`](crate::game::Incoming::Input) was clamped: ahead of the room, or too far back.
    pub clamped_seen: u64,
    /// Ticks skipped because the server was late.
    pub missed_ticks: u64,
    /// Rooms closed because their game panicked.
    pub failed_rooms: u64,
    /// Ticks whose calls into the game took longer than their budget, see
    /// [`Server::supervise`](super::Server::supervise).
    pub ticks_over_budget: u64,
    /// Rooms closed because too many of their ticks did.
    pub rooms_over_budget: u64,
    /// Messages of games that were not sent because they were too large or could not be encoded.
    pub unsent_messages: u64,
    /// Players removed, by reason.
    pub put_out: PutOut,
    /// Players who have joined.
    pub joined: u64,
    /// Players who have left, in the order of [`Leave::ALL`].
    pub left: [u64; Leave::ALL.len()],
    /// Messages over data channels.
    pub over_channels: Traffic,
    /// Messages over websockets.
    pub over_websockets: Traffic,
    /// Data channels that have ended, by reason.
    pub channels: ChannelsEnded,
    /// Sessions that could not be resumed because the player had missed more than is kept.
    pub missed_too_much: u64,
    /// Connections closed because the client was too slow to receive.
    pub overfull_connections: u64,
    /// Connections refused because of too many from the same address.
    pub refused_connections: u64,
    /// Connections closed because no player joined in time.
    pub idle_connections: u64,
    /// External messages for rooms that do not exist.
    pub lost_externals: u64,
    /// Events for other services dropped because nothing polled them, see
    /// [`Server::poll_live_event`](super::Server::poll_live_event).
    pub dropped_live_events: u64,
    /// Clients sent to another node of the cluster.
    pub redirected: u64,
    /// Rooms that were saved, and go on here.
    pub restored_rooms: u64,
    /// Calls of [`Hooks`](crate::hooks::Hooks) that panicked, attached too much or decided too late.
    pub failed_hooks: u64,
}

/// States sent to players: each once per player. Bytes are of bodies, without headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatesSent {
    /// States sent whole, to players who hold no baseline or where a delta is not smaller.
    pub whole: u64,
    /// States sent as deltas.
    pub deltas: u64,
    /// Bytes of the states sent whole, deflated where that helped.
    pub whole_bytes: u64,
    /// Bytes of the deltas.
    pub delta_bytes: u64,
    /// Bytes that all of them have as the game encoded them.
    pub encoded_bytes: u64,
}

/// Data channels that have ended before their players left or opened others, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelsEnded {
    /// It did not open in time: UDP may be blocked.
    pub unopened: u64,
    /// Nothing arrived any more.
    pub lost: u64,
    /// The client closed it.
    pub closed: u64,
    /// The handshake or the cryptography failed.
    pub failed: u64,
    /// It was reliable, or its client sent too many packets.
    pub refused: u64,
}

/// Players removed, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOut {
    /// Removed by the game.
    pub kicked: u64,
    /// Removed for exceeding a rate limit.
    pub flood: u64,
    /// Removed for a message that the server or the game could not decode.
    pub bad_frame: u64,
}

/// Refused joins, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedJoins {
    /// Too many joins at once, to the server or from one address.
    pub pace: u64,
    /// The bearer token was missing, invalid or expired.
    pub token: u64,
    /// The session to resume is unknown or belongs to another player.
    pub session: u64,
}

/// The current numbers of connections, players and rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gauges {
    /// Websocket connections.
    pub connections: usize,
    /// Players.
    pub players: usize,
    /// Rooms.
    pub rooms: usize,
    /// Data channels, open or opening.
    pub peers: usize,
    /// Media connections, open or opening.
    pub media_peers: usize,
    /// Bytes queued for websockets.
    pub queued_bytes: usize,
}

/// Players by the transport that carries their states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transports {
    /// A data channel.
    pub webrtc: usize,
    /// The websocket: the data channel is opening, has failed or is silent.
    pub websocket: usize,
    /// None: the websocket is lost and no data channel is open.
    pub away: usize,
}

/// How many frames of a game were sent and received, and their bytes with headers. A large message has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Frames sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames received.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
}

impl Traffic {
    pub(super) fn note_sent(&mut self, frames: usize, bytes: usize) {
        self.sent += frames as u64;
        self.sent_bytes += bytes as u64;
    }

    pub(super) fn note_received(&mut self, bytes: usize) {
        self.received += 1;
        self.received_bytes += bytes as u64;
    }
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.sent += other.sent;
        self.sent_bytes += other.sent_bytes;
        self.received += other.received;
        self.received_bytes += other.received_bytes;
    }
}

/// A histogram of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The last one counts what is above all bounds.
    counts: [u64; Histogram::BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// The upper bounds of the buckets.
    pub const BOUNDS: [Duration; 16] = [
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2_500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_millis(2_500),
        Duration::from_secs(5),
        Duration::from_secs(10),
    ];

    /// Counts a duration in the first bucket whose bound it does not exceed.
    pub fn observe(&mut self, duration: Duration) {
        let bucket = Histogram::BOUNDS.iter().position(|&bound| duration <= bound);
        self.counts[bucket.unwrap_or(Histogram::BOUNDS.len())] += 1;
        self.sum += duration;
    }

    /// Returns how many durations each bucket has, by its upper bound; `None` is the bound of the last.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        Histogram::BOUNDS.iter().copied().map(Some).chain([None]).zip(self.counts)
    }

    /// Returns the number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of the durations.
    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// Times measured since the start of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// From when the tick of a room is due to its begin.
    pub tick_lateness: Histogram,
    /// The tick of a room: its game, and sending its output to the players. Measured if the server is
    /// [supervised](super::Server::supervise).
    pub tick: Histogram,
    /// From the offer of a data channel that opens until ICE has found a path.
    pub ice: Histogram,
    /// From then until the DTLS handshake is complete.
    pub dtls: Histogram,
    /// From then until the data channel is open.
    pub sctp: Histogram,
}

/// The time that the ticks of a room took, averaged over about a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// The calls into the game, per tick.
    pub game: Duration,
    /// The whole tick.
    pub tick: Duration,
}

/// Averages the cost of a room.
#[derive(Default)]
pub(super) struct CostMeter {
    since: Option<Instant>,
    ticks: u32,
    sum: Cost,
    last: Option<Cost>,
}

impl CostMeter {
    const WINDOW: Duration = Duration::from_secs(1);

    pub(super) fn note(&mut self, now: Instant, tick: Cost) {
        let since = *self.since.get_or_insert(now);
        self.ticks += 1;
        self.sum.game += tick.game;
        self.sum.tick += tick.tick;
        if now >= since + CostMeter::WINDOW {
            let last = Some(self.average());
            *self = CostMeter { since: Some(now), last, ..CostMeter::default() };
        }
    }

    /// The cost in the last window, or in the first one so far.
    pub(super) fn cost(&self) -> Cost {
        self.last.unwrap_or_else(|| self.average())
    }

    fn average(&self) -> Cost {
        let ticks = self.ticks.max(1);
        Cost { game: self.sum.game / ticks, tick: self.sum.tick / ticks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        let durations =
            [Duration::ZERO, Duration::from_millis(5), Duration::from_micros(5_001), Duration::from_secs(60)];
        for duration in durations {
            histogram.observe(duration);
        }
        let filled: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        let bound = |ms| Some(Duration::from_millis(ms));
        assert_eq!(filled, [(Some(Duration::from_micros(100)), 1), (bound(5), 1), (bound(10), 1), (None, 1)]);
        assert_eq!((histogram.count(), histogram.sum()), (4, durations.iter().sum()));
    }

    #[test]
    fn the_cost_is_that_of_the_last_second() {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let start = Instant::now();
        let mut meter = CostMeter::default();
        let cost = |ms| Cost { game: Duration::from_millis(ms), tick: Duration::from_millis(2 * ms) };
        assert_eq!(meter.cost(), Cost::default());
        for tick in 0..=10 {
            meter.note(start + Duration::from_millis(100) * tick, cost(4));
        }
        for tick in 11..15 {
            meter.note(start + Duration::from_millis(100) * tick, cost(1));
            assert_eq!(meter.cost(), cost(4), "the window of tick {tick} is not complete");
        }
        for tick in 15..=20 {
            meter.note(start + Duration::from_millis(100) * tick, cost(1));
        }
        assert_eq!(meter.cost(), cost(1));
    }
}
