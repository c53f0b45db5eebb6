//! The records of an established DTLS 1.2 connection (RFC 6347 §4.1), sealed into the buffer that is sent and opened
//! into a buffer that is used again.
//!
//! dimpl makes the handshake. It gets its cipher suites from here, so that afterwards [`Records::take`] can take over
//! the two keys of the connection.
//!
//! ```text
//!  0      1              3       5                       11       13           21
//! +------+--------------+-------+-----------------------+--------+------------+---------------------+--------+
//! | type | version fefd | epoch | number                | length | explicit   | ciphertext          | tag 16 |
//! +------+--------------+-------+-----------------------+--------+ nonce: GCM +---------------------+--------+
//! ```
//!
//! # Security
//!
//! - **A key has one owner.** dimpl's cipher is a handle to a [`Key`]. [`Records::take`] moves the AEAD key out of it:
//!   from then on the cipher can only fail. dimpl is dropped, and with it the only bytes of a key that exist outside of
//!   the AEAD context. The use of a key so far shows its direction. A key that has sealed and opened, or was used with
//!   two IVs or in another epoch, is not taken over.
//! - **No nonce is used twice to seal.** For AES-GCM the explicit nonce is the epoch and the record's number (RFC 5288
//!   §3, RFC 6347 §4.1.2.1). Numbers only increase, and each is used up before it is used. dimpl drew its explicit
//!   nonces at random: those that begin with our epoch, and so may equal one of ours, are remembered, and their
//!   numbers are left out. For ChaCha20-Poly1305 epoch and number are the nonce, for dimpl as for us (RFC 7905 §2), so
//!   that going on behind dimpl's last number suffices. After [`RECORDS_MAX`] records sealing fails, and the peer is
//!   closed.
//! - **Nothing is accepted twice.** The replay window (RFC 6347 §4.1.2.6) has 128 places and begins with the numbers
//!   that dimpl has accepted. It moves only after authentication.
//! - **Nothing unauthenticated has an effect**, except that forgeries are counted. After [`FORGERIES_MAX`] of them, by
//!   which time one may have succeeded, the peer is closed (RFC 9147 §4.5.3). Records of another epoch or version, such
//!   as plaintext alerts, and what belongs to the handshake are ignored without opening them: a late retransmission
//!   needs no answer, because each end has shown by application data that its handshake is done, and a renegotiation
//!   may be ignored (RFC 5246 §7.4.1.1).
//! - **Authenticated alerts count**: a close_notify and a fatal alert each end the connection (RFC 5246 §7.2).

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::aead::{self, LessSafeKey, UnboundKey};
use dimpl::crypto::{Aad, Buf, Cipher, Dtls12CipherSuite, HashAlgorithm, Nonce, SupportedDtls12CipherSuite, TmpBuf};
use dimpl::{CryptoError, CryptoOperation};

/// The content of a record (RFC 6347 §4.1).
pub(super) mod content {
    pub(in crate::peer) const ALERT: u8 = 21;
    pub(in crate::peer) const APPLICATION_DATA: u8 = 23;
}

pub(super) const HEADER_BYTES: usize = 13;
const EXPLICIT_NONCE_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const AAD_BYTES: usize = 13;

const VERSION: [u8; 2] = [0xfe, 0xfd];
/// The epoch after the only handshake.
const EPOCH: u64 = 1;
const EPOCH_SHIFT: u32 = 48;

/// The number of records sealed with one key. At 1,200 bytes each they have as many blocks as the 2^24.5 full records
/// that TLS permits with AES-GCM (RFC 8446 §5.5).
const RECORDS_MAX: u64 = 1 << 28;
/// The number of forged records after which a key is not used any more (RFC 9147 §4.5.3).
const FORGERIES_MAX: u64 = 1 << 36;
/// The number of records of a datagram that are opened; more are ignored.
const DATAGRAM_RECORDS_MAX: usize = 8;
/// The number of dimpl's nonces to leave out. One in 2^16 that it draws is.
const DRAWN_MAX: usize = 16;

/// Warning, close_notify (RFC 5246 §7.2).
pub(super) const CLOSE_NOTIFY: [u8; 2] = [1, 0];
const FATAL: u8 = 2;

/// The cipher suites for dimpl.
pub(super) static SUITES: &[&dyn SupportedDtls12CipherSuite] =
    &[&Suite::Aes128Gcm, &Suite::Aes256Gcm, &Suite::ChaCha20Poly1305];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suite {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Suite {
    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Suite::Aes128Gcm => &aead::AES_128_GCM,
            Suite::Aes256Gcm => &aead::AES_256_GCM,
            Suite::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    fn explicit_nonce_bytes(self) -> usize {
        match self {
            Suite::Aes128Gcm | Suite::Aes256Gcm => EXPLICIT_NONCE_BYTES,
            Suite::ChaCha20Poly1305 => 0,
        }
    }
}

impl SupportedDtls12CipherSuite for Suite {
    fn suite(&self) -> Dtls12CipherSuite {
        match self {
            Suite::Aes128Gcm => Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256,
            Suite::Aes256Gcm => Dtls12CipherSuite::ECDHE_ECDSA_AES256_GCM_SHA384,
            Suite::ChaCha20Poly1305 => Dtls12CipherSuite::ECDHE_ECDSA_CHACHA20_POLY1305_SHA256,
        }
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        match self {
            Suite::Aes128Gcm | Suite::ChaCha20Poly1305 => HashAlgorithm::SHA256,
            Suite::Aes256Gcm => HashAlgorithm::SHA384,
        }
    }

    fn key_lengths(&self) -> (usize, usize, usize) {
        (0, self.algorithm().key_len(), NONCE_BYTES - self.explicit_nonce_bytes())
    }

    fn explicit_nonce_len(&self) -> usize {
        self.explicit_nonce_bytes()
    }

    fn tag_len(&self) -> usize {
        TAG_BYTES
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        let key = UnboundKey::new(self.algorithm(), key)
            .map_err(|_| CryptoError::OperationFailed(CryptoOperation::CreateCipher))?;
        let key = Key::new(*self, LessSafeKey::new(key));
        CREATED.with_borrow_mut(|created| created.push(key.clone()));
        Ok(Box::new(key))
    }
}

thread_local! {
    static CREATED: RefCell<Vec<Key>> = const { RefCell::new(Vec::new()) };
}

/// Returns the keys that dimpl creates while `act` calls it.
pub(super) fn created_by<T>(act: impl FnOnce() -> T) -> (T, Vec<Key>) {
    CREATED.take();
    let result = act();
    (result, CREATED.take())
}

/// A key that dimpl uses until it is taken over.
#[derive(Clone, Debug)]
pub(super) struct Key(Arc<Mutex<Used>>);

/// An AEAD key, and how dimpl has used it.
#[derive(Debug)]
struct Used {
    aead: Option<LessSafeKey>,
    suite: Suite,
    /// Padded with zeros to the length of a nonce.
    iv: Option<[u8; NONCE_BYTES]>,
    sealed: bool,
    /// The number after the highest that was sealed.
    next: u64,
    /// The explicit nonces sealed with that we may come to.
    drawn: Vec<u64>,
    opened: bool,
    accepted: Window,
    is_odd: bool,
}

impl Key {
    fn new(suite: Suite, aead: LessSafeKey) -> Key {
        Key(Arc::new(Mutex::new(Used {
            aead: Some(aead),
            suite,
            iv: None,
            sealed: false,
            next: 0,
            drawn: Vec::new(),
            opened: false,
            accepted: Window::default(),
            is_odd: false,
        })))
    }

    /// After a panic the owner closes the peer and does not use the keys any more.
    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Used {
    /// Records a use of the key. Returns the record's number.
    fn record(&mut self, aad: &Aad, nonce: Nonce) -> u64 {
        let sequence = aad.0.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let iv = match self.suite.explicit_nonce_bytes() {
            0 => xor(&nonce.0, sequence),
            _ => {
                let mut iv = nonce.0;
                iv[NONCE_BYTES - EXPLICIT_NONCE_BYTES..].fill(0);
                iv
            }
        };
        self.is_odd |= sequence >> EPOCH_SHIFT != EPOCH || *self.iv.get_or_insert(iv) != iv;
        number_of(sequence)
    }

    fn record_sealed(&mut self, aad: &Aad, nonce: Nonce) {
        self.sealed = true;
        let number = self.record(aad, nonce);
        self.next = self.next.max(number + 1);
        let drawn = nonce.0.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        if self.suite.explicit_nonce_bytes() > 0 && drawn >> EPOCH_SHIFT == EPOCH {
            self.is_odd |= self.drawn.len() == DRAWN_MAX;
            self.drawn.truncate(DRAWN_MAX - 1);
            self.drawn.push(drawn);
        }
    }

    fn record_opened(&mut self, aad: &Aad, nonce: Nonce) {
        self.opened = true;
        let number = self.record(aad, nonce);
        self.accepted.accept(number);
    }

    fn only_sealed(&self) -> bool {
        self.aead.is_some() && !self.is_odd && self.sealed && !self.opened
    }

    fn only_opened(&self) -> bool {
        self.aead.is_some() && !self.is_odd && self.opened && !self.sealed
    }
}

impl Cipher for Key {
    fn encrypt(&mut self, plaintext: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let failed = CryptoError::OperationFailed(CryptoOperation::Encrypt);
        let mut used = self.used();
        let Some(key) = &used.aead else { return Err(failed) };
        let unique = aead::Nonce::assume_unique_for_key(nonce.0);
        let sealed = key.seal_in_place_append_tag(unique, aead::Aad::from(&aad.0), plaintext);
        // A nonce is used up even by a failure.
        used.record_sealed(&aad, nonce);
        sealed.map_err(|_| failed)
    }

    fn decrypt(&mut self, ciphertext: &mut TmpBuf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let failed = CryptoError::OperationFailed(CryptoOperation::Decrypt);
        let mut used = self.used();
        let Some(key) = &used.aead else { return Err(failed) };
        let unique = aead::Nonce::assume_unique_for_key(nonce.0);
        let opened = key.open_in_place(unique, aead::Aad::from(&aad.0), ciphertext.as_mut()).map(|plain| plain.len());
        let Ok(plain_bytes) = opened else { return Err(failed) };
        ciphertext.truncate(plain_bytes);
        used.record_opened(&aad, nonce);
        Ok(())
    }
}

/// The record numbers that were accepted.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    highest: u64,
    /// Bit n: the number that is n below the highest was accepted.
    accepted: u128,
}

impl Window {
    fn is_new(&self, number: u64) -> bool {
        match self.highest.checked_sub(number) {
            Some(behind) => behind < u64::from(u128::BITS) && self.accepted >> behind & 1 == 0,
            None => true,
        }
    }

    fn accept(&mut self, number: u64) {
        match number.checked_sub(self.highest) {
            Some(ahead) => {
                let shift = u32::try_from(ahead).unwrap_or(u32::MAX);
                self.accepted = self.accepted.checked_shl(shift).unwrap_or(0) | 1;
                self.highest = number;
            }
            None => {
                self.accepted |=
                    1_u128.checked_shl(u32::try_from(self.highest - number).unwrap_or(u32::MAX)).unwrap_or(0)
            }
        }
    }
}

/// The keys of an established connection.
#[derive(Debug)]
pub(super) struct Records {
    suite: Suite,
    sealing: Sealing,
    opening: Opening,
}

#[derive(Debug)]
struct Sealing {
    key: LessSafeKey,
    iv: [u8; NONCE_BYTES],
    next: u64,
    /// Numbers that would give a nonce that dimpl has used.
    left_out: Vec<u64>,
}

#[derive(Debug)]
struct Opening {
    key: LessSafeKey,
    iv: [u8; NONCE_BYTES],
    window: Window,
    forged: u64,
}

/// Sealing failed: all numbers are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted;

/// The content of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened<'a> {
    /// Application data.
    Data(&'a [u8]),
    /// The other end has closed the connection.
    CloseNotify,
    /// The other end has failed.
    FatalAlert,
    /// Nothing: the record was forged, repeated, or is to be ignored.
    Nothing,
    /// There were too many forgeries to trust the key.
    TooManyForgeries,
}

impl Records {
    /// Takes over the keys of a connection. Returns `None`, and takes nothing, if they are not the two of one
    /// connection whose handshake is done.
    pub(super) fn take(keys: &[Key]) -> Option<Records> {
        let [one, other] = keys else { return None };
        if Arc::ptr_eq(&one.0, &other.0) {
            return None;
        }
        let (one, other) = (one.used(), other.used());
        let (mut sealing, mut opening) = if one.sealed { (one, other) } else { (other, one) };
        if sealing.suite != opening.suite || !sealing.only_sealed() || !opening.only_opened() {
            return None;
        }
        let (sealing_iv, opening_iv) = (sealing.iv?, opening.iv?);
        Some(Records {
            suite: sealing.suite,
            sealing: Sealing {
                key: sealing.aead.take()?,
                iv: sealing_iv,
                next: sealing.next,
                left_out: sealing.drawn.iter().copied().map(number_of).collect(),
            },
            opening: Opening { key: opening.aead.take()?, iv: opening_iv, window: opening.accepted, forged: 0 },
        })
    }

    /// The bytes before the content of a record.
    fn prefix_bytes(&self) -> usize {
        HEADER_BYTES + self.suite.explicit_nonce_bytes()
    }

    /// The length of a record with this content.
    pub(super) fn bytes(&self, content: usize) -> usize {
        self.prefix_bytes() + content + TAG_BYTES
    }

    /// Begins a record at the end of `out`, to which its content of at most 2^14 bytes is then to be appended. Returns
    /// the place for [`Records::seal`].
    pub(super) fn begin(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES + EXPLICIT_NONCE_BYTES]);
        out.truncate(start + self.prefix_bytes());
        start
    }

    /// Seals the record that was begun at `start`, with all that follows as its content.
    pub(super) fn seal(&mut self, kind: u8, start: usize, out: &mut Vec<u8>) -> Result<(), Exhausted> {
        let prefix_bytes = self.prefix_bytes();
        let Sealing { key, iv, next, left_out } = &mut self.sealing;
        while left_out.contains(next) {
            *next += 1;
        }
        if *next >= RECORDS_MAX {
            return Err(Exhausted);
        }
        let sequence = EPOCH << EPOCH_SHIFT | *next;
        *next += 1;
        let (prefix, content) = out[start..].split_at_mut(prefix_bytes);
        let aad = aad(kind, sequence, content.len());
        let nonce = aead::Nonce::assume_unique_for_key(xor(iv, sequence));
        let tag = key.seal_in_place_separate_tag(nonce, aead::Aad::from(aad), content).map_err(|_| Exhausted)?;
        prefix[0] = kind;
        prefix[1..3].copy_from_slice(&VERSION);
        prefix[3..11].copy_from_slice(&sequence.to_be_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "the content has at most 2^14 bytes")]
        let length = (prefix_bytes - HEADER_BYTES + content.len() + TAG_BYTES) as u16;
        prefix[11..13].copy_from_slice(&length.to_be_bytes());
        if let Some(explicit) = prefix.get_mut(HEADER_BYTES..HEADER_BYTES + EXPLICIT_NONCE_BYTES) {
            explicit.copy_from_slice(&sequence.to_be_bytes());
        }
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens one record. Application data is written to `plain`.
    pub(super) fn open<'a>(&mut self, record: &[u8], plain: &'a mut Vec<u8>) -> Opened<'a> {
        let Some((header, body)) = record.split_first_chunk::<HEADER_BYTES>() else { return Opened::Nothing };
        let kind = header[0];
        let is_opened = matches!(kind, content::ALERT | content::APPLICATION_DATA);
        let Some(sequence) = header[3..11].first_chunk().map(|bytes| u64::from_be_bytes(*bytes)) else {
            return Opened::Nothing;
        };
        let has_length = usize::from(u16::from_be_bytes([header[11], header[12]])) == body.len();
        let is_ours = header[1..3] == VERSION && sequence >> EPOCH_SHIFT == EPOCH && has_length;
        let Opening { key, iv, window, forged } = &mut self.opening;
        if !is_opened || !is_ours || !window.is_new(number_of(sequence)) {
            return Opened::Nothing;
        }
        let Some((explicit, sealed)) = body.split_at_checked(self.suite.explicit_nonce_bytes()) else {
            return Opened::Nothing;
        };
        let Some((ciphertext, tag)) = sealed.split_last_chunk::<TAG_BYTES>() else { return Opened::Nothing };
        let nonce = xor(iv, explicit.first_chunk().map_or(sequence, |bytes| u64::from_be_bytes(*bytes)));
        if plain.len() < ciphertext.len() {
            plain.resize(ciphertext.len(), 0);
        }
        let plain = &mut plain[..ciphertext.len()];
        let aad = aead::Aad::from(aad(kind, sequence, plain.len()));
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        if key.open_separate_gather(nonce, aad, ciphertext, tag, plain).is_err() {
            *forged += 1;
            return if *forged >= FORGERIES_MAX { Opened::TooManyForgeries } else { Opened::Nothing };
        }
        window.accept(number_of(sequence));
        match (kind, &*plain) {
            (content::APPLICATION_DATA, data) => Opened::Data(data),
            (_, [_, 0, ..]) => Opened::CloseNotify,
            (_, [FATAL, _, ..]) => Opened::FatalAlert,
            _ => Opened::Nothing,
        }
    }
}

/// The records of a datagram, up to one that is cut short.
pub(super) fn split(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    let records = std::iter::from_fn(move || {
        let length = rest.get(11..13).map(|at| usize::from(u16::from_be_bytes([at[0], at[1]])))?;
        let (record, after) = rest.split_at_checked(HEADER_BYTES + length)?;
        rest = after;
        Some(record)
    });
    records.take(DATAGRAM_RECORDS_MAX)
}

fn number_of(sequence: u64) -> u64 {
    sequence & ((1 << EPOCH_SHIFT) - 1)
}

/// The nonce of an explicit part, or the IV of a nonce. The IV of AES-GCM has zeros in place of the explicit part.
fn xor(iv: &[u8; NONCE_BYTES], explicit: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = *iv;
    if let Some(low) = nonce.last_chunk_mut::<EXPLICIT_NONCE_BYTES>() {
        *low = (u64::from_be_bytes(*low) ^ explicit).to_be_bytes();
    }
    nonce
}

/// The authenticated header (RFC 5246 §6.2.3.3).
fn aad(kind: u8, sequence: u64, content: usize) -> [u8; AAD_BYTES] {
    let mut aad = [0; AAD_BYTES];
    aad[..8].copy_from_slice(&sequence.to_be_bytes());
    aad[8] = kind;
    aad[9..11].copy_from_slice(&VERSION);
    #[expect(clippy::cast_possible_truncation, reason = "it is part of a record, whose length has two bytes")]
    aad[11..].copy_from_slice(&(content as u16).to_be_bytes());
    aad
}

#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
#[cfg(test)]
mod tests;
