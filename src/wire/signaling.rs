//! Signaling: JSON text messages on the websocket.
//!
//! A request is `{"a": action, "d": data}`, its reply `{"a": action + "R", "s": true, "d": …}` or
//! `{"a": action + "R", "s": false, "e": code, "m": sentence}`, an event `{"a": name, "d": data}`. An optional `"i"` of
//! a request comes back in its reply. Unknown fields are ignored. If there are too many joins, the refusal has
//! the code `rate_limited` and `retryAfter`, the time in ms after which to connect again. The server then closes the
//! websocket.
//!
//! | request | data | reply |
//! |---|---|---|
//! | `join` | `roomId` (optional on `/r/{room}`), `bearer` (see [`crate::auth`]), `name`, `data`, `version`, `sdp` (an offer, optional), `sparseHeartbeats` (`true` if two of three heartbeats may be skipped while the data channel delivers; optional) | `socketId`, `player`, `roomSize`, `sessions`, `tick`, `tickMs`, `inputSeq`, `resume` (a token), `welcome`, `sdp` (the answer) or `sdpError` (`e`, `m`), and `media` (`true` if the server forwards voices) |
//! | `reconnect` | `socketId`, `resume`, `bearer` (optional: the session is given only to its `sub`), `last` (number of the newest reliable message received; nothing after a reload), `sdp` (optional), `sparseHeartbeats` (optional) | the data of the reply to `join`, with a new `resume`, `last` (number of the newest reliable message that the server has received), and `reliableSeq` (number of the next one that the player gets) |
//! | `exchangeSdp` | `to` (`"server"` or another player's `socketId`), `sdp` | `sdp` (the answer), if `to` is `"server"` |
//! | `exchangeCandidate` | `to` (the same), `candidate` (any JSON) | – |
//! | `orientationChange` | `orientation`, `camera` (any JSON), for everybody else in the room | – |
//! | `leave` | – | – |
//!
//! | event | data |
//! |---|---|
//! | `eventJoin` | `player`, `socketId`, `userId`, `name`, `roomSize`; delayed if the announcements of a room exceed [`limits::PRESENCE_BYTES_PER_SECOND`], and omitted if the player has left by then |
//! | `eventLeave` | the same and `reason` |
//! | `eventRename` | as `eventJoin`, with the name from now on; also to the player; delayed in the same way, and omitted if another follows meanwhile |
//! | `eventRoomUsers` | `roomSize`, `sessions`: everybody in the room; follows the reply to `join` or `reconnect` |
//! | `eventExchangeSdp` | `from` (`socketId`, `userId`: another player of the room), `sdp` |
//! | `eventExchangeCandidate` | `from`, `candidate` |
//! | `eventOrientationChange` | `from`, `orientation`, `camera` |
//! | `eventChannelClosed` | `e`, `m`: the data channel was refused or lost; the game continues over the websocket |
//! | `eventVoice` | `slots`: the number of the player who speaks in each slot of the media connection, or `null`, in the order of its sections; when the connection opens, after an offer, and on each change |
//! | `eventMediaClosed` | `e`, `m`: the media connection was lost or closed |
//!
//! An offer to `"server"` with an `m=audio` section is one of a media connection, which is separate from the data
//! channel. Each section in which the client receives is a slot. An offer with the same ICE credentials changes the
//! connection, one with others replaces it.
//!
//! Messages between players are not interpreted by the server and stay in their room. They must not delay the messages
//! of the game: if the recipient's socket is slow, or there are too many messages, the sender is refused with
//! `rate_limited`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

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
    Reconnect(ReconnectRequest),
    ExchangeSdp { to: String, sdp: String },
    ExchangeCandidate { to: String, candidate: Value },
    OrientationChange(Orientation),
    Leave,
}

/// Data of `join`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct JoinRequest {
    pub(crate) room_id: Option<String>,
    pub(crate) bearer: Value,
    pub(crate) name: Option<String>,
    pub(crate) data: Value,
    pub(crate) version: Value,
    pub(crate) sdp: Option<String>,
    #[serde(deserialize_with = "flag")]
    pub(crate) sparse_heartbeats: bool,
}

/// Data of `reconnect`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReconnectRequest {
    pub(crate) socket_id: String,
    pub(crate) resume: String,
    #[serde(default)]
    pub(crate) bearer: Value,
    #[serde(default, deserialize_with = "small_number")]
    pub(crate) last: Option<u32>,
    #[serde(default)]
    pub(crate) version: Value,
    #[serde(default)]
    pub(crate) sdp: Option<String>,
    #[serde(default, deserialize_with = "flag")]
    pub(crate) sparse_heartbeats: bool,
}

/// `true`; anything else is `false`.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Value::deserialize(deserializer)? == Value::Bool(true))
}

fn small_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        value => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.map(Some).ok_or_else(|| D::Error::custom("`last` is not a number below 2³²"))
        }
    }
}

/// Data of `orientationChange`, and of its event.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Orientation {
    orientation: Value,
    camera: Value,
}

/// The action and ID of a request, for its reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    action: String,
    id: Option<String>,
}

impl ReplyTo {
    fn join() -> ReplyTo {
        ReplyTo { action: "join".to_owned(), id: None }
    }

    /// Replies to `join` if the action can't be read, because a connection has to join first.
    pub(crate) fn or_join(self) -> ReplyTo {
        if self.action.is_empty() { ReplyTo::join() } else { self }
    }
}

/// A refusal: a code and a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    #[serde(rename = "e")]
    pub(crate) code: ErrorCode,
    #[serde(rename = "m")]
    pub(crate) message: String,
    /// The time after which to try again.
    #[serde(skip)]
    pub(crate) retry_after: Option<Duration>,
}

impl Fault {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), retry_after: None }
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

/// Parses a request. If it is invalid, the refusal is sent to its action and ID as far as those can be read.
pub(crate) fn parse(text: &str) -> (ReplyTo, Result<Request, Fault>) {
    if text.len() > limits::RELIABLE_UP_BYTES {
        return (ReplyTo::default(), Err(too_large()));
    }
    let text = well_formed(text);
    let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(&text) else {
        let fault = Fault::new(ErrorCode::BadRequest, "A request must be a JSON object with a string `a`, the action.");
        return (ReplyTo::default(), Err(fault));
    };
    let id = envelope.i.map(RawValue::get).filter(|id| id.len() <= ECHO_CHARS).map(str::to_owned);
    let reply_to = ReplyTo { action: envelope.a.chars().take(ECHO_CHARS).collect(), id };
    let request = read(&envelope.a, envelope.d.map_or("{}", RawValue::get));
    (reply_to, request)
}

/// The refusal of a request past its limit.
pub(crate) fn too_large() -> Fault {
    Fault::new(ErrorCode::TooLarge, "A request must not exceed 16 KiB: send less data.")
}

/// JSON in which halves of surrogate pairs, which no text has, are U+FFFD: cut in two, an emoji is not worth a refusal.
fn well_formed(json: &str) -> Cow<'_, str> {
    const REPLACEMENT: &str = "fffd";
    let mut well_formed = Cow::Borrowed(json);
    let mut at = 0;
    while let Some(found) = json[at..].find('\\') {
        let escape = at + found;
        at = escape + 2;
        let Some(unit) = code_unit(json, escape) else {
            at = json.ceil_char_boundary(at);
            continue;
        };
        at = escape + ESCAPE_BYTES;
        if !matches!(unit, 0xd800..0xe000) {
            continue;
        }
        let is_pair = unit < 0xdc00 && matches!(code_unit(json, at), Some(0xdc00..0xe000));
        if is_pair {
            at += ESCAPE_BYTES;
        } else {
            well_formed.to_mut().replace_range(at - REPLACEMENT.len()..at, REPLACEMENT);
        }
    }
    well_formed
}

/// Bytes of an escape such as `\ud83e`.
const ESCAPE_BYTES: usize = 6;

/// The code unit of the escape at this position.
fn code_unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + ESCAPE_BYTES)?.strip_prefix("\\u")?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// Parses the data of a request. Of the parser's error only the field is used, because players read the message.
///
/// If serde_json finds a string instead of another type, it writes the string into its error, with every character
/// escaped: for a request that is all such a string, that costs more than all else that a server does with it. So the
/// type of the whole is looked at first; of the fields, those that are no strings are read as any value.
fn parse_data<'a, T: Deserialize<'a>>(action: &str, data: &'a str) -> Result<T, Fault> {
    let fault = |sentence: String| Fault::new(ErrorCode::BadRequest, sentence);
    if !data.starts_with('{') {
        return Err(fault(format!("The data of {action} is not an object.")));
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(data)).map_err(|error| {
        let field = match error.path().iter().next() {
            Some(Segment::Map { key }) => key.get(..).filter(|key| key.bytes().all(|b| b.is_ascii_alphanumeric())),
            _ => None,
        };
        match field.filter(|field| field.len() <= ECHO_CHARS) {
            Some(field) => fault(format!("The field {field} of {action} has the wrong type.")),
            None => fault(format!("A field of {action} is missing, occurs twice or has the wrong type.")),
        }
    })
}

fn read(action: &str, data: &str) -> Result<Request, Fault> {
    #[derive(Deserialize)]
    struct Exchange {
        to: String,
        #[serde(default)]
        sdp: String,
        #[serde(default)]
        candidate: Value,
    }
    match action {
        "join" => parse_data(action, data).map(Request::Join),
        "exchangeSdp" => parse_data(action, data).map(|Exchange { to, sdp, .. }| Request::ExchangeSdp { to, sdp }),
        "exchangeCandidate" => {
            let Exchange { to, candidate, .. } = parse_data(action, data)?;
            check_relayed(action, &[&candidate], limits::CANDIDATE_BYTES)?;
            Ok(Request::ExchangeCandidate { to, candidate })
        }
        "orientationChange" => {
            let change: Orientation = parse_data(action, data)?;
            check_relayed(action, &[&change.orientation, &change.camera], limits::ORIENTATION_BYTES)?;
            Ok(Request::OrientationChange(change))
        }
        "leave" => Ok(Request::Leave),
        "reconnect" => parse_data(action, data).map(Request::Reconnect),
        _ => Err(Fault::new(ErrorCode::UnknownAction, "This server does not support the action.")),
    }
}

/// Refuses data that the parser of the recipient could refuse.
fn check_relayed(action: &str, values: &[&Value], bytes: usize) -> Result<(), Fault> {
    let past = |what: String| Err(Fault::new(ErrorCode::TooLarge, format!("The data of {action} must not {what}.")));
    if values.iter().any(|value| depth(value) > limits::RELAYED_DEPTH) {
        return past(format!("be nested more than {} deep", limits::RELAYED_DEPTH));
    }
    if values.iter().map(|value| value.to_string().len()).sum::<usize>() > bytes {
        return past(format!("exceed {bytes} bytes"));
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Refuses a page that names another version than ours.
pub(crate) fn check_version(version: &Value) -> Result<(), Fault> {
    if version.as_u64().is_some_and(|version| version != VERSION) {
        let sentence = "The page and the server use different protocol versions: reload the page.";
        return Err(Fault::new(ErrorCode::VersionMismatch, sentence));
    }
    Ok(())
}

/// A player of the room, as announced to the others.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionInfo {
    pub(crate) player: u32,
    pub(crate) socket_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) name: String,
}

/// Reply data of `join` and `reconnect`.
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
    pub(crate) resume: &'a str,
    #[serde(flatten)]
    pub(crate) returns: Option<Return>,
    pub(crate) welcome: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sdp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sdp_error: Option<Fault>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) media: bool,
}

/// The fields that only the reply to `reconnect` has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Return {
    /// The newest reliable message that the server has had.
    pub(crate) last: u32,
    /// The number of the next one that the player gets.
    pub(crate) reliable_seq: u32,
}

/// Data of `eventJoin`, `eventRename` and `eventLeave`.
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

/// A message from one player to another.
#[derive(Debug, Serialize)]
pub(crate) struct Relayed<'a, T: Serialize> {
    from: Sender<'a>,
    #[serde(flatten)]
    data: T,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sender<'a> {
    socket_id: &'a str,
    user_id: Option<&'a str>,
}

impl<'a, T: Serialize> Relayed<'a, T> {
    pub(crate) fn new(from: &'a SessionInfo, data: T) -> Relayed<'a, T> {
        Relayed { from: Sender { socket_id: &from.socket_id, user_id: from.user_id.as_deref() }, data }
    }
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
    if let Some(wait) = fault.retry_after {
        text.push_str(&format!(",\"retryAfter\":{}", wait.as_nanos().div_ceil(1_000_000)));
    }
    text.push('}');
    text
}

/// The refusal of a `join` before it was read.
pub(crate) fn refused_join(fault: &Fault) -> String {
    refused(&ReplyTo::join(), fault)
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
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};
    use serde_json::json;

    use super::*;

    fn json_of(text: &str) -> Value {
        serde_json::from_str(text).expect("what is sent is JSON")
    }

    /// The text of a refusal costs no more than a request, whatever that contains.
    #[test]
    fn a_refusal_repeats_nothing_long() {
        let long = "\u{e000}".repeat(5_000);
        let values = [format!("\"{long}\""), format!("[\"{long}\"]"), format!("{{\"{long}\":1}}"), long.clone()];
        let mut requests: Vec<String> = values.to_vec();
        for value in &values {
            requests.push(format!("{{\"a\":{value}}}"));
            requests.push(format!("{{\"a\":\"z\",\"i\":{value}}}"));
            for action in ["join", "reconnect", "exchangeSdp", "exchangeCandidate", "orientationChange", "leave", "z"] {
                requests.push(format!("{{\"a\":\"{action}\",\"d\":{value}}}"));
                for field in ["roomId", "name", "sdp", "socketId", "resume", "last", "version", "to"] {
                    let data = format!(r#"{{"to":"x","socketId":"a","resume":"b","{field}":{value}}}"#);
                    requests.push(format!("{{\"a\":\"{action}\",\"d\":{data}}}"));
                }
            }
        }
        let mut refused = 0;
        for request in requests {
            let (reply_to, result) = parse(&request);
            let Err(fault) = result else { continue };
            refused += 1;
            let reply = super::refused(&reply_to, &fault);
            assert!(reply.len() < 1_000, "{} bytes for {request:.80}", reply.len());
        }
        assert!(refused > 100, "{refused}");
    }

    #[test]
    fn requests_are_read_or_refused_by_code() {
        fn check(text: &str, expected: Result<&str, ErrorCode>) {
            let (_, request) = parse(text);
            let shown = request.as_ref().map(|request| format!("{request:?}")).map_err(|fault| fault.code);
            let fits = match (&shown, expected) {
                (Ok(shown), Ok(part)) => shown.contains(part),
                (shown, expected) => shown.as_ref().err() == expected.as_ref().err(),
            };
            assert!(fits, "{:.80}: {shown:?} instead of {expected:?}", text);
            if let Err(fault) = &request {
                assert!(!fault.message.is_empty());
            }
        }
        let bad = Err(ErrorCode::BadRequest);
        check(r#"{"a":"join"}"#, Ok("room_id: None, bearer: Null, name: None"));
        check(r#"{"a":"join","d":{"roomId":"r","sdp":"v=0","data":{"x":[1]}}}"#, Ok(r#"sdp: Some("v=0")"#));
        check(r#"{"a":"join","d":{"platform":"web","bearer":{"deep":[1]}},"z":9}"#, Ok("room_id: None"));
        check(r#"{"d":{"name":"N"},"a":"join"}"#, Ok(r#"name: Some("N")"#));
        check(r#"{"a":"leave","d":7}"#, Ok("Leave"));
        check(r#"{"a":"exchangeSdp","d":{"to":"server","sdp":"v=0"}}"#, Ok(r#"to: "server", sdp: "v=0""#));
        check(r#"{"a":"exchangeCandidate","d":{"to":"server","candidate":{}}}"#, Ok("ExchangeCandidate"));
        check(r#"{"a":"exchangeCandidate","d":{"to":"x","candidate":null,"z":{}}}"#, Ok("candidate: Null"));
        check(r#"{"a":"exchangeCandidate","d":{"candidate":"c"}}"#, bad);
        check(r#"{"a":"exchangeCandidate","d":{"to":7,"candidate":"c"}}"#, bad);
        check(r#"{"a":"orientationChange","d":{"camera":"back","to":7}}"#, Ok(r#"Null, camera: String("back")"#));
        check(r#"{"a":"orientationChange"}"#, Ok("OrientationChange"));
        check(r#"{"a":"orientationChange","d":{"camera":1,"camera":2}}"#, bad);
        check(r#"{"a":"dance"}"#, Err(ErrorCode::UnknownAction));
        check(r#"{"a":"reconnect"}"#, bad);
        check(r#"{"a":"reconnect","d":{"socketId":"a","resume":"b","last":7}}"#, Ok(r#"last: Some(7)"#));
        check(r#"{"a":"joinR"}"#, Err(ErrorCode::UnknownAction));
        check(r#"{"a":"reconnect","d":{"socketId":"a","resume":"b","last":"7"}}"#, bad);
        check(r#"{"a":"reconnect","d":{"socketId":"a","resume":"b","last":4294967296}}"#, bad);

        for text in ["", "null", "[]", "7", "{", r#"{"a":7}"#, r#"{"d":{}}"#, r#"{"a":"join"} x"#, "\u{0}"] {
            check(text, bad);
        }
        for data in [
            "7",
            "null",
            r#""x""#,
            r#"{"name":7}"#,
            r#"{"roomId":["r"]}"#,
            r#"{"sdp":{}}"#,
            r#"{"name":"a","name":"b"}"#,
        ] {
            // An optional `d` may be left out as null.
            let expected = if data == "null" { Ok("room_id: None") } else { bad };
            check(&format!(r#"{{"a":"join","d":{data}}}"#), expected);
        }
        check(r#"{"a":"exchangeSdp","d":{"sdp":"v=0"}}"#, bad);
        check(r#"{"a":"join","a":"join"}"#, bad);

        let nested = |open: &str, close: &str, count: usize| open.repeat(count) + &close.repeat(count);
        check(&nested("[", "]", 8_000), bad);
        check(&format!(r#"{{"a":"join","d":{{"data":{}}}}}"#, nested("[", "]", 8_000)), bad);
        check(&format!(r#"{{"a":"join","d":{{"data":{}1{}}}}}"#, "{\"a\":".repeat(2_000), "}".repeat(2_000)), bad);
        check(&format!(r#"{{"a":"join","d":{{"unknown":{}}}}}"#, nested("[", "]", 8_000)), Ok("room_id: None"));

        let candidate = |value: &str| format!(r#"{{"a":"exchangeCandidate","d":{{"to":"x","candidate":{value}}}}}"#);
        let camera = |value: &str| format!(r#"{{"a":"orientationChange","d":{{"camera":{value}}}}}"#);
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        let too_large = Err(ErrorCode::TooLarge);
        check(&candidate(&nested("[", "]", 8)), Ok("ExchangeCandidate"));
        check(&candidate(&nested("[", "]", 9)), too_large);
        check(&candidate(&format!("{}1{}", "{\"a\":".repeat(9), "}".repeat(9))), too_large);
        check(&candidate(&nested("[", "]", 4_000)), bad);
        check(&candidate(&text(1_024)), Ok("ExchangeCandidate"));
        check(&candidate(&text(1_025)), too_large);
        check(&candidate(&format!("\"{}\"", "\u{1}".repeat(300))), bad);
        check(&candidate(&format!("\"{}\"", "\\u0001".repeat(300))), too_large);
        check(&camera(&nested("[", "]", 9)), too_large);
        check(&camera(&text(512 - "null".len())), Ok("OrientationChange"));
        check(&camera(&text(513 - "null".len())), too_large);

        let padded = |bytes: usize| format!("{:bytes$}", r#"{"a":"leave"}"#);
        check(&padded(16 * 1024), Ok("Leave"));
        check(&padded(16 * 1024 + 1), Err(ErrorCode::TooLarge));
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        for (text, name) in [
            (r"\ud83d\ude00", "\u{1f600}"),
            (r"\uD83D\uDE00", "\u{1f600}"),
            (r"\ud83d", "\u{fffd}"),
            (r"\ude00x", "\u{fffd}x"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\ud83dé", "\u{fffd}é"),
            (r"\ud83d\n", "\u{fffd}\n"),
            (r"\\ud83d", r"\ud83d"),
            (r"\\\ud83d", "\\\u{fffd}"),
            (r"\u00e9", "é"),
        ] {
            let (_, request) =
                parse(&format!(r#"{{"a":"join","d":{{"name":"{text}","data":{{"{text}":["{text}"]}}}}}}"#));
            let Ok(Request::Join(join)) = request else { panic!("{text}: {request:?}") };
            assert_eq!((join.name.as_deref(), &join.data), (Some(name), &json!({ name: [name] })), "{text}");
        }
        for text in [r"\ud8", r"\ud83", r"\", r"\ud83é", r"\é"] {
            let (_, request) = parse(&format!(r#"{{"a":"join","d":{{"name":"{text}"#));
            assert_eq!(request.expect_err("cut").code, ErrorCode::BadRequest, "{text}");
        }
    }

    #[test]
    fn a_refusal_has_no_word_of_a_parser() {
        for (text, sentence) in [
            ("{", "A request must be a JSON object with a string `a`, the action."),
            (r#"{"a":7}"#, "A request must be a JSON object with a string `a`, the action."),
            (r#"{"a":"join","d":7}"#, "The data of join is not an object."),
            (r#"{"a":"join","d":{"name":7}}"#, "The field name of join has the wrong type."),
            (r#"{"a":"join","d":{"roomId":{"x":1}}}"#, "The field roomId of join has the wrong type."),
            (
                r#"{"a":"reconnect","d":{"socketId":"a","resume":"b","last":-1}}"#,
                "The field last of reconnect has the wrong type.",
            ),
            (
                r#"{"a":"reconnect","d":{"socketId":"a"}}"#,
                "A field of reconnect is missing, occurs twice or has the wrong type.",
            ),
        ] {
            assert_eq!(parse(text).1.expect_err("bad").message, sentence, "{text}");
        }
    }

    #[test]
    fn a_reply_repeats_the_action_and_a_short_id() {
        fn check(id: &str, repeated: bool) {
            let (reply_to, request) = parse(&format!(r#"{{"a":"leave","i":{id}}}"#));
            request.unwrap();
            let granted = json_of(&granted(&reply_to, &json!({ "x": 1 })));
            let mut expected = json!({ "a": "leaveR", "s": true, "d": { "x": 1 } });
            if repeated {
                expected["i"] = json_of(id);
            }
            assert_eq!(granted, expected);
            let refused = json_of(&refused(&reply_to, &Fault::new(ErrorCode::RoomFull, "It's \"full\".")));
            let mut expected = json!({ "a": "leaveR", "s": false, "e": "room_full", "m": "It's \"full\"." });
            if repeated {
                expected["i"] = json_of(id);
            }
            assert_eq!(refused, expected);
        }
        check("7", true);
        check(r#""\u0000 \" x""#, true);
        check(r#"{"a": [1, 2]}"#, true);
        check(&format!("\"{}\"", "x".repeat(62)), true);
        check(&format!("\"{}\"", "x".repeat(63)), false);
        assert_eq!(json_of(&event("eventJoin", &json!(1))), json!({ "a": "eventJoin", "d": 1 }));
        let (reply_to, _) = parse(&format!(r#"{{"a":"{}"}}"#, "\\u0000".repeat(2_000)));
        let text = refused(&reply_to, &Fault::new(ErrorCode::UnknownAction, ""));
        assert!(text.len() < 500 && json_of(&text)["a"].as_str().is_some_and(|action| action.ends_with('R')));
    }

    #[test]
    fn room_names_are_short_and_plain() {
        let longest = "x".repeat(64);
        for name in ["a", "A-z_09", &longest] {
            assert_eq!(RoomName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", " ", "a/b", "..", "é", "a\n", &format!("{longest}x")] {
            assert_eq!(RoomName::parse(name), None, "{name:?}");
        }
    }

    proptest! {
        #![proptest_config(Config {
            rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::with_cases(512)
        })]

        #[test]
        fn any_text_gets_a_reply_that_is_json(
            text in "\\PC{0,64}", name in "\\PC{0,80}", at: prop::sample::Index,
            byte in prop::sample::select(b"{}[]\":,0x\\ ".to_vec()),
        ) {
            let good = [
                json!({ "a": "join", "d": { "name": name, "data": [1, { "x": null }], "sdp": text }, "i": [1] }),
                json!({ "a": "exchangeCandidate", "d": { "to": name, "candidate": { "candidate": text, "n": [0] } } }),
                json!({ "a": "orientationChange", "d": { "orientation": name, "camera": { "x": [0.5, text] } } }),
            ];
            let mut texts = vec![text];
            for good in good {
                let mut spoiled = good.to_string().into_bytes();
                let at = at.index(spoiled.len());
                spoiled[at] = byte;
                let spoiled = String::from_utf8_lossy(&spoiled).into_owned();
                texts.extend([spoiled[..spoiled.floor_char_boundary(at)].to_owned(), spoiled]);
            }
            let user_id = Some(name.clone());
            let session = SessionInfo { player: 1, socket_id: String::new(), user_id, name: String::new() };
            for text in texts {
                let (reply_to, request) = parse(&text);
                let reply = match request {
                    Ok(Request::ExchangeCandidate { candidate, .. }) => {
                        let event = event("e", &Relayed::new(&session, json!({ "candidate": candidate })));
                        prop_assert_eq!(&json_of(&event)["d"]["candidate"], &candidate);
                        granted(&reply_to, &json!({}))
                    }
                    Ok(Request::OrientationChange(change)) => event("e", &Relayed::new(&session, change)),
                    Ok(_) => granted(&reply_to, &json!({})),
                    Err(fault) => refused(&reply_to, &fault),
                };
                json_of(&reply);
            }
        }
    }
}
