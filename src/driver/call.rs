//! Calls (WHIP, RFC 9725, and WHEP) as HTTP requests, and the responses from the decisions of the core.

use serde::Deserialize;

use super::http::{Body, Method, Request, Response, Status};
use super::site::{Answer, not_found};
use crate::server::Signal;
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::{self, Fault, RoomName};

/// The answer to a request at the address of calls: `POST /whip/{room}` and `POST /whep/{room}`, and `DELETE` at the
/// address that its answer names. Candidates in a `PATCH` are not needed: the server learns them from checks (RFC 9725
/// §4.3 lets it refuse).
pub(super) fn answer(request: &Request) -> Option<Answer> {
    let (publishes, path) = match request.path.strip_prefix("/whip/") {
        Some(path) => (true, path),
        None => (false, request.path.strip_prefix("/whep/")?),
    };
    let (room, session) = path.split_once('/').map_or((path, None), |(room, session)| (room, Some(session)));
    let Some(room) = RoomName::parse(room) else {
        let sentence = "A room's name has 1 to 64 characters: letters, digits, _ and -.";
        return Some(Answer::Response(not_found(sentence)));
    };
    let allowed = if session.is_some() { "DELETE, OPTIONS" } else { "POST, OPTIONS" };
    let refuse = |status, sentence| Answer::Response(Response::sentence(status, sentence).field("Allow", allowed));
    let media_type = request.content_type.as_deref().map(|of| of.split(';').next().unwrap_or_default().trim());
    Some(match (request.method, session) {
        (Method::Options, _) => {
            let response = Response::empty(Status::NoContent).field("Allow", allowed);
            Answer::Response(response.field("Accept-Post", "application/sdp"))
        }
        (Method::Post, None) if !media_type.is_some_and(|of| of.eq_ignore_ascii_case("application/sdp")) => {
            refuse(Status::UnsupportedMediaType, "The body must be an SDP offer: set Content-Type to application/sdp.")
        }
        (Method::Post, None) => Answer::Call { room, publishes },
        (Method::Delete, Some(session)) => match session.split_once('.') {
            Some((socket_id, resume)) => Answer::HangUp { socket_id: socket_id.to_owned(), resume: resume.to_owned() },
            None => Answer::Response(not_found("There is no such session.")),
        },
        _ => refuse(
            Status::MethodNotAllowed,
            "Here an SDP offer is sent by POST, and the session ends by DELETE at the Location of the answer.",
        ),
    })
}

#[derive(Deserialize)]
struct Decision {
    #[serde(rename = "d")]
    answer: Option<Agreed>,
    #[serde(rename = "e", default)]
    code: String,
    #[serde(rename = "m", default)]
    sentence: String,
    #[serde(rename = "retryAfter")]
    retry_after_ms: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Agreed {
    sdp: String,
    socket_id: String,
    resume: String,
}

/// The decision in a message of the core: its reply to `join`.
pub(super) fn decision(signal: Signal) -> Option<String> {
    match signal {
        Signal::Text(reply) => Some(reply),
        // Without a reply it closes a connection only when the server stops.
        Signal::Close { reason, .. } => Some(signaling::refused_join(&Fault::new(ErrorCode::Draining, reason))),
        _ => None,
    }
}

/// The response for a reply to `join`.
pub(super) fn response(decision: &str, room: &RoomName) -> Response {
    let Ok(decision) = serde_json::from_str::<Decision>(decision) else {
        return Response::sentence(Status::InternalServerError, "The server could not decide on the call.");
    };
    if let Some(Agreed { sdp, socket_id, resume }) = decision.answer {
        // Relative to the address of the request, so that a proxy may serve it under a prefix.
        let location = format!("{}/{socket_id}.{resume}", room.as_str());
        let body = Body::Bytes(sdp.into_bytes().into());
        return Response::new(Status::Created, "application/sdp", body).field("Location", location);
    }
    let status = match ErrorCode::parse(&decision.code) {
        Some(ErrorCode::Unauthorized | ErrorCode::Expired) => Status::Unauthorized,
        Some(ErrorCode::Refused | ErrorCode::RoomLocked) => Status::Forbidden,
        Some(ErrorCode::RateLimited) => Status::TooManyRequests,
        Some(ErrorCode::RoomFull | ErrorCode::Draining) => Status::ServiceUnavailable,
        Some(ErrorCode::Internal) => Status::InternalServerError,
        _ => Status::BadRequest,
    };
    let response = Response::sentence(status, &decision.sentence);
    match decision.retry_after_ms {
        Some(wait) => response.field("Retry-After", format!("{:.0}", (wait / 1000.0).ceil())),
        None => response,
    }
}
