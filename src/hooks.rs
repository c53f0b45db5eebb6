//! What a program has to say about players beside its game: who is let in, and what of their coming and going it wants
//! to hear.
//!
//! A game is told nothing that would keep it from being replayed; hooks see addresses and HTTP headers, and may do
//! whatever the program likes. What they attach to a player reaches the game with [`Join::attached`] and is recorded
//! with the join, so that a replay says the same without them.
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

/// The hooks of a program, see [`Server::set_hooks`](crate::server::Server::set_hooks). Whatever isn't implemented
/// lets everybody in and does nothing.
///
/// They are called on the thread of all rooms, and have to return at once: what takes time belongs into a thread of
/// its own, which may decide later ([`Decision::Later`]).
///
/// One that panics is counted and logged; a player whom it was to accept is not let in.
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
    /// Somebody asks to join; their token, where the server wants one, is good. The room may not exist yet, and it or
    /// its game may still refuse.
    fn accept(&mut self, _arrival: &Arrival<'_>) -> Decision {
        Decision::Accept(Value::Null)
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

/// Whether somebody may join.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Decision {
    /// They may. The value reaches the game as [`Join::attached`](crate::game::Join::attached): at most
    /// [`limits::ATTACHED_BYTES`] as JSON, or else they are not let in.
    Accept(Value),
    /// They may not. The refusal reaches them with code `refused` and its sentence.
    Refuse(Refusal),
    /// It is told later, by the name of the arrival: to [`Server::handle_decision`], or from any thread to
    /// `driver::Handle::decide`. They wait for [`limits::DECISION_TIMEOUT`], and are refused then.
    ///
    /// [`Server::handle_decision`]: crate::server::Server::handle_decision
    Later,
}

/// Names somebody who asks to join, and nobody else ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArrivalId(pub(crate) u64);

impl fmt::Display for ArrivalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Somebody who asks to join.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Arrival<'a> {
    /// Their name for a decision that comes later.
    pub id: ArrivalId,
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

    /// How often one panicked, attached too much, or decided too late.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// What is attached to a player who may join; `None` where that is decided later.
    pub(crate) fn accept(&mut self, arrival: &Arrival<'_>) -> Result<Option<Value>, Fault> {
        let decision = self.call("accept", |hooks| hooks.accept(arrival)).ok_or_else(undecided)?;
        self.take(decision)
    }

    /// Takes a decision within its limit.
    pub(crate) fn take(&mut self, decision: Decision) -> Result<Option<Value>, Fault> {
        let attached = match decision {
            Decision::Accept(attached) => attached,
            Decision::Refuse(refusal) => return Err(Fault::new(ErrorCode::Refused, refusal.to_string())),
            Decision::Later => return Ok(None),
        };
        let bytes = attached.to_string().len();
        if bytes > limits::ATTACHED_BYTES {
            self.failed += 1;
            log::error!("the hook accept attached {bytes} bytes, the limit is {}", limits::ATTACHED_BYTES);
            return Err(undecided());
        }
        Ok(Some(attached))
    }

    /// Counts a decision that did not come in time.
    pub(crate) fn give_up(&mut self) -> Fault {
        self.failed += 1;
        log::error!("the hook accept decided nothing within {:?}", limits::DECISION_TIMEOUT);
        undecided()
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

fn undecided() -> Fault {
    Fault::new(ErrorCode::Internal, "The server can't say whether you may join.")
}
