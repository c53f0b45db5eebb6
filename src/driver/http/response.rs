//! Responses into bytes.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Write};

use super::{Request, Status};
use crate::limits::FILE_CHUNK_BYTES;

#[derive(Debug)]
pub(in crate::driver) enum Body {
    Bytes(Cow<'static, [u8]>),
    /// A file and its length.
    File(File, u64),
}

#[derive(Debug)]
pub(in crate::driver) struct Response {
    pub(in crate::driver) status: Status,
    content_type: &'static str,
    fields: Vec<(&'static str, String)>,
    body: Body,
}

impl Response {
    pub(in crate::driver) fn new(status: Status, content_type: &'static str, body: Body) -> Response {
        Response { status, content_type, fields: Vec::new(), body }
    }

    /// A sentence for people.
    pub(in crate::driver) fn sentence(status: Status, sentence: &str) -> Response {
        let body = Body::Bytes(format!("{sentence}\n").into_bytes().into());
        let response = Response::new(status, "text/plain; charset=utf-8", body);
        match status {
            Status::MethodNotAllowed => response.field("Allow", "GET, HEAD"),
            Status::UpgradeRequired => response.field("Upgrade", "websocket").field("Sec-WebSocket-Version", "13"),
            Status::TooManyRequests | Status::ServiceUnavailable => response.field("Retry-After", "5"),
            _ => response,
        }
    }

    pub(in crate::driver) fn field(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.fields.push((name, value.into()));
        self
    }

    /// Names the version of the body, which is left out where the browser has it.
    pub(in crate::driver) fn tagged(mut self, tag: String, request: &Request) -> Response {
        let known = request.if_none_match.as_deref().unwrap_or_default();
        if known.split(',').any(|known| known.trim() == tag) {
            self.status = Status::NotModified;
            self.body = Body::Bytes(Cow::Borrowed(&[]));
        }
        self.field("ETag", tag)
    }

    /// The bytes of the response: without its body for a `HEAD`.
    pub(in crate::driver) fn into_outgoing(self, head: bool, keep_alive: bool) -> Outgoing {
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
pub(in crate::driver) struct Outgoing {
    chunk: Cow<'static, [u8]>,
    sent: usize,
    /// What follows the chunk.
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
        Outgoing { chunk: text.into_bytes().into(), sent: 0, body: Body::Bytes(Cow::Borrowed(&[])) }
    }

    /// Writes one chunk, or what the socket takes of it; `true` when nothing is left.
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
    use std::time::Instant;

    use super::super::Reader;
    use super::*;

    fn rendered(response: Response, head: bool, keep_alive: bool) -> String {
        let mut bytes = Vec::new();
        let mut outgoing = response.into_outgoing(head, keep_alive);
        while !outgoing.write(&mut bytes).expect("a vector takes all") {}
        String::from_utf8(bytes).expect("text")
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
        let mut reader = Reader::new(Instant::now());
        reader.handle_bytes(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut request = reader.poll_request().expect("valid").expect("complete");
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
}
