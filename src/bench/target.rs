//! The target server, and how to reach it.

#![expect(clippy::disallowed_types, reason = "no event loop waits while it is tried whether the server is there")]

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::CertificateError;
use tungstenite::http::Uri;

use super::tls::{Stream, Tls, Trust, tls_error};

/// Why a run could not start.
#[derive(Debug)]
pub enum Unreachable {
    /// The target is not a supported URL; a sentence.
    Target(String),
    /// The server did not accept a connection, or its certificate is not trusted.
    Server {
        /// The address that was tried.
        target: String,
        /// The error of the operating system or of TLS.
        error: io::Error,
    },
    /// The operating system refused an event queue or a thread.
    Generator(io::Error),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreachable::Target(sentence) => f.write_str(sentence),
            Unreachable::Server { target, error } => write!(f, "{target} can't be reached: {error}"),
            Unreachable::Generator(error) => {
                write!(f, "the operating system refused an event queue or a thread: {error}")
            }
        }
    }
}

impl std::error::Error for Unreachable {}

/// The target server.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Host and port as in the URL.
    pub(crate) authority: String,
    pub(super) path: String,
    pub(crate) address: SocketAddr,
    /// The local address that reaches the server.
    pub(super) local: IpAddr,
    tls: Option<Tls>,
}

impl Target {
    /// Resolves the server's address and connects.
    pub(crate) fn connect(
        text: &str,
        trust: &Trust,
        patience: Duration,
    ) -> Result<(Target, Stream<std::net::TcpStream>), Unreachable> {
        let no_url = || Unreachable::Target(format!("{text}: expected a URL, for example http://127.0.0.1:8080"));
        let uri: Uri = text.parse().map_err(|_| no_url())?;
        let (is_secure, default_port) = match uri.scheme_str() {
            Some("http" | "ws") => (false, 80),
            Some("https" | "wss") => (true, 443),
            _ => return Err(no_url()),
        };
        let authority = uri.authority().ok_or_else(no_url)?;
        let host = authority.host().trim_matches(['[', ']']);
        let unreachable = |error| Unreachable::Server { target: text.to_owned(), error };
        let tls = is_secure.then(|| trust.tls(host)).transpose().map_err(unreachable)?;
        let addresses = (host, authority.port_u16().unwrap_or(default_port)).to_socket_addrs().map_err(unreachable)?;
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in addresses {
            match open(address, tls.as_ref(), patience) {
                Ok(stream) => {
                    let local = stream.socket().local_addr().map_err(unreachable)?.ip();
                    let path = uri.path_and_query().map_or("/", |path| path.as_str());
                    let path = if path.is_empty() { "/" } else { path };
                    let (authority, path) = (authority.to_string(), path.to_owned());
                    return Ok((Target { authority, path, address, local, tls }, stream));
                }
                Err(error) => failure = error,
            }
        }
        Err(unreachable(failure))
    }

    /// The path of the URL.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Opens another connection.
    pub(crate) fn open(&self, patience: Duration) -> io::Result<Stream<std::net::TcpStream>> {
        open(self.address, self.tls.as_ref(), patience)
    }

    /// Returns the URL of a path; `scheme` is the one without TLS.
    pub(super) fn url(&self, scheme: &str, path: &str) -> String {
        let secure = if self.tls.is_some() { "s" } else { "" };
        format!("{scheme}{secure}://{}{path}", self.authority)
    }

    /// Starts to connect.
    pub(super) fn dial(&self, registry: &Registry, token: Token) -> io::Result<Stream<TcpStream>> {
        let mut socket = TcpStream::connect(self.address)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Stream::new(socket, self.tls.as_ref())
    }
}

fn open(address: SocketAddr, tls: Option<&Tls>, patience: Duration) -> io::Result<Stream<std::net::TcpStream>> {
    let socket = std::net::TcpStream::connect_timeout(&address, patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    let mut stream = Stream::new(socket, tls)?;
    stream.handshake().map_err(|error| explain(error, patience))?;
    Ok(stream)
}

/// Explains the failure of a handshake.
fn explain(error: io::Error, patience: Duration) -> io::Error {
    let untrusted = |cause: &dyn fmt::Display| {
        format!("its certificate is not trusted ({cause}); use -k to accept any certificate")
    };
    let sentence = match (tls_error(&error), error.kind()) {
        (Some(rustls::Error::InvalidCertificate(CertificateError::Other(cause))), _) => untrusted(cause),
        (Some(rustls::Error::InvalidCertificate(cause)), _) => untrusted(cause),
        (Some(cause), _) => format!("TLS failed: {cause}"),
        (None, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            format!("no answer to the TLS handshake within {patience:?}")
        }
        (None, io::ErrorKind::UnexpectedEof) => "it closed the connection during the TLS handshake".to_owned(),
        _ => return error,
    };
    io::Error::new(error.kind(), sentence)
}

/// Returns whether a connecting socket is connected.
pub(super) fn is_connected(stream: &Stream<TcpStream>) -> io::Result<bool> {
    let socket = stream.socket();
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    match socket.peer_addr() {
        // Small messages must not wait for others.
        Ok(_) => socket.set_nodelay(true).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the name of a socket error in reports: that of Node, as in Artillery's.
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
