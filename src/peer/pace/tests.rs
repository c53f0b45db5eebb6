use std::collections::VecDeque;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

const TICK: Duration = Duration::from_millis(33);
const BEFORE_FIRST: u32 = u32::MAX - 20;

/// A peer that is sent to each tick, and whose SACKs come back.
struct Path {
    pace: Pace,
    now: Instant,
    tick: u32,
    ticks_taken: u32,
    newest_sent: u32,
    round_trip: Duration,
    /// Added to each round trip, at random.
    jitter: Duration,
    loss_permille: u32,
    is_silent: bool,
    /// Ticks between two packets, whatever the pace would allow.
    sparseness: u32,
    sacks: VecDeque<(Instant, u32, Vec<[u8; 4]>)>,
    /// What the receiver has beyond what is complete.
    came: Vec<u32>,
    complete: u32,
    unacknowledged: u32,
    rng: ChaCha8Rng,
}

impl Path {
    fn new(seed: u64, round_trip_ms: u64) -> Path {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        Path {
            pace: Pace::new(now, BEFORE_FIRST),
            now,
            tick: 0,
            ticks_taken: 0,
            newest_sent: BEFORE_FIRST,
            round_trip: Duration::from_millis(round_trip_ms),
            jitter: Duration::ZERO,
            loss_permille: 0,
            is_silent: false,
            sparseness: 1,
            sacks: VecDeque::new(),
            came: Vec::new(),
            complete: BEFORE_FIRST,
            unacknowledged: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Lets ticks pass; the share of them that was taken.
    fn run(&mut self, time: Duration) -> f64 {
        let ticks = u32::try_from(time.as_nanos() / TICK.as_nanos()).unwrap();
        let before = self.ticks_taken;
        for _ in 0..ticks {
            self.now += TICK;
            self.tick += 1;
            while self.sacks.front().is_some_and(|(at, ..)| *at <= self.now) {
                let (at, cumulative, gaps) = self.sacks.pop_front().unwrap();
                self.pace.handle_heard(at);
                let forward = self.pace.handle_acknowledged(at, Acknowledged { cumulative, gaps: &gaps });
                self.complete = forward.filter(|&tsn| is_newer(tsn, self.complete)).unwrap_or(self.complete);
            }
            if self.pace.takes_tick(self.now, self.tick, true) {
                self.ticks_taken += 1;
                if self.tick.is_multiple_of(self.sparseness) {
                    self.send();
                }
            }
        }
        f64::from(self.ticks_taken - before) / f64::from(ticks)
    }

    fn send(&mut self) {
        self.newest_sent = self.newest_sent.wrapping_add(1);
        self.pace.handle_sent(self.now, self.newest_sent);
        if self.is_silent || self.rng.random_range(0..1000) < self.loss_permille {
            return;
        }
        self.came.push(self.newest_sent);
        self.unacknowledged += 1;
        let jitter = self.jitter.mul_f64(self.rng.random_range(0.0..=1.0));
        let timer = if self.sparseness > 6 { DELAYED_SACK } else { Duration::ZERO };
        let gaps = self.complete();
        if self.unacknowledged == 2 || !gaps.is_empty() || self.sparseness > 6 {
            self.unacknowledged = 0;
            self.sacks.push_back((self.now + self.round_trip + jitter + timer, self.complete, gaps));
        }
    }

    /// What comes beyond the first hole, as a receiver tells it.
    fn complete(&mut self) -> Vec<[u8; 4]> {
        let mut blocks: Vec<[u32; 2]> = Vec::new();
        for &tsn in &self.came {
            let offset = tsn.wrapping_sub(self.complete);
            match blocks.last_mut() {
                _ if offset.cast_signed() <= 0 => {}
                None if offset == 1 => self.complete = tsn,
                Some(block) if block[1] + 1 == offset => block[1] = offset,
                _ => blocks.push([offset, offset]),
            }
        }
        self.came.retain(|&tsn| is_newer(tsn, self.complete));
        blocks.iter().map(|&[start, end]| (start << 16 | end).to_be_bytes()).collect()
    }
}

#[test]
fn arrivals_are_counted_whatever_the_numbers_are() {
    /// Of the numbers after `from` up to `to`, with `blocks` beyond `cumulative`.
    fn check(cumulative: u32, blocks: &[(u16, u16)], (from, to): (u32, u32), expected: u32) {
        for shift in [0, u32::MAX - 12, 1 << 31] {
            let gaps: Vec<[u8; 4]> = blocks
                .iter()
                .map(|(start, end)| [start.to_be_bytes(), end.to_be_bytes()].concat().try_into().unwrap())
                .collect();
            let acknowledged = Acknowledged { cumulative: cumulative.wrapping_add(shift), gaps: &gaps };
            let arrived = acknowledged.arrived(from.wrapping_add(shift), to.wrapping_add(shift));
            assert_eq!(arrived, expected, "{cumulative} {blocks:?} in {from}..={to}, all {shift} higher");
        }
    }
    check(10, &[], (0, 20), 10);
    check(10, &[], (0, 5), 5);
    check(10, &[], (10, 20), 0);
    check(10, &[], (15, 20), 0);
    check(10, &[(2, 3), (5, 5)], (10, 20), 3);
    check(10, &[(2, 3), (5, 5)], (12, 20), 2);
    check(10, &[(2, 3), (5, 5)], (5, 12), 6);
    check(10, &[(5, 2)], (0, 20), 10);
    // A peer that lies can't have got more than was sent.
    check(10, &[(1, 9), (1, 9), (1, u16::MAX)], (10, 20), 10);
}

#[test]
fn random_loss_holds_nothing_back() {
    for seed in 0..20 {
        for loss_permille in [0, 50, 200] {
            let mut path = Path::new(seed, 80);
            path.loss_permille = loss_permille;
            assert!(path.run(Duration::from_mins(10)) >= 1.0, "seed {seed}, {loss_permille} of 1,000 lost");
            let losses = path.pace.take_losses();
            let expected = f64::from(loss_permille) / 1000.0;
            let measured = f64::from(losses.permille()) / 1000.0;
            assert!(losses.sent > 18_000 && (measured - expected).abs() < 0.02, "{losses:?} of {expected}");
        }
    }
}

#[test]
fn heavy_loss_halves_and_quarters_the_rate() {
    let mut path = Path::new(1, 80);
    path.run(Duration::from_secs(10));
    path.loss_permille = 550;
    path.run(Duration::from_secs(3));
    let share = path.run(Duration::from_secs(1));
    assert!((0.4..0.6).contains(&share), "{share} of the ticks after 3 s");
    path.run(Duration::from_secs(20));
    let share = path.run(Duration::from_secs(8));
    assert!((0.2..0.3).contains(&share), "{share} of the ticks in the end");
    path.loss_permille = 0;
    path.run(Duration::from_secs(60));
    assert!(path.run(Duration::from_secs(8)) >= 1.0, "all is well again");
}

#[test]
fn a_delay_that_rises_halves_and_quarters_the_rate() {
    let mut path = Path::new(1, 80);
    path.run(Duration::from_secs(10));
    for step in 1..=40 {
        path.round_trip = Duration::from_millis(80 + step * 10);
        path.run(Duration::from_millis(100));
    }
    path.run(Duration::from_secs(3));
    let share = path.run(Duration::from_secs(3));
    assert!((0.2..0.3).contains(&share), "{share} of the ticks");
    path.round_trip = Duration::from_millis(80);
    path.run(Duration::from_secs(20));
    assert!(path.run(Duration::from_secs(8)) >= 1.0, "all is well again");
}

#[test]
fn neither_jitter_nor_a_little_delay_holds_anything_back() {
    for (round_trip_ms, later_ms, jitter_ms) in [(20, 110, 0), (400, 590, 0), (50, 50, 130)] {
        let mut path = Path::new(3, round_trip_ms);
        path.jitter = Duration::from_millis(jitter_ms);
        let mut share = path.run(Duration::from_secs(50));
        path.round_trip = Duration::from_millis(later_ms);
        share += path.run(Duration::from_mins(5));
        assert!(share >= 2.0, "{round_trip_ms} ms, then {later_ms}, jitter {jitter_ms}: {share}");
    }
}

#[test]
fn heavy_jitter_is_hardly_ever_taken_for_a_queue() {
    for seed in 0..10 {
        let mut path = Path::new(seed, 50);
        path.jitter = Duration::from_millis(240);
        let share = path.run(Duration::from_mins(10));
        assert!(share >= 0.98, "seed {seed}: {share} of the ticks");
    }
}

#[test]
fn a_longer_path_is_taken_for_what_it_is_in_the_end() {
    let mut path = Path::new(1, 40);
    path.run(Duration::from_mins(3));
    path.round_trip = Duration::from_millis(400);
    let share = path.run(Duration::from_secs(30));
    assert!(share < 0.5, "{share}: it could be a queue");
    path.run(BASE_PERIOD * 2 + HOLD_MAX);
    assert!(path.run(Duration::from_secs(20)) >= 1.0, "it is not");
}

#[test]
fn a_queue_of_a_second_is_never_taken_for_a_longer_path() {
    for (round_trip_ms, full_rate) in [(750, true), (2_000, false)] {
        let mut path = Path::new(1, 40);
        path.run(Duration::from_mins(3));
        path.round_trip = Duration::from_millis(round_trip_ms);
        path.run(Duration::from_mins(10));
        let share = path.run(Duration::from_mins(2));
        assert_eq!(share >= 1.0, full_rate, "{share} at {round_trip_ms} ms");
        assert!(full_rate || share < 0.3, "{share} of the ticks");
    }
}

#[test]
fn an_outage_leaves_every_second_tick_and_ends_at_once() {
    let mut path = Path::new(1, 80);
    path.run(Duration::from_secs(10));
    path.loss_permille = 600;
    path.run(Duration::from_secs(20));
    assert!(path.run(Duration::from_secs(4)) < 0.6, "it was slowed down before");
    path.is_silent = true;
    path.run(Duration::from_secs(3));
    path.pace.interval = 1;
    let share = path.run(Duration::from_secs(4));
    assert!((0.45..0.55).contains(&share), "{share} of the ticks");
    path.pace.interval = 4;
    path.is_silent = false;
    path.loss_permille = 0;
    path.pace.handle_heard(path.now);
    assert!(path.run(Duration::from_secs(20)) >= 1.0);
}

#[test]
fn who_is_sent_little_is_not_slowed_down_by_their_own_timer() {
    let mut path = Path::new(1, 50);
    path.run(Duration::from_secs(20));
    path.sparseness = 30;
    assert!(path.run(Duration::from_mins(2)) >= 1.0);
}

#[test]
fn a_new_address_begins_anew() {
    let mut path = Path::new(1, 40);
    path.run(Duration::from_secs(10));
    path.pace.handle_new_path(path.now);
    path.round_trip = Duration::from_millis(400);
    path.run(Duration::from_secs(1));
    assert!(path.run(Duration::from_secs(20)) >= 1.0, "there is no least round trip of the old path");
}

#[test]
fn what_a_peer_makes_up_is_passed_over() {
    let mut path = Path::new(1, 80);
    path.run(Duration::from_secs(5));
    let ahead = Acknowledged { cumulative: path.newest_sent.wrapping_add(1), gaps: &[] };
    assert_eq!(path.pace.handle_acknowledged(path.now, ahead), None);
    let gap_ahead = Acknowledged { cumulative: path.newest_sent, gaps: &[[0, 1, 0xff, 0xff]] };
    assert_eq!(path.pace.handle_acknowledged(path.now, gap_ahead), None);
    assert!(path.run(Duration::from_secs(20)) >= 1.0);
}

/// Of the ticks of a peer's game, those that were taken with a state and with events: `has` says what a tick has.
fn turns_taken(spread: u32, interval: u32, ticks: u32, has: impl Fn(u32) -> (bool, bool)) -> [Vec<u32>; 2] {
    let mut turns = Turns::new(spread);
    turns.spread();
    let mut taken = [Vec::new(), Vec::new()];
    for tick in 0..ticks {
        let (events, state) = has(tick);
        // Several bodies of one kind are decided on once.
        for is_state in [events.then_some(false), events.then_some(false), state.then_some(true)].into_iter().flatten()
        {
            if turns.takes(tick, interval, is_state) && taken[usize::from(is_state)].last() != Some(&tick) {
                taken[usize::from(is_state)].push(tick);
            }
        }
    }
    taken
}

#[test]
fn back_off_counts_what_there_is_to_send_whatever_the_rhythm_of_the_game() {
    for (interval, every, spread) in (0..3 * 5 * 4).map(|n| (1 << (n % 3), 1 + n / 3 % 5, n / 15)) {
        let [_, states] = turns_taken(spread, interval, 1_000, |tick| (false, tick % every == 0));
        let gaps: Vec<u32> = states.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|&gap| gap == interval * every), "{interval} {every} {spread}: {gaps:?}");
        assert!(u32::try_from(states.len()).unwrap() >= 1_000 / (interval * every) - 1, "{interval} {every} {spread}");
    }
}

#[test]
fn events_of_other_ticks_keep_no_state_away() {
    for (interval, every, spread) in (0..3 * 5 * 4).map(|n| (1 << (n % 3), 1 + n / 3 % 5, n / 15)) {
        let [events, states] = turns_taken(spread, interval, 1_000, |tick| (true, tick % every == 0));
        let longest = |taken: &[u32]| taken.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest(&states) <= 2 * interval * every, "{interval} {every} {spread}: {states:?}");
        assert!(longest(&events) <= 2 * interval, "{interval} {every} {spread}: {events:?}");
        let share = events.len() as f64 * f64::from(interval) / 1_000.0;
        assert!((0.9..1.6).contains(&share), "{interval} {every} {spread}: {share}");
    }
}

#[test]
fn peers_that_slow_down_together_get_different_ticks() {
    let taken: Vec<_> = (0..4).map(|spread| turns_taken(spread, 4, 100, |_| (false, true))[1].clone()).collect();
    let mut all = taken.concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), taken.iter().map(Vec::len).sum::<usize>(), "{taken:?}");
}
