//! `rtcade sim`: the shipped games over simulated networks.

use std::fs;
use std::io::{self, Write};
use std::time::Duration;

use clap::Args;

use super::shipped::Shipped;
use super::{ExitCode, complain};
use crate::games::arena::Steer;
use crate::games::{Arena, Broadcast, Relay};
use crate::sim::{Reports, Scenario, Trial};

#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  rtcade sim                                      Play the arena over all built-in networks
  rtcade sim --scenario mobile --scenario wifi    Compare two of them
  rtcade sim --game relay --clients 2 --seed 7    Another game, number of players and seed")]
pub(super) struct Sim {
    /// Name of a built-in network scenario, or a YAML file of scenarios; may be repeated.
    ///
    /// Default: all built-in scenarios.
    #[arg(long, value_name = "NAME|FILE")]
    scenario: Vec<String>,
    /// Seed of all random numbers; the same seed gives the same results.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Number of players, all in one room.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: u32,
    /// Seconds of virtual time to measure, after 10 seconds for joining.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// Shipped game to play.
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Shipped::Arena)]
    game: Shipped,
}

/// Prints a table of measurements, or an error.
pub(super) fn run(sim: &Sim) -> ExitCode {
    match scenarios(&sim.scenario) {
        Ok(scenarios) => {
            let printed = write!(io::stdout(), "{}", reports(sim, &scenarios));
            if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(sentence) => {
            complain(&sentence);
            ExitCode::from(2)
        }
    }
}

/// Returns the scenarios of these names and files.
fn scenarios(named: &[String]) -> Result<Vec<Scenario>, String> {
    let shipped = Scenario::shipped();
    if named.is_empty() {
        return Ok(shipped);
    }
    let mut scenarios = Vec::new();
    for name in named {
        if let Ok(scenario) = Scenario::find(&shipped, name) {
            scenarios.push(scenario.clone());
        } else if is_file(name) {
            let yaml = fs::read_to_string(name).map_err(|error| format!("{name} can't be read: {error}"))?;
            scenarios.extend(Scenario::parse(&yaml).map_err(|error| format!("{name}: {error}"))?);
        } else {
            Scenario::find(&shipped, name).map_err(|error| error.to_string())?;
        }
    }
    Ok(scenarios)
}

/// Returns whether a file is meant: built-in scenarios have no such names.
fn is_file(name: &str) -> bool {
    name.contains(['/', '\\', '.']) || fs::exists(name).unwrap_or(false)
}

fn reports(sim: &Sim, scenarios: &[Scenario]) -> Reports {
    let clients = usize::try_from(sim.clients).expect("at most 64");
    let trial = Trial { seed: sim.seed, clients, time: Duration::from_secs(sim.seconds.into()) };
    let play = |scenario: &Scenario| match sim.game {
        Shipped::Arena => {
            scenario.play(&trial, |room| Ok(Arena::new(room)), |number, bot| steer(number, bot.events.len()))
        }
        Shipped::Broadcast => scenario.play(&trial, |_| Ok(Broadcast::default()), |_, _| ()),
        Shipped::Relay => scenario.play(&trial, |_| Ok(Relay), |number, bot| steer(number, bot.events.len())),
    };
    scenarios.iter().map(play).collect()
}

/// Returns the input of a bot at `time`: each moves around the arena on its own course and dashes now and then.
fn steer(number: usize, time: usize) -> Steer {
    const AROUND: [(f32, f32); 8] = [
        (100.0, 0.0),
        (70.0, 70.0),
        (0.0, 100.0),
        (-70.0, 70.0),
        (-100.0, 0.0),
        (-70.0, -70.0),
        (0.0, -100.0),
        (70.0, -70.0),
    ];
    let (x, y) = AROUND[(number + time / 20) % AROUND.len()];
    Steer(x, y, (time + 7 * number).is_multiple_of(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sim(scenario: &[&str], game: Shipped) -> Sim {
        let scenario = scenario.iter().map(|&name| name.to_owned()).collect();
        Sim { scenario, seed: 1, clients: 2, seconds: 2, game }
    }

    #[test]
    fn both_games_are_played_over_the_networks_that_are_named() {
        for game in [Shipped::Arena, Shipped::Relay] {
            let sim = sim(&["outage", "lan"], game);
            let Reports(reports) = reports(&sim, &scenarios(&sim.scenario).expect("they are shipped"));
            let names: Vec<_> = reports.iter().map(|report| report.scenario.as_str()).collect();
            assert_eq!(names, ["outage", "lan"]);
            for report in reports {
                assert_eq!((report.seen, report.open), (report.ticks, 2), "{game:?}: {report}");
                assert!(report.ticks >= 2 * 60, "{game:?}: {report}");
            }
        }
        let sim = sim(&["lan"], Shipped::Broadcast);
        let Reports(reports) = reports(&sim, &scenarios(&sim.scenario).expect("it is shipped"));
        assert_eq!((reports[0].seen, reports[0].open), (0, 2), "it has no states: {}", reports[0]);
        assert_eq!(scenarios(&[]).expect("they are shipped").len(), Scenario::shipped().len());
    }

    #[test]
    fn what_is_no_scenario_and_no_file_gets_one_sentence() {
        for (name, expected) in [
            ("mobil", "there is no scenario \"mobil\"; is it \"mobile\"?"),
            ("./no-such.yml", "./no-such.yml can't be read: "),
            ("Cargo.toml", "Cargo.toml: line 1, column "),
        ] {
            let sentence = scenarios(&[name.to_owned()]).expect_err(name);
            assert!(sentence.starts_with(expected) && !sentence.contains('\n'), "{sentence}");
        }
    }
}
