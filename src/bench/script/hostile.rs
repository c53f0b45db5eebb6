//! The fuzz target of scenario files.

use std::time::{Duration, Instant};

use super::{Expected, Overrides, Pacing, Script, Step, Times, Variables, arrivals};

/// Arrivals that are looked at.
const ARRIVALS: usize = 100;
/// Bytes of what templates become that are looked at.
const FILLED_BYTES: usize = 1024 * 1024;

/// A scenario file; after a zero byte JSON that is merged into it, and variables after another.
pub(crate) fn scripts(_: Instant, input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut parts = text.split('\0').map(str::to_owned);
    let file = parts.next().unwrap_or_default();
    let overrides = Overrides {
        file: parts.next().filter(|json| !json.is_empty()),
        variables: parts.next(),
        ..Overrides::default()
    };
    match Script::parse(&file, &overrides) {
        Ok(script) => hold(&script),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn hold(script: &Script) {
    let Script { config, scenarios } = script;
    assert!(scenarios.iter().any(|scenario| scenario.weight > 0));
    let mut last = Duration::ZERO;
    let end: Duration = config.phases.iter().map(|phase| phase.duration).sum();
    for arrival in arrivals::arrivals(&config.phases).take(ARRIVALS) {
        assert!(last <= arrival.at && arrival.at <= end && arrival.phase < config.phases.len());
        last = arrival.at;
    }
    for condition in &config.ensure {
        let _ = condition.check(|name| (name.len() < 9).then_some(1.0));
    }
    let mut left = FILLED_BYTES;
    for scenario in scenarios {
        fill(&mut config.variables_of(1, 1), &scenario.flow, &mut left);
    }
}

fn fill(variables: &mut Variables, steps: &[Step], left: &mut usize) {
    for step in steps {
        if *left == 0 {
            return;
        }
        let filled = match step {
            Step::Think(span) => variables.span(span).map_or(0, |_| 1),
            Step::Log(template) => variables.fill(template).len(),
            Step::Loop { times, pacing, steps } => {
                assert!(*pacing != Pacing::Fixed(Duration::ZERO));
                if let Times::Over { variable, values } = times {
                    variables.set(variable, values[0].clone());
                }
                fill(variables, steps, left);
                1
            }
            Step::Join { data: value, .. } | Step::Send { value, .. } | Step::Command { value, .. } => {
                variables.fill_value(value).to_string().len()
            }
            Step::Expect { what: Expected::Event(Some(value)), .. } => variables.fill_value(value).to_string().len(),
            Step::Request { url, .. } => variables.fill(url).len(),
            Step::Replay { speed, .. } => {
                assert!(*speed > 0.0);
                1
            }
            Step::Expect { .. } | Step::Reconnect | Step::Leave => 1,
        };
        *left = left.saturating_sub(filled);
    }
}
