//! x
pub mod endpoint;
pub mod game;
pub mod limits;
pub mod room;
pub mod server;
pub mod wire;

#[cfg(feature = "driver")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "driver")]
pub mod driver;

#[cfg(feature = "driver")]
pub use cli::{ExitCode, run};
