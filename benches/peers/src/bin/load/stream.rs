//! A TCP stream of a client, with or without TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

/// How clients speak TLS: any certificate will do, and no session is resumed, as players are on different machines.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    pub fn new(host: &str) -> Result<Tls, Box<dyn std::error::Error + Send + Sync>> {
        let mut provider = aws_lc_rs::default_provider();
        // The first choice of browsers.
        provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
        let provider = Arc::new(provider);
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Tls { config: Arc::new(config), name: ServerName::try_from(host.to_owned())? })
    }
}

/// Accepts any certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

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
        crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A socket that isn't asked again after it gave less than there was room for, until it is said to be readable: one
/// system call per message instead of two.
pub struct Socket {
    tcp: TcpStream,
    blocks: bool,
    readable: bool,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.readable {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.tcp.read(buffer)?;
        self.readable = self.blocks || count == buffer.len();
        Ok(count)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Stream {
    /// On a blocking socket.
    pub fn new(tcp: TcpStream, tls: Option<&Tls>) -> io::Result<Stream> {
        let mut socket = Socket { tcp, blocks: true, readable: true };
        let Some(Tls { config, name }) = tls else { return Ok(Stream::Plain(socket)) };
        let mut connection = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        connection.complete_io(&mut socket)?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    fn socket(&mut self) -> &mut Socket {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &mut stream.sock,
        }
    }

    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => &socket.tcp,
            Stream::Tls(stream) => &stream.sock.tcp,
        }
    }

    pub fn cipher(&self) -> Option<String> {
        let Stream::Tls(stream) = self else { return None };
        let (version, suite) = (stream.conn.protocol_version()?, stream.conn.negotiated_cipher_suite()?);
        Some(format!("{version:?} {:?}", suite.suite()))
    }

    pub fn set_nonblocking(&mut self) -> io::Result<()> {
        self.tcp().set_nonblocking(true)?;
        self.socket().blocks = false;
        Ok(())
    }

    /// There may be something to read.
    pub fn set_readable(&mut self) {
        self.socket().readable = true;
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
