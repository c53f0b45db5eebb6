//! A client of an HTTP/1.1 server (RFC 9112), over one connection that is kept for request after request.
//!
//! `http.response_time` is measured from the intended time of the step to the last byte of the response.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::time::Instant;

use mio::Token;
use mio::net::TcpStream;
use serde_json::Value;

use super::{Happened, Mark, Thread};
use crate::bench::meters::{Count, Time};
use crate::bench::script::Method;
use crate::bench::websocket::{dial, error_name, is_connected};

/// Bytes of a response, its body included.
const RESPONSE_BYTES: usize = 16 * 1024 * 1024;
const HEADERS: usize = 64;
/// Reads in one go, before others have their turn.
const READS_PER_TURN: usize = 16;

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) json: Option<Value>,
    pub(super) headers: Vec<(String, String)>,
}

pub(super) struct Http {
    token: Token,
    stream: Option<TcpStream>,
    is_connected: bool,
    /// Of the request, and how many have left.
    request: Vec<u8>,
    written: usize,
    response: Vec<u8>,
    /// When the request was due, until it is answered.
    intended: Option<Instant>,
}

/// What is known of a response.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Partial,
    Whole { status: u16, length: usize, keeps: bool },
}

impl Http {
    pub(super) fn new(token: Token) -> Http {
        Http {
            token: Token(token.0 + 1),
            stream: None,
            is_connected: false,
            request: Vec::new(),
            written: 0,
            response: Vec::new(),
            intended: None,
        }
    }

    /// Sends a request that was due at `intended`.
    pub(super) fn ask(
        &mut self,
        intended: Instant,
        request: &Request,
        mark: Mark,
        thread: &mut Thread<'_>,
        happened: &mut Vec<Happened>,
    ) -> Result<(), &'static str> {
        self.request = request.encode(&thread.target.authority)?;
        self.written = 0;
        self.response.clear();
        self.intended = Some(intended);
        thread.add(mark, Count::Requests, 1);
        if self.stream.is_none() {
            let stream = dial(&thread.registry, self.token, thread.target.address);
            self.stream = Some(stream.map_err(|error| error_name(&error))?);
            self.is_connected = false;
            return Ok(());
        }
        if let Err(error) = self.write() {
            happened.push(Happened::Failed(error_name(&error).to_owned()));
        }
        Ok(())
    }

    /// True where more may wait.
    pub(super) fn handle_ready(
        &mut self,
        now: Instant,
        mark: Mark,
        thread: &mut Thread<'_>,
        happened: &mut Vec<Happened>,
    ) -> bool {
        let result = self.write().and_then(|()| self.read(now, mark, thread, happened));
        result.unwrap_or_else(|error| {
            self.stream = None;
            // An idle connection may be closed; the next request opens another.
            if self.intended.take().is_some() {
                happened.push(Happened::Failed(error_name(&error).to_owned()));
            }
            false
        })
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

    fn read(
        &mut self,
        now: Instant,
        mark: Mark,
        thread: &mut Thread<'_>,
        happened: &mut Vec<Happened>,
    ) -> io::Result<bool> {
        let Some(stream) = self.stream.as_mut().filter(|_| self.is_connected) else { return Ok(false) };
        let mut is_closed = false;
        let mut has_more = true;
        for _ in 0..READS_PER_TURN {
            match stream.read(&mut thread.buffer) {
                Ok(0) => {
                    is_closed = true;
                    has_more = false;
                    break;
                }
                Ok(count) => self.response.extend_from_slice(&thread.buffer[..count]),
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
        if let Some(intended) = self.intended {
            match parse(&self.response, is_closed)? {
                Parsed::Whole { status, length, keeps } => {
                    self.intended = None;
                    thread.add(mark, Count::Responses, 1);
                    thread.add(mark, Count::Downloaded, length as u64);
                    thread.meters.count(mark.at, mark.who, &format!("http.codes.{status}"));
                    thread.record(mark, Time::Answered, now.saturating_duration_since(intended));
                    happened.push(Happened::Done);
                    is_closed |= !keeps;
                }
                Parsed::Partial if is_closed => return Err(io::ErrorKind::UnexpectedEof.into()),
                Parsed::Partial => {}
            }
        }
        if is_closed {
            self.stream = None;
            has_more = false;
        }
        Ok(has_more)
    }
}

impl Request {
    fn encode(&self, authority: &str) -> Result<Vec<u8>, &'static str> {
        let path = match self.url.strip_prefix("http://") {
            Some(rest) => rest.strip_prefix(authority).ok_or("another_server")?,
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
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n");
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

/// Reads a response, of which there may be more to come unless the connection `is_closed`.
fn parse(bytes: &[u8], is_closed: bool) -> io::Result<Parsed> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(|_| invalid())? else {
        return Ok(Parsed::Partial);
    };
    let status = response.code.unwrap_or_default();
    if (100..200).contains(&status) {
        return parse(&bytes[head..], is_closed);
    }
    let field = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let has_token = |name, token| field(name).is_some_and(|value| value.to_ascii_lowercase().contains(token));
    let keeps = response.version == Some(1) && !has_token("connection", "close");
    let body = &bytes[head..];
    let length = if matches!(status, 204 | 304) {
        Some(0)
    } else if has_token("transfer-encoding", "chunked") {
        chunked_length(body)?
    } else if let Some(length) = field("content-length") {
        let length: usize = length.trim().parse().map_err(|_| invalid())?;
        (body.len() >= length).then_some(length)
    } else {
        return Ok(if is_closed {
            Parsed::Whole { status, length: body.len(), keeps: false }
        } else {
            Parsed::Partial
        });
    };
    Ok(length.map_or(Parsed::Partial, |length| Parsed::Whole { status, length, keeps }))
}

/// Bytes of a body in chunks (RFC 9112 §7.1), once all are there.
fn chunked_length(mut bytes: &[u8]) -> io::Result<Option<usize>> {
    let mut length = 0_usize;
    loop {
        let parsed = httparse::parse_chunk_size(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        let httparse::Status::Complete((head, size)) = parsed else { return Ok(None) };
        let size = usize::try_from(size).ok().filter(|&size| size <= RESPONSE_BYTES);
        let size = size.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        if size == 0 {
            // Trailers end with an empty line.
            let end = &bytes[head..];
            let is_whole = end.starts_with(b"\r\n") || end.windows(4).any(|four| four == b"\r\n\r\n");
            return Ok(is_whole.then_some(length));
        }
        length += size;
        match bytes.get(head + size + 2..) {
            Some(rest) => bytes = rest,
            None => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_when_all_of_its_body_is_there() {
        let whole = |status, length, keeps| Parsed::Whole { status, length, keeps };
        for (text, is_closed, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, whole(200, 2, true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", false, Parsed::Partial),
            ("HTTP/1.1 200 OK\r\nContent-Le", false, Parsed::Partial),
            ("HTTP/1.1 404 No\r\nConnection: close\r\n\r\n", false, Parsed::Partial),
            ("HTTP/1.1 404 No\r\nConnection: close\r\n\r\nno", true, whole(404, 2, false)),
            ("HTTP/1.1 204 No\r\n\r\n", false, whole(204, 0, true)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false, whole(200, 0, false)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, whole(200, 0, true)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, whole(200, 2, true)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", false, Parsed::Partial),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", false, Parsed::Partial),
        ] {
            assert_eq!(parse(text.as_bytes(), is_closed).unwrap(), expected, "{text:?}");
        }
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert!(parse(text.as_bytes(), false).is_err(), "{text:?}");
        }
    }
}
