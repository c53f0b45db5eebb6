//! Signaling: JSON text messages on the websocket.
//!
//! A request is `{"a": action, "d": data}`, its reply `{"a": action + "R", "s": true, "d": …}` or
//! `{"a": action + "R", "s": false, "e": code, "m": sentence}`, an event `{"a": name, "d": data}`. An optional `"i"` of
//! a request comes back in its reply. Unknown fields are ignored.
//!
//! | request | data | reply |
//! |---|---|---|
//! | `join` | `roomId` (optional on `/r/{room}`), `name`, `data`, `version`, `sdp` (an offer, optional) | `socketId`, `player`, `roomSize`, `sessions`, `tick`, `tickMs`, `inputSeq`, `welcome`, and `sdp` (the answer) or `sdpError` (`e`, `m`) |
//! | `exchangeSdp` | `to`, `sdp` | `sdp`, where `to` is `"server"` |
//! | `exchangeCandidate` | `to`, `candidate` | – |
//! | `leave` | – | – |
//!
//! | event | data |
//! |---|---|
//! | `eventJoin` | `player`, `socketId`, `userId`, `name`, `roomSize` |
//! | `eventLeave` | the same and `reason` |
//! | `eventRoomUsers` | `roomSize`, `sessions`; at most once a second |
//! | `eventChannelClosed` | `e`, `m`: the data channel was refused or lost, and the game goes on over the websocket |

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::limits;
use crate::wire::codes::{ErrorCode, Leave};

/// The version of the protocol, as `version` in `join` names it.
pub const VERSION: u64 = 0;

/// A valid room name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomName(String);

impl RoomName {
    /// `None` unless `name` matches `^[A-Za-z0-9_-]{1,64}$`.
    #[must_use]
    pub fn parse(name: &str) -> Option<RoomName> {
        let valid = (1..=limits::ROOM_NAME_CHARS).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        valid.then(|| RoomName(name.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A request, read.
#[derive(Debug)]
pub(crate) enum Request {
    Join(JoinRequest),
    ExchangeSdp { to: String, sdp: String },
    ExchangeCandidate { to: String },
    Leave,
}

/// Data of `join`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JoinRequest {
    pub(crate) room_id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) data: serde_json::Value,
    pub(crate) version: serde_json::Value,
    pub(crate) sdp: Option<String>,
}

/// Where the reply to a request goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    action: String,
    id: Option<String>,
}

/// A refusal, by code and in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    #[serde(rename = "e")]
    pub(crate) code: ErrorCode,
    #[serde(rename = "m")]
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into() }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    a: String,
    #[serde(borrow)]
    d: Option<&'a RawValue>,
    #[serde(borrow)]
    i: Option<&'a RawValue>,
}

/// Characters of an action or an `i` that are repeated in a reply.
const ECHO_CHARS: usize = 64;

/// Reads a request. Where it can't be read, there may still be somewhere to send the refusal.
pub(crate) fn parse(text: &str) -> (ReplyTo, Result<Request, Fault>) {
    if text.len() > limits::RELIABLE_UP_BYTES {
        let fault = Fault::new(ErrorCode::TooLarge, "A request may have 16 KiB.");
        return (ReplyTo::default(), Err(fault));
    }
    let envelope: Envelope<'_> = match serde_json::from_str(text) {
        Ok(envelope) => envelope,
        Err(error) => {
            let fault = Fault::new(ErrorCode::BadRequest, format!("This is no request: {error}."));
            return (ReplyTo::default(), Err(fault));
        }
    };
    let id = envelope.i.map(RawValue::get).filter(|id| id.len() <= ECHO_CHARS).map(str::to_owned);
    let reply_to = ReplyTo { action: envelope.a.chars().take(ECHO_CHARS).collect(), id };
    let request = read(&envelope.a, envelope.d.map_or("{}", RawValue::get));
    (reply_to, request)
}

fn read(action: &str, data: &str) -> Result<Request, Fault> {
    #[derive(Deserialize)]
    struct Exchange {
        to: String,
        #[serde(default)]
        sdp: String,
    }
    let bad = |error: serde_json::Error| {
        Fault::new(ErrorCode::BadRequest, format!("The data of {action} can't be read: {error}."))
    };
    match action {
        "join" => serde_json::from_str(data).map(Request::Join).map_err(bad),
        "exchangeSdp" => {
            serde_json::from_str(data).map(|Exchange { to, sdp }| Request::ExchangeSdp { to, sdp }).map_err(bad)
        }
        "exchangeCandidate" => {
            serde_json::from_str(data).map(|Exchange { to, .. }| Request::ExchangeCandidate { to }).map_err(bad)
        }
        "leave" => Ok(Request::Leave),
        "reconnect" | "orientationChange" => {
            Err(Fault::new(ErrorCode::UnknownAction, format!("This server doesn't have {action} yet.")))
        }
        _ => Err(Fault::new(ErrorCode::UnknownAction, "This server doesn't have such an action.")),
    }
}

/// A player of the room, as others are told of them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionInfo {
    pub(crate) player: u32,
    pub(crate) socket_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) name: String,
}

/// Reply data of `join`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JoinReply<'a> {
    pub(crate) socket_id: &'a str,
    pub(crate) player: u32,
    pub(crate) room_size: usize,
    pub(crate) sessions: Vec<&'a SessionInfo>,
    pub(crate) tick: u32,
    pub(crate) tick_ms: f64,
    pub(crate) input_seq: u32,
    pub(crate) welcome: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sdp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sdp_error: Option<Fault>,
}

/// Data of `eventJoin` and `eventLeave`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Presence<'a> {
    #[serde(flatten)]
    pub(crate) session: &'a SessionInfo,
    pub(crate) room_size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Leave>,
}

/// Data of `eventRoomUsers`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomUsers<'a> {
    pub(crate) room_size: usize,
    pub(crate) sessions: Vec<&'a SessionInfo>,
}

/// A reply that grants.
pub(crate) fn granted(reply_to: &ReplyTo, data: &impl Serialize) -> String {
    message(&format!("{}R", reply_to.action), reply_to.id.as_deref(), ",\"s\":true", data)
}

/// A reply that refuses.
pub(crate) fn refused(reply_to: &ReplyTo, fault: &Fault) -> String {
    let mut text = String::from("{\"a\":");
    text.push_str(&quoted(&format!("{}R", reply_to.action)));
    push_id(&mut text, reply_to.id.as_deref());
    text.push_str(",\"s\":false,\"e\":");
    text.push_str(&quoted(fault.code.as_str()));
    text.push_str(",\"m\":");
    text.push_str(&quoted(&fault.message));
    text.push('}');
    text
}

/// An event.
pub(crate) fn event(name: &str, data: &impl Serialize) -> String {
    message(name, None, "", data)
}

fn message(name: &str, id: Option<&str>, granted: &str, data: &impl Serialize) -> String {
    let mut text = String::from("{\"a\":");
    text.push_str(&quoted(name));
    push_id(&mut text, id);
    text.push_str(granted);
    text.push_str(",\"d\":");
    text.push_str(&serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned()));
    text.push('}');
    text
}

fn push_id(text: &mut String, id: Option<&str>) {
    if let Some(id) = id {
        text.push_str(",\"i\":");
        text.push_str(id);
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A name as it is shown: printable, at most 32 characters, never empty.
pub(crate) fn shown_name(name: Option<&str>) -> String {
    // What turns the direction of the text around it, and what takes no room.
    let printable = |c: &char| {
        !c.is_control()
            && !matches!(*c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}')
            && !matches!(*c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            && !matches!(*c, '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e007f}')
    };
    let shown: String = name.unwrap_or_default().chars().filter(printable).take(limits::PLAYER_NAME_CHARS).collect();
    let shown = shown.trim();
    if shown.is_empty() { "player".to_owned() } else { shown.to_owned() }
}
