//! How other threads and signals control the loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use mio::Waker;
use signal_hook::consts::{SIGHUP, SIGTERM};

use super::door::{Message, Outside};
use crate::hooks::{ArrivalId, Decision};
use crate::server::{ExternalError, RoomStatus};
use crate::wire::signaling::RoomName;

/// Controls a running [`Driver`] from other threads.
///
/// [`Driver`]: super::Driver
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) outside: Outside,
    pub(super) waker: Arc<Waker>,
    pub(super) requests: Arc<Requests>,
}

/// What other threads and signals ask of the loop.
#[derive(Debug)]
pub(super) struct Requests {
    /// How often it was asked to stop.
    pub(super) stop: AtomicU32,
    pub(super) drain: AtomicBool,
    /// Whether SIGTERM has come.
    pub(super) is_terminated: AtomicBool,
    /// How many milliseconds its rooms have when it drains; `u64::MAX` for as many as by default.
    pub(super) drain_ms: AtomicU64,
    pub(super) reload: AtomicBool,
}

impl Default for Requests {
    fn default() -> Requests {
        Requests {
            stop: AtomicU32::new(0),
            drain: AtomicBool::new(false),
            is_terminated: AtomicBool::new(false),
            drain_ms: AtomicU64::new(u64::MAX),
            reload: AtomicBool::new(false),
        }
    }
}

impl Requests {
    /// Handles a signal. If the process has a parent, that may have the same one, and decides what comes of several. A
    /// terminal sends SIGINT to both: then it is the parent's alone, so that each node learns that all stop.
    pub(super) fn handle_signal(&self, signal: i32, has_parent: bool) {
        match signal {
            SIGHUP => self.reload.store(true, Ordering::Release),
            SIGTERM if !self.is_terminated.swap(true, Ordering::AcqRel) => self.drain.store(true, Ordering::Release),
            _ if has_parent => {}
            _ => _ = self.stop.fetch_add(1, Ordering::AcqRel),
        }
    }
}

impl Handle {
    /// Stops the server: players are notified, then [`Driver::run`] returns, within about two seconds, or at once when
    /// called again. A stalled disk may add ten seconds while rooms are recorded, a broker that is away five while
    /// events wait for it, and a sidecar of Agones that doesn't answer three.
    ///
    /// [`Driver::run`]: super::Driver::run
    pub fn shutdown(&self) {
        self.requests.stop.fetch_add(1, Ordering::Release);
        self.wake();
    }

    /// Stops the server once its rooms have ended, or after [`Options::drain`]: until then no room is listed or made,
    /// games ([`Game::drain`]) and players are told, and players who are in a room may come back to it.
    ///
    /// [`Options::drain`]: super::Options::drain
    /// [`Game::drain`]: crate::game::Game::drain
    pub fn drain(&self) {
        self.requests.drain.store(true, Ordering::Release);
        self.wake();
    }

    /// As [`Handle::drain`], but not for longer than [`Options::drain`], as an operator may have asked for.
    ///
    /// [`Options::drain`]: super::Options::drain
    #[cfg(all(feature = "cluster", target_os = "linux"))]
    pub(super) fn terminate(&self) {
        self.requests.is_terminated.store(true, Ordering::Release);
        self.drain();
    }

    /// As if [`Handle::shutdown`] had been called this often.
    #[cfg(all(feature = "cluster", target_os = "linux"))]
    pub(super) fn shutdown_at_least(&self, times: u32) {
        self.requests.stop.fetch_max(times, Ordering::Release);
        self.wake();
    }

    /// Whether it was asked to stop, or to drain.
    pub(super) fn is_stopping(&self) -> bool {
        self.requests.drain.load(Ordering::Acquire) || self.requests.stop.load(Ordering::Acquire) > 0
    }

    /// As [`Handle::drain`], but for this time instead of [`Options::drain`].
    ///
    /// [`Options::drain`]: super::Options::drain
    pub(super) fn drain_within(&self, time: Duration) {
        self.requests.drain_ms.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
        self.drain();
    }

    /// Reads the configuration again, see [`Driver::set_reload`], and the files of [`Options::tls`], for connections
    /// from then on. What can't be used stays as it was, and a line in the log says why. Does not block.
    ///
    /// [`Driver::set_reload`]: super::Driver::set_reload
    /// [`Options::tls`]: super::Options::tls
    pub fn reload(&self) {
        self.requests.reload.store(true, Ordering::Release);
        self.wake();
    }

    /// Sends an external message to the game of a room, which receives it in the room's next tick ([`Game::external`]).
    /// Does not block. Messages of one thread to one room stay in order.
    ///
    /// A message to a room that does not exist is dropped and counted (`rtcade_externals_lost_total`).
    ///
    /// # Errors
    /// The message is too large, or the name is not a valid room name. [`ExternalError::Full`] if the rooms cannot keep
    /// up; try again after a tick. [`ExternalError::Stopped`] if the driver has stopped.
    ///
    /// [`Game::external`]: crate::game::Game::external
    pub fn external(&self, room: &str, bytes: impl Into<Vec<u8>>) -> Result<(), ExternalError> {
        let room = RoomName::parse(room).ok_or(ExternalError::NoSuchRoom)?;
        self.send(Message::External { room, bytes: bytes.into() })
    }

    /// Makes a decision that a hook postponed ([`Decision::Later`]). Ignored if the player is gone or was decided on
    /// before. Does not block.
    ///
    /// # Errors
    /// As for [`Handle::external`]. If the queue is full, try again.
    pub fn decide(&self, arrival: ArrivalId, decision: Decision) -> Result<(), ExternalError> {
        self.send(Message::Decision { arrival, decision })
    }

    /// Closes a room if it exists: `sentence` is shown to its players, [`Game::leave`] is called for each in a last
    /// tick, and a later join creates a new room. Does not block.
    ///
    /// # Errors
    /// As for [`Handle::external`].
    ///
    /// [`Game::leave`]: crate::game::Game::leave
    pub fn close_room(&self, room: &str, sentence: impl Into<String>) -> Result<(), ExternalError> {
        let room = RoomName::parse(room).ok_or(ExternalError::NoSuchRoom)?;
        self.send(Message::CloseRoom { room, sentence: sentence.into() })
    }

    /// Requests the list of rooms, ordered by name. The receiver gets it after the next turn of the loop, or an error
    /// if the driver stops before. Do not wait for it on the thread of the loop, that is in a game or a hook: this
    /// would block forever.
    ///
    /// # Errors
    /// As for [`Handle::external`].
    pub fn rooms(&self) -> Result<Receiver<Vec<RoomStatus>>, ExternalError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.send(Message::Rooms(sender))?;
        Ok(receiver)
    }

    /// Replaces [`Options::public_addresses`], for later joins. Does not block.
    ///
    /// # Errors
    /// As for [`Handle::external`].
    ///
    /// [`Options::public_addresses`]: super::Options::public_addresses
    pub fn set_public_addresses(&self, addresses: Vec<SocketAddr>) -> Result<(), ExternalError> {
        self.send(Message::PublicAddresses(addresses))
    }

    /// Replaces [`Node::url`](super::Node::url), for later redirects. Does not block.
    #[cfg(feature = "cluster")]
    pub(super) fn set_node_url(&self, url: String) -> Result<(), ExternalError> {
        self.send(Message::NodeUrl(url))
    }

    fn send(&self, message: Message) -> Result<(), ExternalError> {
        self.outside.send(message)?;
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        // It fails only if the driver has stopped.
        let _ = self.waker.wake();
    }
}
