//! TLS over a blocking or non-blocking stream.

use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The trusted certificates. Those of the operating system are loaded once, when first needed.
pub(crate) struct Trust {
    takes_any: bool,
    /// Or the reason why there is none.
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Trust {
    /// Trusts the certificates of the operating system, or every certificate.
    pub(crate) fn new(takes_any: bool) -> Trust {
        Trust { takes_any, config: OnceLock::new() }
    }

    /// Returns the TLS configuration for a host: a name, or an address without brackets.
    ///
    /// # Errors
    /// No certificate can exist for the host, or the operating system has no trusted certificates.
    pub(super) fn tls(&self, host: &str) -> io::Result<Tls> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a certificate for that host is impossible"))?;
        match self.config.get_or_init(|| self.config()) {
            Ok(config) => Ok(Tls { config: Arc::clone(config), name }),
            Err(sentence) => Err(io::Error::new(io::ErrorKind::NotFound, sentence.clone())),
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        let roots = if self.takes_any { RootCertStore::empty() } else { roots()? };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        if self.takes_any {
            config.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(algorithms)));
        }
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Virtual users stand for different machines: resuming another user's session would save the server work.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// Loads the trusted certificates of the operating system.
fn roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!("this machine has no trusted certificates{why}; use -k to accept any certificate"));
    }
    Ok(roots)
}

/// Accepts any certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// The TLS parameters for one server.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Returns the TLS error in an I/O error, if it is one.
pub(super) fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn io_error(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A stream to a server, with or without TLS.
pub(crate) enum Stream<S> {
    Plain(S),
    Tls(Box<Session<S>>),
}

pub(crate) struct Session<S> {
    connection: ClientConnection,
    socket: S,
}

impl<S: Read + Write> Stream<S> {
    /// The handshake starts with the first read or write.
    pub(super) fn new(socket: S, tls: Option<&Tls>) -> io::Result<Stream<S>> {
        let Some(Tls { config, name }) = tls else { return Ok(Stream::Plain(socket)) };
        let mut connection = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io_error)?;
        // Written data is accepted as a whole: there is no notification of space for the rest.
        connection.set_buffer_limit(None);
        Ok(Stream::Tls(Box::new(Session { connection, socket })))
    }

    pub(crate) fn socket(&self) -> &S {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(session) => &session.socket,
        }
    }

    /// Performs the handshake, if there is one, on a blocking socket.
    pub(super) fn handshake(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(session) => session.connection.complete_io(&mut session.socket).map(|_| ()),
        }
    }
}

impl<S: Read + Write> Read for Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(session) => session.read(buffer),
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(session) => session.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(session) => session.flush(),
        }
    }
}

/// Used instead of [`rustls::StreamOwned`], which reads from the socket when writing: no event would report data left
/// in the session.
impl<S: Read + Write> Session<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.send()?;
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Many servers close without a close_notify alert; messages with a length reveal truncation.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            let count = self.connection.read_tls(&mut self.socket)?;
            let processed = self.connection.process_new_packets();
            // The handshake message or the alert.
            let sent = self.send();
            processed.map_err(io_error)?;
            sent?;
            if count == 0 && self.connection.is_handshaking() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.connection.writer().write(bytes)?;
        self.send()?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        self.socket.flush()
    }

    /// Sends what the socket accepts.
    fn send(&mut self) -> io::Result<()> {
        match self.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}
