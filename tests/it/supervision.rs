//! Games that take too long, and games that never return.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rtcade::game::{Batch, Context, Game, Join, Leave, PlayerId, Refusal, Tick};
use rtcade::limits::{STRIKES_CLOSED, STRIKES_PER_TICK, STRIKES_SLOWED, TICKS_SLOWED};
use rtcade::sim::Simulation;

const MS: Duration = Duration::from_millis(1);
const TICK: Duration = Duration::from_millis(20);
const BUDGET: Duration = Duration::from_millis(20);

thread_local! {
    static CLOCK: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn clock() -> Instant {
    CLOCK.get().unwrap()
}

/// Takes a time for each tick, by the clock of the test.
struct Slow {
    takes: Rc<Cell<Duration>>,
    ticks: Rc<Cell<u32>>,
}

impl Game for Slow {
    type Input = ();
    type Command = ();
    type State = ();
    type Event = ();
    type Welcome = ();
    type JoinData = ();

    fn join(&mut self, _: &mut Context<Self>, _: PlayerId, _: &Join<()>) -> Result<(), Refusal> {
        Ok(())
    }

    fn leave(&mut self, _: &mut Context<Self>, _: PlayerId, _: Leave) {}

    fn tick(&mut self, _: &mut Context<Self>, _: Tick, _: Batch<'_, Self>) {
        CLOCK.set(Some(clock() + self.takes.get()));
        self.ticks.set(self.ticks.get() + 1);
    }
}

/// Two rooms with a player each. The ticks of the first take a time of the test's.
struct Rooms {
    sim: Simulation<Slow>,
    takes: Rc<Cell<Duration>>,
    slow: Rc<Cell<u32>>,
    other: Rc<Cell<u32>>,
}

fn rooms() -> Rooms {
    let takes = Rc::new(Cell::new(Duration::ZERO));
    let (slow, other) = (Rc::default(), Rc::default());
    let (of_slow, of_both) = (Rc::clone(&takes), [Rc::clone(&slow), Rc::clone(&other)]);
    let mut sim = Simulation::with_config(
        1,
        |config| config.tick = TICK,
        move |room| {
            let is_slow = room.name == "slow";
            Ok(Slow {
                takes: if is_slow { Rc::clone(&of_slow) } else { Rc::default() },
                ticks: Rc::clone(&of_both[usize::from(!is_slow)]),
            })
        },
    );
    CLOCK.set(Some(sim.now()));
    sim.server.supervise(clock, BUDGET);
    sim.join("slow", "Ada");
    sim.join("other", "Bob");
    sim.run(100 * MS);
    Rooms { sim, takes, slow, other }
}

#[test]
fn a_game_that_takes_too_long_is_slowed_then_closed_and_others_are_not_affected() {
    let Rooms { mut sim, takes, slow, other } = rooms();
    assert_eq!(sim.server.counters().ticks_over_budget, 0);
    takes.set(BUDGET);
    sim.run(10 * TICK);
    assert_eq!(sim.server.counters().ticks_over_budget, 0, "as long as the budget is not over it");
    takes.set(2 * BUDGET);
    sim.run(TICK * (STRIKES_SLOWED / 2 + 1));
    assert_eq!(sim.server.rooms().count(), 2);
    let (before, before_other) = (slow.get(), other.get());
    sim.run(TICK * 10 * TICKS_SLOWED);
    assert!((9..=11).contains(&(slow.get() - before)), "{} ticks", slow.get() - before);
    let of_other = other.get() - before_other;
    assert!((10 * TICKS_SLOWED - 1..=10 * TICKS_SLOWED + 1).contains(&of_other), "{of_other} ticks");
    let mut left_to_run = TICKS_SLOWED * STRIKES_CLOSED;
    while sim.server.counters().rooms_over_budget == 0 {
        left_to_run = left_to_run.checked_sub(1).expect("it was never closed");
        sim.run(TICK);
    }
    let left: Vec<String> = sim.server.rooms().map(|room| room.name).collect();
    assert_eq!(left, ["other"]);
    let counters = sim.server.counters();
    assert_eq!(counters.missed_ticks, 0, "those that were left out are no sign of a late server");
    assert_eq!((counters.rooms_over_budget, counters.failed_rooms), (1, 0));
    assert_eq!(counters.ticks_over_budget, u64::from(STRIKES_CLOSED / 2));
}

#[test]
fn a_game_that_recovers_ticks_as_before() {
    let Rooms { mut sim, takes, slow, .. } = rooms();
    takes.set(1_000 * BUDGET);
    let needed = STRIKES_SLOWED.div_ceil(STRIKES_PER_TICK);
    sim.run(TICK * needed + TICK / 2);
    takes.set(Duration::ZERO);
    assert_eq!(sim.server.counters().ticks_over_budget, u64::from(needed), "one tick counts only so often");
    let before = slow.get();
    sim.run(TICK * TICKS_SLOWED * 10);
    assert!((9..=11).contains(&(slow.get() - before)), "it stays slowed until all is made good");
    sim.run(TICK * TICKS_SLOWED * STRIKES_SLOWED);
    let before = slow.get();
    sim.run(TICK * 20);
    assert!((19..=21).contains(&(slow.get() - before)), "{} ticks", slow.get() - before);
}
