//! Messages on the data channel never arrive late: under loss, after an outage, and with reordering.
//!
//! `scripts/soak` runs these at full size: it says how long in `SOAK_MINUTES`, and which seed in `SOAK_SEED`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rtcade::client::Event;
use rtcade::game::{Batch, Context, Game, Incoming, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::limits;
use rtcade::rand::Rng;
use rtcade::server::Counters;
use rtcade::sim::{ClientId, Node, Path, Simulation};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const TICK: Duration = Duration::from_millis(33);
/// A little more often than unacknowledged inputs are repeated, so that every packet brings a new one.
const INPUT_EVERY: Duration = Duration::from_millis(30);

/// Says a state of so many bytes, which don't deflate, and notes what it hears.
pub(crate) struct Noise {
    bytes: usize,
    heard: Vec<Heard>,
}

/// An input as the game has it.
struct Heard {
    player: PlayerId,
    tick: u32,
    number: u32,
    sent_us: u64,
}

impl Game for Noise {
    /// Number, when it was sent, and bytes to make it longer.
    type Input = (u32, u64, String);
    type Command = ();
    type State = String;
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    const INPUTS_PER_TICK: usize = rtcade::limits::INPUT_WINDOW;

    fn join(&mut self, _: &mut Context<Noise>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Noise>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, ctx: &mut Context<Noise>, tick: Tick, batch: Batch<'_, Noise>) {
        let inputs = batch.filter_map(|message| match message {
            Incoming::Input { player, input: (number, sent_us, _), .. } => {
                Some(Heard { player, tick: tick.number, number, sent_us })
            }
            _ => None,
        });
        self.heard.extend(inputs);
        let mut noise = vec![0; self.bytes];
        ctx.rng().fill_bytes(&mut noise);
        noise.iter_mut().for_each(|byte| *byte &= 0x7f);
        ctx.state(&String::from_utf8(noise).unwrap()).expect("it fits");
    }
}

/// A room whose players send inputs all the time.
pub(crate) struct Match {
    pub(crate) sim: Simulation<Noise>,
    pub(crate) players: Vec<ClientId>,
    one_way: Duration,
    bytes: usize,
    sent: u32,
}

/// How old each state was when it arrived, and each input when the game had it, by when it was said.
struct Ages {
    states: Vec<(Duration, Duration)>,
    inputs: Vec<(Duration, Duration)>,
    /// The same of the newest input alone that a player's packets brought for a tick.
    newest_inputs: Vec<(Duration, Duration)>,
}

impl Match {
    /// `players` who have joined over sound paths.
    pub(crate) fn begin(seed: u64, players: u32, one_way: Duration, bytes: usize) -> Match {
        let mut sim = Simulation::new(seed, move |_| Ok(Noise { bytes, heard: Vec::new() }));
        sim.set_paths(move || Path::new(one_way));
        let players: Vec<_> = (0..players).map(|number| sim.join("late", &format!("player {number}"))).collect();
        sim.run(Duration::from_secs(3));
        assert!(players.iter().all(|&player| sim[player].client.is_open()), "seed {seed}");
        Match { sim, players, one_way, bytes, sent: 0 }
    }

    /// Puts `node` into every path.
    fn add(&mut self, node: Node) {
        let one_way = self.one_way;
        self.sim.set_paths(move || Path::new(one_way).with(&node));
    }

    /// Makes every path sound again.
    fn calm(&mut self) {
        let one_way = self.one_way;
        self.sim.set_paths(move || Path::new(one_way));
    }

    /// Plays for so many ticks. When that was, and how many inputs each player sent.
    fn play(&mut self, ticks: u32) -> (Range<Duration>, u32) {
        let before = self.sent;
        let start = self.sim.elapsed();
        // A packet with a full window of inputs is as long as a state.
        let padding = "x".repeat(self.bytes / limits::INPUT_WINDOW - "[u32, u64, ]".len());
        let Match { sim, players, sent, .. } = self;
        sim.run_every(INPUT_EVERY, TICK * ticks, |sim| {
            *sent += 1;
            let sent_us = u64::try_from(sim.elapsed().as_micros()).unwrap();
            for &player in &*players {
                sim.send(player, &(*sent, sent_us, &padding));
            }
        });
        (start..self.sim.elapsed(), self.sent - before)
    }

    /// When each state that a player has was said, and its age when it arrived.
    pub(crate) fn states(&self, player: ClientId) -> impl Iterator<Item = (Duration, Duration)> {
        self.sim[player].events.iter().filter_map(|(at, event)| match event {
            Event::State { tick, .. } => Some((self.tick_at(*tick), *at - self.tick_at(*tick))),
            _ => None,
        })
    }

    fn tick_at(&self, number: u32) -> Duration {
        // The room is made when the first player's request arrives, and its grid begins at the last multiple of a tick
        // before that.
        TICK * (u32::try_from(self.one_way.as_nanos() / TICK.as_nanos()).unwrap() + number)
    }

    /// Ages of what was said at that `time`, once it has had a second to arrive. Play goes on meanwhile.
    fn ages(&mut self, time: &Range<Duration>) -> Ages {
        self.play(30);
        let states = self.players.iter().flat_map(|&player| self.states(player));
        let game = self.sim.game("late").unwrap();
        let ages = |heard: &Heard| {
            let sent = Duration::from_micros(heard.sent_us);
            (sent, self.tick_at(heard.tick) - sent)
        };
        let newest: BTreeMap<_, _> = game.heard.iter().map(|heard| ((heard.player, heard.tick), ages(heard))).collect();
        let within = |&(said, _): &(Duration, Duration)| time.contains(&said);
        Ages {
            states: states.filter(within).collect(),
            inputs: game.heard.iter().map(ages).filter(within).collect(),
            newest_inputs: newest.into_values().filter(within).collect(),
        }
    }

    /// Every player's inputs reached the game in order, each at most once.
    fn inputs_came_in_order(&self) -> bool {
        let game = self.sim.game("late").unwrap();
        let mut newest = BTreeMap::new();
        game.heard.iter().all(|heard| newest.insert(heard.player, heard.number) < Some(heard.number))
    }

    /// Frames that either end held back.
    fn held_back(&self) -> u64 {
        let clients = self.players.iter().map(|&player| self.sim[player].client.stats().dropped_frames);
        let Counters { dropped_frames, held_back, .. } = self.sim.server.counters();
        dropped_frames + held_back + clients.sum::<u64>()
    }
}

fn check_loss(seed: u64, players: u32, ticks: u32, permille: u16, rtt: Duration, bytes: usize) {
    let one_way = rtt / 2;
    let mut play = Match::begin(seed, players, one_way, bytes);
    play.add(Node::Loss { permille });
    let held_back = play.held_back();
    let (time, inputs_each) = play.play(ticks);
    let Ages { states, inputs, newest_inputs } = play.ages(&time);

    let context = format!("seed {seed}, {permille} ‰, {rtt:?}, {bytes} bytes");
    // The game has what arrives with its next tick. What is older was in a packet that was lost, and in a later one.
    let in_time = inputs.iter().filter(|&&(_, age)| age <= one_way + TICK).count();
    for (what, arrived, said) in [("states", states.len(), ticks), ("inputs", in_time, inputs_each)] {
        let said = f64::from(players * said);
        let loss = f64::from(permille) / 1_000.0;
        // One point, or of few messages three and a half standard deviations.
        let tolerance = (3.5 * (loss * (1.0 - loss) / said).sqrt()).max(0.01);
        let share = arrived as f64 / said;
        assert!(share >= 1.0 - loss - tolerance, "{context}: {share} of the {what} arrived in time");
    }
    let late = |ages: &[(Duration, Duration)]| ages.iter().find(|&&(_, age)| age > one_way + TICK).copied();
    assert_eq!(late(&states), None, "{context}: a state was late");
    assert_eq!(late(&newest_inputs), None, "{context}: a packet of inputs was late");
    assert!(play.inputs_came_in_order(), "{context}");
    assert_eq!(play.held_back(), held_back, "{context}: all were sent");
}

fn check_outage(seed: u64, rtt: Duration, outage: Duration) {
    let one_way = rtt / 2;
    let mut play = Match::begin(seed, 2, one_way, 200);
    play.play(60);
    let end = play.sim.elapsed() + outage;
    play.add(Node::Blackout(play.sim.elapsed()..end));
    let after = 150 * TICK;
    let (time, _) = play.play(u32::try_from((outage + after).as_nanos() / TICK.as_nanos()).unwrap());
    let Ages { states, newest_inputs, .. } = play.ages(&time);
    let context = format!("seed {seed}, {rtt:?}, {outage:?}");
    for (what, ages) in [("states", states), ("inputs", newest_inputs)] {
        let late = ages.iter().find(|&&(_, age)| age > one_way + TICK);
        assert_eq!(late, None, "{context}: what the {what} say is not the present");
        let fresh: Vec<_> = ages.iter().map(|&(said, _)| said).filter(|&said| said >= end).collect();
        let first = *fresh.iter().min().unwrap();
        assert!(first <= end + 2 * TICK, "{context}: the first of the {what} was said {:?} after the end", first - end);
        // Until something is heard from a player, every second state.
        assert!(fresh.len() >= 2 * 147, "{context}: {} {what} in 150 ticks", fresh.len());
    }
}

/// Reordering alone loses nothing, neither on the way nor at its end.
fn check_jitter(seed: u64, ticks: u32, jitter: Duration) {
    let one_way = 25 * MS;
    let mut play = Match::begin(seed, 2, one_way, 200);
    play.add(Node::Jitter(jitter));
    let counted = |play: &Match| {
        let Counters { unroutable, peers, bad_frames, excess_frames, .. } = play.sim.server.counters();
        (unroutable, peers, bad_frames, excess_frames)
    };
    let before = counted(&play);
    let (time, inputs_each) = play.play(ticks);
    let held_back = play.held_back();
    play.calm();
    let Ages { states, inputs, .. } = play.ages(&time);
    assert_eq!(counted(&play), before, "seed {seed}: nothing was dropped");
    let stats = play.players.iter().map(|&player| play.sim[player].client.stats());
    let overtaken: u64 = stats.clone().map(|stats| stats.stale_states).sum();
    assert!(overtaken > u64::from(ticks) / 4, "seed {seed}: {overtaken} states were overtaken");
    let said = 2 * u64::from(ticks);
    assert_eq!(states.len() as u64 + overtaken + held_back, said, "seed {seed}: every state arrived");
    assert!(held_back <= said / 50, "seed {seed}: jitter was taken for a queue, {held_back} times of {said}");
    assert_eq!(stats.map(|stats| stats.missing).sum::<u64>(), 0, "seed {seed}: and every other frame");
    assert_eq!(inputs.len() as u64, 2 * u64::from(inputs_each), "seed {seed}: every input arrived");
    let oldest = inputs.iter().chain(&states).map(|&(_, age)| age).max().unwrap();
    assert!(oldest <= one_way + jitter + TICK, "seed {seed}: {oldest:?} old");
    assert!(play.inputs_came_in_order(), "seed {seed}");
}

/// How many ticks to play, and the seed, where this is a soak.
pub(crate) fn soak() -> Option<(u32, u64)> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u32>().expect("a number"));
    let minutes = number("SOAK_MINUTES")?;
    let ticks = u32::try_from(Duration::from_secs(60).as_nanos() / TICK.as_nanos()).unwrap();
    Some((minutes * ticks, number("SOAK_SEED").unwrap_or(1).into()))
}

#[test]
fn loss_makes_nothing_late() {
    if let Some((ticks, seed)) = soak() {
        for permille in [50, 100, 200] {
            for rtt in [50 * MS, 100 * MS, 250 * MS] {
                for bytes in [200, 1_000] {
                    check_loss(seed, 2, ticks, permille, rtt, bytes);
                }
            }
        }
    } else {
        check_loss(1, 4, 900, 50, 50 * MS, 200);
        check_loss(2, 4, 900, 100, 100 * MS, 1_000);
        check_loss(3, 4, 900, 200, 250 * MS, 1_000);
        check_loss(4, 4, 900, 200, 50 * MS, 200);
    }
}

#[test]
fn an_outage_is_followed_by_the_present() {
    let (_, seed) = soak().unwrap_or_default();
    for rtt in [50 * MS, 100 * MS, 250 * MS] {
        for outage in [2, 8].map(Duration::from_secs) {
            check_outage(seed, rtt, outage);
        }
    }
}

#[test]
fn what_overtakes_makes_nothing_lost() {
    let (ticks, seed) = soak().unwrap_or((900, 1));
    check_jitter(seed, ticks, 120 * MS);
}
