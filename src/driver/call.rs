//! The HTTP responses to calls (WHIP, RFC 9725, and WHEP), from the decisions of the core.

use serde::Deserialize;

use super::http::{Body, Response, Status};
use crate::wire::codes::ErrorCode;
use crate::wire::signaling::RoomName;

#[derive(Deserialize)]
struct Decision {
    #[serde(rename = "d")]
    answer: Option<Answer>,
    #[serde(rename = "e", default)]
    code: String,
    #[serde(rename = "m", default)]
    sentence: String,
    #[serde(rename = "retryAfter")]
    retry_after_ms: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    sdp: String,
    socket_id: String,
    resume: String,
}

/// The response for a reply to `join`.
pub(super) fn response(decision: &str, room: &RoomName) -> Response {
    let Ok(decision) = serde_json::from_str::<Decision>(decision) else {
        return Response::sentence(Status::InternalServerError, "The server could not decide on the call.");
    };
    if let Some(Answer { sdp, socket_id, resume }) = decision.answer {
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
