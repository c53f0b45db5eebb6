//! A client for single HTTP/1.1 requests (RFC 9112), on blocking streams that the caller opens, and the parsers of
//! responses.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// Maximum bytes of a response, including its body.
pub(crate) const RESPONSE_BYTES: usize = 16 * 1024 * 1024;
const HEADERS: usize = 64;
/// Bytes of the line in front of a chunk, with its extensions.
const CHUNK_LINE_BYTES: usize = 1024;

#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// The body, if it has one.
    pub(crate) json: Option<&'a str>,
}

impl Default for Request<'_> {
    /// `GET /` of nobody.
    fn default() -> Self {
        Request { method: "GET", authority: "", path: "/", headers: &[], json: None }
    }
}

impl Request<'_> {
    /// The bytes of a request that is the only one on its connection.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Request { method, authority, path, headers, json } = self;
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let of_body = json.map_or(String::new(), |json| {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", json.len())
        });
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{headers}{of_body}Connection: close\r\n\r\n");
        [head.as_bytes(), json.unwrap_or_default().as_bytes()].concat()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Sends a request on a blocking stream, the only one on it. The response may have so many bytes, and take so long.
pub(crate) fn ask(
    request: &Request<'_>,
    stream: &mut (impl Read + Write),
    limit: usize,
    patience: Duration,
) -> io::Result<Response> {
    let deadline = Instant::now() + patience;
    stream.write_all(&request.encode())?;
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

/// The progress of parsing a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'b> {
    Partial,
    Whole { status: u16, body: Cow<'b, [u8]>, keeps: bool },
}

/// What stands in front of a body.
pub(crate) struct Head {
    /// Its bytes, with those of interim responses before it.
    pub(crate) length: usize,
    pub(crate) status: u16,
    keeps: bool,
    pub(crate) framing: Framing,
}

/// Where a body ends (RFC 9112 §6.3).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Chunked,
    Length(usize),
    UntilClosed,
}

/// Parses a response, which may be incomplete unless the connection `is_closed`.
pub(crate) fn parse(bytes: &[u8], is_closed: bool) -> io::Result<Parsed<'_>> {
    let Some(Head { length, status, keeps, framing }) = head(bytes)? else { return Ok(Parsed::Partial) };
    let body = &bytes[length..];
    let body = match framing {
        Framing::Chunked => chunked(body)?.map(Cow::Owned),
        Framing::Length(length) => body.get(..length).map(Cow::Borrowed),
        Framing::UntilClosed => is_closed.then_some(Cow::Borrowed(body)),
    };
    Ok(body.map_or(Parsed::Partial, |body| Parsed::Whole { status, body, keeps }))
}

/// Parses the head of a response; `None` if it is incomplete.
pub(crate) fn head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut before = 0;
    while let Some(length) = interim(&bytes[before..])? {
        before += length;
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(&bytes[before..]).map_err(|_| invalid())? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let field = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let has_token = |name, token| field(name).is_some_and(|value| value.to_ascii_lowercase().contains(token));
    let framing = if matches!(status, 204 | 304) {
        Framing::Length(0)
    } else if has_token("transfer-encoding", "chunked") {
        Framing::Chunked
    } else if let Some(length) = field("content-length") {
        Framing::Length(length.trim().parse().map_err(|_| invalid())?)
    } else {
        Framing::UntilClosed
    };
    let is_framed = framing != Framing::UntilClosed;
    let keeps = is_framed && response.version == Some(1) && !has_token("connection", "close");
    Ok(Some(Head { length: before + length, status, keeps, framing }))
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

/// Decodes a chunked body while it arrives.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    /// Bytes of the current chunk that are still to come.
    left: usize,
    /// Whether a line end follows.
    is_after: bool,
}

impl Chunks {
    /// Moves what can be decoded from `bytes` to `body`; `true` at the end of the body.
    pub(crate) fn decode(&mut self, bytes: &mut Vec<u8>, body: &mut Vec<u8>) -> io::Result<bool> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        loop {
            let count = self.left.min(bytes.len());
            body.extend(bytes.drain(..count));
            self.left -= count;
            if self.left > 0 {
                return Ok(false);
            }
            if self.is_after {
                if bytes.len() < 2 {
                    return Ok(false);
                }
                if !bytes.starts_with(b"\r\n") {
                    return Err(invalid());
                }
                bytes.drain(..2);
                self.is_after = false;
            }
            match httparse::parse_chunk_size(bytes).map_err(|_| invalid())? {
                httparse::Status::Partial if bytes.len() > CHUNK_LINE_BYTES => return Err(invalid()),
                httparse::Status::Partial => return Ok(false),
                httparse::Status::Complete((_, 0)) => return Ok(true),
                httparse::Status::Complete((head, size)) => {
                    bytes.drain(..head);
                    self.left = usize::try_from(size).map_err(|_| invalid())?;
                    self.is_after = true;
                }
            }
        }
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

    #[test]
    fn chunks_are_decoded_wherever_they_are_cut() {
        let whole = b"2\r\no-\r\n3;x=y\r\nk\r\n\r\nA\r\n0123456789\r\n0\r\n";
        for at in 0..whole.len() {
            let (mut chunks, mut body, mut bytes) = (Chunks::default(), Vec::new(), Vec::new());
            bytes.extend_from_slice(&whole[..at]);
            let is_early = chunks.decode(&mut bytes, &mut body).unwrap();
            bytes.extend_from_slice(&whole[at..]);
            assert!(is_early || chunks.decode(&mut bytes, &mut body).unwrap(), "{at}");
            assert_eq!(body, b"o-k\r\n0123456789", "{at}");
        }
        let endless = format!("2;{}", "x".repeat(CHUNK_LINE_BYTES));
        for wrong in ["x\r\n", "2\r\nabc\r\n", "fffffffffffffffff\r\n", &endless] {
            let decoded = Chunks::default().decode(&mut wrong.as_bytes().to_vec(), &mut Vec::new());
            assert_eq!(decoded.unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong:?}");
        }
    }
}
