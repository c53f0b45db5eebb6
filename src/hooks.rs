//! What a program has to say about players beside its game: who is let in, and what of their coming and going it wants
//! to hear.
//!
//! A game is told nothing that would keep it from being replayed; hooks see addresses and HTTP headers, and may do
//! whatever the program likes. What they attach to a player reaches the game with [`Join::attached`] and is recorded
//! with the join, so that a replay says the same without them.
//!
//! [`Join::attached`]: crate::game::Join::attached

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::game::{Identity, PlayerId, Refusal};
use crate::limits;
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::signaling::Fault;

/// The hooks of a program, see [`Server::set_hooks`](crate::server::Server::set_hooks). Whatever isn't implemented
/// lets everybody in and does nothing.
///
/// They are called on the thread of all rooms, and have to return at once: what takes time belongs into a thread of
/// its own. What has to be known before a player may join can stand in their token ([`crate::auth`]).
///
/// One that panics is counted and logged; a player whom it was to accept is not let in.
///
/// ```no_run
/// # #[cfg(feature = "driver")]
/// # mod program {
/// use rtcade::game::{Leave, Refusal};
/// use rtcade::games::Arena;
/// use rtcade::hooks::{Arrival, Hooks, Visitor};
/// use serde_json::{Value, json};
///
/// struct Door;
///
/// impl Hooks for Door {
///     fn accept(&mut self, arrival: &Arrival) -> Result<Value, Refusal> {
///         match arrival.header("accept-language") {
///             Some(language) => Ok(json!({ "language": language })), // the game has it in `join.attached`
///             None => Err(Refusal::new("Play with a browser, please.")),
///         }
///     }
///
///     fn left(&mut self, visitor: &Visitor, reason: Leave) {
///         println!("{} has left {}: {reason}", visitor.name, visitor.room);
///     }
/// }
///
/// fn main() -> rtcade::ExitCode {
///     rtcade::run_with(|room| Ok(Arena::new(room)), |driver| driver.set_hooks(Door))
/// }
/// # }
/// # fn main() {}
/// ```
pub trait Hooks {
    /// Somebody asks to join; their token, where the server wants one, is good. What is returned reaches the game as
    /// [`Join::attached`](crate::game::Join::attached): at most 4 KiB as JSON, or else the player is not let in. The
    /// room may not exist yet, and it or its game may still refuse.
    ///
    /// # Errors
    /// The refusal reaches the player with code `refused` and its sentence.
    fn accept(&mut self, _arrival: &Arrival<'_>) -> Result<Value, Refusal> {
        Ok(Value::Null)
    }

    /// A player is in.
    fn joined(&mut self, _visitor: &Visitor<'_>) {}

    /// A player's connection was lost. Either [`Hooks::resumed`] follows or [`Hooks::left`].
    fn dropped(&mut self, _visitor: &Visitor<'_>) {}

    /// A player whose connection was lost is back.
    fn resumed(&mut self, _visitor: &Visitor<'_>) {}

    /// A player who had joined is gone.
    fn left(&mut self, _visitor: &Visitor<'_>, _reason: Leave) {}
}

/// No hooks.
impl Hooks for () {}

/// Somebody who asks to join.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Arrival<'a> {
    /// Where they come from.
    pub remote: SocketAddr,
    /// Of the HTTP request that opened their websocket, in its order, as [`Connect`](crate::server::Connect) has them.
    pub headers: &'a [(String, String)],
    /// The room.
    pub room: &'a str,
    /// The name to show, see [`Join::name`](crate::game::Join::name).
    pub name: &'a str,
    /// What the page gave for the game, untrusted.
    pub data: &'a Value,
    /// Who they are by their token, where the server asks for tokens.
    pub identity: Option<&'a Identity>,
}

impl<'a> Arrival<'a> {
    pub(crate) fn new(
        remote: SocketAddr,
        headers: &'a [(String, String)],
        room: &'a str,
        name: &'a str,
        data: &'a Value,
        identity: Option<&'a Identity>,
    ) -> Arrival<'a> {
        Arrival { remote, headers, room, name, data, identity }
    }

    /// The first header of that name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

/// A player of a room.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Visitor<'a> {
    /// The room.
    pub room: &'a str,
    /// Their number in it.
    pub player: PlayerId,
    /// The name that is shown.
    pub name: &'a str,
    /// The `sub` of their token, where the server asks for tokens.
    pub user_id: Option<&'a str>,
    /// What [`Hooks::accept`] attached.
    pub attached: &'a Value,
}

impl<'a> Visitor<'a> {
    pub(crate) fn new(
        room: &'a str,
        player: PlayerId,
        name: &'a str,
        user_id: Option<&'a str>,
        attached: &'a Value,
    ) -> Visitor<'a> {
        Visitor { room, player, name, user_id, attached }
    }
}

/// The hooks of a server, whose panics end here.
pub(crate) struct Guarded {
    hooks: Box<dyn Hooks>,
    failed: u64,
}

impl Guarded {
    pub(crate) fn new(hooks: Box<dyn Hooks>) -> Guarded {
        Guarded { hooks, failed: 0 }
    }

    /// How often one panicked, or attached too much.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    pub(crate) fn accept(&mut self, arrival: &Arrival<'_>) -> Result<Value, Fault> {
        let failed = || Fault::new(ErrorCode::Internal, "The server can't say whether you may join.");
        let accepted = self.call("accept", |hooks| hooks.accept(arrival)).ok_or_else(failed)?;
        let attached = accepted.map_err(|refusal| Fault::new(ErrorCode::Refused, refusal.to_string()))?;
        let bytes = attached.to_string().len();
        if bytes > limits::ATTACHED_BYTES {
            self.failed += 1;
            log::error!("the hook accept attached {bytes} bytes, the limit is {}", limits::ATTACHED_BYTES);
            return Err(failed());
        }
        Ok(attached)
    }

    /// Calls a hook; nothing where it panics.
    pub(crate) fn call<T>(&mut self, name: &str, call: impl FnOnce(&mut dyn Hooks) -> T) -> Option<T> {
        let returned = catch_unwind(AssertUnwindSafe(|| call(&mut *self.hooks))).ok();
        if returned.is_none() {
            self.failed += 1;
            log::error!("the hook {name} failed");
        }
        returned
    }
}
