//! Hooks of a program beside its game: deciding who may join, and observing players that join and leave.
//!
//! Games are deterministic and therefore have no access to addresses or HTTP headers. Hooks do, and may have any side
//! effect. What a hook attaches to a player reaches the game as [`Join::attached`] and is recorded with the join, so a
//! replay needs no hooks.
//!
//! [`Join::attached`]: crate::game::Join::attached

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::game::{Identity, PlayerId, Refusal};
use crate::limits;
use crate::wire::codes::{ErrorCode, Leave};
use crate::wire::signaling::Fault;

/// The hooks of a program, installed with [`Server::set_hooks`](crate::server::Server::set_hooks). The default methods
/// accept every player and do nothing.
///
/// Hooks are called on the thread that runs all rooms and must not block. Slow work, such as a database query, belongs
/// in another thread; return [`Decision::Later`] and decide from there.
///
/// A panic in a hook is caught, logged and counted; if it was [`Hooks::accept`], the player is refused.
///
/// ```no_run
/// # #[cfg(feature = "driver")]
/// # mod program {
/// use rtcade::game::{Leave, Refusal};
/// use rtcade::games::Arena;
/// use rtcade::hooks::{Arrival, Decision, Hooks, Visitor};
/// use serde_json::json;
///
/// struct Door;
///
/// impl Hooks for Door {
///     fn accept(&mut self, arrival: &Arrival) -> Decision {
///         match arrival.header("accept-language") {
///             // The game has it in `join.attached`.
///             Some(language) => Decision::Accept(json!({ "language": language })),
///             None => Decision::Refuse(Refusal::new("Play with a browser, please.")),
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
    /// Called when a player asks to join, after the bearer token (if the server requires one) has been verified. The
    /// room may not exist yet. The room or the game can still refuse the player afterwards.
    fn accept(&mut self, _arrival: &Arrival<'_>) -> Decision {
        Decision::Accept(Value::Null)
    }

    /// Called when a player has joined.
    fn joined(&mut self, _visitor: &Visitor<'_>) {}

    /// Called when a player's connection is lost. Either [`Hooks::resumed`] or [`Hooks::left`] follows.
    fn dropped(&mut self, _visitor: &Visitor<'_>) {}

    /// Called when a player whose connection was lost has reconnected.
    fn resumed(&mut self, _visitor: &Visitor<'_>) {}

    /// Called when a player who had joined has left.
    fn left(&mut self, _visitor: &Visitor<'_>, _reason: Leave) {}
}

/// No hooks: every player is accepted.
impl Hooks for () {}

/// The answer of [`Hooks::accept`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Decision {
    /// Accepts the player. The value reaches the game as [`Join::attached`](crate::game::Join::attached). Past
    /// [`limits::ATTACHED_BYTES`] as JSON, the player is refused with the code `internal` instead.
    Accept(Value),
    /// Refuses the player with the code `refused` and the refusal's sentence.
    Refuse(Refusal),
    /// Postpones the decision. Pass it with the [`Arrival::id`] to [`Server::handle_decision`], or from any thread to
    /// `driver::Handle::decide`, within [`limits::DECISION_TIMEOUT`]; after that the player is refused.
    ///
    /// [`Server::handle_decision`]: crate::server::Server::handle_decision
    Later,
}

/// Identifies one request to join. Never reused by a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArrivalId(pub(crate) u64);

impl fmt::Display for ArrivalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request to join, as [`Hooks::accept`] sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Arrival<'a> {
    /// Identifies the request for a decision that is made later.
    pub id: ArrivalId,
    /// The client's address.
    pub remote: SocketAddr,
    /// The headers of the HTTP request that opened the websocket, in order, as in [`Connect`](crate::server::Connect).
    pub headers: &'a [(String, String)],
    /// The name of the room.
    pub room: &'a str,
    /// The player's display name, see [`Join::name`](crate::game::Join::name).
    pub name: &'a str,
    /// The `data` that the page passed to `connect`. Not validated.
    pub data: &'a Value,
    /// The player's identity, if the server requires bearer tokens.
    pub identity: Option<&'a Identity>,
}

impl<'a> Arrival<'a> {
    /// Returns the value of the first header called `name`, which must be in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

/// A player who has joined a room.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Visitor<'a> {
    /// The name of the room.
    pub room: &'a str,
    /// The player's number in the room.
    pub player: PlayerId,
    /// The player's display name.
    pub name: &'a str,
    /// The `sub` claim of the player's token, if the server requires bearer tokens.
    pub user_id: Option<&'a str>,
    /// The value that [`Hooks::accept`] attached.
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

/// The hooks of a server; catches their panics.
pub(crate) struct Guarded {
    hooks: Box<dyn Hooks>,
    failed: u64,
}

impl Guarded {
    pub(crate) fn new(hooks: Box<dyn Hooks>) -> Guarded {
        Guarded { hooks, failed: 0 }
    }

    /// Calls that panicked, attached too much or decided too late.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Returns the value attached to an accepted player; `None` if the decision is postponed.
    pub(crate) fn accept(&mut self, arrival: &Arrival<'_>) -> Result<Option<Value>, Fault> {
        let decision = self.call("accept", |hooks| hooks.accept(arrival)).ok_or_else(undecided)?;
        self.take(decision)
    }

    /// Applies a decision, within [`limits::ATTACHED_BYTES`].
    pub(crate) fn take(&mut self, decision: Decision) -> Result<Option<Value>, Fault> {
        let attached = match decision {
            Decision::Accept(attached) => attached,
            Decision::Refuse(refusal) => return Err(Fault::new(ErrorCode::Refused, refusal.to_string())),
            Decision::Later => return Ok(None),
        };
        let bytes = attached.to_string().len();
        if bytes > limits::ATTACHED_BYTES {
            self.failed += 1;
            log::error!("the hook accept attached {bytes} bytes; the limit is {}", limits::ATTACHED_BYTES);
            return Err(undecided());
        }
        Ok(Some(attached))
    }

    /// Counts a decision that was not made in time.
    pub(crate) fn give_up(&mut self) -> Fault {
        self.failed += 1;
        log::error!("the hook accept made no decision within {:?}", limits::DECISION_TIMEOUT);
        undecided()
    }

    /// Calls a hook; returns `None` if it panics.
    pub(crate) fn call<T>(&mut self, name: &str, call: impl FnOnce(&mut dyn Hooks) -> T) -> Option<T> {
        let returned = catch_unwind(AssertUnwindSafe(|| call(&mut *self.hooks))).ok();
        if returned.is_none() {
            self.failed += 1;
            log::error!("the hook {name} panicked");
        }
        returned
    }
}

fn undecided() -> Fault {
    Fault::new(ErrorCode::Internal, "The server could not decide whether you may join. Try again later.")
}
