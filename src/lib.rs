//! x
pub mod endpoint;
pub mod game;
pub mod games;
pub mod limits;
pub mod room;
pub mod server;
pub mod wire;
