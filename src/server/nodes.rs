//! A server among others: players come to the node that has their room, and keep their identity where they come back.
//!
//! A request to join is checked first, then the room is located; the hooks and the game decide only at the room's node.
//! Where that is another one, the client is redirected: it opens a websocket there and sends the same request with a
//! ticket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::connection::{Asking, Stage};
use super::rooms::HostedRoom;
use super::seek;
use super::tokens::{self, Tokens};
use super::{ConnectionKey, RoomKey, RoomStatus, Server, SessionKey, unix_time_at};
use crate::cluster::store::{Command, ListedRoom, Reply, SessionUpdate, Snapshot, StoredSession};
use crate::cluster::{About, Cluster, Event, Location, Request, Unlocated};
use crate::game::Game;
use crate::limits::{LOOKUP_TIMEOUT, SESSION_KEPT};
use crate::wire::codes::{CLOSE_REDIRECTED, ErrorCode, Leave};
use crate::wire::signaling::{self, Fault, Former, ReconnectRequest, ReplyTo, RoomName};

/// The event that sends a client to another node.
const REDIRECT: &str = "eventRedirect";
/// The name of the parameter of a URL with which another node vouches for the origin of the page.
pub const PASS: &str = "pass";
/// How often the session of a player is saved again, who plays on.
const SESSION_INTERVAL: Duration = SESSION_KEPT.checked_div(3).expect("3 is not 0");
/// After which time a client whose request could not be placed tries again.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The room is located, or not, within [`LOOKUP_TIMEOUT`]. Only a defect takes longer.
const PLACING_TIMEOUT: Duration = LOOKUP_TIMEOUT.saturating_add(Duration::from_secs(2));

/// Whether the header of this name is needed to send a player to another node.
pub(super) fn is_needed(header: &str) -> bool {
    matches!(header, "host" | "origin" | "x-forwarded-proto")
}

#[derive(Serialize)]
struct Redirect<'a> {
    url: &'a str,
    ticket: &'a str,
}

/// A request to return that waits for the store.
pub(super) struct Returning {
    request: ReconnectRequest,
    reply_to: ReplyTo,
    /// The session, once it is found.
    found: Option<StoredSession>,
}

/// A request that waits until its room is located.
pub(super) enum Placing {
    Join(Box<Asking>),
    Return(Box<Returning>),
    /// Until the pool is located.
    Seek(Box<seek::Asked>),
}

impl<G: Game> Server<G> {
    /// Makes the server a node of a cluster. Pass each request of [`Server::poll_store_request`] to the store of the
    /// cluster.
    pub fn join_cluster(&mut self, cluster: Cluster) {
        self.cluster = Some(Box::new(cluster));
    }

    /// The other nodes of the cluster stop, too: players have nowhere to go.
    pub fn end_cluster(&mut self) {
        self.is_cluster_ending = true;
    }

    /// Returns the node, if the server is one of a cluster.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// Returns the next request for the store of the cluster. Poll it after each `handle_*`.
    pub fn poll_store_request(&mut self, now: Instant) -> Option<Request> {
        if self.cluster.as_ref()?.wants_rooms() {
            let rooms = self.own_listed(now);
            self.cluster.as_mut()?.publish(rooms);
        }
        self.cluster.as_mut()?.poll_request(now)
    }

    /// The rooms that this server lists, for the other nodes.
    fn own_listed(&self, now: Instant) -> Vec<ListedRoom> {
        let unix_time = self.unix_time(now);
        let tick_us = u32::try_from(self.config.tick.as_micros()).unwrap_or(u32::MAX);
        let listed = self.by_name.values().filter_map(|&room| self.rooms.get(room)).filter(|it| self.is_listed(it));
        let room = |hosted: &HostedRoom<G>| {
            let RoomStatus { title, players, max_players, locked, .. } = self.status(hosted);
            let started = unix_time.saturating_sub(hosted.age(now, self.config.tick));
            let started_ms = u64::try_from(started.as_millis()).unwrap_or(u64::MAX);
            ListedRoom { name: hosted.name.clone(), title, players, max_players, locked, started_ms, tick_us }
        };
        listed.map(room).collect()
    }

    /// Returns the rooms that are listed on `/rooms`, by name: those of this server, and those of other nodes that
    /// [`Server::inquire`] has found.
    #[must_use]
    pub fn listing(&self, now: Instant) -> Vec<RoomStatus> {
        let mut rooms: Vec<RoomStatus> = self.rooms().filter(|room| room.listed).collect();
        let others = self.cluster.as_ref().map_or(&[][..], |cluster| cluster.listed_rooms(now));
        let unix_ms = u64::try_from(self.unix_time(now).as_millis()).unwrap_or(u64::MAX);
        // One that came here since is this server's, whether it is listed or not.
        rooms.extend(others.iter().filter(|room| !self.by_name.contains_key(&room.name)).map(|room| RoomStatus {
            name: room.name.to_string(),
            title: room.title.clone(),
            players: room.players,
            max_players: room.max_players,
            locked: room.locked,
            tick: tick_at(unix_ms, room),
            listed: true,
        }));
        rooms.sort_by(|one, other| one.name.cmp(&other.name));
        rooms
    }

    /// Asks the cluster, if the server is a node of one, unless it did a moment ago. Returns `false` if the answer is
    /// yet to come: [`Server::take_inquired`] tells of it.
    pub fn inquire(&mut self, now: Instant, about: About) -> bool {
        self.cluster.as_mut().is_none_or(|cluster| cluster.inquire(now, about))
    }

    /// Returns whether an answer to [`Server::inquire`] has come, or will not come, since the last call.
    pub fn take_inquired(&mut self) -> bool {
        std::mem::take(&mut self.has_inquired)
    }

    /// Handles the answer to a request, or its failure.
    pub fn handle_store_reply(&mut self, now: Instant, id: u64, reply: Option<Reply>) {
        self.turn(now, |server| {
            if let Some(cluster) = &mut server.cluster {
                cluster.handle_reply(now, id, reply);
            }
        });
    }

    /// Replaces [`NodeConfig::url`](crate::cluster::NodeConfig::url), if the server is a node.
    pub fn set_node_url(&mut self, now: Instant, url: String) {
        if let Some(cluster) = &mut self.cluster {
            cluster.handle_url(now, url);
        }
    }

    /// Tells how busy the caller's thread is: 1 if it never sleeps.
    pub fn handle_load(&mut self, load: f64) {
        let is_full = self.rooms.len() >= self.config.max_rooms;
        let players = self.sessions.len();
        if let Some(cluster) = &mut self.cluster {
            cluster.handle_load(if is_full { 1.0 } else { load }, players);
        }
    }

    /// Returns the last command for the store, by which the node leaves its cluster.
    #[must_use]
    pub fn leave_cluster(&self) -> Option<Command> {
        self.cluster.as_ref().map(|cluster| cluster.leave())
    }

    /// Returns whether another node vouches for the page of this origin with a pass: the value of [`PASS`] in the URL
    /// of a websocket.
    #[must_use]
    pub fn is_vouched(&self, now: Instant, origin: &str, pass: &str) -> bool {
        let unix_time = self.unix_time(now);
        self.cluster.as_ref().is_some_and(|cluster| cluster.is_vouched(unix_time, origin, pass))
    }

    /// Passes a request to join on to the hooks, once its room is known to be here.
    pub(super) fn place_join(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        asking: Asking,
        ticket: Option<&str>,
    ) -> Result<(), Fault> {
        if self.cluster.is_none() {
            return self.ask_hooks(now, key, asking);
        }
        self.take_ticket(now, &asking.room, "", ticket);
        let room = asking.room.clone();
        self.place(now, key, &room, Placing::Join(Box::new(asking)))
    }

    /// Lets a player wait in the pool, once it is known to be here.
    pub(super) fn place_seek(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        asked: seek::Asked,
        ticket: Option<&str>,
    ) -> Result<(), Fault> {
        if self.cluster.is_none() {
            return self.wait_here(now, key, asked);
        }
        self.take_ticket(now, &asked.pool, "", ticket);
        let pool = asked.pool.clone();
        self.place(now, key, &pool, Placing::Seek(Box::new(asked)))
    }

    /// Takes the ticket of a client that another node has sent. One that can't be used is counted, and the room is
    /// looked up.
    fn take_ticket(&mut self, now: Instant, room: &RoomName, session: &str, ticket: Option<&str>) {
        let unix_time = unix_time_at(self.unix_time, now);
        if let (Some(cluster), Some(ticket)) = (&mut self.cluster, ticket) {
            let _ = cluster.accept(now, unix_time, room, session, ticket);
        }
    }

    fn place(&mut self, now: Instant, key: ConnectionKey, room: &RoomName, placing: Placing) -> Result<(), Fault> {
        let Some(cluster) = &mut self.cluster else { return Ok(()) };
        if let Some(at) = cluster.locate(now, room) {
            return self.go_on(now, key, placing, at);
        }
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        connection.stage = Stage::Placing(placing);
        self.placing.entry(room.clone()).or_default().push(key);
        self.set_deadline(key, now + PLACING_TIMEOUT);
        Ok(())
    }

    /// Goes on with a request whose room is located.
    fn go_on(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        placing: Placing,
        at: Result<Location, Unlocated>,
    ) -> Result<(), Fault> {
        match (placing, at) {
            (Placing::Join(asking), Ok(Location::Here)) => self.recall(now, key, asking),
            (Placing::Join(asking), Ok(there)) => {
                self.redirect(now, key, &asking.room, "", &there);
                Ok(())
            }
            (Placing::Join(_), Err(why)) => Err(unlocated(why)),
            (Placing::Seek(asked), Ok(there @ Location::There { .. })) => {
                self.send_elsewhere(now, key, &asked.pool, "", &there);
                Ok(())
            }
            (Placing::Seek(asked), Ok(Location::Here) | Err(Unlocated::Unavailable)) => {
                self.wait_here(now, key, *asked)
            }
            (Placing::Seek(_), Err(why @ Unlocated::Full)) => self.refuse_room(now).and(Err(unlocated(why))),
            (Placing::Return(returning), at) => {
                let Returning { request, reply_to, found } = *returning;
                match (found, at) {
                    (Some(found), Ok(there @ Location::There { .. })) => {
                        self.redirect(now, key, &found.room, &request.socket_id, &there);
                    }
                    (Some(found), Ok(Location::Here)) => self.return_here(now, key, &reply_to, &request, &found),
                    _ => self.refuse_return(now, key, &reply_to, &super::resume::unknown_session()),
                }
                Ok(())
            }
        }
    }

    /// A player returns to a room of this node, which may have to be restored. If the session is not among those of the
    /// room, the client joins anew, as the same player.
    fn return_here(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        request: &ReconnectRequest,
        found: &StoredSession,
    ) {
        let has_saved = self.cluster.as_ref().is_some_and(|cluster| cluster.has_saved(&found.room));
        if has_saved && !self.by_name.contains_key(&found.room) {
            // Why it can't be made is said to those who join.
            let _ = self.make_room(now, found.room.clone(), &serde_json::Value::Null);
        }
        let session = self.by_socket_id.get(&request.socket_id).and_then(|&session| self.sessions.get_mut(session));
        if let Some(session) = session.filter(|session| session.is_yet_to_return())
            && let Some(tokens) = Tokens::restore(found.tokens)
        {
            // The room may have been saved before they were issued.
            session.tokens = tokens;
        }
        if let Err(fault) = self.resume(now, key, reply_to, request) {
            self.refuse_return(now, key, reply_to, &fault);
        }
    }

    /// Finds out who a player was that joins anew, then asks the hooks.
    fn recall(&mut self, now: Instant, key: ConnectionKey, asking: Box<Asking>) -> Result<(), Fault> {
        let former = asking.former.as_ref().map(|former| former.socket_id.clone());
        let (Some(cluster), Some(socket_id)) = (&mut self.cluster, former) else {
            return self.ask_hooks(now, key, *asking);
        };
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        connection.stage = Stage::Recalling(Placing::Join(asking));
        cluster.find_session(&socket_id);
        self.recalling.entry(socket_id).or_default().push(key);
        self.set_deadline(key, now + PLACING_TIMEOUT);
        Ok(())
    }

    /// Looks for the session of a player who returns and is not known here. Returns `false` if there is nowhere to
    /// look.
    pub(super) fn recall_return(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        reply_to: &ReplyTo,
        request: &ReconnectRequest,
    ) -> bool {
        let (Some(cluster), Some(connection)) = (&mut self.cluster, self.connections.get_mut(key)) else {
            return false;
        };
        cluster.find_session(&request.socket_id);
        let returning = Returning { request: request.clone(), reply_to: reply_to.clone(), found: None };
        connection.stage = Stage::Recalling(Placing::Return(Box::new(returning)));
        self.recalling.entry(request.socket_id.clone()).or_default().push(key);
        self.set_deadline(key, now + PLACING_TIMEOUT);
        true
    }

    /// Handles what the cluster has to tell.
    pub(super) fn handle_cluster(&mut self, now: Instant) {
        while let Some(event) = self.cluster.as_mut().and_then(|cluster| cluster.poll_event()) {
            match event {
                Event::Located(room, at) => {
                    for key in self.placing.remove(&room).unwrap_or_default() {
                        let placing = self.take_stage(key, |stage| match stage {
                            Stage::Placing(placing) => Ok(placing),
                            other => Err(other),
                        });
                        if let Some(placing) = placing {
                            self.resume_placing(now, key, placing, |server, placing| {
                                server.go_on(now, key, placing, at.clone())
                            });
                        }
                    }
                }
                Event::Session(socket_id, found) => {
                    for key in self.recalling.remove(&socket_id).unwrap_or_default() {
                        let recalled = self.take_stage(key, |stage| match stage {
                            Stage::Recalling(placing) => Ok(placing),
                            other => Err(other),
                        });
                        if let Some(placing) = recalled {
                            self.resume_placing(now, key, placing, |server, placing| {
                                server.take_recalled(now, key, placing, found.clone())
                            });
                        }
                    }
                }
                Event::Moved(room, at) => self.handle_moved(now, &room, at),
                Event::Lost(pool) if pool.is_pool() => self.move_pool(now, &pool),
                Event::Lost(room) => {
                    self.note_move(now, &room, None);
                    if let Some(&key) = self.by_name.get(&room) {
                        log::warn!("room {room}: another node has it now, and its players go there");
                        self.end_room(now, key, Leave::Moved, "The room is at another server.");
                    }
                }
                // The caller stops the server.
                Event::Displaced => {}
                Event::Inquired => self.has_inquired = true,
            }
        }
    }

    /// Takes the request of a connection out of its stage, if that is the expected one.
    pub(super) fn take_stage<T>(
        &mut self,
        key: ConnectionKey,
        take: impl FnOnce(Stage) -> Result<T, Stage>,
    ) -> Option<T> {
        let stage = &mut self.connections.get_mut(key)?.stage;
        match take(std::mem::replace(stage, Stage::Arrived)) {
            Ok(taken) => Some(taken),
            Err(other) => {
                *stage = other;
                None
            }
        }
    }

    fn resume_placing(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        placing: Placing,
        go_on: impl FnOnce(&mut Self, Placing) -> Result<(), Fault>,
    ) {
        self.set_deadline(key, now + crate::limits::JOIN_TIMEOUT);
        let shown = match &placing {
            Placing::Join(asking) => Some((asking.reply_to.clone(), Some(asking.room.clone()), asking.name.clone())),
            Placing::Seek(asked) => Some((asked.reply_to.clone(), None, String::new())),
            Placing::Return(_) => None,
        };
        if let Err(fault) = go_on(self, placing)
            && let Some((reply_to, room, name)) = shown
        {
            self.refuse_join(now, key, &reply_to, room.as_ref(), &name, &fault);
        }
    }

    fn take_recalled(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        placing: Placing,
        found: Option<StoredSession>,
    ) -> Result<(), Fault> {
        match placing {
            seek @ Placing::Seek(_) => self.go_on(now, key, seek, Err(Unlocated::Unavailable)),
            Placing::Join(mut asking) => {
                let user_id = asking.identity.as_ref().map(|identity| &identity.subject);
                let is_same = |former: &Former, found: &StoredSession| {
                    found.room == asking.room
                        && found.user_id.as_ref() == user_id
                        && tokens::accept(&found.tokens, &former.resume)
                };
                let keeps = asking.former.as_ref().zip(found.as_ref()).is_some_and(|(of, found)| is_same(of, found));
                if !keeps {
                    asking.former = None;
                }
                self.ask_hooks(now, key, *asking)
            }
            Placing::Return(mut returning) => {
                let resume = returning.request.resume.clone().unwrap_or_default();
                match found.filter(|found| tokens::accept(&found.tokens, &resume)) {
                    Some(found) => {
                        let room = found.room.clone();
                        let request = &returning.request;
                        self.take_ticket(now, &room, &request.socket_id, request.ticket.as_deref());
                        returning.found = Some(found);
                        self.place(now, key, &room, Placing::Return(returning))
                    }
                    None => self.go_on(now, key, Placing::Return(returning), Err(Unlocated::Unavailable)),
                }
            }
        }
    }

    /// Nothing was heard of the cluster in time.
    pub(super) fn give_up_placing(&mut self, now: Instant, key: ConnectionKey) {
        let placing = self.take_stage(key, |stage| match stage {
            Stage::Placing(placing) | Stage::Recalling(placing) => Ok(placing),
            other => Err(other),
        });
        if let Some(placing) = placing {
            self.resume_placing(now, key, placing, |server, placing| {
                server.go_on(now, key, placing, Err(Unlocated::Unavailable))
            });
        }
    }

    /// Sends a client to another node.
    fn redirect(&mut self, now: Instant, key: ConnectionKey, room: &RoomName, session: &str, to: &Location) {
        if let Location::There { owner, .. } = to {
            self.note_move(now, room, Some(&owner.node));
        }
        self.send_elsewhere(now, key, room, session, to);
    }

    pub(super) fn send_elsewhere(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        room: &RoomName,
        session: &str,
        to: &Location,
    ) {
        self.tell_redirect(now, key, room, session, to);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.stage = Stage::Gone;
        }
        self.close_connection(now, key, CLOSE_REDIRECTED, "The room is at another server.");
    }

    pub(super) fn tell_redirect(
        &mut self,
        now: Instant,
        key: ConnectionKey,
        room: &RoomName,
        session: &str,
        to: &Location,
    ) {
        let Location::There { owner, url, epoch } = to else { return };
        let unix_time = self.unix_time(now);
        let Some(cluster) = &mut self.cluster else { return };
        let ticket = cluster.sign(unix_time, room, session, owner, *epoch);
        let Some(connection) = self.connections.get(key) else { return };
        let header = |of: &str| connection.connect.headers.iter().find_map(|(name, it)| (name == of).then_some(it));
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let base = match base {
            "" => own_url(header("host"), header("origin"), header("x-forwarded-proto")),
            base => base.to_owned(),
        };
        let path = match &connection.connect.room {
            Some(room) => format!("/r/{room}"),
            None => "/api".to_owned(),
        };
        let pass = header("origin").map(|origin| format!("{PASS}={}", cluster.vouch(unix_time, origin)));
        let query: Vec<&str> =
            Some(query).filter(|query| !query.is_empty()).into_iter().chain(pass.as_deref()).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{base}{path}{mark}{}", query.join("&"));
        self.counters.redirected += 1;
        self.push_text(key, signaling::event(REDIRECT, &Redirect { url: &url, ticket: &ticket }).into());
    }

    /// Notes for operators that a room is elsewhere.
    pub(super) fn note_move(&mut self, now: Instant, room: &RoomName, to: Option<&Arc<str>>) {
        let unix_time = self.unix_time(now);
        if let Some(cluster) = &mut self.cluster {
            cluster.note_move(unix_time, room.clone(), to.cloned());
        }
    }

    /// Takes the lease of a room that is made. Returns its epoch and the snapshot of the room, in a cluster.
    pub(super) fn take_lease(&mut self, room: &RoomName) -> Result<Option<(u64, Option<Snapshot>)>, Fault> {
        let Some(cluster) = &mut self.cluster else { return Ok(None) };
        // It may have been lost while a hook decided.
        cluster.host(room).map(Some).ok_or_else(|| unlocated(Unlocated::Unavailable))
    }

    pub(super) fn give_up_lease(&mut self, room: &RoomName) {
        // A node that stops gives up all of them at once, and snapshots stay.
        if let Some(cluster) = self.cluster.as_mut().filter(|_| !self.stopping) {
            cluster.release(room);
        }
    }

    /// Keeps a session where other nodes find it.
    pub(super) fn save_session(&mut self, now: Instant, key: SessionKey) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(session) = self.sessions.get_mut(key).filter(|session| !session.is_call) else { return };
        let Some(hosted) = self.rooms.get(session.room) else { return };
        let Some(epoch) = cluster.epoch(&hosted.name) else { return };
        session.saved = now;
        let (room, user_id, tokens) = (hosted.name.clone(), session.info.user_id.clone(), session.tokens.hashes());
        let stored = StoredSession { room, user_id, tokens };
        cluster.save_session(SessionUpdate { socket_id: session.info.socket_id.clone(), epoch, session: Some(stored) });
    }

    /// Saves a session again before the store forgets it.
    pub(super) fn refresh_session(&mut self, now: Instant, key: SessionKey) {
        let is_due = |saved: Instant| saved + SESSION_INTERVAL <= now;
        if self.cluster.is_some() && self.sessions.get(key).is_some_and(|session| is_due(session.saved)) {
            self.save_session(now, key);
        }
    }

    /// Forgets a session that has ended, unless its player may come back at another node.
    pub(super) fn forget_session(&mut self, room: RoomKey, socket_id: &str, reason: Leave) {
        let (Some(cluster), Some(hosted)) = (&mut self.cluster, self.rooms.get(room)) else { return };
        if let Some(epoch) = cluster.epoch(&hosted.name).filter(|_| !matches!(reason, Leave::Moved | Leave::Shutdown)) {
            cluster.save_session(SessionUpdate { socket_id: socket_id.to_owned(), epoch, session: None });
        }
    }
}

/// Where a client has reached this node. A page that was loaded over TLS opens no other connections.
fn own_url(host: Option<&String>, origin: Option<&String>, forwarded_proto: Option<&String>) -> String {
    let is_https = |text: &String| text.starts_with("https");
    let scheme = if origin.is_some_and(is_https) || forwarded_proto.is_some_and(is_https) { "wss" } else { "ws" };
    format!("{scheme}://{}", host.map_or("", String::as_str))
}

/// The tick that a room of another node is in.
fn tick_at(unix_ms: u64, room: &ListedRoom) -> u32 {
    let age_us = unix_ms.saturating_sub(room.started_ms).saturating_mul(1_000);
    u32::try_from(age_us / u64::from(room.tick_us.max(1))).unwrap_or(u32::MAX)
}

fn unlocated(why: Unlocated) -> Fault {
    let (code, sentence) = match why {
        Unlocated::Unavailable => {
            (ErrorCode::Unavailable, "The servers can't agree about the room at the moment. Try again in some seconds.")
        }
        Unlocated::Full => (ErrorCode::RoomFull, "All servers are busy; try again later."),
    };
    let mut fault = Fault::new(code, sentence);
    fault.retry_after = (why == Unlocated::Unavailable).then_some(RETRY_AFTER);
    fault
}

#[cfg(test)]
pub(super) mod tests;
