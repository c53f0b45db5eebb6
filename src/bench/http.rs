//! An HTTP/1.1 client that does not block.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Registry, Token};
use serde_json::Value;

use super::script::Method;
use super::target::{Target, error_name, is_connected};
use super::tls::Stream;
use crate::driver::client::{self, Parsed, RESPONSE_BYTES, Response, parse};

/// Reads per turn before others have theirs.
const READS_PER_TURN: usize = 16;

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) json: Option<Value>,
    pub(super) headers: Vec<(String, String)>,
}

/// Requests a path on a blocking stream, the only one on it. The response may have so many bytes, and take so long.
pub(crate) fn get(
    target: &Target,
    stream: &mut (impl Read + Write),
    path: &str,
    limit: usize,
    patience: Duration,
) -> io::Result<Response> {
    let request = client::Request { authority: &target.authority, path, ..client::Request::default() };
    client::ask(&request, stream, limit, patience)
}

/// A persistent connection for consecutive requests.
pub(super) struct Http {
    token: Token,
    stream: Option<Stream<TcpStream>>,
    is_connected: bool,
    /// The request, and how many of its bytes have been sent.
    request: Vec<u8>,
    written: usize,
    response: Vec<u8>,
    is_asking: bool,
}

impl Http {
    /// Returns a client that connects at the first request.
    pub(super) fn new(token: Token) -> Http {
        Http {
            token,
            stream: None,
            is_connected: false,
            request: Vec::new(),
            written: 0,
            response: Vec::new(),
            is_asking: false,
        }
    }

    /// Sends a request.
    pub(super) fn ask(&mut self, registry: &Registry, target: &Target, request: &Request) -> Result<(), &'static str> {
        self.request = request.encode(target)?;
        self.written = 0;
        self.response.clear();
        self.is_asking = true;
        if self.stream.is_none() {
            self.stream = Some(target.dial(registry, self.token).map_err(|error| error_name(&error))?);
            self.is_connected = false;
            return Ok(());
        }
        self.write().map_err(|error| error_name(&error))
    }

    /// Continues with a ready socket. Returns the response once it is complete, and whether more data may wait.
    pub(super) fn handle_ready(&mut self, buffer: &mut [u8]) -> (Result<Option<Response>, &'static str>, bool) {
        match self.write().and_then(|()| self.read(buffer)) {
            Ok((response, has_more)) => (Ok(response), has_more),
            Err(error) => {
                self.stream = None;
                // The server may close an idle connection; the next request opens another.
                let failed = std::mem::take(&mut self.is_asking);
                (if failed { Err(error_name(&error)) } else { Ok(None) }, false)
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if !self.is_connected {
            self.is_connected = is_connected(stream)?;
        }
        while self.is_connected && self.written < self.request.len() {
            match stream.write(&self.request[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::BrokenPipe.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<(Option<Response>, bool)> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.is_connected) else { return Ok((None, false)) };
        let mut is_closed = false;
        let mut has_more = true;
        for _ in 0..READS_PER_TURN {
            match stream.read(buffer) {
                Ok(0) => {
                    is_closed = true;
                    has_more = false;
                    break;
                }
                Ok(count) => self.response.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    has_more = false;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if self.response.len() > RESPONSE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut response = None;
        if self.is_asking {
            match parse(&self.response, is_closed)? {
                Parsed::Whole { status, body, keeps } => {
                    self.is_asking = false;
                    is_closed |= !keeps;
                    response = Some(Response { status, body: body.into_owned() });
                }
                Parsed::Partial if is_closed => return Err(io::ErrorKind::UnexpectedEof.into()),
                Parsed::Partial => {}
            }
        }
        if is_closed {
            self.stream = None;
            has_more = false;
        }
        Ok((response, has_more))
    }
}

impl Request {
    fn encode(&self, target: &Target) -> Result<Vec<u8>, &'static str> {
        let is_whole = self.url.starts_with("http://") || self.url.starts_with("https://");
        let path = match self.url.strip_prefix(&target.url("http", "")) {
            Some(path) => path,
            None if is_whole => return Err("another_server"),
            None => &self.url,
        };
        let path = if path.is_empty() { "/" } else { path };
        let is_plain = |text: &str| text.bytes().all(|byte| (b' '..0x7f).contains(&byte));
        if !path.starts_with('/') || path.contains(' ') || !is_plain(path) {
            return Err("EURL");
        }
        let method = match self.method {
            Method::Get => "GET",
            Method::Post => "POST",
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", target.authority);
        for (name, value) in &self.headers {
            if !is_plain(name) || !is_plain(value) {
                return Err("EHEADER");
            }
            write!(head, "{name}: {value}\r\n").expect("a string takes everything");
        }
        let body = self.json.as_ref().map(Value::to_string);
        if let Some(body) = &body {
            write!(head, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
                .expect("a string takes everything");
        }
        head.push_str("\r\n");
        head.push_str(body.as_deref().unwrap_or_default());
        Ok(head.into_bytes())
    }
}
