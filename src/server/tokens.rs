//! Resume tokens: they prove that a client owns a session.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use rand::Rng;
use rand_chacha::ChaCha20Rng;

type Hash = [u8; 32];

/// The tokens of a session, as hashes.
///
/// A token is valid for one reconnect, which issues a new one. The old one stays valid until something arrives from the
/// client after the reply, because the reply may have been lost with the websocket.
pub(super) struct Tokens {
    current: Hash,
    previous: Option<Hash>,
}

impl Tokens {
    /// The first token of a session.
    pub(super) fn generate(rng: &mut ChaCha20Rng) -> (Tokens, String) {
        let (current, token) = new_token(rng);
        (Tokens { current, previous: None }, token)
    }

    /// The tokens with these hashes; `None` if the first lacks.
    pub(super) fn restore([current, previous]: [Option<Hash>; 2]) -> Option<Tokens> {
        Some(Tokens { current: current?, previous })
    }

    pub(super) fn accept(&self, token: &str) -> bool {
        accept(&self.hashes(), token)
    }

    /// The tokens that are valid.
    pub(super) fn hashes(&self) -> [Option<Hash>; 2] {
        [Some(self.current), self.previous]
    }

    /// Issues the next token; the one that was used stays valid for now.
    pub(super) fn rotate(&mut self, shown: &str, rng: &mut ChaCha20Rng) -> String {
        let (current, token) = new_token(rng);
        self.current = current;
        self.previous = Some(hash(shown));
        token
    }

    pub(super) fn forget_previous(&mut self) {
        self.previous = None;
    }
}

/// Returns whether one of these tokens was shown.
pub(super) fn accept(known: &[Option<Hash>; 2], token: &str) -> bool {
    let hash = hash(token);
    // Both are always compared, so that the time does not reveal which one matches.
    known.iter().flatten().fold(false, |is, known| is | verify_slices_are_equal(known, &hash).is_ok())
}

fn new_token(rng: &mut ChaCha20Rng) -> (Hash, String) {
    let token = format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64());
    (hash(&token), token)
}

fn hash(token: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}
