//! A connection to Redis whose answers have a deadline and a limit.
//!
//! The blocking connection of the crate has a timeout for each read but none for an answer, and no limit for its size:
//! it would wait for ever for a peer that sends a byte now and then, and would fill the memory with what a peer sends
//! without an end.

#![expect(clippy::disallowed_types, reason = "a thread of its own that may block")]

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Parser, RedisError, ServerError, Value};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

#[cfg(target_os = "linux")]
use crate::driver::link::Link;
use crate::limits::SNAPSHOT_BYTES;

/// Bytes of all answers to a batch, one of which may be a saved room.
const ANSWERS_BYTES: u64 = 1024 * 1024 + SNAPSHOT_BYTES as u64;
/// Characters of an error of Redis that are shown.
const DETAIL_CHARS: usize = 200;

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Cause {
    /// No connection, or it was closed.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// Redis does not let this client in.
    Denied,
    /// It can't carry out commands: a replica, or still loading.
    Unready,
    /// It has refused a command.
    Refused,
    /// What answers is not Redis, or the keys are not those of a cluster.
    Unreadable,
    /// Too many requests wait.
    Overload,
}

impl Cause {
    pub(in crate::driver) const ALL: [Cause; 7] = [
        Cause::Unreachable,
        Cause::Timeout,
        Cause::Denied,
        Cause::Unready,
        Cause::Refused,
        Cause::Unreadable,
        Cause::Overload,
    ];

    pub(in crate::driver) fn as_str(self) -> &'static str {
        match self {
            Cause::Unreachable => "unreachable",
            Cause::Timeout => "timeout",
            Cause::Denied => "denied",
            Cause::Unready => "unready",
            Cause::Refused => "refused",
            Cause::Unreadable => "unreadable",
            Cause::Overload => "overload",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// It begins with a subject that is Redis, and has no password.
    pub(super) sentence: String,
}

impl Failure {
    pub(super) fn new(cause: Cause, sentence: impl Into<String>) -> Failure {
        Failure { cause, sentence: sentence.into() }
    }

    fn of_io(error: &io::Error) -> Failure {
        if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            let advice = "see whether this machine trusts its certificate, and whether that names the host in the URL";
            return Failure::new(Cause::Unreachable, format!("TLS fails ({}): {advice}", shown(&error.to_string())));
        }
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                Failure::new(Cause::Timeout, "it does not answer in time: see whether it is overloaded or stopped")
            }
            io::ErrorKind::ConnectionRefused => Failure::new(
                Cause::Unreachable,
                "the connection is refused: see whether it runs, and whether the port in the URL is right",
            ),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Failure::new(
                Cause::Unreachable,
                "it has closed the connection: see whether it runs, and whether it needs TLS (rediss://)",
            ),
            io::ErrorKind::InvalidData => Failure::new(
                Cause::Unreadable,
                format!("its answer can't be read ({}): see whether the URL leads to Redis", shown(&error.to_string())),
            ),
            _ => Failure::new(Cause::Unreachable, format!("the connection fails: {}", shown(&error.to_string()))),
        }
    }

    fn of_protocol(error: &RedisError) -> Failure {
        let cause = match error.kind() {
            _ if error.is_timeout() => io::ErrorKind::TimedOut.into(),
            ErrorKind::Io => io::ErrorKind::UnexpectedEof.into(),
            _ => io::Error::new(io::ErrorKind::InvalidData, "it is not the protocol of Redis"),
        };
        Failure::of_io(&cause)
    }

    pub(super) fn of_answer(error: &ServerError) -> Failure {
        let (code, details) = (error.code(), error.details().unwrap_or_default());
        // Before version 7 the error of a command is part of the text of its script's error.
        let is = |word: &str| code == word || (code == "ERR" && details.contains(&format!("-{word} ")));
        if is("NOAUTH") {
            Failure::new(Cause::Denied, "it needs a password: write it into the URL, as in redis://:password@host")
        } else if is("WRONGPASS") {
            Failure::new(Cause::Denied, "the user or the password in the URL is wrong")
        } else if is("NOPERM") {
            let advice = "the user in the URL may not do that: allow it all commands of scripts and the cluster's keys";
            Failure::new(Cause::Denied, advice)
        } else if is("DENIED") {
            Failure::new(Cause::Denied, "it takes connections from its own machine only: set a password for it")
        } else if is("READONLY") {
            Failure::new(Cause::Unready, "it is a replica that can't be written to: name the primary in the URL")
        } else if is("LOADING") || is("MASTERDOWN") {
            Failure::new(Cause::Unready, "it is still loading its data: wait")
        } else if ["MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN"].into_iter().any(is) {
            let advice =
                "it is a Redis Cluster whose other node has the keys: name that in the URL, or use a Redis alone";
            Failure::new(Cause::Unready, advice)
        } else if is("OOM") {
            Failure::new(Cause::Refused, "it has no memory left: raise its maxmemory")
        } else if is("WRONGTYPE") {
            Failure::new(Cause::Unreadable, "a key has the value of another program: use a database of its own")
        } else {
            Failure::new(Cause::Refused, format!("it refuses a command: {}", shown(&format!("{code} {details}"))))
        }
    }
}

/// Text of another program for a line of the log.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_CHARS).collect()
}

enum Stream {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Unix(UnixStream),
}

impl Stream {
    fn open(address: &ConnectionAddr, deadline: Instant) -> Result<Stream, Failure> {
        let io = |error: io::Error| Failure::of_io(&error);
        match address {
            ConnectionAddr::Tcp(host, port) => connect(host, *port, deadline).map(Stream::Tcp),
            ConnectionAddr::TcpTls { host, port, .. } => {
                let name = host.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(name)
                    .map_err(|_| Failure::new(Cause::Unreachable, "its host can't have a certificate: name another"))?;
                let session = ClientConnection::new(tls()?, name)
                    .map_err(|error| Failure::new(Cause::Unreachable, format!("TLS fails: {error}")))?;
                let stream = connect(host, *port, deadline)?;
                Ok(Stream::Tls(Box::new(StreamOwned::new(session, stream))))
            }
            ConnectionAddr::Unix(path) => UnixStream::connect(path).map(Stream::Unix).map_err(io),
            _ => Err(Failure::new(Cause::Unreachable, "its URL is of no kind that is supported")),
        }
    }

    fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
        let timeout = Some(timeout);
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout)),
            Stream::Tls(stream) => {
                stream.sock.set_read_timeout(timeout).and_then(|()| stream.sock.set_write_timeout(timeout))
            }
            Stream::Unix(stream) => stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout)),
        }
    }
}

/// Connects to the first address of a host that takes a connection.
fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, Failure> {
    let addresses: Vec<_> = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .map_err(|error| {
            let sentence =
                format!("its host can't be found ({}): see whether the URL is right", shown(&error.to_string()));
            Failure::new(Cause::Unreachable, sentence)
        })?
        .collect();
    let mut failure = Failure::new(Cause::Unreachable, "its host has no address: see whether the URL is right");
    for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let share = deadline.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
        if share.is_zero() {
            return Err(Failure::of_io(&io::ErrorKind::TimedOut.into()));
        }
        match TcpStream::connect_timeout(address, share).and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Failure::of_io(&error),
        }
    }
    Err(failure)
}

/// Trusts the certificates of the operating system.
fn tls() -> Result<Arc<ClientConfig>, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let sentence = "this machine has no trusted certificates for TLS: install its package ca-certificates";
        return Err(Failure::new(Cause::Unreachable, sentence));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Cause::Unreachable, format!("TLS fails: {error}")))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// A stream until a deadline.
struct Until<'a> {
    stream: &'a mut Stream,
    deadline: Instant,
}

impl Until<'_> {
    fn arm(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_timeout(left)
    }
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.arm()?;
        match self.stream {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Until<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.arm()?;
        match self.stream {
            Stream::Tcp(stream) => stream.write(buffer),
            Stream::Tls(stream) => stream.write(buffer),
            Stream::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.arm()?;
        match self.stream {
            Stream::Tcp(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
            Stream::Unix(stream) => stream.flush(),
        }
    }
}

/// A connection. After an error it must not be used again: the answer may come later.
pub(super) struct Connection {
    stream: Stream,
    parser: Parser,
}

impl Connection {
    /// Connects to the store of the parent process.
    #[cfg(target_os = "linux")]
    pub(super) fn to_parent(link: &Link) -> Result<Connection, Failure> {
        let stream = link.connect_to_store().map_err(|error| Failure::of_io(&error))?;
        Ok(Connection { stream: Stream::Unix(stream), parser: Parser::new() })
    }

    /// Connects, with the user, password and database of `info`.
    pub(super) fn open(info: &ConnectionInfo, deadline: Instant) -> Result<Connection, Failure> {
        let mut connection = Connection { stream: Stream::open(info.addr(), deadline)?, parser: Parser::new() };
        let settings = info.redis_settings();
        let mut setup = Vec::new();
        if let Some(password) = settings.password() {
            let mut auth = redis::cmd("AUTH");
            settings.username().into_iter().for_each(|user| _ = auth.arg(user));
            auth.arg(password);
            setup.push(auth);
        }
        if settings.db() != 0 {
            let mut select = redis::cmd("SELECT");
            select.arg(settings.db());
            setup.push(select);
        }
        // Redis answers a long command of a client without a password as if it weren't its protocol.
        setup.push(redis::cmd("PING"));
        for answer in connection.call(&setup, deadline)? {
            match answer {
                Value::Okay | Value::SimpleString(_) => {}
                Value::ServerError(error) => return Err(Failure::of_answer(&error)),
                _ => return Err(Failure::of_io(&io::Error::new(io::ErrorKind::InvalidData, "not the expected one"))),
            }
        }
        Ok(connection)
    }

    /// Carries out commands, in their order, and returns the answer to each.
    pub(super) fn call(&mut self, commands: &[Cmd], deadline: Instant) -> Result<Vec<Value>, Failure> {
        let packed: Vec<u8> = commands.iter().flat_map(Cmd::get_packed_command).collect();
        let mut until = Until { stream: &mut self.stream, deadline };
        until.write_all(&packed).and_then(|()| until.flush()).map_err(|error| Failure::of_io(&error))?;
        let mut limited = until.take(ANSWERS_BYTES);
        let mut answers = Vec::with_capacity(commands.len());
        for _ in commands {
            let answer = self.parser.parse_value(&mut limited);
            if answer.is_err() && limited.limit() == 0 {
                return Err(Failure::of_io(&io::Error::new(io::ErrorKind::InvalidData, "too long")));
            }
            answers.push(answer.map_err(|error| Failure::of_protocol(&error))?);
        }
        Ok(answers)
    }
}
