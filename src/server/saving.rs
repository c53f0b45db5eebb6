//! Saved rooms: a room of a cluster goes on at another node, or after a restart, with its players.
//!
//! A room is saved at the end of a tick, with the sessions of its players as they are then: what has not been
//! acknowledged on either reliable lane, and the number of the last input. A player whose session is restored returns
//! as after any lost websocket, and everything arrives once.
//!
//! A server that drains moves its rooms: each stands still from the end of a tick until the store has given it to
//! another node, which takes a round trip, then its players are sent there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::rooms::Member;
use super::session::Session;
use super::tokens::Tokens;
use super::{RoomKey, Server, SessionKey, Timer};
use crate::cluster::store::Snapshot;
use crate::cluster::{Location, Unlocated};
use crate::game::{Encoded, Game, PlayerId, RoomInfo};
use crate::journal::{decode_json, encode_json};
use crate::limits::{SNAPSHOT_BYTES, SNAPSHOT_INTERVAL, SNAPSHOT_KEPT, is_tick_length};
use crate::player::{Frames, SavedFrames};
use crate::room::{self, Room};
use crate::wire::codes::Leave;
use crate::wire::signaling::{Codes, Device, RoomName, SessionInfo};

/// Increased with every change of snapshots: rooms are not restored from another format.
const FORMAT: u16 = 1;
/// After which time of a drain rooms are moved: nodes that were asked to stop at the same time have told the store.
const MOVE_AFTER: Duration = Duration::from_millis(250);
/// After which time a room that no other node takes is offered again.
const MOVE_INTERVAL: Duration = Duration::from_secs(1);
/// A player who has not come back yet has no address.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What becomes of a room in its cluster.
pub(super) struct Prospects {
    /// When it is saved next.
    next_save: Instant,
    /// When it may be moved.
    next_move: Instant,
    /// Whether it stands still because it is being moved.
    pub(super) is_moving: bool,
    /// Whether it goes on elsewhere after its end here, and its players stay in it.
    pub(super) goes_on: bool,
    /// Whether its game and its players know that the server is about to stop.
    pub(super) is_told: bool,
}

impl Prospects {
    pub(super) fn new(now: Instant) -> Prospects {
        Prospects {
            next_save: now + SNAPSHOT_INTERVAL,
            next_move: now,
            is_moving: false,
            goes_on: false,
            is_told: false,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct SavedRoom<'a> {
    format: u16,
    game: &'a str,
    game_version: u32,
    tick_ns: u64,
    seed: u64,
    /// [`RoomInfo::data`] as msgpack.
    data: Vec<u8>,
    tick: u32,
    /// Whether nothing was sent to players since.
    is_last: bool,
    room: Vec<u8>,
    sessions: Vec<SavedSession>,
    /// The different welcomes of the sessions.
    welcomes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct SavedSession {
    player: u32,
    socket_id: String,
    user_id: Option<String>,
    name: String,
    device: [Vec<u8>; 5],
    are_codes_numbers: bool,
    attached: Vec<u8>,
    frames: SavedFrames,
    welcome: usize,
    tokens: [Option<[u8; 32]>; 2],
}

/// A game that was restored in its room.
pub(super) struct Restored<G: Game> {
    pub(super) info: RoomInfo,
    pub(super) room: Room<G>,
    /// The number of the next tick.
    pub(super) next_tick: u32,
    /// What the recording of the room begins with.
    pub(super) input: room::Input,
    pub(super) players: SavedPlayers,
}

/// The sessions of a saved room.
pub(super) struct SavedPlayers {
    sessions: Vec<SavedSession>,
    welcomes: Vec<Encoded>,
    /// How long they may have been sent messages since they were saved.
    sent_for: Duration,
}

impl<G: Game> Server<G> {
    /// Saves or moves a room at the end of its tick, if that is due. Returns whether it stands still from now on.
    pub(super) fn save_or_move(&mut self, now: Instant, key: RoomKey) -> bool {
        if self.drained_for(now) >= Some(MOVE_INTERVAL) {
            self.tell_drain(now, key);
        }
        let may_move = self.drained_for(now) >= Some(MOVE_AFTER);
        let (Some(cluster), Some(hosted)) = (&self.cluster, self.rooms.get_mut(key)) else { return false };
        let prospects = &mut hosted.prospects;
        let moves = may_move && prospects.next_move <= now && cluster.can_move(&hosted.name);
        let saves = prospects.next_save <= now && cluster.takes_snapshots();
        if moves {
            prospects.next_move = now + MOVE_INTERVAL;
        }
        if saves {
            prospects.next_save = now + SNAPSHOT_INTERVAL;
        }
        // Players who have left have nothing to save.
        if !(moves || saves) || hosted.room.is_empty() {
            return false;
        }
        let Some(saved) = self.save_room(key, moves) else {
            if moves {
                self.tell_drain(now, key);
            }
            return false;
        };
        let (Some(cluster), Some(hosted)) = (&mut self.cluster, self.rooms.get_mut(key)) else { return false };
        if moves {
            hosted.prospects.is_moving = true;
            cluster.move_room(&hosted.name, saved);
        } else {
            cluster.save_snapshot(&hosted.name, saved);
        }
        moves
    }

    /// Saves all rooms before the server stops.
    pub(super) fn save_all(&mut self) {
        let rooms: Vec<RoomKey> = self.rooms.keys().collect();
        for key in rooms {
            let saved = self.save_room(key, true);
            if let (Some(saved), Some(cluster), Some(hosted)) = (saved, &mut self.cluster, self.rooms.get_mut(key)) {
                hosted.prospects.goes_on = true;
                cluster.save_snapshot(&hosted.name, saved);
            }
        }
    }

    /// `None` if the game can't be saved, or the room has too much to save.
    fn save_room(&self, key: RoomKey, is_last: bool) -> Option<Vec<u8>> {
        let hosted = self.rooms.get(key).filter(|hosted| !hosted.room.is_empty() && !hosted.prospects.is_moving)?;
        let supervised = self.supervision.as_ref().map(|supervision| (supervision, supervision.begin(&hosted.name)));
        let saved = catch_unwind(AssertUnwindSafe(|| hosted.room.save()));
        if let Some((supervision, begun)) = supervised {
            supervision.end(begun);
        }
        let room = saved
            .inspect_err(|_| log::error!("room {}: its game can't be saved: it failed", hosted.name))
            .ok()
            .flatten()?;
        let mut welcomes: Vec<&str> = Vec::new();
        let mut sessions = Vec::new();
        for member in hosted.members.values() {
            let &Member::Playing(key) = member else { continue };
            let Some(session) = self.sessions.get(key).filter(|session| !session.is_call) else { continue };
            let welcome = session.welcome.as_json();
            let at = welcomes.iter().position(|known| *known == welcome).unwrap_or_else(|| {
                welcomes.push(welcome);
                welcomes.len() - 1
            });
            sessions.push(SavedSession {
                player: session.player.0,
                socket_id: session.info.socket_id.clone(),
                user_id: session.info.user_id.clone(),
                name: session.info.name.clone(),
                device: session.device.values().map(encode_json),
                are_codes_numbers: matches!(session.codes, Codes::Numbers),
                attached: encode_json(&session.attached),
                frames: session.frames.save(),
                welcome: at,
                tokens: session.tokens.hashes(),
            });
        }
        let saved = SavedRoom {
            format: FORMAT,
            game: std::any::type_name::<G>(),
            game_version: G::VERSION,
            tick_ns: u64::try_from(self.config.tick.as_nanos()).ok()?,
            seed: hosted.info.seed,
            data: encode_json(&hosted.info.data),
            tick: hosted.last_tick,
            is_last,
            room,
            sessions,
            welcomes: welcomes.into_iter().map(str::to_owned).collect(),
        };
        let bytes = postcard::to_extend(&saved, Vec::new()).ok()?;
        if bytes.len() > SNAPSHOT_BYTES {
            log::warn!("room {} has {} bytes to save, more than {SNAPSHOT_BYTES}", hosted.name, bytes.len());
            return None;
        }
        Some(bytes)
    }

    /// Makes the game of a room again. `None` if it can't be: then the room begins anew.
    pub(super) fn restore(&mut self, name: &RoomName, snapshot: &Snapshot) -> Option<Restored<G>> {
        let failed = |why: &str| log::warn!("room {name} begins anew, because its snapshot {why}");
        let age = Duration::from_millis(snapshot.age_ms).min(SNAPSHOT_KEPT);
        let saved: Result<SavedRoom<'_>, _> = postcard::from_bytes(&snapshot.bytes);
        let Ok(saved) = saved.map_err(|_| failed("can't be read")) else { return None };
        let tick = Duration::from_nanos(saved.tick_ns);
        let is_of_this = saved.format == FORMAT
            && (saved.game, saved.game_version) == (std::any::type_name::<G>(), G::VERSION)
            && tick == self.config.tick
            && is_tick_length(tick);
        if !is_of_this {
            failed("is of another game, or another version of it");
            return None;
        }
        let mut info = RoomInfo::new(name.as_str(), saved.seed);
        info.tick = tick;
        info.data = decode_json(&saved.data).ok()?;
        let Ok(game) = self.make_game(name, &info) else { return None };
        let mut room = Room::new(&info, game, self.config.max_players);
        let input = room::Input::Restore { saved: saved.room };
        room.handle_input(input.clone());
        if room.game().is_none() {
            failed("can't be restored");
            return None;
        }
        let welcomes: Option<Vec<Encoded>> = saved.welcomes.iter().map(|json| Encoded::from_json(json)).collect();
        let passed = u32::try_from(age.as_nanos().div_ceil(tick.as_nanos())).unwrap_or(u32::MAX);
        let next_tick = saved.tick.saturating_add(passed).saturating_add(1);
        let sent_for = if saved.is_last { Duration::ZERO } else { age };
        let players = SavedPlayers { sessions: saved.sessions, welcomes: welcomes?, sent_for };
        Some(Restored { info, room, next_tick, input, players })
    }

    /// Makes the sessions of a room that was restored. Those of other players of the room end.
    pub(super) fn restore_players(&mut self, now: Instant, room: RoomKey, players: SavedPlayers) {
        let SavedPlayers { sessions, welcomes, sent_for } = players;
        for saved in sessions {
            if let Some(session) = self.restored_session(now, room, saved, &welcomes, sent_for) {
                let until = now + self.config.grace;
                let key = self.sessions.insert(session);
                let Some(session) = self.sessions.get_mut(key) else { continue };
                session.away = Some((until, Leave::Timeout));
                let (player, socket_id) = (session.player, session.info.socket_id.clone());
                self.timers.insert((until, Timer::Session(key)));
                self.by_socket_id.insert(socket_id, key);
                self.endpoint.note_player(NOWHERE.ip());
                if let Some(hosted) = self.rooms.get_mut(room) {
                    hosted.members.insert(player, Member::Playing(key));
                }
                self.tell_hooks(key, "joined", |hooks, visitor| hooks.joined(visitor));
            }
        }
        let Some(hosted) = self.rooms.get_mut(room) else { return };
        let is_lost = |player: &PlayerId| !hosted.members.contains_key(player);
        let lost: Vec<PlayerId> = hosted.room.players().map(|player| player.id).filter(is_lost).collect();
        for player in lost {
            hosted.handle_input(room::Input::Leave { player, reason: Leave::Closed });
        }
    }

    fn restored_session(
        &self,
        now: Instant,
        room: RoomKey,
        saved: SavedSession,
        welcomes: &[Encoded],
        sent_for: Duration,
    ) -> Option<Session> {
        let hosted = self.rooms.get(room)?;
        let player = PlayerId(saved.player);
        let is_known = hosted.room.players().any(|known| known.id == player) && !hosted.members.contains_key(&player);
        if !is_known || self.by_socket_id.contains_key(&saved.socket_id) {
            return None;
        }
        let [a, b, c, d, e] = saved.device.map(|json| decode_json(&json).unwrap_or_default());
        let SavedSession { socket_id, user_id, name, .. } = saved;
        let info = SessionInfo { player: saved.player, socket_id, user_id, name };
        Some(Session {
            device: Device::from_values([a, b, c, d, e]),
            codes: if saved.are_codes_numbers { Codes::Numbers } else { Codes::Names },
            attached: decode_json(&saved.attached).ok()?,
            frames: Frames::restore(now, saved.frames, sent_for),
            ..Session::new(
                now,
                (room, player),
                NOWHERE,
                info,
                welcomes.get(saved.welcome)?.clone(),
                Tokens::restore(saved.tokens)?,
            )
        })
    }

    /// A room that stood still is at another node now, or goes on here.
    pub(super) fn handle_moved(&mut self, now: Instant, name: &RoomName, at: Result<Location, Unlocated>) {
        let Some(&key) = self.by_name.get(name) else { return };
        let Some(hosted) = self.rooms.get_mut(key).filter(|hosted| hosted.prospects.is_moving) else { return };
        let Ok(at) = at else {
            hosted.prospects.is_moving = false;
            self.schedule(now, key);
            self.tell_drain(now, key);
            return;
        };
        if let Location::There { owner, .. } = &at {
            log::info!("room {name} has moved to node {}, with {} players", owner.node, hosted.members.len());
        }
        hosted.prospects.goes_on = true;
        // From here on it is recorded there.
        hosted.recorder = None;
        let members: Vec<Member> = hosted.members.values().copied().collect();
        if let Location::There { owner, .. } = &at {
            self.note_move(now, name, Some(&owner.node));
        }
        for member in members {
            match member {
                Member::Joining(connection) => {
                    self.take_joining(connection);
                    self.send_elsewhere(now, connection, name, "", &at);
                }
                Member::Playing(session) => self.send_on(now, session, name, &at),
            }
        }
        self.remove_room(key);
    }

    /// Sends a player after a room that has moved.
    fn send_on(&mut self, now: Instant, key: SessionKey, room: &RoomName, at: &Location) {
        let Some(session) = self.sessions.get(key) else { return };
        let socket_id = session.info.socket_id.clone();
        if let Some(connection) = session.connection {
            self.tell_redirect(now, connection, room, &socket_id, at);
        }
        self.end_session(now, key, Leave::Moved, "The room is at another server.");
    }
}

impl Session {
    /// Whether it was restored, and its player has not come back.
    pub(super) fn is_yet_to_return(&self) -> bool {
        self.remote == NOWHERE
    }
}

#[cfg(test)]
mod tests;
