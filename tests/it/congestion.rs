//! Congested paths: players share them with each other and with other traffic.

use std::collections::VecDeque;
use std::time::Duration;

use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::rand::Rng;
use rtcade::sim::{Node, Path, RateLimit, Simulation};

use crate::late::{MS, Match, TICK, soak};

const ONE_WAY: Duration = Duration::from_millis(25);
/// 256 kbit/s: half of what two players at the full rate would take.
const BYTES_PER_S: u64 = 32_000;
const STATE_BYTES: usize = 1_000;

/// Two players, downstream of one bottleneck from now on.
fn behind(limit: &RateLimit, seed: u64) -> Match {
    let mut play = Match::begin(seed, 2, ONE_WAY, STATE_BYTES);
    for player in play.players.clone() {
        // Jitter, or a full queue would always meet the same player's packets.
        let down = vec![Node::Jitter(10 * MS), Node::RateLimit(limit.clone()), Node::Latency(ONE_WAY)];
        play.sim.set_path(player, Path { down, ..Path::new(ONE_WAY) });
    }
    play
}

/// A bulk transfer through the bottleneck, as TCP has it: slow start, additive increase, half at a loss (RFC 5681).
struct Transfer {
    limit: RateLimit,
    window: f64,
    threshold: f64,
    next: u64,
    /// Number, and when it is acknowledged, if it was not lost.
    outstanding: VecDeque<(u64, Option<Duration>)>,
    /// Losses up to here have been answered.
    recovered: u64,
    silent_since: Duration,
    acknowledged_bytes: u64,
}

impl Transfer {
    const SEGMENT_BYTES: usize = 1_500;
    const TIMEOUT: Duration = Duration::from_secs(1);

    fn new(limit: RateLimit, now: Duration) -> Transfer {
        Transfer {
            limit,
            window: 10.0,
            threshold: f64::INFINITY,
            next: 0,
            outstanding: VecDeque::new(),
            recovered: 0,
            silent_since: now,
            acknowledged_bytes: 0,
        }
    }

    fn next_event(&self) -> Duration {
        let acknowledged = self.outstanding.iter().find_map(|&(_, at)| at);
        acknowledged.unwrap_or(self.silent_since + Transfer::TIMEOUT)
    }

    fn handle_timeout(&mut self, now: Duration) {
        while let Some(first) = self.outstanding.iter().position(|&(_, at)| at.is_some_and(|at| at <= now)) {
            let (number, _) = self.outstanding.remove(first).unwrap();
            self.acknowledged_bytes += Transfer::SEGMENT_BYTES as u64;
            self.silent_since = now;
            self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
            // Three later ones have arrived.
            while let Some(&(lost, None)) = self.outstanding.front().filter(|(lost, _)| lost + 3 <= number) {
                self.outstanding.pop_front();
                if lost >= self.recovered {
                    self.recovered = self.next;
                    self.threshold = (self.window / 2.0).max(2.0);
                    self.window = self.threshold;
                }
            }
        }
        if now >= self.silent_since + Transfer::TIMEOUT && self.outstanding.iter().all(|(_, at)| at.is_none()) {
            self.outstanding.clear();
            self.threshold = (self.window / 2.0).max(2.0);
            self.window = 1.0;
            self.silent_since = now;
        }
        while (self.outstanding.len() as f64) < self.window {
            let left = self.limit.pass(now, Transfer::SEGMENT_BYTES);
            self.outstanding.push_back((self.next, left.map(|at| at + 2 * ONE_WAY)));
            self.next += 1;
        }
    }
}

/// What players and a transfer got out of the bottleneck.
struct Shares {
    /// States of each player, of all that were said.
    states: Vec<f64>,
    /// Of what the bottleneck carries.
    transfer: f64,
    /// The age that one state in a hundred exceeds.
    age_p99: Duration,
}

fn share(play: &mut Match, mut transfer: Option<Transfer>, time: Duration) -> Shares {
    let start = play.sim.elapsed();
    let end = start + time;
    while let Some(transfer) = transfer.as_mut().filter(|transfer| transfer.next_event() < end) {
        play.sim.run(transfer.next_event().saturating_sub(play.sim.elapsed()));
        transfer.handle_timeout(play.sim.elapsed());
    }
    play.sim.run(end.saturating_sub(play.sim.elapsed()));
    let of = |player| play.states(player).filter(|&(said, _)| said >= start).map(|(_, age)| age).collect();
    let ages: Vec<Vec<Duration>> = play.players.iter().map(|&player| of(player)).collect();
    let mut all = ages.concat();
    all.sort_unstable();
    Shares {
        states: ages.iter().map(|ages| ages.len() as f64 * TICK.as_secs_f64() / time.as_secs_f64()).collect(),
        transfer: transfer
            .map_or(0.0, |transfer| transfer.acknowledged_bytes as f64 / (BYTES_PER_S as f64 * time.as_secs_f64())),
        age_p99: all[all.len() * 99 / 100],
    }
}

/// How long, and the seed.
fn size() -> (Duration, u64) {
    soak().map_or((Duration::from_secs(120), 1), |(ticks, seed)| (TICK * ticks, seed))
}

#[test]
fn players_behind_one_bottleneck_share_it_and_keep_its_queue_short() {
    let (time, seed) = size();
    for queue_bytes in [64_000, 256_000] {
        let limit = RateLimit::new(BYTES_PER_S, queue_bytes);
        let mut play = behind(&limit, seed);
        let Shares { states, age_p99, .. } = share(&mut play, None, time);
        let context = format!("seed {seed}, {queue_bytes} bytes");
        let total: f64 = states.iter().sum();
        for player in &states {
            assert!((0.4..=0.6).contains(&(player / total)), "{context}: {states:?} of the states");
        }
        // It carries every second state of both, and a little less.
        assert!(total >= 0.6, "{context}: only {states:?} of the states came through");
        assert!(age_p99 <= 1_450 * MS, "{context}: one in a hundred is older than {age_p99:?}");
    }
}

#[test]
fn a_transfer_through_the_same_bottleneck_keeps_a_quarter() {
    let (time, seed) = size();
    for queue_bytes in [64_000, 256_000] {
        let limit = RateLimit::new(BYTES_PER_S, queue_bytes);
        let mut play = behind(&limit, seed);
        let transfer = Transfer::new(limit.clone(), play.sim.elapsed());
        let Shares { states, transfer, .. } = share(&mut play, Some(transfer), time);
        let context = format!("seed {seed}, {queue_bytes} bytes");
        assert!(transfer >= 0.25, "{context}: {transfer} for the transfer, {states:?} of the states");
        assert!(states.iter().all(|&player| player >= 0.15), "{context}: {states:?} of the states");
    }
}

#[test]
fn who_was_silent_gets_everything_with_the_first_packet() {
    let limit = RateLimit::new(BYTES_PER_S, 64_000);
    let mut play = behind(&limit, 1);
    play.sim.run(Duration::from_secs(20));
    let held_back = |play: &Match| play.sim.server.counters().held_back;
    assert!(held_back(&play) > 300, "both were slowed down");
    let end = play.sim.elapsed() + Duration::from_secs(3);
    let outage = Node::Blackout(Duration::ZERO..end);
    play.sim.set_paths(move || Path::new(ONE_WAY).with(&outage));
    let before = held_back(&play);
    play.sim.run(end - play.sim.elapsed());
    assert!(held_back(&play) - before >= 2 * 40, "in silence, every second tick at most");

    let delivered: Vec<_> = play.players.iter().map(|&player| play.sim[player].up().delivered).collect();
    while play.players.iter().zip(&delivered).any(|(&player, &before)| play.sim[player].up().delivered == before) {
        play.sim.run(MS);
    }
    let first = play.sim.elapsed();
    assert!(first <= end + 4 * TICK, "both were heard {:?} after the end", first - end);
    let before = held_back(&play);
    play.sim.run(Duration::from_secs(3));
    assert_eq!(held_back(&play), before);
    for &player in &play.players {
        let states = play.states(player).filter(|&(said, _)| said >= first).count();
        // Until the channel has delivered something, one or two may go over the websocket, which is slow to recover.
        assert!(states >= 87, "{states} states in three seconds");
    }
}

/// Says something every so manieth tick: a state that is as long as that takes.
struct Rhythm(u32);

impl Game for Rhythm {
    type Input = ();
    type Command = ();
    type State = Vec<u8>;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Rhythm>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Rhythm>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Rhythm>, tick: Tick, _: Batch<'_, Rhythm>) {
        if tick.number.is_multiple_of(self.0) {
            let noise: Vec<u8> = (0..1_000 * self.0).map(|_| ctx.rng().next_u32().to_le_bytes()[0] & 0x7f).collect();
            ctx.state(&noise).unwrap();
        }
    }
}

#[test]
fn a_game_with_any_rhythm_leaves_every_slow_player_a_share() {
    for every in [1, 2, 4] {
        let mut sim = Simulation::new(3, move |_| Ok(Rhythm(every)));
        let players: Vec<_> = (0..4).map(|n| sim.join("slow", &format!("{n}"))).collect();
        sim.run(Duration::from_secs(3));
        for &player in &players {
            let limit = Node::RateLimit(RateLimit::new(16_000, 32_000));
            let down = vec![Node::Jitter(10 * MS), limit, Node::Latency(ONE_WAY)];
            sim.set_path(player, Path { down, ..Path::new(ONE_WAY) });
        }
        sim.run(Duration::from_secs(10));
        let seen =
            |sim: &Simulation<Rhythm>| players.iter().map(|&id| sim[id].states::<Vec<u8>>().len()).collect::<Vec<_>>();
        let before = seen(&sim);
        sim.run(Duration::from_secs(20));
        let seen: Vec<usize> = seen(&sim).iter().zip(before).map(|(after, before)| after - before).collect();
        let said = 606 / usize::try_from(every).unwrap();
        assert!(seen.iter().all(|&seen| seen * 5 >= said), "every {every} ticks: {seen:?} of {said}");
    }
}
