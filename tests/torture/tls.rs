//! TLS of players and attackers, by the certificate that the server has made for development.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::world::Failure;

/// What trusts the server's certificate; `None` of a server without TLS.
pub(super) type Trust = Option<Arc<ClientConfig>>;

/// Trusts the certificate in this file.
pub(super) fn trust(file: &Path) -> Result<Trust, Failure> {
    let certificate = CertificateDer::from_pem_slice(&fs::read(file)?)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(Arc::new(config)))
}

pub(super) fn session(config: &Arc<ClientConfig>) -> Result<ClientConnection, Failure> {
    Ok(ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?)
}

/// The first flight of a handshake, as bytes that may be sent any number of times.
pub(super) fn hello(config: &Arc<ClientConfig>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    session(config)?.write_tls(&mut bytes)?;
    Ok(bytes)
}

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    pub(super) fn new(socket: TcpStream, trust: &Trust) -> Result<Stream, Failure> {
        Ok(match trust {
            None => Stream::Plain(socket),
            Some(config) => Stream::Tls(Box::new(StreamOwned::new(session(config)?, socket))),
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        }
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
