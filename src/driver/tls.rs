//! TLS on the TCP port: the certificate, and the session of each connection above its metered socket.

mod development;

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mio::net::TcpStream;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, HandshakeKind, InconsistentKeys, ServerConfig, ServerConnection, SignatureAlgorithm};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::doctor::{Finding, capitalised};
use super::metered::Metered;
use super::unix_time;
use crate::limits::{CALL_WORK, TLS_HANDSHAKE_WORK, TLS_RSA_HANDSHAKE_WORK};

/// The first byte of a TLS record that contains a handshake message (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 0x16;
/// Bytes of the plaintext in one record (RFC 8446 §5.1). At most one record waits for the socket.
const RECORD_BYTES: usize = 16 * 1024;
/// Bytes of an encrypted alert: a header, its two bytes, its type and a tag.
const ALERT_BYTES: usize = 5 + 2 + 1 + 16;
/// Bytes of a certificate file or key file.
const FILE_BYTES: u64 = 1024 * 1024;
/// How long before its end a certificate should be replaced.
const RENEWAL: Duration = Duration::from_hours(14 * 24);
const CERTIFICATE: &str = "--tls-cert FILE";
const KEY: &str = "--tls-key FILE";

/// A certificate and its key, which the server reads at the start and at each [`Handle::reload`].
///
/// [`Handle::reload`]: super::Handle::reload
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// A PEM file with the certificate chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// A PEM file with the private key of that certificate, not encrypted. It may be the same file.
    pub key: PathBuf,
}

/// TLS handshakes by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Handshakes {
    pub(super) full: u64,
    /// With a ticket of an earlier session, without a signature.
    pub(super) resumed: u64,
    /// The data violated the protocol, or both ends have no version or cipher suite in common.
    pub(super) failed: u64,
    /// The connection was closed or its time was over.
    pub(super) unfinished: u64,
    /// The client did not begin with TLS.
    pub(super) plaintext: u64,
    /// The connection was closed before, because its address had too many.
    pub(super) excess: u64,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Full,
    Resumed,
    Failed,
    Unfinished,
    Plaintext,
    Excess,
}

/// Accepts TLS connections with a certificate that can be replaced. Open connections keep theirs.
#[derive(Debug)]
pub(super) struct Acceptor {
    files: Tls,
    credentials: RefCell<Credentials>,
    handshakes: Cell<Handshakes>,
    /// The work of handshakes since [`Acceptor::take_work`].
    work: Cell<usize>,
}

#[derive(Debug)]
struct Credentials {
    config: Arc<ServerConfig>,
    /// When the certificate expires, since 1970.
    expires: Duration,
    /// The work of a handshake with a signature of this key.
    signed_work: usize,
}

impl Acceptor {
    /// # Errors
    /// A sentence: the files can't be used.
    pub(super) fn new(files: Tls) -> Result<Acceptor, String> {
        let credentials = RefCell::new(files.load()?);
        let acceptor = Acceptor { files, credentials, handshakes: Cell::default(), work: Cell::default() };
        acceptor.warn_of_expiry();
        Ok(acceptor)
    }

    /// Reads the files again, for the connections that follow. Sessions of the replaced certificate can't be resumed.
    ///
    /// # Errors
    /// A sentence: the files can't be used, so what was read before stays.
    pub(super) fn reload(&self) -> Result<(), String> {
        *self.credentials.borrow_mut() = self.files.load()?;
        log::info!("the TLS certificate was read again: it expires at {}", shown(self.expires()));
        self.warn_of_expiry();
        Ok(())
    }

    pub(super) fn handshakes(&self) -> Handshakes {
        self.handshakes.get()
    }

    /// The work of handshakes since the last call. A connection may have ended with its handshake, so this is no part
    /// of what its socket has spent.
    pub(super) fn take_work(&self) -> usize {
        self.work.take()
    }

    /// When the certificate expires, since 1970.
    pub(super) fn expires(&self) -> Duration {
        self.credentials.borrow().expires
    }

    /// What the doctor reports about the certificate.
    pub(super) fn finding(&self) -> Finding {
        const CHECK: &str = "certificate";
        match expiry(self.expires(), unix_time()) {
            None => Finding::ok(CHECK, format!("The TLS certificate expires at {}.", shown(self.expires()))),
            Some((verdict, sentence)) => {
                let (says, remedy) = sentence.split_once(": ").unwrap_or((&sentence, ""));
                let find = if verdict == log::Level::Error { Finding::fail } else { Finding::warn };
                find(CHECK, format!("{}.", capitalised(says)), format!("{}.", capitalised(remedy)))
            }
        }
    }

    fn warn_of_expiry(&self) {
        if let Some((level, sentence)) = expiry(self.expires(), unix_time()) {
            log::log!(level, "{sentence}");
        }
    }

    fn count(&self, outcome: Outcome) {
        let mut handshakes = self.handshakes.get();
        *match outcome {
            Outcome::Full => &mut handshakes.full,
            Outcome::Resumed => &mut handshakes.resumed,
            Outcome::Failed => &mut handshakes.failed,
            Outcome::Unfinished => &mut handshakes.unfinished,
            Outcome::Plaintext => &mut handshakes.plaintext,
            Outcome::Excess => &mut handshakes.excess,
        } += 1;
        self.handshakes.set(handshakes);
    }
}

/// The warning about a certificate that has expired or will soon.
fn expiry(expires: Duration, now: Duration) -> Option<(log::Level, String)> {
    if expires <= now {
        let sentence = format!("the TLS certificate expired at {}: replace it, as browsers refuse it", shown(expires));
        Some((log::Level::Error, sentence))
    } else if expires <= now + RENEWAL {
        Some((log::Level::Warn, format!("the TLS certificate expires at {}: replace it before", shown(expires))))
    } else {
        None
    }
}

fn shown(time: Duration) -> String {
    let time = i64::try_from(time.as_secs()).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.unwrap_or(Timestamp::MAX).to_string()
}

impl Tls {
    fn load(&self) -> Result<Credentials, String> {
        let chain = self.chain()?;
        let expires = expires(&chain).map_err(|cause| self.bad_certificate(&cause))?;
        let key = self.signing_key(chain)?;
        let signed_work = match key.key.algorithm() {
            SignatureAlgorithm::RSA => TLS_RSA_HANDSHAKE_WORK,
            _ => TLS_HANDSHAKE_WORK,
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = Ticketer::new().map_err(|error| format!("no key for TLS tickets can be made: {error}"))?;
        Ok(Credentials { config: Arc::new(config), expires, signed_work })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let path = self.certificate.display();
        let bytes = read(&self.certificate, CERTIFICATE)?;
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&bytes).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            Ok(_) => Err(format!("{path} contains no certificate: name a PEM file with {CERTIFICATE}")),
            Err(cause) => Err(self.bad_certificate(&cause)),
        }
    }

    fn bad_certificate(&self, cause: &dyn std::fmt::Display) -> String {
        let path = self.certificate.display();
        format!("the certificate in {path} can't be used ({cause}): name a PEM file with {CERTIFICATE}")
    }

    fn signing_key(&self, chain: Vec<CertificateDer<'static>>) -> Result<CertifiedKey, String> {
        let path = self.key.display();
        let bytes = read(&self.key, KEY)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|cause| match cause {
            pem::Error::NoItemsFound if bytes.windows(9).any(|word| word == b"ENCRYPTED") => {
                format!("the key in {path} is encrypted: write it without passphrase (openssl pkey)")
            }
            pem::Error::NoItemsFound => format!("{path} contains no private key: name a PEM file with {KEY}"),
            cause => format!("the key in {path} can't be used ({cause}): name a PEM file with {KEY}"),
        })?;
        let key = aws_lc_rs::default_provider().key_provider.load_private_key(key).map_err(|cause| {
            format!("the key in {path} can't be used ({cause}): use one for ECDSA, Ed25519 or RSA from 2048 bits")
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) => Ok(certified),
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(format!(
                "the key in {path} is not that of the first certificate in {}: name both of one pair",
                self.certificate.display()
            )),
            Err(cause) => Err(self.bad_certificate(&cause)),
        }
    }
}

/// Reads a file; something that would block or never end is refused.
fn read(path: &Path, option: &str) -> Result<Vec<u8>, String> {
    let unreadable = |cause: &dyn std::fmt::Display| {
        format!("{} can't be read ({cause}): name a file that can be with {option}", path.display())
    };
    let metadata = fs::metadata(path).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES {
        return Err(unreadable(&"it is no file of at most 1 MiB"));
    }
    fs::read(path).map_err(|error| unreadable(&error))
}

/// When the first certificate expires, since 1970.
fn expires(chain: &[CertificateDer<'_>]) -> Result<Duration, x509_cert::der::Error> {
    let certificate = Certificate::from_der(&chain[0])?;
    Ok(certificate.tbs_certificate().validity().not_after.to_unix_duration())
}

/// Whether connections are encrypted.
#[derive(Clone, Debug)]
pub(super) enum Security {
    None,
    Tls(Rc<Acceptor>),
    /// Every request is redirected to TLS at this port.
    Redirect(u16),
}

/// A metered socket, with or without TLS.
#[derive(Debug)]
pub(super) struct Socket<S> {
    pub(super) meter: Metered<S>,
    layer: Layer,
}

#[derive(Debug)]
enum Layer {
    Plain,
    /// TLS is expected; nothing has arrived.
    Awaited(Handshake),
    Tls(Box<Session>),
    /// Not encrypted where it should be.
    Misdirected(Redirect),
}

/// Where an unencrypted request is redirected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    SamePort,
    Port(u16),
}

impl<S> Socket<S> {
    pub(super) fn new(socket: S, security: &Security) -> Socket<S> {
        let layer = match security {
            Security::None => Layer::Plain,
            Security::Tls(acceptor) => {
                Layer::Awaited(Handshake { acceptor: Rc::clone(acceptor), outcome: Outcome::Unfinished })
            }
            Security::Redirect(port) => Layer::Misdirected(Redirect::Port(*port)),
        };
        Socket { meter: Metered::new(socket), layer }
    }

    pub(super) fn is_secure(&self) -> bool {
        matches!(self.layer, Layer::Tls(_))
    }

    /// Whether its first bytes may begin a handshake.
    pub(super) fn awaits_handshake(&self) -> bool {
        matches!(self.layer, Layer::Awaited(_))
    }

    /// Closes a connection that gets no handshake.
    pub(super) fn refuse_handshake(mut self) {
        if let Layer::Awaited(handshake) = &mut self.layer {
            handshake.outcome = Outcome::Excess;
        }
    }

    /// How requests are redirected, if they are answered with nothing else.
    pub(super) fn redirect(&self) -> Option<Redirect> {
        match self.layer {
            Layer::Misdirected(redirect) => Some(redirect),
            _ => None,
        }
    }
}

impl Socket<TcpStream> {
    /// Tells the other end that no more data follows.
    pub(super) fn shut_down(&mut self) -> io::Result<()> {
        if let Layer::Tls(session) = &mut self.layer {
            self.meter.grant(CALL_WORK + ALERT_BYTES);
            session.connection.send_close_notify();
            // Where the socket is full, nobody has waited for the end.
            let _ = session.send(&mut self.meter);
        }
        self.meter.get_ref().shutdown(Shutdown::Write)
    }
}

impl<S: Read + Write> Read for Socket<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain | Layer::Misdirected(_) => self.meter.read(buffer),
            Layer::Tls(session) => session.read(&mut self.meter, buffer),
            Layer::Awaited(_) => {
                let count = self.meter.read(buffer)?;
                match std::mem::replace(&mut self.layer, Layer::Misdirected(Redirect::SamePort)) {
                    Layer::Awaited(handshake) if count > 0 && buffer[0] == HANDSHAKE_RECORD => {
                        let mut session = Box::new(Session::new(handshake)?);
                        let begun = session.begin(&mut self.meter, &buffer[..count]);
                        self.layer = Layer::Tls(session);
                        begun?;
                        self.read(buffer)
                    }
                    Layer::Awaited(mut handshake) if count > 0 => {
                        handshake.outcome = Outcome::Plaintext;
                        Ok(count)
                    }
                    _ => Ok(count),
                }
            }
        }
    }
}

impl<S: Read + Write> Write for Socket<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.layer {
            Layer::Plain | Layer::Misdirected(_) => self.meter.write(bytes),
            Layer::Tls(session) => session.write(&mut self.meter, bytes),
            Layer::Awaited(_) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Would block while encrypted bytes wait.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Tls(session) => session.flush(&mut self.meter),
            _ => self.meter.flush(),
        }
    }
}

/// Counts a handshake by its outcome when dropped.
#[derive(Debug)]
struct Handshake {
    acceptor: Rc<Acceptor>,
    outcome: Outcome,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.acceptor.count(self.outcome);
    }
}

#[derive(Debug)]
struct Session {
    connection: ServerConnection,
    /// Until it is done.
    handshake: Option<Handshake>,
    /// The work of the handshake if it has a signature, until it is charged.
    signed_work: usize,
}

impl Session {
    fn new(handshake: Handshake) -> io::Result<Session> {
        let (config, signed_work) = {
            let credentials = handshake.acceptor.credentials.borrow();
            (Arc::clone(&credentials.config), credentials.signed_work)
        };
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Session { connection, signed_work, handshake: Some(handshake) })
    }

    /// Takes in what arrived before the session was made.
    fn begin<S: Read + Write>(&mut self, meter: &mut Metered<S>, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.connection.read_tls(&mut bytes)?;
            self.process(meter)?;
        }
        Ok(())
    }

    fn read<S: Read + Write>(&mut self, meter: &mut Metered<S>, buffer: &mut [u8]) -> io::Result<usize> {
        self.send(meter)?;
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Many clients close without a close_notify alert; messages with a length reveal truncation.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if self.connection.read_tls(meter)? == 0 && self.connection.is_handshaking() {
                return Ok(0);
            }
            self.process(meter)?;
        }
    }

    /// Handles received records, and sends what answers them.
    fn process<S: Write>(&mut self, meter: &mut Metered<S>) -> io::Result<()> {
        let processed = self.connection.process_new_packets();
        // The handshake message, or the alert.
        let sent = self.send(meter);
        let kind = self.connection.handshake_kind();
        if let (Some(kind), Some(Handshake { acceptor, .. })) = (kind, &self.handshake) {
            let signed = std::mem::take(&mut self.signed_work);
            let work = if kind == HandshakeKind::Resumed { signed.min(TLS_HANDSHAKE_WORK) } else { signed };
            acceptor.work.set(acceptor.work.get() + work);
        }
        if let Err(error) = processed {
            if let Some(mut handshake) = self.handshake.take() {
                handshake.outcome = Outcome::Failed;
            }
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        if !self.connection.is_handshaking()
            && let Some(mut handshake) = self.handshake.take()
        {
            let is_resumed = kind == Some(HandshakeKind::Resumed);
            handshake.outcome = if is_resumed { Outcome::Resumed } else { Outcome::Full };
        }
        sent
    }

    /// Encrypts one record at most, once the one before was sent.
    fn write<S: Write>(&mut self, meter: &mut Metered<S>, bytes: &[u8]) -> io::Result<usize> {
        self.flush(meter)?;
        let count = self.connection.writer().write(&bytes[..bytes.len().min(RECORD_BYTES)])?;
        self.send(meter)?;
        Ok(count)
    }

    fn flush<S: Write>(&mut self, meter: &mut Metered<S>) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(meter)?;
        }
        meter.flush()
    }

    /// Sends what the socket accepts.
    fn send<S: Write>(&mut self, meter: &mut Metered<S>) -> io::Result<()> {
        match self.flush(meter) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
