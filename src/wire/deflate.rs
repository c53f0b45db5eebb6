use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::{CompressionLvl, Compressor};

/// Smaller bodies would save only a few bytes, for the time to build the tables.
const WORTH_BYTES: usize = 200;

/// The level, by bytes against instructions of bodies of the shipped games:
///
/// | encoder, level | arena 8: 295 bytes | arena 64: 1,271 | relay 8: 704 | relay 64: 1,413 |
/// |---|---|---|---|---|
/// | zlib 1 | 271, 182 k | 1,020, 336 k | 447, 216 k | 805, 315 k |
/// | zlib 6 | 271, 186 k | 1,020, 359 k | 440, 243 k | 789, 410 k |
/// | fixed tables (miniz_oxide) | 295, 358 k | 1,229, 436 k | 511, 378 k | 958, 418 k |
/// | libdeflate 1 | 268, 67 k | 1,034, 119 k | 466, 88 k | 831, 124 k |
/// | **libdeflate 2** | 271, 84 k | 1,021, 172 k | 442, 116 k | 793, 176 k |
/// | libdeflate 6 | 271, 86 k | 1,020, 183 k | 440, 125 k | 788, 209 k |
///
/// A delta of the arena's state with 64 players becomes 2.6 % smaller at zlib 1 and is not deflated.
const LEVEL: i32 = 2;

/// Deflates bodies: raw, without a dictionary (RFC 1951). It keeps its tables: create one and reuse it.
pub struct Deflater(Compressor);

impl Deflater {
    /// Returns a deflater.
    ///
    /// # Panics
    /// Never: the level is one that the compressor has.
    #[must_use]
    pub fn new() -> Deflater {
        Deflater(Compressor::new(CompressionLvl::new(LEVEL).expect("it is a level")))
    }

    /// Returns whether a body of this many bytes is worth deflating.
    #[must_use]
    pub fn is_worth_trying(bytes: usize) -> bool {
        bytes >= WORTH_BYTES
    }

    /// Deflates `body` into `out`. Returns `false` if that does not make it smaller; `out` is then unspecified.
    pub fn deflate(&mut self, body: &[u8], out: &mut Vec<u8>) -> bool {
        if !Deflater::is_worth_trying(body.len()) {
            return false;
        }
        out.resize(body.len() - 1, 0);
        let deflated = self.0.deflate_compress(body, out).ok();
        out.truncate(deflated.unwrap_or(0));
        deflated.is_some()
    }
}

impl Default for Deflater {
    fn default() -> Deflater {
        Deflater::new()
    }
}

/// Inflates bodies from the network, within a limit.
pub struct Inflater(Decompress);

/// Why a body can't be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// The body is not exactly one deflate stream.
    Corrupt,
    /// The inflated body would exceed the limit.
    TooLarge,
}

impl Inflater {
    /// Returns an inflater.
    #[must_use]
    pub fn new() -> Inflater {
        Inflater(Decompress::new(false))
    }

    /// Inflates `body` into `out`, whose capacity stays within `limit` and one byte.
    ///
    /// # Errors
    /// The stream is invalid, incomplete or followed by other bytes, or inflates to more than `limit` bytes.
    pub fn inflate(&mut self, body: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), InflateError> {
        self.0.reset(false);
        out.clear();
        out.resize(limit + 1, 0);
        let status = self.0.decompress(body, out, FlushDecompress::Finish);
        out.truncate(usize::try_from(self.0.total_out()).unwrap_or(0));
        if out.len() > limit {
            return Err(InflateError::TooLarge);
        }
        match status {
            Ok(Status::StreamEnd) if self.0.total_in() == body.len() as u64 => Ok(()),
            _ => Err(InflateError::Corrupt),
        }
    }
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    fn deflated(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(Deflater::new().deflate(body, &mut out), "{} bytes don't shrink", body.len());
        out
    }

    #[test]
    fn a_body_may_grow_to_its_limit() {
        let stream = deflated(&[7; 5_000]);
        let mut out = Vec::new();
        assert_eq!(Inflater::new().inflate(&stream, 5_000, &mut out), Ok(()));
        assert_eq!(out, [7; 5_000]);
        assert_eq!(Inflater::new().inflate(&stream, 4_999, &mut out), Err(InflateError::TooLarge));
        let bomb = deflated(&vec![0; 8 * 1024 * 1024]);
        let mut out = Vec::new();
        assert_eq!(Inflater::new().inflate(&bomb, 1_000, &mut out), Err(InflateError::TooLarge));
        assert!(out.capacity() <= 2_000, "{} bytes for a bomb", out.capacity());
    }

    #[test]
    fn a_broken_stream_is_corrupt_and_leaves_no_trace() {
        let body = b"one two three one two three one two three one two three".repeat(4);
        let stream = deflated(&body);
        let mut inflater = Inflater::new();
        let mut out = Vec::new();
        let mut check = |bytes: &[u8], expected| {
            assert_eq!(inflater.inflate(bytes, 1_000, &mut out), expected, "{} bytes", bytes.len());
            assert_eq!(inflater.inflate(&stream, 1_000, &mut out), Ok(()), "the next body is not concerned");
            assert_eq!(out, body);
        };
        for cut in 0..stream.len() {
            check(&stream[..cut], Err(InflateError::Corrupt));
        }
        check(&[&stream[..], &[0]].concat(), Err(InflateError::Corrupt));
        check(&[0xff; 16], Err(InflateError::Corrupt));
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(256)
        })]

        #[test]
        fn what_is_deflated_is_smaller_and_comes_back(
            bodies in prop::collection::vec((prop::collection::vec(0..4_u8, 0..600), any::<bool>()), 1..5),
        ) {
            let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
            let (mut stream, mut out) = (Vec::new(), Vec::new());
            for (mut body, noisy) in bodies {
                if noisy {
                    // A multiplicative hash, which deflate can't compress.
                    let mut state = 1_u32;
                    body.iter_mut().for_each(|byte| {
                        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
                        *byte = state.to_le_bytes()[3];
                    });
                }
                if deflater.deflate(&body, &mut stream) {
                    prop_assert!(stream.len() < body.len());
                    prop_assert_eq!(inflater.inflate(&stream, body.len(), &mut out), Ok(()));
                    prop_assert_eq!(&out, &body);
                } else {
                    prop_assert!(noisy || body.len() < WORTH_BYTES, "{} bytes of four kinds must shrink", body.len());
                }
            }
        }

        #[test]
        fn random_streams_stay_within_the_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..64), limit in 0..200_usize,
        ) {
            let mut out = Vec::new();
            let inflated = Inflater::new().inflate(&bytes, limit, &mut out);
            prop_assert!(inflated.is_err() || out.len() <= limit);
            prop_assert!(out.capacity() <= (limit + 1).next_power_of_two().max(8));
        }
    }
}
