//! How often a peer is sent to: back-off without a congestion window.
//!
//! The lane never queues, so it can't slow down by waiting; it slows down by leaving out whole ticks. A peer whose path
//! is congested gets every 2nd of the ticks that have something for it, then every 4th, with what is newest then: of
//! those with a state and of those with events alike, whatever the game's rhythm is. What the path can carry shows in
//! the SACKs (RFC 9260 §3.3.4), by two signs:
//!
//! - **Delay that rises.** A link with a deep queue doesn't lose, it delays, and what it delays is stale when it comes.
//!   The least round trip of half a second is compared with the least of the last minutes: the least, because radio
//!   links delay single packets at random, but a queue delays all. More than 100 ms above it (more where single packets
//!   vary by more), and more than half of it, is a queue, unless it is shrinking by itself already. A queue that
//!   somebody else keeps full for minutes passes for a longer path in the end, up to the delay that no path has.
//! - **Loss that isn't the radio's.** A game must play on at 20 % of random loss, and backing off would not cure that.
//!   Above 35 %, and by more than chance is likely to make of 20 %, it is a short queue that overflows.
//!
//! When neither has been seen for some seconds the next step up is tried; a try that fails doubles the wait before the
//! next, so that a path which never carries the full rate is not overloaded every few seconds. A peer of which nothing
//! is heard gets every 2nd tick, which finds the end of an outage within two ticks, and from its first packet on
//! everything: an outage says nothing about what the path carries after it.
//!
//! Halving and quartering is a coarse AIMD (RFC 8085 §3.1 asks applications without a congestion controller of their
//! own for as much); above it stands the cap of [`limits::DOWNLINK_BYTES_PER_SECOND`].

use std::time::{Duration, Instant};

use crate::limits;

/// Datagrams whose time of sending is remembered: a second at 30 Hz with four parts each.
const REMEMBERED: usize = 128;
/// A hole in what the peer has acknowledged may be reordering; once it is this old it is a loss. With none, packets
/// that were only reordered would be given up and die at the receiver.
const REORDERING_TSNS: u32 = 8;
/// Nothing heard for so long is an outage. Pings, each a second, are answered.
const SILENCE: Duration = Duration::from_millis(1_500);
/// Time over which the least round trip is taken.
const WINDOW: Duration = Duration::from_millis(500);
/// Fewer round trips than these say little; the window goes on.
const WINDOW_SAMPLES: u32 = 4;
/// How far above its least the round trip may rise.
const RISE: Duration = Duration::from_millis(100);
/// How far where single packets vary: four times their variation (as RFC 6298 §2 has it), but no further than this, or
/// a queue that grows fast would pass for variation.
const RISE_JITTERY_MAX: Duration = Duration::from_millis(250);
/// How long a least round trip counts, to twice this: a phone that moves may get a longer path for good.
const BASE_PERIOD: Duration = Duration::from_mins(1);
/// A receiver delays a SACK for one packet alone by up to this (RFC 9260 §6.2).
const DELAYED_SACK: Duration = Duration::from_millis(200);
/// Time over which losses are added up; they count for twice this, for the loss that is not so heavy.
const LOSS_PERIOD: Duration = Duration::from_secs(2);
/// No step down follows another before its effect can be seen.
const SETTLE: Duration = Duration::from_secs(1);
/// Time without a sign of congestion before a step up is tried, and the most that failed tries make of it.
const HOLD: Duration = Duration::from_secs(4);
const HOLD_MAX: Duration = Duration::from_secs(32);
/// No path without a queue is longer: the longest go by satellite. A download keeps a deep queue full for longer than
/// any least round trip counts.
const BASE_MAX: Duration = Duration::from_millis(750);

/// What a SACK says: everything up to `cumulative`, and the blocks of `gaps` beyond it.
#[derive(Clone, Copy)]
pub(super) struct Acknowledged<'a> {
    pub(super) cumulative: u32,
    /// Start and end, each an offset of 16 bits from `cumulative`.
    pub(super) gaps: &'a [[u8; 4]],
}

impl Acknowledged<'_> {
    fn blocks(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.gaps.iter().map(|&[a, b, c, d]| (u16::from_be_bytes([a, b]).into(), u16::from_be_bytes([c, d]).into()))
    }

    pub(super) fn highest(&self) -> u32 {
        self.cumulative.wrapping_add(self.blocks().map(|(_, end)| end).max().unwrap_or(0))
    }

    /// Of the numbers after `from` up to `to`, those that have arrived.
    fn arrived(&self, from: u32, to: u32) -> u32 {
        // As distances from `from`, so that nothing wraps.
        let (cumulative, to) = (self.cumulative.wrapping_sub(from).cast_signed(), to.wrapping_sub(from).cast_signed());
        let blocks = self.blocks().filter_map(|(start, end)| {
            let start = cumulative.checked_add_unsigned(start)?.max(1);
            let end = cumulative.checked_add_unsigned(end)?.min(to);
            Some((end - start + 1).max(0).cast_unsigned())
        });
        let most = to.max(0).cast_unsigned();
        blocks.sum::<u32>().saturating_add(cumulative.min(to).max(0).cast_unsigned()).min(most)
    }
}

/// Datagrams that were sent, and of those the ones that didn't arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) sent: u32,
    pub(super) lost: u32,
}

impl Losses {
    /// Above 35 %, and above 20 % by more than 5.3 standard deviations.
    fn are_congestion(self) -> bool {
        let (sent, lost) = (f64::from(self.sent), f64::from(self.lost));
        lost > 0.35 * sent && lost - 0.2 * sent > 5.3 * (0.2 * 0.8 * sent).sqrt()
    }

    pub(super) fn permille(self) -> u16 {
        u16::try_from(u64::from(self.lost) * 1000 / u64::from(self.sent.max(1))).unwrap_or(1000)
    }

    fn is_above_a_third(self) -> bool {
        f64::from(self.lost) > 0.35 * f64::from(self.sent)
    }

    pub(super) fn add(&mut self, sent: u32, lost: u32) {
        self.sent = self.sent.saturating_add(sent);
        self.lost = self.lost.saturating_add(lost);
    }
}

/// A round trip, smoothed as in RFC 6298 §2.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl RoundTrip {
    pub(crate) fn measure(&mut self, sample: Duration) {
        match &mut self.smoothed {
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
                *smoothed = (*smoothed * 7 + sample) / 8;
            }
            None => {
                self.smoothed = Some(sample);
                self.variation = sample / 2;
            }
        }
    }

    /// 0 until it is measured.
    pub(crate) fn smoothed_us(&self) -> u32 {
        micros(self.smoothed.unwrap_or_default())
    }

    pub(crate) fn variation_us(&self) -> u32 {
        micros(self.variation)
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// The least round trip of the window that runs.
#[derive(Clone, Copy)]
struct Window {
    ends: Instant,
    least: Duration,
    samples: u32,
}

impl Window {
    fn new(now: Instant) -> Window {
        Window { ends: now + WINDOW, least: Duration::MAX, samples: 0 }
    }
}

pub(super) struct Pace {
    epoch: Instant,
    /// By TSN, in microseconds since the epoch, which wrap.
    sent_at: [u32; REMEMBERED],
    newest_sent: u32,
    highest_acknowledged: u32,
    /// Up to here it is known what arrived.
    resolved: u32,
    /// Unless something is heard before.
    silent_after: Instant,
    /// Of single packets: a SACK that rides on the peer's next message has waited for it.
    samples: RoundTrip,
    /// Of the least of each window, where a SACK hardly waited.
    round_trip: RoundTrip,
    window: Window,
    previous_least: Duration,
    /// The least of this period and of the one before.
    base: [Duration; 2],
    base_began: Instant,
    /// Of this period and of the one before.
    losses: [Losses; 2],
    losses_began: Instant,
    reported: Losses,
    interval: u32,
    turns: Turns,
    clear_since: Instant,
    settled: Instant,
    raised: Option<Instant>,
    hold: Duration,
}

impl Pace {
    /// `newest_sent` comes before the first TSN.
    pub(super) fn new(now: Instant, newest_sent: u32) -> Pace {
        Pace {
            epoch: now,
            sent_at: [0; REMEMBERED],
            newest_sent,
            highest_acknowledged: newest_sent,
            resolved: newest_sent,
            silent_after: now + SILENCE,
            samples: RoundTrip::default(),
            round_trip: RoundTrip::default(),
            window: Window::new(now),
            previous_least: Duration::MAX,
            base: [Duration::MAX; 2],
            base_began: now,
            losses: [Losses::default(); 2],
            losses_began: now,
            reported: Losses::default(),
            interval: 1,
            turns: Turns::new(newest_sent),
            clear_since: now,
            settled: now,
            raised: None,
            hold: HOLD,
        }
    }

    /// The peer is elsewhere now, where nothing is known of the path.
    pub(super) fn handle_new_path(&mut self, now: Instant) {
        let (epoch, sent_at, reported, turns) = (self.epoch, self.sent_at, self.reported, self.turns);
        *self = Pace { epoch, sent_at, reported, turns, ..Pace::new(now, self.newest_sent) };
    }

    pub(super) fn highest_acknowledged(&self) -> u32 {
        self.highest_acknowledged
    }

    /// Smoothed; 0 until it is measured.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us().into())
    }

    /// Smoothed, in microseconds; 0 until it is measured.
    pub(super) fn round_trip_us(&self) -> u32 {
        if self.round_trip.smoothed.is_some() { self.round_trip.smoothed_us() } else { self.samples.smoothed_us() }
    }

    /// Of single packets, in microseconds.
    pub(super) fn variation_us(&self) -> u32 {
        self.samples.variation_us()
    }

    /// What has been found out since this was last asked.
    pub(super) fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.reported)
    }

    pub(super) fn handle_sent(&mut self, now: Instant, tsn: u32) {
        self.newest_sent = tsn;
        self.sent_at[tsn as usize % REMEMBERED] = self.micros(now);
    }

    /// Anything has come from the peer.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        if now > self.silent_after {
            self.interval = 1;
            self.hold = HOLD;
            // What the outage swallowed was not lost to congestion.
            self.resolved = self.newest_sent;
            self.start_over(now);
        }
        self.silent_after = now + SILENCE;
    }

    /// Takes a SACK that is not older than the last. Where it shows a hole too old for reordering, the TSN up to which
    /// the peer need not wait any more.
    pub(super) fn handle_acknowledged(&mut self, now: Instant, acknowledged: Acknowledged<'_>) -> Option<u32> {
        let highest = acknowledged.highest();
        if is_newer(highest, self.newest_sent) {
            return None;
        }
        if is_newer(highest, self.highest_acknowledged) {
            self.highest_acknowledged = highest;
            self.measure(now, highest);
        }
        let settled = highest.wrapping_sub(REORDERING_TSNS);
        if is_newer(settled, self.resolved) {
            let sent = settled.wrapping_sub(self.resolved);
            let lost = sent - acknowledged.arrived(self.resolved, settled);
            self.resolved = settled;
            self.losses[0].add(sent, lost);
            self.reported.add(sent, lost);
        }
        is_newer(settled, acknowledged.cumulative).then_some(settled)
    }

    /// Whether the peer gets what this tick has to say.
    pub(super) fn takes_tick(&mut self, now: Instant, tick: u32, is_state: bool) -> bool {
        if now >= self.window.ends {
            self.judge(now);
        }
        let is_silent = now > self.silent_after;
        let interval = if is_silent { self.interval.max(2) } else { self.interval };
        self.turns.takes(tick, interval, is_state)
    }

    fn micros(&self, now: Instant) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "it is read as a difference, which may wrap")]
        let micros = (now - self.epoch).as_micros() as u32;
        micros
    }

    fn measure(&mut self, now: Instant, tsn: u32) {
        let newer = self.newest_sent.wrapping_sub(tsn);
        // The time of the next one, too, must not have been written over.
        if newer as usize >= REMEMBERED {
            return;
        }
        let sent_at = self.sent_at[tsn as usize % REMEMBERED];
        let sample = Duration::from_micros(self.micros(now).wrapping_sub(sent_at).into());
        self.samples.measure(sample);
        let alone_for = match newer {
            0 => sample,
            _ => {
                let next = self.sent_at[tsn.wrapping_add(1) as usize % REMEMBERED];
                Duration::from_micros(next.wrapping_sub(sent_at).into())
            }
        };
        // What was waited for may have been the receiver's timer; short samples are right all the same.
        if alone_for >= DELAYED_SACK && sample > self.base() {
            return;
        }
        self.window.least = self.window.least.min(sample);
        self.window.samples += 1;
    }

    fn base(&self) -> Duration {
        self.base[0].min(self.base[1]).min(BASE_MAX)
    }

    fn judge(&mut self, now: Instant) {
        let window = self.window;
        let measured = window.samples >= WINDOW_SAMPLES;
        // Who is sent little answers little, and is not what congests the path.
        let is_calm = measured || now >= window.ends + WINDOW * 3;
        let mut is_rising = false;
        if measured {
            if now - self.base_began >= BASE_PERIOD {
                self.base = [Duration::MAX, self.base[0]];
                self.base_began = now;
            }
            self.base[0] = self.base[0].min(window.least);
            self.round_trip.measure(window.least);
            let base = self.base();
            let is_falling = window.least + window.least / 16 < self.previous_least;
            let jitter = (self.samples.variation * 4).min(RISE_JITTERY_MAX);
            is_rising = window.least > base + RISE.max(base / 2).max(jitter) && !is_falling;
            self.previous_least = window.least;
            self.window = Window::new(now);
        }
        let [newest, previous] = self.losses;
        let mut both = newest;
        both.add(previous.sent, previous.lost);
        if is_rising || newest.are_congestion() || both.are_congestion() {
            self.clear_since = now;
            self.step_down(now);
        } else if both.is_above_a_third() {
            self.clear_since = now;
        } else if self.interval > 1 && is_calm && now - self.clear_since >= self.hold {
            self.step_up(now);
        }
        if now - self.losses_began >= LOSS_PERIOD {
            self.losses = [Losses::default(), newest];
            self.losses_began = now;
        }
    }

    fn step_down(&mut self, now: Instant) {
        if now < self.settled {
            return;
        }
        // A try that failed; one that held for long was right when it was made.
        let failed = self.raised.take().is_some_and(|raised| now - raised < self.hold.max(HOLD) * 2);
        self.hold = if failed { (self.hold * 2).min(HOLD_MAX) } else { HOLD };
        self.interval = (self.interval * 2).min(limits::BACKOFF_INTERVAL);
        self.turns.spread();
        self.start_over(now);
        self.settled = now + SETTLE;
    }

    fn step_up(&mut self, now: Instant) {
        self.interval /= 2;
        self.raised = Some(now);
        self.start_over(now);
    }

    /// What was seen at another rate says nothing about this one.
    fn start_over(&mut self, now: Instant) {
        self.window = Window::new(now);
        self.losses = [Losses::default(); 2];
        self.losses_began = now;
        self.clear_since = now;
    }
}

/// Which ticks a peer gets whose path doesn't carry all of them.
#[derive(Clone, Copy)]
struct Turns {
    /// Peers that slow down together get different ticks.
    spread: u32,
    tick: Option<u32>,
    /// Whether anything of that tick was taken; `None` before there was anything.
    takes: Option<bool>,
    /// Ticks with events alone, and ticks with a state: those since the last that was taken.
    waits: [u32; 2],
    is_counted: [bool; 2],
}

impl Turns {
    fn new(spread: u32) -> Turns {
        Turns { spread, tick: None, takes: None, waits: [0; 2], is_counted: [false; 2] }
    }

    fn spread(&mut self) {
        self.waits = [self.spread % limits::BACKOFF_INTERVAL; 2];
    }

    /// What a tick has to say goes or stays together, unless a state has waited for twice its time: in a game with
    /// events each tick and a state each 2nd, the decisions might always fall on the others.
    fn takes(&mut self, tick: u32, interval: u32, is_state: bool) -> bool {
        if self.tick.replace(tick) != Some(tick) {
            self.takes = None;
            self.is_counted = [false; 2];
        }
        let waits = &mut self.waits[usize::from(is_state)];
        if !std::mem::replace(&mut self.is_counted[usize::from(is_state)], true) {
            *waits += 1;
        }
        let takes = match self.takes {
            Some(true) => true,
            Some(false) => *waits >= 2 * interval,
            None => *waits >= interval,
        };
        if takes {
            *waits = 0;
        }
        self.takes = Some(takes);
        takes
    }
}

/// Whether `a` comes after `b`, both counting mod 2³² (RFC 1982).
pub(super) fn is_newer(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

#[cfg(test)]
mod tests;
