//! DTLS that str0m drives and the lane shares.
//!
//! str0m makes its DTLS instance through a provider; ours hands out one whose application data stays with us instead of
//! going into str0m's SCTP. One checked configuration serves all peers: checking it anew costs a millisecond each.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use str0m::config::{CryptoProvider, DtlsCert, DtlsVersion};
use str0m::crypto::CryptoError;
use str0m::crypto::dtls::{DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion};

use crate::limits;

/// First wait for the other end's flight. The default of a second makes joining under loss slow.
const FLIGHT_TIMEOUT: Duration = Duration::from_millis(250);
const FLIGHT_RETRIES: usize = 6;
/// Datagrams decrypted and not yet taken by the lane; they are taken after each datagram.
const RECEIVED_MAX: usize = 64;
/// No certificate that a client shows may be larger: the DTLS instance panics where it doesn't fit.
const OUTPUT_BYTES: usize = 64 * 1024;

/// The lane's hold on the DTLS instance of its peer.
pub(super) struct DtlsHandle(Arc<Mutex<Shared>>);

struct Shared {
    dtls: dimpl::Dtls,
    received: Vec<Vec<u8>>,
}

impl DtlsHandle {
    /// The instance that str0m made last on this thread.
    pub(super) fn take_newest() -> Option<DtlsHandle> {
        NEWEST.take().map(DtlsHandle)
    }

    /// Encrypts one record; it comes out of str0m's next poll.
    pub(super) fn send(&self, data: &[u8]) -> Result<(), DtlsImplError> {
        lock(&self.0).dtls.send_application_data(data).map(|_| ())
    }

    /// Encrypts one record straight into `out`, past str0m. Only once the handshake is done, and while str0m has been
    /// polled until there was nothing: then the record is all that comes out.
    pub(super) fn seal(&self, data: &[u8], out: &mut Vec<u8>) -> Result<(), DtlsImplError> {
        let Shared { dtls, .. } = &mut *lock(&self.0);
        let mut output = Output::borrow();
        dtls.send_application_data(data)?;
        loop {
            match dtls.poll_output(&mut output.0) {
                DtlsOutput::Packet(packet) => out.extend_from_slice(packet),
                DtlsOutput::BufferTooSmall { needed } => output.0.resize(needed, 0),
                DtlsOutput::Timeout(_) => return Ok(()),
                _ => {}
            }
        }
    }

    /// Decrypts a datagram of application data, past str0m. `true` if the other end said goodbye in it.
    pub(super) fn open(&self, datagram: &[u8], mut each: impl FnMut(&[u8])) -> Result<bool, DtlsImplError> {
        let Shared { dtls, .. } = &mut *lock(&self.0);
        let mut output = Output::borrow();
        dtls.handle_packet(datagram)?;
        let mut said_goodbye = false;
        loop {
            match dtls.poll_output(&mut output.0) {
                DtlsOutput::ApplicationData(data) => each(data),
                DtlsOutput::BufferTooSmall { needed } => output.0.resize(needed, 0),
                DtlsOutput::CloseNotify => said_goodbye = true,
                DtlsOutput::Timeout(_) => return Ok(said_goodbye),
                // A flight that is sent again answers a handshake record; none begins with application data.
                _ => {}
            }
        }
    }

    /// What has been decrypted since.
    pub(super) fn take_received(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.0).received)
    }
}

/// The buffer that DTLS writes what it has to say to: one of each thread, which none of its uses keeps.
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

/// A panic in between leaves nothing half done that the owner, who closes the peer, would still use.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static OUTPUT: Cell<Vec<u8>> = Cell::new(vec![0; OUTPUT_BYTES]);
    static NEWEST: RefCell<Option<Arc<Mutex<Shared>>>> = const { RefCell::new(None) };
}

/// str0m's cryptography with our DTLS.
pub(super) fn crypto_provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(
        PROVIDER.get_or_init(|| {
            Arc::new(CryptoProvider { dtls_provider: &Provider, ..str0m::crypto::from_feature_flags() })
        }),
    )
}

/// A fresh self-signed certificate (RFC 8827 §6.5).
pub(super) fn generate_certificate() -> Option<DtlsCert> {
    Provider.generate_certificate()
}

#[derive(Debug)]
struct Provider;

impl DtlsProvider for Provider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        dimpl::certificate::generate_self_signed_certificate().ok()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        _version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let dtls = dimpl::Dtls::new_12(checked_config()?, cert.clone(), now);
        let shared = Arc::new(Mutex::new(Shared { dtls, received: Vec::new() }));
        NEWEST.set(Some(Arc::clone(&shared)));
        Ok(Box::new(Instance(shared)))
    }
}

fn checked_config() -> Result<Arc<dimpl::Config>, CryptoError> {
    static CONFIG: OnceLock<Arc<dimpl::Config>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let config = dimpl::Config::builder()
        // ICE has checked that the offerer knows the password; a cookie would cost a round trip more.
        .use_server_cookie(false)
        .mtu(limits::UDP_PAYLOAD_BYTES)
        .flight_start_rto(FLIGHT_TIMEOUT)
        .flight_retries(FLIGHT_RETRIES)
        .build()
        .map_err(|error| CryptoError::Other(error.to_string()))?;
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

struct Instance(Arc<Mutex<Shared>>);

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl DtlsInstance for Instance {
    fn set_active(&mut self, active: bool) {
        lock(&self.0).dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        lock(&self.0).dtls.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let Shared { dtls, received } = &mut *lock(&self.0);
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
                    // No record is larger than the MTU; str0m's buffer is.
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
                // Keys for media, of which there is none: str0m would make contexts of nine kilobytes of them.
                DtlsOutput::KeyingMaterial(..) => continue,
                DtlsOutput::CloseNotify => return DtlsOutput::CloseNotify,
                _ => continue,
            };
            output.0.resize(needed, 0);
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        lock(&self.0).dtls.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        lock(&self.0).dtls.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        lock(&self.0).dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        lock(&self.0).dtls.protocol_version()
    }

    fn is_closing(&self) -> bool {
        lock(&self.0).dtls.is_closing()
    }

    fn is_closed(&self) -> bool {
        lock(&self.0).dtls.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        lock(&self.0).dtls.close()
    }
}
