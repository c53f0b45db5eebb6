//! Where the server is, and how it is reached.

#![expect(clippy::disallowed_types, reason = "whether it is there is tried before the event loops begin")]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme, StreamOwned};
use tungstenite::http::Uri;

/// How long the server may take to accept a connection before anything begins.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why nothing was run.
#[derive(Debug)]
pub enum Unreachable {
    /// The target is no URL that the generator speaks; a sentence.
    Target(String),
    /// The server didn't accept a connection.
    Server {
        /// As it was tried.
        target: String,
        /// What the operating system said, or TLS.
        error: io::Error,
    },
    /// The operating system has no event queue, or no thread, for the generator.
    Generator(io::Error),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreachable::Target(sentence) => f.write_str(sentence),
            Unreachable::Server { target, error } => match tls_error(error) {
                Some(rustls::Error::InvalidCertificate(why)) => {
                    write!(f, "{target} shows a certificate that is not trusted: {why}; with -k any is taken")
                }
                _ => write!(f, "{target} can't be reached: {error}"),
            },
            Unreachable::Generator(error) => {
                write!(f, "the operating system refused what the generator needs: {error}")
            }
        }
    }
}

impl std::error::Error for Unreachable {}

/// Where the server is.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Host and port, as the URL has them.
    pub(super) authority: String,
    pub(super) path: String,
    address: SocketAddr,
    /// By which of this machine's addresses it is reached.
    pub(super) local: IpAddr,
    tls: Option<Tls>,
}

/// Whom TLS expects, and whom it believes.
#[derive(Clone, Debug)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    fn wrap<S: Read + Write>(&self, stream: S) -> io::Result<Stream<S>> {
        let connection =
            ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, stream))))
    }
}

impl Target {
    /// Finds the server, and whether it accepts a connection. Of TLS any certificate is taken where that is `insecure`.
    pub(super) fn reach(text: &str, insecure: bool) -> Result<Target, Unreachable> {
        let no_url = || Unreachable::Target(format!("{text}: expected a URL, as in http://127.0.0.1:8080"));
        let uri: Uri = text.parse().map_err(|_| no_url())?;
        if !matches!(uri.scheme_str(), Some("http" | "ws" | "https" | "wss")) {
            return Err(no_url());
        }
        let authority = uri.authority().ok_or_else(no_url)?.to_string();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let connect = || {
            let (stream, tls) = connect(&uri, insecure, PATIENCE)?;
            let tcp = stream.transport();
            Ok((tcp.peer_addr()?, tcp.local_addr()?, tls))
        };
        let (address, local, tls) =
            connect().map_err(|error| Unreachable::Server { target: text.to_owned(), error })?;
        let path = if path.is_empty() { "/".to_owned() } else { path };
        Ok(Target { authority, path, address, local: local.ip(), tls })
    }

    /// Where its metrics are, unless somebody says otherwise.
    pub(super) fn metrics(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/metrics", self.authority)
    }

    /// Begins to connect.
    pub(super) fn dial(&self, registry: &Registry, token: Token) -> io::Result<Stream<TcpStream>> {
        let mut stream = TcpStream::connect(self.address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        match &self.tls {
            Some(tls) => tls.wrap(stream),
            None => Ok(Stream::Plain(stream)),
        }
    }
}

/// Connects to the server of a URL, and waits for it; with TLS until it has shown who it is.
fn connect(uri: &Uri, insecure: bool, patience: Duration) -> io::Result<(Stream<std::net::TcpStream>, Option<Tls>)> {
    let is_tls = matches!(uri.scheme_str(), Some("https" | "wss"));
    let authority = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    let mut connected = None;
    for address in (host, port).to_socket_addrs()? {
        match std::net::TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => failure = error,
        }
    }
    let stream = connected.ok_or(failure)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    if !is_tls {
        return Ok((Stream::Plain(stream), None));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let tls = Tls { config: Arc::new(config(insecure)?), name };
    let mut stream = tls.wrap(stream)?;
    stream.flush()?;
    Ok((stream, Some(tls)))
}

/// What the server of a URL answers to a `GET` of it, up to so many bytes; HTTP/1.0, so that it ends.
pub(super) fn get(url: &str, insecure: bool, patience: Duration, most_bytes: u64) -> io::Result<Vec<u8>> {
    let uri: Uri = url.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let (mut stream, _) = connect(&uri, insecure, patience)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\n\r\n").as_bytes())?;
    stream.flush()?;
    let mut response = Vec::new();
    stream.take(most_bytes).read_to_end(&mut response)?;
    Ok(response)
}

/// A connection, which may be encrypted.
#[derive(Debug)]
pub(super) enum Stream<S: Read + Write> {
    Plain(S),
    Tls(Box<StreamOwned<ClientConnection, S>>),
}

impl<S: Read + Write> Stream<S> {
    fn transport(&self) -> &S {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref(),
        }
    }
}

impl Stream<TcpStream> {
    /// Whether it has connected, since [`Target::dial`].
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        let stream = self.transport();
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            // A small message should not wait for another.
            Ok(_) => stream.set_nodelay(true).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl<S: Read + Write> Read for Stream<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => match stream.read(buffer) {
                // Many servers end without a word of TLS; what is cut off shows in what it carries.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                result => result,
            },
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

fn config(insecure: bool) -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let mut config = if insecure {
        let any = Arc::new(AnyCertificate(provider));
        builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        builder.with_root_certificates(roots).with_no_client_auth()
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes whatever certificate a server shows; that the server has its key is checked all the same.
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What reports call an error of a socket: Node's names, as in Artillery's.
pub(super) fn error_name(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if tls_error(error).is_some() => "ETLS",
        io::ErrorKind::ConnectionRefused => "ECONNREFUSED",
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof => {
            "ECONNRESET"
        }
        io::ErrorKind::BrokenPipe => "EPIPE",
        io::ErrorKind::TimedOut => "ETIMEDOUT",
        io::ErrorKind::HostUnreachable => "EHOSTUNREACH",
        io::ErrorKind::NetworkUnreachable => "ENETUNREACH",
        io::ErrorKind::AddrNotAvailable => "EADDRNOTAVAIL",
        _ if error.raw_os_error() == Some(nix::errno::Errno::EMFILE as i32) => "EMFILE",
        _ => "EIO",
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
