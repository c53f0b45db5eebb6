//! DTLS, driven by str0m and shared with the lane.
//!
//! str0m creates its DTLS instance through a provider. Ours returns an instance that keeps application data for the
//! lane instead of passing it to str0m's SCTP. All peers share one checked configuration: checking takes a millisecond.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dimpl::CryptoError as DimplError;
use dimpl::crypto::{Buf, HashAlgorithm, KeyProvider, SignatureAlgorithm, SigningKey, aws_lc_rs};
use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use str0m::crypto::CryptoError;
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion};

use super::record::{self, Exhausted, Key, Records, content};
use crate::limits;

/// The first timeout of a handshake flight. The default of a second makes joining under loss slow.
const FLIGHT_TIMEOUT: Duration = Duration::from_millis(250);
const FLIGHT_RETRIES: usize = 6;
/// Maximum number of decrypted datagrams that wait for the lane, which takes them after each datagram.
const RECEIVED_MAX: usize = 64;
/// Maximum size of a client's certificate: the DTLS instance panics if it does not fit.
const OUTPUT_BYTES: usize = 64 * 1024;

/// When str0m is to look again after an instance that has nothing more to do.
const IDLE: Duration = Duration::from_hours(24);

/// The peer's access to its DTLS connection: to dimpl's instance, which str0m drives, and afterwards to records of its
/// own.
pub(super) struct DtlsHandle {
    shared: Arc<Mutex<Shared>>,
    /// After [`DtlsHandle::take_over`].
    records: Option<Records>,
    is_given_up: bool,
}

struct Shared {
    /// `None` after its keys were taken over.
    dtls: Option<Box<dimpl::Dtls>>,
    /// What dimpl's keys are.
    keys: Vec<Key>,
    received: Vec<Vec<u8>>,
    /// A record for str0m to send, after dimpl.
    outgoing: Vec<u8>,
    is_active: bool,
    /// Whether str0m gets the keys for SRTP.
    is_for_media: bool,
    now: Instant,
}

impl DtlsHandle {
    /// Returns the instance that str0m created last on this thread.
    pub(super) fn take_newest() -> Option<DtlsHandle> {
        NEWEST.take().map(|shared| DtlsHandle { shared, records: None, is_given_up: false })
    }

    /// Takes the connection's keys over from dimpl and drops it, if application data has been exchanged and str0m
    /// polled until it has no output.
    pub(super) fn take_over(&mut self) {
        if self.records.is_some() || self.is_given_up {
            return;
        }
        let mut shared = lock(&self.shared);
        self.records = Records::take(&std::mem::take(&mut shared.keys));
        if self.records.is_some() {
            shared.dtls = None;
        } else {
            self.is_given_up = true;
            WARNED.call_once(|| log::warn!("the keys of a DTLS connection are unknown: it is slower than others"));
        }
    }

    /// The connection's records, if its keys were taken over.
    pub(super) fn records(&mut self) -> Option<&mut Records> {
        self.records.as_mut()
    }

    /// Returns whether the connection's keys were taken over.
    pub(super) fn is_taken_over(&self) -> bool {
        self.records.is_some()
    }

    /// Encrypts one record; str0m's next poll returns it.
    pub(super) fn send(&mut self, data: &[u8]) -> Result<(), DtlsImplError> {
        let mut shared = lock(&self.shared);
        let Shared { dtls, outgoing, .. } = &mut *shared;
        match (dtls, &mut self.records) {
            (Some(dtls), _) => dtls.send_application_data(data).map(|_| ()),
            (None, Some(records)) => {
                outgoing.clear();
                let start = records.begin(outgoing);
                outgoing.extend_from_slice(data);
                records
                    .seal(content::APPLICATION_DATA, start, outgoing)
                    .map_err(|Exhausted| DtlsImplError::ConnectionClosed)
            }
            (None, None) => Err(DtlsImplError::ConnectionClosed),
        }
    }

    /// Appends a record to `out`, bypassing str0m. `write` appends its content, or returns `false` if there is none;
    /// then `permits` is asked about its length. What was appended without success is to be removed.
    ///
    /// Only valid after the handshake. Before the keys were taken over, str0m must have been polled until it has no
    /// output: then this record of application data is the only output.
    pub(super) fn seal(
        &mut self,
        kind: u8,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
        permits: impl FnOnce(usize) -> bool,
    ) -> Result<(), Unsealed> {
        let Some(records) = &mut self.records else { return self.seal_with_dimpl(out, write, permits) };
        let start = records.begin(out);
        let content = out.len();
        if !write(out) {
            return Err(Unsealed::Nothing);
        }
        if !permits(records.bytes(out.len() - content)) {
            return Err(Unsealed::Refused);
        }
        records.seal(kind, start, out).map_err(|Exhausted| Unsealed::Failed)
    }

    fn seal_with_dimpl(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
        permits: impl FnOnce(usize) -> bool,
    ) -> Result<(), Unsealed> {
        let mut data = Vec::new();
        if !write(&mut data) {
            return Err(Unsealed::Nothing);
        }
        if !permits(data.len() + limits::DTLS_RECORD_OVERHEAD_BYTES) {
            return Err(Unsealed::Refused);
        }
        let mut shared = lock(&self.shared);
        let Some(dtls) = &mut shared.dtls else { return Err(Unsealed::Failed) };
        let mut output = Output::borrow();
        dtls.send_application_data(&data).map_err(|_| Unsealed::Nothing)?;
        loop {
            match dtls.poll_output(&mut output.0) {
                DtlsOutput::Packet(packet) => out.extend_from_slice(packet),
                DtlsOutput::BufferTooSmall { needed } => output.0.resize(needed, 0),
                DtlsOutput::Timeout(_) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Takes the data decrypted by dimpl since the last call.
    pub(super) fn take_received(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.shared).received)
    }
}

/// Why a record was not sealed.
pub(super) enum Unsealed {
    /// It has no content.
    Nothing,
    /// Its length is not permitted.
    Refused,
    /// No record can be sealed any more.
    Failed,
}

static WARNED: Once = Once::new();

/// The records of a datagram without plaintext alerts. Anybody can send such an alert, so before the handshake is
/// authenticated an alert must not end it (RFC 6347 §4.1.2.7).
pub(super) struct WithoutAlerts<'a> {
    rest: &'a [u8],
    /// The number of alerts left out.
    pub(super) alerts: u64,
}

impl<'a> WithoutAlerts<'a> {
    pub(super) fn of(datagram: &'a [u8]) -> WithoutAlerts<'a> {
        WithoutAlerts { rest: datagram, alerts: 0 }
    }
}

impl<'a> Iterator for WithoutAlerts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while is_plain_alert(self.rest) {
            self.alerts += 1;
            self.rest = &self.rest[record_bytes(self.rest)..];
        }
        let mut end = 0;
        while end < self.rest.len() && !is_plain_alert(&self.rest[end..]) {
            end += record_bytes(&self.rest[end..]);
        }
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(run).filter(|run| !run.is_empty())
    }
}

/// Returns the length of the first record of a datagram, as far as it is present (RFC 6347 §4.1).
fn record_bytes(records: &[u8]) -> usize {
    let length = records.get(11..13).map_or(usize::from(u16::MAX), |at| usize::from(at[0]) << 8 | usize::from(at[1]));
    (record::HEADER_BYTES + length).min(records.len())
}

fn is_plain_alert(records: &[u8]) -> bool {
    records.first() == Some(&content::ALERT) && records.get(3..5) == Some(&[0, 0])
}

/// The buffer for the output of DTLS, one per thread.
struct Output(Vec<u8>);

impl Output {
    fn borrow() -> Output {
        Output(OUTPUT.take())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        OUTPUT.set(std::mem::take(&mut self.0));
    }
}

/// After a panic the owner closes the peer and does not use the state any more.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it exists, DTLS instances created on this thread behave identically on the network for the same seed: when
/// they repeat a flight, and how long their datagrams are. They repeat nonces too and are insecure: for the simulator
/// only.
pub(crate) struct SeededDtls(());

impl SeededDtls {
    pub(crate) fn new(seed: u64) -> SeededDtls {
        SEED.set(Some(seed));
        SeededDtls(())
    }
}

impl Drop for SeededDtls {
    fn drop(&mut self) {
        SEED.set(None);
    }
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    static OUTPUT: Cell<Vec<u8>> = Cell::new(vec![0; OUTPUT_BYTES]);
    static NEWEST: RefCell<Option<Arc<Mutex<Shared>>>> = const { RefCell::new(None) };
}

/// Returns str0m's cryptography provider with our DTLS.
pub(super) fn crypto_provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(
        PROVIDER.get_or_init(|| {
            Arc::new(CryptoProvider { dtls_provider: &Provider, ..str0m::crypto::from_feature_flags() })
        }),
    )
}

/// As [`crypto_provider`], for connections that carry media: str0m gets the keys of SRTP.
pub(crate) fn media_crypto() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        Arc::new(CryptoProvider { dtls_provider: &MediaProvider, ..str0m::crypto::from_feature_flags() })
    }))
}

/// Generates a self-signed certificate (RFC 8827 §6.5).
pub(super) fn generate_certificate() -> Option<DtlsCert> {
    Provider.generate_certificate()
}

#[derive(Debug)]
struct Provider;

impl DtlsProvider for Provider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        let mut generated = dimpl::certificate::generate_self_signed_certificate().ok()?;
        for _ in 0..SEEDED_CERTIFICATE_TRIES {
            if SEED.get().is_none() || generated.certificate.len() == SEEDED_CERTIFICATE_BYTES {
                break;
            }
            generated = dimpl::certificate::generate_self_signed_certificate().ok()?;
        }
        Some(generated)
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        _version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let shared = new_shared(cert, now, false)?;
        NEWEST.set(Some(Arc::clone(&shared)));
        Ok(Box::new(Instance(shared)))
    }
}

#[derive(Debug)]
struct MediaProvider;

impl DtlsProvider for MediaProvider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        Provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        _version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        Ok(Box::new(Instance(new_shared(cert, now, true)?)))
    }
}

fn new_shared(cert: &DtlsCert, now: Instant, is_for_media: bool) -> Result<Arc<Mutex<Shared>>, CryptoError> {
    let dtls = dimpl::Dtls::new_12(checked_config()?, cert.clone(), now);
    // Different ends repeat their flights at different times.
    SEED.set(SEED.get().map(|seed| seed.wrapping_add(1)));
    Ok(Arc::new(Mutex::new(Shared {
        dtls: Some(Box::new(dtls)),
        keys: Vec::new(),
        received: Vec::new(),
        outgoing: Vec::new(),
        is_active: false,
        is_for_media,
        now,
    })))
}

/// The number of configurations with different seeds: checking one per seed would cost too much.
const SEEDED_CONFIGS: usize = 16;

fn checked_config() -> Result<Arc<dimpl::Config>, CryptoError> {
    static CONFIG: OnceLock<Arc<dimpl::Config>> = OnceLock::new();
    static SEEDED: [OnceLock<Arc<dimpl::Config>>; SEEDED_CONFIGS] = [const { OnceLock::new() }; SEEDED_CONFIGS];
    let seed = SEED.get().map(|seed| seed % SEEDED_CONFIGS as u64);
    let place = seed.and_then(|seed| SEEDED.get(usize::try_from(seed).ok()?)).unwrap_or(&CONFIG);
    if let Some(config) = place.get() {
        return Ok(Arc::clone(config));
    }
    let mut builder = dimpl::Config::builder()
        // ICE has verified the offering end's password; a cookie would cost another round trip.
        .use_server_cookie(false)
        .mtu(limits::UDP_PAYLOAD_BYTES)
        .flight_start_rto(FLIGHT_TIMEOUT)
        .flight_retries(FLIGHT_RETRIES);
    let mut provider = dimpl::crypto::CryptoProvider { cipher_suites: record::SUITES, ..aws_lc_rs::default_provider() };
    if let Some(seed) = seed {
        provider.key_provider = &OneLength;
        builder = builder.dangerously_set_rng_seed(seed);
    }
    let config =
        builder.with_crypto_provider(provider).build().map_err(|error| CryptoError::Other(error.to_string()))?;
    Ok(Arc::clone(place.get_or_init(|| Arc::new(config))))
}

/// The usual length: the integers in an ECDSA signature, and in that of a certificate, may have a byte more or less
/// (X.690 §8.3).
const SEEDED_SIGNATURE_BYTES: usize = 71;
const SEEDED_CERTIFICATE_BYTES: usize = 325;
/// Each has that length with a probability of more than a third.
const SEEDED_CERTIFICATE_TRIES: u32 = 100;

/// A key whose signatures all have the same length.
#[derive(Debug)]
struct OneLength;

impl KeyProvider for OneLength {
    fn load_private_key(&self, key: &[u8]) -> Result<Box<dyn SigningKey>, DimplError> {
        Ok(Box::new(OneLengthKey(aws_lc_rs::default_provider().key_provider.load_private_key(key)?)))
    }
}

#[derive(Debug)]
struct OneLengthKey(Box<dyn SigningKey>);

impl SigningKey for OneLengthKey {
    fn sign(&mut self, data: &[u8], hash: HashAlgorithm, out: &mut Buf) -> Result<(), DimplError> {
        self.0.sign(data, hash, out)?;
        while out.len() != SEEDED_SIGNATURE_BYTES {
            self.0.sign(data, hash, out)?;
        }
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.0.hash_algorithm()
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        self.0.supported_hash_algorithms()
    }
}

struct Instance(Arc<Mutex<Shared>>);

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl Shared {
    /// Calls dimpl, and keeps the keys that it creates.
    fn call(&mut self, act: impl FnOnce(&mut dimpl::Dtls) -> Result<(), DtlsImplError>) -> Result<(), DtlsImplError> {
        let Some(dtls) = &mut self.dtls else { return Ok(()) };
        let (result, created) = record::created_by(|| act(dtls));
        self.keys.extend(created);
        result
    }

    /// Takes the place of dimpl's output after it.
    fn poll_outgoing<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let outgoing = std::mem::take(&mut self.outgoing);
        match buf.get_mut(..outgoing.len()).filter(|_| !outgoing.is_empty()) {
            Some(place) => {
                place.copy_from_slice(&outgoing);
                DtlsOutput::Packet(place)
            }
            None => DtlsOutput::Timeout(self.now + IDLE),
        }
    }
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        let mut shared = lock(&self.0);
        shared.is_active = active;
        if let Some(dtls) = &mut shared.dtls {
            dtls.set_active(active);
        }
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        lock(&self.0).call(|dtls| dtls.handle_packet(packet))
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let shared = &mut *lock(&self.0);
        let Shared { dtls: Some(dtls), received, is_for_media, .. } = shared else { return shared.poll_outgoing(buf) };
        let mut output = Output::borrow();
        loop {
            let needed = match dtls.poll_output(&mut output.0) {
                DtlsOutput::ApplicationData(data) => {
                    if received.len() < RECEIVED_MAX {
                        received.push(data.to_vec());
                    }
                    continue;
                }
                DtlsOutput::Packet(packet) => match buf.get_mut(..packet.len()) {
                    Some(place) => {
                        place.copy_from_slice(packet);
                        let len = packet.len();
                        return DtlsOutput::Packet(&buf[..len]);
                    }
                    // No record exceeds the MTU, and str0m's buffer is larger.
                    None => continue,
                },
                DtlsOutput::PeerCert(certificate) => match buf.get_mut(..certificate.len()) {
                    Some(place) => {
                        place.copy_from_slice(certificate);
                        let len = certificate.len();
                        return DtlsOutput::PeerCert(&buf[..len]);
                    }
                    None => return DtlsOutput::BufferTooSmall { needed: certificate.len() },
                },
                DtlsOutput::BufferTooSmall { needed } => needed,
                DtlsOutput::Timeout(at) => return DtlsOutput::Timeout(at),
                DtlsOutput::Connected => return DtlsOutput::Connected,
                DtlsOutput::KeyingMaterial(keys, profile) if *is_for_media => {
                    return DtlsOutput::KeyingMaterial(keys, profile);
                }
                // str0m would create contexts of nine kilobytes from them.
                DtlsOutput::KeyingMaterial(..) => continue,
                DtlsOutput::CloseNotify => return DtlsOutput::CloseNotify,
                _ => continue,
            };
            output.0.resize(needed, 0);
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        let mut shared = lock(&self.0);
        shared.now = now;
        shared.call(|dtls| dtls.handle_timeout(now))
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        match &mut lock(&self.0).dtls {
            Some(dtls) => dtls.send_application_data(data),
            None => Err(DtlsImplError::ConnectionClosed),
        }
    }

    fn is_active(&self) -> bool {
        lock(&self.0).is_active
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        match &lock(&self.0).dtls {
            Some(dtls) => dtls.protocol_version(),
            None => Some(ProtocolVersion::DTLS1_2),
        }
    }

    fn is_closing(&self) -> bool {
        lock(&self.0).dtls.as_ref().is_some_and(|dtls| dtls.is_closing())
    }

    fn is_closed(&self) -> bool {
        lock(&self.0).dtls.as_ref().is_none_or(|dtls| dtls.is_closed())
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        match &mut lock(&self.0).dtls {
            Some(dtls) => dtls.close(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn alerts_in_plain_text_are_left_out_wherever_they_stand() {
        let record = |kind: u8, epoch: u8, body: &[u8]| {
            let length = u8::try_from(body.len()).expect("a short record");
            [&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1, 0, length][..], body].concat()
        };
        let (alert, hello) = (record(content::ALERT, 0, &[2, 40]), record(22, 0, b"hello"));
        let (sealed_alert, finished) = (record(content::ALERT, 1, &[7; 26]), record(22, 1, &[8; 40]));
        let runs = |records: &[&Vec<u8>]| {
            let datagram: Vec<u8> = records.iter().flat_map(|record| record.iter().copied()).collect();
            let mut runs = WithoutAlerts::of(&datagram);
            let left: Vec<Vec<u8>> = runs.by_ref().map(<[u8]>::to_vec).collect();
            (left, runs.alerts)
        };
        assert_eq!(runs(&[&alert]), (vec![], 1));
        assert_eq!(runs(&[&hello, &finished]), (vec![[hello.clone(), finished.clone()].concat()], 0));
        let left = vec![hello.clone(), [finished.clone(), sealed_alert.clone()].concat()];
        assert_eq!(runs(&[&alert, &hello, &alert, &alert, &finished, &sealed_alert, &alert]), (left, 4));
        let broken = hello[..9].to_vec();
        assert_eq!(runs(&[&alert, &broken]), (vec![broken.clone()], 1));
        assert_eq!(runs(&[&alert[..6].to_vec()]), (vec![], 1));
        assert_eq!(runs(&[]), (vec![], 0));
    }

    #[test]
    fn what_is_seeded_has_one_length_and_the_rest_the_systems_randomness() {
        let lengths = || -> BTreeSet<usize> {
            (0..40).map(|_| generate_certificate().expect("a certificate").certificate.len()).collect()
        };
        assert!(lengths().len() > 1, "by chance, once in a million million times, all are alike");
        let seeded = SeededDtls::new(7);
        assert_eq!(lengths(), BTreeSet::from([SEEDED_CERTIFICATE_BYTES]));
        let config = checked_config().expect("a configuration");
        assert_eq!(config.rng_seed(), Some(7));
        let key = generate_certificate().expect("a certificate").private_key;
        let mut key = config.crypto_provider().key_provider.load_private_key(&key).expect("a key");
        let mut signature = Buf::new();
        for n in 0..40 {
            key.sign(&[n], HashAlgorithm::SHA256, &mut signature).expect("a signature");
            assert_eq!(signature.len(), SEEDED_SIGNATURE_BYTES);
        }
        drop(seeded);
        assert_eq!(checked_config().expect("a configuration").rng_seed(), None);
    }
}
