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
use super::tokens;
use super::{ConnectionKey, RoomKey, RoomStatus, Server, SessionKey, unix_time_at};
use crate::cluster::store::{Command, ListedRoom, Reply, SessionUpdate, StoredSession};
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

#[derive(Serialize)]
struct Redirect<'a> {
    url: &'a str,
    ticket: &'a str,
}

/// A request to return that waits for the store.
pub(super) struct Returning {
    socket_id: String,
    resume: String,
    reply_to: ReplyTo,
    /// The room of the session, once that is found.
    room: Option<RoomName>,
}

/// A request that waits until its room is located.
pub(super) enum Placing {
    Join(Box<Asking>),
    Return(Box<Returning>),
}

impl<G: Game> Server<G> {
    /// Makes the server a node of a cluster. Pass each request of [`Server::poll_store_request`] to the store of the
    /// cluster.
    pub fn join_cluster(&mut self, cluster: Cluster) {
        self.cluster = Some(Box::new(cluster));
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
            let started = unix_time.saturating_sub(now.saturating_duration_since(hosted.start));
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
        let Some(cluster) = &mut self.cluster else { return self.ask_hooks(now, key, asking) };
        if let Some(ticket) = ticket {
            let unix_time = unix_time_at(self.unix_time, now);
            // One that can't be used is counted, and the room is looked up.
            let _ = cluster.accept(now, unix_time, &asking.room, "", ticket);
        }
        let room = asking.room.clone();
        self.place(now, key, &room, Placing::Join(Box::new(asking)))
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
                self.redirect(now, key, &asking.room, "", there);
                Ok(())
            }
            (Placing::Join(_), Err(why)) => Err(unlocated(why)),
            (Placing::Return(returning), at) => {
                let Returning { socket_id, reply_to, room, .. } = *returning;
                match (room, at) {
                    (Some(room), Ok(there @ Location::There { .. })) => {
                        self.redirect(now, key, &room, &socket_id, there);
                    }
                    // It was a session of a node that has the room no more: the client joins anew, as the same player.
                    _ => self.refuse_return(now, key, &reply_to, &super::resume::unknown_session()),
                }
                Ok(())
            }
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
        let (socket_id, resume) = (request.socket_id.clone(), request.resume.clone().unwrap_or_default());
        let returning = Returning { socket_id, resume, reply_to: reply_to.clone(), room: None };
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
                Event::Lost(room) => {
                    let unix_time = self.unix_time(now);
                    if let Some(cluster) = &mut self.cluster {
                        cluster.note_move(unix_time, room.clone(), None);
                    }
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
    fn take_stage<T>(&mut self, key: ConnectionKey, take: impl FnOnce(Stage) -> Result<T, Stage>) -> Option<T> {
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
            Placing::Join(asking) => Some((asking.reply_to.clone(), asking.room.clone(), asking.name.clone())),
            Placing::Return(_) => None,
        };
        if let Err(fault) = go_on(self, placing)
            && let Some((reply_to, room, name)) = shown
        {
            self.refuse_join(now, key, &reply_to, Some(&room), &name, &fault);
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
                match found.filter(|found| tokens::accept(&found.tokens, &returning.resume)) {
                    Some(StoredSession { room, .. }) => {
                        returning.room = Some(room.clone());
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
    fn redirect(&mut self, now: Instant, key: ConnectionKey, room: &RoomName, session: &str, to: Location) {
        let Location::There { owner, url, epoch } = to else { return };
        let unix_time = self.unix_time(now);
        let Some(cluster) = &mut self.cluster else { return };
        let ticket = cluster.sign(unix_time, room, session, &owner, epoch);
        cluster.note_move(unix_time, room.clone(), Some(Arc::clone(&owner.node)));
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut url = match &connection.connect.room {
            Some(room) => format!("{url}/r/{room}"),
            None => format!("{url}/api"),
        };
        if let Some((_, origin)) = connection.connect.headers.iter().find(|(name, _)| name == "origin") {
            url = format!("{url}?{PASS}={}", cluster.vouch(unix_time, origin));
        }
        connection.stage = Stage::Gone;
        self.counters.redirected += 1;
        self.push_text(key, signaling::event(REDIRECT, &Redirect { url: &url, ticket: &ticket }).into());
        self.close_connection(now, key, CLOSE_REDIRECTED, "The room is at another server.");
    }

    /// Takes the lease of a room that is made. Returns its epoch, in a cluster.
    pub(super) fn take_lease(&mut self, room: &RoomName) -> Result<Option<u64>, Fault> {
        let Some(cluster) = &mut self.cluster else { return Ok(None) };
        // It may have been lost while a hook decided.
        cluster.host(room).map(Some).ok_or_else(|| unlocated(Unlocated::Unavailable))
    }

    pub(super) fn give_up_lease(&mut self, room: &RoomName) {
        if let Some(cluster) = &mut self.cluster {
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
mod tests;
