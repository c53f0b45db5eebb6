//! Encodes responses.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use httpdate::fmt_http_date;
use tungstenite::Bytes;

use super::conditional::{Version, Wanted};
use super::{Coding, Method, Request, Status};
use crate::limits::FILE_CHUNK_BYTES;

const TEXT: &str = "text/plain; charset=utf-8";

#[derive(Debug)]
pub(in crate::driver) enum Body {
    Bytes(Bytes),
    /// A file, the offset to read from, and the number of bytes.
    File(File, u64),
}

impl Body {
    /// All of a regular file; to open another one may block.
    pub(in crate::driver) fn file(path: &Path) -> io::Result<Body> {
        if !fs::metadata(path)?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Body::File(file, length))
    }

    fn length(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File(_, length) => *length,
        }
    }

    /// The bytes of a range within its length.
    fn part(self, range: Range<u64>) -> io::Result<Body> {
        match self {
            Body::Bytes(bytes) => {
                let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Body::Bytes(bytes.slice(index(range.start)..index(range.end))))
            }
            Body::File(mut file, _) => {
                file.seek(SeekFrom::Start(range.start))?;
                Ok(Body::File(file, range.end - range.start))
            }
        }
    }
}

/// A representation of a resource, with its validators.
#[derive(Debug)]
pub(in crate::driver) struct Representation {
    pub(in crate::driver) content_type: Cow<'static, str>,
    pub(in crate::driver) coding: Coding,
    /// Whether there may be others, in other codings.
    pub(in crate::driver) is_negotiated: bool,
    /// A strong entity tag, in its quotes.
    pub(in crate::driver) tag: String,
    pub(in crate::driver) modified: Option<SystemTime>,
    pub(in crate::driver) body: Body,
}

impl Representation {
    /// Answers a request for it: with all of it, a part, or that it is not modified. The error is that of the file.
    pub(in crate::driver) fn respond(self, request: &Request, now: SystemTime) -> io::Result<Response> {
        // A clock that was set back must not make a file newer than the response (RFC 9110 §8.8.2.1).
        let modified = self.modified.map(|modified| modified.min(now));
        let length = self.body.length();
        let version = Version { tag: &self.tag, modified, length };
        let mut response = match request.conditions.evaluate(request.method, version, now) {
            Wanted::Whole => Response::new(Status::Ok, self.content_type, self.body),
            Wanted::Part(range) => {
                let content_range = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                Response::new(Status::PartialContent, self.content_type, self.body.part(range)?)
                    .field("Content-Range", content_range)
            }
            Wanted::NotModified => Response::empty(Status::NotModified),
            Wanted::PreconditionFailed => {
                let sentence = "The resource has changed since the version that the request names: load it again.";
                return Ok(Response::sentence(Status::PreconditionFailed, sentence));
            }
            Wanted::RangeNotSatisfiable => {
                let sentence = format!("The resource has only {length} bytes: request a range within them.");
                return Ok(Response::sentence(Status::RangeNotSatisfiable, &sentence)
                    .field("Content-Range", format!("bytes */{length}")));
            }
        };
        if response.has_content() {
            response = response.field("Accept-Ranges", "bytes");
            if self.coding != Coding::Identity {
                response = response.field("Content-Encoding", self.coding.name());
            }
        }
        if let Some(modified) = modified {
            response = response.field("Last-Modified", fmt_http_date(modified));
        }
        response.is_negotiated = self.is_negotiated;
        Ok(response.field("ETag", self.tag))
    }
}

#[derive(Debug)]
pub(in crate::driver) struct Response {
    pub(in crate::driver) status: Status,
    content_type: Cow<'static, str>,
    fields: Vec<(&'static str, String)>,
    is_negotiated: bool,
    body: Body,
}

impl Response {
    pub(in crate::driver) fn new(status: Status, content_type: impl Into<Cow<'static, str>>, body: Body) -> Response {
        Response { status, content_type: content_type.into(), fields: Vec::new(), is_negotiated: false, body }
    }

    /// A status that has no content.
    pub(in crate::driver) fn empty(status: Status) -> Response {
        Response::new(status, TEXT, Body::Bytes(Bytes::new()))
    }

    /// A response with a sentence as plain text.
    pub(in crate::driver) fn sentence(status: Status, sentence: &str) -> Response {
        let response = Response::new(status, TEXT, Body::Bytes(format!("{sentence}\n").into()));
        match status {
            Status::MethodNotAllowed => response.field("Allow", "GET, HEAD, OPTIONS"),
            Status::UpgradeRequired => response.field("Upgrade", "websocket").field("Sec-WebSocket-Version", "13"),
            Status::TooManyRequests | Status::ServiceUnavailable => response.field("Retry-After", "5"),
            _ => response,
        }
    }

    /// The response if a request allows none of the codings.
    pub(in crate::driver) fn not_acceptable() -> Response {
        let sentence =
            "The resource is not available in any encoding that Accept-Encoding allows: allow identity or gzip.";
        let response = Response::sentence(Status::NotAcceptable, sentence);
        Response { is_negotiated: true, ..response }
    }

    pub(in crate::driver) fn field(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.fields.retain(|(of, _)| *of != name);
        self.fields.push((name, value.into()));
        self
    }

    fn has_content(&self) -> bool {
        !matches!(self.status, Status::NoContent | Status::NotModified)
    }

    /// The bytes of the response to a request of this method. The connection is open for so long for the next request,
    /// or closes.
    pub(in crate::driver) fn into_outgoing(self, method: Method, keep_alive: Option<Duration>) -> Outgoing {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status as u16, self.status.reason());
        let mut field = |name: &str, value: &str| {
            debug_assert!(!value.contains(['\r', '\n']), "a field is one line");
            text.extend([name, ": ", value, "\r\n"]);
        };
        for (name, value) in &self.fields {
            field(name, value);
        }
        if self.has_content() {
            field("Content-Type", &self.content_type);
            field("Content-Length", &self.body.length().to_string());
        }
        field("Date", &fmt_http_date(SystemTime::now()));
        field("Cache-Control", "no-cache");
        // Whether a page of another origin may read it depends on that.
        field("Vary", if self.is_negotiated { "Accept-Encoding, Origin" } else { "Origin" });
        field("X-Content-Type-Options", "nosniff");
        match keep_alive {
            None => field("Connection", "close"),
            Some(time) => {
                let is_upgrade = self.status == Status::UpgradeRequired;
                field("Connection", if is_upgrade { "Upgrade, keep-alive" } else { "keep-alive" });
                field("Keep-Alive", &format!("timeout={}", time.as_secs()));
            }
        }
        text.push_str("\r\n");
        let body = if method == Method::Head { Body::Bytes(Bytes::new()) } else { self.body };
        Outgoing { chunk: text.into(), sent: 0, body }
    }
}

/// A response that is being sent.
#[derive(Debug)]
pub(in crate::driver) struct Outgoing {
    chunk: Bytes,
    sent: usize,
    /// The rest of the body, after the chunk.
    body: Body,
}

impl Outgoing {
    /// The response after which the connection is a websocket.
    pub(in crate::driver) fn switching_protocols(accept_key: &str) -> Outgoing {
        let status = Status::SwitchingProtocols;
        let text = format!(
            "HTTP/1.1 {} {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_key}\r\n\r\n",
            status as u16,
            status.reason(),
        );
        Outgoing { chunk: text.into(), sent: 0, body: Body::Bytes(Bytes::new()) }
    }

    /// Writes one chunk, or as much of it as the socket accepts; `true` when nothing is left.
    pub(in crate::driver) fn write(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        while self.sent < self.chunk.len() {
            match socket.write(&self.chunk[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.sent += written,
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        self.chunk = match &mut self.body {
            Body::Bytes(bytes) => std::mem::take(bytes),
            Body::File(_, 0) => Bytes::new(),
            Body::File(file, left) => {
                let mut chunk = Vec::new();
                let length = file.take((*left).min(FILE_CHUNK_BYTES as u64)).read_to_end(&mut chunk)? as u64;
                if length == 0 {
                    // The file is now shorter than the length that was sent.
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= length;
                chunk.into()
            }
        };
        if !self.chunk.is_empty() {
            return Ok(false);
        }
        // With TLS, the last of them may still be waiting, and a connection that is then closed would lose them.
        socket.flush()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conditional::Conditions;
    use super::*;

    fn rendered(response: Response, method: Method) -> String {
        let mut bytes = Vec::new();
        let mut outgoing = response.into_outgoing(method, None);
        while !outgoing.write(&mut bytes).expect("a vector takes all") {}
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_response_says_its_length_and_how_it_ends() {
        let text = rendered(Response::sentence(Status::MethodNotAllowed, "No."), Method::Get);
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD, OPTIONS\r\n"), "{text}");
        assert!(text.contains("Content-Length: 4\r\n") && text.contains("nosniff") && text.contains("no-cache"));
        assert!(
            text.contains("\r\nDate: ") && text.contains(" GMT\r\n") && text.contains("Vary: Origin\r\n"),
            "{text}"
        );
        assert!(text.ends_with("Connection: close\r\n\r\nNo.\n"), "{text}");
        let head = rendered(Response::sentence(Status::Ok, "Yes."), Method::Head);
        assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let empty = rendered(Response::empty(Status::NoContent), Method::Options);
        assert!(!empty.contains("\r\nContent-"), "{empty}");
        let kept = Response::sentence(Status::Ok, "Yes.").into_outgoing(Method::Get, Some(Duration::from_secs(75)));
        let kept = String::from_utf8(kept.chunk.to_vec()).expect("text");
        assert!(kept.ends_with("Connection: keep-alive\r\nKeep-Alive: timeout=75\r\n\r\n"), "{kept}");
    }

    /// What a request with these conditions gets of a page of ten digits.
    fn response(conditions: Conditions) -> String {
        let page = Representation {
            content_type: "text/plain".into(),
            coding: Coding::Gzip,
            is_negotiated: true,
            tag: "\"v2\"".to_owned(),
            modified: Some(SystemTime::now() + Duration::from_secs(3_600)),
            body: Body::Bytes(Bytes::from_static(b"0123456789")),
        };
        let request = Request { conditions, ..Request::default() };
        rendered(page.respond(&request, SystemTime::UNIX_EPOCH).expect("no file"), Method::Get)
    }

    #[test]
    fn each_form_of_an_answer_has_its_fields() {
        let has = |text: &str, fields: &[&str]| {
            for field in fields {
                let (line, expected) = field.strip_prefix('!').map_or((*field, true), |field| (field, false));
                assert_eq!(text.lines().any(|one| one.starts_with(line)), expected, "{line}: {text}");
            }
        };
        const EVERY: [&str; 4] = ["ETag: \"v2\"", "Cache-Control: no-cache", "Vary: Accept-Encoding, Origin", "Date: "];
        const DATED: &str = "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT";
        let none = Conditions::default;
        let whole = response(none());
        has(&whole, &EVERY);
        has(&whole, &["HTTP/1.1 200 ", "Content-Encoding: gzip", "Content-Length: 10", "Accept-Ranges: bytes", DATED]);
        let known = response(Conditions { if_none_match: Some("W/\"v2\"".to_owned()), ..none() });
        has(&known, &EVERY);
        has(&known, &["HTTP/1.1 304 ", DATED, "!Content-", "!Accept-Ranges"]);
        assert!(known.ends_with("\r\n\r\n"), "{known}");
        let part = response(Conditions { range: Some("bytes=7-".to_owned()), ..none() });
        has(&part, &EVERY);
        has(&part, &["HTTP/1.1 206 ", "Content-Range: bytes 7-9/10", "Content-Length: 3", "Content-Encoding: gzip"]);
        assert!(part.ends_with("\r\n\r\n789"), "{part}");
        let outside = response(Conditions { range: Some("bytes=10-".to_owned()), ..none() });
        has(&outside, &["HTTP/1.1 416 ", "Content-Range: bytes */10", "Content-Type: text/plain", "!ETag"]);
        let changed = response(Conditions { if_match: Some("\"v1\"".to_owned()), ..none() });
        has(&changed, &["HTTP/1.1 412 ", "!ETag", "!Content-Encoding"]);
    }

    #[test]
    fn a_slow_socket_gets_every_byte_once() {
        /// Takes one byte and then none, in turn.
        struct Slow(Vec<u8>, bool);
        impl Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = !self.1;
                if self.1 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.0.push(bytes[0]);
                Ok(1)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut socket = Slow(Vec::new(), false);
        let mut outgoing = Response::sentence(Status::Ok, "A few words.").into_outgoing(Method::Get, None);
        for _ in 0..10_000 {
            match outgoing.write(&mut socket) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        let whole = rendered(Response::sentence(Status::Ok, "A few words."), Method::Get);
        assert_eq!(String::from_utf8(socket.0).expect("text"), whole);
    }
}
