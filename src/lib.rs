//! x
#[cfg(feature = "driver")]
#[doc(hidden)]
pub mod cli;
pub mod client;
#[cfg(feature = "driver")]
pub mod driver;
pub mod endpoint;
pub mod game;
pub mod games;
pub mod limits;
mod peer;
mod player;
mod rate;
pub mod room;
pub mod server;
pub mod wire;

#[cfg(feature = "driver")]
pub use cli::{ExitCode, run};
pub use rand;
