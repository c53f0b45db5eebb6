//! What fuzzers drive. Tests drive the same, with what fuzzers have found and with random bytes.

use std::time::Instant;

/// A function that a fuzzer drives with bytes; everything in it must hold whatever they are.
pub type Target = fn(Instant, &[u8]);

/// All of them, by the names under which their inputs are kept in `tests/fuzz/corpus`.
pub const TARGETS: [(&str, Target); 5] = [
    ("lane_packets", crate::peer::hostile::packets_before_opening),
    ("lane_chunks", crate::peer::hostile::chunks_after_opening),
    ("lane_scripts", crate::peer::hostile::scripts),
    ("datagrams", crate::endpoint::hostile::datagrams),
    ("offers", crate::endpoint::hostile::offers),
];

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
        for (name, target) in TARGETS {
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
