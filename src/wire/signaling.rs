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
//! | `join` | `roomId` (optional on `/r/{room}`), `bearer` (see [`crate::auth`]), `name`, `data`, `version`, `sdp` (an offer, optional), `platform`, `orientation`, `camera` (any JSON), `errors` (`"number"` for [`ErrorCode::number`] instead of names; optional), `sparseHeartbeats` (`true` if two of three heartbeats may be skipped while the data channel delivers; optional) | `socketId`, `player`, `roomSize`, `sessions`, `userMediaConfiguration`, `tick`, `tickMs`, `inputSeq`, `resume` (a token), `iceServers` (the server's addresses, as STUN servers), `welcome`, `sdp` (the answer) or `sdpError` (`e`, `m`), and `media` (`"audio"` if the server forwards voices, `"video"` if it forwards videos too) |
//! | `reconnect` | `socketId`, `resume`, `bearer` (optional: the session is given only to its `sub`), `last` (number of the newest reliable message received; nothing after a reload), `sdp`, `errors`, `sparseHeartbeats` (optional) | the data of the reply to `join`, with a new `resume`, `last` (number of the newest reliable message that the server has received), and `reliableSeq` (number of the next one that the player gets) |
//! | `seek` | `context` (the pairs are made of players with the same; 1 to 64 letters, digits, hyphens or underscores), `bearer`, `version`, `errors` (as in `join`) | `roomId`: a room for both, to `join` on this websocket or another; once there is another player |
//! | `exchangeSdp` | `to` (`"server"` or another player's `socketId`), `sdp` | `sdp` (the answer), if `to` is `"server"` |
//! | `exchangeCandidate` | `to` (the same), `candidate` (any JSON) | – |
//! | `orientationChange` | `orientation`, `camera` (any JSON), for everybody else in the room; one that is absent stays as it was | – |
//! | `eventCpu` | `cpuUsed` (a number, at least 0) | no reply |
//! | `eventFreeze` | any JSON object, for everybody else in the room | no reply |
//! | `leave` | – | – |
//!
//! In a cluster `join` and `seek` also have `ticket` (of the node that has sent the client), and `join` has `former`:
//! `socketId` and `resume` of the session that the player had in this room before.
//!
//! An SDP is a string, an object `{"type", "sdp"}` (`RTCSessionDescription`), or such an object as JSON text. The
//! server understands all three and answers in the form of the offer. `deviceName` and `networkType` are accepted and
//! not read.
//!
//! | event | data |
//! |---|---|
//! | `eventJoin` | `player`, `socketId`, `userId`, `name`, `roomSize`; delayed if the announcements of a room exceed [`limits::PRESENCE_BYTES_PER_SECOND`], and omitted if the player has left by then |
//! | `eventLeave` | the same, `roomId` and `reason` |
//! | `eventRename` | as `eventJoin`, with the name from now on; also to the player; delayed in the same way, and omitted if another follows meanwhile |
//! | `eventRoomUsers` | `roomSize`, `sessions`: everybody in the room; follows the reply to `join` or `reconnect` |
//! | `eventExchangeSdp` | `from` (`socketId`, `userId`: another player of the room), `sdp` |
//! | `eventExchangeCandidate` | `from`, `candidate` |
//! | `eventOrientationChange` | `from`, `platform`, `orientation`, `camera` |
//! | `eventFreeze` | `from`, and the fields that the player has sent; also from the server to those who get the video of a player when that stops |
//! | `eventUserMediaConfiguration` | `audio`, `video`: what the player may publish; when the media connection opens, and on each change |
//! | `eventRedirect` | `url`, `ticket`: instead of the reply to `join`, `reconnect` or `seek`; the client sends the request again, with the ticket, on a websocket to that URL. This one is closed with the code 4307 |
//! | `eventSeek` | nothing: the player who seeks still waits; every [`limits::HEARTBEAT_INTERVAL`] |
//! | `eventDrain` | `deadline`: the server stops after this time in ms; until then the room goes on, and the server opens no others |
//! | `eventChannelClosed` | `e`, `m`: the data channel was refused or lost; the game continues over the websocket |
//! | `eventMediaSlots` | `audio`, `video`: the number of the player in each slot of the media connection, or `null`, in the order of its sections of each kind; when the connection opens, after an offer, and on each change |
//! | `eventMediaClosed` | `e`, `m`: the media connection was lost or closed |
//!
//! An offer to `"server"` with an `m=audio` or `m=video` section is one of a media connection, which is separate from
//! the data channel. Each section in which the client receives is a slot. An offer with the same ICE credentials
//! changes the connection, one with others replaces it. Such an offer to a player who has a media connection is
//! answered by the server too, in `eventExchangeSdp` from that player: on this connection it forwards the media of that
//! player only.
//!
//! Messages between players are not interpreted by the server and stay in their room. They must not delay the messages
//! of the game: if the recipient's socket is slow, or there are too many messages, the sender is refused with
//! `rate_limited`.

mod description;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

pub(crate) use self::description::Description;
use crate::limits;
use crate::wire::codes::{ErrorCode, Leave};

/// The version of the protocol, as `version` in `join` names it.
pub const VERSION: u64 = 0;

/// A valid room name, or that of a pool of players who seek, which a cluster locates as a room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomName(String);

/// The beginning of the name of a pool. A colon is in the name of no room, so that nobody can join one of that name.
const POOL: &str = "seek:";

impl RoomName {
    /// `None` unless `name` matches `^[A-Za-z0-9_-]{1,64}$`.
    #[must_use]
    pub fn parse(name: &str) -> Option<RoomName> {
        let valid = (1..=limits::ROOM_NAME_CHARS).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        valid.then(|| RoomName(name.to_owned()))
    }

    /// The name of the pool of those who seek in a context.
    pub(crate) fn of_pool(context: &str) -> Option<RoomName> {
        RoomName::parse(context).map(|context| RoomName(format!("{POOL}{context}")))
    }

    pub(crate) fn is_pool(&self) -> bool {
        self.0.starts_with(POOL)
    }

    /// As [`RoomName::parse`], or a pool.
    #[cfg(all(feature = "cluster", target_os = "linux"))]
    pub(crate) fn parse_leased(name: &str) -> Option<RoomName> {
        name.strip_prefix(POOL).map_or_else(|| RoomName::parse(name), RoomName::of_pool)
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
    Join(Box<JoinRequest>),
    Reconnect(ReconnectRequest),
    Seek(SeekRequest),
    /// An offer to the server.
    Offer(Description),
    /// An SDP for another player, as it came.
    ExchangeSdp {
        to: String,
        sdp: Value,
    },
    ExchangeCandidate {
        to: String,
        candidate: Value,
    },
    OrientationChange(Orientation),
    /// A report of the client's CPU use.
    Cpu(f64),
    /// The fields of `eventFreeze`.
    Freeze(serde_json::Map<String, Value>),
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
    pub(crate) sdp: Option<Description>,
    #[serde(deserialize_with = "flag")]
    pub(crate) sparse_heartbeats: bool,
    pub(crate) platform: Value,
    pub(crate) orientation: Value,
    pub(crate) camera: Value,
    pub(crate) app_version: Value,
    /// The session that the player had before, at another node.
    #[serde(deserialize_with = "readable")]
    pub(crate) former: Option<Former>,
    /// Of the node that has sent the client here.
    #[serde(deserialize_with = "readable")]
    pub(crate) ticket: Option<String>,
}

/// The credentials of a session.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Former {
    pub(crate) socket_id: String,
    pub(crate) resume: String,
}

impl JoinRequest {
    /// Takes what it tells of the device.
    pub(crate) fn take_device(&mut self) -> Device {
        let Self { platform, orientation, camera, .. } = self;
        let [platform, orientation, camera] = [platform, orientation, camera].map(Value::take);
        let [version, app_version] = [&self.version, &self.app_version].map(short);
        Device { platform, orientation, camera, version, app_version }
    }
}

/// Data of `reconnect`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReconnectRequest {
    pub(crate) socket_id: String,
    /// [`parse`] refuses a request without.
    #[serde(default)]
    pub(crate) resume: Option<String>,
    #[serde(default)]
    pub(crate) bearer: Value,
    #[serde(default, deserialize_with = "small_number")]
    pub(crate) last: Option<u32>,
    #[serde(default)]
    pub(crate) version: Value,
    #[serde(default)]
    pub(crate) sdp: Option<Description>,
    #[serde(default, deserialize_with = "flag")]
    pub(crate) sparse_heartbeats: bool,
    /// Of the node that has sent the client here.
    #[serde(default, deserialize_with = "readable")]
    pub(crate) ticket: Option<String>,
}

/// Data of `seek`.
#[derive(Debug)]
pub(crate) struct SeekRequest {
    /// Players who seek in the same one are paired.
    pub(crate) pool: RoomName,
    pub(crate) bearer: Value,
    pub(crate) version: Value,
    /// Of the node that has sent the client here.
    pub(crate) ticket: Option<String>,
}

/// `true`; anything else is `false`.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Value::deserialize(deserializer)? == Value::Bool(true))
}

/// A value of the type; anything else counts as none.
fn readable<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

/// A number or a text that is short; anything else is null.
fn short(value: &Value) -> Value {
    let is_short = value.is_number() || value.as_str().is_some_and(|text| text.len() <= VERSION_BYTES);
    if is_short { value.clone() } else { Value::Null }
}

/// Any value that is there, also null.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
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

/// Data of `orientationChange`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Orientation {
    #[serde(deserialize_with = "present")]
    orientation: Option<Value>,
    #[serde(deserialize_with = "present")]
    camera: Option<Value>,
}

/// What a player has told of the device: data of `eventOrientationChange`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Device {
    platform: Value,
    orientation: Value,
    camera: Value,
    #[serde(skip)]
    version: Value,
    #[serde(skip)]
    app_version: Value,
}

impl Device {
    /// All of it, for [`Device::from_values`].
    pub(crate) fn values(&self) -> [&Value; 5] {
        [&self.platform, &self.orientation, &self.camera, &self.version, &self.app_version]
    }

    pub(crate) fn from_values([platform, orientation, camera, version, app_version]: [Value; 5]) -> Device {
        Device { platform, orientation, camera, version, app_version }
    }

    /// The platform, the version of the protocol, and that of the page.
    pub(crate) fn versions(&self) -> [&Value; 3] {
        [&self.platform, &self.version, &self.app_version]
    }

    /// Returns what it is after a change. What the change doesn't contain stays.
    pub(crate) fn changed(&self, change: Orientation) -> Device {
        let before = self.clone();
        Device {
            orientation: change.orientation.unwrap_or(before.orientation),
            camera: change.camera.unwrap_or(before.camera),
            ..before
        }
    }
}

/// What a player may publish, see [`Context::user_media`](crate::game::Context::user_media).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UserMedia {
    /// A voice.
    pub audio: bool,
    /// A video.
    pub video: bool,
}

/// How a client gets error codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Codes {
    /// [`ErrorCode::as_str`].
    #[default]
    Names,
    /// [`ErrorCode::number`].
    Numbers,
}

impl Codes {
    /// The `errors` of the data of `join`, `reconnect` or `seek`, however little else of it can be read.
    fn of_data(data: &str) -> Option<Codes> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Asked {
            errors: Value,
        }
        let asked: Asked = data.starts_with('{').then(|| serde_json::from_str(data).ok())??;
        (asked.errors == "number").then_some(Codes::Numbers)
    }

    fn shown(self, code: ErrorCode) -> Value {
        match self {
            Codes::Names => code.as_str().into(),
            Codes::Numbers => code.number().into(),
        }
    }
}

/// The action and ID of a request, for its reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    action: String,
    id: Option<String>,
    /// How the request asks for error codes, if it does.
    pub(crate) codes: Option<Codes>,
}

impl ReplyTo {
    pub(crate) fn join() -> ReplyTo {
        ReplyTo { action: "join".to_owned(), ..ReplyTo::default() }
    }

    /// Returns whether the request gets no reply because it is an event.
    pub(crate) fn is_event(&self) -> bool {
        matches!(self.action.as_str(), CPU | FREEZE)
    }

    /// Replies to `join` if the action can't be read, because a connection has to join first.
    pub(crate) fn or_join(self) -> ReplyTo {
        if self.action.is_empty() { ReplyTo::join() } else { self }
    }
}

/// The events that a client sends.
const CPU: &str = "eventCpu";
pub(crate) const FREEZE: &str = "eventFreeze";

/// A refusal: a code and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// The time after which to try again.
    pub(crate) retry_after: Option<Duration>,
}

/// A [`Fault`] as a client gets it.
#[derive(Debug, Serialize)]
pub(crate) struct ShownFault {
    e: Value,
    m: String,
}

impl Fault {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), retry_after: None }
    }

    pub(crate) fn shown(self, codes: Codes) -> ShownFault {
        ShownFault { e: codes.shown(self.code), m: self.message }
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
/// Bytes of the version of a page that are kept.
const VERSION_BYTES: usize = 64;

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
    let data = envelope.d.map_or("{}", RawValue::get);
    let codes = matches!(envelope.a.as_str(), "join" | "reconnect" | "seek").then(|| Codes::of_data(data)).flatten();
    let reply_to = ReplyTo { action: envelope.a.chars().take(ECHO_CHARS).collect(), id, codes };
    let request = read(&envelope.a, data);
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
        sdp: Value,
        #[serde(default)]
        candidate: Value,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Seek {
        context: Value,
        bearer: Value,
        version: Value,
        #[serde(deserialize_with = "readable")]
        ticket: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Cpu {
        cpu_used: Value,
    }
    match action {
        "join" => {
            let join: JoinRequest = parse_data(action, data)?;
            check_relayed(action, &[&join.platform, &join.orientation, &join.camera], limits::ORIENTATION_BYTES)?;
            Ok(Request::Join(Box::new(join)))
        }
        "exchangeSdp" => {
            let Exchange { to, sdp, .. } = parse_data(action, data)?;
            let wrong = || Fault::new(ErrorCode::BadRequest, "The field sdp of exchangeSdp has the wrong type.");
            if to == "server" {
                return Description::of(&sdp).map(Request::Offer).ok_or_else(wrong);
            }
            match &sdp {
                Value::String(text) => check_size(action, text.len(), limits::MEDIA_SDP_BYTES)?,
                Value::Object(_) => check_relayed(action, &[&sdp], limits::MEDIA_SDP_BYTES)?,
                _ => return Err(wrong()),
            }
            Ok(Request::ExchangeSdp { to, sdp })
        }
        "exchangeCandidate" => {
            let Exchange { to, candidate, .. } = parse_data(action, data)?;
            check_relayed(action, &[&candidate], limits::CANDIDATE_BYTES)?;
            Ok(Request::ExchangeCandidate { to, candidate })
        }
        "orientationChange" => {
            let change: Orientation = parse_data(action, data)?;
            let [orientation, camera] =
                [&change.orientation, &change.camera].map(|value| value.as_ref().unwrap_or(&Value::Null));
            check_relayed(action, &[orientation, camera], limits::ORIENTATION_BYTES)?;
            Ok(Request::OrientationChange(change))
        }
        CPU => {
            let Cpu { cpu_used } = parse_data(action, data)?;
            let used = cpu_used.as_f64().filter(|used| used.is_finite() && *used >= 0.0);
            let wrong = || Fault::new(ErrorCode::BadRequest, "The field cpuUsed of eventCpu is not a number from 0.");
            used.map(Request::Cpu).ok_or_else(wrong)
        }
        FREEZE => {
            let mut fields: serde_json::Map<String, Value> = parse_data(action, data)?;
            fields.remove("from");
            let fields = Value::Object(fields);
            check_relayed(action, &[&fields], limits::FREEZE_BYTES)?;
            let Value::Object(fields) = fields else { unreachable!("it was made above") };
            Ok(Request::Freeze(fields))
        }
        "leave" => Ok(Request::Leave),
        "seek" => {
            let Seek { context, bearer, version, ticket } = parse_data(action, data)?;
            let wrong = "The context of seek has 1 to 64 letters, digits, hyphens or underscores.";
            let pool = context.as_str().and_then(RoomName::of_pool);
            let pool = pool.ok_or_else(|| Fault::new(ErrorCode::BadRequest, wrong))?;
            Ok(Request::Seek(SeekRequest { pool, bearer, version, ticket }))
        }
        "reconnect" => {
            let request: ReconnectRequest = parse_data(action, data)?;
            if request.resume.is_none() {
                let sentence = "The request has no resume token: send `resume` of the last reply, or join again.";
                return Err(Fault::new(ErrorCode::ResumeRequired, sentence));
            }
            Ok(Request::Reconnect(request))
        }
        _ => Err(Fault::new(ErrorCode::UnknownAction, "This server does not support the action.")),
    }
}

/// Refuses data that the parser of the recipient could refuse.
fn check_relayed(action: &str, values: &[&Value], bytes: usize) -> Result<(), Fault> {
    if values.iter().any(|value| depth(value) > limits::RELAYED_DEPTH) {
        let sentence = format!("The data of {action} must not be nested more than {} deep.", limits::RELAYED_DEPTH);
        return Err(Fault::new(ErrorCode::TooLarge, sentence));
    }
    check_size(action, values.iter().map(|value| value.to_string().len()).sum(), bytes)
}

fn check_size(action: &str, bytes: usize, most: usize) -> Result<(), Fault> {
    if bytes > most {
        return Err(Fault::new(ErrorCode::TooLarge, format!("The data of {action} must not exceed {most} bytes.")));
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
    pub(crate) user_media_configuration: UserMedia,
    pub(crate) tick: u32,
    pub(crate) tick_ms: f64,
    pub(crate) input_seq: u32,
    pub(crate) resume: &'a str,
    #[serde(flatten)]
    pub(crate) returns: Option<Return>,
    pub(crate) ice_servers: Vec<IceServer>,
    pub(crate) welcome: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sdp: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sdp_error: Option<ShownFault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) media: Option<&'static str>,
}

/// An `RTCIceServer`: the STUN server at one of the server's addresses.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct IceServer {
    /// RFC 7064.
    urls: String,
}

impl IceServer {
    pub(crate) fn stun(address: SocketAddr) -> IceServer {
        IceServer { urls: format!("stun:{address}") }
    }
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
    /// The fields that only `eventLeave` has.
    #[serde(flatten)]
    pub(crate) leave: Option<LeaveDetails<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeaveDetails<'a> {
    pub(crate) room_id: &'a str,
    pub(crate) reason: Leave,
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
pub(crate) fn refused(reply_to: &ReplyTo, fault: &Fault, codes: Codes) -> String {
    let mut text = String::from("{\"a\":");
    text.push_str(&quoted(&format!("{}R", reply_to.action)));
    push_id(&mut text, reply_to.id.as_deref());
    text.push_str(",\"s\":false,\"e\":");
    text.push_str(&codes.shown(fault.code).to_string());
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
    refused(&ReplyTo::join(), fault, Codes::default())
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
mod tests;
