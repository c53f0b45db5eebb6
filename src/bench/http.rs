//! An HTTP/1.1 client (RFC 9112): a non-blocking one, and single requests that block.

#![expect(clippy::disallowed_methods, reason = "a blocking request has a deadline")]

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Registry, Token};
use serde_json::Value;

use super::script::Method;
use super::target::{Target, error_name, is_connected};
use super::tls::Stream;

/// Maximum bytes of a response, including its body.
const RESPONSE_BYTES: usize = 16 * 1024 * 1024;
const HEADERS: usize = 64;
/// Reads per turn before others have theirs.
const READS_PER_TURN: usize = 16;

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) json: Option<Value>,
    pub(super) headers: Vec<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// A request without a body.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

/// Requests a path on a blocking stream, the only one on it. The response may have so many bytes, and take so long.
pub(crate) fn get(
    target: &Target,
    stream: &mut (impl Read + Write),
    path: &str,
    limit: usize,
    patience: Duration,
) -> io::Result<Response> {
    ask(&Head { method: "GET", authority: &target.authority, path, headers: &[] }, stream, limit, patience)
}

/// As [`get`], with any method and headers.
pub(crate) fn ask(
    Head { method, authority, path, headers }: &Head<'_>,
    stream: &mut (impl Read + Write),
    limit: usize,
    patience: Duration,
) -> io::Result<Response> {
    let deadline = Instant::now() + patience;
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..count]);
        match parse(&bytes, count == 0)? {
            Parsed::Whole { status, body, .. } => return Ok(Response { status, body: body.into_owned() }),
            Parsed::Partial if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Parsed::Partial if bytes.len() > limit => return Err(io::ErrorKind::InvalidData.into()),
            Parsed::Partial if Instant::now() > deadline => return Err(io::ErrorKind::TimedOut.into()),
            Parsed::Partial => {}
        }
    }
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

/// The progress of parsing a response.
#[derive(Debug, PartialEq, Eq)]
enum Parsed<'b> {
    Partial,
    Whole { status: u16, body: Cow<'b, [u8]>, keeps: bool },
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

/// Parses a response, which may be incomplete unless the connection `is_closed`.
fn parse(mut bytes: &[u8], is_closed: bool) -> io::Result<Parsed<'_>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    while let Some(length) = interim(bytes)? {
        bytes = &bytes[length..];
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(|_| invalid())? else {
        return Ok(Parsed::Partial);
    };
    let status = response.code.unwrap_or_default();
    let field = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let has_token = |name, token| field(name).is_some_and(|value| value.to_ascii_lowercase().contains(token));
    let keeps = response.version == Some(1) && !has_token("connection", "close");
    let body = &bytes[head..];
    let body = if matches!(status, 204 | 304) {
        Some(Cow::Borrowed(&body[..0]))
    } else if has_token("transfer-encoding", "chunked") {
        chunked(body)?.map(Cow::Owned)
    } else if let Some(length) = field("content-length") {
        let length: usize = length.trim().parse().map_err(|_| invalid())?;
        body.get(..length).map(Cow::Borrowed)
    } else {
        return Ok(if is_closed {
            Parsed::Whole { status, body: Cow::Borrowed(body), keeps: false }
        } else {
            Parsed::Partial
        });
    };
    Ok(body.map_or(Parsed::Partial, |body| Parsed::Whole { status, body, keeps }))
}

/// The length of an interim response at the start (RFC 9110 §15.2), of which there may be any number.
fn interim(bytes: &[u8]) -> io::Result<Option<usize>> {
    if !bytes.starts_with(b"HTTP/1.1 1") {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    match httparse::Response::new(&mut headers).parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Ok(Some(length)),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Decodes a chunked body (RFC 9112 §7.1) once it is complete.
fn chunked(mut bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let parsed = httparse::parse_chunk_size(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let httparse::Status::Complete((head, size)) = parsed else { return Ok(None) };
        let size = usize::try_from(size).ok().filter(|&size| size <= RESPONSE_BYTES);
        let size = size.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        if size == 0 {
            // Trailers end with an empty line.
            let end = &bytes[head..];
            let is_whole = end.starts_with(b"\r\n") || end.windows(4).any(|four| four == b"\r\n\r\n");
            return Ok(is_whole.then_some(body));
        }
        let (Some(chunk), Some(rest)) = (bytes.get(head..head + size), bytes.get(head + size + 2..)) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_when_all_of_its_body_is_there() {
        let whole = |status, body: &'static str, keeps| Parsed::Whole { status, body: body.as_bytes().into(), keeps };
        for (text, is_closed, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, whole(200, "ok", true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", false, Parsed::Partial),
            ("HTTP/1.1 200 OK\r\nContent-Le", false, Parsed::Partial),
            ("HTTP/1.1 404 No\r\nConnection: close\r\n\r\n", false, Parsed::Partial),
            ("HTTP/1.1 404 No\r\nConnection: close\r\n\r\nno", true, whole(404, "no", false)),
            ("HTTP/1.1 204 No\r\n\r\n", false, whole(204, "", true)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false, whole(200, "", false)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, whole(200, "", true)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\no-\r\n1\r\nk\r\n0\r\n\r\n",
                false,
                whole(200, "o-k", true),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", false, Parsed::Partial),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", false, Parsed::Partial),
        ] {
            assert_eq!(parse(text.as_bytes(), is_closed).unwrap(), expected, "{text:?}");
        }
        let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000);
        let many = format!("{interim}HTTP/1.1 204 No\r\n\r\n");
        assert_eq!(parse(interim.as_bytes(), false).unwrap(), Parsed::Partial);
        assert_eq!(parse(many.as_bytes(), false).unwrap(), whole(204, "", true));
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert!(parse(text.as_bytes(), false).is_err(), "{text:?}");
        }
    }
}
