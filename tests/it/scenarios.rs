//! The built-in network scenarios with a few seeds each: what players must receive of a game.

use std::time::Duration;

use rtcade::games::Arena;
use rtcade::games::arena::Steer;
use rtcade::sim::{Report, Scenario, Trial};

const SEEDS: [u64; 2] = [1, 2];
const CLIENTS: usize = 2;

/// What must hold over one of them.
struct Expected {
    name: &'static str,
    /// Of 1,000 ticks those that are seen.
    seen_permille: std::ops::RangeInclusive<u64>,
    /// Of 1,000 ticks those that are late, at most.
    late_permille: u64,
    /// Ages in milliseconds: the median and what one in a thousand exceeds, at most.
    age_ms: [f64; 2],
    has_channel: bool,
}

const fn expected(name: &'static str, seen_permille: std::ops::RangeInclusive<u64>, age_ms: [f64; 2]) -> Expected {
    Expected { name, seen_permille, late_permille: 0, age_ms, has_channel: true }
}

/// Ages are half the round trip, and the jitter. The shares of those that lose by chance have room for three standard
/// deviations of 300 ticks.
const TABLE: [Expected; 13] = [
    expected("lan", 1_000..=1_000, [1.0, 1.0]),
    expected("broadband", 990..=1_000, [12.0, 13.5]),
    expected("wifi", 940..=1_000, [19.5, 25.0]),
    expected("mobile", 980..=1_000, [45.0, 56.0]),
    expected("far-away", 980..=1_000, [131.0, 136.0]),
    expected("lossy-5", 910..=990, [25.5, 26.0]),
    expected("lossy-20", 730..=870, [25.5, 26.0]),
    expected("bursts", 860..=1_000, [25.5, 26.0]),
    Expected { late_permille: 150, ..expected("reordering", 850..=970, [25.5, 86.0]) },
    // It carries nearly all states once players hold earlier ones; those sent whole at first fill the queue.
    expected("bufferbloat", 300..=1_000, [900.0, 3_100.0]),
    // Two of five seconds, and every second tick until something is heard again.
    expected("outage", 570..=600, [25.5, 26.0]),
    expected("rebinding", 400..=1_000, [25.5, 26.0]),
    Expected { has_channel: false, ..expected("no-udp", 1_000..=1_000, [26.0, 2_000.0]) },
];

fn play(scenario: &Scenario, seed: u64) -> Report {
    let trial = Trial { seed, clients: CLIENTS, time: Duration::from_secs(5) };
    let bot = |number: usize, _: &_| Steer(if number == 0 { 100.0 } else { -100.0 }, 50.0, true);
    scenario.play(&trial, |room| Ok(Arena::new(room)), bot)
}

fn check(scenario: &Scenario, expected: &Expected, seed: u64) {
    let report = play(scenario, seed);
    let context = format!("seed {seed}\n{report}");
    let permille = |count: u64| count * 1_000 / report.ticks;
    assert_eq!(report.ticks, 302, "{context}");
    assert_eq!(report.open, if expected.has_channel { CLIENTS } else { 0 }, "{context}");
    assert!(expected.seen_permille.contains(&permille(report.seen)), "{context}");
    assert!(permille(report.late) <= expected.late_permille, "{context}");
    let [median, _, oldest] = report.age_ms.expect("something was seen");
    assert!(median <= expected.age_ms[0] && oldest <= expected.age_ms[1], "{context}");
    // 30 frames a second each way with 28 bytes of IP and UDP and more than 50 of DTLS and SCTP; no flood.
    assert!((1_500.0..12_000.0).contains(&report.up_bytes_per_s), "{context}");
    assert!((2_000.0..16_000.0).contains(&report.down_bytes_per_s), "{context}");
}

#[test]
fn players_see_what_each_network_lets_through() {
    let shipped = Scenario::shipped();
    let names: Vec<_> = shipped.iter().map(|scenario| scenario.name.as_str()).collect();
    assert_eq!(names, TABLE.map(|expected| expected.name), "every scenario is tested");
    std::thread::scope(|scope| {
        for seed in SEEDS {
            scope.spawn(move || {
                for (scenario, expected) in Scenario::shipped().iter().zip(&TABLE) {
                    check(scenario, expected, seed);
                }
            });
        }
    });
}

#[test]
fn the_same_trial_gives_the_same_report() {
    for name in ["mobile", "no-udp"] {
        let shipped = Scenario::shipped();
        let scenario = Scenario::find(&shipped, name).expect("it comes along");
        assert_eq!(play(scenario, 7), play(scenario, 7));
    }
}
