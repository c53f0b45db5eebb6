//! The page and the API for operators, on a listener of their own. Each request of the API needs the token.

mod access;
mod audit;
mod profile;
mod views;

use std::any::type_name;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tungstenite::Bytes;

use self::access::Access;
pub(super) use self::access::Refusals;
pub use self::access::{Admin, AdminToken};
use self::audit::{Audit, Entry};
use self::profile::Profiler;
use self::views::{Overview, RoomView, millis};
use super::gate::Gate;
use super::http::{Body, Method, Request, Response, Status};
use super::live::Sources;
use super::metrics::{Tcp, memory};
#[cfg(feature = "cluster")]
use super::nodes;
use super::site::Site;
use super::{Handle, unix_time};
use crate::game::{Game, PlayerId};
use crate::limits::DRAIN_MAX;
use crate::server::Server;
use crate::wire::signaling::RoomName;

/// Characters of a message to players.
const TEXT_CHARS: usize = 1_000;
/// Bytes of the reason for which a player is removed or a room closed: what a close frame holds (RFC 6455 §5.5).
const REASON_BYTES: usize = 123;
const PROFILE_SECONDS: u64 = 5;
const PROFILE_SECONDS_MAX: u64 = 60;
const NOWHERE: &str = "There is nothing at this address: see the chapter on the admin page of the book.";
/// The cluster, of which the store is asked first.
pub(super) const CLUSTER: &str = "/api/cluster";
const ALONE: &str = "The server is not a node of a cluster: start it with --redis URL.";
const ALLOWED: &str = "GET, HEAD, POST";
const POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; \
    connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What operators see and do.
pub(super) struct Console {
    access: Access,
    audit: Audit,
    profiler: Profiler,
    handle: Handle,
}

/// What a request uses besides the console.
pub(super) struct Desk<'a, 'b, G: Game> {
    pub(super) now: Instant,
    pub(super) server: &'a mut Server<G>,
    pub(super) site: &'a Site,
    pub(super) sources: &'a mut Sources<'b>,
    pub(super) gate: &'a mut Gate,
    pub(super) tcp: Tcp,
}

/// A request that can't be fulfilled: the sentence says why.
struct Refused(Status, String);

type Answered = Result<Response, Refused>;

fn refused<T>(status: Status, sentence: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(status, sentence.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Close {
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kick {
    player: u32,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    text: String,
    player: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Broadcast {
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct For {
    seconds: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    on: bool,
}

impl Console {
    pub(super) fn new(token: AdminToken, now: Instant, handle: Handle) -> Console {
        Console { access: Access::new(token, now), audit: Audit::default(), profiler: Profiler::default(), handle }
    }

    /// Replaces the token, for later requests.
    pub(super) fn set_token(&mut self, token: AdminToken) {
        self.access.set_token(token);
    }

    pub(super) fn refusals(&self) -> Refusals {
        self.access.refusals()
    }

    pub(super) fn answer<G: Game>(
        &mut self,
        request: &Request,
        remote: SocketAddr,
        mut desk: Desk<'_, '_, G>,
    ) -> Response {
        if !request.path.starts_with("/api/") && !request.path.starts_with("/debug/") {
            let response =
                desk.site.admin_page(request).unwrap_or_else(|| Response::sentence(Status::NotFound, NOWHERE));
            return response.field("Content-Security-Policy", POLICY).field("Referrer-Policy", "no-referrer");
        }
        if let Err(response) = self.access.check(desk.now, remote, request.authorization.as_deref()) {
            return response;
        }
        self.fulfil(request, remote, &mut desk).unwrap_or_else(|Refused(status, sentence)| {
            let response = Response::sentence(status, &sentence);
            if status == Status::MethodNotAllowed { response.field("Allow", ALLOWED) } else { response }
        })
    }

    fn fulfil<G: Game>(&mut self, request: &Request, remote: SocketAddr, desk: &mut Desk<'_, '_, G>) -> Answered {
        let path: Vec<&str> = request.path.split('/').skip(1).collect();
        let room =
            |name: &str| RoomName::parse(name).map_or_else(|| refused(Status::NotFound, "There is no such room."), Ok);
        let Desk { now, server, sources, .. } = desk;
        let now = *now;
        match (request.method, path.as_slice()) {
            (Method::Get | Method::Head, ["api", "overview"]) => ok(&overview(now, server, sources)),
            (Method::Get | Method::Head, ["api", "rooms"]) => {
                ok(&server.room_reports(now).map(RoomView::from).collect::<Vec<_>>())
            }
            (Method::Get | Method::Head, ["api", "rooms", name]) => match views::room(now, server, &room(name)?) {
                Some(view) => ok(&view),
                None => refused(Status::NotFound, "There is no such room."),
            },
            (Method::Get | Method::Head, _) if request.path == CLUSTER => cluster(now, server),
            (Method::Get | Method::Head, ["api", "recordings"]) => recordings(server, sources),
            (Method::Get | Method::Head, ["api", "recordings", name]) => {
                let response = recording(name, sources)?;
                let mut entry = Entry::new(unix_time(), remote);
                (entry.action, entry.detail) = ("fetch", Some((*name).to_owned()));
                "done".clone_into(&mut entry.outcome);
                self.audit.note(entry);
                Ok(response)
            }
            (Method::Get | Method::Head, ["debug", "profile"]) => self.profiler.profile(),
            (Method::Get | Method::Head, ["debug", "loop"]) => {
                Ok(text("application/json", sources.trace.to_json(sources.began)))
            }
            (Method::Get | Method::Head, ["debug", "memory"]) => ok(&views::memory(server, memory())),
            (Method::Get | Method::Head, ["api", "metrics"]) => Ok(sources.metrics(now, server, desk.tcp)),
            (Method::Get | Method::Head, ["api", "audit"]) => ok(&self.audit.entries().collect::<Vec<_>>()),
            (Method::Post, path) => self.act(request, remote, path, desk),
            (Method::Get | Method::Head, _) => refused(Status::NotFound, NOWHERE),
            _ => refused(Status::MethodNotAllowed, "Only GET, HEAD and POST are allowed here."),
        }
    }

    /// Does what the request asks for, and notes that.
    fn act<G: Game>(
        &mut self,
        request: &Request,
        remote: SocketAddr,
        path: &[&str],
        desk: &mut Desk<'_, '_, G>,
    ) -> Answered {
        let mut entry = Entry::new(unix_time(), remote);
        let answered = match path {
            ["api", "rooms", name, "close"] => {
                entry.action = "close";
                self.close(&mut entry, name, body(request)?, desk)
            }
            ["api", "rooms", name, "kick"] => {
                entry.action = "kick";
                kick(&mut entry, name, body(request)?, desk)
            }
            ["api", "rooms", name, "message"] => {
                entry.action = "message";
                message(&mut entry, Some(name), body(request)?, desk)
            }
            ["api", "message"] => {
                entry.action = "message";
                let Broadcast { text } = body(request)?;
                message(&mut entry, None, Message { text, player: None }, desk)
            }
            ["api", "drain"] => {
                entry.action = "drain";
                self.drain(&mut entry, body(request)?, desk)
            }
            ["api", "reload"] => {
                entry.action = "reload";
                let Nothing {} = body(request)?;
                let Desk { server, sources, gate, .. } = desk;
                let reloaded = sources.reloader.reload(sources.tls, server, gate);
                if let Some(token) = reloaded.token {
                    self.set_token(token);
                }
                match reloaded.refusal {
                    None => ok(&json!({})),
                    Some(sentence) => refused(Status::Conflict, sentence),
                }
            }
            ["api", "recordings"] => {
                entry.action = "record";
                record(&mut entry, body(request)?, desk)
            }
            ["debug", "profile"] => {
                entry.action = "profile";
                let For { seconds } = body(request)?;
                let seconds = within(seconds.unwrap_or(PROFILE_SECONDS), 1, PROFILE_SECONDS_MAX)?;
                entry.detail = Some(format!("{seconds} s"));
                self.profiler.start(Duration::from_secs(seconds))
            }
            _ => return refused(Status::NotFound, NOWHERE),
        };
        entry.outcome = match &answered {
            Ok(_) => "done".to_owned(),
            Err(Refused(_, sentence)) => sentence.clone(),
        };
        self.audit.note(entry);
        answered
    }

    fn close<G: Game>(
        &mut self,
        entry: &mut Entry,
        name: &str,
        Close { message }: Close,
        desk: &mut Desk<'_, '_, G>,
    ) -> Answered {
        entry.room = Some(name.to_owned());
        let sentence = message.map_or(Ok("The operator has closed the room.".to_owned()), reason)?;
        entry.detail = Some(sentence.clone());
        match RoomName::parse(name).filter(|room| desk.server.has_room(room)) {
            Some(room) => {
                desk.server.handle_close_room(desk.now, &room, &sentence);
                ok(&json!({}))
            }
            None => refused(Status::NotFound, "There is no such room."),
        }
    }

    fn drain<G: Game>(&mut self, entry: &mut Entry, For { seconds }: For, desk: &mut Desk<'_, '_, G>) -> Answered {
        if self.handle.is_stopping() {
            return refused(Status::Conflict, "The server is about to stop already.");
        }
        let time = match seconds {
            Some(seconds) => Duration::from_secs(within(seconds, 0, DRAIN_MAX.as_secs())?),
            None => desk.sources.drain_time,
        };
        entry.detail = Some(format!("{} s", time.as_secs()));
        self.handle.drain_within(time);
        encoded(Status::Accepted, &json!({ "deadlineMs": millis(unix_time() + time) }))
    }
}

fn overview<G: Game>(now: Instant, server: &Server<G>, sources: &Sources<'_>) -> Overview {
    let draining = server.drains_until().map(|until| unix_time() + until.saturating_duration_since(now));
    let recording = sources.recordings.is_some().then(|| server.is_recording());
    Overview::new(now, server, type_name::<G>(), sources.started, draining, recording)
}

#[cfg(feature = "cluster")]
fn cluster<G: Game>(now: Instant, server: &Server<G>) -> Answered {
    nodes::view(now, server).map_or_else(|| refused(Status::NotFound, ALONE), |view| ok(&view))
}

#[cfg(not(feature = "cluster"))]
fn cluster<G: Game>(_: Instant, _: &Server<G>) -> Answered {
    refused(Status::NotFound, ALONE)
}

fn kick<G: Game>(
    entry: &mut Entry,
    name: &str,
    Kick { player, message }: Kick,
    desk: &mut Desk<'_, '_, G>,
) -> Answered {
    (entry.room, entry.player) = (Some(name.to_owned()), Some(player));
    let sentence = message.map_or(Ok("The operator has removed you from the room.".to_owned()), reason)?;
    entry.detail = Some(sentence.clone());
    match RoomName::parse(name) {
        Some(room) if desk.server.handle_kick(desk.now, &room, PlayerId(player), &sentence) => ok(&json!({})),
        _ => refused(Status::NotFound, "There is no such player."),
    }
}

fn message<G: Game>(
    entry: &mut Entry,
    name: Option<&str>,
    Message { text, player }: Message,
    desk: &mut Desk<'_, '_, G>,
) -> Answered {
    (entry.room, entry.player) = (name.map(str::to_owned), player);
    let text = short(text)?;
    entry.detail = Some(text.clone());
    let room = match name.map(RoomName::parse) {
        Some(None) => return refused(Status::NotFound, "There is no such room."),
        Some(Some(room)) if !desk.server.has_room(&room) => {
            return refused(Status::NotFound, "There is no such room.");
        }
        room => room.flatten(),
    };
    let recipients = desk.server.handle_notice(desk.now, room.as_ref(), player.map(PlayerId), &text);
    if player.is_some() && recipients == 0 {
        return refused(Status::NotFound, "There is no such player, or it is not connected.");
    }
    ok(&json!({ "recipients": recipients }))
}

fn record<G: Game>(entry: &mut Entry, Switch { on }: Switch, desk: &mut Desk<'_, '_, G>) -> Answered {
    entry.detail = Some(if on { "on" } else { "off" }.to_owned());
    if desk.sources.recordings.is_none() {
        return no_directory();
    }
    desk.server.set_recording(on);
    ok(&json!({ "on": on }))
}

fn recordings<G: Game>(server: &Server<G>, sources: &Sources<'_>) -> Answered {
    let Some(recordings) = sources.recordings else { return no_directory() };
    ok(&json!({ "on": server.is_recording(), "files": recordings.list() }))
}

fn recording(name: &str, sources: &Sources<'_>) -> Answered {
    let Some(recordings) = sources.recordings else { return no_directory() };
    let gone = || Refused(Status::NotFound, "There is no such recording.".to_owned());
    let path = recordings.path(name).ok_or_else(gone)?;
    let file = Body::file(Path::new(&path)).map_err(|_| gone())?;
    let disposition = format!("attachment; filename=\"{name}\"");
    Ok(Response::new(Status::Ok, "application/octet-stream", file).field("Content-Disposition", disposition))
}

fn no_directory<T>() -> Result<T, Refused> {
    refused(Status::Conflict, "The server has no directory for recordings: start it with --record DIR.")
}

fn ok(value: &impl Serialize) -> Answered {
    encoded(Status::Ok, value)
}

fn encoded(status: Status, value: &impl Serialize) -> Answered {
    match serde_json::to_vec(value) {
        Ok(json) => Ok(Response::new(status, "application/json", Body::Bytes(Bytes::from(json)))),
        Err(error) => refused(Status::InternalServerError, format!("The response can't be encoded: {error}.")),
    }
}

fn text(content_type: &'static str, text: String) -> Response {
    Response::new(Status::Ok, content_type, Body::Bytes(Bytes::from(text)))
}

/// The body of a request; an empty one is an empty object.
fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Refused> {
    let bytes = if request.body.is_empty() { b"{}" } else { request.body.as_slice() };
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return refused(Status::BadRequest, "The body must be a JSON object.");
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Refused(Status::BadRequest, format!("The body is not the JSON expected here: {error}.")))
}

fn within(value: u64, least: u64, most: u64) -> Result<u64, Refused> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    refused(Status::BadRequest, format!("The number of seconds must be from {least} to {most}."))
}

fn reason(text: String) -> Result<String, Refused> {
    match text.len() {
        0 => refused(Status::BadRequest, "The message is empty."),
        1..=REASON_BYTES => Ok(text),
        _ => refused(Status::BadRequest, format!("The message is longer than {REASON_BYTES} bytes.")),
    }
}

fn short(text: String) -> Result<String, Refused> {
    match text.chars().count() {
        0 => refused(Status::BadRequest, "The text is empty."),
        1..=TEXT_CHARS => Ok(text),
        _ => refused(Status::BadRequest, format!("The text is longer than {TEXT_CHARS} characters.")),
    }
}
