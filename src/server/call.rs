//! Calls: to publish or to watch over HTTP alone, with WHIP (RFC 9725) or WHEP. The caller is a player like others, but
//! has no websocket: the session lives as long as its media connection.

use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Connect, ConnectionId, ConnectionKey, Server, SessionKey, Stage};
use crate::game::Game;
use crate::media::{Media, is_media};
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::signaling::{self, Description, Fault, JoinRequest, ReplyTo};

/// A request to publish or to watch, see [`Server::handle_call`].
#[derive(Clone, Debug)]
pub struct Call {
    /// Whether the caller publishes. The game gets `{"publish": true}` as the data of the join, otherwise null.
    pub publishes: bool,
    /// The bearer token, which is needed where players need one.
    pub bearer: Option<String>,
    /// The SDP offer, with `m=audio` or `m=video` sections.
    pub offer: String,
}

impl<G: Game> Server<G> {
    /// Handles a call. A reply to `join` follows as [`Signal::Text`](super::Signal::Text): `sdp` is the answer, and
    /// `socketId` and `resume` name the session for [`Server::handle_hang_up`]. Report the end of the connection after
    /// it with [`Server::handle_disconnect`], which does not end the session.
    pub fn handle_call(&mut self, now: Instant, id: ConnectionId, connect: Connect, call: Call) {
        self.turn(now, |server| {
            server.open_connection(now, id, connect);
            let Some(key) = server.live_connection(id) else { return };
            let join = JoinRequest {
                bearer: call.bearer.map_or(Value::Null, Value::String),
                name: Some(if call.publishes { "WHIP" } else { "WHEP" }.to_owned()),
                data: if call.publishes { json!({ "publish": true }) } else { Value::Null },
                ..JoinRequest::default()
            };
            if let Err(fault) = server.check_call(&call.offer) {
                server.refuse_join(now, key, &ReplyTo::join(), None, "", &fault);
                return;
            }
            if let Some(connection) = server.connections.get_mut(key) {
                connection.call = Some(Description::from(call.offer));
            }
            server.handle_join(now, key, ReplyTo::join(), join);
        });
    }

    fn check_call(&self, offer: &str) -> Result<(), Fault> {
        if self.config.media == Media::Off {
            return Err(Fault::new(ErrorCode::BadSdp, "The server forwards no media: start it with --media=video."));
        }
        if !is_media(offer) {
            return Err(Fault::new(ErrorCode::BadSdp, "The body must be an offer with m=audio or m=video sections."));
        }
        Ok(())
    }

    /// Answers the offer of a call, whose session has just begun, and detaches the session from its connection.
    pub(super) fn answer_call(
        &mut self,
        now: Instant,
        carrier: ConnectionKey,
        key: SessionKey,
        reply_to: &ReplyTo,
        resume: &str,
    ) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer<'a> {
            sdp: Value,
            socket_id: &'a str,
            resume: &'a str,
        }
        let offer = self.connections.get_mut(carrier).and_then(|connection| connection.call.take());
        let Some(offer) = offer else { return };
        match self.answer_media(now, key, None, &offer) {
            Ok(sdp) => {
                let Some(session) = self.sessions.get_mut(key) else { return };
                session.connection = None;
                session.is_call = true;
                let text = signaling::granted(reply_to, &Answer { sdp, socket_id: &session.info.socket_id, resume });
                if let Some(connection) = self.connections.get_mut(carrier) {
                    connection.stage = Stage::Gone;
                }
                self.push_text(carrier, text.into());
            }
            Err(fault) => {
                self.refuse(carrier, reply_to, &fault);
                self.end_session(now, key, Leave::Closed, &fault.message);
            }
        }
    }

    /// Ends the session of a call. Returns `false` if there is none, or `resume` is not its token.
    pub fn handle_hang_up(&mut self, now: Instant, socket_id: &str, resume: &str) -> bool {
        let key = self.by_socket_id.get(socket_id).copied().filter(|&key| {
            self.sessions.get(key).is_some_and(|session| session.is_call && session.tokens.accept(resume))
        });
        if let Some(key) = key {
            self.turn(now, |server| server.end_session(now, key, Leave::Left, ""));
        }
        key.is_some()
    }
}
