//! HTTP/1.1 without sockets: bytes in, a request or the error to answer with out; a response in, bytes out.
//!
//! Only what a page, its files and the opening of a websocket need: `GET` and `HEAD` without bodies.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use tungstenite::handshake::derive_accept_key;

use crate::limits::FILE_CHUNK_BYTES;

/// Bytes of a request's head, its blank line included.
pub(super) const HEAD_BYTES: usize = 8 * 1024;
/// Header fields of a request.
pub(super) const HEADERS: usize = 64;
/// From when a connection is open, or its last response sent, to the end of the next head.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    SwitchingProtocols = 101,
    Ok = 200,
    Found = 302,
    NotModified = 304,
    BadRequest = 400,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    ContentTooLarge = 413,
    UpgradeRequired = 426,
    TooManyRequests = 429,
    HeadTooLarge = 431,
    InternalServerError = 500,
    ServiceUnavailable = 503,
    VersionNotSupported = 505,
}

impl Status {
    fn reason(self) -> &'static str {
        match self {
            Status::SwitchingProtocols => "Switching Protocols",
            Status::Ok => "OK",
            Status::Found => "Found",
            Status::NotModified => "Not Modified",
            Status::BadRequest => "Bad Request",
            Status::NotFound => "Not Found",
            Status::MethodNotAllowed => "Method Not Allowed",
            Status::RequestTimeout => "Request Timeout",
            Status::ContentTooLarge => "Content Too Large",
            Status::UpgradeRequired => "Upgrade Required",
            Status::TooManyRequests => "Too Many Requests",
            Status::HeadTooLarge => "Request Header Fields Too Large",
            Status::InternalServerError => "Internal Server Error",
            Status::ServiceUnavailable => "Service Unavailable",
            Status::VersionNotSupported => "HTTP Version Not Supported",
        }
    }
}

/// A request that can't be read, and what to answer; the connection closes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) status: Status,
    pub(super) sentence: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Whether only the response's head is asked for.
    pub(super) head: bool,
    /// From the target: begins with `/`, still percent-encoded, without the query.
    pub(super) path: String,
    pub(super) if_none_match: Option<String>,
    pub(super) keep_alive: bool,
    /// Where the request asks for a websocket.
    pub(super) websocket: Option<Upgrade>,
}

/// What opens a websocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Upgrade {
    /// `Sec-WebSocket-Accept` of the answer.
    pub(super) accept_key: String,
    /// All fields, names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) host: String,
    /// The page that asks, where a browser does.
    pub(super) origin: Option<String>,
    /// `X-Forwarded-For`, `-Host` and `-Proto`: what anybody may claim.
    pub(super) forwarded_for: Option<String>,
    pub(super) forwarded_host: Option<String>,
    pub(super) forwarded_proto: Option<String>,
}

/// Collects the heads of one connection's requests.
#[derive(Debug)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    /// How much of the buffer has been looked at: a head that trickles in is parsed per line, not per byte.
    scanned: usize,
    deadline: Instant,
}

impl Reader {
    pub(super) fn new(now: Instant) -> Reader {
        Reader { buffer: Vec::new(), scanned: 0, deadline: now + HEAD_TIMEOUT }
    }

    /// The next head has its whole time again.
    pub(super) fn restart(&mut self, now: Instant) {
        self.deadline = now + HEAD_TIMEOUT;
    }

    /// When the head has to be complete. Bytes that arrive never move it.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.deadline
    }

    /// The deadline has passed: what to answer a request that has begun; nothing to an idle connection.
    pub(super) fn handle_timeout(&self) -> Option<Malformed> {
        let begun = !self.buffer.is_empty();
        begun.then_some(Malformed {
            status: Status::RequestTimeout,
            sentence: "The head of the request took longer than 5 seconds.",
        })
    }

    /// How many bytes [`Reader::handle_bytes`] takes now.
    pub(super) fn capacity(&self) -> usize {
        (HEAD_BYTES + 1).saturating_sub(self.buffer.len())
    }

    /// Bytes have arrived: at most [`Reader::capacity`].
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.capacity(), "the caller reads no more than capacity");
        self.buffer.extend_from_slice(bytes);
    }

    /// The next request, once its head is complete.
    pub(super) fn poll_request(&mut self) -> Result<Option<Request>, Malformed> {
        let news = &self.buffer[self.scanned..];
        if news.is_empty() || (self.scanned > 0 && !news.contains(&b'\n') && self.capacity() > 0) {
            self.scanned = self.buffer.len();
            return Ok(None);
        }
        self.scanned = self.buffer.len();
        let Some((request, length)) = parse(&self.buffer[..self.buffer.len().min(HEAD_BYTES)])? else {
            return if self.capacity() > 0 {
                Ok(None)
            } else {
                Err(Malformed { status: Status::HeadTooLarge, sentence: "The head of the request exceeds 8 KiB." })
            };
        };
        self.buffer.drain(..length);
        self.scanned = 0;
        Ok(Some(request))
    }

    /// What has arrived behind the last request.
    pub(super) fn into_rest(self) -> Vec<u8> {
        self.buffer
    }
}

fn bad_request(sentence: &'static str) -> Malformed {
    Malformed { status: Status::BadRequest, sentence }
}

/// The request whose head begins `bytes` and the length of that head; `None` while it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Malformed {
                status: Status::HeadTooLarge,
                sentence: "The request has more than 64 header fields.",
            });
        }
        Err(httparse::Error::Version) => {
            return Err(Malformed {
                status: Status::VersionNotSupported,
                sentence: "This server supports HTTP/1.1 only.",
            });
        }
        Err(_) => return Err(bad_request("This is not an HTTP/1.1 request.")),
    };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Err(bad_request("This is not an HTTP/1.1 request."));
    };
    let fields = Fields(head.headers);

    if !matches!(method, "GET" | "HEAD") {
        return Err(Malformed { status: Status::MethodNotAllowed, sentence: "Only GET and HEAD are allowed here." });
    }
    if version == 1 && fields.all("host").count() != 1 {
        return Err(bad_request("A request needs one Host field."));
    }
    if fields.all("transfer-encoding").next().is_some() || fields.all("content-length").any(|length| length != b"0") {
        return Err(Malformed { status: Status::ContentTooLarge, sentence: "A request may have no body here." });
    }
    let path = path_of(target).ok_or(bad_request("The target of the request is not a path."))?;
    let websocket = if fields.has_token("upgrade", "websocket") {
        Some(Upgrade {
            accept_key: websocket_accept_key(method, version, &fields)?,
            headers: fields.to_vec(),
            host: fields.list("host").unwrap_or_default(),
            origin: fields.list("origin"),
            forwarded_for: fields.list("x-forwarded-for"),
            forwarded_host: fields.list("x-forwarded-host"),
            forwarded_proto: fields.list("x-forwarded-proto"),
        })
    } else {
        None
    };
    let request = Request {
        head: method == "HEAD",
        path: path.to_owned(),
        if_none_match: fields.text("if-none-match").map(str::to_owned),
        keep_alive: version == 1 && !fields.has_token("connection", "close"),
        websocket,
    };
    Ok(Some((request, length)))
}

/// The path in a target of origin form or absolute form (RFC 9112 §3.2).
fn path_of(target: &str) -> Option<&str> {
    let target = if let Some(rest) = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        rest.find('/').map_or("/", |slash| &rest[slash..])
    } else {
        target
    };
    let path = target.split(['?', '#']).next().unwrap_or(target);
    path.starts_with('/').then_some(path)
}

/// Checks the opening of a websocket as RFC 6455 §4.2.1 asks.
fn websocket_accept_key(method: &str, version: u8, fields: &Fields<'_>) -> Result<String, Malformed> {
    if method != "GET" || version != 1 || !fields.has_token("connection", "upgrade") {
        return Err(bad_request("A websocket opens with GET, HTTP/1.1 and Connection: Upgrade."));
    }
    if fields.text("sec-websocket-version") != Some("13") {
        return Err(Malformed {
            status: Status::UpgradeRequired,
            sentence: "This server supports version 13 of the websocket protocol only.",
        });
    }
    let key = fields.text("sec-websocket-key").unwrap_or_default();
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let is_sixteen_bytes = key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(alphabet);
    if !is_sixteen_bytes || fields.all("sec-websocket-key").count() != 1 {
        return Err(bad_request("Sec-WebSocket-Key is not 16 bytes in base64."));
    }
    Ok(derive_accept_key(key.as_bytes()))
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// Those whose value is UTF-8.
    fn to_vec(&self) -> Vec<(String, String)> {
        let texts = self.0.iter().filter_map(|field| {
            let value = std::str::from_utf8(field.value).ok()?;
            Some((field.name.to_ascii_lowercase(), value.to_owned()))
        });
        texts.collect()
    }

    fn text(&self, name: &'static str) -> Option<&'a str> {
        self.all(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of a field as one list (RFC 9110 §5.3); what is no text in them is no value of any use.
    fn list(&self, name: &'static str) -> Option<String> {
        let values: Vec<_> = self.all(name).map(String::from_utf8_lossy).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Whether `token` stands in a comma-separated list.
    fn has_token(&self, name: &'static str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

#[derive(Debug)]
pub(super) enum Body {
    Bytes(Cow<'static, [u8]>),
    /// A file and its length.
    File(File, u64),
}

#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: Status,
    content_type: &'static str,
    fields: Vec<(&'static str, String)>,
    body: Body,
}

impl Response {
    pub(super) fn new(status: Status, content_type: &'static str, body: Body) -> Response {
        Response { status, content_type, fields: Vec::new(), body }
    }

    /// A sentence for people.
    pub(super) fn sentence(status: Status, sentence: &str) -> Response {
        let body = Body::Bytes(format!("{sentence}\n").into_bytes().into());
        let response = Response::new(status, "text/plain; charset=utf-8", body);
        match status {
            Status::MethodNotAllowed => response.field("Allow", "GET, HEAD"),
            Status::UpgradeRequired => response.field("Upgrade", "websocket").field("Sec-WebSocket-Version", "13"),
            Status::TooManyRequests | Status::ServiceUnavailable => response.field("Retry-After", "5"),
            _ => response,
        }
    }

    pub(super) fn field(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.fields.push((name, value.into()));
        self
    }

    /// Names the version of the body, which is left out where the browser has it.
    pub(super) fn tagged(mut self, tag: String, request: &Request) -> Response {
        let known = request.if_none_match.as_deref().unwrap_or_default();
        if known.split(',').any(|known| known.trim() == tag) {
            self.status = Status::NotModified;
            self.body = Body::Bytes(Cow::Borrowed(&[]));
        }
        self.field("ETag", tag)
    }

    /// The bytes of the response: without its body for a `HEAD`.
    pub(super) fn into_outgoing(self, head: bool, keep_alive: bool) -> Outgoing {
        let length = match &self.body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File(_, length) => *length,
        };
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status as u16, self.status.reason());
        for (name, value) in &self.fields {
            debug_assert!(!value.contains(['\r', '\n']), "a field is one line");
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.status != Status::NotModified {
            text.push_str(&format!("Content-Type: {}\r\nContent-Length: {length}\r\n", self.content_type));
        }
        let connection = match (keep_alive, self.status) {
            (false, _) => "Connection: close\r\n",
            (true, Status::UpgradeRequired) => "Connection: Upgrade\r\n",
            (true, _) => "",
        };
        text.push_str("Cache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\n");
        text.push_str(connection);
        text.push_str("\r\n");
        let body = if head { Body::Bytes(Cow::Borrowed(&[])) } else { self.body };
        Outgoing { chunk: text.into_bytes().into(), sent: 0, body }
    }
}

/// A response on its way.
#[derive(Debug)]
pub(super) struct Outgoing {
    chunk: Cow<'static, [u8]>,
    sent: usize,
    /// What follows the chunk.
    body: Body,
}

impl Outgoing {
    /// The response after which the connection is a websocket.
    pub(super) fn switching_protocols(accept_key: &str) -> Outgoing {
        let status = Status::SwitchingProtocols;
        let text = format!(
            "HTTP/1.1 {} {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_key}\r\n\r\n",
            status as u16,
            status.reason(),
        );
        Outgoing { chunk: text.into_bytes().into(), sent: 0, body: Body::Bytes(Cow::Borrowed(&[])) }
    }

    /// Writes one chunk, or what the socket takes of it; `true` when nothing is left.
    pub(super) fn write(&mut self, socket: &mut impl Write) -> io::Result<bool> {
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
            Body::File(_, 0) => Cow::Borrowed(&[]),
            Body::File(file, left) => {
                let mut chunk = Vec::new();
                let length = file.take((*left).min(FILE_CHUNK_BYTES as u64)).read_to_end(&mut chunk)? as u64;
                if length == 0 {
                    // It is shorter now than its length that has been sent already.
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= length;
                chunk.into()
            }
        };
        Ok(self.chunk.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(text: &str) -> Result<Option<Request>, Malformed> {
        Ok(parse(text.as_bytes())?.map(|(request, _)| request))
    }

    fn status(text: &str) -> Status {
        request(text).expect_err("malformed").status
    }

    fn rendered(response: Response, head: bool, keep_alive: bool) -> String {
        let mut bytes = Vec::new();
        let mut outgoing = response.into_outgoing(head, keep_alive);
        while !outgoing.write(&mut bytes).expect("a vector takes all") {}
        String::from_utf8(bytes).expect("text")
    }

    const UPGRADE: &str = "GET /r/a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn reads_what_a_browser_sends() {
        let read = request("GET /r/a?x=1 HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"1\"\r\n\r\n").expect("valid");
        let expected = Request {
            head: false,
            path: "/r/a".to_owned(),
            if_none_match: Some("\"1\"".to_owned()),
            keep_alive: true,
            websocket: None,
        };
        assert_eq!(read, Some(expected));
        let absolute = request("HEAD http://h:1/p HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n\r\n").expect("valid");
        let absolute = absolute.expect("complete");
        assert_eq!((absolute.head, absolute.path.as_str(), absolute.keep_alive), (true, "/p", false));
        let old = request("GET / HTTP/1.0\r\n\r\n").expect("valid").expect("complete");
        assert!(!old.keep_alive, "HTTP/1.0 closes");
    }

    #[test]
    fn the_headers_of_a_websocket_are_kept_as_far_as_they_are_text() {
        let mut bytes = UPGRADE.trim_end().as_bytes().to_vec();
        bytes.extend_from_slice(b"\r\nCOOKIE: a=1\r\nX-Name: \xe4\r\nx-name:  \xc3\xa4 \r\nCookie: b=2\r\n\r\n");
        let headers = parse(&bytes).expect("valid").expect("complete").0.websocket.expect("asked for").headers;
        let last: Vec<_> = headers.iter().skip(5).map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers[0], ("host".to_owned(), "h".to_owned()));
        assert_eq!(last, [("cookie", "a=1"), ("x-name", "ä"), ("cookie", "b=2")]);
    }

    #[test]
    fn answers_the_key_as_the_rfc_does() {
        // RFC 6455 §1.3.
        let accept = request(UPGRADE).expect("valid").expect("complete").websocket;
        assert_eq!(accept.expect("asked for").accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn fields_that_stand_twice_are_one_list() {
        let fields = "Origin: http://a\r\nOrigin: http://b\r\nX-Forwarded-For: 1\r\nx-forwarded-for: 2, 3\r\n\r\n";
        let upgrade = request(&UPGRADE.replace("\r\n\r\n", &format!("\r\n{fields}")));
        let upgrade = upgrade.expect("valid").expect("complete").websocket.expect("asked for");
        assert_eq!((upgrade.host.as_str(), upgrade.origin.as_deref()), ("h", Some("http://a, http://b")));
        assert_eq!((upgrade.forwarded_for.as_deref(), upgrade.forwarded_host), (Some("1, 2, 3"), None));
    }

    #[test]
    fn each_malformed_request_has_its_status() {
        for (text, expected) in [
            ("\x16\x03\x01", Status::BadRequest),
            ("GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Status::BadRequest),
            ("GET room HTTP/1.1\r\nHost: h\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: h\r\n\r\n", Status::MethodNotAllowed),
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n", Status::ContentTooLarge),
            ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", Status::ContentTooLarge),
            ("GET / HTTP/2.0\r\n\r\n", Status::VersionNotSupported),
        ] {
            assert_eq!(status(text), expected, "{text:?}");
        }
        for (from, to, expected) in [
            ("Version: 13", "Version: 8", Status::UpgradeRequired),
            ("Sec-WebSocket-Version: 13\r\n", "", Status::UpgradeRequired),
            ("keep-alive, Upgrade", "keep-alive", Status::BadRequest),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", Status::BadRequest),
            ("HTTP/1.1", "HTTP/1.0", Status::BadRequest),
            ("GET", "HEAD", Status::BadRequest),
        ] {
            assert_eq!(status(&UPGRADE.replace(from, to)), expected, "{from} → {to}");
        }
    }

    #[test]
    fn header_fields_have_a_limit() {
        let head = |fields: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(fields - 1));
        assert!(request(&head(HEADERS)).expect("valid").is_some());
        assert_eq!(status(&head(HEADERS + 1)), Status::HeadTooLarge);
    }

    #[test]
    fn a_head_has_a_limit() {
        let head = |length: usize| {
            let frame = "GET / HTTP/1.1\r\nHost: h\r\nA: \r\n\r\n";
            frame.replace("A: ", &format!("A: {}", "b".repeat(length - frame.len())))
        };
        let read = |text: String| {
            let mut reader = Reader::new(Instant::now());
            reader.handle_bytes(&text.as_bytes()[..reader.capacity().min(text.len())]);
            reader.poll_request()
        };
        assert!(read(head(HEAD_BYTES)).expect("valid").is_some());
        assert_eq!(read(head(HEAD_BYTES + 1)).expect_err("too large").status, Status::HeadTooLarge);
        assert_eq!(read("\n".repeat(HEAD_BYTES + 1)).expect_err("too large").status, Status::HeadTooLarge);
    }

    #[test]
    fn requests_may_follow_each_other() {
        let mut reader = Reader::new(Instant::now());
        reader.handle_bytes(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\nGET /c");
        let mut paths = Vec::new();
        while let Some(request) = reader.poll_request().expect("valid") {
            paths.push(request.path);
        }
        assert_eq!(paths, ["/a", "/b"]);
        assert_eq!(reader.into_rest(), b"GET /c");
    }

    #[test]
    fn a_late_head_gets_an_answer_and_an_idle_connection_none() {
        let now = Instant::now();
        let mut reader = Reader::new(now);
        assert_eq!(reader.poll_timeout(), now + HEAD_TIMEOUT);
        assert_eq!(reader.handle_timeout(), None);
        reader.handle_bytes(b"G");
        assert_eq!(reader.handle_timeout().expect("begun").status, Status::RequestTimeout);
        reader.restart(now + HEAD_TIMEOUT);
        assert_eq!(reader.poll_timeout(), now + 2 * HEAD_TIMEOUT);
    }

    #[test]
    fn a_response_says_its_length_and_how_it_ends() {
        let text = rendered(Response::sentence(Status::MethodNotAllowed, "No."), false, false);
        assert!(text.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\n"), "{text}");
        assert!(text.contains("Content-Length: 4\r\n") && text.contains("nosniff") && text.contains("no-cache"));
        assert!(text.ends_with("Connection: close\r\n\r\nNo.\n"), "{text}");
        let head = rendered(Response::sentence(Status::Ok, "Yes."), true, true);
        assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn a_known_version_is_not_sent_again() {
        let mut request = request("GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("valid").expect("complete");
        let response = |request: &Request| Response::sentence(Status::Ok, "Page").tagged("\"v2\"".into(), request);
        request.if_none_match = Some("\"v1\"".to_owned());
        assert_eq!(response(&request).status, Status::Ok);
        request.if_none_match = Some("\"v1\", \"v2\"".to_owned());
        let text = rendered(response(&request), false, true);
        assert!(text.starts_with("HTTP/1.1 304 ") && !text.contains("Page") && text.contains("ETag: \"v2\""), "{text}");
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
        let mut outgoing = Response::sentence(Status::Ok, "A few words.").into_outgoing(false, true);
        for _ in 0..10_000 {
            match outgoing.write(&mut socket) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        let whole = rendered(Response::sentence(Status::Ok, "A few words."), false, true);
        assert_eq!(String::from_utf8(socket.0).expect("text"), whole);
    }

    fn any_head() -> impl Strategy<Value = Vec<u8>> {
        let valid = Just(UPGRADE.as_bytes().to_vec());
        let cut = (0..UPGRADE.len()).prop_map(|length| UPGRADE.as_bytes()[..length].to_vec());
        let mutated = (0..UPGRADE.len(), any::<u8>()).prop_map(|(at, byte)| {
            let mut bytes = UPGRADE.as_bytes().to_vec();
            bytes[at] = byte;
            bytes
        });
        prop_oneof![valid, cut, mutated, proptest::collection::vec(any::<u8>(), 0..200)]
    }

    proptest! {
        /// Whatever arrives, in whatever pieces: no panic, bounded memory, and the deadline stands.
        #[test]
        fn bytes_never_move_the_deadline(
            heads in proptest::collection::vec(any_head(), 0..60),
            piece in 1_usize..3_000,
        ) {
            let now = Instant::now();
            let mut reader = Reader::new(now);
            let bytes = heads.concat();
            let mut bytes = bytes.as_slice();
            while !bytes.is_empty() {
                let (now_in, rest) = bytes.split_at(piece.min(bytes.len()).min(reader.capacity()));
                bytes = rest;
                reader.handle_bytes(now_in);
                loop {
                    match reader.poll_request() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return Ok(()),
                    }
                }
                prop_assert!(reader.capacity() > 0, "an incomplete head is refused before it fills the buffer");
                prop_assert_eq!(reader.poll_timeout(), now + HEAD_TIMEOUT);
            }
        }

        /// How a request was cut into pieces makes no difference.
        #[test]
        fn a_request_is_read_from_any_pieces(head in any_head(), piece in 1_usize..50) {
            let read = |piece: usize| {
                let mut reader = Reader::new(Instant::now());
                for bytes in head.chunks(piece) {
                    reader.handle_bytes(bytes);
                    if let Ok(Some(request)) = reader.poll_request() {
                        return Some(request);
                    }
                }
                None
            };
            prop_assert_eq!(read(piece), read(1));
        }
    }
}
