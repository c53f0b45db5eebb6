//! The targets of fuzzers. Tests run them too, with inputs found by fuzzers and with random bytes.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::game::{Batch, Context, Game, Incoming, Join, Lane, Leave, PlayerId, Refusal, RoomInfo, Target as To, Tick};
use crate::games::{Arena, Relay};
use crate::journal::{self, Header, Journal, Replay};
use crate::limits;

/// A fuzz target. Its assertions must hold for any bytes.
pub type Target = fn(Instant, &[u8]);

/// All targets, by the names of their directories in `tests/fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("records", crate::peer::record_hostile::records),
    ("records_with_dimpl", crate::peer::record_hostile::records_with_dimpl),
    ("lane_packets", crate::peer::hostile::packets_before_opening),
    ("lane_chunks", crate::peer::hostile::chunks_after_opening),
    ("lane_scripts", crate::peer::hostile::scripts),
    ("datagrams", crate::endpoint::hostile::datagrams),
    ("offers", crate::endpoint::hostile::offers),
    ("media_offers", crate::endpoint::hostile::media_offers),
    ("media_datagrams", crate::endpoint::hostile::media_datagrams),
    ("deltas", crate::wire::delta::hostile::deltas),
    ("journals", journals),
    #[cfg(feature = "script")]
    ("games", crate::script::hostile::games),
    #[cfg(feature = "driver")]
    ("scripts", crate::bench::script::hostile::scripts),
];

/// Ticks of a recording that are replayed.
const TICKS: usize = 100;

/// Parses a recording. Bytes that are none become the payload of blocks with correct checksums, after a valid header if
/// the first byte is odd.
fn journals(_: Instant, input: &[u8]) {
    if input.starts_with(journal::MAGIC) {
        journal_of_all_games(input);
    } else if let Some((first, payload)) = input.split_first() {
        let header = (first % 2 == 1).then(|| Header::new::<Echo>(&RoomInfo::new("hostile", 1), 4, Duration::ZERO));
        journal_of_all_games(&journal::hostile::sealed(header.as_ref(), payload));
    }
}

fn journal_of_all_games(bytes: &[u8]) {
    let Ok(journal) = Journal::parse(bytes) else { return };
    journal_of(&journal, Arena::new);
    journal_of(&journal, |_| Relay);
    journal_of(&journal, |_| Echo);
    if let Ok(again) = journal::record_again(&journal, |_| Ok(Echo)) {
        let again = Journal::parse(&again).expect("what was written can be read");
        let told = |journal: &Journal<'_>| {
            let entries = journal.entries().map(|entry| entry.expect("it was read before"));
            entries.filter(|entry| matches!(entry, journal::Entry::Told(_))).collect::<Vec<_>>()
        };
        assert!(told(&again) == told(&journal));
    }
}

fn journal_of<G: Game>(journal: &Journal<'_>, game: impl Fn(&RoomInfo) -> G) {
    let mut replay = Replay::new(journal, |room| Ok(game(room))).expect("no game of these refuses");
    for _ in 0..TICKS {
        let Ok(Some(step)) = replay.step() else { break };
        for input in &step.told {
            assert!(journal::input_to_json(input).is_object());
        }
        for output in &step.said {
            assert!(journal::output_to_json(output).is_object());
        }
    }
    assert!(replay.torn_bytes() <= limits::JOURNAL_BYTES);
}

/// Decodes everything that can be decoded, and sends it back.
struct Echo;

impl Game for Echo {
    type Input = Value;
    type Command = Value;
    type State = Value;
    type Event = Value;
    type Welcome = Value;
    type JoinData = Value;

    fn join(&mut self, ctx: &mut Context<Echo>, player: PlayerId, join: &Join) -> Result<Value, Refusal> {
        let _ = ctx.event(To::Except(player), &join.data, Lane::Reliable);
        Ok(join.data.clone())
    }

    fn leave(&mut self, ctx: &mut Context<Echo>, player: PlayerId, _: Leave) {
        let _ = ctx.event(To::All, &player.0.into(), Lane::Reliable);
    }

    fn external(&mut self, ctx: &mut Context<Echo>, bytes: &[u8]) {
        let _ = ctx.event(To::All, &bytes.into(), Lane::Reliable);
    }

    fn tick(&mut self, ctx: &mut Context<Echo>, _: Tick, batch: Batch<'_, Echo>) {
        for message in batch {
            let _ = match message {
                Incoming::Input { input, .. } => ctx.state(&input),
                Incoming::Command { player, command } => ctx.event(To::One(player), &command, Lane::Unreliable),
            };
        }
        ctx.fan_out_inputs();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn what_fuzzers_have_found_and_what_is_like_it_is_harmless() {
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        for &(name, target) in TARGETS {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
            let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            let inputs: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
            assert!(inputs.len() > 10, "{name} has inputs");
            for (path, input) in paths.iter().zip(&inputs) {
                println!("{}", path.display());
                target(now, input);
            }
            for seed in 0..1000 {
                println!("{name}, seed {seed}");
                target(now, &spoiled(&inputs, seed));
            }
        }
    }

    /// Two of the inputs, one behind the other, with some bytes that are neither's.
    fn spoiled(inputs: &[Vec<u8>], seed: u64) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut spoiled = Vec::new();
        for _ in 0..2 {
            let input = &inputs[rng.random_range(0..inputs.len())];
            spoiled.extend_from_slice(&input[..rng.random_range(0..=input.len())]);
        }
        for _ in 0..rng.random_range(0..8).min(spoiled.len()) {
            let at = rng.random_range(0..spoiled.len());
            spoiled[at] = rng.random();
        }
        let mut tail = vec![0; rng.random_range(0..64)];
        rng.fill_bytes(&mut tail);
        spoiled.extend(tail);
        spoiled
    }
}
