//! x
pub mod endpoint;
pub mod game;
pub mod limits;
mod peer;
pub mod room;
pub mod server;
pub mod wire;
