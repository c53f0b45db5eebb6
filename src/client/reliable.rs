//! The reliable lane of a client: keeps messages across websockets until the server has acknowledged them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits;

/// Frames repeated per tick. Together with new frames they stay below the server's rate limit.
const REPEATED_PER_TICK: usize = 4;

pub(super) struct ReliableLane {
    /// Frames that the server has not acknowledged, oldest first.
    kept: VecDeque<(u32, Vec<u8>)>,
    kept_bytes: usize,
    /// How many of them the websocket has taken; `None` without a websocket.
    taken: Option<usize>,
    /// While frames are repeated: when the next may be sent, and the interval after it.
    pace: Option<(Instant, Duration)>,
    next_seq: u32,
    /// The newest frame received, and the newest acknowledged over this websocket.
    received: u32,
    acknowledged: Option<u32>,
}

impl ReliableLane {
    /// `had` is the newest frame that the server has received, `next` the number of the first frame to send.
    pub(super) fn new(had: u32, next: u32) -> ReliableLane {
        let received = next.wrapping_sub(1);
        ReliableLane {
            kept: VecDeque::new(),
            kept_bytes: 0,
            taken: None,
            pace: None,
            next_seq: had.wrapping_add(1),
            received,
            acknowledged: None,
        }
    }

    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.kept_bytes + bytes <= limits::UNACKNOWLEDGED_BYTES
    }

    /// Queues a frame; `make` gets its number.
    pub(super) fn push(&mut self, make: impl FnOnce(u32) -> Vec<u8>) {
        let frame = make(self.next_seq);
        self.kept_bytes += frame.len();
        self.kept.push_back((self.next_seq, frame));
        self.next_seq = self.next_seq.wrapping_add(1);
    }

    /// Continues on a new websocket. The server has received the frames up to `had`; later ones are repeated, spread
    /// over ticks of length `tick`.
    pub(super) fn attach(&mut self, now: Instant, had: u32, tick: Duration) {
        self.taken = Some(0);
        self.forget(had);
        self.pace = Some((now, tick));
    }

    pub(super) fn detach(&mut self) {
        self.taken = None;
        self.pace = None;
        self.acknowledged = None;
    }

    /// Returns the frames that may be sent now.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let Some(taken) = self.taken else { return Vec::new() };
        let waiting = self.kept.len() - taken;
        let count = match self.pace {
            Some((next, _)) if next > now => 0,
            Some((_, tick)) => {
                self.pace = (waiting > REPEATED_PER_TICK).then_some((now + tick, tick));
                waiting.min(REPEATED_PER_TICK)
            }
            None => waiting,
        };
        self.taken = Some(taken + count);
        self.kept.iter().skip(taken).take(count).map(|(_, frame)| frame.clone()).collect()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.pace.map(|(next, _)| next)
    }

    /// Discards the frames up to `had`, which the server has received.
    pub(super) fn forget(&mut self, had: u32) {
        while self.kept.front().is_some_and(|&(seq, _)| seq <= had) {
            let Some((_, frame)) = self.kept.pop_front() else { return };
            self.kept_bytes -= frame.len();
            self.taken = self.taken.map(|taken| taken.saturating_sub(1));
        }
    }

    /// Returns whether a frame of the server is new; the server repeats frames that were not acknowledged.
    pub(super) fn receive(&mut self, seq: u32) -> bool {
        let is_new = seq > self.received;
        self.received = self.received.max(seq);
        is_new
    }

    pub(super) fn received(&self) -> u32 {
        self.received
    }

    /// Returns the number to acknowledge, if it is new.
    pub(super) fn poll_acknowledgement(&mut self) -> Option<u32> {
        let is_news = self.acknowledged.replace(self.received) != Some(self.received);
        is_news.then_some(self.received)
    }
}
