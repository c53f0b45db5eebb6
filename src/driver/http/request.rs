//! Parses bytes into requests, or into the error to answer with.

use std::time::{Duration, Instant};

use tungstenite::handshake::derive_accept_key;

use super::Status;
use super::conditional::Conditions;
use super::negotiate::{self, Coding};
use crate::limits::MEDIA_SDP_BYTES;

/// Bytes of a request's head, its blank line included.
const HEAD_BYTES: usize = 16 * 1024;
/// Bytes of cookies that are skipped in a longer head, so that the page can be told why it is refused. Browsers send no
/// longer heads.
const COOKIE_BYTES: usize = 256 * 1024;
/// Header fields of a request.
const HEADERS: usize = 64;
/// The time from the first byte of a head to its last, and from the opening of a connection to the end of its first
/// head.
pub(in crate::driver) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The answer to an invalid request; the connection closes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) struct Malformed {
    pub(in crate::driver) status: Status,
    pub(in crate::driver) sentence: &'static str,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::driver) enum Method {
    #[default]
    Get,
    Head,
    Options,
    Post,
    Patch,
    Delete,
}

impl Method {
    /// Whether it asks for something to be changed.
    pub(in crate::driver) fn is_change(self) -> bool {
        matches!(self, Method::Post | Method::Patch | Method::Delete)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::driver) struct Request {
    pub(in crate::driver) method: Method,
    /// From the target: begins with `/`, still percent-encoded, without the query.
    pub(in crate::driver) path: String,
    /// From the target: begins with `?`, or is empty.
    pub(in crate::driver) query: String,
    pub(in crate::driver) sender: Sender,
    pub(in crate::driver) conditions: Conditions,
    pub(in crate::driver) accept_encoding: Option<String>,
    pub(in crate::driver) authorization: Option<String>,
    pub(in crate::driver) content_type: Option<String>,
    pub(in crate::driver) body: Vec<u8>,
    pub(in crate::driver) keep_alive: bool,
    /// Set if the request is for a websocket.
    pub(in crate::driver) websocket: Option<Upgrade>,
    /// Whether it is a websocket request without the hop-by-hop fields that a proxy has to pass on.
    pub(in crate::driver) has_lost_upgrade: bool,
    /// Whether its head was too long, so that cookies were skipped.
    pub(in crate::driver) has_lost_cookies: bool,
}

/// The sender of a request: its origin and address fields, which are not verified, and how it is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::driver) struct Sender {
    pub(in crate::driver) host: String,
    /// The origin of the page, if a browser sent it.
    pub(in crate::driver) origin: Option<String>,
    /// Whether a browser sent the request, also for a same-origin page without `Origin`. Pages can't remove the fields
    /// that show it; other programs don't send them.
    pub(in crate::driver) is_browser: bool,
    pub(in crate::driver) forwarded_for: Option<String>,
    pub(in crate::driver) forwarded_host: Option<String>,
    pub(in crate::driver) forwarded_proto: Option<String>,
    /// Whether its connection to this server uses TLS.
    pub(in crate::driver) is_secure: bool,
}

/// The request of a websocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::driver) struct Upgrade {
    /// `Sec-WebSocket-Accept` of the answer.
    pub(in crate::driver) accept_key: String,
    /// All fields, names in lower case.
    pub(in crate::driver) headers: Vec<(String, String)>,
}

impl Request {
    /// Returns the first value of this name in the query.
    pub(in crate::driver) fn parameter(&self, name: &str) -> Option<&str> {
        let pairs = self.query.strip_prefix('?')?.split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find_map(|(of, value)| (of == name).then_some(value))
    }

    /// The codings of the answer that are allowed, the preferred first. A range refers to uncompressed bytes if they
    /// are allowed, because seeking in a file uses its own offsets.
    pub(in crate::driver) fn codings(&self) -> Vec<Coding> {
        let codings = negotiate::acceptable(self.accept_encoding.as_deref());
        let is_part = self.method == Method::Get && self.conditions.range.is_some();
        if is_part && codings.contains(&Coding::Identity) { vec![Coding::Identity] } else { codings }
    }
}

/// Reads the requests of one connection.
#[derive(Debug)]
pub(in crate::driver) struct Reader {
    buffer: Vec<u8>,
    /// How much of the buffer was scanned: a slowly arriving head is parsed once per line, not per byte.
    scanned: usize,
    /// Bytes of cookies that were skipped in this head.
    cut: usize,
    /// How long the next request may take to begin once one is answered.
    keep_alive: Duration,
    is_answered: bool,
    /// A request whose body is not complete, and the bytes of that.
    incomplete: Option<(Box<Request>, usize)>,
    deadline: Instant,
}

impl Reader {
    pub(in crate::driver) fn new(now: Instant, keep_alive: Duration) -> Reader {
        Reader {
            buffer: Vec::new(),
            scanned: 0,
            cut: 0,
            keep_alive,
            is_answered: false,
            incomplete: None,
            deadline: now + HEAD_TIMEOUT,
        }
    }

    pub(in crate::driver) fn keep_alive(&self) -> Duration {
        self.keep_alive
    }

    /// A request was answered: the time of the next head starts anew.
    pub(in crate::driver) fn restart(&mut self, now: Instant) {
        self.is_answered = true;
        if self.buffer.is_empty() {
            // Thousands of connections may be idle.
            self.buffer = Vec::new();
        }
        self.deadline = now + if self.is_idle() { self.keep_alive } else { HEAD_TIMEOUT };
    }

    /// Whether it waits between two requests.
    pub(in crate::driver) fn is_idle(&self) -> bool {
        self.is_answered && self.buffer.is_empty() && self.incomplete.is_none()
    }

    /// The time by which the head has to begin or to be complete. Only its first byte changes it.
    pub(in crate::driver) fn poll_timeout(&self) -> Instant {
        self.deadline
    }

    /// Handles the deadline: returns the answer to a request that has begun, nothing for an idle connection.
    pub(in crate::driver) fn handle_timeout(&self) -> Option<Malformed> {
        let begun = !self.buffer.is_empty() || self.incomplete.is_some();
        begun.then_some(Malformed {
            status: Status::RequestTimeout,
            sentence: "The request took longer than 5 seconds: send it without pauses.",
        })
    }

    /// How many bytes [`Reader::handle_bytes`] accepts now.
    pub(in crate::driver) fn capacity(&self) -> usize {
        // A body is shorter than a head.
        (HEAD_BYTES + 1).saturating_sub(self.buffer.len())
    }

    /// Handles received bytes: at most [`Reader::capacity`].
    pub(in crate::driver) fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        debug_assert!(bytes.len() <= self.capacity(), "the caller reads no more than capacity");
        if self.is_idle() {
            self.deadline = now + HEAD_TIMEOUT;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next request, once its head is complete.
    pub(in crate::driver) fn poll_request(&mut self) -> Result<Option<Request>, Malformed> {
        if self.incomplete.is_some() {
            return Ok(self.take_complete());
        }
        let news = &self.buffer[self.scanned..];
        if news.is_empty() || (self.scanned > 0 && !news.contains(&b'\n') && self.capacity() > 0) {
            self.scanned = self.buffer.len();
            return Ok(None);
        }
        self.scanned = self.buffer.len();
        let Some(Parsed { mut request, head, body }) = parse(&self.buffer[..self.buffer.len().min(HEAD_BYTES)])? else {
            if self.capacity() > 0 {
                return Ok(None);
            }
            if self.cut_cookies() {
                return self.poll_request();
            }
            return Err(Malformed {
                status: Status::HeadTooLarge,
                sentence: "The head of the request exceeds 16 KiB: send fewer or shorter fields.",
            });
        };
        request.has_lost_cookies = self.cut > 0;
        self.buffer.drain(..head);
        (self.scanned, self.cut) = (0, 0);
        self.incomplete = Some((Box::new(request), body));
        Ok(self.take_complete())
    }

    fn take_complete(&mut self) -> Option<Request> {
        let (mut request, length) = self.incomplete.take_if(|(_, length)| *length <= self.buffer.len())?;
        request.body = self.buffer.drain(..length).collect();
        Some(*request)
    }

    /// Makes room by removing the cookies received so far; `false` if they were too many, or if they are so little of
    /// the head that each further piece would be small. The rest of the last cookie then follows directly after the
    /// name of its field.
    fn cut_cookies(&mut self) -> bool {
        const NAME: &[u8] = b"cookie:";
        let mut kept = Vec::with_capacity(self.buffer.len());
        for line in self.buffer.split_inclusive(|&byte| byte == b'\n') {
            match line.split_at_checked(NAME.len()) {
                Some((name, value)) if name.eq_ignore_ascii_case(NAME) => {
                    kept.extend_from_slice(name);
                    kept.extend_from_slice(if value.ends_with(b"\n") { b"\n" } else { b"" });
                }
                _ => kept.extend_from_slice(line),
            }
        }
        let cut = self.buffer.len() - kept.len();
        self.buffer = kept;
        self.scanned = 0;
        self.cut += cut;
        self.buffer.len() <= HEAD_BYTES / 2 && self.cut <= COOKIE_BYTES
    }

    /// The bytes received after the last request.
    pub(in crate::driver) fn into_rest(self) -> Vec<u8> {
        self.buffer
    }
}

pub(in crate::driver) const NOT_ALLOWED: &str =
    "Only GET and HEAD are allowed here: send game messages over the websocket.";
const NO_REQUEST: &str =
    "This is not an HTTP/1.1 request. Without --tls-cert the server has no TLS: use http://, or start it with that.";

fn bad_request(sentence: &'static str) -> Malformed {
    Malformed { status: Status::BadRequest, sentence }
}

/// A request, and the lengths of its head and its body.
struct Parsed {
    request: Request,
    head: usize,
    body: usize,
}

/// The request whose head begins `bytes`; `None` while that is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<Parsed>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Malformed {
                status: Status::HeadTooLarge,
                sentence: "The request has more than 64 header fields: send fewer.",
            });
        }
        Err(httparse::Error::Version) => {
            return Err(Malformed {
                status: Status::VersionNotSupported,
                sentence: "This server supports only HTTP/1.1: send the request in that version.",
            });
        }
        Err(_) => return Err(bad_request(NO_REQUEST)),
    };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Err(bad_request(NO_REQUEST));
    };
    let fields = Fields(head.headers);

    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "OPTIONS" => Method::Options,
        "POST" => Method::Post,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        _ => return Err(Malformed { status: Status::MethodNotAllowed, sentence: NOT_ALLOWED }),
    };
    if version == 1 && fields.all("host").count() != 1 {
        return Err(bad_request("A request must have exactly one Host field: set it to the name of the server."));
    }
    let body = body_length(method, &fields)?;
    let (path, query) = path_and_query(method, target)
        .ok_or(bad_request("The target of the request is not a path: begin it with /."))?;
    let has = |name| fields.all(name).next().is_some();
    let has_upgrade =
        version == 1 && fields.has_token("upgrade", "websocket") && fields.has_token("connection", "upgrade");
    let websocket = if has_upgrade {
        Some(Upgrade { accept_key: websocket_accept_key(method, &fields)?, headers: fields.to_vec() })
    } else {
        None
    };
    let request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        sender: Sender {
            host: fields.list("host").unwrap_or_default(),
            origin: fields.list("origin"),
            // Node's fetch sends Accept-Language and Sec-Fetch-Mode, and none of the others.
            is_browser: has("origin") || has("sec-fetch-site") || (has("accept-language") && !has("sec-fetch-mode")),
            forwarded_for: fields.list("x-forwarded-for"),
            forwarded_host: fields.list("x-forwarded-host"),
            forwarded_proto: fields.list("x-forwarded-proto"),
            is_secure: false,
        },
        conditions: Conditions {
            if_match: fields.list("if-match"),
            if_none_match: fields.list("if-none-match"),
            if_modified_since: fields.list("if-modified-since"),
            if_unmodified_since: fields.list("if-unmodified-since"),
            range: fields.list("range"),
            if_range: fields.list("if-range"),
        },
        accept_encoding: fields.list("accept-encoding"),
        authorization: fields.list("authorization"),
        content_type: fields.list("content-type"),
        body: Vec::new(),
        keep_alive: version == 1 && !fields.has_token("connection", "close"),
        websocket,
        has_lost_upgrade: !has_upgrade && has("sec-websocket-key"),
        has_lost_cookies: false,
    };
    Ok(Some(Parsed { request, head: length, body }))
}

/// The bytes of the body (RFC 9112 §6.3).
fn body_length(method: Method, fields: &Fields<'_>) -> Result<usize, Malformed> {
    if fields.all("transfer-encoding").next().is_some() {
        let sentence = "The server reads no chunked body: send it with Content-Length.";
        return Err(Malformed { status: Status::LengthRequired, sentence });
    }
    let mut lengths = fields.all("content-length");
    let (Some(length), None) = (lengths.next(), lengths.next()) else {
        let none = fields.all("content-length").next().is_none();
        return if none { Ok(0) } else { Err(bad_request("The request has more than one Content-Length field.")) };
    };
    let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
    if !is_number {
        return Err(bad_request("Content-Length is not a number."));
    }
    let too_large = |sentence| Malformed { status: Status::ContentTooLarge, sentence };
    match std::str::from_utf8(length).ok().and_then(|length| length.parse().ok()) {
        Some(0) => Ok(0),
        Some(_) if !method.is_change() => Err(too_large("A request must not have a body here: remove it.")),
        Some(length) if length <= MEDIA_SDP_BYTES => Ok(length),
        _ => Err(too_large("The body is larger than 14 KiB.")),
    }
}

/// The path and the query in a target of origin form or absolute form, or `*` (RFC 9112 §3.2).
fn path_and_query(method: Method, target: &str) -> Option<(&str, &str)> {
    let target = match target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) {
        Some(rest) => rest.find(['/', '?']).map_or("/", |end| &rest[end..]),
        None if method == Method::Options && target == "*" => "/",
        None => target,
    };
    let target = target.split('#').next().unwrap_or(target);
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    match path {
        "" => Some(("/", query)),
        path => path.starts_with('/').then_some((path, query)),
    }
}

/// Checks a websocket request according to RFC 6455 §4.2.1.
fn websocket_accept_key(method: Method, fields: &Fields<'_>) -> Result<String, Malformed> {
    if method != Method::Get {
        return Err(bad_request("The method of a websocket request must be GET."));
    }
    if fields.text("sec-websocket-version") != Some("13") {
        return Err(Malformed {
            status: Status::UpgradeRequired,
            sentence: "This server supports only version 13 of the websocket protocol.",
        });
    }
    let key = fields.text("sec-websocket-key").unwrap_or_default();
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let is_sixteen_bytes = key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(alphabet);
    if !is_sixteen_bytes || fields.all("sec-websocket-key").count() != 1 {
        return Err(bad_request("Sec-WebSocket-Key is not 16 bytes in base64: send one field with 24 characters."));
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

    /// All values of a field as one list (RFC 9110 §5.3), without those that are not UTF-8.
    fn list(&self, name: &'static str) -> Option<String> {
        let values: Vec<_> = self.all(name).map(String::from_utf8_lossy).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Whether a comma-separated list contains `token`.
    fn has_token(&self, name: &'static str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEEP_ALIVE: Duration = Duration::from_secs(75);

    fn request(text: &str) -> Result<Option<Request>, Malformed> {
        Ok(parse(text.as_bytes())?.map(|parsed| parsed.request))
    }

    fn status(text: &str) -> Status {
        request(text).expect_err("malformed").status
    }

    const UPGRADE: &str = "GET /r/a HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    #[test]
    fn reads_what_a_browser_sends() {
        let conditions = "If-None-Match: \"1\"\r\nRange: bytes=0-\r\nIF-NONE-MATCH: W/\"2\"\r\n";
        let read = request(&format!("GET /r/a?x=1 HTTP/1.1\r\nHost: h\r\n{conditions}\r\n")).expect("valid");
        let expected = Request {
            path: "/r/a".to_owned(),
            query: "?x=1".to_owned(),
            sender: Sender { host: "h".to_owned(), ..Sender::default() },
            conditions: Conditions {
                if_none_match: Some("\"1\", W/\"2\"".to_owned()),
                range: Some("bytes=0-".to_owned()),
                ..Conditions::default()
            },
            keep_alive: true,
            ..Request::default()
        };
        assert_eq!(read, Some(expected));
        let absolute = request("HEAD http://h:1/p HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n\r\n").expect("valid");
        let absolute = absolute.expect("complete");
        assert_eq!((absolute.method, absolute.path.as_str(), absolute.keep_alive), (Method::Head, "/p", false));
        for (target, path, query) in [
            ("http://h", "/", ""),
            ("http://h?x", "/", "?x"),
            ("/a?b?c#d?e", "/a", "?b?c"),
            ("/a#b?c", "/a", ""),
            ("*", "/", ""),
        ] {
            assert_eq!(path_and_query(Method::Options, target), Some((path, query)), "{target}");
        }
        assert_eq!(path_and_query(Method::Get, "*"), None);
        let old = request("GET / HTTP/1.0\r\n\r\n").expect("valid").expect("complete");
        assert!(!old.keep_alive, "HTTP/1.0 closes");
    }

    #[test]
    fn a_browser_is_told_by_what_no_page_can_leave_out() {
        let is_browser = |fields: &str| {
            let text = format!("GET /rooms HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
            request(&text).expect("valid").expect("complete").sender.is_browser
        };
        for (fields, expected) in [
            ("", false),
            ("User-Agent: curl/8.5.0\r\nAccept: */*\r\n", false),
            ("Accept-Encoding: gzip\r\nUser-Agent: Prometheus/3\r\n", false),
            ("Accept: */*\r\nAccept-Language: *\r\nSec-Fetch-Mode: cors\r\nUser-Agent: node\r\n", false),
            ("Accept-Language: en\r\n", true),
            ("Accept-Language: en\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n", true),
            ("Origin: http://a\r\n", true),
        ] {
            assert_eq!(is_browser(fields), expected, "{fields}");
        }
    }

    #[test]
    fn the_headers_of_a_websocket_are_kept_as_far_as_they_are_text() {
        let mut bytes = UPGRADE.trim_end().as_bytes().to_vec();
        bytes.extend_from_slice(b"\r\nCOOKIE: a=1\r\nX-Name: \xe4\r\nx-name:  \xc3\xa4 \r\nCookie: b=2\r\n\r\n");
        let headers = parse(&bytes).expect("valid").expect("complete").request.websocket.expect("asked for").headers;
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
        let sender = upgrade.expect("valid").expect("complete").sender;
        assert_eq!((sender.host.as_str(), sender.origin.as_deref()), ("h", Some("http://a, http://b")));
        assert_eq!((sender.forwarded_for.as_deref(), sender.forwarded_host), (Some("1, 2, 3"), None));
    }

    #[test]
    fn each_malformed_request_has_its_status() {
        for (text, expected) in [
            ("\x16\x03\x01", Status::BadRequest),
            ("GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Status::BadRequest),
            ("GET room HTTP/1.1\r\nHost: h\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", Status::BadRequest),
            ("PUT / HTTP/1.1\r\nHost: h\r\n\r\n", Status::MethodNotAllowed),
            ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n", Status::ContentTooLarge),
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 14337\r\n\r\n", Status::ContentTooLarge),
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n", Status::ContentTooLarge),
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Status::BadRequest),
            ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", Status::LengthRequired),
            ("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", Status::LengthRequired),
            ("GET / HTTP/2.0\r\n\r\n", Status::VersionNotSupported),
        ] {
            assert_eq!(status(text), expected, "{text:?}");
        }
        for (from, to, expected) in [
            ("Version: 13", "Version: 8", Status::UpgradeRequired),
            ("Sec-WebSocket-Version: 13\r\n", "", Status::UpgradeRequired),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", Status::BadRequest),
            ("GET", "HEAD", Status::BadRequest),
        ] {
            assert_eq!(status(&UPGRADE.replace(from, to)), expected, "{from} → {to}");
        }
    }

    #[test]
    fn a_body_belongs_to_its_request_wherever_it_is_cut() {
        let first = "POST /whip/a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nGET / x\r\n";
        let both = format!("{first}GET /b HTTP/1.1\r\nHost: h\r\n\r\n");
        #[expect(clippy::disallowed_methods, reason = "an Instant can't be made otherwise; only differences matter")]
        let now = Instant::now();
        for cut in 0..both.len() {
            let mut reader = Reader::new(now, KEEP_ALIVE);
            let mut requests = Vec::new();
            for piece in [&both[..cut], &both[cut..]] {
                reader.handle_bytes(now, piece.as_bytes());
                while let Some(request) = reader.poll_request().expect("valid") {
                    requests.push((request.path, request.body));
                }
            }
            let expected = [("/whip/a".to_owned(), b"GET / x\r\n".to_vec()), ("/b".to_owned(), Vec::new())];
            assert_eq!(requests, expected, "cut at {cut}");
        }
        let mut reader = Reader::new(now, KEEP_ALIVE);
        reader.handle_bytes(now, &first.as_bytes()[..first.len() - 1]);
        assert_eq!(reader.poll_request(), Ok(None));
        assert_eq!(reader.handle_timeout().map(|late| late.status), Some(Status::RequestTimeout));
    }

    #[test]
    fn what_a_proxy_does_not_pass_on_is_noted() {
        let read = |from: &str, to: &str| {
            let request = request(&UPGRADE.replace(from, to)).expect("valid").expect("complete");
            (request.websocket.is_some(), request.has_lost_upgrade)
        };
        assert_eq!(read("", ""), (true, false));
        for (from, to) in [
            ("Upgrade: WebSocket\r\n", ""),
            ("Connection: keep-alive, Upgrade", "Connection: close"),
            ("keep-alive, Upgrade", "keep-alive"),
            ("HTTP/1.1", "HTTP/1.0"),
        ] {
            assert_eq!(read(from, to), (false, true), "{from} → {to}");
        }
        let page = request("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n").expect("valid").expect("complete");
        assert!(!page.has_lost_upgrade);
    }

    #[test]
    fn cookies_that_are_too_long_are_left_out_whatever_surrounds_them() {
        let cookie = |bytes: usize| format!("a={}", "b".repeat(bytes));
        let read = |text: &str, piece: usize| {
            let mut reader = Reader::new(Instant::now(), KEEP_ALIVE);
            let mut bytes = text.as_bytes();
            loop {
                if let Some(request) = reader.poll_request()? {
                    return Ok::<_, Malformed>((request, reader.into_rest()));
                }
                assert!(reader.capacity() > 0 && !bytes.is_empty(), "it ends");
                let (now_in, rest) = bytes.split_at(piece.min(bytes.len()).min(reader.capacity()));
                bytes = rest;
                reader.handle_bytes(Instant::now(), now_in);
            }
        };
        for (before, after) in [(100, 0), (HEAD_BYTES, 0), (100, HEAD_BYTES), (3 * HEAD_BYTES, 2 * HEAD_BYTES)] {
            let fields = format!("\r\nCookie: {}\r\nA: b\r\ncookie:{}\r\n\r\n", cookie(before), cookie(after));
            for piece in [997, 2_048, HEAD_BYTES] {
                let (request, rest) = read(&(UPGRADE.replacen("\r\n\r\n", &fields, 1) + "rest"), piece).expect("valid");
                let headers = request.websocket.expect("asked for").headers;
                assert_eq!(request.has_lost_cookies, before + after >= HEAD_BYTES, "{before} {after}");
                assert!(headers.iter().any(|(name, value)| (name.as_str(), value.as_str()) == ("a", "b")));
                assert!(b"rest".starts_with(&rest));
            }
        }
        let long = |fields: &str| UPGRADE.replacen("\r\n\r\n", &format!("\r\n{fields}\r\n\r\n"), 1);
        for fields in [
            format!("Cookie: {}", cookie(COOKIE_BYTES + 2 * HEAD_BYTES)),
            format!("Cookie: a=b\r\nX: {}", cookie(2 * HEAD_BYTES)),
            format!("X-Cookie: {}", cookie(2 * HEAD_BYTES)),
        ] {
            assert_eq!(read(&long(&fields), 2_048).expect_err("too long").status, Status::HeadTooLarge);
        }
    }

    /// Each piece costs a system call and a look at the whole head.
    #[test]
    fn a_long_head_is_taken_in_few_pieces() {
        for others in [0, HEAD_BYTES / 4, HEAD_BYTES / 2, HEAD_BYTES - 500, HEAD_BYTES - 300] {
            let fields = format!("\r\nX: {}\r\nCookie: {}", "x".repeat(others), "c".repeat(COOKIE_BYTES));
            let text = UPGRADE.replacen("\r\n\r\n", &fields, 1);
            let mut reader = Reader::new(Instant::now(), KEEP_ALIVE);
            let mut rest = text.as_bytes();
            let mut pieces = 0;
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(reader.capacity().min(rest.len()));
                reader.handle_bytes(Instant::now(), piece);
                (rest, pieces) = (after, pieces + 1);
                if reader.poll_request().is_err() {
                    break;
                }
            }
            assert!(pieces <= 2 * COOKIE_BYTES / HEAD_BYTES + 2, "{others} bytes of other fields: {pieces}");
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
            let mut reader = Reader::new(Instant::now(), KEEP_ALIVE);
            reader.handle_bytes(Instant::now(), &text.as_bytes()[..reader.capacity().min(text.len())]);
            reader.poll_request()
        };
        assert!(read(head(HEAD_BYTES)).expect("valid").is_some());
        assert_eq!(read(head(HEAD_BYTES + 1)).expect_err("too large").status, Status::HeadTooLarge);
        assert_eq!(read("\n".repeat(HEAD_BYTES + 1)).expect_err("too large").status, Status::HeadTooLarge);
    }

    #[test]
    fn requests_may_follow_each_other() {
        let mut reader = Reader::new(Instant::now(), KEEP_ALIVE);
        reader.handle_bytes(
            Instant::now(),
            b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\nGET /c",
        );
        let mut paths = Vec::new();
        while let Some(request) = reader.poll_request().expect("valid") {
            paths.push(request.path);
        }
        assert_eq!(paths, ["/a", "/b"]);
        assert_eq!(reader.into_rest(), b"GET /c");
    }

    const LATER: Duration = Duration::from_secs(3);

    #[test]
    fn a_late_head_gets_an_answer_and_an_idle_connection_none() {
        let now = Instant::now();
        let mut reader = Reader::new(now, KEEP_ALIVE);
        assert_eq!(reader.poll_timeout(), now + HEAD_TIMEOUT);
        assert_eq!(reader.handle_timeout(), None);
        assert!(!reader.is_idle(), "it owes its first request");
        reader.handle_bytes(now + LATER, b"GET / HTTP/1.1\r\nHost: h\r\n");
        assert_eq!(reader.poll_timeout(), now + HEAD_TIMEOUT);
        assert_eq!(reader.handle_timeout().expect("begun").status, Status::RequestTimeout);
        reader.handle_bytes(now + LATER, b"\r\n");
        assert!(reader.poll_request().expect("valid").is_some());
        reader.restart(now);
        assert_eq!((reader.is_idle(), reader.poll_timeout()), (true, now + KEEP_ALIVE));
        assert_eq!(reader.buffer.capacity(), 0, "an idle connection holds no memory");
        reader.handle_bytes(now + LATER, b"G");
        reader.handle_bytes(now + 2 * LATER, b"E");
        assert_eq!((reader.is_idle(), reader.poll_timeout()), (false, now + LATER + HEAD_TIMEOUT));
        reader.restart(now + LATER);
        assert_eq!(reader.poll_timeout(), now + LATER + HEAD_TIMEOUT, "the next head has begun already");
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
        /// Any bytes in any pieces: no panic, bounded memory, and an unchanged deadline.
        #[test]
        fn bytes_never_move_the_deadline(
            heads in proptest::collection::vec(any_head(), 0..60),
            piece in 1_usize..3_000,
        ) {
            let now = Instant::now();
            let mut reader = Reader::new(now, KEEP_ALIVE);
            let bytes = heads.concat();
            let mut bytes = bytes.as_slice();
            while !bytes.is_empty() {
                let (now_in, rest) = bytes.split_at(piece.min(bytes.len()).min(reader.capacity()));
                bytes = rest;
                reader.handle_bytes(now + LATER, now_in);
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
                let mut reader = Reader::new(Instant::now(), KEEP_ALIVE);
                for bytes in head.chunks(piece) {
                    reader.handle_bytes(Instant::now(), bytes);
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
