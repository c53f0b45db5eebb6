//! HTTP/1.1 without sockets: bytes in, a request or the error to answer with out; a response in, bytes out.
//!
//! Only what a page, its files and the opening of a websocket need: `GET` and `HEAD` without bodies.

mod request;
mod response;

pub(super) use self::request::{Malformed, Reader, Request, Upgrade};
pub(super) use self::response::{Body, Outgoing, Response};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Status {
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
