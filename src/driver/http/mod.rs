//! HTTP/1.1 without sockets: parses requests, and encodes responses.
//!
//! Supports only what pages, files and websockets need: `GET`, `HEAD` and `OPTIONS` without bodies.

mod conditional;
mod negotiate;
mod request;
mod response;

#[cfg(test)]
pub(super) use self::conditional::Conditions;
pub(super) use self::negotiate::Coding;
pub(super) use self::request::{Malformed, Method, Reader, Request, Sender, Upgrade};
pub(super) use self::response::{Body, Outgoing, Representation, Response};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::driver) enum Status {
    SwitchingProtocols = 101,
    Ok = 200,
    Accepted = 202,
    NoContent = 204,
    PartialContent = 206,
    MovedPermanently = 301,
    Found = 302,
    NotModified = 304,
    BadRequest = 400,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    NotAcceptable = 406,
    RequestTimeout = 408,
    PreconditionFailed = 412,
    ContentTooLarge = 413,
    RangeNotSatisfiable = 416,
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
            Status::Accepted => "Accepted",
            Status::NoContent => "No Content",
            Status::PartialContent => "Partial Content",
            Status::MovedPermanently => "Moved Permanently",
            Status::Found => "Found",
            Status::NotModified => "Not Modified",
            Status::BadRequest => "Bad Request",
            Status::Forbidden => "Forbidden",
            Status::NotFound => "Not Found",
            Status::MethodNotAllowed => "Method Not Allowed",
            Status::NotAcceptable => "Not Acceptable",
            Status::RequestTimeout => "Request Timeout",
            Status::PreconditionFailed => "Precondition Failed",
            Status::ContentTooLarge => "Content Too Large",
            Status::RangeNotSatisfiable => "Range Not Satisfiable",
            Status::UpgradeRequired => "Upgrade Required",
            Status::TooManyRequests => "Too Many Requests",
            Status::HeadTooLarge => "Request Header Fields Too Large",
            Status::InternalServerError => "Internal Server Error",
            Status::ServiceUnavailable => "Service Unavailable",
            Status::VersionNotSupported => "HTTP Version Not Supported",
        }
    }
}
