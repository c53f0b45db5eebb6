//! A model of rooms and sessions to check the server against: who is in which room, what was sent, what must arrive.
//!
//! A seed makes a run: clients over networks of all kinds, and a list of [`Transition`]s (they join, leave, crash, send,
//! and others attack) at random times. The [`World`] applies each to the model and to the server, and compares the two
//! all the time. Then the faults stop, what they held up arrives, and within five seconds more everything must be as it
//! should; then all leave, and nothing may be left.
//!
//! What goes over a websocket takes as long as TCP has to repeat it. The model doesn't guess how long that is: it sees
//! since when something has been on its way, and stops the clock of that player while it is longer than a sound network
//! takes. Server and client have to answer by that clock as promptly as over a sound network.
//!
//! One run in five ends by the server's shutdown instead. In some runs the server has two addresses, and in a few its
//! rooms take many players. What was recorded is replayed.
//!
//! `MODEL_SEEDS` says how many seeds to run, `MODEL_FIRST_SEED` the first of them.

mod actions;
mod attacks;
mod checks;
mod ending;
mod network;
mod player;
mod reader;
mod recordings;
mod transition;
mod witness;
mod world;

use std::cell::RefCell;
use std::time::Duration;

use rtcade::rand::RngExt;

use self::transition::Transition;
use self::world::World;

/// The tests that share the seeds, so that they run beside each other.
const SHARES: u64 = 32;
/// Seeds where nobody asks for more.
const SEEDS: u64 = 48;
/// After the faults, once everything has arrived that they held up.
const RECOVERY: Duration = Duration::from_secs(5);

/// Notes what is logged as an error, by thread.
struct ErrorLog;

thread_local! {
    static ERRORS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl log::Log for ErrorLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Error
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            ERRORS.with_borrow_mut(|errors| errors.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

fn run(seed: u64) {
    ERRORS.take();
    let mut world = World::new(seed);
    let transitions = world.rng.random_range(20..=50);
    if world.is_crowded() {
        world.gather();
    }
    for _ in 0..transitions {
        let transition = Transition::draw(&mut world);
        world.apply(transition);
        let pause = [0, 20, 100, 250, 600][world.rng.random_range(0..5)];
        world.run(Duration::from_millis(pause));
    }
    if world.rng.random_ratio(1, 5) {
        world.shut_down();
        world.expect_replays();
        return;
    }
    world.calm();
    world.run(RECOVERY - Duration::from_secs(1));
    world.expect_liveness();
    world.expect_nothing_left();
    world.expect_replays();
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn run_share(share: u64) {
    // Another test of this process may have been first.
    let _ = log::set_logger(&ErrorLog);
    log::set_max_level(log::LevelFilter::Error);
    let first = number("MODEL_FIRST_SEED", 1);
    let end = first + number("MODEL_SEEDS", SEEDS);
    (first..end).filter(|seed| seed % SHARES == share).for_each(run);
}

macro_rules! shares {
    ($($name:ident: $share:literal,)*) => {
        $(#[test]
        fn $name() {
            run_share($share);
        })*

        const _: () = assert!([$($share),*].len() as u64 == SHARES);
    };
}

shares! {
    server_and_model_agree_0: 0,
    server_and_model_agree_1: 1,
    server_and_model_agree_2: 2,
    server_and_model_agree_3: 3,
    server_and_model_agree_4: 4,
    server_and_model_agree_5: 5,
    server_and_model_agree_6: 6,
    server_and_model_agree_7: 7,
    server_and_model_agree_8: 8,
    server_and_model_agree_9: 9,
    server_and_model_agree_10: 10,
    server_and_model_agree_11: 11,
    server_and_model_agree_12: 12,
    server_and_model_agree_13: 13,
    server_and_model_agree_14: 14,
    server_and_model_agree_15: 15,
    server_and_model_agree_16: 16,
    server_and_model_agree_17: 17,
    server_and_model_agree_18: 18,
    server_and_model_agree_19: 19,
    server_and_model_agree_20: 20,
    server_and_model_agree_21: 21,
    server_and_model_agree_22: 22,
    server_and_model_agree_23: 23,
    server_and_model_agree_24: 24,
    server_and_model_agree_25: 25,
    server_and_model_agree_26: 26,
    server_and_model_agree_27: 27,
    server_and_model_agree_28: 28,
    server_and_model_agree_29: 29,
    server_and_model_agree_30: 30,
    server_and_model_agree_31: 31,
}
