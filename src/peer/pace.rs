//! Congestion back-off without a congestion window.
//!
//! The lane never queues, so it cannot slow down by waiting; it leaves out whole ticks. A peer with a congested path
//! gets every 2nd of the ticks with anything to send, then every 4th, each with the newest data; ticks with a state and
//! ticks with only events are counted separately, so that any rhythm of the game works. SACKs (RFC 9260 §3.3.4) show
//! congestion by two signs:
//!
//! - **Rising delay.** A link with a deep queue does not lose packets but delays them, and delayed data is stale. The
//!   minimum round trip of half a second is compared with the minimum of the last minutes: minimums, because radio
//!   links delay single packets at random, but a queue delays all. A difference of more than 100 ms (more if single
//!   packets vary by more) and of more than half of the minimum is a queue, unless it is already shrinking. A queue
//!   that other traffic keeps full for minutes counts as a longer path in the end, up to a delay that no path has.
//! - **Heavy loss.** A game must continue at 20 % random loss, which back-off would not cure. Loss above 35 %, and
//!   significantly above 20 %, comes from the overflow of a short queue.
//!
//! After some seconds without either sign the next higher rate is tried. A failed attempt doubles the wait before the
//! next, so that a path that never carries the full rate is not overloaded every few seconds. A peer from which nothing
//! is received gets every 2nd tick, which detects the end of an outage within two ticks. After its first packet it gets
//! every tick: an outage is no evidence of congestion.
//!
//! Halving and quartering is a coarse AIMD, as RFC 8085 §3.1 requires of applications without their own congestion
//! controller. The upper limit is [`limits::DOWNLINK_BYTES_PER_SECOND`].

use std::time::{Duration, Instant};

use crate::limits;

/// Datagrams whose send time is remembered: a second at 30 Hz with four parts each.
const REMEMBERED: usize = 128;
/// A gap in the acknowledgements may be due to reordering; past this age it is a loss. With a shorter time, packets
/// that were only reordered would be abandoned and dropped by the receiver.
const REORDERING_TSNS: u32 = 8;
/// An outage: nothing received for this time, although pings are answered every second.
const SILENCE: Duration = Duration::from_millis(1_500);
/// The period of the minimum round trip.
const WINDOW: Duration = Duration::from_millis(500);
/// Fewer round trips are not representative; the period continues.
const WINDOW_SAMPLES: u32 = 4;
/// The allowed increase of the round trip above its minimum.
const RISE: Duration = Duration::from_millis(100);
/// The allowed increase if single packets vary: four times their variation (as in RFC 6298 §2), but at most this, or a
/// quickly growing queue would count as variation.
const RISE_JITTERY_MAX: Duration = Duration::from_millis(250);
/// How long a minimum round trip is valid, up to twice this time: a moving phone may get a longer path for good.
const BASE_PERIOD: Duration = Duration::from_mins(1);
/// The maximum delay of a SACK for a single packet (RFC 9260 §6.2).
const DELAYED_SACK: Duration = Duration::from_millis(200);
/// The period over which losses are counted; for moderate loss, two periods.
const LOSS_PERIOD: Duration = Duration::from_secs(2);
/// The minimum time between two steps down, to see the effect of the first.
const SETTLE: Duration = Duration::from_secs(1);
/// The time without congestion before a step up, and its maximum after failed attempts.
const HOLD: Duration = Duration::from_secs(4);
const HOLD_MAX: Duration = Duration::from_secs(32);
/// The longest possible path without a queue, by satellite. A download keeps a deep queue full for longer than a
/// minimum round trip is valid.
const BASE_MAX: Duration = Duration::from_millis(750);

/// The content of a SACK: all TSNs up to `cumulative`, and the blocks of `gaps` beyond it.
#[derive(Clone, Copy)]
pub(super) struct Acknowledged<'a> {
    pub(super) cumulative: u32,
    /// Start and end, 16-bit offsets from `cumulative`.
    pub(super) gaps: &'a [[u8; 4]],
}

impl Acknowledged<'_> {
    fn blocks(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.gaps.iter().map(|&[a, b, c, d]| (u16::from_be_bytes([a, b]).into(), u16::from_be_bytes([c, d]).into()))
    }

    pub(super) fn highest(&self) -> u32 {
        self.cumulative.wrapping_add(self.blocks().map(|(_, end)| end).max().unwrap_or(0))
    }

    /// Returns which TSNs after `from` up to `to` have arrived.
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

/// Counters of datagrams sent and lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    pub(super) sent: u32,
    pub(super) lost: u32,
}

impl Losses {
    /// Above 35 %, and more than 5.3 standard deviations above 20 %.
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

/// A smoothed round-trip time (RFC 6298 §2).
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

    /// 0 until measured.
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

/// The minimum round trip of the current period.
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
    /// By TSN, in microseconds since the epoch, wrapping.
    sent_at: [u32; REMEMBERED],
    newest_sent: u32,
    highest_acknowledged: u32,
    /// The newest TSN whose fate is known.
    resolved: u32,
    /// Unless something is received before.
    silent_after: Instant,
    /// Of single packets, including the time that a SACK waits for the peer's next message.
    samples: RoundTrip,
    /// Of the minimum of each period, in which a SACK hardly waited.
    round_trip: RoundTrip,
    window: Window,
    previous_least: Duration,
    /// The minimum of this period and the previous one.
    base: [Duration; 2],
    base_began: Instant,
    /// Of this period and the previous one.
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
    /// `newest_sent` is the number before the first TSN.
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

    /// Resets the path's measurements: the peer has moved to another path.
    pub(super) fn handle_new_path(&mut self, now: Instant) {
        let (epoch, sent_at, reported, turns) = (self.epoch, self.sent_at, self.reported, self.turns);
        *self = Pace { epoch, sent_at, reported, turns, ..Pace::new(now, self.newest_sent) };
    }

    pub(super) fn highest_acknowledged(&self) -> u32 {
        self.highest_acknowledged
    }

    /// The smoothed round trip; 0 until measured.
    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip_us().into())
    }

    /// The smoothed round trip in microseconds; 0 until measured.
    pub(super) fn round_trip_us(&self) -> u32 {
        if self.round_trip.smoothed.is_some() { self.round_trip.smoothed_us() } else { self.samples.smoothed_us() }
    }

    /// The variation of single packets in microseconds.
    pub(super) fn variation_us(&self) -> u32 {
        self.samples.variation_us()
    }

    /// Returns the counters since the last call.
    pub(super) fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.reported)
    }

    pub(super) fn handle_sent(&mut self, now: Instant, tsn: u32) {
        self.newest_sent = tsn;
        self.sent_at[tsn as usize % REMEMBERED] = self.micros(now);
    }

    /// Returns when the oldest message was sent that is newer than all acknowledged ones. If it is too old to be
    /// remembered, returns when the oldest remembered one was sent.
    pub(super) fn waiting_sent_at(&self, now: Instant) -> Option<Instant> {
        let waiting = self.highest_acknowledged().wrapping_add(1);
        if is_newer(waiting, self.newest_sent) {
            return None;
        }
        // The oldest is where the next one will be.
        let is_known = (self.newest_sent.wrapping_sub(waiting) as usize) < REMEMBERED;
        let known = if is_known { waiting } else { self.newest_sent.wrapping_add(1) };
        let ago = self.micros(now).wrapping_sub(self.sent_at[known as usize % REMEMBERED]).cast_signed().max(0);
        Some(now - Duration::from_micros(ago.cast_unsigned().into()))
    }

    /// Records that anything was received.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        if now > self.silent_after {
            self.interval = 1;
            self.hold = HOLD;
            // Losses of an outage are no evidence of congestion.
            self.resolved = self.newest_sent;
            self.start_over(now);
        }
        self.silent_after = now + SILENCE;
    }

    /// Handles a SACK that is not older than the last. If it has a gap too old for reordering, returns the TSN up to
    /// which the peer need not wait any more.
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

    /// Returns whether this tick should be sent.
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
        // The send time of the next one must not have been overwritten either.
        if newer as usize >= REMEMBERED {
            return;
        }
        let sent_at = self.sent_at[tsn as usize % REMEMBERED];
        // An acknowledgement of what is still to leave comes from a peer that guesses.
        let sample = self.micros(now).wrapping_sub(sent_at).cast_signed().max(0).cast_unsigned();
        let sample = Duration::from_micros(sample.into());
        self.samples.measure(sample);
        let alone_for = match newer {
            0 => sample,
            _ => {
                let next = self.sent_at[tsn.wrapping_add(1) as usize % REMEMBERED];
                Duration::from_micros(next.wrapping_sub(sent_at).into())
            }
        };
        // The wait may have been the receiver's SACK timer; short samples are correct anyway.
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
        // A peer that is sent little acknowledges little, and does not congest the path.
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
        // A failed attempt; one that lasted was right when it was made.
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

    /// Measurements at another rate do not apply to this one.
    fn start_over(&mut self, now: Instant) {
        self.window = Window::new(now);
        self.losses = [Losses::default(); 2];
        self.losses_began = now;
        self.clear_since = now;
    }
}

/// The selection of ticks for a congested path.
#[derive(Clone, Copy)]
struct Turns {
    /// Peers that slow down together get different ticks.
    spread: u32,
    tick: Option<u32>,
    /// Whether anything of that tick was sent; `None` if there was nothing yet.
    takes: Option<bool>,
    /// Ticks with only events, and ticks with a state, since the last that was sent.
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

    /// The state and events of a tick are sent or left out together, unless a state has waited for twice its interval:
    /// with events in each tick and a state in each 2nd, the selected ticks might always be those without.
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

/// Returns whether `a` comes after `b` in mod 2³² arithmetic (RFC 1982).
pub(super) fn is_newer(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

#[cfg(test)]
mod tests;
